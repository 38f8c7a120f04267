//! Servers for tasks and models, put together from their tables.

use std::time::Duration;

use super::Loader;
use super::spec::line_of;
use crate::manifest::executors;
use crate::manifest::types::{Command, Env, ExecutorKind, Service};
use crate::project::{CommandSpec, ReadyCheck, ServiceSpec};
use planexe_base::record::Digest;

/// How long a server may take until it is ready, where nothing is said.
const READY_WITHIN: Duration = Duration::from_secs(600);

impl Loader<'_> {
    /// Every service. What is missing in one is told elsewhere.
    pub(super) fn services(&self) -> Vec<ServiceSpec> {
        let tables = &self.manifest.tables;
        tables.services.iter().filter_map(|(name, service)| self.service(name, service)).collect()
    }

    fn service(&self, name: &str, service: &Service) -> Option<ServiceSpec> {
        let tables = &self.manifest.tables.executors;
        let executor = service.executor.as_ref().filter(|name| {
            executors::find(tables, name).is_some_and(|(kind, _)| kind != ExecutorKind::Local)
        });
        let executor =
            executor.and_then(|name| executors::names(tables).iter().position(|known| known == name));
        let (env_names, env_set) = match &service.env {
            Some(Env::Names(names)) => (names.clone(), Vec::new()),
            Some(Env::Table(table)) => {
                (Vec::new(), table.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            None => (Vec::new(), Vec::new()),
        };
        let ready = match (&service.ready.url, &service.ready.command) {
            (Some(url), _) => ReadyCheck::Url(url.clone()),
            (None, Some(Command::Argv(words))) => ReadyCheck::Command(words.clone()),
            (None, Some(Command::Shell(line))) => {
                ReadyCheck::Command(vec!["sh".to_owned(), "-c".to_owned(), line.clone()])
            }
            (None, None) => return None,
        };
        let same = (&service.command, &service.executor, &service.env, &service.cwd, &service.resources);
        Some(ServiceSpec {
            name: name.to_owned(),
            command: CommandSpec {
                line: line_of(service.command.as_ref()?),
                stdout: false,
                in_place: true,
                cwd: service.cwd.clone(),
                env_names,
                env_set,
                calls: None,
            },
            ready,
            within: service.ready_within.map_or(READY_WITHIN, |span| span.0),
            idle: service.idle.map(|span| span.0),
            executor,
            taken: executors::of_service(tables, service),
            digest: Digest::of(&serde_json::to_vec(&same).unwrap_or_default()),
        })
    }
}
