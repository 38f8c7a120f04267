//! Values of a manifest that may be written in more than one shape: a name or a list, a text or a table.

/// `Deserialize` for an enum whose variants differ by shape. Written out rather than `untagged`, so
/// that a fault inside says what and where, and one of shape says what the shapes are.
#[macro_export]
macro_rules! by_shape {
    ($type:ident, $wanted:literal $(, text $text:expr)? $(, list $list:expr)? $(, table $table:expr)? $(, number $number:expr)? $(, flag $flag:expr)?) => {
        #[allow(unused_imports, reason = "each enum has some of the shapes")]
        const _: () = {
        use std::fmt;

        use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
        use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

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
    };
}
