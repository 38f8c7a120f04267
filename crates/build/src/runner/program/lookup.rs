//! Where programs are: each is looked for in `PATH` once, not each time one is started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use planexe_base::fs;

/// Where programs are: each is looked for in `PATH` once, not each time one is started.
#[derive(Debug, Default)]
pub struct Programs {
    path: Option<String>,
    found: Mutex<HashMap<String, Option<PathBuf>>>,
}

impl Programs {
    /// Programs of a `PATH`; without one the system finds them.
    pub fn new(path: Option<String>) -> Programs {
        Programs { path, ..Programs::default() }
    }

    /// A program named without a slash, if it is in the path.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.as_deref().filter(|_| !name.is_empty() && !name.contains('/'))?;
        let mut found = self.found.lock();
        found.entry(name.to_owned()).or_insert_with(|| look_in(path, name)).clone()
    }
}

/// The first of the path's folders that has the program. A folder that depends on where one is, or a file
/// of the name that cannot be run, is left for the system to decide on.
fn look_in(path: &str, name: &str) -> Option<PathBuf> {
    for folder in path.split(':') {
        let file = Path::new(folder).join(name);
        if !folder.starts_with('/') {
            return None;
        }
        match fs::signature(&file) {
            Ok(None) => {}
            Ok(Some(signature)) => return (signature.mode & 0o111 == 0o111).then_some(file),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the programs they look for")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_as_the_system_would() {
        let (first, second) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let put = |folder: &Path, name: &str, mode: u32| {
            std::fs::write(folder.join(name), "").expect("a file");
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(mode)).expect("a mode");
        };
        put(first.path(), "plain", 0o644);
        put(second.path(), "plain", 0o755);
        put(second.path(), "tool", 0o755);
        let path = format!("{}:{}", first.path().display(), second.path().display());
        let programs = Programs::new(Some(path.clone()));
        assert_eq!(programs.find("tool"), Some(second.path().join("tool")));
        // Whether one may run a file without its bits is the system's to say.
        for left in ["plain", "missing", "./tool", "/bin/sh", ""] {
            assert_eq!(programs.find(left), None, "{left}");
        }
        assert_eq!(Programs::new(Some(format!("tools:{path}"))).find("tool"), None);
        assert_eq!(Programs::new(None).find("tool"), None);
    }
}
