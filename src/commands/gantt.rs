//! `planexe gantt`: the schedule of a run and how it stands; looks, runs nothing, takes no lock.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::commands::{Session, WrittenView};
use crate::ops::status::{Seen, every_task, look};
use planexe_base::clock;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::State;
use planexe_base::signals;
use planexe_base::style::clean;
use planexe_engine::graph::Kind as NodeKind;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Recipe;
use planexe_plan_execution::gantt::schedule::Schedule;
use planexe_plan_execution::gantt::{self, At, Chart, Facts, Span};
use planexe_query::task_state as standing;
use planexe_query::timeline::timeline;
use planexe_store::index::Index;
use planexe_ui::views::redrawn;

/// How often `--watch` looks again.
const AGAIN: Duration = Duration::from_secs(1);
/// The same for a browser.
const RELOAD: u32 = 5;
/// Largest schedule that is read.
const LARGEST: u64 = 64 << 20;

/// What `planexe gantt` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GanttArgs {
    /// The run [default: the one here or above, or that of -C]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// Write a page for a browser, one file without scripts; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Update every second until the build ends, or Ctrl-C; with --html rewrite the page, which reloads itself
    #[arg(short, long)]
    pub watch: bool,
}

/// Shows it.
pub fn run(session: &Session, args: &GanttArgs) -> Result<u8, Error> {
    let opened = session.open_named(args.run.as_deref(), true)?;
    let index = Index::load(&opened.store);
    let schedule = schedule_of(&opened)?;
    let signals = args.watch.then(signals::listen).transpose()?;
    let redraw = args.watch && session.out_is_terminal() && session.env.can_redraw();
    let mut last = String::new();
    loop {
        let seen = look(session, &opened, &index, &every_task(&opened));
        let chart = chart_of(&opened, &index, &seen, schedule.as_ref());
        let goes_on = seen.builder().is_some();
        let again = (args.watch && goes_on).then_some(RELOAD);
        let text = match (&args.html, session.globals.json) {
            (Some(_), _) => gantt::html(&chart, again),
            (None, true) if args.watch => {
                serde_json::to_string(&session.answer(Some(opened.store.run_dir()), &chart))? + "\n"
            }
            (None, true) => String::new(),
            (None, false) => gantt::text(&chart, &session.out, session.globals.repeated.verbose > 0),
        };
        match &args.html {
            Some(file) if file.as_os_str() != "-" => {
                if text != last {
                    fs::write_atomic(file, text.as_bytes(), Durability::Unsynced)
                        .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
                }
                if last.is_empty() {
                    if session.globals.json {
                        let file = file.display().to_string();
                        session.print_answer(opened.store.run_dir(), &WrittenView { file })?;
                    } else {
                        session.say(&format!("wrote `{}`", shown_path(file)));
                    }
                }
            }
            None if session.globals.json && !args.watch => {
                session.print_answer(opened.store.run_dir(), &chart)?;
            }
            _ if redraw => session.print(&redrawn(&text, session.out_rows()))?,
            _ if text != last => session.print(&text)?,
            _ => {}
        }
        last = text;
        let Some(signals) = signals.as_ref().filter(|_| goes_on) else { return Ok(exit::DONE) };
        if let Some(signal) = signals.within(AGAIN) {
            return Ok(exit::of_signal(signal));
        }
        if session.is_closed() {
            return Ok(exit::DONE);
        }
    }
}

/// The schedule the pipeline names.
fn schedule_of(opened: &Opened) -> Result<Option<Schedule>, Error> {
    let Some(name) = &opened.project.tables.pipeline.schedule else { return Ok(None) };
    let file = opened.project.folder.join(name);
    let fault = |why: String| {
        Error::new(Kind::Manifest, format!("the schedule `{}` cannot be used: {why}", clean(name)))
            .code("schedule")
    };
    // As with prompts: it lies in the pipeline's folder or the run's.
    let readable = planexe_pipeline::project::readable(
        &opened.project.run,
        &opened.project.folder,
        &opened.project.allow_outside,
    );
    if planexe_pipeline::project::leads_outside(&file, &readable).is_some() {
        return Err(fault("it leads out of the pipeline's folder".to_owned()));
    }
    let bytes = fs::linked::read_capped(&file, LARGEST).map_err(|error| fault(error.reason()))?;
    Schedule::read(&bytes).map(Some).map_err(fault)
}

fn chart_of(opened: &Opened, index: &Index, seen: &Seen, schedule: Option<&Schedule>) -> Chart {
    let project = &opened.project;
    let now: At = clock::now_utc().parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    let graph = &seen.survey.graph;
    let groups: HashSet<String> = graph
        .ids()
        .filter(|&id| graph[id].kind == NodeKind::Group)
        .map(|id| graph[id].name.clone())
        .collect();
    let described =
        project.specs.iter().filter_map(|spec| Some((spec.name.clone(), spec.description.clone()?)));
    let titles: HashMap<String, String> = described.collect();
    let expected = if schedule.is_some() { HashMap::new() } else { expected(opened, index, seen, now) };
    let executors = project
        .specs
        .iter()
        .filter_map(|spec| Some((spec.name.clone(), project.executors[spec.executor?].name.clone())));
    let executors: HashMap<String, String> = executors.collect();
    // Of a run whose events cannot be read there is nothing to tell.
    let waits_or_serves = !project.services.is_empty()
        || !executors.is_empty()
        || project.specs.iter().any(|spec| matches!(spec.recipe, Recipe::Gate(_) | Recipe::Human(_)));
    let told = waits_or_serves.then(|| timeline(&opened.store)).and_then(Result::ok).unwrap_or_default();
    let services = gantt::services(&told, now);
    let waits = gantt::waits(&told, &seen.standing.tasks, now);
    gantt::chart(&Facts {
        title: project.name.clone(),
        phase: seen.phase,
        now,
        tasks: &seen.standing.tasks,
        titles: &titles,
        groups: &groups,
        expected: &expected,
        schedule,
        executors: &executors,
        services,
        waits,
    })
}

/// When what is to come would run, each task as soon as those before it are done, from what it took before.
fn expected(opened: &Opened, index: &Index, seen: &Seen, now: At) -> HashMap<String, Span> {
    let graph = &seen.survey.graph;
    let known = standing::durations(&opened.project, &seen.standing, index);
    let mut ends: HashMap<planexe_engine::graph::TaskId, f64> = HashMap::new();
    let mut spans = HashMap::new();
    for &id in graph.order() {
        let instances = graph.instances(id);
        for &one in instances.iter().chain([&id]) {
            let Some(view) = seen.standing.of(one) else { continue };
            if view.state.is_complete() {
                continue;
            }
            let needs = graph
                .direct_needs(one)
                .into_iter()
                .chain(if one == id { instances } else { &[] }.iter().copied());
            let from = needs.filter_map(|need| ends.get(&need)).copied().fold(0.0, f64::max);
            let is_one = instances.is_empty() || one != id;
            let takes = match is_one && graph[one].kind != NodeKind::Group {
                true => {
                    (known.seconds(&opened.project, &graph[one]) - view.elapsed_s.unwrap_or(0.0)).max(0.0)
                }
                false => 0.0,
            };
            ends.insert(one, from + takes);
            if is_one && view.state != State::Running {
                let span = Span::new(now + (1000.0 * from) as At, now + (1000.0 * (from + takes)) as At);
                spans.insert(view.task.clone(), span);
            }
        }
    }
    spans
}
