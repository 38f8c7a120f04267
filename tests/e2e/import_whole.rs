//! `planexe import planexe` of a folder with many answers: which are converted, what the build after it asks for, and
//! what of a folder that somebody tampered with is not believed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::import::{PLAN, short, sorted};
use crate::support::{FakeLlm, Out, Space};

/// Tasks of the flagship that are asked for one answer, and what each is given.
const TASKS: [(&str, &str, &str); 9] = [
    ("redline_gate", "redline_gate_raw.json", "plan"),
    ("plan_type", "plan_type_raw.json", "plan"),
    ("identify_purpose", "identify_purpose_raw.json", "plan"),
    ("potential_levers", "potential_levers_raw.json", "plan"),
    ("find_team_members", "find_team_members_raw.json", "project"),
    ("enrich_team_members_contract_type", "enrich_team_members_contract_type_raw.json", "project"),
    ("identify_risks", "identify_risks_raw.json", "project"),
    ("create_wbs_level1", "wbs_level1_raw.json", "project"),
    ("executive_summary", "executive_summary_raw.json", "digest"),
];

/// A pipeline of some of the flagship's tasks and three of its loops, with its schemas.
fn space(server: &FakeLlm) -> Space {
    let space = Space::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = |task: &str| {
        let file = format!("schemas/{task}.json");
        space.write(&file, fs::read(here.join(&file)).expect("a schema"));
    };
    let tree = "templates/wbs_project_level1_and_level2.json.j2";
    space.write(tree, fs::read(here.join(tree)).expect("a template"));
    space.write("templates/digest.j2", "{{ project | tojson }}");
    let mut tasks = "[pipeline]\nname = \"some\"\nplan = \"plan.txt\"\n\n".to_owned();
    let mut add = |task: &str, output: &str, inputs: &str, more: &str| {
        schema(task);
        let read: String = inputs
            .split(", ")
            .map(|it| it.split(' ').next().unwrap_or_default())
            .map(|it| format!("{{{{ {it} }}}}\n"))
            .collect();
        space.write(&format!("prompts/{task}.md"), format!("TASK={task}\n{read}"));
        tasks += &format!("[task.{task}]\noutputs = [\"{output}\"]\ninputs = {{ {inputs} }}\n{more}");
        tasks += &format!("prompt = \"prompts/{task}.md\"\nschema = \"schemas/{task}.json\"\n");
    };
    add("project_plan", "project_plan_raw.json", "plan = \"plan.txt\"", "");
    for (task, output, given) in TASKS {
        let inputs = match given {
            "plan" => "plan = \"plan.txt\"",
            "project" => "plan = \"plan.txt\", project = \"project_plan_raw.json\"",
            _ => "digest = \"plan_digest.md\"",
        };
        add(task, output, inputs, "");
    }
    let plan = "plan = \"plan.txt\"";
    let of = |file: &str, items: &str| {
        format!("foreach = {{ file = \"{file}\", items = \"{items}\", key = \"id\" }}\n")
    };
    add("enrich_levers", "enriched_levers/{{ key }}.json", plan, &of("potential_levers_raw.json", "/levers"));
    add("create_wbs_level2", "wbs_level2/{{ key }}.json", plan, &of("wbs_level1_raw.json", "/phases"));
    let batch = "foreach = { file = \"wbs_project_level1_and_level2.json\", items = \"/phases/*/tasks\", batch = 4 }\n";
    add("estimate_task_durations", "task_durations/{{ key }}.json", plan, batch);
    tasks += "[task.plan_digest]\ninputs = { project = \"project_plan_raw.json\" }\noutputs = [\"plan_digest.md\"]\ntemplate = \"templates/digest.j2\"\n";
    tasks += "[task.report]\ninputs = { project = \"executive_summary_raw.json\" }\noutputs = [\"report.html\", { path = \"executive_summary.md\", template = \"templates/digest.j2\" }]\ntemplate = \"templates/digest.j2\"\n";
    tasks += "[task.tree]\ninputs = { wbs = \"wbs_level1_raw.json\", parts = \"wbs_level2/*.json\", team = \"find_team_members_raw.json\" }\n";
    tasks += &format!("outputs = [\"wbs_project_level1_and_level2.json\"]\ntemplate = \"{tree}\"\n");
    space.pipeline(server, &tasks);
    space
}

fn uuid(n: usize) -> String {
    format!("8035c685-51f1-40b4-9bc5-cf9c23e8{n:04}")
}

fn lever(n: usize, name: &str) -> Value {
    let option = |what: &str| format!("Meet {what} in the week, with everybody who likes to read");
    json!({
        "lever_id": uuid(n), "name": name, "consequences": "A tenth of the members stay away.",
        "options": [option("once"), option("twice"), option("never")],
        "review": "Controls Zeal vs. Sleep. Weakness: Nobody asked the members.",
    })
}

/// The files of a run that is finished, by the names they have since April 2026.
fn files() -> Vec<(&'static str, Value)> {
    let role = |title: &str, people: &str| json!({ "job_category_title": title, "short_explanation": "Reads.", "people_needed": people, "consequences_of_not_having_this_role": "Silence." });
    let task = |n: usize, title: &str| json!({ "id": uuid(n), "description": title });
    let days = |n: usize| json!({ "task_id": uuid(n), "delay_risks": "Illness.", "mitigation_strategy": "Wait.", "days_min": 1, "days_max": 4, "days_realistic": 2 });
    let names = ["Rhythm of the club", "Choice of books", "Rhythm of the Club!"];
    let levers: Vec<Value> = (0..).zip(names).map(|(n, name)| lever(n, name)).collect();
    let deep = |lever: &Value| {
        let mut deep = lever.clone();
        deep["description"] = json!("How often they meet.");
        deep["synergy_text"] = json!("Books.");
        deep["conflict_text"] = json!("Sleep.");
        deep
    };
    let asked = format!("File 'plan.txt':\n{PLAN}");
    vec![
        (
            "redline_gate_raw.json",
            json!({ "verdict": "ALLOW", "rationale_short": "A club harms nobody.", "violation_category": null, "user_prompt": PLAN }),
        ),
        (
            "identify_purpose_raw.json",
            json!({ "topic": "A club", "purpose": "personal", "purpose_detailed": "Reading.", "user_prompt": PLAN }),
        ),
        (
            "plan_type_raw.json",
            json!({ "explanation": "A library is wanted.", "plan_type": "physical", "user_prompt": asked }),
        ),
        (
            "physical_locations_raw.json",
            json!({
                "has_location_in_plan": false, "requirements_for_the_physical_locations": ["Quiet", "Warm"], "location_summary": "A library.",
                "physical_locations": [{ "item_index": 1, "physical_location_broad": "Bruges, Belgium", "physical_location_detailed": "Bruges", "physical_location_specific": "City library", "rationale_for_suggestion": "It is warm." }],
                "user_prompt": asked,
            }),
        ),
        (
            "potential_levers_raw.json",
            json!({ "responses": [{ "strategic_rationale": "Few have time.", "levers": [] }], "levers": levers, "user_prompt": asked }),
        ),
        (
            "enriched_levers_raw.json",
            json!({ "metadata": {}, "characterized_levers": levers.iter().map(deep).collect::<Vec<_>>() }),
        ),
        (
            "find_team_members_raw.json",
            json!({ "brainstorm_of_needed_team_members": [role("Reader", "3"), role("Host", "1")], "user_prompt": asked }),
        ),
        (
            "enrich_team_members_contract_type_raw.json",
            json!({ "team_members": [
            { "id": 2, "contract_type": "full_time_employee", "justification": "Every day." },
            { "id": 1, "contract_type": "independent_contractor", "justification": "Now and then." },
        ], "user_prompt": asked }),
        ),
        (
            "identify_risks_raw.json",
            json!({ "risks": [
            { "risk_area": "Regulatory & Permitting", "risk_description": "The house may close.", "potential_impact": "No room.", "likelihood": "low", "severity": "high", "action": "Ask the house for another key." },
        ], "risk_assessment_summary": "The room.", "user_prompt": asked }),
        ),
        (
            "project_plan_raw.json",
            json!({ "goal_statement": "Read.", "smart_criteria": {}, "user_prompt": asked }),
        ),
        (
            "wbs_level1_raw.json",
            json!({ "project_title": "A club", "final_deliverable": "A hundred books read", "metadata": {} }),
        ),
        (
            "wbs_level2.json",
            json!([
                { "id": uuid(100), "major_phase_title": "Begin", "subtasks": [task(101, "Find a room"), task(102, "Find readers"), task(103, "Buy tea")] },
                { "id": uuid(200), "major_phase_title": "Read", "subtasks": [task(201, "Read"), task(202, "Buy tea")] },
            ]),
        ),
        (
            "task_durations.json",
            json!([days(100), days(101), days(102), days(103), days(200), days(201), days(202)]),
        ),
        (
            "executive_summary_raw.json",
            json!({ "focus_and_context": "A club.", "user_prompt": "File 'project_plan.md':\nRead." }),
        ),
    ]
}

const CHART: &str = "project_key,project_name,project_description,project_start_date,project_end_date\n";

fn chart() -> String {
    let row = |n: usize, name: &str, from: &str, to: &str| {
        format!("{},{name},\"It, all\nof it\",{from},{to}\n", uuid(n))
    };
    [
        CHART.to_owned(),
        row(0, "A club", "2/16/2026", "5/2/2027"),
        row(100, "Begin", "2/16/2026", "4/1/2026"),
        row(200, "Read", "4/2/2026", "5/2/2027"),
    ]
    .concat()
}

/// A folder of the last PlanExe.
fn plain(space: &Space) {
    let plan = PLAN.strip_prefix("Plan:\n").and_then(|rest| rest.split_once("\n\nToday")).expect("a plan").0;
    space
        .write("old/plan_raw.json", json!({ "plan_prompt": plan, "pretty_date": "2026-Feb-15" }).to_string());
    space.write("old/plan.txt", PLAN);
    for (name, value) in files() {
        space.write(&format!("old/{name}"), value.to_string());
    }
    space.write("old/schedule_gantt_machai.csv", chart());
    space.write("old/executive_summary.md", "# A club");
    space.write("old/report.html", "<h1>A club</h1>");
}

/// The same of PlanExe2: each file has a stage that read the plan and what the answer rests on.
fn recorded(space: &Space) -> Value {
    plain(space);
    let digest = |name: &str| short(&space.bytes(&format!("old/{name}")));
    let mut stages = serde_json::Map::new();
    let mut stage = |name: &str, inputs: &[&str], outputs: &[&str]| {
        let digests = |names: &[&str]| -> Value { names.iter().map(|name| (*name, digest(name))).collect() };
        stages.insert(
            name.to_owned(),
            json!({ "skill_hash": "0", "inputs": digests(inputs), "outputs": digests(outputs) }),
        );
    };
    stage("setup", &["plan_raw.json"], &["plan.txt"]);
    for (name, _) in files() {
        let inputs: &[&str] = match name {
            "wbs_level2.json" | "task_durations.json" => &["project_plan_raw.json"],
            _ => &["plan.txt"],
        };
        stage(name, inputs, &[name]);
    }
    stage("chart", &["task_durations.json"], &["schedule_gantt_machai.csv"]);
    stage("report", &["executive_summary.md"], &["report.html"]);
    space.write("old/canonical_facts.json", "{\"facts\": []}");
    let manifest = json!({ "version": 1, "stages": stages });
    space.write("old/.planexe_skill/manifest.json", manifest.to_string());
    manifest
}

fn import(space: &Space, more: &[&str]) -> Out {
    space.run(&[&["import", "planexe", "old", "--into", "club"], more].concat())
}

/// What is asked though the folder has it: another form, or of the whole plan.
const ASKED: [&str; 3] = ["executive_summary", "identify_purpose", "project_plan"];

fn goes_on(server: &FakeLlm, space: &Space) {
    let view = import(space, &["--json"]).exits(0).json();
    let (taken, left) = sorted(&view);
    let mut taken: Vec<&str> = taken.iter().map(String::as_str).collect();
    taken.sort_unstable();
    let mut wanted: Vec<&str> =
        TASKS.iter().map(|(task, ..)| *task).filter(|task| !ASKED.contains(task)).collect();
    wanted.extend(["create_wbs_level2", "enrich_levers", "estimate_task_durations"]);
    wanted.sort_unstable();
    assert_eq!(taken, wanted, "{left:?}");
    let code = |file: &str| left.get(file).map(String::as_str);
    assert_eq!(
        [
            code("executive_summary_raw.json"),
            code("identify_purpose_raw.json"),
            code("project_plan_raw.json")
        ],
        [Some("whole"), Some("form"), Some("form")]
    );
    let reference: Vec<&str> =
        view["reference"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(reference.contains(&"executive_summary.md"), "{reference:?}");
    assert_eq!(space.read("club/imported/executive_summary.md"), "# A club");

    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(
        server.counts(),
        ASKED.map(|task| (task.to_owned(), 1)).into_iter().collect::<BTreeMap<_, _>>()
    );
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(server.requests(), ASKED.len(), "nothing is left to do");

    let levers = space.json("club/potential_levers_raw.json");
    let ids: Vec<&str> =
        levers["levers"].as_array().expect("levers").iter().filter_map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, ["rhythm-of-the-club", "choice-of-books", "rhythm-of-the-club-3"]);
    assert_eq!(
        (&levers["levers"][0]["tension"], &levers["levers"][0]["blind_spot"]),
        (&json!("Zeal vs. Sleep"), &json!("Nobody asked the members."))
    );
    assert_eq!(space.json("club/enriched_levers/rhythm-of-the-club-3.json")["conflict"], "Sleep.");
    assert_eq!(space.json("club/plan_type_raw.json")["places"], json!(["City library, Bruges, Belgium"]));
    let team = space.json("club/find_team_members_raw.json");
    assert_eq!(
        (&team["members"][0]["people_needed"], &team["members"][1]["commitment"]),
        (&json!(3), &json!("full time"))
    );
    let contracts = space.json("club/enrich_team_members_contract_type_raw.json");
    assert_eq!(
        (&contracts["members"][0]["id"], &contracts["members"][1]["contract_type"]),
        (&json!("host"), &json!("contractor"))
    );
    let risk = &space.json("club/identify_risks_raw.json")["risks"][0];
    assert_eq!(
        (&risk["area"], &risk["likelihood"], &risk["impact"]),
        (&json!("legal and permits"), &json!(1), &json!(5))
    );
    let phase = &space.json("club/wbs_level1_raw.json")["phases"][1];
    assert_eq!(
        (&phase["start_month"], &phase["end_month"], &phase["calendar"]),
        (&json!(3), &json!(16), &json!("Apr 2026 to May 2027"))
    );
    let tree = space.json("club/wbs_project_level1_and_level2.json");
    assert_eq!(
        tree["phases"][1]["tasks"][1]["id"], "read-buy-tea",
        "an id of another phase has its own in front"
    );
    assert_eq!(space.files("club/task_durations").iter().filter(|file| file.ends_with(".json")).count(), 2);
    let done = space.json("club/enriched_levers/choice-of-books.json.DONE");
    assert_eq!(
        (&done["by"], &done["imported"]["file"]),
        (&json!("import"), &json!("enriched_levers_raw.json"))
    );
}

#[test]
fn a_folder_of_planexe_pays_only_for_what_has_no_counterpart() {
    let server = FakeLlm::new();
    let space = space(&server);
    plain(&space);
    let out = import(&space, &["-n", "-v"]).exits(0);
    out.says(&[
        "converted enriched_levers_raw.json",
        "answers enrich_levers, 3 answers",
        "reference report.html",
        "not used  executive_summary_raw.json",
    ]);
    goes_on(&server, &space);
}

#[test]
fn a_folder_of_planexe2_pays_only_for_what_has_no_counterpart() {
    let server = FakeLlm::new();
    let space = space(&server);
    recorded(&space);
    goes_on(&server, &space);
    assert!(space.exists("club/imported/canonical_facts.json"));
}

#[test]
fn a_conversion_rests_on_each_file_it_is_made_of() {
    let server = FakeLlm::new();
    let space = space(&server);
    let sound = recorded(&space);
    let left = || sorted(&import(&space, &["-n", "--json"]).exits(0).json()).1;
    // The places of a physical plan are in another file, which is out of date there.
    let mut manifest = sound.clone();
    manifest["stages"]["physical_locations_raw.json"]["inputs"]["plan.txt"] = json!("0000000000000000");
    space.write("old/.planexe_skill/manifest.json", manifest.to_string());
    assert_eq!(left().get("plan_type_raw.json").map(String::as_str), Some("stale"));
    space.write("old/.planexe_skill/manifest.json", sound.to_string());
    assert_eq!(left().get("plan_type_raw.json"), None);
    space.remove("old/physical_locations_raw.json");
    assert_eq!(left().get("plan_type_raw.json").map(String::as_str), Some("form"));

    // A folder without records in which an answer was given to another plan: what tells no plan is not believed.
    fs::remove_dir_all(space.path("old")).expect("removed");
    plain(&space);
    space.write(
        "old/redline_gate_raw.json",
        json!({ "verdict": "ALLOW", "rationale_short": "Yes.", "user_prompt": "Plan:\nA choir." })
            .to_string(),
    );
    let left = left();
    for file in ["redline_gate_raw.json", "enriched_levers_raw.json", "wbs_level1_raw.json"] {
        assert_eq!(left.get(file).map(String::as_str), Some("other_plan"), "{file}");
    }
    assert_eq!(left.get("wbs_level2.json").map(String::as_str), Some("rests_on"), "its phases are asked");
    assert_eq!(left.get("potential_levers_raw.json"), None, "it tells this plan");
}

#[test]
fn what_cannot_be_converted_exactly_is_asked() {
    let server = FakeLlm::new();
    let space = space(&server);
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let cases: [Case; 8] = [
        (
            "potential_levers_raw.json",
            &|it| it["levers"][1]["options"] = json!(["One"]),
            "1 option; 3 are wanted",
        ),
        (
            "enriched_levers_raw.json",
            &|it| it["characterized_levers"][0]["lever_id"] = json!("x"),
            "a lever that is not there",
        ),
        (
            "find_team_members_raw.json",
            &|it| it["brainstorm_of_needed_team_members"][0]["people_needed"] = json!("two or three"),
            "in a number",
        ),
        (
            "enrich_team_members_contract_type_raw.json",
            &|it| it["team_members"][0]["id"] = json!(9),
            "a role that is not there",
        ),
        (
            "enrich_team_members_contract_type_raw.json",
            &|it| it["team_members"][0]["contract_type"] = json!("other"),
            "`other`",
        ),
        (
            "identify_risks_raw.json",
            &|it| it["risks"][0]["likelihood"] = json!("certain\u{1b}[31m"),
            "`certain",
        ),
        ("identify_risks_raw.json", &|it| it["risks"] = Value::Array(vec![json!({}); 600]), "a list of 600"),
        ("task_durations.json", &|it| *it = json!({ "task_id": "x" }), "is no list"),
    ];
    for (file, change, says) in cases {
        plain(&space);
        let (_, mut value) = files().into_iter().find(|(name, _)| *name == file).expect("a file");
        change(&mut value);
        space.write(&format!("old/{file}"), value.to_string());
        let out = import(&space, &["-n", "--json"]).exits(0);
        assert_eq!(sorted(&out.json()).1.get(file).map(String::as_str), Some("form"), "{file}: {says}");
        let shown = import(&space, &["-n"]).exits(0).says(&[says]);
        assert!(!format!("{shown}").contains('\u{1b}'));
    }
    // A chart without dates, and no chart.
    plain(&space);
    for chart in [Some("a,b,c,d,e\n\"never closed"), Some(CHART), None] {
        match chart {
            Some(text) => space.write("old/schedule_gantt_machai.csv", text),
            None => space.remove("old/schedule_gantt_machai.csv"),
        }
        let left = sorted(&import(&space, &["-n", "--json"]).exits(0).json()).1;
        assert_eq!(left.get("wbs_level1_raw.json").map(String::as_str), Some("form"));
    }
}
