//! Logs, records, caches and answers that are torn, swapped or of another version, as crashes and hands leave them.

use serde_json::json;

use crate::crash::{append, set};
use crate::support::{CHAIN, FakeLlm, Space, counts, space, until};

#[test]
fn torn_logs_are_mended_and_it_is_said() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let logs = ["events.jsonl", "usage_metrics.jsonl"];
    let before: Vec<usize> = logs.iter().map(|log| space.lines(log).len()).collect();
    append(&space, logs[0], br#"{"event":"task.star"#);
    append(&space, logs[1], b"\0\0\0\0\0\0\0\0");
    space.write("plan.txt", "Build a tunnel.\n");
    space.build().says(&logs);
    for (log, before) in logs.iter().zip(before) {
        // `lines` parses every line.
        assert!(space.lines(log).len() > before, "{log}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_log_of_garbage_is_no_hindrance() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    for log in ["events.jsonl", "usage_metrics.jsonl", "activity_overview.json"] {
        space.write(log, "no JSON\n[1,2\n\0\n");
    }
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    space.run(&["status", "--json"]).exits(0).json();
    space.assert_nothing_to_do(&server);
}

/// One task for every few bytes a marker may be cut at.
fn many(n: usize) -> String {
    (0..n)
        .map(|n| {
            format!("[task.t{n}]\ninputs = [\"plan.txt\"]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\n{{{{ plan }}}}\"\n\n")
        })
        .collect()
}

#[test]
fn sidecars_cut_anywhere_cost_no_call_and_no_panic() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.\n", request.nth, request.task).into());
    let tasks = 90;
    let space = space(&server, &many(tasks));
    space.build();
    let whole = space.tree();
    for kind in ["DONE", "status"] {
        for n in 0..tasks {
            let path = format!("t{n}.txt.{kind}");
            let bytes = space.bytes(&path);
            // From one byte to all but one, spread over the length.
            let cut = 1 + n * (bytes.len() - 2) / (tasks - 1);
            space.write(&path, &bytes[..cut]);
        }
        let out = space.run(&["status"]).exits(0);
        assert!(!out.stderr.contains("panicked"), "{out}");
        space.run(&["status", "--json"]).exits(0).json();
        space.build();
        assert_eq!((server.total(), space.tree()), (tasks, whole.clone()), "{kind}");
        space.assert_nothing_to_do(&server);
    }
    for n in 0..tasks {
        space.write(&format!("t{n}.txt.status"), "");
    }
    space.build();
    assert_eq!((server.total(), space.tree()), (tasks, whole));
    space.assert_nothing_to_do(&server);
}

#[test]
fn sidecars_that_hold_something_else_are_never_believed() {
    let server = FakeLlm::scripted(|request| format!("Draw {} of {}.\n", request.nth, request.task).into());
    let contents: [&[u8]; 10] = [
        b"null",
        b"7",
        b"\"done\"",
        b"{}",
        b"[{}]",
        br#"{"schema": 1, "task": "t0", "state": "done"}"#,
        br#"{"schema": "one", "task": 7, "fingerprint": [], "inputs": {}, "outputs": 3}"#,
        br#"{"schema": 1, "task": "t0", "fingerprint": "", "inputs": [], "outputs": []}"#,
        b"\xff\xfe\x00rubbish",
        &[b'['; 100_000],
    ];
    for kind in ["DONE", "status"] {
        let space = space(&server, &many(contents.len()));
        let before = server.total();
        space.build();
        let whole = space.tree();
        for (n, content) in contents.iter().enumerate() {
            space.write(&format!("t{n}.txt.{kind}"), content);
        }
        space.run(&["status"]).exits(0);
        space.run(&["build", "-n"]).exits(0);
        space.run(&["build", "-q"]).exits(i32::from(kind == "DONE"));
        space.build();
        assert_eq!(server.total(), before + contents.len(), "{kind}");
        assert_eq!(space.tree(), whole, "{kind}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_marker_with_another_fingerprint_is_not_believed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let mut record = space.done("b.txt");
    record["fingerprint"] = json!("0".repeat(64));
    space.write("b.txt.DONE", record.to_string());
    assert_eq!(space.state("b"), "damaged");
    space.run(&["explain", "b"]).exits(0).says(&["its .DONE is damaged", "fingerprint"]);
    space.run(&["build"]).exits(0).says(&["kept answer"]);
    assert_eq!(server.requests(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_is_damaged_is_kept() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let whole = space.tree();
    let damaged = [
        ("b.txt.DONE", "{\"schema\": 1, \"task\": \"b"),
        ("b.txt.status", "no JSON"),
        ("c.txt.DONE", "{\"schema\": 99, \"of\": \"another version\"}"),
        (".planexe/run.json", "{\"phase\""),
    ];
    for (path, text) in damaged {
        space.write(path, text);
    }
    space.build();
    assert_eq!((server.total(), space.tree()), (3, whole));
    for (path, text) in damaged {
        let name = format!("{}.damaged-", path.trim_start_matches(".planexe/"));
        let kept = space.files(".planexe/partial");
        let found = kept.iter().any(|path| path.contains(&name) && space.read(path) == text);
        assert!(found, "{path} is not among {kept:?}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn fields_of_another_version_are_kept_and_change_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    set(&space, "b.txt.DONE", "from_the_future", json!({ "deep": [1, 2] }));
    set(&space, "b.txt.status", "from_the_future", json!("as well"));
    space.assert_nothing_to_do(&server);
    assert_eq!(space.state("b"), "done");
    space.edit("pipeline.toml", "Go on", "Continue");
    space.build();
    assert_eq!(space.sidecar("b.txt")["from_the_future"], "as well");
    assert_eq!(server.count("b"), 2);
}

#[test]
fn a_state_nobody_knows_is_an_error_and_never_done() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    set(&space, "b.txt.status", "state", json!("levitating"));
    space.remove("b.txt.DONE");
    let out = space.run(&["status"]).says(&["b", "levitating"]);
    assert!(out.code <= 2, "{out}");
    assert_ne!(space.run(&["build"]).says(&["levitating"]).code, 0);
    assert!(!space.is_done("b.txt"));
}

#[test]
fn the_caches_may_go_or_rot_at_any_time() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let caches = |space: &Space| -> Vec<String> {
        let files = space.files(".planexe").into_iter();
        files
            .filter(|path| {
                path.matches('/').count() == 1
                    && ["index", "durations"].iter().any(|name| path.ends_with(name))
            })
            .collect()
    };
    let found = caches(&space);
    assert!(!found.is_empty(), "no index: {:?}", space.files(".planexe"));
    for path in &found {
        let bytes = space.bytes(path);
        let cuts = (0..8).map(|n| bytes[..n * bytes.len() / 8].to_vec());
        let flipped = (0..8).map(|n| {
            let mut bytes = bytes.clone();
            let at = (n * bytes.len() / 8).min(bytes.len() - 1);
            bytes[at] ^= 0x55;
            bytes
        });
        for damage in cuts.chain(flipped).chain([b"rubbish".to_vec(), vec![0; 4096], vec![0xff; 4096]]) {
            space.write(path, damage);
            space.run(&["status"]).exits(0);
            space.assert_nothing_to_do(&server);
        }
        space.remove(path);
        space.assert_nothing_to_do(&server);
    }
    // A rotten index hides no change.
    for path in &caches(&space) {
        space.write(path, "rubbish");
    }
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn without_its_folder_nothing_runs_again() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    std::fs::remove_dir_all(space.path(".planexe")).expect(".planexe");
    // It was started, though nothing says when.
    space.run(&["status"]).exits(0).says(&["done", "Started   not known"]);
    assert!(!space.exists(".planexe"), "looking makes no folder");
    // The index is learned anew; nothing runs. Files as young as the clock's granularity teach it nothing: on a fast
    // machine it takes a few builds until there is a folder again, whose coming touches the run directory.
    let tree = space.tree();
    until("the index to be learned", || {
        let out = space.build();
        assert_eq!(server.requests(), 3, "nothing is asked\n{out}");
        assert_eq!(space.tree(), tree, "nothing is made\n{out}");
        space.exists(".planexe").then_some(())
    });
    space.assert_nothing_to_do(&server);
    std::fs::remove_dir_all(space.path(".planexe")).expect(".planexe");
    space.edit("pipeline.toml", "Go on", "Continue");
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 2)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn kept_answers_that_rot_are_asked_for_again() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let whole = space.tree();
    for path in space.files(".planexe/calls") {
        let bytes = space.bytes(&path);
        space.write(&path, &bytes[..bytes.len() / 2]);
    }
    space.assert_nothing_to_do(&server);
    space.remove("b.txt");
    space.build();
    assert_eq!((server.counts(), space.tree()), (counts([("a", 1), ("b", 2), ("c", 1)]), whole));
    space.assert_nothing_to_do(&server);
}

#[test]
fn logs_that_cannot_be_written_stop_nothing_and_records_do() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    std::fs::create_dir(space.path("events.jsonl")).expect("a folder in the way");
    space.build().says(&["events.jsonl"]);
    assert_eq!(server.total(), 3);

    // No sidecar can be written under this name: a record, so the build fails.
    let other = self::space(&server, CHAIN);
    std::fs::create_dir(other.path("b.txt.DONE")).expect("a folder in the way");
    other.run(&["build"]).exits(1).says(&["b.txt.DONE"]);
    assert!(server.count("c") == 1, "nothing is started after it");
    std::fs::remove_dir(other.path("b.txt.DONE")).expect("the folder");
    other.build();
    assert_eq!(server.count("b"), 2, "the answer was kept");
    other.assert_nothing_to_do(&server);
}

#[test]
fn an_output_name_taken_by_a_folder_fails_the_task_and_keeps_the_answer() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.write("b.txt/precious.txt", "precious");
    space.run(&["build"]).exits(1).says(&["b.txt"]);
    assert_eq!(space.read("b.txt/precious.txt"), "precious");
    // A run that failed, though its task is none that did.
    assert_eq!(space.report()["run"]["phase"], "failed");
    space.run(&["wait"]).exits(1).says(&["failed"]);
    let paid = server.count("b");
    std::fs::remove_dir_all(space.path("b.txt")).expect("the folder");
    space.build();
    assert_eq!(server.count("b"), paid.max(1));
    space.assert_nothing_to_do(&server);
}
