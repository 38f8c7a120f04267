//! Calls that others make through a build: the endpoint a script or an agent is given, in the place of its vendor's.
//!
//! ```text
//! client ─> server (loopback, one token) ─> an Answering's owner, who counts ─> upstream (the model's own server)
//! ```
//!
//! [`server`] speaks HTTP to the client, [`upstream`] to the model's server with the real key, [`seen`] reads what an
//! answer used as it passes, and [`made`] writes one where there is no server. None of them knows a task or a file.

pub mod made;
pub mod seen;
pub mod server;
pub mod upstream;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::structured::canonical;

/// What a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// OpenAI's `/v1/chat/completions`.
    Chat,
    /// OpenAI's `/v1/responses`.
    Responses,
    /// OpenAI's `/v1/embeddings`.
    Embeddings,
    /// `/v1/models`, of either vendor; answered here.
    Models,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// Anthropic's `/v1/messages/count_tokens`; free of charge.
    CountTokens,
}

impl Route {
    /// The route of a request line, if there is one.
    pub fn of(method: &str, path: &str) -> Option<Route> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match (method, path) {
            ("POST", "/v1/chat/completions") => Some(Route::Chat),
            ("POST", "/v1/responses") => Some(Route::Responses),
            ("POST", "/v1/embeddings") => Some(Route::Embeddings),
            ("GET", "/v1/models") => Some(Route::Models),
            ("POST", "/v1/messages") => Some(Route::Messages),
            ("POST", "/v1/messages/count_tokens") => Some(Route::CountTokens),
            _ => None,
        }
    }

    /// Its path below `/v1/`.
    pub fn path(self) -> &'static str {
        match self {
            Route::Chat => "chat/completions",
            Route::Responses => "responses",
            Route::Embeddings => "embeddings",
            Route::Models => "models",
            Route::Messages => "messages",
            Route::CountTokens => "messages/count_tokens",
        }
    }

    /// Whose words it speaks.
    pub fn dialect(self) -> Dialect {
        match self {
            Route::Messages | Route::CountTokens => Dialect::Anthropic,
            Route::Chat | Route::Responses | Route::Embeddings | Route::Models => Dialect::Openai,
        }
    }
}

/// In which vendor's words a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's.
    Openai,
    /// Anthropic's.
    Anthropic,
}

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no token, or another one.
    Unauthorised,
    /// Nothing is served there.
    NoSuchRoute(String),
    /// It cannot be read, or cannot be asked of this model.
    Bad(String),
    /// A limit of the build is reached; asking again does not help.
    Budget(String),
    /// The model's server cannot be reached, or the build ends.
    Unavailable(String),
}

impl Refusal {
    /// Status and body as the vendor's own server would write them.
    pub fn body(&self, dialect: Dialect) -> (u16, Vec<u8>) {
        let (message, openai, anthropic) = match self {
            Refusal::Unauthorised => (
                "this endpoint of planexe takes the token it gave to the task, and no other key",
                (401, "invalid_request_error", Some("invalid_api_key")),
                (401, "authentication_error"),
            ),
            Refusal::NoSuchRoute(what) => {
                (what.as_str(), (404, "invalid_request_error", Some("not_found")), (404, "not_found_error"))
            }
            Refusal::Bad(what) => {
                (what.as_str(), (400, "invalid_request_error", None), (400, "invalid_request_error"))
            }
            Refusal::Budget(what) => (
                what.as_str(),
                (429, "insufficient_quota", Some("insufficient_quota")),
                (402, "billing_error"),
            ),
            Refusal::Unavailable(what) => (what.as_str(), (503, "server_error", None), (503, "api_error")),
        };
        let (status, body) = match dialect {
            Dialect::Openai => {
                let (status, kind, code) = openai;
                let error = json!({ "message": message, "type": kind, "param": null, "code": code });
                (status, json!({ "error": error }))
            }
            Dialect::Anthropic => {
                let (status, kind) = anthropic;
                (status, json!({ "type": "error", "error": { "type": kind, "message": message } }))
            }
        };
        (status, body.to_string().into_bytes())
    }
}

/// An answer as it went over the wire, kept to be given again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Its path below `/v1/`.
    pub route: String,
    /// What was asked, without the model's name: see [`digest`].
    pub digest: String,
    /// The HTTP status.
    pub status: u16,
    /// The media type: JSON, or server-sent events.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// Members of a body that name the client or its session, and mean nothing to the model.
const OF_THE_CLIENT: [&str; 7] = [
    "model",
    "metadata",
    "user",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "client_metadata",
];

/// What a request is found by when it is made again: blake3, as 64 hex digits, over its path, its canonical body
/// without what names the model, the client or a session, and how many equal ones were answered before it.
pub fn digest(route: Route, body: &Map<String, Value>, before: u32) -> String {
    let kept: Map<String, Value> = body
        .iter()
        .filter(|(name, _)| !OF_THE_CLIENT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let text = canonical(&Value::Object(without_ids(kept)));
    let mut hasher = blake3::Hasher::new();
    for part in [route.path().as_bytes(), text.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&before.to_le_bytes());
    hasher.finalize().to_hex().to_string()
}

/// Some clients give each item of a conversation a random name of its own, which nothing refers to.
fn without_ids(mut body: Map<String, Value>) -> Map<String, Value> {
    for item in body.get_mut("input").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(item) =
            item.as_object_mut().filter(|item| item.get("type") != Some(&json!("item_reference")))
        {
            item.shift_remove("id");
        }
    }
    body
}

/// Whether a client asked for a stream.
pub fn is_streamed(body: &Map<String, Value>) -> bool {
    body.get("stream").and_then(Value::as_bool).unwrap_or(false)
}

/// The list of models, of which there is one.
pub fn models(name: &str, dialect: Dialect) -> Vec<u8> {
    let list = match dialect {
        Dialect::Openai => json!({
            "object": "list",
            "data": [{ "id": name, "object": "model", "created": 0, "owned_by": "planexe" }]
        }),
        Dialect::Anthropic => json!({
            "data": [{ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" }],
            "has_more": false, "first_id": name, "last_id": name
        }),
    };
    list.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_means_nothing_to_the_model_is_no_part_of_a_request() {
        let of = |value: Value| digest(Route::Chat, &map(value), 0);
        let one = of(json!({ "model": "a", "messages": [{ "role": "user", "content": "x" }], "user": "u1" }));
        let same = of(json!({ "messages": [{ "content": "x", "role": "user" }], "model": "b" }));
        assert_eq!(one, same);
        assert_ne!(one, of(json!({ "messages": [{ "content": "y", "role": "user" }] })));
        let body = map(json!({ "messages": [] }));
        assert_ne!(digest(Route::Chat, &body, 0), digest(Route::Chat, &body, 1));
        assert_ne!(digest(Route::Chat, &body, 0), digest(Route::Responses, &body, 0));
        let of = |id: &str, kind: &str| {
            digest(
                Route::Responses,
                &map(json!({ "input": [{ "type": kind, "id": id, "content": "x" }] })),
                0,
            )
        };
        assert_eq!(of("msg_1", "message"), of("msg_2", "message"));
        assert_ne!(of("msg_1", "item_reference"), of("msg_2", "item_reference"));
    }

    #[test]
    fn a_refusal_speaks_the_vendors_words() {
        let (status, body) = Refusal::Budget("no more".into()).body(Dialect::Openai);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (429, &json!("insufficient_quota")));
        let (status, body) = Refusal::Budget("no more".into()).body(Dialect::Anthropic);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["error"]["type"]), (402, &json!("billing_error")));
        assert_eq!(body["type"], "error");
    }

    #[test]
    fn the_one_model_is_listed_in_either_dialect() {
        let listed = |dialect| serde_json::from_slice::<Value>(&models("m", dialect)).unwrap();
        assert_eq!(
            (&listed(Dialect::Openai)["data"][0]["id"], &listed(Dialect::Openai)["object"]),
            (&json!("m"), &json!("list"))
        );
        let listed = listed(Dialect::Anthropic);
        assert_eq!(
            (&listed["data"][0]["type"], &listed["first_id"], &listed["has_more"]),
            (&json!("model"), &json!("m"), &json!(false))
        );
    }

    #[test]
    fn only_what_models_are_asked_by_is_served() {
        assert_eq!(Route::of("POST", "/v1/messages?beta=true"), Some(Route::Messages));
        for (method, path) in [
            ("GET", "/v1/messages"),
            ("POST", "/v1/files"),
            ("POST", "/v1/../v1/messages"),
            ("DELETE", "/v1/models"),
        ] {
            assert_eq!(Route::of(method, path), None, "{method} {path}");
        }
    }
}
