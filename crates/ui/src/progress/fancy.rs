//! Live lines on a terminal: one for each running task and one for the whole, redrawn in place; what is finished
//! scrolls away above them.
//!
//! `indicatif` keeps the lines, one progress bar each, and says what to draw when. It draws on a [`Terminal`] of
//! ours, for the sake of resizing: a line that was drawn on a wider terminal now takes several rows, and only who
//! knows its width can go back over all of them; and padding lines to the full width, as indicatif does, would
//! make every line such a line. The cursor rests in the first column under the live lines and is never hidden, so
//! that `^C`, a crash or a `kill -9` leave the terminal as it should be.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use parking_lot::{Mutex, MutexGuard};

use crate::progress::lines::{self, NameColumns};
use crate::progress::{Running, Sink, Snapshot, write};
use planexe_base::event::{Event, Kind};
use planexe_base::record::State;
use planexe_base::style::{self, Rgb, Style, clean, pad, pad_left};

/// Columns and rows of a terminal, asked each time as it may be resized.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// Live lines.
pub struct Fancy {
    style: Style,
    explain: bool,
    size: Size,
    names: NameColumns,
    terminal: Terminal,
    multi: MultiProgress,
    /// One for each live line, from above.
    bars: Vec<ProgressBar>,
    latest: Snapshot,
    begun: bool,
}

impl Fancy {
    /// Draws on a terminal of a size. `explain` shows why tasks are stale.
    pub fn new(to: Box<dyn Write + Send>, style: Style, explain: bool, size: Size) -> Fancy {
        let terminal = Terminal(Arc::new(Mutex::new(Screen {
            to,
            columns: 80,
            rows: 24,
            drawn: Vec::new(),
            leaving: 0,
            lines: Vec::new(),
            after_line: false,
        })));
        // What is drawn is asked for, once a tick and once an event: indicatif's own pace is the slowest it has.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 1);
        Fancy {
            style,
            explain,
            size,
            names: NameColumns::new(),
            terminal,
            multi: MultiProgress::with_draw_target(target),
            bars: Vec::new(),
            latest: Snapshot::default(),
            begun: false,
        }
    }

    /// Gives the bars the lines of the latest snapshot. Whether anything is to be drawn anew.
    fn update(&mut self) -> bool {
        let (columns, rows) = (self.size)();
        let mut changed = self.terminal.screen().resize(columns, rows);
        let style = Style { width: Some(columns.max(2) - 1), ..self.style };
        let lines = if self.begun { live_lines(&self.latest, &style, self.names, rows) } else { Vec::new() };
        while self.bars.len() > lines.len() {
            self.multi.remove(&self.bars.remove(0));
            changed = true;
        }
        while self.bars.len() < lines.len() {
            self.bars.insert(0, self.multi.insert(0, ProgressBar::no_length().with_style(as_it_is())));
        }
        for (bar, line) in self.bars.iter().zip(lines) {
            if bar.message() != line {
                bar.set_message(line);
                changed = true;
            }
        }
        changed
    }
}

/// A bar's line is its message and nothing else.
fn as_it_is() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").expect("BUG: the template is sound")
}

impl Sink for Fancy {
    fn event(&mut self, event: &Event) {
        self.names.meet(&event.kind);
        if let Some(task) = ended(&event.kind) {
            // The next snapshot knows; until then it is not to be drawn below its own end.
            self.latest.running.retain(|running| running.task != *task);
        }
        let (columns, _) = (self.size)();
        let style = Style { width: Some(columns.max(20)), ..self.style };
        if let Some(line) = lines::of_event(&event.kind, &style, self.names, self.explain) {
            self.update();
            let _ = self.multi.println(style.wrap(&line, 4));
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.latest = snapshot.clone();
        self.begun = true;
        if self.update()
            && let Some(whole) = self.bars.last()
        {
            whole.force_draw();
        }
    }

    fn finish(&mut self, closing: &str) {
        self.begun = false;
        self.update();
        let _ = self.multi.clear();
        write(&mut self.terminal.screen().to, closing);
    }
}

/// The terminal that indicatif draws on.
#[derive(Clone)]
struct Terminal(Arc<Mutex<Screen>>);

/// A terminal, as far as it must be known to go back over what was drawn.
struct Screen {
    to: Box<dyn Write + Send>,
    columns: usize,
    rows: usize,
    /// Columns of each line drawn last; the cursor is in the first column under them.
    drawn: Vec<usize>,
    /// How many of these, from below, are to be drawn over.
    leaving: usize,
    /// What is to be drawn.
    lines: Vec<String>,
    /// A line was written, and what follows only fills it up to the width.
    after_line: bool,
}

impl Terminal {
    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.0.lock()
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

/// To draw, indicatif clears each line of its bars, going up and down between them, then writes each line and what
/// fills it up, then flushes. The moves are left out: where the lines are, only the widths as drawn can tell.
impl TermLike for Terminal {
    fn width(&self) -> u16 {
        u16::try_from(self.screen().columns).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        u16::try_from(self.screen().rows).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.screen().leaving += 1;
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.screen().lines.push(line.to_owned());
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut screen = self.screen();
        if !screen.after_line {
            screen.lines.push(text.to_owned());
        }
        screen.after_line = !screen.after_line;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.screen().draw()
    }
}

impl Screen {
    /// The terminal may be of another size now; whether it is.
    fn resize(&mut self, columns: usize, rows: usize) -> bool {
        let before = (self.columns, self.rows);
        (self.columns, self.rows) = (columns.max(2), rows.max(2));
        before != (self.columns, self.rows)
    }

    /// Goes back over what leaves and writes the new lines, all in one write.
    fn draw(&mut self) -> io::Result<()> {
        let columns = self.columns;
        let kept = self.drawn.len().saturating_sub(self.leaving);
        let rows: usize = self.drawn[kept..].iter().map(|&width| width.max(1).div_ceil(columns)).sum();
        let lines = std::mem::take(&mut self.lines);
        self.drawn = lines.iter().map(|line| style::width(line)).collect();
        self.leaving = 0;
        self.after_line = false;
        if rows == 0 && lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        if rows > 0 {
            text += &format!("\x1b[{rows}A\r");
        }
        for (line, &width) in lines.iter().zip(&self.drawn) {
            text += line;
            // At the right edge the cursor still stands on the last character, which would be erased.
            if width == 0 || width % columns != 0 {
                text += "\x1b[K";
            }
            text += "\n";
        }
        text += "\x1b[J";
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }
}

/// The task whose end an event is.
fn ended(kind: &Kind) -> Option<&String> {
    match kind {
        Kind::TaskCompleted { task, .. }
        | Kind::TaskRescued { task, .. }
        | Kind::TaskFailed { task, .. }
        | Kind::TaskSkipped { task }
        | Kind::TaskWaiting { task, .. }
        | Kind::TaskStopped { task } => Some(task),
        _ => None,
    }
}

/// The live lines of a snapshot, each cut to the width, in fewer lines than the terminal has rows; on all but low
/// terminals in half of them, so that what ended stays in view, and a terminal made half as wide can still be
/// gone back over.
fn live_lines(snapshot: &Snapshot, style: &Style, names: NameColumns, rows: usize) -> Vec<String> {
    let hold = snapshot.hold.as_ref().map(|why| style.paint(style::BLUE, &format!("= {}", clean(why))));
    let fixed = 1 + usize::from(hold.is_some());
    // One row is left for the cursor.
    let room = rows.saturating_sub(1).min((rows / 2).max(6)).saturating_sub(fixed);
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
    let line = format!("{} {name}  {}", style.glyph(State::Running), fields.join("  "));
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
