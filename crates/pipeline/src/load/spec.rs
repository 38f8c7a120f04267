//! What each task is to do, put together from its own keys and the defaults.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Loader;
use crate::manifest::executors;
use crate::manifest::names::loose;
use crate::manifest::types::{self, Env, Eval, ExecutorKind, Output, Task};
use crate::project::{
    CallsSpec, CommandSpec, EvalSpec, Evaluator, ExecutorSpec, ForeachSpec, GateSpec, HumanSpec, IsolateSpec,
    Line, PromptSpec, Recipe, Spec, Template, Until,
};
use crate::template::Source;
use planexe_base::record::Digest;

/// Where the models that are named stand.
fn positions(names: Option<&types::OneOrMany>, models: &types::Map<types::Model>) -> Vec<usize> {
    let names = names.map_or(&[][..], types::OneOrMany::as_slice);
    names.iter().filter_map(|name| models.get_index_of(name)).collect()
}

/// Parameters for all, changed name by name by those of one.
fn merged(all: &types::Map<Value>, own: Option<&types::Map<Value>>) -> Map<String, Value> {
    let own = own.into_iter().flatten();
    all.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn line_of(command: &types::Command) -> Line {
    match command {
        types::Command::Argv(words) => Line::Argv(words.clone()),
        types::Command::Shell(line) => Line::Shell(line.clone()),
    }
}

fn is_html(path: &str) -> bool {
    Source::is_html_name(path)
}

impl Loader<'_> {
    pub(super) fn spec(&self, name: &str, task: &Task) -> Option<Spec> {
        let defaults = &self.manifest.tables.defaults;
        let named = || {
            if self.timeouts.is_empty() { None } else { self.timeouts.get(&loose(name)).copied() }
        };
        let timeout = task
            .timeout
            .map(|span| span.0)
            .or_else(named)
            .or_else(|| defaults.timeout.map(|span| span.0))
            .or_else(|| self.timeouts.get("default").copied());
        let templates =
            task.outputs.iter().map(|output| self.output_template(output).map(Box::new)).collect();
        Some(Spec {
            name: name.to_owned(),
            description: task.description.clone(),
            recipe: self.recipe(name, task)?,
            templates,
            when: task.when.as_ref().map(|when| Box::new(self.condition(name, "when", when))),
            foreach: task.foreach.as_ref().map(|foreach| {
                Box::new(ForeachSpec {
                    file: foreach.file.as_ref().map(|file| self.path(file)),
                    items: foreach.items.clone(),
                    key: foreach.key.clone(),
                    glob: foreach.glob.as_ref().map(|glob| self.path(glob)),
                    batch: foreach.batch.map(|n| n as usize),
                })
            }),
            sequential: task.sequential,
            min_success: task.min_success.unwrap_or(1.0),
            timeout,
            stall: task.stall_timeout.or(defaults.stall_timeout).map(|span| span.0),
            retry: task.retry.clone(),
            priority: task.priority,
            pool: task.pool.as_ref().and_then(|pool| self.manifest.tables.pools.get_index_of(pool)),
            executor: self.executor(task),
            service: task.service.as_ref().and_then(|name| self.manifest.tables.services.get_index_of(name)),
            resources: task.resources.clone(),
            step: 0,
            eval: match &task.eval {
                Some(eval) => Some(Box::new(self.eval(task, eval, timeout)?)),
                None => None,
            },
            stands_for: None,
            isolate: self.isolate(task),
        })
    }

    /// Every executor that can be named.
    pub(super) fn executors(&self) -> Vec<ExecutorSpec> {
        let tables = &self.manifest.tables.executors;
        let named = executors::names(tables).into_iter();
        let spec = |name: String| {
            let (kind, table) = executors::find(tables, &name)?;
            Some(ExecutorSpec { kind, table: table.cloned().unwrap_or_default(), name })
        };
        named.filter_map(spec).collect()
    }

    /// Where a task's command runs, if not in the build itself.
    fn executor(&self, task: &Task) -> Option<usize> {
        task.command.as_ref()?;
        let tables = &self.manifest.tables;
        let name = task.executor.as_ref().or(tables.defaults.executor.as_ref())?;
        let (kind, _) = executors::find(&tables.executors, name)?;
        let at = || executors::names(&tables.executors).iter().position(|known| known == name);
        if kind == ExecutorKind::Local { None } else { at() }
    }

    /// How a task is kept apart.
    fn isolate(&self, task: &Task) -> Option<Box<IsolateSpec>> {
        let own = task.isolate.as_ref()?.wanted()?;
        let tables = &self.manifest.tables;
        let lanes = || tables.task.values().filter_map(|task| task.isolate.as_ref()?.wanted()?.lane);
        let number = |lane: &String| {
            let mut seen: Vec<String> = Vec::new();
            lanes().for_each(|name| {
                if !seen.contains(&name) {
                    seen.push(name)
                }
            });
            seen.iter().position(|name| name == lane)
        };
        let lane = own.lane.and_then(|lane| number(&lane).map(|number| (lane, number)));
        Some(Box::new(IsolateSpec {
            lane,
            base: own.base.or_else(|| tables.isolation.base.clone()),
            on_merge_failure: own.on_merge_failure.or(tables.isolation.on_merge_failure).unwrap_or_default(),
        }))
    }

    fn eval(&self, task: &Task, eval: &Eval, timeout: Option<Duration>) -> Option<EvalSpec> {
        let defaults = &self.manifest.tables.defaults;
        let by = match (&eval.prompt, &eval.command) {
            (Some(prompt), _) => {
                let names = eval.model.as_ref().or(task.model.as_ref()).or(defaults.model.as_ref());
                let system = eval.system.as_ref();
                Evaluator::Prompt(Box::new(PromptSpec {
                    system: match system {
                        Some(system) => Some(self.template(system, false)?),
                        None => None,
                    },
                    prompt: self.template(prompt, false)?,
                    schema: Some(crate::eval_score::schema().clone()),
                    check: None,
                    check_digest: None,
                    models: positions(names, &self.manifest.tables.models),
                    params: merged(&defaults.params, eval.params.as_ref()),
                    params_extra: Map::new(),
                    tools: None,
                    max_validation_retries: 1,
                }))
            }
            (None, Some(command)) => Evaluator::Command(CommandSpec {
                line: line_of(command),
                stdout: true,
                in_place: false,
                cwd: None,
                env_names: Vec::new(),
                env_set: Vec::new(),
                calls: None,
            }),
            (None, None) => return None,
        };
        let asked = match &by {
            Evaluator::Prompt(prompt) => {
                let system = prompt.system.as_ref().map(|system| system.source.text.clone());
                (vec![prompt.prompt.source.text.to_string()], system.map(|text| text.to_string()))
            }
            Evaluator::Command(command) => (command.line.words(), None),
        };
        let threshold = eval.threshold.unwrap_or(0.7);
        let refine = task.refine.as_ref();
        let rounds = refine.map_or(eval.max_rounds.unwrap_or(2), |refine| refine.max_rounds.unwrap_or(1));
        Some(EvalSpec {
            digest: Digest::of(&serde_json::to_vec(&(asked, threshold)).unwrap_or_default()),
            by,
            threshold,
            rescue: eval.rescue.unwrap_or(task.kind == Some(types::Kind::Agent)),
            max_rounds: rounds.max(1),
            refine: refine.map(|refine| Until(refine.until)),
            max_bytes: eval.max_bytes.map_or(64 << 10, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            timeout: eval.timeout.map(|span| span.0).or(timeout),
        })
    }

    fn recipe(&self, name: &str, task: &Task) -> Option<Recipe> {
        let html = task.outputs.first().is_some_and(|output| is_html(output.path()));
        if let Some(prompt) = &task.prompt {
            return Some(Recipe::Prompt(Box::new(self.prompt(name, task, prompt)?)));
        }
        if let Some(command) = &task.command {
            return Some(Recipe::Command(Box::new(self.command(task, command))));
        }
        if let Some(template) = &task.template {
            return Some(Recipe::Template(Box::new(self.template(template, html)?)));
        }
        if let Some(gate) = &task.gate {
            return Some(Recipe::Gate(Box::new(GateSpec {
                fail_if: self.condition(name, "gate", &gate.fail_if),
                action: gate.action,
                warn_if: gate.warn_if.as_ref().map(|text| self.condition(name, "gate.warn_if", text)),
                message: gate.message.as_ref().map(|text| self.inline(name, "gate.message", text)),
            })));
        }
        Some(match &task.human {
            Some(human) => Recipe::Human(Box::new(HumanSpec {
                ask: self.inline(name, "human", human),
                check: self.texts.check(name).cloned(),
            })),
            None => Recipe::Group,
        })
    }

    fn prompt(&self, name: &str, task: &Task, prompt: &str) -> Option<PromptSpec> {
        let defaults = &self.manifest.tables.defaults;
        let names = task.model.as_ref().or(defaults.model.as_ref());
        let models = positions(names, &self.manifest.tables.models);
        let params = merged(&defaults.params, task.params.as_deref());
        let check_digest = task.check.as_ref().map(|check| {
            let words =
                self.texts.check(name).map(|check| check.words()).filter(|_| check.banned_words.is_some());
            let text = match words {
                Some(words) if check.allowed_words.is_some() => serde_json::to_vec(&(check, words)),
                // As it was before words could be allowed, so that no answer is checked again.
                words => serde_json::to_vec(&(check, words.map(|words| &words.banned))),
            };
            Digest::of(&text.unwrap_or_default())
        });
        Some(PromptSpec {
            system: match task.system.as_ref().or(defaults.system.as_ref()) {
                Some(system) => Some(self.template(system, false)?),
                None => None,
            },
            prompt: self.template(prompt, false)?,
            schema: match &task.schema {
                Some(schema) => Some(self.texts.schema(schema)?.clone()),
                None => None,
            },
            check: self.texts.check(name).cloned(),
            check_digest,
            models,
            params,
            params_extra: task
                .params_extra
                .as_deref()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            tools: task.tools.clone(),
            max_validation_retries: task
                .max_validation_retries
                .or(defaults.max_validation_retries)
                .unwrap_or(2),
        })
    }

    fn command(&self, task: &Task, command: &types::Command) -> CommandSpec {
        let line = line_of(command);
        let names_out = line.words().iter().any(|word| word.contains("$out"));
        let (env_names, env_set) = match task.env.as_deref() {
            Some(Env::Names(names)) => (names.clone(), Vec::new()),
            Some(Env::Table(table)) => {
                (Vec::new(), table.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            }
            None => (Vec::new(), Vec::new()),
        };
        CommandSpec {
            line,
            stdout: task.stdout,
            // A command that is not told where to write can only write in place.
            // In a worktree of its own every command does, and nothing of it is in place before it is merged.
            in_place: (task.in_place || (!names_out && !task.stdout))
                && task.isolate.as_ref().and_then(|isolate| isolate.wanted()).is_none(),
            cwd: task.cwd.clone(),
            env_names,
            env_set,
            calls: task.calls.as_deref().and_then(|calls| {
                let (max_calls, max_cost) = calls.limits();
                let endpoint = self.manifest.tables.models.get_index_of(calls.model())?;
                Some(CallsSpec { endpoint, max_calls, max_cost })
            }),
        }
    }

    fn output_template(&self, output: &Output) -> Option<Template> {
        self.template(output.template()?, is_html(output.path()))
    }

    /// A template by what the manifest writes for it.
    fn template(&self, written: &str, html: bool) -> Option<Template> {
        let source = self.texts.source(written)?;
        let html = html || Source::is_html_name(written);
        Some(self.compile(source, html))
    }

    fn inline(&self, task: &str, key: &str, text: &str) -> Template {
        let source = self.texts.source(text);
        let trim = self.manifest.tables.pipeline.trim_blocks;
        let named = || Source::new(format!("task.{task}.{key}"), text).trimmed(trim);
        self.compile(source.unwrap_or_else(named), false)
    }

    fn condition(&self, task: &str, key: &str, text: &str) -> Template {
        let source = Source::new(format!("task.{task}.{key}"), text);
        self.compile(source, false)
    }

    fn compile(&self, source: Source, html: bool) -> Template {
        Template { names: self.texts.names_in(&source), source, html }
    }
}
