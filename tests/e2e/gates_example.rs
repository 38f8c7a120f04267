//! `examples/gates`: six gates, each of which lets good data pass and warns, stops or waits where it is bad.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{FakeLlm, Space, until};

/// A run of the example as it is shipped.
fn example() -> Space {
    let space = Space::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gates"), &space, "");
    space
}

/// What the repository has of a folder: no build's outputs.
fn copy(from: &Path, space: &Space, under: &str) {
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("a name");
        match (entry.path().is_dir(), under) {
            (true, "") if ["gates", "words", "evidence"].contains(&name.as_str()) => {
                copy(&entry.path(), space, &format!("{name}/"));
            }
            (false, _) if !name.ends_with(".DONE") && !name.ends_with(".status") => {
                space.write(&format!("{under}{name}"), fs::read(entry.path()).expect("a file"));
            }
            _ => {}
        }
    }
    for made in ["claims.json", "estimates.json", "levers.json", "plan.md", "budget.md", "report.md"] {
        let _ = fs::remove_file(space.path(made));
    }
}

/// How many calls the run has made.
fn calls(space: &Space) -> usize {
    space.lines("usage_metrics.jsonl").len()
}

#[track_caller]
fn nothing_to_do(space: &Space) {
    let before = (calls(space), space.visible());
    let out = space.build().says(&["everything is up to date"]);
    assert_eq!(calls(space), before.0, "{out}");
    space.visible().assert_same_as(&before.1, &out);
}

#[test]
fn good_data_passes_all_six() {
    let space = example();
    space.run(&["check", "--strict"]).exits(0);
    space.build();
    for gate in ["drift", "evidence", "fermi", "redteam", "words"] {
        let found = space.json(&format!("gate/{gate}.json"));
        assert_eq!((&found["passed"], &found["message"]), (&json!(true), &Value::Null), "{gate}: {found}");
    }
    assert_eq!(space.json("prompt/boost_change_log.json")["boosted"], false);
    assert_eq!(space.read("prompt/raw_prompt.txt"), space.read("plan.txt"));
    assert_eq!(space.read("prompt/boosted_prompt.txt"), space.read("plan.txt"));
    let report = space.report();
    assert_eq!(report["quality_summary"]["complete"], true, "{report}");
    assert_eq!(report["quality_summary"].get("warned"), None);
    nothing_to_do(&space);
}

/// A gate, its file, what it does as it is shipped, how its data are spoiled, and what it then says.
type Row = (&'static str, &'static str, &'static str, fn(&Space), &'static [&'static str]);

const ROWS: [Row; 5] = [
    (
        "fermi_gate",
        "fermi",
        "stop",
        |space| {
            space.edit("estimates.json", "\"upper\": 90", "\"upper\": 9000");
            space.edit("estimates.json", "\"What the tram museum next door lost in 2025\"", "\"\"");
        },
        &[
            "2 of 4 estimates do not hold",
            "repairs spans 200 times",
            "stolen is of low confidence and rests on nothing",
        ],
    ),
    (
        "evidence_gate",
        "evidence",
        "pause",
        |space| {
            space.write("evidence/rent_offer.md", "EUR 1,690 a month.\n");
            space.remove("evidence/popup_count.csv");
        },
        &[
            "linked to 60.0 % of the claims (80 wanted)",
            "evidence/rent_offer.md (claim 88681a63f95b) changed since it was checked on 2026-09-01",
            "evidence/popup_count.csv (claim 7e6e1ed8a500) is not there",
        ],
    ),
    (
        "redteam_gate",
        "redteam",
        "pause",
        |space| {
            for who in ["banker", "neighbour"] {
                let path = format!("redteam/verdicts/{who}.json");
                let text =
                    space.read(&path).replace("\"stands\"", "\"falls\"").replace("\"weakened\"", "\"falls\"");
                space.write(&path, text);
            }
        },
        &["resilience is 26.5 of 100", "4 challenges stand against it"],
    ),
    (
        "drift_gate",
        "drift",
        "warn",
        |space| {
            let seen = space.read("observations.jsonl");
            space.write(
                "observations.jsonl",
                format!("{seen}{{\"id\": \"rent\", \"value\": 1690}}\n{{\"id\": \"rate\", \"value\": 44}}\n"),
            );
        },
        &[
            "no longer hold",
            "Rent is red, about 1667.5 EUR a month where 1450 was assumed",
            "Hourly rate is yellow",
        ],
    ),
    (
        "words_gate",
        "words",
        "warn",
        |space| {
            let ban = space.read("words/ban.txt");
            space.write("words/ban.txt", format!("{ban}tram shed\n"));
        },
        &["plan.md says tram shed"],
    ),
];

#[test]
fn bad_data_warns_stops_or_waits() {
    for (gate, file, shipped, spoil, words) in ROWS {
        for action in ["warn", "stop", "pause"] {
            let space = example();
            let toml = format!("gates/{file}.toml");
            space.edit(&toml, &format!("action  = \"{shipped}\""), &format!("action  = \"{action}\""));
            space.build();
            spoil(&space);
            let code = match action {
                "warn" => 0,
                "stop" => 1,
                _ => 3,
            };
            space.run(&["build"]).exits(code).says(words);
            let status = space.status(gate);
            let said = match action {
                "warn" => &status["warning"],
                "stop" => &status["failure"]["message"],
                _ => &status["doing"],
            };
            let said = said.as_str().unwrap_or_default();
            assert!(words.iter().all(|word| said.contains(word)), "{gate}, {action}: {status:#}");
            space.run(&["status"]).exits(0).says(&words[..1]);
            space.run(&["explain", gate]).exits(0).says(&words[..1]);
            let state = ["done", "failed", "waiting"]
                [["warn", "stop", "pause"].iter().position(|it| *it == action).unwrap()];
            assert_eq!(space.state(gate), state);
            match action {
                "warn" => {
                    assert_eq!(space.report()["quality_summary"]["warned"], json!([gate]));
                    assert!(space.read("report.md").contains(words[0]), "{gate}");
                }
                "stop" => {
                    space.run(&["done", gate]).exits(2);
                    space.run(&["build"]).exits(1).says(&words[..1]);
                    continue;
                }
                _ => {
                    assert!(!space.read("report.md").contains("passed by a person"));
                    space.run(&["done", gate]).exits(0);
                    space.build();
                    assert!(space.read("report.md").contains("passed by a person"));
                    assert!(
                        space.status(gate)["warning"].as_str().is_some_and(|it| it.contains("(passed by "))
                    );
                }
            }
            nothing_to_do(&space);
        }
    }
}

#[test]
fn doubts_warn_and_do_not_stop() {
    let space = example();
    space.build();
    space.edit("estimates.json", "\"upper\": 90,", "\"upper\": 3000,");
    space.edit("evidence.toml", "level = 1\n", "level = 1\ndisputed = \"nobody wrote the meeting down\"\n");
    space.build().says(&[
        "warning: fermi_gate:",
        "repairs spans 67 times",
        "warning: evidence_gate:",
        "is disputed: nobody",
    ]);
    let report = space.json("fermi/report.json");
    assert_eq!(
        (&report["pass"], &report["pass_rate_pct"], &report["warned"]),
        (&json!(true), &json!(100.0), &json!(1))
    );
    let warned = &space.report()["quality_summary"]["warned"];
    assert_eq!(warned, &json!(["evidence_gate", "fermi_gate"]));
    nothing_to_do(&space);
}

/// The day is an input: nothing ages by itself, and the same day gives the same ledger.
#[test]
fn evidence_ages_with_the_day_it_is_told() {
    let space = example();
    space.build();
    let ledger = space.read("ledger/ledger.jsonl");
    let fresh =
        |n: usize| -> f64 { space.lines("ledger/ledger.jsonl")[n]["freshness"].as_f64().expect("a number") };
    assert_eq!(fresh(2), 0.619, "83 days of a half-life of 120");
    let before = calls(&space);
    let out = space.run(&["build", "-D", "today=2027-06-01"]).exits(0);
    out.says(&["evidence/rent_offer.md (claim 88681a63f95b) is 273 days old, with a half-life of 120"])
        .says_nothing_of(&["changed since", "city_grant"]);
    assert_eq!(space.lines("ledger/ledger.jsonl")[2]["status"], "stale");
    space
        .run(&["build", "-D", "today=2026-08-25"])
        .exits(0)
        .says(&["rent_offer.md", "was checked after today"]);
    space.run(&["build", "-D", "today=soon"]).exits(1).says(&["ledger", "`soon` is not a date"]);
    space.build();
    assert_eq!((space.read("ledger/ledger.jsonl"), calls(&space)), (ledger, before));
    nothing_to_do(&space);
}

#[test]
fn a_breach_plans_anew_and_a_decimal_does_not() {
    let space = example();
    space.build();
    let seen = space.read("observations.jsonl");
    let planned = calls(&space);
    let observe = |rent: f64, rate: f64| {
        let more =
            format!("{{\"id\": \"rent\", \"value\": {rent}}}\n{{\"id\": \"rate\", \"value\": {rate}}}\n");
        space.write("observations.jsonl", format!("{seen}{more}"));
    };
    let watch = space.spawn(&["watch"]);
    let rests = |times: usize| {
        until(&format!("rest number {times}"), || {
            (watch.stderr().matches("watching ").count() >= times).then_some(())
        });
    };
    rests(1);
    // Within the tolerance, then another class without a breach.
    observe(1460.0, 47.5);
    rests(2);
    observe(1560.0, 47.5);
    rests(3);
    assert_eq!(calls(&space), planned);
    assert_eq!(space.json("drift/drift.json")["assumptions"][0]["class"], "yellow");
    observe(1690.0, 44.0);
    rests(4);
    assert_eq!(calls(&space), planned + 1, "the budget");
    assert!(space.read("budget.md").contains("Planned anew"));
    assert!(space.read("report.md").contains("Planned anew"));
    observe(1691.5, 44.1);
    rests(5);
    assert_eq!(calls(&space), planned + 1);
    assert_eq!(space.json("drift/report.json")["assumptions"][0]["observed"], 1691.5);
    watch.signal(Signal::INT);
    watch.wait().exits(130);
    // Back to what was assumed: the budget there was is used again.
    space.write("observations.jsonl", &seen);
    space.build();
    assert_eq!(calls(&space), planned + 1);
    assert!(!space.read("budget.md").contains("Planned anew"));
    nothing_to_do(&space);
}

#[test]
fn a_vague_prompt_is_written_anew_and_a_person_picks() {
    let space = example();
    let vague = space.read("plan-vague.txt");
    space.write("plan.txt", &vague);
    space.run(&["build"]).exits(3).says(&["boost_pick", "write A, B, C or original into prompt/pick.txt"]);
    assert_eq!(space.json("prompt/quality.json")["score"], 35.3);
    assert_eq!(space.read("prompt/raw_prompt.txt"), vague);
    assert_eq!(space.files("prompt/candidates").iter().filter(|name| name.ends_with(".json")).count(), 3);
    // Nothing is taken for an answer that is none.
    space
        .run(&["done", "boost_pick"])
        .exits(2)
        .says(&["`prompt/pick.txt` is not written", "planexe done boost_pick"]);
    space.write("prompt/pick.txt", "D\n");
    space.run(&["done", "boost_pick"]).exits(2).says(&["`prompt/pick.txt` will not do"]);
    space.write("prompt/pick.txt.DONE", "");
    space.run(&["build"]).exits(3);
    assert!(!space.exists("plan.md"));
    space.remove("prompt/pick.txt.DONE");
    space.write("prompt/pick.txt", "b\n");
    space.run(&["done", "boost_pick"]).exits(0);
    // Spoilt before the build has looked: it is asked for again.
    space.write("prompt/pick.txt", "D\n");
    space.run(&["build"]).exits(3).says(&["`prompt/pick.txt`: wanted text that matches"]);
    space.write("prompt/pick.txt", "b\n");
    space.run(&["build"]).exits(3);
    space.run(&["done", "boost_pick"]).exits(0);
    space.build();
    assert!(space.read("prompt/boosted_prompt.txt").starts_with("Goal: a bicycle repair workshop"));
    let log = space.json("prompt/boost_change_log.json");
    assert_eq!((&log["boosted"], &log["picked"]), (&json!(true), &json!("b")));
    assert_eq!(log["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!(space.read("prompt/raw_prompt.txt"), vague);
    nothing_to_do(&space);
    space.write("prompt/pick.txt", "original\n");
    space.build();
    assert_eq!(space.read("prompt/boosted_prompt.txt"), vague);
    nothing_to_do(&space);
}

/// A challenger or judge who is not heard is no reason to pass.
#[test]
fn what_no_judge_saw_counts_as_fallen() {
    let space = example();
    space.build();
    space.edit("redteam/verdicts/banker.json", "\"grant\"", "\"other\"");
    space.build();
    let score = space.json("redteam/resilience.json");
    assert_eq!((&score["fell"], &score["plan_resilience_score"]), (&json!(1), &json!(61.8)));
    assert_eq!(space.json("gate/redteam.json")["warned"], true);
}

/// Levers that are not realistic are made again with the notes, twice at most.
#[test]
fn levers_back_off_twice_at_most() {
    for (scores, code, times) in
        [(vec![0.4, 0.6, 0.8], 0, 3), (vec![0.4, 0.5, 0.6, 0.9], 1, 3), (vec![0.7], 0, 1)]
    {
        let wanted = scores.clone();
        let rounds = Mutex::new((0, 0));
        let levers =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gates/answers.json"));
        let answers: Value = serde_json::from_str(&levers.expect("answers")).expect("JSON");
        let server = FakeLlm::scripted(move |call| {
            let mut rounds = rounds.lock().expect("a lock");
            if call.prompt.contains("How realistic are these levers") {
                rounds.1 += 1;
                return json!({"score": wanted[rounds.1 - 1], "notes": "nobody can do that"}).into();
            }
            rounds.0 += 1;
            let mut levers = answers["answers"]
                .as_array()
                .and_then(|all| all.iter().find(|answer| answer["task"] == "levers"))
                .expect("levers")["answer"]
                .clone();
            levers["levers"][0]["name"] = json!(format!("round {}", rounds.0));
            levers.into()
        });
        let space = example();
        space.build();
        let recorded = "[models.critic]                            # the red team, the judge and the evaluator are better another model\napi     = \"recorded\"\nfile    = \"answers.json\"\non_miss = \"task\"";
        let fake = format!("api = \"openai\"\nbase_url = \"{}\"\nmodel = \"fake-1\"", server.base_url());
        space.edit("pipeline.toml", recorded, &format!("[models.critic]\n{fake}"));
        space.edit("gates/words.toml", "[task.levers]\n", "[task.levers]\nmodel = \"critic\"\n");
        space.run(&["clean", "levers", "-y"]).exits(0);
        let out = space.run(&["build"]).exits(code);
        assert_eq!(server.total(), 2 * times, "{scores:?}\n{out}");
        if code == 1 {
            assert_eq!(space.status("levers")["failure"]["class"], "eval");
            continue;
        }
        assert_eq!(space.json("levers.json")["levers"][0]["name"], format!("round {times}"));
        nothing_to_do(&space);
    }
}
