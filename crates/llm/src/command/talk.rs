//! What goes to a program and comes from it, and the end of its time.

use std::io::{ErrorKind, Read, Write};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::super::degenerate::Detector;
use super::super::stream::BODY_CAP;
use super::super::watchdog::TICK;
use super::super::{CallContext, CallError, Class, tidy};
use super::group::{GRACE, Group};
use super::{Command, Heard, Lines, STDERR_CAP, last_words};

/// How long one is silent after the last line of its answer before it is ended: agents were seen to hang there for ever.
const HANGS: Duration = Duration::from_secs(10);

/// What has gone to and fro.
struct Talk<'a> {
    started: Instant,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// From the start to the first byte of an answer.
    first: Option<Duration>,
    /// The last byte of it.
    last: Instant,
    /// The output as text, for the detector only.
    text: String,
    detector: Detector,
    /// Reads an output that is not the answer itself.
    reader: Option<&'a mut dyn Lines>,
}

impl<'a> Talk<'a> {
    fn new(started: Instant, reader: Option<&'a mut dyn Lines>) -> Talk<'a> {
        Talk {
            started,
            reader,
            stdout: Vec::new(),
            stderr: Vec::new(),
            first: None,
            last: started,
            text: String::new(),
            detector: Detector::default(),
        }
    }
}

impl Talk<'_> {
    /// Whether all of the answer is there, though the program still runs.
    fn has_answer(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.is_whole())
    }
}

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Command {
    /// Runs it to its end on a prompt. `reader`: what its output is, where that is not the answer itself.
    pub(crate) fn talk(
        &self,
        prompt: &[u8],
        reader: Option<&mut dyn Lines>,
        context: &CallContext<'_>,
    ) -> Result<Heard, CallError> {
        if context.cancel.is_killing() {
            return Err(CallError::new(Class::Cancelled, "the call was cancelled"));
        }
        let mut group = Group::of(self.start()?, &self.lifeline);
        let mut talk = Talk::new(Instant::now(), reader);
        match self.converse(&mut group, &mut talk, prompt, context) {
            Ok(status) => {
                let Talk { stdout, stderr, first, .. } = talk;
                Ok(Heard { status, stdout, stderr, first })
            }
            Err(mut error) => {
                group.end();
                let written = talk.reader.as_ref().map(|reader| reader.written().to_owned());
                let written = written.unwrap_or_else(|| String::from_utf8_lossy(&talk.stdout).into_owned());
                error.partial = tidy(&written, usize::MAX, None);
                error.raw = last_words(&talk.stderr);
                error.usage.calls = 1;
                Err(error)
            }
        }
    }

    /// Writes, reads and watches until the program has exited and its output has ended.
    fn converse(
        &self,
        group: &mut Group,
        talk: &mut Talk<'_>,
        prompt: &[u8],
        context: &CallContext<'_>,
    ) -> Result<ExitStatus, CallError> {
        let broken = |error: std::io::Error| {
            CallError::new(Class::Connection, format!("the pipes to `{}`: {error}", self.argv[0]))
        };
        let (mut stdin, mut stdout, mut stderr) =
            (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
        for nonblocking in [
            stdin.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
            stdout.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
            stderr.as_ref().map(|pipe| rustix::io::ioctl_fionbio(pipe, true)),
        ] {
            nonblocking.transpose().map_err(|error| broken(error.into()))?;
        }
        let mut rest = prompt;
        let mut exited: Option<(ExitStatus, Instant)> = None;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if exited.is_none() {
                exited = group.try_wait().map_err(broken)?.map(|status| (status, Instant::now()));
            }
            let in_time = match self.watch(talk, context) {
                // It is paid for.
                Err(error) if error.class == Class::Timeout && talk.has_answer() => false,
                watched => watched.map(|()| true)?,
            };
            if exited.is_none() && talk.has_answer() && (!in_time || talk.last.elapsed() >= HANGS) {
                group.end();
                return Ok(ExitStatus::default());
            }
            if let Some((status, at)) = exited {
                // Something the program left running may hold the pipes open; it has had its time.
                let over = at.elapsed() > GRACE;
                if (stdout.is_none() && stderr.is_none()) || over {
                    if over {
                        group.signal(Signal::KILL);
                    }
                    group.done = true;
                    return Ok(status);
                }
            }
            let mut ready = Vec::with_capacity(3);
            ready.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
            ready.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            ready.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            if ready.is_empty() {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
            match poll(&mut ready, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(broken(error.into())),
            }
            drop(ready);
            if let Some(pipe) = &mut stdin {
                match pipe.write(rest) {
                    Ok(count) => {
                        rest = &rest[count..];
                        if rest.is_empty() {
                            context.progress.sent();
                            stdin = None;
                        }
                    }
                    Err(error) if again(&error) => {}
                    // It need not read all it is told.
                    Err(_) => stdin = None,
                }
            }
            if let Some(pipe) = &mut stdout {
                match pipe.read(&mut buffer) {
                    Ok(0) => stdout = None,
                    Ok(count) => self.heard(talk, &buffer[..count], context)?,
                    Err(error) if again(&error) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
            if let Some(pipe) = &mut stderr {
                match pipe.read(&mut buffer) {
                    Ok(0) => stderr = None,
                    Ok(count) => {
                        talk.stderr.extend_from_slice(&buffer[..count]);
                        if talk.stderr.len() > 2 * STDERR_CAP {
                            talk.stderr.drain(..talk.stderr.len() - STDERR_CAP);
                        }
                    }
                    Err(error) if again(&error) => {}
                    Err(error) => return Err(broken(error)),
                }
            }
        }
    }

    fn heard(&self, talk: &mut Talk<'_>, bytes: &[u8], context: &CallContext<'_>) -> Result<(), CallError> {
        talk.last = Instant::now();
        talk.stdout.extend_from_slice(bytes);
        if talk.stdout.len() as u64 > BODY_CAP {
            let why = format!("the answer is larger than {} MiB", BODY_CAP >> 20);
            return Err(CallError::new(Class::BadData, why));
        }
        let piece = match &mut talk.reader {
            Some(reader) => reader.take(bytes).into(),
            None => String::from_utf8_lossy(bytes),
        };
        if piece.is_empty() {
            return Ok(());
        }
        talk.first.get_or_insert_with(|| talk.started.elapsed());
        context.progress.pieces((piece.len() as u64).div_ceil(4), piece.len());
        talk.text.push_str(&piece);
        context.progress.keep(&piece);
        if let Some(why) = talk.detector.grown(&talk.text, &piece) {
            return Err(CallError::new(Class::Degenerate, format!("stopped early: {why}")));
        }
        Ok(())
    }

    fn watch(&self, talk: &Talk<'_>, context: &CallContext<'_>) -> Result<(), CallError> {
        if context.cancel.is_killing() {
            return Err(CallError::new(Class::Cancelled, "the call was cancelled"));
        }
        let silent = match talk.first {
            None => (talk.started.elapsed(), self.first_token, "first_token"),
            Some(_) => (talk.last.elapsed(), self.idle, "idle"),
        };
        let whole = talk.started.elapsed();
        for (passed, limit, name) in
            [silent, (whole, Some(self.total), "total"), (whole, context.time_left, "task")]
        {
            if let Some(limit) = limit.filter(|limit| passed >= *limit) {
                let mut error = CallError::new(
                    Class::Timeout,
                    format!("`{}` was ended: its time of {limit:?} was up ({name})", self.argv[0]),
                );
                error.code = Some(name.into());
                return Err(error);
            }
        }
        Ok(())
    }
}
