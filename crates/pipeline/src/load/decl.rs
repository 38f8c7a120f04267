//! What the graph is told of each task: its files as patterns, and what it waits for.

use crate::input_files::ATTACHED;
use crate::manifest::inputs;
use crate::manifest::paths;
use crate::manifest::types::Tables;
use crate::manifest::types::{Foreach, Task};
use planexe_base::cores;
use planexe_base::pattern;
use planexe_engine::graph::{Decl, ForeachDecl, Input};

/// A path as written, with the variables put in, in its normal form.
pub(super) fn path_of(tables: &Tables, written: &str) -> String {
    match paths::substitute_vars(written, &tables.vars) {
        Ok(filled) => pattern::normalize(&filled),
        Err(_) => pattern::normalize(written),
    }
}

pub(super) fn decls_of(tables: &Tables) -> Vec<Decl> {
    let tasks: Vec<(&String, &Box<Task>)> = tables.task.iter().collect();
    cores::map(&tasks, |(name, task)| decl(tables, name, task))
}

pub(super) fn decl(tables: &Tables, name: &str, task: &Task) -> Decl {
    let path = |written: &str| path_of(tables, written);
    let attached = task.files.iter().map(|pattern| (format!("{ATTACHED}{pattern}"), pattern.as_str()));
    let inputs = inputs::names(&task.inputs)
        .into_iter()
        .chain(attached)
        .map(|(name, pattern)| {
            let pattern = path(pattern);
            let optional = task.optional.iter().any(|o| *o == name || path(o) == pattern);
            Input { name, glob: paths::is_glob(&pattern), pattern, optional }
        })
        .collect();
    Decl {
        name: name.to_owned(),
        recipe: task.recipe() != crate::manifest::Recipe::Group,
        inputs,
        outputs: task.outputs.iter().map(|output| path(output.path())).collect(),
        after: task.after.clone(),
        foreach: task.foreach.as_ref().map(|foreach| foreach_decl(tables, foreach)),
        sequential: task.sequential,
    }
}

pub(super) fn foreach_decl(tables: &Tables, foreach: &Foreach) -> ForeachDecl {
    let (source, glob) = match (&foreach.file, &foreach.glob) {
        (Some(file), _) => (path_of(tables, file), false),
        (None, Some(glob)) => (path_of(tables, glob), true),
        (None, None) => (String::new(), false),
    };
    let rest = format!("{:?} {:?} {:?}", foreach.items, foreach.key, foreach.batch);
    ForeachDecl { source, glob, rest }
}
