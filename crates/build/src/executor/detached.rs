//! `detached`: an attempt on this machine with a supervisor of its own, in a session of its own. It needs no planexe
//! beside it; a reboot ends it, which is seen by the boot its claim names.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::{ATTEMPT_ARGUMENT, Executor, Known, NotHanded, Seen};
use planexe_base::fs;
use planexe_base::process::LIFELINE_VARIABLE;
use planexe_store::jobs::JobFiles;

/// Starts supervisors, and takes in their ends.
pub(super) struct Detached {
    planexe: PathBuf,
    /// Those this process started: none is left as dead while it lives.
    children: Mutex<Vec<Child>>,
}

impl Detached {
    pub(super) fn new(planexe: PathBuf) -> Detached {
        Detached { planexe, children: Mutex::default() }
    }

    fn start(&self, files: &JobFiles) -> std::io::Result<String> {
        let said = fs::fresh_log(&files.dir.join("supervisor.log")).map_err(std::io::Error::other)?;
        let mut command = Command::new(&self.planexe);
        command.arg(ATTEMPT_ARGUMENT).arg(&files.dir).process_group(0).current_dir("/");
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        // By this the lifeline of a planexe around this one would end it.
        command.env_remove(LIFELINE_VARIABLE);
        for name in &files.job.env_remove {
            command.env_remove(name);
        }
        let child = command.spawn()?;
        let pid = child.id();
        self.children.lock().push(child);
        Ok(pid.to_string())
    }
}

impl Executor for Detached {
    fn submit(&self, jobs: &[Known<'_>]) -> Result<Vec<String>, NotHanded> {
        let start = |(files, _): &Known<'_>| {
            self.start(files).map_err(|error| {
                let why = format!("no supervisor can be started: {}", fs::without_number(&error));
                NotHanded::Refused(why)
            })
        };
        jobs.iter().map(start).collect()
    }

    fn look(&self, jobs: &[Known<'_>]) -> Result<Vec<Seen>, String> {
        let mut children = self.children.lock();
        children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let state = |(files, handed): &Known<'_>| {
            let Some(claim) = files.claim() else {
                let starting = |child: &Child| handed.id.as_deref() == Some(&child.id().to_string());
                return match children.iter().any(starting) {
                    true => Seen::Queued(String::new()),
                    false => Seen::Gone("its supervisor ended before it began".to_owned()),
                };
            };
            match files.is_alive() {
                Some(true) => Seen::Running(format!("process {}", claim.pid)),
                Some(false) if claim.boot_id != planexe_store::host::boot_id() => {
                    Seen::Gone("the machine was started anew".to_owned())
                }
                Some(false) => Seen::Gone("its supervisor was killed".to_owned()),
                // It may be; only its result tells.
                None => Seen::Running(format!("process {} on {}", claim.pid, claim.host)),
            }
        };
        Ok(jobs.iter().map(state).collect())
    }

    fn cancel(&self, jobs: &[Known<'_>]) -> Result<(), String> {
        for (files, _) in jobs {
            // Besides being asked by file, so that it need not come round to that.
            if let (Some(claim), Some(true)) = (files.claim(), files.is_alive())
                && claim.process_start.is_some()
                && !files.is_revoked()
                && let Some(pid) = i32::try_from(claim.pid).ok().and_then(Pid::from_raw)
            {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        Ok(())
    }

    fn find(&self, jobs: &[&JobFiles]) -> Result<Vec<Option<String>>, String> {
        let begun = |files: &JobFiles| files.claim().filter(|_| !files.is_revoked());
        Ok(jobs.iter().map(|files| begun(files).map(|claim| claim.pid.to_string())).collect())
    }
}
