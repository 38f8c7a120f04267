//! Every conversion, on a folder that has a file for each: what is made holds under the flagship's own schema, and what is
//! not told exactly is refused.

#![expect(clippy::disallowed_methods, reason = "a test's own files")]

use std::path::Path;

use super::*;
use serde_json::json;

fn lever(n: usize, name: &str) -> Value {
    json!({
        "lever_id": format!("lever-{n}"), "name": name, "consequences": "A tenth stay away.",
        "options": ["Meet once in the week", "Meet twice in the week", "Never meet at all"], "review": "Nobody asked.",
    })
}

fn scenario(name: &str, chosen: &str) -> Value {
    json!({ "scenario_name": name, "strategic_logic": "It is so.", "lever_settings": { "Rhythm": chosen } })
}

/// The files of a run, by the names they have here. Answers lie at the top, or below `response`.
fn files() -> BTreeMap<&'static str, Value> {
    let body = |name: &str, up: &str| {
        json!({
            "name": name, "rationale_for_inclusion": "It decides.", "membership": ["Ann"], "responsibilities": ["All"],
            "decision_rights": "Up to 1000 EUR", "decision_mechanism": "Most votes.", "meeting_cadence": "Monthly",
            "escalation_path": up,
        })
    };
    let task = |id: &str, title: &str| json!({ "id": id, "description": title });
    let days = |id: &str, days: i64| json!({ "task_id": id, "delay_risks": "Rain.", "days_min": days, "days_max": 4, "days_realistic": 2 });
    let point = json!({ "issue": "No cook", "explanation": "They eat.", "recommendation": "Find one." });
    let document = |name: &str| json!({ "document_name": name, "description": "Says who.", "steps_to_find": ["Ask"], "responsible_role_type": "Host" });
    let draft = |name: &str| {
        json!({
            "document_name": name, "essential_information": ["Names", "Towns"], "steps_to_find": ["Ask", "Look"],
            "risks_of_poor_quality": "Old names.", "worst_case_scenario": "Nobody comes.",
            "fallback_alternative_approaches": ["Ring them"], "access_difficulty": "Easy.",
        })
    };
    let rated = |id: usize, rating: &str| json!({ "id": id, "impact_rating": rating, "rationale": "So." });
    let project = |name: &str| {
        json!({
            "project_name": name, "project_description": "They meet.", "risks_and_challenges_faced": ["Noise", "Colds"],
            "where_to_find_more_information": "By the church",
        })
    };
    let found_out = |title: &str| {
        json!({
            "title": title, "rationale": "Decides the room.", "data_to_collect": ["Prices"], "simulation_steps": [],
            "expert_validation_steps": ["Ask a house"], "responsible_parties": ["Mayor", "HOST"], "smart_validation_objective": "By May",
        })
    };
    let step = |step: &str| {
        json!({
            "step_description": step, "responsible_body_or_role": "The Board", "suggested_timeframe": "May",
            "key_outputs_deliverables": ["A list"], "dependencies": [],
        })
    };
    BTreeMap::from([
        (
            "redline_gate_raw.json",
            json!({ "response": { "verdict": "ALLOW", "rationale_short": "Harmless.", "violation_category": null } }),
        ),
        ("plan_type_raw.json", json!({ "explanation": "A library.", "plan_type": "physical" })),
        (
            "physical_locations_raw.json",
            json!({
                "requirements_for_the_physical_locations": ["Quiet", "Warm"], "location_summary": "Two.",
                "physical_locations": [
                    { "physical_location_broad": "Belgium", "physical_location_detailed": "Bruges", "physical_location_specific": "Bruges, library", "rationale_for_suggestion": "Warm." },
                    { "physical_location_broad": "Spain", "physical_location_detailed": "Vigo", "physical_location_specific": "", "rationale_for_suggestion": "Sea." },
                ],
            }),
        ),
        (
            "currency_strategy_raw.json",
            json!({
                "primary_currency": "EUR", "currency_strategy": "All is paid in it.",
                "currency_list": [{ "currency": "EUR", "consideration": "Rent" }, { "currency": "USD", "consideration": "Books" }],
            }),
        ),
        (
            "identify_risks_raw.json",
            json!({
                "risk_assessment_summary": "Few.",
                "risks": [{ "risk_area": "Health & Safety", "risk_description": "Fire.", "potential_impact": "No room.", "likelihood": "low", "severity": "medium", "action": "Buckets." }],
            }),
        ),
        (
            "review_assumptions_raw.json",
            json!({
                "expert_domain": "Clubs", "domain_specific_considerations": ["Rules"], "conclusion": "Sound.",
                "issues": [{ "issue": "Rent", "explanation": "It rises.", "recommendation": "Ask.", "sensitivity": "10 %" }],
            }),
        ),
        ("related_resources_raw.json", json!({ "suggestion_list": [project("A choir"), project("A team")] })),
        (
            "swot_analysis_raw.json",
            json!({ "response_conduct": {
            "strengths": ["Zeal"], "weaknesses": ["Sleep"], "opportunities": ["Tea"], "threats": ["Rain"],
            "recommendations": ["Begin"], "missing_information": ["Rent"], "user_questions": ["When?"],
        } }),
        ),
        (
            "potential_levers_raw.json",
            json!({ "levers": [lever(0, "Rhythm"), lever(1, "Books"), lever(2, "Tea")] }),
        ),
        (
            "triaged_levers_raw.json",
            json!({ "response": [
            { "lever_id": "lever-1", "classification": "secondary", "justification": "Books come." },
            { "lever_id": "lever-0", "classification": "primary", "justification": "All hangs on it." },
        ] }),
        ),
        (
            "enriched_levers_raw.json",
            json!({ "characterized_levers": [
            { "lever_id": "lever-0", "description": "How often.", "synergy_text": "Books.", "conflict_text": "Sleep." },
        ] }),
        ),
        (
            "vital_few_levers_raw.json",
            json!({ "response": { "summary": "One.", "lever_assessments": [
            { "lever_id": "lever-0", "strategic_importance": "Critical", "justification": "All hangs on it." },
            { "lever_id": "lever-1", "strategic_importance": "Low", "justification": "Books come." },
        ] } }),
        ),
        (
            "candidate_scenarios_raw.json",
            json!({ "core_tension": "Zeal against sleep", "scenarios": [
            scenario("Go far", "Meet twice in the week"), scenario("Go on", "Meet once in the week"), scenario("Stay", "Never meet at all"),
        ] }),
        ),
        (
            "selected_scenario_raw.json",
            json!({
                "plan_characteristics": { "ambition_and_scale": "Small", "risk_and_novelty": "None", "complexity_and_constraints": "Few", "domain_and_tone": "Calm" },
                "scenario_assessments": [
                    { "scenario_name": "Stay", "fit_score": 1, "fit_assessment": "Dull." },
                    { "scenario_name": "Go far", "fit_score": 4, "fit_assessment": "Much." },
                    { "scenario_name": "Go on", "fit_score": 8, "fit_assessment": "Fits." },
                ],
                "final_choice": { "chosen_scenario_name": "Go on", "justification": "It fits." },
            }),
        ),
        (
            "governance_phase1_audit_raw.json",
            json!({
                "corruption_list": ["Tea is sold", "Keys"], "misallocation_list": ["Cake", "Cups"], "audit_procedures": ["Count", "Ask"], "transparency_measures": ["A list", "A book"],
            }),
        ),
        (
            "governance_phase2_bodies_raw.json",
            json!({ "internal_governance_bodies": [body("The Board", ""), body("Hosts", "To the board.")] }),
        ),
        (
            "governance_phase3_impl_plan_raw.json",
            json!({ "governance_implementation_plan": [step("Vote"), step("Meet")] }),
        ),
        (
            "governance_phase4_decision_escalation_matrix_raw.json",
            json!({ "decision_escalation_matrix": [
            { "issue_type": "Money", "escalation_level": "The board", "rationale": "Much.", "approval_process": "Votes.", "negative_consequences": "Debt." },
            { "issue_type": "Fire", "escalation_level": "The mayor", "rationale": "Hot.", "approval_process": "", "negative_consequences": "Ash." },
        ] }),
        ),
        (
            "find_team_members_raw.json",
            json!({ "brainstorm_of_needed_team_members": [
            { "job_category_title": "Reader", "short_explanation": "Reads.", "people_needed": "min 2, max 5, by the books", "consequences_of_not_having_this_role": "Silence." },
            { "job_category_title": "Host", "short_explanation": "Opens.", "people_needed": 1, "consequences_of_not_having_this_role": "A shut door." },
        ] }),
        ),
        (
            "enrich_team_members_contract_type_raw.json",
            json!({ "team_members": [
            { "id": 1, "contract_type": "part_time_employee", "justification": "Weekly." },
            { "id": 2, "contract_type": "agency_temp", "justification": "At times." },
        ] }),
        ),
        (
            "enrich_team_members_background_story_raw.json",
            json!({ "team_members": [
            { "id": 2, "job_background_story_of_employee": "Kept an inn.", "typical_job_activities": ["Open"] },
            { "id": 1, "job_background_story_of_employee": "Read much.", "typical_job_activities": ["Read"] },
        ] }),
        ),
        (
            "enrich_team_members_environment_info_raw.json",
            json!({ "team_members": [
            { "id": 1, "equipment_needs": "Glasses", "facility_needs": ["A chair"] },
            { "id": 2, "equipment_needs": ["Keys"], "facility_needs": [] },
        ] }),
        ),
        ("review_team_raw.json", json!({ "omissions": [point], "potential_improvements": [point] })),
        (
            "data_collection_raw.json",
            json!({ "summary": "Little.", "data_collection_list": [found_out("Rent"), found_out("Heat")] }),
        ),
        (
            "identified_documents_raw.json",
            json!({
                "documents_to_find": [document("Members"), document("Rules")], "documents_to_find_part2": [document("Old rules")],
                "documents_to_create": [document("Charter"), document("Sign")],
            }),
        ),
        (
            "filter_documents_to_find_raw.json",
            json!({ "document_list": [rated(0, "Critical"), rated(1, "High"), rated(2, "Low")] }),
        ),
        (
            "filter_documents_to_find_clean.json",
            json!([{ "document_name": "Members" }, { "document_name": "Rules" }]),
        ),
        (
            "filter_documents_to_create_raw.json",
            json!({ "document_list": [rated(0, "High"), rated(1, "Low")] }),
        ),
        ("filter_documents_to_create_clean.json", json!([{ "document_name": "Charter" }])),
        ("draft_documents_to_find.json", json!([draft("Members"), draft("Rules")])),
        ("wbs_level1_raw.json", json!({ "project_title": "A club", "final_deliverable": "Books read" })),
        (
            "wbs_level2.json",
            json!([
                { "id": "p1", "major_phase_title": "Begin", "subtasks": [task("t1", "Find a room"), task("t2", "Buy tea")] },
                { "id": "p2", "major_phase_title": "Read", "subtasks": [task("t3", "Buy tea"), task("t4", "Read")] },
            ]),
        ),
        ("task_durations.json", json!([days("t1", 1), days("t2", -1), days("t3", 1), days("t4", 1)])),
        (
            "task_dependencies_raw.json",
            json!({ "task_dependency_details": [
            { "dependent_task_id": "t4", "depends_on_task_id_list": ["t1", "t3"], "depends_on_task_explanation_list": ["A room", "Tea"] },
            { "dependent_task_id": "t1", "depends_on_task_id_list": [] },
        ] }),
        ),
    ])
}

const CHART: &str =
    "key,name,description,start,end\np1,Begin,,2/16/2026,4/1/2026\np2,Read,,4/2/2026,5/2/2027\n";

/// What is made of one file of these.
fn converted(files: &BTreeMap<&'static str, Value>, file: &str) -> Result<Vec<Answer>, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in files {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    }
    std::fs::write(dir.path().join("wbs.csv"), CHART).unwrap();
    let names =
        files.keys().copied().chain(["wbs.csv"]).map(|name| (name.to_owned(), name.to_owned())).collect();
    let folder = Folder::open(dir.path()).unwrap();
    let (_, conversion) = conversion(file).unwrap();
    (conversion.convert)(&Old::new(&folder, &names, "A club in  Bruges"))
}

#[test]
fn each_conversion_holds_under_the_schema_of_its_task() {
    let files = files();
    let mut made = BTreeMap::new();
    for of in CONVERSIONS {
        let answers = converted(&files, of.file).unwrap_or_else(|why| panic!("{} {why}", of.file));
        let schema = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("schemas/{}.json", of.task.replace("documents_to", "document_to")));
        let schema = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        assert!(!answers.is_empty(), "{}", of.file);
        for answer in &answers {
            let faults: Vec<String> = schema.iter_errors(&answer.value).map(|it| it.to_string()).collect();
            assert!(faults.is_empty(), "{}: {faults:?}\n{:#}", of.file, answer.value);
        }
        made.insert(of.task, answers);
    }
    let is = |task: &str, pointer: &str, wanted: Value| {
        assert_eq!(made[task][0].value.pointer(pointer), Some(&wanted), "{task} {pointer}");
    };
    is("plan_type", "/places", json!(["Bruges, library, Belgium", "Vigo, Spain"]));
    is("physical_locations", "/locations/0/origin", json!("given"));
    is("physical_locations", "/locations/1/origin", json!("suggested"));
    is("currency_strategy", "/others", json!([{ "currency": "USD", "use": "Books", "protection": "" }]));
    is("related_resources", "/resources/0/learn", json!("Noise; Colds"));
    is("triage_levers", "/decisions/0/lever_id", json!("books"));
    is("focus_on_vital_few_levers", "/lever_assessments/0/importance", json!("critical"));
    is("candidate_scenarios", "/bold/lever_settings/0/option", json!(2));
    is("candidate_scenarios", "/cautious/name", json!("Stay"));
    is("select_scenario", "/choice", json!("balanced"));
    is("select_scenario", "/fit/cautious/score", json!(1));
    is("governance_phase2_bodies", "/bodies/0/escalates_to", json!(""));
    is("governance_phase2_bodies", "/bodies/1/escalates_to", json!("the-board"));
    is("governance_phase4_decision_escalation_matrix", "/rows/0/escalates_to", json!("the-board"));
    is(
        "governance_phase4_decision_escalation_matrix",
        "/rows/1/threshold",
        json!("Goes to: The mayor. Hot."),
    );
    is("find_team_members", "/members/0/people_needed", json!(2));
    is("find_team_members", "/members/0/commitment", json!("part time, min 2, max 5, by the books"));
    is("enrich_team_members_background_story", "/members/0/id", json!("host"));
    is("data_collection", "/items/0/owner", json!("host"));
    is("data_collection", "/items/0/method", json!("Ask a house"));
    is("identify_documents", "/to_find/0/weight", json!("essential"));
    is("identify_documents", "/to_find/1/weight", json!("useful"));
    is("identify_documents", "/to_find/2/weight", json!("leave out"));
    is("identify_documents", "/to_create/0/weight", json!("useful"));
    assert_eq!(made["draft_documents_to_find"][1].key.as_deref(), Some("rules"));
    is("draft_documents_to_find", "/if_missing", json!("Nobody comes. Ring them"));
    is("estimate_task_durations", "/durations/1/task_id", json!("read-buy-tea"));
    is("identify_task_dependencies", "/dependencies/0/depends_on", json!(["find-a-room", "read-buy-tea"]));
    assert_eq!(made["identify_task_dependencies"][0].value["dependencies"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_not_told_exactly_is_refused() {
    // The conversion, the file that is changed, where, what to, and why it is refused then.
    #[rustfmt::skip]
    let cases: &[(&str, &str, &str, Value, &str)] = &[
        ("redline_gate_raw.json", "", "/response/verdict", json!("MAYBE"), "has no verdict that is known"),
        ("redline_gate_raw.json", "", "/response/violation_category", json!("theft"), "allows the plan and names a violation"),
        ("plan_type_raw.json", "", "/plan_type", json!("dreamt"), "has no `plan_type` that is known"),
        ("physical_locations_raw.json", "", "/physical_locations/1", json!({}), "has a place without a name"),
        ("physical_locations_raw.json", "", "/physical_locations", json!([]), "has no list `physical_locations`"),
        ("physical_locations_raw.json", "", "/physical_locations", json!(vec![1; 501]), "has a list of 501; at most 500 are looked at"),
        ("currency_strategy_raw.json", "", "/primary_currency", json!(" "), "gives no `primary_currency`"),
        ("triaged_levers_raw.json", "", "/response/0/classification", json!("keep"), "does not say which of the levers it keeps are the primary ones"),
        ("vital_few_levers_raw.json", "", "/response/lever_assessments/0/strategic_importance", json!("vast"), "has `vast` as an importance, which is not known"),
        ("candidate_scenarios_raw.json", "", "/scenarios/0", json!({}), "has a scenario without settings"),
        ("candidate_scenarios_raw.json", "", "/scenarios", json!([1]), "has 1 scenarios; 3 are wanted"),
        ("candidate_scenarios_raw.json", "", "/scenarios/0/lever_settings/Rhythm", json!("Meet thrice"), "sets `Rhythm` to none of its options"),
        ("candidate_scenarios_raw.json", "", "/scenarios/0/lever_settings", json!({ "Books": "Never meet at all" }), "sets a lever that is not vital"),
        ("selected_scenario_raw.json", "", "/scenario_assessments/0/fit_score", json!("much"), "gives no `fit_score`"),
        ("selected_scenario_raw.json", "", "/final_choice/chosen_scenario_name", json!("Go"), "names a scenario that is not there: Go"),
        ("selected_scenario_raw.json", "", "/final_choice", Value::Null, "gives no `chosen_scenario_name`"),
        ("find_team_members_raw.json", "", "/brainstorm_of_needed_team_members/0/people_needed", json!("min some, max 5"), "does not say in a number how many `Reader` are needed"),
        ("review_team_raw.json", "", "/omissions/0/issue", json!(""), "gives no `issue`"),
        ("enrich_team_members_environment_info_raw.json", "", "/team_members/0/id", json!(0), "names a role that is not there"),
        ("identified_documents_raw.json", "filter_documents_to_find_raw.json", "/document_list/0/id", json!("first"), "has a document without a number"),
        ("identified_documents_raw.json", "filter_documents_to_find_raw.json", "/document_list/0/id", json!(7), "has a document that nobody rated: Members"),
        ("identified_documents_raw.json", "filter_documents_to_create_clean.json", "", json!({}), "has no list of the documents kept"),
        ("draft_documents_to_find.json", "", "", json!({}), "is no list"),
        ("draft_documents_to_find.json", "", "/0/document_name", json!("Diary"), "drafts a document that is not there: Diary"),
        ("wbs_level2.json", "", "", json!({}), "`wbs_level2.json` is no list"),
        ("wbs_level1_raw.json", "wbs_level2.json", "/1/id", json!("p9"), "has a phase without dates: Read"),
        ("task_dependencies_raw.json", "", "/task_dependency_details/0/dependent_task_id", json!("p2"), "names a task that is not there, or a whole phase"),
        ("task_dependencies_raw.json", "", "/task_dependency_details/0/depends_on_task_id_list/1", json!("p1"), "names a task that is not there, or a whole phase"),
    ];
    let sound = files();
    for (of, changed, pointer, value, why) in cases {
        let mut files = sound.clone();
        let changed = if changed.is_empty() { of } else { changed };
        *files.get_mut(*changed).unwrap().pointer_mut(pointer).unwrap() = value.clone();
        assert_eq!(converted(&files, of).err().as_deref(), Some(*why), "{of}: {changed} {pointer}");
    }
    let mut files = sound;
    files.remove("wbs_level2.json");
    assert_eq!(
        converted(&files, "wbs_level2.json").err().as_deref(),
        Some("`wbs_level2.json` is wanted beside it")
    );
}
