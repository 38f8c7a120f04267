//! The desk of an executor: attempts are handed in here and waited for, by one thread for all of them. It submits what
//! may be submitted together, looks at what was, and tells each how it ended. Nothing is asked more often than it
//! changes: the pause between two looks grows while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Executor, Known, NotHanded, Seen};
use planexe_base::cancel::{Cancel, Level};
use planexe_pipeline::manifest::types::ExecutorKind;
use planexe_pipeline::project::ExecutorSpec;
use planexe_store::jobs::{Handed, JobFiles, JobResult};

/// The first pause between two looks.
const SOON: Duration = Duration::from_millis(20);
/// Between two looks whether the build wants one to end, at most.
const LISTEN: Duration = Duration::from_millis(200);
/// What comes within this time is submitted together, where that can be.
const GATHER: Duration = Duration::from_millis(60);
/// So long a job that was cancelled is waited for.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How the handing in of an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It left a result.
    Result(Box<JobResult>),
    /// It is gone, and left a result that the disk cannot read.
    Unreadable,
    /// It is gone without one; why.
    Lost(String),
    /// The executor did not take it, or it did not begin in time; why.
    Refused(String),
    /// It was cancelled, as the build wants it.
    Cancelled,
    /// The build goes, and it goes on.
    Left,
}

/// An attempt to be handed in.
pub struct Request {
    /// Its files.
    pub files: JobFiles,
    /// It was handed over before, by another build.
    pub adopted: bool,
    /// How far the build wants it to end.
    pub cancel: Cancel,
    /// Told what is seen of it; of one that changes nothing too.
    pub seen: Watcher,
}

/// Told what is seen of a job, and its id if there is one.
pub type Watcher = Box<dyn Fn(&Seen, Option<&str>) + Send>;

/// How often jobs are looked at, and what is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    poll: Duration,
    grace: Duration,
    start_within: Option<Duration>,
}

/// Where attempts are handed in.
pub struct Desk {
    shared: Arc<Shared>,
    count: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Inbox {
    new: Vec<Item>,
    started: bool,
    closed: bool,
}

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    executor: Box<dyn Executor>,
    name: String,
    patience: Patience,
    left: Arc<AtomicBool>,
    note: Arc<dyn Fn(String) + Send + Sync>,
}

struct Item {
    request: Request,
    tell: Sender<Ended>,
    came: Instant,
    handed: Handed,
    /// Whether it was submitted, as far as known.
    submitted: bool,
    seen: Option<Seen>,
    gone_since: Option<Instant>,
    cancelled: Option<Instant>,
    /// It did not begin in time.
    refused: bool,
}

impl Desk {
    /// The desk of an executor. `left`: set once the build leaves what it handed over.
    pub(super) fn new(
        spec: &ExecutorSpec,
        executor: Box<dyn Executor>,
        left: Arc<AtomicBool>,
        note: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Desk {
        let is_here = spec.kind == ExecutorKind::Detached;
        let usual = |here, there| Duration::from_millis(if is_here { here } else { there });
        let patience = Patience {
            poll: spec.table.poll.map_or(usual(500, 10_000), |span| span.0),
            grace: spec.table.grace.map_or(usual(1500, 10_000), |span| span.0),
            start_within: spec.table.start_within.map(|span| span.0),
        };
        let shared = Shared {
            inbox: Mutex::default(),
            wake: Condvar::new(),
            executor,
            name: spec.name.clone(),
            patience,
            left,
            note,
        };
        Desk { shared: Arc::new(shared), count: Arc::default() }
    }

    /// Hands an attempt in and waits for its end.
    pub fn run(&self, request: Request) -> Ended {
        let (tell, told) = channel();
        let handed = request.files.handed();
        let item = Item {
            submitted: request.adopted,
            handed: handed.unwrap_or_default(),
            request,
            tell,
            came: Instant::now(),
            seen: None,
            gone_since: None,
            cancelled: None,
            refused: false,
        };
        self.count.fetch_add(1, Ordering::SeqCst);
        {
            let mut inbox = self.shared.inbox.lock();
            inbox.new.push(item);
            if !inbox.started {
                let shared = self.shared.clone();
                let thread = std::thread::Builder::new().name("executor".into()).stack_size(512 * 1024);
                inbox.started = thread.spawn(move || shared.work()).is_ok();
            }
            self.shared.wake.notify_one();
        }
        let ended = told.recv().unwrap_or_else(|_| Ended::Refused("no thread can be started".to_owned()));
        self.count.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    /// How many attempts are handed in.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.inbox.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

/// What the thread of a desk remembers.
struct Rounds {
    pause: Duration,
    next: Instant,
    /// The executor does not answer, since then.
    away: Option<Instant>,
    told_away: bool,
}

impl Shared {
    fn work(&self) {
        let mut items: Vec<Item> = Vec::new();
        let mut rounds = Rounds { pause: SOON, next: Instant::now(), away: None, told_away: false };
        loop {
            {
                let mut inbox = self.inbox.lock();
                if items.is_empty() && inbox.new.is_empty() {
                    if inbox.closed {
                        return;
                    }
                    self.wake.wait(&mut inbox);
                } else if inbox.new.is_empty() {
                    let gathering = items.iter().any(|item| !item.submitted);
                    let pause = rounds.next.saturating_duration_since(Instant::now()).min(LISTEN);
                    self.wake.wait_for(&mut inbox, if gathering { pause.min(SOON) } else { pause });
                }
                if !inbox.new.is_empty() {
                    (rounds.pause, rounds.next) = (SOON, Instant::now());
                    items.append(&mut inbox.new);
                }
            }
            self.listen(&mut items);
            self.submit(&mut items, &mut rounds);
            if Instant::now() >= rounds.next {
                self.look(&mut items, &mut rounds);
            }
        }
    }

    /// What the build wants of each.
    fn listen(&self, items: &mut Vec<Item>) {
        let left = self.left.load(Ordering::SeqCst);
        items.retain_mut(|item| {
            let level = item.request.cancel.level();
            if item.cancelled.is_none() && left {
                return item.end(Ended::Left);
            }
            let has_begun = || item.request.files.claim().is_some();
            let wanted = match level {
                Level::Running => true,
                // What has begun finishes; what waits is not to start.
                Level::Draining => item.submitted && has_begun(),
                Level::Killing => false,
            };
            if wanted || item.cancelled.is_some() {
                return true;
            }
            let files = &item.request.files;
            let _ = files.ask_to_end();
            let never = files.revoke().unwrap_or(false);
            if item.handed.id.is_some() {
                // What could not be reached ends by the file it was asked by, or never begins.
                let _ = self.executor.cancel(&[(files, &item.handed)]);
            }
            item.cancelled = Some(Instant::now());
            if never { item.end(Ended::Cancelled) } else { true }
        });
    }

    /// Submits what waits for it, together what takes the same.
    fn submit(&self, items: &mut Vec<Item>, rounds: &mut Rounds) {
        let most = self.executor.together().max(1);
        let is_new = |item: &Item| !item.submitted && item.cancelled.is_none();
        let waiting = items.iter().filter(|item| is_new(item)).count();
        if waiting == 0 || (rounds.away.is_some() && Instant::now() < rounds.next) {
            return;
        }
        let newest = items.iter().filter(|item| is_new(item)).map(|item| item.came.elapsed()).min();
        if most > 1 && waiting < most && newest.is_some_and(|age| age < GATHER) {
            return;
        }
        while let Some(first) = items.iter().position(is_new) {
            let same = |item: &Item| item.takes() == items[first].takes();
            let batch: Vec<usize> =
                (0..items.len()).filter(|&n| is_new(&items[n]) && same(&items[n])).take(most).collect();
            let name = format!("planexe-{}", &items[first].request.files.job.fence);
            for (index, &n) in (0..).zip(&batch) {
                items[n].handed = Handed { id: None, batch: name.clone(), index };
                // Before it is submitted: a build after this one finds it by the name.
                if let Err(error) = items[n].request.files.write_handed(&items[n].handed) {
                    (self.note)(format!("{}: {error}", self.name));
                }
            }
            let jobs: Vec<Known<'_>> =
                batch.iter().map(|&n| (&items[n].request.files, &items[n].handed)).collect();
            match self.executor.submit(&jobs) {
                Ok(ids) => {
                    for (&n, id) in batch.iter().zip(ids) {
                        items[n].handed.id = Some(id);
                        items[n].submitted = true;
                        let _ = items[n].request.files.write_handed(&items[n].handed);
                    }
                    self.is_back(rounds);
                    (rounds.pause, rounds.next) = (SOON, Instant::now());
                }
                Err(NotHanded::Away(why)) => {
                    // It may have taken them all the same, and died before it said so: that is found out first.
                    for &n in batch.iter().filter(|_| self.executor.finds()) {
                        items[n].submitted = true;
                    }
                    self.is_away(rounds, &why);
                    return;
                }
                Err(NotHanded::Refused(why)) => {
                    for &n in batch.iter().rev() {
                        // Whatever it did with it, it does not begin.
                        let _ = items[n].request.files.revoke();
                        items.remove(n).end(Ended::Refused(why.clone()));
                    }
                }
            }
        }
    }

    /// Looks at what was submitted: results first, and at the executor for what has none.
    fn look(&self, items: &mut Vec<Item>, rounds: &mut Rounds) {
        let before = items.len();
        items.retain_mut(|item| !item.submitted || !item.take_result());
        let mut changed = items.len() != before;
        match self.ask(items) {
            Ok(some) => {
                changed |= some;
                self.is_back(rounds);
            }
            Err(why) => self.is_away(rounds, &why),
        }
        items.retain_mut(|item| {
            let over = item.is_over(self.patience);
            if over && item.refused && item.handed.id.is_some() {
                // It would wait on in the queue, only to find that nobody wants it.
                let _ = self.executor.cancel(&[(&item.request.files, &item.handed)]);
            }
            !over
        });
        changed |= items.len() != before;
        rounds.pause = if changed { SOON } else { (rounds.pause * 3 / 2).min(self.patience.poll.max(SOON)) };
        rounds.next = Instant::now() + rounds.pause;
    }

    /// Asks the executor for the states; whether one changed.
    fn ask(&self, items: &mut [Item]) -> Result<bool, String> {
        let unknown: Vec<usize> =
            (0..items.len()).filter(|&n| items[n].submitted && items[n].handed.id.is_none()).collect();
        if !unknown.is_empty() {
            let files: Vec<&JobFiles> = unknown.iter().map(|&n| &items[n].request.files).collect();
            for (n, id) in unknown.iter().copied().zip(self.executor.find(&files)?) {
                items[n].found(id);
            }
        }
        let known: Vec<usize> = (0..items.len()).filter(|&n| items[n].handed.id.is_some()).collect();
        if known.is_empty() {
            return Ok(false);
        }
        let jobs: Vec<Known<'_>> =
            known.iter().map(|&n| (&items[n].request.files, &items[n].handed)).collect();
        let states = self.executor.look(&jobs)?;
        let mut changed = false;
        for (n, seen) in known.into_iter().zip(states) {
            changed |= items[n].saw(seen);
        }
        Ok(changed)
    }

    /// The executor does not answer: it is waited for, and told once.
    fn is_away(&self, rounds: &mut Rounds, why: &str) {
        rounds.away.get_or_insert_with(Instant::now);
        if !std::mem::replace(&mut rounds.told_away, true) {
            (self.note)(format!("executor `{}` does not answer, and is waited for: {why}", self.name));
        }
        rounds.pause = (rounds.pause * 2).clamp(SOON, self.patience.poll.max(SOON));
        rounds.next = Instant::now() + rounds.pause;
    }

    fn is_back(&self, rounds: &mut Rounds) {
        if rounds.away.take().is_some() {
            rounds.told_away = false;
            (self.note)(format!("executor `{}` answers again", self.name));
        }
    }
}

impl Item {
    /// Tells its end; false, for `retain`.
    fn end(&self, ended: Ended) -> bool {
        // The attempt waits for it as long as the build lives.
        let _ = self.tell.send(ended);
        false
    }

    /// What has to be the same of those that are submitted together.
    fn takes(&self) -> (u32, u64, u32, u64, &[String]) {
        let job = &self.request.files.job;
        (job.cpus, job.memory_mib, job.gpus, job.time_s, &job.env_remove)
    }

    /// Whether it left a result, and that was told. One that cannot be read may be another time.
    fn take_result(&self) -> bool {
        let Ok(Some(result)) = self.request.files.result() else { return false };
        let ended = match self.cancelled {
            Some(_) => Ended::Cancelled,
            None => Ended::Result(Box::new(result)),
        };
        !self.end(ended)
    }

    /// It was looked for, since nobody knows whether it was taken.
    fn found(&mut self, id: Option<String>) {
        match id {
            Some(id) => {
                self.handed.id = Some(id);
                let _ = self.request.files.write_handed(&self.handed);
            }
            // Should it come all the same, it finds that it was given up.
            None => match self.request.files.revoke() {
                Ok(true) => drop(self.saw(Seen::Gone("it was never taken".to_owned()))),
                Ok(false) => drop(self.saw(Seen::Running("an unknown job".to_owned()))),
                Err(_) => {}
            },
        }
    }

    /// Takes in its state; whether it is another than before.
    fn saw(&mut self, seen: Seen) -> bool {
        match &seen {
            Seen::Gone(_) => drop(self.gone_since.get_or_insert_with(Instant::now)),
            Seen::Queued(_) | Seen::Running(_) => self.gone_since = None,
        }
        let changed = self.seen.as_ref() != Some(&seen);
        (self.request.seen)(&seen, self.handed.id.as_deref());
        self.seen = Some(seen);
        changed
    }

    /// Whether nothing more is to be expected of it, which is told then.
    fn is_over(&mut self, patience: Patience) -> bool {
        if !self.submitted {
            return false;
        }
        if self.cancelled.is_some_and(|at| at.elapsed() >= LAST_WORDS) {
            return !self.end(Ended::Cancelled);
        }
        let files = &self.request.files;
        if let (Some(Seen::Gone(word)), Some(since)) = (&self.seen, self.gone_since) {
            // One that never began has nothing to be waited for.
            let never = files.claim().is_none_or(|_| files.is_revoked()) && files.revoke().unwrap_or(false);
            if !never && since.elapsed() < patience.grace {
                return false;
            }
            if self.take_result() {
                return true;
            }
            let lost =
                if never { format!("{word}, and never began") } else { format!("{word}, without a result") };
            let ended = match self.cancelled {
                Some(_) => Ended::Cancelled,
                None if files.result().is_err() => Ended::Unreadable,
                None => Ended::Lost(lost),
            };
            return !self.end(ended);
        }
        if let (Some(limit), Some(Seen::Queued(why))) = (patience.start_within, &self.seen)
            && self.came.elapsed() >= limit
            && self.cancelled.is_none()
            && files.revoke().unwrap_or(false)
        {
            self.refused = true;
            let reason = if why.is_empty() { String::new() } else { format!(" ({why})") };
            return !self.end(Ended::Refused(format!("it did not begin within start_within{reason}")));
        }
        false
    }
}
