//! Values that may be written in more than one shape: a name or a list, a text or a table.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Command, Env, Fail, Inputs, Isolate, Output};

/// A string, or a list of strings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One name.
    One(String),
    /// Names in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The names, in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(name) => std::slice::from_ref(name),
            OneOrMany::Many(names) => names,
        }
    }
}

/// `Deserialize` for an enum whose variants differ by shape. Written out rather than `untagged`, so
/// that a fault inside says what and where, and one of shape says what the shapes are.
macro_rules! by_shape {
    ($type:ident, $wanted:literal $(, text $text:expr)? $(, list $list:expr)? $(, table $table:expr)? $(, number $number:expr)? $(, flag $flag:expr)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Shape;
                impl<'de> Visitor<'de> for Shape {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }
                    $(fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text.to_owned()))
                    })?
                    $(fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(SeqAccessDeserializer::new(list)).map($list)
                    })?
                    $(fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(table)).map($table)
                    })?
                    $(fn visit_f64<E: Error>(self, number: f64) -> Result<$type, E> {
                        Ok($number(number))
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$type, E> {
                        Ok($number(number as f64))
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$type, E> {
                        Ok($number(number as f64))
                    })?
                    $(fn visit_bool<E: Error>(self, flag: bool) -> Result<$type, E> {
                        Ok($flag(flag))
                    })?
                }
                deserializer.deserialize_any(Shape)
            }
        }
    };
}

by_shape!(Inputs, "a list of paths or a table of names and paths", list Inputs::List, table Inputs::Table);
by_shape!(Output, "a path or a table `{ path = …, template = … }`", text Output::Path, table Output::Rendered);
by_shape!(OneOrMany, "a name or a list of names", text OneOrMany::One, list OneOrMany::Many);
by_shape!(Command, "a list of arguments or a line for the shell", text Command::Shell, list Command::Argv);
by_shape!(Env, "a list of names or a table of values", list Env::Names, table Env::Table);
by_shape!(Fail, "a share from 0 to 1 or a table `{ error = …, cut = … }`", table Fail::Shares, number Fail::Error);
by_shape!(Isolate, "true or a table `{ lane = …, base = … }`", table Isolate::Lane, flag Isolate::Flag);
