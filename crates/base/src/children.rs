//! Programs that planexe started and that have not ended: those that are killed when it is forced to end.

use std::process::{Child, ExitStatus};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process, waitid,
};

/// The process groups of programs that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock()
}

/// Asks every program that is listed to end.
pub fn ask_all() {
    signal_all(Signal::TERM);
}

/// Kills every program that is listed.
pub fn kill_all() {
    signal_all(Signal::KILL);
}

fn signal_all(signal: Signal) {
    for &group in running().iter() {
        let _ = kill_process_group(group, signal);
    }
}

/// A process group on the list, as long as this value lives. It goes before its leader is reaped: so its number is never
/// signalled once it is another's.
#[derive(Debug)]
pub struct Listed(Pid);

impl Listed {
    /// Lists a group by its leader.
    pub fn new(group: Pid) -> Listed {
        running().push(group);
        Listed(group)
    }

    /// Lists the group that a child leads.
    pub fn of(child: &Child) -> Listed {
        Listed::new(Pid::from_child(child))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut running = running();
        if let Some(at) = running.iter().position(|group| *group == self.0) {
            running.swap_remove(at);
        }
    }
}

/// How a child ended, if it has; it is taken off the list first.
pub fn try_wait(child: &mut Child, listed: &mut Option<Listed>) -> std::io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    if listed.is_some() {
        match waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(Some(_)) | Err(_) => drop(listed.take()),
        }
    }
    child.try_wait()
}

/// A program that shares planexe's process group, because the terminal is the group's, and all it started in that group.
/// Where that cannot be looked up, only the program itself.
#[derive(Debug)]
pub struct Family(Vec<Pid>);

impl Family {
    /// Those there are now.
    pub fn new(child: &Child) -> Family {
        let first = Pid::from_child(child);
        let mut family = vec![first];
        let parents = parents();
        let mut at = 0;
        while let Some(&parent) = family.get(at) {
            let children = parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid);
            let new: Vec<Pid> = children.filter(|pid| !family.contains(pid) && shares_group(*pid)).collect();
            family.extend(new);
            at += 1;
        }
        Family(family)
    }

    /// Sends all of them a signal.
    pub fn signal(&self, signal: Signal) {
        for &pid in self.0.iter().filter(|pid| shares_group(**pid)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether any is left, the program itself aside.
    pub fn is_left(&self) -> bool {
        self.0.iter().skip(1).any(|&pid| shares_group(pid) && test_kill_process(pid).is_ok())
    }
}

fn shares_group(pid: Pid) -> bool {
    rustix::process::getpgid(Some(pid)).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Every process, and its parent.
#[cfg(target_os = "linux")]
fn parents() -> Vec<(Pid, Pid)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program, in parentheses, may hold anything; after it: state, parent.
        let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((Pid::from_raw(pid)?, Pid::from_raw(parent)?))
    };
    ids.filter_map(parent).collect()
}

#[cfg(not(target_os = "linux"))]
fn parents() -> Vec<(Pid, Pid)> {
    Vec::new()
}
