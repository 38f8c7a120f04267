//! Jobs that an executor has of an earlier build, and that are of no use any more.

use std::time::{Duration, Instant};

use super::BuildContext;
use crate::executor::cancel_all;
use planexe_base::fs::FsError;
use planexe_store::jobs::JobFiles;

/// So long a job that was told to end is waited for.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// Ends them and removes their folders. What they write is not believed; but none may be at work any more when the next one
/// of its kind begins, so they are waited for, as long as `waits` says. `told`: why one may go on.
pub(super) fn end(
    ctx: &BuildContext,
    jobs: &[JobFiles],
    waits: impl Fn() -> bool,
    told: impl Fn(String),
) -> Result<(), FsError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let living: Vec<JobFiles> = jobs.iter().filter(|files| files.is_open()).cloned().collect();
    for (_, problem) in cancel_all(&living, &ctx.project.executors, ctx.store.run_dir(), &ctx.planexe) {
        told(problem);
    }
    let began = Instant::now();
    let at_work = |files: &JobFiles| files.is_alive() == Some(true) && !files.is_revoked();
    while living.iter().any(at_work) && began.elapsed() < LAST_WORDS && waits() {
        std::thread::sleep(Duration::from_millis(20));
    }
    jobs.iter().map(JobFiles::remove).fold(Ok(()), Result::and)
}
