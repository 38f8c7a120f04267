//! What the README shows is true: its pipeline loads.

#![expect(clippy::disallowed_methods, reason = "a test makes its own files")]

#[path = "docs/numbers.rs"]
mod numbers;

use std::collections::{BTreeSet, HashSet};

use planexe_base::call::Usage;
use planexe_base::event::{Kind, Queued, Summary};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::Failure;
use planexe_llm::Class;
use planexe_pipeline::load::{Locations, load};

#[path = "docs/command_lines.rs"]
mod command_lines;
#[path = "docs/flagship.rs"]
mod flagship;
#[path = "docs/keys.rs"]
mod keys;
#[path = "docs/lists.rs"]
mod lists;
#[path = "docs/pieces.rs"]
mod pieces;

pub(crate) const README: &str = include_str!("../README.md");

#[test]
fn the_pipeline_of_the_readme_loads() {
    let start = README.find("```toml\n").expect("a pipeline") + "```toml\n".len();
    let length = README[start..].find("```").expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect(name);
    std::fs::create_dir(folder.path().join("prompts")).expect("prompts");
    put("pipeline.toml", &README[start..start + length]);
    put("plan.txt", "A bakery.\n");
    put("prompts/summary.md", "Sum up:\n\n{{ swot }}\n");
    let locations = Locations {
        run: folder.path().to_owned(),
        pipeline: folder.path().join("pipeline.toml"),
        ..Locations::default()
    };
    if let Err(faults) = load(&locations) {
        panic!("{}", faults.render(false, 100));
    }
}

#[test]
fn the_tests_that_the_page_of_situations_names_exist() {
    let mut sources = String::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("tests").flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => sources += &std::fs::read_to_string(entry.path()).expect("a test"),
            }
        }
    }
    let rows: Vec<&str> = include_str!("../docs/scenarios.md").lines().skip(7).collect();
    assert!(rows.len() > 20);
    for row in rows {
        let named = row.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
        let mut found = 0;
        for name in named {
            let function = name.rsplit("::").next().expect("a name");
            assert!(sources.contains(&format!("fn {function}()")), "{name} is no test");
            found += 1;
        }
        assert!(found > 0, "no test in {row}");
    }
}

/// Every piece of TOML in docs/checks.md and docs/gates.md is put into a pipeline with the inputs it names.
#[test]
fn the_examples_of_checks_load() {
    let text = concat!(include_str!("../docs/checks.md"), include_str!("../docs/gates.md"));
    let pieces: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("its end")).collect();
    assert!(pieces.len() >= 9, "{}", pieces.len());
    for piece in pieces {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect(name);
        std::fs::create_dir(folder.path().join("schemas")).expect("schemas");
        put("schemas/levers.json", r#"{"type": "object"}"#);
        put("words.txt", "synergy\n");
        std::fs::create_dir(folder.path().join("words")).expect("words");
        for list in ["plain", "ban", "include"] {
            put(&format!("words/{list}.txt"), "synergy\n");
        }
        for (name, text) in [
            ("plan.txt", "A bakery.\n"),
            ("tree.json", "{}"),
            ("limits.json", "{}"),
            ("assessment.json", "{}"),
            ("choices.md", "A or B\n"),
        ] {
            put(name, text);
        }
        let task = |name: &str| {
            format!(
                "[task.{name}]\ninputs = [\"tree.json\", \"limits.json\"]\noutputs = [\"{name}.json\"]\nprompt = \"go on\"\n"
            )
        };
        let head = "[models.m]\napi = \"simulated\"\n[defaults]\nmodel = \"m\"\n[vars]\nstyle = \"plain\"\n";
        let body = match piece {
            _ if piece.starts_with("[task.") => piece.to_owned(),
            _ if piece.starts_with("[[task.") => {
                let name = piece.split('.').nth(1).expect("a task");
                format!("{}{piece}", task(name))
            }
            _ => format!("{}[task.x.check]\n{piece}", task("x")),
        };
        put("pipeline.toml", &format!("{head}{body}"));
        let locations = Locations {
            run: folder.path().to_owned(),
            pipeline: folder.path().join("pipeline.toml"),
            ..Locations::default()
        };
        if let Err(faults) = load(&locations) {
            panic!("{piece}\n{}", faults.render(false, 100));
        }
    }
}

#[test]
fn the_page_of_models_has_tables_that_load_and_every_class_of_failure() {
    let text = include_str!("../docs/models.md");
    let pieces: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("its end")).collect();
    assert!(pieces.len() >= 3, "{}", pieces.len());
    for piece in pieces {
        let folder = tempfile::tempdir().expect("a folder");
        let pipeline = folder.path().join("pipeline.toml");
        let name = piece.split(['.', ']']).nth(1).expect("a model");
        let task = format!("[task.a]\nmodel = \"{name}\"\noutputs = [\"a.txt\"]\nprompt = \"go on\"\n");
        std::fs::write(&pipeline, format!("{piece}\n{task}")).expect("a pipeline");
        let locations = Locations { run: folder.path().to_owned(), pipeline, ..Locations::default() };
        if let Err(faults) = load(&locations) {
            panic!("{piece}\n{}", faults.render(false, 100));
        }
    }
    let table = text.split("## When it goes wrong").nth(1).and_then(|rest| rest.split("\n## ").next());
    let named =
        table.expect("the table").lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let classes: BTreeSet<Class> = named
        .map(|name| serde_json::from_value(name.into()).unwrap_or_else(|_| panic!("`{name}` is no class")))
        .collect();
    // The first and the last, as they are declared, and as many as there are between them.
    let ends = (classes.first().copied(), classes.last().copied());
    assert_eq!(ends, (Some(Class::ServerLoading), Some(Class::Cancelled)));
    assert_eq!(classes.len(), Class::Cancelled as usize + 1, "{classes:?}");
}

#[test]
fn the_page_of_formats_names_classes_that_there_are() {
    let page = include_str!("../docs/formats.md");
    let named = page.split("the others are ").nth(1).and_then(|rest| rest.split(';').next());
    let classes: Vec<FailureClass> =
        named.expect("the list").split('`').skip(1).step_by(2).map(FailureClass::from_name).collect();
    let (first, last) = (classes.first(), classes.last());
    assert_eq!((first, last), (Some(&FailureClass::Exit), Some(&FailureClass::Internal)));
    let other = classes.iter().find(|class| matches!(class, FailureClass::Call(_) | FailureClass::Other(_)));
    assert_eq!(other, None);
    let different: HashSet<&FailureClass> = classes.iter().collect();
    assert_eq!(different.len(), 26);
}

#[test]
fn the_flagship_page_lists_every_task_with_its_files() {
    let page = include_str!("../docs/flagship.md");
    let locations = Locations {
        run: std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/personal-plan"),
        pipeline: std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.toml"),
        ..Locations::default()
    };
    let project = load(&locations).unwrap_or_else(|faults| panic!("{}", faults.render(false, 100)));
    let missing: Vec<String> = (project.graph.order().iter())
        .filter_map(|&id| {
            let task = &project.graph[id];
            let start = format!("| `{}` |", task.name);
            let lists = |row: &str| task.outputs.iter().all(|path| row.contains(&format!("`{path}`")));
            let whole = page.lines().any(|line| line.starts_with(&start) && lists(line));
            (!whole).then(|| task.name.clone())
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(page.contains(&format!("\n{} tasks: ", project.specs.len())), "the number of tasks");
    assert!(!page.contains("|\n\n|"), "a table is cut in two");
}

/// One of each event, with all that it may have.
fn events() -> Vec<Kind> {
    let (task, message) = (String::from("swot"), String::from("x"));
    let (model, failure, usage) = (Some(message.clone()), Failure::default(), Usage::default());
    let (pipeline, run_id_dir, recipe) = (message.clone(), message.clone(), message.clone());
    let (doing, next, output) = (message.clone(), message.clone(), model.clone());
    let summary = Summary::default();
    let [executor, submitted_utc, began_utc] = ["farm", "t", "t"].map(str::to_owned);
    let queued = Queued { executor, submitted_utc, began_utc };
    let all = vec![
        Kind::PipelineStarted { schema: 1, pipeline, run_id_dir, steps_total: 1 },
        Kind::TaskStale { task: task.clone(), reasons: vec![] },
        Kind::TaskStarted { task: task.clone(), attempt: 1, model: model.clone(), recipe },
        Kind::TaskProgress { task: task.clone(), doing },
        Kind::TaskRetrying { task: task.clone(), attempt: 1, failure: failure.clone(), next, waits: false },
        Kind::TaskCompleted {
            task: task.clone(),
            attempt: 1,
            model: model.clone(),
            duration_s: 1.0,
            usage,
            step: 1,
            reused: false,
            unchanged: false,
            sample: false,
            partial: false,
            output,
            passed_utc: Some(message.clone()),
            queued: Some(queued.clone()),
        },
        Kind::TaskFailed {
            task: task.clone(),
            attempt: 1,
            model: model.clone(),
            failure,
            blocked: 1,
            kept: true,
            queued: Some(queued.clone()),
        },
        Kind::TaskSkipped { task: task.clone() },
        Kind::TaskWaiting { task: task.clone(), message: message.clone().into() },
        Kind::TaskStopped { task: task.clone() },
        Kind::TaskStalled { task: task.clone(), idle_s: 1.0 },
        Kind::TaskRescued { task: task.clone(), attempt: 1, model, score: None },
        Kind::Note { task: Some(task), message: message.clone(), warning: false },
        Kind::ModelParked { model: "m".to_owned(), until_utc: "t".to_owned(), message: message.clone() },
        Kind::ModelResumed { model: "m".to_owned() },
        Kind::BatchSubmitted { model: "m".to_owned(), batch: "b".to_owned(), calls: 1 },
        Kind::BatchEnded { model: "m".to_owned(), batch: "b".to_owned(), calls: 1, answered: 1 },
        Kind::BatchStuck { model: "m".to_owned(), batch: "b".to_owned(), message: message.clone() },
        Kind::ServiceChanged {
            service: "s".to_owned(),
            state: "ready".to_owned(),
            message: message.clone(),
            queued: Some(queued),
        },
        Kind::PipelinePaused { message: message.clone() },
        Kind::PipelineCompleted { summary: summary.clone() },
        Kind::PipelineFailed { summary: summary.clone() },
        Kind::PipelineStopped { summary, message },
    ];
    for kind in &all {
        // A new event does not compile before it is in the list above.
        match kind {
            Kind::PipelineStarted { .. }
            | Kind::TaskStale { .. }
            | Kind::TaskStarted { .. }
            | Kind::TaskProgress { .. }
            | Kind::TaskRetrying { .. }
            | Kind::TaskCompleted { .. }
            | Kind::TaskFailed { .. }
            | Kind::TaskSkipped { .. }
            | Kind::TaskWaiting { .. }
            | Kind::TaskStopped { .. }
            | Kind::TaskStalled { .. }
            | Kind::TaskRescued { .. }
            | Kind::Note { .. }
            | Kind::ModelParked { .. }
            | Kind::ModelResumed { .. }
            | Kind::BatchSubmitted { .. }
            | Kind::BatchEnded { .. }
            | Kind::BatchStuck { .. }
            | Kind::ServiceChanged { .. }
            | Kind::PipelinePaused { .. }
            | Kind::PipelineCompleted { .. }
            | Kind::PipelineFailed { .. }
            | Kind::PipelineStopped { .. } => {}
        }
    }
    all
}

#[test]
fn every_field_of_every_event_is_described() {
    let doc = include_str!("../docs/events.md");
    let log = &doc[doc.find("### The log").expect("the log")..doc.find("## Webhooks").expect("webhooks")];
    for kind in events() {
        let line = serde_json::to_value(&kind).expect("JSON");
        let name = format!("`{}`", line["event"].as_str().expect("a name"));
        let row = log
            .lines()
            .find(|row| row.split('|').nth(1).is_some_and(|first| first.contains(&name)))
            .unwrap_or_else(|| panic!("no row for {name}"));
        for field in line.as_object().expect("an object").keys().filter(|field| *field != "event") {
            assert!(row.contains(&format!("`{field}`")), "{name}: `{field}` is not described");
        }
    }
    let some = || vec![String::from("x")];
    let summary = Summary { rescued: some(), warned: some(), ..Summary::default() };
    let summary = serde_json::to_value(summary).expect("JSON");
    for field in summary.as_object().expect("an object").keys() {
        assert!(log.contains(&format!("`{field}`")), "summary: `{field}` is not described");
    }
}

#[test]
fn the_page_of_the_agent_names_every_tool_argument_and_error() {
    let page = include_str!("../docs/mcp.md");
    let rows = |start: &str| -> Vec<&str> {
        let section = page.split(start).nth(1).and_then(|rest| rest.split("\n## ").next()).expect(start);
        section.lines().filter(|line| line.starts_with("| `")).collect()
    };
    let first = |row: &str| row.split('`').nth(1).unwrap_or_default().to_owned();
    let tools = rows("\n## Tools\n");
    let names: Vec<String> = tools.iter().map(|row| first(row)).collect();
    assert_eq!(names, planexe::mcp::tools::TOOLS.iter().map(|tool| tool.name).collect::<Vec<_>>());
    for (tool, row) in planexe::mcp::tools::TOOLS.iter().zip(tools) {
        let schema = (tool.input)();
        for argument in schema["properties"].as_object().expect("properties").keys() {
            let named = row.contains(&format!("`{argument}`")) || argument == "plan_id";
            assert!(named, "{}: `{argument}` is not described", tool.name);
        }
    }
    let codes: Vec<String> = rows("\n## Errors\n").iter().map(|row| first(row)).collect();
    assert_eq!(codes, planexe::mcp::tool_error::CODES.iter().map(|(code, _)| *code).collect::<Vec<_>>());
    let short = include_str!("../llms.txt");
    for path in short.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file(), "{path}");
    }
}
