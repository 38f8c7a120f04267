//! A mark on what lies under `.planexe/` and steers planexe, by which it knows that it wrote it itself, in this very
//! folder. A run may come with a clone or an archive, from whoever made that; its `.planexe/` may say of it what they
//! like. A checksum they can make as well; what they cannot have is the user's key.
//!
//! The key is a file of 32 random bytes in the user's state folder, which nobody else may read. A mark is a keyed blake3
//! under a key made of that one, of what the file is for, and of the run directory's own identity. Where there can be no
//! such key, nothing is marked and nothing believed, and nothing fails for it. docs/durability.md has a table of what is
//! bound so, and why.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::sidecar::to_json;
use planexe_base::fs;

/// The name of the key's file.
const KEY_FILE: &str = "seal.key";
/// Bytes of a key, and of a mark.
pub const LENGTH: usize = blake3::OUT_LEN;

type Key = [u8; LENGTH];

/// What is marked. It is part of the mark, so that one kind of file cannot stand for another.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A cache, by name: bound to the folder's device as well.
    Cache(&'a str),
    /// Events that wait for a receiver, by its folder. Like [`What::Record`] they are worth more than a cache, and the
    /// numbers of devices may change with each boot, so these go by the folder's own number alone.
    Outbox(&'a str),
    /// Records that steer, by the name of their kind.
    Record(&'a str),
}

/// Makes and checks marks for one purpose in one run directory.
#[derive(Clone)]
pub struct Seal(Key);

/// Never the key itself.
impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// To check marks; none if the user has no key, so that nothing was marked.
    pub fn to_check(run: &Path, what: What<'_>) -> Option<Seal> {
        Seal::new(&user_key(false)?, run, what)
    }

    /// To make marks: a user who has no key is given one. None if that cannot be.
    pub fn to_mark(run: &Path, what: What<'_>) -> Option<Seal> {
        Seal::new(&user_key(true)?, run, what)
    }

    /// [`Seal::to_mark`]; for a user who can have no key by one of this process, so that what it marked it believes
    /// itself, and nobody does after it.
    pub fn to_mark_at_least_for_now(run: &Path, what: What<'_>) -> Option<Seal> {
        static OWN: OnceLock<Option<Key>> = OnceLock::new();
        Seal::to_mark(run, what).or_else(|| Seal::new(OWN.get_or_init(random).as_ref()?, run, what))
    }

    /// Why there is none to mark with, and what to do.
    pub fn why_none() -> String {
        let (why, remedy) = why_no_key(key_folder().as_deref());
        format!("{why}: {remedy}")
    }

    /// What is wrong with the key that there is, and what to do.
    pub fn damage() -> Option<(String, String)> {
        let folder = key_folder()?;
        let is_there = std::fs::symlink_metadata(folder.join(KEY_FILE)).is_ok();
        (is_there && read_key(&folder).is_none()).then(|| why_no_key(Some(&folder)))
    }

    fn new(key: &Key, run: &Path, what: What<'_>) -> Option<Seal> {
        let folder = std::fs::metadata(if run.as_os_str().is_empty() { Path::new(".") } else { run }).ok()?;
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(b"planexe seal 1\0");
        match what {
            What::Cache(name) => {
                hasher.update(b"cache\0").update(name.as_bytes()).update(&folder.dev().to_le_bytes());
            }
            What::Outbox(receiver) => {
                hasher.update(b"outbox\0").update(receiver.as_bytes());
            }
            What::Record(kind) => {
                hasher.update(b"record\0").update(kind.as_bytes());
            }
        }
        hasher.update(&[0]).update(&folder.ino().to_le_bytes());
        Some(Seal(*hasher.finalize().as_bytes()))
    }

    /// The mark of some bytes.
    pub fn mark(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }

    /// Whether that is the mark of these bytes. Takes as long whatever is wrong with it.
    pub fn fits(&self, bytes: &[u8], mark: &[u8]) -> bool {
        <Key>::try_from(mark).is_ok_and(|mark| self.mark(bytes) == mark)
    }
}

/// The key of a record's JSON that holds its mark.
const MARK: &str = "mark";

impl Seal {
    /// A record as JSON, with its mark.
    pub fn sealed<T: Serialize>(&self, record: &T) -> Vec<u8> {
        let mark = self.mark(&to_json(record)).to_hex().to_string();
        match serde_json::to_value(record) {
            Ok(Value::Object(mut fields)) => {
                fields.insert(MARK.to_owned(), mark.into());
                to_json(&fields)
            }
            _ => to_json(record),
        }
    }

    /// The record in some JSON, if its mark fits.
    pub fn unsealed<T: Serialize + DeserializeOwned>(&self, bytes: &[u8]) -> Option<T> {
        let fields: Value = serde_json::from_slice(bytes).ok()?;
        let mark = blake3::Hash::from_hex(fields.get(MARK)?.as_str()?).ok()?;
        let record: T = serde_json::from_slice(bytes).ok()?;
        self.fits(&to_json(&record), mark.as_bytes()).then_some(record)
    }
}

fn random() -> Option<Key> {
    let mut key = [0; LENGTH];
    SystemRandom::new().fill(&mut key).ok()?;
    Some(key)
}

/// The user's key. It is read once; one that is not there is made if it is wanted.
#[cfg(not(test))]
fn user_key(make: bool) -> Option<Key> {
    static KEY: OnceLock<Key> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Some(*key);
    }
    let folder = key_folder()?;
    let key = read_key(&folder).or_else(|| if make { make_key(&folder) } else { None })?;
    Some(*KEY.get_or_init(|| key))
}

/// Unit tests leave no key behind, and need none.
#[cfg(test)]
fn user_key(_make: bool) -> Option<Key> {
    Some([7; LENGTH])
}

#[expect(clippy::disallowed_methods, reason = "where the key is looked up")]
fn key_folder() -> Option<PathBuf> {
    state_dir(&|name| std::env::var(name).ok())
}

/// The user's state folder: `$XDG_STATE_HOME/planexe`, else `~/.local/state/planexe`, on macOS too.
fn state_dir(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base =
        absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("planexe"))
}

/// The key in a folder: a plain file of its length that belongs to the user, and that nobody else may read or write.
fn read_key(folder: &Path) -> Option<Key> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder.join(KEY_FILE), flags, Mode::empty()).ok()?;
    let mut file = std::fs::File::from(opened);
    let found = file.metadata().ok()?;
    let is_private = found.uid() == own_uid() && found.mode() & 0o077 == 0;
    if !found.is_file() || !is_private || found.len() != LENGTH as u64 {
        return None;
    }
    let mut key = [0; LENGTH];
    file.read_exact(&mut key).ok()?;
    Some(key)
}

/// Why a folder gives no key, and what to do. After a `chmod -R` there is one that proves nothing any more.
fn why_no_key(folder: Option<&Path>) -> (String, String) {
    let Some(folder) = folder else {
        return ("there is no folder of yours for the key".into(), "set HOME, or XDG_STATE_HOME".into());
    };
    let file = folder.join(KEY_FILE);
    let shown = file.display();
    match std::fs::symlink_metadata(&file) {
        Ok(found) if found.is_file() && found.uid() == own_uid() && found.mode() & 0o077 != 0 => {
            (format!("others may read the key `{shown}`"), format!("`chmod 600 {shown}`"))
        }
        Ok(_) => (format!("`{shown}` is no key of yours"), "remove it, and a new one is made".into()),
        Err(_) => (
            format!("no key can be made in `{}`", folder.display()),
            "set XDG_STATE_HOME to a folder of yours".into(),
        ),
    }
}

/// Makes a key in a folder, unless another process was faster: then that one's.
fn make_key(folder: &Path) -> Option<Key> {
    // Who borrows another user's home (`sudo`) leaves nothing there that the owner could not read.
    let nearest = folder.ancestors().find_map(|folder| std::fs::metadata(folder).ok())?;
    if nearest.uid() != own_uid() {
        return None;
    }
    fs::write_private_new(&folder.join(KEY_FILE), &random()?).ok()?;
    read_key(folder)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_mark_is_of_these_bytes_this_purpose_and_this_folder() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let seal = |key: u8, run: &Path, what| Seal::new(&[key; LENGTH], run, what).unwrap();
        let own = seal(1, one.path(), What::Cache("index"));
        let mark = own.mark(b"bytes");
        assert!(own.fits(b"bytes", mark.as_bytes()) && !own.fits(b"byte", mark.as_bytes()));
        assert!(!own.fits(b"bytes", &mark.as_bytes()[1..]) && !own.fits(b"bytes", b""));
        for (key, run, what) in [
            (2, one.path(), What::Cache("index")),
            (1, other.path(), What::Cache("index")),
            (1, one.path(), What::Cache("other")),
            (1, one.path(), What::Outbox("index")),
        ] {
            assert!(!seal(key, run, what).fits(b"bytes", mark.as_bytes()), "{key} {run:?} {what:?}");
        }
        // Under another name it is the same folder.
        let moved = other.path().join("moved");
        std::fs::rename(one.path(), &moved).unwrap();
        assert!(seal(1, &moved, What::Cache("index")).fits(b"bytes", mark.as_bytes()));
        assert!(Seal::new(&[1; LENGTH], one.path(), What::Cache("index")).is_none(), "no such folder");
    }

    #[test]
    fn a_record_is_read_if_nothing_in_it_changed() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Record {
            task: String,
            #[serde(default)]
            score: Option<f64>,
        }
        let run = tempfile::tempdir().unwrap();
        let seal = Seal::new(&[1; LENGTH], run.path(), What::Record("x")).unwrap();
        let record = Record { task: "a\u{fc}[b]".into(), score: Some(0.1) };
        let text = String::from_utf8(seal.sealed(&record)).unwrap();
        assert_eq!(seal.unsealed(text.as_bytes()), Some(record));
        let other = Seal::new(&[2; LENGTH], run.path(), What::Record("x")).unwrap();
        for text in [text.replace("0.1", "0.2"), text.replace(MARK, "marks"), "{}".into(), "[]".into()] {
            assert_eq!(seal.unsealed::<Record>(text.as_bytes()), None, "{text}");
        }
        assert_eq!(other.unsealed::<Record>(text.as_bytes()), None);
    }

    #[test]
    fn a_key_is_made_once_and_is_for_the_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state/planexe");
        assert_eq!(read_key(&folder), None);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..4).map(|_| scope.spawn(|| make_key(&folder))).collect();
            made.into_iter().map(|made| made.join().unwrap().expect("a key")).collect()
        });
        assert!(keys.iter().all(|key| Some(*key) == read_key(&folder)), "all have one key");
        let file = folder.join(KEY_FILE);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
        for open in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(open)).unwrap();
            assert_eq!((read_key(&folder), make_key(&folder)), (None, None), "{open:o}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_key(&folder), Some(keys[0]));
        std::fs::rename(&file, folder.join("elsewhere")).unwrap();
        symlink("elsewhere", &file).unwrap();
        assert_eq!((read_key(&folder), make_key(&folder)), (None, None), "a link");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, b"short").unwrap();
        assert_eq!(read_key(&folder), None);
    }

    #[test]
    fn why_there_is_no_key() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("planexe");
        let remedy = |folder: Option<&Path>| why_no_key(folder).1;
        assert_eq!(remedy(None), "set HOME, or XDG_STATE_HOME");
        assert_eq!(remedy(Some(&folder)), "set XDG_STATE_HOME to a folder of yours");
        make_key(&folder).expect("a key");
        let file = folder.join(KEY_FILE);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(remedy(Some(&folder)), format!("`chmod 600 {}`", file.display()));
        std::fs::remove_file(&file).unwrap();
        symlink("elsewhere", &file).unwrap();
        assert_eq!(remedy(Some(&folder)), "remove it, and a new one is made");
    }

    #[test]
    fn the_state_folder() {
        let dir = |all: &'static [(&str, &str)]| {
            state_dir(&|name| all.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(dir(&[]), None);
        assert_eq!(dir(&[("HOME", "relative")]), None);
        assert_eq!(dir(&[("HOME", "/h")]), Some("/h/.local/state/planexe".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]), Some("/x/planexe".into()));
    }
}
