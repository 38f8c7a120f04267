//! Checks of the model tables: names, addresses, keys, numbers.

use super::super::diagnostic::{Diagnostic, suggest};
use super::super::place::TablePath;
use super::super::types::{Api, CallTimeouts, Fail, Model, OneOrMany};
use super::Checker;
use crate::key_path;
use crate::manifest::types::at_node;

impl Checker<'_> {
    pub(super) fn models(&mut self) {
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
            let known: Vec<&str> =
                tables.models.keys().chain(over.models.keys()).map(String::as_str).collect();
            if let Some(models) = &over.defaults.model {
                self.names_known(&key_path!["profiles", profile, "defaults", "model"], models, &known);
            }
            for (tier, over) in &over.tiers {
                if let Some(models) = &over.model {
                    self.names_known(&key_path!["profiles", profile, "tiers", tier, "model"], models, &known);
                }
            }
        }
    }

    /// `[optimize]`: models that are there, and numbers that can be.
    pub(super) fn optimize(&mut self) {
        let set = &self.tables.optimize;
        for (key, models) in [("propose_model", &set.propose_model), ("judge_model", &set.judge_model)] {
            if let Some(models) = models {
                self.model_names(&key_path!["optimize", key], models);
            }
        }
        for (key, score) in [("margin", set.margin), ("max_drop", set.max_drop)] {
            if let Some(score) = score.filter(|score| !(0.0..=1.0).contains(score)) {
                self.add(
                    Diagnostic::at(key_path!["optimize", key], format!("`{key}` is {score}"))
                        .wanted("wanted a score from 0 to 1"),
                );
            }
        }
        if let Some(samples) = set.samples.filter(|samples| !(1..=100).contains(samples)) {
            self.add(
                Diagnostic::at(key_path!["optimize", "samples"], format!("`samples` is {samples}"))
                    .wanted("wanted 1 to 100 draws of each text"),
            );
        }
    }

    pub(super) fn model_names(&mut self, at: &TablePath, models: &OneOrMany) {
        let known: Vec<&str> = self.tables.models.keys().map(String::as_str).collect();
        self.names_known(at, models, &known);
    }

    pub(super) fn names_known(&mut self, at: &TablePath, models: &OneOrMany, known: &[&str]) {
        if models.as_slice().is_empty() {
            self.add(
                Diagnostic::at(at, format!("`{at}` is an empty list")).wanted("wanted at least one model"),
            );
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
            self.add(
                Diagnostic::at(at, format!("unknown model `{name}`")).wanted("no such model").hint(hint),
            );
        }
    }

    pub(super) fn model(&mut self, at: &TablePath, model: &Model, whole: bool) {
        let Some(api) = model.api else {
            if whole {
                self.add(
                    Diagnostic::at(at, format!("`{at}` has no `api`"))
                        .on_key()
                        .wanted("`api` is missing")
                        .hint("add `api = \"openai\"` (or anthropic, ollama, claude, codex, gemini, command, recorded, simulated)"),
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
            Api::Simulated | Api::Claude | Api::Codex | Api::Gemini => &[],
        };
        if whole {
            for (key, given, example) in needs {
                if !given {
                    self.add(
                        Diagnostic::at(
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
            (
                "price_mode",
                model.price_mode.is_some(),
                api == Api::Openai
                    || (api == Api::Anthropic
                        && model.price_mode != Some(planexe_llm::config::PriceMode::Flex)),
                "openai (flex, batch) and anthropic (batch)",
            ),
            (
                "batch",
                model.batch.is_some(),
                model.is_batched(),
                "openai and anthropic, with price_mode = \"batch\"",
            ),
            (
                "cache",
                model.cache.is_some(),
                matches!(api, Api::Openai | Api::Anthropic),
                "openai and anthropic",
            ),
            ("schemas", model.schemas.is_some(), network, "openai, anthropic and ollama"),
            ("server", model.server.is_some(), api == Api::Openai, "openai"),
            ("base_url", model.base_url.is_some(), network, "openai, anthropic and ollama"),
            (
                "api_key_env",
                model.api_key_env.is_some(),
                network || api == Api::Command || api.is_agent(),
                "openai, anthropic, ollama, command and agents",
            ),
            (
                "service",
                model.service.is_some(),
                network || api == Api::Command,
                "openai, anthropic, ollama and command",
            ),
            ("headers", !model.headers.is_empty(), network, "openai, anthropic and ollama"),
            (
                "command",
                !model.command.is_empty(),
                api == Api::Command || api.is_agent(),
                "command, claude, codex and gemini",
            ),
            ("tools", !model.tools.is_empty(), api.is_agent(), "claude, codex and gemini"),
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
                    Diagnostic::at(at.then(key), format!("`{key}` has no meaning for api `{}`", api.name()))
                        .on_key()
                        .wanted(format!("this key is for api {whose}"))
                        .hint("remove the key, or change `api`"),
                );
            }
        }
        if let Some(url) = &model.base_url
            && network
        {
            match model.service {
                Some(_) => self.base_url(&at.then("base_url"), &at_node(url, "127.0.0.1"), api),
                None => self.base_url(&at.then("base_url"), url, api),
            }
        }
        if let Some(service) = &model.service {
            self.service_name(&at.then("service"), service);
        }
        self.model_values(at, model);
    }

    fn base_url(&mut self, at: &TablePath, url: &str, api: Api) {
        if !self.url(at, url) {
            return;
        }
        let path = url.trim_end_matches('/');
        for end in ["/chat/completions", "/completions", "/messages", "/api/chat", "/api/generate"] {
            if let Some(root) = path.strip_suffix(end) {
                let root = if api == Api::Anthropic { root.trim_end_matches("/v1") } else { root };
                self.add(
                    Diagnostic::at(
                        at,
                        format!("`{at}` is the address of a call, wanted the root of the API"),
                    )
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
                Diagnostic::at(at, format!("the `base_url` of api `{}` does not end in `/v1`", api.name()))
                    .wanted("`/v1` is too much")
                    .hint(hint),
            );
        }
    }

    fn model_values(&mut self, at: &TablePath, model: &Model) {
        for header in model.headers.keys() {
            let lower = header.to_lowercase();
            let secret = ["authorization", "api-key", "apikey", "cookie", "token", "secret", "password"]
                .iter()
                .any(|word| lower.contains(word));
            if secret {
                self.add(
                    Diagnostic::at(
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
                self.add(Diagnostic::at(&at, format!("`{at}` is 0")).wanted("wanted 1 or more"));
            }
        }
        if let Some(price) = &model.price {
            for (key, value) in [
                ("input", Some(price.input)),
                ("output", Some(price.output)),
                ("cached", price.cached),
                ("cache_write", price.cache_write),
            ] {
                if value.is_some_and(|value| value < 0.0) {
                    let at = at.then("price").then(key);
                    self.add(
                        Diagnostic::at(&at, format!("`{at}` is negative"))
                            .wanted("wanted USD per million tokens"),
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
                self.add(
                    Diagnostic::at(&at, format!("`{at}` is {share}")).wanted("wanted a share from 0 to 1"),
                );
            }
        }
        if model.command.first().is_some_and(|program| program.trim().is_empty()) {
            self.add(
                Diagnostic::at(at.then("command").then(0), "an empty program name")
                    .wanted("wanted a program"),
            );
        }
        if model.model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            self.add(
                Diagnostic::at(at.then("model"), "an empty model name")
                    .wanted("wanted the name its server knows"),
            );
        }
    }
}
