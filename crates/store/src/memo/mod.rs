//! The memo of a build that left nothing to do: everything its verdict rested on, so that the next one
//! need not even read the pipeline. Part of the index: a cache that may be deleted at any time, and is believed only where
//! and by whom it was made ([`crate::seal`]).
//!
//! `.planexe/memo` lists every file the verdict rested on (pipeline, texts, inputs, outputs, markers) with its digest
//! and the signature it was last seen with, every directory whose listing mattered (globs, orphans) with its times, and
//! every file whose absence did. A build with the same words on its command line looks at all of them, for which it
//! needs the first half of the memo alone; a file whose signature differs is hashed. Of markers, if there are many,
//! only the folders are looked at: while the times of one stand, no name came or went in it. If no content differs,
//! everything is up to date. If some do, all tasks but those that read or wrote such a file, and what comes after them,
//! still are ([`Known`]). No file in it is reached through a link, and what it names by an absolute path is believed
//! only where the run was: a link may be turned elsewhere, and a run copied, without a trace in the files. The first
//! thing a build that runs a task does is to remove the memo, so that one that was killed leaves none; nothing is
//! believed after another boot.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::index::{Index, is_racy};
use crate::lock::is_unannounced;
use crate::seal::{Seal, What};
use planexe_base::fs::{self, Durability, FileKind, FsError, OpenDir, Signature};
use planexe_base::record::Digest;

mod format;
mod look;
mod write;

use format::{
    DIGEST, Head, Place, Reader, SIGNATURE, decode, decode_head, head_length, mark, raw, signature_bytes,
};
use look::{Looked, Read};
use write::encode;

/// What a verdict rested on.
#[derive(Debug, Default)]
pub struct RestsOn {
    /// Files, absolute or relative to the run directory.
    pub files: Vec<PathBuf>,
    /// The contents the verdict rested on, of files whose content was recorded in this build.
    pub contents: Contents,
    /// Files that were not there, and might have mattered.
    pub absent: Vec<PathBuf>,
    /// Files that must be there, whatever they hold: no task that is made reads them.
    pub there: Vec<PathBuf>,
    /// Which of `files` are markers, by their positions: planexe alone writes them, each by a rename.
    pub markers: Vec<u32>,
    /// Directories whose listing mattered.
    pub dirs: Vec<PathBuf>,
    /// Environment variables and digests of their values.
    pub env: Vec<(String, Digest)>,
    /// Tasks whose verdicts rested on these files alone, by their positions in `files`.
    pub tasks: Vec<(String, Vec<u32>)>,
    /// How many of `files` are the pipeline's own: any change of theirs may matter to any task.
    pub sources: usize,
}

/// Contents that were recorded in a build, by path relative to the run.
#[derive(Debug, Default)]
pub struct Contents(HashMap<Box<str>, [u8; 32]>);

impl Contents {
    /// Notes a content. One that was another before belongs to no verdict of the whole.
    pub fn note(&mut self, path: &str, digest: &Digest) {
        let digest = raw(digest).unwrap_or_default();
        match self.0.get_mut(path) {
            Some(known) if *known != digest => *known = [0; 32],
            Some(_) => {}
            None => drop(self.0.insert(path.into(), digest)),
        }
    }

    fn get(&self, path: &Path) -> Option<&[u8; 32]> {
        self.0.get(path.to_str()?)
    }
}

/// What its mark says it is.
const MEMO: What<'static> = What::Cache("memo");

/// Where the memo of a run is.
pub fn path(run: &Path) -> PathBuf {
    run.join(".planexe/memo")
}

/// Writes the memo of a build that left nothing to do. `words` stands for the command line, `said` is what
/// a build with nothing to do tells at its end. Nothing is written if a file may have changed since the
/// build began, or so shortly before that a change since would leave the same times: the verdict may be of
/// its former content.
pub fn write(
    index: &Index,
    run: &Path,
    words: &str,
    said: &str,
    rests: &RestsOn,
    began_ns: i64,
) -> Result<(), FsError> {
    // Without a key none could be believed.
    let Some(seal) = Seal::to_mark(run, MEMO) else { return Ok(()) };
    let Some(bytes) = encode(&seal, index, run, words, said, rests, began_ns) else { return Ok(()) };
    fs::write_atomic(&path(run), &bytes, Durability::Unsynced)
}

/// What a memo says of a run as it is now.
#[derive(Debug)]
pub enum Found {
    /// Everything is up to date: what the last build with these words told.
    Same(Vec<u8>),
    /// Something changed.
    Changed(Known),
}

/// What is still known to be up to date after some files changed.
#[derive(Debug)]
pub struct Known {
    memo: Vec<u8>,
    /// What its mark is checked by, and made.
    seal: Seal,
    /// Where in it the files of each task are listed.
    tasks: Range<usize>,
    /// Of each task listed there, whether one of its files changed.
    affected: Vec<bool>,
    /// The numbers of the files that did.
    changed: Vec<u32>,
    /// The names of the other tasks, once they are asked for.
    fresh: OnceLock<HashSet<Box<str>>>,
}

/// Holds a run, which is open, against its memo; none if there is no memo that can be believed.
pub fn check(run: &Path, open: &OpenDir, words: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    // Else somebody is at it, or was killed at it: there may be something to tidy up.
    if !is_unannounced(open) {
        return None;
    }
    let head = open.read_head(c".planexe/memo", head_length)?;
    let seal = Seal::to_check(run, MEMO)?;
    let seen = decode_head(&head, &seal)?;
    if !seen.is_of(run, open, words, env) {
        return None;
    }
    let looked = seen.look(open)?;
    if looked.differing.is_empty() && looked.folders.is_empty() {
        return Some(Found::Same(seen.said.to_vec()));
    }
    read_on(run, seal, &head, &seen, looked)
}

/// Reads the files that look as if they had changed.
fn read_on(run: &Path, seal: Seal, head: &[u8], seen: &Head<'_>, looked: Looked) -> Option<Found> {
    let Looked { differing, folders } = looked;
    let path = path(run);
    // Another one may have taken its place meanwhile.
    let mut bytes = fs::read(&path).ok().filter(|bytes| bytes.starts_with(head))?;
    let memo = decode(&bytes, &seal)?;
    let Read { touched, changed } = memo.read(run, &differing);
    let affected = if changed.is_empty() { None } else { Some(memo.affected(&changed)?) };
    let tasks = bytes.len() - memo.tasks.len()..bytes.len();
    // All markers of those folders are as recorded only if nothing changed.
    let mut learned = touched;
    if affected.is_none() {
        learned.extend(folders);
    }
    for (at, signature) in &learned {
        bytes[*at..at + SIGNATURE].copy_from_slice(&signature_bytes(signature));
    }
    if !learned.is_empty() {
        mark(&mut bytes, &seal);
    }
    Some(match affected {
        Some(affected) => {
            let changed = changed.into_iter().collect();
            Found::Changed(Known { memo: bytes, seal, tasks, affected, changed, fresh: OnceLock::new() })
        }
        None => {
            if !learned.is_empty() {
                // Only a cache: without it the same files are looked at again next time. One that was killed as it
                // wrote this leaves its file.
                let _ = fs::sweep_temps(&run.join(".planexe"));
                let _ = fs::write_atomic(&path, &bytes, Durability::Unsynced);
            }
            Found::Same(seen.said.to_vec())
        }
    })
}

impl Known {
    /// Whether nothing a task's verdict rested on has changed: it is up to date, unless what it needs runs.
    pub fn is_fresh(&self, task: &str) -> bool {
        self.fresh.get_or_init(|| self.fresh().map(Box::from).collect()).contains(task)
    }

    /// The tasks of [`Known::is_fresh`], in the order of the pipeline.
    fn fresh(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader { bytes: &self.memo[self.tasks.clone()], at: 0 };
        let _ = (reader.numbers(), reader.number());
        let all = self.affected.iter().map_while(move |affected| {
            let (name, _) = (reader.str()?, reader.numbers()?);
            Some((name, affected))
        });
        all.filter(|(_, affected)| !**affected).map(|(name, _)| name)
    }

    /// Whether tasks that are skipped now, by name, were no more up to date than that then, and those that are done,
    /// by their markers, were done.
    pub fn has_the_same_conditions(&self, skipped: &[&str], markers: &[String]) -> bool {
        if skipped.is_empty() && markers.is_empty() {
            return true;
        }
        let Some(memo) = decode(&self.memo, &self.seal) else { return false };
        let mut reader = Reader { bytes: memo.tasks, at: 0 };
        let _ = (reader.numbers(), reader.number());
        let listed: HashSet<&str> =
            self.affected.iter().map_while(|_| Some((reader.str()?, reader.numbers()?).0)).collect();
        skipped.iter().all(|task| !listed.contains(task))
            && markers.iter().all(|marker| memo.head.find(marker).is_some())
    }

    /// Whether it is still the memo of the run: what is known was looked at before the lock was taken.
    pub fn stands(&self, run: &Path) -> bool {
        let now = fs::read(&path(run)).unwrap_or_default();
        if now == self.memo {
            return true;
        }
        // Files that were touched may have been noted meanwhile, here or there.
        let decode = |bytes| decode(bytes, &self.seal);
        decode(&now).is_some_and(|now| decode(&self.memo).is_some_and(|memo| memo.says_the_same(&now)))
    }

    /// Writes the memo anew, with the contents that were recorded since. What changed and was not recorded was
    /// judged, and did not matter: it must be as it was when the build began. False if that does not make one.
    pub fn renew(&self, index: &Index, run: &Path, said: &str, contents: &Contents, began_ns: i64) -> bool {
        let Some(places) = self.places(said, contents) else { return false };
        let Ok(run) = &run.canonicalize() else { return false };
        if plain_folders(run, places.iter().filter_map(|(path, _)| path.parent()))
            .into_values()
            .any(|plain| !plain)
        {
            return false;
        }
        let mut memo = self.memo.clone();
        for (path, place) in &places {
            let full = run.join(path);
            if fs::kind(&full).ok().flatten() != Some(FileKind::File) {
                return false;
            }
            let Ok(Some(seen)) = index.look(&full) else { return false };
            let Some(digest) = raw(&seen.digest) else { return false };
            match contents.get(path) {
                Some(recorded) if *recorded != digest => return false,
                None if !seen.settled || is_racy(&seen.signature, began_ns) => return false,
                _ => {}
            }
            let signature = if seen.settled { seen.signature } else { Signature::default() };
            memo[place.record..place.record + SIGNATURE].copy_from_slice(&signature_bytes(&signature));
            memo[place.digest..place.digest + DIGEST].copy_from_slice(&digest);
        }
        mark(&mut memo, &self.seal);
        fs::write_atomic(&self::path(run), &memo, Durability::Unsynced).is_ok()
    }

    /// The files that changed or were recorded since, and where they are in the memo; none if not all are, or if
    /// more than contents may have changed.
    fn places(&self, said: &str, contents: &Contents) -> Option<Vec<(PathBuf, Place)>> {
        let memo = decode(&self.memo, &self.seal)?;
        if memo.head.said != said.as_bytes() || !memo.head.dirs.is_empty() {
            return None;
        }
        let recorded = contents.0.keys().map(|path| memo.head.find(path));
        let mut numbers: HashSet<u32> = recorded.collect::<Option<_>>()?;
        numbers.extend(&self.changed);
        numbers.into_iter().map(|number| Some((memo.head.path(number)?, memo.place(number)?))).collect()
    }
}

/// Whether no link is on the way to a folder from the run, whose own links are resolved, or by its absolute name from
/// the top. Where a link leads may change without a trace in what it led to: no memo is made of such files.
fn is_plain(run: &Path, folder: &Path) -> bool {
    let named = run.join(folder);
    named.canonicalize().is_ok_and(|real| real == fs::normal(&named))
}

/// [`is_plain`] of folders, each looked at once.
fn plain_folders<'p>(run: &Path, folders: impl Iterator<Item = &'p Path>) -> HashMap<&'p Path, bool> {
    let mut plain = HashMap::new();
    for folder in folders {
        plain.entry(folder).or_insert_with(|| is_plain(run, folder));
    }
    plain
}

/// The digest of a variable's value; of an unset one that of nothing.
pub fn digest_of_variable(value: Option<&str>) -> Digest {
    Digest::of(value.unwrap_or_default().as_bytes())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files they look at")]
mod tests {
    use super::write::FEW_MARKERS;
    use super::*;

    #[test]
    fn a_memo_cut_or_changed_anywhere_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir(run.join(".planexe")).expect("a folder");
        std::fs::write(run.join("a.txt"), "a").expect("a file");
        let words = "build";
        let rests =
            RestsOn { files: vec!["a.txt".into()], absent: vec!["b.txt".into()], ..RestsOn::default() };
        let index = Index::load(&crate::Store::open(run));
        let began_ns = fs::now_ns();
        let seal = Seal::to_mark(run, MEMO).expect("a key");
        let encoded = |began_ns| encode(&seal, &index, run, words, "nothing to do", &rests, began_ns);
        assert!(encoded(began_ns).is_none(), "a change since would leave the same times");
        let bytes = loop {
            // Written once the file is old enough to be told from a later change.
            if let Some(bytes) = encoded(fs::now_ns()) {
                break bytes;
            }
        };
        assert!(encoded(began_ns).is_none(), "changed since the build began");
        let env = |_: &str| None;
        let said = |bytes: &[u8]| {
            let open = OpenDir::open(run).expect("the run");
            let memo = decode(bytes, &seal).filter(|memo| memo.head.is_of(run, &open, words, &env))?;
            let read = memo.read(run, &memo.head.look(&open)?.differing);
            read.changed.is_empty().then(|| memo.head.said.to_vec())
        };
        assert_eq!(said(&bytes).as_deref(), Some(&b"nothing to do"[..]));
        for length in 0..bytes.len() {
            assert!(said(&bytes[..length]).is_none(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(said(&other).is_none(), "changed at {at}");
        }
        let other_words = "build -C x";
        let open = OpenDir::open(run).expect("the run");
        assert!(decode(&bytes, &seal).is_some_and(|memo| !memo.head.is_of(run, &open, other_words, &env)));
        std::fs::write(run.join("b.txt"), "").expect("a file");
        assert!(said(&bytes).is_none(), "a file came");
        std::fs::remove_file(run.join("b.txt")).expect("removed");
        std::fs::write(run.join("a.txt"), "a").expect("a file");
        assert!(said(&bytes).is_some(), "touched, same bytes");
        std::fs::write(run.join("a.txt"), "b").expect("a file");
        assert!(said(&bytes).is_none(), "other bytes");
        std::fs::remove_file(run.join("a.txt")).expect("removed");
        assert!(said(&bytes).is_none(), "gone");
    }

    /// in.txt -> a -> out/a.txt, out/b.txt; other.txt -> b
    fn of_two_tasks() -> (tempfile::TempDir, RestsOn) {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir_all(run.join(".planexe")).expect("a folder");
        std::fs::create_dir_all(run.join("out")).expect("a folder");
        let files = ["pipeline.toml", "in.txt", "out/a.txt", "out/b.txt", "other.txt"];
        let mut contents = Contents::default();
        for file in files {
            std::fs::write(run.join(file), file).expect("a file");
            contents.note(file, &Digest::of(file.as_bytes()));
        }
        let rests = RestsOn {
            files: files.map(PathBuf::from).to_vec(),
            contents,
            sources: 1,
            tasks: vec![("a".into(), vec![1, 2, 3]), ("b".into(), vec![4])],
            ..RestsOn::default()
        };
        (dir, rests)
    }

    fn checked(run: &Path) -> Option<Found> {
        check(run, &OpenDir::open(run).ok()?, "build", &|_| None)
    }

    fn fresh(run: &Path) -> Vec<String> {
        let Some(Found::Changed(known)) = checked(run) else { panic!("{:?}", checked(run)) };
        let fresh: Vec<String> = known.fresh().map(str::to_owned).collect();
        assert!(fresh.iter().all(|task| known.is_fresh(task)));
        fresh
    }

    #[test]
    fn what_changed_concerns_the_tasks_of_the_file_alone() {
        let (dir, rests) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::Store::open(run));
        // Younger than the build itself, but its content is recorded.
        write(&index, run, "build", "said", &rests, 0).expect("written");
        assert!(matches!(checked(run), Some(Found::Same(said)) if said == b"said"));
        std::fs::write(run.join("in.txt"), "x").expect("a file");
        assert_eq!(fresh(run), ["b"]);
        std::fs::remove_file(run.join("other.txt")).expect("removed");
        assert_eq!(fresh(run), [""; 0]);
        std::fs::write(run.join("other.txt"), "other.txt").expect("a file");
        std::fs::write(run.join("in.txt"), "in.txt").expect("a file");
        assert!(matches!(checked(run), Some(Found::Same(_))));
        std::fs::remove_dir_all(run.join("out")).expect("removed");
        assert_eq!(fresh(run), ["b"]);
        std::fs::write(run.join("pipeline.toml"), "x").expect("a file");
        assert!(checked(run).is_none(), "it concerns all");
    }

    #[test]
    fn of_many_markers_the_folder_is_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir_all(run.join(".planexe")).expect("a folder");
        std::fs::create_dir_all(run.join("out")).expect("a folder");
        let mut rests = RestsOn::default();
        for n in 0..=FEW_MARKERS {
            for (name, is_marker) in [(format!("out/{n}.txt"), false), (format!("out/{n}.txt.DONE"), true)] {
                std::fs::write(run.join(&name), &name).expect("a file");
                rests.contents.note(&name, &Digest::of(name.as_bytes()));
                if is_marker {
                    rests.markers.push(rests.files.len() as u32);
                }
                rests.files.push(name.into());
            }
        }
        let index = Index::load(&crate::Store::open(run));
        let seal = Seal::to_check(run, MEMO).expect("a key");
        let looked_at = || {
            let bytes = fs::read(&path(run)).expect("the memo");
            let open = OpenDir::open(run).expect("the run");
            let head = decode_head(&bytes, &seal).expect("a memo");
            head.spans(&open, &mut Vec::new()).iter().map(|(_, span)| span.len()).sum::<usize>()
        };
        let all = rests.files.len();
        write(&index, run, "build", "said", &rests, 0).expect("written");
        assert_eq!(looked_at(), all, "names may have come since without another time");
        // Until the folder is old enough.
        while looked_at() == all {
            assert!(matches!(checked(run), Some(Found::Same(_))));
        }
        assert_eq!(looked_at(), all / 2);
        std::fs::write(run.join("out/other.txt"), "").expect("a file");
        assert_eq!(looked_at(), all);
        rests.markers.pop();
        write(&index, run, "build", "said", &rests, 0).expect("written");
        let bytes = fs::read(&path(run)).expect("the memo");
        let few =
            decode_head(&bytes, &seal).expect("a memo").folders.iter().all(|folder| folder.markers == 0);
        assert!(few, "few are looked at one by one");
    }

    #[test]
    fn it_is_renewed_with_what_was_recorded_since() {
        let (dir, rests) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::Store::open(run));
        write(&index, run, "build", "said", &rests, 0).expect("written");
        std::fs::write(run.join("in.txt"), "new").expect("a file");
        let Some(Found::Changed(known)) = checked(run) else { panic!() };
        assert!(known.stands(run));
        let mut since = Contents::default();
        since.note("out/a.txt", &Digest::of(b"out/a.txt"));
        assert!(!known.renew(&index, run, "said", &since, 0), "what changed was not recorded");
        since.note("in.txt", &Digest::of(b"other"));
        assert!(!known.renew(&index, run, "said", &since, 0), "it has other content by now");
        let mut since = Contents::default();
        since.note("in.txt", &Digest::of(b"new"));
        assert!(!known.renew(&index, run, "another", &since, 0));
        assert!(known.renew(&index, run, "said", &since, 0));
        assert!(matches!(checked(run), Some(Found::Same(_))));
        assert!(!known.stands(run), "it is of another content now");
        since.note("in.txt", &Digest::of(b"newer"));
        assert!(!known.renew(&index, run, "said", &since, 0), "two tasks were given different contents");
        since.note("elsewhere.txt", &Digest::of(b""));
        assert!(!known.renew(&index, run, "said", &since, 0));
    }
}
