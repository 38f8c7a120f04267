//! What a task's templates see: its inputs by name, `inputs`, `vars`, and the item of a fan-out.
//! Files are read once, and the digests recorded are those of the bytes read here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use minijinja::{ErrorKind, Value};
use serde::Serialize;

use crate::input_files::Files;
use crate::project::{Project, uses};
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_base::record::{Digest, Failure, InputRecord};
use planexe_engine::graph::Task;
use planexe_llm::attachment::{Attachment, Media};
use planexe_store::index::Index;

/// A file's content, where it was read, and its digest.
type ReadFile = (Option<Arc<[u8]>>, Digest);

pub use crate::texts::{KEPT_TASKS, SAMPLES};

/// The inputs of a task as read.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// By input, in order.
    pub files: Vec<Files>,
    /// The file that is the item, of a command in a fan-out over files.
    pub item: Option<String>,
    /// By path.
    read: BTreeMap<String, ReadFile>,
    /// Tasks before it that are done with an answer to another prompt; known if a template asks for them.
    pub samples: Vec<String>,
    /// Tasks before it that a person kept though what they were made from changed; known if a template asks for them.
    pub kept: Vec<KeptTask>,
}

/// A task that was kept though what it was made from changed, as a template sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptTask {
    /// `task` or `task[key]`.
    pub task: String,
    /// Figures and dates that the plan had then and has no more, where they are known.
    pub gone: Vec<String>,
}

/// Why inputs cannot be given to a task.
#[derive(Debug)]
pub enum InputError {
    /// A file is not there.
    Missing {
        /// Its path.
        path: String,
    },
    /// A file that should hold JSON, or text, does not.
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read.
    Fs(FsError),
}

impl InputError {
    /// As the failure of a task.
    pub fn into_failure(self) -> Failure {
        let message = match self {
            InputError::Missing { path } => format!("`{path}` is not there"),
            InputError::Malformed { path, why } => format!("`{path}` {why}"),
            InputError::Fs(error) => error.to_string(),
        };
        Failure {
            class: FailureClass::Input,
            message: message.into(),
            recoverable: true,
            ..Failure::default()
        }
    }
}

impl Inputs {
    /// Reads the files of a task's inputs; those that are absent and may be are left out.
    pub fn read(project: &Project, files: Vec<Files>) -> Result<Inputs, InputError> {
        Inputs::gather(project, files, |path| {
            let bytes = fs::linked::read_optional(&project.input(path))?;
            Ok(bytes.map(|bytes| {
                let digest = Digest::of(&bytes);
                (Some(bytes.into()), digest)
            }))
        })
    }

    /// The same for a command, which reads its inputs itself: their digests alone.
    pub fn hash(project: &Project, files: Vec<Files>, index: &Index) -> Result<Inputs, InputError> {
        Inputs::gather(project, files, |path| {
            Ok(index.digest_of_input(&project.input(path))?.map(|(digest, _)| (None, digest)))
        })
    }

    /// With the file that is the item: the command reads it, so that it is recorded like any input. What it holds is part
    /// of the item already.
    pub fn with_item(mut self, project: &Project, path: &str, index: &Index) -> Result<Inputs, InputError> {
        match index.digest(&project.input(path)).map_err(InputError::Fs)? {
            Some((digest, _)) => self.read.entry(path.to_owned()).or_insert((None, digest)),
            None => return Err(InputError::Missing { path: path.to_owned() }),
        };
        self.item = Some(path.to_owned());
        Ok(self)
    }

    fn gather(
        project: &Project,
        files: Vec<Files>,
        read: impl Fn(&str) -> Result<Option<(Option<Arc<[u8]>>, Digest)>, FsError>,
    ) -> Result<Inputs, InputError> {
        let mut inputs = Inputs { files, ..Inputs::default() };
        for input in &mut inputs.files {
            let mut present = Vec::with_capacity(input.paths.len());
            for path in std::mem::take(&mut input.paths) {
                if !inputs.read.contains_key(&path) {
                    match read(&path).map_err(InputError::Fs)? {
                        Some(found) => {
                            inputs.read.insert(path.clone(), found);
                        }
                        None if input.optional => continue,
                        // What a glob found and is gone since is none of its files; a link to nowhere is still there.
                        None if input.glob && matches!(fs::kind(&project.input(&path)), Ok(None)) => continue,
                        None => return Err(InputError::Missing { path }),
                    }
                }
                present.push(path);
            }
            input.paths = present;
        }
        Ok(inputs)
    }

    /// Path and digest of every file, sorted by path.
    pub fn records(&self) -> Vec<InputRecord> {
        self.read
            .iter()
            .map(|(path, (_, digest))| InputRecord { path: path.clone(), blake3: digest.clone() })
            .collect()
    }

    /// The inputs with what tells them apart: their names, or the paths of those that have the same name.
    pub fn labelled(&self) -> Vec<(&Files, &str)> {
        let mut named: HashMap<&str, u32> = HashMap::new();
        for input in &self.files {
            *named.entry(&input.name).or_default() += 1;
        }
        let files = self.files.iter().filter(|input| !input.is_attached());
        files
            .map(|input| match named[input.name.as_str()] {
                1 => (input, input.name.as_str()),
                _ => (input, input.pattern.as_str()),
            })
            .collect()
    }

    /// The images and PDFs that go with the prompt, each once, in the order of `files`.
    pub fn attachments(&self, project: &Project) -> Result<Vec<Attachment>, InputError> {
        let mut seen = BTreeSet::new();
        let attached = || self.files.iter().filter(|input| input.is_attached());
        if let Some(without) = attached().find(|input| input.paths.is_empty() && !input.optional) {
            let path = without.pattern.clone();
            let why = "matches no file, and `files` sends what it matches with the prompt; if there may be none, list it in `optional`";
            return Err(InputError::Malformed { path, why: why.to_owned() });
        }
        let attached = attached().flat_map(|input| &input.paths);
        let mut all = Vec::new();
        for path in attached.filter(|path| seen.insert(path.as_str())) {
            let malformed =
                |why: &str| Err(InputError::Malformed { path: path.clone(), why: why.to_owned() });
            let Some((Some(bytes), digest)) = self.read.get(path) else { continue };
            // What leads elsewhere is nothing to send to a server, whoever put the link there.
            if !matches!(fs::kind(&project.input(path)), Ok(Some(fs::FileKind::File))) {
                return malformed("is no plain file, and only those are attached to a prompt");
            }
            if bytes.is_empty() {
                return malformed("is empty, and would be sent with the prompt");
            }
            let Some(media) = Media::of(bytes) else {
                return malformed(
                    "is no PNG, JPEG, GIF, WebP or PDF by its content, and nothing else is attached",
                );
            };
            all.push(Attachment { path: path.clone(), media, bytes: bytes.clone(), digest: digest.clone() });
        }
        Ok(all)
    }

    /// One digest over what an input holds: names and contents of its files.
    pub fn digest_of(&self, input: &Files) -> Digest {
        if let ([path], false) = (&input.paths[..], input.glob) {
            return self.read[path].1.clone();
        }
        let mut hasher = blake3::Hasher::new();
        for path in &input.paths {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            hasher.update(self.read[path].1.0.as_bytes());
        }
        Digest(hasher.finalize().to_hex().to_string())
    }

    /// The name and the text of each file, and whether it is JSON. What is no text is left out.
    pub fn texts(&self, project: &Project) -> impl Iterator<Item = (&str, String, bool)> {
        let files = self.files.iter().filter(|input| !input.is_attached());
        let each = files.flat_map(|input| input.paths.iter().map(|path| (input.name.as_str(), path)));
        each.filter_map(|(name, path)| {
            let text = self.text(project, path).ok()?;
            let json = is_json(path);
            let text = if json { json_of(&text).to_owned() } else { text.into_owned() };
            Some((name, text, json))
        })
    }

    /// What the templates of a task see. Only what `used` names is parsed.
    pub fn context(
        &self,
        project: &Project,
        task: &Task,
        used: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Value>, InputError> {
        let uses = |name: &str| uses(used, name);
        let mut context = BTreeMap::new();
        for input in self.files.iter().filter(|input| !input.is_attached()) {
            if !uses(&input.name) && !uses("inputs") {
                continue;
            }
            let value = if input.glob {
                let list = input.paths.iter().map(|path| self.file_value(project, task, &input.name, path));
                Value::from(list.collect::<Result<Vec<_>, _>>()?)
            } else {
                match input.paths.first() {
                    Some(path) => self.content_value(project, path)?,
                    // An absent file is no text, or no value.
                    None if is_json(&input.pattern) => Value::from(()),
                    None => Value::from(""),
                }
            };
            context.insert(input.name.clone(), value);
        }
        if uses("inputs") {
            let files = self.files.iter().filter(|input| !input.is_attached());
            let each = files.flat_map(|input| input.paths.iter().map(|path| (&input.name, path)));
            let list = each.map(|(name, path)| self.file_value(project, task, name, path));
            context.insert("inputs".into(), Value::from(list.collect::<Result<Vec<_>, _>>()?));
        }
        context.insert("vars".into(), Value::from_serialize(&project.vars));
        context.insert("task".into(), Value::from(project.spec(task).shown_name()));
        if uses(SAMPLES) && !context.contains_key(SAMPLES) {
            context.insert(SAMPLES.into(), Value::from_serialize(&self.samples));
        }
        if uses(KEPT_TASKS) && !context.contains_key(KEPT_TASKS) {
            context.insert(KEPT_TASKS.into(), Value::from_serialize(&self.kept));
        }
        if project.spec(task).sequential && !context.contains_key("previous") {
            context.insert("previous".into(), Value::from(""));
        }
        if let Some(item) = &task.item {
            context.insert("item".into(), Value::from_serialize(&item.value));
            context.insert("key".into(), Value::from(item.key.as_str()));
            context.insert("index".into(), Value::from(item.index));
        }
        Ok(context)
    }

    /// `{name, path, text, json}` of a file.
    fn file_value(
        &self,
        project: &Project,
        task: &Task,
        name: &str,
        path: &str,
    ) -> Result<Value, InputError> {
        // A file that is no text may be asked for its digest, and only fails who reads it.
        let text = match self.text(project, path) {
            Ok(text) => Value::from(&*text),
            Err(error @ InputError::Malformed { .. }) if !is_json(path) => Value::from(
                minijinja::Error::new(ErrorKind::InvalidOperation, error.into_failure().message.text),
            ),
            Err(error) => return Err(error),
        };
        let mut value = BTreeMap::from([
            ("name", Value::from(name)),
            ("path", Value::from(project.spec(task).shown_path(path))),
            ("text", text),
            ("blake3", Value::from(self.read[path].1.0.as_str())),
        ]);
        value
            .insert("json", if is_json(path) { self.content_value(project, path)? } else { Value::from(()) });
        Ok(Value::from_iter(value))
    }

    /// The parsed value of a JSON file, the text of any other.
    fn content_value(&self, project: &Project, path: &str) -> Result<Value, InputError> {
        let text = self.text(project, path)?;
        if !is_json(path) {
            return Ok(Value::from(&*text));
        }
        let value: serde_json::Value = serde_json::from_str(json_of(&text)).map_err(|error| {
            InputError::Malformed { path: path.into(), why: format!("is not valid JSON: {error}") }
        })?;
        Ok(Value::from_serialize(&value))
    }

    fn text(&self, project: &Project, path: &str) -> Result<Cow<'_, str>, InputError> {
        let malformed = |error: std::str::Utf8Error| InputError::Malformed {
            path: path.into(),
            why: format!("is not valid UTF-8 at byte {}", error.valid_up_to()),
        };
        match &self.read[path].0 {
            Some(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(malformed),
            None => {
                let bytes = fs::linked::read(&project.input(path)).map_err(InputError::Fs)?;
                String::from_utf8(bytes).map(Cow::Owned).map_err(|error| malformed(error.utf8_error()))
            }
        }
    }
}

/// The JSON in a file: without the byte order mark that some editors put before it.
pub fn json_of(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn is_json(path: &str) -> bool {
    path.ends_with(".json")
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
mod tests {
    use super::*;
    use crate::load::{Locations, load};

    #[test]
    fn what_a_glob_found_and_is_gone_since_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = dir.path().join("pipeline.toml");
        std::fs::write(&pipeline, "[task.a]\noutputs = [\"a\"]\ncommand = \"echo > $out\"\n").unwrap();
        std::fs::write(dir.path().join("there.txt"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link.txt")).unwrap();
        let run = dir.path().to_owned();
        let project = load(&Locations { run, pipeline, ..Locations::default() }).unwrap();
        let read = |paths: &[&str], glob: bool| {
            let paths = paths.iter().map(|&path| path.to_owned()).collect();
            let files = Files { name: "x".into(), paths, glob, optional: false, pattern: "*.txt".into() };
            Inputs::read(&project, vec![files]).map(|inputs| inputs.files[0].paths.join(" "))
        };
        assert_eq!(read(&["gone.txt", "there.txt"], true).unwrap(), "there.txt");
        assert!(matches!(read(&["gone.txt"], false), Err(InputError::Missing { .. })));
        assert!(matches!(read(&["link.txt"], true), Err(InputError::Missing { .. })));
    }
}
