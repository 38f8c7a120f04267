//! Answers from a file written by `planexe record`: the same prompts give the same answers, without a
//! server, a key or a cent. Also what writes such a file.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stream::BODY_CAP;
use super::watchdog::TICK;
use super::{CallContext, CallError, Class, Health, Provider, Reply, Request, Setup, Usage, estimate};
use crate::config::{Model, OnMiss};
use crate::relay::Wire;
use planexe_base::fs;
use planexe_base::message::Message;

/// Largest file that is read, in bytes.
const FILE_CAP: u64 = 256 * 1024 * 1024;

/// A file of recorded answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Version of the format: 1.
    pub schema: u32,
    /// What was recorded, for people.
    #[serde(default)]
    pub about: String,
    /// The recorded answers, in the order of the file.
    pub answers: Vec<RecordedAnswer>,
}

/// One recorded answer, and the prompt it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// The task that asked.
    pub task: String,
    /// Its item, for an instance of a fan-out.
    #[serde(default)]
    pub key: Option<String>,
    /// [`crate::prompt_digest`] of what was asked; an entry without one is found by task and key alone, and
    /// played as a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A string is the answer itself; any other value is played as JSON in two-space indent.
    pub answer: Value,
    /// What it used when it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Of a call that a task's own program made: the answer as it went over the wire. `digest` is that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
}

impl RecordedAnswer {
    /// The answer as it is played.
    pub fn text(&self) -> String {
        match &self.answer {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value).unwrap_or_default(),
        }
    }

    /// An answer as it is best kept: JSON as JSON, so that the file can be read and compared, if nothing but
    /// white space is lost by it (`1.50` and keys given twice would be); any other text as a string.
    pub fn value_of(text: &str) -> Value {
        match serde_json::from_str::<Value>(text) {
            Ok(value) if !value.is_string() && compact(&value) == without_blanks(text) => value,
            _ => Value::String(text.to_owned()),
        }
    }
}

fn compact(value: &Value) -> String {
    value.to_string()
}

/// JSON text without the white space between its tokens.
fn without_blanks(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let keep = in_string || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            keep
        })
        .collect()
}

impl RecordedFile {
    /// Reads a file. Errors are one line.
    pub fn read(bytes: &[u8]) -> Result<RecordedFile, String> {
        let file: RecordedFile = serde_json::from_slice(bytes)
            .map_err(|error| format!("is not a file of recorded answers: {error}"))?;
        if file.schema > 1 {
            return Err(format!(
                "has schema {}, this planexe knows 1; a newer planexe wrote it",
                file.schema
            ));
        }
        Ok(file)
    }

    /// The bytes of the file: answers by task, key and digest, so that the same answers give the same file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sorted = self.clone();
        sorted.schema = 1;
        sorted.answers.sort_by(|a, b| (&a.task, &a.key, &a.digest).cmp(&(&b.task, &b.key, &b.digest)));
        sorted.answers.dedup();
        let mut bytes = serde_json::to_vec_pretty(&sorted).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The provider that plays one.
pub struct Recorded {
    path: PathBuf,
    file: RecordedFile,
    by_digest: HashMap<String, Vec<usize>>,
    by_task: HashMap<(String, Option<String>), Vec<usize>>,
    on_miss: OnMiss,
    pace: Pace,
}

impl Recorded {
    /// Reads the file of a table.
    pub fn new(model: &Model, setup: &Setup<'_>) -> Result<Recorded, CallError> {
        let fault = |why: String| CallError::new(Class::Config, format!("models.{}: {why}", setup.name));
        let Some(file) = &model.file else {
            return Err(fault("`file` is missing, the recorded answers to play".into()));
        };
        let path = setup.folder.join(file);
        let bytes = read_file(&path).map_err(|why| fault(format!("`{file}` cannot be read: {why}")))?;
        let file = RecordedFile::read(&bytes).map_err(|why| fault(format!("`{file}` {why}")))?;
        Ok(Recorded::of(path, file, model.on_miss.unwrap_or(OnMiss::Fail), Pace::of(model)))
    }

    fn of(path: PathBuf, file: RecordedFile, on_miss: OnMiss, pace: Pace) -> Recorded {
        let mut by_digest: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_task: HashMap<(String, Option<String>), Vec<usize>> = HashMap::new();
        for (index, answer) in file.answers.iter().enumerate() {
            if let Some(digest) = &answer.digest {
                by_digest.entry(digest.clone()).or_default().push(index);
            }
            by_task.entry((answer.task.clone(), answer.key.clone())).or_default().push(index);
        }
        Recorded { path, file, by_digest, by_task, on_miss, pace }
    }

    /// The answer to play, and whether it is a sample.
    fn find(&self, request: &Request) -> Result<(&RecordedAnswer, bool), CallError> {
        let digest = request.digest();
        if let Some(found) = self.by_digest.get(&digest) {
            // The same prompt may have been asked by two tasks, and answered differently.
            let own = found.iter().map(|index| &self.file.answers[*index]);
            let own = own
                .clone()
                .find(|a| a.task == request.task && a.key == request.key)
                .or(own.into_iter().next());
            if let Some(answer) = own {
                return Ok((answer, false));
            }
        }
        let of_task = |key: &Option<String>| {
            let found = self.by_task.get(&(request.task.clone(), key.clone()))?;
            let mut found = found.iter().map(|index| &self.file.answers[*index]);
            found.find(|answer| answer.digest.is_none() || self.on_miss == OnMiss::Task)
        };
        if let Some(answer) = of_task(&request.key).or_else(|| of_task(&None)) {
            return Ok((answer, true));
        }
        let who = match &request.key {
            Some(key) => format!("{}[{key}]", request.task),
            None => request.task.clone(),
        };
        let file = self.path.display();
        let known = self.by_task.contains_key(&(request.task.clone(), request.key.clone()));
        let (what, hint) = if known {
            (
                format!("the prompt of `{who}` is not the one recorded in {file}"),
                "an input, the prompt or the schema changed since; record again with `planexe record`, \
                 or play the old answer as a sample with `on_miss = \"task\"`",
            )
        } else {
            (
                format!("{file} has no answer of `{who}`"),
                "build that task with a real model, then record with `planexe record`",
            )
        };
        let mut error = CallError::new(Class::NotRecorded, Message::new(what).hint(hint));
        error.code = Some(digest);
        Err(error)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut file = fs::open_named(path).map_err(|error| error.reason())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > FILE_CAP {
        return Err(format!("is larger than {} MiB", FILE_CAP >> 20));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

impl Provider for Recorded {
    fn call(&self, request: &Request, context: &CallContext<'_>) -> Result<Reply, CallError> {
        let started = Instant::now();
        let (answer, sample) = self.find(request)?;
        let text = answer.text();
        if text.trim().is_empty() {
            return Err(CallError::new(Class::EmptyResponse, "the recorded answer is empty"));
        }
        if text.len() as u64 > BODY_CAP {
            let why = format!("the recorded answer is larger than {} MiB", BODY_CAP >> 20);
            return Err(CallError::new(Class::BadData, why));
        }
        let first_token_s = self.pace.play(&text, context)?;
        // What a sample was recorded with is another prompt.
        let usage = answer.usage.filter(|_| !sample).unwrap_or_else(|| Usage {
            input_tokens: estimate::request_tokens(request),
            output_tokens: answer.usage.map_or_else(|| estimate::tokens(&text), |usage| usage.output_tokens),
            ..Usage::default()
        });
        Ok(Reply {
            // Nothing is paid for an answer that is played.
            usage: Usage { cost_usd: 0.0, calls: 1, ..usage.believed() },
            text,
            model: Some("recorded".into()),
            finish: Some("stop".into()),
            sample,
            first_token_s: Some(first_token_s),
            duration_s: started.elapsed().as_secs_f64(),
            ..Reply::default()
        })
    }

    fn health(&self) -> Health {
        Health::Up
    }

    fn relayed(&self, request: &Request, digest: &str) -> Option<(Wire, Usage)> {
        let found = self.by_digest.get(digest)?.iter().map(|index| &self.file.answers[*index]);
        let own = found.clone().find(|it| it.task == request.task && it.key == request.key);
        let answer = own.or_else(|| found.into_iter().next())?;
        let usage = answer.usage.unwrap_or_default().believed();
        Some((answer.wire.clone()?, Usage { cost_usd: 0.0, calls: 1, ..usage }))
    }
}

/// How an answer without a server appears: over a set time, a few words at each step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    latency: Duration,
    total: Option<Duration>,
}

impl Pace {
    pub(super) fn of(model: &Model) -> Pace {
        Pace {
            latency: model.latency.map_or(Duration::ZERO, |span| span.0),
            total: model.timeouts.total.map(|span| span.0),
        }
    }

    /// Lets the text appear; gives the seconds to its first piece. A cancel or a limit ends it within a step.
    pub(super) fn play(&self, text: &str, context: &CallContext<'_>) -> Result<f64, CallError> {
        let started = Instant::now();
        context.progress.sent();
        let limits = [(self.total, "total"), (context.time_left, "task")];
        let limit = limits.into_iter().filter_map(|(limit, name)| Some((limit?, name))).min();
        let steps = self.latency.as_nanos().div_ceil(TICK.as_nanos()).max(1) as u64;
        let mut first = None;
        let mut shown = 0;
        for step in 1..=steps {
            if context.cancel.is_killing() {
                let mut error = CallError::new(Class::Cancelled, "the call was cancelled");
                error.partial = text[..shown].to_owned();
                return Err(error);
            }
            let until = self.latency.mul_f64(step as f64 / steps as f64);
            if let Some((limit, name)) = limit.filter(|(limit, _)| until > *limit) {
                std::thread::sleep(limit.saturating_sub(started.elapsed()));
                let mut error =
                    CallError::new(Class::Timeout, format!("not whole within {limit:?} ({name})"));
                error.code = Some(name.into());
                error.partial = text[..shown].to_owned();
                return Err(error);
            }
            let nap = until.saturating_sub(started.elapsed());
            if !nap.is_zero() {
                std::thread::sleep(nap);
            }
            let mut to = (text.len() as u128 * u128::from(step) / u128::from(steps)) as usize;
            while !text.is_char_boundary(to) {
                to += 1;
            }
            if to > shown {
                // About a token every four bytes, as a server would count.
                context.progress.pieces(((to - shown) as u64).div_ceil(4), to - shown);
                context.progress.keep(&text[shown..to]);
                shown = to;
                first.get_or_insert_with(|| started.elapsed().as_secs_f64());
            }
        }
        Ok(first.unwrap_or_else(|| started.elapsed().as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::CallProgress;
    use super::*;
    use crate::prompt_digest;
    use planexe_base::cancel::{Cancel, Level};

    fn request(task: &str, key: Option<&str>, prompt: &str) -> Request {
        Request {
            task: task.into(),
            key: key.map(str::to_owned),
            system: "be brief".into(),
            prompt: prompt.into(),
            ..Request::default()
        }
    }

    fn recorded(on_miss: OnMiss) -> Recorded {
        let digest = |prompt: &str| Some(prompt_digest("be brief", prompt, None));
        let answer = |task: &str, key: Option<&str>, digest, answer| RecordedAnswer {
            task: task.into(),
            key: key.map(str::to_owned),
            digest,
            answer,
            usage: None,
            wire: None,
        };
        let file = RecordedFile {
            schema: 1,
            about: "test".into(),
            answers: vec![
                answer("swot", None, digest("one"), json!({ "a": [1, 2] })),
                answer("other", None, digest("one"), json!("other's")),
                answer("review", Some("ada"), digest("ada?"), json!("fine")),
                answer("review", None, None, json!("any review")),
            ],
        };
        let bytes = file.to_bytes();
        assert_eq!(RecordedFile::read(&bytes).unwrap().to_bytes(), bytes);
        Recorded::of("answers.json".into(), file, on_miss, Pace::default())
    }

    fn play(recorded: &Recorded, request: &Request) -> Result<(String, bool), CallError> {
        let context =
            CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
        recorded.call(request, &context).map(|reply| (reply.text, reply.sample))
    }

    #[test]
    fn a_sample_is_counted_by_the_prompt_that_was_asked() {
        let usage = Usage { input_tokens: 7000, cached_tokens: 6000, output_tokens: 9, ..Usage::default() };
        let digest = Some(prompt_digest("be brief", "one", None));
        let answer = RecordedAnswer {
            task: "swot".into(),
            digest,
            answer: json!("fine"),
            usage: Some(usage),
            ..RecordedAnswer::default()
        };
        let file = RecordedFile { schema: 1, answers: vec![answer], ..RecordedFile::default() };
        let recorded = Recorded::of("answers.json".into(), file, OnMiss::Task, Pace::default());
        let context =
            CallContext { cancel: &Cancel::new(), progress: &CallProgress::default(), time_left: None };
        let used = |prompt: &str| recorded.call(&request("swot", None, prompt), &context).unwrap().usage;
        assert_eq!((used("one").input_tokens, used("one").cached_tokens), (7000, 6000));
        let two = used("two");
        assert_eq!((two.cached_tokens, two.output_tokens), (0, 9));
        assert!((1..100).contains(&two.input_tokens), "{two:?}");
    }

    #[test]
    fn answers_are_found_by_digest_then_by_task() {
        let strict = recorded(OnMiss::Fail);
        let loose = recorded(OnMiss::Task);
        let pretty = "{\n  \"a\": [\n    1,\n    2\n  ]\n}";
        type Wanted = Option<(&'static str, bool)>;
        #[rustfmt::skip]
        let rows: &[(&str, Option<&str>, &str, Wanted, Wanted)] = &[
            ("swot", None, "one", Some((pretty, false)), Some((pretty, false))),
            ("other", None, "one", Some(("other's", false)), Some(("other's", false))),
            ("renamed", None, "one", Some((pretty, false)), Some((pretty, false))),
            ("swot", None, "two", None, Some((pretty, true))),
            ("review", Some("ada"), "ada?", Some(("fine", false)), Some(("fine", false))),
            ("review", Some("ada"), "ada!", Some(("any review", true)), Some(("fine", true))),
            ("review", Some("bob"), "bob?", Some(("any review", true)), Some(("any review", true))),
            ("unknown", None, "x", None, None),
        ];
        for (task, key, prompt, on_fail, on_task) in rows {
            for (recorded, wanted) in [(&strict, on_fail), (&loose, on_task)] {
                let got = play(recorded, &request(task, *key, prompt));
                match wanted {
                    Some((text, sample)) => {
                        assert_eq!(got, Ok(((*text).to_owned(), *sample)), "{task} {prompt}")
                    }
                    None => {
                        let error = got.unwrap_err();
                        assert_eq!(error.class, Class::NotRecorded);
                        assert!(error.message.to_lines().contains("planexe record"), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn json_is_kept_as_json_only_if_nothing_is_lost() {
        for (text, is_json) in [
            ("{ \"a\" : [ 1, \"x y\\\" z\" ] }", true),
            ("{\"a\": 1.50}", false),
            ("{\"a\": 1, \"a\": 2}", false),
            ("\"text\"", false),
            ("plain", false),
        ] {
            let value = RecordedAnswer::value_of(text);
            assert_eq!(!value.is_string(), is_json, "{text}");
            if value.is_string() {
                assert_eq!(value, Value::String(text.to_owned()));
            }
        }
    }

    #[test]
    fn a_slow_answer_can_be_cancelled_and_timed_out() {
        let pace = Pace { latency: Duration::from_secs(3600), total: None };
        let cancel = Cancel::new();
        cancel.raise(Level::Killing);
        let progress = CallProgress::default();
        let context = CallContext { cancel: &cancel, progress: &progress, time_left: None };
        assert_eq!(pace.play("text", &context).unwrap_err().class, Class::Cancelled);
        let time_left = Some(Duration::from_millis(1));
        let context = CallContext { cancel: &Cancel::new(), progress: &progress, time_left };
        let error = pace.play("text", &context).unwrap_err();
        assert_eq!((error.class, error.code.as_deref()), (Class::Timeout, Some("task")));
        let pace = Pace { latency: Duration::from_millis(120), total: None };
        let context = CallContext { cancel: &Cancel::new(), progress: &progress, time_left: None };
        pace.play("some words of text, größer", &context).unwrap();
        assert_eq!(progress.snapshot().2, 28);
    }

    #[test]
    fn newer_files_are_refused_and_broken_ones_named() {
        assert!(RecordedFile::read(b"{\"schema\":2,\"answers\":[]}").unwrap_err().contains("newer"));
        assert!(RecordedFile::read(b"{").is_err());
        assert!(RecordedFile::read(b"{\"schema\":1,\"answers\":[]}").is_ok());
    }

    #[test]
    fn an_answer_is_no_larger_than_one_of_a_server() {
        let answer = RecordedAnswer {
            task: "a".into(),
            answer: Value::String("a ".repeat(BODY_CAP as usize / 2 + 1)),
            ..RecordedAnswer::default()
        };
        let file = RecordedFile { schema: 1, about: String::new(), answers: vec![answer] };
        let provider = Recorded::of("r.json".into(), file, OnMiss::Fail, Pace::default());
        let (cancel, progress) = (Cancel::new(), CallProgress::default());
        let context = CallContext { cancel: &cancel, progress: &progress, time_left: None };
        let error = provider.call(&request("a", None, "?"), &context).unwrap_err();
        assert_eq!(error.class, Class::BadData);
    }
}
