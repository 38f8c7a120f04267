//! Where a run lies in a git repository, and where the commits of its isolated tasks go. What is wrong with either is
//! told before anything runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use crate::git::{Git, GitError, OLDEST};
use crate::git_under_way::UnderWay;
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Digest, SCHEMA};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::project::Project;
use planexe_store::Store;
use planexe_store::lanes::{Pin, Pins};
use planexe_ui::views::shell_word;

/// All branches of ours begin so.
pub const BRANCHES: &str = "planexe/";
/// What failed work is kept on.
pub const SAVED: &str = "planexe/saved/";

/// A repository and a folder in it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The top of the work tree, links resolved.
    pub top: PathBuf,
    /// The folder that all worktrees of the repository share.
    pub common: PathBuf,
    /// The run directory, relative to the top; empty if it is that.
    pub prefix: String,
}

impl Place {
    /// Where a folder lies; none if that is in no work tree.
    pub fn find(run: &Path) -> Result<Option<Place>, GitError> {
        let said =
            Git::at(run).run(&["rev-parse", "--show-toplevel", "--git-common-dir", "--show-prefix"])?;
        let text = String::from_utf8_lossy(&said.out).into_owned();
        let mut lines = text.lines();
        let (Some(top), Some(common)) = (lines.next().filter(|top| !top.is_empty()), lines.next()) else {
            return Ok(None);
        };
        if said.code != 0 {
            return Ok(None);
        }
        let prefix = lines.next().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Some(Place { top: fs::resolved(Path::new(top)), common: fs::resolved(&run.join(common)), prefix }))
    }

    /// A file by its name relative to the top, as seen from the run.
    pub fn seen_from_run(&self, name: &str) -> String {
        let (mut from, mut to) =
            (self.prefix.split('/').filter(|part| !part.is_empty()).peekable(), name.split('/').peekable());
        while from.peek().is_some() && from.peek() == to.peek() {
            from.next();
            to.next();
        }
        let up = from.map(|_| "..");
        up.chain(to).collect::<Vec<_>>().join("/")
    }

    /// git at the top.
    pub fn git(&self) -> Git {
        Git::at(&self.top)
    }

    /// A file of the run by its name relative to the top; none if it lies outside.
    pub fn in_repository(&self, path: &str) -> Option<String> {
        let joined = fs::normal(&Path::new("/").join(&self.prefix).join(path));
        // What leads above the top is not changed by its normal form.
        let depth = |path: &str| {
            path.split('/').try_fold(0i32, |depth, part| match part {
                "" | "." => Some(depth),
                ".." => (depth > 0).then(|| depth - 1),
                _ => Some(depth + 1),
            })
        };
        depth(&format!("{}/{path}", self.prefix))?;
        (!path.starts_with('/')).then(|| joined.to_string_lossy().trim_start_matches('/').to_owned())
    }
}

/// What the isolated tasks of a build share.
#[derive(Debug)]
pub struct Isolation {
    /// Where the run lies.
    pub place: Place,
    /// Whether git computes merges without a worktree.
    pub merges_trees: bool,
    /// The base, as it was pinned.
    pins: Mutex<Pins>,
    /// One at a time changes branches and worktrees.
    gate: Mutex<()>,
}

/// Held while branches and worktrees change: by one thread of one planexe.
pub struct Gate<'a> {
    _own: MutexGuard<'a, ()>,
    _others: Option<File>,
}

impl Isolation {
    /// Waits for its turn.
    pub fn gate(&self) -> Result<Gate<'_>, FsError> {
        let own = self.gate.lock();
        let others = fs::hold_dir(&self.place.common)?;
        Ok(Gate { _own: own, _others: others })
    }

    /// The run's part of the names of branches.
    pub fn run(&self) -> String {
        self.pins().run.clone()
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock()
    }

    /// The base branch of a task, and the commit a new worktree begins with.
    pub fn base(&self, wanted: Option<&str>) -> (String, String) {
        let pins = self.pins();
        let name = wanted.unwrap_or(&pins.default);
        (name.to_owned(), pins.bases.get(name).map_or(String::new(), |pin| pin.tip.clone()))
    }

    /// Something was merged.
    pub fn moved(&self, store: &Store, base: &str, tip: &str) -> Result<(), FsError> {
        let mut pins = self.pins();
        let pin = pins.bases.entry(base.to_owned()).or_default();
        if pin.tip != tip {
            tip.clone_into(&mut pin.tip);
            return store.write_pins(&pins);
        }
        Ok(())
    }

    /// Writes down what was found: from here on the run keeps to it.
    pub fn pin(&self, store: &Store) -> Result<(), FsError> {
        let pins = self.pins();
        if store.pins()?.as_ref() != Some(&*pins) { store.write_pins(&pins) } else { Ok(()) }
    }
}

/// Letters and digits of a name, and a digest of it where those are not all.
pub fn plain_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .collect();
    if plain == name && !plain.is_empty() && !plain.starts_with('-') {
        return plain;
    }
    format!(
        "{}-{}",
        plain.trim_start_matches(['-', '_']).trim_end_matches('_'),
        &Digest::of(name.as_bytes()).short()[..8]
    )
}

/// The run's part of the names of branches: other runs of the repository have others.
pub fn run_name(run: &Path) -> String {
    let name = run.file_name().map_or_else(|| "run".into(), |name| plain_name(&name.to_string_lossy()));
    format!("{name}-{}", &Digest::of(run.as_os_str().as_encoded_bytes()).short()[..6])
}

/// Looks at the repository for the isolated tasks of a build; reads only. `bases`: those that they name.
pub fn find(project: &Project, store: &Store, bases: &[Option<String>]) -> Result<Isolation, Error> {
    let run = &project.run;
    let setup = |code: &'static str, message: String| Error::new(Kind::Setup, message).code(code);
    let of_git = |error: GitError| match error {
        GitError::Missing => {
            setup("git_missing", "an isolated task needs git, and there is none to be found".into())
                .hint("install git, or remove `isolate`")
        }
        other => setup("git", other.to_string()),
    };
    let version = Git::at(run).version().map_err(of_git)?;
    if version < OLDEST {
        let (wanted, found) = (format!("{}.{}", OLDEST.0, OLDEST.1), format!("{}.{}", version.0, version.1));
        return Err(setup(
            "git_old",
            format!("git is version {found}; isolated tasks want {wanted} or later"),
        ));
    }
    let place = Place::find(run).map_err(of_git)?.ok_or_else(|| {
        setup(
            "no_repository",
            format!("`{}` is in no git work tree, and an isolated task needs one", shown_path(run)),
        )
        .hint(format!("git -C {} init && git add … && git commit", shell_word(&shown_path(run))))
        .hint("or remove `isolate` from the pipeline")
    })?;
    let git = place.git();
    let merges_trees = git.merges_trees().map_err(of_git)?;
    let ours = BRANCHES.trim_end_matches('/');
    if git.tip(ours).map_err(of_git)?.is_some() {
        let message = format!(
            "there is a branch `{ours}`, so there can be none that begin with `{BRANCHES}`, as those of isolated tasks do"
        );
        return Err(setup("branch_taken", message).hint(format!("git branch -m {ours} OTHER")));
    }
    // By them branches are merged, and worktrees are gone on with: those of a copy know the place they were made in.
    let of_disk = |error: FsError| setup("io", error.to_string());
    if let Some(foreign) = store.foreign_isolation().map_err(of_disk)? {
        let message = format!(
            "the run was moved or copied while its isolated tasks were at work, or came with a clone: `{}` was not written by your planexe in this folder",
            shown_path(&foreign)
        );
        let hint = format!(
            "a copy is begun with by `cd {} && rm -r .planexe/isolation .planexe/worktrees`",
            shell_word(&shown_path(run))
        );
        return Err(setup("run_moved", message).hint(hint));
    }
    let is_open = !store.lanes().map_err(of_disk)?.is_empty();
    let known = store.pins().map_err(of_disk)?.filter(|pins| pins.run == run_name(run) || is_open);
    if let Some(pins) = known.as_ref().filter(|pins| pins.run != run_name(run)) {
        let message = format!(
            "the run was moved or copied while its isolated tasks were at work: their branches begin with `{BRANCHES}{}`, and worktrees know the place they were made in",
            pins.run
        );
        return Err(setup("run_moved", message).hint(
            "move it back; a copy is begun with by `rm -r .planexe/isolation .planexe/worktrees` in it",
        ));
    }
    let mut pins = match &known {
        Some(pins) => pins.clone(),
        None => Pins { schema: SCHEMA, run: run_name(run), pinned_utc: clock::now_utc(), ..Pins::default() },
    };
    let wanted: BTreeSet<Option<&str>> = bases.iter().map(Option::as_deref).collect();
    if wanted.contains(&None) && pins.default.is_empty() {
        let head = git.branch().map_err(of_git)?;
        let under_way = UnderWay::at(&git).map_err(of_git)?.filter(|it| it.branch.is_some());
        pins.default = head.ok_or_else(|| match under_way {
            Some(it) => setup(
                "under_way",
                format!(
                    "isolated tasks are to be merged into `{}` in `{}`: {}",
                    it.branch.as_deref().unwrap_or_default(),
                    shown_path(&place.top),
                    it.text()
                ),
            )
            .hint(it.hint()),
            None => setup(
                "no_branch",
                "no branch is checked out, so it is not known where isolated tasks are to be merged".into(),
            )
            .hint("git switch main, or say `base = \"main\"` under `[isolation]`"),
        })?;
    }
    for name in wanted {
        let name = name.map_or_else(|| pins.default.clone(), str::to_owned);
        let tip = git.tip(&name).map_err(of_git)?;
        let Some(tip) = tip else {
            let pinned = pins.bases.get(&name);
            let mut error = setup(
                "base_missing",
                format!("the base branch `{name}` is not in the repository `{}`", shown_path(&place.top)),
            );
            let commit = pinned.map(|pin| pin.tip.as_str()).filter(|tip| !tip.is_empty());
            error = match commit {
                Some(commit) => error.hint(format!(
                    "it was pinned when the run began; git branch {} {} brings it back",
                    shell_word(&name),
                    &commit[..commit.len().min(12)]
                )),
                None if git.look(&["rev-parse", "-q", "--verify", "HEAD"]).map_err(of_git)?.is_none() => {
                    error.hint("it has no commit yet: git add … && git commit")
                }
                None => {
                    error.hint(format!("git branch {}, or name another one as `base`", shell_word(&name)))
                }
            };
            return Err(error);
        };
        match pins.bases.get_mut(&name) {
            None => {
                pins.bases.insert(name, Pin { commit: tip.clone(), tip });
            }
            Some(pin) => {
                let holds = git.is_ancestor(&pin.commit, &tip).unwrap_or(false);
                if !holds {
                    let was = &pin.commit[..pin.commit.len().min(12)];
                    return Err(setup(
                        "base_moved",
                        format!("the base branch `{name}` does not hold the commit {was} any more with which the run began"),
                    )
                    .hint(format!("git log {was} shows it; git branch -f {} {was} goes back to it", shell_word(&name)))
                    .hint(format!("or start over from where it is: rm {}/.planexe/isolation/base.json", shell_word(&shown_path(run)))));
                }
            }
        }
    }
    Ok(Isolation { place, merges_trees, pins: Mutex::new(pins), gate: Mutex::new(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ones_git_takes() {
        assert_eq!(plain_name("fix-ui_2"), "fix-ui_2");
        let names =
            ["fix[a/b]", "fix[a_b]", "-rf", "a.lock", "a..b", "", "üñï", &"x".repeat(300)].map(plain_name);
        for (at, name) in names.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!(name.chars().all(plain) && name.len() < 80 && !name.is_empty(), "{name}");
            assert!(names[..at].iter().all(|other| other != name), "{name}");
        }
    }

    #[test]
    fn paths_of_the_run_are_seen_from_the_top() {
        let place =
            |prefix: &str| Place { top: "/r".into(), common: "/r/.git".into(), prefix: prefix.into() };
        assert_eq!(place("").in_repository("a/b.txt").as_deref(), Some("a/b.txt"));
        assert_eq!(place("runs/x").in_repository("a.txt").as_deref(), Some("runs/x/a.txt"));
        assert_eq!(place("runs/x").in_repository("../../src/a.rs").as_deref(), Some("src/a.rs"));
        assert_eq!(place("runs/x").in_repository("../../../etc/passwd"), None);
        assert_eq!(place("").in_repository("/etc/passwd"), None);
    }
    #[test]
    fn files_are_seen_from_the_run() {
        let seen = |prefix: &str, name: &str| {
            Place { top: "/r".into(), common: "/r/.git".into(), prefix: prefix.into() }.seen_from_run(name)
        };
        assert_eq!(seen("", "a/b.txt"), "a/b.txt");
        assert_eq!(seen("runs/x", "runs/x/b.txt"), "b.txt");
        assert_eq!(seen("runs/x", "runs/y/b.txt"), "../y/b.txt");
        assert_eq!(seen("runs/x", "src/a.rs"), "../../src/a.rs");
    }
}
