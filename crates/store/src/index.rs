//! What is known of files, so that a build with nothing to do looks at them and reads none; and how long tasks took.
//! With the null-build record ([`crate::null_build`]) it is the one cache of a run, a file that may be lost or deleted at
//! any time (`cache_file`); any damage to it makes it empty. So does another user or another folder: digests are
//! bound to both by a mark ([`super::seal`]). Durations are not: they only say what begins first.
//!
//! A digest is believed while the file's signature is the one it had when it was hashed, unless the
//! file had changed so shortly before that a further change might show the same times: then it is
//! hashed again, as git does. Nothing is believed after another boot, since a power cut may keep a
//! file's times and lose its bytes; a build that runs tasks removes the file first and writes it at
//! its end, so that a build that was killed leaves none. Durations, in a file of their own, stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Store;
use super::cache_file::{self, INDEX, Parts};
use super::host::boot_id;
use super::seal::{LENGTH, Seal};
use super::table::Table;
use planexe_base::fs::{self, Durability, FsError, Signature};
use planexe_base::record::Digest;

/// The index of a run, shared by all threads.
#[derive(Debug)]
pub struct Index {
    /// Where it is, and where the durations are.
    paths: [PathBuf; 2],
    run_dir: PathBuf,
    boot: String,
    data: RwLock<Data>,
    /// Whether anything was learned of files, and of durations.
    changed: [AtomicBool; 2],
    hashed: AtomicU64,
    now: fn() -> i64,
}

#[derive(Debug, Default, Clone)]
struct Data {
    /// By path.
    files: Table<FileEntry>,
    /// By task.
    stamps: Table<u128>,
    /// By task.
    durations: Table<Durations>,
    null_build: Option<Arc<NullBuildRecord>>,
}

/// What a build with nothing to do rests on, in the form of [`crate::null_build`].
#[derive(Debug, PartialEq)]
pub(crate) struct NullBuildRecord {
    /// What each build reads.
    pub(crate) record: Vec<u8>,
    /// What is read where something changed.
    pub(crate) details: Vec<u8>,
}

/// What a file held while it had a signature that no later change can leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileEntry {
    signature: Signature,
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    digest: blake3::Hash,
}

fn write_digest<S: Serializer>(digest: &blake3::Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(digest.as_bytes())
}

/// At once: it takes much longer as a list of numbers.
fn read_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<blake3::Hash, D::Error> {
    let bytes = <&[u8]>::deserialize(deserializer)?;
    blake3::Hash::from_slice(bytes).map_err(serde::de::Error::custom)
}

/// A task's last durations, seconds, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Durations(Vec<f64>);

impl Durations {
    fn add(&mut self, seconds: f64) {
        if self.0.len() == DURATIONS {
            self.0.remove(0);
        }
        self.0.push(seconds);
    }

    /// The median.
    fn usual(mut self) -> Option<f64> {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied()
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
        let paths = ["index", "durations"].map(|name| store.planexe_dir().join(name));
        let boot = boot_id().unwrap_or_default();
        let mut data = Data::default();
        if let Ok(bytes) = fs::read(&paths[FILES])
            && let Some(seal) = Seal::to_check(store.run_dir(), INDEX)
            && let Some(known) = decode(&bytes, &boot, &seal)
        {
            data = known;
        }
        if let Some(durations) = fs::read(&paths[1]).ok().and_then(|bytes| decode_durations(&bytes)) {
            data.durations = durations;
        }
        Index {
            paths,
            run_dir: store.run_dir().to_owned(),
            boot,
            data: RwLock::new(data),
            changed: Default::default(),
            hashed: AtomicU64::new(0),
            now: fs::now_ns,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.data.read()
    }

    /// To change what is known of files, or of durations.
    fn write(&self, which: usize) -> RwLockWriteGuard<'_, Data> {
        self.changed[which].store(true, Ordering::Relaxed);
        self.data.write()
    }

    /// Files are known by their names relative to the run, so that a run can be moved; others by
    /// their absolute ones.
    fn key(&self, path: &Path) -> String {
        let plain = path.to_str().zip(self.run_dir.to_str());
        if let Some(below) = plain.and_then(|(path, run)| path.strip_prefix(run)?.strip_prefix('/'))
            && !below.starts_with(['/', '.'])
        {
            return below.to_owned();
        }
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

    /// [`Index::digest`] of an input, which may be a link to another file that may be read.
    pub fn digest_of_input(&self, path: &Path) -> Result<Option<(Digest, u64)>, FsError> {
        let seen = self.look_with(path, fs::linked::signature, fs::linked::hash_signed)?;
        Ok(seen.map(|seen| (seen.digest, seen.signature.size)))
    }

    /// [`Index::digest`] with the signature it goes with, and whether both can be trusted until the
    /// signature changes: what a [`Index::set_stamp`] may be made of.
    pub fn look(&self, path: &Path) -> Result<Option<Seen>, FsError> {
        self.look_with(path, fs::signature, fs::hash_signed)
    }

    fn look_with(
        &self,
        path: &Path,
        signature_of: impl Fn(&Path) -> Result<Option<Signature>, FsError>,
        hash: impl Fn(&Path) -> Result<Option<fs::Hashed>, FsError>,
    ) -> Result<Option<Seen>, FsError> {
        let key = self.key(path);
        let known = self.read().files.get(&key);
        if let Some(entry) = known {
            let Some(signature) = signature_of(path)? else { return Ok(None) };
            if entry.signature == signature {
                return Ok(Some(Seen { signature, digest: entry.digest(), settled: true }));
            }
        }
        for last in [false, false, true] {
            let hashed_ns = (self.now)();
            let Some(hashed) = hash(path)? else { return Ok(None) };
            self.hashed.fetch_add(1, Ordering::Relaxed);
            let fs::Hashed { before: mut signature, after, digest, bytes } = hashed;
            if after == signature && bytes == signature.size {
                let settled = !is_racy(&signature, hashed_ns);
                // A file that is still racy is hashed next time anyway: nothing was learned of it.
                if let (true, Ok(digest)) = (settled, blake3::Hash::from_hex(&digest.0)) {
                    self.write(FILES).files.set(&key, Some(FileEntry { signature, digest }));
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
        }
        unreachable!("BUG: the last round returns")
    }

    /// The digest of a file, if it is known without reading it.
    pub fn settled(&self, path: &Path) -> Option<Digest> {
        let signature = fs::signature(path).ok()??;
        let data = self.read();
        let entry = data.files.get(&self.key(path))?;
        (entry.signature == signature).then(|| entry.digest())
    }

    /// How often a file had to be read to know its digest.
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// The stamp of a task: "up to date when everything it depends on had these signatures".
    pub fn stamp(&self, task: &str) -> Option<u128> {
        self.read().stamps.get(task)
    }

    /// Sets or drops a task's stamp. Only signatures of files that were [`Seen::settled`] may be in it.
    pub fn set_stamp(&self, task: &str, stamp: Option<u128>) {
        if self.stamp(task) != stamp {
            self.write(FILES).stamps.set(task, stamp);
        }
    }

    /// A task's last durations in seconds, oldest first.
    pub fn durations(&self, task: &str) -> Vec<f64> {
        self.read().durations.get(task).unwrap_or_default().0
    }

    /// The median of a task's remembered durations, seconds.
    pub fn usual_duration(&self, task: &str) -> Option<f64> {
        self.read().durations.get(task)?.usual()
    }

    /// The median of the remembered durations, of every task of a kind that has some, by name.
    pub fn usual_durations<T: FromIterator<(String, f64)>>(&self, of: impl Fn(&str) -> bool) -> T {
        let data = self.read();
        let known = data.durations.iter().filter(|(task, _)| of(task));
        known.filter_map(|(task, durations)| Some((task.to_owned(), durations.usual()?))).collect()
    }

    /// Records how long an attempt took; the last five count.
    pub fn add_duration(&self, task: &str, seconds: f64) {
        let mut data = self.write(SECONDS);
        let mut durations = data.durations.get(task).unwrap_or_default();
        durations.add(seconds);
        data.durations.set(task, Some(durations));
    }

    /// Before the first task of a build starts: from here to [`Index::save_if_changed`] nothing on disk knows a
    /// file, in case the build is killed.
    pub fn begin_run(&self) -> Result<(), FsError> {
        self.changed[FILES].store(true, Ordering::Relaxed);
        self.forget_null_build()
    }

    /// The next build is to judge the run, whatever the last one found. On disk nothing is known of files until
    /// [`Index::save_if_changed`].
    pub fn forget_null_build(&self) -> Result<(), FsError> {
        self.write(FILES).null_build = None;
        fs::remove(&self.paths[FILES]).map(drop).map_err(|error| error.within(&self.run_dir))
    }

    pub(crate) fn null_build(&self) -> Option<Arc<NullBuildRecord>> {
        self.read().null_build.clone()
    }

    /// Sets what the next build with nothing to do rests on, or drops it.
    pub(crate) fn set_null_build(&self, record: Option<NullBuildRecord>) {
        if self.null_build().as_deref() != record.as_ref() {
            self.write(FILES).null_build = record.map(Arc::new);
        }
    }

    /// Writes the index if something was learned.
    pub fn save_if_changed(&self) -> Result<(), FsError> {
        for (which, changed) in self.changed.iter().enumerate() {
            if !changed.swap(false, Ordering::Relaxed) {
                continue;
            }
            let path = &self.paths[which];
            let mut data = self.data.write();
            let bytes = match which {
                // Without a key none could be believed.
                FILES => {
                    Seal::to_mark(&self.run_dir, INDEX).and_then(|seal| encode(&self.boot, &mut data, &seal))
                }
                _ => encode_durations(&mut data.durations),
            };
            drop(data);
            let Some(bytes) = bytes else { continue };
            let written = match path.parent() {
                Some(dir) => fs::make_dirs(dir, Durability::Unsynced),
                None => Ok(()),
            };
            let written = written.and_then(|()| fs::write_atomic(path, &bytes, Durability::Unsynced));
            if let Err(error) = written {
                changed.store(true, Ordering::Relaxed);
                return Err(error.within(&self.run_dir));
            }
        }
        Ok(())
    }
}

/// Positions in [`Index::paths`] and [`Index::changed`].
const FILES: usize = 0;
const SECONDS: usize = 1;

impl FileEntry {
    fn digest(&self) -> Digest {
        Digest(self.digest.to_hex().to_string())
    }
}

/// A file as the index sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Size, times and inode it had when it was hashed.
    pub signature: Signature,
    /// The digest of its content then.
    pub digest: Digest,
    /// Whether the content is sure to be the same while the signature is.
    pub settled: bool,
}

// ---------------------------------------------------------------- the files

const MAGIC: &[u8] = b"planexe durations 2\n";

fn encode(boot: &str, data: &mut Data, seal: &Seal) -> Option<Vec<u8>> {
    data.files.merge();
    data.stamps.merge();
    let tables = postcard::to_stdvec(&(&data.files, &data.stamps)).ok()?;
    let (record, details) = match data.null_build.as_deref() {
        Some(NullBuildRecord { record, details }) => (&record[..], &details[..]),
        None => Default::default(),
    };
    cache_file::encode(seal, &Parts { boot, record, details, tables: &tables })
}

/// All but the durations; none if this user's planexe did not write it here, or in another boot.
fn decode(bytes: &[u8], boot: &str, seal: &Seal) -> Option<Data> {
    let parts = cache_file::parts(bytes, seal).filter(|parts| parts.boot == boot)?;
    let (files, stamps) = postcard::from_bytes(parts.tables).ok()?;
    let null_build = || NullBuildRecord { record: parts.record.to_vec(), details: parts.details.to_vec() };
    let null_build = (!parts.record.is_empty()).then(|| Arc::new(null_build()));
    Some(Data { files, stamps, null_build, ..Data::default() })
}

/// The null-build record and its details, and whether the tables beside them could be read, as if the mark fitted. For
/// fuzzing.
pub(crate) fn read_unmarked(bytes: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let (record, details, tables) = cache_file::unmarked(bytes)?;
    let tables: Option<(Table<FileEntry>, Table<u128>)> = postcard::from_bytes(tables).ok();
    let whole = tables.is_some();
    if let Some((mut files, mut stamps)) = tables {
        let _ = (files.get("a"), stamps.get("a"));
        files.merge();
        stamps.merge();
    }
    if let Ok(durations) = postcard::from_bytes::<Table<Durations>>(details) {
        let _ = durations.get("a").unwrap_or_default().usual();
    }
    Some((record, details, whole))
}

/// A first line, a checksum and the table.
fn encode_durations(durations: &mut Table<Durations>) -> Option<Vec<u8>> {
    durations.merge();
    let table = postcard::to_stdvec(durations).ok()?;
    Some([MAGIC, blake3::hash(&table).as_bytes(), &table].concat())
}

fn decode_durations(bytes: &[u8]) -> Option<Table<Durations>> {
    let (sum, table) = bytes.strip_prefix(MAGIC)?.split_at_checked(LENGTH)?;
    if blake3::hash(table).as_bytes() != sum {
        return None;
    }
    postcard::from_bytes(table).ok()
}

#[cfg(test)]
mod tests;
