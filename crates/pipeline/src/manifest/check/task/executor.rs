//! Where a task's command runs, and what it takes there.

use super::TaskChecker;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::executors;
use crate::manifest::types::Command;
use crate::manifest::types::ExecutorKind;

impl TaskChecker<'_, '_> {
    pub(super) fn executor(&mut self) {
        let (task, tables) = (self.task, self.all.tables);
        if let Some(name) = &task.executor {
            self.all.executor_name(&self.at.then("executor"), name);
        }
        if let Some(name) = &task.service {
            self.all.service_name(&self.at.then("service"), name);
        }
        if let Some(resources) = &task.resources {
            let at = self.at.then("resources");
            self.all.resources(&at, resources);
            if task.foreach.is_none() {
                for key in executors::templates(resources) {
                    self.add(
                        Diagnostic::at(
                            at.then(key),
                            format!("`{key}` of task `{}` is a template, and it has no items", self.name),
                        )
                        .wanted("only with `foreach`"),
                    );
                }
            }
        }
        let chosen = task.executor.as_ref().or(tables.defaults.executor.as_ref());
        let Some((name, kind)) =
            chosen.and_then(|name| Some((name, executors::find(&tables.executors, name)?.0)))
        else {
            return;
        };
        let Some(command) = &task.command else { return };
        if task.calls.is_some() && kind != ExecutorKind::Local {
            self.add(
                Diagnostic::at(
                    self.at.then("calls"),
                    format!(
                        "task `{}` is served a model, and executor `{name}` outlives the build",
                        self.name
                    ),
                )
                .on_key()
                .wanted("nobody would serve it then")
                .hint("say `executor = \"local\"`"),
            );
        }
        if kind.is_here() {
            return;
        }
        let words = match command {
            Command::Argv(words) => words.iter().map(String::as_str).collect::<Vec<_>>(),
            Command::Shell(line) => vec![line.as_str()],
        };
        let isolated = task.isolate.as_ref().and_then(|isolate| isolate.wanted()).is_some();
        let in_place = task.in_place || (!task.stdout && !words.iter().any(|word| word.contains("$out")));
        if isolated || in_place {
            let how = if isolated { "in a git worktree" } else { "on its outputs in place" };
            let at = match &task.executor {
                Some(_) => self.at.then("executor"),
                None => self.at.clone(),
            };
            self.add(
                Diagnostic::at(
                    at,
                    format!("task `{}` works {how}, and executor `{name}` is on other machines", self.name),
                )
                .wanted("an old copy there could still write to it")
                .hint("have it write to `$out`, or say `executor = \"detached\"` or `\"local\"`"),
            );
        }
    }
}
