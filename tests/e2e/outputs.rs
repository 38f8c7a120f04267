//! What was made: lost, damaged, edited by hand, marked by hand, no longer anyone's.

use serde_json::json;

use crate::staleness::{ONE, assert_stale, numbered, shaped};
use crate::support::{CHAIN, FakeLlm, counts, space};

#[test]
fn a_lost_output_comes_back_without_a_call() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let tree = space.tree();
    for output in ["c.txt", "a.txt"] {
        space.remove(output);
        assert_stale(&space, &output[..1], &[output, "missing"]);
        space.build();
        assert_eq!(space.tree(), tree);
        assert_eq!(server.total(), 3, "{output}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn a_lost_further_output_comes_back_without_a_call() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    let tree = space.tree();
    space.remove("a.md");
    space.build();
    assert_eq!((space.tree(), server.total()), (tree.clone(), 1));
    space.assert_nothing_to_do(&server);
    space.remove("a.json");
    space.build();
    assert_eq!((space.tree(), server.total()), (tree, 1));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_removed_marker_asks_for_another_draw() {
    let server = numbered();
    let space = space(&server, ONE);
    space.build();
    let first = space.read("a.txt");
    space.remove("a.txt.DONE");
    assert_stale(&space, "a", &[]);
    space.build();
    assert_eq!(server.total(), 2);
    assert!(space.read("a.txt").starts_with("Draw 1"), "{}", space.read("a.txt"));
    assert!(space.in_history(first));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_damaged_marker_costs_no_call() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let tree = space.tree();
    let marker = space.read("b.txt.DONE");
    let half = marker[..marker.len() / 2].to_owned();
    let newer = serde_json::from_str(&marker).map(|mut value: serde_json::Value| {
        value["schema"] = json!(999);
        value.to_string()
    });
    let damages =
        [half, "not json at all".to_owned(), "\0\0\0\0".to_owned(), "[]".to_owned(), newer.expect("JSON")];
    for damage in damages {
        space.write("b.txt.DONE", &damage);
        assert_stale(&space, "b", &[]);
        space.build();
        assert_eq!((server.total(), space.tree()), (3, tree.clone()), "{damage:?}");
        assert_eq!(space.done("b.txt")["task"], "b", "{damage:?}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn an_emptied_output_is_damage() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let tree = space.tree();
    space.write("b.txt", "");
    assert_stale(&space, "b", &["b.txt", "empty"]);
    space.build();
    assert_eq!((server.total(), space.tree()), (3, tree));
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_output_invalid_under_its_schema_is_damage() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    let tree = space.tree();
    for damage in ["{ \"title\": \"torn", "{ \"title\": \"no score\" }\n", "plain words\n"] {
        space.write("a.json", damage);
        assert_stale(&space, "a", &["a.json"]);
        space.build();
        assert_eq!((server.total(), space.tree()), (1, tree.clone()), "{damage:?}");
        assert!(space.in_history(damage), "the damaged bytes are in history: {damage:?}");
        space.assert_nothing_to_do(&server);
    }
}

#[test]
fn an_output_edited_by_hand_is_kept_and_its_readers_run() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.write("a.txt", "My own words.\n");
    assert_eq!(space.state("a"), "edited");
    space.run(&["status"]).exits(0).says(&["edited"]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 2)]));
    assert_eq!(space.read("a.txt"), "My own words.\n");
    assert!(server.last("b").prompt.contains("My own words."));
    assert_eq!(space.state("a"), "edited");
    space.assert_nothing_to_do(&server);
    assert_eq!(space.read("a.txt"), "My own words.\n");
}

#[test]
fn an_edited_output_with_a_schema_is_kept_if_valid() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    space.write("a.json", "{\"title\": \"Mine\", \"score\": 7}\n");
    assert_eq!(space.state("a"), "edited");
    space.build();
    assert_eq!(space.read("a.json"), "{\"title\": \"Mine\", \"score\": 7}\n");
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_edited_output_that_must_be_made_again_goes_to_history_and_it_is_said() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    space.write("a.txt", "My own words.\n");
    space.write("plan.txt", "Build a tunnel.\n");
    space.build().says(&["a.txt", "edited", "history"]);
    assert_eq!(server.count("a"), 2);
    assert!(space.read("a.txt").contains("to a"));
    assert!(space.in_history("My own words.\n"));
    space.assert_nothing_to_do(&server);
    assert_eq!(space.state("a"), "done");
}

#[test]
fn an_edited_output_is_safe_from_every_way_of_running_again() {
    let server = numbered();
    let space = space(&server, ONE);
    space.build();
    for (n, args) in
        [&["build", "-B"][..], &["clean", "a", "-y"], &["clean", "--all", "-y"]].into_iter().enumerate()
    {
        let mine = format!("My own words, version {n}.\n");
        space.write("a.txt", &mine);
        space.run(args);
        space.run(&["build"]);
        assert!(space.read("a.txt") == mine || space.in_history(&mine), "{args:?} destroyed an edited file");
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn outputs_of_a_removed_task_are_listed_and_moved_on_request() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.build();
    let left = space.read("c.txt");
    space.pipeline(&server, CHAIN.split("[task.c]").next().expect("a and b"));
    space.assert_nothing_to_do(&server);
    space.run(&["status"]).exits(0).says(&["c.txt"]);
    assert_eq!(space.read("c.txt"), left);

    // Without a terminal and without -y nothing goes.
    assert_ne!(space.run(&["clean", "--orphans"]).code, 0);
    assert!(space.exists("c.txt"));
    space.run(&["clean", "--orphans", "-y"]).exits(0).says(&["c.txt"]);
    assert!(!space.exists("c.txt") && !space.exists("c.txt.DONE") && !space.exists("c.txt.status"));
    assert!(space.in_history(left));
    assert!(space.exists("a.txt") && space.exists("b.txt"));
    space.run(&["status"]).exits(0).says_nothing_of(&["c.txt"]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_empty_marker_adopts_outputs_made_elsewhere() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    space.write("a.txt", "Written by hand.\n");
    space.write("a.txt.DONE", "");
    space.build();
    assert_eq!(server.counts(), counts([("b", 1), ("c", 1)]));
    assert_eq!(space.read("a.txt"), "Written by hand.\n");
    assert_eq!(space.state("a"), "done");
    assert_eq!(space.done("a.txt")["by"], "touch");
    space.assert_nothing_to_do(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    assert_stale(&space, "a", &["plan.txt"]);
}

#[test]
fn an_empty_marker_without_sound_outputs_is_not_believed() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.write("a.json.DONE", "");
    space.build();
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);

    let other = shaped(&server);
    other.write("a.json", "{ \"title\": \"no score\" }");
    other.write("a.md", "# no score\n");
    other.write("a.json.DONE", "");
    other.build();
    assert_eq!(server.total(), 2);
    assert!(other.in_history("{ \"title\": \"no score\" }"), "what stood there is in history");
    other.assert_nothing_to_do(&server);
}

#[test]
fn outputs_without_any_marker_are_not_believed_and_not_lost() {
    let server = FakeLlm::new();
    let space = space(&server, ONE);
    space.write("a.txt", "Of unknown origin.\n");
    space.build();
    assert_eq!(server.total(), 1);
    assert!(space.in_history("Of unknown origin.\n"));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_further_output_edited_by_hand_is_kept() {
    let server = FakeLlm::new();
    let space = shaped(&server);
    space.build();
    space.write("a.md", "# My own page\n");
    assert_eq!(space.state("a"), "edited");
    space.assert_nothing_to_do(&server);
    space.write("a.md.j2", "## {{ answer.title }}\n");
    space.build().says(&["a.md", "edited"]);
    assert!(space.read("a.md").starts_with("## text"));
    assert!(space.in_history("# My own page\n"));
    assert_eq!(server.total(), 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn an_output_added_or_renamed_costs_no_call() {
    let server = numbered();
    let space = space(&server, CHAIN);
    space.build();
    let answer = space.read("c.txt");
    space.edit(
        "pipeline.toml",
        "[\"c.txt\"]",
        "[\"c.txt\", { path = \"c.md\", template = \"> {{ answer }}\" }]",
    );
    space.build();
    assert_eq!((server.total(), space.read("c.md").trim_end()), (3, format!("> {answer}").trim_end()));
    space.assert_nothing_to_do(&server);

    space.edit("pipeline.toml", "\"c.txt\"", "\"end.txt\"");
    space.build();
    assert_eq!((server.total(), space.read("end.txt")), (3, answer));
    space.assert_nothing_to_do(&server);
    space.run(&["status"]).exits(0).says(&["c.txt"]);

    // A path in the middle, in both places.
    let pipeline = space.read("pipeline.toml").replace("\"b.txt\"", "\"deep/down/b.txt\"");
    space.write("pipeline.toml", pipeline);
    space.build();
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}
