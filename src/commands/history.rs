//! `planexe history`: lists what is kept of former outputs.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::former::find;
use planexe_base::exit::{self, Error};
use planexe_base::record::OutputRecord;
use planexe_base::style::{bytes, clean};
use planexe_query::history_view::{version_name, why_text};
use planexe_query::selection::Units;
use planexe_store::history::Entry;
use planexe_ui::views::{accepted_by, table, time};

/// What `planexe history` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct HistoryArgs {
    /// Only of this task
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
}

/// A former content, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EntryView {
    version: String,
    task: String,
    n: usize,
    time_utc: String,
    why: planexe_store::Why,
    bytes: u64,
    outputs: Vec<OutputRecord>,
    model: Option<String>,
    /// Who said that it was done: `build`, `touch`, `rescue`, `human`.
    by: Option<String>,
    /// The person who did.
    by_user: Option<String>,
    checkpoint_id: Option<String>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    entries: Vec<EntryView>,
}

/// Lists former outputs.
pub fn run(session: &Session, args: &HistoryArgs) -> Result<u8, Error> {
    let (store, entries): (_, Vec<Entry>) = match &args.task {
        None => {
            let store = session.records(true)?;
            let all = store.history().entries_all()?;
            (store, all)
        }
        Some(name) => {
            let opened = session.open(true)?;
            let units = Units::new(&opened.project, &opened.store);
            let mut all: Vec<Entry> =
                find(&opened, &units, name)?.into_iter().flat_map(|kept| kept.entries).collect();
            all.sort_by(|a, b| a.at.cmp(&b.at));
            (opened.store.clone(), all)
        }
    };
    if session.globals.json {
        let entries = entries.into_iter().map(view).collect();
        session.print_answer(store.run_dir(), &View { entries })?;
        return Ok(exit::DONE);
    }
    if entries.is_empty() {
        let of = args.task.as_ref().map_or(String::new(), |name| format!(" of {}", clean(name)));
        session.say(&format!("nothing former is kept{of}"));
        return Ok(exit::DONE);
    }
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    session.print(&table(&rows, &session.out))?;
    Ok(exit::DONE)
}

/// A text in the record of a former content.
fn text(entry: &Entry, pointer: &str) -> Option<String> {
    entry.done.as_ref()?.pointer(pointer)?.as_str().map(str::to_owned)
}

fn view(entry: Entry) -> EntryView {
    EntryView {
        version: version_name(&entry),
        n: entry.n,
        bytes: entry.outputs.iter().map(|output| output.bytes).sum(),
        model: text(&entry, "/made_with/model"),
        by: text(&entry, "/by"),
        by_user: text(&entry, "/by_user"),
        checkpoint_id: text(&entry, "/checkpoint_id"),
        task: entry.task,
        time_utc: entry.at,
        why: entry.why,
        outputs: entry.outputs,
    }
}

fn row(entry: &Entry) -> Vec<String> {
    let files: Vec<String> = entry
        .outputs
        .iter()
        .map(|output| format!("{} ({})", clean(&output.path), bytes(output.bytes)))
        .collect();
    let mut why = why_text(entry.why).to_owned();
    match (text(entry, "/by").as_deref(), text(entry, "/by_user")) {
        (Some("touch"), user) => why += &format!("; it was {}", accepted_by(user.as_deref())),
        (Some("human"), Some(user)) => why += &format!("; {} passed it", clean(&user)),
        _ => {}
    }
    vec![clean(&version_name(entry)), time(&entry.at), why, files.join(", ")]
}
