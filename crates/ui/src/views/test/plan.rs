//! Tests of `graph` and `plan`.

use super::super::*;
use super::{AT_80, server};
use planexe_base::record::State;
use planexe_base::run_phase::RunPhase;

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
        parked: Vec::new(),
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
        unknown.ends_with(
            "$0.25.\nThe items of 2 tasks are not known yet; each task counts as one, so it will be more.\n"
        ),
        "{unknown}"
    );
}
