//! What tasks that never ran are expected to take: at first a guess, then what others like them took in
//! this build.

use std::collections::HashMap;

use super::Build;
use planexe_pipeline::project::Recipe;

/// How long tasks of unknown duration took in this build.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whether the duration of a declaration was a guess when the build began; filled once a task is done.
    guessed: Vec<bool>,
    /// Tasks done and their seconds, by recipe.
    took: HashMap<&'static str, (u32, f64)>,
}

impl Build<'_> {
    /// A task is done and took so long: others like it, of which nothing is known, will take as long.
    /// The schedule is worked out anew at the 1st, 2nd, 4th, 8th … such task: seldom enough for large graphs.
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
        let (count, sum) = self.pace.took.entry(recipe.name()).or_default();
        *count += 1;
        *sum += seconds;
        if !count.is_power_of_two() {
            return;
        }
        let mean = *sum / f64::from(*count);
        let guessed = &self.pace.guessed;
        let like = |other: usize| guessed[other] && specs[other].recipe.name() == recipe.name();
        self.engine.expect(|other, expected| if like(other) { mean } else { expected });
    }
}
