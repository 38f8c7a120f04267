//! `scripts/judge` on recorded judgments: blind, in both orders, with an interval and the bias of the order.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::Space;

/// Two runs of one plan with the same documents, and a comparison of them whose judge is played.
fn compared(judgments: &[(&str, &str)]) -> Space {
    let space = Space::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["", "prompts/", "schemas/", "templates/"] {
        let from = here.join("examples/judge").join(folder);
        for entry in fs::read_dir(from).expect("examples/judge").flatten().filter(|e| e.path().is_file()) {
            let name = entry.file_name().into_string().expect("a name");
            space.write(&format!("into/{folder}{name}"), fs::read(entry.path()).expect("a file"));
        }
    }
    let server = "api = \"openai\"\nbase_url = \"http://127.0.0.1:1234/v1\"\nmodel = \"local-model\"\n";
    space.edit("into/pipeline.toml", server, "api = \"recorded\"\nfile = \"answers.json\"\n");
    let scores = json!({ "faithful": 7, "insight": 6, "correct": 8, "fit": 7, "use": 6 });
    let answers: Vec<Value> = judgments
        .iter()
        .map(|(key, winner)| {
            let said = json!({ "reason": "The sum of the third line.", "first": scores, "second": scores, "winner": winner });
            json!({ "task": "judge", "key": key, "answer": said })
        })
        .collect();
    space.write("into/answers.json", json!({ "schema": 1, "answers": answers }).to_string());
    space.write("old/plan.txt", "Open a bicycle library in Bruges for EUR 80,000.");
    space.write("new/plan.txt", "Open a bicycle library in Bruges for EUR 80,000.");
    let names: BTreeSet<&str> =
        judgments.iter().map(|(key, _)| key.trim_end_matches(|c: char| !c.is_alphabetic())).collect();
    for name in names {
        space.write(&format!("old/{name}"), format!("# {name}\n\nThe older text.\n"));
        space.write(&format!("new/{name}"), format!("# {name}\n\nThe newer text.\n"));
    }
    // Only one of them has it: it is not compared.
    space.write("new/self_audit.md", "# Audit\n");
    space
}

fn judge(space: &Space) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/judge");
    let program = env!("CARGO_BIN_EXE_planexe");
    let mut command = space.program(&script.to_string_lossy(), &["old", "new", "into"]);
    let out = command.env("PLANEXE", program).output().expect("the script");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().expect("a status"), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn both_orders_decide_and_the_bias_of_the_order_is_told() {
    // The newer text stands second in `-1` and first in `-2`.
    let space = compared(&[
        ("pitch.md-1", "second"),
        ("pitch.md-2", "first"),
        ("team.md-1", "first"),
        ("team.md-2", "first"),
        ("premortem.md-1", "tie"),
        ("premortem.md-2", "first"),
    ]);
    let (status, told) = judge(&space);
    assert_eq!(status, 0, "{told}");
    let verdict = space.json("into/verdict.json");
    let counted = ["wins", "ties", "losses"].map(|key| verdict[key].as_u64());
    assert_eq!(counted, [Some(2), Some(1), Some(0)], "{verdict:#}");
    assert_eq!(verdict["order"], json!({ "first": 4, "second": 1, "tie": 1, "bias": 0.6 }));
    let share = |key: &str| verdict["share"][key].as_f64().expect(key);
    assert!(share("low") < 0.5 && share("high") > 0.9, "three documents decide little: {verdict:#}");
    assert!(told.contains("B won 2, tied 1 and lost 0 of 3 documents"), "{told}");
    assert!(!told.contains("self_audit"), "{told}");
    // Nothing tells the judge whose text it reads.
    let kept = space.files("into/.planexe/calls");
    let prompts: Vec<String> = kept
        .iter()
        .filter(|path| path.ends_with(".json"))
        .map(|path| space.json(path)["request"]["prompt"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(prompts.len(), 6);
    assert!(prompts.iter().all(|prompt| !prompt.contains("old/") && !prompt.contains("new/")));
    assert_eq!(space.lines("into/usage_metrics.jsonl").len(), 6);
    let (status, _) = judge(&space);
    assert_eq!((status, space.lines("into/usage_metrics.jsonl").len()), (0, 6), "nothing is asked twice");
}

#[test]
fn a_change_for_the_worse_is_stopped() {
    let all = ["pitch.md-1", "pitch.md-2", "team.md-1", "team.md-2", "premortem.md-1", "premortem.md-2"];
    let all = [&all[..], &["scenarios.md-1", "scenarios.md-2"]].concat();
    let older = |key: &&'static str| (*key, if key.ends_with('1') { "first" } else { "second" });
    let lost: Vec<_> = all.iter().map(older).collect();
    let space = compared(&lost);
    let (status, told) = judge(&space);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("B is worse than A: 0 won, 0 tied, 4 lost"), "{told}");
    let verdict = space.json("into/verdict.json");
    assert_eq!((&verdict["losses"], &verdict["order"]["bias"]), (&json!(4), &json!(0.0)));
    // Three lost documents are too few to be sure of it.
    let space = compared(&lost[..6]);
    let (status, told) = judge(&space);
    assert_eq!((status, &space.json("into/verdict.json")["losses"]), (0, &json!(3)), "{told}");
}
