//! `planexe explain`: says why a task is stale, or why it is not.

use clap::Args;

use crate::commands::Session;
use crate::ops::explain::explained;
use planexe_base::exit::{self, Error};

/// What `planexe explain` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ExplainArgs {
    /// The task, an output of it, or one instance: `review[ann]`
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,
}

/// Explains.
pub fn run(session: &Session, args: &ExplainArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let views = explained(session, &opened, &args.tasks)?;
    match &views[..] {
        [view] if session.globals.json => session.print_json(view)?,
        _ if session.globals.json => session.print_json(&views)?,
        _ => {
            let texts: Vec<String> = views.iter().map(|view| view.text(&session.out)).collect();
            session.print(&texts.join("\n"))?;
        }
    }
    Ok(exit::DONE)
}
