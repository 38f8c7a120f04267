//! What the files of an experiment hold: what was compared, what came of each trial, and what was decided.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::{Decision, Rules};
use crate::pairs::{Bias, Said, Winner};
use crate::{Variant, cells::Became};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::Digest;

/// Version of these formats.
pub const SCHEMA: u32 = 1;

/// `config.json`: what was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The experiment.
    pub id: String,
    /// The task.
    pub task: String,
    /// When it began, RFC 3339, UTC.
    pub started_utc: String,
    /// When a round of it ended last.
    pub updated_utc: String,
    /// The prompt's file, relative to the pipeline's folder; none of one in the pipeline itself.
    pub prompt: Option<String>,
    /// All texts, the one there was at the beginning first.
    pub variants: Vec<Variant>,
    /// The models asked.
    pub models: Vec<String>,
    /// The runs whose inputs were used.
    pub runs: Vec<RunRecord>,
    /// Digest of the evaluator.
    pub evaluator: Option<Digest>,
    /// When a challenger is kept.
    #[serde(flatten)]
    pub rules: Rules,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// Whether nothing is missing: all trials have a score, or are compared.
    pub complete: bool,
    /// Of comparisons by a judge: how often the order decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// The text that is in force since a promotion, and when.
    #[serde(default)]
    pub promoted: Option<Promoted>,
}

/// A reference run, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// What it is called.
    pub name: String,
    /// Its folder, from that of the pipeline.
    pub dir: String,
    /// Digest over the inputs.
    pub blake3: Digest,
}

/// What was compared in a round, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// The champion at its beginning.
    pub champion: Digest,
    /// Who was compared with it.
    pub challengers: Vec<Judged>,
}

/// A challenger, and what was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The text.
    pub blake3: Digest,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    pub why: String,
    /// By how much it is better than the champion: its mean score, or its share of points above a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// Where that lies 19 times of 20, as far as draws tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Whether it may be noise alone.
    #[serde(default)]
    pub noise: bool,
}

/// A promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The text.
    pub blake3: Digest,
    /// When.
    pub time_utc: String,
    /// Who.
    pub user: String,
}

/// A line of `runs.jsonl`: what a trial cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunLine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The trial.
    pub cell: String,
    /// The text's name.
    pub variant: String,
    /// Its digest.
    pub blake3: Digest,
    /// The model.
    pub model: String,
    /// The run.
    pub run: String,
    /// Which draw, from 1.
    #[serde(default = "first")]
    pub sample: u32,
    /// Digest of what was made; null if it failed.
    pub answer: Option<Digest>,
    /// Where it lies, relative to the folder of the task's experiments.
    pub folder: String,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// USD.
    pub cost_usd: f64,
    /// Calls.
    pub calls: u64,
    /// Seconds.
    pub seconds: f64,
    /// Class of the failure.
    pub class: Option<FailureClass>,
    /// Its message.
    pub message: Option<String>,
}

/// A line of `scores.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreLine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The trial.
    pub cell: String,
    /// The text's name.
    pub variant: String,
    /// The model.
    pub model: String,
    /// The run.
    pub run: String,
    /// Which draw, from 1.
    #[serde(default = "first")]
    pub sample: u32,
    /// The score; null as long as there is none.
    pub score: Option<f64>,
    /// What the evaluator said.
    pub notes: String,
}

fn first() -> u32 {
    1
}

/// A line of `pairs.jsonl`: two answers compared, of a fan-out on one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairLine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The comparison; null if the judge was not needed.
    pub pair: Option<String>,
    /// The run.
    pub run: String,
    /// Which draw, from 1.
    pub sample: u32,
    /// The item.
    pub key: Option<String>,
    /// The name of the one text.
    pub a: String,
    /// Its model.
    pub a_model: String,
    /// Its trial.
    pub a_cell: String,
    /// The name of the other.
    pub b: String,
    /// Its model.
    pub b_model: String,
    /// Its trial.
    pub b_cell: String,
    /// Who won: a, b or tie; null as long as nothing can be said.
    pub winner: Option<Winner>,
    /// What the judge said with A shown first: first, second, tie or unusable.
    pub a_first: Option<Said>,
    /// With B shown first.
    pub b_first: Option<Said>,
    /// Why, in each order.
    pub reasons: Vec<String>,
}

/// A trial with what became of it.
#[derive(Debug, Clone)]
pub struct Trialled {
    /// The trial's folder and identity.
    pub cell: crate::Cell,
    /// The text's name.
    pub variant: String,
    /// What became of it.
    pub became: Became,
}
