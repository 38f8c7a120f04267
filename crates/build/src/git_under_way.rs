//! What a person has begun in a checkout and not brought to its end: a merge, a rebase and the like. Nothing of ours is
//! committed or merged into it meanwhile, and they are told what to type.

use std::path::{Path, PathBuf};

use crate::git::{Git, GitError};
use planexe_base::fs;
use planexe_ui::views::shell_word;

/// Something begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// git's word for it: `merge`, `rebase`, `cherry-pick`, `revert`, `am`.
    pub what: &'static str,
    /// The branch that moves when it ends; none if that is the one that is checked out.
    pub branch: Option<String>,
    /// Where.
    pub dir: PathBuf,
}

/// A name of a branch is short.
const CAP: u64 = 1 << 16;

impl UnderWay {
    /// What is under way where git runs.
    pub fn at(git: &Git) -> Result<Option<UnderWay>, GitError> {
        let git_dir = PathBuf::from(git.text(&["rev-parse", "--absolute-git-dir"])?);
        Ok(UnderWay::in_git_dir(&git_dir, git.dir()))
    }

    /// What git's own folder of a checkout says. A rebase comes first: it picks and merges in turn.
    pub fn in_git_dir(git_dir: &Path, dir: &Path) -> Option<UnderWay> {
        let is_there = |name: &str| git_dir.join(name).exists();
        let what = if is_there("rebase-apply/applying") {
            "am"
        } else if is_there("rebase-merge") || is_there("rebase-apply") {
            "rebase"
        } else if is_there("MERGE_HEAD") {
            "merge"
        } else if is_there("REVERT_HEAD") {
            "revert"
        } else if is_there("CHERRY_PICK_HEAD") || is_there("sequencer") {
            "cherry-pick"
        } else {
            return None;
        };
        let head = |folder: &str| {
            let bytes = fs::read_capped(&git_dir.join(folder).join("head-name"), CAP).ok()?;
            String::from_utf8(bytes).ok()?.trim().strip_prefix("refs/heads/").map(str::to_owned)
        };
        let branch =
            if what == "rebase" { head("rebase-merge").or_else(|| head("rebase-apply")) } else { None };
        Some(UnderWay { what, branch, dir: dir.to_owned() })
    }

    /// What is under way, in words.
    pub fn text(&self) -> String {
        match self.what {
            "am" => "a `git am` is under way".to_owned(),
            what => format!("a {what} is under way"),
        }
    }

    /// What to type.
    pub fn hint(&self) -> String {
        let dir = shell_word(&self.dir.to_string_lossy());
        let what = self.what;
        format!("cd {dir}, then solve it and `git {what} --continue`, or `git {what} --abort` gives it up")
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    #[test]
    fn what_git_leaves_says_what_is_under_way() {
        for (file, what, branch) in [
            ("MERGE_HEAD", "merge", None),
            ("CHERRY_PICK_HEAD", "cherry-pick", None),
            ("REVERT_HEAD", "revert", None),
            ("sequencer/todo", "cherry-pick", None),
            ("rebase-apply/applying", "am", None),
            ("rebase-apply/head-name", "rebase", Some("main")),
            ("rebase-merge/head-name", "rebase", Some("main")),
        ] {
            let git_dir = tempfile::tempdir().unwrap();
            let dir = Path::new("/a b");
            assert_eq!(UnderWay::in_git_dir(git_dir.path(), dir), None);
            let file = git_dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "refs/heads/main\n").unwrap();
            let found = UnderWay::in_git_dir(git_dir.path(), dir).expect(what);
            assert_eq!((found.what, found.branch.as_deref()), (what, branch), "{file:?}");
            assert!(found.hint().starts_with("cd '/a b', then"), "{}", found.hint());
        }
    }
}
