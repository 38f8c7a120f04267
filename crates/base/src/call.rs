//! What every call has: what it used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Tokens and money of one call or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Answer tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the prompt tokens, those the server had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the prompt tokens, those the server put into its cache, where it tells.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Of the answer tokens, those spent on reasoning.
    #[serde(default)]
    pub thinking_tokens: u64,
    /// USD, by the model's price table or the server's own figure.
    #[serde(default)]
    pub cost_usd: f64,
    /// Calls.
    #[serde(default)]
    pub calls: u64,
}

impl Usage {
    /// Adds another's figures.
    pub fn add(&mut self, other: &Usage) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.thinking_tokens = self.thinking_tokens.saturating_add(other.thinking_tokens);
        self.cost_usd += other.cost_usd;
        self.calls = self.calls.saturating_add(other.calls);
    }

    /// Both together.
    pub fn plus(mut self, other: Usage) -> Usage {
        self.add(&other);
        self
    }

    /// One call's figures as far as they can be true: a server, or a file, may tell anything, and all of it is
    /// summed up.
    pub fn believed(mut self) -> Usage {
        const TOKENS: u64 = 1_000_000_000_000;
        const USD: f64 = 1e9;
        for tokens in [
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.cached_tokens,
            &mut self.cache_write_tokens,
            &mut self.thinking_tokens,
        ] {
            *tokens = (*tokens).min(TOKENS);
        }
        if !(0.0..=USD).contains(&self.cost_usd) {
            self.cost_usd = 0.0;
        }
        self
    }
}

/// The four figures of a usage that records of tasks, events and views have.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Totals {
    /// Prompt tokens, cached ones included.
    input_tokens: u64,
    /// Answer tokens, reasoning included.
    output_tokens: u64,
    /// USD.
    cost_usd: f64,
    /// Calls.
    calls: u64,
}

impl Totals {
    fn of(usage: &Usage) -> Totals {
        let Usage { input_tokens, output_tokens, cost_usd, calls, .. } = *usage;
        Totals { input_tokens, output_tokens, cost_usd, calls }
    }
}

/// Writes the four figures that records of tasks, events and views have.
pub fn totals<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    Totals::of(usage).serialize(serializer)
}

/// [`totals`], or null.
pub fn totals_if_any<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
    usage.as_ref().map(Totals::of).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{State, Status};

    #[test]
    fn a_status_has_four_figures_of_a_usage() {
        let usage =
            Usage { input_tokens: 1, output_tokens: 2, cached_tokens: 9, calls: 3, ..Usage::default() };
        let mut status = Status::new("a", State::Done);
        assert_eq!(serde_json::to_value(&status).unwrap()["usage"], serde_json::Value::Null);
        status.result.usage = Some(usage);
        let json = serde_json::to_string(&status).unwrap();
        let figures = r#""usage":{"input_tokens":1,"output_tokens":2,"cost_usd":0.0,"calls":3}"#;
        assert!(json.contains(figures), "{json}");
        let read: Status = serde_json::from_str(&json).unwrap();
        assert_eq!(read.result.usage, Some(Usage { cached_tokens: 0, ..usage }));
    }
}
