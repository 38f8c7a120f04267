//! Prompts are tried on the inputs of reference runs, scored, kept or reverted, and promoted. Every call is counted, of
//! the task (`swot`) and of its evaluator (`judge`).

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Answer, ChatRequest, FakeLlm, Space};

const PIPELINE: &str = r##"
[task.purpose]
inputs  = ["plan.txt"]
outputs = ["purpose.md"]
prompt  = "TASK=purpose\n{{ plan }}"

[task.swot]
inputs  = { plan = "plan.txt", purpose = "purpose.md" }
outputs = ["swot.md"]
prompt  = "prompts/swot.md"

[task.swot.eval]
prompt = "TASK=judge\nRate this: {{ answer }}{% for o in outputs %} ({{ o.path }}){% endfor %}"

[task.summary]
inputs  = ["swot.md"]
outputs = ["summary.md"]
prompt  = "TASK=summary\n{{ swot }}"
"##;

/// A server whose evaluator gives what the answer says: `SCORE=0.8` in a prompt comes back in its answer.
pub(crate) fn server() -> FakeLlm {
    FakeLlm::scripted(|call: &ChatRequest| {
        let said = &call.prompt;
        let score = said.split("SCORE=").nth(1).map(|rest| rest[..3].to_owned());
        match (call.task.as_str(), score) {
            ("judge", Some(score)) => {
                Answer::Text(format!("{{\"score\": {score}, \"notes\": \"Name the owner of each risk.\"}}"))
            }
            ("swot", Some(score)) => Answer::Text(format!("A SWOT worth SCORE={score} of {}", said.len())),
            _ => Answer::Default,
        }
    })
}

pub(crate) fn prompt(score: &str, words: &str) -> String {
    format!("TASK=swot\n{words} SCORE={score} {{{{ plan }}}} {{{{ purpose }}}}\n")
}

/// A run that is built, with a prompt of score 0.5 and two other texts: `good` and `bad`.
pub(crate) fn space(server: &FakeLlm) -> Space {
    let space = Space::with(server, PIPELINE);
    space.write("plan.txt", "A bridge.\n");
    space.write("prompts/swot.md", prompt("0.7", "Write a SWOT."));
    space.write("prompts/variants/swot/good.md", prompt("0.9", "Write a good SWOT."));
    space.write("prompts/variants/swot/bad.md", prompt("0.2", "Write."));
    space.build().exits(0);
    space
}

pub(crate) fn calls(server: &FakeLlm) -> (usize, usize) {
    (server.count("swot"), server.count("judge"))
}

pub(crate) fn results(space: &Space) -> Value {
    space.run(&["optimize", "swot", "--show", "--json"]).exits(0).json()
}

#[test]
fn the_best_text_is_kept_and_promoted_without_a_further_call() {
    let server = server();
    let space = space(&server);
    let run = space.everything();
    let before = calls(&server);
    let told = space.run(&["optimize", "swot", "-n"]).exits(0).says(&["3 trials", "6 calls"]);
    space.everything().assert_same_as(&run, &told);

    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!((out["best"].as_str(), out["kept"].as_bool()), (Some("good"), Some(true)), "{out}");
    assert_eq!(out["used"]["calls"], 6);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3));
    let decisions: Vec<_> =
        out["results"].as_array().unwrap().iter().map(|row| row["decision"].clone()).collect();
    assert_eq!(decisions, ["champion", "reverted", "kept"], "{out}");
    // The run itself is as it was.
    space.run(&["build", "-q"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), prompt("0.7", "Write a SWOT."));

    // Again: nothing is asked.
    space.run(&["optimize", "swot"]).exits(0).says(&["good", "kept"]);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3));

    let told = space.run(&["optimize", "swot", "--promote", "good"]).exits(0);
    told.says(&["stale by it: swot, summary", "1 answer given"]);
    assert_eq!(space.read("prompts/swot.md"), prompt("0.9", "Write a good SWOT."));
    space.run(&["build", "swot"]).exits(0);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3), "no call for what is answered already");
    assert!(space.read("swot.md").contains("SCORE=0.9"));

    // And back, with the answer that was there.
    space.run(&["optimize", "swot", "--promote", "current"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), prompt("0.7", "Write a SWOT."));
    space.run(&["build", "swot"]).exits(0);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3));
    space.assert_nothing_to_do_of_swot();
}

impl Space {
    fn assert_nothing_to_do_of_swot(&self) {
        self.run(&["build", "-q", "swot"]).exits(0);
    }
}

/// What is forecast is what is asked, and nothing once all is done, also where answers lie in folders of their own.
#[test]
fn a_fan_out_is_tried_on_the_items_that_its_task_asks_about() {
    for (wanted, items) in [("true", 3), ("item.wanted", 2), ("false", 3)] {
        let server = server();
        let space = Space::with(
            &server,
            &PIPELINE
                .replace(
                    "outputs = [\"swot.md\"]",
                    "foreach = { file = \"items.json\", key = \"id\" }\nwhen = \"{{ WANTED }}\"\n\
                     outputs = [\"swot/{{ key }}.md\"]",
                )
                .replace("WANTED", wanted)
                .replace("[\"swot.md\"]", "{ swot = \"swot/*.md\" }\noptional = [\"swot\"]"),
        );
        space.write("plan.txt", "A bridge.\n");
        space.write(
            "items.json",
            r#"[{"id": "a", "wanted": true}, {"id": "b", "wanted": false}, {"id": "c", "wanted": true}]"#,
        );
        space.write("prompts/swot.md", prompt("0.7", "On {{ item.id }}."));
        space.write("prompts/variants/swot/good.md", prompt("0.9", "Well, on {{ item.id }}."));
        space.build().exits(0);
        let before = calls(&server);
        let amount = |out: &Value| (out["expected"]["trials"].clone(), out["expected"]["calls"].clone());
        let told = space.run(&["optimize", "swot", "-n", "--json"]).exits(0).json();
        assert_eq!(amount(&told), (2.into(), (4 * items).into()), "{told:#}");

        let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
        assert_eq!(
            (out["best"].as_str(), &out["used"]["calls"]),
            (Some("good"), &(4 * items).into()),
            "{out}"
        );
        assert_eq!(calls(&server), (before.0 + 2 * items, before.1 + 2 * items), "{wanted}");
        space.run(&["optimize", "swot", "-n"]).exits(0).says(&["Nothing would be asked"]);
        space.run(&["optimize", "swot"]).exits(0);
        assert_eq!(calls(&server), (before.0 + 2 * items, before.1 + 2 * items), "{wanted}");

        let out = space.run(&["optimize", "swot", "--promote", "good", "--json"]).exits(0).json();
        assert_eq!(out["given"], items, "{out}");
        space.run(&["build", "swot"]).exits(0);
        assert_eq!(calls(&server), (before.0 + 2 * items, before.1 + 2 * items), "{wanted}");
        space.assert_nothing_to_do_of_swot();
    }
}

#[test]
fn a_text_that_is_worse_on_one_run_is_not_kept() {
    // `good` is better by far on the bridge, and worse on the tunnel.
    let server = FakeLlm::scripted(|call: &ChatRequest| {
        let said = &call.prompt;
        let score = match (said.contains("good"), said.contains("tunnel")) {
            (true, true) => 0.5,
            (true, false) => 1.0,
            _ => 0.7,
        };
        match call.task.as_str() {
            "judge" => Answer::Text(format!("{{\"score\": {score}, \"notes\": \"\"}}")),
            "purpose" => Answer::Text(said.lines().last().unwrap_or_default().to_owned()),
            _ => Answer::Text(said.clone()),
        }
    });
    let space = space(&server);
    space.write("tunnel/run.toml", "pipeline = \"../pipeline.toml\"\n");
    space.write("tunnel/plan.txt", "A tunnel of tunnels.\n");
    let refused = space.run(&["optimize", "swot", "--run", ".", "--run", "tunnel"]).exits(2);
    refused.says(&["are not up to date: purpose", "planexe -C tunnel build purpose"]);
    space.run(&["-C", "tunnel", "build", "-s"]).exits(0);
    let out = space
        .run(&["optimize", "swot", "--run", ".", "--run", "tunnel", "--promote", "--json"])
        .exits(0)
        .json();
    assert_eq!((out["best"].as_str(), out["promoted"].as_bool()), (Some("current"), Some(false)), "{out}");
    let good = out["results"].as_array().unwrap().iter().find(|row| row["variant"] == "good").unwrap();
    assert_eq!(good["decision"], "reverted");
    assert!(good["why"].as_str().unwrap().contains("0.500 against 0.700 on `tunnel`"), "{good}");
    let refused = space.run(&["optimize", "swot", "--promote", "good"]).exits(2);
    refused.says(&["`good` was not kept"]);
    assert_eq!(space.read("prompts/swot.md"), prompt("0.7", "Write a SWOT."));
}

#[test]
fn a_run_with_a_profile_of_its_own_is_read_with_it() {
    let server = server();
    let space = space(&server);
    let plan = space.read("pipeline.toml").replace("TASK=purpose", "TASK=purpose for {{ vars.who }}");
    space.write("pipeline.toml", plan + "\n[vars]\nwho = \"all\"\n[profiles.short.vars]\nwho = \"few\"\n");
    space.write("tunnel/run.toml", "pipeline = \"../pipeline.toml\"\nprofile = \"short\"\n");
    space.write("tunnel/plan.txt", "A tunnel.\n");
    space.run(&["-C", "tunnel", "build", "-s"]).exits(0);
    space.run(&["-C", "tunnel", "optimize", "swot"]).exits(0).says(&["good kept"]);
    let refused = space.run(&["optimize", "swot", "--run", "tunnel", "--profile", "short"]);
    refused.exits(0);
    space.build().exits(0);
    space.run(&["optimize", "swot", "--run", ".", "--run", "tunnel"]).exits(0).says(&["good kept"]);
}

#[test]
fn a_kill_costs_only_the_calls_in_flight() {
    let server = server();
    let space = space(&server);
    let before = calls(&server);
    server.hold("swot");
    let running = space.spawn(&["optimize", "swot"]);
    server.wait_for_calls("swot", before.0 + 1);
    running.kill9();
    server.release("swot");
    server.wait_for_quiet();
    let killed = calls(&server);
    space.run(&["optimize", "swot"]).exits(0).says(&["good", "kept"]);
    assert_eq!(calls(&server).1, before.1 + 3);
    assert!(calls(&server).0 <= killed.0 + 3);

    // Killed while the evaluator is asked: the answers are there.
    space.write("prompts/variants/swot/more.md", prompt("0.8", "More."));
    server.hold("judge");
    let running = space.spawn(&["optimize", "swot"]);
    server.wait_for_calls("judge", before.1 + 4);
    running.kill9();
    let killed = calls(&server);
    server.release("judge");
    server.wait_for_quiet();
    space.run(&["optimize", "swot"]).exits(0);
    assert_eq!(calls(&server), (killed.0, killed.1 + 1));
    let rows = results(&space)["results"].as_array().unwrap().len();
    assert_eq!(rows, 4);
}

#[test]
fn a_budget_stops_it_and_the_same_command_goes_on() {
    let server = server();
    let space = space(&server);
    let before = calls(&server);
    let out = space.run(&["optimize", "swot", "-j", "1", "--max-calls", "2", "--json"]).exits(3).json();
    assert_eq!(out["state"], "stopped");
    assert!(!out["missing"].as_array().unwrap().is_empty(), "{out}");
    assert_eq!(out["kept"], false);
    let after = calls(&server);
    assert_eq!(after.0 + after.1, before.0 + before.1 + 2);
    space.run(&["optimize", "swot"]).exits(0).says(&["kept"]);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3));
}

#[test]
fn a_prompt_that_was_edited_meanwhile_is_not_replaced() {
    let server = server();
    let space = space(&server);
    space.run(&["optimize", "swot"]).exits(0);
    space.write("prompts/swot.md", "TASK=swot\nMine. {{ plan }}\n");
    let refused = space.run(&["optimize", "swot", "--promote", "good"]).exits(2);
    refused.says(&["`prompts/swot.md` was changed since the experiment began"]);
    assert_eq!(space.read("prompts/swot.md"), "TASK=swot\nMine. {{ plan }}\n");
}

#[test]
fn an_answer_that_fails_its_schema_scores_nothing_and_is_not_asked_for_again() {
    let server = FakeLlm::scripted(|call: &ChatRequest| {
        let said = &call.prompt;
        match call.task.as_str() {
            "judge" => Answer::Text("{\"score\": 0.8, \"notes\": \"\"}".into()),
            "swot" if said.contains("Prose") => Answer::Text("no JSON at all".into()),
            "swot" => Answer::Text("{\"a\": 1}".into()),
            _ => Answer::Default,
        }
    });
    let space = space(&server);
    space.edit(
        "pipeline.toml",
        "prompts/swot.md\"",
        "prompts/swot.md\"\nschema = \"schema.json\"\nmax_validation_retries = 1",
    );
    space.write("schema.json", "{\"type\": \"object\", \"required\": [\"a\"]}");
    space.write("prompts/variants/swot/bad.md", prompt("0.9", "Prose."));
    space.build().exits(0);
    let before = calls(&server);
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    let bad = out["results"].as_array().unwrap().iter().find(|row| row["variant"] == "bad").unwrap();
    assert_eq!((bad["mean"].as_f64(), bad["failed"].as_u64()), (Some(0.0), Some(1)), "{out}");
    assert_eq!(calls(&server), (before.0 + 4, before.1 + 2));
    let id = out["experiment"].as_str().unwrap();
    let lines = space.lines(&format!("experiments/swot/{id}/runs.jsonl"));
    assert!(lines.iter().any(|line| line["class"] == "validation" && line["answer"].is_null()), "{lines:?}");
    space.run(&["optimize", "swot"]).exits(0);
    assert_eq!(calls(&server), (before.0 + 4, before.1 + 2));
}

#[test]
fn a_model_writes_better_texts_round_by_round() {
    let server = FakeLlm::scripted(|call: &ChatRequest| {
        let said = &call.prompt;
        let score = said.split("SCORE=").nth(1).map(|rest| rest[..3].to_owned()).unwrap_or_default();
        match call.task.as_str() {
            "judge" => Answer::Text(format!("{{\"score\": {score}, \"notes\": \"more\"}}")),
            "swot" => Answer::Text(format!("A SWOT worth SCORE={score}")),
            // The prompt it is shown has `TASK=ask` before the one of the task.
            "ask" if said.contains("SCORE=0.7") => {
                Answer::Text("```\nTASK=swot\nBetter. SCORE=0.8 {{ plan }} {{ purpose }}\n```".into())
            }
            "ask" if said.contains("SCORE=0.8") => Answer::Text("Use {{ nothing }}".into()),
            _ => Answer::Default,
        }
    });
    let space = space(&server);
    let ask = "\n[optimize]\npropose = \"TASK=ask\\n{{ brief.prompt }} {{ brief.results[0].notes }}\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + ask);
    let out = space.run(&["optimize", "swot", "--propose", "1", "--rounds", "3", "--json"]).exits(0);
    let view = out.json();
    assert_eq!((view["best"].as_str(), view["kept"].as_bool()), (Some("p1"), Some(true)), "{view}");
    out.says(&["passed over"]);
    let asked = (server.count("ask"), calls(&server));
    assert_eq!(asked.0, 3, "once a round");
    space.run(&["optimize", "swot", "--propose", "1", "--rounds", "3", "--promote"]).exits(0);
    assert_eq!((server.count("ask"), calls(&server)), asked);
    assert_eq!(space.read("prompts/swot.md"), "TASK=swot\nBetter. SCORE=0.8 {{ plan }} {{ purpose }}\n");
}

/// A server that writes a better text when it is asked with planexe's own words; what it was asked is kept.
fn writer(asked: Arc<Mutex<Vec<String>>>) -> FakeLlm {
    FakeLlm::scripted(move |call: &ChatRequest| {
        let said = &call.prompt;
        if said.starts_with("You improve the prompt") {
            asked.lock().expect("asked").push(said.clone());
            let text = match said.contains("SCORE=0.8") {
                true => "TASK=swot\nBest. SCORE=0.9 {{ plan }} {{ purpose }}",
                false => "TASK=swot\nBetter. SCORE=0.8 {{ plan }} {{ purpose }}",
            };
            return Answer::Text(text.into());
        }
        let score = said.split("SCORE=").nth(1).map(|rest| rest[..3].to_owned()).unwrap_or_default();
        match call.task.as_str() {
            "judge" if said.contains("\"winner\"") => {
                Answer::Text("{\"reason\": \"alike\", \"winner\": \"tie\"}".into())
            }
            "judge" => {
                Answer::Text(format!("{{\"score\": {score}, \"notes\": \"Name the owner of each risk.\"}}"))
            }
            "swot" => Answer::Text(format!("A SWOT worth SCORE={score}")),
            _ => Answer::Default,
        }
    })
}

#[test]
fn a_model_is_asked_for_better_texts_in_planexes_own_words() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let server = writer(asked.clone());
    let space = space(&server);
    let out = space.run(&["optimize", "swot", "--propose", "1", "--rounds", "2", "--json"]).exits(0).json();
    assert_eq!((out["best"].as_str(), out["kept"].as_bool()), (Some("p2"), Some(true)), "{out}");
    let first = asked.lock().expect("asked")[0].clone();
    for words in [
        "called `swot`",
        "Write a SWOT. SCORE=0.7 {{ plan }} {{ purpose }}",
        "The mean score is 0.7.",
        "score 0.7. Name the owner of each risk.",
        "must use each of these: plan, purpose",
    ] {
        assert!(first.contains(words), "{words}: {first}");
    }
    assert_eq!(asked.lock().expect("asked").len(), 2, "once a round");
    // The same again asks nobody.
    space.run(&["optimize", "swot", "--propose", "1", "--rounds", "2", "--promote"]).exits(0);
    assert_eq!(asked.lock().expect("asked").len(), 2);
    assert!(space.read("prompts/swot.md").contains("Best."));
}

#[test]
fn planexes_own_words_are_for_texts_that_did_not_do_and_for_a_judge_too() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let server = writer(asked.clone());
    let space = space(&server);
    let bad = ["--variant", "prompts/variants/swot/bad.md"];
    let propose = |more: &[&str]| {
        let args = [&["optimize", "swot", "--propose", "2", "--rounds", "2"], more].concat();
        space.run(&args).exits(0);
    };
    propose(&bad);
    let said = asked.lock().expect("asked").join("\n----\n");
    assert!(said.contains("try idea number 2"), "{said}");
    asked.lock().expect("asked").clear();
    propose(&["--compare", "pairwise"]);
    let said = asked.lock().expect("asked").join("\n----\n");
    assert!(said.contains("A judge compared") && !said.contains("mean score"), "{said}");
}

#[test]
fn a_text_that_lost_an_input_is_promoted_only_if_that_is_allowed() {
    let server = server();
    let space = space(&server);
    let wow = "TASK=swot\nWow. SCORE=0.9 {{ purpose }}{# {{ plan }} #}\n";
    let before = space.read("prompts/swot.md");
    space.write("prompts/variants/swot/good.md", wow);
    let refused = space.run(&["optimize", "swot", "--promote"]).exits(2);
    refused.says(&[
        "good kept",
        "it does not use `plan`",
        "`good` does not use `plan`, which the prompt of `swot` used",
        "--promote good --allow-dropped-inputs",
    ]);
    assert_eq!(space.read("prompts/swot.md"), before);
    let out = space.run(&["optimize", "swot", "--promote", "--json"]).exits(2).json();
    assert_eq!(out["error"]["code"], "dropped_inputs", "{out}");
    assert_eq!((out["best"].as_str(), out["dropped_inputs"][0].as_str()), (Some("good"), Some("plan")));
    let told = space.run(&["optimize", "swot"]).exits(0);
    told.says(&["next: planexe optimize swot --promote good --allow-dropped-inputs"]);
    space.run(&["optimize", "swot", "--promote", "good"]).exits(2).says(&["does not use `plan`"]);
    assert_eq!(space.read("prompts/swot.md"), before);
    space.run(&["optimize", "swot", "--promote", "good", "--allow-dropped-inputs"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), wow);
    // The way back is always open.
    space.run(&["optimize", "swot", "--promote", "current"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), before);
}

#[test]
fn what_the_system_prompt_or_the_list_of_inputs_shows_is_not_lost() {
    let server = server();
    let space = space(&server);
    space.edit("pipeline.toml", "prompts/swot.md\"", "prompts/swot.md\"\nsystem = \"About {{ plan }}\"");
    let all = "TASK=swot\nWow. SCORE=0.9 {{ purpose }}\n";
    space.write("prompts/variants/swot/good.md", all);
    space.build().exits(0);
    space.run(&["optimize", "swot", "--promote"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), all);
    let list = "TASK=swot\nList. SCORE=1.0 {% for one in inputs %}{{ one.text }}{% endfor %}\n";
    space.write("prompts/variants/swot/good.md", list);
    space.run(&["optimize", "swot", "--promote"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), list);
}

#[test]
fn a_program_that_scores_runs_as_in_a_build_of_each_run() {
    let server = server();
    let space = Space::with(
        &server,
        &PIPELINE.replace(
            PIPELINE.lines().find(|line| line.contains("TASK=judge")).expect("an evaluator"),
            "command = [\"tools/score.sh\", \"$in\"]\nthreshold = 0.0",
        ),
    );
    // It is found in the pipeline's folder, reads a file of the run by its name, and sees what it sees in a build.
    let score = "#!/bin/sh\ntest -f \"$1\" || exit 3\necho \"$(pwd) $PLANEXE_PIPELINE_DIR $OWN $(cat bonus.txt)\" >> \"$PLANEXE_PIPELINE_DIR/seen.log\"\nprintf '{\"score\": %s, \"notes\": \"\"}' \"$(cat bonus.txt)\"\n";
    space.write("tools/score.sh", score);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path("tools/score.sh"), mode).expect("a mode");
    space.write("prompts/swot.md", prompt("0.7", "Write a SWOT."));
    space.write("other.md", prompt("0.9", "Write a good SWOT."));
    for (run, bonus) in [("a", "0.4"), ("b", "0.6")] {
        space.write(&format!("{run}/run.toml"), "pipeline = \"../pipeline.toml\"\n");
        space.write(&format!("{run}/plan.txt"), format!("Plan {run}.\n"));
        space.write(&format!("{run}/bonus.txt"), bonus);
        space.run(&["-C", run, "build", "-s"]).exits(0);
    }
    let built = space.read("seen.log");
    space.write("seen.log", "");
    let args = ["-C", "a", "optimize", "swot", "--variant", "other.md", "--run", "a", "--run", "b", "--json"];
    let out = space.run(&args).exits(0).json();
    assert_eq!(out["results"][0]["mean"].as_f64(), Some(0.5), "{out}");
    let tried = space.read("seen.log");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(lines(&tried), lines(&built));
    assert_eq!(tried.lines().count(), 4);
}

#[test]
fn the_example_of_prompts_does_what_its_page_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prompts");
    let space = Space::new();
    for path in [
        "pipeline.toml",
        "plan.md",
        "tunnel/run.toml",
        "tunnel/plan.md",
        "prompts/risks.md",
        "prompts/variants/risks/owners.md",
        "prompts/variants/risks/measures.md",
    ] {
        space.write(path, std::fs::read(folder.join(path)).expect(path));
    }
    for script in ["model.sh", "score.sh", "judge.sh"] {
        std::fs::copy(folder.join(script), space.path(script)).expect(script);
    }
    space.build().exits(0);
    let both = ["optimize", "risks", "--run", ".", "--run", "tunnel", "--json"];
    let out = space.run(&both).exits(0).json();
    assert_eq!(out["best"], "measures", "{out}");
    let page = include_str!("../../docs/optimize.md");
    let part = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    for name in
        [&out, &out["results"][0]].into_iter().flat_map(|it| it.as_object().expect("an object").keys())
    {
        assert!(page.split(part).any(|word| word == name), "docs/optimize.md does not name `{name}`");
    }
    // It goes into git with the texts, and says nothing of whose machine it was.
    let id = out["experiment"].as_str().expect("an experiment");
    let config: serde_json::Value =
        serde_json::from_str(&space.read(&format!("experiments/risks/{id}/config.json"))).expect("JSON");
    let dirs: Vec<_> = config["runs"].as_array().expect("runs").iter().map(|run| &run["dir"]).collect();
    assert_eq!(dirs, [".", "tunnel"]);
    let compared =
        space.run(&["optimize", "risks", "--run", ".", "--run", "tunnel", "--compare", "pairwise"]);
    compared.exits(0).says(&[
        "measures kept: won 2, tied 0, lost 0",
        "compared 6 pairs in both orders; they disagreed in 0",
    ]);
    let promoted = space.run(&["optimize", "risks", "--promote", "measures"]).exits(0);
    promoted.says(&["2 answers given", "stale by it: risks, page"]);
    let before = space.lines("usage_metrics.jsonl").len();
    space.build().exits(0);
    assert_eq!(space.lines("usage_metrics.jsonl").len(), before, "no call");
    assert!(space.read("risks.md").contains("Measure:"));
}

#[test]
fn a_task_asks_the_models_of_its_tier_and_then_those_above() {
    let server =
        FakeLlm::scripted(|call: &ChatRequest| match (call.task.as_str(), call.body["model"].as_str()) {
            // What the small one cannot do goes to the large one.
            ("hard", Some("small-1")) => Answer::error(400, "cannot"),
            _ => Answer::Text(format!("by {}", call.body["model"])),
        });
    let tasks = |easy: &str| {
        let model = |name: &str| {
            let url = server.base_url();
            format!("[models.{name}]\napi = \"openai\"\nbase_url = \"{url}\"\nmodel = \"{name}-1\"\n")
        };
        let task = |name: &str, keys: &str| {
            format!("[task.{name}]\noutputs = [\"{name}.md\"]\nprompt = \"TASK={name}\\nDo it.\"\n{keys}\n")
        };
        let tiers = "[tiers]\nlow = { model = \"small\", up_to = 8 }\nhigh = { model = [\"large\"] }\n";
        model("small") + &model("large") + tiers + &task("easy", easy) + &task("hard", "tier = \"low\"")
    };
    let space = Space::new();
    let easy = "complexity = { reasoning = 2, domain = 2, context = 2, output = 2 }";
    space.write("pipeline.toml", tasks(easy));
    let planned = space.run(&["build", "-n", "-v"]).exits(0);
    planned.says(&["easy  small (tier low)", "tier `low`, as its complexity is 8", "its tier is `low`"]);
    let planned = space.run(&["build", "-n", "--json"]).exits(0).json();
    let asks = &planned["levels"][0][0]["asks"];
    assert_eq!(
        (asks["by"].as_str(), asks["complexity"]["sum"].as_u64()),
        (Some("complexity"), Some(8)),
        "{planned}"
    );
    assert_eq!(asks["models"][1], serde_json::json!({ "name": "large", "model": "large-1" }));
    let other = space.run(&["build", "-n", "--model", "large", "--json"]).exits(0).json();
    assert_eq!(other["levels"][0][0]["asks"]["by"], "option", "{other}");
    space.build().exits(0);
    assert_eq!(space.read("easy.md").trim(), "by \"small-1\"");
    assert_eq!(space.read("hard.md").trim(), "by \"large-1\"");
    // A profile gives a tier another model; what the tier takes stays as it is.
    space.write("pipeline.toml", tasks(easy) + "[profiles.big.tiers]\nlow = { model = \"large\" }\n");
    let other = space.run(&["build", "-n", "-B", "-v", "--profile", "big"]).exits(0);
    other.says(&["easy  large (tier low)", "tier `low`, as its complexity is 8"]);
    space.write("pipeline.toml", tasks(easy));
    let told = space.run(&["complexity", "--json"]).exits(0).json();
    let rows = told["tasks"].as_array().unwrap();
    assert_eq!((rows[0]["complexity"].as_u64(), rows[0]["tier"].as_str()), (Some(8), Some("low")), "{told}");
    assert_eq!(rows[0]["models"], serde_json::json!(["small", "large"]));
    assert_eq!((rows[0]["calls"].as_u64(), rows[1]["calls"].as_u64()), (Some(1), Some(2)), "{told}");
    let easy = space.run(&["explain", "easy"]).exits(0);
    easy.says(&[
        "Asks small (small-1), then large (large-1): tier `low`, as its complexity is 8 (reasoning 2,",
    ]);
    // Another complexity is another model, and makes nothing stale.
    space
        .write("pipeline.toml", tasks("complexity = { reasoning = 5, domain = 5, context = 5, output = 5 }"));
    space.run(&["build", "-q"]).exits(0);
    let told = space.run(&["complexity", "--json"]).exits(0).json();
    assert_eq!(told["tasks"][0]["models"], serde_json::json!(["large"]));
    for (keys, words) in [
        ("tier = \"lo\"", &["no tier is called `lo`", "low"][..]),
        ("tier = \"low\"\nmodel = \"small\"", &["has `model` and `tier`"]),
        (
            "complexity = { reasoning = 6, domain = 1, context = 1, output = 1 }",
            &["`reasoning` is 6", "1 (easy) to 5"],
        ),
    ] {
        space.write("pipeline.toml", tasks(keys));
        space.run(&["check"]).exits(2).says(words).says(&["pipeline.toml:"]);
    }
}
