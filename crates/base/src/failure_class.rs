//! The kinds of failures, by the names that they have in files, JSON and messages.
//!
//! What became of a call is a [`Class`]. It is closed, so that the rules of retrying name each of them. What became of
//! an attempt of a task is a [`FailureClass`]: one of these, or one of its own.

use std::fmt;

use schemars::JsonSchema;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

/// The kind of a failure, which decides what happens next. Closed: every status, body code and
/// transport error maps to one of these in `planexe_llm::classify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The server is loading the model or not up yet (local); hold, no attempt used.
    ServerLoading,
    /// 429 or a full queue that passes by itself; hold for `retry_after`, no attempt used.
    RateLimit,
    /// 5xx, overloaded.
    ServerError,
    /// DNS, connect, reset, broken pipe before any content.
    Connection,
    /// Content came, then the stream ended without its terminal marker.
    Cut,
    /// A clock ran out: connect, first token, idle or total (named in the message).
    Timeout,
    /// Whole, but no content.
    EmptyResponse,
    /// Ended by `length`: the answer is not whole.
    Truncated,
    /// Whitespace or repetition loop, or reasoning without an answer; stopped early.
    Degenerate,
    /// The prompt does not fit the model's context, known before or said by the server.
    ContextOverflow,
    /// The server read fewer prompt tokens than were sent.
    PromptTruncated,
    /// The answer is not valid JSON, or fails schema or checks.
    Validation,
    /// The model refused, or a content filter did.
    Refusal,
    /// 401 or 403: key missing, wrong or not allowed.
    Auth,
    /// Money or quota is used up.
    Quota,
    /// No such model at that server.
    ModelNotFound,
    /// 400, 405, 413, 422: the request itself is not accepted.
    BadRequest,
    /// TLS, bad URL, redirect: the set-up is wrong.
    Config,
    /// The answer is larger than the cap, or not valid UTF-8.
    BadData,
    /// `recorded` has no answer for the prompt.
    NotRecorded,
    /// Stopped by us: Ctrl-C, abort, the build's end.
    Cancelled,
}

impl Class {
    /// The name used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Class::ServerLoading => "server_loading",
            Class::RateLimit => "rate_limit",
            Class::ServerError => "server_error",
            Class::Connection => "connection",
            Class::Cut => "cut",
            Class::Timeout => "timeout",
            Class::EmptyResponse => "empty_response",
            Class::Truncated => "truncated",
            Class::Degenerate => "degenerate",
            Class::ContextOverflow => "context_overflow",
            Class::PromptTruncated => "prompt_truncated",
            Class::Validation => "validation",
            Class::Refusal => "refusal",
            Class::Auth => "auth",
            Class::Quota => "quota",
            Class::ModelNotFound => "model_not_found",
            Class::BadRequest => "bad_request",
            Class::Config => "config",
            Class::BadData => "bad_data",
            Class::NotRecorded => "not_recorded",
            Class::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a task failed, in a word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A program ended with an exit code other than 0.
    Exit,
    /// A signal ended a program.
    Signal,
    /// A program could not be started.
    Spawn,
    /// No progress for as long as `stall_timeout` allows.
    Stall,
    /// A command line cannot be made from its inputs, or from an item.
    Command,
    /// An output is missing, or cannot be used.
    Output,
    /// An input changed while the task worked on it.
    InputChanged,
    /// An input cannot be read, or is missing.
    Input,
    /// The items of a fan-out cannot be read, or are in conflict.
    Items,
    /// An item would write a file that is another's.
    OutputTaken,
    /// A template or a condition cannot be rendered.
    Template,
    /// A gate says stop.
    Gate,
    /// The evaluation found it wanting.
    Eval,
    /// `--frozen` refuses an answer that was recorded for another prompt.
    Sample,
    /// Its records are of a newer version, or cannot be understood.
    State,
    /// What it made could not be written.
    Io,
    /// git failed, or the repository is not as it must be.
    Git,
    /// It changed submodules, which are not merged.
    Submodule,
    /// The worktree or the branch of an isolated task is gone.
    SessionVanished,
    /// Of a lane, some tasks succeeded and others failed.
    LaneMixed,
    /// git cannot merge by itself what an isolated task made.
    MergeConflict,
    /// A merge would touch what the user has not committed.
    MergeDirty,
    /// Its job is gone, and left no result: with its machine, or ended from outside.
    Lost,
    /// A server of `[services]` that it needs cannot be had.
    Service,
    /// It failed before; the record does not say how.
    Failed,
    /// A bug of planexe.
    Internal,
    /// A call failed; or a program, a check or an evaluator, in a way that calls fail too.
    #[serde(untagged)]
    Call(Class),
    /// Of a version that names more of them, or of a damaged record. Kept as it is.
    #[serde(untagged)]
    Other(String),
}

impl FailureClass {
    /// The name used in files and messages.
    pub fn name(&self) -> &str {
        match self {
            FailureClass::Exit => "exit",
            FailureClass::Signal => "signal",
            FailureClass::Spawn => "spawn",
            FailureClass::Stall => "stall",
            FailureClass::Command => "command",
            FailureClass::Output => "output",
            FailureClass::InputChanged => "input_changed",
            FailureClass::Input => "input",
            FailureClass::Items => "items",
            FailureClass::OutputTaken => "output_taken",
            FailureClass::Template => "template",
            FailureClass::Gate => "gate",
            FailureClass::Eval => "eval",
            FailureClass::Sample => "sample",
            FailureClass::State => "state",
            FailureClass::Io => "io",
            FailureClass::Git => "git",
            FailureClass::Submodule => "submodule",
            FailureClass::SessionVanished => "session_vanished",
            FailureClass::LaneMixed => "lane_mixed",
            FailureClass::MergeConflict => "merge_conflict",
            FailureClass::MergeDirty => "merge_dirty",
            FailureClass::Lost => "lost",
            FailureClass::Service => "service",
            FailureClass::Failed => "failed",
            FailureClass::Internal => "internal",
            FailureClass::Call(class) => class.name(),
            FailureClass::Other(name) => name,
        }
    }

    /// The class of a name.
    pub fn from_name(name: &str) -> FailureClass {
        let text: StrDeserializer<'_, Error> = name.into_deserializer();
        FailureClass::deserialize(text).unwrap_or_else(|_| FailureClass::Other(name.to_owned()))
    }

    /// Whether there is one: a record that names none has an empty one.
    pub fn is_known(&self) -> bool {
        !self.name().is_empty()
    }
}

impl Default for FailureClass {
    /// None: of a record that names none.
    fn default() -> FailureClass {
        FailureClass::Other(String::new())
    }
}

impl From<Class> for FailureClass {
    fn from(class: Class) -> FailureClass {
        FailureClass::Call(class)
    }
}

impl PartialEq<Class> for FailureClass {
    fn eq(&self, other: &Class) -> bool {
        matches!(self, FailureClass::Call(class) if class == other)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_one_name_in_files_and_messages() {
        let own = [
            (FailureClass::Exit, "exit"),
            (FailureClass::Signal, "signal"),
            (FailureClass::Spawn, "spawn"),
            (FailureClass::Stall, "stall"),
            (FailureClass::Command, "command"),
            (FailureClass::Output, "output"),
            (FailureClass::InputChanged, "input_changed"),
            (FailureClass::Input, "input"),
            (FailureClass::Items, "items"),
            (FailureClass::OutputTaken, "output_taken"),
            (FailureClass::Template, "template"),
            (FailureClass::Gate, "gate"),
            (FailureClass::Eval, "eval"),
            (FailureClass::Sample, "sample"),
            (FailureClass::State, "state"),
            (FailureClass::Io, "io"),
            (FailureClass::Git, "git"),
            (FailureClass::Submodule, "submodule"),
            (FailureClass::SessionVanished, "session_vanished"),
            (FailureClass::LaneMixed, "lane_mixed"),
            (FailureClass::MergeConflict, "merge_conflict"),
            (FailureClass::MergeDirty, "merge_dirty"),
            (FailureClass::Lost, "lost"),
            (FailureClass::Service, "service"),
            (FailureClass::Failed, "failed"),
            (FailureClass::Internal, "internal"),
            (FailureClass::Call(Class::ServerLoading), "server_loading"),
            (FailureClass::Call(Class::Timeout), "timeout"),
            (FailureClass::Call(Class::Validation), "validation"),
            (FailureClass::Call(Class::Cancelled), "cancelled"),
            (FailureClass::Other("of_a_newer_version".to_owned()), "of_a_newer_version"),
            (FailureClass::default(), ""),
        ];
        for (class, name) in own {
            let json = serde_json::to_string(&class).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<FailureClass>(&json).unwrap(), class, "{name}");
            assert_eq!(FailureClass::from_name(name), class, "{name}");
            assert_eq!((class.name(), class.to_string().as_str()), (name, name));
        }
    }

    #[test]
    fn a_class_is_a_key_of_json_too() {
        let counts = std::collections::HashMap::from([(FailureClass::from(Class::Cut), 1)]);
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(json, r#"{"cut":1}"#);
        assert_eq!(
            serde_json::from_str::<std::collections::HashMap<FailureClass, u32>>(&json).unwrap(),
            counts
        );
    }
}
