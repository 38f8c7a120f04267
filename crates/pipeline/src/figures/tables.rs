//! Sums of columns in Markdown tables: the row of a total against the rows above it.

use super::TextFault;
use super::claims::fault;
use super::number::Number;
use super::scan::{Token, Written, tokens};

/// A cell that is one number, with its rounding.
fn number_of(cell: &str) -> Option<Written> {
    let cell = cell.trim().trim_matches('*').trim();
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
    Total,
}

fn kind(cells: &[&str]) -> Kind {
    let first = cells.first().copied().unwrap_or_default().trim_matches('*').trim().to_lowercase();
    match first.trim_end_matches(':') {
        "total" | "sum" | "in all" | "all" | "grand total" | "total budget" | "total cost"
        | "total funding" => Kind::Total,
        "subtotal" | "sub-total" => Kind::Part,
        _ => Kind::Row,
    }
}

/// What is wrong with the totals of tables.
pub fn sums(text: &str, found: &mut Vec<TextFault>) {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else {
            rows.clear();
            parts.clear();
            continue;
        };
        if cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':')) {
            // What is above the rule is the head.
            rows.clear();
            continue;
        }
        match kind(&cells) {
            Kind::Row => rows.push(cells),
            Kind::Part => {
                columns(&rows, &cells, line, n + 1, found);
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
