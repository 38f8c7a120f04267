//! Figures of a plan: exact numbers, units and dates, facts with formulas over other facts, and the arithmetic that texts
//! claim. All of it is computed here, and none of it by a model.

mod brackets;
mod claims;
mod dates;
mod edits;
mod evidence;
mod facts;
mod former;
mod formula;
mod languages;
mod lists;
mod moved;
mod named;
mod number;
mod ranges;
mod scan;
mod tables;
#[cfg(test)]
mod test;
mod uncited;
mod unit;
mod words;

pub use claims::arithmetic;
pub use dates::{Calendar, Phase};
pub use edits::{Edit, edit};
pub use evidence::{
    Finding, Kept, LONGEST_EXCERPT, SCHEMA as SOURCE_SCHEMA, Source, Standing, addresses, judge, name_of,
    quotes,
};
pub use facts::{Fact, FactFault, Ledger};
pub use former::{gone, still};
pub use formula::Amount;
pub use moved::{Move, dates_of, last_day};
pub use number::Number;
pub use uncited::{line_with, misstated, uncited};
pub use unit::{Unit, in_number};

use serde::Serialize;

/// Something a text says that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextFault {
    /// The line, from 1.
    pub line: usize,
    /// What the text says, shortened.
    pub said: String,
    /// What is wrong with it, with what was computed.
    pub message: String,
}

impl std::fmt::Display for TextFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {} (found “{}”)", self.line, self.message, self.said)
    }
}
