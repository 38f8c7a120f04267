//! `planexe optimize`: what was compared, and what came of it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::pairs::Bias;
use crate::records::Round;
use crate::results::ResultRow;
use planexe_base::failure_class::FailureClass;
use planexe_base::style::{self, Style, clean};
use planexe_pipeline::manifest::types::Compare;
use planexe_ui::views::records::headed;
use planexe_ui::views::{Server, time};

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OptimizeView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run.
    pub run_dir: String,
    /// The task.
    pub task: String,
    /// The experiment.
    pub experiment: String,
    /// Its folder.
    pub dir: String,
    /// planned, complete, incomplete (trials without a score), stopped.
    pub state: String,
    /// The text that came out best, by its name; that of the beginning if nothing is better.
    pub best: String,
    /// Whether it is another one than at the beginning.
    pub kept: bool,
    /// Whether it took the prompt's place, now or before.
    pub promoted: bool,
    /// How texts are compared: scores or pairwise.
    pub compare: Compare,
    /// Draws of each text.
    pub samples: u32,
    /// Inputs of the task that the text that came out best does not use, and the prompt at the beginning does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_inputs: Vec<String>,
    /// Whether all draws of a text gave the same answer, so that they say nothing of noise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draws_alike: bool,
    /// Of comparisons by a judge: how often the order decided instead of the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// How each text did with each model.
    pub results: Vec<ResultRow>,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// Trials that have no score, each with why, as far as that is known.
    pub missing: Vec<Missing>,
    /// What this command used.
    pub used: Amount,
    /// Of `-n`: what it would use at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Amount>,
    /// Of a promotion: tasks that are stale by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
    /// Of a promotion: answers given to the reference runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<usize>,
    /// What to type next.
    pub next: Vec<String>,
}

/// A trial without a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Missing {
    /// The text's name.
    pub variant: String,
    /// The model.
    pub model: String,
    /// The run.
    pub run: String,
    /// Class of the failure, if it failed.
    pub class: Option<FailureClass>,
    /// Its message.
    pub message: Option<String>,
}

/// Calls and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Amount {
    /// Trials.
    pub trials: u64,
    /// Comparisons by a judge, each in both orders.
    pub comparisons: u64,
    /// Calls.
    pub calls: u64,
    /// Tokens, prompts and answers together.
    pub tokens: u64,
    /// USD.
    pub cost_usd: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Amount {
    fn text(&self) -> String {
        let mut text = format!("{}, {} tokens", style::count(self.calls, "call"), style::tokens(self.tokens));
        if self.cost_usd > 0.0 {
            text += &format!(", {}", style::money(self.cost_usd));
        }
        if self.seconds >= 1.0 {
            text += &format!(", {}", style::duration(self.seconds));
        }
        text
    }
}

impl OptimizeView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        let mut text = format!("experiment {} on {}\n", clean(&self.experiment), clean(&self.task));
        if let Some(expected) = &self.expected {
            let mut what = style::count(expected.trials, "trial");
            if expected.comparisons > 0 {
                what += &format!(" and {}", style::count(expected.comparisons, "comparison"));
            }
            text += &match expected.calls {
                0 => "Nothing would be asked: every trial is done.\n".to_owned(),
                _ => style.wrap(&format!("Would make {what}: about {} at most.", expected.text()), 2) + "\n",
            };
            return text;
        }
        text += &table(&self.results, self.compare, style);
        if let Some(bias) = &self.bias {
            text += &style.wrap(&bias.text(), 2);
            text.push('\n');
        }
        if self.draws_alike {
            let line = "All draws of a text gave the same answer, so they say nothing of noise: a fixed seed, temperature 0, or a server that keeps answers?";
            text += &style.wrap(line, 2);
            text.push('\n');
        }
        for row in self.results.iter().filter(|row| row.decision != "champion" && !row.why.is_empty()) {
            let first = self.results.iter().find(|other| other.blake3 == row.blake3);
            if first.is_some_and(|first| first.model == row.model) {
                text +=
                    &style.wrap(&format!("{} {}: {}", clean(&row.variant), row.decision, clean(&row.why)), 2);
                text.push('\n');
            }
        }
        for one in &self.missing {
            let at = format!("{} with {} on {}", clean(&one.variant), clean(&one.model), clean(&one.run));
            let why = one.message.as_deref().unwrap_or("not made yet");
            text += &style.wrap(&format!("no score: {at}: {}", clean(why)), 2);
            text.push('\n');
        }
        if self.used.calls > 0 {
            text += &format!("Used {}.\n", self.used.text());
        }
        if let Some(given) = self.given {
            text += &format!("`{}` is the prompt now", clean(&self.best));
            text += &match given {
                0 => ".\n".to_owned(),
                _ => format!("; {} given to the reference runs.\n", style::count(given as u64, "answer")),
            };
        }
        if !self.stale.is_empty() {
            text += &style.wrap(&format!("stale by it: {}", clean(&self.stale.join(", "))), 2);
            text.push('\n');
        }
        text
    }
}

fn table(results: &[ResultRow], compare: Compare, style: &Style) -> String {
    let score = |score: Option<f64>| score.map_or("-".to_owned(), |score| format!("{score:.3}"));
    let won = |row: &ResultRow| format!("{}-{}-{}", row.wins, row.ties, row.losses);
    let ends = |row: &ResultRow| {
        let verdict = if row.noise { format!("{} (noise)", row.decision) } else { row.decision.clone() };
        [format!("{:.0}", row.elo), style::money(row.cost_usd), verdict]
    };
    let who = |row: &ResultRow| [clean(&row.variant), clean(&row.model)];
    if compare == Compare::Pairwise {
        let heads = ["prompt", "model", "won-tied-lost", "share", "elo", "cost", "verdict"];
        let rows = results
            .iter()
            .map(|row| who(row).into_iter().chain([won(row), score(row.share)]).chain(ends(row)).collect());
        return headed(heads, rows, style);
    }
    if results.iter().all(|row| row.spread.is_none()) {
        let heads = ["prompt", "model", "mean", "min", "won-tied-lost", "elo", "cost", "verdict"];
        let rows = results.iter().map(|row| {
            let scores = [score(row.mean), score(row.min), won(row)];
            who(row).into_iter().chain(scores).chain(ends(row)).collect()
        });
        return headed(heads, rows, style);
    }
    let heads = ["prompt", "model", "mean", "spread", "min", "won-tied-lost", "elo", "cost", "verdict"];
    let rows = results.iter().map(|row| {
        let scores = [score(row.mean), score(row.spread), score(row.min), won(row)];
        who(row).into_iter().chain(scores).chain(ends(row)).collect()
    });
    headed(heads, rows, style)
}

/// Experiments of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExperimentsView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// The run.
    pub run_dir: String,
    /// The experiments, by task, the newest first.
    pub experiments: Vec<ExperimentLine>,
    /// What they take on disk, with all answers.
    pub bytes: u64,
}

/// An experiment in a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ExperimentLine {
    /// The task.
    pub task: String,
    /// Its id.
    pub experiment: String,
    /// How texts were compared: scores or pairwise.
    pub compare: Compare,
    /// Draws of each text.
    pub samples: u32,
    /// When it began.
    pub started_utc: String,
    /// When a round ended last.
    pub updated_utc: String,
    /// Rounds.
    pub rounds: usize,
    /// Texts.
    pub variants: usize,
    /// Reference runs.
    pub runs: usize,
    /// Whether all trials have a score.
    pub complete: bool,
    /// The text that is best so far.
    pub best: String,
    /// The text that was promoted last.
    pub promoted: Option<String>,
}

impl ExperimentsView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        if self.experiments.is_empty() {
            return "no experiments\n".to_owned();
        }
        let heads = ["task", "experiment", "updated", "by", "rounds", "prompts", "runs", "best", "state"];
        let rows = self.experiments.iter().map(|one| {
            let state = match (&one.promoted, one.complete) {
                (Some(promoted), _) => format!("promoted {}", clean(promoted)),
                (None, true) => "complete".to_owned(),
                (None, false) => "incomplete".to_owned(),
            };
            vec![
                clean(&one.task),
                clean(&one.experiment),
                time(&one.updated_utc).get(..16).unwrap_or_default().to_owned(),
                match one.compare {
                    Compare::Scores => "scores".to_owned(),
                    Compare::Pairwise => "pairs".to_owned(),
                },
                one.rounds.to_string(),
                one.variants.to_string(),
                one.runs.to_string(),
                clean(&one.best),
                state,
            ]
        });
        let held = format!("{} in experiments/\n", style::bytes(self.bytes));
        headed(heads, rows, style) + &style.dim(&held)
    }
}
