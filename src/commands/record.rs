//! `planexe record`: packs the answers of a run into one file.

use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::style::{bytes, clean, count};
use planexe_llm::recorded::RecordedFile;
use planexe_query::replay_pack::{Packed, pack};
use planexe_query::selection::{Units, judge};
use planexe_store::index::Index;

/// What `planexe record` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct RecordArgs {
    /// The file to write, for a model with `api = "recorded"`
    #[arg(value_name = "FILE")]
    pub to: PathBuf,

    /// A description for people [default: the one in the existing file]
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
    file: String,
    answers: usize,
    bytes: usize,
    /// False if the file held just this already.
    changed: bool,
    #[serde(flatten)]
    packed: &'a Packed,
}

/// Packs answers.
pub fn run(session: &Session, args: &RecordArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let store = &opened.store;
    let former = read_former(&args.to)?;
    let units = Units::new(&opened.project, store);
    let index = Index::load(store);
    let env = |name: &str| session.variable(name);
    let packed = pack(&units, &judge(&opened.project, store, &index, &units.finder, &env))?;
    if packed.answers.is_empty() {
        return Err(Error::new(
            Kind::Refused,
            "no task is done that a model answered, so there is nothing to record",
        )
        .code("nothing_to_record")
        .hint("`planexe build` first"));
    }
    let about = args.about.clone().or_else(|| former.as_ref().map(|(file, _)| file.about.clone()));
    let file = RecordedFile { schema: 1, about: about.unwrap_or_default(), answers: packed.answers.clone() };
    let content = file.to_bytes();
    let changed = former.is_none_or(|(_, bytes)| bytes != content);
    if changed {
        fs::write_atomic(&args.to, &content, Durability::Synced)?;
    }
    let shown = planexe_pipeline::manifest::diagnostic::shown_path(&args.to);
    if session.globals.json {
        let view =
            View { file: shown, answers: file.answers.len(), bytes: content.len(), changed, packed: &packed };
        session.print_answer(store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    tell(session, &packed);
    let what = format!("{}, {}", count(packed.answers.len() as u64, "answer"), bytes(content.len() as u64));
    session.say(&match changed {
        true => format!("recorded {what} in `{shown}`"),
        false => format!("`{shown}` holds these {what} already"),
    });
    Ok(exit::DONE)
}

/// The file as it is, which must be one of recorded answers if it exists.
fn read_former(path: &Path) -> Result<Option<(RecordedFile, Vec<u8>)>, Error> {
    let Some(bytes) = fs::read_optional(path)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    match RecordedFile::read(&bytes) {
        Ok(file) => Ok(Some((file, bytes))),
        Err(why) => {
            Err(Error::new(Kind::Refused, format!("`{}` {why}, so it is not written over", path.display()))
                .code("not_recorded_answers")
                .hint("name another file, or remove this one first"))
        }
    }
}

/// What a person should know of the answers.
fn tell(session: &Session, packed: &Packed) {
    let notes: [(&[String], &str); 6] = [
        (&packed.samples, "was played as a sample and is recorded as the answer to the present prompt"),
        (&packed.edited, "was edited by hand: recorded is what the model said"),
        (&packed.by_hand, "was marked done by hand: its text is recorded as the answer"),
        (&packed.stale, "is stale: recorded under the prompt it was made with"),
        (&packed.lost, "is done, but its answer is gone: not recorded"),
        (&packed.open, "is not done: not recorded"),
    ];
    for (tasks, what) in notes {
        match tasks {
            [] => {}
            [one] => session.say(&format!("note: {} {what}", clean(one))),
            [first, .., last] => session.say(&format!(
                "note: {} ({} to {}): each {what}",
                count(tasks.len() as u64, "task"),
                clean(first),
                clean(last)
            )),
        }
    }
}
