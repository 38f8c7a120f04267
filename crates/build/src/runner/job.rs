//! What a runner is given: an attempt to be made, with what earlier attempts of its task left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::isolated;
use super::live::Live;
use crate::check_staleness::Prepared;
use planexe_base::cancel::Cancel;
use planexe_base::message::Message;
use planexe_base::prefix::Division;
use planexe_base::record::{Done, State};
use planexe_engine::graph::Task;
use planexe_engine::slots::CallEnd;
use planexe_llm::retry::Budgets;
use planexe_llm::{Class, Rejected, Usage};
use planexe_pipeline::eval_score::Evaluation;
use planexe_pipeline::project::{Project, PromptSpec};
use planexe_store::candidates::Candidate;

/// An attempt to be made.
pub struct Job {
    /// The task.
    pub task: Task,
    /// The number of the attempt, over all builds since it was last done.
    pub attempt: u32,
    /// Position in the prompt's list of models.
    pub endpoint: usize,
    /// How its prompt is divided for the cache of its server.
    pub division: Division,
    /// What it is made from.
    pub prepared: Prepared,
    /// The `.DONE` there was.
    pub former: Option<Box<Done>>,
    /// Kept answers are set aside first.
    pub redraw: bool,
    /// That it is made anew follows from no file: its `.DONE` goes first, so that what it is left as tells it.
    pub withdraw: bool,
    /// Outputs edited by hand that will be replaced.
    pub edited: Vec<String>,
    /// Outputs that are damaged.
    pub damaged: bool,
    /// Its sidecars may be damaged.
    pub torn: bool,
    /// Fields of other versions in its sidecars, kept.
    pub other: OtherFields,
    /// A person let it pass.
    pub passed: Option<String>,
    /// What carries over between attempts.
    pub history: AttemptHistory,
    /// Its evaluator is asked, not its recipe.
    pub evaluates: bool,
    /// What it made is merged, and then it is done.
    pub merges: bool,
    /// What it is doing, for those who watch.
    pub live: Arc<Live>,
    /// To be told that an answer is on disk, and what it used, or that a program ended well: its slot is free from
    /// then on.
    pub answered: Box<dyn Fn(Usage) + Send>,
    /// For a turn at the slots of a model, before its own program may call it.
    pub turns: Box<dyn Turns>,
}

/// Turns at the slots and limits of models, for calls that tasks' own programs make.
pub trait Turns: Send + Sync {
    /// Waits for a turn at an endpoint, for a call of about so many tokens.
    fn begin(&self, endpoint: usize, tokens: u64, cancel: &Cancel) -> Turn;

    /// Such a call is over. `why`: what its server said, if it failed.
    fn end(&self, endpoint: usize, end: CallEnd, why: Option<&Message>);
}

/// What came of the wish for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The call may begin.
    Begin,
    /// The usage limit of the endpoint is over after so long, which nobody holds a connection open for.
    Parked(Duration),
    /// It is not to be made any more.
    Over,
}

/// Fields of other versions in the sidecars of a task.
#[derive(Debug, Clone, Default)]
pub struct OtherFields {
    /// In `.DONE`.
    pub done: serde_json::Map<String, serde_json::Value>,
    /// In `.status`.
    pub status: serde_json::Map<String, serde_json::Value>,
}

impl Job {
    /// The conversation it goes on with.
    pub fn conversation(&self) -> &Conversation {
        if self.evaluates { &self.history.of_eval } else { &self.history.own }
    }

    /// The conversation it goes on with.
    pub fn conversation_mut(&mut self) -> &mut Conversation {
        if self.evaluates { &mut self.history.of_eval } else { &mut self.history.own }
    }

    /// How long the attempt is at work, with its evaluation.
    pub fn took(&self) -> Duration {
        let made_in = self.history.made_in.filter(|_| self.evaluates || self.merges);
        self.live.started.elapsed() + made_in.unwrap_or_default()
    }

    /// What it asks a model, if it does: in the task's place, or in its evaluator's.
    pub fn asks<'p>(&self, project: &'p Project) -> Option<&'p PromptSpec> {
        let spec = project.spec(&self.task);
        match &spec.eval {
            Some(eval) if self.evaluates => eval.prompt(),
            _ => spec.recipe.prompt(),
        }
    }
}

/// How `.status` says that an earlier build left a task.
#[derive(Debug, Clone, Copy)]
pub enum LeftOff {
    /// In this state, in this attempt.
    In(State, u32),
    /// Done, or there is none: the task was never begun, or a power cut took the word that it was.
    NotBegun,
}

/// What carries over between the attempts of one task.
#[derive(Debug, Clone, Default)]
pub struct AttemptHistory {
    /// What was said to the task's own models.
    pub own: Conversation,
    /// What was said to its evaluator, of the present candidate.
    pub of_eval: Conversation,
    /// How an earlier build left the task, until its conversation is taken up.
    pub left: Option<LeftOff>,
    /// How the last call ended, for the limits of its endpoint, with the pause its server asked for.
    pub call: Option<(Result<Usage, Class>, Option<Duration>)>,
    /// Used so far.
    pub usage: Usage,
    /// The round it is in, from 1.
    pub round: u32,
    /// What the evaluator said of the round before.
    pub notes: Option<Notes>,
    /// How long it took to make what is evaluated; none if that was another build's.
    pub made_in: Option<Duration>,
    /// What waits for its verdict, or to be merged.
    pub candidate: Option<Box<Candidate>>,
    /// Its commits are merged.
    pub merged: Option<Box<isolated::merge::Merged>>,
    /// The last evaluation, or the one that is waited for.
    pub evaluation: Option<Evaluation>,
    /// The round that is over, until `.status` says so.
    pub over: Option<Box<RoundOver>>,
}

/// A round that another one follows: what it made, and the evaluator's kept call.
#[derive(Debug, Clone)]
pub struct RoundOver {
    /// What it made.
    pub candidate: Candidate,
    /// The evaluator's kept call.
    pub score: Option<String>,
}

/// What was said to models, and what it used up.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Retries used.
    pub budgets: Budgets,
    /// Rejected answers and what was wrong with them.
    pub rejected: Vec<Rejected>,
    /// A larger `max_tokens`, after an answer that was cut off at the limit.
    pub max_tokens: Option<u64>,
    /// Draw differently: the last answer went wrong in a way the same draw would repeat.
    pub vary: bool,
    /// Time spent so far, waiting not counted.
    pub spent: Duration,
}

/// What an evaluator said of a round, for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The notes.
    pub text: String,
    /// What they are about: the first output then, as far as it is text.
    pub former: String,
    /// Where that is.
    pub former_path: Option<PathBuf>,
}
