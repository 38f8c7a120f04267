//! The plan of a run: the input that `[pipeline] plan` names.

use std::path::PathBuf;

use planexe_base::exit::Error;
use planexe_base::fs::{self, FileKind};
use planexe_base::pattern;
use planexe_pipeline::manifest::paths::substitute_vars;
use planexe_pipeline::open::Opened;

/// The plan's path relative to the run directory, if it can be edited.
pub fn editable_plan(opened: &Opened) -> Result<String, Error> {
    let tables = &opened.project.tables;
    let Some(written) = &tables.pipeline.plan else {
        return Err(Error::usage("the pipeline names no plan")
            .code("no_plan")
            .hint("add `plan = \"plan.txt\"` to `[pipeline]`, with the name of the input to edit"));
    };
    let plan = substitute_vars(written, &tables.vars).map_err(|fault| Error::usage(fault.message))?;
    let plan = pattern::normalize(&plan);
    if opened.project.graph.is_produced(&plan) {
        return Err(Error::usage(format!("`{plan}` is made by a task; only an input can be the plan"))
            .code("no_plan"));
    }
    let path = opened.store.path(&plan);
    fs::ensure_inside(opened.store.run_dir(), &path)?;
    match fs::kind(&path)? {
        Some(FileKind::File) => Ok(plan),
        None => Err(Error::usage(format!("there is no `{plan}`")).code("no_plan")),
        Some(_) => Err(Error::usage(format!("`{plan}` is not a plain file; edit what it leads to instead"))
            .code("no_plan")),
    }
}

/// The file of the plan, if the pipeline says which, and it is in the run.
pub fn plan_file(opened: &Opened) -> Option<PathBuf> {
    let tables = &opened.project.tables;
    let plan = tables.pipeline.plan.as_deref()?;
    let plan = substitute_vars(plan, &tables.vars).ok()?;
    let path = opened.store.path(&plan);
    (path.is_file() && fs::resolves_inside(opened.store.run_dir(), &path)).then_some(path)
}
