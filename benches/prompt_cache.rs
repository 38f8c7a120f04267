//! The flagship's calls against a scripted server that keeps prompts by the vendors' rules: `cargo bench --bench
//! prompt_cache`. It prints the share of the prompt tokens that is read from the cache, what the prompts cost beside
//! the same build with `cache = "off"`, the time beside it, and the difference of the ledger to the server's bill.
//! The answers are those of `examples/strategic-plan`; times are a twentieth of a real server's.
//!
//! `-- FILE` measures it with another plan, `-- FILE anthropic` against one kind of server (`all` for the sample's plan).
//! `-- long`: 256 calls of 100,000 tokens in flight at once: wall time beside the ideal, peak memory.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench makes its own files")]

#[path = "../tests/support/caching.rs"]
#[expect(dead_code, reason = "a bench uses a part of it")]
mod caching;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caching::{Bill, CachingServer, Pace, Prices};
use serde_json::Value;

/// A twentieth of half a second, of 10,000 tokens a second, and of 12 s.
const PACE: Pace = Pace {
    first: Duration::from_millis(25),
    thousand: Duration::from_millis(5),
    writes: Duration::from_millis(600),
};

const ANTHROPIC: Prices = Prices { input: 3.0, read: 0.3, write: 3.75, output: 15.0 };
const OPENAI: Prices = Prices { input: 0.4, read: 0.1, write: 0.4, output: 1.6 };

fn planexe(run: &Path, args: &[&str]) {
    let mut planexe = Command::new(env!("CARGO_BIN_EXE_planexe"));
    planexe.args(args).current_dir(run).stdin(Stdio::null()).stdout(Stdio::null());
    assert!(planexe.status().expect("planexe").success(), "planexe {args:?} in {}", run.display());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file");
        }
    }
}

/// The flagship's files in a folder, with one more profile.
fn flagship(folder: &Path, profile: &str) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for part in ["prompts", "schemas", "templates"] {
        copy(&root.join(part), &folder.join(part));
    }
    copy(&root.join("examples/strategic-plan"), &folder.join("examples/strategic-plan"));
    std::fs::copy(root.join("legacy_names.toml"), folder.join("legacy_names.toml")).expect("a file");
    let text = std::fs::read_to_string(root.join("pipeline.toml")).expect("the flagship");
    let text = text.replace("latency = \"150ms\"", "latency = \"0ms\"") + profile;
    std::fs::write(folder.join("pipeline.toml"), text).expect("a file");
}

/// What each prompt of the sample plan is answered with.
fn answers(folder: &Path, plan: &str) -> HashMap<String, String> {
    flagship(folder, "");
    planexe(folder, &["new", "sample", "--quiet", "--profile", "sample", "--prompt", plan]);
    planexe(&folder.join("sample"), &["build", "--quiet"]);
    let mut answers = HashMap::new();
    let calls = folder.join("sample/.planexe/calls");
    for task in std::fs::read_dir(calls).expect("kept calls").flatten() {
        for call in std::fs::read_dir(task.path()).expect("a folder").flatten() {
            let call = std::fs::read(call.path()).expect("a call");
            let call: Value = serde_json::from_slice(&call).expect("a call");
            let text = |at: &str| call.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            answers.insert(text("/request/prompt"), text("/reply/text"));
        }
    }
    answers
}

/// One build against a server of its own: the bill, what the ledger says, and the seconds.
fn build(
    api: &str,
    least: usize,
    prices: &Prices,
    keys: &str,
    answers: &Arc<HashMap<String, String>>,
    plan: &str,
) -> (Bill, f64, f64) {
    let known = answers.clone();
    let server = CachingServer::start(least, PACE, move |prompt| {
        let whole = known.get(prompt);
        // A schema in words comes after it.
        let found = whole.or_else(|| {
            let starts = known.iter().filter(|(known, _)| prompt.starts_with(known.as_str()));
            starts.max_by_key(|(known, _)| known.len()).map(|(_, answer)| answer)
        });
        found.cloned().unwrap_or_default()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = if api == "openai" { "/v1" } else { "" };
    let model = if least == 512 { "claude-opus-5" } else { "m" };
    flagship(
        folder.path(),
        &format!(
            "\n[profiles.bench]\n[profiles.bench.models.local]\napi = \"{api}\"\nbase_url = \"{}{path}\"\nmodel = \"{model}\"\n\
             max_concurrent = 8\ncontext_window = 200000\nmax_output = 16384\n\
             price = {{ input = {}, cached = {}, cache_write = {}, output = {} }}\n{keys}\n",
            server.url(),
            prices.input,
            prices.read,
            prices.write,
            prices.output
        ),
    );
    planexe(folder.path(), &["new", "run", "--quiet", "--profile", "bench", "--prompt", plan]);
    let run = folder.path().join("run");
    let start = Instant::now();
    planexe(&run, &["build", "--quiet"]);
    let seconds = start.elapsed().as_secs_f64();
    let ledger = std::fs::read_to_string(run.join("usage_metrics.jsonl")).expect("a ledger");
    let cost = |line: &str| serde_json::from_str::<Value>(line).ok()?["cost_usd"].as_f64();
    (server.bill(), ledger.lines().filter_map(cost).sum(), seconds)
}

/// `only`: one kind of server.
fn caches(plan: &str, only: Option<&str>) {
    let sample = tempfile::tempdir().expect("a folder");
    let answers = Arc::new(answers(sample.path(), plan));
    println!("plan.txt of {} characters, {} prompts, 8 at once", plan.len(), answers.len());
    println!("| server | smallest | keys | tokens | read | prompts cost | time | ledger |");
    println!("|---|---:|---|---:|---:|---:|---:|---:|");
    for (api, least, prices) in
        [("anthropic", 1024, ANTHROPIC), ("anthropic", 512, ANTHROPIC), ("openai", 1024, OPENAI)]
    {
        if only.is_some_and(|only| only != api) {
            continue;
        }
        let server = if api == "openai" { "\nserver = \"openai\"" } else { "" };
        let mut off: Option<(f64, f64)> = None;
        for keys in ["cache = \"off\"", "cache = \"auto\"", "cache = \"auto\"\nschemas = \"words\""] {
            let all = format!("{keys}{server}");
            let (bill, ledger, seconds) = build(api, least, &prices, &all, &answers, plan);
            let input = bill.input_usd(&prices);
            // Today's: nothing is read, and the schema is asked for natively.
            let full = bill.input as f64 * prices.input / 1e6;
            let (cost, time) = *off.get_or_insert((full, seconds));
            println!(
                "| {api} | {least} | `{}` | {} | {:.1} % | {:.1} % | {:.3} x {time:.1} s | {:+.2} % |",
                keys.replace('\n', ", "),
                bill.input,
                100.0 * bill.read as f64 / bill.input as f64,
                100.0 * input / cost,
                seconds / time,
                100.0 * (ledger - bill.usd(&prices)) / bill.usd(&prices)
            );
        }
    }
}

/// 256 calls of 100,000 tokens in flight at once.
fn long(calls: usize, tokens: usize) {
    let writes = Duration::from_secs(20);
    let pace = Pace { first: Duration::ZERO, thousand: Duration::ZERO, writes };
    for (keys, shared) in [("cache = \"off\"", true), ("cache = \"auto\"", true), ("cache = \"auto\"", false)]
    {
        let server = CachingServer::forgetful(1024, pace, |_| "It holds.".to_owned());
        let run = tempfile::tempdir().expect("a folder");
        let text = |seed: usize| {
            let line = |n: usize| format!("{n}. Stall {seed} of the halls costs {} euro a month.\n", n * 37);
            let mut text = String::new();
            (0..).map(line).take_while(|_| true).any(|line| {
                text.push_str(&line);
                text.len() >= tokens * 4
            });
            text
        };
        let mut tasks = String::new();
        for n in 0..calls {
            let name = if shared { "plan.txt".to_owned() } else { format!("plan{n}.txt") };
            if n == 0 || !shared {
                std::fs::write(run.path().join(&name), text(n)).expect("a file");
            }
            let _ = write!(
                tasks,
                "[task.t{n}]\ninputs = {{ plan = \"{name}\" }}\noutputs = [\"out/{n}.txt\"]\nprompt = \"{{{{ plan }}}}\\nSay {n}\"\n\n"
            );
        }
        let pipeline = format!(
            "[models.m]\napi = \"anthropic\"\nbase_url = \"{}\"\nmodel = \"m\"\nmax_concurrent = {calls}\n{keys}\n\n\
             [defaults]\nmodel = \"m\"\n\n{tasks}",
            server.url()
        );
        std::fs::write(run.path().join("pipeline.toml"), pipeline).expect("a file");
        let start = Instant::now();
        let mut planexe = Command::new(env!("CARGO_BIN_EXE_planexe"));
        planexe.args(["build", "-s", "--progress", "none"]).current_dir(run.path()).stdin(Stdio::null());
        let mut child = planexe.spawn().expect("planexe");
        let mut peak = 0;
        let status = loop {
            peak = peak.max(memory(child.id()));
            match child.try_wait().expect("planexe") {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        assert!(status.success());
        let (seconds, bill) = (start.elapsed().as_secs_f64(), server.bill());
        assert_eq!(bill.calls as usize, calls);
        println!(
            "{calls} calls of {tokens} tokens, `{keys}`, {}: {seconds:.2} s ({:.3} x the ideal {} s), {:.0} MiB ({:.0} MiB of prompts), {:.1} % read",
            if shared { "one text for all" } else { "each its own" },
            seconds / writes.as_secs_f64(),
            writes.as_secs(),
            peak as f64 / 1024.0,
            (calls * tokens * 4) as f64 / 1024.0 / 1024.0,
            100.0 * bill.read as f64 / bill.input as f64
        );
    }
}

/// Peak memory of a process so far, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if !std::env::args().any(|arg| arg == "--bench") {
        // `cargo test --benches` only asks whether it runs.
        return long(4, 2000);
    }
    match args.first().map(String::as_str) {
        Some("long") => long(256, 100_000),
        Some("all") | None => {
            caches(include_str!("../examples/strategic-plan/plan.txt"), args.get(1).map(String::as_str))
        }
        Some(file) => {
            caches(&std::fs::read_to_string(file).expect("a plan"), args.get(1).map(String::as_str))
        }
    }
}
