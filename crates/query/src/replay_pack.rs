//! From a run to a file of recorded answers: what the models said for each task that is done, under the digest
//! by which a build with the present texts would look for it. Reads only.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::selection::{Unit, Units};
use planexe_base::fs::{self, FsError};
use planexe_base::record::{By, Digest, Done, Marker};
use planexe_build::check_staleness::{Prepared, StaleCheck};
use planexe_build::eval_request as evaluation;
use planexe_engine::graph::Task;
use planexe_engine::staleness::Decision;
use planexe_llm::recorded::RecordedAnswer;
use planexe_llm::{digest_with, evaluation_of, prompt_digest};
use planexe_pipeline::project::{EvalSpec, PromptSpec};
use planexe_pipeline::{check, eval_score};
use planexe_store::Candidate;
use planexe_store::calls::{AnswerState, CallRecord, KeptCall, KeptRequest};

/// The answers of a run, and what is to be told of them. Lists hold task names.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Packed {
    /// The answers.
    #[serde(skip)]
    pub answers: Vec<RecordedAnswer>,
    /// Answers that were played for another prompt: from now on they count as answers to this one.
    pub samples: Vec<String>,
    /// Outputs that were edited by hand: what the model said is recorded, not the edit.
    pub edited: Vec<String>,
    /// Outputs no model wrote, marked done by hand: their text is recorded as the answer.
    pub by_hand: Vec<String>,
    /// Tasks that are stale: recorded under what they were asked then.
    pub stale: Vec<String>,
    /// Tasks that are done without an answer that could be found.
    pub lost: Vec<String>,
    /// Prompt tasks that are not done.
    pub open: Vec<String>,
}

/// Packs the answers of all prompt tasks that are done.
pub fn pack(units: &Units<'_>, judge: &StaleCheck<'_>) -> Result<Packed, FsError> {
    let mut packed = Packed::default();
    let graph = &units.graph;
    for &id in judge.project.graph.order() {
        let task = &judge.project.graph[id];
        let spec = judge.project.spec(task);
        if spec.prompts().next().is_none() && spec.calls().is_none() {
            continue;
        }
        for unit in units.of(&(id, None))? {
            let Some(node) = units.in_graph(&unit) else { continue };
            let Some(first) = unit.outputs.first() else { continue };
            let Marker::Valid(done) = judge.store.read_done(first) else {
                packed.open.push(unit.name);
                continue;
            };
            let judgement = judge.judge(graph, node, false);
            let fresh = matches!(judgement.decision, Decision::Fresh { .. });
            let prepared = judgement.prepared.as_ref().filter(|_| fresh);
            if !fresh {
                packed.stale.push(unit.name.clone());
            }
            if let Some(prompt) = spec.recipe.prompt() {
                pack_one(&mut packed, judge, &unit, prompt, &done, prepared)?;
            }
            if spec.calls().is_some() {
                pack_calls(&mut packed, judge, &unit)?;
            }
            if let Some(eval) = &spec.eval {
                pack_verdicts(&mut packed, judge, &unit, &graph[node], eval, prepared, &done)?;
            }
        }
    }
    Ok(packed)
}

fn pack_one(
    packed: &mut Packed,
    judge: &StaleCheck<'_>,
    unit: &Unit,
    spec: &PromptSpec,
    done: &Done,
    prepared: Option<&Prepared>,
) -> Result<(), FsError> {
    let schema = spec.schema.as_ref().map(|schema| &schema.value);
    let wanted = prepared.map(|prepared| {
        let files = prepared.attached.iter().map(|file| &file.digest);
        digest_with(&prepared.system, &prepared.prompt, schema, files)
    });
    let present = judge.index.digest(&judge.store.path(&unit.outputs[0]))?.map(|(digest, _)| digest);
    let recorded = done.outputs.first().map(|output| &output.blake3);
    let call = call_of(judge, unit, done, wanted.as_deref())?;
    let reply = call.as_ref().and_then(|call| call.reply.as_ref());
    let (text, usage) = match reply {
        Some(reply) => {
            // What this answer comes to as an output, to the byte.
            let said = check::validate(&reply.text, spec.schema.as_deref(), spec.check.as_deref()).ok();
            let said = said.map(|valid| Digest::of(valid.text.as_bytes()));
            if present.is_some() && said.is_some() && said != present {
                packed.edited.push(unit.name.clone());
            }
            (reply.text.clone(), Some(reply.usage))
        }
        None if present.is_some() && present.as_ref() == recorded => {
            let Ok(text) = fs::read_to_string(&judge.store.path(&unit.outputs[0])) else {
                packed.lost.push(unit.name.clone());
                return Ok(());
            };
            if done.by == By::Touch {
                packed.by_hand.push(unit.name.clone());
            }
            (text, None)
        }
        None => {
            packed.lost.push(unit.name.clone());
            return Ok(());
        }
    };
    let asked = || call.as_ref().map(digest_of_call);
    let Some(digest) = wanted.or_else(asked) else {
        packed.lost.push(unit.name.clone());
        return Ok(());
    };
    if done.sample {
        packed.samples.push(unit.name.clone());
    }
    let answer = RecordedAnswer::value_of(&text);
    let task = unit.name.split('[').next().unwrap_or_default().to_owned();
    packed.answers.push(RecordedAnswer {
        task,
        key: unit.key.clone(),
        digest: Some(digest),
        answer,
        usage,
        wire: None,
    });
    Ok(())
}

/// The verdicts on what a task made, each for what its evaluator was asked. An answer is played in the first round, so
/// the verdict that it passed with stands for that as well.
fn pack_verdicts(
    packed: &mut Packed,
    judge: &StaleCheck<'_>,
    unit: &Unit,
    task: &Task,
    eval: &EvalSpec,
    prepared: Option<&Prepared>,
    done: &Done,
) -> Result<(), FsError> {
    let Some(prompt) = eval.prompt() else { return Ok(()) };
    let used = |call: &KeptCall| call.record.evaluation && call.record.verdict == AnswerState::Accepted;
    let calls: Vec<CallRecord> =
        judge.store.calls().list(&unit.name)?.into_iter().filter(used).map(|call| call.record).collect();
    let mut verdicts: Vec<(String, &CallRecord)> =
        calls.iter().map(|call| (digest_of_call(call), call)).collect();
    // Of rounds of refinement the last one need not be the best.
    let passed = done.eval.as_ref().and_then(|eval| eval["score"].as_f64());
    let score = |call: &&CallRecord| {
        let read = call.reply.as_ref().and_then(|reply| eval_score::read(&reply.text).ok());
        read.map(|read| read.score) == passed
    };
    let passed = calls.iter().rfind(score).or(calls.last());
    if let (Some(passed), Some(prepared)) = (passed, prepared)
        && let Some(candidate) = Candidate::of_outputs(judge.store, task)?
        && let Ok((system, text)) =
            evaluation::question(judge.project, judge.store, task, prepared, eval, prompt, &candidate)
    {
        let schema = prompt.schema.as_ref().map(|schema| &schema.value);
        verdicts.push((prompt_digest(&system, &text, schema), passed));
    }
    let mut seen = HashSet::new();
    // The newest first, of those that were asked the same.
    for (digest, call) in verdicts.into_iter().rev() {
        let Some(reply) = call.reply.as_ref().filter(|_| seen.insert(digest.clone())) else { continue };
        let task = evaluation_of(unit.name.split('[').next().unwrap_or_default());
        let answer = RecordedAnswer::value_of(&reply.text);
        let (digest, usage) = (Some(digest), Some(reply.usage));
        packed.answers.push(RecordedAnswer {
            task,
            key: unit.key.clone(),
            digest,
            answer,
            usage,
            wire: None,
        });
    }
    Ok(())
}

/// The calls that a task's own program made, as they went over the wire.
fn pack_calls(packed: &mut Packed, judge: &StaleCheck<'_>, unit: &Unit) -> Result<(), FsError> {
    let task = unit.name.split('[').next().unwrap_or_default();
    for call in judge.store.calls().list(&unit.name)?.into_iter().filter(|call| call.usable) {
        let (Some(wire), Some(reply)) = (call.record.wire, call.record.reply) else { continue };
        packed.answers.push(RecordedAnswer {
            task: task.to_owned(),
            key: unit.key.clone(),
            digest: Some(wire.digest.clone()),
            answer: reply.text.into(),
            usage: Some(reply.usage),
            wire: Some(wire),
        });
    }
    Ok(())
}

/// What was asked in a call.
fn digest_of_call(call: &CallRecord) -> String {
    let KeptRequest { system, prompt, schema, files, .. } = &call.request;
    digest_with(system, prompt, schema.as_ref(), files.iter().map(|file| &file.blake3))
}

/// The kept call an output came from: the one its `.DONE` names, else the newest usable one that asked the same.
fn call_of(
    judge: &StaleCheck<'_>,
    unit: &Unit,
    done: &Done,
    wanted: Option<&str>,
) -> Result<Option<CallRecord>, FsError> {
    let calls = judge.store.calls();
    if let Some(name) = done.call.as_deref()
        && let Some(call) = calls.read(name)?
        && call.reply.is_some()
    {
        return Ok(Some(call));
    }
    let same = |call: &KeptCall| {
        call.usable
            && !call.record.evaluation
            && call.record.wire.is_none()
            && wanted.is_none_or(|wanted| digest_of_call(&call.record) == wanted)
    };
    Ok(calls.list(&unit.name)?.into_iter().rev().find(same).map(|call| call.record))
}
