//! The build that is running, and whether it can be stopped.

use planexe_store::{Owner, RunLock, Store};

/// The build that is running, if one is.
pub fn building(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(Owner::is_building)
}

/// The build that is running, or whoever holds the lock and has not said what for: a build that looks at its tasks
/// before the first one starts, as a rule.
pub fn stoppable(store: &Store) -> Option<Owner> {
    RunLock::owner(store.run_dir()).filter(|owner| owner.is_building() || owner.command.is_none())
}
