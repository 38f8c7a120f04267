//! Puts the files of a project of work into its folder, the first time or again. What is ours to write is listed, with
//! digests, in `plan/generated.json`: a listed file that differs was edited by somebody, and is not written over.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::record::Digest;
use planexe_store::{Store, Why};

/// The list.
pub const LIST: &str = "plan/generated.json";
/// Under which name former contents are in the history.
pub const HISTORY: &str = "execute";

/// The files that are ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Version of this file.
    pub schema: u32,
    /// Digests by path.
    pub files: BTreeMap<String, String>,
    /// The same of the time before, while files are being written: cut short, either may be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<String, String>,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    /// To be written: not there, or other than they were made before.
    pub write: Vec<usize>,
    /// As they should be.
    pub same: usize,
    /// No longer made.
    pub gone: Vec<String>,
    /// Edited by somebody since they were made, and in the way.
    pub edited: Vec<String>,
    /// Links that somebody put in the place of files; what they lead to is not looked at.
    pub links: Vec<String>,
}

/// The list of a folder; none if the folder was not made by us.
pub fn listed(dir: &Path) -> Result<Option<Listed>, String> {
    let path = dir.join(LIST);
    let bytes = match fs::read_optional(&path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match serde_json::from_slice::<Listed>(&bytes) {
        Ok(listed) if listed.schema == 1 => Ok(Some(listed)),
        Ok(listed) => {
            Err(format!("`{}` is of version {}, made by another planexe", path.display(), listed.schema))
        }
        Err(error) => Err(format!("`{}` cannot be read: {error}", path.display())),
    }
}

/// What a folder without a list holds beside what we leave in one if we are cut short before the list is written.
pub fn not_of_ours(dir: &Path) -> Result<Vec<(OsString, FileKind)>, FsError> {
    let is_temp = |name: &OsString| name.to_str().is_some_and(fs::is_temp_name);
    let mut others = Vec::new();
    for (name, kind) in fs::list_dir(dir)? {
        let is_folder = kind == FileKind::Dir;
        let begun = is_folder && name == ".planexe"
            || is_folder
                && name == "plan"
                && fs::list_dir(&dir.join("plan"))?.iter().all(|(name, _)| is_temp(name));
        if !begun && !is_temp(&name) {
            others.push((name, kind));
        }
    }
    Ok(others)
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// Compares what is there with what should be.
pub fn compare(dir: &Path, listed: &Listed, files: &[(String, String)]) -> Result<Change, FsError> {
    let mut change = Change::default();
    let is_ours = |path: &str, now: &str| {
        [&listed.files, &listed.former].iter().any(|all| all.get(path).is_some_and(|digest| digest == now))
    };
    for (n, (path, text)) in files.iter().enumerate() {
        if fs::kind(&dir.join(path))? == Some(FileKind::Link) {
            change.links.push(path.clone());
            change.write.push(n);
            continue;
        }
        match fs::optional(fs::read(&dir.join(path)))? {
            Some(bytes) if bytes == text.as_bytes() => change.same += 1,
            Some(bytes) if !is_ours(path, &digest(&bytes)) => {
                change.edited.push(path.clone());
                change.write.push(n);
            }
            _ => change.write.push(n),
        }
    }
    let made: std::collections::HashSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let mut before: Vec<&String> = listed.files.keys().chain(listed.former.keys()).collect();
    before.sort();
    before.dedup();
    for path in before.into_iter().filter(|path| !made.contains(path.as_str())) {
        // The list lies in the folder, where anybody can write to it: nothing but what we make is meant by it.
        if !is_inside(path) || !is_made(path) {
            continue;
        }
        // Nothing else in its place was made by us.
        if fs::kind(&dir.join(path))? == Some(FileKind::File) {
            change.gone.push(path.clone());
        }
    }
    Ok(change)
}

/// Whether a path is of a kind that this or an earlier version makes, and that is nobody else's.
fn is_made(path: &str) -> bool {
    ["items/", "prompts/", "plan/"].iter().any(|folder| path.starts_with(folder)) && path != LIST
}

fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Writes all but the last file, which makes the folder a run and is left to [`finish`].
pub fn write(
    store: &Store,
    listed: &Listed,
    files: &[(String, String)],
    change: &Change,
) -> Result<(), FsError> {
    let dir = store.run_dir();
    // What one that was cut short had begun.
    let folders: BTreeSet<&Path> = files.iter().filter_map(|(path, _)| Path::new(path).parent()).collect();
    for folder in folders {
        let _ = fs::sweep_temps(&dir.join(folder));
    }
    let former =
        listed.files.iter().chain(&listed.former).map(|(path, digest)| (path.clone(), digest.clone()));
    let both = Listed { former: former.collect(), ..list_of(files) };
    put(dir, LIST, &text_of(&both), Durability::Synced)?;
    for path in &change.edited {
        store.save(HISTORY, Why::Edited, std::slice::from_ref(path), Durability::Synced)?;
    }
    let mut written = Vec::new();
    for &n in change.write.iter().filter(|&&n| n + 1 < files.len()) {
        let (path, text) = &files[n];
        put(dir, path, text, Durability::Unsynced)?;
        written.push(dir.join(path));
    }
    // Half a file, after the power went, would be taken for one that somebody edited.
    let paths: Vec<&Path> = written.iter().map(PathBuf::as_path).collect();
    fs::sync_files(dir, &paths)?;
    for folder in paths.iter().filter_map(|path| path.parent()).collect::<BTreeSet<_>>() {
        fs::make_dirs(folder, Durability::Synced)?;
        fs::sync_dir(folder)?;
    }
    Ok(())
}

/// Writes the last file, and removes what is no longer made.
pub fn finish(store: &Store, files: &[(String, String)], change: &Change) -> Result<(), FsError> {
    let dir = store.run_dir();
    if let Some((path, text)) = files.last().filter(|_| change.write.contains(&(files.len() - 1))) {
        put(dir, path, text, Durability::Synced)?;
    }
    for path in &change.gone {
        store.save(HISTORY, Why::Orphaned, std::slice::from_ref(path), Durability::Synced)?;
        fs::ensure_inside(dir, &dir.join(path))?;
        fs::remove_durably(&dir.join(path), Durability::Synced)?;
    }
    put(dir, LIST, &text_of(&list_of(files)), Durability::Synced)
}

/// Writes a file that is the user's from then on, unless it is there.
pub fn write_once(dir: &Path, path: &str, text: &str) -> Result<bool, FsError> {
    if fs::kind(&dir.join(path))?.is_some() {
        return Ok(false);
    }
    put(dir, path, text, Durability::Synced).map(|()| true)
}

fn list_of(files: &[(String, String)]) -> Listed {
    let digests = files.iter().map(|(path, text)| (path.clone(), digest(text.as_bytes())));
    Listed { schema: 1, files: digests.collect(), former: BTreeMap::new() }
}

fn text_of(listed: &Listed) -> String {
    serde_json::to_string_pretty(listed).expect("BUG: a list of digests is always JSON") + "\n"
}

fn put(dir: &Path, path: &str, text: &str, durability: Durability) -> Result<(), FsError> {
    let target = dir.join(path);
    fs::make_dirs_inside(dir, &target, durability)?;
    fs::write_atomic(&target, text.as_bytes(), durability)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own link")]
mod tests {
    use super::*;

    fn files(version: &str) -> Vec<(String, String)> {
        let all = ["items/one.txt", "two.txt", "pipeline.toml"];
        all.iter().map(|path| ((*path).to_owned(), format!("{path} {version}"))).collect()
    }

    #[test]
    fn cut_short_it_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().canonicalize().unwrap());
        let run = store.run_dir().to_owned();
        let list = || listed(&run).unwrap().unwrap_or_default();
        let change = compare(&run, &list(), &files("1")).unwrap();
        write(&store, &list(), &files("1"), &change).unwrap();
        finish(&store, &files("1"), &change).unwrap();
        // Killed after some files: neither what is new nor what is old was edited by anybody.
        let change = compare(&run, &list(), &files("2")).unwrap();
        write(&store, &list(), &files("2"), &change).unwrap();
        for version in ["2", "3"] {
            let change = compare(&run, &list(), &files(version)).unwrap();
            assert_eq!(change.edited, Vec::<String>::new(), "{version}");
        }
        let rest = compare(&run, &list(), &files("2")).unwrap();
        assert_eq!((rest.write.clone(), rest.same), (vec![2], 2));
        finish(&store, &files("2"), &rest).unwrap();
        assert!(list().former.is_empty());
        // One file less, one edited, and a list that names what is none of its business.
        fs::write_atomic(&run.join("two.txt"), b"mine", Durability::Unsynced).unwrap();
        let outside = run.with_file_name("outside.txt");
        let mut wrong = list();
        wrong.files.insert(format!("../{}", outside.file_name().unwrap().to_str().unwrap()), String::new());
        for path in ["execution.toml", "deliverables/one.md"] {
            fs::make_dirs_inside(&run, &run.join(path), Durability::Unsynced).unwrap();
            fs::write_atomic(&run.join(path), b"mine", Durability::Unsynced).unwrap();
            wrong.files.insert(path.to_owned(), digest(b"mine"));
        }
        let change = compare(&run, &wrong, &files("2")[1..]).unwrap();
        let gone = vec!["items/one.txt".to_owned()];
        assert_eq!((change.edited, change.gone), (vec!["two.txt".to_owned()], gone));
    }

    #[test]
    fn a_link_that_leads_away_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (run, away) = (dir.path().canonicalize().unwrap().join("run"), dir.path().join("away"));
        for folder in [&run, &away] {
            fs::make_dirs(folder, Durability::Unsynced).unwrap();
        }
        std::os::unix::fs::symlink(&away, run.join("items")).unwrap();
        let store = Store::open(run.clone());
        compare(&run, &Listed::default(), &files("1")).unwrap_err();
        let all = Change { write: vec![0, 1], ..Change::default() };
        assert!(write(&store, &Listed::default(), &files("1"), &all).is_err());
        assert!(fs::list_dir(&away).unwrap().is_empty());
    }
}
