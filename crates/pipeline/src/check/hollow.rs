//! Values that say nothing.

use serde_json::Value;

/// Whether a value says nothing: null, empty, only white space or marks, or a placeholder.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().all(is_hollow),
        Value::Object(members) => members.values().all(is_hollow),
        Value::String(text) => is_placeholder(text),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a text stands for one that is still to be written.
fn is_placeholder(text: &str) -> bool {
    let plain: String = text.trim().to_lowercase();
    if !plain.chars().any(char::is_alphanumeric) {
        return true;
    }
    if plain.starts_with("lorem ipsum") {
        return true;
    }
    let inside = plain.trim_matches(|c: char| !c.is_alphanumeric());
    let bare: String = inside.chars().filter(|c| c.is_alphanumeric()).collect();
    let marked = plain.starts_with(['[', '<', '{']) && plain.ends_with([']', '>', '}']);
    matches!(
        bare.as_str(),
        "tbd"
            | "tba"
            | "tbc"
            | "todo"
            | "fixme"
            | "na"
            | "none"
            | "null"
            | "nil"
            | "undefined"
            | "placeholder"
            | "tobedetermined"
            | "tobedone"
            | "tobeadded"
            | "tobedefined"
            | "tobecompleted"
            | "notapplicable"
            | "notavailable"
            | "xxx"
            | "string"
            | "text"
            | "yourtexthere"
            | "inserttexthere"
            | "comingsoon"
    ) || (marked && (bare.starts_with("insert") || bare.starts_with("your") || bare.contains("placeholder")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        for text in [
            "",
            "  ",
            "TBD",
            "N/A",
            "n.a.",
            "...",
            "—",
            "[TODO]",
            "Lorem ipsum dolor",
            "<insert name here>",
            "To be determined",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["No risks were found", "A", "0", "None of the above", "string theory", "Your plan"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
