//! A prompt: one attempt to get an answer that holds, from what is kept or from a model.
//!
//! What arrives is on disk before anything is done with it. An answer that does not hold is kept too,
//! but never used; what follows then is the policy's to say ([`crate::llm::retry`]).

use std::time::{Duration, Instant};

use super::{EndedAlone, Job, Made, Outcome, Pause, Stage, Tools, complete, error_id, further_outputs};
use crate::check::{self, Valid, Violation, ViolationKind};
use crate::clock;
use crate::fs::FsError;
use crate::judge::call_digest;
use crate::llm::retry::{Failed, Next};
use crate::llm::{CallContext, CallError, Class, Rejected, Reply, Request};
use crate::manifest::types::Api;
use crate::project::{Endpoint, PromptSpec};
use crate::record::{Failure, SCHEMA, State};
use crate::store::calls::{CallRecord, KeptCall, KeptRequest, Verdict};
use crate::store::commit::Content;
use crate::store::logs::{CallOf, UsageLine};
use crate::style;

/// Longest error text kept with a failure.
const RAW: usize = 4096;

/// Makes the attempt.
pub fn run(tools: &Tools, job: &mut Job, spec: &PromptSpec) -> Outcome {
    if let Some(outcome) = without_a_call(tools, job, spec) {
        return outcome;
    }
    let endpoint = &tools.project.endpoints[spec.models[job.endpoint]];
    match ask(tools, job, spec, endpoint) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Broken(error),
    }
}

/// The answer there is, or a kept one, where judging found that it will do.
fn without_a_call(tools: &Tools, job: &mut Job, spec: &PromptSpec) -> Option<Outcome> {
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
        };
        return Some(accept(tools, job, valid, made));
    }
    let KeptCall { name, record: kept, .. } = *job.prepared.kept.take()?;
    let reply = kept.reply.as_ref()?;
    job.live.enter(Stage::Reusing);
    let valid = check::validate(&reply.text, spec.schema.as_deref(), job.prepared.check.as_deref()).ok()?;
    let endpoint = tools.project.endpoints.iter().find(|endpoint| endpoint.name == kept.endpoint)?;
    // The build that paid for it may have been killed before it could say so.
    if kept.attempt + 1 == job.attempt
        && let Err(error) = tools.logs.usage_unless_there(&line_of_kept(tools, &kept, reply))
    {
        return Some(Outcome::Broken(error));
    }
    let made = Made {
        with: Some(spec.made_with(endpoint)),
        call: Some(name),
        sample: reply.sample,
        reused: true,
        by: None,
    };
    Some(accept(tools, job, valid, made))
}

/// Why an attempt ends before its model is asked.
fn not_asked(tools: &Tools, job: &Job, spec: &PromptSpec, endpoint: &Endpoint) -> Option<Outcome> {
    if let Some(limit) = tools.project.spec(&job.task).timeout
        && job.course.spent >= limit
    {
        let message = format!("not done after {:.0} s (timeout)", limit.as_secs_f64());
        return Some(Outcome::Failed(super::failure("timeout", message)));
    }
    if let Some(why) = tools.providers.closed_by(spec.models[job.endpoint]) {
        let message = format!("`{}` takes no more calls in this build: {}", endpoint.name, why.message);
        let failed = super::failure(why.class.name(), message);
        return Some(Outcome::Failed(Failure { recoverable: is_recoverable(why.class), ..failed }));
    }
    tools.cancel.is_broken().then_some(Outcome::Stopped)
}

/// Asks a model.
fn ask(tools: &Tools, job: &mut Job, spec: &PromptSpec, endpoint: &Endpoint) -> Result<Outcome, FsError> {
    if let Some(outcome) = not_asked(tools, job, spec, endpoint) {
        return Ok(outcome);
    }
    let limit = tools.project.spec(&job.task).timeout;
    let time_left = limit.map(|limit| limit.saturating_sub(job.course.spent));
    take_up_conversation(tools, job, spec, endpoint)?;
    let request = request_of(job, spec);
    let started_utc = clock::now_utc();
    let start = Instant::now();
    job.live.enter(Stage::Asking { rejected: request.rejected.len() as u32 });
    let result = tools.providers.get(spec.models[job.endpoint]).and_then(|provider| {
        let context = CallContext { cancel: &job.live.cancel, progress: &job.live.call, time_left };
        provider.call(&request, &context)
    });
    job.live.enter(Stage::Checking);
    let cancelled = result.as_ref().is_err_and(|error| error.class == Class::Cancelled);
    let stalled = match job.live.ended() {
        Some(EndedAlone::Stalled(limit)) if cancelled && !tools.cancel.is_killing() => Some(limit),
        _ if cancelled => return Ok(Outcome::Stopped),
        _ => None,
    };
    let record = CallRecord {
        schema: SCHEMA,
        task: job.task.name.clone(),
        digest: call_digest(spec, endpoint, &job.prepared),
        endpoint: endpoint.name.clone(),
        model: endpoint.model_name().to_owned(),
        api: endpoint.api().to_owned(),
        request: KeptRequest::from(&request),
        started_utc,
        ended_utc: clock::now_utc(),
        reply: None,
        error: None,
        verdict: Verdict::Arrived,
        attempt: job.attempt,
        error_id: None,
        other: serde_json::Map::new(),
    };
    match result {
        Ok(reply) => {
            let reply = tools.providers.redacted_reply(reply);
            answered(tools, job, spec, endpoint, reply, record, start.elapsed())
        }
        Err(error) => {
            let error = tools.providers.redacted(error);
            unanswered(tools, job, spec, endpoint, error, record, (start, stalled))
        }
    }
}

/// An answer came: kept before anything is made of it, then checked.
fn answered(
    tools: &Tools,
    job: &mut Job,
    spec: &PromptSpec,
    endpoint: &Endpoint,
    reply: Reply,
    mut record: CallRecord,
    elapsed: Duration,
) -> Result<Outcome, FsError> {
    let checked = check::validate(&reply.text, spec.schema.as_deref(), job.prepared.check.as_deref());
    tools.providers.answers(spec.models[job.endpoint]);
    record.reply = Some(reply.clone());
    let name = tools.store.calls().keep(&record)?;
    count(tools, job, endpoint, Ok(&reply), &record, elapsed)?;
    job.course.call = Some((Ok(reply.usage), None));
    (job.answered)(reply.usage);
    match checked {
        Ok(_) if tools.frozen && reply.sample => {
            let message =
                "the answer was recorded for another prompt of this task, and --frozen refuses those";
            Ok(Outcome::Failed(super::failure("sample", message)))
        }
        Ok(valid) => {
            let made = Made {
                with: Some(spec.made_with(endpoint)),
                call: Some(name),
                sample: reply.sample,
                ..Made::default()
            };
            Ok(accept(tools, job, valid, made))
        }
        Err(violations) => {
            tools.store.calls().mark(&name, Verdict::Rejected)?;
            Ok(reject(tools, job, spec, &reply, &violations))
        }
    }
}

/// No answer came, or none to be used: kept and counted too. `stalled`: it was ended after so long without progress.
fn unanswered(
    tools: &Tools,
    job: &mut Job,
    spec: &PromptSpec,
    endpoint: &Endpoint,
    error: CallError,
    mut record: CallRecord,
    (start, stalled): (Instant, Option<Duration>),
) -> Result<Outcome, FsError> {
    let id = error_id();
    record.error = Some(error.clone());
    record.error_id = Some(id.clone());
    tools.store.calls().keep(&record)?;
    count(tools, job, endpoint, Err(&error), &record, start.elapsed())?;
    if let Some(limit) = stalled {
        let message = format!("no progress for {:.0} s (stall_timeout)", limit.as_secs_f64());
        let failure = Failure {
            error_id: Some(id),
            recoverable: true,
            raw_error: bounded(&error.partial),
            ..super::failure("stall", message)
        };
        return Ok(Outcome::Failed(failure));
    }
    let failure = Failure {
        class: error.class.name().to_owned(),
        message: error.message.clone(),
        error_id: Some(id),
        recoverable: true,
        raw_error: bounded(&error.raw).or_else(|| bounded(&error.partial)),
        ..Failure::default()
    };
    // Nothing is at work on what was never sent.
    let sent = job.live.call.snapshot().0 > 0;
    let rest = match error.class == Class::Timeout && sent && !tools.cancel.is_killing() {
        true => tools.providers.rest(spec.models[job.endpoint], start.elapsed()),
        false => None,
    };
    Ok(follow(tools, job, spec, &error, failure, rest))
}

/// Rejected answers of an attempt that an earlier build did not bring to its end: what they cost is not
/// paid again, the model is told what was wrong with them.
fn take_up_conversation(
    tools: &Tools,
    job: &mut Job,
    spec: &PromptSpec,
    endpoint: &Endpoint,
) -> Result<(), FsError> {
    let left = job.course.left.take();
    let Some((state @ (State::Running | State::Pending | State::Stopped), attempt)) = left else {
        return Ok(());
    };
    let digest = call_digest(spec, endpoint, &job.prepared);
    let mut rejected = Vec::new();
    for call in tools.store.calls().list(&job.task.name)? {
        let meant = call.record.digest == digest && (call.usable || call.record.verdict == Verdict::Rejected);
        if meant
            && let Some(reply) = &call.record.reply
            && let Err(violations) =
                check::validate(&reply.text, spec.schema.as_deref(), job.prepared.check.as_deref())
        {
            let again = Rejected { answer: reply.text.clone(), feedback: check::feedback(&violations) };
            rejected.push((call, again));
        }
    }
    // Killed between the answer and the word of its rejection.
    if let Some((last, _)) = rejected.last()
        && state == State::Running
        && last.record.attempt == attempt
    {
        job.course.budgets.add_reask(&endpoint.name);
        if last.usable {
            tools.store.calls().mark(&last.name, Verdict::Rejected)?;
        }
    }
    let of_this_course = job.course.budgets.reasks(&endpoint.name) as usize;
    let before = rejected.len().saturating_sub(of_this_course);
    for (call, again) in rejected.into_iter().skip(before) {
        if let Some(reply) = &call.record.reply {
            tools.logs.usage_unless_there(&line_of_kept(tools, &call.record, reply))?;
        }
        job.course.rejected.push(again);
    }
    Ok(())
}

fn request_of(job: &Job, spec: &PromptSpec) -> Request {
    let mut params = spec.params.clone();
    if let Some(max_tokens) = job.course.max_tokens {
        params.insert("max_tokens".to_owned(), max_tokens.into());
    }
    if job.course.vary {
        // The same draw would go wrong the same way.
        let seed = params.get("seed").and_then(serde_json::Value::as_u64).unwrap_or(0);
        params.insert("seed".to_owned(), (seed + u64::from(job.attempt)).into());
    }
    Request {
        task: job.task.name.split('[').next().unwrap_or_default().to_owned(),
        key: job.task.item.as_ref().map(|item| item.key.clone()),
        system: job.prepared.system.clone(),
        prompt: job.prepared.prompt.clone(),
        rejected: job.course.rejected.clone(),
        schema: spec.schema.as_ref().map(|schema| schema.value.clone()),
        params,
        params_extra: spec.params_extra.clone(),
        check: job.prepared.check.clone(),
    }
}

/// Adds a call to the task's usage and to `usage_metrics.jsonl`.
fn count(
    tools: &Tools,
    job: &mut Job,
    endpoint: &Endpoint,
    result: Result<&Reply, &CallError>,
    record: &CallRecord,
    elapsed: Duration,
) -> Result<(), FsError> {
    let mut usage = match result {
        Ok(reply) => reply.usage,
        Err(error) => error.usage,
    };
    usage.calls = 1;
    job.course.usage.add(&usage);
    tools.providers.spend(&usage);
    let call = CallOf {
        task: &job.task.name,
        attempt: job.attempt,
        api: endpoint.api(),
        model: endpoint.model_name(),
        error_id: record.error_id.as_deref(),
        ended_utc: &record.ended_utc,
        duration_s: elapsed.as_secs_f64(),
    };
    tools.logs.usage(&UsageLine::of(call, result, &tools.project.run))
}

/// The line of usage of an answer kept by a build before.
fn line_of_kept(tools: &Tools, kept: &CallRecord, reply: &Reply) -> UsageLine {
    let call = CallOf {
        task: &kept.task,
        attempt: kept.attempt,
        api: &kept.api,
        model: &kept.model,
        error_id: None,
        ended_utc: &kept.ended_utc,
        duration_s: clock::seconds_between(&kept.started_utc, &kept.ended_utc).unwrap_or(0.0),
    };
    UsageLine::of(call, Ok(reply), &tools.project.run)
}

/// Writes an answer that holds.
fn accept(tools: &Tools, job: &Job, valid: Valid, made: Made) -> Outcome {
    job.live.enter(Stage::Saving);
    let Some(first) = job.task.outputs.first() else {
        return Outcome::Failed(super::failure("output", "BUG: a prompt without an output"));
    };
    let answer = match &valid.value {
        Some(value) => minijinja::Value::from_serialize(value),
        None => minijinja::Value::from(valid.text.as_str()),
    };
    let mut outputs = vec![(first.clone(), Content::Bytes(valid.text.into_bytes()))];
    match further_outputs(tools, job, tools.project.spec(&job.task), answer) {
        Ok(further) => outputs.extend(further),
        Err(failure) => return Outcome::Failed(failure),
    }
    complete(tools, job, outputs, made)
}

/// An answer that does not hold: asked for again with what was wrong, while the budget lasts.
fn reject(
    tools: &Tools,
    job: &mut Job,
    spec: &PromptSpec,
    reply: &Reply,
    violations: &[Violation],
) -> Outcome {
    let first = violations.first().map(ToString::to_string).unwrap_or_default();
    let more = match violations.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let error = CallError::new(Class::Validation, format!("the answer does not hold: {first}{more}"));
    let paths = |kind: fn(&ViolationKind) -> bool| {
        violations.iter().filter(|v| kind(&v.kind)).map(|v| v.path.clone()).collect::<Vec<_>>()
    };
    let failure = Failure {
        class: error.class.name().to_owned(),
        message: error.message.clone(),
        error_id: Some(error_id()),
        recoverable: true,
        missing_fields: paths(|kind| *kind == ViolationKind::Missing),
        invalid_fields: paths(|kind| *kind != ViolationKind::Missing),
        raw_error: bounded(&reply.text),
        ..Failure::default()
    };
    job.course.rejected.push(Rejected { answer: reply.text.clone(), feedback: check::feedback(violations) });
    follow(tools, job, spec, &error, failure, None)
}

/// What follows a failure, by the policy. `rest`: how long its server is left alone first.
fn follow(
    tools: &Tools,
    job: &mut Job,
    spec: &PromptSpec,
    error: &CallError,
    mut failure: Failure,
    rest: Option<Duration>,
) -> Outcome {
    job.course.call = Some((Err(error.class), error.retry_after.or(rest)));
    let prompt_tokens = (job.prepared.system.len() + job.prepared.prompt.len()) as u64 / 3;
    let asked = spec.params.get("max_tokens").and_then(serde_json::Value::as_u64);
    let max_tokens = job.course.max_tokens.or(asked);
    let answered = tools.providers.has_answered(spec.models[job.endpoint]);
    let failed = Failed { error, model: job.endpoint, prompt_tokens, max_tokens, answered };
    let next = tools.providers.next(&mut job.course.budgets, &failed, spec, tools.project.spec(&job.task));
    let again = |failure, next, after, endpoint, pause| Outcome::Again {
        failure,
        next: Some(next),
        after,
        endpoint,
        pause,
    };
    let model = |at: usize| tools.project.endpoints[spec.models[at]].name.clone();
    let here = job.endpoint;
    let endpoint = &tools.project.endpoints[spec.models[here]];
    let given_up = matches!(next, Next::GiveUp { .. });
    if given_up || error.class != Class::Validation {
        let asked = if given_up { place_of(endpoint, &failure.message) } else { endpoint.name.clone() };
        failure.message = of_model(&failure.message, &asked);
    }
    let close = |closed: bool| {
        if closed {
            tools.providers.close(spec.models[here], error);
        }
    };
    match next {
        Next::Wait { r#for: pause, outage: true } => {
            again(failure, "held until its server answers".into(), pause, here, Pause::Outage)
        }
        Next::Wait { r#for: pause, outage: false } => {
            let asks = if error.retry_after.is_some() { ", as it asks" } else { "" };
            let text = format!("again in {}{asks}", style::duration(pause.as_secs_f64()));
            again(failure, text, pause, here, Pause::None)
        }
        Next::Adapted => again(
            failure,
            "asking again in the form its server takes".into(),
            Duration::ZERO,
            here,
            Pause::None,
        ),
        Next::Retry { after, vary } => {
            job.course.vary |= vary;
            let next = rest.map(|rest| {
                let rest = style::duration(rest.as_secs_f64());
                format!("again once its server is idle, in {rest} at most")
            });
            Outcome::Again { failure, next, after, endpoint: here, pause: Pause::Attempt }
        }
        Next::Reask { max_tokens } => {
            job.course.max_tokens = max_tokens.or(job.course.max_tokens);
            let text = match max_tokens {
                Some(room) => format!("asking again with room for {}", style::count(room, "token")),
                None => "asking again with what was wrong".to_owned(),
            };
            again(failure, text, Duration::ZERO, here, Pause::Attempt)
        }
        Next::Fallback { model_index, endpoint_closed } => {
            job.course.rejected.clear();
            let text = format!("on to model `{}`", model(model_index));
            close(endpoint_closed);
            again(failure, text, Duration::ZERO, model_index, Pause::Attempt)
        }
        Next::LargerContext { model_index } => {
            job.course.rejected.clear();
            let text = format!("on to model `{}`, which has a larger context", model(model_index));
            again(failure, text, Duration::ZERO, model_index, Pause::Attempt)
        }
        Next::GiveUp { endpoint_closed } => {
            if failed.is_outage() {
                failure.message.push_str("; waited for in vain");
            }
            if !failure.message.contains("\nhint: ") {
                failure.message.push_str("\nhint: ");
                failure.message.push_str(&remedy(error, endpoint, &job.task.name));
            }
            failure.recoverable = is_recoverable(error.class);
            // Others that ask the same endpoint need not find out for themselves.
            close(endpoint_closed);
            Outcome::Failed(failure)
        }
    }
}

/// A message with the model it is about, before what it says to do.
fn of_model(message: &str, model: &str) -> String {
    match message.split_once("\nhint: ") {
        Some((what, hint)) => format!("{what} ({model})\nhint: {hint}"),
        None => format!("{message} ({model})"),
    }
}

/// The model that was asked and where: `local: qwen3 at 127.0.0.1:1234`. The place is left out of messages that
/// name it.
fn place_of(endpoint: &Endpoint, message: &str) -> String {
    let (name, model) = (&endpoint.name, endpoint.model_name());
    if !matches!(endpoint.model.api, Some(Api::Openai | Api::Anthropic | Api::Ollama)) {
        return name.clone();
    }
    let url = crate::llm::base_url(&endpoint.model);
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    match message.contains(host) {
        true => format!("{name}: {model}"),
        false => format!("{name}: {model} at {host}"),
    }
}

/// What to do about a failure that no further attempt will mend: something to type or to write.
fn remedy(error: &CallError, endpoint: &Endpoint, task: &str) -> String {
    let (name, show) = (&endpoint.name, format!("`planexe show {}`", style::shell_word(task)));
    match error.class {
        Class::ServerLoading | Class::Connection => "is its server up? `planexe doctor` asks it".into(),
        Class::Auth if endpoint.model.api_key_env.is_none() => {
            format!(
                "its server wants a key: name the variable that holds it as `api_key_env` under [models.{name}]"
            )
        }
        Class::Auth => "`planexe keys` shows which key goes where, `planexe doctor` tries it".into(),
        Class::ModelNotFound => "`planexe doctor` lists the models that are there".into(),
        Class::Quota | Class::RateLimit => {
            "`planexe resume` goes on once there is money or allowance again".into()
        }
        Class::Truncated => "raise `params.max_tokens`, or name a model with a larger `max_output`".into(),
        Class::ContextOverflow | Class::PromptTruncated => format!(
            "`planexe doctor` shows what the server holds: raise it there and as `context_window` under [models.{name}], \
             or add a model that holds more to the task's `model` list"
        ),
        Class::Timeout => match error.code.as_deref() {
            Some("connect") => "is its server up? `planexe doctor` asks it".into(),
            Some("task") => "raise the task's `timeout`; what is done stays done".into(),
            clock => {
                let clock = clock.map_or(String::new(), |clock| format!(".{clock}"));
                format!("if the server is slow and not dead, raise `timeouts{clock}` under [models.{name}]")
            }
        },
        Class::EmptyResponse if error.message.contains("reasoning") => {
            format!(
                "leave room for an answer after the reasoning: a larger `params.max_tokens`; {show} has what came"
            )
        }
        Class::Degenerate => {
            format!("{show} has what came; another `params.temperature` or model may do better")
        }
        Class::Validation => {
            format!("{show} has the answers; does the prompt ask for all that the schema wants?")
        }
        Class::Refusal => {
            format!("change the prompt, or add another model to the task's `model` list; {show} has both")
        }
        Class::BadRequest => {
            format!(
                "{show} has what was sent; `params` and `params_extra` may hold what this server does not take"
            )
        }
        Class::Config => format!("see [models.{name}]; `planexe doctor` tries it"),
        Class::NotRecorded => "record it: build with a model, then `planexe record FILE`".into(),
        Class::ServerError | Class::Cut | Class::BadData | Class::EmptyResponse | Class::Cancelled => {
            format!(
                "the server's own log may say why; {show} has what came, `planexe doctor` asks the server"
            )
        }
    }
}

/// Whether building again, with nothing changed in the pipeline, may help.
fn is_recoverable(class: Class) -> bool {
    !matches!(class, Class::BadRequest | Class::NotRecorded | Class::Config)
}

fn bounded(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let end = text.char_indices().nth(RAW).map_or(text.len(), |(at, _)| at);
    Some(text[..end].to_owned())
}
