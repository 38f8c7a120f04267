//! Numbers of a text that no fact has, and amounts of money that a text gives to a fact and are others.

use super::TextFault;
use super::claims::{fault, sentences};
use super::facts::Ledger;
use super::formula::Amount;
use super::number::Number;
use super::ranges::{Stated, stated};
use super::scan::{Token, Written, tokens};

/// Whether a number may be in the currency of a fact.
fn is_in(written: Option<&str>, fact: Option<&str>) -> bool {
    match (written, fact) {
        // A sign such as € may stand for several codes.
        (Some(written), Some(fact)) => written == fact || written.chars().count() == 1,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Words that may stand between the name of a figure and its amount.
const LINKS: [&str; 12] =
    ["of", "is", "are", "was", "at", "costs", "comes", "to", "about", "with", "amounts", "the"];
/// Words before a name of one word that make it the one of the plan: not `the marketing budget`, nor `a reserve`.
const WHOLE: [&str; 7] = ["the", "total", "whole", "overall", "entire", "project's", "plan's"];
/// Words behind an amount that make it another thing: a part, a rate, a difference.
const OTHER: [&str; 15] = [
    "a", "an", "per", "each", "every", "for", "from", "in", "of", "more", "less", "too", "over", "under",
    "by",
];

/// Amounts of money that stand right behind the name of a fact, or with `the` right before it, and are neither its value nor
/// that of another fact: `the budget of EUR 7.4 million`, `the EUR 7.4 million budget`.
pub fn misstated(text: &str, facts: &Ledger) -> Vec<TextFault> {
    let money: Vec<(String, &str, &[Number; 3], String)> = facts
        .facts()
        .iter()
        .filter_map(|fact| {
            let Amount::Quantity { range, unit } = &fact.amount else { return None };
            let name = fact.members.get("name")?.as_str()?;
            // A rate is given with its unit, which is not compared here.
            let currency = unit.currency().filter(|currency| unit.word() == Some(currency))?;
            Some((name.to_lowercase(), fact.text.as_str(), range, currency))
        })
        .collect();
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for sentence in line.split(". ") {
            let tokens = tokens(sentence);
            let ranges: Vec<Stated> =
                stated(sentence).into_iter().filter(|stated| stated.to.is_some()).collect();
            for (at, placed) in tokens.iter().enumerate() {
                let Token::Number(written) = &placed.token else { continue };
                let Some(code) = &written.currency else { continue };
                if matches!(tokens.get(at + 1).map(|next| &next.token), Some(Token::Word(word)) if OTHER.contains(&word.as_str()))
                {
                    continue;
                }
                let is = |range: &[Number; 3]| {
                    range.iter().any(|number| {
                        number.minus(written.number).is_some_and(|gap| gap.abs() <= written.short())
                    })
                };
                if money.iter().any(|(_, _, range, _)| is(range)) {
                    continue;
                }
                // `the budget of EUR 6 to 7 million` has the figure between its ends.
                let holds = |stated: &Stated| {
                    let ends = stated.from.number..=stated.to.as_ref()?.number;
                    let mut all = money.iter().flat_map(|(_, _, range, _)| range.iter());
                    (stated.token == at && all.any(|number| ends.contains(number))).then_some(())
                };
                if ranges.iter().find_map(holds).is_some() {
                    continue;
                }
                // The words before it, without what may stand between.
                let mut before = at;
                while before > 0 && at - before < 4 {
                    let is_link = match &tokens[before - 1].token {
                        Token::Word(word) => LINKS.contains(&word.as_str()),
                        Token::Break | Token::Equals | Token::About => true,
                        Token::Operator(_) | Token::Number(_) => false,
                    };
                    if !is_link {
                        break;
                    }
                    before -= 1;
                }
                let Some(last) = tokens[..before].last() else { continue };
                let words = sentence[..last.at.1].to_lowercase();
                let named = money.iter().find(|(name, _, _, currency)| {
                    let Some(front) = words.strip_suffix(name.as_str()) else { return false };
                    let first = front.trim_end_matches([' ', '*', '_']);
                    let is_word = !front.ends_with(char::is_alphanumeric);
                    let is_whole = name.contains(' ')
                        || first.is_empty()
                        || first.ends_with(['|', '-', ':'])
                        || WHOLE.contains(&first.rsplit(' ').next().unwrap_or_default());
                    is_word && is_whole && is_in(Some(code), Some(currency))
                });
                let behind = || {
                    let first = at.checked_sub(1).and_then(|at| tokens.get(at))?;
                    let Token::Word(word) = &first.token else { return None };
                    if !WHOLE.contains(&word.to_lowercase().as_str()) {
                        return None;
                    }
                    let rest = sentence[placed.at.1..].trim_start_matches([' ', '*', '_']);
                    let lower = rest.to_lowercase();
                    money.iter().find(|(name, _, _, currency)| {
                        let Some(more) = lower.strip_prefix(name.as_str()) else { return false };
                        // `the EUR 50,000 reserve for tenders` is a part of it.
                        let next = more.split_whitespace().next().unwrap_or_default();
                        let is_word = !more.starts_with(|c: char| c.is_alphanumeric() || c == '-');
                        is_word && !OTHER.contains(&next) && is_in(Some(code), Some(currency))
                    })
                };
                let (named, is_behind) = match named {
                    Some(named) => (named, false),
                    None => match behind() {
                        Some(named) => (named, true),
                        None => continue,
                    },
                };
                let (name, wanted, range, _) = named;
                let is_power = [3, -3, 6, -6].iter().any(|&power| {
                    written.number.scaled(power).is_some_and(|number| {
                        range.iter().any(|value| {
                            value
                                .minus(number)
                                .is_some_and(|gap| gap.abs() <= value.abs().scaled(-2).unwrap_or(gap))
                        })
                    })
                });
                let hint = if is_power { ": off by a power of a thousand" } else { "" };
                let said = match is_behind {
                    true => sentence.get(placed.at.0..).unwrap_or(sentence),
                    false => sentence.get(words.len() - name.len()..placed.at.1).unwrap_or(sentence),
                };
                found.push(fault(n + 1, said, format!("{wanted} is the figure of the plan, not this{hint}")));
            }
        }
    }
    found
}

/// Amounts of money, percentages and numbers from ten thousand on that are neither the value nor a bound of a fact, at
/// the places they are written with. Smaller numbers and years are passed over: they are mostly counts and days.
pub fn uncited(text: &str, facts: &Ledger) -> Vec<TextFault> {
    let mut known: Vec<(Number, Option<String>)> = Vec::new();
    for fact in facts.facts() {
        if let Amount::Quantity { range, unit } = &fact.amount {
            known.extend(range.iter().map(|number| (*number, unit.currency())));
        }
    }
    let is_known = |written: &Written| {
        // `6.4 million` may be 6,412,000; a number written in full is that number.
        let is_short = written.percent || written.thousands > 0;
        let off = if is_short { written.short() } else { Number::from(0) };
        let is_it = |(number, currency): &(Number, Option<String>)| {
            is_in(written.currency.as_deref(), currency.as_deref())
                && number.minus(written.number).is_some_and(|gap| gap.abs() <= off)
        };
        written.number == Number::from(0) || known.iter().any(is_it)
    };
    let is_figure = |written: &Written| {
        written.currency.is_some() || written.percent || written.number >= Number::from(10_000)
    };
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for sentence in sentences(line) {
            for stated in stated(sentence) {
                // A range is one claim: both its ends have to be known.
                if !stated.ends().any(is_figure) || stated.ends().all(is_known) {
                    continue;
                }
                let said = &sentence[stated.at.0..stated.at.1];
                let code = stated.from.currency.as_ref().map_or(String::new(), |code| format!("{code} "));
                let said = if code.is_empty() || said.ends_with(code.trim()) {
                    said.to_owned()
                } else {
                    format!("{code}{said}")
                };
                found.push(fault(n + 1, &said, format!("no fact has {said}")));
            }
        }
    }
    found
}

/// The first line of a text that has an amount, or a range of two, however it is written: `EUR 0.3 million` is EUR 300,000.
pub fn line_with(text: &str, amount: &str) -> Option<usize> {
    let wanted = stated(amount).into_iter().next()?;
    let is_it = |wanted: &Written, written: &Written| {
        let same = match (&wanted.currency, &written.currency) {
            (Some(one), Some(other)) => is_in(Some(other), Some(one)) || is_in(Some(one), Some(other)),
            _ => true,
        };
        same && wanted.percent == written.percent && wanted.number == written.number
    };
    // The end of a range is no place of a range.
    let has = |stated: Stated| match (&wanted.to, &stated.to) {
        (None, _) => stated.ends().any(|written| is_it(&wanted.from, written)),
        (Some(to), Some(written)) => is_it(&wanted.from, &stated.from) && is_it(to, written),
        (Some(_), None) => false,
    };
    text.lines().position(|line| stated(line).into_iter().any(has)).map(|at| at + 1)
}
