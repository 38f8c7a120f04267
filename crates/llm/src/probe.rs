//! Short questions to a server: whether it is up, has the model, and how large its context is. Used while waiting for a
//! server and by `planexe doctor`; never part of a call.

use std::time::Duration;

use serde_json::Value;

use super::classify::Said;
use super::http::Endpoint;
use super::{CallError, Class, Setup, base_url, one_line};
use crate::config::{Api, Model, Server};
use planexe_base::style::count;

/// How long a probe may take.
const BRIEF: Duration = Duration::from_secs(3);

/// Whether a server can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers, and takes requests.
    Up,
    /// It answers that it is loading.
    Loading(String),
    /// It does not answer; why.
    Away(String),
    /// There is no way to tell without a call.
    Unknown,
}

/// What a server tells about itself and a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Whether it answered at all; if not, `note` says why.
    pub reachable: bool,
    /// Whether it takes the key (or needs none); None if it did not come to that.
    pub key_accepted: Option<bool>,
    /// Whether it lists the model; None if it lists none. llama.cpp answers any name with the model it has.
    pub model_present: Option<bool>,
    /// Whether it has the model in memory; None if it does not tell.
    pub loaded: Option<bool>,
    /// The names it lists, at most 1,000.
    pub models: Vec<String>,
    /// Tokens it can really hold for one call: what it has allocated, where it tells.
    pub context_window: Option<u64>,
    /// Calls it works on at once.
    pub slots: Option<u32>,
    /// Its version, if it tells.
    pub version: Option<String>,
    /// Why it answers and yet takes no calls for now: loading, or broken.
    pub unready: Option<String>,
    /// Which program it is, if that shows.
    pub server: Option<Server>,
    /// What a person should know: why it is not reachable, that the model is not there.
    pub note: Option<String>,
}

/// The status a GET of an address answers with, without any key.
pub fn status_of(url: &str, setup: &Setup<'_>) -> Result<u16, CallError> {
    let after = url.find("://").map_or(0, |at| at + 3);
    let root = url[after..].find(['/', '?']).map_or(url, |at| &url[..after + at]);
    let path = url[root.len()..].trim_start_matches('/');
    let model = Model { base_url: Some(root.to_owned()), model: Some("none".to_owned()), ..Model::default() };
    let (status, _) = Endpoint::new(&model, setup)?.get(&format!("/{path}"), &[], BRIEF)?;
    Ok(status)
}

/// Asks a model's server what it is and has. Errors are faults of the set-up; a server that does not answer
/// is a fact.
pub fn facts(model: &Model, setup: &Setup<'_>) -> Result<Facts, CallError> {
    match model.api {
        Some(Api::Openai | Api::Anthropic | Api::Ollama) => {}
        Some(_) => {
            super::provider(model, setup)?;
            return Ok(Facts { reachable: true, ..Facts::default() });
        }
        None => {
            return Err(CallError::new(Class::Config, format!("models.{}: `api` is missing", setup.name)));
        }
    }
    let endpoint = Endpoint::new(model, setup)?;
    let ask = Ask { endpoint: &endpoint, api: model.api };
    let mut facts = Facts::default();
    let list = match model.api {
        Some(Api::Ollama) => "api/tags",
        Some(Api::Anthropic) => "v1/models?limit=1000",
        _ => "models",
    };
    let (status, listed) = match ask.get(list) {
        Ok(answer) => answer,
        Err(error) => {
            facts.note = Some(error.message.text);
            return Ok(facts);
        }
    };
    facts.reachable = true;
    facts.key_accepted = Some(!matches!(status, 401 | 403));
    if status == 401 || status == 403 {
        let env = model.api_key_env.as_deref().unwrap_or("api_key_env");
        facts.note = Some(format!("{} does not take the key of `{env}` (HTTP {status})", base_url(model)));
        return Ok(facts);
    }
    if status >= 500 {
        let said = Said::of(&listed).map(|said| said.message).filter(|message| !message.is_empty());
        let said = said.map_or(String::new(), |said| format!(": {}", one_line(&said, None)));
        facts.unready = Some(format!("HTTP {status}{said}"));
        return Ok(facts);
    }
    if status == 404 || listed.is_null() {
        let what =
            if status == 200 { "something that is no JSON".to_owned() } else { format!("HTTP {status}") };
        facts.note = Some(format!("its list of models at {}/{list} answers with {what}", endpoint.base));
    }
    let entries = listed.get("data").or(listed.get("models")).and_then(Value::as_array);
    for entry in entries.into_iter().flatten().take(1000) {
        let Some(name) = entry.get("id").or(entry.get("name")).and_then(Value::as_str) else { continue };
        facts.models.push(one_line(name, None));
        if same_model(name, &endpoint.model, model.api) {
            facts.model_present = Some(true);
            let number = |pointer: &str| entry.pointer(pointer).and_then(Value::as_u64);
            facts.context_window =
                number("/meta/n_ctx").or(number("/max_model_len")).or(number("/context_length"));
        }
    }
    if !facts.models.is_empty() {
        facts.model_present.get_or_insert(false);
    }
    match model.api {
        Some(Api::Ollama) => ask.ollama(&mut facts),
        Some(Api::Openai) => ask.openai(model, entries, &mut facts),
        _ => {}
    }
    if facts.model_present == Some(false) && facts.server != Some(Server::LlamaCpp) {
        facts.note = Some(format!(
            "`{}` is not among the {} there",
            endpoint.model,
            count(facts.models.len() as u64, "model")
        ));
    }
    Ok(facts)
}

/// Ollama's names have a tag; without one `:latest` is meant.
fn same_model(listed: &str, wanted: &str, api: Option<Api>) -> bool {
    listed == wanted || (api == Some(Api::Ollama) && listed.strip_suffix(":latest") == Some(wanted))
}

struct Ask<'a> {
    endpoint: &'a Endpoint,
    api: Option<Api>,
}

impl Ask<'_> {
    /// A GET's status and JSON (null if it is none).
    fn get(&self, path: &str) -> Result<(u16, Value), CallError> {
        let bearer = self.endpoint.bearer();
        let mut headers = Vec::new();
        match (self.api, &self.endpoint.secret, &bearer) {
            (Some(Api::Anthropic), Some(secret), _) => {
                headers.extend([("x-api-key", secret.expose()), ("anthropic-version", "2023-06-01")]);
            }
            (_, _, Some(bearer)) => headers.push(("authorization", bearer)),
            _ => {}
        }
        let (status, body) = self.endpoint.get(path, &headers, BRIEF)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    fn found(&self, path: &str) -> Option<Value> {
        self.get(path).ok().filter(|(status, value)| *status == 200 && value.is_object()).map(|(_, v)| v)
    }

    fn ollama(&self, facts: &mut Facts) {
        facts.server = Some(Server::Ollama);
        if let Some(version) = self.found("api/version") {
            facts.version = version.get("version").and_then(Value::as_str).map(|v| one_line(v, None));
        }
        let running = self.found("api/ps").unwrap_or_default();
        let running = running.get("models").and_then(Value::as_array);
        facts.loaded = running.map(|_| false);
        for entry in running.into_iter().flatten() {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            if same_model(name, &self.endpoint.model, self.api) {
                facts.loaded = Some(true);
                facts.context_window = entry.get("context_length").and_then(Value::as_u64);
            }
        }
    }

    /// The programs that tell more than a list, each where it is likely or said to be.
    fn openai(&self, model: &Model, listed: Option<&Vec<Value>>, facts: &mut Facts) {
        let owner = listed.and_then(|list| list.first()).and_then(|entry| entry.get("owned_by")?.as_str());
        let server =
            model.server.or(match (owner, self.endpoint.site.host.as_str(), self.endpoint.site.port) {
                (Some("llamacpp"), ..) => Some(Server::LlamaCpp),
                (Some("vllm"), ..) => Some(Server::Vllm),
                (_, "api.openai.com", _) => Some(Server::Openai),
                (_, "openrouter.ai", _) => Some(Server::OpenRouter),
                (_, _, 1234) if self.endpoint.local => Some(Server::LmStudio),
                (_, _, 11434) if self.endpoint.local => Some(Server::Ollama),
                _ => None,
            });
        facts.server = server;
        match server {
            Some(Server::LlamaCpp) => {
                let props = self.found("/props").unwrap_or_default();
                let number = |pointer: &str| props.pointer(pointer).and_then(Value::as_u64);
                facts.context_window = number("/default_generation_settings/n_ctx").or(facts.context_window);
                facts.slots = number("/total_slots").and_then(|slots| u32::try_from(slots).ok());
                facts.version = props.get("build_info").and_then(Value::as_str).map(|v| one_line(v, None));
            }
            Some(Server::LmStudio) => {
                let models = self.found("/api/v1/models").unwrap_or_default();
                for entry in models.get("models").and_then(Value::as_array).into_iter().flatten() {
                    // A model is asked for by the name of what is loaded, or by its own.
                    let is_meant = |name: &Value| name.as_str() == Some(&self.endpoint.model);
                    let is_model = entry.get("key").is_some_and(is_meant);
                    if is_model {
                        facts.loaded.get_or_insert(false);
                    }
                    let loaded = entry.get("loaded_instances").and_then(Value::as_array);
                    for instance in loaded.into_iter().flatten() {
                        if is_model || instance.get("id").is_some_and(is_meant) {
                            facts.loaded = Some(true);
                            facts.context_window =
                                instance.pointer("/config/context_length").and_then(Value::as_u64);
                        }
                    }
                }
            }
            Some(Server::Ollama) => {
                let key = self.found("/api/version");
                facts.version = key.and_then(|v| Some(one_line(v.get("version")?.as_str()?, None)));
            }
            Some(Server::Vllm) => {
                let version = self.found("/version");
                facts.version = version.and_then(|v| Some(one_line(v.get("version")?.as_str()?, None)));
            }
            _ => {}
        }
    }
}

/// Health of an openai endpoint: llama.cpp and vLLM have a path for it, the others list their models.
pub(super) fn openai_health(endpoint: &Endpoint, server: Server) -> Health {
    match server {
        Server::LlamaCpp | Server::Vllm => plain_health(endpoint, "/health"),
        // `/health` may not exist there, but a llama.cpp not yet known as one is loading behind it.
        _ if endpoint.local => match plain_health(endpoint, "/health") {
            Health::Loading(why) => Health::Loading(why),
            Health::Away(why) => Health::Away(why),
            _ => plain_health(endpoint, "models"),
        },
        _ => plain_health(endpoint, "models"),
    }
}

/// Health by one GET: any answer but a 502 or 503 is one of a server that is up, if only to refuse.
pub(super) fn plain_health(endpoint: &Endpoint, path: &str) -> Health {
    // Without the key: a refusal tells as much as an answer.
    match endpoint.get(path, &[], BRIEF) {
        Ok((502 | 503, body)) => {
            let said = Said::read(&String::from_utf8_lossy(&body)).unwrap_or_default();
            Health::Loading(one_line(&said.message, endpoint.secret.as_ref()))
        }
        Ok(_) => Health::Up,
        Err(error) => Health::Away(error.message.text),
    }
}

/// Tokens of a prompt as a server counts them, which costs nothing: Anthropic's and llama.cpp's `input_tokens`,
/// vLLM's `count`. None if it does not say.
pub(super) fn count_tokens(
    endpoint: &Endpoint,
    path: &str,
    body: &Value,
    headers: &[(&str, &str)],
) -> Option<u64> {
    let bytes = serde_json::to_vec(body).ok()?;
    let (status, answer) = endpoint.brief(path, Some(&bytes), headers, BRIEF).ok()?;
    let answer: Value = serde_json::from_slice(&answer).ok().filter(|_| status == 200)?;
    answer.get("input_tokens").or(answer.get("count")).and_then(Value::as_u64).filter(|count| *count > 0)
}

/// Whether a server on this machine is at work on a call. llama.cpp tells by its slots (`GET /slots`: a list,
/// `is_processing` in each; before 2024 `state`, 0 for idle), vLLM by its metrics (`vllm:num_requests_running`
/// and `_waiting`). None of the others does: what Ollama's `/api/ps` and LM Studio's `/api/v1/models` list is
/// loaded, whether it is at work or not.
pub(super) fn is_busy(endpoint: &Endpoint, server: Server) -> Option<bool> {
    if !endpoint.local {
        return None;
    }
    let bearer = endpoint.bearer();
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let get = |path| endpoint.get(path, &headers, BRIEF).ok().filter(|(status, _)| *status == 200);
    match server {
        Server::Vllm => running(&String::from_utf8_lossy(&get("/metrics")?.1)),
        // One whose first call ran out of time may not have said yet that it is a llama.cpp.
        Server::LlamaCpp | Server::Other => at_work(&serde_json::from_slice(&get("/slots")?.1).ok()?),
        _ => None,
    }
}

/// Whether one of llama.cpp's slots is at work.
fn at_work(slots: &Value) -> Option<bool> {
    let of = |slot: &Value| {
        let flag = slot.get("is_processing").and_then(Value::as_bool);
        flag.or_else(|| slot.get("state").and_then(Value::as_u64).map(|state| state != 0))
    };
    let states: Option<Vec<bool>> = slots.as_array()?.iter().map(of).collect();
    states.filter(|states| !states.is_empty()).map(|states| states.contains(&true))
}

/// Whether vLLM's metrics count a request that runs or waits.
fn running(metrics: &str) -> Option<bool> {
    let of = |line: &str| {
        let named = ["vllm:num_requests_running", "vllm:num_requests_waiting"]
            .iter()
            .any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        line.rsplit(' ').next().filter(|_| named)?.parse::<f64>().ok()
    };
    let counts: Vec<f64> = metrics.lines().filter_map(of).collect();
    (!counts.is_empty()).then(|| counts.iter().any(|count| *count > 0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_tells_what_it_is_at_is_understood() {
        for (slots, busy) in [
            (json!([{ "id": 0, "is_processing": false }, { "id": 1, "is_processing": true }]), Some(true)),
            (json!([{ "id": 0, "is_processing": false }]), Some(false)),
            (json!([{ "id": 0, "state": 1 }]), Some(true)),
            (json!([{ "id": 0, "state": 0 }]), Some(false)),
            (json!([{ "id": 0 }]), None),
            (json!([]), None),
            (json!({ "error": { "code": 501 } }), None),
        ] {
            assert_eq!(at_work(&slots), busy, "{slots}");
        }
        let metrics = |running: &str, waiting: &str| {
            format!(
                "# HELP vllm:num_requests_running Number of requests\n# TYPE vllm:num_requests_running gauge\n\
                 vllm:num_requests_running{{engine=\"0\",model_name=\"a b\"}} {running}\n\
                 vllm:num_requests_waiting{{engine=\"0\",model_name=\"a b\"}} {waiting}\n\
                 vllm:num_requests_running_max 7\n"
            )
        };
        assert_eq!(running(&metrics("1.0", "0.0")), Some(true));
        assert_eq!(running(&metrics("0.0", "2.0")), Some(true));
        assert_eq!(running(&metrics("0.0", "0.0")), Some(false));
        assert_eq!(running("python_gc_objects_collected_total 7\n"), None);
    }
}
