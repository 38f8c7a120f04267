//! Batches of earlier builds, and answers that nobody asks for any more.

use std::sync::Arc;

use super::drive::text_of;
use super::machine::Machine;
use super::{Batch, Pool, Pooled, State, cost_of};
use crate::runner::BuildContext;
use crate::runner::providers::id_of;
use planexe_base::clock;
use planexe_base::fs::FsError;
use planexe_llm::Request;
use planexe_llm::batches::Served;
use planexe_store::batches::{BatchedCall, FORGOTTEN};
use planexe_store::calls::{AnswerState, CallRecord, KeptRequest};
use planexe_store::usage::{CallOf, UsageLine};

impl Pool {
    /// Takes up what earlier builds submitted, once. What cannot be read is an error: it was perhaps submitted.
    pub(super) fn load(&self, ctx: &BuildContext, endpoint: usize, state: &mut State) -> Result<(), FsError> {
        if state.loaded {
            return Ok(());
        }
        let id = id_of(&ctx.project.endpoints[endpoint]);
        let now = self.now();
        let provider = ctx.providers.get(endpoint).ok();
        let vendor = provider.and_then(|provider| provider.batches());
        let mut batches = Vec::new();
        ctx.store.sweep_batches()?;
        for key in ctx.store.batch_keys()? {
            let Some(record) = ctx.store.read_batch(&key)? else { continue };
            if record.id != id {
                continue;
            }
            let known = ctx.store.read_batch_state(&key)?;
            let text: Arc<str> =
                known.as_ref().map_or_else(|| "joining a batch".into(), |it| text_of(it).into());
            let answers = ctx.store.read_batch_answers(&key)?;
            // A build that was killed while it submitted told nobody.
            let told = known.as_ref().is_some_and(|known| !known.batch.is_empty());
            let taken = ctx.store.read_batch_taken(&key)?;
            let out = record.calls.iter().filter(|call| !taken.contains(&call.id));
            let cost_of = |call: &BatchedCall| {
                vendor.map_or(0.0, |vendor| cost_of(ctx, endpoint, vendor, &request_of(&call.record)))
            };
            let cost = out.map(cost_of).sum();
            batches.push(Batch {
                machine: Machine::known(known, answers.is_some(), record.calls.len() as u64, &now),
                taken,
                answers,
                record,
                asked: Default::default(),
                lines: Vec::new(),
                cost,
                stuck: None,
                told,
                text,
            });
        }
        // Those that were never submitted hold no call up.
        for batch in &batches {
            if batch.machine.disk.is_none() {
                ctx.store.remove_batch(&batch.record.key)?;
            }
        }
        batches.retain(|batch| batch.machine.disk.is_some());
        state.batches.extend(batches);
        state.loaded = true;
        Ok(())
    }
}

impl Pooled {
    /// At the end of a build: answers that were paid for, and that no task asked for, are kept as those of what they were
    /// asked for. A task that is made from something else by now does not use them. What else there is of a batch stays
    /// until `all` tasks are done. `sweeps`: so it is with batches that no task of this build asked for; an earlier build
    /// was killed before it forgot them.
    pub fn close(&self, ctx: &BuildContext, all: bool, sweeps: bool) -> Result<(), FsError> {
        for (endpoint, pool) in &self.all {
            let mut state = pool.state.lock();
            if sweeps && ctx.project.endpoints[*endpoint].model.is_batched() {
                // One that cannot be read is left alone, and told of when a task asks for a batch.
                let _ = pool.load(ctx, *endpoint, &mut state);
            }
            let batches = std::mem::take(&mut state.batches);
            drop(state);
            for batch in batches {
                keep_rest(ctx, *endpoint, &batch, all)?;
            }
        }
        Ok(())
    }
}

/// What was asked, but for the files that went with it.
fn request_of(record: &CallRecord) -> Request {
    let KeptRequest { system, prompt, schema, params, rejected, .. } = record.request.clone();
    Request { system, prompt, schema, params, rejected, ..Request::default() }
}

fn keep_rest(ctx: &BuildContext, endpoint: usize, batch: &Batch, all: bool) -> Result<(), FsError> {
    let key = &batch.record.key;
    let vendor = ctx.providers.get(endpoint).ok().and_then(|provider| provider.batches());
    let (Some(vendor), Some(answers), true) = (vendor, &batch.answers, batch.machine.has_answers()) else {
        let submitted =
            batch.machine.disk.as_ref().map(|disk| disk.submitted_utc.as_str()).unwrap_or_default();
        let age = clock::seconds_between(submitted, &clock::now_utc());
        return match all && age.is_some_and(|age| age > FORGOTTEN) {
            true => ctx.store.remove_batch(key),
            false => Ok(()),
        };
    };
    let mut left = false;
    for call in batch.record.calls.iter().filter(|call| !batch.taken.contains(&call.id)) {
        let reply = match answers.get(&call.id) {
            Some(Served::Answer(status, body)) => {
                let request = Request { schema: call.record.request.schema.clone(), ..Request::default() };
                vendor.read(&request, *status, body).ok()
            }
            _ => None,
        };
        match reply {
            Some(reply) => {
                keep(ctx, call, ctx.providers.redacted_reply(reply))?;
                if !all {
                    ctx.store.take_batched(key, &call.id)?;
                }
            }
            None => left = true,
        }
    }
    match left && !all {
        true => Ok(()),
        false => ctx.store.remove_batch(key),
    }
}

fn keep(ctx: &BuildContext, call: &BatchedCall, reply: planexe_llm::Reply) -> Result<(), FsError> {
    let calls = ctx.store.calls();
    let is_kept =
        |record: &CallRecord| record.reply.as_ref().is_some_and(|it| it.id == reply.id && it.id.is_some());
    if calls.list(&call.record.task)?.iter().any(|kept| is_kept(&kept.record)) {
        return Ok(());
    }
    let taken = calls.find(&call.record.task, &call.record.digest)?.is_some();
    // One that is used already keeps its place.
    let verdict = if taken { AnswerState::Rejected } else { AnswerState::Arrived };
    let record = CallRecord {
        ended_utc: clock::now_utc(),
        reply: Some(reply.clone()),
        verdict,
        ..call.record.clone()
    };
    calls.keep(&record)?;
    let line = CallOf {
        task: &record.task,
        attempt: record.attempt,
        api: &record.api,
        model: &record.model,
        error_id: None,
        ended_utc: &record.ended_utc,
        duration_s: clock::seconds_between(&record.started_utc, &record.ended_utc).unwrap_or(0.0),
    };
    ctx.logs.usage_unless_there(&UsageLine::new(line, Ok(&reply), &ctx.project.run))
}
