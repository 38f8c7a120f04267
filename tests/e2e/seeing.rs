//! A run seen at a glance: the graph as a picture, the trace, the report.

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
