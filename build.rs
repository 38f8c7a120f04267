//! Lists the pipeline that comes with the program: everything `planexe new` copies into a run.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script reads and writes files and is told where by cargo"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Files, and folders taken whole.
const BUNDLED: [&str; 11] = [
    "examples/personal-plan/answers.json",
    "examples/personal-plan/evidence",
    "examples/personal-plan/plan.txt",
    "examples/strategic-plan/answers.json",
    "examples/strategic-plan/evidence",
    "examples/strategic-plan/plan.txt",
    "legacy_names.toml",
    "pipeline.toml",
    "prompts",
    "schemas",
    "templates",
];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = Vec::new();
    for path in BUNDLED {
        println!("cargo::rerun-if-changed={path}");
        collect(&root, Path::new(path), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for path in files {
        let _ = writeln!(list, "    ({path:?}, include_str!({:?})),", root.join(&path));
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("bundle.rs"), list)
}

fn collect(root: &Path, path: &Path, files: &mut Vec<String>) -> io::Result<()> {
    if !root.join(path).is_dir() {
        files.push(path.to_string_lossy().into_owned());
        return Ok(());
    }
    for entry in fs::read_dir(root.join(path))? {
        collect(root, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}
