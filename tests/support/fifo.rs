//! A named pipe that holds a command until the test lets it go.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::until;

/// A named pipe. A command that reads it (`cat PIPE`) stops there until the test
/// has opened and closed it.
pub struct Fifo {
    path: PathBuf,
}

impl Fifo {
    /// Makes the pipe.
    pub fn new(path: PathBuf) -> Fifo {
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success(), "mkfifo {}", path.display());
        Fifo { path }
    }

    /// Waits until a command has opened the pipe to read. The command is held as long as the
    /// returned file lives.
    pub fn wait_for_reader(&self) -> File {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        until("a command to open the pipe", || {
            OpenOptions::new().write(true).custom_flags(nonblocking).open(&self.path).ok()
        })
    }
}
