//! Events that nothing else shows: of tasks that stand still, of builds that do not begin, of runs that came from elsewhere.

use super::*;

#[test]
fn a_call_without_progress_is_told_and_fails_as_stalled() {
    patiently(|slow| {
        let receiver = Receiver::willing();
        let server = FakeLlm::scripted(|request| match request.task.as_str() {
            "a" => Answer::Half("the first half of it".repeat(40)),
            _ => Answer::Default,
        });
        let space = told(&server, &receiver, "");
        space.edit("pipeline.toml", "[task.a]", &format!("[task.a]\nstall_timeout = \"{}ms\"", 300 * slow));
        space.run(&["build"]).exits(1).says(&["stall"]);
        assert_eq!(
            receiver.events(),
            ["task.started a", "task.stalled a", "task.failed a", "pipeline.failed"]
        );
        let failure = &space.sidecar("a.txt")["failure"];
        assert_eq!(failure["class"], "stall");
        assert_eq!(server.counts(), crate::support::counts([("a", 1)]));
    });
}

#[test]
fn a_command_that_shows_nothing_stalls_and_one_that_writes_does_not() {
    patiently(|slow| {
        let server = FakeLlm::new();
        let tasks = format!(
            r#"
[task.busy]
outputs = ["busy.txt"]
stall_timeout = "{}ms"
command = "for i in 1 2 3 4 5 6 7 8; do sleep {}; echo $i; done > $out"

[task.still]
outputs = ["still.txt"]
stall_timeout = "{}ms"
command = "sleep 600; echo > $out"
"#,
            1500 * slow,
            0.3 * f64::from(slow),
            700 * slow
        );
        let space = Space::with(&server, &tasks);
        space.run(&["build"]).exits(1);
        assert!(space.is_done("busy.txt"));
        assert_eq!(space.sidecar("still.txt")["failure"]["class"], "stall");
        let stalled: Vec<Value> =
            space.lines("events.jsonl").into_iter().filter(|line| line["event"] == "task.stalled").collect();
        assert_eq!(stalled.len(), 1, "{stalled:?}");
        assert_eq!(stalled[0]["task"], "still");
    });
}

#[test]
fn a_build_that_fails_before_anything_runs_is_told_as_failed() {
    let receiver = Receiver::willing();
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { file = \"list.json\", items = \"/*\" }\noutputs = [\"each/{{ key }}.txt\"]\n\
         template = \"{{ item }}\"\n",
    );
    space.write("list.json", "no list");
    space.run(&["build", "--webhook", &receiver.url]).exits(1);
    assert_eq!(receiver.events(), ["task.failed each", "pipeline.failed"]);
    let status = space.run(&["status", "--json"]).exits(0).json();
    assert_eq!(
        (&status["run"]["phase"], &status["error"]["failed_step"]),
        (&"failed".into(), &"each".into())
    );
}

/// What waits is sent, and signed with the user's secret, only if this user's planexe put it there, in this run.
#[test]
fn events_that_came_with_a_run_are_not_sent() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(503, ""));
    let space = told(&server, &receiver, "secret_env = \"HOOK_SECRET\"");
    space.set_env("HOOK_SECRET", SECRET);
    space.build();
    let all = waiting(&space);
    assert!(all > 0);
    let entry = space.files(".planexe/outbox").remove(0);
    // As a clone may bring them: as it is sent, in the form it waits in, and one that was changed.
    let forged = space.json(&entry)["event"].as_str().expect("the event").replace("strategic", "FORGED");
    let folder = entry.rsplit_once('/').expect("a folder").0.to_owned();
    space.write(&format!("{folder}/000000000101.json"), forged.replace("task.started", "FORGED"));
    let mut other = space.json(&entry);
    other["event"] = other["event"].as_str().expect("the event").replace("task.started", "FORGED").into();
    space.write(&format!("{folder}/000000000102.json"), other.to_string());
    let (copy, moved) = (space.root().join("copy"), space.root().join("moved"));
    let copied = space.program("cp", &["-a", ".", copy.to_str().expect("a path")]).status();
    assert!(copied.expect("cp").success());
    receiver.does(|_, _| Do::Answer(200, ""));
    receiver.forget();
    // A copy sends nothing of it: the original will. Nor does another user.
    let there =
        |dir: &std::path::Path| space.run(&["-C", dir.to_str().expect("a path"), "events", "--deliver"]);
    there(&copy).exits(0).says(&["not sent", "unverified", "nothing to deliver"]);
    there(&copy).exits(0).says_nothing_of(&["not sent"]);
    assert_eq!(receiver.events(), [""; 0]);
    let kept = std::fs::read_dir(copy.join(&folder)).expect("the folder").count();
    assert_eq!(kept, all + 2, "they are put aside, not removed");
    // Where they were put they go out, under another name of the folder too.
    std::fs::rename(space.dir(), &moved).expect("moved");
    std::fs::create_dir(space.dir()).expect("a folder to start in");
    there(&moved).exits(0).says(&["2 files", "not sent", &format!("{all} events delivered")]);
    assert_eq!(receiver.events().len(), all);
    assert!(!receiver.events().iter().any(|event| event.contains("FORGED")));
}

/// Another user's events wait in vain, and a user who can have no key is told of his own builds all the same.
#[test]
fn events_of_another_user_are_put_aside() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(503, ""));
    let space = told(&server, &receiver, "");
    space.build();
    let all = waiting(&space);
    receiver.does(|_, _| Do::Answer(200, ""));
    receiver.forget();
    space.set_env("XDG_STATE_HOME", space.path("plan.txt"));
    space.write("plan.txt", "Another plan.");
    space.build().says(&[&format!("{all} files"), "your planexe did not write"]);
    assert_eq!(receiver.events(), ALL);
}
