//! Whether an item may write its outputs. Its key is data, so that data decides how they are called: they are held
//! against all there is before anything runs.

use super::{Judgement, StaleCheck};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FileKind};
use planexe_base::message::Message;
use planexe_base::record::{Failure, Marker};
use planexe_base::style;
use planexe_engine::graph::{Collision, Graph, Kind, Rival, Task, TaskId};
use planexe_engine::staleness::Decision;
use planexe_pipeline::manifest::paths;
use planexe_pipeline::project::Recipe;
use planexe_pipeline::project::guarded::Read;
use planexe_store::sidecar::Sidecar;

/// The failure of an item, with what to do.
fn taken(message: String, output: &str) -> Failure {
    let name = output.rsplit('/').next().unwrap_or(output);
    let ending = name.rsplit_once('.').map_or(String::new(), |(_, ending)| format!(".{ending}"));
    Failure {
        class: FailureClass::OutputTaken,
        message: Message::new(format!("{message}; nothing is overwritten")).hint(format!(
            "give the items a folder of their own, like `items/{{{{ key }}}}{ending}`, or another `key`"
        )),
        recoverable: true,
        ..Failure::default()
    }
}

impl StaleCheck<'_> {
    /// Why an item may not have the outputs it has: they are those of another task, or files of the pipeline.
    pub fn not_its_own(&self, graph: &Graph, id: TaskId) -> Option<Failure> {
        let task = &graph[id];
        let Kind::Instance { family } = task.kind else { return None };
        let pipeline = self.project.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for output in &task.outputs {
            if let Err(fault) = paths::check_output(output, pipeline) {
                return Some(taken(fault.message, output));
            }
            if let Some(what) = self.project.guarded().what(output) {
                return Some(taken(format!("its output `{output}` is {what}"), output));
            }
        }
        if let Some(rival) = graph.rival(id)
            && !self.was_first(graph, task, rival)
        {
            let other = &graph[rival.other].name;
            let Rival { output, how, .. } = rival;
            let message = match how {
                _ if rival.other == id => format!("two of its outputs are `{output}`"),
                Collision::Same => format!("its output `{output}` is one of `{other}` too"),
                Collision::Below => format!("its output `{output}` lies below one of `{other}`"),
                Collision::Above => format!("its output `{output}` is a folder of one of `{other}`"),
            };
            return Some(taken(message, output));
        }
        self.recorded_of_another(graph, family, task).or_else(|| {
            let guarded = self.project.guarded();
            let source = |output: &String| self.is_source(output, guarded.named(output)?);
            let found = task.outputs.iter().find_map(source)?;
            (!self.makes_elsewhere(task) && !self.has_record(task)).then_some(found)
        })
    }

    /// Of two items that would write one file it is whose it is already, if that is recorded of one of them alone.
    fn was_first(&self, graph: &Graph, task: &Task, rival: &Rival) -> bool {
        let other = &graph[rival.other];
        let is_recorded = |task: &Task| {
            let first = task.outputs.first();
            first.and_then(|first| self.store.recorded_task(first)).as_deref() == Some(&task.name)
        };
        matches!(other.kind, Kind::Instance { .. }) && is_recorded(task) && !is_recorded(other)
    }

    /// The items of the other fan-out may not be known yet, while its records are.
    fn recorded_of_another(&self, graph: &Graph, family: TaskId, task: &Task) -> Option<Failure> {
        let first = task.outputs.first()?;
        let recorded = self.store.recorded_task(first).filter(|name| *name != task.name)?;
        let declared = recorded.split('[').next().unwrap_or(&recorded);
        let other = graph.find(declared).filter(|&other| other != family)?;
        let is_its = graph.may_write(other, &recorded, first);
        is_its.then(|| taken(format!("its output `{first}` was made by `{recorded}`"), first))
    }

    /// Why an item that would be made now may not: where its output would be there is a file that a pattern of some task
    /// matches and that nobody made, or a folder. What an item has a record of is its own; what a person says is its output
    /// may be taken as it is.
    pub fn in_the_way(&self, graph: &Graph, id: TaskId, judgement: &Judgement) -> Option<Failure> {
        let task = &graph[id];
        let stale = matches!(judgement.decision, Decision::Stale { .. });
        let recorded = judgement.marker != Marker::Missing || judgement.status.is_some() || judgement.torn;
        if recorded || !stale || task.item.is_none() || self.makes_elsewhere(task) {
            return None;
        }
        let found = task.outputs.iter().find_map(|output| self.stands_in(output))?;
        (!self.was_asked(task)).then_some(found)
    }

    /// [`StaleCheck::in_the_way`] of an item that has no record, whatever would become of it.
    pub fn is_foreign(&self, graph: &Graph, id: TaskId) -> Option<Failure> {
        let task = &graph[id];
        self.not_its_own(graph, id).or_else(|| {
            let unrecorded = task.item.is_some() && !self.makes_elsewhere(task) && !self.has_record(task);
            unrecorded.then(|| task.outputs.iter().find_map(|output| self.stands_in(output))).flatten()
        })
    }

    /// Whether a person writes the outputs of a task, or they are there to be changed.
    fn makes_elsewhere(&self, task: &Task) -> bool {
        match &self.project.spec(task).recipe {
            Recipe::Human(_) => true,
            Recipe::Command(command) => command.in_place,
            _ => false,
        }
    }

    /// Whether there is a record of a task, or an empty marker, by which a person says that its outputs are its own.
    fn has_record(&self, task: &Task) -> bool {
        task.outputs.first().is_some_and(|first| {
            let status = self.store.sidecar_path(first, Sidecar::Status);
            self.store.read_done(first) != Marker::Missing || !matches!(fs::kind(&status), Ok(None))
        }) || self.was_asked(task)
    }

    /// Whether answers of a task are kept: a power cut may have taken its sidecars and left its outputs, which are its own
    /// then. So they are if there is no telling: who reads the answers says why.
    fn was_asked(&self, task: &Task) -> bool {
        self.store.calls().list(&task.name).map_or(true, |calls| !calls.is_empty())
    }

    fn stands_in(&self, output: &str) -> Option<Failure> {
        let kind = |path: &str| fs::kind(&self.store.path(path)).ok().flatten();
        if kind(output) == Some(FileKind::Dir) {
            return Some(taken(format!("its output `{output}` is a folder"), output));
        }
        let mut above = output.match_indices('/').map(|(at, _)| &output[..at]);
        if let Some(file) = above.find(|above| kind(above) == Some(FileKind::File)) {
            return Some(taken(
                format!("its output `{output}` lies below `{file}`, which is a file"),
                output,
            ));
        }
        let mut failure = self.is_source(output, self.project.guarded().matched(output)?)?;
        let hint = format!(
            "if it is what the item should have, take it as it is: `planexe touch {}`",
            style::shell_word(output)
        );
        failure.message.hints.push(hint.into());
        Some(failure)
    }

    /// The failure of an item whose output is a file that is read and that no task made.
    fn is_source(&self, output: &str, read: Read<'_>) -> Option<Failure> {
        let Read { path, by } = read;
        let is_there = matches!(fs::kind(&self.store.path(path)), Ok(Some(_)));
        (is_there && self.store.recorded_task(path).is_none()).then(|| {
            let message = if path == output {
                format!("its output `{output}` is read by {by}, and no task made the one there is")
            } else {
                format!(
                    "its output `{output}` and `{path}`, which {by} reads, differ only in case, which some file systems do not tell apart"
                )
            };
            taken(message, output)
        })
    }
}
