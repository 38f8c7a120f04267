//! What may be read, written, told and shown.

use super::{FIVE, built};
use crate::support::{Answer, CHAIN, FakeLlm, Space, space};

#[test]
fn nothing_outside_the_run_is_read_unless_allowed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::write(space.root().join("secret.txt"), "a secret\n").expect("secret");
    for (input, link) in [("../secret.txt", false), ("linked.txt", true)] {
        space.pipeline(&server, CHAIN);
        space.edit("pipeline.toml", "\"plan.txt\"", &format!("\"plan.txt\", \"{input}\""));
        if link {
            std::os::unix::fs::symlink("../secret.txt", space.path("linked.txt")).expect("a link");
        }
        space.run(&["build"]).exits(2).says(&[input, "--allow-outside"]);
        assert_eq!(server.requests(), 0, "{input}");
    }
    let secret = space.root().join("secret.txt");
    space.run(&["build", "--allow-outside", secret.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_link_put_where_an_output_goes_is_not_written_through() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::write(space.root().join("precious.txt"), "precious\n").expect("precious");
    std::os::unix::fs::symlink("../precious.txt", space.path("b.txt")).expect("a link");
    space.build();
    let precious = std::fs::read_to_string(space.root().join("precious.txt")).expect("precious");
    assert_eq!(precious, "precious\n");
    assert!(space.read("b.txt").contains("to b"));
    space.assert_nothing_to_do(&server);
}

/// Not even by a build with nothing to do, which writes its caches, nor by commands that leave a word for one.
#[test]
fn nothing_is_written_where_the_records_are_a_link() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let elsewhere = space.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::fs::write(elsewhere.join("stop"), "mine").expect("a file");
    std::fs::remove_dir_all(space.path(".planexe")).expect("to remove");
    std::os::unix::fs::symlink("../elsewhere", space.path(".planexe")).expect("a link");
    for command in [&["build"][..], &["build", "-B"], &["clean", "a", "-y"], &["gc"], &["retry", "a"]] {
        let out = space.run(command);
        assert_ne!(out.code, 0, "{out}");
    }
    space.run(&["build"]).exits(1).says(&["`.planexe`", "not a directory of its own"]);
    for command in
        [&["status"][..], &["build", "-n"], &["done", "a"], &["stop"], &["touch", "a"], &["doctor"]]
    {
        space.run(command);
    }
    let names: Vec<_> =
        std::fs::read_dir(&elsewhere).expect("a folder").flatten().map(|f| f.file_name()).collect();
    assert_eq!(names, ["stop"]);
    assert_eq!(std::fs::read_to_string(elsewhere.join("stop")).expect("a file"), "mine");
}

#[test]
fn keys_stay_out_of_everything_written_and_said() {
    let key = "sk-test-0123456789abcdefghij";
    let server = FakeLlm::scripted(move |request| match request.task.as_str() {
        "bad" => Answer::error(401, &format!("Incorrect API key provided: {key}")),
        _ => Answer::Default,
    });
    let space = Space::new();
    space.pipeline_with(&server, "api_key_env = \"FAKE_KEY\"", FIVE);
    space.write("plan.txt", "x");
    space.set_key("FAKE_KEY", key, server.address());
    // The refusal closes the endpoint: both are asked before it comes.
    server.hold("bad");
    let build = space.spawn(&["build", "--json"]);
    server.wait_for_call("bad");
    server.wait_for_call("good");
    server.release("bad");
    let out = build.wait().exits(1).says_nothing_of(&[key]);
    assert_eq!(server.last("good").headers.get("authorization"), Some(&format!("Bearer {key}")), "{out}");
    space.run(&["status", "--json"]).says_nothing_of(&[key]);
    for path in space.files("") {
        let bytes = space.bytes(&path);
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "the key is in {path}");
    }
}

#[test]
fn a_key_goes_to_no_host_it_is_not_bound_to() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.set_env("OPENAI_API_KEY", "sk-test-0123456789abcdefghij");
    space.edit("pipeline.toml", &server.base_url(), "https://evil.example.invalid/v1");
    space.edit("pipeline.toml", "model = \"fake-1\"", "model = \"fake-1\"\napi_key_env = \"OPENAI_API_KEY\"");
    space.run(&["build"]).exits(2).says(&["OPENAI_API_KEY", "evil.example.invalid"]);
    assert!(!space.exists("a.txt.status"), "nothing ran");
}

#[test]
fn what_a_model_says_does_not_reach_the_terminal_as_escapes() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}not this one";
    let server = FakeLlm::scripted(move |_| Answer::error(400, evil));
    let space = space(&server, CHAIN);
    let build = space.run(&["build"]).exits(1);
    for out in [build, space.run(&["status"]), space.run(&["explain", "a"])] {
        for c in ['\u{1b}', '\u{7}', '\u{202e}'] {
            assert!(!out.stdout.contains(c) && !out.stderr.contains(c), "{c:?} in {out:?}");
        }
    }
}

#[test]
fn nobody_reading_is_no_panic() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    for line in ["status", "status --json", "build -n", "explain a", "graph", "history", "-h", "schema"] {
        let line = format!("\"$PLANEXE\" {line} 2>&1 | true; \"$PLANEXE\" {line} | head -n1 >/dev/null");
        let out = space.start(space.program("sh", &["-c", &line])).wait().exits(0);
        assert!(!out.stderr.contains("panicked"), "{line}: {out}");
    }
    let closed = "\"$PLANEXE\" build >&- 2>&-";
    space.start(space.program("sh", &["-c", closed])).wait().exits(0);
    assert_eq!(server.total(), 6);
    space.assert_nothing_to_do(&server);
    // With a reader that is surely gone, and with nothing to do.
    for line in ["status", "build", "-h"] {
        let mut program = space.program(env!("CARGO_BIN_EXE_planexe"), &[line]);
        let nobody = || std::process::Stdio::from(std::io::pipe().expect("a pipe").1);
        let ended = program.stdout(nobody()).stderr(nobody()).status().expect("planexe");
        assert_eq!(ended.code(), Some(0), "{line}: {ended}");
    }
}

#[test]
fn names_of_a_hostile_pipeline_do_not_reach_the_terminal() {
    let server = FakeLlm::scripted(|_| {
        let evil = "data: {\"id\":\"x\",\"model\":\"\\u001b[31mred\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Fine.\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        Answer::Raw(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{evil}")
                .into_bytes(),
        )
    });
    let space = Space::new();
    space.pipeline(
        &server,
        "[task.\"a\\u001b[31m\"]\ndescription = \"\\u001b]0;owned\\u0007\"\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n\n[task.b]\ndescription = \"\\u001b]0;owned\\u0007\"\ninputs = [\"plan.txt\"]\noutputs = [\"b\\u202etxt\"]\nprompt = \"TASK=b\\nx\"\n",
    );
    space.write("plan.txt", "x");
    for args in [
        &["check"][..],
        &["build", "-n"],
        &["build"],
        &["status", "-v"],
        &["explain", "b"],
        &["graph"],
        &["history"],
    ] {
        let out = space.run(args);
        for c in ['\u{1b}', '\u{7}', '\u{202e}'] {
            assert!(!out.stdout.contains(c) && !out.stderr.contains(c), "{c:?}: {out:?}");
        }
    }
}
