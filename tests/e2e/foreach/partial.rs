//! Items that fail: what they block, and what is done without them.

use serde_json::json;

use super::{experts, reviews};
use crate::support::{Answer, FakeLlm, Space};

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

/// With a share of 0 readers run though all failed; the smallest share above it wants one.
#[test]
fn what_may_lack_all_its_items_is_partial_without_any() {
    let server = FakeLlm::scripted(|request| match request.task.starts_with("review[") {
        true => Answer::error(400, "not this one"),
        false => Answer::Default,
    });
    let space = reviews(&server, &["ann", "bob"]);
    space.edit("pipeline.toml", "[task.review]", "[task.review]\nmin_success = 0.000000000001");
    space.run(&["build"]).exits(1);
    assert!(!space.exists("report.txt"));
    space.edit("pipeline.toml", "min_success = 0.000000000001", "min_success = 0");
    space.build().says(&["partial"]);
    assert_eq!(space.read("report.txt").trim(), "");
    let report = space.report();
    assert!(report["quality_summary"]["partial"].to_string().contains("review"), "{report:#}");
    assert_eq!(report["run"]["phase"], "completed", "{report:#}");
    space.run(&["build", "--strict"]).exits(1);
    server.script(|_| Answer::Default);
    let before = server.total();
    space.build();
    assert_eq!(server.total(), before + 2, "the two that were missing");
    assert_eq!(space.report()["quality_summary"]["complete"], true);
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
