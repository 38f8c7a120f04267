//! `planexe done`: a person is finished, or passes a paused gate.

use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::names::find_parts;
use planexe_base::clock;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::State;
use planexe_base::style::clean;
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::TaskId;
use planexe_engine::staleness::Decision;
use planexe_pipeline::check;
use planexe_pipeline::manifest::types::GateAction;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Recipe;
use planexe_query::selection::{Unit, Units, judge};
use planexe_store::control::Passed;
use planexe_store::index::Index;
use planexe_store::lock::RunLock;
use planexe_store::{StatusRead, Store, Watcher};
use planexe_ui::views::shell_word;

/// Largest file that is copied as evidence.
const LARGEST: u64 = 256 << 20;

/// What `planexe done` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DoneArgs {
    /// The task that waits
    #[arg(value_name = "TASK")]
    pub task: String,

    /// The result: a file to copy to the task's first output, which must not exist yet
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View<'a> {
    /// Tasks that pass.
    passed: &'a [String],
    /// Who let them.
    by: &'a str,
    /// Outputs that are not written yet: the build writes who let the task pass.
    missing: &'a [String],
    /// Whether a build runs that takes it up by itself.
    build_runs: bool,
}

/// Passes a task that waits.
pub fn run(session: &Session, args: &DoneArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let store = &opened.store;
    let units = Units::new(&opened.project, store);
    let parts = find_parts(&opened, &units, std::slice::from_ref(&args.task))?;
    let recipe = recipe(&opened, parts[0].0)?;
    // Neither a person's task nor a gate has items.
    let all = units.of(&parts[0])?;
    let [unit] = &all[..] else {
        return Err(Error::new(Kind::Internal, format!("BUG: `{}` is more than one task", args.task)));
    };
    let judgement = judged(session, &opened, &units, unit);
    let fresh = |judgement: &Judgement| matches!(judgement.decision, Decision::Fresh { .. });
    match state_of(store, unit) {
        _ if judgement.as_ref().is_some_and(fresh) => {
            session.say(&format!("{} is done already", clean(&unit.name)));
            return answer(session, &opened, &[], &[]);
        }
        Some(State::Waiting) => {}
        // A person may be ahead of the build; a gate that was not looked at has nothing to pass.
        _ if recipe == "human" => {}
        _ => {
            let message = format!("`{}` does not wait: its condition was not evaluated yet", unit.name);
            return Err(Error::new(Kind::Refused, message)
                .code("not_waiting")
                .hint("`planexe build` comes to it, and waits there if need be"));
        }
    }
    if let Some(file) = &args.evidence {
        put_evidence(store, unit, recipe, file)?;
    }
    let mut missing = unit.outputs.clone();
    let there = |path: &String| fs::signature(&store.path(path)).is_ok_and(|s| s.is_some_and(|s| s.size > 0));
    missing.retain(|path| recipe == "human" && !there(path));
    if recipe == "human"
        && let Some(wrong) = wrong(&opened, parts[0].0, unit, judgement.as_ref(), &missing)
    {
        let hint = format!("put it right, then type `planexe done {}`", shell_word(&unit.name));
        return Err(Error::new(Kind::Refused, wrong).code("not_accepted").hint(hint));
    }
    let (by, at, decision_id) = (session.user(), clock::now_utc(), waiting_with(store, unit));
    store.pass(&Passed { task: unit.name.clone(), by, at, decision_id })?;
    answer(session, &opened, std::slice::from_ref(&unit.name), &missing)
}

/// Copies a file to where a person's task has its first output. What is there is not written over.
fn put_evidence(store: &Store, unit: &Unit, recipe: &str, file: &Path) -> Result<(), Error> {
    let (Some(first), "human") = (unit.outputs.first(), recipe) else {
        return Err(Error::usage(format!("`{}` is a gate: it is passed, and shows nothing", unit.name))
            .hint("leave `--evidence` out"));
    };
    let bytes = fs::read_capped(file, LARGEST).map_err(|error| Error::usage(error.to_string()))?;
    if bytes.is_empty() {
        return Err(Error::usage(format!("`{}` is empty", file.display())));
    }
    let is_text = [".md", ".txt", ".json", ".csv"].iter().any(|end| first.ends_with(end));
    if is_text && std::str::from_utf8(&bytes).is_err() {
        return Err(Error::usage(format!(
            "`{}` is no text, and `{}` is to be one",
            file.display(),
            clean(first)
        ))
        .hint("write what it shows, and where it is kept"));
    }
    let target = store.path(first);
    match fs::read_optional(&target)? {
        Some(there) if there == bytes => return Ok(()),
        Some(there) if !there.is_empty() => {
            return Err(Error::usage(format!(
                "`{}` is there already, and says something else",
                clean(first)
            ))
            .hint("without `--evidence` it is taken as it is"));
        }
        _ => {}
    }
    fs::make_dirs_inside(store.run_dir(), &target, Durability::Synced)?;
    Ok(fs::write_atomic(&target, &bytes, Durability::Synced)?)
}

/// Tells what was noted, and what follows.
fn answer(session: &Session, opened: &Opened, passed: &[String], missing: &[String]) -> Result<u8, Error> {
    let run_dir = opened.store.run_dir();
    let watches = Watcher::of(&opened.store).is_some();
    let build_runs = watches || RunLock::owner(run_dir).is_some();
    let by = session.user();
    if session.globals.json {
        let view = View { passed, by: &by, missing, build_runs };
        session.print_answer(run_dir, &view)?;
        return Ok(exit::DONE);
    }
    for name in passed {
        session.say(&format!("{}: noted, by {}", clean(name), clean(&by)));
    }
    for path in missing {
        session.say(&format!(
            "`{}` is not written: it will hold \"done by {}\"; write it now if it should say more",
            clean(path),
            clean(&by)
        ));
    }
    if !passed.is_empty() {
        session.say(match build_runs {
            true if watches => "`planexe watch` continues with it",
            true => "the running build continues with it",
            false => "next: planexe build",
        });
    }
    Ok(exit::DONE)
}

/// What kind of task it is, if it is one that can be let pass.
fn recipe(opened: &Opened, id: TaskId) -> Result<&'static str, Error> {
    let task = &opened.project.graph[id];
    let refuse = |why: &str| Error::new(Kind::Refused, format!("`{}` {why}", task.name)).code("not_human");
    match &opened.project.spec(task).recipe {
        Recipe::Human(_) => Ok("human"),
        Recipe::Gate(gate) => match gate.action {
            GateAction::Pause => Ok("gate"),
            GateAction::Stop => Err(refuse("is a gate that stops the build; no person is asked")
                .hint("`action = \"pause\"` under its `gate` would let a person pass it")),
            GateAction::Warn => Err(refuse("is a gate that only warns; it does not wait for a person")),
        },
        _ if opened.store.to_be_merged(&task.name)?.is_some() => {
            let name = shell_word(&task.name);
            Err(refuse("is an isolated task; what it waits for is its merge, not a word")
                .hint(format!("`planexe explain {name}` says what is in the way; then `planexe resume`")))
        }
        other => {
            let refused = refuse(&format!("is a {} task; it does not wait for a person", other.name()));
            let name = shell_word(&task.name);
            let is_there = |output: &String| opened.store.path(output).is_file();
            let is_whole = !task.outputs.is_empty() && task.outputs.iter().all(is_there);
            Err(refused.hint(match is_whole || opened.store.candidate(&task.name)?.is_some() {
                true => format!("`planexe touch {name}` marks it done with its outputs as they are"),
                false => format!("`planexe build {name}` makes it"),
            }))
        }
    }
}

/// What is wrong with what a person wrote, if the task says what it must satisfy. What looks at inputs that are not there
/// yet is passed over; the build tries it.
fn wrong(
    opened: &Opened,
    id: TaskId,
    unit: &Unit,
    judgement: Option<&Judgement>,
    missing: &[String],
) -> Option<String> {
    let spec = opened.project.spec(&opened.project.graph[id]);
    let prepared = judgement.and_then(|judgement| judgement.prepared.as_ref());
    let check = prepared.and_then(|prepared| prepared.check.as_deref()).or(spec.recipe.form().1)?;
    let first = unit.outputs.first()?;
    if missing.contains(first) {
        return Some(format!("`{first}` is not written, and `{}` says what must be in it", unit.name));
    }
    let text = match fs::read_to_string(&opened.store.path(first)) {
        Ok(text) => text,
        Err(error) => return Some(error.to_string()),
    };
    let violations = check::validate(&text, None, Some(check)).err()?;
    Some(format!("`{first}` will not do: {}", violations.first()?))
}

fn state_of(store: &Store, unit: &Unit) -> Option<State> {
    match store.read_status(unit.outputs.first()?) {
        StatusRead::Valid(status) => Some(status.state),
        _ => None,
    }
}

/// The decision a task waits with.
fn waiting_with(store: &Store, unit: &Unit) -> Option<String> {
    match store.read_status(unit.outputs.first()?) {
        StatusRead::Valid(status) if status.state == State::Waiting => status.last.decision_id,
        _ => None,
    }
}

/// The task as it is now, with what it would be shown.
fn judged(session: &Session, opened: &Opened, units: &Units<'_>, unit: &Unit) -> Option<Judgement> {
    let index = Index::load(&opened.store);
    let env = |name: &str| session.variable(name);
    let judge = judge(&opened.project, &opened.store, &index, &units.finder, &env);
    units.in_graph(unit).map(|id| judge.judge(&units.graph, id, false))
}
