//! Limits: calls at once and per minute, what a server that says "slow down" does to them, the breaker, and
//! budgets of tokens, money and time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space, patiently, until};

/// So many tasks that need nothing.
fn tasks(count: usize) -> String {
    (0..count)
        .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nAnswer.\"\n"))
        .collect()
}

/// So many tasks, each of which reads the one before.
fn chain(count: usize) -> String {
    let task = |n: usize| match n {
        0 => "[task.t0]\noutputs = [\"t0.txt\"]\nprompt = \"TASK=t0\\nAnswer.\"\n".to_owned(),
        n => format!(
            "[task.t{n}]\ninputs = {{ before = \"t{}.txt\" }}\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\n{{{{ before }}}}\"\n",
            n - 1
        ),
    };
    (0..count).map(task).collect()
}

fn space(server: &FakeLlm, keys: &str, tasks: &str) -> Space {
    let space = Space::new();
    space.pipeline_with(server, keys, tasks);
    space
}

#[test]
fn calls_at_once_keep_to_the_model_and_to_j() {
    for (most, arguments) in [(3, &["build"][..]), (2, &["build", "-j2"])] {
        let server = FakeLlm::new();
        server.hold_all();
        let space = space(&server, "", &tasks(8));
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 3");
        let build = space.spawn(arguments);
        server.wait_for_total(most);
        server.release_all();
        build.wait().exits(0);
        assert_eq!((server.most_in_flight(), server.total()), (most, 8));
    }
}

#[test]
fn as_many_commands_run_at_once_as_are_asked_for() {
    let space = Space::new();
    let together = "echo >> began; n=0; until [ $$(wc -l < began) -ge 7 ]; do n=$$((n + 1)); [ $$n -lt 600 ] || exit 1; sleep 0.05; done; echo > $out";
    let tasks =
        (0..7).map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\ncommand = \"\"\"{together}\"\"\"\n"));
    space.write("pipeline.toml", tasks.collect::<String>());
    // Each waits for all the others, on however few cores.
    space.run(&["build", "-j7"]).exits(0);
    assert_eq!(space.read("began").lines().count(), 7);
}

#[test]
fn so_many_calls_at_once_as_files_may_be_open() {
    for (limit, at_once, said) in
        [("ulimit -Sn 64", 80, ""), ("ulimit -n 96", 0, "no more files may be open")]
    {
        let server = FakeLlm::new();
        server.hold_all();
        let space = space(&server, "", &tasks(80));
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 80");
        let line = format!("{limit}; exec {} build", env!("CARGO_BIN_EXE_planexe"));
        let build = space.start(space.program("sh", &["-c", &line]));
        server.wait_for_total(at_once.max(1));
        server.release_all();
        let out = build.wait().exits(0);
        assert!(out.stderr.contains(said), "{out}");
        assert!(server.most_in_flight() >= at_once && server.total() == 80, "{out}");
        space.assert_nothing_to_do(&server);
    }
}

/// Nothing is begun, and what is to be typed is said, though no task failed.
#[test]
fn a_build_that_can_keep_no_room_for_answers_says_how_it_goes_on() {
    let server = FakeLlm::new();
    let space = space(&server, "", &tasks(1));
    let line = format!("ulimit -f 64; exec {} build", env!("CARGO_BIN_EXE_planexe"));
    let out = space.start(space.program("sh", &["-c", &line])).wait().exits(1);
    out.says(&["Failed: cannot write `.planexe/room`", "Next: planexe build"]);
    assert_eq!(server.total(), 0);
    space.build();
}

#[test]
fn requests_per_minute_are_kept() {
    let server = FakeLlm::new();
    let space = space(&server, "rpm = 3", &tasks(5));
    let build = space.spawn(&["build"]);
    server.wait_for_total(3);
    // The fourth must wait for most of a minute; two seconds show that it does.
    let began = Instant::now();
    until("two seconds", || (began.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(server.total(), 3);
    build.signal(rustix::process::Signal::TERM);
    build.wait().exits(143);
    assert_eq!(server.total(), 3);
}

#[test]
fn tokens_per_minute_are_kept() {
    let server = FakeLlm::scripted(|_| Answer::Text("word ".repeat(400)));
    // Each call is over a third of it: two fit, and the first two answers show it.
    let space = space(&server, "tpm = 1200", &tasks(6));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    let build = space.spawn(&["build"]);
    server.wait_for_total(2);
    let began = Instant::now();
    until("two seconds", || (began.elapsed() > Duration::from_secs(2)).then_some(()));
    assert!((2..4).contains(&server.total()), "{} calls", server.total());
    build.signal(rustix::process::Signal::TERM);
    build.wait().exits(143);
}

#[test]
fn slow_down_shrinks_what_runs_at_once_and_costs_no_attempt() {
    // More than four at once are turned away, as a gateway does.
    let at_once = Mutex::new(0);
    let server = FakeLlm::scripted(move |request| {
        let mut asked = at_once.lock().expect("the count");
        *asked += 1;
        match *asked <= 12 && request.nth == 0 {
            true => Answer::Http(
                429,
                vec![("retry-after", "0.1".into())],
                json!({ "error": { "message": "slow down", "type": "rate_limit_error" } }).to_string(),
            ),
            false => Answer::Drip(request.default_text(), Duration::from_millis(5)),
        }
    });
    let space = space(&server, "", &tasks(24));
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 1");
    space.build();
    assert_eq!(server.total(), 24 + 12, "every refusal is asked once more, and nothing else");
    for n in 0..24 {
        assert_eq!(space.sidecar(&format!("t{n}.txt"))["attempt"], 1, "t{n}");
    }
}

#[test]
fn a_broken_server_is_asked_by_one_not_by_all() {
    let server = FakeLlm::scripted(|_| Answer::error(500, "it broke"));
    let space = space(&server, "", &tasks(12));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 9");
    let build = space.spawn(&["build"]);
    server.wait_for_total(3);
    // Three failures in a row open the breaker: nobody asks for the next two seconds.
    let began = Instant::now();
    until("a second", || {
        let (total, now) = (server.total(), began.elapsed());
        // One that is read later than that may be of the time after.
        assert!(total == 3 || now > Duration::from_millis(1500), "{total} calls after {now:?}");
        (now > Duration::from_secs(1)).then_some(())
    });
    build.signal(rustix::process::Signal::TERM);
    let out = build.wait().exits(143);
    // The third says that nobody asks now, not when its own short pause is over.
    assert!(out.stderr.contains("s or later: its server is left alone"), "{out}");
    assert!(!out.stderr.contains("again in 0.0s"), "{out}");
}

#[test]
fn budgets_stop_a_build_and_name_what_is_left() {
    // A call is 8 + 5 + ... tokens of prompt and 26 of an answer of 100 letters: above 20, below 100.
    let answer = "It is as it is. ".repeat(6);
    for arguments in [
        &["build", "--max-tokens", "20"][..],
        &["build", "--max-cost", "0.00002"],
        &["build", "--max-time", "1ms"],
    ] {
        let text = answer.clone();
        let server = FakeLlm::scripted(move |_| Answer::Text(text.clone()));
        let space = space(&server, "price = { input = 1.0, output = 1.0 }", &chain(4));
        let out = space.run(arguments).exits(3).says(&["budget", "Left:", "t3", "planexe resume"]);
        let done = server.total();
        assert!(done <= 1, "{done} calls\n{out}");
        assert!(out.stderr.contains(&format!("{} not reached", 4 - done)), "{out}");
        // What was paid for is done, and a build without the limit goes on from there.
        space.build();
        assert_eq!(server.total(), 4);
    }
}

#[test]
fn no_more_calls_are_made_than_a_build_may_make() {
    // Those made at once, those made again, those of evaluators: each is a call of its own.
    let evaluated = |count: usize| -> String {
        (0..count).map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nAnswer.\"\n[task.t{n}.eval]\nprompt = \"TASK=judge\\n{{{{ outputs[0].text }}}}\"\n")).collect()
    };
    type Script = fn(&crate::support::ChatRequest) -> Answer;
    let rows: [(&str, &str, String, Script); 3] = [
        ("at once", "", tasks(8), |_| Answer::Default),
        ("failing", "", tasks(8), |_| Answer::error(500, "not now")),
        ("evaluated", "", evaluated(3), |request| match request.task.as_str() {
            "judge" => Answer::Text("{\"score\": 0.2, \"notes\": \"no\"}".to_owned()),
            _ => Answer::Default,
        }),
    ];
    for (name, keys, tasks, script) in rows {
        for most in [0, 1, 2, 3] {
            let server = FakeLlm::scripted(script);
            let space = space(&server, keys, &tasks);
            let most_said = most.to_string();
            let out = space.run(&["build", "-j8", "--max-calls", &most_said]).exits(3);
            assert_eq!(server.total(), most, "{name}: {out}");
            out.says(&["the limit of calls is reached"]);
        }
    }
    // What was refused a call goes on in the next build, which has the whole limit again.
    let server = FakeLlm::new();
    let space = space(&server, "", &tasks(5));
    for wanted in [2, 4, 5] {
        space.run(&["build", "-j8", "--max-calls", "2"]).exits(if wanted == 5 { 0 } else { 3 });
        assert_eq!(server.total(), wanted);
    }
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_limit_of_money_is_passed_by_the_calls_under_way_alone() {
    let server = FakeLlm::new();
    server.hold_all();
    let space = space(&server, "price = { input = 1.0, output = 1.0 }", &tasks(8));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 3");
    let build = space.spawn(&["build", "-j8", "--max-cost", "0.000001"]);
    server.wait_for_total(3);
    server.release_all();
    build.wait().exits(3).says(&["the cost limit is reached"]);
    assert_eq!(server.total(), 3);
}

#[test]
fn a_budget_reached_by_the_last_task_stops_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, "", &chain(2));
    space.run(&["build", "--max-tokens", "30"]).exits(3);
    assert_eq!(server.total(), 1);
    space.run(&["build", "--max-tokens", "30"]).exits(0);
    space.assert_nothing_to_do(&server);
    // Nor one reached where the rest is up to date: the same answer again.
    space.remove("t0.txt.DONE");
    space.run(&["build", "--max-tokens", "1"]).exits(0).says(&["Done: 1 task ran"]);
    assert_eq!(server.total(), 3);
    space.assert_nothing_to_do(&server);
}

#[test]
fn a_budget_counts_calls_that_came_to_nothing() {
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "t0" => Answer::Finish("Half of it, and the rest is miss".repeat(20), "length"),
        _ => Answer::Default,
    });
    let space = space(&server, "", &tasks(3));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    // The first task costs so much without being done.
    space.run(&["build", "--max-tokens", "100"]).exits(3).says(&["t1", "t2"]);
    assert_eq!(server.counts().keys().cloned().collect::<Vec<_>>(), ["t0"]);
}

#[test]
fn nothing_is_piled_on_a_local_server_that_ran_out_of_time() {
    patiently(|slow| {
        let server = FakeLlm::scripted(|request| match request.nth {
            0 if ["t0", "t1", "t2"].contains(&request.task.as_str()) => Answer::Hang,
            _ => Answer::Default,
        });
        let space =
            space(&server, &format!("timeouts = {{ first_token = \"{}ms\" }}", 400 * slow), &tasks(8));
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 3");
        let build = space.spawn(&["build"]);
        server.wait_for_total(3);
        // From now on nothing is answered: what is asked for stays open.
        server.hold_all();
        server.wait_for_total(4);
        let began = Instant::now();
        until("a moment", || (began.elapsed() > Duration::from_millis(300)).then_some(()));
        assert_eq!(server.total(), 4, "one at a time, until it answers again");
        server.release_all();
        build.wait().exits(0);
        assert_eq!(server.total(), 8 + 3, "each that ran out of time was asked once more");
    });
}

#[test]
fn a_limit_on_money_that_cannot_be_counted_is_told() {
    for (keys, told) in [("", true), ("price = { input = 0, output = 0 }", false)] {
        let server = FakeLlm::new();
        let space = space(&server, keys, &tasks(3));
        let out = space.run(&["build", "--max-cost", "5"]).exits(0);
        assert_eq!(out.stderr.matches("the cost of `fake` is not known").count(), usize::from(told), "{out}");
        let silent = Space::new();
        silent.pipeline_with(&server, keys, &tasks(1));
        assert!(!silent.build().stderr.contains("is not known"));
    }
}

#[test]
fn a_limit_without_end_is_waited_out_no_longer_than_the_model_says() {
    let server = FakeLlm::scripted(|_| Answer::error(429, "slow down"));
    let space = space(&server, "", &tasks(1));
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 2, wait = \"4s\"");
    let build = space.spawn(&["build"]);
    // While it is waited out, `status` says what for and until when.
    until("status to tell", || {
        let status = space.run(&["status", "--json"]).json();
        let doing = status["tasks"][0]["doing"].as_str()?.to_owned();
        (doing.contains("its limit is waited out until 20") && doing.contains("at the latest")).then_some(())
    });
    build.wait().exits(1).says(&["rate_limit"]);
    assert!((2..=6).contains(&server.total()), "{}", server.total());
}

#[test]
fn a_server_of_this_machine_that_nobody_starts_is_told_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let server = FakeLlm::new();
    let space = space(&server, "", &tasks(1));
    space.edit("pipeline.toml", &server.base_url(), &format!("http://{free}/v1"));
    space.edit("pipeline.toml", "max_attempts = 2", "max_attempts = 2, wait = \"2s\"");
    let out = space.run(&["build"]).exits(1);
    out.says(&[
        &format!("nothing listens at {free}"),
        "start the program that serves `fake-1`",
        "It is waited for, 2.0s at most",
        "at the latest",
    ]);
}

#[test]
fn cached_tokens_of_a_prompt_are_billed_at_their_price() {
    let answer = serde_json::json!({
        "id": "x", "object": "chat.completion", "model": "fake-1",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "It is so." } }],
        "usage": { "prompt_tokens": 1_000_000, "completion_tokens": 100_000, "total_tokens": 1_100_000,
            "prompt_tokens_details": { "cached_tokens": 800_000, "cache_write_tokens": 100_000 } },
    });
    let server = FakeLlm::scripted(move |_| {
        Answer::Http(200, vec![("content-type", "application/json".to_owned())], answer.to_string())
    });
    for (price, wanted) in [
        ("price = { input = 2.0, output = 10.0 }", 3.0),
        ("price = { input = 2.0, cached = 0.5, output = 10.0 }", 0.2 * 2.0 + 0.8 * 0.5 + 1.0),
        (
            "price = { input = 2.0, cached = 0.5, cache_write = 3.0, output = 10.0 }",
            0.1 * 2.0 + 0.8 * 0.5 + 0.1 * 3.0 + 1.0,
        ),
    ] {
        let space = space(&server, price, &tasks(2));
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
        // The limit is that of one call: by the price of uncached tokens it would be reached too, by less it is not.
        space.run(&["build", "--max-cost", &format!("{:.4}", wanted - 0.01)]).exits(3);
        let usage = space.run(&["usage", "--json"]).exits(0).json();
        let cost = usage["total"]["cost_usd"].as_f64().expect("a cost");
        assert!((cost - wanted).abs() < 1e-6, "{price}: {cost}, not {wanted}");
        let line: serde_json::Value =
            serde_json::from_str(space.read("usage_metrics.jsonl").lines().next().expect("a line"))
                .expect("JSON");
        assert_eq!((&line["cached_tokens"], &line["cache_write_tokens"]), (&json!(800_000), &json!(100_000)));
        // The next build is expected to cost as much for each call that is left.
        let plan = space.run(&["build", "-n", "--json"]).exits(0).json().to_string();
        let told = format!("\"cost_usd\":{wanted}");
        assert!(plan.contains(&told) || plan.contains(&format!("{:.1}", wanted)), "{plan}");
    }
}
