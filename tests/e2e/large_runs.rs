//! Size: thousands of tasks, made up by the simulated model. Ten thousand and more are timed by `benches/`.

use std::fmt::Write;

use serde_json::json;

use crate::support::{FakeLlm, Space};

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
