//! A plan that starts on another day: its dates move with it, no model is asked, and what was given stays.

use serde_json::Value;

use crate::flagship::{BUSINESS, build, calls, finished, made};
use crate::support::{Out, Space};

fn moved(space: &Space, variables: &[&str]) -> Out {
    let defined = variables.iter().flat_map(|variable| ["-D", variable]);
    space.run(&["-C", BUSINESS].into_iter().chain(defined).chain(["build"]).collect::<Vec<_>>())
}

fn json(space: &Space, file: &str) -> Value {
    space.json(&format!("{BUSINESS}/{file}"))
}

fn fact(space: &Space, id: &str) -> String {
    let facts = json(space, "canonical_facts.json");
    let facts = facts["facts"].as_array().expect("facts");
    let fact = facts.iter().find(|fact| fact["id"] == id).expect(id);
    fact["value"].as_str().expect("a date").to_owned()
}

#[test]
fn another_start_moves_every_date_and_asks_nobody() {
    let space = finished(BUSINESS);
    let (before, asked) = (made(&space, BUSINESS), calls(&space, BUSINESS));
    let report = space.read(&format!("{BUSINESS}/report.md"));
    assert!(report.contains("1 March 2027") && report.contains("31 January 2027"));

    moved(&space, &["start_date=2027-09-01"]).exits(0);
    assert_eq!(calls(&space, BUSINESS), asked, "a model was asked");
    assert_eq!(json(&space, "schedule.json")["start"], "2027-09-01");
    for (id, wanted) in [
        ("start", "2027-09-01"),
        ("milestone_1", "2027-12-30"),
        ("milestone_3", "2028-05-30"),
        // The opening is in plan.txt.
        ("milestone_9", "2029-06-01"),
        ("planned_end", "2030-05-30"),
    ] {
        assert_eq!(fact(&space, id), wanted, "{id}");
    }
    let register = json(&space, "decision_register.json");
    assert_eq!(register["open"][0]["decide_by"], "30 December 2027", "{register:#}");
    let summary = json(&space, "plan_summary.json");
    assert_eq!(
        (summary["start_date"].as_str(), summary["milestones"][8]["date"].as_str()),
        (Some("2027-09-01"), Some("2029-06-01"))
    );
    // What was to be done by the opening is late now, and the schedule says so.
    let late = json(&space, "schedule.json");
    let late: Vec<&Value> = late["deadlines"].as_array().expect("deadlines").iter().collect();
    let opening = late.iter().find(|deadline| deadline["date"] == "2029-06-01").expect("the opening");
    assert!(opening["margin_days"].as_i64().expect("days") < 0, "{opening}");
    let report = space.read(&format!("{BUSINESS}/report.md"));
    let (text, given) = report.split_once("## The plan as it was given").expect("the plan");
    assert!(given.contains("start on 1 March 2027"));
    assert!(text.contains("written for a start on 2027-03-01 and moved to 2027-09-01"));
    for gone in ["1 March 2027", "March 2027", "31 January 2027", "30 June 2027"] {
        assert!(!text.contains(gone), "{gone}");
    }
    for there in ["1 September 2027", "31 July 2027", "30 December 2027", "1 June 2029"] {
        assert!(text.contains(there), "{there}");
    }
    space.run(&["-C", BUSINESS, "-D", "start_date=2027-09-01", "build", "-q"]).exits(0);

    // A day that somebody else has set.
    moved(&space, &["start_date=2027-09-01", "fixed_dates=2027-06-30, 2028-05-15"]).exits(0);
    assert_eq!(
        (fact(&space, "milestone_1"), fact(&space, "milestone_2")),
        ("2027-06-30".into(), "2028-03-30".into())
    );

    // And back.
    build(&space, BUSINESS).exits(0);
    assert_eq!(calls(&space, BUSINESS), asked);
    assert!(made(&space, BUSINESS) == before, "the plan is not what it was");
}

#[test]
fn a_start_that_is_no_date_moves_nothing_and_is_told() {
    let space = finished(BUSINESS);
    let asked = calls(&space, BUSINESS);
    moved(&space, &["start_date=next spring"]).exits(0);
    assert_eq!(calls(&space, BUSINESS), asked);
    assert_eq!(json(&space, "schedule.json")["start"], "2027-03-01");
    assert!(
        space.read(&format!("{BUSINESS}/report.md")).contains("The start asked for is no date (next spring)")
    );
}
