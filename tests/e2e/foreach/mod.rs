//! Fan-out: one instance per item, known only once the list is there, each with its own answer.

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space, counts};

mod commands;
mod items;
mod output_conflicts;
mod partial;
mod sequence;

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
fn of_several_items_that_are_gone_a_restore_says_so() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob", "cyd"]);
    space.build();
    space.write("experts.json", experts(&["ann"]));
    space.build();
    let gone = "review[bob] and 1 other are not in the pipeline, so no build makes or reads them";
    space.run(&["restore", "review"]).exits(0).says(&[gone]);
    space.build();
    space
        .run(&["restore", "review[cyd]"])
        .exits(0)
        .says(&["review[cyd] is not in the pipeline, so", "reads it"]);
    space.build();
    space.assert_nothing_to_do(&server);
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
