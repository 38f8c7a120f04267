//! Size: thousands of tasks, made up by the simulated model. Ten thousand and more are timed by `benches/`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{FakeLlm, Space, until};

const LAYERS: usize = 20;
const WIDTH: usize = 200;

/// Layers of tasks, each reading two tasks of the layer before.
fn layers() -> String {
    let mut text = String::from(
        "[models.made_up]\napi = \"simulated\"\nlatency = 0\nwords = 6\nmax_concurrent = 64\n\n[defaults]\nmodel = \"made_up\"\n",
    );
    for layer in 0..LAYERS {
        for n in 0..WIDTH {
            let inputs = match layer {
                0 => "{ left = \"plan.txt\", right = \"plan.txt\" }".to_owned(),
                _ => {
                    let (before, next) = (layer - 1, (n + 1) % WIDTH);
                    format!("{{ left = \"l{before}/{n}.txt\", right = \"l{before}/{next}.txt\" }}")
                }
            };
            write!(
                text,
                "\n[task.l{layer}n{n}]\ninputs = {inputs}\noutputs = [\"l{layer}/{n}.txt\"]\n\
                 prompt = \"{layer} {n}: {{{{ left }}}} {{{{ right }}}}\"\n"
            )
            .expect("text");
        }
    }
    text
}

#[test]
fn thousands_of_tasks_complete_and_then_there_is_nothing_to_do() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.write("pipeline.toml", layers());
    space.write("plan.txt", "Build a bridge.\n");
    space.run(&["build", "-j64"]).exits(0);
    let all = LAYERS * WIDTH;
    assert_eq!(space.tree().len(), all + 2);
    let report = space.report();
    assert_eq!((&report["steps_completed"], &report["counts"]["done"]), (&json!(all), &json!(all)));
    space.assert_nothing_to_do(&server);

    // One task in the middle: it alone is judged stale, with what is below it as far as bytes differ.
    space.edit("pipeline.toml", "\"10 100: ", "\"10 hundred: ");
    space.run(&["build", "-q"]).exits(1);
    space.run(&["build", "-j64"]).exits(0);
    space.assert_nothing_to_do(&server);
}

/// What shows a run leaves out most of a fan-out of hundreds, and says how much.
#[test]
fn of_many_items_some_are_shown_and_the_rest_is_counted() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { file = \"items.json\" }\noutputs = [\"each/{{ key }}.txt\"]\ncommand = [\"false\"]\n\
         [task.made]\nforeach = { file = \"items.json\" }\noutputs = [\"made/{{ key }}.txt\"]\ntemplate = \"{{ key }}\"\n",
    );
    let items: Vec<String> = (0..260).map(|n| format!("item-{n}")).collect();
    space.write("items.json", json!(items).to_string());
    space.run(&["build", "-k"]).exits(1);
    space.run(&["report", "--html", "run.html"]).exits(0);
    assert!(space.read("run.html").contains("60 more are left out"), "200 of 260 failures");
    // The page in the browser is told of all, and of each item's files only where it is asked about.
    let mut ui = space.spawn(&["ui", "--json"]);
    let line = until("the address", || ui.stdout().lines().next().map(str::to_owned));
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let url = said["url"].as_str().expect("an address");
    let (root, token) = url.split_once("/#token=").expect("a token");
    let out = std::process::Command::new("curl")
        .args(["-sS", "-H", &format!("Authorization: Bearer {token}"), &format!("{root}/api/status")])
        .output()
        .expect("curl");
    let status: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let tasks = status["tasks"].as_array().expect("tasks");
    assert!(tasks.len() >= 520, "{}", tasks.len());
    let made: Vec<&Value> = tasks.iter().filter(|task| task["family"] == "made").collect();
    assert_eq!(made.len(), 260);
    for item in made {
        assert_eq!((&item["state"], &item["outputs"]), (&json!("done"), &json!([])), "{item}");
    }
    assert!(ui.is_running());
    ui.signal(rustix::process::Signal::TERM);
    ui.wait();
}
