//! Models whose usage limit is not over: `.planexe/parked.json`. Kept with the time of the wall clock, so that a build
//! after a reboot knows them too, and starts no call in vain.
//!
//! The times are what servers said, or whoever wrote the file: a wait is never longer than the one that was noted, nor
//! than a week, and one noted in the future is over: one call finds out.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Store;
use super::sidecar::to_json;
use planexe_base::clock;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::SCHEMA;

/// Larger than a list of every model a pipeline can have.
const CAP: u64 = 1 << 22;
/// The longest wait.
const LONGEST: f64 = 7.0 * 86400.0;

/// A model that takes no calls until a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkedModel {
    /// Its name in the pipeline.
    pub model: String,
    /// A digest of what its calls go to: another server, model or key is another model.
    pub id: String,
    /// When its limit is over, RFC 3339, UTC.
    pub until_utc: String,
    /// When that was said.
    pub seen_utc: String,
    /// What was said.
    pub message: String,
}

impl ParkedModel {
    /// How long it is still left alone; none if its limit is over.
    pub fn left(&self) -> Option<Duration> {
        let left = self.left_s()?;
        (left > 0.0).then(|| Duration::from_secs_f64(left))
    }

    /// Seconds until its limit is over, none left after that; none at all where its times cannot be read.
    fn left_s(&self) -> Option<f64> {
        let now = clock::now_utc();
        let noted = clock::seconds_between(&self.seen_utc, &self.until_utc)?;
        let since = clock::seconds_between(&self.seen_utc, &now)?;
        let left = clock::seconds_between(&now, &self.until_utc)?.min(noted).min(LONGEST);
        Some(if since < 0.0 { 0.0 } else { left })
    }

    /// When it may be asked again, by the clock of the wall.
    pub fn until(&self) -> Option<SystemTime> {
        SystemTime::now().checked_add(self.left()?)
    }
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Parked {
    schema: u32,
    models: Vec<ParkedModel>,
}

impl Store {
    fn parked_file(&self) -> PathBuf {
        self.planexe_dir().join("parked.json")
    }

    /// Models whose limit is not over. A file that cannot be read parks none.
    pub fn read_parked(&self) -> Vec<ParkedModel> {
        self.read_all_parked().into_iter().filter(|model| model.left().is_some()).collect()
    }

    /// The same, and those whose reset is over and that nobody has asked since.
    pub fn read_all_parked(&self) -> Vec<ParkedModel> {
        let bytes = fs::read_capped(&self.parked_file(), CAP).unwrap_or_default();
        let parked: Parked = serde_json::from_slice(&bytes).unwrap_or_default();
        let models = if parked.schema == SCHEMA { parked.models } else { Vec::new() };
        models.into_iter().filter(|model| model.left_s().is_some()).collect()
    }

    /// Notes the models that are parked now. Under the lock.
    pub fn write_parked(&self, models: Vec<ParkedModel>) -> Result<(), FsError> {
        let written = match models.is_empty() {
            true => fs::remove(&self.parked_file()).map(drop),
            false => {
                self.planexe_subdir("")?;
                let bytes = to_json(&Parked { schema: SCHEMA, models });
                fs::write_atomic(&self.parked_file(), &bytes, Durability::Synced)
            }
        };
        written.map_err(|error| error.within(self.run_dir()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::store;

    fn in_seconds(seconds: i64) -> String {
        let now = SystemTime::now();
        let by = Duration::from_secs(seconds.unsigned_abs());
        clock::format_utc(if seconds < 0 { now - by } else { now + by })
    }

    #[test]
    fn absurd_times_park_nothing_for_long() {
        let (_dir, store) = store();
        let rows = [
            (-60, 600, Some(540..=600)),
            // Over.
            (-600, -60, None),
            // Noted in the future: the clock was set back, or somebody made it up.
            (600, 1200, None),
            // A year.
            (0, 365 * 86400, Some(604_000..=604_800)),
        ];
        for (seen, until, wanted) in rows {
            let model = ParkedModel {
                model: "m".to_owned(),
                id: "x".to_owned(),
                until_utc: in_seconds(until),
                seen_utc: in_seconds(seen),
                message: String::new(),
            };
            store.write_parked(vec![model]).unwrap();
            let left = store.read_parked().first().and_then(ParkedModel::left).map(|left| left.as_secs());
            match wanted {
                None => assert_eq!(left, None, "{seen} {until}"),
                Some(range) => {
                    assert!(left.is_some_and(|left| range.contains(&left)), "{seen} {until}: {left:?}")
                }
            }
        }
        store.write_parked(Vec::new()).unwrap();
        assert!(!store.parked_file().exists());
        for text in ["", "{", r#"{"schema":99,"models":[{}]}"#, r#"{"schema":1,"models":[{}]}"#] {
            fs::write_atomic(&store.parked_file(), text.as_bytes(), Durability::Unsynced).unwrap();
            assert_eq!(store.read_parked(), [], "{text}");
        }
    }
}
