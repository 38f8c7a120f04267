//! Work over a list, on all cores where that pays.

use rayon::prelude::*;

/// With fewer items, to start threads costs more than they save.
pub const WORTH_IT: usize = 1000;

/// What becomes of each item, in their order.
pub fn map<T: Sync, R: Send>(items: &[T], each: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    match items.len() {
        ..WORTH_IT => items.iter().map(each).collect(),
        _ => items.par_iter().map(each).collect(),
    }
}

/// What becomes of a list part by part, in their order.
pub fn by_parts<T: Sync, R: Send>(items: &[T], each: impl Fn(&[T]) -> Vec<R> + Sync + Send) -> Vec<R> {
    match items.len() {
        ..WORTH_IT => each(items),
        _ => items.par_chunks(WORTH_IT).flat_map_iter(each).collect(),
    }
}

/// Two pieces of work over a list of so many items.
pub fn both<A: Send, B: Send>(
    items: usize,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    match items {
        ..WORTH_IT => (one(), other()),
        _ => rayon::join(one, other),
    }
}

/// Frees something of so many parts, if they are many on another core.
pub fn let_go<T: Send + 'static>(items: usize, thing: T) {
    match items {
        ..WORTH_IT => drop(thing),
        _ => rayon::spawn(move || drop(thing)),
    }
}

/// How many cores there are for this process.
#[cfg(target_os = "linux")]
pub fn count() -> usize {
    // Not `available_parallelism`: it reads five files to learn of quotas.
    rustix::thread::sched_getaffinity(None).map_or(1, |cores| cores.count() as usize)
}

/// How many cores there are for this process.
#[cfg(not(target_os = "linux"))]
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
