//! Append-only files with one JSON object per line. The next build cuts off a torn last line.

use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use planexe_base::fs::{self, Durability, FsError};

/// What was done to a file whose end was torn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Bytes cut off; 0 if only the last newline was missing.
    pub cut_bytes: u64,
    /// Where they are kept.
    pub kept: Option<PathBuf>,
}

/// How much of the end is looked at first; four times as much while all of it is damaged.
const WINDOW: u64 = 1 << 16;

/// Cuts a torn end off: whatever follows the last line that is whole. A last line that only lacks its
/// newline gets it. What is cut is kept in `partial_dir`; of an end that is longer than any line of ours, the whole file
/// is, so that it need not be in memory. `None` if nothing was wrong.
pub fn mend(path: &Path, partial_dir: &Path) -> Result<Option<Mended>, FsError> {
    if fs::kind(path)? != Some(fs::FileKind::File) {
        return Ok(None);
    }
    let mut window = WINDOW;
    let (tail, total, end) = loop {
        let (tail, total) = fs::read_tail(path, window)?;
        let whole = tail.len() as u64 == total;
        match sound_end(&tail, whole) {
            Some(end) => break (tail, total, end),
            None if window < LONGEST => window *= 4,
            None => return mend_large(path, partial_dir),
        }
    };
    let start = total - tail.len() as u64;
    match end {
        End::Sound => Ok(None),
        End::NewlineMissing => {
            fs::append_line(path, b"", Durability::Synced)?;
            Ok(Some(Mended { cut_bytes: 0, kept: None }))
        }
        End::CutAt(at) => {
            let torn = &tail[at..];
            fs::make_dirs(partial_dir, Durability::Synced)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = blake3::hash(torn).to_hex();
            let kept = partial_dir.join(format!("{name}.torn-{}-{}", start + at as u64, &digest[..8]));
            fs::write_atomic(&kept, torn, Durability::Synced)?;
            fs::truncate(path, start + at as u64)?;
            Ok(Some(Mended { cut_bytes: torn.len() as u64, kept: Some(kept) }))
        }
    }
}

/// The same for a file of which more than [`LONGEST`] is damaged: it is read from its start, a line at a time.
fn mend_large(path: &Path, partial_dir: &Path) -> Result<Option<Mended>, FsError> {
    let failed = |source| FsError::new(path, "read", source);
    let mut reader = std::io::BufReader::new(fs::open(path)?);
    let (mut line, mut total, mut sound) = (Vec::new(), 0, 0);
    loop {
        let read = next_line(&mut reader, &mut line).map_err(failed)?;
        if read == 0 {
            break;
        }
        total += read;
        if line.ends_with(b"\n") && is_line(&line) {
            sound = total;
        }
    }
    fs::make_dirs(partial_dir, Durability::Synced)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = partial_dir.join(format!("{name}.whole-{total}"));
    let copy = fs::copy_to_private_temp(path, partial_dir, Durability::Synced)?;
    fs::rename(&copy, &kept, Durability::Synced)?;
    fs::truncate(path, sound)?;
    Ok(Some(Mended { cut_bytes: total - sound, kept: Some(kept) }))
}

#[derive(Debug, PartialEq)]
enum End {
    Sound,
    NewlineMissing,
    CutAt(usize),
}

/// Where the sound part of a tail ends; `None` if that lies before it. `whole`: the tail is the file.
fn sound_end(tail: &[u8], whole: bool) -> Option<End> {
    let mut end = tail.len();
    loop {
        if end == 0 {
            return whole.then_some(if tail.is_empty() { End::Sound } else { End::CutAt(0) });
        }
        let ended = tail[end - 1] == b'\n';
        let line_end = if ended { end - 1 } else { end };
        let line_start = tail[..line_end].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if line_start == 0 && !whole {
            return None;
        }
        let line = &tail[line_start..line_end];
        let sound = is_line(line) || (ended && line.iter().all(u8::is_ascii_whitespace));
        match (sound, end == tail.len(), ended) {
            (true, true, true) => return Some(End::Sound),
            (true, true, false) => return Some(End::NewlineMissing),
            (true, false, _) => return Some(End::CutAt(end)),
            (false, ..) => end = line_start,
        }
    }
}

fn is_line(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, Value>>(line).is_ok()
}

/// Appends one record as a line, with one write.
pub fn append(path: &Path, record: &impl Serialize, durability: Durability) -> Result<(), FsError> {
    fs::append_line(path, &to_line(record), durability).map(drop)
}

/// A record as one line, without the newline.
pub fn to_line(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("BUG: a record is always JSON")
}

/// Records as lines, each with its newline.
pub fn to_lines(records: &[impl Serialize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(to_line(record));
        bytes.push(b'\n');
    }
    bytes
}

/// A longer line is none of ours: it is passed over, and never in memory as a whole.
const LONGEST: u64 = 64 << 20;

/// Reads the next line, with its newline, in the place of what `line` holds, and returns how many bytes were read: 0 at
/// the end. A line that is too long is read to its end and leaves `line` empty, or with the newline alone.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    let mut read = reader.by_ref().take(LONGEST).read_until(b'\n', line)? as u64;
    if read < LONGEST || line.ends_with(b"\n") {
        return Ok(read);
    }
    *line = Vec::new();
    loop {
        let block = reader.fill_buf()?;
        let end = block.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(block.len(), |at| at + 1);
        reader.consume(taken);
        read += taken as u64;
        if end.is_some() {
            line.push(b'\n');
        }
        if end.is_some() || taken == 0 {
            return Ok(read);
        }
    }
}

/// Reads a file line by line; a line that is no JSON gives its number, from 1. No file: no lines.
pub fn read_lines(path: &Path) -> Result<Lines, FsError> {
    Ok(Lines { reader: fs::optional(fs::open(path))?.map(std::io::BufReader::new), number: 0 })
}

/// The iterator of [`read_lines`].
#[derive(Debug)]
pub struct Lines {
    reader: Option<std::io::BufReader<std::fs::File>>,
    number: usize,
}

impl Iterator for Lines {
    type Item = Result<Value, usize>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            match next_line(self.reader.as_mut()?, &mut line) {
                Ok(0) => return None,
                Ok(read) => {
                    self.number += 1;
                    if read > LONGEST {
                        return Some(Err(self.number));
                    }
                }
                Err(_) => {
                    self.reader = None;
                    self.number += 1;
                    return Some(Err(self.number));
                }
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(serde_json::from_slice(&line).map_err(|_| self.number));
        }
    }
}

/// The records of a file that can be read as `T`; others are passed over.
pub fn read_records<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, FsError> {
    Ok(read_lines(path)?.filter_map(|line| serde_json::from_value(line.ok()?).ok()).collect())
}

/// The records of a file that is to be written anew without some of them: a line that cannot be read is an error, as
/// it would be lost. What is torn at the end is passed over.
pub fn read_to_rewrite<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, FsError> {
    let (mut records, mut damaged) = (Vec::new(), None);
    let mut lines = read_lines(path)?;
    while let Some(line) = lines.next() {
        let record = line.ok().and_then(|line| serde_json::from_value(line).ok());
        let end_is_unknown = lines.reader.is_none();
        if record.is_none() {
            damaged = damaged.or(Some(lines.number));
        }
        if let Some(number) = damaged.filter(|_| record.is_some() || end_is_unknown) {
            let reason = format!("line {number} is damaged, and what it tells of would be lost");
            return Err(FsError::new(path, "read", std::io::Error::other(reason)));
        }
        records.extend(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "{\"n\":1}\n{\"n\":2,\"text\":\"a } b\"}\n{\"n\":3}\n";

    fn lines(path: &Path) -> Vec<u64> {
        read_lines(path).unwrap().map(|line| line.unwrap()["n"].as_u64().unwrap()).collect()
    }

    #[test]
    fn cut_at_every_length_it_is_mended_and_grows_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("log.jsonl"), dir.path().join("partial"));
        for len in 0..=LOG.len() {
            fs::write_atomic(&path, &LOG.as_bytes()[..len], Durability::Unsynced).unwrap();
            let mended = mend(&path, &partial).unwrap();
            let whole = LOG[..len].matches('\n').count();
            // A line that lacks nothing but its newline is whole.
            let complete = whole + usize::from(LOG[len..].starts_with('\n'));
            assert_eq!(lines(&path).len(), complete, "{len}");
            assert_eq!(mended.is_some(), !LOG[..len].is_empty() && !LOG[..len].ends_with('\n'), "{len}");
            if let Some(Mended { cut_bytes, kept: Some(kept) }) = &mended {
                let torn = fs::read_to_string(kept).unwrap();
                assert_eq!(torn.len() as u64, *cut_bytes);
                assert!(LOG[..len].ends_with(&torn));
            }
            assert_eq!(mend(&path, &partial).unwrap(), None, "{len}");
            append(&path, &serde_json::json!({ "n": 9 }), Durability::Synced).unwrap();
            assert_eq!(lines(&path).last(), Some(&9));
            assert_eq!(lines(&path).len(), complete + 1);
        }
    }

    #[test]
    fn a_file_with_a_damaged_line_is_not_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let read = |text: &str| {
            fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
            let records = read_to_rewrite::<std::collections::BTreeMap<String, Value>>(&path);
            records.map(|records| records.len()).map_err(|error| error.reason())
        };
        assert_eq!(read(LOG), Ok(3));
        assert_eq!(read(&format!("{LOG}{{\"n\":")), Ok(3), "a torn end");
        for damaged in [format!("{LOG}\n\0\0\n{LOG}"), format!("{LOG}\n[4]\n{LOG}")] {
            assert!(read(&damaged).is_err_and(|reason| reason.starts_with("line 5 is damaged")));
        }
    }

    #[test]
    fn nul_bytes_and_garbage_at_the_end_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("log.jsonl"), dir.path().join("partial"));
        let huge = "x".repeat(300_000);
        for (tail, cut) in [
            ("\0\0\0\0", 4),
            ("\0\0\n\0\0\n", 6),
            ("{\"n\":4\n", 7),
            ("garbage\n[1]\n", 12),
            (huge.as_str(), 300_000),
        ] {
            fs::write_atomic(&path, format!("{LOG}{tail}").as_bytes(), Durability::Unsynced).unwrap();
            let mended = mend(&path, &partial).unwrap().unwrap();
            assert_eq!(mended.cut_bytes, cut);
            assert_eq!(fs::read_to_string(&mended.kept.unwrap()).unwrap(), tail);
            assert_eq!(fs::read_to_string(&path).unwrap(), LOG);
        }
    }

    #[test]
    fn of_an_end_too_long_for_memory_the_whole_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("log.jsonl"), dir.path().join("partial"));
        fs::write_atomic(&path, LOG.as_bytes(), Durability::Unsynced).unwrap();
        // A hole, as a power cut leaves it.
        let length = LOG.len() as u64 + 2 * LONGEST;
        fs::truncate(&path, length).unwrap();
        let mended = mend(&path, &partial).unwrap().unwrap();
        assert_eq!(mended.cut_bytes, 2 * LONGEST);
        assert_eq!(std::fs::metadata(mended.kept.unwrap()).unwrap().len(), length);
        assert_eq!(fs::read_to_string(&path).unwrap(), LOG);
        assert_eq!(mend(&path, &partial).unwrap(), None);
    }

    #[test]
    fn what_is_sound_or_not_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("log.jsonl"), dir.path().join("partial"));
        assert_eq!(mend(&path, &partial).unwrap(), None);
        assert_eq!(lines(&path), Vec::<u64>::new());
        for text in ["", LOG, "{\"n\":1}\n\n", "\n"] {
            fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
            assert_eq!(mend(&path, &partial).unwrap(), None, "{text:?}");
        }
        // All garbage: cut, yet kept.
        fs::write_atomic(&path, b"garbage", Durability::Unsynced).unwrap();
        assert_eq!(mend(&path, &partial).unwrap().unwrap().cut_bytes, 7);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_bad_line_in_the_middle_is_numbered_and_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        fs::write_atomic(&path, b"{\"n\":1}\nbad\n\n\xff\n{\"n\":2}\n", Durability::Unsynced).unwrap();
        let read: Vec<_> =
            read_lines(&path).unwrap().map(|line| line.map(|v| v["n"].as_u64().unwrap())).collect();
        assert_eq!(read, [Ok(1), Err(2), Err(4), Ok(2)]);
        assert_eq!(read_records::<Value>(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_line_without_end_is_never_in_memory() {
        let long = std::io::repeat(b'a').take(3 * LONGEST);
        let mut reader = std::io::BufReader::new(long.chain(&b"\n{}\nrest"[..]));
        let mut line = Vec::new();
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), 3 * LONGEST + 1);
        assert!(line == b"\n" && line.capacity() < 1000);
        assert_eq!((next_line(&mut reader, &mut line).unwrap(), &line[..]), (3, &b"{}\n"[..]));
        assert_eq!((next_line(&mut reader, &mut line).unwrap(), &line[..]), (4, &b"rest"[..]));
        assert_eq!(next_line(&mut reader, &mut line).unwrap(), 0);
    }
}
