//! `planexe build -n`: what would run, and why; and where a run would go on.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::simulate::BudgetStop;
use crate::views::status::some_names;
use crate::views::{Asks, ParkedView, Reason, Server, Verdict, joined, time};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_base::style::{self, Style, clean, pad};

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PlanView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run directory.
    pub run_dir: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Where the run goes on; none if it never started.
    pub resume: Option<ResumeView>,
    /// What would run, or might: tasks of a level need only tasks of levels before.
    pub levels: Vec<Vec<PlanTask>>,
    /// The lanes of isolated tasks among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneView>,
    /// Tasks that are stale.
    pub stale: u32,
    /// Tasks that run if what is before them turns out to differ.
    pub depends: u32,
    /// Tasks that are up to date.
    pub fresh: u32,
    /// Calls of stale tasks for which no answer is kept.
    pub calls_expected: u32,
    /// Calls if everything that might run does; a fan-out whose items are not known counts as one.
    pub calls_at_most: u32,
    /// Tasks whose condition is false.
    #[serde(skip)]
    pub skipped: u32,
    /// Fan-outs whose items are not known.
    #[serde(skip)]
    pub unknown_items: u32,
    /// Tasks that are up to date, and were made with another model or other parameters.
    #[serde(skip)]
    pub drift: u32,
    /// Tasks of whose time nothing is known: nothing like them has run yet.
    #[serde(skip)]
    pub guessed: u64,
    /// Seconds it is expected to take if everything that might run does, from earlier builds.
    pub eta_s: Option<f64>,
    /// USD its calls are expected to cost, the same way.
    pub cost_usd: Option<f64>,
    /// Where its budget is expected to stop it, the same way.
    pub budget_stop: Option<BudgetStop>,
    /// Models of what would run that take no calls until their usage limit is over; the time above leaves that out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<ParkedView>,
}

/// Isolated tasks that share a worktree, or one that has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LaneView {
    /// Its name: a task's, or that of several.
    pub lane: String,
    /// The branch its commits go to; none if that is the one that is checked out.
    pub base: Option<String>,
    /// Whether the pipeline has several tasks share it: they run one at a time.
    pub shared: bool,
    /// Those of its tasks that would run, or might.
    pub tasks: Vec<String>,
}

impl LaneView {
    fn line(&self, style: &Style) -> String {
        let base = self.base.as_deref().map_or("the branch that is checked out".to_owned(), clean);
        let tasks = some_names(&self.tasks, 8);
        let line = match self.shared {
            true => format!("  {}: {tasks}; one at a time, merged together into {base}", clean(&self.lane)),
            false => format!("  {tasks}: merged into {base}"),
        };
        style.wrap(&line, 4)
    }
}

/// A task that would run, or might.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlanTask {
    /// `task` or `task[key]`.
    pub task: String,
    /// Stale, or depends on others.
    pub verdict: Verdict,
    /// Why it is stale.
    pub reasons: Vec<Reason>,
    /// The tasks of this plan whose outcome decides.
    pub depends_on: Vec<String>,
    /// All tasks it reads from or comes after.
    pub needs: Vec<String>,
    /// prompt, command, template, gate, human, group.
    pub recipe: String,
    /// The model it would ask first, by its name at its server.
    pub model: Option<String>,
    /// All models it would ask, and what says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// The lane it works in, if it is isolated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// A kept answer would be used: no call.
    pub kept_answer: bool,
}

/// Where a run goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResumeView {
    /// As in `status`.
    pub phase: RunPhase,
    /// The step it goes on with, from 0; none if all steps are done.
    pub step: Option<u32>,
    /// All steps.
    pub steps_total: u32,
    /// The task of that step.
    pub task: Option<String>,
    /// -1 before any.
    pub last_completed_step: i64,
    /// The task last completed.
    pub last_completed_task: Option<String>,
    /// Digest of what the next attempt is decided on.
    pub decision_id: Option<String>,
    /// The last checkpoint.
    pub checkpoint_id: Option<String>,
    /// When the run last moved.
    pub last_progress_at: Option<String>,
    /// Tasks that were done and that an edit of the pipeline made stale since.
    pub edited: Vec<String>,
}

impl ResumeView {
    /// For people: what is printed before the first side effect.
    pub fn text(&self, style: &Style) -> String {
        let known = |value: &Option<String>| value.as_deref().map_or_else(|| "none".to_owned(), clean);
        let goes_on = match (self.step, &self.task) {
            (Some(step), Some(task)) => format!("step {}/{}, {}", step + 1, self.steps_total, clean(task)),
            _ => format!("nothing is left of {}", style::count(self.steps_total as u64, "step")),
        };
        let last = match &self.last_completed_task {
            Some(task) => {
                format!("step {}/{}, {}", self.last_completed_step + 1, self.steps_total, clean(task))
            }
            None => "none".to_owned(),
        };
        let mut phase = self.phase.to_string();
        if let Some(utc) = &self.last_progress_at {
            phase += &format!(", last moved {}", time(utc));
        }
        let mut text = String::new();
        for (name, value) in [
            ("phase", phase),
            ("continues at", goes_on),
            ("last done", last),
            ("decision_id", known(&self.decision_id)),
            ("checkpoint_id", known(&self.checkpoint_id)),
        ] {
            text += &format!("{}{value}\n", style.dim(&pad(name, 15)));
        }
        if !self.edited.is_empty() {
            let names = some_names(&self.edited, 8);
            text += &format!("{}made stale by it: {names}\n", style.dim(&pad("pipeline edit", 15)));
        }
        text
    }
}

impl PlanView {
    /// For people. `verbose` names what each task needs.
    pub fn text(&self, style: &Style, verbose: bool) -> String {
        let mut text = String::new();
        if let Some(resume) = &self.resume {
            text += &resume.text(style);
            text.push('\n');
        }
        let names =
            self.levels.iter().flatten().map(|task| style::width(&clean(&task.task))).max().unwrap_or(0);
        let names = style.width.map_or(names, |width| names.min((width * 2 / 5).max(12)));
        let models = self.models();
        let widest = models.values().map(|model| style::width(model)).max().unwrap_or(0).min(24);
        for (at, level) in self.levels.iter().enumerate() {
            text += &format!("{}\n", style.dim(&format!("level {}", at + 1)));
            for tasks in level.chunk_by(|one, other| !verbose && one.goes_with(other)) {
                let task = &tasks[0];
                let name = match tasks.len() {
                    1 => clean(&task.task),
                    count => format!("{} \u{d7}{count}", clean(task.family())),
                };
                let name = style::truncate(&name, names).into_owned();
                let mut line = format!("  {} {}  ", task.glyph(style), pad(&name, names));
                if widest > 0 {
                    let model = models.get(task.task.as_str()).map_or("", String::as_str);
                    line += &format!("{}  ", pad(&style::truncate(model, widest), widest));
                }
                line += &task.remark();
                text += &style.fit(line.trim_end());
                text.push('\n');
                if let Some(asks) = task.asks.as_ref().filter(|_| verbose && !task.kept_answer) {
                    let line = format!("    {} {}", pad("", names), asks.text());
                    text += &format!("{}\n", style.wrap(&line, names + 5));
                }
                if verbose && !task.needs.is_empty() {
                    let needs = some_names(&task.needs, usize::MAX);
                    let line = format!("    {} needs {needs}", pad("", names));
                    text += &format!("{}\n", style.wrap(&line, names + 5));
                }
            }
        }
        if !self.lanes.is_empty() {
            text += &format!("{}\n", style.dim("lanes"));
        }
        for lane in &self.lanes {
            text += &format!("{}\n", lane.line(style));
        }
        if !self.levels.is_empty() {
            text.push('\n');
        }
        text += &format!("{}\n", style.wrap(&self.total(), 2));
        if let Some(stop) = &self.budget_stop {
            let told = format!(
                "Its budget is expected to stop it: {}. The next build continues, with the whole budget again.",
                stop.text()
            );
            text += &format!("{}\n", style.wrap(&told, 2));
        }
        for parked in &self.parked {
            let told = format!(
                "{} takes no calls until {} (in {}), which this time leaves out; `--before-reset` asks it all the same.",
                clean(&parked.model),
                time(&parked.until_utc),
                style::elapsed(parked.left_s)
            );
            text += &format!("{}\n", style.wrap(&told, 2));
        }
        if self.unknown_items > 0 {
            let tasks = style::count(u64::from(self.unknown_items), "task");
            text += &format!(
                "The items of {tasks} are not known yet; each task counts as one, so it will be more.\n"
            );
        }
        if self.drift > 0 {
            let (was, them) = if self.drift == 1 { ("was", "it") } else { ("were", "them") };
            let told = format!(
                "{} {was} made with another model or other parameters, which makes nothing stale; `--rebuild-on model` would make {them} again.",
                style::count(u64::from(self.drift), "task")
            );
            text += &format!("{}\n", style.wrap(&told, 2));
        }
        text
    }

    /// Which model each task would ask first, by the task; nothing if it is the same for all of them.
    fn models(&self) -> HashMap<&str, String> {
        let asks = |task: &PlanTask| {
            let asks = task.asks.as_ref().filter(|_| !task.kept_answer)?;
            Some((asks.brief(), asks.tier.is_some() || !asks.left.is_empty()))
        };
        let all = || self.levels.iter().flatten().filter_map(|task| Some((task.task.as_str(), asks(task)?)));
        let mut known = all().map(|(_, asked)| asked);
        let first = known.next();
        if first.is_none_or(|first| !first.1 && known.all(|other| other == first)) {
            return HashMap::new();
        }
        all().map(|(task, (model, _))| (task, model)).collect()
    }

    fn total(&self) -> String {
        let tasks = |number: u32| style::count(u64::from(number), "task");
        if self.stale + self.depends == 0 {
            return format!("planexe: everything is up to date ({})", tasks(self.fresh + self.skipped));
        }
        let mut text = match (self.stale, self.depends) {
            (stale, 0) => format!("Would run {}", tasks(stale)),
            (stale, depends) => {
                format!("Would run {}, and {depends} more if what they read differs", tasks(stale))
            }
        };
        if self.fresh > 0 {
            text += &format!("; {} up to date", self.fresh);
        }
        text += ". ";
        text += &match (self.calls_expected, self.calls_at_most) {
            (_, 0) => "No calls.".to_owned(),
            (0, most) => {
                format!("No call is certain yet, at most {}.", style::count(u64::from(most), "call"))
            }
            (expected, most) if most > expected => {
                format!("{} expected, at most {most}.", style::count(u64::from(expected), "call"))
            }
            (expected, _) => format!("{} expected.", style::count(u64::from(expected), "call")),
        };
        let about = [self.eta_s.map(style::elapsed), self.cost_usd.map(style::money)];
        let about: Vec<String> = about.into_iter().flatten().collect();
        if !about.is_empty() {
            text += &format!(" About {}", about.join(", "));
            text += &match self.guessed {
                0 => ".".to_owned(),
                1 => ": a guess in part, as 1 task has not run yet.".to_owned(),
                tasks => format!(": a guess in part, as {tasks} tasks have not run yet."),
            };
        }
        text
    }
}

impl PlanTask {
    fn glyph(&self, style: &Style) -> String {
        match self.verdict {
            Verdict::Stale => style.glyph(State::Stale),
            Verdict::DependsOn => style.dim("?"),
            Verdict::Fresh => style.glyph(State::Done),
        }
    }

    /// The task, without the key of an item.
    fn family(&self) -> &str {
        self.task.split('[').next().unwrap_or(&self.task)
    }

    /// Whether there is nothing to say of an item that is not said of another one.
    fn goes_with(&self, other: &PlanTask) -> bool {
        // Of items that are stale alone, a person wants the names.
        let edited = |task: &PlanTask| {
            !task.depends_on.is_empty() && task.reasons.iter().all(|reason| reason.code == "changed")
        };
        let waits = |task: &PlanTask| {
            task.task.ends_with(']') && (task.verdict == Verdict::DependsOn || edited(task))
        };
        waits(self)
            && waits(other)
            && self.verdict == other.verdict
            && self.family() == other.family()
            && self.depends_on == other.depends_on
            && self.remark() == other.remark()
    }

    fn remark(&self) -> String {
        let mut text = match self.verdict {
            Verdict::Stale if self.reasons.is_empty() => "stale".to_owned(),
            Verdict::Stale => joined(&self.reasons),
            Verdict::DependsOn if self.depends_on.is_empty() => joined(&self.reasons),
            Verdict::DependsOn => {
                // An item depends on its own task for being in the list at all.
                let others: Vec<String> =
                    self.depends_on.iter().filter(|task| *task != self.family()).cloned().collect();
                match others.is_empty() {
                    true => "depends on the list of its items".to_owned(),
                    false => format!("depends on {}", some_names(&others, 3)),
                }
            }
            Verdict::Fresh => "up to date".to_owned(),
        };
        if self.kept_answer {
            text += " (a kept answer will be used)";
        }
        text
    }
}
