//! What PlanExe2 recorded of its stages: whether a result is what a stage wrote, and whether what the stage read is
//! still there as it was.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::folder::{Fault, Folder, MANIFEST};
use planexe_base::style::clean;

/// Most stages that are believed; PlanExe2 has 76.
const MOST_STAGES: usize = 500;
/// Files that no stage writes.
const ROOTS: [&str; 2] = ["plan_raw.json", "start_time.json"];

/// The records.
#[derive(Debug)]
pub struct Records {
    stages: BTreeMap<String, Stage>,
    by_output: HashMap<String, String>,
    sound: HashMap<String, Result<(), Fault>>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    version: u64,
    stages: BTreeMap<String, Stage>,
}

#[derive(Debug, Clone, Deserialize)]
struct Stage {
    inputs: BTreeMap<String, Option<String>>,
    outputs: BTreeMap<String, String>,
    #[serde(default)]
    adopted: bool,
}

impl Records {
    /// Reads them; otherwise what is wrong with them.
    pub fn read(folder: &Folder) -> Result<Records, String> {
        let bytes = folder.read(MANIFEST).map_err(|(_, why)| format!("`{MANIFEST}` {why}"))?;
        let version = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let version =
            version.as_ref().and_then(|value| value.get("version")).and_then(|version| version.as_u64());
        if let Some(version) = version.filter(|&version| version != 1) {
            return Err(format!("`{MANIFEST}` has version {version}; 1 is known"));
        }
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            return Err(format!("`{MANIFEST}` is no manifest of PlanExe2"));
        };
        debug_assert_eq!(manifest.version, 1);
        if manifest.stages.len() > MOST_STAGES {
            return Err(format!(
                "`{MANIFEST}` has {} stages; at most {MOST_STAGES} are looked at",
                manifest.stages.len()
            ));
        }
        let mut by_output = HashMap::new();
        for (name, stage) in &manifest.stages {
            for file in stage.inputs.keys().chain(stage.outputs.keys()) {
                if file.is_empty() || file.starts_with('.') || file.contains(['/', '\0']) || file.len() > 255
                {
                    let file: String = clean(file).chars().take(80).collect();
                    return Err(format!("`{MANIFEST}` names `{file}`, which is no file of the folder"));
                }
            }
            by_output.extend(stage.outputs.keys().map(|file| (file.clone(), name.clone())));
        }
        Ok(Records { stages: manifest.stages, by_output, sound: HashMap::new() })
    }

    /// Whether a result was edited since its stage wrote it; a fault if its stage is not up to date.
    pub fn is_edited(&mut self, folder: &Folder, file: &str) -> Result<bool, Fault> {
        let Some(name) = self.by_output.get(file).cloned() else {
            return Err(("no_record", "has no record in the manifest".to_owned()));
        };
        self.stage(folder, &name)?;
        let recorded = self.stages.get(&name).and_then(|stage| stage.outputs.get(file));
        Ok(recorded.map(String::as_str) != Some(short(&folder.sha256(file)?)))
    }

    /// Whether what a stage read is as it was, and up to date itself.
    fn stage(&mut self, folder: &Folder, name: &str) -> Result<(), Fault> {
        if let Some(known) = self.sound.get(name) {
            return known.clone();
        }
        // Also what a circle comes back to.
        let circle = Err(("stale", format!("rests on itself: stage `{}`", clean(name))));
        self.sound.insert(name.to_owned(), circle);
        let found = self.look(folder, name);
        self.sound.insert(name.to_owned(), found.clone());
        found
    }

    fn look(&mut self, folder: &Folder, name: &str) -> Result<(), Fault> {
        let Some(stage) = self.stages.get(name).cloned() else { return Ok(()) };
        if stage.adopted {
            return Err(("adopted", "was adopted there: nothing says what it was made from".to_owned()));
        }
        for (input, recorded) in &stage.inputs {
            let shown = clean(input);
            let now = match folder.sha256(input) {
                Ok(digest) => Some(digest),
                Err(("missing", _)) => None,
                Err((_, why)) => return Err(("stale", format!("was made from `{shown}`, which {why}"))),
            };
            if now.as_deref().map(short) != recorded.as_deref() {
                return Err(("stale", format!("is out of date there: `{shown}` changed since")));
            }
            if recorded.is_none() || ROOTS.contains(&input.as_str()) {
                continue;
            }
            let Some(maker) = self.by_output.get(input).cloned() else {
                return Err(("stale", format!("was made from `{shown}`, of which there is no record")));
            };
            if let Err((_, why)) = self.stage(folder, &maker) {
                let why =
                    if why.starts_with("was made from") { "is out of date there".to_owned() } else { why };
                return Err(("stale", format!("was made from `{shown}`, which {why}")));
            }
        }
        Ok(())
    }
}

/// A digest as the manifest has it.
fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}
