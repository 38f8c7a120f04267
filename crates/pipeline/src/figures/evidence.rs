//! Sources that are kept for figures of a plan, in `evidence/`, and whether they still stand for them. What a source says is
//! compared with the figure here: no model is asked, and nothing is fetched.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::civil::Date;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::{Fact, Ledger};
use super::formula::{self, Amount, compute};
use super::languages::Languages;
use super::named::{Named, dates};
use super::number::Number;
use super::scan::{Token, Written, tokens};

/// The format of [`Source`] that is written.
pub const SCHEMA: u32 = 1;
/// Longest excerpt, in characters.
pub const LONGEST_EXCERPT: usize = 2_000;

/// A source of a figure: `evidence/ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Version of the format.
    pub schema: u32,
    /// Its id: the stem of its file.
    pub id: String,
    /// The id of the fact, when it was kept.
    pub fact: String,
    /// The name of the fact, by which it is found again: ids of a plan that was written anew may be others.
    pub name: String,
    /// Where it is from: an address, or what a person would look for.
    pub address: String,
    /// The day it was fetched, or read.
    pub day: String,
    /// The last day it is to be relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_until: Option<String>,
    /// The words that count.
    pub excerpt: String,
    /// What the words amount to, where the figure is not written in them: a formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The whole of it: a file beside this one.
    pub kept: String,
    /// The blake3 digest of that file.
    pub digest: String,
    /// Who kept it.
    pub by: String,
}

/// A file in `evidence/`.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its text, if it is one.
    pub text: Option<String>,
    /// The blake3 digest of its bytes.
    pub digest: String,
}

/// Whether a source stands for its figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It says the same.
    Holds,
    /// It is as it was kept, and has no figure to compare.
    Kept,
    /// It says something else.
    Differs,
    /// It was good until a day that is over.
    Old,
    /// The figure it was kept for is no longer in the plan.
    NoFact,
    /// Its words are not in what was kept.
    Unquoted,
    /// What was kept is not what it was.
    Changed,
    /// What was kept is gone.
    Missing,
    /// Its record cannot be read.
    Damaged,
}

impl Standing {
    /// Whether the figure may rest on it.
    pub fn is_sound(self) -> bool {
        matches!(self, Standing::Holds | Standing::Kept)
    }

    /// As it is written in data.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Holds => "holds",
            Standing::Kept => "kept",
            Standing::Differs => "differs",
            Standing::Old => "old",
            Standing::NoFact => "no_fact",
            Standing::Unquoted => "unquoted",
            Standing::Changed => "changed",
            Standing::Missing => "missing",
            Standing::Damaged => "damaged",
        }
    }
}

/// A source, and what was found of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The id of the source.
    pub id: String,
    /// The fact it is kept for, by its id of today; none if there is no such fact.
    pub fact: Option<String>,
    /// The name of the fact.
    pub name: String,
    /// Where it is from.
    pub address: String,
    /// The day it was fetched, or read.
    pub day: String,
    /// The last day it is to be relied on.
    pub good_until: Option<String>,
    /// The words that count.
    pub excerpt: String,
    /// The file that is kept.
    pub kept: String,
    /// Who kept it.
    pub by: String,
    /// Whether it stands.
    pub standing: Standing,
    /// Why, or why not.
    pub why: String,
}

/// Judges the sources in `evidence/`, in the order of their names. Without `today` none is too old.
pub fn judge(files: &[Kept], ledger: &Ledger, today: Option<Date>) -> Vec<Finding> {
    let by_name: BTreeMap<&str, &Kept> = files.iter().map(|file| (file.name.as_str(), file)).collect();
    let records = files.iter().filter(|file| file.name.ends_with(".json"));
    // What is kept of a source may be JSON itself.
    let kept: Vec<String> = records.clone().filter_map(|file| read(file).ok()).map(|it| it.kept).collect();
    let records = records.filter(|file| !kept.contains(&file.name));
    records
        .map(|file| match read(file) {
            Ok(source) => of(&source, &by_name, ledger, today),
            Err(why) => damaged(file, why),
        })
        .collect()
}

fn read(file: &Kept) -> Result<Source, String> {
    let text = file.text.as_deref().ok_or("is no text")?;
    let source: Source =
        serde_json::from_str(text).map_err(|error| format!("is no record of a source: {error}"))?;
    match source.schema {
        SCHEMA => Ok(source),
        other => Err(format!("has the format {other}; this planexe reads {SCHEMA}")),
    }
}

fn damaged(file: &Kept, why: String) -> Finding {
    Finding {
        id: file.name.trim_end_matches(".json").to_owned(),
        fact: None,
        name: String::new(),
        address: String::new(),
        day: String::new(),
        good_until: None,
        excerpt: String::new(),
        kept: file.name.clone(),
        by: String::new(),
        standing: Standing::Damaged,
        why: format!("`evidence/{}` {why}", file.name),
    }
}

fn of(source: &Source, files: &BTreeMap<&str, &Kept>, ledger: &Ledger, today: Option<Date>) -> Finding {
    let fact = ledger.facts().iter().find(|fact| name_of(fact) == source.name);
    let (standing, why) = standing(source, files, ledger, fact, today);
    Finding {
        id: source.id.clone(),
        fact: fact.map(|fact| fact.id.clone()),
        name: source.name.clone(),
        address: source.address.clone(),
        day: source.day.clone(),
        good_until: source.good_until.clone(),
        excerpt: source.excerpt.clone(),
        kept: source.kept.clone(),
        by: source.by.clone(),
        standing,
        why,
    }
}

/// What a fact is called: its name, or else its id.
pub fn name_of(fact: &Fact) -> &str {
    let name = fact.members.get("name").and_then(|name| name.as_str());
    name.filter(|name| !name.trim().is_empty()).unwrap_or(&fact.id)
}

fn standing(
    source: &Source,
    files: &BTreeMap<&str, &Kept>,
    ledger: &Ledger,
    fact: Option<&Fact>,
    today: Option<Date>,
) -> (Standing, String) {
    let Some(file) = files.get(source.kept.as_str()) else {
        return (Standing::Missing, format!("`evidence/{}` is gone", source.kept));
    };
    if file.digest != source.digest {
        return (Standing::Changed, format!("`evidence/{}` is not what was kept", source.kept));
    }
    if let Some(text) = &file.text
        && !quotes(text, &source.excerpt)
    {
        return (Standing::Unquoted, format!("its words are not in `evidence/{}`", source.kept));
    }
    let Some(fact) = fact else {
        return (Standing::NoFact, format!("the plan has no figure “{}” now", source.name));
    };
    let compared = says(source, fact, ledger);
    match (compared, good_until(source)) {
        ((standing, _), Some(last)) if standing.is_sound() && today.is_some_and(|today| today > last) => {
            (Standing::Old, format!("it was good until {last}"))
        }
        (compared, _) => compared,
    }
}

fn good_until(source: &Source) -> Option<Date> {
    source.good_until.as_deref().and_then(|day| day.parse().ok())
}

/// Whether a text has these words, however they are spaced and broken into lines.
pub fn quotes(text: &str, excerpt: &str) -> bool {
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let excerpt = spaced(excerpt);
    !excerpt.is_empty() && spaced(text).contains(&excerpt)
}

/// What the words of a source say of its fact.
pub fn says(source: &Source, fact: &Fact, ledger: &Ledger) -> (Standing, String) {
    if let Some(formula) = &source.means {
        return means(formula, &source.excerpt, fact, ledger);
    }
    match &fact.amount {
        Amount::Day(day) => {
            let days = days(&source.excerpt);
            match days.as_slice() {
                [] => (Standing::Kept, "it has no date to compare".into()),
                days if days.contains(day) => (Standing::Holds, format!("it says {day}")),
                [other, ..] => (Standing::Differs, format!("it says {other}, the plan {day}")),
            }
        }
        Amount::Quantity { range, unit } => {
            let numbers = numbers(&source.excerpt);
            let currency = unit.currency();
            let of_its_kind = |written: &&Written| match (&written.currency, &currency) {
                // A sign such as € may stand for several codes.
                (Some(written), Some(fact)) => written == fact || written.chars().count() == 1,
                (Some(_), None) => false,
                (None, _) => true,
            };
            let near = |written: &&Written| {
                let short = written.percent || written.thousands > 0;
                let off = if short { written.short() } else { Number::from(0) };
                let is_within = range[0] <= written.number && written.number <= range[2];
                is_within || range[1].minus(written.number).is_some_and(|gap| gap.abs() <= off)
            };
            let mut alike = numbers.iter().filter(of_its_kind);
            match alike.clone().find(near) {
                Some(_) => (Standing::Holds, format!("it says {}", fact.text)),
                None => match alike.next().or(numbers.iter().find(|it| it.currency.is_some())) {
                    None => (Standing::Kept, "it has no figure to compare".into()),
                    Some(_) => {
                        (Standing::Differs, format!("it does not say {}, as the plan does", fact.text))
                    }
                },
            }
        }
    }
}

/// What a formula over the words of a source says of a fact.
fn means(formula: &str, excerpt: &str, fact: &Fact, ledger: &Ledger) -> (Standing, String) {
    let computed = match compute(formula, &mut Amounts(ledger)) {
        Ok(computed) => computed,
        Err(why) => return (Standing::Damaged, format!("`{formula}` {why}")),
    };
    let said = numbers(excerpt);
    if !numbers(formula).iter().any(|number| said.iter().any(|said| said.number == number.number)) {
        return (Standing::Unquoted, format!("no number of `{formula}` is in its words"));
    }
    match (&fact.amount, &computed) {
        (Amount::Day(day), Amount::Day(computed)) if day == computed => {
            (Standing::Holds, format!("`{formula}` comes to {day}"))
        }
        (Amount::Quantity { range, unit }, Amount::Quantity { range: found, unit: of }) if unit == of => {
            match range[0] <= found[1] && found[1] <= range[2] {
                true => (Standing::Holds, format!("`{formula}` comes to {}", fact.text)),
                false => (
                    Standing::Differs,
                    format!("`{formula}` comes to {}, the plan says {}", found[1].grouped(), fact.text),
                ),
            }
        }
        (Amount::Quantity { unit, .. }, Amount::Quantity { unit: of, .. }) => {
            (Standing::Differs, format!("`{formula}` is in {of}, and the figure in {unit}"))
        }
        (day, _) => {
            let is = if matches!(day, Amount::Day(_)) { "a date" } else { "a number" };
            (Standing::Differs, format!("`{formula}` is none, and the figure is {is}"))
        }
    }
}

struct Amounts<'a>(&'a Ledger);

impl formula::Facts for Amounts<'_> {
    fn amount(&mut self, id: &str) -> Result<Amount, String> {
        let found = self.0.get(id).map(|fact| fact.amount.clone());
        found.map_err(|_| format!("names `{id}`, which is no fact"))
    }

    fn matching(&mut self, pattern: &str) -> Vec<String> {
        let ids = self.0.facts().iter().map(|fact| fact.id.clone());
        ids.filter(|id| id.starts_with(pattern)).collect()
    }
}

fn numbers(text: &str) -> Vec<Written> {
    let of_line = |line| tokens(line).into_iter();
    let number = |placed: super::scan::Placed| match placed.token {
        Token::Number(written) => Some(written),
        _ => None,
    };
    text.lines().flat_map(of_line).filter_map(number).collect()
}

/// The days a text names, in any of the languages that dates are read in.
fn days(text: &str) -> Vec<Date> {
    let languages = Languages::new(None);
    let named = dates(text, &languages).flat_map(|found| found.dates);
    named.filter_map(|named| if let Named::Day(day) = named { Some(day) } else { None }).collect()
}

static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?i)\b(?:https?://|www\.)[^\s<>"'`|)\]}]+"#).expect("a pattern"));

/// The addresses of the web that a text names, with their lines.
pub fn addresses(text: &str) -> Vec<(usize, String)> {
    let of_line = |(n, line): (usize, &str)| {
        let found = ADDRESS
            .find_iter(line)
            .map(|found| found.as_str().trim_end_matches(['.', ',', ';', ':', '*', '_', '!', '?']));
        found.map(|address| (n + 1, address.to_owned())).collect::<Vec<_>>()
    };
    text.lines().enumerate().flat_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ledger() -> Ledger {
        Ledger::read(&json!([
            {"id": "cost_1", "name": "Rent for two years", "value": 34_800, "currency": "EUR"},
            {"id": "rate", "name": "Share that repairs", "value": 12, "low": 10, "high": 15, "unit": "%"},
            {"id": "visits", "name": "Visits", "value": 60, "low": 40, "high": 80, "unit": "visits a week"},
            {"id": "open", "name": "Opening", "value": "2028-05-01", "unit": "date"},
            {"id": "grant", "name": "Grant", "value": 6_400_000, "currency": "EUR"}
        ]))
        .unwrap()
    }

    fn source(name: &str, excerpt: &str) -> Source {
        Source {
            schema: SCHEMA,
            id: "s".into(),
            fact: "x".into(),
            name: name.into(),
            address: "https://example.org/a".into(),
            day: "2026-09-01".into(),
            good_until: None,
            excerpt: excerpt.into(),
            means: None,
            kept: "s.txt".into(),
            digest: "d".into(),
            by: "ann".into(),
        }
    }

    fn kept(source: &Source, text: &str) -> Vec<Kept> {
        let record = serde_json::to_string(source).unwrap();
        let file = |name: &str, text: &str, digest: &str| Kept {
            name: name.into(),
            text: Some(text.into()),
            digest: digest.into(),
        };
        vec![file("s.json", &record, "r"), file("s.txt", text, "d")]
    }

    fn judged(source: &Source, text: &str) -> (Standing, String) {
        let found = judge(&kept(source, text), &ledger(), Some(Date::constant(2026, 11, 23)));
        assert_eq!(found.len(), 1);
        (found[0].standing, found[0].why.clone())
    }

    #[test]
    fn words_are_compared_with_the_figure() {
        use Standing::{Differs, Holds, Kept};
        for (name, excerpt, wanted) in [
            ("Rent for two years", "in all EUR 34,800 for both years", Holds),
            ("Rent for two years", "in all €34,800", Holds),
            ("Rent for two years", "EUR 1,450 a month", Differs),
            ("Rent for two years", "34,800 CHF", Differs),
            ("Rent for two years", "a long lease", Kept),
            ("Share that repairs", "some 14% of households", Holds),
            ("Share that repairs", "some 20% of households", Differs),
            ("Visits", "between 55 and 70 came each week", Holds),
            ("Visits", "about 120 came", Differs),
            ("Opening", "opens on 1 May 2028", Holds),
            ("Opening", "opens on May 1, 2028.", Holds),
            ("Opening", "opens 2028-05-02", Differs),
            ("Opening", "opens in spring", Kept),
            ("Grant", "EUR 6.4 million were granted", Holds),
            ("Grant", "EUR 6.9 million were granted", Differs),
            ("Visits", "EUR 60 for each", Differs),
        ] {
            let (standing, why) = judged(&source(name, excerpt), &format!("Before. {excerpt} After."));
            assert_eq!(standing, wanted, "{name}: {excerpt}: {why}");
        }
    }

    #[test]
    fn a_formula_says_what_the_words_amount_to() {
        for (formula, wanted) in [
            ("1450 [EUR/month] * 24 [months]", "`1450 [EUR/month] * 24 [months]` comes to EUR 34,800"),
            ("1450 [EUR/month] * 36 [months]", "comes to 52,200, the plan says EUR 34,800"),
            ("1450 * 24", "and the figure in EUR"),
            ("2900 [EUR/month] * 12 [months]", "no number of"),
            ("1450 [EUR/month] *", "`1450 [EUR/month] *`"),
            ("1450 [EUR/month] * moons", "names `moons`, which is no fact"),
        ] {
            let source =
                Source { means: Some(formula.into()), ..source("Rent for two years", "EUR 1,450 a month") };
            let (standing, why) = judged(&source, "Rent: EUR 1,450\n  a month.");
            assert!(why.contains(wanted), "{formula}: {why}");
            assert_eq!(
                standing == Standing::Holds,
                wanted.ends_with("34,800") && wanted.starts_with('`'),
                "{formula}"
            );
        }
    }

    #[test]
    fn a_formula_is_of_the_kind_of_its_figure() {
        use Standing::{Differs, Holds};
        for (name, formula, standing, wanted) in [
            ("Opening", "open + 0 [days]", Holds, "`open + 0 [days]` comes to 2028-05-01"),
            ("Opening", "open + 0 [days] + 1 [days]", Differs, "is none, and the figure is a date"),
            ("Opening", "0 + 12", Differs, "`0 + 12` is none, and the figure is a date"),
            ("Visits", "open + 0 [days]", Differs, "`open + 0 [days]` is none, and the figure is a number"),
            ("Rent for two years", "sum(cost_*) + 0 [EUR]", Holds, "comes to EUR 34,800"),
        ] {
            let source = Source { means: Some(formula.into()), ..source(name, "after 0 days") };
            let found = judged(&source, "It opens after 0 days.");
            assert!(found.0 == standing && found.1.contains(wanted), "{formula}: {found:?}");
        }
    }

    #[test]
    fn a_standing_is_called_alike_everywhere() {
        use Standing::*;
        for standing in [Holds, Kept, Differs, Old, NoFact, Unquoted, Changed, Missing, Damaged] {
            assert_eq!(json!(standing), standing.name());
        }
    }

    #[test]
    fn what_no_longer_stands_is_said() {
        let sound = source("Grant", "EUR 6,400,000");
        let text = "The grant: EUR 6,400,000.";
        assert_eq!(judged(&sound, text).0, Standing::Holds);
        let other = |change: &dyn Fn(&mut Source)| {
            let mut source = sound.clone();
            change(&mut source);
            judged(&source, text).0
        };
        assert_eq!(other(&|it| it.good_until = Some("2026-11-22".into())), Standing::Old);
        assert_eq!(other(&|it| it.good_until = Some("2026-11-23".into())), Standing::Holds);
        assert_eq!(other(&|it| it.name = "A loan".into()), Standing::NoFact);
        assert_eq!(other(&|it| it.excerpt = "EUR 6,500,000".into()), Standing::Unquoted);
        assert_eq!(other(&|it| it.excerpt = "  ".into()), Standing::Unquoted);
        assert_eq!(other(&|it| it.digest = "e".into()), Standing::Changed);
        assert_eq!(other(&|it| it.kept = "t.txt".into()), Standing::Missing);
        assert_eq!(other(&|it| it.schema = 9), Standing::Damaged);
    }

    #[test]
    fn what_is_kept_may_be_json_and_need_not_be_text() {
        let mut json = source("Grant", "6400000");
        json.kept = "s-kept.json".into();
        let files = [
            Kept {
                name: "s-kept.json".into(),
                text: Some("{\"grant\": 6400000}".into()),
                digest: "d".into(),
            },
            Kept {
                name: "s.json".into(),
                text: Some(serde_json::to_string(&json).unwrap()),
                digest: "r".into(),
            },
        ];
        let found = judge(&files, &ledger(), None);
        assert_eq!(found.iter().map(|it| it.standing).collect::<Vec<_>>(), [Standing::Holds]);
        let scan = [Kept { text: None, ..files[0].clone() }, files[1].clone()];
        assert_eq!(judge(&scan, &ledger(), None)[0].standing, Standing::Holds);
        let stray = [Kept { name: "x.json".into(), text: Some("[]".into()), digest: "d".into() }];
        let found = &judge(&stray, &ledger(), None)[0];
        assert_eq!((found.standing, found.id.as_str()), (Standing::Damaged, "x"));
        assert!(judge(&[], &ledger(), None).is_empty());
    }

    #[test]
    fn addresses_are_found_with_their_lines() {
        let text = "None here\nSee https://example.org/a?b=1, and (www.example.com/x).\n<HTTP://x.org>";
        let found = addresses(text);
        let found: Vec<_> = found.iter().map(|(line, address)| (*line, address.as_str())).collect();
        assert_eq!(found, [(2, "https://example.org/a?b=1"), (2, "www.example.com/x"), (3, "HTTP://x.org")]);
    }
}
