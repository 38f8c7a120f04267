//! `planexe optimize`: tries several texts of one task's prompt, and keeps the best.

mod gather;
mod promotion;
mod propose;
mod trials;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::clock;
use crate::commands::build::{HowArgs, find_model, parse_cost, parse_jobs, parse_tokens};
use crate::commands::{Session, session_find};
use crate::exit::{self, Error, Kind};
use crate::fs;
use crate::manifest::fault::shown_path;
use crate::manifest::types::Span;
use crate::open::Opened;
use crate::optimize::cells::Subject;
use crate::optimize::decide::{Decision, Rules, decide};
use crate::optimize::promote::current_text;
use crate::optimize::records::{Config, Folder, Judged, ResultRow, Round, RunRecord, SCHEMA};
use crate::optimize::{Reference, Variant};
use crate::progress;
use crate::record::Digest;
use crate::report::{Amount, ExperimentLine, ExperimentsView, OptimizeView};
use crate::store::lock::{RunLock, Wait};

use trials::Bench;

/// What a challenger gains at least, unless it is said otherwise.
const MARGIN: f64 = 0.02;
/// What it may lose anywhere.
const MAX_DROP: f64 = 0.05;

/// What `planexe optimize` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct OptimizeArgs {
    /// The task whose prompt is tried
    #[arg(value_name = "TASK")]
    pub task: Option<String>,

    /// A text to try; may be repeated [default: the files in prompts/variants/TASK, unless models are asked to propose]
    #[arg(long, value_name = "FILE")]
    pub variant: Vec<PathBuf>,

    /// A run whose inputs of the task are used; may be repeated [default: the run]
    #[arg(long, value_name = "DIR")]
    pub run: Vec<PathBuf>,

    /// Compare these models too, by their names in the pipeline [default: the first of the task's]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub models: Vec<String>,

    /// Have a model write so many new texts in each round, from the scores and notes on the last
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub propose: u32,

    /// So many rounds at most; what is kept in one is the champion of the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rounds: u32,

    /// What the mean score must gain for a text to be kept [default: 0.02]
    #[arg(long, value_name = "SCORE", value_parser = parse_share)]
    pub margin: Option<f64>,

    /// What the score may lose on any one run [default: 0.05]
    #[arg(long, value_name = "SCORE", value_parser = parse_share)]
    pub max_drop: Option<f64>,

    /// Let the best text take the prompt's place, if one was kept; with NAME no trial is made, and the text of that name,
    /// digest or experiment takes it
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub promote: Option<String>,

    /// List the experiments
    #[arg(long, conflicts_with_all = ["promote", "show", "dry_run"])]
    pub list: bool,

    /// Show an experiment [default: the last one of the task]
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["promote", "dry_run"])]
    pub show: Option<String>,

    /// Show how many calls are expected; make none, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make at most N trials at once
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<u32>,

    /// Start no further call once so many USD were spent
    #[arg(long, value_name = "USD", value_parser = parse_cost)]
    pub max_cost: Option<f64>,

    /// Start no further call once so many tokens were used, prompts and answers together (200000, 200k, 1.5M)
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub max_tokens: Option<u64>,

    /// Start no further call once so many were made, those of evaluators too
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,

    /// Start no further trial after this time (90s, 15m, 8h)
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub max_time: Option<Span>,

    /// Wait for another planexe on this experiment to end, rather than exit 75
    #[arg(long)]
    pub wait: bool,

    /// How to show what happens: auto, plain (a line per start and end), json (events on standard error), none
    #[arg(long, value_name = "HOW", value_enum, default_value_t, hide_possible_values = true)]
    pub progress: progress::How,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("wanted a score from 0 to 1, for example 0.05".to_owned()),
    }
}

/// Tries prompts.
pub fn run(session: &Session, args: &OptimizeArgs) -> Result<u8, Error> {
    let opened = session.open(true)?;
    if args.list || (args.task.is_none() && args.show.is_none()) {
        return list(session, &opened, args);
    }
    let Some(task) = &args.task else {
        return Err(
            Error::usage("whose experiment is to be shown is not said").hint("planexe optimize TASK --show")
        );
    };
    let subject = subject(&opened, task)?;
    let experiments = experiments_of(&opened, &subject.spec().name);
    if let Some(id) = &args.show {
        return show(session, &opened, &experiments, &subject, id);
    }
    if let Some(name) = args.promote.as_ref().filter(|name| !name.is_empty()) {
        return promotion::run(session, &opened, subject, &experiments, name);
    }
    Work::new(session, &opened, subject, experiments, args)?.run()
}

/// The folder of all experiments on a task.
fn experiments_of(opened: &Opened, task: &str) -> PathBuf {
    opened.project.folder.join("experiments").join(gather::word(task))
}

/// The task, which must have a prompt and an evaluator.
fn subject<'a>(opened: &'a Opened, task: &str) -> Result<Subject<'a>, Error> {
    let named = session_find(opened, task)?;
    let subject = Subject { project: &opened.project, id: named.task };
    let name = &subject.spec().name;
    if named.key.is_some() {
        return Err(Error::usage(format!(
            "`{task}` is one item; a prompt is tried on all items of its task"
        ))
        .hint(format!("planexe optimize {name}")));
    }
    if subject.prompt().is_none() {
        let kind = subject.spec().recipe.name();
        return Err(Error::usage(format!("`{name}` has no prompt to try: it is a {kind}")).code("no_prompt"));
    }
    if subject.spec().eval.is_none() {
        return Err(Error::usage(format!("`{name}` has no evaluator, so nothing tells which text is better"))
            .code("no_evaluator")
            .hint(format!(
                "in the pipeline: [task.{name}.eval] with prompt = \"…{{{{ answer }}}}…\", or a command that prints {{\"score\": 0.8}}"
            )));
    }
    Ok(subject)
}

/// The experiments of a task, the last one first.
fn configs(experiments: &Path) -> Vec<Config> {
    let mut found: Vec<Config> = Vec::new();
    for (name, kind) in fs::list_dir(experiments).unwrap_or_default() {
        if kind == fs::FileKind::Dir {
            found.extend(Folder { dir: experiments.join(name) }.config());
        }
    }
    found.sort_by(|a, b| b.updated_utc.cmp(&a.updated_utc).then(a.id.cmp(&b.id)));
    found
}

fn list(session: &Session, opened: &Opened, args: &OptimizeArgs) -> Result<u8, Error> {
    let root = opened.project.folder.join("experiments");
    let only = match &args.task {
        Some(task) => {
            Some(opened.project.spec(&opened.project.graph[session_find(opened, task)?.task]).name.clone())
        }
        None => None,
    };
    let mut experiments = Vec::new();
    for (name, kind) in fs::list_dir(&root).unwrap_or_default() {
        if kind != fs::FileKind::Dir {
            continue;
        }
        for config in configs(&root.join(name)) {
            if only.as_ref().is_some_and(|task| *task != config.task) {
                continue;
            }
            let promoted = config.promoted.as_ref().map(|it| name_of(&config, &it.blake3));
            experiments.push(ExperimentLine {
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
    let view =
        ExperimentsView { schema: crate::report::SCHEMA, server: session.server(), run_dir, experiments };
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out))?;
    }
    Ok(exit::DONE)
}

/// What a text is called.
fn name_of(config: &Config, digest: &Digest) -> String {
    let found = config.variants.iter().find(|variant| variant.blake3 == *digest);
    found.map_or_else(|| digest.short().to_owned(), |variant| variant.name.clone())
}

/// The text that came out best: what the last round kept, or its champion.
fn best_of(config: &Config) -> Digest {
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
            .hint(format!("planexe optimize {task} --variant FILE")));
    }
    let known: Vec<&str> = all.iter().map(|config| config.id.as_str()).collect();
    let hint = format!("experiments on `{task}`: {}", known.join(", "));
    let found = all.iter().find(|config| config.id.starts_with(id)).cloned();
    found.ok_or_else(|| {
        Error::usage(format!("no experiment on `{task}` is called `{id}`")).code("no_experiment").hint(hint)
    })
}

fn show(
    session: &Session,
    opened: &Opened,
    experiments: &Path,
    subject: &Subject<'_>,
    id: &str,
) -> Result<u8, Error> {
    let config = experiment(experiments, &subject.spec().name, id)?;
    let folder = Folder::new(experiments, &config.id);
    let mut view = view_of(session, opened, &folder, &config);
    view.results = folder.results();
    tell(session, &view)?;
    Ok(exit::DONE)
}

/// The answer for an experiment as it is on disk.
fn view_of(session: &Session, opened: &Opened, folder: &Folder, config: &Config) -> OptimizeView {
    let best = best_of(config);
    OptimizeView {
        schema: crate::report::SCHEMA,
        server: session.server(),
        run_dir: opened.project.run.display().to_string(),
        task: config.task.clone(),
        experiment: config.id.clone(),
        dir: folder.dir.display().to_string(),
        state: if config.complete { "complete" } else { "incomplete" }.to_owned(),
        best: name_of(config, &best),
        kept: config.variants.first().is_some_and(|first| first.blake3 != best),
        promoted: config.promoted.as_ref().is_some_and(|it| it.blake3 == best),
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

fn tell(session: &Session, view: &OptimizeView) -> Result<(), Error> {
    if session.globals.json {
        let mut view = view.clone();
        view.next.iter_mut().for_each(|next| *next = session.here(next));
        session.print_json(&view)?;
        return Ok(());
    }
    session.print(&view.text(&session.out))?;
    for next in &view.next {
        session.say(&format!("next: {next}"));
    }
    Ok(())
}

/// An experiment under way.
struct Work<'a> {
    session: &'a Session,
    opened: &'a Opened,
    args: &'a OptimizeArgs,
    bench: Bench<'a>,
    rules: Rules,
    /// All texts, the champion of the beginning first.
    variants: Vec<Variant>,
    rounds: Vec<Round>,
    rows: Vec<ResultRow>,
}

impl<'a> Work<'a> {
    fn new(
        session: &'a Session,
        opened: &'a Opened,
        subject: Subject<'a>,
        experiments: PathBuf,
        args: &'a OptimizeArgs,
    ) -> Result<Work<'a>, Error> {
        let text = current_text(&subject)?;
        let champion = Variant {
            name: gather::CURRENT.to_owned(),
            blake3: Digest::of(text.as_bytes()),
            from: subject
                .table()
                .prompt
                .clone()
                .filter(|it| !crate::texts::is_inline(it))
                .unwrap_or_default(),
            text,
        };
        let models = models(opened, &subject, args)?;
        let own = [opened.project.run.clone()];
        let dirs = if args.run.is_empty() { &own[..] } else { &args.run };
        let references = gather::references(session, &subject, dirs)?;
        let files = files(opened, &subject, args)?;
        let given = gather::variants(session, &champion, &files)?;
        if given.is_empty() && args.propose == 0 && models.len() < 2 {
            let name = &subject.spec().name;
            return Err(Error::usage(format!("there is nothing to compare the prompt of `{name}` with"))
                .code("no_variants")
                .hint(format!("put other texts into prompts/variants/{name}/, or name them: --variant FILE"))
                .hint("`--propose N` has a model write them; `--models a,b` compares models"));
        }
        let set = &opened.project.tables.optimize;
        let rules = Rules {
            margin: args.margin.or(set.margin).unwrap_or(MARGIN),
            max_drop: args.max_drop.or(set.max_drop).unwrap_or(MAX_DROP),
        };
        let bench = Bench::new(session, opened, subject, experiments, models, references);
        let variants = std::iter::once(champion).chain(given).collect();
        Ok(Work { session, opened, args, bench, rules, variants, rounds: Vec::new(), rows: Vec::new() })
    }

    fn run(mut self) -> Result<u8, Error> {
        let id = {
            let Bench { subject, models, references, .. } = &self.bench;
            subject.experiment_id(&self.variants[0], models, references)
        };
        let folder = Folder::new(&self.bench.experiments, &id);
        let before = folder.config();
        if self.args.dry_run {
            return self.forecast(&folder, &id);
        }
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
            prompt: crate::optimize::promote::prompt_file(&self.bench.subject).map(|(written, _)| written),
            variants: Vec::new(),
            models: self.bench.models.clone(),
            runs: self.bench.references.iter().map(run_record).collect(),
            evaluator: self.bench.subject.evaluator(),
            rules: self.rules,
            rounds: Vec::new(),
            complete: false,
            promoted,
        };
        let began = Instant::now();
        let used_before = self.bench.used()?;
        let how = self.how();
        let mut champion = self.variants[0].clone();
        let mut challengers: Vec<Variant> = self.variants[1..].to_vec();
        let mut code = exit::DONE;
        for round in 1..=self.args.rounds.max(1) {
            let how = self.bench.what_is_left(&how, began, used_before)?;
            if self.args.propose > 0 {
                let proposed = propose::round(
                    &mut self.bench,
                    self.args.propose,
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
            let trials = |variant: &Variant| self.bench.trials_of(variant);
            let all: Vec<_> = challengers.iter().map(trials).collect();
            let decided = decide(&self.bench.trials_of(&champion), &all, self.rules);
            let judged = challengers.iter().zip(&decided).map(|(variant, (decision, why))| Judged {
                blake3: variant.blake3.clone(),
                decision: *decision,
                why: why.clone(),
            });
            self.rounds.push(Round {
                round,
                champion: champion.blake3.clone(),
                challengers: judged.collect(),
            });
            self.rows = trials::rows(&self.bench, &self.variants, &self.rounds);
            config.variants = self.variants.clone();
            config.rounds = self.rounds.clone();
            config.complete = self.bench.missing(&self.variants).is_empty();
            config.updated_utc = clock::now_utc();
            let trials = self.bench.all(&self.variants);
            folder.write(&config, &trials, &self.rows)?;
            let kept = decided.iter().position(|(decision, _)| *decision == Decision::Kept);
            if let Some(kept) = kept {
                champion = challengers.swap_remove(kept);
            }
            if code != exit::DONE || !config.complete || self.args.propose == 0 {
                break;
            }
            challengers.clear();
        }
        let mut view = view_of(self.session, self.opened, &folder, &config);
        view.results = self.rows.clone();
        view.missing = self.bench.missing(&self.variants);
        let used = self.bench.used()?;
        view.used = Amount {
            trials: 0,
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

    /// Promotes, if that was asked for, and says what comes next.
    fn end(self, mut view: OptimizeView, config: &Config, folder: &Folder, code: u8) -> Result<u8, Error> {
        let task = &config.task;
        if code == exit::DONE && view.kept && self.args.promote.is_some() {
            let best = best_of(config);
            promotion::promote(
                self.session,
                self.opened,
                self.bench.subject,
                folder,
                config,
                &best,
                &mut view,
            )?;
        } else if view.kept && !view.promoted {
            view.next.push(format!("planexe optimize {task} --promote {}", view.best));
        } else if view.state != "complete" {
            view.next.push("the same command goes on where this one ended".to_owned());
        }
        tell(self.session, &view)?;
        Ok(match (code, view.missing.is_empty()) {
            (exit::DONE, false) => exit::FAILED,
            (code, _) => code,
        })
    }

    /// One planexe at a time works on the experiments of a task.
    fn alone(&self) -> Result<RunLock, Error> {
        let wait = if self.args.wait { Wait::Forever } else { Wait::No };
        RunLock::acquire(&self.bench.experiments.join("variants"), wait)
            .map_err(|error| self.session.lock_error(&error))
    }

    /// What `-n` says. Texts that are to be proposed cannot be known yet; so many are counted.
    fn forecast(&self, folder: &Folder, id: &str) -> Result<u8, Error> {
        let proposals = u64::from(self.args.propose) * u64::from(self.args.rounds.max(1));
        let expected = self.bench.forecast(&self.variants, proposals)?;
        let config = Config {
            schema: SCHEMA,
            id: id.to_owned(),
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
            promoted: None,
        };
        let mut view = view_of(self.session, self.opened, folder, &config);
        view.state = "planned".to_owned();
        view.expected = Some(expected);
        tell(self.session, &view)?;
        Ok(exit::DONE)
    }

    /// How trials are made: as a build makes tasks.
    fn how(&self) -> HowArgs {
        let args = self.args;
        let budget = &self.opened.project.tables.budget;
        HowArgs {
            jobs: args.jobs,
            // A text whose answers fail their checks has its score; who fails for other reasons is tried again.
            keep_failed: true,
            max_cost: args.max_cost.or(budget.cost),
            max_tokens: args.max_tokens.or(budget.tokens),
            max_calls: args.max_calls,
            max_time: args.max_time.or(budget.time),
            wait: true,
            progress: args.progress,
            ..HowArgs::default()
        }
    }
}

fn run_record(reference: &Reference) -> RunRecord {
    RunRecord {
        name: reference.name.clone(),
        dir: reference.dir.display().to_string(),
        blake3: reference.id.clone(),
    }
}

/// The models that are compared: those named, else the first of the task's.
fn models(opened: &Opened, subject: &Subject<'_>, args: &OptimizeArgs) -> Result<Vec<String>, Error> {
    if args.models.is_empty() {
        let first = subject.prompt().and_then(|prompt| prompt.models.first());
        let name = first.map(|&at| opened.project.endpoints[at].name.clone());
        return name
            .map(|name| vec![name])
            .ok_or_else(|| Error::new(Kind::Manifest, format!("`{}` names no model", subject.spec().name)));
    }
    let mut models: Vec<String> = Vec::new();
    for name in &args.models {
        find_model(opened, name)?;
        if !models.contains(name) {
            models.push(name.clone());
        }
    }
    Ok(models)
}

/// The files of texts to try: those named, or those in the folder where they are looked for.
fn files(opened: &Opened, subject: &Subject<'_>, args: &OptimizeArgs) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in &args.variant {
        match path.is_dir() {
            true => files.extend(gather::in_folder(path)?),
            false if path.is_file() => files.push(path.clone()),
            false => {
                return Err(Error::usage(format!("there is no file `{}`", shown_path(path))).code("variant"));
            }
        }
    }
    if args.variant.is_empty() && args.propose == 0 {
        let folder = opened.project.folder.join("prompts/variants").join(&subject.spec().name);
        files = gather::in_folder(&folder)?;
    }
    Ok(files)
}
