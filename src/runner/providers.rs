//! The models of a build: each made when it is first asked, with what the policy must know of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::keys::{KeyRing, Redactor};
use crate::llm::retry::{Budgets, ModelFacts, Next, Policy};
use crate::llm::{self, CallError, Class, Provider, Setup};
use crate::project::{Project, PromptSpec, Spec};

/// A provider, or why there is none.
type Made = Result<Box<dyn Provider>, CallError>;

/// The models by endpoint.
pub struct Providers {
    project: Arc<Project>,
    keys: KeyRing,
    hidden_env: Vec<String>,
    redactor: Redactor,
    made: Vec<OnceLock<Made>>,
    closed: Vec<AtomicBool>,
    /// Varies the jitter of pauses from build to build.
    seed: u64,
}

impl Providers {
    /// None is made yet.
    pub fn new(project: Arc<Project>, keys: KeyRing, hidden_env: Vec<String>, seed: u64) -> Providers {
        let redactor = keys.redactor(hidden_env.iter().map(String::as_str));
        let count = project.endpoints.len();
        Providers {
            project,
            keys,
            hidden_env,
            redactor,
            made: (0..count).map(|_| OnceLock::new()).collect(),
            closed: (0..count).map(|_| AtomicBool::new(false)).collect(),
            seed,
        }
    }

    /// The provider of an endpoint.
    pub fn get(&self, endpoint: usize) -> Result<&dyn Provider, CallError> {
        let made = self.made[endpoint].get_or_init(|| {
            let table = &self.project.endpoints[endpoint];
            let setup = Setup {
                name: &table.name,
                folder: &self.project.folder,
                keys: &self.keys,
                hidden_env: &self.hidden_env,
                calibration: None,
            };
            llm::provider(&table.model, &setup)
        });
        match made {
            Ok(provider) => Ok(provider.as_ref()),
            Err(error) => Err(error.clone()),
        }
    }

    /// Faults of the set-up that must be told before anything runs: of endpoints that will be asked.
    pub fn faults(&self, endpoints: &[usize]) -> Vec<CallError> {
        let of = |&endpoint: &usize| self.get(endpoint).err();
        endpoints.iter().filter_map(of).filter(|error| matches!(error.class, Class::Auth | Class::Config)).collect()
    }

    /// An endpoint takes no more calls in this build.
    pub fn close(&self, endpoint: usize) {
        self.closed[endpoint].store(true, Ordering::Relaxed);
    }

    /// Whether it takes none.
    pub fn is_closed(&self, endpoint: usize) -> bool {
        self.closed[endpoint].load(Ordering::Relaxed)
    }

    /// An error without any known key in it.
    pub fn redacted(&self, mut error: CallError) -> CallError {
        for text in [&mut error.message, &mut error.raw, &mut error.partial] {
            *text = self.redactor.redact(text);
        }
        error
    }

    /// What follows a failed attempt of a prompt at one of its models.
    pub fn next(
        &self,
        budgets: &mut Budgets,
        error: &CallError,
        prompt: &PromptSpec,
        at: usize,
        spec: &Spec,
    ) -> Next {
        let models: Vec<ModelFacts> = prompt
            .models
            .iter()
            .map(|&endpoint| {
                let model = &self.project.endpoints[endpoint].model;
                ModelFacts::of(model, self.is_closed(endpoint))
            })
            .collect();
        let policy = Policy::new(
            spec.retry.as_ref().or(self.project.endpoints[prompt.models[at]].model.retry.as_ref()),
            prompt.max_validation_retries,
        );
        budgets.next(error, &models, at, &policy, self.seed)
    }
}
