//! The records of several runs at once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ops::Session;
use planexe_base::exit::Error;
use planexe_pipeline::runs::is_run;
use planexe_store::Store;
use planexe_ui::views::shell_word;

/// Of a run that was put away perhaps only these are left.
const LOGS: [&str; 3] = ["events.jsonl", "failures.jsonl", "usage_metrics.jsonl"];

/// The runs that are named, each once, or the run. Those named are not opened: their pipelines may be gone.
pub fn stores(session: &Session, runs: &[PathBuf]) -> Result<Vec<Arc<Store>>, Error> {
    if runs.is_empty() {
        return Ok(vec![session.records(true)?]);
    }
    let open = |run: &PathBuf| match run.is_dir() {
        false => Err(Error::usage(format!("there is no folder `{}`", run.display())).code("no_run")),
        true if !has_records(run) => Err(no_run(run)),
        true => Ok(Arc::new(Store::open(run.clone()))),
    };
    let mut seen = HashSet::new();
    let first = |run: &&PathBuf| seen.insert(run.canonicalize().unwrap_or_else(|_| (*run).clone()));
    runs.iter().filter(first).map(open).collect()
}

fn has_records(folder: &Path) -> bool {
    is_run(folder) || folder.join(".planexe").exists() || LOGS.iter().any(|name| folder.join(name).exists())
}

/// Of a folder of runs, say: that nothing is known of it is not that nothing failed in it.
fn no_run(folder: &Path) -> Error {
    let error = Error::usage(format!("`{}` is no run directory", folder.display())).code("no_run");
    let mut inside = std::fs::read_dir(folder).into_iter().flatten().flatten();
    match inside.any(|entry| has_records(&entry.path())) {
        true => {
            error.hint(format!("it holds runs: `{}/*` names them all", shell_word(&folder.to_string_lossy())))
        }
        false => error,
    }
}
