//! Carries a build out: from what was asked of it to how it ended.

use crate::ops::Session;
use crate::ops::build::slots::{TURNS, slots_by_files, turns};
use crate::ops::build::summary::{exit_code, summary_view};
use crate::ops::build::{BuildOptions, Targets, rules};
use planexe_base::cancel::Cancel;
use planexe_base::event;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::process::{Lifeline, Watchdog};
use planexe_base::record::Failure;
use planexe_base::signals::Signals;
use planexe_base::style;
use planexe_build::eta;
use planexe_build::executor::Executors;
use planexe_build::git_recorder as commits;
use planexe_build::isolation::{self, Isolation};
use planexe_build::jobserver::Make;
use planexe_build::lifecycle::{self, RunRecord};
use planexe_build::run_loop::{Build, Edits, Ended, Parts, Stopped, Wanted};
use planexe_build::runner::providers::Providers;
use planexe_build::runner::services::Services;
use planexe_build::runner::{self, BuildContext};
use planexe_engine::graph::{TaskId, is_item};
use planexe_engine::scheduler::{self as engine, Engine, Mode, TaskInfo};
use planexe_llm::ceiling::Most;
use planexe_llm::keys::KeyRing;
use planexe_notify::send::is_address;
use planexe_notify::{Notifier, Telling};
use planexe_pipeline::manifest::types::Budget;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::control::Controls;
use planexe_store::index::Index;
use planexe_store::lock::RunLock;
use planexe_store::logs::Logs;
use planexe_store::null_build::{self, UpToDate};
use planexe_ui::progress::{Gather, Sink};
use planexe_ui::views::SummaryView;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

/// `--model`: every prompt asks this model alone.
pub fn ask_only(opened: &mut Opened, name: &str) -> Result<(), Error> {
    let at = find_model(opened, name)?;
    if let Some(project) = Arc::get_mut(&mut opened.project) {
        project.ask_only(at);
    }
    Ok(())
}

/// `--executor`: commands run on this one.
pub fn run_on(session: &Session, opened: &mut Opened, name: &str) -> Result<(), Error> {
    let known: Vec<&str> = opened.project.executors.iter().map(|it| it.name.as_str()).collect();
    let at = known.iter().position(|known| *known == name).ok_or_else(|| {
        let hint = planexe_pipeline::manifest::suggest(name, known);
        let error = Error::usage(format!("no executor is called `{name}`")).code("unknown_executor");
        error.hint(hint.unwrap_or_else(|| format!("add a table `[executors.{name}]` to the pipeline")))
    })?;
    let stay = Arc::get_mut(&mut opened.project).map(|project| project.run_on(at)).unwrap_or_default();
    if !stay.is_empty() {
        let what = "what works in place, or in a worktree, stays on this machine";
        session.notice(&format!("note: {what}: {}", stay.join(", ")));
    }
    Ok(())
}

/// The position of a model of the pipeline.
pub fn find_model(opened: &Opened, name: &str) -> Result<usize, Error> {
    let at = opened.project.endpoints.iter().position(|endpoint| endpoint.name == name);
    at.ok_or_else(|| {
        let known: Vec<&str> =
            opened.project.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let hint = planexe_pipeline::manifest::suggest(name, known);
        Error::usage(format!("no model is called `{name}`"))
            .code("unknown_model")
            .hint(hint.unwrap_or_else(|| "the pipeline has no models".to_owned()))
    })
}

/// What reaches a build from outside.
pub struct BuildControl<'a> {
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
}

impl<'a> BuildControl<'a> {
    /// Nothing but signals.
    pub fn new(signals: &'a Signals) -> BuildControl<'a> {
        let (edits, controls) = (None, None);
        BuildControl { signals, edits, controls, keep_same_failed: false, known_failures: &[] }
    }
}

/// Where a build shows itself.
#[derive(Clone, Copy)]
pub struct Screen<'a> {
    /// Shows what happens.
    pub sink: &'a dyn Fn() -> Box<dyn Sink>,
    /// Lays out what is said at the end; none if the build is a part of something else, which says how it ended.
    pub closing: Option<&'a dyn Fn(&SummaryView) -> String>,
}

/// What came of a build.
pub struct Built {
    /// The exit code that says it.
    pub code: u8,
    /// How it ended, and what is told of it; none if a signal came before it began.
    pub ended: Option<(Ended, SummaryView)>,
}

/// Builds under the lock.
pub fn carry_out(
    session: &Session,
    opened: &Opened,
    what: Targets,
    options: &BuildOptions,
    outside: &BuildControl<'_>,
    screen: Screen<'_>,
) -> Result<Built, Error> {
    let signals = outside.signals;
    check_addresses(&options.webhook)?;
    let mut lock = match lock_unless_signalled(session, opened, options, signals)? {
        Ok(lock) => lock,
        Err(signal) => return Ok(Built { code: exit::of_signal(signal), ended: None }),
    };
    // At once: from here on `planexe stop` means this build.
    let controls = outside.controls.cloned().unwrap_or_else(|| Controls::new(&opened.store));
    // Before the caches of a build with nothing to do are written, too.
    opened.store.require_own_folder()?;
    let (known, index) = what_is_known(session, opened);
    let (project, store) = (&opened.project, &opened.store);
    let isolation = isolation_of(project, store, &what)?;
    let keys = session.keys()?;
    let notifier = Notifier::new(project, &keys, &options.webhook);
    let (tell, events) = channel();
    let tools = tools(session, opened, options, keys, index.clone(), tell);
    let tools = Arc::new(BuildContext { isolation, ..tools });
    let make = turns(session, options);
    let scheduling = engine::Options { on_failure: options.on_failure, only: what.only };
    let (engine, workers) = engine(session, project, options, scheduling.clone(), &index);
    check_models(&tools, &engine, &what, project)?;
    let at_once = engine.at_once();
    let mut run = RunRecord::new(store, project, known.is_some());
    let after_kill = store.was_killed();
    let env = |name: &str| session.variable(name);
    let mut sink = Gather::new((screen.sink)());
    let mut telling = Telling::new(&mut sink, notifier, tools.clone());
    let ended = Build::new(Parts {
        project,
        store,
        ctx: tools.clone(),
        events,
        rules: rules(project, options, what.force),
        no_reuse: options.no_reuse,
        env: &env,
        engine,
        wanted: wanted(project, &what, options, scheduling, outside),
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
            Ok(())
        },
    })
    .run();
    // Written down so that later builds need not find it out again: not worth failing a build for.
    if ended.started {
        lifecycle::write_learned(store, &tools.providers.learned());
    }
    if tools.isolation.is_some()
        && let Err(error) = store.unpin()
    {
        session.notice(&format!("warning: {error}"));
    }
    run.end(&ended);
    let by_signal = matches!(ended.stopped, Some(Stopped::Signal(_)));
    for said in telling.into_notifier().close(by_signal, || signals.pending().is_some()) {
        sink.event(&runner::stamp(event::Kind::Note { task: None, message: said, warning: true }));
    }
    let code = exit_code(&ended, options.strict);
    let mut view = summary_view(session, opened, &what, options, &ended, code);
    view.tasks = std::mem::take(&mut sink.tasks);
    let said = screen.closing.map_or(String::new(), |closing| closing(&view));
    sink.finish(&said);
    // A build that knew everything to be up to date would not come to think of commits that are missing.
    let is_recorded = !(opened.project.tables.git.commit_on_done && commits::are_due(&opened.store));
    if let (Some(words), exit::DONE, true) = (session.build_words, code, is_recorded) {
        remember(&view, &index, opened, &ended, known, words);
    }
    if let Err(error) = index.save_if_changed()
        && ended.started
    {
        session.notice(&format!("warning: the index cannot be written: {error}"));
    }
    drop(lock);
    Ok(Built { code, ended: Some((ended, view)) })
}

/// What is found of git, if a task that is wanted is isolated.
fn isolation_of(project: &Project, store: &Store, what: &Targets) -> Result<Option<Isolation>, Error> {
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
    options: &BuildOptions,
    signals: &Signals,
) -> Result<Result<RunLock, i32>, Error> {
    let mut received = None;
    let lock = session.lock_while(opened, options.lock.wait, options.lock.no_lock, || {
        received = signals.pending();
        received.is_none()
    });
    match received {
        Some(signal) => Ok(Err(signal)),
        None => lock.map(Ok),
    }
}

/// The cache, and what the null-build record says, if it still stands.
fn what_is_known<'a>(session: &'a Session, opened: &Opened) -> (Option<&'a UpToDate>, Arc<Index>) {
    let index = Arc::new(Index::load(&opened.store));
    (session.known.as_ref().filter(|known| known.stands(&index)), index)
}

/// The scheduler, and how many workers it keeps busy beside what make lends.
fn engine(
    session: &Session,
    project: &Project,
    options: &BuildOptions,
    scheduling: engine::Options,
    index: &Index,
) -> (Engine, usize) {
    let (slots, workers) = slots_by_files(session, project, options.jobs);
    let infos = task_infos(project, index);
    let mut engine = Engine::new(project.graph.clone(), Mode::Build, scheduling, infos, slots);
    engine.know(index.usual_durations(is_item));
    let caches = project.endpoints.iter().map(|endpoint| planexe_llm::cache::rules(&endpoint.model));
    engine.know_caches(&caches.collect::<Vec<_>>());
    if options.jobs.is_none() && !matches!(session.make, Make::None) {
        engine.set_cores(1);
    }
    (engine, workers)
}

/// What the attempts of a build share.
fn tools(
    session: &Session,
    opened: &Opened,
    options: &BuildOptions,
    keys: KeyRing,
    index: Arc<Index>,
    tell: Sender<event::Kind>,
) -> BuildContext {
    let (project, store) = (&opened.project, &opened.store);
    let cancel = Cancel::new();
    let lifeline = Lifeline::new(std::env::current_exe().ok());
    let learned = lifecycle::read_learned(store);
    let pid = std::process::id();
    let providers = Providers::new(
        project.clone(),
        keys,
        lifeline.clone(),
        learned,
        u64::from(pid),
        most(project, options),
    );
    let tell = Mutex::new(tell);
    let planexe = planexe();
    let note = Mutex::new(tell.lock().clone());
    let note = move |message: String| {
        let _ = note.lock().send(event::Kind::Note { task: None, message, warning: true });
    };
    let note: Arc<dyn Fn(String) + Send + Sync> = Arc::new(note);
    let executors = Executors::new(planexe.clone(), project.run.clone(), note.clone());
    let services = Services::new(project, Executors::new(planexe.clone(), project.run.clone(), note));
    store.batch().set(session.variable("PLANEXE_SYNC").as_deref().unwrap_or_default());
    BuildContext {
        project: project.clone(),
        store: store.clone(),
        index,
        logs: Arc::new(Logs::new(store)),
        watchdog: Watchdog::new(cancel.clone(), lifeline),
        cancel,
        providers,
        pooled: runner::batches::Pooled::new(project),
        events: Box::new(move |kind| {
            let _ = tell.lock().send(kind);
        }),
        frozen: options.frozen,
        no_reuse: options.no_reuse,
        no_proxy: session.variable("NO_PROXY").or_else(|| session.variable("no_proxy")),
        socket_folders: socket_folders(session),
        no_rescue: options.no_rescue,
        isolation: None,
        executors,
        services,
        planexe,
        programs: runner::Programs::new(session.variable("PATH")),
        scratch: Mutex::default(),
        pid,
        host: planexe_store::host::host_name(),
        steps_total: project.steps_total(),
    }
}

/// Where Unix sockets may be: paths of sockets are short, and run directories deep.
fn socket_folders(session: &Session) -> Vec<PathBuf> {
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(|name| session.variable(name));
    named.map(PathBuf::from).chain([PathBuf::from("/tmp")]).collect()
}

/// This program, for those that are to outlive the build.
pub fn planexe() -> PathBuf {
    crate::ops::detach::program().unwrap_or_else(|_| PathBuf::from("planexe"))
}

/// The limits of a build: those of the command line come before those of the pipeline.
pub fn budget(project: &Project, options: &BuildOptions) -> Budget {
    let budget = &project.tables.budget;
    Budget {
        cost: options.max_cost.or(budget.cost),
        tokens: options.max_tokens.or(budget.tokens),
        time: options.max_time.or(budget.time),
    }
}

/// The limits of its calls.
fn most(project: &Project, options: &BuildOptions) -> Most {
    let Budget { cost, tokens, .. } = budget(project, options);
    Most { calls: options.max_calls, tokens, cost_usd: cost }
}

/// What is asked of the build.
fn wanted(
    project: &Project,
    what: &Targets,
    options: &BuildOptions,
    scheduling: engine::Options,
    outside: &BuildControl<'_>,
) -> Wanted {
    let budget = budget(project, options);
    Wanted {
        targets: what.targets.clone(),
        options: scheduling,
        force: what.force,
        max_time: budget.time.map(|span| span.0),
        max_cost: budget.cost,
        at_reset: options.at_reset,
        before_reset: options.before_reset,
        explain: what.explain,
        keep_same_failed: outside.keep_same_failed,
        known_failures: outside.known_failures.to_vec(),
    }
}

/// Makes the null-build record for the next build, if this one left nothing to do. Only a cache: without it the next
/// build judges every task.
fn remember(
    view: &SummaryView,
    index: &Index,
    opened: &Opened,
    ended: &Ended,
    known: Option<&UpToDate>,
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
    if ended.record_is_outdated {
        null_build::drop_record(index);
    }
    if let Some(inputs) = &ended.inputs {
        null_build::record(index, run, words, &said, inputs, opened.began_ns);
    }
}

/// Priorities, shares and expected durations, by declaration.
pub fn task_infos(project: &Project, index: &Index) -> Vec<TaskInfo> {
    project
        .specs
        .iter()
        .map(|spec| {
            let usual = || eta::usual_seconds(project, spec);
            let expected_s = index.usual_duration(&spec.name).unwrap_or_else(usual);
            let lane = spec.lane();
            TaskInfo { priority: spec.priority, min_success: spec.min_success, expected_s, lane }
        })
        .collect()
}

/// Keys that may not go where a model would send them are a fault of the set-up, told before anything runs.
fn check_models(
    tools: &BuildContext,
    engine: &Engine,
    what: &Targets,
    project: &Project,
) -> Result<(), Error> {
    let ids: Vec<TaskId> = what.targets.iter().map(|(id, _)| *id).collect();
    let mask = engine.graph().upstream(&ids);
    let mut endpoints: Vec<usize> = engine
        .graph()
        .ids()
        .filter(|id| mask[id.index()])
        .flat_map(|id| project.spec(&engine.graph()[id]).endpoints())
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    match tools.providers.faults(&endpoints).into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(Error::new(Kind::Setup, fault.message).code(fault.class.name())),
    }
}

/// Refuses what `--webhook` cannot post to.
pub fn check_addresses(urls: &[String]) -> Result<(), Error> {
    match urls.iter().all(|url| is_address(url)) {
        true => Ok(()),
        false => Err(Error::usage(
            "`--webhook` wants an address that begins with `http://` or `https://`, without a user and password",
        )),
    }
}
