//! What several tests of the engine begin with.

use planexe_engine::graph::{Decl, Input};

/// A task that writes `NAME.txt` and reads those of others.
pub fn decl(name: &str, reads: &[&str]) -> Decl {
    let input = |name: &&str| Input {
        name: (*name).into(),
        pattern: format!("{name}.txt"),
        glob: false,
        optional: false,
    };
    Decl {
        name: name.into(),
        recipe: true,
        inputs: reads.iter().map(input).collect(),
        outputs: vec![format!("{name}.txt")],
        ..Decl::default()
    }
}
