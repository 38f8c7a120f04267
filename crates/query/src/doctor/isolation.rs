//! git, as isolated tasks need it, and what is left in a repository of lanes that are no more.

use std::collections::HashSet;

use super::Finding;
use planexe_base::fs;
use planexe_base::style::clean;
use planexe_build::git::{Git, GitError, OLDEST};
use planexe_build::isolation::{BRANCHES, Place, SAVED, plain_name, run_name};
use planexe_pipeline::open::Opened;
use planexe_store::Candidate;
use planexe_store::lanes::{Lane, Pins};
use planexe_ui::views::shell_word;

/// Most names that are told.
const MOST: usize = 3;

/// What is found; nothing in a run that has isolated no task.
pub fn examine(opened: &Opened) -> Vec<Finding> {
    let uses = opened.project.specs.iter().any(|spec| spec.isolate.is_some());
    // What hangs on a record that cannot be read is not called left over.
    let lanes = match opened.store.lanes() {
        Ok(lanes) if lanes.is_empty() && !uses => return Vec::new(),
        Ok(lanes) => lanes,
        Err(error) => return unreadable(&error),
    };
    let (unmerged, pins) = match (opened.store.unmerged(), opened.store.pins()) {
        (Ok(unmerged), Ok(pins)) => (unmerged, pins),
        (Err(error), _) | (_, Err(error)) => return unreadable(&error),
    };
    look(opened, &lanes, unmerged, pins).unwrap_or_else(|error| {
        let remedy = if error == GitError::Missing { "install git" } else { "see the message" };
        vec![Finding::fail("isolated", error.to_string(), remedy)]
    })
}

fn unreadable(error: &fs::FsError) -> Vec<Finding> {
    vec![Finding::fail("isolated", error.to_string(), "see the message")]
}

fn look(
    opened: &Opened,
    lanes: &[Lane],
    unmerged: Vec<Candidate>,
    pins: Option<Pins>,
) -> Result<Vec<Finding>, GitError> {
    let (store, run) = (&opened.store, &opened.project.run);
    let version = Git::at(run).version()?;
    let told = format!("git {}.{}", version.0, version.1);
    if version < OLDEST {
        let wanted = format!("install git {}.{} or later", OLDEST.0, OLDEST.1);
        return Ok(vec![Finding::fail("isolated", told, wanted)]);
    }
    let Some(place) = Place::find(run)? else {
        let message = "an isolated task needs a git work tree, and the run is in none";
        return Ok(vec![Finding::fail("isolated", message, "git init, or remove `isolate`")]);
    };
    let git = place.git();
    let mut found = Vec::new();
    let graph = &opened.project.graph;
    let is_task = |name: &str| graph.find(name.split('[').next().unwrap_or(name)).is_some();
    let merging: HashSet<String> = unmerged
        .into_iter()
        .filter(|it| is_task(&it.task))
        .filter_map(|it| it.success)
        .map(|success| success.lane)
        .collect();
    let at_work = |lane: &Lane| lane.at_work.as_ref().is_some_and(|at_work| is_task(&at_work.task));
    let open = lanes.iter().filter(|lane| at_work(lane) || merging.contains(&lane.lane));
    let mut open: HashSet<String> = open.map(|lane| lane.name.clone()).collect();
    open.extend(merging.iter().map(|lane| plain_name(lane)));
    let own = fs::resolved(&store.worktrees_dir());
    for (path, branch) in git.worktrees()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (ours, there) = (path.parent() == Some(own.as_path()), path.is_dir());
        let shown = clean(&path.display().to_string());
        if ours && there && !open.contains(&name) {
            let remedy = format!("look at it, then `git worktree remove {}`", shell_word(&shown));
            found.push(Finding::warn(
                "isolated",
                format!("worktree `{shown}` belongs to no task at work"),
                remedy,
            ));
        } else if ours && !there && open.contains(&name) {
            let message = format!("worktree `{shown}` of a task at work is gone");
            found.push(Finding::warn("isolated", message, "`planexe build` says what follows"));
        } else if !there && branch.is_some_and(|branch| branch.starts_with(BRANCHES)) {
            let message = format!("git remembers the worktree `{shown}`, which is gone");
            found.push(Finding::warn("isolated", message, "`git worktree prune`"));
        }
    }
    let known = pins.map_or_else(|| run_name(run), |pins| pins.run);
    let branches = |below: &str| -> Result<Vec<String>, GitError> {
        let text =
            git.text(&["for-each-ref", "--format=%(refname:short)", &format!("refs/heads/{below}{known}/")])?;
        Ok(text.lines().map(clean).collect())
    };
    let left: Vec<String> = branches(BRANCHES)?
        .into_iter()
        .filter(|branch| !open.contains(branch.rsplit('/').next().unwrap_or_default()))
        .collect();
    if let Some(first) = left.first() {
        let message = format!("of no task at work: {}", named(&left));
        let remedy = format!("`git log {first}` shows what is on it, `git branch -D {first}` removes it");
        found.push(Finding::warn("isolated", message, remedy));
    }
    let saved = branches(SAVED)?;
    let kept = match saved.is_empty() {
        true => String::new(),
        false => format!("; saved of failed attempts: {}", named(&saved)),
    };
    if found.is_empty() {
        let at_work =
            if open.is_empty() { String::new() } else { format!("; at work: {}", sorted(&open).join(", ")) };
        found.push(Finding::ok("isolated", format!("{told}{at_work}{kept}")));
    }
    Ok(found)
}

fn sorted(names: &HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| clean(name)).collect();
    names.sort();
    names
}

fn named(names: &[String]) -> String {
    let some: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.len() {
        n if n > MOST => format!("{} and {} more", some.join(", "), n - MOST),
        _ => some.join(", "),
    }
}
