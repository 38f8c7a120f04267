//! The memo of a build that had nothing to do: everything its verdict rested on, so that the next one
//! need not even read the pipeline. Part of the index: a cache that may be deleted at any time.
//!
//! `.planexe/memo` lists every file the verdict rested on (pipeline, texts, inputs, outputs, markers)
//! with its signature and digest, every directory whose listing mattered (globs, orphans) with its
//! times, and every file whose absence did. A build with the same words on its command line looks at
//! all of them; a file whose signature differs is hashed. If nothing differs, everything is up to date.
//! The first thing a build that runs a task does is to remove the memo, so that one that was killed
//! leaves none; nothing is believed after another boot.

use std::ffi::CStr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::fs::{self, Durability, FsError, OpenDir, Signature};
use crate::record::Digest;
use crate::store::index::{Index, is_racy};
use crate::store::lock::{boot_id, is_announced};

/// Layout of the file; another one is no memo.
const MAGIC: &[u8; 16] = b"planexe memo 01\n";
/// Bytes of one file's record: signature (36), digest (32), offset of its name (4).
const RECORD: usize = 72;
/// So many files may differ in signature before it is cheaper to judge anew.
const MOST_TOUCHED: usize = 256;
/// From so many files on, both halves are looked at at once.
const WORTH_TWO_THREADS: usize = 1500;

/// What a verdict rested on.
#[derive(Debug, Default)]
pub struct RestsOn {
    /// Files, absolute or relative to the run directory.
    pub files: Vec<PathBuf>,
    /// Files that were not there, and might have mattered.
    pub absent: Vec<PathBuf>,
    /// Directories whose listing mattered.
    pub dirs: Vec<PathBuf>,
    /// Environment variables and digests of their values.
    pub env: Vec<(String, Digest)>,
}

/// Where the memo of a run is.
pub fn path(run: &Path) -> PathBuf {
    run.join(".planexe").join("memo")
}

/// Writes the memo of a build that had nothing to do. `words` is a digest of the command line, `said`
/// what was told at the end. Nothing is written if a file may have changed since the build began, or
/// so shortly before that a change since would leave the same times: the verdict may be of its former
/// content.
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

/// What the last build with these words told, if nothing it rested on has changed.
pub fn check(run: &Path, words: &Digest, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    // Somebody is at it, or was killed at it: there may be something to tidy up.
    if is_announced(run) {
        return None;
    }
    let mut bytes = fs::read(&path(run)).ok()?;
    let (said, touched) = decode(&bytes)?.check(run, words, env)?;
    let learned: Vec<(usize, Signature)> = touched.into_iter().filter_map(|(at, s)| Some((at, s?))).collect();
    if !learned.is_empty() {
        for (at, signature) in learned {
            bytes[at..at + 36].copy_from_slice(&signature_bytes(&signature));
        }
        seal(&mut bytes);
        // Only a cache: without it the touched files are hashed again next time.
        let _ = fs::write_atomic(&path(run), &bytes, Durability::Unsynced);
    }
    Some(said)
}

/// The digest of a variable's value; of an unset one that of nothing.
pub fn digest_of_variable(value: Option<&str>) -> Digest {
    Digest::of(value.unwrap_or_default().as_bytes())
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
    let mut files: Vec<&PathBuf> = rests.files.iter().collect();
    files.sort();
    files.dedup();
    // Grouped by folder: each is opened once, and its files looked at relative to it.
    let mut folders: Vec<(&Path, Vec<&PathBuf>)> = Vec::new();
    for file in files {
        let folder = file.parent().unwrap_or(Path::new(""));
        match folders.last_mut() {
            Some((last, group)) if *last == folder => group.push(file),
            _ => folders.push((folder, vec![file])),
        }
    }
    number(&mut out, folders.len());
    for (folder, group) in folders {
        text(&mut out, folder.to_str()?.as_bytes());
        number(&mut out, group.len());
        let mut names = Vec::new();
        for file in group {
            let seen = index.look(&run.join(file)).ok()??;
            if !seen.settled || is_racy(&seen.signature, began_ns) {
                return None;
            }
            out.extend(signature_bytes(&seen.signature));
            out.extend(raw(&seen.digest)?);
            out.extend((names.len() as u32).to_le_bytes());
            names.extend(file.file_name()?.to_str()?.as_bytes());
            names.push(0);
        }
        text(&mut out, &names);
    }
    seal(&mut out);
    Some(out)
}

/// Puts the checksum in.
fn seal(bytes: &mut [u8]) {
    let sum = blake3::hash(&bytes[48..]);
    bytes[16..48].copy_from_slice(sum.as_bytes());
}

fn number(out: &mut Vec<u8>, n: usize) {
    out.extend((n as u32).to_le_bytes());
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
}

struct Folder<'a> {
    path: &'a str,
    /// Where its records begin in the file.
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
}

fn decode(bytes: &[u8]) -> Option<Memo<'_>> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(16)? != MAGIC || reader.take(32)? != blake3::hash(&bytes[48..]).as_bytes() {
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
    (reader.at == bytes.len()).then_some(Memo { boot, words, said, env, dirs, absent, folders })
}

/// A file whose signature is another but whose bytes are the same: where its record is, and the
/// signature it has now, unless that is too young to be believed.
type Touched = (usize, Option<Signature>);

impl Memo<'_> {
    fn check(
        &self,
        run: &Path,
        words: &Digest,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(String, Vec<Touched>)> {
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
        let touched = self.look(run)?;
        Some((self.said.to_owned(), touched))
    }

    /// Looks at all files, on two threads if there are many.
    fn look(&self, run: &Path) -> Option<Vec<Touched>> {
        let dirs: Vec<OpenDir> = self
            .folders
            .iter()
            .map(|folder| OpenDir::open(&run.join(folder.path)).ok())
            .collect::<Option<_>>()?;
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
        differing.into_iter().map(|(folder, n)| self.folders[folder].same_bytes(run, n)).collect()
    }

    /// The files of a range over all folders whose signature is another, as folder and number; none if
    /// there are too many, or one is gone.
    fn differing(&self, dirs: &[OpenDir], range: Range<usize>) -> Option<Vec<(usize, usize)>> {
        let mut differing = Vec::new();
        let mut first = 0;
        for (at, (folder, dir)) in self.folders.iter().zip(dirs).enumerate() {
            let end = first + folder.count();
            for n in range.start.max(first)..range.end.min(end) {
                let n = n - first;
                let (record, name) = folder.record(n)?;
                if signature_bytes(&dir.signature(name)?) != record[..36] {
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

impl Folder<'_> {
    fn count(&self) -> usize {
        self.records.len() / RECORD
    }

    /// Reads a file whose signature is another: none if its bytes are, too.
    fn same_bytes(&self, run: &Path, n: usize) -> Option<Touched> {
        let (record, name) = self.record(n)?;
        let path = run.join(self.path).join(name.to_str().ok()?);
        let (now, signature) = (fs::now_ns(), fs::signature(&path).ok()??);
        let (digest, _) = fs::hash_file(&path).ok()?;
        if raw(&digest)? != record[36..68] || fs::signature(&path).ok()?? != signature {
            return None;
        }
        let settled = !is_racy(&signature, now);
        Some((self.at + n * RECORD, settled.then_some(signature)))
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
        let said = |bytes: &[u8]| decode(bytes).and_then(|memo| memo.check(run, &words, &env));
        assert_eq!(said(&bytes).map(|(said, _)| said).as_deref(), Some("nothing to do"));
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
}
