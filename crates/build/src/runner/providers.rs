//! The models of a build: each made when it is first asked, with what the policy must know of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use planexe_base::process::Lifeline;
use planexe_base::record::Digest;
use planexe_llm::ceiling::{Ceiling, Most};
use planexe_llm::estimate::Calibration;
use planexe_llm::keys::{self, KeyRing, Redactor};
use planexe_llm::relay::upstream::Upstream;
use planexe_llm::retry::{Budgets, Failed, ModelFacts, Next, Policy};
use planexe_llm::rng::Rng;
use planexe_llm::{self as llm, CallError, Class, Provider, Reply, Setup, Usage};
use planexe_pipeline::manifest::types::Model;
use planexe_pipeline::project::at_node;
use planexe_pipeline::project::{Endpoint, Project, PromptSpec, Spec};

/// A provider, or why there is none.
type Made = Result<Box<dyn Provider>, CallError>;

/// The models by endpoint.
pub struct Providers {
    project: Arc<Project>,
    keys: KeyRing,
    lifeline: Arc<Lifeline>,
    /// What earlier builds learned of tokenizers, by endpoint and model.
    learned: BTreeMap<String, Calibration>,
    redactor: Redactor,
    made: Vec<OnceLock<Made>>,
    /// Their servers, for calls of tasks' own programs.
    upstreams: Vec<OnceLock<Result<Option<Upstream>, CallError>>>,
    /// The hosts their services run on, for addresses with `{{ node }}`.
    nodes: Vec<OnceLock<String>>,
    /// Why an endpoint takes no more calls for now.
    closed: Vec<Mutex<Option<CallError>>>,
    /// Whether an endpoint has answered in this build.
    answered: Vec<AtomicBool>,
    /// What the calls of this build may come to, and what they have used so far.
    pub ceiling: Arc<Ceiling>,
    /// Varies the jitter of pauses from build to build.
    seed: u64,
    /// Waits are measured from here, not by the clock on the wall, which may jump.
    began: Instant,
}

impl Providers {
    /// None is made yet.
    pub fn new(
        project: Arc<Project>,
        keys: KeyRing,
        lifeline: Arc<Lifeline>,
        learned: BTreeMap<String, Calibration>,
        seed: u64,
        most: Most,
    ) -> Providers {
        let hidden = keys::hidden();
        let redactor = keys.redactor(hidden.iter().map(String::as_str));
        let count = project.endpoints.len();
        Providers {
            project,
            keys,
            lifeline,
            learned,
            redactor,
            made: (0..count).map(|_| OnceLock::new()).collect(),
            upstreams: (0..count).map(|_| OnceLock::new()).collect(),
            nodes: (0..count).map(|_| OnceLock::new()).collect(),
            closed: (0..count).map(|_| Mutex::default()).collect(),
            answered: (0..count).map(|_| AtomicBool::new(false)).collect(),
            ceiling: Arc::new(Ceiling::new(most)),
            seed,
            began: Instant::now(),
        }
    }

    /// The provider of an endpoint.
    pub fn get(&self, endpoint: usize) -> Result<&dyn Provider, CallError> {
        let made = self.made[endpoint].get_or_init(|| {
            let table = &self.project.endpoints[endpoint];
            llm::provider(&self.model(endpoint), &self.setup(table))
        });
        match made {
            Ok(provider) => Ok(provider.as_ref()),
            Err(error) => Err(error.clone()),
        }
    }

    /// The table of an endpoint, with the host of its service in its address.
    fn model(&self, endpoint: usize) -> Cow<'_, Model> {
        let model = &self.project.endpoints[endpoint].model;
        match (&model.base_url, self.nodes[endpoint].get()) {
            (Some(url), Some(node)) if model.service.is_some() => {
                Cow::Owned(Model { base_url: Some(at_node(url, node)), ..model.clone() })
            }
            _ => Cow::Borrowed(model),
        }
    }

    /// The service of an endpoint is up, on this host.
    pub fn serve(&self, endpoint: usize, node: Option<String>) {
        if let Some(node) = node {
            let _ = self.nodes[endpoint].set(node);
        }
    }

    /// The status an address answers with.
    pub fn status_of(&self, url: &str) -> Result<u16, CallError> {
        let (name, folder, keys, lifeline) = ("service", &*self.project.folder, &self.keys, &self.lifeline);
        let setup = Setup { name, folder, keys, lifeline, calibration: None, ceiling: None };
        llm::probe::status_of(url, &setup)
    }

    fn setup<'a>(&'a self, table: &'a Endpoint) -> Setup<'a> {
        Setup {
            name: &table.name,
            folder: &self.project.folder,
            keys: &self.keys,
            lifeline: &self.lifeline,
            calibration: self.learned.get(&learned_name(table)).copied(),
            ceiling: Some(&self.ceiling),
        }
    }

    /// The server of an endpoint, as calls of tasks' own programs reach it; none for a model without one.
    pub fn upstream(&self, endpoint: usize) -> Result<Option<&Upstream>, CallError> {
        let made = self.upstreams[endpoint].get_or_init(|| {
            let table = &self.project.endpoints[endpoint];
            Upstream::new(&self.model(endpoint), &self.setup(table))
        });
        made.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// A text without any known key in it.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// What a program printed, without any known key in it.
    pub fn redact_printed(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.redactor.redact_bytes(bytes)
    }

    /// What is known of tokenizers now, by endpoint and model.
    pub fn learned(&self) -> BTreeMap<String, Calibration> {
        let mut learned = self.learned.clone();
        for (table, made) in self.project.endpoints.iter().zip(&self.made) {
            if let Some(Ok(provider)) = made.get()
                && let Some(calibration) = provider.calibration()
            {
                learned.insert(learned_name(table), calibration);
            }
        }
        learned
    }

    /// Faults of the set-up that must be told before anything runs: of endpoints that will be asked.
    pub fn faults(&self, endpoints: &[usize]) -> Vec<CallError> {
        // What a service serves is known once that runs.
        let is_at_node = |endpoint: &&usize| {
            let model = &self.project.endpoints[**endpoint].model;
            model.service.is_some() && model.base_url.as_ref().is_some_and(|url| url.contains("{{"))
        };
        let of = |&endpoint: &usize| self.get(endpoint).err();
        endpoints
            .iter()
            .filter(|endpoint| !is_at_node(endpoint))
            .filter_map(of)
            .filter(|error| matches!(error.class, Class::Auth | Class::Config))
            .collect()
    }

    /// An endpoint takes no more calls in this build, or until it is opened again.
    pub fn close(&self, endpoint: usize, why: &CallError) {
        self.closed(endpoint).get_or_insert_with(|| why.clone());
    }

    /// An endpoint that was closed because its server was away is open again.
    pub fn open_again(&self, endpoint: usize) {
        let mut closed = self.closed(endpoint);
        let away =
            |why: &CallError| matches!(why.class, Class::ServerLoading | Class::Connection | Class::Timeout);
        if closed.as_ref().is_some_and(away) {
            *closed = None;
        }
    }

    /// Why it takes none.
    pub fn closed_by(&self, endpoint: usize) -> Option<CallError> {
        self.closed(endpoint).clone()
    }

    /// Whether it takes none.
    pub fn is_closed(&self, endpoint: usize) -> bool {
        self.closed(endpoint).is_some()
    }

    fn closed(&self, endpoint: usize) -> MutexGuard<'_, Option<CallError>> {
        self.closed[endpoint].lock()
    }

    /// What all calls of this build used so far.
    pub fn spent(&self) -> Usage {
        self.ceiling.spent()
    }

    /// An endpoint has answered a call.
    pub fn answers(&self, endpoint: usize) {
        self.answered[endpoint].store(true, Ordering::Relaxed);
    }

    /// Whether it has in this build.
    pub fn has_answered(&self, endpoint: usize) -> bool {
        self.answered[endpoint].load(Ordering::Relaxed)
    }

    /// How long a server is left alone with a call that ran out of time here, after so long: on this machine
    /// it may still be at work on it, and what is asked meanwhile only waits behind it and runs out of time
    /// as well. One that tells that it is busy may take as long again, and is asked sooner once it tells that
    /// it is idle; one that cannot be asked gets a pause.
    pub fn rest(&self, endpoint: usize, after: Duration) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(600);
        const UNTOLD: Duration = Duration::from_secs(60);
        if !llm::is_local(llm::base_url(&self.project.endpoints[endpoint].model)) {
            return None;
        }
        match self.get(endpoint).ok()?.is_busy() {
            Some(true) => Some(after.min(LONGEST)),
            Some(false) => None,
            None => Some(after.min(UNTOLD)),
        }
    }

    /// An answer without any known key in it: a model may repeat what an error message taught it.
    pub fn redacted_reply(&self, mut reply: Reply) -> Reply {
        for text in [&mut reply.text, &mut reply.reasoning] {
            *text = self.redactor.redact(text);
        }
        reply
    }

    /// The part of a text that is still being written which can be shown, without any known key in it; it is taken.
    pub fn take_redacted(&self, text: &mut String) -> String {
        let rest = text.split_off(self.redactor.whole(text.as_bytes()));
        self.redactor.redact(&std::mem::replace(text, rest))
    }

    /// The same of what a program prints.
    pub fn take_redacted_bytes(&self, bytes: &mut Vec<u8>) -> Vec<u8> {
        let rest = bytes.split_off(self.redactor.whole(bytes));
        self.redactor.redact_bytes(std::mem::replace(bytes, rest))
    }

    /// An error without any known key in it.
    pub fn redacted(&self, mut error: CallError) -> CallError {
        error.message = error.message.map(|text| self.redactor.redact(text));
        for text in [&mut error.raw, &mut error.partial] {
            *text = self.redactor.redact(text);
        }
        error
    }

    /// What follows a failed attempt of a prompt at one of its models.
    pub fn next(&self, budgets: &mut Budgets, failed: &Failed<'_>, prompt: &PromptSpec, spec: &Spec) -> Next {
        let now = self.began.elapsed();
        let mut rng = Rng::new(self.seed ^ now.as_nanos() as u64);
        budgets.next(failed, &self.models(prompt, spec), now, &mut rng)
    }

    /// The place in its list of the model a prompt begins with: one that an earlier build left for another is
    /// not asked again.
    pub fn first(&self, budgets: &Budgets, prompt: &PromptSpec, spec: &Spec) -> Option<usize> {
        budgets.first(&self.models(prompt, spec))
    }

    fn models<'a>(&'a self, prompt: &PromptSpec, spec: &Spec) -> Vec<ModelFacts<'a>> {
        let facts = |&at: &usize| {
            let endpoint = &self.project.endpoints[at];
            let retries = Some(prompt.max_validation_retries);
            ModelFacts {
                name: &endpoint.name,
                context_window: endpoint.model.context_window,
                max_output: endpoint.model.max_output,
                closed: self.is_closed(at),
                policy: Policy::of(endpoint.model.retry.as_ref(), spec.retry.as_deref(), retries),
            }
        };
        prompt.models.iter().map(facts).collect()
    }
}

/// What a tokenizer is remembered by.
fn learned_name(endpoint: &Endpoint) -> String {
    format!("{}:{}", endpoint.name, endpoint.model_name())
}

/// By what a model on disk is recognised.
pub fn id_of(endpoint: &Endpoint) -> String {
    let model = &endpoint.model;
    let command = model.command.join("\0");
    let key = model.api_key_env.as_deref().unwrap_or_default();
    let parts = [endpoint.api(), llm::base_url(model), endpoint.model_name(), &command, key];
    Digest::of(parts.join("\0\0").as_bytes()).to_string()
}
