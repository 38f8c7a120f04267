//! What the items are: lists, keys, pointers, batches, files.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{outputs, reviews};
use crate::support::{FakeLlm, Space, counts, until};

#[test]
fn duplicates_fail_naming_both_items() {
    let server = FakeLlm::new();
    let space = reviews(&server, &["ann", "bob"]);
    space.write(
        "experts.json",
        r#"{"experts": [{"name": "ann", "topic": "first"}, {"name": "bob", "topic": "x"}, {"name": "ann", "topic": "second"}]}"#,
    );
    let out = space.run(&["build"]).says(&["review", "ann"]);
    assert!(out.code == 1 || out.code == 2, "{out}");
    let all = format!("{}{}", out.stdout, out.stderr);
    let names_both = [("0", "2"), ("1", "3"), ("first", "second")];
    assert!(names_both.iter().any(|(a, b)| all.contains(a) && all.contains(b)), "which items? {out}");
    assert!(!space.exists("report.txt"));
}

#[test]
fn a_list_of_no_items_is_done_at_once() {
    let server = FakeLlm::new();
    let space = reviews(&server, &[]);
    space.build();
    assert_eq!(server.requests(), 0);
    assert_eq!(space.state("review"), "done");
    assert_eq!(space.state("report"), "done");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_list_that_is_none_fails_and_says_where() {
    let server = FakeLlm::new();
    let space = reviews(&server, &[]);
    for list in ["{ \"experts\": 7 }", "{}", "not json", ""] {
        space.write("experts.json", list);
        let out = space.run(&["build"]).says(&["experts"]);
        assert!(out.code == 1 || out.code == 2, "{list}: {out}");
        assert_eq!(server.requests(), 0, "{list}");
    }
}

#[test]
fn keys_make_safe_names_that_do_not_collide() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.note]
foreach = { file = "items.json", key = "name" }
outputs = ["notes/{{ key }}.txt"]
prompt = "TASK={{ item.name | tojson }}\nA note."
"#,
    );
    let long = "x".repeat(400);
    let names = [
        "simple",
        "plain",
        "a b",
        "a/b",
        "a:b",
        "../../evil",
        ".hidden",
        "-rf",
        "Größe",
        "日本",
        "$(id)",
        "x\ny",
        "PLAIN",
        ".",
        "..",
        "a%b",
        "con\u{1b}[31m",
        &long,
    ];
    let items: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    space.write("items.json", json!(items).to_string());
    space.build();
    assert_eq!(server.total(), names.len());
    let made = outputs(&space, "notes/");
    assert_eq!(made.len(), names.len(), "{made:?}");
    let folded: BTreeSet<String> = made.iter().map(|path| path.to_lowercase()).collect();
    assert_eq!(folded.len(), names.len(), "two names equal when case is folded: {made:?}");
    for path in &made {
        let name = path.strip_prefix("notes/").expect("in the folder").trim_end_matches(".txt");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(!name.is_empty() && name.chars().all(plain) && !name.starts_with(['.', '-']), "{path}");
    }
    assert!(made.contains(&"notes/simple.txt".to_owned()), "{made:?}");
    assert_eq!(
        std::fs::read_dir(space.root()).expect("the root").count(),
        3,
        "something left the run directory"
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn without_a_key_an_item_is_named_by_its_digest() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.note]
foreach = { file = "items.json" }
outputs = ["notes/{{ key }}.txt"]
prompt = "TASK=note\n{{ index }} {{ item }}"
"#,
    );
    space.write("items.json", r#"["one", "two", 3]"#);
    space.build();
    assert_eq!(server.total(), 3);
    for path in outputs(&space, "notes/") {
        let key = path.trim_start_matches("notes/").trim_end_matches(".txt");
        assert!(key.len() == 12 && key.chars().all(|c| c.is_ascii_hexdigit()), "{path}");
    }
    let mut prompts: Vec<_> = server.calls().into_iter().map(|call| call.prompt).collect();
    prompts.sort();
    for (prompt, end) in prompts.iter().zip([" one", " two", " 3"]) {
        assert!(prompt.ends_with(end), "{prompts:?}");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_at_a_pointer_with_a_star() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.leaf]
foreach = { file = "tree.json", items = "/parts/*/leaves", key = "id" }
outputs = ["leaves/{{ key }}.txt"]
prompt = "TASK=leaf[{{ key }}]\n{{ item.id }}"
"#,
    );
    space.write(
        "tree.json",
        r#"{"parts": [{"leaves": [{"id": "a1"}, {"id": "a2"}]}, {"leaves": []}, {"leaves": [{"id": "b1"}]}]}"#,
    );
    space.build();
    assert_eq!(server.counts(), counts([("leaf[a1]", 1), ("leaf[a2]", 1), ("leaf[b1]", 1)]));
    space.assert_nothing_to_do(&server);
}

#[test]
fn items_taken_in_batches() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.group]
foreach = { file = "items.json", batch = 2 }
outputs = ["groups/{{ key }}.txt"]
prompt = "TASK=group\n{{ item | tojson }}"
"#,
    );
    space.write("items.json", r#"["a", "b", "c", "d", "e"]"#);
    space.build();
    assert_eq!((server.total(), outputs(&space, "groups/").len()), (3, 3));
    let all: String = server.calls().into_iter().map(|call| call.prompt).collect();
    for item in ["a", "b", "c", "d", "e"] {
        assert_eq!(all.matches(&format!("\"{item}\"")).count(), 1, "{all}");
    }
    space.assert_nothing_to_do(&server);
    space.write("items.json", r#"["a", "b", "c", "d", "f"]"#);
    space.build();
    assert_eq!((server.total(), outputs(&space, "groups/").len()), (4, 3), "the last batch alone");
    space.assert_nothing_to_do(&server);
}

#[test]
fn files_as_items() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.digest]
foreach = { glob = "docs/*.txt" }
outputs = ["digests/{{ key }}.txt"]
prompt = "TASK={{ item.path }}\n{{ item.text }}"
"#,
    );
    space.write("docs/one.txt", "the first");
    space.write("docs/two.txt", "the second");
    space.build();
    assert_eq!(server.counts(), counts([("docs/one.txt", 1), ("docs/two.txt", 1)]));
    assert_eq!(server.last("docs/two.txt").prompt, "TASK=docs/two.txt\nthe second");
    space.assert_nothing_to_do(&server);
    space.write("docs/two.txt", "the second, changed");
    space.write("docs/three.txt", "the third");
    space.build();
    assert_eq!(server.counts(), counts([("docs/one.txt", 1), ("docs/two.txt", 2), ("docs/three.txt", 1)]));
    space.remove("docs/one.txt");
    space.build();
    assert_eq!(server.total(), 4);
    assert_eq!(outputs(&space, "digests/").len(), 2);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_an_editor_hides_among_the_files_is_no_item_and_no_input() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { glob = \"docs/**/*.txt\" }\noutputs = [\"each/{{ key }}.md\"]\n\
         template = \"{{ item.text }}\"\n\
         [task.all]\ninputs = { docs = \"docs/**/*.txt\", own = \"docs/.notes/*.txt\" }\noutputs = [\"all.md\"]\n\
         template = \"{% for file in docs + own %}{{ file.path }}\\n{% endfor %}\"\n",
    );
    space.write("docs/a.txt", "A");
    space.write("docs/.notes/n.txt", "N");
    // As Emacs locks a file that is being edited: a link to nowhere.
    std::os::unix::fs::symlink("me@host.4711", space.path("docs/.#a.txt")).expect("a link");
    space.run(&["build"]).exits(0).says(&["✓ each[a]", "2 tasks ran"]);
    assert_eq!(space.read("all.md"), "docs/a.txt\ndocs/.notes/n.txt\n");
}

#[test]
fn the_place_of_an_item_counts_where_it_is_used() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        "[task.page]\nforeach = { file = \"names.json\", items = \"/*\" , key = \"n\" }\noutputs = [\"{{ key }}.txt\"]\n\
         template = \"{{ index }} {{ item.n }}\"\n\
         [task.ask]\nforeach = { file = \"names.json\", items = \"/*\", key = \"n\" }\noutputs = [\"{{ key }}.md\"]\n\
         prompt = \"TASK=ask\\n{{ index }} {{ item.n }}\"\n\
         [task.other]\nforeach = { file = \"names.json\", items = \"/*\", key = \"n\" }\noutputs = [\"{{ key }}.o\"]\n\
         template = \"{{ item.n }}, {{ key }}\"\n",
    );
    space.write("names.json", r#"[{"n": "a"}, {"n": "b"}]"#);
    space.build();
    assert_eq!((space.read("a.txt"), space.read("b.txt")), ("0 a".into(), "1 b".into()));
    // Without this one the verdicts are not those of the last build.
    space.build();
    let untouched = space.mtime("b.o");
    space.write("names.json", r#"[{"n": "b"}]"#);
    space.run(&["build", "-n"]).exits(0).says(&["page[b]", "the place of the item changed", "ask[b]"]);
    space.build();
    assert_eq!((space.read("b.txt"), server.count("ask")), ("0 b".into(), 3));
    assert!(server.last("ask").prompt.contains("0 b"));
    assert_eq!(space.mtime("b.o"), untouched);
    space.assert_nothing_to_do(&server);
}

/// What a file holds is part of its item, also where no prompt reads it.
#[test]
fn an_edited_file_among_the_items_is_seen() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        r#"
[task.letters]
foreach = { glob = "docs/*.txt" }
outputs = ["replies/{{ key }}.txt"]
prompt = "TASK=letters\n{{ item.text }}"

[task.copies]
foreach = { glob = "docs/*.md" }
outputs = ["copies/{{ key }}.txt"]
command = "echo $key >> ran.log; cp docs/$key.md $out"
"#,
    );
    for name in ["a.txt", "b.txt", "c.txt", "a.md", "b.md"] {
        space.write(&format!("docs/{name}"), format!("Dear {name}.\n"));
    }
    space.build();
    for n in 0..2 {
        for file in ["docs/b.txt", "docs/b.md"] {
            // The null-build record is made once the files are old enough to be told from a later change.
            until("a null-build record", || {
                space.run(&["build"]).exits(0).says(&["up to date"]);
                space.has_null_build_record(".").then_some(())
            });
            space.write(file, format!("Dear b, {n}.\n"));
            space.run(&["build", "-q"]).exits(1);
            space.build();
            space.assert_nothing_to_do(&server);
        }
        assert_eq!((server.count("letters"), space.read("copies/b.txt")), (4 + n, format!("Dear b, {n}.\n")));
        assert_eq!(space.read("ran.log").lines().count(), 3 + n);
    }
}
