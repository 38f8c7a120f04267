//! Commands in the states that a run is rarely in.

use std::fs;

use serde_json::Value;

use super::built;
use crate::support::{CHAIN, FakeLlm, Space, space};

/// One task of each recipe.
const EACH: &str = r#"
[task.draft]
inputs = ["plan.txt"]
outputs = ["draft.txt"]
prompt = "TASK=draft\n{{ plan }}"

[task.count]
inputs = ["draft.txt"]
outputs = ["count.txt"]
command = ["wc", "-w", "$in"]
stdout = true

[task.shout]
inputs = ["draft.txt"]
outputs = ["shout.txt"]
command = "tr a-z A-Z < $in > $out"

[task.page]
inputs = ["draft.txt"]
outputs = ["page.html"]
template = "<p>{{ draft }}</p>"

[task.go]
inputs = { draft = "draft.txt" }
outputs = ["go.json"]
gate = { fail_if = "{{ draft == 'no' }}", action = "stop" }

[task.sign]
inputs = ["page.html"]
outputs = ["signed.txt"]
human = "Read {{ page }} and sign"

[task.all]
inputs = ["signed.txt", "shout.txt"]
"#;

#[test]
fn explain_says_what_the_next_build_would_do() {
    let server = FakeLlm::new();
    let space = space(&server, EACH);
    for (task, words) in [
        ("draft", "ask fake-1, with a prompt of about"),
        ("count", "run wc -w '$in'"),
        ("shout", "run sh -c 'tr a-z A-Z < $in > $out'"),
        ("page", "render task.page.template"),
        ("go", "look whether {{ draft == 'no' }}"),
        ("sign", "wait for a person; then `planexe done sign`"),
    ] {
        space.run(&["explain", task]).exits(0).says(&["The next build would", words]);
    }
    space.run(&["build"]).exits(3);
    space.run(&["explain", "sign"]).exits(0).says(&["Waiting for a person", "and sign"]);
    space.run(&["explain", "all"]).exits(0).says(&["sign"]);
    assert_eq!(space.state("all"), "pending");
    // Nobody is asked at a gate that stops, and what is done is done.
    space.run(&["done", "go"]).exits(2).says(&["no person is asked", "action = \"pause\""]);
    space.run(&["done", "draft"]).exits(2).says(&["draft"]);
    space.write("signed.txt", "I have.");
    space.run(&["done", "sign"]).exits(0);
    space.build();
    space.run(&["done", "sign"]).exits(0).says(&["is done already"]);
    assert_eq!(space.state("all"), "done");
}

/// The findings of `doctor` of one kind: grade, message and remedy of each.
fn found(space: &Space, check: &str) -> Vec<[String; 3]> {
    let answer = space.run(&["doctor", "--offline", "--json"]).json();
    let all = answer["findings"].as_array().expect("findings").iter();
    let word = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    all.filter(|one| one["check"] == check)
        .map(|one| ["grade", "message", "remedy"].map(|key| word(one, key)))
        .collect()
}

#[track_caller]
fn finds(space: &Space, check: &str, grade: &str, message: &str, remedy: &str) {
    let all = found(space, check);
    let fits = |one: &[String; 3]| one[0] == grade && one[1].contains(message) && one[2].contains(remedy);
    assert!(all.iter().any(fits), "{check}: wanted {grade}, {message:?}, {remedy:?}; found {all:#?}");
}

#[test]
fn doctor_finds_what_was_forgotten() {
    let server = FakeLlm::new();
    let space = built(&server);
    finds(&space, "lock", "ok", "free", "");
    finds(&space, "orphans", "ok", "none", "");
    finds(&space, "git", "ok", "no repository", "");
    // A build that runs, and files that steer it.
    server.hold("c");
    space.run(&["clean", "c", "-y"]).exits(0);
    let build = space.spawn(&["build"]);
    server.wait_for_calls("c", 2);
    finds(&space, "lock", "ok", &format!("PID {}", build.pid().as_raw_nonzero()), "");
    server.release_all();
    build.wait().exits(0);
    space.write(".planexe/pause", "");
    finds(&space, "steering", "warn", "starts nothing", "planexe resume");
    space.remove(".planexe/pause");
    // A task that is gone, a program that is not there, a model that cannot be used.
    let tasks = format!(
        "{}\n[task.d]\noutputs = [\"d.txt\"]\ncommand = [\"no-such-program-here\", \"$out\"]\n",
        CHAIN.replace("[task.c]", "[task.cc]").replace("c.txt", "cc.txt")
    );
    space.pipeline(&server, &tasks);
    finds(&space, "orphans", "warn", "`c.txt` for one", "planexe clean --orphans -n");
    finds(&space, "programs", "fail", "`no-such-program-here`, which `d` starts", "install");
    space.run(&["doctor", "--offline"]).exits(1).says(&["1 thing does not work", "no-such-program-here"]);
    space.write("pipeline.toml", "[task.a]\noutput = 3\n");
    finds(&space, "pipeline", "fail", "fault", "planexe check");
}

#[test]
fn doctor_asks_git_whether_answers_would_be_committed() {
    let server = FakeLlm::new();
    let space = built(&server);
    let git = space.program("git", &["init", "-q", "."]).status();
    if !git.is_ok_and(|status| status.success()) {
        eprintln!("no git here: not tested");
        return;
    }
    finds(&space, "git", "warn", "is not ignored", "echo .planexe/ >>");
    space.write(".gitignore", ".planexe/\n");
    finds(&space, "git", "ok", "`.planexe/` ignored", "");
    // A folder that only looks like a repository.
    fs::remove_dir_all(space.path(".git")).expect("the repository");
    fs::create_dir(space.path(".git")).expect("an empty folder");
    finds(&space, "git", "warn", "git does not answer", "git status");
    space.set_env("PATH", "/nowhere");
    finds(&space, "git", "warn", "no `git` to ask", "install git");
}

#[test]
fn a_new_run_is_made_of_what_is_named() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline(&server, &CHAIN.replace("plan.txt", "text.txt"));
    // No plan is named: there is no place for one.
    space.run(&["new", "one", "--prompt", "A mill."]).exits(2).says(&["plan = \"plan.txt\""]);
    space
        .run(&["new", "one", "--pipeline", "gone.toml"])
        .exits(2)
        .says(&["there is no pipeline `gone.toml`"]);
    space.run(&["new", "one", "--prompt", " "]).exits(2).says(&["the plan's text is empty"]);
    space.run(&["new", "one", "--prompt-file", "gone.txt"]).exits(2).says(&["gone.txt"]);
    space.run(&["new", "pipeline.toml"]).exits(2).says(&["is no folder"]);
    for (own, taken) in
        [(".planexe", ".planexe"), ("./x/.PlanExe", ".planexe"), (".planexe/x", ".planexe"), (".git", ".git")]
    {
        let out = space.run(&["new", own]).exits(2);
        out.says(&[&format!("`{taken}` is a folder of"), "name another folder"]);
        assert!(!space.exists(own));
    }
    assert!(!space.exists("one"));
    space.pipeline(&server, &format!("[pipeline]\nplan = \"plan.txt\"\n{CHAIN}"));
    let answer = space.run(&["new", "one", "--json", "--label", "First"]).exits(0).json();
    assert_eq!(answer["files"], serde_json::json!(["run.toml"]), "{answer}");
    assert_eq!((&answer["plan"], &answer["pipeline"]), (&"plan.txt".into(), &"../pipeline.toml".into()));
    assert!(answer["next"][0].as_str().is_some_and(|next| next.contains("write your plan")), "{answer}");
    // A run beside a run is of the same pipeline; a folder stands for its pipeline.
    space.write("text", "A mill by the river.");
    let two = ["-C", "one", "new", "two", "--prompt-file", "text"];
    space.run(&two).exits(0);
    assert_eq!(space.read("two/plan.txt"), "A mill by the river.\n");
    space.run(&["new", "three", "--pipeline", "."]).exits(0).says(&["write your plan"]);
    space.run(&["-C", "two", "build"]).exits(0);
    space.run(&["new", "two"]).exits(2).says(&["not empty"]);
    space.write("one/run.toml", "pipeline = 3\n");
    space.run(&["-C", "one", "new", "four"]).exits(2).says(&["run.toml"]);
}

#[test]
fn what_cannot_be_marked_done_is_left_and_named() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["touch", "a"]).says(&["output `a.txt` is missing"]);
    space.write("a.txt", "");
    space.run(&["touch", "a"]).says(&["output `a.txt` is empty"]);
    space.write("a.txt", "by hand\n");
    space.run(&["touch", "a"]).exits(0);
    space.build();
    assert_eq!(server.count("a"), 0);
    // A state of a version to come.
    space.edit("c.txt.status", "\"done\"", "\"levitating\"");
    space.remove("c.txt.DONE");
    space.run(&["touch", "c"]).says(&["levitating"]);
    assert!(!space.is_done("c.txt"));
    space.run(&["status"]).exits(0).says(&["failed"]);
}

#[test]
fn a_recording_says_what_it_could_not_take() {
    let server = FakeLlm::new();
    let space = built(&server);
    // Kept answers are gone: what the outputs hold is taken. An edited one is no answer.
    fs::remove_dir_all(space.path(".planexe/calls")).expect("the kept answers");
    space.write("c.txt", "by hand\n");
    let out = space.run(&["record", "answers.json"]);
    assert!(out.stderr.contains('c'), "{out}");
    let packed = space.json("answers.json");
    assert!(packed.to_string().contains("\"a\""), "{packed}");
}

#[test]
fn lists_of_a_run_as_text() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["checkpoints"]).exits(0).says(&["no checkpoints"]);
    space.run(&["failures"]).exits(0).says(&["no failures"]);
    space.build();
    space.run(&["checkpoints"]).exits(0).says(&["checkpoint", "a.txt", "b.txt", "c.txt"]);
    space.run(&["clean", "c", "-n", "--json"]).exits(0).says(&["c.txt"]);
    let answer = space.run(&["clean", "c", "-y", "--json"]).exits(0).json();
    assert_eq!(answer["cleaned"], true, "{answer}");
    assert_eq!(space.run(&["clean", "c", "-y", "--json"]).exits(0).json()["cleaned"], false);
    space.run(&["history", "--json"]).exits(0).says(&["c.txt", "cleaned"]);
    space.run(&["restore", "c", "-n"]).exits(0).says(&["c.txt"]);
    assert!(!space.exists("c.txt"));
    space.run(&["restore", "c"]).exits(0);
    space.run(&["restore", "c"]).exits(0).says(&["all that is kept is as it is now"]);
    space.run(&["diff", "c"]).exits(0).says(&["all that is kept is as it is now"]);
}

#[test]
fn touch_takes_nothing_that_a_build_would_not() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json", { path = "a.md", template = "{{ answer.n }}" }]
prompt = "TASK=a\n{{ plan }}"
schema = "a.schema.json"

[task.b]
inputs = ["plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ plan }}"
when = "{{ 'tunnel' in plan }}"
"#,
    );
    space.write(
        "a.schema.json",
        r#"{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}, "required": ["n", "s"]}"#,
    );
    for (json, md, said) in [
        ("", "x", "output `a.json` is empty"),
        (r#"{"n": "one", "s": 2}"#, "x", "output `a.json` is not valid"),
        (r#"{"n": "one", "s": 2}"#, "x", "(and 1 more)"),
        (r#"{"n": 1, "s": "x"}"#, "", "output `a.md` is empty"),
    ] {
        space.write("a.json", json);
        space.write("a.md", md);
        let before = space.tree();
        space.run(&["touch", "a"]).exits(1).says(&[said]);
        assert_eq!(space.tree(), before, "{said}");
    }
    space.remove("a.md");
    space.run(&["touch", "a"]).exits(1).says(&["output `a.md` is missing"]);
    space.write("a.md", "1");
    space.write("b.txt", "b");
    space.run(&["touch", "b"]).exits(1).says(&["its condition (`when`) is false"]);
    space.run(&["touch", "a"]).exits(0);
    space.build();
    assert_eq!(server.total(), 0);
}

#[test]
fn what_a_person_said_is_found_by_doctor_until_a_build_takes_it_up() {
    let server = FakeLlm::new();
    let space = space(&server, EACH);
    space.run(&["build"]).exits(3);
    space.run(&["done", "sign"]).exits(0);
    finds(&space, "steering", "warn", "1 task said done by a person", "planexe build");
    space.build();
    assert!(found(&space, "steering").iter().all(|one| one[0] == "ok"), "{:?}", found(&space, "steering"));
}

#[test]
fn without_a_lock_nobody_is_waited_for_nor_held_up() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.run(&["touch", "c"]).exits(75);
    space.run(&["build", "--wait", "--no-lock"]).exits(2);
    // Who says so goes on all the same, beside the other.
    let second = space.spawn(&["build", "--no-lock"]);
    server.wait_for_calls("a", 2);
    server.release("a");
    build.wait().exits(0);
    second.wait();
    space.assert_nothing_to_do(&server);
}

#[test]
fn made_up_answers_are_as_long_and_as_dear_as_is_asked() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[models.m]
api = "simulated"
words = 400
fail = 0.0
latency = 0
price = { input = 1.0, output = 2.0 }

[task.a]
model = "m"
outputs = ["a.txt"]
prompt = "a b"
"#,
    );
    space.build();
    let words = space.read("a.txt").split_whitespace().count();
    assert!((300..500).contains(&words), "{words}");
    let usage = space.sidecar("a.txt")["usage"].clone();
    let number = |name: &str| usage[name].as_f64().expect("a number");
    let wanted = (number("input_tokens") + 2.0 * number("output_tokens")) / 1e6;
    assert!(wanted > 0.0 && (number("cost_usd") - wanted).abs() < 1e-9, "{usage}");
}

#[test]
fn how_hard_tasks_are_and_what_their_calls_used_is_a_table_too() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[tiers]
small = { model = ["fake"], up_to = 8 }

[task.easy]
inputs = ["plan.txt"]
outputs = ["easy.txt"]
prompt = "TASK=easy\n{{ plan }}"
complexity = { reasoning = 2, domain = 2, context = 2, output = 2 }

[task.plain]
inputs = ["easy.txt"]
outputs = ["plain.txt"]
prompt = "TASK=plain\n{{ easy }}"
model = "fake"
"#,
    );
    let line = |task: &str| {
        let told = space.run(&["complexity"]).exits(0).stdout;
        let line = told.lines().find(|line| line.starts_with(task)).expect(task).to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let easy = line("easy");
    assert_eq!(
        (&easy[1..4], easy.last().unwrap().as_str()),
        (&["8", "small", "fake"].map(String::from)[..], "0")
    );
    space.build();
    let (easy, plain) = (line("easy"), line("plain"));
    assert_eq!((easy.last().unwrap().as_str(), plain.last().unwrap().as_str()), ("1", "1"));
    assert_eq!(&plain[1..4], ["-", "-", "fake"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn files_are_told_to_people_as_well() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["files", "b.txt"]).exits(0).says(&["not ready", "b.txt"]);
    space.build();
    space.run(&["files", "b.txt"]).exits(0).says(&["output", "b (done)", "text/plain", "sha256"]);
    let two = space.run(&["files", "--kind", "output", "--limit", "2"]).exits(0).says(&["2 of 3"]);
    assert_eq!(two.stdout.lines().count(), 3, "a head and two files: {two}");
}

#[test]
fn evidence_that_is_none_is_refused_and_nothing_is_written_over() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.sign]
outputs = ["signed.txt"]
human = "Sign it"

[task.gate]
inputs = { signed = "signed.txt" }
outputs = ["gate.json"]
gate = { fail_if = "{{ true }}", action = "pause" }
"#,
    );
    space.run(&["build"]).exits(3);
    space.write("empty.md", "");
    space.write("picture.bin", [0xff, 0xfe, 0x00]);
    space.write("scan.md", "signed on Monday\n");
    let give = |task: &str, file: &str| space.run(&["done", task, "--evidence", file]);
    give("sign", "empty.md").exits(2).says(&["`empty.md` is empty"]);
    give("sign", "picture.bin").exits(2).says(&["is no text"]);
    give("sign", "away.md").exits(2).says(&["away.md"]);
    space.write("signed.txt", "signed by hand\n");
    give("sign", "scan.md").exits(2).says(&["is there already", "without `--evidence`"]);
    assert_eq!(space.read("signed.txt"), "signed by hand\n");
    space.run(&["done", "sign"]).exits(0);
    space.run(&["build"]).exits(3);
    give("gate", "scan.md").exits(2).says(&["it is passed, and shows nothing"]);
    space.run(&["done", "gate"]).exits(0);
    space.run(&["build"]).exits(0);
    space.run(&["build", "-q"]).exits(0);
}

#[test]
fn what_is_asked_in_vain_is_said_with_what_to_type() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let pipeline = "[pipeline]\nplan = \"plan.txt\"\n".to_owned() + &space.read("pipeline.toml");
    space.write("pipeline.toml", pipeline);
    space.build();
    for (args, words) in [
        (&["schema", "statis"][..], &["there is no schema `statis`", "status"][..]),
        (&["edit-plan", "--all"], &["neither VISUAL nor EDITOR is set", "`--set FILE`"]),
        (&["-C", ".", "report", "--html", "x.html", "."], &["both `-C` and `.` name a run"]),
    ] {
        let out = space.run(args);
        assert_ne!(out.code, 0, "{args:?}");
        out.says(words);
    }
    // A port that is taken.
    let taken = crate::support::own_port();
    let port = taken.local_addr().expect("an address").port().to_string();
    space.run(&["ui", "--port", &port]).exits(2).says(&["cannot be taken", "--port"]);
}

#[test]
fn without_a_command_the_help_is_shown() {
    let space = Space::new();
    space.run(&[]).exits(0).says(&["Usage: planexe", "build"]);
}

#[test]
fn of_a_long_log_the_end_is_shown_and_how_much_came_before() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"i=0; while [ $i -lt 90 ]; do i=$((i+1)); echo line-$i; done; exit 1\"\n",
    );
    space.run(&["build"]).exits(1);
    space.run(&["explain", "a"]).exits(0).says(&["lines before)", "line-90"]).says_nothing_of(&["line-5\n"]);
}

#[test]
fn an_item_that_is_not_there_is_said_with_those_that_are() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.each]\nforeach = { file = \"list.json\", items = \"/all\", key = \"id\" }\noutputs = [\"each/{{ key }}.txt\"]\nprompt = \"TASK=each {{ item.id }}\"\n[task.list]\noutputs = [\"list.json\"]\ninputs = [\"all.json\"]\ncommand = \"cp $in $out\"\n",
    );
    space.write("all.json", "{\"all\": [{\"id\": \"ann\"}, {\"id\": \"bob\"}]}");
    space
        .run(&["explain", "each[ann]"])
        .exits(2)
        .says(&["its items are not known yet", "planexe explain each"]);
    space.build();
    space.run(&["explain", "each[an]"]).exits(2).says(&["did you mean", "ann"]);
    space.run(&["explain", "each[xyz-of-nothing]"]).exits(2).says(&["known are `ann`, `bob`"]);
    space.run(&["retry", "each"]).exits(2).says(&["nothing of `each` failed", "`planexe clean each`"]);
}

#[test]
fn a_prompt_too_large_to_be_one_is_said_with_its_line() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[models.m]\napi = \"simulated\"\n[defaults]\nmodel = \"m\"\n[task.a]\noutputs = [\"a.txt\"]\nprompt = \"a.md\"\n",
    );
    let file = fs::File::create(space.path("a.md")).expect("a file");
    // Nothing of it is on the disk.
    file.set_len(1 << 30).expect("a long file");
    space.run(&["check"]).exits(2).says(&["pipeline.toml:7", "is larger than", "MiB"]);
}
