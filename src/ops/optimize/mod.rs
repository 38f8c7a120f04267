//! Several texts of one task's prompt are tried and compared, and the best is kept.

mod bench;
mod experiments;
mod forecast;
mod gather;
mod judging;
mod promote;
mod propose;
mod rows;
mod work;

use std::path::PathBuf;

use crate::ops::Session;
use crate::ops::build::{BuildOptions, Screen};
use crate::ops::names::find_task;
use planexe_base::exit::Error;
use planexe_pipeline::manifest::types::Compare;
use planexe_pipeline::open::Opened;
use planexe_prompt_lab::cells::Subject;
use planexe_prompt_lab::view::OptimizeView;

pub use experiments::{list, show};
pub use promote::promote;
use work::Work;

/// What is tried, and how.
#[derive(Debug, Clone, Default)]
pub struct OptimizeOptions {
    /// The files of the texts; none: those where they are looked for, unless models are asked to propose.
    pub variants: Vec<PathBuf>,
    /// The reference runs; none: the run itself.
    pub runs: Vec<PathBuf>,
    /// The models that are compared; none: the first of the task's.
    pub models: Vec<String>,
    /// A model writes so many new texts in each round.
    pub propose: u32,
    /// At most so many rounds.
    pub rounds: u32,
    /// So many draws of each text.
    pub samples: Option<u32>,
    /// By scores, or by a judge.
    pub compare: Option<Compare>,
    /// What a challenger gains at least.
    pub margin: Option<f64>,
    /// What it may lose on any one run.
    pub max_drop: Option<f64>,
    /// The best text takes the prompt's place, if one was kept.
    pub promote: bool,
    /// Also if it leaves out inputs that the prompt used.
    pub allow_dropped_inputs: bool,
    /// Wait for another planexe on this experiment to end.
    pub wait: bool,
    /// How trials are built: jobs and limits.
    pub build: BuildOptions,
}

/// What came of an experiment.
#[derive(Debug)]
pub struct Experimented {
    /// What was found out.
    pub view: OptimizeView,
    /// Why the text that was kept could not take the prompt's place.
    pub refused: Option<Error>,
    /// The exit code that says how it ended.
    pub code: u8,
}

/// Tries, decides, and writes what came of it.
pub fn optimize(
    session: &Session,
    opened: &Opened,
    task: &str,
    options: &OptimizeOptions,
    screen: Screen<'_>,
) -> Result<Experimented, Error> {
    Work::new(session, opened, task, options, screen)?.run()
}

/// What it is expected to use. Makes no call, writes nothing.
pub fn forecast(
    session: &Session,
    opened: &Opened,
    task: &str,
    options: &OptimizeOptions,
    screen: Screen<'_>,
) -> Result<OptimizeView, Error> {
    Work::new(session, opened, task, options, screen)?.forecast()
}

/// The folder of all experiments on a task.
fn experiments_of(opened: &Opened, task: &str) -> PathBuf {
    opened.project.folder.join("experiments").join(gather::word(task))
}

/// The task, which must have a prompt, and an evaluator where scores decide.
fn subject<'a>(opened: &'a Opened, task: &str, compare: Compare) -> Result<Subject<'a>, Error> {
    let named = find_task(opened, task)?;
    let subject = Subject { project: &opened.project, id: named.task };
    let name = &subject.spec().name;
    if named.key.is_some() {
        return Err(Error::usage(format!(
            "`{task}` is one item; a prompt is tried on all items of its task"
        ))
        .hint(format!("`planexe optimize {name}`")));
    }
    if subject.prompt().is_none() {
        let kind = subject.spec().recipe.name();
        return Err(Error::usage(format!("`{name}` has no prompt to try: it is a {kind}")).code("no_prompt"));
    }
    if subject.spec().eval.is_none() && compare == Compare::Scores {
        return Err(Error::usage(format!("`{name}` has no evaluator, so nothing tells which text is better"))
            .code("no_evaluator")
            .hint(format!(
                "in the pipeline: [task.{name}.eval] with prompt = \"…{{{{ answer }}}}…\", or a command that prints {{\"score\": 0.8}}"
            ))
            .hint(format!("or have a judge compare answers: `planexe optimize {name} --compare pairwise`")));
    }
    Ok(subject)
}
