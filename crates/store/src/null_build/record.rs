//! What is in the null-build record, and in its details.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use planexe_base::fs::Signature;
use planexe_base::record::Digest;

/// Bytes of one file's digest.
pub(super) const DIGEST: usize = 32;

/// What must be known to see that nothing changed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    /// What stands for the command line.
    pub(super) words: &'a str,
    /// What is told.
    pub(super) said: &'a str,
    /// Where the run was, links resolved, if something is named by an absolute path: in a run that was moved or copied
    /// it may be named by another. Else nothing.
    pub(super) home: &'a [u8],
    /// Environment variables with the digests of their values.
    #[serde(borrow)]
    pub(super) env: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    pub(super) dirs: Vec<(Name<'a>, Signature)>,
    #[serde(borrow)]
    pub(super) absent: Vec<Name<'a>>,
    #[serde(borrow)]
    pub(super) there: Vec<Name<'a>>,
    /// In the order of their paths.
    #[serde(borrow)]
    pub(super) folders: Vec<Folder<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Folder<'a> {
    #[serde(borrow)]
    pub(super) path: Name<'a>,
    /// Its times when all markers were as recorded.
    pub(super) times: Signature,
    /// How many of its files are markers that need no look while its times stand.
    pub(super) markers: u32,
    /// In the order of their names, markers after the others.
    #[serde(borrow)]
    pub(super) files: Vec<(Signature, Name<'a>)>,
    /// The number of its first file: they are counted over all folders.
    #[serde(skip)]
    pub(super) first: usize,
}

/// What must be known to say what a change concerns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Details<'a> {
    /// Of all files, one after the other.
    #[serde(serialize_with = "as_bytes")]
    pub(super) digests: &'a [u8],
    /// The pipeline's own files, by number.
    pub(super) sources: Vec<u32>,
    /// Tasks and the numbers of their files.
    #[serde(borrow)]
    pub(super) tasks: Vec<(&'a str, Vec<u32>)>,
}

/// The name of a file, as the system takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a>(pub(super) &'a CStr);

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.to_bytes_with_nul())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'a>, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        CStr::from_bytes_with_nul(bytes).map(Name).map_err(serde::de::Error::custom)
    }
}

impl Name<'_> {
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.0.to_bytes()))
    }
}

/// At once: it takes much longer as a list of numbers.
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(super) fn raw(digest: &Digest) -> Option<[u8; DIGEST]> {
    Some(*blake3::Hash::from_hex(&digest.0).ok()?.as_bytes())
}

impl<'a> Record<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let mut record: Record<'a> = postcard::from_bytes(bytes).ok()?;
        let mut first = 0;
        for folder in &mut record.folders {
            folder.first = first;
            first += folder.files.len();
            folder.files.len().checked_sub(folder.markers as usize)?;
        }
        Some(record)
    }
}

impl Record<'_> {
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.folders.last().map_or(0, |last| last.first + last.files.len())
    }

    /// The folder of a file and its place there, by the file's number.
    fn place(&self, number: u32) -> Option<(usize, usize)> {
        let number = number as usize;
        let at = self.folders.partition_point(|folder| folder.first <= number).checked_sub(1)?;
        let place = number - self.folders[at].first;
        (place < self.folders[at].files.len()).then_some((at, place))
    }

    /// The folder and the name of a file, by its number.
    pub(super) fn file(&self, number: u32) -> Option<(&Folder<'_>, Name<'_>)> {
        let (at, place) = self.place(number)?;
        let folder = &self.folders[at];
        Some((folder, folder.files[place].1))
    }

    /// Notes a file's signature, by its number.
    pub(super) fn set_signature(&mut self, number: u32, signature: Signature) {
        if let Some((at, place)) = self.place(number) {
            self.folders[at].files[place].0 = signature;
        }
    }

    /// The number of a file, by its path relative to the run.
    pub(super) fn find(&self, path: &str) -> Option<u32> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at =
            self.folders.binary_search_by(|other| other.path.0.to_bytes().cmp(folder.as_bytes())).ok()?;
        let folder = &self.folders[at];
        let (others, markers) = folder.files.split_at(folder.files.len() - folder.markers as usize);
        let find = |files: &[(Signature, Name<'_>)]| {
            files.binary_search_by(|(_, other)| other.0.to_bytes().cmp(name.as_bytes())).ok()
        };
        let place = find(others).or_else(|| Some(others.len() + find(markers)?))?;
        u32::try_from(folder.first + place).ok()
    }

    /// The path of a file, by its number.
    pub(super) fn path(&self, number: u32) -> Option<PathBuf> {
        let (folder, name) = self.file(number)?;
        Some(folder.path.path().join(name.path()))
    }

    /// Whether another record is of the same files.
    pub(super) fn lists_the_same(&self, other: &Record<'_>) -> bool {
        let same = |a: &Folder<'_>, b: &Folder<'_>| {
            a.path == b.path
                && a.files.len() == b.files.len()
                && a.files.iter().zip(&b.files).all(|((_, a), (_, b))| a == b)
        };
        self.folders.len() == other.folders.len()
            && self.folders.iter().zip(&other.folders).all(|(a, b)| same(a, b))
    }
}

impl<'a> Details<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Details<'a>> {
        postcard::from_bytes(bytes).ok()
    }

    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }
}

/// A record and its details, read as if somebody had marked them: whether they could be. For fuzzing.
pub(super) fn read_unmarked(record: &[u8], details: &[u8]) -> bool {
    let (Some(mut record), Some(details)) = (Record::decode(record), Details::decode(details)) else {
        return false;
    };
    let numbers = details.tasks.iter().flat_map(|(_, numbers)| numbers).chain(&details.sources);
    for &number in numbers {
        let path = record.path(number);
        // Of names in disorder, or named twice, another may be found, or none.
        let _ = path.as_deref().and_then(Path::to_str).and_then(|path| record.find(path));
        record.set_signature(number, Signature::default());
    }
    record.count() > 0 && record.lists_the_same(&record)
}
