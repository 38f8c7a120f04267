//! The recipe of a task, and the keys that fit it.

use super::{TaskChecker, is_branch_name};
use crate::manifest::diagnostic::{Diagnostic, list_of};
use crate::manifest::inputs::named;
use crate::manifest::place::TablePath;
use crate::manifest::recipe::Recipe;

impl TaskChecker<'_, '_> {
    pub(super) fn recipe(&mut self) {
        let recipes = self.task.recipes();
        let (name, at) = (self.name, self.at.clone());
        if recipes.len() > 1 {
            let keys = list_of(recipes.iter().map(|recipe| recipe.key())).unwrap_or_default();
            let mut fault = Diagnostic::at(
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
                        Diagnostic::at(
                            at.then("outputs"),
                            format!("task `{name}` has outputs, but nothing makes them"),
                        )
                        .on_key()
                        .wanted("a recipe is missing")
                        .hint("add `prompt`, `command`, `template`, `gate` or `human`"),
                    );
                } else if named(&task.inputs, &at).is_empty() && task.after.is_empty() {
                    self.add(
                        Diagnostic::at(&at, format!("task `{name}` does nothing"))
                            .on_key()
                            .wanted("a recipe is missing")
                            .hint("add `prompt`, `command`, `template`, `gate` or `human`; or `inputs` for a group"),
                    );
                }
            }
            recipe => {
                if task.outputs.is_empty() {
                    self.add(
                        Diagnostic::at(&at, format!("task `{name}` has a {} but no outputs", recipe.key()))
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
                Diagnostic::at(at.then("gate"), format!("the gate of task `{name}` has no `fail_if`"))
                    .wanted("`fail_if` is missing")
                    .hint("add `fail_if = \"{{ assessment.verdict == 'no-go' }}\"`"),
            );
        }
        if task.human.as_ref().is_some_and(|text| text.trim().is_empty()) {
            self.add(
                Diagnostic::at(at.then("human"), "nothing is asked of the person").wanted("wanted a text"),
            );
        }
    }

    pub(super) fn keys_that_fit(&mut self) {
        use Recipe::{Command, Gate, Group, Human, Prompt, Template};
        let task = self.task;
        let any = [Prompt, Command, Template, Gate, Human].as_slice();
        // The evaluator of a command asks the task's model, unless it has one of its own.
        let asks_in_eval = task.eval.as_ref().is_some_and(|eval| eval.prompt.is_some());
        let given: [(&str, bool, &[Recipe]); 32] = [
            ("system", task.system.is_some(), &[Prompt]),
            ("files", !task.files.is_empty(), &[Prompt]),
            ("schema", task.schema.is_some(), &[Prompt]),
            ("check", task.check.is_some(), &[Prompt, Human]),
            ("model", task.model.is_some() && !asks_in_eval, &[Prompt]),
            ("tier", task.tier.is_some() && !asks_in_eval, &[Prompt]),
            ("complexity", task.complexity.is_some() && !asks_in_eval, &[Prompt]),
            ("params", task.params.is_some(), &[Prompt]),
            ("params_extra", task.params_extra.is_some(), &[Prompt]),
            ("tools", task.tools.is_some(), &[Prompt]),
            ("max_validation_retries", task.max_validation_retries.is_some(), &[Prompt]),
            ("stdout", task.stdout, &[Command]),
            ("in_place", task.in_place, &[Command]),
            ("cwd", task.cwd.is_some(), &[Command]),
            ("env", task.env.is_some(), &[Command]),
            ("kind", task.kind.is_some(), &[Command]),
            ("calls", task.calls.is_some(), &[Command]),
            ("isolate", task.isolate.is_some(), &[Command]),
            ("executor", task.executor.is_some(), &[Command]),
            ("resources", task.resources.is_some(), &[Command]),
            ("eval", task.eval.is_some(), &[Prompt, Command]),
            ("refine", task.refine.is_some(), &[Prompt, Command]),
            ("retry", task.retry.is_some(), &[Prompt, Command]),
            ("stall_timeout", task.stall_timeout.is_some(), &[Prompt, Command]),
            ("timeout", task.timeout.is_some(), &[Prompt, Command, Template]),
            ("pool", task.pool.is_some(), &[Prompt, Command, Template]),
            ("service", task.service.is_some(), &[Command]),
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
                    Diagnostic::at(
                        self.at.then(key),
                        format!("`{key}` has no meaning in {what} (`{}`)", self.name),
                    )
                    .on_key()
                    .wanted(format!("only with {whose}"))
                    .hint("remove the key"),
                );
            }
        }
        self.keys_that_clash();
    }

    /// Keys that exclude, or need, one another.
    fn keys_that_clash(&mut self) {
        let task = self.task;
        if task.stdout && task.in_place {
            self.add(
                Diagnostic::at(
                    self.at.then("in_place"),
                    format!("task `{}` has both `stdout` and `in_place`", self.name),
                )
                .on_key()
                .wanted("one too many")
                .related(self.at.then("stdout"), "the other"),
            );
        }
        let isolated = task.isolate.as_ref().and_then(|isolate| isolate.wanted());
        if task.in_place && isolated.is_some() {
            self.add(
                Diagnostic::at(
                    self.at.then("in_place"),
                    format!("task `{}` has both `isolate` and `in_place`", self.name),
                )
                .on_key()
                .wanted("one too many")
                .related(self.at.then("isolate"), "in a worktree of its own it works in place anyway")
                .hint("remove `in_place`"),
            );
        }
        for (key, name) in isolated.iter().flat_map(|lane| [("lane", &lane.lane), ("base", &lane.base)]) {
            self.branch_name(&self.at.then("isolate").then(key), key, name.as_deref());
        }
        if task.foreach.is_none() {
            for (key, given) in [("min_success", task.min_success.is_some()), ("sequential", task.sequential)]
            {
                if given {
                    self.add(
                        Diagnostic::at(
                            self.at.then(key),
                            format!("`{key}` has no meaning without `foreach`"),
                        )
                        .on_key()
                        .wanted("only with `foreach`")
                        .hint("remove the key, or add `foreach = { file = \"…\", items = \"/…\" }`"),
                    );
                }
            }
        }
    }

    /// A name that is to be a branch's, or part of one.
    fn branch_name(&mut self, at: &TablePath, key: &str, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !is_branch_name(name)) {
            self.add(
                Diagnostic::at(at, format!("`{name}` can be no `{key}`: git takes no such name"))
                    .wanted("wanted letters, digits, `-`, `_`, `/` or `.`"),
            );
        }
    }
}
