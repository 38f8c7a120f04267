//! The layout of the memo: what is in its bytes, and where.

use std::ffi::{CStr, OsStr};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::seal::Seal;
use planexe_base::fs::Signature;
use planexe_base::record::Digest;

/// Layout of the file; another one is no memo.
pub(super) const MAGIC: &[u8; 16] = b"planexe memo 07\n";
/// Where the mark of the rest of the head is ([`crate::seal`]).
pub(super) const MARK: Range<usize> = 16..48;
/// Where the length of the head is.
pub(super) const HEAD_LENGTH: Range<usize> = 48..52;
/// Where the digest of all that comes after the head is: the mark is of that, too.
pub(super) const REST_SUM: Range<usize> = 52..84;
/// Bytes of a signature.
pub(super) const SIGNATURE: usize = 36;
/// Bytes of one file's record in the head: its signature, and the offset of its name (4).
pub(super) const RECORD: usize = SIGNATURE + 4;
/// Bytes of one file's digest, after the head.
pub(super) const DIGEST: usize = 32;
/// Puts the digest and the mark in.
pub(super) fn mark(bytes: &mut [u8], seal: &Seal) {
    let head = head_length(bytes).unwrap_or(bytes.len());
    let sum = blake3::hash(&bytes[head..]);
    bytes[REST_SUM].copy_from_slice(sum.as_bytes());
    let mark = seal.mark(&bytes[MARK.end..head]);
    bytes[MARK].copy_from_slice(mark.as_bytes());
}

/// How long the head says it is; none if that cannot be.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(HEAD_LENGTH)?.try_into().ok()?;
    Some(u32::from_le_bytes(length) as usize).filter(|&length| length >= REST_SUM.end)
}

pub(super) fn number(out: &mut Vec<u8>, n: usize) {
    out.extend((n as u32).to_le_bytes());
}

pub(super) fn numbers(out: &mut Vec<u8>, all: &[u32]) {
    number(out, all.len());
    all.iter().for_each(|n| out.extend(n.to_le_bytes()));
}

pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend(bytes);
}

/// The name of a file, as the system takes it.
pub(super) fn name(out: &mut Vec<u8>, path: &Path) {
    let path = path.as_os_str().as_bytes();
    number(out, path.len() + 1);
    out.extend(path);
    out.push(0);
}

pub(super) fn raw(digest: &Digest) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(&digest.0).ok()?.as_bytes())
}

pub(super) fn signature_bytes(s: &Signature) -> [u8; SIGNATURE] {
    let mut bytes = [0; SIGNATURE];
    bytes[0..8].copy_from_slice(&s.size.to_le_bytes());
    bytes[8..16].copy_from_slice(&s.mtime_ns.to_le_bytes());
    bytes[16..24].copy_from_slice(&s.ctime_ns.to_le_bytes());
    bytes[24..32].copy_from_slice(&s.ino.to_le_bytes());
    bytes[32..SIGNATURE].copy_from_slice(&s.mode.to_le_bytes());
    bytes
}

/// A memo, read in place.
pub(super) struct Memo<'a> {
    pub(super) head: Head<'a>,
    /// Digests of all files, one after the other.
    pub(super) digests: &'a [u8],
    /// The pipeline's own files, and the files of each task.
    pub(super) tasks: &'a [u8],
}

/// What must be known to see that nothing changed.
pub(super) struct Head<'a> {
    pub(super) length: usize,
    pub(super) boot: &'a [u8],
    pub(super) words: &'a [u8],
    pub(super) said: &'a [u8],
    /// Where the run was, links resolved, if something is named by an absolute path: in a run that was moved or copied
    /// it may be named by another. Else nothing.
    pub(super) home: &'a [u8],
    pub(super) env: Vec<(&'a str, &'a [u8])>,
    pub(super) dirs: Vec<(&'a CStr, &'a [u8])>,
    pub(super) absent: Vec<&'a CStr>,
    pub(super) there: Vec<&'a CStr>,
    /// In the order of their paths.
    pub(super) folders: Vec<Folder<'a>>,
}

pub(super) struct Folder<'a> {
    pub(super) path: &'a CStr,
    /// The number of its first file: they are counted over all folders.
    pub(super) first: usize,
    /// Where its records begin in the memo; they are in the order of their names, those of markers after the others.
    pub(super) at: usize,
    pub(super) records: &'a [u8],
    pub(super) names: &'a [u8],
    /// How many of them are of markers that need no look while its times stand.
    pub(super) markers: usize,
    /// Its times when all of them were as recorded.
    pub(super) times: &'a [u8],
}

/// Where a file's signature and its digest are in a memo.
pub(super) struct Place {
    pub(super) record: usize,
    pub(super) digest: usize,
}

/// Reads front to back; none at the first thing that does not fit.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    pub(super) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    pub(super) fn name(&mut self) -> Option<&'a CStr> {
        CStr::from_bytes_with_nul(self.text()?).ok()
    }

    /// Room for a list, and how long it is.
    pub(super) fn list<T>(&mut self) -> Option<(Vec<T>, usize)> {
        let length = self.number().filter(|&length| length <= self.bytes.len())?;
        Some((Vec::with_capacity(length), length))
    }

    pub(super) fn numbers(&mut self) -> Option<impl Iterator<Item = u32> + use<'a>> {
        let count = self.number()?;
        let bytes = self.take(count.checked_mul(4)?)?;
        Some(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])))
    }
}

/// The head of a memo that this user's planexe wrote here.
pub(super) fn decode_head<'a>(bytes: &'a [u8], seal: &Seal) -> Option<Head<'a>> {
    let length = head_length(bytes)?;
    if !bytes.starts_with(MAGIC) || !seal.fits(bytes.get(MARK.end..length)?, &bytes[MARK]) {
        return None;
    }
    let mut reader = Reader { bytes: &bytes[..length], at: REST_SUM.end };
    let (boot, words, said, home) = (reader.text()?, reader.text()?, reader.text()?, reader.text()?);
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
    let (mut there, count) = reader.list()?;
    for _ in 0..count {
        there.push(reader.name()?);
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
    (reader.at == length).then_some(Head {
        length,
        boot,
        words,
        said,
        home,
        env,
        dirs,
        absent,
        there,
        folders,
    })
}

pub(super) fn decode<'a>(bytes: &'a [u8], seal: &Seal) -> Option<Memo<'a>> {
    let head = decode_head(bytes, seal)?;
    let rest = &bytes[head.length..];
    if bytes[REST_SUM] != *blake3::hash(rest).as_bytes() {
        return None;
    }
    let (digests, tasks) = rest.split_at_checked(head.count() * DIGEST)?;
    Some(Memo { head, digests, tasks })
}

impl Head<'_> {
    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.folders.last().map_or(0, |last| last.first + last.count())
    }

    /// The folder of a file, by the file's number.
    pub(super) fn folder(&self, number: usize) -> Option<&Folder<'_>> {
        let after = self.folders.partition_point(|folder| folder.first <= number);
        self.folders.get(after.checked_sub(1)?).filter(|folder| number < folder.first + folder.count())
    }

    /// The number of a file, by its path relative to the run.
    pub(super) fn find(&self, path: &str) -> Option<u32> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at = self.folders.binary_search_by(|other| other.path.to_bytes().cmp(folder.as_bytes())).ok()?;
        let folder = &self.folders[at];
        let others = folder.count() - folder.markers;
        let number = folder.find(0..others, name).or_else(|| folder.find(others..folder.count(), name))?;
        u32::try_from(folder.first + number).ok()
    }

    /// The path of a file, by its number.
    pub(super) fn path(&self, number: u32) -> Option<PathBuf> {
        let folder = self.folder(number as usize)?;
        let (_, name) = folder.record(number as usize - folder.first)?;
        Some(folder.path().join(OsStr::from_bytes(name.to_bytes())))
    }
}

impl Folder<'_> {
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Where in the memo its times are.
    pub(super) fn times_at(&self) -> usize {
        self.at - 8 - SIGNATURE
    }

    pub(super) fn count(&self) -> usize {
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
    pub(super) fn record(&self, n: usize) -> Option<(&[u8], &CStr)> {
        let name_of = |n: usize| {
            let record = self.records.get(n * RECORD..(n + 1) * RECORD)?;
            Some((record, u32::from_le_bytes(record[SIGNATURE..].try_into().ok()?) as usize))
        };
        let (record, name) = name_of(n)?;
        let end = name_of(n + 1).map_or(self.names.len(), |(_, next)| next);
        Some((record, CStr::from_bytes_with_nul(self.names.get(name..end)?).ok()?))
    }
}

impl Memo<'_> {
    /// Whether another memo is the same but for signatures.
    pub(super) fn says_the_same(&self, other: &Memo<'_>) -> bool {
        let (mine, others) = (&self.head.folders, &other.head.folders);
        let same = |(a, b): (&Folder<'_>, &Folder<'_>)| a.path == b.path && a.names == b.names;
        self.head.boot == other.head.boot
            && self.tasks == other.tasks
            && self.digests == other.digests
            && mine.len() == others.len()
            && mine.iter().zip(others).all(same)
    }

    /// Where a file's signature and digest are, by its number.
    pub(super) fn place(&self, number: u32) -> Option<Place> {
        let number = number as usize;
        let folder = self.head.folder(number)?;
        let record = folder.at + (number - folder.first) * RECORD;
        Some(Place { record, digest: self.head.length + number * DIGEST })
    }
}
