//! A canary key: planted in the environment, sent to its server and nowhere else, echoed by the server
//! wherever a server can, and looked for in every byte that is left behind, said or handed on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::faults::TEXT;
use crate::support::wire::Dialect::{self, Anthropic, Ollama, Openai};
use crate::support::wire::{DIALECTS, Step, Wire, reply, send};
use crate::support::{Fifo, Space, until};

const KEY: &str = "sk-canary-7f3e9a1b2c4d5e6f";
const SECRET: &str = "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTEyMzQ=";

/// Every file under a folder that holds the canary.
fn found_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = fs::read(&path).unwrap_or_default();
                    let holds =
                        [KEY, SECRET].iter().any(|key| bytes.windows(key.len()).any(|w| w == key.as_bytes()));
                    if holds || path.to_string_lossy().contains(KEY) {
                        found.push(path.display().to_string());
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// The tasks: one of each way that a server may echo a key, commands that tell all they were given, a hook.
fn pipeline(server: &Wire, dialect: Dialect, webhook: &Wire) -> String {
    let mut text = format!(
        r#"[models.m]
api = "{}"
base_url = "{}"
model = "m-1"
api_key_env = "CANARY_KEY"
headers = {{ X-Team = "plans" }}
retry = {{ max_attempts = 1, base = "1ms", max = "2ms" }}
[defaults]
model = "m"
[webhooks.ops]
url = "http://{}/hook"
secret_env = "CANARY_SECRET"
[hooks]
on_finished = ["sh", "-c", "env > ../hook.env; cat > ../hook.in"]
[task.tells]
outputs = ["env.txt"]
command = "env > $out; cat /proc/$$$$/cmdline >> $out 2>&1; true"
[task.holds]
outputs = ["held.txt"]
command = "echo $$$$ > ../pid; cat ../gate; echo x > $out"
"#,
        dialect.api(),
        server.base_url(dialect),
        webhook.address(),
    );
    for way in ["answer", "thought", "error", "stream", "page", "detail", "redirect"] {
        text += &format!("[task.{way}]\noutputs = [\"{way}.txt\"]\nprompt = \"Tell it: WAY={way}\"\n");
    }
    text
}

fn echo(dialect: Dialect, way: &str, elsewhere: &str) -> Vec<Step> {
    let words = format!("What came with it was {KEY}, was it not?");
    match way {
        "answer" => dialect.answer(&format!("{TEXT} By the way, your key is {KEY}.")),
        "thought" => dialect.stream(
            dialect.opening()
                + &dialect.thought(&words)
                + &dialect.piece(TEXT)
                + &dialect.finish("stop")
                + dialect.end(),
        ),
        "error" => reply(400, &format!("x-echo: {KEY}\r\n"), &dialect.error("invalid_request_error", &words)),
        "stream" => {
            dialect.stream(dialect.opening() + &dialect.piece(&words) + &dialect.error_in_stream("x", &words))
        }
        "page" => vec![send(format!(
            "HTTP/1.1 500 X\r\ncontent-type: text/html\r\n\r\n<html><title>{KEY}</title><body>{words}</body></html>"
        ))],
        "redirect" => reply(307, &format!("location: {elsewhere}?key={KEY}\r\n"), &words),
        _ => reply(422, "", &json!({ "detail": [{ "msg": words, "input": KEY }] }).to_string()),
    }
}

#[test]
fn a_key_goes_to_its_server_and_nowhere_else() {
    for dialect in DIALECTS {
        let elsewhere = Wire::new(move |_| dialect.answer(TEXT));
        let webhook = Wire::new(|_| reply(200, "", "{}"));
        let to = elsewhere.base_url(dialect);
        let server = Wire::new(move |asked| {
            let body = asked.body.to_string();
            let way =
                body.split_once("WAY=").map_or("", |(_, rest)| rest).split('"').next().unwrap_or_default();
            echo(dialect, way, &to)
        });
        let space = Space::new();
        space.write("pipeline.toml", pipeline(&server, dialect, &webhook));
        space.set_key("CANARY_KEY", KEY, server.address());
        space.set_env("CANARY_SECRET", SECRET);
        let gate = Fifo::new(space.root().join("gate"));
        let build = space.spawn(&["build", "--progress", "json"]);
        let held = gate.wait_for_reader();
        until("the calls", || (server.count() >= 7).then_some(()));
        nobody_was_handed_it(build.pid().as_raw_nonzero().get());
        drop(held);
        let out = build.wait().exits(1);
        let mut said = format!("{out}");

        // It did go to its server, and redirects were not followed.
        let header = if dialect == Anthropic { format!("x-api-key: {KEY}") } else { format!("bearer {KEY}") };
        for asked in server.posts() {
            assert!(asked.head.contains(&header.to_lowercase()), "{dialect:?}: {}", asked.head);
            assert!(!asked.body.to_string().contains(KEY));
        }
        assert_eq!(
            elsewhere.count() + elsewhere.asked_for().len(),
            0,
            "{dialect:?}: the redirect was followed"
        );
        until("the webhook", || (webhook.count() > 0).then_some(()));
        for post in webhook.posts() {
            assert!(!post.head.contains(KEY) && !post.body.to_string().contains(KEY), "{post:?}");
        }
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["failures"],
            &["failures", "--json"],
            &["usage", "--json"],
            &["events"],
            &["show", "answer"],
            &["show", "error"],
            &["show", "stream", "--json"],
            &["explain", "error"],
            &["explain", "page", "--json"],
            &["keys"],
            &["keys", "--json"],
            &["doctor"],
            &["doctor", "--json"],
            &["build"],
            &["record", "answers.json"],
        ] {
            said += &space.run(arguments).to_string();
        }
        assert!(!said.contains(KEY) && !said.contains(SECRET), "{dialect:?}: said\n{said}");
        assert!(space.read("answer.txt").contains(TEXT), "the answer itself is kept");
        assert!(!space.read("env.txt").is_empty() && space.root().join("hook.env").exists());
        assert_eq!(found_in(&space.root()), Vec::<String>::new(), "{dialect:?}");
        space.write("planted/here.txt", format!("so {KEY} is found"));
        assert_eq!(found_in(&space.root()).len(), 1, "the search finds what is there");
    }
}

/// Neither on a command line nor in the environment of any process below this one.
fn nobody_was_handed_it(build: i32) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let mine = fs::metadata("/proc/self").expect("/proc").uid();
    let mut family = vec![build];
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if entry.metadata().map(|meta| meta.uid()).ok() != Some(mine) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(KEY), "on the command line of {pid}");
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
        if parent.is_some_and(|parent| family.contains(&parent)) {
            family.push(pid);
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environment).contains(KEY), "in the environment of {pid}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 0, "no child was seen");
}

#[test]
fn a_key_is_not_sent_on_by_a_pipeline_that_names_another_host() {
    // A pipeline of somebody else's names its own host, or a plain connection.
    for url in
        ["https://evil.example/v1", "http://api.openai.com/v1", "https://api.openai.com.evil.example/v1"]
    {
        let server = Wire::new(|_| Openai.answer(TEXT));
        let space = super::faults::space(&server, Openai, "api_key_env = \"OPENAI_API_KEY\"");
        space.set_env("OPENAI_API_KEY", KEY);
        space.edit("pipeline.toml", &server.base_url(Openai), url);
        let out = space.run(&["build"]).exits(2);
        assert!(!out.stderr.contains(KEY) && out.stderr.contains("OPENAI_API_KEY"), "{out}");
        assert!(!space.exists("events.jsonl"), "nothing ran");
        assert_eq!(found_in(&space.root()), Vec::<String>::new());
    }
}

#[test]
fn a_key_survives_no_crash() {
    let server = Wire::new(|_| {
        vec![
            Ollama.head(),
            send(Ollama.piece(&format!("It is {KEY}. "))),
            Step::Pause(Duration::from_millis(1200)),
            Step::Hold,
        ]
    });
    let space = super::faults::space(&server, Ollama, "api_key_env = \"CANARY_KEY\"");
    space.set_key("CANARY_KEY", KEY, server.address());
    let build = space.spawn(&["build"]);
    until("the call", || (server.count() == 1).then_some(()));
    until("its text shared", || (!space.files(".planexe/live").is_empty()).then_some(()));
    let out = build.kill9();
    assert!(!out.to_string().contains(KEY));
    assert_eq!(found_in(&space.root()), Vec::<String>::new());
}
