//! Random pipelines of commands, changed one thing after another: what comes out is what a build from scratch makes,
//! by the same commands whether the caches are there or not, and each after what it reads. Conditions come and go.
//! `PLANEXE_SEEDS=500 cargo test --test e2e random_pipelines` tries more of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use planexe_engine::graph::Decl;

use crate::random::{Rng, random_decls};
use crate::support::Space;

/// A pipeline and what a person may change of it.
struct Plan {
    decls: Vec<Decl>,
    /// By task: part of its command.
    salts: Vec<u64>,
    /// By task: a file nobody makes that it reads.
    sources: Vec<Option<u64>>,
    /// Lists of items in whose place all sources are the items.
    globs: BTreeSet<String>,
    /// By task: what it reads and may do without.
    optional: Vec<Vec<String>>,
    /// By task: whether its condition is false.
    off: Vec<bool>,
}

/// What a change does to a run directory.
type Change<'a> = Box<dyn Fn(&Space) + 'a>;

impl Plan {
    fn random(dice: &mut Rng) -> Plan {
        let decls = random_decls(dice);
        let source = |decl: &Decl, dice: &mut Rng| (!decl.recipe || dice.chance(40)).then(|| dice.below(4));
        let sources = decls.iter().map(|decl| source(decl, dice)).collect();
        let lists: BTreeSet<_> =
            decls.iter().filter_map(|decl| Some(decl.foreach.as_ref()?.source.clone())).collect();
        let globs = lists.into_iter().filter(|_| dice.chance(30)).collect();
        let mut may_miss = |decl: &Decl| {
            let inputs = decl.inputs.iter().filter(|_| dice.chance(30));
            inputs.map(|input| input.pattern.clone()).collect()
        };
        let optional = decls.iter().map(&mut may_miss).collect();
        let off = vec![false; decls.len()];
        Plan { salts: vec![0; decls.len()], sources, globs, optional, off, decls }
    }

    fn toml(&self) -> String {
        let mut text = String::new();
        for (n, decl) in self.decls.iter().enumerate() {
            let (salt, source) = (self.salts[n], self.sources[n]);
            let name = &decl.name;
            let source = source.map(|n| format!("in/{n}.txt"));
            let inputs = decl.inputs.iter().map(|input| input.pattern.clone()).chain(source);
            let mut named: Vec<String> = inputs.collect();
            named.sort();
            named.dedup();
            let named = named.iter().enumerate().map(|(n, path)| format!("i{n} = {path:?}"));
            let named: Vec<String> = named.collect();
            let _ = write!(
                text,
                "[task.{name}]\ninputs = {{ {} }}\nafter = {:?}\n",
                named.join(", "),
                decl.after
            );
            if let Some(over) = &decl.foreach {
                let list = format!("file = {:?}, items = \"/l\", key = \"id\"", over.source);
                let items = if self.globs.contains(&over.source) { "glob = \"in/*.txt\"" } else { &list };
                let _ = writeln!(text, "foreach = {{ {items} }}\nsequential = {}", decl.sequential);
            }
            if !self.optional[n].is_empty() {
                let _ = writeln!(text, "optional = {:?}", self.optional[n]);
            }
            if self.off[n] {
                text.push_str("when = \"{{ false }}\"\n");
            }
            if decl.recipe {
                // The items of what is made depend on what was read, and are often the same though that differs.
                let key = if decl.foreach.is_some() { "[$key]" } else { "" };
                let _ = writeln!(
                    text,
                    "outputs = {:?}\ncommand = '''echo \"{name}{key}\" >> ran.log; \
                     s=$(cat $in < /dev/null | cksum | cut -c 1-2); s=$((s + {salt})); l='{{\"id\": \"a\"}}'; \
                     test $((s % 2)) = 0 || l=\"$l, {{\\\"id\\\": \\\"b\\\"}}\"; \
                     echo \"{{\\\"l\\\": [$l], \\\"s\\\": $s}}\" > $out'''",
                    decl.outputs
                );
            }
            text.push('\n');
        }
        text
    }

    /// One change, and what it does to each run directory.
    fn change(&mut self, dice: &mut Rng) -> (String, Change<'_>) {
        let at = dice.below(self.decls.len() as u64) as usize;
        let n = dice.below(4);
        let key = ["a", "b", "0", "1"][dice.below(4) as usize];
        let made = self.decls[at].outputs.first().map(|path| path.replace("{{ key }}", key));
        match (dice.below(7), made) {
            (0, Some(made)) => (format!("without {made}"), Box::new(move |space| remove(space, &made))),
            (1, Some(made)) => {
                let marker = format!("{made}.DONE");
                (format!("without {marker}"), Box::new(move |space| remove(space, &marker)))
            }
            (2, _) => {
                self.salts[at] = dice.below(3);
                (
                    format!("another command of t{at}"),
                    Box::new(|space| space.write("pipeline.toml", self.toml())),
                )
            }
            (4, Some(_)) => {
                self.off[at] = !self.off[at];
                (
                    format!("another condition of t{at}"),
                    Box::new(|space| space.write("pipeline.toml", self.toml())),
                )
            }
            (3, _) => {
                self.sources[at] = Some(n);
                (
                    format!("t{at} reads in/{n}.txt"),
                    Box::new(|space| space.write("pipeline.toml", self.toml())),
                )
            }
            _ => {
                let text = format!("{}\n", dice.below(30));
                (format!("in/{n}.txt"), Box::new(move |space| space.write(&format!("in/{n}.txt"), &text)))
            }
        }
    }
}

fn remove(space: &Space, path: &str) {
    if space.exists(path) {
        space.remove(path);
    }
}

fn without_caches(space: &Space) {
    for cache in ["index", "durations"] {
        remove(space, &format!(".planexe/{cache}"));
    }
}

/// What ran since the last look, in the order in which it began.
fn ran(space: &Space) -> Vec<String> {
    let log = if space.exists("ran.log") { space.read("ran.log") } else { String::new() };
    remove(space, "ran.log");
    log.lines().map(str::to_owned).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn outputs(space: &Space) -> BTreeMap<String, Vec<u8>> {
    let of_a_task = |path: &String| path.starts_with('t') && path.ends_with(".json");
    space.tree().into_iter().filter(|(path, _)| of_a_task(path)).collect()
}

/// Tasks begin after those they need, as far as both ran.
fn assert_in_order(plan: &Plan, ran: &[String], seed: u64) {
    let of = |entry: &str| entry.split('[').next().unwrap_or_default().to_owned();
    let mut last: HashMap<String, usize> = HashMap::new();
    for (at, entry) in ran.iter().enumerate() {
        last.insert(of(entry), at);
    }
    for decl in plan.decls.iter().filter(|decl| decl.foreach.is_none()) {
        let Some(at) = last.get(&decl.name) else { continue };
        let read = decl.inputs.iter().map(|input| input.pattern.split(['/', '.']).next().unwrap_or_default());
        for need in read.chain(decl.after.iter().map(String::as_str)) {
            assert!(last.get(need) <= Some(at), "seed {seed}: {} began before {need}: {ran:?}", decl.name);
        }
    }
}

fn try_one(seed: u64) {
    let mut dice = Rng(seed);
    let mut plan = Plan::random(&mut dice);
    let spaces = [Space::new(), Space::new()];
    let begin = |space: &Space, plan: &Plan| {
        for n in 0..4 {
            space.write(&format!("in/{n}.txt"), format!("{n}\n"));
        }
        space.write("pipeline.toml", plan.toml());
    };
    for space in &spaces {
        begin(space, &plan);
    }
    let mut what = String::from("nothing yet");
    for _ in 0..2 + dice.below(6) {
        let [with, without] = spaces.each_ref();
        let told = format!("seed {seed}, after {what}");
        with.run(&["build"]).exits(0);
        without_caches(without);
        without.run(&["build"]).exits(0);
        let (first, second) = (ran(with), ran(without));
        assert_in_order(&plan, &first, seed);
        assert_eq!(sorted(first), sorted(second), "{told}: ran with and without caches");
        // Now and then at once, while files are still too young to be believed.
        if dice.chance(70) {
            std::thread::sleep(Duration::from_millis(70));
        }
        with.run(&["build", "-q"]).exits(0);
        with.run(&["build"]).exits(0);
        assert_eq!(ran(with), Vec::<String>::new(), "{told}: ran though nothing changed");
        let scratch = Space::new();
        begin(&scratch, &plan);
        for n in 0..4 {
            scratch.write(&format!("in/{n}.txt"), with.bytes(&format!("in/{n}.txt")));
        }
        scratch.run(&["build"]).exits(0);
        let made = outputs(with);
        assert_eq!(made, outputs(without), "{told}: made with and without caches");
        for (path, wanted) in outputs(&scratch) {
            assert_eq!(made.get(&path), Some(&wanted), "{told}: {path} beside one from scratch");
        }
        let (named, change) = plan.change(&mut dice);
        spaces.iter().for_each(change);
        what = named;
    }
}

#[test]
fn changes_lead_where_a_build_from_scratch_does() {
    let seeds = std::env::var("PLANEXE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        try_one(seed);
    }
}
