//! `planexe status`: where a run stands.

use indexmap::IndexMap;
use planexe_base::record::State;
use schemars::JsonSchema;
use serde::Serialize;

use crate::views::{Server, TaskView, time, without_families};
use planexe_base::failure_class::FailureClass;
use planexe_base::message::Message;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{self, Style, clean, pad, pad_left};
use planexe_store::batches::BatchState;
use planexe_store::live::Serving;

/// Where a run stands; its JSON is a format that others rely on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run.
    pub run: RunView,
    /// Tasks by state, by [`super::counts`].
    pub counts: IndexMap<String, u32>,
    /// Every task, in topological order, instances after their `foreach` task.
    pub tasks: Vec<TaskView>,
    /// Steps that are done.
    pub steps_completed: u32,
    /// All steps.
    pub steps_total: u32,
    /// The step last completed; -1 before any.
    pub last_completed_step: i64,
    /// The task last completed.
    pub last_completed_task: Option<String>,
    /// Its checkpoint.
    pub last_checkpoint_id: Option<String>,
    /// When anything last moved.
    pub last_progress_at: Option<String>,
    /// Seconds since then, while a build runs.
    pub idle_s: Option<f64>,
    /// When a model was last asked.
    pub last_llm_call_at: Option<String>,
    /// Seconds to go.
    pub eta_s: Option<f64>,
    /// What the run has cost so far, USD.
    pub cost_usd: Option<f64>,
    /// How good what is done is.
    pub quality_summary: QualitySummary,
    /// Models whose usage limit is not over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<ParkedView>,
    /// Batches whose answers are not here yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchView>,
    /// Servers of `[services]` that are up, or on their way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Serving>,
    /// Only of a run that failed.
    pub error: Option<ErrorSummary>,
    /// Outputs of tasks that are gone from the pipeline: for people only.
    #[serde(skip)]
    pub orphans: Vec<String>,
}

/// A model that takes no calls until its usage limit is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ParkedView {
    /// Its name in the pipeline.
    pub model: String,
    /// When the limit is over.
    pub until_utc: String,
    /// Seconds until then.
    pub left_s: f64,
    /// What its server or program said.
    pub message: String,
}

/// Calls that were submitted together, and are waited for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct BatchView {
    /// The model's name in the pipeline.
    pub model: String,
    /// The vendor's id; empty while it is not known whether it was submitted.
    pub batch: String,
    /// When it was submitted.
    pub submitted_utc: String,
    /// When it is over at the latest, once the vendor has said so.
    pub until_utc: Option<String>,
    /// Calls that are answered, or failed.
    pub done: u64,
    /// All of them; 0 if that is not known yet.
    pub total: u64,
}

impl BatchView {
    /// Of a model, by how far its record says it is.
    pub fn new(model: String, state: BatchState) -> BatchView {
        BatchView {
            model,
            batch: state.batch,
            submitted_utc: state.submitted_utc,
            until_utc: Some(state.until_utc).filter(|at| !at.is_empty()),
            done: state.done,
            total: state.total,
        }
    }

    /// How far it is, in words.
    pub fn text(&self) -> String {
        let model = clean(&self.model);
        let until = self.until_utc.as_deref().map(|at| format!(" until {}", time(at))).unwrap_or_default();
        match self.batch.is_empty() {
            true => format!("{model}: not known whether it was submitted; the next build finds out"),
            false => format!("{model}: waiting for a batch{until}, {} of {} done", self.done, self.total),
        }
    }

    /// What the next build does about a call of it, if that still asks the same.
    pub fn collects(&self, answered: bool) -> String {
        match answered {
            true => {
                format!("use the answer that came in a batch of {}, if it still asks the same", self.model)
            }
            false => format!("wait for its batch, if it still asks the same. {}", self.text()),
        }
    }
}

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct RunView {
    /// The run directory.
    pub dir: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Where it stands.
    pub phase: RunPhase,
    /// When its first build, or the running one, started.
    pub started_utc: Option<String>,
    /// The run it was made from.
    pub parent: Option<String>,
    /// A name for people.
    pub label: Option<String>,
    /// Models its tasks name, the default first.
    pub models: Vec<String>,
    /// The process of the running build.
    pub pid: Option<u32>,
    /// The command that was changing the run when it was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<String>,
}

/// How good what is done is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QualitySummary {
    /// Everything is done, and none of it is named below.
    pub complete: bool,
    /// Tasks done with items missing.
    pub partial: Vec<String>,
    /// Tasks done with an answer recorded for another prompt.
    pub sample: Vec<String>,
    /// Tasks accepted by their evaluation in spite of their exit status.
    pub rescued: Vec<String>,
    /// Tasks whose outputs a person accepted as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Gates that let the run go on and have something to say all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warned: Vec<String>,
}

impl QualitySummary {
    /// From the tasks.
    pub fn from_tasks(tasks: &[TaskView]) -> QualitySummary {
        let named = |flag: fn(&TaskView) -> Option<bool>| {
            let flagged = tasks.iter().filter(|task| task.state.is_complete() && flag(task) == Some(true));
            flagged.map(|task| task.task.clone()).collect::<Vec<_>>()
        };
        let (partial, rescued) = (named(|task| task.quality.partial), named(|task| task.quality.rescued));
        let warned = named(|task| Some(task.quality.warning.is_some()));
        let accepted = named(|task| Some(task.is_accepted()));
        // Of a fan-out its items are named, as the build does.
        let sampled = without_families(tasks)
            .filter(|task| task.state.is_complete() && task.quality.sample == Some(true));
        let sample: Vec<String> = sampled.map(|task| task.task.clone()).collect();
        let all_done = !tasks.is_empty() && tasks.iter().all(|task| task.state.is_complete());
        QualitySummary {
            complete: all_done && partial.is_empty() && sample.is_empty(),
            partial,
            sample,
            rescued,
            accepted,
            warned,
        }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorSummary {
    /// The class of the first failure.
    pub failure_reason: FailureClass,
    /// The task that failed.
    pub failed_step: String,
    /// One line for people.
    pub message: Message,
    /// Whether another try may succeed without a change.
    pub recoverable: bool,
    /// What to type next.
    pub next: String,
}

/// Above this number of rows a terminal is shown names side by side.
const ROWS: usize = 30;

impl StatusView {
    /// For people. `verbose` shows each instance of a fan-out and each task on a line of its own.
    pub fn text(&self, style: &Style, verbose: bool) -> String {
        let rows =
            if verbose { self.tasks.iter().map(Row::from_task).collect() } else { folded(&self.tasks) };
        let mut text = self.head(style);
        if !rows.is_empty() {
            text.push('\n');
            text += &if style.width.is_some() && !verbose && rows.len() > ROWS {
                grouped(&rows, style)
            } else {
                listed(&rows, style)
            };
        }
        text + &self.foot(style)
    }

    fn head(&self, style: &Style) -> String {
        let run = &self.run;
        let mut fields = vec![("Run", clean(&run.dir))];
        if let Some(label) = &run.label {
            fields[0].1 += &format!(" ({})", clean(label));
        }
        fields.push(("Pipeline", clean(&run.pipeline)));
        let models: Vec<String> = run.models.iter().map(|model| clean(model)).collect();
        fields.push(("Model", if models.is_empty() { "none".to_owned() } else { models.join(", ") }));
        let started = match &run.started_utc {
            Some(started) => time(started),
            None if run.phase == RunPhase::NeverStarted => "not yet".to_owned(),
            None => "not known".to_owned(),
        };
        fields.push(("Started", started));
        let mut phase = run.phase.to_string();
        if let Some(pid) = run.pid {
            phase += &format!(" (process {pid})");
        }
        if let Some(idle_s) = self.idle_s.filter(|idle_s| *idle_s >= 5.0) {
            phase += &format!(", last moved {} ago", style::elapsed(idle_s));
        }
        fields.push(("Phase", phase));
        if let Some(command) = &run.cut_off {
            fields
                .push(("Cut off", format!("`{}` was killed; typed again, it does the rest", clean(command))));
        }
        for parked in &self.parked {
            let (until, left) = (time(&parked.until_utc), style::elapsed(parked.left_s));
            let model = clean(&parked.model);
            fields.push(("Parked", format!("{model} until {until} (in {left}): {}", clean(&parked.message))));
        }
        for batch in &self.batches {
            fields.push(("Batch", batch.text()));
        }
        for up in &self.services {
            let doing = if up.doing.is_empty() { String::new() } else { format!(", {}", clean(&up.doing)) };
            fields.push(("Service", format!("{} {}{doing}", clean(&up.service), clean(&up.state))));
        }
        let mut text = String::new();
        for (name, value) in fields {
            text += &style.fit(&format!("{}{value}", style.dim(&pad(name, 10))));
            text.push('\n');
        }
        if self.tasks.is_empty() {
            return text;
        }
        text.push('\n');
        text += &style.fit(&self.bar(style));
        text.push('\n');
        text += &self.counted(style);
        text
    }

    fn count_of(&self, state: State) -> usize {
        self.counts.get(state.name()).copied().unwrap_or(0) as usize
    }

    fn bar(&self, style: &Style) -> String {
        let total = self.counts.values().sum::<u32>().max(1) as usize;
        let done: usize =
            State::ALL.iter().filter(|state| state.is_complete()).map(|s| self.count_of(*s)).sum();
        let right = format!("  {done}/{total} done");
        let columns = style.columns().saturating_sub(style::width(&right)).min(60);
        let (mut bar, mut used, mut seen) = (String::new(), 0, 0);
        let signs = |state: State| match state {
            state if state.is_complete() => "━",
            State::Running | State::Merging => "╍",
            State::Failed => "✗",
            _ => "─",
        };
        for state in State::ALL {
            seen += self.count_of(state);
            // Ends are rounded, not lengths, so that the whole is as wide as it should be.
            let end = if state == State::Skipped { columns } else { seen * columns / total };
            bar += &style.paint(state.colour(), &signs(state).repeat(end - used));
            used = end;
        }
        bar + &right
    }

    fn counted(&self, style: &Style) -> String {
        let mut fields = Vec::new();
        for state in State::ALL {
            let count = self.count_of(state);
            if count > 0 {
                let text = format!("{} {count} {}", state.glyph(), state.name());
                fields.push(style.paint(state.colour(), &text));
            }
        }
        if let Some(eta_s) = self.eta_s {
            fields.push(format!("ETA {}", style::elapsed(eta_s)));
        }
        if let Some(cost_usd) = self.cost_usd.filter(|cost_usd| *cost_usd > 0.0) {
            fields.push(style::money(cost_usd));
        }
        let (mut text, mut used) = (String::new(), 0);
        for field in fields {
            let columns = style::width(&field);
            if used > 0 && style.width.is_some_and(|width| used + 3 + columns > width) {
                text.push('\n');
                used = 0;
            }
            if used > 0 {
                text += "   ";
                used += 3;
            }
            text += &field;
            used += columns;
        }
        text + "\n"
    }

    fn foot(&self, style: &Style) -> String {
        let mut lines = Vec::new();
        let quality = &self.quality_summary;
        for (label, names) in [
            ("Partial", &quality.partial),
            ("Sample answers", &quality.sample),
            ("Rescued", &quality.rescued),
            ("Accepted by hand", &quality.accepted),
            ("Warned", &quality.warned),
        ] {
            if !names.is_empty() {
                lines.push(format!("{label}: {}", some_names(names, 5)));
            }
        }
        if !self.orphans.is_empty() {
            let names = some_names(&self.orphans, 5);
            lines.push(format!("Orphans, of tasks that are gone: {names} (`planexe clean --orphans`)"));
        }
        if let Some(error) = &self.error {
            lines.push(format!("Next: {}", clean(&error.next)));
        }
        if lines.is_empty() {
            return String::new();
        }
        lines.iter().fold("\n".to_owned(), |text, line| text + &style.fit(line) + "\n")
    }
}

/// `a, b, c and 4 more`.
pub fn some_names(names: &[String], most: usize) -> String {
    let shown: Vec<String> = names.iter().take(most).map(|name| clean(name)).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// One line of the list.
struct Row {
    state: State,
    glyph: String,
    word: &'static str,
    name: String,
    time: String,
    remark: String,
}

impl Row {
    fn from_task(task: &TaskView) -> Row {
        let (glyph, word) = task.sign();
        let time = match (task.state, task.seconds()) {
            (State::Running, Some(seconds)) => style::elapsed(seconds),
            (_, Some(seconds)) => style::duration(seconds),
            (_, None) => String::new(),
        };
        Row { state: task.state, glyph, word, name: clean(&task.task), time, remark: task.remark() }
    }
}

/// A row for each task that is no instance; a `foreach` task says how its instances fare.
fn folded(tasks: &[TaskView]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for task in tasks.iter().filter(|task| task.family.is_none()) {
        let instances: Vec<&TaskView> =
            tasks.iter().filter(|other| other.family.as_deref() == Some(task.task.as_str())).collect();
        let mut row = Row::from_task(task);
        if !instances.is_empty() {
            let complete = instances.iter().filter(|instance| instance.state.is_complete()).count();
            let skipped = instances.iter().filter(|instance| instance.state == State::Skipped).count();
            let counted = instances.len() - skipped;
            let mut parts = Vec::new();
            if counted > 0 {
                parts.push(format!("{}/{counted} done", complete - skipped));
            }
            for state in
                State::ALL.into_iter().filter(|state| !state.is_complete() || *state == State::Skipped)
            {
                let count = instances.iter().filter(|instance| instance.state == state).count();
                if count > 0 {
                    parts.push(format!("{count} {}", state.name()));
                }
            }
            row.remark = parts.join(", ");
            if let Some(failed) = instances.iter().find(|instance| instance.state == State::Failed) {
                row.remark += &format!("; {}: {}", clean(&failed.task), failed.remark());
            }
        } else if task.no_items {
            row.remark = "no items".to_owned();
        }
        rows.push(row);
    }
    // Instances whose `foreach` task is gone from the pipeline.
    let orphans = without_families(tasks).filter(|task| {
        task.family.as_ref().is_some_and(|family| !tasks.iter().any(|other| other.task == *family))
    });
    rows.extend(orphans.map(Row::from_task));
    rows
}

/// One row after the other.
fn listed(rows: &[Row], style: &Style) -> String {
    let widest = |cell: fn(&Row) -> &str| rows.iter().map(|row| style::width(cell(row))).max().unwrap_or(0);
    let words = widest(|row| row.word);
    let glyphs = widest(|row| &row.glyph);
    let names = match style.width {
        Some(width) => widest(|row| &row.name).min((width * 2 / 5).max(12)),
        None => widest(|row| &row.name),
    };
    let times = widest(|row| &row.time);
    let mut text = String::new();
    for row in rows {
        let state = format!("{} {}", pad(&row.glyph, glyphs), pad(row.word, words));
        let mut line = format!(
            "{}  {}",
            style.paint(row.state.colour(), &state),
            pad(&style::truncate(&row.name, names), names)
        );
        if times > 0 {
            line += &format!("  {}", pad_left(&row.time, times));
        }
        line += &format!("  {}", row.remark);
        text += &style.fit(line.trim_end());
        text.push('\n');
    }
    text
}

/// By state: a line each for what needs attention, names side by side for the rest.
fn grouped(rows: &[Row], style: &Style) -> String {
    const ORDER: [State; 14] = [
        State::Failed,
        State::Damaged,
        State::FailedPendingEval,
        State::PendingEval,
        State::Waiting,
        State::Running,
        State::Merging,
        State::Stopped,
        State::Edited,
        State::Stale,
        State::Blocked,
        State::Pending,
        State::Done,
        State::Skipped,
    ];
    let mut text = String::new();
    for state in ORDER {
        let group: Vec<&Row> = rows.iter().filter(|row| row.state == state).collect();
        if group.is_empty() {
            continue;
        }
        let heading = format!("{} {} ({})", state.glyph(), state.name(), group.len());
        text += &format!("{}\n", style.paint(state.colour(), &heading));
        let side_by_side = match state {
            State::Done | State::Pending | State::Blocked | State::Skipped => true,
            State::Stale => group.len() > ROWS / 2,
            _ => false,
        };
        if side_by_side {
            let named = |row: &&Row| match &row.time {
                time if time.is_empty() => row.name.clone(),
                time => format!("{} {}", row.name, style.dim(time)),
            };
            text += &packed(&group.iter().map(named).collect::<Vec<_>>(), style.columns());
        } else {
            let names = group.iter().map(|row| style::width(&row.name)).max().unwrap_or(0);
            let names = names.min((style.columns() * 2 / 5).max(12));
            for row in group {
                let name = pad(&style::truncate(&row.name, names), names);
                let line = format!("  {name}  {}  {}", pad_left(&row.time, 7), row.remark);
                text += &style.fit(line.trim_end());
                text.push('\n');
            }
        }
    }
    text
}

/// Cells in columns of one width, filled row by row.
fn packed(cells: &[String], columns: usize) -> String {
    let widest = cells.iter().map(|cell| style::width(cell)).max().unwrap_or(0);
    let in_a_row = ((columns.saturating_sub(2) + 2) / (widest + 2)).max(1);
    let mut text = String::new();
    for row in cells.chunks(in_a_row) {
        let line: Vec<String> = row.iter().map(|cell| pad(cell, widest)).collect();
        let line = format!("  {}", line.join("  "));
        text += &style::truncate(line.trim_end(), columns);
        text.push('\n');
    }
    text
}
