//! What commands gather that only look: selections, verdicts, states, reasons, forecasts. Nothing here writes.

pub mod doctor;
pub mod dry_run;
pub mod explain;
pub mod graph_view;
pub mod history_view;
pub mod model_choice;
pub mod prompt_parts;
pub mod replay_pack;
pub mod resume;
pub mod selection;
pub mod simulate;
pub mod task_state;
pub mod timeline;
pub mod watch;
