//! What people and programs read, compared as a whole.

use serde_json::{Value, json};

use super::*;
use planexe_base::call::Usage;
use planexe_base::event::Summary;
use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::record::{LastAttempt, Quality, State, Status};
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

fn explained() -> ExplainView {
    ExplainView {
        schema: SCHEMA,
        server: server(),
        task: "swot".into(),
        description: Some("Strengths and weaknesses".into()),
        recipe: Some("prompt".into()),
        state: State::Stale,
        verdict: Verdict::Stale,
        cannot_run: false,
        reasons: vec![
            Reason {
                old: Some("1f2e3d4c5b6a7988".into()),
                new: Some("9a8b7c6d5e4f3a2b".into()),
                diff: Some(diff("Write a SWOT\nfor investors.\n", "Write a SWOT\nfor the board.\n")),
                part: Some("prompt".into()),
                ..Reason::new("prompt", "the prompt changed")
            },
            Reason::new("output_missing", "output `swot.md` is missing"),
        ],
        depends_on: vec![],
        blocked_by: vec![],
        completed_utc: Some("2026-03-01T22:15:04.123Z".into()),
        by: Some("build".into()),
        by_user: None,
        imported: None,
        isolation: None,
        failure: None,
        batch: None,
        drift: vec![Drift { what: "model".into(), made_with: "gpt-4.1".into(), now: "qwen3.5".into() }],
        next: vec!["ask qwen3.5, about 3.1k tokens".into()],
        readers: vec!["summary".into(), "report".into()],
        changed_inputs: vec![InputChange {
            path: "plan.txt".into(),
            old: Some("1f2e3d4c5b6a7988".into()),
            new: Some("9a8b7c6d5e4f3a2b".into()),
        }],
        attempt: 1,
        eval: None,
        asked: None,
        warning: None,
        asks: None,
        roots: vec![],
        instances: vec![],
    }
}

#[test]
fn explain_names_what_changed() {
    assert_eq!(
        explained().text(&AT_80),
        "\
swot  · stale
  Strengths and weaknesses

Stale: it will run because:
  · the prompt changed (1f2e3d4c5b6a -> 9a8b7c6d5e4f)
      @@ -1,2 +1,2 @@
       Write a SWOT
      -for investors.
      +for the board.
  · output `swot.md` is missing

Inputs that differ from those it was made from:
  plan.txt (1f2e3d4c5b6a -> 9a8b7c6d5e4f)

Made with another model: gpt-4.1 (now qwen3.5). That alone does not make it stale; `--rebuild-on model` would.

The next build would:
  ask qwen3.5, about 3.1k tokens

Readers, run only if its outputs differ: summary, report
"
    );
    let coloured = explained().text(&Style { depth: Depth::Indexed, width: Some(80) });
    assert!(coloured.contains("      \x1b[38;5;167m-for investors.\x1b[39m\n"), "{coloured:?}");
    let value = serde_json::to_value(explained()).unwrap();
    assert_eq!(value["reasons"][0]["part"], "prompt");
    assert_eq!(value["failure"], Value::Null);
}

#[test]
fn explain_of_what_need_not_run() {
    let fresh = ExplainView {
        state: State::Done,
        verdict: Verdict::Fresh,
        reasons: vec![],
        drift: vec![],
        changed_inputs: vec![],
        next: vec![],
        description: None,
        by: Some("touch".into()),
        ..explained()
    };
    assert_eq!(
        fresh.text(&AT_80),
        "\
swot  ✓ done

Fresh: nothing it is made of changed since 2026-03-01 22:15:04 UTC, when it was accepted by hand.
"
    );
    let depends = ExplainView { verdict: Verdict::DependsOn, depends_on: vec!["plan".into()], ..fresh };
    assert!(depends.text(&AT_80).contains("Not decided yet: it depends on plan, and runs if"));
    // No line is wider than the terminal, however many names there are.
    let many: Vec<String> = (0..20).map(|n| format!("governance_phase_{n}")).collect();
    let depends = ExplainView { depends_on: many.clone(), readers: many, ..depends };
    let text = depends.text(&AT_80);
    assert!(text.lines().all(|line| planexe_base::style::width(line) <= 80), "{text}");
    assert!(text.contains("and 12 more, and"), "{text}");
}

fn graph() -> GraphView {
    let node = |task: &str, recipe: &str, foreach: bool| GraphNode {
        task: task.into(),
        recipe: recipe.into(),
        foreach,
        sources: vec![],
        outputs: vec![format!("{task}.json")],
        state: None,
        items: Default::default(),
        critical: false,
    };
    let edge = |from: &str, to: &str, file: Option<&str>| GraphEdge {
        from: from.into(),
        to: to.into(),
        file: file.map(str::to_owned),
    };
    GraphView {
        schema: SCHEMA,
        server: server(),
        pipeline: "say \"hi\"".into(),
        nodes: vec![node("plan", "prompt", false), node("review", "prompt", true), node("go", "gate", false)],
        edges: vec![edge("plan", "review", Some("a\\\"]b.json")), edge("review", "go", None)],
    }
}

#[test]
fn graph_for_graphviz() {
    assert_eq!(
        graph().dot(),
        r#"digraph "say \"hi\"" {
  rankdir=LR;
  node [shape=box, style=rounded, fontname="Helvetica"];
  edge [fontname="Helvetica", fontsize=10];
  "plan" [tooltip="plan.json"];
  "review" [tooltip="review.json", peripheries=2];
  "go" [tooltip="go.json", shape=diamond];
  "plan" -> "review" [label="a\\\"]b.json"];
  "review" -> "go" [style=dashed, label="after"];
}
"#
    );
}

#[test]
fn graph_for_mermaid() {
    assert_eq!(
        graph().mermaid(),
        "flowchart LR
  t0[\"plan\"]
  t1[[\"review\"]]
  t2{\"go\"}
  t0 -->|\"a#92;#34;#93;b.json\"| t1
  t1 -.->|after| t2
"
    );
    let mut coloured = graph();
    coloured.nodes[1].state = Some(State::Done);
    assert!(coloured.mermaid().ends_with("t2\n  style t1 stroke:#50dc64,stroke-width:2px\n"));
}

fn plan() -> PlanView {
    let plan_task = |task: &str, verdict: Verdict, needs: &[&str]| PlanTask {
        task: task.into(),
        verdict,
        reasons: if verdict == Verdict::Stale {
            vec![Reason::new("prompt", "the prompt changed")]
        } else {
            vec![]
        },
        depends_on: if verdict == Verdict::Stale { vec![] } else { vec!["B".into()] },
        needs: needs.iter().map(|need| need.to_string()).collect(),
        recipe: "prompt".into(),
        model: Some("qwen3.5".into()),
        lane: None,
        asks: None,
        kept_answer: false,
    };
    PlanView {
        schema: SCHEMA,
        server: server(),
        run_dir: "runs/x".into(),
        pipeline: "abc".into(),
        lanes: Vec::new(),
        resume: Some(ResumeView {
            edited: vec!["swot".into()],
            phase: RunPhase::Interrupted,
            step: Some(1),
            steps_total: 3,
            task: Some("B".into()),
            last_completed_step: 0,
            last_completed_task: Some("A".into()),
            decision_id: Some("0f1e2d".into()),
            checkpoint_id: Some("cp-1".into()),
            last_progress_at: None,
        }),
        levels: vec![
            vec![plan_task("B", Verdict::Stale, &["A"])],
            vec![plan_task("C", Verdict::DependsOn, &["A", "B"])],
        ],
        stale: 1,
        depends: 1,
        fresh: 1,
        calls_expected: 1,
        calls_at_most: 2,
        skipped: 0,
        unknown_items: 0,
        drift: 0,
        guessed: 0,
        eta_s: Some(62.0),
        cost_usd: Some(0.25),
        budget_stop: None,
    }
}

#[test]
fn items_of_which_the_same_is_to_be_said_are_one_line() {
    let mut plan = plan();
    let like = plan.levels[1][0].clone();
    let item = |key: &str, on: &[&str]| PlanTask {
        task: format!("review[{key}]"),
        depends_on: on.iter().map(|name| name.to_string()).collect(),
        ..like.clone()
    };
    let level = vec![item("a", &["B", "review"]), item("b", &["B", "review"]), item("c", &["review"])];
    plan.levels = vec![level];
    let text = plan.text(&AT_80, false);
    assert!(text.contains("  ? review \u{d7}2  depends on B\n"), "{text}");
    assert!(text.contains("  ? review[c]  depends on the list of its items\n"), "{text}");
    assert!(plan.text(&AT_80, true).contains("  ? review[b]  depends on B\n"));
    // Edited, and waiting too: alike, if not by its digests. Items that are stale alone have their names.
    let edited = |key: &str, on: &[&str]| PlanTask {
        verdict: Verdict::Stale,
        reasons: vec![Reason::new("changed", "the prompt changed")],
        ..item(key, on)
    };
    plan.levels = vec![vec![edited("a", &["B"]), edited("b", &["B"]), edited("c", &[]), edited("d", &[])]];
    let text = plan.text(&AT_80, false);
    assert!(text.contains("  · review \u{d7}2  the prompt changed\n"), "{text}");
    assert!(text.contains("  · review[c]  the prompt changed\n") && text.contains("review[d]"), "{text}");
}

#[test]
fn plan_says_where_it_goes_on_and_what_would_run() {
    assert_eq!(
        plan().text(&AT_80, true),
        "\
phase          interrupted
continues at   step 2/3, B
last done      step 1/3, A
decision_id    0f1e2d
checkpoint_id  cp-1
pipeline edit  made stale by it: swot

level 1
  · B  the prompt changed
      needs A
level 2
  ? C  depends on B
      needs A, B

Would run 1 task, and 1 more if what they read differs; 1 up to date. 1 call
  expected, at most 2. About 1m 02s, $0.25.
"
    );
    let nothing = PlanView {
        resume: None,
        levels: vec![],
        stale: 0,
        depends: 0,
        fresh: 23,
        calls_expected: 0,
        calls_at_most: 0,
        eta_s: None,
        cost_usd: None,
        ..plan()
    };
    assert_eq!(nothing.text(&AT_80, false), "planexe: everything is up to date (23 tasks)\n");
    let open = PlanView { calls_expected: 0, eta_s: None, cost_usd: None, ..plan() }.text(&AT_80, false);
    assert!(open.replace("\n  ", " ").ends_with("No call is certain yet, at most 2 calls.\n"), "{open}");
    let guessed =
        PlanView { guessed: 3, resume: None, levels: vec![], ..plan() }.text(&Style::default(), false);
    assert!(guessed.ends_with("$0.25: a guess in part, as 3 tasks have not run yet.\n"), "{guessed}");
    let unknown = PlanView { unknown_items: 2, ..plan() }.text(&AT_80, false);
    assert!(
        unknown.ends_with("$0.25.\nThe items of 2 tasks are not known yet; each counts as one.\n"),
        "{unknown}"
    );
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
