//! `planexe check`: reads the pipeline and reports every fault.

use clap::Args;

use crate::commands::Session;
use planexe_base::exit::{self, Error};
use planexe_base::style;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_ui::views::CheckView;

/// What `planexe check` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// Exit with 2 if there are warnings
    #[arg(long)]
    pub strict: bool,
}

/// Checks the pipeline. Faults are told where it is opened: all at once, with exit code 2.
pub fn run(session: &Session, args: &CheckArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let project = &opened.project;
    let warnings = session.warnings()?;
    let view = CheckView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        file: shown_path(&project.file),
        pipeline: project.name.clone(),
        tasks: project.specs.len() as u32,
        models: project.endpoints.len() as u32,
        faults: Vec::new(),
        warnings: warnings.to_json(),
    };
    if !session.globals.json && !session.globals.quiet && !warnings.is_empty() {
        let colour = session.err.depth != style::Depth::None;
        session.say(warnings.render(colour, session.err.columns()).trim_end_matches('\n'));
        session.say("");
    }
    if session.globals.json {
        session.print_json(&view)?;
    } else if !session.globals.quiet {
        session.print(&view.text())?;
    }
    Ok(if args.strict && !warnings.is_empty() { exit::USAGE } else { exit::DONE })
}
