//! Commands of items: the item's file is `$in`, and its data an argument.

use serde_json::json;

use crate::support::{FakeLlm, Space};

fn space(tasks: &str) -> Space {
    Space::with(&FakeLlm::new(), tasks)
}

/// Files with names that shells and programs take for something else.
const NAMES: [&str; 9] = [
    "a.txt",
    "b c.txt",
    "-n.txt",
    "it's.txt",
    "$(touch owned).txt",
    "`id`.txt",
    "a\nb.txt",
    "\"q\".txt",
    "*.txt",
];

/// The page that a build names at its end is a file.
#[test]
fn pages_of_items_are_not_told_as_one_page() {
    let space = space(
        "[task.each]\nforeach = { glob = \"*.txt\" }\noutputs = [\"{{ key }}.html\"]\ncommand = [\"cp\", \"$in\", \"$out\"]\n",
    );
    space.write("a.txt", "x\n");
    let out = space.run(&["build", "--json"]).exits(0);
    assert!(space.exists("a.html") && out.json()["report"].is_null(), "{out}");
}

#[test]
fn the_file_of_an_item_is_the_input_whatever_its_name() {
    for command in [
        "\"cat $in > $out\"",
        "'cat \"$in\" > \"$out\"'",
        "\"cat '$in' > $out\"",
        "\"cat $in.item > $out\"",
        "'printf %s \"$(cat \"$item.path\")\" > $out'",
        "\"echo $item.text > $out\"",
        "[\"cp\", \"$in\", \"$out\"]",
        "[\"sh\", \"-c\", 'cat \"$$1\" > \"$$2\"', \"x\", \"$item\", \"$out\"]",
    ] {
        let space = space(&format!(
            "[task.each]\nforeach = {{ glob = \"*.txt\" }}\noutputs = [\"each/{{{{ key }}}}.md\"]\ncommand = {command}\n"
        ));
        for (n, name) in NAMES.iter().enumerate() {
            space.write(name, format!("text {n}\n"));
        }
        let out = space.run(&["build"]).exits(0);
        let mut made: Vec<String> = space
            .tree()
            .into_keys()
            .filter(|path| path.starts_with("each/") && path.ends_with(".md"))
            .map(|path| space.read(&path).trim().to_owned())
            .collect();
        made.sort();
        let wanted: Vec<String> = (0..NAMES.len()).map(|n| format!("text {n}")).collect();
        assert_eq!(made, wanted, "{command}: {out}");
        assert!(!space.exists("owned"), "{command}");
        space.run(&["build", "-q"]).exits(0);
        // It is recorded, and a change of it is seen.
        space.write("b c.txt", "other\n");
        space.run(&["build", "-q"]).exits(1);
    }
}

#[test]
fn a_file_of_an_item_need_not_be_text_and_comes_before_other_inputs() {
    let space = space(
        "[task.each]\nforeach = { glob = \"in/*.bin\" }\ninputs = { style = \"style.txt\" }\noutputs = [\"each/{{ key }}.out\"]\ncommand = [\"cat\", \"$in\"]\nstdout = true\n",
    );
    space.write("style.txt", "style");
    space.write("in/a.bin", [0xff, 0, 0xfe]);
    space.build();
    assert_eq!(
        std::fs::read(space.path("each/a.out")).expect("made"),
        [&[0xff, 0, 0xfe][..], b"style"].concat()
    );
    space.write("in/a.bin", [0xff, 1]);
    space.run(&["build", "-q"]).exits(1);
    space.build();
    assert_eq!(std::fs::read(space.path("each/a.out")).expect("made"), [&[0xff, 1][..], b"style"].concat());
    space.run(&["build", "-q"]).exits(0);
}

#[test]
fn the_data_of_an_item_is_an_argument_and_never_read_by_the_shell() {
    let space = space(
        r#"
[task.plain]
foreach = { file = "words.json" }
outputs = ["plain/{{ key }}.txt"]
command = "printf '%s' \"<$item>\" '$item' $item > $out"

[task.each]
foreach = { file = "people.json", items = "/people", key = "id" }
outputs = ["each/{{ key }}.txt"]
command = ["printf", "%s|%s|%s", "$item.name", "$item.age", "$item.tags.0", "$$x"]
stdout = true
"#,
    );
    let evil = "a'b\"; $(touch owned) `touch owned`\n*";
    space.write("words.json", json!([evil]).to_string());
    space.write(
        "people.json",
        json!({"people": [{"id": "x", "name": evil, "age": 7, "tags": ["t"]}]}).to_string(),
    );
    space.build();
    assert_eq!(space.read("each/x.txt"), format!("{evil}|7|t$x||"));
    let made = space.tree().into_keys().find(|path| path.starts_with("plain/")).expect("made");
    assert_eq!(space.read(&made), format!("<{evil}>{evil}{evil}"));
    assert!(!space.exists("owned"));
}

#[test]
fn data_that_would_be_an_option_a_program_or_a_file_fails_its_item_alone() {
    for (command, words) in [
        ("[\"rm\", \"$item.name\"]", "`$item.name` begins with `-`"),
        ("\"ls $item.name > $out\"", "`$item.name` begins with `-`"),
        ("[\"$item.name\"]", "`$item.name` is data, which names no program"),
        ("\"true; $item.name\"", "`$item.name` is data, which names no program"),
        ("\"echo > $item.name\"", "`$item.name` is data, which names no file"),
        ("\"echo $item.nme > $out\"", "`$item.nme` stands for nothing; there is `$item.id`, `$item.name`"),
        ("\"echo $item.nul > $out\"", "stands for nothing"),
    ] {
        let space = space(&format!(
            "[task.each]\nforeach = {{ file = \"l.json\", key = \"id\" }}\noutputs = [\"each/{{{{ key }}}}.txt\"]\ncommand = {command}\n"
        ));
        space.write("l.json", json!([{"id": "x", "name": "-rf"}]).to_string());
        space.run(&["build"]).exits(1).says(&["each[x]", words]);
        assert!(!space.exists("-rf") && !space.exists("each/x.txt"), "{command}");
    }
    let space = space(
        "[task.each]\nforeach = { file = \"l.json\", key = \"id\" }\noutputs = [\"each/{{ key }}.txt\"]\ncommand = [\"echo\", \"$item.name\"]\nstdout = true\nmin_success = 0.3\n",
    );
    let long = "x".repeat(200_000);
    space.write(
        "l.json",
        json!([{"id": "nul", "name": "a\0b"}, {"id": "long", "name": long}, {"id": "ok", "name": "fine"}])
            .to_string(),
    );
    space.run(&["build"]).exits(0).says(&["NUL", "200000 bytes"]);
    assert_eq!(space.read("each/ok.txt"), "fine\n");
}

#[test]
fn an_item_whose_command_leaves_an_empty_output_is_not_done() {
    let space = space(
        "[task.each]\nforeach = { glob = \"docs/*.txt\" }\noutputs = [\"each/{{ key }}.txt\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.write("docs/a.txt", "hello\n");
    space.write("docs/b.txt", "");
    space.run(&["build"]).exits(1).says(&["each[b]", "`each/b.txt` is empty"]);
    assert!(space.is_done("each/a.txt") && !space.exists("each/b.txt.DONE"));
}
