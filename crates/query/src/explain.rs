//! Why a task would run, or need not, in full: what changed, with the difference of texts that are kept,
//! how it failed, and what the next build would do. Reads only.

use std::collections::BTreeMap;

use crate::dry_run::Survey;
use crate::model_choice::{asks, parked, parked_for};
use crate::task_state::{self as standing, Standing};
use planexe_base::record::{Digest, Done, Imported, Marker, State};
use planexe_base::style;
use planexe_build::check_staleness::{Judgement, Prepared};
use planexe_engine::graph::{Kind, Task, TaskId};
use planexe_engine::staleness::Decision;
use planexe_llm::estimate;
use planexe_pipeline::check::CompiledSchema;
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::project::{Evaluator, Line, Project, Recipe, Spec};
use planexe_store::{KeptRequest, Store};
use planexe_ui::views::{
    self as report, BatchView, ExplainView, InputChange, InstanceView, Server, TaskView, Verdict, reason_of,
};

/// Where the facts are.
pub struct Sources<'a> {
    /// The pipeline and its run.
    pub project: &'a Project,
    /// The run's records.
    pub store: &'a Store,
    /// What judging found.
    pub survey: &'a Survey,
    /// How every task stands.
    pub standing: &'a Standing,
}

/// Explains a task.
pub fn explain(sources: &Sources<'_>, id: TaskId, server: Server) -> ExplainView {
    let Sources { project, store, survey, standing } = *sources;
    let task = &survey.graph[id];
    let spec = project.spec(task);
    let nothing = TaskView::new(task.name.as_str(), State::Pending);
    let view = standing.of(id).unwrap_or(&nothing);
    let judgement = survey.judgements.get(&id);
    let done = judgement.and_then(|judgement| match &judgement.marker {
        Marker::Valid(done) => Some(&**done),
        _ => None,
    });
    let verdict = view.verdict.unwrap_or(Verdict::DependsOn);
    let mut explained = ExplainView {
        schema: report::SCHEMA,
        server,
        task: task.name.clone(),
        description: spec.description.clone(),
        recipe: Some(spec.recipe.name().to_owned()),
        state: view.state,
        verdict,
        reasons: view.reasons.clone(),
        depends_on: view.depends_on.clone(),
        blocked_by: view.blocked_by.clone(),
        completed_utc: done.map(|done| done.completed_utc.clone()).or_else(|| ended_well(view)),
        by: done.map(|done| done.by.name().to_owned()).or_else(|| view.by.clone()),
        by_user: view.by_user.clone(),
        imported: done.and_then(|done| done.imported.clone()),
        changed_inputs: Vec::new(),
        cannot_run: judgement.is_some_and(|judgement| judgement.failure.is_some()),
        attempt: view.last.attempt,
        failure: view.result.failure.clone(),
        eval: Evaluation::from_value(view.quality.eval.as_ref().or(done.and_then(|done| done.eval.as_ref()))),
        isolation: view.isolation.clone(),
        asked: (view.state == State::Waiting && spec.isolate.is_none())
            .then(|| view.doing.clone().unwrap_or_else(|| "see what it asks".to_owned())),
        warning: view.quality.warning.clone(),
        drift: done.map_or(Vec::new(), |done| standing::drift(project, spec, done)),
        asks: asks(project, spec, judgement),
        batch: None,
        next: Vec::new(),
        readers: readers(survey, id),
        roots: match verdict {
            Verdict::DependsOn => roots(sources, id),
            _ => Vec::new(),
        },
        instances: instances(sources, id),
    };
    if let (Some(done), Some(prepared)) = (done, judgement.and_then(|judgement| judgement.prepared.as_ref()))
    {
        explained.changed_inputs = changed_inputs(done, prepared);
        add_differences(sources, task, spec, done, prepared, &mut explained);
    }
    if let Some(judgement) = judgement
        && verdict != Verdict::Fresh
        && !matches!(view.state, State::Running | State::Blocked)
    {
        let imported = imported(store, &judgement.marker, task);
        explained.next = next(project, task, spec, judgement, imported.as_ref());
        let kept = judgement.prepared.as_ref().is_some_and(|prepared| prepared.has_answer(false));
        let parked = parked(project, store);
        // The first to be over: it is asked then.
        let waits = parked_for(project, &parked, spec, kept);
        if let Some(model) = waits.into_iter().min_by(|one, other| one.until_utc.cmp(&other.until_utc)) {
            let until = planexe_ui::views::time(&model.until_utc);
            explained
                .next
                .insert(0, format!("wait until {until}: {} takes no calls before that", model.model));
        }
        if let Recipe::Prompt(_) = spec.recipe
            && let Some((model, state, answered)) = store.batch_of(&task.name)
        {
            let batch = BatchView::new(model, state);
            explained.next.insert(0, batch.collects(answered));
            explained.batch = Some(batch);
        }
    }
    explained
}

/// When a task was done that has no marker of its own: a fan-out, once all its instances are.
fn ended_well(view: &TaskView) -> Option<String> {
    view.last.ended_utc.clone().filter(|_| view.state.is_complete())
}

/// Declared tasks that read what a task writes.
fn readers(survey: &Survey, id: TaskId) -> Vec<String> {
    let graph = &survey.graph;
    let of = match graph[id].kind {
        Kind::Instance { family } => vec![id, family],
        _ => vec![id],
    };
    let mut found: Vec<TaskId> = of.iter().flat_map(|id| graph[*id].readers.iter().copied()).collect();
    for reader in &mut found {
        if let Kind::Instance { family } = graph[*reader].kind {
            *reader = family;
        }
    }
    found.sort_by_key(|reader| graph[*reader].step);
    found.dedup();
    found.retain(|reader| !of.contains(reader));
    found.into_iter().map(|reader| graph[reader].name.clone()).collect()
}

/// The instances of a fan-out, each with why it would run.
fn instances(sources: &Sources<'_>, id: TaskId) -> Vec<InstanceView> {
    let views = sources.survey.graph.instances(id).iter().filter_map(|&id| sources.standing.of(id));
    views.map(in_a_line).collect()
}

/// The stale tasks before a task that wait for no other.
fn roots(sources: &Sources<'_>, id: TaskId) -> Vec<InstanceView> {
    let graph = &sources.survey.graph;
    let before = graph.upstream(&[id]);
    let is_before = |one: &TaskId| match graph[*one].kind {
        Kind::Instance { family } => before[family.index()],
        Kind::Family => graph.instances(*one).is_empty() && before[one.index()],
        _ => before[one.index()],
    };
    let views =
        graph.ids().filter(|one| *one != id && is_before(one)).filter_map(|one| sources.standing.of(one));
    views
        .filter(|view| view.verdict == Some(Verdict::Stale) && view.depends_on.is_empty())
        .map(in_a_line)
        .collect()
}

fn in_a_line(view: &TaskView) -> InstanceView {
    let mut reasons: Vec<String> = view.reasons.iter().map(|reason| reason.message.clone()).collect();
    reasons.extend(view.result.failure.as_ref().map(reason_of));
    if reasons.is_empty() && !view.depends_on.is_empty() {
        reasons.push(format!("depends on {}", view.depends_on.join(", ")));
    }
    InstanceView {
        task: view.task.clone(),
        state: view.state,
        verdict: view.verdict.unwrap_or(Verdict::DependsOn),
        reasons,
    }
}

/// Files read then against files read now.
fn changed_inputs(done: &Done, prepared: &Prepared) -> Vec<InputChange> {
    let now = prepared.records();
    let mut all: BTreeMap<&str, (Option<&Digest>, Option<&Digest>)> = BTreeMap::new();
    for input in &done.inputs {
        all.entry(&input.path).or_default().0 = Some(&input.blake3);
    }
    for input in &now {
        all.entry(&input.path).or_default().1 = Some(&input.blake3);
    }
    let text = |digest: Option<&Digest>| digest.map(|digest| digest.0.clone());
    all.into_iter()
        .filter(|(_, (old, new))| old != new)
        .map(|(path, (old, new))| InputChange { path: path.to_owned(), old: text(old), new: text(new) })
        .collect()
}

/// Adds the difference of a prompt, system prompt or schema to the reason that names it.
fn add_differences(
    sources: &Sources<'_>,
    task: &Task,
    spec: &Spec,
    done: &Done,
    prepared: &Prepared,
    explained: &mut ExplainView,
) {
    let Some(prompt) = spec.recipe.prompt() else { return };
    let differs = |part: &str| explained.reasons.iter().any(|reason| reason.part.as_deref() == Some(part));
    if !["prompt", "system", "schema"].into_iter().any(differs) {
        return;
    }
    let Some(former) = former_request(sources.store, task, done) else { return };
    for reason in &mut explained.reasons {
        let (old, new) = match reason.part.as_deref() {
            Some("prompt") => (ended(&former.prompt), ended(&prepared.prompt)),
            Some("system") => (ended(&former.system), ended(&prepared.system)),
            Some("schema") => {
                (pretty(former.schema.as_ref()), pretty(prompt.schema.as_deref().map(schema_value)))
            }
            _ => continue,
        };
        reason.diff = Some(report::diff(&old, &new)).filter(|diff| !diff.is_empty());
    }
}

/// With a final newline, so that a difference need not remark on it.
fn ended(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

fn schema_value(schema: &CompiledSchema) -> &serde_json::Value {
    &schema.value
}

fn pretty(value: Option<&serde_json::Value>) -> String {
    value.and_then(|value| serde_json::to_string_pretty(value).ok()).map_or(String::new(), |text| text + "\n")
}

/// What was sent for the answer a task is done with: the call its record names, else one that sent the
/// same prompt.
pub fn former_request(store: &Store, task: &Task, done: &Done) -> Option<KeptRequest> {
    let is_it = |request: &KeptRequest| {
        done.parts.get("prompt").is_none_or(|digest| *digest == Digest::of(request.prompt.as_bytes()))
    };
    let named = done.call.as_deref().and_then(|name| store.calls().read(name).ok()?).map(|call| call.request);
    if let Some(request) = named.filter(is_it) {
        return Some(request);
    }
    let mut calls = store.calls().list(&done.task).unwrap_or_default();
    if done.task != task.name {
        calls.extend(store.calls().list(&task.name).unwrap_or_default());
    }
    calls.into_iter().map(|call| call.record.request).rfind(is_it)
}

/// Where an answer came from that was imported for a task and not used yet.
fn imported(store: &Store, marker: &Marker, task: &Task) -> Option<Imported> {
    let calls = (*marker == Marker::Missing).then(|| store.calls().list(&task.name).ok())??;
    calls.into_iter().filter(|call| call.usable).find_map(|call| call.record.imported)
}

/// What the next build would do about a task, one line each.
fn next(
    project: &Project,
    task: &Task,
    spec: &Spec,
    judgement: &Judgement,
    waits: Option<&Imported>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let Decision::Stale { redraw, edited, .. } = &judgement.decision else { return lines };
    for path in edited {
        lines.push(format!("keep a copy of `{path}`, edited by hand, in history"));
    }
    let prepared = judgement.prepared.as_ref();
    let evaluator = spec.eval.as_ref().map(|eval| match &eval.by {
        Evaluator::Prompt(prompt) => {
            prompt.models.first().map_or("no model", |&at| project.endpoints[at].model_name()).to_owned()
        }
        Evaluator::Command(command) => {
            let words: Vec<String> =
                command.line.words().iter().map(|word| report::shell_word(word)).collect();
            words.join(" ")
        }
    });
    let made = prepared.and_then(|prepared| prepared.open_candidate(false)?.success.as_ref());
    if let Some(success) = made {
        lines.push(format!("merge `{}` into `{}`: it is not made again", success.branch, success.base));
        return lines;
    }
    if let (Some(who), Some(prepared)) = (&evaluator, prepared) {
        if let Some(candidate) = prepared.open_candidate(false) {
            let attempt = candidate.attempt;
            lines.push(format!("have {who} evaluate what attempt {attempt} made: it is not made again"));
            return lines;
        }
        if prepared.as_it_is || prepared.existing.is_some() {
            lines.push(format!(
                "have {who} evaluate the outputs there are: they are made again only if that fails"
            ));
            return lines;
        }
    }
    match &spec.recipe {
        Recipe::Command(_) if prepared.is_some_and(|prepared| prepared.as_it_is) => {
            lines.push("take the outputs as they are: only their evaluation is gone".into());
        }
        Recipe::Prompt(_) => {
            let asks = asks(project, spec, Some(judgement));
            let model = asks.as_ref().and_then(|asks| asks.models.first());
            let model = model.map_or("no model", |model| model.model.as_str());
            lines.push(match prepared {
                Some(prepared) if prepared.existing.is_some() => {
                    "check the answer there is against the changed schema or check: no call if it passes"
                        .into()
                }
                Some(Prepared { kept: Some(kept), .. }) => match &kept.record.imported {
                    Some(imported) => format!("use the answer {}: no call", report::imported_from(imported)),
                    None => "use a kept answer: no call".into(),
                },
                Some(prepared) => {
                    let tokens = estimate::tokens(&prepared.system) + estimate::tokens(&prepared.prompt);
                    let fresh = if *redraw { ", for a fresh answer" } else { "" };
                    format!("ask {model}{fresh}, with a prompt of about {} tokens", style::tokens(tokens))
                }
                None => match waits {
                    Some(imported) => {
                        let from = report::imported_from(imported);
                        format!("use the answer {from}, unless the plan is edited first: no call")
                    }
                    None => format!("ask {model}"),
                },
            });
        }
        Recipe::Command(command) => lines.push(match &command.line {
            Line::Argv(argv) => {
                let words: Vec<String> = argv.iter().map(|word| report::shell_word(word)).collect();
                format!("run {}", words.join(" "))
            }
            Line::Shell(line) => format!("run sh -c {}", report::shell_word(line)),
        }),
        Recipe::Template(template) => lines.push(format!("render {}", template.source.name)),
        Recipe::Gate(gate) => {
            let conditions = std::iter::once(&gate.fail_if).chain(&gate.warn_if);
            lines
                .extend(conditions.map(|condition| format!("look whether {}", condition.source.text.trim())));
        }
        Recipe::Human(_) => {
            lines.push(format!("wait for a person; then `planexe done {}`", report::shell_word(&task.name)));
        }
        Recipe::Group => {}
    }
    lines.extend(evaluator.map(|who| format!("have {who} evaluate what comes of it")));
    lines
}
