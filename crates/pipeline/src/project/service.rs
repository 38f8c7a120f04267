//! `[services]`, as a build uses them.

use std::time::Duration;

use super::{CommandSpec, Project, Spec};
use crate::manifest::executors::{self, Taken};
use planexe_base::machine;
use planexe_base::record::Digest;

/// A server for tasks and models.
#[derive(Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// The program.
    pub command: CommandSpec,
    /// How it is known to be ready.
    pub ready: ReadyCheck,
    /// How long it may take until it is.
    pub within: Duration,
    /// Stopped after so long without use.
    pub idle: Option<Duration>,
    /// Position in [`Project::executors`] of where it runs; none if it is a program of the build.
    pub executor: Option<usize>,
    /// What it takes there; no core unless that is said.
    pub taken: Taken,
    /// Of all that makes it the same server.
    pub digest: Digest,
}

/// How a server is known to be ready.
#[derive(Debug, Clone)]
pub enum ReadyCheck {
    /// An address answers.
    Url(String),
    /// A program ends with exit code 0.
    Command(Vec<String>),
}

impl Project {
    /// MiB of memory and GPUs that tasks and services of this machine share.
    pub fn shared_here(&self) -> (u64, u32) {
        let shared = executors::shared(&self.tables.executors);
        (shared.memory.or_else(machine::memory_mebibytes).unwrap_or(u64::MAX), shared.gpus)
    }

    /// What a service takes of this machine; nothing if it runs elsewhere.
    pub fn taken_here(&self, service: &ServiceSpec) -> Taken {
        let is_here = service.executor.is_none_or(|at| self.executors[at].kind.is_here());
        if is_here { service.taken } else { Taken::default() }
    }

    /// The service of a model, by their positions.
    pub fn service_of(&self, endpoint: usize) -> Option<usize> {
        let name = self.endpoints[endpoint].model.service.as_ref()?;
        self.services.iter().position(|service| service.name == *name)
    }

    /// Whether a task may need a service.
    pub fn may_need(&self, spec: &Spec, service: usize) -> bool {
        let of_calls = spec.commands().filter_map(|command| command.calls).map(|calls| calls.endpoint);
        let mut models = spec.prompts().flat_map(|prompt| prompt.models.iter().copied()).chain(of_calls);
        spec.service == Some(service) || models.any(|model| self.service_of(model) == Some(service))
    }
}
