//! The files that no item of a fan-out may write: those of the pipeline, and what tasks read that nobody made. Keys are
//! data, often of a model, and so it is data that says what an item's output is called.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::project::{CommandSpec, Evaluator, Project, Recipe};
use crate::texts::is_inline;
use planexe_base::pattern::{self, Glob, fold_case};

/// What is guarded in a run directory.
#[derive(Debug, Default)]
pub struct Guarded {
    /// Files of the pipeline by their names in lower case, each with what it is.
    own: HashMap<String, &'static str>,
    /// The folders they lie in.
    folders: HashSet<String>,
    /// Files that are read, by their names in lower case: the name, and by whom.
    read: HashMap<String, (String, String)>,
    /// Globs, and who reads what they match.
    globs: Vec<(String, Glob, String)>,
}

/// Something that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'a> {
    /// The file.
    pub path: &'a str,
    /// Who reads it, in words.
    pub by: &'a str,
}

impl Guarded {
    /// Of a project.
    pub fn new(project: &Project) -> Guarded {
        let mut guarded = Guarded::default();
        for (path, _) in &project.sources {
            let what = if *path == project.file { "the pipeline itself" } else { "a file of the pipeline" };
            guarded.own(project, path, what);
        }
        guarded.own(project, &project.file, "the pipeline itself");
        let tables = &project.tables;
        if let Some(plan) = &tables.pipeline.plan {
            guarded.own(project, &project.run.join(plan), "the plan");
        }
        let texts = [&tables.optimize.propose, &tables.optimize.judge].into_iter().flatten();
        let texts = texts.filter(|text| !is_inline(text));
        for file in texts.chain(tables.models.values().filter_map(|model| model.file.as_ref())) {
            guarded.own(project, &project.folder.join(file), "a file of the pipeline");
        }
        for id in project.graph.ids() {
            let task = &project.graph[id];
            let spec = project.spec(task);
            let by = format!("`{}`", task.name);
            for input in &task.inputs {
                guarded.read(&input.pattern, input.glob, &by);
            }
            if let Some(foreach) = &spec.foreach {
                foreach.file.iter().for_each(|file| guarded.read(file, false, &by));
                foreach.glob.iter().for_each(|glob| guarded.read(glob, true, &by));
            }
            let by = format!("the command of `{}`", task.name);
            if let Recipe::Command(command) = &spec.recipe {
                guarded.words(command, &by);
            }
            if let Some(Evaluator::Command(command)) = spec.eval.as_ref().map(|eval| &eval.by) {
                guarded.words(command, &by);
            }
        }
        for (name, model) in &tables.models {
            let by = format!("the command of the model `{name}`");
            model.command.iter().for_each(|word| guarded.word(word, &by));
        }
        guarded
    }

    /// What a path of the run is to the pipeline, if it is one of its files, lies below one, or is a folder with one in it.
    pub fn what(&self, path: &str) -> Option<&'static str> {
        let folded = fold_case(path);
        let above = folded.match_indices('/').map(|(at, _)| &folded[..at]);
        let own = above.chain([&*folded]).find_map(|path| self.own.get(path).copied());
        own.or_else(|| self.folders.contains(&*folded).then_some("a folder of the pipeline's files"))
    }

    /// Who reads a path by its name, or by what is that name on file systems that fold case.
    pub fn named(&self, path: &str) -> Option<Read<'_>> {
        self.read.get(&*fold_case(path)).map(|(path, by)| Read { path, by })
    }

    /// Who reads a path because a pattern matches it.
    pub fn matched<'a>(&'a self, path: &'a str) -> Option<Read<'a>> {
        let matches =
            |glob: &&(String, Glob, String)| glob.1.is_match(path) && !pattern::passes_over(&glob.0, path);
        self.globs.iter().find(matches).map(|(_, _, by)| Read { path, by })
    }

    fn own(&mut self, project: &Project, path: &Path, what: &'static str) {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        for path in [path, &real] {
            let Some(below) = path.strip_prefix(&project.run).ok().and_then(Path::to_str) else { continue };
            let below = fold_case(&pattern::normal(below)).into_owned();
            let folders = below.match_indices('/').map(|(at, _)| below[..at].to_owned());
            self.folders.extend(folders);
            self.own.entry(below).or_insert(what);
        }
    }

    fn read(&mut self, written: &str, glob: bool, by: &str) {
        if !glob && !pattern::has_key(written) {
            self.read
                .entry(fold_case(written).into_owned())
                .or_insert_with(|| (written.to_owned(), by.to_owned()));
            return;
        }
        let written = pattern::fill_key(written, "*");
        if let Ok(glob) = Glob::of_paths(&written) {
            self.globs.push((written, glob, by.to_owned()));
        }
    }

    fn words(&mut self, command: &CommandSpec, by: &str) {
        for word in command.line.words().iter().flat_map(|line| line.split_whitespace()) {
            self.word(word, by);
        }
    }

    /// A word of a command may name a file that it reads: a script.
    fn word(&mut self, word: &str, by: &str) {
        let word = word.trim_matches(['"', '\'', ';', '(', ')']);
        if !word.is_empty()
            && !word.starts_with(['/', '-', '<', '>'])
            && !word.contains(['$', '*', '?', '{', '\n'])
        {
            self.read(&pattern::normal(word), false, by);
        }
    }
}
