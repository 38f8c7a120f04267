//! Whether a task is up to date: what was recorded, what is seen, what it would be made from now -> a
//! [`Decision`]. Pure; the table of the rules is in `docs/design.md`.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::fingerprint::{EVAL, Fingerprint, ORDER, PATHS, digest_of};
use planexe_base::failure_class::FailureClass;
use planexe_base::record::Why;
use planexe_base::record::{Digest, Done, MadeWith, Marker, State};

/// All that is known of a task when it is judged.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The task's `.DONE`, as it was read.
    pub marker: &'a Marker,
    /// The state in its `.status`, if that can be read, and the class of its failure.
    pub status: Option<(State, Option<FailureClass>)>,
    /// Its outputs as they are, in the order declared.
    pub outputs: &'a [Seen],
    /// What it would be made from now; unknown while something it needs is not up to date.
    pub fingerprint: Option<&'a Fingerprint>,
    /// The models it may ask now.
    pub models: &'a [MadeWith],
    /// The options of the build that make more stale.
    pub rules: Rules,
    /// With [`Rules::by_mtime`]: an input that is newer than an output.
    pub newer: Option<(String, String)>,
}

/// The options of a build that change what is stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Under `-B` every task is stale.
    pub force: bool,
    /// Another model or other parameters make stale.
    pub model: bool,
    /// That was said for one build (`--rebuild-on model`).
    pub model_asked: bool,
    /// Modification times decide, as in make, not content.
    pub by_mtime: bool,
    /// A task that failed is left so.
    pub keep_failed: bool,
}

impl Rules {
    /// Whether a reason is somebody's wish: no file tells it to the next build.
    pub fn is_asked(&self, reason: &StaleReason) -> bool {
        match reason {
            StaleReason::Forced => true,
            StaleReason::ModelChanged { .. } => self.model_asked,
            _ => false,
        }
    }
}

/// An output as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Relative to the run directory.
    pub path: String,
    /// What was found under its name.
    pub content: Content,
}

/// What is at an output's path.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// There is no file of this name.
    Missing,
    /// A file of no bytes.
    Empty,
    /// There is a regular file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Under schema and checks, where the task has any and the content is not the recorded one.
        invalid: Option<String>,
    },
    /// Something that is no readable file.
    Unreadable(String),
}

/// Why a task is stale. Text, JSON and the diff of `explain` are readings of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum StaleReason {
    /// There is no record of it.
    NeverBuilt,
    /// It was built, and its outputs and records were taken away.
    TakenAway {
        /// What took them away.
        why: Why,
    },
    /// The build was told to run everything (`-B`).
    Forced,
    /// The marker was removed since it was done.
    MarkerRemoved,
    /// The last attempt did not come to its end.
    Interrupted {
        /// The state it was left in.
        state: State,
    },
    /// The last attempt failed.
    FailedBefore {
        /// Class of the failure.
        class: Option<FailureClass>,
    },
    /// The marker cannot be read.
    MarkerDamaged {
        /// What is wrong with it.
        why: String,
    },
    /// The marker is of a newer version of planexe.
    MarkerNewer {
        /// The format's number in it, which is newer than ours.
        schema: u32,
    },
    /// An output is not there.
    OutputMissing {
        /// The path of the file, from the run directory.
        path: String,
    },
    /// An output has no bytes.
    OutputEmpty {
        /// The path of the file, from the run directory.
        path: String,
    },
    /// An output was changed and does not pass schema and checks.
    OutputInvalid {
        /// The path of the file, from the run directory.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// An output is declared that the record does not have.
    OutputNew {
        /// The path of the file, from the run directory.
        path: String,
    },
    /// Something it is made from is not what it was.
    Changed {
        /// Name of the part: `prompt`, `input.plan`, `schema`, …
        part: String,
        /// Digest recorded; none if the part is new.
        old: Option<Digest>,
        /// Digest now; none if the part is gone.
        new: Option<Digest>,
        /// The input files that changed with it, where that is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<String>,
    },
    /// Another model or other parameters, and that was said to count.
    ModelChanged {
        /// The model and parameters that made it.
        old: MadeWith,
        /// The model and parameters that would make it now.
        new: Option<MadeWith>,
    },
    /// An input is newer than an output, where make's rule applies (`by = "mtime"`).
    Newer {
        /// The input that is newer.
        input: String,
        /// The output that is older than it.
        output: String,
    },
}

impl StaleReason {
    /// Whether it is a change of the task itself: not of what it reads, of its item, or of the tasks before it.
    pub fn is_own(&self) -> bool {
        match self {
            StaleReason::Changed { part, .. } => {
                let of_others = [ORDER, PATHS, "item", "index", "samples", "kept_tasks", "fingerprint"];
                !part.starts_with("input.") && !of_others.contains(&part.as_str())
            }
            StaleReason::ModelChanged { .. } => true,
            _ => false,
        }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        match self {
            StaleReason::NeverBuilt => "never built".into(),
            StaleReason::TakenAway { why: Why::Orphaned } => "its item was gone, and is there again".into(),
            StaleReason::TakenAway { why: Why::Restored } => {
                "it was not done at the checkpoint that was restored".into()
            }
            StaleReason::TakenAway { .. } => "it was cleaned".into(),
            StaleReason::Forced => "asked for (-B, retry)".into(),
            StaleReason::MarkerRemoved => "its .DONE was removed".into(),
            StaleReason::Interrupted { state: State::PendingEval | State::FailedPendingEval } => {
                "it waits for its evaluation".into()
            }
            StaleReason::Interrupted { state: State::Merging } => "it succeeded, and is to be merged".into(),
            StaleReason::Interrupted { state } => format!("the last attempt was left {state}"),
            StaleReason::FailedBefore { class: Some(class) } => format!("the last attempt failed ({class})"),
            StaleReason::FailedBefore { class: None } => "the last attempt failed".into(),
            StaleReason::MarkerDamaged { why } => format!("its .DONE is damaged: {why}"),
            StaleReason::MarkerNewer { schema } => {
                format!("its .DONE is of a newer version of planexe (schema {schema})")
            }
            StaleReason::OutputMissing { path } => format!("output `{path}` is missing"),
            StaleReason::OutputEmpty { path } => format!("output `{path}` is empty"),
            StaleReason::OutputInvalid { path, why } => {
                format!("output `{path}` was changed and is not valid: {why}")
            }
            StaleReason::OutputNew { path } => format!("output `{path}` is new"),
            StaleReason::Changed { part, old, new, files } => {
                let what = part_text(part);
                let through = match files.len() {
                    0 => String::new(),
                    1..=3 => format!(" (through `{}`)", files.join("`, `")),
                    n => format!(" (through `{}` and {} more)", files[..2].join("`, `"), n - 2),
                };
                match (old, new) {
                    (None, Some(_)) => format!("{what} is new"),
                    (Some(_), None) => format!("{what} is gone"),
                    _ => format!("{what} changed{through}"),
                }
            }
            StaleReason::ModelChanged { old, new } => match new {
                Some(new) if new.model != old.model => {
                    format!("the model changed from `{}` to `{}`", old.model, new.model)
                }
                _ => "the model's parameters changed".into(),
            },
            StaleReason::Newer { input, output } => format!("`{input}` is newer than `{output}`"),
        }
    }
}

/// A part of a fingerprint in words.
fn part_text(part: &str) -> String {
    match part.split_once('.') {
        Some(("input", name)) => format!("input `{name}`"),
        Some(("var", name)) => format!("variable `{name}`"),
        Some(("env", name)) => format!("environment variable `{name}`"),
        Some(("output", name)) => format!("the template of output {name}"),
        _ => match part {
            "prompt" => "the prompt".into(),
            "system" => "the system prompt".into(),
            "schema" => "the schema".into(),
            "check" => "the check".into(),
            EVAL => "the evaluation".into(),
            "command" => "the command".into(),
            "outputs" => "the list of outputs".into(),
            "fingerprint" => "what it is made from".into(),
            "template" => "the template".into(),
            "human" => "what the person is asked".into(),
            "item" => "the item".into(),
            "samples" => "which tasks before it have sample answers".into(),
            "kept_tasks" => "which tasks before it were kept on other inputs".into(),
            ORDER => "the order of the inputs".into(),
            PATHS => "the paths of the inputs".into(),
            "message" => "the message".into(),
            "index" => "the place of the item".into(),
            other => format!("`{other}`"),
        },
    }
}

/// What is to be done about a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is up to date.
    Fresh {
        /// Outputs that were edited by hand and are valid: kept, and given to readers as they are.
        edited: Vec<String>,
        /// What made it, if that is none of the models it may ask now.
        drift: Option<MadeWith>,
    },
    /// An empty marker over whole outputs: to be filled in.
    Adopt,
    /// Left as it failed.
    KeptFailed,
    /// It has to run.
    Stale {
        /// Why, at least one.
        reasons: Vec<StaleReason>,
        /// Whether a kept answer may not be used.
        redraw: bool,
        /// Whether the answer there is may do: only schema, check or evaluation changed.
        try_existing: bool,
        /// Outputs that were edited by hand and will be replaced.
        edited: Vec<String>,
    },
    /// Known once what it needs has run.
    DependsOn,
}

/// Decides from the facts whether a task is up to date, and if not, why. No I/O.
pub fn judge(facts: &Facts<'_>) -> Decision {
    let stale =
        |reasons, redraw| Decision::Stale { reasons, redraw, try_existing: false, edited: Vec::new() };
    if facts.rules.keep_failed
        && let Some((State::Failed, class)) = &facts.status
        // What could not be written is no failure of the task's own.
        && *class != Some(FailureClass::Io)
        && !matches!(facts.marker, Marker::Valid(_))
    {
        return Decision::KeptFailed;
    }
    if facts.rules.force {
        let edited = match facts.marker {
            Marker::Valid(done) => edited(done, facts.outputs),
            _ => Vec::new(),
        };
        let reasons = vec![StaleReason::Forced];
        return Decision::Stale { reasons, redraw: true, try_existing: false, edited };
    }
    match facts.marker {
        Marker::Missing => match &facts.status {
            None => stale(vec![StaleReason::NeverBuilt], false),
            Some((State::Done, _)) => stale(vec![StaleReason::MarkerRemoved], true),
            Some((State::Failed, class)) => {
                stale(vec![StaleReason::FailedBefore { class: class.clone() }], false)
            }
            Some((state, _)) => stale(vec![StaleReason::Interrupted { state: *state }], false),
        },
        Marker::Empty => {
            let reasons = broken(facts.outputs, None);
            if reasons.is_empty() { Decision::Adopt } else { stale(reasons, false) }
        }
        Marker::Damaged(why) => stale(vec![StaleReason::MarkerDamaged { why: why.clone() }], false),
        Marker::Newer(schema) => stale(vec![StaleReason::MarkerNewer { schema: *schema }], false),
        // One of them was changed without the other.
        Marker::Valid(done) if !done.parts.is_empty() && done.fingerprint != digest_of(&done.parts) => {
            let why = "its fingerprint is not that of its parts".to_owned();
            stale(vec![StaleReason::MarkerDamaged { why }], false)
        }
        Marker::Valid(done) => judge_recorded(facts, done),
    }
}

/// Judges a task whose record can be read.
fn judge_recorded(facts: &Facts<'_>, done: &Done) -> Decision {
    let mut reasons = broken(facts.outputs, Some(done));
    let edited = edited(done, facts.outputs);
    let broken_outputs = !reasons.is_empty();
    let Some(fingerprint) = facts.fingerprint else {
        return if broken_outputs {
            Decision::Stale { reasons, redraw: false, try_existing: false, edited }
        } else {
            Decision::DependsOn
        };
    };
    reasons.extend(changes(done, fingerprint, facts.rules.by_mtime));
    if let Some((input, output)) = &facts.newer {
        reasons.push(StaleReason::Newer { input: input.clone(), output: output.clone() });
    }
    let drift = match &done.made_with {
        Some(made) if !facts.models.is_empty() && !facts.models.contains(made) => Some(made.clone()),
        _ => None,
    };
    if facts.rules.model
        && let Some(old) = &drift
    {
        reasons.push(StaleReason::ModelChanged { old: old.clone(), new: facts.models.first().cloned() });
    }
    if reasons.is_empty() {
        return Decision::Fresh { edited, drift };
    }
    let form_only = |reason: &StaleReason| matches!(reason, StaleReason::Changed { part, .. } if part == "schema" || part == "check" || part == EVAL);
    let try_existing = reasons.iter().all(form_only);
    // Also of another model: what is kept of the one that is listed now was asked of it, and is found by its name.
    Decision::Stale { reasons, redraw: false, try_existing, edited }
}

/// What is wrong with the outputs themselves.
fn broken(outputs: &[Seen], done: Option<&Done>) -> Vec<StaleReason> {
    let recorded = |path: &str| done.and_then(|done| done.outputs.iter().find(|output| output.path == path));
    outputs
        .iter()
        .filter_map(|seen| {
            let path = seen.path.clone();
            match &seen.content {
                Content::Missing => Some(StaleReason::OutputMissing { path }),
                // A command may well have written nothing.
                Content::Empty if recorded(&path).is_some_and(|output| output.bytes == 0) => None,
                Content::Empty => Some(StaleReason::OutputEmpty { path }),
                Content::Unreadable(why) => Some(StaleReason::OutputInvalid { path, why: why.clone() }),
                Content::File { invalid: Some(why), .. } => {
                    Some(StaleReason::OutputInvalid { path, why: why.clone() })
                }
                Content::File { invalid: None, .. } if done.is_some() && recorded(&path).is_none() => {
                    Some(StaleReason::OutputNew { path })
                }
                Content::File { .. } => None,
            }
        })
        .collect()
}

/// Outputs whose content is not the recorded one, yet whole and valid.
fn edited(done: &Done, outputs: &[Seen]) -> Vec<String> {
    outputs
        .iter()
        .filter(|seen| match &seen.content {
            Content::File { digest, invalid: None } => {
                done.outputs.iter().any(|output| output.path == seen.path && output.blake3 != *digest)
            }
            _ => false,
        })
        .map(|seen| seen.path.clone())
        .collect()
}

/// The parts that are not what they were. Under make's rule what files hold is left to their times.
fn changes(done: &Done, now: &Fingerprint, by_mtime: bool) -> Vec<StaleReason> {
    if done.fingerprint == now.digest() {
        return Vec::new();
    }
    if done.parts.is_empty() && !by_mtime {
        // All that is known is that something changed.
        return vec![StaleReason::Changed {
            part: "fingerprint".into(),
            old: Some(done.fingerprint.clone()),
            new: Some(now.digest()),
            files: Vec::new(),
        }];
    }
    // The order and the paths of the same inputs: of others they say nothing that those do not. Older records lack them.
    let inputs = |parts: &IndexMap<String, Digest>| -> BTreeSet<String> {
        parts.keys().filter(|part| part.starts_with("input.")).cloned().collect()
    };
    let same_inputs = inputs(&done.parts) == inputs(now.parts());
    let counts = |part: &str| {
        let of_files = part == "prompt"
            || part == "system"
            || part == "template"
            || part.starts_with("input.")
            || part.starts_with("output.");
        let of_inputs = part == ORDER || part == PATHS;
        !(by_mtime && of_files) && (!of_inputs || same_inputs && done.parts.contains_key(part))
    };
    let mut reasons = Vec::new();
    for (part, new) in now.parts() {
        let old = done.parts.get(part);
        if old != Some(new) && counts(part) {
            let (old, new) = (old.cloned(), Some(new.clone()));
            reasons.push(StaleReason::Changed { part: part.clone(), old, new, files: Vec::new() });
        }
    }
    for (part, old) in &done.parts {
        if !now.parts().contains_key(part) && counts(part) {
            let (old, files) = (Some(old.clone()), Vec::new());
            reasons.push(StaleReason::Changed { part: part.clone(), old, new: None, files });
        }
    }
    reasons
}
