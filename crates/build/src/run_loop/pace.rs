//! The time of a build: since when it runs, and what tasks that never ran are expected to take; at first a guess, then
//! what others like them took in this build.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Build;
use planexe_pipeline::project::Recipe;

/// Since when a build runs, and how long tasks of unknown duration took in it.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Whether the duration of a declaration was a guess when the build began; filled once a task is done.
    guessed: Vec<bool>,
    /// Tasks done and their seconds, by recipe.
    took: HashMap<&'static str, (u32, f64)>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { began: Instant::now(), guessed: Vec::new(), took: HashMap::new() }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The time since the build began, as the engine is told it.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A task of a recipe took so long; the mean of its like, at the 1st, 2nd, 4th, 8th … such task: the schedule is worked
    /// out anew then, which is seldom enough for large graphs.
    fn add(&mut self, recipe: &'static str, seconds: f64) -> Option<f64> {
        let (count, sum) = self.took.entry(recipe).or_default();
        *count += 1;
        *sum += seconds;
        count.is_power_of_two().then(|| *sum / f64::from(*count))
    }
}

impl Build<'_> {
    /// A task is done and took so long: others like it, of which nothing is known, will take as long.
    pub(super) fn keep_pace(&mut self, decl: usize, seconds: f64) {
        let specs = &self.project.specs;
        if self.pace.guessed.is_empty() {
            let index = &self.ctx.index;
            self.pace.guessed = specs.iter().map(|spec| index.usual_duration(&spec.name).is_none()).collect();
        }
        let recipe = &specs[decl].recipe;
        if !matches!(recipe, Recipe::Prompt(_) | Recipe::Command(_)) || !self.pace.guessed[decl] {
            return;
        }
        let Some(mean) = self.pace.add(recipe.name(), seconds) else { return };
        let guessed = &self.pace.guessed;
        let like = |other: usize| guessed[other] && specs[other].recipe.name() == recipe.name();
        self.engine.expect(|other, expected| if like(other) { mean } else { expected });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_told_at_each_power_of_two() {
        let mut pace = Pace::new();
        let told: Vec<Option<f64>> = [2.0, 4.0, 6.0, 8.0].map(|s| pace.add("prompt", s)).into();
        assert_eq!(told, [Some(2.0), Some(3.0), None, Some(5.0)]);
        assert_eq!(pace.add("command", 1.0), Some(1.0));
    }
}
