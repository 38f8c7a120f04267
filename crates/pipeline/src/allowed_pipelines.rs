//! Which pipelines a run may be of, where not every one will do: an agent that may steer runs does not say which programs
//! run, so that a folder it could have made itself counts only if its pipeline is one that was given to its server.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use planexe_base::fs;
use planexe_base::record::Digest;

/// Where the copy of the pipeline that comes with planexe lies in a run.
pub const COPY: &str = "pipeline/pipeline.toml";
/// Hidden argument of a build that may be of one pipeline alone; its file follows, or nothing for the one that comes along.
pub const ARGUMENT: &str = "__only";

/// The pipelines whose runs are opened; all others are refused.
#[derive(Debug, Clone, Default)]
pub struct Only {
    /// These files, links resolved.
    pub files: Vec<PathBuf>,
    /// A copy in the run of these files: paths and texts of the pipeline that comes with planexe. None if empty.
    pub copy_of: &'static [(&'static str, &'static str)],
    /// Any that lies in the run itself: enough to look at it, not to have it run.
    pub in_run: bool,
}

/// Why the pipeline of a run will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// It is this file.
    File(PathBuf),
    /// It is a copy of the one that comes along, if [`Only::is_whole_copy`] finds it so.
    Copy,
    /// It lies in the run, which is only looked at.
    InRun,
}

impl Only {
    /// Whether a run in `run` may be of the pipeline in `file`, and the file to read. A link counts as where it leads to:
    /// what the pipeline names stands beside that.
    pub fn choose(&self, run: &Path, file: &Path) -> Option<(Because, PathBuf)> {
        let (run, real) = (run.canonicalize().ok()?, file.canonicalize().ok()?);
        if self.files.contains(&real) {
            return Some((Because::File(real.clone()), real));
        }
        if !self.copy_of.is_empty() && real == run.join(COPY) {
            return Some((Because::Copy, real));
        }
        (self.in_run && real.starts_with(&run)).then_some((Because::InRun, real))
    }

    /// Whether what was read is the pipeline that comes along, unchanged in all that says which programs, models and
    /// hosts there are. Prompts and other texts may have been edited: they are data.
    pub fn is_whole_copy(&self, run: &Path, sources: &[(PathBuf, Option<Digest>)]) -> bool {
        let folder = fs::resolved(run).join(COPY);
        let Some(folder) = folder.parent() else { return false };
        let is_toml = |path: &Path| path.extension() == Some(OsStr::new("toml"));
        let same = |(path, digest): &(PathBuf, Option<Digest>)| {
            let below = fs::resolved(path).strip_prefix(folder).ok().map(Path::to_owned);
            let ours = below.and_then(|below| self.copy_of.iter().find(|(name, _)| Path::new(name) == below));
            ours.is_some_and(|(_, text)| *digest == Some(Digest::of(text.as_bytes())))
        };
        let mut manifests = sources.iter().filter(|(path, _)| is_toml(path)).peekable();
        manifests.peek().is_some() && manifests.all(same)
    }

    /// The arguments by which a build is bound to what its run was found to be of.
    pub fn arguments(because: &Because) -> Option<[OsString; 2]> {
        let file = match because {
            Because::File(file) => file.clone().into_os_string(),
            Because::Copy => OsString::new(),
            Because::InRun => return None,
        };
        Some([OsString::from(ARGUMENT), file])
    }

    /// What such arguments mean.
    pub fn from_argument(file: &OsStr, bundle: &'static [(&'static str, &'static str)]) -> Only {
        match file.is_empty() {
            true => Only { copy_of: bundle, ..Only::default() },
            false => Only { files: vec![PathBuf::from(file)], ..Only::default() },
        }
    }
}
