//! Evaluation: what a task made is a candidate until its evaluator has given it a score.
//!
//! The candidate is on disk before anybody is asked about it, and the answer before anything follows from it, so that a
//! kill costs a repeat of the evaluator's call at most. A verdict speaks of one attempt, one round and these contents;
//! it is used once.

use std::fmt::Write as _;

use super::job::RoundOver;
use super::prompt::{self, Asked, Question};
use super::{
    BuildContext, Conversation, Job, Made, Notes, Outcome, Stage, commit_attempt, eval_program, failure,
    isolated,
};
use crate::check_staleness::call_digest;
use crate::eval_request::{self as evaluation, text_of};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::record::{By, Digest, Failure, SCHEMA, State};
use planexe_base::style;
use planexe_llm::{Class, Rejected};
use planexe_pipeline::check;
use planexe_pipeline::eval_score::{self as verdict, Evaluation, Next, Score};
use planexe_pipeline::project::{EvalSpec, Evaluator, PromptSpec};
use planexe_store::calls::AnswerState;
use planexe_store::candidates::Candidate;
use planexe_store::commit::Content;

/// Most characters of notes that are kept.
const NOTES: usize = 16 << 10;
/// Most bytes of a former output that go with the notes.
const FORMER: usize = 256 << 10;

/// Of more attempts, or rounds of one, the verdict is not looked for.
const MOST: u32 = 16;

/// What a verdict is found by.
pub fn bound(attempt: u32, round: u32, content: &Digest, asked: &Digest) -> Digest {
    Digest::of(format!("{attempt} {round} {content} {asked}").as_bytes())
}

/// Keeps what an attempt made until its verdict. `failed`: how its command failed.
pub(super) fn propose(
    ctx: &BuildContext,
    job: &Job,
    outputs: Vec<(String, Content)>,
    made: Made,
    failed: Option<Failure>,
) -> Result<Outcome, FsError> {
    job.live.enter(Stage::Saving);
    let mut candidate = Candidate {
        schema: SCHEMA,
        task: job.task.name.clone(),
        made_from: job.prepared.made_from(),
        attempt: made.attempt.unwrap_or(job.attempt),
        round: if made.was_there { 0 } else { job.history.round.max(1) },
        outputs: Vec::new(),
        made_with: made.with,
        call: made.call,
        sample: made.sample,
        reused: made.reused,
        by: made.by,
        failure: failed,
        spent: false,
        best: None,
        commit: None,
        taken: false,
        by_user: None,
        success: None,
    };
    let spec = ctx.project.spec(&job.task);
    if spec.eval.is_none() {
        // With the record of its files, so that no kill leaves the one without the other.
        return isolated::succeed(ctx, job, candidate, Some(outputs));
    }
    if candidate.round <= 1 {
        // Of rounds that were given up.
        ctx.store.remove_best(&candidate.task)?;
    }
    ctx.store.keep_candidate(&mut candidate, outputs)?;
    Ok(Outcome::Evaluate(Box::new(candidate)))
}

/// The state of a task whose candidate waits for its verdict.
pub(super) fn waits_as(candidate: &Candidate) -> State {
    if candidate.failure.is_some() { State::FailedPendingEval } else { State::PendingEval }
}

/// The evaluation that is waited for, as records have it.
pub(super) fn awaited(ctx: &BuildContext, job: &Job, candidate: &Candidate) -> Evaluation {
    let Some(spec) = &ctx.project.spec(&job.task).eval else { return Evaluation::default() };
    let model = spec.prompt().and_then(|prompt| Some(&ctx.project.endpoints[*prompt.models.first()?]));
    Evaluation {
        score: None,
        threshold: spec.threshold,
        notes: String::new(),
        round: candidate.round,
        rounds: spec.max_rounds,
        model: model.map(|endpoint| endpoint.model_name().to_owned()),
    }
}

/// Has the candidate judged, and does what follows.
pub(super) fn run(ctx: &BuildContext, job: &mut Job) -> Outcome {
    let spec = ctx.project.spec(&job.task).eval.as_deref();
    let (Some(spec), Some(candidate)) = (spec, job.history.candidate.clone()) else {
        return Outcome::Failed(failure(
            FailureClass::Internal,
            "BUG: there is nothing to evaluate; please report it",
        ));
    };
    Evaluating { ctx, job, spec, candidate: *candidate }.run().unwrap_or_else(Outcome::Broken)
}

/// A score, and who gave it.
struct Scored {
    score: Score,
    model: Option<String>,
    /// The evaluator's kept call.
    call: Option<String>,
}

/// An evaluation under way.
struct Evaluating<'a> {
    ctx: &'a BuildContext,
    job: &'a mut Job,
    spec: &'a EvalSpec,
    candidate: Candidate,
}

impl Evaluating<'_> {
    fn run(mut self) -> Result<Outcome, FsError> {
        // Before a kill: its worktree may not hold this round any more.
        if let Some(best) = best_of(self.ctx, self.job)?.filter(|best| best.taken) {
            return take_best(self.ctx, self.job, best);
        }
        let scored = match &self.spec.by {
            Evaluator::Prompt(prompt) => self.ask_model(prompt)?,
            Evaluator::Command(line) => {
                self.job.live.enter(Stage::Running);
                let score =
                    || eval_program::score(self.ctx, self.job, line, &self.candidate, self.spec.timeout);
                // What is no score is asked for once more.
                let scored = match score()? {
                    Err(Some(failed)) if failed.class == Class::Validation => score()?,
                    first => first,
                };
                scored
                    .map(|score| Scored { score, model: None, call: None })
                    .map_err(|failed| failed.map_or(Outcome::Stopped, Outcome::Failed))
            }
        };
        match scored {
            Ok(scored) => self.follow(scored),
            Err(Outcome::Failed(failed)) => self.without_score(failed),
            Err(outcome) => Ok(outcome),
        }
    }

    /// The score of a model: one that came before a kill, or a new one.
    fn ask_model(&mut self, prompt: &PromptSpec) -> Result<Result<Scored, Outcome>, FsError> {
        let question = match self.question(prompt) {
            Ok(question) => question,
            Err(failed) => return Ok(Err(Outcome::Failed(failed))),
        };
        let endpoints = prompt.models.iter().map(|&at| &self.ctx.project.endpoints[at]);
        for (endpoint, (attempt, round)) in endpoints.flat_map(|one| self.verdicts().map(move |of| (one, of)))
        {
            let asked = call_digest(prompt, endpoint, &question.system, &question.prompt, &[]);
            let digest = bound(attempt, round, &self.candidate.content(), &asked);
            let Some(kept) = self.ctx.store.calls().find_named(&self.job.task.name, &digest)? else {
                continue;
            };
            let sample = kept.record.reply.as_ref().is_some_and(|reply| reply.sample);
            let Some(Ok(score)) = kept.record.reply.as_ref().map(|reply| verdict::read(&reply.text)) else {
                continue;
            };
            // One that was used stands for the answer it let pass, where that comes to use again.
            let stands = self.candidate.reused && score.score >= self.spec.threshold;
            if (sample && self.ctx.frozen) || (kept.record.verdict != AnswerState::Arrived && !stands) {
                continue;
            }
            prompt::count_kept(self.ctx, &kept.record)?;
            self.candidate.sample |= sample;
            let model = Some(endpoint.model_name().to_owned());
            return Ok(Ok(Scored { score, model, call: Some(kept.name) }));
        }
        let model = self.ctx.project.endpoints[prompt.models[self.job.endpoint]].model_name().to_owned();
        Ok(match prompt::ask(self.ctx, self.job, prompt, question)? {
            Asked::Ended(Outcome::Retry { mut failure, next, after, endpoint, pause }) => {
                failure.message = failure.message.about("its evaluator");
                failure.of_evaluator = true;
                Err(Outcome::Retry { failure, next, after, endpoint, pause })
            }
            Asked::Ended(outcome) => Err(outcome),
            Asked::Answered(answer) => match verdict::read(&answer.valid.text) {
                Ok(score) => match prompt::refused_sample(self.ctx, &answer) {
                    Some(failed) => Err(Outcome::Failed(failed)),
                    None => {
                        self.candidate.sample |= answer.sample;
                        Ok(Scored { score, model: Some(model), call: Some(answer.call) })
                    }
                },
                Err(violations) => {
                    Err(Outcome::Failed(failure(Class::Validation, check::feedback(&violations))))
                }
            },
        })
    }

    /// Attempts and rounds whose verdict may count: the candidate's own; and where an answer comes to use again, of which
    /// nobody knows any more in which attempt and round it came, all there were.
    fn verdicts(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (attempt, round) = (self.candidate.attempt, self.candidate.round);
        let attempts = if self.candidate.reused { self.job.attempt.max(attempt).min(MOST) } else { 0 };
        let rounds = self.spec.max_rounds.min(MOST);
        let others = (1..=attempts).flat_map(move |attempt| (1..=rounds).map(move |round| (attempt, round)));
        std::iter::once((attempt, round)).chain(others.filter(move |&other| other != (attempt, round)))
    }

    /// What the evaluator is asked, and what its answer is found by: it speaks of this attempt, this round and these
    /// contents alone.
    fn question(&self, prompt: &PromptSpec) -> Result<Question, Failure> {
        let Self { ctx, job, spec, candidate } = self;
        let (system, text) = evaluation::question(
            &ctx.project,
            &ctx.store,
            &job.task,
            &job.prepared,
            spec,
            prompt,
            candidate,
        )?;
        let digest = |&at: &usize| {
            let endpoint = &ctx.project.endpoints[at];
            let asked = call_digest(prompt, endpoint, &system, &text, &[]);
            let digest = bound(candidate.attempt, candidate.round, &candidate.content(), &asked);
            (endpoint.name.clone(), digest)
        };
        let digests = prompt.models.iter().map(digest).collect();
        Ok(Question {
            system: system.into(),
            prompt: text.into(),
            check: None,
            digests,
            former: Vec::new(),
            files: std::sync::Arc::default(),
        })
    }

    /// No score came: the evaluator cannot be reached, and the candidate waits; or what it says is no score.
    fn without_score(self, mut failed: Failure) -> Result<Outcome, FsError> {
        let name = style::shell_word(&self.job.task.name);
        failed.of_evaluator = true;
        let unusable =
            [Class::Validation, Class::Truncated, Class::EmptyResponse, Class::Degenerate, Class::Refusal]
                .iter()
                .any(|class| failed.class == *class);
        if !unusable && failed.class != FailureClass::Template {
            failed.message = failed.message.about("its evaluator gave no verdict");
            if failed.message.hints.is_empty() {
                failed.message.hints.push(
                    format!(
                        "the next build asks it again; `planexe touch {name}` takes the outputs as they are"
                    )
                    .into(),
                );
            }
            failed.recoverable = true;
        } else {
            self.ctx.store.spend_candidate(&self.job.task.name)?;
            let said = Message::new(failed.message.text).about("its evaluator gave no usable score");
            failed.message = said.hint(format!("`planexe touch {name}` takes the outputs as they are"));
        }
        Ok(if unusable || failed.class == FailureClass::Template {
            Outcome::Failed(failed)
        } else {
            Outcome::EvalUnavailable(failed)
        })
    }

    /// What follows from a score.
    fn follow(mut self, scored: Scored) -> Result<Outcome, FsError> {
        let Self { ctx, spec, .. } = self;
        let before = self.candidate.content();
        if !ctx.store.look_again(&mut self.candidate)? || self.candidate.content() != before {
            let message = "an output was edited while its evaluator read it: it is evaluated again";
            ctx.note(Some(&self.job.task.name), true, message);
            return Ok(Outcome::Evaluate(Box::new(self.candidate)));
        }
        let mut notes = scored.score.notes;
        if let Some((end, _)) = notes.char_indices().nth(NOTES) {
            notes.truncate(end);
        }
        let evaluation = Evaluation {
            score: Some(scored.score.score),
            notes,
            model: scored.model,
            ..awaited(ctx, self.job, &self.candidate)
        };
        self.job.history.evaluation = Some(evaluation.clone());
        let failed = self.candidate.failure.is_some();
        let score = scored.score.score;
        let best = best_of(ctx, self.job)?;
        let better =
            best.filter(|it| it.best.as_ref().and_then(|it| it.score).is_some_and(|best| best > score));
        // An answer that comes to use again had its rounds, as outputs that are there already had theirs.
        let round = if self.had_rounds()? { 0 } else { self.candidate.round };
        let outcome = match verdict::next(score, spec, round, failed) {
            Next::Done => match better {
                Some(better) => take_best(ctx, self.job, better)?,
                None => self.accept()?,
            },
            Next::Round => {
                let passes = score >= spec.threshold;
                if passes && better.is_none() {
                    let commit = match isolated::committed(ctx, self.job) {
                        Ok(commit) => commit,
                        Err(error) => return error.into_outcome(),
                    };
                    ctx.store.keep_best(&self.candidate, &evaluation, commit)?;
                }
                return self.next_round(&evaluation, passes, scored.call);
            }
            Next::Failed => self.reject(&evaluation)?,
        };
        // It was used.
        if let (Some(call), false) = (&scored.call, matches!(outcome, Outcome::Broken(_))) {
            ctx.store.calls().mark(call, AnswerState::Accepted)?;
        }
        Ok(outcome)
    }

    /// Whether the candidate is a kept answer whose rounds of refinement were over when it came to use before.
    fn had_rounds(&self) -> Result<bool, FsError> {
        let Candidate { call: Some(call), reused: true, .. } = &self.candidate else { return Ok(false) };
        let kept = self.ctx.store.calls().read(call)?;
        Ok(self.spec.refine.is_some() && kept.is_some_and(|kept| kept.had_its_rounds()))
    }

    fn accept(&mut self) -> Result<Outcome, FsError> {
        let Self { ctx, job, candidate, spec } = self;
        job.live.enter(Stage::Saving);
        if let (Some(call), Some(_)) = (&candidate.call, &spec.refine) {
            // Its rounds are over.
            ctx.store.calls().mark(call, AnswerState::Accepted)?;
        }
        if ctx.project.spec(&job.task).isolate.is_some() && candidate.round > 0 {
            return isolated::succeed(ctx, job, candidate.clone(), None);
        }
        let made = Made {
            merged: None,
            with: candidate.made_with.clone(),
            call: candidate.call.clone(),
            sample: candidate.sample,
            imported: None,
            reused: candidate.reused,
            attempt: None,
            by: if candidate.failure.is_some() { Some(By::Rescue) } else { candidate.by },
            by_user: None,
            was_there: candidate.round == 0,
            warning: None,
        };
        let outcome = commit_attempt(ctx, job, candidate.contents(&ctx.store)?, made);
        if let Outcome::Done(_) = outcome {
            ctx.store.remove_candidate(&job.task.name)?;
        }
        Ok(outcome)
    }

    /// The task is made again, with the notes. `score`: the evaluator's kept call.
    fn next_round(
        &mut self,
        evaluation: &Evaluation,
        passes: bool,
        score: Option<String>,
    ) -> Result<Outcome, FsError> {
        let Self { ctx, job, candidate, .. } = self;
        let notes = notes_of(ctx, candidate, evaluation);
        let history = &mut job.history;
        history.round = candidate.round + 1;
        history.notes = Some(notes);
        history.candidate = None;
        history.over = Some(Box::new(RoundOver { candidate: candidate.clone(), score }));
        history.of_eval = Conversation::default();
        // A round has retries of its own; its time is part of the task's.
        history.own = Conversation { spent: history.own.spent, ..Conversation::default() };
        // A round that passes and is to be better yet is no failure.
        let passes = passes || best_of(ctx, job)?.is_some();
        let failed = || Failure { recoverable: true, ..failure(FailureClass::Eval, said(evaluation)) };
        Ok(Outcome::NextRound((!passes).then(failed)))
    }

    fn reject(&mut self, evaluation: &Evaluation) -> Result<Outcome, FsError> {
        let Self { ctx, job, candidate, .. } = self;
        retire(ctx, candidate)?;
        let hint =
            format!("`planexe touch {}` takes the outputs as they are", style::shell_word(&job.task.name));
        Ok(Outcome::Failed(match &candidate.failure {
            Some(failed) => {
                let text = format!("{}; {}", failed.message.text, said(evaluation));
                Failure { message: Message::new(text).hint(hint), ..failed.clone() }
            }
            None => {
                let first =
                    candidate.outputs.first().map(|output| ctx.store.candidate_file(candidate, output));
                let raw = first.and_then(|path| prompt::bounded(&text_of(&path, FORMER).0));
                let message = Message::new(said(evaluation)).hint(hint);
                Failure { recoverable: true, raw_error: raw, ..failure(FailureClass::Eval, message) }
            }
        }))
    }
}

/// The best round so far of rounds that go on.
pub(super) fn best_of(ctx: &BuildContext, job: &Job) -> Result<Option<Candidate>, FsError> {
    let rounds = job.history.round > 1 || job.history.candidate.as_deref().is_some_and(|it| it.round > 1);
    let refines = || ctx.project.spec(&job.task).eval.as_ref().is_some_and(|eval| eval.refine.is_some());
    if !rounds || !refines() {
        return Ok(None);
    }
    Ok(ctx.store.best(&job.task.name)?.filter(|best| best.made_from == job.prepared.made_from()))
}

/// The rounds are over, and none after this one was better: it is what the task has made.
pub(super) fn take_best(ctx: &BuildContext, job: &mut Job, best: Candidate) -> Result<Outcome, FsError> {
    job.live.enter(Stage::Saving);
    let evaluation = best.best.clone().unwrap_or_default();
    let message = format!(
        "round {} of {} was the best, and is taken: {}",
        best.round,
        evaluation.rounds,
        evaluation.text()
    );
    ctx.note(Some(&job.task.name), false, message);
    job.history.evaluation = Some(evaluation);
    let call = best.call.as_deref().map(|call| ctx.store.calls().reinstate(call)).transpose()?;
    if ctx.project.spec(&job.task).isolate.is_some() {
        return isolated::succeed_with_best(ctx, job, best);
    }
    let made = Made {
        with: best.made_with.clone(),
        call,
        sample: best.sample,
        by: if best.failure.is_some() { Some(By::Rescue) } else { best.by },
        ..Made::default()
    };
    let outcome = commit_attempt(ctx, job, best.contents(&ctx.store)?, made);
    if let Outcome::Done(_) = outcome {
        ctx.store.remove_candidate(&job.task.name)?;
    }
    Ok(outcome)
}

/// What a round made is done with, once `.status` says which one follows it, and with which notes. Before that a kill would
/// lose them; until the candidate is spent it is found again, with its score.
pub(super) fn leave_round(ctx: &BuildContext, over: RoundOver) -> Result<(), FsError> {
    let RoundOver { candidate, score } = over;
    let call = reject_answer(ctx, &candidate)?;
    if let Some(best) = ctx.store.best(&candidate.task)?.filter(|best| best.round == candidate.round) {
        // The answer of the next round takes the name that its own had.
        ctx.store.write_candidate(&Candidate { call, ..best })?;
    }
    ctx.store.spend_candidate(&candidate.task)?;
    match score {
        Some(score) => ctx.store.calls().mark(&score, AnswerState::Accepted).map(drop),
        None => Ok(()),
    }
}

/// A candidate that was found wanting is never used again, nor is the answer it came from.
fn retire(ctx: &BuildContext, candidate: &Candidate) -> Result<(), FsError> {
    ctx.store.spend_candidate(&candidate.task)?;
    reject_answer(ctx, candidate).map(drop)
}

/// The new name of the answer that a candidate came from.
fn reject_answer(ctx: &BuildContext, candidate: &Candidate) -> Result<Option<String>, FsError> {
    let mark = |call: &String| ctx.store.calls().mark(call, AnswerState::Rejected);
    candidate.call.as_ref().map(mark).transpose()
}

/// The score in words, with the notes in a line.
fn said(evaluation: &Evaluation) -> String {
    const LINE: usize = 200;
    let notes = evaluation.notes.split_whitespace().collect::<Vec<_>>().join(" ");
    match notes.char_indices().nth(LINE) {
        _ if notes.is_empty() => evaluation.text(),
        Some((end, _)) => format!("{}: {}…", evaluation.text(), &notes[..end]),
        None => format!("{}: {notes}", evaluation.text()),
    }
}

/// What an evaluation says to the next round.
pub fn notes_of(ctx: &BuildContext, candidate: &Candidate, evaluation: &Evaluation) -> Notes {
    let path = candidate.outputs.first().map(|output| ctx.store.candidate_file(candidate, output));
    let former = path.as_deref().map(|path| text_of(path, FORMER).0).unwrap_or_default();
    let mut text = format!("Score {} of 1", evaluation.score.unwrap_or_default());
    if evaluation.score.is_some_and(|score| score < evaluation.threshold) {
        let _ = write!(text, "; {} or more is wanted", evaluation.threshold);
    }
    text.push_str(".\n");
    if !evaluation.notes.is_empty() {
        let _ = writeln!(text, "\n{}", evaluation.notes);
    }
    Notes { text, former, former_path: path }
}

impl Notes {
    /// As an answer that would not do, and what was wrong with it.
    pub fn as_rejected(&self) -> Rejected {
        let feedback = format!(
            "Your last answer was evaluated. {}\nAnswer again in full, better in what the evaluation found wanting and with everything else kept. Give only the answer itself.\n",
            self.text
        );
        Rejected { answer: self.former.clone(), feedback }
    }
}
