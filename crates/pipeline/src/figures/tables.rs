//! Sums of columns in Markdown tables: the row of a total against the rows above it.

use super::TextFault;
use super::brackets;
use super::claims::fault;
use super::number::Number;
use super::scan::{Token, Written, tokens};

/// A cell that is one number, with its rounding; what stands in brackets behind it does not count.
fn number_of(cell: &str) -> Option<Written> {
    let around = brackets::without(cell);
    let cell = around.as_deref().unwrap_or(cell).trim().trim_matches('*').trim();
    let tokens = tokens(cell);
    match &tokens[..] {
        [placed] => match &placed.token {
            Token::Number(written) => Some(written.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?;
    Some(inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect())
}

#[derive(PartialEq)]
enum Kind {
    Row,
    Part,
    /// `Total costs`: a sum of what is above it, if that is money.
    Named,
    Total,
}

const SUMMED: [&str; 14] = [
    "cost",
    "costs",
    "budget",
    "funding",
    "investment",
    "expenses",
    "expenditure",
    "spending",
    "income",
    "revenue",
    "amount",
    "capital",
    "price",
    "phase",
];

fn kind(cells: &[&str]) -> Kind {
    let first = cells.first().copied().unwrap_or_default().trim_matches('*').trim().to_lowercase();
    match first.trim_end_matches(':') {
        "total" | "sum" | "in all" | "all" | "grand total" | "total budget" | "total cost"
        | "total funding" => Kind::Total,
        "subtotal" | "sub-total" => Kind::Part,
        name => {
            let mut words = name.split(|c: char| !c.is_alphanumeric());
            match (words.next(), words.next()) {
                (Some("total"), Some(of)) if SUMMED.contains(&of) => Kind::Named,
                _ => Kind::Row,
            }
        }
    }
}

/// What is wrong with the totals of tables.
pub fn sums(text: &str, found: &mut Vec<TextFault>) {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    let mut parts: Vec<Vec<&str>> = Vec::new();
    let mut head: Vec<&str> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            rows.clear();
            parts.clear();
            head.clear();
            continue;
        };
        if cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':')) {
            // What is above the rule is the head.
            head = rows.pop().unwrap_or_default();
            rows.clear();
            continue;
        }
        across(&head, &cells, line, n + 1, found);
        match kind(&cells) {
            Kind::Row => rows.push(cells),
            Kind::Part => {
                columns(&rows, &cells, line, n + 1, found);
                rows.clear();
                parts.push(cells);
            }
            Kind::Named => {
                let is_money = |at: usize| {
                    let named = head.get(at).is_some_and(|head| is_money(head));
                    let mut cells = rows.iter().chain([&cells]).filter_map(|row| number_of(row.get(at)?));
                    named || cells.all(|cell| cell.currency.is_some())
                };
                if (1..cells.len()).all(|at| number_of(cells[at]).is_none() || is_money(at)) {
                    columns(&rows, &cells, line, n + 1, found);
                }
                rows.clear();
                parts.push(cells);
            }
            Kind::Total => {
                let above: Vec<Vec<&str>> = parts.iter().chain(&rows).cloned().collect();
                columns(&above, &cells, line, n + 1, found);
                rows.clear();
                parts.clear();
            }
        }
    }
}

/// Whether the head of a column says that its numbers are money.
fn is_money(head: &str) -> bool {
    let head = head.to_lowercase();
    let words = ["cost", "amount", "sum", "budget", "funding", "eur", "usd", "gbp", "chf", "€", "$", "£"];
    words.iter().any(|word| head.contains(word))
}

/// Whether the head of a column is a part of time or of the plan: `2027`, `Q3`, `Year 2`, `Phase 1`.
fn is_share(head: &str) -> bool {
    let head = head.trim_matches('*').to_lowercase();
    let rest =
        ["year", "phase", "month", "quarter", "q", "y"].iter().find_map(|word| head.strip_prefix(word));
    let rest = rest.unwrap_or(&head).trim();
    !rest.is_empty() && rest.len() <= 4 && rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// A row with a last column `Total`: the sum of its parts, or number times price.
fn across(head: &[&str], cells: &[&str], line: &str, n: usize, found: &mut Vec<TextFault>) {
    let name =
        |at: usize| head.get(at).map(|head| head.trim_matches('*').trim().to_lowercase()).unwrap_or_default();
    let is_total =
        |at: &usize| matches!(name(*at).as_str(), "total" | "sum" | "in all" | "total cost" | "total costs");
    let Some(at) = (2..head.len()).find(is_total) else { return };
    let Some(claimed) = cells.get(at).and_then(|cell| number_of(cell)) else { return };
    let numbers: Vec<(usize, Written)> =
        (1..at).filter_map(|at| Some((at, number_of(cells.get(at)?)?))).collect();
    let [(one, _), (other, _), ..] = numbers[..] else { return };
    let all = numbers.iter();
    let is_sum = all.clone().all(|(at, _)| is_share(&name(*at)))
        || claimed.currency.is_some() && all.clone().all(|(_, number)| number.currency == claimed.currency);
    let is_price =
        |at: usize| ["price", "rate", "unit cost", "each", "per "].iter().any(|word| name(at).contains(word));
    let (says, result) = if is_sum && numbers.iter().all(|(_, number)| !number.percent) {
        ("adds up to", all.clone().try_fold(Number::from(0), |sum, (_, number)| sum.plus(number.number)))
    } else if numbers.len() == 2 && (is_price(one) || is_price(other)) {
        ("comes to", numbers[0].1.number.times(numbers[1].1.number))
    } else {
        return;
    };
    let off = if claimed.thousands > 0 || says == "comes to" { claimed.short() } else { Number::from(0) };
    if let Some(result) = result
        && result.minus(claimed.number).is_some_and(|gap| gap.abs() > off)
    {
        found.push(fault(n, line, format!("the row {says} {result}, not {}", claimed.number)));
    }
}

/// A column is summed if its total and every cell above it is a number, or empty.
fn columns(rows: &[Vec<&str>], total: &[&str], line: &str, n: usize, found: &mut Vec<TextFault>) {
    for (column, cell) in total.iter().enumerate().skip(1) {
        let Some(claimed) = number_of(cell) else { continue };
        let above: Vec<&str> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
        let filled = above.iter().filter(|cell| !["", "-", "–"].contains(cell));
        let Some(numbers) = filled.map(|cell| number_of(cell)).collect::<Option<Vec<Written>>>() else {
            continue;
        };
        if numbers.len() < 2 || numbers.iter().any(|number| number.percent != claimed.percent) {
            continue;
        }
        let sum = numbers.iter().try_fold(Number::from(0), |sum, number| sum.plus(number.number));
        let Some(sum) = sum else { continue };
        // Shares are rounded one by one.
        let count = Number::from(i64::try_from(numbers.len()).unwrap_or(1));
        let off = match claimed.percent {
            true => numbers.iter().map(|number| number.half).max().and_then(|half| half.times(count)),
            false => Some(Number::from(0)),
        };
        let gap = sum.minus(claimed.number).map(Number::abs);
        if let (Some(gap), Some(off)) = (gap, off)
            && gap > off
        {
            let shown = |number: Number| match claimed.percent {
                true => format!("{}%", number.scaled(2).unwrap_or(number)),
                false => number.to_string(),
            };
            found.push(fault(
                n,
                line,
                format!("column {} adds up to {}, not {}", column + 1, shown(sum), shown(claimed.number)),
            ));
        }
    }
}
