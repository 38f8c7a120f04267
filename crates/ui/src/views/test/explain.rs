//! Tests of `explain`.

use serde_json::Value;

use super::super::*;
use super::{AT_80, server};
use planexe_base::record::State;
use planexe_base::style::Depth;

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
