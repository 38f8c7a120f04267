//! Tools that read the files of a plan.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use super::arguments::{Number, Text};
use super::summary::without_nulls;
use super::tool_error::ToolError;
use crate::ops::files::{FileInfo, FileSort, Files};
use crate::ops::names::find_task;
use planexe_base::exit::Error;

/// `plan_files`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// Only those this task made
    task: Option<Text>,
    /// Only of this kind
    #[serde(default)]
    kind: Kind,
    /// Maximum number
    #[serde(default)]
    limit: Number<1, 500, 30>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    All,
    Output,
    Input,
    Record,
}

/// Lists files.
pub(super) fn list(context: &Context<'_>, of: List) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let files = Files::new(&plan.session, &plan.opened)?;
    let kind = match of.kind {
        Kind::All => None,
        Kind::Output => Some(FileSort::Output),
        Kind::Input => Some(FileSort::Input),
        Kind::Record => Some(FileSort::Record),
    };
    // By the name the task has, however it was written.
    let task = match &of.task {
        Some(name) => {
            let named = find_task(&plan.opened, name)?;
            let task = &plan.opened.project.graph[named.task].name;
            Some(named.key.map_or(task.clone(), |key| format!("{task}[{key}]")))
        }
        None => None,
    };
    let rows = files.rows(kind, task.as_deref());
    let shown = &rows[..rows.len().min(of.limit.0 as usize)];
    let files: Result<Vec<Value>, _> =
        shown.iter().map(|row| serde_json::to_value(row).map(without_nulls)).collect();
    let files = files.map_err(Error::from)?;
    Ok(json!({
        "plan_id": plan.id,
        "total": rows.len(),
        "files": files,
    }))
}

/// `plan_file_info`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// As in `plan_files` [default: the page the plan makes at its end]
    path: Option<Text>,
}

/// Looks at a file.
pub(super) fn info(context: &Context<'_>, of: Info) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let files = Files::new(&plan.session, &plan.opened)?;
    let project = &plan.opened.project;
    let page = project.page(&project.default).map(str::to_owned);
    let path = of.path.map(|path| path.0).or(page).ok_or_else(|| {
        ToolError::new("INVALID_ARGUMENT", "plan_file_info: `path` is missing, and the plan makes no page")
            .hint("`plan_files` lists the files of the plan")
    })?;
    let info: FileInfo = files.info(&path)?;
    let mut value = serde_json::to_value(&info).map_err(Error::from)?;
    value["plan_id"] = json!(plan.id);
    Ok(value)
}

/// `plan_read_file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The plan, as `plan_create` or `plan_list` named it
    plan_id: Text,
    /// As in `plan_files`
    path: Text,
    /// Where to begin, in bytes
    #[serde(default)]
    offset: Number<0, { 1 << 40 }, 0>,
    /// Maximum number of bytes
    #[serde(default)]
    limit: Number<100, 100_000, 16_000>,
}

/// Reads a file, or a piece of it.
pub(super) fn read(context: &Context<'_>, of: Read) -> Result<Value, ToolError> {
    let plan = context.server.open(&of.plan_id)?;
    let files = Files::new(&plan.session, &plan.opened)?;
    let row = files.find(&of.path)?;
    // Three bytes more, so that a sign at the end can be seen whole.
    let bytes = files.read(row, of.offset.0, of.limit.0 + 3)?;
    let piece = piece(&bytes, of.limit.0 as usize).ok_or_else(|| {
        ToolError::new("FILE_NOT_TEXT", format!("`{}` is not text", row.path))
            .hint("`plan_file_info` tells its length, digest and type")
    })?;
    let begin = of.offset.0 + piece.skipped as u64;
    let end = begin + piece.text.len() as u64;
    Ok(json!({
        "plan_id": plan.id,
        "path": row.path,
        "text": piece.text,
        "offset": begin.min(row.bytes),
        "bytes": row.bytes,
        "next_offset": (end < row.bytes && !piece.text.is_empty()).then_some(end),
    }))
}

/// Whole signs of a text.
#[derive(Debug, PartialEq)]
struct Piece<'a> {
    /// Bytes at the beginning that end a sign of the piece before.
    skipped: usize,
    text: &'a str,
}

/// The part of `bytes` that is whole signs, `limit` bytes of it; none if it is no text.
fn piece(bytes: &[u8], limit: usize) -> Option<Piece<'_>> {
    let is_rest = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let skipped = bytes.iter().take(3).take_while(is_rest).count();
    let bytes = &bytes[skipped..];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // What is cut at the end of what was read is no fault.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        // One that begins after the piece is found by who reads on.
        Err(error) if error.valid_up_to() >= limit => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if text.contains('\0') {
        return None;
    }
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(Piece { skipped, text: &text[..end] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_whole_signs_and_join_to_the_text() {
        let text = "aé€😀".repeat(7);
        for limit in 4..12 {
            let (mut joined, mut at) = (String::new(), 0);
            while at < text.len() {
                let end = (at + limit + 3).min(text.len());
                let piece = piece(&text.as_bytes()[at..end], limit).unwrap();
                assert_eq!(piece.skipped, 0, "{limit}");
                joined += piece.text;
                at += piece.text.len();
            }
            assert_eq!(joined, text, "{limit}");
        }
        assert_eq!(piece("é!".as_bytes().get(1..).unwrap(), 9), Some(Piece { skipped: 1, text: "!" }));
        assert_eq!(piece(b"\xff\xd8\xff\xe0", 9), None);
        assert_eq!(piece(b"a\0b", 9), None);
        assert_eq!(piece(b"", 9), Some(Piece { skipped: 0, text: "" }));
    }
}
