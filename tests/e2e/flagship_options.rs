//! Options of the decisions that the flagship's report asks a person for: each open question has some, they name figures
//! there are, and what follows from a figure that changes is computed.

use serde_json::{Value, json};

use crate::flagship::{BUSINESS, PERSONAL, answers, build, calls, finished, flagship};
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
