//! Lists in the pages are those of the program: codes, exit codes, variables, libraries; and links lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use planexe_base::exit;
use planexe_pipeline::manifest::run::RunFile;

use crate::README;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The sources of the program, without those of tests.
fn sources() -> String {
    let mut text = String::new();
    let mut folders = vec![Path::new(HERE).join("src"), Path::new(HERE).join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| name != "tests") => folders.push(path),
                false if path.extension().is_some_and(|end| end == "rs") => {
                    text += &std::fs::read_to_string(&path).expect("a source");
                }
                _ => {}
            }
        }
    }
    text
}

/// Words in backticks in one column of the tables between two places of a page.
fn in_column(page: &str, column: usize, from: &str, to: &str) -> BTreeSet<String> {
    let section = page.split(from).nth(1).and_then(|rest| rest.split(to).next()).expect(from);
    let cells =
        section.lines().filter(|line| line.starts_with('|')).filter_map(|row| row.split('|').nth(column));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// What stands between quotes after each of some words of the sources.
fn quoted_after(sources: &str, words: &str) -> BTreeSet<String> {
    sources.split(words).skip(1).filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
}

#[test]
fn every_code_of_an_error_is_listed() {
    let mut given = quoted_after(&sources(), ".code(\"");
    let kinds = [
        exit::Kind::Usage,
        exit::Kind::Manifest,
        exit::Kind::Setup,
        exit::Kind::Task,
        exit::Kind::Refused,
        exit::Kind::Stopped,
        exit::Kind::Locked,
        exit::Kind::Internal,
    ];
    given.extend(kinds.map(|kind| kind.name().to_owned()));
    let listed = in_column(include_str!("../../docs/formats.md"), 2, "The codes:\n", "\n## Exit codes");
    assert_eq!(listed, given);
}

#[test]
fn every_reason_to_be_stale_is_listed() {
    let source = include_str!("../../crates/engine/src/staleness.rs");
    let body = source.split("pub enum StaleReason {").nth(1).and_then(|rest| rest.split("\n}").next());
    let variants = body.expect("the reasons").lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let page = include_str!("../../docs/formats.md");
    let page = page.split("Its codes are ").nth(1).and_then(|rest| rest.split("; `running`").next());
    for variant in variants {
        let name: String = variant.chars().take_while(char::is_ascii_alphanumeric).collect();
        let mut code = String::new();
        for c in name.chars() {
            code += if c.is_ascii_uppercase() && !code.is_empty() { "_" } else { "" };
            code.push(c.to_ascii_lowercase());
        }
        assert!(page.expect("the codes").contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn every_exit_code_is_listed() {
    let page = include_str!("../../docs/formats.md");
    let section = page.split("\n## Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next());
    let firsts =
        section.expect("the section").lines().filter_map(|row| row.strip_prefix("| ")?.split('|').next());
    let listed: BTreeSet<u8> =
        firsts.flat_map(|cell| cell.split(',').filter_map(|code| code.trim().parse().ok())).collect();
    let given = [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::STOPPED,
        exit::LOCKED,
        planexe::ops::wait::TIMED_OUT,
        exit::HANGUP,
        exit::INTERRUPTED,
        exit::TERMINATED,
    ];
    assert_eq!(listed, BTreeSet::from(given));
}

#[test]
fn every_variable_of_ours_is_listed() {
    let of_tests = ["PLANEXE_SEEDS", "PLANEXE_TEST_LOCK_DIR"];
    let mut given: BTreeSet<String> = quoted_after(&sources(), "\"PLANEXE_")
        .into_iter()
        .map(|name| format!("PLANEXE_{}", name.replace("{}", "1")))
        .collect();
    given.retain(|name| !of_tests.contains(&name.as_str()));
    let page = include_str!("../../docs/formats.md");
    let mut listed = in_column(page, 1, "\n## Environment variables", "\n## Limits");
    listed.retain(|name| name.starts_with("PLANEXE_"));
    assert_eq!(listed, given);
}

#[test]
fn links_between_pages_lead_somewhere_and_each_page_is_linked() {
    let folder = Path::new(HERE).join("docs");
    let mut pages: Vec<String> = std::fs::read_dir(&folder)
        .expect("docs")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    let linked: Vec<&String> = pages.iter().filter(|page| !README.contains(&format!("]({page})"))).collect();
    assert!(linked.is_empty(), "not linked in README.md: {linked:?}");
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "llms.txt"].map(str::to_owned));
    let headings = |path: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let titles =
            text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        titles
            .map(|it| it.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
            .collect()
    };
    let mut wrong = Vec::new();
    for page in pages {
        let path = Path::new(HERE).join(&page);
        let text = std::fs::read_to_string(&path).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            if !target.exists() || !anchor.is_empty() && !headings(&target).iter().any(|it| it == anchor) {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_page_of_design_lists_every_library() {
    let cargo = include_str!("../../Cargo.toml");
    let section = cargo.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
    let names = section.expect("dependencies").lines().filter_map(|line| line.split_once(" = "));
    let names =
        names.map(|(name, _)| name).filter(|name| !name.contains(' ') && !name.starts_with(['#', '"']));
    let page = include_str!("../../docs/design.md");
    let table =
        page.split("## Libraries").nth(1).and_then(|rest| rest.split("Considered").next()).expect("a table");
    let listed: BTreeSet<&str> = table
        .lines()
        .filter_map(|row| row.strip_prefix("| ")?.split('|').next())
        .flat_map(|cell| cell.trim().split(", "))
        .collect();
    let missing: Vec<&str> =
        names.filter(|name| !name.starts_with("planexe-") && !listed.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn defaults_of_retries_are_those_that_are_told() {
    let policy = planexe_llm::retry::Policy::default();
    let page = include_str!("../../docs/keys.md");
    let section = page.split("## `retry`").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("retry");
    for (key, told) in [
        ("max_attempts", format!("(default {})", policy.max_attempts)),
        ("base", format!("(default {}s)", policy.base.as_secs())),
        ("max", format!("(default {}s)", policy.max.as_secs())),
        ("wait", format!("(default {}m)", policy.wait_for_server.as_secs() / 60)),
        ("wait", format!("(default {}m if", policy.wait_for_limit.as_secs() / 60)),
        ("wait", format!("else {}h)", policy.wait_for_only.as_secs() / 3600)),
    ] {
        let row = section.lines().find(|row| row.starts_with(&format!("| `{key}` |"))).expect(key);
        assert!(row.contains(&told), "{key}: {told}: {row}");
    }
}

/// Files and folders that a run of every kind leaves in `.planexe/` are in the table, by the names the sources give them.
#[test]
fn every_file_of_the_records_is_in_the_table() {
    let sources = sources();
    let mut given = quoted_after(&sources, "planexe_dir().join(\"");
    given.extend(quoted_after(&sources, "\".planexe/"));
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    // Names in tests. `lock` is told with `owner.json`.
    let not_kept = ["", "x", "{name}", "link.txt", "new"];
    let given: BTreeSet<String> =
        given.iter().map(first).filter(|name| !not_kept.contains(&name.as_str())).collect();
    let page = include_str!("../../docs/formats.md");
    let listed = in_column(page, 1, "\n## `.planexe/`", "\n## Answers of commands");
    let mut listed: BTreeSet<String> = listed.iter().map(first).collect();
    listed.insert("lock".to_owned());
    let missing: Vec<&String> = given.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/formats.md: {missing:?}");
}

#[test]
fn states_and_keys_of_a_run_are_told() {
    let page = include_str!("../../docs/formats.md");
    let row = |start: &str| page.lines().find(|line| line.starts_with(start)).expect(start);
    let stored = row("| `state` |");
    for state in planexe_base::record::State::ALL {
        assert_eq!(stored.contains(&format!("`{}`", state.name())), state.is_stored(), "{state}");
        assert!(state.is_stored() || page.contains(&format!("`{}`", state.name())), "{state}");
    }
    let some = || Some(String::from("x"));
    let run =
        RunFile { pipeline: "x".into(), parent: some(), label: some(), created: some(), profile: some() };
    let section = page.split("## The run directory").nth(1).and_then(|rest| rest.split("\n## ").next());
    for line in run.to_text().lines() {
        let key = line.split(' ').next().expect("a key");
        assert!(section.expect("the section").contains(&format!("`{key}`")), "{key}");
    }
}

/// The numbers that the page of changes tells of the flagship and of the tools for agents.
#[test]
fn the_changes_count_tasks_and_tools_as_they_are() {
    let changes = include_str!("../../CHANGELOG.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let flagship = include_str!("../../docs/flagship.md");
    let tasks = flagship.split(" tasks: ").next().and_then(|before| before.split_whitespace().next_back());
    assert!(changes.contains(&format!("in {} tasks, with recorded answers", tasks.expect("a number"))));
    let calls = flagship.split("The sample plan takes ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(changes.contains(&format!("the sample takes {} in all", calls.expect("a number"))));
    assert!(changes.contains(&format!("{} tools, builds that outlive", planexe::mcp::tools::TOOLS.len())));
}

/// Whatever is in `.planexe/` may come with a clone: of each file it is said whether it is believed then.
#[test]
fn of_every_file_of_the_records_it_is_said_whose_it_must_be() {
    let kinds = |page: &str, from: &str| -> BTreeSet<String> {
        let named = in_column(page, 1, from, "\n## ");
        named.iter().map(|name| name.split('/').next().unwrap_or(name).to_owned()).collect()
    };
    let mut there = kinds(include_str!("../../docs/formats.md"), "\n## `.planexe/`\n");
    there.insert("lock".to_owned());
    let told = kinds(include_str!("../../docs/durability.md"), "\n## Whose `.planexe/` it is\n");
    // The candidates of a task are told apart by who made them.
    let told = told.into_iter().filter(|name| name != ".planexe");
    let told: BTreeSet<String> = told.map(|name| name.replace("candidate.json", "partial")).collect();
    assert_eq!(told, there);
}
