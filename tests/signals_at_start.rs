//! planexe ends when it is told to, whatever it inherited from who started it.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests write files as a user would")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PIPELINE: &str =
    "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"touch began; sleep 60; echo a > $out\"\n";

/// planexe as `env` starts it, which sets the signals.
fn start(dir: &Path, how: &str, args: &[&str]) -> Child {
    Command::new("env")
        .args([how, env!("CARGO_BIN_EXE_planexe")])
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("env of GNU coreutils")
}

fn is_gone_in_time(mut child: Child, what: &str) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    let told = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if told.elapsed() > Duration::from_secs(2) {
            let _ = child.kill();
            panic!("{what}: still there {:?} after SIGTERM", told.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sigterm_ends_what_was_started_with_it_blocked_or_ignored() {
    for how in ["--block-signal=TERM", "--ignore-signal=TERM"] {
        for command in ["build", "watch"] {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::write(dir.path().join("pipeline.toml"), PIPELINE).expect("a pipeline");
            let child = start(dir.path(), how, &[command]);
            let begin = Instant::now();
            while !dir.path().join("began").exists() {
                assert!(begin.elapsed() < Duration::from_secs(60), "{command} under {how} never began");
                std::thread::sleep(Duration::from_millis(10));
            }
            is_gone_in_time(child, &format!("{command} under {how}"));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let mut child = start(dir.path(), how, &["mcp"]);
        let ask = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        writeln!(child.stdin.as_mut().expect("its input"), "{ask}").expect("a request");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("an answer");
        assert!(line.contains("\"id\":1"), "{line}");
        is_gone_in_time(child, &format!("mcp under {how}"));
    }
}
