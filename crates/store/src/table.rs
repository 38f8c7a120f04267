//! A sorted table of records by name. Names are one text and rows one list, so that reading a table allocates nothing for
//! each of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Records by name: those of a file, and what changed since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Table<R> {
    /// The names, one after the other, in order.
    names: String,
    /// For each name its end and its record.
    rows: Vec<(u32, R)>,
    /// What changed; none: removed.
    #[serde(skip, default = "BTreeMap::new")]
    changed: BTreeMap<Box<str>, Option<R>>,
}

impl<R> Default for Table<R> {
    fn default() -> Table<R> {
        Table { names: String::new(), rows: Vec::new(), changed: BTreeMap::new() }
    }
}

impl<R: Clone> Table<R> {
    fn name(&self, row: usize) -> &str {
        let end = |row: usize| self.rows[row].0 as usize;
        let start = if row == 0 { 0 } else { end(row - 1) };
        self.names.get(start..end(row)).unwrap_or_default()
    }

    /// The row of a name, or that of the first name after it.
    fn row(&self, name: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
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
            None => Some(self.rows[self.row(name).ok()?].1.clone()),
        }
    }

    /// Sets the record of a name, or removes it.
    pub(super) fn set(&mut self, name: &str, record: Option<R>) {
        self.changed.insert(name.into(), record);
    }

    /// All names and records: those of the file, then those that changed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, R)> {
        let kept = (0..self.rows.len()).filter_map(|row| {
            let name = self.name(row);
            if self.changed.contains_key(name) { None } else { Some((name, self.rows[row].1.clone())) }
        });
        let changed = self.changed.iter();
        kept.chain(changed.filter_map(|(name, record)| Some((&**name, record.clone()?))))
    }

    /// Puts what changed among the rows: only those are written.
    pub(super) fn merge(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let mut merged = Table { names: String::with_capacity(self.names.len()), ..Table::default() };
        merged.rows.reserve(self.rows.len() + changed.len());
        let mut copied = 0;
        for (name, record) in changed {
            let (row, next) = self.row(&name).map_or_else(|row| (row, row), |row| (row, row + 1));
            merged.append(self, copied..row);
            copied = next;
            if let Some(record) = record {
                merged.names.push_str(&name);
                merged.rows.push((merged.names.len() as u32, record));
            }
        }
        merged.append(self, copied..self.rows.len());
        *self = merged;
    }

    /// Appends rows of another table.
    fn append(&mut self, other: &Table<R>, rows: std::ops::Range<usize>) {
        for row in rows {
            self.names.push_str(other.name(row));
            self.rows.push((self.names.len() as u32, other.rows[row].1.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

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
            table.merge();
            let bytes = postcard::to_stdvec(&table).expect("bytes");
            table = postcard::from_bytes(&bytes).expect("a table");
            same(&table);
        }
    }
}
