//! What computes over the text of others comes to an end: checks, schemas, templates; and planexe itself, once it is told to.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Answer, FakeLlm, Space, until};

/// A schema that takes an answer apart in more ways than anybody can wait for: three at each level.
fn slow_schema() -> String {
    let inside = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a"]});
    let of = |title: &str| {
        let mut one = inside.clone();
        one["title"] = title.into();
        one
    };
    json!({"$defs": {"n": {"anyOf": [{"type": "integer"}, of("x"), of("y"), of("z")]}}, "$ref": "#/$defs/n"})
        .to_string()
}

/// An answer it takes for ever to say no to.
fn deep_answer() -> String {
    format!("{}\"x\"{}", "{\"a\":".repeat(60), "}".repeat(60))
}

const TWO: &str = r#"
[task.a]
outputs = ["a.json"]
prompt = "TASK=a\nGo."
schema = "slow.json"
max_validation_retries = 0

[task.b]
outputs = ["b.txt"]
prompt = "TASK=b\nGo."
"#;

fn slow_check(keys: &str) -> (FakeLlm, Space) {
    let server = FakeLlm::scripted(|call| match call.task.as_str() {
        "a" => deep_answer().into(),
        _ => "fine".into(),
    });
    let space = Space::with(&server, &TWO.replace("TASK=a\\nGo.\"\n", &format!("TASK=a\\nGo.\"\n{keys}\n")));
    space.write("slow.json", slow_schema());
    (server, space)
}

#[test]
fn the_time_of_a_task_counts_its_check_and_others_go_on() {
    let (server, space) = slow_check("timeout = \"2s\"");
    let began = Instant::now();
    space
        .run(&["build"])
        .exits(1)
        .says(&["✗ a", "not done after 2.0s (timeout): its answer was still being checked"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(space.sidecar("a.json")["failure"]["class"], "timeout");
    assert!(space.is_done("b.txt"));
    // What was paid for is kept, and not taken for an answer.
    assert_eq!(server.total(), 2);
    assert!(!space.files(".planexe/calls").is_empty());
}

#[test]
fn a_check_is_left_when_the_build_is_ended() {
    let (_server, space) = slow_check("");
    let build = space.spawn(&["build"]);
    until("the answer is kept, b is done", || {
        (space.files(".planexe/calls").len() >= 2 && space.is_done("b.txt")).then_some(())
    });
    let told = Instant::now();
    build.signal(Signal::TERM);
    build.wait().exits(143);
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    assert_eq!(space.sidecar("a.json")["state"], "stopped");
}

#[test]
fn a_build_that_judges_is_gone_all_the_same() {
    let server = FakeLlm::scripted(|call| match call.task.as_str() {
        "a" => "1".into(),
        _ => "fine".into(),
    });
    let tasks = TWO.replace("prompt = \"TASK=a\\nGo.\"", "inputs = [\"b.txt\"]\nprompt = \"TASK=a\\nGo.\"");
    let space = Space::with(&server, &tasks);
    space.write("slow.json", slow_schema());
    space.build();
    space.write("a.json", deep_answer());
    space.run(&["clean", "b", "-y"]).exits(0);
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_calls("b", 2);
    server.release("b");
    until("b is done", || space.is_done("b.txt").then_some(()));
    let told = Instant::now();
    // One signal alone: of two that are sent at once, either may be seen first.
    build.signal(Signal::TERM);
    build.wait().exits(143);
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    space.write("a.json", "2");
    space.build();
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_command_that_will_not_end_does_not_hold_planexe_up() {
    let space = Space::new();
    let stubborn = "trap '' TERM HUP INT; echo $$$$ > ../pid; while :; do sleep 60; done";
    space.write("pipeline.toml", format!("[task.a]\noutputs = [\"a\"]\ncommand = \"{stubborn}\"\n"));
    let build = space.spawn(&["build"]);
    let pid = until("it runs", || {
        std::fs::read_to_string(space.root().join("pid")).ok().filter(|pid| pid.ends_with('\n'))
    });
    let told = Instant::now();
    build.signal(Signal::TERM);
    build.wait().exits(143);
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    crate::crash::wait_until_gone(&pid);
}

#[test]
fn schemas_nobody_can_wait_for_are_faults() {
    let tower = |levels: usize, wide: usize| {
        let mut defs = serde_json::Map::new();
        for n in 0..levels {
            let next = json!({"$ref": format!("#/$defs/l{}", n + 1)});
            defs.insert(format!("l{n}"), json!({"anyOf": vec![next; wide]}));
        }
        defs.insert(format!("l{levels}"), json!({"type": "integer"}));
        json!({"$defs": defs, "$ref": "#/$defs/l0"})
    };
    let server = FakeLlm::new();
    let space = Space::with(&server, TWO);
    let inside = |levels: usize| {
        let mut schema = tower(levels, 1).to_string();
        schema = schema.replace("{\"anyOf\":[", "{\"items\":").replace("]}", "}");
        serde_json::from_str::<Value>(&schema).expect("JSON")
    };
    for (schema, wanted) in [
        (tower(30, 3), "more than 1000000 schemas"),
        (tower(100_000, 1), "one through the other"),
        (inside(100_000), "one inside the other"),
        (json!({"allOf": [{"$ref": "#"}]}), "without end"),
        (
            json!({"pattern": "(((a{1,500}){1,500}){1,500}){1,500}"}),
            "is too large when compiled: more than the 10240 KiB",
        ),
        (json!({"pattern": "(?=((a{1,100}){1,100}){1,100})b"}), "is too large when compiled"),
        (json!({"pattern": "(a"}), "is not a regular expression"),
        (json!({"pattern": "(?=(a)b"}), "is not a regular expression"),
        (json!({"pattern": "a?".repeat(1_500_000)}), "the pattern has 3000000 bytes, at most 16384"),
        (json!({"items": {"patternProperties": {("(a|b)".repeat(10_000)): {}}}}), "at most 16384"),
        (json!({"allOf": vec![json!({"pattern": "a"}); 501]}), "at most 500 patterns"),
        (json!({"allOf": vec![json!({"pattern": "a".repeat(16_000)}); 17]}), "at most 262144 bytes"),
        // Each is fine alone; together they would take more memory than there is.
        (
            json!({"allOf": (0..400).map(|n| json!({"pattern": format!("\\p{{L}}{{60}}{n}")})).collect::<Vec<_>>()}),
            "is too large when compiled",
        ),
    ] {
        space.write("slow.json", schema.to_string());
        for command in ["check", "build"] {
            space.run(&[command]).exits(2).says(&["slow.json", wanted]);
        }
    }
    assert_eq!(server.total(), 0);
}

#[test]
fn many_missing_inputs_are_told_in_time() {
    let space = Space::new();
    let inputs: Vec<String> = (0..60_000).map(|n| format!("\"i{n}\"")).collect();
    let inputs = inputs.join(", ");
    space.write(
        "pipeline.toml",
        format!("[task.a]\ninputs = [{inputs}]\noutputs = [\"a\"]\ncommand = \"true $out\"\n"),
    );
    let began = Instant::now();
    space.run(&["check"]).exits(2).says(&["task `a` reads `i0`, which is not there"]);
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[test]
fn long_names_are_cut_where_they_are_told() {
    let space = Space::new();
    let long = "k".repeat(1_000_000);
    let quoted = format!("\"a ` {long}\"");
    for text in [
        format!("[task.a]\noutputs = [\"a\"]\n{long} = 1\n"),
        format!("[task.a]\noutputs = [\"a\"]\n{quoted} = 1\n"),
        format!("[task.a]\noutputs = [\"a\"]\nkind = {quoted}\nmode = {quoted}\n"),
        format!("[task.{quoted}]\noutputs = [\"a\"]\n"),
    ] {
        space.write("pipeline.toml", text);
        for args in [&["check"][..], &["check", "--json"], &["build"], &["status"]] {
            let out = space.run(args).exits(2);
            let all = format!("{}{}", out.stdout, out.stderr);
            assert!(all.contains(&"k".repeat(60)) && all.contains('…'), "{args:?}: {} bytes", all.len());
            assert!(all.len() < 20_000, "{args:?} prints {} bytes", all.len());
        }
    }
}

#[test]
fn patterns_of_checks_have_an_end() {
    let server = FakeLlm::new();
    let space = Space::with(
        &server,
        &format!(
            "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nGo.\"\n[task.a.check]\nmatches = {{ \"\" = '{}' }}\n",
            "a?".repeat(1_500_000)
        ),
    );
    space.run(&["check"]).exits(2).says(&["pipeline.toml:", "the pattern has 3000000 bytes, at most 16384"]);
    space.edit("pipeline.toml", &"a?".repeat(1_500_000), "(((a{1,500}){1,500}){1,500}){1,500}");
    space.run(&["check"]).exits(2).says(&["too large when compiled: more than 4096 KiB"]);
    assert_eq!(server.total(), 0);
}

#[test]
fn ids_that_are_none_are_told_without_comparing_all_with_all() {
    let ids: Vec<String> = (0..20_000).map(|n| format!("id{n}")).collect();
    let refs: Vec<String> = (0..20_000).map(|n| format!("ix{n}")).collect();
    let answer = json!({"ids": ids, "refs": refs}).to_string();
    let server = FakeLlm::scripted(move |_| answer.as_str().into());
    let check = "schema = \"s.json\"\nmax_validation_retries = 0\n[task.a.check]\nrefs = { \"/refs/*\" = \"/ids/*\" }";
    let space = Space::with(
        &server,
        &format!("[task.a]\noutputs = [\"a.json\"]\nprompt = \"TASK=a\\nGo.\"\n{check}\n"),
    );
    space.write("s.json", r#"{"type": "object"}"#);
    space.run(&["build"]).exits(1).says(&["`/refs/0`: is none of the ids there are", "wanted one of `id0`"]);
    assert_eq!(space.sidecar("a.json")["failure"]["class"], "validation");
}

#[test]
fn templates_end_in_an_error_with_its_line() {
    let pairs = |what: &str| format!("1{}", what.repeat(100_000));
    for (template, line) in [
        (format!("a\n{{{{ {} }}}}", pairs("+1")), 2),
        (format!("a\nb\n{{{{ {} }}}}", pairs("|upper")), 3),
        (format!("{{{{ {}1 }}}}", "not ".repeat(100_000)), 1),
        (format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)), 1),
        ("a\n{{ \"a\\nb\"|indent(4000000000) }}".to_owned(), 2),
        ("a\n{{ [1]|batch(4000000000,\"x\")|length }}".to_owned(), 2),
        ("a\n{{ \"%999999999d\"|format(1) }}".to_owned(), 2),
        ("{% set ns=namespace(x=\"aaaaaaaaaaaaaaaa\") %}\n{% for i in range(60) %}\n{% set ns.x = ns.x ~ ns.x %}\n{% endfor %}{{ ns.x|length }}".to_owned(), 3),
        ("{% set ns=namespace(x=[]) %}\n{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}".to_owned(), 2),
    ] {
        let space = Space::new();
        space.write("pipeline.toml", "[task.a]\noutputs = [\"a\"]\ntemplate = \"t.j2\"\n");
        space.write("t.j2", &template);
        let checked = space.run(&["check"]);
        let out = match checked.code {
            0 => space.run(&["build"]).exits(1),
            _ => checked.exits(2),
        };
        assert!(out.stderr.contains(&format!("t.j2:{line}")), "{out}");
        // The same as inline text, of a prompt or a condition.
        let inline = serde_json::to_string(&template).expect("JSON");
        space.write("pipeline.toml", format!("[task.a]\noutputs = [\"a\"]\ntemplate = {inline}\n"));
        let code = space.run(&["build"]).code;
        assert!(matches!(code, 1 | 2), "{code}");
    }
}

/// Threads that check answers want much room for their stacks. Where that cannot be had at once, nothing that was paid for
/// is given up.
#[test]
#[cfg(target_os = "linux")]
fn answers_are_checked_where_there_is_little_room_for_threads() {
    let words = |n: usize| (0..5000).map(|word| format!("{}", word * 7919 % 9973 + n)).collect::<Vec<_>>();
    let server = FakeLlm::scripted(move |request| Answer::Text(words(request.nth).join(" ")));
    let mut tasks = String::new();
    for n in 0..12 {
        tasks += &format!(
            "[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nTell.\"\ncheck = {{ min_words = 3 }}\n\n"
        );
    }
    let space = Space::with(&server, &tasks);
    let line = "ulimit -v 500000 && exec \"$0\" build -s -j12";
    let mut limited = space.program("/bin/sh", &["-c", line, env!("CARGO_BIN_EXE_planexe")]);
    let out = limited.output().expect("a shell");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    space.assert_nothing_to_do(&server);
    assert_eq!(server.total(), 12);
}
