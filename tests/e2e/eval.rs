//! Evaluation and rescue: what a task made is done from a score on, made again with the notes below it, and waits where
//! its evaluator is away. Every call is counted, of the task (`fix`, `plan`) and of its evaluator (`judge`).

use serde_json::{Value, json};

use crate::support::{Answer, ChatRequest, FakeLlm, Space, counts, until};

/// An evaluator that gives these scores in turn, the last one from then on; everything else gets what follows from its
/// prompt.
pub(super) fn judge(scores: &'static [&'static str]) -> FakeLlm {
    FakeLlm::scripted(move |call: &ChatRequest| match call.task.as_str() {
        "judge" => verdict(scores[call.nth.min(scores.len() - 1)]),
        _ => Answer::Default,
    })
}

pub(crate) fn verdict(score: &str) -> Answer {
    Answer::Text(format!("{{\"score\": {score}, \"notes\": \"Name the owner of each risk.\"}}"))
}

const EVAL: &str = r#"prompt = "TASK=judge\nround {{ round }}, error {{ error }}:\n{% for o in outputs %}{{ o.path }}: {{ o.text }}{% endfor %}"
"#;

/// A task of these keys that makes an output of the plan, its evaluator, and a reader.
pub(crate) fn evaluated(server: &FakeLlm, name: &str, output: &str, task: &str, keys: &str) -> Space {
    let tasks = format!(
        r##"
[task.{name}]
inputs  = ["plan.txt"]
outputs = ["{output}"]
{task}
[task.{name}.eval]
{EVAL}{keys}
[task.reader]
inputs  = ["{output}"]
outputs = ["reader.txt"]
command = "cat $in > $out"
"##
    );
    let space = Space::with(server, &tasks);
    space.write("plan.txt", "A bridge.");
    space
}

/// A command that leaves its output and exits with 1.
pub(crate) fn agent(server: &FakeLlm, command: &str, keys: &str) -> Space {
    let task = format!("kind    = \"agent\"\ncommand = '''{command}'''");
    evaluated(server, "fix", "fix.md", &task, keys)
}

pub(crate) const LEAVES: &str =
    "echo ran >> ran.log; echo A fix of $(cat $in) > $out; echo too many turns >&2; exit 1";

pub(crate) fn prompt(server: &FakeLlm, keys: &str) -> Space {
    evaluated(server, "plan", "plan.md", r#"prompt  = "TASK=plan\n{{ plan }}""#, keys)
}

fn ran(space: &Space) -> usize {
    if space.exists("ran.log") { space.read("ran.log").lines().count() } else { 0 }
}

#[test]
fn wg1_an_agent_that_exits_with_1_is_rescued_by_its_evaluator() {
    let server = judge(&["0.82"]);
    let space = agent(&server, LEAVES, "");
    server.hold("judge");
    let build = space.spawn(&["build"]);
    server.wait_for_call("judge");
    let status = until("the state", || Some(space.sidecar("fix.md")).filter(|it| it["state"] != "running"));
    assert_eq!(status["state"], "failed_pending_eval");
    assert_eq!(status["eval"]["score"], Value::Null);
    assert_eq!(status["failure"]["class"], "exit");
    assert!(!space.is_done("fix.md") && !space.exists("fix.md") && !space.exists("reader.txt"));
    let shown = space.run(&["status"]);
    assert!(shown.stdout.contains("! failed_pending_eval"), "{}", shown.stdout);
    server.release("judge");
    build.wait().exits(0).says(&["1 rescued"]);
    assert_eq!(space.read("fix.md"), "A fix of A bridge.\n");
    assert_eq!(space.read("reader.txt"), "A fix of A bridge.\n");
    assert_eq!(space.done("fix.md")["by"], "rescue");
    let status = space.sidecar("fix.md");
    assert_eq!((&status["rescued"], &status["eval"]["score"]), (&json!(true), &json!(0.82)));
    assert_eq!(space.report()["quality_summary"]["rescued"], json!(["fix"]));
    assert!(space.run(&["status"]).stdout.contains("✓* done"));
    assert!(space.lines("events.jsonl").iter().any(|event| event["event"] == "task.rescued"));
    let failures = space.lines("failures.jsonl");
    assert_eq!((failures.len(), &failures[0]["class"]), (1, &json!("exit")));
    let asked = server.last("judge");
    for words in ["fix.md: A fix of A bridge.", "exit code 1", "too many turns"] {
        assert!(asked.prompt.contains(words), "{}", asked.prompt);
    }
    assert!(asked.schema.is_some());
    assert_eq!((ran(&space), server.count("judge")), (1, 1));
    space.assert_nothing_to_do(&server);
}

#[test]
fn wg2_a_low_score_leaves_the_failure_as_it_was_and_blocks() {
    let server = judge(&["0.31"]);
    let space = agent(&server, LEAVES, "");
    space.run(&["build"]).exits(1).says(&[
        "exit code 1",
        "score 0.31, wanted 0.7 or more",
        "owner of each risk",
    ]);
    let status = space.sidecar("fix.md");
    assert_eq!((&status["state"], &status["failure"]["class"]), (&json!("failed"), &json!("exit")));
    assert_eq!((&status["failure"]["exit_code"], &status["eval"]["score"]), (&json!(1), &json!(0.31)));
    assert_eq!((space.state("reader").as_str(), space.exists("fix.md")), ("blocked", false));
    // WG12: the next attempt is given the notes, by a file; the first was given none.
    space.edit(
        "pipeline.toml",
        "echo ran",
        "cat $PLANEXE_NOTES > seen.txt; cat $PLANEXE_FORMER >> seen.txt; echo ran",
    );
    space.run(&["build"]).exits(1);
    assert_eq!((ran(&space), server.count("judge")), (2, 2));
}

#[test]
fn wg3_what_is_no_candidate_is_never_rescued_and_nobody_is_asked() {
    let rows = [
        ("no output", "echo no >&2; exit 1", ""),
        ("an empty one", ": > $out; exit 1", ""),
        ("a signal", "echo x > $out; kill -9 $$$$", ""),
        ("a signal that the shell tells", "echo x > $out; exit 137", ""),
        ("a time-out", "echo x > $out; exec sleep 100", "TIMEOUT"),
        ("no such program", "echo x > $out; exec no-such-program", ""),
        ("not wanted", "echo x > $out; exit 1", "rescue = false"),
    ];
    for (name, command, keys) in rows {
        let server = judge(&["0.9"]);
        let space = agent(&server, command, if keys == "TIMEOUT" { "" } else { keys });
        if keys == "TIMEOUT" {
            space.edit("pipeline.toml", "kind    =", "timeout = \"500ms\"\nkind    =");
        }
        space.run(&["build"]).exits(1);
        assert_eq!(
            (space.sidecar("fix.md")["state"].as_str(), server.total()),
            (Some("failed"), 0),
            "{name}"
        );
        assert!(!space.is_done("fix.md"), "{name}");
    }
    // A shell task must say so.
    let server = judge(&["0.9"]);
    let space = agent(&server, LEAVES, "");
    space.edit("pipeline.toml", "kind    = \"agent\"\n", "");
    space.run(&["build"]).exits(1);
    assert_eq!(server.total(), 0);
    space.edit("pipeline.toml", "[task.fix.eval]", "[task.fix.eval]\nrescue = true");
    space.run(&["build"]).exits(0);
    assert_eq!(server.total(), 1);
    // JSON that is torn.
    let server = judge(&["0.9"]);
    let space = agent(&server, "echo '{\"a\": [1,' > $out; exit 1", "");
    space.edit("pipeline.toml", "outputs = [\"fix.md\"]", "outputs = [\"fix.json\"]");
    space.edit("pipeline.toml", "inputs  = [\"fix.md\"]", "inputs  = [\"fix.json\"]");
    space.run(&["build"]).exits(1);
    assert_eq!(server.total(), 0);
    // An answer that the server refuses is none.
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "judge" => verdict("0.9"),
        _ => Answer::error(400, "no"),
    });
    let space = prompt(&server, "");
    space.run(&["build"]).exits(1);
    assert_eq!(server.count("judge"), 0);
}

#[test]
fn wg4_a_score_is_a_number_from_the_threshold_up_to_1() {
    let server = judge(&["0.70"]);
    agent(&server, LEAVES, "").run(&["build"]).exits(0);
    for (answer, calls) in [
        ("{\"score\": 0.6999, \"notes\": \"\"}", 1),
        ("{\"score\": NaN, \"notes\": \"\"}", 2),
        ("{\"score\": 1.2, \"notes\": \"\"}", 2),
        ("{\"score\": \"high\", \"notes\": \"\"}", 2),
        ("It is very good.", 2),
    ] {
        let server = FakeLlm::scripted(move |_: &ChatRequest| answer.into());
        let space = agent(&server, LEAVES, "");
        space.run(&["build"]).exits(1);
        assert_eq!(
            (space.sidecar("fix.md")["state"].as_str(), server.total()),
            (Some("failed"), calls),
            "{answer}"
        );
        assert!(!space.is_done("fix.md"));
    }
}

#[test]
fn wg4_an_evaluator_that_cannot_be_reached_leaves_the_task_to_the_next_build() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "judge" => Answer::error(401, "wrong key"),
        _ => Answer::Default,
    });
    for rescue in [false, true] {
        let space = if rescue { agent(&server, LEAVES, "") } else { prompt(&server, "") };
        let (output, task) = if rescue { ("fix.md", "fix") } else { ("plan.md", "plan") };
        let state = if rescue { "failed_pending_eval" } else { "pending_eval" };
        let made = (ran(&space), server.count("plan"));
        space.run(&["build"]).exits(1).says(&["its evaluator gave no verdict", "wrong key"]);
        assert_eq!(space.sidecar(output)["state"], state);
        assert_eq!(space.state("reader"), "pending");
        let explained = space.run(&["explain", task]).exits(0).stdout;
        assert!(explained.contains("Its evaluation is waited for"), "{explained}");
        assert!(explained.contains("it is not made again"), "{explained}");
        server.script(|call: &ChatRequest| match call.task.as_str() {
            "judge" => verdict("0.9"),
            _ => Answer::error(500, "nobody else is asked"),
        });
        let shown = space.run(&["build", "-n"]).exits(0);
        assert!(shown.stdout.contains("evaluat"), "{}", shown.stdout);
        space.run(&["build"]).exits(0);
        assert!(space.is_done(output));
        assert_eq!((ran(&space), server.count("plan")), if rescue { (1, made.1) } else { (0, 1) });
        server.script(|call: &ChatRequest| match call.task.as_str() {
            "judge" => Answer::error(401, "wrong key"),
            _ => Answer::Default,
        });
        space.run(&["build", "-q"]).exits(0);
    }
}

#[test]
fn wg5_after_a_kill_only_the_evaluator_is_asked_again() {
    for rescue in [false, true] {
        let server = judge(&["0.9"]);
        let space = if rescue { agent(&server, LEAVES, "") } else { prompt(&server, "") };
        server.hold("judge");
        let build = space.spawn(&["build"]);
        server.wait_for_call("judge");
        build.kill9();
        server.release("judge");
        space.build();
        assert_eq!((ran(&space) + server.count("plan"), server.count("judge")), (1, 2));
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn wg6_an_output_edited_before_its_verdict_is_used_is_evaluated_as_it_is_then() {
    let server = judge(&["0.9"]);
    let space = agent(&server, LEAVES, "");
    server.hold("judge");
    let build = space.spawn(&["build"]);
    server.wait_for_call("judge");
    let candidate = space.files(".planexe/partial").into_iter().find(|path| path.ends_with(".md"));
    let candidate = candidate.expect("the candidate");
    space.write(&candidate, "Mine.\n");
    server.release("judge");
    build.wait().exits(0).says(&["edited while its evaluator read it"]);
    assert_eq!((ran(&space), server.count("judge")), (1, 2));
    assert!(server.last("judge").prompt.contains("fix.md: Mine."));
    assert_eq!(space.read("fix.md"), "Mine.\n");
}

#[test]
fn wg7_a_success_that_is_found_wanting_is_made_again_with_the_notes_and_then_fails() {
    let server = judge(&["0.27"]);
    let space = prompt(&server, "max_rounds = 3");
    space.run(&["build"]).exits(1).says(&["round 2 of 3", "round 3 of 3", "score 0.27, wanted 0.7 or more"]);
    assert_eq!(server.counts(), counts([("plan", 3), ("judge", 3)]));
    let status = space.sidecar("plan.md");
    assert_eq!((&status["state"], &status["failure"]["class"]), (&json!("failed"), &json!("eval")));
    assert_eq!((&status["eval"]["round"], &status["eval"]["rounds"]), (&json!(3), &json!(3)));
    let last = server.last("plan");
    let said: String = last.messages.iter().map(|(_, text)| text.as_str()).collect();
    assert!(said.contains("Name the owner of each risk.") && said.contains("Answer "), "{said}");
    assert!(!space.exists("plan.md"));
    // The third is better.
    let server = judge(&["0.27", "0.5", "0.71"]);
    let space = prompt(&server, "max_rounds = 3");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 3), ("judge", 3)]));
    assert_eq!(space.done("plan.md")["by"], "build");
    assert_eq!(space.sidecar("plan.md")["eval"]["round"], 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn wg7_a_command_is_made_again_with_the_notes_in_a_file() {
    let server = judge(&["0.27", "0.9"]);
    let script = "echo ran >> ran.log; if [ -n \"$PLANEXE_NOTES\" ]; then cat \"$PLANEXE_NOTES\" \"$PLANEXE_FORMER\" > $out; else echo A draft. > $out; fi";
    let space = agent(&server, script, "");
    space.set_env("PLANEXE_NOTES", "/of/another");
    space.build();
    assert_eq!((ran(&space), server.count("judge")), (2, 2));
    let made = space.read("fix.md");
    assert!(made.contains("Name the owner of each risk.") && made.ends_with("A draft.\n"), "{made}");
    assert_eq!(space.done("fix.md")["by"], "build");
    space.assert_nothing_to_do(&server);
}

#[test]
fn wg7_a_kill_between_two_rounds_forgets_neither_the_round_nor_the_notes() {
    let server = judge(&["0.27", "0.3"]);
    let space = prompt(&server, "");
    server.script(|call: &ChatRequest| match (call.task.as_str(), call.nth) {
        ("judge", _) => verdict("0.27"),
        ("plan", 1) => Answer::Hang,
        _ => Answer::Default,
    });
    let build = space.spawn(&["build"]);
    server.wait_for_calls("plan", 2);
    build.kill9();
    space.run(&["build"]).exits(1);
    assert_eq!(server.counts(), counts([("plan", 3), ("judge", 2)]));
    assert!(server.last("plan").messages.iter().any(|(_, text)| text.contains("Name the owner")));
}

#[test]
fn notes_stand_where_the_prompt_has_a_place_for_them() {
    let server = judge(&["0.27", "0.9"]);
    let space = prompt(&server, "");
    space.edit(
        "pipeline.toml",
        "\\n{{ plan }}",
        "\\n{{ plan }}{% if notes %} NOTES {{ notes }} OF {{ former }}{% endif %}",
    );
    space.build();
    let last = server.last("plan");
    assert!(last.prompt.contains("NOTES Score 0.27 of 1; 0.7 or more is wanted."), "{}", last.prompt);
    assert!(last.prompt.contains("OF Answer "), "{}", last.prompt);
    assert_eq!(last.messages.len(), 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn wg8_a_person_accepts_or_discards_a_candidate() {
    let server = judge(&["0.31"]);
    for refused in [true, false] {
        let space = agent(&server, LEAVES, "");
        server
            .script(move |_: &ChatRequest| if refused { verdict("0.31") } else { Answer::error(401, "no") });
        space.run(&["build"]).exits(1);
        space.run(&["touch", "fix"]).exits(0);
        let done = space.done("fix.md");
        assert_eq!((&done["by"], done["by_user"].is_string()), (&json!("touch"), true));
        assert_eq!(space.read("fix.md"), "A fix of A bridge.\n");
        space.build();
        assert_eq!((ran(&space), space.exists("reader.txt")), (1, true));
    }
    let space = agent(&server, LEAVES, "");
    space.run(&["build"]).exits(1);
    let asked = server.total();
    space.run(&["clean", "-y", "fix"]).exits(0);
    space.run(&["build", "--no-rescue"]).exits(1).says(&["exit code 1"]);
    assert_eq!((ran(&space), server.total(), space.state("fix").as_str()), (2, asked, "failed"));
}

#[test]
fn wg8_no_rescue_makes_what_waits_anew() {
    let server = FakeLlm::scripted(|_: &ChatRequest| Answer::error(401, "no"));
    let space = agent(&server, LEAVES, "");
    space.run(&["build"]).exits(1);
    assert_eq!(space.state("fix"), "failed_pending_eval");
    let asked = server.total();
    space.run(&["build", "--no-rescue"]).exits(1);
    assert_eq!((ran(&space), server.total(), space.state("fix").as_str()), (2, asked, "failed"));
}

#[test]
fn wg10_rounds_of_refinement_are_exactly_so_many() {
    let server = judge(&["0.8"]);
    let space = agent(&server, LEAVES, "[task.fix.refine]\nmax_rounds = 3");
    let expects = |space: &Space, calls: &str| drop(space.run(&["build", "-n"]).exits(0).says(&[calls]));
    expects(&space, " 3 calls expected.");
    space.build();
    assert_eq!((ran(&space), server.count("judge")), (3, 3));
    assert_eq!(space.sidecar("fix.md")["eval"]["round"], 3);
    space.assert_nothing_to_do(&server);
    // A score ends them earlier.
    let server = judge(&["0.8", "0.95"]);
    let space = prompt(&server, "[task.plan.refine]\nmax_rounds = 5\nuntil = 0.9");
    expects(&space, " 2 calls expected, at most 10.");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 2), ("judge", 2)]));
    // Failures have a budget of their own.
    let server = FakeLlm::scripted(|call: &ChatRequest| match (call.task.as_str(), call.nth) {
        ("judge", 1) | ("plan", 2) => Answer::error(500, "it broke"),
        ("judge", _) => verdict("0.8"),
        _ => Answer::Default,
    });
    let space = prompt(&server, "[task.plan.refine]\nmax_rounds = 3");
    expects(&space, " 6 calls expected.");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 4), ("judge", 4)]));
    let forecast = space.run(&["simulate", "--json"]).exits(0).json();
    assert_eq!(forecast["rows"][0]["calls"], 6, "{forecast}");
}

#[test]
fn wg11_sidecars_without_an_evaluation_load_and_outputs_that_are_there_are_evaluated_as_they_are() {
    let server = judge(&["0.8"]);
    for task in ["plan", "fix"] {
        let space = match task {
            "plan" => prompt(&server, ""),
            _ => agent(&server, "echo ran >> ran.log; echo x > $out", ""),
        };
        let with = space.read("pipeline.toml");
        let (start, end) =
            (with.find(&format!("[task.{task}.eval]")).unwrap(), with.find("[task.reader]").unwrap());
        space.write("pipeline.toml", format!("{}{}", &with[..start], &with[end..]));
        space.build();
        let made = (ran(&space), server.count("plan"), server.count("judge"));
        space.write("pipeline.toml", &with);
        space.build();
        assert_eq!((ran(&space), server.count("plan"), server.count("judge")), (made.0, made.1, made.2 + 1));
        // Another threshold: the evaluator alone is asked, and now it is found wanting.
        space.edit(
            "pipeline.toml",
            &format!("[task.{task}.eval]"),
            &format!("[task.{task}.eval]\nthreshold = 0.85\nmax_rounds = 1"),
        );
        space.run(&["build"]).exits(1);
        assert_eq!(
            (ran(&space), server.count("plan")),
            if task == "plan" { (0, made.1 + 1) } else { (2, made.1) }
        );
        assert_eq!(server.count("judge"), made.2 + 3);
        // Without an evaluation nothing is asked.
        space.write("pipeline.toml", &with);
        space.build();
    }
}

#[test]
fn wg13_the_evaluator_is_given_no_more_than_so_many_bytes_of_each_output() {
    let server = judge(&["0.9"]);
    let space = agent(
        &server,
        "head -c 100000 /dev/zero | tr '\\0' 'x' > $out; printf é >> $out",
        "max_bytes = 1000",
    );
    space.build();
    let asked = server.last("judge").prompt;
    assert!(asked.len() < 1300 && asked.contains("[cut off here: 1000 of 100002 bytes]"), "{}", asked.len());
}

#[test]
fn a_program_may_be_the_evaluator() {
    let server = FakeLlm::new();
    let space = agent(&server, LEAVES, "");
    let with = space.read("pipeline.toml");
    let start = with.find("prompt = \"TASK=judge").unwrap();
    let end = with.find("[task.reader]").unwrap();
    let by = |command: &str| format!("{}command = '''{command}'''\n{}", &with[..start], &with[end..]);
    space.write("pipeline.toml", by("grep -q fix $in && echo '{\"score\": 0.8, \"notes\": \"\"}'"));
    space.build();
    assert_eq!(space.done("fix.md")["by"], "rescue");
    space.assert_nothing_to_do(&server);
    space.run(&["clean", "-y", "fix"]).exits(0);
    space.write("pipeline.toml", by("echo asked >> asked.log; echo good"));
    space.run(&["build"]).exits(1);
    assert_eq!((space.read("asked.log").lines().count(), space.state("fix").as_str()), (2, "failed"));
    space.write("pipeline.toml", by("exit 3"));
    space.run(&["build"]).exits(1);
    assert_eq!(space.state("fix"), "failed_pending_eval");
}
