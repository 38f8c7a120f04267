//! `command`: any queue, by templates of the commands that submit a job, ask for its state, and cancel it.

use std::path::{Path, PathBuf};

use super::programs::{Answer, ask};
use super::{ATTEMPT_ARGUMENT, Executor, Known, NotHanded, Seen};
use planexe_pipeline::manifest::types::Executor as Table;
use planexe_pipeline::project::ExecutorSpec;
use planexe_store::jobs::{Handed, JobFiles};

/// The longest id of a job that is believed, in bytes.
const LONGEST_ID: usize = 200;

/// A queue, by its commands.
pub(super) struct Queue {
    run: PathBuf,
    planexe: PathBuf,
    table: Table,
}

impl Queue {
    pub(super) fn new(spec: &ExecutorSpec, run: &Path, planexe: PathBuf) -> Queue {
        Queue { run: run.to_owned(), planexe, table: spec.table.clone() }
    }

    /// The words of a template, filled in. `$job` alone stands for several words.
    fn filled(&self, template: &[String], (files, handed): Known<'_>) -> Vec<String> {
        let job = &files.job;
        let planexe = self.planexe.to_string_lossy().into_owned();
        let dir = files.dir.to_string_lossy().into_owned();
        let words: Vec<String> = [planexe, ATTEMPT_ARGUMENT.to_owned(), dir.clone()].into();
        let words: Vec<String> = self.table.prefix.iter().cloned().chain(words).collect();
        let line = words.iter().map(|word| planexe_ui::views::shell_word(word)).collect::<Vec<_>>().join(" ");
        let values = [
            ("job", line),
            ("name", handed.batch.clone()),
            ("dir", dir),
            ("run", self.run.to_string_lossy().into_owned()),
            ("id", handed.id.clone().unwrap_or_default()),
            ("cpus", job.cpus.max(1).to_string()),
            ("memory", job.memory_mib.to_string()),
            ("gpus", job.gpus.to_string()),
            ("time", job.time_s.to_string()),
        ];
        let mut filled = Vec::new();
        for word in template {
            if word == "$job" {
                filled.extend(words.iter().cloned());
            } else {
                filled.push(put_in(word, &values));
            }
        }
        filled
    }

    /// The word by which an answer tells a state, if it does.
    fn says(&self, answer: &Answer, state: &str) -> Option<&String> {
        let words = self.table.states.get(state).map_or(&[][..], Vec::as_slice);
        words.iter().find(|word| says(answer, word))
    }

    fn state(&self, known: Known<'_>) -> Result<Seen, String> {
        let answer = ask(&self.filled(&self.table.status, known), &self.run, &[])?;
        let is = |state: &str| self.says(&answer, state);
        if is("away").is_some() {
            return Err(answer.why());
        }
        // One that ended may be told among others that run.
        if let Some(word) = is("running") {
            return Ok(Seen::Running(word.clone()));
        }
        if is("queued").is_some() {
            return Ok(Seen::Queued(String::new()));
        }
        match is("ended") {
            Some(word) => Ok(Seen::Gone(format!("its queue says {word}"))),
            None => Err(format!("`status` answers what `states` does not name: {}", answer.why())),
        }
    }
}

/// Puts values in the place of `$name`; `$$` is a dollar.
fn put_in(word: &str, values: &[(&str, String)]) -> String {
    let (mut filled, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        filled += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                filled += value;
                rest = &rest[name.len()..];
            }
            None => filled.push('$'),
        }
    }
    filled + rest
}

/// Whether an answer says a word, or ended with the exit code of `exit:N`.
fn says(answer: &Answer, word: &str) -> bool {
    match word.strip_prefix("exit:").and_then(|code| code.parse::<i32>().ok()) {
        Some(code) => answer.code == Some(code),
        None => [&answer.out, &answer.err]
            .into_iter()
            .flat_map(|said| said.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')))
            .any(|said| said.eq_ignore_ascii_case(word)),
    }
}

/// The id in what `submit` said: its last word.
fn id_in(answer: &Answer) -> Option<String> {
    let id = answer.out.split_whitespace().next_back()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-[]:/@".contains(c);
    let fits = id.len() <= LONGEST_ID && !id.starts_with('-') && id.chars().all(plain);
    fits.then(|| id.to_owned())
}

impl Executor for Queue {
    fn submit(&self, jobs: &[Known<'_>]) -> Result<Vec<String>, NotHanded> {
        let submit = |known: &Known<'_>| {
            let words = self.filled(&self.table.submit, *known);
            let answer = ask(&words, &self.run, &known.0.job.env_remove).map_err(NotHanded::Refused)?;
            if self.says(&answer, "away").is_some() {
                return Err(NotHanded::Away(answer.why()));
            }
            if answer.code != Some(0) {
                return Err(NotHanded::Refused(format!("`submit`: {}", answer.why())));
            }
            let said = || NotHanded::Refused(format!("`submit` told no job id: `{}`", answer.out.trim()));
            id_in(&answer).ok_or_else(said)
        };
        jobs.iter().map(submit).collect()
    }

    fn look(&self, jobs: &[Known<'_>]) -> Result<Vec<Seen>, String> {
        jobs.iter().map(|known| self.state(*known)).collect()
    }

    fn cancel(&self, jobs: &[Known<'_>]) -> Result<(), String> {
        for known in jobs {
            ask(&self.filled(&self.table.cancel, *known), &self.run, &[])?;
        }
        Ok(())
    }

    /// Whatever became of it, it may be submitted again: it begins once.
    fn finds(&self) -> bool {
        false
    }

    /// There is no asking for it: what has not begun is given up, and what has tells by its result.
    fn find(&self, jobs: &[&JobFiles]) -> Result<Vec<Option<String>>, String> {
        Ok(jobs.iter().map(|files| files.handed().and_then(|handed: Handed| handed.id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let values = [("id", "7".to_owned()), ("cpus", "2".to_owned())];
        assert_eq!(put_in("--job=$id,$cpus$$id $x", &values), "--job=7,2$id $x");
    }

    #[test]
    fn states_are_words_or_exit_codes() {
        let answer = Answer { code: Some(1), out: "| 7 | RUNNING |\n".to_owned(), err: String::new() };
        assert!(says(&answer, "running") && says(&answer, "exit:1"));
        assert!(!says(&answer, "RUN") && !says(&answer, "exit:0"));
        let answer = Answer { code: Some(0), err: "ERROR Job 9 not found".to_owned(), ..Answer::default() };
        assert!(says(&answer, "found"), "what is said on standard error counts");
    }

    #[test]
    fn the_id_is_the_last_word_and_no_option() {
        let answer = |out: &str| Answer { code: Some(0), out: out.to_owned(), err: String::new() };
        assert_eq!(id_in(&answer("Job submitted successfully, job ID: 12\n")), Some("12".to_owned()));
        assert_eq!(id_in(&answer("job.batch/x-1\n")), Some("job.batch/x-1".to_owned()));
        for wrong in ["", "--all", "a;b"] {
            assert_eq!(id_in(&answer(wrong)), None, "{wrong}");
        }
    }
}
