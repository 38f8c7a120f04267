//! Inputs: content, globs, links, names, order; what counts of them and what does not.

use std::time::{Duration, SystemTime};

use super::{ONE, assert_fresh, assert_stale};
use crate::support::{CHAIN, FakeLlm, Fifo, Space, counts, space};

#[test]
fn input_content_changed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    assert_stale(&space, "a", &["plan.txt"]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2)]));
    assert!(server.last("a").prompt.contains("tunnel"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_part_of_an_input_the_prompt_does_not_use_changed() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.a]
inputs = { purpose = "purpose.json" }
outputs = ["a.txt"]
prompt = "TASK=a\nWrite for {{ purpose.audience }}."
"#,
    );
    space.write("purpose.json", r#"{ "audience": "investors", "mood": "calm" }"#);
    space.build();
    space.write("purpose.json", r#"{ "audience": "investors", "mood": "bold" }"#);
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    space.write("purpose.json", "{\n  \"mood\": \"bold\",\n  \"audience\": \"investors\"\n}\n");
    space.assert_nothing_to_do(&server);
    space.write("purpose.json", r#"{ "audience": "the board", "mood": "bold" }"#);
    assert_stale(&space, "a", &[]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2)]));
    assert_eq!(server.last("a").prompt, "TASK=a\nWrite for the board.");
    space.assert_nothing_to_do(&server);
}

#[test]
fn input_touched_or_written_anew_with_the_same_content() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    for years in [-30, 30] {
        let now = SystemTime::now();
        let far = Duration::from_secs(365 * 86400 * 30);
        space.set_mtime("plan.txt", if years < 0 { now - far } else { now + far });
        assert_fresh(&space);
        space.assert_nothing_to_do(&server);
    }
    let text = space.read("plan.txt");
    space.remove("plan.txt");
    space.write("plan.txt", text);
    space.assert_nothing_to_do(&server);
}

#[test]
fn other_content_of_the_same_size_and_mtime() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    space.build();
    let mtime = space.mtime("plan.txt");
    space.write("plan.txt", "Build a tunnel\n.");
    space.set_mtime("plan.txt", mtime);
    assert_stale(&space, "a", &["plan.txt"]);
    space.build();
    assert!(server.last("a").prompt.contains("tunnel"));

    // The same by replacing the file, as `cp -p` and `mv` do.
    space.write("other.txt", "Build a castle\n.");
    space.set_mtime("other.txt", mtime);
    std::fs::rename(space.path("other.txt"), space.path("plan.txt")).expect("rename");
    space.build();
    assert!(server.last("a").prompt.contains("castle"));
    assert_eq!(server.counts(), counts([("a", 3)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edit_right_after_a_build_is_seen() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    for n in 0..8 {
        // Same size each time, and often the same tick of the file system's clock.
        space.write("plan.txt", format!("Build bridge {n}.\n"));
        space.build();
        assert!(server.last("a").prompt.contains(&format!("bridge {n}")), "edit {n}");
    }
    assert_eq!(server.total(), 8);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_glob_matches_changed() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.a]
inputs = { docs = "docs/*.txt" }
outputs = ["a.txt"]
prompt = "TASK=a\n{% for doc in docs %}[{{ doc.path }}: {{ doc.text }}]{% endfor %}"

[task.list]
inputs = ["docs/*.txt"]
outputs = ["list.txt"]
command = "echo >> ../list.log; ls docs/*.txt > $out"
"#,
    );
    space.write("docs/one.txt", "1");
    space.write("docs/two.txt", "2");
    space.write("docs/no.md", "not matched");
    space.build();
    assert_eq!(server.last("a").prompt, "TASK=a\n[docs/one.txt: 1][docs/two.txt: 2]");
    space.write("docs/no.md", "still not matched");
    space.assert_nothing_to_do(&server);

    space.write("docs/three.txt", "3");
    assert_stale(&space, "list", &["docs/three.txt"]);
    space.build();
    assert_eq!((server.total(), space.tally("list")), (2, 2));
    assert!(server.last("a").prompt.contains("[docs/three.txt: 3]"));
    space.assert_nothing_to_do(&server);

    space.remove("docs/one.txt");
    assert_stale(&space, "list", &["docs/one.txt"]);
    space.build();
    assert_eq!((server.total(), space.tally("list")), (3, 3));
    assert_eq!(space.read("list.txt"), "docs/three.txt\ndocs/two.txt\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_glob_waits_for_the_tasks_whose_outputs_it_could_match() {
    let server = FakeLlm::new();
    server.hold("two");
    let space = space(
        &server,
        r#"
[task.all]
inputs = { parts = "parts/*.txt" }
outputs = ["all.txt"]
prompt = "TASK=all\n{% for part in parts %}{{ part.path }};{% endfor %}"

[task.one]
inputs = ["plan.txt"]
outputs = ["parts/one.txt"]
prompt = "TASK=one\n{{ plan }}"

[task.two]
inputs = ["parts/one.txt"]
outputs = ["parts/two.txt"]
prompt = "TASK=two\n{{ one }}"
"#,
    );
    space.write("parts/zero.txt", "a source file beside them");
    let build = space.spawn(&["build"]);
    server.wait_for_call("two");
    assert_eq!(server.count("all"), 0);
    server.release("two");
    build.wait().exits(0);
    assert_eq!(server.order(), ["one", "two", "all"]);
    assert_eq!(server.last("all").prompt, "TASK=all\nparts/one.txt;parts/two.txt;parts/zero.txt;");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_missing_input_is_an_error_before_anything_runs() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        &format!(
            "{ONE}
[task.z]
inputs = [\"notes.txt\"]
outputs = [\"z.txt\"]
prompt = \"TASK=z\\n{{{{ notes }}}}\"
"
        ),
    );
    space.write("note.txt", "nearly");
    let before = space.visible();
    let out = space.run(&["build"]).exits(2).says(&["notes.txt", "pipeline.toml"]);
    assert_eq!(server.requests(), 0);
    space.visible().assert_same_as(&before, &out);

    space.write("notes.txt", "here");
    space.build();
    space.assert_nothing_to_do(&server);
    space.remove("plan.txt");
    space.run(&["build"]).exits(2).says(&["plan.txt"]);
    assert_eq!(server.total(), 2);
}

#[test]
fn an_input_changed_during_the_call_is_seen_by_the_next_build() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.write("plan.txt", "Build a tunnel.\n");
    server.release("a");
    build.wait();
    // Whether in that build or in the next: the output in the end is that of the new text.
    space.build();
    assert_eq!(server.count("a"), 2);
    assert!(server.last("a").prompt.contains("tunnel"));
    assert!(space.read("a.txt").contains(&server.last("a").digest()));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_input_changed_while_a_command_runs_is_stale_not_done() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
command = "cat $in > $out; test -e ../go || cat ../gate > /dev/null"
"#,
    );
    let gate = Fifo::new(space.root().join("gate"));
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    space.write("plan.txt", "Build a tunnel.\n");
    std::fs::write(space.root().join("go"), "").expect("go");
    drop(held);
    build.wait();
    space.build();
    assert_eq!(space.read("a.txt"), "Build a tunnel.\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_input_under_another_path_with_the_same_text_is_the_same_prompt() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    space.build();
    space.write("moved/plan.txt", space.read("plan.txt"));
    space.remove("plan.txt");
    space.edit("pipeline.toml", "\"plan.txt\"", "\"moved/plan.txt\"");
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_a_link_points_to_counts() {
    let server = FakeLlm::new();
    let space = Space::with(&server, ONE);
    space.write("texts/one.txt", "Build a bridge.\n");
    space.write("texts/two.txt", "Build a tunnel.\n");
    std::os::unix::fs::symlink("texts/one.txt", space.path("plan.txt")).expect("a link");
    space.build();
    space.assert_nothing_to_do(&server);
    space.write("texts/one.txt", "Build a castle.\n");
    space.build();
    assert!(server.last("a").prompt.contains("castle"));
    space.remove("plan.txt");
    std::os::unix::fs::symlink("texts/two.txt", space.path("plan.txt")).expect("a link");
    space.build();
    assert!(server.last("a").prompt.contains("tunnel"));
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_input_that_is_no_text_or_no_file_is_named() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    space.write("plan.txt", b"\xff\xfe no text");
    let out = space.run(&["build"]).says(&["plan.txt"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.remove("plan.txt");
    std::fs::create_dir(space.path("plan.txt")).expect("a folder");
    let out = space.run(&["build"]).says(&["plan.txt"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    std::fs::remove_dir(space.path("plan.txt")).expect("the folder");
    std::os::unix::fs::symlink("plan.txt", space.path("plan.txt")).expect("a loop");
    let out = space.run(&["build"]).says(&["plan.txt"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_torn_json_input_fails_its_reader_and_is_named() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        "[task.a]\ninputs = { facts = \"facts.json\" }\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\n{{ facts.cost }}\"\n",
    );
    space.write("facts.json", "{\"cost\": 1");
    let out = space.run(&["build"]).says(&["facts.json"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    space.write("facts.json", "{\"cost\": 12}\r\n");
    space.build();
    assert!(server.last("a").prompt.ends_with("12"), "{}", server.last("a").prompt);
    space.assert_nothing_to_do(&server);
}

#[test]
fn inputs_in_another_order() {
    let space = Space::new();
    space.write("a.txt", "1");
    space.write("b.txt", "2");
    space.write(
        "pipeline.toml",
        "[task.line]\ninputs = [\"a.txt\", \"b.txt\"]\noutputs = [\"line.txt\"]\ncommand = \"cat $in > $out\"\n\
         [task.page]\ninputs = [\"a.txt\", \"b.txt\"]\noutputs = [\"page.txt\"]\n\
         template = \"{% for input in inputs %}{{ input.text }}{% endfor %}\"\n\
         [task.names]\ninputs = [\"a.txt\", \"b.txt\"]\noutputs = [\"names.txt\"]\ntemplate = \"{{ a }}, {{ b }}\"\n",
    );
    space.build();
    let outputs = || ["line.txt", "page.txt", "names.txt"].map(|output| space.read(output));
    assert_eq!(outputs(), ["12", "12", "1, 2"]);
    space.edit("pipeline.toml", "[\"a.txt\", \"b.txt\"]", "[\"b.txt\", \"a.txt\"]");
    let out = space.run(&["build", "-n"]).exits(0);
    out.says(&[
        "line  the order of the inputs changed",
        "page  the order of the inputs changed",
        "1 up to date",
    ]);
    space.build();
    assert_eq!(outputs(), ["21", "21", "1, 2"]);
    // With another input the order is not worth a word.
    space.write("c.txt", "3");
    space.edit("pipeline.toml", "[\"b.txt\", \"a.txt\"]", "[\"c.txt\", \"b.txt\", \"a.txt\"]");
    space.run(&["build", "-n"]).exits(0).says(&["input `c`"]).says_nothing_of(&["order"]);
    space.build();
    assert_eq!(outputs(), ["321", "321", "1, 2"]);
}

#[test]
fn inputs_of_the_same_name() {
    let space = Space::new();
    let inputs = ["a/data.csv", "b/data.csv", "data.json"];
    inputs.iter().for_each(|path| space.write(path, "1"));
    space.write(
        "pipeline.toml",
        format!("[task.sum]\ninputs = {inputs:?}\noutputs = [\"sum.txt\"]\ncommand = \"cat $in > $out\"\n"),
    );
    space.build();
    for (n, path) in inputs.iter().enumerate() {
        space.write(path, "2");
        space.run(&["build", "-n"]).exits(0).says(&[&format!("input `{path}` changed")]);
        space.build();
        assert_eq!(space.read("sum.txt"), format!("{}{}", "2".repeat(n + 1), "1".repeat(2 - n)));
        space.run(&["build", "-q"]).exits(0);
    }
    // Two of them change places.
    space.write("b/data.csv", "3");
    space.build();
    space.edit("pipeline.toml", "\"a/data.csv\", \"b/data.csv\"", "\"b/data.csv\", \"a/data.csv\"");
    space.run(&["build", "-n"]).exits(0).says(&["the order of the inputs changed"]);
    space.build();
    assert_eq!(space.read("sum.txt"), "322");
}

#[test]
fn an_input_of_the_same_content_elsewhere() {
    let space = Space::new();
    space.write("a/x.txt", "x");
    space.write("b/x.txt", "x");
    space.write(
        "pipeline.toml",
        "[task.name]\ninputs = [\"a/x.txt\"]\noutputs = [\"name.txt\"]\ncommand = \"echo $in > $out\"\n\
         [task.text]\ninputs = [\"a/x.txt\"]\noutputs = [\"text.txt\"]\ntemplate = \"{{ x }}\"\n\
         [task.list]\ninputs = [\"a/x.txt\"]\noutputs = [\"list.txt\"]\ntemplate = \"{{ inputs[0].path }}\"\n",
    );
    space.build();
    space.edit("pipeline.toml", "[\"a/x.txt\"]", "[\"b/x.txt\"]");
    let out = space.run(&["build", "-n"]).exits(0);
    out.says(&[
        "name  the paths of the inputs changed",
        "list  the paths of the inputs changed",
        "1 up to date",
    ]);
    space.build();
    assert_eq!((space.read("name.txt"), space.read("list.txt")), ("b/x.txt\n".into(), "b/x.txt".into()));
}
