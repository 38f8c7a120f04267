//! What every call has: what it used.

use serde::{Deserialize, Serialize};

/// Tokens and money of one call or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.thinking_tokens += other.thinking_tokens;
        self.cost_usd += other.cost_usd;
        self.calls += other.calls;
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
