//! Whether a challenger takes the place of the champion: pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where something was tried: the model and the reference run, by their names.
pub type At = (String, String);

/// What became of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// The score; 0 if what came failed its schema or checks; none as long as nothing can be said.
    pub score: Option<f64>,
    /// Whether it failed.
    pub failed: bool,
}

/// Trials of one prompt.
pub type Trials = BTreeMap<At, Trial>;

/// When a challenger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// By so much its mean score must beat the champion's, or more.
    pub margin: f64,
    /// At most so much below the champion it may be anywhere.
    pub max_drop: f64,
}

/// What was decided of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// What the others were compared with.
    Champion,
    /// It takes the champion's place.
    Kept,
    /// It does not.
    Reverted,
    /// Trials are missing.
    Undecided,
}

impl Decision {
    /// The word in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Decision::Champion => "champion",
            Decision::Kept => "kept",
            Decision::Reverted => "reverted",
            Decision::Undecided => "undecided",
        }
    }
}

/// The mean score, if there is one for every trial.
pub fn mean(trials: &Trials) -> Option<f64> {
    let scores: Option<Vec<f64>> = trials.values().map(|trial| trial.score).collect();
    scores.filter(|scores| !scores.is_empty()).map(|scores| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// Scores are told apart from this difference on: sums of decimal fractions are not exact.
const EXACT: f64 = 1e-9;

/// Decides of every challenger, each with the reason in words. At most one is kept: the best of those that may be, the
/// first of those that are equal.
pub fn decide(champion: &Trials, challengers: &[Trials], rules: Rules) -> Vec<(Decision, String)> {
    let mut decided: Vec<(Decision, String)> =
        challengers.iter().map(|challenger| compare(champion, challenger, rules)).collect();
    // As long as trials of one are missing nobody knows who is the best.
    if decided.iter().any(|(decision, _)| *decision == Decision::Undecided) {
        for (decision, why) in &mut decided {
            if *decision == Decision::Kept {
                (*decision, *why) =
                    (Decision::Undecided, format!("{why}; trials of another one are missing"));
            }
        }
        return decided;
    }
    let means: Vec<f64> = challengers.iter().map(|one| mean(one).unwrap_or(0.0)).collect();
    let kept = |at: &usize| decided[*at].0 == Decision::Kept;
    let best = (0..challengers.len())
        .filter(kept)
        .reduce(|best, at| if means[at] > means[best] + EXACT { at } else { best });
    for (at, (decision, why)) in decided.iter_mut().enumerate() {
        if *decision == Decision::Kept && Some(at) != best {
            (*decision, *why) = (Decision::Reverted, format!("{why}, but another one is better still"));
        }
    }
    decided
}

fn compare(champion: &Trials, challenger: &Trials, rules: Rules) -> (Decision, String) {
    let missing = |trials: &Trials| trials.values().filter(|trial| trial.score.is_none()).count();
    let (Some(before), Some(after)) = (mean(champion), mean(challenger)) else {
        let missing = missing(challenger) + missing(champion);
        return (
            Decision::Undecided,
            format!("{} without a score", crate::style::count(missing as u64, "trial")),
        );
    };
    let gain = after - before;
    let by = format!("mean {after:.3} against {before:.3}");
    for ((model, run), trial) in challenger {
        let at = (model.clone(), run.clone());
        let Some(other) = champion.get(&at) else { continue };
        let (Some(own), Some(others)) = (trial.score, other.score) else { continue };
        if trial.failed && !other.failed {
            return (
                Decision::Reverted,
                format!("{by}; fails on `{run}` with `{model}`, where the champion does not"),
            );
        }
        if others - own > rules.max_drop + EXACT {
            let drop = format!("{own:.3} against {others:.3} on `{run}` with `{model}`");
            return (Decision::Reverted, format!("{by}; {drop} is a drop of more than {}", rules.max_drop));
        }
    }
    if gain + EXACT < rules.margin {
        return (Decision::Reverted, format!("{by}: {gain:+.3}, and {:+} is wanted", rules.margin));
    }
    (Decision::Kept, format!("{by}: {gain:+.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { margin: 0.02, max_drop: 0.05 };

    /// Scores by reference run; -1 is a failure, 2 none yet.
    fn trials(scores: &[f64]) -> Trials {
        let trial = |score: f64| match score {
            -1.0 => Trial { score: Some(0.0), failed: true },
            2.0 => Trial { score: None, failed: false },
            score => Trial { score: Some(score), failed: false },
        };
        scores.iter().enumerate().map(|(n, &score)| (("m".into(), format!("run{n}")), trial(score))).collect()
    }

    #[test]
    fn a_challenger_is_kept_if_it_is_better_by_the_margin_and_worse_nowhere() {
        use Decision::*;
        for (champion, challengers, wanted) in [
            (&[0.5, 0.5][..], &[&[0.6, 0.6][..]][..], &[Kept][..]),
            (&[0.5, 0.5], &[&[0.52, 0.52]], &[Kept]),
            (&[0.5, 0.5], &[&[0.51, 0.52]], &[Reverted]),
            (&[0.5, 0.5], &[&[0.5, 0.5]], &[Reverted]),
            // Better by far, and a little worse on one of them.
            (&[0.5, 0.5], &[&[0.9, 0.45]], &[Kept]),
            (&[0.5, 0.5], &[&[0.9, 0.44]], &[Reverted]),
            // A failure counts as 0, and one that is new is a regression whatever the scores.
            (&[0.04, 0.5], &[&[-1.0, 1.0]], &[Reverted]),
            (&[-1.0, 0.5], &[&[-1.0, 0.6]], &[Kept]),
            (&[-1.0, 0.5], &[&[0.5, 0.5]], &[Kept]),
            // The best of several; of equal ones the first.
            (&[0.5, 0.5], &[&[0.6, 0.6], &[0.7, 0.7], &[0.4, 0.9]], &[Reverted, Kept, Reverted]),
            (&[0.5, 0.5], &[&[0.7, 0.7], &[0.7, 0.7]], &[Kept, Reverted]),
            (&[0.5, 0.5], &[&[0.7, 0.7], &[0.9, 2.0]], &[Undecided, Undecided]),
            (&[2.0, 0.5], &[&[0.7, 0.7]], &[Undecided]),
        ] {
            let challengers: Vec<Trials> = challengers.iter().map(|scores| trials(scores)).collect();
            let decided = decide(&trials(champion), &challengers, RULES);
            let words: Vec<Decision> = decided.iter().map(|(decision, _)| *decision).collect();
            assert_eq!(words, wanted, "{champion:?} {decided:?}");
        }
    }

    #[test]
    fn the_reason_names_where_it_got_worse() {
        let decided = decide(&trials(&[0.5, 0.5]), &[trials(&[0.9, 0.2])], RULES);
        assert!(decided[0].1.contains("0.200 against 0.500 on `run1` with `m`"), "{decided:?}");
    }
}
