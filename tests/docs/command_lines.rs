//! Each command line that a page or a message shows is one that planexe takes.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use planexe::cli::definition;

/// The files below a folder that end so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What stands in code on a page, or between backticks in a source, and begins with the name of the program.
fn shown(text: &str) -> Vec<&str> {
    let inline = text.split('`').skip(1).filter(|part| part.starts_with("planexe ") && !part.contains('\n'));
    let typed = text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("$ ");
        let is_command = line.starts_with("planexe ") && !line.contains('`');
        // Prose begins with the name as well, and what the program prints does.
        (is_command && line.split(' ').nth(1).is_some_and(|word| word.starts_with('-') || is_name(word)))
            .then_some(line)
    });
    // What some words stand for is not known.
    let is_open = |line: &&str| ["COMMAND", "OPTIONS", "= "].iter().any(|word| line[8..].starts_with(word));
    inline.chain(typed).filter(|line| !is_open(line)).collect()
}

fn is_name(word: &str) -> bool {
    definition().get_subcommands().any(|one| one.get_name() == word)
}

/// The words of the first command of a line for a shell. What it does stands in a column of its own beside it,
/// and what a source puts in ends it.
fn words(line: &str) -> Vec<String> {
    let line = line
        .split("  ")
        .next()
        .and_then(|line| line.split(['{', '…']).next())
        .unwrap_or_default()
        .trim_end_matches(['\\', ';', '"']);
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\\') => {}
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '&' | '|' | ';' | '>' | '<') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn each_command_line_that_is_shown_is_taken() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![here.join("README.md"), here.join("CONTRIBUTING.md"), here.join("llms.txt")];
    pages.extend(files("docs", ".md"));
    pages.extend(files("src", ".rs"));
    pages.extend(files("crates", ".rs"));
    for path in pages {
        let text = std::fs::read_to_string(&path).expect("a page");
        for line in shown(&text) {
            count += 1;
            let error = definition().try_get_matches_from(words(line)).err();
            // A placeholder is no value, and a command that is only named lacks its arguments.
            let odd = [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand, ErrorKind::ArgumentConflict];
            if let Some(error) = error.filter(|error| odd.contains(&error.kind())) {
                wrong.push(format!(
                    "{}: {line}: {}",
                    path.display(),
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 300, "{count}");
}
