//! One attempt that asks a model: the request, what is counted of it, and what follows an answer that does not hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runner::advice;
use crate::runner::batches::{self, Called};
use crate::runner::services::{Unserved, Using};
use crate::runner::{BuildContext, EndedAlone, Job, Outcome, Pause, Stage, error_id};
use planexe_base::clock;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::prefix::Division;
use planexe_base::record::{Failure, Places, SCHEMA};
use planexe_base::style;
use planexe_base::time_boxed::Left;
use planexe_llm::retry::{Failed, Next};
use planexe_llm::{CallContext, CallError, Class, Rejected, Reply, Request, UNREACHABLE};
use planexe_pipeline::check::{self, CHECK_TIME, Violation, ViolationKind};
use planexe_pipeline::project::{Endpoint, PromptSpec};
use planexe_store::Sidecar;
use planexe_store::calls::{AnswerState, CallRecord, KeptRequest};
use planexe_store::usage::{CallOf, UsageLine};

use super::{Answer, Asked, Question, bounded};

/// An attempt that asks a model.
pub(super) struct Asking<'a> {
    pub(super) ctx: &'a BuildContext,
    pub(super) job: &'a mut Job,
    pub(super) spec: &'a PromptSpec,
    pub(super) endpoint: &'a Endpoint,
    pub(super) question: Question,
}

impl<'a> Asking<'a> {
    pub(super) fn run(mut self) -> Result<Asked, FsError> {
        let service = self.ctx.project.service_of(self.model());
        // Not as a model that takes no more calls: it is the service that cannot be had.
        if service.is_some_and(|at| self.ctx.services.has_failed(at))
            && let Err(outcome) = self.service(service)
        {
            return Ok(Asked::Ended(*outcome));
        }
        if let Some(outcome) = self.not_asked() {
            return Ok(Asked::Ended(outcome));
        }
        let using = match self.service(service) {
            Ok(using) => using,
            Err(outcome) => return Ok(Asked::Ended(*outcome)),
        };
        if !self.ctx.providers.ceiling.begin() {
            return Ok(Asked::Ended(Outcome::Stopped));
        }
        // What could not be kept is not asked for, and paid.
        self.ctx.store.calls().keep_room(self.ctx.project.calls_at_once())?;
        let request = self.request();
        let started_utc = clock::now_utc();
        let start = Instant::now();
        self.job.live.enter(Stage::Asking { rejected: request.rejected.len() as u32 });
        let (called, record) = self.call(request, started_utc)?;
        drop(using);
        let elapsed = start.elapsed();
        let away = matches!(&called.reply, Err(error) if matches!(error.class, Class::Connection | Class::ServerLoading));
        self.ctx.providers.ceiling.end(!away || self.job.live.call.snapshot().0 > 0);
        self.job.live.enter(Stage::Checking);
        let Called { reply, origin, online } = called;
        let asked = self.follow_call(reply, record, elapsed)?;
        if self.endpoint.model.is_batched() {
            batches::counted(self.ctx, self.model(), online);
        }
        // It is kept as the task's own: its batch need not hold it any longer.
        if let Some(origin) = origin {
            batches::taken(self.ctx, &origin)?;
        }
        Ok(asked)
    }

    /// The server of its model, if that is a service of the pipeline. Without it the next model is asked.
    fn service(&mut self, service: Option<usize>) -> Result<Using<'a>, Box<Outcome>> {
        let (ctx, model) = (self.ctx, self.model());
        match ctx.services.need(ctx, self.job, service) {
            Ok(using) => {
                ctx.providers.serve(model, service.and_then(|at| ctx.services.node(at)));
                Ok(using)
            }
            Err(Unserved::Stopped) => Err(Box::new(Outcome::Stopped)),
            Err(Unserved::Failed(failure)) => {
                // Another model may be asked, as if this one's set-up were wrong.
                let error = CallError::new(Class::Config, failure.message.clone());
                Err(Box::new(self.follow(&error, failure, None)))
            }
        }
    }

    /// What a call came to.
    fn follow_call(
        &mut self,
        result: Result<Reply, CallError>,
        record: CallRecord,
        elapsed: Duration,
    ) -> Result<Asked, FsError> {
        let ended = match result {
            Ok(reply) => {
                return self.answered(self.ctx.providers.redacted_reply(reply), record, elapsed);
            }
            Err(error) if error.class == Class::Cancelled => match self.job.live.ended() {
                Some(EndedAlone::Stalled(limit)) if !self.ctx.cancel.is_killing() => {
                    self.stalled(limit, self.ctx.providers.redacted(error), record, elapsed)
                }
                _ => Ok(Outcome::Stopped),
            },
            Err(error) => {
                let error = self.unloaded(self.ctx.providers.redacted(error));
                self.unanswered(error, record, elapsed)
            }
        };
        ended.map(Asked::Ended)
    }

    /// A model that has answered in this build and is not there any more was unloaded, or its server started anew and has
    /// yet to load it: where no other model can be asked, it is waited for as one that is loading.
    fn unloaded(&self, error: CallError) -> CallError {
        let Self { ctx, job, spec, .. } = self;
        let budgets = &job.conversation().budgets;
        let other = |&at: &usize| {
            at != self.model()
                && !ctx.providers.is_closed(at)
                && !budgets.has_left(&ctx.project.endpoints[at].name)
        };
        let gone = error.class == Class::ModelNotFound && ctx.providers.has_answered(self.model());
        match gone && !spec.models.iter().any(other) {
            true => CallError { class: Class::ServerLoading, ..error },
            false => error,
        }
    }

    /// How long it may take in all.
    fn limit(&self) -> Option<Duration> {
        let spec = self.ctx.project.spec(&self.job.task);
        match &spec.eval {
            Some(eval) if self.job.evaluates => eval.timeout,
            _ => spec.timeout,
        }
    }

    fn request(&self) -> Request {
        let Self { ctx, job, spec, question, .. } = self;
        let conversation = job.conversation();
        let mut params = spec.params.clone();
        if let Some(max_tokens) = conversation.max_tokens {
            params.insert("max_tokens".to_owned(), max_tokens.into());
        }
        if conversation.vary {
            // The same draw would go wrong the same way.
            let seed = params.get("seed").and_then(serde_json::Value::as_u64).unwrap_or(0);
            params.insert("seed".to_owned(), (seed + u64::from(job.attempt)).into());
        }
        let task = ctx.project.spec(&job.task).shown_name();
        Request {
            task: if job.evaluates { planexe_llm::evaluation_of(task) } else { task.to_owned() },
            key: job.task.item.as_ref().map(|item| item.key.clone()),
            system: question.system.to_string(),
            prompt: question.prompt.to_string(),
            files: question.files.clone(),
            rejected: question.former.iter().chain(&conversation.rejected).cloned().collect(),
            schema: spec.schema.as_ref().map(|schema| schema.value.clone()),
            params,
            params_extra: spec.params_extra.clone(),
            tools: spec.tools.clone(),
            division: if job.evaluates { Division::default() } else { job.division.clone() },
            check: question.check.clone().map(|check| check as Arc<dyn planexe_llm::Adjust>),
        }
    }

    /// The position of its model among all that the pipeline has.
    fn model(&self) -> usize {
        self.spec.models[self.job.endpoint]
    }

    /// Why the attempt ends before its model is asked.
    fn not_asked(&self) -> Option<Outcome> {
        let Self { ctx, job, endpoint, .. } = self;
        if let Some(limit) = self.limit()
            && job.conversation().spent >= limit
        {
            let message = format!("not done after {} (timeout)", style::duration(limit.as_secs_f64()));
            return Some(Outcome::Failed(crate::runner::failure(Class::Timeout, message)));
        }
        if let Some(why) = ctx.providers.closed_by(self.model()) {
            // The cause first: a line of a terminal shows no more of it.
            let mut message = why.message.clone();
            message.text.push_str(&format!("; `{}` takes no more calls in this build", endpoint.name));
            // What came, no other task has.
            if message.hints.is_empty() && why.class != Class::ServerError {
                message = message.hint(advice::remedy(&why, endpoint, &job.task.name));
            }
            let failed = crate::runner::failure(why.class, message);
            let recoverable = advice::is_recoverable(why.class);
            return Some(Outcome::Failed(Failure { recoverable, ..failed }));
        }
        ctx.cancel.is_broken().then_some(Outcome::Stopped)
    }

    fn call(&self, request: Request, started_utc: String) -> Result<(Called, CallRecord), FsError> {
        let Self { ctx, job, .. } = self;
        let time_left = self.limit().map(|limit| limit.saturating_sub(job.conversation().spent));
        let context = CallContext { cancel: &job.live.cancel, progress: &job.live.call, time_left };
        if self.endpoint.model.is_batched() {
            let mut record = self.record(request.clone(), started_utc);
            let called = batches::call(ctx, self.model(), &request, &record, &job.live, &context)?;
            record.ended_utc = clock::now_utc();
            return Ok((called, record));
        }
        let provider = ctx.providers.get(self.model());
        let result = provider.and_then(|provider| provider.call(&request, &context));
        Ok((Called::alone(result), self.record(request, started_utc)))
    }

    /// What is kept of the call, but for what came of it.
    fn record(&self, request: Request, started_utc: String) -> CallRecord {
        let Self { job, endpoint, question, .. } = self;
        CallRecord {
            schema: SCHEMA,
            task: job.task.name.clone(),
            digest: question.digest(endpoint),
            endpoint: endpoint.name.clone(),
            model: endpoint.model_name().to_owned(),
            api: endpoint.api().to_owned(),
            request: KeptRequest::from(request),
            started_utc,
            ended_utc: clock::now_utc(),
            reply: None,
            error: None,
            verdict: AnswerState::Arrived,
            attempt: job.attempt,
            error_id: None,
            evaluation: job.evaluates,
            wire: None,
            imported: None,
            other: serde_json::Map::new(),
        }
    }

    /// An answer came: kept before anything is made of it, then checked.
    fn answered(
        &mut self,
        reply: Reply,
        mut record: CallRecord,
        elapsed: Duration,
    ) -> Result<Asked, FsError> {
        self.ctx.providers.answers(self.model());
        record.reply = Some(reply.clone());
        let name = self.keep(&record)?;
        self.count(Ok(&reply), &record, elapsed)?;
        self.job.history.call = Some((Ok(reply.usage), None));
        (self.job.answered)(reply.usage);
        let (time, limit) = self.time_to_check(elapsed);
        let unwanted = || self.job.live.cancel.is_killing();
        let (schema, check) = (self.spec.schema.as_deref(), self.question.check.as_deref());
        match check::validate_within(&reply.text, schema, check, time, &unwanted) {
            Err(Left::Unwanted) => Ok(Asked::Ended(self.ended_in_check())),
            // The answer has nothing to do with it, and is checked by the next build.
            Err(Left::NoThread) => Ok(Asked::Ended(Outcome::Failed(no_thread()))),
            Err(left) => {
                // It is not taken up again: its check would take as long.
                self.ctx.store.calls().mark(&name, AnswerState::Rejected)?;
                Ok(Asked::Ended(Outcome::Failed(unchecked(left, time, limit))))
            }
            Ok(Ok(valid)) => Ok(Asked::Answered(Answer { valid, call: name, sample: reply.sample })),
            Ok(Err(violations)) => {
                self.ctx.store.calls().mark(&name, AnswerState::Rejected)?;
                Ok(Asked::Ended(self.reject(&reply, &violations)))
            }
        }
    }

    /// How long the answer may be checked, after a call that took so long; and the task's limit, if that is why.
    fn time_to_check(&self, elapsed: Duration) -> (Duration, Option<Duration>) {
        let limit = self.limit();
        let left = limit.map(|limit| {
            limit.saturating_sub(
                self.job.conversation().spent + elapsed.saturating_sub(self.job.live.time_waited()),
            )
        });
        match left.filter(|&left| left < CHECK_TIME) {
            Some(left) => (left, limit),
            None => (CHECK_TIME, None),
        }
    }

    /// The attempt was ended while its answer was checked. The answer is kept, and checked again.
    fn ended_in_check(&self) -> Outcome {
        match self.job.live.ended() {
            Some(EndedAlone::Stalled(limit)) if !self.ctx.cancel.is_killing() => {
                let message = format!("no progress for {:.0} s (stall_timeout)", limit.as_secs_f64());
                Outcome::Failed(Failure {
                    recoverable: true,
                    ..crate::runner::failure(FailureClass::Stall, message)
                })
            }
            _ => Outcome::Stopped,
        }
    }

    /// Keeps a call. That its task runs was written without a sync: no call had to wait for that.
    fn keep(&self, record: &CallRecord) -> Result<String, FsError> {
        let store = &self.ctx.store;
        let status = self.job.task.outputs.first().map(|first| store.sidecar_path(first, Sidecar::Status));
        store.calls().keep_with(record, &status.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    /// Keeps and counts a call that brought no answer, or none to be used. The error's id.
    fn without_answer(
        &mut self,
        error: &CallError,
        mut record: CallRecord,
        elapsed: Duration,
    ) -> Result<String, FsError> {
        let id = error_id();
        record.error = Some(error.clone());
        record.error_id = Some(id.clone());
        self.keep(&record)?;
        self.count(Err(error), &record, elapsed)?;
        Ok(id)
    }

    /// It was ended after `limit` without progress.
    fn stalled(
        &mut self,
        limit: Duration,
        error: CallError,
        record: CallRecord,
        elapsed: Duration,
    ) -> Result<Outcome, FsError> {
        let id = self.without_answer(&error, record, elapsed)?;
        let message = format!("no progress for {:.0} s (stall_timeout)", limit.as_secs_f64());
        Ok(Outcome::Failed(Failure {
            error_id: Some(id),
            recoverable: true,
            raw_error: bounded(&error.partial),
            ..crate::runner::failure(FailureClass::Stall, message)
        }))
    }

    fn unanswered(
        &mut self,
        error: CallError,
        record: CallRecord,
        elapsed: Duration,
    ) -> Result<Outcome, FsError> {
        let failure = Failure {
            class: error.class.into(),
            message: error.message.clone(),
            error_id: Some(self.without_answer(&error, record, elapsed)?),
            recoverable: true,
            raw_error: bounded(&error.raw).or_else(|| bounded(&error.partial)),
            ..Failure::default()
        };
        // Nothing is at work on what was never sent.
        let sent = self.job.live.call.snapshot().0 > 0;
        let rest = match error.class == Class::Timeout && sent && !self.ctx.cancel.is_killing() {
            true => self.ctx.providers.rest(self.model(), elapsed),
            false => None,
        };
        Ok(self.follow(&error, failure, rest))
    }

    /// Adds a call to the task's usage and to `usage_metrics.jsonl`.
    fn count(
        &mut self,
        result: Result<&Reply, &CallError>,
        record: &CallRecord,
        elapsed: Duration,
    ) -> Result<(), FsError> {
        let Self { ctx, job, endpoint, .. } = self;
        let mut usage = match result {
            Ok(reply) => reply.usage,
            Err(error) => error.usage,
        };
        usage.calls = 1;
        job.history.usage.add(&usage);
        ctx.providers.ceiling.spend(&usage);
        let call = CallOf {
            task: &job.task.name,
            attempt: job.attempt,
            api: endpoint.api(),
            model: endpoint.model_name(),
            error_id: record.error_id.as_deref(),
            ended_utc: &record.ended_utc,
            duration_s: elapsed.as_secs_f64(),
        };
        ctx.logs.usage(&UsageLine::new(call, result, &ctx.project.run))
    }

    /// An answer that does not hold: asked for again with what was wrong, while the budget lasts.
    fn reject(&mut self, reply: &Reply, violations: &[Violation]) -> Outcome {
        let first = violations.first().map(ToString::to_string).unwrap_or_default();
        let more = match violations.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let error = CallError::new(Class::Validation, format!("the answer does not hold: {first}{more}"));
        let paths = |kind: fn(&ViolationKind) -> bool| {
            violations.iter().filter(|v| kind(&v.kind)).map(|v| v.path.clone()).collect::<Vec<_>>()
        };
        let missing = paths(|kind| *kind == ViolationKind::Missing);
        let invalid = paths(|kind| *kind != ViolationKind::Missing);
        let failure = Failure {
            class: error.class.into(),
            message: error.message.clone(),
            error_id: Some(error_id()),
            recoverable: true,
            missing_fields: check::field_names(&missing),
            invalid_fields: check::field_names(&invalid),
            places: Some(Box::new(Places { missing, invalid })),
            raw_error: bounded(&reply.text),
            ..Failure::default()
        };
        self.job
            .conversation_mut()
            .rejected
            .push(Rejected { answer: reply.text.clone(), feedback: check::feedback(violations) });
        self.follow(&error, failure, None)
    }

    /// What follows a failure, by the policy. `rest`: how long its server is left alone first.
    fn follow(&mut self, error: &CallError, mut failure: Failure, rest: Option<Duration>) -> Outcome {
        let here = self.job.endpoint;
        self.job.history.call = Some((Err(error.class), error.retry_after.or(rest)));
        let (next, outage) = self.next(error);
        let model = |at: usize| &self.ctx.project.endpoints[self.spec.models[at]].name;
        let (next, after, endpoint, pause) = match next {
            Next::Wait { r#for: pause, outage: true, left } => {
                let text = format!("held until its server answers, {}", at_the_latest(left));
                let silent =
                    error.class == Class::ServerLoading && error.code.as_deref() == Some(UNREACHABLE);
                (Some(text), pause, here, Pause::Outage { left, is_silent: silent })
            }
            Next::Wait { r#for: pause, outage: false, left } => {
                let asks = if error.retry_after.is_some() { ", as it asks" } else { "" };
                let pause_said = style::duration(pause.as_secs_f64());
                let waits = match error.class {
                    Class::RateLimit => "its limit is waited out",
                    _ => "it is waited for",
                };
                let text = format!("again in {pause_said}{asks}; {waits} {}", at_the_latest(left));
                (Some(text), pause, here, Pause::Limit)
            }
            Next::Park { r#for: wait } => {
                let text = format!("again once its usage limit is over, {}", at_the_latest(wait));
                (Some(text), Duration::ZERO, here, Pause::Limit)
            }
            Next::Adapted => {
                let text = "asking again in the form its server takes".to_owned();
                (Some(text), Duration::ZERO, here, Pause::None)
            }
            Next::Retry { after, vary } => {
                self.job.conversation_mut().vary |= vary;
                let next = rest.map(|rest| {
                    let rest = style::duration(rest.as_secs_f64());
                    format!("again once its server is idle, in {rest} at most")
                });
                (next, after, here, Pause::Attempt)
            }
            Next::Reask { max_tokens } => {
                let conversation = self.job.conversation_mut();
                conversation.max_tokens = max_tokens.or(conversation.max_tokens);
                let text = match max_tokens {
                    Some(room) => format!("asking again with room for {}", style::count(room, "token")),
                    None => "asking again with what was wrong".to_owned(),
                };
                (Some(text), Duration::ZERO, here, Pause::Attempt)
            }
            Next::Fallback { model_index, endpoint_closed } => {
                self.job.conversation_mut().rejected.clear();
                if endpoint_closed {
                    self.ctx.providers.close(self.model(), error);
                }
                let text = format!("on to model `{}`", model(model_index));
                (Some(text), Duration::ZERO, model_index, Pause::Attempt)
            }
            Next::LargerContext { model_index } => {
                self.job.conversation_mut().rejected.clear();
                let text = format!("on to model `{}`, which has a larger context", model(model_index));
                (Some(text), Duration::ZERO, model_index, Pause::Attempt)
            }
            Next::GiveUp { endpoint_closed } => {
                return self.give_up(error, failure, endpoint_closed, outage);
            }
        };
        if error.class != Class::Validation {
            failure.message = advice::of_model(failure.message, &self.endpoint.name);
        }
        Outcome::Retry { failure, next, after, endpoint, pause }
    }

    /// What the policy says to a failure, and whether that was an outage of the server.
    fn next(&mut self, error: &CallError) -> (Next, bool) {
        let Self { ctx, job, spec, question, .. } = self;
        let prompt_tokens = (question.system.len() + question.prompt.len()) as u64 / 3;
        let asked = spec.params.get("max_tokens").and_then(serde_json::Value::as_u64);
        let max_tokens = job.conversation().max_tokens.or(asked);
        let answered = ctx.providers.has_answered(spec.models[job.endpoint]);
        let failed = Failed { error, model: job.endpoint, prompt_tokens, max_tokens, answered };
        let recipe = ctx.project.spec(&job.task);
        (ctx.providers.next(&mut job.conversation_mut().budgets, &failed, spec, recipe), failed.is_outage())
    }

    /// No model is left to ask, or no attempt.
    fn give_up(&self, error: &CallError, mut failure: Failure, closed: bool, outage: bool) -> Outcome {
        let place = advice::place_of(self.endpoint, &failure.message.text);
        let mut message = advice::of_model(failure.message, &place);
        if outage {
            message.text.push_str("; waited for in vain");
        }
        if message.hints.is_empty() {
            message = message.hint(advice::remedy(error, self.endpoint, &self.job.task.name));
        }
        failure.message = message;
        failure.recoverable = advice::is_recoverable(error.class);
        // Others that ask the same endpoint need not find out for themselves.
        if closed {
            self.ctx.providers.close(self.model(), error);
        }
        Outcome::Failed(failure)
    }
}

/// Why an attempt failed whose answer could not be checked in time. `limit`: that of the task, where it was reached.
fn unchecked(left: Left, time: Duration, limit: Option<Duration>) -> Failure {
    let hint =
        "make its schema or its check simpler, or the answer shorter; the answer is kept in `.planexe/calls`";
    let long = |time: Duration| style::duration(time.as_secs_f64());
    let text = match (left, limit) {
        (Left::Failed, _) => "the answer could not be checked: the check broke down".to_owned(),
        (_, Some(limit)) => {
            format!("not done after {} (timeout): its answer was still being checked", long(limit))
        }
        (_, None) => format!("checking its answer took longer than {} (timeout)", long(time)),
    };
    crate::runner::failure(Class::Timeout, Message::new(text).hint(hint))
}

/// The machine gives no thread to check an answer in.
fn no_thread() -> Failure {
    let text = "no thread can be had to check the answer: is there no memory (`ulimit -v`, `ulimit -u`)?";
    let hint = "the answer is kept, and the next `planexe build` checks it";
    crate::runner::failure(FailureClass::Io, Message::new(text).hint(hint))
}

/// When a wait of so long ends.
fn at_the_latest(left: Duration) -> String {
    let end = std::time::SystemTime::now().checked_add(left);
    let end = end.map(clock::format_utc).unwrap_or_default();
    let time = style::duration(left.as_secs_f64());
    // To the second.
    format!("until {}Z at the latest ({time})", end.split('.').next().unwrap_or_default())
}
