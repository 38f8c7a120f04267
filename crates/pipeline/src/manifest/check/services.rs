//! Checks of `[services]`: each has a program and one way to tell that it is ready.

use super::{Checker, Diagnostic, TablePath, suggest};
use crate::key_path;
use crate::manifest::executors;
use crate::manifest::types::{Command, Ready, Service, at_node};

impl Checker<'_> {
    pub(super) fn services(&mut self) {
        for (name, service) in &self.tables.services {
            let at = key_path!["services", name];
            self.name(&at, name, "service");
            self.service(&at, name, service);
        }
    }

    fn service(&mut self, at: &TablePath, name: &str, service: &Service) {
        if service.command.as_ref().is_none_or(is_empty) {
            self.add(
                Diagnostic::at(at, format!("service `{name}` has no `command`"))
                    .on_key()
                    .wanted("`command` is missing")
                    .hint("add `command = [\"program\", \"argument\"]`, which serves until it is ended"),
            );
        }
        let Ready { url, command } = &service.ready;
        match (url, command) {
            (Some(url), None) => {
                self.url(&at.then("ready").then("url"), &at_node(url, "127.0.0.1"));
            }
            (None, Some(command)) if !is_empty(command) => {}
            (Some(_), Some(_)) => self.add(
                Diagnostic::at(at.then("ready"), format!("service `{name}` has two ready checks"))
                    .wanted("wanted `url` or `command`"),
            ),
            _ => self.add(
                Diagnostic::at(at, format!("service `{name}` does not say how it is known to be ready"))
                    .on_key()
                    .wanted("`ready` is missing")
                    .hint("add `ready = { url = \"http://127.0.0.1:8000/health\" }` or `{ command = [\"program\"] }`"),
            ),
        }
        self.not_zero(&at.then("ready_within"), service.ready_within);
        if let Some(executor) = &service.executor {
            self.executor_name(&at.then("executor"), executor);
        }
        self.fits_here(at, name, service);
        let resources = at.then("resources");
        self.resources(&resources, &service.resources);
        for key in executors::templates(&service.resources) {
            self.add(
                Diagnostic::at(resources.then(key), format!("`{key}` of service `{name}` is a template"))
                    .wanted("wanted an amount: a service has no item"),
            );
        }
    }

    /// A server of this machine that could never start: it takes more than there is to share, by what the pipeline says.
    fn fits_here(&mut self, at: &TablePath, name: &str, service: &Service) {
        let tables = &self.tables.executors;
        let kind = service.executor.as_ref().map(|name| executors::find(tables, name));
        if !kind.is_none_or(|found| found.is_some_and(|(kind, _)| kind.is_here())) {
            return;
        }
        let (taken, shared) = (executors::of_service(tables, service), executors::shared(tables));
        let amounts = [
            ("cpus", u64::from(taken.cpus), shared.cpus.map(u64::from)),
            ("memory", taken.memory, shared.memory),
            ("gpus", taken.gpus.into(), Some(shared.gpus.into())),
        ];
        for (key, takes, most) in amounts {
            let Some(most) = most.filter(|most| takes > *most) else { continue };
            let amount = |n: u64| if key == "memory" { executors::memory_in_words(n) } else { n.to_string() };
            self.add(
                Diagnostic::at(
                    at.then("resources").then(key),
                    format!(
                        "service `{name}` takes {key} {}, and this machine shares {}",
                        amount(takes),
                        amount(most)
                    ),
                )
                .wanted("it could never start")
                .hint(format!("say less here, or more as `{key}` in `[executors.local]`")),
            );
        }
    }

    /// A name by which a service is meant.
    pub(super) fn service_name(&mut self, at: &TablePath, name: &str) {
        let known = &self.tables.services;
        if !known.contains_key(name) {
            let hint = suggest(name, known.keys().map(String::as_str).collect::<Vec<_>>());
            self.add(
                Diagnostic::at(at, format!("unknown service `{name}`"))
                    .wanted("no such service")
                    .hint(hint.unwrap_or_else(|| format!("add a table `[services.{name}]`"))),
            );
        }
    }
}

fn is_empty(command: &Command) -> bool {
    match command {
        Command::Argv(words) => words.first().is_none_or(|program| program.trim().is_empty()),
        Command::Shell(line) => line.trim().is_empty(),
    }
}
