//! Events as JSON lines, for programs.

use std::io::Write;

use crate::progress::{Sink, Snapshot, write};
use planexe_base::event::Event;

/// One line of JSON for each event.
pub struct Json {
    to: Box<dyn Write + Send>,
}

impl Json {
    /// Writes to a stream.
    pub fn new(to: Box<dyn Write + Send>) -> Json {
        Json { to }
    }
}

impl Sink for Json {
    fn event(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            write(&mut self.to, &(line + "\n"));
        }
    }

    fn tick(&mut self, _: &Snapshot) {}

    /// The last event has said it all.
    fn finish(&mut self, _: &str) {}
}
