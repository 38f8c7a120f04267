//! What a failed call's message says beside what went wrong: which model it was, and what to do about it.

use planexe_base::message::Message;
use planexe_base::style;
use planexe_llm::{CallError, Class, ONLY_REASONING};
use planexe_pipeline::manifest::types::Api;
use planexe_pipeline::project::Endpoint;

/// A message with the model it is about.
pub(super) fn of_model(message: Message, model: &str) -> Message {
    Message { text: format!("{} ({model})", message.text), ..message }
}

/// The model that was asked and where: `local: qwen3 at 127.0.0.1:1234`. The place is left out of messages that
/// name it.
pub(super) fn place_of(endpoint: &Endpoint, message: &str) -> String {
    let (name, model) = (&endpoint.name, endpoint.model_name());
    if !matches!(endpoint.model.api, Some(Api::Openai | Api::Anthropic | Api::Ollama)) {
        return name.clone();
    }
    let url = planexe_llm::base_url(&endpoint.model);
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    match message.contains(host) {
        true => format!("{name}: {model}"),
        false => format!("{name}: {model} at {host}"),
    }
}

/// What to do about a failure that no further attempt will mend: something to type or to write.
pub(super) fn remedy(error: &CallError, endpoint: &Endpoint, task: &str) -> String {
    let (name, show) = (&endpoint.name, format!("`planexe show {}`", style::shell_word(task)));
    match error.class {
        Class::ServerLoading | Class::Connection => "is its server up? `planexe doctor` asks it".into(),
        Class::Auth if endpoint.model.api_key_env.is_none() => {
            let key = format!("name the variable that holds it as `api_key_env` under [models.{name}]");
            match login(endpoint) {
                Some(login) => format!("{login}; where it works with a key, {key}"),
                None => format!("its server wants a key: {key}"),
            }
        }
        Class::Auth => "`planexe keys` shows which key goes where, `planexe doctor` tries it".into(),
        Class::ModelNotFound => "`planexe doctor` lists the models that are there".into(),
        Class::Quota | Class::RateLimit => {
            "`planexe resume` continues once there is money or allowance again".into()
        }
        Class::Truncated => "raise `params.max_tokens`, or name a model with a larger `max_output`".into(),
        Class::ContextOverflow | Class::PromptTruncated => format!(
            "`planexe doctor` shows what the server holds: raise it there and as `context_window` under [models.{name}], \
             or add a model that holds more to the task's `model` list"
        ),
        Class::Timeout => match error.code.as_deref() {
            Some("connect") => "is its server up? `planexe doctor` asks it".into(),
            Some("task") => "raise the task's `timeout`; finished work is kept".into(),
            clock => {
                let clock = clock.map_or(String::new(), |clock| format!(".{clock}"));
                format!("if the server is slow and not dead, raise `timeouts{clock}` under [models.{name}]")
            }
        },
        Class::EmptyResponse if error.code.as_deref() == Some(ONLY_REASONING) => {
            format!(
                "leave room for an answer after the reasoning: a larger `params.max_tokens`; {show} has what came"
            )
        }
        Class::Degenerate => {
            format!("{show} has what came; another `params.temperature` or model may do better")
        }
        Class::Validation => {
            format!("{show} has the answers; does the prompt ask for all that the schema wants?")
        }
        Class::Refusal => {
            format!("change the prompt, or add another model to the task's `model` list; {show} has both")
        }
        Class::BadRequest => {
            format!(
                "{show} has what was sent; `params` and `params_extra` may hold what this server does not take"
            )
        }
        Class::Config => format!("see [models.{name}]; `planexe doctor` tries it"),
        Class::NotRecorded => "record it: build with a model, then `planexe record FILE`".into(),
        Class::ServerError | Class::Cut | Class::BadData | Class::EmptyResponse | Class::Cancelled => {
            format!(
                "the server's own log may say why; {show} has what came, `planexe doctor` asks the server"
            )
        }
    }
}

/// How a person logs in to an agent.
fn login(endpoint: &Endpoint) -> Option<String> {
    let program = || {
        let words = planexe_llm::agent::program(&endpoint.model);
        words.iter().map(|word| style::shell_word(word)).collect::<Vec<_>>().join(" ")
    };
    Some(match endpoint.model.api? {
        Api::Claude => format!("log in: start `{}` and type `/login`", program()),
        Api::Codex => format!("log in: `{} login`", program()),
        Api::Gemini => format!("log in: start `{}` and choose how", program()),
        _ => return None,
    })
}

/// Whether building again, with nothing changed in the pipeline, may help.
pub(super) fn is_recoverable(class: Class) -> bool {
    !matches!(class, Class::BadRequest | Class::NotRecorded | Class::Config)
}
