//! Facts: figures that are computed and must agree, and what is stale when one of them changes.

use serde_json::json;

use crate::support::{FakeLlm, Space};

const FACTS: &str = r#"
[task.facts]
inputs = ["plan.txt"]
outputs = ["ledger.json"]
prompt = "TASK=facts\n{{ plan }}"
check = { facts = "/facts" }
"#;

/// Three tasks that cite facts: two of one, one of another.
const READERS: &str = r#"
[task.pitch]
inputs = ["ledger.json"]
outputs = ["pitch.md"]
prompt = "TASK=pitch\n{% set fact = ledger.facts | facts %}It costs {{ fact.budget }}."

[task.dates]
inputs = ["ledger.json"]
outputs = ["dates.md"]
prompt = "TASK=dates\n{% set fact = ledger.facts | facts %}It opens on {{ fact.opening }}."
"#;

#[test]
fn a_fact_that_is_computed_wrongly_is_asked_again_by_name() {
    let server = FakeLlm::scripted(|call| {
        let budget = if call.messages.len() == 1 { 6_500_000 } else { 6_400_000 };
        json!({"facts": [
            {"id": "city", "value": 3_200_000, "currency": "EUR"},
            {"id": "others", "value": 3_200_000, "currency": "EUR"},
            {"id": "budget", "value": budget, "currency": "EUR", "formula": "city + others"}
        ]})
        .into()
    });
    let space = Space::with(&server, FACTS);
    space.write("plan.txt", "A depot.\n");
    space.build();
    assert_eq!(server.total(), 2);
    let told = server.last("facts").messages.last().expect("a message").1.clone();
    let wanted = "`/facts/2/value`: `budget` is given as 6,500,000; its formula `city + others` comes to EUR 6,400,000";
    assert!(told.contains(wanted), "{told}");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_changed_fact_makes_stale_exactly_what_cites_it() {
    let server = FakeLlm::scripted(|call| call.messages.last().expect("a message").1.clone().into());
    let space = Space::with(&server, READERS);
    let ledger = |budget: u32, start: &str| {
        json!({"facts": [
            {"id": "budget", "value": budget, "currency": "EUR"},
            {"id": "start", "value": start, "unit": "date"},
            {"id": "opening", "unit": "date", "formula": "start + 27 [months]"}
        ]})
        .to_string()
    };
    space.write("ledger.json", ledger(6_400_000, "2027-03-01"));
    space.build();
    assert_eq!(server.total(), 2);
    assert!(space.read("pitch.md").contains("It costs EUR 6,400,000."));
    assert!(space.read("dates.md").contains("It opens on 2029-06-01."));

    space.write("ledger.json", ledger(6_500_000, "2027-03-01"));
    space.build();
    assert_eq!(server.total(), 3, "the pitch alone cites the budget");
    assert!(space.read("pitch.md").contains("It costs EUR 6,500,000."));

    // The start moves, and the date that is computed from it.
    space.write("ledger.json", ledger(6_500_000, "2027-04-01"));
    space.build();
    assert_eq!(server.total(), 4);
    assert!(space.read("dates.md").contains("It opens on 2029-07-01."));
    space.assert_nothing_to_do(&server);

    // A fact that is not there fails by name, before any call.
    space.edit("pipeline.toml", "fact.opening", "fact.openning");
    let out = space.run(&["build"]).exits(1);
    out.says(&["there is no fact `openning`", "did you mean `opening`?"]);
    assert_eq!(server.total(), 4);
}

#[test]
fn a_sum_that_is_wrong_is_asked_again() {
    let server = FakeLlm::scripted(|call| {
        let sum = if call.messages.len() == 1 { "241,200" } else { "214,200" };
        format!("# Rent\n\n21 stalls × EUR 850 × 12 months = EUR {sum}\n").into()
    });
    let space = Space::with(
        &server,
        "[task.rent]\noutputs = [\"rent.md\"]\nprompt = \"TASK=rent\\nOf the stalls\"\ncheck = { arithmetic = true }\n",
    );
    space.build();
    assert_eq!(server.total(), 2);
    let told = server.last("rent").messages.last().expect("a message").1.clone();
    assert!(told.contains("line 3: comes to 214,200, not 241,200"), "{told}");
    space.assert_nothing_to_do(&server);
}
