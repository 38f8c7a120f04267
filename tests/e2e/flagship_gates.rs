//! The flagship where a gate speaks up, where parts are missing, and where answers are hostile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, answers, build, calls, empty_heading, finished, flagship, made};
use crate::support::{FakeLlm, Space};

#[test]
fn the_red_line_ends_the_run_before_anything_else_is_asked() {
    let space = flagship();
    answers(&space, PERSONAL, "redline_gate", |_, answer| {
        answer["verdict"] = json!("refuse");
        answer["concern"] = json!("weapons or violence");
        answer["explanation"] = json!("The aim is to hurt a neighbour.");
    });
    build(&space, PERSONAL).exits(1).says(&["red line", "the aim is to hurt a neighbour"]);
    assert_eq!(calls(&space, PERSONAL), 2, "the two that screen");
    assert!(!space.exists(&format!("{PERSONAL}/report.html")));
    build(&space, PERSONAL).exits(1);
    assert_eq!(calls(&space, PERSONAL), 2, "nothing is asked twice");
}

#[test]
fn a_text_that_is_no_plan_ends_the_run_with_what_is_missing() {
    let space = flagship();
    answers(&space, PERSONAL, "screen_planning_prompt", |_, answer| {
        answer["verdict"] = json!("unusable");
        answer["reason"] = json!("It names no aim.");
        answer["missing"] = json!(["What is to exist in the end.", "Who pays."]);
    });
    build(&space, PERSONAL).exits(1).says(&[
        "cannot be planned",
        "it names no aim",
        "what is to exist in the end",
        "who pays",
    ]);
    assert_eq!(calls(&space, PERSONAL), 2);
    // The text is put right: the answer recorded for it lets it pass.
    let original =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(PERSONAL).join("answers.json")).expect("answers");
    space.write(&format!("{PERSONAL}/answers.json"), original);
    space.edit(&format!("{PERSONAL}/plan.txt"), "\n", "\n\n");
    build(&space, PERSONAL).exits(0);
}

#[test]
fn a_no_go_waits_for_a_person() {
    let space = flagship();
    answers(&space, PERSONAL, "pre_project_assessment", |_, answer| answer["verdict"] = json!("no-go"));
    build(&space, PERSONAL).exits(3).says(&["go_no_go", "planexe -C examples/personal-plan done go_no_go"]);
    let before = calls(&space, PERSONAL);
    assert!(before < 40, "what rests on the verdict is not asked: {before}");
    assert!(!space.exists(&format!("{PERSONAL}/project_plan_raw.json")));
    space.run(&["-C", PERSONAL, "done", "go_no_go"]).exits(0);
    build(&space, PERSONAL).exits(0);
    assert_eq!(calls(&space, PERSONAL), 82, "nothing is asked twice");
    let notes = space.json(&format!("{PERSONAL}/quality.json"))["notes"].to_string();
    assert!(notes.contains("no-go, and a person let it pass"), "{notes}");
    assert!(space.read(&format!("{PERSONAL}/report.html")).contains("no-go, and a person let it pass"));
    assert_eq!(space.json(&format!("{PERSONAL}/plan_summary.json"))["go_no_go"]["verdict"], "no-go");
}

#[test]
fn a_scenario_that_breaks_a_constraint_is_asked_again() {
    // One model of its own for the scenarios; everything else is played.
    let server = FakeLlm::new();
    let space = flagship();
    answers(&space, BUSINESS, "potential_levers_constraint", |_, answer| {
        let checks = answer["checks"].as_array_mut().expect("checks");
        let soil = checks.iter_mut().find(|check| check["lever_id"] == "soil-strategy").expect("a lever");
        soil["verdict"] = json!("breaks");
        soil["broken_options"] = json!([3]);
    });
    let good = space.json(&format!("{BUSINESS}/answers.json"))["answers"]
        .as_array()
        .expect("answers")
        .iter()
        .find(|entry| entry["task"] == "candidate_scenarios")
        .expect("an answer")["answer"]
        .clone();
    let cautious_broken = good.clone();
    let mut mended = good;
    mended["cautious"]["lever_settings"][0]["option"] = json!(2);
    server.script(move |call| {
        if call.messages.len() == 2 { cautious_broken.clone() } else { mended.clone() }.into()
    });
    let own = format!(
        "[models.own]\napi = \"openai\"\nmodel = \"fake\"\nbase_url = \"{}\"\n\n[defaults]\n",
        server.base_url()
    );
    space.edit("pipeline.toml", "[defaults]\n", &own);
    let prompt = "prompt  = \"prompts/candidate_scenarios.md\"\n";
    space.edit("pipeline.toml", prompt, &format!("{prompt}model   = \"own\"\n"));
    let marks = "complexity = { reasoning = 5, domain = 4, context = 4, output = 4 }\n";
    let params = "params  = { temperature = 0.5 }\n";
    space.edit("pipeline.toml", &format!("{params}{marks}"), params);
    build(&space, BUSINESS).exits(0);
    assert_eq!(server.total(), 2);
    let told = server.calls()[1].messages.last().expect("a message").1.clone();
    assert!(told.contains("cautious: option 3 of `soil-strategy` breaks a constraint of the plan"), "{told}");
    let scenarios = space.json(&format!("{BUSINESS}/candidate_scenarios.json"));
    assert!(!scenarios.to_string().contains("\"broken\":true"), "{scenarios:#}");
}

#[test]
fn a_budget_that_does_not_add_up_is_not_believed() {
    let space = flagship();
    answers(&space, BUSINESS, "project_plan", |_, answer| answer["budget"][0]["amount"] = json!(1));
    build(&space, BUSINESS).exits(1).says(&["the budget adds up to", "the funding to 6,400,000"]);
    assert!(!space.exists(&format!("{BUSINESS}/project_plan_raw.json")));
}

#[test]
fn a_plan_with_parts_missing_says_so_wherever_it_is_read() {
    let space = flagship();
    let file = format!("{BUSINESS}/answers.json");
    let mut all = space.json(&file);
    let lost = [("expert_review", 1), ("review_plan", 3), ("draft_documents_to_find", 1)];
    for (task, count) in lost {
        let list = all["answers"].as_array_mut().expect("answers");
        let mut left = count;
        list.retain(|entry| {
            let goes = entry["task"] == task && left > 0;
            left -= usize::from(goes);
            !goes
        });
        assert_eq!(left, 0);
    }
    space.write(&file, all.to_string());
    build(&space, BUSINESS).exits(0).says(&["partial"]);
    space.run(&["-C", BUSINESS, "build", "--strict"]).exits(1);
    let status = space.run(&["-C", BUSINESS, "status", "--json"]).exits(0).json();
    let partial: BTreeSet<String> = status["quality_summary"]["partial"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| part["task"].as_str().or(part.as_str()).unwrap_or_default().to_owned())
        .collect();
    let wanted: BTreeSet<String> = lost.iter().map(|(task, _)| (*task).to_owned()).collect();
    assert_eq!(partial, wanted, "{:#}", status["quality_summary"]);
    assert_eq!(status["quality_summary"]["complete"], false);
    let quality = space.json(&format!("{BUSINESS}/quality.json"));
    assert_eq!(quality["complete"], false);
    for (part, expected, arrived) in
        [("Experts who answered", 4, 3), ("Topics reviewed", 16, 13), ("Documents to find, drafted", 7, 6)]
    {
        let found = quality["parts"]
            .as_array()
            .expect("parts")
            .iter()
            .find(|entry| entry["part"] == part)
            .expect(part);
        assert_eq!((&found["expected"], &found["arrived"]), (&json!(expected), &json!(arrived)), "{part}");
    }
    assert_eq!(space.json(&format!("{BUSINESS}/plan_summary.json"))["quality"]["complete"], false);
    let html = space.read(&format!("{BUSINESS}/report.html"));
    let md = space.read(&format!("{BUSINESS}/report.md"));
    for text in [&html, &md] {
        assert!(text.contains("Parts of this plan did not arrive"), "said at the top");
    }
    assert!(!empty_heading(&html), "no heading without text");
}

#[test]
fn a_deadline_that_is_missed_is_told() {
    let space = flagship();
    answers(&space, PERSONAL, "identify_task_dependencies", |_, answer| {
        answer["dates"][3]["date"] = json!("2027-09-03");
        assert_eq!(answer["dates"][3]["task_id"], "rehearse");
    });
    build(&space, PERSONAL).exits(0);
    let schedule = space.json(&format!("{PERSONAL}/schedule.json"));
    let late = schedule["deadlines"]
        .as_array()
        .expect("deadlines")
        .iter()
        .find(|d| d["task_id"] == "rehearse")
        .expect("it");
    assert_eq!(late["margin_days"], -15, "{late}");
    assert!(space.read(&format!("{PERSONAL}/schedule.md")).contains("15 working days late"));
    let html = space.read(&format!("{PERSONAL}/report.html"));
    assert!(html.contains("15 working days late") && html.contains("15 late"));
}

#[test]
fn hostile_answers_stay_text() {
    let space = flagship();
    let payload = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{ 7 * 7 }}javascript:alert(4)\u{1b}[31m\u{202e}\u{2066}\u{0}../../x";
    fn spoil(value: &mut Value, payload: &str) {
        match value {
            // Ids, dates and words of a fixed choice are left alone.
            Value::String(text) if text.contains(' ') && !text.starts_with("go") => text.push_str(payload),
            Value::Array(list) => list.iter_mut().for_each(|item| spoil(item, payload)),
            Value::Object(members) => members.values_mut().for_each(|item| spoil(item, payload)),
            _ => {}
        }
    }
    let keep = [
        "needs work",
        "not ready",
        "applied for",
        "leave out",
        "process or money",
        "technical or logistics",
        "market or people",
        "legal and permits",
        "to be checked",
        "first year",
        "years 2 to 5",
    ];
    let file = format!("{PERSONAL}/answers.json");
    let mut all = space.json(&file);
    for entry in all["answers"].as_array_mut().expect("answers") {
        spoil(&mut entry["answer"], payload);
    }
    let mut text = all.to_string();
    let escaped = serde_json::to_string(payload).expect("a string");
    for word in keep {
        text = text.replace(&format!("\"{word}{}\"", &escaped[1..escaped.len() - 1]), &format!("\"{word}\""));
    }
    space.write(&file, text);
    // Items that are named by their content have other names now.
    let named = |space: &Space| -> Vec<String> {
        let status = space.run(&["-C", PERSONAL, "status", "--json"]).json();
        let tasks = status["tasks"].as_array().expect("tasks").iter();
        let of =
            |name: &str| Some(name.strip_prefix("estimate_task_durations[")?.strip_suffix(']')?.to_owned());
        tasks.filter_map(|task| of(task["task"].as_str()?)).collect()
    };
    let plain = finished(PERSONAL);
    build(&space, PERSONAL).exits(1);
    let mut text = space.read(&file);
    let (before, after) = (named(&plain), named(&space));
    assert_eq!(before.len(), after.len());
    for (old, new) in before.iter().zip(&after) {
        text = text.replace(old, new);
    }
    space.write(&file, text);
    space.edit(&format!("{PERSONAL}/plan.txt"), "\n", &format!(" {payload}\n"));
    // Longer lines make no more groups.
    space.edit("pipeline.toml", "longest_group = 30000", "longest_group = 300000");
    build(&space, PERSONAL).exits(0);
    let html = space.read(&format!("{PERSONAL}/report.html"));
    assert!(html.matches("&lt;script&gt;").count() > 50, "the payload is in the report");
    for live in ["<script", "<img", "<svg onload", "onerror=alert(2)>\"", "49javascript"] {
        assert!(!html.contains(live), "live: {live}");
    }
    // An attribute cannot be left either: no quote of the payload is raw inside a tag.
    assert!(!html.contains("alert(2)>\"'>"), "a raw quote");
    let md = space.read(&format!("{PERSONAL}/report.md"));
    assert!(!md.contains("<script") && !md.contains("<img"), "Markdown is shown as HTML by many");
    // Nor does any text for people steer a terminal or the order of words; plan_in_brief.md is the plan itself.
    let texts = made(&space, PERSONAL).into_iter().filter(|(name, _)| {
        [".md", ".csv", ".html"].iter().any(|end| name.ends_with(end)) && name != "plan_in_brief.md"
    });
    for (name, text) in texts {
        let text = String::from_utf8(text).expect("UTF-8");
        for steers in ['\u{1b}', '\u{202e}', '\u{2066}', '\u{0}'] {
            assert!(!text.contains(steers), "{steers:?} in {name}");
        }
    }
}
