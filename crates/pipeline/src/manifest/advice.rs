//! A key that may not stand somewhere and a value of the wrong kind, as types; what is said of them, and how they would be
//! written right.

use std::fmt;

use super::diagnostic::{Diagnostic, list_of, nearest};
use super::place::{Kind, Node, Step, TablePath};
use super::recipe::Recipe;

/// What is wrong with a value or key.
#[derive(Debug)]
pub(super) enum What {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownWord { word: String, known: &'static [&'static str] },
    Wrong { found: String, wanted: Wanted },
    Missing(&'static str),
    Other(String),
}

/// What kind of value belongs somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Table,
    List,
    Text,
    Flag,
    Number,
    /// A whole number of this range; an end that is not told is that of all numbers.
    Whole {
        least: Option<i64>,
        most: Option<i64>,
    },
    /// What a type that takes several kinds says of itself.
    Words(String),
}

impl Wanted {
    /// Whether a list may stand there before anything else.
    fn may_be_list(&self) -> bool {
        // These words are ours: `by_shape!` has them.
        matches!(self, Wanted::List) || matches!(self, Wanted::Words(words) if words.starts_with("a list"))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Table => "a table",
            Wanted::List => "a list",
            Wanted::Text => "a string",
            Wanted::Flag => "`true` or `false`",
            Wanted::Number => "a number",
            Wanted::Whole { least: Some(least), most: Some(most) } => {
                return write!(f, "a whole number from {least} to {most}");
            }
            Wanted::Whole { least: Some(0), .. } => "a whole number, 0 or more",
            Wanted::Whole { .. } => "a whole number",
            Wanted::Words(words) => words,
        })
    }
}

/// What is said of a value or key that cannot be read.
pub(super) fn fault(what: &What, found: &Kind, at: &TablePath) -> Diagnostic {
    let mut fault = diagnostic(what, at);
    if let (What::Wrong { wanted, .. }, None) = (what, &fault.hint) {
        fault.hint = rewritten(found, wanted, at);
    }
    fault
}

fn diagnostic(what: &What, at: &TablePath) -> Diagnostic {
    match what {
        What::UnknownKey { key, known } => {
            let mut table = at.clone();
            table.0.pop();
            let place = match table.0.as_slice() {
                [] => "at the top of the file".to_owned(),
                [Step::Key(first)] => format!("in [{first}]"),
                _ => format!("in `{table}`"),
            };
            let hint = elsewhere(&table, key)
                .or_else(|| nearest(key, known.iter().copied()).map(|near| format!("did you mean `{near}`?")))
                .or_else(|| {
                    let all = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                    Some(format!("keys that may stand here: {all}"))
                });
            let mut fault = Diagnostic::at(at, format!("unknown key `{key}` {place}"))
                .on_key()
                .wanted("no such key")
                .maybe_hint(hint);
            let lower = key.to_lowercase();
            fault.secret = matches!(table.0.first(), Some(Step::Key(first)) if first.as_ref() != "task")
                && ["key", "token", "secret", "password", "auth"].iter().any(|word| lower.contains(word))
                && !lower.contains("_env");
            fault
        }
        What::UnknownWord { word, known } => {
            let list = list_of(known.iter().copied()).unwrap_or_default();
            let one_of = if known.len() > 1 { "one of " } else { "" };
            let near =
                || nearest(word, known.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
            Diagnostic::at(at, format!("unknown value {word:?} of `{at}`"))
                .wanted(format!("wanted {one_of}{list}"))
                .maybe_hint(recipe_named(at, word).or_else(near))
        }
        What::Wrong { found, wanted } => Diagnostic::at(at, format!("`{at}` is {found}, wanted {wanted}"))
            .wanted(format!("wanted {wanted}")),
        What::Missing(key) => Diagnostic::at(at, format!("`{at}` has no `{key}`"))
            .wanted(format!("`{key}` is missing"))
            .hint(format!("add `{key} = …`")),
        What::Other(message) => match message.split_once("; wanted ") {
            Some((message, wanted)) => {
                Diagnostic::at(at, format!("`{at}`: {message}")).wanted(format!("wanted {wanted}"))
            }
            None => Diagnostic::at(at, format!("`{at}`: {message}")),
        },
    }
}

/// What to write where `kind` names what a key of its own says.
fn recipe_named(at: &TablePath, word: &str) -> Option<String> {
    let [Step::Key(table), Step::Key(_), Step::Key(key)] = at.0.as_slice() else { return None };
    let recipes = [Recipe::Prompt, Recipe::Command, Recipe::Template, Recipe::Gate, Recipe::Human];
    let is_recipe = recipes.iter().any(|recipe| recipe.key() == word);
    (table.as_ref() == "task" && key.as_ref() == "kind" && is_recipe)
        .then(|| format!("leave `kind` out: `{word} = …` makes it such a task"))
}

/// How a value of the wrong type would be written right, where that can be told.
fn rewritten(found: &Kind, wanted: &Wanted, at: &TablePath) -> Option<String> {
    if let ([Step::Key(table), Step::Key(_)], Wanted::Table) = (at.0.as_slice(), wanted)
        && let "task" | "models" | "webhooks" | "profiles" = table.as_ref()
    {
        return Some(format!("these tables have names of their own: `[{table}.NAME]`"));
    }
    match (found, wanted) {
        (Kind::Text(text), wanted) if wanted.may_be_list() && text.len() < 80 => {
            Some(format!("write [{text:?}]"))
        }
        (Kind::Text(text), Wanted::Flag) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some("write `true`".to_owned()),
            "false" | "no" | "off" | "0" => Some("write `false`".to_owned()),
            _ => None,
        },
        (Kind::Text(text), Wanted::Number | Wanted::Whole { .. }) => {
            text.trim().parse::<f64>().ok().map(|_| format!("write `{}`", text.trim()))
        }
        // A condition is one expression in braces, and not a number in quotes.
        (Kind::Bool(truth), Wanted::Text) if is_condition(at) => Some(format!("write \"{{{{ {truth} }}}}\"")),
        (Kind::Integer(_) | Kind::Float(_), Wanted::Text) if is_condition(at) => None,
        (Kind::Integer(number), Wanted::Text) => Some(format!("write \"{number}\"")),
        (Kind::Float(number), Wanted::Text) => Some(format!("write \"{number}\"")),
        (Kind::List(items), Wanted::Text) => match items.as_slice() {
            [Node { kind: Kind::Text(text), .. }] if text.len() < 80 => Some(format!("write {text:?}")),
            _ => None,
        },
        (Kind::Datetime(text), _) => Some(format!("put the date in quotes: \"{text}\"")),
        _ => None,
    }
}

fn is_condition(at: &TablePath) -> bool {
    matches!(at.0.last(), Some(Step::Key(key)) if matches!(key.as_ref(), "when" | "fail_if" | "that"))
}

/// Keys people look for in the wrong place, or under another tool's name.
fn elsewhere(table: &TablePath, key: &str) -> Option<String> {
    let steps: Vec<&str> =
        table.0.iter().map(|step| if let Step::Key(key) = step { key.as_ref() } else { "" }).collect();
    let hint = match (steps.as_slice(), key) {
        (
            [],
            "tasks" | "steps" | "stage" | "stages" | "rule" | "rules" | "target" | "targets" | "job" | "jobs",
        ) => "tasks are written `[task.NAME]`",
        ([], "model" | "llm" | "llms" | "provider" | "providers") => "models are written `[models.NAME]`",
        ([], "name" | "version" | "include" | "plan" | "schedule" | "schema") => {
            "this key belongs in `[pipeline]`"
        }
        ([], "variables" | "var" | "env") => "variables are written in `[vars]`",
        (
            ["task", _],
            "temperature" | "top_p" | "top_k" | "max_tokens" | "seed" | "stop" | "presence_penalty"
            | "frequency_penalty",
        ) => "sampling parameters go into `params = { … }`",
        (["task", _], "depends_on" | "depends" | "dependencies" | "deps" | "needs" | "requires") => {
            "a task depends on whoever writes its `inputs`; for order alone use `after = [\"task\"]`"
        }
        (["task", _], "cmd" | "run" | "exec" | "script" | "shell" | "argv") => "did you mean `command`?",
        (["task", _], "system_prompt") => "did you mean `system`?",
        (["task", _], "user" | "prompt_file" | "prompt_template") => "did you mean `prompt`?",
        (["task", _], "for_each" | "map" | "matrix" | "each" | "loop") => "did you mean `foreach`?",
        (["task", _], "if" | "condition" | "unless") => "did you mean `when`?",
        (["task", _], "name") => "a task's name is the one in its header: `[task.NAME]`",
        (["task", _], "reads" | "in" | "sources" | "src") => "did you mean `inputs`?",
        (["task", _], "ask" | "question" | "approve" | "approval" | "confirm" | "manual") => {
            "a person is asked by `human = \"…\"`"
        }
        (["task", _], "type" | "recipe") => {
            "how a task is made is said by one of the keys `prompt`, `command`, `template`, `gate`, `human`"
        }
        (["task", _], "writes" | "out" | "produces" | "dest" | "file") => "did you mean `outputs`?",
        (
            ["task", _],
            "min_items" | "max_items" | "non_empty" | "one_of" | "unique" | "min_words" | "max_words"
            | "matches" | "banned_words" | "allowed_words",
        ) => "this key goes into `check = { … }`",
        (["task", _], "max_attempts" | "retries" | "max_retries") => "write `retry = { max_attempts = 4 }`",
        (["task", _], "fallback" | "models" | "fallbacks") => "write `model = [\"first\", \"second\"]`",
        (["models", _], "api_key" | "key" | "token" | "apikey") => {
            "keys are not written into files: name an environment variable with `api_key_env = \"…\"`"
        }
        (["models", _], "url" | "endpoint" | "host" | "api_base") => "did you mean `base_url`?",
        (["models", _], "type" | "provider" | "dialect") => "did you mean `api`?",
        (["models", _], "name" | "id") => "did you mean `model`?",
        (["models", _], "timeout") => "write `timeouts = { total = \"30m\" }`",
        (["models", _], "concurrency" | "parallel" | "slots") => "did you mean `max_concurrent`?",
        (["models", _], "max_tokens") => "did you mean `max_output`?",
        (["models", _], "context" | "context_length" | "n_ctx" | "num_ctx") => {
            "did you mean `context_window`?"
        }
        (["models", _], "temperature" | "top_p") => {
            "sampling parameters go into `params` of a task or of `[defaults]`"
        }
        (["defaults"], "temperature" | "top_p" | "max_tokens" | "seed") => {
            "sampling parameters go into `params = { … }`"
        }
        (["webhooks"], _) => "webhooks are written `[webhooks.NAME]`",
        _ => return None,
    };
    Some(hint.to_owned())
}
