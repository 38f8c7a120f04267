//! An experiment under way: round by round texts are tried, compared, and kept or reverted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::ops::LockOptions;
use crate::ops::Session;
use crate::ops::build::{BuildOptions, Screen, find_model};
use crate::ops::optimize::bench::Bench;
use crate::ops::optimize::experiments::{best_of, view_of};
use crate::ops::optimize::promote::{Promotion, replace_prompt};
use crate::ops::optimize::{Experimented, OptimizeOptions, experiments_of, gather, propose, rows, subject};
use planexe_base::clock;
use planexe_base::exit::{self, Error, Kind};
use planexe_base::record::Digest;
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::manifest::types::Compare;
use planexe_pipeline::open::Opened;
use planexe_prompt_lab::cells::Subject;
use planexe_prompt_lab::decide::{Decided, Decision, Rules, decide};
use planexe_prompt_lab::folder::Folder;
use planexe_prompt_lab::judge::Judge;
use planexe_prompt_lab::promote::current_text;
use planexe_prompt_lab::reaches;
use planexe_prompt_lab::records::{Config, Judged, Round, RunRecord, SCHEMA};
use planexe_prompt_lab::results::ResultRow;
use planexe_prompt_lab::view::{Amount, OptimizeView};
use planexe_prompt_lab::{Reference, Variant};
use planexe_store::lock::{RunLock, Wait};

/// What a challenger gains at least, unless it is said otherwise.
const MARGIN: f64 = 0.02;
/// What it may lose anywhere.
const MAX_DROP: f64 = 0.05;

/// An experiment under way.
pub(super) struct Work<'a> {
    session: &'a Session,
    opened: &'a Opened,
    options: &'a OptimizeOptions,
    bench: Bench<'a>,
    rules: Rules,
    /// All texts, the champion of the beginning first.
    variants: Vec<Variant>,
    rounds: Vec<Round>,
    rows: Vec<ResultRow>,
}

impl<'a> Work<'a> {
    /// With all that is compared; writes nothing.
    pub(super) fn new(
        session: &'a Session,
        opened: &'a Opened,
        task: &str,
        options: &'a OptimizeOptions,
        screen: Screen<'a>,
    ) -> Result<Work<'a>, Error> {
        let compare = options.compare.unwrap_or(opened.project.tables.optimize.compare);
        let subject = subject(opened, task, compare)?;
        let text = current_text(&subject)?;
        let champion = Variant {
            name: gather::CURRENT.to_owned(),
            blake3: Digest::of(text.as_bytes()),
            from: subject
                .table()
                .prompt
                .clone()
                .filter(|it| !planexe_pipeline::texts::is_inline(it))
                .unwrap_or_default(),
            text,
        };
        let models = models(opened, &subject, options)?;
        let own = [opened.project.run.clone()];
        let dirs = if options.runs.is_empty() { &own[..] } else { &options.runs };
        let references = gather::references(session, &subject, dirs)?;
        let files = files(opened, &subject, options)?;
        let given = gather::variants(session, &champion, &files)?;
        if given.is_empty() && options.propose == 0 && models.len() < 2 {
            let name = &subject.spec().name;
            return Err(Error::usage(format!("there is nothing to compare the prompt of `{name}` with"))
                .code("no_variants")
                .hint(format!("put other texts into prompts/variants/{name}/, or name them: --variant FILE"))
                .hint("`--propose N` has a model write them; `--models a,b` compares models"));
        }
        let set = &opened.project.tables.optimize;
        let rules = Rules {
            margin: options.margin.or(set.margin).unwrap_or(MARGIN),
            max_drop: options.max_drop.or(set.max_drop).unwrap_or(MAX_DROP),
            samples: options.samples.or(set.samples).unwrap_or(1),
            compare,
        };
        let experiments = experiments_of(opened, &subject.spec().name);
        let mut bench = Bench::new(session, opened, subject, experiments, models, references, screen)?;
        bench.samples = rules.samples;
        if rules.compare == Compare::Pairwise {
            let judge = Judge::new(&subject)?;
            bench.check_judge(&judge)?;
            bench.judge = Some(judge);
        }
        let variants = std::iter::once(champion).chain(given).collect();
        Ok(Work { session, opened, options, bench, rules, variants, rounds: Vec::new(), rows: Vec::new() })
    }

    /// The experiment's identity: what it compares.
    fn id(&self) -> String {
        let Bench { subject, models, references, judge, .. } = &self.bench;
        let judge = judge.as_ref().map(|judge| &judge.digest);
        subject.experiment_id(&self.variants[0], models, references, judge)
    }

    /// Tries, decides, and writes what came of it.
    pub(super) fn run(mut self) -> Result<Experimented, Error> {
        let id = self.id();
        let folder = Folder::new(&self.bench.experiments, &id);
        let before = folder.config();
        self.bench.prepare(&self.variants)?;
        let _alone = self.alone()?;
        let started = before.as_ref().map_or_else(clock::now_utc, |config| config.started_utc.clone());
        let promoted = before.and_then(|config| config.promoted);
        let mut config = Config {
            schema: SCHEMA,
            id,
            task: self.bench.subject.spec().name.clone(),
            started_utc: started,
            updated_utc: String::new(),
            prompt: planexe_prompt_lab::promote::prompt_file(&self.bench.subject).map(|(written, _)| written),
            variants: Vec::new(),
            models: self.bench.models.clone(),
            runs: self
                .bench
                .references
                .iter()
                .map(|reference| run_record(reference, &self.opened.project.folder))
                .collect(),
            evaluator: self.bench.subject.evaluator(),
            rules: self.rules,
            rounds: Vec::new(),
            complete: false,
            bias: None,
            promoted,
        };
        let began = Instant::now();
        let used_before = self.bench.used()?;
        let how = self.how();
        let mut champion = self.variants[0].clone();
        let mut challengers: Vec<Variant> = self.variants[1..].to_vec();
        let mut code = exit::DONE;
        for round in 1..=self.options.rounds.max(1) {
            let how = self.bench.what_is_left(&how, began, used_before)?;
            if self.options.propose > 0 {
                let proposed = propose::round(
                    &mut self.bench,
                    self.options.propose,
                    &champion,
                    &self.variants,
                    &self.rounds,
                    &how,
                )?;
                if proposed.code != exit::DONE {
                    code = proposed.code;
                    break;
                }
                for variant in proposed.variants {
                    if !self.variants.iter().any(|other| other.blake3 == variant.blake3) {
                        self.variants.push(variant.clone());
                        challengers.push(variant);
                    }
                }
            }
            let how = self.bench.what_is_left(&how, began, used_before)?;
            let compared: Vec<&Variant> = std::iter::once(&champion).chain(&challengers).collect();
            code = self.bench.build(&compared, &how)?;
            if code == exit::DONE {
                let how = self.bench.what_is_left(&how, began, used_before)?;
                code = self.bench.judge(&compared, &how)?;
            }
            let decided = self.decide(&champion, &challengers);
            let judged = challengers.iter().zip(&decided).map(|(variant, decided)| Judged {
                blake3: variant.blake3.clone(),
                decision: decided.decision,
                why: self.with_lost(variant, &decided.why),
                gain: decided.gain,
                interval: decided.interval.map(|it| [it.low, it.high]),
                noise: decided.is_noise(),
            });
            self.rounds.push(Round {
                round,
                champion: champion.blake3.clone(),
                challengers: judged.collect(),
            });
            self.rows = rows::rows(&self.bench, &self.variants, &self.rounds);
            config.variants = self.variants.clone();
            config.rounds = self.rounds.clone();
            config.complete = self.bench.missing(&self.variants).is_empty();
            config.updated_utc = clock::now_utc();
            config.bias = self.bench.judge.as_ref().map(|_| self.bench.bias());
            let trials = self.bench.all(&self.variants);
            let pairs = self.bench.pair_lines(&self.variants);
            folder.write(&config, &trials, &pairs, &self.rows)?;
            let kept = decided.iter().position(|one| one.decision == Decision::Kept);
            if let Some(kept) = kept {
                champion = challengers.swap_remove(kept);
            }
            if code != exit::DONE || !config.complete || self.options.propose == 0 {
                break;
            }
            challengers.clear();
        }
        let mut view = view_of(self.session, self.opened, &folder, &config);
        view.results = self.rows.clone();
        view.draws_alike = self.bench.draws_alike(&self.variants);
        view.missing = self.bench.missing(&self.variants);
        let used = self.bench.used()?;
        view.used = Amount {
            trials: 0,
            comparisons: 0,
            calls: used.calls - used_before.calls,
            tokens: used.tokens - used_before.tokens,
            cost_usd: used.cost_usd - used_before.cost_usd,
            seconds: began.elapsed().as_secs_f64(),
        };
        if code == exit::STOPPED || code >= exit::HANGUP {
            view.state = "stopped".to_owned();
        }
        self.end(view, &config, &folder, code)
    }

    /// Decides of the challengers of a round, by scores or by what the judge said.
    fn decide(&self, champion: &Variant, challengers: &[Variant]) -> Vec<Decided> {
        let bench = &self.bench;
        if bench.judge.is_none() {
            let all: Vec<_> = challengers.iter().map(|variant| bench.trials_of(variant)).collect();
            return decide(&bench.trials_of(champion), &all, self.rules, None);
        }
        let all: Vec<_> = challengers.iter().map(|variant| bench.points(champion, variant)).collect();
        let rank = rows::rank(bench, challengers);
        let mut decided = decide(&bench.halves(champion), &all, self.rules, Some(&rank));
        // Who is the best of several follows from all comparisons.
        if !bench.uncompared(&self.variants).is_empty() {
            for one in decided.iter_mut().filter(|one| one.decision == Decision::Kept) {
                one.decision = Decision::Undecided;
                one.why += "; not all is compared yet";
            }
        }
        decided
    }

    /// The inputs of the task that the prompt of the beginning uses and a text does not.
    fn lost(&self, variant: &Variant) -> Vec<String> {
        reaches::lost(&self.bench.subject, &self.variants[0].text, &variant.text)
    }

    /// A reason, with the inputs that a text does not use any more.
    fn with_lost(&self, variant: &Variant, why: &str) -> String {
        match &self.lost(variant)[..] {
            [] => why.to_owned(),
            lost => format!("{why}; it does not use `{}`", lost.join("`, `")),
        }
    }

    /// Promotes, if that was asked for, and says what comes next.
    fn end(
        self,
        mut view: OptimizeView,
        config: &Config,
        folder: &Folder,
        code: u8,
    ) -> Result<Experimented, Error> {
        let task = &config.task;
        let best = best_of(config);
        view.dropped_inputs = self
            .variants
            .iter()
            .find(|variant| variant.blake3 == best)
            .map(|variant| self.lost(variant))
            .unwrap_or_default();
        if code == exit::DONE && view.kept && self.options.promote {
            let may_drop = self.options.allow_dropped_inputs;
            let Bench { subject, screen, .. } = self.bench;
            let promotion = Promotion { subject, folder, config, digest: &best, may_drop, screen };
            if let Err(error) = replace_prompt(self.session, self.opened, &promotion, &mut view) {
                return Ok(Experimented { view, refused: Some(error), code });
            }
        } else if view.kept && !view.promoted {
            let also = if view.dropped_inputs.is_empty() { "" } else { " --allow-dropped-inputs" };
            view.next.push(format!("planexe optimize {task} --promote {}{also}", view.best));
        } else if view.state != "complete" {
            view.next.push("the same command continues where this one ended".to_owned());
        }
        let code = if code == exit::DONE && !view.missing.is_empty() { exit::FAILED } else { code };
        Ok(Experimented { view, refused: None, code })
    }

    /// One planexe at a time works on the experiments of a task.
    fn alone(&self) -> Result<RunLock, Error> {
        let wait = if self.options.wait { Wait::Forever } else { Wait::No };
        RunLock::acquire(&self.bench.experiments.join("variants"), wait)
            .map_err(|error| self.session.lock_error(&error))
    }

    /// What is expected to be used. Texts that are to be proposed cannot be known yet; so many are counted.
    pub(super) fn forecast(mut self) -> Result<OptimizeView, Error> {
        let id = self.id();
        let folder = Folder::new(&self.bench.experiments, &id);
        let (propose, rounds) = (u64::from(self.options.propose), u64::from(self.options.rounds.max(1)));
        let expected = self.bench.forecast(&self.variants, propose, rounds)?;
        let config = Config {
            schema: SCHEMA,
            id,
            task: self.bench.subject.spec().name.clone(),
            started_utc: String::new(),
            updated_utc: String::new(),
            prompt: None,
            variants: self.variants.clone(),
            models: Vec::new(),
            runs: Vec::new(),
            evaluator: None,
            rules: self.rules,
            rounds: Vec::new(),
            complete: false,
            bias: None,
            promoted: None,
        };
        let mut view = view_of(self.session, self.opened, &folder, &config);
        view.state = "planned".to_owned();
        view.expected = Some(expected);
        Ok(view)
    }

    /// How trials are made: as a build makes tasks.
    fn how(&self) -> BuildOptions {
        let build = &self.options.build;
        let budget = &self.opened.project.tables.budget;
        BuildOptions {
            // A text whose answers fail their checks has its score; who fails for other reasons is tried again.
            keep_failed: true,
            max_cost: build.max_cost.or(budget.cost),
            max_tokens: build.max_tokens.or(budget.tokens),
            max_time: build.max_time.or(budget.time),
            lock: LockOptions { wait: true, no_lock: false },
            ..build.clone()
        }
    }
}

/// `folder` is the pipeline's: what is below it is named from there, since the record is shared.
fn run_record(reference: &Reference, folder: &Path) -> RunRecord {
    let dir = match reference.dir.strip_prefix(folder) {
        Ok(below) if below.as_os_str().is_empty() => Path::new("."),
        Ok(below) => below,
        Err(_) => &reference.dir,
    };
    RunRecord { name: reference.name.clone(), dir: dir.display().to_string(), blake3: reference.id.clone() }
}

/// The models that are compared: those named, else the first of the task's.
fn models(opened: &Opened, subject: &Subject<'_>, options: &OptimizeOptions) -> Result<Vec<String>, Error> {
    if options.models.is_empty() {
        let first = subject.prompt().and_then(|prompt| prompt.models.first());
        let name = first.map(|&at| opened.project.endpoints[at].name.clone());
        return name
            .map(|name| vec![name])
            .ok_or_else(|| Error::new(Kind::Manifest, format!("`{}` names no model", subject.spec().name)));
    }
    let mut models: Vec<String> = Vec::new();
    for name in &options.models {
        find_model(opened, name)?;
        if !models.contains(name) {
            models.push(name.clone());
        }
    }
    Ok(models)
}

/// The files of texts to try: those named, or those in the folder where they are looked for.
fn files(opened: &Opened, subject: &Subject<'_>, options: &OptimizeOptions) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in &options.variants {
        match path.is_dir() {
            true => files.extend(gather::in_folder(path)?),
            false if path.is_file() => files.push(path.clone()),
            false => {
                return Err(Error::usage(format!("there is no file `{}`", shown_path(path))).code("variant"));
            }
        }
    }
    if options.variants.is_empty() && options.propose == 0 {
        let folder = opened.project.folder.join("prompts/variants").join(&subject.spec().name);
        files = gather::in_folder(&folder)?;
    }
    Ok(files)
}
