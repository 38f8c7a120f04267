//! A prompt: one attempt to get an answer that holds, from what is kept or from a model.
//!
//! What arrives is on disk before anything is done with it. An answer that does not hold is kept too,
//! but never used; what follows then is the policy's to say ([`planexe_llm::retry`]).

use std::sync::Arc;

use crate::check_staleness::{Prepared, call_digest, render_failure};
use crate::runner::{BuildContext, Job, LeftOff, Made, Outcome, Stage, complete, further_outputs};
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::record::{By, Digest, Failure, State};
use planexe_llm::attachment::Attachment;
use planexe_llm::{Rejected, Reply};
use planexe_pipeline::check::{self, CompiledCheck, Valid};
use planexe_pipeline::project::{Endpoint, PromptSpec};
use planexe_store::calls::{AnswerState, CallRecord, KeptCall};
use planexe_store::commit::Content;
use planexe_store::usage::{CallOf, UsageLine};

mod asking;

use asking::Asking;

/// Longest error text kept with a failure.
const RAW: usize = 4096;

/// Makes the attempt.
pub fn run(ctx: &BuildContext, job: &mut Job, spec: &PromptSpec) -> Outcome {
    if let Some(outcome) = without_a_call(ctx, job, spec) {
        return outcome;
    }
    ask_for_answer(ctx, job, spec).unwrap_or_else(Outcome::Broken)
}

/// Asks a model, and takes the answer if it will do.
fn ask_for_answer(ctx: &BuildContext, job: &mut Job, spec: &PromptSpec) -> Result<Outcome, FsError> {
    let question = match question_of(ctx, job, spec) {
        Ok(question) => question,
        Err(failure) => return Ok(Outcome::Failed(failure)),
    };
    let answer = match ask(ctx, job, spec, question)? {
        Asked::Answered(answer) => answer,
        Asked::Ended(outcome) => return Ok(outcome),
    };
    if let Some(failed) = refused_sample(ctx, &answer) {
        return Ok(Outcome::Failed(failed));
    }
    let endpoint = &ctx.project.endpoints[spec.models[job.endpoint]];
    let made = Made {
        with: Some(spec.made_with(endpoint)),
        call: Some(answer.call),
        sample: answer.sample,
        ..Made::default()
    };
    Ok(accept(ctx, job, answer.valid, made))
}

/// Under `--frozen`: why an answer that was recorded for another prompt will not do.
pub(super) fn refused_sample(ctx: &BuildContext, answer: &Answer) -> Option<Failure> {
    let message = "the answer was recorded for another prompt of this task, and --frozen refuses those";
    (ctx.frozen && answer.sample).then(|| super::failure(FailureClass::Sample, message))
}

/// What is asked of a model.
pub(super) struct Question {
    /// System prompt.
    pub system: Arc<str>,
    /// Prompt.
    pub prompt: Arc<str>,
    /// What the answer must satisfy beyond its schema.
    pub check: Option<Arc<CompiledCheck>>,
    /// What a kept answer to it is found by, by model.
    pub digests: Vec<(String, Digest)>,
    /// Answers to it that would not do, beside those of this task.
    pub former: Vec<Rejected>,
    /// Images and PDFs that go with it.
    pub files: Arc<[Attachment]>,
}

impl Question {
    /// What a kept answer of a model is found by.
    pub(super) fn digest(&self, endpoint: &Endpoint) -> Digest {
        let found = self.digests.iter().find(|(name, _)| *name == endpoint.name);
        found.map(|(_, digest)| digest.clone()).unwrap_or_default()
    }
}

/// What the task's own prompt asks: with the notes of the last round, if there was one. They count as no part of it, so
/// that the answer is found again by what the task is made from.
fn question_of(ctx: &BuildContext, job: &Job, spec: &PromptSpec) -> Result<Question, Failure> {
    let Prepared { system, prompt, check, attached, .. } = &job.prepared;
    let digest = |&at: &usize| {
        let endpoint = &ctx.project.endpoints[at];
        (endpoint.name.clone(), call_digest(spec, endpoint, system, prompt, attached))
    };
    let mut question = Question {
        system: system.clone(),
        prompt: prompt.clone(),
        check: check.clone(),
        digests: spec.models.iter().map(digest).collect(),
        former: Vec::new(),
        files: attached.clone(),
    };
    match &job.history.notes {
        Some(notes) if spec.prompt.uses("notes") || spec.prompt.uses("former") => {
            let mut values = super::context(ctx, job, &[&spec.prompt])?;
            values.insert("notes".into(), notes.text.as_str().into());
            values.insert("former".into(), notes.former.as_str().into());
            let rendered = spec.prompt.render(&minijinja::Value::from_iter(values));
            question.prompt = rendered.map_err(|error| render_failure(&error))?.into();
        }
        Some(notes) => question.former.push(notes.as_rejected()),
        None => {}
    }
    Ok(question)
}

/// What asking a model came to.
pub(super) enum Asked {
    /// An answer that holds.
    Answered(Answer),
    /// None: how the attempt ends.
    Ended(Outcome),
}

/// An answer that holds, kept.
pub(super) struct Answer {
    /// The answer.
    pub valid: Valid,
    /// Its file among the kept calls.
    pub call: String,
    /// It was recorded for another prompt.
    pub sample: bool,
}

/// Asks the model whose turn it is.
pub(super) fn ask(
    ctx: &BuildContext,
    job: &mut Job,
    spec: &PromptSpec,
    question: Question,
) -> Result<Asked, FsError> {
    let endpoint = &ctx.project.endpoints[spec.models[job.endpoint]];
    Asking { ctx, job, spec, endpoint, question }.run()
}

/// The answer there is, or a kept one, where judging found that it will do.
fn without_a_call(ctx: &BuildContext, job: &mut Job, spec: &PromptSpec) -> Option<Outcome> {
    if let Some(text) = job.prepared.existing.take() {
        job.live.enter(Stage::Checking);
        let valid = check::validate(&text, spec.schema.as_deref(), job.prepared.check.as_deref()).ok()?;
        let former = job.former.as_deref();
        let made = Made {
            with: former.and_then(|done| done.made_with.clone()),
            call: former.and_then(|done| done.call.clone()),
            sample: former.is_some_and(|done| done.sample),
            reused: true,
            by: former.map(|done| done.by),
            imported: former.and_then(|done| done.imported.clone()),
            was_there: true,
            ..Made::default()
        };
        return Some(accept(ctx, job, valid, made));
    }
    let kept = *job.prepared.kept.take()?;
    if kept.record.imported.is_some() {
        return take_imported(ctx, job, spec, kept);
    }
    let KeptCall { name, record: kept, .. } = kept;
    let reply = kept.reply.as_ref()?;
    job.live.enter(Stage::Reusing);
    let valid = check::validate(&reply.text, spec.schema.as_deref(), job.prepared.check.as_deref()).ok()?;
    let endpoint = ctx.project.endpoints.iter().find(|endpoint| endpoint.name == kept.endpoint)?;
    // The build that paid for it may have been killed before it could say so.
    if kept.attempt + 1 == job.attempt
        && let Err(error) = ctx.logs.usage_unless_there(&line_of_kept(ctx, &kept, reply))
    {
        return Some(Outcome::Broken(error));
    }
    let made = Made {
        with: Some(spec.made_with(endpoint)),
        call: Some(name),
        sample: reply.sample,
        reused: true,
        attempt: Some(kept.attempt),
        ..Made::default()
    };
    Some(accept(ctx, job, valid, made))
}

/// Takes an answer that another program got: nobody is asked, and no usage is counted.
fn take_imported(ctx: &BuildContext, job: &Job, spec: &PromptSpec, kept: KeptCall) -> Option<Outcome> {
    let reply = kept.record.reply.as_ref()?;
    job.live.enter(Stage::Reusing);
    let check = job.prepared.check_of(&kept.record);
    let valid = check::validate(&reply.text, spec.schema.as_deref(), check.as_deref()).ok()?;
    let endpoint = &ctx.project.endpoints[*spec.models.first()?];
    let Prepared { system, prompt, attached, .. } = &job.prepared;
    let digest = call_digest(spec, endpoint, system, prompt, attached);
    let name = match ctx.store.calls().assign(&kept, &digest) {
        Ok(name) => name,
        Err(error) => return Some(Outcome::Broken(error)),
    };
    let made = Made {
        call: Some(name),
        reused: true,
        by: Some(By::Import),
        imported: kept.record.imported,
        ..Made::default()
    };
    Some(accept(ctx, job, valid, made))
}

/// Rejected answers of an attempt that an earlier build did not bring to its end: what they cost is not
/// paid again, the model is told what was wrong with them. Before `.status` says that a new attempt runs, or another
/// kill would lose what this one makes out.
pub fn take_up_conversation(ctx: &BuildContext, job: &mut Job, spec: &PromptSpec) -> Result<(), FsError> {
    let Some(left) = job.history.left.take() else { return Ok(()) };
    if let LeftOff::In(state, _) = left
        && !matches!(state, State::Running | State::Pending | State::Stopped | State::Failed)
    {
        return Ok(());
    }
    let endpoint = &ctx.project.endpoints[spec.models[job.endpoint]];
    let digest =
        call_digest(spec, endpoint, &job.prepared.system, &job.prepared.prompt, &job.prepared.attached);
    let mut rejected = Vec::new();
    for call in ctx.store.calls().list(&job.task.name)? {
        let meant =
            call.record.digest == digest && (call.usable || call.record.verdict == AnswerState::Rejected);
        if meant
            && let Some(reply) = &call.record.reply
            && let Err(violations) =
                check::validate(&reply.text, spec.schema.as_deref(), job.prepared.check.as_deref())
        {
            let again = Rejected { answer: reply.text.clone(), feedback: check::feedback(&violations) };
            rejected.push((call, again));
        }
    }
    // Killed between the answer and the word of its rejection. After a power cut the word that its attempt ran may be lost
    // too: then it is nobody's, the record's neither.
    let cut_off = |last: &KeptCall| match left {
        LeftOff::In(state, attempt) => state == State::Running && last.record.attempt == attempt,
        LeftOff::NotBegun => {
            last.usable && job.former.as_ref().and_then(|done| done.call.as_ref()) != Some(&last.name)
        }
    };
    if let Some((last, _)) = rejected.last()
        && cut_off(last)
    {
        job.history.own.budgets.add_reask(&endpoint.name);
        if last.usable {
            ctx.store.calls().mark(&last.name, AnswerState::Rejected)?;
        }
    }
    let of_this_history = job.history.own.budgets.reasks(&endpoint.name) as usize;
    let before = rejected.len().saturating_sub(of_this_history);
    for (call, again) in rejected.into_iter().skip(before) {
        if let Some(reply) = &call.record.reply {
            ctx.logs.usage_unless_there(&line_of_kept(ctx, &call.record, reply))?;
        }
        job.history.own.rejected.push(again);
    }
    Ok(())
}

/// Counts a call of a build before this one, which may have been killed before it could.
pub(super) fn count_kept(ctx: &BuildContext, kept: &CallRecord) -> Result<(), FsError> {
    match &kept.reply {
        Some(reply) => ctx.logs.usage_unless_there(&line_of_kept(ctx, kept, reply)).map(drop),
        None => Ok(()),
    }
}

/// The line of usage of an answer kept by a build before.
fn line_of_kept(ctx: &BuildContext, kept: &CallRecord, reply: &Reply) -> UsageLine {
    let call = CallOf {
        task: &kept.task,
        attempt: kept.attempt,
        api: &kept.api,
        model: &kept.model,
        error_id: None,
        ended_utc: &kept.ended_utc,
        duration_s: clock::seconds_between(&kept.started_utc, &kept.ended_utc).unwrap_or(0.0),
    };
    UsageLine::new(call, Ok(reply), &ctx.project.run)
}

/// Writes an answer that holds.
fn accept(ctx: &BuildContext, job: &Job, valid: Valid, made: Made) -> Outcome {
    job.live.enter(Stage::Saving);
    let Some(first) = job.task.outputs.first() else {
        return Outcome::Failed(super::failure(FailureClass::Output, "BUG: a prompt without an output"));
    };
    let answer = match &valid.value {
        Some(value) => minijinja::Value::from_serialize(value),
        None => minijinja::Value::from(valid.text.as_str()),
    };
    let mut outputs = vec![(first.clone(), Content::Bytes(valid.text.into_bytes()))];
    match further_outputs(ctx, job, ctx.project.spec(&job.task), answer) {
        Ok(further) => outputs.extend(further),
        Err(failure) => return Outcome::Failed(failure),
    }
    complete(ctx, job, outputs, made)
}

pub(super) fn bounded(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let end = text.char_indices().nth(RAW).map_or(text.len(), |(at, _)| at);
    Some(text[..end].to_owned())
}
