//! Making a null-build record of what a verdict rested on.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::record::{DIGEST, Details, Folder, Name, Record, raw};
use super::{BuildInputs, Contents, is_plain};
use crate::index::{Index, NullBuildRecord, is_racy};
use planexe_base::fs::{self, Signature};

/// Up to so many markers are looked at one by one, in half a millisecond, so that one that was written over in place is
/// seen as well. Of more it is seen whether they are there: a damaged record beside outputs that are as recorded is no
/// reason to ask again.
pub(super) const FEW_MARKERS: usize = 512;
/// Larger files are not read at the end of a build just to be believed by the next.
const WORTH_READING: u64 = 1 << 20;

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
    let size = fs::plain_signature(&full).ok()??.size;
    if let Some(digest) = recorded
        && size >= WORTH_READING
        && index.settled(&full).is_none()
    {
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

/// The name of a file, as the system takes it.
fn name(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

fn names<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Option<Vec<CString>> {
    paths.into_iter().map(|path| name(path)).collect()
}

pub(super) fn encode(
    index: &Index,
    run: &Path,
    words: &str,
    said: &str,
    inputs: &BuildInputs,
    began_ns: i64,
) -> Option<NullBuildRecord> {
    let real = run.canonicalize().ok()?;
    let home = match inputs.files.iter().chain(&inputs.dirs).any(|path| path.is_absolute()) {
        true => real.as_os_str(),
        false => "".as_ref(),
    };
    let mut dirs: Vec<&PathBuf> = inputs.dirs.iter().collect();
    dirs.sort();
    dirs.dedup();
    let mut listings = Vec::new();
    for dir in &dirs {
        let times = fs::directory_times(&run.join(dir)).ok()?;
        if times.is_some_and(|signature| is_racy(&signature, began_ns)) {
            return None;
        }
        listings.push(times.unwrap_or_default());
    }
    for path in &inputs.there {
        let is_file = fs::plain_signature(&run.join(path)).ok()?.is_some();
        if !is_file || !is_plain(&real, path.parent()?) {
            return None;
        }
    }
    // By folder: each is opened once, and its files looked at relative to it. Its markers come last.
    let mut is_marker = vec![false; inputs.files.len()];
    if inputs.markers.len() > FEW_MARKERS {
        inputs.markers.iter().for_each(|&n| is_marker[n as usize] = true);
    }
    let by = |n: usize| {
        let file = &inputs.files[n];
        (file.parent().map(Path::as_os_str), is_marker[n], file.file_name())
    };
    let by: Vec<_> = (0..inputs.files.len()).map(by).collect();
    let mut order: Vec<usize> = (0..inputs.files.len()).collect();
    order.sort_unstable_by_key(|&n| by[n]);
    let mut number_of = vec![0u32; inputs.files.len()];
    let mut files: Vec<(&PathBuf, bool)> = Vec::new();
    for n in order {
        if files.last().is_none_or(|(last, _)| *last != &inputs.files[n]) {
            files.push((&inputs.files[n], is_marker[n]));
        }
        number_of[n] = files.len() as u32 - 1;
    }
    let groups: Vec<_> = files.chunk_by(|(a, _), (b, _)| a.parent() == b.parent()).collect();
    let folder = |group: &[(&PathBuf, bool)]| group[0].0.parent().map(Path::to_owned).unwrap_or_default();
    let folders: Vec<PathBuf> = groups.iter().map(|group| folder(group)).collect();
    if folders.iter().any(|folder| !is_plain(&real, folder)) {
        return None;
    }
    // Before the files in them.
    let times: Vec<Signature> = groups
        .iter()
        .zip(&folders)
        .map(|(group, folder)| group.last()?.1.then(|| settled_times(&run.join(folder)))?)
        .map(Option::unwrap_or_default)
        .collect();
    let records: Vec<(Signature, [u8; DIGEST])> = files
        .par_iter()
        .map(|(file, _)| record_of(index, run, file, &inputs.contents, began_ns))
        .collect::<Option<_>>()?;
    let file_name = |(file, _): &(&PathBuf, bool)| {
        // One that is no text could not be found by its path.
        file.to_str()?;
        name(Path::new(file.file_name()?))
    };
    let file_names: Vec<CString> = files.iter().map(file_name).collect::<Option<_>>()?;
    let (folder_names, dir_names) = (names(&folders)?, names(dirs)?);
    let (absent, there) = (names(&inputs.absent)?, names(&inputs.there)?);
    let mut all = records.iter().zip(&file_names).map(|((signature, _), name)| (*signature, Name(name)));
    let folders = groups.iter().zip(&folder_names).zip(times).map(|((group, path), times)| Folder {
        path: Name(path),
        times,
        markers: group.iter().filter(|(_, marker)| *marker).count() as u32,
        files: all.by_ref().take(group.len()).collect(),
        first: 0,
    });
    let record = Record {
        words,
        said,
        home: home.as_bytes(),
        env: inputs.env.iter().map(|(name, digest)| (name.as_str(), digest.0.as_str())).collect(),
        dirs: dir_names.iter().map(|name| Name(name)).zip(listings).collect(),
        absent: absent.iter().map(|name| Name(name)).collect(),
        there: there.iter().map(|name| Name(name)).collect(),
        folders: folders.collect(),
    };
    let digests: Vec<u8> = records.iter().flat_map(|(_, digest)| *digest).collect();
    let mut sources: Vec<u32> = number_of[..inputs.sources].to_vec();
    sources.sort_unstable();
    let numbers = |of: &[u32]| of.iter().map(|&n| number_of[n as usize]).collect();
    let tasks = inputs.tasks.iter().map(|(name, of)| (name.as_str(), numbers(of))).collect();
    let details = Details { digests: &digests, sources, tasks };
    Some(NullBuildRecord { record: record.encode()?, details: details.encode()? })
}
