//! Building a run: what is asked of a build, and how it is carried out.

mod options;
mod run;
mod slots;
mod summary;
mod targets;

pub use options::{BuildOptions, rules};
pub use run::{
    BuildControl, Built, Screen, ask_only, budget, carry_out, check_addresses, find_model, planexe, run_on,
    task_infos,
};
pub use slots::{slots, slots_with};
pub use targets::{Targets, target_ids, targets};
