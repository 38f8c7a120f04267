//! Fan-out: one instance per item, known only once the list is there, each with its own answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space, counts, until};

/// A review by each expert of a list, and a report over all reviews.
const REVIEWS: &str = r#"
[task.review]
foreach = { file = "experts.json", items = "/experts", key = "name" }
inputs = ["plan.txt"]
outputs = ["reviews/{{ key }}.txt"]
prompt = "TASK=review[{{ key }}]\n{{ item.name }} on {{ item.topic }}: {{ plan }}"

[task.report]
inputs = { reviews = "reviews/*.txt" }
outputs = ["report.txt"]
template = "{% for review in reviews %}{{ review.path }}\n{% endfor %}"
"#;

fn experts(names: &[&str]) -> String {
    let experts: Vec<Value> =
        names.iter().map(|name| json!({ "name": name, "topic": format!("the {name} side") })).collect();
    json!({ "experts": experts }).to_string()
}

fn reviews(server: &FakeLlm, names: &[&str]) -> Space {
    let space = Space::with(server, REVIEWS);
    space.write("plan.txt", "Build a bridge.\n");
    space.write("experts.json", experts(names));
    space
}

/// The files in a folder of the run that are no sidecars.
fn outputs(space: &Space, folder: &str) -> Vec<String> {
    space.tree().into_keys().filter(|path| path.starts_with(folder)).collect()
}

#[test]
fn one_call_an_item_and_readers_after_all() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.build();
    assert_eq!(server.counts(), counts([("review[ann]", 1), ("review[bob]", 1), ("review[cyd]", 1)]));
    assert!(server.last("review[bob]").prompt.ends_with("bob on the bob side: Build a bridge.\n"));
    assert_eq!(space.read("report.txt"), "reviews/ann.txt\nreviews/bob.txt\nreviews/cyd.txt\n");
    assert!(space.is_done("reviews/ann.txt"));
    assert_eq!(space.state("review"), "done");
    space.assert_nothing_to_do(&server);
}

#[test]
fn of_an_item_that_is_gone_only_what_there_was_went_to_history() {
    let server = FakeLlm::scripted(|request| match request.task == "review[bob]" {
        true => Answer::error(400, "not him"),
        false => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.run(&["build"]).exits(1);
    space.write("experts.json", experts(&["ann"]));
    space.build().says(&[
        "review[bob]: its item is gone\n",
        "review[cyd]: its item is gone; `reviews/cyd.txt` went to history",
    ]);
}

#[test]
fn an_item_added() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob"]);
    space.build();
    space.write("experts.json", experts(&["ann", "new", "bob"]));
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(server.counts(), counts([("review[ann]", 1), ("review[bob]", 1), ("review[new]", 1)]));
    assert!(space.read("report.txt").contains("reviews/new.txt"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_item_removed_goes_to_history() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.build();
    let review = space.read("reviews/bob.txt");
    space.write("experts.json", experts(&["ann", "cyd"]));
    space.build();
    assert_eq!(server.total(), 3);
    assert_eq!(outputs(&space, "reviews/"), ["reviews/ann.txt", "reviews/cyd.txt"]);
    assert!(!space.exists("reviews/bob.txt.DONE") && !space.exists("reviews/bob.txt.status"));
    assert!(space.in_history(&review));
    assert_eq!(space.read("report.txt"), "reviews/ann.txt\nreviews/cyd.txt\n");
    space.assert_nothing_to_do(&server);

    // It comes back: the answer is still there.
    space.write("experts.json", experts(&["ann", "bob", "cyd"]));
    space.build();
    assert_eq!((server.total(), space.read("reviews/bob.txt")), (3, review));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_item_changed_runs_alone() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.build();
    space.edit("experts.json", "the bob side", "the other side");
    space.build();
    assert_eq!(server.counts(), counts([("review[ann]", 1), ("review[bob]", 2), ("review[cyd]", 1)]));
    assert!(server.last("review[bob]").prompt.contains("the other side"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn the_list_reordered_reformatted_or_grown_elsewhere_runs_nothing() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.build();
    space.write("experts.json", experts(&["cyd", "ann", "bob"]));
    space.assert_nothing_to_do(&server);
    let value: Value = space.json("experts.json");
    space.write("experts.json", serde_json::to_string_pretty(&value).expect("JSON"));
    space.assert_nothing_to_do(&server);
    let members = json!({ "remark": "no item", "experts": value["experts"] });
    space.write("experts.json", members.to_string());
    space.assert_nothing_to_do(&server);
    // The order of an item's members is nothing of the item.
    space.edit(
        "experts.json",
        r#"{"name":"ann","topic":"the ann side"}"#,
        r#"{"topic":"the ann side","name":"ann"}"#,
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn duplicates_fail_naming_both_items() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob"]);
    space.write(
        "experts.json",
        r#"{"experts": [{"name": "ann", "topic": "first"}, {"name": "bob", "topic": "x"}, {"name": "ann", "topic": "second"}]}"#,
    );
    let out = space.run(&["build"]).says(&["review", "ann"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    let all = format!("{}{}", out.stdout, out.stderr);
    let names_both = [("0", "2"), ("1", "3"), ("first", "second")];
    assert!(names_both.iter().any(|(a, b)| all.contains(a) && all.contains(b)), "which items? {out}");
    assert!(!space.exists("report.txt"));
}

#[test]
fn a_list_of_no_items_is_done_at_once() {
    let server = FakeLlm::new();
    let space = reviews(&server, &[]);
    space.build();
    assert_eq!(server.requests(), 0);
    assert_eq!(space.state("review"), "done");
    assert_eq!(space.state("report"), "done");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_list_that_is_none_fails_and_says_where() {
    let server = FakeLlm::new();
    let space = reviews(&server, &[]);
    for list in ["{ \"experts\": 7 }", "{}", "not json", ""] {
        space.write("experts.json", list);
        let out = space.run(&["build"]).says(&["experts"]);
        assert!(out.code == 1 || out.code == 2, "{list}: {out}");
        assert_eq!(server.requests(), 0, "{list}");
    }
}

#[test]
fn keys_make_safe_names_that_do_not_collide() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.note]
foreach = { file = "items.json", key = "name" }
outputs = ["notes/{{ key }}.txt"]
prompt = "TASK={{ item.name | tojson }}\nA note."
"#,
    );
    let long = "x".repeat(400);
    let names = [
        "simple",
        "plain",
        "a b",
        "a/b",
        "a:b",
        "../../evil",
        ".hidden",
        "-rf",
        "Größe",
        "日本",
        "$(id)",
        "x\ny",
        "PLAIN",
        ".",
        "..",
        "a%b",
        "con\u{1b}[31m",
        &long,
    ];
    let items: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    space.write("items.json", json!(items).to_string());
    space.build();
    assert_eq!(server.total(), names.len());
    let made = outputs(&space, "notes/");
    assert_eq!(made.len(), names.len(), "{made:?}");
    let folded: BTreeSet<String> = made.iter().map(|path| path.to_lowercase()).collect();
    assert_eq!(folded.len(), names.len(), "two names equal when case is folded: {made:?}");
    for path in &made {
        let name = path.strip_prefix("notes/").expect("in the folder").trim_end_matches(".txt");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(!name.is_empty() && name.chars().all(plain) && !name.starts_with(['.', '-']), "{path}");
    }
    assert!(made.contains(&"notes/simple.txt".to_owned()), "{made:?}");
    assert_eq!(
        std::fs::read_dir(space.root()).expect("the root").count(),
        3,
        "something left the run directory"
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn without_a_key_an_item_is_named_by_its_digest() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.note]
foreach = { file = "items.json" }
outputs = ["notes/{{ key }}.txt"]
prompt = "TASK=note\n{{ index }} {{ item }}"
"#,
    );
    space.write("items.json", r#"["one", "two", 3]"#);
    space.build();
    assert_eq!(server.total(), 3);
    for path in outputs(&space, "notes/") {
        let key = path.trim_start_matches("notes/").trim_end_matches(".txt");
        assert!(key.len() == 12 && key.chars().all(|c| c.is_ascii_hexdigit()), "{path}");
    }
    let mut prompts: Vec<_> = server.calls().into_iter().map(|call| call.prompt).collect();
    prompts.sort();
    for (prompt, end) in prompts.iter().zip([" one", " two", " 3"]) {
        assert!(prompt.ends_with(end), "{prompts:?}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_at_a_pointer_with_a_star() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.leaf]
foreach = { file = "tree.json", items = "/parts/*/leaves", key = "id" }
outputs = ["leaves/{{ key }}.txt"]
prompt = "TASK=leaf[{{ key }}]\n{{ item.id }}"
"#,
    );
    space.write(
        "tree.json",
        r#"{"parts": [{"leaves": [{"id": "a1"}, {"id": "a2"}]}, {"leaves": []}, {"leaves": [{"id": "b1"}]}]}"#,
    );
    space.build();
    assert_eq!(server.counts(), counts([("leaf[a1]", 1), ("leaf[a2]", 1), ("leaf[b1]", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_taken_in_batches() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.group]
foreach = { file = "items.json", batch = 2 }
outputs = ["groups/{{ key }}.txt"]
prompt = "TASK=group\n{{ item | tojson }}"
"#,
    );
    space.write("items.json", r#"["a", "b", "c", "d", "e"]"#);
    space.build();
    assert_eq!((server.total(), outputs(&space, "groups/").len()), (3, 3));
    let all: String = server.calls().into_iter().map(|call| call.prompt).collect();
    for item in ["a", "b", "c", "d", "e"] {
        assert_eq!(all.matches(&format!("\"{item}\"")).count(), 1, "{all}");
    }
    space.assert_nothing_to_do(&server);
    space.write("items.json", r#"["a", "b", "c", "d", "f"]"#);
    space.build();
    assert_eq!((server.total(), outputs(&space, "groups/").len()), (4, 3), "the last batch alone");
    space.assert_nothing_to_do(&server);
}

#[test]
fn in_sequence_each_instance_is_given_the_one_before() {
    let server = FakeLlm::scripted(|request| format!("What {} says.", request.task).into());
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{% if previous %}After: {{ previous }}{% else %}The first.{% endif %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "z"}, {"id": "m"}, {"id": "a"}]"#);
    server.hold("z");
    let build = space.spawn(&["build"]);
    server.wait_for_call("z");
    server.release("z");
    build.wait().exits(0);
    assert_eq!(server.order(), ["z", "m", "a"]);
    assert_eq!(server.most_in_flight(), 1);
    assert_eq!(server.last("z").prompt, "TASK=z\nThe first.");
    assert!(server.last("m").prompt.contains("After: What z says."), "{}", server.last("m").prompt);
    assert!(server.last("a").prompt.contains("After: What m says."), "{}", server.last("a").prompt);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_fan_out_over_files_to_be_made_is_told_before() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{{ item.id }}"

[task.each]
foreach = { glob = "parts/*.txt" }
outputs = ["each/{{ key }}.txt"]
prompt = "TASK=each\n{{ item.text }}"

[task.all]
inputs = { each = "each/*.txt" }
outputs = ["all.txt"]
command = "cat $in > $out"
"#,
    );
    space.write("parts.json", r#"[{"id": "a"}]"#);
    let told = || {
        let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
        let levels = plan["levels"].as_array().unwrap().iter().flat_map(|level| level.as_array().unwrap());
        let one = |task: &Value| {
            format!("{} {}", task["task"].as_str().unwrap(), task["verdict"].as_str().unwrap())
        };
        levels.map(one).collect::<Vec<_>>()
    };
    assert_eq!(told(), ["part[a] stale", "each depends_on", "all stale"]);
    assert_eq!(space.status("each")["verdict"], "depends_on");
    space.build();
    assert_eq!(told(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_judged_is_told_alike() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.list]
outputs = ["list.json"]
command = "echo '{' > $out"

[task.reader]
inputs = ["list.json"]
outputs = ["reader.txt"]
prompt = "TASK=reader\n{{ list.a }}"
"#,
    );
    space.run(&["build"]).exits(1);
    let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
    assert_eq!(plan["levels"][0][0]["verdict"], "stale");
    assert_eq!((&plan["stale"], &plan["calls_expected"]), (&json!(1), &json!(0)));
    assert_eq!(space.status("reader")["verdict"], "stale");
}

/// Two tasks over one list, the second reading the first item by item.
const STEPS: &str = r#"
[task.draft]
foreach = { file = "experts.json", items = "/experts", key = "name" }
outputs = ["drafts/{{ key }}.txt"]
prompt = "TASK=draft[{{ key }}]\n{{ item.topic }}"

[task.final]
foreach = { file = "experts.json", items = "/experts", key = "name" }
inputs = { draft = "drafts/{{ key }}.txt" }
outputs = ["finals/{{ key }}.txt"]
prompt = "TASK=final[{{ key }}]\n{{ draft }}"
"#;

#[test]
fn tasks_over_the_same_list_depend_item_by_item() {
    let server = FakeLlm::new();
    server.hold("draft[bob]");
    let space = Space::with(&server, STEPS);
    space.write("experts.json", experts(&["ann", "bob", "cyd"]));
    let build = space.spawn(&["build"]);
    server.wait_for_call("draft[bob]");
    server.wait_for_call("final[ann]");
    server.wait_for_call("final[cyd]");
    assert_eq!(server.count("final[bob]"), 0);
    server.release("draft[bob]");
    build.wait().exits(0);
    assert_eq!(server.total(), 6);
    assert!(server.last("final[bob]").prompt.contains(&server.last("draft[bob]").digest()));
    space.assert_nothing_to_do(&server);

    // An edited draft makes its own final stale and no other.
    space.write("drafts/cyd.txt", "My own words.\n");
    space.build();
    assert_eq!((server.total(), server.count("final[cyd]")), (7, 2));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_failed_item_blocks_its_own_chain_only() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "draft[bob]" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = Space::with(&server, STEPS);
    space.write("experts.json", experts(&["ann", "bob", "cyd"]));
    space.run(&["build"]).exits(1).says(&["draft", "bob"]);
    assert!(space.is_done("finals/ann.txt") && space.is_done("finals/cyd.txt"));
    assert_eq!(server.count("final[bob]"), 0);
    server.script(|_| Answer::Default);
    let before = server.total();
    space.build();
    assert_eq!(server.total(), before + 2, "the draft that failed and its final");
    space.assert_nothing_to_do(&server);
}

#[test]
fn enough_successes_make_the_task_done_and_partial() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "review[cyd]" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob", "cyd", "dan"]);
    space.edit("pipeline.toml", "[task.review]", "[task.review]\nmin_success = 0.75");
    space.build().says(&["partial"]);
    assert_eq!(space.read("report.txt"), "reviews/ann.txt\nreviews/bob.txt\nreviews/dan.txt\n");
    let report = space.report();
    assert_eq!(report["quality_summary"]["complete"], false, "{report:#}");
    assert!(report["quality_summary"]["partial"].to_string().contains("review"), "{report:#}");
    space.run(&["build", "--strict"]).exits(1);

    // Each build tries what is missing, and nothing else.
    let (before, missing) = (server.total(), server.count("review[cyd]"));
    space.build();
    assert_eq!(server.total() - before, server.count("review[cyd]") - missing);
    assert!(server.count("review[cyd]") > missing);
    server.script(|_| Answer::Default);
    let before = server.total();
    space.build();
    assert_eq!(server.total(), before + 1);
    assert!(space.read("report.txt").contains("cyd"));
    assert_eq!(space.report()["quality_summary"]["complete"], true);
    space.run(&["build", "--strict"]).exits(0);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_needs_the_item_that_a_partial_task_lacks_is_not_made_and_the_build_fails() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "review[cyd]" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.edit("pipeline.toml", "[task.review]", "[task.review]\nmin_success = 0.5");
    let letters = "\n[task.letter]\nforeach = { file = \"experts.json\", items = \"/experts\", key = \"name\" }\n\
                   inputs = { review = \"reviews/{{ key }}.txt\" }\noutputs = [\"letters/{{ key }}.txt\"]\n\
                   template = \"Dear {{ key }}, {{ review }}\"\n\
                   [task.post]\ninputs = { letters = \"letters/*.txt\" }\noutputs = [\"post.txt\"]\n\
                   template = \"{{ letters | length }} letters\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + letters);
    let out = space
        .run(&["build", "post"])
        .exits(1)
        .says(&["1 task failed, 2 blocked", "blocks post, letter[cyd]"]);
    assert!(!out.stderr.contains("Done:"), "{out}");
    assert!(!space.exists("post.txt"));
    let report = space.report();
    assert_eq!(report["run"]["phase"], "failed", "{report:#}");
    assert_eq!(report["error"]["failed_step"], "review[cyd]", "{report:#}");
    for task in ["letter", "post"] {
        let view = report["tasks"].as_array().and_then(|all| all.iter().find(|view| view["task"] == task));
        let view = view.unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!((&view["state"], &view["blocked_by"]), (&json!("blocked"), &json!(["review[cyd]"])));
    }
    let last = space.lines("events.jsonl").pop().expect("an event");
    assert_eq!(last["event"], "pipeline.failed", "{last}");

    // A fan-out that can do without the item as well is partial, and what comes after it is made.
    space.edit("pipeline.toml", "[task.letter]", "[task.letter]\nmin_success = 0.5");
    space.run(&["build", "post"]).exits(0).says(&["Done: 1 blocked", "Partial: review, letter"]);
    assert_eq!(space.read("post.txt"), "2 letters");
    assert_eq!((space.state("letter"), space.state("post")), ("done".into(), "done".into()));
}

#[test]
fn too_few_successes_fail_the_task_and_block_its_readers() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "review[cyd]" | "review[dan]" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob", "cyd", "dan"]);
    space.edit("pipeline.toml", "[task.review]", "[task.review]\nmin_success = 0.51");
    space.run(&["build"]).exits(1).says(&["cyd", "dan"]);
    assert!(!space.exists("report.txt"));
    assert!(space.is_done("reviews/ann.txt") && space.is_done("reviews/bob.txt"));
    assert_eq!(space.state("report"), "blocked");
}

#[test]
fn after_a_failure_only_the_missing_instance_is_asked_for() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "review[bob]" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.run(&["build"]).exits(1);
    assert!(!space.exists("report.txt"));
    server.script(|_| Answer::Default);
    let before = server.total();
    space.build();
    assert_eq!(
        (server.total(), server.count("review[ann]"), server.count("review[cyd]")),
        (before + 1, 1, 1)
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn one_instance_lost_cleaned_or_asked_for_by_name() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.", request.nth, request.task).into());
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.run(&["build", "review[bob]"]).exits(0);
    assert_eq!(server.counts(), counts([("review[bob]", 1)]));
    space.build();
    let review = space.read("reviews/bob.txt");
    space.remove("reviews/bob.txt");
    space.build();
    assert_eq!((server.total(), space.read("reviews/bob.txt")), (3, review.clone()));
    space.run(&["clean", "review[bob]", "-y"]).exits(0);
    assert!(space.in_history(review) && space.exists("reviews/ann.txt"));
    space.build();
    assert_eq!((server.total(), server.count("review[bob]")), (4, 2));
    space.run(&["explain", "review[bob]"]).exits(0).says(&["fresh"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn the_list_made_by_a_task() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("experts", 0) => json!({ "experts": [{ "name": "ann" }, { "name": "bob" }] }).into(),
        ("experts", _) => json!({ "experts": [{ "name": "ann" }, { "name": "cyd" }] }).into(),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r#"
[task.experts]
inputs = ["plan.txt"]
outputs = ["experts.json"]
prompt = "TASK=experts\n{{ plan }}"
schema = "experts.schema.json"

[task.review]
foreach = { file = "experts.json", items = "/experts", key = "name" }
outputs = ["reviews/{{ key }}.txt"]
prompt = "TASK=review[{{ key }}]\nAs {{ item.name }}."

[task.all]
inputs = ["reviews/*.txt"]
outputs = ["all.txt"]
command = "cat $in > $out"
"#,
    );
    space.write("plan.txt", "Build a bridge.\n");
    space.write(
        "experts.schema.json",
        r#"{"type": "object", "required": ["experts"], "properties": {"experts": {"type": "array", "items": {"type": "object"}}}}"#,
    );
    space.run(&["build", "-n"]).exits(0).says(&["experts", "review"]);
    space.build();
    assert_eq!(server.order()[0], "experts");
    assert_eq!(server.counts(), counts([("experts", 1), ("review[ann]", 1), ("review[bob]", 1)]));
    space.assert_nothing_to_do(&server);

    let bob = space.read("reviews/bob.txt");
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(
        server.counts(),
        counts([("experts", 2), ("review[ann]", 1), ("review[bob]", 1), ("review[cyd]", 1)])
    );
    assert_eq!(outputs(&space, "reviews/"), ["reviews/ann.txt", "reviews/cyd.txt"]);
    assert!(space.in_history(bob));
    assert!(space.read("all.txt").contains("review[cyd]") && !space.read("all.txt").contains("review[bob]"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn files_as_items() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.digest]
foreach = { glob = "docs/*.txt" }
outputs = ["digests/{{ key }}.txt"]
prompt = "TASK={{ item.path }}\n{{ item.text }}"
"#,
    );
    space.write("docs/one.txt", "the first");
    space.write("docs/two.txt", "the second");
    space.build();
    assert_eq!(server.counts(), counts([("docs/one.txt", 1), ("docs/two.txt", 1)]));
    assert_eq!(server.last("docs/two.txt").prompt, "TASK=docs/two.txt\nthe second");
    space.assert_nothing_to_do(&server);
    space.write("docs/two.txt", "the second, changed");
    space.write("docs/three.txt", "the third");
    space.build();
    assert_eq!(server.counts(), counts([("docs/one.txt", 1), ("docs/two.txt", 2), ("docs/three.txt", 1)]));
    space.remove("docs/one.txt");
    space.build();
    assert_eq!(server.total(), 4);
    assert_eq!(outputs(&space, "digests/").len(), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_an_editor_hides_among_the_files_is_no_item_and_no_input() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { glob = \"docs/**/*.txt\" }\noutputs = [\"each/{{ key }}.md\"]\n\
         template = \"{{ item.text }}\"\n\
         [task.all]\ninputs = { docs = \"docs/**/*.txt\", own = \"docs/.notes/*.txt\" }\noutputs = [\"all.md\"]\n\
         template = \"{% for file in docs + own %}{{ file.path }}\\n{% endfor %}\"\n",
    );
    space.write("docs/a.txt", "A");
    space.write("docs/.notes/n.txt", "N");
    // As Emacs locks a file that is being edited: a link to nowhere.
    std::os::unix::fs::symlink("me@host.4711", space.path("docs/.#a.txt")).expect("a link");
    space.run(&["build"]).exits(0).says(&["✓ each[a]", "2 tasks ran"]);
    assert_eq!(space.read("all.md"), "docs/a.txt\ndocs/.notes/n.txt\n");
}

#[test]
fn the_place_of_an_item_counts_where_it_is_used() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        "[task.page]\nforeach = { file = \"names.json\", items = \"/*\" , key = \"n\" }\noutputs = [\"{{ key }}.txt\"]\n\
         template = \"{{ index }} {{ item.n }}\"\n\
         [task.ask]\nforeach = { file = \"names.json\", items = \"/*\", key = \"n\" }\noutputs = [\"{{ key }}.md\"]\n\
         prompt = \"TASK=ask\\n{{ index }} {{ item.n }}\"\n\
         [task.other]\nforeach = { file = \"names.json\", items = \"/*\", key = \"n\" }\noutputs = [\"{{ key }}.o\"]\n\
         template = \"{{ item.n }}, {{ key }}\"\n",
    );
    space.write("names.json", r#"[{"n": "a"}, {"n": "b"}]"#);
    space.build();
    assert_eq!((space.read("a.txt"), space.read("b.txt")), ("0 a".into(), "1 b".into()));
    // Without this one the verdicts are not those of the last build.
    space.build();
    let untouched = space.mtime("b.o");
    space.write("names.json", r#"[{"n": "b"}]"#);
    space.run(&["build", "-n"]).exits(0).says(&["page[b]", "the place of the item changed", "ask[b]"]);
    space.build();
    assert_eq!((space.read("b.txt"), server.count("ask")), ("0 b".into(), 3));
    assert!(server.last("ask").prompt.contains("0 b"));
    assert_eq!(space.mtime("b.o"), untouched);
    space.assert_nothing_to_do(&server);
}

#[test]
fn commands_and_schemas_by_item() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.score]
foreach = { file = "items.json", key = "id" }
outputs = ["scores/{{ key }}.json", { path = "scores/{{ key }}.md", template = "score.md.j2" }]
prompt = "TASK=score[{{ key }}]\nScore {{ item.id }}"
schema = "score.schema.json"

[task.line]
foreach = { file = "items.json", key = "id" }
inputs = ["scores/{{ key }}.json"]
outputs = ["lines/{{ key }}.txt"]
command = ["sh", "-c", "echo \"$1 $2\" > \"$3\"", "sh", "$key", "$in", "$out"]
"#,
    );
    space.write("items.json", r#"[{"id": "a"}, {"id": "b"}]"#);
    space.write("score.md.j2", "{{ key }}: {{ answer.score }}\n");
    space.write(
        "score.schema.json",
        r#"{"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}}"#,
    );
    space.build();
    assert_eq!(space.read("scores/a.md"), "a: 1\n");
    assert_eq!(space.json("scores/b.json"), json!({ "score": 1 }));
    let line = space.read("lines/b.txt");
    assert!(line.starts_with("b ") && line.ends_with("scores/b.json\n"), "{line}");
    assert_eq!(server.total(), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_change_in_a_sequence_goes_on_only_as_far_as_answers_differ() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "same" => "Always the same.".into(),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{{ item.text }} {% if previous %}{{ previous }}{% endif %}"
"#,
    );
    let parts = |first: &str, second: &str| {
        json!([{ "id": "one", "text": first }, { "id": "same", "text": second }, { "id": "last", "text": "x" }]).to_string()
    };
    space.write("parts.json", parts("a", "b"));
    space.build();
    assert_eq!(server.order(), ["one", "same", "last"]);
    space.write("parts.json", parts("changed", "b"));
    space.build();
    assert_eq!(server.counts(), counts([("last", 1), ("one", 2), ("same", 2)]));
    space.write("parts.json", parts("changed", "as well"));
    space.build();
    assert_eq!(server.counts(), counts([("last", 1), ("one", 2), ("same", 3)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_comes_after_an_item_in_a_sequence_is_downstream_of_it() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.part]
foreach = { file = "parts.json" , key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
template = "{{ previous }}{{ key }} "

[task.all]
inputs = ["parts/*.txt"]
outputs = ["all.txt"]
template = "{% for input in inputs %}{{ input }}{% endfor %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "z"}, {"id": "m"}, {"id": "a"}]"#);
    space.build();
    let out = space.run(&["clean", "part[m]", "--downstream", "-n"]).exits(0);
    let out = out.says(&["parts/m.txt", "parts/a.txt", "all.txt"]);
    out.says_nothing_of(&["parts/z.txt"]);
}

#[test]
fn a_failure_in_a_sequence_stops_it_there() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "b" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{% if previous %}{{ previous }}{% endif %}"
"#,
    );
    space.write("parts.json", r#"[{"id": "a"}, {"id": "b"}, {"id": "c"}]"#);
    space.run(&["build"]).exits(1).says(&["part[b]"]);
    assert_eq!(server.order(), ["a", "b"]);
    server.script(|_| Answer::Default);
    space.build();
    assert_eq!(server.order(), ["a", "b", "b", "c"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn markers_of_instances_are_markers() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.", request.nth, request.task).into());
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.write("reviews/ann.txt", "Written by hand.\n");
    space.write("reviews/ann.txt.DONE", "");
    space.build();
    assert_eq!(server.counts(), counts([("review[bob]", 1), ("review[cyd]", 1)]));
    assert_eq!(space.read("reviews/ann.txt"), "Written by hand.\n");
    space.assert_nothing_to_do(&server);
    space.remove("reviews/bob.txt.DONE");
    space.build();
    assert_eq!((server.total(), server.count("review[bob]")), (3, 2));
    space.write("reviews/cyd.txt", "Mine.\n");
    space.build();
    assert_eq!((server.total(), space.read("reviews/cyd.txt")), (3, "Mine.\n".to_owned()));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_item_renamed_is_another_item() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob"]);
    space.build();
    space.edit("experts.json", "\"name\":\"bob\"", "\"name\":\"rob\"");
    space.build();
    assert_eq!(server.counts(), counts([("review[ann]", 1), ("review[bob]", 1), ("review[rob]", 1)]));
    assert_eq!(outputs(&space, "reviews/"), ["reviews/ann.txt", "reviews/rob.txt"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edited_orphan_is_not_lost() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob"]);
    space.build();
    space.write("reviews/bob.txt", "My own words.\n");
    space.write("reviews/mine.txt", "No output of anything.\n");
    space.write("experts.json", experts(&["ann"]));
    space.build();
    assert!(!space.exists("reviews/bob.txt") && space.in_history("My own words.\n"));
    assert_eq!(space.read("reviews/mine.txt"), "No output of anything.\n");
}

#[test]
fn two_thousand_items() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[models.made_up]
api = "simulated"
latency = 0
words = 5
max_concurrent = 32

[defaults]
model = "made_up"

[task.note]
foreach = { file = "items.json", key = "id" }
outputs = ["notes/{{ key }}.txt"]
prompt = "Note {{ item.id }} {{ item.text }}"

[task.all]
inputs = ["notes/*.txt"]
outputs = ["all.txt"]
command = "ls notes | grep -c 'txt$' > $out"
"#,
    );
    let items = |changed: usize| {
        let text = |n| if n == changed { "changed" } else { "plain" };
        let items: Vec<Value> =
            (0..2000).map(|n| json!({ "id": format!("i{n}"), "text": text(n) })).collect();
        json!(items).to_string()
    };
    space.write("items.json", items(5000));
    space.run(&["build", "-j32"]).exits(0);
    assert_eq!(outputs(&space, "notes/").len(), 2000);
    space.assert_nothing_to_do(&server);
    let before = space.bytes("notes/i7.txt");
    space.write("items.json", items(1000));
    space.run(&["build", "-j32"]).exits(0);
    assert_eq!(space.bytes("notes/i7.txt"), before);
    let calls = space.lines("usage_metrics.jsonl").len();
    assert_eq!(calls, 2001);
    space.assert_nothing_to_do(&server);
}

/// What a file holds is part of its item, also where no prompt reads it.
#[test]
fn an_edited_file_among_the_items_is_seen() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.letters]
foreach = { glob = "docs/*.txt" }
outputs = ["replies/{{ key }}.txt"]
prompt = "TASK=letters\n{{ item.text }}"

[task.copies]
foreach = { glob = "docs/*.md" }
outputs = ["copies/{{ key }}.txt"]
command = "echo $key >> ran.log; cp docs/$key.md $out"
"#,
    );
    for name in ["a.txt", "b.txt", "c.txt", "a.md", "b.md"] {
        space.write(&format!("docs/{name}"), format!("Dear {name}.\n"));
    }
    space.build();
    for n in 0..2 {
        for file in ["docs/b.txt", "docs/b.md"] {
            // The memo is written once the files are old enough to be told from a later change.
            until("a memo", || {
                space.run(&["build"]).exits(0).says(&["up to date"]);
                space.exists(".planexe/memo").then_some(())
            });
            space.write(file, format!("Dear b, {n}.\n"));
            space.run(&["build", "-q"]).exits(1);
            space.build();
            space.assert_nothing_to_do(&server);
        }
        assert_eq!((server.count("letters"), space.read("copies/b.txt")), (4 + n, format!("Dear b, {n}.\n")));
        assert_eq!(space.read("ran.log").lines().count(), 3 + n);
    }
}

#[test]
fn sample_answers_are_counted_by_item() {
    let server = FakeLlm::new();
    let fan_out = |what: &str| {
        format!(
            "[task.part]\nforeach = {{ file = \"items.json\", key = \"id\" }}\noutputs = [\"{{{{ key }}}}.txt\"]\n\
             prompt = \"TASK=part[{{{{ key }}}}]\\n{what} {{{{ item.id }}}}\"\n"
        )
    };
    let space = Space::with(&server, &fan_out("Tell of"));
    space.write("items.json", r#"[{"id": "a"}, {"id": "b"}, {"id": "c"}]"#);
    space.run(&["build"]).exits(0);
    space.run(&["record", "answers.jsonl"]).exits(0);
    let played = "[models.played]\napi = \"recorded\"\nfile = \"answers.jsonl\"\non_miss = \"task\"\n\n\
                  [defaults]\nmodel = \"played\"\n\n";
    space.write("pipeline.toml", played.to_owned() + &fan_out("Sing of"));
    space.run(&["build"]).exits(0).says(&["part[a], part[b], part[c]"]);
    assert_eq!(space.report()["quality_summary"]["sample"], json!(["part[a]", "part[b]", "part[c]"]));
    assert_eq!(server.total(), 3);
}

#[test]
fn an_item_that_is_named_and_is_none_is_a_mistake() {
    let server = FakeLlm::new();
    let list =
        "[task.list]\ninputs = [\"names.json\"]\noutputs = [\"list.json\"]\ncommand = \"cp $in $out\"\n";
    let each = |name: &str, file: &str| {
        format!(
            "[task.{name}]\nforeach = {{ file = \"{file}\", items = \"/*\", key = \"k\" }}\n\
             outputs = [\"{name}/{{{{ key }}}}.txt\"]\nprompt = \"TASK={name}\\n{{{{ key }}}}\"\n"
        )
    };
    let tasks = format!("{list}{}{}", each("given", "names.json"), each("made", "list.json"));
    let space = Space::with(&server, &tasks);
    space.write("names.json", r#"[{ "k": "ann" }, { "k": "bob" }]"#);
    // A list that is there is looked at before anything runs; one that is made, once it is.
    for command in [&["build", "given[anna]"][..], &["build", "-n", "given[anna]"], &["watch", "given[anna]"]]
    {
        space.run(command).exits(2).says(&["`given` has no item `anna`; did you mean `ann`?"]);
    }
    space.run(&["build", "made[anna]"]).exits(1).says(&["`made` has no item `anna`; did you mean `ann`?"]);
    space.run(&["build", "given[ann]", "made[bob]"]).exits(0);
    assert_eq!(server.counts(), counts([("given", 1), ("made", 1)]));
}

#[test]
fn a_partial_run_that_is_complete_is_not_made_all_again() {
    let server = FakeLlm::scripted(|request| match request.prompt.contains("bob") {
        true => Answer::error(400, "not him"),
        false => Answer::Default,
    });
    let space = Space::with(
        &server,
        "[task.each]\nforeach = { file = \"names.json\", items = \"/*\" }\nmin_success = 0.5\n\
         outputs = [\"each/{{ key }}.txt\"]\nprompt = \"TASK=each\\n{{ item }}\"\n",
    );
    space.write("names.json", r#"["ann", "bob"]"#);
    space.run(&["build"]).exits(0);
    let out = space.run(&["resume"]).exits(2).says(&["`planexe build` tries those again"]);
    assert!(!out.stderr.contains("-B"), "{out}");
}

#[test]
fn a_failed_item_blocks_what_needs_that_item_alone() {
    let space = Space::new();
    let each = |name: &str, inputs: &str, command: &str| {
        format!(
            "[task.{name}]\nforeach = {{ file = \"names.json\", items = \"/*\", key = \"k\" }}\ninputs = [{inputs}]\n\
             outputs = [\"{name}/{{{{ key }}}}.txt\"]\ncommand = \"{command}\"\n"
        )
    };
    let first = each("first", "", "test $key != bob && echo > $out");
    let second = each("second", "\"first/{{ key }}.txt\"", "cp $in $out");
    let third = each("third", "\"second/{{ key }}.txt\"", "cp $in $out");
    let all =
        "[task.all]\ninputs = [\"third/*.txt\"]\noutputs = [\"all.txt\"]\ncommand = \"cat $in > $out\"\n";
    space.write("pipeline.toml", first + &second + &third + all);
    space.write("names.json", r#"[{ "k": "ann" }, { "k": "bob" }, { "k": "cid" }]"#);
    let out = space.run(&["build", "--json"]).exits(1).says(&["blocks 3 tasks"]);
    let view = out.json();
    assert_eq!(view["failed"][0]["blocks"], json!(["all", "second[bob]", "third[bob]"]), "{view:#}");
    assert_eq!(view["summary"]["blocked"], 3, "{view:#}");
    assert!(space.is_done("third/cid.txt"));
}
