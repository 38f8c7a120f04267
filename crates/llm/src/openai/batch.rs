//! OpenAI's batches: a file of requests, a batch over it, and files of answers and errors.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::OpenAi;
use super::answer::read;
use crate::batches::{
    Alone, Answers, Batches, Found, PAGE, Served, Standing, Wanted, add_answers, at_half, look_through,
    plain, text,
};
use crate::http::Exchange;
use crate::{CallContext, CallError, Reply, Request};
use planexe_base::cancel::Cancel;
use planexe_base::clock;

/// The name of our key in a batch's metadata.
const KEY: &str = "planexe";

impl OpenAi {
    fn about<'a>(
        &'a self,
        path: &str,
        body: Option<(&str, &[u8])>,
        context: &CallContext<'a>,
    ) -> Result<Exchange<'a>, CallError> {
        let bearer = self.endpoint.bearer();
        let auth: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        self.endpoint.about_batch(path, &auth, body, context)
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

    /// Uploads the requests of a batch; the file's id.
    fn upload(&self, key: &str, lines: &[(String, Value)], cancel: &Cancel) -> Result<String, CallError> {
        let boundary = format!("planexe-{key}");
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{boundary}.jsonl\"\r\n\
             Content-Type: application/jsonl\r\n\r\n"
        );
        for (id, line) in lines {
            let line =
                json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": line });
            body.push_str(&line.to_string());
            body.push('\n');
        }
        body.push_str(&format!("\r\n--{boundary}--\r\n"));
        let kind = format!("multipart/form-data; boundary={boundary}");
        let alone = Alone::new();
        let file = self.about("files", Some((&kind, body.as_bytes())), &alone.context(cancel))?.value()?;
        id_of(&file)
    }
}

fn id_of(object: &Value) -> Result<String, CallError> {
    let id = text(object, "id").unwrap_or_default();
    plain(&id).map(str::to_owned)
}

fn standing(batch: &Value) -> Result<Standing, CallError> {
    let count = |name: &str| batch["request_counts"].get(name).and_then(Value::as_u64).unwrap_or(0);
    let status = text(batch, "status").unwrap_or_default();
    let files = ["output_file_id", "error_file_id"].into_iter().filter_map(|name| text(batch, name));
    let first = batch.pointer("/errors/data/0");
    let why = first.map(|error| {
        let said = text(error, "message").or_else(|| text(error, "code"));
        crate::one_line(&said.unwrap_or_else(|| error.to_string()), None)
    });
    let limited = first.is_some_and(|error| error["code"] == "token_limit_exceeded");
    Ok(Standing {
        id: id_of(batch)?,
        limited,
        ended: matches!(status.as_str(), "completed" | "failed" | "expired" | "cancelled"),
        done: count("completed").saturating_add(count("failed")),
        total: count("total"),
        until: batch.get("expires_at").and_then(Value::as_i64).map(|at| at.to_string()),
        files: files.collect(),
        why: why.filter(|_| status == "failed"),
        cancelling: status == "cancelling",
        status,
    })
}

/// What a line of an output or error file says.
fn served(line: &Value) -> Served {
    let status = line.pointer("/response/status_code").and_then(Value::as_u64);
    match (status, line.pointer("/response/body")) {
        (Some(status), Some(body)) => Served::Answer(u16::try_from(status).unwrap_or(500), body.clone()),
        _ => match line.pointer("/error/code").and_then(Value::as_str) {
            Some("batch_cancelled") => Served::Canceled,
            Some("batch_expired") | None => Served::Expired,
            Some(_) => Served::Answer(500, json!({ "error": line["error"] })),
        },
    }
}

impl Batches for OpenAi {
    fn line(&self, request: &Request) -> Result<Value, CallError> {
        let (mut body, _) = self.body(request);
        if let Some(members) = body.as_object_mut() {
            for name in ["stream", "stream_options", "return_progress", "service_tier"] {
                members.remove(name);
            }
        }
        Ok(body)
    }

    fn prepare(&self, key: &str, lines: &[(String, Value)], cancel: &Cancel) -> Result<String, CallError> {
        self.upload(key, lines, cancel)
    }

    fn submit(
        &self,
        key: &str,
        file: &str,
        _lines: &[(String, Value)],
        cancel: &Cancel,
    ) -> Result<String, CallError> {
        let body = json!({
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": { KEY: key },
        });
        id_of(&self.post_json("batches", &body, cancel)?)
    }

    fn find(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<Found, CallError> {
        look_through(
            wanted,
            |after| {
                let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
                self.get_json(&format!("batches?limit={PAGE}{after}"), cancel)
            },
            |batch| {
                let at = batch.get("created_at").and_then(Value::as_u64)?;
                Some(clock::format_utc(UNIX_EPOCH + Duration::from_secs(at.min(1 << 40))))
            },
            |batch| {
                let by_file = !wanted.file.is_empty() && batch["input_file_id"] == *wanted.file;
                match by_file || batch["metadata"][KEY] == *wanted.key {
                    true => id_of(batch).map(Found::Yes),
                    false => Ok(Found::No),
                }
            },
        )
    }

    fn look(&self, id: &str, cancel: &Cancel) -> Result<Standing, CallError> {
        standing(&self.get_json(&format!("batches/{}", plain(id)?), cancel)?)
    }

    fn results(&self, standing: &Standing, cancel: &Cancel) -> Result<Answers, CallError> {
        let mut answers = Answers::new();
        for file in &standing.files {
            let alone = Alone::new();
            let path = format!("files/{}/content", plain(file)?);
            add_answers(&mut answers, self.about(&path, None, &alone.context(cancel))?, served)?;
        }
        Ok(answers)
    }

    fn cancel(&self, id: &str, cancel: &Cancel) -> Result<(), CallError> {
        self.post_json(&format!("batches/{}/cancel", plain(id)?), &json!({}), cancel).map(drop)
    }

    fn read(&self, request: &Request, status: u16, body: &Value) -> Result<Reply, CallError> {
        let (sent, shape) = self.body(request);
        let max_tokens = sent.get("max_tokens").is_some();
        let (alone, cancel) = (Alone::new(), Cancel::new());
        let context = alone.context(&cancel);
        let exchange = self.endpoint.of_batch(status, body.to_string().into_bytes(), &context);
        match exchange.and_then(|exchange| read(exchange, self.endpoint.price, false)) {
            Ok(reply) => {
                let reply = at_half(reply, self.endpoint.price.is_some());
                Ok(self.meant(reply, request, shape.as_ref()))
            }
            Err(mut error) => {
                error.adapted = self.adapt(&error, max_tokens, shape.as_ref());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_was_refused_says_why() {
        let of = |errors: Value| {
            standing(&json!({ "id": "b", "status": "failed", "errors": { "data": errors } })).unwrap()
        };
        for (error, why, limited) in [
            (json!({ "code": "token_limit_exceeded", "message": "Too\nmuch." }), "Too much.", true),
            (json!({ "code": "invalid_json_line" }), "invalid_json_line", false),
            (json!({ "line": 3 }), "{\"line\":3}", false),
        ] {
            let standing = of(json!([error]));
            assert_eq!(
                (standing.why.as_deref(), standing.limited, standing.ended),
                (Some(why), limited, true)
            );
        }
        assert!(
            standing(&json!({ "id": "../files", "status": "completed" })).is_err(),
            "an id is part of a path"
        );
    }

    #[test]
    fn a_line_of_a_file_is_what_a_call_would_have_got() {
        for (line, wanted) in [
            (
                json!({ "response": { "status_code": 200, "body": { "id": "c" } } }),
                Served::Answer(200, json!({ "id": "c" })),
            ),
            (json!({ "response": { "status_code": 99999, "body": {} } }), Served::Answer(500, json!({}))),
            (json!({ "error": { "code": "batch_cancelled" } }), Served::Canceled),
            (json!({ "error": { "code": "batch_expired" } }), Served::Expired),
            (json!({}), Served::Expired),
            (
                json!({ "error": { "code": "server" } }),
                Served::Answer(500, json!({ "error": { "code": "server" } })),
            ),
        ] {
            assert_eq!(served(&line), wanted, "{line}");
        }
    }
}
