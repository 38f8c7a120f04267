//! Programs that are started with an event.

use super::*;

#[test]
fn hooks_run_in_order_with_the_event_on_standard_input() {
    let server = FakeLlm::new();
    let hooks = r#"
[hooks]
on_started = ["sh", "-c", "sleep 0.05; cat >> ../told.jsonl"]
on_completed = ["./tell.sh"]
on_finished = ["sh", "-c", "cat >> ../told.jsonl; echo $PLANEXE_EVENT > ../last"]
"#;
    let space = space(&server, &format!("{hooks}{TWO}"));
    space.write("tell.sh", "#!/bin/sh\ncat >> ../told.jsonl\necho it broke >&2\nexit 3\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(space.path("tell.sh"), mode).unwrap();
    let out = space.build().says(&["hook `on_completed` failed: exit code 3: it broke"]);
    assert_eq!(out.stderr.matches("on_completed").count(), 1, "{out}");
    let told: Vec<Value> = std::fs::read_to_string(space.root().join("told.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<String> = told
        .iter()
        .map(|told| format!("{} {}", told["event"].as_str().unwrap(), told["task"].as_str().unwrap_or("")))
        .map(|event| event.trim_end().to_owned())
        .collect();
    assert_eq!(events, ALL);
    assert_eq!(std::fs::read_to_string(space.root().join("last")).unwrap(), "pipeline.completed\n");
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_hook_that_cannot_run_or_is_ended_is_said() {
    let server = FakeLlm::new();
    for (argv, said) in [
        ("[\"./nowhere.sh\"]", "cannot be started"),
        ("[\"sh\", \"-c\", \"kill -9 $$\"]", "failed: ended by signal 9"),
    ] {
        let space = space(&server, &format!("[hooks]\non_finished = {argv}\n{TWO}"));
        space.build().says(&["hook `on_finished`", said]);
        space.assert_nothing_to_do(&server);
    }
}

// ---- stall
