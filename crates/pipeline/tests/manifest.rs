//! Broken manifests and how their faults are shown; and that no bytes make the reader panic.
//!
//! `tests/faults/NAME.toml` is read and its faults compared with `NAME.txt`; a first line
//! `# options: --profile X -D a=b` sets options. `UPDATE_SNAPSHOTS=1 cargo test` rewrites the texts.

#![expect(clippy::disallowed_methods, reason = "a test makes its own files")]

use std::fs;
use std::path::{Path, PathBuf};

use planexe_pipeline::key_path;
use planexe_pipeline::manifest::{Manifest, ReadOptions, json_schema};
use planexe_pipeline::texts::Texts;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults")
}

fn updating() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

fn options_of(text: &str) -> ReadOptions {
    let mut options = ReadOptions::default();
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix("# options:")) else {
        return options;
    };
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        let value = words.next().expect("an option's value");
        match word {
            "--profile" => options.profile = Some(value.to_owned()),
            "-D" => {
                let (name, value) = value.split_once('=').expect("name=value");
                options.defines.push((name.to_owned(), value.to_owned()));
            }
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// Every fault of a manifest, rendered; empty if there is none.
fn faults_of(file: &Path, text: &[u8]) -> String {
    let options = options_of(&String::from_utf8_lossy(text));
    match Manifest::read_all(file, &options) {
        Err(faults) => faults.render(false, 100),
        Ok((manifest, mut faults)) => {
            let (_, more) = Texts::load(&manifest, &[]);
            faults.extend(manifest.further(more));
            match manifest.or_faults(faults) {
                Ok(_) => String::new(),
                Err(faults) => {
                    let json = faults.to_json();
                    assert_eq!(json.as_array().map(Vec::len), Some(faults.list.len()));
                    faults.render(false, 100)
                }
            }
        }
    }
}

#[test]
fn faults_are_shown_as_written_down() {
    let folder = here();
    let mut names: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    for file in &names {
        let found = faults_of(file, &fs::read(file).unwrap());
        let found = found.replace(&format!("{}/", folder.display()), "").replace("tests/faults/", "");
        let wanted_file = file.with_extension("txt");
        if updating() {
            fs::write(&wanted_file, &found).unwrap();
            continue;
        }
        let wanted = fs::read_to_string(&wanted_file).unwrap_or_default();
        if found != wanted {
            wrong.push(format!("--- {}\nwanted:\n{wanted}\nfound:\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(updating() || names.len() >= 30, "only {} broken manifests", names.len());
}

#[test]
fn the_example_of_the_manual_is_whole() {
    let file = here().join("good/pipeline.toml");
    assert_eq!(faults_of(&file, &fs::read(&file).unwrap()), "");
    let options = ReadOptions {
        profile: Some("test".to_owned()),
        defines: vec![("audience".to_owned(), "the board".to_owned())],
        ..ReadOptions::default()
    };
    let manifest = Manifest::read(&file, &options).unwrap();
    let local = &manifest.tables.models["local"];
    assert_eq!((local.seed, local.base_url.as_ref(), local.max_concurrent), (Some(3), None, Some(1)));
    assert_eq!(manifest.tables.vars["audience"], "the board");
}

#[test]
fn tables_are_the_same_after_json_and_under_the_schema() {
    let file = here().join("good/pipeline.toml");
    let tables = Manifest::read(&file, &ReadOptions::default()).unwrap().tables;
    let json = serde_json::to_string(&tables).unwrap();
    let again: planexe_pipeline::manifest::Tables = serde_json::from_str(&json).unwrap();
    // Which keys the text names, profiles and all, is no table.
    let keys_as_written = tables.keys_as_written.clone();
    assert_eq!(planexe_pipeline::manifest::Tables { keys_as_written, ..again }, tables);
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good: toml::Value = toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&serde_json::to_value(good).unwrap()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for bad in
        ["[task.a]\npromt = 1", "[task.a]\ninputs = 3", "[models.a]\napi = \"x\"", "[task.a]\noutputs = [{}]"]
    {
        let bad: toml::Value = toml::from_str(bad).unwrap();
        assert!(!validator.is_valid(&serde_json::to_value(bad).unwrap()));
    }
}

#[test]
fn places_and_outside_files() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("p.md"), "say hello").unwrap();
    std::os::unix::fs::symlink(outside.path().join("p.md"), folder.path().join("p.md")).unwrap();
    let file = folder.path().join("pipeline.toml");
    fs::write(
        &file,
        "[defaults]\nmodel = \"m\"\n[models.m]\napi = \"simulated\"\n[task.a]\nprompt = \"p.md\"\noutputs = [\"a\", { path = \"b\", template = \"x y\" }]\n",
    )
    .unwrap();
    let manifest = Manifest::read(&file, &ReadOptions::default()).unwrap();
    let location = manifest.location(&key_path!["task", "a", "outputs", 1usize, "path"]).unwrap();
    assert!(location.ends_with("pipeline.toml:7:19"), "{location}");
    assert_eq!(manifest.sources().count(), 1);
    let (_, faults) = Texts::load(&manifest, &[]);
    let shown = manifest.faults(faults).render(false, 200);
    assert!(
        shown.contains("is outside the pipeline's folder") && shown.contains("--allow-outside"),
        "{shown}"
    );
    let (texts, faults) = Texts::load(&manifest, &[outside.path().to_owned()]);
    assert!(faults.is_empty());
    assert_eq!(&*texts.source("p.md").unwrap().text, "say hello");
    assert_eq!(texts.files().count(), 1);
}

/// A file that is no TOML has a fault on each of its lines, and each was once looked up from the start of the file.
#[test]
fn faults_on_every_line_are_told_at_once() {
    let lines: String = (0..50_000).map(|n| format!("key{n} = yes\n")).collect();
    let faults =
        Manifest::from_text(Path::new("many.toml"), lines, &ReadOptions::default()).expect_err("faults");
    let told = faults.render(false, 100);
    assert_eq!(told.matches("is not a value").count(), 5, "{told}");
}

#[test]
fn no_bytes_make_it_panic() {
    let file = here().join("good/pipeline.toml");
    let good = fs::read_to_string(&file).unwrap();
    let read = |text: String| match Manifest::from_text(&file, text, &ReadOptions::default()) {
        Err(faults) => faults.render(false, 100).len(),
        Ok((manifest, faults)) => manifest.faults(faults).render(false, 80).len(),
    };
    // Cut at every byte: as text, since that is what is left after decoding.
    let step = if cfg!(debug_assertions) { 3 } else { 1 };
    for end in (0..good.len()).step_by(step) {
        if good.is_char_boundary(end) {
            read(good[..end].to_owned());
        }
    }
    // Bytes changed, by a fixed pattern.
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..1500 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..1 + next() % 4 {
            let at = (next() % bytes.len() as u64) as usize;
            match next() % 4 {
                0 => bytes[at] = b"[]{}\"'=.,#\n\0\x1b*$-"[(next() % 16) as usize],
                1 => {
                    bytes.remove(at);
                }
                2 => bytes.insert(at, b"[]{}\"'=.,#\n "[(next() % 12) as usize]),
                _ => bytes[at] ^= 1 << (next() % 8),
            }
        }
        if let Ok(text) = String::from_utf8(bytes) {
            read(text);
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    for (bytes, wanted) in [
        (b"[task.a]\n\xff\xfe".to_vec(), "is not UTF-8: byte 0xff in line 2"),
        (b"a = 1\0".to_vec(), "a NUL character"),
        (format!("a = {}", "[".repeat(100_000)).into_bytes(), "nested more than"),
        (format!("{} = 1", vec!["a"; 100_000].join(".")).into_bytes(), "nested more than"),
        (format!("[{}]", vec!["a"; 1000].join(".")).into_bytes(), "nested more than"),
    ] {
        fs::write(&file, bytes).unwrap();
        let faults = Manifest::read(&file, &ReadOptions::default()).unwrap_err().render(false, 100);
        assert!(faults.contains(wanted), "{faults}");
    }
    fs::write(&file, "\u{feff}[pipeline]\nname = \"x\"\n").unwrap();
    Manifest::read(&file, &ReadOptions::default()).unwrap();
    let missing = Manifest::read(&folder.path().join("none.toml"), &ReadOptions::default()).unwrap_err();
    assert!(missing.render(false, 100).contains("planexe new"), "{missing}");
    let is_folder = Manifest::read(folder.path(), &ReadOptions::default()).unwrap_err();
    assert!(is_folder.render(false, 100).contains("is a folder"), "{is_folder}");
}

#[test]
fn nothing_steers_the_terminal() {
    for text in [
        "[task.a]\nprompt = \"\u{9b}31m\u{202e}\"\n\"\\u001b[31mred\" = 1\n\"bad\u{200b}key\" = 1\n",
        "[task.a]\nprompt = x\u{9b}31m\u{202e}\nbad\u{200b}key = 1\n",
        "[task.a]\nprompt = \"\u{1b}]0;x\u{7}\"\n",
    ] {
        let shown = match Manifest::from_text(Path::new("p.toml"), text.to_owned(), &ReadOptions::default()) {
            Err(faults) => faults.render(false, 100),
            Ok((manifest, faults)) => manifest.faults(faults).render(false, 100),
        };
        assert!(!shown.is_empty());
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{200b}']), "{shown}");
    }
}

#[test]
fn the_schema_is_the_one_checked_in() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipeline.schema.json");
    if updating() {
        fs::write(&file, json_schema()).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == json_schema(),
        "pipeline.schema.json is not what the types give: run `UPDATE_SNAPSHOTS=1 cargo test -p planexe-pipeline --test manifest`"
    );
}
