//! Checks of one task: its recipe and the keys that fit it, what it names, its paths, its command.

use std::collections::HashMap;

use super::super::fault::{Fault, list_of, nearest, suggest};
use super::super::inputs::{NamedInput, named};
use super::super::names::{identifier, is_identifier};
use super::super::paths;
use super::super::place::KeyPath;
use super::super::read::is_damaged;
use super::super::recipe::Recipe;
use super::super::types::{Check, Command, Env, Foreach, Output, Task};
use super::Checker;

pub(super) struct TaskChecker<'a, 'b> {
    pub(super) at: KeyPath,
    pub(super) name: &'a str,
    pub(super) task: &'a Task,
    pub(super) recipe: Recipe,
    pub(super) all: &'a mut Checker<'b>,
}

impl TaskChecker<'_, '_> {
    fn add(&mut self, fault: Fault) {
        self.all.add(fault);
    }

    pub(super) fn check(&mut self) {
        // What a key left out would have said is not missed.
        if !is_damaged(self.all.damaged, &self.at) {
            self.recipe();
            self.keys_that_fit();
        }
        self.numbers();
        self.references();
        self.foreach();
        self.eval();
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
    }

    fn keys_that_fit(&mut self) {
        use Recipe::{Command, Gate, Group, Human, Prompt, Template};
        let task = self.task;
        let any = [Prompt, Command, Template, Gate, Human].as_slice();
        // The evaluator of a command asks the task's model, unless it has one of its own.
        let asks_in_eval = task.eval.as_ref().is_some_and(|eval| eval.prompt.is_some());
        let given: [(&str, bool, &[Recipe]); 26] = [
            ("system", task.system.is_some(), &[Prompt]),
            ("schema", task.schema.is_some(), &[Prompt]),
            ("check", task.check.is_some(), &[Prompt, Human]),
            ("model", task.model.is_some() && !asks_in_eval, &[Prompt]),
            ("tier", task.tier.is_some() && !asks_in_eval, &[Prompt]),
            ("complexity", task.complexity.is_some() && !asks_in_eval, &[Prompt]),
            ("params", task.params.is_some(), &[Prompt]),
            ("params_extra", task.params_extra.is_some(), &[Prompt]),
            ("max_validation_retries", task.max_validation_retries.is_some(), &[Prompt]),
            ("stdout", task.stdout, &[Command]),
            ("in_place", task.in_place, &[Command]),
            ("cwd", task.cwd.is_some(), &[Command]),
            ("env", task.env.is_some(), &[Command]),
            ("kind", task.kind.is_some(), &[Command]),
            ("isolate", task.isolate.is_some(), &[Command]),
            ("eval", task.eval.is_some(), &[Prompt, Command]),
            ("refine", task.refine.is_some(), &[Prompt, Command]),
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
        let isolated = task.isolate.as_ref().and_then(|isolate| isolate.wanted());
        if task.in_place && isolated.is_some() {
            self.add(
                Fault::at(
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
                        Fault::at(self.at.then(key), format!("`{key}` has no meaning without `foreach`"))
                            .on_key()
                            .wanted("only with `foreach`")
                            .hint("remove the key, or add `foreach = { file = \"…\", items = \"/…\" }`"),
                    );
                }
            }
        }
    }

    /// A name that is to be a branch's, or part of one.
    fn branch_name(&mut self, at: &KeyPath, key: &str, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !is_branch_name(name)) {
            self.add(
                Fault::at(at, format!("`{name}` can be no `{key}`: git takes no such name"))
                    .wanted("wanted letters, digits, `-`, `_`, `/` or `.`"),
            );
        }
    }

    fn numbers(&mut self) {
        let task = self.task;
        for (key, given) in [("timeout", task.timeout), ("stall_timeout", task.stall_timeout)] {
            if given.is_some() {
                self.all.not_zero(&self.at.then(key), given);
            }
        }
        if task.retry.is_some() {
            self.all.retry(&self.at.then("retry"), task.retry.as_deref());
        }
        if let Some(share) = task.min_success
            && !(share > 0.0 && share <= 1.0)
        {
            self.add(
                Fault::at(self.at.then("min_success"), format!("`min_success` is {share}"))
                    .wanted("wanted a share above 0, up to 1")
                    .maybe_hint((2.0..=100.0).contains(&share).then(|| format!("write `{}`", share / 100.0))),
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
        let is_more = |least: Option<u64>, most: Option<u64>| least.zip(most).is_some_and(|(a, b)| a > b);
        if is_more(check.min_words, check.max_words) {
            pairs.push((at.then("min_words"), at.then("max_words")));
        }
        for (pointer, rule) in &check.texts {
            let at = at.then("texts").then(pointer);
            if is_more(rule.min_words, rule.max_words) {
                pairs.push((at.then("min_words"), at.then("max_words")));
            }
            if let Some(share) = rule.alike.filter(|share| !(0.0..=1.0).contains(share)) {
                let fault = Fault::at(at.then("alike"), format!("`alike` is {share}"));
                self.add(fault.wanted("wanted a share from 0 to 1"));
            }
        }
        for (index, rule) in check.ranges.iter().enumerate() {
            let at = at.then("ranges").then(index);
            if rule.min.zip(rule.max).is_some_and(|(least, most)| least > most) {
                pairs.push((at.then("min"), at.then("max")));
            }
            if let Some(ratio) = rule.max_ratio.filter(|ratio| *ratio < 1.0) {
                let fault = Fault::at(at.then("max_ratio"), format!("`max_ratio` is {ratio}"));
                self.add(fault.wanted("wanted 1 or more: the upper bound over the lower one"));
            }
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
        self.tier();
        if let Some(models) = &task.model {
            self.all.model_names(&self.at.then("model"), models);
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

    /// Who evaluates, and the numbers of `eval` and `refine`.
    fn eval(&mut self) {
        self.refine();
        let Some(eval) = &self.task.eval else { return };
        let at = self.at.then("eval");
        match (&eval.prompt, &eval.command) {
            (Some(_), Some(_)) => self.add(
                Fault::at(
                    at.then("command"),
                    format!("`eval` of task `{}` has both a prompt and a command", self.name),
                )
                .on_key()
                .wanted("one too many")
                .related(at.then("prompt"), "the other")
                .hint("keep the one that is to score"),
            ),
            (None, None) => self.add(
                Fault::at(&at, format!("`eval` of task `{}` has neither a prompt nor a command", self.name))
                    .on_key()
                    .wanted("`prompt` or `command` is missing")
                    .hint("add `prompt = \"prompts/judge.md\"`: what the evaluator is asked"),
            ),
            _ => {}
        }
        if eval.command.is_some() {
            let asks = [
                ("system", eval.system.is_some()),
                ("model", eval.model.is_some()),
                ("params", eval.params.is_some()),
            ];
            for (key, _) in asks.into_iter().filter(|(_, given)| *given) {
                self.add(
                    Fault::at(at.then(key), format!("`{key}` has no meaning where a command evaluates"))
                        .on_key()
                        .wanted("only with `prompt`")
                        .hint("remove the key"),
                );
            }
        }
        if let Some(models) = &eval.model {
            self.all.model_names(&at.then("model"), models);
        }
        if eval.prompt.is_some()
            && eval.model.is_none()
            && self.task.model.is_none()
            && !self.task.is_tiered()
            && self.all.tables.defaults.model.is_none()
        {
            self.add(
                Fault::at(&at, format!("nothing says which model evaluates task `{}`", self.name))
                    .on_key()
                    .wanted("`model` is missing")
                    .hint("add `model = \"…\"` here or to `[defaults]`"),
            );
        }
        if eval.timeout.is_some() {
            self.all.not_zero(&at.then("timeout"), eval.timeout);
        }
        self.share(&at, "threshold", eval.threshold);
        if eval.rescue == Some(true) && self.recipe == Recipe::Prompt {
            self.add(
                Fault::at(
                    at.then("rescue"),
                    "`rescue` has no meaning in a prompt task: an answer that failed is none",
                )
                .on_key()
                .wanted("only with `command`")
                .hint("remove the key"),
            );
        }
        for (key, number) in [("max_rounds", eval.max_rounds.map(u64::from)), ("max_bytes", eval.max_bytes)] {
            if number == Some(0) {
                self.add(Fault::at(at.then(key), format!("`{key}` is 0")).wanted("wanted 1 or more"));
            }
        }
    }

    fn refine(&mut self) {
        let Some(refine) = &self.task.refine else { return };
        let at = self.at.then("refine");
        if self.task.eval.is_none() {
            self.add(
                Fault::at(&at, format!("`refine` of task `{}` has no notes to go by", self.name))
                    .on_key()
                    .wanted("only with `eval`")
                    .hint("add `eval = { prompt = \"prompts/judge.md\" }`: each round is given its notes"),
            );
        } else if self.task.eval.as_ref().is_some_and(|eval| eval.max_rounds.is_some()) {
            self.add(
                Fault::at(
                    self.at.then("eval").then("max_rounds"),
                    "with `refine` the rounds are counted there",
                )
                .on_key()
                .wanted("one too many")
                .related(&at, "the rounds"),
            );
        }
        match refine.max_rounds {
            None => self.add(
                Fault::at(&at, "`refine` does not say how many rounds")
                    .on_key()
                    .wanted("`max_rounds` is missing")
                    .hint("add `max_rounds = 3`"),
            ),
            Some(0) => {
                self.add(Fault::at(at.then("max_rounds"), "`max_rounds` is 0").wanted("wanted 1 or more"))
            }
            Some(_) => {}
        }
        self.share(&at, "until", refine.until);
    }

    /// A score is from 0 to 1.
    fn share(&mut self, at: &KeyPath, key: &'static str, score: Option<f64>) {
        if let Some(score) = score.filter(|score| !(0.0..=1.0).contains(score)) {
            // Of ten, or in percent.
            let better = match score {
                2.0..=10.0 => Some(score / 10.0),
                10.0..=100.0 => Some(score / 100.0),
                _ => None,
            };
            self.add(
                Fault::at(at.then(key), format!("`{key}` is {score}"))
                    .wanted("wanted a score from 0 to 1")
                    .maybe_hint(better.map(|better| format!("write `{better}`"))),
            );
        }
    }

    fn foreach(&mut self) {
        let Some(foreach) = &self.task.foreach else { return };
        let at = self.at.then("foreach");
        let Foreach { file, items, key, glob, batch } = &**foreach;
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
            Ok(path) => Some(path.into_owned()),
        }
    }

    fn inputs(&mut self, inputs: &[NamedInput]) {
        let task = self.task;
        let templates = matches!(self.recipe, Recipe::Prompt | Recipe::Template | Recipe::Gate)
            || task.when.is_some()
            || task.eval.as_ref().is_some_and(|eval| eval.prompt.is_some());
        let by_name = |name: &str| {
            let names = |text: &String| {
                text.match_indices("$in.").any(|(at, before)| text[at + before.len()..].starts_with(name))
            };
            match &task.command {
                Some(Command::Argv(argv)) => argv.iter().any(names),
                Some(Command::Shell(line)) => names(line),
                None => false,
            }
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
            let listed = matches!(task.inputs, super::super::types::Inputs::List(_));
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
            if let Some(eval) = &task.eval {
                taken.extend(["notes", "former"]);
                if eval.prompt.is_some() {
                    taken.extend(["outputs", "answer", "round", "error"]);
                }
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
        let pipeline = self.all.pipeline;
        for (index, output) in task.outputs.iter().enumerate() {
            let at = match output {
                Output::Path(_) => at.then(index),
                Output::Rendered(_) => at.then(index).then("path"),
            };
            let Some(path) = self.path(&at, output.path(), task.foreach.is_some()) else { continue };
            if let Err(fault) = paths::check_output(&path, pipeline) {
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
            self.braces(&at, part, inputs);
            self.placeholders(&at, part, inputs);
        }
        self.env_names();
    }

    /// Braces of our templates, which mean nothing in a command.
    fn braces(&mut self, at: &KeyPath, part: &str, inputs: &[NamedInput]) {
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
                Fault::at(at, "`{{ … }}` has no meaning in a command")
                    .wanted("commands are not templates")
                    .hint("use `$in`, `$in.NAME`, `$out`, `$key`, or `env = { NAME = \"…\" }`"),
            );
        }
    }

    /// `$in.NAME`, `$out.N` and `$key` that stand for nothing.
    fn placeholders(&mut self, at: &KeyPath, part: &str, inputs: &[NamedInput]) {
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
                            at,
                            format!("task `{}` has no input `{name}`, used as `$in.{name}`", self.name),
                        )
                        .wanted("no such input")
                        .hint(suggest(name, known).unwrap_or_else(|| "add it to `inputs`".to_owned())),
                    );
                }
                "out" if name.parse::<usize>().map_or(true, |n| n >= self.task.outputs.len()) => {
                    let count = self.task.outputs.len();
                    self.add(
                        Fault::at(at, format!("task `{}` has no output `$out.{name}`", self.name))
                            .wanted("no such output")
                            .hint(match count {
                                0 => "add `outputs = [\"…\"]`".to_owned(),
                                1 => "the one output is `$out` or `$out.0`".to_owned(),
                                _ => format!("outputs are `$out.0` to `$out.{}`", count - 1),
                            }),
                    );
                }
                "key" if self.task.foreach.is_none() => self.add(
                    Fault::at(at, format!("`$key` in task `{}`, which has no `foreach`", self.name))
                        .wanted("no key to put here")
                        .hint("write `$$key` for a shell variable of that name"),
                ),
                _ => {}
            }
        }
    }

    fn env_names(&mut self) {
        if let Some(Env::Table(table)) = self.task.env.as_deref() {
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

/// Whether git takes a name for a branch (git-check-ref-format(1)), and one of a branch of its own.
pub(super) fn is_branch_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock");
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c);
    !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name != "@"
        && name.chars().all(plain)
        && name.split('/').all(part)
}
