//! The files of an experiment, in a folder of its own: what was compared, what came of each trial, and what was decided.
//! All of it can be made anew from the trials' own records, so each is written as a whole, after each round.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, Durability, FsError};
use crate::optimize::decide::{Decision, Rules};
use crate::optimize::{Variant, cells::Became};
use crate::record::Digest;
use crate::store::jsonl;

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
    /// Whether all trials have a score.
    pub complete: bool,
    /// The text that is in force since a promotion, and when.
    #[serde(default)]
    pub promoted: Option<Promoted>,
}

/// A reference run, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// What it is called.
    pub name: String,
    /// Its folder.
    pub dir: String,
    /// Digest over the inputs.
    pub blake3: Digest,
}

/// What was compared in a round, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// The champion at its beginning.
    pub champion: Digest,
    /// Who was compared with it.
    pub challengers: Vec<Judged>,
}

/// A challenger, and what was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The text.
    pub blake3: Digest,
    /// What was decided.
    pub decision: Decision,
    /// Why.
    pub why: String,
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
    pub class: Option<String>,
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
    /// The score; null as long as there is none.
    pub score: Option<f64>,
    /// What the evaluator said.
    pub notes: String,
}

/// A line of `results.tsv`: how a text did with a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// The text's name.
    pub variant: String,
    /// Its digest, shortened.
    pub blake3: String,
    /// The model.
    pub model: String,
    /// Mean score; null as long as trials are missing.
    pub mean: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// Comparisons won.
    pub wins: u32,
    /// Neither.
    pub ties: u32,
    /// Lost.
    pub losses: u32,
    /// See [`crate::optimize::elo`].
    pub elo: f64,
    /// Trials that failed.
    pub failed: u32,
    /// Calls.
    pub calls: u64,
    /// Tokens, prompts and answers together.
    pub tokens: u64,
    /// USD.
    pub cost_usd: f64,
    /// Seconds.
    pub seconds: f64,
    /// champion, kept, reverted or undecided.
    pub decision: String,
    /// Why.
    pub why: String,
}

/// A trial with what became of it.
#[derive(Debug, Clone)]
pub struct Trialled {
    /// The trial's folder and identity.
    pub cell: crate::optimize::Cell,
    /// The text's name.
    pub variant: String,
    /// What became of it.
    pub became: Became,
}

/// The folder of an experiment.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder.
    pub dir: PathBuf,
}

impl Folder {
    /// The experiment of an id, among those of a task.
    pub fn new(experiments: &Path, id: &str) -> Folder {
        Folder { dir: experiments.join(id) }
    }

    /// What was compared, if it can be read.
    pub fn config(&self) -> Option<Config> {
        let bytes = fs::read_optional(&self.dir.join("config.json")).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// The table of results.
    pub fn results(&self) -> Vec<ResultRow> {
        let text = fs::read_to_string(&self.dir.join("results.tsv")).unwrap_or_default();
        read_tsv(&text)
    }

    /// Writes all files, `config.json` last: what it names is there.
    pub fn write(&self, config: &Config, trials: &[Trialled], rows: &[ResultRow]) -> Result<(), FsError> {
        fs::make_dirs(&self.dir, Durability::Synced)?;
        let runs: Vec<RunLine> = trials.iter().map(run_line).collect();
        let scores: Vec<ScoreLine> = trials.iter().map(score_line).collect();
        let config_text = serde_json::to_string_pretty(config).unwrap_or_default() + "\n";
        for (name, bytes) in [
            ("runs.jsonl", jsonl::to_lines(&runs)),
            ("scores.jsonl", jsonl::to_lines(&scores)),
            ("results.tsv", tsv(rows).into_bytes()),
            ("decision.md", decision(config, trials, rows).into_bytes()),
            ("config.json", config_text.into_bytes()),
        ] {
            let path = self.dir.join(name);
            if fs::read_optional(&path)?.as_deref() != Some(&bytes[..]) {
                fs::write_atomic(&path, &bytes, Durability::Synced)?;
            }
        }
        Ok(())
    }
}

fn run_line(Trialled { cell, variant, became }: &Trialled) -> RunLine {
    RunLine {
        schema: SCHEMA,
        cell: cell.id.clone(),
        variant: variant.clone(),
        blake3: cell.variant.clone(),
        model: cell.model.clone(),
        run: cell.run.clone(),
        answer: became.answer.clone(),
        folder: cell.folder(),
        input_tokens: became.input_tokens,
        output_tokens: became.output_tokens,
        cost_usd: became.cost_usd,
        calls: became.calls,
        seconds: became.seconds,
        class: became.class.clone(),
        message: became.message.clone(),
    }
}

fn score_line(Trialled { cell, variant, became }: &Trialled) -> ScoreLine {
    ScoreLine {
        schema: SCHEMA,
        cell: cell.id.clone(),
        variant: variant.clone(),
        model: cell.model.clone(),
        run: cell.run.clone(),
        score: became.score,
        notes: became.notes.clone(),
    }
}

/// Heads of `results.tsv`, in order.
const HEADS: [&str; 16] = [
    "variant", "blake3", "model", "mean", "min", "wins", "ties", "losses", "elo", "failed", "calls",
    "tokens", "cost_usd", "seconds", "decision", "why",
];

/// A table with a head; tabs and line ends within a field become blanks.
fn tsv(rows: &[ResultRow]) -> String {
    let score = |score: Option<f64>| score.map(|score| format!("{score:.4}")).unwrap_or_default();
    let mut text = HEADS.join("\t") + "\n";
    for row in rows {
        let fields = [
            row.variant.clone(),
            row.blake3.clone(),
            row.model.clone(),
            score(row.mean),
            score(row.min),
            row.wins.to_string(),
            row.ties.to_string(),
            row.losses.to_string(),
            format!("{:.0}", row.elo),
            row.failed.to_string(),
            row.calls.to_string(),
            row.tokens.to_string(),
            format!("{:.6}", row.cost_usd),
            format!("{:.1}", row.seconds),
            row.decision.clone(),
            row.why.clone(),
        ];
        text += &fields.map(|field| field.replace(['\t', '\n', '\r'], " ")).join("\t");
        text.push('\n');
    }
    text
}

fn read_tsv(text: &str) -> Vec<ResultRow> {
    let row = |line: &str| {
        let f: Vec<&str> = line.split('\t').collect();
        if f.len() < HEADS.len() {
            return None;
        }
        Some(ResultRow {
            variant: f[0].to_owned(),
            blake3: f[1].to_owned(),
            model: f[2].to_owned(),
            mean: f[3].parse().ok(),
            min: f[4].parse().ok(),
            wins: f[5].parse().unwrap_or(0),
            ties: f[6].parse().unwrap_or(0),
            losses: f[7].parse().unwrap_or(0),
            elo: f[8].parse().unwrap_or(0.0),
            failed: f[9].parse().unwrap_or(0),
            calls: f[10].parse().unwrap_or(0),
            tokens: f[11].parse().unwrap_or(0),
            cost_usd: f[12].parse().unwrap_or(0.0),
            seconds: f[13].parse().unwrap_or(0.0),
            decision: f[14].to_owned(),
            why: f[15].to_owned(),
        })
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// `decision.md`, for people.
fn decision(config: &Config, trials: &[Trialled], rows: &[ResultRow]) -> String {
    use std::fmt::Write as _;
    let name = |digest: &Digest| {
        config.variants.iter().find(|it| it.blake3 == *digest).map_or("?", |it| it.name.as_str())
    };
    let mut text = format!("# Experiment {} on `{}`\n\n", config.id, config.task);
    let runs: Vec<&str> = config.runs.iter().map(|run| run.name.as_str()).collect();
    let _ = writeln!(
        text,
        "Models: {}. Reference runs: {}. A challenger is kept if its mean score is {} or more above the champion's, is nowhere more than {} below it, and nothing fails that did not before.\n",
        config.models.join(", "),
        runs.join(", "),
        config.rules.margin,
        config.rules.max_drop
    );
    for round in &config.rounds {
        let _ = writeln!(text, "## Round {}\n\nChampion: `{}`.\n", round.round, name(&round.champion));
        for one in &round.challengers {
            let _ = writeln!(text, "- `{}` {}: {}.", name(&one.blake3), one.decision.word(), one.why);
        }
        text.push('\n');
    }
    text += "## Results\n\n| variant | model | mean | min | won-tied-lost | Elo | decision |\n|---|---|---|---|---|---|---|\n";
    let score = |score: Option<f64>| score.map_or("-".to_owned(), |score| format!("{score:.3}"));
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}-{}-{} | {:.0} | {} |",
            row.variant,
            row.model,
            score(row.mean),
            score(row.min),
            row.wins,
            row.ties,
            row.losses,
            row.elo,
            row.decision
        );
    }
    let failed: Vec<&Trialled> = trials.iter().filter(|trial| trial.became.class.is_some()).collect();
    if !failed.is_empty() {
        text += "\n## Failed trials\n\n";
        for Trialled { cell, variant, became } in failed {
            let (class, message) = (became.class.as_deref(), became.message.as_deref());
            let message = message.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            let message = message.replace('<', "&lt;");
            let _ = writeln!(
                text,
                "- `{variant}` with `{}` on `{}`: {}: {message}",
                cell.model,
                cell.run,
                class.unwrap_or_default()
            );
        }
    }
    if let Some(promoted) = &config.promoted {
        let _ = writeln!(
            text,
            "\nPromoted: `{}`, {} by {}.",
            name(&promoted.blake3),
            promoted.time_utc,
            promoted.user
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_they_were_written() {
        let row = ResultRow {
            variant: "terse".into(),
            mean: Some(0.75),
            wins: 2,
            elo: 1100.0,
            decision: "kept".into(),
            why: "a\tb\nc".into(),
            ..ResultRow::default()
        };
        let read = read_tsv(&tsv(&[row.clone(), ResultRow::default()]));
        assert_eq!(read[0], ResultRow { why: "a b c".into(), ..row });
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].mean, None);
    }
}
