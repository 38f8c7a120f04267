//! How a build is carried out.

use crate::ops::LockOptions;
use planexe_engine::scheduler::OnFailure;
use planexe_engine::staleness::Rules;
use planexe_pipeline::manifest::types::{By, Span};
use planexe_pipeline::project::Project;

/// How a build is carried out.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Run at most so many tasks at once, commands too.
    pub jobs: Option<u32>,
    /// What to do after a failure.
    pub on_failure: OnFailure,
    /// Leave tasks that failed before as they are.
    pub keep_failed: bool,
    /// Ask this model, by its name in the pipeline, instead of those the tasks name.
    pub model: Option<String>,
    /// Tasks made with another model or other parameters are stale.
    pub rebuild_on_model: bool,
    /// A task that is done with items missing is a failure.
    pub strict: bool,
    /// Refuse answers recorded for another prompt.
    pub frozen: bool,
    /// Let a command that exits with an error fail, whatever its evaluator would say.
    pub no_rescue: bool,
    /// Do not look for kept answers; ask again.
    pub no_reuse: bool,
    /// How the lock is taken.
    pub lock: LockOptions,
    /// Start no further call once those that ended have cost so many USD.
    pub max_cost: Option<f64>,
    /// Start no further call once those that ended have used so many tokens.
    pub max_tokens: Option<u64>,
    /// Make no more calls than so many.
    pub max_calls: Option<u64>,
    /// Start no further task after this time.
    pub max_time: Option<Span>,
    /// Wait for the reset of a usage limit, however long.
    pub at_reset: bool,
    /// Ask models whose usage limit is said not to be over.
    pub before_reset: bool,
    /// Post events to these addresses too.
    pub webhook: Vec<String>,
}

/// How tasks are judged.
pub fn rules(project: &Project, options: &BuildOptions, force: bool) -> Rules {
    let model_asked = options.rebuild_on_model && !project.tables.staleness.model;
    Rules {
        force,
        model: project.tables.staleness.model || model_asked,
        model_asked,
        by_mtime: project.tables.staleness.by == By::Mtime,
        keep_failed: options.keep_failed,
    }
}
