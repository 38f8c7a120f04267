//! The times of outputs under make's rule.

use planexe_base::fs::{self, FsError};
use planexe_pipeline::manifest::types::By;
use planexe_pipeline::project::Project;
use planexe_store::Store;

/// Under make's rule outputs that are taken as they are must not be older than what they are said to be made from: all
/// of them get one time, that of now.
pub fn renew<'a>(
    project: &Project,
    store: &Store,
    outputs: impl IntoIterator<Item = &'a String>,
) -> Result<(), FsError> {
    if project.tables.staleness.by == By::Mtime {
        let now = std::time::SystemTime::now();
        for path in outputs {
            fs::set_mtime(&store.path(path), now).map_err(|error| error.within(store.run_dir()))?;
        }
    }
    Ok(())
}
