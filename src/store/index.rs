//! A cache of file digests, so that a build with nothing to do stats files and reads none. It may be
//! lost or deleted at any time; any damage to it makes it empty.
//!
//! A digest is believed while the file's signature is the one it had when it was hashed, unless the
//! file had changed so shortly before that a further change might show the same times: then it is
//! hashed again, as git does. Nothing is believed after another boot, since a power cut may keep a
//! file's times and lose its bytes; a build that runs tasks removes the file first and writes it at
//! its end, so that a build that was killed leaves none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Store;
use super::lock::boot_id;
use crate::fs::{self, Durability, FsError, Signature};
use crate::record::Digest;

/// The index of a run, shared by all threads.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    run_dir: PathBuf,
    boot: String,
    data: RwLock<Data>,
    changed: AtomicBool,
    hashed: AtomicU64,
    now: fn() -> i64,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Data {
    files: HashMap<String, FileEntry>,
    tasks: HashMap<String, TaskEntry>,
}

#[derive(Debug, Clone, PartialEq)]
struct FileEntry {
    signature: Signature,
    digest: Digest,
    /// The moment before the file was opened to be hashed.
    hashed_ns: i64,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct TaskEntry {
    stamp: Option<u128>,
    durations: Vec<f64>,
}

impl TaskEntry {
    /// The median of the durations.
    fn usual(&self) -> Option<f64> {
        let mut sorted = self.durations.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// So many of a task's last durations are remembered.
const DURATIONS: usize = 5;

/// Whether a file changed so shortly before a moment (nanoseconds since 1970), or after it, that a
/// later change might leave the same times. Times that are whole milliseconds may come from a file
/// system with a coarse clock (FAT counts 2 s).
pub fn is_racy(signature: &Signature, at_ns: i64) -> bool {
    const COARSE: i64 = 2_100_000_000;
    const FINE: i64 = 50_000_000;
    let window = if signature.ctime_ns % 1_000_000 == 0 { COARSE } else { FINE };
    signature.ctime_ns > at_ns.saturating_sub(window)
}

impl Index {
    /// Reads the index; empty if there is none that can be believed.
    pub fn load(store: &Store) -> Index {
        let path = store.planexe_dir().join("index");
        let boot = boot_id().unwrap_or_default();
        let data = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).map(|(made_in, mut data)| {
            if made_in != boot {
                data.files.clear();
                data.tasks.values_mut().for_each(|task| task.stamp = None);
            }
            data
        });
        Index {
            path,
            run_dir: store.run_dir().to_owned(),
            boot,
            data: RwLock::new(data.unwrap_or_default()),
            changed: AtomicBool::new(false),
            hashed: AtomicU64::new(0),
            now: fs::now_ns,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.data.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.changed.store(true, Ordering::Relaxed);
        self.data.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files are known by their names relative to the run, so that a run can be moved; others by
    /// their absolute ones.
    fn key(&self, path: &Path) -> String {
        match path.strip_prefix(&self.run_dir) {
            Ok(relative) => relative.to_string_lossy().into_owned(),
            Err(_) => std::path::absolute(path).unwrap_or(path.to_owned()).to_string_lossy().into_owned(),
        }
    }

    /// Digest and length of a file's content, hashed only if needed; `None` if there is no such file.
    /// Safe from many threads.
    pub fn digest(&self, path: &Path) -> Result<Option<(Digest, u64)>, FsError> {
        Ok(self.look(path)?.map(|seen| (seen.digest, seen.signature.size)))
    }

    /// [`Index::digest`] with the signature it goes with, and whether both can be trusted until the
    /// signature changes: what a [`Index::set_stamp`] may be made of.
    pub fn look(&self, path: &Path) -> Result<Option<Seen>, FsError> {
        let Some(signature) = fs::signature(path)? else { return Ok(None) };
        let key = self.key(path);
        if let Some(entry) = self.read().files.get(&key)
            && entry.signature == signature
            && !is_racy(&signature, entry.hashed_ns)
        {
            return Ok(Some(Seen { signature, digest: entry.digest.clone(), settled: true }));
        }
        let mut signature = signature;
        for last in [false, false, true] {
            let hashed_ns = (self.now)();
            self.hashed.fetch_add(1, Ordering::Relaxed);
            let Some((digest, bytes)) = fs::optional(fs::hash_file(path))? else { return Ok(None) };
            let Some(after) = fs::signature(path)? else { return Ok(None) };
            if after == signature && bytes == signature.size {
                let entry = FileEntry { signature, digest: digest.clone(), hashed_ns };
                let settled = !is_racy(&signature, hashed_ns);
                // A file that is still racy is hashed next time anyway: nothing was learned of it.
                if settled {
                    self.write().files.insert(key, entry);
                }
                return Ok(Some(Seen { signature, digest, settled }));
            }
            if bytes == after.size && after.size == signature.size && after.mtime_ns == signature.mtime_ns {
                // Renamed or linked while it was read: the content is the same.
                return Ok(Some(Seen { signature: after, digest, settled: false }));
            }
            // Written while it was read; one that never rests is taken as it was seen last.
            if last {
                signature.size = bytes;
                return Ok(Some(Seen { signature, digest, settled: false }));
            }
            signature = after;
        }
        unreachable!("BUG: the last round returns")
    }

    /// The digest of a file, if it is known without reading it.
    pub fn settled(&self, path: &Path) -> Option<Digest> {
        let signature = fs::signature(path).ok()??;
        let data = self.read();
        let entry = data.files.get(&self.key(path))?;
        (entry.signature == signature && !is_racy(&signature, entry.hashed_ns)).then(|| entry.digest.clone())
    }

    /// How often a file had to be read to know its digest.
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// The memo of a task: "judged fresh when everything it depends on had these signatures".
    pub fn stamp(&self, task: &str) -> Option<u128> {
        self.read().tasks.get(task)?.stamp
    }

    /// Sets or drops a task's memo. Only signatures of files that were [`Seen::settled`] may be in it.
    pub fn set_stamp(&self, task: &str, stamp: Option<u128>) {
        if self.stamp(task) != stamp {
            self.write().tasks.entry(task.to_owned()).or_default().stamp = stamp;
        }
    }

    /// A task's last durations in seconds, oldest first.
    pub fn durations(&self, task: &str) -> Vec<f64> {
        self.read().tasks.get(task).map(|task| task.durations.clone()).unwrap_or_default()
    }

    /// The median of a task's remembered durations, seconds.
    pub fn usual_duration(&self, task: &str) -> Option<f64> {
        self.read().tasks.get(task)?.usual()
    }

    /// The median of the remembered durations, of every task that has some.
    pub fn usual_durations(&self) -> Vec<(String, f64)> {
        let data = self.read();
        data.tasks.iter().filter_map(|(name, task)| Some((name.clone(), task.usual()?))).collect()
    }

    /// Adds a duration.
    pub fn add_duration(&self, task: &str, seconds: f64) {
        let mut data = self.write();
        let durations = &mut data.tasks.entry(task.to_owned()).or_default().durations;
        durations.push(seconds);
        let surplus = durations.len().saturating_sub(DURATIONS);
        durations.drain(..surplus);
    }

    /// Forgets files and tasks for which the test is false.
    pub fn retain(&self, file: impl Fn(&str) -> bool, task: impl Fn(&str) -> bool) {
        let all = {
            let data = self.read();
            data.files.keys().all(|path| file(path)) && data.tasks.keys().all(|name| task(name))
        };
        if !all {
            let mut data = self.write();
            data.files.retain(|path, _| file(path));
            data.tasks.retain(|name, _| task(name));
        }
    }

    /// Before the first task of a build starts: from here to [`Index::save_if_changed`] the index on disk
    /// knows no file, only how long tasks take, for those who look on and in case the build is killed.
    pub fn begin_run(&self) -> Result<(), FsError> {
        self.changed.store(true, Ordering::Relaxed);
        let mut data = Data::default();
        for (name, task) in self.read().tasks.iter().filter(|(_, task)| !task.durations.is_empty()) {
            let durations = task.durations.clone();
            data.tasks.insert(name.clone(), TaskEntry { stamp: None, durations });
        }
        let bytes = encode(&self.boot, &data);
        if data.tasks.is_empty() || fs::write_atomic(&self.path, &bytes, Durability::Unsynced).is_err() {
            fs::remove(&self.path)?;
        }
        fs::remove(&crate::memo::path(&self.run_dir))?;
        Ok(())
    }

    /// Writes the index if something was learned.
    pub fn save_if_changed(&self) -> Result<(), FsError> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let bytes = encode(&self.boot, &self.read());
        let written = match self.path.parent() {
            Some(dir) => fs::make_dirs(dir, Durability::Unsynced),
            None => Ok(()),
        }
        .and_then(|()| fs::write_atomic(&self.path, &bytes, Durability::Unsynced));
        if written.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        written.map_err(|error| error.within(&self.run_dir))
    }
}

/// A file as the index sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its signature.
    pub signature: Signature,
    /// Its content.
    pub digest: Digest,
    /// Whether the content is sure to be the same while the signature is.
    pub settled: bool,
}

// ---------------------------------------------------------------- the file

const MAGIC: &[u8] = b"planexe index 1\n";

fn encode(boot: &str, data: &Data) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + data.files.len() * 128 + data.tasks.len() * 96);
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    text(&mut out, boot);
    out.extend((data.files.len() as u32).to_le_bytes());
    let mut files: Vec<_> = data.files.iter().collect();
    files.sort_by_key(|(path, _)| *path);
    for (path, entry) in files {
        text(&mut out, path);
        let s = &entry.signature;
        out.extend(s.size.to_le_bytes());
        out.extend(s.mtime_ns.to_le_bytes());
        out.extend(s.ctime_ns.to_le_bytes());
        out.extend(s.ino.to_le_bytes());
        out.extend(s.mode.to_le_bytes());
        out.extend(entry.hashed_ns.to_le_bytes());
        text(&mut out, &entry.digest.0);
    }
    out.extend((data.tasks.len() as u32).to_le_bytes());
    let mut tasks: Vec<_> = data.tasks.iter().collect();
    tasks.sort_by_key(|(task, _)| *task);
    for (task, entry) in tasks {
        text(&mut out, task);
        out.push(u8::from(entry.stamp.is_some()));
        out.extend(entry.stamp.unwrap_or(0).to_le_bytes());
        out.push(entry.durations.len() as u8);
        for duration in &entry.durations {
            out.extend(duration.to_le_bytes());
        }
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(blake3::hash(&out).as_bytes());
    bytes.extend(out);
    bytes
}

/// The boot the index was made in, and the index; `None` if a single bit is wrong.
fn decode(bytes: &[u8]) -> Option<(String, Data)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, payload) = rest.split_at_checked(32)?;
    if blake3::hash(payload).as_bytes() != sum {
        return None;
    }
    let mut reader = Reader(payload);
    let boot = reader.text()?;
    let mut data = Data::default();
    for _ in 0..reader.u32()? {
        let path = reader.text()?;
        let signature = Signature {
            size: reader.u64()?,
            mtime_ns: reader.u64()? as i64,
            ctime_ns: reader.u64()? as i64,
            ino: reader.u64()?,
            mode: reader.u32()?,
        };
        let hashed_ns = reader.u64()? as i64;
        let digest = Digest(reader.text()?);
        data.files.insert(path, FileEntry { signature, digest, hashed_ns });
    }
    for _ in 0..reader.u32()? {
        let task = reader.text()?;
        let some = reader.take::<1>()?[0] == 1;
        let stamp = u128::from_le_bytes(reader.take()?);
        let count = reader.take::<1>()?[0];
        let durations = (0..count).map(|_| reader.take().map(f64::from_le_bytes)).collect::<Option<_>>()?;
        data.tasks.insert(task, TaskEntry { stamp: some.then_some(stamp), durations });
    }
    reader.0.is_empty().then_some((boot, data))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that makes every file look old, and one that makes it look new.
    fn later() -> i64 {
        fs::now_ns() + 3_600_000_000_000
    }

    fn at_once() -> i64 {
        0
    }

    fn index(store: &Store, now: fn() -> i64) -> Index {
        Index { now, ..Index::load(store) }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        (dir, store)
    }

    fn write(store: &Store, name: &str, text: &str) -> PathBuf {
        let path = store.path(name);
        fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
        path
    }

    #[test]
    fn racy_is_what_may_change_again_within_one_tick() {
        let s = 1_000_000_000;
        let signature =
            |ctime_ns| Signature { size: 1, mtime_ns: ctime_ns, ctime_ns, ino: 1, mode: 0o100_644 };
        for (ctime, hashed, racy) in [
            (100 * s + 1, 100 * s + 1, true),
            (100 * s + 1, 100 * s + 40_000_000, true),
            (100 * s + 1, 100 * s + 60_000_000, false),
            (100 * s + 1, 99 * s, true), // from the future
            (100 * s, 101 * s, true),    // a coarse clock, perhaps
            (100 * s, 102 * s, true),
            (100 * s, 103 * s, false),
            (100 * s + 7_000_000, 101 * s, true),
            (-5, 0, true), // before 1970
        ] {
            assert_eq!(is_racy(&signature(ctime), hashed), racy, "{ctime} {hashed}");
        }
    }

    #[test]
    fn a_settled_file_is_hashed_once_over_many_builds() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let digest = Some((Digest::of(b"hello"), 5));
        let first = index(&store, later);
        for _ in 0..3 {
            assert_eq!(first.digest(&path).unwrap(), digest);
        }
        assert_eq!(first.hashed(), 1);
        first.save_if_changed().unwrap();
        let second = index(&store, later);
        assert_eq!(second.digest(&path).unwrap(), digest);
        assert_eq!(second.hashed(), 0);
        // Nothing was learned, nothing is written.
        fs::remove(&store.path(".planexe/index")).unwrap();
        second.save_if_changed().unwrap();
        assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
    }

    #[test]
    fn a_racy_file_is_hashed_again() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let index = index(&store, at_once);
        for _ in 0..3 {
            assert!(!index.look(&path).unwrap().unwrap().settled);
        }
        assert_eq!(index.hashed(), 3);
        index.save_if_changed().unwrap();
        assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
    }

    #[test]
    fn same_size_and_same_mtime_do_not_hide_a_change() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let index = index(&store, later);
        index.digest(&path).unwrap();
        let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
        let path = write(&store, "a", "world");
        let file = fs::open_lock_file(&path).unwrap();
        file.set_modified(mtime).unwrap();
        assert_eq!(index.digest(&path).unwrap(), Some((Digest::of(b"world"), 5)));
    }

    #[test]
    fn missing_files_and_directories() {
        let (dir, store) = store();
        let index = index(&store, later);
        assert_eq!(index.digest(&store.path("missing")).unwrap(), None);
        assert!(index.digest(dir.path()).is_err());
    }

    #[test]
    fn any_damage_makes_it_empty() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let first = index(&store, later);
        first.digest(&path).unwrap();
        first.set_stamp("swot", Some(7));
        first.add_duration("swot", 1.5);
        first.save_if_changed().unwrap();
        let bytes = fs::read(&store.path(".planexe/index")).unwrap();
        assert!(decode(&bytes).is_some());
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None);
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert_eq!(decode(&bytes), None);
        }
        write(&store, ".planexe/index", "garbage");
        let second = index(&store, later);
        assert_eq!(second.stamp("swot"), None);
        assert_eq!(second.digest(&path).unwrap(), Some((Digest::of(b"hello"), 5)));
    }

    #[test]
    fn after_another_boot_only_durations_are_believed() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let mut first = index(&store, later);
        first.boot = "another boot".into();
        first.digest(&path).unwrap();
        first.set_stamp("swot", Some(7));
        first.add_duration("swot", 1.5);
        first.save_if_changed().unwrap();
        let second = index(&store, later);
        assert_eq!(second.stamp("swot"), None);
        assert_eq!(second.durations("swot"), [1.5]);
        second.digest(&path).unwrap();
        assert_eq!(second.hashed(), 1);
    }

    #[test]
    fn a_build_that_is_killed_leaves_durations_only() {
        let (_dir, store) = store();
        let path = write(&store, "a", "hello");
        let first = index(&store, later);
        first.set_stamp("swot", Some(7));
        first.save_if_changed().unwrap();
        let second = index(&store, later);
        second.begin_run().unwrap();
        assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
        second.digest(&path).unwrap();
        second.add_duration("swot", 2.5);
        second.save_if_changed().unwrap();
        let third = index(&store, later);
        assert_eq!(third.stamp("swot"), Some(7));
        third.begin_run().unwrap();
        let left = index(&store, later);
        assert_eq!((left.stamp("swot"), left.durations("swot")), (None, vec![2.5]));
        assert_eq!(*left.read(), Data { files: HashMap::new(), ..left.read().clone() });
        third.save_if_changed().unwrap();
        assert_eq!(index(&store, later).stamp("swot"), Some(7));
    }

    #[test]
    fn durations_are_the_last_few_and_old_names_can_be_forgotten() {
        let (_dir, store) = store();
        let index = index(&store, later);
        (0..9).for_each(|n| index.add_duration("swot", f64::from(n)));
        assert_eq!(index.durations("swot"), [4.0, 5.0, 6.0, 7.0, 8.0]);
        index.digest(&write(&store, "a", "hello")).unwrap();
        index.retain(|file| file != "a", |task| task != "swot");
        assert_eq!(index.durations("swot"), Vec::<f64>::new());
        assert_eq!(*index.read(), Data::default());
    }

    #[test]
    fn many_threads_may_ask() {
        let (_dir, store) = store();
        let paths: Vec<_> = (0..20).map(|n| write(&store, &format!("f{n}"), &n.to_string())).collect();
        let index = index(&store, later);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (n, path) in paths.iter().enumerate() {
                        let (digest, _) = index.digest(path).unwrap().unwrap();
                        assert_eq!(digest, Digest::of(n.to_string().as_bytes()));
                    }
                });
            }
        });
    }
}
