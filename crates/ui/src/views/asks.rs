//! Which models a task asks, in which order, and what says so.

use schemars::JsonSchema;
use serde::Serialize;

use planexe_base::style::clean;

/// The models of a prompt task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Asks {
    /// In the order in which they are asked: the first one, and after it what it fails at goes to.
    pub models: Vec<AskedModel>,
    /// What says so.
    pub by: By,
    /// Its tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// How hard it is said to be, where its tier follows from that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complexity: Option<Marks>,
    /// Models that its last attempts left for others, by their names: they are not asked again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AskedModel {
    /// Its name in the pipeline.
    pub name: String,
    /// Its name at its server.
    pub model: String,
}

/// What says which models a task asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// `model` of the task.
    Task,
    /// `tier` of the task.
    Tier,
    /// `complexity` of the task.
    Complexity,
    /// `model` of `[defaults]`.
    Defaults,
    /// `--model`.
    Option,
}

/// Four marks from 1 to 5, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Marks {
    /// The sum.
    pub sum: u32,
    /// Steps of thought.
    pub reasoning: u32,
    /// Knowledge of a field.
    pub domain: u32,
    /// How much has to be kept in mind.
    pub context: u32,
    /// Length and form of the answer.
    pub output: u32,
}

impl AskedModel {
    /// Its name, and what it is called at its server if that is another.
    fn text(&self) -> String {
        match self.name == self.model {
            true => clean(&self.name),
            false => format!("{} ({})", clean(&self.name), clean(&self.model)),
        }
    }
}

impl Asks {
    /// In a sentence.
    pub fn text(&self) -> String {
        let models: Vec<String> = self.models.iter().map(AskedModel::text).collect();
        let models = match models.as_slice() {
            [] => "no model".to_owned(),
            models => models.join(", then "),
        };
        let tier = self.tier.as_deref().map(clean).unwrap_or_default();
        let why = match (self.by, &self.complexity) {
            (By::Task, _) => "its own `model`".to_owned(),
            (By::Defaults, _) => "the model of [defaults]".to_owned(),
            (By::Option, _) => "--model says so".to_owned(),
            (By::Complexity, Some(marks)) => format!(
                "tier `{tier}`, as its complexity is {} (reasoning {}, domain {}, context {}, output {})",
                marks.sum, marks.reasoning, marks.domain, marks.context, marks.output
            ),
            (By::Tier | By::Complexity, _) => format!("its tier is `{tier}`"),
        };
        let left: Vec<String> = self.left.iter().map(|name| clean(name)).collect();
        match left.is_empty() {
            true => format!("Asks {models}: {why}."),
            false => format!("Asks {models}: {why}, and {} failed at it.", left.join(", ")),
        }
    }

    /// In two words, for a list: the model that is asked first, and its tier.
    pub fn brief(&self) -> String {
        let first = self.models.first().map_or("no model".to_owned(), |model| clean(&model.name));
        match (&self.tier, self.left.is_empty()) {
            (Some(tier), true) => format!("{first} (tier {})", clean(tier)),
            (_, true) => first,
            (_, false) => format!("{first} (after {})", clean(&self.left.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_the_models_and_what_says_so() {
        let model = |name: &str, model: &str| AskedModel { name: name.into(), model: model.into() };
        let marks = Marks { sum: 8, reasoning: 2, domain: 2, context: 2, output: 2 };
        let asks = Asks {
            models: vec![model("local", "qwen3"), model("cloud", "cloud")],
            by: By::Complexity,
            tier: Some("small".into()),
            complexity: Some(marks),
            left: Vec::new(),
        };
        assert_eq!(
            asks.text(),
            "Asks local (qwen3), then cloud: tier `small`, as its complexity is 8 (reasoning 2, domain 2, context 2, output 2)."
        );
        assert_eq!(asks.brief(), "local (tier small)");
        let later =
            Asks { models: vec![model("cloud", "cloud")], left: vec!["local".into()], by: By::Tier, ..asks };
        assert_eq!(later.text(), "Asks cloud: its tier is `small`, and local failed at it.");
        assert_eq!(later.brief(), "cloud (after local)");
    }
}
