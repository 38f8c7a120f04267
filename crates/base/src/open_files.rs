//! How many files this process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files a worker has open at most: a connection, a file and its folder, what an answer is written to.
const OF_A_WORKER: u64 = 4;
/// Files open beside those of workers.
const OTHERS: u64 = 48;

/// Sees to it that so many workers may have their files open, as far as the system lets us, and says how many may.
/// The limit is raised no further than that: programs that are started are given it too.
pub fn for_workers(workers: usize) -> usize {
    let wanted = OTHERS + OF_A_WORKER * workers as u64;
    let now = getrlimit(Resource::Nofile);
    let mut most = now.current.unwrap_or(u64::MAX);
    if most < wanted {
        let more = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(more), ..now }).is_ok() {
            most = more;
        }
    }
    let fit = most.saturating_sub(OTHERS) / OF_A_WORKER;
    workers.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}
