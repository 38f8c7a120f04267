//! The bench on which texts are tried: it builds the trials and knows what became of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::commands::Session;
use crate::commands::build::{HowArgs, Outside, What, carry_out_under};
use crate::commands::optimize::gather;
use crate::exit::{self, Error};
use crate::fs::{self, Durability};
use crate::llm::estimate;
use crate::manifest::types::Span;
use crate::open::Opened;
use crate::optimize::cells::{Became, Subject, became, first_outputs, is_own};
use crate::optimize::decide::{Decision, Trial, Trials};
use crate::optimize::elo::{self, Game};
use crate::optimize::promote::text_file;
use crate::optimize::records::{ResultRow, Round, Trialled};
use crate::optimize::{Cell, Reference, Variant};
use crate::project::Project;
use crate::record::{Digest, State};
use crate::report::{Amount, Missing};
use crate::signals::{self, Signals};
use crate::store::sidecar::StatusRead;
use crate::store::{Store, jsonl};
use crate::units::Units;

/// What the folder of experiments says of itself, so that it can be looked at and stopped as any run.
const PIPELINE: &str = "\
# The trials of `planexe optimize`: inputs, texts, answers and records. `planexe stop`, `events`, `failures` and `usage`
# work here; the pipeline of the trials is made up anew each time.
[pipeline]
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
    opened: &'a Opened,
    /// The task.
    pub subject: Subject<'a>,
    /// The folder of all experiments on it.
    pub experiments: PathBuf,
    /// The models that are asked.
    pub models: Vec<String>,
    /// The runs whose inputs are used.
    pub references: Vec<Reference>,
    /// The records of all trials.
    pub store: Arc<Store>,
    signals: Signals,
    names: HashMap<String, String>,
    became: HashMap<String, Became>,
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
    ) -> Bench<'a> {
        let named: Vec<Named> = jsonl::read_records(&experiments.join("cells.jsonl")).unwrap_or_default();
        let store = Arc::new(Store::open(experiments.clone()));
        Bench {
            session,
            opened,
            subject,
            experiments,
            models,
            references,
            store,
            signals: signals::listen(),
            names: named.into_iter().map(|one| (one.cell, one.name)).collect(),
            became: HashMap::new(),
        }
    }

    /// Makes the folder, with the inputs and texts in it.
    pub fn prepare(&self, variants: &[Variant]) -> Result<(), Error> {
        fs::make_dirs(&self.experiments.join("variants"), Durability::Synced)?;
        let pipeline = self.experiments.join("pipeline.toml");
        if fs::read_optional(&pipeline)?.is_none() {
            fs::write_atomic(&pipeline, PIPELINE.as_bytes(), Durability::Synced)?;
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
    fn cells(&self, variants: &[&Variant]) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for variant in variants {
            for model in &self.models {
                for run in &self.references {
                    let id = self.subject.cell_id(variant, model, run);
                    let made_up = || {
                        let name = format!("{}.{model}.{}", variant.name, run.name);
                        let is_taken = self.names.values().any(|other| *other == name)
                            || cells.iter().any(|other| other.name == name);
                        if is_taken { format!("{name}.{}", &id[..6]) } else { name }
                    };
                    let name = self.names.get(&id).cloned().unwrap_or_else(made_up);
                    let (variant, model, run) = (variant.blake3.clone(), model.clone(), run.name.clone());
                    cells.push(Cell { id, name, variant, model, run });
                }
            }
        }
        cells
    }

    /// The trials of a text that were begun already.
    pub fn made(&self, variant: &Variant) -> Vec<Cell> {
        let mut cells = self.cells(&[variant]);
        cells.retain(|cell| self.names.contains_key(&cell.id));
        cells
    }

    /// Builds the trials of some texts; those that are done are not made again. The exit code is that of a build, but
    /// a trial that failed by its text's own fault is no failure.
    pub fn build(&mut self, variants: &[&Variant], how: &HowArgs) -> Result<u8, Error> {
        let cells = self.cells(variants);
        let named: Vec<Named> = cells
            .iter()
            .filter(|cell| !self.names.contains_key(&cell.id))
            .map(|cell| Named { cell: cell.id.clone(), name: cell.name.clone() })
            .collect();
        if !named.is_empty() {
            let path = self.experiments.join("cells.jsonl");
            jsonl::mend(&path, &self.store.partial_dir())?;
            for one in &named {
                jsonl::append(&path, one, Durability::Synced)?;
            }
            self.names.extend(named.into_iter().map(|one| (one.cell, one.name)));
        }
        let project = self.project(&cells)?;
        self.forget_failures(&project, &cells)?;
        let code = self.carry_out(project.clone(), how)?;
        let units = Units::new(&project, &self.store);
        for cell in cells {
            let found = became(&project, &self.store, &units, &cell.name);
            self.became.insert(cell.id, found);
        }
        Ok(if code == exit::FAILED { exit::DONE } else { code })
    }

    /// The pipeline of some trials.
    pub fn project(&self, cells: &[Cell]) -> Result<Arc<Project>, Error> {
        let text = |digest: &Digest| {
            let path = text_file(&self.experiments, &self.subject, digest);
            let below = path.strip_prefix(&self.opened.project.folder).unwrap_or(&path);
            below.display().to_string()
        };
        let made =
            self.subject.pipeline(&self.experiments, cells, &self.references, text, &self.opened.options);
        made.map(Arc::new)
            .map_err(|faults| self.session.open_error(crate::open::OpenError::Faults(Box::new(faults))))
    }

    /// The pipeline that has texts written: name, brief and output of each task. `ask`: what is asked by default.
    pub fn proposer(&self, asked: &[(String, String, String)], ask: &str) -> Result<Project, Error> {
        self.subject
            .proposer(&self.experiments, asked, ask, &self.opened.options)
            .map_err(|faults| self.session.open_error(crate::open::OpenError::Faults(Box::new(faults))))
    }

    /// Tells something that is no error.
    pub fn say(&self, line: &str) {
        self.session.say(&crate::style::clean(line));
    }

    /// Builds all of a pipeline in the folder of experiments.
    pub fn carry_out(&self, project: Arc<Project>, how: &HowArgs) -> Result<u8, Error> {
        let opened = Opened {
            project,
            store: self.store.clone(),
            run_file: None,
            began_ns: fs::now_ns(),
            options: self.opened.options.clone(),
        };
        let targets = opened.project.default.iter().map(|&id| (id, None)).collect();
        let outside = Outside {
            signals: &self.signals,
            edits: None,
            controls: None,
            keep_same_failed: false,
            known_failures: &[],
            silent_end: true,
        };
        let what = What { targets, ..What::default() };
        let (code, ended) = carry_out_under(self.session, &opened, what, how, &outside)?;
        if let Some(stopped) = ended.as_ref().and_then(|ended| ended.stopped.as_ref()) {
            self.session.say(&format!("{}; the same command goes on from here", stopped.text()));
        }
        Ok(code)
    }

    /// A failure that is not the text's doing is tried again: a server was away, or a key was missing.
    fn forget_failures(&self, project: &Project, cells: &[Cell]) -> Result<(), Error> {
        let units = Units::new(project, &self.store);
        for cell in cells {
            for (_, output) in first_outputs(project, &units, &cell.name) {
                let StatusRead::Valid(status) = self.store.read_status(&output) else { continue };
                let own = status.failure.as_ref().is_some_and(|it| is_own(&it.class, &it.message));
                if status.state == State::Failed && !own {
                    self.store.remove_status(&output)?;
                }
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
    pub fn what_is_left(&self, how: &HowArgs, began: Instant, before: Amount) -> Result<HowArgs, Error> {
        let used = self.used()?;
        let (calls, tokens) = (used.calls - before.calls, used.tokens - before.tokens);
        let cost = used.cost_usd - before.cost_usd;
        Ok(HowArgs {
            max_cost: how.max_cost.map(|most| (most - cost).max(0.0)),
            max_tokens: how.max_tokens.map(|most| most.saturating_sub(tokens)),
            max_calls: how.max_calls.map(|most| most.saturating_sub(calls)),
            max_time: how.max_time.map(|most| Span(most.0.saturating_sub(began.elapsed()))),
            ..how.clone()
        })
    }

    fn became(&self, id: &str) -> Became {
        self.became.get(id).cloned().unwrap_or_default()
    }

    /// The trials of a text, by model and run.
    pub fn trials_of(&self, variant: &Variant) -> Trials {
        let trial = |cell: Cell| {
            let became = self.became(&cell.id);
            ((cell.model, cell.run), Trial { score: became.score, failed: became.class.is_some() })
        };
        self.cells(&[variant]).into_iter().map(trial).collect()
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

    /// Trials that have no score.
    pub fn missing(&self, variants: &[Variant]) -> Vec<Missing> {
        let all = self.all(variants).into_iter().filter(|trial| trial.became.score.is_none());
        all.map(|Trialled { cell, variant, became }| Missing {
            variant,
            model: cell.model,
            run: cell.run,
            class: became.class,
            message: became.message,
        })
        .collect()
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

    /// What is expected to be used at most. `proposals`: so many texts will be written yet.
    pub fn forecast(&self, variants: &[Variant], proposals: u64) -> Result<Amount, Error> {
        let refs: Vec<&Variant> = variants.iter().collect();
        let eval = self.subject.spec().eval.as_ref().is_some_and(|eval| eval.prompt().is_some());
        let mut amount = Amount::default();
        let each = |text: &str, model: &str, run: &Reference, amount: &mut Amount| {
            let bytes: u64 = run
                .files
                .iter()
                .filter_map(|(_, _, path)| fs::signature(path).ok().flatten())
                .map(|signature| signature.size)
                .sum();
            let input = estimate::tokens(text) + bytes / 4;
            let past = self.past();
            let output = past.map_or(500, |(tokens, _)| tokens);
            let endpoint = self.opened.project.endpoints.iter().find(|one| one.name == model);
            let price = endpoint.and_then(|endpoint| endpoint.model.price).unwrap_or_default();
            let calls = 1 + u64::from(eval);
            amount.trials += 1;
            amount.calls += calls;
            amount.tokens += (input + output) * calls;
            amount.cost_usd +=
                (input as f64 * price.input + output as f64 * price.output) / 1e6 * calls as f64;
            let at_once = endpoint.map_or(1, |it| crate::llm::limits::Limits::of(&it.model).max_concurrent);
            amount.seconds += past.map_or(0.0, |(_, seconds)| seconds) / f64::from(at_once.max(1));
        };
        for cell in self.cells(&refs) {
            let done = fs::list_dir(&self.experiments.join(cell.folder())).unwrap_or_default();
            let is_done = done.iter().any(|(name, _)| name.to_string_lossy().ends_with(".DONE"));
            let variant = variants.iter().find(|variant| variant.blake3 == cell.variant);
            let run = self.references.iter().find(|run| run.name == cell.run);
            if let (false, Some(variant), Some(run)) = (is_done, variant, run) {
                each(&variant.text, &cell.model, run, &mut amount);
            }
        }
        for _ in 0..proposals {
            for model in &self.models {
                for run in &self.references {
                    each(&variants[0].text, model, run, &mut amount);
                }
            }
            amount.calls += 1;
        }
        Ok(amount)
    }

    /// Tokens of an answer and seconds of a call of the task, as they were in the run and in earlier trials.
    fn past(&self) -> Option<(u64, f64)> {
        let own = self.subject.spec().name.as_str();
        let lines = self.opened.store.usage_lines().unwrap_or_default();
        let lines = lines.into_iter().filter(|line| line.task.split('[').next() == Some(own));
        let all: Vec<_> =
            lines.chain(self.store.usage_lines().unwrap_or_default()).filter(|it| it.success).collect();
        let count = all.len() as u64;
        (count > 0).then(|| {
            let tokens = all.iter().map(|line| line.output_tokens).sum::<u64>() / count;
            (tokens, all.iter().map(|line| line.duration_seconds).sum::<f64>() / count as f64)
        })
    }
}

/// How each text did with each model, compared run by run.
pub fn rows(bench: &Bench<'_>, variants: &[Variant], rounds: &[Round]) -> Vec<ResultRow> {
    let contestants: Vec<(usize, &String)> =
        (0..variants.len()).flat_map(|at| bench.models.iter().map(move |model| (at, model))).collect();
    let trials: Vec<Vec<Trialled>> = contestants
        .iter()
        .map(|(at, model)| {
            let all = bench.all(std::slice::from_ref(&variants[*at]));
            all.into_iter().filter(|trial| trial.cell.model == **model).collect()
        })
        .collect();
    let mut games = Vec::new();
    for a in 0..contestants.len() {
        for b in a + 1..contestants.len() {
            for (one, other) in trials[a].iter().zip(&trials[b]) {
                if let (Some(x), Some(y)) = (one.became.score, other.became.score) {
                    let tie = (x - y).abs() < 1e-9;
                    let result = if tie { 0.5 } else { f64::from(u8::from(x > y)) };
                    games.push(Game { a, b, result });
                }
            }
        }
    }
    let ratings = elo::ratings(contestants.len(), &games);
    let mut rows = Vec::new();
    for (n, (at, model)) in contestants.iter().enumerate() {
        let variant = &variants[*at];
        let (decision, why) = decision_on(&variant.blake3, rounds);
        let mut row = ResultRow {
            variant: variant.name.clone(),
            blake3: variant.blake3.short().to_owned(),
            model: (*model).clone(),
            elo: ratings[n],
            decision: decision.word().to_owned(),
            why,
            ..ResultRow::default()
        };
        for game in games.iter().filter(|game| game.a == n || game.b == n) {
            let own = if game.a == n { game.result } else { 1.0 - game.result };
            *(if own == 1.0 {
                &mut row.wins
            } else if own == 0.0 {
                &mut row.losses
            } else {
                &mut row.ties
            }) += 1;
        }
        let scores: Option<Vec<f64>> = trials[n].iter().map(|trial| trial.became.score).collect();
        if let Some(scores) = scores.filter(|scores| !scores.is_empty()) {
            row.mean = Some(scores.iter().sum::<f64>() / scores.len() as f64);
            row.min = scores.iter().copied().reduce(f64::min);
        }
        for Trialled { became, .. } in &trials[n] {
            row.failed += u32::from(became.class.is_some());
            row.calls += became.calls;
            row.tokens += became.input_tokens + became.output_tokens;
            row.cost_usd += became.cost_usd;
            row.seconds += became.seconds;
        }
        rows.push(row);
    }
    rows
}

/// What was decided of a text last.
fn decision_on(digest: &Digest, rounds: &[Round]) -> (Decision, String) {
    let judged = rounds.iter().rev().flat_map(|round| &round.challengers);
    match judged.into_iter().find(|one| one.blake3 == *digest) {
        Some(judged) => (judged.decision, judged.why.clone()),
        None if rounds.iter().any(|round| round.champion == *digest) => (Decision::Champion, String::new()),
        None => (Decision::Undecided, String::new()),
    }
}
