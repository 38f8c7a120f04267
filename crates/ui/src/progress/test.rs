//! The same build shown in each way.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::progress::{Fancy, Json, Plain, Quiet, Running, Sink, Snapshot};
use planexe_base::call::Usage;
use planexe_base::event::{Event, Kind, Summary};
use planexe_base::failure_class::Class;
use planexe_base::record::Failure;
use planexe_base::style::{Depth, Style};

/// A stream that keeps what was written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
    }
}

fn event(kind: Kind) -> Event {
    Event { timestamp_utc: "2026-03-01T22:15:04.123Z".into(), kind }
}

fn started(task: &str, attempt: u32) -> Kind {
    Kind::TaskStarted { task: task.into(), attempt, model: Some("qwen3.5".into()), recipe: "prompt".into() }
}

fn completed(task: &str, duration_s: f64, tokens: u64, cost_usd: f64) -> Kind {
    Kind::TaskCompleted {
        task: task.into(),
        attempt: 1,
        model: Some("qwen3.5".into()),
        duration_s,
        usage: Usage { input_tokens: tokens, output_tokens: 0, cost_usd, calls: 1, ..Usage::default() },
        step: 0,
        reused: false,
        unchanged: false,
        sample: false,
        partial: false,
        output: None,
        passed_utc: None,
        queued: None,
    }
}

fn reused(task: &str) -> Kind {
    match completed(task, 0.01, 0, 0.0) {
        Kind::TaskCompleted {
            task,
            attempt,
            model,
            duration_s,
            usage,
            step,
            sample,
            partial,
            output,
            ..
        } => Kind::TaskCompleted {
            task,
            attempt,
            model,
            duration_s,
            usage,
            step,
            reused: true,
            unchanged: true,
            sample,
            partial,
            output,
            passed_utc: None,
            queued: None,
        },
        other => other,
    }
}

fn failure(class: Class, message: &str) -> Failure {
    Failure { class: class.into(), message: message.into(), ..Failure::default() }
}

/// A small build in which much happens.
fn build() -> Vec<Event> {
    [
        Kind::PipelineStarted {
            schema: 1,
            pipeline: "strategic-plan".into(),
            run_id_dir: "runs/bakery".into(),
            steps_total: 6,
        },
        Kind::TaskStale {
            task: "swot".into(),
            reasons: vec!["the prompt changed".into(), "an input changed".into()],
        },
        started("swot", 1),
        Kind::TaskProgress { task: "swot".into(), doing: "writing, 10 tokens".into() },
        Kind::TaskProgress { task: "swot".into(), doing: "writing, 400 tokens".into() },
        completed("swot", 4.2, 1900, 0.0004),
        reused("purpose"),
        started("risks\x1b[31m", 1),
        Kind::TaskRetrying {
            task: "risks".into(),
            attempt: 1,
            failure: failure(Class::Timeout, "no content for 90 s"),
            next: "again in 2 s".into(),
            waits: false,
        },
        started("risks", 2),
        Kind::Note { task: None, message: "events.jsonl was mended".into(), warning: false },
        Kind::Note { task: None, message: "events.jsonl was mended".into(), warning: false },
        Kind::TaskFailed {
            task: "risks".into(),
            attempt: 2,
            model: None,
            failure: failure(Class::Validation, "/risks/0/title\nis missing"),
            blocked: 2,
            kept: false,
            queued: None,
        },
        Kind::TaskSkipped { task: "extra".into() },
        Kind::TaskWaiting { task: "sign_off".into(), message: "Read report.html".into() },
        Kind::PipelineFailed { summary: Summary::default() },
    ]
    .map(event)
    .into()
}

fn shown(sink: &mut dyn Sink, kept: &Kept) -> String {
    for event in build() {
        sink.event(&event);
    }
    sink.finish("The end.\n");
    kept.take()
}

#[test]
fn plain_lines() {
    let kept = Kept::default();
    let mut sink = Plain::new(Box::new(kept.clone()), Style::PLAIN, false, false);
    assert_eq!(
        shown(&mut sink, &kept),
        "\
22:15:04Z planexe: strategic-plan, 6 tasks in runs/bakery
22:15:04Z ▶ swot                        qwen3.5
22:15:04Z ✓ swot                           4.2s  1.9k tok  $0.0004
22:15:04Z ✓ purpose                        0.0s  kept answer  unchanged
22:15:04Z ▶ risks                       qwen3.5
22:15:04Z · risks                       attempt 1 failed: timeout: no content for 90 s; again in 2 s
22:15:04Z ▶ risks                       qwen3.5, attempt 2
22:15:04Z note: events.jsonl was mended
22:15:04Z ✗ risks                       validation: /risks/0/title is missing (blocks 2 tasks)
22:15:04Z - extra                       skipped
22:15:04Z = sign_off                    waits for a person: Read report.html
The end.
"
    );
}

#[test]
fn plain_lines_with_more_said() {
    let kept = Kept::default();
    let mut sink = Plain::new(Box::new(kept.clone()), Style::PLAIN, true, true);
    let shown = shown(&mut sink, &kept);
    let first: Vec<&str> = shown.lines().take(5).collect();
    assert_eq!(
        first,
        [
            "22:15:04Z planexe: strategic-plan, 6 tasks in runs/bakery",
            "22:15:04Z · swot                        stale: the prompt changed; an input changed",
            "22:15:04Z ▶ swot                        qwen3.5",
            "22:15:04Z ▶ swot                        writing, 10 tokens",
            "22:15:04Z ✓ swot                           4.2s  1.9k tok  $0.0004",
        ]
    );
}

#[test]
fn a_silent_log_says_what_runs() {
    let kept = Kept::default();
    let mut sink = Plain::new(Box::new(kept.clone()), Style::PLAIN, false, false);
    let mut snapshot = running(5);
    for elapsed_s in [10.0, 299.0, 300.0, 310.0, 599.0] {
        snapshot.elapsed_s = elapsed_s;
        sink.tick(&snapshot);
    }
    assert_eq!(
        kept.take(),
        "planexe: 17 of 23 done after 5m 00s; running: task_0 (40s, writing, 412 tokens), \
         task_1 (39s, writing, 412 tokens), task_2 (38s, writing, 412 tokens) and 2 more\n"
    );
}

#[test]
fn json_lines() {
    let kept = Kept::default();
    let mut sink = Json::new(Box::new(kept.clone()));
    let shown = shown(&mut sink, &kept);
    assert_eq!(shown.lines().count(), build().len());
    let events: Vec<Event> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, build());
    assert!(shown.starts_with(r#"{"timestamp_utc":"2026-03-01T22:15:04.123Z","event":"pipeline.started","#));
}

#[test]
fn quiet_shows_failures_and_the_end() {
    let kept = Kept::default();
    let mut sink = Quiet::new(Box::new(kept.clone()), Style::PLAIN, true);
    assert_eq!(
        shown(&mut sink, &kept),
        "✗ risks                       validation: /risks/0/title is missing (blocks 2 tasks)\nThe end.\n"
    );
}

fn running(count: usize) -> Snapshot {
    Snapshot {
        elapsed_s: 192.0,
        running: (0..count)
            .map(|i| Running {
                task: format!("task_{i}"),
                model: Some("qwen3.5-35b".into()),
                attempt: 1 + i as u32 / 2,
                doing: "writing, 412 tokens".into(),
                elapsed_s: 40.0 - i as f64,
            })
            .collect(),
        done: 17,
        failed: 2,
        blocked: 1,
        waiting: 0,
        total: 23,
        eta_s: Some(245.0),
        usage: Usage {
            input_tokens: 170_000,
            output_tokens: 12_000,
            cost_usd: 0.04,
            calls: 17,
            ..Usage::default()
        },
        hold: None,
    }
}

/// A terminal, as far as the live display uses one. Rows that were wrapped stay wrapped when it is widened;
/// narrowing it wraps them anew, as terminals do.
struct Screen {
    columns: usize,
    rows: Vec<String>,
    row: usize,
}

impl Screen {
    fn new(columns: usize) -> Screen {
        Screen { columns, rows: vec![String::new()], row: 0 }
    }

    fn narrow(&mut self, columns: usize) {
        self.columns = columns;
        let mut rows = Vec::new();
        for row in &self.rows {
            let chars: Vec<char> = row.chars().collect();
            if chars.is_empty() {
                rows.push(String::new());
            }
            rows.extend(chars.chunks(columns).map(|chunk| chunk.iter().collect::<String>()));
        }
        self.rows = rows;
        self.row = self.rows.len() - 1;
    }

    fn feed(&mut self, text: &str) {
        let mut rest = text;
        let mut at = 0;
        while let Some(c) = rest.chars().next() {
            if let Some(body) = rest.strip_prefix("\x1b[") {
                let end = body.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let number: usize = body[..end].parse().unwrap_or(1);
                match body.as_bytes()[end] {
                    b'A' => self.row = self.row.checked_sub(number).expect("the cursor stays on the screen"),
                    b'K' => self.rows[self.row] = self.rows[self.row].chars().take(at).collect(),
                    b'J' => {
                        self.rows[self.row] = self.rows[self.row].chars().take(at).collect();
                        self.rows.truncate(self.row + 1);
                    }
                    other => panic!("unknown sequence {}", other as char),
                }
                rest = &body[end + 1..];
                continue;
            }
            match c {
                '\r' => at = 0,
                '\n' => {
                    at = 0;
                    self.row += 1;
                    if self.row == self.rows.len() {
                        self.rows.push(String::new());
                    }
                }
                c => {
                    if at == self.columns {
                        self.feed("\n");
                        at = 0;
                    }
                    let mut row: Vec<char> = self.rows[self.row].chars().collect();
                    row.resize(row.len().max(at + 1), ' ');
                    row[at] = c;
                    self.rows[self.row] = row.into_iter().collect();
                    at += 1;
                }
            }
            rest = &rest[c.len_utf8()..];
        }
    }

    fn text(&self) -> String {
        self.rows.join("\n")
    }
}

/// A live display on a screen whose size can be changed.
struct Live {
    kept: Kept,
    size: Arc<Mutex<(usize, usize)>>,
    sink: Fancy,
    screen: Screen,
}

impl Live {
    fn new(columns: usize, rows: usize) -> Live {
        let (kept, size) = (Kept::default(), Arc::new(Mutex::new((columns, rows))));
        let asked = size.clone();
        let size_now = Box::new(move || *asked.lock());
        let sink = Fancy::new(Box::new(kept.clone()), Style::PLAIN, false, size_now);
        Live { kept, size, sink, screen: Screen::new(columns) }
    }

    fn look(&mut self) -> String {
        self.screen.feed(&self.kept.take());
        self.screen.text()
    }
}

#[test]
fn live_lines_at_80_columns() {
    let mut live = Live::new(80, 24);
    live.sink.event(&event(completed("swot", 4.2, 1900, 0.0004)));
    live.sink.tick(&running(3));
    assert_eq!(
        live.look(),
        "\
✓ swot                           4.2s  1.9k tok  $0.0004
▶ task_0                          40s  writing, 412 tokens  qwen3.5-35b
▶ task_1                          39s  writing, 412 tokens  qwen3.5-35b
▶ task_2                          38s  attempt 2, writing, 412 tokens
━━━━━━━━━━━━━━✗✗───  17/23  2 failed  1 blocked  3m 12s  ETA 4m 05s  182k tok
"
    );
    live.sink.event(&event(completed("task_1", 61.0, 900, 0.0)));
    assert!(!live.look().contains("▶ task_1"), "what ended is no longer running");
    live.sink.tick(&running(1));
    assert_eq!(
        live.look(),
        "\
✓ swot                           4.2s  1.9k tok  $0.0004
✓ task_1                       1m 01s   900 tok
▶ task_0                          40s  writing, 412 tokens  qwen3.5-35b
━━━━━━━━━━━━━━✗✗───  17/23  2 failed  1 blocked  3m 12s  ETA 4m 05s  182k tok
"
    );
    live.sink.finish("The end.\n");
    assert_eq!(
        live.look(),
        "\
✓ swot                           4.2s  1.9k tok  $0.0004
✓ task_1                       1m 01s   900 tok
The end.
"
    );
}

#[test]
fn long_names_move_what_follows_them() {
    let kept = Kept::default();
    let mut sink = Plain::new(Box::new(kept.clone()), Style::PLAIN, false, false);
    for name in ["swot", "enrich_team_members[project-lead]", "wbs"] {
        sink.event(&event(started(name, 1)));
        sink.event(&event(completed(name, 4.2, 1900, 0.0)));
    }
    assert_eq!(
        kept.take(),
        "\
22:15:04Z ▶ swot                        qwen3.5
22:15:04Z ✓ swot                           4.2s  1.9k tok
22:15:04Z ▶ enrich_team_members[project-lead]  qwen3.5
22:15:04Z ✓ enrich_team_members[project-lead]     4.2s  1.9k tok
22:15:04Z ▶ wbs                                qwen3.5
22:15:04Z ✓ wbs                                   4.2s  1.9k tok
"
    );
}

#[test]
fn live_lines_at_40_columns() {
    let mut live = Live::new(40, 24);
    live.sink.event(&event(completed("swot", 4.2, 1900, 0.0004)));
    live.sink.tick(&running(1));
    assert_eq!(
        live.look(),
        "\
✓ swot              4.2s  1.9k tok
▶ task_0             40s  writing, 412…
━━━━━━✗──  17/23  2 failed  1 blocked
"
    );
}

#[test]
fn a_low_terminal_shows_what_it_can() {
    for (rows, running_count, wanted) in [
        (14, 20, vec!["▶", "▶", "▶", "▶", "▶", "  +15 more running", "━"]),
        (5, 3, vec!["▶ task_0", "▶ task_1", "▶ task_2", "━"]),
        (5, 20, vec!["▶ task_0", "▶ task_1", "  +18 more running", "━"]),
        (3, 20, vec!["  +20 more running", "━"]),
        (1, 20, vec!["━"]),
        (0, 20, vec!["━"]),
    ] {
        let mut live = Live::new(80, rows);
        live.sink.tick(&running(running_count));
        let shown = live.look();
        let lines: Vec<&str> = shown.trim_end_matches('\n').lines().collect();
        assert_eq!(lines.len(), wanted.len(), "{rows} rows: {shown}");
        for (line, wanted) in lines.iter().zip(&wanted) {
            assert!(line.starts_with(wanted), "{rows} rows: {line}");
        }
    }
}

#[test]
fn a_narrowed_terminal_is_drawn_clean() {
    let mut live = Live::new(100, 24);
    live.sink.event(&event(completed("swot", 4.2, 1900, 0.0004)));
    live.sink.tick(&running(4));
    live.look();
    live.screen.narrow(60);
    *live.size.lock() = (60, 24);
    live.sink.tick(&running(1));
    assert_eq!(
        live.look(),
        "\
✓ swot                           4.2s  1.9k tok  $0.0004
▶ task_0                   40s  writing, 412 tokens
━━━━━━━━━━✗✗──  17/23  2 failed  1 blocked  3m 12s  $0.04
"
    );
}

#[test]
fn what_is_typed_under_the_live_lines_is_drawn_over() {
    let mut live = Live::new(80, 24);
    live.sink.tick(&running(2));
    live.look();
    live.screen.feed("^C");
    live.sink.tick(&Snapshot { hold: Some("stopping".into()), ..running(2) });
    let shown = live.look();
    assert!(!shown.contains("^C"), "{shown}");
    assert_eq!(shown.lines().count(), 4, "{shown}");
}

#[test]
fn nothing_is_drawn_while_nothing_changes() {
    let mut live = Live::new(80, 24);
    live.sink.tick(&running(2));
    live.look();
    live.sink.tick(&running(2));
    assert_eq!(live.kept.take(), "");
}

#[test]
fn a_line_as_wide_as_the_terminal_or_wider_keeps_its_end() {
    for message in ["x".repeat(80 - "note: ".len()), "x".repeat(100), "漢".repeat(60)] {
        let mut live = Live::new(80, 24);
        live.sink.tick(&running(1));
        live.sink.event(&event(Kind::Note { task: None, message: message.clone(), warning: false }));
        live.sink.tick(&running(2));
        let shown = live.look().replace('\n', "");
        assert!(shown.starts_with(&format!("note: {message}▶ task_0")), "{shown}");
        assert_eq!(shown.matches("▶").count(), 2, "{shown}");
    }
}

#[test]
fn holding_is_said_above_the_bar() {
    let mut live = Live::new(80, 24);
    live.sink.tick(&Snapshot { hold: Some("stopping: Ctrl-C again ends what runs".into()), ..running(1) });
    assert_eq!(live.look().lines().nth(1), Some("= stopping: Ctrl-C again ends what runs"));
}

#[test]
fn live_lines_are_coloured_and_end_where_they_began() {
    let kept = Kept::default();
    let style = Style { depth: Depth::True, width: Some(80) };
    let mut sink = Fancy::new(Box::new(kept.clone()), style, false, Box::new(|| (80, 24)));
    sink.tick(&running(1));
    sink.finish("");
    let text = kept.take();
    assert!(text.starts_with("\x1b[38;2;60;200;220m▶\x1b[39m task_0"), "{text:?}");
    assert!(text.ends_with("\x1b[2A\r\x1b[J"), "{text:?}");
}
