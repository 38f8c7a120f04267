//! Inputs that nobody makes must be there, inside the run or the pipeline's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Loader;
use super::decl::foreach_decl;
use crate::manifest::inputs;
use crate::manifest::types::Task;
use crate::manifest::{Diagnostic, TablePath, nearest, worth_a_search};
use crate::project::{leads_outside, readable};
use planexe_base::cores;
use planexe_base::fs;
use planexe_base::pattern;
use planexe_engine::graph::{Graph, Input, TaskId};

fn outside(path: &str, at: &TablePath, folder: &Path) -> Diagnostic {
    Diagnostic::at(at, format!("input `{path}` is outside the run and the pipeline's folder"))
        .wanted("a file of the run")
        .hint(format!("if it may be read, say so: `--allow-outside {}`", folder.display()))
}

/// Where input `n` of a task is given: after its inputs come the files of its prompt.
fn place(task: &Task, name: &str, n: usize) -> TablePath {
    let at = TablePath::task(name);
    match n.checked_sub(task.inputs.count()) {
        Some(file) => at.then("files").then(file),
        None => inputs::place(&task.inputs, &at, n),
    }
}

impl Loader<'_> {
    /// Inputs of these tasks that nothing makes and that are not plainly files of the run.
    fn unclear_inputs(&self, graph: &Graph, ids: &[TaskId]) -> Vec<(TaskId, usize)> {
        let mut plain = fs::PlainFiles::default();
        let mut is_clear = |input: &Input| {
            let is_path = !input.glob && !pattern::has_key(&input.pattern);
            graph.is_produced(&input.pattern) || is_path && plain.has(self.run, Path::new(&input.pattern))
        };
        let inputs = |&id: &TaskId| (0..graph[id].inputs.len()).map(move |n| (id, n));
        ids.iter().flat_map(inputs).filter(|&(id, n)| !is_clear(&graph[id].inputs[n])).collect()
    }

    /// Inputs that nobody makes must be there, inside the run or the pipeline's folder.
    pub(super) fn look_for_inputs(&mut self, graph: &Graph) {
        let mut told: BTreeSet<String> = BTreeSet::new();
        let ids: Vec<TaskId> = graph.ids().collect();
        let unclear = cores::by_parts(&ids, |ids| self.unclear_inputs(graph, ids));
        let mut unclear = unclear.into_iter().peekable();
        for (id, (name, task)) in graph.ids().zip(&self.manifest.tables.task) {
            while let Some((_, n)) = unclear.next_if(|&(of, _)| of == id) {
                let input = &graph[id].inputs[n];
                if input.glob || pattern::has_key(&input.pattern) {
                    if self.leaves(&input.pattern) {
                        let at = place(task, name, n);
                        self.look_where(&input.pattern, &at);
                    }
                    continue;
                }
                let at = place(task, name, n);
                self.look_for(name, &input.pattern, input.optional, &at, graph, &mut told);
            }
            if let Some(foreach) =
                task.foreach.as_ref().map(|foreach| foreach_decl(&self.manifest.tables, foreach))
                && !foreach.source.is_empty()
                && !graph.is_produced(&foreach.source)
            {
                let at = TablePath::task(name).then("foreach");
                if !foreach.glob {
                    self.look_for(name, &foreach.source, false, &at.then("file"), graph, &mut told);
                } else if self.leaves(&foreach.source) {
                    self.look_where(&foreach.source, &at.then("glob"));
                }
            }
        }
    }

    fn readable(&self) -> Vec<PathBuf> {
        readable(self.run, &self.manifest.folder, &self.locations.options.allow_outside)
    }

    /// Whether a pattern may name files elsewhere than below the run directory: it says so, or begins in a folder
    /// that is not plainly there.
    fn leaves(&mut self, pattern: &str) -> bool {
        let folder = Path::new(pattern::literal_folder(pattern));
        !self.plain.has_folder(self.run, folder)
    }

    /// The folder that a glob, or a path with a key, begins in must be one that may be read.
    fn look_where(&mut self, pattern: &str, at: &TablePath) {
        let folder = self.run.join(pattern::literal_folder(pattern));
        if let Some(real) = leads_outside(&folder, &self.readable()) {
            self.faults.push(outside(pattern, at, &real));
        }
    }

    fn look_for(
        &mut self,
        task: &str,
        path: &str,
        optional: bool,
        at: &TablePath,
        graph: &Graph,
        told: &mut BTreeSet<String>,
    ) {
        if self.plain.has(self.run, Path::new(path)) {
            return;
        }
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let full = self.run.join(path);
        match full.canonicalize() {
            Ok(real) => {
                if leads_outside(&real, &self.readable()).is_some() {
                    self.faults.push(outside(path, at, real.parent().unwrap_or(&real)));
                } else if real.is_dir() {
                    self.faults.push(
                        Diagnostic::at(at, format!("input `{path}` is a folder"))
                            .wanted("a file, or a glob")
                            .hint(format!("for the files in it: `{path}/*`")),
                    );
                }
            }
            Err(error) if !matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => {
                let why = fs::reason_of(&error);
                self.faults.push(Diagnostic::at(at, format!("input `{path}` cannot be read: {why}")));
            }
            Err(_) if optional => {}
            Err(_) => {
                if !told.insert(path.to_owned()) {
                    return;
                }
                let hint = self.nearest_file(path, task, graph).map_or_else(
                    || format!("write `{path}` in the run directory, or add a task that makes it"),
                    |near| format!("did you mean `{near}`?"),
                );
                self.faults.push(
                    Diagnostic::at(
                        at,
                        format!("task `{task}` reads `{path}`, which is not there and which no task makes"),
                    )
                    .wanted(match crate::manifest::diagnostic::shown_path(self.run).as_str() {
                        "." => "not in this folder".to_owned(),
                        run => format!("not in {run}"),
                    })
                    .hint(hint),
                );
            }
        }
    }

    /// The output, or the file beside it, that may be meant by a path where nothing is. Not for each of thousands.
    fn nearest_file(&self, path: &str, task: &str, graph: &Graph) -> Option<String> {
        if !worth_a_search(self.faults.len(), graph.len()) {
            return None;
        }
        let full = self.run.join(path);
        let there = fs::list_dir(full.parent().unwrap_or(self.run)).unwrap_or_default();
        let there: Vec<String> = there
            .into_iter()
            .filter_map(|(name, kind)| (kind == fs::FileKind::File).then(|| name.into_string().ok())?)
            .filter(|name| !crate::input_files::is_sidecar(name))
            .collect();
        let others = graph.ids().filter(|&id| graph[id].name != task);
        let made = others.flat_map(|id| &graph[id].outputs);
        nearest(path, made.chain(&there).map(String::as_str)).map(str::to_owned)
    }
}
