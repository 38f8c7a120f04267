//! A sorted table of fixed-size records by name, kept as the bytes of its file: reading it takes nothing apart, and
//! writing it back copies what did not change.

use std::collections::BTreeMap;

/// A record as bytes.
pub(super) trait Record: Sized + Clone {
    /// Bytes that each record takes.
    const SIZE: usize;

    /// Appends them, [`Record::SIZE`].
    fn write(&self, out: &mut Vec<u8>);

    /// The record of so many bytes.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// Records by name: those of a file, and what changed since.
#[derive(Debug, Clone)]
pub(super) struct Table<R> {
    /// Records in the order of their names, each followed by the end of its name, a `u32`.
    records: Vec<u8>,
    /// The names, one after the other.
    names: Vec<u8>,
    /// What changed; none: removed.
    changed: BTreeMap<Box<str>, Option<R>>,
}

impl<R> Default for Table<R> {
    fn default() -> Table<R> {
        Table { records: Vec::new(), names: Vec::new(), changed: BTreeMap::new() }
    }
}

impl<R: Record> Table<R> {
    /// Bytes of a record and the end of its name.
    const ROW: usize = R::SIZE + 4;

    /// Takes a table off the front of some bytes, of which a checksum says that they are as they were written.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Table<R>> {
        let mut part = |width: usize| {
            let (count, rest) = bytes.split_first_chunk::<4>()?;
            let (part, rest) =
                rest.split_at_checked(width.checked_mul(u32::from_le_bytes(*count) as usize)?)?;
            *bytes = rest;
            Some(part.to_vec())
        };
        let (records, names) = (part(Self::ROW)?, part(1)?);
        Some(Table { records, names, changed: BTreeMap::new() })
    }

    fn len(&self) -> usize {
        self.records.len() / Self::ROW
    }

    fn end(&self, row: usize) -> usize {
        let at = row * Self::ROW + R::SIZE;
        let end = self.records.get(at..).and_then(|rest| rest.first_chunk::<4>());
        end.map_or(0, |end| u32::from_le_bytes(*end) as usize)
    }

    fn name(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.end(row - 1) };
        self.names.get(start..self.end(row)).unwrap_or_default()
    }

    fn record(&self, row: usize) -> Option<R> {
        R::read(self.records.get(row * Self::ROW..)?.get(..R::SIZE)?)
    }

    /// The row of a name in the file, or that of the first name after it.
    fn row(&self, name: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The record of a name.
    pub(super) fn get(&self, name: &str) -> Option<R> {
        match self.changed.get(name) {
            Some(changed) => changed.clone(),
            None => self.record(self.row(name).ok()?),
        }
    }

    /// Sets the record of a name, or removes it.
    pub(super) fn set(&mut self, name: &str, record: Option<R>) {
        self.changed.insert(name.into(), record);
    }

    /// All names and records: those of the file, then those that changed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, R)> {
        let kept = (0..self.len()).filter_map(|row| {
            let name = std::str::from_utf8(self.name(row)).ok()?;
            if self.changed.contains_key(name) { None } else { Some((name, self.record(row)?)) }
        });
        let changed = self.changed.iter();
        kept.chain(changed.filter_map(|(name, record)| Some((&**name, record.clone()?))))
    }

    /// Appends the table to the bytes of a file: the number of records, the records, the number of bytes of all names,
    /// the names.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (mut records, mut names) = (Vec::new(), Vec::new());
        records.reserve(self.records.len() + self.changed.len() * Self::ROW);
        names.reserve(self.names.len() + self.changed.len() * 32);
        let mut copied = 0;
        for (name, record) in &self.changed {
            let (row, next) = self.row(name).map_or_else(|row| (row, row), |row| (row, row + 1));
            self.copy(copied..row, &mut records, &mut names);
            copied = next;
            if let Some(record) = record {
                record.write(&mut records);
                names.extend(name.as_bytes());
                records.extend((names.len() as u32).to_le_bytes());
            }
        }
        self.copy(copied..self.len(), &mut records, &mut names);
        out.extend(((records.len() / Self::ROW) as u32).to_le_bytes());
        out.extend(records);
        out.extend((names.len() as u32).to_le_bytes());
        out.extend(names);
    }

    /// Copies rows of the file.
    fn copy(&self, rows: std::ops::Range<usize>, records: &mut Vec<u8>, names: &mut Vec<u8>) {
        let start = if rows.start == 0 { 0 } else { self.end(rows.start - 1) };
        let end = if rows.is_empty() { start } else { self.end(rows.end - 1) };
        let (from, moved) = (records.len(), names.len() as i64 - start as i64);
        records.extend(&self.records[rows.start * Self::ROW..rows.end * Self::ROW]);
        names.extend(self.names.get(start..end).unwrap_or_default());
        if moved == 0 {
            return;
        }
        for row in records[from..].chunks_exact_mut(Self::ROW) {
            if let Some(end) = row[R::SIZE..].first_chunk_mut::<4>() {
                *end = ((i64::from(u32::from_le_bytes(*end)) + moved) as u32).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    impl Record for u16 {
        const SIZE: usize = 2;

        fn write(&self, out: &mut Vec<u8>) {
            out.extend(self.to_le_bytes());
        }

        fn read(bytes: &[u8]) -> Option<u16> {
            Some(u16::from_le_bytes(*bytes.first_chunk()?))
        }
    }

    #[test]
    fn it_holds_what_a_map_would_over_many_files() {
        let mut dice = 5u64;
        let mut roll = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        let (mut table, mut map) = (Table::<u16>::default(), BTreeMap::new());
        for _ in 0..60 {
            for _ in 0..roll(12) {
                let name = "n".repeat(roll(3) as usize) + &roll(20).to_string();
                match roll(3) {
                    0 => {
                        table.set(&name, None);
                        map.remove(&name);
                    }
                    _ => {
                        let value = roll(1000) as u16;
                        table.set(&name, Some(value));
                        map.insert(name, value);
                    }
                }
            }
            let same = |table: &Table<u16>| {
                let all: BTreeMap<String, u16> = table.iter().map(|(n, r)| (n.to_owned(), r)).collect();
                assert_eq!(all, map);
                assert!(map.iter().all(|(name, value)| table.get(name) == Some(*value)));
                assert_eq!((table.get("x"), table.get("")), (None, None));
            };
            same(&table);
            let mut bytes = Vec::new();
            table.write(&mut bytes);
            let mut rest = &bytes[..];
            table = Table::take(&mut rest).expect("a table");
            assert!(rest.is_empty());
            same(&table);
        }
    }
}
