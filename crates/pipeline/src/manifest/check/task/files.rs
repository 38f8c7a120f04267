//! What a task reads and writes: its inputs, outputs and fan-out.

use std::collections::HashMap;

use super::TaskChecker;
use crate::manifest::diagnostic::{Diagnostic, suggest};
use crate::manifest::inputs::NamedInput;
use crate::manifest::names::{identifier, is_identifier};
use crate::manifest::paths;
use crate::manifest::place::TablePath;
use crate::manifest::recipe::Recipe;
use crate::manifest::types::{Api, Command, Foreach, OneOrMany, Output};

impl TaskChecker<'_, '_> {
    pub(super) fn foreach(&mut self) {
        let Some(foreach) = &self.task.foreach else { return };
        let at = self.at.then("foreach");
        let Foreach { file, items, key, glob, batch } = &**foreach;
        match (file, glob) {
            (None, None) => self.add(
                Diagnostic::at(&at, format!("`foreach` of task `{}` names neither `file` nor `glob`", self.name))
                    .wanted("`file` or `glob` is missing")
                    .hint("write `foreach = { file = \"experts.json\", items = \"/experts\" }` or `{ glob = \"docs/*.txt\" }`"),
            ),
            (Some(_), Some(_)) => self.add(
                Diagnostic::at(at.then("glob"), format!("`foreach` of task `{}` has both `file` and `glob`", self.name))
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
                        Diagnostic::at(at.then(name), format!("`{name}` has no meaning with `glob`"))
                            .on_key()
                            .wanted("only with `file`")
                            .hint("remove the key: items are the files, keyed by their names"),
                    );
                }
            }
        }
        match batch {
            Some(0) => {
                self.add(Diagnostic::at(at.then("batch"), "a batch of 0 items").wanted("wanted 1 or more"))
            }
            Some(2..) if key.is_some() => self.add(
                Diagnostic::at(
                    at.then("key"),
                    "`key` has no meaning with `batch`: a batch is a list of items",
                )
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
                Diagnostic::at(at.then("items"), format!("`{pointer}` is not a JSON pointer"))
                    .wanted("wanted one that starts with `/`")
                    .hint(format!("write \"/{better}\"")),
            );
        }
        if key.as_ref().is_some_and(|key| key.trim().is_empty()) {
            self.add(Diagnostic::at(at.then("key"), "an empty `key`").wanted("wanted a member of the items"));
        }
        for (key, path, glob) in [("file", file, false), ("glob", glob, true)] {
            let Some(path) = path else { continue };
            let at = at.then(key);
            let Some(path) = self.path(&at, path, false) else { continue };
            if let Err(fault) = paths::check_input(&path) {
                self.all.path_fault(at, fault);
            } else if !glob && paths::is_glob(&path) {
                self.add(
                    Diagnostic::at(at, format!("`{path}` is a pattern"))
                        .wanted("wanted the path of one JSON file")
                        .hint("for one instance per file write `foreach = { glob = \"…\" }`"),
                );
            }
        }
    }

    /// A path with the vars put in; notes what is wrong with it.
    fn path(&mut self, at: &TablePath, path: &str, key_allowed: bool) -> Option<String> {
        match paths::substitute_vars(path, &self.all.tables.vars) {
            Err(fault) => {
                self.all.path_fault(at.clone(), fault);
                None
            }
            Ok(path) if paths::has_key(&path) && !key_allowed => {
                let fault = Diagnostic::at(
                    at,
                    format!("`{{{{ key }}}}` in a path of task `{}`, which has no `foreach`", self.name),
                )
                .wanted("no key to put here")
                .hint("add `foreach = { file = \"…\", items = \"/…\" }`, or remove `{{ key }}`");
                self.add(if self.task.foreach.is_some() {
                    Diagnostic::at(at, "`{{ key }}` in the list the keys come from")
                        .wanted("no key to put here")
                } else {
                    fault
                });
                None
            }
            Ok(path) => Some(path.into_owned()),
        }
    }

    /// What goes with the prompt: below the run, and to a model that can be given it.
    pub(super) fn attached(&mut self) {
        let task = self.task;
        if task.files.is_empty() {
            return;
        }
        for (n, pattern) in task.files.iter().enumerate() {
            let at = self.at.then("files").then(n);
            let Some(path) = self.path(&at, pattern, task.foreach.is_some()) else { continue };
            if let Err(fault) = paths::check_input(&path) {
                self.all.path_fault(at, fault);
            } else if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                self.add(
                    Diagnostic::at(at, format!("`{pattern}` is not below the run directory"))
                        .wanted("wanted a file of the run, since it is sent to a server"),
                );
            }
        }
        let tables = self.all.tables;
        let models = task.model.as_ref().or(tables.defaults.model.as_ref());
        for name in models.map_or(&[][..], OneOrMany::as_slice) {
            if tables
                .models
                .get(name)
                .is_some_and(|model| model.api.is_some_and(|api| api == Api::Command || api.is_agent()))
            {
                self.add(
                    Diagnostic::at(
                        self.at.then("files"),
                        format!(
                            "task `{}` has files, and model `{name}` is a program, which takes none",
                            self.name
                        ),
                    )
                    .on_key()
                    .wanted("only for models of a server"),
                );
            }
        }
    }

    pub(super) fn inputs(&mut self, inputs: &[NamedInput]) {
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
            let listed = matches!(task.inputs, crate::manifest::types::Inputs::List(_));
            if let Some(first) = seen.insert(name, input) {
                self.add(
                    Diagnostic::at(
                        key_path,
                        format!("two inputs of task `{}` are named `{name}`", self.name),
                    )
                    .wanted("the same name again")
                    .related(&first.key_path, "the first")
                    .hint(format!(
                        "give names of your own: `inputs = {{ {name} = \"{}\", {name}_2 = \"{pattern}\" }}`",
                        first.pattern
                    )),
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
                    Diagnostic::at(
                        key_path,
                        format!("an input named `{name}`, which is planexe's own name in templates"),
                    )
                    .wanted(format!("`{name}` is taken"))
                    .hint(format!("give it a name of its own: `inputs = {{ my_{name} = \"{pattern}\" }}`")),
                );
            } else if templates && !listed && !is_identifier(name) {
                let better = identifier(name);
                self.add(
                    Diagnostic::at(key_path, format!("the input name `{name}` cannot be used in templates"))
                        .on_key()
                        .wanted("wanted letters (A-Z, a-z), digits and `_`")
                        .maybe_hint((!better.is_empty()).then(|| format!("write `{better}`"))),
                );
            }
        }
        for (index, wanted) in task.optional.iter().enumerate() {
            let named = inputs.iter().flat_map(|input| [input.name.as_str(), input.pattern.as_str()]);
            let known: Vec<&str> = named.chain(task.files.iter().map(String::as_str)).collect();
            if known.contains(&wanted.as_str()) {
                continue;
            }
            self.add(
                Diagnostic::at(
                    self.at.then("optional").then(index),
                    format!("task `{}` has no input `{wanted}`", self.name),
                )
                .wanted("no such input")
                .maybe_hint(suggest(wanted, known)),
            );
        }
    }

    pub(super) fn outputs(&mut self) {
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
                    Diagnostic::at(at, format!("all instances of task `{}` would write `{path}`", self.name))
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
                    Diagnostic::at(at, format!("the first output of task `{}` is the answer itself, and has no template", self.name))
                        .wanted("wanted a path")
                        .hint("name the answer first, then what is rendered from it: `outputs = [\"answer.json\", { path = …, template = … }]`"),
                ),
                (Recipe::Template, 0, true) => self.add(
                    Diagnostic::at(at, format!("the first output of task `{}` is made by its `template`, and has no other", self.name))
                        .wanted("wanted a path"),
                ),
                (Recipe::Prompt | Recipe::Template, 1.., false) => self.add(
                    Diagnostic::at(at, format!("nothing says how output {} of task `{}` is made", index + 1, self.name))
                        .wanted("a template is missing")
                        .hint(format!(
                            "write `{{ path = \"{}\", template = \"templates/….j2\" }}`",
                            task.outputs[index].path()
                        )),
                ),
                (Recipe::Command | Recipe::Gate | Recipe::Human, _, true) => self.add(
                    Diagnostic::at(at.then("template"), format!("an output's `template` has no meaning in a {} task", self.recipe.key()))
                        .on_key()
                        .wanted("only with `prompt` or `template`")
                        .hint("make a task of its own: `inputs = [the output]`, `template = …`"),
                ),
                (Recipe::Gate, 1.., false) => self.add(
                    Diagnostic::at(at, format!("the gate `{}` has more than one output", self.name))
                        .wanted("one too many")
                        .hint("a gate writes its verdict to one file"),
                ),
                _ => {}
            }
        }
    }
}
