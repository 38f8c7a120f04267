//! What a stranger may do wrong: each is told what was found, what was wanted and what to type.

use crate::support::{Out, Space};

/// No panic, no code of another language, and something to go by.
#[track_caller]
fn is_told(out: Out, code: i32, words: &[&str]) {
    out.exits(code).says(words).says_nothing_of(&["panicked", "RUST_BACKTRACE", "BUG:"]);
}

#[test]
fn a_pipeline_that_is_no_text_with_tasks() {
    let space = Space::new();
    for (bytes, words) in [
        (&b""[..], &["has no tasks", "[task.NAME]"][..]),
        (b"\xa4\xff\x00", &["not UTF-8"]),
        (b"task = 3\n", &["the integer 3", "wanted a table"]),
        (b"{\"task\": {}}", &["pipeline.toml:1"]),
    ] {
        space.write("pipeline.toml", bytes);
        is_told(space.run(&["build"]), 2, words);
    }
    let deep = "a=".to_owned() + &"[".repeat(100_000);
    space.write("pipeline.toml", deep);
    is_told(space.run(&["build"]), 2, &["nested"]);
    // As many as lines are no matter: what each costs does not grow with them.
    let vars: String = (0..100_000).map(|n| format!("v{n} = 1\n")).collect();
    let task = "[task.a]\noutputs = [\"o\"]\ntemplate = \"{{ vars.v7 }}\"\n";
    space.write("pipeline.toml", format!("{task}[vars]\n{vars}"));
    space.run(&["check"]).exits(0).says(&["nothing uses the variable `v1`"]).says_nothing_of(&["`v7`"]);
    for table in ["models", "pools"] {
        let one = |n: usize| match table {
            "models" => format!("[models.m{n}]\napi = \"simulated\"\n"),
            _ => format!("pools.p{n} = 1\n"),
        };
        let many: String = (0..1001).map(one).collect();
        space.write("pipeline.toml", many + task);
        is_told(space.run(&["build"]), 2, &[&format!("1001 {table}"), "1000 at most"]);
    }
    // Far less text than the cap on files, and far more memory than a pipeline is worth.
    let head = "[task.a]\noutputs = [\"o\"]\ncommand = \"echo > $out\"\n[vars]\n";
    let keys: String = (0..750_001).map(|n| format!("k{n}=1\n")).collect();
    for many in
        [format!("x = [{}]", "1,".repeat(1_500_000)), format!("x = [{}]", "[],".repeat(750_000)), keys]
    {
        space.write("pipeline.toml", format!("{head}{many}\n"));
        is_told(
            space.run(&["build"]),
            2,
            &["more than 1500000 keys and values", "a file, and let tasks read it"],
        );
    }
    space.remove("pipeline.toml");
    is_told(space.run(&["build"]), 2, &["there is no `pipeline.toml`", "planexe new"]);
    std::fs::create_dir(space.path("pipeline.toml")).unwrap();
    is_told(space.run(&["build"]), 2, &["no regular file", "-f FILE"]);
}

#[test]
fn a_command_line_that_means_nothing() {
    let space = Space::new();
    let task =
        |name: &str, out: &str| format!("[task.{name}]\noutputs = [\"{out}\"]\ncommand = \"echo > $out\"\n");
    space.write("pipeline.toml", task("a", "a.txt") + &task("make_plan", "make_plan.txt"));
    for (args, words) in [
        (&["biuld"][..], &["build"][..]),
        (&["build", "--josb", "3"], &["--jobs"]),
        (&["build", "b"], &["no task or output is called `b`", "did you mean `a`"]),
        (&["build", "MakePalnTask"], &["no task or output is called", "did you mean `make_plan`"]),
        (&["build", "make_plan_.txt"], &["did you mean `make_plan.txt`"]),
        (&["-C", "nowhere", "build"], &["no folder `nowhere`"]),
        (&["-f", "nope.toml", "build"], &["nope.toml"]),
        (&["-f", "/dev/zero", "build"], &["not a regular file"]),
        (&["-D", "x=1", "build"], &["no `x`"]),
        (&["--profile", "no", "build"], &["unknown profile `no`"]),
        (&["resume"], &["never started", "planexe build"]),
    ] {
        is_told(space.run(args), 2, words);
    }
    assert!(!space.exists("a.txt"));
}

/// A build does not go up by itself; what it says can be typed as it stands.
#[test]
fn from_a_folder_below_the_run_the_line_to_type_is_told() {
    let space = Space::new();
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n");
    std::fs::create_dir(space.path("below")).unwrap();
    let below = |line: &str| {
        let line = line.replacen("planexe", env!("CARGO_BIN_EXE_planexe"), 1);
        space.start(space.program("sh", &["-c", &format!("cd below && exec {line}")])).wait()
    };
    let out = below("planexe build a --json -j 2").exits(2);
    let next = out.json()["error"]["next"][0].as_str().expect("a command").to_owned();
    assert!(next.ends_with("build a --json -j 2"), "{next}");
    below(&next).exits(0);
    assert!(space.exists("a.txt"));
}

/// What only this system can be bent to.
#[cfg(target_os = "linux")]
mod linux {
    use std::fs::OpenOptions;
    use std::process::Stdio;

    use super::is_told;
    use crate::support::{Answer, FakeLlm, Space};

    /// Only some file systems have such names.
    #[test]
    fn a_glob_that_matches_a_name_that_is_not_utf8_says_so() {
        use std::os::unix::ffi::OsStrExt;
        let space = Space::new();
        space.write(
            "pipeline.toml",
            "[task.a]\ninputs = [\"*.txt\"]\noutputs = [\"a.out\"]\ncommand = \"cat $in > $out\"\n",
        );
        space.write("good.txt", "good");
        let odd = space.dir().join(std::ffi::OsStr::from_bytes(b"odd\xff.txt"));
        std::fs::write(&odd, "odd").unwrap();
        is_told(space.run(&["build"]), 1, &["its name is not UTF-8"]);
        std::fs::rename(odd, space.path("odd.md")).unwrap();
        space.build();
        assert_eq!(space.read("a.out"), "good");
    }

    /// A reader that went away fails nothing; a disk that is full under the answer does.
    #[test]
    fn output_that_cannot_be_written() {
        let space = Space::new();
        space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n");
        let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let built = space.command(&["build"]).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(built.code(), Some(0));
        let help = space.command(&["--help"]).stdout(full()).output().unwrap();
        assert_eq!(help.status.code(), Some(1), "{help:?}");
        let status = space.command(&["status"]).stdout(full()).output().unwrap();
        let told = String::from_utf8_lossy(&status.stderr);
        assert_eq!(status.status.code(), Some(1), "{told}");
        assert!(told.contains("cannot write to standard output"), "{told}");
    }

    /// Under `ulimit -f` a write fails like one to a full disk: what was paid for stays, and planexe says what happened.
    #[test]
    fn a_limit_on_the_size_of_files_is_an_error_and_no_end() {
        let server = FakeLlm::scripted(|request| match request.task.as_str() {
            "a" => Answer::Text((0..40_000).map(|n| format!("{n} ")).collect()),
            _ => Answer::Default,
        });
        let space =
            Space::with(&server, "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nWrite a lot.\"\n");
        // In units of 512 or 1024 bytes, as the shell has it: less than the answer either way.
        let limited = space
            .program("sh", &["-c", &format!("ulimit -f 64; exec {} build", env!("CARGO_BIN_EXE_planexe"))]);
        let out = space.start(limited).wait().exits(1);
        out.says(&["larger than files may be"]).says_nothing_of(&["panicked"]);
        space.build();
        assert!(space.read("a.txt").ends_with("39999\n"));
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn one_mistake_is_told_once() {
    let space = Space::new();
    let task = |name: &str, more: &str| {
        format!("[task.{name}]\noutputs = [\"{name}.txt\"]\ncommand = \"echo a > $out\"\n{more}\n")
    };
    let lines = |out: &Out| out.stderr.lines().filter(|line| line.starts_with("error")).count();
    for mistake in [
        "after = [\"raod\"]",
        "inputs = { plan = \"paln.txt\" }",
        "pool = \"no\"",
        "after = [\"road\", \"bridge.txt\"]",
    ] {
        space.write("pipeline.toml", task("bridge", mistake) + &task("road", "") + &task("boat", ""));
        let out = space.run(&["build"]).exits(2);
        assert_eq!(lines(&out), 1, "{mistake}: {}", out.stderr);
    }
}

#[test]
fn what_keeps_a_command_from_its_end_is_told_as_it_is() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.place]
outputs = ["place.txt"]
cwd = "nowhere"
command = "echo > $out"
[task.two]
outputs = ["one.txt", "two.txt"]
command = "echo > $out.0"
[task.slow]
outputs = ["slow.txt"]
timeout = "200ms"
command = "sleep 30; echo > $out"
"#,
    );
    space.run(&["build"]).exits(1).says(&[
        "there is no folder `nowhere` to run in (cwd)",
        "`two.txt` was not written; a command writes it to `$out.1`",
        "not done after 0.2s (timeout)",
    ]);
}

#[test]
fn a_file_in_the_place_of_the_records_is_found_by_doctor() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\ninputs = [\"b.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n",
    );
    // What a task writes itself is not what it may have meant to read.
    space
        .run(&["check"])
        .exits(2)
        .says(&["write `b.txt` in the run directory"])
        .says_nothing_of(&["did you mean"]);
    space.write("b.txt", "b");
    space.write(".planexe", "");
    space.run(&["build"]).exits(1).says(&["not a directory of its own"]);
    space.run(&["doctor"]).says(&["`.planexe` is not a directory of its own", "move it away"]);
}

#[test]
fn every_cycle_is_told_beside_what_is_missing() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[task.b]
inputs = ["c"]
outputs = ["b"]
command = "echo > $out"
[task.c]
inputs = ["zz", "b"]
outputs = ["c"]
command = "echo > $out"
[task.d]
inputs = ["b", "d*"]
outputs = ["d", "D"]
command = "echo > $out"
[task.e]
after = ["b", "f"]
outputs = ["e"]
command = "echo > $out"
[task.f]
after = ["e"]
outputs = ["f"]
command = "echo > $out"
[task.g]
foreach = { glob = "g/*" }
outputs = ["g/{{ key }}"]
command = "echo > $out"
[task.h]
inputs = ["f"]
"#,
    );
    let cycle = "each task can only read what is made before it";
    let told = space.run(&["check"]);
    is_told(
        told.clone(),
        2,
        &[
            "b -> c -> b",
            "pipeline.toml:3:11",
            "task `c` reads `zz`, which is not there",
            "d -> d",
            "pipeline.toml:11:16",
            "outputs `d` and `D` differ only in case",
            "e -> f -> e",
            "pipeline.toml:15:15",
            "g -> g",
            "pipeline.toml:23:11",
        ],
    );
    assert_eq!(told.stderr.matches(cycle).count(), 4, "{}", told.stderr);
}

#[test]
fn the_same_mistake_in_thousands_of_tasks() {
    use std::fmt::Write;
    const TASKS: usize = 4000;
    let space = Space::new();
    let mut text = String::new();
    for n in 0..TASKS {
        let _ = write!(
            text,
            "[task.t{n}]\ninputs = {{ a = \"a/quite/different/place/{n}.txt\" }}\noutputs = [\"{n}.txt\"]\n\
             command = [\"true\"]\nafter = [\"the-one-called-{n}\"]\n"
        );
    }
    space.write("pipeline.toml", text);
    let more = format!("and {} more faults", 2 * TASKS - 100);
    is_told(space.run(&["build"]), 2, &["unknown task `the-one-called-0`", "quite/different", &more]);
}

/// Files beyond the run and the pipeline's folder are the user's to show, whichever way a task would come by them.
#[test]
fn what_lies_outside_is_not_read_through_a_glob_a_link_or_a_key() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().canonicalize().unwrap();
    std::fs::write(outside.join("secret.txt"), "the secret").unwrap();
    let space = Space::new();
    space.write("in/plain.txt", "plain");
    space.write("keys.json", "[\"secret\"]");
    let here = outside.display().to_string();
    let allow = ["--allow-outside", here.as_str(), "build"];
    std::os::unix::fs::symlink(&outside, space.path("link")).unwrap();
    let task = |rest: &str| {
        let text = rest.replace("OUTSIDE", &here);
        space.write("pipeline.toml", format!("[task.a]\n{text}\n"));
    };
    // A folder outside is told before anything runs.
    for rest in [
        "inputs = { x = \"OUTSIDE/*.txt\" }\noutputs = [\"a.txt\"]\ntemplate = \"{% for i in x %}{{ i.text }}{% endfor %}\"",
        "inputs = { x = \"link/*.txt\" }\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"",
        "inputs = { x = \"in/../link/sec*\" }\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"",
        "inputs = { x = \"OUTSIDE/{{ key }}.txt\" }\noutputs = [\"{{ key }}.out\"]\ntemplate = \"{{ x }}\"\nforeach = { file = \"keys.json\", key = \"\" }",
        "foreach = { glob = \"OUTSIDE/*.txt\" }\noutputs = [\"{{ key }}.out\"]\ntemplate = \"{{ item.text }}\"",
    ] {
        task(&rest.replace(", key = \"\"", ""));
        is_told(
            space.run(&["build"]),
            2,
            &["is outside the run and the pipeline's folder", "--allow-outside"],
        );
        assert!(!space.exists("a.txt") && !space.exists("secret.out"), "{rest}");
    }
    task(
        "foreach = { glob = \"OUTSIDE/*.txt\" }\noutputs = [\"{{ key }}.out\"]\ntemplate = \"{{ item.text }}\"",
    );
    space.run(&allow).exits(0);
    assert_eq!(space.read("secret.out"), "the secret");
    // A link among the files inside, when it is come by.
    std::os::unix::fs::symlink(outside.join("secret.txt"), space.path("in/link.txt")).unwrap();
    space.write("keys.json", "[{\"k\": \"link\"}]");
    for rest in [
        "inputs = { x = \"in/*.txt\" }\noutputs = [\"b.txt\"]\ncommand = \"cat $in > $out\"",
        "inputs = { x = \"in/{{ key }}.txt\" }\noutputs = [\"{{ key }}.out\"]\ntemplate = \"{{ x }}\"\nforeach = { file = \"keys.json\", key = \"k\" }",
        "foreach = { glob = \"in/*.txt\" }\noutputs = [\"{{ key }}.out\"]\ntemplate = \"{{ item.text }}\"",
    ] {
        task(rest);
        is_told(space.run(&["build"]), 1, &["`in/link.txt` is outside the run", "--allow-outside"]);
        assert!(!space.exists("b.txt") && !space.exists("link.out"), "{rest}");
    }
    space.run(&allow).exits(0);
    assert_eq!(space.read("link.out"), "the secret");
}
