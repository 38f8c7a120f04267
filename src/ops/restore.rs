//! Brings former outputs back.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::ops::Session;
use crate::ops::former::{find, no_version, nothing_kept, split};
use crate::ops::plan_input::editable_plan;
use planexe_base::exit::{Error, Kind};
use planexe_base::record::Marker;
use planexe_base::style::clean;
use planexe_build::touch;
use planexe_engine::staleness::Decision;
use planexe_pipeline::open::Opened;
use planexe_query::history_view::{Kept, Version};
use planexe_query::selection::{Units, judge};
use planexe_store::RunLock;
use planexe_store::index::Index;
use planexe_store::rewind::{NoCheckpoint, Rewind};
use planexe_ui::views::shell_word;

/// Why a build does nothing with what is restored.
pub const GONE: &str = "it is not in the pipeline";

/// One task or item brought back, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Back {
    /// Its name.
    pub task: String,
    /// What is typed for the version; none for what stood there before an edit by hand.
    pub version: Option<String>,
    /// When what is back was recorded.
    pub time_utc: String,
    /// Its outputs.
    pub files: Vec<String>,
    /// Why the next build would make it again all the same.
    pub stale: Option<String>,
    /// Whether `touch` would keep it.
    #[serde(skip)]
    pub touchable: bool,
}

/// The answer, as data.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct RestoreView {
    /// Whether it was done.
    pub done: bool,
    /// The checkpoint, if it was to one.
    pub checkpoint_id: Option<String>,
    /// What is back.
    pub restored: Vec<Back>,
    /// Tasks that were not done then and are pending now.
    pub pending: Vec<String>,
    /// Later checkpoints, which are gone.
    pub checkpoints_dropped: usize,
    /// Isolated tasks among them: their files are restored, and git has what was merged of them all the same.
    pub git_stays: Vec<String>,
}

/// What is brought back: of which task, to which version.
pub type Chosen = (Kept, Version);

/// Brings tasks back to former versions. Without a lock nothing is changed.
pub fn to_versions(
    session: &Session,
    opened: &Opened,
    tasks: &[String],
    lock: Option<&mut RunLock>,
) -> Result<(RestoreView, Vec<Chosen>), Error> {
    let store = &opened.store;
    let dry_run = lock.is_none();
    let units = Units::new(&opened.project, store);
    let mut chosen: Vec<Chosen> = Vec::new();
    // By first output: what was typed, and the version that means.
    let mut known: HashMap<String, (&str, Option<String>)> = HashMap::new();
    for written in tasks {
        // Everything is found before anything is changed.
        let found = choose(opened, &units, written)?;
        if found.is_empty() {
            session.notice(&format!("{}: all that is kept is as it is now", clean(written)));
        }
        for (kept, version) in found {
            match known.get(&kept.first) {
                None => {
                    known.insert(kept.first.clone(), (written, version.name.clone()));
                    chosen.push((kept, version));
                }
                Some((_, same)) if *same == version.name => {}
                Some((other, _)) => return Err(two_versions(&kept, other, written)),
            }
        }
    }
    refuse_lost(opened, &chosen)?;
    let mut view = RestoreView { done: !dry_run && !chosen.is_empty(), ..RestoreView::default() };
    if let (Some(lock), false) = (lock, chosen.is_empty()) {
        session.announce(opened, lock, "planexe restore")?;
    }
    if !dry_run {
        session.long(chosen.len(), |steps| {
            chosen.iter().try_for_each(|(kept, version)| {
                let put = store.put_back(&version.entry);
                steps.one();
                put.map(drop).map_err(|error| {
                    Error::new(Kind::Internal, format!("`{}` cannot be restored", kept.name))
                        .because(&error.within(store.run_dir()))
                })
            })
        })?;
    }
    for (kept, version) in &chosen {
        view.restored.push(Back {
            task: kept.name.clone(),
            version: version.name.clone(),
            time_utc: version.entry.at.clone(),
            files: version.entry.outputs.iter().map(|output| output.path.clone()).collect(),
            stale: None,
            touchable: false,
        });
    }
    find_isolated(opened, &mut view);
    if !dry_run {
        find_stale(session, opened, &mut view);
    }
    Ok((view, chosen))
}

/// One task is named with two of its versions.
fn two_versions(kept: &Kept, one: &str, other: &str) -> Error {
    let message = format!("`{one}` and `{other}` are two versions of `{}`: wanted one", kept.name);
    Error::usage(message).hint(format!("`planexe restore {}` brings back the second", shell_word(other)))
}

/// The versions a name means: none if all that is kept is there already.
fn choose(opened: &Opened, units: &Units<'_>, written: &str) -> Result<Vec<Chosen>, Error> {
    let store = &opened.store;
    let (name, n) = split(opened, written);
    let all = find(opened, units, name)?;
    if all.iter().all(|kept| kept.entries.is_empty()) && n.is_none() {
        let edited = all.iter().any(|kept| kept.version(store, None).is_ok_and(|version| version.is_some()));
        if !edited {
            return Err(nothing_kept(name));
        }
    }
    let mut chosen: Vec<Chosen> = Vec::new();
    for kept in all {
        let version = kept.version(store, n)?;
        // The content may be there, and only its marker be gone.
        let marker_gone = || !matches!(store.read_done(&kept.first), Marker::Valid(_));
        let version = version.or_else(|| kept.last().filter(|_| n.is_none() && marker_gone()));
        chosen.extend(version.map(|version| (kept, version)));
    }
    match n {
        Some(n) if chosen.is_empty() => Err(no_version(name, n)),
        _ => Ok(chosen),
    }
}

fn refuse_lost(opened: &Opened, chosen: &[Chosen]) -> Result<(), Error> {
    let mut lost = Vec::new();
    for (kept, version) in chosen {
        for output in &version.entry.outputs {
            if !opened.store.history().has(&output.blake3) {
                lost.push(format!("the content of `{}` ({}) is gone", output.path, kept.name));
            }
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let mut error =
        Error::new(Kind::Refused, "not all of it is kept any more, so nothing was changed").code("not_kept");
    error.causes = lost;
    Err(error)
}

/// Brings all outputs back to a checkpoint. Without a lock nothing is changed.
pub fn to_checkpoint(
    session: &Session,
    opened: &Opened,
    id: &str,
    lock: Option<&mut RunLock>,
) -> Result<(RestoreView, Rewind), Error> {
    let store = &opened.store;
    let dry_run = lock.is_none();
    let plan = store.plan_rewind(id)?.map_err(|none| no_checkpoint(opened, id, none))?;
    if !plan.missing.is_empty() {
        let mut error = Error::new(
            Kind::Refused,
            format!("not all that was there at checkpoint `{}` is kept, so nothing was changed", plan.to.id),
        )
        .code("not_kept");
        error.causes = plan
            .missing
            .iter()
            .map(|(task, path)| format!("the content of `{path}` ({task}) is gone"))
            .collect();
        return Err(error);
    }
    if let Some(lock) = lock {
        let command = format!("planexe restore --checkpoint {}", shell_word(&plan.to.id));
        session.announce(opened, lock, &command)?;
        session.long(plan.steps(), |steps| store.rewind(&plan, &|| steps.one()))?;
    }
    let mut view = view_of(&plan, !dry_run);
    find_isolated(opened, &mut view);
    if !dry_run {
        find_stale(session, opened, &mut view);
    }
    Ok((view, plan))
}

fn view_of(plan: &Rewind, done: bool) -> RestoreView {
    let back = |checkpoint: &planexe_store::Checkpoint| Back {
        task: checkpoint.task.clone(),
        version: None,
        time_utc: checkpoint.time_utc.clone(),
        files: checkpoint.outputs.iter().map(|output| output.path.clone()).collect(),
        stale: None,
        touchable: false,
    };
    RestoreView {
        done,
        checkpoint_id: Some(plan.to.id.clone()),
        restored: plan.back.iter().map(back).collect(),
        pending: plan.pending.iter().map(|(task, _)| task.clone()).collect(),
        checkpoints_dropped: plan.dropped,
        git_stays: Vec::new(),
    }
}

fn no_checkpoint(opened: &Opened, id: &str, none: NoCheckpoint) -> Error {
    let error = |message: String| Error::usage(message).code("no_checkpoint");
    match none {
        NoCheckpoint::Ambiguous(all) => {
            error(format!("more than one checkpoint begins with `{id}`: {}", all.join(", ")))
        }
        NoCheckpoint::Unknown => {
            let last = opened.store.checkpoints().last().ok().flatten();
            let error = error(format!("no checkpoint `{id}`"));
            match last {
                Some(last) => error.hint(format!(
                    "the last one is `{}` ({}); each task's `.DONE` names its own",
                    last.id, last.task
                )),
                None => error.hint("the run has none yet: each task that is done makes one"),
            }
        }
    }
}

/// Finds the tasks whose commits are in git, which is not moved.
fn find_isolated(opened: &Opened, view: &mut RestoreView) {
    let units = Units::new(&opened.project, &opened.store);
    let isolated = |name: &&String| {
        let task = units.graph.find(name).map(|id| &units.graph[id]);
        task.is_some_and(|task| opened.project.spec(task).isolate.is_some())
    };
    let names = view.restored.iter().map(|back| &back.task).chain(&view.pending);
    view.git_stays = names.filter(isolated).cloned().collect();
}

/// Finds out what the next build would make again all the same.
fn find_stale(session: &Session, opened: &Opened, view: &mut RestoreView) {
    let index = Index::load(&opened.store);
    let units = Units::new(&opened.project, &opened.store);
    let env = |name: &str| session.variable(name);
    let judge = judge(&opened.project, &opened.store, &index, &units.finder, &env);
    for back in &mut view.restored {
        let Some(id) = units.graph.find(&back.task) else {
            // The plan is no task's, and read all the same.
            let is_plan = editable_plan(opened).is_ok_and(|plan| plan == back.task);
            back.stale = (!is_plan).then(|| GONE.to_owned());
            continue;
        };
        let judgement = judge.judge(&units.graph, id, false);
        if let Decision::Stale { reasons, .. } = &judgement.decision {
            back.stale = reasons.first().map(|reason| reason.text());
            back.touchable =
                touch::faults(&opened.project, &opened.store, &units.graph[id], &judgement).is_empty();
        }
    }
}
