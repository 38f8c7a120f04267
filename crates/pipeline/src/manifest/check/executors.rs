//! Checks of `[executors]`: each has what its kind needs, and nothing of another kind.

use super::{Checker, Diagnostic, TablePath, suggest};
use crate::key_path;
use crate::manifest::executors;
use crate::manifest::types::{Executor, ExecutorKind, Resources};

/// The states that words of `status` stand for.
const STATES: [&str; 4] = ["queued", "running", "ended", "away"];

impl Checker<'_> {
    pub(super) fn executors(&mut self) {
        for (name, executor) in &self.tables.executors {
            let at = key_path!["executors", name];
            self.name(&at, name, "executor");
            match executors::kind_of(name, executor) {
                Some(kind) => self.executor(&at, name, executor, kind),
                None => self.add(
                    Diagnostic::at(&at, format!("executor `{name}` has no `kind`"))
                        .on_key()
                        .wanted("`kind` is missing")
                        .hint("add `kind = \"detached\"`, `\"slurm\"`, `\"command\"` or `\"local\"`"),
                ),
            }
        }
        if let Some(name) = &self.tables.defaults.executor {
            self.executor_name(&key_path!["defaults", "executor"], name);
        }
    }

    fn executor(&mut self, at: &TablePath, name: &str, executor: &Executor, kind: ExecutorKind) {
        use ExecutorKind::{Command, Detached, Local, Slurm};
        let only: [(&str, bool, &[ExecutorKind]); 15] = [
            ("max_jobs", executor.max_jobs.is_some(), &[Detached, Slurm, Command]),
            ("cpus", executor.cpus.is_some(), &[Local]),
            ("memory", executor.memory.is_some(), &[Local]),
            ("gpus", executor.gpus.is_some(), &[Local]),
            ("planexe", executor.planexe.is_some(), &[Slurm, Command]),
            ("prefix", !executor.prefix.is_empty(), &[Slurm, Command]),
            ("options", !executor.options.is_empty(), &[Slurm]),
            ("array", executor.array.is_some(), &[Slurm]),
            ("poll", executor.poll.is_some(), &[Slurm, Command]),
            ("grace", executor.grace.is_some(), &[Slurm, Command]),
            ("start_within", executor.start_within.is_some(), &[Slurm, Command]),
            ("submit", !executor.submit.is_empty(), &[Command]),
            ("status", !executor.status.is_empty(), &[Command]),
            ("cancel", !executor.cancel.is_empty(), &[Command]),
            ("states", !executor.states.is_empty(), &[Command]),
        ];
        for (key, given, fits) in only {
            if given && !fits.contains(&kind) {
                let whose: Vec<String> = fits.iter().map(|kind| format!("`{}`", kind.name())).collect();
                self.add(
                    Diagnostic::at(
                        at.then(key),
                        format!("`{key}` has no meaning for a `{}` executor", kind.name()),
                    )
                    .on_key()
                    .wanted(format!("only with {}", whose.join(", ")))
                    .hint("remove the key"),
                );
            }
        }
        if kind == Command {
            let needed =
                [("submit", &executor.submit), ("status", &executor.status), ("cancel", &executor.cancel)];
            for (key, words) in needed {
                if words.first().is_none_or(|program| program.trim().is_empty()) {
                    self.add(
                        Diagnostic::at(at, format!("executor `{name}` has no `{key}`"))
                            .on_key()
                            .wanted(format!("`{key}` is missing"))
                            .hint("docs/executors.md has examples for HyperQueue and Kubernetes"),
                    );
                }
            }
            if !executor.submit.is_empty() && !executor.submit.iter().any(|word| word.contains("$job")) {
                self.add(
                    Diagnostic::at(
                        at.then("submit"),
                        format!("`submit` of executor `{name}` hands nothing over"),
                    )
                    .wanted("`$job` is missing")
                    .hint("end it with `\"$job\"`, which stands for the words to be run"),
                );
            }
            self.states(at, name, executor);
        }
        for (key, zero) in [("max_jobs", executor.max_jobs == Some(0)), ("array", executor.array == Some(0))]
        {
            if zero {
                self.add(Diagnostic::at(at.then(key), format!("`{key}` is 0")).wanted("wanted 1 or more"));
            }
        }
        for (key, span) in [("poll", executor.poll), ("start_within", executor.start_within)] {
            self.not_zero(&at.then(key), span);
        }
        if let Some(Err(fault)) = executor.memory.as_ref().map(|memory| memory.mebibytes()) {
            self.add(Diagnostic::at(at.then("memory"), fault).wanted("wanted an amount"));
        }
        self.resources(&at.then("resources"), &executor.resources);
    }

    fn states(&mut self, at: &TablePath, name: &str, executor: &Executor) {
        for state in executor.states.keys().filter(|state| !STATES.contains(&state.as_str())) {
            self.add(
                Diagnostic::at(at.then("states").then(state), format!("`{state}` is no state of a job"))
                    .on_key()
                    .wanted("wanted `queued`, `running`, `ended` or `away`")
                    .maybe_hint(suggest(state, STATES)),
            );
        }
        if executor.states.get("ended").is_none_or(Vec::is_empty) && !executor.status.is_empty() {
            self.add(
                Diagnostic::at(at, format!("executor `{name}` does not say how `status` tells that a job has ended"))
                    .on_key()
                    .wanted("`states.ended` is missing")
                    .hint("add `states = { queued = [\"WAITING\"], running = [\"RUNNING\"], ended = [\"FINISHED\"], away = [\"exit:1\"] }`"),
            );
        }
    }

    /// Amounts that can be read now; a template is known with its item.
    pub(super) fn resources(&mut self, at: &TablePath, resources: &Resources) {
        for (key, read) in executors::faults(resources) {
            self.add(Diagnostic::at(at.then(key), read).wanted("wanted an amount"));
        }
    }

    /// A name by which an executor is chosen.
    pub(super) fn executor_name(&mut self, at: &TablePath, name: &str) {
        if executors::find(&self.tables.executors, name).is_none() {
            let known = executors::names(&self.tables.executors);
            let hint = suggest(name, known.iter().map(String::as_str).collect::<Vec<_>>());
            self.add(
                Diagnostic::at(at, format!("unknown executor `{name}`"))
                    .wanted("no such executor")
                    .hint(hint.unwrap_or_else(|| format!("add a table `[executors.{name}]`"))),
            );
        }
    }
}
