//! `planexe new`: makes a run directory.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::commands::Session;
use planexe_base::clock;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::pattern;
use planexe_base::style::shell_path;
use planexe_pipeline::manifest::fault::shown_path;
use planexe_pipeline::manifest::run::{RunFile, quoted};
use planexe_pipeline::manifest::{Manifest, ReadOptions, paths};
use planexe_pipeline::open::OpenError;

/// A pipeline that builds at once, without a server, for a folder that has none above it.
const EXAMPLE: &str = include_str!("example.toml");
/// Its plan.
const EXAMPLE_PLAN: &str = "A bakery in Ghent that delivers bread by bicycle before seven in the morning.\n";

/// What the pipeline that comes with planexe is called.
pub const BUILT_IN: &str = "strategic-plan";

/// What `planexe new` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct NewArgs {
    /// The folder to make
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The pipeline it runs; `strategic-plan` is the one that comes with planexe [default: pipeline.toml here or above; if
    /// there is none, strategic-plan with a profile, else a small example]
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Text of the plan, the file that `plan = …` names; `-` reads standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompt_file")]
    pub prompt: Option<String>,

    /// The same from a file; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,

    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// The run this one is made from, to be named in its status
    #[arg(long, value_name = "RUN")]
    pub parent: Option<String>,
}

/// Which pipeline a run is of.
#[derive(Debug, Clone)]
pub enum Source {
    /// This file.
    File(PathBuf),
    /// The one that comes with planexe, copied.
    BuiltIn,
    /// A small example of its own.
    Example,
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The folder to make.
    pub dir: &'a Path,
    /// Its pipeline.
    pub source: Source,
    /// Text of the plan.
    pub prompt: Option<String>,
    /// A name for people.
    pub label: Option<String>,
    /// The run it is made from.
    pub parent: Option<String>,
    /// Further files, written before the one that makes the folder a run.
    pub beside: Vec<(String, String)>,
}

/// A run that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its folder, links resolved.
    pub place: PathBuf,
    /// The pipeline, relative to the run.
    pub pipeline: String,
    /// The plan, relative to the run; none if the pipeline names none.
    pub plan: Option<String>,
    /// Whether the plan was written.
    pub has_text: bool,
    /// Whether the pipeline is an example of its own.
    pub is_example: bool,
    /// The files written.
    pub files: Vec<String>,
    /// What it is of, for people.
    of: String,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// The pipeline, relative to the run.
    pipeline: String,
    /// The plan, relative to the run; none if the pipeline names none.
    plan: Option<String>,
    /// The files written.
    files: Vec<String>,
    /// What to type next.
    next: Vec<String>,
}

/// Makes a run directory.
pub fn run(session: &Session, args: &NewArgs) -> Result<u8, Error> {
    let dir = &args.dir;
    check_empty(dir)?;
    let prompt = read_prompt(session, args)?;
    let built_in = names_built_in(session, args);
    let source = match if built_in { None } else { find_pipeline(session, args)? } {
        Some(file) => Source::File(file),
        None if built_in || session.globals.profile.is_some() => Source::BuiltIn,
        None => Source::Example,
    };
    let (label, parent) = (args.label.clone(), args.parent.clone());
    let made = make(session, Wanted { dir, source, prompt, label, parent, beside: Vec::new() })?;
    let shown = shell_path(dir);
    let mut next = Vec::new();
    if let (false, Some(plan)) = (made.has_text, &made.plan) {
        next.push(format!("write your plan to {}", shown_path(&dir.join(plan))));
    }
    if !made.is_example {
        // The model is the one thing that may not be there.
        next.push(format!("planexe -C {shown} doctor"));
    }
    next.extend([format!("planexe -C {shown} build -n"), format!("planexe -C {shown} build")]);
    if session.globals.json {
        let Made { place, pipeline, plan, files, .. } = made;
        session.print_answer(&place, &View { pipeline, plan, files, next })?;
        return Ok(exit::DONE);
    }
    session.say(&format!("made the run `{}` {}", shown_path(dir), made.of));
    session.say("next:");
    for step in next {
        session.say(&format!("  {step}"));
    }
    if made.is_example && !session.bundle.is_empty() {
        session.say(&format!("a whole plan: planexe new DIR --pipeline {BUILT_IN}, or --profile sample to see one without a model"));
    }
    Ok(exit::DONE)
}

/// Makes a run with the profile of the session. What makes the folder a run is written last.
pub fn make(session: &Session, wanted: Wanted<'_>) -> Result<Made, Error> {
    let Wanted { dir, source, prompt, label, parent, beside: mut files } = wanted;
    check_empty(dir)?;
    let place = fs::resolved(dir);
    let mut sample_plan = None;
    let is_example = matches!(source, Source::Example);
    let (pipeline, plan, of) = match source {
        Source::File(file) => {
            let plan = plan_of(session, &file)?;
            let file = file.canonicalize()?;
            let of = format!("of `{}`", shown_path(&file));
            (relative(&place, &file).display().to_string(), plan, of)
        }
        Source::BuiltIn => {
            let copied = built_in(session)?;
            sample_plan = copied.plan;
            files.extend(copied.files);
            let of = format!("of {BUILT_IN}, copied to `{}`", shown_path(&dir.join("pipeline")));
            ("pipeline/pipeline.toml".to_owned(), Some("plan.txt".to_owned()), of)
        }
        Source::Example => {
            let name = place.file_name().map_or("demo".into(), |name| name.to_string_lossy());
            files.push(("pipeline.toml".into(), EXAMPLE.replace("\"demo\"", &quoted(&name))));
            let of = "with an example pipeline that needs no model".to_owned();
            ("pipeline.toml".to_owned(), Some("plan.txt".to_owned()), of)
        }
    };
    let text = prompt.or(sample_plan).or_else(|| is_example.then(|| EXAMPLE_PLAN.to_owned()));
    let has_text = text.is_some();
    match (text, &plan) {
        (Some(text), Some(plan)) => files.push((plan.clone(), text)),
        (Some(_), None) => {
            return Err(Error::usage("the pipeline does not say which file is its plan, so there is no place for the text")
                .hint("add `plan = \"plan.txt\"` under `[pipeline]`, or leave `--prompt` out and write the inputs yourself"));
        }
        (None, _) => {}
    }
    if !is_example || label.is_some() || parent.is_some() {
        let run = RunFile {
            pipeline: pipeline.clone(),
            parent,
            label,
            created: Some(clock::now_utc()),
            profile: session.globals.profile.clone(),
        };
        files.push(("run.toml".into(), run.to_text()));
    }
    write(dir, &files)?;
    let files = files.into_iter().map(|(name, _)| name).collect();
    Ok(Made { place, pipeline, plan, has_text, is_example, files, of })
}

/// Whether the pipeline asked for is the one that comes with planexe, and not a file of that name.
fn names_built_in(session: &Session, args: &NewArgs) -> bool {
    let named = args.pipeline.as_deref();
    named == Some(Path::new(BUILT_IN)) && !Path::new(BUILT_IN).exists() && !session.bundle.is_empty()
}

/// The pipeline that comes with planexe, as files of a run.
struct BuiltIn {
    files: Vec<(String, String)>,
    /// The plan that the answers of the profile were recorded for.
    plan: Option<String>,
}

/// Copies the pipeline that comes with planexe; its profile must be one of its own.
fn built_in(session: &Session) -> Result<BuiltIn, Error> {
    let of = |path: &str| session.bundle.iter().find(|(name, _)| *name == path).map(|(_, text)| *text);
    let manifest = of("pipeline.toml").unwrap_or_default();
    let tables: toml::Table = manifest.parse().unwrap_or_default();
    let profiles = tables.get("profiles").and_then(toml::Value::as_table);
    let mut plan = None;
    if let Some(name) = &session.globals.profile {
        let Some(profile) = profiles.and_then(|profiles| profiles.get(name)) else {
            let known: Vec<&str> =
                profiles.into_iter().flat_map(|all| all.keys().map(String::as_str)).collect();
            let error =
                Error::usage(format!("there is no pipeline here, and {BUILT_IN} has no profile `{name}`"));
            return Err(error.hint(format!(
                "`--pipeline FILE` names a pipeline; profiles of {BUILT_IN}: {}",
                known.join(", ")
            )));
        };
        // Beside recorded answers lies the plan they were given to.
        let models = profile.get("models").and_then(toml::Value::as_table);
        let answers = models
            .into_iter()
            .flat_map(|models| models.values())
            .find_map(|model| model.get("file")?.as_str());
        let beside = answers.map(|file| Path::new(file).with_file_name("plan.txt").display().to_string());
        plan = beside.and_then(|path| of(&path)).map(str::to_owned);
    }
    let files = session.bundle.iter().map(|(path, text)| (format!("pipeline/{path}"), (*text).to_owned()));
    Ok(BuiltIn { files: files.collect(), plan })
}

/// Nothing that is there is written over.
fn check_empty(dir: &Path) -> Result<(), Error> {
    let shown = dir.display();
    match fs::kind(dir)? {
        None => Ok(()),
        Some(_) if !dir.is_dir() => {
            Err(Error::usage(format!("`{shown}` is there and is no folder")).code("not_empty"))
        }
        Some(_) if fs::list_dir(dir)?.is_empty() => Ok(()),
        Some(_) => Err(Error::usage(format!("`{shown}` is not empty, so no run is made in it"))
            .code("not_empty")
            .hint("name a folder that is not there yet")),
    }
}

fn read_prompt(session: &Session, args: &NewArgs) -> Result<Option<String>, Error> {
    let stdin = || {
        if session.in_is_terminal {
            session.say("the plan, from the keyboard; Ctrl-D on a line of its own ends it:");
        }
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    };
    let mut text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) if text == "-" => stdin()?,
        (Some(text), _) => text.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => stdin()?,
        (None, Some(file)) => fs::read_to_string(file).map_err(|error| Error::usage(error.to_string()))?,
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        return Err(Error::usage("the plan's text is empty").hint("leave `--prompt` out to write it later"));
    }
    end_line(&mut text);
    Ok(Some(text))
}

/// The text of a plan ends its last line.
pub fn end_line(text: &mut String) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

/// The pipeline named, or the nearest here or above, through a run's `run.toml` too.
fn find_pipeline(session: &Session, args: &NewArgs) -> Result<Option<PathBuf>, Error> {
    if let Some(file) = args.pipeline.as_ref().or(session.globals.file.as_ref()) {
        let file = if file.is_dir() { file.join("pipeline.toml") } else { file.clone() };
        return match file.is_file() {
            true => Ok(Some(file)),
            false => {
                Err(Error::usage(format!("there is no pipeline `{}`", file.display())).code("no_pipeline"))
            }
        };
    }
    let here = match &session.globals.run_dir {
        Some(dir) => fs::resolved(dir),
        None => fs::resolved(Path::new(".")),
    };
    for folder in here.ancestors() {
        let (run, pipeline) = (folder.join("run.toml"), folder.join("pipeline.toml"));
        if run.is_file() {
            let run = RunFile::read(&run)
                .map_err(|faults| session.open_error(OpenError::Faults(Box::new(faults))))?;
            return Ok(Some(run.pipeline_file(folder)));
        }
        if pipeline.is_file() {
            return Ok(Some(pipeline));
        }
    }
    Ok(None)
}

/// The file a pipeline names as its plan; a pipeline with faults makes no run.
fn plan_of(session: &Session, file: &Path) -> Result<Option<String>, Error> {
    let options = ReadOptions {
        profile: session.globals.profile.clone(),
        defines: session.globals.repeated.define.clone(),
        allow_outside: session.globals.repeated.allow_outside.clone(),
    };
    let manifest = Manifest::read(file, &options)
        .map_err(|faults| session.open_error(OpenError::Faults(Box::new(faults))))?;
    let Some(plan) = &manifest.tables.pipeline.plan else { return Ok(None) };
    let plan = paths::substitute_vars(plan, &manifest.tables.vars).unwrap_or_else(|_| plan.into());
    let inside =
        Path::new(&*plan).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    Ok(inside.then(|| pattern::normalize(&plan)))
}

fn write(dir: &Path, files: &[(String, String)]) -> Result<(), Error> {
    let fault = |error: fs::FsError| {
        Error::new(Kind::Internal, format!("the run `{}` cannot be made", dir.display())).because(&error)
    };
    fs::make_dirs(dir, Durability::Synced).map_err(fault)?;
    for (name, text) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::make_dirs(parent, Durability::Synced).map_err(fault)?;
        }
        fs::write_atomic(&path, text.as_bytes(), Durability::Synced).map_err(fault)?;
    }
    Ok(())
}

/// The way from a folder to a file, both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_a_run_to_its_pipeline() {
        for (from, to, way) in [
            ("/a/runs/x", "/a/pipeline.toml", "../../pipeline.toml"),
            ("/a/x", "/a/x/pipeline.toml", "pipeline.toml"),
            ("/b", "/a/pipeline.toml", "../a/pipeline.toml"),
            ("/a/b c/d", "/a/b c/p/q.toml", "../p/q.toml"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }

    #[test]
    fn the_example_has_no_faults() {
        let text = EXAMPLE.replace("\"demo\"", &quoted("a \"b\""));
        let (_, faults) =
            Manifest::from_text(Path::new("pipeline.toml"), text, &ReadOptions::default()).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
    }
}
