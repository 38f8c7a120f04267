//! Two answers compared by a judge that is shown them in both orders: what follows from its two verdicts, and how often
//! the order decided instead of the answers. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use planexe_base::style;

/// Of two answers: which is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Winner {
    /// The one.
    A,
    /// The other.
    B,
    /// Neither.
    Tie,
}

impl Winner {
    /// What the one gets: 1, 0.5 or 0.
    pub fn points(self) -> f64 {
        match self {
            Winner::A => 1.0,
            Winner::Tie => 0.5,
            Winner::B => 0.0,
        }
    }

    /// Seen from the other side.
    pub fn turned(self) -> Winner {
        match self {
            Winner::A => Winner::B,
            Winner::B => Winner::A,
            Winner::Tie => Winner::Tie,
        }
    }
}

/// What the judge said of two answers in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The answer shown first is better.
    First,
    /// The one shown second is.
    Second,
    /// Neither is.
    Tie,
    /// Nothing that can be used, however often it was asked.
    Unusable,
}

/// A comparison: what the judge said with A shown first, and with B shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// With A shown first.
    pub a_first: Said,
    /// With B shown first.
    pub b_first: Said,
}

impl Orders {
    /// Who won: only whom both orders say is better; else it is a tie.
    pub fn winner(self) -> Winner {
        match (self.a_first, self.b_first) {
            (Said::First, Said::Second) => Winner::A,
            (Said::Second, Said::First) => Winner::B,
            _ => Winner::Tie,
        }
    }

    /// Whether both orders say the same.
    pub fn agree(self) -> bool {
        self.winner() != Winner::Tie || (self.a_first, self.b_first) == (Said::Tie, Said::Tie)
    }
}

/// How often the order made a difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Bias {
    /// Comparisons the judge was asked for, each in both orders.
    pub comparisons: u32,
    /// Of these, those in which the orders disagreed, so that they are ties.
    pub disagreed: u32,
    /// Of those that disagreed: twice for the answer shown first.
    pub first: u32,
    /// Twice for the one shown second.
    pub second: u32,
    /// Comparisons in which the judge said nothing that can be used; ties too, not among those that disagreed.
    pub unusable: u32,
    /// Comparisons decided without it: the same answer twice, or one that failed.
    pub unasked: u32,
}

impl Bias {
    /// Counts a comparison the judge was asked for.
    pub fn count(&mut self, orders: Orders) {
        self.comparisons += 1;
        match (orders.a_first, orders.b_first) {
            (Said::Unusable, _) | (_, Said::Unusable) => self.unusable += 1,
            (Said::First, Said::First) => self.first += 1,
            (Said::Second, Said::Second) => self.second += 1,
            _ => {}
        }
        let is_usable = orders.a_first != Said::Unusable && orders.b_first != Said::Unusable;
        self.disagreed += u32::from(is_usable && !orders.agree());
    }

    /// In words.
    pub fn text(&self) -> String {
        let mut text = match self.comparisons {
            0 => "The judge was not asked".to_owned(),
            count => format!(
                "The judge compared {} in both orders; they disagreed in {}",
                style::count(u64::from(count), "pair"),
                self.disagreed
            ),
        };
        match (self.first, self.second) {
            (0, 0) => {}
            (first, 0) => text += &format!(", {first} times for the answer shown first"),
            (0, second) => text += &format!(", {second} times for the answer shown second"),
            (first, second) => {
                text +=
                    &format!(", {first} times for the answer shown first and {second} times for the second");
            }
        }
        if self.disagreed > 0 {
            text += ": ties";
        }
        if self.unusable > 0 {
            text += &format!("; {} without a usable verdict: ties too", self.unusable);
        }
        if self.unasked > 0 {
            text += &format!("; {} decided without it (the same answer, or a failure)", self.unasked);
        }
        text + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_wins_in_both_orders_has_won() {
        use Said::*;
        for (a_first, b_first, winner, agree) in [
            (First, Second, Winner::A, true),
            (Second, First, Winner::B, true),
            (Tie, Tie, Winner::Tie, true),
            (First, First, Winner::Tie, false),
            (Second, Second, Winner::Tie, false),
            (First, Tie, Winner::Tie, false),
            (Tie, First, Winner::Tie, false),
            (Unusable, Second, Winner::Tie, false),
        ] {
            let orders = Orders { a_first, b_first };
            assert_eq!((orders.winner(), orders.agree()), (winner, agree), "{orders:?}");
        }
    }

    #[test]
    fn the_bias_is_told_from_plain_disagreement() {
        let mut bias = Bias::default();
        for (a_first, b_first) in [
            (Said::First, Said::Second),
            (Said::First, Said::First),
            (Said::First, Said::First),
            (Said::Second, Said::Second),
            (Said::First, Said::Tie),
            (Said::Unusable, Said::First),
        ] {
            bias.count(Orders { a_first, b_first });
        }
        assert_eq!(bias, Bias { comparisons: 6, disagreed: 4, first: 2, second: 1, unusable: 1, unasked: 0 });
        assert!(
            bias.text().contains("6 pairs in both orders; they disagreed in 4, 2 times"),
            "{}",
            bias.text()
        );
    }
}
