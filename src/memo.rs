//! The memo of a build that left nothing to do: everything its verdict rested on, so that the next one
//! need not even read the pipeline. Part of the index: a cache that may be deleted at any time.
//!
//! `.planexe/memo` lists every file the verdict rested on (pipeline, texts, inputs, outputs, markers)
//! with its digest and the signature it was last seen with, every directory whose listing mattered (globs,
//! orphans) with its times, and every file whose absence did. A build with the same words on its command
//! line looks at all of them; a file whose signature differs is hashed. If no content differs, everything is
//! up to date. If some do, all tasks but those that read or wrote such a file, and what comes after them,
//! still are ([`Known`]). The first thing a build that runs a task does is to remove the memo, so that one
//! that was killed leaves none; nothing is believed after another boot.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::fs::{self, Durability, FsError, OpenDir, Signature};
use crate::record::Digest;
use crate::store::index::{Index, is_racy};
use crate::store::lock::{boot_id, is_announced};

/// Layout of the file; another one is no memo.
const MAGIC: &[u8; 16] = b"planexe memo 02\n";
/// Bytes before what the checksum is over: the magic and the checksum.
const SEALED_FROM: usize = 48;
/// Bytes of one file's record: signature (36), digest (32), offset of its name (4).
const RECORD: usize = 72;
/// So many files may differ in signature before it is cheaper to judge anew.
const MOST_TOUCHED: usize = 4096;
/// From so many files on, both halves are looked at at once.
const WORTH_TWO_THREADS: usize = 1500;
/// Larger files are not read at the end of a build just to be believed by the next.
const WORTH_READING: u64 = 1 << 20;

/// What a verdict rested on.
#[derive(Debug, Default)]
pub struct RestsOn {
    /// Files, absolute or relative to the run directory.
    pub files: Vec<PathBuf>,
    /// The contents the verdict rested on, of files whose content was recorded in this build.
    pub contents: Contents,
    /// Files that were not there, and might have mattered.
    pub absent: Vec<PathBuf>,
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

/// Where the memo of a run is.
pub fn path(run: &Path) -> PathBuf {
    run.join(".planexe").join("memo")
}

/// Writes the memo of a build that left nothing to do. `words` is a digest of the command line, `said` what
/// a build with nothing to do tells at its end. Nothing is written if a file may have changed since the
/// build began, or so shortly before that a change since would leave the same times: the verdict may be of
/// its former content.
pub fn write(
    index: &Index,
    run: &Path,
    words: &Digest,
    said: &str,
    rests: &RestsOn,
    began_ns: i64,
) -> Result<(), FsError> {
    let Some(bytes) = encode(index, run, words, said, rests, began_ns) else { return Ok(()) };
    fs::write_atomic(&path(run), &bytes, Durability::Unsynced)
}

/// What a memo says of a run as it is now.
#[derive(Debug)]
pub enum Found {
    /// Everything is up to date: what the last build with these words told.
    Same(String),
    /// Something changed.
    Changed(Known),
}

/// What is still known to be up to date after some files changed.
#[derive(Debug)]
pub struct Known {
    memo: Vec<u8>,
    /// Where in it the files of each task are listed.
    tasks: Range<usize>,
    /// Of each task listed there, whether one of its files changed.
    affected: Vec<bool>,
    /// Where the records of the files are that did.
    changed: Vec<usize>,
    /// The names of the others, once they are asked for.
    fresh: OnceLock<HashSet<Box<str>>>,
}

/// Holds a run against its memo; none if there is no memo that can be believed.
pub fn check(run: &Path, words: &Digest, env: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    // Somebody is at it, or was killed at it: there may be something to tidy up.
    if is_announced(run) {
        return None;
    }
    let mut bytes = fs::read(&path(run)).ok()?;
    let memo = decode(&bytes)?;
    let (said, looked) = memo.check(run, words, env)?;
    let affected = if looked.changed.is_empty() { None } else { Some(memo.affected(&looked.changed)?) };
    let tasks = bytes.len() - memo.tasks.len()..bytes.len();
    let changed = looked.changed.iter().filter_map(|&number| memo.place(number as usize)).collect();
    let learned = !looked.touched.is_empty();
    for (at, signature) in looked.touched {
        bytes[at..at + 36].copy_from_slice(&signature_bytes(&signature));
    }
    if learned {
        seal(&mut bytes);
    }
    Some(match affected {
        Some(affected) => {
            Found::Changed(Known { memo: bytes, tasks, affected, changed, fresh: OnceLock::new() })
        }
        None => {
            if learned {
                // Only a cache: without it the touched files are hashed again next time. One that was killed as it
                // wrote this leaves its file.
                let _ = fs::sweep_temps(&run.join(".planexe"));
                let _ = fs::write_atomic(&path(run), &bytes, Durability::Unsynced);
            }
            Found::Same(said)
        }
    })
}

impl Known {
    /// Whether nothing a task's verdict rested on has changed: it is up to date, unless what it needs runs.
    pub fn is_fresh(&self, task: &str) -> bool {
        self.fresh.get_or_init(|| self.fresh().map(Box::from).collect()).contains(task)
    }

    /// The tasks of [`Known::is_fresh`], in the order of the pipeline.
    pub fn fresh(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader { bytes: &self.memo[self.tasks.clone()], at: 0 };
        let _ = (reader.numbers(), reader.number());
        let all = self.affected.iter().map_while(move |affected| {
            let (name, _) = (reader.str()?, reader.numbers()?);
            Some((name, affected))
        });
        all.filter(|(_, affected)| !**affected).map(|(name, _)| name)
    }

    /// Whether it is still the memo of the run: what is known was looked at before the lock was taken.
    pub fn stands(&self, run: &Path) -> bool {
        let now = fs::read(&path(run)).unwrap_or_default();
        if now == self.memo {
            return true;
        }
        // Files that were touched may have been noted meanwhile, here or there.
        decode(&now).is_some_and(|now| decode(&self.memo).is_some_and(|memo| memo.says_the_same(&now)))
    }

    /// Writes the memo anew, with the contents that were recorded since. What changed and was not recorded was
    /// judged, and did not matter: it must be as it was when the build began. False if that does not make one.
    pub fn renew(&self, index: &Index, run: &Path, said: &str, contents: &Contents, began_ns: i64) -> bool {
        let Some(places) = self.places(said, contents) else { return false };
        let mut memo = self.memo.clone();
        for (path, at) in places {
            let Ok(Some(seen)) = index.look(&run.join(&path)) else { return false };
            let Some(digest) = raw(&seen.digest) else { return false };
            match contents.get(Path::new(&path)) {
                Some(recorded) if *recorded != digest => return false,
                None if !seen.settled || is_racy(&seen.signature, began_ns) => return false,
                _ => {}
            }
            let signature = if seen.settled { seen.signature } else { Signature::default() };
            memo[at..at + 36].copy_from_slice(&signature_bytes(&signature));
            memo[at + 36..at + 68].copy_from_slice(&digest);
        }
        seal(&mut memo);
        fs::write_atomic(&self::path(run), &memo, Durability::Unsynced).is_ok()
    }

    /// The files that changed or were recorded since, and where their records are; none if not all have one, or if
    /// more than contents may have changed.
    fn places(&self, said: &str, contents: &Contents) -> Option<Vec<(String, usize)>> {
        let memo = decode(&self.memo)?;
        if memo.said != said || !memo.dirs.is_empty() {
            return None;
        }
        let recorded = contents.0.keys().map(|path| Some((String::from(&**path), memo.find(path)?)));
        let mut places: Vec<(String, usize)> = recorded.collect::<Option<_>>()?;
        let renewed: HashSet<usize> = places.iter().map(|&(_, at)| at).collect();
        for &at in self.changed.iter().filter(|at| !renewed.contains(at)) {
            places.push((memo.path_at(at)?, at));
        }
        Some(places)
    }
}

/// The digest of a variable's value; of an unset one that of nothing.
pub fn digest_of_variable(value: Option<&str>) -> Digest {
    Digest::of(value.unwrap_or_default().as_bytes())
}

/// Signature and digest of a file, as they are put down. One without a signature is hashed by the next build.
fn record_of(
    index: &Index,
    run: &Path,
    file: &Path,
    contents: &Contents,
    began_ns: i64,
) -> Option<(Signature, [u8; 32])> {
    let full = run.join(file);
    let recorded = contents.get(file);
    let size = fs::signature(&full).ok()??.size;
    if let (Some(digest), None, WORTH_READING..) = (recorded, index.settled(&full), size) {
        return Some((Signature::default(), *digest));
    }
    let seen = index.look(&full).ok()??;
    let digest = raw(&seen.digest)?;
    match recorded {
        Some(recorded) if *recorded != digest => None,
        Some(_) if !seen.settled => Some((Signature::default(), digest)),
        Some(_) => Some((seen.signature, digest)),
        None if !seen.settled || is_racy(&seen.signature, began_ns) => None,
        None => Some((seen.signature, digest)),
    }
}

fn encode(
    index: &Index,
    run: &Path,
    words: &Digest,
    said: &str,
    rests: &RestsOn,
    began_ns: i64,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256 + rests.files.len() * (RECORD + 32));
    out.extend(MAGIC);
    out.extend([0; 32]);
    text(&mut out, boot_id().unwrap_or_default().as_bytes());
    text(&mut out, words.0.as_bytes());
    text(&mut out, said.as_bytes());
    number(&mut out, rests.env.len());
    for (name, digest) in &rests.env {
        text(&mut out, name.as_bytes());
        text(&mut out, digest.0.as_bytes());
    }
    let mut dirs = rests.dirs.clone();
    dirs.sort();
    dirs.dedup();
    number(&mut out, dirs.len());
    for dir in &dirs {
        let times = fs::directory_times(&run.join(dir)).ok()?;
        if times.is_some_and(|signature| is_racy(&signature, began_ns)) {
            return None;
        }
        text(&mut out, dir.to_str()?.as_bytes());
        out.extend(signature_bytes(&times.unwrap_or_default()));
    }
    number(&mut out, rests.absent.len());
    for path in &rests.absent {
        text(&mut out, path.to_str()?.as_bytes());
    }
    // By folder: each is opened once, and its files looked at relative to it.
    let mut order: Vec<usize> = (0..rests.files.len()).collect();
    let by: Vec<_> = rests.files.iter().map(|file| (file.parent(), file.file_name())).collect();
    let by: Vec<_> = by.into_iter().map(|(folder, name)| (folder.map(Path::as_os_str), name)).collect();
    order.sort_unstable_by_key(|&n| by[n]);
    let mut number_of = vec![0u32; rests.files.len()];
    let mut files: Vec<&PathBuf> = Vec::new();
    for n in order {
        if files.last() != Some(&&rests.files[n]) {
            files.push(&rests.files[n]);
        }
        number_of[n] = files.len() as u32 - 1;
    }
    let records: Vec<(Signature, [u8; 32])> = files
        .par_iter()
        .map(|file| record_of(index, run, file, &rests.contents, began_ns))
        .collect::<Option<_>>()?;
    let mut rest = files.iter().zip(records).peekable();
    let folders = files.chunk_by(|a, b| a.parent() == b.parent());
    number(&mut out, folders.clone().count());
    for group in folders {
        text(&mut out, group[0].parent().unwrap_or(Path::new("")).to_str()?.as_bytes());
        number(&mut out, group.len());
        let mut names = Vec::new();
        for (file, (signature, digest)) in rest.by_ref().take(group.len()) {
            out.extend(signature_bytes(&signature));
            out.extend(digest);
            out.extend((names.len() as u32).to_le_bytes());
            names.extend(file.file_name()?.to_str()?.as_bytes());
            names.push(0);
        }
        text(&mut out, &names);
    }
    let mut sources: Vec<u32> = number_of[..rests.sources].to_vec();
    sources.sort_unstable();
    let mut last = Vec::new();
    numbers(&mut last, &sources);
    number(&mut last, rests.tasks.len());
    for (name, of) in &rests.tasks {
        text(&mut last, name.as_bytes());
        let of: Vec<u32> = of.iter().map(|&n| number_of[n as usize]).collect();
        numbers(&mut last, &of);
    }
    text(&mut out, &last);
    seal(&mut out);
    Some(out)
}

/// Puts the checksum in.
fn seal(bytes: &mut [u8]) {
    let sum = blake3::hash(&bytes[SEALED_FROM..]);
    bytes[16..SEALED_FROM].copy_from_slice(sum.as_bytes());
}

fn number(out: &mut Vec<u8>, n: usize) {
    out.extend((n as u32).to_le_bytes());
}

fn numbers(out: &mut Vec<u8>, all: &[u32]) {
    number(out, all.len());
    all.iter().for_each(|n| out.extend(n.to_le_bytes()));
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend(bytes);
}

fn raw(digest: &Digest) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(&digest.0).ok()?.as_bytes())
}

fn signature_bytes(s: &Signature) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[0..8].copy_from_slice(&s.size.to_le_bytes());
    bytes[8..16].copy_from_slice(&s.mtime_ns.to_le_bytes());
    bytes[16..24].copy_from_slice(&s.ctime_ns.to_le_bytes());
    bytes[24..32].copy_from_slice(&s.ino.to_le_bytes());
    bytes[32..36].copy_from_slice(&s.mode.to_le_bytes());
    bytes
}

/// A memo, read in place.
struct Memo<'a> {
    boot: &'a [u8],
    words: &'a [u8],
    said: &'a str,
    env: Vec<(&'a str, &'a [u8])>,
    dirs: Vec<(&'a str, &'a [u8])>,
    absent: Vec<&'a str>,
    folders: Vec<Folder<'a>>,
    /// The pipeline's own files, and the files of each task; read only if something changed.
    tasks: &'a [u8],
}

struct Folder<'a> {
    path: &'a str,
    /// Where its records begin in the file; they are in the order of their names.
    at: usize,
    records: &'a [u8],
    names: &'a [u8],
}

/// Reads front to back; none at the first thing that does not fit.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    fn numbers(&mut self) -> Option<impl Iterator<Item = u32> + use<'a>> {
        let count = self.number()?;
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])))
    }
}

fn decode(bytes: &[u8]) -> Option<Memo<'_>> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(16)? != MAGIC || reader.take(32)? != blake3::hash(bytes.get(SEALED_FROM..)?).as_bytes() {
        return None;
    }
    let (boot, words, said) = (reader.text()?, reader.text()?, reader.str()?);
    let env = (0..reader.number()?).map(|_| Some((reader.str()?, reader.text()?))).collect::<Option<_>>()?;
    let dirs =
        (0..reader.number()?).map(|_| Some((reader.str()?, reader.take(36)?))).collect::<Option<_>>()?;
    let absent = (0..reader.number()?).map(|_| reader.str()).collect::<Option<_>>()?;
    let mut folders = Vec::new();
    for _ in 0..reader.number()? {
        let path = reader.str()?;
        let count = reader.number()?;
        let at = reader.at;
        let records = reader.take(count.checked_mul(RECORD)?)?;
        folders.push(Folder { path, at, records, names: reader.text()? });
    }
    let tasks = reader.text()?;
    (reader.at == bytes.len()).then_some(Memo { boot, words, said, env, dirs, absent, folders, tasks })
}

/// What a look at all files found.
#[derive(Debug, Default)]
struct Looked {
    /// Files whose bytes are the same though their signatures are not: where each record is, and the
    /// signature it has now. One too young to be believed is left out.
    touched: Vec<(usize, Signature)>,
    /// Files that are gone or have other bytes, by number.
    changed: HashSet<u32>,
}

impl Memo<'_> {
    fn check(
        &self,
        run: &Path,
        words: &Digest,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(String, Looked)> {
        if self.words != words.0.as_bytes() || self.boot != boot_id().unwrap_or_default().as_bytes() {
            return None;
        }
        if self.boot.is_empty() && cfg!(target_os = "linux") {
            return None;
        }
        for (name, digest) in &self.env {
            if digest_of_variable(env(name).as_deref()).0.as_bytes() != *digest {
                return None;
            }
        }
        for (dir, times) in &self.dirs {
            let now = fs::directory_times(&run.join(dir)).ok()?.unwrap_or_default();
            if signature_bytes(&now) != *times {
                return None;
            }
        }
        if self.absent.iter().any(|path| !matches!(fs::kind(&run.join(path)), Ok(None))) {
            return None;
        }
        let looked = self.look(run)?;
        Some((self.said.to_owned(), looked))
    }

    /// Of each task that is listed, whether one of its files changed; none if what changed concerns all of them.
    fn affected(&self, changed: &HashSet<u32>) -> Option<Vec<bool>> {
        let mut reader = Reader { bytes: self.tasks, at: 0 };
        // By number: whether it changed, and whether that concerns a task.
        let mut marks = vec![(false, false); self.folders.iter().map(Folder::count).sum()];
        for &file in changed {
            marks.get_mut(file as usize)?.0 = true;
        }
        if reader.numbers()?.any(|source| changed.contains(&source)) {
            return None;
        }
        let count = reader.number()?;
        let mut affected = Vec::with_capacity(count.min(self.tasks.len()));
        for _ in 0..count {
            reader.text()?;
            let mut one = false;
            for file in reader.numbers()? {
                let mark = marks.get_mut(file as usize)?;
                mark.1 = true;
                one |= mark.0;
            }
            affected.push(one);
        }
        // What no task is known to read may matter to any.
        let unexplained = marks.contains(&(true, false));
        (reader.at == self.tasks.len() && !unexplained).then_some(affected)
    }

    /// Whether another memo is the same but for signatures.
    fn says_the_same(&self, other: &Memo<'_>) -> bool {
        let contents = |folder: &Folder<'_>, other: &Folder<'_>| {
            let records = folder.records.chunks_exact(RECORD).zip(other.records.chunks_exact(RECORD));
            (folder.path, folder.names, folder.count()) == (other.path, other.names, other.count())
                && records.into_iter().all(|(one, other)| one[36..] == other[36..])
        };
        let mut folders = self.folders.iter().zip(&other.folders);
        self.boot == other.boot
            && self.tasks == other.tasks
            && self.folders.len() == other.folders.len()
            && folders.all(|(folder, other)| contents(folder, other))
    }

    /// Where the record of a file is, by its number.
    fn place(&self, number: usize) -> Option<usize> {
        let mut first = 0;
        for folder in &self.folders {
            if number < first + folder.count() {
                return Some(folder.at + (number - first) * RECORD);
            }
            first += folder.count();
        }
        None
    }

    /// Where the record of a file is, by its path relative to the run.
    fn find(&self, path: &str) -> Option<usize> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.folders.iter().find(|other| other.path == folder)?;
        let (mut low, mut high) = (0, folder.count());
        while low < high {
            let middle = (low + high) / 2;
            match folder.record(middle)?.1.to_bytes().cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(folder.at + middle * RECORD),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The path of the file whose record is there, relative to the run.
    fn path_at(&self, at: usize) -> Option<String> {
        let folder =
            self.folders.iter().find(|folder| (folder.at..folder.at + folder.records.len()).contains(&at))?;
        let (_, name) = folder.record((at - folder.at) / RECORD)?;
        Some(Path::new(folder.path).join(name.to_str().ok()?).to_str()?.to_owned())
    }

    /// Looks at all files, on two threads if there are many; none if too many differ.
    fn look(&self, run: &Path) -> Option<Looked> {
        // One that is gone took its files with it.
        let dirs: Vec<Option<OpenDir>> =
            self.folders.iter().map(|folder| OpenDir::open(&run.join(folder.path)).ok()).collect();
        let all: usize = self.folders.iter().map(Folder::count).sum();
        let differing = if all < WORTH_TWO_THREADS {
            self.differing(&dirs, 0..all)?
        } else {
            std::thread::scope(|scope| {
                let other = std::thread::Builder::new().stack_size(64 * 1024);
                let other = other.spawn_scoped(scope, || self.differing(&dirs, all / 2..all)).ok()?;
                let mut mine = self.differing(&dirs, 0..all / 2)?;
                mine.extend(other.join().ok()??);
                Some(mine)
            })?
        };
        if differing.len() > MOST_TOUCHED {
            return None;
        }
        let mut firsts = Vec::with_capacity(self.folders.len());
        self.folders.iter().fold(0, |first, folder| {
            firsts.push(first);
            first + folder.count()
        });
        let read =
            |&(folder, n): &(usize, usize)| (firsts[folder] + n, self.folders[folder].same_bytes(run, n));
        let read: Vec<(usize, Bytes)> = if differing.len() < 64 {
            differing.iter().map(read).collect()
        } else {
            differing.par_iter().map(read).collect()
        };
        let mut looked = Looked::default();
        for (number, bytes) in read {
            match bytes {
                Bytes::Same(at, Some(signature)) => looked.touched.push((at, signature)),
                Bytes::Same(_, None) => {}
                Bytes::Other => drop(looked.changed.insert(number as u32)),
            }
        }
        Some(looked)
    }

    /// The files of a range over all folders whose signature is another, as folder and number; none if
    /// there are too many.
    fn differing(&self, dirs: &[Option<OpenDir>], range: Range<usize>) -> Option<Vec<(usize, usize)>> {
        let mut differing = Vec::new();
        let mut first = 0;
        for (at, (folder, dir)) in self.folders.iter().zip(dirs).enumerate() {
            let end = first + folder.count();
            for n in range.start.max(first)..range.end.min(end) {
                let n = n - first;
                let (record, name) = folder.record(n)?;
                let now = dir.as_ref().and_then(|dir| dir.signature(name));
                if now.is_none_or(|now| signature_bytes(&now) != record[..36]) {
                    differing.push((at, n));
                    if differing.len() > MOST_TOUCHED {
                        return None;
                    }
                }
            }
            first = end;
        }
        Some(differing)
    }
}

/// What reading a file whose signature is another found.
enum Bytes {
    /// The same content: where its record is, and its signature, if that can be believed.
    Same(usize, Option<Signature>),
    /// Another content, or none.
    Other,
}

impl Folder<'_> {
    fn count(&self) -> usize {
        self.records.len() / RECORD
    }

    /// Reads a file whose signature is another.
    fn same_bytes(&self, run: &Path, n: usize) -> Bytes {
        self.same(run, n).map_or(Bytes::Other, |signature| Bytes::Same(self.at + n * RECORD, signature))
    }

    fn same(&self, run: &Path, n: usize) -> Option<Option<Signature>> {
        let (record, name) = self.record(n)?;
        let path = run.join(self.path).join(name.to_str().ok()?);
        let (now, signature) = (fs::now_ns(), fs::signature(&path).ok()??);
        let (digest, _) = fs::hash_file(&path).ok()?;
        if raw(&digest)? != record[36..68] || fs::signature(&path).ok()?? != signature {
            return None;
        }
        Some((!is_racy(&signature, now)).then_some(signature))
    }

    fn record(&self, n: usize) -> Option<(&[u8], &CStr)> {
        let record = self.records.get(n * RECORD..(n + 1) * RECORD)?;
        let name = u32::from_le_bytes(record[68..72].try_into().ok()?) as usize;
        Some((record, CStr::from_bytes_until_nul(self.names.get(name..)?).ok()?))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files they look at")]
mod tests {
    use super::*;

    #[test]
    fn a_memo_cut_or_changed_anywhere_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path();
        std::fs::create_dir(run.join(".planexe")).expect("a folder");
        std::fs::write(run.join("a.txt"), "a").expect("a file");
        let words = Digest::of(b"build");
        let rests =
            RestsOn { files: vec!["a.txt".into()], absent: vec!["b.txt".into()], ..RestsOn::default() };
        let index = Index::load(&crate::store::Store::open(run));
        let began_ns = fs::now_ns();
        let encoded = |began_ns| encode(&index, run, &words, "nothing to do", &rests, began_ns);
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
            let (said, looked) = decode(bytes)?.check(run, &words, &env)?;
            looked.changed.is_empty().then_some(said)
        };
        assert_eq!(said(&bytes).as_deref(), Some("nothing to do"));
        for length in 0..bytes.len() {
            assert!(said(&bytes[..length]).is_none(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(said(&other).is_none(), "changed at {at}");
        }
        let other_words = Digest::of(b"build -C x");
        assert!(decode(&bytes).and_then(|memo| memo.check(run, &other_words, &env)).is_none());
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
        check(run, &Digest::of(b"build"), &|_| None)
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
        let index = Index::load(&crate::store::Store::open(run));
        // Younger than the build itself, but its content is recorded.
        write(&index, run, &Digest::of(b"build"), "said", &rests, 0).expect("written");
        assert!(matches!(checked(run), Some(Found::Same(said)) if said == "said"));
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
    fn it_is_renewed_with_what_was_recorded_since() {
        let (dir, rests) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::store::Store::open(run));
        write(&index, run, &Digest::of(b"build"), "said", &rests, 0).expect("written");
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
