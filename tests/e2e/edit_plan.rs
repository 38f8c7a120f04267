//! `planexe edit-plan`: what an edit makes stale is told before anything runs, and kept or made again as
//! the user says.

use serde_json::{Value, json};

use crate::support::{FakeLlm, Space, counts};

/// `title` uses the beginning of the plan alone; `b` and `c` read `a`; `d` reads `c`.
const TASKS: &str = r#"
[pipeline]
plan = "plan.txt"

[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.title]
inputs = ["plan.txt"]
outputs = ["title.txt"]
prompt = "TASK=title\nTitle of: {{ plan | first }}"

[task.b]
inputs = ["a.txt", "plan.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\n{{ a }}{{ plan }}"

[task.c]
inputs = ["a.txt"]
outputs = ["c.txt"]
prompt = "TASK=c\n{{ a }}"

[task.d]
inputs = ["c.txt"]
outputs = ["d.txt"]
prompt = "TASK=d\n{{ c }}"
"#;

pub(super) const OLD: &str = "A bridge\nover the river.\n";
pub(super) const NEW: &str = "A bridge\nover the sea.\n";

pub(super) fn built(server: &FakeLlm) -> Space {
    let space = Space::new();
    space.pipeline(server, TASKS);
    space.write("plan.txt", OLD);
    space.write("new.txt", NEW);
    space.build();
    space
}

fn names(value: &Value, list: &str) -> Vec<String> {
    let name = |one: &Value| one["task"].as_str().or(one.as_str()).expect("a name").to_owned();
    value[list].as_array().expect(list).iter().map(name).collect()
}

#[test]
fn what_an_editor_says_is_not_among_the_data() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.set_env("EDITOR", "echo hello; cp new.txt");
    let out = space.run(&["edit-plan", "-n", "--json"]).exits(0);
    assert_eq!(names(&out.json(), "stale"), ["a", "b"]);
    assert!(out.stderr.contains("hello"), "{out}");
}

#[test]
fn what_was_stale_before_an_edit_is_named() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["edit-plan", "--set", "new.txt", "--all"]).exits(0);
    space.write("newer.txt", "A bridge\nover the lake.\n");
    let out = space.run(&["edit-plan", "--set", "newer.txt", "--none"]).exits(0);
    assert!(out.stdout.contains("nothing stale that was not stale before"), "{out}");
    assert!(out.stdout.contains("made again in any case:\n  a, b\n"), "{out}");
}

#[test]
fn what_an_edit_makes_stale_is_told_by_fingerprint() {
    let server = FakeLlm::new();
    let space = built(&server);
    let before = space.everything();
    let out = space.run(&["edit-plan", "--set", "new.txt", "-n", "--json"]).exits(0);
    space.everything().assert_same_as(&before, &out);
    let view = out.json();
    assert_eq!(names(&view, "stale"), ["a", "b"]);
    assert_eq!(names(&view, "depends"), ["c", "d"]);
    assert_eq!((&view["calls_expected"], &view["calls_at_most"]), (&json!(2), &json!(4)));
    assert_eq!(view["changed"], false);
    assert!(view["diff"].as_str().unwrap().contains("-over the river.\n+over the sea.\n"), "{view:#}");
    space.run(&["edit-plan", "--set", "new.txt", "-n"]).exits(0).says(&[
        "+over the sea",
        "Stale by the edit",
        "at most 4",
    ]);
    space.assert_nothing_to_do(&server);
}

#[test]
fn all_is_made_again_or_nothing() {
    let server = FakeLlm::new();
    let space = built(&server);
    space
        .run(&["edit-plan", "--set", "new.txt"])
        .exits(2)
        .says(&["--invalidate-from", "nothing was changed"]);
    assert_eq!(space.read("plan.txt"), OLD);
    let view = space.run(&["edit-plan", "--set", "new.txt", "--none", "-y", "--json"]).exits(0).json();
    assert_eq!(names(&view, "kept"), ["a", "b"]);
    assert_eq!(space.read("plan.txt"), NEW);
    assert_eq!(space.done("a.txt")["by"], "touch");
    space.assert_nothing_to_do(&server);
    assert_eq!(server.counts(), counts([("a", 1), ("b", 1), ("c", 1), ("d", 1), ("title", 1)]));
    // The former plan can be had again.
    assert!(space.in_history(OLD));
    let out = space.run(&["restore", "plan.txt"]).exits(0);
    assert!(!out.stderr.contains("not in the pipeline"), "{out}");
    assert_eq!(space.read("plan.txt"), OLD);
    space.write("plan.txt", NEW);

    space.write("new.txt", "A bridge\nover the lake.\n");
    space.run(&["edit-plan", "--set", "new.txt", "--all", "-y"]).exits(0).says(&["planexe build"]);
    space.build();
    assert_eq!(server.counts()["a"], 2);
    assert_eq!(server.counts()["title"], 1);
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_is_before_a_task_is_kept() {
    let server = FakeLlm::new();
    let space = built(&server);
    let out = space.run(&["edit-plan", "--set", "new.txt", "--invalidate-from", "b"]).exits(0);
    let out = out.says(&["a: kept, marked done on the new text"]);
    assert!(!out.stdout.contains("b: kept"), "{out}");
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1), ("d", 1), ("title", 1)]));
    space.assert_nothing_to_do(&server);

    // A task the edit does not touch is made again too, if the user says from there.
    space.write("new.txt", "A bridge\nover the lake.\n");
    let view =
        space.run(&["edit-plan", "--set", "new.txt", "--invalidate-from", "c", "--json"]).exits(0).json();
    assert_eq!(names(&view, "kept"), ["a", "b"]);
    // What it comes to is told of it as well.
    assert_eq!(
        (names(&view, "stale"), names(&view, "depends")),
        (vec!["a".into(), "b".into(), "c".into()], vec!["d".into()])
    );
    assert_eq!((&view["calls_expected"], &view["calls_at_most"]), (&json!(1), &json!(2)));
    space.build();
    assert_eq!((server.counts()["c"], server.counts()["a"], server.counts()["b"]), (2, 1, 2));
    space.run(&["edit-plan", "--set", "plan.txt", "--remake", "nonsense"]).exits(2);
    let same = space.run(&["edit-plan", "--set", "plan.txt", "--all", "--json"]).exits(0).json();
    assert_eq!((&same["changed"], &same["stale"], &same["schema"]), (&json!(false), &json!([]), &json!(1)));
}

#[test]
fn an_editor_edits_and_one_that_fails_changes_nothing() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.set_env("EDITOR", "false");
    space.run(&["edit-plan", "--all"]).exits(1).says(&["false", "nothing was changed"]);
    space.set_env("EDITOR", "no-such-editor-at-all");
    space.run(&["edit-plan", "--all"]).exits(1).says(&["nothing was changed"]);
    space.set_env("EDITOR", "true");
    space.run(&["edit-plan", "--all"]).exits(0).says(&["nothing was changed"]);
    space.assert_nothing_to_do(&server);
    // With an argument of its own, and VISUAL before EDITOR; the copy ends as the plan does.
    space.write("ed.sh", "case $2 in *plan.txt) ;; *) exit 9;; esac\nsed -i \"$1\" \"$2\"\n");
    space.set_env("VISUAL", "sh ed.sh s/river/sea/");
    space.run(&["edit-plan", "--all"]).exits(0).says(&["+over the sea"]);
    assert_eq!(space.read("plan.txt"), NEW);
    space.write("latin1.txt", b"A bridge\nover the s\xe9a.\n");
    let odd = space.run(&["edit-plan", "--set", "latin1.txt", "--all"]).exits(2);
    odd.says(&["not UTF-8 at byte 19", "nothing was changed"]);
    space.set_env("VISUAL", "sh ed.sh d");
    space.run(&["edit-plan", "--all"]).exits(1).says(&["empty", "nothing was changed"]);
    assert_eq!(space.read("plan.txt"), NEW);
    assert_eq!(space.files(".planexe/edit"), [""; 0]);
}

#[test]
fn a_template_is_told_what_was_kept() {
    let server = FakeLlm::new();
    let space = built(&server);
    let tasks = space.read("pipeline.toml");
    let template = "{% for kept in kept_tasks %}{{ kept.task }}:{{ kept.gone | join(',') }};{% endfor %}.";
    let show = |task: &str| {
        let inputs = "inputs = { b = \"b.txt\", c = \"c.txt\" }";
        format!("\n[task.{task}]\n{inputs}\noutputs = [\"{task}.txt\"]\ntemplate = \"{template}\"\n")
    };
    space.write("pipeline.toml", format!("{tasks}{}", show("show")));
    let dated = "A bridge\nover the river by 1 March 2027.\n";
    space.write("plan.txt", dated);
    space.build();
    let asked = server.counts();
    let shows = |wanted: &str| {
        space.build();
        assert_eq!(space.read("show.txt"), wanted);
        assert_eq!(server.counts(), asked);
        space.assert_nothing_to_do(&server);
    };
    shows(".");
    let edit = |text: &str| {
        space.write("new.txt", text);
        space.run(&["edit-plan", "--set", "new.txt", "--none"]).exits(0);
    };
    edit(NEW);
    assert_eq!(space.done("a.txt")["kept"]["gone"], json!(["1 March 2027", "March 2027"]));
    // `b` reads the plan; `c` reads only what was kept, and is as new as that.
    shows("a:1 March 2027,March 2027;b:1 March 2027,March 2027;.");
    // A date that comes back is not gone, and the text from the beginning is what was answered.
    edit("A bridge\nover the lake by 1 March 2027.\n");
    shows("a:;b:;.");
    edit(dated);
    shows(".");
    assert_eq!(space.done("a.txt")["kept"], Value::Null);
    // Marked by hand after an edit by hand; what was in the plan then is not known.
    space.write("plan.txt", NEW);
    space.run(&["touch", "a", "b"]).exits(0);
    shows("a:;b:;.");
}

/// A text that was typed is nowhere else: an edit that cannot be carried out keeps it, and says where.
#[test]
fn a_typed_text_outlives_an_edit_that_comes_to_nothing() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("ed.sh", "printf '%s' \"$1\" > \"$2\"\n");
    // A task that the new text makes run for the first time cannot be kept: there is nothing of it.
    let tasks = space.read("pipeline.toml");
    let when = "{{ 'sea' in plan }}";
    space.write(
        "pipeline.toml",
        format!(
            "{tasks}\n[task.e]\nwhen = \"{when}\"\ninputs = {{ plan = \"plan.txt\" }}\noutputs = [\"e.txt\"]\ncommand = \"cp $in $out\"\n"
        ),
    );
    space.build();
    let kept = ".planexe/edit/plan.txt.unfinished";
    for (n, text) in ["one sea", "two sea", "two sea"].into_iter().enumerate() {
        space.set_env("EDITOR", format!("sh ed.sh '{text}'"));
        let out = space.run(&["edit-plan", "--none"]).exits(1).says(&["cannot be kept", "--set", kept]);
        assert_eq!(space.read("plan.txt"), OLD, "{out}");
        let kept = if n == 0 { kept.to_owned() } else { format!("{kept}-2") };
        assert_eq!(space.read(&kept), text, "{out}");
    }
    // A text of a file is in that file.
    space.write("new.txt", "three sea");
    space.run(&["edit-plan", "--set", "new.txt", "--none"]).exits(1).says_nothing_of(&["--set"]);
    assert_eq!(space.files(".planexe/edit").len(), 2);
    // It can be gone on with.
    space.run(&["edit-plan", "--set", kept, "--all"]).exits(0);
    assert_eq!(space.read("plan.txt"), "one sea");
}

#[test]
fn a_plan_that_was_changed_while_it_was_edited_is_left_alone() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.write("ed.sh", "echo of another > plan.txt\necho mine > \"$1\"\n");
    space.set_env("EDITOR", "sh ed.sh");
    let out = space.run(&["edit-plan", "--all"]).exits(1).says(&["was changed meanwhile", "--set"]);
    assert_eq!(space.read("plan.txt"), "of another\n", "{out}");
    assert_eq!(space.read(".planexe/edit/plan.txt.unfinished"), "mine\n");
}

#[test]
fn edits_that_were_cut_short_are_kept_one_beside_the_other() {
    let server = FakeLlm::new();
    let space = built(&server);
    for left in ["first", "second"] {
        space.write(".planexe/edit/plan.txt", left);
        space.run(&["edit-plan", "--set", "new.txt", "--all"]).exits(0).says(&["cut short"]);
    }
    assert_eq!(space.read(".planexe/edit/plan.txt.unfinished"), "first");
    assert_eq!(space.read(".planexe/edit/plan.txt.unfinished-2"), "second");
}

#[test]
fn a_running_build_is_not_disturbed() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASKS.split("[task.title]").next().unwrap());
    space.write("plan.txt", OLD);
    space.write("new.txt", NEW);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.run(&["edit-plan", "--set", "new.txt", "--all", "-y"]).exits(75);
    assert_eq!(space.read("plan.txt"), OLD);
    let edit = space.spawn(&["edit-plan", "--set", "new.txt", "--all", "-y", "--wait"]);
    server.release("a");
    build.wait().exits(0);
    edit.wait().exits(0);
    assert_eq!(space.read("plan.txt"), NEW);
    let none = Space::with(&server, "[task.x]\noutputs = [\"x\"]\ncommand = \"echo > $out\"\n");
    none.run(&["edit-plan", "--set", "new.txt", "--all"]).exits(2).says(&["names no plan"]);
}

#[test]
fn under_makes_rule_what_is_kept_stays_kept() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline(&server, &format!("[staleness]\nby = \"mtime\"\n{TASKS}"));
    space.write("plan.txt", OLD);
    space.write("new.txt", NEW);
    space.build();
    let view = space.run(&["edit-plan", "--set", "new.txt", "-n", "--json"]).exits(0).json();
    // By its time alone the plan makes all stale that reads it.
    assert_eq!(names(&view, "stale"), ["a", "title", "b"]);
    space.run(&["edit-plan", "--set", "new.txt", "--invalidate-from", "b"]).exits(0);
    assert_eq!(space.read("plan.txt"), NEW);
    space.build();
    // c reads a, whose time is new as well: make would make it too.
    assert_eq!((server.count("a"), server.count("title"), server.count("b")), (1, 1, 2));
    space.assert_nothing_to_do(&server);

    let calls = server.total();
    space.set_mtime("plan.txt", std::time::SystemTime::now());
    space.run(&["build", "-q"]).exits(1);
    // In whatever order they are named.
    space.run(&["touch", "d", "c", "b", "title", "a"]).exits(0);
    space.assert_nothing_to_do(&server);
    assert_eq!(server.total(), calls);
}

#[test]
fn a_task_named_to_be_made_again_is_though_the_edit_does_not_touch_it() {
    let server = FakeLlm::new();
    let space = built(&server);
    let args = ["edit-plan", "--set", "new.txt", "--remake", "d", "--remake", "b"];
    space.run(&[&args[..], &["-n"]].concat()).exits(0).says(&["a: would be kept", "d: would be made again"]);
    space.run(&args).exits(0).says(&["a: kept", "d: to be made again"]);
    space.build();
    assert_eq!(server.counts(), counts([("a", 1), ("b", 2), ("c", 1), ("d", 2), ("title", 1)]));
    space.assert_nothing_to_do(&server);
}

/// The flagship's prompts read the plan through a template, which cuts it where it is too long.
#[test]
fn what_is_made_again_is_asked_with_the_new_text_through_templates() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline(
        &server,
        r#"
        [pipeline]
        plan = "plan.txt"
        [task.pieces]
        inputs = { text = "plan.txt" }
        outputs = ["pieces.json"]
        template = '{ "characters": {{ text | length }}, "pieces": [] }'
        [task.part]
        foreach = { file = "pieces.json", items = "/pieces" }
        outputs = ["part/{{ key }}.txt"]
        prompt = "TASK=part\nShorten {{ item }}"
        [task.brief]
        inputs = { text = "plan.txt", pieces = "pieces.json", parts = "part/*.txt" }
        outputs = ["brief.md"]
        template = "{% if pieces.pieces %}{{ parts | length }}{% else %}{{ text }}{% endif %}"
        [task.swot]
        inputs = ["brief.md"]
        outputs = ["swot.txt"]
        prompt = "TASK=swot\n{{ brief }}"
        [task.risks]
        inputs = ["brief.md", "swot.txt"]
        outputs = ["risks.txt"]
        prompt = "TASK=risks\n{{ brief }}{{ swot }}"
        [task.page]
        inputs = ["plan.txt", "swot.txt", "risks.txt"]
        outputs = ["page.md"]
        template = "{{ plan }}{{ swot }}{{ risks }}"
        "#,
    );
    space.write("plan.txt", OLD);
    space.write("new.txt", NEW);
    space.build();

    let before = space.everything();
    let out = space.run(&["edit-plan", "--set", "new.txt", "-n", "--json"]).exits(0);
    space.everything().assert_same_as(&before, &out);
    assert_eq!(names(&out.json(), "stale"), ["pieces", "brief", "swot", "risks", "page"]);
    assert_eq!(out.json()["calls_expected"], 2);

    let args = ["edit-plan", "--set", "new.txt", "--invalidate-from", "risks", "--json"];
    let view = space.run(&args).exits(0).json();
    assert_eq!((names(&view, "kept"), &view["calls_expected"]), (vec!["swot".to_owned()], &json!(1)));
    assert!(!space.exists(".planexe/edit"), "nothing is left of the edit");
    let swot = space.read("swot.txt");
    space.build();
    assert_eq!(server.counts(), counts([("risks", 2), ("swot", 1)]));
    space.run(&["show", "risks", "--prompt"]).exits(0).says(&["over the sea"]);
    assert!(space.read("brief.md").contains("over the sea") && space.read("swot.txt") == swot);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_plan_that_was_never_edited_has_nothing_former() {
    let server = FakeLlm::new();
    let space = built(&server);
    space.run(&["restore", "plan.txt"]).exits(2).says(&["nothing former is kept of `plan.txt`"]);
    space.run(&["diff", "plan.txt"]).exits(2).says(&["nothing former is kept of `plan.txt`"]);
    let out = space.run(&["history", "plan.txt"]).exits(0);
    assert!(!out.stderr.contains("no task"), "{out}");
    space.run(&["history", "other.txt"]).exits(2).says(&["no task or output"]);
}
