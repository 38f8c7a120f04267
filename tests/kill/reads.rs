//! Reads that fail, are interrupted, or give less than was asked for.

use super::*;

/// Every read of a build fails once with an error: it ends with its cause named or does without what it could not
/// read, nothing is lost, and nothing is paid for again.
fn failing_reads(case: &Case, sample: usize) {
    try_points_of(
        case,
        "a read fails",
        sample,
        |watched| &watched.reads,
        |at, faults| failing_read(case, at, faults),
    );
}

/// One of them. Whether it was come to.
fn failing_read(case: &Case, at: usize, faults: &mut Vec<String>) -> bool {
    let before = case.server.total();
    let plan = Plan::FailRead { at, errno: libc::EIO };
    let (traced, said, _) = case.disturb(plan);
    let reached = traced.hit(plan).is_some();
    let at = name_of(&traced, plan);
    if traced.hung || said.contains("panicked") || said.contains("BUG") {
        faults.push(format!("{at}: hangs or panics\n{said}"));
    }
    match traced.code {
        Some(0) => {}
        Some(1 | 2) if reached && said.contains("input/output error") => {}
        other => faults.push(format!("{at}: ended with {other:?}, the cause not named\n{said}")),
    }
    case.settle();
    case.check_whole(&at, faults);
    case.check_next(&at, before, faults);
    case.check_temps(&format!("{at}\n{said}"), faults);
    case.check_books(&at, before, faults);
    reached
}

/// Among them those with which the folder of a candidate is synced, after its file was moved there.
#[test]
fn a_read_fails_while_a_candidate_is_kept() {
    if !may_trace() {
        return;
    }
    let case = Case::fresh(&["build", "-j1"]);
    let (watched, said, _) = case.disturb(Plan::Watch);
    assert_eq!(watched.code, Some(0), "{said}");
    let of_agent = |call: &Call| {
        call.path.strip_prefix(".planexe/partial/agent-").is_some_and(|rest| !rest.contains('/'))
    };
    let points: Vec<usize> = (0..watched.reads.len()).filter(|&n| of_agent(&watched.reads[n])).collect();
    let mut faults = Vec::new();
    for &at in &points {
        failing_read(&case, at, &mut faults);
    }
    assert!(points.len() > 3 && faults.is_empty(), "{points:?}: {}", faults.join("\n"));
}

/// Nothing comes of it.
fn harmless_reads(case: &Case, what: &str, sample: usize, plan: impl Fn(usize) -> Plan) {
    let (watched, said, _) = case.disturb(Plan::Watch);
    assert_eq!(watched.code, Some(0), "{said}");
    let suits = |call: &Call| {
        matches!(call.name, "read") || call.name == "open" && matches!(plan(0), Plan::FailRead { .. })
    };
    let suited: Vec<usize> = (0..watched.reads.len()).filter(|&n| suits(&watched.reads[n])).collect();
    let mut faults = Vec::new();
    let tried = points(suited.len(), sample);
    for &n in &tried {
        let before = case.server.total();
        let plan = plan(suited[n]);
        let (traced, said, _) = case.disturb(plan);
        // Another order of the threads may have put another call there.
        if !traced.hit(plan).is_some_and(suits) {
            continue;
        }
        let at = name_of(&traced, plan);
        if traced.hung || traced.code != Some(0) {
            faults.push(format!("{at}: ended with {:?}\n{said}", traced.code));
        }
        if case.space.tree() != case.after || case.server.total() - before != case.calls {
            faults.push(format!("{at}: another end, {} calls\n{said}", case.server.total() - before));
        }
        case.check_next(&at, before, &mut faults);
    }
    eprintln!(
        "{what}, {}: {} reads, {} tried, {} faults",
        case.name,
        suited.len(),
        tried.len(),
        faults.len()
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_read_fails_at_every_point() {
    if may_trace() {
        failing_reads(&Case::again(&["build", "-j1"]), 24);
        if all_points() {
            failing_reads(&Case::fresh(&["build", "-j1"]), 0);
        }
    }
}

#[test]
fn a_read_is_interrupted_at_every_point() {
    if may_trace() {
        let plan = |at| Plan::FailRead { at, errno: libc::EINTR };
        harmless_reads(&Case::again(&["build", "-j1"]), "a read is interrupted", 20, plan);
        if all_points() {
            harmless_reads(&Case::fresh(&["build", "-j1"]), "a read is interrupted", 0, plan);
        }
    }
}

#[test]
fn a_read_is_short_at_every_point() {
    if may_trace() {
        harmless_reads(&Case::again(&["build", "-j1"]), "a read is short", 20, Plan::ShortRead);
        if all_points() {
            harmless_reads(&Case::fresh(&["build", "-j1"]), "a read is short", 0, Plan::ShortRead);
        }
    }
}
