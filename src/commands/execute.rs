//! `planexe execute`: makes a finished plan into a project of work.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::commands::Session;
use crate::ops::status::look;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs;
use planexe_base::style::{clean, count, shell_path};
use planexe_build::git_recorder::{self as commits, Commit};
use planexe_pipeline::manifest::run::RunFile;
use planexe_pipeline::manifest::{Manifest, ReadOptions};
use planexe_pipeline::open::{self, OpenError, Opened, Where};
use planexe_plan_execution::files::Besides;
use planexe_plan_execution::models;
use planexe_plan_execution::place::{self, Listed};
use planexe_plan_execution::plan::{self, Plan};
use planexe_plan_execution::project::Project;
use planexe_plan_execution::rules::{self, Approve, By, Rules};
use planexe_store::Store;
use planexe_store::index::Index;
use planexe_store::lock::{RunLock, Wait};

/// Largest file of a plan that is read.
const LARGEST: u64 = 64 << 20;
/// Lines of what could not be used that are told.
const TOLD: usize = 8;

/// Who does what no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A model writes what each step is to deliver.
    Ai,
    /// A person does each step.
    Human,
}

/// What needs a person's approval before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApproveArg {
    /// Each phase.
    Phases,
}

/// What `planexe execute` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ExecuteArgs {
    /// The run of the plan [default: the one here or above, or that of -C]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// The folder of the project: a new one, or an existing project to update [default: RUN-execution]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,

    /// Assign every step to ai or human, instead of by the rule
    #[arg(long, value_name = "WHO", value_enum, hide_possible_values = true)]
    pub kind: Option<KindArg>,

    /// Have a person let each phase begin
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    #[arg(help = "Require manual approval before each: phases")]
    pub approve: Option<ApproveArg>,

    /// Make the project a git repository, and commit every completed step
    #[arg(long)]
    pub git: bool,

    /// Continue despite a no-go, and overwrite files edited by hand (their contents go to history)
    #[arg(long)]
    pub force: bool,

    /// Show what would be made; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// The plan's run.
    plan: String,
    /// Whether anything was written.
    dry_run: bool,
    /// Figures.
    phases: usize,
    tasks: usize,
    steps: usize,
    ai: usize,
    command: usize,
    human: usize,
    /// What waits for what.
    dependencies: usize,
    /// What of the plan could not be used.
    dropped: Vec<String>,
    /// Files written, left as they were, removed, and written over though edited.
    written: Vec<String>,
    unchanged: usize,
    removed: Vec<String>,
    overwritten: Vec<String>,
    /// What to type next.
    next: Vec<String>,
}

/// Makes the project.
pub fn run(session: &Session, args: &ExecuteArgs) -> Result<u8, Error> {
    let opened = open_plan(session, args)?;
    let run = opened.store.run_dir().to_owned();
    let (plan, besides) = read_plan(session, args, &opened)?;
    let dir = args.into.clone().unwrap_or_else(|| beside(args, &run));
    if fs::resolved(&dir) == fs::resolved(&run) {
        return Err(Error::usage("the project needs a folder of its own").hint("`--into DIR` names one"));
    }
    let listed = former(&dir)?;
    let is_new = listed.is_none();
    let rules = rules_of(session, args, &dir)?;
    let had_rules = rules.is_some();
    let mut ruler = rules.unwrap_or_else(|| rules_said(args)).ruler();
    let project = Project::of(&plan, &mut ruler);
    let files = project.files(&plan, &ruler, &besides);
    let listed = listed.unwrap_or_default();
    let change = place::compare(&dir, &listed, &files).map_err(|error| cannot(&dir, &error))?;
    if !change.edited.is_empty() && !args.force {
        return Err(edited(&dir, &change.edited));
    }
    let path = |n: &usize| files[*n].0.clone();
    let shown = shell_path(&dir);
    let mut view = View {
        plan: run.display().to_string(),
        dry_run: args.dry_run,
        phases: project.stages.len(),
        tasks: project.works().count(),
        steps: project.items().count(),
        ai: project.count(By::Ai),
        command: project.count(By::Command),
        human: project.count(By::Human),
        dependencies: project.waits_for.iter().map(Vec::len).sum(),
        dropped: project.dropped.clone(),
        written: change.write.iter().map(path).collect(),
        unchanged: change.same,
        removed: change.gone.clone(),
        overwritten: change.edited.clone(),
        next: vec![format!("planexe -C {shown} gantt"), format!("planexe -C {shown} build")],
    };
    for pattern in ruler.unused() {
        session.say(&format!("warning: `match = \"{}\"` in {} names no step", clean(pattern), rules::FILE));
    }
    if !args.dry_run {
        fs::make_dirs(&dir, fs::Durability::Synced).map_err(|error| cannot(&dir, &error))?;
        let _lock = RunLock::acquire(&dir, Wait::No).map_err(|error| session.lock_error(&error))?;
        // What was compared is what is changed.
        if former(&dir)?.unwrap_or_default() != listed {
            return Err(Error::new(Kind::Refused, "another planexe made the project meanwhile")
                .hint("type the same again"));
        }
        let store = Store::open(fs::resolved(&dir));
        let once = once(session, args, &opened, &plan, had_rules)?;
        // The list of what is ours comes first: by it the folder is known again if this is cut short.
        place::write(&store, &listed, &files, &change).map_err(|error| cannot(&dir, &error))?;
        for (name, text) in once {
            if place::write_once(store.run_dir(), name, &text).map_err(|error| cannot(&dir, &error))? {
                view.written.push(name.to_owned());
            }
        }
        check(session, store.run_dir(), &files)?;
        place::finish(&store, &files, &change).map_err(|error| cannot(&dir, &error))?;
        if args.git {
            let mut paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
            paths.extend(change.gone.iter().cloned());
            paths.extend([rules::FILE, models::FILE, "run.toml", place::LIST].map(str::to_owned));
            let message = format!("[execute] {}\n", clean(&plan.title));
            let commit = Commit { paths, message, at: None, word: "execute".to_owned() };
            commits::found(&store, commit).map_err(|error| {
                Error::new(Kind::Internal, format!("the project is made, and not committed: {error}"))
            })?;
        }
    }
    tell(session, &dir, is_new, &view)?;
    Ok(exit::DONE)
}

fn cannot(dir: &Path, error: &fs::FsError) -> Error {
    Error::new(Kind::Internal, format!("the project `{}` cannot be made", dir.display())).because(error)
}

/// The plan's run. A profile that is named is one for the project of work.
fn open_plan(session: &Session, args: &ExecuteArgs) -> Result<Opened, Error> {
    match (&args.run, &session.globals.run_dir) {
        (Some(run), None) => {
            let place = Where { run_dir: Some(run.clone()), profile: None, ..session.place() };
            open::open(&place, false).map_err(|error| session.open_error(error))
        }
        (run, _) => session.open_named(run.as_deref(), true),
    }
}

/// The folder beside a run.
fn beside(args: &ExecuteArgs, run: &Path) -> PathBuf {
    let named = args.run.clone().filter(|run| run.file_name().is_some());
    let run = named.unwrap_or_else(|| run.to_owned());
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push("-execution");
    run.with_file_name(name)
}

/// The files of a plan, if all of them are made and none is out of date.
fn read_plan(session: &Session, args: &ExecuteArgs, opened: &Opened) -> Result<(Plan, Besides), Error> {
    let (project, store) = (&opened.project, &opened.store);
    let mut targets = Vec::new();
    for path in [plan::TREE, plan::SCHEDULE, plan::SUMMARY] {
        let Some(id) = project.graph.producer(path) else {
            let message =
                format!("`{}` makes no `{path}`: its plan cannot be carried out", clean(&project.name));
            return Err(Error::new(Kind::Refused, message)
                .code("no_plan")
                .hint("`planexe new DIR --pipeline strategic-plan` makes a run of a pipeline that does"));
        };
        targets.push((id, None));
    }
    let gate = project.graph.producer(plan::GATE);
    targets.extend(gate.map(|id| (id, None)));
    let at = shell_path(args.run.as_deref().unwrap_or(store.run_dir()));
    let seen = look(session, opened, &Index::load(store), &targets);
    for (id, _) in &targets {
        let state = seen.standing.of(*id).map(|task| task.state);
        if !state.is_some_and(|state| state.is_complete()) {
            let word = state.map_or("pending", |state| state.word());
            let message = format!("the plan is not finished: `{}` is {word}", project.graph[*id].name);
            let next = match gate == Some(*id) && word == "waiting" {
                true => format!(
                    "read pre_project_assessment.md, then `planexe -C {at} done {}`",
                    project.graph[*id].name
                ),
                false => format!("`planexe -C {at} build` continues with it"),
            };
            return Err(Error::new(Kind::Refused, message).code("unfinished").hint(next));
        }
    }
    let [tree, schedule, summary] = [plan::TREE, plan::SCHEDULE, plan::SUMMARY].map(|path| text(store, path));
    let (tree, schedule, summary) = (tree?, schedule?, summary?);
    let json = |path: &str, text: &str| -> Result<Value, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::new(Kind::Refused, format!("`{path}` is no JSON: {error}")).code("no_plan")
        })
    };
    let (tree, schedule) = (json(plan::TREE, &tree)?, json(plan::SCHEDULE, &schedule)?);
    let read = plan::read(&tree, &schedule, &json(plan::SUMMARY, &summary)?);
    let plan = read.map_err(|why| Error::new(Kind::Refused, why).code("no_plan"))?;
    if plan.verdict == "no-go" && !args.force && !is_passed_by_hand(store) {
        return Err(Error::new(Kind::Refused, "the verdict on the plan is no-go")
            .code("no_go")
            .hint("read pre_project_assessment.md; `--force` carries the plan out all the same"));
    }
    let language = project.vars.get("language").and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = project.tables.pipeline.plan.as_ref().and_then(|path| text(store, path).ok());
    Ok((plan, Besides { language, summary, text }))
}

/// Whether a person let a no-go pass.
fn is_passed_by_hand(store: &Store) -> bool {
    let found: Option<Value> = text(store, plan::GATE).ok().and_then(|text| serde_json::from_str(&text).ok());
    found.is_some_and(|found| found["by"] == "human" && found["passed"] == true)
}

fn text(store: &Store, path: &str) -> Result<String, Error> {
    let bytes = fs::read_capped(&store.path(path), LARGEST)?;
    String::from_utf8(bytes)
        .map_err(|_| Error::new(Kind::Refused, format!("`{path}` is not UTF-8")).code("no_plan"))
}

/// What was made there before; a folder with anything else in it is left alone.
fn former(dir: &Path) -> Result<Option<Listed>, Error> {
    let shown = dir.display();
    match fs::kind(dir)? {
        None => return Ok(None),
        Some(_) if !dir.is_dir() => {
            return Err(Error::usage(format!("`{shown}` is there and is no folder")).code("not_empty"));
        }
        Some(_) => {}
    }
    let listed = place::listed(dir).map_err(|why| Error::new(Kind::Refused, why))?;
    // An execution.toml may be there first.
    let other = |(name, _): &(std::ffi::OsString, _)| name != rules::FILE && name != models::FILE;
    if listed.is_none() && place::not_of_ours(dir)?.iter().any(other) {
        return Err(Error::usage(format!("`{shown}` is not empty, and was not made by `planexe execute`"))
            .code("not_empty")
            .hint("`--into DIR` names a folder that is not there yet"));
    }
    Ok(listed)
}

/// The rules in the folder, if there are any.
fn rules_of(session: &Session, args: &ExecuteArgs, dir: &Path) -> Result<Option<Rules>, Error> {
    let file = dir.join(rules::FILE);
    let Some(bytes) = fs::linked::read_optional(&file)? else { return Ok(None) };
    if args.kind.is_some() || args.approve.is_some() {
        return Err(Error::usage(format!("`{}` says who does what already", file.display()))
            .hint("change `kind` or `approve` there, and leave the option out"));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let rules = Rules::from_text(&file, text)
        .map_err(|faults| session.open_error(OpenError::Faults(Box::new(faults))))?;
    if args.git && !rules.git {
        return Err(Error::usage(format!("`--git`, and `{}` does not say `git = true`", file.display()))
            .hint("say it there"));
    }
    Ok(Some(rules))
}

/// The rules the command line says.
fn rules_said(args: &ExecuteArgs) -> Rules {
    Rules {
        kind: match args.kind {
            Some(KindArg::Ai) => By::Ai,
            Some(KindArg::Human) => By::Human,
            None => By::Rule,
        },
        approve: if args.approve.is_some() { Approve::Phases } else { Approve::None },
        git: args.git,
        ..Rules::default()
    }
}

/// Files that are written once, and are the user's from then on.
fn once(
    session: &Session,
    args: &ExecuteArgs,
    opened: &Opened,
    plan: &Plan,
    had_rules: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let options = ReadOptions {
        allow_outside: session.globals.repeated.allow_outside.clone(),
        ..ReadOptions::default()
    };
    let manifest = Manifest::read(&opened.project.file, &options)
        .map_err(|faults| session.open_error(OpenError::Faults(Box::new(faults))))?;
    let profile =
        session.globals.profile.clone().filter(|_| args.run.is_some()).or(opened.project.profile.clone());
    let profiles = &manifest.tables.profiles;
    let keeps = |name: &String| profiles.get(name).is_some_and(models::keeps);
    if let Some(name) = session.globals.profile.as_ref().filter(|name| !keeps(name)) {
        return Err(Error::usage(format!("no profile `{}` goes along to a project of work", clean(name)))
            .hint("profiles that answer from recorded answers stay with the plan"));
    }
    let run = RunFile {
        pipeline: "pipeline.toml".to_owned(),
        parent: Some(opened.store.run_dir().display().to_string()),
        label: Some(clean(&plan.title)),
        created: None,
        profile: profile.filter(keeps),
    };
    let mut files = vec![(models::FILE, models::text(&manifest.tables)), ("run.toml", run.to_text())];
    if !had_rules {
        files.push((rules::FILE, rules::example(&rules_said(args))));
    }
    Ok(files)
}

/// The pipeline that is about to be written has no fault, whatever the plan's words and the user's rules.
fn check(session: &Session, dir: &Path, files: &[(String, String)]) -> Result<(), Error> {
    let Some((name, text)) = files.last() else { return Ok(()) };
    let fail = |faults| session.open_error(OpenError::Faults(Box::new(faults)));
    let (manifest, faults) =
        Manifest::from_text(&dir.join(name), text.clone(), &ReadOptions::default()).map_err(fail)?;
    match faults.is_empty() {
        true => Ok(()),
        false => Err(fail(manifest.faults(faults)).hint(format!(
            "what is said in {} and {} leads to it",
            rules::FILE,
            models::FILE
        ))),
    }
}

fn edited(dir: &Path, files: &[String]) -> Error {
    let mut names: Vec<String> = files.iter().take(TOLD).map(|path| format!("`{}`", clean(path))).collect();
    if files.len() > TOLD {
        names.push(format!("{} more", files.len() - TOLD));
    }
    let message =
        format!("edited by hand since, and in the way in `{}`: {}", dir.display(), names.join(", "));
    Error::new(Kind::Refused, message)
        .code("edited")
        .hint(format!("who does what is said in {}, models in {}", rules::FILE, models::FILE))
        .hint("`--force` writes over them; what they hold now goes to history (`planexe history execute`)")
}

fn tell(session: &Session, dir: &Path, is_new: bool, view: &View) -> Result<(), Error> {
    if session.globals.json {
        return session.print_answer(&fs::resolved(dir), view);
    }
    let shown = planexe_pipeline::manifest::fault::shown_path(dir);
    let made = match (view.dry_run, is_new) {
        (true, _) => "would make",
        (false, true) => "made",
        (false, false) if view.written.is_empty() && view.removed.is_empty() => "nothing to change in",
        (false, false) => "made again",
    };
    session.say(&format!(
        "{made} the project `{shown}`: {} in {} and {}",
        count(view.steps as u64, "step"),
        count(view.tasks as u64, "task"),
        count(view.phases as u64, "phase"),
    ));
    session.say(&format!(
        "  {} for a model to write, {} for a program, {} for a person",
        view.ai, view.command, view.human
    ));
    for line in view.dropped.iter().take(TOLD) {
        session.complain(&format!("warning: not used: {}", clean(line)));
    }
    if view.dropped.len() > TOLD {
        session.complain(&format!("warning: and {} more, see README.md there", view.dropped.len() - TOLD));
    }
    if !is_new && !view.written.is_empty() {
        let removed =
            if view.removed.is_empty() { String::new() } else { format!(", {} removed", view.removed.len()) };
        session.say(&format!(
            "  {} written, {} as they were{removed}",
            count(view.written.len() as u64, "file"),
            view.unchanged
        ));
    }
    for path in &view.overwritten {
        session
            .complain(&format!("warning: `{}` was edited by hand: what it held is in history", clean(path)));
    }
    session.say("next:");
    for step in &view.next {
        session.say(&format!("  {step}"));
    }
    Ok(())
}
