//! A vendor of batches on loopback, OpenAI's or Anthropic's: it keeps what was submitted and asked online, so that a test
//! can say that nothing was submitted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::wire::{Asked, DIALECTS, Dialect, Step, Wire, reply};
use super::{Space, until};

/// A batch, as its vendor has it.
pub struct Batch {
    /// Ours; empty at a vendor that takes none.
    key: String,
    file: String,
    /// What is asked, by its id.
    calls: Vec<(String, Value)>,
    ended: bool,
    canceled: bool,
}

/// What a vendor of batches does, and what it was asked.
#[derive(Default)]
pub struct State {
    files: Vec<String>,
    /// What was submitted, in order.
    pub batches: Vec<Batch>,
    /// Batches end as soon as they are looked at.
    pub quick: bool,
    /// Lists that do not have the last batch yet.
    pub lag: usize,
    /// It knows no batch of these positions any more.
    pub gone: BTreeSet<usize>,
    /// Tasks whose calls expire.
    pub expires: BTreeSet<String>,
    /// How often each task was asked online.
    pub online: BTreeMap<String, usize>,
    /// All requests so far.
    pub requests: usize,
    /// The request at which the client is killed, and whether it was carried out before.
    pub kill_at: Option<(usize, bool)>,
    /// Who that is.
    pub victim: Option<Pid>,
}

/// The vendor. It ends when it is dropped.
pub struct Vendor {
    dialect: Dialect,
    state: Arc<Mutex<State>>,
    wire: Wire,
}

fn task_of(call: &Value) -> String {
    let text = call.to_string();
    let name = text.split_once("TASK=").map_or("", |(_, rest)| rest);
    name.chars().take_while(char::is_ascii_alphanumeric).collect()
}

impl Vendor {
    /// One whose batches end as soon as they are looked at.
    pub fn new(dialect: Dialect) -> Vendor {
        let state = Arc::new(Mutex::new(State { quick: true, ..State::default() }));
        let (posts, gets) = (Arc::clone(&state), Arc::clone(&state));
        let wire = Wire::new(move |asked| serve(dialect, &posts, asked));
        let wire = wire.gets(move |asked| serve(dialect, &gets, asked));
        Vendor { dialect, state, wire }
    }

    /// What it does, and what it was asked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the vendor")
    }

    /// It forgets everything.
    pub fn forget(&self) {
        *self.state() = State { quick: true, ..State::default() };
    }

    /// A run of so many tasks, with these terms.
    pub fn space(&self, tasks: usize, terms: &str) -> Space {
        let space = Space::new();
        let tasks: String = (0..tasks)
            .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nAnswer.\"\n"))
            .collect();
        let (api, url) = (self.dialect.api(), self.wire.base_url(self.dialect));
        space.write(
            "pipeline.toml",
            format!(
                "[models.m]\napi = \"{api}\"\nbase_url = \"{url}\"\nmodel = \"x\"\nprice_mode = \"batch\"\n\
                 price = {{ input = 1000.0, output = 1000.0 }}\nbatch = {{ settle = \"1s\", {terms} }}\n\n\
                 [defaults]\nmodel = \"m\"\n\n{tasks}"
            ),
        );
        space
    }

    /// How often each task was submitted.
    pub fn submitted(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for batch in &self.state().batches {
            for (_, call) in &batch.calls {
                *counts.entry(task_of(call)).or_default() += 1;
            }
        }
        counts
    }

    /// Each task was submitted once, none was asked online, and each has its answer.
    #[track_caller]
    pub fn assert_once(&self, space: &Space, tasks: usize, about: &str) {
        let wanted: BTreeMap<String, usize> = (0..tasks).map(|n| (format!("t{n}"), 1)).collect();
        assert_eq!(self.submitted(), wanted, "{about}");
        assert!(self.state().online.is_empty(), "{about}");
        for n in 0..tasks {
            assert_eq!(space.read(&format!("t{n}.txt")).trim(), format!("To t{n}."), "{about}");
        }
    }
}

fn serve(dialect: Dialect, state: &Mutex<State>, asked: &Asked) -> Vec<Step> {
    let nth = {
        let mut state = state.lock().expect("the vendor");
        state.requests += 1;
        state.requests
    };
    let kill = state.lock().expect("the vendor").kill_at.filter(|(at, _)| *at == nth);
    let carries_out = kill.is_none_or(|(_, carried_out)| carried_out);
    let answer = carries_out.then(|| state.lock().expect("the vendor").answer(dialect, asked));
    if kill.is_some() {
        let victim = until("somebody to kill", || state.lock().expect("the vendor").victim);
        kill_process(victim, Signal::KILL).expect("kill");
        return Vec::new();
    }
    let (status, text) = answer.expect("an answer");
    reply(status, "", &text)
}

impl State {
    fn answer(&mut self, dialect: Dialect, asked: &Asked) -> (u16, String) {
        let (method, path) = asked.line.split_once(' ').expect("a request");
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let path = path.trim_start_matches("/v1/").trim_start_matches("messages/");
        let parts: Vec<&str> = path.split('/').collect();
        match (method, &parts[..]) {
            ("POST", ["files"]) => {
                self.files.push(asked.text.clone());
                (200, json!({ "id": format!("file-{}", self.files.len() - 1) }).to_string())
            }
            ("POST", ["batches"]) => {
                let file = asked.body["input_file_id"].as_str().unwrap_or_default().to_owned();
                let calls = match dialect {
                    Dialect::Openai => {
                        let at: usize = file.trim_start_matches("file-").parse().expect("a file");
                        let lines = self.files[at].lines().filter(|line| line.starts_with('{'));
                        let call = |line| -> Value { serde_json::from_str(line).expect("a line") };
                        let pair = |line: Value| {
                            (line["custom_id"].as_str().expect("an id").to_owned(), line["body"].clone())
                        };
                        lines.map(call).map(pair).collect()
                    }
                    _ => {
                        let requests = asked.body["requests"].as_array().expect("requests");
                        let pair = |line: &Value| {
                            (line["custom_id"].as_str().expect("an id").to_owned(), line["params"].clone())
                        };
                        requests.iter().map(pair).collect()
                    }
                };
                let key = asked.body["metadata"]["planexe"].as_str().unwrap_or_default().to_owned();
                self.batches.push(Batch { key, file, calls, ended: false, canceled: false });
                (200, self.shown(dialect, self.batches.len() - 1).to_string())
            }
            ("GET", ["batches"]) => {
                let lags = self.lag > 0;
                self.lag = self.lag.saturating_sub(1);
                self.end();
                let listed = self.batches.len() - usize::from(lags && !self.batches.is_empty());
                let data: Vec<Value> = (0..listed).rev().map(|at| self.shown(dialect, at)).collect();
                (200, json!({ "object": "list", "data": data, "has_more": false }).to_string())
            }
            ("GET", ["batches", id]) => {
                let at = at(id);
                self.end();
                match self.gone.contains(&at) {
                    true => (404, json!({ "error": { "message": "no such batch" } }).to_string()),
                    false => (200, self.shown(dialect, at).to_string()),
                }
            }
            ("POST", ["batches", id, "cancel"]) => {
                let at = at(id);
                (self.batches[at].ended, self.batches[at].canceled) = (true, true);
                (200, self.shown(dialect, at).to_string())
            }
            ("GET", ["files", id, "content"] | ["batches", id, "results"]) => {
                (200, self.results(dialect, at(id)))
            }
            ("POST", _) => {
                let task = task_of(&asked.body);
                let text = dialect.in_one_piece(&format!("To {task}."));
                *self.online.entry(task).or_default() += 1;
                (200, text)
            }
            _ => (404, json!({ "error": { "message": "no such path" } }).to_string()),
        }
    }

    fn end(&mut self) {
        let quick = self.quick;
        self.batches.iter_mut().for_each(|batch| batch.ended |= quick);
    }

    fn is_answered(&self, batch: &Batch, call: &Value) -> bool {
        !batch.canceled && !self.expires.contains(&task_of(call))
    }

    fn shown(&self, dialect: Dialect, at: usize) -> Value {
        let batch = &self.batches[at];
        let total = batch.calls.len();
        let answered = batch.calls.iter().filter(|(_, call)| self.is_answered(batch, call)).count();
        let done = if batch.ended { answered } else { 0 };
        let now = jiff::Timestamp::now();
        match dialect {
            Dialect::Openai => json!({
                "id": format!("batch_{at}"), "object": "batch", "input_file_id": batch.file,
                "status": match (batch.ended, batch.canceled) {
                    (true, true) => "cancelled", (true, false) => "completed", _ => "in_progress"
                },
                "output_file_id": batch.ended.then(|| format!("out_{at}")),
                "created_at": now.as_second(), "expires_at": now.as_second() + 86400,
                "metadata": { "planexe": batch.key },
                "request_counts": { "total": total, "completed": done, "failed": 0 },
            }),
            _ => json!({
                "id": format!("msgbatch_{at}"), "type": "message_batch",
                "processing_status": if batch.ended { "ended" } else { "in_progress" },
                "created_at": now.to_string(), "expires_at": "2099-01-01T00:00:00Z",
                "request_counts": {
                    "processing": if batch.ended { 0 } else { total }, "succeeded": done, "errored": 0,
                    "canceled": if batch.canceled { total } else { 0 },
                    "expired": if batch.ended && !batch.canceled { total - answered } else { 0 },
                },
            }),
        }
    }

    fn results(&self, dialect: Dialect, at: usize) -> String {
        let batch = &self.batches[at];
        let lines = batch.calls.iter().map(|(id, call)| {
            let text = dialect.in_one_piece(&format!("To {}.", task_of(call)));
            let mut body: Value = serde_json::from_str(&text).expect("an answer");
            body["id"] = format!("answer-{id}").into();
            let is_answered = self.is_answered(batch, call);
            let line = match (dialect, is_answered) {
                (Dialect::Openai, true) => {
                    json!({ "custom_id": id, "response": { "status_code": 200, "body": body }, "error": null })
                }
                (Dialect::Openai, false) => {
                    let code = if batch.canceled { "batch_cancelled" } else { "batch_expired" };
                    json!({ "custom_id": id, "response": null, "error": { "code": code } })
                }
                (_, true) => {
                    json!({ "custom_id": id, "result": { "type": "succeeded", "message": body } })
                }
                (_, false) => {
                    let kind = if batch.canceled { "canceled" } else { "expired" };
                    json!({ "custom_id": id, "result": { "type": kind } })
                }
            };
            format!("{line}\n")
        });
        lines.collect()
    }
}

/// The position of a batch or its file.
fn at(id: &str) -> usize {
    id.rsplit('_').next().and_then(|at| at.parse().ok()).expect("an id")
}

/// Those that have batches.
pub fn vendors() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| *dialect != Dialect::Ollama)
}
