//! planexe against a local server that answers after a scripted time: `cargo bench --bench calls`.
//!
//! 1. 1,000 calls of 1 s at 256 in flight: wall time beside the ideal, CPU time, peak memory.
//! 2. 1,000 calls of lognormal times at 256 in flight: a first build beside an ideal one that takes them in
//!    their order, and a second, which knows the times, beside the least possible.
//! 3. 63 calls in a graph, with lognormal times: wall time beside that of an ideal list schedule (longest
//!    remaining path first, nothing else costs anything) at 1, 4, 8 and 16 slots, with the times known from
//!    an earlier build.
//!
//! `-- many`, `-- spread`, `-- graph` do one of them; `-- graph 8` at 8 slots only. `-- many 5` and `-- spread 5` do it
//! five times, each in a folder of its own, and print medians, lowest and highest. The folders are removed at the end of
//! all: ext4 avoids the inodes of files that were removed in the last minutes, and a build that follows pays for that.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench makes its own files")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// Answers each prompt that says `after N ms` so much later. It shares its cores with the build that is
/// measured, so two threads do all of it: one takes requests, one answers them when it is time.
#[derive(Default)]
struct Server {
    calls: AtomicU32,
    most: AtomicUsize,
    /// Connections by the moment they are answered at.
    due: Mutex<BTreeMap<(Instant, u32), TcpStream>>,
    sooner: Condvar,
}

impl Server {
    fn start() -> (Arc<Server>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let server = Arc::new(Server::default());
        let (taking, answering) = (server.clone(), server.clone());
        std::thread::spawn(move || taking.take(&listener));
        std::thread::spawn(move || answering.answer());
        (server, url)
    }

    /// Takes connections and reads a request from each.
    fn take(&self, listener: &TcpListener) {
        let mut coming: Vec<(TcpStream, Vec<u8>)> = Vec::new();
        loop {
            let streams = coming.iter().map(|(stream, _)| PollFd::new(stream, PollFlags::IN));
            let mut polled: Vec<PollFd<'_>> =
                std::iter::once(PollFd::new(listener, PollFlags::IN)).chain(streams).collect();
            poll(&mut polled, None).expect("something to come");
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a socket");
                coming.push((stream, Vec::new()));
            }
            coming = coming.into_iter().filter_map(|(stream, bytes)| self.read(stream, bytes)).collect();
        }
    }

    /// Reads what is there of a request; gives it back unless it is whole.
    fn read(&self, mut stream: TcpStream, mut bytes: Vec<u8>) -> Option<(TcpStream, Vec<u8>)> {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => bytes.extend(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return None,
            }
        }
        let Some(after) = asked(&bytes) else { return Some((stream, bytes)) };
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut due = self.due.lock().expect("the calls");
        due.insert((Instant::now() + after, call), stream);
        self.most.fetch_max(due.len(), Ordering::Relaxed);
        if due.first_key_value().is_some_and(|((_, first), _)| *first == call) {
            self.sooner.notify_one();
        }
        None
    }

    /// Answers each request when it is time.
    fn answer(&self) {
        let mut answer = String::from(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        for event in [
            r#"{"choices":[{"index":0,"delta":{"content":"An answer."},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":2}}"#,
            "[DONE]",
        ] {
            let _ = write!(answer, "{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8);
        }
        answer += "0\r\n\r\n";
        let mut due = self.due.lock().expect("the calls");
        loop {
            let now = Instant::now();
            due = match due.first_entry() {
                None => self.sooner.wait(due).expect("the calls"),
                Some(first) if first.key().0 > now => {
                    let left = first.key().0 - now;
                    self.sooner.wait_timeout(due, left).expect("the calls").0
                }
                Some(first) => {
                    let mut stream = first.remove();
                    drop(due);
                    let _ = stream.write_all(answer.as_bytes());
                    drop(stream);
                    self.due.lock().expect("the calls")
                }
            };
        }
    }
}

/// How long after a request its answer is wanted; none while it is not whole.
fn asked(request: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if body.len() < length? {
        return None;
    }
    let after = body.split("after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    Some(Duration::from_millis(after.unwrap_or(0)))
}

/// What a build took: wall and CPU seconds, peak MiB.
struct Took {
    wall: f64,
    cpu: f64,
    mib: f64,
}

#[expect(clippy::zombie_processes, reason = "waited for by its number")]
fn build(run: &Path, args: &[&str]) -> Took {
    let start = Instant::now();
    let mut planexe = Command::new(env!("CARGO_BIN_EXE_planexe"));
    planexe.args(["build", "-s", "--progress", "none"]).args(args).current_dir(run).stdin(Stdio::null());
    let child = planexe.spawn().expect("planexe");
    let (code, cpu, mib) = wait(child.id());
    assert_eq!(code, 0, "the build in {}", run.display());
    Took { wall: start.elapsed().as_secs_f64(), cpu, mib }
}

#[cfg(target_os = "linux")]
fn wait(pid: u32) -> (i32, f64, f64) {
    let mut status = 0;
    // SAFETY: both are plain values for the system to fill in.
    let (used, got) = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        let got = libc::wait4(pid as i32, &mut status, 0, &mut used);
        (used, got)
    };
    assert!(got > 0, "wait4");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (
        libc::WEXITSTATUS(status),
        seconds(used.ru_utime) + seconds(used.ru_stime),
        used.ru_maxrss as f64 / 1024.0,
    )
}

#[cfg(not(target_os = "linux"))]
fn wait(_: u32) -> (i32, f64, f64) {
    panic!("measured on Linux only");
}

fn pipeline(url: &str, slots: usize, tasks: &str) -> String {
    format!(
        "[models.m]\napi = \"openai\"\nbase_url = \"{url}\"\nmodel = \"m\"\nmax_concurrent = {slots}\n\n\
         [defaults]\nmodel = \"m\"\n\n{tasks}"
    )
}

/// The median of figures, with the lowest and the highest if there are several.
fn median(mut figures: Vec<f64>, digits: usize) -> String {
    figures.sort_by(f64::total_cmp);
    let middle = figures[figures.len() / 2];
    match figures[..] {
        [_] => format!("{middle:.digits$}"),
        [least, .., most] => format!("{middle:.digits$} ({least:.digits$}-{most:.digits$})"),
        [] => String::new(),
    }
}

/// Wall time, ratio to the ideal, CPU time and memory of builds of the same.
fn figures(all: &[Took], ideal: f64) -> String {
    let each = |figure: fn(&Took) -> f64| all.iter().map(figure).collect::<Vec<_>>();
    format!(
        "{} s, {} x the ideal {ideal:.2} s, CPU {} s, {} MiB",
        median(each(|took| took.wall), 2),
        median(all.iter().map(|took| took.wall / ideal).collect(), 3),
        median(each(|took| took.cpu), 2),
        median(each(|took| took.mib), 0)
    )
}

/// 1,000 calls of 1 s at 256 in flight.
fn many(calls: usize, at_once: usize, rounds: usize) {
    let ideal = calls.div_ceil(at_once) as f64;
    let runs: Vec<_> = (0..rounds).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let (took, most): (Vec<Took>, Vec<usize>) =
        runs.iter().map(|run| many_in(run.path(), calls, at_once)).unzip();
    let most = most.into_iter().min().unwrap_or(0);
    println!("{calls} calls of 1 s, {at_once} at once: {}, {most} at once seen", figures(&took, ideal));
}

/// One build of them, and how many calls were in flight at most.
fn many_in(run: &Path, calls: usize, at_once: usize) -> (Took, usize) {
    let (server, url) = Server::start();
    let mut tasks = String::new();
    for n in 0..calls {
        let _ =
            write!(tasks, "[task.t{n}]\noutputs = [\"out/{n}.txt\"]\nprompt = \"Say {n} after 1000 ms\"\n\n");
    }
    std::fs::write(run.join("pipeline.toml"), pipeline(&url, at_once, &tasks)).expect("a file");
    let took = build(run, &[]);
    assert_eq!(server.calls.load(Ordering::Relaxed) as usize, calls);
    (took, server.most.load(Ordering::Relaxed))
}

/// A generator of its own: the same graph everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither of them.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Lognormal with a mean of 1 and a sigma of 0.5.
    fn latency(&mut self) -> f64 {
        let normal = (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos();
        (0.5 * normal - 0.125).exp()
    }
}

/// Calls of lognormal times: as they come, then known.
fn spread(calls: usize, at_once: usize, rounds: usize) {
    let mut dice = Dice(1000);
    let times: Vec<u64> = (0..calls).map(|_| (dice.latency() * 1000.0).round() as u64).collect();
    let (server, url) = Server::start();
    let mut tasks = String::new();
    for (n, ms) in times.iter().enumerate() {
        let _ =
            write!(tasks, "[task.t{n}]\noutputs = [\"out/{n}.txt\"]\nprompt = \"Say {n} after {ms} ms\"\n\n");
    }
    let text = pipeline(&url, at_once, &tasks);
    let runs: Vec<_> = (0..rounds).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let mut first = Vec::new();
    let mut known = Vec::new();
    for run in &runs {
        std::fs::write(run.path().join("pipeline.toml"), &text).expect("a file");
        first.push(build(run.path(), &[]));
        known.push(build(run.path(), &["-B"]));
    }
    let least = times.iter().max().copied().unwrap_or(0).max(times.iter().sum::<u64>() / at_once as u64);
    let alone: Vec<(u64, Vec<usize>)> = times.iter().map(|&ms| (ms, Vec::new())).collect();
    println!("{calls} calls of lognormal times, {at_once} at once:");
    println!("  first build, ideal in their order: {}", figures(&first, in_order(&times, at_once)));
    println!("  times known, ideal the least possible: {}", figures(&known, least as f64 / 1000.0));
    println!("  (longest first, nothing else costing anything: {:.2} s)", ideal(&alone, at_once));
    assert_eq!(server.calls.load(Ordering::Relaxed) as usize, 2 * calls * rounds);
}

/// Seconds of calls that are taken in their order as slots become free.
fn in_order(times: &[u64], slots: usize) -> f64 {
    let mut free: BinaryHeap<Reverse<u64>> = (0..slots).map(|_| Reverse(0)).collect();
    let mut end = 0;
    for ms in times {
        let Reverse(start) = free.pop().unwrap_or(Reverse(0));
        end = end.max(start + ms);
        free.push(Reverse(start + ms));
    }
    end as f64 / 1000.0
}

/// Milliseconds of each task, and the tasks before it that it needs.
fn graph(tasks: usize) -> Vec<(u64, Vec<usize>)> {
    let mut dice = Dice(63);
    (0..tasks)
        .map(|n| {
            let ms = (dice.latency() * 1000.0).round() as u64;
            // From the last dozen, so that the graph is some eight deep.
            let count = dice.next() % 3;
            let mut needs: Vec<usize> = (0..count)
                .filter(|_| n > 8)
                .map(|_| n - 1 - (dice.next() % 12.min(n as u64)) as usize)
                .collect();
            needs.sort_unstable();
            needs.dedup();
            (ms, needs)
        })
        .collect()
}

/// Seconds of a list schedule, longest remaining path first.
fn ideal(graph: &[(u64, Vec<usize>)], slots: usize) -> f64 {
    let mut remaining = vec![0; graph.len()];
    for n in (0..graph.len()).rev() {
        remaining[n] += graph[n].0;
        for &need in &graph[n].1 {
            remaining[need] = remaining[need].max(remaining[n]);
        }
    }
    let mut unmet: Vec<usize> = graph.iter().map(|(_, needs)| needs.len()).collect();
    let mut ready: BinaryHeap<(u64, Reverse<usize>)> =
        (0..graph.len()).filter(|&n| unmet[n] == 0).map(|n| (remaining[n], Reverse(n))).collect();
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut now = 0;
    loop {
        while running.len() < slots
            && let Some((_, Reverse(n))) = ready.pop()
        {
            running.push(Reverse((now + graph[n].0, n)));
        }
        let Some(Reverse((end, done))) = running.pop() else { return now as f64 / 1000.0 };
        now = end;
        for (n, (_, needs)) in graph.iter().enumerate() {
            if needs.contains(&done) {
                unmet[n] -= 1;
                if unmet[n] == 0 {
                    ready.push((remaining[n], Reverse(n)));
                }
            }
        }
    }
}

/// 63 calls in a graph.
fn dag(all_slots: &[usize]) {
    let graph = graph(63);
    let (_, url) = Server::start();
    let run = tempfile::tempdir().expect("a folder");
    let mut tasks = String::new();
    for (n, (ms, needs)) in graph.iter().enumerate() {
        let inputs: Vec<String> = needs.iter().map(|need| format!("n{need} = \"out/{need}.txt\"")).collect();
        let _ = write!(
            tasks,
            "[task.t{n}]\ninputs = {{ {} }}\noutputs = [\"out/{n}.txt\"]\nprompt = \"Say {n} after {ms} ms\"\n\n",
            inputs.join(", ")
        );
    }
    let write = |slots| {
        let text = pipeline(&url, slots, &tasks);
        std::fs::write(run.path().join("pipeline.toml"), text).expect("a file");
    };
    write(64);
    build(run.path(), &[]);
    for &slots in all_slots {
        write(slots);
        let took = build(run.path(), &["-B"]);
        let ideal = ideal(&graph, slots);
        println!(
            "63 calls in a graph, {slots:>2} slots: {:.3} s ({:.4} x the ideal list schedule of {ideal:.3} s), CPU {:.2} s",
            took.wall,
            took.wall / ideal,
            took.cpu
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let bench = std::env::args().any(|arg| arg == "--bench");
    let only = args.first().map(String::as_str);
    if !bench {
        // `cargo test --benches` only asks whether it runs.
        return many(4, 4, 1);
    }
    let rounds = args.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(1).max(1);
    if only.is_none_or(|only| only == "many") {
        many(1000, 256, rounds);
    }
    if only.is_none_or(|only| only == "spread") {
        spread(1000, 256, rounds);
    }
    if only.is_none_or(|only| only == "graph") {
        let slots: Vec<usize> = args.iter().skip(1).filter_map(|slots| slots.parse().ok()).collect();
        dag(if slots.is_empty() { &[1, 4, 8, 16] } else { &slots });
    }
}
