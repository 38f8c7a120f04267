//! Faults that no row can hold: of more than one request, of the figures in an answer, of a prompt that did not arrive.

use super::*;

/// What a server says that a call took may be anything; it is added up all the same.
/// What is packed though nobody asked is told from an answer that broke off.
#[test]
fn a_compressed_stream_is_named_as_such() {
    for head in ["content-encoding: gzip", "transfer-encoding: gzip, chunked"] {
        let bytes = b"7\r\n\x1f\x8b\x08\0\0\0\0\r\n0\r\n\r\n".to_vec();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}\r\n\r\n");
        let server = Wire::new(move |_| vec![send(head.clone()), Step::Send(bytes.clone())]);
        let space = space(&server, Dialect::Openai, "");
        space.run(&["build"]).exits(1).says(&["bad_data", "compressed (`gzip`)"]);
    }
}

/// A proxy of the environment that is down is not taken for the server.
#[test]
fn a_proxy_on_the_way_is_named() {
    let server = Wire::new(|_| vec![]);
    let space = space(&server, Dialect::Openai, "");
    space.edit("pipeline.toml", &server.base_url(Dialect::Openai), "http://nowhere.invalid/v1");
    space.set_env("HTTP_PROXY", "http://127.0.0.1:1");
    space.set_env("NO_PROXY", "");
    space
        .run(&["build"])
        .exits(1)
        .says(&["nowhere.invalid:80 (by the proxy 127.0.0.1:1) refuses connections"]);
}

#[test]
fn figures_that_cannot_be_true_break_no_sum() {
    for dialect in DIALECTS {
        let body = dialect.opening()
            + &dialect.piece(TEXT)
            + &dialect
                .finish_with("stop", u64::MAX - 5)
                .replace("\"usage\":{", "\"usage\":{\"cost\":-1e300,")
            + dialect.end();
        let server = Wire::new(move |_| dialect.stream(body.clone()));
        let space = space(&server, dialect, "tpm = 1000000000");
        let second =
            "\n[task.b]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And then?\"\nafter = [\"a\"]\n";
        space.write("pipeline.toml", space.read("pipeline.toml") + second);
        let build = space.spawn(&["build"]);
        until("the first answer", || space.is_done("a.txt").then_some(()));
        // The allowance of the minute is used up.
        build.signal(rustix::process::Signal::TERM);
        build.wait().exits(143);
        space.edit("pipeline.toml", "tpm = 1000000000", "");
        space.run(&["build"]).exits(0).says_nothing_of(&["BUG", "panicked"]);
        let sum = space.json("activity_overview.json");
        assert!(sum["total_input_tokens"].as_u64().is_some_and(|sum| sum >= 2_000_000_000_000), "{sum}");
        assert_eq!(sum["total_cost"], 0.0, "{dialect:?}");
    }
}

#[test]
fn a_prompt_that_was_cut_on_the_way() {
    let text = "And so on, and so on. ".repeat(1500);
    let wrong: Vec<String> = DIALECTS
        .iter()
        .filter_map(|&dialect| {
            // It read a quarter of what was sent, and answers as if that had been all.
            let body =
                dialect.opening() + &dialect.piece(TEXT) + &dialect.finish_with("stop", 2047) + dialect.end();
            let server = Wire::new(move |_| dialect.stream(body.clone()));
            let space = space(&server, dialect, "");
            space.write("plan.txt", &text);
            let out = space.run(&["build"]);
            let class = space.sidecar("a.txt")["failure"]["class"].clone();
            let right = out.code == 1 && class == "prompt_truncated" && server.count() == 1;
            (!right).then(|| format!("{dialect:?}: {class}, {} requests\n{out}", server.count()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server that reads no further than it must.
/// Where the estimate leaves it open whether a prompt fits, the server's own count decides, before it is paid for.
#[test]
fn a_prompt_that_may_not_fit_is_counted_by_the_server() {
    for (dialect, keys, path, field) in [
        (Dialect::Openai, "server = \"llama.cpp\"", "POST /v1/chat/completions/input_tokens", "input_tokens"),
        (Dialect::Openai, "server = \"vllm\"", "POST /tokenize", "count"),
        (Dialect::Anthropic, "", "POST /v1/messages/count_tokens", "input_tokens"),
    ] {
        for (count, fits) in [(Some(1001), false), (Some(900), true), (None, true)] {
            let server = Wire::new(move |asked| match (asked.line.starts_with(path), count) {
                (true, Some(count)) => reply(200, "", &json!({ field: count }).to_string()),
                (true, None) => reply(404, "", "{}"),
                _ => dialect.answer(TEXT),
            });
            let space = space(&server, dialect, &format!("{keys}\ncontext_window = 1000"));
            space.write("plan.txt", "word ".repeat(900));
            let out = space.run(&["build"]);
            let asked: Vec<bool> = server.posts().iter().map(|asked| asked.line.starts_with(path)).collect();
            assert_eq!(asked, if fits { vec![true, false] } else { vec![true] }, "{path} {count:?}\n{out}");
            if fits {
                out.exits(0);
            } else {
                out.exits(1).says(&["1001 tokens by its server's own count", "holds 1000"]);
                assert_eq!(space.sidecar("a.txt")["failure"]["class"], "context_overflow");
            }
            // One that surely fits is not counted.
            space.write("plan.txt", "A bridge.");
            space.build();
            assert_eq!(server.count(), asked.len() + 1, "{path}");
        }
    }
}

#[test]
fn a_request_that_is_not_read() {
    let large = "And so on, and so on. ".repeat(400_000);
    // Not at all: the request hangs halfway, and a clock ends it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stand_in = Wire::new(|_| vec![]);
    let space = space(&stand_in, Dialect::Openai, "timeouts = { first_token = \"400ms\", connect = \"1s\" }");
    space.edit(
        "pipeline.toml",
        &stand_in.address().to_string(),
        &listener.local_addr().expect("an address").to_string(),
    );
    space.write("plan.txt", &large);
    let began = Instant::now();
    space.run(&["build"]).exits(1).says(&["timeout"]);
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    // Its head only, and then a refusal: what it said is told, if it could be heard.
    let refusing = std::thread::spawn(move || {
        let mut calls = 0;
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 2048];
            let count = stream.read(&mut head).unwrap_or(0);
            if count == 0 {
                return calls;
            }
            calls += 1;
            let body = "<html><title>413 Request Entity Too Large</title></html>";
            let answer = format!(
                "HTTP/1.1 413 X\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // As a careful server does: what still comes is read, so that the answer is not lost to a reset.
            let mut rest = [0; 65536];
            while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        }
        calls
    });
    space.edit("pipeline.toml", "first_token = \"400ms\"", "first_token = \"20m\"");
    space.edit("pipeline.toml", "connect = \"1s\"", "connect = \"2m\"");
    let out = space.run(&["build"]).exits(1).says(&["413"]);
    assert_eq!(space.sidecar("a.txt")["failure"]["class"], "bad_request", "{out}");
    let address = space
        .read("pipeline.toml")
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .expect("an address")
        .to_owned();
    drop(std::net::TcpStream::connect(address));
    // The first two calls were never taken while nobody listened.
    assert!(refusing.join().expect("the server") >= 1);
}

/// A build of forty tasks on a server that fails in all ways at once: everything that can be had is had,
/// and nothing is asked more often than it must be.
#[test]
fn a_night_of_everything() {
    patiently(|slow| {
        const TASKS: usize = 40;
        let faults: [fn(Dialect) -> Vec<Step>; 10] = [
            |d| reply(500, "", &d.error("api_error", "it broke")),
            |_| vec![],
            |d| reply(429, "retry-after: 0\r\n", &d.error("rate_limit_error", "slow down")),
            |d| vec![d.head(), send(d.opening() + &d.piece("It will")), Step::Reset],
            |d| reply(503, "", &d.error("unavailable_error", "Loading model")),
            |d| d.ended("", "stop"),
            |d| d.stream(d.opening() + &d.piece("It") + &d.error_in_stream("overloaded_error", "Overloaded")),
            |_| reply(200, "", "{\"choices\": oops}"),
            |d| d.stream(d.opening() + &d.piece("It will")),
            |d| vec![d.head(), send(d.opening()), Step::Hold],
        ];
        for dialect in DIALECTS {
            // How often each task was asked so far.
            let asked = Mutex::new([0; TASKS]);
            let server = Wire::new(move |request| {
                let body = request.body.to_string();
                let number = body
                    .split_once("task ")
                    .and_then(|(_, rest)| rest.split(':').next()?.parse::<usize>().ok());
                let number = number.expect("the task's number");
                let mut asked = asked.lock().expect("the counts");
                asked[number] += 1;
                match asked[number] {
                    nth if nth <= number % 3 => faults[(number + nth * 3) % faults.len()](dialect),
                    _ => dialect.answer(&format!("{TEXT} So much for {number}.")),
                }
            })
            .gets(|_| reply(200, "", "{}"));
            let space = space(
                &server,
                dialect,
                &format!("max_concurrent = 8\ntimeouts = {{ first_token = \"{slow}s\" }}"),
            );
            let mut text = space.read("pipeline.toml").replace("max_attempts = 3", "max_attempts = 4");
            text.truncate(text.find("[task.a]").expect("the task"));
            for n in 0..TASKS {
                text += &format!(
                    "[task.t{n}]\noutputs = [\"t{n}.txt\"]\nmodel = \"m\"\nprompt = \"This is task {n}: answer.\"\n"
                );
            }
            space.write("pipeline.toml", text);
            let out = space.run(&["build"]).exits(0);
            let wanted: usize = (0..TASKS).map(|n| 1 + n % 3).sum();
            assert_eq!(server.count(), wanted, "{dialect:?}\n{out}");
            assert_eq!(space.lines("usage_metrics.jsonl").len(), wanted, "{dialect:?}");
            for n in 0..TASKS {
                assert_eq!(space.read(&format!("t{n}.txt")).trim(), format!("{TEXT} So much for {n}."));
            }
            let again = space.run(&["build"]).exits(0);
            assert_eq!(server.count(), wanted, "{again}");
        }
    });
}
