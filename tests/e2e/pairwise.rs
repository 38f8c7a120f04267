//! Prompts compared by a judge that is shown two answers in both orders, and repeated draws. Every call is counted, of
//! the task (`swot`), of its evaluator (`judge`) and of who compares (`which`).

use serde_json::{Value, json};

use crate::support::{Answer, ChatRequest, FakeLlm, Space};

const PIPELINE: &str = r##"
[optimize]
compare = "pairwise"
judge   = "TASK=which\nFIRST {{ first }}\nSECOND {{ second }}\nOF {{ plan }} {{ task }}"

[task.swot]
inputs  = { plan = "plan.txt" }
outputs = ["swot.md"]
prompt  = "prompts/swot.md"
"##;

fn worth(text: &str) -> f64 {
    text.split("SCORE=").nth(1).and_then(|rest| rest[..3].parse().ok()).unwrap_or(0.0)
}

/// A server whose judge prefers the higher `SCORE=` of two answers, wherever it stands.
fn server() -> FakeLlm {
    FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" => Answer::Text(verdict(&call.prompt)),
        "swot" => {
            Answer::Text(format!("A SWOT worth SCORE={:.1} of {}", worth(&call.prompt), call.prompt.len()))
        }
        _ => Answer::Default,
    })
}

fn verdict(asked: &str) -> String {
    let (first, second) = asked.split_once("SECOND").expect("two answers");
    let winner = match worth(first) - worth(second) {
        more if more > 0.0 => "first",
        less if less < 0.0 => "second",
        _ => "tie",
    };
    said(winner)
}

fn said(winner: &str) -> String {
    json!({ "reason": format!("{winner} is better"), "winner": winner }).to_string()
}

fn prompt(score: &str, words: &str) -> String {
    format!("TASK=swot\n{words} SCORE={score} {{{{ plan }}}}\n")
}

fn space(server: &FakeLlm) -> Space {
    let space = Space::with(server, PIPELINE);
    space.write("plan.txt", "A bridge.\n");
    space.write("prompts/swot.md", prompt("0.5", "Write a SWOT."));
    space.write("prompts/variants/swot/good.md", prompt("0.9", "Write a good SWOT."));
    space.write("prompts/variants/swot/bad.md", prompt("0.2", "Write."));
    space
}

fn row<'a>(view: &'a Value, name: &str) -> &'a Value {
    view["results"].as_array().unwrap().iter().find(|row| row["variant"] == name).expect(name)
}

fn calls(server: &FakeLlm) -> (usize, usize) {
    (server.count("swot"), server.count("which"))
}

#[test]
fn who_wins_in_both_orders_is_kept_and_every_comparison_is_paid_once() {
    let server = server();
    let space = space(&server);
    // Three texts, and three pairs in two orders; no evaluator is needed.
    let told = space.run(&["optimize", "swot", "-n"]).exits(0);
    told.says(&["3 trials and 3 comparisons", "9 calls"]);
    assert_eq!(calls(&server), (0, 0));
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!(calls(&server), (3, 6));
    assert_eq!(
        (out["best"].as_str(), out["kept"].as_bool(), out["state"].as_str()),
        (Some("good"), Some(true), Some("complete")),
        "{out}"
    );
    let good = row(&out, "good");
    assert_eq!(
        (good["wins"].as_u64(), good["losses"].as_u64(), good["share"].as_f64()),
        (Some(2), Some(0), Some(1.0))
    );
    assert!(good["elo"].as_f64() > row(&out, "current")["elo"].as_f64());
    assert!(row(&out, "current")["elo"].as_f64() > row(&out, "bad")["elo"].as_f64());
    assert_eq!(
        out["bias"],
        json!({ "comparisons": 3, "disagreed": 0, "first": 0, "second": 0, "unusable": 0, "unasked": 0 })
    );
    // The judge is told neither names nor folders, and sees the task's inputs.
    let asked = server.calls().into_iter().filter(|call| call.task == "which").collect::<Vec<_>>();
    assert!(asked.iter().all(|call| call.prompt.contains("OF A bridge.") && call.prompt.ends_with("swot")));
    assert!(asked.iter().all(|call| !call.prompt.contains("good") && !call.prompt.contains("current")));
    let lines = space.lines(&format!("experiments/swot/{}/pairs.jsonl", out["experiment"].as_str().unwrap()));
    assert_eq!(lines.len(), 3);
    assert!(
        lines.iter().all(|line| line["a_first"] != line["b_first"] && line["winner"] != "tie"),
        "{lines:?}"
    );

    // Again, and with a further text: only what is new is compared.
    let again = space.run(&["optimize", "swot"]).exits(0);
    again.says(&["good kept", "compared 3 pairs in both orders; they disagreed in 0"]);
    assert_eq!(calls(&server), (3, 6));
    space.write("prompts/variants/swot/best.md", prompt("1.0", "Write the best SWOT."));
    space.run(&["optimize", "swot", "-n"]).exits(0).says(&["1 trial and 3 comparisons", "7 calls"]);
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!((calls(&server), out["best"].as_str()), ((4, 12), Some("best")), "{out}");
    // What is kept is promoted as ever.
    space.run(&["optimize", "swot", "--promote", "best"]).exits(0);
    assert_eq!(space.read("prompts/swot.md"), prompt("1.0", "Write the best SWOT."));
    space.run(&["optimize", "swot", "--promote", "good"]).exits(2).says(&["`good` was not kept"]);
}

#[test]
fn a_judge_that_always_takes_the_first_decides_nothing() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" => Answer::Text(said("first")),
        "swot" => Answer::Text(format!("A SWOT worth {}", worth(&call.prompt))),
        _ => Answer::Default,
    });
    let space = space(&server);
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!(
        (out["kept"].as_bool(), out["bias"]["disagreed"].as_u64(), out["bias"]["first"].as_u64()),
        (Some(false), Some(3), Some(3)),
        "{out}"
    );
    for name in ["current", "good", "bad"] {
        let row = row(&out, name);
        assert_eq!((row["ties"].as_u64(), row["elo"].as_f64()), (Some(2), Some(1000.0)), "{row}");
    }
    space
        .run(&["optimize", "swot"])
        .exits(0)
        .says(&["they disagreed in 3, 3 times for the answer shown first"]);
    assert_eq!(calls(&server), (3, 6));
}

#[test]
fn a_kill_among_the_comparisons_costs_only_the_calls_in_flight() {
    let server = server();
    let space = space(&server);
    server.hold("which");
    let running = space.spawn(&["optimize", "swot", "-j", "1"]);
    server.wait_for_calls("which", 1);
    running.kill9();
    server.release("which");
    server.wait_for_quiet();
    assert_eq!(calls(&server), (3, 1));
    // Killed again, once some verdicts are there: a stop after four calls.
    let out = space.run(&["optimize", "swot", "-j", "1", "--max-calls", "4", "--json"]).exits(3).json();
    assert_eq!((out["state"].as_str(), out["kept"].as_bool()), (Some("stopped"), Some(false)), "{out}");
    assert!(!out["missing"].as_array().unwrap().is_empty(), "{out}");
    assert_eq!(calls(&server), (3, 5));
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    // Six verdicts, and the one that was in flight.
    assert_eq!((calls(&server), out["best"].as_str()), ((3, 7), Some("good")), "{out}");
    space.run(&["optimize", "swot"]).exits(0);
    assert_eq!(calls(&server), (3, 7));
    // The folder of verdicts is gone: they are taken from the kept answers.
    std::fs::remove_dir_all(space.path("experiments/swot/pairs")).unwrap();
    space.run(&["optimize", "swot"]).exits(0).says(&["good kept"]);
    assert_eq!(calls(&server), (3, 7));
}

#[test]
fn the_same_answer_and_one_that_failed_are_not_shown_to_the_judge() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" => Answer::Text(verdict(&call.prompt)),
        "swot" if call.prompt.contains("good") => Answer::Text("{\"a\": \"SCORE=0.9\"}".into()),
        "swot" if call.prompt.contains("Write.") => Answer::Text("prose".into()),
        "swot" => Answer::Text("{\"a\": \"SCORE=0.9\"}".into()),
        _ => Answer::Default,
    });
    let space = space(&server);
    space.edit(
        "pipeline.toml",
        "[\"swot.md\"]",
        "[\"swot.json\"]\nschema = \"schema.json\"\nmax_validation_retries = 0",
    );
    space.write("schema.json", "{\"type\": \"object\", \"required\": [\"a\"]}");
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!((calls(&server), out["bias"]["unasked"].as_u64()), ((3, 0), Some(3)), "{out}");
    assert_eq!((row(&out, "good")["wins"].as_u64(), row(&out, "good")["ties"].as_u64()), (Some(1), Some(1)));
    assert!(row(&out, "bad")["why"].as_str().unwrap().contains("fails on"), "{out}");
    assert_eq!(out["kept"], false);
}

#[test]
fn a_judge_without_a_usable_verdict_makes_a_tie_and_one_that_is_away_is_asked_again() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" if call.prompt.contains("0.2") => Answer::Text("I like both.".into()),
        "which" if call.nth < 1 => Answer::error(401, "no key"),
        "which" => Answer::Text(verdict(&call.prompt)),
        "swot" => Answer::Text(format!("A SWOT worth SCORE={:.1}", worth(&call.prompt))),
        _ => Answer::Default,
    });
    let space = space(&server);
    let bad = ["optimize", "swot", "--variant", "prompts/variants/swot/good.md", "--json"];
    let out = space.run(&bad).exits(1).json();
    assert_eq!((out["state"].as_str(), out["kept"].as_bool()), (Some("incomplete"), Some(false)), "{out}");
    assert_eq!(out["missing"][0]["class"], "auth", "{out}");
    let out = space.run(&bad).exits(0).json();
    assert_eq!((out["best"].as_str(), server.count("swot")), (Some("good"), 2), "{out}");
    let out = space.run(&["optimize", "swot", "--json"]).exits(0).json();
    assert_eq!((out["bias"]["unusable"].as_u64(), out["best"].as_str()), (Some(2), Some("good")), "{out}");
    let asked = calls(&server);
    space.run(&["optimize", "swot"]).exits(0).says(&["2 without a usable verdict"]);
    assert_eq!(calls(&server), asked);
}

#[test]
fn every_item_of_a_fan_out_is_compared() {
    let server = server();
    let space = space(&server);
    space.edit(
        "pipeline.toml",
        "inputs  = { plan = \"plan.txt\" }",
        "foreach = { file = \"items.json\", key = \"n\" }\ninputs  = { plan = \"plan.txt\" }",
    );
    space.edit("pipeline.toml", "swot.md\"]", "{{ key }}.md\"]");
    space.edit("pipeline.toml", "{{ task }}", "{{ task }} {{ item.n }}");
    space.write("items.json", "[{\"n\": \"a\"}, {\"n\": \"b\"}]");
    space.write("prompts/variants/swot/bad.md", prompt("0.2", "Write."));
    let optimize = ["optimize", "swot", "--variant", "prompts/variants/swot/good.md"];
    let told = space.run(&[&optimize[..], &["-n", "--json"]].concat()).exits(0).json();
    let expected = &told["expected"];
    assert_eq!((&expected["comparisons"], &expected["calls"]), (&2.into(), &8.into()), "{told:#}");
    let out = space.run(&[&optimize[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(calls(&server), (4, 4));
    assert_eq!((row(&out, "good")["wins"].as_u64(), out["best"].as_str()), (Some(2), Some("good")), "{out}");
    space.run(&[&optimize[..], &["-n"]].concat()).exits(0).says(&["Nothing would be asked"]);
    space.run(&optimize).exits(0);
    assert_eq!(calls(&server), (4, 4));
}

#[test]
fn what_a_judge_cannot_do_is_said_before_anything_is_asked() {
    let server = server();
    let space = space(&server);
    let former = space.read("pipeline.toml");
    for (from, to, words) in [
        ("SECOND {{ second }}", "SECOND", &["does not show `{{ second }}`", "judge"][..]),
        ("{{ plan }} {{ task }}", "{{ plain }}", &["plain"]),
        (
            "{ plan = \"plan.txt\" }",
            "{ plan = \"plan.txt\", first = \"plan.txt\" }",
            &["an input of `swot` is called `first`"],
        ),
        ("judge   =", "judge_model = \"fakes\"\njudge   =", &["unknown model `fakes`", "pipeline.toml:"]),
        ("judge   =", "samples = 0\njudge   =", &["samples", "pipeline.toml:"]),
        ("judge   =", "margin = 7.0\njudge   =", &["margin", "pipeline.toml:"]),
        ("\"pairwise\"", "\"pairs\"", &["pairwise"]),
    ] {
        space.edit("pipeline.toml", from, to);
        space.run(&["optimize", "swot"]).exits(2).says(words);
        space.write("pipeline.toml", &former);
    }
    assert_eq!(calls(&server), (0, 0));
    // Without an evaluator there is this way only, and it is named.
    space.run(&["optimize", "swot", "--compare", "scores"]).exits(2).says(&["--compare pairwise"]);
}

/// Scores of the draws of `swot`: the fourth decimal counts the calls.
fn drawing(scores: fn(&str, usize) -> f64) -> FakeLlm {
    FakeLlm::scripted(move |call: &ChatRequest| match call.task.as_str() {
        "swot" => {
            let score = scores(&call.prompt, call.nth);
            Answer::Text(format!("SCORE={score:.1} {}", call.nth))
        }
        "judge" => Answer::Text(json!({ "score": worth(&call.prompt), "notes": "" }).to_string()),
        _ => Answer::Default,
    })
}

fn scored(server: &FakeLlm) -> Space {
    let space = space(server);
    let eval = "\n[task.swot.eval]\nprompt = \"TASK=judge\\n{{ answer }}\"\nthreshold = 0.1\n";
    space.write("pipeline.toml", space.read("pipeline.toml").replace("pairwise", "scores") + eval);
    space
}

#[test]
fn draws_show_the_spread_and_what_may_be_noise_keeps_nobody() {
    // Each text gets a little more and a little less, in turn; `good` is better by far, and `bad` by nothing but luck.
    let server = drawing(|prompt, nth| {
        let middle = if prompt.contains("good") { 0.8 } else { 0.4 };
        middle + [0.1, 0.0, -0.1][nth % 3]
    });
    let space = scored(&server);
    let one = space.run(&["optimize", "swot", "-j", "1", "--json"]).exits(0).json();
    assert_eq!(server.count("swot"), 3);
    assert_eq!((&one["samples"], &row(&one, "good")["spread"]), (&json!(1), &Value::Null), "{one}");
    let out = space.run(&["optimize", "swot", "-j", "1", "--samples", "3", "--json"]).exits(0).json();
    // The first draws are there.
    assert_eq!((server.count("swot"), server.count("judge")), (9, 9));
    let (good, bad) = (row(&out, "good"), row(&out, "bad"));
    assert_eq!((good["decision"].as_str(), good["noise"].as_bool()), (Some("kept"), Some(false)), "{out}");
    assert_eq!((bad["decision"].as_str(), bad["noise"].as_bool()), (Some("reverted"), Some(true)), "{out}");
    assert!(good["spread"].as_f64().unwrap() > 0.0 && good["gain_low"].as_f64().unwrap() > 0.0, "{good}");
    assert_eq!(one["experiment"], out["experiment"], "further draws are of the same experiment");
    let again = space.run(&["optimize", "swot", "--samples", "3"]).exits(0);
    again.says(&["spread", "it may be noise alone", "reverted (noise)"]);
    assert_eq!((server.count("swot"), server.count("judge")), (9, 9));
    space.run(&["optimize", "swot", "--show"]).exits(0).says(&["reverted (noise)"]);
    space.run(&["optimize", "swot", "--promote", "good"]).exits(0).says(&["is the prompt now"]);
}

#[test]
fn draws_are_compared_one_by_one_and_three_wins_are_not_enough() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" => Answer::Text(verdict(&call.prompt)),
        // Another answer each time, but for what is written in stone.
        "swot" if call.prompt.contains("stone") => Answer::Text("SCORE=1.0".into()),
        _ => Answer::Text(format!("SCORE={:.1} {}", worth(&call.prompt), call.nth)),
    });
    let space = space(&server);
    let with = |samples: &'static str| {
        let args = [
            "optimize",
            "swot",
            "--variant",
            "prompts/variants/swot/good.md",
            "--samples",
            samples,
            "--json",
        ];
        space.run(&args).exits(0).json()
    };
    let out = with("3");
    assert_eq!(calls(&server), (6, 6));
    let good = row(&out, "good");
    assert_eq!((good["wins"].as_u64(), good["noise"].as_bool()), (Some(3), Some(true)), "{out}");
    let out = with("4");
    assert_eq!(calls(&server), (8, 8));
    assert_eq!(
        (out["best"].as_str(), row(&out, "good")["noise"].as_bool()),
        (Some("good"), Some(false)),
        "{out}"
    );
    // The same two answers are one comparison, however often they were drawn.
    space.write("prompts/swot.md", prompt("1.0", "In stone."));
    space.write("prompts/variants/swot/good.md", prompt("1.0", "In stone too, and longer."));
    space.write("pipeline.toml", space.read("pipeline.toml").replace("{{ plan }} {{ task }}", "stone"));
    let out = with("4");
    assert_eq!(
        (out["bias"]["unasked"].as_u64(), row(&out, "good")["ties"].as_u64()),
        (Some(4), Some(4)),
        "{out}"
    );
}

#[test]
fn scores_and_comparisons_share_their_answers() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        "which" => Answer::Text(verdict(&call.prompt)),
        "judge" => Answer::Text(json!({ "score": worth(&call.prompt), "notes": "" }).to_string()),
        _ => Answer::Text(format!("SCORE={:.1}", worth(&call.prompt))),
    });
    let space = scored(&server);
    let all = || (server.count("swot"), server.count("judge"), server.count("which"));
    space.run(&["optimize", "swot"]).exits(0).says(&["good kept"]);
    assert_eq!(all(), (3, 3, 0));
    space.run(&["optimize", "swot", "--compare", "pairwise"]).exits(0).says(&["good kept", "in both orders"]);
    assert_eq!(all(), (3, 3, 6));
    space.run(&["optimize", "swot"]).exits(0).says(&["good kept"]);
    space.run(&["optimize", "swot", "--compare", "pairwise"]).exits(0);
    assert_eq!(all(), (3, 3, 6));
    space.run(&["optimize", "--list"]).exits(0).says(&["swot"]);
}

#[test]
fn what_was_paid_for_is_not_taken_for_rubbish_nor_for_an_input() {
    let server = server();
    let space = space(&server);
    let all =
        "\n[task.all]\ninputs = { all = \"**/*.md\" }\noutputs = [\"all.txt\"]\ntemplate = \"{{ all }}\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + all);
    space.build().exits(0);
    space.run(&["optimize", "swot"]).exits(0);
    let before = calls(&server);
    // In a clone the records are missing, and nothing of the rest is an input all the same.
    let ignored = space.read("experiments/swot/.gitignore");
    for name in [".planexe", "cells", "inputs", "pairs"] {
        assert!(ignored.contains(&format!("/{name}/")), "{ignored}");
    }
    space.run(&["build", "-q"]).exits(0);
    std::fs::rename(space.path("experiments/swot/.planexe"), space.path("aside")).unwrap();
    space.run(&["build", "-q"]).exits(0);
    std::fs::rename(space.path("aside"), space.path("experiments/swot/.planexe")).unwrap();
    let trials = |args: &[&str]| space.run(&[&["-C", "experiments/swot"], args].concat());
    trials(&["gc", "--older-than", "0s"]).exits(2).says(&["paid for", "variants/"]);
    trials(&["clean", "--orphans", "-y"]).exits(0);
    trials(&["doctor"]).says(&["orphans", "none"]);
    trials(&["status"]).exits(0);
    space.run(&["gc", "--older-than", "0s"]).exits(0);
    space.run(&["clean", "--orphans", "-y"]).exits(0);
    space.run(&["optimize", "swot"]).exits(0).says(&["good kept"]);
    assert_eq!(calls(&server), before);
    let listed = space.run(&["optimize", "--list", "--json"]).exits(0).json();
    assert!(listed["bytes"].as_u64().unwrap() > 1000, "{listed}");
}

/// Who writes the next text is told how the champion fared, and why, and gets no scores.
#[test]
fn a_model_that_writes_texts_is_told_what_the_judge_said() {
    let server = FakeLlm::scripted(|call: &ChatRequest| match call.task.as_str() {
        // What it is shown holds the prompt, and with it the task's name.
        "ask" => Answer::Text(prompt("0.7", "Try anew.")),
        "which" => Answer::Text(verdict(&call.prompt)),
        _ => Answer::Text(format!("A SWOT worth SCORE={:.1} of {}", worth(&call.prompt), call.prompt.len())),
    });
    let space = space(&server);
    space.edit(
        "pipeline.toml",
        "[optimize]\n",
        "[optimize]\npropose = \"TASK=ask\\n{{ brief.compare }}: {{ brief.results }} {{ brief.mean }}\"\n",
    );
    let variants = ["--variant", "prompts/variants/swot/bad.md"];
    let args =
        [&["optimize", "swot"][..], &variants, &["--propose", "1", "--rounds", "2", "--json"]].concat();
    let out = space.run(&args).exits(0).json();
    assert_eq!((out["best"].as_str(), out["kept"].as_bool()), (Some("p2"), Some(true)), "{out}");
    let asked: Vec<_> = server.calls().into_iter().filter(|call| call.task == "ask").collect();
    let prompts: Vec<_> = asked.iter().map(|call| call.prompt.as_str()).collect();
    assert_eq!(prompts.len(), 2);
    assert!(prompts.iter().all(|asked| asked.contains("pairwise: ")), "{prompts:?}");
    assert!(prompts[1].contains("won: ") && prompts[1].contains("second is better"), "{prompts:?}");
}
