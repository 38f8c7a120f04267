//! Sources of the figures of a plan: kept whole, compared with the figure, told where they do not stand, and never a
//! reason to ask a model.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::flagship::{BUSINESS, build, finished, flagship, requests};
use crate::support::{Out, Space};

const OFFER: &str = "Quotation\n\nNorth hall fit-out, all trades:\n  EUR 1,240,000 <b>net</b>\n";

fn evidence(space: &Space, args: &[&str]) -> Out {
    space.run(&[&["-C", BUSINESS, "evidence"], args].concat())
}

/// The one source that an answer is about.
fn one(out: &Out) -> Value {
    out.json()["sources"][0].clone()
}

fn open(space: &Space) -> Vec<String> {
    let register = space.json(&format!("{BUSINESS}/decision_register.json"));
    let ids = register["open"].as_array().expect("a list").iter();
    let ids = ids.map(|open| open["id"].as_str().expect("an id").to_owned());
    ids.filter(|id| id.starts_with("source-")).collect()
}

#[test]
fn a_source_is_kept_compared_and_told_in_the_report_without_a_call() {
    let space = flagship();
    evidence(&space, &[]).exits(2).says(&["canonical_facts.json", "build canonical_facts"]);
    build(&space, BUSINESS).exits(0);
    let asked = requests(&space, BUSINESS).len();
    assert!(space.read(&format!("{BUSINESS}/evidence.md")).contains("No source is kept"));
    let plain = space.read(&format!("{BUSINESS}/report.md"));

    space.write("offer.txt", OFFER);
    let add = ["add", "cost_2", "--from", "https://example.org/offer", "--source", "offer.txt"];
    let excerpt = "all trades: EUR 1,240,000 <b>net</b>";
    let out = evidence(&space, &[&add[..], &["--excerpt", excerpt, "--json"]].concat()).exits(0);
    assert_eq!((one(&out)["standing"].as_str(), one(&out)["id"].as_str()), (Some("holds"), Some("cost_2-1")));
    // By its name, from standard input, and saying something else.
    let mut command = space.command(&["-C", BUSINESS, "evidence", "add", "Technical installations"]);
    command.args(["--from", "a call", "--excerpt", "EUR 1,100,000", "--id", "call", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("planexe");
    child.stdin.take().expect("its input").write_all(b"It costs EUR 1,100,000.").expect("written");
    let said = child.wait_with_output().expect("its end");
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(said["sources"][0]["standing"], "differs", "{said}");
    assert_eq!(space.read(&format!("{BUSINESS}/evidence/call.txt")), "It costs EUR 1,100,000.");
    evidence(&space, &[]).exits(0).says(&["holds", "differs", "it does not say EUR 910,000"]);
    evidence(&space, &["check"]).exits(1);

    build(&space, BUSINESS).exits(0).says(&["6 tasks ran"]);
    assert_eq!(requests(&space, BUSINESS).len(), asked, "a model was asked");
    let html = space.read(&format!("{BUSINESS}/report.html"));
    assert!(html.contains("EUR 1,240,000 &lt;b&gt;net") && !html.contains("<b>net"));
    assert!(html.replace("&#x2f;", "/").contains("href=\"https://example.org/offer\""));
    assert!(html.contains("source differs"));
    let report = space.read(&format!("{BUSINESS}/report.md"));
    assert!(report.contains("Technical installations | differs |"));
    assert_eq!(open(&space), ["source-call"]);

    // Without them the report is what it was.
    for id in ["call", "cost_2-1"] {
        evidence(&space, &["remove", id]).exits(0);
    }
    evidence(&space, &["remove", "call"]).exits(2).says(&["no source `call`"]);
    assert!(space.files(&format!("{BUSINESS}/evidence")).is_empty());
    // What was removed can be had again, record and source.
    space.run(&["-C", BUSINESS, "restore", "evidence/call"]).exits(0);
    assert_eq!(space.files(&format!("{BUSINESS}/evidence")).len(), 2);
    assert_eq!(space.read(&format!("{BUSINESS}/evidence/call.txt")), "It costs EUR 1,100,000.");
    evidence(&space, &["remove", "call"]).exits(0).says(&["restore evidence/call"]);
    build(&space, BUSINESS).exits(0);
    assert_eq!(requests(&space, BUSINESS).len(), asked);
    assert_eq!(space.read(&format!("{BUSINESS}/report.md")), plain);
}

#[test]
fn what_was_kept_and_is_another_now_does_not_stand() {
    let space = finished(BUSINESS);
    space.write("offer.txt", OFFER);
    let add = |id: &str, more: &[&str]| {
        let what = [
            "add",
            "cost_2",
            "--from",
            "an offer",
            "--source",
            "offer.txt",
            "--excerpt",
            "EUR 1,240,000",
            "--id",
            id,
        ];
        evidence(&space, &[&what[..], more].concat())
    };
    for id in ["changed", "gone", "cut"] {
        add(id, &[]).exits(0);
    }
    // What it says of a source is what is so today.
    add("old", &["--day", "2020-01-01", "--good-until", "2020-12-31"]).exits(0).says(&["old", "good until"]);
    // Left by a kill, or by hand: its id is taken until it is removed.
    add("half", &[]).exits(0);
    space.remove(&format!("{BUSINESS}/evidence/half.json"));
    add("half", &[]).exits(2).says(&["evidence remove half"]);
    evidence(&space, &["remove", "half"]).exits(0);
    assert!(!space.exists(&format!("{BUSINESS}/evidence/half.txt")));
    add("changed", &[]).exits(2).says(&["there is a source `changed` already"]);
    space.write(&format!("{BUSINESS}/evidence/changed.txt"), OFFER.replace("1,240,000", "1,040,000"));
    space.remove(&format!("{BUSINESS}/evidence/gone.txt"));
    space.write(&format!("{BUSINESS}/evidence/cut.json"), "{\"schema\": 1}");
    let found = evidence(&space, &["check", "--json"]).exits(1).json();
    let found = found["sources"].as_array().expect("sources").iter();
    let found: Vec<_> = found.map(|it| (it["id"].as_str(), it["standing"].as_str())).collect();
    let wanted = [("changed", "changed"), ("cut", "damaged"), ("gone", "missing"), ("old", "old")];
    assert_eq!(found, wanted.map(|(id, standing)| (Some(id), Some(standing))));
    build(&space, BUSINESS).exits(0);
    // What a build makes does not depend on the day.
    assert_eq!(open(&space), ["source-changed", "source-cut", "source-gone"]);
}

#[test]
fn nothing_is_cited_that_is_not_kept() {
    let space = finished(BUSINESS);
    space.write("offer.txt", OFFER);
    let add = ["add", "cost_2", "--from", "an offer", "--source", "offer.txt", "--excerpt", "EUR 1,240,000"];
    for (days, says) in [
        (&["--day", "2999-01-01"][..], "still to come"),
        (&["--day", "2024-05-02", "--good-until", "2024-05-01"], "good until 2024-05-01 only"),
    ] {
        evidence(&space, &[&add[..], days].concat()).exits(2).says(&[says]);
    }
    for (change, says) in [
        (["cost_99", "an offer", "offer.txt", "EUR 1,240,000"], "no fact `cost_99`"),
        (["cost_2", "an offer", "offer.txt", "EUR 1,250,000"], "the excerpt is not in the source"),
        (["cost_2", "an offer", "offer.txt", " "], "the excerpt has 0 characters"),
        (["cost_2", "an offer", "none.txt", "EUR 1,240,000"], "none.txt"),
        (["cost_2", "an\noffer", "offer.txt", "EUR 1,240,000"], "not said in one line"),
        (["cost_2", "an offer", "-", "EUR 1,240,000"], "the source has 0 bytes"),
    ] {
        let [fact, from, source, excerpt] = change;
        let args = ["add", fact, "--from", from, "--source", source, "--excerpt", excerpt];
        evidence(&space, &args).exits(2).says(&[says]);
        evidence(
            &space,
            &["add", "cost_2", "--from", "x", "--source", "offer.txt", "--excerpt", "EUR", "--id", "../x"],
        )
        .exits(2)
        .says(&["is no id"]);
    }
    let cut = ["add", "cost_2", "--from", "x", "--source", "offer.txt", "--excerpt", "EUR 1,240,000"];
    evidence(&space, &[&cut[..], &["--means", "1240000 [EUR] *"]].concat())
        .exits(2)
        .says(&["`1240000 [EUR] *` ends where", "--means"]);
    assert!(!space.exists(&format!("{BUSINESS}/evidence")));
}
