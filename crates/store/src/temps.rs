//! Files that are written under temporary names and get their own all at once.

use std::path::PathBuf;

use planexe_base::fs::{self, Durability, FsError};

/// Temporary files with the names they are to get; removed if they do not get them.
#[derive(Debug, Default)]
pub(super) struct Temps(pub(super) Vec<(PathBuf, PathBuf)>);

impl Temps {
    /// Gives them their names.
    pub(super) fn publish(mut self, durability: Durability) -> Result<(), FsError> {
        fs::publish(&self.0, durability)?;
        self.0.clear();
        Ok(())
    }

    /// [`Temps::publish`] of files that were written here.
    pub(super) fn give_names(mut self, durability: Durability) -> Result<(), FsError> {
        fs::give_names(&self.0, durability)?;
        self.0.clear();
        Ok(())
    }
}

impl Drop for Temps {
    fn drop(&mut self) {
        for (temp, _) in &self.0 {
            let _ = fs::remove(temp);
        }
    }
}
