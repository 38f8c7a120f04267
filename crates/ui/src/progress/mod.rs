//! What a person sees while a build runs: events and snapshots in, lines on a terminal, in a log or as JSON out.
//!
//! A [`Sink`] shows: events as they come, and now and then a [`Snapshot`], which live lines are drawn from. Nothing
//! here fails a build: a reader that went away is not an error.

use std::io::{self, Write};

use crate::views::TaskView;
use planexe_base::call::Usage;
use planexe_base::event::{Event, Kind};
use planexe_base::record::{AttemptResult, LastAttempt, Quality, State};
use planexe_base::style::{self, Style};

mod fancy;
mod json;
mod lines;
mod plain;

use lines::NameColumns;

pub use fancy::Fancy;
pub use json::Json;
pub use lines::EventLines;
pub use plain::Plain;

/// How to show what happens in a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// Live lines on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A line when a task starts, ends or fails
    Plain,
    /// Events as JSON lines on standard error
    Json,
    /// Nothing but errors and the end
    None,
}

/// One that shows what happens.
pub trait Sink: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Time passed: called about ten times a second.
    fn tick(&mut self, snapshot: &Snapshot);

    /// Tasks that need nothing more, as of the event that follows.
    fn done(&mut self, _done: u32) {}

    /// The build is over: live lines are taken away and the closing text, laid out by
    /// [`crate::views::SummaryView::text`], is written.
    fn finish(&mut self, closing: &str);
}

/// A build at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Seconds since the build began.
    pub elapsed_s: f64,
    /// Tasks at work, the longest-running first.
    pub running: Vec<Running>,
    /// Tasks that need nothing more: ran, found up to date, or skipped.
    pub done: u32,
    /// Tasks that failed.
    pub failed: u32,
    /// Tasks that cannot run because of those.
    pub blocked: u32,
    /// Tasks that wait for a person.
    pub waiting: u32,
    /// All tasks of the build, as far as known.
    pub total: u32,
    /// Seconds to go, if that can be said.
    pub eta_s: Option<f64>,
    /// Tokens and money so far.
    pub usage: Usage,
    /// Why nothing new starts: paused, stopping.
    pub hold: Option<String>,
}

/// A task at work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// `task` or `task[key]`.
    pub task: String,
    /// The model asked, if any.
    pub model: Option<String>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// In a few words: "reading the prompt", "writing, 412 tokens".
    pub doing: String,
    /// Seconds since the attempt began.
    pub elapsed_s: f64,
}

/// What decides how a build is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What the user asked for.
    pub how: How,
    /// Nothing but errors.
    pub quiet: bool,
    /// Say more.
    pub verbose: bool,
    /// Say of each task that runs why it is stale.
    pub explain: bool,
    /// Standard error is a terminal whose lines can be redrawn.
    pub live: bool,
    /// The style of standard error.
    pub style: Style,
}

/// The sink for standard error that the options ask for.
pub fn to_stderr(options: Options) -> Box<dyn Sink> {
    let stderr = Box::new(io::stderr());
    match options.how {
        How::Json => Box::new(Json::new(stderr)),
        _ if options.quiet => Box::new(Quiet::new(stderr, options.style, true)),
        How::None => Box::new(Quiet::new(stderr, options.style, false)),
        How::Auto if options.live => {
            let size = || style::terminal_size(&io::stderr()).unwrap_or((80, 24));
            Box::new(Fancy::new(stderr, options.style, options.explain, Box::new(size)))
        }
        How::Auto | How::Plain => {
            Box::new(Plain::new(stderr, options.style, options.explain, options.verbose))
        }
    }
}

/// Passes everything on and keeps what became of each task, for the answer of `build --json`.
pub struct Gather {
    inner: Box<dyn Sink>,
    /// Tasks that ran, in the order in which they ended.
    pub tasks: Vec<TaskView>,
}

impl Gather {
    /// Around a sink.
    pub fn new(inner: Box<dyn Sink>) -> Gather {
        Gather { inner, tasks: Vec::new() }
    }
}

impl Sink for Gather {
    fn event(&mut self, event: &Event) {
        let view = |task: &String, state: State| TaskView::new(task.clone(), state);
        let last = |attempt: u32, model: &Option<String>| LastAttempt {
            attempt,
            model: model.clone(),
            ended_utc: Some(event.timestamp_utc.clone()),
            ..LastAttempt::default()
        };
        let ended = match &event.kind {
            Kind::TaskCompleted {
                task, attempt, model, duration_s, usage, step, sample, partial, ..
            } => TaskView {
                last: LastAttempt {
                    duration_s: Some(*duration_s),
                    step: Some(*step),
                    ..last(*attempt, model)
                },
                quality: Quality { sample: Some(*sample), partial: Some(*partial), ..Quality::default() },
                result: AttemptResult { usage: Some(*usage), ..AttemptResult::default() },
                ..view(task, State::Done)
            },
            Kind::TaskRescued { task, attempt, model, .. } => TaskView {
                last: last(*attempt, model),
                quality: Quality { rescued: Some(true), ..Quality::default() },
                ..view(task, State::Done)
            },
            Kind::TaskFailed { task, attempt, model, failure, .. } => TaskView {
                last: last(*attempt, model),
                result: AttemptResult { failure: Some(failure.clone()), ..AttemptResult::default() },
                ..view(task, State::Failed)
            },
            Kind::TaskWaiting { task, message } => {
                TaskView { doing: Some(message.text.clone()), ..view(task, State::Waiting) }
            }
            Kind::TaskStopped { task } => view(task, State::Stopped),
            _ => return self.inner.event(event),
        };
        self.tasks.push(ended);
        self.inner.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.inner.tick(snapshot);
    }

    fn finish(&mut self, closing: &str) {
        self.inner.finish(closing);
    }
}

/// Shows warnings, failures if asked to, and the end.
pub struct Quiet {
    to: Box<dyn Write + Send>,
    style: Style,
    failures: bool,
}

impl Quiet {
    /// Writes to a stream. `failures` are shown as they happen, for when the closing text does not repeat them.
    pub fn new(to: Box<dyn Write + Send>, style: Style, failures: bool) -> Quiet {
        Quiet { to, style, failures }
    }
}

impl Sink for Quiet {
    fn event(&mut self, event: &Event) {
        let shown = match event.kind {
            Kind::TaskFailed { .. } => self.failures,
            Kind::Note { warning, .. } => warning,
            _ => false,
        };
        if shown && let Some(line) = lines::of_event(&event.kind, &self.style, NameColumns::new(), false) {
            write(&mut self.to, &(line + "\n"));
        }
    }

    fn tick(&mut self, _: &Snapshot) {}

    fn finish(&mut self, closing: &str) {
        write(&mut self.to, closing);
    }
}

/// Writes at once; it does not matter if nobody reads.
fn write(to: &mut Box<dyn Write + Send>, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

#[cfg(test)]
pub mod test;
