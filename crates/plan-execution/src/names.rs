//! Names of tasks and files, made from what a plan calls its parts: letters, digits, `.`, `_` and `-`, all different.
//! A name follows from what it names, not from its place, so that a step keeps it when others come or go.

use std::collections::HashSet;

use planexe_pipeline::items::sanitize_key;
use planexe_pipeline::manifest::names::loose;
use planexe_pipeline::runs;

/// Longest part of a name before a digest.
const LONGEST: usize = 60;

/// The names given so far.
#[derive(Debug, Default)]
pub struct Names {
    used: HashSet<String>,
}

impl Names {
    /// A name for a phase or task of the plan, from its id.
    pub fn of_id(&mut self, id: &str) -> String {
        let safe = sanitize_key(id);
        let short: String = safe.chars().take(LONGEST).collect();
        // As the keys of a fan-out: what had to be changed gets a digest, so that two ids never become one name.
        let name = if short == id && !short.is_empty() { short } else { with_digest(&short, id) };
        self.take(name, id)
    }

    /// A name for a step of a task, from its title.
    pub fn of_step(&mut self, task: &str, title: &str) -> String {
        let words = runs::slug(title, 48);
        let step = if words.is_empty() { with_digest("step", title) } else { words };
        self.take(format!("{task}.{step}"), title)
    }

    /// A name of our own, with a prefix.
    pub fn of_gate(&mut self, prefix: &str, name: &str) -> String {
        self.take(format!("{prefix}.{name}"), name)
    }

    /// Gives the name, or one like it if it is taken. Names that the command line takes for one are one.
    fn take(&mut self, name: String, of: &str) -> String {
        if self.used.insert(loose(&name)) {
            return name;
        }
        let digest = with_digest(&name, of);
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let mut names = std::iter::once(digest).chain(numbered);
        names.find(|name| self.used.insert(loose(name))).unwrap_or(name)
    }
}

fn with_digest(name: &str, of: &str) -> String {
    let name = name.trim_end_matches(['.', '-']);
    let digest = &blake3::hash(of.as_bytes()).to_hex()[..8];
    if name.is_empty() { digest.to_owned() } else { format!("{name}-{digest}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_pipeline::manifest::names::is_task_name;

    #[test]
    fn names_are_safe_and_differ() {
        let mut names = Names::default();
        let mut given = Vec::new();
        for id in [
            "a",
            "a",
            "A",
            "a-",
            "../../etc/passwd",
            "..",
            "",
            "\u{202e}x",
            "{{ x }}",
            "x\ny",
            "Ü",
            "-rf",
            ".DONE",
        ] {
            given.push(names.of_id(id));
            for title in ["Draft it", "draft IT!", "", "../x", "\u{1b}[31m", "{% raw %}"] {
                let step = names.of_step(given.last().unwrap().clone().as_str(), title);
                given.push(step);
            }
        }
        given.push(names.of_id(&"long".repeat(500)));
        for name in &given {
            assert!(is_task_name(name) && name.len() < 140, "{name}");
            assert!(!name.contains("..") && !name.ends_with('.'), "{name}");
        }
        let different: HashSet<String> = given.iter().map(|name| loose(name)).collect();
        assert_eq!(different.len(), given.len(), "{given:?}");
        assert_eq!(given[0], "a");
        assert_eq!(given[1], "a.draft-it");
    }

    #[test]
    fn a_name_does_not_depend_on_its_place() {
        let of = |titles: &[&str]| -> Vec<String> {
            let mut names = Names::default();
            titles.iter().map(|title| names.of_step("t", title)).collect()
        };
        assert_eq!(of(&["One", "Two"])[1], of(&["Zero", "One", "Two"])[2]);
    }
}
