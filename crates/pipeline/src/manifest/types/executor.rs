//! `[executors.NAME]` and `resources`: where the programs of tasks run, and what they take there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Map, Span};

/// `[executors.NAME]`: where commands run that say `executor = "NAME"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Executor {
    /// What it is: `local` (in the build, which ends it), `detached` (on this machine, outliving the build), `slurm`, or `command` (any queue, by templates). Default: the name of the table.
    pub kind: Option<ExecutorKind>,
    /// Most attempts it has at once, waiting ones counted (default: 100; of `detached` no limit beside the cores).
    pub max_jobs: Option<u32>,
    /// `local`: cores that tasks on this machine share, detached ones too (default: those of this machine, or `-j`).
    pub cpus: Option<u32>,
    /// `local`: memory that tasks on this machine share, such as `"16G"` (default: that of this machine).
    pub memory: Option<Amount>,
    /// `local`: GPUs that tasks on this machine share (default 1).
    pub gpus: Option<u32>,
    /// What every task takes that says nothing itself.
    pub resources: Resources,
    /// The planexe that attempts run with, where it is not at the same path as here.
    pub planexe: Option<String>,
    /// Words put before the attempt's own, such as those of a container.
    pub prefix: Vec<String>,
    /// `slurm`: further words for `sbatch`, such as `["--partition=long", "--account=x"]`.
    pub options: Vec<String>,
    /// `slurm`: most jobs of one array (default 1000; 1: no arrays).
    pub array: Option<u32>,
    /// The longest time between two looks at its jobs, which grows from 20 ms (default 10s, of `detached` 0.5s).
    pub poll: Option<Span>,
    /// How long a result is waited for after a job is gone, since files of another machine come late (default 10s, of `detached` 1.5s).
    pub grace: Option<Span>,
    /// How long a job may wait for its start before it is cancelled and the task fails (default: without limit).
    pub start_within: Option<Span>,
    /// How often an attempt that was lost, with its machine for example, is submitted again (default 2).
    pub resubmit: Option<u32>,
    /// `command`: hands an attempt over: program and arguments with `$job` (the words to be run there), `$name`, `$dir`, `$run`, `$cpus`, `$memory` (MiB), `$gpus`, `$time` (seconds). Its last word on standard output is the job's id.
    pub submit: Vec<String>,
    /// `command`: asks for the state of a job: `$id`, `$name`.
    pub status: Vec<String>,
    /// `command`: cancels a job: `$id`, `$name`.
    pub cancel: Vec<String>,
    /// `command`: what `status` answers by state (`queued`, `running`, `ended`; `away`: the queue cannot be asked, of `submit` too): words of its output, or `exit:N` for an exit code.
    pub states: Map<Vec<String>>,
}

/// What an executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// A program of the build, which ends with it.
    Local,
    /// A program of this machine that outlives the build.
    Detached,
    /// Jobs of Slurm.
    Slurm,
    /// Jobs of any queue, by templates of its commands.
    Command,
}

impl ExecutorKind {
    /// Every kind, by its name.
    pub const ALL: [ExecutorKind; 4] =
        [ExecutorKind::Local, ExecutorKind::Detached, ExecutorKind::Slurm, ExecutorKind::Command];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            ExecutorKind::Local => "local",
            ExecutorKind::Detached => "detached",
            ExecutorKind::Slurm => "slurm",
            ExecutorKind::Command => "command",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<ExecutorKind> {
        ExecutorKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its programs run on this machine.
    pub fn is_here(self) -> bool {
        matches!(self, ExecutorKind::Local | ExecutorKind::Detached)
    }
}

/// `resources = { cpus = 4, memory = "8G", gpus = 1, time = "2h" }`: what an attempt takes where it runs. Each may be a
/// template over the item, such as `"{{ item.memory }}"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Cores (default 1).
    pub cpus: Option<Amount>,
    /// Memory: `"512M"`, `"8G"`, or a number of MiB.
    pub memory: Option<Amount>,
    /// GPUs.
    pub gpus: Option<Amount>,
    /// Longest time on the executor: `"2h"`, or seconds; a queue ends the job then.
    pub time: Option<Amount>,
}

/// A number, or a text that holds one with its unit, or a template that gives one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// A plain number.
    Number(f64),
    /// A number with its unit, or a template.
    Text(String),
}

impl Amount {
    /// Whether it is known for each item only.
    pub fn is_template(&self) -> bool {
        matches!(self, Amount::Text(text) if text.contains("{{"))
    }

    /// A whole number, such as of cores.
    pub fn count(&self) -> Result<u32, String> {
        let number = match self {
            Amount::Number(number) => *number,
            Amount::Text(text) => {
                text.trim().parse().map_err(|_| format!("`{text}` is no number; wanted one like 4"))?
            }
        };
        match number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
            true => Ok(number as u32),
            false => Err(format!("{number} is no number of them; wanted a whole one like 4")),
        }
    }

    /// Memory in MiB: a plain number is one.
    pub fn mebibytes(&self) -> Result<u64, String> {
        let (number, text) = match self {
            Amount::Number(number) => (*number, number.to_string()),
            Amount::Text(text) => {
                let plain = text.trim();
                let unit = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
                let wanted =
                    || format!("`{text}` is no amount of memory; wanted one like \"512M\" or \"8G\"");
                let number: f64 = plain[..unit].parse().map_err(|_| wanted())?;
                let factor = match plain[unit..].trim().trim_end_matches(['B', 'b', 'i']) {
                    "" | "M" | "m" => 1.0,
                    "K" | "k" => 1.0 / 1024.0,
                    "G" | "g" => 1024.0,
                    "T" | "t" => 1024.0 * 1024.0,
                    _ => return Err(wanted()),
                };
                (number * factor, text.clone())
            }
        };
        match (0.0..1e12).contains(&number) {
            true => Ok(number.ceil() as u64),
            false => Err(format!("`{text}` is no amount of memory; wanted one like \"512M\" or \"8G\"")),
        }
    }

    /// A length of time, in seconds.
    pub fn seconds(&self) -> Result<u64, String> {
        match self {
            Amount::Number(number) if (0.0..1e12).contains(number) => Ok(number.ceil() as u64),
            Amount::Number(number) => Err(format!("{number} is no length of time; wanted one like \"2h\"")),
            Amount::Text(text) => Ok(Span::parse(text)?.0.as_secs_f64().ceil() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        let text = |text: &str| Amount::Text(text.to_owned());
        for (given, wanted) in
            [("512M", 512), ("8G", 8192), ("1.5GiB", 1536), ("2048", 2048), ("1T", 1 << 20)]
        {
            assert_eq!(text(given).mebibytes(), Ok(wanted), "{given}");
        }
        for wrong in ["much", "8X", "-1G", ""] {
            assert!(text(wrong).mebibytes().is_err(), "{wrong}");
        }
        assert_eq!((Amount::Number(4.0).count(), text("4").count()), (Ok(4), Ok(4)));
        assert!(Amount::Number(1.5).count().is_err() && text("four").count().is_err());
        assert_eq!((text("2h").seconds(), Amount::Number(90.0).seconds()), (Ok(7200), Ok(90)));
    }
}
