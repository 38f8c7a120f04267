//! What is missing in a plan before it can be planned: what a model found, whether that is enough, and answers that are
//! added to the plan. The person's own words stay as they are, and no model writes the plan.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::style::clean;
use planexe_pipeline::figures::quotes;
use planexe_pipeline::open::Opened;

use crate::ops::plan_input::editable_plan;

/// The task whose answer tells what is missing.
pub const TASK: &str = "screen_planning_prompt";
/// That answer.
const FILE: &str = "screen_planning_prompt.json";
/// Under this heading answers stand in the plan.
const HEADING: &str = "Further answers:";
/// Longest answer, in bytes.
pub const LONGEST: usize = 4_000;
/// Aspects beside the objective that may be missing in a plan that can be planned.
const MAY_LACK: usize = 2;

/// What a plan tells, and what it does not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// What the text asks for.
    pub request: String,
    /// `usable`, `thin` or `unusable`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What a planner needs, one by one.
    pub aspects: Vec<Aspect>,
    /// What to ask, the most important first.
    pub questions: Vec<Question>,
}

/// Something a planner needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aspect {
    /// `objective`, `budget` and so on.
    pub id: String,
    /// `present`, `partial` or `missing`.
    pub state: String,
    /// The words of the plan that say it.
    pub quote: String,
}

/// A question to the person who wrote the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// The aspect it is about.
    pub aspect: String,
    /// The question.
    pub question: String,
    /// What depends on it.
    pub why: String,
    /// Answers that may be chosen.
    pub suggestions: Vec<String>,
}

/// An answer of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The aspect it is about.
    pub aspect: String,
    /// What was asked, if something was.
    pub question: String,
    /// What was answered.
    pub text: String,
}

impl Found {
    /// Leaves of what is said to be there what the plan has the words of.
    fn believe(&mut self, plan: &str) {
        for aspect in self.aspects.iter_mut().filter(|aspect| !quotes(plan, &aspect.quote)) {
            aspect.state = "missing".to_owned();
            aspect.quote.clear();
        }
    }

    /// Whether this is enough to begin: the objective is there, the text is a plan, and of all else at most two are
    /// missing. It is reckoned here; a model's word for it does not count.
    pub fn is_ready(&self) -> bool {
        let missing = |aspect: &&Aspect| aspect.state == "missing";
        let has_objective = self.aspects.iter().any(|it| it.id == "objective" && it.state != "missing");
        has_objective && self.verdict != "unusable" && self.aspects.iter().filter(missing).count() <= MAY_LACK
    }
}

/// That the pipeline looks for what is missing, and that its plan can be added to; the plan's path in the run.
pub fn plan_of(opened: &Opened) -> Result<String, Error> {
    let names = opened.project.specs.iter().any(|spec| spec.name == TASK);
    if !names {
        return Err(Error::new(Kind::Refused, format!("the pipeline has no task `{TASK}`"))
            .code("no_interview")
            .hint("the strategic plan has one: `planexe new my-plan --pipeline strategic-plan`"));
    }
    editable_plan(opened)
}

/// What was found in a plan; the task is done. What is said to be there and is not quoted from the plan is not believed:
/// it counts as missing.
pub fn read(run: &Path, plan: &str) -> Result<Found, Error> {
    let unread = |why: String| Error::new(Kind::Refused, format!("`{FILE}` {why}")).code("no_interview");
    let bytes = fs::read_capped(&run.join(FILE), 1 << 20)?;
    let mut found: Found = serde_json::from_slice(&bytes)
        .map_err(|error| unread(format!("does not say what is missing: {}", clean(&error.to_string()))))?;
    let text = fs::read_to_string(&run.join(plan))?;
    found.believe(&text);
    Ok(found)
}

/// Adds answers to the end of the plan.
pub fn add(opened: &Opened, answers: &[Answered]) -> Result<(), Error> {
    let plan = plan_of(opened)?;
    for answer in answers {
        if answer.text.trim().is_empty() || answer.text.len() > LONGEST {
            return Err(Error::usage(format!(
                "the answer about `{}` has {} bytes; wanted 1 to {LONGEST}",
                clean(&answer.aspect),
                answer.text.len()
            )));
        }
    }
    let path = opened.store.path(&plan);
    let text = fs::read_to_string(&path)?;
    Ok(fs::write_atomic(&path, compose(&text, answers).as_bytes(), Durability::Synced)?)
}

/// A plan with answers under a heading of their own, each after what was asked. One that is there already, word for word,
/// is not added again: a program may give its answers twice.
pub fn compose(plan: &str, answers: &[Answered]) -> String {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = plan.to_owned();
    for answer in answers {
        let about = one_line(&answer.aspect.replace('_', " "));
        let question = one_line(&answer.question);
        let asked = if question.is_empty() { about } else { format!("{about} ({question})") };
        let line = format!("- {asked}: {}", one_line(&answer.text));
        if text.lines().any(|there| there == line) {
            continue;
        }
        text.truncate(text.trim_end().len());
        if !text.lines().any(|line| line.trim() == HEADING) {
            text += &format!("\n\n{HEADING}");
        }
        text += &format!("\n{line}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verdict: &str, states: [&str; 4]) -> Found {
        let ids = ["objective", "location", "budget", "timeline"];
        let aspect =
            |(id, state): (&str, &str)| Aspect { id: id.into(), state: state.into(), quote: String::new() };
        Found {
            request: String::new(),
            verdict: verdict.into(),
            reason: String::new(),
            aspects: ids.into_iter().zip(states).map(aspect).collect(),
            questions: Vec::new(),
        }
    }

    #[test]
    fn a_plan_is_ready_by_what_it_tells() {
        let (yes, part, no) = ("present", "partial", "missing");
        for (verdict, states, wanted) in [
            ("usable", [yes; 4], true),
            ("thin", [part; 4], true),
            ("usable", [yes, no, no, yes], true),
            ("usable", [yes, no, no, no], false),
            ("usable", [no, yes, yes, yes], false),
            ("unusable", [yes; 4], false),
        ] {
            assert_eq!(found(verdict, states).is_ready(), wanted, "{verdict} {states:?}");
        }
    }

    #[test]
    fn what_the_plan_has_no_words_of_is_missing() {
        let mut found = found("usable", ["present", "partial", "present", "missing"]);
        for (aspect, quote) in found.aspects.iter_mut().zip(["a  small\nbakery", "in Ghent", "", ""]) {
            aspect.quote = quote.into();
        }
        found.believe("Open a small bakery.");
        let states: Vec<&str> = found.aspects.iter().map(|aspect| aspect.state.as_str()).collect();
        assert_eq!(states, ["present", "missing", "missing", "missing"]);
    }

    #[test]
    fn answers_follow_the_words_there_are() {
        let answer = |aspect: &str, question: &str, text: &str| Answered {
            aspect: aspect.into(),
            question: question.into(),
            text: text.into(),
        };
        let once = compose("A bakery.\n\n", &[answer("budget", "How much?", "EUR 40,000\nin all")]);
        assert_eq!(once, "A bakery.\n\nFurther answers:\n- budget (How much?): EUR 40,000 in all\n");
        let twice = compose(&once, &[answer("success_criteria", "", "Two jobs")]);
        assert_eq!(twice, format!("{once}- success criteria: Two jobs\n"));
        let again = format!("{twice}\n");
        assert_eq!(compose(&again, &[answer("success_criteria", "", "Two  jobs")]), again);
    }
}
