//! The file of the one cache, `.planexe/index`: a first line with its schema, a mark ([`super::seal`]), a header, and
//! three parts. The null-build record is what every build reads; its details and the tables of the index are read only
//! where something changed. So the mark is of the header and the record alone, and the header has the digest of the rest.
//! Each part is encoded by `postcard`. The file may be deleted at any time, and one that is damaged, of another schema or
//! not marked by this user in this folder counts as none.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

use super::seal::{LENGTH, Seal, What};

/// Its place in the run directory.
pub(super) const PATH: &CStr = c".planexe/index";
/// What its mark says it is.
pub(super) const INDEX: What<'static> = What::Cache("index");

const MAGIC: &[u8] = b"planexe index 4\n";
/// Where the mark ends.
const MARKED: usize = MAGIC.len() + LENGTH;

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    /// The boot it was written in.
    boot: &'a str,
    /// Lengths of the null-build record and of its details.
    lengths: [u32; 2],
    /// The digest of all that follows the record.
    rest: [u8; 32],
}

/// What a build that starts nothing reads.
pub(super) struct Front<'a> {
    /// The boot it was written in.
    pub(super) boot: &'a str,
    /// The null-build record; empty: none.
    pub(super) record: &'a [u8],
}

/// All of it.
pub(super) struct Parts<'a> {
    /// The boot it was written in.
    pub(super) boot: &'a str,
    /// The null-build record; empty: none.
    pub(super) record: &'a [u8],
    /// The details of that.
    pub(super) details: &'a [u8],
    /// The tables of the index.
    pub(super) tables: &'a [u8],
}

/// The header, and where the record begins and ends.
fn header(bytes: &[u8]) -> Option<(Header<'_>, usize, usize)> {
    let after = bytes.strip_prefix(MAGIC)?.get(LENGTH..)?;
    let (header, rest) = postcard::take_from_bytes::<Header<'_>>(after).ok()?;
    let start = bytes.len() - rest.len();
    let end = start.checked_add(header.lengths[0] as usize)?;
    Some((header, start, end))
}

/// The record, its details and the tables as they lie in a file, its mark not looked at.
pub(super) fn unmarked(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (header, start, end) = header(bytes)?;
    let (record, rest) = (bytes.get(start..end)?, bytes.get(end..)?);
    let (details, tables) = rest.split_at_checked(header.lengths[1] as usize)?;
    Some((record, details, tables))
}

/// How much of a file is its front, as its first bytes say.
pub(super) fn front_length(bytes: &[u8]) -> Option<usize> {
    header(bytes).map(|(_, _, end)| end)
}

/// The front of a file, if its mark fits.
pub(super) fn front<'a>(bytes: &'a [u8], seal: &Seal) -> Option<Front<'a>> {
    let (Header { boot, .. }, start, end) = header(bytes)?;
    let record = bytes.get(start..end)?;
    seal.fits(&bytes[MARKED..end], &bytes[MAGIC.len()..MARKED]).then_some(Front { boot, record })
}

/// All parts of a file, if it is as it was written.
pub(super) fn parts<'a>(bytes: &'a [u8], seal: &Seal) -> Option<Parts<'a>> {
    let Front { boot, record } = front(bytes, seal)?;
    let (header, _, end) = header(bytes)?;
    let rest = &bytes[end..];
    let (details, tables) = rest.split_at_checked(header.lengths[1] as usize)?;
    (*blake3::hash(rest).as_bytes() == header.rest).then_some(Parts { boot, record, details, tables })
}

/// A file; none if a part is too long for it.
pub(super) fn encode(seal: &Seal, parts: &Parts<'_>) -> Option<Vec<u8>> {
    let Parts { boot, record, details, tables } = parts;
    let mut rest = blake3::Hasher::new();
    rest.update(details).update(tables);
    let lengths = [u32::try_from(record.len()).ok()?, u32::try_from(details.len()).ok()?];
    let header = Header { boot, lengths, rest: *rest.finalize().as_bytes() };
    let mut bytes = Vec::with_capacity(MARKED + 128 + record.len() + details.len() + tables.len());
    bytes.extend(MAGIC);
    bytes.resize(MARKED, 0);
    bytes.extend(postcard::to_stdvec(&header).ok()?);
    bytes.extend(*record);
    let mark = seal.mark(&bytes[MARKED..]);
    bytes[MAGIC.len()..MARKED].copy_from_slice(mark.as_bytes());
    bytes.extend(*details);
    bytes.extend(*tables);
    Some(bytes)
}
