//! Whether a challenger takes the place of the champion: pure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::noise::{self, Interval};
use planexe_base::style;
use planexe_pipeline::manifest::types::Compare;

/// Where something was tried: the model and the reference run, by their names.
pub type At = (String, String);

/// What became of the trials of one text in one place, a draw each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// The score of each draw; 0 if what came failed its schema or checks; none as long as nothing can be said. Of
    /// comparisons what each was worth against the champion: 1, 0.5 or 0.
    pub draws: Vec<Option<f64>>,
    /// How many draws failed.
    pub failed: u32,
}

impl Trial {
    /// The mean of the draws, once there are all.
    pub fn score(&self) -> Option<f64> {
        let draws = self.whole()?;
        Some(draws.iter().sum::<f64>() / draws.len() as f64)
    }

    fn whole(&self) -> Option<Vec<f64>> {
        self.draws.iter().copied().collect::<Option<Vec<f64>>>().filter(|draws| !draws.is_empty())
    }
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
    /// So many draws of each text in each place; with more than one a difference that may be noise keeps nobody.
    #[serde(default = "one")]
    pub samples: u32,
    /// By scores, or two by two.
    #[serde(default)]
    pub compare: Compare,
}

fn one() -> u32 {
    1
}

/// What was decided of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What was decided of a challenger.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Whether it is kept.
    pub decision: Decision,
    /// Why, in words.
    pub why: String,
    /// By how much it is better than the champion.
    pub gain: Option<f64>,
    /// Where that lies, as far as draws tell.
    pub interval: Option<Interval>,
}

impl Decided {
    /// Whether the difference may be none.
    pub fn is_noise(&self) -> bool {
        self.interval.is_some_and(Interval::is_noise)
    }
}

/// The mean score, if there is one for every trial.
pub fn mean(trials: &Trials) -> Option<f64> {
    let scores: Option<Vec<f64>> = trials.values().map(Trial::score).collect();
    scores.filter(|scores| !scores.is_empty()).map(|scores| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// The draws of each place.
pub fn cases(trials: &Trials) -> Vec<Vec<f64>> {
    trials.values().filter_map(Trial::whole).collect()
}

/// Scores are told apart from this difference on: sums of decimal fractions are not exact.
const EXACT: f64 = 1e-9;

/// Decides of every challenger, each with the reason in words. At most one is kept: the best of those that may be, the
/// first of those that are equal. `rank`: how good the challengers are among each other, if that is not the mean.
pub fn decide(champion: &Trials, challengers: &[Trials], rules: Rules, rank: Option<&[f64]>) -> Vec<Decided> {
    let mut decided: Vec<Decided> =
        challengers.iter().map(|challenger| compare(champion, challenger, rules)).collect();
    // As long as trials of one are missing nobody knows who is the best.
    if decided.iter().any(|one| one.decision == Decision::Undecided) {
        for one in decided.iter_mut().filter(|one| one.decision == Decision::Kept) {
            one.decision = Decision::Undecided;
            one.why += "; trials of another one are missing";
        }
        return decided;
    }
    let means: Vec<f64> = challengers.iter().map(|one| mean(one).unwrap_or(0.0)).collect();
    let rank = rank.unwrap_or(&means);
    let best = (0..challengers.len())
        .filter(|&at| decided[at].decision == Decision::Kept)
        .reduce(|best, at| if rank[at] > rank[best] + EXACT { at } else { best });
    for (at, one) in decided.iter_mut().enumerate() {
        if one.decision == Decision::Kept && Some(at) != best {
            one.decision = Decision::Reverted;
            one.why += ", but another one is better still";
        }
    }
    decided
}

fn compare(champion: &Trials, challenger: &Trials, rules: Rules) -> Decided {
    let missing = |trials: &Trials| trials.values().filter(|trial| trial.score().is_none()).count();
    let (Some(before), Some(after)) = (mean(champion), mean(challenger)) else {
        let missing = style::count((missing(challenger) + missing(champion)) as u64, "trial");
        let why = match rules.compare {
            Compare::Scores => format!("{missing} without a score"),
            Compare::Pairwise => "not all of it is compared yet".to_owned(),
        };
        return Decided { decision: Decision::Undecided, why, gain: None, interval: None };
    };
    let gain = after - before;
    let interval = match rules.compare {
        _ if rules.samples < 2 => None,
        Compare::Scores => noise::of_scores(&cases(champion), &cases(challenger)),
        Compare::Pairwise => noise::of_points(&cases(challenger).concat()),
    };
    let by = match rules.compare {
        Compare::Scores => format!("mean {after:.3} against {before:.3}"),
        Compare::Pairwise => {
            let points = cases(challenger).concat();
            let count = |wanted: f64| points.iter().filter(|&&point| point == wanted).count();
            format!("won {}, tied {}, lost {} against the champion", count(1.0), count(0.5), count(0.0))
        }
    };
    let (decision, why) = verdict(champion, challenger, rules, (gain, interval), by);
    Decided { decision, why, gain: Some(gain), interval }
}

fn verdict(
    champion: &Trials,
    challenger: &Trials,
    rules: Rules,
    (gain, interval): (f64, Option<Interval>),
    by: String,
) -> (Decision, String) {
    let at = |at: &At| format!("on `{}` with `{}`", at.1, at.0);
    let both = || challenger.iter().filter_map(|(at, trial)| Some((at, trial, champion.get(at)?)));
    if let Some((place, ..)) = both().find(|(_, trial, other)| trial.failed > 0 && other.failed == 0) {
        return (Decision::Reverted, format!("{by}; fails {}, where the champion does not", at(place)));
    }
    let gained = match interval {
        Some(Interval { low, high }) => format!("{by}: {gain:+.3}, with 95 % from {low:+.3} to {high:+.3}"),
        None => format!("{by}: {gain:+.3}"),
    };
    if interval.is_some_and(Interval::is_noise) {
        return (Decision::Reverted, format!("{gained}, so it may be noise alone"));
    }
    for (place, trial, other) in both() {
        let (Some(own), Some(others)) = (trial.score(), other.score()) else { continue };
        if others - own > rules.max_drop + EXACT {
            let drop = match rules.compare {
                Compare::Scores => {
                    let most = rules.max_drop;
                    format!("{own:.3} against {others:.3} {} is a drop of more than {most}", at(place))
                }
                Compare::Pairwise => format!("it loses {}", at(place)),
            };
            return (Decision::Reverted, format!("{by}; {drop}"));
        }
    }
    if gain + EXACT < rules.margin {
        return (Decision::Reverted, format!("{gained}, and {:+} is wanted", rules.margin));
    }
    (Decision::Kept, gained)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { margin: 0.02, max_drop: 0.05, samples: 1, compare: Compare::Scores };

    /// Scores by reference run; -1 is a failure, 2 none yet.
    fn trials(scores: &[f64]) -> Trials {
        let trial = |score: f64| match score {
            -1.0 => Trial { draws: vec![Some(0.0)], failed: 1 },
            2.0 => Trial { draws: vec![None], failed: 0 },
            score => Trial { draws: vec![Some(score)], failed: 0 },
        };
        scores.iter().enumerate().map(|(n, &score)| (("m".into(), format!("run{n}")), trial(score))).collect()
    }

    /// Draws on one run.
    fn draws(draws: &[f64]) -> Trials {
        let trial = Trial { draws: draws.iter().copied().map(Some).collect(), failed: 0 };
        [(("m".into(), "run".into()), trial)].into_iter().collect()
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
            let decided = decide(&trials(champion), &challengers, RULES, None);
            let words: Vec<Decision> = decided.iter().map(|one| one.decision).collect();
            assert_eq!(words, wanted, "{champion:?} {decided:?}");
        }
    }

    #[test]
    fn the_reason_names_where_it_got_worse() {
        let decided = decide(&trials(&[0.5, 0.5]), &[trials(&[0.9, 0.2])], RULES, None);
        assert!(decided[0].why.contains("0.200 against 0.500 on `run1` with `m`"), "{decided:?}");
    }

    #[test]
    fn a_difference_within_the_spread_of_the_draws_is_noise() {
        let rules = Rules { samples: 3, ..RULES };
        let before = draws(&[0.4, 0.5, 0.6]);
        for (after, wanted, words) in [
            (&[0.6, 0.7, 0.8][..], Decision::Reverted, "noise"),
            (&[0.8, 0.9, 1.0], Decision::Kept, "+0.400, with 95 % from +0.173 to +0.627"),
            // Worse, but nobody knows.
            (&[0.36, 0.46, 0.56], Decision::Reverted, "noise"),
        ] {
            let decided = decide(&before, &[draws(after)], rules, None);
            assert_eq!(decided[0].decision, wanted, "{decided:?}");
            assert!(decided[0].why.contains(words), "{decided:?}");
        }
    }

    #[test]
    fn comparisons_are_decided_by_points_and_the_best_by_rank() {
        let rules = Rules { compare: Compare::Pairwise, ..RULES };
        let half = draws(&[0.5]);
        let decided = decide(&half, &[draws(&[1.0]), draws(&[0.5]), draws(&[0.0])], rules, None);
        let words: Vec<Decision> = decided.iter().map(|one| one.decision).collect();
        assert_eq!(words, [Decision::Kept, Decision::Reverted, Decision::Reverted]);
        assert!(decided[2].why.contains("it loses on `run`"), "{decided:?}");
        let both = [draws(&[1.0]), draws(&[1.0])];
        let decided = decide(&half, &both, rules, Some(&[1100.0, 1200.0]));
        assert_eq!(decided[1].decision, Decision::Kept, "{decided:?}");
        // Of several draws three wins are not enough, and four are.
        let rules = Rules { samples: 4, ..rules };
        for (points, wanted) in [(&[1.0, 1.0, 1.0, 0.5][..], Decision::Reverted), (&[1.0; 4], Decision::Kept)]
        {
            let decided = decide(&half, &[draws(points)], rules, None);
            assert_eq!(decided[0].decision, wanted, "{decided:?}");
        }
    }
}
