//! What is kept and counted of a program's calls.

use std::time::Duration;

use serde_json::Map;

use super::super::error_id;
use super::{Counted, End, Numbered};
use planexe_base::clock;
use planexe_base::fs::FsError;
use planexe_base::record::SCHEMA;
use planexe_llm::relay::{Wire, made};
use planexe_llm::{CallError, Reply, Request, Usage};
use planexe_store::calls::{AnswerState, CallRecord, KeptRequest};
use planexe_store::usage::{CallOf, UsageLine};

/// A call that was made.
pub(super) struct Call<'a> {
    pub(super) request: &'a Numbered,
    pub(super) started_utc: String,
    pub(super) took: Duration,
}

impl Counted<'_> {
    pub(super) fn asked(&self, request: &Numbered, all: bool) -> Request {
        let key = self.key.map(str::to_owned);
        Request { task: self.shown.to_owned(), key, ..made::request(request.route, &request.body, all) }
    }

    /// Keeps a call, and counts it.
    pub(super) fn keep(&self, call: &Call<'_>, end: &End) -> Result<(), FsError> {
        let (ctx, endpoint) = (self.ctx, self.endpoint);
        let (result, wire): (Result<&Reply, &CallError>, _) = match end {
            End::Passed(passed) => {
                let body = passed.body.clone();
                let content_type = passed.content_type.to_owned();
                (Ok(&passed.reply), Some(Wire { status: 200, content_type, body, ..Wire::default() }))
            }
            End::Made(wire, reply) => (Ok(reply), Some(wire.clone())),
            End::Broken(broken) => (Err(&broken.error), None),
        };
        // One that its program, or the end of the build, broke off before anything came tells nothing.
        let error_id = result.is_err().then(error_id);
        let route = call.request.route.path().to_owned();
        let wire = wire.map(|wire| Wire { route, digest: call.request.digest.clone(), ..wire });
        let record = CallRecord {
            schema: SCHEMA,
            task: self.task.to_owned(),
            digest: self.kept_digest(call.request),
            endpoint: endpoint.name.clone(),
            model: endpoint.model_name().to_owned(),
            api: endpoint.api().to_owned(),
            request: KeptRequest::from(self.asked(call.request, false)),
            started_utc: call.started_utc.clone(),
            ended_utc: clock::now_utc(),
            reply: result.ok().cloned(),
            error: result.err().cloned(),
            verdict: if result.is_ok() { AnswerState::Accepted } else { AnswerState::Arrived },
            attempt: self.attempt,
            error_id,
            evaluation: false,
            wire,
            imported: None,
            other: Map::new(),
        };
        let name = ctx.store.calls().keep_unsynced(&record)?;
        // Who syncs listens until the last call is kept.
        let _ = self.kept.send(name);
        let mut usage = match result {
            Ok(reply) => reply.usage,
            Err(error) => error.usage,
        };
        usage.calls = 1;
        self.count(&usage);
        if result.is_ok() {
            ctx.providers.answers(self.calls.endpoint);
        }
        let of = CallOf {
            task: self.task,
            attempt: self.attempt,
            api: endpoint.api(),
            model: endpoint.model_name(),
            error_id: record.error_id.as_deref(),
            ended_utc: &record.ended_utc,
            duration_s: call.took.as_secs_f64(),
        };
        ctx.logs.usage(&UsageLine::new(of, result, &ctx.project.run))
    }

    pub(super) fn count(&self, usage: &Usage) {
        self.live.called(usage);
        self.ctx.providers.ceiling.spend(usage);
    }
}
