//! A run folder of PlanExe or PlanExe2, as somebody left it: which of them wrote it, its files, and its plan. It is only
//! read, and no link in it is followed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use planexe_base::exit::Error;
use planexe_base::fs::{self, FileKind, Held};
use planexe_base::style::clean;

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;
/// Most that is read of all files.
const ALL: u64 = 1 << 30;
/// Most names looked at.
const MOST: usize = 20_000;

/// The records of PlanExe2.
pub const MANIFEST: &str = ".planexe_skill/manifest.json";
const NUMBERED_PLAN: &str = "001-2-plan.txt";
const RAW_PLAN: &str = "plan_raw.json";

/// Which program wrote a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// PlanExe, also called v1.
    PlanExe,
    /// Its successor.
    PlanExe2,
}

impl Program {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Program::PlanExe => "PlanExe",
            Program::PlanExe2 => "PlanExe2",
        }
    }
}

/// What stands in the way of a file, in a word and for people.
pub type Fault = (&'static str, String);

/// The folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Nothing below it is reached by a link while this lives.
    _held: Arc<Held>,
    /// SHA-256 of files that were read.
    digests: RefCell<HashMap<String, String>>,
    /// Bytes that are still read.
    left: Cell<u64>,
}

/// The text that a run was made from.
#[derive(Debug)]
pub struct Plan {
    /// The text.
    pub text: String,
    /// The file it is from.
    pub file: &'static str,
    /// The day the run was started, `YYYY-MM-DD`.
    pub started: Option<String>,
    /// What is to be told of it.
    pub note: Option<String>,
}

impl Folder {
    /// Opens a folder.
    pub fn open(dir: &Path) -> Result<Folder, Error> {
        let shown = clean(&dir.display().to_string());
        let held = Some(fs::resolved(dir)).filter(|dir| dir.is_dir());
        let held = held.and_then(|dir| fs::hold(&dir).map(|held| (dir, held)));
        let Some((dir, _held)) = held else {
            return Err(
                Error::usage(format!("there is no folder `{shown}` that can be read")).code("no_folder")
            );
        };
        Ok(Folder { dir, _held, digests: RefCell::default(), left: Cell::new(ALL) })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names in it that can be names of results, sorted.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let all = fs::list_dir(&self.dir)?;
        if all.len() > MOST {
            let text = format!("the folder has {} files; at most {MOST} are looked at", all.len());
            return Err(Error::usage(text).code("too_large"));
        }
        let plain = |(name, kind): (OsString, FileKind)| {
            let name = name.into_string().ok().filter(|name| !name.starts_with('.'))?;
            (kind != FileKind::Dir).then_some(name)
        };
        Ok(all.into_iter().filter_map(plain).collect())
    }

    fn has(&self, name: &str) -> bool {
        // What cannot be looked at, as below a link, is there.
        fs::kind(&self.dir.join(name)).map_or(true, |kind| kind.is_some())
    }

    /// A fault if there is no such file, or if it is no plain one with something in it. Its size.
    pub fn look(&self, name: &str) -> Result<u64, Fault> {
        match fs::kind_and_signature(&self.dir.join(name)) {
            Ok(Some((FileKind::File, found))) if found.size > 0 => Ok(found.size),
            Ok(Some((FileKind::File, _))) => Err(("empty", "is empty (0 bytes)".to_owned())),
            Ok(None) => Err(("missing", "is not there".to_owned())),
            Ok(Some((FileKind::Link, _))) => Err(("link", "is a link, which is not followed".to_owned())),
            Ok(Some((FileKind::Dir, _))) => Err(("no_file", "is a folder".to_owned())),
            Ok(Some((FileKind::Other, _))) => {
                Err(("no_file", "is no plain file, but a pipe, socket or device".to_owned()))
            }
            Err(error) => Err(("unreadable", format!("cannot be read: {}", error.reason()))),
        }
    }

    /// What a file holds; a fault as of [`Folder::look`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let size = self.look(name)?;
        if size > LARGEST {
            let text = format!("is not read: it has {} MiB, more than {}", size >> 20, LARGEST >> 20);
            return Err(("unreadable", text));
        }
        if size > self.left.get() {
            let text = format!("is not read: {} MiB of the folder were", ALL >> 20);
            return Err(("unreadable", text));
        }
        self.left.set(self.left.get() - size);
        let bytes = match fs::read_capped(&self.dir.join(name), LARGEST) {
            Ok(bytes) => bytes,
            Err(error) => return Err(("unreadable", format!("cannot be read: {}", error.reason()))),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        match self.digests.borrow_mut().insert(name.to_owned(), digest.clone()) {
            Some(former) if former != digest => Err(("unreadable", "changes while it is read".to_owned())),
            _ => Ok(bytes),
        }
    }

    /// The JSON that a file holds.
    pub fn json(&self, name: &str) -> Result<Value, Fault> {
        serde_json::from_slice(&self.read(name)?).map_err(|_| ("form", "is no JSON".to_owned()))
    }

    /// The JSON object that a file holds.
    pub fn object(&self, name: &str) -> Result<Map<String, Value>, Fault> {
        match serde_json::from_slice(&self.read(name)?) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(("form", "is no JSON object".to_owned())),
        }
    }

    /// SHA-256 of a file, in hex.
    pub fn sha256(&self, name: &str) -> Result<String, Fault> {
        if let Some(known) = self.digests.borrow().get(name) {
            return Ok(known.clone());
        }
        self.read(name)?;
        Ok(self.digests.borrow().get(name).cloned().unwrap_or_default())
    }

    /// Which program wrote it, and how that shows.
    pub fn program(&self) -> Result<(Program, &'static str), Error> {
        if self.has(RAW_PLAN) {
            return Ok(match self.has(".planexe_skill") {
                true => (Program::PlanExe2, "it has `plan_raw.json` and `.planexe_skill`"),
                false => (Program::PlanExe, "it has `plan_raw.json`, and no `.planexe_skill`"),
            });
        }
        if self.has(NUMBERED_PLAN) {
            return Ok((Program::PlanExe, "its files are numbered, as in `001-2-plan.txt`"));
        }
        let shown = clean(&self.dir.display().to_string());
        let text = format!("`{shown}` is no run folder of PlanExe or PlanExe2");
        let error = Error::usage(text).code("not_planexe");
        Err(match self.has("run.toml") || self.has(".planexe") {
            true => error.hint("it looks like a run of planexe; `planexe -C DIR status` shows it"),
            false => error.hint(
                "looked for: `001-2-plan.txt` or `plan_raw.json` (PlanExe), `plan_raw.json` with `.planexe_skill/manifest.json` (PlanExe2)",
            ),
        })
    }

    /// The plan. `edited_plan`: `plan.txt` is what PlanExe2 went on from, though edited by hand.
    pub fn plan(&self, edited_plan: bool) -> Result<Plan, Error> {
        let fault = |name: &str, (_, why): Fault| Error::usage(format!("`{name}` {why}")).code("no_plan");
        let started = self.started();
        let text_of = |name: &'static str| -> Result<String, Error> {
            let bytes = self.read(name).map_err(|why| fault(name, why))?;
            let text =
                String::from_utf8(bytes).map_err(|_| fault(name, ("form", "is no UTF-8 text".to_owned())))?;
            // Every answer would be one to a plan without words.
            match text.trim().is_empty() {
                true => Err(fault(name, ("empty", "has no words".to_owned()))),
                false => Ok(text),
            }
        };
        if !self.has(RAW_PLAN) {
            return Ok(Plan { text: text_of(NUMBERED_PLAN)?, file: NUMBERED_PLAN, started, note: None });
        }
        if edited_plan {
            let note = Some("`plan.txt` was edited there by hand, and is taken as it is".to_owned());
            return Ok(Plan { text: text_of("plan.txt")?, file: "plan.txt", started, note });
        }
        let raw = self.object(RAW_PLAN).map_err(|why| fault(RAW_PLAN, why))?;
        let text =
            |key: &str| raw.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let Some(prompt) = text("plan_prompt") else {
            return Err(fault(RAW_PLAN, ("form", "has no text under `plan_prompt`".to_owned())));
        };
        let date = text("pretty_date").map_or(String::new(), |date| format!("\n\nToday's date:\n{date}"));
        let text = format!("Plan:\n{prompt}{date}\n\nProject start ASAP");
        let differs =
            self.read("plan.txt").is_ok_and(|there| words(&String::from_utf8_lossy(&there)) != words(&text));
        let note = differs.then(|| {
            "`plan.txt` says something else than `plan_raw.json`, from which the plan is taken".to_owned()
        });
        Ok(Plan { text, file: RAW_PLAN, started, note })
    }

    /// The day in the record of the start.
    fn started(&self) -> Option<String> {
        let record = ["start_time.json", "001-1-start_time.json"]
            .into_iter()
            .find_map(|name| self.object(name).ok())?;
        let time = record.get("server_iso_local").or(record.get("server_iso_utc"))?.as_str()?;
        let day = time.get(..10)?;
        let is_day = day.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        is_day.then(|| day.to_owned())
    }
}

/// The words of a text, however they are laid out.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
