//! A run as a Gantt chart: when each task was planned, when it was done, how it stands. Pure: from rows and states to a
//! [`Chart`], and from that to text ([`text`]), a page ([`html`]) or JSON.
//!
//! With a schedule (`[pipeline] schedule`) the rows are its rows and the axis is the calendar. Without one the rows are
//! the tasks of the pipeline, their bars what they took, and what is to come is laid out behind it.

mod axis;
mod html;
mod rows;
pub mod schedule;
mod services;
mod text;
mod waits;

use std::borrow::Cow;

use planexe_base::record::State;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use planexe_base::run_phase::RunPhase;

pub use axis::Axis;
pub use html::html;
pub use rows::{Facts, chart};
pub use services::{ServiceRow, ServiceTime, services};
pub use text::text;
pub use waits::{WaitFor, WaitTime, waits};

/// Milliseconds since 1970.
pub type At = i64;
/// Milliseconds of a day.
pub const DAY: At = 86_400_000;

/// From when to when; the end is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it begins.
    pub from: At,
    /// When it is over.
    pub to: At,
}

impl Span {
    /// A span that is not empty.
    pub fn new(from: At, to: At) -> Span {
        Span { from, to: to.max(from + 1) }
    }

    /// The least span that holds both.
    pub fn with(self, other: Span) -> Span {
        Span { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [utc(self.from), utc(self.to)].serialize(serializer)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <[String; 2]>::json_schema(generator)
    }
}

/// A time as JSON and pages have it: `2027-03-01T00:00:00Z`.
pub fn utc(at: At) -> String {
    jiff::Timestamp::from_millisecond(at).map(|at| at.to_string()).unwrap_or_default()
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Row {
    /// 1: a phase, or a fan-out; 2: a task; 3: a step of it.
    pub level: u8,
    /// The task of the pipeline, if it is one.
    pub task: Option<String>,
    /// The executor its command runs on, if that is not the build itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// What it is called.
    pub title: String,
    /// How it stands; of several tasks what is to be known first.
    pub state: State,
    /// Of several tasks: how many are done, of how many.
    pub done: u32,
    /// See `done`.
    pub all: u32,
    /// When it was to be done.
    pub planned: Option<Span>,
    /// When it was, or is being, done.
    pub actual: Option<Span>,
    /// When it will be done, from what it took before; only without a plan.
    pub expected: Option<Span>,
    /// Times in which it waited for a person, or in the queue of its executor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitTime>,
    /// Whether the end hangs on it.
    pub critical: bool,
    /// A day that must be kept: the last second of it.
    #[serde(serialize_with = "deadline")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<At>,
    /// Why.
    pub deadline_reason: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Days it is late: what was to be over is not, or was over too late.
    pub late_days: Option<i64>,
}

fn deadline<S: Serializer>(at: &Option<At>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(utc).serialize(serializer)
}

impl Row {
    /// What it is called, and the executor it is on.
    fn label(&self) -> String {
        let on = self.executor.as_ref().map_or(String::new(), |executor| format!(" on {executor}"));
        planexe_base::style::clean(&format!("{}{on}", self.title))
    }

    /// Whether a row has others below it.
    pub fn is_sum(&self) -> bool {
        self.all > 1 || self.task.is_none()
    }

    /// Whether a person wants to see it before others.
    pub fn is_pressing(&self) -> bool {
        matches!(
            self.state,
            State::Running
                | State::Merging
                | State::Failed
                | State::Waiting
                | State::PendingEval
                | State::FailedPendingEval
        )
    }
}

/// A chart.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Chart {
    /// What is carried out.
    pub title: String,
    /// The phase of the run.
    pub phase: RunPhase,
    /// Whether dates were planned.
    pub is_planned: bool,
    /// The moment it shows.
    #[serde(serialize_with = "moment")]
    #[schemars(with = "String")]
    pub now: At,
    /// From the first to the last.
    pub whole: Span,
    /// The rows, those of a level below the ones they belong to.
    pub rows: Vec<Row>,
    /// Servers that the build started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceRow>,
    /// Tasks by state, those that are one themselves.
    pub counts: indexmap::IndexMap<&'static str, u32>,
    /// How many are done, of how many.
    pub done: u32,
    /// See `done`.
    pub all: u32,
}

fn moment<S: Serializer>(at: &At, serializer: S) -> Result<S::Ok, S::Error> {
    utc(*at).serialize(serializer)
}
