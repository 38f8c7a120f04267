//! `planexe gantt`: planned and actual, with and without a schedule, for terminals, machines and browsers.

use serde_json::{Value, json};

use crate::support::{FakeLlm, Space, until};

const TASKS: &str = r#"
[pipeline]
schedule = "plan/dates.json"
[task.a]
outputs = ["a.txt"]
prompt = "A \nTASK=a"
[task.sign]
inputs = ["a.txt"]
outputs = ["signed.txt"]
human = "Sign it"
[task.beside]
outputs = ["b.txt"]
command = "echo b > $out"
"#;

fn dates(space: &Space, title: &str) {
    let schedule = json!({"schema": 1, "title": title, "rows": [
        {"level": 1, "title": "Phase one"},
        {"level": 2, "task": "a", "title": title, "start": "2001-01-01", "finish": "2001-01-31", "critical": true, "owner": "Ann"},
        {"level": 2, "task": "sign", "title": "Sign it", "start": "2099-02-01", "finish": "2099-02-10", "deadline": "2099-02-15", "deadline_reason": title},
        {"level": 2, "task": "gone", "title": "Of no task", "start": "2001-03-01"},
    ]});
    space.write("plan/dates.json", schedule.to_string());
}

fn row<'v>(chart: &'v Value, title: &str) -> &'v Value {
    let rows = chart["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["title"] == title).unwrap_or_else(|| panic!("no row {title} in {chart:#}"))
}

#[test]
fn planned_beside_actual() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    dates(&space, "Write A");
    space.set_env("COLUMNS", "80");
    let out = space.run(&["gantt"]).exits(0).says(&["0/3 done", "3 pending", "Phase one"]);
    assert!(out.stdout.contains("late"), "{out}");
    assert!(out.stdout.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(!space.exists(".planexe"), "looking writes nothing");
    space.run(&["build"]).exits(3);
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    assert_eq!(
        (chart["done"].clone(), chart["all"].clone(), chart["is_planned"].clone()),
        (json!(2), json!(3), json!(true))
    );
    let a = row(&chart, "Write A");
    assert_eq!(
        (a["state"].clone(), a["planned"].clone()),
        (json!("done"), json!(["2001-01-01T00:00:00Z", "2001-02-01T00:00:00Z"]))
    );
    assert!(a["actual"].is_array() && a["late_days"].as_i64() > Some(365), "{a}");
    let sign = row(&chart, "Sign it");
    assert_eq!(
        (sign["state"].clone(), sign["deadline"].clone(), sign["late_days"].clone()),
        (json!("waiting"), json!("2099-02-16T00:00:00Z"), Value::Null)
    );
    assert_eq!(row(&chart, "Phase one")["state"], "waiting");
    assert_eq!(row(&chart, "Not in the schedule")["all"], 1);
    assert_eq!(row(&chart, "beside")["state"], "done");
}

#[test]
fn words_of_a_schedule_are_words_on_the_page() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    dates(&space, "<script>alert(1)</script>\" onload='x' \u{1b}[31m\u{202e}&amp;");
    space.run(&["gantt", "--html", "g.html"]).exits(0).says(&["wrote `g.html`"]);
    let page = space.read("g.html");
    for bad in [
        "<script",
        "onload='",
        "\u{1b}",
        "\u{202e}",
        "http://",
        "https://",
        "url(",
        "@import",
        "<link",
        "javascript:",
    ] {
        assert!(!page.contains(bad), "{bad} in {page}");
    }
    assert!(
        page.contains("default-src 'none'") && page.contains("&lt;script&gt;") && page.contains("&amp;amp;")
    );
    assert!(!page.contains("http-equiv=\"refresh\""), "nothing runs: nothing is loaded anew");
    let out = space.run(&["gantt"]).exits(0);
    assert!(!out.stdout.contains('\u{1b}') && !out.stdout.contains('\u{202e}'), "{out}");
    assert_eq!(space.run(&["gantt", "--html", "-"]).exits(0).stdout.lines().next(), Some("<!doctype html>"));
}

#[test]
fn without_a_schedule_what_was_done_and_what_is_expected() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.list]
outputs = ["list.json"]
template = '["x", "y", "z"]'
[task.each]
foreach = { file = "list.json" }
inputs = ["list.json"]
outputs = ["each/{{ key }}.txt"]
prompt = "{{ item }} \nTASK=each"
[task.last]
inputs = ["each/*.txt"]
outputs = ["last.txt"]
prompt = "last \nTASK=last"
[task.all]
inputs = ["last.txt"]
"#,
    );
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    assert!(row(&chart, "last")["expected"].is_array(), "{chart:#}");
    space.build();
    let out = space.run(&["gantt"]).exits(0).says(&["done 3/3", "5/5 done"]);
    assert!(!out.stdout.contains("  all"), "a group is no row: {out}");
    let chart = space.run(&["gantt", "--json"]).exits(0).json();
    assert_eq!(
        (chart["rows"].as_array().map(Vec::len), row(&chart, "each")["all"].clone()),
        (Some(6), json!(3))
    );
    assert!(row(&chart, "last")["expected"].is_null());
    let items = space
        .run(&["gantt", "-v"])
        .exits(0)
        .says(&["done 3/3"])
        .stdout
        .lines()
        .filter(|line| line.starts_with("    "))
        .count();
    assert_eq!(items, 4, "three items, and the line of times");
}

#[test]
fn a_chart_is_watched_while_a_build_runs() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    dates(&space, "Write A");
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let watch = space.spawn(&["gantt", "--watch", "--html", "g.html"]);
    until("the page", || space.exists("g.html").then_some(()));
    assert!(space.read("g.html").contains("http-equiv=\"refresh\" content=\"5\""));
    assert!(space.read("g.html").contains("running"));
    server.release("a");
    build.wait().exits(3);
    watch.wait().exits(0);
    let page = space.read("g.html");
    assert!(!page.contains("http-equiv=\"refresh\"") && page.contains("1 waiting"), "{page}");
}

#[test]
fn faults_of_a_schedule() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS);
    space.run(&["gantt"]).exits(2).says(&["`plan/dates.json` cannot be used", "no such file"]);
    space.write("plan/dates.json", "{\"schema\": 9, \"rows\": []}");
    space.run(&["gantt"]).exits(2).says(&["`schema` is 9"]);
    space.edit("pipeline.toml", "plan/dates.json", "../../secret.json");
    space.run(&["gantt"]).exits(2);
    // It is looked at by nothing else.
    space.edit("pipeline.toml", "../../secret.json", "nowhere.json");
    space.run(&["build"]).exits(3);
}
