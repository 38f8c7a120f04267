//! Syncs that many threads ask for at once are done together, as databases commit in groups.
//!
//! A thread that is alone syncs its file at once. So do a few at a time: the journal of a file system takes such
//! together by itself. Who comes while they work waits for them, and one sync of the whole file system then serves all
//! who waited. Each thread still returns only when what it wrote before is on the disk, so that no order of writing
//! changes; only the number of syncs does.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere no sync serves several files"))]

use std::fs::File;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// So many files are synced at a time, each by itself.
const AT_A_TIME: usize = 2;
/// From so many threads on that wait, one sync of the file system costs less than a sync of each file.
const MANY: usize = 4;
/// A round waits no longer for those who are about to come.
const LONGEST_PAUSE: Duration = Duration::from_millis(4);
/// A sync of the file system that took so long wrote what other programs had left to write.
const SLOW: Duration = Duration::from_secs(1);
/// After such a one, files are synced by themselves for so long.
const AFTER_SLOW: Duration = Duration::from_secs(30);

/// The threads that wait for the same sync.
#[derive(Debug, Default)]
struct Round {
    outcome: OnceLock<Outcome>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The file system was synced after all of them had begun to wait.
    Synced,
    /// Too few waited, or the sync failed: each syncs its own file, and hears of its own error.
    EachByItself,
}

#[derive(Debug, Default)]
struct Queue {
    /// Threads that sync a file by itself.
    busy: usize,
    /// A thread syncs the file system.
    leading: bool,
    /// Threads that wait for the next round.
    waiting: usize,
    next: Arc<Round>,
    /// How long the last sync of the file system took.
    last: Duration,
    /// The file system took long to sync: nobody waits for that until then.
    slow_until: Option<Instant>,
}

impl Queue {
    fn has_room(&self) -> bool {
        !self.leading && self.busy < AT_A_TIME
    }

    fn is_slow(&self) -> bool {
        self.slow_until.is_some_and(|until| Instant::now() < until)
    }
}

/// The syncs of one file system.
#[derive(Debug, Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
}

impl Group {
    /// Returns once what the caller wrote before is on the disk: by a sync of its own file, or of all.
    pub(super) fn sync(
        &self,
        own: impl Fn() -> io::Result<()>,
        all: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut queue = self.queue.lock();
        if queue.waiting == 0 && (queue.has_room() || queue.is_slow()) {
            return self.by_itself(queue, own);
        }
        queue.waiting += 1;
        let round = queue.next.clone();
        loop {
            match round.outcome.get() {
                Some(Outcome::Synced) => return Ok(()),
                Some(Outcome::EachByItself) => return self.by_itself(queue, own),
                None if queue.has_room() => return self.lead(queue, &round, own, all),
                None => round.changed.wait(&mut queue),
            }
        }
    }

    fn by_itself(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        own: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        queue.busy += 1;
        drop(queue);
        let result = own();
        let mut queue = self.queue.lock();
        queue.busy -= 1;
        queue.next.changed.notify_one();
        result
    }

    /// Syncs for all who wait. Who comes from now on waits for the next round.
    fn lead<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        round: &Round,
        own: impl Fn() -> io::Result<()>,
        all: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        queue.leading = true;
        if queue.waiting >= MANY {
            // Those who were served last are about to come back: without a pause they would be a round of their own.
            let pause = (queue.last / 2).min(LONGEST_PAUSE);
            drop(queue);
            thread::sleep(pause);
            queue = self.queue.lock();
        }
        queue.next = Arc::default();
        let together = mem::take(&mut queue.waiting) >= MANY;
        drop(queue);
        let began = Instant::now();
        let outcome = if together && all().is_ok() { Outcome::Synced } else { Outcome::EachByItself };
        let mut queue = self.queue.lock();
        queue.leading = false;
        if together {
            queue.last = began.elapsed();
            queue.slow_until = (queue.last >= SLOW).then(|| Instant::now() + AFTER_SLOW);
        }
        let _ = round.outcome.set(outcome);
        round.changed.notify_all();
        queue.next.changed.notify_one();
        match outcome {
            Outcome::Synced => Ok(()),
            Outcome::EachByItself => self.by_itself(queue, own),
        }
    }
}

/// Syncs a file or a folder, together with others on its file system if many are synced at the moment.
pub(super) fn sync_all(file: &File) -> io::Result<()> {
    sync_with(file, || file.sync_all())
}

/// [`sync_all`] of content and length alone.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    sync_with(file, || file.sync_data())
}

/// Syncs what `own` does, all of it on the file system of a file, together with what others sync there.
#[cfg(target_os = "linux")]
pub(super) fn sync_with(file: &File, own: impl Fn() -> io::Result<()>) -> io::Result<()> {
    use std::collections::HashMap;
    use std::os::unix::fs::MetadataExt;
    use std::sync::LazyLock;

    /// By device; none for a file system on which files are only ever synced by themselves.
    type Groups = HashMap<u64, Option<Arc<Group>>>;
    static GROUPS: LazyLock<Mutex<Groups>> = LazyLock::new(Mutex::default);

    let device = super::retry(|| file.metadata())?.dev();
    let group =
        GROUPS.lock().entry(device).or_insert_with(|| linux::tells_errors(file).then(Arc::default)).clone();
    match group {
        Some(group) => group.sync(own, || rustix::fs::syncfs(file).map_err(io::Error::from)),
        None => own(),
    }
}

/// Syncs what `own` does.
#[cfg(not(target_os = "linux"))]
pub(super) fn sync_with(_: &File, own: impl Fn() -> io::Result<()>) -> io::Result<()> {
    own()
}

#[cfg(target_os = "linux")]
pub(super) use linux::keeps_contents;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::sync::LazyLock;

    // The numbers of `statfs(2)`: file systems whose `syncfs` is a sync of each of their files.
    const EXT4: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    const F2FS: u64 = 0xF2F5_2010;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794C_7630;

    fn kind(file: &File) -> Option<u64> {
        // Its type differs between architectures; the number has 32 bits.
        rustix::fs::fstatfs(file).ok().map(|stat| stat.f_type as u64 & 0xFFFF_FFFF)
    }

    /// Whether `syncfs` brings all to the disk. FUSE does not pass it on, and network file systems have their own ways.
    pub(in super::super) fn keeps_contents(dir: &File) -> bool {
        kind(dir).is_some_and(|kind| matches!(kind, EXT4 | XFS | BTRFS | F2FS | TMPFS | OVERLAY))
    }

    /// Whether `syncfs` also says what could not be written: Linux does since 5.8, an overlay may not pass it on.
    pub(super) fn tells_errors(file: &File) -> bool {
        static NEW_ENOUGH: LazyLock<bool> = LazyLock::new(|| {
            let system = rustix::system::uname();
            let release = system.release().to_string_lossy();
            let mut numbers =
                release.split(|c: char| !c.is_ascii_digit()).map_while(|it| it.parse::<u32>().ok());
            (numbers.next(), numbers.next()) >= (Some(5), Some(8))
        });
        *NEW_ENOUGH && keeps_contents(file) && kind(file) != Some(OVERLAY)
    }
}

/// Fewer than this many are done one after the other.
const FEW: usize = 16;
/// Stack of such a thread, in bytes.
const STACK: usize = 512 * 1024;
/// Threads that wait for the disk, most of the time together.
const THREADS: usize = 256;

/// Does the same with each of many, so that their syncs are done together. None is begun after one has failed; with
/// several failures the error of one is returned.
pub fn each<T: Sync, E: Send>(items: &[T], work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    if items.len() < FEW {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let turns = || {
        while failure.lock().is_none()
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(error) = work(item) {
                failure.lock().get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS.min(items.len() / 4) {
            // Where no thread can be had, fewer do the work.
            let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, turns);
        }
        turns();
    });
    failure.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::mpsc::channel;

    use super::*;

    /// Begins as many syncs as are done at a time, lets others wait for them, and then ends those. Returns how many
    /// files were synced by themselves, how often the file system was, and how many of those who waited failed.
    fn syncs_of(waiting: usize, all: impl Fn() -> io::Result<()> + Sync) -> (usize, usize, usize) {
        let group = Group::default();
        let (singly, together, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let all = || {
            together.fetch_add(1, SeqCst);
            all()
        };
        std::thread::scope(|scope| {
            let mut ends = Vec::new();
            let (began, begun) = channel();
            for _ in 0..AT_A_TIME {
                let (end, ended) = channel::<()>();
                ends.push(end);
                let (group, singly, all, began) = (&group, &singly, &all, began.clone());
                scope.spawn(move || {
                    let own = || {
                        singly.fetch_add(1, SeqCst);
                        began.send(()).unwrap();
                        let _ = ended.recv();
                        Ok(())
                    };
                    group.sync(own, all).unwrap();
                });
                begun.recv().unwrap();
            }
            for _ in 0..waiting {
                scope.spawn(|| {
                    let own = || {
                        singly.fetch_add(1, SeqCst);
                        Ok(())
                    };
                    failed.fetch_add(usize::from(group.sync(own, all).is_err()), SeqCst);
                });
            }
            while group.queue.lock().waiting < waiting {
                std::thread::yield_now();
            }
            drop(ends);
        });
        let queue = group.queue.lock();
        assert_eq!((queue.busy, queue.leading, queue.waiting), (0, false, 0));
        (singly.into_inner(), together.into_inner(), failed.into_inner())
    }

    #[test]
    fn who_waits_is_served_by_one_sync() {
        assert_eq!(syncs_of(0, || Ok(())), (AT_A_TIME, 0, 0));
        assert_eq!(syncs_of(MANY - 1, || Ok(())), (AT_A_TIME + MANY - 1, 0, 0), "too few");
        assert_eq!(syncs_of(MANY, || Ok(())), (AT_A_TIME, 1, 0));
        assert_eq!(syncs_of(200, || Ok(())), (AT_A_TIME, 1, 0));
    }

    #[test]
    fn after_a_failed_sync_each_hears_of_its_own_file() {
        let failing = || Err(io::ErrorKind::Other.into());
        assert_eq!(syncs_of(20, failing), (AT_A_TIME + 20, 1, 0));
    }

    #[test]
    fn each_is_done_once_and_none_is_begun_after_a_failure() {
        for count in [0, 1, FEW - 1, FEW, 1000] {
            let items: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            each(&items, |item| {
                item.fetch_add(1, SeqCst);
                Ok::<(), ()>(())
            })
            .unwrap();
            assert!(items.iter().all(|item| item.load(SeqCst) == 1), "{count}");
        }
        let done = AtomicUsize::new(0);
        let items: Vec<usize> = (0..100_000).collect();
        let failed = each(&items, |item| {
            done.fetch_add(1, SeqCst);
            if *item == 10 { Err("no space") } else { Ok(()) }
        });
        assert_eq!(failed, Err("no space"));
        assert!(done.into_inner() < 100_000);
    }

    #[test]
    fn many_threads_that_sync_again_and_again_all_come_to_an_end() {
        let group = Group::default();
        let (on_disk, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sync = || {
            on_disk.fetch_max(written.load(SeqCst), SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let mine = written.fetch_add(1, SeqCst) + 1;
                        group.sync(sync, sync).unwrap();
                        assert!(on_disk.load(SeqCst) >= mine, "it is on the disk when the sync returns");
                    }
                });
            }
        });
    }
}
