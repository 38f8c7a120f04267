//! What attempts take turns at: threads, make's tokens, and what each attempt occupies while it runs.

use super::Build;
use super::inbox::{Inbox, WorkerMessage};
use super::workers::Workers;
use crate::check_staleness::{Judgement, Prepared};
use crate::jobserver::{Answer, Tokens};
use jobserver::Client;
use planexe_base::fs;
use planexe_base::prefix::Marks;
use planexe_engine::graph::{Task, TaskId};
use planexe_engine::scheduler::Work;
use planexe_engine::slots::Share;
use planexe_llm::cache;
use planexe_llm::config::Model;
use planexe_pipeline::manifest::executors::Taken;
use planexe_pipeline::project::{Evaluator, Project, PromptSpec, Recipe};
use planexe_store::candidates::{Candidate, CandidateFile};

/// The threads of a build, and its share of make's.
pub(super) struct Slots {
    workers: Workers,
    tokens: Option<Tokens>,
    calls_take_turns: bool,
}

impl Slots {
    /// `threads`: at most so many attempts at once. `calls_take_turns`: calls of models take make's tokens as well.
    pub(super) fn new(
        threads: usize,
        make: Option<Client>,
        calls_take_turns: bool,
        inbox: &Inbox<'_>,
    ) -> Slots {
        let tokens = make.map(|client| {
            let sender = inbox.sender();
            // Nobody listens once the build is over; the token goes back then.
            Tokens::new(client, move |answer| drop(sender.send(WorkerMessage::Token(answer))))
        });
        Slots { workers: Workers::new(threads), tokens, calls_take_turns }
    }

    /// Has a worker do it.
    pub(super) fn give(&mut self, work: impl FnOnce() + Send + 'static) {
        self.workers.give(work);
    }

    /// An answer of make's; an error, the first time.
    pub(super) fn take_token(&mut self, answer: Answer) -> Option<std::io::Error> {
        self.tokens.as_mut()?.answered(answer)
    }
}

impl Build<'_> {
    /// Under make: as many commands may run as there are turns for.
    pub(super) fn take_turns(&mut self) {
        if let Some(tokens) = &mut self.attempts.slots_mut().tokens {
            let (running, waiting) = self.engine.cores();
            let may_run = tokens.balance(running as usize, waiting as usize);
            self.engine.set_cores(u32::try_from(may_run).unwrap_or(u32::MAX));
        }
    }

    /// Slots a stale task takes. An answer that is there already takes none of a model's.
    pub(super) fn work_of(&self, id: TaskId, judgement: &Judgement) -> Work {
        let spec = self.project.spec(&self.engine.graph()[id]);
        let prepared = judgement.prepared.as_ref();
        let mut work = Work { pool: spec.pool, lane: spec.lane(), ..Work::default() };
        match &spec.recipe {
            Recipe::Command(_) if prepared.is_some_and(|it| it.as_it_is) => {}
            Recipe::Command(_) => {
                take_place(self.project, &self.engine.graph()[id], &mut work);
                work.service = spec.service;
                work.calls = spec.recipe.calls().map(|calls| calls.endpoint);
            }
            Recipe::Prompt(prompt) => {
                let paid = prepared.is_some_and(|it| it.kept.is_some() || it.existing.is_some());
                if !paid {
                    work.endpoints = prompt.models.clone();
                    work.cpu = self.attempts.slots().calls_take_turns;
                    work.tokens = prepared.map_or(0, |it| {
                        let text = (it.prompt.len() + it.system.len()) as u64;
                        tokens_of(text) + planexe_llm::attachment::tokens(&it.attached)
                    });
                    if let (Some(it), Some(&first)) = (prepared, prompt.models.first()) {
                        work.marks = marks_of(&self.project.endpoints[first].model, prompt, it);
                    }
                }
            }
            _ => {}
        }
        work
    }

    /// Slots the evaluation of a candidate takes.
    pub(super) fn work_of_eval(&self, id: TaskId, candidate: &Candidate) -> Work {
        let spec = self.project.spec(&self.engine.graph()[id]);
        let mut work = Work { pool: spec.pool, lane: spec.lane(), ..Work::default() };
        match spec.eval.as_ref().map(|eval| (&eval.by, eval.max_bytes)) {
            Some((Evaluator::Prompt(prompt), most)) => {
                work.endpoints = prompt.models.clone();
                work.cpu = self.attempts.slots().calls_take_turns;
                let size = |output: &CandidateFile| {
                    let path = self.ctx.store.candidate_file(candidate, output);
                    fs::signature(&path).ok().flatten().map_or(0, |it| it.size.min(most as u64))
                };
                work.tokens = tokens_of(candidate.outputs.iter().map(size).sum());
            }
            Some((Evaluator::Command(_), _)) => work.cpu = true,
            None => {}
        }
        work
    }
}

/// By what a prompt is known to begin like others, where its server has a cache.
fn marks_of(model: &Model, prompt: &PromptSpec, prepared: &Prepared) -> Marks {
    let Prepared { system, prompt: text, attached, .. } = prepared;
    let schema = prompt.schema.as_ref().map(|schema| &schema.value);
    match cache::rules(model) {
        Some(_) => cache::marks_of(model, system, text, schema, attached),
        None => Marks::default(),
    }
}

/// What a command takes of this machine, and of the place it runs at. What cannot be read is told by its attempt.
pub fn take_place(project: &Project, task: &Task, work: &mut Work) {
    let taken = project.taken(task).unwrap_or_default();
    work.elsewhere = project.spec(task).executor;
    if project.executor(task).is_none_or(|executor| executor.kind.is_here()) {
        work.cpu = true;
        work.share = share_of(taken);
    }
}

/// What a task or a service takes of this machine.
pub fn share_of(taken: Taken) -> Share {
    Share { cpus: taken.cpus, memory: taken.memory, gpus: taken.gpus }
}

/// Tokens of so many bytes of text, about: more than most texts have, so that a limit per minute is rather kept.
fn tokens_of(bytes: u64) -> u64 {
    bytes / 3
}
