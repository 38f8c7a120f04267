//! What is compared: the reference runs with their inputs, and the texts.

use std::path::{Path, PathBuf};

use crate::ops::Session;
use planexe_base::exit::{Error, Kind as ErrorKind};
use planexe_base::fs::{self, Durability};
use planexe_base::pattern;
use planexe_base::record::Digest;
use planexe_engine::graph::{Kind, TaskId, Why};
use planexe_engine::scheduler::Resolution;
use planexe_engine::staleness::Rules;
use planexe_pipeline::input_files::Finder;
use planexe_pipeline::manifest::RunFile;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::open::{self, Where};
use planexe_pipeline::template::{self as render, Source};
use planexe_prompt_lab::cells::Subject;
use planexe_prompt_lab::{Reference, Variant};
use planexe_query::dry_run::{Look, Survey, survey};
use planexe_store::Index;
use planexe_ui::views::shell_word;

/// What the prompt there is now is called.
pub const CURRENT: &str = "current";

/// The reference runs, each with the files the task reads there; all must be up to date.
pub fn references(
    session: &Session,
    subject: &Subject<'_>,
    dirs: &[PathBuf],
) -> Result<Vec<Reference>, Error> {
    let mut found: Vec<Reference> = Vec::new();
    for dir in dirs {
        let mut one = reference(session, subject, dir)?;
        if let Some(same) = found.iter().find(|other| other.id == one.id) {
            session.notice(&format!(
                "`{}` has the inputs of `{}`: it is passed over",
                shown_path(dir),
                shown_path(&same.dir)
            ));
            continue;
        }
        let alike = found.iter().filter(|other| other.name.split('~').next() == Some(&one.name)).count();
        if alike > 0 {
            one.name = format!("{}~{}", one.name, alike + 1);
        }
        found.push(one);
    }
    Ok(found)
}

fn reference(session: &Session, subject: &Subject<'_>, dir: &Path) -> Result<Reference, Error> {
    let place = Where { file: Some(subject.project.file.clone()), ..session.place() };
    // With the pipeline of the run, and as the other run says it is built.
    let run_file =
        dir.join("run.toml").is_file().then(|| RunFile::read(&dir.join("run.toml")).ok()).flatten();
    let profile = place.profile.clone().or_else(|| run_file.and_then(|run| run.profile));
    let place = Where { run_dir: Some(dir.to_owned()), profile, ..place };
    let opened = open::open(&place, false).map_err(|error| session.open_error(error))?;
    let project = &opened.project;
    let shown = shown_path(dir);
    let name = &subject.spec().name;
    let id = project.graph.find(name).ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("BUG: `{name}` is not in its own pipeline"))
    })?;
    let index = Index::load(&opened.store);
    let env = |name: &str| session.variable(name);
    let look = Look {
        project,
        store: &opened.store,
        index: &index,
        rules: Rules::default(),
        no_reuse: false,
        only: false,
        env: &env,
    };
    let survey = survey(&look, &[(id, None)]);
    let is_done =
        |task: &TaskId| matches!(survey.settled.get(task), Some(Resolution::Fresh | Resolution::Skipped));
    let read = project.graph[id].needs.iter().filter(|need| need.why == Why::Reads).map(|need| need.task);
    let not_done: Vec<&str> =
        read.filter(|task| !is_done(task)).map(|task| project.graph[task].name.as_str()).collect();
    if !not_done.is_empty() {
        let words: Vec<String> = not_done.iter().map(|name| shell_word(name)).collect();
        let profile = session.place.profile.as_ref();
        let profile = profile.map_or(String::new(), |name| format!(" --profile {}", shell_word(name)));
        return Err(Error::new(
            ErrorKind::Refused,
            format!("in `{shown}` the inputs of `{name}` are not up to date: {}", not_done.join(", ")),
        )
        .code("not_up_to_date")
        .hint(format!(
            "`planexe -C {}{profile} build {}`",
            planexe_base::style::shell_path(dir),
            words.join(" ")
        )));
    }
    let finder = Finder::new(&opened.store);
    let spec = project.spec(&project.graph[id]);
    let foreach = spec.foreach.as_deref();
    let extra = foreach.into_iter().flat_map(|foreach| {
        let file = foreach.file.iter().map(|file| (file.clone(), false, false));
        file.chain(foreach.glob.iter().map(|glob| (glob.clone(), true, false)))
    });
    let inputs = project.graph[id].inputs.iter();
    let inputs = inputs.map(|input| (input.pattern.clone(), input.glob, input.optional));
    let mut files: Vec<(String, Digest, PathBuf)> = Vec::new();
    for (pattern, glob, optional) in inputs.chain(extra).collect::<Vec<_>>() {
        let paths = if pattern::has_key(&pattern) {
            finder.glob(&pattern::fill_key(&pattern, "*"))?
        } else if glob {
            finder.matches(&survey.graph, &pattern, pattern::literal_folder(&pattern))?
        } else {
            vec![pattern]
        };
        for path in paths {
            if files.iter().any(|(known, _, _)| *known == path) {
                continue;
            }
            let place = project.input(&path);
            match fs::linked::read_optional(&place)? {
                Some(bytes) => files.push((path, Digest::of(&bytes), place)),
                None if optional => {}
                None => {
                    return Err(Error::new(ErrorKind::Refused, format!("in `{shown}` there is no `{path}`"))
                        .code("not_up_to_date"));
                }
            }
        }
    }
    files.sort();
    let (answers, skipped) = asked_about(&survey, id);
    let all: Vec<(&String, &Digest)> = files.iter().map(|(path, digest, _)| (path, digest)).collect();
    let id = match &skipped[..] {
        [] => serde_json::to_vec(&all),
        skipped => serde_json::to_vec(&(all, skipped)),
    };
    let id = Digest::of(&id.unwrap_or_default());
    let label = project.run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
    Ok(Reference { name: word(&label), dir: project.run.clone(), id, files, answers, skipped })
}

/// How many answers a task wants in a run, and the keys of the items that it skips there. A task that the run skips as a
/// whole is tried all the same.
fn asked_about(survey: &Survey, id: TaskId) -> (u64, Vec<String>) {
    let items = survey.graph.instances(id);
    if items.is_empty() {
        return (u64::from(survey.graph[id].kind != Kind::Family), Vec::new());
    }
    let is_skipped = |item: &&TaskId| survey.settled.get(item) == Some(&Resolution::Skipped);
    let key = |item: &TaskId| survey.graph[*item].item.as_ref().map(|item| item.key.clone());
    let skipped: Vec<String> = items.iter().filter(is_skipped).filter_map(key).collect();
    match items.len() - skipped.len() {
        0 => (items.len() as u64, Vec::new()),
        asked => (asked as u64, skipped),
    }
}

/// Copies what the task reads in the reference runs, once: what happens in them later changes no experiment.
pub fn copy_inputs(experiments: &Path, references: &[Reference]) -> Result<(), Error> {
    for reference in references {
        for (path, digest, from) in &reference.files {
            let target = experiments.join(reference.folder()).join(path);
            if let Some(bytes) = fs::read_optional(&target)?
                && Digest::of(&bytes) == *digest
            {
                continue;
            }
            let bytes = fs::linked::read(from)?;
            if Digest::of(&bytes) != *digest {
                return Err(Error::new(ErrorKind::Task, format!("`{}` changed meanwhile", shown_path(from)))
                    .code("changed_meanwhile")
                    .hint("try again when nothing writes there"));
            }
            fs::make_dirs_inside(experiments, &target, Durability::Synced)?;
            fs::write_atomic(&target, &bytes, Durability::Synced)?;
        }
    }
    Ok(())
}

/// The texts of some files, each checked to be a template; equal ones once.
pub fn variants(session: &Session, champion: &Variant, files: &[PathBuf]) -> Result<Vec<Variant>, Error> {
    let mut found: Vec<Variant> = Vec::new();
    for file in files {
        let text = fs::linked::read_to_string(file)
            .map_err(|error| Error::usage(error.to_string()).code("variant"))?;
        let text = planexe_pipeline::task_inputs::json_of(&text).to_owned();
        let shown = shown_path(file);
        if text.trim().is_empty() {
            return Err(Error::usage(format!("`{shown}` is empty")).code("variant"));
        }
        render::undeclared(&Source::new(shown.as_str(), text.as_str()))
            .map_err(|error| Error::usage(error.to_string()).code("variant"))?;
        let stem = file.file_stem().map_or_else(|| "variant".into(), |stem| stem.to_string_lossy());
        let variant =
            Variant { name: word(&stem), blake3: Digest::of(text.as_bytes()), from: shown.clone(), text };
        match std::iter::once(champion).chain(&found).find(|other| other.blake3 == variant.blake3) {
            Some(same) => {
                session.notice(&format!("`{shown}` is the text of `{}`: it is passed over", same.name))
            }
            None => found.push(variant),
        }
    }
    let mut names: Vec<String> = vec![CURRENT.to_owned()];
    for variant in &mut found {
        if names.contains(&variant.name) {
            variant.name = format!("{}~{}", variant.name, &variant.blake3.short()[..4]);
        }
        names.push(variant.name.clone());
    }
    Ok(found)
}

/// The variants that lie where they are looked for.
pub fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for (name, kind) in fs::list_dir(folder)? {
        let hidden = name.to_string_lossy().starts_with('.') || name.to_string_lossy().ends_with('~');
        if kind == fs::FileKind::File && !hidden {
            files.push(folder.join(name));
        }
    }
    Ok(files)
}

/// A name that is one word, for tables, tasks and files.
pub fn word(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(40)
        .collect();
    let kept = kept.trim_matches(['-', '.']);
    if kept.is_empty() { "x".to_owned() } else { kept.to_owned() }
}
