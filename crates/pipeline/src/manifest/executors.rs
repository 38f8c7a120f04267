//! Executors by name, and amounts of what a task takes on one.

use super::types::{Amount, Executor, ExecutorKind, Map, Resources};

/// What one attempt takes where it runs; 0 where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Cores.
    pub cpus: u32,
    /// MiB of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
    /// Seconds after which a queue ends it.
    pub time: u64,
}

/// The kind of an executor: what it says, or what it is called.
pub fn kind_of(name: &str, executor: &Executor) -> Option<ExecutorKind> {
    executor.kind.or_else(|| ExecutorKind::from_name(name))
}

/// An executor by name, with its table if there is one: `local`, `detached` and `slurm` need none.
pub fn find<'t>(executors: &'t Map<Executor>, name: &str) -> Option<(ExecutorKind, Option<&'t Executor>)> {
    match executors.get(name) {
        // Of one without a kind something else is said.
        Some(executor) => Some((kind_of(name, executor).unwrap_or(ExecutorKind::Local), Some(executor))),
        None => {
            let kind = ExecutorKind::from_name(name).filter(|kind| *kind != ExecutorKind::Command)?;
            Some((kind, None))
        }
    }
}

/// Every name that is known.
pub fn names(executors: &Map<Executor>) -> Vec<String> {
    let own = executors.keys().cloned();
    let known = ["local", "detached", "slurm"].into_iter().map(str::to_owned);
    own.chain(known.filter(|name| !executors.contains_key(name))).collect()
}

/// Every amount, by its key.
pub fn amounts(resources: &Resources) -> [(&'static str, &Option<Amount>); 4] {
    [
        ("cpus", &resources.cpus),
        ("memory", &resources.memory),
        ("gpus", &resources.gpus),
        ("time", &resources.time),
    ]
}

/// Reads an amount into what is taken.
pub fn read(key: &str, amount: &Amount, taken: &mut Taken) -> Result<(), String> {
    match key {
        "cpus" => taken.cpus = amount.count()?,
        "memory" => taken.memory = amount.mebibytes()?,
        "gpus" => taken.gpus = amount.count()?,
        _ => taken.time = amount.seconds()?,
    }
    Ok(())
}

/// Amounts that cannot be read, and why.
pub fn faults(resources: &Resources) -> Vec<(&'static str, String)> {
    let plain = amounts(resources).into_iter().filter_map(|(key, amount)| Some((key, amount.as_ref()?)));
    let plain = plain.filter(|(_, amount)| !amount.is_template());
    plain.filter_map(|(key, amount)| Some((key, read(key, amount, &mut Taken::default()).err()?))).collect()
}

/// Amounts that are known for each item only.
pub fn templates(resources: &Resources) -> Vec<&'static str> {
    let all = amounts(resources).into_iter();
    all.filter(|(_, amount)| amount.as_ref().is_some_and(Amount::is_template)).map(|(key, _)| key).collect()
}
