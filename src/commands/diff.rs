//! `planexe diff`: how a task's outputs differ from what they were.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::commands::Session;
use crate::ops::former::{find, no_version, nothing_kept, split};
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::record::OutputRecord;
use planexe_base::style::{Style, bytes, clean};
use planexe_pipeline::open::Opened;
use planexe_query::history_view::Version;
use planexe_query::selection::Units;
use planexe_store::history::Entry;
use planexe_ui::views::changes::{Change, json_changes, json_text, text_diff};

/// What `planexe diff` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DiffArgs {
    /// The task; `TASK@N` for its Nth version as `planexe history` counts them [default: the latest that differs]
    #[arg(value_name = "TASK[@N]")]
    pub task: String,

    /// Compare JSON line by line too, not by its paths
    #[arg(long)]
    pub lines: bool,
}

/// Contents larger than this are not shown: only whether they differ is told.
const MOST: u64 = 16 << 20;

/// How one output differs, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OutputView {
    path: String,
    /// The version compared with; none for what stood there before an edit by hand.
    version: Option<String>,
    /// `json`, `text`, or `bytes` of which no difference is shown.
    form: &'static str,
    /// Whether it differs.
    differs: bool,
    /// False if there is nothing to compare with: the content is gone.
    kept: bool,
    /// Whether the output is there now.
    present: bool,
    /// Of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
    /// Of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
    #[serde(skip)]
    text: String,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    outputs: Vec<OutputView>,
}

/// Compares.
pub fn run(session: &Session, args: &DiffArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let store = &opened.store;
    let units = Units::new(&opened.project, store);
    let (name, n) = split(&opened, &args.task);
    let all = find(&opened, &units, name)?;
    let mut view = View { outputs: Vec::new() };
    for kept in &all {
        let Some(version) = kept.version(store, n)? else { continue };
        for output in &version.entry.outputs {
            view.outputs.push(compare(session, &opened, args, &version, output)?);
        }
    }
    if view.outputs.is_empty() {
        return nothing(session, &opened, name, n, all.iter().all(|kept| kept.entries.is_empty()), &view);
    }
    if session.globals.json {
        session.print_answer(store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    for output in &view.outputs {
        session.print(&output.text)?;
    }
    if view.outputs.iter().all(|output| !output.differs) {
        session.say(&format!("{}: no difference", clean(&args.task)));
    }
    Ok(exit::DONE)
}

fn nothing(
    session: &Session,
    opened: &Opened,
    name: &str,
    n: Option<usize>,
    none: bool,
    view: &View,
) -> Result<u8, Error> {
    match n {
        Some(n) => Err(no_version(name, n)),
        None if none => Err(nothing_kept(name)),
        None => {
            session.say(&format!("{}: all that is kept is as it is now", clean(name)));
            if session.globals.json {
                session.print_answer(opened.store.run_dir(), view)?;
            }
            Ok(exit::DONE)
        }
    }
}

fn compare(
    session: &Session,
    opened: &Opened,
    args: &DiffArgs,
    version: &Version,
    output: &OutputRecord,
) -> Result<OutputView, Error> {
    let store = &opened.store;
    let file = store.path(&output.path);
    let kept = store.history().has(&output.blake3);
    let there = fs::optional(fs::hash_file(&file))?;
    let mut view = OutputView {
        path: output.path.clone(),
        version: version.name.clone(),
        form: "bytes",
        differs: !kept || there.as_ref().is_none_or(|(digest, _)| *digest != output.blake3),
        kept,
        present: there.is_some(),
        changes: None,
        diff: None,
        text: String::new(),
    };
    let before = name_of(version, &version.entry, output);
    let path = clean(&output.path);
    if !kept {
        view.text = format!("{before}: its content is not kept any more\n");
        return Ok(view);
    }
    if !view.differs {
        return Ok(view);
    }
    let length = there.map_or(0, |(_, length)| length);
    if output.bytes.max(length) > MOST {
        let (was, is) = (bytes(output.bytes), bytes(length));
        view.text = match view.present {
            true => format!("{before} and {path} differ, and are too large to be shown here ({was}, {is})\n"),
            false => format!("{before} is gone ({was}, too large to be shown here)\n"),
        };
        return Ok(view);
    }
    let old = store.history().object(&output.blake3)?;
    let now = fs::read_optional(&file)?.unwrap_or_default();
    let style = &session.out;
    let here = if view.present { path.clone() } else { "/dev/null".to_owned() };
    let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let json = output.path.ends_with(".json") && view.present && !args.lines;
    if let (true, Some(was), Some(is)) = (json, parsed(&old), parsed(&now)) {
        let changes = json_changes(&was, &is);
        view.form = "json";
        view.text = format!("{}\n", style.bold(&format!("--- {before}\n+++ {here}")));
        view.text += &match changes.is_empty() {
            true => "the same values, written differently (`--lines` shows it)\n".to_owned(),
            false => json_text(&changes, style),
        };
        view.changes = Some(changes);
        return Ok(view);
    }
    match (std::str::from_utf8(&old), std::str::from_utf8(&now)) {
        (Ok(was), Ok(is)) if !was.contains('\0') && !is.contains('\0') => {
            view.form = "text";
            view.text = text_diff(was, is, (&before, &here), style);
            view.diff = session.globals.json.then(|| text_diff(was, is, (&before, &here), &Style::PLAIN));
        }
        _ => {
            let (was, is) = (bytes(old.len() as u64), bytes(now.len() as u64));
            view.text = match view.present {
                true => format!("{before} and {here} differ, and are no text ({was}, {is})\n"),
                false => format!("{before} is gone ({was}, no text)\n"),
            };
        }
    }
    Ok(view)
}

/// What the former content is called: `swot@3`, and the file's name if there are several.
fn name_of(version: &Version, entry: &Entry, output: &OutputRecord) -> String {
    let path = clean(&output.path);
    match &version.name {
        Some(name) => format!("{path} ({})", clean(name)),
        None => format!("{path} (as it was made {})", clean(&entry.at)),
    }
}
