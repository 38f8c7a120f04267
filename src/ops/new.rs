//! Makes a run directory.

use crate::ops::Session;
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::pattern;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::manifest::run::{RunFile, quoted};
use planexe_pipeline::manifest::types::{Api, Model};
use planexe_pipeline::manifest::{Manifest, ReadOptions, paths};
use planexe_pipeline::open::OpenError;
use planexe_ui::views::shell_word;
use std::path::{Component, Path, PathBuf};

/// A pipeline that builds at once, without a server, for a folder that has none above it.
const EXAMPLE: &str = include_str!("example.toml");

/// Its plan.
const EXAMPLE_PLAN: &str = "A bakery in Ghent that delivers bread by bicycle before seven in the morning.\n";

/// Largest file of a sample that is copied.
const LARGEST_SAMPLE: u64 = 1 << 20;

/// What the pipeline that comes with planexe is called.
pub const BUILT_IN: &str = "strategic-plan";

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
    pub of: String,
}

/// Whether the pipeline asked for is the one that comes with planexe, and not a file of that name.
pub fn names_built_in(session: &Session, named: Option<&Path>) -> bool {
    named == Some(Path::new(BUILT_IN)) && !Path::new(BUILT_IN).exists() && !session.bundle.is_empty()
}

/// The pipeline named, or the nearest here or above, through a run's `run.toml` too.
pub fn find_pipeline(session: &Session, named: Option<&PathBuf>) -> Result<Option<PathBuf>, Error> {
    if let Some(file) = named.or(session.place.file.as_ref()) {
        let file = if file.is_dir() { file.join("pipeline.toml") } else { file.clone() };
        return match file.is_file() {
            true => Ok(Some(file)),
            false => {
                Err(Error::usage(format!("there is no pipeline `{}`", file.display())).code("no_pipeline"))
            }
        };
    }
    let here = match &session.place.run_dir {
        Some(dir) => fs::resolved(dir),
        None => fs::resolved(Path::new(".")),
    };
    for folder in here.ancestors() {
        let (run, pipeline) = (folder.join("run.toml"), folder.join("pipeline.toml"));
        if run.is_file() {
            let run = RunFile::read(&run)
                .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?;
            return Ok(Some(run.pipeline_file(folder)));
        }
        if pipeline.is_file() {
            return Ok(Some(pipeline));
        }
    }
    Ok(None)
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
            let (plan, sample) = plan_of(session, &file)?;
            if let Some((text, sources)) = sample.filter(|_| prompt.is_none()) {
                sample_plan = Some(text);
                files.extend(sources);
            }
            let file = file.canonicalize()?;
            let of = format!("of `{}`", shown_path(&file));
            (relative(&place, &file).display().to_string(), plan, of)
        }
        Source::BuiltIn => {
            let copied = built_in(session)?;
            // The sources of a sample stand for the figures of its plan, not for those of another.
            if prompt.is_none() {
                files.extend(copied.sources);
            }
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
            profile: session.place.profile.clone(),
        };
        files.push(("run.toml".into(), run.to_text()));
    }
    write(dir, &files)?;
    let files = files.into_iter().map(|(name, _)| name).collect();
    Ok(Made { place, pipeline, plan, has_text, is_example, files, of })
}

/// The pipeline that comes with planexe, as files of a run.
struct BuiltIn {
    files: Vec<(String, String)>,
    /// The plan that the answers of the profile were recorded for.
    plan: Option<String>,
    /// The sources of its figures.
    sources: Vec<(String, String)>,
}

/// Copies the pipeline that comes with planexe; its profile must be one of its own.
fn built_in(session: &Session) -> Result<BuiltIn, Error> {
    let of = |path: &str| session.bundle.iter().find(|(name, _)| *name == path).map(|(_, text)| *text);
    let manifest = of("pipeline.toml").unwrap_or_default();
    let tables: toml::Table = manifest.parse().unwrap_or_default();
    let profiles = tables.get("profiles").and_then(toml::Value::as_table);
    let (mut plan, mut sources) = (None, Vec::new());
    if let Some(name) = &session.place.profile {
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
        plan = beside.as_deref().and_then(of).map(str::to_owned);
        let folder = beside.map(|path| path.replace("plan.txt", "evidence/")).unwrap_or_default();
        sources = session
            .bundle
            .iter()
            .filter(|_| plan.is_some())
            .filter_map(|(path, text)| {
                Some((format!("evidence/{}", path.strip_prefix(&folder)?), (*text).to_owned()))
            })
            .collect();
    }
    let files = session.bundle.iter().map(|(path, text)| (format!("pipeline/{path}"), (*text).to_owned()));
    Ok(BuiltIn { files: files.collect(), plan, sources })
}

/// Nothing that is there is written over, and no run lies among the records of another or of git.
pub fn check_empty(dir: &Path) -> Result<(), Error> {
    let shown = dir.display();
    let place = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    for place in [&place, &fs::resolved(&place)] {
        let taken = |name: &std::ffi::OsStr| {
            [".planexe", ".git"].into_iter().find(|taken| name.eq_ignore_ascii_case(taken))
        };
        if let Some(taken) = place.iter().find_map(taken) {
            let whose = if taken == ".git" { "git" } else { "planexe itself" };
            return Err(Error::usage(format!(
                "no run is made in `{shown}`: `{taken}` is a folder of {whose}"
            ))
            .code("not_a_run_name")
            .hint("name another folder"));
        }
    }
    match fs::kind(dir)? {
        None => Ok(()),
        Some(_) if !dir.is_dir() => {
            Err(Error::usage(format!("`{shown}` is there and is no folder")).code("not_empty"))
        }
        Some(_) if fs::list_dir(dir)?.is_empty() => Ok(()),
        Some(_) if dir.join("run.toml").is_file() => {
            Err(Error::usage(format!("`{shown}` is not empty: it is a run already, and stays as it is"))
                .code("not_empty")
                .hint(format!("`planexe -C {} edit-plan` changes its plan", shell_word(&shown.to_string())))
                .hint("name a folder that is not there yet"))
        }
        Some(_) => Err(Error::usage(format!("`{shown}` is not empty, so no run is made in it"))
            .code("not_empty")
            .hint("name a folder that is not there yet")),
    }
}

/// The text of a plan ends its last line.
pub fn end_line(text: &mut String) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

/// A plan that the answers of a profile were recorded for, and the files of sources for its figures.
type Sample = (String, Vec<(String, String)>);

/// The file a pipeline names as its plan, and the text for it that the profile brings; a pipeline with faults makes no run.
fn plan_of(session: &Session, file: &Path) -> Result<(Option<String>, Option<Sample>), Error> {
    let options = ReadOptions {
        profile: session.place.profile.clone(),
        defines: session.place.defines.clone(),
        allow_outside: session.place.allow_outside.clone(),
    };
    let manifest = Manifest::read(file, &options)
        .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?;
    let Some(plan) = &manifest.tables.pipeline.plan else { return Ok((None, None)) };
    let plan = paths::substitute_vars(plan, &manifest.tables.vars).unwrap_or_else(|_| plan.into());
    let plan = is_below(Path::new(&*plan)).then(|| pattern::normalize(&plan));
    let sample = match (&plan, &session.place.profile) {
        (Some(_), Some(_)) => sample_of(file, &manifest)?,
        _ => None,
    };
    Ok((plan, sample))
}

/// Whether a path leads nowhere but below where it begins.
fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The plan beside the recorded answers of a profile, and its sources, if they are there.
fn sample_of(file: &Path, manifest: &Manifest) -> Result<Option<Sample>, Error> {
    let recorded = |model: &&Model| model.api == Some(Api::Recorded);
    let answers = manifest.tables.models.values().filter(recorded).find_map(|model| model.file.as_ref());
    let Some(answers) = answers.filter(|answers| is_below(Path::new(answers))) else { return Ok(None) };
    let of_pipeline = fs::resolved(file.parent().unwrap_or(Path::new("")));
    let folder = fs::resolved(&of_pipeline.join(Path::new(answers).parent().unwrap_or(Path::new(""))));
    // A plan beside the pipeline itself is that of another run.
    if folder == of_pipeline || !folder.starts_with(&of_pipeline) {
        return Ok(None);
    }
    let read = |path: &Path| match fs::read_capped(path, LARGEST_SAMPLE) {
        Ok(bytes) => String::from_utf8(bytes).ok(),
        Err(_) => None,
    };
    let Some(text) = read(&folder.join("plan.txt")) else { return Ok(None) };
    let mut sources = Vec::new();
    for (name, kind) in fs::optional(fs::list_dir(&folder.join("evidence")))?.unwrap_or_default() {
        let Some(name) = name.to_str().filter(|_| kind == fs::FileKind::File) else { continue };
        sources
            .extend(read(&folder.join("evidence").join(name)).map(|text| (format!("evidence/{name}"), text)));
    }
    sources.sort();
    Ok(Some((text, sources)))
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
