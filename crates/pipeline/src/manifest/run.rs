//! `run.toml`: what makes a folder a run of a pipeline that stands elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::de;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::place::{Kind, Node, Origin, SourceFile, SourceSpan, TablePath};
use super::read::read_file;
use super::toml_text;
use crate::key_path;

/// The keys of `run.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// The pipeline, relative to the run's folder.
    pub pipeline: String,
    /// The run this one was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What people call the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it was made, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The profile it is built with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl RunFile {
    /// Reads a `run.toml`; unknown keys and a missing `pipeline` are faults.
    pub fn read(file: &Path) -> Result<RunFile, Diagnostics> {
        match read_file(file) {
            Ok(text) => RunFile::from_text(file, text),
            Err(mut fault) => {
                fault.hint = Some("`planexe new NAME` makes a run with its `run.toml`".to_owned());
                Err(Diagnostics::new(Arc::new(Origin::nothing(file)), vec![*fault]))
            }
        }
    }

    /// The same for a text at hand, as if it stood in `file`.
    pub fn from_text(file: &Path, text: String) -> Result<RunFile, Diagnostics> {
        let (run, mut faults, origin): (RunFile, _, _) = read_toml(file, text)?;
        if faults.is_empty() && run.pipeline.trim().is_empty() {
            let fault = Diagnostic::at(key_path!["pipeline"], "the run does not say which pipeline it is of")
                .wanted("`pipeline` is missing")
                .hint("add `pipeline = \"../pipeline.toml\"`");
            faults.push(fault);
        }
        if faults.is_empty() {
            return Ok(run);
        }
        Err(Diagnostics::new(origin, faults))
    }

    /// The pipeline's file, for a run in `folder`.
    pub fn pipeline_file(&self, folder: &Path) -> PathBuf {
        folder.join(&self.pipeline)
    }

    /// The text of the file, for writing it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let pipeline = Some(self.pipeline.clone());
        for (key, value) in [
            ("pipeline", &pipeline),
            ("parent", &self.parent),
            ("label", &self.label),
            ("created", &self.created),
            ("profile", &self.profile),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("{key} = {}\n", quoted(value)));
            }
        }
        text
    }
}

/// Reads a text as if it stood in `file`: what could be read, the faults found in it, and where to show them.
pub fn read_toml<T: Default + for<'a> Deserialize<'a>>(
    file: &Path,
    text: String,
) -> Result<(T, Vec<Diagnostic>, Arc<Origin>), Diagnostics> {
    let text: Arc<str> = Arc::from(text);
    let sources = vec![SourceFile::new(file, text.clone())];
    let nothing =
        Node { place: SourceSpan { source: 0, start: 0, end: 0 }, kind: Kind::Table(Default::default()) };
    let mut root = match toml_text::parse(&text, 0) {
        Ok(root) => root,
        Err(faults) => return Err(Diagnostics::new(Arc::new(Origin { sources, root: nothing }), faults)),
    };
    let shown = root.clone();
    let mut faults = Vec::new();
    let read = de::read(&mut root, &TablePath::root(), &mut faults);
    Ok((read, faults, Arc::new(Origin { sources, root: shown })))
}

/// A string as TOML writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let run = RunFile {
            pipeline: "../pipe \"line\".toml".to_owned(),
            label: Some("a\\b\n\u{1b}[31m ü".to_owned()),
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            ..RunFile::default()
        };
        assert_eq!(RunFile::from_text(Path::new("run.toml"), run.to_text()).unwrap(), run);
    }

    #[test]
    fn faults_of_a_run() {
        let faults = |text: &str| {
            RunFile::from_text(Path::new("run.toml"), text.to_owned()).unwrap_err().render(false, 100)
        };
        assert!(faults("pipelin = \"x\"\nlabel = 3\n").contains("did you mean `pipeline`?"));
        assert!(faults("").contains("`pipeline` is missing") || faults("").contains("which pipeline"));
        assert!(faults("pipeline = ").contains("no value after `=`"));
    }
}
