//! The command of a task: its words, what `$in` and `$out` stand for, its environment.

use super::TaskChecker;
use crate::manifest::diagnostic::{Diagnostic, suggest};
use crate::manifest::inputs::NamedInput;
use crate::manifest::place::TablePath;
use crate::manifest::types::{Command, Env};
use planexe_llm::keys;

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

impl TaskChecker<'_, '_> {
    pub(super) fn command(&mut self, inputs: &[NamedInput]) {
        let Some(command) = &self.task.command else { return };
        let at = self.at.then("command");
        let parts: Vec<(TablePath, &str)> = match command {
            Command::Argv(argv) => {
                if argv.is_empty() || argv[0].trim().is_empty() {
                    self.add(
                        Diagnostic::at(&at, format!("the command of task `{}` is empty", self.name))
                            .wanted("wanted a program"),
                    );
                }
                argv.iter().enumerate().map(|(index, part)| (at.then(index), part.as_str())).collect()
            }
            Command::Shell(line) => {
                if line.trim().is_empty() {
                    self.add(
                        Diagnostic::at(&at, format!("the command of task `{}` is empty", self.name))
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

    /// A program that is served a model has no need of the key, and is not to call past the ledger.
    fn keys_beside_calls(&mut self) {
        let (Some(calls), Some(Env::Names(names))) = (&self.task.calls, self.task.env.as_deref()) else {
            return;
        };
        let own = self.all.tables.models.get(calls.model()).and_then(|model| model.api_key_env.clone());
        let hidden = keys::hidden();
        let is_key = |name: &String| own.as_ref() == Some(name) || hidden.contains(name);
        let found: Vec<usize> =
            names.iter().enumerate().filter(|(_, name)| is_key(name)).map(|(at, _)| at).collect();
        for at in found {
            let name = &names[at];
            self.add(
                Diagnostic::at(
                    self.at.then("env").then(at),
                    format!("task `{}` is served a model (`calls`) and given the key `{name}` as well", self.name),
                )
                .wanted("a key that its program is not to see")
                .hint("remove it from `env`: the program gets a token in `OPENAI_API_KEY` and `ANTHROPIC_API_KEY`"),
            );
        }
    }

    /// Braces of our templates, which mean nothing in a command.
    fn braces(&mut self, at: &TablePath, part: &str, inputs: &[NamedInput]) {
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
                Diagnostic::at(at, "`{{ … }}` has no meaning in a command")
                    .wanted("commands are not templates")
                    .hint("use `$in`, `$in.NAME`, `$out`, `$key`, or `env = { NAME = \"…\" }`"),
            );
        }
    }

    /// `$in.NAME`, `$out.N` and `$key` that stand for nothing.
    fn placeholders(&mut self, at: &TablePath, part: &str, inputs: &[NamedInput]) {
        for (kind, name) in placeholders(part) {
            match kind {
                "in" if name == "item" && self.task.foreach.as_ref().is_some_and(|it| it.glob.is_some()) => {}
                "in" if !inputs
                    .iter()
                    .enumerate()
                    .any(|(n, input)| input.name == name || n.to_string() == name) =>
                {
                    let known: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                    self.add(
                        Diagnostic::at(
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
                        Diagnostic::at(at, format!("task `{}` has no output `$out.{name}`", self.name))
                            .wanted("no such output")
                            .hint(match count {
                                0 => "add `outputs = [\"…\"]`".to_owned(),
                                1 => "the one output is `$out` or `$out.0`".to_owned(),
                                _ => format!("outputs are `$out.0` to `$out.{}`", count - 1),
                            }),
                    );
                }
                "key" if self.task.foreach.is_none() => self.add(
                    Diagnostic::at(at, format!("`$key` in task `{}`, which has no `foreach`", self.name))
                        .wanted("no key to put here")
                        .hint("write `$$key` for a shell variable of that name"),
                ),
                _ => {}
            }
        }
    }

    fn env_names(&mut self) {
        self.keys_beside_calls();
        if let Some(Env::Table(table)) = self.task.env.as_deref() {
            for name in table.keys().filter(|name| name.is_empty() || name.contains('=')) {
                self.add(
                    Diagnostic::at(
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
