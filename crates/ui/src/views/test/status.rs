//! Tests of `status`.

use serde_json::{Value, json};

use super::super::*;
use super::{AT_80, failed, mixed, stale, status, task, timed};
use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::record::{Quality, State, Status};
use planexe_base::run_phase::RunPhase;

#[test]
fn a_task_is_shown_in_the_order_of_its_format() {
    let mut status = Status::new("a", State::Failed);
    status.last.attempt = 3;
    status.quality.warning = Some("of an attempt before".to_owned());
    status.result.failure = Some(Failure::default());
    let view = TaskView::from_status(&status);
    let shown = serde_json::to_value(&view).unwrap();
    let keys: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "task state verdict reasons depends_on blocked_by family recipe drift doing phase tokens expected_s elapsed_s \
         attempt started_utc ended_utc duration_s model api pid host progress_utc step steps_total decision_id \
         checkpoint_id by by_user rescued sample partial eval failure usage outputs"
    );
    assert_eq!((&shown["attempt"], shown["failure"].is_object()), (&3.into(), true));
    // A warning is of what was made, a failure of what was not.
    status.state = State::Done;
    let view = TaskView::from_status(&status);
    assert_eq!((view.quality.warning.is_some(), view.result.failure), (true, None));
}

#[test]
fn status_at_80_columns() {
    assert_eq!(
        mixed().text(&AT_80, false),
        "\
Run       runs/bakery
Pipeline  strategic-plan
Model     qwen3.5-35b-a3b
Started   2026-03-01 22:15:04 UTC
Phase     failed

━━━━━━━━━━━━━━━━━━━━━━━━━━━╍╍╍╍╍✗✗✗✗✗✗✗✗✗✗✗─────────────────  5/11 done
✓ 5 done   ▶ 1 running   ✗ 2 failed   - 1 blocked   · 1 stale   · 1 pending
$0.04

✓ done     purpose      4.2s
✓ done     plan_type  3m 12s  sample answer
▶ running  swot          40s  attempt 2; writing, 412 tokens
✗ failed   risks       12.1s  validation: /risks/0/title is missing
- blocked  premortem          needs risks
· stale    summary      3.0s  the prompt changed
✓ done     experts      9.0s
✗ failed   review             2/3 done, 1 failed; review[cyd]: timeout: no cont…
· pending  report             after summary

Sample answers: plan_type
Next: planexe explain risks
"
    );
}

#[test]
fn status_with_instances_in_a_pipe() {
    let text = mixed().text(&Style::PLAIN, true);
    let rows: Vec<&str> = text.lines().skip(9).take(12).collect();
    assert_eq!(rows[8], "✓ done     review[ann]    2.0s");
    assert_eq!(rows[10], "✗ failed   review[cyd]   12.1s  timeout: no content for 90 s");
    assert_eq!(rows.len(), 12);
}

#[test]
fn status_at_40_columns() {
    let text = mixed().text(&Style { width: Some(40), ..AT_80 }, false);
    assert!(text.lines().all(|line| style::width(line) <= 40), "{text}");
    assert!(text.contains("\n✗ failed   risks       12.1s  validatio…\n"), "{text}");
}

#[test]
fn status_before_anything_ran() {
    let mut view = status(vec![]);
    view.run.started_utc = None;
    view.run.phase = RunPhase::NeverStarted;
    view.run.label = Some("first try".into());
    view.error = None;
    assert_eq!(
        view.text(&AT_80, false),
        "\
Run       runs/bakery (first try)
Pipeline  strategic-plan
Model     qwen3.5-35b-a3b
Started   not yet
Phase     never started
"
    );
}

#[test]
fn sixty_tasks_fit_a_screen() {
    let mut tasks: Vec<TaskView> =
        (0..50).map(|i| timed(&format!("identify_thing_{i}"), State::Done, 4.2)).collect();
    tasks.extend((0..8).map(|i| task(&format!("later_{i}"), State::Pending)));
    tasks.push(failed("risks", Class::Validation, "/risks/0/title is missing"));
    tasks.push(stale("summary", "the prompt changed"));
    let text = status(tasks).text(&AT_80, false);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 40, "{text}");
    assert_eq!(
        lines[8..15],
        [
            "",
            "✗ failed (1)",
            "  risks    12.1s  validation: /risks/0/title is missing",
            "· stale (1)",
            "  summary     3.0s  the prompt changed",
            "· pending (8)",
            "  later_0  later_1  later_2  later_3  later_4  later_5  later_6  later_7",
        ]
    );
    assert_eq!(lines[16], "  identify_thing_0 4.2s   identify_thing_1 4.2s   identify_thing_2 4.2s");
}

#[test]
fn rescued_is_a_starred_done() {
    let mut view = mixed();
    view.tasks = vec![TaskView {
        quality: Quality { rescued: Some(true), ..Quality::default() },
        ..timed("agent", State::Done, 1.0)
    }];
    view.quality_summary = QualitySummary::from_tasks(&view.tasks);
    let text = view.text(&AT_80, false);
    assert!(text.contains("✓* done  agent  1.0s  rescued by its evaluation\n"), "{text}");
    assert!(text.contains("Rescued: agent\n"), "{text}");
}

#[test]
fn status_as_json_has_every_key() {
    let value = serde_json::to_value(mixed()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&value),
        [
            "schema",
            "server",
            "run",
            "counts",
            "tasks",
            "steps_completed",
            "steps_total",
            "last_completed_step",
            "last_completed_task",
            "last_checkpoint_id",
            "last_progress_at",
            "idle_s",
            "last_llm_call_at",
            "eta_s",
            "cost_usd",
            "quality_summary",
            "error"
        ]
    );
    assert_eq!(value["last_checkpoint_id"], Value::Null);
    assert_eq!(value["server"], json!({ "name": "planexe", "version": "0.1.0", "host": "box" }));
    assert_eq!(value["run"]["parent"], Value::Null);
    assert_eq!((&value["counts"]["done"], &value["counts"]["waiting"]), (&json!(5), &json!(0)));
    assert_eq!(value["tasks"][5]["state"], "stale");
    assert_eq!(value["tasks"][5]["verdict"], "stale");
    assert_eq!(value["tasks"][5]["reasons"][0]["code"], "prompt");
    // Every field of `.status` but those that only a rewrite needs.
    let status = serde_json::to_value(Status::new("x", State::Done)).unwrap();
    let task_keys = keys(&value["tasks"][0]);
    for key in keys(&status).iter().filter(|key| *key != "schema") {
        assert!(task_keys.contains(key), "{key}");
    }
}

#[test]
fn a_status_is_read_into_a_view() {
    let mut status = Status::new("swot", State::Done);
    status.result.failure = Some(Failure { class: Class::Timeout.into(), ..Failure::default() });
    status.last.attempt = 2;
    let view = TaskView::from_status(&status);
    assert_eq!((view.state, view.last.attempt, view.result.failure), (State::Done, 2, None));
    status.state = State::Failed;
    assert_eq!(TaskView::from_status(&status).remark(), "timeout");
}

#[test]
fn names_from_files_cannot_steer_the_terminal() {
    let mut view =
        status(vec![failed("evil\x1b[2J", FailureClass::Exit, "\x1b]0;x\x07said \u{202e}this\nand that")]);
    view.run.dir = "runs/\x1b[31mred".into();
    let text = view.text(&AT_80, false);
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("evil  12.1s  exit: said \\u{202e}this and that\n"), "{text}");
}
