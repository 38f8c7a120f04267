//! The null-build record of a build that left nothing to do: everything its verdict rested on, so that the next one
//! need not even read the pipeline. Part of the cache, `.planexe/index`: it may be deleted at any time, and is believed only
//! where and by whom it was made ([`crate::seal`]).
//!
//! It lists every file the verdict rested on (pipeline, texts, inputs, outputs, markers) with its digest
//! and the signature it was last seen with, every directory whose listing mattered (globs, orphans) with its times, and
//! every file whose absence did. A build with the same words on its command line looks at all of them, for which it
//! needs the front of the cache alone; a file whose signature differs is hashed. Of markers, if there are many,
//! only the folders are looked at: while the times of one stand, no name came or went in it. If no content differs,
//! everything is up to date. If some do, all tasks but those that read or wrote such a file, and what comes after them,
//! still are ([`UpToDate`]). No file in it is reached through a link, and what it names by an absolute path is believed
//! only where the run was: a link may be turned elsewhere, and a run copied, without a trace in the files. The first
//! thing a build that runs a task does is to remove the cache, so that one that was killed leaves none; nothing is
//! believed after another boot.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cache_file::{self, INDEX, PATH, Parts};
use crate::host::is_this_boot;
use crate::index::{Index, NullBuildRecord, is_racy};
use crate::lock::is_unannounced;
use crate::seal::Seal;
use planexe_base::fs::{self, Durability, FileKind, OpenDir, Signature};
use planexe_base::record::Digest;

mod look;
mod record;
mod write;

use look::Read;
use record::{DIGEST, Details, Record, raw};
use write::encode;

/// The whole cache file, read as if its mark fitted: whether it could be. For fuzzing.
#[doc(hidden)]
pub fn read_unmarked(bytes: &[u8]) -> bool {
    let read = crate::index::read_unmarked(bytes);
    read.is_some_and(|(record, details, tables)| record::read_unmarked(record, details) && tables)
}

/// What a verdict rested on.
#[derive(Debug, Default)]
pub struct BuildInputs {
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

/// Records that a build left nothing to do. `words` stands for the command line, `said` is what
/// a build with nothing to do tells at its end. Nothing is recorded if a file may have changed since the
/// build began, or so shortly before that a change since would leave the same times: the verdict may be of
/// its former content.
pub fn record(index: &Index, run: &Path, words: &str, said: &str, inputs: &BuildInputs, began_ns: i64) {
    if let Some(record) = encode(index, run, words, said, inputs, began_ns) {
        index.set_null_build(Some(record));
    }
}

/// Drops the record: it speaks of other tasks than those that are up to date.
pub fn drop_record(index: &Index) {
    index.set_null_build(None);
}

/// What a record says of a run as it is now.
#[derive(Debug)]
pub enum Found {
    /// Everything is up to date: what the last build with these words told.
    Same(Vec<u8>),
    /// Something changed.
    Changed(UpToDate),
}

/// What is still known to be up to date after some files changed.
#[derive(Debug)]
pub struct UpToDate {
    record: Vec<u8>,
    details: Vec<u8>,
    /// Of each task listed there, whether one of its files changed.
    affected: Vec<bool>,
    /// The numbers of the files that did.
    changed: Vec<u32>,
    /// The names of the other tasks, once they are asked for.
    names: OnceLock<HashSet<Box<str>>>,
}

/// Holds a run, which is open, against its null-build record; none if there is no record that can be believed.
pub fn check(run: &Path, open: &OpenDir, words: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    // Else somebody is at it, or was killed at it: there may be something to tidy up.
    if !is_unannounced(open) {
        return None;
    }
    let bytes = open.read_head(PATH, cache_file::front_length)?;
    let seal = Seal::to_check(run, INDEX)?;
    let front = cache_file::front(&bytes, &seal)?;
    if front.record.is_empty() || !is_this_boot(front.boot.as_bytes()) {
        return None;
    }
    let record = Record::decode(front.record)?;
    if !record.is_of(run, open, words, env) {
        return None;
    }
    let looked = record.look(open)?;
    if looked.differing.is_empty() && looked.folders.is_empty() {
        return Some(Found::Same(record.said.as_bytes().to_vec()));
    }
    read_on(run, &seal, &bytes, record, looked)
}

/// Reads the files that look as if they had changed.
fn read_on(
    run: &Path,
    seal: &Seal,
    front: &[u8],
    mut record: Record<'_>,
    looked: look::Looked,
) -> Option<Found> {
    let path = run.join(Path::new(PATH.to_str().ok()?));
    // Another one may have taken its place meanwhile.
    let bytes = fs::read(&path).ok().filter(|bytes| bytes.starts_with(front))?;
    let parts = cache_file::parts(&bytes, seal)?;
    let details = Details::decode(parts.details)?;
    let Read { touched, changed } = record.read(&details, run, &looked.differing);
    let affected = if changed.is_empty() { None } else { Some(details.affected(&changed)?) };
    for (number, signature) in &touched {
        record.set_signature(*number, *signature);
    }
    if let Some(affected) = affected {
        return Some(Found::Changed(UpToDate {
            record: record.encode()?,
            details: parts.details.to_vec(),
            affected,
            changed: changed.into_iter().collect(),
            names: OnceLock::new(),
        }));
    }
    // All markers of those folders are as recorded, since nothing changed.
    for (folder, times) in &looked.folders {
        record.folders[*folder].times = *times;
    }
    if !touched.is_empty() || !looked.folders.is_empty() {
        let bytes = cache_file::encode(seal, &Parts { record: &record.encode()?, ..parts })?;
        // Only a cache: without it the same files are looked at again next time. One that was killed as it
        // wrote this leaves its file.
        let _ = fs::sweep_temps(&run.join(".planexe"));
        let _ = fs::write_atomic(&path, &bytes, Durability::Unsynced);
    }
    Some(Found::Same(record.said.as_bytes().to_vec()))
}

impl UpToDate {
    /// Whether nothing a task's verdict rested on has changed: it is up to date, unless what it needs runs.
    pub fn contains(&self, task: &str) -> bool {
        self.names
            .get_or_init(|| self.names().unwrap_or_default().into_iter().map(Box::from).collect())
            .contains(task)
    }

    /// The tasks of [`UpToDate::contains`], in the order of the pipeline.
    fn names(&self) -> Option<Vec<&str>> {
        let tasks = Details::decode(&self.details)?.tasks.into_iter().zip(&self.affected);
        Some(tasks.filter(|(_, affected)| !**affected).map(|((name, _), _)| name).collect())
    }

    /// Whether tasks that are skipped now, by name, were no more up to date than that then, and those that are done,
    /// by their markers, were done.
    pub fn has_the_same_conditions(&self, skipped: &[&str], markers: &[String]) -> bool {
        if skipped.is_empty() && markers.is_empty() {
            return true;
        }
        let (Some(record), Some(details)) = (Record::decode(&self.record), Details::decode(&self.details))
        else {
            return false;
        };
        let listed: HashSet<&str> = details.tasks.iter().map(|(name, _)| *name).collect();
        skipped.iter().all(|task| !listed.contains(task))
            && markers.iter().all(|marker| record.find(marker).is_some())
    }

    /// Whether it is still the record of the run: what is known was looked at before the lock was taken.
    pub fn stands(&self, index: &Index) -> bool {
        let Some(now) = index.null_build().filter(|now| now.details == self.details) else { return false };
        // Files that were touched may have been noted meanwhile, here or there.
        let lists_the_same = |now| Some(Record::decode(&self.record)?.lists_the_same(&Record::decode(now)?));
        now.record == self.record || lists_the_same(&now.record) == Some(true)
    }

    /// Records anew that there is nothing to do, with the contents that were recorded since. What changed and was not
    /// recorded was judged, and did not matter: it must be as it was when the build began. False if that does not make
    /// a record.
    pub fn renew(&self, index: &Index, run: &Path, said: &str, contents: &Contents, began_ns: i64) -> bool {
        self.renewed(index, run, said, contents, began_ns)
            .map(|record| index.set_null_build(Some(record)))
            .is_some()
    }

    fn renewed(
        &self,
        index: &Index,
        run: &Path,
        said: &str,
        contents: &Contents,
        began_ns: i64,
    ) -> Option<NullBuildRecord> {
        let (mut record, details) = (Record::decode(&self.record)?, Details::decode(&self.details)?);
        let mut digests = details.digests.to_vec();
        let numbers = self.numbers(&record, said, contents)?;
        let run = run.canonicalize().ok()?;
        let files: Vec<(PathBuf, u32)> =
            numbers.into_iter().map(|number| Some((record.path(number)?, number))).collect::<Option<_>>()?;
        if plain_folders(&run, files.iter().filter_map(|(path, _)| path.parent()))
            .into_values()
            .any(|plain| !plain)
        {
            return None;
        }
        for (path, number) in files {
            let full = run.join(&path);
            if fs::kind(&full).ok()? != Some(FileKind::File) {
                return None;
            }
            let seen = index.look(&full).ok()??;
            let digest = raw(&seen.digest)?;
            match contents.get(&path) {
                Some(recorded) if *recorded != digest => return None,
                None if !seen.settled || is_racy(&seen.signature, began_ns) => return None,
                _ => {}
            }
            record.set_signature(number, if seen.settled { seen.signature } else { Signature::default() });
            let at = number as usize * DIGEST;
            digests.get_mut(at..at + DIGEST)?.copy_from_slice(&digest);
        }
        let details = Details { digests: &digests, ..details };
        Some(NullBuildRecord { record: record.encode()?, details: details.encode()? })
    }

    /// The numbers of the files that changed or were recorded since; none if not all are known, or if more than contents
    /// may have changed.
    fn numbers(&self, record: &Record<'_>, said: &str, contents: &Contents) -> Option<HashSet<u32>> {
        if record.said != said || !record.dirs.is_empty() {
            return None;
        }
        let recorded = contents.0.keys().map(|path| record.find(path));
        let mut numbers: HashSet<u32> = recorded.collect::<Option<_>>()?;
        numbers.extend(&self.changed);
        Some(numbers)
    }
}

/// Whether no link is on the way to a folder from the run, whose own links are resolved, or by its absolute name from
/// the top. Where a link leads may change without a trace in what it led to: no record is made of such files.
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
    fn a_cache_cut_or_changed_anywhere_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir(run.join(".planexe")).expect("a folder");
        std::fs::write(run.join("a.txt"), "a").expect("a file");
        let words = "build";
        let inputs = BuildInputs {
            files: vec!["a.txt".into()],
            absent: vec!["b.txt".into()],
            ..BuildInputs::default()
        };
        let index = Index::load(&crate::Store::open(run));
        let began_ns = fs::now_ns();
        let seal = Seal::to_mark(run, INDEX).expect("a key");
        let encoded = |began_ns| encode(&index, run, words, "nothing to do", &inputs, began_ns);
        assert!(encoded(began_ns).is_none(), "a change since would leave the same times");
        let record = loop {
            // Made once the file is old enough to be told from a later change.
            if let Some(record) = encoded(fs::now_ns()) {
                break record;
            }
        };
        assert!(encoded(began_ns).is_none(), "changed since the build began");
        index.set_null_build(Some(record));
        index.save_if_changed().expect("written");
        let bytes = fs::read(&run.join(".planexe/index")).expect("the cache");
        let env = |_: &str| None;
        let with = |bytes: &[u8], words: &str| {
            let open = OpenDir::open(run).expect("the run");
            let parts = cache_file::parts(bytes, &seal)?;
            let record =
                Record::decode(parts.record).filter(|record| record.is_of(run, &open, words, &env))?;
            let details = Details::decode(parts.details)?;
            let read = record.read(&details, run, &record.look(&open)?.differing);
            read.changed.is_empty().then(|| record.said.as_bytes().to_vec())
        };
        let said = |bytes: &[u8]| with(bytes, words);
        assert_eq!(said(&bytes).as_deref(), Some(&b"nothing to do"[..]));
        for length in 0..bytes.len() {
            assert!(said(&bytes[..length]).is_none(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(said(&other).is_none(), "changed at {at}");
        }
        assert!(with(&bytes, "build -C x").is_none());
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
    fn of_two_tasks() -> (tempfile::TempDir, BuildInputs) {
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
        let inputs = BuildInputs {
            files: files.map(PathBuf::from).to_vec(),
            contents,
            sources: 1,
            tasks: vec![("a".into(), vec![1, 2, 3]), ("b".into(), vec![4])],
            ..BuildInputs::default()
        };
        (dir, inputs)
    }

    fn write(index: &Index, run: &Path, inputs: &BuildInputs) {
        record(index, run, "build", "said", inputs, 0);
        index.save_if_changed().expect("written");
    }

    fn checked(run: &Path) -> Option<Found> {
        check(run, &OpenDir::open(run).ok()?, "build", &|_| None)
    }

    fn up_to_date(run: &Path) -> Vec<String> {
        let Some(Found::Changed(known)) = checked(run) else { panic!("{:?}", checked(run)) };
        let names = known.names().expect("names");
        assert!(names.iter().all(|task| known.contains(task)));
        names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn what_changed_concerns_the_tasks_of_the_file_alone() {
        let (dir, inputs) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::Store::open(run));
        // Younger than the build itself, but its content is recorded.
        write(&index, run, &inputs);
        assert!(matches!(checked(run), Some(Found::Same(said)) if said == b"said"));
        std::fs::write(run.join("in.txt"), "x").expect("a file");
        assert_eq!(up_to_date(run), ["b"]);
        std::fs::remove_file(run.join("other.txt")).expect("removed");
        assert_eq!(up_to_date(run), [""; 0]);
        std::fs::write(run.join("other.txt"), "other.txt").expect("a file");
        std::fs::write(run.join("in.txt"), "in.txt").expect("a file");
        assert!(matches!(checked(run), Some(Found::Same(_))));
        std::fs::remove_dir_all(run.join("out")).expect("removed");
        assert_eq!(up_to_date(run), ["b"]);
        std::fs::write(run.join("pipeline.toml"), "x").expect("a file");
        assert!(checked(run).is_none(), "it concerns all");
    }

    #[test]
    fn of_many_markers_the_folder_is_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir_all(run.join(".planexe")).expect("a folder");
        std::fs::create_dir_all(run.join("out")).expect("a folder");
        let mut inputs = BuildInputs::default();
        for n in 0..=FEW_MARKERS {
            for (name, is_marker) in [(format!("out/{n}.txt"), false), (format!("out/{n}.txt.DONE"), true)] {
                std::fs::write(run.join(&name), &name).expect("a file");
                inputs.contents.note(&name, &Digest::of(name.as_bytes()));
                if is_marker {
                    inputs.markers.push(inputs.files.len() as u32);
                }
                inputs.files.push(name.into());
            }
        }
        let index = Index::load(&crate::Store::open(run));
        let looked_at = || {
            let known = Index::load(&crate::Store::open(run)).null_build().expect("a record");
            let open = OpenDir::open(run).expect("the run");
            let record = Record::decode(&known.record).expect("a record");
            record.spans(&open, &mut Vec::new()).iter().map(|(_, span)| span.len()).sum::<usize>()
        };
        let all = inputs.files.len();
        write(&index, run, &inputs);
        assert_eq!(looked_at(), all, "names may have come since without another time");
        // Until the folder is old enough.
        while looked_at() == all {
            assert!(matches!(checked(run), Some(Found::Same(_))));
        }
        assert_eq!(looked_at(), all / 2);
        std::fs::write(run.join("out/other.txt"), "").expect("a file");
        assert_eq!(looked_at(), all);
        inputs.markers.pop();
        write(&index, run, &inputs);
        let known = index.null_build().expect("a record");
        let few = Record::decode(&known.record).expect("a record").folders.iter().all(|it| it.markers == 0);
        assert!(few, "few are looked at one by one");
    }

    #[test]
    fn it_is_renewed_with_what_was_recorded_since() {
        let (dir, inputs) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::Store::open(run));
        write(&index, run, &inputs);
        std::fs::write(run.join("in.txt"), "new").expect("a file");
        let Some(Found::Changed(known)) = checked(run) else { panic!() };
        assert!(known.stands(&index));
        let mut since = Contents::default();
        since.note("out/a.txt", &Digest::of(b"out/a.txt"));
        assert!(!known.renew(&index, run, "said", &since, 0), "what changed was not recorded");
        since.note("in.txt", &Digest::of(b"other"));
        assert!(!known.renew(&index, run, "said", &since, 0), "it has other content by now");
        let mut since = Contents::default();
        since.note("in.txt", &Digest::of(b"new"));
        assert!(!known.renew(&index, run, "another", &since, 0));
        assert!(known.renew(&index, run, "said", &since, 0));
        index.save_if_changed().expect("written");
        assert!(matches!(checked(run), Some(Found::Same(_))));
        assert!(!known.stands(&index), "it is of another content now");
        since.note("in.txt", &Digest::of(b"newer"));
        assert!(!known.renew(&index, run, "said", &since, 0), "two tasks were given different contents");
        since.note("elsewhere.txt", &Digest::of(b""));
        assert!(!known.renew(&index, run, "said", &since, 0));
    }
}
