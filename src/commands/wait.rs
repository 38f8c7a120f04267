//! `planexe wait`: blocks until something happens to the run.

use clap::{Args, ValueEnum};
use planexe_base::record::State;

use crate::commands::Session;
use crate::ops::wait::{For, Waited, wait};
use planexe_base::exit::{self, Error};
use planexe_base::signals;
use planexe_pipeline::manifest::types::Span;
use planexe_ui::views::WaitView;
use planexe_ui::views::news::Cursor;

/// What `planexe wait` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitArgs {
    /// Give up after this time (90s, 15m, 8h), with exit code 124
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub timeout: Option<Span>,

    /// What to wait for: done (everything), failed (a task), human (a person is needed), any (of these, or the end)
    #[arg(long = "for", value_name = "WHAT", value_enum, default_value_t, hide_possible_values = true)]
    pub what: ForArg,

    /// Count events since this look, the `cursor` of an answer with --json; 0 counts all of this build [default: now]
    #[arg(long, value_name = "CURSOR")]
    pub since: Option<Cursor>,
}

/// What to wait for, as it is typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ForArg {
    /// Everything is done
    Done,
    /// A task failed
    Failed,
    /// A person is needed
    Human,
    /// Any of these, or the end of the build
    #[default]
    Any,
}

impl From<ForArg> for For {
    fn from(what: ForArg) -> For {
        match what {
            ForArg::Done => For::Done,
            ForArg::Failed => For::Failed,
            ForArg::Human => For::Human,
            ForArg::Any => For::Any,
        }
    }
}

/// Waits.
pub fn run(session: &Session, args: &WaitArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let signals = signals::listen()?;
    let limit = args.timeout.map(|limit| limit.0);
    let since = args.since.clone();
    match wait(session, &opened, args.what.into(), since, limit, |_, pause| signals.within(pause))? {
        Ok(waited) => tell(session, &waited),
        Err(signal) => Ok(exit::of_signal(signal)),
    }
}

fn tell(session: &Session, waited: &Waited) -> Result<u8, Error> {
    let Waited { seen, code, .. } = waited;
    let code = *code;
    let names = |state: State| {
        let tasks = seen.standing.tasks.iter().filter(|task| task.state == state);
        tasks.map(|task| task.task.clone()).collect()
    };
    let view = WaitView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        phase: seen.phase,
        timed_out: waited.timed_out(),
        failed: names(State::Failed),
        waiting: names(State::Waiting),
        news: waited.news.clone(),
        cursor: waited.cursor.to_string(),
        exit_code: code,
    };
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.say(&view.text());
    }
    Ok(code)
}
