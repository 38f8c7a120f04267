//! `planexe wait`: a script blocks until something happens to a run, and the exit code says what.

use rustix::process::Signal;

use crate::support::{Answer, FakeLlm, Space, until};

const TASKS: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }}"

[task.b]
inputs = ["plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ plan }}"

[task.sign]
inputs = ["a.txt"]
outputs = ["sign.txt"]
human = "Read a.txt"
"#;

fn space(server: &FakeLlm) -> Space {
    let space = Space::with(server, TASKS);
    space.write("plan.txt", "Build a bridge.\n");
    space
}

#[test]
fn each_end_has_its_exit_code() {
    let server = FakeLlm::scripted(|request| match (request.task.as_str(), request.nth) {
        ("b", 0) => Answer::error(400, "no"),
        _ => Answer::Default,
    });
    let space = space(&server);
    space.run(&["wait"]).exits(2).says(&["never started"]);
    server.hold("a");
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    server.wait_for_call("b");
    space.run(&["wait", "--timeout", "300ms"]).exits(124);
    // Started while all is well; each ends with what it waits for, however late it looks first.
    let failed = space.spawn(&["wait", "--for", "failed", "--since", "0"]);
    let any = space.spawn(&["wait", "--json", "--since", "0"]);
    let human = space.spawn(&["wait", "--for", "human", "--since", "0"]);
    let done = space.spawn(&["wait", "--for", "done"]);
    let interrupted = space.spawn(&["wait"]);
    until("it to listen", || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", interrupted.pid().as_raw_nonzero())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        (u64::from_str_radix(caught, 16).ok()? & 2 != 0).then_some(())
    });
    interrupted.signal(Signal::INT);
    interrupted.wait().exits(130);
    server.release("b");
    failed.wait().exits(0);
    let told = any.wait().exits(1).json();
    assert_eq!((&told["failed"][0], &told["timed_out"]), (&"b".into(), &false.into()), "{told:#}");
    assert_eq!(
        (&told["news"][0]["task"], &told["news"][0]["state"]),
        (&"b".into(), &"failed".into()),
        "{told:#}"
    );
    // What was told once is not told again while the rest goes on: with what was seen, or without it.
    let cursor = told["cursor"].as_str().expect("a cursor");
    for since in [&["--since", cursor][..], &[]] {
        for what in ["any", "failed"] {
            space.run(&[&["wait", "--timeout", "300ms", "--for", what], since].concat()).exits(124);
        }
    }
    space.run(&["wait", "--since", "0"]).exits(1).says(&["failed: b"]);
    space.run(&["wait", "--since", "yesterday"]).exits(2).says(&["no cursor"]);
    server.release("a");
    human.wait().exits(0);
    build.wait().exits(1);
    done.wait().exits(1);
    // What failed passes at the next build; then somebody is waited for, and then all is done.
    space.run(&["build"]).exits(3);
    space.run(&["wait"]).exits(3);
    space.run(&["done", "sign"]).exits(0);
    space.build();
    space.run(&["wait"]).exits(0);
    space.run(&["wait", "--for", "failed"]).exits(1);
    space.assert_nothing_to_do(&server);
}
