//! Reading what a user may have linked: inputs, and the pipeline's own files. A link below the run directory is followed
//! where it leads to a file of the run, of the pipeline's folder, or of a folder the user allows, and nowhere else: that is
//! seen when the file is opened, whatever was seen of it before.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::OFlags;

use super::read::{Hashed, TO_READ};
use super::signature::{FileKind, Signature};
use super::{At, Result, beneath, optional, read as plain};
use crate::record::Digest;

fn open_regular(path: &Path) -> Result<(File, Metadata)> {
    beneath::open_linked(path, TO_READ).and_then(plain::of_regular).at("read", path)
}

/// [`super::read`]
pub fn read(path: &Path) -> Result<Vec<u8>> {
    plain::all_of(open_regular(path)?).at("read", path)
}

/// [`super::read_optional`]
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    optional(read(path))
}

/// [`super::read_capped`]
pub fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    plain::capped(open_regular(path)?, cap).at("read", path)
}

/// [`super::read_to_string`]
pub fn read_to_string(path: &Path) -> Result<String> {
    plain::text_of(path, read(path)?)
}

/// [`super::hash_file`]
pub fn hash_file(path: &Path) -> Result<(Digest, u64)> {
    let (mut file, metadata) = open_regular(path)?;
    plain::hash_open(&mut file, metadata.len()).at("read", path)
}

/// [`super::hash_signed`]
pub fn hash_signed(path: &Path) -> Result<Option<Hashed>> {
    match optional(open_regular(path))? {
        Some(opened) => plain::signed(opened).at("read", path).map(Some),
        None => Ok(None),
    }
}

/// [`super::signature`]
pub fn signature(path: &Path) -> Result<Option<Signature>> {
    plain::regular(optional(beneath::look_linked(path).at("read", path))?).at("read", path)
}

/// [`super::list_dir`]
pub fn list_dir(path: &Path) -> Result<Vec<(OsString, FileKind)>> {
    let mut names = Vec::new();
    let opened = beneath::open_linked(path, OFlags::RDONLY | OFlags::DIRECTORY);
    let listed =
        opened.and_then(|dir| beneath::each_in_open(dir.into(), |name, kind| names.push((name, kind))));
    match listed {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(error).at("list", path);
        }
        _ => {}
    }
    names.sort();
    Ok(names)
}
