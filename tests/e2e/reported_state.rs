//! What is told of a run is what is so: wishes that no file tells, samples, states nobody knows, what was cleaned.

use serde_json::json;

use crate::support::{Answer, CHAIN, FakeLlm, Space, counts, space, until};

/// A server that refuses the second call of a task.
fn refusing(task: &'static str) -> FakeLlm {
    FakeLlm::scripted(move |request| match request.task == task && request.nth == 1 {
        true => Answer::error(400, "no such field"),
        false => Answer::Default,
    })
}

// ---- `-B` and `--rebuild-on model` that did not come to their end

#[test]
fn a_forced_build_that_fails_is_gone_on_with() {
    let server = refusing("b");
    let space = space(&server, CHAIN);
    space.build();
    space.run(&["build", "-B"]).exits(1);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 1)]));
    assert_eq!((space.state("b").as_str(), space.state("c").as_str()), ("failed", "blocked"));
    assert_eq!(space.report()["run"]["phase"], "failed");
    space.run(&["build", "-q"]).exits(1);
    space.run(&["build"]).exits(0);
    // c gave the same bytes to nobody: it was asked for as well.
    assert_eq!(server.counts(), counts([("a", 2), ("b", 3), ("c", 2)]));
    assert!(!space.exists(".planexe/anew.json"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_forced_command_that_fails_is_tried_again() {
    for keys in ["", "in_place = true\n"] {
        let space = Space::new();
        let task = "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"test -f boom && exit 1; echo made >> runs; echo a > $out\"\n";
        space.write("pipeline.toml", format!("{task}{keys}"));
        space.build();
        space.write("boom", "");
        space.run(&["build", "-B"]).exits(1);
        assert_eq!(space.state("a"), "failed", "{keys}");
        space.run(&["explain", "a"]).exits(0).says(&["exit"]);
        space.run(&["build"]).exits(1);
        space.run(&["build", "--keep-failed"]).exits(1);
        space.remove("boom");
        space.build();
        assert_eq!(space.read("runs").lines().count(), 2, "{keys}");
        space.run(&["build"]).exits(0).says(&["up to date"]);
    }
}

#[test]
fn a_forced_build_that_is_stopped_is_gone_on_with() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    server.hold("a");
    let build = space.spawn(&["build", "-B"]);
    server.wait_for_calls("a", 2);
    space.run(&["stop"]).exits(0);
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    server.release("a");
    build.wait().exits(3);
    // Neither had its turn.
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]));
    for task in ["b", "c"] {
        let reasons = space.status(task)["reasons"].clone();
        assert_eq!(
            reasons[0]["reason"].as_str().or(reasons[0]["code"].as_str()),
            Some("forced"),
            "{reasons}"
        );
    }
    assert_eq!(space.report()["run"]["phase"], "stopped");
    space.run(&["build", "-q"]).exits(1);
    let before = space.everything();
    let out = space.run(&["build", "-n"]).exits(0).says(&["-B"]);
    space.everything().assert_same_as(&before, &out);
    space.run(&["resume"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_forced_build_that_is_killed_is_gone_on_with() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    server.hold("a");
    let build = space.spawn(&["build", "-B"]);
    server.wait_for_calls("a", 2);
    build.kill9();
    server.release("a");
    server.wait_for_quiet();
    space.build();
    assert_eq!(server.counts(), counts([("a", 3), ("b", 2), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_is_marked_as_done_is_asked_for_no_more() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    server.hold("a");
    let build = space.spawn(&["build", "-B"]);
    server.wait_for_calls("a", 2);
    space.run(&["stop"]).exits(0);
    until("the build to say that it stops", || build.stderr().contains("stop").then_some(()));
    server.release("a");
    build.wait().exits(3);
    space.run(&["touch", "b", "c"]).exits(0);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_of_a_forced_fan_out_are_gone_on_with() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("e[two]", 1) => Answer::error(400, "no such field"),
        _ => Answer::Default,
    });
    let tasks = "[task.e]\nforeach = { file = \"list.json\", items = \"\", key = \"id\" }\nsequential = true\n\
                 outputs = [\"e/{{ key }}.txt\"]\nprompt = \"TASK=e[{{ item.id }}]\\nWrite.\"\n";
    let space = space(&server, tasks);
    space.write("list.json", r#"[{"id": "one"}, {"id": "two"}, {"id": "three"}]"#);
    space.build();
    space.run(&["build", "-B"]).exits(1);
    assert_eq!(server.counts(), counts([("e[one]", 2), ("e[two]", 2), ("e[three]", 1)]));
    space.build();
    assert_eq!(server.counts(), counts([("e[one]", 2), ("e[two]", 3), ("e[three]", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn another_model_that_was_asked_for_and_failed_is_asked_again() {
    let server = refusing("b");
    let space = space(&server, CHAIN);
    space.build();
    let model =
        space.read("pipeline.toml").lines().find(|line| line.starts_with("model =")).unwrap().to_owned();
    space.edit("pipeline.toml", &model, "model = \"another\"");
    space.run(&["build"]).exits(0).says(&["up to date"]);
    space.run(&["build", "--rebuild-on", "model"]).exits(1);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 1)]));
    space.run(&["build"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 3), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edited_output_is_kept_when_a_forced_build_does_not_come_to_it() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.write("c.txt", "mine");
    server.hold("a");
    let build = space.spawn(&["build", "-B"]);
    server.wait_for_calls("a", 2);
    build.kill9();
    server.release("a");
    server.wait_for_quiet();
    space.run(&["build"]).exits(0).says(&["edited by hand"]);
    assert!(space.in_history("mine"));
    assert_eq!(server.count("c"), 2);
}

// ---- Samples

#[test]
fn a_template_is_told_of_the_samples_it_rests_on() {
    let server = FakeLlm::new();
    let asked = |words: &str| {
        format!(
            "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{words}\"\n\
             [task.e]\nforeach = {{ file = \"list.json\", items = \"\", key = \"id\" }}\n\
             outputs = [\"e/{{{{ key }}}}.txt\"]\nprompt = \"TASK=e\\n{words}\"\n"
        )
    };
    let read = "[task.b]\ninputs = [\"a.txt\", \"e/*.txt\"]\noutputs = [\"b.txt\"]\ntemplate = \"{{ a }}\"\n\
                [task.sum]\ninputs = [\"b.txt\"]\noutputs = [\"sum.json\"]\ntemplate = \"{{ samples | tojson }}\"\n";
    let model = "[models.m]\napi = \"recorded\"\nfile = \"answers.json\"\non_miss = \"task\"\n[defaults]\nmodel = \"m\"\n";
    let real = Space::with(&server, &asked("First"));
    let space = Space::new();
    for space in [&real, &space] {
        space.write("list.json", r#"[{"id": "x"}]"#);
    }
    real.build();
    real.run(&["record", "answers.json"]).exits(0);
    space.write("answers.json", real.read("answers.json"));
    let samples = |words: &str| {
        space.write("pipeline.toml", format!("{model}{}{read}", asked(words)));
        space.build();
        assert_eq!(space.json("sum.json"), space.report()["quality_summary"]["sample"], "{words}");
        space.json("sum.json")
    };
    assert_eq!(samples("First"), json!([]));
    // The same answers, but they are those of other prompts: what rests on them is told so, and no longer once they are not.
    assert_eq!(samples("Second"), json!(["a", "e[x]"]));
    assert_eq!(samples("First"), json!([]));
    space.run(&["build"]).exits(0).says(&["up to date"]);
}

// ---- States and reasons

const ONE: &str = "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n";

#[test]
fn a_state_nobody_knows_is_told_with_what_helps() {
    let space = Space::new();
    space.write("pipeline.toml", ONE);
    space.build();
    space.remove("a.txt.DONE");
    space.edit("a.txt.status", "\"done\"", "\"floating\"");
    space
        .run(&["explain", "a"])
        .exits(0)
        .says(&["floating", "planexe clean a"])
        .says_nothing_of(&["would:", "will run"]);
    space.run(&["build"]).exits(1).says(&["floating", "planexe clean a"]);
    space.run(&["clean", "-y", "a"]).exits(0);
    space.build();
    space.run(&["build"]).exits(0).says(&["up to date"]);
}

#[test]
fn what_cannot_be_read_is_not_said_to_run() {
    let space = Space::new();
    space.write("data.json", "{");
    space.write(
        "pipeline.toml",
        "[task.a]\ninputs = [\"data.json\"]\noutputs = [\"a.txt\"]\nwhen = \"{{ data.x == 1 }}\"\ntemplate = \"{{ data.x }}\"\n",
    );
    space
        .run(&["explain", "a"])
        .exits(0)
        .says(&["cannot run", "data.json"])
        .says_nothing_of(&["will run", "would:"]);
    space.run(&["build"]).exits(1);
    space.write("data.json", "{\"x\": 1}");
    space.build();
}

#[test]
fn what_was_cleaned_was_built() {
    let space = Space::new();
    space.write("pipeline.toml", ONE);
    space.run(&["build", "-n"]).exits(0).says(&["never built"]);
    space.build();
    space.run(&["clean", "-y", "a"]).exits(0);
    space.run(&["build", "-n"]).exits(0).says(&["it was cleaned"]).says_nothing_of(&["never built"]);
    space.run(&["explain", "a"]).exits(0).says(&["it was cleaned"]);
    space.run(&["build", "--explain"]).exits(0).says(&["it was cleaned"]).says_nothing_of(&["never built"]);
    space.run(&["clean", "-y", "a"]).exits(0);
    space.run(&["restore", "a"]).exits(0);
    space.run(&["build"]).exits(0).says(&["up to date"]);
}

#[test]
fn a_run_that_waited_and_was_cleaned_is_not_paused() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        format!("{ONE}[task.gate]\ninputs = [\"a.txt\"]\noutputs = [\"ok.md\"]\nhuman = \"look at it\"\n"),
    );
    space.run(&["build"]).exits(3);
    assert_eq!(space.report()["run"]["phase"], "waiting");
    space.run(&["clean", "-y", "a", "--downstream"]).exits(0);
    assert_eq!(space.report()["run"]["phase"], "stopped");
    space.run(&["resume"]).exits(3);
}

// ---- Checkpoints, and what was brought back by hand

const TWO: &str = "[task.a]\ninputs = [\"in\"]\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"\n\
                   [task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\ncommand = \"cat $in > $out\"\n";

fn last_checkpoint(space: &Space) -> String {
    let all = space.run(&["checkpoints", "--json"]).exits(0).json();
    let last = all["checkpoints"].as_array().and_then(|all| all.last()).expect("a checkpoint");
    last["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_moment_has_what_was_brought_back_before_it() {
    let space = Space::new();
    space.write("pipeline.toml", TWO);
    space.write("in", "1");
    space.build();
    space.run(&["clean", "a", "--downstream", "-y"]).exits(0);
    space.run(&["restore", "b"]).exits(0);
    space.build();
    space.run(&["build", "-q"]).exits(0);
    let moment = last_checkpoint(&space);
    space.run(&["clean", "a", "b", "-y"]).exits(0);
    space.build();
    space.run(&["restore", "--checkpoint", &moment]).exits(0);
    assert_eq!((space.read("a.txt"), space.read("b.txt")), ("1".into(), "1".into()));
    space.run(&["build", "-q"]).exits(0);
}

#[test]
fn a_moment_has_the_version_that_was_brought_back_and_not_what_was_cleaned_again() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        TWO.to_owned()
            + "[task.c]\ninputs = [\"c.in\"]\noutputs = [\"c.txt\"]\ncommand = \"cat $in > $out\"\n",
    );
    for (n, text) in ["1", "2"].iter().enumerate() {
        space.write("in", text);
        space.write("c.in", n.to_string());
        space.build();
    }
    // The older version of b stands when c is made.
    space.run(&["restore", "b@1"]).exits(0);
    space.write("c.in", "with the older");
    space.run(&["build", "c"]).exits(0);
    let older = last_checkpoint(&space);
    // Cleaned, brought back and cleaned again, with the same content each time.
    space.run(&["clean", "b", "-y"]).exits(0);
    space.run(&["restore", "b"]).exits(0);
    space.run(&["clean", "b", "-y"]).exits(0);
    space.write("c.in", "without");
    space.run(&["build", "c"]).exits(0);
    let without = last_checkpoint(&space);
    space.build();
    assert_eq!(space.read("b.txt"), "2");
    space.run(&["restore", "--checkpoint", &without]).exits(0);
    assert!(!space.exists("b.txt"), "it was cleaned then");
    space.run(&["restore", "--checkpoint", &older]).exits(0);
    assert_eq!(space.read("b.txt"), "1");
}

// ---- Gates

#[test]
fn an_approval_is_no_warning_and_a_condition_let_pass_is_one() {
    for (condition, warned) in
        [("{{ true }}", false), ("{{ a is defined }}", false), ("{{ 'a' in a }}", true)]
    {
        let space = Space::new();
        space.write(
            "pipeline.toml",
            format!("{ONE}[task.g]\ninputs = [\"a.txt\"]\noutputs = [\"g.json\"]\ngate = {{ fail_if = \"{condition}\", action = \"pause\" }}\n"),
        );
        space.run(&["build"]).exits(3);
        assert_eq!(space.report()["run"]["phase"], "waiting");
        space.run(&["done", "g"]).exits(0);
        // Nobody is waited for any more, though no build has taken it up.
        assert_eq!(
            (space.state("g").as_str(), &space.report()["run"]["phase"]),
            ("pending", &json!("stopped"))
        );
        space.build();
        assert_eq!(space.json("g.json")["by"], "human", "{condition}");
        let quality = space.report()["quality_summary"].clone();
        assert_eq!(quality["warned"] == json!(["g"]), warned, "{condition}: {quality}");
    }
}
