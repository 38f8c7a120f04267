//! `[task.NAME.check]`: what an answer must satisfy beyond its schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Map;
use super::OneOrMany;

/// `check`: what an answer must satisfy beyond its schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Minimum number of items, by JSON pointer of the list.
    pub min_items: Map<u64>,
    /// Maximum number of items, by JSON pointer of the list.
    pub max_items: Map<u64>,
    /// JSON pointers (`*` allowed) whose value must not be empty or a placeholder.
    pub non_empty: Vec<String>,
    /// Allowed values, by JSON pointer (`*` allowed).
    pub one_of: Map<Vec<Value>>,
    /// JSON pointers (`*` allowed) whose values must all differ.
    pub unique: Vec<String>,
    /// Minimum number of words in the whole answer.
    pub min_words: Option<u64>,
    /// Maximum number of words in the whole answer.
    pub max_words: Option<u64>,
    /// Regular expressions the text must match, by JSON pointer (`""` is the whole answer).
    pub matches: Map<String>,
    /// A file of the pipeline with one banned word or phrase per line, or a list of such files; `{{ vars.X }}` may stand
    /// in a path.
    pub banned_words: Option<OneOrMany>,
    /// Files of words and phrases that are allowed even if a list bans them; a banned word inside an allowed phrase is allowed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_words: Option<OneOrMany>,
    /// JSON pointers (`*` allowed) of ids, and where those ids come from: `"input:/pointer"` is in a JSON
    /// input, `"item:/pointer"` in the item of a fan-out, `"/pointer"` in the answer itself. An empty id is skipped.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub refs: Map<String>,
    /// Rules for estimates given as ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeRule>,
    /// Whether sums, products, shares and totals of tables that the answer states are computed and must hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub arithmetic: bool,
    /// JSON pointer of a list of facts, each with `id`, `value`, `unit`, `currency`, `low`, `high` and `formula`; formulas,
    /// units, ranges, sums and dates are computed and must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<String>,
    /// Texts inside the answer, by JSON pointer (`*` allowed), and how concrete each must be.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub texts: Map<TextRule>,
    /// Conditions on the answer and the inputs together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
}

impl Check {
    /// The lists of words it names: the key, which of several, and the path as written.
    pub fn word_files(&self) -> impl Iterator<Item = (&'static str, Option<usize>, &str)> {
        let keys = [("banned_words", &self.banned_words), ("allowed_words", &self.allowed_words)];
        keys.into_iter().flat_map(|(key, files)| {
            let many = matches!(files, Some(OneOrMany::Many(_)));
            let files = files.iter().flat_map(OneOrMany::as_slice).enumerate();
            files.map(move |(index, file)| (key, many.then_some(index), file.as_str()))
        })
    }
}

/// An entry of `check.ranges`: a rule for Fermi estimates. A number may be written as a string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeRule {
    /// JSON pointer (`*` allowed) of the objects with one estimate each.
    pub at: String,
    /// Member with the lower bound.
    pub low: String,
    /// Member with the upper bound; it must not be below the lower one.
    pub high: String,
    /// Member with the likely value; it must lie between the two.
    pub likely: Option<String>,
    /// Minimum value of the lower bound.
    pub min: Option<f64>,
    /// Maximum value of the upper bound.
    pub max: Option<f64>,
    /// Maximum ratio of the upper bound to the lower one; a wider range says nothing.
    pub max_ratio: Option<f64>,
    /// Member with the evidence for the estimate; it must not be empty or a placeholder.
    pub evidence: Option<String>,
}

/// An entry of `check.texts`: what makes a text concrete enough to act on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextRule {
    /// Minimum number of words in each text.
    pub min_words: Option<u64>,
    /// Maximum number of words in each text.
    pub max_words: Option<u64>,
    /// Whether each text must contain a number.
    pub number: bool,
    /// Maximum share of words, from 0 to 1, that two texts of one list may have in common.
    pub alike: Option<f64>,
}

/// An entry of `check.require`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// A condition `"{{ … }}"` over `answer`, the inputs, `vars` and `item`; if it is false, the model is asked again. Without `that` the message decides: an empty message passes.
    pub that: Option<String>,
    /// The message to the model: a template over the same names, each line one error.
    pub message: String,
}
