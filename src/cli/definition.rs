//! What can be typed: the commands, their order, and the examples in their help.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::help;
use crate::commands::{self, Globals, Repeated};

const LONG_ABOUT: &str = "\
make for LLM pipelines.

A pipeline is a graph of tasks in pipeline.toml: prompts to models, commands, templates. A run is a directory, and \
its files hold all of its state. `planexe build` runs what is stale, in parallel, stops cleanly, continues where it \
stopped, and never pays twice for the same answer.";

const AFTER_HELP: &str =
    "`planexe COMMAND --help` explains a command; `planexe --help` also lists exit codes.";

const AFTER_LONG_HELP: &str = "\
Examples:
  planexe build                 run what is stale
  planexe build -n              show what would run and why
  planexe status                show the state of every task
  planexe explain swot          show why swot would run again
  planexe -C runs/bakery build  make another run

Exit codes:
  0    done
  1    a task failed, what was looked at does not hold (doctor, evidence check, touch), or a file
       could not be read or written; of `build -q`: something is stale
  2    the command line, pipeline or set-up is wrong; nothing was run
  3    ended early on purpose: a person, gate, budget, pause, stop file
  75   another planexe is working on the run directory
  124  `wait` timed out
  129  ended by SIGHUP; 130 by SIGINT (Ctrl-C); 143 by SIGTERM

Environment:
  NO_COLOR                no colours, unless --color always
  COLUMNS                 width of the output
  VISUAL, EDITOR          the editor of edit-plan
  HTTPS_PROXY, NO_PROXY   the way to servers on other machines
  XDG_CONFIG_HOME         where planexe/keys.toml and secrets.toml are [~/.config]
  XDG_STATE_HOME          where planexe/ has the key of its marks [~/.local/state]
  PLANEXE_KEY_HOSTS       keys and the hosts they are bound to
  PLANEXE_WEBHOOK_URL     an address to post events to
  PLANEXE_WEBHOOK_SECRET  the secret they are signed with (whsec_...)";

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
    /// Build again after every edit
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(commands::watch::WatchArgs),
    /// Show where a stopped or failed run continues, then build
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(commands::resume::ResumeArgs),
    /// Show the state of every task
    #[command(after_help = STATUS_EXAMPLES)]
    Status(commands::status::StatusArgs),
    /// Stop the running build once its running tasks finish
    #[command(after_help = STOP_NOTES)]
    Stop(commands::stop::StopArgs),
    /// Pause the running build until `planexe resume`
    #[command(after_help = PAUSE_NOTES)]
    Pause(commands::pause::PauseArgs),
    /// Abort the run; finished work is kept
    #[command(after_help = ABORT_NOTES)]
    Abort(commands::abort::AbortArgs),
    /// Explain why a task would run, or why not
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(commands::explain::ExplainArgs),
    /// Show a task's prompt, its answers, and its command's log
    #[command(visible_alias = "log", after_help = SHOW_EXAMPLES)]
    Show(commands::show::ShowArgs),
    /// Wait until the build ends, a task fails, or a person is needed
    #[command(after_help = WAIT_NOTES)]
    Wait(commands::wait::WaitArgs),
    /// List what happened in the builds of the run
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(commands::events::EventsArgs),
    /// List failed attempts, and count failures by class and model
    #[command(after_help = FAILURES_EXAMPLES)]
    Failures(commands::failures::FailuresArgs),
    /// Sum up calls, tokens and money by model and by task
    Usage(commands::usage::UsageArgs),
    /// List the outputs, inputs and records of the run
    #[command(after_help = FILES_EXAMPLES)]
    Files(commands::files::FilesArgs),
    /// Predict time and cost of a full build by number of slots
    ///
    /// It rests on the durations of earlier builds.
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(commands::simulate::SimulateArgs),
    /// List the completed tasks in order, each with its checkpoint
    Checkpoints(commands::checkpoints::CheckpointsArgs),
    /// Make tasks run again; their outputs go to history
    #[command(visible_alias = "invalidate", after_help = CLEAN_EXAMPLES)]
    Clean(commands::clean::CleanArgs),
    /// Edit the plan, see what becomes stale, and choose what to keep
    #[command(after_help = EDIT_PLAN_EXAMPLES)]
    EditPlan(commands::edit_plan::EditPlanArgs),
    /// Accept the outputs of tasks as they are, and mark the tasks done
    #[command(after_help = TOUCH_EXAMPLES)]
    Touch(commands::touch::TouchArgs),
    /// Show the schedule of the run: planned, done, running, late
    #[command(after_help = GANTT_EXAMPLES)]
    Gantt(commands::gantt::GanttArgs),
    /// Turn a finished plan into a project
    ///
    /// The steps of the plan become tasks for models, programs and people.
    #[command(after_help = EXECUTE_EXAMPLES)]
    Execute(commands::execute::ExecuteArgs),
    /// Look for what is missing in the plan, and ask for it
    #[command(after_help = INTERVIEW_EXAMPLES)]
    Interview(commands::interview::InterviewArgs),
    /// List and keep the sources that figures of a plan rest on
    #[command(after_help = EVIDENCE_EXAMPLES)]
    Evidence(commands::evidence::EvidenceArgs),
    /// Complete a task that waits for a person, or pass a paused gate
    Done(commands::done::DoneArgs),
    /// Read the pipeline and report every fault in it
    Check(commands::check::CheckArgs),
    /// List the former outputs that are kept
    History(commands::history::HistoryArgs),
    /// Restore former outputs; the present ones go to history
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(commands::restore::RestoreArgs),
    /// Show how a task's outputs differ from former ones
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(commands::diff::DiffArgs),
    /// Pack the answers of a run, to replay it without a model
    #[command(after_help = RECORD_EXAMPLES)]
    Record(commands::record::RecordArgs),
    /// Show each task's difficulty, its tier, and what its calls used
    Complexity(commands::complexity::ComplexityArgs),
    /// Try several texts of a prompt, and keep the best
    #[command(visible_alias = "try", after_help = OPTIMIZE_EXAMPLES)]
    Optimize(commands::optimize::OptimizeArgs),
    /// Make a run directory for a pipeline
    #[command(after_help = NEW_EXAMPLES)]
    New(commands::new::NewArgs),
    /// Make a run from a folder of another program, such as PlanExe
    ///
    /// It gets the plan and every answer that fits.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(commands::import::ImportArgs),
    /// List the runs in a folder
    #[command(after_help = LIST_EXAMPLES)]
    List(commands::list::ListArgs),
    /// Archive a run, or bring it back
    #[command(after_help = ARCHIVE_EXAMPLES)]
    Archive(commands::archive::ArchiveArgs),
    /// Delete a run and everything in it
    #[command(after_help = DELETE_NOTES)]
    Delete(commands::delete::DeleteArgs),
    /// Let an agent start, watch and repair runs
    ///
    /// The server speaks the Model Context Protocol on standard input and output.
    #[command(after_help = MCP_NOTES)]
    Mcp(commands::mcp::McpArgs),
    /// Retry failed tasks, with fresh answers
    #[command(after_help = RETRY_EXAMPLES)]
    Retry(commands::retry::RetryArgs),
    /// Free disk space: delete old contents, answers and checkpoints
    #[command(after_help = GC_EXAMPLES)]
    Gc(commands::gc::GcArgs),
    /// Find what keeps a run from working, and say what to do
    Doctor(commands::doctor::DoctorArgs),
    /// Draw the graph of tasks and files
    #[command(after_help = GRAPH_EXAMPLES)]
    Graph(commands::graph::GraphArgs),
    /// Show a run, or the runs of a folder, as a live page
    ///
    /// It is served to the browsers of this machine.
    #[command(after_help = UI_NOTES)]
    Ui(commands::ui::UiArgs),
    /// Write the run as one page: state, graph, timeline, cost, failures
    ///
    /// The page also holds the prompts and the answers. It works from disk, without network.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(commands::report::ReportArgs),
    /// Write calls and waits with their times, for Perfetto
    ///
    /// chrome://tracing reads it too.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(commands::trace::TraceArgs),
    /// Print the JSON Schema of pipeline.toml, or of an answer
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

const INTERVIEW_EXAMPLES: &str = "\
One call looks at the plan; up to five questions follow, each with suggestions. Answers
are added to the end of the plan, word for word. The same plan is not looked at twice.

Examples:
  planexe new my-plan --prompt 'Open a bicycle library in Bruges'
  planexe -C my-plan interview
  planexe interview --check --json    for a program; exit 3: not enough
  planexe interview --answer 'budget=EUR 80,000 in all'";

const EVIDENCE_EXAMPLES: &str = "\
A source is kept whole in evidence/, with where it is from, the day, and the words
that count. These are compared with the figure; no model is asked, and nothing is
fetched: a person pastes, or a program that you choose fetches.

Examples:
  planexe evidence                    the sources, and whether they stand
  planexe evidence check              the same; exit 1 if one does not
  planexe evidence add cost_2 --from 'offer of 1 May' --source offer.txt \\
      --excerpt 'EUR 1,450 a month' --means '1450 [EUR/month] * 24 [months]'
  curl -fsS \"$URL\" | planexe evidence add cost_2 --from \"$URL\" \\
      --excerpt 'EUR 34,800' --good-until 2027-06-30";

const BUILD_EXAMPLES: &str = "\
Examples:
  planexe build                       the default targets of the pipeline
  planexe build report.html           one file and what it needs
  planexe build -n                    what would run, and why
  planexe build -B swot               swot and all it needs, with fresh answers
  planexe build --only swot           swot alone
  planexe build -j 4 --max-cost 2.50  four at once; no call after 2.50 USD
  planexe build -q || echo stale      for scripts

Ctrl-C once: no more tasks start, running tasks finish and are recorded. Twice: everything ends at once. In both cases \
the next build continues from there.";

const WATCH_EXAMPLES: &str = "\
Examples:
  planexe watch                            the default targets of the pipeline
  planexe watch swot                       while editing prompts/swot.md
  planexe watch --exec 'xdg-open report.html'

An edit during a build ends only the running tasks that read the edited file. A failed task is tried again when \
something it reads changes.";

const RESUME_EXAMPLES: &str = "\
Examples:
  planexe resume --dry-run            where it would continue
  planexe resume

`planexe build` continues too; resume first shows where, and refuses a run that never started or is complete.";

const STOP_NOTES: &str = "\
Running tasks finish and are recorded; the build then exits 3, and `planexe resume` or `planexe build` continues from \
there. `planexe watch` ends too, during a build or between two. If neither is running, stop says so and exits 0. \
`touch .planexe/stop` does the same.";

const PAUSE_NOTES: &str = "\
Running tasks finish; the build keeps its lock and starts nothing until `planexe resume`, or until the file \
.planexe/pause is removed. If no build is running, pause refuses and exits 2. \
`touch .planexe/pause` does the same.";

const ABORT_NOTES: &str = "\
Without --hard, running tasks finish first. `planexe resume` continues an aborted run only with --force; `planexe build` \
continues it as usual. If no build is running, a run that was started and is not complete is marked as aborted.";

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
  planexe show swot --call 2          prompt and answer of the second call
  planexe show swot --answer > x.json the answer alone, as it came
  planexe log chart                   the output of its command

For a task without calls, it shows the prompt that would be sent now.";

const UI_NOTES: &str = "\
Examples:
  planexe ui --open                  the run here
  planexe ui runs                    all runs of a folder
  planexe ui --allow-changes         with buttons: pause, retry, pass gates

It listens on 127.0.0.1 only. The address it prints holds a token that is made anew each time; without it nothing of a run \
is answered. docs/seeing.md describes the page and what it asks for.";

const REPORT_EXAMPLES: &str = "\
Examples:
  planexe report --html run.html      the run here, to mail or keep
  planexe report runs/bakery --html b.html

The page is one file without scripts; it loads nothing and works from disk. Long texts are cut and tasks beyond about 10 MB \
left out; the page says so. Keys are replaced.";

const TRACE_EXAMPLES: &str = "\
Examples:
  planexe trace -o trace.json         to open at https://ui.perfetto.dev
  planexe trace runs/* -o trace.json  several runs on one axis

A process is a run, a thread is a slot; waits stand on threads of their own. Under them: calls in flight, and the cost.";

const WAIT_NOTES: &str = "\
Exit codes:
  0    what was waited for happened; with `--for any`: the run is complete
  1    the run failed; with `--for failed` or `human`: it is complete without
  3    the run ended early, or a person is needed
  124  timed out

While a build runs, only events after the start of `wait` count, or after the look that --since names: an event that was \
reported once does not end the next wait.

Examples:
  planexe wait --timeout 30m
  planexe wait --for human && notify-send 'planexe needs you'";

const EVENTS_EXAMPLES: &str = "\
Examples:
  planexe events --since 10m
  planexe events --follow --json      an object per line, until the build ends";

const FAILURES_EXAMPLES: &str = "\
Examples:
  planexe failures --task swot --class validation
  planexe failures runs/*             compare models over many runs";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  planexe simulate                    for 1 to 16 slots of each model
  planexe simulate --slots local=2    two slots for local, the others by row
  planexe simulate --model cloud      as if every prompt used that model
  planexe simulate --speed local=400/30 --answers 4
                                      at 400 tokens read and 30 written a
                                      second, with answers four times as long
  planexe simulate --price-mode batch --batch-takes 2h
                                      in batches of two hours, at half price

Predicts a full build of the targets from scratch; `planexe build -n` shows what is left to do.";

const CLEAN_EXAMPLES: &str = "\
Examples:
  planexe clean swot --dry-run        list what would be removed
  planexe clean swot                  swot runs again, with a fresh answer
  planexe clean swot --downstream     and everything that depends on it
  planexe clean --orphans -y          files of tasks no longer in the pipeline

`planexe restore` brings the outputs back.";

const EDIT_PLAN_EXAMPLES: &str = "\
Examples:
  planexe edit-plan                                  in $VISUAL or $EDITOR
  planexe edit-plan --invalidate-from expert_review  keep everything before it
  planexe edit-plan --set new.txt -n                 what a new text makes stale
  planexe edit-plan --set - --all -y < new.txt       for scripts

The former plan goes to history: `planexe restore plan.txt` brings it back.";

const GANTT_EXAMPLES: &str = "\
Examples:
  planexe gantt                       phases, tasks and urgent steps
  planexe gantt -v                    every step
  planexe gantt --watch               while a build runs
  planexe gantt --html plan.html      a page to send or print

With a schedule (`[pipeline] schedule`) the axis is the calendar; without one it shows how long tasks took and will take.";

const EXECUTE_EXAMPLES: &str = "\
Examples:
  planexe execute bakery                  makes bakery-execution
  planexe execute bakery --into work -n   shows what it would make in work
  planexe execute bakery --into work      the same again, after the plan changed
  planexe execute bakery --kind human --approve phases

Completed steps are kept unless their text in the plan changes.";

const TOUCH_EXAMPLES: &str = "\
Examples:
  planexe touch swot                  keep the answer though the prompt changed

The outputs must exist and pass the task's schema and checks.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  planexe history swot                the versions that are kept
  planexe restore swot                the former version; again: the present one
  planexe restore swot@3              version 3
  planexe restore --checkpoint ID     all outputs as they were then";

const DIFF_EXAMPLES: &str = "\
Examples:
  planexe diff swot                   the last change
  planexe diff swot@3                 version 3 and now
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
  planexe list --archived             archived runs";

const ARCHIVE_EXAMPLES: &str = "\
Examples:
  planexe archive runs/bakery         asks first; -y does not
  planexe archive --undo runs/.archived-bakery

The folder is renamed in place, to a name that `planexe list` skips; nothing in it is changed.";

const DELETE_NOTES: &str = "\
Examples:
  planexe delete runs/bakery          asks first; -y does not

This cannot be undone. A folder that contains the pipeline itself, other runs or a repository is not deleted, nor is \
one that a build is working on.";

const MCP_NOTES: &str = "\
The client starts the server. Most clients are configured like this (more in docs/mcp.md):
  {\"mcpServers\": {\"planexe\":
    {\"command\": \"planexe\", \"args\": [\"mcp\", \"--runs\", \"/home/me/runs\"]}}}

Examples:
  planexe mcp --runs /home/me/runs --pipeline plan/pipeline.toml
  planexe mcp --no-build              starts no build, asks no model

Builds continue after the server ends; their output goes to .planexe/build.log in the run. Keys come from the \
environment, never from the agent.";

const RETRY_EXAMPLES: &str = "\
Examples:
  planexe retry                       all that failed
  planexe retry swot --build          swot, now";

const GC_EXAMPLES: &str = "\
Examples:
  planexe gc --older-than 30d -n      what would be deleted
  planexe gc --max-size 500M

The present state of the run always stays: the outputs, and the latest result of each task.";

const RECORD_EXAMPLES: &str = "\
Examples:
  planexe record answers.json

In pipeline.toml, a model with api = \"recorded\" and file = \"answers.json\" then replays them.";

const OPTIMIZE_EXAMPLES: &str = "\
Examples:
  planexe optimize swot                     the files in prompts/variants/swot
  planexe optimize swot --variant terse.md -n     the expected calls and cost
  planexe optimize swot --run runs/a --run runs/b --models local,cloud
  planexe optimize swot --propose 1 --rounds 200 --max-time 8h
  planexe optimize swot --promote terse     it becomes the prompt
  planexe optimize --list

Each text is tried separately, on the inputs of the reference runs, and scored by the task's evaluator. No file of a run \
is changed. After a kill or stop, the same command continues without paying again.";

const NEW_EXAMPLES: &str = "\
Examples:
  planexe new runs/bakery --prompt \"A bakery in Ghent that ...\"
  planexe new runs/bakery --pipeline plan/pipeline.toml --profile cloud
  planexe -C runs/bakery build";

const IMPORT_EXAMPLES: &str = "\
Examples:
  planexe import planexe old/20260215_bakery -n
  planexe import planexe old/20260215_bakery --into runs/bakery
  planexe -C runs/bakery build

The folder is one of PlanExe (v1) or PlanExe2; it is only read. An answer is taken if it was given to this plan, if the \
records of PlanExe2 say that it is up to date, and if it holds here; the next build then asks nobody for it. Everything else \
is told with the reason, and asked anew.";

const GRAPH_EXAMPLES: &str = "\
Examples:
  planexe graph --format svg > graph.svg
  planexe graph --state | dot -Tpng > graph.png
  planexe graph --format mermaid report";

const KEYS_EXAMPLES: &str = "\
Examples:
  planexe keys                                  what may go where
  planexe keys bind ACME_API_KEY llm.acme.example";

/// The whole definition, as help, man pages and completions show it.
pub fn definition() -> clap::Command {
    fn with_repeated(command: clap::Command, repeated: &clap::Command) -> clap::Command {
        command.args(repeated.get_arguments()).mut_subcommands(|below| with_repeated(below, repeated))
    }
    // Only the options: what the struct says of itself is not for users.
    let repeated = Repeated::augment_args(clap::Command::new("repeated"));
    help::grouped(with_repeated(Cli::command(), &repeated))
}

/// Reads a command line.
pub(super) fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
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
