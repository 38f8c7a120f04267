//! A Unix socket for the programs of a process: for this user alone, at a short path, gone with its owner.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path that all systems take, in bytes; Linux has room for 107, macOS for 103.
const LONGEST: usize = 100;
/// So many names are tried: those before it may be of processes that are numbered apart, as in a container.
const NAMES: u32 = 1000;

/// A socket that is bound, and removed when this goes.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds one in the first of these folders that takes it, in a folder that only this user can read, with mode 600. What
    /// processes left there that are gone is removed. None if it can be nowhere.
    pub fn bind(bases: &[PathBuf]) -> Option<Socket> {
        bases.iter().find_map(|base| bind_in(base))
    }

    /// What is bound.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // If it was the last one.
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}

fn bind_in(base: &Path) -> Option<Socket> {
    let folder = base.join(format!("planexe-{}", rustix::process::geteuid().as_raw()));
    for number in 0..NAMES {
        // Another process may have removed it as the last one there.
        if !is_private(base, &folder) {
            return None;
        }
        if number == 0 {
            sweep(&folder);
        }
        let path = folder.join(format!("{}-{number}.sock", std::process::id()));
        if path.as_os_str().len() > LONGEST {
            return None;
        }
        match UnixListener::bind(&path) {
            Ok(listener) => {
                let socket = Socket { listener, path };
                let private = std::fs::Permissions::from_mode(0o600);
                return std::fs::set_permissions(&socket.path, private).is_ok().then_some(socket);
            }
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::NotFound) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Whether a folder is there that is this user's own, and closed to all others. In a shared folder another user may have
/// made it before.
fn is_private(base: &Path, folder: &Path) -> bool {
    let made = DirBuilder::new().mode(0o700).create(folder);
    let is_there = made.is_ok() || made.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists);
    base.is_absolute()
        && is_there
        && std::fs::symlink_metadata(folder).is_ok_and(|it| {
            it.is_dir() && it.uid() == rustix::process::geteuid().as_raw() && it.mode() & 0o077 == 0
        })
}

/// Removes sockets whose process is gone and that nobody listens at.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let pid = name.to_str().and_then(|name| name.strip_suffix(".sock")?.split_once('-')?.0.parse().ok());
        let is_gone = pid.and_then(rustix::process::Pid::from_raw).is_some_and(|pid| {
            matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
        });
        // In a container it may live under another number.
        let refuses =
            || UnixStream::connect(&path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if is_gone && refuses() {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_socket_is_for_one_user_and_gone_with_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let bases = [PathBuf::from("relative"), base.path().join("x".repeat(100)), base.path().to_owned()];
        let (one, other) = (Socket::bind(&bases).unwrap(), Socket::bind(&bases).unwrap());
        let folder = one.path().parent().unwrap().to_owned();
        assert_eq!((mode(one.path()), mode(&folder)), (0o600, 0o700));
        UnixStream::connect(other.path()).unwrap();
        // Of a process that was killed: nobody has this number.
        let left = folder.join("2147483647-0.sock");
        drop(UnixListener::bind(&left).unwrap());
        let foreign = folder.join("2147483647-1.sock");
        let lives = UnixListener::bind(&foreign).unwrap();
        drop(one);
        drop(Socket::bind(&bases).unwrap());
        assert!(!left.exists() && foreign.exists() && other.path().exists());
        drop(lives);
        drop(other);
        drop(Socket::bind(&bases).unwrap());
        assert!(!folder.exists(), "nothing is left");
    }

    #[test]
    fn a_folder_that_others_can_read_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let bases = [base.path().to_owned()];
        let folder = base.path().join(format!("planexe-{}", rustix::process::geteuid().as_raw()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Socket::bind(&bases).is_none());
        std::fs::remove_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/", &folder).unwrap();
        assert!(Socket::bind(&bases).is_none());
    }
}
