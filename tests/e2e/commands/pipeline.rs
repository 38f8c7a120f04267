//! Which pipeline is built, and what is said of one with faults.

use crate::support::{CHAIN, FakeLlm, Space, space};

#[test]
fn usage_faults_exit_2() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.run(&["build"]).exits(2).says(&["pipeline.toml"]);
    space.run(&["status"]).exits(2).says(&["pipeline.toml"]);
    space.run(&["build", "-C", "nowhere"]).exits(2).says(&["nowhere"]);
    space.run(&["build", "-f", "nowhere.toml"]).exits(2).says(&["nowhere.toml"]);
    space.pipeline(&server, CHAIN);
    space.write("plan.txt", "x");
    space.run(&["build", "-j", "none"]).exits(2);
    space.run(&["build", "-D", "novalue"]).exits(2);
    space.run(&["-h"]).exits(0).says(&["build", "status"]);
    space.run(&["build", "-h"]).exits(0).says(&["--dry-run"]);
    space.run(&["-V"]).exits(0).says(&["planexe", env!("CARGO_PKG_VERSION")]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn all_faults_of_a_pipeline_at_once_with_their_places() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.one]
inputs = ["plan.txt"]
outputs = ["one.txt"]
promt = "TASK=one\n{{ plan }}"

[task.two]
inputs = ["three.txt"]
outputs = ["two.txt"]
prompt = "prompts/not-there.md"

[task.three]
inputs = ["two.txt"]
outputs = ["three.txt"]
prompt = "TASK=three\nx"
model = "fakke"

[task.four]
outputs = ["one.txt"]
prompt = "TASK=four\nx"
"#,
    );
    let pipeline = space.read("pipeline.toml");
    let line = |text: &str| pipeline.lines().position(|line| line.contains(text)).expect(text) + 1;
    for args in [&["check"][..], &["build"], &["build", "-n"]] {
        let out =
            space.run(args).exits(2).says(&["promt", "prompt", "not-there.md", "fakke", "fake", "one.txt"]);
        for place in ["promt", "not-there", "fakke"] {
            assert!(
                out.stderr.contains(&format!("pipeline.toml:{}", line(place))),
                "no place of {place}\n{out}"
            );
        }
    }
    assert_eq!(server.requests(), 0);
    space.pipeline(&server, CHAIN);
    space.run(&["check"]).exits(0);
}

#[test]
fn a_cycle_is_named_as_a_whole() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.edit("pipeline.toml", "\"plan.txt\"", "\"plan.txt\", \"c.txt\"");
    space.run(&["build"]).exits(2).says(&["cycle", "a", "b", "c"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_run_below_is_not_built_by_chance() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::create_dir_all(space.path("notes/deep")).expect("a folder");
    let below = |args: &[&str]| {
        let mut command = space.command(args);
        command.current_dir(space.path("notes/deep"));
        space.start(command).wait()
    };
    below(&["build"]).exits(2).says(&["-C"]);
    assert_eq!(server.requests(), 0);
    below(&["status"]).exits(0).says(&["a", "b", "c"]);
    below(&["build", "-C", "../.."]).exits(0);
    assert_eq!(server.total(), 3);
    below(&["explain", "a"]).exits(0).says(&["fresh"]);
    below(&["build", "--run-dir", "../.."]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_pipeline_named_by_file_runs_here() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::create_dir(space.path("kit")).expect("a folder");
    space.edit("pipeline.toml", "\"TASK=a\\nSummarise: {{ plan }}\"", "\"prompts/a.md\"");
    std::fs::rename(space.path("pipeline.toml"), space.path("kit/other.toml")).expect("rename");
    space.write("kit/prompts/a.md", "TASK=a\nFrom a file: {{ plan }}");
    space.run(&["build", "-f", "kit/other.toml"]).exits(0);
    assert_eq!(server.total(), 3);
    assert!(server.last("a").prompt.starts_with("TASK=a\nFrom a file: Build"));
    assert!(space.exists("a.txt") && !space.exists("kit/a.txt"));
    space.run(&["build", "-q", "-f", "kit/other.toml"]).exits(0);
    space.run(&["status", "-f", "kit/other.toml"]).exits(0).says(&["done"]);
}

#[test]
fn outputs_may_not_leave_the_run_nor_take_names_of_its_own() {
    let server = FakeLlm::new();
    for output in [
        "../out.txt",
        "/tmp/out.txt",
        "pipeline.toml",
        ".planexe/x",
        "x.DONE",
        "x.status",
        "out/",
        "a/../../b",
        ".git/hooks/x",
    ] {
        let space = Space::new();
        space.pipeline(&server, &format!("[task.a]\noutputs = [\"{output}\"]\nprompt = \"TASK=a\\nx\"\n"));
        let out = space.run(&["build"]);
        assert_eq!(out.code, 2, "{output}: {out}");
    }
    let space = Space::new();
    space.pipeline(&server, "[task.a]\noutputs = [\"Out.txt\"]\ncommand = \"x\"\n[task.b]\noutputs = [\"out.txt\"]\ncommand = \"x\"\n");
    space.run(&["build"]).exits(2).says(&["Out.txt", "out.txt"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn recipes_that_make_no_sense_are_faults() {
    let server = FakeLlm::new();
    for (task, words) in [
        ("outputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\ncommand = \"x\"", &["prompt", "command"][..]),
        ("outputs = [\"a.txt\", \"b.txt\"]\nprompt = \"TASK=a\\nx\"", &["b.txt", "template"]),
        ("prompt = \"TASK=a\\nx\"", &["outputs"]),
        (
            "inputs = [\"x/plan.txt\", \"y/plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"",
            &["plan"],
        ),
        ("outputs = [\"{{ vars.nothing }}.txt\"]\ncommand = \"x\"", &["nothing"]),
        ("outputs = [\"a.txt\"]\ncommand = \"x\"\ntimeout = \"soon\"", &["soon"]),
        ("outputs = [\"a.txt\"]\ncommand = \"x\"\nafter = [\"bb\"]", &["bb"]),
        ("outputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ plan\"", &["prompt"]),
    ] {
        let space = Space::new();
        space.pipeline(&server, &format!("[task.a]\n{task}\n"));
        space.write("x/plan.txt", "x");
        space.write("y/plan.txt", "y");
        space.run(&["build"]).exits(2).says(&["pipeline.toml:"]).says(words);
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn depth_and_size_are_capped() {
    let server = FakeLlm::new();
    let deep = 200_000;
    let space = space(&server, CHAIN);
    let pipeline = space.read("pipeline.toml");
    space.write(
        "pipeline.toml",
        format!("{pipeline}\n[vars]\ndeep = {}{}\n", "[".repeat(deep), "]".repeat(deep)),
    );
    space.run(&["build"]).exits(2).says(&["pipeline.toml"]);
    assert_eq!(server.requests(), 0);

    // An input, an answer, and a list of items.
    let bomb = "[".repeat(deep) + &"]".repeat(deep);
    space.pipeline(
        &server,
        "[task.a]\ninputs = { data = \"data.json\" }\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ data[0] }}\"\n",
    );
    space.write("data.json", &bomb);
    let out = space.run(&["build"]).says(&["data.json"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.pipeline(
        &server,
        "[task.a]\nforeach = { file = \"data.json\" }\noutputs = [\"{{ key }}.txt\"]\ncommand = \"x\"\n",
    );
    let out = space.run(&["build"]).says(&["data.json"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.pipeline(
        &server,
        "[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nx\"\nschema = \"a.schema.json\"\nmax_validation_retries = 0\n",
    );
    space.write("a.schema.json", "{\"type\": \"array\"}");
    server.script(move |_| bomb.clone().into());
    space.run(&["build"]).exits(1);
    assert!(!space.exists("a.json"));
}

#[test]
fn a_mistyped_command_is_an_answer_too() {
    let space = Space::new();
    for (arguments, said) in [
        (&["buidl", "--json"][..], "unrecognized subcommand 'buidl'"),
        (&["status", "--jsn", "--json"], "unexpected argument '--jsn' found"),
        (&["wait", "--json", "--for", "never"], "invalid value 'never' for '--for"),
    ] {
        let out = space.run(arguments).exits(2);
        let error = &out.json()["error"];
        assert_eq!((error["code"].as_str(), &error["exit_code"]), (Some("command_line"), &2.into()), "{out}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(said)), "{out}");
    }
    let out = space.run(&["buidl"]).exits(2);
    assert_eq!(out.stdout, "");
}

#[test]
fn parts_that_cannot_be_read_or_do_not_fit_are_named_with_who_includes_them() {
    let space = Space::new();
    let main = "[pipeline]\ninclude = [\"parts/*.toml\"]\n\n[models.m]\napi = \"simulated\"\n\n[task.a]\noutputs = [\"a.txt\"]\ntemplate = \"x y\"\n";
    space.write("pipeline.toml", main);
    for (part, said) in [
        (&b"models = 3\n"[..], "`models` is not a table"),
        (b"[models.m]\napi = \"simulated\"\n", "`models.m` is given in two files"),
        (b"[task.a]\noutputs = [\"b.txt\"]\ntemplate = \"y z\"\n", "task `a` is given in two files"),
        (b"\xff\xfe", "not UTF-8"),
    ] {
        space.write("parts/one.toml", part);
        space.run(&["check"]).exits(2).says(&[said, "parts/one.toml"]);
    }
    space.remove("parts/one.toml");
    std::os::unix::fs::symlink("nowhere", space.path("parts/two.toml")).expect("a link");
    let out = space.run(&["build"]).exits(2);
    out.says(&["there is no `parts/two.toml`", "included here"]).says_nothing_of(&["planexe new"]);
    space.remove("parts/two.toml");
    // A folder is no file that matches.
    std::fs::create_dir(space.path("parts/three.toml")).expect("a folder");
    space.build();
}
