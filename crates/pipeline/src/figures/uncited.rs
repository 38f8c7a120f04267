//! Numbers of a text that no fact has.

use super::TextFault;
use super::claims::{fault, sentences};
use super::facts::Ledger;
use super::formula::Amount;
use super::number::Number;
use super::scan::{Token, tokens};

/// Amounts of money, percentages and numbers from ten thousand on that are neither the value nor a bound of a fact, at
/// the places they are written with. Smaller numbers and years are passed over: they are mostly counts and days.
pub fn uncited(text: &str, facts: &Ledger) -> Vec<TextFault> {
    let mut known: Vec<(Number, Option<String>)> = Vec::new();
    for fact in facts.facts() {
        if let Amount::Quantity { range, unit } = &fact.amount {
            known.extend(range.iter().map(|number| (*number, unit.currency())));
        }
    }
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for sentence in sentences(line) {
            for placed in tokens(sentence) {
                let Token::Number(written) = &placed.token else { continue };
                let is_figure =
                    written.currency.is_some() || written.percent || written.number >= Number::from(10_000);
                // `6.4 million` may be 6,412,000; a number written in full is that number.
                let is_short = written.percent || written.thousands > 0;
                let off = if is_short { written.short() } else { Number::from(0) };
                let is_known = known.iter().any(|(number, currency)| {
                    let same = match (&written.currency, currency) {
                        // A sign such as € may stand for several codes.
                        (Some(written), Some(fact)) => written == fact || written.chars().count() == 1,
                        (Some(_), None) => false,
                        (None, _) => true,
                    };
                    same && number.minus(written.number).is_some_and(|gap| gap.abs() <= off)
                });
                if is_figure && !is_known && written.number != Number::from(0) {
                    let said = &sentence[placed.at.0..placed.at.1];
                    let code = written.currency.as_ref().map_or(String::new(), |code| format!("{code} "));
                    let said =
                        if said.contains(code.trim()) { said.to_owned() } else { format!("{code}{said}") };
                    found.push(fault(n + 1, &said, format!("no fact has {said}")));
                }
            }
        }
    }
    found
}
