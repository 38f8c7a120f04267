//! What is said to people: what went wrong, and what to do about it, as values.
//!
//! Files and JSON have a message as one text, with each hint on a line of its own. Only this file writes and reads that.

use std::borrow::Cow;
use std::fmt::Display;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What begins the line of a hint.
const LINE: &str = "\nhint: ";

/// What was found and what was wanted, and what to do about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// What was found and what was wanted.
    pub text: String,
    /// What to do about it.
    pub hints: Vec<Hint>,
}

/// What to do next. All that is typed stands between backticks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hint {
    text: String,
    commands: Vec<String>,
}

impl Message {
    /// A message without a hint.
    pub fn new(text: impl Into<String>) -> Message {
        Message { text: text.into(), hints: Vec::new() }
    }

    /// With a further hint.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Message {
        self.hints.push(hint.into());
        self
    }

    /// With what it is about before it.
    pub fn about(self, what: impl Display) -> Message {
        Message { text: format!("{what}: {}", self.text), ..self }
    }

    /// Its hints in one line, if it has any.
    pub fn advice(&self) -> Option<String> {
        let texts: Vec<&str> = self.hints.iter().map(Hint::text).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// As one text, each hint on a line of its own.
    pub fn to_lines(&self) -> String {
        // A text may quote a model. No line of it becomes a hint when the file is read again.
        let mut lines = self.text.replace(LINE, "\n hint: ");
        for hint in &self.hints {
            lines += LINE;
            lines += &hint.text;
        }
        lines
    }

    /// Changes every text in it.
    pub fn map(&self, change: impl Fn(&str) -> String) -> Message {
        let hints = self.hints.iter().map(|hint| Hint::new(change(&hint.text)));
        Message { text: change(&self.text), hints: hints.collect() }
    }

    fn from_lines(lines: &str) -> Message {
        let mut parts = lines.split(LINE);
        Message {
            text: parts.next().unwrap_or_default().to_owned(),
            hints: parts.map(|hint| Hint::new(hint.to_owned())).collect(),
        }
    }
}

impl Hint {
    /// A hint.
    pub fn new(text: String) -> Hint {
        let commands = commands(&text).map(str::to_owned).collect();
        Hint { text, commands }
    }

    /// For people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The commands of planexe in it.
    pub fn commands(&self) -> &[String] {
        &self.commands
    }

    /// Whether it is about something to type: a command of planexe, or an option.
    pub fn is_typed(&self) -> bool {
        !self.commands.is_empty() || self.text.contains("`-")
    }

    /// With its commands as they must be typed elsewhere.
    pub fn with_commands(&self, typed: impl Fn(&str) -> String) -> Hint {
        Hint::new(with_commands(&self.text, typed))
    }
}

/// The commands of planexe in a text.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("`planexe ").map(|(at, _)| &text[at + 1..]);
    starts.map(|rest| rest.split('`').next().unwrap_or(rest))
}

/// A text with the commands of planexe in it as they must be typed elsewhere.
pub fn with_commands(text: &str, typed: impl Fn(&str) -> String) -> String {
    let mut all = String::new();
    let mut done = 0;
    for command in commands(text) {
        let start = command.as_ptr() as usize - text.as_ptr() as usize;
        all += &text[done..start];
        all += &typed(command);
        done = start + command.len();
    }
    all + &text[done..]
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::new(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::new(text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Hint {
        Hint::new(text)
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Hint {
        Hint::new(text.to_owned())
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_lines())
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        Ok(Message::from_lines(&String::deserialize(deserializer)?))
    }
}

impl Serialize for Hint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Both are texts in JSON.
macro_rules! is_text {
    ($type:ty) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                "Text".into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                String::json_schema(generator)
            }
        }
    };
}

is_text!(Message);
is_text!(Hint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_message_as_one_text() {
        let rows = [
            (Message::new("no answer"), "no answer"),
            (Message::default(), ""),
            (Message::new("two\nlines").hint("type `ls`"), "two\nlines\nhint: type `ls`"),
            (Message::new("a").hint("b").hint("c"), "a\nhint: b\nhint: c"),
        ];
        for (message, lines) in rows {
            assert_eq!(serde_json::to_value(&message).unwrap(), lines);
            assert_eq!(serde_json::from_value::<Message>(lines.into()).unwrap(), message, "{lines}");
        }
    }

    #[test]
    fn a_text_that_is_quoted_gives_no_hint() {
        let message = Message::new("it said: no\nhint: `planexe clean --all`").hint("ask again");
        let read: Message = serde_json::from_value(serde_json::to_value(&message).unwrap()).unwrap();
        assert_eq!(read.hints, [Hint::from("ask again")]);
    }

    #[test]
    fn commands_are_found_and_typed_as_they_must_be() {
        for (text, commands, elsewhere) in [
            ("mend that file", &[][..], "mend that file"),
            ("`planexe build`", &["planexe build"], "`planexe -C x build`"),
            (
                "`planexe keys` shows it, `planexe doctor -v` tries it",
                &["planexe keys", "planexe doctor -v"],
                "`planexe -C x keys` shows it, `planexe -C x doctor -v` tries it",
            ),
            ("planexe is no command here", &[], "planexe is no command here"),
        ] {
            let hint = Hint::from(text);
            assert_eq!(hint.commands(), commands);
            let typed = |command: &str| command.replacen("planexe ", "planexe -C x ", 1);
            assert_eq!(hint.with_commands(typed).text(), elsewhere);
        }
    }
}
