//! What a tool answers that could not do what it was asked: a code that stays, a line for people, and what to do next.

use serde_json::{Value, json};

use planexe_base::exit::{Error, Kind};
use planexe_base::message::Hint;

/// Every code a tool may answer with, and what it means.
pub const CODES: [(&str, &str); 20] = [
    ("INVALID_ARGUMENT", "an argument is missing, unknown or of the wrong kind"),
    ("PLAN_NOT_FOUND", "there is no plan of that id in the folder of runs"),
    ("PLAN_RUNNING", "a build, or another planexe, works on the plan now"),
    ("PLAN_NOT_STARTED", "nothing of the plan was ever built"),
    ("PLAN_NOT_RESUMABLE", "the plan is complete, or was given up"),
    ("PLAN_NOT_FAILED", "nothing failed that could be tried again"),
    ("PIPELINE_NOT_FOUND", "the server was not given a pipeline of that name"),
    ("PROFILE_NOT_FOUND", "the pipeline has no profile of that name"),
    ("PIPELINE_FAULTS", "the pipeline, or a file it names, is wrong; a person has to mend it"),
    ("TASK_NOT_FOUND", "the plan has no task, item or output of that name"),
    ("FILE_NOT_FOUND", "the plan has no output, input or record of that name"),
    ("FILE_NOT_READY", "the file is an output that is not made yet"),
    ("FILE_NOT_TEXT", "the file is not text"),
    ("NOT_CONFIRMED", "this destroys something: it wants `confirm: true`"),
    ("NOT_ALLOWED", "it cannot be done with this plan, and would be wrong to force"),
    ("BUILD_NOT_ALLOWED", "the server was started with `--no-build`"),
    ("BUILD_REFUSED", "the build ended before it began: a key, a server or a setting is wrong"),
    ("TOO_MANY_BUILDS", "as many plans are built at once as the server was allowed (`--max-builds`)"),
    ("BUSY", "too many calls are waiting already"),
    ("INTERNAL_ERROR", "a file could not be read or written, or planexe itself failed"),
];

/// Why a tool could not do what it was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolError {
    /// One of [`CODES`].
    pub code: &'static str,
    /// What was found and what was wanted.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What else is known.
    pub details: Option<Value>,
}

impl ToolError {
    /// A fault with a code.
    pub fn new(code: &'static str, message: impl Into<String>) -> ToolError {
        debug_assert!(CODES.iter().any(|(known, _)| *known == code), "BUG: `{code}` is not in the list");
        ToolError { code, message: message.into(), hint: None, details: None }
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> ToolError {
        self.hint = Some(hint.into());
        self
    }

    /// With what else is known.
    pub fn details(mut self, details: Value) -> ToolError {
        self.details = Some(details);
        self
    }

    /// As data.
    pub fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(hint) = &self.hint {
            error["hint"] = json!(hint);
        }
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({ "error": error })
    }
}

/// The codes of commands, and those of tools, with what an agent does about each.
fn of_command(error: &Error) -> (&'static str, Option<&'static str>) {
    match error.code {
        "locked" => ("PLAN_RUNNING", Some("`plan_wait` waits until it ends, `plan_stop` has it end")),
        "never_started" => ("PLAN_NOT_STARTED", Some("`plan_resume` starts it")),
        "already_complete" => (
            "PLAN_NOT_RESUMABLE",
            Some("`plan_invalidate` has tasks made again; `plan_files` lists the results"),
        ),
        "aborted" => {
            ("PLAN_NOT_RESUMABLE", Some("`plan_resume` with `force: true` continues it all the same"))
        }
        "nothing_failed" => ("PLAN_NOT_FAILED", Some("`plan_invalidate` has a task made again that is done")),
        "unknown_task" | "unknown_item" => {
            ("TASK_NOT_FOUND", Some("`plan_status` with `full: true` lists the tasks"))
        }
        "unknown_file" => ("FILE_NOT_FOUND", Some("`plan_files` lists the files of the plan")),
        "file_not_ready" => (
            "FILE_NOT_READY",
            Some("`plan_status` says how far the plan is, `plan_explain` why a task waits"),
        ),
        "faults" | "no_tasks" => ("PIPELINE_FAULTS", None),
        "no_run" => ("PLAN_NOT_FOUND", Some("`plan_list` lists the plans")),
        "another_pipeline" => ("NOT_ALLOWED", None),
        "more_than_a_run" => ("NOT_ALLOWED", Some("`plan_archive` puts it aside")),
        "name_taken" => {
            ("NOT_ALLOWED", Some("there is one of that name; a person has to rename one of the two"))
        }
        _ => match error.kind {
            Kind::Usage => ("INVALID_ARGUMENT", None),
            Kind::Manifest => ("PIPELINE_FAULTS", None),
            Kind::Locked => ("PLAN_RUNNING", None),
            Kind::Setup => ("BUILD_REFUSED", None),
            Kind::Refused | Kind::Stopped => ("NOT_ALLOWED", None),
            Kind::Task | Kind::Internal => ("INTERNAL_ERROR", None),
        },
    }
}

impl From<Error> for ToolError {
    fn from(error: Error) -> ToolError {
        let (code, advice) = of_command(&error);
        // What a person would type is of use only where there is no tool for it.
        let text = |hint: &Hint| hint.text().to_owned();
        let own = error.hints.iter().find(|hint| !hint.is_typed()).map(text);
        let hint = own.or(advice.map(str::to_owned)).or_else(|| error.hints.first().map(text));
        let message = match &error.causes[..] {
            [] => error.message.clone(),
            causes => format!("{}: {}", error.message, causes.join(": ")),
        };
        ToolError { code, message: planexe_base::style::clean_lines(message.trim_end()), hint, details: None }
    }
}

impl From<std::io::Error> for ToolError {
    fn from(error: std::io::Error) -> ToolError {
        ToolError::from(Error::from(error))
    }
}

impl From<planexe_base::fs::FsError> for ToolError {
    fn from(error: planexe_base::fs::FsError) -> ToolError {
        ToolError::from(Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_command_becomes_one_of_a_tool() {
        let error = Error::usage("no task or output is called `swt`").code("unknown_task");
        let fault = ToolError::from(error.clone().hint("did you mean `swot`?"));
        assert_eq!((fault.code, fault.hint.as_deref()), ("TASK_NOT_FOUND", Some("did you mean `swot`?")));
        let fault = ToolError::from(error.hint("`planexe status` lists the tasks"));
        assert_eq!(fault.hint.as_deref(), Some("`plan_status` with `full: true` lists the tasks"));
        for kind in [
            Kind::Usage,
            Kind::Manifest,
            Kind::Setup,
            Kind::Task,
            Kind::Refused,
            Kind::Stopped,
            Kind::Locked,
            Kind::Internal,
        ] {
            let fault = ToolError::from(Error::new(kind, "x"));
            assert!(CODES.iter().any(|(code, _)| *code == fault.code), "{kind:?}");
        }
    }
}
