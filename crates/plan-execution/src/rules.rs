//! Who does which step: `execution.toml`, written by the user, and a rule for what it does not name.
//!
//! A step is a person's unless it is clearly the writing of a text: its title begins with a verb of writing or reckoning
//! (`Draft the lease`), and neither title nor result names an act in the world (`Sign …`, `… sent to three firms`). A
//! command comes from this file alone, never from the plan.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use planexe_base::pattern::Glob;
use planexe_pipeline::manifest::diagnostic::{Diagnostic, Diagnostics};
use planexe_pipeline::manifest::place::TablePath;
use planexe_pipeline::manifest::run::read_toml;
use planexe_pipeline::manifest::types::{Command, OneOrMany};

/// The user's file.
pub const FILE: &str = "execution.toml";

/// Who does a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// As the rule says.
    #[default]
    Rule,
    /// A model writes what the step is to deliver.
    Ai,
    /// A program.
    Command,
    /// A person.
    Human,
}

/// What is approved before it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approve {
    /// Nothing but what a tier asks for.
    #[default]
    None,
    /// Each phase, when the one before it is over.
    Phases,
}

/// The keys of `execution.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Who does a step that no `[[item]]` names: `rule`, `ai` or `human`.
    pub kind: By,
    /// `phases`: a person lets each phase begin.
    pub approve: Approve,
    /// The model, or a list in order of fallback, that steps of kind `ai` ask.
    pub model: Option<OneOrMany>,
    /// Whether every step that is done is committed (`[git] commit_on_done`).
    pub git: bool,
    /// Steps by name; a later entry overrides an earlier one, key by key.
    pub item: Vec<ItemRule>,
}

/// An `[[item]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ItemRule {
    /// The step's name, or a pattern of names.
    #[serde(rename = "match")]
    pub matches: String,
    /// Who does it.
    pub kind: Option<By>,
    /// The program that does it, as `command` of a task: `$in`, `$out`.
    pub command: Option<Command>,
    /// The model that is asked.
    pub model: Option<OneOrMany>,
    /// 1: it just runs. 2: what a model or program made is accepted by a person before anything builds on it. 3: a person
    /// also approves its beginning.
    pub tier: Option<u8>,
    /// What it delivers, relative to the project [default: deliverables/NAME.md].
    pub output: Option<String>,
}

/// What is to become of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruled {
    /// Who does it; never [`By::Rule`].
    pub by: By,
    /// The program, of [`By::Command`].
    pub command: Option<Command>,
    /// The model, of [`By::Ai`].
    pub model: Option<OneOrMany>,
    /// 1, 2 or 3.
    pub tier: u8,
    /// What it delivers, if the user says.
    pub output: Option<String>,
}

/// Rules ready for use.
#[derive(Debug)]
pub struct Ruler {
    /// As written.
    pub rules: Rules,
    matchers: Vec<Glob>,
    used: Vec<bool>,
}

impl Rules {
    /// Reads `execution.toml`.
    pub fn from_text(file: &Path, text: String) -> Result<Rules, Diagnostics> {
        let (rules, mut faults, origin): (Rules, _, _) = read_toml(file, text)?;
        if faults.is_empty() {
            faults = rules.faults();
        }
        if faults.is_empty() { Ok(rules) } else { Err(Diagnostics::new(Arc::clone(&origin), faults)) }
    }

    fn faults(&self) -> Vec<Diagnostic> {
        let mut faults = Vec::new();
        if self.kind == By::Command {
            let at = TablePath::root().then("kind");
            faults.push(
                Diagnostic::at(at, "a command has to be named step by step")
                    .hint("use [[item]] with `command`"),
            );
        }
        for (n, item) in self.item.iter().enumerate() {
            let at = |key: &str| TablePath::root().then("item").then(n).then(key);
            if item.matches.trim().is_empty() {
                let fault =
                    Diagnostic::at(TablePath::root().then("item").then(n), "an [[item]] has no `match`");
                faults.push(fault.hint("`match = \"sign-lease.*\"`: the name of a step, or a pattern"));
            } else if let Err(why) = Glob::of_names(&item.matches) {
                faults.push(Diagnostic::at(at("match"), format!("no pattern: {why}")));
            }
            if item.tier.is_some_and(|tier| !(1..=3).contains(&tier)) {
                faults.push(Diagnostic::at(at("tier"), "a tier is 1, 2 or 3"));
            }
            match (item.kind, &item.command) {
                (Some(By::Command), None) => {
                    faults.push(Diagnostic::at(at("kind"), "`kind = \"command\"` without a `command`"));
                }
                (Some(By::Ai | By::Human | By::Rule), Some(_)) => {
                    let fault = Diagnostic::at(at("command"), "a `command` beside another `kind`");
                    faults.push(fault.hint("remove `kind`, or make it \"command\""));
                }
                _ => {}
            }
        }
        faults
    }

    /// Ready for use.
    pub fn ruler(self) -> Ruler {
        let matcher = |item: &ItemRule| Glob::of_names(&item.matches).ok();
        let matchers: Vec<Glob> = self.item.iter().filter_map(matcher).collect();
        Ruler { used: vec![false; matchers.len()], matchers, rules: self }
    }
}

/// The file as it is written the first time: what the command line said, and how to say more.
pub fn example(rules: &Rules) -> String {
    let kind = match rules.kind {
        By::Ai => "ai",
        By::Human => "human",
        By::Rule | By::Command => "rule",
    };
    let approve = if rules.approve == Approve::Phases { "phases" } else { "none" };
    format!(
        "\
# Who does which step. After a change: `planexe execute RUN --into` this folder. Names of steps: `planexe status -v`.

kind = \"{kind}\"          # rule: a model drafts what is clearly a text, a person does the rest; or ai, or human, for all
approve = \"{approve}\"       # phases: a person lets each phase begin
git = {git}              # whether each step that is done is committed

# [[item]]
# match = \"sign-lease.*\"  # a name, or a pattern; a later entry overrides an earlier one, key by key
# kind = \"human\"          # ai, human, command
# tier = 3                 # 2: a person accepts what a model or program made; 3: and approves its beginning
#
# [[item]]
# match = \"*.estimate-cost-by-item\"
# command = [\"python3\", \"tools/estimate.py\", \"$in\", \"$out\"]
# output = \"deliverables/estimate.csv\"
",
        git = rules.git
    )
}

impl Ruler {
    /// What is to become of a step.
    pub fn of(&mut self, name: &str, title: &str, result: &str) -> Ruled {
        let mut ruled = Ruled {
            by: self.rules.kind,
            command: None,
            model: self.rules.model.clone(),
            tier: 1,
            output: None,
        };
        for ((item, matcher), used) in self.rules.item.iter().zip(&self.matchers).zip(&mut self.used) {
            if !matcher.is_match(name) {
                continue;
            }
            *used = true;
            if let Some(kind) = item.kind {
                ruled.by = kind;
            }
            if let Some(command) = &item.command {
                (ruled.by, ruled.command) = (By::Command, Some(command.clone()));
            }
            ruled.model = item.model.clone().or(ruled.model);
            ruled.tier = item.tier.unwrap_or(ruled.tier);
            ruled.output = item.output.clone().or(ruled.output);
        }
        if ruled.by == By::Rule || ruled.by == By::Command && ruled.command.is_none() {
            ruled.by = by_words(title, result);
        }
        ruled
    }

    /// Patterns that named no step.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let items = self.rules.item.iter().zip(&self.used);
        items.filter(|(_, used)| !**used).map(|(item, _)| item.matches.as_str())
    }
}

/// Verbs a title begins with when its step is the writing of a text, or reckoning on paper.
const WRITING: &[&str] = &[
    "analyse",
    "analyze",
    "calculate",
    "compare",
    "compile",
    "define",
    "describe",
    "document",
    "draft",
    "estimate",
    "formulate",
    "list",
    "outline",
    "propose",
    "rank",
    "review",
    "specify",
    "summarise",
    "summarize",
    "translate",
    "write",
];

/// Words for acts in the world: with one of them in title or result a step is a person's.
const ACTS: &[&str] = &[
    "accept",
    "accepted",
    "appoint",
    "appointed",
    "approve",
    "approved",
    "arrange",
    "attend",
    "award",
    "awarded",
    "book",
    "booked",
    "build",
    "built",
    "buy",
    "call",
    "collect",
    "count",
    "decide",
    "deliver",
    "delivered",
    "deploy",
    "deployed",
    "drill",
    "file",
    "filed",
    "fit",
    "found",
    "hire",
    "hired",
    "inspect",
    "inspected",
    "install",
    "installed",
    "interview",
    "interviews",
    "inspection",
    "invite",
    "laboratory",
    "launch",
    "launched",
    "meet",
    "meeting",
    "move",
    "negotiate",
    "open",
    "opened",
    "order",
    "ordered",
    "paid",
    "pay",
    "print",
    "publish",
    "published",
    "purchase",
    "recruit",
    "recruited",
    "register",
    "registered",
    "release",
    "released",
    "rent",
    "repair",
    "repaired",
    "samples",
    "sell",
    "send",
    "sent",
    "ship",
    "shipped",
    "sign",
    "signature",
    "signatures",
    "signed",
    "sold",
    "submit",
    "submitted",
    "survey",
    "talk",
    "test",
    "tested",
    "train",
    "trained",
    "visit",
];

fn by_words(title: &str, result: &str) -> By {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (title, result) = (words(title), words(result));
    let writes = title.first().is_some_and(|word| WRITING.contains(&word.as_str()));
    let acts = title.iter().chain(&result).any(|word| ACTS.contains(&word.as_str()));
    if writes && !acts { By::Ai } else { By::Human }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_persons_unless_it_is_clearly_a_text() {
        for (title, result, by) in [
            ("Draft the lease", "Draft of 25 pages", By::Ai),
            ("Estimate cost by item", "Estimate of EUR 4.8 million", By::Ai),
            ("Write both invitations", "Two invitations sent to three firms each", By::Human),
            ("Compare offers and interview", "Ranking with reasons", By::Human),
            ("Analyse in the laboratory", "Results for every point", By::Human),
            ("Sign the building contract", "", By::Human),
            ("Mietvertrag entwerfen", "Entwurf", By::Human),
            ("", "", By::Human),
        ] {
            assert_eq!(by_words(title, result), by, "{title}");
        }
    }

    fn rules(text: &str) -> Result<Rules, String> {
        Rules::from_text(Path::new(FILE), text.to_owned()).map_err(|faults| faults.render(false, 100))
    }

    #[test]
    fn later_items_override_key_by_key() {
        let text = "kind = \"human\"\n[[item]]\nmatch = \"a.*\"\nkind = \"ai\"\ntier = 2\n[[item]]\nmatch = \"a.b\"\ncommand = [\"x\"]\n[[item]]\nmatch = \"zz\"\n";
        let mut ruler = rules(text).unwrap().ruler();
        let ruled = ruler.of("a.b", "Sign", "");
        assert_eq!((ruled.by, ruled.tier), (By::Command, 2));
        assert_eq!(ruler.of("a.c", "Sign", "").by, By::Ai);
        assert_eq!(ruler.of("b.c", "Draft it", "").by, By::Human);
        assert_eq!(ruler.unused().collect::<Vec<_>>(), ["zz"]);
    }

    #[test]
    fn faults_are_shown_where_they_stand() {
        let faults =
            rules("kind = \"command\"\n[[item]]\nmatch = \"[\"\ntier = 4\nkind = \"command\"\n").unwrap_err();
        for said in [
            "execution.toml:1",
            "step by step",
            "execution.toml:3",
            "execution.toml:4",
            "1, 2 or 3",
            "without a `command`",
        ] {
            assert!(faults.contains(said), "{said} in {faults}");
        }
        assert!(
            rules("[[item]]\nmatch = \"a\"\nknd = \"ai\"\n").unwrap_err().contains("did you mean `kind`?")
        );
        assert!(rules("kind = \"robot\"\n").is_err());
    }
}
