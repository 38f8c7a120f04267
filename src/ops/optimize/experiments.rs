//! Experiments as they are on disk: which there are, and what came of one.

use std::path::Path;

use crate::ops::Session;
use crate::ops::names::find_task;
use crate::ops::optimize::{experiments_of, subject};
use planexe_base::exit::Error;
use planexe_base::fs;
use planexe_base::record::Digest;
use planexe_pipeline::manifest::types::Compare;
use planexe_pipeline::open::Opened;
use planexe_prompt_lab::decide::Decision;
use planexe_prompt_lab::folder::Folder;
use planexe_prompt_lab::records::Config;
use planexe_prompt_lab::view::{Amount, ExperimentLine, ExperimentsView, OptimizeView};

/// The experiments of a task, the last one first.
pub(super) fn configs(experiments: &Path) -> Vec<Config> {
    let mut found: Vec<Config> = Vec::new();
    for (name, kind) in fs::list_dir(experiments).unwrap_or_default() {
        if kind == fs::FileKind::Dir {
            found.extend(Folder { dir: experiments.join(name) }.config());
        }
    }
    found.sort_by(|a, b| b.updated_utc.cmp(&a.updated_utc).then(a.id.cmp(&b.id)));
    found
}

/// All experiments, or those on a task.
pub fn list(session: &Session, opened: &Opened, task: Option<&str>) -> Result<ExperimentsView, Error> {
    let root = opened.project.folder.join("experiments");
    let only = match task {
        Some(task) => {
            Some(opened.project.spec(&opened.project.graph[find_task(opened, task)?.task]).name.clone())
        }
        None => None,
    };
    let mut experiments = Vec::new();
    let mut bytes = 0;
    for (name, kind) in fs::list_dir(&root).unwrap_or_default() {
        if kind != fs::FileKind::Dir {
            continue;
        }
        let dir = root.join(&name);
        let found = configs(&dir);
        if found.iter().any(|config| only.as_ref().is_none_or(|task| *task == config.task)) {
            bytes += held(&dir);
        }
        for config in found {
            if only.as_ref().is_some_and(|task| *task != config.task) {
                continue;
            }
            let promoted = config.promoted.as_ref().map(|it| name_of(&config, &it.blake3));
            experiments.push(ExperimentLine {
                compare: config.rules.compare,
                samples: config.rules.samples,
                best: name_of(&config, &best_of(&config)),
                promoted,
                rounds: config.rounds.len(),
                variants: config.variants.len(),
                runs: config.runs.len(),
                complete: config.complete,
                task: config.task,
                experiment: config.id,
                started_utc: config.started_utc,
                updated_utc: config.updated_utc,
            });
        }
    }
    let run_dir = opened.project.run.display().to_string();
    let server = session.server();
    Ok(ExperimentsView { schema: planexe_ui::views::SCHEMA, server, run_dir, experiments, bytes })
}

/// Bytes of all files in a folder; links are not followed.
fn held(dir: &Path) -> u64 {
    let entries = fs::list_dir(dir).unwrap_or_default();
    let size = |(name, kind)| match kind {
        fs::FileKind::Dir => held(&dir.join(name)),
        fs::FileKind::File => fs::signature(&dir.join(name)).ok().flatten().map_or(0, |it| it.size),
        _ => 0,
    };
    entries.into_iter().map(size).sum()
}

/// What a text is called.
pub(super) fn name_of(config: &Config, digest: &Digest) -> String {
    let found = config.variants.iter().find(|variant| variant.blake3 == *digest);
    found.map_or_else(|| digest.short().to_owned(), |variant| variant.name.clone())
}

/// The text that came out best: what the last round kept, or its champion.
pub(super) fn best_of(config: &Config) -> Digest {
    let Some(round) = config.rounds.last() else {
        return config.variants.first().map_or(Digest::of(b""), |first| first.blake3.clone());
    };
    let kept = round.challengers.iter().find(|one| one.decision == Decision::Kept);
    kept.map_or(&round.champion, |one| &one.blake3).clone()
}

/// An experiment of a task by its id, or the last one.
fn experiment(experiments: &Path, task: &str, id: &str) -> Result<Config, Error> {
    let all = configs(experiments);
    if all.is_empty() {
        return Err(Error::usage(format!("there is no experiment on `{task}`"))
            .code("no_experiment")
            .hint(format!("`planexe optimize {task} --variant FILE`")));
    }
    let known: Vec<&str> = all.iter().map(|config| config.id.as_str()).collect();
    let hint = format!("experiments on `{task}`: {}", known.join(", "));
    let found = all.iter().find(|config| config.id.starts_with(id)).cloned();
    found.ok_or_else(|| {
        Error::usage(format!("no experiment on `{task}` is called `{id}`")).code("no_experiment").hint(hint)
    })
}

/// What came of an experiment: of the last one of the task, or the one whose id begins so.
pub fn show(session: &Session, opened: &Opened, task: &str, id: &str) -> Result<OptimizeView, Error> {
    // Nothing is scored where only what was is looked at.
    let subject = subject(opened, task, Compare::Pairwise)?;
    let task = &subject.spec().name;
    let experiments = experiments_of(opened, task);
    let config = experiment(&experiments, task, id)?;
    let folder = Folder::new(&experiments, &config.id);
    let mut view = view_of(session, opened, &folder, &config);
    view.results = folder.results();
    Ok(view)
}

/// The answer for an experiment as it is on disk.
pub(super) fn view_of(session: &Session, opened: &Opened, folder: &Folder, config: &Config) -> OptimizeView {
    let best = best_of(config);
    OptimizeView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        run_dir: opened.project.run.display().to_string(),
        task: config.task.clone(),
        experiment: config.id.clone(),
        dir: folder.dir.display().to_string(),
        state: if config.complete { "complete" } else { "incomplete" }.to_owned(),
        best: name_of(config, &best),
        kept: config.variants.first().is_some_and(|first| first.blake3 != best),
        promoted: config.promoted.as_ref().is_some_and(|it| it.blake3 == best),
        compare: config.rules.compare,
        samples: config.rules.samples,
        dropped_inputs: Vec::new(),
        draws_alike: false,
        bias: config.bias,
        results: Vec::new(),
        rounds: config.rounds.clone(),
        missing: Vec::new(),
        used: Amount::default(),
        expected: None,
        stale: Vec::new(),
        given: None,
        next: Vec::new(),
    }
}
