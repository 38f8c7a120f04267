//! Options of the decisions that the flagship's report asks a person for: each open question has some, they name figures
//! there are, and what follows from a figure that changes is computed.

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, answers, build, calls, finished, flagship, made};
use crate::support::Space;

fn register(space: &Space, run: &str) -> Value {
    space.json(&format!("{run}/decision_register.json"))
}

/// The option of a question, by its place.
fn option(answer: &mut Value, question: usize, option: usize) -> &mut Value {
    &mut answer["decisions"][question]["options"][option]
}

#[test]
fn an_option_that_names_a_figure_that_is_not_there_fails_by_name() {
    let space = flagship();
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let change = |fact: &str, becomes: &str| json!([{ "fact_id": fact, "becomes": becomes }]);
    let wrong: [Case; 8] = [
        ("did you mean `cost_1`", &|it| option(it, 0, 0)["changes"] = change("cost_11", "450")),
        ("changes `budget`, which is computed", &|it| option(it, 0, 0)["changes"] = change("budget", "450")),
        ("`cost_1` becomes `2027-02-01`, which is a date", &|it| {
            option(it, 0, 0)["changes"] = change("cost_1", "2027-02-01");
        }),
        ("`milestone_1` becomes `31`, which is no date", &|it| {
            option(it, 0, 0)["changes"] = change("milestone_1", "31");
        }),
        ("`condition-2` is open and has no options", &|it| {
            it["decisions"].as_array_mut().expect("a list").remove(1);
        }),
        (
            "“My aunt” is no body and no role of the plan; copy one of: The two at the kitchen table;",
            &|it| {
                it["decisions"][0]["owner"] = json!("My aunt");
            },
        ),
        ("25 × EUR 18 = EUR 400", &|it| option(it, 0, 0)["follows"] = json!("25 × EUR 18 = EUR 400")),
        ("/decisions/0/options", &|it| {
            it["decisions"][0]["options"].as_array_mut().expect("a list").truncate(1);
        }),
    ];
    let file = format!("{PERSONAL}/answers.json");
    let good = space.read(&file);
    for (says, change) in wrong {
        space.write(&file, &good);
        answers(&space, PERSONAL, "decision_options", |_, answer| change(answer));
        let out = format!("{}", build(&space, PERSONAL).exits(1));
        let failures = space.read(&format!("{PERSONAL}/failures.jsonl"));
        assert!(out.contains(says) || failures.contains(says), "{says}: {out}\n{failures}");
        assert!(!space.exists(&format!("{PERSONAL}/decision_register.json")), "{says}");
    }
    space.write(&file, &good);
    build(&space, PERSONAL).exits(0);
    let asked = calls(&space, PERSONAL);
    build(&space, PERSONAL).exits(0);
    assert_eq!(calls(&space, PERSONAL), asked, "nothing is left to do");
}

#[test]
fn each_open_question_has_options_and_what_follows_is_computed() {
    let space = finished(BUSINESS);
    let all = register(&space, BUSINESS);
    let open = all["open"].as_array().expect("a list");
    assert_eq!(open.len(), 10);
    for d in open {
        let options = d["options"].as_array().expect("options");
        assert!((2..=4).contains(&options.len()), "{d:#}");
        for key in ["ask", "if_nobody", "owner", "decide_by"] {
            assert!(d[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {d:#}");
        }
    }
    let fund = open.iter().find(|d| d["id"] == "condition-2").expect("the condition");
    let changes = fund["options"][0]["changes"].as_array().expect("changes");
    let to = |id: &str| {
        let change = changes.iter().find(|change| change["fact_id"] == id).expect(id);
        (change["from"].clone(), change["to"].clone(), change["computed"].clone())
    };
    assert_eq!(to("budget"), (json!("EUR 6,400,000"), json!("EUR 4,800,000"), json!(true)));
    assert_eq!(to("funding_2"), (json!("EUR 1,600,000"), json!("EUR 0"), json!(false)));
    assert!(!changes.iter().any(|change| change["fact_id"] == "gap"), "both sides went down by the same");
    let md = space.read(&format!("{BUSINESS}/report.md"));
    let first = md.split("\n# Part 2").next().expect("a part");
    assert!(first.contains("(Budget: EUR 6,400,000 → EUR 4,800,000)"));
    assert!(first.split_whitespace().count() <= 9_000);
    let html = space.read(&format!("{BUSINESS}/report.html"));
    assert!(html.contains("Adopt the version for EUR 4.8 million") && html.contains("If nobody decides:"));

    // Another start moves their dates, and asks nobody.
    let asked = calls(&space, BUSINESS);
    space.run(&["-C", BUSINESS, "-D", "start_date=2027-09-01", "build"]).exits(0);
    assert_eq!(calls(&space, BUSINESS), asked);
    let moved = register(&space, BUSINESS);
    let fund = moved["open"].as_array().expect("a list").iter().find(|d| d["id"] == "condition-2");
    assert_eq!(fund.expect("the condition")["options"][1]["changes"][0]["to"], "2029-02-15");

    // Without a question nobody is asked for options.
    answers(&space, PERSONAL, "pre_project_assessment", |_, answer| {
        answer["verdict"] = json!("go");
        answer["conditions"] = json!([]);
    });
    answers(&space, PERSONAL, "make_assumptions", |_, answer| {
        for it in answer["assumptions"].as_array_mut().expect("a list") {
            it["confidence"] = json!("high");
        }
    });
    build(&space, PERSONAL).exits(0);
    assert_eq!(register(&space, PERSONAL)["open"], json!([]));
    assert_eq!(calls(&space, PERSONAL), 81);
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
