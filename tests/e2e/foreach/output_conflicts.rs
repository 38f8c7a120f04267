//! Keys are data, and so data decides how the outputs of items are called: nothing that is not their own is overwritten.

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space};

/// A fan-out over `l.json`, whose outputs follow a pattern, beside a task that makes `swot.txt` from `plan.txt`.
fn space(output: &str, keys: &[&str], more: &str) -> Space {
    let server: &FakeLlm = Box::leak(Box::new(FakeLlm::new()));
    let space = Space::with(
        server,
        &format!(
            "[pipeline]\nplan = \"plan.txt\"\n[task.each]\nforeach = {{ file = \"in/l.json\", items = \"/i\", key = \"n\" }}\noutputs = [\"{output}\"]\ncommand = \"echo by-an-item-$key > $out\"\n[task.other]\ninputs = [\"in/source.txt\"]\noutputs = [\"swot.txt\"]\ncommand = \"cat $in > $out\"\n{more}"
        ),
    );
    space.write("plan.txt", "the plan of the user\n");
    space.write("in/source.txt", "of the user\n");
    write_keys(&space, keys);
    space
}

fn write_keys(space: &Space, keys: &[&str]) {
    let items: Vec<_> = keys.iter().map(|key| json!({ "n": key })).collect();
    space.write("in/l.json", json!({ "i": items }).to_string());
}

/// No item's words are in any file but those.
fn only(space: &Space, made: &[&str]) {
    let own =
        |path: &str| !path.starts_with(".planexe") && !["events.jsonl", "failures.jsonl"].contains(&path);
    let found: Vec<String> = space
        .tree()
        .into_keys()
        .filter(|path| own(path) && space.read(path).starts_with("by-an-item"))
        .collect();
    assert_eq!(found, made);
}

#[test]
fn an_item_writes_no_file_of_another_task_of_the_user_or_of_the_pipeline() {
    for (output, key, words) in [
        ("{{ key }}.txt", "swot", "its output `swot.txt` is one of `other` too"),
        ("{{ key }}.txt", "SWOT", "its output `SWOT.txt` is one of `other` too"),
        ("{{ key }}.txt", "plan", "its output `plan.txt` is the plan"),
        ("{{ key }}.toml", "pipeline", "is the pipeline itself"),
        ("{{ key }}.toml", "run", "is a file planexe writes itself"),
        ("{{ key }}.jsonl", "events", "is a file planexe writes itself"),
        ("{{ key }}.cfg", "settings", "its output `settings.cfg` is read by `sets`"),
        ("prompts/{{ key }}.md", "t", "its output `prompts/t.md` is a file of the pipeline"),
        ("{{ key }}", "prompts", "is a folder of the pipeline's files"),
        ("{{ key }}/x.txt", "swot.txt", "lies below one of `other`"),
        ("{{ key }}", "deep", "is a folder of one of `deep`"),
        ("tools/{{ key }}.sh", "score", "its output `tools/score.sh` is read by the command of `tool`"),
        ("docs/{{ key }}.txt", "mine", "its output `docs/mine.txt` is read by `reads`"),
        ("{{ key }}", "folder", "its output `folder` is a folder"),
        ("{{ key }}/x.txt", "README", "lies below `README`, which is a file"),
    ] {
        let space = space(
            output,
            &["aa", key],
            "[task.deep]\noutputs = [\"deep/x.txt\"]\ncommand = \"echo > $out\"\n[task.tool]\noutputs = [\"tool.txt\"]\ncommand = \"sh tools/score.sh > $out\"\n[task.reads]\ninputs = [\"docs/*.txt\"]\noutputs = [\"reads.out\"]\ncommand = \"cat $in > $out\"\n[task.sets]\ninputs = [\"settings.cfg\"]\noutputs = [\"sets.out\"]\ncommand = \"cat $in > $out\"\n[task.asks]\noutputs = [\"asks.out\"]\nprompt = \"prompts/t.md\"\n",
        );
        for (path, text) in [
            ("prompts/t.md", "TASK=asks\n"),
            ("tools/score.sh", "echo 1\n"),
            ("docs/mine.txt", "mine\n"),
            ("folder/x", "x"),
            ("README", "read me\n"),
            ("settings.cfg", "a = 1\n"),
        ] {
            space.write(path, text);
        }
        let before = space.tree();
        let out = space.run(&["build"]).exits(1);
        out.says(&["each[", words, "nothing is overwritten"]);
        let aa = output.replace("{{ key }}", "aa");
        only(&space, &[&aa]);
        for (path, content) in before {
            assert_eq!(space.tree().get(&path), Some(&content), "{output} {key}: {path}");
        }
        // It says so again, and before.
        space.run(&["build"]).exits(1).says(&[words]);
        let name = format!("each[{key}]");
        space.run(&["explain", &name]).says(&[words]);
        // Nor is anything of it removed, or marked; what only a pattern matches a person may say is the item's.
        if !output.starts_with("docs") {
            space.run(&["touch", &name]).exits(1).says(&["nothing was marked"]);
        }
        space.run(&["clean", &name, "--yes"]);
        space.run(&["clean", "each", "--yes"]);
        for path in [
            "plan.txt",
            "settings.cfg",
            "docs/mine.txt",
            "tools/score.sh",
            "prompts/t.md",
            "swot.txt",
            "README",
        ] {
            assert!(space.exists(path), "{output} {key}: {path}");
        }
        space.run(&["check"]).exits(0);
    }
}

#[test]
fn the_failure_has_a_class_of_its_own_and_counts_for_min_success() {
    let space = space(
        "{{ key }}.txt",
        &["aa", "swot", "bb"],
        "min_success = 0.5\n[task.end]\ninputs = [\"swot.txt\"]\noutputs = [\"end\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.edit(
        "pipeline.toml",
        "command = \"echo by-an-item",
        "min_success = 0.5\ncommand = \"echo by-an-item",
    );
    space.edit("pipeline.toml", "cat $in > $out\"\nmin_success = 0.5", "cat $in > $out\"");
    space.run(&["build"]).exits(0).says(&["each[swot]"]);
    assert!(space.lines("failures.jsonl").iter().any(|line| line["class"] == "output_taken"));
    assert_eq!(space.read("end"), "of the user\n");
}

#[test]
fn of_two_items_that_would_write_one_file_neither_does() {
    let space = Space::with(
        &FakeLlm::new(),
        "[task.each]\nforeach = { file = \"l.json\", key = \"n\" }\noutputs = [\"{{ key }}.txt\", \"a-{{ key }}.txt\"]\ncommand = \"echo $key | tee $out\"\n",
    );
    space.write("l.json", json!([{"n": "b"}, {"n": "a-b"}, {"n": "c"}]).to_string());
    let out = space.run(&["build"]).exits(1);
    out.says(&["each[b]", "its output `a-b.txt` is one of `each[a-b]` too", "is one of `each[b]` too"]);
    assert!(!space.exists("a-b.txt") && space.exists("c.txt"));
}

#[test]
fn of_two_fan_outs_the_one_that_made_it_keeps_it() {
    let tasks = |first: &str| {
        format!(
            "[task.list]\ninputs = [\"given.json\"]\noutputs = [\"l.json\"]\ncommand = \"cp given.json $out\"\n[task.one]\nforeach = {{ file = \"{first}\" , key = \"n\" }}\noutputs = [\"{{{{ key }}}}.txt\"]\ncommand = \"echo one-$key > $out\"\n[task.two]\nforeach = {{ file = \"given.json\", key = \"n\" }}\noutputs = [\"x-{{{{ key }}}}.txt\"]\ncommand = \"echo two-$key > $out\"\n"
        )
    };
    let space = Space::with(&FakeLlm::new(), &tasks("l.json"));
    space.write("given.json", json!([{"n": "b"}]).to_string());
    space.build();
    assert_eq!(space.read("x-b.txt"), "two-b\n");
    // Now the list of the other has a key that leads there.
    space.write("given.json", json!([{"n": "b"}, {"n": "x-b"}]).to_string());
    for _ in 0..2 {
        space.run(&["build"]).exits(1).says(&["one[x-b]"]);
        assert_eq!(space.read("x-b.txt"), "two-b\n");
        assert!(space.is_done("x-x-b.txt"));
    }
}

#[test]
fn records_of_others_are_not_those_of_former_items() {
    // The patterns overlap: what one made is no former item of the other, nor is a task that is no longer declared.
    let both = "[task.gone]\noutputs = [\"gone.txt\"]\ncommand = \"echo gone > $out\"\n";
    let space = space("{{ key }}.txt", &["aa"], both);
    space.build();
    space.edit("pipeline.toml", both, "");
    space.build();
    assert_eq!(space.read("gone.txt"), "gone\n");
    write_keys(&space, &["bb"]);
    space.build().says(&["each[aa]: its item is gone"]);
    assert!(!space.exists("aa.txt") && space.exists("gone.txt") && space.exists("swot.txt"));
}

#[test]
fn what_a_person_wrote_in_the_place_of_an_item_can_be_taken_as_it_is() {
    let space = space(
        "items/{{ key }}.txt",
        &["aa"],
        "[task.reads]\ninputs = [\"items/*.txt\"]\noutputs = [\"reads.out\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.write("items/aa.txt", "by hand\n");
    space.run(&["build"]).exits(1).says(&["`items/aa.txt` is read by `reads`", "planexe touch items/aa.txt"]);
    space.run(&["touch", "items/aa.txt"]).exits(0);
    space.build();
    assert_eq!(
        (space.read("items/aa.txt"), space.read("reads.out")),
        ("by hand\n".into(), "by hand\n".into())
    );
    // Without its marker it is made again, as ever.
    space.remove("items/aa.txt.DONE");
    space.build();
    assert_eq!(space.read("reads.out"), "by-an-item-aa\n");
}

#[test]
fn batches_sequences_and_lists_that_models_write_are_held_to_it() {
    let server = FakeLlm::scripted(|call| match call.task.as_str() {
        "list" => Answer::Text("[{\"n\": \"plan\"}, {\"n\": \"ok\"}]".into()),
        _ => Answer::Text("by a model".into()),
    });
    let space = Space::with(
        &server,
        "[task.list]\noutputs = [\"l.json\"]\nprompt = \"TASK=list\\nNow.\"\n[task.each]\nforeach = { file = \"l.json\", key = \"n\" }\noutputs = [\"{{ key }}.txt\"]\nprompt = \"TASK=each\\n{{ key }}\"\n[task.reads]\ninputs = [\"plan.txt\"]\noutputs = [\"reads.out\"]\ncommand = \"cat $in > $out\"\n[task.after]\nforeach = { file = \"l.json\", key = \"n\" }\ninputs = [\"{{ key }}.txt\"]\noutputs = [\"after/{{ key }}.txt\"]\nsequential = true\nprompt = \"TASK=after {{ inputs[0].text }}\"\n",
    );
    space.write("plan.txt", "mine\n");
    space.run(&["build"]).exits(1).says(&["each[plan]", "`plan.txt` is read by"]);
    assert_eq!(space.read("plan.txt"), "mine\n");
    assert_eq!((server.count("list"), server.count("each")), (1, 1));
}

/// A power cut may take both sidecars and leave the output: what was asked for it says whose it is.
#[test]
fn an_output_without_sidecars_is_its_items_if_that_was_asked() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        "[task.each]\nforeach = { file = \"l.json\", key = \"n\" }\noutputs = [\"each/{{ key }}.txt\"]\nprompt = \"TASK=each[{{ key }}]\\n{{ key }}\"\n\
         [task.all]\ninputs = { parts = \"each/*.txt\" }\noutputs = [\"all.txt\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.write("l.json", json!([{"n": "a"}, {"n": "b"}]).to_string());
    space.build();
    let all = space.read("all.txt");
    for sidecar in ["DONE", "status"] {
        space.remove(&format!("each/b.txt.{sidecar}"));
    }
    space.build();
    assert_eq!((space.read("all.txt"), server.count("each[a]")), (all, 1));
    // Where nothing was asked it is somebody's own.
    space.write("l.json", json!([{"n": "a"}, {"n": "b"}, {"n": "c"}]).to_string());
    space.write("each/c.txt", "mine");
    space.run(&["build"]).exits(1).says(&["each/c.txt"]);
    assert_eq!(space.read("each/c.txt"), "mine");
}
