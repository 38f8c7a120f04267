//! Loading from the compiled manifest of a run, whole or in part, and keeping it for the next build.

use std::path::{Path, PathBuf};

use crate::fs;
use crate::graph::{self, TaskId};
use crate::manifest::compiled::{self, Compiled, Outline, Outlined};
use crate::manifest::{Manifest, ReadOptions};
use crate::memo::Known;
use crate::pattern;
use crate::project::{LeftOut, Project};

/// Where the compiled manifest of a run is.
pub(super) fn compiled_path(run: &Path) -> PathBuf {
    run.join(".planexe/manifest")
}

/// A part of a pipeline.
pub(super) struct Part {
    /// The positions of its tasks in the topological order of the whole.
    pub(super) steps: Vec<u32>,
    pub(super) left_out: LeftOut,
}

/// Reads the tasks of a bare build that are not known to be up to date, and all that come after them.
pub(super) fn read_part(compiled: &Compiled<'_>, known: &Known) -> Option<(Manifest, Part)> {
    let count = compiled.outlined();
    let mut left_out = LeftOut { page: compiled.page().map(str::to_owned), ..LeftOut::default() };
    let mut fresh = known.fresh().peekable();
    let mut chosen = vec![false; count];
    let mut order = vec![0; count];
    for (task, chosen) in chosen.iter_mut().enumerate() {
        let (wanted, group) = compiled.kind(task)?;
        let is_fresh = fresh.next_if(|name| compiled.name(task) == Some(name)).is_some();
        *chosen = wanted && !group && !is_fresh;
        *order.get_mut(compiled.step(task)? as usize)? = task;
    }
    // Where what is known is of other tasks, it is of no use.
    if fresh.next().is_some() {
        return None;
    }
    for task in order {
        let (wanted, group) = compiled.kind(task)?;
        if wanted && !chosen[task] {
            chosen[task] = compiled.needs(task)?.any(|need| chosen.get(need) != Some(&false));
        }
        if !chosen[task] {
            left_out.all += 1;
            left_out.wanted += u32::from(wanted);
            left_out.fresh += u32::from(wanted && !group);
        }
    }
    if left_out.wanted == 0 {
        return None;
    }
    let steps = (0..count).filter(|&task| chosen[task]).map(|task| compiled.step(task));
    let steps = steps.collect::<Option<_>>()?;
    Some((compiled.part(&chosen)?, Part { steps, left_out }))
}

/// Keeps what the pipeline says for the next build. Only a cache, lost without harm.
pub fn keep_compiled(project: &Project, options: &ReadOptions) {
    if project.compiled {
        return;
    }
    let outline = outline(project);
    if let Some(bytes) = compiled::encode(&project.tables, &project.written, options, outline.as_ref()) {
        let _ = fs::write_atomic(&compiled_path(&project.run), &bytes, fs::Durability::Unsynced);
    }
}

/// What is to be known of tasks that are not read; none of a pipeline of which no part means the same by itself:
/// what a glob matches depends on which files tasks still make, fan-outs on their items, and the digest of the
/// pipeline on all its texts. One that asks models is looked at as a whole: nothing there takes as long as a call.
fn outline(project: &Project) -> Option<Outline> {
    let graph = &project.graph;
    let alone = |id: TaskId| {
        graph[id].kind != graph::Kind::Family
            && project.spec(&graph[id]).prompts().next().is_none()
            && !graph[id].inputs.iter().any(|input| input.glob || pattern::has_key(&input.pattern))
    };
    if project.sources.len() != project.written.len() || !graph.ids().all(alone) {
        return None;
    }
    let wanted = graph.upstream(&project.default);
    let outlined = |id: TaskId| Outlined {
        step: graph[id].step,
        wanted: wanted[id.index()],
        group: graph[id].kind == graph::Kind::Group,
        needs: graph[id].needs.iter().map(|need| need.task.index() as u32).collect(),
    };
    let page = project.page(&project.default).map(str::to_owned);
    Some(Outline { tasks: graph.ids().map(outlined).collect(), page })
}
