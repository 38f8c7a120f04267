//! `planexe complexity`: how hard each task is said to be, which tier of models that means, and what its calls were
//! expected to use and did use.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::style::{self, Style, clean};
use planexe_llm::estimate;
use planexe_pipeline::manifest::tiers::tier_of;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Spec;
use planexe_ui::views::table;

/// Of a task of which nothing says more: so many tokens of an answer for each point of its complexity.
const TOKENS_A_POINT: u64 = 100;

/// What `planexe complexity` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ComplexityArgs {}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    tasks: Vec<Row>,
}

/// A task that asks models.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Row {
    task: String,
    /// The sum of its four marks.
    complexity: Option<u32>,
    tier: Option<String>,
    /// In the order in which they are asked.
    models: Vec<String>,
    /// A call, as estimated: tokens of prompt and answer.
    expected_tokens: u64,
    /// At the price of the first model.
    expected_cost_usd: f64,
    /// Calls made for it in this run, those that failed too.
    calls: u64,
    /// Tokens of a call, as it was.
    used_tokens: Option<u64>,
    /// Cost of a call, as it was.
    used_cost_usd: Option<f64>,
}

/// Tells.
pub fn run(session: &Session, _: &ComplexityArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let used = opened.store.usage_lines()?;
    let mut tasks = Vec::new();
    for spec in opened.project.specs.iter().filter(|spec| spec.recipe.prompt().is_some()) {
        let mut row = expected(&opened, spec);
        let own = used.iter().filter(|line| line.task.split('[').next() == Some(&spec.name));
        let (mut tokens, mut cost) = (0, 0.0);
        for line in own {
            row.calls += 1;
            tokens += line.input_tokens + line.output_tokens;
            cost += line.cost_usd;
        }
        row.used_tokens = u64::checked_div(tokens, row.calls);
        row.used_cost_usd = row.used_tokens.map(|_| cost / row.calls as f64);
        tasks.push(row);
    }
    let view = View { tasks };
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &view)?;
    } else {
        session.print(&text(&view.tasks, &session.out))?;
    }
    Ok(exit::DONE)
}

/// What is known before a call: the prompt's text, the files it is filled with that are there, and how hard it is.
fn expected(opened: &Opened, spec: &Spec) -> Row {
    let project = &opened.project;
    let tables = &project.tables;
    let prompt = spec.recipe.prompt();
    let written = tables.task.get(spec.name.as_str());
    let tier = written.and_then(|task| tier_of(tables, task)).and_then(|at| tables.tiers.get_index(at));
    let complexity = written.and_then(|task| task.complexity.as_ref()).map(|complexity| complexity.sum());
    let models = prompt.map_or(&[][..], |prompt| &prompt.models);
    let texts = prompt.into_iter().flat_map(|prompt| prompt.system.iter().chain([&prompt.prompt]));
    let mut input: u64 = texts.map(|template| estimate::tokens(&template.source.text)).sum();
    if let Some(id) = project.graph.find(&spec.name) {
        let files = project.graph[id].inputs.iter().filter(|input| !input.glob);
        let sizes =
            files.filter_map(|file| fs::linked::signature(&project.input(&file.pattern)).ok().flatten());
        input += sizes.map(|signature| signature.size / 4).sum::<u64>();
    }
    let output = u64::from(complexity.unwrap_or(10)) * TOKENS_A_POINT;
    let asked = models.first().map(|&at| &project.endpoints[at].model);
    let price = asked.and_then(|model| model.price).unwrap_or_default();
    let share = asked.map_or(1.0, |model| model.expected_share());
    Row {
        task: spec.name.clone(),
        complexity,
        tier: tier.map(|(name, _)| name.clone()),
        models: models.iter().map(|&at| project.endpoints[at].name.clone()).collect(),
        expected_tokens: input + output,
        expected_cost_usd: price.uncached(input, output) * share,
        calls: 0,
        used_tokens: None,
        used_cost_usd: None,
    }
}

fn text(rows: &[Row], style: &Style) -> String {
    let heads = ["task", "sum", "tier", "models", "expected", "used", "calls"];
    let heads = heads.iter().map(|head| style.dim(head)).collect();
    let amount = |tokens: u64, cost: f64| match cost > 0.0 {
        true => format!("{} tok {}", style::tokens(tokens), style::money(cost)),
        false => format!("{} tok", style::tokens(tokens)),
    };
    let row = |row: &Row| {
        vec![
            clean(&row.task),
            row.complexity.map_or("-".to_owned(), |sum| sum.to_string()),
            row.tier.as_deref().map_or("-".to_owned(), clean),
            clean(&row.models.join(", ")),
            amount(row.expected_tokens, row.expected_cost_usd),
            row.used_tokens
                .map_or("-".to_owned(), |tokens| amount(tokens, row.used_cost_usd.unwrap_or_default())),
            row.calls.to_string(),
        ]
    };
    let all: Vec<Vec<String>> = std::iter::once(heads).chain(rows.iter().map(row)).collect();
    table(&all, style)
}
