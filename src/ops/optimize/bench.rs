//! The bench on which texts are tried: it builds the trials and knows what became of them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ops::Session;
use crate::ops::build::{BuildControl, BuildOptions, Screen, Targets, carry_out};
use crate::ops::optimize::gather;
use crate::ops::optimize::judging::Match;
use planexe_base::exit::{self, Error};
use planexe_base::fs::{self, Durability};
use planexe_base::record::{Digest, State};
use planexe_base::signals::{self, Signals};
use planexe_pipeline::manifest::types::Span;
use planexe_pipeline::manifest::{Diagnostics, ReadOptions};
use planexe_pipeline::open::Opened;
use planexe_pipeline::project::Project;
use planexe_prompt_lab::cells::{Became, Subject, became, first_outputs, is_own, unmade};
use planexe_prompt_lab::decide::Trials;
use planexe_prompt_lab::judge::{Compared, Judge};
use planexe_prompt_lab::promote::text_file;
use planexe_prompt_lab::records::Trialled;
use planexe_prompt_lab::view::{Amount, Missing};
use planexe_prompt_lab::{Cell, Reference, Variant};
use planexe_query::selection::Units;
use planexe_store::sidecar::StatusRead;
use planexe_store::{Store, jsonl};

/// What the folder of experiments says of itself, so that it can be looked at and stopped as any run.
const PIPELINE: &str = "\
# The trials of `planexe optimize`: inputs, texts, answers and records. `planexe stop`, `events`, `failures` and `usage`
# work here; the pipeline of the trials is made up anew each time.
[pipeline]
";

/// It is a run, so that globs of the pipeline pass it over, also in a clone without its records.
const RUN: &str = "pipeline = \"pipeline.toml\"\n";

/// What belongs into git: what was decided, and the texts.
const IGNORE: &str = "\
# For git: what was compared and decided (a folder for each experiment) and the texts (variants/). The rest is answers and
# records; it can be large, and is needed only to go on without paying again.
/.planexe/
/cells/
/inputs/
/pairs/
/proposals/
/*.jsonl
/activity_overview.json
";

/// A trial's name, once it has one: a line of `cells.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    cell: String,
    name: String,
}

/// The bench.
pub struct Bench<'a> {
    session: &'a Session,
    pub(super) opened: &'a Opened,
    /// The task.
    pub subject: Subject<'a>,
    /// The folder of all experiments on it.
    pub experiments: PathBuf,
    /// The models that are asked.
    pub models: Vec<String>,
    /// The runs whose inputs are used.
    pub references: Vec<Reference>,
    /// So many draws of each text, with each model, on each run.
    pub samples: u32,
    /// Where builds show themselves.
    pub(super) screen: Screen<'a>,
    /// Who compares answers two by two, if that decides instead of scores.
    pub judge: Option<Judge>,
    /// What was compared so far.
    pub(super) matches: Vec<Match>,
    /// The records of all trials.
    pub store: Arc<Store>,
    signals: Signals,
    names: HashMap<String, String>,
    became: HashMap<String, Became>,
    pub(super) compared: HashMap<String, Compared>,
}

impl<'a> Bench<'a> {
    /// A bench; writes nothing.
    pub fn new(
        session: &'a Session,
        opened: &'a Opened,
        subject: Subject<'a>,
        experiments: PathBuf,
        models: Vec<String>,
        references: Vec<Reference>,
        screen: Screen<'a>,
    ) -> Result<Bench<'a>, Error> {
        let named: Vec<Named> = jsonl::read_records(&experiments.join("cells.jsonl")).unwrap_or_default();
        let store = Arc::new(Store::open(experiments.clone()));
        Ok(Bench {
            session,
            opened,
            subject,
            experiments,
            models,
            references,
            samples: 1,
            screen,
            judge: None,
            matches: Vec::new(),
            store,
            signals: signals::listen()?,
            names: named.into_iter().map(|one| (one.cell, one.name)).collect(),
            became: HashMap::new(),
            compared: HashMap::new(),
        })
    }

    /// Makes the folder, with the inputs and texts in it.
    pub fn prepare(&self, variants: &[Variant]) -> Result<(), Error> {
        fs::make_dirs(&self.experiments.join("variants"), Durability::Synced)?;
        for (name, text) in [("pipeline.toml", PIPELINE), ("run.toml", RUN), (".gitignore", IGNORE)] {
            let file = self.experiments.join(name);
            if fs::read_optional(&file)?.is_none() {
                fs::write_atomic(&file, text.as_bytes(), Durability::Synced)?;
            }
        }
        gather::copy_inputs(&self.experiments, &self.references)?;
        variants.iter().try_for_each(|variant| self.keep_text(variant))
    }

    /// Keeps a text, so that there is a way back to it.
    pub fn keep_text(&self, variant: &Variant) -> Result<(), Error> {
        let path = text_file(&self.experiments, &self.subject, &variant.blake3);
        if fs::read_optional(&path)?.as_deref() != Some(variant.text.as_bytes()) {
            fs::write_atomic(&path, variant.text.as_bytes(), Durability::Synced)?;
        }
        Ok(())
    }

    /// The trials of some texts; those of the first come first.
    pub(super) fn cells(&self, variants: &[&Variant]) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        let mut taken = HashSet::new();
        for variant in variants {
            for model in &self.models {
                for run in &self.references {
                    for sample in 1..=self.samples {
                        let id = self.subject.cell_id(variant, model, run, sample);
                        let mut name = format!("{}.{model}.{}", variant.name, run.name);
                        if sample > 1 {
                            name += &format!(".{sample}");
                        }
                        let name = self.name(&id, name, &mut taken);
                        let (variant, model) = (variant.blake3.clone(), model.clone());
                        cells.push(Cell { id, name, variant, model, run: run.name.clone(), sample });
                    }
                }
            }
        }
        cells
    }

    /// What a task of the bench is called: as it ever was, else by a name that no other has.
    pub(super) fn name(&self, id: &str, wanted: String, taken: &mut HashSet<String>) -> String {
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        let is_taken = taken.contains(&wanted) || self.names.values().any(|other| *other == wanted);
        let name = if is_taken { format!("{wanted}.{}", &id[..6]) } else { wanted };
        taken.insert(name.clone());
        name
    }

    /// Records the names of tasks, by their identities: kept answers are found by them.
    pub(super) fn keep_names(&mut self, named: impl Iterator<Item = (String, String)>) -> Result<(), Error> {
        let mut new: Vec<Named> = Vec::new();
        for (cell, name) in named {
            if !self.names.contains_key(&cell) && !new.iter().any(|other| other.cell == cell) {
                new.push(Named { cell, name });
            }
        }
        if !new.is_empty() {
            let path = self.experiments.join("cells.jsonl");
            jsonl::mend(&path, &self.store.partial_dir())?;
            for one in &new {
                jsonl::append(&path, one, Durability::Synced)?;
            }
            self.names.extend(new.into_iter().map(|one| (one.cell, one.name)));
        }
        Ok(())
    }

    /// The trials of a text that were begun already.
    pub fn made(&self, variant: &Variant) -> Vec<Cell> {
        let mut cells = self.cells(&[variant]);
        cells.retain(|cell| self.names.contains_key(&cell.id));
        cells
    }

    /// Builds the trials of some texts; those that are done are not made again. The exit code is that of a build, but
    /// a trial that failed by its text's own fault is no failure.
    pub fn build(&mut self, variants: &[&Variant], how: &BuildOptions) -> Result<u8, Error> {
        let cells = self.cells(variants);
        self.keep_names(cells.iter().map(|cell| (cell.id.clone(), cell.name.clone())))?;
        let project = self.project(&cells)?;
        {
            let units = Units::new(&project, &self.store);
            let outputs = cells.iter().flat_map(|cell| first_outputs(&project, &units, &cell.name));
            self.forget_failures(outputs.map(|(_, output)| output))?;
        }
        let code = self.carry_out(project.clone(), how)?;
        self.look(&project, &cells);
        Ok(if code == exit::FAILED { exit::DONE } else { code })
    }

    /// What became of the trials of some texts that were begun already, without making any.
    pub fn recall(&mut self, variants: &[Variant]) -> Result<(), Error> {
        let cells: Vec<Cell> = variants.iter().flat_map(|variant| self.made(variant)).collect();
        if !cells.is_empty() {
            let project = self.project(&cells)?;
            self.look(&project, &cells);
        }
        Ok(())
    }

    /// How many answers are missing of the trials of some texts that were begun already, by their identities.
    pub(super) fn unmade(&self, variants: &[Variant]) -> Result<HashMap<String, u64>, Error> {
        let cells: Vec<Cell> = variants.iter().flat_map(|variant| self.made(variant)).collect();
        if cells.is_empty() {
            return Ok(HashMap::new());
        }
        let project = self.project(&cells)?;
        let units = Units::new(&project, &self.store);
        let left = |cell: &Cell| (cell.id.clone(), unmade(&project, &self.store, &units, &cell.name));
        Ok(cells.iter().map(left).collect())
    }

    fn look(&mut self, project: &Project, cells: &[Cell]) {
        let units = Units::new(project, &self.store);
        let found: Vec<_> = cells
            .iter()
            .map(|cell| (cell.id.clone(), became(project, &self.store, &units, &cell.name)))
            .collect();
        self.became.extend(found);
    }

    /// The pipeline of some trials. Where a judge compares them nobody scores them.
    pub fn project(&self, cells: &[Cell]) -> Result<Arc<Project>, Error> {
        let text = |digest: &Digest| {
            let path = text_file(&self.experiments, &self.subject, digest);
            let below = path.strip_prefix(&self.opened.project.folder).unwrap_or(&path);
            below.display().to_string()
        };
        let made =
            self.subject.pipeline(&self.experiments, cells, &self.references, text, &self.opened.options);
        let unscored = |mut project: Project| {
            project.specs.iter_mut().filter(|_| self.judge.is_some()).for_each(|spec| spec.eval = None);
            Arc::new(project)
        };
        made.map(unscored).map_err(|faults| self.fault(faults))
    }

    /// Faults of a pipeline that is made up: of the texts in it.
    pub(super) fn fault(&self, faults: Diagnostics) -> Error {
        self.session.open_error(planexe_pipeline::open::OpenError::Diagnostics(Box::new(faults)))
    }

    /// How the pipeline was read.
    pub(super) fn options(&self) -> &ReadOptions {
        &self.opened.options
    }

    /// The pipeline that has texts written: name, brief and output of each task. `ask`: what is asked by default.
    pub fn proposer(&self, asked: &[(String, String, String)], ask: &str) -> Result<Project, Error> {
        self.subject
            .proposer(&self.experiments, asked, ask, &self.opened.options)
            .map_err(|faults| self.fault(faults))
    }

    /// Tells something that is no error.
    pub fn say(&self, line: &str) {
        self.session.notice(&planexe_base::style::clean(line));
    }

    /// Builds all of a pipeline in the folder of experiments.
    pub fn carry_out(&self, project: Arc<Project>, how: &BuildOptions) -> Result<u8, Error> {
        let opened = Opened {
            project,
            store: self.store.clone(),
            run_file: None,
            began_ns: fs::now_ns(),
            options: self.opened.options.clone(),
            because: None,
        };
        let targets = opened.project.default.iter().map(|&id| (id, None)).collect();
        let what = Targets { targets, ..Targets::default() };
        let control = BuildControl::new(&self.signals);
        let built = carry_out(self.session, &opened, what, how, &control, self.screen)?;
        if let Some(stopped) = built.ended.as_ref().and_then(|(ended, _)| ended.stopped.as_ref()) {
            self.session.notice(&format!("{}; the same command continues from here", stopped.text()));
        }
        Ok(built.code)
    }

    /// A failure that is not the text's doing is tried again: a server was away, or a key was missing. By the first
    /// outputs of tasks.
    pub(super) fn forget_failures(&self, outputs: impl Iterator<Item = String>) -> Result<(), Error> {
        for output in outputs {
            let StatusRead::Valid(status) = self.store.read_status(&output) else { continue };
            let own = status.result.failure.as_ref().is_some_and(is_own);
            if status.state == State::Failed && !own {
                self.store.remove_status(&output)?;
            }
        }
        Ok(())
    }

    /// What the calls of all trials used so far.
    pub fn used(&self) -> Result<Amount, Error> {
        let mut used = Amount::default();
        for line in self.store.usage_lines()? {
            used.calls += 1;
            used.tokens += line.input_tokens + line.output_tokens;
            used.cost_usd += line.cost_usd;
        }
        Ok(used)
    }

    /// The limits, less what was used since the beginning.
    pub fn what_is_left(
        &self,
        how: &BuildOptions,
        began: Instant,
        before: Amount,
    ) -> Result<BuildOptions, Error> {
        let used = self.used()?;
        let (calls, tokens) = (used.calls - before.calls, used.tokens - before.tokens);
        let cost = used.cost_usd - before.cost_usd;
        Ok(BuildOptions {
            max_cost: how.max_cost.map(|most| (most - cost).max(0.0)),
            max_tokens: how.max_tokens.map(|most| most.saturating_sub(tokens)),
            max_calls: how.max_calls.map(|most| most.saturating_sub(calls)),
            max_time: how.max_time.map(|most| Span(most.0.saturating_sub(began.elapsed()))),
            ..how.clone()
        })
    }

    pub(super) fn became(&self, id: &str) -> Became {
        self.became.get(id).cloned().unwrap_or_default()
    }

    /// The scores of a text, by model and run.
    pub fn trials_of(&self, variant: &Variant) -> Trials {
        let mut trials = Trials::new();
        for cell in self.cells(&[variant]) {
            let became = self.became(&cell.id);
            let trial = trials.entry((cell.model, cell.run)).or_default();
            trial.draws.push(became.score);
            trial.failed += u32::from(became.class.is_some());
        }
        trials
    }

    /// All trials of some texts.
    pub fn all(&self, variants: &[Variant]) -> Vec<Trialled> {
        let of = |variant: &'_ Variant| {
            let name = variant.name.clone();
            self.cells(&[variant]).into_iter().map(move |cell| (name.clone(), cell))
        };
        let cells = variants.iter().flat_map(of);
        cells.map(|(variant, cell)| Trialled { became: self.became(&cell.id), cell, variant }).collect()
    }

    /// Whether there are several draws, and those of a text gave the same answer everywhere.
    pub fn draws_alike(&self, variants: &[Variant]) -> bool {
        let all = self.all(variants);
        let answers: Vec<_> = all.iter().filter_map(|trial| trial.became.answer.as_ref()).collect();
        let draws = usize::try_from(self.samples).unwrap_or(1);
        draws > 1
            && !answers.is_empty()
            && answers.len() == all.len()
            && answers.chunks(draws).all(|own| own.iter().all(|answer| answer == &own[0]))
    }

    /// Trials and comparisons of which nothing can be said yet.
    pub fn missing(&self, variants: &[Variant]) -> Vec<Missing> {
        let is_whole = |became: &Became| match self.judge {
            None => became.score.is_some(),
            Some(_) => became.is_settled,
        };
        let all = self.all(variants).into_iter().filter(|trial| !is_whole(&trial.became));
        let trials = all.map(|Trialled { cell, variant, became }| Missing {
            variant,
            model: cell.model,
            run: cell.run,
            class: became.class,
            message: became.message,
        });
        trials.chain(self.uncompared(variants)).collect()
    }

    /// What the evaluator said of a text, by run.
    pub fn notes_of(&self, variant: &Variant) -> Vec<(String, Option<f64>, String)> {
        let of = |cell: Cell| {
            let became = self.became(&cell.id);
            let failed = became.class.map(|class| format!("{class}: {}", became.message.unwrap_or_default()));
            (cell.run, became.score, failed.unwrap_or(became.notes))
        };
        self.cells(&[variant]).into_iter().map(of).collect()
    }
}
