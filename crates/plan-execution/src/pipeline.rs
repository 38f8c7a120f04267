//! The text of the pipeline of a project of work. Words of the plan stand in quoted strings and, made one harmless line, in
//! comments; what a template sees of them comes from JSON files, as data.

use std::fmt::Write as _;

use super::models::key;
use super::plan::Plan;
use super::project::{CONTEXT, Item, Project, SCHEDULE, Stage, Work};
use super::rules::By;
use planexe_base::style::clean;
use planexe_pipeline::manifest::run::quoted;
use planexe_pipeline::manifest::types::{Command, OneOrMany};

const HEAD: &str = "\
# Made by `planexe execute` from the work breakdown of a plan, and made again by it. Who does what is said in
# execution.toml, which models there are in models.toml; a change made here is not written over, but in the way.
";
/// What a person is asked; the item is data to it.
const ASK: &str = "{{ item.title | printable }} ({{ item.owner | printable }}). \
                   {% if item.result %}There is then: {{ item.result | printable }}. {% endif %}\
                   Say what came of it in {{ item.deliverable }}";
/// What is asked before a step begins, and after.
const TO_BEGIN: &str = "may this begin: {{ item.title | printable }} (of: {{ item.task | printable }})?";
const TO_ACCEPT: &str = "is {{ item.deliverable }} good enough to build on?";

/// The text.
pub fn text(plan: &Plan, project: &Project<'_>, git: bool) -> String {
    let mut out = Out(HEAD.to_owned());
    out.line("\n[pipeline]");
    out.set("name", &quoted(&short(&plan.title, 80)));
    out.set("include", "[\"models.toml\"]");
    out.set("trim_blocks", "true");
    out.set("schedule", &quoted(SCHEDULE));
    if git {
        out.line("\n[git]\ncommit_on_done = true");
    }
    let works: Vec<&Work<'_>> = project.works().collect();
    let mut waits_for = project.waits_for.iter();
    let mut former: Option<&Stage<'_>> = None;
    for stage in &project.stages {
        out.line(&format!("\n\n# ---- {}", short(&format!("{} {}", stage.of.number, stage.of.title), 100)));
        if let (Some(gate), Some(former)) = (&stage.gate, former) {
            out.head(gate, &format!("Let phase {} begin", stage.of.number));
            out.set("after", &array([former.name.as_str()]));
            out.set("outputs", &array([format!("approvals/{gate}.json").as_str()]));
            let told = format!("phase {} is over; may phase {} begin?", former.of.number, stage.of.number);
            out.gate("", &quoted(&data(&told)));
        }
        for work in &stage.works {
            let before = waits_for.next().into_iter().flatten();
            let before: Vec<&Work<'_>> = before.map(|&other| works[other]).collect();
            out.work(work, &before, stage.gate.as_deref());
        }
        out.head(&stage.name, &stage.of.title);
        out.set("after", &array(stage.works.iter().map(Work::end).chain(stage.gate.as_deref())));
        former = Some(stage);
    }
    out.0
}

struct Out(String);

impl Out {
    fn line(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name} = {value}");
    }

    fn head(&mut self, name: &str, description: &str) {
        let _ = writeln!(self.0, "\n[task.{}]", key(name));
        self.set("description", &quoted(&short(description, 160)));
    }

    /// A gate that always asks, and again when the input it looks at is another.
    fn gate(&mut self, looks_at: &str, message: &str) {
        let condition = match looks_at {
            "" => "{{ true }}".to_owned(),
            input => format!("{{{{ {input} is defined }}}}"),
        };
        let _ = writeln!(
            self.0,
            "gate = {{ fail_if = {}, action = \"pause\", message = {message} }}",
            quoted(&condition)
        );
    }

    /// The steps of a task, one after another, and their group.
    fn work(&mut self, work: &Work<'_>, before: &[&Work<'_>], gate: Option<&str>) {
        let mut after: Vec<&str> = before.iter().map(|work| work.end()).chain(gate).collect();
        // A step reads what the tasks before delivered last, and all that its own task delivered before.
        let last = before.iter().filter_map(|work| work.items.last());
        let mut reads: Vec<&str> = last.map(|item| item.output.as_str()).collect();
        for item in &work.items {
            let given = format!("{{ item = {} }}", quoted(&item.given_path()));
            if let Some(approve) = &item.approve {
                self.head(approve, &format!("Approve {} {}", item.number, item.title));
                self.set("inputs", &given);
                self.set("after", &array(after.iter().copied()));
                self.set("outputs", &array([format!("approvals/{approve}.json").as_str()]));
                self.gate("item", &quoted(TO_BEGIN));
                after = vec![approve];
            }
            self.item(item, &after, &reads);
            if let Some(accept) = &item.accept {
                self.head(accept, &format!("Accept {} {}", item.number, item.title));
                let made = quoted(&item.output);
                self.set("inputs", &format!("{{ made = {made}, item = {} }}", quoted(&item.given_path())));
                self.set("outputs", &array([format!("approvals/{accept}.json").as_str()]));
                self.gate("made", &quoted(TO_ACCEPT));
            }
            after = vec![item.end()];
            reads.push(&item.output);
        }
        if work.is_group() {
            self.head(&work.name, &format!("{} {}", work.of.number, work.of.title));
            self.set("after", &array(work.items.iter().map(Item::end)));
        }
    }

    fn item(&mut self, item: &Item, after: &[&str], reads: &[&str]) {
        self.head(&item.name, &format!("{} {}", item.number, item.title));
        let mut inputs = vec![("item".to_owned(), item.given_path())];
        if item.ruled.by == By::Ai {
            inputs.insert(0, ("plan".to_owned(), CONTEXT.to_owned()));
        }
        // A person's work is not undone because a text they may have read was written anew: for them it is order alone.
        if item.ruled.by != By::Human {
            let mut seen: Vec<&str> = Vec::new();
            for path in reads {
                if !seen.contains(path) {
                    seen.push(path);
                    inputs.push((format!("before{}", seen.len()), (*path).to_owned()));
                }
            }
        }
        let inputs: Vec<String> =
            inputs.iter().map(|(name, path)| format!("{name} = {}", quoted(path))).collect();
        self.set("inputs", &format!("{{ {} }}", inputs.join(", ")));
        if !after.is_empty() {
            self.set("after", &array(after.iter().copied()));
        }
        self.set("outputs", &array([item.output.as_str()]));
        match item.ruled.by {
            By::Ai => {
                self.set("system", "\"prompts/system.md\"");
                self.set("prompt", "\"prompts/deliver.md\"");
                match &item.ruled.model {
                    Some(OneOrMany::One(name)) => self.set("model", &quoted(name)),
                    Some(OneOrMany::Many(names)) => {
                        self.set("model", &array(names.iter().map(String::as_str)))
                    }
                    None => {}
                }
            }
            By::Command => match &item.ruled.command {
                Some(Command::Argv(words)) => self.set("command", &array(words.iter().map(String::as_str))),
                Some(Command::Shell(shell)) => self.set("command", &quoted(shell)),
                None => {}
            },
            By::Human | By::Rule => self.set("human", &quoted(ASK)),
        }
    }
}

/// A text that a template leaves as it is.
fn data(text: &str) -> String {
    format!("{{{{ {} | printable }}}}", serde_json::Value::from(text))
}

fn array<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", words.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// One harmless line, no longer than so many characters.
fn short(text: &str, most: usize) -> String {
    let line = clean(text);
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).chain(['…']).collect()
}
