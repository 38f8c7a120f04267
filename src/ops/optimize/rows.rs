//! How each text did with each model, over all rounds: points, ratings, means and what was used.

use crate::ops::optimize::bench::Bench;
use crate::ops::optimize::judging::Contestant;
use planexe_base::record::Digest;
use planexe_prompt_lab::Variant;
use planexe_prompt_lab::decide::{Decision, Trial, Trials, cases, mean};
use planexe_prompt_lab::elo::{self, Game};
use planexe_prompt_lab::noise;
use planexe_prompt_lab::records::{Judged, Round, Trialled};
use planexe_prompt_lab::results::ResultRow;

/// How each text did with each model, compared run by run.
pub fn rows(bench: &Bench<'_>, variants: &[Variant], rounds: &[Round]) -> Vec<ResultRow> {
    let contestants: Vec<(usize, &String)> =
        (0..variants.len()).flat_map(|at| bench.models.iter().map(move |model| (at, model))).collect();
    let trials: Vec<Vec<Trialled>> = contestants
        .iter()
        .map(|(at, model)| {
            let all = bench.all(std::slice::from_ref(&variants[*at]));
            all.into_iter().filter(|trial| trial.cell.model == **model).collect()
        })
        .collect();
    let games = match bench.judge {
        Some(_) => {
            let who: Vec<Contestant> = contestants
                .iter()
                .map(|(at, model)| (variants[*at].blake3.clone(), (*model).clone()))
                .collect();
            bench.games(&who)
        }
        None => by_scores(&trials),
    };
    let ratings = elo::ratings(contestants.len(), &games);
    let mut rows = Vec::new();
    for (n, (at, model)) in contestants.iter().enumerate() {
        let variant = &variants[*at];
        let (decision, judged) = decision_on(&variant.blake3, rounds);
        let mut row = ResultRow {
            variant: variant.name.clone(),
            blake3: variant.blake3.short().to_owned(),
            model: (*model).clone(),
            elo: ratings[n],
            decision: decision.word().to_owned(),
            why: judged.map(|it| it.why.clone()).unwrap_or_default(),
            gain: judged.and_then(|it| it.gain),
            gain_low: judged.and_then(|it| it.interval).map(|it| it[0]),
            gain_high: judged.and_then(|it| it.interval).map(|it| it[1]),
            noise: judged.is_some_and(|it| it.noise),
            ..ResultRow::default()
        };
        for game in games.iter().filter(|game| game.a == n || game.b == n) {
            let own = if game.a == n { game.result } else { 1.0 - game.result };
            *(if own == 1.0 {
                &mut row.wins
            } else if own == 0.0 {
                &mut row.losses
            } else {
                &mut row.ties
            }) += 1;
        }
        let played = f64::from(row.wins + row.ties + row.losses);
        if bench.judge.is_some() {
            let points = f64::from(row.wins) + f64::from(row.ties) / 2.0;
            row.share = (played > 0.0).then(|| points / played);
        } else {
            let own: Trials =
                bench.trials_of(variant).into_iter().filter(|((with, _), _)| with == *model).collect();
            row.mean = mean(&own);
            row.min = row.mean.and_then(|_| own.values().filter_map(Trial::score).reduce(f64::min));
            row.spread = noise::spread(&cases(&own));
        }
        for Trialled { became, .. } in &trials[n] {
            row.failed += u32::from(became.class.is_some());
            row.calls += became.calls;
            row.tokens += became.input_tokens + became.output_tokens;
            row.cost_usd += became.cost_usd;
            row.seconds += became.seconds;
        }
        rows.push(row);
    }
    rows
}

/// Who has the higher score, run by run and draw by draw.
fn by_scores(trials: &[Vec<Trialled>]) -> Vec<Game> {
    let mut games = Vec::new();
    for a in 0..trials.len() {
        for b in a + 1..trials.len() {
            for (one, other) in trials[a].iter().zip(&trials[b]) {
                if let (Some(x), Some(y)) = (one.became.score, other.became.score) {
                    let tie = (x - y).abs() < 1e-9;
                    let result = if tie { 0.5 } else { f64::from(u8::from(x > y)) };
                    games.push(Game { a, b, result });
                }
            }
        }
    }
    games
}

/// How strong some texts are among each other, over all models.
pub fn rank(bench: &Bench<'_>, variants: &[Variant]) -> Vec<f64> {
    let models = &bench.models;
    let who: Vec<Contestant> = variants
        .iter()
        .flat_map(|variant| models.iter().map(|model| (variant.blake3.clone(), model.clone())))
        .collect();
    let ratings = elo::ratings(who.len(), &bench.games(&who));
    ratings.chunks(models.len()).map(|own| own.iter().sum::<f64>() / own.len() as f64).collect()
}

/// What was decided of a text last.
fn decision_on<'r>(digest: &Digest, rounds: &'r [Round]) -> (Decision, Option<&'r Judged>) {
    let judged = rounds.iter().rev().flat_map(|round| &round.challengers);
    match judged.into_iter().find(|one| one.blake3 == *digest) {
        Some(judged) => (judged.decision, Some(judged)),
        None if rounds.iter().any(|round| round.champion == *digest) => (Decision::Champion, None),
        None => (Decision::Undecided, None),
    }
}
