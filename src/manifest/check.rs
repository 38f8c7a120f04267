//! Checks that need no graph and no other file.
use super::fault::Fault;
use super::types::Tables;
use std::path::Path;

pub(super) fn check(_tables: &Tables, _file: &Path, _faults: &mut Vec<Fault>) {}
