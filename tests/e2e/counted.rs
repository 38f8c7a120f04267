//! Calls that a task's own program makes: served while it runs, counted, limited, kept, and answered again.

use serde_json::json;

use crate::support::wire::{Dialect, Step, Wire, send};
use crate::support::{FakeLlm, Fifo, Space, patiently, until};

/// Asks for a completion; the body's text is `$1`.
const ASK: &str = r#"ask() {
  curl -sS -H "authorization: Bearer $OPENAI_API_KEY" -H 'content-type: application/json' \
    -d "{\"model\":\"any\",\"messages\":[{\"role\":\"user\",\"content\":\"TASK=$1\"}]}" "$OPENAI_BASE_URL/chat/completions"
}
"#;

/// An agent, the script `agent.sh`, whose model is `fake`; `keys` go into the model's table.
fn space(server: &FakeLlm, keys: &str, script: &str) -> Space {
    let space = Space::new();
    space.set_key("FAKE_KEY", "sk-real-key", server.address());
    space.pipeline_with(
        server,
        &format!("api_key_env = \"FAKE_KEY\"\nprice = {{ input = 1000000.0, output = 0.0 }}\n{keys}"),
        "[task.agent]\noutputs = [\"out.txt\"]\ncommand = [\"sh\", \"agent.sh\", \"$out\"]\ncalls = \"fake\"\nkind = \"agent\"\n",
    );
    space.write("agent.sh", format!("{ASK}{script}"));
    space
}

#[test]
fn an_agent_that_is_killed_pays_for_no_answer_twice() {
    let server = FakeLlm::new();
    let script = "for n in 1 2 3 4 5 6; do\n  ask call-$n >> \"$1\" || exit 1\n  ask same >> \"$1\" || exit 1\n  [ $n = 4 ] && [ ! -e ../again ] && cat ../gate\ndone\nenv > ../env\n";
    let space = space(&server, "", script);
    let gate = Fifo::new(space.root().join("gate"));
    let runtime = space.root().join("rt");
    std::fs::create_dir(&runtime).expect("a folder");
    space.set_env("XDG_RUNTIME_DIR", runtime.to_str().expect("a path"));
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    assert_eq!(server.total(), 8);
    build.kill9();
    let sockets = || std::fs::read_dir(&runtime).expect("a folder").count();
    assert_eq!(sockets(), 1, "a killed build leaves its socket");
    drop(held);
    std::fs::write(space.root().join("again"), "").expect("a file");
    space.build().exits(0);
    assert_eq!(sockets(), 0, "the next one removes it, and its own");
    assert_eq!(server.total(), 12, "{:?}", server.counts());
    assert_eq!(server.count("same"), 6, "equal requests are as many calls as they were");
    let lines = space.lines("usage_metrics.jsonl");
    assert_eq!(lines.len(), 12, "{lines:#?}");
    assert!(lines.iter().all(|line| line["task"] == "agent" && line["success"] == true));
    let status = space.status("agent");
    assert_eq!(status["usage"]["calls"], 12, "{status}");
    assert!(status["usage"]["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{status}");
    // The real key went to the server, and nowhere else.
    assert_eq!(server.last("same").headers["authorization"], "Bearer sk-real-key");
    assert_eq!(server.last("same").body["model"], "fake-1");
    let env = std::fs::read_to_string(space.root().join("env")).expect("what the agent saw");
    assert!(!env.contains("sk-real-key") && env.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:"), "{env}");
    let token =
        env.lines().find_map(|line| line.strip_prefix("OPENAI_API_KEY=")).expect("a token").to_owned();
    for (path, bytes) in space.tree() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("sk-real-key") && !text.contains(&token), "{path}");
    }
    space.run(&["show", "agent"]).exits(0).says(&["12"]);
    space.run(&["usage"]).exits(0).says(&["12"]);
    space.assert_nothing_to_do(&server);
    // A fresh draw asks anew.
    space.run(&["retry", "agent"]).exits(0);
    space.build().exits(0);
    assert_eq!(server.total(), 24);
}

#[test]
fn a_limit_refuses_the_next_call_in_the_vendors_words() {
    let server = FakeLlm::new();
    let script = "for n in 1 2 3 4 5; do\n  ask call-$n > ../last || exit 1\n  grep -q insufficient_quota ../last && exit 3\n  cat ../last >> \"$1\"\ndone\n";
    for limit in [&["build", "--max-calls", "2"][..], &["build", "--max-cost", "1"]] {
        let space = space(&server, "", script);
        let before = server.total();
        space.run(limit).exits(3);
        assert_eq!(server.total() - before, limit[2].parse::<usize>().expect("a number"), "{limit:?}");
        assert_eq!(space.state("agent"), "stopped");
        // What was paid for is not paid for again.
        space.build().exits(0);
        assert_eq!(server.total() - before, 5, "{limit:?}");
    }
    // The task's own limit is the task's own matter.
    let space = space(&server, "", script);
    space.edit("pipeline.toml", "calls = \"fake\"", "calls = { model = \"fake\", max_calls = 3 }");
    let before = server.total();
    space.run(&["build"]).exits(1);
    assert_eq!(server.total() - before, 3);
    let last = std::fs::read_to_string(space.root().join("last")).expect("the refusal");
    assert!(last.contains("calls.max_calls"), "{last}");
}

#[test]
fn calls_of_an_agent_take_turns_with_those_of_prompts() {
    let server = FakeLlm::new();
    let script = "for n in 1 2 3 4; do ask call-$n > ../$n & done\nwait\ncat ../1 > \"$1\"\n";
    let space = space(&server, "", script);
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    let more = space.read("pipeline.toml") + "[task.p]\noutputs = [\"p.txt\"]\nprompt = \"TASK=p now\"\n";
    space.write("pipeline.toml", more);
    space.build().exits(0);
    assert_eq!((server.total(), server.most_in_flight()), (5, 1));
}

/// What an agent is seen to do.
fn is_waiting(space: &Space) -> Option<()> {
    space.status("agent")["doing"].as_str()?.starts_with("waiting for its model").then_some(())
}

#[test]
fn time_in_which_its_calls_wait_is_not_counted() {
    patiently(|factor| {
        let server = FakeLlm::new();
        let space = space(&server, "", "ask call > \"$1\"\n");
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
        let limits = format!("kind = \"agent\"\ntimeout = \"{factor}s\"\nstall_timeout = \"{factor}s\"\n");
        space.edit("pipeline.toml", "kind = \"agent\"\n", &limits);
        let more =
            space.read("pipeline.toml") + "[task.p]\noutputs = [\"p.txt\"]\nprompt = \"TASK=p\\nNow.\"\n";
        space.write("pipeline.toml", more);
        server.hold("p");
        let build = space.spawn(&["build", "p", "agent"]);
        server.wait_for_call("p");
        until("the agent waits", || is_waiting(&space));
        std::thread::sleep(std::time::Duration::from_secs(u64::from(2 * factor)));
        assert_eq!(server.total(), 1);
        server.release("p");
        build.wait().exits(0);
        assert_eq!(server.total(), 2);
    });
}

#[test]
fn a_pause_holds_the_calls_of_an_agent() {
    let server = FakeLlm::new();
    let space = space(&server, "", "ask one > \"$1\"\ncat ../gate\nask two >> \"$1\"\n");
    let gate = Fifo::new(space.root().join("gate"));
    let build = space.spawn(&["build"]);
    let held = gate.wait_for_reader();
    space.run(&["pause"]).exits(0);
    until("it is paused", || build.stderr().contains("paused").then_some(()));
    drop(held);
    until("its call is held", || is_waiting(&space));
    assert_eq!(server.total(), 1);
    space.run(&["resume"]).exits(0);
    build.wait().exits(0);
    assert_eq!(server.total(), 2);
}

#[test]
fn only_the_token_and_only_these_routes_are_served() {
    let server = FakeLlm::new();
    let script = r#"ask() { curl -s -o ../body -w '%{http_code} ' "$@"; }
{
  ask -d '{}' "$OPENAI_BASE_URL/chat/completions"
  ask -H 'authorization: Bearer sk-other' -d '{}' "$OPENAI_BASE_URL/chat/completions"
  ask -H "authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/files"
  ask -H "authorization: Bearer $OPENAI_API_KEY" -d 'nothing' "$OPENAI_BASE_URL/chat/completions"
  ask --unix-socket "$PLANEXE_CALLS_SOCKET" -H 'x-api-key: sk-other' http://planexe/v1/models
  ask --unix-socket "$PLANEXE_CALLS_SOCKET" -H "x-api-key: $ANTHROPIC_API_KEY" http://planexe/v1/models
  ask -H "x-api-key: $ANTHROPIC_API_KEY" "$ANTHROPIC_BASE_URL/v1/models"
} > "$1"
echo "$OPENAI_BASE_URL" > ../url
cat ../body >> "$1"
"#;
    let space = space(&server, "", script);
    space.build().exits(0);
    let out = space.read("out.txt");
    assert!(out.starts_with("401 401 404 400 401 200 200 ") && out.contains("fake-1"), "{out}");
    assert_eq!(server.requests(), 0);
    // It is served no longer than the program runs.
    let url = std::fs::read_to_string(space.root().join("url")).expect("the address");
    let address = url.trim().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    assert!(std::net::TcpStream::connect(&address).is_err(), "{address}");
}

#[test]
fn a_stream_passes_as_it_arrives_in_the_words_of_its_vendor() {
    for dialect in [Dialect::Openai, Dialect::Anthropic] {
        // It never ends: who waited for its end would wait for ever.
        let endless = move |_: &crate::support::wire::Asked| {
            let begin = dialect.opening() + &dialect.piece("first-word");
            vec![
                dialect.head(),
                send(begin),
                Step::Repeat(dialect.piece("more").into_bytes(), std::time::Duration::from_millis(20)),
            ]
        };
        let server = Wire::new(endless);
        let space = Space::new();
        let route = match dialect {
            Dialect::Openai => "$OPENAI_BASE_URL/chat/completions",
            _ => "$ANTHROPIC_BASE_URL/v1/messages",
        };
        space.write(
            "pipeline.toml",
            format!(
                "[models.m]\napi = \"{}\"\nbase_url = \"{}\"\nmodel = \"m-1\"\n[task.agent]\noutputs = [\"out.txt\"]\ncommand = \"sh agent.sh $out\"\ncalls = \"m\"\n",
                dialect.api(),
                server.base_url(dialect)
            ),
        );
        space.write("agent.sh", format!("curl -sN -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{{\"stream\":true,\"messages\":[]}}' {route} | grep -m 1 first-word > \"$1\"\n"));
        space.build().exits(0);
        assert!(space.read("out.txt").contains("first-word"), "{}", space.read("out.txt"));
        let asked = server.posts().remove(0);
        assert_eq!(asked.body["model"], "m-1");
        assert_eq!(asked.body["stream_options"]["include_usage"] == true, dialect == Dialect::Openai);
    }
}

#[test]
fn what_came_whole_is_priced_by_its_vendors_figures() {
    for dialect in [Dialect::Openai, Dialect::Anthropic] {
        let server = Wire::new(move |_| dialect.answer("fine"));
        let space = Space::new();
        let route = match dialect {
            Dialect::Openai => "$OPENAI_BASE_URL/chat/completions",
            _ => "$ANTHROPIC_BASE_URL/v1/messages",
        };
        space.write(
            "pipeline.toml",
            format!(
                "[models.m]\napi = \"{}\"\nbase_url = \"{}\"\nmodel = \"m-1\"\nprice = {{ input = 1.0, output = 2.0 }}\n[task.agent]\noutputs = [\"out.txt\"]\ncommand = \"sh agent.sh $out\"\ncalls = \"m\"\n",
                dialect.api(),
                server.base_url(dialect)
            ),
        );
        space.write("agent.sh", format!("curl -sN -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{{\"stream\":true,\"messages\":[]}}' {route} > \"$1\"\n"));
        space.build().exits(0);
        let line = space.lines("usage_metrics.jsonl").remove(0);
        assert!(line["input_tokens"].as_u64() > Some(0) && line["cost_usd"].as_f64() > Some(0.0), "{line}");
        let before = space.read("out.txt");
        // The client did not ask for the usage, and gets no chunk that it does not know.
        assert!(dialect != Dialect::Openai || !before.contains("\"usage\""), "{before}");
        // The same bytes again, for nothing.
        space.edit("agent.sh", "curl -sN", "curl -s -N");
        space.remove("out.txt");
        space.build().exits(0);
        assert_eq!((space.read("out.txt"), server.count()), (before, 1));
    }
}

#[test]
fn recorded_calls_are_played_without_a_server() {
    let server = FakeLlm::new();
    let script = "for n in 1 2; do ask call-$n >> \"$1\" || exit 1; done\n";
    let space = space(&server, "", script);
    space.build().exits(0);
    let first = space.read("out.txt");
    space.run(&["record", "answers.json"]).exits(0);
    let other = Space::new();
    other.write("answers.json", space.bytes("answers.json"));
    other.write("agent.sh", space.bytes("agent.sh"));
    other.write(
        "pipeline.toml",
        "[models.fake]\napi = \"recorded\"\nfile = \"answers.json\"\n[task.agent]\noutputs = [\"out.txt\"]\ncommand = [\"sh\", \"agent.sh\", \"$out\"]\ncalls = \"fake\"\n",
    );
    let before = server.requests();
    other.build().exits(0);
    assert_eq!((other.read("out.txt"), server.requests()), (first, before));
    // A model that makes answers up serves as well, in either dialect.
    other.write(
        "pipeline.toml",
        other
            .read("pipeline.toml")
            .replace("api = \"recorded\"\nfile = \"answers.json\"", "api = \"simulated\""),
    );
    other.write("agent.sh", "curl -sS -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Why?\"}]}' $ANTHROPIC_BASE_URL/v1/messages > \"$1\"\n");
    other.remove("out.txt.DONE");
    other.build().exits(0);
    let message = other.json("out.txt");
    assert_eq!((&message["type"], &message["stop_reason"]), (&json!("message"), &json!("end_turn")));
}

#[test]
fn what_calls_cannot_be_is_said_with_its_place() {
    let space = Space::new();
    let manifest =
        |task: &str| format!("[models.m]\napi = \"simulated\"\n[task.a]\noutputs = [\"a.txt\"]\n{task}\n");
    for (task, words) in [
        ("command = \"true > $out\"\ncalls = \"n\"", &["calls", "`n`"][..]),
        ("prompt = \"x\"\nmodel = \"m\"\ncalls = \"m\"", &["`calls` has no meaning in a prompt task"]),
        (
            "command = \"true > $out\"\ncalls = \"m\"\nenv = [\"OPENAI_API_KEY\"]",
            &["OPENAI_API_KEY", "token"],
        ),
        ("command = \"true > $out\"\ncalls = { model = \"m\", most = 3 }", &["most"]),
    ] {
        space.write("pipeline.toml", manifest(task));
        space.run(&["check"]).exits(2).says(words);
    }
}

#[test]
fn tokens_are_counted_by_the_vendor_and_that_is_no_call() {
    let server = Wire::new(|asked| match asked.line.contains("count_tokens") {
        true => {
            crate::support::wire::reply(200, "content-type: application/json\r\n", "{\"input_tokens\": 1234}")
        }
        false => Dialect::Anthropic.answer("fine"),
    });
    let space = Space::new();
    space.set_key("ACME_KEY", "sk-real-key", server.address());
    space.write(
        "pipeline.toml",
        format!(
            "[models.m]\napi = \"anthropic\"\nbase_url = \"{}\"\nmodel = \"m-1\"\napi_key_env = \"ACME_KEY\"\n[task.agent]\noutputs = [\"out.txt\"]\ncommand = \"sh agent.sh $out\"\ncalls = \"m\"\n",
            server.base_url(Dialect::Anthropic)
        ),
    );
    space.write("agent.sh", "ask() { curl -sS -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{\"messages\":[]}' $ANTHROPIC_BASE_URL/v1/messages$1; }\n{ ask /count_tokens; ask /count_tokens; ask; } > \"$1\"\n");
    space.build().exits(0);
    let out = space.read("out.txt");
    assert_eq!(out.matches("1234").count(), 2, "{out}");
    assert!(out.contains("fine"), "{out}");
    assert_eq!(space.lines("usage_metrics.jsonl").len(), 1, "what is free of charge is no call");
    let posts = server.posts();
    assert_eq!(posts.len(), 3);
    for post in posts {
        assert!(post.head.contains("sk-real-key"), "{}", post.head);
        assert_eq!(post.body["model"], "m-1");
    }
}

#[test]
fn a_model_is_asked_in_its_own_dialect_and_the_refusal_names_it() {
    let server = Wire::new(|_| Dialect::Anthropic.answer("fine"));
    let space = Space::new();
    space.write(
        "pipeline.toml",
        format!(
            "[models.m]\napi = \"anthropic\"\nbase_url = \"{}\"\nmodel = \"m-1\"\n[task.agent]\noutputs = [\"out.txt\"]\ncommand = \"sh agent.sh $out\"\ncalls = \"m\"\n",
            server.base_url(Dialect::Anthropic)
        ),
    );
    space.write("agent.sh", format!("{ASK}ask one > \"$1\"\n"));
    space.build().exits(0);
    let said = space.read("out.txt");
    assert!(said.contains("speaks the dialect `anthropic`") && said.contains("ask /v1/messages"), "{said}");
    assert_eq!(server.count(), 0);
}
