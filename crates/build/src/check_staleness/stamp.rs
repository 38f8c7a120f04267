//! A number for all the files a verdict rested on: while it is the same, the verdict is.

use super::{StaleCheck, previous};
use planexe_base::fs::{self, FsError};
use planexe_engine::graph::{Graph, TaskId};
use planexe_pipeline::items;
use planexe_pipeline::project::Recipe;
use planexe_store::index::is_racy;
use planexe_store::sidecar::Sidecar;

impl StaleCheck<'_> {
    /// A number that stands for all the files a fresh verdict rested on: while it is the same, the
    /// verdict is. None if a file is missing or so young at `at_ns` that a change since might leave the
    /// same times: of a verdict that was just found, the moment before it was.
    pub fn stamp(&self, graph: &Graph, id: TaskId, at_ns: i64) -> Option<u128> {
        let task = &graph[id];
        let first = task.outputs.first()?;
        // It rests on the records of all that is before it, too.
        if self.project.spec(task).uses_records() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.project.digest.0.as_bytes());
        hasher.update(&[u8::from(self.rules.model), u8::from(self.rules.by_mtime)]);
        if let Some(item) = &task.item {
            hasher.update(items::canonical(&item.value).as_bytes());
            hasher.update(&(item.index as u64).to_le_bytes());
        }
        if let Recipe::Command(command) = &self.project.spec(task).recipe {
            for name in &command.env_names {
                hasher.update((self.env)(name).unwrap_or_default().as_bytes());
            }
        }
        let mut add = |name: &str, signature: Result<Option<fs::Signature>, FsError>| {
            let s = signature.ok().flatten()?;
            if is_racy(&s, at_ns) {
                return None;
            }
            // A folder that was renamed leaves no trace in the files below it.
            hasher.update(name.as_bytes());
            hasher.update(&[0]);
            for number in [s.size, s.mtime_ns as u64, s.ctime_ns as u64, s.ino, u64::from(s.mode)] {
                hasher.update(&number.to_le_bytes());
            }
            Some(())
        };
        let marker = self.store.sidecar_path(first, Sidecar::Done);
        add(marker.strip_prefix(self.store.run_dir()).ok()?.to_str()?, fs::signature(&marker))?;
        for output in &task.outputs {
            add(output, fs::signature(&self.store.path(output)))?;
        }
        for files in self.finder.resolve(graph, task).ok()? {
            // Nor does one that a link took the place of.
            if files.glob || task.item.is_some() {
                self.stays_inside(&files.paths).ok()?;
            }
            for path in &files.paths {
                let signature = fs::linked::signature(&self.store.path(path));
                if files.optional && !matches!(signature, Ok(Some(_))) {
                    continue;
                }
                add(path, signature)?;
            }
        }
        if let Some(previous) = previous(graph, task) {
            add(&previous.paths[0], fs::signature(&self.store.path(&previous.paths[0])))?;
        }
        let digest = hasher.finalize();
        Some(u128::from_le_bytes(digest.as_bytes()[..16].try_into().ok()?))
    }
}
