//! When a run did what, as a picture: a row for each slot with its attempts and calls, waits in rows of their own below
//! them, and what all calls had cost by then.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::escape;
use crate::views::timeline::{Micros, Slice, Timeline};
use planexe_base::style::{clean, count, elapsed, money, truncate};

/// The style of timelines, beside [`super::TONES`].
pub(super) const STYLE: &str = include_str!("timeline.css");

/// So many pieces are drawn, and more in a wide picture; the longest, where there are more.
const MOST: usize = 6_000;
/// So many slots have a row. Tasks that are begun take the first one that is free, so the last rows are the emptiest.
const ROWS: usize = 40;
/// How wide it is, unless it is asked for in another width.
pub const WIDTH: f64 = 1200.0;
const LEFT: f64 = 74.0;
const ROW: f64 = 22.0;
const AXIS: f64 = 24.0;
const COST: f64 = 60.0;

/// A time of which nothing is recorded is drawn no wider than this share of the whole.
const GAP: f64 = 0.03;

/// The axis: pieces of time with the places they begin at. Long times without anything are cut out.
struct Axis {
    /// From, to, where it begins, how wide it is.
    pieces: Vec<(Micros, Micros, f64, f64)>,
}

impl Axis {
    fn new(timeline: &Timeline, width: f64) -> Axis {
        // A person may take days: between builds that is cut out too, and its length is told.
        let mut busy: Vec<(Micros, Micros)> = timeline
            .all()
            .filter(|slice| slice.kind != "person")
            .map(|slice| (slice.from, slice.to))
            .collect();
        busy.sort_unstable();
        let all: Micros = busy.iter().map(|(from, to)| to - from).max().unwrap_or(0);
        let mut joined: Vec<(Micros, Micros)> = Vec::new();
        for (from, to) in busy {
            match joined.last_mut() {
                // What is no longer than a tenth of the longest piece stays as it is.
                Some((_, end)) if from <= *end + all / 10 + 1_000 => *end = (*end).max(to),
                _ => joined.push((from, to)),
            }
        }
        let total = joined.iter().map(|(from, to)| (to - from).max(1)).sum::<Micros>() as f64;
        let gaps = joined.len().saturating_sub(1) as f64;
        let gap = (width - LEFT - 10.0) * GAP.min(0.5 / (gaps + 1.0));
        let room = width - LEFT - 10.0 - gap * gaps;
        let mut x = LEFT;
        let mut pieces = Vec::new();
        for (from, to) in joined {
            let wide = room * (to - from).max(1) as f64 / total;
            pieces.push((from, to, x, wide));
            x += wide + gap;
        }
        Axis { pieces }
    }

    fn x(&self, at: Micros) -> f64 {
        let after = self.pieces.partition_point(|(from, ..)| *from <= at);
        let Some((from, to, x, wide)) = after.checked_sub(1).map(|n| self.pieces[n]) else { return LEFT };
        match self.pieces.get(after) {
            Some((next, _, next_x, _)) if at > to => {
                let end = x + wide;
                end + (next_x - end) * ((at - to) as f64 / (next - to).max(1) as f64)
            }
            _ => x + wide * ((at.min(to) - from) as f64 / (to - from).max(1) as f64),
        }
    }
}

/// The picture, and in words what is left out of it. `links`: where each task leads to.
pub fn svg(timeline: &Timeline, links: &HashMap<String, String>, width: f64) -> String {
    let axis = Axis::new(timeline, width);
    let count =
        |slices: &mut dyn Iterator<Item = &Slice>| slices.map(|slice| slice.slot + 1).max().unwrap_or(0);
    let all_slots = count(&mut timeline.attempts.iter().chain(&timeline.calls));
    let all_waits = count(&mut timeline.waits.iter());
    let (slots, waits) = (all_slots.min(ROWS), all_waits.min(ROWS));
    let most = ((width * 1.7) as usize).clamp(1_000, MOST);
    let top = AXIS + ROW;
    let wait_top = top + slots as f64 * ROW + if waits > 0 { 10.0 } else { 0.0 };
    let more = if all_slots > slots || all_waits > waits { ROW } else { 0.0 };
    let service_top = wait_top + waits as f64 * ROW + more + 6.0;
    let services = count(&mut timeline.services.iter()).min(ROWS);
    let cost_top = service_top + services as f64 * ROW + 8.0;
    let spent = timeline.cost.last().map_or(0.0, |(_, usd)| *usd);
    let height = if spent > 0.0 { cost_top + COST + 8.0 } else { cost_top };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"timeline\" role=\"group\" aria-labelledby=\"timeline-title timeline-desc\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\n<title id=\"timeline-title\">timeline</title>\n<desc id=\"timeline-desc\">{}</desc>\n",
        escape(&told(timeline, most))
    );
    for pair in axis.pieces.windows(2) {
        let ((_, from, x, wide), (to, _, next, _)) = (pair[0], pair[1]);
        let (x, length) = (x + wide, (to - from) as f64 / 1e6);
        let _ = write!(
            text,
            "<g><title>{} without work</title><rect class=\"cut\" x=\"{x:.1}\" y=\"{AXIS}\" width=\"{:.1}\" height=\"{:.0}\"/>",
            span(length),
            next - x,
            height - AXIS
        );
        let (label, middle) = (coarse(length), (x + next) / 2.0);
        if label.len() as f64 * 6.0 <= next - x {
            let _ = write!(text, "<text class=\"tick middle\" x=\"{middle:.1}\" y=\"14\">{label}</text>");
        }
        text += "</g>\n";
    }
    for (n, (from, to, x, wide)) in axis.pieces.iter().enumerate() {
        let first = axis.pieces.first().map_or(0, |piece| piece.0);
        let ticks = (*wide / 110.0).floor().max(1.0) as i64;
        for tick in 0..=ticks {
            let at = from + (to - from) * tick / ticks;
            let place = x + wide * tick as f64 / ticks as f64;
            let _ = write!(text, "<path class=\"grid\" d=\"M{place:.1} {AXIS}V{height:.0}\"/>");
            if tick < ticks || *wide > 220.0 && n + 1 == axis.pieces.len() {
                let seconds = (at - first) as f64 / 1e6;
                let anchor = if tick == ticks { " end" } else { "" };
                let label = if at == first { "0".to_owned() } else { span(seconds) };
                let _ = write!(text, "<text class=\"tick{anchor}\" x=\"{place:.1}\" y=\"14\">{label}</text>");
            }
        }
    }
    // Names of rows: the last in the picture, so that a page can keep them in view where it is moved.
    let mut rows = format!(
        "<g class=\"rows\"><rect class=\"under\" width=\"{:.0}\" height=\"{height:.0}\"/>\n",
        LEFT - 6.0
    );
    let mut row = |y: f64, name: &str| {
        let _ = writeln!(rows, "<text class=\"row\" x=\"4\" y=\"{:.1}\">{name}</text>", y + 15.0);
    };
    row(AXIS, "builds");
    (0..slots).for_each(|slot| row(top + slot as f64 * ROW, &format!("slot {}", slot + 1)));
    (0..waits).for_each(|slot| row(wait_top + slot as f64 * ROW, "waits"));
    if all_slots > slots || all_waits > waits {
        let more = (all_slots - slots) + (all_waits - waits);
        row(wait_top + waits as f64 * ROW - 4.0, &format!("+{more} more"));
    }
    for slot in 0..services {
        let own = timeline.services.iter().find(|slice| slice.slot == slot);
        let name = own.map_or(String::new(), |slice| clean(&slice.name));
        row(service_top + slot as f64 * ROW, &escape(&truncate(&name, 11)));
    }
    let mut drawn: Vec<(&Slice, f64, f64, &str)> = Vec::new();
    drawn.extend(timeline.builds.iter().map(|slice| (slice, AXIS + 3.0, ROW - 8.0, "build")));
    let place = |slice: &Slice, inset: f64| top + slice.slot as f64 * ROW + inset;
    drawn.extend(timeline.attempts.iter().map(|slice| (slice, place(slice, 1.0), ROW - 3.0, "attempt")));
    drawn.extend(timeline.calls.iter().map(|slice| (slice, place(slice, 4.0), ROW - 9.0, "call")));
    let wait = |slice: &Slice| wait_top + slice.slot as f64 * ROW + 4.0;
    drawn.extend(timeline.waits.iter().map(|slice| (slice, wait(slice), ROW - 9.0, "waits")));
    let service = |slice: &Slice| service_top + slice.slot as f64 * ROW + 4.0;
    drawn.extend(timeline.services.iter().map(|slice| (slice, service(slice), ROW - 9.0, "service")));
    drawn.retain(|(slice, ..)| slice.slot < ROWS);
    if drawn.len() > most {
        drawn.sort_by_key(|(slice, ..)| slice.from - slice.to);
        drawn.truncate(most);
        let layer =
            |kind: &str| ["build", "attempt", "call", "waits", "service"].iter().position(|one| *one == kind);
        drawn.sort_by_key(|(slice, _, _, kind)| (layer(kind), slice.from));
    }
    for (slice, y, high, kind) in &drawn {
        one(&mut text, &axis, slice, (*y, *high), kind, links.get(&slice.name));
    }
    for (slice, y, ..) in drawn.iter().filter(|(.., kind)| matches!(*kind, "attempt" | "waits")) {
        name(&mut text, &axis, slice, *y);
    }
    if spent > 0.0 {
        let _ = write!(
            rows,
            "<text class=\"row\" x=\"4\" y=\"{:.1}\">cost</text><text class=\"tick\" x=\"4\" y=\"{:.1}\">{}</text>",
            cost_top + 14.0,
            cost_top + 30.0,
            money(spent)
        );
        let mut path = format!("M{LEFT} {:.1}", cost_top + COST);
        for (at, usd) in &timeline.cost {
            let _ = write!(path, "H{:.1}V{:.1}", axis.x(*at), cost_top + COST * (1.0 - usd / spent));
        }
        let _ = writeln!(text, "<path class=\"cost\" d=\"{path}H{:.1}\"/>", width - 10.0);
    }
    text + &rows + "</g>\n</svg>\n"
}

fn one(
    text: &mut String,
    axis: &Axis,
    slice: &Slice,
    (y, high): (f64, f64),
    kind: &str,
    link: Option<&String>,
) {
    let (from, to) = (axis.x(slice.from), axis.x(slice.to));
    let wide = (to - from).max(1.5);
    let tone = match (kind, slice.outcome.as_str()) {
        ("waits", _) if slice.kind == "person" => "person",
        ("waits", _) => "wait",
        ("service", "failed") => "fail",
        ("service", _) if matches!(slice.kind, "starting" | "queue") => "starting",
        ("service", _) => "up",
        (_, "done" | "completed" | "reused" | "rescued") => "done",
        (_, "running") => "run",
        (_, "skipped" | "stopped" | "interrupted" | "begun again" | "waiting") => "off",
        _ => "fail",
    };
    let seconds = (slice.to - slice.from) as f64 / 1e6;
    let what = match slice.kind {
        "person" => "waits for a person",
        "queue" => "waits in the queue of its executor",
        "server" => "waits for its server",
        "retry" => "waits for its next attempt",
        kind => kind,
    };
    let mut told = format!("{}: {what}, {}, {}", clean(&slice.name), slice.outcome, span(seconds));
    if slice.attempt > 0 {
        let _ = write!(told, ", attempt {}", slice.attempt);
    }
    if let Some(model) = &slice.model {
        let _ = write!(told, ", {}", clean(model));
    }
    if slice.cost_usd > 0.0 {
        let _ = write!(told, ", {}", money(slice.cost_usd));
    }
    let link = link.filter(|_| kind == "attempt");
    if let Some(link) = link {
        let _ = write!(text, "<a href=\"{}\">", escape(link));
    }
    let _ = write!(
        text,
        "<g{}><title>{}</title><rect class=\"{kind} of-{tone}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" rx=\"2\"/>",
        // What is no link is told as a picture; calls are told by their attempt.
        if link.is_some() || kind == "call" { "" } else { " role=\"img\"" },
        escape(&told)
    );
    *text += if link.is_some() { "</g></a>\n" } else { "</g>\n" };
}

/// The name of an attempt over its calls, where there is room for it.
fn name(text: &mut String, axis: &Axis, slice: &Slice, y: f64) {
    let (from, to) = (axis.x(slice.from), axis.x(slice.to));
    let room = ((to - from - 6.0) / 6.2) as usize;
    let mut name = clean(&slice.name);
    let y = match slice.kind {
        "attempt" | "evaluation" => y,
        kind => {
            name = format!("{name} {kind} {}", coarse((slice.to - slice.from) as f64 / 1e6));
            y - 3.0
        }
    };
    if room < 5.min(name.chars().count().max(1)) {
        return;
    }
    let _ = write!(
        text,
        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        from + 4.0,
        y + 14.0,
        escape(&truncate(&name, room))
    );
}

fn span(seconds: f64) -> String {
    if seconds < 0.95 {
        return format!("{:.0}ms", seconds * 1000.0);
    }
    if seconds < 10.0 { format!("{seconds:.1}s") } else { elapsed(seconds) }
}

/// A time in one unit: `14h`.
fn coarse(seconds: f64) -> String {
    match seconds {
        _ if seconds < 90.0 => format!("{seconds:.0}s"),
        _ if seconds < 5_400.0 => format!("{:.0}m", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0}h", seconds / 3_600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// The whole in a sentence.
fn told(timeline: &Timeline, most: usize) -> String {
    let pieces = timeline.all().count();
    let mut told = format!(
        "{}, {}, {}, {}. Times in which nothing was recorded are cut short.",
        count(timeline.builds.len() as u64, "build"),
        count(timeline.attempts.len() as u64, "attempt"),
        count(timeline.calls.len() as u64, "call"),
        count(timeline.waits.len() as u64, "wait")
    );
    if pieces > most {
        let _ = write!(told, " The {most} longest of {pieces} are drawn.");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(count: usize, slot: impl Fn(usize) -> usize) -> Timeline {
        let slice = |n: usize| Slice {
            slot: slot(n),
            name: format!("each[{n}]"),
            kind: "attempt",
            from: n as Micros * 1_000,
            to: n as Micros * 1_000 + 5_000,
            outcome: "done".to_owned(),
            ..Slice::default()
        };
        Timeline { attempts: (0..count).map(slice).collect(), ..Timeline::default() }
    }

    #[test]
    fn a_crowd_is_no_larger_than_can_be_looked_at() {
        let none = HashMap::new();
        let beside = svg(&attempts(5_000, |n| n), &none, WIDTH);
        assert!(beside.contains("+4960 more") && beside.matches("<rect").count() < 50, "{}", beside.len());
        let after = svg(&attempts(5_000, |n| n % 8), &none, WIDTH);
        assert!(after.contains("The 2040 longest of 5000 are drawn."));
        assert_eq!(after.matches("class=\"attempt").count(), 2_040);
        let wide = svg(&attempts(5_000, |n| n % 8), &none, 24_000.0);
        assert_eq!(wide.matches("class=\"attempt").count(), 5_000);
        assert!(wide.contains(">each[") && !wide.contains("NaN"));
    }
}
