//! Whether anything happens in a worktree: a cheap look, for the time without progress.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use planexe_base::fs::{self, FileKind};

/// Most entries that are looked at.
const MOST: usize = 20_000;
/// A look is at least so long ago, and twenty times as long as it took.
const REST: Duration = Duration::from_secs(1);

/// Looks at a worktree now and then.
pub struct Watched {
    root: PathBuf,
    last: Mutex<(Option<Instant>, Duration, u64)>,
}

impl Watched {
    /// Of a folder.
    pub fn new(root: PathBuf) -> Watched {
        Watched { root, last: Mutex::new((None, Duration::ZERO, 0)) }
    }

    /// A sum that changes with the files in it, as of the last look.
    pub fn sum(&self) -> u64 {
        let mut last = self.last.lock();
        let (at, took, sum) = *last;
        if at.is_some_and(|at| at.elapsed() < REST.max(took * 20)) {
            return sum;
        }
        let began = Instant::now();
        let sum = sum_of(&self.root);
        *last = (Some(Instant::now()), began.elapsed(), sum);
        sum
    }
}

/// Names, sizes and times of the files in a folder and below; links are not followed, `.git` is passed over.
fn sum_of(root: &Path) -> u64 {
    let mut folders = vec![root.to_owned()];
    let (mut sum, mut seen) = (0u64, 0);
    while let Some(folder) = folders.pop() {
        for (name, kind) in fs::list_dir(&folder).unwrap_or_default() {
            seen += 1;
            if seen > MOST {
                return sum;
            }
            if name == ".git" {
                continue;
            }
            let path = folder.join(&name);
            if kind == FileKind::Dir {
                folders.push(path);
            } else if let Ok(Some((_, signature))) = fs::kind_and_signature(&path) {
                let one =
                    [signature.size, signature.mtime_ns as u64, signature.ctime_ns as u64, signature.ino];
                let one = one.iter().fold(0u64, |sum, n| sum.rotate_left(17) ^ n);
                sum = sum.wrapping_add(one.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
        }
    }
    sum
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a program writes there")]
mod tests {
    use super::*;

    #[test]
    fn any_change_is_seen_and_git_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            sum_of(dir.path())
        };
        let empty = sum_of(dir.path());
        let first = put("a/b/c.txt", "1");
        assert_ne!(empty, first);
        assert_eq!(put(".git/index", "x"), first);
        assert_ne!(put("a/b/c.txt", "22"), first);
        let watched = Watched::new(dir.path().to_owned());
        let seen = watched.sum();
        put("d.txt", "1");
        assert_eq!(watched.sum(), seen, "not before it has rested");
    }
}
