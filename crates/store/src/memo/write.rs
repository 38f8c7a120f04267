//! Writing a memo: what a verdict rested on, as bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::format::{
    DIGEST, HEAD_LENGTH, MAGIC, RECORD, REST_SUM, mark, name, number, numbers, raw, signature_bytes, text,
};
use super::{Contents, RestsOn, is_plain};
use crate::index::{Index, is_racy};
use crate::lock::boot_id;
use crate::seal::Seal;
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

pub(super) fn encode(
    seal: &Seal,
    index: &Index,
    run: &Path,
    words: &str,
    said: &str,
    rests: &RestsOn,
    began_ns: i64,
) -> Option<Vec<u8>> {
    let real = run.canonicalize().ok()?;
    let mut out = Vec::with_capacity(256 + rests.files.len() * (RECORD + DIGEST + 32));
    out.extend(MAGIC);
    out.resize(REST_SUM.end, 0);
    text(&mut out, boot_id().unwrap_or_default().as_bytes());
    text(&mut out, words.as_bytes());
    text(&mut out, said.as_bytes());
    let home = match rests.files.iter().chain(&rests.dirs).any(|path| path.is_absolute()) {
        true => real.as_os_str(),
        false => "".as_ref(),
    };
    text(&mut out, home.as_bytes());
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
    number(&mut out, rests.there.len());
    for path in &rests.there {
        let is_file = fs::plain_signature(&run.join(path)).ok()?.is_some();
        if !is_file || !is_plain(&real, path.parent()?) {
            return None;
        }
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
    if folders.iter().any(|group| !is_plain(&real, &folder(group))) {
        return None;
    }
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
    mark(&mut out, seal);
    Some(out)
}
