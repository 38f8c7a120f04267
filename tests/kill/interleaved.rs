//! Two and three planexe in one run: a build is held before a call while another planexe runs, to its end or killed at one
//! of its own calls, and sometimes a third after that; then the build goes on, or is killed too.

use super::*;

/// What somebody may type while a build runs. None of it accepts outputs that the build would not.
const OTHERS: [&[&str]; 10] = [
    &["build"],
    &["status", "--json"],
    &["stop"],
    &["retry", "facts"],
    &["clean", "facts", "--downstream"],
    &["clean", "--all", "--yes"],
    &["build", "facts", "-j1"],
    &["gc"],
    &["abort"],
    &["mcp", "--runs", "..", "--pipeline", "pipeline.toml"],
];

/// What an agent says to `planexe mcp`. It starts no build: that would outlive it.
const AGENT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"plan_status","arguments":{"plan_id":"run"}}}
{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"plan_retry","arguments":{"plan_id":"run","tasks":["facts"],"build":false}}}
{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"plan_invalidate","arguments":{"plan_id":"run","tasks":["count"],"cascade":true,"confirm":true}}}
{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"plan_stop","arguments":{"plan_id":"run"}}}
"#;

/// The longest that the other one is waited for: it may wait for the one that is held.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the other one, to its end or until it is killed. Returns what it said.
fn run_other(case: &Case, args: &[&str], kill_at: Option<usize>) -> String {
    let program = program();
    let mut command = case.space.program(program.to_str().expect("a path"), args);
    let path = case.space.root().join("other");
    let said = File::create(&path).expect("a file for what it says");
    let says = case.space.root().join("says");
    std::fs::write(&says, if args[0] == "mcp" { AGENT } else { "" }).expect("what it is told");
    command.stdin(File::open(&says).expect("the same")).stdout(Stdio::null()).stderr(said);
    match kill_at {
        Some(at) => {
            let folder = case.dir().to_owned();
            // A tracer follows its own thread's children alone.
            let traced = std::thread::spawn(move || {
                let (disk, plan) = (Disk::empty(&folder), Plan::Kill(at));
                trace::run_within(PATIENCE, &mut command, &folder, disk, plan, &mut || ())
            });
            drop(traced.join().expect("the tracer"));
        }
        None => {
            let mut child = command.spawn().expect("planexe");
            let began = std::time::Instant::now();
            while child.try_wait().expect("to wait").is_none() {
                if began.elapsed() > PATIENCE {
                    child.kill().expect("to kill");
                    child.wait().expect("to wait");
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }
    String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned()
}

fn interleaved(case: &Case, sample: usize, plan: fn(usize) -> Plan) {
    let mut turn = 0;
    try_points(case, "two at a time", sample, |at, faults| {
        turn += 1;
        let args = OTHERS[turn % OTHERS.len()];
        let kill_at = (turn % 3 != 0).then_some(turn * 7 % 23);
        let plan = plan(at);
        write_tree(case.dir(), &case.before);
        let mut other = String::new();
        let third = (turn % 2 == 0).then(|| OTHERS[(turn * 3 + 1) % OTHERS.len()]);
        let mut third_said = String::new();
        let (traced, said) = case.go_on_with(&case.before, plan, &mut || {
            other = run_other(case, args, kill_at);
            third_said = third.map_or(String::new(), |args| run_other(case, args, None));
        });
        let reached = traced.hit(plan).is_some();
        let at = format!(
            "{} with `{}` killed at {kill_at:?} and {third:?}",
            name_of(&traced, plan),
            args.join(" ")
        );
        for said in [&said, &other, &third_said] {
            if traced.hung || said.contains("panicked") || said.contains("BUG") {
                faults.push(format!("{at}: hangs or panics\n{said}"));
            }
        }
        case.settle();
        case.check_whole(&at, faults);
        case.check_outputs(&at, faults);
        reached
    });
}

#[test]
fn another_planexe_runs_at_every_call_of_a_build() {
    if may_trace() {
        interleaved(&Case::again(&["build"]), 18, Plan::Hold);
    }
}

#[test]
fn another_planexe_runs_at_every_call_of_a_build_that_is_killed_then() {
    if may_trace() {
        interleaved(&Case::again(&["build"]), 18, Plan::Kill);
    }
}
