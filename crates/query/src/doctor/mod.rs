//! What keeps a run from working, each finding with a remedy. Looks at the machine, the run directory and the
//! models' servers; changes nothing but for a scratch file that is gone at once.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::selection::Units;
use planexe_base::cancel::Cancel;
use planexe_base::clock;
use planexe_base::fs;
use planexe_base::process::Lifeline;
use planexe_base::style;
use planexe_build::git::Git;
use planexe_llm::keys::KeyRing;
use planexe_llm::probe::{self, Facts};
use planexe_llm::{self as llm, CallContext, CallProgress, Request, Setup, base_url};
use planexe_pipeline::check;
use planexe_pipeline::check::CompiledSchema;
use planexe_pipeline::manifest::types::{Api, Model, Server};
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::{Endpoint, Line};
use planexe_store::Store;
use planexe_store::lock::RunLock;
use planexe_store::seal::Seal;
use planexe_ui::views::shell_word;

pub mod executors;
pub mod isolation;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Nothing is wrong.
    Ok,
    /// It works, but not as one might think.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// What kind of thing: `lock`, `disk`, `model`, …
    pub check: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Ok, message: message.into(), remedy: None }
    }

    /// Something to know.
    pub fn warn(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// Something that does not work.
    pub fn fail(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Fail, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Below this a build is likely to run out of space.
const LITTLE: u64 = 1_000_000_000;
/// Below this it cannot work.
const TOO_LITTLE: u64 = 50_000_000;

/// Everything about the run directory and its place.
pub fn of_place(store: &Store) -> Vec<Finding> {
    let run = store.run_dir();
    let mut all = vec![disk(run)];
    all.extend(files(run));
    all.push(lock(run));
    all.extend(steering(store));
    all.extend(key());
    all.push(git(run));
    all
}

/// The user's own key, without which nothing that was kept of a run is believed; every build then examines every file.
fn key() -> Option<Finding> {
    let (why, remedy) = Seal::damage()?;
    Some(Finding::warn("key", format!("what planexe keeps of a run is not believed: {why}"), remedy))
}

/// Room on the disk.
fn disk(run: &Path) -> Finding {
    match fs::free_space(run) {
        Ok(free) => space(free),
        Err(error) => Finding::warn(
            "disk",
            format!("cannot tell how much room there is: {}", error.reason()),
            "look with `df`",
        ),
    }
}

fn space(free: u64) -> Finding {
    let message = format!("{} free", style::bytes(free));
    let remedy = "make room; `planexe gc --max-size 500M` forgets old versions";
    match free {
        0..TOO_LITTLE => Finding::fail("disk", message, remedy),
        TOO_LITTLE..LITTLE => Finding::warn("disk", message, remedy),
        _ => Finding::ok("disk", message),
    }
}

/// Whether files can be written, how fine their times are, whether they agree with the clock, whether there are
/// locks: one scratch file tells.
fn files(run: &Path) -> Vec<Finding> {
    let own = run.join(".planexe");
    if fs::kind(&own).ok().flatten().is_some_and(|kind| kind != fs::FileKind::Dir) {
        let message = "`.planexe` is not a directory of its own, so nothing can be built";
        return vec![Finding::fail("files", message, "move it away: planexe keeps its records there")];
    }
    let dir = if own.is_dir() { own.as_path() } else { run };
    let file = match fs::scratch_file(dir) {
        Ok(file) => file,
        Err(error) => {
            let remedy = "reading commands work all the same; to build, make the directory writable";
            return vec![Finding::fail("files", error.to_string(), remedy)];
        }
    };
    let now = SystemTime::now();
    let mut all = vec![match file.metadata().and_then(|metadata| metadata.modified()) {
        Ok(mtime) => times(now, mtime),
        Err(error) => {
            Finding::warn("clock", format!("a file's time cannot be read: {error}"), "see the system's log")
        }
    }];
    let has_locks = match file.try_lock() {
        Ok(()) => true,
        Err(std::fs::TryLockError::WouldBlock) => true,
        Err(std::fs::TryLockError::Error(_)) => false,
    };
    if !has_locks {
        all.push(Finding::warn(
            "lock",
            "the file system has no locks: two builds at once would not be noticed",
            "keep the run on a local disk, or build with `--no-lock` and never twice at once",
        ));
    }
    all
}

/// A file just written has the time of now, more or less.
fn times(now: SystemTime, mtime: SystemTime) -> Finding {
    let apart = now.duration_since(mtime).unwrap_or_else(|error| error.duration());
    let nanos = mtime.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let unit = match nanos {
        0 => "seconds",
        n if n % 1_000_000 == 0 => "milliseconds",
        n if n % 1_000 == 0 => "microseconds",
        _ => "nanoseconds",
    };
    if apart > Duration::from_secs(3) {
        return Finding::warn(
            "clock",
            format!("files are stamped {} off the clock", style::duration(apart.as_secs_f64())),
            "set the clocks of this machine and of the file server; content decides, so nothing goes wrong by it, but more is read",
        );
    }
    if now < SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) {
        return Finding::warn("clock", format!("the clock says {}", clock::format_utc(now)), "set it");
    }
    Finding::ok("clock", format!("{}; file times in {unit}", clock::format_utc(now)))
}

fn lock(run: &Path) -> Finding {
    match RunLock::owner(run) {
        None => Finding::ok("lock", "free"),
        Some(owner) => {
            let what = owner
                .command
                .as_deref()
                .map_or(String::new(), |command| format!(" by `{}`", style::clean(command)));
            Finding::ok("lock", format!("held{what}, PID {} on {}", owner.pid, style::clean(&owner.host)))
        }
    }
}

/// Files that steer a build and were forgotten.
fn steering(store: &Store) -> Vec<Finding> {
    let there = |name: &str| fs::kind(&store.planexe_dir().join(name)).ok().flatten().is_some();
    let mut all = Vec::new();
    if there("pause") {
        let message = "`.planexe/pause` is there: a build starts nothing while it is";
        all.push(Finding::warn("steering", message, "`planexe resume`, or remove the file"));
    }
    if there("passed") {
        let passed = fs::list_dir(&store.planexe_dir().join("passed")).map_or(0, |list| list.len());
        if passed > 0 {
            let message =
                format!("{} said done by a person, not taken up yet", style::count(passed as u64, "task"));
            all.push(Finding::warn("steering", message, "`planexe build` takes it up"));
        }
    }
    all
}

/// Outputs that no task makes any more.
pub fn orphans(opened: &Opened) -> Finding {
    let found = match Units::new(&opened.project, &opened.store).orphans() {
        Ok(found) => found,
        Err(error) => return Finding::warn("orphans", error.to_string(), "see the message"),
    };
    match &found[..] {
        [] => Finding::ok("orphans", "none"),
        [first, ..] => Finding::warn(
            "orphans",
            format!(
                "outputs of {} no longer in the pipeline, `{}` for one",
                style::count(found.len() as u64, "task"),
                style::clean(&first.outputs[0])
            ),
            "`planexe clean --orphans -n` lists them; without `-n` they go to history",
        ),
    }
}

/// In a git repository planexe's own folder should not be committed.
fn git(run: &Path) -> Finding {
    let Some(repository) = run.ancestors().find(|dir| dir.join(".git").exists()) else {
        return Finding::ok("git", "the run is in no repository");
    };
    let asked = Git::at(run).run(&["check-ignore", "-q", ".planexe/calls"]);
    let name = repository.display();
    match asked.map(|said| said.code) {
        Ok(0) => Finding::ok("git", format!("in the repository `{name}`, `.planexe/` ignored")),
        Ok(1) => Finding::warn(
            "git",
            format!(
                "`.planexe/` is not ignored by the repository `{name}`: prompts and answers would be committed"
            ),
            format!("echo .planexe/ >> {}", shell_word(&repository.join(".gitignore").display().to_string())),
        ),
        Ok(_) => Finding::warn("git", format!("git does not answer for `{name}`"), "try `git status` there"),
        Err(_) => Finding::warn("git", "there is no `git` to ask".to_owned(), "install git"),
    }
}

/// Whether a program is found by its name, with this PATH.
fn is_on_path(program: &str, path: Option<&str>) -> bool {
    // Without a PATH the system looks here.
    path.unwrap_or("/bin:/usr/bin").split(':').any(|dir| Path::new(dir).join(program).is_file())
}

/// Programs that commands start by name, and whether they are to be found.
pub fn of_programs(opened: &Opened, path: Option<&str>) -> Vec<Finding> {
    let mut missing: Vec<(String, String)> = Vec::new();
    let mut found = 0u64;
    let mut seen = std::collections::BTreeSet::new();
    let commands = opened.project.specs.iter().flat_map(|spec| spec.commands().map(move |it| (spec, it)));
    for (spec, command) in commands {
        let program = match &command.line {
            Line::Argv(argv) => argv.first().cloned().unwrap_or_default(),
            Line::Shell(_) => "sh".to_owned(),
        };
        // A path is looked up from the command's own folder, a variable is not known here.
        if program.contains(['/', '$', '{']) || !seen.insert(program.clone()) {
            continue;
        }
        if is_on_path(&program, path) { found += 1 } else { missing.push((spec.name.clone(), program)) }
    }
    let mut all: Vec<Finding> = missing
        .into_iter()
        .map(|(task, program)| {
            let message = format!("`{}`, which `{task}` starts, is not on the PATH", style::clean(&program));
            Finding::fail("programs", message, format!("install {}, or set PATH", style::clean(&program)))
        })
        .collect();
    if all.is_empty() && found > 0 {
        all.push(Finding::ok("programs", format!("{} found", style::count(found, "program"))));
    }
    all
}

/// The models: their servers, their names there, their context.
/// `call`: each that can be asked is, once.
pub fn of_models(endpoints: &[&Endpoint], folder: &Path, ring: &KeyRing, call: bool) -> Vec<Finding> {
    let ask = |endpoint: &&Endpoint| {
        let lifeline = Lifeline::new(None);
        let setup = Setup {
            name: &endpoint.name,
            folder,
            keys: ring,
            lifeline: &lifeline,
            calibration: None,
            ceiling: None,
        };
        if endpoint.model.api.is_some_and(Api::is_agent) {
            let found = of_agent(endpoint, &setup);
            let is_there = found.grade != Grade::Fail;
            let mut all = vec![found];
            all.extend((call && is_there).then(|| one_call(endpoint, &setup)));
            return all;
        }
        match probe::facts(&endpoint.model, &setup) {
            Ok(facts) => {
                let mut all = of_facts(endpoint, &facts);
                if call && all.iter().all(|finding| finding.check != "model" || finding.grade != Grade::Fail)
                {
                    all.push(one_call(endpoint, &setup));
                }
                all
            }
            Err(error) => {
                let remedy = error.message.advice();
                let remedy = remedy.as_deref().unwrap_or("mend the model's table in the pipeline");
                vec![Finding::fail(
                    "model",
                    format!("{}: {}", endpoint.name, style::clean(&error.message.text)),
                    style::clean(remedy),
                )]
            }
        }
    };
    endpoints.par_iter().map(ask).flatten().collect()
}

/// Whether an agent program is there, and which version.
fn of_agent(endpoint: &Endpoint, setup: &Setup<'_>) -> Finding {
    let program = llm::agent::program(&endpoint.model);
    let program = style::clean(program.first().map_or("", String::as_str));
    match llm::agent::version(&endpoint.model, setup) {
        Ok(version) => {
            Finding::ok("model", format!("{}: `{program}` {}", endpoint.name, style::clean(&version)))
        }
        Err(error) => Finding::fail(
            "model",
            format!("{}: {}", endpoint.name, style::clean(&error.message.text)),
            format!("install {program}, or name what starts it: `command = [\"/path/to/{program}\"]`"),
        ),
    }
}

/// How long the one call may take: a model may have to be loaded first.
const CALL: Duration = Duration::from_secs(180);

/// One tiny question with a schema: whether the model answers, and keeps to it.
fn one_call(endpoint: &Endpoint, setup: &Setup<'_>) -> Finding {
    let name = &endpoint.name;
    let schema = json!({
        "type": "object", "required": ["ok"], "additionalProperties": false,
        "properties": { "ok": { "type": "boolean" } }
    });
    let compiled = CompiledSchema::compile(schema.clone()).ok();
    let request = Request {
        task: "doctor".into(),
        key: None,
        system: String::new(),
        prompt: "Answer with the JSON object {\"ok\": true} and nothing else.".into(),
        files: std::sync::Arc::default(),
        rejected: Vec::new(),
        schema: Some(schema),
        check: None,
        // Room for a model that thinks first.
        params: [("max_tokens".to_owned(), 2000.into())].into_iter().collect(),
        params_extra: Default::default(),
        tools: None,
        division: planexe_base::prefix::Division::default(),
    };
    let (cancel, progress) = (Cancel::new(), CallProgress::default());
    let context = CallContext { cancel: &cancel, progress: &progress, time_left: Some(CALL) };
    let mut in_words = false;
    let result =
        llm::provider(&endpoint.model, setup).and_then(|provider| match provider.call(&request, &context) {
            Err(error) if error.adapted => {
                in_words = true;
                provider.call(&request, &context)
            }
            result => result,
        });
    match result {
        Ok(reply) => {
            let took = style::duration(reply.duration_s);
            let tokens = style::tokens(reply.usage.input_tokens + reply.usage.output_tokens);
            match check::validate(&reply.text, compiled.as_ref(), None) {
                Ok(_) if in_words => Finding::ok(
                    "call",
                    format!(
                        "{name}: answers in {took} ({tokens} tokens); takes no schema, but keeps to one in words"
                    ),
                ),
                Ok(_) => Finding::ok(
                    "call",
                    format!("{name}: answers in {took} ({tokens} tokens), and keeps to a schema"),
                ),
                Err(_) => Finding::warn(
                    "call",
                    format!("{name}: answers in {took} ({tokens} tokens), but does not keep to a schema"),
                    "answers are checked and asked for again, which costs; give tasks with a `schema` a model that keeps to it",
                ),
            }
        }
        Err(error) => {
            let remedy = error.message.advice();
            let remedy =
                remedy.as_deref().unwrap_or("`planexe show TASK` tells what a task was sent and answered");
            let message = format!("{name}: {}: {}", error.class.name(), style::clean(&error.message.text));
            Finding::fail("call", message, style::clean(remedy))
        }
    }
}

/// What a server's facts mean for a model.
fn of_facts(endpoint: &Endpoint, facts: &Facts) -> Vec<Finding> {
    let (name, model) = (&endpoint.name, &endpoint.model);
    let url = style::clean(base_url(model));
    let server = match (&facts.server, &facts.version) {
        (Some(server), Some(version)) => format!(" ({} {})", server.name(), style::clean(version)),
        (Some(server), None) => format!(" ({})", server.name()),
        _ => String::new(),
    };
    let note = facts.note.as_deref().map(style::clean);
    if !facts.reachable {
        let why = note.unwrap_or_else(|| "no answer".to_owned());
        return vec![Finding::fail(
            "model",
            format!("{name}: {url} cannot be reached: {why}"),
            start_hint(model),
        )];
    }
    if facts.key_accepted == Some(false) {
        let message = format!("{name}: {}", note.unwrap_or_else(|| format!("{url} does not take the key")));
        return vec![Finding::fail(
            "model",
            message,
            "`planexe keys` shows which key goes there; set the right one",
        )];
    }
    if let Some(why) = &facts.unready {
        let message = format!("{name}: {url} is up and takes no calls yet: {}", style::clean(why));
        return vec![Finding::warn(
            "model",
            message,
            "a build waits for a model that is loading; look at the server's own log",
        )];
    }
    let mut all = Vec::new();
    if facts.model_present == Some(false) && facts.server != Some(Server::LlamaCpp) {
        let known =
            facts.models.iter().map(|model| style::clean(model)).take(5).collect::<Vec<_>>().join(", ");
        let message = format!("{name}: {}", note.unwrap_or_else(|| "the model is not there".to_owned()));
        all.push(Finding::fail(
            "model",
            message,
            format!("load it, or set `model` to one that is there: {known}"),
        ));
    } else if url.is_empty() {
        all.push(Finding::ok("model", format!("{name}: {}, no server needed", endpoint.api())));
    } else if let Some(note) = note {
        let remedy = match model.api {
            Some(Api::Openai) => {
                "`base_url` ends in `/v1` with most servers; `planexe doctor --call` asks the model itself"
            }
            _ => "see whether `base_url` is right; `planexe doctor --call` asks the model itself",
        };
        all.push(Finding::warn("model", format!("{name}: {url} answers{server}, but {note}"), remedy));
    } else {
        let there = match (facts.model_present, facts.loaded) {
            (Some(true), Some(true)) => ", the model is there, and loaded",
            (Some(true), Some(false)) => {
                ", the model is there; it is not loaded, which the first call waits for"
            }
            (Some(true), None) => ", the model is there",
            _ => "",
        };
        all.push(Finding::ok("model", format!("{name}: {url} answers{server}{there}")));
    }
    match (facts.context_window, model.context_window) {
        (Some(real), Some(said)) if real < said => all.push(Finding::fail(
            "context",
            format!("{name}: the server holds {} tokens, the pipeline says {}", real, said),
            format!("load the model with a context of {said}, or set `context_window = {real}`"),
        )),
        (Some(real), Some(_)) => all.push(Finding::ok("context", format!("{name}: {real} tokens"))),
        (Some(real), None) => all.push(Finding::warn(
            "context",
            format!("{name}: the server holds {real} tokens, the pipeline does not say"),
            format!("`context_window = {real}` under [models.{name}] has prompts that are too long found before they are sent"),
        )),
        (None, _) => {}
    }
    if let Some(slots) = facts.slots
        && model.max_concurrent.is_some_and(|asked| asked > slots)
    {
        all.push(Finding::warn(
            "slots",
            format!(
                "{name}: the server works on {} at once, the pipeline asks for more",
                style::count(u64::from(slots), "call")
            ),
            format!("`max_concurrent = {slots}`: more only wait there, and may run into their timeouts"),
        ));
    }
    all
}

/// How a server is started.
fn start_hint(model: &Model) -> String {
    let url = base_url(model);
    let local = planexe_llm::is_local(url);
    match (model.server, local) {
        (Some(Server::LmStudio), _) => "start its server: `lms server start`".to_owned(),
        (Some(Server::Ollama), _) => "start it: `ollama serve`".to_owned(),
        (_, true) if url.contains(":1234") => "start LM Studio's server: `lms server start`".to_owned(),
        (_, true) if url.contains(":11434") || model.api == Some(Api::Ollama) => {
            "start it: `ollama serve`".to_owned()
        }
        (_, true) => "start the server; a build waits for it, too".to_owned(),
        _ => "look at the network, the proxy and the `base_url`".to_owned(),
    }
}

#[cfg(test)]
mod tests;
