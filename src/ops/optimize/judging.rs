//! Answers compared two by two: who meets whom, what the judge is asked yet, and what came of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::ops::build::BuildOptions;
use crate::ops::optimize::bench::Bench;
use crate::ops::optimize::propose;
use planexe_base::exit::{self, Error};
use planexe_base::record::Digest;
use planexe_pipeline::project::Project;
use planexe_pipeline::template as render;
use planexe_prompt_lab::decide::{Trial, Trials};
use planexe_prompt_lab::elo::Game;
use planexe_prompt_lab::judge::{ANSWERS, Judge, Pair, compared, unheard, verdict_files};
use planexe_prompt_lab::pairs::{Bias, Winner};
use planexe_prompt_lab::records::{PairLine, SCHEMA};
use planexe_prompt_lab::view::Missing;
use planexe_prompt_lab::{Cell, Variant};
use planexe_query::selection::Units;

/// A text asked of a model: who is compared.
pub type Contestant = (Digest, String);

/// Two answers that are compared, or were.
#[derive(Debug, Clone)]
pub struct Match {
    one: Cell,
    other: Cell,
    how: How,
}

/// How it is known who won.
#[derive(Debug, Clone)]
enum How {
    /// An answer is not there yet.
    Missing,
    /// Without the judge: the answers are the same, or one of them failed. From the point of view of `one`.
    Plain(Winner, &'static str),
    /// By the judge. `turned`: `one` is its B.
    Judged { pair: Box<Pair>, turned: bool },
}

/// What came of one comparison, from the point of view of the first of a match.
struct Came {
    key: Option<String>,
    winner: Winner,
    reasons: Vec<String>,
}

impl Match {
    /// The comparison it rests on, if the judge is needed for it.
    fn pair_id(&self) -> Option<&str> {
        match &self.how {
            How::Judged { pair, .. } => Some(&pair.id),
            How::Missing | How::Plain(..) => None,
        }
    }
}

impl Bench<'_> {
    /// Fails if the judge cannot be asked about this task, before anything is paid for.
    pub fn check_judge(&self, judge: &Judge) -> Result<(), Error> {
        let task = &self.subject.spec().name;
        let named = planexe_pipeline::manifest::inputs::names(&self.subject.table().inputs);
        if let Some((name, _)) = named.iter().find(|(name, _)| ANSWERS.contains(&name.as_str())) {
            return Err(Error::usage(format!(
                "an input of `{task}` is called `{name}`, as the judge calls an answer"
            ))
            .code("judge")
            .hint(format!("give it another name in [task.{task}]: inputs = {{ NAME = \"…\" }}")));
        }
        if judge.models.is_empty() {
            return Err(Error::usage("no model is named that could be the judge")
                .code("judge")
                .hint("in the pipeline: [optimize] judge_model = \"…\""));
        }
        let shown = render::undeclared(&judge.source());
        let shown = shown.map_err(|error| Error::usage(error.to_string()).code("judge"))?;
        let root = |used: &String| used.split('.').next().unwrap_or(used).to_owned();
        let shown: BTreeSet<String> = shown.iter().map(root).collect();
        let mut names = propose::names(self);
        names.extend(ANSWERS.map(str::to_owned));
        names.remove("previous");
        let hint = "in the pipeline: [optimize] judge; it has to show `{{ first }}` and `{{ second }}`";
        if let Some(name) = ANSWERS.into_iter().find(|name| !shown.contains(*name)) {
            return Err(Error::usage(format!("the judge's prompt does not show `{{{{ {name} }}}}`"))
                .code("judge")
                .hint(hint));
        }
        if let Some(name) = shown.difference(&names).next() {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(Error::usage(format!(
                "the judge's prompt uses `{name}`, which it does not have: it has {}",
                known.join(", ")
            ))
            .code("judge"));
        }
        Ok(())
    }

    /// Has the answers of some texts compared, all with all; what was compared before is not compared again.
    pub fn judge(&mut self, variants: &[&Variant], how: &BuildOptions) -> Result<u8, Error> {
        let Some(judge) = self.judge.clone() else { return Ok(exit::DONE) };
        let matches = self.matches(variants);
        let pairs = pairs_of(&matches);
        let mut code = exit::DONE;
        if !pairs.is_empty() {
            self.keep_names(pairs.iter().map(|pair| (pair.id.clone(), pair.name.clone())))?;
            let project = Arc::new(self.judging(&pairs, &judge)?);
            let files: Vec<String> = {
                let units = Units::new(&project, &self.store);
                pairs.iter().flat_map(|pair| verdict_files(&project, &units, pair)).collect()
            };
            self.forget_failures(files.into_iter())?;
            code = self.carry_out(project.clone(), how)?;
            let units = Units::new(&project, &self.store);
            for pair in pairs {
                let found = compared(&project, &self.store, &units, &pair);
                self.compared.insert(pair.id, found);
            }
        }
        for found in matches {
            let is_same = |known: &Match| known.one.id == found.one.id && known.other.id == found.other.id;
            match self.matches.iter_mut().find(|known| is_same(known)) {
                Some(known) => *known = found,
                None => self.matches.push(found),
            }
        }
        Ok(if code == exit::FAILED { exit::DONE } else { code })
    }

    /// The pipeline of some comparisons.
    fn judging(&self, pairs: &[Pair], judge: &Judge) -> Result<Project, Error> {
        let made = self.subject.judging(&self.experiments, pairs, judge, &self.references, self.options());
        made.map_err(|faults| self.fault(faults))
    }

    /// Who meets whom: texts with the same model, and models with the same text, on each run, draw by draw.
    fn matches(&self, variants: &[&Variant]) -> Vec<Match> {
        let cells = self.cells(variants);
        let name = |digest: &Digest| {
            variants.iter().find(|one| one.blake3 == *digest).map_or("?", |one| one.name.as_str())
        };
        let mut taken = HashSet::new();
        let mut by_pair: HashMap<String, String> = HashMap::new();
        let mut found = Vec::new();
        for (at, one) in cells.iter().enumerate() {
            for other in &cells[at + 1..] {
                let same_case = one.run == other.run && one.sample == other.sample;
                if !same_case || (one.variant == other.variant) == (one.model == other.model) {
                    continue;
                }
                let who = match one.model == other.model {
                    true => format!("{}-{}.{}", name(&one.variant), name(&other.variant), one.model),
                    false => format!("{}.{}-{}", name(&one.variant), one.model, other.model),
                };
                let draw = if one.sample > 1 { format!(".{}", one.sample) } else { String::new() };
                let wanted = format!("{who}.{}{draw}", one.run);
                let how = self.how_known(one, other, |id| {
                    let name = by_pair.entry(id.to_owned());
                    name.or_insert_with(|| self.name(id, wanted, &mut taken)).clone()
                });
                found.push(Match { one: one.clone(), other: other.clone(), how });
            }
        }
        found
    }

    fn how_known(&self, one: &Cell, other: &Cell, name: impl FnOnce(&str) -> String) -> How {
        let (a, b) = (self.became(&one.id), self.became(&other.id));
        if !a.is_settled || !b.is_settled {
            return How::Missing;
        }
        match (&a.answer, &b.answer) {
            (None, None) => How::Plain(Winner::Tie, "both failed"),
            (None, Some(_)) => How::Plain(Winner::B, "failed"),
            (Some(_), None) => How::Plain(Winner::A, "failed"),
            (Some(x), Some(y)) if x == y => How::Plain(Winner::Tie, "the same answer"),
            (Some(_), Some(_)) => {
                let run = self.references.iter().find(|run| run.name == one.run);
                let id = self.judge.as_ref().zip(run);
                let id = id.and_then(|(judge, run)| self.subject.pair_id(judge, run, &a, &b));
                let Some((id, turned)) = id else { return How::Missing };
                let name = name(&id);
                let (a, b) = if turned { (other, one) } else { (one, other) };
                let pair = Pair { id, name, run: one.run.clone(), a: a.clone(), b: b.clone() };
                How::Judged { pair: Box::new(pair), turned }
            }
        }
    }

    /// How many comparisons the judge would be asked for, each of one item, as far as that is known: at most.
    pub fn to_judge(&self, variants: &[Variant]) -> Result<u64, Error> {
        let refs: Vec<&Variant> = variants.iter().collect();
        let matches = self.matches(&refs);
        let answers = |run: &str| self.references.iter().find(|it| it.name == run).map_or(1, |it| it.answers);
        let missing = matches.iter().filter(|one| matches!(one.how, How::Missing));
        let missing: u64 = missing.map(|one| answers(&one.one.run)).sum();
        let pairs = pairs_of(&matches);
        let (Some(judge), false) = (&self.judge, pairs.is_empty()) else { return Ok(missing) };
        let project = self.judging(&pairs, judge)?;
        let units = Units::new(&project, &self.store);
        let open: u64 = pairs.iter().map(|pair| unheard(&project, &self.store, &units, pair)).sum();
        Ok(missing + open)
    }

    /// What came of a match; none as long as nothing can be said.
    fn came(&self, found: &Match) -> Option<Vec<Came>> {
        match &found.how {
            How::Missing => None,
            How::Plain(winner, why) => {
                Some(vec![Came { key: None, winner: *winner, reasons: vec![(*why).to_owned()] }])
            }
            How::Judged { pair, turned } => {
                let items = self.compared.get(&pair.id)?.items.as_ref()?;
                let turn = |winner: Winner| if *turned { winner.turned() } else { winner };
                let came = items.iter().map(|item| Came {
                    key: item.key.clone(),
                    winner: turn(item.orders.winner()),
                    reasons: item.reasons.to_vec(),
                });
                Some(came.collect())
            }
        }
    }

    /// What a challenger was worth against the champion, by model and run: a draw a comparison. The same two answers are
    /// one comparison, however many draws gave them.
    pub fn points(&self, champion: &Variant, challenger: &Variant) -> Trials {
        let mut trials = Trials::new();
        let mut counted = HashSet::new();
        for cell in self.cells(&[challenger]) {
            let trial = trials.entry((cell.model.clone(), cell.run.clone())).or_default();
            trial.failed += u32::from(self.became(&cell.id).class.is_some());
            let is_it = |found: &&Match| {
                let (one, other) = (&found.one, &found.other);
                let with = |cells: (&Cell, &Cell)| {
                    cells.0.id == cell.id && cells.1.variant == champion.blake3 && cells.1.model == cell.model
                };
                with((one, other)) || with((other, one))
            };
            let found = self.matches.iter().find(is_it);
            match found.and_then(|found| Some((found, self.came(found)?))) {
                Some((found, _))
                    if !found.pair_id().is_none_or(|id| counted.insert((cell.model.clone(), id))) => {}
                Some((found, came)) => {
                    let own =
                        |it: &Came| if found.one.id == cell.id { it.winner } else { it.winner.turned() };
                    trial.draws.extend(came.iter().map(|it| Some(own(it).points())));
                }
                None => trial.draws.push(None),
            }
        }
        trials
    }

    /// The champion beside them: it is worth a half against itself.
    pub fn halves(&self, champion: &Variant) -> Trials {
        let own = self.trials_of(champion).into_iter();
        own.map(|(at, trial)| (at, Trial { draws: vec![Some(0.5)], failed: trial.failed })).collect()
    }

    /// All comparisons as games, by the positions of who took part.
    pub fn games(&self, contestants: &[Contestant]) -> Vec<Game> {
        let at = |cell: &Cell| {
            contestants.iter().position(|(text, model)| *text == cell.variant && *model == cell.model)
        };
        let mut games = Vec::new();
        let mut counted = HashSet::new();
        for found in &self.matches {
            let (Some(a), Some(b)) = (at(&found.one), at(&found.other)) else { continue };
            if !found.pair_id().is_none_or(|id| counted.insert((id, a, b))) {
                continue;
            }
            for came in self.came(found).into_iter().flatten() {
                games.push(Game { a, b, result: came.winner.points() });
            }
        }
        games
    }

    /// How often the order decided.
    pub fn bias(&self) -> Bias {
        let mut bias = Bias::default();
        let mut counted = HashSet::new();
        for found in &self.matches {
            match &found.how {
                How::Missing => {}
                How::Plain(..) => bias.unasked += 1,
                // The same two answers are compared once, whoever gave them.
                How::Judged { pair, .. } if counted.insert(&pair.id) => {
                    let items = self.compared.get(&pair.id).and_then(|found| found.items.as_ref());
                    items.into_iter().flatten().for_each(|item| bias.count(item.orders));
                }
                How::Judged { .. } => {}
            }
        }
        bias
    }

    /// The comparisons, as lines of `pairs.jsonl`.
    pub fn pair_lines(&self, variants: &[Variant]) -> Vec<PairLine> {
        let name = |cell: &Cell| {
            let found = variants.iter().find(|variant| variant.blake3 == cell.variant);
            found.map_or_else(|| cell.variant.short().to_owned(), |variant| variant.name.clone())
        };
        let mut lines = Vec::new();
        for found in &self.matches {
            let (one, other) = (&found.one, &found.other);
            // As the judge was shown them, so that its words can be read.
            let (pair, turned) = match &found.how {
                How::Judged { pair, turned } => (Some(pair), *turned),
                _ => (None, false),
            };
            let (a, b) = if turned { (other, one) } else { (one, other) };
            let line = PairLine {
                schema: SCHEMA,
                pair: pair.map(|pair| pair.id.clone()),
                run: one.run.clone(),
                sample: one.sample,
                key: None,
                a: name(a),
                a_model: a.model.clone(),
                a_cell: a.id.clone(),
                b: name(b),
                b_model: b.model.clone(),
                b_cell: b.id.clone(),
                winner: None,
                a_first: None,
                b_first: None,
                reasons: Vec::new(),
            };
            let items = pair.and_then(|pair| self.compared.get(&pair.id)).and_then(|it| it.items.as_ref());
            match (&found.how, items) {
                (How::Plain(winner, why), _) => {
                    lines.push(PairLine { winner: Some(*winner), reasons: vec![(*why).to_owned()], ..line });
                }
                (How::Judged { .. }, Some(items)) => lines.extend(items.iter().map(|item| PairLine {
                    key: item.key.clone(),
                    winner: Some(item.orders.winner()),
                    a_first: Some(item.orders.a_first),
                    b_first: Some(item.orders.b_first),
                    reasons: item.reasons.to_vec(),
                    ..line.clone()
                })),
                _ => lines.push(line),
            }
        }
        lines
    }

    /// Comparisons the judge did not get through.
    pub(super) fn uncompared(&self, variants: &[Variant]) -> Vec<Missing> {
        let name = |cell: &Cell| {
            let found = variants.iter().find(|variant| variant.blake3 == cell.variant);
            found.map_or_else(|| cell.variant.short().to_owned(), |variant| variant.name.clone())
        };
        let open = self.matches.iter().filter_map(|found| match &found.how {
            How::Judged { pair, .. } if self.came(found).is_none() => Some((found, pair)),
            _ => None,
        });
        open.map(|(found, pair)| {
            let failure = self.compared.get(&pair.id).and_then(|it| it.failure.clone());
            let (class, message) =
                failure.map_or((None, None), |(class, message)| (Some(class), Some(message)));
            Missing {
                variant: format!("{} against {}", name(&found.one), name(&found.other)),
                model: found.one.model.clone(),
                run: found.one.run.clone(),
                class,
                message,
            }
        })
        .collect()
    }

    /// What the judge said of a text, by run: how each comparison ended, and why.
    pub fn said_of(&self, variant: &Variant) -> Vec<(String, String)> {
        let mut said: Vec<(String, String)> = Vec::new();
        for found in &self.matches {
            let is_one = found.one.variant == variant.blake3;
            if is_one == (found.other.variant == variant.blake3) {
                continue;
            }
            for came in self.came(found).into_iter().flatten() {
                let own = if is_one { came.winner } else { came.winner.turned() };
                let word = match own {
                    Winner::A => "won",
                    Winner::B => "lost",
                    Winner::Tie => "tied",
                };
                let item = came.key.map(|key| format!(" on {key}")).unwrap_or_default();
                let line = format!("{word}{item}: {}", came.reasons.join(" / "));
                match said.iter_mut().find(|(run, _)| *run == found.one.run) {
                    Some((_, text)) => *text += &format!("\n{line}"),
                    None => said.push((found.one.run.clone(), line)),
                }
            }
        }
        said
    }
}

/// The comparisons the judge is asked for, each once.
fn pairs_of(matches: &[Match]) -> Vec<Pair> {
    let mut known = HashSet::new();
    let judged = matches.iter().filter_map(|found| match &found.how {
        How::Judged { pair, .. } => Some((**pair).clone()),
        _ => None,
    });
    judged.filter(|pair| known.insert(pair.id.clone())).collect()
}
