//! Imports go downward only. Cargo refuses circles of crates; this holds their order, and that of the modules within each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The crates, from the ground up: each imports none but those before it.
const CRATES: [&str; 11] = [
    "base",
    "llm",
    "engine",
    "store",
    "pipeline",
    "ui",
    "build",
    "query",
    "notify",
    "plan-execution",
    "prompt-lab",
];

/// What the core must not rest on: the engine does no I/O, and nothing of the core knows what is built on top of it.
const NEVER: [(&str, &str); 3] = [("engine", "llm"), ("engine", "store"), ("store", "pipeline")];

/// Floors and rooms of the house at most, the crates and the modules of the program counted.
const FLOORS: usize = 12;
const ROOMS: usize = 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The crates that a manifest names under `[dependencies]`.
fn needs(manifest: &Path) -> BTreeSet<String> {
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let ours = manifest["dependencies"].as_table().unwrap().keys();
    ours.filter_map(|name| name.strip_prefix("planexe-")).map(str::to_owned).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Top-level modules of a crate, each with those it imports; tests are left out.
fn modules(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let (mut files, mut arrows) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    rust_files(source, &mut files);
    let comment = Regex::new(r"//[^\n]*").unwrap();
    let import = Regex::new(r"\b(?:crate|(super(?:::super)*))::(\w+|\{[^;]*\})").unwrap();
    let name = Regex::new(r"^\s*(\w+)|[,{]\s*(\w+)").unwrap();
    let path_of = |file: &Path| {
        let mut path: Vec<String> = file
            .with_extension("")
            .strip_prefix(source)
            .unwrap()
            .iter()
            .map(|it| it.to_string_lossy().into_owned())
            .collect();
        if path.last().is_some_and(|it| it == "mod") {
            path.pop();
        }
        path
    };
    let tops: BTreeSet<String> = files.iter().map(|file| path_of(file)[0].clone()).collect();
    for file in &files {
        let path = path_of(file);
        let top = path[0].clone();
        let from = arrows.entry(top.clone()).or_default();
        // `x/tests.rs` is `#[cfg(test)] mod tests` of `x`, in a file of its own.
        if top == "lib" || top == "main" || path.last().is_some_and(|it| it == "tests") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        for found in import.captures_iter(&comment.replace_all(text, "")) {
            let ups = found.get(1).map_or(path.len(), |it| it.as_str().matches("super").count());
            if ups < path.len() {
                continue;
            }
            for inner in name.captures_iter(&found[2]) {
                let to = inner.get(1).or(inner.get(2)).unwrap().as_str();
                if tops.contains(to) && to != top {
                    from.insert(to.to_owned());
                }
            }
        }
    }
    arrows
}

/// The longest way down from here; a circle is told with its way.
fn floor(
    at: &str,
    arrows: &BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<String>,
) -> Result<usize, String> {
    if let Some(start) = way.iter().position(|it| it == at) {
        return Err(format!("{} -> {at}", way[start..].join(" -> ")));
    }
    way.push(at.to_owned());
    let mut deepest = 0;
    for to in arrows.get(at).into_iter().flatten() {
        deepest = deepest.max(floor(to, arrows, way)?);
    }
    way.pop();
    Ok(deepest + 1)
}

fn deepest(arrows: &BTreeMap<String, BTreeSet<String>>) -> usize {
    arrows
        .keys()
        .map(|name| floor(name, arrows, &mut Vec::new()).unwrap_or(usize::MAX / 4))
        .max()
        .unwrap_or(0)
}

#[test]
fn crates_import_only_what_lies_below_them() {
    for (n, name) in CRATES.iter().enumerate() {
        let needs = needs(&root().join("crates").join(name).join("Cargo.toml"));
        for need in &needs {
            assert!(CRATES[..n].contains(&need.as_str()), "{name} must not import {need}");
        }
        for (from, to) in NEVER {
            assert!(*name != from || !needs.contains(to), "{from} must not import {to}");
        }
    }
    let there: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, CRATES.map(str::to_owned).into(), "a crate has no place in the order");
}

#[test]
fn modules_of_a_crate_import_in_one_direction() {
    let mut circles = Vec::new();
    for source in CRATES.iter().map(|name| format!("crates/{name}/src")).chain(["src".to_owned()]) {
        let arrows = modules(&root().join(&source));
        for module in arrows.keys() {
            if let Err(circle) = floor(module, &arrows, &mut Vec::new()) {
                circles.push(format!("{source}: {circle}"));
            }
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn the_house_is_seen_at_once() {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in CRATES {
        arrows.insert(name.to_owned(), needs(&root().join("crates").join(name).join("Cargo.toml")));
    }
    let program = modules(&root().join("src"));
    let rooms = CRATES.len() + program.len();
    let floors = deepest(&arrows) + deepest(&program);
    assert!(rooms <= ROOMS, "{rooms} rooms");
    assert!(floors <= FLOORS, "{floors} floors");
}

/// A source file without its tests and comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    Regex::new(r"//[^\n]*").unwrap().replace_all(text, "").into_owned()
}

#[test]
fn operations_know_no_command_line_and_print_nothing() {
    let mut files = Vec::new();
    rust_files(&root().join("src/ops"), &mut files);
    let wrong = [
        (r"\bclap\b", "knows the command line"),
        (r"\bcrate::(commands|cli|mcp)\b", "imports who asks for it"),
        (r"\be?print(ln)?!|\bio::\{?[^;]*\b(stdout|stderr)\b|\.(print|print_json|complain)\(", "prints"),
    ];
    for file in files {
        let code = code(&file);
        for (pattern, what) in wrong {
            let found = Regex::new(pattern).unwrap().find(&code);
            assert!(found.is_none(), "{} {what}: {}", file.display(), found.unwrap().as_str());
        }
    }
}

#[test]
fn the_server_for_agents_calls_operations_and_no_command() {
    let mut files = Vec::new();
    rust_files(&root().join("src/mcp"), &mut files);
    for file in files {
        assert!(!code(&file).contains("crate::commands"), "{} imports a command", file.display());
    }
}

#[test]
fn no_command_calls_another() {
    let folder = root().join("src/commands");
    let (mut files, mut found) = (Vec::new(), BTreeSet::new());
    rust_files(&folder, &mut files);
    let import = Regex::new(r"\b(?:crate::commands|((?:super::)*super))::(\w+|\{[^;]*\})").unwrap();
    let word = Regex::new(r"\w+").unwrap();
    let name_of = |file: &Path| {
        let first = file.strip_prefix(&folder).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    let commands: BTreeSet<String> = files.iter().map(|file| name_of(file)).collect();
    for file in &files {
        let from = name_of(file);
        let below = file.strip_prefix(&folder).unwrap().iter().count();
        let depth = if file.ends_with("mod.rs") { below - 1 } else { below };
        for names in import.captures_iter(&code(file)) {
            let ups = names.get(1).map_or(depth, |it| it.as_str().matches("super").count());
            if ups != depth {
                continue;
            }
            for to in word.find_iter(&names[2]).map(|it| it.as_str().to_owned()) {
                if commands.contains(&to) && to != from && !["args", "shared", "mod"].contains(&to.as_str()) {
                    found.insert((from.clone(), to));
                }
            }
        }
    }
    assert!(found.is_empty(), "commands call each other: {found:?}");
}
