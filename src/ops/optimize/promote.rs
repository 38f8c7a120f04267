//! A text takes the prompt's place.

use std::path::Path;

use crate::ops::Session;
use crate::ops::build::Screen;
use crate::ops::optimize::bench::Bench;
use crate::ops::optimize::experiments::{best_of, configs, name_of, view_of};
use crate::ops::optimize::{experiments_of, subject};
use planexe_base::clock;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::Digest;
use planexe_engine::scheduler::Resolution;
use planexe_engine::staleness::Rules;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::manifest::types::Compare;
use planexe_pipeline::open::{self, Opened, Where};
use planexe_prompt_lab::cells::Subject;
use planexe_prompt_lab::decide::Decision;
use planexe_prompt_lab::folder::Folder;
use planexe_prompt_lab::promote::{current_text, give, prompt_file, text_file};
use planexe_prompt_lab::reaches;
use planexe_prompt_lab::records::{Config, Promoted};
use planexe_prompt_lab::view::OptimizeView;
use planexe_prompt_lab::{Cell, Reference, Variant};
use planexe_query::dry_run::{Look, survey};
use planexe_store::Index;

/// Promotes a text that was tried before: by its name or digest, or the best of an experiment by its id.
pub fn promote(
    session: &Session,
    opened: &Opened,
    task: &str,
    name: &str,
    may_drop: bool,
    screen: Screen<'_>,
) -> Result<OptimizeView, Error> {
    // Nothing is scored where only what was is looked at.
    let subject = subject(opened, task, Compare::Pairwise)?;
    let task = &subject.spec().name;
    let experiments = experiments_of(opened, task);
    let all = configs(&experiments);
    let by_id = all.iter().find(|config| config.id == name).map(|config| (config, best_of(config)));
    let of = |config: &Config| {
        let is = |variant: &&Variant| {
            variant.name == name || (name.len() >= 6 && variant.blake3.0.starts_with(name))
        };
        config.variants.iter().find(is).map(|variant| variant.blake3.clone())
    };
    let found = by_id.or_else(|| all.iter().find_map(|config| Some((config, of(config)?))));
    let Some((config, digest)) = found else {
        let known: Vec<&str> =
            all.iter().flat_map(|config| &config.variants).map(|variant| variant.name.as_str()).collect();
        let error = Error::usage(format!("no experiment on `{task}` has a text `{name}`")).code("no_variant");
        return Err(match known.is_empty() {
            true => error.hint(format!("`planexe optimize {task} --variant FILE`")),
            false => error.hint(format!("texts tried: {}", known.join(", "))),
        });
    };
    // What was kept may take the place; so may what was there at the beginning, which is the way back.
    let first = config.variants.first().is_some_and(|first| first.blake3 == digest);
    let judged = config.rounds.iter().flat_map(|round| &round.challengers);
    let kept = judged.clone().any(|one| one.blake3 == digest && one.decision == Decision::Kept);
    if !first && !kept {
        let why = judged.filter(|one| one.blake3 == digest).map(|one| one.why.clone()).next_back();
        let error = Error::new(Kind::Refused, format!("`{name}` was not kept: {}", why.unwrap_or_default()));
        return Err(error
            .code("not_kept")
            .hint("`--margin` and `--max-drop` say what is kept; or copy its text to the prompt by hand"));
    }
    let folder = Folder::new(&experiments, &config.id);
    let mut view = view_of(session, opened, &folder, config);
    view.results = folder.results();
    let promotion = Promotion { subject, folder: &folder, config, digest: &digest, may_drop, screen };
    replace_prompt(session, opened, &promotion, &mut view)?;
    Ok(view)
}

/// A text that is to take the prompt's place.
#[derive(Clone, Copy)]
pub struct Promotion<'a> {
    /// The task.
    pub subject: Subject<'a>,
    /// The experiment's folder.
    pub folder: &'a Folder,
    /// The experiment.
    pub config: &'a Config,
    /// The text.
    pub digest: &'a Digest,
    /// Whether it may leave out inputs that the prompt used.
    pub may_drop: bool,
    /// Where builds show themselves.
    pub screen: Screen<'a>,
}

/// Replaces the prompt by a text, gives the runs it was tried on what was answered to it, and fills in the view.
pub fn replace_prompt(
    session: &Session,
    opened: &Opened,
    promotion: &Promotion<'_>,
    view: &mut OptimizeView,
) -> Result<(), Error> {
    let Promotion { subject, folder, config, digest, may_drop, screen } = *promotion;
    let experiments = folder.dir.parent().unwrap_or(&folder.dir);
    let task = &config.task;
    let Some((_, path)) = prompt_file(&subject) else {
        let hint = format!(
            "move the text to a file, prompts/{task}.md, and name that: prompt = \"prompts/{task}.md\""
        );
        return Err(Error::new(
            Kind::Refused,
            format!("the prompt of `{task}` stands in the pipeline itself, which is not written to"),
        )
        .code("inline_prompt")
        .hint(hint));
    };
    let now = Digest::of(current_text(&subject)?.as_bytes());
    if !config.variants.iter().any(|variant| variant.blake3 == now) {
        return Err(Error::new(
            Kind::Refused,
            format!("`{}` was changed since the experiment began", shown_path(&path)),
        )
        .code("changed_meanwhile")
        .hint(format!("`planexe optimize {task}` compares with the text there is now")));
    }
    let text = fs::read_to_string(&text_file(experiments, &subject, digest))?;
    if Digest::of(text.as_bytes()) != *digest {
        return Err(Error::new(
            Kind::Task,
            format!("the kept text `{}` is damaged", name_of(config, digest)),
        ));
    }
    let dropped = dropped(&subject, experiments, config, digest, &text)?;
    if !dropped.is_empty() && !may_drop {
        let name = name_of(config, digest);
        return Err(Error::new(
            Kind::Refused,
            format!("`{name}` does not use `{}`, which the prompt of `{task}` used", dropped.join("`, `")),
        )
        .code("dropped_inputs")
        .hint(format!(
            "what is made with it no longer depends on that; if it is meant so: `planexe optimize {task} --promote {name} --allow-dropped-inputs`"
        )));
    }
    let runs = reference_runs(session, &subject, config)?;
    // The answers first: if this is cut short the prompt is as it was, and nothing is lost.
    let bench = |models, references| {
        Bench::new(session, opened, subject, experiments.to_owned(), models, references, screen)
    };
    let given = give_answers(session, opened, digest, &runs, bench)?;
    if now != *digest {
        fs::write_atomic(&path, text.as_bytes(), Durability::Synced)?;
    }
    let promoted = Promoted { blake3: digest.clone(), time_utc: clock::now_utc(), user: session.user() };
    let config = Config { promoted: Some(promoted), ..config.clone() };
    folder.write_promotion(&config)?;
    view.promoted = true;
    view.best = name_of(&config, digest);
    view.given = Some(given);
    view.stale = stale(session, opened)?;
    view.next.push(format!("planexe build {task}"));
    if now != *digest {
        view.next.push(format!("planexe optimize {task} --promote {}  # goes back", now.short()));
    }
    Ok(())
}

/// The inputs that a text does not use, and the prompt there is now does, or the one at the beginning. The way back to
/// that one is always open.
fn dropped(
    subject: &Subject<'_>,
    experiments: &Path,
    config: &Config,
    digest: &Digest,
    text: &str,
) -> Result<Vec<String>, Error> {
    let Some(first) = config.variants.first().filter(|first| first.blake3 != *digest) else {
        return Ok(Vec::new());
    };
    let mut dropped = reaches::lost(subject, &current_text(subject)?, text);
    if let Some(first) = fs::read_optional(&text_file(experiments, subject, &first.blake3))? {
        dropped.extend(reaches::lost(subject, &String::from_utf8_lossy(&first), text));
    }
    dropped.sort();
    dropped.dedup();
    Ok(dropped)
}

/// The runs of an experiment that are there still, have the inputs they had, and the same pipeline.
fn reference_runs(
    session: &Session,
    subject: &Subject<'_>,
    config: &Config,
) -> Result<Vec<(Reference, Opened)>, Error> {
    let mut found = Vec::new();
    for run in &config.runs {
        let dir = &subject.project.folder.join(&run.dir);
        let place = Where { run_dir: Some(dir.to_owned()), ..session.place() };
        let Ok(opened) = open::open(&place, false) else { continue };
        if !same_file(&opened.project.file, &subject.project.file) {
            continue;
        }
        let reference = Reference {
            name: run.name.clone(),
            dir: dir.to_owned(),
            id: run.blake3.clone(),
            files: Vec::new(),
            answers: 0,
            skipped: Vec::new(),
        };
        found.push((reference, opened));
    }
    Ok(found)
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Gives the runs the answers to a text; the bench is of all models and those runs.
fn give_answers<'a>(
    session: &Session,
    opened: &Opened,
    digest: &Digest,
    runs: &[(Reference, Opened)],
    bench: impl FnOnce(Vec<String>, Vec<Reference>) -> Result<Bench<'a>, Error>,
) -> Result<usize, Error> {
    let variant =
        Variant { name: String::new(), blake3: digest.clone(), from: String::new(), text: String::new() };
    // Of whichever model was asked: a run looks for the answers of those the task names.
    let models = opened.project.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let bench = bench(models, runs.iter().map(|(reference, _)| reference.clone()).collect())?;
    let mut given = 0;
    for (reference, run) in runs {
        let _lock = session.lock(run, false, false)?;
        let cells: Vec<Cell> =
            bench.made(&variant).into_iter().filter(|cell| cell.run == reference.name).collect();
        if cells.is_empty() {
            continue;
        }
        let project = bench.project(&cells)?;
        for cell in &cells {
            given += give((&project, &bench.store), cell, &bench.subject, &run.store)?;
        }
    }
    Ok(given)
}

/// The tasks of the run that are stale now, the prompt read anew.
fn stale(session: &Session, opened: &Opened) -> Result<Vec<String>, Error> {
    let again = open::open(&Where { run_dir: Some(opened.project.run.clone()), ..session.place() }, true)
        .map_err(|error| session.open_error(error))?;
    let index = Index::load(&again.store);
    let env = |name: &str| session.variable(name);
    let look = Look {
        project: &again.project,
        store: &again.store,
        index: &index,
        rules: Rules::default(),
        no_reuse: false,
        only: false,
        env: &env,
    };
    let targets: Vec<_> = again.project.default.iter().map(|&id| (id, None)).collect();
    let survey = survey(&look, &targets);
    let open = |id| {
        matches!(
            survey.settled.get(&id),
            Some(Resolution::Stale | Resolution::DependsOn | Resolution::Failed)
        )
    };
    let declared = again.project.graph.ids();
    Ok(declared.filter(|&id| open(id)).map(|id| again.project.graph[id].name.clone()).collect())
}
