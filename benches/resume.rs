//! Resume planning over 1,000 done tasks, held against a stored baseline.
//!
//! Machines differ, so that the baseline is a ratio: the time of a plan over the time it takes to hash 64 MiB
//! on the same machine, one after the other in each round. `cargo bench --bench resume` fails if the median
//! is more than half again as long as the baseline; `-- --save` writes a new one.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench makes its own files")]

mod made_up;

use std::time::{Duration, Instant};

use planexe_base::record::Digest;
use planexe_base::run_phase::RunPhase;
use planexe_engine::graph::TaskId;
use planexe_query::resume::resume_view;
use planexe_query::task_state::stand;
use planexe_store::index::Index;

use made_up::{MadeUp, judge_all};

const TASKS: usize = 1000;
const ROUNDS: usize = 15;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/resume.baseline");
/// So much longer than the baseline is a fault.
const TOLERATED: f64 = 1.5;

/// Everything `planexe resume --dry-run` does: read, judge, say where it goes on.
fn plan(made_up: &MadeUp) {
    let project = made_up.load();
    let store = made_up.store();
    let index = Index::load(&store);
    let survey = judge_all(&project, &store, &index);
    let standing = stand(&project, &store, &survey, None);
    let targets: Vec<TaskId> = project.default.clone();
    let view = resume_view(&project, &store, &survey, &standing, RunPhase::Interrupted, &targets);
    std::hint::black_box(view);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let test = !std::env::args().any(|arg| arg == "--bench");
    let made_up = MadeUp::built(if test { 10 } else { TASKS });
    let unit = vec![1u8; 64 << 20];
    let mut rounds: Vec<(f64, Duration)> = (0..if test { 1 } else { ROUNDS })
        .map(|_| {
            let hash = timed(|| drop(std::hint::black_box(Digest::of(&unit))));
            let plan = timed(|| plan(&made_up));
            (plan.as_secs_f64() / hash.as_secs_f64(), plan)
        })
        .collect();
    if test {
        return;
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, time) = rounds[rounds.len() / 2];
    let (least, most) = (rounds[0].0, rounds[rounds.len() - 1].0);
    println!(
        "resume planning over {TASKS} done tasks: {time:.1?}, {ratio:.2} ({least:.2}-{most:.2}) x a hash of 64 MiB"
    );
    if std::env::args().any(|arg| arg == "--save") {
        std::fs::write(BASELINE, format!("{ratio:.2}\n")).expect("the baseline");
        return;
    }
    let stored = std::fs::read_to_string(BASELINE).ok().and_then(|text| text.trim().parse::<f64>().ok());
    match stored {
        Some(baseline) => {
            println!("baseline {baseline:.2}: {:.2} times as long", ratio / baseline);
            assert!(ratio <= baseline * TOLERATED, "slower than the baseline by more than half");
        }
        None => println!("no baseline yet; `-- --save` writes it"),
    }
}
