//! The parts of a build over a made-up pipeline of 1,000 tasks: `cargo bench --bench pipeline`.

#![expect(clippy::disallowed_methods, reason = "a bench makes its own files")]

mod made_up;

use std::sync::LazyLock;

use divan::Bencher;
use planexe_base::record::Digest;
use planexe_engine::graph::{Decl, Graph, Input};
use planexe_engine::scheduler::{Engine, Mode, Options, TaskInfo};
use planexe_engine::slots::Slots;
use planexe_llm::Usage;
use planexe_pipeline::manifest::types::Budget;
use planexe_query::simulate::{Expected, predict, work};
use planexe_store::index::Index;

use made_up::{MadeUp, judge_all};

const TASKS: usize = 1000;

static MADE_UP: LazyLock<MadeUp> = LazyLock::new(|| MadeUp::built(TASKS));

fn main() {
    LazyLock::force(&MADE_UP);
    divan::main();
}

/// TOML, texts and graph.
#[divan::bench]
fn load(bencher: Bencher<'_, '_>) {
    bencher.bench(|| MADE_UP.load());
}

/// Every task, with the digests of all files in the index.
#[divan::bench]
fn judge(bencher: Bencher<'_, '_>) {
    let (project, store) = (MADE_UP.load(), MADE_UP.store());
    let index = Index::load(&store);
    bencher.bench(|| judge_all(&project, &store, &index));
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

/// Files to tasks, order, levels.
#[divan::bench]
fn graph(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(decls).bench_values(|decls| Graph::build(decls).expect("a graph"));
}

/// A whole build on a clock of its own, on 8 slots: judged, started, ended, settled.
#[divan::bench]
fn schedule(bencher: Bencher<'_, '_>) {
    let project = MADE_UP.load();
    let infos: Vec<TaskInfo> =
        (0..TASKS).map(|n| TaskInfo { expected_s: (n % 17) as f64, ..TaskInfo::default() }).collect();
    bencher.bench(|| {
        let slots = Slots::new(&[], &[], 8, 8);
        let mut engine =
            Engine::new(project.graph.clone(), Mode::Build, Options::default(), infos.clone(), slots);
        let all: Vec<_> = project.graph.ids().map(|id| (id, None)).collect();
        engine.want(&all);
        predict(
            engine,
            &Budget::default(),
            &mut |graph, id| {
                let expected = Expected {
                    seconds: (graph[id].decl % 17) as f64,
                    usage: Usage::default(),
                    guessed: false,
                };
                Some((work(&project, graph, id, false, 0), expected))
            },
            &mut |_, _| None,
        )
    });
}

/// A million bytes, as prompts and answers are hashed.
#[divan::bench]
fn hash(bencher: Bencher<'_, '_>) {
    let bytes = vec![7; 1_000_000];
    bencher.counter(divan::counter::BytesCount::of_slice(&bytes)).bench(|| Digest::of(&bytes));
}

/// How a build says that this many files are as they were: the stat calls of a null build.
#[divan::bench]
fn stat(bencher: Bencher<'_, '_>) {
    let run = &MADE_UP.locations.run;
    let all: Vec<_> =
        (0..TASKS).map(|n| run.join(format!("out/{}/{}.txt", n / (TASKS / 10), n % (TASKS / 10)))).collect();
    assert!(planexe_base::fs::signature(&all[0]).is_ok_and(|found| found.is_some()), "the run was built");
    bencher.bench(|| all.iter().filter(|path| planexe_base::fs::signature(path).is_ok()).count());
}
