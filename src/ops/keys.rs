//! The key of each model: which variable it is in, and where it may go.

use planexe_llm::base_url;
use planexe_llm::keys::{KeyError, KeyRing, Site};
use planexe_pipeline::load::Locations;
use planexe_pipeline::manifest::types::{Api, Model};
use planexe_pipeline::manifest::{Diagnostics, Manifest};
use planexe_pipeline::project::Endpoint;
use schemars::JsonSchema;
use serde::Serialize;

/// The key of one model, as data; never its value.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct KeyView {
    /// The model's name in the pipeline.
    pub model: String,
    /// The variable; none if the model is asked without a key.
    pub variable: Option<String>,
    /// Where it would go.
    pub host: Option<String>,
    /// Whether it may.
    pub bound: bool,
    /// Whether it has a value.
    pub set: bool,
    /// What stands in the way.
    pub problem: Option<String>,
    /// What to type about it.
    pub remedy: Option<String>,
}

/// The models of a pipeline, read alone; faults elsewhere in it do not count.
pub fn models_of(locations: &Locations) -> Result<Vec<Endpoint>, Diagnostics> {
    let (manifest, _) = Manifest::read_all(&locations.pipeline, &locations.options)?;
    let endpoint = |(name, model): (&String, &Model)| Endpoint { name: name.clone(), model: model.clone() };
    Ok(manifest.tables.models.iter().map(endpoint).collect())
}

/// What is to be known of a model's key.
pub fn key_of(endpoint: &Endpoint, ring: &KeyRing) -> KeyView {
    let model = endpoint.name.clone();
    let Some(env) = endpoint.model.api_key_env.clone() else {
        return KeyView {
            model,
            variable: None,
            host: None,
            bound: true,
            set: true,
            problem: None,
            remedy: None,
        };
    };
    if endpoint.model.api.is_some_and(|api| api == Api::Command || api.is_agent()) {
        let (set, problem, remedy) = (ring.value(&env).is_some(), None, None);
        return KeyView { model, variable: Some(env), host: None, bound: true, set, problem, remedy };
    }
    let url = base_url(&endpoint.model);
    let site = Site::of(url);
    let host = site.as_ref().ok().map(Site::binding);
    let mut view = KeyView {
        model,
        host,
        bound: true,
        set: ring.value(&env).is_some(),
        problem: None,
        remedy: None,
        variable: None,
    };
    if let Err(error) = ring.resolve(&env, url) {
        view.bound = !matches!(error, KeyError::NotBound { .. } | KeyError::Plain { .. } | KeyError::Url(_));
        let message = error.message();
        view.remedy = message.advice();
        view.problem = Some(message.text);
    }
    view.variable = Some(env);
    view
}
