//! docs/flagship.md has the numbers, names and shares of pipeline.toml.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/flagship.md");

fn pipeline() -> toml::Table {
    include_str!("../../pipeline.toml").parse().expect("TOML")
}

fn table<'a>(of: &'a toml::Table, key: &str) -> &'a toml::Table {
    of[key].as_table().expect(key)
}

fn number(of: &toml::Value) -> f64 {
    of.as_float().or(of.as_integer().map(|whole| whole as f64)).expect("a number")
}

/// A section of the page, without its heading.
fn section(heading: &str) -> &'static str {
    let rest = PAGE.split(&format!("\n## {heading}\n")).nth(1).expect(heading);
    rest.split("\n## ").next().unwrap_or(rest)
}

/// Whether the page says it, on one line or on several.
fn says(wanted: &str) {
    let flat = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(wanted), "the page does not say `{wanted}`");
}

#[test]
fn tasks_are_counted_by_what_they_do() {
    let pipeline = pipeline();
    let tasks = table(&pipeline, "task");
    let with = |key: &str| tasks.values().filter(|task| task.get(key).is_some()).count();
    let templates = tasks.values().filter(|task| task.get("template").is_some()).count();
    says(&format!(
        "{} tasks: {} ask a model ({} of them are fan-outs, with one call per item), {} are gates, {templates} are \
         templates",
        tasks.len(),
        with("prompt"),
        with("foreach"),
        with("gate"),
    ));
    // Those with the name of a stage of PlanExe2, and the others.
    says("64 of them are tasks of the same name");
    says(&format!("The other {} tasks", tasks.len() - 64));
    // What is computed again has a document more than what is read: the schedule.
    let documents = |task: &str| {
        let inputs = table(table(tasks, task), "inputs");
        inputs.keys().filter(|name| name.ends_with("_md")).count()
    };
    says(&format!("computes all {} documents again", documents("arithmetic_check")));
    says(&format!("of all {} documents that are not computed", documents("shared_figures")));
}

#[test]
fn each_row_tells_how_a_task_is_done() {
    let pipeline = pipeline();
    let tasks = table(&pipeline, "task");
    let all = section("The tasks by stage");
    let rows = all.lines().filter(|line| line.starts_with("| `"));
    let mut seen = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let name = cells[0].trim_matches(['|', ' ', '`']);
        let task = tasks.get(name).unwrap_or_else(|| panic!("`{name}` is no task")).as_table().expect(name);
        let share = task.get("min_success").map(|share| format!(", {:.0}%", number(share) * 100.0));
        let how = match (task.get("gate"), task.get("foreach")) {
            (Some(gate), _) => format!("gate, {}", gate["action"].as_str().expect("an action")),
            (None, Some(items)) => {
                let batch = items.get("batch").map(|batch| format!(", {} at a time", number(batch)));
                format!("loop{}{}", batch.unwrap_or_default(), share.unwrap_or_default())
            }
            (None, None) if task.get("prompt").is_some() => "call".to_owned(),
            (None, None) => "template".to_owned(),
        };
        assert_eq!(cells[2], how, "{name}");
        assert!(seen.insert(name), "{name} has two rows");
    }
    assert_eq!(seen.len(), tasks.len());
}

#[test]
fn gates_profiles_and_variables_are_those_of_the_pipeline() {
    let pipeline = pipeline();
    let tasks = table(&pipeline, "task");
    let first = |heading: &str, at: usize| -> BTreeSet<&str> {
        let rows = section(heading).lines().filter(|line| line.starts_with("| `"));
        rows.flat_map(|row| row.split('|').nth(at).unwrap_or_default().split('`').skip(1).step_by(2))
            .collect()
    };
    let warns = |task: &toml::Value| task["gate"]["action"].as_str() == Some("warn");
    let gates = tasks.iter().filter(|(_, task)| task.get("gate").is_some() && !warns(task));
    assert_eq!(first("What stops it", 1), gates.map(|(name, _)| name.as_str()).collect());
    // The first table of the section has the profiles, the second one the variables.
    let vars = table(&pipeline, "vars");
    let profiles = table(&pipeline, "profiles");
    let known: BTreeSet<&str> = vars.keys().chain(profiles.keys()).map(String::as_str).collect();
    assert_eq!(first("Run it", 1), known);
    for (name, profile) in profiles {
        let slots = profile["models"]["local"]
            .get("max_concurrent")
            .or(pipeline["models"]["local"].get("max_concurrent"));
        let slots = number(slots.expect(name));
        let row = section("Run it")
            .lines()
            .find(|row| row.starts_with("| `") && row.contains(&format!("`{name}`")));
        let row = row.expect(name);
        assert!(row.ends_with(&format!("| {slots} |")), "{name}: {slots} calls at once, not {row}");
        if let Some(window) =
            profile["models"]["local"].get("context_window").and_then(toml::Value::as_integer)
            && name.starts_with("local")
        {
            assert!(row.contains(&format!("{}k of context", window / 1024)), "{name}: {window}");
        }
    }
    for name in ["longest_plan", "longest_digest", "longest_group"] {
        let thousands = |of: &toml::Value| format!("{},000", of.as_integer().expect(name) / 1000);
        let row =
            section("Run it").lines().find(|row| row.starts_with(&format!("| `{name}` |"))).expect(name);
        assert!(row.contains(&format!("| {} |", thousands(&vars[name]))), "{row}");
        if let Some(small) = profiles["local-small"]["vars"].get(name) {
            assert!(row.contains(&format!("{} in `local-small`", thousands(small))), "{row}");
        }
    }
}

/// Tasks of other programs that the page speaks of, and words with a `_` that are no task.
const OTHERS: [&str; 14] = [
    "_2",
    "_with_background_story",
    "_with_environment_info",
    "consistency_repair",
    "convert_pitch_to_markdown",
    "enrich_team_members_with_contract_type",
    "enriched_levers_constraint",
    "filter_documents_to_create",
    "filter_documents_to_find",
    "markdown_with_documents_to_create_and_find",
    "no_fact",
    "plan_interview",
    "triaged_levers_constraint",
    "vital_few_levers_constraint",
];

#[test]
fn the_tasks_and_files_that_the_text_names_are_there() {
    let pipeline = pipeline();
    let tasks = table(&pipeline, "task");
    let outputs: BTreeSet<&str> = (tasks.values())
        .flat_map(|task| task["outputs"].as_array().expect("outputs"))
        .filter_map(|output| output.as_str().or_else(|| output.get("path")?.as_str()))
        .collect();
    // Read, or made by others.
    let files = [
        "pitch_to_markdown_raw.json",
        "plan.md",
        "plan.txt",
        "plan_raw.json",
        "prompts/system.md",
        "schedule_gantt_machai.csv",
        "start_time.json",
    ];
    let text = PAGE.split("\n## The tasks by stage\n").next().expect("the text");
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        for code in line.split('`').skip(1).step_by(2).filter(|_| !in_block) {
            let plain = code.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'/' | b'.'));
            let ending =
                [".json", ".md", ".csv", ".html", ".txt"].iter().any(|ending| code.ends_with(ending));
            if plain && ending && !code.starts_with('.') {
                assert!(outputs.contains(code) || files.contains(&code), "no task makes `{code}`");
            } else if plain && code.contains('_') && !code.contains(['.', '/']) {
                let known = tasks.contains_key(code) || table(&pipeline, "vars").contains_key(code);
                assert!(known || OTHERS.contains(&code), "`{code}` is no task");
            }
        }
    }
}

#[test]
fn lists_and_samples_have_as_many_as_the_page_says() {
    for (list, whole, small, said) in [
        (include_str!("../../templates/review_topics.json.j2"), 16, 5, "Sixteen reviews, twenty audits"),
        (include_str!("../../templates/review_topics.json.j2"), 16, 5, "five review topics, six audit items"),
        (
            include_str!("../../templates/self_audit_items.json.j2"),
            20,
            6,
            "five review topics, six audit items",
        ),
        (include_str!("../../templates/premise_critics.json.j2"), 5, 3, "three critics"),
    ] {
        let all = list.matches("\"id\":").count();
        let only_whole =
            list.matches("{% if not small %}").count() + list.matches("{% if vars.size != ").count();
        assert_eq!((all, all - only_whole), (whole, small), "{said}");
        says(said);
    }
    let answers = |text: &str| text.matches("\"task\":").count();
    let whole = answers(include_str!("../../examples/strategic-plan/answers.json"));
    says(&format!("The sample plan takes {whole} calls"));
    says(&format!("| none | 0 of {whole} |"));
    let small = answers(include_str!("../../examples/personal-plan/answers.json"));
    says(&format!("one person, no building, {small} calls"));
}
