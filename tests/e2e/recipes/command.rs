//! Commands: how they are started, what they are given, what becomes of what they leave.

use serde_json::json;

use crate::support::{FakeLlm, Space, patiently, space};

#[test]
fn a_command_is_run_without_a_shell() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.copy]
inputs = ["plan.txt"]
outputs = ["copy.txt"]
command = ["cp", "$in", "$out"]

[task.literal]
outputs = ["literal.txt"]
command = ["sh", "-c", 'printf "%s\n" "$@" > "$0"', "$out", "$$in", "a b", "; echo evil", "$(id)", "*"]
"#,
    );
    space.build();
    assert_eq!(space.read("copy.txt"), "Build a bridge.\n");
    assert_eq!(space.read("literal.txt"), "$in\na b\n; echo evil\n$(id)\n*\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn inputs_and_outputs_of_a_command_by_name_and_number() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.named]
inputs = { left = "l.txt", right = "r.txt" }
outputs = ["one.txt", "two.txt"]
command = ["sh", "-c", 'cat "$1" > "$3"; cat "$2" > "$4"', "sh", "$in.right", "$in.left", "$out.1", "$out.0"]

[task.counted]
inputs = ["l.txt", "r.txt"]
outputs = ["three.txt"]
command = "cat $in.1 $in.0 $in > $out.0"

[task.spread]
inputs = { files = "many/*.txt" }
outputs = ["four.txt"]
command = ["sh", "-c", 'to=$1; shift; echo $# > "$to"; cat "$@" >> "$to"', "sh", "$out", "$in.files"]
"#,
    );
    space.write("l.txt", "left ");
    space.write("r.txt", "right ");
    for n in 0..3 {
        space.write(&format!("many/{n} of 3.txt"), format!("{n} "));
    }
    space.build();
    assert_eq!((space.read("one.txt"), space.read("two.txt")), ("left ".to_owned(), "right ".to_owned()));
    assert_eq!(space.read("three.txt"), "right left left right ");
    assert_eq!(space.read("four.txt"), "3\n0 1 2 ");
    space.assert_nothing_to_do(&server);
}

#[test]
fn odd_names_are_quoted_in_a_shell_line() {
    let server = FakeLlm::new();
    let names = [
        "a b.txt",
        "it's.txt",
        "$(touch evil).txt",
        "`touch evil`.txt",
        "a;touch evil.txt",
        "-n.txt",
        "ü\"q.txt",
        "$HOME.txt",
    ];
    for name in names {
        let space = Space::new();
        let (from, to) = (json!(name).to_string(), json!(format!("out/{name}")).to_string());
        space.pipeline(
            &server,
            &format!("[task.copy]\ninputs = [{from}]\noutputs = [{to}]\ncommand = \"cat < $in > $out\"\n"),
        );
        space.write(name, name);
        let out = space.build();
        assert_eq!(space.read(&format!("out/{name}")), name, "{out}");
        assert!(!space.exists("evil"), "{name}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn scripts_of_the_pipeline_are_found_from_a_run_elsewhere() {
    let space = Space::new();
    let script = "#!/bin/sh\ntr a-z A-Z < \"$1\" > \"$2\"\n";
    space.write("of it/tools/up.sh", script);
    space.program("chmod", &["+x", "of it/tools/up.sh"]).status().expect("chmod");
    space.write(
        "of it/pipeline.toml",
        r#"
[pipeline]
plan = "plan.txt"

[task.program]
inputs = ["plan.txt"]
outputs = ["program.txt"]
command = ["tools/up.sh", "$in", "$out"]

[task.line]
inputs = ["plan.txt"]
outputs = ["line.txt"]
command = 'sh "$PLANEXE_PIPELINE_DIR"/tools/up.sh $in $out'

[task.env]
inputs = ["plan.txt"]
outputs = ["env.txt"]
env = { X = "1" }
command = 'sh "$PLANEXE_PIPELINE_DIR"/tools/up.sh $in $out'

[task.lost]
inputs = ["plan.txt"]
outputs = ["lost.txt"]
command = ["sh", "tools/up.sh", "$in", "$out"]
"#,
    );
    space.write("of it/runs/one/run.toml", "pipeline = \"../../pipeline.toml\"\n");
    space.write("of it/runs/one/plan.txt", "a bridge\n");
    let out = space.run(&["build", "-C", "of it/runs/one"]).exits(1);
    for output in ["program.txt", "line.txt", "env.txt"] {
        assert_eq!(space.read(&format!("of it/runs/one/{output}")), "A BRIDGE\n", "{out}");
    }
    // One that is not found is told where it is.
    out.says(&["1 task failed", "hint: `tools/up.sh` is not in the run directory", "PLANEXE_PIPELINE_DIR"]);

    // In the pipeline's own folder it needs nothing of that.
    space.write("of it/plan.txt", "a tunnel\n");
    space.run(&["build", "-C", "of it"]).exits(0);
    assert_eq!(space.read("of it/lost.txt"), "A TUNNEL\n");
}

#[test]
fn standard_output_becomes_the_first_output() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.count]
inputs = ["plan.txt"]
outputs = ["count.txt"]
command = ["sh", "-c", "wc -w < plan.txt | tr -d ' '; echo noise >&2"]
stdout = true
"#,
    );
    space.build();
    assert_eq!(space.read("count.txt"), "3\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn the_environment_and_folder_of_a_command() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[models.other]
api = "openai"
base_url = "http://127.0.0.1:1/v1"
model = "none"
api_key_env = "SECRET_KEY"

[task.set]
outputs = ["set.txt"]
env = { FLAVOUR = "sweet" }
command = "echo \"$FLAVOUR ${SECRET_KEY-no key} $PLAIN\" > $out"

[task.listed]
outputs = ["listed.txt"]
env = ["SECRET_KEY"]
command = "echo \"${SECRET_KEY-no key}\" > $out"

[task.inside]
inputs = ["sub/in.txt"]
outputs = ["sub/made/where.txt"]
cwd = "sub"
command = "cat in.txt > $out; basename \"$PWD\" >> $out; cat $in >> $out"
"#,
    );
    space.write("sub/in.txt", "inside\n");
    space.set_env("SECRET_KEY", "sk-0123456789abcdef");
    space.set_env("PLAIN", "inherited");
    space.build();
    assert_eq!(space.read("set.txt"), "sweet no key inherited\n");
    assert_eq!(space.read("listed.txt"), "sk-0123456789abcdef\n");
    assert_eq!(space.read("sub/made/where.txt"), "inside\nsub\ninside\n");
    space.assert_nothing_to_do(&server);
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_finds_signals_as_any_other_program_does() {
    let server = FakeLlm::new();
    let looks = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let space = space(
        &server,
        r#"
[task.found]
outputs = ["found.txt"]
command = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]
stdout = true

[task.set]
outputs = ["set.txt"]
env = { FLAVOUR = "sweet" }
command = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]
stdout = true

[task.input]
outputs = ["input.txt"]
command = ["sh", "-c", "cat; ls -l /proc/self/fd; cat"]
stdout = true
"#,
    );
    space.build();
    // SIGPIPE, which planexe ignores for itself, is not ignored; none is blocked.
    let alone = std::process::Command::new(looks[0]).args(&looks[1..]).output().expect("grep");
    let alone = String::from_utf8(alone.stdout).expect("text");
    assert_eq!(space.read("found.txt"), alone);
    assert_eq!(space.read("set.txt"), alone);
    // Nothing is open that is not to any program here.
    let open = space.read("input.txt");
    let listed = |text: &str| text.lines().filter(|line| line.contains(" -> ")).count();
    let mut alone = std::process::Command::new("sh");
    alone.args(["-c", "cat; ls -l /proc/self/fd; cat"]).stdin(std::process::Stdio::null());
    let alone = String::from_utf8(alone.output().expect("sh").stdout).expect("text");
    assert_eq!(listed(&open), listed(&alone), "{open}\n{alone}");
    assert!(open.contains("0 -> /dev/null"), "{open}");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_that_fails_leaves_the_old_output_in_place() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
command = "echo partial > $out; echo what went wrong >&2; test ! -e ../fail || exit 7; cat $in >> $out"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
command = "cat $in > $out"
"#,
    );
    space.build();
    let tree = space.tree();
    std::fs::write(space.root().join("fail"), "").expect("fail");
    space.write("plan.txt", "Build a tunnel.\n");
    space.run(&["build"]).exits(1).says(&["a", "what went wrong", "7"]);
    assert_eq!(space.read("a.txt"), "partial\nBuild a bridge.\n", "the old output keeps its name");
    assert_eq!(tree["b.txt"], space.bytes("b.txt"));
    assert!(space.tree().keys().eq(tree.keys()), "no litter: {:?}", space.tree().keys());
    let status = space.sidecar("a.txt");
    assert_eq!(
        (&status["state"], &status["failure"]["exit_code"]),
        (&json!("failed"), &json!(7)),
        "{status:#}"
    );
    assert_eq!(space.state("b"), "blocked");
    std::fs::remove_file(space.root().join("fail")).expect("fail");
    space.build();
    assert_eq!(space.read("b.txt"), "partial\nBuild a tunnel.\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_that_does_not_write_its_output_is_no_success() {
    let server = FakeLlm::new();
    for command in ["true", "no-such-program-here x"] {
        let space = space(&server, &format!("[task.a]\noutputs = [\"a.txt\"]\ncommand = \"{command}\"\n"));
        space.run(&["build"]).exits(1).says(&["a"]);
        assert!(!space.exists("a.txt") && !space.is_done("a.txt"), "{command}");
        assert_eq!(space.state("a"), "failed", "{command}");
    }
}

#[test]
fn a_command_may_have_nothing_to_write() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"grep -v bridge $in > $out || true\"\n",
    );
    space.build();
    assert_eq!(space.read("a.txt"), "");
    space.assert_nothing_to_do(&server);
    // What was not empty and is now, is damage all the same.
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space.write("a.txt", "");
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(space.read("a.txt"), "Build a tunnel.\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_that_is_ended_by_a_signal_says_which() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo half > $out; kill -9 $$$$\"\n",
    );
    space.run(&["build"]).exits(1).says(&["ended by signal 9"]);
    let failure = space.sidecar("a.txt")["failure"].clone();
    assert_eq!(
        (&failure["class"], &failure["signal"], &failure["exit_code"]),
        (&"signal".into(), &9.into(), &serde_json::Value::Null)
    );
    assert!(!space.exists("a.txt"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let server = FakeLlm::new();
    let space =
        space(&server, "[task.a]\noutputs = [\"a.txt\"]\ncommand = [\"no-such-program-here\", \"$out\"]\n");
    space.run(&["build"]).exits(1).says(&["no-such-program-here"]);
    assert_eq!(space.state("a"), "failed");
}

#[test]
fn a_command_in_place() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.log]
inputs = ["plan.txt"]
outputs = ["log.txt"]
in_place = true
command = "cat $in >> $out"
"#,
    );
    space.build();
    space.assert_nothing_to_do(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(space.read("log.txt"), "Build a bridge.\nBuild a tunnel.\n");
    space.assert_nothing_to_do(&server);
}

/// As editors on Windows save them.
#[test]
fn json_files_may_begin_with_a_byte_order_mark() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.each]
foreach = { file = "items.json", key = "name" }
outputs = ["each/{{ key }}.txt"]
template = "{{ item.name }}"

[task.one]
inputs = { data = "data.json" }
outputs = ["one.txt"]
template = "{{ data.x }}"
"#,
    );
    space.write("items.json", "\u{feff}[{\"name\": \"ada\"}]\r\n");
    space.write("data.json", "\u{feff}{\"x\": 1}\r\n");
    space.build();
    assert_eq!((space.read("each/ada.txt"), space.read("one.txt")), ("ada".into(), "1".into()));
}

/// It is this command that is wrong, not the disk: all others go on.
#[test]
fn what_comes_in_place_of_a_file_fails_its_task_alone() {
    for (make, came) in [
        ("mkdir $out; echo x > $out/x", "a directory"),
        ("ln -s $in $out", "a symbolic link"),
        ("mkfifo $out", "a pipe"),
        ("echo x > $out; chmod 000 $out", "its owner may not read"),
        ("mkdir $out; exit 3", "exit code 3"),
    ] {
        let server = FakeLlm::new();
        let tasks = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
command = "MAKE"

[task.b]
after = ["c"]
outputs = ["b.txt"]
command = "echo fine > $out"

[task.c]
outputs = ["c.txt"]
command = "while [ ! -e a.txt.status ]; do sleep 0.02; done; echo fine > $out"
"#;
        let space = space(&server, &tasks.replace("MAKE", make));
        space.run(&["build"]).exits(1).says(&["a", came, "1 task failed"]);
        assert_eq!(space.state("a"), "failed");
        assert!(space.is_done("b.txt"), "{make}");
        assert!(!space.files("").iter().any(|name| name.contains("tmp")), "{:?}", space.files(""));
    }
}

/// What a program said last tells why it failed, however much it said before.
#[test]
fn of_what_a_talkative_command_says_the_last_is_kept() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
outputs = ["a.txt"]
command = "head -c 70000000 /dev/zero; echo; echo the reason; exit 3"
"#,
    );
    space.run(&["build"]).exits(1).says(&["exit code 3: the reason"]);
}

#[test]
fn a_time_that_never_ends_is_as_good_as_none() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
outputs = ["a.txt"]
timeout = 1e19
stall_timeout = 1e19
command = "echo done > $out"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
timeout = 1e19
stall_timeout = 1e19
prompt = "TASK=b\n{{ a }}"
"#,
    );
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_over_its_time_is_ended_with_its_children() {
    patiently(|slow| {
        let time = format!("{}ms", 300 * slow);
        let server = FakeLlm::new();
        let space = space(
            &server,
            &r#"
[task.a]
outputs = ["a.txt"]
timeout = "300ms"
command = "sleep 300 & echo $! > ../child; wait; echo done > $out"

[task.b]
outputs = ["b.txt"]
command = "echo fine > $out"
"#
            .replace("300ms", &time),
        );
        space.run(&["build"]).exits(1).says(&["a", "timeout"]);
        assert_eq!(space.sidecar("a.txt")["failure"]["class"], "timeout");
        assert!(space.is_done("b.txt"));
        let child = std::fs::read_to_string(space.root().join("child")).expect("the child's id");
        crate::support::until("the child to be gone", || {
            let state = std::process::Command::new("ps")
                .args(["-o", "stat=", "-p", child.trim()])
                .output()
                .expect("ps");
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            (state.is_empty() || state.starts_with('Z')).then_some(())
        });
        // Raising the limit makes nothing else stale.
        space.edit("pipeline.toml", &time, "50m");
        space.edit("pipeline.toml", "sleep 300", "sleep 0");
        space.build();
        space.assert_nothing_to_do(&server);
    });
}

#[test]
fn no_text_of_a_model_gets_into_a_command_line() {
    let server = FakeLlm::scripted(|_| json!([{ "id": "$(touch evil); `touch evil`" }]).into());
    let space = space(
        &server,
        r#"
[task.list]
outputs = ["list.json"]
prompt = "TASK=list\nA list, please."
schema = "list.schema.json"

[task.each]
foreach = { file = "list.json", key = "id" }
outputs = ["each/{{ key }}.txt"]
command = "echo $key > $out"
"#,
    );
    space.write("list.schema.json", r#"{"type": "array", "items": {"type": "object"}}"#);
    space.build();
    assert!(!space.exists("evil"));
    assert_eq!(space.files("each").iter().filter(|path| path.ends_with(".txt")).count(), 1);
    space.edit("pipeline.toml", "echo $key", "echo {{ key }}");
    let out = space.run(&["build"]);
    assert!(!space.exists("evil"), "{out}");
}

#[test]
fn files_are_made_with_the_usual_rights() {
    use std::os::unix::fs::PermissionsExt;
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.answer]
outputs = ["answer.txt"]
prompt = "TASK=answer\nAnswer."

[task.tool]
outputs = ["tool.sh"]
command = "echo 'echo hello' > $out; chmod 750 $out"

[task.data]
outputs = ["data.txt"]
command = "echo hello > $out"
"#,
    );
    space.write("usual.txt", "made by the test");
    space.build();
    let mode = |path: &str| space.path(path).metadata().expect(path).permissions().mode() & 0o777;
    for path in ["answer.txt", "data.txt", "answer.txt.DONE", "answer.txt.status", "events.jsonl"] {
        assert_eq!(format!("{:o}", mode(path)), format!("{:o}", mode("usual.txt")), "{path}");
    }
    assert_eq!(mode("tool.sh"), 0o750, "a program stays one");
    space.assert_nothing_to_do(&server);
}
