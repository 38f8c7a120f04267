//! What an experiment is expected to use: `-n`.

use crate::ops::optimize::bench::Bench;
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_llm::estimate;
use planexe_prompt_lab::view::Amount;
use planexe_prompt_lab::{Reference, Variant};

impl Bench<'_> {
    /// What is expected to be used at most. `propose`: so many texts will be written in each of so many rounds.
    pub fn forecast(&mut self, variants: &[Variant], propose: u64, rounds: u64) -> Result<Amount, Error> {
        let proposals = propose * rounds;
        let refs: Vec<&Variant> = variants.iter().collect();
        // An evaluator's call for each trial; with a judge two for each comparison instead.
        let eval = self.judge.is_none()
            && self.subject.spec().eval.as_ref().is_some_and(|eval| eval.prompt().is_some());
        let mut amount = Amount::default();
        let each = |text: &str, model: &str, run: &Reference, answers: u64, amount: &mut Amount| {
            let bytes: u64 = run
                .files
                .iter()
                .filter_map(|(_, _, path)| fs::linked::signature(path).ok().flatten())
                .map(|signature| signature.size)
                .sum();
            let input = estimate::tokens(text) + bytes / 4;
            let past = self.past();
            let output = past.map_or(500, |(tokens, _)| tokens);
            let endpoint = self.opened.project.endpoints.iter().find(|one| one.name == model);
            let price = endpoint.and_then(|endpoint| endpoint.model.price).unwrap_or_default();
            let share = endpoint.map_or(1.0, |endpoint| endpoint.model.expected_share());
            let calls = answers * (1 + u64::from(eval));
            amount.trials += 1;
            amount.calls += calls;
            amount.tokens += (input + output) * calls;
            amount.cost_usd += price.uncached(input, output) * share * calls as f64;
            let at_once = endpoint.map_or(1, |it| planexe_llm::limits_of(&it.model).max_concurrent);
            let seconds = answers as f64 * past.map_or(0.0, |(_, seconds)| seconds);
            amount.seconds += seconds / f64::from(at_once.max(1));
        };
        let begun = self.unmade(variants)?;
        for cell in self.cells(&refs) {
            let variant = variants.iter().find(|variant| variant.blake3 == cell.variant);
            let run = self.references.iter().find(|run| run.name == cell.run);
            let (Some(variant), Some(run)) = (variant, run) else { continue };
            match begun.get(&cell.id).copied().unwrap_or(run.answers) {
                0 => {}
                answers => each(&variant.text, &cell.model, run, answers, &mut amount),
            }
        }
        for _ in 0..proposals {
            for model in &self.models {
                for run in &self.references {
                    for _ in 0..self.samples {
                        each(&variants[0].text, model, run, run.answers, &mut amount);
                    }
                }
            }
            amount.calls += 1;
        }
        if self.judge.is_some() {
            self.recall(variants)?;
            let answers: u64 = self.references.iter().map(|run| run.answers).sum();
            let cases = self.models.len() as u64 * answers * u64::from(self.samples);
            // Those of a round meet its champion, and each other.
            amount.comparisons = self.to_judge(variants)? + rounds * cases * propose * (propose + 1) / 2;
            amount.calls += 2 * amount.comparisons;
            // Each is shown two answers, and what they were made from, and says little itself.
            let answer = self.past().map_or(500, |(tokens, _)| tokens);
            amount.tokens += 2 * amount.comparisons * (2 * answer + 500);
        }
        Ok(amount)
    }

    /// Tokens of an answer and seconds of a call of the task, as they were in the run and in earlier trials.
    fn past(&self) -> Option<(u64, f64)> {
        let own = self.subject.spec().name.as_str();
        let lines = self.opened.store.usage_lines().unwrap_or_default();
        let lines = lines.into_iter().filter(|line| line.task.split('[').next() == Some(own));
        let all: Vec<_> =
            lines.chain(self.store.usage_lines().unwrap_or_default()).filter(|it| it.success).collect();
        let count = all.len() as u64;
        (count > 0).then(|| {
            let tokens = all.iter().map(|line| line.output_tokens).sum::<u64>() / count;
            (tokens, all.iter().map(|line| line.duration_seconds).sum::<f64>() / count as f64)
        })
    }
}
