//! The command line: what each command says, what it changes, and how it exits.

mod answers;
mod build;
mod file_access;
mod history;
mod misc_commands;
mod pipeline;
mod runs;
mod status;

use serde_json::Value;

use crate::support::{Answer, CHAIN, FakeLlm, Running, Space, space};

/// Two roots with a reader each, and one that reads both.
const FIVE: &str = r#"
[task.bad]
inputs = ["plan.txt"]
outputs = ["bad.txt"]
prompt = "TASK=bad\n{{ plan }}"

[task.good]
inputs = ["plan.txt"]
outputs = ["good.txt"]
prompt = "TASK=good\n{{ plan }}"

[task.after_bad]
inputs = ["bad.txt"]
outputs = ["after_bad.txt"]
prompt = "TASK=after_bad\n{{ bad }}"

[task.after_good]
inputs = ["good.txt"]
outputs = ["after_good.txt"]
prompt = "TASK=after_good\n{{ good }}"

[task.both]
inputs = ["after_bad.txt", "after_good.txt"]
outputs = ["both.txt"]
prompt = "TASK=both\n{{ after_bad }}{{ after_good }}"
"#;

/// A built chain.
fn built(server: &FakeLlm) -> Space {
    let space = space(server, CHAIN);
    space.build();
    space
}

/// A run of [`FIVE`] in which `bad` is about to fail while `good` is held.
fn failing(server: &FakeLlm, space: &Space, args: &[&str]) -> Running {
    server.script(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "not this one"),
        _ => Answer::Default,
    });
    server.hold("bad");
    server.hold("good");
    let build = space.spawn(args);
    server.wait_for_call("bad");
    server.wait_for_call("good");
    server.release("bad");
    build
}

fn states(space: &Space) -> Vec<(String, String)> {
    let report = space.report();
    let tasks = report["tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| (text(&task["task"]), text(&task["state"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
