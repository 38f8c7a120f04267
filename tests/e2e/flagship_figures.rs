//! Figures, contradictions and decisions of the flagship: planted errors are found and mended, nothing else is changed,
//! and what nobody can prove is left to a person.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, answers, build, calls, finished, flagship, made, requests};
use crate::support::Space;

/// What differs between two runs, by path.
fn differing(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let all: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = all.into_iter().filter(|path| one.get(*path) != other.get(*path) && *path != "answers.json");
    differ.cloned().collect()
}

/// Adds recorded answers to a run.
fn add_answers(space: &Space, run: &str, added: &[(&str, &str, Value)]) {
    let file = format!("{run}/answers.json");
    let mut all = space.json(&file);
    let list = all["answers"].as_array_mut().expect("answers");
    for (task, key, answer) in added {
        list.retain(|entry| entry["task"] != *task || entry["key"] != *key);
        list.push(json!({ "task": task, "key": key, "answer": answer }));
    }
    space.write(&file, all.to_string());
}

/// A pitch with a wrong sum, in a sentence of its own, and a month of a phase with another date.
fn plant(space: &Space) {
    answers(space, BUSINESS, "create_pitch", |_, answer| {
        let sum = "EUR 3,200,000 + EUR 1,600,000 = EUR 5,000,000.";
        answer["ask"] = json!(sum);
        answer["offer"] = json!("It is decided in Month 3 of phase 2 (May 2027).");
    });
}

/// Errors of many kinds: what is planted, in what answer at what place, where it is found, and what
/// is said of it.
const KINDS: [(&str, &str, &str, &str, &str); 17] = [
    (
        "swot_analysis",
        "/strengths/1/detail",
        "EUR 3.2 million of 6.4 million (60%)",
        "swot_analysis.md",
        "comes to 50%",
    ),
    (
        "identify_risks",
        "/risks/0/action",
        "1,400 m³ at EUR 300 per m³, EUR 240,000 in all",
        "consolidate_assumptions_full.md",
        "comes to 420,000",
    ),
    (
        "identify_risks",
        "/risks/1/action",
        "EUR 1,600,000 + EUR 1,100,000 = EUR 2.9 million",
        "consolidate_assumptions_full.md",
        "comes to 2,700,000",
    ),
    (
        "questions_and_answers",
        "/pairs/0/answer",
        "EUR 3.2 million and EUR 1.6 million are EUR 5.2 million together",
        "questions_and_answers.md",
        "comes to 4,800,000",
    ),
    (
        "data_collection",
        "/items/0/method",
        "25% of EUR 6.4 million is EUR 1.8 million",
        "data_collection.md",
        "comes to 1,600,000",
    ),
    (
        "governance_phase1_audit",
        "/corruption_risks/0/where",
        "in Month 3 of phase 2 (May 2027)",
        "consolidate_governance.md",
        "from the start of phase 2",
    ),
    (
        "review_team",
        "/omissions/0/explanation",
        "He leaves in July 2027 (Month 26)",
        "team.md",
        "is 2029-05, 26 months from the start",
    ),
    (
        "premortem",
        "/assumptions_to_kill/0/test_now",
        "EUR 850 a month (EUR 12,000 a year)",
        "premortem.md",
        "comes to 10,200",
    ),
    (
        "executive_summary",
        "/context",
        "It opens on Monday, 1 June 2029",
        "executive_summary.md",
        "is a Friday",
    ),
    (
        "related_resources",
        "/resources/0/learn",
        "The budget is EUR 6.4 billion",
        "related_resources.md",
        "off by a power of a thousand",
    ),
    (
        "create_pitch",
        "/ask",
        "The total budget of EUR 7.4 million is tight",
        "pitch.md",
        "EUR 6,400,000 is the figure of the plan",
    ),
    (
        "pre_project_assessment",
        "/summary",
        "21 stalls at EUR 850 a month for 12 months come to EUR 241,200 a year",
        "pre_project_assessment.md",
        "comes to 214,200",
    ),
    (
        "swot_analysis",
        "/weaknesses/1/detail",
        "Half of the EUR 7.9 million budget is not secured",
        "swot_analysis.md",
        "EUR 6,400,000 is the figure of the plan",
    ),
    (
        "data_collection",
        "/items/1/method",
        "It has three parts (40, 60 and 20; 130 in all)",
        "data_collection.md",
        "comes to 120, not 130",
    ),
    (
        "premortem",
        "/assumptions_to_kill/1/test_now",
        "The pilot (EUR 40,000 + 60,000 = 110,000) is paid for",
        "premortem.md",
        "comes to 100,000, not 110,000",
    ),
    (
        "related_resources",
        "/resources/1/learn",
        "It cost EUR 110,000 (EUR 40,000 + 60,000)",
        "related_resources.md",
        "comes to 100,000, not 110,000",
    ),
    (
        "questions_and_answers",
        "/pairs/1/answer",
        "The EUR 240,000 soil clean-up is paid for",
        "questions_and_answers.md",
        "EUR 420,000 is the figure of the plan",
    ),
];

#[test]
fn errors_of_many_kinds_are_found_where_they_stand_and_nothing_else_is() {
    let space = flagship();
    for (task, at, planted, ..) in KINDS {
        answers(&space, BUSINESS, task, |_, answer| {
            let place = answer.pointer_mut(at).expect(at);
            *place = json!(format!("{} {planted}.", place.as_str().expect("a text")));
        });
    }
    space.run(&["-C", BUSINESS, "build", "arithmetic_check"]).exits(0);
    let found = space.json(&format!("{BUSINESS}/arithmetic_check.json"));
    let faults = found["faults"].as_array().expect("faults");
    for (_, _, planted, document, wanted) in KINDS {
        let is_it = |fault: &&Value| {
            fault["document"] == document
                && fault["message"].as_str().is_some_and(|message| message.contains(wanted))
        };
        assert_eq!(faults.iter().filter(is_it).count(), 1, "{planted}: {faults:#?}");
    }
    assert_eq!(faults.len(), KINDS.len(), "{faults:#?}");
    // Where a number of the summary comes from.
    let uncited = found["uncited"].as_array().expect("numbers");
    let from = |said: &str| uncited.iter().find(|number| number["said"] == said).expect(said)["from"].clone();
    assert!(
        from("EUR 240,000").as_str().is_some_and(|from| from.starts_with("consolidate_assumptions_full.md"))
    );
    assert_eq!(from("6.1 million"), "");
}

/// What is mended is mended wherever a person or a program reads it.
#[test]
fn what_is_mended_is_mended_in_register_and_summary_too() {
    let space = flagship();
    let wrong = "EUR 3,200,000 + EUR 1,600,000 = EUR 5,000,000.";
    let document = "pre_project_assessment.md";
    answers(&space, BUSINESS, "pre_project_assessment", |_, answer| {
        answer["conditions"][0]["condition"] = json!(wrong);
    });
    let id = format!("{document}:9");
    let edit = json!({ "edits": [{ "fault_id": id, "find": "EUR 5,000,000", "replace": "EUR 4,800,000" }] });
    let holds = json!({ "verdicts": [{ "fault_id": id, "why": "It holds.", "holds": true }] });
    add_answers(
        &space,
        BUSINESS,
        &[
            ("consistency_repair_1", "pre-project-assessment", edit),
            ("consistency_proof_1", "pre-project-assessment", holds),
        ],
    );
    build(&space, BUSINESS).exits(0);
    for file in ["decision_register.json", "plan_summary.json", "decision_register.md"] {
        let text = space.read(&format!("{BUSINESS}/{file}"));
        assert!(text.contains("= EUR 4,800,000.") && !text.contains("= EUR 5,000,000."), "{file}");
    }
    let html = space.read(&format!("{BUSINESS}/report.html"));
    assert!(html.contains("<small>the figures add up</small>"), "what is mended is not open");
    // What was chosen is confirmed beside what it was chosen instead of.
    let rent = space.json(&format!("{BUSINESS}/decision_register.json"))["ratify"][1].clone();
    let others = rent["instead_of"].as_array().expect("the other scenarios");
    assert!(!others.is_empty() && others.iter().all(|other| other["choice"] != rent["chosen"]), "{rent}");
    assert!(html.contains("All 32 stalls pay EUR 380 a month and 4% of their turnover."));
}

fn edits(find: &str, replace: &str) -> Value {
    json!({ "edits": [{ "fault_id": "pitch.md:12", "find": find, "replace": replace }] })
}

fn verdict(holds: bool) -> Value {
    let why = if holds { "It holds." } else { "The line says something else now." };
    json!({ "verdicts": [{ "fault_id": "pitch.md:12", "why": why, "holds": holds }] })
}

const SUM: &str = "comes to 4,800,000, not 5,000,000";

#[test]
fn planted_errors_are_found_and_mended_and_nothing_else_is() {
    let (plain, space) = (finished(BUSINESS), flagship());
    plant(&space);
    // The month is left to a person: the edit of it is never proposed.
    add_answers(
        &space,
        BUSINESS,
        &[
            ("consistency_repair_1", "pitch", edits("EUR 5,000,000", "EUR 4,800,000")),
            ("consistency_proof_1", "pitch", verdict(true)),
            ("consistency_repair_2", "pitch", json!({ "edits": [] })),
        ],
    );
    build(&space, BUSINESS).exits(0);
    assert_eq!(plain.json(&format!("{BUSINESS}/arithmetic_check.json"))["faults"], json!([]));
    let found = space.json(&format!("{BUSINESS}/arithmetic_check.json"));
    let faults = found["faults"].as_array().expect("faults");
    assert_eq!(faults.len(), 2, "{found:#}");
    for (kind, wanted) in [("sum", SUM), ("date", "from the start of phase 2")] {
        let fault = faults.iter().find(|fault| fault["kind"] == kind).expect(kind);
        assert_eq!(fault["document"], "pitch.md");
        assert!(fault["message"].as_str().is_some_and(|message| message.contains(wanted)), "{fault}");
    }
    let uncited = found["uncited"].to_string();
    assert!(uncited.contains("EUR 5,000,000") && !uncited.contains("EUR 3,200,000"), "{uncited}");
    // The sum is mended in the report, the date is a decision, and the pitch itself stays as it was written.
    let repairs = space.json(&format!("{BUSINESS}/repairs.json"));
    let mended: Vec<&str> = repairs["edits"]
        .as_array()
        .expect("edits")
        .iter()
        .filter_map(|edit| edit["document"].as_str())
        .collect();
    assert_eq!(mended, ["pitch.md", "self_audit.md"], "{repairs:#}");
    let register = space.json(&format!("{BUSINESS}/decision_register.json")).to_string();
    assert!(register.contains("from the start of phase 2") && !register.contains(SUM), "{register}");
    let html = space.read(&format!("{BUSINESS}/report.html"));
    assert!(html.contains("EUR 3,200,000 + EUR 1,600,000 = EUR 4,800,000."), "mended");
    // Only the audit trail quotes what was wrong.
    let read = html.split("aria-labelledby=\"sums\"").next().expect("a page");
    assert!(!read.contains("EUR 1,600,000 = EUR 5,000,000."));
    assert!(space.read(&format!("{BUSINESS}/pitch.md")).contains("= EUR 5,000,000."));
    let differ = differing(&made(&plain, BUSINESS), &made(&space, BUSINESS));
    let wanted = [
        "arithmetic_check.json",
        "arithmetic_check.md",
        "consistency.md",
        "consistency_findings.json",
        "consistency_proof_1/pitch.json",
        "consistency_repair_1/pitch.json",
        "consistency_repair_2/pitch.json",
        "decision_register.json",
        "decision_register.md",
        "pitch.md",
        "pitch_raw.json",
        // The answer that brings the faults is a sample, and what tells of quality says so.
        "plan_summary.json",
        "quality.json",
        "repairs.json",
        "repairs_checked_1.json",
        "repairs_round_1.json",
        "report.html",
        "report.md",
        "shared_figures.json",
    ];
    assert_eq!(differ, wanted);
}

/// Whatever a model proposes: the words quoted have to be there once, no figure may come from nowhere, and what a second
/// question does not confirm is not published.
#[test]
fn an_edit_that_is_not_proved_is_left_to_a_person() {
    for (first, proof, second, said) in [
        (edits("EUR", "USD"), None, edits("EUR 4,000,000", "EUR 4,800,000"), "is not in the line"),
        (edits("EUR 5,000,000", "EUR 4,900,000"), None, edits("EUR 5,000,000", "EUR 7,000,000"), "add up"),
        (edits("EUR 5,000,000", "EUR 4,800,000"), Some(verdict(false)), json!({ "edits": [] }), ""),
    ] {
        let space = flagship();
        answers(&space, BUSINESS, "create_pitch", |_, answer| {
            answer["ask"] = json!("EUR 3,200,000 + EUR 1,600,000 = EUR 5,000,000.");
        });
        let mut added =
            vec![("consistency_repair_1", "pitch", first), ("consistency_repair_2", "pitch", second)];
        added.extend(proof.map(|proof| ("consistency_proof_1", "pitch", proof)));
        add_answers(&space, BUSINESS, &added);
        build(&space, BUSINESS).exits(0);
        let repairs = space.json(&format!("{BUSINESS}/repairs.json"));
        assert_eq!(repairs["edits"].as_array().map(Vec::len), Some(1), "the sample's own: {repairs:#}");
        assert_eq!(repairs["remaining"][0]["document"], "pitch.md");
        let rejected = space.json(&format!("{BUSINESS}/repairs_checked_2.json"))["rejected"].to_string();
        assert!(rejected.contains(said), "{rejected}");
        let register = space.json(&format!("{BUSINESS}/decision_register.json")).to_string();
        assert!(register.contains(SUM), "{register}");
        let html = space.read(&format!("{BUSINESS}/report.html"));
        assert!(html.contains("= EUR 5,000,000.") && html.contains("left to a person"), "as it was");
        space.run(&["-C", BUSINESS, "build", "-q"]).exits(0);
    }
}

/// A round in which no repair, or no proof, succeeds does not stop the plan.
#[test]
fn repairs_that_all_fail_leave_the_fault_to_a_person() {
    for failing in ["repair", "proof"] {
        let space = flagship();
        let file = format!("{BUSINESS}/answers.json");
        let mut all = space.json(&file);
        let task = format!("consistency_{failing}_");
        let list = all["answers"].as_array_mut().expect("answers");
        let before = list.len();
        list.retain(|entry| !entry["task"].as_str().is_some_and(|name| name.starts_with(&task)));
        assert!(list.len() < before, "the sample has a {failing}");
        space.write(&file, all.to_string());
        build(&space, BUSINESS).exits(0);
        let repairs = space.json(&format!("{BUSINESS}/repairs.json"));
        assert_eq!(repairs["edits"], json!([]), "{failing}");
        assert_eq!(repairs["remaining"][0]["document"], "self_audit.md", "{failing}: {repairs:#}");
        let register = space.read(&format!("{BUSINESS}/decision_register.json"));
        assert!(register.contains("self_audit.md"), "{failing}: {register}");
        assert!(space.read(&format!("{BUSINESS}/report.html")).contains("left to a person"), "{failing}");
    }
}

#[test]
fn an_edit_that_brings_a_figure_from_nowhere_is_refused() {
    let space = flagship();
    let spoiled = "eight months and EUR 77,777 of pilot";
    let edit =
        json!({ "fault_id": "self_audit.md:87", "find": "twenty months of pilot", "replace": spoiled });
    let none = json!({ "edits": [] });
    add_answers(
        &space,
        BUSINESS,
        &[
            ("consistency_repair_1", "self-audit", json!({ "edits": [edit] })),
            ("consistency_repair_2", "self-audit", none),
        ],
    );
    build(&space, BUSINESS).exits(0);
    let repairs = space.json(&format!("{BUSINESS}/repairs.json"));
    assert_eq!(repairs["edits"], json!([]));
    assert_eq!(repairs["remaining"][0]["note"], "no fact has EUR 77,777");
    let asked = requests(&space, BUSINESS);
    let again =
        asked.iter().find(|(task, _)| task.starts_with("consistency_repair_2")).expect("a second round");
    assert!(again.1.prompt.contains("An edit of it was not accepted: no fact has EUR 77,777"));
    assert!(!space.read(&format!("{BUSINESS}/report.html")).contains(spoiled));
}

/// Any two lines on the same thing stand in one group, whatever the size of the groups.
#[test]
fn all_lines_on_one_thing_are_read_together_two_by_two() {
    let space = finished(BUSINESS);
    let lines = |groups: &Value| -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for group in groups["groups"].as_array().expect("groups") {
            let ids = group["lines"].as_array().expect("lines").iter();
            let ids = ids.map(|line| line["id"].as_str().expect("an id").to_owned());
            all.entry(group["about"].as_str().expect("about").to_owned()).or_default().extend(ids);
        }
        all
    };
    let whole = lines(&space.json(&format!("{BUSINESS}/shared_figures.json")));
    let documents: BTreeSet<&str> = whole.values().flatten().filter_map(|id| id.split(':').next()).collect();
    assert!(documents.len() > 18, "{documents:?}");
    space.edit("pipeline.toml", "longest_group = 30000", "longest_group = 9000");
    space.run(&["-C", BUSINESS, "build", "shared_figures"]).exits(0);
    let small = space.json(&format!("{BUSINESS}/shared_figures.json"));
    assert_eq!(lines(&small), whole);
    for (about, ids) in whole {
        for one in &ids {
            let beside: BTreeSet<&str> = small["groups"]
                .as_array()
                .expect("groups")
                .iter()
                .filter(|group| group["about"] == about.as_str())
                .map(|group| group["lines"].as_array().expect("lines"))
                .filter(|lines| lines.iter().any(|line| line["id"] == one.as_str()))
                .flat_map(|lines| lines.iter().filter_map(|line| line["id"].as_str()))
                .collect();
            assert_eq!(beside.len(), ids.len(), "{about}: {one}");
        }
    }
}

/// The most calls one after another, from the graph that `planexe graph --json` gives: two rounds of repair included.
#[test]
fn at_most_25_calls_one_after_another_and_160_in_all() {
    let space = finished(BUSINESS);
    let graph = space.run(&["-C", BUSINESS, "graph", "--json"]).exits(0).json();
    let mut longest: BTreeMap<&str, usize> = BTreeMap::new();
    let nodes = graph["nodes"].as_array().expect("nodes");
    let edges = graph["edges"].as_array().expect("edges");
    // What fits is not shortened, and not asked for.
    let asks = |node: &Value| {
        node["recipe"] == "prompt" && !node["task"].as_str().is_some_and(|task| task.starts_with("shorten_"))
    };
    // Nodes stand in no order: as many passes as there are nodes reach every path.
    for _ in nodes {
        let before = longest.clone();
        for node in nodes {
            let task = node["task"].as_str().expect("a task");
            let above = edges.iter().filter(|edge| edge["to"] == task);
            let above = above.filter_map(|edge| longest.get(edge["from"].as_str()?)).max().copied();
            longest.insert(task, above.unwrap_or(0) + usize::from(asks(node)));
        }
        if longest == before {
            break;
        }
    }
    let most = longest.values().max().copied().expect("a task");
    assert!((20..=25).contains(&most), "{most} calls one after another: {longest:#?}");
    assert!(calls(&space, BUSINESS) <= 160);
}

/// What a model reads and writes in a second is assumed; calls, tokens and what waits for what are the sample's.
#[test]
fn the_cloud_takes_less_than_45_minutes_and_a_model_here_a_night() {
    let space = finished(BUSINESS);
    let predict = |profile: &str, speed: &str, slots: u64| {
        let args =
            ["-C", BUSINESS, "--profile", profile, "simulate", "--answers", "8", "--speed", speed, "--json"];
        let rows = space.run(&args).exits(0).json();
        let row = rows["rows"].as_array().expect("rows").iter().find(|row| row["slots"] == slots);
        let row = row.expect("a row").clone();
        assert_eq!(row["calls"], calls(&space, BUSINESS), "{row}");
        assert!(row["output_tokens"].as_u64() > Some(400_000), "{row}");
        (row["seconds"].as_f64().expect("seconds") / 60.0, row["cost_usd"].as_f64().expect("a cost"))
    };
    let (cloud, cost) = predict("cloud-best", "local=2000/60,quick=4000/120", 8);
    assert!((20.0..45.0).contains(&cloud), "{cloud} minutes");
    assert!((3.0..9.0).contains(&cost), "{cost} USD");
    let (here, cost) = predict("local-large", "local=400/30", 1);
    assert!((60.0..480.0).contains(&here), "{here} minutes");
    assert_eq!(cost, 0.0);
    // Half the price, and as long as the batches one after another.
    let mode = |mode: &str| {
        let args = ["-C", BUSINESS, "--profile", "cloud-best", "simulate", "--price-mode", mode, "--json"];
        let row = space.run(&args).exits(0).json()["rows"][0].clone();
        (row["seconds"].as_f64().expect("seconds") / 3600.0, row["cost_usd"].as_f64().expect("a cost"))
    };
    let (now, flex, batch) = (mode("now"), mode("flex"), mode("batch"));
    assert!(
        (flex.1 * 2.0 - now.1).abs() < 0.01 && (batch.1 - flex.1).abs() < 0.01,
        "{now:?} {flex:?} {batch:?}"
    );
    assert!((15.0..=25.1).contains(&batch.0) && now.0 < 1.0, "{batch:?}");
    // Answers as long as those there are cost less time, and all models at once are the sum of theirs.
    let plain = ["-C", BUSINESS, "--profile", "local-large", "simulate", "--speed", "local=400/30", "--json"];
    let plain = space.run(&plain).exits(0).json();
    assert!(plain["rows"][1]["seconds"].as_f64().expect("seconds") / 60.0 < here / 2.0);
    for (speed, says) in
        [("local=1", "local=400/30"), ("local=0/1", "local=400/30"), ("nobody=1/1", "nobody")]
    {
        space.run(&["-C", BUSINESS, "simulate", "--speed", speed]).exits(2).says(&[says]);
    }
}

#[test]
fn a_figure_that_disagrees_with_its_formula_stops_the_plan_by_name() {
    let space = finished(BUSINESS);
    let facts = space.json(&format!("{BUSINESS}/canonical_facts.json"));
    let ids: Vec<&str> =
        facts["facts"].as_array().expect("facts").iter().filter_map(|fact| fact["id"].as_str()).collect();
    assert!(
        ["budget", "funding", "gap", "start", "milestone_1"].iter().all(|id| ids.contains(id)),
        "{ids:?}"
    );
    let html = space.read(&format!("{BUSINESS}/report.html"));
    assert!(html.contains("id=\"fact-budget\"") && html.contains("href=\"#fact-cost_9\""), "traced");

    space.edit(
        "templates/canonical_facts.json.j2",
        "\"name\": \"Budget\",",
        "\"name\": \"Budget\", \"value\": 6500000,",
    );
    build(&space, BUSINESS)
        .exits(1)
        .says(&["`budget` is given as 6,500,000; its formula `sum(cost_*)` comes to EUR 6,400,000"]);
}

#[test]
fn the_report_begins_with_what_to_decide_and_is_not_too_long() {
    let space = flagship();
    for run in [BUSINESS, PERSONAL] {
        build(&space, run).exits(0).says_nothing_of(&["report.md has"]);
        let html = space.read(&format!("{run}/report.html"));
        let at = |id: &str| html.find(&format!("<section aria-labelledby=\"{id}\"")).expect(id);
        let decision = space.json(&format!("{run}/plan_summary.json"))["decision"].clone();
        let asked =
            html.find(&format!("<p>{}</p>", decision.as_str().expect("a decision"))).expect("what to decide");
        assert!(asked < html.find("<nav class=\"toc\"").expect("contents"), "{run}: on the first screen");
        assert!(at("register") < at("summary") && at("summary") < at("figures"), "{run}");
        let md = space.read(&format!("{run}/report.md"));
        let decide = md.split("\n# Part 2").next().expect("a part");
        let words = |text: &str| text.split_whitespace().count();
        assert!((500..=9_000).contains(&words(decide)) && words(&md) <= 60_000, "{run}: {}", words(decide));
    }
    answers(&space, PERSONAL, "create_pitch", |_, answer| answer["ask"] = json!("Help. ".repeat(9_000)));
    space.run(&["-C", PERSONAL, "clean", "create_pitch", "--yes"]).exits(0);
    build(&space, PERSONAL).exits(0).says(&["report.md has", "at most 60,000 and 9,000 are read"]);
}

// ---- What breaks other runners of such a plan

/// Every row changes a finished run as a user or a crash would, and says how many calls that may cost. The run is whole
/// again afterwards, and a further build finds nothing to do.
#[test]
fn what_happens_to_a_finished_plan_costs_the_calls_it_must() {
    type Change = fn(&Space);
    let rows: [(&str, Change, usize, usize); 8] = [
        ("nothing", |_| {}, 0, 0),
        (
            "an answer's file removed",
            |space| space.remove(&format!("{PERSONAL}/swot_analysis_raw.json")),
            0,
            0,
        ),
        (
            "one item of a loop removed",
            |space| space.remove(&format!("{PERSONAL}/self_audit/demand.json")),
            0,
            0,
        ),
        ("a document emptied", |space| space.write(&format!("{PERSONAL}/project_plan.md"), ""), 0, 0),
        ("the report emptied", |space| space.write(&format!("{PERSONAL}/report.html"), ""), 0, 0),
        ("a prompt edited", |space| space.edit("prompts/create_pitch.md", "# Task", "# The task"), 1, 1),
        ("the edit taken back", |space| space.edit("prompts/create_pitch.md", "# The task", "# Task"), 0, 0),
        (
            "a comment in a template",
            |space| space.edit("templates/pitch.md.j2", "# Pitch", "{# x #}# Pitch"),
            0,
            0,
        ),
    ];
    let space = finished(PERSONAL);
    let whole = made(&space, PERSONAL);
    for (what, change, least, most) in rows {
        let before = calls(&space, PERSONAL);
        change(&space);
        build(&space, PERSONAL).exits(0);
        let cost = calls(&space, PERSONAL) - before;
        assert!((least..=most).contains(&cost), "{what}: {cost} calls");
        let differ = differing(&whole, &made(&space, PERSONAL));
        // A recorded answer to another prompt is a sample, and what tells of quality says so.
        let wanted: &[&str] = match what {
            "a prompt edited" => &["plan_summary.json", "quality.json", "report.html", "report.md"],
            _ => &[],
        };
        assert_eq!(differ, wanted, "{what}");
        space.run(&["-C", PERSONAL, "build", "-q"]).exits(0);
    }
}
