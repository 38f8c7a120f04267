//! The known name that is meant by one that is not known.

use std::fmt::Write as _;

/// So many names are compared for the hints of all faults together: about a second.
const MOST_COMPARED: usize = 1_000_000;

/// Longest text that another may be near to, in bytes: to compare two takes time as the square of it.
const LONGEST_NAME: usize = 200;

/// The known name nearest to one that is not known, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |lower: &str| lower.replace(['_', '-', ' ', '.'], "");
    let wanted = name.to_lowercase();
    // Nothing is near to no name, and with one letter it would be. A text of a page is no name.
    if wanted.is_empty() || wanted.len() > LONGEST_NAME {
        return None;
    }
    let (wanted_bare, wanted_length) = (bare(&wanted), wanted.chars().count());
    let mut best: Option<(usize, &str)> = None;
    for candidate in known.into_iter().filter(|known| known.len() <= LONGEST_NAME).take(MOST_COMPARED) {
        let lower = candidate.to_lowercase();
        if bare(&lower) == wanted_bare {
            return Some(candidate);
        }
        let length = lower.chars().count();
        let differ = length.abs_diff(wanted_length);
        let allowed = (length.max(wanted_length) / 3).max(1);
        let begins = lower.starts_with(&wanted) || wanted.starts_with(&lower);
        let distance = if begins && length.min(wanted_length) >= 3 {
            differ
        } else if differ <= allowed {
            strsim::damerau_levenshtein(&wanted, &lower)
        } else {
            continue;
        };
        let near = distance <= allowed || begins;
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Whether one more search for the [`nearest`] of so many names is cheap enough, when so many faults were found
/// before: a hint for each of thousands of faults among as many tasks would take minutes.
pub fn worth_a_search(faults: usize, names: usize) -> bool {
    faults.saturating_mul(names) <= MOST_COMPARED
}

/// `did you mean …?`, or the list of what there is, or nothing if there is none.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    list_of(known).map(|list| format!("known are {list}"))
}

/// Names in backticks joined by commas, each once, at most a dozen; nothing if there are none.
pub fn list_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let names: indexmap::IndexSet<&str> = names.into_iter().collect();
    if names.is_empty() {
        return None;
    }
    let mut list = names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        let _ = write!(list, " and {} more", names.len() - 12);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::{MOST_COMPARED, nearest, worth_a_search};

    #[test]
    fn what_is_meant() {
        let known = ["prompt", "inputs", "outputs", "out/1.txt", "out/12.txt", "Draft_Plan", "id"];
        for (name, meant) in [
            ("promt", Some("prompt")),
            ("output", Some("outputs")),
            ("INPUT", Some("inputs")),
            ("out/2.txt", Some("out/1.txt")),
            ("out/12.tx", Some("out/12.txt")),
            ("draft-plan", Some("Draft_Plan")),
            ("out", Some("outputs")),
            ("i", Some("id")),
            ("temperature", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(nearest("prompt", []), None);
    }

    #[test]
    fn searches_come_to_an_end() {
        assert!(worth_a_search(0, 100 * MOST_COMPARED));
        assert!(worth_a_search(100, 1000));
        assert!(!worth_a_search(100, 100_000));
        assert!(!worth_a_search(usize::MAX, 2));
    }
}
