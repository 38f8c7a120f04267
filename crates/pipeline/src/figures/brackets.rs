//! Arithmetic in brackets: what stands in them is a sentence of its own, what stands around them is one too, and an
//! expression behind a number is what the number comes to.

use super::TextFault;
use super::claims::{ABOUT, Placement, claims, differs, fault};
use super::number::Number;
use super::scan::{Placed, Token, Written, tokens};

/// Brackets that are looked at in a sentence; what has more of them is none.
const MOST: usize = 40;

/// The innermost brackets of a text, from behind the first to before the second one.
fn innermost(text: &str) -> Vec<(usize, usize)> {
    let mut open = None;
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '(' => open = Some(at + 1),
            ')' => found.extend(open.take().map(|from| (from, at))),
            _ => (),
        }
    }
    found
}

/// A text without what stands in brackets; none if it has none.
pub(super) fn without(text: &str) -> Option<String> {
    let mut rest = String::with_capacity(text.len());
    let mut open: Vec<usize> = Vec::new();
    let mut is_other = false;
    for c in text.chars() {
        match c {
            '(' => open.push(rest.len()),
            ')' => {
                if let Some(from) = open.pop() {
                    rest.truncate(from);
                    rest.truncate(rest.trim_end_matches(' ').len());
                    is_other = true;
                    continue;
                }
            }
            _ => (),
        }
        rest.push(c);
    }
    is_other.then_some(rest)
}

/// What is wrong in the brackets of a sentence, and around them.
pub(super) fn faults(sentence: &str, n: usize, found: &mut Vec<TextFault>) {
    let mut told: Vec<String> = Vec::new();
    let mut inner = Vec::new();
    for (from, to) in innermost(sentence).into_iter().take(MOST) {
        let content = &sentence[from..to];
        claims(content, &tokens(content), n, &mut inner);
        told.extend(together(content));
        told.extend(of_number(sentence, from, to));
    }
    if let Some(around) = without(sentence) {
        claims(&around, &tokens(&around), n, &mut inner);
    }
    told.extend(inner.into_iter().map(|fault| fault.message));
    // One of them is enough: they are readings of the same words.
    found.extend(told.into_iter().take(1).map(|message| fault(n, sentence, message)));
}

/// Words that make a number no part of a sum.
const OTHER: [&str; 28] = [
    "a", "an", "per", "each", "every", "of", "to", "at", "between", "least", "most", "than", "not", "by",
    "over", "under", "from", "up", "before", "after", "until", "since", "or", "more", "less", "-", "/", "%",
];
/// Words that say that a number is all of them.
const ALL: [&str; 5] = ["total", "together", "altogether", "overall", "sum"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// What is measured rather than counted: `560 m² (35 × 16 m)` and `8 benches (4 + 2 hours)` are of two kinds.
const MEASURES: [&str; 20] = [
    "hour", "hours", "day", "days", "week", "weeks", "month", "months", "year", "years", "minute", "minutes",
    "m", "km", "cm", "metre", "metres", "meter", "meters", "half",
];
/// Words before a number that make it a name: `phase 2 (3 + 4 tasks)`.
const LABELS: [&str; 16] = [
    "phase", "section", "option", "month", "step", "stage", "part", "level", "item", "task", "version",
    "scenario", "article", "table", "chapter", "page",
];

fn word(placed: Option<&Placed>) -> String {
    match placed.map(|placed| &placed.token) {
        Some(Token::Word(word)) => word.to_lowercase(),
        _ => String::new(),
    }
}

/// Whether a number is more likely a year.
fn is_year(text: &str, written: &Written) -> bool {
    let plain = written.currency.is_none() && !written.percent && written.thousands == 0;
    let range = Number::from(1900)..=Number::from(2100);
    plain && !text.contains(',') && range.contains(&written.number)
}

/// `(40, 60 and 20; 130 in all)`, `(EUR 40,000, 60,000 and 20,000, together 130,000)`, `(130 in all: 40, 60 and 20)`.
fn together(content: &str) -> Option<String> {
    let tokens = tokens(content);
    let mut numbers: Vec<(usize, &Written)> = Vec::new();
    for (at, placed) in tokens.iter().enumerate() {
        match &placed.token {
            Token::Number(written) if is_year(&content[placed.at.0..placed.at.1], written) => return None,
            Token::Number(written) => numbers.push((at, written)),
            Token::Operator('+') | Token::About | Token::Equals => (),
            Token::Operator(_) => return None,
            Token::Break if [",", ";", ":"].contains(&&content[placed.at.0..placed.at.1]) => (),
            Token::Break => return None,
            Token::Word(said) => {
                let said = said.to_lowercase();
                let is_total = said == "of"
                    && ALL.contains(&word(at.checked_sub(1).and_then(|at| tokens.get(at))).as_str());
                if OTHER.contains(&said.as_str()) && !is_total || MONTHS.contains(&said.as_str()) {
                    return None;
                }
            }
        }
    }
    if numbers.len() < 3 {
        return None;
    }
    let is_all = |at: usize| {
        let before = |back: usize| word(at.checked_sub(back).and_then(|at| tokens.get(at)));
        let skip = usize::from(ABOUT.contains(&before(1).as_str()));
        let (last, one) = (before(1 + skip), before(2 + skip));
        let last = if last == "of" { one.clone() } else { last };
        let is_behind = (1..=3).any(|on| {
            let said = word(tokens.get(at + on));
            let is_plain = (1..on).all(|on| !word(tokens.get(at + on)).is_empty());
            is_plain
                && (ALL.contains(&said.as_str())
                    || said == "in" && ["all", "total"].contains(&word(tokens.get(at + on + 1)).as_str()))
        });
        ALL.contains(&last.as_str())
            || one == "in" && last == "all"
            || is_behind
            || at.checked_sub(1).is_some_and(|at| matches!(tokens[at].token, Token::Equals | Token::About))
    };
    let all: Vec<bool> = numbers.iter().map(|(at, _)| is_all(*at)).collect();
    let place = match (all.first(), all.last(), all.iter().filter(|is| **is).count()) {
        (_, Some(true), 1) => numbers.len() - 1,
        (Some(true), _, 1) => 0,
        _ => return None,
    };
    let (total_at, total) = numbers.remove(place);
    let currency = |written: &&Written| written.currency.clone();
    let mut codes: Vec<String> =
        numbers.iter().map(|(_, part)| part).chain([&total]).filter_map(currency).collect();
    codes.dedup();
    if codes.len() > 1 || numbers.iter().any(|(_, part)| part.percent != total.percent) {
        return None;
    }
    // `(3 rooms, 2 days; 6 days in all)` is no sum.
    let unit =
        |at: usize| Some(word(tokens.get(at + 1))).filter(|unit| !["", "and", "in"].contains(&unit.as_str()));
    let units: Vec<String> = numbers.iter().filter_map(|(at, _)| unit(*at)).collect();
    if let Some(of_total) = unit(total_at)
        && units.contains(&of_total)
        && units.iter().any(|unit| *unit != of_total)
    {
        return None;
    }
    let mut sum: Vec<(Token, Placement)> = Vec::new();
    for (at, part) in &numbers {
        if !sum.is_empty() {
            sum.push((Token::Operator('+'), tokens[*at].at));
        }
        sum.push((Token::Number((*part).clone()), tokens[*at].at));
    }
    let before = total_at.checked_sub(1).and_then(|at| tokens.get(at));
    let about =
        before.is_some_and(|placed| placed.token == Token::About) || ABOUT.contains(&word(before).as_str());
    differs(content, &sum, total, tokens[total_at].at, about)
}

/// `EUR 110,000 (EUR 40,000 + 60,000)`, `32 stalls (21 fixed + 11 starters)`: the number right before the brackets.
fn of_number(sentence: &str, from: usize, to: usize) -> Option<String> {
    let head = tokens(&sentence[..from - 1]);
    let at = head.iter().rposition(|placed| matches!(placed.token, Token::Number(_)))?;
    let Token::Number(claimed) = &head[at].token else { return None };
    let behind: Vec<String> = head[at + 1..].iter().map(|placed| word(Some(placed))).collect();
    let is_plain = |said: &String| !said.is_empty() && !OTHER.contains(&said.as_str());
    let label = word(at.checked_sub(1).and_then(|at| head.get(at)));
    let text = &sentence[head[at].at.0..head[at].at.1];
    if behind.len() > 3
        || !behind.iter().all(is_plain)
        || LABELS.contains(&label.as_str())
        || is_year(text, claimed)
    {
        return None;
    }
    let inner = tokens(&sentence[from..to]);
    let mut sum: Vec<(Token, Placement)> = Vec::new();
    let mut parts: Vec<&Written> = Vec::new();
    for placed in &inner {
        let place = (placed.at.0 + from, placed.at.1 + from);
        let is_open = matches!(sum.last(), None | Some((Token::Operator(_), _)));
        match &placed.token {
            Token::Number(written) if is_open => {
                parts.push(written);
                sum.push((placed.token.clone(), place));
            }
            Token::Operator('+' | '*' | '/') if !is_open => sum.push((placed.token.clone(), place)),
            Token::Word(said) if !is_open => {
                let said = said.to_lowercase();
                let is_measure = MEASURES.contains(&said.as_str()) && !behind.contains(&said);
                if OTHER.contains(&said.as_str()) && said != "each" || is_measure {
                    return None;
                }
            }
            _ => return None,
        }
    }
    let is_product = sum.iter().any(|(token, _)| matches!(token, Token::Operator('*' | '/')));
    let is_whole = matches!(sum.last(), Some((Token::Number(_), _))) && parts.len() > 1;
    let is_mixed = !is_product && parts.iter().any(|part| part.percent != claimed.percent);
    let of_money = parts.iter().any(|part| part.currency.is_some());
    let is_other = parts.iter().any(|part| part.currency.is_some() && part.currency != claimed.currency);
    let is_own = parts.iter().any(|part| part.number == claimed.number);
    if !is_whole || is_mixed || is_other || is_own || of_money && claimed.currency.is_none() {
        return None;
    }
    differs(sentence, &sum, claimed, head[at].at, false)
}
