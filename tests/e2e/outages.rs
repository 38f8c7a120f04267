//! Servers that are away, loading or deaf: what waits, for how long, what is said meanwhile, and how soon
//! it ends when it is told to.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::faults::{TEXT, space};
use crate::support::wire::Dialect::{self, Ollama, Openai};
use crate::support::wire::{DIALECTS, Step, Wire, reply};
use crate::support::{Space, own_port, patiently, until};

/// How soon a build must go on once a server is back: health is asked for every second.
const SOON: Duration = Duration::from_secs(6);

/// An address where nobody listens, and nobody else will.
fn nobody() -> SocketAddr {
    own_port().local_addr().expect("an address")
}

fn listen(address: SocketAddr) -> TcpListener {
    until("the port to be free again", || TcpListener::bind(address).ok())
}

fn space_at(address: SocketAddr, dialect: Dialect, keys: &str) -> Space {
    let stand_in = Wire::new(|_| vec![]);
    let space = space(&stand_in, dialect, keys);
    space.edit("pipeline.toml", &stand_in.address().to_string(), &address.to_string());
    space
}

#[test]
fn a_local_server_that_is_not_there_yet_is_waited_for() {
    patiently(|slow| {
        for dialect in DIALECTS {
            let address = nobody();
            let space = space_at(address, dialect, "");
            let build = space.spawn(&["build"]);
            until("word of the wait", || {
                build.stderr().contains("held until its server answers").then_some(())
            });
            assert_eq!(space.status("a")["state"], "pending");
            assert_eq!(space.status("a")["failure"]["class"], "server_loading");
            let server =
                Wire::at(listen(address), move |_| dialect.answer(TEXT)).gets(|_| reply(200, "", "{}"));
            let up = Instant::now();
            let out = build.wait().exits(0).says(&["is back after"]);
            assert!(up.elapsed() < SOON * slow, "{dialect:?} took {:?}\n{out}", up.elapsed());
            assert_eq!(server.count(), 1, "{dialect:?}");
            assert_eq!(space.sidecar("a.txt")["attempt"], 1, "waiting uses no attempt");
            assert_eq!(
                space.lines("usage_metrics.jsonl").iter().filter(|line| line["success"] == true).count(),
                1
            );
        }
    });
}

#[test]
fn a_local_server_that_goes_away_and_comes_back_costs_nothing() {
    patiently(|slow| {
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let first = Wire::at(own_port(), move |_| {
            // Answered once the server takes no more calls.
            let _ = wait.lock().expect("the channel").recv();
            Openai.answer(TEXT)
        });
        let space = space(&first, Openai, "");
        let more = "\n[task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And then? {{ a }}\"\n";
        space.write("pipeline.toml", space.read("pipeline.toml") + more);
        let build = space.spawn(&["build"]);
        until("the first call", || (first.count() == 1).then_some(()));
        first.stop_listening();
        go_on.send(()).expect("the server");
        until("word of the wait", || build.stderr().contains("held until its server answers").then_some(()));
        assert!(space.is_done("a.txt"));
        let second =
            Wire::at(listen(first.address()), |_| Openai.answer(TEXT)).gets(|_| reply(200, "", "{}"));
        let up = Instant::now();
        build.wait().exits(0);
        assert!(up.elapsed() < SOON * slow, "{:?}", up.elapsed());
        assert_eq!((first.count(), second.count()), (1, 1), "what was paid once is asked once");
        assert_eq!(space.sidecar("b.txt")["attempt"], 1);
    });
}

/// LM Studio says so once its model was unloaded, or its server started anew and has yet to load it.
#[test]
fn a_model_that_has_answered_and_is_not_there_any_more_is_waited_for() {
    for (status, said) in [
        (404, r#"{"error":{"message":"No models loaded. Please load a model.","code":null}}"#),
        (404, r#"{"error":{"message":"Model \"x\" not found","code":"model_not_found"}}"#),
    ] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let server = Wire::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            1 => reply(status, "", said),
            _ => Openai.answer(TEXT),
        })
        .gets(|_| reply(200, "", "{}"));
        let space = space(&server, Openai, "");
        let more = "\n[task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And then? {{ a }}\"\n";
        space.write("pipeline.toml", space.read("pipeline.toml") + more);
        space.run(&["build"]).exits(0).says(&["server_loading", "held until its server answers"]);
        assert_eq!(server.count(), 3);
        assert_eq!(space.sidecar("b.txt")["attempt"], 1, "waiting uses no attempt");

        // One that never answered is a wrong name.
        let server = Wire::new(move |_| reply(status, "", said)).gets(|_| reply(200, "", "{}"));
        let space = self::space(&server, Openai, "");
        space.run(&["build"]).exits(1).says(&["model_not_found"]);
        assert_eq!(server.count(), 1);
    }
}

/// The attempts of a task are over in seconds; a vendor that is overloaded may be so for an hour.
#[test]
fn an_overloaded_server_that_has_answered_is_waited_for() {
    let (status, said) = (529, r#"{"error":{"type":"overloaded_error","message":"Overloaded"}}"#);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = Wire::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        1..4 => reply(status, "", said),
        _ => Openai.answer(TEXT),
    });
    let space = space(&server, Openai, "");
    let more = "\n[task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And then? {{ a }}\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + more);
    space.edit("pipeline.toml", "max_attempts = 3", "max_attempts = 2");
    space.run(&["build"]).exits(0).says(&["attempt 2 waits: server_error: ", "; it is waited for until "]);
    assert_eq!(server.count(), 5);
    assert_eq!(space.sidecar("b.txt")["attempt"], 2, "waiting uses no attempt");

    // One that never answered may be overloaded for good.
    let server = Wire::new(move |_| reply(status, "", said));
    let space = self::space(&server, Openai, "");
    space.run(&["build"]).exits(1).says(&["server_error"]);
}

/// A wait is measured from the build's beginning: a clock on the wall that is set, or a night asleep, ends none.
#[test]
fn waits_are_not_measured_by_the_clock_on_the_wall() {
    let space = space_at(nobody(), Openai, "");
    let build = space.spawn(&["build"]);
    until("word of the wait", || build.stderr().contains("held until its server answers").then_some(()));
    let since = &space.sidecar("a.txt")["budgets"]["endpoints"]["m"]["waiting_since"];
    assert!(since["secs"].as_u64().is_some_and(|seconds| seconds < 3600), "{since}");
    build.signal(rustix::process::Signal::TERM);
    build.wait().exits(143);
}

#[test]
fn what_is_held_while_one_call_finds_out_says_so() {
    let address = nobody();
    let space = space_at(address, Openai, "max_concurrent = 2");
    let more = "\n[task.b]\noutputs = [\"b.txt\"]\nmodel = \"m\"\nprompt = \"And b?\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + more);
    let build = space.spawn(&["build"]);
    until("word of both waits", || {
        (build.stderr().matches("held until its server answers").count() == 2).then_some(())
    });
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Wire::at(listen(address), move |_| {
        let _ = wait.lock().expect("the channel").recv();
        Openai.answer(TEXT)
    })
    .gets(|_| reply(200, "", "{}"));
    let held = until("one to be held by the other", || {
        let tasks = space.report()["tasks"].clone();
        let doing = tasks.as_array()?.iter().filter_map(|task| task["doing"].as_str().map(str::to_owned));
        doing.into_iter().find(|doing| doing.starts_with("held until its server has answered "))
    });
    assert!(held.ends_with(" a") || held.ends_with(" b"), "{held}");
    drop(go_on);
    build.wait().exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_server_that_never_comes_is_given_up_once_for_all() {
    patiently(|slow| {
        let space = space_at(nobody(), Openai, "");
        space.edit("pipeline.toml", "max = \"2ms\"", "max = \"2ms\", wait = \"1500ms\"");
        for name in ["b", "c", "d", "e"] {
            let task = format!(
                "\n[task.{name}]\noutputs = [\"{name}.txt\"]\nmodel = \"m\"\nprompt = \"And {name}?\"\n"
            );
            space.write("pipeline.toml", space.read("pipeline.toml") + &task);
        }
        let began = Instant::now();
        space.run(&["build"]).exits(1).says(&["nothing listens", "attempt 1 waits", "waited for in vain"]);
        // Not one wait after the other.
        assert!(began.elapsed() < Duration::from_secs(5) * slow, "{:?}", began.elapsed());
        for name in ["a", "b", "c", "d", "e"] {
            let sidecar = space.sidecar(&format!("{name}.txt"));
            assert_eq!(sidecar["failure"]["class"], "server_loading", "{name}");
            assert_eq!(sidecar["failure"]["recoverable"], true, "{name}");
        }
    });
}

#[test]
fn after_the_wait_comes_the_next_model() {
    let server = Wire::new(|_| Openai.answer(TEXT));
    let space = space_at(nobody(), Openai, "");
    space.edit("pipeline.toml", "max = \"2ms\"", "max = \"2ms\", wait = \"300ms\"");
    space.edit("pipeline.toml", "model = \"m\"\nprompt", "model = [\"m\", \"other\"]\nprompt");
    let other = format!(
        "\n[models.other]\napi = \"openai\"\nmodel = \"o-1\"\nbase_url = \"{}\"\n",
        server.base_url(Openai)
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &other);
    space.build();
    assert_eq!((server.count(), space.done("a.txt")["made_with"]["endpoint"].as_str()), (1, Some("other")));
}

#[test]
fn a_model_that_is_loading_is_asked_again_when_its_health_says_so() {
    patiently(|slow| {
        let ready = Arc::new(AtomicBool::new(false));
        let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        let (for_posts, for_gets) = (Arc::clone(&ready), Arc::clone(&ready));
        let server = Wire::new(move |_| match for_posts.load(Ordering::Relaxed) {
            true => Openai.answer(TEXT),
            false => reply(503, "", loading),
        })
        .gets(move |_| match for_gets.load(Ordering::Relaxed) {
            true => reply(200, "", r#"{"status":"ok"}"#),
            false => reply(503, "", loading),
        });
        let space = space(&server, Openai, "server = \"llama.cpp\"");
        space.edit("pipeline.toml", "base = \"1ms\", max = \"2ms\"", "base = \"20m\", max = \"20m\"");
        let build = space.spawn(&["build"]);
        until("its health to be asked for", || (server.asked_for().len() >= 2).then_some(()));
        assert!(
            server.asked_for().iter().all(|asked| asked.line == "GET /health"),
            "{:?}",
            server.asked_for()
        );
        assert_eq!(server.count(), 1, "only its health is asked for meanwhile");
        ready.store(true, Ordering::Relaxed);
        let up = Instant::now();
        build.wait().exits(0);
        // Long before the pause is over.
        assert!(up.elapsed() < SOON * slow, "{:?}", up.elapsed());
        assert_eq!((server.count(), &space.sidecar("a.txt")["attempt"]), (2, &1.into()));
    });
}

/// After a clock ran out here, the server may still be at work: one that tells is not asked until it is idle.
#[test]
fn nothing_is_asked_of_a_local_server_while_it_tells_that_it_is_busy() {
    patiently(|slow| {
        let tells = |name: &str, busy: bool| match name {
            "llama.cpp" => ("GET /slots", format!(r#"[{{"id":0,"is_processing":{busy}}}]"#)),
            _ => {
                ("GET /metrics", format!("vllm:num_requests_running{{engine=\"0\"}} {}.0\n", u8::from(busy)))
            }
        };
        for (name, busy_at_first) in [("llama.cpp", true), ("vllm", true), ("llama.cpp", false)] {
            let busy = Arc::new(AtomicBool::new(busy_at_first));
            let (for_posts, for_gets) = (Arc::clone(&busy), Arc::clone(&busy));
            let (asked, early) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
            let for_early = Arc::clone(&early);
            let server = Wire::new(move |_| {
                if !asked.swap(true, Ordering::Relaxed) {
                    return vec![Step::Hold];
                }
                for_early.fetch_or(for_posts.load(Ordering::Relaxed), Ordering::Relaxed);
                Openai.answer(TEXT)
            })
            .gets(move |asked| match tells(name, for_gets.load(Ordering::Relaxed)) {
                (line, body) if asked.line == line => reply(200, "", &body),
                _ => reply(404, "", "{}"),
            });
            let keys = format!("server = \"{name}\"\ntimeouts = {{ first_token = \"{}s\" }}", 3 * slow);
            let space = space(&server, Openai, &keys);
            let build = space.spawn(&["build"]);
            if busy_at_first {
                until("two looks at the server", || (server.asked_for().len() >= 2).then_some(()));
                assert_eq!(server.count(), 1, "{name}: only whether it is busy is asked for");
                busy.store(false, Ordering::Relaxed);
            }
            let out = build.wait().exits(0);
            assert_eq!(server.count(), 2, "{name}");
            assert!(!early.load(Ordering::Relaxed), "{name}: asked while it was busy");
            assert_eq!(out.stderr.contains("again once its server is idle, in "), busy_at_first, "{out}");
        }
    });
}

/// A wait ends at once when the build is told to stop.
#[test]
fn a_wait_does_not_hold_up_a_stop() {
    patiently(|slow| {
        let space = space_at(nobody(), Ollama, "");
        space.edit("pipeline.toml", "base = \"1ms\", max = \"2ms\"", "base = \"20m\", max = \"20m\"");
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let build = space.spawn(&["build"]);
            until("word of the wait", || {
                build.stderr().contains("held until its server answers").then_some(())
            });
            let told = Instant::now();
            build.signal(signal);
            build.wait().exits(code);
            assert!(told.elapsed() < Duration::from_secs(3) * slow, "{:?}", told.elapsed());
            assert_eq!(space.state("a"), "pending");
        }
    });
}

/// A socket that listens, and whose queue is full: the next connection hangs in its first step.
#[cfg(target_os = "linux")]
mod deaf {
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::{FromRawFd, OwnedFd};

    pub struct Deaf {
        pub address: SocketAddr,
        _socket: OwnedFd,
        _queue: Vec<TcpStream>,
    }

    pub fn deaf() -> Deaf {
        // std's listener has a queue of thousands.
        #[expect(unsafe_code, reason = "no crate of ours opens a socket with a queue of its own length")]
        let (socket, port) = unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            assert!(socket >= 0);
            let mut name: libc::sockaddr_in = std::mem::zeroed();
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            let mut size = std::mem::size_of_val(&name) as libc::socklen_t;
            assert_eq!(libc::bind(socket, (&raw const name).cast(), size), 0);
            assert_eq!(libc::listen(socket, 0), 0);
            assert_eq!(libc::getsockname(socket, (&raw mut name).cast(), &mut size), 0);
            (OwnedFd::from_raw_fd(socket), u16::from_be(name.sin_port))
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300)) {
            queue.push(stream);
        }
        Deaf { address, _socket: socket, _queue: queue }
    }

    /// Whether somebody is in the first step of connecting there.
    pub fn is_called(address: SocketAddr) -> bool {
        let to = format!(":{:04X} 02 ", address.port());
        std::fs::read_to_string("/proc/net/tcp").unwrap_or_default().lines().any(|line| line.contains(&to))
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_nobody_takes_is_given_up_at_once() {
    patiently(|slow| {
        let deaf = deaf::deaf();
        let space = space_at(deaf.address, Openai, "timeouts = { connect = \"20m\" }");
        // By a signal.
        let build = space.spawn(&["build"]);
        until("a connection on its way", || deaf::is_called(deaf.address).then_some(()));
        let told = Instant::now();
        build.signal(Signal::TERM);
        build.wait().exits(143);
        assert!(told.elapsed() < Duration::from_secs(2) * slow, "SIGTERM took {:?}", told.elapsed());
        // By the second Ctrl-C.
        let build = space.spawn(&["build"]);
        until("a connection on its way", || deaf::is_called(deaf.address).then_some(()));
        build.signal(Signal::INT);
        until("word of the drain", || build.stderr().contains("Ctrl-C again").then_some(()));
        let told = Instant::now();
        build.signal(Signal::INT);
        build.wait().exits(130);
        assert!(told.elapsed() < Duration::from_secs(2) * slow, "Ctrl-C took {:?}", told.elapsed());
        // By `abort --hard`.
        let build = space.spawn(&["build"]);
        until("a connection on its way", || deaf::is_called(deaf.address).then_some(()));
        let told = Instant::now();
        space.run(&["abort", "--hard"]);
        assert_ne!(build.wait().code, 0);
        assert!(told.elapsed() < Duration::from_secs(3) * slow, "abort took {:?}", told.elapsed());
        // By the task's own time.
        space.write("pipeline.toml", space.read("pipeline.toml") + "timeout = \"400ms\"\n");
        let began = Instant::now();
        space.run(&["build"]).exits(1).says(&["timeout"]);
        assert!(
            began.elapsed() < Duration::from_secs(3) * slow,
            "the task's time took {:?}",
            began.elapsed()
        );
        assert_eq!(space.sidecar("a.txt")["failure"]["class"], "timeout");
        // By the clock of the connection.
        space.edit("pipeline.toml", "connect = \"20m\"", "connect = \"100ms\"");
        space.edit("pipeline.toml", "timeout = \"400ms\"\n", "");
        space.run(&["build"]).exits(1).says(&["timeout", "(connect)"]);
        assert_eq!(space.lines("usage_metrics.jsonl").last().expect("a line")["success"], false);
    });
}
