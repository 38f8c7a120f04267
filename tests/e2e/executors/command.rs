//! `command`: a queue that is spoken to by templates.

use crate::support::{FakeLlm, Space, until};

/// A queue of one script: `q submit WORDS` starts them, `q state ID` tells, `q end ID` ends.
const QUEUE: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case $1 in
submit)
    shift
    n=1; while ! mkdir "$here/job.$n" 2>/dev/null; do n=$((n + 1)); done; echo $n > "$here/last"
    setsid "$@" > /dev/null 2>&1 < /dev/null &
    echo $! > "$here/pid.$n"
    echo "Job submitted, id: j-$n"
    ;;
state)
    n=${2#j-}
    if kill -0 "$(cat "$here/pid.$n")" 2>/dev/null; then echo "| state | RUNNING |"; else exit 4; fi
    ;;
end) kill -TERM "$(cat "$here/pid.${2#j-}")" ;;
esac
"#;

fn queue() -> Space {
    let space = Space::new();
    space.write("q", QUEUE);
    space.write(
        "pipeline.toml",
        r#"
[executors.queue]
kind = "command"
poll = "100ms"
grace = "200ms"
submit = ["sh", "./q", "submit", "$job"]
status = ["sh", "./q", "state", "$id"]
cancel = ["sh", "./q", "end", "$id"]
states = { running = ["RUNNING"], ended = ["exit:4"] }

[task.one]
outputs = ["one.txt"]
executor = "queue"
command = "echo >> ../starts.log; while [ ! -e go ] && [ -e pipeline.toml ]; do sleep 0.02; done; echo done > $out"
"#,
    );
    space
}

#[test]
fn a_queue_is_spoken_to_by_templates() {
    let server = FakeLlm::new();
    let space = queue();
    let build = space.spawn(&["build"]);
    until("the program to begin", || (space.tally("starts") == 1).then_some(()));
    build.kill9();
    let build = space.spawn(&["build"]);
    until("the build to take it up", || build.stderr().contains("still runs").then_some(()));
    until("the build to ask for it", || space.read("calls").contains("state j-1").then_some(()));
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!((space.tally("starts"), space.read("one.txt")), (1, "done\n".to_owned()));
    space.assert_nothing_to_do(&server);
}

#[test]
fn what_it_left_is_cancelled_by_stop() {
    let space = queue();
    let build = space.spawn(&["build"]);
    until("the program to begin", || (space.tally("starts") == 1).then_some(()));
    // From then on its number is noted.
    until("the build to ask for it", || space.read("calls").contains("state j-1").then_some(()));
    build.kill9();
    space.run(&["stop"]).exits(0).says(&["ended"]);
    assert!(space.read("calls").contains("end j-1"));
    space.write("go", "");
    space.build();
    assert_eq!(space.tally("starts"), 2);
}

#[test]
fn a_queue_that_is_away_is_waited_for_and_nothing_is_taken_for_lost() {
    let server = FakeLlm::new();
    let space = queue();
    space.edit("q", "echo \"$*\"", "if [ -e away ]; then echo 'no queue found' >&2; exit 1; fi\necho \"$*\"");
    space.edit(
        "pipeline.toml",
        "ended = [\"exit:4\"]",
        "ended = [\"exit:4\", \"found\"], away = [\"exit:1\"]",
    );
    space.write("away", "");
    let build = space.spawn(&["build"]);
    until("the build to miss it", || build.stderr().contains("is waited for: exit code 1").then_some(()));
    assert_eq!(space.tally("starts"), 0);
    space.remove("away");
    until("the program to begin", || (space.tally("starts") == 1).then_some(()));
    until("the build to find it", || build.stderr().contains("answers again").then_some(()));
    space.write("away", "");
    let missed = |event: &serde_json::Value| {
        event["message"].as_str().is_some_and(|said| said.contains("is waited for"))
    };
    until("it to be missed again", || {
        (space.lines("events.jsonl").iter().filter(|event| missed(event)).count() == 2).then_some(())
    });
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!((space.tally("starts"), space.read("one.txt")), (1, "done\n".to_owned()));
    space.assert_nothing_to_do(&server);
}
