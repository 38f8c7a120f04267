//! Batches of a vendor: many calls in one submission, at half the price, answered within a day.
//!
//! One attempt at each request, as with calls: what follows a failure, and when a batch is looked at again, is for whoever
//! drives them. Each batch carries a key of ours, by which one whose submission was interrupted is found again:
//! with OpenAI in its metadata, which its list shows; with Anthropic only in the ids of its calls, which are shown once it
//! has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::BATCH_SHARE;
use super::http::Exchange;
use super::{CallError, CallProgress, Class, Reply, Request};
use planexe_base::cancel::Cancel;

/// Most calls in a batch. OpenAI takes 50,000, Anthropic 100,000.
pub const MOST_CALLS: usize = 10_000;
/// Most bytes of their requests. OpenAI takes 200 MB, Anthropic 256 MB.
pub const MOST_BYTES: usize = 100 << 20;
/// Most bytes of their answers.
const MOST_ANSWERED: u64 = 1 << 30;

/// The batch that is looked for in a vendor's list.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The key it carries.
    pub key: &'a str,
    /// How many calls it has.
    pub calls: u64,
    /// When it was made here: what the vendor made long before is another one.
    pub created_utc: &'a str,
    /// What [`Batches::prepare`] gave for it; empty if nothing.
    pub file: &'a str,
    /// Ids that are known to be others.
    pub others: &'a [String],
}

/// What the list has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there, under this id.
    Yes(String),
    /// It is not.
    No,
    /// One is there that may be it, which shows once it has ended.
    Perhaps,
}

/// How far a batch is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The vendor's id.
    pub id: String,
    /// The vendor's word for it.
    pub status: String,
    /// Nothing more comes.
    pub ended: bool,
    /// Calls that are answered, or failed.
    pub done: u64,
    /// All of them.
    pub total: u64,
    /// When it expires, RFC 3339 or seconds since 1970.
    pub until: Option<String>,
    /// Where its answers are.
    pub files: Vec<String>,
    /// Why it was refused as a whole.
    pub why: Option<String>,
    /// It was refused since too much is under way: it may be submitted later.
    pub limited: bool,
    /// The vendor knows that it is to be cancelled.
    pub cancelling: bool,
}

/// What became of one call of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Served {
    /// It was answered: HTTP status and body.
    Answer(u16, Value),
    /// Its time was over.
    Expired,
    /// The batch was cancelled before its turn.
    Canceled,
}

impl Served {
    /// The server's id of the call, if it was answered.
    pub fn id(&self) -> Option<&str> {
        match self {
            Served::Answer(200, body) => body.get("id").and_then(Value::as_str),
            _ => None,
        }
    }
}

/// The answers of a batch, by the ids of their calls.
pub type Answers = BTreeMap<String, Served>;

/// What a server's batches are made of and looked after with. Each is one attempt.
pub trait Batches: Send + Sync {
    /// The body of a call as it stands in a batch.
    fn line(&self, request: &Request) -> Result<Value, CallError>;

    /// Tokens of its prompt, as estimated; zero where nobody estimates.
    fn tokens(&self, _request: &Request) -> u64 {
        0
    }

    /// Sends the calls ahead, where the vendor wants a file of them; its id, else nothing. It costs nothing, and may be
    /// done again.
    fn prepare(&self, _key: &str, _lines: &[(String, Value)], _cancel: &Cancel) -> Result<String, CallError> {
        Ok(String::new())
    }

    /// Submits calls by their ids, under a key; the vendor's id of the batch. `file` is what [`Batches::prepare`] gave.
    fn submit(
        &self,
        key: &str,
        file: &str,
        lines: &[(String, Value)],
        cancel: &Cancel,
    ) -> Result<String, CallError>;

    /// Looks for a batch of which it is not known whether it was submitted.
    fn find(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<Found, CallError>;

    /// How far it is.
    fn look(&self, id: &str, cancel: &Cancel) -> Result<Standing, CallError>;

    /// The answers of one that has ended.
    fn results(&self, standing: &Standing, cancel: &Cancel) -> Result<Answers, CallError>;

    /// Cancels it; what is answered already stays answered.
    fn cancel(&self, id: &str, cancel: &Cancel) -> Result<(), CallError>;

    /// Reads an answer by the rules that hold for any.
    fn read(&self, request: &Request, status: u16, body: &Value) -> Result<Reply, CallError>;
}

/// An id of a vendor's that may be part of a path.
pub(crate) fn plain(id: &str) -> Result<&str, CallError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !id.is_empty() && id.len() <= 200 && id.bytes().all(is_plain) {
        true => Ok(id),
        false => Err(CallError::new(Class::BadData, "the server gave an id that is none")),
    }
}

/// Batches on a page of a vendor's list, and pages that are looked through at most.
pub(crate) const PAGE: usize = 100;
const PAGES: usize = 1000;
/// A vendor's clock and ours are apart by less.
pub(crate) const APART: f64 = 86400.0;

/// Looks through a vendor's list, newest first, until what it made before the wanted one was. A list that does not say
/// what it must is an error: "not there" would have the calls submitted again.
pub(crate) fn look_through(
    wanted: &Wanted<'_>,
    mut page: impl FnMut(Option<&str>) -> Result<Value, CallError>,
    created: impl Fn(&Value) -> Option<String>,
    mut is_it: impl FnMut(&Value) -> Result<Found, CallError>,
) -> Result<Found, CallError> {
    let bad = |what: &str| CallError::new(Class::BadData, format!("the server's list of batches {what}"));
    let mut found = Found::No;
    let mut after: Option<String> = None;
    for _ in 0..PAGES {
        let list = page(after.as_deref())?;
        let batches = list["data"].as_array().ok_or_else(|| bad("is none"))?;
        for batch in batches {
            match is_it(batch)? {
                Found::No => {}
                Found::Perhaps => found = Found::Perhaps,
                yes => return Ok(yes),
            }
        }
        let is_last = match list["has_more"].as_bool() {
            Some(more) => !more,
            None => batches.len() < PAGE,
        };
        let Some(last) = batches.last().filter(|_| !is_last) else { return Ok(found) };
        let before =
            created(last).and_then(|at| planexe_base::clock::seconds_between(&at, wanted.created_utc));
        if before.is_some_and(|seconds| seconds > APART) {
            return Ok(found);
        }
        let id = text(last, "id").unwrap_or_default();
        after = Some(plain(&id)?.to_owned());
    }
    Err(bad("has no end"))
}

/// A text of a vendor's answer.
pub(crate) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Adds the answers of a vendor's file, a line each, as `served` reads one.
pub(crate) fn add_answers(
    answers: &mut Answers,
    mut file: Exchange<'_>,
    served: impl Fn(&Value) -> Served,
) -> Result<(), CallError> {
    file.each_value(MOST_ANSWERED, |line| {
        if let Some(id) = text(&line, "custom_id") {
            answers.insert(id, served(&line));
        }
    })
}

/// The context of requests that nobody follows.
pub(crate) struct Alone(CallProgress);

impl Alone {
    pub(crate) fn new() -> Alone {
        Alone(CallProgress::default())
    }

    pub(crate) fn context<'a>(&'a self, cancel: &'a Cancel) -> super::CallContext<'a> {
        super::CallContext { cancel, progress: &self.0, time_left: None }
    }
}

/// An answer of a batch costs its share of the price.
pub(crate) fn at_half(mut reply: Reply, priced: bool) -> Reply {
    if priced {
        reply.usage.cost_usd *= BATCH_SHARE;
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ASKED: &str = "2026-11-25T12:00:00Z";

    /// What is found on these pages, and the ids after which each was asked for.
    fn found(pages: &[Value], is_it: impl Fn(&str) -> Found) -> (Result<Found, String>, Vec<String>) {
        let mut asked = Vec::new();
        let wanted = Wanted { key: "k", calls: 2, created_utc: ASKED, file: "", others: &[] };
        let found = look_through(
            &wanted,
            |after| {
                asked.push(after.unwrap_or("").to_owned());
                Ok(pages[(asked.len() - 1) % pages.len()].clone())
            },
            |batch| text(batch, "created_at"),
            |batch| Ok(is_it(batch["id"].as_str().unwrap_or_default())),
        );
        (found.map_err(|error| error.message.text), asked)
    }

    fn batch(id: &str, at: &str) -> Value {
        json!({ "id": id, "created_at": at })
    }

    #[test]
    fn a_list_is_looked_through_page_by_page() {
        let page = |id: &str, at: &str, more: bool| json!({ "data": [batch(id, at)], "has_more": more });
        let (new, old) = ("2026-11-25T13:00:00Z", "2026-11-23T13:00:00Z");
        let yes = |id: &str| if id == "c" { Found::Yes("c".to_owned()) } else { Found::No };
        let pages = [page("a", new, true), page("b", new, true), page("c", new, false)];
        let (it, asked) = found(&pages, yes);
        assert!(matches!(it, Ok(Found::Yes(id)) if id == "c"));
        assert_eq!(asked, ["", "a", "b"]);
        // What was made a day before is the last that is looked at.
        let (it, asked) = found(&[page("a", new, true), page("b", old, true), page("c", new, false)], yes);
        assert!(matches!(it, Ok(Found::No)) && asked.len() == 2, "{asked:?}");
        // What is not known yet is remembered, and looked past.
        let (it, asked) =
            found(&pages[..2], |id| if id == "a" { Found::Perhaps } else { Found::Yes("b".to_owned()) });
        assert!(matches!(it, Ok(Found::Yes(_))) && asked.len() == 2);
        let (it, _) = found(&[page("a", new, false)], |_| Found::Perhaps);
        assert!(matches!(it, Ok(Found::Perhaps)));
        // A list that does not say whether there is more has more if it is full.
        let (it, asked) = found(&[json!({ "data": [batch("a", new)] })], |_| Found::No);
        assert!(matches!(it, Ok(Found::No)) && asked.len() == 1);
        let full: Vec<Value> = (0..PAGE).map(|n| batch(&format!("b{n}"), new)).collect();
        let (it, asked) = found(&[json!({ "data": full }), json!({ "data": [] })], |_| Found::No);
        assert!(matches!(it, Ok(Found::No)) && asked == ["", "b99"], "{asked:?}");
    }

    #[test]
    fn a_list_that_does_not_say_what_it_must_is_an_error() {
        let no = |_: &str| Found::No;
        assert_eq!(found(&[json!({})], no).0.unwrap_err(), "the server's list of batches is none");
        let stray = json!({ "data": [{ "id": "../x" }], "has_more": true });
        assert_eq!(found(&[stray], no).0.unwrap_err(), "the server gave an id that is none");
        let (endless, asked) = found(&[json!({ "data": [batch("a", "soon")], "has_more": true })], no);
        assert_eq!(
            (endless.unwrap_err().as_str(), asked.len()),
            ("the server's list of batches has no end", PAGES)
        );
    }
}
