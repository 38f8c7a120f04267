//! What is missing in a plan: one call finds it, answers go into the plan word for word, and nothing is asked twice.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answer_schemas::assert_as_the_schema_says;
use crate::support::terminal::Terminal;
use crate::support::{Answer, FakeLlm, Space};

pub(crate) const TASK: &str = r#"
[pipeline]
plan = "plan.txt"

[task.screen_planning_prompt]
inputs = ["plan.txt"]
outputs = ["screen_planning_prompt.json"]
prompt = "TASK=screen\n{{ plan }}"
schema = "any.schema.json"
"#;

/// Says what is missing of five things, by the words that stand in the plan, and asks for the first two.
pub(crate) fn found(plan: &str) -> Value {
    let words = [
        ("objective", "bakery"),
        ("budget", "EUR"),
        ("location", "Bruges"),
        ("timeline", "2028"),
        ("scale", "loaves"),
    ];
    let state = |word: &str| if plan.contains(word) { "present" } else { "missing" };
    let aspects: Vec<Value> =
        words.iter().map(|(id, word)| json!({ "id": id, "state": state(word), "quote": word })).collect();
    let open = words.iter().filter(|(_, word)| !plan.contains(word)).take(2);
    let questions: Vec<Value> = open
        .map(|(id, word)| {
            json!({ "aspect": id, "question": format!("Which {id}?\u{1b}[31m"), "why": "All of it.",
                    "suggestions": [format!("{word} 40,000"), format!("{word} 80,000")] })
        })
        .collect();
    json!({ "request": "A bakery.", "verdict": "thin", "reason": "Short.", "missing": [], "contradictions": [],
            "aspects": aspects, "questions": questions })
}

fn interviewed() -> (FakeLlm, Space) {
    let server = FakeLlm::scripted(|call| Answer::Text(found(&call.prompt).to_string()));
    let space = Space::with(&server, TASK);
    space.write("any.schema.json", r#"{"type":"object"}"#);
    space.write("plan.txt", "Open a bakery.\n");
    (server, space)
}

#[test]
fn a_program_gets_the_questions_and_gives_answers() {
    let (server, space) = interviewed();
    let out = space.run(&["interview", "--check", "--json"]).exits(3);
    let answer = out.json();
    assert_as_the_schema_says("interview", &answer);
    assert_eq!((&answer["ready"], &answer["plan"]), (&json!(false), &json!("plan.txt")));
    assert_eq!(answer["questions"][1]["suggestions"], json!(["Bruges 40,000", "Bruges 80,000"]));
    space
        .run(&["interview", "--check"])
        .exits(3)
        .says(&["missing", "1. Which budget?"])
        .says_nothing_of(&["\u{1b}"]);
    assert_eq!(server.total(), 1, "the same plan is looked at once");
    let given = [
        "interview",
        "--answer",
        "budget=EUR 80,000",
        "--answer",
        "location=Bruges,\n near the\tstation",
        "--json",
    ];
    let answer = space.run(&given).exits(0).json();
    assert_eq!((&answer["ready"], server.total()), (&json!(true), 2));
    let plan =
        "Open a bakery.\n\nFurther answers:\n- budget: EUR 80,000\n- location: Bruges, near the station\n";
    assert_eq!(space.read("plan.txt"), plan);
    // The build of the plan needs no other look at it.
    space.build();
    assert_eq!(server.total(), 2);
}

#[test]
fn a_person_is_asked_until_it_is_enough() {
    let (server, space) = interviewed();
    let mut terminal = Terminal::start(space.command(&["interview"]));
    terminal.shows("Which budget?", 1);
    terminal.types("2\n");
    terminal.shows("Which location?", 1);
    terminal.types("In Bruges, by the station\n");
    // The second look.
    terminal.shows("Which timeline?", 1);
    terminal.types("\n");
    terminal.shows("Which scale?", 1);
    terminal.types("\n");
    terminal.shows("enough to begin", 1);
    assert_eq!(terminal.ends().0, Some(0));
    assert_eq!(server.total(), 2);
    let plan = "Open a bakery.\n\nFurther answers:\n- budget (Which budget?): EUR 80,000\n\
                - location (Which location?): In Bruges, by the station\n";
    assert_eq!(space.read("plan.txt"), plan);
}

#[test]
fn the_end_of_input_ends_the_questions_and_what_is_no_text_is_asked_for_again() {
    let (server, space) = interviewed();
    let mut terminal = Terminal::start(space.command(&["interview"]));
    terminal.shows("Which budget?", 1);
    terminal.types_bytes(b"20 000 \xe9cus\n");
    terminal.shows("no UTF-8 text; once more", 1);
    terminal.types("1\n");
    terminal.shows("Which location?", 1);
    terminal.types("\u{4}");
    let (code, shown) = terminal.ends();
    assert_eq!((code, server.total()), (Some(3), 2), "{shown}");
    assert!(shown.contains("not enough yet") && !shown.contains("Which timeline?"), "{shown}");
    assert!(space.read("plan.txt").ends_with("Further answers:\n- budget (Which budget?): EUR 40,000\n"));
}

#[test]
fn an_answer_is_in_the_plan_before_the_next_question() {
    let (_server, space) = interviewed();
    let mut terminal = Terminal::start(space.command(&["interview"]));
    terminal.shows("Which budget?", 1);
    terminal.types("1\n");
    terminal.shows("Which location?", 1);
    let told = std::time::Instant::now();
    terminal.signal(Signal::INT);
    assert_eq!(terminal.ends().0, Some(130));
    // Nothing is under way while it asks: it has not to be ended by force, which takes a second and a half.
    assert!(told.elapsed() < std::time::Duration::from_millis(1400), "{:?}", told.elapsed());
    assert!(space.read("plan.txt").ends_with(": EUR 40,000\n"));
}

#[test]
fn what_cannot_be_asked_is_told() {
    let (server, space) = interviewed();
    space.run(&["interview"]).exits(2).says(&["no terminal", "--check --json"]);
    space.run(&["interview", "--answer", "budget"]).exits(2).says(&["ASPECT=TEXT"]);
    let long = format!("budget={}", "x".repeat(5_000));
    space.run(&["interview", "--answer", &long]).exits(2).says(&["5000 bytes"]);
    assert_eq!((space.read("plan.txt").as_str(), server.total()), ("Open a bakery.\n", 0));
    server.script(|_| Answer::Text("{\"request\": 1}".into()));
    space.run(&["interview", "--check"]).exits(2).says(&["does not say what is missing"]);
    server.script(|_| Answer::error(400, "no"));
    space.write("plan.txt", "Open a shop.\n");
    space.run(&["interview", "--check"]).exits(1);
    space.edit("pipeline.toml", "task.screen_planning_prompt", "task.other");
    space.run(&["interview", "--check"]).exits(2).says(&["no task `screen_planning_prompt`"]);
}
