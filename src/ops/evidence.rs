//! Sources of the figures of a plan: what is kept in `evidence/`, and whether it still stands.

use std::path::Path;

use jiff::civil::Date;
use serde_json::Value;

use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability, FileKind};
use planexe_base::record::Digest;
use planexe_base::style::clean;
use planexe_pipeline::figures::{
    Fact, Finding, Kept, LONGEST_EXCERPT, Ledger, SOURCE_SCHEMA, Source, Standing, judge, name_of, quotes,
};
use planexe_store::{Store, Why};

/// The folder of the run.
pub const FOLDER: &str = "evidence";
/// Where the flagship has its facts.
pub const FACTS: &str = "canonical_facts.json";
/// Largest source that is kept.
pub const LARGEST: u64 = 4 << 20;
/// Most files in the folder.
const MOST: usize = 2_000;

/// What is to be kept.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// The id or the name of the fact.
    pub fact: &'a str,
    /// The id of the source; made of the fact's if there is none.
    pub id: Option<&'a str>,
    /// Where it is from.
    pub address: &'a str,
    /// What is kept.
    pub bytes: &'a [u8],
    /// The end of its name, as `.pdf`.
    pub ending: &'a str,
    /// The words that count.
    pub excerpt: &'a str,
    /// What they amount to.
    pub means: Option<&'a str>,
    /// The day it was fetched, or read.
    pub day: Date,
    /// The last day it is to be relied on.
    pub good_until: Option<Date>,
    /// Who keeps it.
    pub by: String,
}

/// The facts of a run, from a JSON file with a list `facts`.
pub fn facts(run: &Path, file: &str) -> Result<Ledger, Error> {
    let path = run.join(file);
    let shown = clean(file);
    let Some(bytes) = fs::read_optional(&path)? else {
        return Err(Error::new(Kind::Refused, format!("there is no `{shown}`: the plan has no figures yet"))
            .code("no_facts")
            .hint("`planexe build canonical_facts` makes it; `--facts FILE` takes another"));
    };
    let unread = |why: String| Error::new(Kind::Refused, format!("`{shown}` {why}")).code("no_facts");
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| unread(format!("is no JSON: {error}")))?;
    let list = value.get("facts").ok_or_else(|| unread("has no list `facts`".into()))?;
    Ledger::read(list).map_err(|faults| unread(format!("has facts that do not agree: {}", faults[0].message)))
}

/// The files of the folder.
fn files(run: &Path) -> Result<Vec<Kept>, Error> {
    let folder = run.join(FOLDER);
    let mut kept = Vec::new();
    for (name, kind) in fs::list_dir(&folder)?.into_iter().take(MOST) {
        let name = name.to_string_lossy().into_owned();
        if kind != FileKind::File || name.starts_with('.') {
            continue;
        }
        let path = folder.join(&name);
        let digest = fs::hash_file(&path)?.0.0;
        // What is too large to be ours has no text to look into.
        let text = fs::read_capped(&path, LARGEST).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        kept.push(Kept { name, text, digest });
    }
    Ok(kept)
}

/// All sources of a run, judged on a day.
pub fn all(run: &Path, ledger: &Ledger, today: Date) -> Result<Vec<Finding>, Error> {
    Ok(judge(&files(run)?, ledger, Some(today)))
}

fn find<'a>(ledger: &'a Ledger, wanted: &str) -> Result<&'a Fact, Error> {
    if let Some(fact) = ledger.facts().iter().find(|fact| fact.id == wanted || name_of(fact) == wanted) {
        return Ok(fact);
    }
    let near = ledger.get(wanted).err().flatten();
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`{FACTS}` and `canonical_facts.md` list them"),
    };
    Err(Error::usage(format!("there is no fact `{}`", clean(wanted))).code("unknown_fact").hint(hint))
}

fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=60).contains(&id.len())
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(plain)
}

/// Keeps a source. What is found of it today is told: one that says something else than the plan is kept as well, one
/// whose formula cannot be computed is not.
pub fn keep(run: &Path, ledger: &Ledger, new: &New<'_>, today: Date) -> Result<Finding, Error> {
    let fact = find(ledger, new.fact)?;
    let refused = |why: String| Error::usage(why).code("not_kept");
    if new.bytes.is_empty() || new.bytes.len() as u64 > LARGEST {
        return Err(refused(format!("the source has {} bytes; wanted 1 to {LARGEST}", new.bytes.len()))
            .hint("keep the page or the part that counts"));
    }
    let excerpt = new.excerpt.trim();
    if excerpt.is_empty() || excerpt.chars().count() > LONGEST_EXCERPT {
        return Err(refused(format!(
            "the excerpt has {} characters; wanted 1 to {LONGEST_EXCERPT}",
            excerpt.chars().count()
        )));
    }
    if let Ok(text) = std::str::from_utf8(new.bytes)
        && !quotes(text, excerpt)
    {
        return Err(refused("the excerpt is not in the source: nothing is cited that is not kept".into())
            .hint("copy the words from the source as they are"));
    }
    // The person may be a day ahead of UTC.
    if today.tomorrow().is_ok_and(|tomorrow| new.day > tomorrow) {
        return Err(refused(format!("the day it was read, {}, is still to come: today is {today}", new.day))
            .hint("`--good-until` says how long it is to be relied on"));
    }
    if let Some(until) = new.good_until.filter(|until| *until < new.day) {
        return Err(refused(format!("it was read on {}, and was good until {until} only", new.day))
            .hint("`--good-until` is the last day it is to be relied on"));
    }
    if new.address.trim().is_empty() || new.address.chars().any(char::is_control) {
        return Err(
            refused("where the source is from is not said in one line".into()).hint("`--from ADDRESS`")
        );
    }
    let there = fs::list_dir(&run.join(FOLDER))?;
    let is_taken = |id: &str| {
        let starts = format!("{id}.");
        there.iter().any(|(name, _)| name.to_string_lossy().starts_with(&starts))
    };
    let id = match new.id {
        Some(id) if !is_id(id) => {
            return Err(refused(format!("`{}` is no id", clean(id)))
                .hint("small letters, digits, `-` and `_`, 60 at most"));
        }
        Some(id) if is_taken(id) => {
            return Err(refused(format!("there is a source `{id}` already"))
                .hint(format!("`planexe evidence remove {id}` first, or choose another `--id`")));
        }
        Some(id) => id.to_owned(),
        None => {
            let ids =
                (1..).map(|n| format!("{}-{n}", fact.id.to_lowercase().chars().take(50).collect::<String>()));
            ids.into_iter().find(|id| !is_taken(id)).expect("BUG: there is always a next number")
        }
    };
    let source = Source {
        schema: SOURCE_SCHEMA,
        kept: format!("{id}{}", ending(new.ending)),
        id: id.clone(),
        fact: fact.id.clone(),
        name: name_of(fact).to_owned(),
        address: new.address.trim().to_owned(),
        day: new.day.to_string(),
        good_until: new.good_until.map(|day| day.to_string()),
        excerpt: excerpt.to_owned(),
        means: new.means.map(str::to_owned),
        digest: Digest::of(new.bytes).0,
        by: new.by.clone(),
    };
    let record = serde_json::to_string_pretty(&source).expect("BUG: a source is JSON") + "\n";
    let text = std::str::from_utf8(new.bytes).ok().map(str::to_owned);
    let files = [
        Kept { name: format!("{id}.json"), text: Some(record.clone()), digest: String::new() },
        Kept { name: source.kept.clone(), text, digest: source.digest.clone() },
    ];
    // Nothing becomes of a formula that cannot be computed but a source to be removed.
    if let Some(wrong) =
        judge(&files, ledger, Some(today)).into_iter().find(|it| it.standing == Standing::Damaged)
    {
        return Err(refused(wrong.why)
            .hint("`--means` computes with numbers of the excerpt, as `1450 [EUR/month] * 24 [months]`"));
    }
    let folder = run.join(FOLDER);
    fs::make_dirs_inside(run, &folder.join("x"), Durability::Synced)?;
    fs::write_atomic(&folder.join(&source.kept), new.bytes, Durability::Synced)?;
    // The record comes last: what is cited is there.
    fs::write_atomic(&folder.join(format!("{id}.json")), record.as_bytes(), Durability::Synced)?;
    let found = all(run, ledger, today)?.into_iter().find(|finding| finding.id == id);
    found.ok_or_else(|| Error::new(Kind::Internal, format!("`{FOLDER}/{id}.json` is not there")))
}

/// The end of the name of what is kept: never that of a record, nor anything but letters and digits.
fn ending(wanted: &str) -> String {
    let plain: String = wanted.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    match plain.to_lowercase().as_str() {
        "" => ".txt".into(),
        "json" => ".source.json".into(),
        "done" | "status" => ".txt".into(),
        plain => format!(".{plain}"),
    }
}

/// Removes a source and what is kept of it; both go to history, under the name that is returned.
pub fn remove(store: &Store, id: &str) -> Result<String, Error> {
    let record = format!("{id}.json");
    // Also what a kill left without its record: its id is taken.
    let there = if is_id(id) { fs::list_dir(&store.path(FOLDER))? } else { Vec::new() };
    let names = there.into_iter().filter(|(_, kind)| *kind != FileKind::Dir);
    let names = names.map(|(name, _)| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(&format!("{id}."))).collect();
    // The record first: what is cited is there as long as it is.
    names.sort_by_key(|name| *name != record);
    if names.is_empty() {
        return Err(Error::usage(format!("there is no source `{}`", clean(id)))
            .code("unknown_source")
            .hint("`planexe evidence` lists them"));
    }
    let paths: Vec<String> = names.iter().map(|name| format!("{FOLDER}/{name}")).collect();
    let name = format!("{FOLDER}/{id}");
    store.save(&name, Why::Cleaned, &paths, Durability::Synced)?;
    for path in &paths {
        fs::remove_durably(&store.path(path), Durability::Synced)?;
    }
    Ok(name)
}
