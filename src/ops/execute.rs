//! Makes a finished plan into a project of work.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::ops::Session;
use crate::ops::status::look;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs;
use planexe_base::style::{clean, shell_path};
use planexe_build::git_recorder::{self as commits, Commit};
use planexe_pipeline::load::{self, Locations};
use planexe_pipeline::manifest::run::RunFile;
use planexe_pipeline::manifest::{Manifest, ReadOptions};
use planexe_pipeline::open::{self, OpenError, Opened, Where};
use planexe_plan_execution::files::Besides;
use planexe_plan_execution::models;
use planexe_plan_execution::place::{self, Change, Listed};
use planexe_plan_execution::plan::{self, Plan};
use planexe_plan_execution::project::Project;
use planexe_plan_execution::rules::{self, Approve, By, Rules};
use planexe_store::Store;
use planexe_store::index::Index;
use planexe_store::lock::{RunLock, Wait};

/// Largest file of a plan that is read.
const LARGEST: u64 = 64 << 20;
/// Files edited by hand that an error names.
const TOLD: usize = 8;

/// How a plan is made into a project.
#[derive(Debug, Clone, Default)]
pub struct ExecuteOptions {
    /// The run of the plan; none: the one that the session means.
    pub run: Option<PathBuf>,
    /// The folder of the project; none: beside the run.
    pub into: Option<PathBuf>,
    /// Who does what no rule names, if that is said.
    pub kind: Option<By>,
    /// What needs a person's approval before it begins, if that is said.
    pub approve: Option<Approve>,
    /// The project is a git repository.
    pub git: bool,
    /// Despite a no-go, and over files edited by hand.
    pub force: bool,
    /// Write nothing.
    pub dry_run: bool,
}

/// The project that was made, or would be.
#[derive(Debug)]
pub struct Executed {
    /// Its folder.
    pub dir: PathBuf,
    /// Nothing was made there before.
    pub is_new: bool,
    /// What it came to.
    pub view: ExecuteView,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExecuteView {
    /// The plan's run.
    pub plan: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// How many there are.
    pub phases: usize,
    /// How many there are.
    pub tasks: usize,
    /// How many there are.
    pub steps: usize,
    /// Steps that a model writes.
    pub ai: usize,
    /// Steps that a program does.
    pub command: usize,
    /// Steps that a person does.
    pub human: usize,
    /// What waits for what.
    pub dependencies: usize,
    /// What of the plan could not be used.
    pub dropped: Vec<String>,
    /// Files that were written.
    pub written: Vec<String>,
    /// Files left as they were.
    pub unchanged: usize,
    /// Files removed.
    pub removed: Vec<String>,
    /// Files written over though edited.
    pub overwritten: Vec<String>,
    /// Links that were in the place of files.
    pub links: Vec<String>,
    /// What to type next.
    pub next: Vec<String>,
}

/// Makes the project.
pub fn execute(session: &Session, options: &ExecuteOptions) -> Result<Executed, Error> {
    let opened = open_plan(session, options)?;
    let run = opened.store.run_dir().to_owned();
    let (plan, besides) = read_plan(session, options, &opened)?;
    let dir = options.into.clone().unwrap_or_else(|| beside(options, &run));
    if fs::resolved(&dir) == fs::resolved(&run) {
        return Err(Error::usage("the project needs a folder of its own").hint("`--into DIR` names one"));
    }
    let listed = former(&dir)?;
    let is_new = listed.is_none();
    let rules = rules_of(session, options, &dir)?;
    let had_rules = rules.is_some();
    let mut ruler = rules.unwrap_or_else(|| rules_said(options)).ruler();
    let project = Project::new(&plan, &mut ruler);
    let files = project.files(&plan, &ruler, &besides);
    require_own_outputs(&project, &files)?;
    let listed = listed.unwrap_or_default();
    let change = place::compare(&dir, &listed, &files).map_err(|error| cannot(&dir, &error))?;
    let in_the_way = !change.edited.is_empty() || !change.links.is_empty();
    if in_the_way && !options.force {
        return Err(refused(&dir, &change));
    }
    let path = |n: &usize| files[*n].0.clone();
    let shown = shell_path(&dir);
    let mut view = ExecuteView {
        plan: run.display().to_string(),
        dry_run: options.dry_run,
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
        links: change.links.clone(),
        next: vec![format!("planexe -C {shown} gantt"), format!("planexe -C {shown} build")],
    };
    for pattern in ruler.unused() {
        session.notice(&format!(
            "warning: `match = \"{}\"` in {} names no step",
            clean(pattern),
            rules::FILE
        ));
    }
    if !options.dry_run {
        fs::make_dirs(&dir, fs::Durability::Synced).map_err(|error| cannot(&dir, &error))?;
        let _lock = RunLock::acquire(&dir, Wait::No).map_err(|error| session.lock_error(&error))?;
        // What was compared is what is changed.
        if former(&dir)?.unwrap_or_default() != listed {
            return Err(Error::new(Kind::Refused, "another planexe made the project meanwhile")
                .hint("type the same again"));
        }
        let store = Store::open(fs::resolved(&dir));
        let once = once(session, options, &opened, &plan, had_rules)?;
        // The list of what is ours comes first: by it the folder is known again if this is cut short.
        place::write(&store, &listed, &files, &change).map_err(|error| cannot(&dir, &error))?;
        for (name, text) in once {
            if place::write_once(store.run_dir(), name, &text).map_err(|error| cannot(&dir, &error))? {
                view.written.push(name.to_owned());
            }
        }
        check(session, store.run_dir(), &files)?;
        place::finish(&store, &files, &change).map_err(|error| cannot(&dir, &error))?;
        if options.git {
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
    Ok(Executed { dir, is_new, view })
}

/// No step delivers in the place of a file that the project is made of.
fn require_own_outputs(project: &Project<'_>, files: &[(String, String)]) -> Result<(), Error> {
    let own = [rules::FILE, models::FILE, place::LIST];
    let taken = |path: &str| own.contains(&path) || files.iter().any(|(file, _)| file == path);
    let Some(item) = project.items().find(|item| taken(&item.output)) else { return Ok(()) };
    let message = format!("step `{}` would write over `{}`, a file of the project", item.name, item.output);
    Err(Error::usage(message)
        .code("output_taken")
        .hint(format!("give it another `output` in {}, such as one in deliverables/", rules::FILE)))
}

fn cannot(dir: &Path, error: &fs::FsError) -> Error {
    Error::new(Kind::Internal, format!("the project `{}` cannot be made", dir.display())).because(error)
}

/// The plan's run. A profile that is named is one for the project of work.
fn open_plan(session: &Session, options: &ExecuteOptions) -> Result<Opened, Error> {
    match (&options.run, &session.place.run_dir) {
        (Some(run), None) => {
            let place = Where { run_dir: Some(run.clone()), profile: None, ..session.place() };
            open::open(&place, false).map_err(|error| session.open_error(error))
        }
        (run, _) => session.open_named(run.as_deref(), true),
    }
}

/// The folder beside a run.
fn beside(options: &ExecuteOptions, run: &Path) -> PathBuf {
    let named = options.run.clone().filter(|run| run.file_name().is_some());
    let run = named.unwrap_or_else(|| run.to_owned());
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push("-execution");
    run.with_file_name(name)
}

/// The files of a plan, if all of them are made and none is out of date.
fn read_plan(session: &Session, options: &ExecuteOptions, opened: &Opened) -> Result<(Plan, Besides), Error> {
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
    let at = shell_path(options.run.as_deref().unwrap_or(store.run_dir()));
    let seen = look(session, opened, &Index::load(store), &targets);
    for (id, _) in &targets {
        let state = seen.standing.of(*id).map(|task| task.state);
        if !state.is_some_and(|state| state.is_complete()) {
            let word = state.map_or("pending", |state| state.name());
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
    if plan.verdict == "no-go" && !options.force && !is_passed_by_hand(store) {
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
fn rules_of(session: &Session, options: &ExecuteOptions, dir: &Path) -> Result<Option<Rules>, Error> {
    let file = dir.join(rules::FILE);
    let Some(bytes) = fs::linked::read_optional(&file)? else { return Ok(None) };
    if options.kind.is_some() || options.approve.is_some() {
        return Err(Error::usage(format!("`{}` says who does what already", file.display()))
            .hint("change `kind` or `approve` there, and leave the option out"));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let rules = Rules::from_text(&file, text)
        .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?;
    if options.git && !rules.git {
        return Err(Error::usage(format!("`--git`, and `{}` does not say `git = true`", file.display()))
            .hint("say it there"));
    }
    Ok(Some(rules))
}

/// The rules the command line says.
fn rules_said(options: &ExecuteOptions) -> Rules {
    Rules {
        kind: options.kind.unwrap_or(By::Rule),
        approve: options.approve.unwrap_or(Approve::None),
        git: options.git,
        ..Rules::default()
    }
}

/// Files that are written once, and are the user's from then on.
fn once(
    session: &Session,
    options: &ExecuteOptions,
    opened: &Opened,
    plan: &Plan,
    had_rules: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let allow_outside = session.place.allow_outside.clone();
    let reading = ReadOptions { allow_outside, ..ReadOptions::default() };
    let manifest = Manifest::read(&opened.project.file, &reading)
        .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?;
    let profile =
        session.place.profile.clone().filter(|_| options.run.is_some()).or(opened.project.profile.clone());
    let profiles = &manifest.tables.profiles;
    let keeps = |name: &String| profiles.get(name).is_some_and(models::keeps);
    if let Some(name) = session.place.profile.as_ref().filter(|name| !keeps(name)) {
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
        files.push((rules::FILE, rules::example(&rules_said(options))));
    }
    Ok(files)
}

/// The pipeline that is about to be written has no fault, whatever the plan's words and the user's rules.
fn check(session: &Session, dir: &Path, files: &[(String, String)]) -> Result<(), Error> {
    let Some((name, text)) = files.last() else { return Ok(()) };
    let locations = Locations { pipeline: dir.join(name), run: dir.to_owned(), ..Locations::default() };
    match load::load_text(&locations, text.clone()) {
        Ok(_) => Ok(()),
        Err(faults) => {
            let error = session.open_error(OpenError::Diagnostics(Box::new(faults)));
            Err(error.hint(format!("what is said in {} and {} leads to it", rules::FILE, models::FILE)))
        }
    }
}

fn refused(dir: &Path, change: &Change) -> Error {
    let names = |files: &[String]| {
        let mut names: Vec<String> =
            files.iter().take(TOLD).map(|path| format!("`{}`", clean(path))).collect();
        if files.len() > TOLD {
            names.push(format!("{} more", files.len() - TOLD));
        }
        names.join(", ")
    };
    let shown = dir.display();
    let mut found = Vec::new();
    if !change.edited.is_empty() {
        found.push(format!("edited by hand since, and in the way in `{shown}`: {}", names(&change.edited)));
    }
    if !change.links.is_empty() {
        found.push(format!("links in the place of files in `{shown}`: {}", names(&change.links)));
    }
    let mut error = Error::new(Kind::Refused, found.join("; ")).code("edited").hint(format!(
        "who does what is said in {}, models in {}",
        rules::FILE,
        models::FILE
    ));
    if !change.edited.is_empty() {
        error = error.hint(
            "`--force` writes over them; what they hold now goes to history (`planexe history execute`)",
        );
    }
    if !change.links.is_empty() {
        error = error.hint("`--force` puts files in the place of links; what they lead to is left alone");
    }
    error
}
