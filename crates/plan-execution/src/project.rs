//! A plan as a project of work: names, who does what, and dates. Pure: the same plan and the same rules give the same
//! project.

use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::names::Names;
use super::order::{self, Order};
use super::plan::{Phase, Plan, PlanTask, Step};
use super::rules::{Approve, By, Ruled, Ruler};
use planexe_base::style::clean;

/// What a step reads of the plan as a whole.
pub const CONTEXT: &str = "plan/context.json";
/// Planned dates.
pub const SCHEDULE: &str = "schedule.json";

/// A step of the plan as a task.
#[derive(Debug, Clone)]
pub struct Item {
    /// The task's name.
    pub name: String,
    /// Its number in the plan.
    pub number: String,
    /// Its title.
    pub title: String,
    /// Who does it, and how.
    pub ruled: Ruled,
    /// What it delivers.
    pub output: String,
    /// First and last day.
    pub dates: Option<(Date, Date)>,
    /// The gate that lets it begin.
    pub approve: Option<String>,
    /// The gate that accepts what was made.
    pub accept: Option<String>,
    /// What it is given.
    pub given: Value,
}

impl Item {
    /// The task after which it is over.
    pub fn end(&self) -> &str {
        self.accept.as_deref().unwrap_or(&self.name)
    }

    /// The file of what it is given.
    pub fn given_path(&self) -> String {
        format!("items/{}.json", self.name)
    }
}

/// A task of the plan with its steps.
#[derive(Debug, Clone)]
pub struct Work<'p> {
    /// The task of the plan.
    pub of: &'p PlanTask,
    /// Its name: of the group of its steps, or of the one step that it is.
    pub name: String,
    /// Its steps.
    pub items: Vec<Item>,
}

impl Work<'_> {
    /// Whether it is a group of steps, and not one itself.
    pub fn is_group(&self) -> bool {
        self.items.first().is_none_or(|item| item.name != self.name)
    }

    /// The task after which it is over.
    pub fn end(&self) -> &str {
        match self.items.first() {
            Some(item) if !self.is_group() => item.end(),
            _ => &self.name,
        }
    }
}

/// A phase with its tasks.
#[derive(Debug, Clone)]
pub struct Stage<'p> {
    /// The phase of the plan.
    pub of: &'p Phase,
    /// The name of its group.
    pub name: String,
    /// The gate that lets it begin.
    pub gate: Option<String>,
    /// Its tasks.
    pub works: Vec<Work<'p>>,
}

/// A project of work.
#[derive(Debug)]
pub struct Project<'p> {
    /// Its phases.
    pub stages: Vec<Stage<'p>>,
    /// For each task of the plan the places of those it waits for.
    pub waits_for: Vec<Vec<usize>>,
    /// What of the plan could not be used, a line each.
    pub dropped: Vec<String>,
}

impl<'p> Project<'p> {
    /// A plan's.
    pub fn new(plan: &'p Plan, ruler: &mut Ruler) -> Project<'p> {
        let by_phase = ruler.rules.approve == Approve::Phases;
        let Order { waits_for, mut dropped } = order::of(plan, by_phase);
        dropped.splice(0..0, plan.ignored.iter().map(|line| clean(line)));
        Project { stages: stages(plan, ruler, by_phase), waits_for, dropped }
    }

    /// All tasks, in the order of the plan.
    pub fn works(&self) -> impl Iterator<Item = &Work<'p>> {
        self.stages.iter().flat_map(|stage| &stage.works)
    }

    /// All steps, in the order of the plan.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.works().flat_map(|work| &work.items)
    }

    /// How many steps somebody does.
    pub fn count(&self, by: By) -> usize {
        self.items().filter(|item| item.ruled.by == by).count()
    }
}

/// Gives everything its name, and every step to somebody. Names of the plan's own parts come first, so that none of ours
/// takes theirs.
fn stages<'p>(plan: &'p Plan, ruler: &mut Ruler, by_phase: bool) -> Vec<Stage<'p>> {
    let mut names = Names::default();
    let mut own: Vec<String> = plan.tasks().map(|task| names.of_id(&task.id)).collect();
    let mut stages: Vec<Stage<'p>> = Vec::with_capacity(plan.phases.len());
    for phase in &plan.phases {
        let rest = own.split_off(phase.tasks.len());
        let given = std::mem::replace(&mut own, rest);
        let works = phase.tasks.iter().zip(given).map(|(task, name)| {
            let items = items_of(phase, task, &name, &mut names, ruler);
            Work { of: task, name, items }
        });
        stages.push(Stage { of: phase, name: String::new(), gate: None, works: works.collect() });
    }
    for (place, stage) in stages.iter_mut().enumerate() {
        let phase = Names::default().of_id(&stage.of.id);
        stage.name = names.of_gate("phase", &phase);
        stage.gate = (by_phase && place > 0).then(|| names.of_gate("approve", &stage.name));
        for item in stage.works.iter_mut().flat_map(|work| &mut work.items) {
            let made = item.ruled.by != By::Human;
            item.approve = (item.ruled.tier == 3).then(|| names.of_gate("approve", &item.name));
            item.accept = (item.ruled.tier > 1 && made).then(|| names.of_gate("accept", &item.name));
        }
    }
    stages
}

fn items_of(phase: &Phase, task: &PlanTask, name: &str, names: &mut Names, ruler: &mut Ruler) -> Vec<Item> {
    let whole = Step {
        number: task.number.clone(),
        title: task.title.clone(),
        description: task.description.clone(),
        result: task.done_when.clone(),
        days: 1.0,
    };
    let steps: Vec<&Step> = if task.steps.is_empty() { vec![&whole] } else { task.steps.iter().collect() };
    let dates = dates_of(task.dates, &steps);
    let mut items = Vec::new();
    for (step, dates) in steps.into_iter().zip(dates) {
        let name = match task.steps.is_empty() {
            true => name.to_owned(),
            false => names.of_step(name, &step.title),
        };
        let ruled = ruler.of(&name, &step.title, &step.result);
        let output = ruled.output.clone().unwrap_or_else(|| format!("deliverables/{name}.md"));
        // No numbers and no dates: they move when another step comes, and what is done would be done again.
        let given = json!({
            "title": step.title,
            "description": step.description,
            "result": step.result,
            "owner": task.owner,
            "task": task.title,
            "task_description": task.description,
            "task_done_when": task.done_when,
            "phase": phase.title,
            "deliverable": output,
        });
        items.push(Item {
            name,
            number: step.number.clone(),
            title: step.title.clone(),
            ruled,
            output,
            dates,
            approve: None,
            accept: None,
            given,
        });
    }
    items
}

/// The days of a task shared among its steps, one after another, by the days each is said to take.
fn dates_of(dates: Option<(Date, Date)>, steps: &[&Step]) -> Vec<Option<(Date, Date)>> {
    let Some((start, finish)) = dates else { return vec![None; steps.len()] };
    let days = start.until(finish).map_or(0, |span| i64::from(span.get_days())) + 1;
    let weight = |step: &Step| step.days.max(0.25);
    let all: f64 = steps.iter().map(|step| weight(step)).sum();
    let day = |n: i64| start.checked_add(n.clamp(0, days - 1).days()).unwrap_or(finish);
    let mut before = 0.0;
    let mut shared = Vec::new();
    for step in steps {
        let from = (days as f64 * before / all) as i64;
        before += weight(step);
        let to = (days as f64 * before / all).round() as i64 - 1;
        shared.push(Some((day(from), day(to.max(from)))));
    }
    shared
}
