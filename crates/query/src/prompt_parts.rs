//! Which lines of a prompt came from which input. Pure.
//!
//! A rendered prompt does not say where its words are from, and a template may filter, join and shorten what it is given. So
//! it is found by the text: a line that stands in an input came from it, unless the template says the same itself; of any
//! other line, the longest string of an input that it contains tells.

use std::collections::{HashMap, HashSet};

use planexe_ui::views::PromptPart;
use serde_json::Value;

/// Letters and digits that a line must have to tell where it is from.
const TELLING: usize = 4;
/// Characters of a string that is looked for within a line.
const WITHIN: usize = 12;
/// Bytes that are searched for strings at most: what is longer is told by whole lines alone.
const MOST: usize = 256 << 20;

/// An input of a prompt.
#[derive(Debug, Clone)]
pub struct Given {
    /// What it is called in the template.
    pub name: String,
    /// What it holds.
    pub text: String,
    /// Its text is JSON: a template sees what it says, not how it is written.
    pub json: bool,
}

/// What of an input may stand in a prompt: whole lines, and strings that may be a part of one.
struct Pieces {
    lines: HashSet<String>,
    strings: Vec<String>,
}

impl Pieces {
    fn of(given: &Given) -> Pieces {
        let mut pieces = Pieces { lines: lines_of(&given.text), strings: Vec::new() };
        let value: Option<Value> = given.json.then(|| serde_json::from_str(&given.text).ok()).flatten();
        match value {
            Some(value) => {
                pieces.lines.extend(lines_of(&serde_json::to_string_pretty(&value).unwrap_or_default()));
                pieces.add(&value);
            }
            None => pieces.strings.extend(given.text.lines().map(|line| line.trim().to_owned())),
        }
        pieces.strings.retain(|string| string.chars().count() >= WITHIN);
        pieces.strings.sort_by_key(|string| std::cmp::Reverse(string.len()));
        pieces
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.lines.extend(lines_of(text));
                self.strings.extend(text.lines().map(|line| line.trim().to_owned()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.add(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn plain(line: &str) -> &str {
    line.trim().trim_end_matches(',')
}

fn lines_of(text: &str) -> HashSet<String> {
    text.lines().map(|line| plain(line).to_owned()).filter(|line| tells(line)).collect()
}

fn tells(line: &str) -> bool {
    line.chars().filter(|c| c.is_alphanumeric()).take(TELLING).count() == TELLING
}

/// The lines of a prompt that came from its inputs, in order; all others are the prompt's own. `own`: its template.
pub fn prompt_parts(prompt: &str, own: &str, inputs: &[Given]) -> Vec<PromptPart> {
    let own = lines_of(own);
    let pieces: Vec<Pieces> = inputs.iter().map(Pieces::of).collect();
    let mut in_line: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, pieces) in pieces.iter().enumerate() {
        for line in &pieces.lines {
            in_line.entry(line).or_default().push(at);
        }
    }
    let mut searched = 0;
    let mut parts: Vec<(usize, PromptPart)> = Vec::new();
    // Whether the line before was an input's, apart from lines that tell nothing.
    let mut goes_on = false;
    for (number, line) in (1..).zip(prompt.lines()) {
        let line = plain(line);
        if !tells(line) {
            continue;
        }
        let last = parts.last().filter(|_| goes_on).map(|(at, _)| *at);
        let found = match in_line.get(line) {
            _ if own.contains(line) => None,
            Some(all) => last.filter(|last| all.contains(last)).or(Some(all[0])),
            None => within(line, &pieces, &mut searched),
        };
        match (found, parts.last_mut()) {
            (Some(at), Some((before, part))) if goes_on && *before == at => part.last_line = number,
            (Some(at), _) => {
                let input = inputs[at].name.clone();
                parts.push((at, PromptPart { input, first_line: number, last_line: number }));
            }
            (None, _) => {}
        }
        goes_on = found.is_some();
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// The input with the longest string that the line contains.
fn within(line: &str, pieces: &[Pieces], searched: &mut usize) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for (at, pieces) in pieces.iter().enumerate() {
        for string in pieces.strings.iter().filter(|string| string.len() <= line.len()) {
            if *searched > MOST || best.is_some_and(|(length, _)| length >= string.len()) {
                break;
            }
            *searched += line.len();
            if line.contains(string.as_str()) {
                best = Some((string.len(), at));
            }
        }
    }
    best.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, text: &str) -> Given {
        Given { name: name.into(), text: text.into(), json: text.starts_with('{') }
    }

    fn told(prompt: &str, own: &str, inputs: &[Given]) -> Vec<(String, usize, usize)> {
        let parts = prompt_parts(prompt, own, inputs);
        parts.into_iter().map(|part| (part.input, part.first_line, part.last_line)).collect()
    }

    #[test]
    fn lines_are_of_the_input_they_stand_in() {
        let plan = "Open a bakery.\n\nIn Lisbon.";
        let own = "Here is the plan:\n{{ plan }}\n\nAnd the risks:\n{% for r in risks %}- {{ r.text }} ({{ r.score }})\n{% endfor %}Answer in English.";
        let risks = r#"{"risks":[{"text":"The oven may break down.","score":3},{"text":"Flour gets dearer every year.","score":2}]}"#;
        let prompt = "Here is the plan:\nOpen a bakery.\n\nIn Lisbon.\n\nAnd the risks:\n- The oven may break down. (3)\n- Flour gets dearer every year. (2)\nAnswer in English.";
        let inputs = [given("plan", plan), given("risks", risks)];
        assert_eq!(told(prompt, own, &inputs), [("plan".to_owned(), 2, 4), ("risks".to_owned(), 7, 8)]);
    }

    #[test]
    fn words_of_the_template_are_its_own() {
        let inputs = [given("plan", "Answer in English.\nBake bread.")];
        let prompt = "Answer in English.\nBake bread.";
        assert_eq!(told(prompt, "Answer in English.\n{{ plan }}", &inputs), [("plan".to_owned(), 2, 2)]);
        // Where an input is left out, nothing is said to be from it.
        assert_eq!(told("Answer in English.", "Answer in English.", &inputs), []);
    }

    #[test]
    fn a_line_of_two_inputs_goes_on_with_the_one_before() {
        let inputs =
            [given("one", "Common words.\nOf the first."), given("two", "Of the second.\nCommon words.")];
        let prompt = "Of the second.\nCommon words.\n\nOf the first.\nCommon words.";
        assert_eq!(
            told(prompt, "{{ two }}\n\n{{ one }}", &inputs),
            [("two".to_owned(), 1, 2), ("one".to_owned(), 4, 5)]
        );
    }

    #[test]
    fn json_is_known_however_it_is_written() {
        let text = r#"{"title":"A long enough title","steps":["Knead the dough well","Bake it"]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let inputs = [given("doc", text)];
        for prompt in [serde_json::to_string_pretty(&value).unwrap(), format!("doc: {value}")] {
            let parts = told(&prompt, "{{ doc | tojson }}", &inputs);
            let lines = prompt.lines().count();
            assert_eq!(parts.len(), 1, "{prompt}: {parts:?}");
            assert!(parts[0].2 + 2 >= lines, "{prompt}: {parts:?}");
        }
    }
}
