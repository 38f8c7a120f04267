//! Sums of lists in lines of their own: `Funding, EUR 6.4 million in all:` and what follows, or a last line with the total.

use super::TextFault;
use super::brackets;
use super::claims::fault;
use super::number::Number;
use super::scan::{Placed, Token, Written, tokens};

/// What stands behind the mark of a line of a list, and how far in it is.
fn item(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start();
    let rest =
        text.strip_prefix("- ").or(text.strip_prefix("* ")).or(text.strip_prefix("+ ")).or_else(|| {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
            (rest.len() < text.len()).then(|| rest.strip_prefix(". "))?
        })?;
    Some((line.len() - text.len(), rest.trim()))
}

/// The only amount of a line, unless it is a rate; one in brackets counts if there is no other.
fn amount(text: &str) -> Option<Written> {
    brackets::without(text).and_then(|around| only(&around)).or_else(|| only(text))
}

fn only(text: &str) -> Option<Written> {
    let tokens = tokens(text);
    let is_money =
        |placed: &Placed| matches!(&placed.token, Token::Number(written) if written.currency.is_some());
    let at = tokens.iter().position(is_money)?;
    let is_rate = matches!(tokens.get(at + 1).map(|placed| &placed.token), Some(Token::Word(word)) if ["a", "per", "each", "/"].contains(&word.as_str()));
    if is_rate || tokens[at + 1..].iter().any(is_money) {
        return None;
    }
    if let Token::Number(written) = &tokens[at].token { Some(written.clone()) } else { None }
}

/// Whether a line says that its amount is all of what follows.
fn is_total(line: &str) -> bool {
    let line = line.to_lowercase();
    let other = ["at least", "up to", "includ", "of which", "among"];
    ["in all", "in total", "altogether", "together", "total"].iter().any(|word| line.contains(word))
        && !other.iter().any(|word| line.contains(word))
}

/// Whether a line of a list is the sum of those before it.
fn is_sum(text: &str) -> bool {
    let name = text.trim_start_matches('*').to_lowercase();
    let name = name.split([':', ',', '*']).next().unwrap_or_default().trim();
    ["total", "in all", "sum", "altogether", "grand total"].contains(&name)
}

/// What is wrong with the sums of lists.
pub(super) fn sums(text: &str, found: &mut Vec<TextFault>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    let mut head: Option<usize> = None;
    while at < lines.len() {
        let Some((depth, _)) = item(lines[at]) else {
            if !lines[at].trim().is_empty() {
                head = Some(at);
            }
            at += 1;
            continue;
        };
        let end = (at..lines.len()).find(|&n| item(lines[n]).is_none()).unwrap_or(lines.len());
        list(&lines, head, at..end, depth, found);
        (at, head) = (end, None);
    }
}

fn list(
    lines: &[&str],
    head: Option<usize>,
    range: std::ops::Range<usize>,
    depth: usize,
    found: &mut Vec<TextFault>,
) {
    let mut parts: Vec<Written> = Vec::new();
    for n in range {
        let Some((inner, text)) = item(lines[n]) else { return };
        let (true, Some(part)) = (inner == depth, amount(text)) else { return };
        if parts.first().is_some_and(|first| first.currency != part.currency) {
            return;
        }
        if is_sum(text) {
            compare(&parts, &part, lines[n], n, found);
            return;
        }
        parts.push(part);
    }
    if let Some(head) = head
        && lines[head].trim_end_matches(['*', ' ']).ends_with(':')
        && is_total(lines[head])
        && let Some(total) = amount(lines[head])
    {
        compare(&parts, &total, lines[head], head, found);
    }
}

fn compare(parts: &[Written], total: &Written, line: &str, n: usize, found: &mut Vec<TextFault>) {
    if parts.len() < 2 || parts[0].currency != total.currency {
        return;
    }
    let sum = parts.iter().try_fold(Number::from(0), |sum, part| sum.plus(part.number));
    let Some(sum) = sum else { return };
    let off = if total.thousands > 0 { total.short() } else { total.half };
    if sum.minus(total.number).is_some_and(|gap| gap.abs() > off) {
        found.push(fault(n + 1, line, format!("comes to {sum}, not {}", total.number)));
    }
}
