//! What is stale and what is not: every row of the table, and what it costs to be fresh again.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{Answer, CHAIN, FakeLlm, Fifo, Space, counts, space, until};

/// One task.
pub const ONE: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"
"#;

/// One task with a schema and an output rendered from the answer.
const SHAPED: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.json", { path = "a.md", template = "a.md.j2" }]
prompt = "TASK=a\nJudge: {{ plan }}"
schema = "a.schema.json"
"#;

const SCHEMA: &str = r#"{
  "type": "object", "required": ["title", "score"], "additionalProperties": false,
  "properties": { "title": { "type": "string" }, "score": { "type": "integer" } }
}"#;

pub fn shaped(server: &FakeLlm) -> Space {
    let space = space(server, SHAPED);
    space.write("a.schema.json", SCHEMA);
    space.write("a.md.j2", "# {{ answer.title }} ({{ answer.score }})\n");
    space
}

/// A server whose answers tell how many came before for the task.
pub fn numbered() -> FakeLlm {
    FakeLlm::scripted(|request| {
        format!("Draw {} of {}, whatever is asked.\n", request.nth, request.task).into()
    })
}

/// Expects that a build would run something, and that `explain` says why in these words.
#[track_caller]
pub fn assert_stale(space: &Space, task: &str, why: &[&str]) {
    space.run(&["build", "-q"]).exits(1);
    space.run(&["explain", task]).exits(0).says(&["stale"]).says(why);
}

/// Expects that a build would run nothing.
#[track_caller]
fn assert_fresh(space: &Space) {
    space.run(&["build", "-q"]).exits(0);
}

/// Builds until a build writes nothing at all. An entry as young as the clock is hashed again, and its
/// record may be written again: once it is older than that, there is nothing left to learn.
#[track_caller]
fn settle(space: &Space) {
    until("a build that writes nothing", || {
        let before = space.everything();
        space.build();
        (space.everything() == before).then_some(())
    });
}

#[test]
fn the_first_build_makes_all_and_the_second_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1)]));
    assert_eq!(server.order(), ["a", "b", "c"]);
    let tree = space.tree();
    let names: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.txt", "b.txt", "c.txt", "pipeline.toml", "plan.txt"]);
    assert!(space.read("b.txt").contains("to b"), "{}", space.read("b.txt"));
    assert_eq!(server.last("b").prompt, format!("TASK=b\nGo on from: {}", space.read("a.txt")));
    for output in ["a.txt", "b.txt", "c.txt"] {
        assert!(space.is_done(output), "{output}");
        assert_eq!(space.sidecar(output)["state"], "done");
    }
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
}

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
fn prompt_and_system_changed_in_files_and_inline() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
system = "prompts/system.md"
prompt = "prompts/a.md"
"#,
    );
    space.write("prompts/system.md", "You are brief.\n");
    space.write("prompts/a.md", "TASK=a\nSummarise {{ plan }}");
    space.build();
    assert!(server.last("a").system.contains("brief"));
    space.assert_nothing_to_do(&server);

    space.write("prompts/a.md", "TASK=a\nSum up {{ plan }}");
    assert_stale(&space, "a", &["prompt", "Sum up"]);
    space.build();
    assert_eq!(server.total(), 2);
    space.assert_nothing_to_do(&server);

    space.write("prompts/system.md", "You are verbose.\n");
    assert_stale(&space, "a", &["system"]);
    space.build();
    assert!(server.last("a").system.contains("verbose"));
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);

    // The same words inline are the same prompt.
    space.edit("pipeline.toml", "\"prompts/a.md\"", r#""TASK=a\nSum up {{ plan }}""#);
    space.assert_nothing_to_do(&server);
    space.edit("pipeline.toml", "Sum up", "Shorten");
    space.build();
    assert_eq!(server.total(), 4);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_template_changed() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.page]
inputs = ["plan.txt"]
outputs = ["page.html"]
template = "page.j2"
"#,
    );
    space.write("page.j2", "<p>{{ plan }}</p>");
    space.build();
    space.assert_nothing_to_do(&server);
    space.write("page.j2", "<b>{{ plan }}</b>");
    assert_stale(&space, "page", &["page.j2"]);
    space.build();
    assert!(space.read("page.html").starts_with("<b>Build"), "{}", space.read("page.html"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn the_template_of_a_further_output_changed_and_nothing_is_asked() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    let answer = space.read("a.json");
    space.write("a.md.j2", "## {{ answer.title }}\n");
    assert_stale(&space, "a", &[]);
    space.build();
    assert!(space.read("a.md").starts_with("## text"), "{}", space.read("a.md"));
    assert_eq!(space.read("a.json"), answer);
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_changed_schema_is_tried_on_the_answer_there_is() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    let answer = space.read("a.json");
    assert!(answer.starts_with("{\n  \"title\""), "two-space indent, the order of the answer: {answer}");
    assert!(answer.ends_with("}\n"), "a final newline: {answer}");

    space.edit("a.schema.json", r#"{ "type": "integer" }"#, r#"{ "type": "integer", "maximum": 9 }"#);
    assert_stale(&space, "a", &["schema"]);
    space.build();
    assert_eq!((server.total(), space.read("a.json")), (1, answer), "it satisfies the new schema as well");
    space.assert_nothing_to_do(&server);

    space.edit("a.schema.json", r#""maximum": 9"#, r#""minimum": 5"#);
    space.build();
    assert_eq!((server.total(), &space.json("a.json")["score"]), (2, &json!(5)));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_changed_check_is_tried_on_the_answer_there_is() {
    let server = numbered();
    let space = space(&server, &format!("{ONE}check = {{ min_words = 3 }}\n"));
    space.build();
    let answer = space.read("a.txt");
    space.edit("pipeline.toml", "min_words = 3", "min_words = 5");
    assert_stale(&space, "a", &["check"]);
    space.build();
    assert_eq!((server.total(), space.read("a.txt")), (1, answer.clone()));
    space.assert_nothing_to_do(&server);

    server.script(|_| (0..40).map(|n| format!("word{n} ")).collect::<String>().into());
    space.edit("pipeline.toml", "min_words = 5", "min_words = 30");
    space.build();
    assert_eq!(server.total(), 2);
    assert_ne!(space.read("a.txt"), answer);
    assert!(space.in_history(&answer), "the former answer is in history");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_its_named_environment_and_its_inputs() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
env = ["FLAVOUR"]
command = "echo >> ../a.log; cat $in > $out; echo $FLAVOUR one >> $out"
"#,
    );
    space.set_env("FLAVOUR", "plain");
    space.build();
    assert_eq!(space.read("a.txt"), "Build a bridge.\nplain one\n");
    space.assert_nothing_to_do(&server);
    let mut runs = 1;
    let mut expect = |change: &dyn Fn(&Space), more: usize| {
        change(&space);
        space.build();
        runs += more;
        assert_eq!(space.tally("a"), runs);
        space.assert_nothing_to_do(&server);
    };
    expect(&|space| space.edit("pipeline.toml", "FLAVOUR one", "FLAVOUR two"), 1);
    expect(&|space| space.set_env("FLAVOUR", "sweet"), 1);
    expect(&|space| space.set_env("COLOUR", "red"), 0);
    expect(&|space| space.write("plan.txt", "Build a tunnel.\n"), 1);
    expect(&|space| space.set_mtime("plan.txt", SystemTime::UNIX_EPOCH), 0);
    assert_eq!(space.read("a.txt"), "Build a tunnel.\nsweet two\n");
}

#[test]
fn vars_count_where_they_are_used() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[vars]
audience = "investors"
colour = "red"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\n{{ plan }} for {{ vars.audience }}"

[task.b]
inputs = ["plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ plan }} for all"
"#,
    );
    space.build();
    space.edit("pipeline.toml", "red", "blue");
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    space.edit("pipeline.toml", "investors", "the board");
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1)]));
    space.assert_nothing_to_do(&server);
    space.run(&["build", "-q", "-D", "audience=students"]).exits(1);
    space.run(&["build", "-D", "audience=students"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 3), ("b", 1)]));
    assert!(server.last("a").prompt.ends_with("for students"));
}

#[test]
fn what_does_not_count_changes_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    space.build();
    let pipeline = space.read("pipeline.toml");
    let keys = "model = \"fake-1\"\n";
    for (from, to) in [
        (keys, "model = \"fake-1\"\nprice = { input = 3.0, output = 15.0 }\n"),
        (keys, "model = \"fake-1\"\ntimeouts = { connect = \"9s\", first_token = \"99s\", idle = \"9s\" }\n"),
        (keys, "model = \"fake-1\"\nrpm = 600\ncontext_window = 64000\n"),
        ("max_attempts = 2", "max_attempts = 5"),
        ("max_concurrent = 16", "max_concurrent = 2"),
        ("[task.a]\n", "[task.a]\ntimeout = \"7m\"\nstall_timeout = \"3m\"\npriority = 5\n"),
        ("[task.a]\n", "[task.a]\ndescription = \"What it is for\"\nretry = { max_attempts = 7 }\n"),
        ("[task.a]\n", "[pools]\nwide = 3\n\n[task.a]\npool = \"wide\"\n"),
        ("[task.a]\n", "[pipeline]\nname = \"bridge\"\nversion = \"7\"\n\n# a remark\n[  task . a  ]\n"),
        ("[task.a]\n", "[timeouts]\na = 77\ndefault = 99\n\n[budget]\ncost = 5.0\n\n[task.a]\n"),
    ] {
        space.write("pipeline.toml", &pipeline);
        space.edit("pipeline.toml", from, to);
        assert_eq!(space.run(&["build", "-q"]).code, 0, "{to}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn another_model_is_drift_until_it_is_said_to_count() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.run(&["status"]).exits(0).says_nothing_of(&["drift"]);
    space.edit("pipeline.toml", "model = \"fake-1\"", "model = \"fake-2\"");
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    space.run(&["status"]).exits(0).says(&["drift"]);
    space.run(&["build", "-q", "--rebuild-on", "model"]).exits(1);
    space.run(&["build", "--rebuild-on", "model"]).exits(0);
    assert_eq!(server.count("a"), 2);
    assert_eq!(server.last("a").body["model"], "fake-2");
    space.run(&["status"]).exits(0).says_nothing_of(&["drift"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn other_params_are_drift_and_stale_if_the_pipeline_says_so() {
    let server = numbered();
    let space = space(&server, &format!("{ONE}params = {{ temperature = 0.2 }}\n"));
    space.build();
    assert_eq!(server.last("a").body["temperature"], 0.2);
    space.edit("pipeline.toml", "0.2", "0.7");
    space.assert_nothing_to_do(&server);
    space.run(&["status"]).exits(0).says(&["drift"]);
    space.edit("pipeline.toml", "[task.a]", "[staleness]\nmodel = true\n\n[task.a]");
    assert_stale(&space, "a", &[]);
    space.build();
    assert_eq!((server.total(), &server.last("a").body["temperature"]), (2, &json!(0.7)));
    assert!(space.read("a.txt").starts_with("Draw 1"));
    space.assert_nothing_to_do(&server);
    // Changed back: that answer is paid for already.
    space.edit("pipeline.toml", "0.7", "0.2");
    space.run(&["build"]).exits(0).says(&["kept answer"]);
    assert_eq!(server.total(), 2);
    assert!(space.read("a.txt").starts_with("Draw 0"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn readers_of_the_same_bytes_do_not_run_again() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => "Always the same.\n".into(),
        _ => Answer::Default,
    });
    let space = space(&server, CHAIN);
    space.build();
    space.write("plan.txt", "Build a tunnel.\n");
    let out = space.run(&["build", "-n"]).exits(0);
    assert_eq!(server.total(), 3);
    out.says(&["a", "b", "c"]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 1), ("c", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_renamed_task_stays_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.edit("pipeline.toml", "[task.b]", "[task.middle]");
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    assert_eq!(space.state("middle"), "done");
    assert_eq!(space.report()["tasks"].as_array().map(Vec::len), Some(3));
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
fn times_in_the_future_or_the_past_are_decided_by_content() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let files = space.files("");
    let day = Duration::from_secs(86400);
    for time in [SystemTime::now() + 3650 * day, SystemTime::UNIX_EPOCH + day, SystemTime::now()] {
        for file in files.iter().filter(|file| !file.starts_with(".planexe/")) {
            space.set_mtime(file, time);
        }
        assert_fresh(&space);
        space.assert_nothing_to_do(&server);
    }
    // New content under an mtime in the future runs once, not for ever.
    space.write("plan.txt", "Build a tunnel.\n");
    space.set_mtime("plan.txt", SystemTime::now() + 3650 * day);
    space.build();
    assert_eq!(server.count("a"), 2);
    space.assert_nothing_to_do(&server);
    // And so does new content older than every output.
    space.write("plan.txt", "Build a castle.\n");
    space.set_mtime("plan.txt", SystemTime::UNIX_EPOCH + day);
    space.build();
    assert_eq!(server.count("a"), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn always_make_makes_all() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let first = space.read("c.txt");
    space.run(&["build", "-B"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2)]));
    assert!(space.read("c.txt").starts_with("Draw 1"));
    assert!(space.in_history(first));
    space.assert_nothing_to_do(&server);
    space.run(&["build", "-B", "b"]).exits(0);
    assert_eq!(server.counts(), counts([("a", 3), ("b", 3), ("c", 2)]));
}

#[test]
fn makes_rule_for_those_who_want_it() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[staleness]
by = "mtime"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
command = "echo >> ../a.log; cat $in > $out"
"#,
    );
    space.build();
    space.assert_nothing_to_do(&server);
    settle(&space);
    space.set_mtime("plan.txt", space.mtime("a.txt") + Duration::from_millis(1));
    assert_stale(&space, "a", &["plan.txt"]);
    space.build();
    assert_eq!(space.tally("a"), 2);
    space.write("plan.txt", "Build a tunnel.\n");
    space.set_mtime("plan.txt", space.mtime("a.txt") - Duration::from_secs(60));
    space.assert_nothing_to_do(&server);
    assert_eq!((space.tally("a"), space.read("a.txt")), (2, "Build a bridge.\n".to_owned()));
}

#[test]
fn a_prompt_changed_back_costs_nothing() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let tree = space.tree();
    space.edit("pipeline.toml", "Summarise", "Shorten");
    space.build();
    assert_eq!(server.counts(), counts([("a", 2), ("b", 2), ("c", 2)]));
    space.edit("pipeline.toml", "Shorten", "Summarise");
    assert_stale(&space, "a", &["prompt"]);
    space.build();
    assert_eq!((server.total(), space.tree()), (6, tree));
    space.assert_nothing_to_do(&server);

    space.edit("pipeline.toml", "Summarise", "Shorten");
    space.run(&["build", "--no-reuse"]).exits(0);
    assert_eq!(server.count("a"), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn clean_asks_for_another_draw() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let first = space.read("b.txt");
    space.run(&["clean", "b", "-y"]).exits(0).says(&["b.txt"]);
    assert!(!space.exists("b.txt") && !space.is_done("b.txt"));
    assert!(space.in_history(&first));
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 2)]));
    assert!(space.read("b.txt").starts_with("Draw 1"));
    space.assert_nothing_to_do(&server);
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
fn a_run_moved_or_copied_elsewhere_stays_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let elsewhere = space.root().join("deeper/down");
    std::fs::create_dir(space.root().join("deeper")).expect("a folder");
    let copied = std::process::Command::new("cp").arg("-R").arg(space.dir()).arg(&elsewhere).status();
    assert!(copied.expect("cp").success());
    space.run(&["build", "-C", elsewhere.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
    let there = space.root().join("again");
    std::fs::rename(space.dir(), &there).expect("rename");
    std::fs::create_dir(space.dir()).expect("a folder to start in");
    space.run(&["build", "-C", there.to_str().expect("a path")]).exits(0);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_build_that_learns_nothing_writes_nothing_at_all() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    settle(&space);
    assert_eq!(server.total(), 3);
}

#[test]
fn an_answer_of_any_listed_model_is_used_before_a_call() {
    let server = numbered();
    let space = space(
        &server,
        &format!(
            r#"
[models.second]
api = "openai"
base_url = "{}"
model = "fake-2"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
model = ["second"]
prompt = "TASK=a\n{{{{ plan }}}}"
"#,
            server.base_url()
        ),
    );
    space.build();
    let answer = space.read("a.txt");
    space.edit("pipeline.toml", "model = [\"second\"]", "model = [\"fake\", \"second\"]");
    space.assert_nothing_to_do(&server);
    space.remove("a.txt");
    space.build();
    assert_eq!((server.total(), space.read("a.txt")), (1, answer));
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
fn tasks_moved_between_files_stay_fresh() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let (first, last) = CHAIN.split_at(CHAIN.find("[task.c]").expect("c"));
    space.write("stages/last.toml", last);
    space.pipeline(&server, &format!("[pipeline]\ninclude = [\"stages/*.toml\"]\n{first}"));
    space.assert_nothing_to_do(&server);
    space.edit("stages/last.toml", "Conclude", "Finish");
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 2)]));
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
fn two_tasks_of_the_same_prompt_have_answers_of_their_own() {
    let server = numbered();
    let two = ONE.replace("a.txt", "b.txt").replace("[task.a]", "[task.b]");
    let space = space(&server, &format!("{ONE}{two}"));
    space.build();
    assert_eq!(server.counts(), counts([("a", 2)]));
    assert_ne!(space.read("a.txt"), space.read("b.txt"));
    let tree = space.tree();
    space.remove("a.txt");
    space.remove("b.txt");
    space.build();
    assert_eq!((server.total(), space.tree()), (2, tree));
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

/// Every kind of thing a verdict may rest on.
const EVERYTHING: &str = r#"
[pipeline]
include = ["stages/*.toml", "more.toml", "deep/*/x.toml"]

[vars]
tone = "calm"

[task.a]
inputs = ["plan.txt", "link.txt"]
outputs = ["a.json", { path = "a.md", template = "a.md.j2" }]
system = "prompts/system.md"
prompt = "prompts/a.md"
schema = "a.schema.json"
check = { banned_words = "banned.txt" }

[task.notes]
inputs = { notes = "notes.txt" }
optional = ["notes"]
outputs = ["noted.txt"]
template = "{{ vars.tone }} {{ notes or 'none' }}"

[task.all]
inputs = { docs = "docs/**/*.txt" }
outputs = ["all.txt"]
command = "cat $in.docs > $out; echo $FLAVOUR >> $out"
env = ["FLAVOUR"]

[task.item]
foreach = { file = "items.json", key = "id" }
outputs = ["items/{{ key }}.txt"]
template = "{{ item.text }}"

[task.file]
foreach = { glob = "parts/*.txt" }
outputs = ["files/{{ key }}.txt"]
template = "{{ item.text }}"

[task.over]
inputs = ["items/*.txt", "files/*.txt", "a.md"]
outputs = ["over.txt"]
command = "cat $in > $out"
"#;

#[test]
fn after_quiet_builds_every_change_is_still_seen() {
    let server = FakeLlm::new();
    let space = Space::with(&server, EVERYTHING);
    for (path, text) in [
        ("plan.txt", "Build a bridge."),
        ("texts/linked.txt", "linked"),
        ("texts/other.txt", "other!"),
        ("more.toml", "# nothing yet"),
        ("prompts/system.md", "Be brief."),
        ("prompts/a.md", "TASK=a\n{{ plan }} {{ link }} {{ vars.tone }}"),
        ("a.md.j2", "# {{ answer.title }}"),
        ("a.schema.json", SCHEMA),
        ("banned.txt", "nonsense"),
        ("docs/one.txt", "1"),
        ("docs/deep/er/two.txt", "2"),
        ("items.json", r#"[{"id": "x", "text": "ex"}, {"id": "y", "text": "why"}]"#),
        ("parts/p.txt", "part"),
    ] {
        space.write(path, text);
    }
    std::os::unix::fs::symlink("texts/linked.txt", space.path("link.txt")).expect("a link");
    space.set_env("FLAVOUR", "plain");
    space.build();

    let relink = |space: &Space| {
        space.remove("link.txt");
        std::os::unix::fs::symlink("texts/other.txt", space.path("link.txt")).expect("a link");
    };
    let restored = |space: &Space| {
        let mtime = space.mtime("docs/one.txt");
        space.write("docs/one.txt", "7");
        space.set_mtime("docs/one.txt", mtime);
    };
    let into = |space: &Space| {
        space.write("docs/new.tmp", "renamed into place");
        std::fs::rename(space.path("docs/new.tmp"), space.path("docs/deep/new.txt")).expect("rename");
    };
    type Change<'a> = &'a dyn Fn(&Space);
    let changes: [(&str, Change); 36] = [
        ("an input", &|s| s.write("plan.txt", "Build a tunnel.")),
        ("an input of the same size and time", &restored),
        ("the file behind a link", &|s| s.write("texts/linked.txt", "LINKED")),
        ("a link to another file", &relink),
        ("the prompt's file", &|s| s.edit("prompts/a.md", "TASK=a", "TASK=a\nNow:")),
        ("the system prompt's file", &|s| s.write("prompts/system.md", "Be very brief.")),
        ("the template of a further output", &|s| s.write("a.md.j2", "## {{ answer.title }}")),
        ("the schema", &|s| s.edit("a.schema.json", "\"integer\"", "\"integer\", \"maximum\": 9")),
        ("the list of banned words", &|s| s.write("banned.txt", "nonsense\nrubbish")),
        ("the pipeline", &|s| s.edit("pipeline.toml", "'none'", "'nothing'")),
        ("a var", &|s| s.edit("pipeline.toml", "calm", "bold")),
        ("a file that is included by name", &|s| {
            s.write("more.toml", "[task.m]\noutputs = [\"m.txt\"]\ntemplate = \"m m\"")
        }),
        ("a file that an include's glob matches now", &|s| {
            s.write("stages/s.toml", "[task.s]\noutputs = [\"s.txt\"]\ntemplate = \"s s\"")
        }),
        ("a file in a folder an include's glob begins with", &|s| {
            s.write("deep/one/x.toml", "[task.one]\noutputs = [\"one.txt\"]\ntemplate = \"one x\"")
        }),
        ("a file in a new folder an include's glob reaches into", &|s| {
            s.write("deep/two/x.toml", "[task.two]\noutputs = [\"two.txt\"]\ntemplate = \"two x\"")
        }),
        ("an optional input that is there now", &|s| s.write("notes.txt", "Mind the wind.")),
        ("an optional input that is gone again", &|s| s.remove("notes.txt")),
        ("a file a glob matches now", &|s| s.write("docs/three.txt", "3")),
        ("a file in a new folder a glob reaches into", &|s| s.write("docs/new/down/four.txt", "4")),
        ("a file renamed into a glob", &into),
        ("a file gone from a glob", &|s| s.remove("docs/deep/er/two.txt")),
        ("a named variable of the environment", &|s| s.set_env("FLAVOUR", "sweet")),
        ("an item", &|s| s.edit("items.json", "why", "because")),
        ("an item added", &|s| s.edit("items.json", "[{", r#"[{"id": "z", "text": "zed"}, {"#)),
        ("an item removed", &|s| s.edit("items.json", r#"{"id": "z", "text": "zed"}, "#, "")),
        ("a file that is an item now", &|s| s.write("parts/q.txt", "another part")),
        ("an output gone", &|s| s.remove("noted.txt")),
        ("a further output gone", &|s| s.remove("a.md")),
        ("an instance's output gone", &|s| s.remove("items/x.txt")),
        ("an output emptied", &|s| s.write("over.txt", "")),
        ("an output edited, for its readers", &|s| s.write("items/x.txt", "my own words")),
        ("an output that is no longer valid", &|s| s.write("a.json", "{}")),
        ("a marker gone", &|s| s.remove("over.txt.DONE")),
        ("a marker torn", &|s| s.write("items/y.txt.DONE", "{\"schema\": 1,")),
        ("the marker of another task", &|s| s.write("over.txt.DONE", s.bytes("all.txt.DONE"))),
        ("a folder that took an output's place", &|s| {
            s.remove("over.txt");
            s.write("over.txt/x", "in the way");
        }),
    ];
    let mut unseen = Vec::new();
    for (what, change) in changes {
        settle(&space);
        change(&space);
        if space.run(&["build", "-q"]).code != 1 {
            unseen.push(what);
        }
        if what.starts_with("a folder") {
            space.run(&["build"]).exits(1);
        } else {
            space.build();
            space.assert_nothing_to_do(&server);
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
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

#[test]
fn the_message_of_a_gate() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.go]\noutputs = [\"go.json\"]\ngate = { fail_if = \"{{ true }}\", action = \"warn\", message = \"not yet\" }\n",
    );
    space.build();
    space.edit("pipeline.toml", "not yet", "not before May");
    space.run(&["build", "-n"]).exits(0).says(&["the message changed"]);
    space.run(&["build"]).exits(0).says(&["not before May"]);
    assert_eq!(space.json("go.json")["message"], "not before May");
}

#[test]
fn a_record_with_no_more_than_the_contract_asks_for() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let keys = ["schema", "task", "fingerprint", "inputs", "outputs", "completed_utc", "by", "checkpoint_id"];
    for output in ["a.txt", "b.txt", "c.txt"] {
        let mut record = space.done(output);
        record.as_object_mut().expect("an object").retain(|key, _| keys.contains(&key.as_str()));
        space.write(&format!("{output}.DONE"), record.to_string());
        space.write(
            &format!("{output}.status"),
            json!({ "schema": 1, "task": "x", "state": "done" }).to_string(),
        );
    }
    assert_fresh(&space);
    space.assert_nothing_to_do(&server);
    // That something changed is all that can be told of it.
    space.write("plan.txt", "Build a tunnel.\n");
    let out = space.run(&["build", "-n"]).exits(0).says(&["a  what it is made from changed"]);
    assert!(!out.stdout.contains("is new"), "{out}");
    space.build();
    space.assert_nothing_to_do(&server);
}
