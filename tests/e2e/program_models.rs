//! Programs as models (`api = "command"`): what they get, what they may leave behind (nothing), and what is
//! made of the ways they end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::crash::wait_until_gone;
use crate::support::{Fifo, Space, patiently, until};

/// A task whose model is a shell script; `keys` go into the model's table.
fn space(script: &str, keys: &str) -> Space {
    let space = Space::new();
    space.write("model.sh", script);
    space.write(
        "pipeline.toml",
        format!(
            r#"[models.agent]
api = "command"
command = ["sh", "model.sh"]
retry = {{ max_attempts = 2, base = "1ms", max = "2ms" }}
{keys}

[task.a]
outputs = ["a.txt"]
model = "agent"
system = "You are brief."
prompt = "Will it hold?"
"#
        ),
    );
    space
}

/// Two processes of one group that cannot be asked to end, and where their numbers are written.
const STUCK: &str = "trap '' TERM INT HUP\n(trap '' TERM INT HUP; cat ../gate) & echo $! > ../child\necho $$ > ../pid\ncat ../gate\necho late\n";

fn pid(space: &Space, name: &str) -> String {
    std::fs::read_to_string(space.root().join(name)).expect("a pid")
}

#[test]
fn no_program_outlives_a_killed_build() {
    patiently(|slow| {
        let space = space(STUCK, "");
        let gate = Fifo::new(space.root().join("gate"));
        let build = space.spawn(&["build"]);
        let held = gate.wait_for_reader();
        let pids = until("both numbers", || {
            let pids = [pid(&space, "child"), std::fs::read_to_string(space.root().join("pid")).ok()?];
            pids.iter().all(|pid| pid.ends_with('\n')).then_some(pids)
        });
        let killed = Instant::now();
        build.kill9();
        pids.iter().for_each(|pid| wait_until_gone(pid));
        assert!(killed.elapsed() < Duration::from_secs(4) * slow, "{:?}", killed.elapsed());
        drop(held);
        assert!(!space.exists("a.txt"));
    });
}

#[test]
fn a_stop_ends_its_whole_group() {
    patiently(|slow| {
        let space = space(STUCK, "");
        let gate = Fifo::new(space.root().join("gate"));
        let build = space.spawn(&["build"]);
        let held = gate.wait_for_reader();
        until("the number", || space.root().join("pid").exists().then_some(()));
        let told = Instant::now();
        build.signal(Signal::TERM);
        build.wait().exits(143);
        assert!(told.elapsed() < Duration::from_secs(5) * slow, "{:?}", told.elapsed());
        wait_until_gone(&pid(&space, "child"));
        drop(held);
        assert_eq!(space.state("a"), "stopped");
    });
}

#[test]
fn its_time_is_bounded() {
    patiently(|slow| {
        let time = 300 * slow;
        for (keys, task) in [
            (format!("timeouts = {{ total = \"{time}ms\" }}"), String::new()),
            (String::new(), format!("timeout = \"{time}ms\"\n")),
        ] {
            let space = space("echo $$ > ../pid\nexec sleep 600\n", &keys);
            space.write("pipeline.toml", space.read("pipeline.toml") + &task);
            let began = Instant::now();
            space.run(&["build"]).exits(1).says(&["timeout"]);
            assert!(began.elapsed() < Duration::from_secs(8) * slow, "{:?}", began.elapsed());
            wait_until_gone(&pid(&space, "pid"));
            assert_eq!(space.sidecar("a.txt")["failure"]["class"], "timeout");
        }
    });
}

#[test]
fn what_it_gets_and_what_it_does_not() {
    let space = space("env > ../env\ncat > ../stdin\necho yes\n", "");
    let cloud = "\n[models.cloud]\napi = \"openai\"\nmodel = \"x\"\nbase_url = \"http://127.0.0.1:1/v1\"\napi_key_env = \"SOME_API_KEY\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + cloud);
    space.set_env("SOME_API_KEY", "sk-canary-5f3a9b");
    space.set_env("HARMLESS", "1");
    space.build();
    let text = |name: &str| std::fs::read_to_string(space.root().join(name)).expect(name);
    assert_eq!(text("stdin"), "You are brief.\n\nWill it hold?\n");
    assert!(text("env").contains("HARMLESS=1") && !text("env").contains("canary"), "{}", text("env"));
    assert_eq!(space.read("a.txt").trim(), "yes");
}

#[test]
fn what_it_says_of_its_end_is_kept_within_bounds() {
    // 6 MB of complaints; the last words count.
    let script = "cat > /dev/null\necho half\ni=0; while [ $i -lt 60 ]; do head -c 100000 /dev/zero | tr '\\0' x >&2; i=$((i+1)); done\necho >&2; echo 'the disk is full' >&2\nexit 3\n";
    let space = space(script, "");
    space.run(&["build"]).exits(1).says(&["exit code 3", "the disk is full"]);
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "server_error");
    let kept: u64 = space.files(".planexe/calls").iter().map(|path| space.bytes(path).len() as u64).sum();
    assert!(kept < 1_000_000, "{kept} bytes kept");
    assert_eq!(space.lines("usage_metrics.jsonl").len(), 2, "asked twice");
}

#[test]
fn its_last_words_tell_a_limit_from_a_purse() {
    for (words, class) in [
        ("API Error: 401 authentication_error: invalid x-api-key", "auth"),
        ("Your credit balance is too low to access the API", "quota"),
        ("prompt is too long: 210000 tokens > 200000 maximum", "context_overflow"),
    ] {
        let space = space(&format!("cat > /dev/null; echo >> ../asked.log; echo '{words}' >&2; exit 1"), "");
        space.run(&["build"]).exits(1).says(&[class]);
        assert_eq!(
            (space.sidecar("a.txt")["failure"]["class"].as_str(), space.tally("asked")),
            (Some(class), 1)
        );
    }
    let space = space(
        "cat > /dev/null; echo >> ../asked.log; test -e ../once && exec echo yes; touch ../once; echo 'rate_limit_error: slow down' >&2; exit 1",
        "",
    );
    space.build();
    assert_eq!((space.tally("asked"), space.sidecar("a.txt")["attempt"].as_u64()), (2, Some(1)));
}

#[test]
fn a_program_that_is_not_there_is_a_fault_of_the_setup() {
    let space = space("", "");
    space.edit("pipeline.toml", "[\"sh\", \"model.sh\"]", "[\"no-such-agent-x\"]");
    space.run(&["build"]).exits(1).says(&["no-such-agent-x", "cannot be started"]);
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "config");
}
