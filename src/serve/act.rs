//! What the page changes. It starts planexe with the command that a person would type, so locks, checks and messages are
//! those of that command; the answer is its `--json`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::Server;
use super::http::{Answer, Refused, Request};
use crate::ops::Session;
use crate::ops::detach::{self, Begun};
use crate::ops::stop::building;
use planexe_store::control::Control;

/// The most of what a command says that is taken.
const SAID: u64 = 8 << 20;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Wish {
    /// `planexe pause`
    Pause,
    /// `planexe resume` of a paused build, else `planexe build` in a process of its own.
    Build,
    /// `planexe stop`
    Stop,
    /// `planexe done TASK`
    Done { task: String },
    /// `planexe retry TASK`; without a task, all that failed.
    Retry { task: Option<String> },
    /// `planexe restore TASK@N`
    Restore { version: String },
    /// `planexe edit-plan --set - -n`: changes nothing.
    PreviewPlan { text: String },
    /// `planexe edit-plan --set - --all`
    EditPlan { text: String },
}

/// Answers a wish.
pub(super) fn answer(server: &Server, request: &Request, name: &str) -> Result<Answer, Refused> {
    if name != "do" {
        return Err(Refused::new(404, "there is nothing of this name"));
    }
    if request.header("content-type") != Some("application/json") {
        return Err(Refused::new(400, "the body is to be `application/json`"));
    }
    let wish: Wish = serde_json::from_slice(&request.body)
        .map_err(|error| Refused::new(400, &format!("this is no wish: {error}")))?;
    if !server.may_change && !matches!(wish, Wish::PreviewPlan { .. }) {
        return Err(Refused::new(
            403,
            "this page only looks; `planexe ui --allow-changes` lets it change the run",
        ));
    }
    let session = server.session(request)?;
    let (words, text): (Vec<String>, Option<String>) = match wish {
        Wish::Pause => (vec!["pause".into()], None),
        Wish::Stop => (vec!["stop".into()], None),
        Wish::Done { task } => (vec!["done".into(), "--".into(), task], None),
        Wish::Retry { task } => {
            let mut words = vec!["retry".to_owned(), "--".to_owned()];
            words.extend(task);
            (words, None)
        }
        Wish::Restore { version } => (vec!["restore".into(), "--".into(), version], None),
        Wish::PreviewPlan { text } => {
            (["edit-plan", "--set", "-", "-n"].map(str::to_owned).into(), Some(text))
        }
        Wish::EditPlan { text } => {
            (["edit-plan", "--set", "-", "--all"].map(str::to_owned).into(), Some(text))
        }
        Wish::Build => return build(&session),
    };
    let value = carry_out(&session, &words, text.as_deref())
        .map_err(|error| Refused::new(500, &format!("planexe could not be started: {error}")))?;
    let (code, value) = value;
    match value.get("error") {
        Some(_) if code != 0 => Answer::json(&value).map(|answer| answer.with_status(409)),
        _ => Answer::json(&value),
    }
}

/// Lets a paused build go on, or starts one that outlives this server.
fn build(session: &Session) -> Result<Answer, Refused> {
    let store = session.records(false).map_err(|error| Refused::from_error(&error))?;
    if building(&store).is_some() && store.is_paused() {
        store.ask(&Control::Pause(false)).map_err(|error| Refused::new(500, &error.to_string()))?;
        return Answer::json(&json!({ "message": "it was paused and continues" }));
    }
    let options = session.place.options();
    let begun = detach::build(store.run_dir(), &[], &options, |_| {});
    let begun =
        begun.map_err(|error| Refused::new(500, &format!("the build could not be started: {error}")))?;
    match begun {
        Begun::Runs { pid } | Begun::Slow { pid } => {
            Answer::json(&json!({ "message": "the build runs", "pid": pid }))
        }
        Begun::Ended { code: 0, .. } => Answer::json(&json!({ "message": "the build is done" })),
        Begun::Ended { code, said } => {
            let value = json!({ "error": { "message": said, "code": code.to_string() } });
            Answer::json(&value).map(|answer| answer.with_status(409))
        }
    }
}

/// Runs planexe; its exit code and what it answered.
fn carry_out(session: &Session, words: &[String], text: Option<&str>) -> std::io::Result<(i32, Value)> {
    let run = session.place.run_dir.as_deref().unwrap_or(Path::new("."));
    let mut child = Command::new(detach::program()?)
        .args(session.place.options())
        .arg("-C")
        .arg(run)
        .args(["--json", "--color", "never"])
        .args(words)
        .env_remove("MAKEFLAGS")
        .stdin(if text.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let (Some(text), Some(mut input)) = (text, child.stdin.take()) {
        input.write_all(text.as_bytes())?;
    }
    let mut said = child.stderr.take();
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = said.as_mut().map(|said| said.take(SAID).read_to_string(&mut text));
        text
    });
    let mut answered = String::new();
    if let Some(output) = child.stdout.as_mut() {
        output.take(SAID).read_to_string(&mut answered)?;
    }
    let code = child.wait()?.code().unwrap_or(1);
    let said = told.join().unwrap_or_default();
    let value = serde_json::from_str(&answered).unwrap_or_else(|_| match code {
        0 => json!({ "message": said.trim() }),
        _ => json!({ "error": { "message": said.trim(), "code": code.to_string() } }),
    });
    Ok((code, value))
}
