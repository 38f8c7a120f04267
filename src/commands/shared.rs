//! What several commands do with an operation's result: building with progress on the terminal, and showing a plan.

use crate::commands::Session;
use crate::commands::args::HowArgs;
use crate::ops::build::{BuildControl, Screen, Targets, carry_out};
use crate::ops::plan::{Plan, plan};
use planexe_base::exit::{self, Error};
use planexe_base::signals;
use planexe_build::run_loop::Ended;
use planexe_pipeline::open::Opened;
use planexe_ui::progress;
use planexe_ui::views::SummaryView;

impl Session {
    /// Builds, shows progress, tells how it ended.
    pub fn build(&self, opened: &Opened, what: Targets, how: &HowArgs) -> Result<u8, Error> {
        let signals = signals::listen()?;
        Ok(self.build_under(opened, what, how, &BuildControl::new(&signals))?.0)
    }

    /// [`Session::build`], told what reaches it from outside; also returns how it ended, unless a signal came before it
    /// began.
    pub fn build_under(
        &self,
        opened: &Opened,
        what: Targets,
        how: &HowArgs,
        control: &BuildControl<'_>,
    ) -> Result<(u8, Option<Ended>), Error> {
        let options = self.progress_options(how.progress, what.explain);
        let sink = || progress::to_stderr(options);
        let closing = |view: &SummaryView| view.text(&self.err, self.globals.quiet);
        let screen = Screen { sink: &sink, closing: Some(&closing) };
        let built = carry_out(self, opened, what, &how.options(), control, screen)?;
        let Some((ended, view)) = built.ended else { return Ok((built.code, None)) };
        if self.globals.json {
            self.print_json(&view)?;
        }
        Ok((built.code, Some(ended)))
    }

    /// Builds for a command that has an answer of its own: only what goes wrong is told.
    pub fn make(&self, opened: &Opened, what: Targets, how: &HowArgs) -> Result<u8, Error> {
        let signals = signals::listen()?;
        let options = self.progress_options(how.progress, false);
        let sink = || progress::to_stderr(options);
        let closing = |view: &SummaryView| view.text(&self.err, true);
        let screen = Screen { sink: &sink, closing: Some(&closing) };
        Ok(carry_out(self, opened, what, &how.options(), &BuildControl::new(&signals), screen)?.code)
    }

    /// How a build is shown.
    pub fn progress_options(&self, how: progress::How, explain: bool) -> progress::Options {
        progress::Options {
            how,
            quiet: self.globals.quiet,
            verbose: self.globals.repeated.verbose > 0,
            explain,
            live: self.err_is_terminal && self.env.can_redraw(),
            style: self.err,
        }
    }

    /// Tells what a build would do: `build -n` and `build -q`.
    pub fn show_plan(
        &self,
        opened: &Opened,
        what: &Targets,
        how: &HowArgs,
        question: bool,
    ) -> Result<u8, Error> {
        let Plan { view, unjudged } = plan(self, opened, what, &how.options(), question)?;
        for line in unjudged {
            self.complain(&line);
        }
        if self.globals.json {
            self.print_json(&view)?;
        } else if !question {
            self.print(&view.text(&self.out, self.globals.repeated.verbose > 0))?;
        }
        let would_run = view.stale + view.depends > 0;
        Ok(if question && would_run { exit::STALE } else { exit::DONE })
    }
}
