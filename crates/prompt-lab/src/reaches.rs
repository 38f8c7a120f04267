//! Which of a task's inputs reach the model through a text of its prompt: pure.

use std::collections::BTreeSet;

use crate::cells::Subject;
use planexe_pipeline::manifest::inputs;
use planexe_pipeline::project::uses;
use planexe_pipeline::template::{self as render, Source};

/// The inputs of the task that one text used and another one does not: an answer that is made without them may please an
/// evaluator, and has nothing to do with them. What the system prompt uses reaches the model all the same.
pub fn lost(subject: &Subject<'_>, before: &str, after: &str) -> Vec<String> {
    let system = subject.prompt().and_then(|prompt| prompt.system.as_ref());
    let system = system.map(|system| system.names.clone()).unwrap_or_default();
    let names = names(subject);
    let mut after = used(after);
    after.extend(system);
    lost_of(&names, &used(before), &after)
}

/// The inputs of the task that a text uses.
pub fn used_inputs(subject: &Subject<'_>, text: &str) -> Vec<String> {
    let used = used(text);
    names(subject).into_iter().filter(|name| uses(&used, name)).collect()
}

/// The names by which a text gets at what the task is given.
fn names(subject: &Subject<'_>) -> Vec<String> {
    let table = subject.table();
    let mut names: Vec<String> = inputs::names(&table.inputs).into_iter().map(|(name, _)| name).collect();
    names.extend(table.foreach.iter().map(|_| "item".to_owned()));
    names.extend(table.sequential.then(|| "previous".to_owned()));
    names
}

/// The names a text uses; none if it is no template.
fn used(text: &str) -> BTreeSet<String> {
    render::undeclared(&Source::new("prompt", text)).unwrap_or_default()
}

fn lost_of(names: &[String], before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    // `inputs` is the list of all of them; the item and what the former one made are not in it.
    let of_list = |name: &str| !matches!(name, "item" | "previous");
    let has = |used: &BTreeSet<String>, name: &str| uses(used, name) || of_list(name) && uses(used, "inputs");
    names.iter().filter(|name| has(before, name) && !has(after, name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_lost_if_no_name_that_leads_to_it_is_used() {
        let names = ["plan", "purpose", "item", "previous"].map(str::to_owned);
        for (before, after, lost) in [
            ("{{ plan }}", "Say WOW", "plan"),
            ("{{ plan }}", "{{ plan.title }}", ""),
            ("{{ plan }} {{ purpose }}", "{{ purpose }}", "plan"),
            ("{{ plan }} {{ purpose }}", "{% for one in inputs %}{{ one.text }}{% endfor %}", ""),
            ("{{ inputs[0].text }}", "{{ plan }}", "purpose"),
            ("{{ item.name }} {{ previous }}", "{{ inputs }}", "item previous"),
            ("{{ plan }}", "{# {{ plan }} #}", "plan"),
            ("{{ plan }}", "{% set plan = 1 %}{{ plan }}", "plan"),
            ("{{ plan }}", "{% raw %}{{ plan }}{% endraw %}", "plan"),
            ("{{ plan }}", "{{ planned }}", "plan"),
            ("Say", "{{ plan }}", ""),
        ] {
            assert_eq!(lost_of(&names, &used(before), &used(after)).join(" "), lost, "{before} {after}");
        }
    }
}
