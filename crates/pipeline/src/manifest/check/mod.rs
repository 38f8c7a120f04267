//! Checks of the typed tables that need no graph and no other file: whether every name is known,
//! every task has one recipe with the keys that fit it, every number makes sense.

mod executors;
mod models;
mod services;
mod task;
mod tiers;

use std::collections::HashMap;
use std::path::Path;

use super::diagnostic::{Diagnostic, list_of, nearest, suggest, worth_a_search};
use super::names::{identifier, is_identifier, is_task_name, loose};
use super::paths;
use super::place::{Step, TablePath};
use super::types::{Output, Retry, Span, Tables, Task};
use crate::key_path;
use planexe_base::cores;
use planexe_base::event::TOLD;
use planexe_base::pattern;
use task::TaskChecker;

/// The version of the format this planexe reads.
pub const SCHEMA: u32 = 1;
/// Most models, and most pools, of a pipeline.
const MOST_SLOTS: usize = 1000;

/// Notes everything that is wrong. `file` is the pipeline's own path.
/// `damaged` are the places where keys were left out because they could not be read.
pub(super) fn check(tables: &Tables, file: &Path, damaged: &[TablePath], faults: &mut Vec<Diagnostic>) {
    let pipeline = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut checker = Checker { tables, pipeline: &pipeline, damaged, faults };
    checker.pipeline();
    checker.models();
    checker.tiers();
    checker.optimize();
    checker.others();
    checker.task_names();
    checker.after();
    checker.aliases();
    let tasks: Vec<(&String, &Box<Task>)> = tables.task.iter().collect();
    let found = cores::map(&tasks, |(name, task)| {
        let mut faults = Vec::new();
        let mut checker = Checker { tables, pipeline: &pipeline, damaged, faults: &mut faults };
        let (at, recipe) = (TablePath::task(name), task.recipe());
        TaskChecker { at, name, task, recipe, all: &mut checker }.check();
        faults
    });
    checker.faults.extend(found.into_iter().flatten());
    checker.tasks_without_model();
}

struct Checker<'a> {
    tables: &'a Tables,
    pipeline: &'a str,
    damaged: &'a [TablePath],
    faults: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn add(&mut self, fault: Diagnostic) {
        self.faults.push(fault);
    }

    fn pipeline(&mut self) {
        let pipeline = &self.tables.pipeline;
        if let Some(schema) = pipeline.schema {
            let at = key_path!["pipeline", "schema"];
            if schema > SCHEMA {
                self.add(
                    Diagnostic::at(
                        at,
                        format!("the file is of format {schema}, newer than this planexe knows"),
                    )
                    .wanted(format!("{SCHEMA} is the newest known"))
                    .hint("install a newer planexe"),
                );
            } else if schema == 0 {
                self.add(Diagnostic::at(at, "format 0 does not exist").wanted("wanted `1`"));
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
                Diagnostic::at(
                    key_path!["pipeline", "default", index],
                    format!("no task or output `{wanted}`"),
                )
                .wanted("no such task")
                .maybe_hint(hint),
            );
        }
        if let Some(schedule) = &pipeline.schedule
            && let Err(fault) = paths::check_input(schedule)
        {
            self.path_fault(key_path!["pipeline", "schedule"], fault);
        }
        if let Some(plan) = &pipeline.plan {
            let at = key_path!["pipeline", "plan"];
            match paths::substitute_vars(plan, &self.tables.vars) {
                Ok(path) if paths::has_key(&path) => {
                    self.add(
                        Diagnostic::at(at, "`{{ key }}` has no meaning here")
                            .wanted("wanted the path of a file"),
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
        if tables.aliases.is_empty() {
            return;
        }
        let outputs =
            || tables.task.iter().flat_map(|(name, task)| task.outputs.iter().map(move |o| (o.path(), name)));
        let mut taken: HashMap<String, String> = HashMap::new();
        taken.extend(outputs().map(|(path, name)| (loose(path), format!("an output of task `{name}`"))));
        taken.extend(tables.task.keys().map(|name| (loose(name), format!("task `{name}`"))));
        for (alias, means) in &tables.aliases {
            let at = key_path!["aliases", alias];
            self.name(&at, alias, "alias");
            if alias.contains(['[', ']']) {
                let fault = Diagnostic::at(&at, format!("alias `{alias}` has brackets, which name an item"));
                self.add(fault.on_key().wanted("a name without `[` and `]`"));
            } else if let Some(other) = taken.insert(loose(alias), format!("alias `{alias}`")) {
                let fault = Diagnostic::at(&at, format!("alias `{alias}` is also the name of {other}"));
                self.add(fault.on_key().wanted("a name that means nothing else"));
            }
            let named = tables.task.get(means).is_some_and(|task| task.foreach.is_some());
            let of_family = named
                || tables.task.values().any(|task| {
                    task.foreach.is_some() && task.outputs.iter().any(|output| output.path() == means)
                });
            let holes = pattern::normalize(alias).matches("{{").count();
            if holes > 0 && (holes > 1 || !pattern::normalize(alias).contains(pattern::NUMBER)) {
                let fault = Diagnostic::at(
                    &at,
                    format!("alias `{alias}` has another hole than one `{{{{ number }}}}`"),
                );
                self.add(
                    fault.on_key().wanted("a plain name, or `{{ number }}` once for an item, counted from 1"),
                );
            } else if holes == 1 && !of_family && outputs().any(|(path, name)| path == means || name == means)
            {
                let fault = Diagnostic::at(
                    &at,
                    format!("alias `{alias}` numbers the items of `{means}`, which has none"),
                );
                self.add(fault.wanted("a task with `foreach`, or an output of one"));
            }
            if !tables.task.contains_key(means) && !outputs().any(|(path, _)| path == means) {
                let known = tables.task.keys().map(String::as_str).chain(outputs().map(|(path, _)| path));
                let hint = suggest(means, known.collect::<Vec<_>>());
                let fault = Diagnostic::at(at, format!("alias `{alias}` means `{means}`, no task or output"));
                self.add(fault.wanted("no such task").maybe_hint(hint));
            }
        }
    }

    /// What `after` names must be other tasks. All in one go, since the hints of many such faults among many tasks
    /// are only worth it for the first.
    fn after(&mut self) {
        let tables = self.tables;
        for (name, task) in &tables.task {
            for (index, other) in task.after.iter().enumerate() {
                let at = TablePath::task(name).then("after").then(index);
                if other == name {
                    self.add(
                        Diagnostic::at(at, format!("task `{other}` is to run after itself"))
                            .wanted("the task itself")
                            .hint("remove it"),
                    );
                } else if !tables.task.contains_key(other) {
                    let hint = self.meant_by_after(name, other);
                    self.add(
                        Diagnostic::at(at, format!("unknown task `{other}` in `after` of task `{name}`"))
                            .wanted("no such task")
                            .maybe_hint(hint),
                    );
                }
            }
        }
    }

    fn meant_by_after(&self, name: &str, other: &str) -> Option<String> {
        let tables = self.tables;
        if !worth_a_search(self.faults.len(), tables.task.len()) {
            return None;
        }
        let names = || tables.task.keys().map(String::as_str).filter(|known| *known != name);
        if let Some(near) = nearest(other, names()) {
            return Some(format!("did you mean `{near}`?"));
        }
        let makes_it = |task: &Task| task.outputs.iter().any(|output| output.path() == other);
        match tables.task.iter().find(|(_, task)| makes_it(task)) {
            Some((maker, _)) => {
                Some(format!("`after` names tasks: `{maker}` makes this file; or add it to `inputs`"))
            }
            None => list_of(names()).map(|list| format!("known are {list}")),
        }
    }

    fn path_fault(&mut self, at: TablePath, fault: paths::PathFault) {
        let mut fault_at = Diagnostic::at(at, fault.message);
        fault_at.wanted = fault.wanted;
        fault_at.hint = fault.hint;
        self.add(fault_at);
    }
    fn others(&mut self) {
        self.not_too_many("models", self.tables.models.len());
        self.not_too_many("pools", self.tables.pools.len());
        self.not_too_many("executors", self.tables.executors.len());
        self.not_too_many("services", self.tables.services.len());
        self.timeouts();
        self.pools();
        self.executors();
        self.services();
        self.limits();
        self.webhooks();
        self.hooks();
        self.vars();
    }

    fn timeouts(&mut self) {
        for (name, span) in &self.tables.timeouts {
            let at = key_path!["timeouts", name];
            if name != "default" && !self.tables.task.contains_key(name) {
                let known =
                    self.tables.task.keys().map(String::as_str).chain(["default"]).collect::<Vec<_>>();
                self.add(
                    Diagnostic::at(&at, format!("unknown task `{name}` in `[timeouts]`"))
                        .on_key()
                        .wanted("no such task")
                        .maybe_hint(suggest(name, known)),
                );
            }
            self.not_zero(&at, Some(*span));
        }
    }

    fn pools(&mut self) {
        for (name, slots) in &self.tables.pools {
            let at = key_path!["pools", name];
            self.name(&at, name, "pool");
            if *slots == 0 {
                self.add(
                    Diagnostic::at(at, format!("pool `{name}` has no slots")).wanted("wanted 1 or more"),
                );
            }
        }
    }

    /// The scheduler looks at each of them whenever something may start.
    fn not_too_many(&mut self, table: &'static str, count: usize) {
        if count > MOST_SLOTS {
            let message = format!("{count} {table}, and a pipeline has {MOST_SLOTS} at most");
            self.add(Diagnostic::at(key_path![table], message).wanted("too many"));
        }
    }

    fn limits(&mut self) {
        self.not_zero(&key_path!["defaults", "timeout"], self.tables.defaults.timeout);
        self.not_zero(&key_path!["defaults", "stall_timeout"], self.tables.defaults.stall_timeout);
        self.not_zero(&key_path!["budget", "time"], self.tables.budget.time);
        if self.tables.budget.cost.is_some_and(|cost| cost < 0.0) {
            self.add(
                Diagnostic::at(key_path!["budget", "cost"], "the budget is negative").wanted("wanted USD"),
            );
        }
    }

    fn webhooks(&mut self) {
        for (name, webhook) in &self.tables.webhooks {
            let at = key_path!["webhooks", name];
            self.name(&at, name, "webhook");
            match (&webhook.url, &webhook.url_env) {
                (None, None) => self.add(
                    Diagnostic::at(&at, format!("webhook `{name}` has neither `url` nor `url_env`"))
                        .on_key()
                        .wanted("an address is missing")
                        .hint("add `url = \"https://…\"`, or `url_env = \"VARIABLE\"` if the address is a secret"),
                ),
                (Some(_), Some(_)) => self.add(
                    Diagnostic::at(at.then("url_env"), format!("webhook `{name}` has both `url` and `url_env`"))
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
                        Diagnostic::at(at.then("events").then(n), format!("unknown event `{event}`"))
                            .wanted("no such event")
                            .hint(format!("there are {}", TOLD.join(", "))),
                    );
                }
            }
            if let Some(variable) = &webhook.secret_env {
                self.variable(&at.then("secret_env"), variable);
            }
        }
    }

    fn hooks(&mut self) {
        for (key, argv) in [
            ("on_started", &self.tables.hooks.on_started),
            ("on_completed", &self.tables.hooks.on_completed),
            ("on_failed", &self.tables.hooks.on_failed),
            ("on_finished", &self.tables.hooks.on_finished),
        ] {
            if argv.first().is_some_and(|program| program.trim().is_empty()) {
                self.add(
                    Diagnostic::at(key_path!["hooks", key, 0usize], "an empty program name")
                        .wanted("wanted a program"),
                );
            }
        }
    }

    fn vars(&mut self) {
        for name in self.tables.vars.keys() {
            if !is_identifier(name) {
                self.add(
                    Diagnostic::at(
                        key_path!["vars", name],
                        format!("`{name}` cannot be used as a name in templates"),
                    )
                    .on_key()
                    .wanted("wanted letters (A-Z, a-z), digits and `_`")
                    .maybe_hint(
                        Some(identifier(name)).filter(|id| !id.is_empty()).map(|id| format!("write `{id}`")),
                    ),
                );
            }
        }
    }

    fn task_names(&mut self) {
        for name in self.tables.task.keys() {
            let at = TablePath::task(name);
            if !is_task_name(name) {
                let better: String = name
                    .trim()
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' })
                    .collect();
                let better = better.trim_start_matches(['-', '.']).to_owned();
                self.add(
                    Diagnostic::at(
                        at,
                        if name.is_empty() {
                            "a task without a name".to_owned()
                        } else {
                            format!("`{name}` is not a task name")
                        },
                    )
                    .on_key()
                    .wanted("wanted letters (A-Z, a-z), digits, `_`, `-` and `.`")
                    .maybe_hint(
                        better
                            .contains(|c: char| c.is_ascii_alphanumeric())
                            .then(|| format!("write `[task.{better}]`")),
                    ),
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
        let mut without = self
            .tables
            .task
            .iter()
            .filter(|(_, task)| task.prompt.is_some() && task.model.is_none() && !task.is_tiered());
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
            Diagnostic::at(TablePath::task(name), format!("task `{name}` has a prompt but no model{others}"))
                .on_key()
                .wanted("`model` is missing")
                .hint(hint),
        );
    }

    fn name(&mut self, at: &TablePath, name: &str, what: &str) {
        if name.trim().is_empty() {
            self.add(Diagnostic::at(at, format!("a {what} without a name")).on_key().wanted("wanted a name"));
        }
    }

    /// Whether an address can be used; notes what is wrong with it.
    fn url(&mut self, at: &TablePath, url: &str) -> bool {
        let lower = url.to_lowercase();
        let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme)) else {
            self.add(
                Diagnostic::at(at, format!("`{at}` is not an address"))
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
                Diagnostic::at(at, format!("`{at}` holds a user name or password"))
                    .secret()
                    .hint("keys do not belong in files: use `api_key_env`"),
            );
            return false;
        }
        if host.is_empty() || host.starts_with(':') || url.contains(char::is_whitespace) {
            self.add(
                Diagnostic::at(at, format!("`{at}` is not an address")).wanted("wanted one with a host"),
            );
            return false;
        }
        true
    }

    /// The name of an environment variable, rather than what it holds.
    fn variable(&mut self, at: &TablePath, name: &str) {
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
            Diagnostic::at(at, format!("`{at}` is empty"))
                .wanted("wanted the name of an environment variable")
        } else {
            Diagnostic::at(at, format!("`{at}` does not name an environment variable")).secret().hint(
                match name.strip_prefix('$') {
                    Some(_) => "write the name without `$`".to_owned(),
                    None => {
                        let (holds, key, example) = match at.0.last() {
                            Some(Step::Key(key)) if key.as_ref() == "url_env" => {
                                ("address", "url_env", "SLACK_WEBHOOK_URL")
                            }
                            Some(Step::Key(key)) if key.as_ref() == "secret_env" => {
                                ("secret", "secret_env", "WEBHOOK_SECRET")
                            }
                            _ => ("key", "api_key_env", "OPENAI_API_KEY"),
                        };
                        format!(
                            "write the variable's name, never the {holds} itself: `{key} = \"{example}\"`"
                        )
                    }
                },
            )
        };
        self.add(fault);
    }

    fn not_zero(&mut self, at: &TablePath, span: Option<Span>) {
        if span.is_some_and(|span| span.0.is_zero()) {
            self.add(
                Diagnostic::at(at, format!("`{at}` is zero"))
                    .wanted("wanted a duration like \"90s\" or \"15m\""),
            );
        }
    }

    fn retry(&mut self, at: &TablePath, retry: Option<&Retry>) {
        let Some(retry) = retry else { return };
        if retry.max_attempts == Some(0) {
            self.add(
                Diagnostic::at(at.then("max_attempts"), format!("`{at}.max_attempts` is 0"))
                    .wanted("wanted 1 or more")
                    .hint("1 means one attempt and no second"),
            );
        }
        if let (Some(base), Some(max)) = (retry.base, retry.max)
            && base > max
        {
            self.add(
                Diagnostic::at(at.then("base"), format!("`{at}.base` is longer than `max`"))
                    .wanted("wanted the shorter of the two")
                    .related(at.then("max"), "the longest pause"),
            );
        }
    }
}
