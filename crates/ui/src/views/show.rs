//! `planexe show`: what a task was sent and what came back.

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::explain::isolated;
use crate::views::{Server, accepted_by, table, time};
use planexe_base::record::{Isolated, OutputRecord, State};
use planexe_base::style::{self, Style, clean};
use planexe_store::KeptCall;
use planexe_store::calls::AnswerState;

/// Parts of a prompt that are named in a line.
const PARTS: usize = 12;

/// What a task was sent and what came back.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ShowView {
    /// Version of this format.
    pub schema: u32,
    /// Who answers.
    pub server: Server,
    /// `task` or `task[key]`.
    pub task: String,
    /// prompt, command, template, gate, human, group.
    pub recipe: String,
    /// The state, derived ones included.
    pub state: State,
    /// Who says that it is done: `build`, `touch`, `rescue`, `human`, `import`; none if it is not.
    pub by: Option<String>,
    /// The person who did, by `planexe touch` or `planexe done`.
    pub by_user: Option<String>,
    /// The calls that are kept, oldest first.
    pub calls: Vec<CallView>,
    /// The call the texts below are of, from 1; none if they are what would be sent now.
    pub shown: Option<usize>,
    /// System prompt.
    pub system: Option<String>,
    /// Prompt.
    pub prompt: Option<String>,
    /// The lines of the prompt that came from its inputs as they are now, in order; all others are its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PromptPart>,
    /// The answer, or as much of it as came.
    pub answer: Option<String>,
    /// What the command said.
    pub log: Option<String>,
    /// Files written.
    pub outputs: Vec<OutputRecord>,
    /// Of an isolated task that was begun: its lane, branch and worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolated>,
}

/// Lines of a prompt that came from one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PromptPart {
    /// What the input is called in the prompt's template; `item` for what a fan-out's item holds.
    pub input: String,
    /// From 1.
    pub first_line: usize,
    /// The last one is part of it.
    pub last_line: usize,
}

/// One call in a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct CallView {
    /// From 1.
    pub number: usize,
    /// Its file under `.planexe/calls/`.
    pub file: String,
    /// The task's attempt.
    pub attempt: u32,
    /// Its evaluator was asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub evaluation: bool,
    /// Start of the call.
    pub started_utc: String,
    /// Its end.
    pub ended_utc: String,
    /// The model's name at its server.
    pub model: String,
    /// `in_use`, `kept`, `set_aside`, `rejected`, `failed`.
    pub verdict: String,
    /// Why it was rejected, or failed.
    pub why: Option<String>,
    /// Joins log, usage and failures.
    pub error_id: Option<String>,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Answer tokens.
    pub output_tokens: u64,
    /// Seconds of the call.
    pub duration_s: Option<f64>,
}

/// The calls of a task in a line each. `in_use`: the file its record names.
pub fn call_views(calls: &[KeptCall], in_use: Option<&str>) -> Vec<CallView> {
    let feedback = |answer: &str| {
        let rejected = calls.iter().flat_map(|call| &call.record.request.rejected);
        rejected.filter(|rejected| rejected.answer == answer).map(|rejected| rejected.feedback.clone()).next()
    };
    let view = |(at, call): (usize, &KeptCall)| {
        let record = &call.record;
        let usage = record.reply.as_ref().map(|reply| reply.usage);
        let usage = usage.or(record.error.as_ref().map(|error| error.usage)).unwrap_or_default();
        let (verdict, why) = match (&record.reply, &record.error) {
            (None, Some(error)) => {
                ("failed", Some(format!("{}: {}", error.class.name(), error.message.to_lines())))
            }
            (None, None) => ("failed", None),
            (Some(reply), _) if record.verdict == AnswerState::Rejected => {
                ("rejected", feedback(&reply.text))
            }
            _ if in_use == Some(call.name.as_str()) => ("in_use", None),
            _ if !call.usable => ("set_aside", None),
            _ => ("kept", None),
        };
        CallView {
            number: at + 1,
            file: call.name.clone(),
            attempt: record.attempt,
            evaluation: record.evaluation,
            started_utc: record.started_utc.clone(),
            ended_utc: record.ended_utc.clone(),
            model: record.model.clone(),
            verdict: verdict.to_owned(),
            why,
            error_id: record.error_id.clone(),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            duration_s: record.reply.as_ref().map(|reply| reply.duration_s),
        }
    };
    calls.iter().enumerate().map(view).collect()
}

/// Of what a model was told, the faults alone; any other reason as it is.
fn faults(why: &str) -> String {
    let listed: Vec<&str> = why.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    if listed.is_empty() { why.to_owned() } else { listed.join("; ") }
}

impl ShowView {
    /// For people.
    pub fn text(&self, style: &Style) -> String {
        let mut text = format!(
            "{}  {}  {}\n",
            style.bold(&clean(&self.task)),
            style.state(self.state),
            style.dim(&self.recipe)
        );
        if !self.outputs.is_empty() {
            let paths: Vec<String> = self.outputs.iter().map(|output| clean(&output.path)).collect();
            text += &format!("  {}\n", paths.join(" "));
        }
        match (self.by.as_deref(), self.by_user.as_deref()) {
            (Some("touch"), user) => text += &format!("  {}\n", accepted_by(user)),
            (Some("import"), _) => text += "  imported\n",
            (Some("human"), Some(user)) => text += &format!("  passed by {}\n", clean(user)),
            _ => {}
        }
        if let Some(isolation) = &self.isolation {
            text += &format!("  {}\n", isolated(isolation, self.state));
        }
        if !self.calls.is_empty() {
            text += &format!("\n{}", table(&self.rows(style), style));
        }
        let shown = self.calls.iter().find(|call| Some(call.number) == self.shown);
        if let Some(why) = shown.and_then(|call| call.why.as_deref()).filter(|_| style.width.is_some()) {
            // The table may have had no room for all of it.
            text += &format!("\n{}\n", style.wrap(&clean(&faults(why)), 0));
        }
        let which = match self.shown {
            Some(number) => format!(" of call {number}"),
            None => " as it would be sent now".to_owned(),
        };
        for (name, body) in [
            (format!("system prompt{which}"), &self.system),
            (format!("prompt{which}"), &self.prompt),
            (format!("answer{which}"), &self.answer),
            ("log of the command".to_owned(), &self.log),
        ] {
            if let Some(body) = body.as_ref().filter(|body| !body.is_empty()) {
                text += &format!("\n{}\n", style.bold(&format!("--- {name}")));
                if !self.parts.is_empty() && name.starts_with("prompt") {
                    text += &format!("{}\n", style.dim(&style.wrap(&self.parts_text(), 0)));
                }
                text += style::clean_lines(body).trim_end_matches('\n');
                text.push('\n');
            }
        }
        if self.calls.is_empty() && self.prompt.is_none() && self.log.is_none() {
            text += "\nNothing is kept of it but its outputs.\n";
        }
        text
    }

    /// "lines 3-40 from plan, line 42 from wbs"
    fn parts_text(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for PromptPart { input, first_line, last_line } in self.parts.iter().take(PARTS) {
            let lines = match first_line == last_line {
                true => format!("line {first_line}"),
                false => format!("lines {first_line}-{last_line}"),
            };
            texts.push(format!("{lines} from {}", clean(input)));
        }
        match self.parts.len().saturating_sub(PARTS) {
            0 => texts.join(", "),
            more => format!("{}, and {more} more", texts.join(", ")),
        }
    }

    fn rows(&self, style: &Style) -> Vec<Vec<String>> {
        let heads = ["call", "UTC", "model", "in", "out", "time", "verdict"];
        let mut rows: Vec<Vec<String>> = vec![heads.iter().map(|head| style.dim(head)).collect()];
        for call in &self.calls {
            let mut verdict = call.verdict.replace('_', " ");
            if call.evaluation {
                verdict += " (evaluation)";
            }
            let colour = match call.verdict.as_str() {
                "failed" | "rejected" => style::RED,
                "in_use" => style::GREEN,
                _ => style::GREY,
            };
            let why = call.why.as_deref().map(|why| format!(": {}", clean(&faults(why)))).unwrap_or_default();
            rows.push(vec![
                call.number.to_string(),
                time(&call.started_utc).trim_end_matches(" UTC").to_owned(),
                clean(&call.model),
                style::tokens(call.input_tokens),
                style::tokens(call.output_tokens),
                call.duration_s.map_or_else(String::new, style::duration),
                format!("{}{why}", style.paint(colour, &verdict)),
            ]);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planexe_base::record::Digest;
    use planexe_llm::{Rejected, Reply};
    use planexe_store::{CallRecord, KeptRequest};

    fn kept(name: &str, usable: bool, verdict: AnswerState, answer: Option<&str>) -> KeptCall {
        let record = CallRecord {
            schema: 1,
            task: "swot".into(),
            digest: Digest::default(),
            endpoint: "local".into(),
            model: "qwen".into(),
            api: "openai".into(),
            request: KeptRequest::default(),
            started_utc: "2026-03-01T22:15:04.123Z".into(),
            ended_utc: "2026-03-01T22:15:06.123Z".into(),
            reply: answer.map(|text| Reply { text: text.into(), duration_s: 2.0, ..Reply::default() }),
            error: None,
            verdict,
            attempt: 1,
            error_id: None,
            evaluation: false,
            wire: None,
            imported: None,
            other: Default::default(),
        };
        KeptCall { name: name.into(), usable, record }
    }

    #[test]
    fn calls_are_told_apart() {
        let mut again = kept("swot/2.json", true, AnswerState::Accepted, Some("good"));
        let told =
            "Your last answer was not accepted:\n- `/title`: is missing\n- `/x`: is empty\nAnswer again.\n";
        let rejected = Rejected { answer: "bad".into(), feedback: told.into() };
        again.record.request.rejected.push(rejected);
        let calls = [
            kept("swot/1.rejected-1.json", false, AnswerState::Rejected, Some("bad")),
            again,
            kept("swot/3.failed-1.json", false, AnswerState::Arrived, None),
            kept("swot/4.spent-1.json", false, AnswerState::Accepted, Some("old")),
            kept("swot/5.json", true, AnswerState::Arrived, Some("other")),
        ];
        let views = call_views(&calls, Some("swot/2.json"));
        let verdicts: Vec<&str> = views.iter().map(|view| view.verdict.as_str()).collect();
        assert_eq!(verdicts, ["rejected", "in_use", "failed", "set_aside", "kept"]);
        assert_eq!(views[0].why.as_deref(), Some(told));
        let view = ShowView {
            by: None,
            by_user: None,
            schema: 1,
            server: Server::here(None),
            task: "swot".into(),
            recipe: "prompt".into(),
            state: State::Done,
            calls: views[..2].to_vec(),
            shown: Some(2),
            system: None,
            prompt: Some("Say \x1b[31mit".into()),
            parts: vec![PromptPart { input: "p\x1b[31mlan".into(), first_line: 1, last_line: 1 }],
            answer: Some("good\n".into()),
            log: None,
            outputs: Vec::new(),
            isolation: None,
        };
        assert_eq!(
            view.text(&Style::PLAIN),
            "\
swot  ✓ done  prompt

call  UTC                  model  in  out  time  verdict
1     2026-03-01 22:15:04  qwen   0   0    2.0s  rejected: `/title`: is missing; `/x`: is empty
2     2026-03-01 22:15:04  qwen   0   0    2.0s  in use

--- prompt of call 2
line 1 from plan
Say it

--- answer of call 2
good
"
        );
    }
}
