//! Whether there is anything to go on with.

use crate::ops::status::Seen;
use planexe_base::exit::{Error, Kind};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;
use planexe_base::style;

/// Runs with which there is nothing to go on: each with a code and the next command to type.
pub fn refuse(seen: &Seen, force: bool) -> Result<(), Error> {
    match seen.phase {
        RunPhase::NeverStarted => Err(Error::new(Kind::Refused, "the run was never started")
            .code("never_started")
            .hint("`planexe build` starts it")),
        RunPhase::Aborted if !force => Err(Error::new(Kind::Refused, "the run was aborted")
            .code("aborted")
            .hint("`planexe resume --force` continues it all the same")),
        RunPhase::Completed => {
            let stale =
                |task: &&planexe_ui::views::TaskView| matches!(task.state, State::Stale | State::Damaged);
            let error = |message: String| Error::new(Kind::Refused, message).code("already_complete");
            let is_partial = seen.standing.declared().any(|task| task.quality.partial == Some(true));
            Err(match seen.standing.declared().filter(stale).count() {
                0 if is_partial => error("the run is complete, but for items that failed".to_owned())
                    .hint("`planexe build` tries those again"),
                0 => error("the run is complete".to_owned()).hint("`planexe build -B` makes all of it again"),
                count => error(format!(
                    "the run is complete, and {} stale since",
                    match count {
                        1 => "1 task is".to_owned(),
                        many => format!("{} are", style::count(many as u64, "task")),
                    }
                ))
                .hint("`planexe build` runs what is stale"),
            })
        }
        _ => Ok(()),
    }
}
