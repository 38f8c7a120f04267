//! The recipe: prompts, templates, schemas, checks, commands, variables, models.

use std::time::SystemTime;

use serde_json::json;

use super::{ONE, assert_fresh, assert_stale, numbered, shaped};
use crate::support::{CHAIN, FakeLlm, Space, counts, space};

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

/// What was edited runs whatever comes out of what it reads, and a dry run says so; what only reads it depends on it.
#[test]
fn a_dry_run_tells_each_of_several_edits() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[task.a]
outputs = ["a.txt"]
command = "echo 1 > $out"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nSum up {{ a }}"

[task.c]
inputs = ["b.txt"]
outputs = ["c.txt"]
prompt = "TASK=c\nShorten {{ b }}"
"#,
    );
    space.build();
    space.edit("pipeline.toml", "echo 1 >", "echo  1 >");
    space
        .run(&["build", "-n"])
        .exits(0)
        .says(&["Would run 1 task, and 2 more if", "No call is certain yet, at most 2 calls."]);

    space.edit("pipeline.toml", "Sum up", "Write out");
    let said =
        ["b  the prompt changed", "c  depends on b", "Would run 2 tasks, and 1 more if", "1 call expected"];
    space.run(&["build", "-n"]).exits(0).says(&said);
    space.run(&["explain", "b"]).exits(0).says(&["Stale: it will run", "the prompt changed"]);
    // What it reads is another by now: what comes of that is open.
    space.write("a.txt", "2\n");
    space.run(&["build", "-n"]).exits(0).says(&["Would run 1 task, and 2 more if"]);
    space.write("a.txt", "1\n");
    space.build();
    assert_eq!(server.count("b"), 2);
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

/// An answer that was held against a changed schema is still the one that the task was paid for.
#[test]
fn an_answer_that_passed_a_changed_schema_is_used_again() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    let answer = space.read("a.json");
    space.edit("a.schema.json", r#"{ "type": "integer" }"#, r#"{ "type": "integer", "maximum": 9 }"#);
    space.build();
    space.write("a.md.j2", "## {{ answer.title }}\n");
    space.build();
    assert!(space.read("a.md").starts_with("## text"), "{}", space.read("a.md"));
    for lost in ["a.json", "a.md"] {
        space.remove(lost);
        space.build();
        assert_eq!((server.total(), space.read("a.json")), (1, answer.clone()), "{lost}");
    }
    // Both edits at once; one that the answer does not pass asks again.
    space.edit("a.schema.json", r#""maximum": 9"#, r#""maximum": 8"#);
    space.write("a.md.j2", "### {{ answer.title }}\n");
    space.build();
    assert_eq!(server.total(), 1);
    space.edit("a.schema.json", r#""maximum": 8"#, r#""minimum": 5"#);
    space.write("a.md.j2", "# {{ answer.title }}\n");
    space.build();
    assert_eq!((server.total(), &space.json("a.json")["score"]), (2, &json!(5)));
    space.run(&["clean", "a", "-y"]).exits(0);
    space.build();
    assert_eq!(server.total(), 3, "a fresh answer is a fresh one");
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
    space.run(&["build", "-n"]).exits(0).says(&["made with another model", "`--rebuild-on model`"]);
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
