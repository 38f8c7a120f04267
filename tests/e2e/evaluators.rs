//! Who evaluates and how often: programs, models and people; rounds; what is kept of a verdict and what takes one back.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::eval::{LEAVES, agent, judge, prompt, verdict};
use crate::support::{Answer, ChatRequest, FakeLlm, Space, counts, until};

#[test]
fn each_item_has_a_verdict_of_its_own() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "judge" if call.prompt.contains("item a") => verdict("0.9"),
        "judge" => verdict("0.2"),
        _ => Answer::Default,
    });
    let space = Space::with(
        &server,
        r##"
[task.review]
foreach = { file = "items.json", items = "" }
outputs = ["out/{{ key }}.md"]
prompt  = "TASK=review\n{{ item }}"
eval    = { prompt = "TASK=judge\nitem {{ item }}: {{ answer }}", max_rounds = 1 }
"##,
    );
    space.write("items.json", "[\"a\", \"b\"]");
    space.run(&["build"]).exits(1);
    assert_eq!(server.counts(), counts([("review", 2), ("judge", 2)]));
    assert_eq!(space.files("out").iter().filter(|path| path.ends_with(".DONE")).count(), 1);
}

#[test]
fn what_was_recorded_is_played_with_its_verdicts() {
    let server = judge(&["0.2", "0.9"]);
    let space = prompt(&server, "");
    space.build();
    space.run(&["record", "answers.json"]).exits(0);
    let asked = server.total();
    let pipeline = space.read("pipeline.toml");
    let start = pipeline.find("[task.plan]").unwrap();
    let played = Space::new();
    played.write("plan.txt", "A bridge.");
    played.write("answers.json", space.read("answers.json"));
    let model = "[models.fake]\napi = \"recorded\"\nfile = \"answers.json\"\n[defaults]\nmodel = \"fake\"\n";
    played.write("pipeline.toml", format!("{model}{}", &pipeline[start..]));
    played.build();
    assert_eq!(played.read("plan.md"), space.read("plan.md"));
    assert_eq!((played.sidecar("plan.md")["eval"]["score"].as_f64(), server.total()), (Some(0.9), asked));
}

#[test]
fn a_simulated_evaluator_gives_a_score() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[models.m]\napi = \"simulated\"\n[defaults]\nmodel = \"m\"\n[task.a]\noutputs = [\"a.md\"]\nprompt = \"Say a.\"\neval = { prompt = \"How good is {{ answer }}\" }\n",
    );
    space.build();
    assert!(
        space.sidecar("a.md")["eval"]["score"].as_f64().is_some_and(|score| (0.7..=1.0).contains(&score))
    );
}

#[test]
fn a_verdict_is_a_call_like_any_other() {
    let server = judge(&["0.9"]);
    let space = prompt(&server, "");
    space.build();
    let lines = space.lines("usage_metrics.jsonl");
    assert_eq!(lines.iter().filter(|line| line["task"] == "plan").count(), 2);
    assert_eq!(space.sidecar("plan.md")["usage"]["calls"], 2);
    let shown = space.run(&["show", "plan"]).exits(0);
    assert!(shown.stdout.contains("Answer "), "{}", shown.stdout);
}

#[test]
fn what_eval_and_refine_may_not_say_is_told_with_its_place() {
    let server = FakeLlm::new();
    let rows = [
        ("eval = { threshold = 0.5 }", "neither a prompt nor a command"),
        ("eval = { prompt = \"a b\", command = [\"c\"] }", "both a prompt and a command"),
        ("eval = { prompt = \"a b\", threshold = 70 }", "write `0.7`"),
        ("eval = { prompt = \"a {{ nobody }}\" }", "no input of task `a` is named `nobody`"),
        ("eval = { prompt = \"a b\", model = \"nobody\" }", "unknown model `nobody`"),
        ("eval = { prompt = \"a b\", rescue = true }", "`rescue` has no meaning in a prompt task"),
        ("eval = { prompt = \"a b\", max_rounds = 0 }", "`max_rounds` is 0"),
        ("refine = { max_rounds = 3 }", "has no notes to go by"),
        ("eval = { prompt = \"a b\" }\nrefine = {}", "does not say how many rounds"),
    ];
    for (keys, words) in rows {
        let tasks = format!("[task.a]\noutputs = [\"a.md\"]\nprompt = \"TASK=a\"\n{keys}\n");
        Space::with(&server, &tasks).run(&["check"]).exits(2).says(&[words, "pipeline.toml:"]);
    }
    let tasks = "[task.a]\noutputs = [\"a.md\"]\ntemplate = \"a b\"\neval = { prompt = \"a b\" }\n";
    Space::with(&server, tasks).run(&["check"]).exits(2).says(&["`eval` has no meaning in a template task"]);
}

#[test]
fn the_example_of_an_agent_is_rescued_without_a_server() {
    let space = Space::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agent");
    for file in ["pipeline.toml", "agent.sh", "task.md"] {
        std::fs::copy(folder.join(file), space.path(file)).expect("a copy");
    }
    space.run(&["check", "--strict"]).exits(0);
    space.run(&["build"]).exits(0).says(&["1 rescued"]);
    assert!(space.read("page.html").contains("never emptied"));
}

#[test]
fn what_waits_for_an_evaluator_is_said_by_status_and_show() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "judge" => Answer::error(401, "wrong key"),
        _ => Answer::Default,
    });
    let space = prompt(&server, "");
    space.run(&["build"]).exits(1);
    let report = space.report();
    assert_eq!(
        (&report["error"]["failed_step"], &report["counts"]["pending_eval"]),
        (&json!("plan"), &json!(1))
    );
    let eval = &space.status("plan")["eval"];
    assert_eq!((&eval["score"], &eval["threshold"], &eval["round"]), (&Value::Null, &json!(0.7), &json!(1)));
    let shown = space.run(&["show", "plan"]).exits(0).stdout;
    assert!(shown.contains("failed (evaluation)") && shown.contains("--- answer of call 1"), "{shown}");
    let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
    assert_eq!(plan["calls_expected"], 1);
    // gc keeps what waits, however old it is.
    space.run(&["gc", "--max-size", "0"]).exits(0);
    server.script(|_: &ChatRequest| verdict("0.9"));
    space.build();
    assert_eq!(server.count("plan"), 1);
}

/// What another build left of an attempt is not all the time it took; what is evaluated is one task to the clock.
#[test]
fn an_attempt_takes_as_long_as_its_evaluation_lasts() {
    let server = judge(&["0.9"]);
    let space = agent(&server, "sleep 0.3; echo A fix. > $out", "");
    space.build();
    assert!(space.sidecar("fix.md")["duration_s"].as_f64().is_some_and(|seconds| seconds >= 0.3));
}

/// Nothing was done, so there is nothing to rescue, whatever the former content is worth.
#[test]
fn a_command_in_place_that_did_nothing_is_not_rescued() {
    let server = judge(&["0.9"]);
    let space = agent(&server, "test -e fix.md && exit 1; echo A fix. > fix.md", "");
    space.build();
    space.write("plan.txt", "A tunnel.");
    let asked = server.count("judge");
    space.run(&["build"]).exits(1);
    assert_eq!((server.count("judge"), space.state("fix").as_str()), (asked, "failed"));
}

#[test]
fn a_build_that_is_told_to_stop_leaves_the_evaluation_to_the_next_one() {
    let server = judge(&["0.9"]);
    // While the answer is written: it is kept, and nobody is asked about it.
    let space = prompt(&server, "");
    server.hold("plan");
    let build = space.spawn(&["build"]);
    server.wait_for_call("plan");
    build.signal(Signal::INT);
    until("the build to say that it stops", || build.stderr().contains("topping").then_some(()));
    server.release("plan");
    build.wait().exits(130);
    assert_eq!((space.state("plan").as_str(), server.count("judge")), ("pending_eval", 0));
    space.build();
    assert_eq!(server.counts(), counts([("plan", 1), ("judge", 1)]));
    // While the evaluator is asked, and at once.
    let space = prompt(&server, "");
    server.hold("judge");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("judge", 2);
    build.signal(Signal::TERM);
    build.wait().exits(143);
    server.release("judge");
    assert_eq!(space.state("plan"), "pending_eval");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 2), ("judge", 3)]));
    // A budget that the answer used up.
    let space = prompt(&server, "");
    space.run(&["build", "--max-tokens", "1"]).exits(3);
    assert_eq!(space.state("plan"), "pending_eval");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 3), ("judge", 4)]));
}

#[test]
fn a_damaged_candidate_is_none_and_the_kept_answer_makes_another() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "judge" => Answer::error(401, "wrong key"),
        _ => Answer::Default,
    });
    for file in ["candidate.json", "0.md"] {
        let space = prompt(&server, "");
        space.run(&["build"]).exits(1);
        let made = server.count("plan");
        let path = space.files(".planexe/partial").into_iter().find(|path| path.ends_with(file)).expect(file);
        space.remove(&path);
        server.script(|_: &ChatRequest| verdict("0.9"));
        space.build();
        assert_eq!(server.count("plan"), made, "{file}");
        assert!(space.read("plan.md").starts_with("Answer "));
        server.script(|call: &ChatRequest| match call.task.as_str() {
            "judge" => Answer::error(401, "wrong key"),
            _ => Answer::Default,
        });
    }
}

#[test]
fn an_evaluator_that_fails_in_passing_is_asked_again_and_another_one_in_its_place() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match (call.task.as_str(), call.nth) {
        ("judge", 0) => Answer::error(503, "busy"),
        ("judge", _) if call.body["model"] == "fake-1" => Answer::error(404, "model `fake-1` not found"),
        ("judge", _) => verdict("0.9"),
        _ => Answer::Default,
    });
    let space = prompt(&server, "model = [\"fake\", \"other\"]");
    let other = format!(
        "[models.other]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"other\"\n",
        server.base_url()
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &other);
    space.run(&["build"]).exits(0).says(&["its evaluator: "]);
    assert_eq!(server.counts(), counts([("plan", 1), ("judge", 3)]));
    let status = space.sidecar("plan.md");
    assert_eq!(
        (&status["attempt"], &status["eval"]["model"], &status["model"]),
        (&json!(1), &json!("other"), &json!("fake-1"))
    );
    space.assert_nothing_to_do(&server);
}

/// A prompt that is changed back finds its answer, and that its verdict: no call.
#[test]
fn an_answer_that_comes_to_use_again_keeps_its_verdict() {
    let server = judge(&["0.9"]);
    let space = prompt(&server, "");
    space.build();
    space.write("plan.txt", "A tunnel.");
    space.build();
    space.write("plan.txt", "A bridge.");
    space.build();
    assert_eq!(server.counts(), counts([("plan", 2), ("judge", 2)]));
    space.run(&["build", "-B"]).exits(0);
    assert_eq!(server.counts(), counts([("plan", 3), ("judge", 3)]));
}

/// What a person wrote is evaluated as it is, and it is not said to be made again where it passes and stays.
#[test]
fn an_output_edited_by_hand_is_evaluated_as_it_is_where_the_evaluation_changed() {
    let server = judge(&["0.8"]);
    let agent = agent(&server, "echo ran >> ran.log; echo x > $out", "");
    for (space, output, made) in [(prompt(&server, ""), "plan.md", "plan"), (agent, "fix.md", "fix")] {
        space.build();
        space.write(output, "Written by hand.\n");
        space.edit("pipeline.toml", "\n[task.reader]", "threshold = 0.75\n[task.reader]");
        let calls = server.counts();
        let kept = format!("keep a copy of `{output}`, edited by hand, in history");
        space.run(&["explain", made]).exits(0).says(&[&kept]);
        space
            .build()
            .says(&["edited by hand", "checked as it is", &format!("planexe restore {made}")])
            .says_nothing_of(&["is made again"]);
        assert_eq!(space.read(output), "Written by hand.\n");
        assert_eq!(server.count("judge"), calls["judge"] + 1);
        assert_eq!(server.count("plan"), calls["plan"]);
        space.edit("pipeline.toml", "threshold = 0.75", "threshold = 0.85\nmax_rounds = 1");
        space.write(output, "Written by hand, too.\n");
        space.run(&["build"]).exits(1).says(&["edited by hand"]);
        assert!(space.in_history("Written by hand, too.\n"));
    }
}

#[test]
fn a_score_without_notes_is_a_verdict() {
    for (score, code) in [("0.8", 0), ("0.3", 1)] {
        let server = judge_without_notes(score);
        let model = prompt(&server, "max_rounds = 1");
        let by = format!(
            "[task.fix.eval]\ncommand = '''echo asked >> asked.log; echo '{{\"score\": {score}}}' '''\n"
        );
        let program = lone("echo good > $out.0; echo {} > $out.1; exit 1", &by);
        for (space, task) in [(&model, "plan"), (&program, "fix")] {
            let out = space.run(&["build"]).exits(code);
            let said = if code == 0 { "0.8, which passes" } else { "0.3, which does not pass" };
            space.run(&["explain", task]).exits(0).says(&[&format!("{said} (0.7 or more does).\n\n")]);
            let status = space.run(&["status"]).exits(0);
            if code == 0 {
                status.says(&["score 0.8"]);
            } else {
                out.says(&["score 0.3, wanted 0.7 or more"]).says_nothing_of(&["or more:"]);
                status.says(&["score 0.3, wanted 0.7 or more"]);
            }
            space.run(&["show", task]).exits(0);
            assert_eq!(space.status(task)["eval"]["notes"], "", "{score}");
        }
        assert_eq!((server.count("judge"), program.read("asked.log").lines().count()), (1, 1), "{score}");
        // Notes are asked for all the same: the next round goes by them.
        let schema = server.last("judge").schema.expect("a schema");
        assert!(schema.to_string().contains("\"notes\""), "{schema}");
    }
}

/// An evaluator that gives a score and says nothing.
fn judge_without_notes(score: &'static str) -> FakeLlm {
    FakeLlm::scripted(move |call: &ChatRequest| match call.task.as_str() {
        "judge" => Answer::Text(format!("{{\"score\": {score}}}")),
        _ => Answer::Default,
    })
}

#[test]
fn who_accepted_a_result_is_named_wherever_it_is_shown() {
    let server = judge(&["0.31"]);
    let space = agent(&server, LEAVES, "max_rounds = 1");
    space.set_env("USER", "ann\u{1b}[31m");
    space.run(&["build"]).exits(1);
    space.run(&["touch", "fix"]).exits(0);
    let word = "accepted by hand by ann";
    space.run(&["status"]).exits(0).says(&[word, "score 0.31", "Accepted by hand: fix"]);
    let status = space.report();
    assert_eq!(status["quality_summary"]["accepted"], json!(["fix"]), "{status:#}");
    let task = space.status("fix");
    assert_eq!((&task["by"], &task["by_user"]), (&json!("touch"), &json!("ann\u{1b}[31m")));
    for command in ["explain", "show"] {
        let out = space.run(&[command, "fix"]).exits(0).says(&[word]);
        assert!(!out.stdout.contains('\u{1b}'), "{out}");
        let answer = space.run(&[command, "fix", "--json"]).exits(0).json();
        assert_eq!((&answer["by"], &answer["by_user"]), (&json!("touch"), &json!("ann\u{1b}[31m")));
    }
    // What a build makes after it is nobody's word, and history says whose the former was.
    server.script(|_: &ChatRequest| verdict("0.9"));
    space.write("plan.txt", "A tunnel.");
    space.build();
    assert_eq!(space.done("fix.md")["by_user"], Value::Null);
    assert_eq!(space.status("fix")["by"], "rescue");
    space.run(&["status"]).exits(0).says_nothing_of(&["by hand"]);
    space.run(&["history", "fix"]).exits(0).says(&["it was accepted by hand by ann"]);
    let entries = space.run(&["history", "fix", "--json"]).exits(0).json()["entries"].clone();
    assert_eq!((&entries[0]["by"], &entries[0]["by_user"]), (&json!("touch"), &json!("ann\u{1b}[31m")));
}

/// A space with one agent, its command and its evaluator.
fn lone(command: &str, more: &str) -> Space {
    let space = Space::new();
    let text = format!(
        "[task.fix]\nkind = \"agent\"\noutputs = [\"fix.md\", \"log.json\"]\ncommand = '''{command}'''\n{more}\n"
    );
    space.write("pipeline.toml", text);
    space
}

/// An evaluator that gives the score that stands in the output.
const GIVES: &str = "[task.fix.eval]\ncommand = '''echo \"{\\\"score\\\":$(cat $in.0),\\\"notes\\\":\\\"\\\"}\"'''\nthreshold = 0.7\n";

/// An agent whose rounds make these scores.
const ROUNDS: &str = "n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; echo {} > $out.1; set -- SCORES; shift $((n-1)); echo $1 > $out.0; test $1 != bad";

#[test]
fn rounds_that_pass_are_no_failures_and_the_best_is_kept() {
    for (scores, best, failures) in [
        ("0.8 0.85 0.9", "0.9", 0),
        ("0.8 0.95 0.75", "0.95", 0),
        ("0.9 0.3 0.2", "0.9", 0),
        ("0.5 0.8 0.75", "0.8", 1),
        // A round that fails outright, and then gets no usable score, takes nothing away.
        ("0.9 0.8 bad", "0.9", 2),
    ] {
        let space =
            lone(&ROUNDS.replace("SCORES", scores), &format!("{GIVES}[task.fix.refine]\nmax_rounds = 3\n"));
        let out = space.run(&["build"]).exits(0);
        assert_eq!(space.read("fix.md").trim(), best, "{scores}: {out}");
        assert_eq!(space.read("n").trim(), "3", "{scores}");
        let lines =
            if space.exists("failures.jsonl") { space.read("failures.jsonl").lines().count() } else { 0 };
        assert_eq!(lines, failures, "{scores}: {out}");
        if failures == 0 {
            out.says_nothing_of(&["failed"]);
            let events = space.read("events.jsonl");
            assert!(
                !events.contains("task.failed") && !events.contains("attempt.failed"),
                "{scores}: {events}"
            );
        }
        assert_eq!(space.done("fix.md")["eval"]["score"].to_string(), best, "{scores}");
        assert!(space.files(".planexe/partial").is_empty(), "{scores}");
        space.run(&["build"]).exits(0).says(&["up to date"]);
    }
}

#[test]
fn a_candidate_that_is_cleaned_is_gone() {
    let space =
        lone("echo rubbish > $out.0; echo {} > $out.1; exit 1", "[task.fix.eval]\ncommand = \"exit 3\"\n");
    space.run(&["build"]).exits(1);
    assert!(!space.files(".planexe/partial").is_empty());
    space.run(&["clean", "-y", "fix"]).exits(0).says(&[".planexe/partial"]);
    assert!(space.files(".planexe/partial").is_empty());
    space.run(&["touch", "fix"]).exits(1).says(&["is missing"]);
    assert!(!space.exists("fix.md"));
}

#[test]
fn why_an_agent_that_failed_was_not_evaluated_is_said() {
    for (command, why) in [
        ("echo good > $out.0; echo '{' > $out.1; exit 1", "not evaluated: output `log.json` is not JSON"),
        ("echo good > $out.0; exit 1", "not evaluated: output `log.json` is missing"),
        ("true > $out.0; echo {} > $out.1; exit 1", "not evaluated: output `fix.md` is empty"),
        (
            "echo good > $out.0; echo {} > $out.1; exit 127",
            "not evaluated: what ends like this is never rescued",
        ),
    ] {
        let space = lone(command, &GIVES.replace("cat $in.0", "echo 1"));
        space.run(&["build"]).exits(1).says(&[why]);
        space.run(&["explain", "fix"]).says(&[why]);
        space.run(&["failures"]).says(&[why]);
    }
    let space = lone("echo good > $out.0; echo {} > $out.1; exit 1", GIVES);
    space.run(&["build", "--no-rescue"]).exits(1).says(&["not evaluated: `--no-rescue` was given"]);
}
