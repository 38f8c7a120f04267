//! Lines for a log: one when a task starts, ends or fails, with the time of day (UTC); nothing is drawn twice
//! and nothing is repeated.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use crate::progress::lines::{self, NameColumns};
use crate::progress::{Sink, Snapshot, write};
use planexe_base::event::{Event, Kind};
use planexe_base::record::State;
use planexe_base::style::{self, Style, clean};

/// Seconds of silence after which a line says what is still running, so that CI does not give up on us.
const SILENCE_S: f64 = 300.0;

/// Plain lines.
pub struct Plain {
    to: Box<dyn Write + Send>,
    style: Style,
    explain: bool,
    verbose: bool,
    names: NameColumns,
    notes: HashSet<String>,
    doing: HashMap<String, String>,
    now_s: f64,
    last_line_s: f64,
}

impl Plain {
    /// Writes to a stream. `explain` shows why tasks are stale; `verbose` what they do.
    pub fn new(to: Box<dyn Write + Send>, style: Style, explain: bool, verbose: bool) -> Plain {
        Plain {
            to,
            // Lines of a log are not cut.
            style: Style { width: None, ..style },
            explain,
            verbose,
            names: NameColumns::new(),
            notes: HashSet::new(),
            doing: HashMap::new(),
            now_s: 0.0,
            last_line_s: 0.0,
        }
    }

    fn line(&mut self, line: &str) {
        write(&mut self.to, &format!("{line}\n"));
        self.last_line_s = self.now_s;
    }

    fn of(&mut self, kind: &Kind) -> Option<String> {
        match kind {
            Kind::PipelineStarted { pipeline, run_id_dir, steps_total, .. } => Some(format!(
                "planexe: {}, {} in {}",
                clean(pipeline),
                style::count(u64::from(*steps_total), "task"),
                clean(run_id_dir)
            )),
            Kind::TaskStarted { task, attempt, model, recipe } => {
                let mut what: Vec<String> = model.iter().map(|model| clean(model)).collect();
                if recipe == "eval" {
                    what.push("evaluation".to_owned());
                } else if recipe == "merge" {
                    what.push("merging".to_owned());
                }
                if *attempt > 1 {
                    what.push(format!("attempt {attempt}"));
                }
                Some(lines::row(&self.style, self.names, State::Running, task, &what.join(", ")))
            }
            Kind::TaskProgress { task, doing } if self.verbose => {
                // A count that rises is no news.
                let kind_of_work: String = doing.chars().filter(|c| !c.is_ascii_digit()).collect();
                let before = self.doing.insert(task.clone(), kind_of_work.clone());
                (before.as_ref() != Some(&kind_of_work))
                    .then(|| lines::row(&self.style, self.names, State::Running, task, &clean(doing)))
            }
            Kind::Note { .. } => lines::of_event(kind, &self.style, self.names, self.explain)
                .filter(|line| self.notes.insert(line.clone())),
            _ => lines::of_event(kind, &self.style, self.names, self.explain),
        }
    }
}

impl Sink for Plain {
    fn event(&mut self, event: &Event) {
        self.names.meet(&event.kind);
        if let Some(line) = self.of(&event.kind) {
            let time = event.timestamp_utc.get(11..19);
            let time = time.map(|time| self.style.dim(&(clean(time) + "Z "))).unwrap_or_default();
            self.line(&(time + &line));
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.now_s = snapshot.elapsed_s;
        if self.now_s - self.last_line_s < SILENCE_S || snapshot.running.is_empty() {
            return;
        }
        let named: Vec<String> = snapshot
            .running
            .iter()
            .take(3)
            .map(|running| {
                let doing = clean(&running.doing);
                let doing = if doing.is_empty() { doing } else { format!(", {doing}") };
                format!("{} ({}{doing})", clean(&running.task), style::elapsed(running.elapsed_s))
            })
            .collect();
        let more = snapshot.running.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let line = format!(
            "planexe: {} of {} done after {}; running: {}{more}",
            snapshot.done,
            snapshot.total,
            style::elapsed(snapshot.elapsed_s),
            named.join(", "),
        );
        self.line(&line);
    }

    fn finish(&mut self, closing: &str) {
        write(&mut self.to, closing);
    }
}
