//! Progress.

/// How to show what happens in a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum How {
    /// Live lines on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A line when a task starts, ends or fails
    Plain,
    /// Events as JSON lines on standard error
    Json,
    /// Nothing but the end
    None,
}
