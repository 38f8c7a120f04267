//! What is due for a pool: a batch to be submitted or looked for, one to be looked at, answers to be handed out. Done by
//! one of those who wait, without holding the others up. What comes next is for [`Machine`]; here it is carried out.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::machine::{Fault, Machine, Now, Spans, Step, Tell};
use super::{Batch, Joined, Origin, Pool, Ready, State};
use crate::runner::BuildContext;
use crate::runner::providers::id_of;
use planexe_base::clock;
use planexe_base::event::Kind;
use planexe_base::fs::{Durability, FsError};
use planexe_base::record::SCHEMA;
use planexe_base::style;
use planexe_llm::batches::{Answers, Batches as Vendor, MOST_BYTES, MOST_CALLS, Served, Standing, Wanted};
use planexe_llm::{CallError, Class, UNREACHABLE};
use planexe_store::batches::{BatchRecord, BatchState};

/// Carries out what is due.
pub(super) struct Driver<'a> {
    pub(super) pool: &'a Pool,
    pub(super) ctx: &'a BuildContext,
    pub(super) endpoint: usize,
    pub(super) vendor: &'a dyn Vendor,
}

impl Pool {
    /// The moment, for batches.
    pub(super) fn now(&self) -> Now {
        Now { at: self.began.elapsed(), utc: clock::format_utc(SystemTime::now()) }
    }

    /// When there is something to do next; none while there is nothing.
    pub(super) fn due(&self, state: &State) -> Option<Duration> {
        let full = state.flush || state.joined.len() >= MOST_CALLS;
        let submit = state.since.map(|since| if full { since } else { since + self.gather() });
        let looks = state.batches.iter().filter(|batch| !batch.machine.has_answers());
        looks.map(|batch| batch.machine.due).chain(submit).min()
    }

    fn gather(&self) -> Duration {
        self.terms.gather.map_or(Duration::from_secs(60), |span| span.0)
    }

    fn spans(&self) -> Spans {
        let or = |span: Option<planexe_base::span::Span>, seconds| {
            span.map_or(Duration::from_secs(seconds), |span| span.0)
        };
        Spans { within: or(self.terms.within, 24 * 3600), settle: or(self.terms.settle, 900) }
    }

    fn with<T>(&self, key: &str, see: impl FnOnce(&mut Batch) -> T) -> Option<T> {
        self.state.lock().batches.iter_mut().find(|batch| batch.record.key == key).map(see)
    }
}

impl Driver<'_> {
    pub(super) fn drive(&self) -> Result<(), FsError> {
        self.make()?;
        let now = self.pool.now();
        let keys: Vec<String> = {
            let state = self.pool.state.lock();
            let is_due = |batch: &&Batch| !batch.machine.has_answers() && batch.machine.due <= now.at;
            state.batches.iter().filter(is_due).map(|batch| batch.record.key.clone()).collect()
        };
        for key in keys {
            while self.step(&key)? {}
            distribute(&mut self.pool.state.lock(), self.endpoint, &key);
        }
        Ok(())
    }

    /// Makes a batch of what is gathered, on disk before anything is sent.
    fn make(&self) -> Result<(), FsError> {
        let Self { pool, ctx, .. } = self;
        let now = pool.now();
        let mut state = pool.state.lock();
        let ready = state.flush
            || state.joined.len() >= MOST_CALLS
            || state.since.is_some_and(|since| now.at >= since + pool.gather());
        if !ready || state.joined.is_empty() {
            return Ok(());
        }
        let ceiling = &ctx.providers.ceiling;
        // What answers used is known once they are taken and counted. Where the limit is reached the build stops, and those
        // who wait here leave.
        let is_uncounted = state.uncounted > 0 || !state.ready.is_empty();
        if (ceiling.limits_use() && is_uncounted) || !ceiling.may_submit() {
            state.since = Some(now.at);
            state.flush = false;
            return Ok(());
        }
        // Of what a limit on money leaves; one call may exceed it, as anywhere.
        let out: f64 =
            state.batches.iter().filter(|b| !b.machine.has_answers()).map(|batch| batch.cost).sum();
        let left = ceiling.left_usd().map_or(f64::INFINITY, |left| left - out);
        let (mut cost, mut bytes, mut count) = (0.0, 0, 0);
        let mut short = false;
        for joined in state.joined.iter().take(MOST_CALLS) {
            cost += joined.cost;
            bytes += joined.body.to_string().len();
            let first = count == 0 && out == 0.0;
            if !first && (cost > left || bytes > MOST_BYTES) {
                short = cost > left;
                break;
            }
            count += 1;
        }
        state.held = short;
        state.flush = false;
        if count == 0 {
            // The answers that are out tell what is left.
            state.since = Some(now.at);
            return Ok(());
        }
        let rest = state.joined.split_off(count);
        let joined: Vec<Joined> = std::mem::replace(&mut state.joined, rest);
        state.since = (!state.joined.is_empty()).then_some(now.at);
        let key = uuid::Uuid::new_v4().simple().to_string()[..24].to_owned();
        let table = &ctx.project.endpoints[self.endpoint];
        let cost = joined.iter().map(|joined| joined.cost).sum();
        let number = joined.len() as u64;
        let (mut calls, mut lines, mut asked) = (Vec::new(), Vec::new(), HashMap::new());
        for (n, Joined { ticket, mut call, body, .. }) in joined.into_iter().enumerate() {
            call.id = format!("{key}-{n}");
            asked.insert(call.id.clone(), ticket);
            lines.push((call.id.clone(), body));
            calls.push(call);
        }
        let (model, id) = (table.name.clone(), id_of(table));
        let record = BatchRecord { schema: SCHEMA, key, model, id, created_utc: now.utc.clone(), calls };
        let text = format!("submitting a batch of {}", lines.len());
        state.batches.push(Batch {
            record: record.clone(),
            machine: Machine::fresh(number, &Now { at: Duration::MAX, ..now.clone() }),
            answers: None,
            taken: Default::default(),
            asked,
            lines,
            cost,
            told: false,
            stuck: None,
            text: text.into(),
        });
        drop(state);
        ctx.store.write_batch(&record)?;
        pool.with(&record.key, |batch| batch.machine = Machine::fresh(number, &now));
        Ok(())
    }

    /// One step of a batch; false if there is none for now.
    fn step(&self, key: &str) -> Result<bool, FsError> {
        let Self { pool, ctx, vendor, .. } = self;
        let cancel = &ctx.cancel;
        let now = pool.now();
        let Some((step, disk)) =
            pool.with(key, |batch| (batch.machine.next(&now), batch.machine.disk.clone()))
        else {
            return Ok(false);
        };
        if cancel.is_killing() || (step == Step::Prepare && !ctx.pooled.waits(ctx, cancel.level())) {
            return Ok(false);
        }
        let id = disk.as_ref().map(|disk| disk.batch.clone()).unwrap_or_default();
        match step {
            Step::Wait | Step::Over => return Ok(false),
            Step::Forget => {
                self.forget(key, None)?;
                return Ok(false);
            }
            Step::Note => {
                let state = disk.unwrap_or_default();
                ctx.store.write_batch_state(key, &state, Durability::Synced)?;
                let news = pool.with(key, |batch| {
                    batch.machine.noted();
                    batch.stuck = None;
                    batch.text = text_of(&state).into();
                    let is_news = !batch.told && !state.batch.is_empty();
                    batch.told |= is_news;
                    is_news.then_some(batch.record.calls.len() as u64)
                });
                if let Some(calls) = news.flatten() {
                    let model = self.model();
                    (ctx.events)(Kind::BatchSubmitted { model, batch: state.batch, calls });
                }
            }
            Step::Prepare | Step::Send => {
                let lines = pool.with(key, |batch| std::mem::take(&mut batch.lines)).unwrap_or_default();
                let file = pool.with(key, |batch| batch.machine.file().to_owned()).unwrap_or_default();
                let result = match step {
                    Step::Prepare => vendor.prepare(key, &lines, cancel),
                    _ => vendor.submit(key, &file, &lines, cancel),
                };
                let (result, error) = parted(result, of_submission);
                let now = pool.now();
                let tell = pool.with(key, |batch| match step {
                    Step::Prepare => {
                        batch.lines = lines;
                        batch.machine.prepared(result)
                    }
                    _ => batch.machine.sent(result, &now),
                });
                if tell == Some(Tell::Failed) {
                    self.forget(key, error)?;
                    return Ok(false);
                }
            }
            Step::Find => self.find(key)?,
            Step::Cancel => {
                // Whether it was heard, the next look tells.
                let _ = vendor.cancel(&id, cancel);
                let now = pool.now();
                pool.with(key, |batch| batch.machine.cancelled(&now));
            }
            Step::Look => {
                self.look(key, &id);
                // For `status`: nothing rests on it.
                let state = pool.with(key, |batch| batch.machine.disk.clone()).flatten().unwrap_or_default();
                ctx.store.write_batch_state(key, &state, Durability::Unsynced)?;
            }
            Step::Keep => {
                let answers = pool.with(key, |batch| batch.answers.clone()).flatten().unwrap_or_default();
                ctx.store.write_batch_answers(key, &answers)?;
                pool.with(key, |batch| batch.machine.kept());
                let of_server = |served: &&Served| matches!(served, Served::Answer(..));
                let (calls, answered) =
                    (answers.len() as u64, answers.values().filter(of_server).count() as u64);
                (ctx.events)(Kind::BatchEnded { model: self.model(), batch: id, calls, answered });
            }
        }
        Ok(true)
    }

    fn find(&self, key: &str) -> Result<(), FsError> {
        let Self { pool, ctx, vendor, .. } = self;
        let others: Vec<String> = {
            let state = pool.state.lock();
            let ids = state.batches.iter().filter_map(|batch| batch.machine.disk.as_ref());
            ids.map(|disk| disk.batch.clone()).filter(|id| !id.is_empty()).collect()
        };
        let wanted = pool.with(key, |batch| {
            let BatchRecord { created_utc, calls, .. } = &batch.record;
            (created_utc.clone(), calls.len() as u64, batch.machine.file().to_owned())
        });
        let Some((created_utc, calls, file)) = wanted else { return Ok(()) };
        let wanted = Wanted { key, calls, created_utc: &created_utc, file: &file, others: &others };
        let (found, error) = parted(vendor.find(&wanted, &ctx.cancel), of_question);
        let now = pool.now();
        let told = pool.with(key, |batch| {
            let told = batch.machine.found(found, &now, &pool.spans());
            if told.0 == Tell::Nothing {
                batch.stuck = None;
            }
            told
        });
        if let (Some((Tell::Stuck, _)), Some(error)) = (told, &error) {
            self.stuck(key, format!("whether it was submitted cannot be found out: {}", error.message.text));
        }
        Ok(())
    }

    /// Looks at a batch; its answers, if it has ended.
    fn look(&self, key: &str, id: &str) {
        let Self { pool, ctx, vendor, .. } = self;
        let seen = vendor.look(id, &ctx.cancel).and_then(|mut standing| {
            let answers = standing.ended.then(|| vendor.results(&standing, &ctx.cancel)).transpose()?;
            standing.until = standing.until.map(|until| match until.parse::<u64>() {
                Ok(at) => clock::format_utc(UNIX_EPOCH + Duration::from_secs(at.min(1 << 37))),
                Err(_) => until,
            });
            Ok((standing, answers))
        });
        let (seen, error) = parted(seen, of_question);
        let now = pool.now();
        let told = pool.with(key, |batch| {
            let count = seen
                .as_ref()
                .map(|(standing, answers)| (standing, answers.as_ref().map(|answers| answers.len() as u64)));
            let tell = batch.machine.looked(count.map_err(|fault| *fault), &now, &pool.spans());
            let Ok((standing, answers)) = seen else { return (tell, None) };
            let late = batch.machine.disk.as_ref().is_some_and(|disk| disk.late);
            if tell == Tell::Nothing {
                batch.stuck = None;
            }
            let lacks = answers.as_ref().map(|answers| (answers.len(), standing.done));
            batch.answers = answers.map(|answers| whole(answers, &batch.record, &standing, late));
            batch.text = batch.machine.disk.as_ref().map(text_of).unwrap_or_default().into();
            (tell, lacks)
        });
        match (told, error) {
            (Some((Tell::Stuck, _)), Some(error)) if matches!(error.status, Some(404 | 410)) => {
                self.stuck(key, "its server does not know it any more".to_owned());
            }
            (Some((Tell::Stuck, _)), Some(error)) => self.stuck(key, error.message.text),
            (Some((Tell::Stuck, Some((listed, done)))), None) => {
                self.stuck(
                    key,
                    format!(
                        "its server says that {} answered, and lists {listed}",
                        if done == 1 { "1 call is".to_owned() } else { format!("{done} calls are") }
                    ),
                );
            }
            _ => {}
        }
    }

    /// The model's name in the pipeline.
    fn model(&self) -> String {
        self.ctx.project.endpoints[self.endpoint].name.clone()
    }

    /// It cannot go on by itself: said once, and left for a person.
    fn stuck(&self, key: &str, why: String) {
        let model = self.model();
        let said = self.pool.with(key, |batch| {
            let id = batch.machine.disk.as_ref().map(|disk| disk.batch.clone()).unwrap_or_default();
            let name = if id.is_empty() { String::new() } else { format!(" {id}") };
            let first = batch.record.calls.first().map(|call| call.record.task.clone()).unwrap_or_default();
            let text = format!(
                "the batch{name} of `{model}` waits for a person: {why}; {} may be paid, so they are not asked \
                 again by themselves: `planexe clean TASK` has a task asked anew (one is `{first}`)",
                style::count(batch.record.calls.len() as u64, "call")
            );
            let is_news = batch.stuck.as_ref() != Some(&text);
            batch.stuck = Some(text.clone());
            batch.text = format!("its batch{name} waits for a person: {why}").into();
            is_news.then_some((id, text))
        });
        if let Some((batch, message)) = said.flatten() {
            (self.ctx.events)(Kind::BatchStuck { model, batch, message });
        }
    }

    /// No batch is there, and none will be: those who wait are told why, or join another one.
    fn forget(&self, key: &str, error: Option<CallError>) -> Result<(), FsError> {
        self.ctx.store.remove_batch(key)?;
        let mut state = self.pool.state.lock();
        if let Some(at) = state.batches.iter().position(|batch| batch.record.key == key) {
            let batch = state.batches.swap_remove(at);
            for ticket in batch.asked.into_values() {
                let told = error.clone().map_or(Ready::Again, Ready::Failed);
                state.ready.insert(ticket, told);
            }
        }
        Ok(())
    }
}

/// A result as the machine takes it, and the error in full.
fn parted<T>(
    result: Result<T, CallError>,
    class: fn(&CallError) -> Fault,
) -> (Result<T, Fault>, Option<CallError>) {
    match result {
        Ok(value) => (Ok(value), None),
        Err(error) => (Err(class(&error)), Some(error)),
    }
}

/// What it means that a submission failed. Only where nothing was sent, or the vendor said no, is it certain that nothing
/// was made.
fn of_submission(error: &CallError) -> Fault {
    let said_no =
        error.status.is_some_and(|status| (400..500).contains(&status) && !matches!(status, 408 | 409 | 425));
    let not_sent = error.class == Class::Config || error.code.as_deref() == Some(UNREACHABLE);
    match said_no || not_sent {
        true => Fault::Refused,
        false => Fault::Unclear(error.retry_after.unwrap_or_default()),
    }
}

/// What it means that a question was not answered.
fn of_question(error: &CallError) -> Fault {
    match error.status {
        Some(404 | 410) => Fault::Gone,
        Some(status) if (400..500).contains(&status) && !matches!(status, 408 | 409 | 425 | 429) => {
            Fault::Refused
        }
        _ if error.class == Class::Config => Fault::Refused,
        _ => Fault::Unclear(error.retry_after.unwrap_or_default()),
    }
}

/// "in a batch since 12:03, 40 of 100 done"
pub(super) fn text_of(state: &BatchState) -> String {
    let since = state.submitted_utc.get(11..16).unwrap_or_default();
    if state.batch.is_empty() {
        return format!("looking for the batch that was perhaps submitted at {since} UTC");
    }
    let until = state.until_utc.get(..16).map(|until| format!(", until {} UTC", until.replace('T', " ")));
    let until = until.unwrap_or_default();
    format!("in a batch since {since} UTC, {} of {} done{until}", state.done, state.total)
}

/// The answers to its calls and to no others. One that the vendor says nothing of is asked online, and one that we
/// cancelled; those of a batch that was refused as a whole are refused.
fn whole(mut answers: Answers, record: &BatchRecord, standing: &Standing, late: bool) -> Answers {
    let mut all = Answers::new();
    for call in &record.calls {
        let served = answers.remove(&call.id).unwrap_or_else(|| match &standing.why {
            Some(why) => {
                let error = json!({ "error": { "message": format!("its batch was refused: {why}") } });
                Served::Answer(if standing.limited { 429 } else { 400 }, error)
            }
            None => Served::Expired,
        });
        let served = match served {
            Served::Canceled if late => Served::Expired,
            served => served,
        };
        all.insert(call.id.clone(), served);
    }
    all
}

/// Hands out what there is.
pub(super) fn distribute(state: &mut State, endpoint: usize, key: &str) {
    let State { batches, ready, .. } = state;
    let Some(batch) = batches.iter_mut().find(|batch| batch.record.key == key) else { return };
    let (true, Some(answers)) = (batch.machine.has_answers(), &batch.answers) else { return };
    for (id, ticket) in batch.asked.drain() {
        let origin = Origin { endpoint, key: key.to_owned(), id };
        let served = answers.get(&origin.id).cloned().unwrap_or(Served::Expired);
        ready.insert(ticket, Ready::Served(origin, served));
    }
}
