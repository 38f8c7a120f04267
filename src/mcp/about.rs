//! Tools that tell what there is to choose from: pipelines, profiles, models, examples.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::Text;
use super::summary::without_nulls;
use super::tool_error::ToolError;
use super::{Context, Pipeline, Server, protocol};
use crate::ops::keys::key_of;
use planexe_base::exit;
use planexe_base::fs;
use planexe_llm::base_url;
use planexe_llm::keys::Site;
use planexe_pipeline::manifest::{Api, Manifest, ReadOptions, suggest};
use planexe_pipeline::project::Endpoint;
use planexe_store::host::host_name;

/// Where examples stand beside a pipeline.
const EXAMPLES: &str = "examples";
/// A plan of an example is no longer than this.
const LONGEST: u64 = 1 << 20;

/// What a tool takes that tells of a pipeline.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Of {
    /// Of this pipeline [default: the first]
    pipeline: Option<Text>,
}

/// `server_info` takes nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The pipeline of a name, or the default.
pub(super) fn pipeline<'a>(server: &'a Server, name: Option<&str>) -> Result<&'a Pipeline, ToolError> {
    let Some(name) = name else {
        return server.pipelines.first().ok_or_else(|| {
            ToolError::new("PIPELINE_NOT_FOUND", "this server has no pipeline")
                .hint("a person starts it with `planexe mcp --pipeline FILE`")
        });
    };
    server.pipelines.iter().find(|pipeline| pipeline.name == name).ok_or_else(|| {
        let names = server.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>();
        let fault = ToolError::new("PIPELINE_NOT_FOUND", format!("this server has no pipeline `{name}`"));
        fault.hint(suggest(name, names).unwrap_or_default())
    })
}

/// Reads a pipeline with a profile. Faults elsewhere in it do not count here.
fn manifest(server: &Server, pipeline: &Pipeline, profile: Option<&str>) -> Result<Manifest, ToolError> {
    let options = ReadOptions {
        profile: profile.map(str::to_owned),
        defines: server.base.place.defines.clone(),
        allow_outside: server.base.place.allow_outside.clone(),
    };
    let read = match &pipeline.file {
        Some(file) => Manifest::read_all(file, &options),
        None => {
            let text = bundled(server, "pipeline.toml").unwrap_or_default();
            Manifest::from_text(Path::new("pipeline.toml"), text.to_owned(), &options)
        }
    };
    read.map(|(manifest, _)| manifest)
        .map_err(|faults| ToolError::new("PIPELINE_FAULTS", faults.render(false, 100).trim_end()))
}

fn bundled(server: &Server, path: &str) -> Option<&'static str> {
    server.base.bundle.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// Whether a pipeline has a profile.
pub(super) fn check_profile(server: &Server, of: &Pipeline, profile: Option<&str>) -> Result<(), ToolError> {
    let Some(name) = profile else { return Ok(()) };
    let tables = manifest(server, of, None)?.tables;
    if tables.profiles.contains_key(name) {
        return Ok(());
    }
    let names = tables.profiles.keys().map(String::as_str).collect::<Vec<_>>();
    let fault = ToolError::new("PROFILE_NOT_FOUND", format!("`{}` has no profile `{name}`", of.name));
    Err(fault.hint(suggest(name, names).unwrap_or_else(|| "it has none: leave `profile` out".to_owned())))
}

/// An example: its folder's name, its plan, and the profile that plays recorded answers to it.
struct Example {
    name: String,
    plan: String,
    profile: Option<(String, Option<String>)>,
}

fn examples(server: &Server, of: &Pipeline) -> Result<Vec<Example>, ToolError> {
    let tables = manifest(server, of, None)?.tables;
    let mut plans: Vec<(String, String)> = Vec::new();
    match of.file.as_ref().and_then(|file| file.parent()) {
        Some(folder) => {
            let folder = folder.join(EXAMPLES);
            for (name, _) in fs::list_dir(&folder)? {
                let Some(name) = name.to_str() else { continue };
                if let Ok(bytes) = fs::read_capped(&folder.join(name).join("plan.txt"), LONGEST) {
                    plans.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
        }
        None => {
            for (path, text) in server.base.bundle {
                let name = path.strip_prefix("examples/").and_then(|rest| rest.strip_suffix("/plan.txt"));
                plans.extend(name.map(|name| (name.to_owned(), (*text).to_owned())));
            }
        }
    }
    let player = |name: &str| {
        let beside = format!("{EXAMPLES}/{name}/");
        let plays = |file: Option<&String>| file.is_some_and(|file| file.starts_with(&beside));
        let found = tables.profiles.iter().find(|(_, profile)| {
            profile
                .models
                .values()
                .any(|model| model.api == Some(Api::Recorded) && plays(model.file.as_ref()))
        });
        found.map(|(name, profile)| (name.clone(), profile.description.clone()))
    };
    Ok(plans.into_iter().map(|(name, plan)| Example { profile: player(&name), name, plan }).collect())
}

/// Whole prompts.
pub(super) fn example_prompts(context: &Context<'_>, of: Of) -> Result<Value, ToolError> {
    let pipeline = pipeline(context.server, of.pipeline.as_deref())?;
    let prompts: Vec<Value> = examples(context.server, pipeline)?
        .into_iter()
        .map(|example| {
            let profile = example.profile.map(|(name, _)| name);
            json!({ "name": example.name, "prompt": example.plan.trim_end(), "profile": profile })
        })
        .collect();
    Ok(json!({ "pipeline": pipeline.name, "prompts": prompts }))
}

/// Plans that need no model.
pub(super) fn example_plans(context: &Context<'_>, of: Of) -> Result<Value, ToolError> {
    let pipeline = pipeline(context.server, of.pipeline.as_deref())?;
    let plans: Vec<Value> = examples(context.server, pipeline)?
        .into_iter()
        .filter_map(|example| {
            let (profile, description) = example.profile?;
            let title = example.plan.lines().next().unwrap_or_default();
            let create = format!(
                "`plan_create` with `profile: \"{profile}\"` and the prompt `{}` of `example_prompts`",
                example.name
            );
            Some(json!({
                "name": example.name,
                "title": title,
                "description": description,
                "profile": profile,
                "create": create,
            }))
        })
        .collect();
    Ok(json!({ "pipeline": pipeline.name, "plans": plans }))
}

/// Profiles and their models.
pub(super) fn model_profiles(context: &Context<'_>, of: Of) -> Result<Value, ToolError> {
    let server = context.server;
    let pipeline = pipeline(server, of.pipeline.as_deref())?;
    let ring = server.base.session(Path::new(".")).keys()?;
    let base = manifest(server, pipeline, None)?;
    let names = base.tables.profiles.keys().map(|name| Some(name.as_str()));
    let mut profiles = Vec::new();
    for name in std::iter::once(None).chain(names) {
        let tables = manifest(server, pipeline, name)?.tables;
        let models: Vec<Value> = (tables.models.iter())
            .map(|(model_name, model)| {
                let endpoint = Endpoint { name: model_name.clone(), model: model.clone() };
                let key = key_of(&endpoint, &ring);
                let is_program = model.api.is_some_and(|api| api == Api::Command || api.is_agent());
                let asked = !is_program && !matches!(model.api, Some(Api::Recorded | Api::Simulated));
                let host = Site::of(base_url(model)).ok().map(|site| site.binding()).filter(|_| asked);
                json!({
                    "name": model_name,
                    "api": endpoint.api(),
                    "model": endpoint.model_name(),
                    "host": host,
                    "price_usd_per_million": model.price.map(|price| json!({
                        "input": price.input,
                        "output": price.output,
                        "cached": price.cached.unwrap_or(price.input),
                        "cache_write": price.cache_write.unwrap_or(price.input),
                    })),
                    "context_window": model.context_window,
                    "calls_at_once": model.max_concurrent,
                    "key_variable": key.variable,
                    "ready": key.problem.is_none(),
                    "problem": key.problem,
                })
            })
            .collect();
        profiles.push(json!({
            "profile": name,
            "description": name.and_then(|name| tables.profiles.get(name)?.description.clone()),
            "models": models.into_iter().map(without_nulls).collect::<Vec<_>>(),
        }));
    }
    Ok(json!({
        "pipeline": pipeline.name,
        "default_profile": server.profile,
        "profiles": profiles,
    }))
}

/// The server.
pub(super) fn server_info(context: &Context<'_>) -> Result<Value, ToolError> {
    let server = context.server;
    let pipelines: Vec<Value> = (server.pipelines.iter().enumerate())
        .map(|(at, pipeline)| json!({ "name": pipeline.name, "default": at == 0, "built_in": pipeline.file.is_none() }))
        .collect();
    let versions: Vec<&str> = std::iter::once(protocol::MODERN).chain(protocol::LEGACY).collect();
    Ok(json!({
        "name": "planexe",
        "version": env!("CARGO_PKG_VERSION"),
        "host": host_name(),
        "pid": std::process::id(),
        "runs_root": server.runs.root().display().to_string(),
        "plans": server.runs.list_named(false).map_err(exit::Error::from)?.len(),
        "pipelines": pipelines,
        "default_profile": server.profile,
        "builds_allowed": server.may_build,
        "max_builds": server.max_builds,
        "protocol_versions": versions,
    }))
}
