//! `slurm`: jobs of Slurm on a shared file system, fan-outs as arrays.
//!
//! What Slurm says of a job's end is not believed: a job whose node was lost is told with exit code 0, and a finished one
//! is forgotten after minutes. Its states only tell that a result is to be looked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::programs::{Answer, ask};
use super::{ATTEMPT_ARGUMENT, Executor, Known, NotHanded, Seen};
use planexe_base::fs::{self, Durability};
use planexe_pipeline::project::ExecutorSpec;
use planexe_store::jobs::JobFiles;
use planexe_ui::views::shell_word;

/// Most jobs of an array, where nothing is said: Slurm's own `MaxArraySize` is 1001.
const ARRAY: u32 = 1000;
/// What is asked of `squeue`: id, name, state, nodes, reason.
const FORMAT: &str = "%i|%j|%T|%N|%r";

/// Slurm, by its commands.
pub(super) struct Slurm {
    run: PathBuf,
    planexe: PathBuf,
    prefix: Vec<String>,
    options: Vec<String>,
    array: usize,
}

/// What `squeue` says of a job.
struct Row {
    name: String,
    state: String,
    nodes: String,
    reason: String,
}

impl Slurm {
    pub(super) fn new(spec: &ExecutorSpec, run: &Path, planexe: PathBuf) -> Slurm {
        let table = &spec.table;
        Slurm {
            run: run.to_owned(),
            planexe,
            prefix: table.prefix.clone(),
            options: table.options.clone(),
            array: table.array.unwrap_or(ARRAY).max(1) as usize,
        }
    }

    /// Every job of the user's that Slurm still knows, by its id; those of an array one by one.
    fn queue(&self) -> Result<HashMap<String, Row>, String> {
        let words = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format", FORMAT];
        let answer = ask(&words.map(str::to_owned), &self.run, &[])?;
        if answer.code != Some(0) {
            return Err(answer.why());
        }
        let row = |line: &str| {
            let mut fields = line.split('|').map(|field| field.trim().to_owned());
            let id = fields.next()?;
            let (name, state) = (fields.next()?, fields.next()?);
            let (nodes, reason) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            Some((id, Row { name, state, nodes, reason }))
        };
        Ok(answer.out.lines().filter_map(row).collect())
    }

    /// The script of a job, or of an array whose members choose their folder by their number.
    fn script(&self, jobs: &[Known<'_>]) -> String {
        let planexe = self.planexe.to_string_lossy();
        let words = self.prefix.iter().map(String::as_str).chain([&*planexe, ATTEMPT_ARGUMENT]);
        let words = words.map(shell_word).collect::<Vec<_>>().join(" ");
        let folder = |files: &JobFiles| shell_word(&files.dir.to_string_lossy());
        if let [(files, _)] = jobs {
            return format!("#!/bin/sh\nexec {words} {}\n", folder(files));
        }
        let mut script = "#!/bin/sh\ncase \"$SLURM_ARRAY_TASK_ID\" in\n".to_owned();
        for (files, handed) in jobs {
            script += &format!("{}) dir={} ;;\n", handed.index, folder(files));
        }
        script + &format!("*) exit 64 ;;\nesac\nexec {words} \"$dir\"\n")
    }

    fn sbatch(&self, jobs: &[Known<'_>]) -> Vec<String> {
        let (files, handed) = jobs[0];
        let job = &files.job;
        let mut words: Vec<String> = vec!["sbatch".into(), "--parsable".into(), "--no-requeue".into()];
        words.push(format!("--job-name={}", handed.batch));
        words.push(format!("--comment=planexe {} {} {}", job.task, job.attempt, job.fence));
        words.push(format!("--chdir={}", self.run.display()));
        words.push(format!("--output={}/slurm-%j.out", files.dir.display()));
        words.push(format!("--cpus-per-task={}", job.cpus.max(1)));
        if job.memory_mib > 0 {
            words.push(format!("--mem={}M", job.memory_mib));
        }
        if job.gpus > 0 {
            words.push(format!("--gpus={}", job.gpus));
        }
        if job.time_s > 0 {
            // Slurm counts minutes.
            words.push(format!("--time={}", job.time_s.div_ceil(60)));
        }
        if jobs.len() > 1 {
            words.push(format!("--array=0-{}", jobs.len() - 1));
            words[3] = format!("--job-name={}", handed.batch);
        }
        words.extend(self.options.iter().cloned());
        words
    }
}

impl Executor for Slurm {
    fn submit(&self, jobs: &[Known<'_>]) -> Result<Vec<String>, NotHanded> {
        let Some((first, _)) = jobs.first() else { return Ok(Vec::new()) };
        let script = first.dir.join("slurm.sh");
        fs::write_atomic(&script, self.script(jobs).as_bytes(), Durability::Unsynced)
            .map_err(|error| NotHanded::Refused(error.to_string()))?;
        let mut words = self.sbatch(jobs);
        words.push(script.to_string_lossy().into_owned());
        let answer = ask(&words, &self.run, &first.job.env_remove).map_err(NotHanded::Refused)?;
        if answer.code != Some(0) {
            return Err(if is_away(&answer) {
                NotHanded::Away(answer.why())
            } else {
                NotHanded::Refused(format!("sbatch: {}", answer.why()))
            });
        }
        // `ID`, or `ID;CLUSTER`.
        let last = answer.out.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let id = last.split(';').next().unwrap_or_default().trim();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
            return Err(NotHanded::Away(format!("sbatch told no job id: `{}`", last.trim())));
        }
        Ok(match jobs {
            [_] => vec![id.to_owned()],
            _ => jobs.iter().map(|(_, handed)| format!("{id}_{}", handed.index)).collect(),
        })
    }

    fn look(&self, jobs: &[Known<'_>]) -> Result<Vec<Seen>, String> {
        let queue = self.queue()?;
        let state = |(_, handed): &Known<'_>| match handed.id.as_ref().and_then(|id| queue.get(id)) {
            Some(row) => seen(row),
            None => Seen::Gone("Slurm knows it no more".to_owned()),
        };
        Ok(jobs.iter().map(state).collect())
    }

    fn cancel(&self, jobs: &[Known<'_>]) -> Result<(), String> {
        let mut words = vec!["scancel".to_owned()];
        words.extend(jobs.iter().filter_map(|(_, handed)| handed.id.clone()));
        let answer = ask(&words, &self.run, &[])?;
        if answer.code == Some(0) || answer.err.contains("Invalid job id") {
            Ok(())
        } else {
            Err(answer.why())
        }
    }

    fn find(&self, jobs: &[&JobFiles]) -> Result<Vec<Option<String>>, String> {
        let queue = self.queue()?;
        let find = |files: &&JobFiles| {
            let handed = files.handed()?;
            let index = format!("_{}", handed.index);
            let is_it = |id: &str| if id.contains('_') { id.ends_with(&index) } else { handed.index == 0 };
            let mut named = queue.iter().filter(|(_, row)| row.name == handed.batch);
            named.find(|(id, _)| is_it(id)).map(|(id, _)| id.clone())
        };
        Ok(jobs.iter().map(find).collect())
    }

    fn together(&self) -> usize {
        self.array
    }
}

/// Whether a command of Slurm failed because its controller cannot be reached.
fn is_away(answer: &Answer) -> bool {
    let said = answer.err.to_lowercase();
    [
        "unable to contact",
        "socket timed out",
        "connection refused",
        "connection timed out",
        "zero bytes were transmitted",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// What a state of Slurm's means.
fn seen(row: &Row) -> Seen {
    match row.state.as_str() {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
            let reason = if row.reason == "None" { String::new() } else { row.reason.clone() };
            Seen::Queued(reason)
        }
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" | "STAGE_OUT" | "SIGNALING"
        | "RESIZING" => Seen::Running(row.nodes.clone()),
        state => Seen::Gone(format!("Slurm says {state}")),
    }
}
