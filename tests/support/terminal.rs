//! A terminal with a program on it: what it shows is read, and what a person would type is written.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::DEADLINE;

/// A program on a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program made by [`super::Space::command`] on a terminal.
    pub fn start(mut command: Command) -> Terminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("the terminal's other side");
        let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("its name");
        let side = File::options().read(true).write(true).open(name).expect("its other side");
        let same = || side.try_clone().expect("its other side");
        command.stdin(same()).stdout(same()).stderr(same()).process_group(0);
        let child = command.spawn().expect("planexe");
        let keyboard = File::from(terminal);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, into) = (keyboard.try_clone().expect("the screen"), shown.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                into.lock().expect("the screen").push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        // Its other side is the program's alone from now on.
        drop((command, side));
        Terminal { child, keyboard, shown, reader: Some(reader) }
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        self.shown.lock().expect("the screen").clone()
    }

    /// Waits until this was shown, so many times.
    #[track_caller]
    pub fn shows(&self, words: &str, times: usize) {
        let start = Instant::now();
        while self.shown().matches(words).count() < times {
            assert!(start.elapsed() < DEADLINE, "waited in vain: {words:?}\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.types_bytes(text.as_bytes());
    }

    /// The same, of what may be no text.
    pub fn types_bytes(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).expect("the keyboard");
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the signal");
    }

    /// Waits for the end of the program; its exit code and all it showed.
    #[track_caller]
    pub fn ends(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the program") {
                break status;
            }
            assert!(start.elapsed() < DEADLINE, "it does not end:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(4));
        };
        // The other side is closed: what is left is read to its end.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the screen");
        }
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
