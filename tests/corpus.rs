//! The fuzz targets over their kept corpus (`fuzz/corpus/`), and over seeded changes of it. What a fuzzer found once stays
//! found: its input is kept there. `PLANEXE_CHANGES=N` tries N times as many changes.

#![allow(clippy::disallowed_methods, reason = "a test reads its own files")]
#![allow(dead_code, reason = "not all of the support is used here")]

#[path = "support/random.rs"]
mod random;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

use random::Rng;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the corpus").flatten().map(|f| f.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files.iter().map(|file| std::fs::read(file).expect("a file of it")).collect()
}

/// Some bytes of one, changed, dropped, doubled, or taken from another.
fn changed(rng: &mut Rng, all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = all[rng.below(all.len() as u64) as usize].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + rng.below(12) as usize).min(bytes.len());
        match rng.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            2 => bytes.insert(at, rng.next() as u8),
            3 => bytes.insert(at, b"[]{}\"'=.,:\n\\0-"[rng.below(14) as usize]),
            _ => {
                let other = &all[rng.below(all.len() as u64) as usize];
                let from = rng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

fn run(name: &str, changes: u64, target: fn(&[u8])) {
    let all = corpus(name);
    all.iter().for_each(|bytes| target(bytes));
    let mut rng = Rng(1);
    let times = std::env::var("PLANEXE_CHANGES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    for _ in 0..changes * times {
        target(&changed(&mut rng, &all));
    }
}

#[test]
fn answers() {
    let whole = corpus("answers").iter().filter(|bytes| targets::answers(bytes)).count();
    assert!(whole >= 5, "{whole} answers of the corpus are whole");
    run("answers", 300, |bytes| {
        let _ = targets::answers(bytes);
    });
}

#[test]
fn manifest() {
    run("manifest", 500, targets::manifest);
}

#[test]
fn sidecars() {
    run("sidecars", 3000, targets::sidecars);
}

#[test]
fn mcp() {
    run("mcp", 3000, targets::mcp);
}

#[test]
fn sse() {
    run("sse", 150, targets::sse);
}

#[test]
fn index() {
    let read = corpus("index").iter().filter(|bytes| targets::index(bytes)).count();
    assert!(read >= 1, "no index of the corpus can be read");
    run("index", 3000, |bytes| {
        let _ = targets::index(bytes);
    });
}

/// Each of them is a target of cargo-fuzz too: nothing else builds those files.
#[test]
fn each_has_a_target_of_its_own() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("a manifest");
    for folder in std::fs::read_dir(fuzz.join("corpus")).expect("the corpus").flatten() {
        let name = folder.file_name().into_string().expect("a name");
        let target = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("a target");
        assert!(target.contains("fuzz_target!") && target.contains(&format!("targets::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
