//! Executors by name, and amounts of what a task takes on one.

use super::types::{Amount, Executor, ExecutorKind, Map, Resources, Service};

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

/// What tasks and services of this machine share, as far as the pipeline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Cores, else as many as there are.
    pub cpus: Option<u32>,
    /// MiB of memory, else all there is.
    pub memory: Option<u64>,
    /// GPUs.
    pub gpus: u32,
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

/// What a service takes where it runs: of its executor what it does not say itself. What cannot be read is told elsewhere.
pub fn of_service(executors: &Map<Executor>, service: &Service) -> Taken {
    let mut taken = Taken::default();
    let of_executor = service.executor.as_ref().and_then(|name| find(executors, name)?.1);
    for resources in of_executor.map(|table| &table.resources).into_iter().chain([&service.resources]) {
        for (key, amount) in amounts(resources) {
            let _ = amount.as_ref().map(|amount| read(key, amount, &mut taken));
        }
    }
    taken
}

/// What `[executors.local]`, or its table by another name, says of what there is to share on this machine.
pub fn shared(executors: &Map<Executor>) -> Shared {
    let local = executors.iter().find(|(name, it)| kind_of(name, it) == Some(ExecutorKind::Local));
    let local = local.map(|(_, table)| table);
    Shared {
        cpus: local.and_then(|it| it.cpus),
        memory: local.and_then(|it| it.memory.as_ref()?.mebibytes().ok()),
        gpus: local.and_then(|it| it.gpus).unwrap_or(1),
    }
}

/// Memory as it is written: `512M`, `1.5G`, `64G`, `2T`.
pub fn memory_in_words(mebibytes: u64) -> String {
    let (unit, name) = match mebibytes {
        0..0x400 => (1, 'M'),
        0x400..0x10_0000 => (0x400, 'G'),
        _ => (0x10_0000, 'T'),
    };
    match mebibytes % unit {
        0 => format!("{}{name}", mebibytes / unit),
        _ => format!("{:.1}{name}", mebibytes as f64 / unit as f64),
    }
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
