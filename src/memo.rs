//! The memo of a build that left nothing to do: everything its verdict rested on, so that the next one
//! need not even read the pipeline. Part of the index: a cache that may be deleted at any time.
//!
//! `.planexe/memo` lists every file the verdict rested on (pipeline, texts, inputs, outputs, markers)
//! with its digest and the signature it was last seen with, every directory whose listing mattered (globs,
//! orphans) with its times, and every file whose absence did. A build with the same words on its command
//! line looks at all of them, for which it needs the first half of the memo alone; a file whose signature differs is
//! hashed. Of markers, if there are many, only the folders are looked at: while the times of one stand, no name came or went in it. If no content differs, everything is up to date. If some do, all tasks but those that read or wrote such a file, and what comes after them,
//! still are ([`Known`]). The first thing a build that runs a task does is to remove the memo, so that one
//! that was killed leaves none; nothing is believed after another boot.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::cores;
use crate::fs::{self, Durability, FsError, OpenDir, Signature};
use crate::record::Digest;
use crate::store::index::{Index, is_racy};
use crate::store::lock::{boot_id, is_this_boot, is_unannounced};

/// Layout of the file; another one is no memo.
const MAGIC: &[u8; 16] = b"planexe memo 05\n";
/// Where the checksum of the rest of the head is.
const HEAD_SUM: Range<usize> = 16..24;
/// Where the length of the head is.
const HEAD_LENGTH: Range<usize> = 24..28;
/// Where the checksum of all that comes after the head is.
const REST_SUM: Range<usize> = 28..60;
/// Bytes of a signature.
const SIGNATURE: usize = 36;
/// Bytes of one file's record in the head: its signature, and the offset of its name (4).
const RECORD: usize = SIGNATURE + 4;
/// Bytes of one file's digest, after the head.
const DIGEST: usize = 32;
/// So many files may differ in signature before it is cheaper to judge anew.
const MOST_TOUCHED: usize = 4096;
/// So many files are worth a thread to look at them.
const WORTH_A_THREAD: usize = 700;
/// More threads than this wait for each other in the kernel.
const MOST_THREADS: usize = 8;
/// So many files a thread takes at a time.
const AT_A_TIME: usize = 128;
/// Up to so many markers are looked at one by one, so that one that was written over in place is seen as well. Of
/// more it is seen whether they are there: a damaged record beside outputs that are as recorded is no reason to ask again.
const FEW_MARKERS: usize = 64;
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
    let Some(bytes) = encode(index, run, words, said, rests, began_ns) else { return Ok(()) };
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
#[inline(always)]
pub fn check(run: &Path, open: &OpenDir, words: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    // Else somebody is at it, or was killed at it: there may be something to tidy up.
    if !is_unannounced(open) {
        return None;
    }
    let head = open.read_head(c".planexe/memo", head_length)?;
    let seen = decode_head(&head)?;
    if !seen.is_of(open, words, env) {
        return None;
    }
    let looked = seen.look(open)?;
    if looked.differing.is_empty() && looked.folders.is_empty() {
        return Some(Found::Same(seen.said.to_vec()));
    }
    read_on(run, &head, &seen, looked)
}

/// Reads the files that look as if they had changed.
#[cold]
fn read_on(run: &Path, head: &[u8], seen: &Head<'_>, looked: Looked) -> Option<Found> {
    let Looked { differing, folders } = looked;
    let path = path(run);
    // Another one may have taken its place meanwhile.
    let mut bytes = fs::read(&path).ok().filter(|bytes| bytes.starts_with(head))?;
    let memo = decode(&bytes)?;
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
        seal(&mut bytes);
    }
    Some(match affected {
        Some(affected) => {
            let changed = changed.into_iter().collect();
            Found::Changed(Known { memo: bytes, tasks, affected, changed, fresh: OnceLock::new() })
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
        for (path, place) in places {
            let Ok(Some(seen)) = index.look(&run.join(&path)) else { return false };
            let Some(digest) = raw(&seen.digest) else { return false };
            match contents.get(&path) {
                Some(recorded) if *recorded != digest => return false,
                None if !seen.settled || is_racy(&seen.signature, began_ns) => return false,
                _ => {}
            }
            let signature = if seen.settled { seen.signature } else { Signature::default() };
            memo[place.record..place.record + SIGNATURE].copy_from_slice(&signature_bytes(&signature));
            memo[place.digest..place.digest + DIGEST].copy_from_slice(&digest);
        }
        seal(&mut memo);
        fs::write_atomic(&self::path(run), &memo, Durability::Unsynced).is_ok()
    }

    /// The files that changed or were recorded since, and where they are in the memo; none if not all are, or if
    /// more than contents may have changed.
    fn places(&self, said: &str, contents: &Contents) -> Option<Vec<(PathBuf, Place)>> {
        let memo = decode(&self.memo)?;
        if memo.head.said != said.as_bytes() || !memo.head.dirs.is_empty() {
            return None;
        }
        let recorded = contents.0.keys().map(|path| memo.head.find(path));
        let mut numbers: HashSet<u32> = recorded.collect::<Option<_>>()?;
        numbers.extend(&self.changed);
        numbers.into_iter().map(|number| Some((memo.head.path(number)?, memo.place(number)?))).collect()
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

/// The times of a folder; none if names that come or go now may leave the same ones.
fn settled_times(folder: &Path) -> Option<Signature> {
    let now = fs::now_ns();
    fs::directory_times(folder).ok()?.filter(|times| !is_racy(times, now))
}

fn encode(
    index: &Index,
    run: &Path,
    words: &str,
    said: &str,
    rests: &RestsOn,
    began_ns: i64,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256 + rests.files.len() * (RECORD + DIGEST + 32));
    out.extend(MAGIC);
    out.resize(REST_SUM.end, 0);
    text(&mut out, boot_id().unwrap_or_default().as_bytes());
    text(&mut out, words.as_bytes());
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
        name(&mut out, dir);
        out.extend(signature_bytes(&times.unwrap_or_default()));
    }
    number(&mut out, rests.absent.len());
    for path in &rests.absent {
        name(&mut out, path);
    }
    // By folder: each is opened once, and its files looked at relative to it. Its markers come last.
    let mut is_marker = vec![false; rests.files.len()];
    if rests.markers.len() > FEW_MARKERS {
        rests.markers.iter().for_each(|&n| is_marker[n as usize] = true);
    }
    let by = |n: usize| {
        let file = &rests.files[n];
        (file.parent().map(Path::as_os_str), is_marker[n], file.file_name())
    };
    let by: Vec<_> = (0..rests.files.len()).map(by).collect();
    let mut order: Vec<usize> = (0..rests.files.len()).collect();
    order.sort_unstable_by_key(|&n| by[n]);
    let mut number_of = vec![0u32; rests.files.len()];
    let mut files: Vec<(&PathBuf, bool)> = Vec::new();
    for n in order {
        if files.last().is_none_or(|(last, _)| *last != &rests.files[n]) {
            files.push((&rests.files[n], is_marker[n]));
        }
        number_of[n] = files.len() as u32 - 1;
    }
    let folders: Vec<_> = files.chunk_by(|(a, _), (b, _)| a.parent() == b.parent()).collect();
    let folder = |group: &[(&PathBuf, bool)]| group[0].0.parent().map(Path::to_owned).unwrap_or_default();
    // Before the files in them.
    let times: Vec<Option<Signature>> = folders
        .iter()
        .map(|group| group.last()?.1.then(|| settled_times(&run.join(folder(group))))?)
        .collect();
    let records: Vec<(Signature, [u8; 32])> = files
        .par_iter()
        .map(|(file, _)| record_of(index, run, file, &rests.contents, began_ns))
        .collect::<Option<_>>()?;
    let mut digests = Vec::with_capacity(files.len() * DIGEST);
    let mut rest = files.iter().zip(records);
    number(&mut out, folders.len());
    for (group, times) in folders.iter().zip(times) {
        name(&mut out, &folder(group));
        out.extend(signature_bytes(&times.unwrap_or_default()));
        number(&mut out, group.iter().filter(|(_, marker)| *marker).count());
        number(&mut out, group.len());
        let mut names = Vec::new();
        for ((file, _), (signature, digest)) in rest.by_ref().take(group.len()) {
            out.extend(signature_bytes(&signature));
            digests.extend(digest);
            out.extend((names.len() as u32).to_le_bytes());
            file.to_str()?;
            names.extend(file.file_name()?.as_bytes());
            names.push(0);
        }
        text(&mut out, &names);
    }
    let head = u32::try_from(out.len()).ok()?;
    out[HEAD_LENGTH].copy_from_slice(&head.to_le_bytes());
    out.extend(digests);
    let mut sources: Vec<u32> = number_of[..rests.sources].to_vec();
    sources.sort_unstable();
    numbers(&mut out, &sources);
    number(&mut out, rests.tasks.len());
    for (name, of) in &rests.tasks {
        text(&mut out, name.as_bytes());
        let of: Vec<u32> = of.iter().map(|&n| number_of[n as usize]).collect();
        numbers(&mut out, &of);
    }
    seal(&mut out);
    Some(out)
}

/// Puts the checksums in.
fn seal(bytes: &mut [u8]) {
    let head = head_length(bytes).unwrap_or(bytes.len());
    let sum = blake3::hash(&bytes[head..]);
    bytes[REST_SUM].copy_from_slice(sum.as_bytes());
    let sum = checksum(&bytes[HEAD_SUM.end..head]);
    bytes[HEAD_SUM].copy_from_slice(&sum.to_le_bytes());
}

/// Tells a head from one that was cut or damaged. Each step is one to one, so that no change of a single word goes
/// unseen. Who means harm could write a memo of his own; and blake3 touches six pages of the program for the first
/// time, which takes longer than all else that is done with the head (docs/performance.md).
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    let mut add = |word: [u8; 8]| {
        // An odd number, of the golden ratio: bits spread upwards, and back by the shift.
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^= sum >> 32;
    };
    for word in words.by_ref() {
        add([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    add(last);
    sum
}

/// How long the head says it is; none if that cannot be.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(HEAD_LENGTH)?.try_into().ok()?;
    Some(u32::from_le_bytes(length) as usize).filter(|&length| length >= REST_SUM.end)
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

/// The name of a file, as the system takes it.
fn name(out: &mut Vec<u8>, path: &Path) {
    let path = path.as_os_str().as_bytes();
    number(out, path.len() + 1);
    out.extend(path);
    out.push(0);
}

fn raw(digest: &Digest) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(&digest.0).ok()?.as_bytes())
}

fn signature_bytes(s: &Signature) -> [u8; SIGNATURE] {
    let mut bytes = [0; SIGNATURE];
    bytes[0..8].copy_from_slice(&s.size.to_le_bytes());
    bytes[8..16].copy_from_slice(&s.mtime_ns.to_le_bytes());
    bytes[16..24].copy_from_slice(&s.ctime_ns.to_le_bytes());
    bytes[24..32].copy_from_slice(&s.ino.to_le_bytes());
    bytes[32..SIGNATURE].copy_from_slice(&s.mode.to_le_bytes());
    bytes
}

/// A memo, read in place.
struct Memo<'a> {
    head: Head<'a>,
    /// Digests of all files, one after the other.
    digests: &'a [u8],
    /// The pipeline's own files, and the files of each task.
    tasks: &'a [u8],
}

/// What must be known to see that nothing changed.
struct Head<'a> {
    length: usize,
    boot: &'a [u8],
    words: &'a [u8],
    said: &'a [u8],
    env: Vec<(&'a str, &'a [u8])>,
    dirs: Vec<(&'a CStr, &'a [u8])>,
    absent: Vec<&'a CStr>,
    /// In the order of their paths.
    folders: Vec<Folder<'a>>,
}

struct Folder<'a> {
    path: &'a CStr,
    /// The number of its first file: they are counted over all folders.
    first: usize,
    /// Where its records begin in the memo; they are in the order of their names, those of markers after the others.
    at: usize,
    records: &'a [u8],
    names: &'a [u8],
    /// How many of them are of markers that need no look while its times stand.
    markers: usize,
    /// Its times when all of them were as recorded.
    times: &'a [u8],
}

/// Where a file's signature and its digest are in a memo.
struct Place {
    record: usize,
    digest: usize,
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

    fn name(&mut self) -> Option<&'a CStr> {
        CStr::from_bytes_with_nul(self.text()?).ok()
    }

    /// Room for a list, and how long it is.
    #[inline(always)]
    fn list<T>(&mut self) -> Option<(Vec<T>, usize)> {
        let length = self.number().filter(|&length| length <= self.bytes.len())?;
        Some((Vec::with_capacity(length), length))
    }

    fn numbers(&mut self) -> Option<impl Iterator<Item = u32> + use<'a>> {
        let count = self.number()?;
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])))
    }
}

#[inline(always)]
fn decode_head(bytes: &[u8]) -> Option<Head<'_>> {
    let length = head_length(bytes)?;
    let sum = checksum(bytes.get(HEAD_SUM.end..length)?);
    if !bytes.starts_with(MAGIC) || bytes[HEAD_SUM] != sum.to_le_bytes() {
        return None;
    }
    let mut reader = Reader { bytes: &bytes[..length], at: REST_SUM.end };
    let (boot, words, said) = (reader.text()?, reader.text()?, reader.text()?);
    let (mut env, count) = reader.list()?;
    for _ in 0..count {
        env.push((reader.str()?, reader.text()?));
    }
    let (mut dirs, count) = reader.list()?;
    for _ in 0..count {
        dirs.push((reader.name()?, reader.take(SIGNATURE)?));
    }
    let (mut absent, count) = reader.list()?;
    for _ in 0..count {
        absent.push(reader.name()?);
    }
    let (mut folders, count) = reader.list()?;
    let mut first = 0;
    for _ in 0..count {
        let (path, times) = (reader.name()?, reader.take(SIGNATURE)?);
        let (markers, count) = (reader.number()?, reader.number()?);
        let at = reader.at;
        let records = reader.take(count.checked_mul(RECORD)?)?;
        count.checked_sub(markers)?;
        folders.push(Folder { path, first, at, records, names: reader.text()?, markers, times });
        first += count;
    }
    (reader.at == length).then_some(Head { length, boot, words, said, env, dirs, absent, folders })
}

fn decode(bytes: &[u8]) -> Option<Memo<'_>> {
    let head = decode_head(bytes)?;
    let rest = &bytes[head.length..];
    if bytes[REST_SUM] != *blake3::hash(rest).as_bytes() {
        return None;
    }
    let (digests, tasks) = rest.split_at_checked(head.count() * DIGEST)?;
    Some(Memo { head, digests, tasks })
}

/// What reading the files found whose signatures differ.
#[derive(Debug, Default)]
struct Read {
    /// Files whose bytes are the same: where each record is, and the signature it has now. One too young to be
    /// believed is left out.
    touched: Vec<(usize, Signature)>,
    /// Files that are gone or have other bytes, by number.
    changed: HashSet<u32>,
}

impl Head<'_> {
    /// Whether it was written in this boot, for these words, variables and listings.
    fn is_of(&self, run: &OpenDir, words: &str, env: &dyn Fn(&str) -> Option<String>) -> bool {
        let same_variable =
            |(name, digest): &(&str, &[u8])| digest_of_variable(env(name).as_deref()).0.as_bytes() == *digest;
        let same_listing =
            |(dir, times): &(&CStr, &[u8])| signature_bytes(&run.times(dir).unwrap_or_default()) == *times;
        self.words == words.as_bytes()
            && is_this_boot(self.boot)
            && self.env.iter().all(same_variable)
            && self.dirs.iter().all(same_listing)
            && self.absent.iter().all(|path| run.is_absent(path))
    }

    /// How many files there are.
    fn count(&self) -> usize {
        self.folders.last().map_or(0, |last| last.first + last.count())
    }

    /// The folder of a file, by the file's number.
    fn folder(&self, number: usize) -> Option<&Folder<'_>> {
        let after = self.folders.partition_point(|folder| folder.first <= number);
        self.folders.get(after.checked_sub(1)?).filter(|folder| number < folder.first + folder.count())
    }

    /// The number of a file, by its path relative to the run.
    fn find(&self, path: &str) -> Option<u32> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at = self.folders.binary_search_by(|other| other.path.to_bytes().cmp(folder.as_bytes())).ok()?;
        let folder = &self.folders[at];
        let others = folder.count() - folder.markers;
        let number = folder.find(0..others, name).or_else(|| folder.find(others..folder.count(), name))?;
        u32::try_from(folder.first + number).ok()
    }

    /// The path of a file, by its number.
    fn path(&self, number: u32) -> Option<PathBuf> {
        let folder = self.folder(number as usize)?;
        let (_, name) = folder.record(number as usize - folder.first)?;
        Some(folder.path().join(OsStr::from_bytes(name.to_bytes())))
    }

    /// Looks at all files, on all cores if there are many; none if too many differ.
    fn look(&self, run: &OpenDir) -> Option<Looked> {
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
    fn spans(&self, run: &OpenDir, noted: &mut Vec<(usize, Signature)>) -> Vec<(&Folder<'_>, Range<usize>)> {
        let mut spans = Vec::with_capacity(self.folders.len() + self.count() / AT_A_TIME);
        for folder in &self.folders {
            let mut end = folder.count();
            if folder.markers > 0 {
                let now = fs::now_ns();
                match run.times(folder.name()).filter(|times| !is_racy(times, now)) {
                    Some(times) if signature_bytes(&times) == *folder.times => end -= folder.markers,
                    Some(times) => noted.push((folder.times_at(), times)),
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

/// What a look at all files found.
struct Looked {
    /// The numbers of those whose signatures are others.
    differing: Vec<u32>,
    /// Folders whose markers were looked at, and their times before that: where their records are.
    folders: Vec<(usize, Signature)>,
}

impl Memo<'_> {
    /// Of each task that is listed, whether one of its files changed; none if what changed concerns all of them.
    fn affected(&self, changed: &HashSet<u32>) -> Option<Vec<bool>> {
        let mut reader = Reader { bytes: self.tasks, at: 0 };
        // By number: whether it changed, and whether that concerns a task.
        let mut marks = vec![(false, false); self.head.count()];
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
        let (mine, others) = (&self.head.folders, &other.head.folders);
        let same = |(a, b): (&Folder<'_>, &Folder<'_>)| a.path == b.path && a.names == b.names;
        self.head.boot == other.head.boot
            && self.tasks == other.tasks
            && self.digests == other.digests
            && mine.len() == others.len()
            && mine.iter().zip(others).all(same)
    }

    /// Where a file's signature and digest are, by its number.
    fn place(&self, number: u32) -> Option<Place> {
        let number = number as usize;
        let folder = self.head.folder(number)?;
        let record = folder.at + (number - folder.first) * RECORD;
        Some(Place { record, digest: self.head.length + number * DIGEST })
    }

    /// Reads the files whose signatures differ.
    fn read(&self, run: &Path, differing: &[u32]) -> Read {
        let read = |&number: &u32| (number, self.same_bytes(run, number));
        let read: Vec<(u32, Bytes)> = if differing.len() < 64 {
            differing.iter().map(read).collect()
        } else {
            differing.par_iter().map(read).collect()
        };
        let mut found = Read::default();
        for (number, bytes) in read {
            match bytes {
                Bytes::Same(at, Some(signature)) => found.touched.push((at, signature)),
                Bytes::Same(_, None) => {}
                Bytes::Other => drop(found.changed.insert(number)),
            }
        }
        found
    }

    /// Reads a file whose signature is another.
    fn same_bytes(&self, run: &Path, number: u32) -> Bytes {
        self.same(run, number as usize).unwrap_or(Bytes::Other)
    }

    fn same(&self, run: &Path, number: usize) -> Option<Bytes> {
        let folder = self.head.folder(number)?;
        let n = number - folder.first;
        let path = run.join(folder.path()).join(OsStr::from_bytes(folder.record(n)?.1.to_bytes()));
        let (now, signature) = (fs::now_ns(), fs::signature(&path).ok()??);
        let (digest, _) = fs::hash_file(&path).ok()?;
        if raw(&digest)? != self.digests[number * DIGEST..(number + 1) * DIGEST]
            || fs::signature(&path).ok()?? != signature
        {
            return None;
        }
        Some(Bytes::Same(folder.at + n * RECORD, (!is_racy(&signature, now)).then_some(signature)))
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
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Its path, as the system takes it.
    fn name(&self) -> &CStr {
        if self.path.is_empty() { c"." } else { self.path }
    }

    /// Where in the memo its times are.
    fn times_at(&self) -> usize {
        self.at - 8 - SIGNATURE
    }

    /// The numbers of the files of a range whose signatures are others.
    fn differing(&self, run: &OpenDir, range: Range<usize>, differing: &mut Vec<u32>) -> Option<()> {
        // Opened by each thread for itself: one that is shared is counted by all cores in turn. A folder that is
        // gone took its files with it.
        let dir = run.open_in(self.name());
        for number in range {
            let (record, name) = self.record(number)?;
            let now = dir.as_ref().and_then(|dir| dir.signature(name));
            if now.is_none_or(|now| signature_bytes(&now) != record[..SIGNATURE]) {
                differing.push((self.first + number) as u32);
            }
        }
        Some(())
    }

    fn count(&self) -> usize {
        self.records.len() / RECORD
    }

    /// Which of its files has a name, in a range that is in the order of names.
    fn find(&self, range: Range<usize>, name: &str) -> Option<usize> {
        let Range { start: mut low, end: mut high } = range;
        while low < high {
            let middle = (low + high) / 2;
            match self.record(middle)?.1.to_bytes().cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The record and the name of one of its files.
    fn record(&self, n: usize) -> Option<(&[u8], &CStr)> {
        let name_of = |n: usize| {
            let record = self.records.get(n * RECORD..(n + 1) * RECORD)?;
            Some((record, u32::from_le_bytes(record[SIGNATURE..].try_into().ok()?) as usize))
        };
        let (record, name) = name_of(n)?;
        let end = name_of(n + 1).map_or(self.names.len(), |(_, next)| next);
        Some((record, CStr::from_bytes_with_nul(self.names.get(name..end)?).ok()?))
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
        let words = "build";
        let rests =
            RestsOn { files: vec!["a.txt".into()], absent: vec!["b.txt".into()], ..RestsOn::default() };
        let index = Index::load(&crate::store::Store::open(run));
        let began_ns = fs::now_ns();
        let encoded = |began_ns| encode(&index, run, words, "nothing to do", &rests, began_ns);
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
            let memo = decode(bytes).filter(|memo| memo.head.is_of(&open, words, &env))?;
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
        assert!(decode(&bytes).is_some_and(|memo| !memo.head.is_of(&open, other_words, &env)));
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
        let index = Index::load(&crate::store::Store::open(run));
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
        let index = Index::load(&crate::store::Store::open(run));
        let looked_at = || {
            let bytes = fs::read(&path(run)).expect("the memo");
            let open = OpenDir::open(run).expect("the run");
            let head = decode_head(&bytes).expect("a memo");
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
        let few = decode_head(&bytes).expect("a memo").folders.iter().all(|folder| folder.markers == 0);
        assert!(few, "few are looked at one by one");
    }

    #[test]
    fn it_is_renewed_with_what_was_recorded_since() {
        let (dir, rests) = of_two_tasks();
        let run = dir.path();
        let index = Index::load(&crate::store::Store::open(run));
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
