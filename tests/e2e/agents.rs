//! Agent programs as models (`api = "claude"`, `"codex"`, `"gemini"`): scripts stand in for them, print what the real ones
//! were seen to print, and count how often they are started.

use std::time::{Duration, Instant};

use crate::support::Space;

/// What each of them prints for the answer `It holds.`, with 291 tokens of prompt.
const CLAUDE: &str = r#"cat > ../stdin
echo '{"type":"system","subtype":"init","session_id":"s-1","tools":[],"mcp_servers":[],"model":"claude-x"}'
echo '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"It "}}}'
echo '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"holds."}}}'
echo '{"type":"result","subtype":"success","is_error":false,"result":"It holds.","stop_reason":"end_turn","session_id":"s-1","total_cost_usd":0.0027,"usage":{"input_tokens":1},"modelUsage":{"claude-x":{"inputTokens":91,"outputTokens":7,"cacheReadInputTokens":150,"cacheCreationInputTokens":50}}}'
"#;
const CODEX: &str = r#"cat > ../stdin
echo '{"type":"thread.started","thread_id":"s-1"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata for `x` not found."}}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"It holds."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":291,"cached_input_tokens":150,"output_tokens":7,"reasoning_output_tokens":2}}'
"#;
const GEMINI: &str = r#"cat > ../stdin
echo '{"type":"init","session_id":"s-1","model":"gemini-x"}'
echo '{"type":"message","role":"user","content":"Will it hold?"}'
echo '{"type":"message","role":"assistant","content":"It ","delta":true}'
echo '{"type":"message","role":"assistant","content":"holds.","delta":true}'
echo '{"type":"result","status":"success","stats":{"input_tokens":291,"output_tokens":7,"cached":150}}'
echo 'Warning: 256-color support not detected.' >&2
"#;

/// A task whose model is a script in an agent's place. The script runs in a folder that is gone after it, so `../` of the
/// scripts is replaced by the folder of the test.
fn space(api: &str, script: &str, keys: &str, tasks: &str) -> Space {
    let space = Space::new();
    write_script(&space, script);
    let model = if api == "command" { "" } else { "model = \"m-1\"\n" };
    let pipeline = format!(
        "[models.agent]\napi = \"{api}\"\n{model}command = [\"sh\", \"{}/agent.sh\"]\nretry = {{ max_attempts = 2, base = \"1ms\", max = \"2ms\", wait = \"1s\" }}\nmax_concurrent = 1\n{keys}\n[defaults]\nmodel = \"agent\"\n{tasks}",
        space.root().display()
    );
    space.write("pipeline.toml", pipeline);
    space
}

fn write_script(space: &Space, script: &str) {
    let root = space.root().display().to_string();
    let begin = format!("echo >> {root}/starts\nfor word in \"$@\"; do echo \"$word\"; done > {root}/argv\n");
    let text = begin + &script.replace("../", &format!("{root}/"));
    std::fs::write(space.root().join("agent.sh"), text).expect("the script");
}

fn starts(space: &Space) -> usize {
    std::fs::read_to_string(space.root().join("starts")).map_or(0, |text| text.lines().count())
}

fn said(space: &Space, name: &str) -> String {
    std::fs::read_to_string(space.root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const ONE: &str =
    "[task.a]\noutputs = [\"a.txt\"]\nsystem = \"You are brief.\"\nprompt = \"Will it hold?\"\n";

#[test]
fn each_answers_with_its_usage_and_session() {
    for (api, script) in [("claude", CLAUDE), ("codex", CODEX), ("gemini", GEMINI)] {
        let space = space(api, &format!("env > ../env; ls -A > ../ls; pwd > ../cwd\n{script}"), "", ONE);
        for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"] {
            space.set_env(key, "sk-canary-5f3a9b");
        }
        space.build();
        assert_eq!(space.read("a.txt").trim(), "It holds.", "{api}");
        assert_eq!(said(&space, "stdin").trim(), "Will it hold?", "{api}");
        let (argv, env) = (said(&space, "argv"), said(&space, "env"));
        assert!(!argv.contains("hold?") && !argv.contains("brief") && argv.contains("m-1"), "{api}: {argv}");
        assert!(!env.contains("canary"), "{api}: {env}");
        assert_eq!(said(&space, "ls"), "", "{api}: an empty folder");
        assert!(!std::path::Path::new(said(&space, "cwd").trim()).exists(), "{api}: gone after the call");
        let usage = &space.lines("usage_metrics.jsonl")[0];
        assert_eq!(
            (&usage["input_tokens"], &usage["cached_tokens"]),
            (&291.into(), &150.into()),
            "{api}: {usage}"
        );
        if api == "claude" {
            assert_eq!(usage["cost_usd"], 0.0027, "{usage}");
        }
        let call =
            space.files(".planexe/calls").into_iter().find(|file| file.ends_with(".json")).expect("a call");
        assert_eq!(space.json(&call)["reply"]["id"], "s-1", "{api}");
        space.build();
        assert_eq!(starts(&space), 1, "{api}");
    }
}

#[test]
fn a_key_and_tools_reach_it_only_where_its_table_names_them() {
    for (api, script, tool) in [("claude", CLAUDE, "--allowedTools"), ("codex", CODEX, "shell_tool")] {
        let keys = "api_key_env = \"SOME_API_KEY\"\ntools = [\"Read\", \"WebSearch\"]";
        let space = space(api, &format!("env > ../env\n{script}"), keys, ONE);
        space.set_env("SOME_API_KEY", "sk-canary-5f3a9b");
        space.build();
        assert!(said(&space, "env").contains("SOME_API_KEY=sk-canary"), "{api}");
        // Claude gets a list; codex gets its tools back.
        assert_eq!(said(&space, "argv").contains(tool), api == "claude", "{api}");
    }
}

/// Gemini CLI looks for a login beside its settings: with a key it gets settings of ours alone.
#[test]
fn with_a_key_gemini_sees_no_settings_of_the_user() {
    for key in [false, true] {
        let keys =
            format!("tools = [\"read_file\"]\n{}", if key { "api_key_env = \"SOME_API_KEY\"" } else { "" });
        let script = format!("cat \"$GEMINI_CLI_HOME/.gemini/settings.json\" > ../settings\n{GEMINI}");
        let space = space("gemini", &script, &keys, ONE);
        space.set_env("SOME_API_KEY", "sk-canary-5f3a9b");
        space.build();
        let settings = said(&space, "settings");
        assert_eq!(settings.is_empty(), !key, "{settings}");
        assert!(!settings.contains("canary"), "{settings}");
        if key {
            let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
            assert_eq!(settings["tools"]["core"], serde_json::json!(["read_file"]), "{settings}");
            assert_eq!(settings["mcpServers"], serde_json::json!({}));
        }
    }
}

#[test]
fn doctor_says_why_an_agent_does_not_start() {
    let space = space("claude", "echo 'no node here' >&2; exit 7\n", "", ONE);
    space.run(&["doctor"]).exits(1).says(&["ended with exit code 7", "no node here"]);
    write_script(&space, "echo 2.1.197\n");
    space.run(&["doctor"]).says(&["2.1.197"]).says_nothing_of(&["no node here"]);
}

/// A task's own list counts, also where it is empty.
#[test]
fn a_task_allows_or_refuses_tools_of_its_own() {
    for (table, task, wanted) in [
        ("", "tools = [\"WebSearch\"]\n", "--tools\nWebSearch\n--allowedTools\nWebSearch\n"),
        (
            "tools = [\"Read\"]",
            "tools = [\"WebSearch\", \"Grep\"]\n",
            "--tools\nWebSearch,Grep\n--allowedTools\n",
        ),
        ("tools = [\"Read\"]", "tools = []\n", "--tools\n\n--system-prompt-file\n"),
        ("tools = [\"Read\"]", "", "--tools\nRead\n--allowedTools\nRead\n"),
    ] {
        let space = space("claude", CLAUDE, table, &format!("{ONE}{task}"));
        space.build();
        let argv = said(&space, "argv");
        assert!(argv.contains(wanted), "{table} {task}: {argv}");
        space.build();
        assert_eq!(starts(&space), 1);
    }
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\noutputs = [\"a.txt\"]\ntools = [\"WebSearch\"]\ncommand = \"echo > $out\"\n",
    );
    space.run(&["check"]).exits(2).says(&["tools", "pipeline.toml:3"]);
}

/// A killed planexe could not remove the folder of its agent.
#[test]
fn the_folder_of_a_killed_call_is_removed_later() {
    let space = space("claude", CLAUDE, "", ONE);
    let tmp = space.root().join("tmp");
    let (old, young, other) =
        (format!("planexe-agent-{}-0", i32::MAX), format!("planexe-agent-{}-1", i32::MAX), "planexe-agent-x");
    for name in [&old[..], &young, other] {
        std::fs::create_dir_all(tmp.join(name).join("work")).expect("a folder");
    }
    let day = std::time::SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    for name in [&old[..], other] {
        std::fs::File::open(tmp.join(name)).expect("the folder").set_modified(day).expect("its time");
    }
    space.build();
    let left: Vec<_> = [&old[..], &young, other].map(|name| tmp.join(name).exists()).into();
    assert_eq!(left, [false, true, true]);
}

/// Gemini CLI was seen to write the prompt of a failed call into a report there.
#[test]
fn its_temporary_files_go_with_its_folder() {
    for (script, code) in [(CLAUDE.to_owned(), 0), ("exit 3\n".to_owned(), 1)] {
        let space =
            space("claude", &format!("cat > \"$TMPDIR/report.json\"; pwd > ../room\n{script}"), "", ONE);
        space.run(&["build"]).exits(code);
        assert!(said(&space, "room").contains("planexe-agent-"));
        let left = std::fs::read_dir(space.root().join("tmp")).expect("the folder").count();
        assert_eq!(left, 0, "{script}");
    }
}

#[test]
fn a_schema_is_asked_for_natively_and_in_words_where_it_is_refused() {
    let schema = "[task.a]\noutputs = [\"a.json\"]\nprompt = \"Will it hold?\"\nschema = \"s.json\"\n";
    let json = r#"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"],"additionalProperties":false}"#;
    let answer = |api: &str| match api {
        "claude" => CLAUDE
            .replace("\"result\":\"It holds.\"", "\"result\":\"\",\"structured_output\":{\"x\":\"yes\"}"),
        "codex" => CODEX.replace("It holds.", "{\\\"x\\\":\\\"yes\\\"}"),
        _ => GEMINI.replace("It ", "{\\\"x\\\":").replace("holds.", "\\\"yes\\\"}"),
    };
    for (api, option) in [("claude", "--json-schema"), ("codex", "--output-schema"), ("gemini", "")] {
        let space = space(api, &answer(api).replace("echo '", "printf '%s\\n' '"), "", schema);
        space.write("s.json", json);
        space.build();
        assert_eq!(space.json("a.json")["x"], "yes", "{api}");
        assert!(said(&space, "argv").contains(option), "{api}");
        // Only who is not asked natively is told in words.
        assert_eq!(said(&space, "stdin").contains("\"required\""), api == "gemini", "{api}");
    }
    let refuses = format!(
        "case \"$*\" in *--json-schema*) echo 'error: --json-schema: Invalid JSON schema' >&2; exit 1;; esac\n{}",
        CLAUDE
            .replace("\"result\":\"It holds.\"", r#""result":"{\"x\":\"yes\"}""#)
            .replace("echo '", "printf '%s\\n' '")
    );
    let space = space("claude", &refuses, "", schema);
    space.write("s.json", json);
    space.build();
    assert_eq!(starts(&space), 2);
    assert!(said(&space, "stdin").contains("\"required\""));
    assert_eq!(space.sidecar("a.json")["attempt"], 1, "no attempt was used");
}

#[test]
fn every_ending_has_its_class() {
    let failed = |text: &str, status: &str| {
        format!(
            "echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":{status},\"result\":\"{text}\",\"modelUsage\":{{}}}}'; exit 1\n"
        )
    };
    let finish = |reason: &str| CLAUDE.replace("end_turn", reason);
    let turn = |text: &str| {
        format!(
            "echo '{{\"type\":\"error\",\"message\":\"{text}\"}}'\necho '{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{text}\"}}}}'\nexit 1\n"
        )
    };
    let half = CLAUDE.lines().take(3).collect::<Vec<_>>().join("\n") + "\n";
    let rows: Vec<(&str, String, &str)> = vec![
        ("claude", failed("Not logged in · Please run /login", "null"), "auth"),
        ("claude", failed("API Error: 500 internal", "500"), "server_error"),
        ("claude", failed("Credit balance is too low", "400"), "quota"),
        ("claude", failed("Prompt is too long", "400"), "context_overflow"),
        ("claude", failed("API Error: 400 nonsense", "400"), "bad_request"),
        ("claude", finish("refusal"), "refusal"),
        ("claude", finish("max_tokens"), "truncated"),
        ("claude", CLAUDE.replace("\"result\":\"It holds.\"", "\"result\":\"\""), "empty_response"),
        ("claude", half.clone(), "cut"),
        ("claude", half + "kill -9 $$\n", "server_error"),
        ("claude", "echo \"error: unknown option '--safe-mode'\" >&2; exit 1\n".into(), "config"),
        ("claude", "echo 'it broke' >&2; exit 3\n".into(), "server_error"),
        ("claude", "exit 127\n".into(), "config"),
        ("claude", "true\n".into(), "cut"),
        ("claude", "echo 'Hello, I am another program'\n".into(), "bad_data"),
        ("claude", "echo '{\"type\":\"result\",\"text\":\"It holds.\"}'\n".into(), "bad_data"),
        ("gemini", "echo '{\"type\":\"result\"}'\n".into(), "bad_data"),
        ("codex", "echo '{\"answer\":\"It holds.\"}'\n".into(), "bad_data"),
        ("codex", turn("unexpected status 401 Unauthorized: bad key"), "auth"),
        ("codex", turn("stream disconnected before completion"), "server_error"),
        ("gemini", "echo '{\"type\":\"result\",\"status\":\"error\",\"error\":{\"type\":\"Error\",\"message\":\"it broke\"},\"stats\":{}}'; exit 1\n".into(), "server_error"),
        ("gemini", "echo 'Invalid auth method selected.' >&2; exit 41\n".into(), "auth"),
        ("gemini", "echo '[API Error: {\"error\":{\"code\":400,\"message\":\"API key not valid. Please pass a valid API key.\"}}]' >&2; exit 144\n".into(), "auth"),
        // 429, 403 and 503 of the server, as eight bits.
        ("gemini", "echo 'no' >&2; exit 147\n".into(), "auth"),
        ("gemini", "echo 'no' >&2; exit 173\n".into(), "rate_limit"),
        ("gemini", "echo 'no' >&2; exit 247\n".into(), "server_error"),
    ];
    for (api, script, class) in rows {
        let space = space(api, &script, "", ONE);
        let out = space.run(&["build"]).exits(1);
        let failure = &space.sidecar("a.txt")["failure"];
        assert_eq!(failure["class"], class, "{api}: {script}");
        if class == "auth" {
            out.says(&["log in: ", "agent.sh", "`api_key_env` under [models.agent]"]);
        }
        if class == "bad_data" {
            let told = failure["message"].as_str().unwrap_or_default();
            assert!(told.contains("found `") && told.contains("wanted lines of JSON"), "{api}: {told}");
        }
    }
}

#[test]
fn limits_in_every_printed_form_park_it_after_one_start() {
    let claude = |text: &str| {
        format!(
            "echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":429,\"result\":\"{text}\"}}'; exit 1\n"
        )
    };
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let epoch = later.as_second();
    let event = format!(
        "echo '{{\"type\":\"rate_limit_event\",\"rate_limit_info\":{{\"status\":\"rejected\",\"resetsAt\":{epoch},\"rateLimitType\":\"five_hour\"}}}}'\n{}",
        claude("You have hit your session limit")
    );
    let codex = |text: &str| {
        format!("echo '{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{text}\"}}}}'; exit 1\n")
    };
    let rows: Vec<(&str, String, u64)> = vec![
        ("claude", event, 7200),
        ("claude", claude(&format!("Claude AI usage limit reached|{epoch}")), 7200),
        ("claude", "echo '5-hour limit reached, resets in 2 hours' >&2; exit 1\n".into(), 7200),
        ("claude", claude("You have hit your weekly limit"), 1800),
        // As an answer, of a program that says that all went well.
        ("claude", CLAUDE.replace("\"result\":\"It holds.\"", "\"result\":\"You have hit your session limit, resets in 2 hours\""), 7200),
        ("command", format!("cat > /dev/null; echo 'Claude AI usage limit reached|{epoch}'\n"), 7200),
        ("codex", codex("You have hit your usage limit. Try again in 2 hours 0 minutes."), 7200),
        ("codex", codex(&format!("You have hit your usage limit. Try again at {later}.")), 7200),
        ("gemini", "echo 'You have exhausted your capacity on this model. Your quota will reset after 2h0m0s.' >&2; exit 1\n".into(), 7200),
        ("claude", claude("You are now out of extra usage, resets in 2 hours"), 7200),
        ("claude", CLAUDE.replace("It holds.", "You’re out of extra usage · resets in 2 hours"), 7200),
        ("claude", CLAUDE.replace("It holds.", "Sonnet limit reached · resets in 2 hours"), 7200),
        ("codex", codex("You are out of credits. Add credits to continue or try again in 2 hours."), 7200),
        ("gemini", "echo 'You have exhausted your daily quota on this model.' >&2; exit 1\n".into(), 1800),
        ("gemini", GEMINI.replace("It ", "You have exhausted your daily quota ").replace("holds.", "on this model."), 1800),
        ("gemini", "echo \"Quota exceeded for quota metric 'Requests' per day.\" >&2; exit 1\n".into(), 1800),
        ("command", "cat > /dev/null; echo 'You have reached your weekly limit' >&2; exit 1\n".into(), 1800),
        ("command", "cat > /dev/null; echo 'You have reached your weekly limit'\n".into(), 1800),
        // On standard error alone, of programs that say that all went well.
        ("claude", "cat > /dev/null; echo 'You have hit your session limit, resets in 2 hours' >&2\n".into(), 7200),
        ("command", "cat > /dev/null; echo 'You have hit your session limit, resets in 2 hours' >&2\n".into(), 7200),
    ];
    for (api, script, wait) in rows {
        let tasks: String = (0..4)
            .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"Say {n}.\"\n"))
            .collect();
        let space = space(api, &script, "", &tasks);
        space.run(&["build"]).exits(3);
        space.run(&["build"]).exits(3);
        assert_eq!(starts(&space), 1, "{api}: {script}");
        let left = space.report()["parked"][0]["left_s"].as_f64().unwrap_or_default();
        assert!((wait as f64 - 100.0..=wait as f64).contains(&left), "{api}: {left} {script}");
    }
}

/// Money does not come back by itself: nobody asks again in the same build.
#[test]
fn an_agent_without_credits_is_started_once() {
    for text in [
        "Your workspace is out of credits. Add credits to continue.",
        "Quota exceeded. Check your plan and billing details.",
    ] {
        let script =
            format!("echo '{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{text}\"}}}}'; exit 1\n");
        let two = format!("{ONE}[task.b]\noutputs = [\"b.txt\"]\nprompt = \"And that?\"\n");
        let space = space("codex", &script, "", &two);
        space.run(&["build"]).exits(1);
        assert_eq!(
            (starts(&space), space.sidecar("a.txt")["failure"]["class"].as_str()),
            (1, Some("quota")),
            "{text}"
        );
    }
}

/// Claude Code was seen to print its result and never to end.
#[test]
fn the_answer_of_one_that_hangs_after_it_counts() {
    const TIME: &str = "timeouts = { total = \"2s\" }";
    for (api, script, end, keys) in [
        ("claude", CLAUDE, "sleep 600", ""),
        ("claude", CLAUDE, "exec >&- 2>&-; sleep 600", TIME),
        ("codex", CODEX, "sleep 600", TIME),
        ("gemini", GEMINI, "sleep 600", TIME),
    ] {
        let space = space(api, &format!("{script}echo $$ > ../pid\n{end}\n"), keys, ONE);
        space.build();
        assert_eq!((space.read("a.txt").trim(), starts(&space)), ("It holds.", 1), "{api}: {end}");
        super::crash::wait_until_gone(said(&space, "pid").trim());
    }
}

#[test]
fn a_whole_answer_counts_however_its_program_ends() {
    for (api, script) in [("claude", CLAUDE), ("codex", CODEX), ("gemini", GEMINI)] {
        for end in ["exit 1", "kill -9 $$"] {
            let space = space(api, &format!("{script}{end}\n"), "", ONE);
            space.build();
            assert_eq!((space.read("a.txt").trim(), starts(&space)), ("It holds.", 1), "{api}: {end}");
        }
    }
}

#[test]
fn the_limit_of_one_that_hangs_after_it_parks_it() {
    let failed = r#"echo '{"type":"turn.failed","error":{"message":"You have hit your usage limit. Try again in 2 hours."}}'"#;
    let script = format!("{failed}\nsleep 600\n");
    let space = space("codex", &script, "timeouts = { total = \"2s\" }", ONE);
    space.run(&["build"]).exits(3).says(&["parked: agent"]);
    assert_eq!(starts(&space), 1);
}

/// The piece that cannot be read may have been the answer, or of it.
#[test]
fn no_answer_is_made_of_an_output_that_is_damaged() {
    let looks = r#"echo '{"type":"item.completed","item":{"type":"agent_message","text":"I look."}}'"#;
    let codex = CODEX.replace("It holds.", "It h\\377lds.").replace("echo '", "printf '%b\\n' '");
    let gemini = GEMINI.replace("It ", "\\377").replace("echo '", "printf '%b\\n' '");
    let long =
        format!("{looks}\nhead -c 9000000 /dev/zero | tr '\\0' x; echo\n{}", CODEX.replace("It holds.", ""));
    for (api, script, told) in [
        ("codex", format!("{looks}\n{codex}"), "not valid UTF-8"),
        ("gemini", gemini, "not valid UTF-8"),
        ("codex", long, "longer than 8 MiB"),
    ] {
        let space = space(api, &script, "", ONE);
        space.run(&["build"]).exits(1).says(&["bad_data", told]);
        assert!(!space.exists("a.txt"), "{api}");
    }
    // The last line of Claude Code is the whole answer.
    let deltas =
        CLAUDE.replace("\"text\":\"It \"", "\"text\":\"\\377 \"").replace("echo '", "printf '%b\\n' '");
    let space = space("claude", &deltas, "", ONE);
    space.build();
    assert_eq!(space.read("a.txt").trim(), "It holds.");
}

/// Just below the longest line that is read.
#[test]
fn a_long_line_before_the_answer_is_passed_over() {
    let long = format!("head -c 8000000 /dev/zero | tr '\\0' x; echo\n{CLAUDE}");
    let space = space("claude", &long, "", ONE);
    space.build();
    assert_eq!((space.read("a.txt").trim(), starts(&space)), ("It holds.", 1));
}

/// The threads of anthropics/claude-code: a resume repeats only what failed, and starts nothing once the quota is gone.
#[test]
fn a_resume_starts_only_what_failed_and_nothing_without_a_quota() {
    let tasks: String = (0..102)
        .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"agent {n}.\"\n"))
        .collect();
    let fails = CLAUDE.replace(
        "cat > ../stdin\n",
        "case \"$(cat)\" in *'agent 7.'*|*'agent 70.'*) [ -e ../mended ] || { echo broken >&2; exit 1; };; esac\n",
    );
    let space = space("claude", &fails, "", &tasks);
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 1");
    space.edit("pipeline.toml", "max_concurrent = 1", "max_concurrent = 8");
    space.run(&["build"]).exits(1).says(&["t7", "t70"]);
    assert_eq!(starts(&space), 102);
    std::fs::write(space.root().join("mended"), "").expect("a file");
    space.run(&["resume"]).exits(0);
    assert_eq!(starts(&space), 104, "two starts");

    let gone = format!(
        "if [ $(wc -l < ../starts) -gt 3 ]; then echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"result\":\"You have hit your session limit, resets in 3 hours\"}}'; exit 1; fi\n{CLAUDE}"
    );
    let space = self::space("claude", &gone, "", &tasks);
    for command in ["build", "resume", "build"] {
        space.run(&[command]).exits(3).says(&["usage limit"]);
        assert_eq!(starts(&space), 4, "{command}: three answers, one refusal, nothing more");
    }
}

#[test]
fn one_that_hangs_is_ended_with_all_it_started() {
    let script = "echo $$ > ../pid\n(trap '' TERM; sleep 600) &\nsleep 600\n";
    let space = space("claude", script, "timeouts = { total = \"400ms\" }", ONE);
    let began = Instant::now();
    space.run(&["build"]).exits(1).says(&["timeout"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    super::crash::wait_until_gone(said(&space, "pid").trim());
}

#[test]
fn doctor_tells_its_version_or_how_to_get_it() {
    let space = space("codex", "echo codex-cli 0.169.0\n", "", ONE);
    space.run(&["doctor"]).says(&["codex-cli 0.169.0"]);
    let missing = format!("command = [\"{}/nowhere\"]", space.root().display());
    let present = format!("command = [\"sh\", \"{}/agent.sh\"]", space.root().display());
    space.edit("pipeline.toml", &present, &missing);
    space.run(&["doctor"]).exits(1).says(&["nowhere", "install"]);
}
