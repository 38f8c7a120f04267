//! `planexe report`: a run as one file for a browser.

use std::path::PathBuf;

use clap::Args;

use crate::commands::{Session, WrittenView};
use crate::ops::report::report;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_ui::page;

/// What `planexe report` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ReportArgs {
    /// The run [default: the one here or above, or that of -C]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// Write a page for a browser, one file without scripts; `-` is standard output
    #[arg(long, value_name = "FILE", required = true)]
    pub html: PathBuf,
}

/// Writes the page.
pub fn run(session: &Session, args: &ReportArgs) -> Result<u8, Error> {
    let opened = session.open_named(args.run.as_deref(), true)?;
    let file = &args.html;
    let is_file = file.as_os_str() != "-";
    if is_file && let Some(output) = output_at(&opened, file) {
        let text = format!("`{}` is an output of the run: `{output}`", shown_path(file));
        return Err(Error::usage(text)
            .code("is_output")
            .hint("name another file, for example `--html run.html`"));
    }
    let page = page::report::html(&report(session, &opened)?);
    // What a model was sent or answered may quote a key.
    let keys = session.keys()?;
    let page = keys.redactor(planexe_llm::keys::hidden().iter().map(String::as_str)).redact(&page);
    if !is_file {
        session.print(&page)?;
        return Ok(exit::DONE);
    }
    fs::write_atomic(file, page.as_bytes(), Durability::Unsynced)
        .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &WrittenView { file: file.display().to_string() })?;
    } else {
        session.say(&format!("wrote `{}`", shown_path(file)));
    }
    Ok(exit::DONE)
}

/// The output of a task that a file is, if it is one.
fn output_at(opened: &planexe_pipeline::open::Opened, file: &std::path::Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let whole = folder.canonicalize().ok()?.join(file.file_name()?);
    let run = opened.store.run_dir().canonicalize().ok()?;
    let relative = whole.strip_prefix(run).ok()?.to_str()?.to_owned();
    opened.project.graph.is_produced(&relative).then_some(relative)
}
