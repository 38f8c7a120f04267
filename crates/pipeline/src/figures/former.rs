//! Figures and dates that a plan had before it was edited, and where a text still states them.

use super::TextFault;
use super::claims::fault;
use super::languages::Languages;
use super::named::{Named, dates};
use super::number::Number;
use super::scan::{Token, tokens};

/// What a text states, so that it is found again however it is written: `EUR 0.3 million` is EUR 300,000.
#[derive(Debug, Clone, PartialEq)]
enum Stated {
    Date(Named),
    /// An amount of money, or a share.
    Amount {
        number: Number,
        currency: Option<String>,
    },
    /// A number with the word behind it: a number alone is too little to be known again.
    Count {
        number: Number,
        word: String,
    },
}

impl Stated {
    /// Whether both are the same figure; `€` may be any currency.
    fn is(&self, other: &Stated) -> bool {
        let sign = |code: &Option<String>| code.as_ref().is_some_and(|code| code.chars().count() == 1);
        match (self, other) {
            (
                Stated::Amount { number: one, currency: this },
                Stated::Amount { number: two, currency: that },
            ) => {
                one == two && (this == that || this.is_some() && that.is_some() && (sign(this) || sign(that)))
            }
            _ => self == other,
        }
    }

    /// The month of a day, as it stands for itself.
    fn month(&self) -> Option<Stated> {
        match self {
            Stated::Date(Named::Day(day)) => Some(Stated::Date(Named::Month(day.first_of_month()))),
            _ => None,
        }
    }
}

/// What a line states, each with the words it is stated in.
fn stated(line: &str) -> Vec<(Stated, &str)> {
    let languages = Languages::new(None);
    let mut found = Vec::new();
    let mut taken = Vec::new();
    for date in dates(line, &languages) {
        let range = date.start()..date.range().end;
        found.extend(date.dates.iter().map(|named| (Stated::Date(*named), &line[range.clone()])));
        taken.push(date.range());
    }
    let tokens = tokens(line);
    for (n, placed) in tokens.iter().enumerate() {
        let Token::Number(written) = &placed.token else { continue };
        let (from, to) = placed.at;
        if taken.iter().any(|range| range.start < to && from < range.end) {
            continue;
        }
        if written.currency.is_some() || written.percent {
            // A code before the number belongs to what is shown.
            let code = written.currency.as_deref().unwrap_or_default();
            let before = line[..from].trim_end_matches([' ', '\u{a0}', '*', '_']);
            let start = if before.ends_with(code) { before.len() - code.len() } else { from };
            let amount = Stated::Amount { number: written.number, currency: written.currency.clone() };
            found.push((amount, line[start..to].trim()));
        } else if let Some(next) = tokens.get(n + 1)
            && let Token::Word(word) = &next.token
            && word.chars().count() > 2
            && word.chars().all(char::is_alphabetic)
            && next.at.0 - to <= 1
        {
            let count = Stated::Count { number: written.number, word: word.to_lowercase() };
            found.push((count, &line[from..next.at.1]));
        }
    }
    found
}

/// The figures and dates that a text has and another one has not, in the words of the first; a month too whose days are
/// all gone.
pub fn gone(old: &str, new: &str) -> Vec<String> {
    let now: Vec<Stated> = new.lines().flat_map(stated).map(|(what, _)| what).collect();
    // A month stands as long as one of its days does.
    let stands =
        |what: &Stated| now.iter().any(|other| other.is(what) || other.month().as_ref() == Some(what));
    let mut gone: Vec<String> = Vec::new();
    let mut add = |said: &str| {
        if !gone.iter().any(|other| other == said) {
            gone.push(said.to_owned());
        }
    };
    for (what, said) in old.lines().flat_map(stated).filter(|(what, _)| !stands(what)) {
        add(said);
        let month = what.month().filter(|month| !stands(month));
        if let Some(Stated::Date(Named::Month(day))) = month {
            add(&day.strftime("%B %Y").to_string());
        }
    }
    gone
}

/// The lines of a text that still state what is gone: `said` is the line's own words, `message` those of the plan before.
pub fn still(text: &str, gone: &[String]) -> Vec<TextFault> {
    let gone: Vec<(Stated, &str)> = gone.iter().flat_map(|said| stated(said)).collect();
    let mut found: Vec<TextFault> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for (what, said) in stated(line) {
            let Some((_, was)) = gone.iter().find(|(other, _)| other.is(&what)) else { continue };
            if !found.iter().any(|it| it.line == n + 1 && it.message == *was) {
                found.push(fault(n + 1, said, (*was).to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Money: EUR 6.4 million in all, 25% of it a loan.\n220 seats and 32 stalls.\nStart on 1 March 2027, open on 1 June 2029.";

    #[test]
    fn what_an_edit_takes_away_is_known() {
        for (new, wanted) in [
            (OLD.to_owned(), vec![]),
            (OLD.replace("EUR 6.4 million", "EUR 6,400,000"), vec![]),
            (OLD.replace("6.4 million", "7 million"), vec!["EUR 6.4 million"]),
            (OLD.replace("220", "180"), vec!["220 seats"]),
            (OLD.replace("25%", "30%"), vec!["25%"]),
            (OLD.replace("1 March", "1 September"), vec!["1 March 2027", "March 2027"]),
            // The month is still one of the plan.
            (OLD.replace("1 March", "15 March"), vec!["1 March 2027"]),
            (OLD.replace("1 March 2027", "2027-03-01"), vec![]),
        ] {
            assert_eq!(gone(OLD, &new), wanted, "{new}");
        }
    }

    #[test]
    fn what_still_states_it_is_found_however_it_is_written() {
        let gone: Vec<String> =
            ["EUR 6.4 million", "220 seats", "1 March 2027", "March 2027"].map(String::from).into();
        for (text, wanted) in [
            ("The budget is EUR 6,400,000.", vec![(1, "EUR 6,400,000", "EUR 6.4 million")]),
            ("a\n€6.4m or € 6.4 million", vec![(2, "€6.4m", "EUR 6.4 million")]),
            ("It starts on 2027-03-01.", vec![(1, "2027-03-01", "1 March 2027")]),
            (
                "From March 2027 on, **220 seats**",
                vec![(1, "March 2027", "March 2027"), (1, "220 seats", "220 seats")],
            ),
            ("USD 6.4 million, 220 days, 6.4 million people, 1 September 2027", vec![]),
        ] {
            let found = still(text, &gone);
            let found: Vec<_> = found.iter().map(|it| (it.line, &*it.said, &*it.message)).collect();
            assert_eq!(found, wanted, "{text}");
        }
    }
}
