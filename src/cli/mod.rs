//! The command line: what can be typed, what the environment says, and how the final error and exit code
//! come about. The only place that reads environment variables by name for planexe's own use.

use std::ffi::OsString;

use crate::commands::quick::Tried;
use crate::commands::{self, Globals, Session};
use crate::ops::session::Bundle;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::style::{self, GREEN, RED};
use planexe_store::null_build::UpToDate;
use planexe_ui::views as report;

mod answers;
mod definition;
mod help;

pub use definition::{Cli, Command, definition};

use definition::parse;

/// Reads the command line and the environment, runs the command, prints its error.
/// `bundle` is the pipeline that comes with the binary: paths and texts.
pub fn main(bundle: Bundle) -> u8 {
    let args: Vec<OsString> = std::env::args_os().collect();
    match commands::quick::try_build(&args, &variable) {
        Tried::Done(code, said) => {
            fs::complain(&said);
            code
        }
        Tried::Build(known) => run(args, known, bundle),
    }
}

fn run(mut args: Vec<OsString>, known: Option<UpToDate>, bundle: Bundle) -> u8 {
    if args.get(1).is_some_and(|first| first == crate::ops::detach::DETACHED_ARGUMENT) {
        crate::ops::detach::leave_session();
        args.remove(1);
    }
    let mut only = None;
    if args.get(1).is_some_and(|first| first == planexe_pipeline::allowed_pipelines::ARGUMENT) {
        let file = args.drain(1..args.len().min(3)).next_back().unwrap_or_default();
        only = Some(std::sync::Arc::new(planexe_pipeline::allowed_pipelines::Only::from_argument(
            &file, bundle,
        )));
    }
    if args.get(1).is_some_and(|first| first == planexe_base::process::LIFELINE_ARGUMENT) {
        let name = args.get(2).and_then(|name| name.to_str()).unwrap_or_default();
        planexe_base::process::lifeline_main(name, std::io::stdin().lock());
        return exit::DONE;
    }
    if args.get(1).is_some_and(|first| first == planexe_build::executor::ATTEMPT_ARGUMENT) {
        let dir = args.get(2).map(std::path::PathBuf::from).unwrap_or_default();
        return planexe_build::executor::supervisor::main(&dir);
    }
    // Before anything is opened.
    let make = planexe_build::jobserver::find(variable("MAKEFLAGS").as_deref());
    let typed = args.clone();
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, for standard output. Nobody reading is no failure.
            if let Err(lost) = error.print()
                && lost.kind() != std::io::ErrorKind::BrokenPipe
                && !error.use_stderr()
            {
                let session = Session::new(Globals::default(), environment());
                session.complain(&format!("error: cannot write to standard output: {lost}"));
                return exit::FAILED;
            }
            if error.use_stderr() && typed.iter().skip(1).any(|arg| arg == "--json") {
                let session = Session::new(Globals::default(), environment());
                let _ = session
                    .print_json(&report::ErrorView::from_error(&mistyped(&error, &typed), session.server()));
            }
            return error.exit_code() as u8;
        }
    };
    let mut session = Session::new(cli.globals, environment());
    session.ops.lookup = Some(variable);
    session.ops.build_words = commands::quick::words(&typed);
    let words = typed.iter().skip(1).map(|word| word.to_str().map(style::shell_word));
    session.ops.line = words.collect::<Option<Vec<_>>>().map(|words| words.join(" "));
    session.ops.known = known;
    session.ops.make = make;
    session.make_asks =
        planexe_build::jobserver::asks(variable("MAKEFLAGS").as_deref(), variable("MAKELEVEL").as_deref());
    session.ops.bundle = bundle;
    session.ops.place.only = only;
    let Some(command) = cli.command else {
        let help = definition().render_help();
        let text =
            if session.out.depth == style::Depth::None { help.to_string() } else { help.ansi().to_string() };
        return if session.print(&text).is_ok() { exit::DONE } else { exit::FAILED };
    };
    match dispatch(&session, command) {
        Ok(code) => code,
        Err(error) => {
            show(&session, &error);
            error.exit_code()
        }
    }
}

/// What is wrong with a command line, as the error of a command.
fn mistyped(error: &clap::Error, typed: &[OsString]) -> Error {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let tips = lines.filter_map(|line| line.strip_prefix("tip: "));
    let error = Error::usage(first.strip_prefix("error: ").unwrap_or(first)).code("command_line");
    let error = tips.fold(error, |error, tip| error.hint(tip));
    let definition = definition();
    let mut words = typed.iter().skip(1).filter_map(|word| word.to_str());
    let command = words.find(|word| definition.find_subcommand(word).is_some());
    error.hint(match command {
        Some(command) => format!("`planexe help {command}` tells what it takes"),
        None => "`planexe help` lists the commands".to_owned(),
    })
}

fn dispatch(session: &Session, command: Command) -> Result<u8, Error> {
    match command {
        Command::Build(args) => commands::build::run(session, &args),
        Command::Watch(args) => commands::watch::run(session, &args),
        Command::Resume(args) => commands::resume::run(session, &args),
        Command::Status(args) => commands::status::run(session, &args),
        Command::Stop(args) => commands::stop::run(session, &args),
        Command::Pause(args) => commands::pause::run(session, &args),
        Command::Abort(args) => commands::abort::run(session, &args),
        Command::Explain(args) => commands::explain::run(session, &args),
        Command::Show(args) => commands::show::run(session, &args),
        Command::Wait(args) => commands::wait::run(session, &args),
        Command::Events(args) => commands::events::run(session, &args),
        Command::Failures(args) => commands::failures::run(session, &args),
        Command::Usage(args) => commands::usage::run(session, &args),
        Command::Files(args) => commands::files::run(session, &args),
        Command::Simulate(args) => commands::simulate::run(session, &args),
        Command::Execute(args) => commands::execute::run(session, &args),
        Command::Gantt(args) => commands::gantt::run(session, &args),
        Command::Checkpoints(args) => commands::checkpoints::run(session, &args),
        Command::Clean(args) => commands::clean::run(session, &args),
        Command::EditPlan(args) => commands::edit_plan::run(session, &args),
        Command::Touch(args) => commands::touch::run(session, &args),
        Command::Interview(args) => commands::interview::run(session, &args),
        Command::Evidence(args) => commands::evidence::run(session, &args),
        Command::Done(args) => commands::done::run(session, &args),
        Command::Check(args) => commands::check::run(session, &args),
        Command::History(args) => commands::history::run(session, &args),
        Command::Restore(args) => commands::restore::run(session, &args),
        Command::Diff(args) => commands::diff::run(session, &args),
        Command::Record(args) => commands::record::run(session, &args),
        Command::New(args) => commands::new::run(session, &args),
        Command::Import(args) => commands::import::run(session, &args),
        Command::List(args) => commands::list::run(session, &args),
        Command::Archive(args) => commands::archive::run(session, &args),
        Command::Delete(args) => commands::delete::run(session, &args),
        Command::Mcp(args) => commands::mcp::run(session, &args),
        Command::Retry(args) => commands::retry::run(session, &args),
        Command::Gc(args) => commands::gc::run(session, &args),
        Command::Doctor(args) => commands::doctor::run(session, &args),
        Command::Trace(args) => commands::trace::run(session, &args),
        Command::Report(args) => commands::report::run(session, &args),
        Command::Ui(args) => commands::ui::run(session, &args),
        Command::Graph(args) => commands::graph::run(session, &args),
        Command::Schema(args) => commands::schema::run(session, &args, &answers::answers()),
        Command::Complexity(args) => commands::complexity::run(session, &args),
        Command::Optimize(args) => commands::optimize::run(session, &args),
        Command::Keys(args) => commands::keys::run(session, &args),
        Command::Man(args) => commands::man::run(session, &args, definition()),
        Command::Completions(args) => commands::completions::run(session, &args, definition()),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn environment() -> style::Environment {
    let var = variable;
    style::Environment {
        no_color: var("NO_COLOR"),
        colorterm: var("COLORTERM"),
        term: var("TERM"),
        columns: var("COLUMNS"),
        ci: var("CI"),
    }
}

/// Prints the error a command ended with: for people on standard error, and as data under `--json`.
fn show(session: &Session, error: &Error) {
    let hints = error.hints.iter().map(|hint| session.hint_here(hint)).collect();
    let error = &Error { hints, ..error.clone() };
    if session.globals.json {
        let _ = match &error.answer {
            Some(answer) => session.print_json(answer),
            None => session.print_json(&report::ErrorView::from_error(error, session.server())),
        };
    }
    session.complain(&lay_out(session, error));
}

fn lay_out(session: &Session, error: &Error) -> String {
    let style = session.err;
    let mut text = if error.rendered {
        error.message.trim_end().to_owned()
    } else {
        format!("{} {}", style.bold(&style.paint(RED, "error:")), style::clean(&error.message))
    };
    for cause in &error.causes {
        text += &format!("\n  caused by: {}", style::clean(cause));
    }
    for hint in &error.hints {
        text += &format!("\n{} {}", style.paint(GREEN, "hint:"), style::clean(hint.text()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Cli {
        parse(line.split(' ').map(OsString::from).collect()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn each_command_is_of_a_run_or_known_not_to_be() {
        let all = definition();
        let names = all.get_subcommands().map(clap::Command::get_name);
        let others: Vec<&str> = names.filter(|name| !crate::ops::session::OF_A_RUN.contains(name)).collect();
        assert_eq!(
            others,
            ["new", "import", "list", "archive", "delete", "mcp", "schema", "keys", "man", "completions"]
        );
    }

    #[test]
    fn examples_fit_a_terminal() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(planexe_base::style::width(line) <= 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn common_options_go_before_and_after_the_command() {
        for line in
            ["planexe -C runs/a -f p.toml status --json", "planexe status --json -C runs/a --file p.toml"]
        {
            let globals = parsed(line).globals;
            assert_eq!(globals.run_dir.as_deref(), Some("runs/a".as_ref()), "{line}");
            assert_eq!(globals.file.as_deref(), Some("p.toml".as_ref()), "{line}");
            assert!(globals.json, "{line}");
        }
        let globals = parsed("planexe -v -D a=1 -s -D b=2 build -vD c=3=4 --allow-outside x").globals;
        let define: Vec<_> =
            globals.repeated.define.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(define, [("a", "1"), ("b", "2"), ("c", "3=4")]);
        assert!(globals.quiet);
        assert_eq!((globals.repeated.allow_outside.len(), globals.repeated.verbose), (1, 2));
    }
}
