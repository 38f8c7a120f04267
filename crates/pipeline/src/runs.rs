//! A folder of runs: which runs stand in it, what they are called, and how one is put aside or removed. Knows no pipeline.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::manifest::run::RunFile;
use planexe_base::fs::{self, Durability, FileKind, FsError};

/// Put before the name of a run that is archived. It stays on the same level, so that the way to its pipeline holds.
const ARCHIVED: &str = ".archived-";
/// Put before the name of a run that is being removed: if that is interrupted, what is left is no run.
const REMOVED: &str = ".removed-";
/// Held while a run is made.
const LOCK: &str = ".planexe-runs.lock";
/// A name is no longer than this, so that something may be put before it.
const LONGEST: usize = 200;

/// A folder of runs. It need not be there yet.
#[derive(Debug, Clone)]
pub struct Runs {
    root: PathBuf,
}

/// A run in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name of its folder; of an archived one without what was put before it.
    pub id: String,
    /// Its folder.
    pub dir: PathBuf,
    /// When it was made, if `run.toml` says so.
    pub created: Option<String>,
}

/// Why a run is not removed.
#[derive(Debug)]
pub enum Unmoved {
    /// It is more than a run: in a few words, what else is in it.
    HoldsMore(&'static str),
    /// There is one of the new name.
    Taken,
    /// A file could not be moved or removed.
    Fs(FsError),
}

impl From<FsError> for Unmoved {
    fn from(error: FsError) -> Unmoved {
        Unmoved::Fs(error)
    }
}

impl Runs {
    /// The runs in a folder.
    pub fn new(root: &Path) -> Runs {
        Runs { root: fs::resolved(root) }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run of a name: a folder of its own, no link, with a pipeline.
    pub fn find(&self, id: &str) -> Option<PathBuf> {
        is_name(id).then(|| self.root.join(id)).filter(|dir| is_run(dir))
    }

    /// The archived run of a name.
    pub fn find_archived(&self, id: &str) -> Option<PathBuf> {
        is_name(id).then(|| self.root.join([ARCHIVED, id].concat())).filter(|dir| is_run(dir))
    }

    /// Whether a name is given to a run, archived or not, or to anything else.
    pub fn is_taken(&self, id: &str) -> bool {
        [id.to_owned(), [ARCHIVED, id].concat()]
            .iter()
            .any(|name| self.root.join(name).symlink_metadata().is_ok())
    }

    /// All runs, or all that are archived, the newest first. Also those of a name that [`Runs::find`] does not take.
    pub fn list(&self, archived: bool) -> Result<Vec<Found>, FsError> {
        let mut found = Vec::new();
        for (name, kind) in fs::list_dir(&self.root)? {
            let shown = name.to_string_lossy();
            let id = if archived { shown.strip_prefix(ARCHIVED) } else { Some(&*shown) };
            let Some(id) = id.filter(|id| kind == FileKind::Dir && !id.starts_with('.')) else { continue };
            let dir = self.root.join(&name);
            if is_run(&dir) {
                let created = RunFile::read(&dir.join("run.toml")).ok().and_then(|run| run.created);
                found.push(Found { id: id.to_owned(), dir, created });
            }
        }
        // Those that do not say so are older than those that do.
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
        Ok(found)
    }

    /// [`Runs::list`] of those that [`Runs::find`] takes.
    pub fn list_named(&self, archived: bool) -> Result<Vec<Found>, FsError> {
        let mut found = self.list(archived)?;
        found.retain(|found| is_name(&found.id));
        Ok(found)
    }

    /// Keeps others from making a run here while what is returned lives. The folder is made if it is not there.
    pub fn hold(&self) -> Result<Option<File>, FsError> {
        fs::make_dirs(&self.root, Durability::Synced)?;
        fs::hold_file(&self.root.join(LOCK))
    }
}

/// Whether a folder is a run.
pub fn is_run(dir: &Path) -> bool {
    fs::kind(dir).is_ok_and(|kind| kind == Some(FileKind::Dir))
        && ["run.toml", "pipeline.toml"].iter().any(|file| dir.join(file).is_file())
}

/// Whether a name may be that of a run: letters, digits, `.`, `_` and `-`, no dot first.
pub fn is_name(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !id.is_empty() && id.len() <= LONGEST && !id.starts_with('.') && id.chars().all(plain)
}

/// A text as a part of a name: lower case, words with `-` between them, no longer than `most`.
pub fn slug(text: &str, most: usize) -> String {
    let mut slug = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let longer = slug.len() + usize::from(!slug.is_empty()) + word.len();
        if longer > most && !slug.is_empty() {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(most).map(|c| c.to_ascii_lowercase()));
    }
    slug
}

/// The folder a run stands in, and its name there.
fn split(dir: &Path) -> Option<(&Path, &str)> {
    Some((dir.parent()?, dir.file_name()?.to_str()?))
}

/// Puts a run aside, or back, under its lock; returns where it is now.
pub fn archive(dir: &Path, back: bool) -> Result<PathBuf, Unmoved> {
    let (root, name) = split(dir).ok_or(Unmoved::HoldsMore("no folder above it"))?;
    let to = match name.strip_prefix(ARCHIVED).filter(|_| back) {
        Some(id) => root.join(id),
        None => root.join([ARCHIVED, name].concat()),
    };
    if to.symlink_metadata().is_ok() {
        return Err(Unmoved::Taken);
    }
    if holds_worktree(dir)? {
        return Err(Unmoved::HoldsMore("the worktree of an isolated task is in it"));
    }
    fs::rename(dir, &to, Durability::Synced)?;
    Ok(to)
}

/// Where the run of a folder is while it is archived.
pub fn archived_name(dir: &Path) -> Option<PathBuf> {
    split(dir).map(|(root, name)| root.join([ARCHIVED, name].concat()))
}

/// Whether the name of a folder is that of an archived run.
pub fn is_archived(dir: &Path) -> bool {
    split(dir).is_some_and(|(_, name)| name.starts_with(ARCHIVED))
}

/// Removes a run with all it holds, under its lock. Only what `planexe new` made goes: a folder that has a pipeline of
/// its own, other runs or a repository in it is somebody's work.
pub fn remove(dir: &Path) -> Result<(), Unmoved> {
    if let Some(more) = holds_more(dir)? {
        return Err(Unmoved::HoldsMore(more));
    }
    let (root, name) = split(dir).ok_or(Unmoved::HoldsMore("no folder above it"))?;
    let gone = root.join(format!("{REMOVED}{name}.{}", std::process::id()));
    fs::rename(dir, &gone, Durability::Synced)?;
    fs::remove_tree(&gone)?;
    Ok(())
}

/// What there is in a run beside what belongs to it, if it is more than a run.
pub fn holds_more(dir: &Path) -> Result<Option<&'static str>, FsError> {
    if !dir.join("run.toml").is_file() || dir.join("pipeline.toml").is_file() {
        return Ok(Some("the pipeline itself stands in it"));
    }
    for (name, kind) in fs::list_dir(dir)? {
        if name == ".git" {
            return Ok(Some("it is a repository"));
        }
        if kind == FileKind::Dir && dir.join(&name).join("run.toml").is_file() {
            return Ok(Some("there are other runs in it"));
        }
    }
    if holds_worktree(dir)? {
        return Ok(Some("the worktree of an isolated task is in it"));
    }
    Ok(None)
}

/// Whether a run holds a git worktree, which knows its place and may hold what is in no commit.
fn holds_worktree(dir: &Path) -> Result<bool, FsError> {
    let found = fs::list_dir(&dir.join(".planexe/worktrees"))?;
    Ok(found.iter().any(|(_, kind)| *kind == FileKind::Dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        fs::make_dirs(path.parent().unwrap(), Durability::Unsynced).unwrap();
        fs::write_atomic(path, text.as_bytes(), Durability::Unsynced).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a link as somebody may have made it")]
    fn link(to: &Path, at: &Path) {
        std::os::unix::fs::symlink(to, at).unwrap();
    }

    #[test]
    fn names_of_runs() {
        for name in ["a", "A.b_c-9", "20261122-bakery", "-x"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "../a", "/a", "a b", "ä", "a\0", &"x".repeat(201)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_text_as_a_name() {
        for (text, name) in [
            ("A bakery in Ghent, by bicycle!", "a-bakery-in-ghent-by"),
            ("Überraschung", "berraschung"),
            ("面包店", ""),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaa"),
        ] {
            assert_eq!(slug(text, 20), name, "{text}");
        }
    }

    #[test]
    fn runs_are_found_put_aside_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let runs = Runs::new(temp.path());
        let dir = |name: &str| temp.path().join(name);
        put(&dir("one/run.toml"), "pipeline = \"p\"\ncreated = \"2026-01-01T00:00:00Z\"\n");
        put(&dir("two/run.toml"), "pipeline = \"p\"\ncreated = \"2026-02-01T00:00:00Z\"\n");
        put(&dir("own/pipeline.toml"), "");
        put(&dir("nothing/plan.txt"), "");
        put(&dir(".hidden/run.toml"), "pipeline = \"p\"\n");
        put(&dir("of mine/run.toml"), "pipeline = \"p\"\n");
        put(&dir("above/run.toml"), "pipeline = \"p\"\n");
        put(&dir("above/below/run.toml"), "pipeline = \"p\"\n");
        let outside = tempfile::tempdir().unwrap();
        put(&outside.path().join("run.toml"), "pipeline = \"p\"\n");
        link(outside.path(), &dir("link"));
        let names = |archived| -> Vec<String> {
            runs.list(archived).unwrap().into_iter().map(|found| found.id).collect()
        };
        assert_eq!(names(false), ["two", "one", "own", "of mine", "above"]);
        let named = runs.list_named(false).unwrap();
        assert!(named.iter().all(|found| runs.find(&found.id).is_some()) && named.len() == 4);
        assert_eq!((runs.find("link"), runs.find("nothing"), runs.find("..")), (None, None, None));
        let aside = archive(&dir("one"), false).unwrap();
        assert_eq!((names(true), runs.find("one")), (vec!["one".to_owned()], None));
        assert!(runs.is_taken("one") && is_archived(&aside));
        assert_eq!(runs.find_archived("one"), Some(aside.clone()));
        assert_eq!(archive(&aside, true).unwrap(), dir("one"));
        assert!(matches!(remove(&dir("own")), Err(Unmoved::HoldsMore(_))));
        assert!(matches!(remove(&dir("above")), Err(Unmoved::HoldsMore(_))));
        remove(&dir("two")).unwrap();
        assert_eq!(names(false), ["one", "own", "of mine", "above"]);
    }
}
