//! Filters over facts: `{% set fact = ledger.facts | facts %}`, then `{{ fact.budget }}` is the fact as it is written into a
//! text, and `{{ fact.budget.value }}` a member of it.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::filters::wrong;
use crate::figures::{self, Amount, Calendar, Edit, Fact, FactFault, Ledger, Phase};

/// Adds them to an environment.
pub(super) fn add(env: &mut Environment<'_>) {
    env.add_filter("facts", facts);
    env.add_filter("fact_faults", fact_faults);
    env.add_filter("arithmetic", arithmetic);
    env.add_filter("uncited", uncited);
    env.add_filter("misstated", misstated);
    env.add_filter("line_with", line_with);
    env.add_filter("still", still);
    env.add_filter("gone", gone);
    env.add_filter("date_faults", date_faults);
    env.add_filter("edited", edited);
    env.add_filter("sources", sources);
    env.add_filter("given_dates", given_dates);
    env.add_filter("last_day", last_day);
    env.add_filter("counted", counted);
    env.add_filter("moved", moved);
    env.add_filter("addresses", addresses);
}

fn read(list: &Value) -> Result<Result<Ledger, Vec<FactFault>>, Error> {
    let json = serde_json::to_value(list).map_err(|error| wrong(format!("facts are data: {error}")))?;
    Ok(Ledger::read(&json))
}

/// The facts of a list; those that do not agree with their formulas are an error that names them.
fn agreed(list: &Value) -> Result<Ledger, Error> {
    read(list)?.map_err(|faults| {
        let told: Vec<String> = faults.iter().take(5).map(|fault| fault.message.clone()).collect();
        let more = faults.len().saturating_sub(5);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        wrong(format!("the facts do not agree: {}{more}", told.join("; ")))
    })
}

/// The facts of a list, by id.
fn facts(list: &Value) -> Result<Value, Error> {
    Ok(Value::from_object(Facts(Arc::new(agreed(list)?))))
}

/// What is wrong with the facts of a list, one text each; none if they agree.
fn fact_faults(list: &Value) -> Result<Vec<String>, Error> {
    Ok(read(list)?.err().unwrap_or_default().into_iter().map(|fault| fault.message).collect())
}

/// What a text states and does not add up: its line, what it says, what is wrong.
fn arithmetic(text: String) -> Value {
    Value::from_serialize(figures::arithmetic(&text))
}

/// Amounts of money, percentages and large numbers of a text that no fact of a list has.
fn uncited(text: String, list: &Value) -> Result<Value, Error> {
    Ok(Value::from_serialize(figures::uncited(&text, &agreed(list)?)))
}

/// Amounts of money that stand behind the name of a fact of a list and are others.
fn misstated(text: String, list: &Value) -> Result<Value, Error> {
    Ok(Value::from_serialize(figures::misstated(&text, &agreed(list)?)))
}

/// The first line of a text that has an amount; none if it has not.
fn line_with(text: String, amount: String) -> Option<usize> {
    figures::line_with(&text, &amount)
}

/// The figures and dates that a text has and another one has not.
fn gone(text: String, now: String) -> Vec<String> {
    figures::gone(&text, &now)
}

/// The lines of a text that still state figures or dates of a list, each as the list has it.
fn still(text: String, gone: Vec<String>) -> Value {
    Value::from_serialize(figures::still(&text, &gone))
}

/// The sources in `evidence/`, a list of files, with what they say of the facts of a list. None is too old here: what a
/// template makes does not depend on the day.
fn sources(files: &Value, list: &Value) -> Result<Value, Error> {
    let text =
        |file: &Value, key: &str| file.get_attr(key).ok().and_then(|it| it.as_str().map(str::to_owned));
    let mut kept = Vec::new();
    for file in files.try_iter()? {
        let path = text(&file, "path").ok_or_else(|| wrong("`sources` takes the files of a glob".into()))?;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let digest = text(&file, "blake3").unwrap_or_default();
        kept.push(figures::Kept { name, text: text(&file, "text"), digest });
    }
    Ok(Value::from_serialize(figures::judge(&kept, &agreed(list)?, None)))
}

fn day(text: &str) -> Result<Date, Error> {
    text.parse::<Date>().map_err(|_| wrong(format!("`{text}` is no date; wanted one like 2026-11-23")))
}

/// The dates a text names, but for `start=`.
fn given_dates(text: String, kwargs: Kwargs) -> Result<Vec<String>, Error> {
    let start = day(&kwargs.get::<String>("start")?)?;
    kwargs.assert_all_used()?;
    Ok(figures::dates_of(&text, start))
}

/// The last day of the first date, month, quarter or span that a text names, as `2027-06-30`; none if it names none.
fn last_day(text: String) -> Option<String> {
    figures::last_day(&text).map(|day| day.to_string())
}

/// A number with what is counted: `1 day`, `1,004 days`. `many` is the plural, if it is not made with an `s`.
fn counted(number: i64, one: String, many: Option<String>) -> String {
    let many = many.unwrap_or_else(|| format!("{one}s"));
    let what = if number.abs() == 1 { one } else { many };
    format!("{} {what}", figures::Number::from(number).grouped())
}

/// A text or data with its dates moved: `move` has `from`, `to` and `fixed`, the dates that stay, and `language`.
fn moved(value: Value, by: &Value) -> Result<Value, Error> {
    let text = |key: &str| by.get_attr(key).ok().and_then(|it| it.as_str().map(str::to_owned));
    let (Some(from), Some(to)) = (text("from"), text("to")) else {
        return Err(wrong("a move has `from` and `to`, days like 2026-11-23".into()));
    };
    let fixed = by.get_attr("fixed").ok();
    let fixed = fixed.iter().filter_map(|list| list.try_iter().ok()).flatten();
    let fixed: Vec<String> = fixed.filter_map(|day| day.as_str().map(str::to_owned)).collect();
    if from == to {
        return Ok(value);
    }
    let language = text("language");
    let by = figures::Move::new(day(&from)?, day(&to)?, &fixed, language.as_deref());
    let mut data = serde_json::to_value(&value).map_err(|error| wrong(format!("not data: {error}")))?;
    by.value(&mut data);
    Ok(Value::from_serialize(data))
}

/// The addresses of the web that a text names, each with its line.
fn addresses(text: String) -> Value {
    let found = figures::addresses(&text).into_iter();
    let found = found.map(|(line, address)| {
        std::collections::BTreeMap::from([("line", Value::from(line)), ("address", Value::from(address))])
    });
    Value::from_serialize(found.collect::<Vec<_>>())
}

/// A text or data with the edits made that are for a document; the value itself if there are none.
fn edited(value: Value, edits: &Value, document: String) -> Result<Value, Error> {
    let list = serde_json::to_value(edits).and_then(serde_json::from_value::<Vec<Edit>>);
    let list =
        list.map_err(|error| wrong(format!("edits have `document`, `find` and `replace`: {error}")))?;
    if !list.iter().any(|edit| edit.document == document) {
        return Ok(value);
    }
    let mut data = serde_json::to_value(&value).map_err(|error| wrong(format!("not data: {error}")))?;
    figures::edit(&mut data, &document, &list);
    Ok(Value::from_serialize(data))
}

/// Dates beside a `Month N` that are others than it says, counted from `start=`, or from the phase the text names:
/// `phases=[{"name": "construction", "start": "2028-05-15"}]` are phases 1, 2, ... and have their names.
fn date_faults(text: String, kwargs: Kwargs) -> Result<Value, Error> {
    let start = day(&kwargs.get::<String>("start")?)?;
    let listed: Option<Value> = kwargs.get("phases")?;
    kwargs.assert_all_used()?;
    let mut phases = Vec::new();
    for (n, phase) in listed.iter().flat_map(|list| list.try_iter()).flatten().enumerate() {
        let member = |key: &str| phase.get_attr(key).ok().and_then(|value| value.as_str().map(str::to_owned));
        let from = member("start").ok_or_else(|| wrong(format!("phase {} has no `start`", n + 1)))?;
        let names = [Some(format!("phase {}", n + 1)), member("name")].into_iter().flatten().collect();
        phases.push(Phase { names, start: day(&from)? });
    }
    Ok(Value::from_serialize(Calendar { start, phases }.faults(&text)))
}

#[derive(Debug)]
struct Facts(Arc<Ledger>);

impl Object for Facts {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let id = key.as_str()?;
        Some(match self.0.get(id) {
            Ok(fact) => Value::from_object(Shown(fact.clone(), self.0.clone())),
            Err(near) => {
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                Value::from(Error::new(ErrorKind::InvalidOperation, format!("there is no fact `{id}`{hint}")))
            }
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.facts().iter().map(|fact| Value::from(fact.id.as_str())).collect())
    }
}

/// A fact as a template sees it.
#[derive(Debug)]
struct Shown(Fact, Arc<Ledger>);

impl Object for Shown {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "text" => Some(Value::from(self.0.text.as_str())),
            "rests_on" => Some(Value::from_serialize(self.1.rests_on(&self.0))),
            // As computed, where only a formula is written.
            "computed" => Some(Value::from(match &self.0.amount {
                Amount::Day(day) => day.to_string(),
                Amount::Quantity { range, .. } => range[1].grouped().replace(',', ""),
            })),
            member => self.0.members.get(member).map(Value::from_serialize),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use crate::template::{RenderError, Source, render};

    fn text(source: &str) -> Result<String, RenderError> {
        let list = serde_json::json!([
            {"id": "city", "value": 3_200_000, "currency": "EUR", "origin": "plan.txt"},
            {"id": "fund", "value": 1_600_000, "currency": "EUR"},
            {"id": "both", "currency": "EUR", "formula": "city + fund"}
        ]);
        let wrong = serde_json::json!([{"id": "a", "value": 1}, {"id": "b", "value": 3, "formula": "a + 1"}]);
        let context = context! { list => minijinja::Value::from_serialize(list), wrong => minijinja::Value::from_serialize(wrong) };
        render(&Source::new("t", source), &context, false)
    }

    #[test]
    fn a_fact_is_written_into_a_text() {
        for (source, wanted) in [
            (
                "{% set fact = list | facts %}{{ fact.both }} of {{ fact.city }}",
                "EUR 4,800,000 of EUR 3,200,000",
            ),
            (
                "{% set fact = list | facts %}{{ fact.city.origin }} {{ fact.both.computed }}",
                "plan.txt 4800000",
            ),
            ("{% set fact = list | facts %}{{ fact.both.rests_on | join(' ') }}", "city fund"),
            (
                "{% set fact = list | facts %}{% for id in fact %}{{ fact[id].text }};{% endfor %}",
                "EUR 3,200,000;EUR 1,600,000;EUR 4,800,000;",
            ),
            ("{{ list | fact_faults | length }}", "0"),
            (
                "{% set found = 'EUR 4.8 million of EUR 5 million' | uncited(list) %}{{ found | map(attribute='said') | join }}",
                "EUR 5 million",
            ),
            (
                "{% set found = 'one\n1 + 1 = 3' | arithmetic %}{{ found[0].line }} {{ found[0].message }}",
                "2 comes to 2, not 3",
            ),
            (
                "{% set found = 'Month 1 of phase 1 (May 2028)' | date_faults(start='2027-03-01', phases=[{'name': 'works', 'start': '2028-05-15'}]) %}{{ found[0].message }}",
                "is 2028-06, 1 month from the start of phase 1 (2028-05-15)",
            ),
            (
                "{% set edits = [{'document': 'a.md', 'find': '5 stalls', 'replace': '4 stalls'}] %}{{ '5 stalls, 15 stands' | edited(edits, 'a.md') }}; {{ {'n': 5, 'x': ['5 stalls']} | edited(edits, 'a.md') | tojson }}; {{ '5 stalls' | edited(edits, 'b.md') }}",
                "4 stalls, 15 stands; {\"n\":5,\"x\":[\"4 stalls\"]}; 5 stalls",
            ),
            (
                "{{ 1 | counted('day') }}, {{ -1 | counted('day') }}, {{ 0 | counted('day') }}, {{ 1004 | counted('body', 'bodies') }}",
                "1 day, -1 day, 0 days, 1,004 bodies",
            ),
            (
                "{{ 'by 15 May 2028, or June' | last_day }} {{ 'June 2027' | last_day }} {{ 'Q4 2027' | last_day }} {{ '1 to 15 June 2027' | last_day }} {{ '2027-02' | last_day }} {{ 'soon' | last_day }}",
                "2028-05-15 2027-06-30 2027-12-31 2027-06-15 2027-02-28 None",
            ),
            ("{{ (wrong | fact_faults)[0] }}", "`b` is given as 3; its formula `a + 1` comes to 2"),
        ] {
            assert_eq!(text(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn what_is_no_fact_is_told() {
        for (source, wanted) in [
            ("{% set fact = list | facts %}{{ fact.cty }}", "there is no fact `cty`; did you mean `city`?"),
            (
                "{% set fact = wrong | facts %}{{ fact.a }}",
                "`b` is given as 3; its formula `a + 1` comes to 2",
            ),
            ("{{ '3' | uncited(wrong) }}", "`b` is given as 3; its formula `a + 1` comes to 2"),
        ] {
            let error = text(source).expect_err(source);
            assert!(error.message.contains(wanted), "{source}: {}", error.message);
        }
    }
}
