//! `price_mode = "batch"`: what is submitted is submitted once, whenever the build is killed, and what is paid for is
//! collected by some later build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::wire::{Asked, DIALECTS, Dialect, Step, Wire, reply, send};
use crate::support::{Space, until};

/// A batch, as its vendor has it.
struct Batch {
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
struct State {
    files: Vec<String>,
    batches: Vec<Batch>,
    /// Batches end as soon as they are looked at.
    quick: bool,
    /// Lists that do not have the last batch yet.
    lag: usize,
    /// It knows no batch of these positions any more.
    gone: BTreeSet<usize>,
    /// Tasks whose calls expire.
    expires: BTreeSet<String>,
    online: BTreeMap<String, usize>,
    requests: usize,
    /// The request at which the client is killed, and whether it was carried out before.
    kill_at: Option<(usize, bool)>,
    victim: Option<Pid>,
}

struct Vendor {
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
    fn new(dialect: Dialect) -> Vendor {
        let state = Arc::new(Mutex::new(State { quick: true, ..State::default() }));
        let (posts, gets) = (Arc::clone(&state), Arc::clone(&state));
        let wire = Wire::new(move |asked| serve(dialect, &posts, asked));
        let wire = wire.gets(move |asked| serve(dialect, &gets, asked));
        Vendor { dialect, state, wire }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the vendor")
    }

    /// A run of so many tasks, with these terms.
    fn space(&self, tasks: usize, terms: &str) -> Space {
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
    fn submitted(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for batch in &self.state().batches {
            for (_, call) in &batch.calls {
                *counts.entry(task_of(call)).or_default() += 1;
            }
        }
        counts
    }

    #[track_caller]
    fn assert_once(&self, space: &Space, tasks: usize, about: &str) {
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

fn vendors() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| *dialect != Dialect::Ollama)
}

#[test]
fn a_fan_out_is_one_batch_at_half_the_price() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let space = vendor.space(5, "");
        space.build();
        vendor.assert_once(&space, 5, dialect.api());
        assert_eq!(vendor.state().batches.len(), 1, "{dialect:?}");
        let lines = space.lines("usage_metrics.jsonl");
        assert_eq!(lines.len(), 5);
        for line in &lines {
            let tokens = line["input_tokens"].as_f64().unwrap() + line["output_tokens"].as_f64().unwrap();
            assert!((line["cost_usd"].as_f64().unwrap() - tokens / 2000.0).abs() < 1e-9, "{line}");
        }
        assert!(space.files(".planexe/batches").is_empty(), "{dialect:?}: nothing is left of it");
        let before = vendor.state().requests;
        space.build();
        assert_eq!(vendor.state().requests, before);
        space.run(&["clean", "t0", "-y"]).exits(0);
        let expected = space.run(&["build", "-n", "--json"]).exits(0).json()["cost_usd"].clone();
        let paid = lines.iter().find(|line| line["task"] == "t0").expect("its line")["cost_usd"].clone();
        assert_eq!(expected, paid, "a forecast counts half the price");
    }
}

#[test]
fn a_build_ends_while_it_waits_and_a_later_one_collects() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        for _ in 0..2 {
            space.run(&["build"]).exits(3).says(&["waiting for a batch of `m`", "planexe resume --at-reset"]);
            assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        }
        let status = space.report();
        let batch = &status["batches"][0];
        assert_eq!((&batch["model"], &batch["done"]), (&json!("m"), &json!(0)), "{status}");
        space.run(&["status"]).exits(0).says(&["waiting for a batch"]);
        let explained = space.run(&["explain", "t0", "--json"]).exits(0).json();
        assert_eq!(explained["batch"], *batch, "{explained}");
        space.run(&["explain", "t0"]).exits(0).says(&["wait for its batch", "0 of 3 done"]);
        let told = |event: &str| {
            let lines = space.lines("events.jsonl");
            lines.into_iter().filter(|line| line["event"] == event).collect::<Vec<_>>()
        };
        assert!(told("batch.ended").is_empty());
        let waits = space.spawn(&["resume", "--at-reset"]);
        let before = vendor.state().requests;
        until("it looks again", || (vendor.state().requests > before + 1).then_some(()));
        vendor.state().quick = true;
        waits.wait().exits(0);
        vendor.assert_once(&space, 3, dialect.api());
        assert!(space.report()["batches"].is_null());
        // Each once, by the build that submitted it and by the one that collected.
        let (submitted, ended) = (told("batch.submitted"), told("batch.ended"));
        assert_eq!((submitted.len(), ended.len()), (1, 1), "{submitted:?} {ended:?}");
        assert_eq!((&submitted[0]["model"], &submitted[0]["calls"]), (&json!("m"), &json!(3)));
        assert_eq!((&ended[0]["calls"], &ended[0]["answered"]), (&json!(3), &json!(3)));
        assert_eq!(submitted[0]["batch"], ended[0]["batch"]);
    }
}

#[test]
fn killed_at_any_request_nothing_is_submitted_twice() {
    for dialect in vendors() {
        for carried_out in [false, true] {
            for n in 1.. {
                let about = format!("{dialect:?}, killed at request {n}, carried out: {carried_out}");
                let vendor = Vendor::new(dialect);
                let space = vendor.space(3, "");
                vendor.state().kill_at = Some((n, carried_out));
                let build = space.spawn(&["build"]);
                vendor.state().victim = Some(build.pid());
                let out = build.wait();
                let is_over = vendor.state().requests < n;
                if is_over {
                    out.exits(0);
                } else {
                    assert_ne!(out.code, 0, "{about}");
                    space.build();
                }
                vendor.assert_once(&space, 3, &about);
                assert!(space.files(".planexe/batches").is_empty(), "{about}");
                if is_over {
                    assert!(n > 3, "{about}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_list_that_lags_is_waited_for() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let space = vendor.space(3, "");
        // Killed once it is submitted, before its id is known.
        let submit = if dialect == Dialect::Openai { 2 } else { 1 };
        (vendor.state().kill_at, vendor.state().lag) = (Some((submit, true)), 2);
        let build = space.spawn(&["build"]);
        vendor.state().victim = Some(build.pid());
        build.wait();
        space.build();
        assert_eq!(vendor.state().lag, 0);
        vendor.assert_once(&space, 3, dialect.api());
    }
}

#[test]
fn what_expired_goes_online() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().expires.insert("t1".into());
        let space = vendor.space(3, "");
        space.build();
        assert_eq!(vendor.state().online, BTreeMap::from([("t1".to_owned(), 1)]), "{dialect:?}");
        assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        assert!(space.files(".planexe/batches").is_empty());
    }
}

#[test]
fn a_batch_that_takes_too_long_is_cancelled_and_its_calls_go_online() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(2, "within = \"1s\"");
        space.build();
        let online: Vec<usize> = vendor.state().online.values().copied().collect();
        assert_eq!((online, vendor.state().batches.len()), (vec![1, 1], 1), "{dialect:?}");
    }
}

#[test]
fn a_batch_that_is_gone_waits_for_a_person() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        space.run(&["build"]).exits(3);
        vendor.state().gone.insert(0);
        space.run(&["build", "--at-reset"]).exits(3).says(&["waits for a person", "planexe clean", "know"]);
        assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        let events = space.lines("events.jsonl");
        let stuck: Vec<_> = events.iter().filter(|line| line["event"] == "batch.stuck").collect();
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        assert!(stuck[0]["message"].as_str().is_some_and(|it| it.contains("planexe clean")), "{stuck:?}");
        // A person says that one of them is asked anew.
        vendor.state().quick = true;
        space.run(&["clean", "t0", "-y"]).exits(0);
        space.run(&["build", "--at-reset"]).exits(3);
        assert!(space.is_done("t0.txt") && !space.is_done("t1.txt"), "{dialect:?}");
        assert_eq!(vendor.submitted()["t0"], 2, "{dialect:?}");
        assert_eq!(vendor.submitted()["t1"], 1, "{dialect:?}");
        // It was a mistake of the vendor's.
        vendor.state().gone.clear();
        space.build();
        assert_eq!(vendor.submitted()["t1"], 1, "{dialect:?}");
    }
}

#[test]
fn a_record_that_cannot_be_read_has_nothing_submitted() {
    for text in ["{", "{\"schema\":99}"] {
        for kind in [".json", ".state.json"] {
            let vendor = Vendor::new(Dialect::Openai);
            vendor.state().quick = false;
            let space = vendor.space(2, "wait = \"0s\"");
            space.run(&["build"]).exits(3);
            let files = space.files(".planexe/batches");
            let state = files.iter().find(|file| file.ends_with(".state.json")).expect("a state");
            let name =
                state.strip_suffix(".state.json").expect("a state").rsplit('/').next().expect("a name");
            let file = format!(".planexe/batches/{name}{kind}");
            let (good, before) = (space.read(&file), vendor.state().requests);
            space.write(&file, text);
            space.run(&["build"]).exits(1).says(&[&file, "nothing is submitted"]);
            assert_eq!(vendor.state().requests, before, "{text} {kind}");
            assert_eq!(space.read(&file), text);
            space.write(&file, good);
            vendor.state().quick = true;
            space.build();
            vendor.assert_once(&space, 2, kind);
        }
    }
}

#[test]
fn calls_that_are_refused_were_not_submitted() {
    let wire = Wire::new(|asked| match asked.line.contains("batches") {
        true => reply(429, "retry-after: 0\r\n", "{\"error\":{\"message\":\"too many\"}}"),
        false => vec![send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")],
    });
    let space = Vendor::new(Dialect::Anthropic).space(1, "");
    let text = space.read("pipeline.toml");
    let line = text.lines().find(|line| line.starts_with("base_url")).expect("a url").to_owned();
    let url = wire.base_url(Dialect::Anthropic);
    space.edit(
        "pipeline.toml",
        &line,
        &format!("base_url = \"{url}\"\nretry = {{ max_attempts = 1, wait = \"1ms\" }}"),
    );
    space.run(&["build"]).exits(1).says(&["too many"]);
    assert!(space.files(".planexe/batches").is_empty(), "nothing waits for it");
}
