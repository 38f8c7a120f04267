//! New texts, written by a model from the scores and notes on the text there is. What it answers is data: it is tried
//! only if it is a template that the task's inputs fill in.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::ops::build::BuildOptions;
use crate::ops::optimize::bench::Bench;
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self, Durability};
use planexe_base::record::{Digest, State};
use planexe_pipeline::manifest::inputs;
use planexe_pipeline::manifest::types::Compare;
use planexe_pipeline::task_inputs::{KEPT_TASKS, SAMPLES, json_of};
use planexe_pipeline::template::{self as render, Source};
use planexe_prompt_lab::Variant;
use planexe_prompt_lab::cells::is_own;
use planexe_prompt_lab::decide::{Decision, mean};
use planexe_prompt_lab::reaches;
use planexe_prompt_lab::records::Round;
use planexe_store::sidecar::StatusRead;

/// What a model is asked, unless the pipeline says something else.
const ASK: &str = include_str!("propose.md");
/// A text that is larger is none.
const LARGEST: usize = 256 << 10;
/// Of so many texts tried before, the last ones, a model is told.
const TRIED: usize = 8;
/// Most characters of a note.
const NOTE: usize = 1200;

/// What came of asking for new texts.
pub struct Proposed {
    /// The exit code of the build that asked.
    pub code: u8,
    /// The texts that can be tried.
    pub variants: Vec<Variant>,
}

/// What a model is told.
#[derive(Debug, Serialize)]
struct Brief<'a> {
    task: &'a str,
    description: Option<&'a str>,
    /// The round, so that one in which nothing came of it is not followed by the same again.
    round: usize,
    /// Of several that are asked at once: which.
    number: u32,
    /// The names that the text may use.
    inputs: &'a BTreeSet<String>,
    prompt: &'a str,
    /// Those that the prompt of the beginning uses: a text without one of them is promoted only if that is allowed.
    keep: Vec<String>,
    /// `scores`, or `pairwise` where a judge compares answers: there are no scores then, and the notes are what it said.
    /// Always there: a template that asks for a name that is not set fails.
    compare: Compare,
    mean: Option<f64>,
    results: Vec<Scored>,
    tried: Vec<Tried<'a>>,
}

#[derive(Debug, Serialize)]
struct Scored {
    run: String,
    score: Option<f64>,
    notes: String,
}

#[derive(Debug, Serialize)]
struct Tried<'a> {
    prompt: &'a str,
    mean: Option<f64>,
    decision: &'static str,
    why: &'a str,
}

/// Has so many texts written. What was answered before to the same brief is used again.
pub fn round(
    bench: &mut Bench<'_>,
    count: u32,
    champion: &Variant,
    variants: &[Variant],
    rounds: &[Round],
    how: &BuildOptions,
) -> Result<Proposed, Error> {
    // A first round has no scores yet: the champion's come first.
    let code = bench.build(&[champion], how)?;
    if code != exit::DONE {
        return Ok(Proposed { code, variants: Vec::new() });
    }
    let mut names = names(bench);
    names.extend(["notes", "former"].map(str::to_owned));
    let mut asked = Vec::new();
    for number in 1..=count {
        let brief = serde_json::to_string_pretty(&brief(bench, number, &names, champion, variants, rounds));
        let brief = brief.unwrap_or_default() + "\n";
        let id = Digest::of(brief.as_bytes()).short().to_owned();
        let path = format!("proposals/{id}/brief.json");
        let target = bench.experiments.join(&path);
        if fs::read_optional(&target)?.as_deref() != Some(brief.as_bytes()) {
            fs::make_dirs_inside(&bench.experiments, &target, Durability::Synced)?;
            fs::write_atomic(&target, brief.as_bytes(), Durability::Synced)?;
        }
        asked.push((format!("propose.{id}"), path, format!("proposals/{id}/prompt.txt")));
    }
    for (_, _, output) in &asked {
        if let StatusRead::Valid(status) = bench.store.read_status(output)
            && status.state == State::Failed
            && !status.result.failure.as_ref().is_some_and(is_own)
        {
            bench.store.remove_status(output)?;
        }
    }
    let project = bench.proposer(&asked, ASK)?;
    let code = bench.carry_out(Arc::new(project), how)?;
    let mut proposed = Proposed { code: exit::DONE, variants: Vec::new() };
    for (_, _, output) in &asked {
        match bench.store.read_status(output) {
            StatusRead::Valid(status) if status.state == State::Done => {}
            StatusRead::Valid(status) if status.result.failure.as_ref().is_some_and(is_own) => {
                continue;
            }
            _ => {
                proposed.code = if code == exit::DONE { exit::FAILED } else { code };
                continue;
            }
        }
        let answer = fs::read_to_string(&bench.store.path(output))?;
        let text = unfenced(&answer);
        let digest = Digest::of(text.as_bytes());
        let known = variants.iter().chain(&proposed.variants).any(|other| other.blake3 == digest);
        match wrong(&text, &names) {
            _ if known => bench.say("a text that was proposed was tried already"),
            Some(why) => bench.say(&format!("a text that was proposed is passed over: {why}")),
            None => {
                let name = format!("p{}", variants.len() + proposed.variants.len());
                let variant = Variant { name, blake3: digest, from: format!("proposed: {output}"), text };
                bench.keep_text(&variant)?;
                proposed.variants.push(variant);
            }
        }
    }
    Ok(proposed)
}

/// The names of what the task is made from.
pub(super) fn names(bench: &Bench<'_>) -> BTreeSet<String> {
    let table = bench.subject.table();
    let mut names: BTreeSet<String> =
        inputs::names(&table.inputs).into_iter().map(|(name, _)| name).collect();
    names.extend(["inputs", "vars", "task", SAMPLES, KEPT_TASKS].map(str::to_owned));
    if table.foreach.is_some() {
        names.extend(["item", "key", "index"].map(str::to_owned));
    }
    if table.sequential {
        names.insert("previous".to_owned());
    }
    names
}

fn brief<'b>(
    bench: &'b Bench<'_>,
    number: u32,
    names: &'b BTreeSet<String>,
    champion: &'b Variant,
    variants: &'b [Variant],
    rounds: &'b [Round],
) -> Brief<'b> {
    let judged: Vec<_> = rounds.iter().flat_map(|round| &round.challengers).collect();
    let tried = judged.iter().rev().filter(|one| one.decision != Decision::Kept).take(TRIED);
    let tried = tried.filter_map(|one| {
        let variant = variants.iter().find(|variant| variant.blake3 == one.blake3)?;
        let mean = mean(&bench.trials_of(variant));
        Some(Tried { prompt: &variant.text, mean, decision: one.decision.word(), why: &one.why })
    });
    let compare = if bench.judge.is_some() { Compare::Pairwise } else { Compare::Scores };
    let notes = match compare {
        Compare::Scores => bench.notes_of(champion),
        Compare::Pairwise => {
            bench.said_of(champion).into_iter().map(|(run, notes)| (run, None, notes)).collect()
        }
    };
    let results = notes.into_iter().map(|(run, score, notes)| Scored {
        run,
        score,
        notes: notes.chars().take(NOTE).collect(),
    });
    let first = variants.first().unwrap_or(champion);
    let keep = reaches::used_inputs(&bench.subject, &first.text);
    Brief {
        task: &bench.subject.spec().name,
        description: bench.subject.spec().description.as_deref(),
        round: rounds.len() + 1,
        number,
        inputs: names,
        prompt: &champion.text,
        keep,
        compare,
        mean: mean(&bench.trials_of(champion)),
        results: results.collect(),
        tried: tried.collect(),
    }
}

/// What keeps a text from being a prompt of the task.
fn wrong(text: &str, names: &BTreeSet<String>) -> Option<String> {
    if text.trim().is_empty() {
        return Some("it is empty".to_owned());
    }
    if text.len() > LARGEST {
        return Some(format!("it has {} bytes", text.len()));
    }
    match render::undeclared(&Source::new("proposed", text)) {
        Err(error) => Some(error.to_string()),
        Ok(used) => {
            let unknown = |name: &&String| !names.contains(name.split('.').next().unwrap_or(name));
            used.iter().find(unknown).map(|name| format!("it uses `{name}`, which the task does not have"))
        }
    }
}

/// The text of an answer, without the fence that many models put around a text.
fn unfenced(answer: &str) -> String {
    let text = json_of(answer).trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner
        .and_then(|rest| rest.split_once('\n'))
        .filter(|(tag, inner)| tag.chars().all(|c| c.is_alphanumeric()) && !inner.contains("\n```"));
    inner.map_or(text, |(_, inner)| inner).trim().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposed_text_is_taken_out_of_its_fence_and_no_other() {
        for (answer, text) in [
            ("Do {{ plan }}", "Do {{ plan }}\n"),
            ("```jinja\nDo {{ plan }}\n```\n", "Do {{ plan }}\n"),
            ("```\nDo\n```\nand\n```\nmore\n```", "```\nDo\n```\nand\n```\nmore\n```\n"),
        ] {
            assert_eq!(unfenced(answer), text, "{answer}");
        }
    }

    #[test]
    fn only_a_template_of_the_tasks_inputs_is_tried() {
        let names = BTreeSet::from(["plan".to_owned()]);
        assert_eq!(wrong("Do {{ plan }}", &names), None);
        assert_eq!(wrong("Do {{ plan.title }}", &names), None);
        for (text, why) in [
            (" \n", "it is empty"),
            ("Do {{ plan", "proposed"),
            ("Do {{ secret }}", "`secret`"),
            ("{% include '/etc/passwd' %}", "proposed"),
        ] {
            let found = wrong(text, &names).unwrap_or_default();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
