//! How each text did, as `results.tsv` and `decision.md` have it. Pure.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::Rules;
use crate::records::{Config, Trialled};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::Digest;
use planexe_pipeline::manifest::types::Compare;

/// A line of `results.tsv`: how a text did with a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// See [`crate::elo`].
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
    /// Of comparisons by a judge: the share of points, a tie being half of one; null where scores decide.
    pub share: Option<f64>,
    /// Standard deviation of the draws of one run, over all runs; null if there is one draw of each.
    pub spread: Option<f64>,
    /// By how much the text is better than its champion, over all models.
    pub gain: Option<f64>,
    /// The lower end of where that lies, 19 times of 20; null if there is one draw of each.
    pub gain_low: Option<f64>,
    /// The upper end.
    pub gain_high: Option<f64>,
    /// Whether the difference may be noise alone.
    pub noise: bool,
}

/// Heads of `results.tsv`, in order. Those from `share` on came later: files without them are read.
const HEADS: [&str; 22] = [
    "variant",
    "blake3",
    "model",
    "mean",
    "min",
    "wins",
    "ties",
    "losses",
    "elo",
    "failed",
    "calls",
    "tokens",
    "cost_usd",
    "seconds",
    "decision",
    "why",
    "share",
    "spread",
    "gain",
    "gain_low",
    "gain_high",
    "noise",
];
/// So many of them there were in the beginning.
const FIRST: usize = 16;

/// A table with a head; tabs and line ends within a field become blanks.
pub(super) fn tsv(rows: &[ResultRow]) -> String {
    let score = |score: Option<f64>| score.map(|score| format!("{score:.4}")).unwrap_or_default();
    let mut text = HEADS.join("\t") + "\n";
    for row in rows {
        let fields: [String; HEADS.len()] = [
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
            score(row.share),
            score(row.spread),
            score(row.gain),
            score(row.gain_low),
            score(row.gain_high),
            row.noise.to_string(),
        ];
        text += &fields.map(|field| field.replace(['\t', '\n', '\r'], " ")).join("\t");
        text.push('\n');
    }
    text
}

pub(super) fn read_tsv(text: &str) -> Vec<ResultRow> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() < FIRST {
            return None;
        }
        let f = |at: usize| fields.get(at).copied().unwrap_or_default();
        Some(ResultRow {
            variant: f(0).to_owned(),
            blake3: f(1).to_owned(),
            model: f(2).to_owned(),
            mean: f(3).parse().ok(),
            min: f(4).parse().ok(),
            wins: f(5).parse().unwrap_or(0),
            ties: f(6).parse().unwrap_or(0),
            losses: f(7).parse().unwrap_or(0),
            elo: f(8).parse().unwrap_or(0.0),
            failed: f(9).parse().unwrap_or(0),
            calls: f(10).parse().unwrap_or(0),
            tokens: f(11).parse().unwrap_or(0),
            cost_usd: f(12).parse().unwrap_or(0.0),
            seconds: f(13).parse().unwrap_or(0.0),
            decision: f(14).to_owned(),
            why: f(15).to_owned(),
            share: f(16).parse().ok(),
            spread: f(17).parse().ok(),
            gain: f(18).parse().ok(),
            gain_low: f(19).parse().ok(),
            gain_high: f(20).parse().ok(),
            noise: f(21) == "true",
        })
    };
    text.lines().skip(1).filter_map(row).collect()
}

fn name_in<'c>(config: &'c Config, digest: &Digest) -> &'c str {
    config.variants.iter().find(|it| it.blake3 == *digest).map_or("?", |it| it.name.as_str())
}

/// `decision.md`, for people.
pub(super) fn decision(config: &Config, trials: &[Trialled], rows: &[ResultRow]) -> String {
    let name = |digest: &Digest| name_in(config, digest);
    let mut text = format!("# Experiment {} on `{}`\n\n", config.id, config.task);
    let runs: Vec<&str> = config.runs.iter().map(|run| run.name.as_str()).collect();
    let Rules { margin, max_drop, samples, compare } = config.rules;
    let draws = match samples {
        1 => String::new(),
        samples => format!(" Draws of each text: {samples}."),
    };
    let _ =
        writeln!(text, "Models: {}. Reference runs: {}.{draws}\n", config.models.join(", "), runs.join(", "));
    let mut rule = match compare {
        Compare::Scores => format!(
            "A challenger is kept if its mean score is {margin} or more above the champion's, is nowhere more than {max_drop} below it, and nothing fails that did not before."
        ),
        Compare::Pairwise => format!(
            "A judge is shown the answers two by two, in both orders; who wins in both has won, else it is a tie. A challenger is kept if its share of points against the champion is {margin} or more above a half, is nowhere more than {max_drop} below it, and nothing fails that did not before."
        ),
    };
    if samples > 1 {
        rule += " A difference whose 95 % interval has 0 in it is noise, and keeps no text.";
    }
    text += &rule;
    text += "\n\n";
    if let Some(bias) = &config.bias {
        let _ = writeln!(text, "{}\n", bias.text());
    }
    for round in &config.rounds {
        let _ = writeln!(text, "## Round {}\n\nChampion: `{}`.\n", round.round, name(&round.champion));
        for one in &round.challengers {
            let _ = writeln!(text, "- `{}` {}: {}.", name(&one.blake3), one.decision.word(), one.why);
        }
        text.push('\n');
    }
    text += "## Results\n\n| variant | model | mean | spread | min | won-tied-lost | share | Elo | decision |\n|---|---|---|---|---|---|---|---|---|\n";
    let score = |score: Option<f64>| score.map_or("-".to_owned(), |score| format!("{score:.3}"));
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {}-{}-{} | {} | {:.0} | {} |",
            row.variant,
            row.model,
            score(row.mean),
            score(row.spread),
            score(row.min),
            row.wins,
            row.ties,
            row.losses,
            score(row.share),
            row.elo,
            row.decision
        );
    }
    let failed: Vec<&Trialled> = trials.iter().filter(|trial| trial.became.class.is_some()).collect();
    if !failed.is_empty() {
        text += "\n## Failed trials\n\n";
        for Trialled { cell, variant, became } in failed {
            let (class, message) = (became.class.as_ref(), became.message.as_deref());
            let message = message.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            let message = message.replace('<', "&lt;");
            let _ = writeln!(
                text,
                "- `{variant}` with `{}` on `{}`: {}: {message}",
                cell.model,
                cell.run,
                class.map_or("", FailureClass::name)
            );
        }
    }
    with_promotion(&text, config)
}

/// The page of a decision with the text that was promoted last at its end.
pub(super) fn with_promotion(page: &str, config: &Config) -> String {
    const HEAD: &str = "\nPromoted: `";
    let page = page.rfind(HEAD).map_or(page, |at| &page[..at]);
    match &config.promoted {
        None => page.to_owned(),
        Some(promoted) => {
            let name = name_in(config, &promoted.blake3);
            format!("{page}{HEAD}{name}`, {} by {}.\n", promoted.time_utc, promoted.user)
        }
    }
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
        // As it was before there were draws and comparisons.
        let old = "variant\n".to_owned() + &["x"; FIRST].join("\t") + "\n";
        assert_eq!((read_tsv(&old).len(), read_tsv(&old)[0].share), (1, None));
    }
}
