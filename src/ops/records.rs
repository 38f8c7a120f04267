//! The records of several runs at once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ops::Session;
use planexe_base::exit::Error;
use planexe_store::Store;

/// The runs that are named, each once, or the run. Those named are not opened: their pipelines may be gone.
pub fn stores(session: &Session, runs: &[PathBuf]) -> Result<Vec<Arc<Store>>, Error> {
    if runs.is_empty() {
        return Ok(vec![session.records(true)?]);
    }
    let open = |run: &PathBuf| match run.is_dir() {
        true => Ok(Arc::new(Store::open(run.clone()))),
        false => Err(Error::usage(format!("there is no folder `{}`", run.display())).code("no_run")),
    };
    let mut seen = HashSet::new();
    let first = |run: &&PathBuf| seen.insert(run.canonicalize().unwrap_or_else(|_| (*run).clone()));
    runs.iter().filter(first).map(open).collect()
}
