//! Live lines on a terminal: one for each running task and one for the whole, redrawn in place; what is finished
//! scrolls away above them.
//!
//! Drawn by hand rather than by a progress bar crate, for the sake of resizing: a line that was drawn on a wider
//! terminal now takes several rows, and only who knows its width can go back over all of them. The cursor
//! rests in the first column under the live lines and is never hidden, so that `^C`, a crash or a `kill -9` leave
//! the terminal as it should be.

use std::io::Write;

use crate::event::{Event, Kind};
use crate::progress::lines::{self, NameColumns};
use crate::progress::{Running, Sink, Snapshot, write};
use crate::style::{self, Rgb, Shown, Style, clean, pad, pad_left};

/// Columns and rows of a terminal, asked each time as it may be resized.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// Live lines.
pub struct Fancy {
    to: Box<dyn Write + Send>,
    style: Style,
    explain: bool,
    size: Size,
    names: NameColumns,
    /// Columns of each live line as drawn.
    drawn: Vec<usize>,
    latest: Snapshot,
    begun: bool,
}

impl Fancy {
    /// Draws on a terminal of a size. `explain` shows why tasks are stale.
    pub fn new(to: Box<dyn Write + Send>, style: Style, explain: bool, size: Size) -> Fancy {
        Fancy {
            to,
            style,
            explain,
            size,
            names: NameColumns::new(),
            drawn: Vec::new(),
            latest: Snapshot::default(),
            begun: false,
        }
    }

    /// Goes back over the live lines, writes what is to stay, then the live lines anew, in one write.
    fn draw(&mut self, above: &str, live: &[String]) {
        let (columns, _) = (self.size)();
        let columns = columns.max(1);
        let rows: usize = self.drawn.iter().map(|&width| width.max(1).div_ceil(columns)).sum();
        let mut text = String::new();
        if rows > 0 {
            text += &format!("\x1b[{rows}A\r");
        }
        for line in above.lines().chain(live.iter().map(String::as_str)) {
            text += line;
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        if !(rows == 0 && above.is_empty() && live.is_empty()) {
            write(&mut self.to, &text);
        }
        self.drawn = live.iter().map(|line| style::width(line)).collect();
    }

    fn live(&self) -> Vec<String> {
        if !self.begun {
            return Vec::new();
        }
        let (columns, rows) = (self.size)();
        live_lines(&self.latest, &Style { width: Some(columns.max(2) - 1), ..self.style }, self.names, rows)
    }
}

impl Sink for Fancy {
    fn event(&mut self, event: &Event) {
        self.names.meet(&event.kind);
        let (columns, _) = (self.size)();
        let style = Style { width: Some(columns.max(20)), ..self.style };
        if let Some(task) = ended(&event.kind) {
            // The next snapshot knows; until then it is not to be drawn below its own end.
            self.latest.running.retain(|running| running.task != *task);
        }
        if let Some(line) = lines::of_event(&event.kind, &style, self.names, self.explain) {
            let live = self.live();
            self.draw(&line, &live);
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.latest = snapshot.clone();
        self.begun = true;
        let live = self.live();
        self.draw("", &live);
    }

    fn finish(&mut self, closing: &str) {
        self.begun = false;
        self.draw(closing, &[]);
    }
}

/// The task whose end an event is.
fn ended(kind: &Kind) -> Option<&String> {
    match kind {
        Kind::TaskCompleted { task, .. }
        | Kind::TaskFailed { task, .. }
        | Kind::TaskSkipped { task }
        | Kind::TaskWaiting { task, .. }
        | Kind::TaskStopped { task } => Some(task),
        _ => None,
    }
}

/// The live lines of a snapshot, each cut to the width, in fewer lines than the terminal has rows.
fn live_lines(snapshot: &Snapshot, style: &Style, names: NameColumns, rows: usize) -> Vec<String> {
    let hold = snapshot.hold.as_ref().map(|why| style.paint(style::BLUE, &format!("= {}", clean(why))));
    let fixed = 1 + usize::from(hold.is_some());
    // One row is left for the cursor.
    let room = rows.saturating_sub(fixed + 1);
    let all = snapshot.running.len();
    let shown = if all <= room { all } else { room.saturating_sub(1) };
    let mut lines: Vec<String> =
        snapshot.running[..shown].iter().map(|task| running_line(task, style, names)).collect();
    if shown < all && room > 0 {
        lines.push(style.dim(&format!("  +{} more running", all - shown)));
    }
    lines.extend(hold);
    lines.push(overall_line(snapshot, style));
    lines.iter().map(|line| style.fit(line).into_owned()).collect()
}

fn running_line(task: &Running, style: &Style, names: NameColumns) -> String {
    let mut doing = clean(&task.doing);
    if task.attempt > 1 {
        doing = format!("attempt {}{}{doing}", task.attempt, if doing.is_empty() { "" } else { ", " });
    }
    let columns = names.at(style);
    let name = pad(&style::truncate(&clean(&task.task), columns), columns);
    let model = task.model.as_ref().map(|model| style.dim(&clean(model))).unwrap_or_default();
    let fields = [pad_left(&style::elapsed(task.elapsed_s), 7), doing];
    let line = format!("{} {name}  {}", style.glyph(Shown::Running), fields.join("  "));
    lines::join_fitting(line, &[model], style.width)
}

fn overall_line(snapshot: &Snapshot, style: &Style) -> String {
    let mut fields = vec![format!("{}/{}", snapshot.done, snapshot.total)];
    let counts: [(u32, &str, Rgb); 3] = [
        (snapshot.failed, "failed", style::RED),
        (snapshot.blocked, "blocked", style::GREY),
        (snapshot.waiting, "waiting", style::BLUE),
    ];
    for (number, word, colour) in counts {
        if number > 0 {
            fields.push(style.paint(colour, &format!("{number} {word}")));
        }
    }
    fields.push(style::elapsed(snapshot.elapsed_s));
    if let Some(eta_s) = snapshot.eta_s.filter(|eta_s| *eta_s >= 1.0) {
        fields.push(format!("ETA {}", style::elapsed(eta_s)));
    }
    fields.extend(lines::figures(&snapshot.usage).iter().map(|field| field.trim().to_owned()));
    lines::join_fitting(bar(snapshot, style), &fields, style.width)
}

fn bar(snapshot: &Snapshot, style: &Style) -> String {
    let columns = (style.columns() / 4).clamp(6, 30);
    let total = snapshot.total.max(snapshot.done + snapshot.failed).max(1) as usize;
    // Rounded down, so that a full bar means that all is done.
    let done = snapshot.done as usize * columns / total;
    let failed = (snapshot.failed as usize * columns).div_ceil(total).min(columns - done);
    let rest = columns - done - failed;
    let part = |colour: Rgb, sign: &str, columns: usize| style.paint(colour, &sign.repeat(columns));
    part(style::GREEN, "━", done) + &part(style::RED, "✗", failed) + &part(style::GREY, "─", rest)
}
