//! Which models a task asks by how hard it is: its complexity is a sum of four marks, a tier takes tasks up to a sum, and
//! what a tier's models cannot do goes to those of the next.

use super::types::{Complexity, OneOrMany, Tables, Task};

/// Each of the four marks is 1 to 5.
pub const MARKS: std::ops::RangeInclusive<u32> = 1..=5;
/// The largest sum.
pub const MOST: u32 = 4 * 5;

impl Complexity {
    /// The marks with their names.
    pub fn marks(&self) -> [(&'static str, u32); 4] {
        let Complexity { reasoning, domain, context, output } = *self;
        [("reasoning", reasoning), ("domain", domain), ("context", context), ("output", output)]
    }

    /// Their sum, 4 to 20.
    pub fn sum(&self) -> u32 {
        self.marks().iter().map(|(_, mark)| *mark).sum()
    }
}

impl Task {
    /// Whether its models follow from a tier.
    pub fn is_tiered(&self) -> bool {
        self.tier.is_some() || self.complexity.is_some()
    }
}

/// The tier of a task, by its place among the tiers: the one it names, or the first that takes its sum.
pub fn tier_of(tables: &Tables, task: &Task) -> Option<usize> {
    match (&task.tier, &task.complexity) {
        (Some(name), _) => tables.tiers.get_index_of(name),
        (None, Some(complexity)) => {
            let sum = complexity.sum();
            tables.tiers.values().position(|tier| sum <= tier.up_to.unwrap_or(MOST))
        }
        (None, None) => None,
    }
}

/// The models a tier asks: its own, then those of the tiers above it, each once.
pub fn models_of(tables: &Tables, tier: usize) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for name in
        tables.tiers.values().skip(tier).flat_map(|tier| tier.model.iter()).flat_map(OneOrMany::as_slice)
    {
        if !models.contains(name) {
            models.push(name.clone());
        }
    }
    models
}

/// Gives every task that has a tier, and names no model, the models of its tier.
pub(super) fn resolve(tables: &mut Tables) {
    if tables.tiers.is_empty() {
        return;
    }
    let chosen: Vec<(usize, Vec<String>)> = (tables.task.values().enumerate())
        .filter(|(_, task)| task.model.is_none())
        .filter_map(|(at, task)| Some((at, models_of(tables, tier_of(tables, task)?))))
        .collect();
    for (at, models) in chosen {
        if let Some((_, task)) = tables.task.get_index_mut(at) {
            task.model = Some(OneOrMany::Many(models));
        }
    }
}
