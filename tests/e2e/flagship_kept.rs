//! A plan that was edited while answers to its former text were kept: the report says so, names the parts, and every line
//! that still states what the plan no longer does.

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, build, calls, finished, made};
use crate::support::Space;

fn json_of(space: &Space, run: &str, file: &str) -> Value {
    space.json(&format!("{run}/{file}"))
}

/// Gives a run's plan another text; what else is said is kept.
fn edit(space: &Space, run: &str, changes: &[(&str, &str)], what: &[&str]) {
    let mut text = space.read(&format!("{run}/plan.txt"));
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    space.write("new.txt", text);
    space.run(&[&["-C", run, "edit-plan", "--set", "new.txt"], what].concat()).exits(0);
}

fn sections(former: &Value) -> Vec<String> {
    let sections = former["sections"].as_array().expect("sections").iter();
    sections.map(|it| it["section"].as_str().expect("a section").to_owned()).collect()
}

#[test]
fn the_first_page_says_what_was_written_before_the_plan_was_changed() {
    let space = finished(BUSINESS);
    let asked = calls(&space, BUSINESS);
    let report = |file: &str| space.read(&format!("{BUSINESS}/{file}"));
    assert!(!report("report.html").contains("before the plan was changed"));
    assert_eq!(json_of(&space, BUSINESS, "former_values.json")["kept"], 0);

    let changes =
        [("1 March 2027", "1 September 2027"), ("EUR 6.4 million in all", "EUR 7.2 million in all")];
    edit(&space, BUSINESS, &changes, &["--remake", "swot_analysis"]);
    build(&space, BUSINESS).exits(0);
    assert_eq!(calls(&space, BUSINESS), asked + 1, "only what was named is asked");

    let former = json_of(&space, BUSINESS, "former_values.json");
    assert_eq!(former["gone"], json!(["EUR 6.4 million", "1 March 2027", "March 2027"]));
    let named = sections(&former);
    for section in ["register", "summary", "verdict", "figures", "project", "scenarios", "audit"] {
        assert!(named.contains(&section.to_owned()), "{section}");
    }
    assert!(!named.contains(&"swot".to_owned()), "what was made again is not old");
    // Every place is one, and those of the first pages are among them.
    let places = former["places"].as_array().expect("places");
    let mut seen = Vec::new();
    for place in places {
        let (document, said) =
            (place["document"].as_str().expect("a name"), place["said"].as_str().expect("words"));
        let text = report(document);
        let line = text.lines().nth(place["line"].as_u64().expect("a line") as usize - 1).expect("a line");
        assert!(line.contains(said), "{place}: {line}");
        seen.push((document.to_owned(), place["was"].as_str().expect("words").to_owned()));
    }
    for (document, was) in [
        ("canonical_facts.md", "1 March 2027"),
        ("canonical_facts.md", "EUR 6.4 million"),
        ("executive_summary.md", "EUR 6.4 million"),
        ("project_plan.md", "1 March 2027"),
    ] {
        assert!(seen.contains(&(document.to_owned(), was.to_owned())), "{document}: {was}");
    }
    let html = report("report.html");
    let (first_page, _) = html.split_once("id=\"main\"").expect("a first page");
    for there in [
        "Parts of this report were written before the plan was changed.",
        "<a href=\"#summary\">Summary</a>",
        "The plan no longer says 1 March 2027; EUR 6.4 million; March 2027.",
        "<a href=\"#former\">where</a>",
    ] {
        assert!(first_page.contains(there), "{there}");
    }
    assert!(!first_page.contains("the figures add up"));
    for link in named.iter().map(String::as_str).chain(["former"]) {
        assert!(html.contains(&format!("id=\"{link}\"")), "no section {link}");
    }
    let text = report("report.md");
    assert!(text.contains("**Parts of this report were written before the plan was changed.**"));
    assert!(text.contains("- EUR 6.4 million: executive_summary.md, line "));
    let quality = json_of(&space, BUSINESS, "quality.json");
    assert_eq!(quality["complete"], false);
    assert!(quality["kept"].as_array().expect("a list").contains(&json!("executive_summary")));
    assert_eq!(json_of(&space, BUSINESS, "plan_summary.json")["quality"], quality);
    space.run(&["-C", BUSINESS, "build", "-q"]).exits(0);
}

#[test]
fn a_plan_whose_answers_are_all_kept_has_a_new_report_without_a_call_and_its_old_one_back() {
    let space = finished(PERSONAL);
    let (before, asked) = (made(&space, PERSONAL), calls(&space, PERSONAL));
    let plan = space.read(&format!("{PERSONAL}/plan.txt"));
    edit(&space, PERSONAL, &[(".", "!")], &["--none"]);
    build(&space, PERSONAL).exits(0);
    assert_eq!(calls(&space, PERSONAL), asked, "a model was asked");
    let former = json_of(&space, PERSONAL, "former_values.json");
    assert!(former["kept"].as_u64().expect("a number") > 50, "{former:#}");
    assert_eq!((&former["gone"], &former["places"]), (&json!([]), &json!([])), "no figure was changed");
    let html = space.read(&format!("{PERSONAL}/report.html"));
    assert!(html.contains("before the plan was changed") && !html.contains("The plan no longer says"));
    assert!(html.contains("the figures add up"));
    space.run(&["-C", PERSONAL, "build", "-q"]).exits(0);

    // With its former words the plan is the one that was answered.
    space.write("old.txt", &plan);
    space.run(&["-C", PERSONAL, "edit-plan", "--set", "old.txt", "--none"]).exits(0);
    build(&space, PERSONAL).exits(0);
    assert_eq!(calls(&space, PERSONAL), asked);
    assert!(made(&space, PERSONAL) == before, "the report is not what it was");
}
