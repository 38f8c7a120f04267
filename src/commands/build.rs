//! `planexe build`: runs what is stale.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};

use crate::build::{Build, Edits, Ended, Failed, Parts, Stopped, Wanted};
use crate::cancel::Cancel;
use crate::commands::{Session, deliver, plan, quick, session_find};
use crate::commits;
use crate::cores;
use crate::engine::{self, Engine, Mode, OnFailure, Target, TaskInfo};
use crate::eta;
use crate::event;
use crate::exit::{self, Error, Kind};
use crate::graph::{TaskId, is_item};
use crate::isolation::{self, Isolation};
use crate::keys::KeyRing;
use crate::lifecycle::{self, RunRecord};
use crate::llm::limits::Limits;
use crate::load::keep_compiled;
use crate::make::{Asks, Make};
use crate::manifest::types::{Budget, By, Span};
use crate::memo::{self, Known};
use crate::notify::{self, Notifier, Telling};
use crate::open::Opened;
use crate::open_files;
use crate::process::{Lifeline, Watchdog};
use crate::progress::{self, Gather, Sink};
use crate::project::Project;
use crate::record::Failure;
use crate::report::{FailedView, Outcome, SummaryView, WaitingView};
use crate::runner::providers::Providers;
use crate::runner::{self, Tools};
use crate::signals::{self, Signals};
use crate::slots::Slots;
use crate::staleness::Rules;
use crate::store::Store;
use crate::store::control::Controls;
use crate::store::index::Index;
use crate::store::lock::RunLock;
use crate::store::logs::Logs;
use crate::style;
use crate::units::Units;

/// Most commands at once under make, whatever its `-j`.
const TURNS: usize = 64;
/// At most so many tasks that wait for a person are named in what to type next.
const WAITING: usize = 5;

/// What `planexe build` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct BuildArgs {
    /// Tasks or outputs to make [default: what the pipeline names as its default, else everything]
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,

    /// Show what would run and why; run nothing, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Run nothing; the exit code is 0 if all is up to date, 1 if something is stale
    #[arg(short = 'q', long, conflicts_with = "dry_run")]
    pub question: bool,

    /// Run the targets and all they need even if they are up to date, with fresh answers
    #[arg(short = 'B', long)]
    pub always_make: bool,

    /// Run the targets alone, not what they need
    #[arg(long, requires = "targets")]
    pub only: bool,

    /// Say of each task that runs why it is stale
    #[arg(long)]
    pub explain: bool,

    /// How the build is carried out.
    #[command(flatten)]
    pub how: HowArgs,
}

/// How a build is carried out: shared by `build` and `resume`.
#[derive(Debug, Clone, Default, Args)]
pub struct HowArgs {
    /// Run at most N tasks at once, commands too [default: a command for each core, and as many calls as the models take]
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<u32>,

    /// After a failure go on with what does not depend on it (this is the default)
    #[arg(short, long, group = "on_failure")]
    pub keep_going: bool,

    /// After a failure start nothing more; what runs finishes
    #[arg(long, group = "on_failure")]
    pub fail_fast: bool,

    /// After a failure stop everything at once
    #[arg(long, group = "on_failure")]
    pub stop_all: bool,

    /// Leave tasks that failed before as they are
    #[arg(long)]
    pub keep_failed: bool,

    /// Ask this model, by its name in the pipeline, instead of those the tasks name
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// `model`: treat tasks made with another model or other parameters as stale
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub rebuild_on: Vec<RebuildOn>,

    /// Exit 1 if a task is done with items missing
    #[arg(long)]
    pub strict: bool,

    /// Refuse answers recorded for another prompt
    #[arg(long)]
    pub frozen: bool,

    /// Let a command that exits with an error fail, whatever its evaluator would say
    #[arg(long)]
    pub no_rescue: bool,

    /// Do not look for kept answers; ask again
    #[arg(long)]
    pub no_reuse: bool,

    /// Wait for another planexe on this run to end, rather than exit 75
    #[arg(long)]
    pub wait: bool,

    /// Take no lock, where the file system has none; two builds at once will then spoil each other's work
    #[arg(long, conflicts_with = "wait")]
    pub no_lock: bool,

    /// Start no further call once this build has cost so many USD
    #[arg(long, value_name = "USD", value_parser = parse_cost)]
    pub max_cost: Option<f64>,

    /// Start no further call once this build has used so many tokens, prompts and answers together (200000, 200k, 1.5M)
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub max_tokens: Option<u64>,

    /// Start no further call once this build has made so many, those of evaluators too
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,

    /// Start no further task after this time (90s, 15m, 8h)
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub max_time: Option<Span>,

    /// Post events to this address too; may be repeated
    #[arg(long, value_name = "URL")]
    pub webhook: Vec<String>,

    /// How to show what happens: auto, plain (a line per start and end), json (events on standard error), none
    #[arg(long, value_name = "HOW", value_enum, default_value_t, hide_possible_values = true)]
    pub progress: progress::How,
}

impl HowArgs {
    /// What to do after a failure.
    pub fn on_failure(&self) -> OnFailure {
        match (self.fail_fast, self.stop_all) {
            (true, _) => OnFailure::FailFast,
            (_, true) => OnFailure::StopAll,
            _ => OnFailure::KeepGoing,
        }
    }
}

/// What else makes a task stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RebuildOn {
    /// Another model, or other parameters
    Model,
}

/// `-j`.
pub fn parse_jobs(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|jobs| *jobs > 0).ok_or_else(|| "wanted a number from 1 up".to_owned())
}

pub fn parse_cost(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd >= 0.0 => Ok(usd),
        _ => Err("wanted an amount of USD, for example 2.50".to_owned()),
    }
}

pub fn parse_tokens(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.trim_end().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    match number.trim().replace('_', "").parse::<f64>() {
        Ok(count) if count.is_finite() && count >= 0.0 && count * unit < 1e18 => {
            Ok((count * unit).round() as u64)
        }
        _ => Err("wanted a number of tokens, for example 200000, 200k or 1.5M".to_owned()),
    }
}

/// Builds.
pub fn run(session: &Session, args: &BuildArgs) -> Result<u8, Error> {
    let question = args.question || session.make_asks == Some(Asks::Question);
    let only_tells = question || args.dry_run || session.make_asks.is_some();
    let mut opened = if only_tells { session.open(false)? } else { session.open_to_build()? };
    if opened.project.specs.is_empty() {
        return Err(no_tasks(&opened));
    }
    if let Some(model) = &args.how.model {
        ask_only(&mut opened, model)?;
    }
    let targets = target_ids(&opened, &args.targets)?;
    let what = What {
        targets,
        typed: args.targets.clone(),
        only: args.only,
        force: args.always_make,
        explain: args.explain,
    };
    if only_tells {
        return plan::run(session, &opened, &what, &args.how, question);
    }
    let code = carry_out(session, &opened, what, &args.how);
    // The process ends: to take 100,000 tasks apart piece by piece would be for nothing.
    std::mem::forget(opened);
    code
}

/// A pipeline without tasks is one that is not written yet: all of nothing is no success.
fn no_tasks(opened: &Opened) -> Error {
    let file = crate::manifest::fault::shown_path(&opened.project.file);
    Error::new(Kind::Manifest, format!("`{file}` has no tasks"))
        .code("no_tasks")
        .hint("a task is a table: `[task.NAME]` with `outputs` and a `prompt`, `command` or `template`")
        .hint("`planexe new DIR`, where there is no pipeline, writes an example to start from")
}

/// `--model`: every prompt asks this model alone.
pub fn ask_only(opened: &mut Opened, name: &str) -> Result<(), Error> {
    let at = find_model(opened, name)?;
    if let Some(project) = Arc::get_mut(&mut opened.project) {
        project.ask_only(at);
    }
    Ok(())
}

/// The position of a model of the pipeline.
pub fn find_model(opened: &Opened, name: &str) -> Result<usize, Error> {
    let at = opened.project.endpoints.iter().position(|endpoint| endpoint.name == name);
    at.ok_or_else(|| {
        let known: Vec<&str> =
            opened.project.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let hint = crate::manifest::suggest(name, known);
        Error::usage(format!("no model is called `{name}`"))
            .code("unknown_model")
            .hint(hint.unwrap_or_else(|| "the pipeline has no models".to_owned()))
    })
}

/// What is to be built.
#[derive(Debug, Clone, Default)]
pub struct What {
    /// The targets; keys limit a fan-out to some of its items.
    pub targets: Vec<Target>,
    /// The targets as they were typed; none of a bare build.
    pub typed: Vec<String>,
    /// The targets alone.
    pub only: bool,
    /// `-B`.
    pub force: bool,
    /// `--explain`.
    pub explain: bool,
}

/// The tasks that were named, or those of a bare build.
pub fn target_ids(opened: &Opened, names: &[String]) -> Result<Vec<Target>, Error> {
    let named = targets(opened, names)?;
    Ok(if named.is_empty() { opened.project.default.iter().map(|&id| (id, None)).collect() } else { named })
}

/// Whether the items of a fan-out are made by tasks, so that another one may come yet.
fn is_made(opened: &Opened, family: TaskId) -> bool {
    let project = &opened.project;
    let foreach = project.spec(&project.graph[family]).foreach.as_ref();
    foreach.is_some_and(|foreach| match &foreach.file {
        Some(file) => project.graph.is_produced(file),
        None => true,
    })
}

/// The tasks that were named.
pub fn targets(opened: &Opened, names: &[String]) -> Result<Vec<Target>, Error> {
    let mut targets: Vec<Target> = Vec::new();
    for name in names {
        let named = session_find(opened, name)?;
        if named.key.is_some() && !is_made(opened, named.task) {
            let units = Units::new(&opened.project, &opened.store);
            units.check(&named).map_err(|message| Error::usage(message).code("unknown_item"))?;
        }
        let keys = named.key.map(|key| HashSet::from([key]));
        match targets.iter_mut().find(|(id, _)| *id == named.task) {
            Some((_, Some(known))) if keys.is_some() => known.extend(keys.unwrap_or_default()),
            Some((_, known)) => *known = None,
            None => targets.push((named.task, keys)),
        }
    }
    Ok(targets)
}

/// Builds under the lock, shows progress, tells how it ended.
pub fn carry_out(session: &Session, opened: &Opened, what: What, how: &HowArgs) -> Result<u8, Error> {
    let signals = signals::listen();
    let outside = Outside {
        signals: &signals,
        edits: None,
        controls: None,
        keep_same_failed: false,
        known_failures: &[],
        silent_end: false,
    };
    Ok(carry_out_under(session, opened, what, how, &outside)?.0)
}

/// What reaches a build from outside.
pub struct Outside<'a> {
    /// Signals that may end it.
    pub signals: &'a Signals,
    /// Edits of what it is made from.
    pub edits: Option<&'a Receiver<Edits>>,
    /// The files by which it is steered, if somebody looked at them before it.
    pub controls: Option<&'a Controls>,
    /// Leave a task that failed as it is while nothing it is made from changed.
    pub keep_same_failed: bool,
    /// Failures that were told already.
    pub known_failures: &'a [(String, Failure)],
    /// It is a part of something else, which tells how it ended.
    pub silent_end: bool,
}

/// [`carry_out`], told what reaches it from outside; also returns how it ended, unless a signal came before it began.
pub fn carry_out_under(
    session: &Session,
    opened: &Opened,
    what: What,
    how: &HowArgs,
    outside: &Outside<'_>,
) -> Result<(u8, Option<Ended>), Error> {
    let signals = outside.signals;
    deliver::check_addresses(&how.webhook)?;
    let mut lock = match lock_unless_signalled(session, opened, how, signals)? {
        Ok(lock) => lock,
        Err(signal) => return Ok((exit::of_signal(signal), None)),
    };
    // At once: from here on `planexe stop` means this build.
    let controls = outside.controls.cloned().unwrap_or_else(|| Controls::new(&opened.store));
    // Before the caches of a build with nothing to do are written, too.
    opened.store.require_own_folder()?;
    let (known, index) = what_is_known(session, opened);
    // What was known is known no more: tasks that were left out have to be looked at after all.
    let whole;
    let (opened, what) = match (&known, &opened.project.left_out) {
        (None, Some(_)) => {
            whole = session.open(false)?;
            let targets = target_ids(&whole, &[])?;
            (&whole, What { targets, ..what })
        }
        _ => (opened, what),
    };
    let (project, store) = (&opened.project, &opened.store);
    let isolation = isolation_of(project, store, &what)?;
    let key_variables = key_variables(project);
    let keys = session.keys()?;
    let notifier = Notifier::new(project, &keys, &how.webhook, &key_variables);
    let (tell, events) = channel();
    let tools = tools(session, opened, how, keys, key_variables, index.clone(), tell);
    let tools = Arc::new(Tools { isolation, ..tools });
    let make = turns(session, how);
    let options = engine::Options { on_failure: how.on_failure(), only: what.only };
    let (engine, workers) = engine(session, project, how, options.clone(), &index);
    check_models(&tools, &engine, &what, project)?;
    let at_once = engine.at_once();
    let mut run = RunRecord::new(store, project, known.is_some());
    let after_kill = store.was_killed();
    let env = |name: &str| session.variable(name);
    let mut sink = Gather::new(progress::to_stderr(progress_options(session, how, what.explain)));
    let mut telling = Telling::new(&mut sink, notifier, tools.clone());
    let mut kept = false;
    let ended = std::thread::scope(|beside| {
        Build::new(Parts {
            project,
            store,
            tools: tools.clone(),
            events,
            rules: rules(project, how, what.force),
            no_reuse: how.no_reuse,
            env: &env,
            engine,
            wanted: wanted(project, &what, how, options, outside),
            sink: &mut telling,
            signals,
            edits: outside.edits,
            controls,
            threads: workers + if make.is_some() { TURNS } else { 0 },
            after_kill,
            began_ns: opened.began_ns,
            known,
            calls_take_turns: make.is_some() && project.tables.jobserver.calls,
            make,
            prepare: &mut || {
                run.begin(&mut lock, &tools, at_once)?;
                if let Some(isolation) = &tools.isolation {
                    isolation.pin(store)?;
                }
                // While the first programs run, a core has the time for it.
                if project.graph.len() >= cores::WORTH_IT && !std::mem::replace(&mut kept, true) {
                    beside.spawn(|| keep_compiled(project, &opened.options));
                }
                Ok(())
            },
        })
        .run()
    });
    if !kept {
        keep_compiled(project, &opened.options);
    }
    keep_for_later(session, opened, &index, &tools, &ended);
    if tools.isolation.is_some()
        && let Err(error) = store.unpin()
    {
        session.say(&format!("warning: {error}"));
    }
    run.end(&ended);
    let by_signal = matches!(ended.stopped, Some(Stopped::Signal(_)));
    for said in telling.into_notifier().close(by_signal, || signals.pending().is_some()) {
        sink.event(&runner::stamp(event::Kind::Note { task: None, message: said, warning: true }));
    }
    let code = exit_code(&ended, how.strict);
    let mut view = summary_view(session, opened, &what, how, &ended, code);
    view.tasks = std::mem::take(&mut sink.tasks);
    let said =
        if outside.silent_end { String::new() } else { view.text(&session.err, session.globals.quiet) };
    sink.finish(&said);
    // A build that knew everything to be up to date would not come to think of commits that are missing.
    let is_recorded = !(opened.project.tables.git.commit_on_done && commits::are_due(&opened.store));
    if let (Some(words), exit::DONE, true) = (quick::words(session), code, is_recorded) {
        remember(&view, &index, opened, &ended, known, words);
    }
    if session.globals.json && !outside.silent_end {
        session.print_json(&view)?;
    }
    drop(lock);
    Ok((code, Some(ended)))
}

/// What is found of git, if a task that is wanted is isolated.
fn isolation_of(project: &Project, store: &Store, what: &What) -> Result<Option<Isolation>, Error> {
    if project.specs.iter().all(|spec| spec.isolate.is_none()) {
        return Ok(None);
    }
    let ids: Vec<TaskId> = what.targets.iter().map(|(id, _)| *id).collect();
    let mask = project.graph.upstream(&ids);
    let wanted = project.graph.ids().filter(|id| mask[id.index()]);
    let specs = wanted.filter_map(|id| project.spec(&project.graph[id]).isolate.as_ref());
    let bases: Vec<Option<String>> = specs.map(|isolate| isolate.base.clone()).collect();
    if bases.is_empty() { Ok(None) } else { isolation::find(project, store, &bases).map(Some) }
}

/// Takes the lock, or the signal that came while it was waited for.
fn lock_unless_signalled(
    session: &Session,
    opened: &Opened,
    how: &HowArgs,
    signals: &Signals,
) -> Result<Result<RunLock, i32>, Error> {
    let mut received = None;
    let lock = session.lock_while(opened, how.wait, how.no_lock, || {
        received = signals.pending();
        received.is_none()
    });
    match received {
        Some(signal) => Ok(Err(signal)),
        None => lock.map(Ok),
    }
}

/// What the memo says, if it still stands, and the index. Both read a file as large as the pipeline has tasks.
fn what_is_known<'a>(session: &'a Session, opened: &Opened) -> (Option<&'a Known>, Arc<Index>) {
    let (run, store) = (&opened.project.run, &opened.store);
    match &session.known {
        Some(known) => {
            rayon::join(|| Some(known).filter(|known| known.stands(run)), || Arc::new(Index::load(store)))
        }
        None => (None, Arc::new(Index::load(store))),
    }
}

/// Names of variables that hold keys, or addresses and secrets of webhooks.
fn key_variables(project: &Project) -> Vec<String> {
    let keys = project.endpoints.iter().filter_map(|endpoint| endpoint.model.api_key_env.clone());
    keys.chain(notify::variables(project)).collect()
}

/// The scheduler, and how many workers it keeps busy beside what make lends.
fn engine(
    session: &Session,
    project: &Project,
    how: &HowArgs,
    options: engine::Options,
    index: &Index,
) -> (Engine, usize) {
    let (slots, workers) = slots_by_files(session, project, how.jobs);
    let infos = task_infos(project, index);
    let mut engine = Engine::new(project.graph.clone(), Mode::Build, options, infos, slots);
    engine.know(index.usual_durations(is_item));
    if how.jobs.is_none() && !matches!(session.make, Make::None) {
        engine.set_cores(1);
    }
    (engine, workers)
}

/// Writes down what later builds need not find out again. None of it is worth failing a build for.
fn keep_for_later(session: &Session, opened: &Opened, index: &Index, tools: &Tools, ended: &Ended) {
    if let Err(error) = index.save_if_changed()
        && ended.started
    {
        session.say(&format!("warning: the index cannot be written: {error}"));
    }
    if ended.started {
        lifecycle::write_learned(&opened.store, &tools.providers.learned());
    }
}

/// What the attempts of a build share. `keys`: the ring, and the variables that hold a key.
fn tools(
    session: &Session,
    opened: &Opened,
    how: &HowArgs,
    keys: KeyRing,
    key_variables: Vec<String>,
    index: Arc<Index>,
    tell: Sender<event::Kind>,
) -> Tools {
    let (project, store) = (&opened.project, &opened.store);
    let cancel = Cancel::new();
    let lifeline = Lifeline::new(std::env::current_exe().ok());
    let learned = lifecycle::read_learned(store);
    let pid = std::process::id();
    let providers = Providers::new(
        project.clone(),
        keys,
        key_variables.clone(),
        lifeline.clone(),
        learned,
        u64::from(pid),
    );
    let tell = Mutex::new(tell);
    store.batch().set(session.variable("PLANEXE_SYNC").as_deref().unwrap_or_default());
    Tools {
        project: project.clone(),
        store: store.clone(),
        index,
        logs: Arc::new(Logs::new(store)),
        watchdog: Watchdog::new(cancel.clone(), lifeline),
        cancel,
        providers,
        events: Box::new(move |kind| {
            let _ = tell.lock().unwrap_or_else(PoisonError::into_inner).send(kind);
        }),
        frozen: how.frozen,
        no_rescue: how.no_rescue,
        key_variables,
        isolation: None,
        programs: runner::command::Programs::new(session.variable("PATH")),
        scratch: Mutex::default(),
        pid,
        host: crate::store::lock::host_name(),
        steps_total: project.steps_total(),
    }
}

/// Make's jobserver, if commands are to take turns with what make runs.
fn turns(session: &Session, how: &HowArgs) -> Option<jobserver::Client> {
    match &session.make {
        _ if how.jobs.is_some() => None,
        Make::None => None,
        Make::Reached(client) => Some(client.clone()),
        Make::Unreachable => {
            session.say(
                "warning: make's jobserver is out of reach, so commands run one at a time; \
                 put `+` before the recipe line, or say `-j N`",
            );
            None
        }
    }
}

/// The limits of a build: those of the command line come before those of the pipeline.
pub fn budget(project: &Project, how: &HowArgs) -> Budget {
    let budget = &project.tables.budget;
    Budget {
        cost: how.max_cost.or(budget.cost),
        tokens: how.max_tokens.or(budget.tokens),
        time: how.max_time.or(budget.time),
    }
}

/// What is asked of the build.
fn wanted(
    project: &Project,
    what: &What,
    how: &HowArgs,
    options: engine::Options,
    outside: &Outside<'_>,
) -> Wanted {
    let budget = budget(project, how);
    Wanted {
        targets: what.targets.clone(),
        options,
        force: what.force,
        max_time: budget.time.map(|span| span.0),
        max_tokens: budget.tokens,
        max_cost: budget.cost,
        max_calls: how.max_calls,
        explain: what.explain,
        keep_same_failed: outside.keep_same_failed,
        known_failures: outside.known_failures.to_vec(),
    }
}

/// Writes the memo for the next build, if this one left nothing to do. Only a cache: without it the next
/// build judges every task.
fn remember(
    view: &SummaryView,
    index: &Index,
    opened: &Opened,
    ended: &Ended,
    known: Option<&Known>,
    words: &str,
) {
    let mut next = view.clone();
    next.summary.fresh += next.summary.ran;
    (next.summary.ran, next.summary.reused) = (0, 0);
    let said = next.text(&style::Style::default(), false);
    let run = &opened.project.run;
    if let (Some(known), Some(contents)) = (known, &ended.contents)
        && known.renew(index, run, &said, contents, opened.began_ns)
    {
        return;
    }
    if ended.memo_is_outdated {
        let _ = crate::fs::remove(&memo::path(run));
    }
    if let Some(rests) = &ended.rests_on {
        let _ = memo::write(index, run, words, &said, rests, opened.began_ns);
    }
}

/// How tasks are judged.
pub fn rules(project: &Project, how: &HowArgs, force: bool) -> Rules {
    Rules {
        force,
        model: project.tables.staleness.model || how.rebuild_on.contains(&RebuildOn::Model),
        by_mtime: project.tables.staleness.by == By::Mtime,
        keep_failed: how.keep_failed,
    }
}

/// Priorities, shares and expected durations, by declaration.
pub fn task_infos(project: &Project, index: &Index) -> Vec<TaskInfo> {
    project
        .specs
        .iter()
        .map(|spec| {
            let usual = || eta::usual_seconds(&spec.recipe);
            let expected_s = index.usual_duration(&spec.name).unwrap_or_else(usual);
            let lane = spec.lane();
            TaskInfo { priority: spec.priority, min_success: spec.min_success, expected_s, lane }
        })
        .collect()
}

/// The slots of a build, and how many workers can be busy at once.
pub fn slots(project: &Project, jobs: Option<u32>) -> (Slots, usize) {
    slots_with(project, jobs, |_, _| {})
}

/// [`slots`], no more of them than there may be files open.
fn slots_by_files(session: &Session, project: &Project, jobs: Option<u32>) -> (Slots, usize) {
    let (all, workers) = slots(project, jobs);
    let able = open_files::for_workers(workers);
    if able >= workers {
        return (all, workers);
    }
    // Beside each program whose output is put down another one may run.
    let fit = able.saturating_sub(cores::count()).max(1);
    let tasks = style::count(fit as u64, "task");
    session.say(&format!("warning: at most {tasks} at once: no more files may be open (`ulimit -n`)"));
    let (mut all, workers) = slots(project, Some(fit as u32));
    if jobs.is_none() {
        all.set_cores(cores::count().min(fit) as u32);
    }
    (all, workers)
}

/// [`slots`] with the limits of some endpoints set otherwise.
pub fn slots_with(project: &Project, jobs: Option<u32>, set: impl Fn(usize, &mut Limits)) -> (Slots, usize) {
    let mut endpoints: Vec<Limits> =
        project.endpoints.iter().map(|endpoint| Limits::of(&endpoint.model)).collect();
    for (at, limits) in endpoints.iter_mut().enumerate() {
        set(at, limits);
    }
    let pools: Vec<u32> = project.pools.iter().map(|(_, slots)| *slots).collect();
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
    // As with make, who asks for eight at once has eight programs at once, on however few cores.
    let cpu = jobs.unwrap_or(cores);
    let used: HashSet<usize> = project
        .specs
        .iter()
        .flat_map(|spec| spec.prompts())
        .flat_map(|prompt| prompt.models.clone())
        .collect();
    let calls = used.iter().map(|&at| endpoints[at].max_concurrent).fold(0, u32::saturating_add);
    let all = jobs.unwrap_or(u32::MAX);
    // While answers are put down the next calls are under way.
    let calls = calls.saturating_add(calls.min(16));
    let at_work = calls.saturating_add(cpu).saturating_add(cores).saturating_add(2);
    // And while what a program left is put down, another runs.
    let beside = if all > 1 { all.min(cores) } else { 0 };
    let threads = all.saturating_add(beside).min(at_work).min(1024) as usize;
    (Slots::new(&endpoints, &pools, cpu, all), threads)
}

/// Keys that may not go where a model would send them are a fault of the set-up, told before anything runs.
fn check_models(tools: &Tools, engine: &Engine, what: &What, project: &Project) -> Result<(), Error> {
    let ids: Vec<TaskId> = what.targets.iter().map(|(id, _)| *id).collect();
    let mask = engine.graph().upstream(&ids);
    let mut endpoints: Vec<usize> = engine
        .graph()
        .ids()
        .filter(|id| mask[id.index()])
        .flat_map(|id| project.spec(&engine.graph()[id]).prompts())
        .flat_map(|prompt| prompt.models.clone())
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    match tools.providers.faults(&endpoints).into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(Error::new(Kind::Setup, fault.message).code(fault.class.name())),
    }
}

fn progress_options(session: &Session, how: &HowArgs, explain: bool) -> progress::Options {
    progress::Options {
        how: how.progress,
        quiet: session.globals.quiet,
        verbose: session.globals.repeated.verbose > 0,
        explain,
        live: session.err_is_terminal && session.env.can_redraw(),
        style: session.err,
    }
}

fn exit_code(ended: &Ended, strict: bool) -> u8 {
    if ended.broken.is_some() {
        return exit::FAILED;
    }
    match ended.stopped {
        Some(Stopped::Signal(signal_hook::consts::SIGINT)) => return exit::INTERRUPTED,
        Some(Stopped::Signal(signal_hook::consts::SIGHUP)) => return exit::HANGUP,
        Some(Stopped::Signal(_)) => return exit::TERMINATED,
        _ => {}
    }
    // Instances a fan-out can do without are no failure of the build.
    if ended.fails {
        exit::FAILED
    } else if ended.stopped.is_some() || !ended.summary.waiting.is_empty() {
        exit::STOPPED
    } else if strict && !ended.summary.partial.is_empty() {
        exit::FAILED
    } else {
        exit::DONE
    }
}

/// What is told at the end.
fn summary_view(
    session: &Session,
    opened: &Opened,
    what: &What,
    how: &HowArgs,
    ended: &Ended,
    code: u8,
) -> SummaryView {
    let project = &opened.project;
    let outcome = if ended.stopped.is_some() || (!ended.fails && !ended.summary.waiting.is_empty()) {
        Outcome::Stopped
    } else if ended.fails || ended.broken.is_some() {
        Outcome::Failed
    } else {
        Outcome::Completed
    };
    let message = match (ended.stopped, &ended.broken) {
        (Some(stopped), _) => Some(stopped.text().trim_start_matches("stopped ").to_owned()),
        (None, Some(error)) => Some(error.to_string()),
        (None, None) if outcome == Outcome::Stopped => Some("waiting for a person".to_owned()),
        _ => None,
    };
    let failed = ended
        .failures
        .iter()
        .map(|Failed { task, failure, blocks }| FailedView {
            task: task.clone(),
            failure: failure.clone(),
            blocks: blocks.clone(),
        })
        .collect();
    let waiting =
        ended.waiting.iter().cloned().map(|(task, message)| WaitingView { task, message }).collect();
    let mut next = Vec::new();
    if let Some(Failed { task, .. }) = ended.failures.first() {
        next.push((format!("planexe explain {}", crate::report::shell_word(task)), "see why".to_owned()));
        next.push((again(what, how, "planexe build"), "try again; what is done stays done".to_owned()));
    }
    // What cannot be merged is said with its message; it is no person's word that is waited for.
    let merges = |task: &str| {
        let id = project.graph.find(task.split('[').next().unwrap_or(task));
        id.is_some_and(|id| project.spec(&project.graph[id]).isolate.is_some())
    };
    let (unmerged, asking): (Vec<_>, Vec<_>) = ended.waiting.iter().partition(|(task, _)| merges(task));
    let done = |task: &String| format!("planexe done {}", crate::report::shell_word(task));
    next.extend(asking.iter().take(WAITING).map(|(task, _)| (done(task), "pass it".to_owned())));
    if !unmerged.is_empty() {
        next.push((again(what, how, "planexe resume"), "go on once it can be merged".to_owned()));
    }
    if unmerged.is_empty()
        && outcome == Outcome::Stopped
        && ended.failures.is_empty()
        && ended.summary.pending > 0
    {
        let resume = match ended.stopped {
            Some(Stopped::Abort) => "planexe resume --force",
            _ => "planexe resume",
        };
        next.push((again(what, how, resume), "go on with what is left".to_owned()));
    }
    for (command, _) in &mut next {
        *command = session.here(command);
    }
    SummaryView {
        schema: crate::report::SCHEMA,
        server: session.server(),
        run_dir: project.run.display().to_string(),
        pipeline: project.name.clone(),
        outcome,
        message,
        summary: ended.summary.clone(),
        tasks: Vec::new(),
        failed,
        waiting,
        report: report_of(opened, what, outcome),
        next,
        exit_code: code,
    }
}

/// The command that goes on with a build: of targets that were typed no other task is begun, and what was said of models
/// and answers holds for the rest too.
fn again(what: &What, how: &HowArgs, bare: &str) -> String {
    let mut command = match what.typed.is_empty() {
        true => bare.to_owned(),
        false => String::from(if what.only { "planexe build --only" } else { "planexe build" }),
    };
    if let Some(model) = &how.model {
        command += &format!(" --model {}", crate::report::shell_word(model));
    }
    for (said, option) in [
        (!how.rebuild_on.is_empty(), " --rebuild-on model"),
        (how.strict, " --strict"),
        (how.frozen, " --frozen"),
    ] {
        command += if said { option } else { "" };
    }
    for name in &what.typed {
        command += &format!(" {}", crate::report::shell_word(name));
    }
    command
}

/// The file to open: the first page among the outputs of the targets, or of the last task.
fn report_of(opened: &Opened, what: &What, outcome: Outcome) -> Option<String> {
    if outcome != Outcome::Completed {
        return None;
    }
    let page = match &opened.project.left_out {
        Some(left_out) => left_out.page.as_deref(),
        None => opened.project.page(&what.targets.iter().map(|(id, _)| *id).collect::<Vec<_>>()),
    }?;
    Some(crate::manifest::fault::shown_path(&opened.store.path(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for (text, tokens) in
            [("200000", 200_000), ("200k", 200_000), ("1.5M", 1_500_000), ("1_000", 1000), ("0", 0)]
        {
            assert_eq!(parse_tokens(text), Ok(tokens), "{text}");
        }
        for text in ["", "k", "-1", "many", "1e400", "inf"] {
            assert!(parse_tokens(text).is_err(), "{text}");
        }
        assert_eq!((parse_cost("2.50"), parse_cost("$3")), (Ok(2.5), Ok(3.0)));
        assert!(parse_cost("-1").is_err() && parse_cost("NaN").is_err());
    }
}
