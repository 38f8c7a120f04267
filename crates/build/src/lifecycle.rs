//! What a build does before its first task and after its last: the housekeeping of a run. A build that
//! starts nothing does none of it, unless the one before was killed.

use std::collections::BTreeMap;

use crate::run_loop::{Ended, Stopped};
use crate::runner::BuildContext;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::style;
use planexe_engine::slots::AtOnce;
use planexe_llm::estimate::Calibration;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::lock::{Owner, RunLock};
use planexe_store::run_json::{RecordedPhase, RunJson};

/// `run.json` of one build.
pub struct RunRecord<'a> {
    store: &'a Store,
    project: &'a Project,
    json: Option<RunJson>,
    /// The null-build record of the last build stands: it was not killed, nor was anybody else since, and left nothing beside
    /// outputs.
    tidy: bool,
}

impl<'a> RunRecord<'a> {
    /// Nothing is written yet.
    pub fn new(store: &'a Store, project: &'a Project, tidy: bool) -> RunRecord<'a> {
        RunRecord { store, project, json: None, tidy }
    }

    /// Before the first task: the owner named, the index taken down, torn logs mended, our own leftovers swept,
    /// `run.json` says running.
    pub fn begin(&mut self, lock: &mut RunLock, ctx: &BuildContext, at_once: AtOnce) -> Result<(), FsError> {
        lock.announce(&Owner { at_once: Some(at_once), ..Owner::this("planexe build") })?;
        ctx.index.begin_run()?;
        if self.project.specs.iter().any(|spec| spec.prompts().next().is_some()) {
            self.store.calls().keep_room(self.project.calls_at_once())?;
        }
        for (file, cut) in self.store.mend_all()? {
            ctx.note(
                None,
                true,
                format!("`{file}` had a torn end: {} cut off", style::count(cut.cut_bytes, "byte")),
            );
        }
        self.store.mend_overview()?;
        // What a build that was killed was at is of no use to anybody.
        let _ = self.store.clear_live();
        let swept = if self.tidy { self.store.sweep([])? } else { sweep(self.store, self.project)? };
        if swept > 0 {
            ctx.note(None, false, format!("temporary files of an earlier build were removed: {swept}"));
        }
        self.store.keep_damaged_run()?;
        let run_id = self.store.read_run().map_or_else(|| uuid::Uuid::now_v7().to_string(), |run| run.run_id);
        let mut json = RunJson::new(run_id, RecordedPhase::Running);
        json.started_utc = Some(clock::now_utc());
        json.pipeline = Some(self.project.name.clone());
        json.profile = self.project.profile.clone();
        json.pid = Some(ctx.pid);
        json.host = Some(ctx.host.clone());
        json.steps_total = Some(ctx.steps_total);
        self.store.write_run(&json, Durability::Unsynced)?;
        self.json = Some(json);
        Ok(())
    }

    /// A build that had nothing to do: its word on a run that was given up is a new one, and what such a build, killed
    /// while it wrote its caches, left behind goes.
    fn end_of_nothing(&self, ended: &Ended) {
        let _ = self.store.sweep_caches();
        if let Some(mut json) = self.store.read_run().filter(|run| run.phase == RecordedPhase::Aborted)
            && ended.stopped.is_none()
            && !ended.fails
        {
            json.phase =
                if ended.waiting.is_empty() { RecordedPhase::Completed } else { RecordedPhase::Paused };
            let _ = self.store.write_run(&json, Durability::Unsynced);
        }
    }

    /// After the last task.
    pub fn end(&mut self, ended: &Ended) {
        self.store.calls().give_room_back();
        let Some(mut json) = self.json.take() else { return self.end_of_nothing(ended) };
        json.phase = match ended.stopped {
            Some(Stopped::Abort) => RecordedPhase::Aborted,
            Some(_) => RecordedPhase::Stopped,
            None if ended.fails || ended.broken.is_some() => RecordedPhase::Failed,
            None if !ended.waiting.is_empty() => RecordedPhase::Paused,
            None => RecordedPhase::Completed,
        };
        json.ended_utc = Some(clock::now_utc());
        if let Some(last) = &ended.last_completed {
            json.last_completed_step = Some(last.step);
            json.last_completed_task = Some(last.task.clone());
            json.last_checkpoint_id = last.checkpoint_id.clone();
            json.decision_id = Some(last.decision_id.clone());
        }
        // It can be told from the sidecars again: not worth failing a build for.
        let _ = self.store.write_run(&json, Durability::Unsynced);
    }
}

/// Removes temporary files of processes that are gone, beside outputs and in planexe's own folder; returns how many.
/// Under the lock.
pub fn sweep(store: &Store, project: &Project) -> Result<usize, FsError> {
    let graph = &project.graph;
    let mut folders: Vec<&str> = graph
        .ids()
        .flat_map(|id| &graph[id].outputs)
        .map(|output| output.rsplit_once('/').map_or("", |(folder, _)| folder))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let mut there = Vec::new();
    for folder in folders {
        there.extend(folders_like(store, folder)?);
    }
    store.sweep(there.iter().map(String::as_str))
}

/// The folders of a run that a pattern with keys of items in it may mean.
fn folders_like(store: &Store, pattern: &str) -> Result<Vec<String>, FsError> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut deeper = Vec::new();
        for folder in found {
            let below =
                |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if !part.contains("{{") {
                deeper.push(below(part));
                continue;
            }
            for (name, kind) in fs::list_dir(&store.path(&folder))? {
                if let (FileKind::Dir, Some(name)) =
                    (kind, name.to_str().filter(|name| !name.starts_with('.')))
                {
                    deeper.push(below(name));
                }
            }
        }
        found = deeper;
    }
    Ok(found)
}

/// What earlier builds of the run learned of tokenizers: a cache, lost without harm.
pub fn read_learned(store: &Store) -> BTreeMap<String, Calibration> {
    let bytes = fs::read(&store.planexe_dir().join("tokenizers.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Keeps it for the next build.
pub fn write_learned(store: &Store, learned: &BTreeMap<String, Calibration>) {
    if learned.is_empty() || *learned == read_learned(store) {
        return;
    }
    if let Ok(bytes) = serde_json::to_vec_pretty(learned) {
        let _ = fs::write_atomic(&store.planexe_dir().join("tokenizers.json"), &bytes, Durability::Unsynced);
    }
}
