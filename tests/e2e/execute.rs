//! `planexe execute`: a finished plan becomes a pipeline of its own; words of the plan stay words; what is done stays done
//! when the plan changes, and what somebody edited is not written over.

use serde_json::{Value, json};

use crate::answer_schemas::assert_as_the_schema_says;
use crate::support::{FakeLlm, Out, Space};

/// A pipeline that makes the files of a plan from JSON under `in/`.
const PLAN: &str = r#"
[vars]
language = "Dutch"
[task.tree]
inputs = { x = "in/tree.json" }
outputs = ["wbs_project_level1_and_level2_and_level3.json"]
template = "{{ x | tojson }}"
[task.schedule]
inputs = { x = "in/schedule.json" }
outputs = ["schedule.json"]
template = "{{ x | tojson }}"
[task.summary]
inputs = { x = "in/summary.json" }
outputs = ["plan_summary.json"]
template = "{{ x | tojson }}"
"#;

fn step(title: &str, result: &str) -> Value {
    json!({"wbs": "1", "title": title, "description": "How.", "result": result, "days": 2})
}

fn task(id: &str, steps: &[Value]) -> Value {
    json!({"id": id, "wbs": "1.1", "title": format!("Task {id}"), "description": "What.", "owner": "ann",
           "owner_title": "Ann", "done_when": "It is there.", "subtasks": steps})
}

fn row(id: &str, waits_for: &[&str]) -> Value {
    json!({"id": id, "start": "2027-03-01", "finish": "2027-03-12", "critical": true, "waits_for": waits_for})
}

fn tree(tasks: &[Value]) -> Value {
    json!({"project_title": "Bakery", "final_deliverable": "A shop", "phases": [
        {"id": "one", "wbs": "1", "title": "Phase one", "objective": "Begin", "tasks": tasks},
        {"id": "two", "wbs": "2", "title": "Phase two", "objective": "End", "tasks": [task("open", &[step("Open the shop", "It is open")])]},
    ]})
}

/// A finished plan: draft and sign a lease, write a menu, open.
pub fn plan(server: &FakeLlm) -> Space {
    let space = Space::with(server, PLAN);
    set_tree(
        &space,
        &tree(&[
            task("lease", &[step("Draft the lease", "Draft"), step("Sign the lease", "Signed lease")]),
            task("menu", &[step("Write the menu", "Menu")]),
        ]),
    );
    let rows = [row("lease", &[]), row("menu", &[]), row("open", &["lease", "menu"])];
    space.write("in/schedule.json", json!({"tasks": rows, "ignored": [], "deadlines": []}).to_string());
    let summary = json!({"goal": "Bread", "go_no_go": {"verdict": "go"}, "scenario": {"name": "Slow", "stance": "cautious"}});
    space.write("in/summary.json", summary.to_string());
    space.build();
    space
}

fn set_tree(space: &Space, tree: &Value) {
    space.write("in/tree.json", tree.to_string());
}

fn execute(space: &Space, args: &[&str]) -> Out {
    let mut all = vec!["execute", "--into", "work"];
    all.extend(args);
    space.run(&all)
}

fn work(space: &Space, args: &[&str]) -> Out {
    let mut all = vec!["-C", "work"];
    all.extend(args);
    space.run(&all)
}

fn state(space: &Space, task: &str) -> String {
    let status = work(space, &["status", "--json"]).json();
    let tasks = status["tasks"].as_array().expect("tasks");
    let found = tasks.iter().find(|one| one["task"] == task).unwrap_or_else(|| panic!("no task {task}"));
    found["state"].as_str().expect("a state").to_owned()
}

#[test]
fn a_plan_becomes_tasks_for_models_and_people() {
    let server = FakeLlm::new();
    let space = plan(&server);
    execute(&space, &[]).exits(0).says(&[
        "4 steps in 3 tasks and 2 phases",
        "2 for a model to write",
        "2 for a person",
    ]);
    work(&space, &["check"]).exits(0);
    // The model writes what it can, then a person is waited for.
    work(&space, &["build"])
        .exits(3)
        .says(&["planexe -C work done lease.sign-the-lease", "Sign the lease (Ann)"]);
    assert_eq!(server.total(), 2);
    let asked = server.calls().iter().map(|call| call.prompt.clone()).collect::<String>();
    for said in ["Bakery", "Bread", "Slow (cautious)", "in Dutch", "Draft the lease"] {
        assert!(asked.contains(said), "{said} in {asked}");
    }
    assert_eq!(state(&space, "lease.sign-the-lease"), "waiting");
    assert_eq!(state(&space, "open.open-the-shop"), "pending");
    // The person says what came of it.
    space.write("work/deliverables/lease.sign-the-lease.md", "Signed on Monday.\n");
    work(&space, &["done", "lease.sign-the-lease"]).exits(0);
    work(&space, &["build"]).exits(3).says(&["open.open-the-shop"]);
    assert_eq!(space.read("work/deliverables/lease.sign-the-lease.md"), "Signed on Monday.\n");
    space.write("photo.jpg", [255u8, 216, 0, 1]);
    space.write("empty.txt", "");
    space.write("said.txt", "Two hundred came.\n");
    for (file, said) in [("empty.txt", "is empty"), ("photo.jpg", "is no text")] {
        work(&space, &["done", "open.open-the-shop", "--evidence", file]).exits(2).says(&[said]);
    }
    work(&space, &["done", "open.open-the-shop", "--evidence", "said.txt"]).exits(0);
    work(&space, &["done", "open.open-the-shop", "--evidence", "plan.txt"]).exits(2);
    work(&space, &["build"]).exits(0);
    assert_eq!(space.read("work/deliverables/open.open-the-shop.md"), "Two hundred came.\n");
    work(&space, &["build"]).exits(0).says(&["up to date"]);
    assert_eq!(server.total(), 2, "nothing is asked twice");
}

#[test]
fn the_same_plan_gives_the_same_bytes() {
    let server = FakeLlm::new();
    let space = plan(&server);
    execute(&space, &[]).exits(0);
    space.run(&["execute", "--into", "other"]).exits(0);
    for file in space.files("work") {
        if file.contains(".planexe") {
            continue;
        }
        let other = file.replacen("work", "other", 1);
        assert_eq!(space.bytes(&file), space.bytes(&other), "{file}");
    }
    let before = space.mtime("work/pipeline.toml");
    execute(&space, &[]).exits(0).says(&["nothing to change"]);
    assert_eq!(space.mtime("work/pipeline.toml"), before);
}

#[test]
fn a_changed_plan_leaves_what_is_done() {
    let server = FakeLlm::new();
    let space = plan(&server);
    execute(&space, &[]).exits(0);
    work(&space, &["build"]).exits(3);
    work(&space, &["done", "lease.sign-the-lease"]).exits(0);
    work(&space, &["build"]).exits(3);
    let requests = server.total();
    // A step comes in front, one is gone, another is said differently.
    set_tree(
        &space,
        &tree(&[
            task(
                "lease",
                &[
                    step("Compare places", "A table"),
                    step("Draft the lease", "Draft"),
                    step("Sign the lease", "Signed lease"),
                ],
            ),
            task("menu", &[step("Write the menu", "Menu in two languages")]),
        ]),
    );
    space.build();
    execute(&space, &[]).exits(0).says(&["made again"]);
    assert_eq!(state(&space, "lease.sign-the-lease"), "done");
    assert_eq!(state(&space, "menu.write-the-menu"), "stale");
    work(&space, &["build"]).exits(3);
    // The new step, the menu, and the draft, which now has something to read.
    assert_eq!(server.total(), requests + 3);
    set_tree(&space, &tree(&[task("lease", &[step("Sign the lease", "Signed lease")])]));
    let rows = [row("lease", &[]), row("open", &["lease"])];
    space.write("in/schedule.json", json!({"tasks": rows}).to_string());
    space.build();
    execute(&space, &[]).exits(0).says(&["removed"]);
    assert!(!space.exists("work/items/menu.write-the-menu.json"));
    assert!(space.exists("work/deliverables/menu.write-the-menu.md"), "what was delivered stays");
    assert_eq!(state(&space, "lease.sign-the-lease"), "done");
}

#[test]
fn an_edited_file_is_not_written_over() {
    let server = FakeLlm::new();
    let space = plan(&server);
    assert_as_the_schema_says("execute", &execute(&space, &["--json"]).exits(0).json());
    space.edit("work/pipeline.toml", "Task menu", "My menu");
    execute(&space, &[]).exits(2).says(&["edited by hand", "`pipeline.toml`", "--force", "execution.toml"]);
    assert!(space.read("work/pipeline.toml").contains("My menu"));
    execute(&space, &["--force"]).exits(0).says(&["is in history"]);
    assert!(!space.read("work/pipeline.toml").contains("My menu"));
    assert!(work(&space, &["history", "execute"]).exits(0).stdout.contains("pipeline.toml"));
    // A link is not what somebody wrote: nothing of what it leads to is read or kept.
    space.write("own.txt", "my own");
    space.remove("work/prompts/deliver.md");
    std::os::unix::fs::symlink(space.path("own.txt"), space.path("work/prompts/deliver.md")).expect("a link");
    execute(&space, &[])
        .exits(2)
        .says(&["links in the place of files", "`prompts/deliver.md`", "left alone"])
        .says_nothing_of(&["edited by hand"]);
    execute(&space, &["-n", "--force"]).exits(0).says(&["was a link"]);
    execute(&space, &["--force"]).exits(0).says(&["was a link"]).says_nothing_of(&["in history"]);
    assert!(space.path("work/prompts/deliver.md").symlink_metadata().expect("a file").is_file());
    assert_eq!(space.read("own.txt"), "my own");
    // Cut short while writing: what was written is known as ours.
    let list = space.read("work/plan/generated.json");
    space.remove("work/prompts/deliver.md");
    execute(&space, &[]).exits(0);
    assert_eq!(space.read("work/plan/generated.json"), list);
}

#[test]
fn rules_say_who_does_what() {
    let server = FakeLlm::new();
    let space = plan(&server);
    space.write(
        "work/execution.toml",
        r#"
approve = "phases"
[[item]]
match = "lease.draft-*"
tier = 2
[[item]]
match = "menu.*"
command = ["sh", "-c", 'echo menu; cat "$1" > "$2"', "sh", "$in.0", "$out"]
tier = 3
output = "site/menu.json"
[[item]]
match = "nobody"
kind = "ai"
"#,
    );
    execute(&space, &[]).exits(0).says(&[
        "1 for a model",
        "1 for a program",
        "2 for a person",
        "`match = \"nobody\"`",
    ]);
    execute(&space, &["--kind", "ai"]).exits(2).says(&["says who does what already"]);
    work(&space, &["build"]).exits(3).says(&["approve.menu.write-the-menu", "accept.lease.draft-the-lease"]);
    assert!(!space.exists("work/site/menu.json"), "nothing of tier 3 begins by itself");
    assert_eq!(state(&space, "lease.sign-the-lease"), "pending");
    for gate in ["approve.menu.write-the-menu", "accept.lease.draft-the-lease"] {
        work(&space, &["done", gate]).exits(0);
    }
    work(&space, &["build"]).exits(3).says(&["accept.menu.write-the-menu", "lease.sign-the-lease"]);
    assert!(space.read("work/site/menu.json").contains("Write the menu"));
    for name in ["accept.menu.write-the-menu", "lease.sign-the-lease"] {
        work(&space, &["done", name]).exits(0);
    }
    // The first phase is over: the second is let begin.
    work(&space, &["build"]).exits(3).says(&["approve.phase.two", "may phase 2 begin?"]);
    work(&space, &["done", "approve.phase.two"]).exits(0);
    work(&space, &["build"]).exits(3).says(&["open.open-the-shop"]);
    // What was accepted is made again otherwise: it is asked again.
    assert_eq!(state(&space, "accept.lease.draft-the-lease"), "done");
    space.write("work/deliverables/lease.draft-the-lease.md", "Another draft, by hand.\n");
    work(&space, &["build"]).exits(3).says(&["accept.lease.draft-the-lease"]);
    work(&space, &["check", "--strict"]).exits(0);
    // A fault in the rules is shown where it stands, and the pipeline there is stays.
    let before = space.bytes("work/pipeline.toml");
    let mut output = "site/menu.json";
    for (other, says) in [
        ("execution.toml", "would write over `execution.toml`"),
        ("models.toml", "would write over `models.toml`"),
        ("plan/generated.json", "would write over `plan/generated.json`"),
        ("items/open.open-the-shop.json", "would write over `items/open.open-the-shop.json`"),
        ("deliverables/lease.draft-the-lease.md", "two tasks write"),
    ] {
        space.edit("work/execution.toml", output, other);
        output = other;
        execute(&space, &[]).exits(2).says(&[says]);
        assert_eq!(space.bytes("work/pipeline.toml"), before);
    }
    space.edit("work/execution.toml", output, "../menu.json");
    execute(&space, &[]).exits(2).says(&["../menu.json"]);
    space.edit("work/execution.toml", "tier = 2", "teir = 2");
    execute(&space, &[]).exits(2).says(&["execution.toml:5", "did you mean `tier`"]);
    assert_eq!(space.bytes("work/pipeline.toml"), before);
}

#[test]
fn an_unfinished_plan_and_a_no_go_are_refused() {
    let server = FakeLlm::new();
    let space = plan(&server);
    space.edit("in/schedule.json", "2027-03-12", "2027-03-13");
    execute(&space, &[]).exits(2).says(&["the plan is not finished: `schedule` is stale", "build"]);
    assert!(!space.exists("work"));
    space.edit("in/summary.json", "\"go\"", "\"no-go\"");
    space.build();
    execute(&space, &[]).exits(2).says(&["the verdict on the plan is no-go", "--force"]);
    execute(&space, &["-n", "--force"]).exits(0).says(&["would make"]);
    assert!(!space.exists("work"));
    execute(&space, &["--force"]).exits(0);
    let answer = execute(&space, &["--force", "--json"]).exits(0).json();
    assert_eq!((answer["steps"].clone(), answer["written"].clone()), (json!(4), json!([])));
    // Another folder with something in it, and a pipeline that makes no plan.
    space.write("full/x.txt", "x");
    space.run(&["execute", "--force", "--into", "full"]).exits(2).says(&["not empty"]);
    space.run(&["execute", "work", "--into", "deeper"]).exits(2).says(&["its plan cannot be carried out"]);
}

#[test]
fn a_project_is_a_repository_if_asked() {
    let server = FakeLlm::new();
    let space = plan(&server);
    let git = |args: &[&str]| -> String {
        let out = std::process::Command::new("git")
            .args(args)
            .current_dir(space.path("work"))
            .output()
            .expect("git");
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    execute(&space, &["--git"]).exits(0);
    assert_eq!(git(&["log", "--format=%an %s"]), "planexe [execute] Bakery\n");
    assert_eq!(git(&["status", "--porcelain"]), "");
    work(&space, &["build"]).exits(3);
    space.write("work/deliverables/lease.sign-the-lease.md", "Signed.\n");
    work(&space, &["done", "lease.sign-the-lease"]).exits(0);
    work(&space, &["build"]).exits(3);
    let log = git(&["log", "--format=%s%n%(trailers:key=By,valueonly)"]);
    assert!(log.contains("[lease.sign-the-lease] 1 Sign the lease\nhuman"), "{log}");
    assert_eq!(git(&["log", "--format=%s"]).lines().count(), 4, "{log}");
    // Made again: what is gone is gone in git too, and nothing is committed when nothing changed.
    set_tree(&space, &tree(&[task("lease", &[step("Sign the lease", "Signed lease")])]));
    let rows = [row("lease", &[]), row("open", &["lease"])];
    space.write("in/schedule.json", json!({"tasks": rows}).to_string());
    space.build();
    execute(&space, &["--git"]).exits(0);
    execute(&space, &["--git"]).exits(0);
    assert_eq!(git(&["log", "--format=%s"]).lines().count(), 5);
    assert!(!git(&["ls-files"]).contains("items/menu"));
    assert!(git(&["ls-files"]).contains("deliverables/menu.write-the-menu.md\n"));
    space.edit("work/execution.toml", "git = true", "git = false");
    execute(&space, &["--git"]).exits(2).says(&["does not say `git = true`"]);
}

#[test]
fn words_of_the_plan_stay_words() {
    let server = FakeLlm::new();
    let space = plan(&server);
    let nasty = [
        "Draft \"quotes\" and 'more' \\ \\u0000",
        "Draft {{ vars.x }} {% raw %} {#",
        "Draft ../../etc/passwd",
        "Draft\nhuman = \"x\"\n[task.evil]\ncommand = \"id\"",
        "Draft \u{1b}]0;title\u{7}\u{1b}[31m red",
        "Draft \u{202e}desrever\u{2066}",
        "Draft \"\"\" ''' # comment",
        "",
        "Draft <script>alert(1)</script> | `x` [a](b)",
        "Draft $in $out $(id) ; rm -rf /",
    ];
    let steps: Vec<Value> = nasty.iter().map(|title| step(title, title)).collect();
    let ids = ["lease", "../../x", "lease", "", "{{ x }}", "a\nb", ".DONE", "\u{202e}"];
    let mut tasks: Vec<Value> = ids.iter().map(|id| task(id, &steps)).collect();
    tasks.push(task("none", &[]));
    let mut all = tree(&tasks);
    for (at, words) in [
        ("/project_title", nasty[3]),
        ("/final_deliverable", nasty[1]),
        ("/phases/0/title", nasty[3]),
        ("/phases/0/id", "../p"),
        ("/phases/0/wbs", "1}} {{ x"),
    ] {
        *all.pointer_mut(at).expect(at) = json!(words);
    }
    set_tree(&space, &all);
    let rows: Vec<Value> = ids.iter().map(|id| row(id, &["open", "../../x", "zz\u{1b}[31m", id])).collect();
    space.write("in/schedule.json", json!({"tasks": rows, "ignored": [nasty[4]]}).to_string());
    space.build();
    let before = space.files("");
    space.write("work/execution.toml", "kind = \"ai\"\napprove = \"phases\"\n");
    let out = execute(&space, &[]).exits(0);
    assert!(!out.stderr.contains('\u{1b}') && !out.stderr.contains('\u{202e}'), "{out}");
    out.says(&["which is itself", "which is no task"]);
    work(&space, &["check"]).exits(0).says(&["no faults"]);
    let pipeline = space.read("work/pipeline.toml");
    assert!(
        !pipeline.contains('\u{202e}') && !pipeline.lines().any(|line| line.starts_with("command")),
        "{pipeline}"
    );
    // All of it is made, asked for in the words of the plan, and lies in the folder.
    work(&space, &["build"]).exits(3).says(&["approve.phase.two"]);
    assert_eq!(server.total(), ids.len() * nasty.len() + 1);
    let calls = server.calls();
    for words in nasty {
        assert!(calls.iter().any(|call| call.prompt.contains(words)), "{words}");
    }
    work(&space, &["build"]).exits(3);
    let after: Vec<String> = space.files("").into_iter().filter(|file| !file.starts_with("work/")).collect();
    assert_eq!(after, before, "nothing is written beside it");
}

#[test]
fn thousands_of_steps_in_circles() {
    let server = FakeLlm::new();
    let space = plan(&server);
    let id = |n: usize| format!("t{n}");
    let tasks: Vec<Value> = (0..1000).map(|n| task(&id(n), &vec![step("Do it", "x"); 4])).collect();
    set_tree(&space, &tree(&tasks));
    let rows: Vec<Value> =
        (0..1000).map(|n| row(&id(n), &[&id((n + 1) % 1000), &id((n + 7) % 1000)])).collect();
    space.write("in/schedule.json", json!({"tasks": rows}).to_string());
    space.build();
    execute(&space, &[]).exits(0).says(&["4001 steps in 1001 tasks", "a circle"]);
    work(&space, &["build"]).exits(3);
    work(&space, &["check"]).exits(0);
    execute(&space, &[]).exits(0).says(&["nothing to change"]);
}

#[test]
fn without_a_folder_the_project_lies_beside_the_run() {
    let server = FakeLlm::new();
    let space = plan(&server);
    let run = space.dir().file_name().expect("a name").to_str().expect("text").to_owned();
    space.run(&["execute"]).exits(0);
    let beside = space.root().join(format!("{run}-execution/pipeline.toml"));
    assert!(beside.is_file(), "{}", beside.display());
    space
        .run(&["-C", ".", "execute", "."])
        .exits(2)
        .says(&["both `-C` and `.` name a run", "leave one of them out"]);
}

#[test]
fn a_command_beside_another_kind_is_a_fault_at_its_line() {
    let server = FakeLlm::new();
    let space = plan(&server);
    execute(&space, &[]).exits(0);
    for (item, says) in [
        (
            "kind = \"ai\"\ncommand = \"true\"",
            &["a `command` beside another `kind`", "make it \"command\""][..],
        ),
        ("kind = \"command\"", &["without a `command`"]),
        ("tier = 4", &["a tier is 1, 2 or 3"]),
    ] {
        space.write("work/execution.toml", format!("[[item]]\nmatch = \"menu.*\"\n{item}\n"));
        execute(&space, &[]).exits(2).says(&["execution.toml:"]).says(says);
    }
    space.write("work/execution.toml", "[[item]]\nmatch = \" \"\n");
    execute(&space, &[]).exits(2).says(&["an [[item]] has no `match`"]);
    // One model for what models do.
    space.write("work/execution.toml", "[[item]]\nmatch = \"menu.*\"\nkind = \"ai\"\nmodel = \"fake\"\n");
    execute(&space, &["--force"]).exits(0);
    assert!(
        space.read("work/pipeline.toml").contains("model = \"fake\""),
        "{}",
        space.read("work/pipeline.toml")
    );
}

#[test]
fn a_project_of_another_version_is_not_written_over() {
    let server = FakeLlm::new();
    let space = plan(&server);
    execute(&space, &[]).exits(0);
    let before = space.bytes("work/pipeline.toml");
    for (list, says) in [
        ("{\"schema\": 9, \"files\": {}}", "is of version 9, made by another planexe"),
        ("[", "cannot be read"),
    ] {
        space.write("work/plan/generated.json", list);
        let out = execute(&space, &[]);
        assert_ne!(out.code, 0);
        out.says(&["generated.json", says]);
        assert_eq!(space.bytes("work/pipeline.toml"), before);
    }
}
