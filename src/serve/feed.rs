//! What happens in a run, as it happens: the lines of `events.jsonl` as server-sent events. The file system says when
//! there is more to read, so nothing is done while nothing happens.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::{Condvar, Mutex};

use super::http::{Request, head_of};
use planexe_base::fs;
use planexe_store::Store;

/// A client that is gone is noticed after so long.
const ALIVE: Duration = Duration::from_secs(15);
/// Where the file system rings no bells, it is looked so often.
const POLL: Duration = Duration::from_millis(250);
/// Progress that is not in the events is told no more often.
const CALM: Duration = Duration::from_millis(100);

/// The most that is told of what was before.
const LAST: u64 = 1 << 20;

/// Feeds of runs that somebody follows.
#[derive(Default)]
pub(super) struct Feeds(Mutex<HashMap<PathBuf, Weak<Feed>>>);

/// Bells of a run.
pub(super) struct Feed {
    rung: Arc<Rung>,
    watcher: Mutex<Option<RecommendedWatcher>>,
    polls: bool,
}

#[derive(Default)]
struct Rung {
    count: Mutex<Bells>,
    bell: Condvar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bells {
    /// Of the events.
    events: u64,
    /// Of what is written of running tasks, and who builds.
    live: u64,
    /// A folder to be watched may have been made.
    folders: u64,
}

impl Feeds {
    /// The feed of a run; one for all who follow it.
    pub(super) fn of(&self, run: &Path) -> Arc<Feed> {
        let mut feeds = self.0.lock();
        if let Some(feed) = feeds.get(run).and_then(Weak::upgrade) {
            return feed;
        }
        let feed = Arc::new(Feed::new(run));
        feeds.retain(|_, feed| feed.strong_count() > 0);
        feeds.insert(run.to_owned(), Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    fn new(run: &Path) -> Feed {
        let rung = Arc::new(Rung::default());
        let ringing = rung.clone();
        let bell = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.kind.is_access() {
                return;
            }
            let mut count = ringing.count.lock();
            for path in &event.paths {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                match name {
                    "events.jsonl" => count.events += 1,
                    "live" | ".planexe" => count.folders += 1,
                    _ => {}
                }
                let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
                count.live += u64::from(matches!(folder, Some("live" | ".planexe")));
            }
            ringing.bell.notify_all();
        };
        let watcher = notify::recommended_watcher(bell).ok();
        let feed = Feed { rung, polls: watcher.is_none(), watcher: Mutex::new(watcher) };
        feed.watch(run);
        feed
    }

    /// Watches the folders that are there: the run's, that of its records, that of what is being written.
    fn watch(&self, run: &Path) {
        let mut watcher = self.watcher.lock();
        let Some(watcher) = watcher.as_mut() else { return };
        for folder in [run.to_owned(), run.join(".planexe"), run.join(".planexe/live")] {
            if folder.is_dir() {
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
        }
    }

    /// Tells a client all that happens from a place in the file on, until it is gone.
    pub(super) fn stream(&self, store: &Store, request: &Request, stream: &mut TcpStream) {
        let path = store.path("events.jsonl");
        let length = || fs::signature(&path).ok().flatten().map_or(0, |signature| signature.size);
        let number = |name| request.query(name).and_then(|number| number.parse::<u64>().ok());
        let end = length();
        let mut offset = match (number("from"), number("last")) {
            (Some(from), _) => from,
            (None, Some(last)) => line_after(&path, end.saturating_sub(last.min(LAST))),
            (None, None) => end,
        };
        let mut told = Bells::default();
        let mut first = true;
        let begun = format!("retry: 500\nevent: ready\ndata: {{\"offset\":{offset},\"end\":{end}}}\n\n");
        if stream.write_all(head_of(200, "text/event-stream", None).as_bytes()).is_err()
            || stream.write_all(begun.as_bytes()).is_err()
        {
            return;
        }
        loop {
            // Taken before the file is read: what rings meanwhile is read next time.
            let now = *self.rung.count.lock();
            let mut text = String::new();
            if now.folders != told.folders {
                self.watch(store.run_dir());
            }
            if length() < offset {
                // It was mended, or is another.
                offset = length();
                text += "event: again\ndata: {}\n\n";
            }
            if let Ok((bytes, _)) = fs::read_from(&path, offset) {
                let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
                    offset += line.len() as u64;
                    let line = String::from_utf8_lossy(line);
                    text += &format!("id: {offset}\ndata: {}\n\n", line.trim_end());
                }
            }
            if now.live != told.live && !first {
                text += "event: live\ndata: {}\n\n";
            }
            let calm = now.live != told.live;
            (told, first) = (now, false);
            if !text.is_empty() && stream.write_all(text.as_bytes()).is_err() {
                return;
            }
            let mut count = self.rung.count.lock();
            let quiet = |count: &Bells| *count == told;
            if calm && quiet(&count) {
                self.rung.bell.wait_while_for(&mut count, |count| count.events == told.events, CALM);
            }
            let pause = if self.polls { POLL } else { ALIVE };
            let waited = self.rung.bell.wait_while_for(&mut count, |count| quiet(count), pause);
            drop(count);
            if waited.timed_out() && !self.polls && stream.write_all(b": alive\n\n").is_err() {
                return;
            }
        }
    }
}

/// Where the first line begins at or after a place.
fn line_after(path: &Path, at: u64) -> u64 {
    // The byte before tells whether a line begins here.
    let Some(before) = at.checked_sub(1) else { return 0 };
    let rest = fs::read_from(path, before).map(|(bytes, _)| bytes).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'\n').map_or(at, |end| before + end as u64 + 1)
}
