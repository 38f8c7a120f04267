//! Tasks whose condition does not hold, and what reads them.

use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space, counts, space};

#[test]
fn what_is_not_wanted_is_skipped_with_its_readers() {
    let server = FakeLlm::new();
    let space = space(
        &server,
        r#"
[vars]
deep = false

[task.deep]
when = "{{ vars.deep }}"
inputs = ["plan.txt"]
outputs = ["deep.txt"]
prompt = "TASK=deep\n{{ plan }}"

[task.reader]
inputs = ["deep.txt"]
outputs = ["reader.txt"]
prompt = "TASK=reader\n{{ deep }}"

[task.report]
inputs = { plan = "plan.txt", deep = "deep.txt" }
optional = ["deep"]
outputs = ["report.txt"]
prompt = "TASK=report\n{{ plan }}{% if deep %}{{ deep }}{% else %}nothing deep{% endif %}"
"#,
    );
    space.build();
    assert_eq!(server.counts(), counts([("report", 1)]));
    assert!(server.last("report").prompt.ends_with("nothing deep"));
    assert_eq!((space.state("deep"), space.state("reader")), ("skipped".to_owned(), "skipped".to_owned()));
    space.assert_nothing_to_do(&server);
    space.edit("pipeline.toml", "deep = false", "deep = true");
    space.build();
    assert_eq!(server.counts(), counts([("deep", 1), ("reader", 1), ("report", 2)]));
    assert!(server.last("report").prompt.contains(&server.last("deep").digest()));
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_condition_over_a_made_input() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "judge" => json!({ "more": request.nth > 0 }).into(),
        _ => Answer::Default,
    });
    let space = space(
        &server,
        r#"
[task.judge]
inputs = ["plan.txt"]
outputs = ["judge.json"]
prompt = "TASK=judge\n{{ plan }}"
schema = "judge.schema.json"

[task.more]
when = "{{ judge.more }}"
inputs = ["judge.json"]
outputs = ["more.txt"]
prompt = "TASK=more\nMore, please."

[task.reader]
inputs = ["more.txt"]
outputs = ["reader.txt"]
command = "cp $in $out"

[task.other]
inputs = ["judge.json", "more.txt"]
optional = ["more.txt"]
outputs = ["other.txt"]
command = "cat judge.json > $out"
"#,
    );
    space.write("judge.schema.json", r#"{"type": "object", "required": ["more"]}"#);
    let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
    let number = |key: &str| plan[key].as_u64();
    let told = [number("stale"), number("depends"), number("calls_expected"), number("calls_at_most")];
    assert_eq!(told, [2, 2, 1, 2].map(Some), "whether `more` runs is not known yet: {plan}");
    space.build();
    assert_eq!((server.counts(), space.state("more")), (counts([("judge", 1)]), "skipped".to_owned()));
    space.assert_nothing_to_do(&server);
    space.write("plan.txt", "Build a tunnel.\n");
    space.build();
    assert_eq!(
        (server.counts(), space.state("more")),
        (counts([("judge", 2), ("more", 1)]), "done".to_owned())
    );
    space.assert_nothing_to_do(&server);
}

#[test]
fn in_sequence_items_may_be_skipped() {
    let server = FakeLlm::scripted(|request| format!("What {} says.", request.task).into());
    let space = Space::with(
        &server,
        r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
sequential = true
when = "{{ item.wanted }}"
outputs = ["parts/{{ key }}.txt"]
prompt = "TASK={{ key }}\n{% if previous %}After: {{ previous }}{% else %}The first.{% endif %}"
"#,
    );
    let parts = |wanted: [bool; 4]| {
        let item = |(id, wanted)| json!({ "id": id, "wanted": wanted });
        Value::from_iter(["a", "b", "c", "d"].into_iter().zip(wanted).map(item)).to_string()
    };
    space.write("parts.json", parts([false; 4]));
    space.build();
    assert_eq!((server.total(), space.state("part").as_str()), (0, "skipped"));
    space.write("parts.json", parts([true, false, true, true]));
    space.build();
    assert_eq!(server.order(), ["a", "c", "d"]);
    assert_eq!(server.last("c").prompt, "TASK=c\nThe first.");
    assert_eq!(server.last("d").prompt, "TASK=d\nAfter: What c says.\n");
    space.assert_nothing_to_do(&server);
    // What an item left that is skipped now is nobody's.
    space.write("parts.json", parts([true, false, false, true]));
    space.build();
    assert_eq!(server.last("d").prompt, "TASK=d\nThe first.");
    space.assert_nothing_to_do(&server);
}

/// Of two items one is skipped, or all are; readers may do without them.
const SKIPPED: &str = r#"
[task.part]
foreach = { file = "parts.json", key = "id" }
when = "{{ item.wanted }}"
outputs = ["parts/{{ key }}.txt"]
template = "part {{ key }}"

[task.note]
foreach = { file = "parts.json", key = "id" }
inputs = { part = "parts/{{ key }}.txt" }
optional = ["part"]
outputs = ["notes/{{ key }}.txt"]
template = "note on {{ part or 'nothing' }}"

[task.each]
foreach = { glob = "parts/*.txt" }
outputs = ["each/{{ key }}.txt"]
template = "{{ item.text }}"

[task.all]
inputs = { parts = "parts/*.txt" }
outputs = ["all.txt"]
command = "cat $in > $out"

[task.plan]
inputs = { list = "parts.json" }
when = "{{ list[0].wanted }}"
outputs = ["plan.json"]
template = "{{ list | tojson }}"

[task.reader]
inputs = { plan = "plan.json" }
optional = ["plan"]
outputs = ["reader.txt"]
command = "cat /dev/null $in > $out"

[task.template]
inputs = { plan = "plan.json" }
optional = ["plan"]
outputs = ["template.txt"]
template = "{{ plan is none }}"
"#;

#[test]
fn what_a_skipped_task_left_is_not_read() {
    let server = FakeLlm::new();
    let parts = |a: bool| json!([{ "id": "a", "wanted": a }, { "id": "b", "wanted": true }]).to_string();
    let spaces = [Space::with(&server, SKIPPED), Space::with(&server, SKIPPED)];
    let [one, scratch] = &spaces;
    one.write("parts.json", parts(true));
    one.build();
    one.assert_nothing_to_do(&server);
    assert_eq!(one.read("notes/a.txt"), "note on part a");
    for space in &spaces {
        space.write("parts.json", parts(false));
        space.build();
        space.assert_nothing_to_do(&server);
        assert_eq!(space.read("notes/a.txt"), "note on nothing");
        assert_eq!(space.read("all.txt"), "part b");
        assert!(space.exists("each/b.txt") && !space.exists("each/a.txt"));
        assert_eq!(
            (space.read("reader.txt"), space.read("template.txt")),
            (String::new(), "True".to_owned())
        );
    }
    assert!(one.exists("plan.json") && !scratch.exists("plan.json"));
    // Nor by who marks a reader done.
    for file in ["reader.txt", "notes/a.txt"] {
        one.write(file, "by hand");
    }
    one.run(&["touch", "reader", "note"]).exits(0);
    one.assert_nothing_to_do(&server);
    assert_eq!((one.read("reader.txt"), one.read("notes/a.txt")), ("by hand".into(), "by hand".into()));
    one.write("parts.json", parts(true));
    one.build();
    assert_eq!(
        (one.read("notes/a.txt"), one.read("all.txt")),
        ("note on part a".into(), "part apart b".into())
    );
    one.assert_nothing_to_do(&server);
}

#[test]
fn what_a_skipped_fan_out_made_before_is_not_read() {
    let space = Space::new();
    let pipeline = |on: &str| {
        format!(
            "[task.list]\nwhen = \"{{{{ {on} }}}}\"\noutputs = [\"list.json\"]\n\
             command = \"echo '[{{\\\"id\\\": \\\"a\\\"}}]' > $out\"\n\n\
             [task.part]\nforeach = {{ file = \"list.json\", key = \"id\" }}\noutputs = [\"parts/{{{{ key }}}}.txt\"]\n\
             command = \"echo $key > $out\"\n\n\
             [task.whole]\ninputs = [\"parts/*.txt\"]\noptional = [\"parts/*.txt\"]\noutputs = [\"whole.txt\"]\n\
             command = \"cat /dev/null $in > $out; echo end >> $out\"\n"
        )
    };
    for (on, whole) in [("true", "a\nend\n"), ("false", "end\n"), ("true", "a\nend\n")] {
        space.write("pipeline.toml", pipeline(on));
        space.run(&["build"]).exits(0);
        assert_eq!(space.read("whole.txt"), whole, "{on}");
        space.run(&["build", "-q"]).exits(0);
    }
}

/// What may come out skipped has no record, as if it had never been reached.
#[test]
fn a_completed_run_stays_so_when_what_a_condition_hangs_on_is_edited() {
    let one = r#"
[task.deep]
when = "{{ 'deep' in a }}"
inputs = ["a.txt"]
outputs = ["deep.txt"]
command = "cat $in > $out"

[task.reader]
inputs = ["deep.txt"]
outputs = ["reader.txt"]
command = "cat $in > $out"
"#;
    let items = r#"
[task.list]
inputs = ["a.txt"]
outputs = ["list.json"]
command = "echo '[\"x\", \"y\"]' > $out"

[task.each]
when = "{{ item == 'x' }}"
foreach = { file = "list.json" }
outputs = ["each/{{ key }}.txt"]
command = "echo $key > $out"
"#;
    for (tasks, targets, phase) in
        [(one, &[][..], "completed"), (items, &[], "completed"), (one, &["a"], "stopped")]
    {
        let space = Space::new();
        let first =
            "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"\n";
        space.write("pipeline.toml", format!("{first}{tasks}"));
        space.write("plan.txt", "flat");
        space.run(&[&["build"], targets].concat()).exits(0);
        if targets.is_empty() {
            space.write("plan.txt", "flat still");
        } else {
            space.write("a.txt", "deep");
        }
        let status = space.run(&["status", "--json"]).exits(0).json();
        assert_eq!(status["run"]["phase"], phase, "{status:#}");
        if phase == "completed" {
            space.run(&["resume"]).exits(2).says(&["the run is complete, and 1 task is stale since"]);
        }
        space.run(&["build"]).exits(0);
        space.run(&["build", "-q"]).exits(0);
    }
}

/// What is skipped is neither a success nor a failure: the share is of those that ran, in the build and in status.
#[test]
fn skipped_items_are_no_successes() {
    let server = FakeLlm::new();
    let tasks = |share: f64| {
        format!(
            r#"
[task.each]
foreach = {{ file = "list.json", key = "k" }}
when = "{{{{ item.on }}}}"
outputs = ["each/{{{{ key }}}}.txt"]
min_success = {share}
command = "[ $key = good ] && echo > $out"

[task.gather]
inputs = ["each/*.txt"]
outputs = ["all.txt"]
template = "{{{{ each | length }}}} there"
"#
        )
    };
    let list = r#"[{"k": "good", "on": true}, {"k": "bad", "on": true}, {"k": "b", "on": false}, {"k": "c", "on": "no"}]"#;
    for (share, code, state) in [(0.75, 1, "failed"), (0.5, 0, "done")] {
        let space = Space::with(&server, &tasks(share));
        space.write("list.json", list);
        space.run(&["build"]).exits(code);
        assert_eq!((space.state("each").as_str(), space.exists("all.txt")), (state, code == 0));
        let said = space.run(&["status"]).exits(0).stdout;
        assert!(said.contains("1/2 done, 1 failed, 2 skipped"), "{said}");
        let partial = &space.report()["quality_summary"]["partial"];
        assert_eq!(partial.as_array().map(Vec::len), Some(usize::from(code == 0)));
    }
}
