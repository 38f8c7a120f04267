//! What a receiver is told: an event as plain data, bounded and free of keys and terminal sequences.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use planexe_base::event::{Event, Kind, Summary};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::Failure;
use planexe_base::style::{clean, count, duration, elapsed, money};
use planexe_llm::keys::Redactor;

/// Longest error summary.
const SUMMARY: usize = 400;
/// Longest name of a task or model.
const NAME: usize = 200;

/// One event, as it is posted and as hooks read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Version of this format.
    pub schema: u32,
    /// The same on every delivery of this event.
    pub id: String,
    /// `task.started`, `pipeline.failed`, …
    pub event: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// `task` or `task[key]`; null for events of the pipeline.
    pub task: Option<String>,
    /// The run directory.
    pub run_id_dir: String,
    /// When it happened, RFC 3339, UTC.
    pub timestamp_utc: String,
    /// The attempt, from 1.
    pub attempt: Option<u32>,
    /// The model asked, if any.
    pub model: Option<String>,
    /// What went wrong, in one bounded line.
    pub error_summary: Option<String>,
    /// The class of the failure.
    pub error_class: Option<String>,
    /// Joins log, usage and failures.
    pub error_id: Option<String>,
    /// What there is to say besides: why a build is paused or stopped, what a build made.
    pub message: Option<String>,
    /// How far the build is.
    pub progress: Progress,
}

/// Tasks that need nothing more, and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Ran, found up to date, or skipped.
    pub done: u32,
    /// All tasks of the build, as far as known.
    pub total: u32,
}

/// Turns events into payloads; remembers what later events need of former ones.
#[derive(Debug)]
pub struct Teller {
    pipeline: String,
    run: String,
    redactor: Redactor,
    /// Attempt and model of tasks that started.
    started: HashMap<String, (u32, Option<String>)>,
    /// Tasks that failed, with the class.
    failed: HashMap<String, FailureClass>,
    /// How far the build is.
    pub progress: Progress,
}

impl Teller {
    /// For one build.
    pub fn new(pipeline: &str, run: &str, redactor: Redactor) -> Teller {
        Teller {
            pipeline: pipeline.to_owned(),
            run: run.to_owned(),
            redactor,
            started: HashMap::new(),
            failed: HashMap::new(),
            progress: Progress::default(),
        }
    }

    /// The payload of an event; none for those nobody is told.
    pub fn payload(&mut self, event: &Event) -> Option<Payload> {
        let mut told = self.about("", None, &event.timestamp_utc);
        match &event.kind {
            Kind::TaskStarted { task, attempt, model, .. } => {
                self.started.insert(task.clone(), (*attempt, model.clone()));
                self.of_task(&mut told, "task.started", task, *attempt, model);
            }
            Kind::TaskCompleted { task, attempt, model, duration_s, reused, partial, sample, .. } => {
                self.of_task(&mut told, "task.completed", task, *attempt, model);
                let mut said = duration(*duration_s);
                for (word, applies) in
                    [("by a kept answer", reused), ("items missing", partial), ("a sample answer", sample)]
                {
                    if *applies {
                        said += ", ";
                        said += word;
                    }
                }
                told.message = Some(said);
            }
            Kind::TaskFailed { task, attempt, model, failure, blocked, kept, .. } => {
                self.failed.insert(task.clone(), failure.class.clone());
                if *kept {
                    return None;
                }
                self.of_task(&mut told, "task.failed", task, *attempt, model);
                self.failure(&mut told, failure);
                if *blocked > 0 {
                    told.message = Some(format!("blocks {}", count((*blocked).into(), "task")));
                }
            }
            Kind::TaskStalled { task, idle_s } => {
                let (attempt, model) = self.started.get(task).cloned().unwrap_or((1, None));
                self.of_task(&mut told, "task.stalled", task, attempt, &model);
                told.error_summary = Some(format!("no progress for {}", elapsed(*idle_s)));
                told.error_class = Some(FailureClass::Stall.name().to_owned());
            }
            Kind::TaskRescued { task, attempt, model, score } => {
                self.of_task(&mut told, "task.rescued", task, *attempt, model);
                told.message = score.map(|score| format!("score {score}"));
            }
            Kind::ModelParked { model, until_utc, message } => {
                told.event = "model.parked".to_owned();
                told.model = Some(self.line(model, NAME));
                told.message = Some(self.line(&format!("until {until_utc}: {message}"), SUMMARY));
            }
            Kind::ModelResumed { model } => {
                told.event = "model.resumed".to_owned();
                told.model = Some(self.line(model, NAME));
            }
            Kind::BatchSubmitted { model, batch, calls } => {
                told.event = "batch.submitted".to_owned();
                told.model = Some(self.line(model, NAME));
                let batch = self.line(batch, NAME);
                told.message = Some(format!("{} in batch {batch}", count(*calls, "call")));
            }
            Kind::BatchEnded { model, batch, calls, answered } => {
                told.event = "batch.ended".to_owned();
                told.model = Some(self.line(model, NAME));
                let (batch, calls) = (self.line(batch, NAME), count(*calls, "call"));
                told.message = Some(format!("{answered} of {calls} of batch {batch} are answered"));
            }
            Kind::BatchStuck { model, message, .. } => {
                told.event = "batch.stuck".to_owned();
                told.model = Some(self.line(model, NAME));
                told.error_summary = Some(self.line(message, SUMMARY));
            }
            Kind::PipelinePaused { message } => {
                told.event = "pipeline.paused".to_owned();
                told.message = Some(self.line(message, SUMMARY));
            }
            Kind::PipelineCompleted { summary } => {
                told.event = "pipeline.completed".to_owned();
                told.message = Some(made(summary));
            }
            Kind::PipelineFailed { summary } => {
                told.event = "pipeline.failed".to_owned();
                told.error_summary = Some(self.failures(summary));
                told.message = Some(made(summary));
            }
            Kind::PipelineStopped { summary, message } => {
                told.event = "pipeline.stopped".to_owned();
                let failed = !summary.failed.is_empty();
                told.error_summary = failed.then(|| self.failures(summary));
                let mut said = self.line(message, SUMMARY);
                if !summary.waiting.is_empty() {
                    said += &format!(": {}", self.line(&some_names(&summary.waiting), SUMMARY));
                }
                told.message = Some(bounded(&format!("{said}; {}", made(summary)), SUMMARY));
            }
            _ => return None,
        }
        Some(told)
    }

    fn about(&self, event: &str, task: Option<String>, timestamp_utc: &str) -> Payload {
        Payload {
            schema: 1,
            id: format!("evt_{}", uuid::Uuid::now_v7().simple()),
            event: event.to_owned(),
            pipeline: self.line(&self.pipeline, NAME),
            task,
            run_id_dir: self.run.clone(),
            timestamp_utc: timestamp_utc.to_owned(),
            attempt: None,
            model: None,
            error_summary: None,
            error_class: None,
            error_id: None,
            message: None,
            progress: self.progress,
        }
    }

    fn of_task(&self, told: &mut Payload, event: &str, task: &str, attempt: u32, model: &Option<String>) {
        told.event = event.to_owned();
        told.task = Some(self.line(task, NAME));
        told.attempt = Some(attempt);
        told.model = model.as_deref().map(|model| self.line(model, NAME));
    }

    fn failure(&self, told: &mut Payload, failure: &Failure) {
        told.error_summary = Some(self.line(&planexe_ui::views::reason_of(failure), SUMMARY));
        told.error_class = Some(self.line(failure.class.name(), NAME));
        told.error_id.clone_from(&failure.error_id);
    }

    /// The first failures by name, and how many there are.
    fn failures(&self, summary: &Summary) -> String {
        let of = |task: &String| match self.failed.get(task) {
            Some(class) => format!("{task} ({class})"),
            None => task.clone(),
        };
        let names: Vec<String> = summary.failed.iter().map(of).collect();
        let mut text = format!("{} failed", count(summary.failed.len() as u64, "task"));
        if !names.is_empty() {
            text += &format!(": {}", some_names(&names));
        }
        if summary.blocked > 0 {
            text += &format!("; {} blocked", summary.blocked);
        }
        self.line(&text, SUMMARY)
    }

    /// One line, harmless, without keys, of at most so many characters.
    fn line(&self, text: &str, most: usize) -> String {
        bounded(&clean(&self.redactor.redact(text)), most)
    }
}

/// What a build made, in a line.
fn made(summary: &Summary) -> String {
    let mut text = format!("{} ran", count(summary.ran.into(), "task"));
    for (number, what) in
        [(summary.fresh, "up to date"), (summary.skipped, "skipped"), (summary.pending, "not reached")]
    {
        if number > 0 {
            text += &format!(", {number} {what}");
        }
    }
    text += &format!(", {}", elapsed(summary.duration_s));
    if summary.usage.cost_usd > 0.0 {
        text += &format!(", {}", money(summary.usage.cost_usd));
    }
    text
}

/// The first names of a list.
fn some_names(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0..=3 => shown,
        n => format!("{shown} and {} more", n - 3),
    }
}

/// The first characters of a text; `…` in the place of what is left out.
pub(super) fn bounded(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use planexe_base::call::Usage;
    use planexe_llm::keys::Secret;

    /// A payload of a task's event.
    pub(crate) fn payload(event: &str, task: Option<&str>) -> Payload {
        let teller = Teller::new("plan", "/runs/a", Redactor::default());
        Payload {
            event: event.to_owned(),
            ..teller.about("", task.map(str::to_owned), "2026-03-01T22:15:04.123Z")
        }
    }

    fn event(kind: Kind) -> Event {
        Event { timestamp_utc: "2026-03-01T22:15:04.123Z".to_owned(), kind }
    }

    #[test]
    fn a_failure_is_told_in_one_clean_bounded_line() {
        let mut teller = Teller::new("plan", "/runs/a", Redactor::new([Secret::new("sk-123456789")]));
        teller.progress = Progress { done: 1, total: 3 };
        let started = Kind::TaskStarted {
            task: "swot".into(),
            attempt: 2,
            model: Some("m".into()),
            recipe: "prompt".into(),
        };
        assert_eq!(teller.payload(&event(started)).unwrap().event, "task.started");
        let failure = Failure {
            class: FailureClass::Exit,
            message: format!("key sk-123456789\n\x1b[31mred {}", "x".repeat(9000)).into(),
            error_id: Some("abcdef012345".into()),
            ..Failure::default()
        };
        let failed = Kind::TaskFailed {
            task: "swot".into(),
            attempt: 2,
            model: None,
            failure,
            blocked: 4,
            kept: false,
            queued: None,
        };
        let told = teller.payload(&event(failed)).unwrap();
        let summary = told.error_summary.unwrap();
        assert!(summary.chars().count() <= SUMMARY, "{}", summary.len());
        assert!(!summary.contains("sk-1") && !summary.contains(['\x1b', '\n']), "{summary}");
        assert_eq!((told.attempt, told.error_id.as_deref()), (Some(2), Some("abcdef012345")));
        assert_eq!(told.progress, Progress { done: 1, total: 3 });

        let stalled =
            teller.payload(&event(Kind::TaskStalled { task: "swot".into(), idle_s: 600.0 })).unwrap();
        assert_eq!((stalled.attempt, stalled.model.as_deref()), (Some(2), Some("m")));

        let summary = Summary {
            ran: 2,
            failed: vec!["swot".into(), "a".into(), "b".into(), "c".into()],
            blocked: 4,
            usage: Usage { cost_usd: 1.5, ..Usage::default() },
            ..Summary::default()
        };
        let told = teller.payload(&event(Kind::PipelineFailed { summary })).unwrap();
        let said = told.error_summary.unwrap();
        assert!(said.starts_with("4 tasks failed: swot (exit)") && said.ends_with("4 blocked"), "{said}");
        assert_eq!(told.task, None);

        let names = || vec!["x".repeat(300); 4];
        let summary = Summary { failed: names(), waiting: names(), ..Summary::default() };
        let told =
            teller.payload(&event(Kind::PipelineStopped { summary, message: "y".repeat(300) })).unwrap();
        for text in [told.error_summary, told.message] {
            assert!(text.is_some_and(|text| text.chars().count() <= SUMMARY));
        }
    }

    #[test]
    fn each_event_says_what_it_is_about() {
        let mut teller = Teller::new("plan", "/runs/a", Redactor::new([Secret::new("sk-123456789")]));
        let (model, message) = (|| "cloud".to_owned(), || "key sk-123456789\nmore".to_owned());
        let batch = || "b-1".to_owned();
        for (kind, wanted) in [
            (
                Kind::TaskRescued { task: "swot".into(), attempt: 3, model: Some(model()), score: Some(0.5) },
                ["task.rescued", "score 0.5", ""],
            ),
            (
                Kind::ModelParked {
                    model: model(),
                    until_utc: "2026-03-02T00:00:00Z".into(),
                    message: message(),
                },
                ["model.parked", "until 2026-03-02T00:00:00Z: key [redacted] more", ""],
            ),
            (Kind::ModelResumed { model: model() }, ["model.resumed", "", ""]),
            (
                Kind::BatchSubmitted { model: model(), batch: batch(), calls: 2 },
                ["batch.submitted", "2 calls in batch b-1", ""],
            ),
            (
                Kind::BatchEnded { model: model(), batch: batch(), calls: 2, answered: 1 },
                ["batch.ended", "1 of 2 calls of batch b-1 are answered", ""],
            ),
            (
                Kind::BatchStuck { model: model(), batch: batch(), message: message() },
                ["batch.stuck", "", "key [redacted] more"],
            ),
            (Kind::PipelinePaused { message: message() }, ["pipeline.paused", "key [redacted] more", ""]),
        ] {
            let told = teller.payload(&event(kind)).unwrap();
            let found =
                [&told.event, &told.message.unwrap_or_default(), &told.error_summary.unwrap_or_default()];
            assert_eq!(found, wanted);
            assert_eq!(told.model.as_deref(), (told.event != "pipeline.paused").then_some("cloud"));
        }
    }

    #[test]
    fn what_no_one_is_told() {
        let mut teller = Teller::new("plan", "/runs/a", Redactor::default());
        for kind in [
            Kind::TaskProgress { task: "a".into(), doing: "writing".into() },
            Kind::Note { task: None, message: "x".into(), warning: true },
            Kind::TaskStopped { task: "a".into() },
        ] {
            assert_eq!(teller.payload(&event(kind)), None);
        }
    }
}
