//! What happens to a long run in the night, one by one: docs/scenarios.md lists these and the tests of the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space, counts, space};

/// A chain of so many tasks, each reading the one before.
fn chain(length: usize) -> String {
    let link = |n: usize| match n {
        1 => {
            "[task.t1]\ninputs = [\"plan.txt\"]\noutputs = [\"t1.txt\"]\nprompt = \"TASK=t1\\n{{ plan }}\"\n"
                .into()
        }
        n => format!(
            "[task.t{n}]\ninputs = {{ former = \"t{}.txt\" }}\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\n{{{{ former }}}}\"\n",
            n - 1
        ),
    };
    (1..=length).map(link).collect()
}

const LOOP: &str = r#"
[task.each]
foreach = { file = "items.json", items = "/of" }
outputs = ["each/{{ key }}.txt"]
prompt = "TASK=each[{{ key }}]\nWrite of {{ item }}."

[task.all]
inputs = { parts = "each/*.txt" }
outputs = ["all.txt"]
command = "cat $in > $out"
"#;

fn fan_out(server: &FakeLlm, items: usize) -> Space {
    let space = Space::with(server, LOOP);
    let items: Vec<String> = (0..items).map(|n| format!("thing {n}")).collect();
    space.write("items.json", json!({ "of": items }).to_string());
    space
}

#[test]
fn a_new_prompt_for_a_run_that_exists_is_refused_and_an_edited_one_is_seen() {
    let server = FakeLlm::new();
    let pipeline = space(&server, &format!("[pipeline]\nplan = \"plan.txt\"\n{}", chain(2)));
    let new = |prompt: &str| pipeline.run(&["new", "night", "--prompt", prompt]);
    new("A bridge.").exits(0);
    pipeline.run(&["-C", "night", "build"]).exits(0);
    let before = pipeline.everything();
    let out = new("A tunnel.").exits(2).says(&["is a run already", "planexe -C night edit-plan"]);
    pipeline.everything().assert_same_as(&before, &out);
    pipeline.write("night/plan.txt", "A tunnel.\n");
    pipeline.run(&["-C", "night", "build"]).exits(0);
    assert_eq!(server.counts(), counts([("t1", 2), ("t2", 2)]));
}

#[test]
fn a_link_of_a_chain_that_fails_costs_the_links_after_it_once() {
    let broken = AtomicUsize::new(1);
    let server = FakeLlm::scripted(move |call| match call.task.as_str() {
        "t15" if broken.swap(0, Ordering::SeqCst) == 1 => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    let space = space(&server, &chain(20));
    space.run(&["build"]).exits(1);
    assert_eq!(server.total(), 15);
    space.build();
    assert_eq!(server.total(), 15 + 6);
    space.assert_nothing_to_do(&server);
}

/// What is answered when the plan is another already is of no use, and nothing rests on it.
#[test]
fn killed_and_the_plan_edited_before_it_goes_on() {
    let server = FakeLlm::new();
    let space = space(&server, &chain(6));
    server.hold("t4");
    let build = space.spawn(&["build"]);
    server.wait_for_call("t4");
    build.kill9();
    server.release("t4");
    server.wait_for_quiet();
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    let anew = server.counts();
    assert_eq!(anew, counts([("t1", 2), ("t2", 2), ("t3", 2), ("t4", 2), ("t5", 1), ("t6", 1)]));
    // As if nothing had been before.
    let (other, fresh) = (FakeLlm::new(), Space::new());
    fresh.pipeline(&other, &chain(6));
    fresh.write("plan.txt", "Build a tunnel.\n");
    fresh.build();
    for n in 1..=6 {
        let output = format!("t{n}.txt");
        assert_eq!(space.read(&output), fresh.read(&output));
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_usage_limit_in_a_loop_leaves_no_empty_answers_and_costs_nothing_twice() {
    let asked = AtomicUsize::new(0);
    let is_over = std::sync::Arc::new(AtomicUsize::new(0));
    let over = is_over.clone();
    let server = FakeLlm::scripted(move |_| {
        if over.load(Ordering::SeqCst) == 1 || asked.fetch_add(1, Ordering::SeqCst) < 5 {
            return Answer::Default;
        }
        let body = json!({ "error": { "message": "The usage limit has been reached", "type": "usage_limit_reached" } });
        Answer::Http(429, vec![("retry-after", "3600".into())], body.to_string())
    });
    let space = fan_out(&server, 16);
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    space.edit("pipeline.toml", "max_attempts = 2", "wait = \"1s\", max_attempts = 2");
    space.run(&["build"]).exits(3).says(&["usage limit", "planexe resume --at-reset"]);
    assert_eq!(server.total(), 6, "five answers, and the refusal");
    let made: Vec<String> = space.files("each").into_iter().filter(|path| path.ends_with(".txt")).collect();
    assert_eq!(made.len(), 5);
    assert!(made.iter().all(|path| !space.read(path).is_empty()));
    assert!(!space.exists("all.txt"), "nothing is made of a part");
    // The limit is over.
    is_over.store(1, Ordering::SeqCst);
    space.remove(".planexe/parked.json");
    space.build();
    assert_eq!(server.total(), 6 + 11);
    space.assert_nothing_to_do(&server);
}

/// A status says what an error is, not a number in its text.
#[test]
fn an_error_for_good_that_speaks_of_503_is_tried_once() {
    for status in [400, 401, 403, 404, 422] {
        let server = FakeLlm::scripted(move |_| {
            Answer::error(
                status,
                "error 503: timeout, overloaded, please retry later (429, 500, 502, 503, 504)",
            )
        });
        let space = space(&server, &chain(1));
        let out = space.run(&["build"]);
        assert!(out.code != 0, "{out}");
        assert_eq!(server.total(), 1, "{status}\n{out}");
        let failures = space.lines("failures.jsonl");
        assert_eq!(failures.len(), 1, "{status}: {failures:#?}");
    }
}

/// What was recorded in `.planexe/` is not needed to see an edit; without the markers too, nothing is believed.
#[test]
fn the_folder_is_lost_and_the_plan_and_a_prompt_are_edited() {
    let server = FakeLlm::new();
    let space = space(&server, &chain(4));
    space.build();
    std::fs::remove_dir_all(space.path(".planexe")).expect(".planexe");
    space.edit("pipeline.toml", "TASK=t3\\n", "TASK=t3\\nAgain. ");
    space.build();
    assert_eq!(server.counts(), counts([("t1", 1), ("t2", 1), ("t3", 2), ("t4", 2)]));
    std::fs::remove_dir_all(space.path(".planexe")).expect(".planexe");
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(server.counts(), counts([("t1", 2), ("t2", 2), ("t3", 3), ("t4", 3)]));
    assert!(server.last("t1").prompt.contains("tunnel"));
    space.assert_nothing_to_do(&server);
    // Markers and all: what is there is nobody's, and is not taken for an answer.
    std::fs::remove_dir_all(space.path(".planexe")).expect(".planexe");
    for file in
        space.files("").into_iter().filter(|file| file.ends_with(".DONE") || file.ends_with(".status"))
    {
        space.remove(&file);
    }
    space.build();
    assert_eq!(server.counts(), counts([("t1", 3), ("t2", 3), ("t3", 4), ("t4", 4)]));
    space.assert_nothing_to_do(&server);
}

/// An answer asked for anew costs its own call; its readers are asked if it is another.
#[test]
fn another_answer_asks_its_readers_and_the_same_does_not() {
    let changed = std::sync::Arc::new(AtomicUsize::new(0));
    let now = changed.clone();
    let server = FakeLlm::scripted(move |call| match call.task.as_str() {
        "t2" if now.load(Ordering::SeqCst) == 1 => "Another answer.\n".into(),
        _ => Answer::Default,
    });
    let space = space(&server, &chain(5));
    space.build();
    space.remove("t2.txt.DONE");
    space.build();
    assert_eq!(server.total(), 5 + 1, "the same again");
    changed.store(1, Ordering::SeqCst);
    space.remove("t2.txt.DONE");
    space.build();
    assert_eq!(server.total(), 6 + 4, "and the three behind it");
    space.assert_nothing_to_do(&server);
}
