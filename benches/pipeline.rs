//! The parts of a build over a made-up pipeline of 1,000 tasks: `cargo bench --bench pipeline`.
//! A word after `--` measures only the parts with it in their name.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench makes its own files")]

mod made_up;

use std::hint::black_box;
use std::time::{Duration, Instant};

use planexe_base::record::Digest;
use planexe_engine::graph::{Decl, Graph, Input};
use planexe_engine::scheduler::{Engine, Mode, Options, TaskInfo};
use planexe_engine::slots::Slots;
use planexe_llm::Usage;
use planexe_pipeline::manifest::types::Budget;
use planexe_pipeline::project::Project;
use planexe_query::simulate::{Expected, predict, work};
use planexe_store::index::Index;

use made_up::{MadeUp, judge_all};

const TASKS: usize = 1000;
/// So long is each part repeated.
const MEASURED: Duration = Duration::from_secs(2);

/// Prints the median time of `work` with the least and the most, if its name was asked for. What `prepare` takes is not counted.
fn measure<Made, Result>(
    name: &str,
    mut prepare: impl FnMut() -> Made,
    mut work: impl FnMut(Made) -> Result,
) {
    let mut args = std::env::args().skip(1);
    let test = !std::env::args().any(|arg| arg == "--bench");
    if args.any(|arg| !arg.starts_with('-') && !name.contains(&arg)) {
        return;
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || !test && begin.elapsed() < MEASURED {
        let made = prepare();
        let start = Instant::now();
        let result = black_box(work(made));
        times.push(start.elapsed());
        drop(result);
    }
    times.sort();
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{name:<10} {median:>10.2?}  ({least:.2?}-{most:.2?}, {} times)", times.len());
}

fn main() {
    let made_up = MadeUp::built(TASKS);

    // TOML, texts and graph.
    measure("load", || (), |()| made_up.load());

    // Every task, with the digests of all files in the index.
    let (project, store) = (made_up.load(), made_up.store());
    let index = Index::load(&store);
    measure("judge", || (), |()| judge_all(&project, &store, &index));

    // Files to tasks, order, levels.
    measure("graph", decls, |decls| Graph::build(decls).expect("a graph"));

    // A whole build on a clock of its own, on 8 slots: judged, started, ended, settled.
    let infos: Vec<TaskInfo> =
        (0..TASKS).map(|n| TaskInfo { expected_s: (n % 17) as f64, ..TaskInfo::default() }).collect();
    measure("schedule", || infos.clone(), |infos| schedule(&project, infos));

    // A million bytes, as prompts and answers are hashed.
    let bytes = vec![7; 1_000_000];
    measure("hash", || (), |()| Digest::of(&bytes));

    // How a build says that this many files are as they were: the stat calls of a null build.
    let run = &made_up.locations.run;
    let width = TASKS / 10;
    let all: Vec<_> = (0..TASKS).map(|n| run.join(format!("out/{}/{}.txt", n / width, n % width))).collect();
    assert!(planexe_base::fs::signature(&all[0]).is_ok_and(|found| found.is_some()), "the run was built");
    measure("stat", || (), |()| all.iter().filter(|path| planexe_base::fs::signature(path).is_ok()).count());
}

fn decls() -> Vec<Decl> {
    let width = TASKS / 10;
    let input = |layer: usize, at: usize| {
        let pattern = format!("{layer}/{at}");
        Input { name: pattern.clone(), pattern, glob: false, optional: false }
    };
    let task = |n: usize| {
        let (layer, at) = (n / width, n % width);
        let inputs = if layer == 0 {
            Vec::new()
        } else {
            vec![input(layer - 1, at), input(layer - 1, (at * 7 + 3) % width)]
        };
        Decl {
            name: format!("t{n}"),
            recipe: true,
            inputs,
            outputs: vec![format!("{layer}/{at}")],
            ..Decl::default()
        }
    };
    (0..TASKS).map(task).collect()
}

fn schedule(project: &Project, infos: Vec<TaskInfo>) -> impl Sized + use<> {
    let slots = Slots::new(&[], &[], 8, 8);
    let mut engine = Engine::new(project.graph.clone(), Mode::Build, Options::default(), infos, slots);
    let all: Vec<_> = project.graph.ids().map(|id| (id, None)).collect();
    engine.want(&all);
    predict(
        engine,
        &Budget::default(),
        &|_, _, _| false,
        &mut |graph, id| {
            let expected =
                Expected { seconds: (graph[id].decl % 17) as f64, usage: Usage::default(), guessed: false };
            Some((work(project, graph, id, false, 0), expected))
        },
        &mut |_, _| None,
    )
}
