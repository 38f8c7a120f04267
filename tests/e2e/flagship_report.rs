//! What the first page of the flagship's report says: who decides and by when, where its numbers come from, and no plural
//! of one.

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, answers, build, flagship, made};
use crate::support::Space;

fn register(space: &Space, run: &str) -> Value {
    space.json(&format!("{run}/decision_register.json"))
}

/// A range is one claim: it comes from where the whole of it is said, and not from a line that has one of its ends.
#[test]
fn a_range_that_no_fact_has_is_found_with_both_its_ends() {
    let space = flagship();
    let range = "EUR 150,000 to 400,000";
    let plan = space.read(&format!("{BUSINESS}/plan.txt"));
    assert!(plan.contains("EUR 150,000 a year"), "the plan has one of the ends");
    answers(&space, BUSINESS, "executive_summary", |_, answer| {
        answer["risks"] = json!(format!("The soil may cost {range} more, or EUR 0.7 to 0.9 million."));
    });
    answers(&space, BUSINESS, "identify_risks", |_, answer| {
        answer["risks"][0]["impact_text"] = json!(format!("{range} and 6 to 14 weeks"));
    });
    space.run(&["-C", BUSINESS, "build", "arithmetic_check"]).exits(0);
    let found = space.json(&format!("{BUSINESS}/arithmetic_check.json"));
    let uncited = found["uncited"].as_array().expect("numbers");
    let of_summary: Vec<&Value> =
        uncited.iter().filter(|number| number["document"] == "executive_summary.md").collect();
    let from = |said: &str| {
        let number = of_summary.iter().find(|number| number["said"] == said);
        number.unwrap_or_else(|| panic!("{said}: {of_summary:#?}"))["from"].clone()
    };
    assert!(
        from(range).as_str().is_some_and(|from| from.starts_with("consolidate_assumptions_full.md, line "))
    );
    assert_eq!(from("EUR 0.7 to 0.9 million"), "");
    assert!(!of_summary.iter().any(|number| number["said"] == "EUR 150,000" || number["said"] == "400,000"));
}

/// Whoever reads the first page knows who decides what, and what comes first.
#[test]
fn each_open_question_has_somebody_who_decides_and_what_is_needed_first_stands_first() {
    let space = flagship();
    for run in [BUSINESS, PERSONAL] {
        build(&space, run).exits(0);
        let all = register(&space, run);
        let open = all["open"].as_array().expect("a list");
        let bodies = space.json(&format!("{run}/governance_phase2_bodies_raw.json"))["bodies"].clone();
        let team = space.json(&format!("{run}/find_team_members.json"))["members"].clone();
        let names: Vec<&Value> = bodies
            .as_array()
            .expect("bodies")
            .iter()
            .map(|body| &body["name"])
            .chain(team.as_array().expect("members").iter().map(|member| &member["title"]))
            .collect();
        assert!(open.iter().all(|d| names.contains(&&d["owner"])), "{run}: {open:#?}");
        let days: Vec<&str> = open.iter().map(|d| d["day"].as_str().expect("a day")).collect();
        assert!(days.is_sorted() && days.iter().all(|day| !day.is_empty()), "{run}: {days:?}");
        for file in ["report.html", "report.md", "decision_register.md"] {
            let text = space.read(&format!("{run}/{file}"));
            assert!(!text.contains("to be named") && !text.contains("to be set"), "{run}/{file}");
            // A figure whose name is a question needs no colon.
            assert!(!text.contains("?: ") && !text.contains("?</a>:"), "{run}/{file}");
            let places: Vec<usize> = open
                .iter()
                .map(|d| text.find(d["ask"].as_str().expect("a question")).expect("the question"))
                .collect();
            assert!(places.is_sorted(), "{run}/{file}: {places:?}");
        }
    }

    // A day that cannot be read stands last; of the day of a condition and that of the decision the earlier one holds.
    answers(&space, PERSONAL, "decision_options", |_, answer| {
        for d in answer["decisions"].as_array_mut().expect("a list") {
            d["decide_by"] = json!(match d["question_id"].as_str() {
                Some("condition-1") => "1 March 2028",
                Some("condition-2") => "5 January 2027",
                _ => "in good time",
            });
        }
    });
    space.run(&["-C", PERSONAL, "clean", "decision_options", "--yes"]).exits(0);
    build(&space, PERSONAL).exits(0);
    let all = register(&space, PERSONAL);
    let open = all["open"].as_array().expect("a list").iter();
    let told: Vec<(&str, &str)> =
        open.map(|d| (d["id"].as_str().expect("an id"), d["decide_by"].as_str().expect("a day"))).collect();
    assert_eq!(
        told,
        [
            ("condition-2", "5 January 2027"),
            ("condition-1", "7 February 2027"),
            ("assumption-hours-per-week", "in good time")
        ]
    );
    // Who answers for a condition is told with its own day.
    assert!(
        space
            .read(&format!("{PERSONAL}/report.md"))
            .contains("The learner answers for it, by 15 January 2027.")
    );

    // A sample is told as that, and not as a plan with parts missing.
    space.edit("prompts/decision_options.md", "# Task", "# The task");
    build(&space, PERSONAL).exits(0);
    let md = space.read(&format!("{PERSONAL}/report.md"));
    assert!(md.contains("**A sample, not the plan asked for.**"), "{}", &md[..400]);
    assert!(!md.contains("Parts of this plan") && !md.contains("Something of this plan"), "{}", &md[..400]);
}

/// `1 day`, and not `1 days`, wherever a person reads.
#[test]
fn one_is_no_plural_in_what_is_read() {
    let space = flagship();
    let plural = regex::Regex::new(r"(?:^|[^\d.,:/-])1 (?:working |calendar )?(?:days|tasks|calls|weeks|hours|months|years|words|steps|phases|roles|questions|documents|readings|topics|items|points|minutes)\b").expect("a pattern");
    for run in [BUSINESS, PERSONAL] {
        let out = build(&space, run).exits(0);
        assert!(!plural.is_match(&out.stderr), "{}", out.stderr);
        for (path, bytes) in made(&space, run) {
            let text = String::from_utf8_lossy(&bytes);
            if let Some(found) = text.lines().find(|line| plural.is_match(line)) {
                panic!("{run}/{path}: {found}");
            }
        }
    }
    let facts = space.read(&format!("{BUSINESS}/canonical_facts.md"));
    assert!(facts.contains("| 1 day |"), "the sample has a figure of one day");
}
