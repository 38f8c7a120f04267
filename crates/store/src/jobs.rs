//! `.planexe/jobs/TASK/FENCE/`: an attempt that was handed to an executor, and may outlive the build.
//!
//! | file | who writes it | what it says |
//! |---|---|---|
//! | `job.json` | the build, before the job is submitted | what is run, and the fence |
//! | `handed.json` | the build, after it | the id by which the executor knows it |
//! | `claim` | who comes first, once | the attempt began; or nobody may begin it any more |
//! | `cancel` | whoever wants it to end | that it is to end |
//! | `out.log`, `out/` | the attempt | what its program says, and its outputs |
//! | `result.json` | the attempt, as its last act | how it ended, under its fence |
//!
//! Only a result with the fence of its `job.json` counts. The claim is made by a link, which one alone can make: so a job
//! runs at most once, however often its queue starts it, and one that was given up never begins.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::seal::{Seal, What};
use super::sidecar::to_json;
use super::{Owner, Store, task_dir_name};
use planexe_base::clock;
use planexe_base::event::Queued;
use planexe_base::fs::{self, Durability, FileKind, FsError};
use planexe_base::process::ProcessEnd;
use planexe_base::record::{Digest, SCHEMA};

/// What the mark of a record says it is.
const JOB: What<'static> = What::Record("job");
/// The largest record that is read.
const LARGEST: u64 = 16 << 20;
/// The kind of jobs that begin at once.
const DETACHED: &str = "detached";
/// Who claims a job that must not begin.
const REVOKED: &str = "revoked";

/// What an attempt is: `job.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Version of the format.
    pub schema: u32,
    /// `task` or `task[key]`.
    pub task: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// Tells this attempt from every other: what does not bear it is not believed.
    pub fence: String,
    /// The executor's name in the pipeline.
    pub executor: String,
    /// What it is: `detached`, `slurm`, `command`.
    pub kind: String,
    /// Digest of what the attempt was decided on.
    pub decision_id: String,
    /// The program's file, if it was found by the build.
    pub program: Option<PathBuf>,
    /// The program's name, then its arguments.
    pub words: Vec<String>,
    /// Where it runs.
    pub place: PathBuf,
    /// Variables it gets.
    pub env: Vec<(String, String)>,
    /// Variables it does not get.
    pub env_remove: Vec<String>,
    /// The files it is to write, in the order of the outputs.
    pub writes: Vec<PathBuf>,
    /// Its standard output is the first of them.
    pub stdout: bool,
    /// Of one that works in place: what its outputs held before.
    pub former: Vec<Option<Digest>>,
    /// Seconds it may take.
    pub timeout_s: Option<f64>,
    /// Seconds it may take without writing anything.
    pub stall_s: Option<f64>,
    /// Cores it takes.
    pub cpus: u32,
    /// MiB of memory it takes; 0 if nothing is said.
    pub memory_mib: u64,
    /// GPUs it takes.
    pub gpus: u32,
    /// Seconds after which its queue ends it; 0 if nothing is said.
    pub time_s: u64,
    /// When it was handed over.
    pub submitted_utc: String,
}

/// How an executor knows a job: `handed.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handed {
    /// The id, once it is known.
    pub id: Option<String>,
    /// The name under which it was submitted, maybe with others.
    pub batch: String,
    /// Its place among those of the name.
    pub index: u32,
}

/// What an attempt left: `result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Version of the format.
    pub schema: u32,
    /// The fence of the job it is of.
    pub fence: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// How it ended.
    pub end: ProcessEnd,
    /// The host it ran on.
    pub host: String,
    /// When it ended, by that host's clock.
    pub ended_utc: String,
    /// The outputs that are there, by their position: size and digest.
    pub outputs: Vec<Option<(u64, Digest)>>,
}

/// A job on disk.
#[derive(Debug, Clone)]
pub struct JobFiles {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub job: Job,
}

impl JobFiles {
    /// Reads a job somebody was told to run, whoever wrote it.
    pub fn read_told(dir: &Path) -> Option<JobFiles> {
        let bytes = fs::read_capped(&dir.join("job.json"), LARGEST).ok()?;
        let job = serde_json::from_slice(&bytes).ok()?;
        Some(JobFiles { dir: dir.to_owned(), job })
    }

    /// What its program says.
    pub fn log(&self) -> PathBuf {
        self.dir.join("out.log")
    }

    /// Writes what it is, before it is handed over. On disk when this returns.
    pub fn write(&self, run: &Path) -> Result<(), FsError> {
        let seal = Seal::to_mark_at_least_for_now(run, JOB);
        let bytes = seal.map_or_else(|| to_json(&self.job), |seal| seal.sealed(&self.job));
        fs::write_atomic(&self.dir.join("job.json"), &bytes, Durability::Synced)
    }

    /// How the executor knows it.
    pub fn handed(&self) -> Option<Handed> {
        read(&self.dir.join("handed.json"))
    }

    /// Writes how the executor knows it.
    pub fn write_handed(&self, handed: &Handed) -> Result<(), FsError> {
        fs::write_atomic(&self.dir.join("handed.json"), &to_json(handed), Durability::Synced)
    }

    /// Who began it, if anybody did.
    pub fn claim(&self) -> Option<Owner> {
        read(&self.dir.join("claim"))
    }

    /// When it waited in the queue of its executor; none of one that nobody began, nor of one that has no queue.
    pub fn queued(&self) -> Option<Queued> {
        let began = self.claim().filter(|owner| owner.command.as_deref() != Some(REVOKED))?;
        (self.job.kind != DETACHED).then_some(Queued {
            executor: self.job.executor.clone(),
            submitted_utc: self.job.submitted_utc.clone(),
            began_utc: began.started_utc?,
        })
    }

    /// Begins it: true if nobody did before, nor said that nobody may.
    pub fn begin(&self) -> Result<bool, FsError> {
        fs::write_private_new(&self.dir.join("claim"), &to_json(&Owner::this("planexe attempt")))
    }

    /// Has nobody begin it any more: true if nobody had. From then on it never runs.
    pub fn revoke(&self) -> Result<bool, FsError> {
        let claimed = fs::write_private_new(&self.dir.join("claim"), &to_json(&Owner::this(REVOKED)))?;
        Ok(claimed || self.is_revoked())
    }

    /// Whether nobody may begin it any more.
    pub fn is_revoked(&self) -> bool {
        self.claim().is_some_and(|owner| owner.command.as_deref() == Some(REVOKED))
    }

    /// Whether the process that began it is alive, as far as can be seen from here; none if it is another machine's.
    pub fn is_alive(&self) -> Option<bool> {
        let claim = self.claim()?;
        (claim.host == super::host::host_name()).then(|| claim.is_alive())
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) -> Result<(), FsError> {
        fs::write_atomic(&self.dir.join("cancel"), b"", Durability::Unsynced)
    }

    /// Whether it was asked to end.
    pub fn is_asked_to_end(&self) -> bool {
        matches!(fs::kind(&self.dir.join("cancel")), Ok(Some(_)))
    }

    /// What it left, if it is from this very attempt.
    pub fn result(&self) -> Result<Option<JobResult>, FsError> {
        let result: Option<JobResult> = try_read(&self.dir.join("result.json"))?;
        Ok(result.filter(|result| result.fence == self.job.fence))
    }

    /// Whether it left no result yet, or none that can be read.
    pub fn is_open(&self) -> bool {
        !matches!(self.result(), Ok(Some(_)))
    }

    /// Says how it ended, with what it wrote: the last thing an attempt does.
    pub fn write_result(&self, end: ProcessEnd) -> Result<(), FsError> {
        let written = |path: &PathBuf| match fs::kind(path) {
            Ok(Some(FileKind::File)) => fs::hash_file(path).ok().map(|(digest, size)| (size, digest)),
            _ => None,
        };
        let result = JobResult {
            schema: SCHEMA,
            fence: self.job.fence.clone(),
            attempt: self.job.attempt,
            end,
            host: super::host::host_name(),
            ended_utc: clock::now_utc(),
            outputs: self.job.writes.iter().map(written).collect(),
        };
        fs::write_atomic(&self.dir.join("result.json"), &to_json(&result), Durability::Synced)
    }

    /// It came to its end, and what it left is recorded.
    pub fn remove(&self) -> Result<(), FsError> {
        fs::remove_tree(&self.dir)?;
        if let Some(of_task) = self.dir.parent() {
            let _ = fs::remove_empty_dir(of_task);
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    try_read(path).ok().flatten()
}

/// What the disk cannot read is an error; a file that is not there, or damaged, is none.
fn try_read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FsError> {
    let bytes = fs::if_content(fs::read_capped(path, LARGEST))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

impl Store {
    /// A folder for a new attempt of a task under its fence.
    pub fn new_job_dir(&self, task: &str, fence: &str) -> Result<PathBuf, FsError> {
        let dir = self.planexe_subdir("jobs")?.join(task_dir_name(task)).join(fence);
        fs::make_dirs(&dir, Durability::Synced)?;
        Ok(dir)
    }

    /// Jobs of a task that the user's own planexe handed over, oldest first. Folders of which nothing can be believed are
    /// left alone.
    pub fn jobs_of(&self, task: &str) -> Result<Vec<JobFiles>, FsError> {
        let jobs = self.jobs_in(&self.planexe_dir().join("jobs").join(task_dir_name(task)));
        let mut jobs = jobs.map_err(|error| error.within(self.run_dir()))?;
        jobs.retain(|files| files.job.task == task);
        Ok(jobs)
    }

    /// The task is made anew, or not at all: what an executor has of it is to end, and no build takes its result.
    pub fn give_up_jobs(&self, task: &str) -> Result<(), FsError> {
        self.jobs_of(task)?.iter().filter(|files| !files.is_asked_to_end()).try_for_each(JobFiles::ask_to_end)
    }

    /// Jobs of all tasks, for people: those that cannot be read are passed over.
    pub fn jobs(&self) -> Vec<JobFiles> {
        let folder = self.planexe_dir().join("jobs");
        let mut names: Vec<_> = fs::list_dir(&folder).unwrap_or_default();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.iter().flat_map(|(name, _)| self.jobs_in(&folder.join(name)).unwrap_or_default()).collect()
    }

    fn jobs_in(&self, folder: &Path) -> Result<Vec<JobFiles>, FsError> {
        let mut names: Vec<_> = fs::if_content(fs::list_dir(folder))?.unwrap_or_default();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all = Vec::new();
        for (name, _) in names {
            let dir = folder.join(&name);
            let bytes = fs::if_content(fs::read_capped(&dir.join("job.json"), LARGEST))?;
            let seal = || Seal::to_mark_at_least_for_now(self.run_dir(), JOB);
            let job: Option<Job> = bytes.and_then(|bytes| seal()?.unsealed(&bytes));
            if let Some(job) = job.filter(|job| Path::new(&job.fence) == Path::new(&name)) {
                all.push(JobFiles { dir, job });
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(store: &Store, fence: &str) -> JobFiles {
        let dir = store.new_job_dir("a[1]", fence).unwrap();
        let job = Job { task: "a[1]".to_owned(), fence: fence.to_owned(), ..Job::default() };
        let files = JobFiles { dir, job };
        files.write(store.run_dir()).unwrap();
        files
    }

    #[test]
    fn a_job_begins_once_and_never_after_it_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let files = new(&store, "f1");
        assert!(files.begin().unwrap());
        assert!(!files.begin().unwrap(), "its queue started it again");
        assert!(!files.revoke().unwrap() && files.is_alive() == Some(true));
        let other = new(&store, "f2");
        assert!(other.revoke().unwrap() && other.revoke().unwrap());
        assert!(!other.begin().unwrap(), "it was given up before it began");
    }

    #[test]
    fn only_a_result_with_its_fence_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let (old, new) = (new(&store, "f1"), new(&store, "f2"));
        assert_eq!(new.result().unwrap(), None);
        old.write_result(ProcessEnd::Exited(0)).unwrap();
        let bytes = fs::read(&old.dir.join("result.json")).unwrap();
        fs::write_atomic(&new.dir.join("result.json"), &bytes, Durability::Unsynced).unwrap();
        assert_eq!(new.result().unwrap(), None, "it is an old copy's");
        new.write_result(ProcessEnd::Exited(3)).unwrap();
        assert_eq!(new.result().unwrap().unwrap().end, ProcessEnd::Exited(3));
        assert_eq!(store.jobs_of("a[1]").unwrap().len(), 2);
        assert_eq!(store.jobs().len(), 2);
        old.remove().unwrap();
        new.remove().unwrap();
        assert!(store.jobs().is_empty());
    }

    #[test]
    fn a_job_that_came_with_the_folder_is_not_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        let files = new(&store, "f1");
        let forged = Job { words: vec!["evil".to_owned()], ..files.job.clone() };
        let bytes = to_json(&forged);
        fs::write_atomic(&files.dir.join("job.json"), &bytes, Durability::Unsynced).unwrap();
        assert!(store.jobs().is_empty());
    }
}
