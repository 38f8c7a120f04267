//! Anthropic's message batches. They carry no words of ours but the ids of their calls, and show those once they have
//! ended.

use serde_json::{Value, json};

use super::{Anthropic, read};
use crate::batches::{
    APART, Alone, Answers, Batches, Found, PAGE, Served, Standing, Wanted, add_answers, at_half,
    look_through, plain, text,
};
use crate::http::Exchange;
use crate::{CallContext, CallError, Reply, Request};
use planexe_base::cancel::Cancel;

impl Anthropic {
    fn about<'a>(
        &'a self,
        path: &str,
        body: Option<(&str, &[u8])>,
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        let mut auth = vec![("anthropic-version", "2023-06-01")];
        if let Some(secret) = &self.endpoint.secret {
            auth.push(("x-api-key", secret.expose()));
        }
        self.endpoint.about_batch(&format!("v1/messages/batches{path}"), &auth, body, context)
    }

    fn post_json(&self, path: &str, body: &Value, cancel: &Cancel) -> Result<Value, CallError> {
        let alone = Alone::new();
        let bytes = body.to_string().into_bytes();
        self.about(path, Some(("application/json", &bytes)), &alone.context(cancel))?.value()
    }

    fn get_json(&self, path: &str, cancel: &Cancel) -> Result<Value, CallError> {
        let alone = Alone::new();
        self.about(path, None, &alone.context(cancel))?.value()
    }
}

fn standing(batch: &Value) -> Result<Standing, CallError> {
    let count = |name: &str| batch["request_counts"].get(name).and_then(Value::as_u64).unwrap_or(0);
    let done = ["succeeded", "errored", "canceled", "expired"].into_iter().map(count).sum();
    let status = text(batch, "processing_status").unwrap_or_default();
    let id = text(batch, "id").unwrap_or_default();
    Ok(Standing {
        id: plain(&id)?.to_owned(),
        ended: status == "ended",
        done,
        total: count("processing").saturating_add(done),
        until: text(batch, "expires_at"),
        cancelling: status == "canceling",
        status,
        ..Standing::default()
    })
}

/// What a line of the results says.
fn served(line: &Value) -> Served {
    let result = &line["result"];
    match result["type"].as_str().unwrap_or_default() {
        "succeeded" => Served::Answer(200, result["message"].clone()),
        "errored" => {
            let error = &result["error"];
            let kind = error.pointer("/error/type").or(error.get("type")).and_then(Value::as_str);
            Served::Answer(status_of(kind.unwrap_or_default()), error.clone())
        }
        "canceled" => Served::Canceled,
        _ => Served::Expired,
    }
}

/// The HTTP status that an error of this type comes with where it is no line of a batch.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "overloaded_error" => 529,
        _ => 500,
    }
}

impl Batches for Anthropic {
    fn line(&self, request: &Request) -> Result<Value, CallError> {
        let (mut body, _) = self.body(request);
        if let Some(members) = body.as_object_mut() {
            members.remove("stream");
        }
        Ok(body)
    }

    fn submit(
        &self,
        _key: &str,
        _file: &str,
        lines: &[(String, Value)],
        cancel: &Cancel,
    ) -> Result<String, CallError> {
        let requests: Vec<Value> =
            lines.iter().map(|(id, line)| json!({ "custom_id": id, "params": line })).collect();
        let batch = self.post_json("", &json!({ "requests": requests }), cancel)?;
        standing(&batch).map(|standing| standing.id)
    }

    fn find(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<Found, CallError> {
        look_through(
            wanted,
            |after| {
                let after = after.map(|id| format!("&after_id={id}")).unwrap_or_default();
                self.get_json(&format!("?limit={PAGE}{after}"), cancel)
            },
            |batch| text(batch, "created_at"),
            |batch| {
                let standing = standing(batch)?;
                let apart = text(batch, "created_at")
                    .and_then(|at| planexe_base::clock::seconds_between(&at, wanted.created_utc));
                let is_older = apart.is_some_and(|seconds| seconds > APART);
                if is_older || standing.total != wanted.calls || wanted.others.contains(&standing.id) {
                    return Ok(Found::No);
                }
                if !standing.ended {
                    return Ok(Found::Perhaps);
                }
                match self.results(&standing, cancel)?.keys().any(|id| id.starts_with(wanted.key)) {
                    true => Ok(Found::Yes(standing.id)),
                    false => Ok(Found::No),
                }
            },
        )
    }

    fn look(&self, id: &str, cancel: &Cancel) -> Result<Standing, CallError> {
        standing(&self.get_json(&format!("/{}", plain(id)?), cancel)?)
    }

    fn results(&self, standing: &Standing, cancel: &Cancel) -> Result<Answers, CallError> {
        // Not by `results_url`: a key goes to no address but the one it is bound to.
        let mut answers = Answers::new();
        let alone = Alone::new();
        let path = format!("/{}/results", plain(&standing.id)?);
        add_answers(&mut answers, self.about(&path, None, &alone.context(cancel))?, served)?;
        Ok(answers)
    }

    fn cancel(&self, id: &str, cancel: &Cancel) -> Result<(), CallError> {
        self.post_json(&format!("/{}/cancel", plain(id)?), &json!({}), cancel).map(drop)
    }

    fn read(&self, request: &Request, status: u16, body: &Value) -> Result<Reply, CallError> {
        let (_, native) = self.body(request);
        let (alone, cancel) = (Alone::new(), Cancel::new());
        let context = alone.context(&cancel);
        let exchange = self.endpoint.of_batch(status, body.to_string().into_bytes(), &context);
        let reply = exchange.and_then(|exchange| read(exchange, self.endpoint.price));
        let reply = reply.map(|reply| at_half(reply, self.endpoint.price.is_some()));
        reply.map_err(|error| self.adapted(error, request, native))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_results_is_what_a_call_would_have_got() {
        let answered = |result: Value| served(&json!({ "custom_id": "a", "result": result }));
        let message = json!({ "id": "msg_1", "content": [] });
        let found = answered(json!({ "type": "succeeded", "message": message }));
        assert_eq!((found.id(), &found), (Some("msg_1"), &Served::Answer(200, message)));
        assert_eq!(answered(json!({ "type": "canceled" })), Served::Canceled);
        for other in ["expired", "of another version"] {
            assert_eq!(answered(json!({ "type": other })), Served::Expired);
        }
        for (kind, status) in [
            ("invalid_request_error", 400),
            ("authentication_error", 401),
            ("billing_error", 402),
            ("permission_error", 403),
            ("not_found_error", 404),
            ("request_too_large", 413),
            ("rate_limit_error", 429),
            ("overloaded_error", 529),
            ("api_error", 500),
        ] {
            let (inner, outer) = (json!({ "type": kind, "message": "no" }), "error");
            for error in [json!({ "type": outer, "error": inner }), inner.clone()] {
                let found = answered(json!({ "type": "errored", "error": error }));
                assert_eq!((found.id(), &found), (None, &Served::Answer(status, error)), "{kind}");
            }
        }
    }
}
