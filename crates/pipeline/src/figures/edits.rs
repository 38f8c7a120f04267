//! Edits against quoted words: they change these words and nothing else.

use serde::Deserialize;
use serde_json::Value;

/// Words of a document that go, and those in their place.
#[derive(Debug, Clone, Deserialize)]
pub struct Edit {
    /// The document it is for.
    pub document: String,
    /// The words that go.
    pub find: String,
    /// The words in their place.
    pub replace: String,
}

/// Makes the edits of a document in every text of a value; keys, numbers and everything else stay.
pub fn edit(value: &mut Value, document: &str, edits: &[Edit]) {
    match value {
        Value::String(text) => {
            for edit in edits.iter().filter(|edit| edit.document == document && !edit.find.is_empty()) {
                if text.contains(&edit.find) {
                    *text = text.replace(&edit.find, &edit.replace);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| self::edit(item, document, edits)),
        Value::Object(members) => members.values_mut().for_each(|item| self::edit(item, document, edits)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
