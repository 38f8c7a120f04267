//! Faults of the graph: two tasks that write one file, cycles, and lanes that wait for themselves.

use super::Loader;
use super::decl::{decl, foreach_decl};
use crate::lanes;
use crate::manifest::inputs;
use crate::manifest::{Diagnostic, TablePath};
use crate::project::Spec;
use planexe_base::pattern;
use planexe_engine::graph::{self, Graph, Place, Role};

impl Loader<'_> {
    pub(super) fn graph_fault(&mut self, fault: &graph::Fault) {
        let fault = match fault {
            graph::Fault::DuplicateOutput { first, second, case_only } => {
                let path = |(decl, output): (usize, usize)| {
                    let task = self.manifest.tables.task.get_index(decl);
                    task.map_or(String::new(), |(_, task)| task.outputs[output].path().to_owned())
                };
                let at = |(decl, output): (usize, usize)| self.task_path(decl).then("outputs").then(output);
                let (one, two) = (self.task_name(first.0), self.task_name(second.0));
                let message = if *case_only {
                    format!(
                        "outputs `{}` and `{}` differ only in case, which some file systems do not tell apart",
                        path(*first),
                        path(*second)
                    )
                } else if one == two {
                    format!("output `{}` is listed twice", path(*second))
                } else {
                    format!("two tasks write `{}`: `{one}` and `{two}`", path(*second))
                };
                Diagnostic::at(at(*second), message)
                    .wanted("one task per file")
                    .related(at(*first), format!("`{one}` writes it here"))
            }
            graph::Fault::FileAndFolder { file, folder } => {
                let verb =
                    |(_, role): Place| if matches!(role, Role::Output(_)) { "writes" } else { "reads" };
                let (path, below) = (self.path_at(*file), self.path_at(*folder));
                let message = format!(
                    "`{path}` is a file, which task `{}` {}, and a folder: `{}` {} `{below}`",
                    self.task_name(file.0),
                    verb(*file),
                    self.task_name(folder.0),
                    verb(*folder),
                );
                // Of a path that is written the task can choose another name.
                let (at, other, says) = match file.1 {
                    Role::Output(_) => (file, folder, "a file in it"),
                    _ => (folder, file, "the file"),
                };
                Diagnostic::at(self.place_of(*at), message)
                    .wanted("a file or a folder, not both")
                    .related(self.place_of(*other), says)
                    .hint("give one of the two another name")
            }
            graph::Fault::Cycle { decls } => {
                let mut names: Vec<&str> = decls.iter().map(|&decl| self.task_name(decl)).collect();
                let first = names.first().copied().unwrap_or_default();
                names.push(first);
                let text = names.join(" -> ");
                let at = match (decls.first(), decls.last()) {
                    (Some(&task), Some(&other)) => self.wait_of(task, other),
                    _ => TablePath::root(),
                };
                let message = if decls.len() == 1 {
                    format!("task `{first}` reads what it writes itself: {text}")
                } else {
                    format!("tasks wait for one another: {text}")
                };
                Diagnostic::at(at, message)
                    .wanted("a cycle")
                    .hint("each task can only read what is made before it")
            }
        };
        self.faults.push(fault);
    }

    /// Tasks of a lane are merged together: none may wait for what another is merged for, and they have one base.
    pub(super) fn look_at_lanes(&mut self, graph: &Graph, specs: &[Spec]) {
        if specs.iter().all(|spec| spec.isolate.is_none()) {
            return;
        }
        let at = |name: &str| TablePath::task(name).then("isolate");
        for tasks in lanes::entangled(graph, |id| specs.get(graph[id].decl).and_then(Spec::lane)) {
            let names: Vec<&str> = tasks.iter().map(|id| graph[*id].name.as_str()).collect();
            let (Some(first), Some(last)) = (names.first(), names.last()) else { continue };
            let lane = specs.get(graph[tasks[0]].decl).and_then(|spec| spec.isolate.as_ref()?.lane.clone());
            let lane = lane.map_or(String::new(), |(lane, _)| lane);
            let message = format!(
                "lane `{lane}` waits for itself: a task between `{}` reads what is merged only with all of it",
                names.join("`, `")
            );
            self.faults.push(
                Diagnostic::at(at(last), message)
                    .wanted("a cycle")
                    .related(at(first), "merged together with this")
                    .hint("put what lies between into the same lane, or the tasks into different lanes"),
            );
        }
        let isolated = specs.iter().filter_map(|spec| Some((&spec.name, spec.isolate.as_ref()?)));
        let shared: Vec<(&String, &str, usize, &Option<String>)> = isolated
            .clone()
            .filter_map(|(name, isolate)| {
                let (lane, number) = isolate.lane.as_ref()?;
                Some((name, lane.as_str(), *number, &isolate.base))
            })
            .collect();
        for (n, (name, lane, number, base)) in shared.iter().enumerate() {
            let Some(other) = shared[..n].iter().find(|other| other.2 == *number && other.3 != *base) else {
                continue;
            };
            self.faults.push(
                Diagnostic::at(at(name), format!("tasks of lane `{lane}` have different bases"))
                    .wanted("one base for all of a lane")
                    .related(at(other.0), "the other")
                    .hint("say it once, as `base` under `[isolation]`"),
            );
        }
        for (name, _) in isolated.filter(|(_, isolate)| isolate.lane.is_none()) {
            let Some(other) = shared.iter().find(|other| other.1 == name) else { continue };
            self.faults.push(
                Diagnostic::at(
                    at(name),
                    format!("the lane of task `{name}`, its own, has the name of a shared one"),
                )
                .wanted("two lanes of one name")
                .related(at(other.0), "the other")
                .hint(format!("give the lane another name, or say `isolate = {{ lane = \"{name}\" }}`")),
            );
        }
    }

    /// Where a path stands in the manifest.
    fn place_of(&self, (decl, role): Place) -> TablePath {
        let at = self.task_path(decl);
        match role {
            Role::Output(n) => at.then("outputs").then(n),
            Role::Input(n) => match self.manifest.tables.task.get_index(decl) {
                Some((_, task)) => inputs::place(&task.inputs, &at, n),
                None => at,
            },
            Role::Items => at.then("foreach"),
        }
    }

    /// A path as it is written there.
    fn path_at(&self, (decl, role): Place) -> String {
        let Some((_, task)) = self.manifest.tables.task.get_index(decl) else { return String::new() };
        match role {
            Role::Output(n) => task.outputs[n].path().to_owned(),
            Role::Input(n) => inputs::names(&task.inputs)[n].1.to_owned(),
            Role::Items => task
                .foreach
                .as_ref()
                .map_or(String::new(), |foreach| foreach_decl(&self.manifest.tables, foreach).source),
        }
    }

    /// Where a task says that it waits for another.
    fn wait_of(&self, task: usize, other: usize) -> TablePath {
        let tables = &self.manifest.tables;
        let at = self.task_path(task);
        let (Some((name, task)), Some((other_name, other))) =
            (tables.task.get_index(task), tables.task.get_index(other))
        else {
            return at;
        };
        let (task_decl, other_decl) = (decl(tables, name, task), decl(tables, other_name, other));
        let reads =
            |pattern: &str| other_decl.outputs.iter().any(|output| pattern::could_match(pattern, output));
        if let Some(n) = task_decl.inputs.iter().position(|input| reads(&input.pattern)) {
            return inputs::place(&task.inputs, &at, n);
        }
        if let Some(n) = task.after.iter().position(|name| name == other_name) {
            return at.then("after").then(n);
        }
        at.then("foreach")
    }
}
