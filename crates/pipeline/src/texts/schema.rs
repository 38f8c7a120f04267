//! Schemas: read, compiled, and their faults placed.

use std::sync::Arc;

use super::Loader;
use crate::check::CompiledSchema;
use crate::manifest::TablePath;
use crate::manifest::diagnostic::{At, Diagnostic};

/// The byte at a line and column (from 1, in bytes) of a text.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => break,
        }
    }
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// About where a JSON pointer leads in a text: each step's key is looked for after the former.
pub fn place_in_json(text: &str, pointer: &str) -> std::ops::Range<usize> {
    let mut at = 0;
    let mut span = 0..0;
    for step in pointer.split('/').skip(1) {
        let quoted = format!("{:?}", step.replace("~1", "/").replace("~0", "~"));
        if let Some(found) = text[at..].find(&quoted) {
            span = at + found..at + found + quoted.len();
            at = span.end;
        }
    }
    span
}

impl Loader<'_> {
    pub(super) fn schema(&mut self, at: &TablePath, written: &str) {
        if self.texts.schemas.contains_key(written) {
            return;
        }
        if written.trim_start().starts_with('{') {
            self.faults.push(
                Diagnostic::at(at, "a schema is the path of a file".to_owned())
                    .wanted("wanted a path")
                    .hint("write it to a file, say `schemas/answer.json`, and name that"),
            );
            return;
        }
        let Some(file) = self.resolve(at, written, "schema") else { return };
        let (text, path) = (file.text.clone(), file.path.clone());
        match serde_json::from_str(&text) {
            Err(error) => {
                let start = offset(&text, error.line(), error.column());
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or(&message);
                let mut end = start + 1;
                while end < text.len() && !text.is_char_boundary(end) {
                    end += 1;
                }
                self.faults.push(
                    Diagnostic::at(
                        At::Text { file: path, text: text.clone(), span: start..end.min(text.len()) },
                        format!("the schema is not valid JSON: {message}"),
                    )
                    .wanted("here")
                    .related(at, "named here"),
                );
                self.missing.insert(written.to_owned());
            }
            Ok(value) => match CompiledSchema::compile(value) {
                Ok(schema) => {
                    self.texts.schemas.insert(written.to_owned(), Arc::new(schema));
                }
                Err(error) => {
                    let span = place_in_json(&text, &error.pointer);
                    let pointer = if error.pointer.is_empty() {
                        String::new()
                    } else {
                        format!(" at `{}`", error.pointer)
                    };
                    self.faults.push(
                        Diagnostic::at(
                            At::Text { file: path, text: text.clone(), span },
                            format!("the schema cannot be used{pointer}: {}", error.message),
                        )
                        .related(at, "named here"),
                    );
                    self.missing.insert(written.to_owned());
                }
            },
        }
    }
}
