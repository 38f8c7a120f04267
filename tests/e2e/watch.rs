//! `planexe watch`: builds after edits, and only after those; an edit during a build ends what reads it.

use rustix::process::Signal;

use crate::support::{Answer, FakeLlm, Running, Space, counts, patiently, until};

const TWO: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "prompts/a.md"

[task.b]
inputs = ["notes.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ notes }}"

[task.c]
inputs = ["a.txt", "b.txt"]
outputs = ["c.txt"]
template = "{{ a }}{{ b }}"
"#;

fn space(server: &FakeLlm) -> Space {
    let space = Space::with(server, TWO);
    space.write("plan.txt", "Build a bridge.\n");
    space.write("notes.txt", "Over the river.\n");
    space.write("prompts/a.md", "TASK=a\nSummarise: {{ plan }}\n");
    space
}

/// How often it has come to rest.
fn rests(watch: &Running) -> usize {
    watch.stderr().matches("watching ").count()
}

#[track_caller]
fn rested(watch: &Running, times: usize) {
    until(&format!("rest number {times}"), || (rests(watch) >= times).then_some(()));
}

#[track_caller]
fn ended(watch: Running) {
    watch.signal(Signal::INT);
    watch.wait().exits(130);
}

#[test]
fn edits_of_inputs_prompts_and_pipeline_are_built() {
    patiently(|_| {
        // What follows within a tenth of a second is one edit: a busy machine may make two of it.
        let server = FakeLlm::new();
        for poll in [&["watch"][..], &["watch", "--poll"][..]] {
            let space = space(&server);
            let before = server.counts();
            let called = |task: &str| {
                server.counts().get(task).copied().unwrap_or(0) - before.get(task).copied().unwrap_or(0)
            };
            let watch = space.spawn(poll);
            rested(&watch, 1);
            assert_eq!((called("a"), called("b")), (1, 1));
            space.write("plan.txt", "Build a tunnel.\n");
            rested(&watch, 2);
            assert_eq!((called("a"), called("b")), (2, 1));
            // A save by renaming, as editors do it, with an intermediate file and a backup.
            space.write("prompts/.a.md.swp", "x");
            space.write("prompts/a.md.new", "TASK=a\nSum up: {{ plan }}\n");
            std::fs::rename(space.path("prompts/a.md"), space.path("prompts/a.md~")).unwrap();
            std::fs::rename(space.path("prompts/a.md.new"), space.path("prompts/a.md")).unwrap();
            rested(&watch, 3);
            assert_eq!((called("a"), called("b")), (3, 1));
            space.edit("pipeline.toml", "{{ a }}{{ b }}", "{{ a }}-{{ b }}");
            rested(&watch, 4);
            assert!(space.read("c.txt").contains(".\n-"), "{}", space.read("c.txt"));
            assert_eq!(rests(&watch), 4, "{}", watch.stderr());
            ended(watch);
            space.assert_nothing_to_do(&server);
        }
    });
}

#[test]
fn what_planexe_writes_and_touches_do_not_count() {
    let server = FakeLlm::new();
    let space = space(&server);
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    // Neither of these starts a build; the edit after them does, and is the second.
    space.set_mtime("plan.txt", std::time::SystemTime::now());
    space.remove("a.txt.status");
    space.write("unrelated.txt", "x");
    space.write("notes.txt", "Over the sea.\n");
    rested(&watch, 2);
    assert_eq!(watch.stderr().matches("changed: ").count(), 1, "{}", watch.stderr());
    assert!(watch.stderr().contains("changed: `notes.txt`\n"), "{}", watch.stderr());
    ended(watch);
}

#[test]
fn an_edit_during_a_build_ends_exactly_what_reads_it() {
    let server = FakeLlm::new();
    let space = space(&server);
    server.hold("a");
    server.hold("b");
    let watch = space.spawn(&["watch"]);
    server.wait_for_call("a");
    server.wait_for_call("b");
    space.write("plan.txt", "Build a tunnel.\n");
    until("a to be asked again", || (server.counts().get("a") == Some(&2)).then_some(()));
    // b goes on as it was.
    server.release("a");
    server.release("b");
    rested(&watch, 1);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1)]));
    assert!(space.is_done("c.txt"));
    ended(watch);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edited_prompt_is_read_anew_while_others_finish() {
    let server = FakeLlm::new();
    let space = space(&server);
    server.hold("a");
    server.hold("b");
    let watch = space.spawn(&["watch"]);
    server.wait_for_call("a");
    server.wait_for_call("b");
    space.write("prompts/a.md", "TASK=a2\nSum up: {{ plan }}\n");
    until("the attempt to be ended", || (space.sidecar("a.txt")["state"] == "stopped").then_some(()));
    server.release("b");
    rested(&watch, 1);
    assert_eq!(server.counts(), counts([("a", 1), ("a2", 1), ("b", 1)]));
    server.release("a");
    ended(watch);
    space.assert_nothing_to_do(&server);
}

#[test]
fn faults_are_waited_out() {
    let server = FakeLlm::new();
    let space = space(&server);
    space.edit("pipeline.toml", "prompt = \"prompts/a.md\"", "prompt = \"prompts/none.md\"");
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    assert!(watch.stderr().contains("prompts/none.md"), "{}", watch.stderr());
    assert_eq!(server.counts(), counts([]));
    space.write("prompts/none.md", "TASK=a\n{{ plan }}");
    rested(&watch, 2);
    assert!(space.is_done("c.txt"));
    space.edit("pipeline.toml", "[task.c]", "[task.c");
    rested(&watch, 3);
    space.edit("pipeline.toml", "[task.c", "[task.c]");
    rested(&watch, 4);
    ended(watch);
    space.assert_nothing_to_do(&server);
    space.run(&["watch", "nonsense"]).exits(2);
}

#[test]
fn a_failed_task_is_left_until_what_it_reads_changes() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" if request.prompt.contains("bridge") => Answer::error(400, "no bridges"),
        _ => Answer::Default,
    });
    let space = space(&server);
    let watch = space.spawn(&["watch", "--exec", "echo $PLANEXE_EXIT_CODE >> ../codes.log"]);
    rested(&watch, 1);
    space.write("notes.txt", "Over the sea.\n");
    rested(&watch, 2);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2)]));
    space.write("plan.txt", "Build a tunnel.\n");
    rested(&watch, 3);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2)]));
    assert!(space.is_done("c.txt"));
    assert_eq!(std::fs::read_to_string(space.root().join("codes.log")).unwrap(), "1\n1\n0\n");
    ended(watch);
}

#[test]
fn a_signal_during_a_build_ends_both() {
    let server = FakeLlm::new();
    let space = space(&server);
    server.hold("a");
    let watch = space.spawn(&["watch"]);
    server.wait_for_call("a");
    watch.signal(Signal::INT);
    until("it to say that it stops", || watch.stderr().contains("stopping").then_some(()));
    server.release("a");
    watch.wait().exits(130);
    assert!(space.is_done("a.txt"));
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edited_evaluation_asks_the_evaluator_alone_and_its_program_is_named() {
    patiently(|_| {
        let server = FakeLlm::scripted(|call: &crate::support::ChatRequest| match call.task.as_str() {
            "judge" => Answer::Text("{\"score\": 0.9, \"notes\": \"\"}".into()),
            _ => Answer::Default,
        });
        let space = space(&server);
        let before = space.read("pipeline.toml");
        let eval = "[task.a.eval]\nprompt = \"prompts/judge.md\"\n[task.b]";
        space.write("pipeline.toml", before.replace("[task.b]", eval));
        space.write("prompts/judge.md", "TASK=judge\n{{ answer }}");
        let watch = space.spawn(&["watch"]);
        rested(&watch, 1);
        space.write("prompts/judge.md", "TASK=judge\nHow good is {{ answer }}");
        rested(&watch, 2);
        assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("judge", 2)]));
        let by_program = "[task.a.eval]\ncommand = \"cat good.json\"\n[task.b]";
        space.write("good.json", "{\"score\": 1, \"notes\": \"\"}");
        space.write("pipeline.toml", before.replace("[task.b]", by_program));
        rested(&watch, 3);
        assert!(watch.stderr().contains("did not run before:\n  cat good.json\n"), "{}", watch.stderr());
        assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("judge", 2)]));
        ended(watch);
    });
}

#[test]
fn what_an_edit_of_the_pipeline_adds_to_what_is_run_is_said() {
    let server = FakeLlm::new();
    let space = space(&server);
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    let before = space.read("pipeline.toml");
    space.write("pipeline.toml", before + "\n[task.d]\noutputs = [\"d.txt\"]\ncommand = \"date > $out\"\n");
    rested(&watch, 2);
    assert!(watch.stderr().contains("did not run before:\n  date > $out\n"), "{}", watch.stderr());
    assert!(space.is_done("d.txt"));
    // Said once.
    space.write("plan.txt", "Build a tunnel.\n");
    rested(&watch, 3);
    assert_eq!(watch.stderr().matches("did not run before").count(), 1, "{}", watch.stderr());
    ended(watch);
}

#[test]
fn a_failure_is_told_once_until_it_is_another() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" if request.prompt.contains("bridge") => Answer::error(400, "no bridges"),
        _ => Answer::Default,
    });
    let space = space(&server);
    let each = "\n[task.each]\nforeach = { file = \"list.json\", items = \"/*\" }\noutputs = [\"each/{{ key }}.txt\"]\n\
                template = \"{{ item }}\"\n\n[hooks]\non_failed = [\"sh\", \"-c\", \"cat >> ../told.jsonl; echo >> ../told.jsonl\"]\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + each);
    space.write("list.json", "no list");
    let told = || {
        let text = std::fs::read_to_string(space.root().join("told.jsonl")).unwrap_or_default();
        let name = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("an event");
            event["task"].as_str().expect("a task").to_owned()
        };
        let mut names: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(name).collect();
        names.sort();
        names
    };
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    assert_eq!(told(), ["a", "each"]);
    // Neither is what this edit is about.
    space.write("notes.txt", "Over the sea.\n");
    rested(&watch, 2);
    assert_eq!(told(), ["a", "each"]);
    // Another fault of the same list, and one that is mended.
    space.write("list.json", "{}");
    rested(&watch, 3);
    let now = told();
    assert!(now.len() <= 3 && now.iter().filter(|task| *task == "a").count() == 1, "{now:?}");
    space.write("plan.txt", "Build a tunnel.\n");
    rested(&watch, 4);
    assert_eq!(told().iter().filter(|task| *task == "a").count(), 1);
    ended(watch);
}

#[test]
fn a_model_that_is_named_is_the_one_that_is_asked() {
    let server = FakeLlm::new();
    let space = Space::with(&server, &format!("[models.other]\napi = \"simulated\"\n{TWO}"));
    space.write("plan.txt", "Build a bridge.\n");
    space.write("notes.txt", "Over the river.\n");
    space.write("prompts/a.md", "TASK=a\nSummarise: {{ plan }}\n");
    space.run(&["watch", "--model", "nobody"]).exits(2);
    let watch = space.spawn(&["watch", "--model", "other"]);
    rested(&watch, 1);
    space.write("plan.txt", "Build a tunnel.\n");
    rested(&watch, 2);
    ended(watch);
    assert_eq!(server.total(), 0);
}

#[test]
fn a_pipeline_that_is_away_for_a_while_is_waited_for() {
    let server = FakeLlm::new();
    let space = space(&server);
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    std::fs::rename(space.path("pipeline.toml"), space.path("aside.toml")).unwrap();
    rested(&watch, 2);
    assert!(watch.stderr().contains("there is no `pipeline.toml`"), "{}", watch.stderr());
    space.write("plan.txt", "Build a tunnel.\n");
    std::fs::rename(space.path("aside.toml"), space.path("pipeline.toml")).unwrap();
    rested(&watch, 3);
    ended(watch);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1)]));
    space.assert_nothing_to_do(&server);
}

/// What it says may go into a file of the run: that is no reason to say it again.
#[test]
fn the_same_faults_are_told_again_after_edits_of_the_pipeline_alone() {
    let server = FakeLlm::new();
    let space = space(&server);
    space.write("watch.log", "");
    let watch = space.start(space.program("sh", &["-c", "exec \"$PLANEXE\" watch 2>watch.log"]));
    let said = |words: &str| space.read("watch.log").matches(words).count();
    let says = |words: &str, times: usize| until(words, || (said(words) >= times).then_some(()));
    says("watching ", 1);
    space.edit("pipeline.toml", "template =", "tempalte =");
    for n in 1..=4 {
        says("watching ", n + 1);
        space.write("prompts/a.md", format!("TASK=a\n{n} {{{{ plan }}}}\n"));
    }
    says("watching ", 6);
    assert_eq!(said("did you mean `template`?"), 5, "{}", space.read("watch.log"));
    assert_eq!(said("watching "), 6);
    space.edit("pipeline.toml", "tempalte =", "template =");
    says("watching ", 7);
    ended(watch);
}

#[test]
fn a_command_after_each_build_that_goes_wrong_is_said() {
    let server = FakeLlm::new();
    let space = space(&server);
    let watch = space.spawn(&[
        "watch",
        "--exec",
        "test -e second && kill -9 $$; echo $PLANEXE_EXIT_CODE > code; exit 3",
    ]);
    rested(&watch, 1);
    assert_eq!(space.read("code"), "0\n");
    assert!(watch.stderr().contains("warning: --exec: exit code 3"), "{}", watch.stderr());
    space.write("second", "");
    space.write("plan.txt", "Build a tunnel.\n");
    rested(&watch, 2);
    assert!(watch.stderr().contains("warning: --exec: ended by signal 9"), "{}", watch.stderr());
    // It can be ended while that command runs.
    space.edit("pipeline.toml", "{{ a }}{{ b }}", "{{ b }}{{ a }}");
    rested(&watch, 3);
    ended(watch);
    let watch = space.spawn(&["watch", "--exec", "echo > begun; sleep 600"]);
    until("the command", || space.exists("begun").then_some(()));
    ended(watch);
}

#[test]
fn who_stops_a_watched_build_means_the_watching_too() {
    let server = FakeLlm::new();
    for (word, said) in [("stop", "stopped by"), ("abort", "aborted")] {
        let space = space(&server);
        let before = server.count("a");
        server.hold("a");
        let watch = space.spawn(&["watch"]);
        server.wait_for_calls("a", before + 1);
        space.run(&[word]).exits(0);
        until("it to be heard", || watch.stderr().contains(said).then_some(()));
        server.release("a");
        watch.wait().exits(3);
        assert!(!space.is_done("c.txt"), "{word}");
    }
}

#[test]
fn a_set_up_that_will_not_do_and_a_target_that_is_renamed_are_waited_out() {
    let server = FakeLlm::new();
    let space = space(&server);
    space.set_env("SOME_KEY", "sk-1");
    let watch = space.spawn(&["watch", "c"]);
    rested(&watch, 1);
    space.edit("pipeline.toml", "[task.c]", "[task.d]");
    rested(&watch, 2);
    assert!(watch.stderr().contains("error: no task or output is called `c`"), "{}", watch.stderr());
    space.edit("pipeline.toml", "[task.d]", "[task.c]");
    rested(&watch, 3);
    // A key that may not go where a new model is.
    let local = space.read("pipeline.toml");
    let far = "[models.far]\napi = \"openai\"\nmodel = \"m\"\nbase_url = \"http://models.example/v1\"\napi_key_env = \"SOME_KEY\"\n";
    let new = "[task.e]\noutputs = [\"e.txt\"]\nprompt = \"TASK=e of it\"\nmodel = \"far\"\n";
    let with_far = local.replace("[task.c]", "[task.c]\nafter = [\"e\"]") + far + new;
    space.write("pipeline.toml", with_far);
    rested(&watch, 4);
    assert!(watch.stderr().contains("SOME_KEY"), "{}", watch.stderr());
    space.write("pipeline.toml", local);
    rested(&watch, 5);
    ended(watch);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1)]));
}

#[test]
fn a_resting_watch_is_stopped_from_another_shell() {
    let server = FakeLlm::new();
    for (command, says) in [("stop", "watches no more"), ("abort", "watches no more")] {
        let space = space(&server);
        // One older than the watch is not for it.
        space.write(".planexe/stop", "");
        let watch = space.spawn(&["watch"]);
        rested(&watch, 1);
        let pid = serde_json::json!(watch.pid().as_raw_nonzero().get());
        let out = space.run(&[command, "--json"]).exits(0);
        assert_eq!(out.json()["pid"], pid, "{out}");
        assert!(out.stdout.contains(says), "{out}");
        watch.wait().exits(3).says(&["no longer watching"]);
        assert!(!space.exists(".planexe/watcher.json"));
        space.run(&["stop"]).exits(0).says(&["nothing to stop"]);
        // What stopped the watch stops no build.
        space.write("plan.txt", "Build another bridge.\n");
        space.run(&["build"]).exits(0);
    }
}

/// Who let a gate pass, or is done with a task, need not type `build` as well: what watches goes on.
#[test]
fn what_a_person_lets_pass_is_taken_up_while_it_rests() {
    let server = FakeLlm::new();
    let tasks = r#"
[task.go]
inputs = ["assessment.json"]
outputs = ["go.json"]
gate = { fail_if = "{{ assessment.verdict == 'no-go' }}", action = "pause" }

[task.sign]
inputs = ["go.json"]
outputs = ["signed.txt"]
human = "Sign signed.txt"
check = { min_words = 2 }

[task.next]
inputs = ["signed.txt"]
outputs = ["next.txt"]
prompt = "TASK=next\n{{ signed }}"
"#;
    let space = Space::with(&server, tasks);
    space.write("assessment.json", r#"{"verdict": "no-go"}"#);
    // Ahead of the build, which does not come to it: no reason to build again and again.
    space.write("signed.txt", "J. Doe\n");
    space.run(&["done", "sign"]).exits(0);
    let watch = space.spawn(&["watch"]);
    rested(&watch, 1);
    space.run(&["done", "go"]).exits(0).says(&["`planexe watch` continues with it"]);
    rested(&watch, 2);
    assert_eq!((space.state("go"), space.state("sign")), ("done".into(), "done".into()));
    assert_eq!(server.counts(), counts([("next", 1)]));
    // Another verdict is another question; a name that is none is asked for again.
    space.write("assessment.json", r#"{"verdict": "no-go", "why": "wind"}"#);
    rested(&watch, 3);
    space.write("assessment.json", r#"{"verdict": "go"}"#);
    rested(&watch, 4);
    assert_eq!(space.state("sign"), "waiting");
    space.run(&["done", "sign"]).exits(0);
    rested(&watch, 5);
    assert_eq!(space.state("sign"), "done");
    assert_eq!(rests(&watch), 5, "{}", watch.stderr());
    assert_eq!(server.counts(), counts([("next", 1)]));
    ended(watch);
}

/// In a mount namespace of its own, so that nobody else sees the small disk.
#[cfg(target_os = "linux")]
const SMALL_DISK: &str = r#"
mkdir full && mount -t tmpfs -o size=20m tmpfs full || exit 77
cp -r pipeline.toml plan.txt notes.txt prompts full
cd full && { cat /dev/zero > fill || :; } && exec "$PLANEXE" watch
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_waited_for() {
    let server = FakeLlm::new();
    let space = space(&server);
    let mut watch = space.start(space.program("unshare", &["-Urm", "sh", "-c", SMALL_DISK]));
    let full = std::path::PathBuf::from(format!("/proc/{}/cwd", watch.pid()));
    until("watch to rest, or to find that nothing may be mounted", || {
        (rests(&watch) == 1 || !watch.is_running()).then_some(())
    });
    if !watch.is_running() {
        eprintln!("not tried: nothing may be mounted here");
        return;
    }
    assert!(watch.stderr().contains("no space left on device"), "{}", watch.stderr());
    assert_eq!(server.total(), 0, "{}", watch.stderr());
    std::fs::remove_file(full.join("fill")).expect("to make room");
    rested(&watch, 2);
    assert!(watch.stderr().contains("\nthere is room on the disk again\n"), "{}", watch.stderr());
    assert!(full.join("c.txt.DONE").exists(), "{}", watch.stderr());
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1)]));
    ended(watch);
}
