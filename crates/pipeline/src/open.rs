//! Finding the run directory and its pipeline, and opening both: how every command begins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::allowed_pipelines::{Because, Only};
use crate::load::{self, Locations};
use crate::manifest::names::loose;
use crate::manifest::run::RunFile;
use crate::manifest::{Diagnostics, ReadOptions, nearest, suggest};
use crate::project::{Project, readable};
use planexe_base::fs::{self, FileKind};
use planexe_base::pattern;
use planexe_engine::graph::{Graph, Kind, TaskId};
use planexe_llm::keys;
use planexe_store::Store;

/// What the command line says of where to work.
#[derive(Debug, Clone, Default)]
pub struct Where {
    /// `-C`.
    pub run_dir: Option<PathBuf>,
    /// `-f`.
    pub file: Option<PathBuf>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `-D`.
    pub defines: Vec<(String, String)>,
    /// `--allow-outside`.
    pub allow_outside: Vec<PathBuf>,
    /// The pipelines a run may be of, if not any will do.
    pub only: Option<Arc<Only>>,
}

impl Where {
    /// The options that say how the pipeline is read, for another planexe.
    pub fn options(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        let mut add = |option: &str, value: OsString| options.extend([OsString::from(option), value]);
        self.file.iter().for_each(|file| add("-f", file.into()));
        self.profile.iter().for_each(|name| add("--profile", name.into()));
        self.defines.iter().for_each(|(name, value)| add("-D", format!("{name}={value}").into()));
        self.allow_outside.iter().for_each(|dir| add("--allow-outside", dir.into()));
        options
    }
}

/// A run directory with its pipeline.
#[derive(Debug)]
pub struct Opened {
    /// The pipeline, ready.
    pub project: Arc<Project>,
    /// The records.
    pub store: Arc<Store>,
    /// `run.toml`, if the run has one.
    pub run_file: Option<RunFile>,
    /// The moment, in nanoseconds since 1970, before the first file was read.
    pub began_ns: i64,
    /// What the pipeline was read with.
    pub options: ReadOptions,
    /// Why its pipeline will do, if not any would.
    pub because: Option<Because>,
}

/// Why a run cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// There is none.
    NoRun {
        /// Where it was looked for.
        from: PathBuf,
    },
    /// The nearest one is above the current directory, and the command must not change it unasked.
    Above {
        /// The run found.
        run: PathBuf,
    },
    /// The nearest `pipeline.toml` or `run.toml` is a folder, or a link to nowhere.
    NotAFile(PathBuf),
    /// There is no telling whether there is one: the disk says neither.
    Unreadable(PathBuf, std::io::Error),
    /// A folder that was named is none.
    NoFolder(PathBuf),
    /// The pipeline is none of those the run may be of.
    Another {
        /// The run.
        run: PathBuf,
        /// Its pipeline, as it is named.
        pipeline: PathBuf,
    },
    /// The pipeline has faults.
    Diagnostics(Box<Diagnostics>),
}

/// The run directory the command line means, and whether it is above the current directory.
pub fn find_run(place: &Where) -> Result<(PathBuf, bool), OpenError> {
    if let Some(dir) = &place.run_dir {
        if !dir.is_dir() {
            return Err(OpenError::NoFolder(dir.clone()));
        }
        return Ok((dir.clone(), false));
    }
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    if place.file.is_some() {
        return Ok((here, false));
    }
    let named = |dir: &Path| ["run.toml", "pipeline.toml"].map(|name| dir.join(name));
    for dir in here.ancestors() {
        for file in named(dir) {
            match file.metadata() {
                Ok(meta) if meta.is_file() => return Ok((dir.to_owned(), dir != here)),
                // What the disk cannot look at is not taken for absent: a run above may be another one.
                Err(error) if !is_absent(&error) && !file.is_symlink() => {
                    return Err(OpenError::Unreadable(file, error));
                }
                _ => {}
            }
        }
    }
    match named(&here).into_iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => Err(OpenError::NotAFile(file)),
        None => Err(OpenError::NoRun { from: here }),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidFilename)
}

/// A run's files, before anything but `run.toml` is read.
#[derive(Debug)]
pub struct Located {
    /// Run directory, pipeline and what is chosen.
    pub locations: Locations,
    /// `run.toml`, if the run has one.
    pub run_file: Option<RunFile>,
    /// Why its pipeline will do, if not any would.
    pub because: Option<Because>,
}

/// Finds the run and its pipeline. `may_go_up`: whether a run above the current directory will do (reading
/// commands).
pub fn locate(place: &Where, may_go_up: bool) -> Result<Located, OpenError> {
    let (run, above) = find_run(place)?;
    if above && !may_go_up {
        return Err(OpenError::Above { run });
    }
    let run_toml = run.join("run.toml");
    // What a link leads to would be shown where it is wrong.
    if place.only.is_some() && fs::kind(&run_toml).ok().flatten().is_some_and(|kind| kind != FileKind::File) {
        return Err(OpenError::NotAFile(run_toml));
    }
    let run_file = match place.file.is_none() && run_toml.is_file() {
        true => Some(RunFile::read(&run_toml).map_err(|faults| OpenError::Diagnostics(Box::new(faults)))?),
        false => None,
    };
    let mut pipeline = match (&place.file, &run_file) {
        (Some(file), _) => file.clone(),
        (None, Some(run_file)) => run_file.pipeline_file(&run),
        (None, None) => run.join("pipeline.toml"),
    };
    let mut because = None;
    if let Some(only) = &place.only {
        let Some((why, real)) = only.choose(&run, &pipeline) else {
            return Err(OpenError::Another { run, pipeline });
        };
        (because, pipeline) = (Some(why), real);
    }
    let profile = place.profile.clone().or_else(|| run_file.as_ref().and_then(|run| run.profile.clone()));
    let locations = Locations {
        run,
        pipeline,
        options: ReadOptions {
            profile,
            defines: place.defines.clone(),
            allow_outside: place.allow_outside.clone(),
        },
        parent: run_file.as_ref().and_then(|run| run.parent.clone()),
    };
    Ok(Located { locations, run_file, because })
}

/// Opens the run: [`locate`], and everything read.
pub fn open(place: &Where, may_go_up: bool) -> Result<Opened, OpenError> {
    let began_ns = fs::now_ns();
    let Located { locations, run_file, mut because } = locate(place, may_go_up)?;
    let project = load::load(&locations).map_err(|faults| OpenError::Diagnostics(Box::new(faults)))?;
    keys::hide(project.key_variables());
    if let Some(only) = place.only.as_ref().filter(|_| because == Some(Because::Copy))
        && !only.is_whole_copy(&locations.run, &project.sources)
    {
        if !only.in_run {
            return Err(OpenError::Another { run: locations.run, pipeline: locations.pipeline });
        }
        because = Some(Because::InRun);
    }
    let project = Project { own_programs: because.is_some(), ..project };
    let store = Store::open(project.run.clone());
    store.may_read(&readable(&project.run, &project.folder, &project.allow_outside));
    let options = locations.options;
    Ok(Opened { project: Arc::new(project), store: Arc::new(store), run_file, began_ns, options, because })
}

/// A task named on the command line, loosely, and the key of an instance if one was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The task; of `review[anna]` the family.
    pub task: TaskId,
    /// The key.
    pub key: Option<String>,
}

/// Finds the task a name means, as [`find_task`] does, or by an alias of `[aliases]`.
pub fn find(project: &Project, written: &str) -> Result<Named, Option<String>> {
    find_task(&project.graph, written).or_else(|hint| {
        let (name, item) = match written.find('[') {
            Some(at) => written.split_at(at),
            None => (written, ""),
        };
        let aliases = &project.tables.aliases;
        let loosely =
            || aliases.iter().find(|(alias, _)| loose(alias) == loose(name)).map(|(_, means)| means);
        let means = aliases.get(&pattern::normalize(name)).or_else(loosely).ok_or(hint)?;
        find_task(&project.graph, means).and_then(|named| match (item, &named.key) {
            ("", _) => Ok(named),
            // An alias of an output, with an item: the item of the task that writes it.
            _ => find_task(&project.graph, &format!("{}{item}", project.graph[named.task].name)),
        })
    })
}

/// The fan-out and the item's number that a name means by an alias with a `{{ number }}`.
pub fn find_numbered(project: &Project, written: &str) -> Option<(TaskId, usize)> {
    let written = pattern::normalize(written);
    project.tables.aliases.iter().find_map(|(alias, means)| {
        let alias = pattern::normalize(alias);
        let (before, after) = alias.split_once(pattern::NUMBER)?;
        let digits = written.strip_prefix(before)?.strip_suffix(after)?;
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
        Some((find_task(&project.graph, means).ok()?.task, number))
    })
}

/// Finds the task a name means: `SelectScenarioTask`, `select-scenario`, `select_scenario`, an output's
/// name, `task[key]`. Of what matches nothing, the error is a suggestion, if there is one near.
pub fn find_task(graph: &Graph, written: &str) -> Result<Named, Option<String>> {
    let (name, key) = match written.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((name, key)) => (name, Some(key.to_owned())),
        None => (written, None),
    };
    let wanted = loose(name);
    let declared = || graph.order().iter().copied();
    if let Some(task) = declared().find(|&id| graph[id].name == name) {
        return Ok(Named { task, key });
    }
    if let Some(task) = declared().find(|&id| loose(&graph[id].name) == wanted) {
        return Ok(Named { task, key });
    }
    let path = pattern::normalize(written);
    for id in declared() {
        for output in &graph[id].outputs {
            if *output == path {
                return Ok(Named { task: id, key: None });
            }
            if graph[id].kind == Kind::Family
                && let Some(key) = pattern::key_of(output, &path)
            {
                return Ok(Named { task: id, key: Some(key.to_owned()) });
            }
        }
    }
    let names: Vec<&str> = declared().map(|id| graph[id].name.as_str()).collect();
    // A misspelt `SelectScenarioTask` is nearer to `select_scenario.json` than to `select_scenario`.
    let spelt: Vec<String> = names.iter().map(|name| loose(name)).collect();
    if let Some(near) = nearest(&wanted, spelt.iter().map(String::as_str))
        && let Some(at) = spelt.iter().position(|name| name == near)
        && !name.contains(['.', '/'])
    {
        return Err(Some(format!("did you mean `{}`?", names[at])));
    }
    let outputs: Vec<&str> = declared().flat_map(|id| graph[id].outputs.iter().map(String::as_str)).collect();
    Err(suggest(name, names.into_iter().chain(outputs).collect::<Vec<_>>()))
}
