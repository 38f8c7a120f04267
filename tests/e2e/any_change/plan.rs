//! A random pipeline, as text for planexe and as a model: which tasks and items there are, which of them are skipped,
//! what each is made of, and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::random::Rng;
use crate::support::Space;

/// Lists of items of the user's.
pub const LISTS: usize = 3;

/// What a task reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Reads {
    /// A file of the user's.
    Source(String),
    /// One that may be absent.
    Optional(String),
    /// The first output of a task.
    Made { of: usize, optional: bool },
    /// All items of a fan-out.
    Items { of: usize, optional: bool },
    /// The item of the same key of a fan-out over the same.
    Same { of: usize, optional: bool },
    /// Files of the user's.
    Glob(&'static str),
}

impl Reads {
    /// The task that makes it.
    pub fn of(&self) -> Option<usize> {
        match self {
            Reads::Made { of, .. } | Reads::Items { of, .. } | Reads::Same { of, .. } => Some(*of),
            _ => None,
        }
    }

    fn is_optional(&self) -> bool {
        match self {
            Reads::Made { optional, .. } | Reads::Items { optional, .. } | Reads::Same { optional, .. } => {
                *optional
            }
            Reads::Optional(_) => true,
            Reads::Source(_) | Reads::Glob(_) => false,
        }
    }

    fn is_list(&self) -> bool {
        matches!(self, Reads::Items { .. } | Reads::Glob(_))
    }
}

/// What the items of a fan-out are.
#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    /// Of a list of the user's.
    List(usize),
    /// Of a list that a task makes.
    Made(usize),
    /// The files of a glob.
    Glob,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Recipe {
    Command,
    Template,
    Prompt,
    /// It warns of what it reads first, and never stops.
    Gate,
    /// It makes a list of items.
    Lister(usize),
    Each(Over),
}

/// When a task is made.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// While `vars.on` is `yes`.
    Var,
    /// While an input, by its place, does not have a text in it.
    Input(usize, &'static str),
    /// Of an item: while what it is says so.
    Item,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub name: String,
    pub recipe: Recipe,
    pub reads: Vec<Reads>,
    pub salt: u64,
    /// A second output; of a gate, a second condition.
    pub two: bool,
    /// It names the variable of the environment.
    pub env: bool,
    /// Its inputs have names; else many of them have the same in different folders.
    named: bool,
    pub when: Option<When>,
    /// It is evaluated, and what has this in it is made again.
    pub eval: Option<&'static str>,
    /// The last of what it reads is shown to the evaluator alone.
    pub aside: bool,
    /// How hard it is said to be.
    pub tier: u64,
    pub after: Option<usize>,
    /// It stands in `more.toml`.
    pub elsewhere: bool,
    pub gone: bool,
}

impl Task {
    /// The tasks it cannot do without in the pipeline.
    pub fn needs(&self) -> impl Iterator<Item = usize> + '_ {
        let over = match &self.recipe {
            Recipe::Each(Over::Made(of)) => Some(*of),
            _ => None,
        };
        self.reads.iter().filter_map(Reads::of).chain(over).chain(self.after)
    }

    pub fn is_each(&self) -> bool {
        matches!(self.recipe, Recipe::Each(_))
    }

    /// Whether it may have an evaluator.
    fn may_be_evaluated(&self) -> bool {
        matches!(self.recipe, Recipe::Command | Recipe::Prompt | Recipe::Each(_))
    }

    /// Whether a program evaluates it, which makes the same of the same.
    pub fn by_program(&self) -> bool {
        self.eval.is_some() && self.recipe != Recipe::Prompt
    }

    /// The inputs whose text a condition may be over.
    fn texts(&self, all: &[Task]) -> Vec<(usize, &'static str)> {
        let needle = |(at, read): (usize, &Reads)| match read {
            Reads::Source(path) if path.ends_with(".txt") => Some((at, "other")),
            Reads::Made { of, optional: false } if !matches!(all[*of].recipe, Recipe::Lister(_)) => {
                Some((at, "7"))
            }
            _ => None,
        };
        self.reads.iter().enumerate().filter(|_| self.named).filter_map(needle).collect()
    }
}

/// The pipeline as it is now.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tasks: Vec<Task>,
    /// In which order they are written.
    pub order: Vec<usize>,
    pub title: u64,
    pub on: bool,
    pub flavour: u64,
    pub comment: u64,
    pub lists: Vec<Vec<(String, u64)>>,
}

/// A task or an item of one.
pub struct Unit {
    pub name: String,
    pub task: usize,
    pub key: Option<String>,
    item: u64,
    /// The file that is the item, in a fan-out over files.
    file: Option<(String, Vec<u8>)>,
    pub outputs: Vec<String>,
    pub skipped: bool,
    /// By input the files it is given.
    given: Vec<Vec<(String, Vec<u8>)>>,
}

impl Unit {
    /// What it says of itself in the logs.
    pub fn id(&self) -> String {
        match &self.key {
            Some(key) => format!("{}[{key}]", self.task),
            None => self.task.to_string(),
        }
    }
}

/// All there are.
pub struct Units {
    /// In an order in which they can be made. Those of a fan-out whose list is not made are not known.
    pub all: Vec<Unit>,
    /// Tasks that are skipped as a whole.
    pub skipped: BTreeSet<usize>,
}

/// What the model knows of what a task or item leaves.
pub enum Leaves {
    /// These contents.
    These(Vec<Vec<u8>>),
    /// Nobody knows the answer of a model.
    Anything,
}

pub type Files = BTreeMap<String, Vec<u8>>;

/// POSIX `cksum`.
fn cksum(bytes: &[u8]) -> String {
    let mut crc = 0u32;
    let mut add = |byte: u8| {
        crc ^= u32::from(byte) << 24;
        for _ in 0..8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04c1_1db7 } else { crc << 1 };
        }
    };
    bytes.iter().for_each(|&byte| add(byte));
    let mut length = bytes.len();
    while length > 0 {
        add(length as u8);
        length >>= 8;
    }
    format!("{} {}\n", !crc, bytes.len())
}

fn has(bytes: &[u8], needle: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(needle)
}

/// Whether the evaluator's program lets a first output pass.
pub fn passes(first: &[u8], needle: &str) -> bool {
    has(first, "again") || !has(first, needle)
}

impl Plan {
    pub fn random(dice: &mut Rng) -> Plan {
        let count = match dice.below(16) {
            0 => 120 + dice.below(600),
            1..5 => 20 + dice.below(30),
            _ => 4 + dice.below(10),
        } as usize;
        // Of those a build reads only the tasks that may be stale.
        let plain = dice.chance(40);
        Plan::of(count, plain, dice)
    }

    fn of(count: usize, plain: bool, dice: &mut Rng) -> Plan {
        let mut tasks: Vec<Task> = Vec::new();
        for n in 0..count {
            let few = count < 60;
            let listers: Vec<usize> =
                (0..n).filter(|&n| matches!(tasks[n].recipe, Recipe::Lister(_))).collect();
            let recipe = match dice.below(24) {
                _ if plain => Recipe::Command,
                0..4 => Recipe::Template,
                4..6 => Recipe::Prompt,
                6..8 if few => Recipe::Each(Over::List(dice.below(LISTS as u64) as usize)),
                8 if few => Recipe::Each(Over::Glob),
                9..11 if few && !listers.is_empty() => {
                    Recipe::Each(Over::Made(listers[dice.below(listers.len() as u64) as usize]))
                }
                11 | 12 if few => Recipe::Lister(dice.below(LISTS as u64) as usize),
                13 | 14 => Recipe::Gate,
                _ => Recipe::Command,
            };
            let mut reads = match &recipe {
                Recipe::Lister(list) => vec![Reads::Source(format!("lists/{list}.json"))],
                _ => Vec::new(),
            };
            for _ in 0..dice.below(4) {
                let optional = !plain && dice.chance(30);
                let one = match dice.below(12) {
                    _ if matches!(recipe, Recipe::Lister(_)) => continue,
                    0 => Reads::Optional(format!("may/{}.txt", dice.below(3))),
                    1 if !plain => Reads::Glob("g/*.txt"),
                    2 if !plain => Reads::Glob("d/*/x.txt"),
                    3..6 => Reads::Source(format!("in/{}.txt", dice.below(5))),
                    _ if n > 0 => {
                        let of = dice.below(n as u64) as usize;
                        match &tasks[of].recipe {
                            Recipe::Each(_) if tasks[of].recipe == recipe => Reads::Same { of, optional },
                            Recipe::Each(_) => Reads::Items { of, optional },
                            _ => Reads::Made { of, optional },
                        }
                    }
                    _ => continue,
                };
                if !reads
                    .iter()
                    .any(|read: &Reads| *read == one || read.of().is_some() && read.of() == one.of())
                {
                    reads.push(one);
                }
            }
            let command = recipe == Recipe::Command;
            let mut task = Task {
                name: format!("t{n}"),
                salt: dice.below(3),
                two: command && dice.chance(20) || recipe == Recipe::Gate && dice.chance(70),
                env: command && dice.chance(15),
                named: matches!(recipe, Recipe::Template | Recipe::Prompt | Recipe::Gate) || dice.chance(60),
                when: None,
                eval: None,
                aside: recipe == Recipe::Prompt && !reads.is_empty() && dice.chance(50),
                tier: dice.below(4),
                after: (n > 0 && dice.chance(10)).then(|| dice.below(n as u64) as usize),
                elsewhere: dice.chance(20),
                gone: false,
                reads,
                recipe,
            };
            if task.recipe == Recipe::Gate && task.texts(&tasks).first().is_none_or(|(at, _)| *at != 0) {
                task.recipe = Recipe::Template;
                task.two = false;
            }
            tasks.push(task);
            if dice.chance(30) {
                tasks[n].when = condition(&tasks, n, dice);
            }
            if dice.chance(20) {
                tasks[n].eval = evaluator(&tasks[n], dice);
            }
        }
        let lists = (0..LISTS).map(|_| vec![("a".to_owned(), 0), ("b".to_owned(), dice.below(3))]).collect();
        Plan { order: (0..count).collect(), tasks, title: 0, on: true, flavour: 0, comment: 0, lists }
    }

    /// Gives a task another condition, or none.
    pub fn change_condition(&mut self, n: usize, dice: &mut Rng) {
        self.tasks[n].when = condition(&self.tasks, n, dice);
    }

    /// Has a task evaluated otherwise, or not at all.
    pub fn change_evaluator(&mut self, n: usize, dice: &mut Rng) {
        self.tasks[n].eval = evaluator(&self.tasks[n], dice);
    }

    /// The pattern of a task's first output.
    pub fn first(&self, n: usize) -> String {
        match self.tasks[n].recipe {
            Recipe::Each(_) => format!("o{}/f{n}/{{{{ key }}}}.txt", n % 3),
            Recipe::Lister(_) => format!("o{}/{n}.json", n % 3),
            _ => format!("o{}/{n}.txt", n % 3),
        }
    }

    pub fn toml(&self, elsewhere: bool) -> String {
        let mut text = String::new();
        if !elsewhere {
            let (on, title) = (if self.on { "yes" } else { "no" }, self.title);
            let _ = write!(
                text,
                "# {}\n[pipeline]\ninclude = [\"more.toml\"]\nplan = \"in/0.txt\"\n\n[vars]\ntitle = \"T{title}\"\non = \"{on}\"\n\n\
                 [models.m]\napi = \"simulated\"\nlatency = \"0s\"\n\n[models.large]\napi = \"simulated\"\nlatency = \"0s\"\n\n\
                 [defaults]\nmodel = \"m\"\n\n",
                self.comment
            );
            if self.tasks.iter().any(|task| !task.gone && task.recipe == Recipe::Prompt) {
                text.push_str(
                    "[tiers]\nsmall = { model = [\"m\"], up_to = 8 }\nbig = { model = [\"large\"] }\n\n",
                );
            }
        }
        for &n in &self.order {
            let task = &self.tasks[n];
            if !task.gone && task.elsewhere == elsewhere {
                self.task_toml(n, &mut text);
            }
        }
        text
    }

    fn task_toml(&self, n: usize, text: &mut String) {
        let task = &self.tasks[n];
        let (mut reads, mut optional) = (Vec::new(), Vec::new());
        for (at, read) in task.reads.iter().enumerate() {
            let path = match read {
                Reads::Source(path) | Reads::Optional(path) => path.clone(),
                Reads::Made { of, .. } | Reads::Same { of, .. } => self.first(*of),
                Reads::Items { of, .. } => self.first(*of).replace("{{ key }}", "*"),
                Reads::Glob(glob) => (*glob).to_owned(),
            };
            if read.is_optional() {
                optional.push(format!("{path:?}"));
            }
            reads.push(if task.named { format!("i{at} = {path:?}") } else { format!("{path:?}") });
        }
        let reads = reads.join(", ");
        let reads = if task.named { format!("{{ {reads} }}") } else { format!("[{reads}]") };
        let _ = writeln!(text, "[task.{}]\ninputs = {reads}", task.name);
        if !optional.is_empty() {
            let _ = writeln!(text, "optional = [{}]", optional.join(", "));
        }
        if let Some(after) = task.after {
            let _ = writeln!(text, "after = [{:?}]", self.tasks[after].name);
        }
        let when = match (&task.when, &task.recipe) {
            (None, _) => None,
            (Some(When::Var), _) => Some("vars.on == 'yes'".to_owned()),
            (Some(When::Input(at, needle)), _) => Some(format!("'{needle}' not in i{at}")),
            (Some(When::Item), Recipe::Each(Over::Glob)) => Some("'other' not in item.text".to_owned()),
            (Some(When::Item), _) => Some("item.v < 2".to_owned()),
        };
        if let Some(when) = when {
            let _ = writeln!(text, "when = \"{{{{ {when} }}}}\"");
        }
        let first = self.first(n);
        let second = match task.recipe {
            Recipe::Command if task.two => format!(", \"two/{n}.txt\""),
            _ => String::new(),
        };
        let _ = writeln!(text, "outputs = [{first:?}{second}]");
        let to = if second.is_empty() { "$out" } else { "$out.0" };
        let log = "../ran.log";
        let again = format!("; [ -z \"$PLANEXE_NOTES\" ] || echo again >> {to}");
        let mut id = n.to_string();
        match &task.recipe {
            Recipe::Command => {
                let env = if task.env { "env = [\"FLAVOUR\"]\n" } else { "" };
                let flavour = if task.env { "\"$FLAVOUR\"" } else { "" };
                let more = if task.two { format!("; echo {} > $out.1", task.salt) } else { String::new() };
                let _ = writeln!(
                    text,
                    "{env}command = '''echo {n} >> {log}; {{ echo {} {flavour}; head -qn 1 $in; }} < /dev/null | \
                     cksum > {to}{more}{again}'''",
                    task.salt
                );
            }
            Recipe::Each(over) => {
                let each = match over {
                    Over::Glob => "glob = \"g/*.txt\"".to_owned(),
                    Over::List(list) => format!("file = \"lists/{list}.json\", key = \"name\""),
                    Over::Made(of) => format!("file = {:?}, key = \"name\"", self.first(*of)),
                };
                id = format!("{n}[$key]");
                let _ = writeln!(
                    text,
                    "foreach = {{ {each} }}\ncommand = '''echo {id} >> {log}; {{ echo {} $key; head -qn 1 \
                     $in; }} < /dev/null | cksum > {to}{again}'''",
                    task.salt
                );
            }
            Recipe::Lister(_) => {
                let _ = writeln!(text, "command = '''echo {n} >> {log}; : {}; cat $in > $out'''", task.salt);
            }
            Recipe::Gate => {
                let warn = if task.two { "warn_if = \"{{ '3' in i0 }}\", " } else { "" };
                let _ = writeln!(
                    text,
                    "gate = {{ fail_if = \"{{{{ '7' in i0 }}}}\", {warn}action = \"warn\", message = \"says {} {{{{ \
                     vars.title }}}}\" }}",
                    task.salt
                );
            }
            Recipe::Template => {
                let _ = writeln!(text, "template = \"texts/{n}.j2\"");
            }
            Recipe::Prompt => {
                let _ = writeln!(text, "prompt = \"texts/{n}.j2\"");
                text.push_str(match task.tier {
                    0 => "",
                    1 => "tier = \"small\"\n",
                    2 => "tier = \"big\"\n",
                    _ => "complexity = { reasoning = 3, domain = 2, context = 4, output = 2 }\n",
                });
            }
        }
        match (task.eval, &task.recipe) {
            (None, _) => {}
            (Some(needle), Recipe::Prompt) => {
                let aside = task.reads.iter().enumerate().next_back().filter(|_| task.aside);
                let aside = aside.map(use_of).unwrap_or_default();
                let _ = writeln!(text, "eval = {{ prompt = '''Is {needle} in {{{{ answer }}}}?{aside}''' }}");
            }
            (Some(needle), _) => {
                let _ = writeln!(
                    text,
                    "eval = {{ command = '''echo {id} >> ../evals.log; if grep -q again $in.0 || ! grep -q {needle} $in.0; \
                     then echo '{{\"score\": 0.9, \"notes\": \"\"}}'; else echo '{{\"score\": 0.2, \"notes\": \"bad\"}}'; \
                     fi''' }}"
                );
            }
        }
        text.push('\n');
    }

    /// The text of a template or a prompt.
    fn text(&self, n: usize) -> String {
        let task = &self.tasks[n];
        let shown = task.reads.len() - usize::from(task.aside);
        let reads: String = task.reads[..shown].iter().enumerate().map(use_of).collect();
        format!("text {n} {} {{{{ vars.title }}}}{reads}", task.salt)
    }

    /// What [`Plan::text`] becomes.
    fn rendered(&self, unit: &Unit) -> String {
        let task = &self.tasks[unit.task];
        let mut text = format!("text {} {} T{}", unit.task, task.salt, self.title);
        let shown = task.reads.len() - usize::from(task.aside);
        for (read, files) in task.reads[..shown].iter().zip(&unit.given) {
            text.push(' ');
            for (path, bytes) in files {
                if read.is_list() {
                    let _ = write!(text, "{path}=");
                }
                text.push_str(&String::from_utf8_lossy(bytes));
            }
        }
        text
    }

    pub fn write(&self, space: &Space) {
        write_if_other(space, "pipeline.toml", &self.toml(false));
        write_if_other(space, "more.toml", &self.toml(true));
        for n in 0..self.tasks.len() {
            if matches!(self.tasks[n].recipe, Recipe::Template | Recipe::Prompt) {
                write_if_other(space, &format!("texts/{n}.j2"), &self.text(n));
            }
        }
        for (n, list) in self.lists.iter().enumerate() {
            let item = |(name, v): &(String, u64)| format!("{{\"name\": \"{name}\", \"v\": {v}}}");
            let items: Vec<String> = list.iter().map(item).collect();
            write_if_other(space, &format!("lists/{n}.json"), &format!("[{}]", items.join(", ")));
        }
        space.set_env("FLAVOUR", format!("f{}", self.flavour));
    }

    /// The tasks and items there are with these files.
    pub fn units(&self, files: &Files) -> Units {
        let mut units = Units { all: Vec::new(), skipped: BTreeSet::new() };
        for n in (0..self.tasks.len()).filter(|&n| !self.tasks[n].gone) {
            let task = &self.tasks[n];
            if matches!(task.recipe, Recipe::Each(Over::Made(of)) if units.skipped.contains(&of)) {
                units.skipped.insert(n);
                continue;
            }
            let from = units.all.len();
            let first = self.first(n);
            if let Recipe::Each(over) = &task.recipe {
                for (key, item) in self.items(over, files) {
                    let name = format!("{}[{key}]", task.name);
                    let outputs = vec![first.replace("{{ key }}", &key)];
                    let unit = self.unit(n, name, (Some(key), item), outputs, files, &units);
                    units.all.push(unit);
                }
            } else {
                let two = task.two && task.recipe == Recipe::Command;
                let outputs = std::iter::once(first).chain(two.then(|| format!("two/{n}.txt"))).collect();
                let unit = self.unit(n, task.name.clone(), (None, 0), outputs, files, &units);
                units.all.push(unit);
            }
            let own = &units.all[from..];
            if !own.is_empty() && own.iter().all(|unit| unit.skipped) {
                units.skipped.insert(n);
            }
        }
        units
    }

    fn items(&self, over: &Over, files: &Files) -> Vec<(String, u64)> {
        match over {
            Over::List(list) => self.lists[*list].clone(),
            Over::Glob => {
                let item = |(path, bytes): (String, Vec<u8>)| {
                    let stem = path.trim_start_matches("g/").trim_end_matches(".txt").to_owned();
                    // That it is not wanted must be told from what it is.
                    let digest: u64 = cksum(&bytes).split(' ').next().unwrap().parse().unwrap();
                    (stem, digest * 2 + u64::from(has(&bytes, "other")))
                };
                matches(files, "g/*.txt").into_iter().map(item).collect()
            }
            Over::Made(of) => {
                let made = files.get(&self.first(*of)).map_or(&b""[..], Vec::as_slice);
                let list: Vec<Value> = serde_json::from_slice(made).unwrap_or_default();
                let item = |item: &Value| Some((item["name"].as_str()?.to_owned(), item["v"].as_u64()?));
                list.iter().filter_map(item).collect()
            }
        }
    }

    fn unit(
        &self,
        n: usize,
        name: String,
        (key, item): (Option<String>, u64),
        outputs: Vec<String>,
        files: &Files,
        before: &Units,
    ) -> Unit {
        let task = &self.tasks[n];
        let one = |path: &str| files.get(path).map(|bytes| (path.to_owned(), bytes.clone()));
        let of_task = |of: usize| before.all.iter().filter(move |unit| unit.task == of);
        let (mut given, mut skipped) = (Vec::new(), false);
        for read in &task.reads {
            let over = read.of().is_some_and(|of| before.skipped.contains(&of));
            let mut spoilt = over;
            given.push(match read {
                Reads::Source(path) | Reads::Optional(path) => one(path).into_iter().collect(),
                Reads::Made { of, .. } if !over => one(&self.first(*of)).into_iter().collect(),
                Reads::Items { of, .. } if !over => {
                    let there = of_task(*of).filter(|unit| !unit.skipped);
                    let mut paths: Vec<&String> = there.flat_map(|unit| &unit.outputs).collect();
                    paths.sort();
                    paths.into_iter().filter_map(|path| one(path)).collect()
                }
                Reads::Same { of, .. } if !over => match of_task(*of).find(|unit| unit.key == key) {
                    Some(unit) if !unit.skipped => one(&unit.outputs[0]).into_iter().collect(),
                    _ => {
                        spoilt = true;
                        Vec::new()
                    }
                },
                Reads::Glob(glob) => matches(files, glob),
                _ => Vec::new(),
            });
            skipped |= spoilt && !read.is_optional();
        }
        skipped |= match &task.when {
            _ if skipped => true,
            None => false,
            Some(When::Var) => !self.on,
            Some(When::Input(at, needle)) => given[*at].iter().any(|(_, bytes)| has(bytes, needle)),
            Some(When::Item) if task.recipe == Recipe::Each(Over::Glob) => item % 2 == 1,
            Some(When::Item) => item >= 2,
        };
        let file = key.as_ref().filter(|_| task.recipe == Recipe::Each(Over::Glob));
        let file = file.and_then(|key| one(&format!("g/{key}.txt")));
        Unit { name, task: n, key, item, file, outputs, skipped, given }
    }

    /// All that a unit is made of.
    pub fn made_of(&self, unit: &Unit) -> String {
        let task = &self.tasks[unit.task];
        let text =
            |(path, bytes): &(String, Vec<u8>)| (path.clone(), String::from_utf8_lossy(bytes).into_owned());
        let given: Vec<Vec<_>> = unit.given.iter().map(|files| files.iter().map(text).collect()).collect();
        match task.recipe {
            Recipe::Prompt => self.rendered(unit),
            Recipe::Template => format!("{} {} {given:?}", task.salt, self.title),
            Recipe::Gate => format!("{} {} {} {given:?}", task.salt, self.title, task.two),
            _ => {
                let flavour = if task.env { self.flavour } else { 0 };
                // A file that may be absent and is, is one less.
                format!("{} {flavour} {:?} {} {} {given:?}", task.salt, unit.key, unit.item, task.env)
            }
        }
    }

    /// All that its evaluation rests on beside what it leaves; none if it has none.
    pub fn evaluated_by(&self, unit: &Unit) -> Option<String> {
        let task = &self.tasks[unit.task];
        let needle = task.eval?;
        Some(match unit.given.last() {
            Some(last) if task.aside => format!("{needle} {last:?}"),
            _ => needle.to_owned(),
        })
    }

    /// What a unit leaves that is made from nothing; `notes`: an evaluator's notes are given to it in the first round.
    pub fn leaves(&self, unit: &Unit, notes: bool) -> Leaves {
        let task = &self.tasks[unit.task];
        let given = &unit.given;
        let first = match &task.recipe {
            Recipe::Prompt => return Leaves::Anything,
            Recipe::Template => self.rendered(unit).into_bytes(),
            Recipe::Gate => self.verdict(unit).1,
            Recipe::Lister(_) => given[0].iter().flat_map(|(_, bytes)| bytes.clone()).collect(),
            Recipe::Command | Recipe::Each(_) => {
                let mut read = match &unit.key {
                    Some(key) => format!("{} {key}\n", task.salt),
                    None if task.env => format!("{} f{}\n", task.salt, self.flavour),
                    None => format!("{}\n", task.salt),
                }
                .into_bytes();
                // The item's file comes first, unless it is among the inputs.
                let all = given.iter().flatten();
                let item = unit.file.iter().filter(|(path, _)| !all.clone().any(|(other, _)| other == path));
                for (_, bytes) in item.chain(all.clone()) {
                    let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
                    read.extend(&bytes[..end]);
                }
                cksum(&read).into_bytes()
            }
        };
        let mut left = vec![first];
        if task.eval.is_some_and(|needle| notes || !passes(&left[0], needle)) {
            left[0].extend(b"again\n");
        }
        if unit.outputs.len() > 1 {
            left.push(format!("{}\n", task.salt).into_bytes());
        }
        Leaves::These(left)
    }

    /// What a gate warns of, if it does, and its output.
    pub fn verdict(&self, unit: &Unit) -> (Option<String>, Vec<u8>) {
        let task = &self.tasks[unit.task];
        let text = &unit.given[0][0].1;
        let fails = has(text, "7");
        let warns = !fails && task.two && has(text, "3");
        let message = (fails || warns).then(|| format!("says {} T{}", task.salt, self.title));
        let mut found = json!({
            "gate": task.name, "passed": !fails, "failed_condition": fails, "by": "condition", "message": message
        });
        if task.two {
            found["warned"] = warns.into();
        }
        (message, format!("{found:#}\n").into_bytes())
    }
}

/// A condition that a task may have, or none.
fn condition(all: &[Task], n: usize, dice: &mut Rng) -> Option<When> {
    let texts = all[n].texts(all);
    match dice.below(4) {
        _ if !all[n].named => None,
        0 | 1 if all[n].is_each() => Some(When::Item),
        0..3 if !texts.is_empty() => {
            let (at, needle) = texts[dice.below(texts.len() as u64) as usize];
            Some(When::Input(at, needle))
        }
        3 => None,
        _ => Some(When::Var),
    }
}

/// What an evaluator may not like, or none.
fn evaluator(task: &Task, dice: &mut Rng) -> Option<&'static str> {
    let needle = ["7", "3", "1", "x", ""][dice.below(5) as usize];
    Some(needle).filter(|needle| task.may_be_evaluated() && !needle.is_empty())
}

/// How a template shows an input.
fn use_of((at, read): (usize, &Reads)) -> String {
    match read {
        Reads::Items { .. } | Reads::Glob(_) => {
            format!(" {{% for f in i{at} %}}{{{{ f.path }}}}={{{{ f.text }}}}{{% endfor %}}")
        }
        read if read.is_optional() => format!(" {{% if i{at} %}}{{{{ i{at} }}}}{{% endif %}}"),
        _ => format!(" {{{{ i{at} }}}}"),
    }
}

fn write_if_other(space: &Space, path: &str, text: &str) {
    if !space.exists(path) || space.bytes(path) != text.as_bytes() {
        space.write(path, text);
    }
}

/// The files of one of the two globs.
fn matches(files: &Files, glob: &str) -> Vec<(String, Vec<u8>)> {
    let (folder, rest) = if glob == "g/*.txt" { ("g/", ".txt") } else { ("d/", "/x.txt") };
    let named = |path: &str| {
        let middle = path.strip_prefix(folder).and_then(|path| path.strip_suffix(rest));
        middle.is_some_and(|middle| !middle.is_empty() && !middle.contains('/'))
    };
    files.iter().filter(|(path, _)| named(path)).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}
