//! `planexe import planexe`: made-up folders of PlanExe and PlanExe2, whole and tampered with, and what the build after
//! it asks for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
pub(crate) use sha2_16::short;

use crate::answer_schemas::assert_as_the_schema_says;
use crate::flagship::{calls, flagship};
use crate::support::{FakeLlm, Out, Space};

/// The text of the made-up plan, as PlanExe puts it.
pub(crate) const PLAN: &str = "Plan:\nA reading club that meets online on Tuesdays.\n\nToday's date:\n2026-Feb-15\n\nProject start ASAP";

/// SHA-256 as the manifest of PlanExe2 has it.
mod sha2_16 {
    pub fn short(bytes: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A pipeline with four of the flagship's tasks, of which `swot_analysis` reads another's answer.
fn space(server: &FakeLlm) -> Space {
    let space = Space::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tasks = String::from("[pipeline]\nname = \"small\"\nplan = \"plan.txt\"\n\n[aliases]\n");
    for (old, new) in [("002-1-redline_gate.json", "redline_gate"), ("002-7-plan_type_raw.json", "plan_type")]
    {
        tasks += &format!("\"{old}\" = \"{new}_raw.json\"\n");
    }
    for task in ["redline_gate", "plan_type", "identify_purpose", "swot_analysis"] {
        let inputs = match task {
            "swot_analysis" => "{ plan = \"plan.txt\", purpose = \"identify_purpose_raw.json\" }",
            _ => "{ plan = \"plan.txt\" }",
        };
        let schema = fs::read(here.join(format!("schemas/{task}.json"))).expect("a schema");
        space.write(&format!("schemas/{task}.json"), schema);
        space.write(&format!("prompts/{task}.md"), format!("TASK={task}\n{{{{ plan }}}}\n"));
        tasks += &format!("[task.{task}]\ninputs = {inputs}\noutputs = [\"{task}_raw.json\"]\n");
        tasks += &format!("prompt = \"prompts/{task}.md\"\nschema = \"schemas/{task}.json\"\n");
    }
    space.edit_pipeline(server, &tasks);
    space
}

trait Small {
    fn edit_pipeline(&self, server: &FakeLlm, tasks: &str);
}

impl Small for Space {
    /// `swot_analysis` uses both inputs.
    fn edit_pipeline(&self, server: &FakeLlm, tasks: &str) {
        self.pipeline(server, tasks);
        self.write("prompts/swot_analysis.md", "TASK=swot_analysis\n{{ plan }}\n{{ purpose }}\n");
    }
}

/// An answer as PlanExe keeps it.
fn raw(answer: Value, asked: &str) -> String {
    let mut raw = answer;
    raw["metadata"] = json!({ "model_name": "small-1\u{1b}[31m" });
    raw["system_prompt"] = json!("You rate plans.");
    raw["user_prompt"] = json!(asked);
    raw.to_string()
}

fn allowed() -> Value {
    json!({ "verdict": "ALLOW", "rationale_short": "A club harms nobody.", "violation_category": null })
}

fn digital() -> Value {
    json!({ "explanation": "All of it is online.", "plan_type": "digital" })
}

fn purpose() -> Value {
    json!({ "topic": "A club", "purpose": "personal", "purpose_detailed": "Reading." })
}

/// A folder of PlanExe with numbered names.
fn numbered(space: &Space) {
    for (name, text) in [
        ("001-1-start_time.json", json!({ "server_iso_local": "2026-02-15T01:29:17+00:00" }).to_string()),
        ("001-2-plan.txt", PLAN.to_owned()),
        ("002-1-redline_gate.json", raw(allowed(), PLAN)),
        ("002-7-plan_type_raw.json", raw(digital(), &format!("File 'plan.txt':\n{PLAN}"))),
        ("identify_purpose_raw.json", raw(purpose(), PLAN)),
        ("swot_analysis_raw.json", raw(json!({ "strengths": [] }), PLAN)),
        ("log.txt", "a line".to_owned()),
        ("evil\u{1b}[31m.json", "{}".to_owned()),
    ] {
        space.write(&format!("old/{name}"), text);
    }
}

/// A folder of PlanExe2, with its manifest: three stages from the plan, and one on two of them.
fn recorded(space: &Space) -> Value {
    let plan = PLAN.strip_prefix("Plan:\n").and_then(|rest| rest.split_once("\n\nToday")).expect("a plan").0;
    for (name, text) in [
        ("start_time.json", json!({ "server_iso_utc": "2026-02-15T01:29:17Z" }).to_string()),
        ("plan_raw.json", json!({ "plan_prompt": plan, "pretty_date": "2026-Feb-15" }).to_string()),
        ("plan.txt", PLAN.to_owned()),
        ("redline_gate_raw.json", raw(allowed(), PLAN)),
        ("redline_gate.md", "allowed".to_owned()),
        ("identify_purpose_raw.json", raw(purpose(), PLAN)),
        ("identify_purpose.md", "a club".to_owned()),
        ("plan_type_raw.json", raw(digital(), PLAN)),
    ] {
        space.write(&format!("old/{name}"), text);
    }
    let digests = |names: &[&str]| -> Value {
        names.iter().map(|name| (*name, short(&space.bytes(&format!("old/{name}"))))).collect()
    };
    let stage = |inputs: &[&str], outputs: &[&str]| json!({ "skill_hash": "0", "inputs": digests(inputs), "outputs": digests(outputs), "adopted": false });
    let manifest = json!({ "version": 1, "stages": {
        "setup": stage(&["plan_raw.json"], &["plan.txt"]),
        "redline_gate": stage(&["plan.txt"], &["redline_gate_raw.json", "redline_gate.md"]),
        "identify_purpose": stage(&["plan.txt"], &["identify_purpose_raw.json", "identify_purpose.md"]),
        "plan_type": stage(&["plan.txt", "identify_purpose.md"], &["plan_type_raw.json"]),
    } });
    space.write("old/.planexe_skill/manifest.json", manifest.to_string());
    manifest
}

/// Every file and folder beside each other in the run directory, with what files hold.
fn names(space: &Space) -> (Vec<std::ffi::OsString>, BTreeMap<String, Vec<u8>>) {
    let entries = fs::read_dir(space.dir()).expect("the run directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    (names, space.tree())
}

fn import(space: &Space, more: &[&str]) -> Out {
    let out = space.run(&[&["import", "planexe", "old", "--into", "club"], more].concat());
    assert!(!format!("{out}").contains('\u{1b}'), "a terminal escape of the folder: {out}");
    out
}

/// What was taken, and the reason of what was not, by file.
pub(crate) fn sorted(view: &Value) -> (Vec<String>, BTreeMap<String, String>) {
    let text = |value: &Value, key: &str| value[key].as_str().expect(key).to_owned();
    let list = |key: &str| view[key].as_array().expect(key).clone();
    let taken = list("taken").iter().map(|taken| text(taken, "task")).collect();
    (taken, list("left_out").iter().map(|left| (text(left, "file"), text(left, "code"))).collect())
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(file, code)| (file.to_owned(), code.to_owned())).collect()
}

#[test]
fn a_numbered_folder_goes_on_without_what_it_answered() {
    let server = FakeLlm::new();
    let space = space(&server);
    numbered(&space);
    let before = names(&space);
    let shown = import(&space, &["-n", "--json"]).exits(0).json();
    import(&space, &["-n"]).exits(0);
    assert_eq!(names(&space), before, "a dry run leaves nothing");
    assert_eq!((&shown["dry_run"], &shown["started"]), (&json!(true), &json!("2026-02-15")));
    let old = || space.files("old").into_iter().map(|file| space.bytes(&file)).collect::<Vec<_>>();
    let files = old();
    let out = import(&space, &[]).exits(0);
    out.says(&[
        "folder of PlanExe: its files are numbered",
        "converted 002-1-redline_gate.json",
        "1 of 4 tasks",
    ]);
    assert_eq!(old(), files, "the folder is only read");
    let (taken, left) = sorted(&shown);
    assert_eq!(taken, ["redline_gate", "plan_type", "swot_analysis"]);
    assert_eq!(left, pairs([("identify_purpose_raw.json", "form")]));
    assert_eq!(space.read("club/plan.txt"), format!("{PLAN}\n"));

    space
        .run(&["-C", "club", "explain", "redline_gate"])
        .exits(0)
        .says(&["imported from PlanExe", "no call"]);
    space.run(&["-C", "club", "build"]).exits(0);
    let asked = server.counts();
    assert_eq!(asked.keys().collect::<Vec<_>>(), ["identify_purpose"], "{asked:?}");
    assert_eq!(server.requests(), 1);
    let done = space.json("club/redline_gate_raw.json.DONE");
    assert_eq!(done["by"], "import");
    let of = &done["imported"];
    assert_eq!((&of["from"], &of["file"]), (&json!("PlanExe"), &json!("002-1-redline_gate.json")));
    assert_eq!((&of["converted"], &of["edited"]), (&json!(true), &json!(false)));
    assert!(
        of["sha256"]
            .as_str()
            .is_some_and(|digest| digest.starts_with(&short(&space.bytes("old/002-1-redline_gate.json"))))
    );
    let answer = space.json("club/redline_gate_raw.json");
    assert_eq!(
        (&answer["verdict"], &answer["explanation"]),
        (&json!("allow"), &json!("A club harms nobody."))
    );
    space
        .run(&["-C", "club", "explain", "redline_gate"])
        .exits(0)
        .says(&["when it was imported from PlanExe"]);
    space.run(&["-C", "club", "status"]).exits(0).says(&["imported"]);
    space.run(&["-C", "club", "report", "--html", "page.html"]).exits(0);
    assert!(space.read("page.html").contains("imported from PlanExe"));
    space.run(&["-C", "club", "show", "redline_gate"]).exits(0).says(&["imported", "You rate plans."]);
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(server.requests(), 1, "nothing is left to do");

    // A lost output is made from the same answer; a changed prompt and `clean` ask.
    space.remove("club/redline_gate_raw.json");
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(
        (server.requests(), &space.json("club/redline_gate_raw.json.DONE")["by"]),
        (1, &json!("import"))
    );
    let kept = space.files("club/.planexe/calls").into_iter().filter(|file| file.contains("/redline_gate-"));
    assert_eq!(kept.count(), 1, "it is kept once, however often it is used");
    space.edit("prompts/redline_gate.md", "TASK=redline_gate\n", "TASK=redline_gate\nAgain.\n");
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!((server.requests(), server.count("redline_gate")), (2, 1));
    space.run(&["-C", "club", "clean", "plan_type", "-y"]).exits(0);
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!((server.requests(), server.count("plan_type")), (3, 1));
}

#[test]
fn an_edited_plan_is_not_answered_by_the_old_folder() {
    let server = FakeLlm::new();
    let space = space(&server);
    numbered(&space);
    import(&space, &[]).exits(0);
    space.edit("club/plan.txt", "Tuesdays", "Fridays");
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(server.requests(), 4);
    // And an answer to another plan is not taken.
    space.write("old/001-2-plan.txt", PLAN.replace("Tuesdays", "Mondays"));
    let out = space.run(&["import", "planexe", "old", "--into", "other", "--json"]).exits(0).json();
    assert_as_the_schema_says("import", &out);
    let (taken, left) = sorted(&out);
    assert!(taken.is_empty(), "{taken:?}");
    assert_eq!(left["002-1-redline_gate.json"], "other_plan");
}

#[test]
fn records_of_planexe2_decide_what_is_taken() {
    let server = FakeLlm::new();
    let space = space(&server);
    let sound = recorded(&space);
    let view = import(&space, &["-n", "--json"]).exits(0).json();
    assert_eq!(view["program"], "PlanExe2");
    let (taken, left) = sorted(&view);
    assert_eq!(taken, ["plan_type", "redline_gate"]);
    assert_eq!(left, pairs([("identify_purpose_raw.json", "form")]));

    // Each of these makes one of the two no longer count as up to date there.
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let cases: [Case; 6] = [
        ("adopted", &|it| it["stages"]["redline_gate"]["adopted"] = json!(true), "adopted"),
        (
            "no record",
            &|it| drop(it["stages"].as_object_mut().expect("stages").remove("redline_gate")),
            "no_record",
        ),
        (
            "another input",
            &|it| it["stages"]["redline_gate"]["inputs"]["plan.txt"] = json!("0000000000000000"),
            "stale",
        ),
        (
            "an unknown input",
            &|it| it["stages"]["redline_gate"]["inputs"]["no.md"] = json!("0000000000000000"),
            "stale",
        ),
        (
            "a circle",
            &|it| {
                it["stages"]["redline_gate"]["inputs"]["redline_gate.md"] =
                    it["stages"]["redline_gate"]["outputs"]["redline_gate.md"].clone();
            },
            "stale",
        ),
        (
            "no maker",
            &|it| {
                it["stages"]["redline_gate"]["inputs"]["plan_type_raw.json"] =
                    it["stages"]["plan_type"]["outputs"]["plan_type_raw.json"].clone();
                it["stages"]["plan_type"]["outputs"] = json!({});
            },
            "stale",
        ),
    ];
    for (what, change, code) in cases {
        let mut manifest = sound.clone();
        change(&mut manifest);
        space.write("old/.planexe_skill/manifest.json", manifest.to_string());
        let (taken, left) = sorted(&import(&space, &["-n", "--json"]).exits(0).json());
        assert!(!taken.contains(&"redline_gate".to_owned()), "{what}: {taken:?}");
        assert_eq!(left["redline_gate_raw.json"], code, "{what}");
    }
    space.write("old/.planexe_skill/manifest.json", sound.to_string());

    // What a stage read changed: it is out of date, and so is what rests on it. An edited answer is told as such.
    space.write("old/identify_purpose.md", "another club");
    space.write("old/redline_gate_raw.json", raw(allowed(), PLAN).replace("nobody", "no one"));
    let view = import(&space, &["--json"]).exits(0).json();
    let (taken, left) = sorted(&view);
    assert_eq!(taken, ["redline_gate"]);
    assert_eq!(
        (&left["plan_type_raw.json"], &view["taken"][0]["edited"]),
        (&"stale".to_owned(), &json!(true))
    );
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!((server.requests(), server.count("redline_gate")), (3, 0));
    space.run(&["-C", "club", "explain", "redline_gate"]).exits(0).says(&["edited there by hand"]);

    // A new prompt in `plan_raw.json`: what was made of the former one does not count.
    fs::remove_dir_all(space.path("club")).expect("removed");
    recorded(&space);
    space.write(
        "old/plan_raw.json",
        json!({ "plan_prompt": "A choir.", "pretty_date": "2026-Feb-15" }).to_string(),
    );
    let view = import(&space, &["--json"]).exits(0).json();
    assert_eq!(sorted(&view).0, [""; 0]);
    assert!(space.read("club/plan.txt").contains("A choir."));

    // An edited `plan.txt` is what PlanExe2 goes on from.
    fs::remove_dir_all(space.path("club")).expect("removed");
    recorded(&space);
    space.write("old/plan.txt", PLAN.replace("Tuesdays", "Sundays"));
    let view = import(&space, &["--json"]).exits(0).json();
    assert_eq!((&view["plan_from"], sorted(&view).0.len()), (&json!("plan.txt"), 0));
    assert!(space.read("club/plan.txt").contains("Sundays"));
}

#[test]
fn without_records_that_can_be_used_only_the_plan_is_taken() {
    let server = FakeLlm::new();
    let space = space(&server);
    let sound = recorded(&space);
    let mut newer = sound.clone();
    newer["version"] = json!(2);
    let mut outside = sound.clone();
    outside["stages"]["setup"]["inputs"]["../run/pipeline.toml"] = json!("0000000000000000");
    let many: Value = (0..600).map(|n| (format!("s{n}"), json!({ "inputs": {}, "outputs": {} }))).collect();
    for (what, manifest, says) in [
        ("nothing in it", String::new(), "is empty (0 bytes)"),
        ("garbage", "{\"version\": 1, \"stages\": [".to_owned(), "is no manifest"),
        ("another form", "[1]".to_owned(), "is no manifest"),
        ("no version", json!({ "stages": {} }).to_string(), "is no manifest"),
        ("another version", newer.to_string(), "has version 2"),
        ("a file elsewhere", outside.to_string(), "no file of the folder"),
        ("too many", json!({ "version": 1, "stages": many }).to_string(), "600 stages"),
    ] {
        space.write("old/.planexe_skill/manifest.json", manifest);
        let out = import(&space, &["-n"]).exits(0).says(&[says, "no answer is taken", "4 of 4 tasks"]);
        assert!(!format!("{out}").contains("converted"), "{what}");
    }
    space.remove("old/.planexe_skill/manifest.json");
    import(&space, &["-n"]).exits(0).says(&["manifest.json` is not there"]);
    space.write("elsewhere/manifest.json", sound.to_string());
    symlink(space.path("elsewhere/manifest.json"), space.path("old/.planexe_skill/manifest.json"))
        .expect("a link");
    import(&space, &["-n"]).exits(0).says(&["is a link, which is not followed"]);
    fs::remove_dir_all(space.path("old/.planexe_skill")).expect("removed");
    symlink(space.path("elsewhere"), space.path("old/.planexe_skill")).expect("a link");
    import(&space, &["-n"]).exits(0).says(&["PlanExe2", "no answer is taken"]);
    import(&space, &[]).exits(0);
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(server.requests(), 4);
}

#[test]
fn a_folder_of_the_last_planexe_has_the_names_without_numbers_and_no_records() {
    let server = FakeLlm::new();
    let space = space(&server);
    recorded(&space);
    fs::remove_dir_all(space.path("old/.planexe_skill")).expect("removed");
    let view = import(&space, &["--json"]).exits(0).json();
    assert_eq!((&view["program"], &view["plan_from"]), (&json!("PlanExe"), &json!("plan_raw.json")));
    assert_eq!(sorted(&view).0, ["plan_type", "redline_gate"]);
    assert_eq!(space.read("club/plan.txt"), format!("{PLAN}\n"));
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(server.requests(), 2);
}

#[test]
fn what_a_killed_import_left_is_removed() {
    let server = FakeLlm::new();
    let space = space(&server);
    numbered(&space);
    for name in [".planexe-tmp-99999999-0123abcd-0-club", ".planexe-tmp-99999999-0123abcd-0-other"] {
        space.write(&format!("{name}/pipeline/pipeline.toml"), "x");
    }
    import(&space, &[]).exits(0);
    assert!(!space.exists(".planexe-tmp-99999999-0123abcd-0-club"));
    assert!(space.exists(".planexe-tmp-99999999-0123abcd-0-other"), "another run's");
}

#[test]
fn odd_files_are_left_out_by_name() {
    let server = FakeLlm::new();
    let space = space(&server);
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(space.path(name)).status().expect("mkfifo");
        assert!(made.success());
    };
    space.write("secret.json", raw(allowed(), PLAN));
    type Odd<'a> = (&'a str, &'a dyn Fn(&str), &'a str);
    let large = |name: &str| {
        space.write(name, "{");
        let file = fs::File::options().write(true).open(space.path(name)).expect("the file");
        file.set_len(3 << 30).expect("a hole");
    };
    let odd: [Odd; 7] = [
        ("link", &|name| symlink(space.path("secret.json"), space.path(name)).expect("a link"), "is a link"),
        ("no_file", &pipe, "no plain file"),
        ("unreadable", &large, "is not read: it has 3072 MiB, more than 16"),
        ("empty", &|name| space.write(name, ""), "is empty (0 bytes)"),
        ("form", &|name| space.write(name, "[1, 2"), "is no JSON"),
        (
            "form",
            &|name| space.write(name, raw(json!({ "verdict": "REFUSE" }), PLAN)),
            "refuses by other rules",
        ),
        ("other_plan", &|name| space.write(name, allowed().to_string()), "does not say of which plan"),
    ];
    for (code, put, says) in odd {
        numbered(&space);
        space.remove("old/002-1-redline_gate.json");
        put("old/002-1-redline_gate.json");
        let out = import(&space, &["-n", "--json"]).exits(0);
        let (taken, left) = sorted(&out.json());
        assert_eq!(
            (taken, left["002-1-redline_gate.json"].as_str()),
            (vec!["plan_type".to_owned(), "swot_analysis".to_owned()], code)
        );
        import(&space, &["-n"]).exits(0).says(&[says]);
        space.remove("old/002-1-redline_gate.json");
    }
}

#[test]
fn nothing_is_left_behind_by_what_is_refused() {
    let server = FakeLlm::new();
    let space = space(&server);
    numbered(&space);
    space.write("empty/notes.txt", "x");
    space.write("full/notes.txt", "x");
    let refused = |args: &[&str], says: &str| {
        let before = names(&space);
        space.run(&[&["import", "planexe"], args].concat()).exits(2).says(&[says]);
        assert_eq!(names(&space), before, "{args:?}");
    };
    refused(&["empty"], "001-2-plan.txt");
    refused(&["nowhere"], "no folder");
    refused(&["pipeline.toml"], "no folder");
    refused(&["old", "--into", "full"], "is not empty");
    refused(&["old", "--into", "old/run"], "only read");
    refused(&["old", "--into", "deep/er/club", "--pipeline", "none.toml"], "there is no pipeline");
    // Found when the run is half made.
    let model = "[models.m]\napi = \"simulated\"\n[defaults]\nmodel = \"m\"\n";
    let task = "[pipeline]\nplan = \"plan.txt\"\n[task.a]\noutputs = [\"a.txt\"]\nprompt = \"none.md\"\n";
    space.write("broken.toml", format!("{model}{task}"));
    refused(&["old", "--into", "deep/er/club", "--pipeline", "broken.toml"], "none.md");
    space.write("planless.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a\"\n");
    refused(&["old", "--into", "deep/er/club", "--pipeline", "planless.toml"], "which file is its plan");
    // Every answer would be one to it.
    space.write("old/001-2-plan.txt", " \n\n");
    refused(&["old", "--into", "deep/er/club"], "`001-2-plan.txt` has no words");
    space.remove("old/001-2-plan.txt");
    symlink("/etc/hostname", space.path("old/001-2-plan.txt")).expect("a link");
    refused(&["old", "--into", "deep/er/club"], "is a link, which is not followed");
    refused(&["old", "--into", "deep/er/club", "-n"], "is a link, which is not followed");
    // A run, and an empty folder of its name.
    numbered_again(&space);
    fs::create_dir(space.path("club")).expect("a folder");
    import(&space, &[]).exits(0);
    refused(&["club", "--into", "again"], "looks like a run of planexe");
    space.run(&["import", "planexe", "old"]).exits(0);
    assert!(space.exists("old-planexe/run.toml"));
}

fn numbered_again(space: &Space) {
    space.remove("old/001-2-plan.txt");
    numbered(space);
}

#[test]
fn the_flagship_asks_one_call_less() {
    let space = flagship();
    numbered(&space);
    space
        .run(&["import", "planexe", "old", "--into", "club", "--profile", "sample"])
        .exits(0)
        .says(&["60 of 62 tasks"]);
    // A whole plan, on the answers of the sample: it is one for a place, so its own type is wanted.
    space.run(&["-C", "club", "clean", "plan_type", "-y"]);
    space.run(&["-C", "club", "build"]).exits(0);
    assert_eq!(calls(&space, "club"), 158);
    let status = space.run(&["-C", "club", "status", "--json"]).exits(0).json();
    let tasks = status["tasks"].as_array().expect("tasks");
    let imported: Vec<&Value> =
        tasks.iter().filter(|task| task["by"] == "import").map(|task| &task["task"]).collect();
    assert_eq!(imported, ["redline_gate"]);
    assert!(space.read("club/redline_gate.md").contains("A club harms nobody."));
    space.run(&["-C", "club", "build", "-q"]).exits(0);
}
