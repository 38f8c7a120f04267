//! `planexe edit-plan`: edits the plan, shows which tasks that makes stale before anything runs, and keeps those
//! the user says to keep.
//!
//! The text is edited beside the plan, under `.planexe/edit/`, and judged from there. Until the question is
//! answered nothing else changes.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Serialize;

use crate::commands::{LockArgs, Session, session_find};
use crate::exit::{self, Error, Kind};
use crate::fs::{self, Durability, FileKind};
use crate::graph::{Graph, TaskId};
use crate::inputs::has_outputs;
use crate::judge::Judgement;
use crate::manifest::paths::substitute_vars;
use crate::open::Opened;
use crate::project::Recipe;
use crate::record::By;
use crate::report::{Reason, diff, shell_word, some_names};
use crate::staleness::Decision;
use crate::standing::reasons;
use crate::store::Why;
use crate::store::index::Index;
use crate::style::{self, GREEN, RED, YELLOW, clean, clean_lines, count, elapsed, money};
use crate::touch::{self, Adopting};
use crate::units::{Part, Unit, Units, judge};
use crate::{pattern, signals};

/// What `planexe edit-plan` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct EditPlanArgs {
    /// Take the new text from a file (`-`: standard input) instead of an editor
    #[arg(long, value_name = "FILE")]
    pub set: Option<PathBuf>,

    /// Make everything again that the edit makes stale
    #[arg(long, group = "what")]
    pub all: bool,

    /// Keep everything that the edit makes stale as it is, marked done on the new text
    #[arg(long, group = "what")]
    pub none: bool,

    /// Make TASK and what depends on it again, and keep all else that the edit makes stale
    #[arg(long, value_name = "TASK", group = "what")]
    pub invalidate_from: Option<String>,

    /// Make these again, and keep the others that the edit makes stale; may be repeated
    #[arg(long, value_name = "TASK", group = "what")]
    pub remake: Vec<String>,

    /// Only show what the edit makes stale; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Do not ask; without another answer it is --all
    #[arg(short, long)]
    pub yes: bool,

    /// The lock.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// What is to be made again of what an edit makes stale.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    All,
    None,
    From(String),
    Remake(Vec<String>),
}

/// A task the edit makes stale.
struct Hit {
    id: TaskId,
    name: String,
    decl: usize,
    reasons: Vec<Reason>,
    judgement: Judgement,
}

/// What an edit makes stale, and what that is expected to take.
#[derive(Debug, Default, Serialize)]
struct View {
    /// Whether the plan was changed.
    changed: bool,
    /// The plan, relative to the run directory.
    plan: String,
    /// The unified difference.
    diff: String,
    /// Tasks that the edit itself makes stale, and those that are made again because they were named.
    stale: Vec<StaleView>,
    /// Tasks that depend on those, and run if what they read comes out different.
    depends: Vec<String>,
    /// Tasks that were stale before.
    stale_before: Vec<String>,
    /// Of the stale, those that are kept, marked done on the new text.
    kept: Vec<String>,
    /// Calls of the stale tasks that are not kept.
    calls_expected: u32,
    /// Calls if all that depends on them runs too.
    calls_at_most: u32,
    /// What those cost when they were made last, USD.
    cost_usd: Option<f64>,
    /// Seconds those took when they were made last, one after the other.
    duration_s: Option<f64>,
}

/// A task that is stale, and why.
#[derive(Debug, Serialize)]
struct StaleView {
    task: String,
    reasons: Vec<Reason>,
}

/// Edits the plan.
pub fn run(session: &Session, args: &EditPlanArgs) -> Result<u8, Error> {
    let opened = session.open(false)?;
    let plan = plan_of(&opened)?;
    let asked = answer_of(args);
    for name in asked.iter().flat_map(Answer::names) {
        session_find(&opened, name)?;
    }
    let can_ask = session.in_is_terminal && args.set.as_deref() != Some(Path::new("-"));
    if asked.is_none() && !args.dry_run && !can_ask {
        return Err(Error::usage("there is no terminal to ask on, so nothing was changed").code("needs_yes").hint(
            "say what to make again: `--all`, `--none`, `--invalidate-from TASK`, `--remake TASK`; `-n` only shows",
        ));
    }
    let mut lock = match args.dry_run {
        true => None,
        false => Some(session.lock(&opened, args.lock.wait, args.lock.no_lock)?),
    };
    let path = opened.store.path(&plan);
    let old = fs::read(&path)?;
    if let Some(lock) = &mut lock {
        session.announce(&opened, lock, "planexe edit-plan")?;
    }
    let edit = Edit::begin(session, &opened, &plan, &old, args.dry_run)?;
    let new = match &args.set {
        Some(from) => {
            let new = read_from(from)?;
            fs::write_atomic(&edit.path, &new, Durability::Unsynced)?;
            new
        }
        None => {
            edit_by_hand(session, &edit.path)?;
            fs::read(&edit.path)?
        }
    };
    if new == old {
        if session.globals.json {
            session.print_answer(opened.store.run_dir(), &View { plan, ..View::default() })?;
        }
        session.say("the plan is as it was: nothing was changed");
        return Ok(exit::DONE);
    }
    if args.set.is_none() && new.trim_ascii().is_empty() {
        return Err(Error::new(Kind::Task, "the edited plan is empty: nothing was changed").code("empty"));
    }
    let found = Found::of(session, &opened, &plan, &edit.path)?;
    let mut view = found.view(&opened, &plan, &diff(&text(&old), &text(&new)));
    let asking = asked.is_none() && !args.dry_run;
    if !session.globals.json {
        let shown = found.text(&opened, &view, session);
        if asking { session.complain(shown.trim_end()) } else { session.print(&shown)? }
    }
    if args.dry_run {
        let again = match &asked {
            Some(answer) => found.settle(&opened, &mut view, answer)?,
            None => Vec::new(),
        };
        if session.globals.json {
            session.print_answer(opened.store.run_dir(), &view)?;
        } else if asked.is_some() {
            session.print(&kept_text(&view, "would be kept"))?;
            session.print(&again_text(&again, "would be made again"))?;
        }
        return Ok(exit::DONE);
    }
    let answer = match asked {
        Some(answer) => answer,
        None => match ask(session, &opened, &found)? {
            Some(answer) => answer,
            None => {
                session.say("nothing was changed");
                return Ok(exit::STOPPED);
            }
        },
    };
    let again = found.settle(&opened, &mut view, &answer)?;
    apply(session, &opened, &plan, &new, &found, &view, &again)?;
    drop(edit);
    drop(lock);
    view.changed = true;
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &view)?;
        return Ok(exit::DONE);
    }
    session.print(&kept_text(&view, "kept, marked done on the new text"))?;
    session.print(&again_text(&again, "to be made again, as asked"))?;
    let left = view.stale.len() - view.kept.len();
    session.say(&format!(
        "`{}` is changed; the former one is in history (`planexe restore {}`); {}",
        clean(&plan),
        shell_word(&plan),
        match left {
            0 => "nothing needs to be made again for it".to_owned(),
            _ => "`planexe build` makes again what is stale".to_owned(),
        }
    ));
    Ok(exit::DONE)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The plan's path relative to the run directory, if it can be edited.
pub(super) fn plan_of(opened: &Opened) -> Result<String, Error> {
    let tables = &opened.project.tables;
    let Some(written) = &tables.pipeline.plan else {
        return Err(Error::usage("the pipeline names no plan")
            .code("no_plan")
            .hint("add `plan = \"plan.txt\"` to `[pipeline]`, with the name of the input to edit"));
    };
    let plan = substitute_vars(written, &tables.vars).map_err(|fault| Error::usage(fault.message))?;
    let plan = pattern::normalize(&plan);
    if opened.project.graph.is_produced(&plan) {
        return Err(Error::usage(format!("`{plan}` is made by a task; only an input can be the plan"))
            .code("no_plan"));
    }
    let path = opened.store.path(&plan);
    fs::ensure_inside(opened.store.run_dir(), &path)?;
    match fs::kind(&path)? {
        Some(FileKind::File) => Ok(plan),
        None => Err(Error::usage(format!("there is no `{plan}`")).code("no_plan")),
        Some(_) => Err(Error::usage(format!("`{plan}` is not a plain file; edit what it leads to instead"))
            .code("no_plan")),
    }
}

fn answer_of(args: &EditPlanArgs) -> Option<Answer> {
    match (&args.invalidate_from, args.none, args.all || args.yes) {
        (Some(task), ..) => Some(Answer::From(task.clone())),
        _ if !args.remake.is_empty() => Some(Answer::Remake(args.remake.clone())),
        (_, true, _) => Some(Answer::None),
        (.., true) => Some(Answer::All),
        _ => None,
    }
}

impl Answer {
    fn names(&self) -> &[String] {
        match self {
            Answer::From(name) => std::slice::from_ref(name),
            Answer::Remake(names) => names,
            Answer::All | Answer::None => &[],
        }
    }
}

fn read_from(from: &Path) -> Result<Vec<u8>, Error> {
    if from != Path::new("-") {
        return Ok(fs::read(from)?);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(64 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A copy of the plan to be edited, gone with this value.
struct Edit {
    path: PathBuf,
}

impl Edit {
    /// With `elsewhere` nothing is written into the run.
    fn begin(
        session: &Session,
        opened: &Opened,
        plan: &str,
        old: &[u8],
        elsewhere: bool,
    ) -> Result<Edit, Error> {
        let dir = match elsewhere {
            true => std::env::temp_dir().join(format!("planexe-edit-{}", uuid::Uuid::now_v7().simple())),
            false => opened.store.planexe_subdir("edit")?,
        };
        fs::make_dirs(&dir, Durability::Unsynced)?;
        let name = Path::new(plan).file_name().unwrap_or_default();
        let path = dir.join(name);
        if let Some(left) = fs::read_optional(&path)?
            && left != old
        {
            // Somebody's work, from an edit that was cut short.
            let mut kept = path.clone().into_os_string();
            kept.push(".unfinished");
            fs::rename(&path, Path::new(&kept), Durability::Unsynced)?;
            let kept = Path::new(&kept)
                .strip_prefix(opened.store.run_dir())
                .unwrap_or(Path::new(&kept))
                .display()
                .to_string();
            session.complain(&format!("warning: an edit that was cut short is kept in `{kept}`"));
        }
        fs::write_atomic(&path, old, Durability::Unsynced)?;
        Ok(Edit { path })
    }
}

impl Drop for Edit {
    fn drop(&mut self) {
        let _ = fs::remove(&self.path);
        if let Some(dir) = self.path.parent() {
            let _ = fs::remove_empty_dir(dir);
        }
    }
}

/// Has the user edit a file. Ctrl-C is the editor's while it runs.
fn edit_by_hand(session: &Session, path: &Path) -> Result<(), Error> {
    let named = |name: &str| session.variable(name).filter(|editor| !editor.trim().is_empty());
    let editor = match named("VISUAL").or_else(|| named("EDITOR")) {
        Some(editor) => editor,
        None if session.in_is_terminal => "vi".to_owned(),
        None => {
            return Err(Error::usage("there is no editor: neither VISUAL nor EDITOR is set")
                .code("no_editor")
                .hint("`--set FILE` takes the new text from a file"));
        }
    };
    let received = signals::listen();
    // As git does it: the variable may hold arguments.
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(path);
    if !session.in_is_terminal {
        command.stdin(Stdio::null());
    }
    // Data on standard output is not the editor's, unless it draws on the same terminal.
    if !session.out_is_terminal() {
        command.stdout(io::stderr());
    }
    let ended = command.status();
    let failed = |why: String| {
        Err(Error::new(Kind::Task, format!("the editor `{}` {why}: nothing was changed", clean(&editor)))
            .code("editor_failed"))
    };
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => return failed(format!("failed ({status})")),
        Err(error) => return failed(format!("cannot be started: {error}")),
    }
    // A signal while it ran was meant for it; one at the question is for planexe.
    while received.pending().is_some() {}
    AT_QUESTION.store(true, Ordering::SeqCst);
    let path = path.to_owned();
    let leave = move || {
        for signal in received.forever() {
            if AT_QUESTION.load(Ordering::SeqCst) {
                let _ = fs::remove(&path);
                std::process::exit(i32::from(exit::of_signal(signal)));
            }
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(leave);
    Ok(())
}

/// Whether a signal may end planexe on the spot: nothing was changed yet.
static AT_QUESTION: AtomicBool = AtomicBool::new(false);

/// What an edit makes stale.
struct Found {
    graph: Graph,
    /// By the edit alone, in topological order.
    hits: Vec<Hit>,
    /// Tasks that were up to date before it.
    fresh: BTreeSet<String>,
    stale_before: Vec<String>,
    durations: Vec<(TaskId, Option<f64>, Option<f64>)>,
}

impl Found {
    fn of(session: &Session, opened: &Opened, plan: &str, edited: &Path) -> Result<Found, Error> {
        let env = |name: &str| session.variable(name);
        let store = &opened.store;
        let index = Index::load(store);
        // As it is now: every task judged by what lies there.
        let (mut fresh, mut stale_before) = (BTreeSet::new(), Vec::new());
        {
            let units = Units::new(&opened.project, store);
            let judge = judge(&opened.project, store, &index, &units.finder, &env);
            for id in in_order(&units.graph) {
                match judge.judge(&units.graph, id, false).decision {
                    Decision::Fresh { .. } | Decision::Adopt => {
                        fresh.insert(units.graph[id].name.clone());
                    }
                    Decision::Stale { .. } => stale_before.push(units.graph[id].name.clone()),
                    _ => {}
                }
            }
        }
        // And with the new text in the plan's place.
        let mut then = session.open(false)?;
        let project = Arc::get_mut(&mut then.project)
            .ok_or_else(|| Error::new(Kind::Internal, "BUG: a project that was just opened is shared"))?;
        project.in_place_of = Some((plan.to_owned(), edited.to_owned()));
        let units = Units::new(&then.project, store);
        let judge = judge(&then.project, store, &index, &units.finder, &env);
        let mut hits = Vec::new();
        let mut durations = Vec::new();
        for id in in_order(&units.graph) {
            let judgement = judge.judge(&units.graph, id, false);
            let task = &units.graph[id];
            let status = judgement.status.as_deref();
            let took =
                index.durations(&task.name).last().copied().or(status.and_then(|status| status.duration_s));
            let cost = status.and_then(|status| status.usage.as_ref()).map(|usage| usage.cost_usd);
            durations.push((id, took, cost));
            let is_new = !fresh.contains(&task.name) && !stale_before.contains(&task.name);
            let stale = matches!(judgement.decision, Decision::Stale { .. }) || judgement.failure.is_some();
            if stale && (fresh.contains(&task.name) || is_new) {
                let (name, decl) = (task.name.clone(), task.decl);
                hits.push(Hit { id, name, decl, reasons: reasons(&judgement), judgement });
            }
        }
        let graph = units.graph.clone();
        Ok(Found { graph, hits, fresh, stale_before, durations })
    }

    fn view(&self, opened: &Opened, plan: &str, diff: &str) -> View {
        let stale = |hit: &Hit| StaleView { task: hit.name.clone(), reasons: hit.reasons.clone() };
        let mut view = View {
            changed: false,
            plan: plan.to_owned(),
            diff: diff.to_owned(),
            stale: self.hits.iter().map(stale).collect(),
            stale_before: self.stale_before.clone(),
            ..View::default()
        };
        self.estimate(opened, &mut view, &[]);
        view
    }

    /// Calls, money and time of what is not kept, and of what is made again because it was named.
    fn estimate(&self, opened: &Opened, view: &mut View, again: &[Unit]) {
        let calls =
            |id: TaskId| u32::from(matches!(opened.project.spec(&self.graph[id]).recipe, Recipe::Prompt(_)));
        let left: Vec<&Hit> = self.hits.iter().filter(|hit| !view.kept.contains(&hit.name)).collect();
        let called = |hit: &&Hit| {
            let prepared = hit.judgement.prepared.as_ref();
            let paid =
                prepared.is_some_and(|prepared| prepared.kept.is_some() || prepared.existing.is_some());
            if paid { 0 } else { calls(hit.id) }
        };
        let again: Vec<TaskId> = again.iter().filter_map(|unit| self.graph.find(&unit.name)).collect();
        view.calls_expected = left.iter().map(called).chain(again.iter().map(|&id| calls(id))).sum();
        let begun: Vec<TaskId> = left.iter().map(|hit| hit.id).chain(again).collect();
        let mask = self.graph.downstream(&begun);
        let follows = |id: &TaskId| {
            let by_itself = begun.contains(id) || self.hits.iter().any(|hit| hit.id == *id);
            mask[id.index()] && !by_itself && self.fresh.contains(&self.graph[*id].name)
        };
        let after: Vec<TaskId> = in_order(&self.graph).into_iter().filter(follows).collect();
        view.depends = after.iter().map(|id| self.graph[*id].name.clone()).collect();
        view.calls_at_most = view.calls_expected + after.iter().map(|&id| calls(id)).sum::<u32>();
        let all: BTreeSet<TaskId> = begun.into_iter().chain(after).collect();
        let known = || self.durations.iter().filter(|(id, ..)| all.contains(id));
        let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum());
        view.duration_s = sum(known().filter_map(|(_, took, _)| *took).collect());
        view.cost_usd = sum(known().filter_map(|(.., cost)| *cost).collect());
    }

    /// Settles what is kept. Returns what is to be made again though the edit does not touch it.
    fn settle(&self, opened: &Opened, view: &mut View, answer: &Answer) -> Result<Vec<Unit>, Error> {
        let graph = &opened.project.graph;
        let hit = |decl: usize| self.hits.iter().any(|hit| hit.decl == decl);
        let mut parts: Vec<Part> = Vec::new();
        let goes: Box<dyn Fn(&Hit) -> bool> = match answer {
            Answer::All => Box::new(|_| true),
            Answer::None => Box::new(|_| false),
            Answer::Remake(names) => {
                let named =
                    names.iter().map(|name| session_find(opened, name)).collect::<Result<Vec<_>, _>>()?;
                let untouched = named.iter().filter(|named| !hit(graph[named.task].decl));
                parts.extend(untouched.map(|named| (named.task, named.key.clone())));
                Box::new(move |hit| {
                    named.iter().any(|named| {
                        let key = named.key.as_ref().map(|key| format!("{}[{key}]", graph[named.task].name));
                        graph[named.task].decl == hit.decl && key.is_none_or(|name| name == hit.name)
                    })
                })
            }
            Answer::From(name) => {
                let named = session_find(opened, name)?;
                let mask = graph.downstream(&[named.task]);
                let decls: BTreeSet<usize> =
                    graph.ids().filter(|id| mask[id.index()]).map(|id| graph[id].decl).collect();
                let own = graph[named.task].decl;
                if !hit(own) {
                    parts.push((named.task, None));
                }
                Box::new(move |hit| hit.decl == own || decls.contains(&hit.decl))
            }
        };
        let mut cannot = Vec::new();
        for hit in self.hits.iter().filter(|hit| !goes(hit)) {
            let faults = touch::faults(&opened.project, &opened.store, &self.graph[hit.id], &hit.judgement);
            match faults.into_iter().next() {
                None => view.kept.push(hit.name.clone()),
                Some(fault) => cannot.push(format!("`{}`: {fault}", hit.name)),
            }
        }
        if !cannot.is_empty() {
            let mut error =
                Error::new(Kind::Task, "some tasks cannot be kept, so nothing was changed").code("not_whole");
            error.causes = cannot;
            return Err(error.hint("`--all` makes all again"));
        }
        let again = Units::new(&opened.project, &opened.store).of_all(parts)?;
        let named = |unit: &Unit| StaleView {
            task: unit.name.clone(),
            reasons: vec![Reason::new("forced", "asked for by name")],
        };
        view.stale.extend(again.iter().map(named));
        self.estimate(opened, view, &again);
        Ok(again)
    }

    fn text(&self, opened: &Opened, view: &View, session: &Session) -> String {
        let style =
            if session.in_is_terminal && !session.out_is_terminal() { &session.err } else { &session.out };
        let mut text = String::new();
        for line in clean_lines(&view.diff).lines() {
            let line = match line.chars().next() {
                Some('+') => style.paint(GREEN, line),
                Some('-') => style.paint(RED, line),
                Some('@') => style.dim(line),
                _ => line.to_owned(),
            };
            text += &format!("{line}\n");
        }
        text.push('\n');
        if view.stale.is_empty() {
            text += match view.stale_before.is_empty() {
                true => "The edit makes nothing stale: no prompt comes out different by it.\n",
                false => "The edit makes nothing stale that was not stale before it.\n",
            };
        } else {
            let names =
                view.stale.iter().map(|one| style::width(&clean(&one.task))).max().unwrap_or(0).min(40);
            text += &format!("{}\n", style.bold("Stale by the edit:"));
            for one in &view.stale {
                let why: Vec<String> = one.reasons.iter().map(|reason| clean(&reason.message)).collect();
                let name = style::pad(&clean(&one.task), names);
                text += &format!("  {} {name}  {}\n", style.paint(YELLOW, "·"), style.dim(&why.join("; ")));
            }
        }
        if !view.depends.is_empty() {
            let names: Vec<String> = view.depends.iter().map(|name| clean(name)).collect();
            text += &format!("{}\n  {}\n", style.bold("Depend on them:"), names.join(", "));
        }
        if !view.stale_before.is_empty() {
            let names = some_names(&view.stale_before, 10);
            text +=
                &format!("{}\n  {names}\n", style.bold("Stale before the edit, and made again in any case:"));
        }
        if !view.stale.is_empty() {
            text += &format!("{}\n", expected(view));
        }
        let _ = opened;
        text
    }
}

/// What is expected of making all that is stale again.
fn expected(view: &View) -> String {
    let mut text = match (view.calls_expected, view.calls_at_most) {
        (_, 0) => "No calls".to_owned(),
        (expected, most) if most > expected => {
            format!("{} expected, at most {most}", count(expected.into(), "call"))
        }
        (expected, _) => format!("{} expected", count(expected.into(), "call")),
    };
    if let Some(seconds) = view.duration_s.filter(|seconds| *seconds >= 1.0) {
        text += &format!(", {} of work when made last", elapsed(seconds));
    }
    if let Some(cost) = view.cost_usd.filter(|cost| *cost > 0.0) {
        text += &format!(", {} when made last", money(cost));
    }
    text + "."
}

fn kept_text(view: &View, how: &str) -> String {
    view.kept.iter().map(|name| format!("{}: {how}\n", clean(name))).collect()
}

fn again_text(again: &[Unit], how: &str) -> String {
    again.iter().map(|unit| format!("{}: {how}\n", clean(&unit.name))).collect()
}

/// Tasks with outputs of their own, each after what it needs.
fn in_order(graph: &Graph) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for &id in graph.order() {
        let instances = graph.instances(id);
        let own = instances.is_empty().then_some(id);
        ids.extend(own.into_iter().chain(instances.iter().copied()).filter(|&id| has_outputs(&graph[id])));
    }
    ids
}

/// Asks what is to be made again; none if nothing is to be changed.
fn ask(session: &Session, opened: &Opened, found: &Found) -> Result<Option<Answer>, Error> {
    if found.hits.is_empty() {
        return Ok(session.confirm("Change the plan?").then_some(Answer::All));
    }
    loop {
        let mut stderr = io::stderr().lock();
        let question =
            "Make again: (a)ll, (n)one, (f)rom TASK on, or tasks by name; (q)uit changes nothing: ";
        if write!(stderr, "{question}").and_then(|()| stderr.flush()).is_err() {
            return Ok(None);
        }
        drop(stderr);
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let words: Vec<String> = line
            .split([' ', ','])
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let answer = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => continue,
            ["a" | "all"] => Answer::All,
            ["n" | "none"] => Answer::None,
            ["q" | "quit"] => return Ok(None),
            ["f" | "from", task] => Answer::From(task.to_owned()),
            _ => Answer::Remake(words.clone()),
        };
        match answer.names().iter().find_map(|name| session_find(opened, name).err()) {
            None => return Ok(Some(answer)),
            Some(error) => {
                session.complain(&format!("{} {}", error.message, session.here(&error.hints.join("; "))))
            }
        }
    }
}

/// Changes the plan, and marks what is kept.
fn apply(
    session: &Session,
    opened: &Opened,
    plan: &str,
    new: &[u8],
    found: &Found,
    view: &View,
    again: &[Unit],
) -> Result<(), Error> {
    AT_QUESTION.store(false, Ordering::SeqCst);
    let (project, store) = (&opened.project, &opened.store);
    store.save(plan, Why::Plan, &[plan.to_owned()], Durability::Synced)?;
    // Marked on the new text before it is there: if planexe is killed between, the answers to the old one are still
    // kept, and the edit can be made again. The other way round what was to be kept would be paid for again.
    let index = Index::load(store);
    let user = session.user();
    let kept = || found.hits.iter().filter(|hit| view.kept.contains(&hit.name));
    for hit in kept() {
        let how = Adopting { by: By::Touch, user: Some(&user) };
        touch::adopt(project, store, &index, &found.graph[hit.id], &hit.judgement, &how).map_err(
            |error| Error::new(Kind::Internal, format!("`{}` cannot be marked", hit.name)).because(&error),
        )?;
    }
    fs::write_atomic(&store.path(plan), new, Durability::Synced)
        .map_err(|error| error.within(store.run_dir()))?;
    touch::renew(project, store, kept().flat_map(|hit| &found.graph[hit.id].outputs))?;
    for unit in again {
        store.clean(&unit.name, Why::Cleaned, &unit.outputs, Durability::Synced)?;
    }
    Ok(())
}
