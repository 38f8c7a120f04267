//! Being told: webhooks, the outbox, hooks, and tasks that get nowhere. A receiver may fail, hang,
//! redirect or be gone: the build goes on, and what it could not tell is told later.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::support::{Answer, FakeLlm, Space, patiently, space, until};

/// One POST as it arrived.
#[derive(Debug, Clone)]
struct Post {
    path: String,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Post {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn event(&self) -> String {
        let json = self.json();
        let task = json["task"].as_str().map(|task| format!(" {task}")).unwrap_or_default();
        format!("{}{task}", json["event"].as_str().expect("an event"))
    }
}

/// What the receiver does with a POST.
#[derive(Debug, Clone)]
enum Do {
    Answer(u16, &'static str),
    Hang,
    Close,
}

type Script = dyn Fn(usize, &Post) -> Do + Send + Sync;

/// A receiver of webhooks on loopback.
struct Receiver {
    url: String,
    posts: Arc<Mutex<Vec<Post>>>,
    script: Arc<Mutex<Box<Script>>>,
}

impl Receiver {
    fn new(script: impl Fn(usize, &Post) -> Do + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook/T0KEN-of-the-receiver", listener.local_addr().expect("an address"));
        let posts: Arc<Mutex<Vec<Post>>> = Arc::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let (all, what) = (posts.clone(), script.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, what) = (all.clone(), what.clone());
                std::thread::spawn(move || serve(stream, &all, &what));
            }
        });
        Receiver { url, posts, script }
    }

    /// One that takes everything.
    fn willing() -> Receiver {
        Receiver::new(|_, _| Do::Answer(200, ""))
    }

    fn does(&self, script: impl Fn(usize, &Post) -> Do + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        self.posts().iter().map(Post::event).collect()
    }

    fn forget(&self) {
        self.posts.lock().unwrap().clear();
    }
}

fn serve(mut stream: TcpStream, posts: &Mutex<Vec<Post>>, script: &Mutex<Box<Script>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("the stream"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let post = Post { path, headers, body };
    let nth = {
        let mut posts = posts.lock().unwrap();
        posts.push(post.clone());
        posts.len() - 1
    };
    let answer = script.lock().unwrap()(nth, &post);
    match answer {
        Do::Answer(status, headers) => {
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\nok"
            );
        }
        Do::Hang => std::thread::sleep(Duration::from_secs(600)),
        Do::Close => {}
    }
}

const TWO: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"
"#;

const ALL: [&str; 5] =
    ["task.started a", "task.completed a", "task.started b", "task.completed b", "pipeline.completed"];

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Two tasks and a webhook whose address is in `HOOK_URL`.
fn told(server: &FakeLlm, receiver: &Receiver, keys: &str) -> Space {
    let space = space(server, &format!("[webhooks.ops]\nurl_env = \"HOOK_URL\"\n{keys}\n{TWO}"));
    space.set_env("HOOK_URL", &receiver.url);
    space
}

fn waiting(space: &Space) -> usize {
    space.files(".planexe/outbox").len()
}

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

#[test]
fn a_call_without_progress_is_told_and_fails_as_stalled() {
    patiently(|slow| {
        let receiver = Receiver::willing();
        let server = FakeLlm::scripted(|request| match request.task.as_str() {
            "a" => Answer::Half("the first half of it".repeat(40)),
            _ => Answer::Default,
        });
        let space = told(&server, &receiver, "");
        space.edit("pipeline.toml", "[task.a]", &format!("[task.a]\nstall_timeout = \"{}ms\"", 300 * slow));
        space.run(&["build"]).exits(1).says(&["stall"]);
        assert_eq!(
            receiver.events(),
            ["task.started a", "task.stalled a", "task.failed a", "pipeline.failed"]
        );
        let failure = &space.sidecar("a.txt")["failure"];
        assert_eq!(failure["class"], "stall");
        assert_eq!(server.counts(), crate::support::counts([("a", 1)]));
    });
}

#[test]
fn a_command_that_shows_nothing_stalls_and_one_that_writes_does_not() {
    patiently(|slow| {
        let server = FakeLlm::new();
        let tasks = format!(
            r#"
[task.busy]
outputs = ["busy.txt"]
stall_timeout = "{}ms"
command = "for i in 1 2 3 4 5 6 7 8; do sleep {}; echo $i; done > $out"

[task.still]
outputs = ["still.txt"]
stall_timeout = "{}ms"
command = "sleep 600; echo > $out"
"#,
            1500 * slow,
            0.3 * f64::from(slow),
            700 * slow
        );
        let space = Space::with(&server, &tasks);
        space.run(&["build"]).exits(1);
        assert!(space.is_done("busy.txt"));
        assert_eq!(space.sidecar("still.txt")["failure"]["class"], "stall");
        let stalled: Vec<Value> =
            space.lines("events.jsonl").into_iter().filter(|line| line["event"] == "task.stalled").collect();
        assert_eq!(stalled.len(), 1, "{stalled:?}");
        assert_eq!(stalled[0]["task"], "still");
    });
}

#[test]
fn a_build_that_fails_before_anything_runs_is_told_as_failed() {
    let receiver = Receiver::willing();
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.each]\nforeach = { file = \"list.json\", items = \"/*\" }\noutputs = [\"each/{{ key }}.txt\"]\n\
         template = \"{{ item }}\"\n",
    );
    space.write("list.json", "no list");
    space.run(&["build", "--webhook", &receiver.url]).exits(1);
    assert_eq!(receiver.events(), ["task.failed each", "pipeline.failed"]);
    let status = space.run(&["status", "--json"]).exits(0).json();
    assert_eq!(
        (&status["run"]["phase"], &status["error"]["failed_step"]),
        (&"failed".into(), &"each".into())
    );
}

/// What waits is sent, and signed with the user's secret, only if this user's planexe put it there, in this run.
#[test]
fn events_that_came_with_a_run_are_not_sent() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(503, ""));
    let space = told(&server, &receiver, "secret_env = \"HOOK_SECRET\"");
    space.set_env("HOOK_SECRET", SECRET);
    space.build();
    let all = waiting(&space);
    assert!(all > 0);
    let entry = space.files(".planexe/outbox").remove(0);
    // As a clone may bring them: as it is sent, in the form it waits in, and one that was changed.
    let forged = space.json(&entry)["event"].as_str().expect("the event").replace("strategic", "FORGED");
    let folder = entry.rsplit_once('/').expect("a folder").0.to_owned();
    space.write(&format!("{folder}/000000000101.json"), forged.replace("task.started", "FORGED"));
    let mut other = space.json(&entry);
    other["event"] = other["event"].as_str().expect("the event").replace("task.started", "FORGED").into();
    space.write(&format!("{folder}/000000000102.json"), other.to_string());
    let (copy, moved) = (space.root().join("copy"), space.root().join("moved"));
    let copied = space.program("cp", &["-a", ".", copy.to_str().expect("a path")]).status();
    assert!(copied.expect("cp").success());
    receiver.does(|_, _| Do::Answer(200, ""));
    receiver.forget();
    // A copy sends nothing of it: the original will. Nor does another user.
    let there =
        |dir: &std::path::Path| space.run(&["-C", dir.to_str().expect("a path"), "events", "--deliver"]);
    there(&copy).exits(0).says(&["not sent", "unverified", "nothing to deliver"]);
    there(&copy).exits(0).says_nothing_of(&["not sent"]);
    assert_eq!(receiver.events(), [""; 0]);
    let kept = std::fs::read_dir(copy.join(&folder)).expect("the folder").count();
    assert_eq!(kept, all + 2, "they are put aside, not removed");
    // Where they were put they go out, under another name of the folder too.
    std::fs::rename(space.dir(), &moved).expect("moved");
    std::fs::create_dir(space.dir()).expect("a folder to start in");
    there(&moved).exits(0).says(&["2 files", "not sent", &format!("{all} events delivered")]);
    assert_eq!(receiver.events().len(), all);
    assert!(!receiver.events().iter().any(|event| event.contains("FORGED")));
}

/// Another user's events wait in vain, and a user who can have no key is told of his own builds all the same.
#[test]
fn events_of_another_user_are_put_aside() {
    let server = FakeLlm::new();
    let receiver = Receiver::new(|_, _| Do::Answer(503, ""));
    let space = told(&server, &receiver, "");
    space.build();
    let all = waiting(&space);
    receiver.does(|_, _| Do::Answer(200, ""));
    receiver.forget();
    space.set_env("XDG_STATE_HOME", space.path("plan.txt"));
    space.write("plan.txt", "Another plan.");
    space.build().says(&[&format!("{all} files"), "your planexe did not write"]);
    assert_eq!(receiver.events(), ALL);
}
