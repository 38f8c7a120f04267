//! The flagship from outside: the two samples, plans that gates stop, a model that makes things up, and
//! what is asked again after an edit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use planexe_llm::{Request, estimate};
use serde_json::{Map, Value, json};

use crate::support::{Out, Space};

pub(crate) const BUSINESS: &str = "examples/strategic-plan";
pub(crate) const PERSONAL: &str = "examples/personal-plan";

/// A copy of everything the flagship is made of, without a latency of its own.
pub(crate) fn flagship() -> Space {
    let space = Space::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["pipeline.toml", "legacy_names.toml"] {
        space.write(file, fs::read(here.join(file)).expect(file));
    }
    for folder in ["prompts", "schemas", "templates", BUSINESS, PERSONAL] {
        for entry in fs::read_dir(here.join(folder)).expect(folder).flatten() {
            let name = entry.file_name().into_string().expect("a name");
            let wanted = !folder.starts_with("examples")
                || ["plan.txt", "run.toml", "answers.json"].contains(&name.as_str());
            if wanted && entry.path().is_file() {
                space.write(&format!("{folder}/{name}"), fs::read(entry.path()).expect("a file"));
            }
        }
    }
    for latency in ["150ms", "50ms"] {
        space.edit("pipeline.toml", &format!("latency = \"{latency}\""), "latency = \"0ms\"");
    }
    space
}

/// The same with a sample built. It is built once for all tests, and copied with its times.
pub(crate) fn finished(run: &str) -> Space {
    type Files = BTreeMap<String, (Vec<u8>, SystemTime)>;
    static BUILT: Mutex<BTreeMap<String, Files>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let files = built.entry(run.to_owned()).or_insert_with(|| {
        let space = flagship();
        build(&space, run).exits(0);
        let read = |path: String| (path.clone(), (space.bytes(&path), space.mtime(&path)));
        space.files("").into_iter().map(read).collect()
    });
    let space = Space::new();
    for (path, (bytes, time)) in &*files {
        space.write(path, bytes);
        space.set_mtime(path, *time);
    }
    space
}

pub(crate) fn build(space: &Space, run: &str) -> Out {
    space.run(&["-C", run, "build"])
}

/// Calls made in a run so far.
pub(crate) fn calls(space: &Space, run: &str) -> usize {
    space.lines(&format!("{run}/usage_metrics.jsonl")).len()
}

/// Changes the recorded answers of a task; of a fan-out those of all its items.
pub(crate) fn answers(space: &Space, run: &str, task: &str, change: impl Fn(&str, &mut Value)) {
    let file = format!("{run}/answers.json");
    let mut all = space.json(&file);
    let mut found = false;
    for entry in all["answers"].as_array_mut().expect("answers") {
        if entry["task"] == task {
            found = true;
            let key = entry["key"].as_str().unwrap_or_default().to_owned();
            change(&key, &mut entry["answer"]);
        }
    }
    assert!(found, "no answer of {task}");
    space.write(&file, all.to_string());
}

/// Everything made in a run, by path; what a build writes of itself is left out.
pub(crate) fn made(space: &Space, run: &str) -> BTreeMap<String, Vec<u8>> {
    let of_itself = ["events.jsonl", "failures.jsonl", "usage_metrics.jsonl", "activity_overview.json"];
    let files = space.files(run).into_iter().filter(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        !path.contains(".planexe/")
            && !name.ends_with(".DONE")
            && !name.ends_with(".status")
            && !of_itself.contains(&name)
    });
    files.map(|path| (path[run.len() + 1..].to_owned(), space.bytes(&path))).collect()
}

/// Whether a heading is followed by the next heading or the end of its section.
pub(crate) fn empty_heading(html: &str) -> bool {
    let mut parts = html.split("</h3>").skip(1);
    parts.any(|after| {
        let after = after.trim_start();
        after.starts_with("</section>") || after.starts_with("<h3") || after.starts_with("<h2")
    })
}

// ---- The samples

#[test]
fn the_samples_are_whole_and_answer_the_prompts_there_are() {
    let space = flagship();
    for (run, calls_made) in [(BUSINESS, 159), (PERSONAL, 82)] {
        // `--frozen` refuses answers that were recorded for another prompt.
        space.run(&["-C", run, "build", "--frozen"]).exits(0);
        assert_eq!(calls(&space, run), calls_made);
        let status = space.run(&["-C", run, "status", "--json"]).exits(0).json();
        assert_eq!(status["quality_summary"]["sample"], json!([]), "{run}: record the answers anew");
        let quality = space.json(&format!("{run}/quality.json"));
        assert_eq!((&quality["complete"], &quality["notes"]), (&json!(true), &json!([])), "{run}");
        let again = build(&space, run).exits(0);
        if run == BUSINESS {
            // What the README shows.
            let readme = include_str!("../../README.md");
            assert!(readme.contains(again.stderr.trim()), "README.md does not show: {}", again.stderr);
        }
        for file in ["report.html", "report.md", "wbs.csv", "plan_summary.json", "schedule_tables"] {
            assert!(
                file == "schedule_tables" || space.bytes(&format!("{run}/{file}")).len() > 1000,
                "{run}/{file}"
            );
        }
    }
}

#[test]
fn the_same_answers_give_the_same_bytes() {
    let (one, two) = (flagship(), flagship());
    for run in [BUSINESS, PERSONAL] {
        build(&one, run).exits(0);
        two.run(&["-C", run, "build", "-j1"]).exits(0);
        let (first, second) = (made(&one, run), made(&two, run));
        assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
        for (path, bytes) in &first {
            assert!(bytes == &second[path], "{run}/{path} differs");
        }
        assert!(first.len() > 100, "{}", first.len());
    }
}

/// The request kept with every call of a run.
pub(crate) fn requests(space: &Space, run: &str) -> Vec<(String, Request)> {
    let kept =
        space.files(&format!("{run}/.planexe/calls")).into_iter().filter(|path| path.ends_with(".json"));
    let of = |value: &Value, key: &str| value["request"][key].as_str().unwrap_or_default().to_owned();
    kept.map(|path| {
        let call = space.json(&path);
        let schema = Some(call["request"]["schema"].clone()).filter(|schema| !schema.is_null());
        let task = call["task"].as_str().expect("a task").to_owned();
        let request = Request {
            task: task.clone(),
            key: None,
            system: of(&call, "system"),
            prompt: of(&call, "prompt"),
            files: std::sync::Arc::default(),
            rejected: Vec::new(),
            schema,
            params: Map::new(),
            params_extra: Map::new(),
            tools: None,
            check: None,
            division: planexe_base::prefix::Division::default(),
        };
        (task, request)
    })
    .collect()
}

#[test]
fn every_prompt_fits_the_small_context() {
    let space = flagship();
    let text = space.read("pipeline.toml");
    let small = text.split("[profiles.local-small.models.local]").nth(1).expect("the profile");
    let number = |key: &str| -> u64 {
        let line = small.lines().find(|line| line.starts_with(key)).expect(key);
        line.split('=').nth(1).expect("a value").trim().parse().expect("a number")
    };
    let (window, output) = (number("context_window"), number("max_output"));
    for (run, least) in [(BUSINESS, 159), (PERSONAL, 82)] {
        let space = finished(run);
        let all = requests(&space, run);
        assert_eq!(all.len(), least);
        for (task, request) in all {
            let tokens = estimate::request_tokens(&request);
            assert!(
                tokens + output <= window,
                "{run}: {task} needs {tokens} and {output} of {window} tokens"
            );
        }
    }
}

#[test]
fn a_plan_too_long_is_shortened_and_never_cut() {
    let space = flagship();
    let line = |n: usize| {
        format!("Condition {n}: the bridge over the Lys costs EUR {n}000 and is wide enough for two prams.\n")
    };
    let plan: String = (0..400).map(line).collect();
    space.write("long.txt", &plan);
    space.run(&["new", "long", "--profile", "simulated", "--prompt-file", "long.txt"]).exits(0);
    let small =
        ["-C", "long", "build", "-D", "size=small", "-D", "longest_plan=10000", "-D", "longest_digest=2000"];
    space.run(&small).exits(0);
    let pieces = space.json("long/plan_pieces.json");
    let texts: Vec<&str> = pieces["pieces"]
        .as_array()
        .expect("pieces")
        .iter()
        .map(|p| p["text"].as_str().expect("a text"))
        .collect();
    assert!(texts.len() >= 3 && texts.iter().all(|text| text.len() <= 10_000), "{}", texts.len());
    assert_eq!(texts.join("\n").trim(), plan.trim(), "every line is in one of the pieces");
    let shortened =
        |task: &str| requests(&space, "long").iter().filter(|(name, _)| name.starts_with(task)).count();
    assert_eq!(shortened("shorten_plan"), texts.len());
    assert!(shortened("shorten_digest") > 0);
    for (task, request) in requests(&space, "long") {
        assert!(request.prompt.len() < 20_000, "{task} reads {} bytes", request.prompt.len());
    }
    let notes = space.json("long/quality.json")["notes"].to_string();
    assert!(notes.contains("was shortened in"), "{notes}");
    // One that fits is read as it is, and nobody is asked.
    build(&space, PERSONAL).exits(0);
    assert_eq!(
        space.read(&format!("{PERSONAL}/plan_in_brief.md")).trim(),
        space.read(&format!("{PERSONAL}/plan.txt")).trim()
    );
    assert!(requests(&space, PERSONAL).iter().all(|(task, _)| !task.starts_with("shorten")));
}

#[test]
fn a_model_that_makes_things_up_gets_to_the_end() {
    let space = flagship();
    for size in ["full", "small"] {
        space
            .run(&[
                "new",
                size,
                "--profile",
                "simulated",
                "--prompt",
                "A bridge for EUR 3 million, open in 2028.",
            ])
            .exits(0);
        let set = format!("size={size}");
        space.run(&["-C", size, "build", "-D", &set]).exits(0);
        space.run(&["-C", size, "build", "-q", "-D", &set]).exits(0);
        assert!(space.read(&format!("{size}/report.html")).contains("</html>"));
    }
    assert!(calls(&space, "small") < calls(&space, "full"), "small asks less");
}

#[test]
fn the_report_stands_alone() {
    for run in [BUSINESS, PERSONAL] {
        let space = finished(run);
        let html = space.read(&format!("{run}/report.html"));
        let all = |start: &str| -> Vec<String> {
            let values = html.split(start).skip(1).filter_map(|rest| rest.split('"').next());
            values.map(str::to_owned).collect()
        };
        let ids = all(" id=\"");
        let once: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "an id is given twice");
        for anchor in all("href=\"#") {
            assert!(once.contains(&anchor), "{run}: nothing is called `{anchor}`");
        }
        for label in all("aria-labelledby=\"") {
            assert!(
                label.split(' ').all(|id| ids.iter().any(|known| known == id)),
                "{run}: no label `{label}`"
            );
        }
        for outside in ["src=\"", "href=\"h", "url(", "@import", "<script", "http://", "https://"] {
            assert!(!html.contains(outside), "{run}: reaches outside: {outside}");
        }
        assert!(!empty_heading(&html), "{run}: a heading without text");
    }
}

/// `-D language=Chinese`: sentences without spaces are long enough, and the page says which language it is in.
#[test]
fn a_plan_may_be_in_a_script_without_spaces() {
    let space = flagship();
    answers(&space, PERSONAL, "potential_levers", |_, answer| {
        for lever in answer["levers"].as_array_mut().expect("levers") {
            lever["options"] = json!([
                "每周到城里的学校上两次晚课",
                "请一位住在里斯本的老师在线上课",
                "只用书本和录音自己学习九个月"
            ]);
            lever["consequences"] = json!("要花600欧元和180小时");
        }
    });
    space.run(&["-C", PERSONAL, "-D", "language=Chinese", "build"]).exits(0);
    let html = space.read(&format!("{PERSONAL}/report.html"));
    assert!(html.contains("<html lang=\"zh\">"), "the language");
    assert!(html.contains("请一位住在里斯本的老师在线上课"), "an option");
    // Lists and paragraphs run the way their own text does, and a word without end widens no page.
    assert!(!html.contains("<ul>") && html.contains("<ul dir=\"auto\">"), "lists");
    assert!(
        html.contains("unicode-bidi: plaintext") && html.contains("overflow-wrap: anywhere"),
        "the style"
    );
}

// ---- Schemas and prompts

/// What a strict server does not take, with where it is.
fn not_strict(schema: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(members) = schema else { return };
    let known = [
        "$schema",
        "title",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "description",
        "items",
        "enum",
        "minItems",
        "maxItems",
    ];
    found.extend(
        members.keys().filter(|key| !known.contains(&key.as_str())).map(|key| format!("{at}: `{key}`")),
    );
    match members.get("type").and_then(Value::as_str) {
        Some("object") => {
            if members.get("additionalProperties") != Some(&Value::Bool(false)) {
                found.push(format!("{at}: additionalProperties is not false"));
            }
            let properties = members["properties"].as_object().expect("properties");
            let required: BTreeSet<&str> =
                members["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let all: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            if all != required {
                found.push(format!("{at}: not all properties are required"));
            }
            for (name, property) in properties {
                not_strict(property, &format!("{at}/{name}"), found);
            }
        }
        Some("array") => not_strict(&members["items"], &format!("{at}/*"), found),
        Some("string" | "integer" | "number" | "boolean") => {}
        other => found.push(format!("{at}: type {other:?}")),
    }
}

#[test]
fn every_schema_is_one_that_strict_servers_take() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut found = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("schemas").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a schema");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(schema["type"], "object", "{:?}", entry.path());
        not_strict(&schema, &entry.file_name().to_string_lossy(), &mut found);
        count += 1;
    }
    assert!(found.is_empty() && count > 50, "{count} schemas\n{}", found.join("\n"));
}

#[test]
fn the_lint_finds_a_lost_instruction_and_a_lost_use() {
    let space = flagship();
    let check = ["-C", BUSINESS, "check", "--strict"];
    space.run(&check).exits(0).says_nothing_of(&["warning"]);

    space.edit("prompts/data_collection.md", "- summary: two sentences.\n", "");
    let out = space.run(&check).exits(2);
    out.says(&[
        "warning",
        "task `data_collection` does not say what `summary` is",
        "schemas/data_collection.json",
        "1 warning",
    ]);

    let unused = "{% for x in swot.missing_information %}\n- {{ x }}\n{% endfor %}\n";
    space.edit("prompts/data_collection.md", unused, "");
    let out = space.run(&check).exits(2).says(&["never uses its input `swot`", "2 warnings"]);
    let line = space
        .read("pipeline.toml")
        .lines()
        .position(|line| line.contains("[task.data_collection]"))
        .expect("it")
        + 3;
    assert!(out.stderr.contains(&format!("pipeline.toml:{line}:")), "{out}");
    // Without --strict they are told, and no more than that; programs get the places.
    let warnings = space.run(&["-C", BUSINESS, "check", "--json"]).exits(0).json()["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(2), "{warnings:#}");
    assert!(
        warnings.as_array().expect("a list").iter().all(|w| w["line"].is_u64() && w["level"] == "warning")
    );
}

#[test]
fn a_field_is_missed_when_its_instruction_is_gone() {
    let space = flagship();
    let fields = [
        ("premise_attack", "core_thesis"),
        ("potential_levers", "blind_spot"),
        ("candidate_scenarios", "lever_settings"),
        ("make_assumptions", "if_wrong"),
        ("project_plan", "smart"),
        ("estimate_task_durations", "days_likely"),
        ("premortem", "tripwires"),
        ("executive_summary", "takeaway"),
    ];
    for (task, _) in fields {
        let path = format!("prompts/{task}.md");
        let text = space.read(&path);
        space.write(&path, text.split("\n# Task").next().expect("a head"));
    }
    let out = space.run(&["-C", BUSINESS, "check", "--json"]).json();
    let warnings = out["warnings"].as_array().expect("warnings");
    let told: BTreeSet<&str> = warnings.iter().filter_map(|w| w["message"].as_str()).collect();
    for (task, field) in fields {
        let wanted = format!("the prompt of task `{task}` does not say what `{field}` is to hold");
        assert!(told.contains(wanted.as_str()), "not told: {wanted}");
    }
    assert!(told.len() > 50, "{}", told.len());
}

// ---- Names and calls

#[test]
fn names_of_older_pipelines_mean_the_tasks_of_this_one() {
    let space = finished(PERSONAL);
    for (name, task) in [
        ("014-2-swot_analysis.md", "swot_analysis"),
        ("018-5-wbs_level2.json", "schedule_tables"),
        ("002-17-selected_scenario_raw.json", "select_scenario"),
        ("TriagedLeversConstraintTask", "levers_constraints"),
        ("030-report.html", "report"),
    ] {
        space.run(&["-C", PERSONAL, "explain", name]).exits(0).says(&[task]);
    }
    // Items by their number, as the files of older pipelines were named.
    for name in
        ["016-1-1-expert_criticism_raw.json", "wbs_level3_2_raw.json", "022-1-1-task_durations_raw.json"]
    {
        let said = space.run(&["-C", PERSONAL, "explain", name, "--json"]).exits(0).json();
        assert!(said["task"].as_str().is_some_and(|task| task.ends_with(']')), "{name}: {}", said["task"]);
    }
    space.run(&["-C", PERSONAL, "clean", "014-2-swot_analysis.md", "--yes"]).exits(0);
    assert!(!space.exists(&format!("{PERSONAL}/swot_analysis_raw.json.DONE")));
    let before = calls(&space, PERSONAL);
    build(&space, PERSONAL).exits(0);
    assert_eq!(calls(&space, PERSONAL) - before, 1, "the same answer: nothing after it is asked");
}

#[test]
fn an_edit_costs_the_calls_it_must() {
    let space = finished(BUSINESS);
    let mut before = calls(&space, BUSINESS);
    let mut cost = |what: &str| {
        build(&space, BUSINESS).exits(0);
        let now = calls(&space, BUSINESS);
        let made = now - std::mem::replace(&mut before, now);
        space.run(&["-C", BUSINESS, "build", "-q"]).exits(0);
        println!("{what}: {made}");
        made
    };
    assert_eq!(cost("nothing"), 0);
    // A variable makes stale what uses it; a check that looks at another one does not.
    let out = space.run(&["-C", BUSINESS, "-D", "audience=bankers", "build", "-n", "--json"]).exits(0);
    assert_eq!(out.json()["stale"], 1, "the summary alone");
    space.edit("templates/report.html.j2", "<footer", "<!-- one more line -->\n<footer");
    assert_eq!(cost("a template"), 0);
    space.edit("prompts/create_pitch.md", "# Task", "# The task");
    assert_eq!(cost("one prompt, same answer"), 1);
    space.edit("prompts/expert_criticism.md", "# Task", "# The task");
    assert_eq!(cost("the prompt of a loop, same answers"), 4);
    space.edit("schemas/create_pitch.json", "\"description\": \"", "\"description\": \"Briefly: ");
    assert_eq!(cost("a schema, same answer"), 0, "the answer there is satisfies it");
    space.remove(&format!("{BUSINESS}/wbs_level3/sample-soil.json.DONE"));
    assert_eq!(cost("one leaf of the work breakdown"), 1);
    space.edit(&format!("{BUSINESS}/plan.txt"), "tram depot", "tramway depot");
    let all = cost("a word of the plan, same answers");
    assert!((100..=159).contains(&all), "{all}");
}

// ---- Without the repository at hand

#[test]
fn a_plan_is_two_commands_with_nothing_but_the_binary() {
    let space = Space::new();
    let out = space
        .run(&["new", "my-plan", "--profile", "local-small", "--prompt", "A bicycle library in Bruges."])
        .exits(0);
    out.says(&[
        "strategic-plan",
        "my-plan/pipeline",
        "planexe -C my-plan doctor",
        "planexe -C my-plan build",
    ]);
    assert_eq!(space.read("my-plan/plan.txt"), "A bicycle library in Bruges.\n");
    space.run(&["-C", "my-plan", "check", "--strict"]).exits(0);

    // What is copied is what the repository holds, to the byte.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["prompts", "schemas", "templates"] {
        for entry in fs::read_dir(here.join(folder)).expect(folder).flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            assert_eq!(
                space.bytes(&format!("my-plan/pipeline/{name}")),
                fs::read(entry.path()).expect(&name),
                "{name}: type .ci/generate"
            );
        }
    }
    assert_eq!(
        space.bytes("my-plan/pipeline/pipeline.toml"),
        fs::read(here.join("pipeline.toml")).expect("it")
    );

    // A sample brings the plan its answers were recorded for.
    space.run(&["new", "demo", "--profile", "sample-personal"]).exits(0);
    space.run(&["-C", "demo", "build"]).exits(0).says(&["demo/report.html"]);
    assert_eq!(
        space.read("demo/plan.txt").as_bytes(),
        fs::read(here.join(PERSONAL).join("plan.txt")).expect("a plan")
    );
    // And the sources of its figures, unless the plan is another one.
    space.run(&["-C", "demo", "evidence", "check"]).exits(0).says(&["holds", "lesson-price"]);
    space.run(&["new", "other", "--profile", "sample-personal", "--prompt", "A shed."]).exits(0);
    assert!(!space.exists("other/evidence"));

    // As where the pipeline is a file, above a checkout's folders for one.
    let file = here.join("pipeline.toml").display().to_string();
    let (demo, more) =
        (["new", "sample", "--profile", "sample-personal", "--pipeline", &file], ["--prompt", "A shed."]);
    space.run(&demo).exits(0);
    assert_eq!(space.read("sample/plan.txt"), space.read("demo/plan.txt"));
    assert!(space.exists("sample/evidence/lesson-price.json"));
    space.run(&[&["new", "own"], &demo[2..], &more[..]].concat()).exits(0);
    assert!(space.read("own/plan.txt") == "A shed.\n" && !space.exists("own/evidence"));

    space
        .run(&["new", "none", "--profile", "no-such"])
        .exits(2)
        .says(&["no profile `no-such`", "local-small"]);
    assert!(!space.exists("none"));
    space.run(&["new", "small-one"]).exits(0).says(&["--pipeline strategic-plan"]);
}

#[test]
fn the_plan_can_be_carried_out() {
    let space = finished(BUSINESS);
    let summary = space.json(&format!("{BUSINESS}/plan_summary.json"));
    assert_eq!(summary["wbs"].as_array().map(Vec::len), Some(28));
    assert_eq!(summary["wbs"][0]["steps"].as_array().map(Vec::len), Some(3));
    let amounts = summary["cost"]["budget"].as_array().expect("a budget").iter();
    assert_eq!(
        amounts.map(|item| item["amount"].as_f64().unwrap()).sum::<f64>(),
        summary["budget_total"].as_f64().unwrap()
    );
    space
        .run(&["execute", BUSINESS, "--into", "work", "--profile", "simulated"])
        .exits(0)
        .says(&["86 steps in 28 tasks", "7 phases"])
        .says_nothing_of(&["warning"]);
    space.run(&["-C", "work", "check", "--strict"]).exits(0);
    space.run(&["-C", "work", "build"]).exits(3);
    let chart = space.run(&["-C", "work", "gantt", "--json"]).exits(0).json();
    assert_eq!((chart["all"].clone(), chart["counts"]["waiting"].clone()), (json!(86), json!(4)));
    // The other sample is a no-go that was let pass by nobody yet, or a go: either way it says what to do.
    space.run(&["execute", "--into", "w", PERSONAL]).exits(2).says(&["not finished"]);
}
