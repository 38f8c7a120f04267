//! Kills within the rounds of refinement of a prompt whose best round is not the last.

use super::*;

const TASKS: &str = r##"
[task.plan]
inputs  = ["plan.txt"]
outputs = ["plan.md"]
prompt  = "TASK=plan\n{{ plan }}\n{{ notes }}"
[task.plan.eval]
prompt  = "TASK=score\n{{ answer }}"
[task.plan.refine]
max_rounds = 3

[task.end]
inputs  = { made = "plan.md" }
outputs = ["end.txt"]
prompt  = "TASK=end\nConclude: {{ made }}"
"##;

/// Each round's text follows from the score of the one before, and its score from its text.
fn rounds(request: &ChatRequest) -> Answer {
    let has = |text: &str| request.prompt.contains(text);
    let score = |score: f64| Answer::Text(json!({ "score": score, "notes": "More." }).to_string());
    match request.task.as_str() {
        "score" if has("Draft one.") => score(0.75),
        "score" if has("Draft two.") => score(0.9),
        "score" => score(0.8),
        "plan" if has("Score 0.75") => Answer::Text("Draft two.".into()),
        "plan" if has("Score 0.9") => Answer::Text("Draft three.".into()),
        "plan" => Answer::Text("Draft one.".into()),
        _ => Answer::Default,
    }
}

#[test]
fn killed_anywhere_the_answer_of_the_best_round_is_the_one_in_use() {
    if !may_trace() {
        return;
    }
    let server = FakeLlm::scripted(rounds);
    let space = Space::with(&server, TASKS);
    space.write("plan.txt", "A bridge over the river.");
    let case = Case::of("refined", server, space, &["build"]);
    assert_eq!((case.calls, case.after["plan.md"].as_slice()), (7, &b"Draft two.\n"[..]));
    try_points(&case, "kill -9", 24, |at, faults| {
        let before = case.server.total();
        let plan = Plan::Kill(at);
        let (traced, _, _) = case.disturb(plan);
        let reached = traced.hit(plan).is_some();
        let at = name_of(&traced, plan);
        case.settle();
        case.check_whole(&at, faults);
        case.check_next(&at, before, faults);
        case.check_books(&at, before, faults);
        let asked = case.server.total();
        let shown = case.space.run(&["show", "plan", "--json"]).exits(0).json();
        if shown["answer"] != "Draft two." {
            faults.push(format!("{at}: another answer is in use: {}", shown["answer"]));
        }
        case.space.remove("plan.md");
        case.check_outputs(&at, faults);
        if case.server.total() != asked {
            faults.push(format!("{at}: a lost output is paid for again"));
        }
        reached
    });
}
