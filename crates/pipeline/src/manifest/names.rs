//! Names of tasks and of inputs: what may be one, and when two are the same.

/// A task's name as it is compared on the command line: `SelectScenarioTask`, `select-scenario` and
/// `select_scenario` are one.
pub fn loose(name: &str) -> String {
    let bare: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    match bare.strip_suffix("task") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => bare,
    }
}

/// Whether a task may be called this: `[A-Za-z0-9_.-]`, not starting with `-` or `.`.
pub fn is_task_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether a template can use this as a name.
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A text made an identifier: lower case, `[a-z0-9_]`, no digit first. Empty if nothing is left.
pub fn identifier(text: &str) -> String {
    if is_identifier(text) && !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = if text.ends_with('_') { name.as_str() } else { name.trim_end_matches('_') };
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_one() {
        for name in [
            "SelectScenarioTask",
            "select-scenario",
            "select_scenario",
            "selectScenario",
            "SELECT_SCENARIO_TASK",
        ] {
            assert_eq!(loose(name), "selectscenario", "{name}");
        }
        assert_eq!(loose("task"), "task");
        assert_ne!(loose("a.b"), loose("ab"));
    }

    #[test]
    fn identifiers() {
        for (text, name) in [
            ("plan", "plan"),
            ("Executive Summary", "executive_summary"),
            ("002-pre-assessment", "_002_pre_assessment"),
            ("größe", "gr_e"),
            ("--", ""),
            ("a_", "a_"),
        ] {
            assert_eq!(identifier(text), name, "{text}");
        }
    }
}
