//! Templates: what they use is held against what a task fills them with.

use std::collections::BTreeSet;

use super::Loader;
use super::schema::offset;
use super::{KEPT_TASKS, SAMPLES};
use crate::key_path;
use crate::manifest::diagnostic::{At, Diagnostic, list_of, suggest, worth_a_search};
use crate::manifest::inputs::{NamedInput, named};
use crate::manifest::types::Task;
use crate::manifest::{TablePath, nearest};
use crate::template::{self as render, RenderError, Source};

/// Most names of one template that are told to be none.
const MOST: usize = 100;

impl Loader<'_> {
    /// What means something in every template would be that, and not the input.
    pub(super) fn names_of_inputs(&mut self, at: &TablePath, task: &Task) {
        for NamedInput { name, pattern, key_path } in named(&task.inputs, at) {
            if render::means_something(&name) {
                let message = format!("an input named `{name}`, which means something else in templates");
                let better = format!("inputs = {{ my_{} = \"{pattern}\" }}", name.to_lowercase());
                let fault = Diagnostic::at(key_path, message).wanted(format!("`{name}` is taken"));
                self.faults.push(fault.hint(format!("give it a name of its own: `{better}`")));
            }
        }
    }

    /// The names a task's templates may use.
    pub(super) fn names(&self, name: &str, task: &Task) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            named(&task.inputs, &TablePath::task(name)).into_iter().map(|input| input.name).collect();
        names.extend(["inputs", "vars", "task", SAMPLES, KEPT_TASKS].map(str::to_owned));
        if task.foreach.is_some() {
            names.extend(["item", "key", "index"].map(str::to_owned));
            if task.sequential {
                names.insert("previous".to_owned());
            }
        }
        names
    }

    /// Checks that a template can be parsed and uses only names it is given.
    #[expect(clippy::too_many_arguments, reason = "one call per kind of template, all in one place")]
    pub(super) fn template(
        &mut self,
        at: &TablePath,
        written: &str,
        source: &Source,
        task_name: &str,
        names: &BTreeSet<String>,
        task: &Task,
        condition: bool,
    ) {
        if condition && let Err(error) = render::condition(source) {
            self.faults.push(self.render_fault(at, written, source, &error));
            return;
        }
        // One text may be the template of many tasks.
        if !self.texts.names.contains_key(&source.text) {
            match render::undeclared(source) {
                Ok(used) => self.texts.names.insert(source.text.clone(), used),
                Err(error) => {
                    self.faults.push(self.render_fault(at, written, source, &error));
                    return;
                }
            };
        }
        let used = &self.texts.names[&source.text];
        let vars = &self.manifest.tables.vars;
        let here = TablePath::task(task_name);
        let unsure =
            ["inputs", "foreach", "sequential"].iter().any(|key| self.manifest.is_damaged(&here.then(*key)));
        let vars_unsure = self.manifest.is_damaged(&key_path!["vars"]);
        let before = self.faults.len();
        for name in used {
            // Each is looked for in the text, and no more are shown.
            if self.faults.len() - before >= MOST {
                break;
            }
            let root = name.split('.').next().unwrap_or(name);
            if root == "vars" {
                let Some(var) = name.split('.').nth(1) else { continue };
                if !vars.contains_key(var) && !vars_unsure {
                    let short = format!("vars.{var}");
                    let worth = worth_a_search(self.faults.len(), vars.len());
                    let near = worth.then(|| suggest(var, vars.keys().map(String::as_str))).flatten();
                    let hint = near.unwrap_or_else(|| format!("add `{var} = \"…\"` to `[vars]`"));
                    let fault = self
                        .placed(
                            at,
                            written,
                            source,
                            &short,
                            format!("no `{var}` in `[vars]`, used by task `{task_name}`"),
                        )
                        .wanted("no such variable")
                        .hint(hint);
                    self.faults.push(fault);
                }
                continue;
            }
            if names.contains(root) || unsure {
                continue;
            }
            let hint = match root {
                "item" | "key" | "index" if task.foreach.is_none() => {
                    format!("`{root}` is there only in a task with `foreach`")
                }
                "previous" => "`previous` is there only with `foreach` and `sequential = true`".to_owned(),
                "answer" => {
                    "`answer` is there only in the templates of a prompt task's further outputs".to_owned()
                }
                _ if vars.contains_key(root) => format!("did you mean `vars.{root}`?"),
                _ => match nearest(root, names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "add an input of that name: `inputs = {{ {root} = \"…\" }}`; names here are {}",
                        list_of(names.iter().map(String::as_str)).unwrap_or_default()
                    ),
                },
            };
            let fault = self
                .placed(
                    at,
                    written,
                    source,
                    root,
                    format!("no input of task `{task_name}` is named `{root}`"),
                )
                .wanted("no such name")
                .hint(hint);
            self.faults.push(fault);
        }
    }

    /// A fault at a name in a template, in its file or in the manifest.
    fn placed(
        &self,
        at: &TablePath,
        written: &str,
        source: &Source,
        name: &str,
        message: String,
    ) -> Diagnostic {
        let span = render::find_name(&source.text, name);
        self.spanned(at, written, source, span, message)
    }

    fn spanned(
        &self,
        at: &TablePath,
        written: &str,
        source: &Source,
        span: Option<std::ops::Range<usize>>,
        message: String,
    ) -> Diagnostic {
        match self.texts.files.get(written) {
            Some(file) => Diagnostic::at(
                At::Text { file: file.path.clone(), text: source.text.clone(), span: span.unwrap_or(0..0) },
                message,
            )
            .related(at, "used here"),
            None => match span.and_then(|span| self.manifest.place_within(at, written, &span)) {
                Some(place) => Diagnostic::at(place, message),
                None => Diagnostic::at(at, message),
            },
        }
    }

    fn render_fault(
        &self,
        at: &TablePath,
        written: &str,
        source: &Source,
        error: &RenderError,
    ) -> Diagnostic {
        let span = error.span.clone().or_else(|| {
            let line = error.line?;
            let start = offset(&source.text, line, 1);
            let length = source.text[start..].lines().next().map_or(0, str::len);
            Some(start..start + length)
        });
        self.spanned(at, written, source, span, error.message.clone()).maybe_hint(error.hint.clone())
    }
}
