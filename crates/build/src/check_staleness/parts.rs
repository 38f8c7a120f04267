//! What a task is made from, part by part: the fingerprint of each recipe, and of an evaluation.

use std::sync::Arc;

use minijinja::Value;

use super::{Made, StaleCheck, render_failure};
use planexe_base::record::{Digest, Failure};
use planexe_engine::fingerprint::{EVAL, Fingerprint, ORDER, PATHS};
use planexe_engine::graph::{Kind, Task};
use planexe_pipeline::input_files::Files;
use planexe_pipeline::items;
use planexe_pipeline::project::{CommandSpec, EvalSpec, Line, PromptSpec, Recipe, Spec, Template};
use planexe_pipeline::task_inputs::{InputError, Inputs, KEPT_TASKS, KeptTask, SAMPLES};

/// `$in` and `inputs` have the inputs in order, and by their paths.
fn add_arguments(mut labelled: Vec<(&Files, &str)>, fingerprint: &mut Fingerprint) {
    if labelled.len() > 1 {
        let labels: Vec<&str> = labelled.iter().map(|(_, label)| *label).collect();
        fingerprint.add(ORDER, labels.join("\0").as_bytes());
    }
    // What a glob matched is part of what it holds.
    labelled.retain(|(input, _)| !input.glob);
    labelled.sort_by_key(|(_, label)| *label);
    if !labelled.is_empty() {
        let paths: Vec<&str> = labelled.iter().map(|(input, _)| input.pattern.as_str()).collect();
        fingerprint.add(PATHS, paths.join("\0").as_bytes());
    }
}

fn add_item(task: &Task, fingerprint: &mut Fingerprint) {
    if let (Some(item), Kind::Instance { .. }) = (&task.item, task.kind) {
        fingerprint.add("item", items::canonical(&item.value).as_bytes());
    }
}

impl StaleCheck<'_> {
    pub(super) fn fingerprint(&self, task: &Task, spec: &Spec, inputs: &Inputs) -> Result<Made, Failure> {
        let mut made = Made {
            fingerprint: Fingerprint::new(),
            system: String::new(),
            prompt: String::new(),
            check: None,
            attached: Arc::default(),
        };
        match &spec.recipe {
            Recipe::Group => {}
            Recipe::Prompt(prompt) => self.prompt_parts(task, prompt, inputs, &mut made)?,
            Recipe::Command(command) => self.command_parts(task, command, inputs, &mut made.fingerprint),
            Recipe::Template(source) => {
                self.template_parts("template", source, task, inputs, &mut made.fingerprint, true)
            }
            Recipe::Gate(gate) => {
                self.template_parts("template", &gate.fail_if, task, inputs, &mut made.fingerprint, true);
                made.fingerprint.add("gate", format!("{:?}", gate.action).as_bytes());
                if let Some(warn_if) = &gate.warn_if {
                    self.template_parts("warn_if", warn_if, task, inputs, &mut made.fingerprint, true);
                }
                if let Some(message) = &gate.message {
                    self.template_parts("message", message, task, inputs, &mut made.fingerprint, true);
                }
            }
            Recipe::Human(human) => {
                self.template_parts("human", &human.ask, task, inputs, &mut made.fingerprint, true);
                if let Some(check) = &human.check {
                    let seen = inputs.context(self.project, task, &check.names());
                    let with = check.with(&seen.map_err(InputError::into_failure)?);
                    made.check = Some(with.map_or_else(|| check.clone(), |(check, _)| Arc::new(check)));
                }
            }
        }
        for (n, template) in spec.templates.iter().enumerate() {
            if let Some(source) = template {
                self.template_parts(
                    &format!("output.{n}"),
                    source,
                    task,
                    inputs,
                    &mut made.fingerprint,
                    false,
                );
            }
        }
        if let Some(eval) = &spec.eval {
            let digest = self.eval_part(eval, task, inputs);
            made.fingerprint.add_digest(EVAL, digest);
        }
        Ok(made)
    }

    /// One part for all that an evaluation rests on beside the outputs: where it changes they are evaluated again.
    fn eval_part(&self, eval: &EvalSpec, task: &Task, inputs: &Inputs) -> Digest {
        let mut parts = Fingerprint::new();
        if let Some(prompt) = eval.prompt() {
            for (part, template) in [("system", prompt.system.as_ref()), ("prompt", Some(&prompt.prompt))] {
                if let Some(template) = template {
                    self.template_parts(part, template, task, inputs, &mut parts, false);
                }
            }
        }
        parts.add_digest("how", eval.digest.clone());
        parts.digest()
    }

    fn prompt_parts(
        &self,
        task: &Task,
        prompt: &PromptSpec,
        inputs: &Inputs,
        made: &mut Made,
    ) -> Result<(), Failure> {
        let mut used = prompt.prompt.names.clone();
        used.extend(prompt.system.iter().flat_map(|system| system.names.iter().cloned()));
        used.extend(prompt.check.iter().flat_map(|check| check.names()));
        let context = inputs.context(self.project, task, &used).map_err(InputError::into_failure)?;
        let with = prompt.check.as_ref().and_then(|check| check.with(&context));
        let mut context = context;
        for name in ["notes", "former"].into_iter().filter(|name| prompt.prompt.uses(name)) {
            // What an evaluator says of a round counts as no part of the prompt.
            context.entry(name.to_owned()).or_insert_with(|| Value::from(""));
        }
        let context = Value::from_iter(context);
        if let Some(system) = &prompt.system {
            made.system = system.render(&context).map_err(|e| render_failure(&e))?;
            made.fingerprint.add("system", made.system.as_bytes());
        }
        made.prompt = prompt.prompt.render(&context).map_err(|e| render_failure(&e))?;
        made.fingerprint.add("prompt", made.prompt.as_bytes());
        let attached = inputs.attachments(self.project).map_err(InputError::into_failure)?;
        if !attached.is_empty() {
            let digests: Vec<&str> = attached.iter().map(|file| file.digest.0.as_str()).collect();
            made.fingerprint.add("files", digests.join("\n").as_bytes());
            made.attached = attached.into();
        }
        if let Some(schema) = &prompt.schema {
            made.fingerprint.add("schema", items::canonical(&schema.value).as_bytes());
        }
        if let Some(digest) = &prompt.check_digest {
            let digest = match &with {
                Some((_, seen)) => Digest::of(format!("{}\n{seen}", digest.0).as_bytes()),
                None => digest.clone(),
            };
            made.fingerprint.add_digest("check", digest);
        }
        made.check = with.map(|(check, _)| Arc::new(check)).or_else(|| prompt.check.clone());
        Ok(())
    }

    fn command_parts(
        &self,
        task: &Task,
        command: &CommandSpec,
        inputs: &Inputs,
        fingerprint: &mut Fingerprint,
    ) {
        let line = match &command.line {
            Line::Argv(argv) => argv.join("\0"),
            Line::Shell(line) => line.clone(),
        };
        let place = command.cwd.as_deref().unwrap_or("");
        let how = format!("{line}\0{place}\0{}\0{}", command.stdout, command.in_place);
        fingerprint.add("command", how.as_bytes());
        for name in &command.env_names {
            fingerprint.add(format!("env.{name}"), (self.env)(name).unwrap_or_default().as_bytes());
        }
        for (name, value) in &command.env_set {
            fingerprint.add(format!("env.{name}"), value.as_bytes());
        }
        let labelled = inputs.labelled();
        for (input, label) in &labelled {
            fingerprint.add_digest(format!("input.{label}"), inputs.digest_of(input));
        }
        add_arguments(labelled, fingerprint);
        add_item(task, fingerprint);
        fingerprint.add("outputs", task.outputs.join("\0").as_bytes());
    }

    /// The parts of a template: its text, the variables it uses, its inputs (`all`, or those it uses).
    fn template_parts(
        &self,
        part: &str,
        template: &Template,
        task: &Task,
        inputs: &Inputs,
        fingerprint: &mut Fingerprint,
        all: bool,
    ) {
        fingerprint.add(part, template.source.text.as_bytes());
        if template.source.trim {
            fingerprint.add("trim_blocks", b"true");
        }
        let uses = |name: &str| template.uses(name);
        let labelled = inputs.labelled();
        for (input, label) in &labelled {
            if all || uses(&input.name) || uses("inputs") {
                fingerprint.add_digest(format!("input.{label}"), inputs.digest_of(input));
            }
        }
        if uses("inputs") {
            add_arguments(labelled, fingerprint);
        }
        if uses(SAMPLES) && !inputs.samples.is_empty() {
            fingerprint.add(SAMPLES, inputs.samples.join("\0").as_bytes());
        }
        if uses(KEPT_TASKS) && !inputs.kept.is_empty() {
            let told = |kept: &KeptTask| format!("{}\0{}", kept.task, kept.gone.join("\0"));
            let told: Vec<String> = inputs.kept.iter().map(told).collect();
            fingerprint.add(KEPT_TASKS, told.join("\n").as_bytes());
        }
        for (name, value) in &self.project.vars {
            if template.uses(&format!("vars.{name}")) || template.names.contains("vars") {
                fingerprint.add(format!("var.{name}"), items::canonical(value).as_bytes());
            }
        }
        if uses("item") || uses("key") || uses("index") {
            add_item(task, fingerprint);
        }
        if let (true, Some(item)) = (uses("index"), &task.item) {
            fingerprint.add("index", item.index.to_string().as_bytes());
        }
    }
}
