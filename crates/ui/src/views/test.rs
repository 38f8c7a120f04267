//! What people and programs read, compared as a whole.

mod explain;
mod plan;
mod status;

use super::*;
use planexe_base::call::Usage;
use planexe_base::event::Summary;
use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::record::{LastAttempt, Quality, State};
use planexe_base::run_phase::RunPhase;
use planexe_base::style::Depth;

const AT_80: Style = Style { depth: Depth::None, width: Some(80) };

fn server() -> Server {
    Server { name: "planexe".into(), version: "0.1.0".into(), host: Some("box".into()) }
}

fn task(name: &str, state: State) -> TaskView {
    TaskView::new(name, state)
}

fn timed(name: &str, state: State, seconds: f64) -> TaskView {
    let last = LastAttempt { duration_s: Some(seconds), ..LastAttempt::default() };
    TaskView { last, ..task(name, state) }
}

fn failed(name: &str, class: impl Into<FailureClass>, message: &str) -> TaskView {
    let failure = Failure { class: class.into(), message: message.into(), ..Failure::default() };
    let mut view = timed(name, State::Failed, 12.1);
    view.last.attempt = 4;
    view.result.failure = Some(failure);
    view
}

fn instance(family: &str, key: &str, state: State) -> TaskView {
    TaskView { family: Some(family.into()), ..timed(&format!("{family}[{key}]"), state, 2.0) }
}

fn stale(name: &str, message: &str) -> TaskView {
    TaskView {
        verdict: Some(Verdict::Stale),
        reasons: vec![Reason::new("prompt", message)],
        ..timed(name, State::Stale, 3.0)
    }
}

fn status(tasks: Vec<TaskView>) -> StatusView {
    StatusView {
        schema: SCHEMA,
        server: server(),
        run: RunView {
            dir: "runs/bakery".into(),
            pipeline: "strategic-plan".into(),
            phase: RunPhase::Failed,
            started_utc: Some("2026-03-01T22:15:04.123Z".into()),
            models: vec!["qwen3.5-35b-a3b".into()],
            ..RunView::default()
        },
        counts: counts(&tasks),
        quality_summary: QualitySummary::from_tasks(&tasks),
        tasks,
        steps_completed: 2,
        steps_total: 9,
        last_completed_step: 1,
        last_completed_task: Some("plan_type".into()),
        last_checkpoint_id: None,
        last_progress_at: None,
        idle_s: None,
        last_llm_call_at: None,
        eta_s: None,
        cost_usd: Some(0.042),
        parked: Vec::new(),
        batches: Vec::new(),
        services: Vec::new(),
        error: Some(ErrorSummary {
            failure_reason: Class::Validation.into(),
            failed_step: "risks".into(),
            message: "/risks/0/title is missing".into(),
            recoverable: true,
            next: "planexe explain risks".into(),
        }),
        orphans: vec![],
    }
}

fn mixed() -> StatusView {
    status(vec![
        timed("purpose", State::Done, 4.2),
        TaskView {
            quality: Quality { sample: Some(true), ..Quality::default() },
            ..timed("plan_type", State::Done, 192.0)
        },
        TaskView {
            doing: Some("writing, 412 tokens".into()),
            elapsed_s: Some(40.7),
            last: LastAttempt { attempt: 2, ..LastAttempt::default() },
            ..task("swot", State::Running)
        },
        failed("risks", Class::Validation, "/risks/0/title is missing"),
        TaskView { blocked_by: vec!["risks".into()], ..task("premortem", State::Blocked) },
        stale("summary", "the prompt changed"),
        timed("experts", State::Done, 9.0),
        task("review", State::Failed),
        instance("review", "ann", State::Done),
        instance("review", "bob", State::Done),
        TaskView {
            family: Some("review".into()),
            ..failed("review[cyd]", Class::Timeout, "no content for 90 s")
        },
        TaskView { depends_on: vec!["summary".into()], ..task("report", State::Pending) },
    ])
}

fn summary(outcome: BuildOutcome) -> SummaryView {
    SummaryView {
        schema: SCHEMA,
        server: server(),
        run_dir: "runs/x".into(),
        pipeline: "abc".into(),
        outcome,
        message: None,
        summary: Summary {
            ran: 22,
            reused: 4,
            fresh: 3,
            duration_s: 192.0,
            usage: Usage {
                input_tokens: 170_000,
                output_tokens: 12_000,
                cost_usd: 0.04,
                calls: 18,
                ..Usage::default()
            },
            ..Summary::default()
        },
        tasks: vec![],
        failed: vec![],
        waiting: vec![],
        report: Some("examples/strategic-plan/report.html".into()),
        next: vec![],
        exit_code: 0,
    }
}

#[test]
fn the_end_of_a_good_build() {
    let done = summary(BuildOutcome::Completed);
    assert_eq!(
        done.text(&AT_80, false),
        "\
Done: 22 tasks ran in 3m 12s (4 from kept answers), 3 up to date. $0.04, 182k
  tokens.
Report: examples/strategic-plan/report.html
"
    );
    assert_eq!(done.text(&AT_80, true), "");
    let null = SummaryView {
        summary: Summary { fresh: 23, ..Summary::default() },
        ..summary(BuildOutcome::Completed)
    };
    assert_eq!(null.text(&AT_80, false), "planexe: everything is up to date (23 tasks)\n");
}

#[test]
fn the_end_of_a_failed_build() {
    let mut view = summary(BuildOutcome::Failed);
    view.report = None;
    view.summary.failed = vec!["risks".into()];
    view.summary.blocked = 6;
    view.failed = vec![FailedView {
        task: "risks".into(),
        failure: Failure {
            class: Class::Validation.into(),
            message: "/risks/0/title is missing".into(),
            error_id: Some("0123456789ab".into()),
            ..Failure::default()
        },
        blocks: ["a", "b", "c", "d", "e", "f"].map(str::to_owned).into(),
    }];
    view.next = vec![
        ("planexe explain risks".into(), "see why".into()),
        ("planexe build".into(), "try again; finished work is kept".into()),
    ];
    let text = "
✗ risks
    validation: /risks/0/title is missing
    blocks a, b, c, d, e and 1 more
    error 0123456789ab
Failed: 1 task failed, 6 blocked, 22 tasks ran in 3m 12s (4 from kept answers),
  3 up to date. $0.04, 182k tokens.
Next: planexe explain risks  see why
      planexe build          try again; finished work is kept
";

    assert_eq!(view.text(&AT_80, false), text);
    assert!(text.ends_with(&view.text(&AT_80, true)), "{text}");
    assert!(view.text(&AT_80, true).starts_with("Failed: 1 task failed"));
}

#[test]
fn the_end_of_a_build_that_broke() {
    let view = SummaryView {
        message: Some("cannot write `swot.json.DONE`: no space left on device".into()),
        summary: Summary { ran: 1, duration_s: 2.0, ..Summary::default() },
        report: None,
        ..summary(BuildOutcome::Failed)
    };
    assert_eq!(
        view.text(&AT_80, true),
        "Failed: cannot write `swot.json.DONE`: no space left on device, 1 task ran in\n  2.0s.\n"
    );
}

#[test]
fn the_end_of_a_build_that_was_stopped() {
    let mut view = summary(BuildOutcome::Stopped);
    view.report = None;
    view.message = Some("by Ctrl-C".into());
    view.summary = Summary {
        ran: 2,
        failed: vec!["wbs".into()],
        stopped: vec!["swot".into()],
        waiting: vec!["sign off".into()],
        pending: 4,
        duration_s: 9.0,
        ..Summary::default()
    };
    view.waiting = vec![WaitingView { task: "sign[off]".into(), message: "Read report.html".into() }];
    view.next = vec![("planexe build".into(), "go on".into())];
    assert_eq!(
        view.text(&AT_80, false),
        "\
= sign[off] waits: Read report.html
Stopped (by Ctrl-C): 1 task failed, 2 tasks ran in 9.0s, 1 stopped before the
  end, 1 waiting for a person, 4 not reached.
Next: planexe build  go on
"
    );
}

#[test]
fn lists_are_laid_out_in_columns() {
    let row = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
    let rows = [row(&["swot@1", "4.2s", "x"]), row(&["日本@12", "", "long"]), row(&["a"])];
    assert_eq!(table(&rows, &AT_80), "swot@1   4.2s  x\n日本@12        long\na\n");
}

#[test]
fn a_wide_column_gives_way_to_those_on_its_right() {
    let row = |cells: &[&str]| cells.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
    let long = "review[The-long-and-winding-name-of-an-item]@1";
    let text = table(&[row(&[long, "2026-11-22 11:32:03 UTC", "62 B"])], &Style { width: Some(60), ..AT_80 });
    assert_eq!(text, "review[The-long-and-winding-…  2026-11-22 11:32:03 UTC  62 B\n");
}

#[test]
fn words_for_a_shell() {
    for (word, quoted) in
        [("swot", "swot"), ("review[ann]", "'review[ann]'"), ("it's", r"'it'\''s'"), ("", "''")]
    {
        assert_eq!(shell_word(word), quoted);
    }
}
