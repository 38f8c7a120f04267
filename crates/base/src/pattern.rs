//! Paths with holes: globs, and the `{{ key }}` of a fan-out's paths.

use std::borrow::Cow;
use std::path::Path;

use globset::{GlobBuilder, GlobSet};

/// The longest path or glob in bytes: no system takes a longer path.
pub const LONGEST: usize = 4096;

/// A glob that is ready to be used.
#[derive(Debug, Clone)]
pub struct Glob(GlobSet);

impl Glob {
    /// A glob of paths: `*` and `?` match no slash. The error says what is wrong with it.
    pub fn of_paths(pattern: &str) -> Result<Glob, String> {
        Glob::new(pattern, true)
    }

    /// A glob of names, in which a slash is a character like any other.
    pub fn of_names(pattern: &str) -> Result<Glob, String> {
        Glob::new(pattern, false)
    }

    fn new(pattern: &str, literal_separator: bool) -> Result<Glob, String> {
        // Without a limit, 100,000 braces one inside the other overflow the stack.
        if pattern.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let glob = GlobBuilder::new(pattern).literal_separator(literal_separator).build();
        let glob = glob.map_err(|error| error.kind().to_string())?;
        // `compile_matcher` panics on a glob that is too large or too deep to compile; a set returns an error.
        let set = GlobSet::builder().add(glob).build();
        set.map(Glob).map_err(|_| "it is too large, or has too many braces one inside the other".to_owned())
    }

    /// Whether the whole of a path matches.
    pub fn is_match(&self, path: impl AsRef<Path>) -> bool {
        self.0.is_match(path)
    }
}

/// How the hole for an item's key is written in a normal path.
pub const KEY: &str = "{{ key }}";
/// The hole of an alias for an item's number, counted from 1.
pub const NUMBER: &str = "{{ number }}";

/// Whether a normal path has a hole for a key.
pub fn has_key(path: &str) -> bool {
    path.contains(KEY)
}

/// A path with its key filled in.
pub fn fill_key(path: &str, key: &str) -> String {
    path.replace(KEY, key)
}

/// The key that makes a pattern into a path, if there is one; every hole holds the same.
pub fn key_of<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let holes = pattern.matches(KEY).count();
    let start = pattern.find(KEY)?;
    let open = path.len().checked_sub(pattern.len() - holes * KEY.len())?;
    if open % holes != 0 {
        return None;
    }
    let key = path.get(start..start + open / holes)?;
    (!key.is_empty() && !key.contains('/') && fill_key(pattern, key) == path).then_some(key)
}

/// A path as file systems that fold case see it.
pub fn fold_case(path: &str) -> Cow<'_, str> {
    match path.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        true => Cow::Borrowed(path),
        false => Cow::Owned(path.to_lowercase()),
    }
}

/// A relative path without `.` components, doubled slashes and blanks in `{{key}}`.
pub fn normalize(path: &str) -> String {
    normal(path).into_owned()
}

/// [`normalize`], without a copy of what is so already.
pub fn normal(path: &str) -> Cow<'_, str> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(open) = rest.find("{{") {
        let Some(close) = rest[open..].find("}}") else { break };
        text.push_str(&rest[..open]);
        text.push_str("{{ ");
        text.push_str(rest[open + 2..open + close].trim());
        text.push_str(" }}");
        rest = &rest[open + close + 2..];
    }
    text.push_str(rest);
    let absolute = text.starts_with('/');
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Cow::Owned(if absolute { format!("/{}", parts.join("/")) } else { parts.join("/") })
}

fn is_normal(path: &str) -> bool {
    let mut before = b'/';
    for (at, &byte) in path.as_bytes().iter().enumerate() {
        let alone = || matches!(path.as_bytes().get(at + 1), None | Some(b'/'));
        if byte == b'{' || before == b'/' && (byte == b'/' || byte == b'.' && alone()) {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

/// Whether a glob passes over a path, as one of a shell would: a part of it begins with a dot, and none of the glob's
/// does. Editors keep such files for themselves, and version control its folders.
pub fn passes_over(glob: &str, path: &str) -> bool {
    let hidden = |path: &str| path.split('/').any(|part| part.starts_with('.'));
    hidden(path) && !hidden(glob)
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Char(char),
    /// One character, not a slash.
    One,
    /// Any number of characters, no slash among them.
    Many,
    /// Any number of any characters.
    All,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let (token, length) = if rest.starts_with("{{") {
            (Token::Many, rest.find("}}").map_or(rest.len(), |end| end + 2))
        } else if rest.starts_with("**") {
            (Token::All, if rest.starts_with("**/") { 3 } else { 2 })
        } else {
            match c {
                '*' => (Token::Many, 1),
                '?' => (Token::One, 1),
                '[' => (Token::One, rest.find(']').map_or(1, |end| end + 1)),
                '{' => (Token::All, alternatives(rest)),
                c => (Token::Char(c), c.len_utf8()),
            }
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    tokens
}

/// How long the alternatives are that a text begins with: they may have others in them.
fn alternatives(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    1
}

/// What the holes of a pattern begin and end with.
const HOLES: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// What every path that matches a pattern begins with.
pub fn literal_prefix(pattern: &str) -> &str {
    &pattern[..pattern.find(HOLES).unwrap_or(pattern.len())]
}

/// The folder that every path that matches a pattern lies in, or below.
pub fn literal_folder(pattern: &str) -> &str {
    literal_prefix(pattern)
        .rsplit_once('/')
        .map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder })
}

/// Whether some path matches both patterns. Sets and alternatives count as anything, so the answer
/// may be yes for a pair that has no path in common, never no for one that has.
pub fn could_match(a: &str, b: &str) -> bool {
    // Most pairs differ in what comes before or after all holes, or have none.
    let (before_a, before_b) = (literal_prefix(a), literal_prefix(b));
    if before_a.len() == a.len() && before_b.len() == b.len() {
        return a == b;
    }
    let after = |pattern: &str| pattern.rfind(HOLES).map_or(0, |at| at + 1);
    let (after_a, after_b) = (a[after(a)..].bytes(), b[after(b)..].bytes());
    if before_a.bytes().zip(before_b.bytes()).any(|(a, b)| a != b)
        || after_a.rev().zip(after_b.rev()).any(|(a, b)| a != b)
    {
        return false;
    }
    let (a, b) = (tokens(a), tokens(b));
    // reach[j]: some text is matched by a[..i] and b[..j].
    let mut reach = vec![vec![false; b.len() + 1]; a.len() + 1];
    reach[0][0] = true;
    let wild = |token: Token| matches!(token, Token::Many | Token::All);
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if !reach[i][j] {
                continue;
            }
            // A wildcard may match nothing.
            if i < a.len() && wild(a[i]) {
                reach[i + 1][j] = true;
            }
            if j < b.len() && wild(b[j]) {
                reach[i][j + 1] = true;
            }
            if i < a.len() && j < b.len() {
                match (a[i], b[j]) {
                    (x, y) if wild(x) && wild(y) => {}
                    (x, y) if wild(x) => reach[i][j + 1] |= accepts(x, y),
                    (x, y) if wild(y) => reach[i + 1][j] |= accepts(y, x),
                    (Token::Char(x), Token::Char(y)) => reach[i + 1][j + 1] |= x == y,
                    (x, y) => reach[i + 1][j + 1] |= accepts(x, y) || accepts(y, x),
                }
            }
        }
    }
    reach[a.len()][b.len()]
}

/// Whether a wild token can stand for one plain token.
fn accepts(wild: Token, plain: Token) -> bool {
    match wild {
        Token::All => true,
        Token::Many | Token::One => plain != Token::Char('/'),
        Token::Char(_) => wild == plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_that_cannot_be_compiled_are_errors() {
        for pattern in [
            "{a,".repeat(100_000) + &"}".repeat(100_000),
            "{a,".repeat(500) + "b" + &"}".repeat(500),
            "a".repeat(1_000_000) + "*",
            "{a".to_owned(),
        ] {
            assert!(Glob::of_paths(&pattern).is_err(), "{}", &pattern[..2]);
            assert!(Glob::of_names(&pattern).is_err(), "{}", &pattern[..2]);
        }
        for pattern in
            ["{a,b}".repeat(800), "?".repeat(LONGEST - 1), "[!a-z]".repeat(600), "**/".repeat(1300)]
        {
            assert!(!Glob::of_paths(&(pattern + "x")).unwrap().is_match("no such"));
        }
        let (paths, names) = (Glob::of_paths("a*").unwrap(), Glob::of_names("a*").unwrap());
        assert!(!paths.is_match("a/b") && names.is_match("a/b") && paths.is_match("ab"));
    }

    #[test]
    fn a_normal_path_is_left_as_it_is() {
        for (path, wanted) in [
            ("a", "a"),
            ("a/b.c/.d", "a/b.c/.d"),
            ("..", ".."),
            ("../a/..b/...", "../a/..b/..."),
            ("", ""),
            (".", ""),
            ("./a", "a"),
            ("a/.", "a"),
            ("a/./b", "a/b"),
            ("a/", "a"),
            ("a//b", "a/b"),
            ("/", "/"),
            ("/a", "/a"),
            ("//a", "/a"),
            ("a/{{key}}.txt", "a/{{ key }}.txt"),
            ("a/{b,c}", "a/{b,c}"),
            ("\u{e4}/.\u{e4}", "\u{e4}/.\u{e4}"),
        ] {
            assert_eq!(normal(path), wanted, "{path:?}");
            assert!(!is_normal(path) || path == wanted, "{path:?}");
        }
        assert!(is_normal("a/b.c/.d") && is_normal("../a/..b/...") && is_normal("..") && !is_normal("a/."));
    }

    #[test]
    fn keys_are_read_from_paths() {
        for (pattern, path, key) in [
            ("reviews/{{ key }}.json", "reviews/anna.json", Some("anna")),
            ("reviews/{{ key }}.json", "reviews/.json", None),
            ("reviews/{{ key }}.json", "reviews/a/b.json", None),
            ("reviews/{{ key }}.json", "notes/anna.json", None),
            ("{{ key }}/{{ key }}.json", "ann/ann.json", Some("ann")),
            ("{{ key }}/{{ key }}.json", "ann/bob.json", None),
            ("{{ key }}", "jäger", Some("jäger")),
            ("a.json", "a.json", None),
        ] {
            assert_eq!(key_of(pattern, path), key, "{pattern} {path}");
        }
    }

    #[test]
    fn hidden_files_are_matched_only_where_the_glob_names_a_dot() {
        for (glob, path, expected) in [
            ("docs/*.txt", "docs/.#a.txt", true),
            ("docs/*.txt", "docs/a.txt", false),
            ("docs/.*.txt", "docs/.a.txt", false),
            ("**/*.md", ".git/x/a.md", true),
            (".notes/*.md", ".notes/a.md", false),
            ("*", "a.b", false),
        ] {
            assert_eq!(passes_over(glob, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn patterns_that_share_a_path() {
        for (a, b, expected) in [
            ("a.json", "a.json", true),
            ("a.json", "b.json", false),
            ("*.json", "a.json", true),
            ("*.json", "x/a.json", false),
            ("**/*.json", "x/y/a.json", true),
            ("**/*.json", "a.json", true),
            ("**/a.json", "a.json", true),
            ("x/**/a.json", "x/a.json", true),
            ("x/**/a.json", "y/a.json", false),
            ("reviews/*.json", "reviews/{{ key }}.json", true),
            ("reviews/*.md", "reviews/{{ key }}.json", false),
            ("reviews/anna.json", "reviews/{{ key }}.json", true),
            ("notes/anna.json", "reviews/{{ key }}.json", false),
            ("a?.txt", "ab.txt", true),
            ("a?.txt", "abc.txt", false),
            ("a[0-9].txt", "a7.txt", true),
            ("{a,b}.txt", "b.txt", true),
            ("{a,{b,c}}.txt", "b.txt", true),
            ("{a,{b,c}}.txt", "b.md", false),
            ("x*", "*y", true),
            ("x*z", "*y", false),
        ] {
            assert_eq!(could_match(a, b), expected, "{a} ~ {b}");
            assert_eq!(could_match(b, a), expected, "{b} ~ {a}");
        }
    }

    #[test]
    fn normal_paths() {
        for (path, normal) in
            [("./a.json", "a.json"), ("a//b", "a/b"), ("x/{{key}}.md", "x/{{ key }}.md"), ("a/./b", "a/b")]
        {
            assert_eq!(normalize(path), normal);
        }
    }
}
