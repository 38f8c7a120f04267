//! What each task of a pipeline is to do: its recipe with all texts read and all names resolved.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Endpoint;
use crate::check::{CompiledCheck, CompiledSchema};
use crate::manifest::types::{GateAction, OnMergeFailure, Resources, Retry};
use crate::template::{self as render, RenderError, Source};
use crate::texts::{KEPT_TASKS, SAMPLES};
use planexe_base::record::{Digest, MadeWith};

/// A task as declared.
#[derive(Debug)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it does.
    pub recipe: Recipe,
    /// Templates of outputs, by output; none for the first, or where the recipe writes it.
    pub templates: Vec<Option<Box<Template>>>,
    /// A condition.
    pub when: Option<Box<Template>>,
    /// What it runs over.
    pub foreach: Option<Box<ForeachSpec>>,
    /// Instances run in order.
    pub sequential: bool,
    /// Share of instances that must succeed.
    pub min_success: f64,
    /// Limit of the whole task.
    pub timeout: Option<Duration>,
    /// Limit without progress.
    pub stall: Option<Duration>,
    /// Attempts and pauses of the task.
    pub retry: Option<Box<Retry>>,
    /// Higher starts first.
    pub priority: i32,
    /// Position in [`Project::pools`](super::Project::pools).
    pub pool: Option<usize>,
    /// Position in [`Project::executors`](super::Project::executors) of where its command runs; none if in the build itself.
    pub executor: Option<usize>,
    /// Position in [`Project::services`](super::Project::services) of the server its command needs.
    pub service: Option<usize>,
    /// What its command takes where it runs.
    pub resources: Option<Box<Resources>>,
    /// Position of the task in the topological order.
    pub step: u32,
    /// Who evaluates what it made.
    pub eval: Option<Box<EvalSpec>>,
    /// Of a task that is made beside another one, to compare: whom it stands for.
    pub stands_for: Option<Box<StandsFor>>,
    /// It works in a git worktree of its own.
    pub isolate: Option<Box<IsolateSpec>>,
}

/// A task made in the place of another one, in a folder of its own: what templates see is as if it were that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandsFor {
    /// The other task's name.
    pub task: String,
    /// What comes before the names of its outputs, and of its inputs, each with its slash.
    pub folders: Vec<String>,
    /// Keys of the items of its list that are left out.
    pub without: Vec<String>,
}

/// How a task is kept apart, and where its commits go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolateSpec {
    /// The lane it shares with others, and that lane's number; none if it has one of its own.
    pub lane: Option<(String, usize)>,
    /// The branch its commits go to; the one that is checked out if none.
    pub base: Option<String>,
    /// What follows if they cannot be merged.
    pub on_merge_failure: OnMergeFailure,
}

impl IsolateSpec {
    /// The name of the lane of a task: `task`, `task[key]`, or one shared with others.
    pub fn lane_of<'a>(&'a self, task: &'a str) -> &'a str {
        self.lane.as_ref().map_or(task, |(lane, _)| lane)
    }
}

impl Spec {
    /// Whether a text of it that is rendered uses a name, or a member of it.
    pub fn uses(&self, name: &str) -> bool {
        let own: Vec<&Template> = match &self.recipe {
            Recipe::Template(template) => vec![template],
            Recipe::Gate(gate) => {
                std::iter::once(&gate.fail_if).chain(&gate.warn_if).chain(&gate.message).collect()
            }
            Recipe::Human(human) => vec![&human.ask],
            _ => Vec::new(),
        };
        let outputs = self.templates.iter().flatten().map(AsRef::as_ref);
        let asked = self.prompts().flat_map(|prompt| prompt.system.iter().chain([&prompt.prompt]));
        own.into_iter().chain(outputs).chain(asked).any(|template| template.uses(name))
            || self.when.as_ref().is_some_and(|when| when.uses(name))
    }

    /// Whether what it renders rests on the records of the tasks before it, and not on files alone.
    pub fn uses_records(&self) -> bool {
        self.uses(SAMPLES) || self.uses(KEPT_TASKS)
    }

    /// The task's name, as templates see it.
    pub fn shown_name(&self) -> &str {
        self.stands_for.as_ref().map_or(&self.name, |other| &other.task)
    }

    /// A path of the run, as templates see it.
    pub fn shown_path<'p>(&self, path: &'p str) -> &'p str {
        let folders = self.stands_for.iter().flat_map(|other| &other.folders);
        folders.into_iter().find_map(|folder| path.strip_prefix(folder.as_str())).unwrap_or(path)
    }

    /// What it asks models: by its recipe, and to evaluate what came of that.
    pub fn prompts(&self) -> impl Iterator<Item = &PromptSpec> {
        self.recipe.prompt().into_iter().chain(self.eval.as_ref().and_then(|eval| eval.prompt()))
    }

    /// The programs it runs: by its recipe, and to evaluate what came of that.
    pub fn commands(&self) -> impl Iterator<Item = &CommandSpec> {
        let own = match &self.recipe {
            Recipe::Command(command) => Some(&**command),
            _ => None,
        };
        let evaluator = self.eval.as_ref().and_then(|eval| match &eval.by {
            Evaluator::Command(command) => Some(command),
            Evaluator::Prompt(_) => None,
        });
        own.into_iter().chain(evaluator)
    }

    /// The model that its own program may call.
    pub fn calls(&self) -> Option<&CallsSpec> {
        match &self.recipe {
            Recipe::Command(command) => command.calls.as_ref(),
            _ => None,
        }
    }

    /// The positions of all models that it, or its evaluator, may ask.
    pub fn endpoints(&self) -> impl Iterator<Item = usize> {
        self.prompts()
            .flat_map(|prompt| prompt.models.iter().copied())
            .chain(self.calls().map(|it| it.endpoint))
    }

    /// Whether answers of models are paid for in its making.
    pub fn is_paid(&self) -> bool {
        self.endpoints().next().is_some()
    }

    /// The number of the lane it shares with other tasks.
    pub fn lane(&self) -> Option<usize> {
        self.isolate.as_ref().and_then(|isolate| isolate.lane.as_ref()).map(|(_, number)| *number)
    }

    /// Whether its files need no sync of their own: nothing was paid, for what it made or for a verdict on it.
    pub fn is_synced_late(&self) -> bool {
        self.recipe.is_synced_late() && self.eval.is_none() && self.isolate.is_none()
    }

    /// Rounds that are made in any case, and at most.
    pub fn rounds(&self) -> (u32, u32) {
        self.eval.as_ref().map_or((1, 1), |eval| eval.rounds())
    }

    /// Calls to models if all goes well, its evaluator's included: by the rounds that are made in any case, and at most.
    pub fn asks(&self) -> (u32, u32) {
        let (sure, most) = self.rounds();
        (self.asks_in_a_round() * sure, self.asks_in_a_round() * most)
    }

    /// Those of one round.
    pub fn asks_in_a_round(&self) -> u32 {
        self.prompts().count() as u32
    }
}

/// Who evaluates what a task made, and what follows from the score.
#[derive(Debug)]
pub struct EvalSpec {
    /// Who.
    pub by: Evaluator,
    /// The least score with which the task is done.
    pub threshold: f64,
    /// Whether a command that exits with an error is evaluated too.
    pub rescue: bool,
    /// How often the task is made at most.
    pub max_rounds: u32,
    /// Every round is made; at least until a score reaches this one.
    pub refine: Option<Until>,
    /// Most bytes of each output that are shown.
    pub max_bytes: usize,
    /// Limit of an evaluation.
    pub timeout: Option<Duration>,
    /// Digest of what is asked, but for what templates put in, and of the threshold.
    pub digest: Digest,
}

/// When rounds of refinement end before the last one: at a score, if any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until(pub Option<f64>);

/// Who scores.
#[derive(Debug)]
pub enum Evaluator {
    /// A model.
    Prompt(Box<PromptSpec>),
    /// A program.
    Command(CommandSpec),
}

impl EvalSpec {
    /// Rounds of refinement: those that are made in any case, and those that are if no score ends them. One without it.
    fn rounds(&self) -> (u32, u32) {
        // Sums of them over all tasks are forecasts, and have to fit.
        let most = self.max_rounds.min(1000);
        match self.refine {
            None => (1, 1),
            Some(Until(None)) => (most, most),
            Some(Until(Some(_))) => (1, most),
        }
    }

    /// What a model is asked, if it is one that scores.
    pub fn prompt(&self) -> Option<&PromptSpec> {
        match &self.by {
            Evaluator::Prompt(prompt) => Some(prompt),
            Evaluator::Command(_) => None,
        }
    }
}

/// A template with the names it uses.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its text.
    pub source: Source,
    /// The names it uses and does not set itself; of members the whole path.
    pub names: BTreeSet<String>,
    /// Whether values are escaped for HTML.
    pub html: bool,
}

impl Template {
    /// Renders it.
    pub fn render(&self, context: &minijinja::Value) -> Result<String, RenderError> {
        render::render(&self.source, context, self.html)
    }

    /// Whether it uses a name, or a member of it.
    pub fn uses(&self, name: &str) -> bool {
        uses(&self.names, name)
    }
}

/// Whether a name, or a member of it, is among those used.
pub fn uses(names: &BTreeSet<String>, name: &str) -> bool {
    let member = |path: &String| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    names.contains(name) || names.iter().any(member)
}

/// What a fan-out runs over.
#[derive(Debug, Clone, Default)]
pub struct ForeachSpec {
    /// A JSON file of the run.
    pub file: Option<String>,
    /// JSON pointer of the list.
    pub items: Option<String>,
    /// Member that names an item.
    pub key: Option<String>,
    /// Files to run over instead.
    pub glob: Option<String>,
    /// Items per instance.
    pub batch: Option<usize>,
}

/// What a task does.
#[derive(Debug)]
pub enum Recipe {
    /// Nothing: a name for its inputs.
    Group,
    /// Asks a model.
    Prompt(Box<PromptSpec>),
    /// Runs a program.
    Command(Box<CommandSpec>),
    /// Renders a template.
    Template(Box<Template>),
    /// Lets the pipeline go on, or not.
    Gate(Box<GateSpec>),
    /// Waits for a person.
    Human(Box<HumanSpec>),
}

impl Recipe {
    /// Its name in messages and events.
    pub fn name(&self) -> &'static str {
        match self {
            Recipe::Group => "group",
            Recipe::Prompt(_) => "prompt",
            Recipe::Command(_) => "command",
            Recipe::Template(_) => "template",
            Recipe::Gate(_) => "gate",
            Recipe::Human(_) => "human",
        }
    }

    /// Whether what it makes can be made again for nothing, by nobody's help: such files need no sync of
    /// their own. One that works in place has no content to go back to while it runs.
    pub fn is_synced_late(&self) -> bool {
        match self {
            Recipe::Command(command) => !command.in_place && command.calls.is_none(),
            Recipe::Template(_) => true,
            Recipe::Group | Recipe::Prompt(_) | Recipe::Gate(_) | Recipe::Human(_) => false,
        }
    }

    /// What its first output must satisfy, if it says: schema and checks.
    pub fn form(&self) -> (Option<&CompiledSchema>, Option<&CompiledCheck>) {
        match self {
            Recipe::Prompt(prompt) => (prompt.schema.as_deref(), prompt.check.as_deref()),
            Recipe::Human(human) => (None, human.check.as_deref()),
            _ => (None, None),
        }
    }

    /// The prompt's parts, if it is one.
    pub fn prompt(&self) -> Option<&PromptSpec> {
        match self {
            Recipe::Prompt(prompt) => Some(prompt),
            _ => None,
        }
    }

    /// The model that its program may call, if it is a command that may.
    pub fn calls(&self) -> Option<&CallsSpec> {
        match self {
            Recipe::Command(command) => command.calls.as_ref(),
            _ => None,
        }
    }
}

/// A prompt task.
#[derive(Debug)]
pub struct PromptSpec {
    /// System prompt.
    pub system: Option<Template>,
    /// Prompt.
    pub prompt: Template,
    /// Schema of the answer.
    pub schema: Option<Arc<CompiledSchema>>,
    /// Checks of the answer.
    pub check: Option<Arc<CompiledCheck>>,
    /// Digest of the checks, the banned words included.
    pub check_digest: Option<Digest>,
    /// Positions in [`Project::endpoints`](super::Project::endpoints), in order of fallback.
    pub models: Vec<usize>,
    /// Sampling parameters.
    pub params: Map<String, Value>,
    /// Fields sent as they are.
    pub params_extra: Map<String, Value>,
    /// Tools of an agent, in place of those of its model.
    pub tools: Option<Vec<String>>,
    /// How often an invalid answer is asked for again.
    pub max_validation_retries: u32,
}

impl PromptSpec {
    /// What an answer of one of its models is recorded as made with.
    pub fn made_with(&self, endpoint: &Endpoint) -> MadeWith {
        let params = match &self.tools {
            // As it was before a task could have tools, so that no answer is another's.
            None => serde_json::to_vec(&(&self.params, &self.params_extra)),
            Some(tools) => serde_json::to_vec(&(&self.params, &self.params_extra, tools)),
        };
        let params = params.unwrap_or_default();
        MadeWith {
            endpoint: endpoint.name.clone(),
            model: endpoint.model_name().to_string(),
            params: Digest::of(&params),
        }
    }
}

/// A task for a person.
#[derive(Debug)]
pub struct HumanSpec {
    /// What they are asked.
    pub ask: Template,
    /// What the file they write must satisfy. Whoever wrote one that did is not asked again because this changed.
    pub check: Option<Arc<CompiledCheck>>,
}

impl GateSpec {
    /// Whether it asks whatever its inputs hold: `{{ true }}`, or `{{ NAME is defined }}`. Such a gate asks for an approval.
    pub fn always_asks(&self) -> bool {
        let text = self.fail_if.source.text.trim();
        let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")).unwrap_or(text).trim();
        let is_name = |name: &str| self.fail_if.names.contains(name);
        inner == "true" || inner.strip_suffix("is defined").is_some_and(|name| is_name(name.trim()))
    }
}

/// A command task.
#[derive(Debug)]
pub struct CommandSpec {
    /// The program and its arguments, or a line for the shell.
    pub line: Line,
    /// Standard output becomes the first output.
    pub stdout: bool,
    /// It updates its outputs where they are.
    pub in_place: bool,
    /// Working directory, relative to the run directory.
    pub cwd: Option<String>,
    /// Variables whose values count as input.
    pub env_names: Vec<String>,
    /// Variables that are set.
    pub env_set: Vec<(String, String)>,
    /// The model that it may call itself.
    pub calls: Option<CallsSpec>,
}

/// The model that a command may call itself, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallsSpec {
    /// Position in [`Project::endpoints`](super::Project::endpoints).
    pub endpoint: usize,
    /// Most calls of one attempt.
    pub max_calls: Option<u64>,
    /// USD of one attempt, from which on no call begins.
    pub max_cost: Option<f64>,
}

/// What a command task runs.
#[derive(Debug)]
pub enum Line {
    /// Program and arguments, without a shell.
    Argv(Vec<String>),
    /// For `sh -c`.
    Shell(String),
}

impl Line {
    /// The program that is started.
    pub fn program(&self) -> &str {
        match self {
            Line::Argv(words) => words.first().map_or("", String::as_str),
            Line::Shell(_) => "sh",
        }
    }

    /// As written: its words, or the one line.
    pub fn words(&self) -> Vec<String> {
        match self {
            Line::Argv(words) => words.clone(),
            Line::Shell(line) => vec![line.clone()],
        }
    }
}

/// A gate.
#[derive(Debug)]
pub struct GateSpec {
    /// True if the pipeline should not go on.
    pub fail_if: Template,
    /// What then.
    pub action: GateAction,
    /// True if it only should be told.
    pub warn_if: Option<Template>,
    /// What to tell.
    pub message: Option<Template>,
}
