//! `planexe status`: shows the state of every task; judges, runs nothing, takes no lock, writes nothing.

use std::time::Duration;

use clap::Args;

use crate::commands::Session;

use crate::ops::status::{every_task, look, view};
use planexe_base::exit::{self, Error};
use planexe_base::signals;
use planexe_pipeline::open::Opened;
use planexe_store::index::Index;

/// How often `--watch` looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// What `planexe status` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// Update every second until the build ends, or Ctrl-C; with --json one line for each change
    #[arg(short, long)]
    pub watch: bool,
}

/// Shows the state of every task.
pub fn run(session: &Session, args: &StatusArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let index = Index::load(&opened.store);
    if args.watch {
        return watch(session, &opened, &index);
    }
    let seen = look(session, &opened, &index, &every_task(&opened));
    let view = view(session, &opened, &seen);
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}

/// Shows it again and again.
fn watch(session: &Session, opened: &Opened, index: &Index) -> Result<u8, Error> {
    let signals = signals::listen()?;
    let redraw = session.out_is_terminal() && session.env.can_redraw() && !session.globals.json;
    let targets = every_task(opened);
    let mut last = String::new();
    loop {
        let seen = look(session, opened, index, &targets);
        let view = view(session, opened, &seen);
        let text = if session.globals.json {
            serde_json::to_string(&view)? + "\n"
        } else {
            view.text(&session.out, session.globals.repeated.verbose > 0)
        };
        if redraw {
            session.print(&planexe_ui::views::redrawn(&text, session.out_rows()))?;
        } else if text != last {
            let gap = if last.is_empty() || session.globals.json { "" } else { "\n" };
            session.print(&format!("{gap}{text}"))?;
        }
        last = text;
        if seen.builder().is_none() {
            if redraw {
                session.say("no build is running");
            }
            return Ok(exit::DONE);
        }
        if let Some(signal) = signals.within(AGAIN) {
            return Ok(exit::of_signal(signal));
        }
        if session.is_closed() {
            return Ok(exit::DONE);
        }
    }
}
