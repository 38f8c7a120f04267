//! From the tree of nodes to typed tables, with all faults at once.
//!
//! Plain serde stops at the first error. Here an error carries the path it happened at; the reader
//! notes it, takes that node out of the tree and tries again, so one pass over the file collects
//! everything that is wrong with it.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};

use super::advice::{self, Wanted, What};
use super::diagnostic::{At, Diagnostic, list_of};
use super::place::{Entry, Kind, Node, Step, TablePath};
use super::types::{Map, Tables};
use planexe_base::cores;

/// What went wrong, and where, counted from the node that was read.
#[derive(Debug)]
pub struct ReadError {
    /// Steps to it, innermost first.
    steps: Vec<Step>,
    what: What,
}

impl ReadError {
    fn new(what: What) -> ReadError {
        ReadError { steps: Vec::new(), what }
    }

    fn under(mut self, step: Step) -> ReadError {
        self.steps.push(step);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // serde wants it; nobody is shown this, but a `Diagnostic` made from it.
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        ReadError::new(What::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> ReadError {
        ReadError::new(What::Wrong { found: describe(&found), wanted: said(wanted) })
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> ReadError {
        ReadError::invalid_type(found, wanted)
    }

    fn invalid_length(length: usize, wanted: &dyn de::Expected) -> ReadError {
        ReadError::new(What::Wrong { found: format!("a list of {length}"), wanted: said(wanted) })
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> ReadError {
        ReadError::new(What::UnknownWord { word: word.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> ReadError {
        ReadError::new(What::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> ReadError {
        ReadError::new(What::Missing(key))
    }
}

fn describe(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(truth) => format!("`{truth}`"),
        Unexpected::Unsigned(number) => format!("the integer {number}"),
        Unexpected::Signed(number) => format!("the integer {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => Kind::Text((*text).to_owned()).describe(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// What a type says of itself that takes several kinds of values.
fn said(wanted: &dyn de::Expected) -> Wanted {
    let words = wanted.to_string();
    // The one type of another crate that does: of all that TOML has, JSON lacks dates alone.
    match words.as_str() {
        "any valid JSON value" => {
            Wanted::Words("a string, a number, a truth value, a list or a table".to_owned())
        }
        _ => Wanted::Words(words),
    }
}

/// A node as serde reads it.
#[derive(Clone, Copy)]
struct NodeDe<'a> {
    node: &'a Node,
}

impl<'a> NodeDe<'a> {
    fn wrong(&self, wanted: Wanted) -> ReadError {
        ReadError::new(What::Wrong { found: self.node.kind.describe(), wanted })
    }

    fn words(&self, wanted: impl Into<String>) -> ReadError {
        self.wrong(Wanted::Words(wanted.into()))
    }

    /// A whole number of a type with this range, if that is less than all that TOML has.
    fn whole<'de, V: Visitor<'de>>(
        self,
        least: Option<i64>,
        most: Option<i64>,
        visitor: V,
    ) -> Result<V::Value, ReadError>
    where
        'a: 'de,
    {
        match &self.node.kind {
            Kind::Integer(number)
                if least.is_none_or(|least| *number >= least) && most.is_none_or(|most| *number <= most) =>
            {
                self.deserialize_any(visitor)
            }
            Kind::Integer(_) => Err(self.wrong(Wanted::Whole { least, most })),
            Kind::Huge(_) => self.deserialize_any(visitor),
            Kind::Float(number) if !number.is_finite() => self.deserialize_any(visitor),
            // Of what is no whole number at all the greatest is not what is the matter.
            _ => Err(self.wrong(Wanted::Whole { least: least.filter(|least| *least == 0), most: None })),
        }
    }
}

/// Reads whole numbers of types with a range.
macro_rules! whole_numbers {
    ($($method:ident: $least:expr, $most:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.whole($least, $most, visitor)
        })*
    };
}

/// Reads what is written in one way alone.
macro_rules! plain_values {
    ($($method:ident: $kind:pat, $wanted:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            match &self.node.kind {
                $kind | Kind::Huge(_) => self.deserialize_any(visitor),
                _ => Err(self.wrong($wanted)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for NodeDe<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Table(entries) => visitor.visit_map(MapReader { entries: entries.iter(), next: None }),
            Kind::List(items) => visitor.visit_seq(ListReader { items: items.iter().enumerate() }),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Kind::Huge(number) => Err(ReadError::new(What::Wrong {
                found: format!("the integer {number}"),
                wanted: Wanted::Words("one that fits 64 bits".to_owned()),
            })),
            Kind::Float(number) if !number.is_finite() => Err(self.words("a finite number")),
            Kind::Float(number) => visitor.visit_f64(*number),
            Kind::Bool(truth) => visitor.visit_bool(*truth),
            Kind::Datetime(_) => Err(self.wrong(said(&visitor))),
            Kind::Removed => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Removed => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Table(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(Wanted::Table)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Table(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(Wanted::Table)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(Wanted::List)),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Integer(number) => visitor.visit_f64(*number as f64),
            Kind::Float(_) | Kind::Huge(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(Wanted::Number)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Text(word) => {
                let word: StrDeserializer<'_, ReadError> = word.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => {
                let list = list_of(known.iter().copied()).unwrap_or_default();
                Err(self.words(format!("one of the strings {list}")))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    whole_numbers! {
        deserialize_u8: Some(0), Some(u8::MAX.into());
        deserialize_u16: Some(0), Some(u16::MAX.into());
        deserialize_u32: Some(0), Some(u32::MAX.into());
        deserialize_u64: Some(0), None;
        deserialize_i32: Some(i32::MIN.into()), Some(i32::MAX.into());
        deserialize_i64: None, None;
    }

    plain_values! {
        deserialize_bool: Kind::Bool(_), Wanted::Flag;
        deserialize_str: Kind::Text(_), Wanted::Text;
        deserialize_string: Kind::Text(_), Wanted::Text;
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 char bytes byte_buf
        unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct MapReader<'a> {
    entries: indexmap::map::Iter<'a, String, Entry>,
    next: Option<(&'a str, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for MapReader<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, entry)) = self.entries.find(|(_, entry)| !matches!(entry.value.kind, Kind::Removed))
        else {
            return Ok(None);
        };
        self.next = Some((key, &entry.value));
        let name: StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| error.under(key.into()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = self.next.take().expect("BUG: a value was asked for before its key");
        seed.deserialize(NodeDe { node }).map_err(|error| error.under(key.into()))
    }
}

struct ListReader<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for ListReader<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.items.find(|(_, node)| !matches!(node.kind, Kind::Removed)) else {
            return Ok(None);
        };
        seed.deserialize(NodeDe { node }).map(Some).map_err(|error| error.under(index.into()))
    }
}

/// Reads a node once.
fn read_once<'a, T: Deserialize<'a>>(node: &'a Node) -> Result<T, ReadError> {
    T::deserialize(NodeDe { node })
}

/// Reads a tree in which nothing is wrong; none, if anything is. Many tasks are read on all cores.
pub(super) fn read_whole(root: &mut Node) -> Option<Tables> {
    let entries = root.table_mut()?;
    let tasks = entries.get("task").and_then(|tasks| tasks.value.table());
    if tasks.is_none_or(|tasks| tasks.len() < cores::WORTH_IT) {
        return read_once(root).ok();
    }
    let (at, key, tasks) = entries.shift_remove_full("task")?;
    let tables = read_once::<Tables>(root).ok().and_then(|tables| {
        let entries: Vec<(&String, &Entry)> = tasks.value.table()?.iter().collect();
        let read = cores::map(&entries, |(_, entry)| read_once(&entry.value).ok());
        let mut task = Map::with_capacity(read.len());
        for ((name, _), read) in entries.into_iter().zip(read) {
            task.insert(name.clone(), read?);
        }
        Some(Tables { task, ..tables })
    });
    root.table_mut()?.shift_insert(at, key, tasks);
    tables
}

/// Most faults of this kind that are collected before giving up on the rest.
const ENOUGH: usize = 100;

/// Reads the value at `path`, taking out what is wrong and noting it, until the rest can be read.
pub(super) fn read<T: Default + for<'a> Deserialize<'a>>(
    root: &mut Node,
    path: &TablePath,
    faults: &mut Vec<Diagnostic>,
) -> T {
    loop {
        let error = match root.find_mut(&path.0) {
            None => return T::default(),
            Some(node) if matches!(node.kind, Kind::Removed) => return T::default(),
            Some(node) => match read_once::<T>(node) {
                Ok(value) => return value,
                Err(error) => error,
            },
        };
        let mut at = path.clone();
        at.0.extend(error.steps.iter().rev().cloned());
        // What a fault below took out is not missed again above.
        let secondary = matches!(error.what, What::Missing(_))
            && faults.iter().any(|fault| matches!(&fault.at, At::Path(other) if other.is_within(&at)));
        let Some(node) = root.find_mut(&at.0) else { return T::default() };
        if !secondary {
            faults.push(advice::fault(&error.what, &node.kind, &at));
        }
        node.kind = Kind::Removed;
        if faults.len() >= ENOUGH {
            return T::default();
        }
    }
}
