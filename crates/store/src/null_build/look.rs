//! Holding a null-build record against the files as they are: a look at each, and a reading of those that look different.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::record::{DIGEST, Details, Folder, Name, Record, raw};
use super::{digest_of_variable, plain_folders};
use crate::index::is_racy;
use planexe_base::cores;
use planexe_base::fs::{self, OpenDir, Signature};

/// So many files may differ in signature before it is cheaper to judge anew.
const MOST_TOUCHED: usize = 4096;
/// So many files are worth a thread to look at them.
const WORTH_A_THREAD: usize = 700;
/// More threads than this wait for each other in the kernel.
const MOST_THREADS: usize = 8;
/// So many files a thread takes at a time.
const AT_A_TIME: usize = 128;
/// What a look at all files found.
pub(super) struct Looked {
    /// The numbers of those whose signatures are others.
    pub(super) differing: Vec<u32>,
    /// Folders whose markers were looked at, by their places, and their times before that.
    pub(super) folders: Vec<(usize, Signature)>,
}

impl Record<'_> {
    /// Whether it was written for this run, these words, variables and listings.
    pub(super) fn is_of(
        &self,
        path: &Path,
        run: &OpenDir,
        words: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> bool {
        let at_home = || path.canonicalize().is_ok_and(|path| path.as_os_str().as_bytes() == self.home);
        let same_variable =
            |(name, digest): &(&str, &str)| digest_of_variable(env(name).as_deref()).0 == *digest;
        let same_listing =
            |(dir, times): &(Name<'_>, Signature)| run.times(dir.0).unwrap_or_default() == *times;
        self.words == words
            && (self.home.is_empty() || at_home())
            && self.env.iter().all(same_variable)
            && self.dirs.iter().all(same_listing)
            && self.absent.iter().all(|path| run.is_absent(path.0))
            && self.there.iter().all(|path| run.plain_signature(path.0).is_some())
    }

    /// Looks at all files, on all cores if there are many; none if too many differ.
    pub(super) fn look(&self, run: &OpenDir) -> Option<Looked> {
        let mut folders = Vec::new();
        let spans = self.spans(run, &mut folders);
        let all: usize = spans.iter().map(|(_, span)| span.len()).sum();
        let next = AtomicUsize::new(0);
        // Each takes what is next, so that one that starts late or waits for its core keeps nobody waiting.
        let look = || {
            let mut differing = Vec::new();
            while let Some((folder, span)) = spans.get(next.fetch_add(1, Ordering::Relaxed)) {
                folder.differing(run, span.clone(), &mut differing)?;
                if differing.len() > MOST_TOUCHED {
                    return None;
                }
            }
            Some(differing)
        };
        let threads = (all / WORTH_A_THREAD).clamp(1, MOST_THREADS);
        let threads = if threads == 1 { 1 } else { threads.min(cores::count()) };
        let mut differing = if threads == 1 {
            look()?
        } else {
            std::thread::scope(|scope| {
                let start =
                    |_| std::thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, look).ok();
                let others: Vec<_> = (1..threads).map_while(start).collect();
                let mut differing = look()?;
                for other in others {
                    differing.extend(other.join().ok()??);
                }
                Some(differing)
            })?
        };
        differing.sort_unstable();
        (differing.len() <= MOST_TOUCHED).then_some(Looked { differing, folders })
    }

    /// The files that must be looked at, so many at a time. Markers are left out where the folder's times stand; where
    /// they do not, but will from now on if the markers do, the times of now are noted.
    pub(super) fn spans(
        &self,
        run: &OpenDir,
        noted: &mut Vec<(usize, Signature)>,
    ) -> Vec<(&Folder<'_>, Range<usize>)> {
        let mut spans = Vec::with_capacity(self.folders.len() + self.count() / AT_A_TIME);
        for (n, folder) in self.folders.iter().enumerate() {
            let mut end = folder.files.len();
            if folder.markers > 0 {
                let now = fs::now_ns();
                match run.times(folder.path.0).filter(|times| !is_racy(times, now)) {
                    Some(times) if times == folder.times => end -= folder.markers as usize,
                    Some(times) => noted.push((n, times)),
                    None => {}
                }
            }
            let mut start = 0;
            while start < end {
                let next = end.min(start + AT_A_TIME);
                spans.push((folder, start..next));
                start = next;
            }
        }
        spans
    }
}

impl Folder<'_> {
    /// The numbers of the files of a range whose signatures are others.
    fn differing(&self, run: &OpenDir, range: Range<usize>, differing: &mut Vec<u32>) -> Option<()> {
        // Opened by each thread for itself: one that is shared is counted by all cores in turn. A folder that is
        // gone took its files with it.
        let dir = run.open_plain(self.path.0);
        for number in range {
            let (signature, name) = self.files.get(number)?;
            let now = dir.as_ref().and_then(|dir| dir.plain_signature(name.0));
            if now != Some(*signature) {
                differing.push((self.first + number) as u32);
            }
        }
        Some(())
    }
}

/// What reading the files found whose signatures differ.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Files whose bytes are the same, by number, and the signatures they have now. One too young to be believed is left
    /// out.
    pub(super) touched: Vec<(u32, Signature)>,
    /// Files that are gone or have other bytes, by number.
    pub(super) changed: HashSet<u32>,
}

/// What reading a file whose signature is another found.
enum Bytes {
    /// The same content; its signature, if that can be believed.
    Same(Option<Signature>),
    /// Another content, or none.
    Other,
}

impl Record<'_> {
    /// Reads the files whose signatures differ.
    pub(super) fn read(&self, details: &Details<'_>, run: &Path, differing: &[u32]) -> Read {
        let real = run.canonicalize().ok();
        let folders = differing.iter().filter_map(|&number| self.file(number));
        let plain =
            real.as_deref().map(|run| plain_folders(run, folders.map(|(folder, _)| folder.path.path())));
        let same = |number| self.same(details, real.as_ref()?, number, plain.as_ref()?);
        let read = |&number: &u32| (number, same(number).unwrap_or(Bytes::Other));
        let read: Vec<(u32, Bytes)> = if differing.len() < 64 {
            differing.iter().map(read).collect()
        } else {
            differing.par_iter().map(read).collect()
        };
        let mut found = Read::default();
        for (number, bytes) in read {
            match bytes {
                Bytes::Same(Some(signature)) => found.touched.push((number, signature)),
                Bytes::Same(None) => {}
                Bytes::Other => drop(found.changed.insert(number)),
            }
        }
        found
    }

    /// Reads a file whose signature is another; none if its content is, too. `plain`: whether no link leads to its folder.
    fn same(
        &self,
        details: &Details<'_>,
        run: &Path,
        number: u32,
        plain: &HashMap<&Path, bool>,
    ) -> Option<Bytes> {
        let (folder, name) = self.file(number)?;
        let path = run.join(folder.path.path()).join(name.path());
        if plain.get(folder.path.path()) != Some(&true) {
            return None;
        }
        let (now, signature) = (fs::now_ns(), fs::plain_signature(&path).ok()??);
        let (digest, _) = fs::hash_file(&path).ok()?;
        let at = number as usize * DIGEST;
        if raw(&digest)? != *details.digests.get(at..at + DIGEST)?
            || fs::plain_signature(&path).ok()?? != signature
        {
            return None;
        }
        Some(Bytes::Same((!is_racy(&signature, now)).then_some(signature)))
    }
}

impl Details<'_> {
    /// Of each task that is listed, whether one of its files changed; none if what changed concerns all of them.
    pub(super) fn affected(&self, changed: &HashSet<u32>) -> Option<Vec<bool>> {
        // By number: whether it changed, and whether that concerns a task.
        let mut marks = vec![(false, false); self.digests.len() / DIGEST];
        for &file in changed {
            marks.get_mut(file as usize)?.0 = true;
        }
        if self.sources.iter().any(|source| changed.contains(source)) {
            return None;
        }
        let mut affected = Vec::with_capacity(self.tasks.len());
        for (_, files) in &self.tasks {
            let mut one = false;
            for &file in files {
                let mark = marks.get_mut(file as usize)?;
                mark.1 = true;
                one |= mark.0;
            }
            affected.push(one);
        }
        // What no task is known to read may matter to any.
        let unexplained = marks.contains(&(true, false));
        (!unexplained).then_some(affected)
    }
}
