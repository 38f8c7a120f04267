//! Random pipelines, the same for the same seed everywhere.

use planexe_engine::graph::{Decl, ForeachDecl, Input};

/// A small generator of its own: the same seed gives the same run everywhere.
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn input(pattern: String) -> Input {
    Input { name: pattern.clone(), glob: pattern.contains('*'), pattern, optional: false }
}

/// A random acyclic pipeline: single tasks, groups, fan-outs, chains over the same items.
pub fn random_decls(rng: &mut Rng) -> Vec<Decl> {
    let count = 2 + rng.below(24) as usize;
    let mut decls: Vec<Decl> = Vec::new();
    for n in 0..count {
        let mut decl = Decl { name: format!("t{n}"), recipe: true, ..Decl::default() };
        let mut foreach = None;
        for _ in 0..rng.below(4) {
            let Some(of) = (!decls.is_empty()).then(|| rng.below(decls.len() as u64) as usize) else {
                continue;
            };
            let other = &decls[of];
            match &other.foreach {
                Some(over) if rng.chance(50) && foreach.is_none() => {
                    foreach = Some(over.clone());
                    decl.inputs.push(input(format!("{}/{{{{ key }}}}.json", other.name)));
                }
                Some(_) => decl.inputs.push(input(format!("{}/*.json", other.name))),
                None if !other.recipe => decl.after.push(other.name.clone()),
                None if rng.chance(20) => decl.after.push(other.name.clone()),
                None => decl.inputs.push(input(format!("{}.json", other.name))),
            }
        }
        if foreach.is_none() && rng.chance(25) {
            let sources: Vec<&Decl> = decls.iter().filter(|d| d.recipe && d.foreach.is_none()).collect();
            if !sources.is_empty() {
                let source = sources[rng.below(sources.len() as u64) as usize];
                let source = format!("{}.json", source.name);
                foreach = Some(ForeachDecl { source, glob: false, rest: String::new() });
            }
        }
        if let Some(over) = foreach {
            decl.outputs.push(format!("{}/{{{{ key }}}}.json", decl.name));
            decl.foreach = Some(over);
            decl.sequential = rng.chance(20);
        } else if rng.chance(8) {
            // One that reads nothing that is made is settled as soon as it is wanted.
            decl.recipe = false;
        } else {
            decl.outputs.push(format!("{}.json", decl.name));
        }
        decls.push(decl);
    }
    decls
}
