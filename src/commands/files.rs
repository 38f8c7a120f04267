//! `planexe files`: the outputs, inputs and records of a run, and what is to be known of one of them.

use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::files::{FileInfo, FileRow, FileSort, Files};
use planexe_base::exit::{self, Error};
use planexe_base::style::{bytes, clean};
use planexe_ui::views::{table, time};

/// What `planexe files` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct FilesArgs {
    /// Show the details of this file
    #[arg(value_name = "FILE", conflicts_with_all = ["kind", "limit"])]
    pub path: Option<String>,

    /// Only these: output, input, record
    #[arg(long, value_name = "KIND", value_enum, hide_possible_values = true)]
    pub kind: Option<KindArg>,

    /// Only the newest N
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// A kind of file, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A task makes it
    Output,
    /// A task reads it, and none makes it
    Input,
    /// planexe writes it
    Record,
}

impl From<KindArg> for FileSort {
    fn from(kind: KindArg) -> FileSort {
        match kind {
            KindArg::Output => FileSort::Output,
            KindArg::Input => FileSort::Input,
            KindArg::Record => FileSort::Record,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListView<'a> {
    total: usize,
    files: &'a [FileRow],
}

/// Lists files, or tells of one.
pub fn run(session: &Session, args: &FilesArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let files = Files::new(session, &opened)?;
    let run_dir = opened.store.run_dir();
    if let Some(file) = &args.path {
        let info = files.info(file)?;
        if session.globals.json {
            session.print_answer(run_dir, &info)?;
        } else {
            let rows: Vec<Vec<String>> = info
                .facts()
                .into_iter()
                .map(|(name, value)| vec![session.out.dim(name), clean(&value)])
                .collect();
            session.print(&table(&rows, &session.out))?;
        }
        return Ok(exit::DONE);
    }
    let rows = files.rows(args.kind.map(FileSort::from), None);
    let shown = &rows[..rows.len().min(args.limit.unwrap_or(usize::MAX))];
    if session.globals.json {
        session.print_answer(run_dir, &ListView { total: rows.len(), files: shown })?;
        return Ok(exit::DONE);
    }
    if rows.is_empty() {
        session.say("no files yet");
        return Ok(exit::DONE);
    }
    let line = |row: &FileRow| {
        let task = row.task.clone().unwrap_or_else(|| row.kind.word().to_owned());
        vec![clean(&row.path), clean(&task), bytes(row.bytes), time(&row.updated_at)]
    };
    let head = ["file", "task", "size", "changed"].map(|head| session.out.dim(head)).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(shown.iter().map(line)).collect();
    session.print(&table(&lines, &session.out))?;
    if shown.len() < rows.len() {
        session.say(&format!("{} of {}", shown.len(), rows.len()));
    }
    Ok(exit::DONE)
}

impl FileInfo {
    /// For people.
    fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            FileInfo::Ready { row, state, sha256, content_type, .. } => {
                let mut facts = vec![("file", row.path.clone()), ("kind", row.kind.word().to_owned())];
                if let Some(task) = &row.task {
                    let state = state.map_or(String::new(), |state| format!(" ({})", state.name()));
                    facts.push(("task", format!("{task}{state}")));
                }
                facts.extend([
                    ("size", bytes(row.bytes)),
                    ("changed", time(&row.updated_at)),
                    ("type", (*content_type).to_owned()),
                    ("sha256", sha256.clone()),
                ]);
                facts
            }
            FileInfo::Missing { path, reason, .. } => {
                vec![("file", path.clone()), ("not ready", reason.clone())]
            }
        }
    }
}
