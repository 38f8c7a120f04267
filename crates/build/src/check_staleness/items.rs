//! The items of a fan-out, read from its file or found by its glob.

use std::collections::HashSet;

use super::StaleCheck;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::{self, FsError};
use planexe_base::record::Failure;
use planexe_engine::graph::{Graph, Item, Task, TaskId};
use planexe_pipeline::input_files::Files;
use planexe_pipeline::items;
use planexe_pipeline::manifest;
use planexe_pipeline::project::{Recipe, Spec};
use planexe_pipeline::task_inputs::{self as context, InputError};

/// What is said of a key that no item has, with the nearest one or those there are.
pub fn no_such_item<'k>(family: &str, key: &str, keys: impl Iterator<Item = &'k str>) -> String {
    let keys: Vec<&str> = keys.collect();
    match manifest::suggest(key, keys) {
        None => format!("`{family}` has no items"),
        Some(hint) => format!("`{family}` has no item `{key}`; {hint}"),
    }
}

/// The file that is the item of a task, in a fan-out over files.
pub(super) fn file_of<'t>(spec: &Spec, task: &'t Task) -> Option<&'t str> {
    spec.foreach.as_ref()?.glob.as_ref()?;
    task.item.as_ref()?.value.get("path")?.as_str()
}

/// Larger files that are items of commands are known by their digest: a command reads them itself.
const LARGEST_TEXT: u64 = 1 << 20;

impl StaleCheck<'_> {
    /// The items of a fan-out for a build of these targets. One that is named by a key no item has is a fault: to make
    /// nothing is no success.
    pub fn wanted_items(
        &self,
        graph: &Graph,
        family: TaskId,
        targets: &[(TaskId, Option<HashSet<String>>)],
    ) -> Result<Vec<Item>, Failure> {
        let items = self.items(graph, family)?;
        let named = targets.iter().filter(|(id, _)| *id == family).filter_map(|(_, keys)| keys.as_ref());
        let missing = named.flatten().filter(|key| items.iter().all(|item| item.key != **key)).min();
        match missing {
            None => Ok(items),
            Some(key) => Err(Failure {
                class: FailureClass::Items,
                message: no_such_item(&graph[family].name, key, items.iter().map(|item| item.key.as_str()))
                    .into(),
                recoverable: true,
                ..Failure::default()
            }),
        }
    }

    /// The items of a fan-out, from its file or its glob.
    pub fn items(&self, graph: &Graph, family: TaskId) -> Result<Vec<Item>, Failure> {
        let task = &graph[family];
        let spec = self.project.spec(task);
        let Some(foreach) = &spec.foreach else { return Ok(Vec::new()) };
        let fail = |message: String| Failure {
            class: FailureClass::Items,
            message: message.into(),
            recoverable: true,
            ..Failure::default()
        };
        if let Some(glob) = &foreach.glob {
            let files = Files {
                name: "item".into(),
                paths: self.glob(graph, glob)?,
                glob: true,
                optional: false,
                pattern: glob.clone(),
            };
            return self.file_items(spec, glob, files);
        }
        let path = foreach.file.clone().unwrap_or_default();
        let text = fs::linked::read_to_string(&self.project.input(&path))
            .map_err(|error| fail(format!("the items of `{}`: {error}", task.name)))?;
        let value: serde_json::Value = serde_json::from_str(context::json_of(&text)).map_err(|error| {
            fail(format!("the items of `{}`: `{path}` is not valid JSON: {error}", task.name))
        })?;
        let describe =
            |error: items::ItemError| fail(format!("the items of `{}` in `{path}`: {error}", task.name));
        let found = items::items(&value, foreach.items.as_deref()).map_err(describe)?;
        let batched: Vec<serde_json::Value>;
        let found = match foreach.batch {
            Some(size) => {
                batched = items::batches(&found, size);
                batched.iter().collect()
            }
            None => found,
        };
        let keys = items::keys(&found, foreach.key.as_deref()).map_err(describe)?;
        let item = |(index, (value, key)): (usize, (&&serde_json::Value, String))| Item {
            key,
            index,
            value: (*value).clone(),
        };
        Ok(found.iter().zip(keys).enumerate().map(item).collect())
    }

    fn glob(&self, graph: &Graph, glob: &str) -> Result<Vec<String>, Failure> {
        let found = self.finder.matches(graph, glob, "");
        let found = found.map_err(|error| InputError::Fs(error).into_failure())?;
        self.stays_inside(&found)?;
        Ok(found)
    }

    fn file_items(&self, spec: &Spec, glob: &str, files: Files) -> Result<Vec<Item>, Failure> {
        let paths: Vec<&str> = files.paths.iter().map(String::as_str).collect();
        let keys = items::file_keys(glob, &paths).map_err(|error| Failure {
            class: FailureClass::Items,
            message: error.to_string().into(),
            ..Failure::default()
        })?;
        let mut list = Vec::with_capacity(keys.len());
        for (index, (path, key)) in files.paths.iter().zip(keys).enumerate() {
            let value = self.file_value(spec, path).map_err(|e| InputError::Fs(e).into_failure())?;
            list.push(Item { key, index, value });
        }
        Ok(list)
    }

    /// A file as an item. One that is given to a command need not be text.
    fn file_value(&self, spec: &Spec, path: &str) -> Result<serde_json::Value, FsError> {
        let (file, shown) = (self.project.input(path), spec.shown_path(path));
        if let Recipe::Command(_) = spec.recipe {
            let (digest, size) = self.index.digest(&file)?.ok_or_else(|| {
                FsError::new(&file, "read", std::io::Error::from(std::io::ErrorKind::NotFound))
            })?;
            let text = match size {
                0..=LARGEST_TEXT => String::from_utf8(fs::linked::read(&file)?).ok(),
                _ => None,
            };
            return Ok(match text {
                Some(text) => serde_json::json!({ "path": shown, "text": text }),
                None => serde_json::json!({ "path": shown, "text": null, "blake3": digest.0 }),
            });
        }
        Ok(serde_json::json!({ "path": shown, "text": fs::linked::read_to_string(&file)? }))
    }
}
