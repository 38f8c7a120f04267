//! Trees laid over each other: included files, the chosen profile.

use indexmap::IndexMap;

use super::diagnostic::Diagnostic;
use super::place::{Entry, Kind, Node, SourceSpan, Step};

/// Adds an included file's tree; what both give is a fault.
pub(super) fn merge_file(root: &mut Node, other: Node, faults: &mut Vec<Diagnostic>) {
    let (Some(entries), Kind::Table(others)) = (root.table_mut(), other.kind) else { return };
    for (table, entry) in others {
        match entries.get_mut(&table) {
            None => {
                entries.insert(table, entry);
            }
            Some(mine) => match (&mut mine.value.kind, entry.value.kind) {
                (Kind::Table(mine), Kind::Table(theirs)) => {
                    for (key, theirs) in theirs {
                        if table == "pipeline" && key == "include" {
                            continue;
                        }
                        if let Some(first) = mine.get(&key) {
                            let what = match table.as_str() {
                                "task" => format!("task `{key}` is given in two files"),
                                _ => format!("`{table}.{key}` is given in two files"),
                            };
                            faults.push(
                                Diagnostic::at(theirs.key, what)
                                    .wanted("given before")
                                    .hint("rename one of the two, or remove it")
                                    .related(first.key, "first given here"),
                            );
                        } else {
                            mine.insert(key, theirs);
                        }
                    }
                }
                (_, kind) => {
                    let wrong =
                        if matches!(kind, Kind::Table(_)) { mine.value.place } else { entry.value.place };
                    faults.push(
                        Diagnostic::at(wrong, format!("`{table}` is not a table")).wanted("wanted a table"),
                    );
                }
            },
        }
    }
}

/// Keys that say where and how a model is reached: an override with another `api` drops them.
const ENDPOINT_KEYS: [&str; 13] = [
    "server",
    "service",
    "base_url",
    "model",
    "api_key_env",
    "headers",
    "command",
    "file",
    "on_miss",
    "latency",
    "seed",
    "fail",
    "words",
];

/// Lays a profile's model over the pipeline's.
pub(super) fn override_model(root: &mut Node, model: &str, over: &Entry, header: SourceSpan) {
    let Some(changes) = over.value.table() else {
        put(root, &["models"], model, over.clone(), header);
        return;
    };
    let steps = [Step::from("models"), Step::from(model)];
    let Some(mine) = root.find_mut(&steps).and_then(Node::table_mut) else {
        put(root, &["models"], model, over.clone(), header);
        return;
    };
    let api = |entry: Option<&Entry>| match entry.map(|entry| &entry.value.kind) {
        Some(Kind::Text(api)) => Some(api.clone()),
        _ => None,
    };
    if let Some(new) = api(changes.get("api"))
        && api(mine.get("api")) != Some(new)
    {
        mine.retain(|key, _| !ENDPOINT_KEYS.contains(&key.as_str()));
    }
    for (key, change) in changes {
        merge_value(mine, key, change);
    }
}

/// Puts a value over another; tables are merged key by key.
fn merge_value(into: &mut IndexMap<String, Entry>, key: &str, change: &Entry) {
    match (into.get_mut(key).map(|entry| &mut entry.value.kind), &change.value.kind) {
        (Some(Kind::Table(mine)), Kind::Table(theirs)) => {
            for (key, theirs) in theirs {
                merge_value(mine, key, theirs);
            }
        }
        _ => {
            into.insert(key.to_owned(), change.clone());
        }
    }
}

/// Sets a key of a table at a path, making the tables on the way.
pub(super) fn put(root: &mut Node, path: &[&str], key: &str, entry: Entry, made_at: SourceSpan) {
    let mut here = root;
    for step in path {
        let Some(entries) = here.table_mut() else { return };
        here = &mut entries
            .entry((*step).to_owned())
            .or_insert_with(|| Entry {
                key: made_at,
                value: Node { place: made_at, kind: Kind::Table(IndexMap::new()) },
            })
            .value;
    }
    if let Some(entries) = here.table_mut() {
        merge_value(entries, key, &entry);
    }
}
