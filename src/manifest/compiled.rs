//! The compiled manifest: what a pipeline says, read and found without a fault before, so that it need not
//! be parsed and checked again. A cache under `.planexe/` that may be deleted at any time.
//!
//! It is kept for a pipeline of a single file, by the digest of that file's text and by what was chosen on
//! the command line. Anything that does not fit, down to a single bit, makes it none, and the file is read
//! as ever.

use std::path::Path;

use serde_json::{Map, Value};

use super::read::{Manifest, ReadOptions, read_file};
use super::types::{Tables, Task};
use crate::cores;
use crate::record::Digest;

/// Layout of the file, and the version that wrote it: another one is none.
const MAGIC: &str = concat!("planexe manifest 2 of ", env!("CARGO_PKG_VERSION"), "\n");

/// The digest of a pipeline's text and of what was chosen.
fn key(text: &str, options: &ReadOptions) -> Digest {
    Digest::of(format!("{}{options:?}", Digest::of(text.as_bytes()).0).as_bytes())
}

/// The bytes of a compiled manifest; none for a pipeline it is not kept for. `text` is that of its only file.
pub fn encode(tables: &Tables, text: &str, options: &ReadOptions) -> Option<Vec<u8>> {
    if !tables.pipeline.include.is_empty() {
        return None;
    }
    let mut rest = serde_json::to_value(tables).ok()?;
    let Value::Object(tasks) = rest.as_object_mut()?.insert("task".into(), Map::new().into())? else {
        return None;
    };
    let unset = serde_json::to_value(Task::default()).ok()?;
    // A line for all but the tasks, then one for each: they can be read apart.
    let mut body = serde_json::to_vec(&rest).ok()?;
    for (name, mut task) in tasks {
        leave_out(task.as_object_mut()?, unset.as_object()?);
        body.push(b'\n');
        serde_json::to_writer(&mut body, &(name, task)).ok()?;
    }
    // What does not come out as it went in is not kept.
    if read_body(&body)? != *tables {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    let key = key(text, options).0;
    hasher.update(key.as_bytes()).update(&body);
    let mut bytes = MAGIC.as_bytes().to_vec();
    bytes.extend(key.as_bytes());
    bytes.extend(hasher.finalize().as_bytes());
    bytes.extend(body);
    Some(bytes)
}

/// Most keys of most tasks are unset.
fn leave_out(task: &mut Map<String, Value>, unset: &Map<String, Value>) {
    task.retain(|key, value| unset.get(key) != Some(value));
}

fn read_body(body: &[u8]) -> Option<Tables> {
    let mut lines = body.split(|&byte| byte == b'\n');
    let mut tables: Tables = serde_json::from_slice(lines.next()?).ok()?;
    let lines: Vec<&[u8]> = lines.collect();
    let tasks = cores::map(&lines, |line| serde_json::from_slice::<(String, Task)>(line).ok());
    tables.task = tasks.into_iter().collect::<Option<_>>()?;
    Some(tables)
}

/// The manifest in `file`, if `bytes` hold it compiled.
pub fn decode(bytes: &[u8], file: &Path, options: &ReadOptions) -> Option<Manifest> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (kept, rest) = rest.split_at_checked(64)?;
    let (sum, body) = rest.split_at_checked(32)?;
    let text = read_file(file).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(kept).update(body);
    if key(&text, options).0.as_bytes() != kept || hasher.finalize().as_bytes() != sum {
        return None;
    }
    let tables = read_body(body)?;
    Some(Manifest::without_places(file, text, tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[pipeline]
name = "x"
version = "2"

[vars]
audience = "investors"
list = []
share = 0.1

[models.m]
api = "simulated"
timeouts = { connect = "5s" }
price = { input = 0.3, output = 1.5 }

[defaults]
model = "m"
timeout = "60m"

[timeouts]
default = "1h"

[task.a]
inputs = ["in.txt"]
outputs = ["a.txt"]
command = ["cp", "$in", "$out"]
env = { A = "b" }

[task.b]
inputs = { a = "a.txt", all = "*.txt" }
outputs = ["b.json", { path = "b.md", template = "x {{ answer }}" }]
prompt = "Say {{ a }}"
params = { temperature = 0.2, stop = [] }
check = { min_items = { "/x" = 3 } }
optional = ["all"]

[task.c]
foreach = { file = "b.json", items = "/x", key = "name" }
outputs = ["c/{{ key }}.txt"]
command = "echo $key > $out"
min_success = 0.75
retry = { max_attempts = 3 }

[task.d]
outputs = ["d.json"]
gate = { fail_if = "{{ vars.list }}", action = "warn" }
"#;

    fn read(text: &str) -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pipeline.toml");
        crate::fs::write_atomic(&file, text.as_bytes(), crate::fs::Durability::Unsynced).unwrap();
        let (manifest, faults) = Manifest::read_all(&file, &ReadOptions::default()).unwrap();
        assert!(faults.is_empty(), "{}", manifest.faults(faults).render(false, 100));
        (dir, manifest)
    }

    #[test]
    fn it_says_what_the_file_says() {
        let (_dir, manifest) = read(TEXT);
        let options = ReadOptions::default();
        let bytes = encode(&manifest.tables, TEXT, &options).unwrap();
        let compiled = decode(&bytes, &manifest.file, &options).unwrap();
        assert_eq!(compiled.tables, manifest.tables);
        assert_eq!((&compiled.file, &compiled.folder), (&manifest.file, &manifest.folder));
        assert_eq!(compiled.sources()[0].text, manifest.sources()[0].text);
        // The order of tasks decides between equals.
        assert!(compiled.tables.task.keys().eq(manifest.tables.task.keys()));
    }

    #[test]
    fn another_text_other_options_or_any_damage_make_it_none() {
        let (_dir, manifest) = read(TEXT);
        let options = ReadOptions::default();
        let bytes = encode(&manifest.tables, TEXT, &options).unwrap();
        let other = ReadOptions { profile: Some("p".into()), ..ReadOptions::default() };
        assert!(decode(&bytes, &manifest.file, &other).is_none());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert!(decode(&bytes, &manifest.file, &options).is_none(), "changed at {at}");
            assert!(decode(&bytes[..at], &manifest.file, &options).is_none(), "cut at {at}");
        }
        let text = TEXT.replace("echo $key", "echo  $key");
        crate::fs::write_atomic(&manifest.file, text.as_bytes(), crate::fs::Durability::Unsynced).unwrap();
        assert!(decode(&bytes, &manifest.file, &options).is_none());
        let including = Tables {
            pipeline: crate::manifest::types::Pipeline {
                include: vec!["a.toml".into()],
                ..Default::default()
            },
            ..manifest.tables.clone()
        };
        assert!(encode(&including, TEXT, &options).is_none());
    }
}
