//! GNU make's jobserver: under `make -jN` the commands of a build take their turns from the same N.
//!
//! make hands down one turn with each recipe line it starts; every further one is a token, read from make's
//! pipe and written back when it is no longer used. A token is a value here and is written back when the
//! value is dropped, so that none is lost however a build ends, short of `kill -9`.

use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use jobserver::{Acquired, Client, FromEnvErrorKind, HelperThread};

/// Most tokens asked for at once; more come as these are used.
const MOST: usize = 64;

/// What was found of a jobserver.
#[derive(Debug, Clone, Default)]
pub enum Make {
    /// planexe was not started by a make that shares its turns.
    #[default]
    None,
    /// It can be reached.
    Reached(Client),
    /// There is one, but it was not handed down: all that is ours is the turn of the recipe line.
    Unreachable,
}

/// Looks for a jobserver, by the value of `MAKEFLAGS`. To be called before the process opens anything of
/// its own, so that a number named there cannot be taken for one of ours.
pub fn find(makeflags: Option<&str>) -> Make {
    let named = |flags: &str| flags.contains("--jobserver-auth=") || flags.contains("--jobserver-fds=");
    let Some(flags) = makeflags.filter(|flags| named(flags)) else { return Make::None };
    if names_no_pipe(flags) {
        return Make::Unreachable;
    }
    // SAFETY: nothing of ours is open yet, and descriptors that are no pipes are left alone.
    match unsafe { Client::from_env_ext(true) }.client {
        Ok(client) => Make::Reached(client),
        Err(error) => match error.kind() {
            FromEnvErrorKind::NoEnvVar | FromEnvErrorKind::NoJobserver | FromEnvErrorKind::Unsupported => {
                Make::None
            }
            _ => Make::Unreachable,
        },
    }
}

/// Whether a pipe that is named by its path is another kind of file: tokens would be taken from its content.
fn names_no_pipe(flags: &str) -> bool {
    let named = flags.rsplit_once("=fifo:").map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    let is_pipe = |path: &str| std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    named.is_some_and(|path| !is_pipe(path))
}

/// What a make that runs nothing wants to know. Lines with a `+`, as those that take part in its jobserver, it
/// runs all the same and leaves it to what they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// `make -n` and `make -t`: what would run.
    Tell,
    /// `make -q`: whether anything would.
    Question,
}

/// Whether planexe was started by a make that runs nothing, by the values of `MAKEFLAGS` and `MAKELEVEL`.
pub fn asks(makeflags: Option<&str>, level: Option<&str>) -> Option<Asks> {
    level.and_then(|level| level.parse::<u32>().ok()).filter(|level| *level > 0)?;
    // Options of one letter are the first word, without a dash.
    let letters =
        makeflags?.split(' ').next().filter(|word| word.bytes().all(|b| b.is_ascii_alphabetic()))?;
    match letters {
        letters if letters.contains('q') => Some(Asks::Question),
        letters if letters.contains(['n', 't']) => Some(Asks::Tell),
        _ => None,
    }
}

/// What became of a request.
pub type Answer = std::io::Result<Acquired>;

/// The tokens of a build.
pub struct Tokens {
    client: Client,
    tell: Arc<dyn Fn(Answer) + Send + Sync>,
    helper: Option<HelperThread>,
    held: Vec<Acquired>,
    /// Requests that have no answer yet.
    asked: usize,
    /// make's pipe broke: what is held is all there will be.
    broken: bool,
}

impl Tokens {
    /// None are held. `tell` gets each answer, from another thread.
    pub fn new(client: Client, tell: impl Fn(Answer) + Send + Sync + 'static) -> Tokens {
        Tokens { client, tell: Arc::new(tell), helper: None, held: Vec::new(), asked: 0, broken: false }
    }

    /// Makes what is held fit what could be used: `running` tasks hold a turn each, `waiting` would like
    /// one. Gives back what is too much, asks for what is missing, and tells how many may run.
    pub fn balance(&mut self, running: usize, waiting: usize) -> usize {
        // The first turn came with the recipe line.
        let of_use = (running + waiting).saturating_sub(1);
        self.held.truncate(of_use.max(running.saturating_sub(1)));
        let missing = of_use.min(MOST).saturating_sub(self.held.len() + self.asked);
        if missing > 0 && !self.broken {
            if self.helper.is_none() {
                let tell = self.tell.clone();
                self.helper = self.client.clone().into_helper_thread(move |answer| tell(answer)).ok();
                self.broken = self.helper.is_none();
            }
            if let Some(helper) = &self.helper {
                (0..missing).for_each(|_| helper.request_token());
                self.asked += missing;
            }
        }
        self.held.len() + 1
    }

    /// Takes in an answer. An error is returned once, the first time.
    pub fn answered(&mut self, answer: Answer) -> Option<std::io::Error> {
        self.asked = self.asked.saturating_sub(1);
        match answer {
            Ok(token) => {
                self.held.push(token);
                None
            }
            Err(error) => (!std::mem::replace(&mut self.broken, true)).then_some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn without_make_there_is_none() {
        for flags in [None, Some(""), Some("-k"), Some(" -- A=--jobserver")] {
            assert!(matches!(find(flags), Make::None), "{flags:?}");
        }
    }

    #[test]
    fn a_make_that_runs_nothing() {
        let told = [("n", Some(Asks::Tell)), ("kn -j4 --jobserver-auth=3,4", Some(Asks::Tell))];
        let asked = [("q", Some(Asks::Question)), ("t", Some(Asks::Tell)), ("nq", Some(Asks::Question))];
        let runs = ["", "k", " -j4 -- A=n", "--no-print-directory", "A=n", "-- n=1", "rR --warn-undefined n"];
        for (flags, wanted) in told.into_iter().chain(asked).chain(runs.map(|flags| (flags, None))) {
            assert_eq!(asks(Some(flags), Some("1")), wanted, "{flags:?}");
            assert_eq!(asks(Some(flags), None), None, "make started nothing: {flags:?}");
        }
    }

    #[test]
    fn tokens_are_asked_for_as_needed_and_all_come_back() {
        let server = Client::new(3).expect("a pipe");
        let (send, receive) = channel();
        let mut tokens = Tokens::new(server.clone(), move |answer| drop(send.send(answer)));
        assert_eq!(tokens.balance(0, 1), 1, "the first turn is ours");
        assert_eq!(server.available().expect("a count"), 3);
        assert_eq!(tokens.balance(1, 4), 1);
        for held in 2..=4 {
            let answer = receive.recv_timeout(Duration::from_secs(20)).expect("an answer");
            assert!(tokens.answered(answer).is_none());
            assert_eq!(tokens.balance(1, 4), held);
        }
        assert_eq!(server.available().expect("a count"), 0);
        assert_eq!(tokens.balance(2, 0), 2, "two are given back");
        // The fourth was asked for all the while, and gets one of them.
        let answer = receive.recv_timeout(Duration::from_secs(20)).expect("an answer");
        assert!(tokens.answered(answer).is_none());
        assert_eq!(tokens.balance(2, 0), 2);
        assert_eq!(server.available().expect("a count"), 2);
        assert_eq!(tokens.balance(3, 2), 2);
        drop((tokens, receive));
        assert_eq!(server.available().expect("a count"), 3);
    }
}
