//! What a build of everything would take, with the durations of earlier builds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;

use crate::ops::Session;
use crate::ops::build::{ask_only, find_model, run_on, slots_with, target_ids, task_infos};
use crate::ops::plan::past;
use planexe_base::exit::Error;
use planexe_build::check_staleness::StaleCheck;
use planexe_engine::graph::{Graph, TaskId, is_item};
use planexe_engine::scheduler::{Engine, Mode, Options};
use planexe_engine::staleness::Rules;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::{Project, Spec};
use planexe_query::simulate::{Expected, predict, work};
use planexe_store::index::Index;
use planexe_ui::views::simulate::Predicted;
use planexe_ui::views::{PredictedRow, SimulateView};

/// Rows of the table: slots of each model.
const ROWS: [u32; 5] = [1, 2, 4, 8, 16];

/// What is predicted.
#[derive(Debug, Clone, Default)]
pub struct SimulateOptions {
    /// Tasks or outputs; none: what the pipeline names.
    pub targets: Vec<String>,
    /// So many tasks at once.
    pub jobs: Option<u32>,
    /// This model instead of those the tasks name.
    pub model: Option<String>,
    /// This executor instead of those the tasks name.
    pub executor: Option<String>,
    /// Slots of a model, whatever the row.
    pub slots: Vec<(String, u32)>,
    /// Requests per minute of a model.
    pub rpm: Vec<(String, u32)>,
    /// Tokens per minute of a model.
    pub tpm: Vec<(String, u64)>,
    /// How fast models are, in place of what earlier calls took.
    pub speed: Vec<(String, Speed)>,
    /// How many times as long answers are as those of earlier builds.
    pub answers: Option<f64>,
    /// At which price calls are made, whatever their model says.
    pub price: Option<Price>,
}

/// At which price calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Price {
    /// At the whole price.
    Now,
    /// At half the price.
    Flex,
    /// At half the price, together with all that are ready, in so long.
    Batch(Duration),
}

/// What a call costs that can wait.
const HALF: f64 = 0.5;

/// Calls that may be in batches at once.
const IN_BATCHES: u32 = 1_000;

/// How fast a model is, in tokens per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Of the prompt.
    pub read: f64,
    /// Of the answer.
    pub written: f64,
}

/// Limits by the position of their model.
fn by_model<N: Copy>(opened: &Opened, limits: &[(String, N)]) -> Result<HashMap<usize, N>, Error> {
    limits.iter().map(|(name, limit)| Ok((find_model(opened, name)?, *limit))).collect()
}

/// Predicts; reads only.
pub fn simulate(
    session: &Session,
    opened: &mut Opened,
    options: &SimulateOptions,
) -> Result<SimulateView, Error> {
    let mut unpriced = None;
    if let Some(model) = &options.model {
        ask_only(opened, model)?;
        let asked = &opened.project.endpoints[find_model(opened, model)?];
        unpriced = asked.model.price.is_none().then(|| model.clone());
    }
    if let Some(executor) = &options.executor {
        run_on(session, opened, executor)?;
    }
    let fixed = by_model(opened, &options.slots)?;
    let (rpm, tpm) = (by_model(opened, &options.rpm)?, by_model(opened, &options.tpm)?);
    let speeds = by_model(opened, &options.speed)?;
    let targets = target_ids(opened, &options.targets)?;
    let index = Index::load(&opened.store);
    let past = past(opened, &index)?;
    let project = &*opened.project;
    let predicted = |slots: Option<u32>| -> Predicted {
        let infos = task_infos(project, &index);
        let (slots, _) = slots_with(project, options.jobs, |at, limits| {
            limits.max_concurrent = fixed.get(&at).copied().or(slots).unwrap_or(limits.max_concurrent);
            if matches!(options.price, Some(Price::Batch(_))) {
                limits.max_concurrent = IN_BATCHES;
            }
            limits.rpm = rpm.get(&at).copied().or(limits.rpm);
            limits.tpm = tpm.get(&at).copied().or(limits.tpm);
        });
        let mut engine = Engine::new(project.graph.clone(), Mode::Build, Options::default(), infos, slots);
        engine.know(index.usual_durations(is_item));
        engine.want(&targets);
        let mut runs = |graph: &Graph, id: TaskId| {
            let spec = project.spec(&graph[id]);
            let mut expected = past.expected(project, graph, id, asks(spec));
            as_fast(project, spec, &mut expected, &speeds, options);
            let tokens = expected.usage.input_tokens + expected.usage.output_tokens;
            Some((work(project, graph, id, true, tokens), expected))
        };
        let finder = Finder::new(&opened.store);
        let env = |name: &str| session.variable(name);
        let judge = StaleCheck {
            project,
            store: &opened.store,
            index: &index,
            finder: &finder,
            rules: Rules::default(),
            anew: Arc::default(),
            no_reuse: true,
            env: &env,
        };
        let may_need = |graph: &Graph, id, service| project.may_need(project.spec(&graph[id]), service);
        predict(engine, &project.tables.budget, &may_need, &mut runs, &mut |graph, family| {
            judge.items(graph, family).ok()
        })
    };
    let more = ROWS.par_iter().map(|&slots| Some(slots));
    let slots = rayon::iter::once(None).chain(more);
    let row = |slots| PredictedRow { slots, predicted: predicted(slots) };
    let mut rows: Vec<PredictedRow> = match opened.project.specs.iter().any(asks) {
        true => slots.map(row).collect(),
        false => vec![row(None)],
    };
    // Without calls there is nothing of which a row could have more, and a batch takes all there are.
    let is_batch = matches!(options.price, Some(Price::Batch(_)));
    if is_batch || rows.first().is_some_and(|row| row.predicted.usage.calls == 0) {
        rows.truncate(1);
    }
    // A server may have said what its answers cost.
    let unpriced = unpriced.filter(|_| rows.iter().all(|row| row.predicted.usage.cost_usd == 0.0));
    Ok(SimulateView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        run_dir: project.run.display().to_string(),
        pipeline: project.name.clone(),
        rows,
        unpriced,
    })
}

/// What a task takes with a model of this speed, and answers of this length.
fn as_fast(
    project: &Project,
    spec: &Spec,
    expected: &mut Expected,
    speeds: &HashMap<usize, Speed>,
    options: &SimulateOptions,
) {
    let model = spec.prompts().next().and_then(|prompt| prompt.models.first().copied());
    let Some(model) = model else { return };
    let asked = &project.endpoints[model].model;
    let share = asked.expected_share();
    let usage = &mut expected.usage;
    if let Some(factor) = options.answers {
        usage.output_tokens = (usage.output_tokens as f64 * factor).round() as u64;
        if let Some(price) = asked.price {
            usage.cost_usd = planexe_llm::cost(usage, &price) * share;
        }
    }
    if let Some(speed) = speeds.get(&model) {
        expected.seconds =
            usage.input_tokens as f64 / speed.read + usage.output_tokens as f64 / speed.written;
    }
    match options.price {
        None => {}
        Some(Price::Now) => usage.cost_usd /= share,
        Some(Price::Flex) => usage.cost_usd *= HALF / share,
        Some(Price::Batch(takes)) => {
            usage.cost_usd *= HALF / share;
            expected.seconds = takes.as_secs_f64();
        }
    }
}

fn asks(spec: &Spec) -> bool {
    spec.prompts().next().is_some()
}
