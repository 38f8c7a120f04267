//! Facts of a plan, and whether they agree with their formulas, units, ranges and dates.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde_json::Value;

use super::formula::{self, Amount, compute};
use super::number::Number;
use super::unit::{Unit, in_number};
use crate::manifest::nearest;

/// Most facts in a document.
const MOST_FACTS: usize = 1_000;
/// Formulas may rest on formulas this deep.
const DEEPEST: usize = 16;

/// A fact as written, and what it amounts to.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Its id: a letter, then letters, digits and `_`.
    pub id: String,
    /// What it amounts to: the value written, or that of its formula.
    pub amount: Amount,
    /// As it is written into a text.
    pub text: String,
    /// The members of its object.
    pub members: serde_json::Map<String, Value>,
}

/// What is wrong with a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactFault {
    /// Which of the list.
    pub index: usize,
    /// The member at fault.
    pub member: &'static str,
    /// What is wrong, with the id.
    pub message: String,
}

/// The facts of a document.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    facts: Vec<Fact>,
    places: BTreeMap<String, usize>,
}

/// What is written of one fact, read.
struct Written {
    id: String,
    value: Option<Amount>,
    bounds: Option<[Number; 2]>,
    unit: Unit,
    percent: bool,
    /// Places after the point of the value and of each bound.
    places: [u32; 3],
    formula: String,
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => other.to_string(),
    }
}

fn is_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn places_of(text: &str) -> u32 {
    Number::parse(text).and_then(Number::places).unwrap_or(0)
}

impl Written {
    fn read(value: &Value, fault: &mut dyn FnMut(&'static str, String)) -> Option<Written> {
        let Some(members) = value.as_object() else {
            fault("", "a fact is an object with `id`, `value` and `unit`".to_owned());
            return None;
        };
        let of = |key: &str| text_of(members.get(key));
        let id = of("id");
        if !is_id(&id) {
            fault("id", format!("`{id}` is no id: wanted a letter, then letters, digits and `_`"));
            return None;
        }
        let (unit_text, currency) = (of("unit"), of("currency"));
        let percent = unit_text == "%";
        let unit = Unit::parse(&unit_text, &currency);
        let mut number = |member: &'static str| -> Option<Number> {
            let text = of(member);
            if text.is_empty() {
                return None;
            }
            let read = Number::parse(&text).and_then(|n| if percent { n.scaled(-2) } else { Some(n) });
            if read.is_none() {
                fault(member, format!("`{id}`: `{text}` is no number; its unit belongs into `unit`"));
            }
            read
        };
        let (low, high) = (number("low"), number("high"));
        let value = if unit_text == "date" {
            let text = of("value");
            match text.parse::<Date>() {
                Ok(day) => Some(Amount::Day(day)),
                Err(_) if text.is_empty() => None,
                Err(_) => {
                    fault("value", format!("`{id}`: `{text}` is no date; wanted one like 2026-11-23"));
                    return None;
                }
            }
        } else {
            let likely = number("value");
            likely.map(|likely| Amount::Quantity {
                range: [low.unwrap_or(likely), likely, high.unwrap_or(likely)],
                unit: unit.clone(),
            })
        };
        if low.is_some() != high.is_some() {
            fault("low", format!("`{id}` has one bound; wanted `low` and `high`, or neither"));
        }
        if let Some(Amount::Quantity { range: [low, likely, high], .. }) = &value
            && !(low <= likely && likely <= high)
        {
            fault("value", format!("`{id}`: {likely} is not between {low} and {high}"));
        }
        let formula = of("formula");
        if value.is_none() && formula.is_empty() {
            fault("value", format!("`{id}` has neither a value nor a formula"));
        }
        let shift = |places: u32| if percent { places + 2 } else { places };
        let places = ["value", "low", "high"].map(|key| shift(places_of(&of(key))));
        Some(Written {
            id,
            value,
            bounds: low.zip(high).map(|(low, high)| [low, high]),
            unit,
            percent,
            places,
            formula,
        })
    }
}

struct Solver<'a> {
    written: &'a [Option<Written>],
    places: &'a BTreeMap<String, usize>,
    computed: BTreeMap<String, Result<Amount, String>>,
    under_way: Vec<String>,
}

impl Solver<'_> {
    /// What the formula of a fact comes to.
    fn formula(&mut self, fact: &Written) -> Result<Amount, String> {
        if let Some(known) = self.computed.get(&fact.id) {
            return known.clone();
        }
        if self.under_way.contains(&fact.id) || self.under_way.len() >= DEEPEST {
            let way = self.under_way.join(" > ");
            return Err(match self.under_way.contains(&fact.id) {
                true => format!("rests on itself: {way} > {}", fact.id),
                false => format!("rests on more than {DEEPEST} formulas, one on the other: {way}"),
            });
        }
        self.under_way.push(fact.id.clone());
        let found = compute(&fact.formula, self);
        self.under_way.pop();
        self.computed.insert(fact.id.clone(), found.clone());
        found
    }
}

impl formula::Facts for Solver<'_> {
    fn amount(&mut self, id: &str) -> Result<Amount, String> {
        let Some(&place) = self.places.get(id) else {
            let near = nearest(id, self.places.keys().map(String::as_str));
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("names `{id}`, which is no fact{hint}"));
        };
        let fact =
            self.written[place].as_ref().ok_or_else(|| format!("rests on `{id}`, which cannot be read"))?;
        if fact.formula.is_empty() {
            return fact.value.clone().ok_or_else(|| format!("rests on `{id}`, which has no value"));
        }
        // A circle is one even where values are written.
        let computed = self.formula(fact)?;
        Ok(fact.value.clone().unwrap_or(computed))
    }

    fn matching(&mut self, pattern: &str) -> Vec<String> {
        let own = self.under_way.last();
        let ids = self.places.keys().filter(|id| id.starts_with(pattern) && Some(*id) != own);
        ids.cloned().collect()
    }
}

/// A value as it is written, with as many places as it has.
fn shown(amount: &Amount, unit: &str, currency: &str, percent: bool) -> String {
    match amount {
        Amount::Day(day) => day.to_string(),
        Amount::Quantity { range, .. } => {
            let number = if percent { range[1].scaled(2).unwrap_or(range[1]) } else { range[1] };
            let code = currency.trim();
            let unit = unit.trim();
            // `EUR/m³` with the code in the unit alone is written before the number as well.
            let (code, unit) = match unit.split_once(['/', ' ']) {
                Some((first, rest)) if first.len() == 3 && first.bytes().all(|b| b.is_ascii_uppercase()) => {
                    (first, format!("per {}", rest.trim_start_matches("per ").trim_start_matches("a ")))
                }
                None if unit.len() == 3 && unit.bytes().all(|b| b.is_ascii_uppercase()) => {
                    (unit, String::new())
                }
                _ if unit == code => (code, String::new()),
                _ => (code, unit.strip_prefix("1/").map_or(unit.to_owned(), |rest| format!("per {rest}"))),
            };
            let before = if code.is_empty() { String::new() } else { format!("{code} ") };
            let unit = in_number(&unit, number.abs() == Number::from(1));
            let after = match unit.as_str() {
                "" => String::new(),
                "%" => "%".to_owned(),
                unit => format!(" {unit}"),
            };
            format!("{before}{}{after}", number.grouped())
        }
    }
}

impl Ledger {
    /// Reads and computes a list of facts. All that is wrong is told.
    pub fn read(list: &Value) -> Result<Ledger, Vec<FactFault>> {
        let mut faults = Vec::new();
        let empty = Vec::new();
        let items = match list {
            Value::Array(items) if items.len() <= MOST_FACTS => items,
            Value::Array(_) => {
                faults.push(FactFault {
                    index: 0,
                    member: "",
                    message: format!("more than {MOST_FACTS} facts"),
                });
                &empty
            }
            _ => {
                let message = "wanted a list of facts, each with `id`, `value` and `unit`".to_owned();
                faults.push(FactFault { index: 0, member: "", message });
                &empty
            }
        };
        let mut written = Vec::with_capacity(items.len());
        let mut places = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let fact =
                Written::read(item, &mut |member, message| faults.push(FactFault { index, member, message }));
            if let Some(fact) = &fact
                && places.insert(fact.id.clone(), index).is_some()
            {
                faults.push(FactFault {
                    index,
                    member: "id",
                    message: format!("`{}` is given twice", fact.id),
                });
            }
            written.push(fact);
        }
        let mut solver =
            Solver { written: &written, places: &places, computed: BTreeMap::new(), under_way: Vec::new() };
        let mut facts = Vec::new();
        for (index, fact) in written.iter().enumerate() {
            let (Some(fact), Some(members)) = (fact, items[index].as_object()) else { continue };
            let computed = match fact.formula.is_empty() {
                true => None,
                false => match solver.formula(fact) {
                    Ok(amount) => Some(amount),
                    Err(why) => {
                        let message = format!("`{}`: its formula `{}` {why}", fact.id, fact.formula);
                        faults.push(FactFault { index, member: "formula", message });
                        continue;
                    }
                },
            };
            let of = |key: &str| text_of(members.get(key));
            if let Some(computed) = &computed
                && let Err((member, why)) = agrees(fact, computed)
            {
                let unit = of("unit");
                let found = shown(computed, &unit, &of("currency"), fact.percent);
                let message = format!("`{}` {why}; its formula `{}` comes to {found}", fact.id, fact.formula);
                faults.push(FactFault { index, member, message });
                continue;
            }
            let Some(amount) = fact.value.clone().or(computed) else { continue };
            let text = shown(&amount, &of("unit"), &of("currency"), fact.percent);
            facts.push(Fact { id: fact.id.clone(), amount, text, members: members.clone() });
        }
        if !faults.is_empty() {
            faults.sort_by_key(|fault| fault.index);
            return Err(faults);
        }
        let places = facts.iter().enumerate().map(|(n, fact)| (fact.id.clone(), n)).collect();
        Ok(Ledger { facts, places })
    }

    /// The facts, in order.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// A fact by its id, or the id that comes nearest.
    pub fn get(&self, id: &str) -> Result<&Fact, Option<String>> {
        match self.places.get(id) {
            Some(&place) => Ok(&self.facts[place]),
            None => Err(nearest(id, self.places.keys().map(String::as_str)).map(str::to_owned)),
        }
    }

    /// The ids a formula of a fact names, for those who trace a number.
    pub fn rests_on(&self, fact: &Fact) -> Vec<&str> {
        let formula = text_of(fact.members.get("formula"));
        let words: BTreeSet<&str> =
            formula.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
        let ids = self.facts.iter().map(|fact| fact.id.as_str());
        let begins = |id: &str| {
            words
                .iter()
                .any(|word| formula.contains(&format!("{word}*")) && !word.is_empty() && id.starts_with(word))
        };
        ids.filter(|id| *id != fact.id && (words.contains(id) || begins(id))).collect()
    }
}

/// Whether what is written agrees with what was computed, to the place it is written to.
fn agrees(fact: &Written, computed: &Amount) -> Result<(), (&'static str, String)> {
    if let (Amount::Quantity { unit, .. }, Some(Amount::Quantity { .. }) | None) = (computed, &fact.value)
        && *unit != fact.unit
    {
        return Err(("unit", format!("is given in {}, and its formula is in {unit}", fact.unit)));
    }
    let close = |written: Number, computed: Number, places: u32| {
        let step = Number::from(1).scaled(-i32::try_from(places).unwrap_or(0));
        written == computed || step.and_then(|step| computed.rounded_to(step)) == Some(written)
    };
    match (&fact.value, computed) {
        (None, _) => Ok(()),
        (Some(Amount::Day(written)), Amount::Day(day)) if written == day => Ok(()),
        (Some(Amount::Day(written)), Amount::Day(_)) => Err(("value", format!("is given as {written}"))),
        (Some(Amount::Quantity { range, .. }), Amount::Quantity { range: found, .. }) => {
            let percent = |n: Number| match fact.percent {
                true => format!("{}%", n.scaled(2).unwrap_or(n)),
                false => n.to_string(),
            };
            if !close(range[1], found[1], fact.places[0]) {
                return Err(("value", format!("is given as {}", percent(range[1]))));
            }
            match fact.bounds {
                Some([low, _]) if !close(low, found[0], fact.places[1]) => Err((
                    "low",
                    format!("has the lower bound {}, computed {}", percent(low), percent(found[0])),
                )),
                Some([_, high]) if !close(high, found[2], fact.places[2]) => Err((
                    "high",
                    format!("has the upper bound {}, computed {}", percent(high), percent(found[2])),
                )),
                _ => Ok(()),
            }
        }
        (Some(written), _) => {
            let is = |amount: &Amount| if matches!(amount, Amount::Day(_)) { "a date" } else { "a number" };
            Err(("unit", format!("is {}, and its formula is {}", is(written), is(computed))))
        }
    }
}

#[cfg(test)]
mod tests;
