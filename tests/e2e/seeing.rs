//! A run seen at a glance: the graph as a picture, the trace, the report.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Answer, FakeLlm, Space};

/// What an answer, a name or an item may hold to break out of a page.
const HOSTILE: &str = "</script></style></svg><script>alert(1)</script>\" onload='x' \u{202e}&amp;]]>";

/// What no page may hold: scripts, and loads from elsewhere.
fn assert_harmless(page: &str) {
    let bad =
        ["<script", "onload='", "\u{1b}", "\u{202e}", "url(", "@import", "<link", "javascript:", "src="];
    for bad in bad {
        assert!(!page.contains(bad), "{bad} in {page}");
    }
    // The name of SVG itself is loaded by nobody.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http://"), "{page}");
    assert!(!page.contains("https://"), "{page}");
}

const FANNED: &str = r#"
[task.each]
foreach = { file = "items.json" }
outputs = ["each/{{ key }}.txt"]
prompt = "{{ item }} \nTASK=each"
[task.last]
inputs = ["each/*.txt"]
outputs = ["last </title><b>.txt"]
command = "echo last > \"$out\""
[task.after]
after = ["last"]
outputs = ["after.txt"]
command = "echo after > $out"
"#;

#[test]
fn the_graph_is_a_picture_of_boxes_and_states() {
    let server = FakeLlm::scripted(|_| Answer::from(HOSTILE));
    let space = Space::with(&server, FANNED);
    space.write("items.json", r#"["a", "b", "c"]"#);
    let before = space.run(&["graph", "--format", "svg"]).exits(0).stdout;
    assert!(before.contains("3 tasks, 3 pending") && before.contains("× 3: 3 pending"), "{before}");
    assert!(!space.exists(".planexe"), "looking writes nothing");
    space.build();
    let picture = space.run(&["graph", "--format", "svg"]).exits(0).stdout;
    assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
    assert_harmless(&picture);
    for wanted in [
        "role=\"img\"",
        "<title id=\"graph-title\">",
        "<desc id=\"graph-desc\">",
        "prefers-color-scheme: dark",
        "× 3: 3 done",
        "last &lt;/title&gt;&lt;b&gt;.txt",
        "class=\"edge after\"",
    ] {
        assert!(picture.contains(wanted), "no {wanted} in {picture}");
    }
    assert_eq!(picture.matches("<path class=\"edge").count(), 2);
    assert_eq!(space.run(&["graph", "--format", "svg"]).exits(0).stdout, picture, "the same bytes again");
    let part = space.run(&["graph", "--format", "svg", "each"]).exits(0).stdout;
    assert!(part.contains("1 task, 1 done") && !part.contains("after.txt"), "{part}");
    let data = space.run(&["graph", "--state", "--json"]).exits(0).json();
    assert_eq!(data["nodes"][0]["items"], serde_json::json!({"done": 3}));
}

/// The trace's slices, by track; each track's nest or do not overlap, and all times are whole microseconds.
fn tracks(trace: &Value) -> BTreeMap<(u64, u64), Vec<Value>> {
    let mut tracks: BTreeMap<(u64, u64), Vec<Value>> = BTreeMap::new();
    let events = trace["traceEvents"].as_array().expect("events");
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let number =
            |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("no whole {name} in {event}"));
        number("ts");
        number("dur");
        tracks.entry((number("pid"), number("tid"))).or_default().push(event.clone());
    }
    for slices in tracks.values() {
        let mut open: Vec<u64> = Vec::new();
        for slice in slices {
            let (from, to) = (
                slice["ts"].as_u64().unwrap(),
                slice["ts"].as_u64().unwrap() + slice["dur"].as_u64().unwrap(),
            );
            open.retain(|end| *end > from);
            assert!(open.iter().all(|end| to <= *end), "{slice} overlaps another: {slices:#?}");
            open.push(to);
        }
    }
    tracks
}

fn of_kind<'t>(trace: &'t Value, kind: &str) -> Vec<&'t Value> {
    trace["traceEvents"].as_array().expect("events").iter().filter(|event| event["cat"] == kind).collect()
}

#[test]
fn a_trace_has_a_track_a_slot_and_waits_apart() {
    let server = FakeLlm::scripted(|request| match request.nth {
        0 => Answer::error(500, "it broke"),
        _ => Answer::from(HOSTILE),
    });
    let space = Space::new();
    space.pipeline_with(
        &server,
        "price = { input = 1000.0, output = 1000.0 }",
        &format!("{FANNED}[task.ok]\ninputs = [\"after.txt\"]\noutputs = [\"ok.txt\"]\nhuman = \"Look\"\n"),
    );
    space.write("items.json", r#"["a", "b", "c"]"#);
    let empty = space.run(&["trace"]).exits(0).json();
    assert!(tracks(&empty).is_empty(), "nothing ran: {empty}");
    server.hold("each");
    let build = space.spawn(&["build"]);
    server.wait_for_call("each");
    let under_way = space.run(&["trace"]).exits(0).json();
    tracks(&under_way);
    assert!(
        of_kind(&under_way, "attempt").iter().any(|slice| slice["args"]["outcome"] == "running"),
        "{under_way}"
    );
    server.release("each");
    build.wait().exits(3);
    space.run(&["trace", "--output", "trace.json"]).exits(0).says(&["wrote `trace.json`"]);
    let trace = space.json("trace.json");
    let tracks = tracks(&trace);
    assert!(tracks.len() >= 3, "builds and slots: {:?}", tracks.keys());
    let calls = of_kind(&trace, "call");
    assert_eq!(calls.len(), server.requests());
    assert_eq!(of_kind(&trace, "retry").len(), 1, "one item was asked again");
    assert_eq!(of_kind(&trace, "person").len(), 1);
    let work: Vec<_> = calls.iter().map(|call| &call["tid"]).collect();
    assert!(of_kind(&trace, "retry").iter().all(|wait| !work.contains(&&wait["tid"])), "waits stand apart");
    let failed: Vec<_> = calls.iter().filter(|call| call["args"]["outcome"] == "server_error").collect();
    assert_eq!(failed.len(), 1);
    let usage = space.run(&["usage", "--json"]).exits(0).json();
    let events = trace["traceEvents"].as_array().unwrap();
    let cost = events.iter().rfind(|event| event["name"] == "cost").expect("the cost");
    assert_eq!(cost["args"]["usd"], usage["total"]["cost_usd"]);
    let in_flight = events.iter().rfind(|event| event["name"] == "calls in flight").expect("the calls");
    assert_eq!(in_flight["args"]["calls"], 0, "in the end none");
    let bytes = space.bytes("trace.json");
    space.run(&["trace", "--format", "chrome", "--output", "trace.json"]).exits(0);
    assert!(space.bytes("trace.json") == bytes, "the same bytes again");
    // The pipeline may be gone, and so may either log.
    space.remove("pipeline.toml");
    space.remove("events.jsonl");
    let root = space.dir().display().to_string();
    let calls_only = space.run(&["trace", &root]).exits(0).json();
    assert_eq!(of_kind(&calls_only, "call").len(), server.requests());
    // A process a run, each once.
    let other = Space::new();
    other.write("events.jsonl", "");
    let twice = space.run(&["trace", &root, &root, &other.dir().display().to_string()]).exits(0).json();
    let names: Vec<_> = twice["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["name"] == "process_name")
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn the_report_is_one_file_that_tells_all_and_holds_no_key() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "bad" => Answer::error(400, "no such thing <script>alert(2)</script>"),
        _ => Answer::from(format!("{HOSTILE} my key is sk-very-secret-4711")),
    });
    let space = Space::new();
    space.pipeline_with(
        &server,
        "price = { input = 1000.0, output = 1000.0 }",
        &format!(
            "{FANNED}[task.bad]\noutputs = [\"bad.txt\"]\nprompt = \"Go wrong.\\nTASK=bad\"\n[task.ok]\noutputs = [\"ok.txt\"]\nhuman = \"Look at <b>this</b>\"\n"
        ),
    );
    space.set_key("SOME_KEY", "sk-very-secret-4711", server.address());
    space.write("items.json", r#"["a", "b", "c"]"#);
    let before = space.run(&["report", "--html", "-"]).exits(0).stdout;
    assert_harmless(&before);
    assert!(before.contains("never started"), "{before}");
    space.run(&["build", "-k"]).exits(1);
    let requests = server.requests();
    space.run(&["report", "--html", "run.html"]).exits(0).says(&["wrote `run.html`"]);
    assert_eq!(server.requests(), requests, "a report asks nobody");
    let page = space.read("run.html");
    assert_harmless(&page);
    assert!(!page.contains("sk-very-secret-4711"), "the key is on the page");
    let dir = space.dir().display().to_string();
    for wanted in [
        "Content-Security-Policy\" content=\"default-src 'none'",
        "prefers-color-scheme: dark",
        "id=\"graph-title\"",
        "id=\"timeline-title\"",
        &format!("planexe -C {dir} retry bad"),
        &format!("planexe -C {dir} done ok"),
        "Look at &lt;b&gt;this&lt;/b&gt;",
        "&lt;/script&gt;&lt;/style&gt;",
        "bad_request: ",
        "the next build would",
        "<b>each[",
        "in use",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
    assert!(space.run(&["trace"]).exits(0).json()["traceEvents"].is_array());
    // Not in the place of what a task makes; and every link leads somewhere.
    space.run(&["report", "--html", "after.txt"]).exits(2).says(&["is an output of the run"]);
    for link in page.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "nothing is called {id}");
    }
}

#[test]
fn the_prompt_says_which_lines_came_from_which_input() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "notes" => Answer::from(format!("First of the notes.\n{HOSTILE} of the notes.")),
        _ => Answer::from("A summary.".to_owned()),
    });
    let space = Space::with(
        &server,
        "[task.notes]\noutputs = [\"notes.md\"]\nprompt = \"Write. TASK=notes\"\n\
         [task.summary]\ninputs = { plan = \"plan.txt\", notes = \"notes.md\" }\noutputs = [\"s.md\"]\n\
         prompt = \"\"\"TASK=summary\nThe plan: {{ plan }}\n\nNotes:\n{{ notes }}\nBe short.\"\"\"\n",
    );
    space.write("plan.txt", "Bake bread for the village.");
    let wanted = serde_json::json!([
        { "input": "plan", "first_line": 2, "last_line": 2 },
        { "input": "notes", "first_line": 5, "last_line": 6 },
    ]);
    space.build();
    let shown = space.run(&["show", "summary", "--json"]).exits(0).json();
    assert_eq!(shown["parts"], wanted, "{shown}");
    space.run(&["show", "summary"]).exits(0).says(&["line 2 from plan, lines 5-6 from notes"]);
    let page = space.run(&["report", "--html", "-"]).exits(0).stdout;
    assert_harmless(&page);
    assert!(page.contains("<span class=\"from\"><b>notes</b>First of the notes.\n&lt;/script&gt;"), "{page}");
    // What would be sent is marked before anything was sent.
    space.run(&["clean", "summary", "-y"]).exits(0);
    assert_eq!(space.run(&["show", "summary", "--json"]).exits(0).json()["parts"], wanted);
}

#[test]
fn a_report_is_no_larger_than_it_says_and_names_what_it_leaves_out() {
    let server = FakeLlm::scripted(|request| {
        let numbers = 0..if request.nth == 0 { 20_000 } else { 2_500 };
        Answer::from(numbers.map(|n| format!("{n} ")).collect::<String>())
    });
    let space = Space::with(
        &server,
        "[task.each]\nforeach = { file = \"items.json\" }\noutputs = [\"each/{{ key }}.txt\"]\nprompt = \"{{ item }} TASK=each\"\n",
    );
    let items: Vec<String> = (0..1010).map(|n| format!("n{n}")).collect();
    space.write("items.json", serde_json::to_string(&items).unwrap());
    space.build();
    space.run(&["report", "--html", "run.html"]).exits(0);
    let page = space.read("run.html");
    assert!(page.len() < 12 << 20, "{} bytes", page.len());
    for wanted in ["bytes more are left out", "told without their texts", "tasks are left out"] {
        assert!(page.contains(wanted), "no {wanted:?}");
    }
}

#[test]
fn the_report_tells_scores_what_changed_and_what_did_not_come_to_an_end() {
    let server = FakeLlm::scripted(|call| match call.task.as_str() {
        "judge" => Answer::from("{\"score\": 0.9, \"notes\": \"Name the owner.\"}"),
        _ => Answer::Default,
    });
    let tasks = "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"prompts/a.md\"\n[task.a.eval]\nprompt = \"TASK=judge\\n{{ answer }}\"\n\
         [task.never]\nwhen = \"{{ false }}\"\noutputs = [\"never.txt\"]\nprompt = \"TASK=never\\nnow\"\n\
         [task.last]\ninputs = [\"a.txt\"]\noutputs = [\"last.txt\"]\nprompt = \"TASK=last\\n{{ a }}\"\n";
    let space = Space::with(&server, tasks);
    space.write("plan.txt", "A bridge.\n");
    space.write("prompts/a.md", "TASK=a\nBe short.\n{{ plan }}\n");
    server.hold("last");
    let build = space.spawn(&["build"]);
    server.wait_for_call("last");
    build.signal(rustix::process::Signal::TERM);
    server.release("last");
    build.wait();
    let trace = space.run(&["trace"]).exits(0).stdout;
    assert!(trace.contains("\"outcome\":\"stopped\"") && trace.contains("\"last\""), "{trace}");
    space.run(&["events"]).exits(0).says(&["build stopped (", "- never", "started: fake-1, evaluation"]);
    space.edit("prompts/a.md", "Be short.", "Be long.");
    space.run(&["report", "--html", "run.html"]).exits(0);
    let page = space.read("run.html");
    assert_harmless(&page);
    for wanted in [
        "evaluator: score 0.9",
        "Name the owner.",
        "<span class=\"del\">-Be short.</span>",
        "<span class=\"add\">+Be long.</span>",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
}
