//! What is told of one task: `show`, `diff`, `history`, and what `simulate` foretells.

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space, space, until};

const TWO: &str = r#"
[task.notes]
inputs = ["plan.txt"]
outputs = ["notes.md"]
system = "You are an engineer."
prompt = "TASK=notes\nNotes on: {{ plan }}"

[task.data]
inputs = ["plan.txt"]
outputs = ["data.json"]
prompt = "TASK=data\nNumbers of: {{ plan }}"
schema = "data.schema.json"
"#;

const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "cost": { "type": "integer" },
    "risks": { "type": "array", "items": { "type": "object" } }
  },
  "required": ["cost", "risks"]
}"#;

/// Both tasks built twice, the second time with other answers.
fn built_twice(server: &FakeLlm) -> Space {
    let first = json!({ "cost": 10, "risks": [{ "id": "wind", "level": 2 }, { "id": "rust", "level": 1 }] });
    let second = json!({ "cost": 12, "risks": [{ "id": "wind", "level": 3 }] });
    server.script(move |request| {
        let again = request.prompt.contains("tunnel");
        match (request.task.as_str(), again) {
            ("data", false) => Answer::Text(first.to_string()),
            ("data", true) => Answer::Text(second.to_string()),
            (_, false) => Answer::Text("The deck is of steel.\nThe piers are of stone.\n".into()),
            (_, true) => Answer::Text("The deck is of timber.\nThe piers are of stone.\n".into()),
        }
    });
    let space = space(server, TWO);
    space.write("data.schema.json", SCHEMA);
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space
}

#[test]
fn show_tells_what_was_sent_and_what_came_back() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    let shown = space.run(&["show", "notes", "--json"]).exits(0).json();
    assert_eq!(shown["state"], "done");
    assert_eq!(shown["system"], "You are an engineer.");
    assert_eq!(shown["prompt"], "TASK=notes\nNotes on: Build a tunnel.\n");
    assert_eq!(shown["answer"], "The deck is of timber.\nThe piers are of stone.\n");
    let verdicts: Vec<&Value> =
        shown["calls"].as_array().expect("calls").iter().map(|c| &c["verdict"]).collect();
    assert_eq!(verdicts, ["kept", "in_use"]);

    let text = space.run(&["show", "notes"]).exits(0).stdout;
    for part in ["in use", "prompt of call 2", "answer of call 2", "of timber"] {
        assert!(text.contains(part), "{text}");
    }
    let alone = |args: &[&str]| space.run(args).exits(0).stdout;
    assert_eq!(
        alone(&["show", "notes", "--answer", "--call", "1"]),
        "The deck is of steel.\nThe piers are of stone.\n"
    );
    assert_eq!(alone(&["show", "notes", "--system"]).trim(), "You are an engineer.");
    assert_eq!(alone(&["log", "notes", "--prompt"]).trim_end(), "TASK=notes\nNotes on: Build a tunnel.");
    space.run(&["show", "notes", "--call", "3"]).exits(2).says(&["no call 3", "2 are kept"]);
    space.run(&["show", "notes", "--log"]).exits(2).says(&["no log of `notes`"]);
}

#[test]
fn the_log_shown_is_that_of_the_last_attempt() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.copy]
inputs = ["plan.txt"]
outputs = ["copy.txt"]
command = "test -e ok || { echo no luck >&2; exit 4; }; cp $in $out"
"#,
    );
    space.run(&["build"]).exits(1).says(&["exit code 4: no luck"]);
    assert_eq!(space.run(&["show", "copy", "--log"]).exits(0).stdout.trim_end(), "no luck");
    space.write("ok", "");
    space.build();
    space.run(&["show", "copy", "--log"]).exits(2).says(&["no log"]);
    assert!(!space.run(&["show", "copy"]).exits(0).stdout.contains("no luck"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn diff_is_by_lines_for_text_and_by_paths_for_json() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    let text = space.run(&["diff", "notes"]).exits(0).stdout;
    assert!(text.contains("-The deck is of steel.") && text.contains("+The deck is of timber."), "{text}");
    let data = space.run(&["diff", "data"]).exits(0).stdout;
    for part in ["/cost", "10", "12", "/risks/1", "rust"] {
        assert!(data.contains(part), "{part} is not in\n{data}");
    }
    let lines = space.run(&["diff", "data", "--lines"]).exits(0).stdout;
    assert!(lines.contains("-  \"cost\": 10,"), "{lines}");
    let view = space.run(&["diff", "data", "--json"]).exits(0).json();
    let output = &view["outputs"][0];
    assert_eq!((output["form"].clone(), output["differs"].clone()), (json!("json"), json!(true)));
    let paths: Vec<&Value> =
        output["changes"].as_array().expect("changes").iter().map(|change| &change["path"]).collect();
    assert!(paths.contains(&&json!("/cost")), "{paths:?}");
}

#[test]
fn diff_knows_edits_versions_and_what_is_gone() {
    let server = FakeLlm::new();
    let space = built_twice(&server);
    space.edit("notes.md", "timber", "glass");
    let edited = space.run(&["diff", "notes"]).exits(0).stdout;
    assert!(
        edited.contains("-The deck is of timber.") && edited.contains("+The deck is of glass."),
        "{edited}"
    );
    let version = space.run(&["diff", "notes@1"]).exits(0).stdout;
    assert!(version.contains("-The deck is of steel."), "{version}");
    space.run(&["diff", "notes@7"]).exits(2).says(&["no version 7", "planexe history notes"]);
    space.run(&["diff", "nothing_such"]).exits(2).says(&["nothing_such"]);
    space.remove("data.json");
    let gone = space.run(&["diff", "data"]).exits(0).stdout;
    assert!(gone.contains("data.json"), "{gone}");

    let fresh = self::space(&server, TWO);
    fresh.write("data.schema.json", SCHEMA);
    fresh.run(&["diff", "notes"]).exits(2).says(&["nothing former is kept of `notes`"]);
}

#[test]
fn diff_of_bytes_says_their_sizes_and_shows_none() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.image]
inputs = ["plan.txt"]
outputs = ["image.bin"]
command = ["sh", "-c", 'printf "\000\377%s" "$(cat "$0")" > "$1"', "$in", "$out"]
"#,
    );
    space.build();
    space.write("plan.txt", "Build a tunnel under the bay.\n");
    space.build();
    let shown = space.run(&["diff", "image"]).exits(0).stdout;
    assert!(shown.contains("image.bin") && !shown.contains("tunnel"), "{shown}");
    assert_eq!(space.run(&["diff", "image", "--json"]).exits(0).json()["outputs"][0]["form"], "bytes");
}

#[test]
fn simulate_foretells_from_what_tasks_took() {
    let server = FakeLlm::new();
    let tasks: String = (0..6)
        .map(|n| {
            format!(
                "[task.t{n}]\ninputs = [\"plan.txt\"]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\n{{{{ plan }}}}\"\n"
            )
        })
        .collect();
    let space = space(&server, &tasks);
    space.run(&["build", "-n"]).exits(0).says(&["a guess in part, as 6 tasks have not run yet"]);
    space.build();
    let foretold = space.run(&["simulate", "--json"]).exits(0).json();
    let rows = foretold["rows"].as_array().unwrap_or_else(|| panic!("no rows: {foretold}"));
    let span = |slots: u64| {
        let row =
            rows.iter().find(|row| row["slots"] == slots).unwrap_or_else(|| panic!("no row of {slots}"));
        row["seconds"].as_f64().expect("a time")
    };
    assert!(span(1) >= span(2) && span(2) >= span(4), "{foretold}");
    assert!(rows.iter().all(|row| row["calls"] == 6), "{foretold}");
    let table = space.run(&["simulate"]).exits(0).stdout;
    assert!(table.contains("slots") && table.contains("as set"), "{table}");
    assert_eq!(server.requests(), 6, "nothing is asked to foretell");
    space.assert_nothing_to_do(&server);
}

#[test]
fn simulate_foretells_other_prices_and_limits() {
    let server = FakeLlm::new();
    let task = |n: u32| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n} now\"\n");
    let tasks: String = (0..6).map(task).collect();
    let space = space(&server, &tasks);
    space.build();
    let model = |name: &str, rest: &str| {
        format!(
            "[models.{name}]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"{name}\"\n{rest}\n",
            server.base_url()
        )
    };
    let others = model("dear", "price = { input = 1000.0, output = 100000.0 }") + &model("free", "");
    space.pipeline(&server, &(others + &tasks));
    let foretell = |args: &[&str]| space.run(&[&["simulate", "--json"], args].concat()).exits(0).json();
    let first = |view: &serde_json::Value, key: &str| view["rows"][0][key].as_f64().expect("a number");

    let dear = foretell(&["--model", "dear"]);
    let tokens = first(&dear, "input_tokens") * 1000.0 + first(&dear, "output_tokens") * 100_000.0;
    assert!(tokens > 0.0 && (first(&dear, "cost_usd") - tokens / 1e6).abs() < 1e-9, "{dear}");
    assert_eq!(dear["unpriced"], serde_json::Value::Null);
    let free = foretell(&["--model", "free"]);
    assert_eq!((first(&free, "cost_usd"), &free["unpriced"]), (0.0, &"free".into()));
    space.run(&["simulate", "--model", "free"]).exits(0).says(&["set `price` under [models.free]"]);

    // Two requests a minute: of six the last start two minutes after the first.
    let slow = foretell(&["--model", "dear", "--rpm", "dear=2"]);
    assert!(first(&slow, "seconds") > 60.0 && first(&dear, "seconds") < 60.0, "{slow} {dear}");
    let slow = foretell(&["--model", "dear", "--tpm", "dear=10"]);
    assert!(first(&slow, "seconds") > 60.0, "{slow}");
    for wrong in [["--rpm", "dear=0"], ["--tpm", "dear"], ["--rpm", "nobody=3"]] {
        space.run(&["simulate", wrong[0], wrong[1]]).exits(2);
    }
    assert_eq!(server.requests(), 6, "nothing is asked to foretell");
}

/// What the items of a fan-out took says nothing of the one task it has become.
#[test]
fn a_task_that_was_a_fan_out_is_expected_to_take_what_it_took_itself() {
    let space = Space::new();
    space.write("items.json", "[1, 2, 3, 4, 5]");
    let items = "foreach = { file = \"items.json\" }\noutputs = [\"a/{{ key }}.txt\"]\ncommand = \"echo hi > $out\"\n";
    space.write("pipeline.toml", format!("[task.a]\n{items}"));
    space.run(&["build"]).exits(0);
    space
        .write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"sleep 0.6; echo hi > $out\"\n");
    // Until its own last durations are more than those of the fan-out.
    for _ in 0..3 {
        space.run(&["build"]).exits(0);
        space.remove("a.txt.DONE");
    }
    let foretold = space.run(&["simulate", "--json"]).exits(0).json();
    assert!(foretold["rows"][0]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.5), "{foretold}");
}

/// What one model was paid says nothing of another whose price is not known.
#[test]
fn the_money_of_one_model_is_not_foretold_of_another() {
    let space = Space::new();
    let pipeline = |first: &str| {
        let paid = "[models.paid]\napi = \"simulated\"\nprice = { input = 1.0, output = 1000.0 }\n";
        let free = "[models.free]\napi = \"simulated\"\n";
        let task = format!(
            "[task.a]\nmodel = [\"{first}\", \"free\"]\noutputs = [\"a.txt\"]\nprompt = \"Say a word\"\n"
        );
        format!("{paid}{free}{task}").replace("[\"free\", \"free\"]", "\"free\"")
    };
    space.write("pipeline.toml", pipeline("paid"));
    space.run(&["build"]).exits(0);
    let cost = |args: &[&str]| {
        let foretold = space.run(&[&["build", "-n", "-B", "--json"], args].concat()).exits(0).json();
        foretold["cost_usd"].as_f64()
    };
    assert!(cost(&[]).is_some_and(|cost| cost > 0.0));
    assert_eq!(cost(&["--model", "free"]), None);
    space.run(&["simulate", "--model", "free"]).exits(0).says(&["set `price` under [models.free]"]);
    space.write("pipeline.toml", pipeline("free"));
    assert_eq!(cost(&[]), None, "another model since");
}

#[test]
fn slots_without_number_are_slots_enough() {
    let space = Space::new();
    let model = |name: &str| format!("[models.{name}]\napi = \"simulated\"\nmax_concurrent = 4000000000\n");
    let task = "[task.x]\nmodel = [\"a\", \"b\"]\noutputs = [\"x.txt\"]\nprompt = \"Say a word\"\n";
    space.write("pipeline.toml", model("a") + &model("b") + task);
    space.run(&["build", "-n"]).exits(0);
    space.run(&["simulate"]).exits(0);
    space.run(&["build"]).exits(0);
}

/// As long as what is left takes on the slots there are: more than the longest of it.
#[track_caller]
fn counts_what_waits(pool: &str, build: &[&str]) {
    let space = Space::new();
    let hold = "sleep 0.2; while [ -e hold ]; do sleep 0.02; done; echo done > $out";
    let task = |n: u32| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\ncommand = \"{hold}\"\n{pool}\n");
    space.write("pipeline.toml", "[pools]\none = 1\n\n".to_owned() + &(0..6).map(task).collect::<String>());
    space.run(&["build"]).exits(0);
    space.run(&["clean", "--all", "-y"]).exits(0);
    space.write("hold", "");
    let build = space.spawn(build);
    let left = || space.run(&["status", "--json"]).json()["eta_s"].as_f64();
    let seconds = until("a time left", || left().filter(|seconds| *seconds > 0.0));
    space.remove("hold");
    build.wait().exits(0);
    assert!(seconds >= 1.0, "five have not begun, each of 0.2 s at least: {seconds} s");
}

#[test]
fn the_time_left_counts_what_waits_for_a_pool() {
    counts_what_waits("pool = \"one\"", &["build"]);
}

#[test]
fn the_time_left_knows_how_many_tasks_the_build_runs_at_once() {
    counts_what_waits("", &["build", "-j1"]);
}

#[test]
fn where_the_budget_would_stop_a_build_is_foretold() {
    let space = Space::new();
    let model =
        "[models.m]\napi = \"simulated\"\nmax_concurrent = 1\nprice = { input = 0, output = 1000000 }\n";
    let tasks: String = (0..4)
        .map(|n| format!("[task.t{n}]\nmodel = \"m\"\noutputs = [\"t{n}.txt\"]\nprompt = \"Say {n}\"\n"))
        .collect();
    space.write("pipeline.toml", model.to_owned() + &tasks);
    space.build();
    let foretold = |args: &[&str]| {
        let plan = space.run(&[&["build", "-n", "-B", "--json"], args].concat()).exits(0).json();
        plan["budget_stop"].clone()
    };
    assert_eq!(foretold(&[]), serde_json::Value::Null);
    let stop = foretold(&["--max-cost", "0.5"]);
    assert_eq!((&stop["limit"], &stop["tasks"]), (&"cost".into(), &1.into()), "{stop}");
    assert_eq!(foretold(&["--max-tokens", "1"])["limit"], "tokens");
    // As it comes: the same number of tasks, and the build says why it stops.
    let before = space.lines("usage_metrics.jsonl").len();
    space.run(&["build", "-B", "--max-cost", "0.5"]).exits(3).says(&["cost limit"]);
    assert_eq!(space.lines("usage_metrics.jsonl").len(), before + 1);
    space.write("pipeline.toml", "[budget]\ncost = 0.5\n\n".to_owned() + model + &tasks);
    space.run(&["build", "-n", "-B"]).exits(0).says(&["Its budget", "cost limit", "1 task started"]);
    let rows = space.run(&["simulate", "--json"]).exits(0).json();
    assert_eq!(rows["rows"][0]["budget_stop"]["tasks"], 1, "{rows}");
    assert_eq!(rows["rows"][0]["tasks"], 4, "{rows}");
    space.run(&["simulate"]).exits(0).says(&["stopped by its budget", "cost limit"]);
}

#[test]
fn diff_of_very_large_outputs_says_that_they_differ() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.t]\ninputs = [\"in\"]\noutputs = [\"t.txt\"]\ncommand = \"cp $in $out\"\n",
    );
    for text in ["one\n", "two\n"] {
        space.write("in", text.repeat(5 << 20));
        space.build();
    }
    space.run(&["diff", "t"]).exits(0).says(&["t.txt", "differ", "too large to be shown", "21 MB"]);
    let output = &space.run(&["diff", "t", "--json"]).exits(0).json()["outputs"][0];
    assert_eq!((&output["form"], &output["differs"]), (&"bytes".into(), &true.into()));
    assert!(output.get("diff").is_none());
    space.remove("t.txt");
    space.run(&["diff", "t"]).exits(0).says(&["is gone", "too large"]);
}
