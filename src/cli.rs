//! The command line: what can be typed, what the environment says, and how the final error and exit code
//! come about. The only place that reads environment variables by name for planexe's own use.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::quick::Tried;
use crate::commands::{self, Globals, Repeated, Session};
use crate::ops::session::Bundle;
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::style::{self, GREEN, RED};
use planexe_store::memo::Known;
use planexe_ui::views as report;

const LONG_ABOUT: &str = "\
make for LLM pipelines.

A pipeline is a graph of tasks in pipeline.toml: prompts to models, commands, templates. A run is a directory; the \
files in it are the only truth. `planexe build` runs what is stale, in parallel, stops cleanly, goes on where it \
stopped, and never pays twice for the same answer.";

const AFTER_HELP: &str =
    "`planexe COMMAND --help` explains a command; `planexe --help` also lists exit codes.";

const AFTER_LONG_HELP: &str = "\
Examples:
  planexe build                 make what is out of date
  planexe build -n              show what would run and why
  planexe status                see where the run stands
  planexe explain swot          see why swot would run again
  planexe -C runs/bakery build  make another run

Exit codes:
  0    done
  1    a task failed; of `build -q`: something is stale
  2    the command line, pipeline or set-up is wrong; nothing was run
  3    stopped short on purpose: a person, gate, budget, pause, stop file
  75   another planexe is working on the run directory
  129  ended by SIGHUP; 130 by SIGINT (Ctrl-C); 143 by SIGTERM

Environment:
  NO_COLOR                no colours, unless --color always
  COLUMNS                 width of the output
  PLANEXE_KEY_HOSTS       keys and the hosts they may go to
  PLANEXE_WEBHOOK_URL     an address to post events to
  PLANEXE_WEBHOOK_SECRET  what those are signed with (whsec_...)";

/// make for LLM pipelines
#[derive(Debug, Parser)]
#[command(
    name = "planexe",
    version,
    about,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 100,
    infer_subcommands = false,
    disable_help_subcommand = false
)]
pub struct Cli {
    /// Options every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// The command; help if left out.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What planexe can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what is stale
    #[command(after_help = BUILD_EXAMPLES)]
    Build(commands::build::BuildArgs),
    /// Build again whenever something it is made from is edited
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(commands::watch::WatchArgs),
    /// Say where a stopped or failed run continues, then build
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(commands::resume::ResumeArgs),
    /// Show the state of every task
    #[command(after_help = STATUS_EXAMPLES)]
    Status(commands::status::StatusArgs),
    /// Tell the running build to start nothing more
    #[command(after_help = STOP_NOTES)]
    Stop(commands::stop::StopArgs),
    /// Hold the running build until `planexe resume`
    #[command(after_help = PAUSE_NOTES)]
    Pause(commands::pause::PauseArgs),
    /// Give the run up; what is done is kept
    #[command(after_help = ABORT_NOTES)]
    Abort(commands::abort::AbortArgs),
    /// Say why a task would run, or why it need not
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(commands::explain::ExplainArgs),
    /// Show what a task was sent and what came back: prompt, answers, verdicts, log
    #[command(visible_alias = "log", after_help = SHOW_EXAMPLES)]
    Show(commands::show::ShowArgs),
    /// Wait until the running build ends, a task fails, or a person is needed
    #[command(after_help = WAIT_NOTES)]
    Wait(commands::wait::WaitArgs),
    /// List what happened in the builds of the run
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(commands::events::EventsArgs),
    /// List failed attempts, and how each class and model fares
    #[command(after_help = FAILURES_EXAMPLES)]
    Failures(commands::failures::FailuresArgs),
    /// Sum up calls, tokens and money by model and by task
    Usage(commands::usage::UsageArgs),
    /// List the outputs, inputs and records of the run
    #[command(after_help = FILES_EXAMPLES)]
    Files(commands::files::FilesArgs),
    /// Predict what a build of everything would take, by slots, from the durations of earlier builds
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(commands::simulate::SimulateArgs),
    /// List the completed tasks in order, each with its checkpoint
    Checkpoints(commands::checkpoints::CheckpointsArgs),
    /// Mark tasks to be made again; their outputs go to history
    #[command(visible_alias = "invalidate", after_help = CLEAN_EXAMPLES)]
    Clean(commands::clean::CleanArgs),
    /// Edit the plan, see what that makes stale, and say what to do about it
    #[command(after_help = EDIT_PLAN_EXAMPLES)]
    EditPlan(commands::edit_plan::EditPlanArgs),
    /// Mark tasks done, with their outputs as they are
    #[command(after_help = TOUCH_EXAMPLES)]
    Touch(commands::touch::TouchArgs),
    /// Show the schedule of the run: planned, done, under way, late
    #[command(after_help = GANTT_EXAMPLES)]
    Gantt(commands::gantt::GanttArgs),
    /// Make a finished plan into a project of work: its steps as tasks for models, programs and people
    #[command(after_help = EXECUTE_EXAMPLES)]
    Execute(commands::execute::ExecuteArgs),
    /// Say that a task waiting for a person is done, or let a paused gate pass
    Done(commands::done::DoneArgs),
    /// Read the pipeline and report every fault in it
    Check(commands::check::CheckArgs),
    /// List what is kept of former outputs
    History(commands::history::HistoryArgs),
    /// Bring former outputs back; the present ones go to history
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(commands::restore::RestoreArgs),
    /// Show how a task's outputs differ from what they were
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(commands::diff::DiffArgs),
    /// Pack the answers of a run into one file, to be played again without a model
    #[command(after_help = RECORD_EXAMPLES)]
    Record(commands::record::RecordArgs),
    /// Show how hard each task is said to be, which tier of models that means, and what calls used
    Complexity(commands::complexity::ComplexityArgs),
    /// Try several texts of one task's prompt, and keep the best
    #[command(visible_alias = "try", after_help = OPTIMIZE_EXAMPLES)]
    Optimize(commands::optimize::OptimizeArgs),
    /// Make a run directory for a pipeline
    #[command(after_help = NEW_EXAMPLES)]
    New(commands::new::NewArgs),
    /// List the runs in a folder
    #[command(after_help = LIST_EXAMPLES)]
    List(commands::list::ListArgs),
    /// Put a run aside, or take it back
    #[command(after_help = ARCHIVE_EXAMPLES)]
    Archive(commands::archive::ArchiveArgs),
    /// Remove a run with all it holds
    #[command(after_help = DELETE_NOTES)]
    Delete(commands::delete::DeleteArgs),
    /// Let an agent start, watch and repair runs (Model Context Protocol on standard input and output)
    #[command(after_help = MCP_NOTES)]
    Mcp(commands::mcp::McpArgs),
    /// Have failed tasks tried again, with fresh answers
    #[command(after_help = RETRY_EXAMPLES)]
    Retry(commands::retry::RetryArgs),
    /// Free disk space: forget old contents
    #[command(after_help = GC_EXAMPLES)]
    Gc(commands::gc::GcArgs),
    /// Look for what keeps a run from working, and say what to do about it
    Doctor(commands::doctor::DoctorArgs),
    /// Draw the tasks and the files between them
    #[command(after_help = GRAPH_EXAMPLES)]
    Graph(commands::graph::GraphArgs),
    /// Print the JSON Schema of pipeline.toml, for editors
    Schema(commands::schema::SchemaArgs),
    /// Show and bind which key may go to which host
    #[command(after_help = KEYS_EXAMPLES)]
    Keys(commands::keys::KeysArgs),
    /// Write the man pages
    #[command(hide = true)]
    Man(commands::man::ManArgs),
    /// Print a completion script
    #[command(hide = true)]
    Completions(commands::completions::CompletionsArgs),
}

const BUILD_EXAMPLES: &str = "\
Examples:
  planexe build                       all the pipeline makes by default
  planexe build report.html           one file and what it needs
  planexe build -n                    what would run, and why
  planexe build -B swot               swot and all it needs, asked afresh
  planexe build --only swot           swot alone
  planexe build -j 4 --max-cost 2.50  four at once; no call after 2.50 USD
  planexe build -q || echo stale      for scripts

Ctrl-C once: nothing more starts, what runs finishes and is recorded. Twice: all ends at once. Either way the next \
build continues from there.";

const WATCH_EXAMPLES: &str = "\
Examples:
  planexe watch                            all the pipeline makes by default
  planexe watch swot                       while editing prompts/swot.md
  planexe watch --exec 'xdg-open report.html'

An edit during a build ends the tasks that read what was edited, and no other. A task that failed is tried again when \
something it reads changes.";

const RESUME_EXAMPLES: &str = "\
Examples:
  planexe resume --dry-run            where it would go on
  planexe resume

`planexe build` goes on just as well; resume says first where, and refuses a run that never started or is complete.";

const STOP_NOTES: &str = "\
What runs finishes and is recorded; the build then exits 3, and `planexe resume` or `planexe build` goes on from there. \
A `planexe watch` ends, whether it builds or rests. If neither is running it says so, and exits 0. \
`touch .planexe/stop` does the same.";

const PAUSE_NOTES: &str = "\
What runs finishes; the build keeps its lock and starts nothing until `planexe resume`, or until the file \
.planexe/pause is gone. If no build is running it refuses, and exits 2: there is nothing to hold. \
`touch .planexe/pause` does the same.";

const ABORT_NOTES: &str = "\
Without --hard what runs finishes first. An aborted run is not resumed by chance: `planexe resume` wants --force, \
`planexe build` goes on as ever. If no build is running, a run that was begun and is not complete is marked as \
aborted.";

const STATUS_EXAMPLES: &str = "\
Examples:
  planexe status                      one line per task
  planexe status -v                   each item of a fan-out too
  planexe status --watch
  planexe status --json | jq .counts";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  planexe explain swot                what changed since swot was made
  planexe explain reviews/ann.json    by an output
  planexe explain 'review[ann]'       one item of a fan-out";

const SHOW_EXAMPLES: &str = "\
Examples:
  planexe show swot                   every kept call, then prompt and answer
  planexe show swot --call 2          those of the second call
  planexe show swot --answer > x.json the answer alone, as it came
  planexe log chart                   what its command said

Of a task that was never asked: the prompt as it would be sent now.";

const WAIT_NOTES: &str = "\
Exit codes:
  0    what was waited for happened; with `--for any`: the run is complete
  1    the run failed; with `--for failed` and `--for human`: it did not happen
  3    the run ended short, or a person is needed
  124  time ran out

While a build runs only what happens from now on counts, or since the look that --since names: what was told once does
not end the next wait.

Examples:
  planexe wait --timeout 30m
  planexe wait --for human && notify-send 'planexe needs you'";

const EVENTS_EXAMPLES: &str = "\
Examples:
  planexe events --since 10m
  planexe events --follow --json      a JSON object a line, until the build ends";

const FAILURES_EXAMPLES: &str = "\
Examples:
  planexe failures --task swot --class validation
  planexe failures runs/*             over many runs: which model does how";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  planexe simulate                    for 1 to 16 slots of each model
  planexe simulate --slots local=2    the other models by row, local with two
  planexe simulate --model cloud      as if every prompt asked that one

A build of all the targets need, as if nothing were done yet; `planexe build -n` tells what is left.";

const CLEAN_EXAMPLES: &str = "\
Examples:
  planexe clean swot --dry-run        list what would go
  planexe clean swot                  swot is made again, with a fresh answer
  planexe clean swot --downstream     and all that depends on it
  planexe clean --orphans -y          files of tasks no longer in the pipeline

Nothing is lost: `planexe restore` brings it back.";

const EDIT_PLAN_EXAMPLES: &str = "\
Examples:
  planexe edit-plan                                 in $VISUAL or $EDITOR
  planexe edit-plan --invalidate-from expert_review keep what is before it
  planexe edit-plan --set new.txt -n                what a new text makes stale
  planexe edit-plan --set - --all -y < new.txt      for scripts

The former plan goes to history: `planexe restore plan.txt` brings it back.";

const GANTT_EXAMPLES: &str = "\
Examples:
  planexe gantt                       phases and tasks, and the steps that press
  planexe gantt -v                    every step
  planexe gantt --watch               while a build runs
  planexe gantt --html plan.html      for a browser, to be sent or printed

With a schedule (`[pipeline] schedule`) by the calendar; without one what each task took, and what is to come.";

const EXECUTE_EXAMPLES: &str = "\
Examples:
  planexe execute bakery                  makes bakery-execution
  planexe execute bakery --into work -n   says what it would make in work
  planexe execute bakery --into work      the same again, after the plan changed
  planexe execute bakery --kind human --approve phases

What is done stays done as long as its step says the same.";

const TOUCH_EXAMPLES: &str = "\
Examples:
  planexe touch swot                  keep it, though its prompt changed

Outputs must be there and pass the task's schema and checks.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  planexe history swot                what is kept
  planexe restore swot                the version before this one; again: back
  planexe restore swot@3              version 3
  planexe restore --checkpoint ID     all outputs as they were then";

const DIFF_EXAMPLES: &str = "\
Examples:
  planexe diff swot                   what the last change changed
  planexe diff swot@3                 now against version 3
  planexe diff 'review[ann]'";

const FILES_EXAMPLES: &str = "\
Examples:
  planexe files                       the newest first
  planexe files --kind output --limit 10
  planexe files report.html           size, SHA-256, the task that makes it";

const LIST_EXAMPLES: &str = "\
Examples:
  planexe list                        the runs in ./runs, or here
  planexe list /home/me/runs --json
  planexe list --archived             those put aside";

const ARCHIVE_EXAMPLES: &str = "\
Examples:
  planexe archive runs/bakery         asks first; -y does not
  planexe archive --undo runs/.archived-bakery

The folder is renamed where it stands, to a name that `planexe list` skips; nothing in it is changed.";

const DELETE_NOTES: &str = "\
Examples:
  planexe delete runs/bakery          asks first; -y does not

Nothing brings it back. A folder that holds the pipeline itself, other runs or a repository is not removed, nor is one \
that a build is working on.";

const MCP_NOTES: &str = "\
A client starts it itself. What most are told (docs/mcp.md has more):
  {\"mcpServers\": {\"planexe\":
    {\"command\": \"planexe\", \"args\": [\"mcp\", \"--runs\", \"/home/me/runs\"]}}}

Examples:
  planexe mcp --runs /home/me/runs --pipeline plan/pipeline.toml
  planexe mcp --no-build              to look only

Builds continue after the server ends; what a build says goes to .planexe/build.log in its run. Keys come from the environment, \
never from the agent.";

const RETRY_EXAMPLES: &str = "\
Examples:
  planexe retry                       all that failed
  planexe retry swot --build          swot, now";

const GC_EXAMPLES: &str = "\
Examples:
  planexe gc --older-than 30d -n      what would go
  planexe gc --max-size 500M

What the run is now always stays: the outputs, and what each task made last.";

const RECORD_EXAMPLES: &str = "\
Examples:
  planexe record answers.json

Then, in pipeline.toml, a model with api = \"recorded\" and file = \"answers.json\" plays them.";

const OPTIMIZE_EXAMPLES: &str = "\
Examples:
  planexe optimize swot                     the files in prompts/variants/swot
  planexe optimize swot --variant terse.md -n     how many calls, at what cost
  planexe optimize swot --run runs/a --run runs/b --models local,cloud
  planexe optimize swot --propose 1 --rounds 200 --max-time 8h
  planexe optimize swot --promote terse     it becomes the prompt
  planexe optimize --list

Each text is tried alone, on the inputs of the reference runs, and scored by the task's evaluator. No file of a run \
is changed. Killed or stopped, the same command goes on without paying again.";

const NEW_EXAMPLES: &str = "\
Examples:
  planexe new runs/bakery --prompt \"A bakery in Ghent that ...\"
  planexe new runs/bakery --pipeline plan/pipeline.toml --profile cloud
  planexe -C runs/bakery build";

const GRAPH_EXAMPLES: &str = "\
Examples:
  planexe graph | dot -Tsvg > graph.svg
  planexe graph --format mermaid report";

const KEYS_EXAMPLES: &str = "\
Examples:
  planexe keys                                  what may go where
  planexe keys bind ACME_API_KEY llm.acme.example";

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

fn run(mut args: Vec<OsString>, known: Option<Known>, bundle: Bundle) -> u8 {
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
                let _ =
                    session.print_json(&report::ErrorView::of(&mistyped(&error, &typed), session.server()));
            }
            return error.exit_code() as u8;
        }
    };
    let mut session = Session::new(cli.globals, environment());
    session.ops.lookup = Some(variable);
    session.args = typed;
    session.known = known;
    session.make = make;
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
        Command::Done(args) => commands::done::run(session, &args),
        Command::Check(args) => commands::check::run(session, &args),
        Command::History(args) => commands::history::run(session, &args),
        Command::Restore(args) => commands::restore::run(session, &args),
        Command::Diff(args) => commands::diff::run(session, &args),
        Command::Record(args) => commands::record::run(session, &args),
        Command::New(args) => commands::new::run(session, &args),
        Command::List(args) => commands::list::run(session, &args),
        Command::Archive(args) => commands::archive::run(session, &args),
        Command::Delete(args) => commands::delete::run(session, &args),
        Command::Mcp(args) => commands::mcp::run(session, &args),
        Command::Retry(args) => commands::retry::run(session, &args),
        Command::Gc(args) => commands::gc::run(session, &args),
        Command::Doctor(args) => commands::doctor::run(session, &args),
        Command::Graph(args) => commands::graph::run(session, &args),
        Command::Schema(args) => commands::schema::run(session, &args),
        Command::Complexity(args) => commands::complexity::run(session, &args),
        Command::Optimize(args) => commands::optimize::run(session, &args),
        Command::Keys(args) => commands::keys::run(session, &args),
        Command::Man(args) => commands::man::run(session, &args, definition()),
        Command::Completions(args) => commands::completions::run(session, &args, definition()),
    }
}

/// The whole definition, as help, man pages and completions show it.
fn definition() -> clap::Command {
    fn with_repeated(command: clap::Command) -> clap::Command {
        // Only the options: what the struct says of itself is not for users.
        let repeated = Repeated::augment_args(clap::Command::new("repeated"));
        command.args(repeated.get_arguments()).mut_subcommands(with_repeated)
    }
    with_repeated(Cli::command())
}

fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let mut level = Some(&matches);
    while let Some(matches) = level {
        let here = Repeated::from_arg_matches(matches)?;
        let all = &mut cli.globals.repeated;
        all.define.extend(here.define);
        all.allow_outside.extend(here.allow_outside);
        all.verbose = all.verbose.saturating_add(here.verbose);
        level = matches.subcommand().map(|(_, below)| below);
    }
    Ok(cli)
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
    let hints = error.hints.iter().map(|hint| session.here(hint)).collect();
    let error = &Error { hints, ..error.clone() };
    if session.globals.json {
        let _ = match &error.answer {
            Some(answer) => session.print_json(answer),
            None => session.print_json(&report::ErrorView::of(error, session.server())),
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
        text += &format!("\n{} {}", style.paint(GREEN, "hint:"), style::clean(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ["new", "list", "archive", "delete", "mcp", "schema", "keys", "man", "completions"]
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
