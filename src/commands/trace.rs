//! `planexe trace`: when a run did what, for the viewers of others.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::commands::{Session, WrittenView};
use crate::ops::records::stores;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_query::timeline::timeline;
use planexe_ui::views::timeline::chrome;

/// What `planexe trace` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct TraceArgs {
    /// Run directories, each a process of the trace [default: the run]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// The format: chrome (Perfetto and chrome://tracing open it)
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    pub format: TraceFormat,

    /// Write to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A format of traces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// Chrome's trace events, as JSON
    #[default]
    Chrome,
}

/// Writes the trace. The pipeline need not be there any more.
pub fn run(session: &Session, args: &TraceArgs) -> Result<u8, Error> {
    let mut runs = Vec::new();
    for store in stores(session, &args.runs)? {
        let dir = store.run_dir();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
        runs.push((name, timeline(&store)?));
    }
    let TraceFormat::Chrome = args.format;
    let text = serde_json::to_string(&chrome(session.server(), &runs))? + "\n";
    match args.output.as_ref().filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            fs::write_atomic(file, text.as_bytes(), Durability::Unsynced)
                .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let view = WrittenView { file: file.display().to_string() };
            match session.globals.json {
                true => session.print_json(&session.answer(None, &view))?,
                false => session.say(&format!("wrote `{}`", shown_path(file))),
            }
        }
        None => session.print(&text)?,
    }
    Ok(exit::DONE)
}
