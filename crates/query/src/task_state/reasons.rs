//! Why a task would run, what has drifted without making it stale, and what a person is asked: judgements as data.

use minijinja::Value;

use super::is_at_work;
use planexe_base::record::Done;
use planexe_build::check_staleness::Judgement;
use planexe_engine::graph::Task;
use planexe_engine::staleness::{Decision, StaleReason};
use planexe_pipeline::project::{Project, Recipe, Spec};
use planexe_pipeline::template as render;
use planexe_store::Owner;
use planexe_ui::views::{Drift, Reason};

/// The reasons of a judgement as data, beside a build that may be at the task.
pub fn reasons_now(judgement: &Judgement, owner: Option<&Owner>) -> Vec<Reason> {
    if judgement.status.as_deref().is_some_and(|status| is_at_work(status, owner)) {
        return vec![Reason::new("running", "it is being made now")];
    }
    reasons(judgement)
}

/// The reasons of a judgement as data.
pub fn reasons(judgement: &Judgement) -> Vec<Reason> {
    if let Some(failure) = &judgement.failure {
        return vec![Reason::new(failure.class.name(), failure.message.text.as_str())];
    }
    match &judgement.decision {
        Decision::Stale { reasons, .. } => reasons.iter().map(reason).collect(),
        _ => Vec::new(),
    }
}

/// A reason as data: its code is the name it has in JSON.
fn reason(reason: &StaleReason) -> Reason {
    let value = serde_json::to_value(reason).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let mut view = Reason::new(text("reason").unwrap_or_default(), reason.text());
    view.part = text("part");
    view.old = text("old");
    view.new = text("new");
    view
}

/// How what made a task differs from what would make it now, without making it stale.
pub fn drift(project: &Project, spec: &Spec, done: &Done) -> Vec<Drift> {
    let (Some(made), Some(prompt)) = (&done.made_with, spec.recipe.prompt()) else { return Vec::new() };
    let now: Vec<_> = prompt.models.iter().map(|&at| prompt.made_with(&project.endpoints[at])).collect();
    let Some(first) = now.first() else { return Vec::new() };
    if now.contains(made) {
        return Vec::new();
    }
    let one = |what: &str, old: &str, new: &str| Drift {
        what: what.to_owned(),
        made_with: old.to_owned(),
        now: new.to_owned(),
    };
    let mut found = Vec::new();
    match now.iter().find(|other| other.model == made.model) {
        None => found.push(one("model", &made.model, &first.model)),
        Some(same) if same.params == made.params => {
            found.push(one("server", &made.endpoint, &same.endpoint));
        }
        Some(_) => {}
    }
    if now.iter().all(|other| other.params != made.params) {
        found.push(one("params", made.params.short(), first.params.short()));
    }
    found
}

/// What a waiting task asks of a person.
pub fn asked(project: &Project, task: &Task, spec: &Spec, judgement: &Judgement) -> Option<String> {
    let template = match &spec.recipe {
        Recipe::Human(human) => &human.ask,
        Recipe::Gate(gate) => match &gate.message {
            Some(message) => message,
            None => return Some(format!("the gate's condition holds: {}", gate.fail_if.source.text.trim())),
        },
        _ => return None,
    };
    let prepared = judgement.prepared.as_ref()?;
    let values = prepared.inputs.context(project, task, &template.names).ok()?;
    let text = render::render(&template.source, &Value::from_iter(values), false).ok()?;
    Some(text.trim().to_owned())
}
