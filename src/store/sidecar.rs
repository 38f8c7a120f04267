//! The two sidecars of a task, read without trust and written atomically.

use std::path::Path;

use serde_json::Value;

use super::Store;
use crate::fs::{self, Durability, FsError};
use crate::record::{Done, Marker, SCHEMA, State, Status};

/// Which sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// `NAME.DONE`.
    Done,
    /// `NAME.status`.
    Status,
}

impl Sidecar {
    /// What is added to the output's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Sidecar::Done => ".DONE",
            Sidecar::Status => ".status",
        }
    }
}

/// What was found under the name of a `.status`.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusRead {
    /// Nothing.
    Missing,
    /// Something that cannot be believed, with the reason.
    Damaged(String),
    /// Written by a later version: its schema.
    Newer(u32),
    /// A state this version does not know.
    UnknownState(String),
    /// A record.
    Valid(Box<Status>),
}

/// Sidecars larger than this are not ours. An input list of 100,000 files takes about 12 MiB.
const CAP: u64 = 64 << 20;

enum Raw {
    Missing,
    Empty,
    Damaged(String),
    Newer(u32),
    Value(Value),
}

/// JSON with a readable `schema`, or why not. `serde_json` refuses nesting beyond 128 levels.
fn read_raw(path: &Path) -> Raw {
    let bytes = match fs::optional(fs::read_capped(path, CAP)) {
        Ok(None) => return Raw::Missing,
        Ok(Some(bytes)) => bytes,
        Err(error) => return Raw::Damaged(error.reason()),
    };
    parse_raw(&bytes)
}

fn parse_raw(bytes: &[u8]) -> Raw {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Raw::Empty;
    }
    if bytes.contains(&0) {
        return Raw::Damaged("holds NUL bytes".to_owned());
    }
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) if error.is_eof() => return Raw::Damaged("cut short".to_owned()),
        Err(error) => return Raw::Damaged(format!("not JSON: {error}")),
    };
    let Some(schema) = value.get("schema") else {
        return Raw::Damaged("has no `schema`".to_owned());
    };
    match schema.as_u64().and_then(|schema| u32::try_from(schema).ok()) {
        Some(schema) if schema > SCHEMA => Raw::Newer(schema),
        Some(schema) if schema > 0 => Raw::Value(value),
        _ => Raw::Damaged(format!("`schema` is {schema}")),
    }
}

/// Reads the bytes of a `.DONE`.
pub fn parse_done(bytes: &[u8]) -> Marker {
    done_from(parse_raw(bytes))
}

fn done_from(raw: Raw) -> Marker {
    match raw {
        Raw::Missing => Marker::Missing,
        Raw::Empty => Marker::Empty,
        Raw::Damaged(why) => Marker::Damaged(why),
        Raw::Newer(schema) => Marker::Newer(schema),
        Raw::Value(value) => match serde_json::from_value::<Done>(value) {
            Ok(done) => Marker::Valid(Box::new(done)),
            Err(error) => Marker::Damaged(error.to_string()),
        },
    }
}

/// Reads the bytes of a `.status`.
pub fn parse_status(bytes: &[u8]) -> StatusRead {
    status_from(parse_raw(bytes))
}

fn status_from(raw: Raw) -> StatusRead {
    match raw {
        Raw::Missing => StatusRead::Missing,
        Raw::Empty => StatusRead::Damaged("empty".to_owned()),
        Raw::Damaged(why) => StatusRead::Damaged(why),
        Raw::Newer(schema) => StatusRead::Newer(schema),
        Raw::Value(value) => {
            if let Some(state) = value.get("state").and_then(Value::as_str)
                && serde_json::from_value::<State>(Value::from(state)).is_err()
            {
                return StatusRead::UnknownState(state.to_owned());
            }
            match serde_json::from_value::<Status>(value) {
                Ok(status) => StatusRead::Valid(Box::new(status)),
                Err(error) => StatusRead::Damaged(error.to_string()),
            }
        }
    }
}

/// A record as it is written: two-space indent, final newline.
pub(crate) fn to_json(record: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("BUG: a record is always JSON");
    bytes.push(b'\n');
    bytes
}

impl Store {
    /// Reads the `.DONE` of the task whose first output is named. Never fails: what cannot be read
    /// is [`Marker::Damaged`].
    pub fn read_done(&self, output: &str) -> Marker {
        done_from(read_raw(&self.sidecar_path(output, Sidecar::Done)))
    }

    /// Reads the `.status` of the task whose first output is named.
    pub fn read_status(&self, output: &str) -> StatusRead {
        status_from(read_raw(&self.sidecar_path(output, Sidecar::Status)))
    }

    /// Writes the `.DONE`. Its content is synced in any case, its name only if asked: an empty
    /// marker is thus always a user's.
    pub fn write_done(&self, output: &str, done: &Done, durability: Durability) -> Result<(), FsError> {
        let path = self.sidecar_path(output, Sidecar::Done);
        self.prepare(output, &path)?;
        let temp = fs::write_beside(&path, &to_json(done), Durability::Synced);
        temp.and_then(|temp| {
            fs::publish(&[(temp.clone(), path)], durability).inspect_err(|_| {
                let _ = fs::remove(&temp);
            })
        })
        .map_err(|error| error.within(self.run_dir()))
    }

    /// Writes an empty `.DONE`, as `touch` would.
    pub fn touch_done(&self, output: &str) -> Result<(), FsError> {
        let path = self.sidecar_path(output, Sidecar::Done);
        self.prepare(output, &path)?;
        fs::write_atomic(&path, b"", Durability::Synced).map_err(|error| error.within(self.run_dir()))
    }

    /// Writes the `.status`.
    pub fn write_status(&self, output: &str, status: &Status, durability: Durability) -> Result<(), FsError> {
        let path = self.sidecar_path(output, Sidecar::Status);
        self.prepare(output, &path)?;
        fs::write_atomic(&path, &to_json(status), durability).map_err(|error| error.within(self.run_dir()))
    }

    /// Removes the `.DONE`; false if there was none.
    pub fn remove_done(&self, output: &str, durability: Durability) -> Result<bool, FsError> {
        fs::remove_durably(&self.sidecar_path(output, Sidecar::Done), durability)
            .map_err(|error| error.within(self.run_dir()))
    }

    /// Removes the `.status`; false if there was none.
    pub fn remove_status(&self, output: &str) -> Result<bool, FsError> {
        fs::remove(&self.sidecar_path(output, Sidecar::Status)).map_err(|error| error.within(self.run_dir()))
    }

    /// Makes the folder a sidecar goes into and, for a hashed name, the file that says whose it is.
    fn prepare(&self, output: &str, path: &Path) -> Result<(), FsError> {
        let within = |error: FsError| error.within(self.run_dir());
        fs::ensure_inside(self.run_dir(), path).map_err(within)?;
        if let Some(dir) = path.parent() {
            fs::make_dirs(dir, Durability::Synced).map_err(within)?;
        }
        if self.is_hashed(output) {
            let name = self.hashed_sidecar(output, ".name");
            if fs::read_optional(&name).ok().flatten().as_deref() != Some(output.as_bytes()) {
                fs::write_atomic(&name, output.as_bytes(), Durability::Unsynced).map_err(within)?;
            }
        }
        Ok(())
    }
}
