//! Caches of prompts: what each server keeps, by which rules, and how a prompt is sent so that it is found again.
//!
//! The text that is sent is the same with and without. Which prompts begin alike, and where one is divided, is decided by
//! [`planexe_base::prefix`].

use std::time::Duration;

use serde_json::{Value, json};

use crate::attachment::{self, Attachment};
use crate::config::{Api, Cache, Model, SchemaForm};
use crate::{Request, base_url, default_concurrency, is_local, structured};
use planexe_base::prefix::{Marks, Rules, marks};

/// Places of one request that Anthropic keeps.
const MARKERS: usize = 4;

/// What the cache behind a model is like; none if it has none that has to be thought of.
///
/// A server on this machine has in its slot what it read last, whatever is sent. So with one slot the order counts, and it
/// is only taken for a vendor's if the table says `cache`.
pub fn rules(model: &Model) -> Option<Rules> {
    if model.is_batched() {
        // Calls of a batch are not made in an order of ours, and must not wait for one another.
        return None;
    }
    if model.cache.is_none() && is_local(base_url(model)) {
        let speaks = matches!(model.api?, Api::Openai | Api::Anthropic | Api::Ollama);
        let one_slot = speaks && default_concurrency(model) == 1;
        let rules = Rules { markers: None, min_tokens: 0, lifetime: Duration::ZERO, one_slot };
        return one_slot.then_some(rules);
    }
    let (markers, min_tokens) = match model.api? {
        Api::Anthropic => (Some(MARKERS), anthropic_least(model.model.as_deref().unwrap_or_default())),
        Api::Openai => (None, 1024),
        _ => return None,
    };
    let lifetime = match model.cache {
        Some(Cache::Off) => return None,
        Some(Cache::Hour) => Duration::from_secs(3600),
        None | Some(Cache::Auto) => Duration::from_secs(300),
    };
    Some(Rules { markers, min_tokens, lifetime, one_slot: false })
}

/// Tokens that a prefix needs so that Anthropic keeps it.
fn anthropic_least(model: &str) -> u64 {
    let is = |names: &[&str]| names.iter().any(|name| model.contains(name));
    match model {
        _ if is(&["haiku-4-5", "opus-4-5", "opus-4-6"]) => 4096,
        _ if is(&["opus-5"]) => 512,
        _ => 1024,
    }
}

/// By what a request is known to begin like others: what comes before its text is a schema that is asked for natively, and
/// files.
pub fn marks_of(
    model: &Model,
    system: &str,
    prompt: &str,
    schema: Option<&Value>,
    files: &[Attachment],
) -> Marks {
    let mut seed = Vec::new();
    // A server on this machine makes a grammar of a schema, and reads none of it.
    let is_read = model.cache.is_some() || !is_local(base_url(model));
    if let Some(schema) = schema.filter(|_| is_read && model.schemas != Some(SchemaForm::Words)) {
        seed.extend(structured::canonical(schema).into_bytes());
    }
    for file in files {
        seed.extend(file.digest.0.as_bytes());
    }
    marks(&seed, system, prompt)
}

/// The key by which OpenAI finds the machine that answered prompts with the same beginning.
pub(crate) fn key(request: &Request) -> Option<String> {
    request.division.key.map(|key| format!("planexe-{key:016x}"))
}

/// System prompt and first message in Anthropic's form, divided at `cuts`, with a mark at the end of the last places.
pub(crate) fn anthropic(request: &Request, first: &str, cuts: &[u32], hour: bool) -> (Option<Value>, Value) {
    let border = request.system.len();
    let cuts = cuts.iter().map(|cut| *cut as usize);
    let (of_system, of_first): (Vec<usize>, Vec<usize>) = cuts.partition(|cut| *cut <= border);
    let of_first: Vec<usize> = of_first.into_iter().map(|cut| cut - border).collect();
    let no_system = request.system.trim().is_empty();
    let in_system = if no_system { Vec::new() } else { parts(&request.system, &of_system) };
    let in_first = parts(first, &of_first);
    // Where the text ends, no mark stands unless it was asked for.
    let marked_system =
        in_system.len() - usize::from(!in_system.is_empty() && of_system.last() != Some(&border));
    let marked_first = in_first.len().saturating_sub(1);
    let from = (marked_system + marked_first).saturating_sub(MARKERS);
    let control =
        if hour { json!({ "type": "ephemeral", "ttl": "1h" }) } else { json!({ "type": "ephemeral" }) };
    let block = |text: &str, marked: bool| {
        let mut block = json!({ "type": "text", "text": text });
        if marked {
            block["cache_control"] = control.clone();
        }
        block
    };
    let system = match in_system.as_slice() {
        [] => None,
        [text] if marked_system == 0 => Some(json!(text)),
        texts => Some(
            texts
                .iter()
                .enumerate()
                .map(|(at, text)| block(text, (from..marked_system).contains(&at)))
                .collect(),
        ),
    };
    if marked_first == 0 {
        return (system, attachment::anthropic(&request.files, first));
    }
    let texts = in_first.iter().enumerate();
    let texts = texts.map(|(at, text)| block(text, at < marked_first && marked_system + at >= from));
    (system, attachment::anthropic_before(&request.files, texts.collect()))
}

/// A text in parts, none of them blank: a server refuses those.
fn parts<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        let Some(part) = text.get(from..cut) else { continue };
        let rest = text.get(cut..).unwrap_or_default();
        if !part.trim().is_empty() && !rest.trim().is_empty() {
            parts.push(part);
            from = cut;
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::prefix::Division;

    fn request(system: &str, prompt: &str) -> Request {
        Request {
            system: system.into(),
            prompt: prompt.into(),
            division: Division { cuts: Vec::new(), key: Some(255) },
            ..Request::default()
        }
    }

    /// The text of what is sent, and how many places of it are marked.
    fn sent(value: &Value) -> (String, usize) {
        match value {
            Value::Array(blocks) => (
                blocks.iter().map(|block| block["text"].as_str().unwrap()).collect(),
                blocks.iter().filter(|block| block.get("cache_control").is_some()).count(),
            ),
            text => (text.as_str().unwrap().to_owned(), 0),
        }
    }

    #[test]
    fn the_same_text_is_sent_however_it_is_divided() {
        let (system, prompt) =
            ("Be brief, größer.", "The plan.\n\n   \nA task, and words in plenty for more parts.");
        let bytes = (system.len() + prompt.len()) as u32;
        #[rustfmt::skip]
        let rows: &[(&[u32], usize, usize)] = &[
            (&[], 0, 0),
            (&[5], 1, 0),
            (&[18], 1, 0),
            (&[5, 18, 28], 2, 1),
            (&[18, 28, 40], 1, 2),
            (&[5, 18, 28, 40, 50, 60], 0, 4),
            // Blank parts, places within a character, beyond the end, and at it.
            (&[28, 30, 40], 0, 2), (&[13], 0, 0), (&[400], 0, 0), (&[bytes], 0, 0),
        ];
        for (cuts, in_system, in_first) in rows {
            let (of_system, of_first) = anthropic(&request(system, prompt), prompt, cuts, false);
            assert_eq!(sent(&of_system.unwrap()), (system.to_owned(), *in_system), "{cuts:?}");
            assert_eq!(sent(&of_first), (prompt.to_owned(), *in_first), "{cuts:?}");
        }
        let (none, first) = anthropic(&request("", prompt), prompt, &[11], true);
        assert!(none.is_none() && first[0]["cache_control"]["ttl"] == "1h", "{first}");
        assert_eq!(key(&request("", prompt)).as_deref(), Some("planexe-00000000000000ff"));
    }

    #[test]
    fn servers_keep_prompts_by_rules_of_their_own() {
        let model = |api, name: &str, url: Option<&str>, cache| Model {
            api: Some(api),
            model: Some(name.into()),
            base_url: url.map(str::to_owned),
            cache,
            ..Model::default()
        };
        let here = Some("http://127.0.0.1:8080/v1");
        #[rustfmt::skip]
        let rows = [
            (model(Api::Anthropic, "claude-sonnet-4-5", None, None), Some((Some(4), 1024, 300))),
            (model(Api::Anthropic, "claude-haiku-4-5", None, Some(Cache::Hour)), Some((Some(4), 4096, 3600))),
            (model(Api::Anthropic, "claude-opus-5", None, Some(Cache::Auto)), Some((Some(4), 512, 300))),
            (model(Api::Anthropic, "claude-sonnet-4-5", None, Some(Cache::Off)), None),
            (model(Api::Openai, "gpt-4.1-mini", None, None), Some((None, 1024, 300))),
            (model(Api::Openai, "qwen3", here, None), Some((None, 0, 0))),
            (Model { max_concurrent: Some(4), ..model(Api::Openai, "qwen3", here, None) }, None),
            (model(Api::Openai, "qwen3", here, Some(Cache::Off)), None),
            (model(Api::Openai, "qwen3", here, Some(Cache::Auto)), Some((None, 1024, 300))),
            (model(Api::Ollama, "qwen3", None, None), Some((None, 0, 0))),
            (model(Api::Simulated, "", None, None), None),
        ];
        for (model, wanted) in rows {
            let found = rules(&model).map(|it| (it.markers, it.min_tokens, it.lifetime.as_secs()));
            assert_eq!(found, wanted, "{model:?}");
        }
    }

    #[test]
    fn a_schema_stands_before_the_text_unless_it_is_put_in_words() {
        let text = "A plan of some length, which is the beginning of two prompts.\n".repeat(9);
        let (one, other) = (json!({ "type": "object" }), json!({ "type": "string" }));
        for (schemas, alike) in [(None, false), (Some(SchemaForm::Words), true)] {
            let model = Model { api: Some(Api::Anthropic), schemas, ..Model::default() };
            let of = |schema| marks_of(&model, "", &text, Some(schema), &[]);
            assert_eq!(of(&one)[0] == of(&other)[0], alike);
            assert_eq!(of(&one), of(&one));
        }
    }
}
