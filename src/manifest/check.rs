//! Checks of the typed tables that need no graph and no other file: whether every name is known,
//! every task has one recipe with the keys that fit it, every number makes sense.

use std::collections::HashMap;
use std::path::Path;

use super::fault::{Fault, list_of, nearest, suggest};
use super::inputs::{NamedInput, named};
use super::names::{identifier, is_identifier, is_task_name, loose};
use super::paths;
use super::place::KeyPath;
use super::read::is_damaged;
use super::types::{
    Api, CallTimeouts, Check, Command, Env, Fail, Foreach, Model, OneOrMany, Output, Retry, Span, Tables,
    Task,
};
use crate::event::TOLD;
use crate::key_path;

/// The version of the format this planexe reads.
pub const SCHEMA: u32 = 1;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// Asks a model.
    Prompt,
    /// Runs a program.
    Command,
    /// Renders a template.
    Template,
    /// Judges a condition.
    Gate,
    /// Waits for a person.
    Human,
    /// Nothing: a group of inputs.
    Group,
}

impl Recipe {
    /// The key that says so.
    pub fn key(self) -> &'static str {
        match self {
            Recipe::Prompt => "prompt",
            Recipe::Command => "command",
            Recipe::Template => "template",
            Recipe::Gate => "gate",
            Recipe::Human => "human",
            Recipe::Group => "inputs",
        }
    }
}

impl Task {
    /// What the task does; of several recipes (a fault) the first.
    pub fn recipe(&self) -> Recipe {
        self.recipes().first().copied().unwrap_or(Recipe::Group)
    }

    fn recipes(&self) -> Vec<Recipe> {
        let given = [
            (self.prompt.is_some(), Recipe::Prompt),
            (self.command.is_some(), Recipe::Command),
            (self.template.is_some(), Recipe::Template),
            (self.gate.is_some(), Recipe::Gate),
            (self.human.is_some(), Recipe::Human),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, recipe)| recipe).collect()
    }
}

/// Notes everything that is wrong. `file` is the pipeline's own path.
/// `damaged` are the places where keys were left out because they could not be read.
pub(super) fn check(tables: &Tables, file: &Path, damaged: &[KeyPath], faults: &mut Vec<Fault>) {
    let pipeline = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut checker = Checker { tables, pipeline, damaged, faults };
    checker.pipeline();
    checker.models();
    checker.others();
    checker.task_names();
    checker.aliases();
    for (name, task) in &tables.task {
        TaskChecker { at: KeyPath::task(name), name, task, recipe: task.recipe(), all: &mut checker }.check();
    }
    checker.tasks_without_model();
}

struct Checker<'a> {
    tables: &'a Tables,
    pipeline: String,
    damaged: &'a [KeyPath],
    faults: &'a mut Vec<Fault>,
}

impl Checker<'_> {
    fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn pipeline(&mut self) {
        let pipeline = &self.tables.pipeline;
        if let Some(schema) = pipeline.schema {
            let at = key_path!["pipeline", "schema"];
            if schema > SCHEMA {
                self.add(
                    Fault::at(at, format!("the file is of format {schema}, newer than this planexe knows"))
                        .wanted(format!("{SCHEMA} is the newest known"))
                        .hint("install a newer planexe"),
                );
            } else if schema == 0 {
                self.add(Fault::at(at, "format 0 does not exist").wanted("wanted `1`"));
            }
        }
        for (index, wanted) in pipeline.default.iter().enumerate() {
            let outputs = self.tables.task.values().flat_map(|task| task.outputs.iter().map(Output::path));
            if self.tables.task.contains_key(wanted) || outputs.clone().any(|path| path == wanted) {
                continue;
            }
            let known = self.tables.task.keys().map(String::as_str).chain(outputs);
            let hint = suggest(wanted, known.collect::<Vec<_>>());
            self.add(
                Fault::at(key_path!["pipeline", "default", index], format!("no task or output `{wanted}`"))
                    .wanted("no such task")
                    .maybe_hint(hint),
            );
        }
        if let Some(plan) = &pipeline.plan {
            let at = key_path!["pipeline", "plan"];
            match paths::substitute_vars(plan, &self.tables.vars) {
                Ok(path) if paths::has_key(&path) => {
                    self.add(
                        Fault::at(at, "`{{ key }}` has no meaning here").wanted("wanted the path of a file"),
                    );
                }
                Ok(path) => {
                    if let Err(fault) = paths::check_input(&path) {
                        self.path_fault(at, fault);
                    }
                }
                Err(fault) => self.path_fault(at, fault),
            }
        }
    }

    /// An alias means something, and nothing else is called so.
    fn aliases(&mut self) {
        let tables = self.tables;
        let outputs =
            || tables.task.iter().flat_map(|(name, task)| task.outputs.iter().map(move |o| (o.path(), name)));
        let mut taken: HashMap<String, String> = HashMap::new();
        taken.extend(outputs().map(|(path, name)| (loose(path), format!("an output of task `{name}`"))));
        taken.extend(tables.task.keys().map(|name| (loose(name), format!("task `{name}`"))));
        for (alias, means) in &tables.aliases {
            let at = key_path!["aliases", alias];
            self.name(&at, alias, "alias");
            if alias.contains(['[', ']']) {
                let fault = Fault::at(&at, format!("alias `{alias}` has brackets, which name an item"));
                self.add(fault.on_key().wanted("a name without `[` and `]`"));
            } else if let Some(other) = taken.insert(loose(alias), format!("alias `{alias}`")) {
                let fault = Fault::at(&at, format!("alias `{alias}` is also the name of {other}"));
                self.add(fault.on_key().wanted("a name that means nothing else"));
            }
            if !tables.task.contains_key(means) && !outputs().any(|(path, _)| path == means) {
                let known = tables.task.keys().map(String::as_str).chain(outputs().map(|(path, _)| path));
                let hint = suggest(means, known.collect::<Vec<_>>());
                let fault = Fault::at(at, format!("alias `{alias}` means `{means}`, no task or output"));
                self.add(fault.wanted("no such task").maybe_hint(hint));
            }
        }
    }

    fn path_fault(&mut self, at: KeyPath, fault: paths::PathFault) {
        let mut fault_at = Fault::at(at, fault.message);
        match fault.wanted {
            Some(wanted) if wanted.starts_with("did you mean") || wanted.starts_with("add ") => {
                fault_at.hint = Some(wanted);
                fault_at.wanted = Some("no such variable".to_owned());
            }
            wanted => fault_at.wanted = wanted,
        }
        self.add(fault_at);
    }

    fn models(&mut self) {
        let tables = self.tables;
        for (name, model) in &tables.models {
            let at = key_path!["models", name];
            self.name(&at, name, "model");
            self.model(&at, model, true);
        }
        for (profile, over) in &tables.profiles {
            for (name, model) in &over.models {
                self.model(&key_path!["profiles", profile, "models", name], model, false);
            }
        }
        if let Some(models) = &tables.defaults.model {
            self.model_names(&key_path!["defaults", "model"], models);
        }
        for (profile, over) in &tables.profiles {
            if let Some(models) = &over.defaults.model {
                let known: Vec<&str> =
                    tables.models.keys().chain(over.models.keys()).map(String::as_str).collect();
                self.names_known(&key_path!["profiles", profile, "defaults", "model"], models, &known);
            }
        }
    }

    fn name(&mut self, at: &KeyPath, name: &str, what: &str) {
        if name.trim().is_empty() {
            self.add(Fault::at(at, format!("a {what} without a name")).on_key().wanted("wanted a name"));
        }
    }

    fn model_names(&mut self, at: &KeyPath, models: &OneOrMany) {
        let known: Vec<&str> = self.tables.models.keys().map(String::as_str).collect();
        self.names_known(at, models, &known);
    }

    fn names_known(&mut self, at: &KeyPath, models: &OneOrMany, known: &[&str]) {
        if models.as_slice().is_empty() {
            self.add(Fault::at(at, format!("`{at}` is an empty list")).wanted("wanted at least one model"));
        }
        for (index, name) in models.as_slice().iter().enumerate() {
            if known.contains(&name.as_str()) {
                continue;
            }
            let at = match models {
                OneOrMany::One(_) => at.clone(),
                OneOrMany::Many(_) => at.then(index),
            };
            let hint = suggest(name, known.iter().copied())
                .unwrap_or_else(|| format!("add a table `[models.{name}]`"));
            self.add(Fault::at(at, format!("unknown model `{name}`")).wanted("no such model").hint(hint));
        }
    }

    fn model(&mut self, at: &KeyPath, model: &Model, whole: bool) {
        let Some(api) = model.api else {
            if whole {
                self.add(
                    Fault::at(at, format!("`{at}` has no `api`"))
                        .on_key()
                        .wanted("`api` is missing")
                        .hint("add `api = \"openai\"` (or anthropic, ollama, command, recorded, simulated)"),
                );
            }
            self.model_values(at, model);
            return;
        };
        let network = matches!(api, Api::Openai | Api::Anthropic | Api::Ollama);
        let needs: &[(&str, bool, &str)] = match api {
            Api::Openai => &[
                ("base_url", model.base_url.is_some(), "`base_url = \"http://127.0.0.1:1234/v1\"`"),
                ("model", model.model.is_some(), "`model = \"…\"`, the name its server knows"),
            ],
            Api::Anthropic | Api::Ollama => {
                &[("model", model.model.is_some(), "`model = \"…\"`, the name its server knows")]
            }
            Api::Command => {
                &[("command", !model.command.is_empty(), "`command = [\"program\", \"argument\"]`")]
            }
            Api::Recorded => {
                &[("file", model.file.is_some(), "`file = \"answers.jsonl\"`, written by `planexe record`")]
            }
            Api::Simulated => &[],
        };
        if whole {
            for (key, given, example) in needs {
                if !given {
                    self.add(
                        Fault::at(
                            at.then("api"),
                            format!("`{at}` has no `{key}`, which api `{}` needs", api.name()),
                        )
                        .wanted(format!("`{key}` is missing"))
                        .hint(format!("add {example}")),
                    );
                }
            }
        }
        let made_up = matches!(api, Api::Recorded | Api::Simulated);
        let fits = [
            ("server", model.server.is_some(), api == Api::Openai, "openai"),
            ("base_url", model.base_url.is_some(), network, "openai, anthropic and ollama"),
            ("api_key_env", model.api_key_env.is_some(), network, "openai, anthropic and ollama"),
            ("headers", !model.headers.is_empty(), network, "openai, anthropic and ollama"),
            ("command", !model.command.is_empty(), api == Api::Command, "command"),
            ("file", model.file.is_some(), api == Api::Recorded, "recorded"),
            ("on_miss", model.on_miss.is_some(), api == Api::Recorded, "recorded"),
            ("latency", model.latency.is_some(), made_up, "recorded and simulated"),
            ("seed", model.seed.is_some(), api == Api::Simulated, "simulated"),
            ("fail", model.fail.is_some(), api == Api::Simulated, "simulated"),
            ("words", model.words.is_some(), api == Api::Simulated, "simulated"),
        ];
        for (key, given, fits, whose) in fits {
            if given && !fits {
                self.add(
                    Fault::at(at.then(key), format!("`{key}` has no meaning for api `{}`", api.name()))
                        .on_key()
                        .wanted(format!("this key is for api {whose}"))
                        .hint("remove the key, or change `api`"),
                );
            }
        }
        if let Some(url) = &model.base_url
            && network
        {
            self.base_url(&at.then("base_url"), url, api);
        }
        self.model_values(at, model);
    }

    fn base_url(&mut self, at: &KeyPath, url: &str, api: Api) {
        if !self.url(at, url) {
            return;
        }
        let path = url.trim_end_matches('/');
        for end in ["/chat/completions", "/completions", "/messages", "/api/chat", "/api/generate"] {
            if let Some(root) = path.strip_suffix(end) {
                let root = if api == Api::Anthropic { root.trim_end_matches("/v1") } else { root };
                self.add(
                    Fault::at(at, format!("`{at}` is the address of a call, wanted the root of the API"))
                        .wanted(format!("`{end}` is added by planexe"))
                        .hint(format!("write \"{root}\"")),
                );
                return;
            }
        }
        let versioned = path.ends_with("/v1");
        if versioned && matches!(api, Api::Anthropic | Api::Ollama) {
            let hint = if api == Api::Ollama {
                format!(
                    "write \"{}\", or `api = \"openai\"` for Ollama's other dialect",
                    path.trim_end_matches("/v1")
                )
            } else {
                format!("write \"{}\"", path.trim_end_matches("/v1"))
            };
            self.add(
                Fault::at(at, format!("the `base_url` of api `{}` does not end in `/v1`", api.name()))
                    .wanted("`/v1` is too much")
                    .hint(hint),
            );
        }
    }

    /// Whether an address can be used; notes what is wrong with it.
    fn url(&mut self, at: &KeyPath, url: &str) -> bool {
        let lower = url.to_lowercase();
        let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme)) else {
            self.add(
                Fault::at(at, format!("`{at}` is not an address"))
                    .wanted("wanted one that starts with `http://` or `https://`")
                    .maybe_hint(
                        (!url.contains("://") && !url.is_empty()).then(|| format!("write \"http://{url}\"")),
                    ),
            );
            return false;
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or("");
        if host.contains('@') {
            self.add(
                Fault::at(at, format!("`{at}` holds a user name or password"))
                    .secret()
                    .hint("keys do not belong in files: use `api_key_env`"),
            );
            return false;
        }
        if host.is_empty() || host.starts_with(':') || url.contains(char::is_whitespace) {
            self.add(Fault::at(at, format!("`{at}` is not an address")).wanted("wanted one with a host"));
            return false;
        }
        true
    }

    fn model_values(&mut self, at: &KeyPath, model: &Model) {
        for header in model.headers.keys() {
            let lower = header.to_lowercase();
            let secret = ["authorization", "api-key", "apikey", "cookie", "token", "secret", "password"]
                .iter()
                .any(|word| lower.contains(word));
            if secret {
                self.add(
                    Fault::at(
                        at.then("headers").then(header),
                        format!("the header `{header}` carries a secret"),
                    )
                    .on_key()
                    .secret()
                    .hint(
                        "keys do not belong in files: name the variable that holds it, `api_key_env = \"…\"`",
                    ),
                );
            }
        }
        if let Some(variable) = &model.api_key_env {
            self.variable(&at.then("api_key_env"), variable);
        }
        for (key, value) in [
            ("max_concurrent", model.max_concurrent.map(u64::from)),
            ("rpm", model.rpm.map(u64::from)),
            ("tpm", model.tpm),
            ("context_window", model.context_window),
            ("max_output", model.max_output),
            ("words", model.words.map(u64::from)),
        ] {
            if value == Some(0) {
                let at = at.then(key);
                self.add(Fault::at(&at, format!("`{at}` is 0")).wanted("wanted 1 or more"));
            }
        }
        if let Some(price) = &model.price {
            for (key, value) in [("input", price.input), ("output", price.output)] {
                if value < 0.0 {
                    let at = at.then("price").then(key);
                    self.add(
                        Fault::at(&at, format!("`{at}` is negative")).wanted("wanted USD per million tokens"),
                    );
                }
            }
        }
        let CallTimeouts { connect, first_token, idle, total } = model.timeouts;
        for (key, span) in
            [("connect", connect), ("first_token", first_token), ("idle", idle), ("total", total)]
        {
            self.not_zero(&at.then("timeouts").then(key), span);
        }
        self.retry(&at.then("retry"), model.retry.as_ref());
        let shares = match model.fail {
            Some(Fail::Error(share)) => vec![(at.then("fail"), share)],
            Some(Fail::Shares(shares)) => {
                vec![(at.then("fail").then("error"), shares.error), (at.then("fail").then("cut"), shares.cut)]
            }
            None => Vec::new(),
        };
        for (at, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                self.add(Fault::at(&at, format!("`{at}` is {share}")).wanted("wanted a share from 0 to 1"));
            }
        }
        if model.command.first().is_some_and(|program| program.trim().is_empty()) {
            self.add(
                Fault::at(at.then("command").then(0), "an empty program name").wanted("wanted a program"),
            );
        }
        if model.model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            self.add(
                Fault::at(at.then("model"), "an empty model name").wanted("wanted the name its server knows"),
            );
        }
    }

    /// The name of an environment variable, rather than what it holds.
    fn variable(&mut self, at: &KeyPath, name: &str) {
        let plain = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let keyish = name.len() > 30
            && name.bytes().any(|b| b.is_ascii_digit())
            && name.bytes().any(|b| b.is_ascii_lowercase());
        if plain && !keyish {
            return;
        }
        let fault = if name.trim().is_empty() {
            Fault::at(at, format!("`{at}` is empty")).wanted("wanted the name of an environment variable")
        } else {
            Fault::at(at, format!("`{at}` does not name an environment variable")).secret().hint(
                match name.strip_prefix('$') {
                    Some(_) => "write the name without `$`".to_owned(),
                    None => {
                        "write the variable's name, never the key itself: `api_key_env = \"OPENAI_API_KEY\"`"
                            .to_owned()
                    }
                },
            )
        };
        self.add(fault);
    }

    fn not_zero(&mut self, at: &KeyPath, span: Option<Span>) {
        if span.is_some_and(|span| span.0.is_zero()) {
            self.add(
                Fault::at(at, format!("`{at}` is zero")).wanted("wanted a duration like \"90s\" or \"15m\""),
            );
        }
    }

    fn retry(&mut self, at: &KeyPath, retry: Option<&Retry>) {
        let Some(retry) = retry else { return };
        if retry.max_attempts == Some(0) {
            self.add(
                Fault::at(at.then("max_attempts"), format!("`{at}.max_attempts` is 0"))
                    .wanted("wanted 1 or more")
                    .hint("1 means one attempt and no second"),
            );
        }
        if let (Some(base), Some(max)) = (retry.base, retry.max)
            && base > max
        {
            self.add(
                Fault::at(at.then("base"), format!("`{at}.base` is longer than `max`"))
                    .wanted("wanted the shorter of the two")
                    .related(at.then("max"), "the longest pause"),
            );
        }
    }

    fn others(&mut self) {
        let tables = self.tables;
        for (name, span) in &tables.timeouts {
            let at = key_path!["timeouts", name];
            if name != "default" && !tables.task.contains_key(name) {
                let known = tables.task.keys().map(String::as_str).chain(["default"]).collect::<Vec<_>>();
                self.add(
                    Fault::at(&at, format!("unknown task `{name}` in `[timeouts]`"))
                        .on_key()
                        .wanted("no such task")
                        .maybe_hint(suggest(name, known)),
                );
            }
            self.not_zero(&at, Some(*span));
        }
        for (name, slots) in &tables.pools {
            let at = key_path!["pools", name];
            self.name(&at, name, "pool");
            if *slots == 0 {
                self.add(Fault::at(at, format!("pool `{name}` has no slots")).wanted("wanted 1 or more"));
            }
        }
        self.not_zero(&key_path!["defaults", "timeout"], tables.defaults.timeout);
        self.not_zero(&key_path!["defaults", "stall_timeout"], tables.defaults.stall_timeout);
        self.not_zero(&key_path!["budget", "time"], tables.budget.time);
        if tables.budget.cost.is_some_and(|cost| cost < 0.0) {
            self.add(Fault::at(key_path!["budget", "cost"], "the budget is negative").wanted("wanted USD"));
        }
        for (name, webhook) in &tables.webhooks {
            let at = key_path!["webhooks", name];
            self.name(&at, name, "webhook");
            match (&webhook.url, &webhook.url_env) {
                (None, None) => self.add(
                    Fault::at(&at, format!("webhook `{name}` has neither `url` nor `url_env`"))
                        .on_key()
                        .wanted("an address is missing")
                        .hint("add `url = \"https://…\"`, or `url_env = \"VARIABLE\"` if the address is a secret"),
                ),
                (Some(_), Some(_)) => self.add(
                    Fault::at(at.then("url_env"), format!("webhook `{name}` has both `url` and `url_env`"))
                        .on_key()
                        .wanted("one too many")
                        .related(at.then("url"), "the other")
                        .hint("keep one of the two"),
                ),
                (Some(url), None) => {
                    self.url(&at.then("url"), url);
                }
                (None, Some(variable)) => self.variable(&at.then("url_env"), variable),
            }
            for (n, event) in webhook.events.iter().enumerate() {
                if !TOLD.contains(&event.as_str()) {
                    self.add(
                        Fault::at(at.then("events").then(n), format!("unknown event `{event}`"))
                            .wanted("no such event")
                            .hint(format!("there are {}", TOLD.join(", "))),
                    );
                }
            }
            if let Some(variable) = &webhook.secret_env {
                self.variable(&at.then("secret_env"), variable);
            }
        }
        for (key, argv) in [
            ("on_started", &tables.hooks.on_started),
            ("on_completed", &tables.hooks.on_completed),
            ("on_failed", &tables.hooks.on_failed),
            ("on_finished", &tables.hooks.on_finished),
        ] {
            if argv.first().is_some_and(|program| program.trim().is_empty()) {
                self.add(
                    Fault::at(key_path!["hooks", key, 0usize], "an empty program name")
                        .wanted("wanted a program"),
                );
            }
        }
        for name in tables.vars.keys() {
            if !is_identifier(name) {
                self.add(
                    Fault::at(
                        key_path!["vars", name],
                        format!("`{name}` cannot be used as a name in templates"),
                    )
                    .on_key()
                    .wanted("wanted letters, digits and `_`")
                    .maybe_hint(
                        Some(identifier(name)).filter(|id| !id.is_empty()).map(|id| format!("write `{id}`")),
                    ),
                );
            }
        }
    }

    fn task_names(&mut self) {
        for name in self.tables.task.keys() {
            let at = KeyPath::task(name);
            if !is_task_name(name) {
                let better: String = name
                    .trim()
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' })
                    .collect();
                let better = better.trim_start_matches(['-', '.']).to_owned();
                self.add(
                    Fault::at(
                        at,
                        if name.is_empty() {
                            "a task without a name".to_owned()
                        } else {
                            format!("`{name}` is not a task name")
                        },
                    )
                    .on_key()
                    .wanted("wanted letters, digits, `_`, `-` and `.`")
                    .maybe_hint((!better.is_empty()).then(|| format!("write `[task.{better}]`"))),
                );
                continue;
            }
        }
    }

    /// Prompt tasks for which no model is named: one fault for all of them.
    fn tasks_without_model(&mut self) {
        if self.tables.defaults.model.is_some() {
            return;
        }
        let mut without =
            self.tables.task.iter().filter(|(_, task)| task.prompt.is_some() && task.model.is_none());
        let Some((name, _)) = without.next() else { return };
        let more = without.count();
        let others = match more {
            0 => String::new(),
            1 => " (nor has one other)".to_owned(),
            _ => format!(" (nor have {more} others)"),
        };
        let hint = match self.tables.models.keys().next() {
            Some(model) => format!("add `model = \"{model}\"` to the task, or to `[defaults]` for all"),
            None => "add a table `[models.local]` with `api`, `base_url` and `model`, and `model = \"local\"` to `[defaults]`".to_owned(),
        };
        self.add(
            Fault::at(KeyPath::task(name), format!("task `{name}` has a prompt but no model{others}"))
                .on_key()
                .wanted("`model` is missing")
                .hint(hint),
        );
    }
}

struct TaskChecker<'a, 'b> {
    at: KeyPath,
    name: &'a str,
    task: &'a Task,
    recipe: Recipe,
    all: &'a mut Checker<'b>,
}

impl TaskChecker<'_, '_> {
    fn add(&mut self, fault: Fault) {
        self.all.add(fault);
    }

    fn check(&mut self) {
        // What a key left out would have said is not missed.
        if !is_damaged(self.all.damaged, &self.at) {
            self.recipe();
            self.keys_that_fit();
        }
        self.numbers();
        self.references();
        self.foreach();
        let inputs = named(&self.task.inputs, &self.at);
        self.inputs(&inputs);
        self.outputs();
        self.command(&inputs);
    }

    fn recipe(&mut self) {
        let recipes = self.task.recipes();
        let (name, at) = (self.name, self.at.clone());
        if recipes.len() > 1 {
            let keys = list_of(recipes.iter().map(|recipe| recipe.key())).unwrap_or_default();
            let mut fault = Fault::at(
                at.then(recipes[1].key()),
                format!("task `{name}` has {} recipes: {keys}", recipes.len()),
            )
            .on_key()
            .wanted("one too many")
            .hint("keep one; make a task of its own of the other, which reads this one's output");
            fault = fault.related(at.then(recipes[0].key()), "the first");
            self.add(fault);
        }
        let task = self.task;
        match self.recipe {
            Recipe::Group => {
                if !task.outputs.is_empty() {
                    self.add(
                        Fault::at(
                            at.then("outputs"),
                            format!("task `{name}` has outputs, but nothing makes them"),
                        )
                        .on_key()
                        .wanted("a recipe is missing")
                        .hint("add `prompt`, `command`, `template`, `gate` or `human`"),
                    );
                } else if named(&task.inputs, &at).is_empty() && task.after.is_empty() {
                    self.add(
                        Fault::at(&at, format!("task `{name}` does nothing"))
                            .on_key()
                            .wanted("a recipe is missing")
                            .hint("add `prompt`, `command`, `template`, `gate` or `human`; or `inputs` for a group"),
                    );
                }
            }
            recipe => {
                if task.outputs.is_empty() {
                    self.add(
                        Fault::at(&at, format!("task `{name}` has a {} but no outputs", recipe.key()))
                            .on_key()
                            .wanted("`outputs` is missing")
                            .hint(format!(
                                "add `outputs = [\"{name}.{}\"]`",
                                if task.schema.is_some() { "json" } else { "md" }
                            )),
                    );
                }
            }
        }
        if let Some(gate) = &task.gate
            && gate.fail_if.trim().is_empty()
        {
            self.add(
                Fault::at(at.then("gate"), format!("the gate of task `{name}` has no `fail_if`"))
                    .wanted("`fail_if` is missing")
                    .hint("add `fail_if = \"{{ assessment.verdict == 'no-go' }}\"`"),
            );
        }
        if task.human.as_ref().is_some_and(|text| text.trim().is_empty()) {
            self.add(Fault::at(at.then("human"), "nothing is asked of the person").wanted("wanted a text"));
        }
        for (key, given) in [("eval", task.eval.is_some()), ("refine", task.refine.is_some())] {
            if given {
                self.add(
                    Fault::at(at.then(key), format!("`{key}` is not supported by this version of planexe"))
                        .on_key()
                        .wanted("not supported")
                        .hint("remove it, or install a newer planexe"),
                );
            }
        }
    }

    fn keys_that_fit(&mut self) {
        use Recipe::{Command, Gate, Group, Human, Prompt, Template};
        let task = self.task;
        let any = [Prompt, Command, Template, Gate, Human].as_slice();
        let given: [(&str, bool, &[Recipe]); 21] = [
            ("system", task.system.is_some(), &[Prompt]),
            ("schema", task.schema.is_some(), &[Prompt]),
            ("check", task.check.is_some(), &[Prompt]),
            ("model", task.model.is_some(), &[Prompt]),
            ("params", !task.params.is_empty(), &[Prompt]),
            ("params_extra", !task.params_extra.is_empty(), &[Prompt]),
            ("max_validation_retries", task.max_validation_retries.is_some(), &[Prompt]),
            ("stdout", task.stdout, &[Command]),
            ("in_place", task.in_place, &[Command]),
            ("cwd", task.cwd.is_some(), &[Command]),
            ("env", task.env.is_some(), &[Command]),
            ("kind", task.kind.is_some(), &[Command]),
            ("retry", task.retry.is_some(), &[Prompt, Command]),
            ("stall_timeout", task.stall_timeout.is_some(), &[Prompt, Command]),
            ("timeout", task.timeout.is_some(), &[Prompt, Command, Template]),
            ("pool", task.pool.is_some(), &[Prompt, Command, Template]),
            ("foreach", task.foreach.is_some(), &[Prompt, Command, Template]),
            ("min_success", task.min_success.is_some(), &[Prompt, Command, Template]),
            ("sequential", task.sequential, &[Prompt, Command, Template]),
            ("priority", task.priority != 0, any),
            ("when", task.when.is_some(), any),
        ];
        // With several recipes, or none where one was meant, it is not known what fits.
        if task.recipes().len() > 1 || (self.recipe == Group && !task.outputs.is_empty()) {
            return;
        }
        for (key, given, fits) in given {
            if given && !fits.contains(&self.recipe) {
                let what = match self.recipe {
                    Group => "a group".to_owned(),
                    Human => "a human task".to_owned(),
                    recipe => format!("a {} task", recipe.key()),
                };
                let whose =
                    fits.iter().map(|recipe| format!("`{}`", recipe.key())).collect::<Vec<_>>().join(", ");
                self.add(
                    Fault::at(
                        self.at.then(key),
                        format!("`{key}` has no meaning in {what} (`{}`)", self.name),
                    )
                    .on_key()
                    .wanted(format!("only with {whose}"))
                    .hint("remove the key"),
                );
            }
        }
        if task.stdout && task.in_place {
            self.add(
                Fault::at(
                    self.at.then("in_place"),
                    format!("task `{}` has both `stdout` and `in_place`", self.name),
                )
                .on_key()
                .wanted("one too many")
                .related(self.at.then("stdout"), "the other"),
            );
        }
        if task.foreach.is_none() {
            for (key, given) in [("min_success", task.min_success.is_some()), ("sequential", task.sequential)]
            {
                if given {
                    self.add(
                        Fault::at(self.at.then(key), format!("`{key}` has no meaning without `foreach`"))
                            .on_key()
                            .wanted("only with `foreach`")
                            .hint("remove the key, or add `foreach = { file = \"…\", items = \"/…\" }`"),
                    );
                }
            }
        }
    }

    fn numbers(&mut self) {
        let task = self.task;
        self.all.not_zero(&self.at.then("timeout"), task.timeout);
        self.all.not_zero(&self.at.then("stall_timeout"), task.stall_timeout);
        self.all.retry(&self.at.then("retry"), task.retry.as_ref());
        if let Some(share) = task.min_success
            && !(share > 0.0 && share <= 1.0)
        {
            self.add(
                Fault::at(self.at.then("min_success"), format!("`min_success` is {share}"))
                    .wanted("wanted a share above 0, up to 1")
                    .maybe_hint(
                        (share > 1.0 && share <= 100.0).then(|| format!("write `{}`", share / 100.0)),
                    ),
            );
        }
        if let Some(check) = &task.check {
            self.check_numbers(check);
        }
    }

    fn check_numbers(&mut self, check: &Check) {
        let at = self.at.then("check");
        let limits = check.min_items.iter().filter_map(|(pointer, least)| {
            let most = check.max_items.get(pointer)?;
            (least > most).then(|| (at.then("min_items").then(pointer), at.then("max_items").then(pointer)))
        });
        let mut pairs: Vec<(KeyPath, KeyPath)> = limits.collect();
        if let (Some(least), Some(most)) = (check.min_words, check.max_words)
            && least > most
        {
            pairs.push((at.then("min_words"), at.then("max_words")));
        }
        for (least, most) in pairs {
            self.add(
                Fault::at(least, "no answer can have so many and so few at once")
                    .wanted("more than the greatest number")
                    .related(most, "the greatest number"),
            );
        }
        for (pointer, allowed) in &check.one_of {
            if allowed.is_empty() {
                self.add(
                    Fault::at(at.then("one_of").then(pointer), "no value is allowed")
                        .wanted("wanted at least one"),
                );
            }
        }
    }

    fn references(&mut self) {
        let (task, tables) = (self.task, self.all.tables);
        if let Some(models) = &task.model {
            self.all.model_names(&self.at.then("model"), models);
        }
        for (index, other) in task.after.iter().enumerate() {
            let at = self.at.then("after").then(index);
            if other == self.name {
                self.add(
                    Fault::at(at, format!("task `{other}` is to run after itself"))
                        .wanted("the task itself")
                        .hint("remove it"),
                );
            } else if !tables.task.contains_key(other) {
                let names = || tables.task.keys().map(String::as_str).filter(|known| *known != self.name);
                let hint = match nearest(other, names()) {
                    Some(near) => Some(format!("did you mean `{near}`?")),
                    None => match producer_of(tables, other) {
                        Some(maker) => Some(format!(
                            "`after` names tasks: `{maker}` makes this file; or add it to `inputs`"
                        )),
                        None => suggest(other, names().collect::<Vec<_>>()),
                    },
                };
                self.add(
                    Fault::at(at, format!("unknown task `{other}` in `after` of task `{}`", self.name))
                        .wanted("no such task")
                        .maybe_hint(hint),
                );
            }
        }
        if let Some(pool) = &task.pool
            && !tables.pools.contains_key(pool)
            && pool != "cpu"
        {
            let known: Vec<&str> = tables.pools.keys().map(String::as_str).chain(["cpu"]).collect();
            let hint = match nearest(pool, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `{pool} = 2` to `[pools]`"),
            };
            self.add(
                Fault::at(self.at.then("pool"), format!("unknown pool `{pool}`"))
                    .wanted("no such pool")
                    .hint(hint),
            );
        }
    }

    fn foreach(&mut self) {
        let Some(foreach) = &self.task.foreach else { return };
        let at = self.at.then("foreach");
        let Foreach { file, items, key, glob, batch } = foreach;
        match (file, glob) {
            (None, None) => self.add(
                Fault::at(&at, format!("`foreach` of task `{}` names neither `file` nor `glob`", self.name))
                    .wanted("`file` or `glob` is missing")
                    .hint("write `foreach = { file = \"experts.json\", items = \"/experts\" }` or `{ glob = \"docs/*.txt\" }`"),
            ),
            (Some(_), Some(_)) => self.add(
                Fault::at(at.then("glob"), format!("`foreach` of task `{}` has both `file` and `glob`", self.name))
                    .on_key()
                    .wanted("one too many")
                    .related(at.then("file"), "the other")
                    .hint("keep one of the two"),
            ),
            _ => {}
        }
        if file.is_none() && glob.is_some() {
            for (name, given) in [("items", items.is_some()), ("key", key.is_some())] {
                if given {
                    self.add(
                        Fault::at(at.then(name), format!("`{name}` has no meaning with `glob`"))
                            .on_key()
                            .wanted("only with `file`")
                            .hint("remove the key: items are the files, keyed by their names"),
                    );
                }
            }
        }
        match batch {
            Some(0) => self.add(Fault::at(at.then("batch"), "a batch of 0 items").wanted("wanted 1 or more")),
            Some(2..) if key.is_some() => self.add(
                Fault::at(at.then("key"), "`key` has no meaning with `batch`: a batch is a list of items")
                    .on_key()
                    .wanted("not with `batch`")
                    .related(at.then("batch"), "several items an instance"),
            ),
            _ => {}
        }
        if let Some(pointer) = items
            && !pointer.is_empty()
            && !pointer.starts_with('/')
        {
            let better = pointer.trim_start_matches("$.").trim_start_matches('.').replace('.', "/");
            self.add(
                Fault::at(at.then("items"), format!("`{pointer}` is not a JSON pointer"))
                    .wanted("wanted one that starts with `/`")
                    .hint(format!("write \"/{better}\"")),
            );
        }
        if key.as_ref().is_some_and(|key| key.trim().is_empty()) {
            self.add(Fault::at(at.then("key"), "an empty `key`").wanted("wanted a member of the items"));
        }
        for (key, path, glob) in [("file", file, false), ("glob", glob, true)] {
            let Some(path) = path else { continue };
            let at = at.then(key);
            let Some(path) = self.path(&at, path, false) else { continue };
            if let Err(fault) = paths::check_input(&path) {
                self.all.path_fault(at, fault);
            } else if !glob && paths::is_glob(&path) {
                self.add(
                    Fault::at(at, format!("`{path}` is a pattern"))
                        .wanted("wanted the path of one JSON file")
                        .hint("for one instance per file write `foreach = { glob = \"…\" }`"),
                );
            }
        }
    }

    /// A path with the vars put in; notes what is wrong with it.
    fn path(&mut self, at: &KeyPath, path: &str, key_allowed: bool) -> Option<String> {
        match paths::substitute_vars(path, &self.all.tables.vars) {
            Err(fault) => {
                self.all.path_fault(at.clone(), fault);
                None
            }
            Ok(path) if paths::has_key(&path) && !key_allowed => {
                let fault = Fault::at(
                    at,
                    format!("`{{{{ key }}}}` in a path of task `{}`, which has no `foreach`", self.name),
                )
                .wanted("no key to put here")
                .hint("add `foreach = { file = \"…\", items = \"/…\" }`, or remove `{{ key }}`");
                self.add(if self.task.foreach.is_some() {
                    Fault::at(at, "`{{ key }}` in the list the keys come from").wanted("no key to put here")
                } else {
                    fault
                });
                None
            }
            Ok(path) => Some(path),
        }
    }

    fn inputs(&mut self, inputs: &[NamedInput]) {
        let task = self.task;
        let templates =
            matches!(self.recipe, Recipe::Prompt | Recipe::Template | Recipe::Gate) || task.when.is_some();
        let by_name = |name: &str| match &task.command {
            Some(Command::Argv(argv)) => argv.iter().any(|part| part.contains(&format!("$in.{name}"))),
            Some(Command::Shell(line)) => line.contains(&format!("$in.{name}")),
            None => false,
        };
        let mut seen: HashMap<&str, &NamedInput> = HashMap::new();
        for input in inputs {
            let NamedInput { name, pattern, key_path } = input;
            let Some(path) = self.path(key_path, pattern, task.foreach.is_some()) else { continue };
            if let Err(fault) = paths::check_input(&path) {
                self.all.path_fault(key_path.clone(), fault);
            }
            if !templates && !by_name(name) {
                continue;
            }
            let listed = matches!(task.inputs, super::types::Inputs::List(_));
            if let Some(first) = seen.insert(name, input) {
                self.add(
                    Fault::at(key_path, format!("two inputs of task `{}` are named `{name}`", self.name))
                        .wanted("the same name again")
                        .related(&first.key_path, "the first")
                        .hint(format!("give names of your own: `inputs = {{ {name} = \"{}\", {name}_2 = \"{pattern}\" }}`", first.pattern)),
                );
                continue;
            }
            let mut taken = vec!["inputs", "vars", "task"];
            if task.foreach.is_some() {
                taken.extend(["item", "key", "index"]);
            }
            if task.sequential {
                taken.push("previous");
            }
            if task.prompt.is_some() && task.outputs.len() > 1 {
                taken.push("answer");
            }
            if templates && taken.contains(&name.as_str()) {
                self.add(
                    Fault::at(
                        key_path,
                        format!("an input named `{name}`, which is planexe's own name in templates"),
                    )
                    .wanted(format!("`{name}` is taken"))
                    .hint(format!("give it a name of its own: `inputs = {{ my_{name} = \"{pattern}\" }}`")),
                );
            } else if templates && !listed && !is_identifier(name) {
                let better = identifier(name);
                self.add(
                    Fault::at(key_path, format!("the input name `{name}` cannot be used in templates"))
                        .on_key()
                        .wanted("wanted letters, digits and `_`")
                        .maybe_hint((!better.is_empty()).then(|| format!("write `{better}`"))),
                );
            }
        }
        for (index, wanted) in task.optional.iter().enumerate() {
            if inputs.iter().any(|input| input.name == *wanted || input.pattern == *wanted) {
                continue;
            }
            let known: Vec<&str> =
                inputs.iter().flat_map(|input| [input.name.as_str(), input.pattern.as_str()]).collect();
            self.add(
                Fault::at(
                    self.at.then("optional").then(index),
                    format!("task `{}` has no input `{wanted}`", self.name),
                )
                .wanted("no such input")
                .maybe_hint(suggest(wanted, known)),
            );
        }
    }

    fn outputs(&mut self) {
        let task = self.task;
        let at = self.at.then("outputs");
        let pipeline = self.all.pipeline.clone();
        for (index, output) in task.outputs.iter().enumerate() {
            let at = match output {
                Output::Path(_) => at.then(index),
                Output::Rendered(_) => at.then(index).then("path"),
            };
            let Some(path) = self.path(&at, output.path(), task.foreach.is_some()) else { continue };
            if let Err(fault) = paths::check_output(&path, &pipeline) {
                self.all.path_fault(at, fault);
                continue;
            }
            if task.foreach.is_some() && !paths::has_key(&path) {
                let better = match path.rsplit_once('.') {
                    Some((stem, end)) if !stem.is_empty() && !stem.ends_with('/') => {
                        format!("{stem}-{{{{ key }}}}.{end}")
                    }
                    _ => format!("{path}-{{{{ key }}}}"),
                };
                self.add(
                    Fault::at(at, format!("all instances of task `{}` would write `{path}`", self.name))
                        .wanted("`{{ key }}` is missing")
                        .hint(format!("write \"{better}\"")),
                );
            }
        }
        let templates: Vec<(usize, bool)> = task
            .outputs
            .iter()
            .enumerate()
            .map(|(index, output)| (index, output.template().is_some()))
            .collect();
        for (index, template) in templates {
            let at = at.then(index);
            match (self.recipe, index, template) {
                (Recipe::Prompt, 0, true) => self.add(
                    Fault::at(at, format!("the first output of task `{}` is the answer itself, and has no template", self.name))
                        .wanted("wanted a path")
                        .hint("name the answer first, then what is rendered from it: `outputs = [\"answer.json\", { path = …, template = … }]`"),
                ),
                (Recipe::Template, 0, true) => self.add(
                    Fault::at(at, format!("the first output of task `{}` is made by its `template`, and has no other", self.name))
                        .wanted("wanted a path"),
                ),
                (Recipe::Prompt | Recipe::Template, 1.., false) => self.add(
                    Fault::at(at, format!("nothing says how output {} of task `{}` is made", index + 1, self.name))
                        .wanted("a template is missing")
                        .hint(format!(
                            "write `{{ path = \"{}\", template = \"templates/….j2\" }}`",
                            task.outputs[index].path()
                        )),
                ),
                (Recipe::Command | Recipe::Gate | Recipe::Human, _, true) => self.add(
                    Fault::at(at.then("template"), format!("an output's `template` has no meaning in a {} task", self.recipe.key()))
                        .on_key()
                        .wanted("only with `prompt` or `template`")
                        .hint("make a task of its own: `inputs = [the output]`, `template = …`"),
                ),
                (Recipe::Gate, 1.., false) => self.add(
                    Fault::at(at, format!("the gate `{}` has more than one output", self.name))
                        .wanted("one too many")
                        .hint("a gate writes its verdict to one file"),
                ),
                _ => {}
            }
        }
    }

    fn command(&mut self, inputs: &[NamedInput]) {
        let Some(command) = &self.task.command else { return };
        let at = self.at.then("command");
        let parts: Vec<(KeyPath, &str)> = match command {
            Command::Argv(argv) => {
                if argv.is_empty() || argv[0].trim().is_empty() {
                    self.add(
                        Fault::at(&at, format!("the command of task `{}` is empty", self.name))
                            .wanted("wanted a program"),
                    );
                }
                argv.iter().enumerate().map(|(index, part)| (at.then(index), part.as_str())).collect()
            }
            Command::Shell(line) => {
                if line.trim().is_empty() {
                    self.add(
                        Fault::at(&at, format!("the command of task `{}` is empty", self.name))
                            .wanted("wanted a program"),
                    );
                }
                vec![(at, line.as_str())]
            }
        };
        for (at, part) in parts {
            // Other programs have braces of their own; only what planexe's templates know is meant.
            let ours = |name: &str| {
                matches!(name, "key" | "item" | "vars" | "inputs" | "task")
                    || inputs.iter().any(|input| input.name == name)
            };
            let braced = part.split("{{").skip(1).map(|tail| {
                let tail = tail.trim_start();
                &tail[..tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len())]
            });
            if braced.into_iter().any(ours) {
                self.add(
                    Fault::at(&at, "`{{ … }}` has no meaning in a command")
                        .wanted("commands are not templates")
                        .hint("use `$in`, `$in.NAME`, `$out`, `$key`, or `env = { NAME = \"…\" }`"),
                );
            }
            for (kind, name) in placeholders(part) {
                match kind {
                    "in" if !inputs
                        .iter()
                        .enumerate()
                        .any(|(n, input)| input.name == name || n.to_string() == name) =>
                    {
                        let known: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                        self.add(
                            Fault::at(
                                &at,
                                format!("task `{}` has no input `{name}`, used as `$in.{name}`", self.name),
                            )
                            .wanted("no such input")
                            .hint(suggest(name, known).unwrap_or_else(|| "add it to `inputs`".to_owned())),
                        );
                    }
                    "out" if name.parse::<usize>().map_or(true, |n| n >= self.task.outputs.len()) => {
                        let count = self.task.outputs.len();
                        self.add(
                            Fault::at(&at, format!("task `{}` has no output `$out.{name}`", self.name))
                                .wanted("no such output")
                                .hint(match count {
                                    0 => "add `outputs = [\"…\"]`".to_owned(),
                                    1 => "the one output is `$out` or `$out.0`".to_owned(),
                                    _ => format!("outputs are `$out.0` to `$out.{}`", count - 1),
                                }),
                        );
                    }
                    "key" if self.task.foreach.is_none() => self.add(
                        Fault::at(&at, format!("`$key` in task `{}`, which has no `foreach`", self.name))
                            .wanted("no key to put here")
                            .hint("write `$$key` for a shell variable of that name"),
                    ),
                    _ => {}
                }
            }
        }
        if let Some(Env::Table(table)) = &self.task.env {
            for name in table.keys().filter(|name| name.is_empty() || name.contains('=')) {
                self.add(
                    Fault::at(
                        self.at.then("env").then(name),
                        format!("`{name}` is not the name of an environment variable"),
                    )
                    .on_key()
                    .wanted("wanted a name"),
                );
            }
        }
    }
}

/// `$in.NAME`, `$out.N` and `$key` in a command's text: what, and the name.
fn placeholders(text: &str) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        match name {
            "in" | "out" => {
                if let Some(after) = after.strip_prefix('.') {
                    let word =
                        after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                    if word > 0 {
                        found.push((if name == "in" { "in" } else { "out" }, &after[..word]));
                    }
                }
            }
            "key" => found.push(("key", "")),
            _ => {}
        }
        rest = after;
    }
    found
}

/// The task that writes a path.
fn producer_of<'a>(tables: &'a Tables, path: &str) -> Option<&'a str> {
    tables
        .task
        .iter()
        .find(|(_, task)| task.outputs.iter().any(|output| output.path() == path))
        .map(|(name, _)| name.as_str())
}
