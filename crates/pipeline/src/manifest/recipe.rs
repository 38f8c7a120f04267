//! What a task does, told by which of its keys are given.

use super::types::Task;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// Asks a model.
    Prompt,
    /// Runs a program.
    Command,
    /// Renders a template.
    Template,
    /// Judges a condition.
    Gate,
    /// Waits for a person.
    Human,
    /// Nothing: a group of inputs.
    Group,
}

impl Recipe {
    /// The key that says so.
    pub fn key(self) -> &'static str {
        match self {
            Recipe::Prompt => "prompt",
            Recipe::Command => "command",
            Recipe::Template => "template",
            Recipe::Gate => "gate",
            Recipe::Human => "human",
            Recipe::Group => "inputs",
        }
    }
}

impl Task {
    /// What the task does; of several recipes (a fault) the first.
    pub fn recipe(&self) -> Recipe {
        self.recipes().first().copied().unwrap_or(Recipe::Group)
    }

    /// All recipes given; more than one is a fault.
    pub(super) fn recipes(&self) -> Vec<Recipe> {
        let given = [
            (self.prompt.is_some(), Recipe::Prompt),
            (self.command.is_some(), Recipe::Command),
            (self.template.is_some(), Recipe::Template),
            (self.gate.is_some(), Recipe::Gate),
            (self.human.is_some(), Recipe::Human),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, recipe)| recipe).collect()
    }
}
