//! Running a program: its own process group, an end that cannot be missed, and nothing left behind.
//!
//! Programs are started by `posix_spawn` (no `fork` of a large parent), each in its own process group,
//! so that Ctrl-C reaches planexe alone and planexe passes it on. One [`Watchdog`] thread ends groups
//! whose time is over; a [`Lifeline`] process ends them if planexe itself is killed.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, waitpid};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::children::Listed;
use crate::clock;
use crate::fs::without_number;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The same where planexe itself is to end: before [`LAST`](crate::forced_exit::LAST) is over, looks included.
pub const LAST_GRACE: Duration = Duration::from_millis(750);

/// How often growth of output is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks of the lifeline at what it was told.
const PAUSE: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// With an exit code.
    Exited(i32),
    /// By a signal that planexe did not send.
    Signalled(i32),
    /// Ended by planexe: its time was over.
    TimedOut,
    /// Ended by planexe: it showed no progress for too long.
    Stalled,
    /// It was told to end, by planexe or by its queue.
    Cancelled,
    /// It could not be started; why.
    NotStarted(String),
}

/// Limits of one program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// From its start to its end.
    pub timeout: Option<Duration>,
    /// Without any growth of what it writes.
    pub stall: Option<Duration>,
}

/// A sum that changes whenever a program writes something; called now and then from another thread.
pub type Growth = Box<dyn Fn() -> u64 + Send>;

/// How long a program has waited so far for what no limit counts; called like [`Growth`].
pub type Waited = Box<dyn Fn() -> Duration + Send>;

/// What is looked at while a program runs.
#[derive(Default)]
pub struct Looks {
    /// What it has written.
    pub growth: Option<Growth>,
    /// How long it has waited.
    pub waited: Option<Waited>,
    /// Whether it is to end, and no other.
    pub cancel: Option<Cancel>,
}

/// Why planexe ends a program.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    TimedOut,
    Stalled,
    Cancelled,
}

struct Watched {
    group: Pid,
    began: Instant,
    deadline: Option<Instant>,
    stall: Option<Duration>,
    looks: Looks,
    last_growth: (u64, Instant),
    /// Of [`Looks::waited`], what the limits were put off by.
    waited: Duration,
    cut: Option<Cut>,
    kill_at: Option<Instant>,
}

#[derive(Default)]
struct Watch {
    groups: HashMap<u64, Watched>,
    /// There was nothing to watch: the thread has to be woken.
    asleep: bool,
    /// When they were looked at last, or the first of them began.
    seen: Option<Instant>,
    closed: bool,
}

/// The thread that ends programs whose time is over. One serves a whole build.
pub struct Watchdog {
    watch: Arc<(Mutex<Watch>, Condvar)>,
    next: AtomicU64,
    lifeline: Arc<Lifeline>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    cancel: Cancel,
}

impl Watchdog {
    /// A watchdog that ends every program once `cancel` says so, and has them on this lifeline.
    pub fn new(cancel: Cancel, lifeline: Arc<Lifeline>) -> Watchdog {
        Watchdog {
            watch: Arc::default(),
            next: AtomicU64::new(0),
            lifeline,
            thread: Mutex::new(None),
            cancel,
        }
    }

    /// Runs a program to its end. Standard input, output and error are the caller's to set.
    pub fn run(&self, command: &mut Command, limits: Limits, growth: Option<Growth>) -> ProcessEnd {
        self.run_one(|lifeline| start_with(lifeline, command), limits, Looks { growth, ..Looks::default() })
    }

    /// [`Watchdog::run`] for a program that can also be cancelled by itself. `start` starts it, as the leader of a
    /// process group, with the variable of the lifeline.
    pub fn run_one(
        &self,
        start: impl FnOnce(&Lifeline) -> std::io::Result<Pid>,
        limits: Limits,
        looks: Looks,
    ) -> ProcessEnd {
        if self.cancel.is_killing() || looks.cancel.as_ref().is_some_and(Cancel::is_killing) {
            return ProcessEnd::Cancelled;
        }
        self.start_thread();
        let group = match start(&self.lifeline) {
            Ok(group) => group,
            Err(error) => return ProcessEnd::NotStarted(without_number(&error)),
        };
        self.lifeline.started(group);
        let listed = Listed::new(group);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        {
            let mut watch = self.watch.0.lock();
            let watched = Watched {
                group,
                began: now,
                // One beyond all time is none.
                deadline: limits.timeout.and_then(|timeout| now.checked_add(timeout)),
                stall: limits.stall,
                looks,
                last_growth: (0, now),
                waited: Duration::ZERO,
                cut: None,
                kill_at: None,
            };
            watch.groups.insert(id, watched);
            // One that watches looks in any case before long, and most programs have ended by then.
            watch.seen.get_or_insert(now);
            if std::mem::take(&mut watch.asleep) {
                self.watch.1.notify_one();
            }
        }
        let ended = wait_unreaped(group);
        // Off the list before it is reaped, so that its number is never signalled once it is another's.
        let cut = self.watch.0.lock().groups.remove(&id).and_then(|watched| watched.cut);
        if cut.is_some() || ended.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(listed);
        let status = reap(group);
        self.lifeline.ended(group);
        match (cut, status) {
            (Some(Cut::TimedOut), _) => ProcessEnd::TimedOut,
            (Some(Cut::Stalled), _) => ProcessEnd::Stalled,
            (Some(Cut::Cancelled), _) => ProcessEnd::Cancelled,
            (None, Ok(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ProcessEnd::Exited(code),
                (None, signal) => ProcessEnd::Signalled(signal.unwrap_or(0)),
            },
            (None, Err(error)) => ProcessEnd::NotStarted(without_number(&error.into())),
        }
    }

    /// The thread starts with the first program, not with every null build.
    fn start_thread(&self) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (watch, cancel) = (self.watch.clone(), self.cancel.clone());
            let spawned = std::thread::Builder::new()
                .name("watchdog".into())
                .stack_size(128 * 1024)
                .spawn(move || guard(&watch, &cancel));
            *thread = spawned.ok();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watch.0.lock().closed = true;
        self.watch.1.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Starts a program as the standard library does.
pub fn start_with(lifeline: &Lifeline, command: &mut Command) -> std::io::Result<Pid> {
    lifeline.ready(command);
    let child = command.process_group(0).spawn()?;
    Pid::from_raw(child.id() as i32).ok_or_else(|| std::io::Error::other("the system gave no process id"))
}

/// Takes in how a child ended.
fn reap(pid: Pid) -> rustix::io::Result<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) => return Err(rustix::io::Errno::CHILD),
            Err(error) => return Err(error),
        }
    }
}

/// Waits for a child's end and leaves it to be reaped.
fn wait_unreaped(pid: Pid) -> rustix::io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
}

/// The watchdog's loop: ends what is over its time, looks for growth, kills what does not go.
fn guard(watch: &(Mutex<Watch>, Condvar), cancel: &Cancel) {
    let mut state = watch.0.lock();
    while !state.closed {
        let now = Instant::now();
        let killing = cancel.is_killing();
        let apart = state.seen.map_or(Duration::ZERO, |seen| now - seen);
        let missed = clock::stood_still(apart, LOOK);
        for watched in state.groups.values_mut() {
            watched.put_off(now, missed);
            watched.look(now, killing);
        }
        // Cancel has no bell: with programs running it is looked at every quarter second.
        state.asleep = state.groups.is_empty();
        state.seen = (!state.asleep).then_some(now);
        let pause = if state.asleep { Duration::from_secs(3600) } else { LOOK };
        watch.1.wait_for(&mut state, pause);
    }
}

impl Watched {
    /// Nobody looked for so long, or it waited meanwhile: the longer of the two is not counted.
    fn put_off(&mut self, now: Instant, missed: Duration) {
        let waited = self.looks.waited.as_ref().map_or(Duration::ZERO, |waited| waited());
        let by = waited.saturating_sub(self.waited).max(missed);
        if by.is_zero() {
            return;
        }
        self.waited = self.waited.max(waited);
        let age = now.saturating_duration_since(self.began);
        self.deadline = self.deadline.and_then(|deadline| deadline.checked_add(by.min(age)));
        self.last_growth.1 = (self.last_growth.1 + by).min(now.max(self.last_growth.1));
    }

    fn look(&mut self, now: Instant, killing: bool) {
        if let Some(kill_at) = self.kill_at {
            if now >= kill_at {
                let _ = kill_process_group(self.group, Signal::KILL);
            }
            return;
        }
        if let Some(growth) = &self.looks.growth {
            let size = growth();
            if size != self.last_growth.0 {
                self.last_growth = (size, now);
            }
        }
        let cut = if killing || self.looks.cancel.as_ref().is_some_and(Cancel::is_killing) {
            Cut::Cancelled
        } else if self.deadline.is_some_and(|deadline| now >= deadline) {
            Cut::TimedOut
        } else if self.stall.is_some_and(|stall| now - self.last_growth.1 >= stall) {
            Cut::Stalled
        } else {
            return;
        };
        self.cut = Some(cut);
        self.kill_at = Some(now + if killing { LAST_GRACE } else { GRACE });
        let _ = kill_process_group(self.group, Signal::TERM);
    }
}

/// A process that outlives a killed planexe just long enough to end its programs.
///
/// planexe holds the write end of a pipe and writes `+GROUP` and `-GROUP` lines into it. When the pipe
/// ends without a word, planexe is gone, and every group still listed gets SIGTERM, then SIGKILL.
///
/// Between a program's start and its line lies a moment, as long as the machine is busy, in which a kill
/// leaves a program nobody was told of. So each also carries this lifeline's name in its environment, by
/// which it is found at the end (on Linux; elsewhere that moment is left).
///
/// It is started with the first program, not with every null build. One serves a whole planexe.
#[derive(Debug, Default)]
pub struct Lifeline {
    program: Option<std::path::PathBuf>,
    /// Told apart from every other's.
    name: String,
    process: Mutex<Option<Child>>,
    /// Process groups that it knows of.
    groups: AtomicUsize,
}

/// Hidden argument that makes planexe a lifeline.
pub const LIFELINE_ARGUMENT: &str = "__lifeline";
/// The variable that holds the name of a program's lifeline.
pub const LIFELINE_VARIABLE: &str = "PLANEXE_LIFELINE";

impl Lifeline {
    /// One that this program (planexe itself) serves; without it there is none.
    pub fn new(program: Option<std::path::PathBuf>) -> Arc<Lifeline> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        Arc::new(Lifeline { program, name, process: Mutex::default(), groups: AtomicUsize::new(0) })
    }

    /// Starts it, if it does not run, and has this program carry its name: before the program is started,
    /// so that no moment is without it.
    pub fn ready(&self, command: &mut Command) {
        if let Some((name, value)) = self.variable() {
            command.env(name, value);
        }
    }

    /// Starts it, if it does not run; the variable that programs carry, which are started from then on.
    pub fn variable(&self) -> Option<(&str, &str)> {
        let program = self.program.as_ref()?;
        let mut process = self.process.lock();
        if process.is_none() {
            *process = start(program, &self.name).ok();
        }
        Some((LIFELINE_VARIABLE, &self.name))
    }

    /// A program began, as the leader of this process group.
    pub fn started(&self, group: Pid) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        tell(self.process.lock().as_mut(), '+', group);
    }

    /// It ended, and was reaped.
    pub fn ended(&self, group: Pid) {
        self.groups.fetch_sub(1, Ordering::Relaxed);
        tell(self.process.lock().as_mut(), '-', group);
    }
}

fn start(program: &std::path::Path, name: &str) -> std::io::Result<Child> {
    Command::new(program)
        .args([LIFELINE_ARGUMENT, name])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // It needs nothing of it, and keys least of all.
        .env_clear()
        .spawn()
}

fn tell(process: Option<&mut Child>, sign: char, group: Pid) {
    if let Some(pipe) = process.and_then(|process| process.stdin.as_mut()) {
        let _ = pipe.write_all(format!("{sign}{}\n", group.as_raw_nonzero()).as_bytes());
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().take() {
            drop(process.stdin.take());
            // With nothing left to end it need not come to its own end, for which it takes its time.
            if self.groups.load(Ordering::Relaxed) == 0 {
                let _ = process.kill();
            }
            let _ = process.wait();
        }
    }
}

/// One read, gone on with after an interruption; none at an error.
fn read_some(input: &mut impl std::io::Read, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.ok(),
        }
    }
}

/// Groups whose leader carries the name of this lifeline, whether it was told of them or not.
///
/// None is missed: a program holds the pipe until it has begun, so the pipe has not ended before. A program
/// that left for a session of its own (a daemon) is let go.
#[cfg(target_os = "linux")]
fn carrying(name: &str) -> Vec<Pid> {
    let wanted = format!("{LIFELINE_VARIABLE}={name}");
    let carries = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let session = group_and_session("self").map(|(_, session)| session);
    let leads = |pid: i32| match group_and_session(&pid.to_string()) {
        Some((group, of)) => group == pid && Some(of) == session,
        None => false,
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&pid| carries(pid) && leads(pid)).filter_map(Pid::from_raw).collect()
}

/// Group and session of a process, 0 where its leader is of an outer container (proc_pid_stat(5)).
#[cfg(target_os = "linux")]
fn group_and_session(process: &str) -> Option<(i32, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything; after it: state, parent, group, session.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

#[cfg(not(target_os = "linux"))]
fn carrying(_: &str) -> Vec<Pid> {
    Vec::new()
}

/// The side of the lifeline of this name: reads until the pipe ends, then ends what is left.
pub fn lifeline_main(name: &str, mut input: impl std::io::Read) {
    let mut groups: Vec<Pid> = Vec::new();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Some(n @ 1..) = read_some(&mut input, &mut buffer) {
        bytes.extend_from_slice(&buffer[..n]);
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = bytes.drain(..end).collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            let Some(group) = line.get(1..).and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else {
                continue;
            };
            groups.retain(|&known| known != group);
            if line.starts_with('+') {
                groups.push(group);
            }
        }
        // With many short programs there are thousands of lines a second: not woken for each.
        std::thread::sleep(PAUSE);
    }
    groups.extend(carrying(name));
    if groups.is_empty() {
        return;
    }
    for &group in &groups {
        let _ = kill_process_group(group, Signal::TERM);
    }
    std::thread::sleep(Duration::from_secs(1));
    // Once more: the name is to be read a moment after the pipe was let go.
    groups.extend(carrying(name));
    for &group in &groups {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_a_program_waited_is_not_counted() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let waited = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&waited);
        let mut watched = Watched {
            // Never signalled: no look here finds it over its time.
            group: rustix::process::getpid(),
            began,
            deadline: Some(after(10)),
            stall: None,
            looks: Looks {
                waited: Some(Box::new(move || Duration::from_secs(told.load(Ordering::Relaxed)))),
                ..Looks::default()
            },
            last_growth: (0, began),
            waited: Duration::ZERO,
            cut: None,
            kill_at: None,
        };
        for (at, waited_s, missed_s, deadline, growth) in [
            (2, 0, 0, 10, 0),
            (6, 4, 0, 14, 4),
            (8, 4, 0, 14, 4),
            // The computer slept while it waited: once.
            (11, 7, 3, 17, 7),
            (20, 7, 6, 23, 13),
        ] {
            waited.store(waited_s, Ordering::Relaxed);
            watched.put_off(after(at), Duration::from_secs(missed_s));
            watched.look(after(at), false);
            assert_eq!(
                (watched.deadline, watched.last_growth.1, watched.cut),
                (Some(after(deadline)), after(growth), None),
                "{at}"
            );
        }
    }
}
