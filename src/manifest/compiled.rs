//! The compiled manifest: what a pipeline says, read and found without a fault before, so that it need not
//! be parsed and checked again. A cache under `.planexe/` that may be deleted at any time.
//!
//! It is kept by the contents of all files the pipeline was read from, found anew by what they include, and by
//! what was chosen on the command line. Anything that does not fit, down to a single bit, makes it none, and
//! the files are read as ever.
//!
//! With an [`Outline`] it can be read in part: a build that knows most tasks to be up to date reads the others
//! alone.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::place::SourceFile;
use super::read::{Manifest, ReadOptions, replay};
use super::types::{Tables, Task};
use crate::cores;
use crate::record::Digest;

/// Layout of the file, and the version that wrote it: another one is none.
const MAGIC: &str = concat!("planexe manifest 8 of ", env!("CARGO_PKG_VERSION"), "\n");
/// Bytes of the checksum that follows, over all the rest.
const SUM: usize = 32;

/// A file of a pipeline, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Digest of its text.
    pub blake3: Digest,
    /// What it includes: paths and globs.
    pub include: Vec<String>,
}

impl Written {
    /// What is kept of a file.
    pub fn of(source: &SourceFile) -> Written {
        Written { blake3: Digest::of(source.text.as_bytes()), include: source.include.clone() }
    }
}

/// What is to be known of tasks that are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The tasks, in the order of the pipeline.
    pub tasks: Vec<Outlined>,
    /// The page a bare build shows at its end.
    pub page: Option<String>,
}

/// A task of an [`Outline`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlined {
    /// Its position in the topological order.
    pub step: u32,
    /// Whether a bare build makes it.
    pub wanted: bool,
    /// Whether it has no recipe.
    pub group: bool,
    /// Positions of the tasks it waits for.
    pub needs: Vec<u32>,
}

/// Everything but the tasks.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Of what was chosen on the command line.
    options: Digest,
    files: Vec<Written>,
    page: Option<String>,
    tables: Value,
}

/// Of each task: step, [`WANTED`] and [`GROUP`], the ends of its needs, its name and its line.
const NUMBERS: usize = 5;
const WANTED: u32 = 1;
const GROUP: u32 = 2;

fn digest_of(options: &ReadOptions) -> Digest {
    Digest::of(format!("{options:?}").as_bytes())
}

/// The bytes of a compiled manifest; none if it does not come out as it went in. `files`: all it was read from.
///
/// After magic and checksum: the head, as JSON; `NUMBERS` of each task, the needs of all and the names of all,
/// if there is an outline; a line of JSON for each task. Each of the four has its length before it; numbers
/// are `u32`, least byte first.
pub fn encode(
    tables: &Tables,
    files: &[Written],
    options: &ReadOptions,
    outline: Option<&Outline>,
) -> Option<Vec<u8>> {
    let mut rest = serde_json::to_value(tables).ok()?;
    let Value::Object(tasks) = rest.as_object_mut()?.insert("task".into(), Map::new().into())? else {
        return None;
    };
    let unset = serde_json::to_value(Task::default()).ok()?;
    let (mut numbers, mut needs, mut names, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (n, (name, mut task)) in tasks.into_iter().enumerate() {
        leave_out(task.as_object_mut()?, unset.as_object()?);
        serde_json::to_writer(&mut lines, &(&name, task)).ok()?;
        lines.push(b'\n');
        let Some(outline) = outline else { continue };
        let task = outline.tasks.get(n)?;
        names.extend(name.as_bytes());
        task.needs.iter().for_each(|need| needs.extend(need.to_le_bytes()));
        let flags = if task.wanted { WANTED } else { 0 } | if task.group { GROUP } else { 0 };
        let ends = [needs.len() / 4, names.len(), lines.len()].map(|end| end as u32);
        [task.step, flags].iter().chain(&ends).for_each(|number| numbers.extend(number.to_le_bytes()));
    }
    let head = Head {
        options: digest_of(options),
        files: files.to_vec(),
        page: outline.and_then(|outline| outline.page.clone()),
        tables: rest,
    };
    let mut bytes = MAGIC.as_bytes().to_vec();
    bytes.extend([0; SUM]);
    for part in [serde_json::to_vec(&head).ok()?, numbers, needs, names] {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes.extend(lines);
    let sealed = MAGIC.len() + SUM;
    let sum = blake3::hash(&bytes[sealed..]);
    bytes[MAGIC.len()..sealed].copy_from_slice(sum.as_bytes());
    // What does not come out as it went in is not kept.
    let (parts, head) = parts(&bytes)?;
    (read_tables(head.tables, parts.lines.split(|&byte| byte == b'\n'))? == *tables).then_some(bytes)
}

/// Most keys of most tasks are unset.
fn leave_out(task: &mut Map<String, Value>, unset: &Map<String, Value>) {
    task.retain(|key, value| unset.get(key) != Some(value));
}

/// The pieces of the file, in place.
struct Parts<'a> {
    numbers: &'a [u8],
    needs: &'a [u8],
    names: &'a [u8],
    lines: &'a [u8],
}

fn parts(bytes: &[u8]) -> Option<(Parts<'_>, Head)> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (sum, mut rest) = rest.split_at_checked(SUM)?;
    if blake3::hash(rest).as_bytes() != sum {
        return None;
    }
    let mut next = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(part)
    };
    let head = serde_json::from_slice(next()?).ok()?;
    let (numbers, needs, names) = (next()?, next()?, next()?);
    Some((Parts { numbers, needs, names, lines: rest }, head))
}

fn read_tables<'a>(rest: Value, lines: impl Iterator<Item = &'a [u8]>) -> Option<Tables> {
    let mut tables: Tables = serde_json::from_value(rest).ok()?;
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    let tasks = cores::map(&lines, |line| serde_json::from_slice::<(String, Box<Task>)>(line).ok());
    tables.task.reserve_exact(tasks.len());
    for task in tasks {
        let (name, task) = task?;
        tables.task.insert(name, task);
    }
    Some(tables)
}

/// A compiled manifest that fits its files as they are now.
pub struct Compiled<'a> {
    file: &'a Path,
    sources: Vec<SourceFile>,
    head: Head,
    parts: Parts<'a>,
}

impl<'a> Compiled<'a> {
    /// The manifest in `file`, if `bytes` hold it compiled.
    pub fn read(bytes: &'a [u8], file: &'a Path, options: &ReadOptions) -> Option<Compiled<'a>> {
        let (parts, head) = parts(bytes)?;
        if head.options != digest_of(options) {
            return None;
        }
        let sources = replay(file, options, &head.files)?;
        Some(Compiled { file, sources, head, parts })
    }

    /// All of it.
    pub fn whole(&self) -> Option<Manifest> {
        self.manifest(self.parts.lines.split(|&byte| byte == b'\n'))
    }

    /// Some of its tasks, as if no others were in it.
    pub fn part(&self, chosen: &[bool]) -> Option<Manifest> {
        let tasks = chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
        let lines = tasks.filter_map(|(n, _)| self.span(n, 4).and_then(|span| self.parts.lines.get(span)));
        let mut manifest = self.manifest(lines)?;
        let tasks = &mut manifest.tables.task;
        let names: HashSet<String> = tasks.keys().cloned().collect();
        tasks.values_mut().for_each(|task| task.after.retain(|name| names.contains(name)));
        Some(manifest)
    }

    fn manifest<'l>(&self, lines: impl Iterator<Item = &'l [u8]>) -> Option<Manifest> {
        let tables = read_tables(self.head.tables.clone(), lines)?;
        Some(Manifest::without_places(self.file, self.sources.clone(), tables))
    }

    /// How many tasks can be read by themselves: all, or none if it has no outline.
    pub fn outlined(&self) -> usize {
        self.parts.numbers.len() / (4 * NUMBERS)
    }

    /// A number of a task.
    fn number(&self, task: usize, at: usize) -> Option<u32> {
        let four = self.parts.numbers.get(4 * (NUMBERS * task + at)..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*four))
    }

    /// What lies between the end of the former task's and that of a task's own.
    fn span(&self, task: usize, at: usize) -> Option<std::ops::Range<usize>> {
        let start = if task == 0 { 0 } else { self.number(task - 1, at)? };
        Some(start as usize..self.number(task, at)? as usize)
    }

    /// The name of a task.
    pub fn name(&self, task: usize) -> Option<&str> {
        std::str::from_utf8(self.parts.names.get(self.span(task, 3)?)?).ok()
    }

    /// The position of a task in the topological order.
    pub fn step(&self, task: usize) -> Option<u32> {
        self.number(task, 0)
    }

    /// Whether a bare build makes a task, and whether that is a group.
    pub fn kind(&self, task: usize) -> Option<(bool, bool)> {
        let flags = self.number(task, 1)?;
        Some((flags & WANTED != 0, flags & GROUP != 0))
    }

    /// The positions of the tasks a task waits for.
    pub fn needs(&self, task: usize) -> Option<impl Iterator<Item = usize> + use<'a>> {
        let span = self.span(task, 2)?;
        let bytes = self.parts.needs.get(4 * span.start..4 * span.end)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four) as usize))
    }

    /// The page a bare build shows at its end.
    pub fn page(&self) -> Option<&str> {
        self.head.page.as_deref()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
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

    fn written(manifest: &Manifest) -> Vec<Written> {
        manifest.sources().map(Written::of).collect()
    }

    fn whole(bytes: &[u8], file: &Path, options: &ReadOptions) -> Option<Manifest> {
        Compiled::read(bytes, file, options)?.whole()
    }

    #[test]
    fn it_says_what_the_file_says() {
        let (_dir, manifest) = read(TEXT);
        let options = ReadOptions::default();
        let bytes = encode(&manifest.tables, &written(&manifest), &options, None).unwrap();
        let compiled = whole(&bytes, &manifest.file, &options).unwrap();
        assert_eq!(compiled.tables, manifest.tables);
        assert_eq!((&compiled.file, &compiled.folder), (&manifest.file, &manifest.folder));
        assert!(compiled.sources().map(|file| &file.text).eq(manifest.sources().map(|file| &file.text)));
        // The order of tasks decides between equals.
        assert!(compiled.tables.task.keys().eq(manifest.tables.task.keys()));
    }

    #[test]
    fn part_of_it_can_be_read() {
        let (_dir, manifest) = read(TEXT);
        let outlined = |step: u32, needs: &[u32]| Outlined {
            step,
            wanted: step != 1,
            group: step == 2,
            needs: needs.to_vec(),
        };
        let tasks = vec![outlined(0, &[]), outlined(2, &[0, 3]), outlined(3, &[1]), outlined(1, &[])];
        let outline = Outline { tasks: tasks.clone(), page: Some("x.html".into()) };
        let options = ReadOptions::default();
        let bytes = encode(&manifest.tables, &written(&manifest), &options, Some(&outline)).unwrap();
        let compiled = Compiled::read(&bytes, &manifest.file, &options).unwrap();
        assert_eq!((compiled.outlined(), compiled.page()), (4, Some("x.html")));
        for (n, (name, task)) in manifest.tables.task.keys().zip(tasks).enumerate() {
            assert_eq!(compiled.name(n), Some(name.as_str()));
            assert_eq!(compiled.step(n), Some(task.step));
            assert_eq!(compiled.kind(n), Some((task.wanted, task.group)));
            assert!(compiled.needs(n).unwrap().eq(task.needs.iter().map(|&need| need as usize)));
        }
        assert_eq!((compiled.name(4), compiled.step(4)), (None, None));
        let part = compiled.part(&[false, true, false, true]).unwrap().tables;
        assert_eq!(part.task.keys().collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(part.task["b"], manifest.tables.task["b"]);
        assert_eq!(Tables { task: manifest.tables.task.clone(), ..part }, manifest.tables);
        assert_eq!(compiled.whole().unwrap().tables, manifest.tables);
        // An outline of other tasks is not kept.
        let fewer = Outline { tasks: outline.tasks[1..].to_vec(), page: None };
        assert!(encode(&manifest.tables, &written(&manifest), &options, Some(&fewer)).is_none());
    }

    #[test]
    fn another_text_other_options_or_any_damage_make_it_none() {
        let (_dir, manifest) = read(TEXT);
        let options = ReadOptions::default();
        let bytes = encode(&manifest.tables, &written(&manifest), &options, None).unwrap();
        let other = ReadOptions { profile: Some("p".into()), ..ReadOptions::default() };
        assert!(whole(&bytes, &manifest.file, &other).is_none());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert!(whole(&bytes, &manifest.file, &options).is_none(), "changed at {at}");
            assert!(whole(&bytes[..at], &manifest.file, &options).is_none(), "cut at {at}");
        }
        let text = TEXT.replace("echo $key", "echo  $key");
        crate::fs::write_atomic(&manifest.file, text.as_bytes(), crate::fs::Durability::Unsynced).unwrap();
        assert!(whole(&bytes, &manifest.file, &options).is_none());
    }

    #[test]
    fn it_is_of_all_files_that_are_included() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            crate::fs::make_dirs(path.parent().unwrap(), crate::fs::Durability::Unsynced).unwrap();
            crate::fs::write_atomic(&path, text.as_bytes(), crate::fs::Durability::Unsynced).unwrap();
        };
        let task =
            |name: &str| format!("[task.{name}]\noutputs = [\"{name}.txt\"]\ncommand = \"x > $out\"\n");
        let including = "[pipeline]\ninclude = [\"stages/*.toml\", \"last.toml\"]\n";
        write("pipeline.toml", &format!("{including}{}", task("a")));
        write("stages/b.toml", &format!("[pipeline]\ninclude = [\"more/c.toml\"]\n{}", task("b")));
        write("stages/more/c.toml", &task("c"));
        write("last.toml", &task("d"));
        let (file, options) = (dir.path().join("pipeline.toml"), ReadOptions::default());
        let manifest = Manifest::read(&file, &options).unwrap();
        assert_eq!(manifest.tables.task.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let bytes = encode(&manifest.tables, &written(&manifest), &options, None).unwrap();
        let fits = || whole(&bytes, &file, &options).is_some_and(|m| m.tables == manifest.tables);
        assert!(fits());
        write("stages/more/c.toml", &task("e"));
        assert!(!fits(), "an included file is another");
        write("stages/more/c.toml", &task("c"));
        assert!(fits());
        write("stages/a.toml", &task("e"));
        assert!(!fits(), "one more is included");
        crate::fs::remove(&dir.path().join("stages/a.toml")).unwrap();
        assert!(fits());
        crate::fs::remove(&dir.path().join("last.toml")).unwrap();
        assert!(!fits(), "one is gone");
        let outside = tempfile::tempdir().unwrap();
        let other = outside.path().join("last.toml");
        crate::fs::write_atomic(&other, task("d").as_bytes(), crate::fs::Durability::Unsynced).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("last.toml")).unwrap();
        assert!(!fits(), "one is outside by now");
    }
}
