//! What is posted to webhooks, and when.

use super::*;

#[test]
fn events_are_posted_in_order_and_signed() {
    let (server, receiver) = (FakeLlm::new(), Receiver::willing());
    let space = told(&server, &receiver, "secret_env = \"HOOK_SECRET\"");
    space.set_env("HOOK_SECRET", SECRET);
    space.build();
    assert_eq!(receiver.events(), ALL);
    for post in receiver.posts() {
        let of = |name: &str| post.headers[name].clone();
        assert_eq!(of("content-type"), "application/json");
        let (id, at) = (of("webhook-id"), of("webhook-timestamp"));
        assert!(!id.contains('.'));
        let key = base64::engine::general_purpose::STANDARD.decode(&SECRET["whsec_".len()..]).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let mut signed = format!("{id}.{at}.").into_bytes();
        signed.extend(&post.body);
        let wanted = base64::engine::general_purpose::STANDARD.encode(ring::hmac::sign(&key, &signed));
        assert_eq!(of("webhook-signature"), format!("v1,{wanted}"));
    }
    let last = receiver.posts()[3].json();
    assert_eq!((&last["attempt"], &last["model"]), (&1.into(), &"fake-1".into()));
    assert_eq!(last["run_id_dir"], space.dir().to_str().unwrap());
    assert_eq!(last["progress"], serde_json::json!({ "done": 2, "total": 2 }));
    assert_eq!(last["error_summary"], Value::Null);
    assert_eq!(waiting(&space), 0);
    receiver.forget();
    space.assert_nothing_to_do(&server);
    assert_eq!(receiver.events(), [""; 0]);
}

#[test]
fn an_address_given_twice_gets_what_each_asks_for_once() {
    let webhook = |name: &str, url: &str, events: &str| {
        format!("[webhooks.{name}]\nurl = \"{url}\"\nevents = [{events}]\n")
    };
    let started = "\"task.started\"";
    let rows = [
        (vec![started, "\"task.started\", \"task.completed\""], vec!["task.started", "task.completed"]),
        (vec![started, "", started], vec!["task.started", "task.completed", "pipeline.completed"]),
    ];
    for (asked, wanted) in rows {
        let receiver = Receiver::willing();
        let space = Space::new();
        let task = "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo > $out\"\n";
        let all =
            asked.iter().enumerate().map(|(n, events)| webhook(&format!("w{n}"), &receiver.url, events));
        space.write("pipeline.toml", all.collect::<String>() + task);
        space.build();
        let events: Vec<String> =
            receiver.posts().iter().map(|post| post.json()["event"].as_str().unwrap().to_owned()).collect();
        assert_eq!(events, wanted);
    }
}

#[test]
fn a_failure_is_told_with_its_error() {
    let receiver = Receiver::willing();
    let server = FakeLlm::scripted(|request| match request.task.as_str() {
        "a" => Answer::error(400, "no such thing"),
        _ => Answer::Default,
    });
    let space = told(&server, &receiver, "events = [\"task.failed\", \"pipeline.failed\"]");
    space.run(&["build"]).exits(1);
    assert_eq!(receiver.events(), ["task.failed a", "pipeline.failed"]);
    let posts = receiver.posts();
    let failed = posts[0].json();
    assert!(failed["error_summary"].as_str().unwrap().contains("no such thing"), "{failed:#}");
    let logged = &space.lines("failures.jsonl")[0];
    assert_eq!(failed["error_id"], logged["error_id"]);
    assert!(posts[1].json()["error_summary"].as_str().unwrap().contains('a'));
}

#[test]
fn a_pause_a_stop_and_who_is_waited_for_are_told() {
    let (server, receiver) = (FakeLlm::new(), Receiver::willing());
    let space = told(&server, &receiver, "events = [\"pipeline.paused\", \"pipeline.stopped\"]");
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    space.run(&["pause"]).exits(0);
    until("the pause to be told", || (receiver.events() == ["pipeline.paused"]).then_some(()));
    assert!(
        receiver.posts()[0].json()["message"].as_str().is_some_and(|said| said.contains("planexe resume"))
    );
    space.run(&["stop"]).exits(0);
    server.release("a");
    build.wait().exits(3);
    assert_eq!(receiver.events(), ["pipeline.paused", "pipeline.stopped"]);
    let stopped = receiver.posts()[1].json();
    assert!(stopped["message"].as_str().is_some_and(|said| said.contains("1 not reached")), "{stopped:#}");
    assert_eq!(stopped["error_summary"], Value::Null);

    // One that waits for a person says for what, and what failed beside it.
    let broken = "[task.c]\noutputs = [\"c.txt\"]\ncommand = \"exit 4\"\n";
    let sign = "[task.sign]\ninputs = [\"b.txt\"]\noutputs = [\"signed.txt\"]\nhuman = \"Sign it\"\n";
    space.write("pipeline.toml", format!("{}\n{sign}", space.read("pipeline.toml")));
    receiver.forget();
    space.run(&["build"]).exits(3);
    let waits = receiver.posts().last().expect("an event").json();
    assert_eq!((&waits["event"], &waits["error_summary"]), (&"pipeline.stopped".into(), &Value::Null));
    assert!(waits["message"].as_str().is_some_and(|said| said.contains("sign")), "{waits:#}");
    space.write("pipeline.toml", format!("{}\n{broken}", space.read("pipeline.toml")));
    space.edit("pipeline.toml", "events = [", "events = [\"pipeline.failed\", ");
    receiver.forget();
    space.run(&["build"]).exits(1);
    let failed = receiver.posts().last().expect("an event").json();
    assert_eq!(failed["event"], "pipeline.failed");
    assert!(failed["error_summary"].as_str().is_some_and(|said| said.contains('c')), "{failed:#}");
}

#[test]
fn an_address_or_a_secret_that_will_not_do_is_said() {
    let server = FakeLlm::new();
    let receiver = Receiver::willing();
    for (address, secret, said) in [
        ("not an address", None, "its address is not one that can be posted to"),
        (receiver.url.as_str(), None, "`HOOK_SECRET` is not set"),
        (receiver.url.as_str(), Some("s3cret"), "`HOOK_SECRET` is not a signing secret"),
    ] {
        let space = told(&server, &receiver, "secret_env = \"HOOK_SECRET\"");
        space.set_env("HOOK_URL", address);
        if let Some(secret) = secret {
            space.set_env("HOOK_SECRET", secret);
        }
        let out = space.build().says(&["webhook `ops` is sent nothing", said]);
        assert!(!out.stderr.contains("s3cret") && !out.stderr.contains("T0KEN"), "{out}");
        assert!(receiver.posts().is_empty(), "{said}");
    }
}

#[test]
fn what_a_dead_receiver_missed_it_gets_at_the_next_build() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Close);
    let space = told(&server, &receiver, "");
    let out = space.build().says(&["webhook `ops`", "5 events not delivered"]);
    assert!(!format!("{out}").contains("T0KEN"), "{out}");
    assert_eq!(waiting(&space), 5);
    let id = receiver.posts()[0].headers["webhook-id"].clone();
    receiver.forget();
    receiver.does(|_, _| Do::Answer(204, ""));
    space.assert_nothing_to_do(&server);
    assert_eq!(receiver.events(), ALL);
    assert_eq!(receiver.posts()[0].headers["webhook-id"], id);
    assert_eq!(waiting(&space), 0);
}

#[test]
fn a_receiver_that_stumbles_gets_each_event_once_more() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|nth, _| match nth {
        1 => Do::Answer(503, "retry-after: 0.05\r\n"),
        _ => Do::Answer(200, ""),
    });
    let space = told(&server, &receiver, "");
    space.build();
    let mut events = receiver.events();
    let posts = receiver.posts();
    assert_eq!(posts[1].headers["webhook-id"], posts[2].headers["webhook-id"]);
    events.remove(1);
    assert_eq!(events, ALL);
}

#[test]
fn a_hanging_receiver_slows_nothing() {
    patiently(|slow| {
        let server = FakeLlm::new();
        let receiver = Receiver::new(|_, _| Do::Hang);
        let space = told(&server, &receiver, "");
        let start = Instant::now();
        space.build();
        assert!(start.elapsed() < Duration::from_secs(12) * slow, "{:?}", start.elapsed());
        assert_eq!((receiver.posts().len(), waiting(&space)), (1, 5));
    });
}

#[test]
fn redirects_are_not_followed_and_gone_is_gone() {
    let server = FakeLlm::new();
    let other = Receiver::willing();
    let receiver = Receiver::willing();
    for (status, headers) in [(302, "location: "), (410, "x: "), (401, "x: ")] {
        let space = told(&server, &receiver, "");
        let headers: &'static str = format!("{headers}{}\r\n", other.url).leak();
        receiver.forget();
        receiver.does(move |_, _| Do::Answer(status, headers));
        space.build().says(&[&format!("HTTP {status}")]);
        assert_eq!((receiver.posts().len(), other.posts().len()), (1, 0), "{status}");
        assert_eq!(waiting(&space), 5);
    }
}

#[test]
fn an_event_that_is_refused_is_dropped_and_said_once() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(422, ""));
    let space = told(&server, &receiver, "");
    let out = space.build().says(&["webhook `ops`: an event was refused: HTTP 422"]);
    assert_eq!(format!("{out}").matches("was refused").count(), 1, "{out}");
    assert_eq!((receiver.posts().len(), waiting(&space)), (5, 0));
}

#[test]
fn what_waits_is_delivered_by_hand_as_far_as_the_receiver_takes_it() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Close);
    let space = told(&server, &receiver, "");
    space.build();
    assert_eq!(waiting(&space), 5);
    let deliver = |code: i32| {
        receiver.forget();
        let answer = space.run(&["events", "--deliver", "--json"]).exits(code).json()["webhooks"][0].clone();
        let count = |key: &str| answer[key].as_u64().expect("a count");
        (count("delivered"), count("waiting"), answer["error"].as_str().unwrap_or_default().to_owned())
    };
    // Refused for good, then to be tried again at once, taken, and put off without a word of when.
    receiver.does(|nth, _| match nth {
        0 => Do::Answer(400, ""),
        1 => Do::Answer(429, "retry-after: 0.05\r\n"),
        2 => Do::Answer(200, ""),
        _ => Do::Answer(503, ""),
    });
    assert_eq!(deliver(1), (1, 3, "HTTP 503".to_owned()));
    assert_eq!(receiver.events(), ["task.started a", ALL[1], ALL[1], ALL[2]]);
    // A wait that is too long to sit through; gone; no proper answer.
    for (status, headers, said) in
        [(429, "retry-after: 600\r\n", "HTTP 429"), (410, "", "HTTP 410: it is gone")]
    {
        receiver.does(move |_, _| Do::Answer(status, headers));
        assert_eq!(deliver(1), (0, 3, said.to_owned()));
        assert_eq!(receiver.posts().len(), 1, "{status}");
    }
    // At once, it says each time.
    receiver.does(|_, _| Do::Answer(429, "retry-after: 0\r\n"));
    assert_eq!(deliver(1), (0, 3, "HTTP 429".to_owned()));
    assert_eq!(receiver.posts().len(), 2);
    // A build that is at it is left to it.
    receiver.does(|_, _| Do::Hang);
    receiver.forget();
    server.hold("a");
    space.write("plan.txt", "Another plan.");
    let build = space.spawn(&["build"]);
    until("the build delivers", || (receiver.posts().len() == 1).then_some(()));
    server.wait_for_calls("a", 2);
    let (delivered, left, said) = deliver(1);
    assert_eq!((delivered, said.as_str()), (0, "a running build delivers them"));
    assert!(left >= 3 && receiver.posts().is_empty());
    build.kill9();
    receiver.does(|_, _| Do::Answer(200, ""));
    assert_eq!(deliver(0), (4, 0, String::new()));
    assert_eq!(receiver.events(), [ALL[2], ALL[3], ALL[4], ALL[0]]);
    assert_eq!(deliver(0), (0, 0, String::new()));
}

#[test]
fn events_survive_a_kill() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(500, ""));
    let space = told(&server, &receiver, "");
    server.hold("b");
    let build = space.spawn(&["build"]);
    server.wait_for_call("b");
    until("three events in the outbox", || (waiting(&space) == 3).then_some(()));
    build.kill9();
    server.release("b");
    receiver.forget();
    receiver.does(|_, _| Do::Answer(200, ""));
    space.run(&["events", "--deliver"]).exits(0).says(&["3 events delivered"]);
    assert_eq!(receiver.events(), &ALL[..3]);
    space.run(&["events", "--deliver"]).exits(0).says(&["nothing to deliver"]);
    space.build();
}

#[test]
fn addresses_are_written_nowhere() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(500, ""));
    let space = told(&server, &receiver, "");
    let other = Receiver::new(|_, _| Do::Answer(500, ""));
    let third = Receiver::new(|_, _| Do::Close);
    space.set_env("PLANEXE_WEBHOOK_URL", &third.url);
    let out = space.run(&["build", "--webhook", &other.url]).exits(0);
    assert!(!out.stderr.contains("T0KEN") && !out.stdout.contains("T0KEN"), "{out}");
    assert_eq!(waiting(&space), 15);
    for path in space.files("") {
        let text = String::from_utf8_lossy(&space.bytes(&path)).into_owned();
        assert!(!text.contains("T0KEN") && !path.contains("T0KEN"), "{path}: {text}");
    }
    for one in [&receiver, &other, &third] {
        one.forget();
        one.does(|_, _| Do::Answer(200, ""));
    }
    // What was for an address of the command line waits until that is given again.
    out.says(&["5 events not delivered; they go out when the address is given again", "--webhook URL"]);
    space.run(&["events", "--deliver"]).exits(1).says(&[
        "10 events delivered",
        "5 events waiting",
        "planexe events --deliver --webhook URL",
    ]);
    space.run(&["events", "--deliver"]).exits(1).says(&["nothing could be delivered"]);
    assert_eq!(
        (receiver.events(), third.events(), other.posts().len()),
        (ALL.map(str::to_owned).into(), ALL.map(str::to_owned).into(), 0)
    );
    space.run(&["events", "--deliver", "--webhook", &other.url]).exits(0).says(&["5 events delivered"]);
    assert_eq!(other.events(), ALL);
}

#[test]
fn chats_get_their_own_shape() {
    let server = FakeLlm::new();
    let (discord, slack) = (Receiver::willing(), Receiver::willing());
    let hooks = format!(
        "[webhooks.d]\nurl = \"{}\"\nformat = \"discord\"\n[webhooks.s]\nurl = \"{}\"\nformat = \"slack\"\n{TWO}",
        discord.url, slack.url
    );
    space(&server, &hooks).build();
    let all: usize = discord.posts().iter().map(|post| post.json()["embeds"].as_array().unwrap().len()).sum();
    assert_eq!(all, 5);
    let first = discord.posts()[0].clone();
    assert!(first.path.ends_with("?wait=true"), "{}", first.path);
    assert!(first.json()["content"].as_str().unwrap().contains("a started"));
    assert_eq!(first.json()["allowed_mentions"]["parse"], serde_json::json!([]));
    let said: String =
        slack.posts().iter().map(|post| post.json()["text"].as_str().unwrap().to_owned() + "\n").collect();
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(!slack.posts()[0].json()["blocks"].as_array().unwrap().is_empty());
}

#[test]
fn a_webhook_that_is_not_set_up_stops_nothing() {
    let server = FakeLlm::new();
    let space = space(&server, &format!("[webhooks.ops]\nurl_env = \"HOOK_URL\"\n{TWO}"));
    space.build().says(&["webhook `ops` is sent nothing", "HOOK_URL"]);
    assert_eq!(waiting(&space), 0);
    space.run(&["doctor", "--offline"]).exits(0).says(&["webhook `ops` is sent nothing", "1 warning"]);
    // With an address where nobody listens events wait, and doctor knows what sends them.
    space.set_env(
        "HOOK_URL",
        format!("http://{}/", crate::support::own_port().local_addr().expect("an address")),
    );
    space.run(&["doctor", "--offline"]).exits(0).says(&["1 receiver, nothing waits for them", "all is well"]);
    space.run(&["build", "-B"]).exits(0).says(&["nothing listens at its address"]);
    assert_ne!(waiting(&space), 0);
    space.run(&["doctor", "--offline"]).exits(0).says(&["not delivered yet", "planexe events --deliver"]);
    space.run(&["build", "--webhook", "x.example"]).exits(2);
    let odd = Space::with(
        &server,
        &format!("[webhooks.ops]\nurl = \"http://127.0.0.1:9/\"\nevents = [\"task.done\"]\n{TWO}"),
    );
    odd.write("plan.txt", "x");
    odd.run(&["build"]).exits(2).says(&["task.done", "task.completed"]);
}
