//! The threads that deliver: one writes events into the outboxes, one a receiver sends what waits there,
//! in order. The build only hands events over; what does not fit into the queue is dropped and counted.

use schemars::JsonSchema;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::format::together;
use super::outbox::{Head, Outbox};
use super::payload::Payload;
use super::send::{Receiver, Sent, send};

/// Events between the build and the outbox.
const QUEUE: usize = 4096;
/// The first pause after a failed delivery; it doubles up to [`PAUSE_MOST`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// How often a lock that another holds, and an outbox, are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Threads of one process have little to do.
const STACK: usize = 256 * 1024;

/// What went wrong, for people, gathered until somebody tells it.
#[derive(Debug, Clone, Default)]
pub struct Complaints(Arc<Mutex<Vec<String>>>);

impl Complaints {
    /// Adds one.
    pub fn add(&self, text: String) {
        self.0.lock().push(text);
    }

    /// Takes all there are.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that have something to do.
    busy: usize,
    /// The outbox gets no more events.
    written: bool,
    /// When to leave what is left.
    until: Option<Instant>,
    /// Rises with each event that was put into an outbox.
    rings: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits for a time. False if there is no time for it at the end of the build, or it is not worth it.
    fn pause(&self, pause: Duration, worth_it: bool) -> bool {
        let end = Instant::now() + pause;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if state.until.is_some_and(|until| !worth_it || until < end) {
                return false;
            }
            if now >= end {
                return true;
            }
            self.bell.wait_for(&mut state, end - now);
        }
    }
}

/// Delivers to all receivers of a build.
#[derive(Debug)]
pub struct Post {
    run: PathBuf,
    receivers: Vec<Arc<Receiver>>,
    shared: Arc<Shared>,
    complaints: Complaints,
    queue: Option<SyncSender<Payload>>,
    dropped: Arc<AtomicUsize>,
}

impl Post {
    /// Threads start for what waits from earlier builds, and with the first event.
    pub fn new(run: &Path, receivers: Vec<Receiver>, complaints: Complaints) -> Post {
        let mut post = Post {
            run: run.to_owned(),
            receivers: receivers.into_iter().map(Arc::new).collect(),
            shared: Arc::default(),
            complaints,
            queue: None,
            dropped: Arc::default(),
        };
        let waits = |receiver: &Arc<Receiver>| !Outbox::new(run, &receiver.folder).names().is_empty();
        if post.receivers.iter().any(waits) {
            post.start();
        }
        post
    }

    /// Hands an event over.
    pub fn tell(&mut self, payload: &Payload) {
        if !self.receivers.iter().any(|receiver| receiver.wants(&payload.event)) {
            return;
        }
        self.start();
        if let Some(queue) = &self.queue
            && let Err(TrySendError::Full(_)) = queue.try_send(payload.clone())
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start(&mut self) {
        if self.queue.is_some() {
            return;
        }
        let (send, receive) = sync_channel::<Payload>(QUEUE);
        self.queue = Some(send);
        let (run, receivers, shared) = (self.run.clone(), self.receivers.clone(), self.shared.clone());
        let complaints = self.complaints.clone();
        self.spawn("outbox", move || {
            let mut numbers: HashMap<usize, u64> = HashMap::new();
            let (mut told, mut left_out) = (false, 0);
            for payload in receive {
                for (at, receiver) in receivers.iter().enumerate() {
                    if !receiver.wants(&payload.event) {
                        continue;
                    }
                    let outbox = Outbox::new(&run, &receiver.folder);
                    let number = numbers.entry(at).or_insert_with(|| outbox.next_number());
                    match outbox.add(*number, &payload) {
                        Ok(older) => left_out += older,
                        Err(error) if !std::mem::replace(&mut told, true) => {
                            complaints.add(format!("events cannot be kept for their receivers: {error}"));
                        }
                        Err(_) => {}
                    }
                    *number += 1;
                }
                shared.state().rings += 1;
                shared.bell.notify_all();
            }
            if left_out > 0 {
                let events = planexe_base::style::count(left_out as u64, "event");
                complaints
                    .add(format!("{events} that waited too long for webhooks made room for later ones"));
            }
            shared.state().written = true;
            shared.bell.notify_all();
        });
        for receiver in self.receivers.clone() {
            let (run, shared, complaints) = (self.run.clone(), self.shared.clone(), self.complaints.clone());
            self.spawn("webhook", move || deliver(&run, &receiver, &shared, &complaints));
        }
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        let shared = self.shared.clone();
        shared.state().busy += 1;
        let done = move || {
            let shared = shared;
            work();
            shared.state().busy -= 1;
            shared.bell.notify_all();
        };
        if std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(done).is_err() {
            self.shared.state().busy -= 1;
        }
    }

    /// Waits for what is under way, at most so long. Returns how many events still wait for receivers of this build: for
    /// those that a later build knows, and for those whose addresses were given on the command line.
    pub fn close(mut self, limit: Duration) -> [usize; 2] {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            self.complaints.add(format!(
                "{} came too fast to be told to webhooks",
                planexe_base::style::count(dropped as u64, "event")
            ));
        }
        if self.queue.take().is_none() {
            return [0, 0];
        }
        let until = Instant::now() + limit;
        let mut state = self.shared.state();
        state.until = Some(until);
        self.shared.bell.notify_all();
        while state.busy > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.shared.bell.wait_for(&mut state, left);
        }
        drop(state);
        let mut left = [0, 0];
        for receiver in &self.receivers {
            left[usize::from(receiver.is_given())] += Outbox::new(&self.run, &receiver.folder).names().len();
        }
        left
    }
}

impl Drop for Post {
    /// Of a build that never began, too: no thread waits for a receiver longer than its build.
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.until.get_or_insert_with(Instant::now);
        self.shared.bell.notify_all();
    }
}

/// Sends what waits for one receiver until the build is over and nothing waits, or there is no time left.
fn deliver(run: &Path, receiver: &Receiver, shared: &Shared, complaints: &Complaints) {
    let outbox = Outbox::new(run, &receiver.folder);
    let mut held = None;
    let mut pause = PAUSE;
    let mut told = false;
    // The message was sent before.
    let mut again = false;
    loop {
        let (rings, written) = {
            let state = shared.state();
            if state.until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            (state.rings, state.written)
        };
        let Head { events: head, put_aside } = outbox.head(together(receiver.format));
        if put_aside > 0 {
            complaints.add(format!("{}: {}", receiver.label, outbox.told_of_aside(put_aside)));
        }
        if head.is_empty() {
            if written {
                return;
            }
            let mut state = shared.state();
            if state.rings == rings && !state.written {
                shared.bell.wait_for(&mut state, LOOK * 5);
            }
            continue;
        }
        if held.is_none() {
            held = outbox.lock();
            if held.is_none() {
                // Another delivers: it may well be done soon.
                if !shared.pause(LOOK, true) {
                    return;
                }
                continue;
            }
            // What was read before the lock may be delivered by now.
            continue;
        }
        let payloads: Vec<Payload> = head.iter().map(|(_, payload)| payload.clone()).collect();
        match send(receiver, &payloads) {
            sent @ (Sent::Delivered | Sent::Refused(_)) => {
                if let Sent::Refused(why) = sent
                    && !std::mem::replace(&mut told, true)
                {
                    complaints.add(format!("{}: an event was refused: {why}", receiver.label));
                }
                if let Err(why) = outbox.take_out(&head) {
                    complaints
                        .add(format!("{}: no more events are sent in this build: {why}", receiver.label));
                    return;
                }
                pause = PAUSE;
                again = false;
            }
            Sent::Closed(why) => {
                complaints.add(format!("{}: no more events are sent in this build: {why}", receiver.label));
                return;
            }
            Sent::Later { why, after, answers } => {
                if !std::mem::replace(&mut told, true) {
                    complaints.add(format!("{}: events wait: {why}", receiver.label));
                }
                let wait = asked_pause(after, again).unwrap_or_else(|| jittered(pause));
                pause = (pause * 2).min(PAUSE_MOST);
                again = true;
                if !shared.pause(wait, answers) {
                    return;
                }
            }
        }
    }
}

/// The pause that a receiver asked for. One of less than ours holds once: a receiver that always asks for none would be
/// sent thousands of requests a second.
fn asked_pause(after: Option<Duration>, again: bool) -> Option<Duration> {
    after.filter(|&after| !again || after >= PAUSE)
}

/// Up to a fifth more, so that many builds do not come back at one moment.
fn jittered(pause: Duration) -> Duration {
    let noise = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    pause + pause.mul_f64(f64::from(noise.subsec_nanos() % 1000) / 5000.0)
}

/// What one delivery outside a build did for a receiver.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, JsonSchema)]
pub struct Delivered {
    /// The receiver.
    pub webhook: String,
    /// Events that went out.
    pub delivered: usize,
    /// Events that still wait.
    pub waiting: usize,
    /// Why.
    pub error: Option<String>,
}

/// Sends what waits for one receiver, once: the first failure ends it.
pub fn deliver_now(run: &Path, receiver: &Receiver) -> Delivered {
    let outbox = Outbox::new(run, &receiver.folder);
    let mut delivered = 0;
    let mut error = None;
    // The message was put off once: it is not waited for for ever.
    let mut again = false;
    if !outbox.names().is_empty() {
        match outbox.lock() {
            None => error = Some("a running build delivers them".to_owned()),
            Some(_held) => loop {
                let Head { events: head, put_aside } = outbox.head(together(receiver.format));
                if put_aside > 0 {
                    error = Some(outbox.told_of_aside(put_aside));
                }
                if head.is_empty() {
                    break;
                }
                let payloads: Vec<Payload> = head.iter().map(|(_, payload)| payload.clone()).collect();
                match send(receiver, &payloads) {
                    Sent::Delivered => delivered += head.len(),
                    Sent::Refused(why) => error = Some(format!("an event was refused: {why}")),
                    Sent::Later { after: Some(after), .. } if after <= Duration::from_secs(10) && !again => {
                        again = true;
                        std::thread::sleep(after);
                        continue;
                    }
                    Sent::Later { why, .. } | Sent::Closed(why) => {
                        error = Some(why);
                        break;
                    }
                }
                again = false;
                if let Err(why) = outbox.take_out(&head) {
                    error = Some(why);
                    break;
                }
            },
        }
    }
    Delivered { webhook: receiver.label.clone(), delivered, waiting: outbox.names().len(), error }
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::payload;
    use super::*;
    use planexe_base::clock;
    use planexe_llm::keys::Secret;
    use planexe_pipeline::manifest::types::WebhookFormat as Format;

    #[test]
    fn a_short_pause_that_is_asked_for_holds_once() {
        let (short, long) = (Duration::ZERO, Duration::from_secs(90));
        for (after, again, wanted) in [
            (None, false, None),
            (Some(short), false, Some(short)),
            (Some(short), true, None),
            (Some(long), false, Some(long)),
            (Some(long), true, Some(long)),
        ] {
            assert_eq!(asked_pause(after, again), wanted, "{after:?} {again}");
        }
    }

    #[test]
    fn no_thread_outlives_a_build_that_never_began() {
        let run = tempfile::tempdir().expect("a folder");
        // Taken, and listened to by nobody.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let url = format!("http://{}/", port.expect("a port"));
        let receiver = Receiver {
            label: "ops".into(),
            folder: "ops".into(),
            url: Secret::new(&url),
            format: Format::Json,
            key: None,
            events: Vec::new(),
        };
        let event = Payload { timestamp_utc: clock::now_utc(), ..payload("task.started", Some("a")) };
        Outbox::new(run.path(), "ops").add(1, &event).expect("an event that waits");
        let post = Post::new(run.path(), vec![receiver], Complaints::default());
        let shared = Arc::downgrade(&post.shared);
        drop(post);
        let until = Instant::now() + Duration::from_secs(20);
        while shared.strong_count() > 0 {
            assert!(Instant::now() < until, "threads stay");
            std::thread::yield_now();
        }
        assert_eq!(Outbox::new(run.path(), "ops").names().len(), 1);
    }
}
