//! A long pipeline is cut before headers of tasks, and its pieces are parsed on all cores.
//!
//! Nothing is decided here: pieces that are not plainly parts of one whole are not put together, and a text in which
//! anything is wrong is parsed at once, which says what. A cut that falls into a text or list of several lines
//! leaves a piece that does not end, which is a fault.

use std::ops::Range;

use rayon::prelude::*;

use super::place::{Kind, Node};
use super::toml_text::{LARGEST_FILE, parse_piece};

/// Texts shorter than this, in bytes, are parsed sooner than threads are started.
const LONG: usize = 128 << 10;
/// About how long a piece is, in bytes: short enough that the last ones end together.
const PIECE: usize = 32 << 10;
/// What a piece begins with.
const HEADER: &str = "\n[task.";

/// The tree of a long text, if it has no fault and falls into pieces.
pub(super) fn tree(text: &str, source: u32) -> Option<Node> {
    if !(LONG..=LARGEST_FILE as usize).contains(&text.len()) {
        return None;
    }
    let pieces = cut(text)?;
    let parse = |piece: &Range<usize>| {
        let is_plain = piece.start == 0 || !has_header_of_tasks(&text[piece.clone()]);
        is_plain.then(|| parse_piece(&text[piece.clone()], source, piece.start)).flatten()
    };
    let trees: Option<Vec<Node>> = pieces.par_iter().map(parse).collect();
    joined(trees?)
}

/// A piece up to the first task, then some of about the same length, each from a task's header on.
fn cut(text: &str) -> Option<Vec<Range<usize>>> {
    let mut pieces = Vec::with_capacity(text.len() / PIECE + 2);
    let (mut start, mut from) = (0, 0);
    while let Some(header) = header_from(text, from) {
        pieces.push(start..header);
        start = header;
        from = text.len().min(header + PIECE);
    }
    pieces.push(start..text.len());
    (pieces.len() > 2).then_some(pieces)
}

/// Where the next header of a task stands; one of a table within a task (`[task.a.env]`) is none.
fn header_from(text: &str, from: usize) -> Option<usize> {
    let from = (from..text.len()).find(|&at| text.is_char_boundary(at))?;
    let mut headers = text[from..].match_indices(HEADER).map(|(at, _)| from + at + HEADER.len());
    let header = headers.find(|&at| {
        let name = text[at..].split([']', '\n']).next();
        name.is_some_and(|name| !name.contains('.'))
    })?;
    Some(header - HEADER.len() + 1)
}

/// Whether a piece may say `[task]`: that is allowed once in a file.
fn has_header_of_tasks(piece: &str) -> bool {
    let named = |line: &str| {
        let name = line.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
        name.is_some_and(|name| name.contains('\\') || name.trim().trim_matches(['"', '\'']) == "task")
    };
    piece.lines().any(named)
}

/// The pieces' tables in one; none if a name is in two of them.
fn joined(trees: Vec<Node>) -> Option<Node> {
    let mut trees = trees.into_iter();
    let mut root = trees.next()?;
    let all = root.table_mut()?;
    // Given before the first header it is written in another way, which may forbid headers.
    if all.contains_key("task") {
        return None;
    }
    let tasks_of = |tree: &Node| tree.get("task").and_then(Node::table).map_or(0, indexmap::IndexMap::len);
    let mut count = trees.as_slice().iter().map(tasks_of).sum();
    for tree in trees {
        let Kind::Table(entries) = tree.kind else { return None };
        for (key, entry) in entries {
            let known = if key == "task" { all.get_mut("task") } else { None };
            let Some(known) = known else {
                if all.insert(key, entry).is_some() {
                    return None;
                }
                continue;
            };
            let (Kind::Table(tasks), Kind::Table(more)) = (&mut known.value.kind, entry.value.kind) else {
                return None;
            };
            tasks.reserve(std::mem::take(&mut count));
            for (name, task) in more {
                if tasks.insert(name, task).is_some() {
                    return None;
                }
            }
        }
    }
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::super::toml_text::parse_at_once;
    use super::*;

    /// A long pipeline with something before its tasks, and among them.
    fn long(before: &str, among: &str) -> String {
        let mut text = format!(
            "# A long one \u{e9}\n[pipeline]\nname = \"x\"\n\n[models.m]\napi = \"simulated\"\n{before}"
        );
        for n in 0..4000 {
            text += &format!(
                "\n[task.t{n}]\ninputs = {{ a = \"in/{n}.txt\" }}\noutputs = [\"out/{n}.txt\"]\ncommand = [\"cp\", \"$in\", \"$out\"]\n\n[task.t{n}.env]\nA = \"\u{fc}\"\n"
            );
            if n == 2000 {
                text += among;
            }
        }
        text
    }

    #[test]
    fn a_text_in_pieces_is_what_it_is_at_once() {
        for among in [
            "",
            "\n[timeouts]\nt1 = 3\n",
            "\n[task.s]\ncommand = \"\"\"\nx\n\n  [task.y]\n\"\"\"\n",
            "\n[vars]\nl = [\n  [\"a\"],\n]\n",
        ] {
            let text = long("", among);
            let whole = parse_at_once(&text, 3).expect("a text without fault");
            let pieces = tree(&text, 3).expect("a text that can be cut");
            assert_eq!(format!("{pieces:?}"), format!("{whole:?}"), "{among}");
        }
    }

    #[test]
    fn what_is_wrong_or_not_plain_is_not_put_together_from_pieces() {
        for (before, among) in [
            ("", "\n[task.t1]\n"),
            ("", "\n[task.t1.env]\nB = \"\"\n"),
            ("", "\n[models.n]\napi = \"simulated\"\n"),
            ("", "\n[pipeline]\nname = \"y\"\n"),
            ("", "\n[ 'task' ]\n"),
            ("", "\n[[task]]\n"),
            ("", "\n[\"t\\u0061sk\"]\n"),
            ("", "\nname = \n"),
            ("", "\ntext = \"\"\"\n"),
            ("", "\nnul = \"\0\"\n"),
            ("\n[task]\n", ""),
            ("\n[vars]\nlist = [\n", ""),
        ] {
            assert!(tree(&long(before, among), 0).is_none(), "{before}{among}");
        }
        let deep = format!("\n[vars]\nlist = {}{}\n", "[".repeat(40), "]".repeat(40));
        assert!(tree(&long("", &deep), 0).is_none());
        assert!(tree("[task.a]\n\n[task.b]\n", 0).is_none());
        assert!(tree(&"# nothing but a comment\n".repeat(10_000), 0).is_none());
    }

    #[test]
    fn a_header_in_a_text_of_several_lines_is_none() {
        let inner = "\n[task.in_the_text]\nnot TOML at all = =\n".repeat(9000);
        let text = format!("[pipeline]\nname = \"x\"\n\n[task.a]\nprompt = \"\"\"{inner}\"\"\"\n");
        assert!(tree(&text, 0).is_none());
        let root = super::super::toml_text::parse(&text, 0).expect("a text without fault");
        assert_eq!(root.get("task").and_then(Node::table).map(indexmap::IndexMap::len), Some(1));
    }
}
