//! What `gc` may delete besides former contents: calls that no record uses, files that were set aside, old checkpoints.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Checkpoint, Store, jsonl};
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FileKind, FsError};

/// A file that nothing rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// A file that may be deleted.
    pub path: PathBuf,
    /// The space it takes.
    pub bytes: u64,
    /// When it was last changed, nanoseconds since 1970.
    pub changed_ns: i64,
    /// A call, or something that was set aside.
    pub is_call: bool,
}

/// What of a task's calls must stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    /// All: the task is not done, and its next attempt goes on with them.
    All,
    /// The one its record rests on; if it does not say, the newest that may be used.
    InUse(Option<String>),
}

impl Store {
    /// Files beside history that nothing rests on, newest first. `stay` says of each task of the pipeline what must stay
    /// of its calls; of other tasks nothing must.
    pub fn leftovers(&self, stay: &HashMap<String, Calls>) -> Result<Vec<Leftover>, FsError> {
        let mut kept: HashSet<String> = HashSet::new();
        let mut newest: HashMap<String, (String, String)> = HashMap::new();
        self.calls().for_each(|call| match stay.get(&call.record.task) {
            Some(Calls::All) => drop(kept.insert(call.name)),
            Some(Calls::InUse(Some(name))) if *name == call.name => drop(kept.insert(call.name)),
            Some(Calls::InUse(None)) if call.usable && !call.record.evaluation => {
                let last = newest.entry(call.record.task).or_default();
                *last = last.clone().max((call.record.ended_utc, call.name));
            }
            Some(Calls::InUse(_)) | None => {}
        })?;
        kept.extend(newest.into_values().map(|(_, name)| name));
        let mut all = Vec::new();
        let calls = self.calls().dir();
        for_each_file(calls, &mut |path| {
            let name = path.strip_prefix(calls).unwrap_or(path).to_string_lossy().into_owned();
            if !kept.contains(&name) { add(&mut all, path, true) } else { Ok(()) }
        })?;
        let open = |task: &str| stay.get(task) == Some(&Calls::All);
        for_each_file(&self.partial_dir(), &mut |path| match self.is_of_candidate(path, open) {
            true => Ok(()),
            false => add(&mut all, path, false),
        })?;
        add(&mut all, &self.planexe_dir().join("checkpoints.dropped.jsonl"), false)?;
        all.sort_by(|a, b| (b.changed_ns, &a.path).cmp(&(a.changed_ns, &b.path)));
        Ok(all)
    }

    /// Forgets leftovers, and the folders they leave empty.
    pub fn forget(&self, leftovers: &[Leftover]) -> Result<(), FsError> {
        for leftover in leftovers {
            fs::remove(&leftover.path)?;
            let folder = leftover.path.parent().filter(|folder| *folder != self.planexe_dir());
            if let Some(folder) = folder {
                fs::remove_empty_dir(folder)?;
            }
        }
        Ok(())
    }

    /// Forgets checkpoints older than a moment (RFC 3339, UTC), but for the last of each task. Returns how many.
    pub fn forget_checkpoints(&self, older_than: &str, dry_run: bool) -> Result<usize, FsError> {
        let all = self.checkpoints().list_to_rewrite()?;
        let last: HashMap<&str, usize> = all.iter().enumerate().map(|(n, c)| (c.task.as_str(), n)).collect();
        let old = |at: &str| clock::seconds_between(at, older_than).is_some_and(|seconds| seconds > 0.0);
        let stays = |(n, c): &(usize, &Checkpoint)| last[c.task.as_str()] == *n || !old(&c.time_utc);
        let left: Vec<&Checkpoint> = all.iter().enumerate().filter(stays).map(|(_, c)| c).collect();
        if left.len() < all.len() && !dry_run {
            let path = self.planexe_dir().join("checkpoints.jsonl");
            fs::write_atomic(&path, &jsonl::to_lines(&left), Durability::Synced)?;
        }
        Ok(all.len() - left.len())
    }
}

fn add(all: &mut Vec<Leftover>, path: &Path, is_call: bool) -> Result<(), FsError> {
    if let Some(signature) = fs::plain_signature(path)? {
        let (bytes, changed_ns) = (signature.size, signature.mtime_ns);
        all.push(Leftover { path: path.to_owned(), bytes, changed_ns, is_call });
    }
    Ok(())
}

fn for_each_file(folder: &Path, visit: &mut dyn FnMut(&Path) -> Result<(), FsError>) -> Result<(), FsError> {
    for (name, kind) in fs::list_dir(folder)? {
        let path = folder.join(name);
        match kind {
            FileKind::Dir => for_each_file(&path, visit)?,
            FileKind::File => visit(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Of leftovers, newest first, those that go: older than a moment, or beyond a size.
pub fn surplus(
    leftovers: Vec<Leftover>,
    older_than: Option<SystemTime>,
    max_bytes: Option<u64>,
) -> Vec<Leftover> {
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let limit_ns = older_than.map(|time| since_1970(time).as_nanos() as i64);
    let mut total = 0;
    let mut goes = |leftover: &Leftover| {
        let too_old = limit_ns.is_some_and(|limit| leftover.changed_ns < limit);
        let too_much = max_bytes.is_some_and(|max| total + leftover.bytes > max);
        total += if too_old || too_much { 0 } else { leftover.bytes };
        too_old || too_much
    };
    leftovers.into_iter().filter(|leftover| goes(leftover)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_long_ago_is_older_than_all_others() {
        let (_dir, store) = crate::fixtures::store();
        fs::make_dirs(&store.partial_dir(), Durability::Unsynced).unwrap();
        let centuries = std::time::Duration::from_secs(10_000_000_000);
        for (name, before) in [("a", centuries), ("b", std::time::Duration::ZERO)] {
            let path = store.partial_dir().join(name);
            fs::write_atomic(&path, b"x", Durability::Unsynced).unwrap();
            fs::set_mtime(&path, SystemTime::now() - before).unwrap();
        }
        let left = store.leftovers(&HashMap::new()).unwrap();
        let names: Vec<_> = left.iter().filter_map(|one| one.path.file_name()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn the_oldest_go_first() {
        let of = |changed_ns, bytes| Leftover { path: PathBuf::new(), bytes, changed_ns, is_call: true };
        let all = vec![of(30, 5), of(20, 5), of(10, 5)];
        let ages = |left: Vec<Leftover>| left.iter().map(|one| one.changed_ns).collect::<Vec<_>>();
        assert_eq!(ages(surplus(all.clone(), None, None)), Vec::<i64>::new());
        assert_eq!(ages(surplus(all.clone(), None, Some(11))), [10]);
        assert_eq!(ages(surplus(all.clone(), None, Some(0))), [30, 20, 10]);
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(20);
        assert_eq!(ages(surplus(all, Some(at), None)), [10]);
    }
}
