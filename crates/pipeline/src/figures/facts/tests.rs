use super::*;
use serde_json::json;

fn faults(list: Value) -> Vec<String> {
    Ledger::read(&list).err().unwrap_or_default().into_iter().map(|fault| fault.message).collect()
}

/// Facts of a small plan, with one of them changed or added.
fn plan(more: Value) -> Value {
    let mut list = json!([
        {"id": "city", "value": 3_200_000, "currency": "EUR"},
        {"id": "fund", "value": "1600000.00", "currency": "EUR"},
        {"id": "loan", "value": 1_100_000, "unit": "EUR"},
        {"id": "shares", "value": 500_000, "unit": "EUR"},
        {"id": "soil", "value": 1400, "low": 900, "high": 2200, "unit": "m³"},
        {"id": "price", "value": 300, "unit": "EUR per m3"},
        {"id": "start", "value": "2027-03-01", "unit": "date"},
        {"id": "works", "value": 27, "unit": "months"},
        {"id": "fee", "value": "8", "unit": "%"},
        {"id": "turnover", "value": 90000, "unit": "EUR"}
    ]);
    list.as_array_mut().unwrap().push(more);
    list
}

#[test]
fn a_fact_agrees_with_its_formula() {
    for (fact, text) in [
        (
            json!({"id": "budget", "value": 6_400_000, "currency": "EUR", "formula": "city + fund + loan + shares"}),
            "EUR 6,400,000",
        ),
        (
            json!({"id": "budget", "currency": "EUR", "formula": "sum(city, fund, loan, shares)"}),
            "EUR 6,400,000",
        ),
        (
            json!({"id": "clean_up", "value": 420000, "low": 270000, "high": 660000, "unit": "EUR", "formula": "soil * price"}),
            "EUR 420,000",
        ),
        (
            json!({"id": "opening", "value": "2029-06-01", "unit": "date", "formula": "start + works"}),
            "2029-06-01",
        ),
        (json!({"id": "rent", "value": 7200, "unit": "EUR", "formula": "fee * turnover"}), "EUR 7,200"),
        (json!({"id": "share", "value": "34.4", "unit": "%", "formula": "loan / city"}), "34.4%"),
        (json!({"id": "third", "value": "33.33", "unit": "EUR", "formula": "100 [EUR] / 3"}), "EUR 33.33"),
        (
            json!({"id": "works_days", "value": 823, "unit": "days", "formula": "days(start, start + works)"}),
            "823 days",
        ),
        (
            json!({"id": "least", "value": 500_000, "unit": "EUR", "formula": "min(loan, shares)"}),
            "EUR 500,000",
        ),
        (
            json!({"id": "unit_price", "value": 300, "unit": "EUR/m³", "formula": "round(price, 100)"}),
            "EUR 300 per m³",
        ),
        (json!({"id": "cell", "value": 2, "unit": "people", "formula": ""}), "2 people"),
        (
            json!({"id": "later", "value": "2029-06-01", "unit": "date", "formula": "max(start, start + works)"}),
            "2029-06-01",
        ),
        (
            json!({"id": "sooner", "value": "2027-03-01", "unit": "date", "formula": "min(start, start + works)"}),
            "2027-03-01",
        ),
        (
            json!({"id": "lease", "value": "2029-03-15", "unit": "date", "formula": "start + 2 [years] + 2 [weeks]"}),
            "2029-03-15",
        ),
        (json!({"id": "debt", "value": -1_100_000, "unit": "EUR", "formula": "-loan"}), "EUR -1,100,000"),
        (json!({"id": "rent", "unit": "EUR", "formula": "8% * turnover"}), "EUR 7,200"),
    ] {
        let id = fact["id"].as_str().unwrap().to_owned();
        let ledger = Ledger::read(&plan(fact)).map_err(|faults| format!("{id}: {faults:?}")).unwrap();
        assert_eq!(ledger.get(&id).unwrap().text, text, "{id}");
    }
}

#[test]
fn a_fact_that_disagrees_is_named_with_what_was_computed() {
    for (fact, wanted) in [
        (
            json!({"id": "budget", "value": 6_500_000, "currency": "EUR", "formula": "city + fund + loan + shares"}),
            "`budget` is given as 6,500,000; its formula `city + fund + loan + shares` comes to EUR 6,400,000",
        ),
        (
            json!({"id": "budget", "value": "6400000.01", "currency": "EUR", "formula": "city + fund + loan + shares"}),
            "comes to EUR 6,400,000",
        ),
        (
            json!({"id": "budget", "value": 6_400, "currency": "EUR", "formula": "city + fund + loan + shares"}),
            "is given as 6,400;",
        ),
        (
            json!({"id": "clean_up", "value": 420000, "unit": "m³", "formula": "soil * price"}),
            "is given in m³, and its formula is in EUR",
        ),
        (
            json!({"id": "clean_up", "value": 420000, "low": 300000, "high": 660000, "unit": "EUR", "formula": "soil * price"}),
            "the lower bound 300,000, computed 270,000",
        ),
        (
            json!({"id": "opening", "value": "2029-07-01", "unit": "date", "formula": "start + works"}),
            "is given as 2029-07-01; its formula `start + works` comes to 2029-06-01",
        ),
        (
            json!({"id": "x", "value": 1, "unit": "EUR", "formula": "city + soil"}),
            "adds or compares EUR and m³",
        ),
        (json!({"id": "x", "value": 1, "unit": "EUR", "formula": "cty"}), "did you mean `city`?"),
        (json!({"id": "x", "value": 1, "formula": "x + 1"}), "rests on itself: x > x"),
        (json!({"id": "x", "value": 1, "formula": "1 / (city - city)"}), "divides by zero"),
        (json!({"id": "x", "value": 1, "formula": "start + start"}), "adds a date where it cannot"),
        (json!({"id": "x", "value": 1, "formula": "start + city"}), "wanted days, weeks, months or years"),
        (json!({"id": "x", "value": 1, "formula": "(1 + 2"}), "a bracket that is not closed"),
        (json!({"id": "x", "value": 1, "formula": "1 + "}), "ends where a number or an id is wanted"),
        (json!({"id": "x", "value": 1, "formula": "1 ; 2"}), "cannot be read from `; 2` on"),
        (json!({"id": "x", "value": 1, "formula": "sum(none_*)"}), "no fact is called so"),
        (json!({"id": "x", "value": 1, "formula": "system(1)"}), "there are sum, min, max, round and days"),
        (
            json!({"id": "clean_up", "value": 420000, "low": 270000, "high": 700000, "unit": "EUR", "formula": "soil * price"}),
            "the upper bound 700,000, computed 660,000",
        ),
        (
            json!({"id": "x", "value": 40, "unit": "%", "formula": "loan / city"}),
            "is given as 40%; its formula",
        ),
        (
            json!({"id": "x", "value": "2027-03-01", "unit": "date", "formula": "1 + 1"}),
            "is a date, and its formula is a number",
        ),
        (json!({"id": "x", "value": 1, "formula": "start"}), "is a number, and its formula is a date"),
        (json!({"id": "x", "value": 1, "formula": "-start"}), "takes a date below zero"),
        (json!({"id": "x", "value": 1, "formula": "start * 2"}), "multiplies or divides a date"),
        (json!({"id": "x", "value": 1, "formula": "max(start, 2)"}), "takes `max` of a date and a number"),
        (json!({"id": "x", "value": 1, "formula": "days(1, 2)"}), "gives `days` what it cannot take"),
        (json!({"id": "x", "value": 1, "formula": "sum(1, 2"}), "a bracket that is not closed"),
        (json!({"id": "x", "value": 1, "formula": "2 * ?"}), "cannot be read from `?` on"),
        (
            json!({"id": "x", "value": 1, "formula": "start + 200000 [days]"}),
            "wanted days, weeks, months or years",
        ),
        (json!({"id": "x", "value": 1, "formula": "start + 99999 [months]"}), "a date that there is not"),
        (json!({"id": "city", "value": 1}), "`city` is given twice"),
        (json!({"id": "x", "value": "EUR 5"}), "is no number; its unit belongs into `unit`"),
        (json!({"id": "x", "value": "soon", "unit": "date"}), "is no date"),
        (json!({"id": "x", "value": 5, "low": 6, "high": 7}), "5 is not between 6 and 7"),
        (json!({"id": "x", "value": 5, "low": 4}), "has one bound"),
        (json!({"id": "x"}), "neither a value nor a formula"),
        (json!({"id": "a-b", "value": 5}), "is no id"),
        (json!("text"), "a fact is an object"),
    ] {
        let found = faults(plan(fact.clone())).join("\n");
        assert!(found.contains(wanted), "{fact}: {found}");
    }
    assert!(faults(json!({})).join("").contains("wanted a list of facts"));
    let many: Vec<Value> = (0..=MOST_FACTS).map(|n| json!({"id": format!("f{n}"), "value": 1})).collect();
    assert_eq!(faults(json!(many)), [format!("more than {MOST_FACTS} facts")]);
    let one_on_the_other = |n: usize| json!({"id": format!("f{n}"), "formula": format!("f{} + 1", n + 1)});
    let chain: Vec<Value> = (0..300).map(one_on_the_other).collect();
    assert!(faults(json!(chain)).join("").contains("rests on more than"), "{:?}", faults(json!(chain)));
    let deep = json!([{"id": "x", "value": 1, "formula": "(".repeat(100_000)}, {"id": "y", "value": 1, "formula": "-".repeat(100_000)}]);
    assert!(faults(deep).iter().all(|fault| fault.contains("nested too deeply")));
}

#[test]
fn all_lines_of_a_sum_are_found_by_their_beginning() {
    let list = json!([
        {"id": "cost_soil", "value": "0.10", "currency": "EUR"},
        {"id": "cost_roof", "value": "0.20", "currency": "EUR"},
        {"id": "cost_all", "value": "0.30", "currency": "EUR", "formula": "sum(cost_*)"}
    ]);
    let ledger = Ledger::read(&list).unwrap();
    assert_eq!(ledger.rests_on(ledger.get("cost_all").unwrap()), ["cost_soil", "cost_roof"]);
    assert_eq!(ledger.get("cost_al").unwrap_err().as_deref(), Some("cost_all"));
}
