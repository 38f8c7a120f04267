//! The two sidecars of a task, read without trust and written atomically.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Store;
use super::temps::Temps;
use planexe_base::fs::{self, Durability, FsError};
use planexe_base::record::{Digest, Done, Marker, SCHEMA, State, Status};

/// The two kinds of sidecars.
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
    /// There is no such file.
    Missing,
    /// Something that cannot be believed, with the reason.
    Damaged(String),
    /// Written by a later version: its schema.
    Newer(u32),
    /// A state this version does not know.
    UnknownState(String),
    /// A record that could be read.
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

/// The bytes of a sidecar, or why there are none.
fn read_bytes(path: &Path) -> Result<Vec<u8>, Raw> {
    match fs::optional(fs::read_capped(path, CAP)) {
        Ok(None) => Err(Raw::Missing),
        Ok(Some(bytes)) => Ok(bytes),
        Err(error) => Err(Raw::Damaged(error.reason())),
    }
}

/// A record of this version or an earlier one, read in one pass: `status` reads thousands. Of anything else
/// [`parse_raw`] says what it is.
fn parse_known<T: DeserializeOwned>(bytes: &[u8], schema: impl Fn(&T) -> u32) -> Option<Box<T>> {
    let record: T = serde_json::from_slice(bytes).ok()?;
    (1..=SCHEMA).contains(&schema(&record)).then(|| Box::new(record))
}

/// JSON with a readable `schema`, or why not. `serde_json` refuses nesting beyond 128 levels.
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
    match parse_known(bytes, |done: &Done| done.schema) {
        Some(done) => Marker::Valid(done),
        None => done_from(parse_raw(bytes)),
    }
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
    match parse_known(bytes, |status: &Status| status.schema) {
        Some(status) => StatusRead::Valid(status),
        None => status_from(parse_raw(bytes)),
    }
}

fn status_from(raw: Raw) -> StatusRead {
    match raw {
        Raw::Missing => StatusRead::Missing,
        Raw::Empty => StatusRead::Damaged("empty".to_owned()),
        Raw::Damaged(why) => StatusRead::Damaged(why),
        Raw::Newer(schema) => StatusRead::Newer(schema),
        Raw::Value(value) => {
            if let Some(state) = value.get("state").and_then(Value::as_str)
                && State::from_stored(state).is_none()
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
pub fn to_json(record: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("BUG: a record is always JSON");
    bytes.push(b'\n');
    bytes
}

impl Store {
    /// Reads the `.DONE` of the task whose first output is named. Never fails: what cannot be read
    /// is [`Marker::Damaged`].
    pub fn read_done(&self, output: &str) -> Marker {
        match read_bytes(&self.sidecar_path(output, Sidecar::Done)) {
            Ok(bytes) => parse_done(&bytes),
            Err(raw) => done_from(raw),
        }
    }

    /// Reads the `.status` of the task whose first output is named.
    pub fn read_status(&self, output: &str) -> StatusRead {
        match read_bytes(&self.sidecar_path(output, Sidecar::Status)) {
            Ok(bytes) => parse_status(&bytes),
            Err(raw) => status_from(raw),
        }
    }

    /// Keeps sidecars that cannot be believed in `.planexe/partial/`, before others are written in their place.
    pub fn keep_damaged(&self, output: &str) -> Result<(), FsError> {
        let done = matches!(self.read_done(output), Marker::Damaged(_) | Marker::Newer(_));
        let status = matches!(self.read_status(output), StatusRead::Damaged(_) | StatusRead::Newer(_));
        for (damaged, kind) in [(done, Sidecar::Done), (status, Sidecar::Status)] {
            if damaged {
                self.keep_aside(&self.sidecar_path(output, kind))?;
            }
        }
        Ok(())
    }

    /// Keeps a copy of a file in `.planexe/partial/`, as `NAME.damaged-DIGEST`. What cannot be read is left.
    pub(super) fn keep_aside(&self, path: &Path) -> Result<(), FsError> {
        let Ok(bytes) = fs::read_capped(path, CAP) else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // As long a name as may be, and the end of it.
        let name =
            name.char_indices().find(|(at, _)| name.len() - at <= 200).map_or("", |(at, _)| &name[at..]);
        let digest = Digest::of(&bytes);
        let kept = self.partial_dir().join(format!("{name}.damaged-{}", digest.short()));
        fs::make_dirs(&self.partial_dir(), Durability::Synced)
            .and_then(|()| fs::write_atomic(&kept, &bytes, Durability::Synced))
            .map_err(|error| error.within(self.run_dir()))
    }

    /// Writes the `.DONE`. An empty marker is a user's: without a sync the caller has to see to it that one
    /// a power cut left is not taken for that ([`super::batch`]).
    ///
    /// Returns the digest of its bytes.
    pub fn write_done(&self, output: &str, done: &Done, durability: Durability) -> Result<Digest, FsError> {
        let path = self.sidecar_path(output, Sidecar::Done);
        self.prepare(output, &path)?;
        let bytes = to_json(done);
        fs::write_atomic(&path, &bytes, durability).map_err(|error| error.within(self.run_dir()))?;
        Ok(Digest::of(&bytes))
    }

    /// [`Store::write_done`], then [`Store::write_status`], at the end of a commit: the folder is there, a `.DONE`
    /// is not.
    pub(super) fn write_records(
        &self,
        output: &str,
        done: &Done,
        status: &Status,
        durability: Durability,
    ) -> Result<Digest, FsError> {
        if self.is_hashed(output) {
            let marker = self.write_done(output, done, durability)?;
            self.write_status(output, status, durability)?;
            return Ok(marker);
        }
        let (marker, status) = (to_json(done), to_json(status));
        let [done_path, status_path] =
            [Sidecar::Done, Sidecar::Status].map(|kind| self.sidecar_path(output, kind));
        // The contents of both are synced at once, their names one after the other.
        let unsynced = Durability::Unsynced;
        let mut done = Temps::default();
        done.0.push((fs::write_beside_as(&done_path, &marker, None, unsynced)?, done_path));
        let mut rest = Temps::default();
        rest.0.push((fs::write_beside(&status_path, &status, unsynced)?, status_path));
        if durability == Durability::Synced {
            fs::sync_temps(&[done.0[0].clone(), rest.0[0].clone()], &[])?;
        }
        done.give_names(durability)?;
        rest.give_names(durability)?;
        Ok(Digest::of(&marker))
    }

    /// Writes the `.status` beside the first output, atomically.
    pub fn write_status(&self, output: &str, status: &Status, durability: Durability) -> Result<(), FsError> {
        let path = self.sidecar_path(output, Sidecar::Status);
        self.prepare(output, &path)?;
        fs::write_atomic(&path, &to_json(status), durability).map_err(|error| error.within(self.run_dir()))
    }

    /// Writes both sidecars of tasks, by their first outputs, synced: what is replaced is there, or what replaces it, and
    /// no half of it, whenever the power goes. All `.DONE` come before the first `.status`.
    pub fn write_all_records(&self, records: &[(&str, Done, Status)]) -> Result<(), FsError> {
        self.write_all_records_inner(records).map_err(|error| error.within(self.run_dir()))
    }

    fn write_all_records_inner(&self, records: &[(&str, Done, Status)]) -> Result<(), FsError> {
        let (mut markers, mut statuses) = (Temps::default(), Temps::default());
        for (output, done, status) in records {
            let both = [(Sidecar::Done, to_json(done)), (Sidecar::Status, to_json(status))];
            for (kind, bytes) in both {
                let path = self.sidecar_path(output, kind);
                self.prepare(output, &path)?;
                let temp = fs::write_beside(&path, &bytes, Durability::Unsynced)?;
                let temps = if kind == Sidecar::Done { &mut markers } else { &mut statuses };
                temps.0.push((temp, path));
            }
        }
        let temps: Vec<&Path> = markers.0.iter().chain(&statuses.0).map(|(temp, _)| temp.as_path()).collect();
        fs::sync_files(self.run_dir(), &temps)?;
        markers.publish(Durability::Synced)?;
        statuses.publish(Durability::Synced)
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
        fs::make_dirs_inside(self.run_dir(), path, Durability::Synced).map_err(within)?;
        if self.is_hashed(output) {
            let name = self.hashed_sidecar(output, ".name");
            if fs::read_optional(&name).ok().flatten().as_deref() != Some(output.as_bytes()) {
                fs::write_atomic(&name, output.as_bytes(), Durability::Unsynced).map_err(within)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::done;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        (dir, store)
    }

    fn put(store: &Store, kind: Sidecar, bytes: &[u8]) {
        fs::write_atomic(&store.sidecar_path("swot.json", kind), bytes, Durability::Unsynced).unwrap();
    }

    #[test]
    fn the_records_of_many_are_written_at_once() {
        use planexe_base::fs::fault;
        let (dir, store) = store();
        let names: Vec<String> = (0..40).map(|n| format!("sub{}/t{n}.txt", n % 3)).collect();
        let records = |fingerprint: &str| -> Vec<(&str, Done, Status)> {
            let of = |name: &'_ String| {
                let done = Done { fingerprint: Digest::of(fingerprint.as_bytes()), ..done() };
                (done, Status::new(name, State::Done))
            };
            names.iter().map(|name| (name.as_str(), of(name).0, of(name).1)).collect()
        };
        store.write_all_records(&records("old")).unwrap();
        // Whatever fails, each marker is the old one or the new one, and nothing is left lying about.
        for after in (0..).step_by(31) {
            fault::arm(after, true);
            let written = store.write_all_records(&records("new"));
            let failed = fault::disarm();
            assert_eq!(written.is_err(), failed, "{after}");
            for name in &names {
                let Marker::Valid(done) = store.read_done(name) else { panic!("{after}: {name}") };
                assert!(["old", "new"].map(|of| Digest::of(of.as_bytes())).contains(&done.fingerprint));
            }
            if !failed {
                break;
            }
        }
        assert_eq!(fs::sweep_temps(dir.path()).unwrap(), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let (_dir, store) = store();
        assert_eq!(store.read_done("swot.json"), Marker::Missing);
        assert_eq!(store.read_status("swot.json"), StatusRead::Missing);
        store.write_done("swot.json", &done(), Durability::Synced).unwrap();
        assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(done())));
        let status = Status::new("swot", State::Failed);
        store.write_status("swot.json", &status, Durability::Unsynced).unwrap();
        assert_eq!(store.read_status("swot.json"), StatusRead::Valid(Box::new(status)));
        let text = fs::read_to_string(&store.path("swot.json.DONE")).unwrap();
        assert!(
            text.starts_with("{\n  \"schema\": 1,\n  \"task\": \"swot\"") && text.ends_with("}\n"),
            "{text}"
        );
        assert!(store.remove_done("swot.json", Durability::Synced).unwrap());
        assert!(!store.remove_done("swot.json", Durability::Synced).unwrap());
        put(&store, Sidecar::Done, b"");
        assert_eq!(store.read_done("swot.json"), Marker::Empty);
    }

    #[test]
    fn cut_at_every_length_they_are_never_believed() {
        let (_dir, store) = store();
        let done = to_json(&done());
        let status = to_json(&Status::new("swot", State::Done));
        // Without the final newline nothing is missing.
        for len in 1..done.len() - 1 {
            assert!(matches!(parse_done(&done[..len]), Marker::Damaged(_)), "{len}");
        }
        for len in 0..status.len() - 1 {
            assert!(matches!(parse_status(&status[..len]), StatusRead::Damaged(_)), "{len}");
        }
        put(&store, Sidecar::Done, &done[..20]);
        assert_eq!(store.read_done("swot.json"), Marker::Damaged("cut short".into()));
        put(&store, Sidecar::Done, b"");
        assert_eq!(store.read_done("swot.json"), Marker::Empty);
        put(&store, Sidecar::Done, b"\n");
        assert_eq!(store.read_done("swot.json"), Marker::Empty);
        put(&store, Sidecar::Status, b"");
        assert_eq!(store.read_status("swot.json"), StatusRead::Damaged("empty".into()));
    }

    #[test]
    fn damage_of_all_kinds_is_named() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut nul = to_json(&done());
        nul[50..60].fill(0);
        for (bytes, said) in [
            (&b"\0\0\0\0"[..], "NUL"),
            (&nul, "NUL"),
            (b"hello", "not JSON"),
            (b"{\"schema\":1}{", "not JSON"),
            (b"[1]", "no `schema`"),
            (b"{}", "no `schema`"),
            (b"{\"schema\":\"one\"}", "`schema` is"),
            (b"{\"schema\":0}", "`schema` is"),
            (b"{\"schema\":-1}", "`schema` is"),
            (b"{\"schema\":1}", "missing field"),
            (deep.as_bytes(), "not JSON"),
            (&[0xff, 0xfe, b'{'], "not JSON"),
        ] {
            match parse_done(bytes) {
                Marker::Damaged(why) => assert!(why.contains(said), "{why}"),
                other => panic!("{other:?}"),
            }
            assert!(matches!(parse_status(bytes), StatusRead::Damaged(_)));
        }
    }

    #[test]
    fn every_flipped_bit_is_read_without_a_panic() {
        let bytes = to_json(&done());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let _ = parse_done(&bytes);
                let _ = parse_status(&bytes);
            }
        }
    }

    #[test]
    fn newer_versions_and_unknown_states_are_not_done() {
        assert_eq!(parse_done(b"{\"schema\":2,\"whatever\":true}"), Marker::Newer(2));
        assert_eq!(parse_status(b"{\"schema\":2}"), StatusRead::Newer(2));
        assert_eq!(
            parse_status(b"{\"schema\":1,\"task\":\"a\",\"state\":\"dreaming\"}"),
            StatusRead::UnknownState("dreaming".into())
        );
        assert!(matches!(parse_status(b"{\"schema\":1,\"task\":\"a\",\"state\":7}"), StatusRead::Damaged(_)));
        // Only what must be there.
        let StatusRead::Valid(status) = parse_status(b"{\"schema\":1,\"task\":\"a\",\"state\":\"done\"}")
        else {
            panic!()
        };
        assert_eq!(*status, Status::new("a", State::Done));
    }

    #[test]
    fn unknown_keys_are_kept() {
        let (_dir, store) = store();
        let mut value = serde_json::to_value(done()).unwrap();
        value["from_later"] = serde_json::json!({ "a": [1, 2] });
        put(&store, Sidecar::Done, &serde_json::to_vec(&value).unwrap());
        let Marker::Valid(done) = store.read_done("swot.json") else { panic!() };
        store.write_done("swot.json", &done, Durability::Unsynced).unwrap();
        let again: Value = serde_json::from_slice(&fs::read(&store.path("swot.json.DONE")).unwrap()).unwrap();
        assert_eq!(again, value);
        put(&store, Sidecar::Status, b"{\"schema\":1,\"task\":\"a\",\"state\":\"done\",\"mood\":\"good\"}");
        let StatusRead::Valid(status) = store.read_status("swot.json") else { panic!() };
        assert_eq!(status.other["mood"], "good");
    }

    #[test]
    fn something_else_under_the_name_is_damage() {
        let (dir, store) = store();
        fs::make_dirs(&dir.path().join("swot.json.DONE"), Durability::Unsynced).unwrap();
        assert_eq!(store.read_done("swot.json"), Marker::Damaged("is a directory".into()));
        assert!(store.write_done("swot.json", &done(), Durability::Unsynced).is_err());
    }

    #[test]
    fn long_names_get_hashed_sidecars_that_say_whose_they_are() {
        let (dir, store) = store();
        let fits = format!("sub/{}.json", "n".repeat(243));
        assert_eq!(store.sidecar_path(&fits, Sidecar::Done), dir.path().join(format!("{fits}.DONE")));
        store.write_status(&fits, &Status::new("a", State::Done), Durability::Synced).unwrap();
        let long = format!("sub/{}.json", "n".repeat(244));
        store.write_done(&long, &done(), Durability::Synced).unwrap();
        store.write_status(&long, &Status::new("a", State::Done), Durability::Synced).unwrap();
        assert!(matches!(store.read_done(&long), Marker::Valid(_)));
        assert!(matches!(store.read_status(&long), StatusRead::Valid(_)));
        let sidecars = fs::list_dir(&dir.path().join(".planexe/sidecars")).unwrap();
        let name = sidecars.iter().find_map(|(name, _)| name.to_str().filter(|name| name.ends_with(".name")));
        let name = dir.path().join(".planexe/sidecars").join(name.unwrap());
        assert_eq!(fs::read_to_string(&name).unwrap(), long);
        assert_eq!(sidecars.len(), 3);
    }
}
