//! The rules of staleness, row by row: each state that a crash, a hand or a change of the pipeline may leave, and what is
//! decided of it.

use planexe_base::failure_class::{Class, FailureClass};
use planexe_base::record::{By, Digest, Done, MadeWith, Marker, OutputRecord, SCHEMA, State, Why};
use planexe_engine::fingerprint::{EVAL, Fingerprint, ORDER, PATHS, digest_of};
use planexe_engine::staleness::{Content, Decision, Facts, Rules, Seen, StaleReason, judge};

/// A fingerprint of parts, each with its content.
fn parts(parts: &[(&str, &str)]) -> Fingerprint {
    let mut fingerprint = Fingerprint::new();
    for (name, content) in parts {
        fingerprint.add(*name, content.as_bytes());
    }
    fingerprint
}

fn made_with(model: &str, params: &str) -> MadeWith {
    MadeWith { endpoint: "m".into(), model: model.into(), params: Digest::of(params.as_bytes()) }
}

/// The record of a task with these parts and outputs.
fn done(made_of: &Fingerprint, outputs: &[(&str, &str)]) -> Done {
    let output = |(path, content): &(&str, &str)| OutputRecord {
        path: (*path).into(),
        bytes: content.len() as u64,
        blake3: Digest::of(content.as_bytes()),
    };
    Done {
        schema: SCHEMA,
        task: "a".into(),
        fingerprint: made_of.digest(),
        parts: made_of.parts().clone(),
        inputs: Vec::new(),
        outputs: outputs.iter().map(output).collect(),
        completed_utc: String::new(),
        by: By::Build,
        by_user: None,
        checkpoint_id: None,
        made_with: None,
        call: None,
        sample: false,
        imported: None,
        kept: None,
        eval: None,
        other: serde_json::Map::new(),
    }
}

fn valid(done: Done) -> Marker {
    Marker::Valid(Box::new(done))
}

fn file(content: &str) -> Content {
    Content::File { digest: Digest::of(content.as_bytes()), invalid: None }
}

fn invalid(content: &str, why: &str) -> Content {
    Content::File { digest: Digest::of(content.as_bytes()), invalid: Some(why.into()) }
}

fn seen(outputs: &[(&str, Content)]) -> Vec<Seen> {
    outputs.iter().map(|(path, content)| Seen { path: (*path).into(), content: content.clone() }).collect()
}

/// What is decided of a task, as a line: the verdict, what follows from it, and the reasons.
fn decided(facts: &Facts<'_>) -> String {
    let decision = judge(facts);
    if let Decision::Stale { reasons, .. } = &decision {
        assert!(!reasons.is_empty(), "what is stale has a reason");
    }
    match decision {
        Decision::Fresh { edited, drift } => {
            let edited: String = edited.iter().map(|path| format!(", {path} edited")).collect();
            let drift = drift.map(|made| format!(", made with {}", made.model)).unwrap_or_default();
            format!("fresh{edited}{drift}")
        }
        Decision::Adopt => "adopt".into(),
        Decision::KeptFailed => "kept failed".into(),
        Decision::DependsOn => "depends on".into(),
        Decision::Stale { reasons, redraw, try_existing, edited } => {
            let mut words: Vec<String> = reasons.iter().map(StaleReason::text).collect();
            words.extend(redraw.then(|| "REDRAW".to_owned()));
            words.extend(try_existing.then(|| "TRY".to_owned()));
            words.extend(edited.iter().map(|path| format!("{path} edited")));
            words.join("; ")
        }
    }
}

/// Facts about a task without options, which asks no model and whose parts are as given.
fn facts<'a>(marker: &'a Marker, outputs: &'a [Seen], now: &'a Fingerprint) -> Facts<'a> {
    Facts {
        marker,
        status: None,
        outputs,
        fingerprint: Some(now),
        models: &[],
        rules: Rules::default(),
        newer: None,
    }
}

#[test]
fn without_a_record_the_status_tells_why() {
    let now = parts(&[("prompt", "p")]);
    let outputs = seen(&[("a.txt", file("x"))]);
    for (status, expected) in [
        (None, "never built"),
        (Some((State::Done, None)), "its .DONE was removed; REDRAW"),
        (Some((State::Failed, None)), "the last attempt failed"),
        (Some((State::Failed, Some(Class::Timeout.into()))), "the last attempt failed (timeout)"),
        (Some((State::Running, None)), "the last attempt was left running"),
        (Some((State::Stopped, None)), "the last attempt was left stopped"),
        (Some((State::PendingEval, None)), "it waits for its evaluation"),
        (Some((State::FailedPendingEval, None)), "it waits for its evaluation"),
        (Some((State::Merging, None)), "it succeeded, and is to be merged"),
    ] {
        let facts = Facts { status: status.clone(), ..facts(&Marker::Missing, &outputs, &now) };
        assert_eq!(decided(&facts), expected, "{status:?}");
    }
}

#[test]
fn a_failed_task_is_left_so_where_that_is_wanted() {
    let now = parts(&[("prompt", "p")]);
    let outputs = seen(&[("a.txt", file("x"))]);
    let record = valid(done(&now, &[("a.txt", "x")]));
    let failed = |class: Option<FailureClass>| Some((State::Failed, class));
    for (marker, status, keep_failed, expected) in [
        (&Marker::Missing, failed(Some(Class::Auth.into())), true, "kept failed"),
        (&Marker::Missing, failed(None), true, "kept failed"),
        (&Marker::Missing, failed(Some(Class::Auth.into())), false, "the last attempt failed (auth)"),
        // The disk was full: no failure of its own.
        (&Marker::Missing, failed(Some(FailureClass::Io)), true, "the last attempt failed (io)"),
        (&Marker::Missing, Some((State::Stopped, None)), true, "the last attempt was left stopped"),
        // Done since, by hand.
        (&record, failed(None), true, "fresh"),
    ] {
        let rules = Rules { keep_failed, ..Rules::default() };
        let facts = Facts { status, rules, ..facts(marker, &outputs, &now) };
        assert_eq!(decided(&facts), expected);
    }
}

#[test]
fn a_marker_that_cannot_be_believed_counts_as_none() {
    let now = parts(&[("prompt", "p")]);
    let outputs = seen(&[("a.txt", file("x"))]);
    let torn = {
        let mut record = done(&now, &[("a.txt", "x")]);
        record.fingerprint = Digest::of(b"another");
        valid(record)
    };
    for (marker, expected) in [
        (Marker::Damaged("cut short".into()), "its .DONE is damaged: cut short"),
        (Marker::Newer(7), "its .DONE is of a newer version of planexe (schema 7)"),
        (torn, "its .DONE is damaged: its fingerprint is not that of its parts"),
        (Marker::Empty, "adopt"),
        (valid(done(&now, &[("a.txt", "x")])), "fresh"),
    ] {
        assert_eq!(decided(&facts(&marker, &outputs, &now)), expected, "{marker:?}");
    }
    let missing = seen(&[("a.txt", Content::Missing)]);
    assert_eq!(decided(&facts(&Marker::Empty, &missing, &now)), "output `a.txt` is missing");
    // By hand, of a task that may well write nothing: what it holds is not known.
    let empty = seen(&[("a.txt", Content::Empty)]);
    assert_eq!(decided(&facts(&Marker::Empty, &empty, &now)), "output `a.txt` is empty");
}

#[test]
fn what_became_of_the_outputs() {
    let now = parts(&[("prompt", "p")]);
    let record = valid(done(&now, &[("a.txt", "x"), ("log", "")]));
    let log = ("log", Content::Empty);
    for (outputs, expected, unknown) in [
        (vec![("a.txt", file("x")), log.clone()], "fresh", "depends on"),
        (vec![("a.txt", file("y")), log.clone()], "fresh, a.txt edited", "depends on"),
        (vec![("a.txt", file("x")), ("log", file("y"))], "fresh, log edited", "depends on"),
        (
            vec![("a.txt", Content::Missing), log.clone()],
            "output `a.txt` is missing",
            "output `a.txt` is missing",
        ),
        (
            vec![("a.txt", Content::Empty), ("log", file("y"))],
            "output `a.txt` is empty; log edited",
            "output `a.txt` is empty; log edited",
        ),
        (
            vec![("a.txt", invalid("y", "no JSON")), log.clone()],
            "output `a.txt` was changed and is not valid: no JSON",
            "output `a.txt` was changed and is not valid: no JSON",
        ),
        (
            vec![("a.txt", Content::Unreadable("a link".into())), log.clone()],
            "output `a.txt` was changed and is not valid: a link",
            "output `a.txt` was changed and is not valid: a link",
        ),
        (vec![("a.txt", file("x")), ("b.txt", file("z"))], "output `b.txt` is new", "output `b.txt` is new"),
        (
            vec![("a.txt", file("x")), ("b.txt", Content::Empty)],
            "output `b.txt` is empty",
            "output `b.txt` is empty",
        ),
    ] {
        let outputs = seen(&outputs);
        assert_eq!(decided(&facts(&record, &outputs, &now)), expected);
        // While something it needs is not up to date, only its own records count.
        let facts = Facts { fingerprint: None, ..facts(&record, &outputs, &now) };
        assert_eq!(decided(&facts), unknown);
    }
}

#[test]
fn what_it_is_made_from() {
    let base: &[(&str, &str)] = &[("prompt", "p"), ("schema", "s"), ("input.plan", "i")];
    for (before, after, expected) in [
        (base, base, "fresh"),
        // The order of parts says nothing.
        (base, &[("input.plan", "i"), ("prompt", "p"), ("schema", "s")][..], "fresh"),
        (base, &[("prompt", "q"), ("schema", "s"), ("input.plan", "i")], "the prompt changed"),
        (base, &[("prompt", "p"), ("schema", "t"), ("input.plan", "i")], "the schema changed; TRY"),
        (
            base,
            &[("prompt", "q"), ("schema", "t"), ("input.plan", "i")],
            "the prompt changed; the schema changed",
        ),
        (base, &[("prompt", "p"), ("input.plan", "i")], "the schema is gone; TRY"),
        (base, &[("prompt", "p"), ("schema", "s")], "input `plan` is gone"),
        (&[("prompt", "p")], &[("prompt", "p"), ("check", "c")], "the check is new; TRY"),
        (&[("prompt", "p")], &[("prompt", "p"), (EVAL, "e")], "the evaluation is new; TRY"),
        (&[("env.K", "1")], &[("env.K", "2")], "environment variable `K` changed"),
        (&[("var.lang", "1")], &[("var.lang", "2")], "variable `lang` changed"),
        (&[("output.2", "1")], &[("output.2", "2")], "the template of output 2 changed"),
        (&[("command", "1")], &[("command", "2")], "the command changed"),
        (&[("of.next.year", "1")], &[("of.next.year", "2")], "`of.next.year` changed"),
        // All that is known is that something changed.
        (&[], &[("prompt", "p")], "what it is made from changed"),
        // The order and the paths of the same inputs count, where the record has them.
        (
            &[("input.a", "1"), (ORDER, "a"), (PATHS, "x")],
            &[("input.a", "1"), (ORDER, "b"), (PATHS, "y")],
            "the order of the inputs changed; the paths of the inputs changed",
        ),
        (&[("input.a", "1")], &[("input.a", "1"), (ORDER, "b"), (PATHS, "y")], "fresh"),
        (
            &[("input.a", "1"), (ORDER, "a")],
            &[("input.a", "1"), ("input.b", "2"), (ORDER, "ab")],
            "input `b` is new",
        ),
    ] {
        let (before, now) = (parts(before), parts(after));
        let record = valid(done(&before, &[("a.txt", "x")]));
        let outputs = seen(&[("a.txt", file("x"))]);
        assert_eq!(decided(&facts(&record, &outputs, &now)), expected, "{after:?}");
    }
}

#[test]
fn by_make_s_rule_times_decide_on_files_and_content_on_the_rest() {
    let rules = Rules { by_mtime: true, ..Rules::default() };
    let outputs = seen(&[("a.txt", file("x"))]);
    for part in ["prompt", "system", "template", "input.plan", "output.2"] {
        let record = valid(done(&parts(&[(part, "1")]), &[("a.txt", "x")]));
        let now = parts(&[(part, "2")]);
        assert_eq!(decided(&Facts { rules, ..facts(&record, &outputs, &now) }), "fresh", "{part}");
        assert_ne!(decided(&facts(&record, &outputs, &now)), "fresh", "{part}");
    }
    let record = valid(done(&parts(&[("command", "1")]), &[("a.txt", "x")]));
    let now = parts(&[("command", "2")]);
    assert_eq!(decided(&Facts { rules, ..facts(&record, &outputs, &now) }), "the command changed");
    let same = parts(&[("command", "1")]);
    let newer = Some(("plan.txt".to_owned(), "a.txt".to_owned()));
    let facts_now = Facts { rules, newer, ..facts(&record, &outputs, &same) };
    assert_eq!(decided(&facts_now), "`plan.txt` is newer than `a.txt`");
    // A record without parts is believed: what changed may have been a file.
    let mut old = done(&parts(&[("prompt", "1")]), &[("a.txt", "x")]);
    old.parts.clear();
    let (old, now) = (valid(old), parts(&[("prompt", "2")]));
    assert_eq!(decided(&Facts { rules, ..facts(&old, &outputs, &now) }), "fresh");
}

#[test]
fn another_model_is_drift_unless_it_is_to_count() {
    let now = parts(&[("prompt", "p")]);
    let outputs = seen(&[("a.txt", file("x"))]);
    let mut record = done(&now, &[("a.txt", "x")]);
    record.made_with = Some(made_with("old", "1"));
    let record = valid(record);
    for (models, model, expected) in [
        (vec![], false, "fresh"),
        (vec![], true, "fresh"),
        (vec![made_with("new", "1"), made_with("old", "1")], true, "fresh"),
        (vec![made_with("new", "1")], false, "fresh, made with old"),
        (vec![made_with("new", "1")], true, "the model changed from `old` to `new`"),
        (vec![made_with("old", "2")], true, "the model's parameters changed"),
    ] {
        let rules = Rules { model, ..Rules::default() };
        let facts = Facts { models: &models, rules, ..facts(&record, &outputs, &now) };
        assert_eq!(decided(&facts), expected);
    }
}

#[test]
fn what_is_asked_for_is_made_again_and_edits_are_told() {
    let now = parts(&[("prompt", "p")]);
    let rules = Rules { force: true, ..Rules::default() };
    for (marker, content, expected) in [
        (valid(done(&now, &[("a.txt", "x")])), file("x"), "asked for (-B, retry); REDRAW"),
        (valid(done(&now, &[("a.txt", "x")])), file("y"), "asked for (-B, retry); REDRAW; a.txt edited"),
        (Marker::Missing, file("y"), "asked for (-B, retry); REDRAW"),
    ] {
        let outputs = seen(&[("a.txt", content)]);
        assert_eq!(decided(&Facts { rules, ..facts(&marker, &outputs, &now) }), expected);
    }
    let model = StaleReason::ModelChanged { old: made_with("a", "1"), new: None };
    for (model_asked, reason, expected) in [
        (false, &StaleReason::Forced, true),
        (false, &model, false),
        (true, &model, true),
        (true, &StaleReason::NeverBuilt, false),
    ] {
        assert_eq!(Rules { model_asked, ..Rules::default() }.is_asked(reason), expected, "{reason:?}");
    }
}

#[test]
fn reasons_in_words() {
    let changed = |files: &[&str]| StaleReason::Changed {
        part: "prompt".into(),
        old: Some(Digest::default()),
        new: Some(Digest::of(b"x")),
        files: files.iter().map(|file| (*file).into()).collect(),
    };
    let taken = |why| StaleReason::TakenAway { why };
    for (reason, expected) in [
        (changed(&["a"]), "the prompt changed (through `a`)"),
        (changed(&["a", "b", "c"]), "the prompt changed (through `a`, `b`, `c`)"),
        (changed(&["a", "b", "c", "d", "e"]), "the prompt changed (through `a`, `b` and 3 more)"),
        (taken(Why::Orphaned), "its item was gone, and is there again"),
        (taken(Why::Restored), "it was not done at the checkpoint that was restored"),
        (taken(Why::Cleaned), "it was cleaned"),
    ] {
        assert_eq!(reason.text(), expected);
    }
    for (part, expected) in [
        ("system", "the system prompt"),
        ("schema", "the schema"),
        ("check", "the check"),
        (EVAL, "the evaluation"),
        ("outputs", "the list of outputs"),
        ("template", "the template"),
        ("human", "what the person is asked"),
        ("item", "the item"),
        ("samples", "which tasks before it have sample answers"),
        ("message", "the message"),
        ("index", "the place of the item"),
    ] {
        let (old, new, files) = (None, Some(Digest::default()), Vec::new());
        let reason = StaleReason::Changed { part: part.into(), old, new, files };
        assert_eq!(reason.text(), format!("{expected} is new"));
    }
}

#[test]
fn a_fingerprint_is_one_digest_of_its_parts_by_name() {
    let one = parts(&[("prompt", "p"), (EVAL, "e")]);
    assert_eq!(one.without(EVAL), parts(&[("prompt", "p")]).digest());
    assert_eq!(one.without("nothing"), one.digest());
    assert_eq!(one.digest(), digest_of(one.parts()));
    assert_eq!(one.digest(), parts(&[(EVAL, "e"), ("prompt", "p")]).digest());
    // Content that moves from a part to another is a change; so is a name that takes a letter of the content.
    for other in [&[("prompt", "e"), (EVAL, "p")][..], &[("promptp", ""), (EVAL, "e")], &[("prompt", "p")]] {
        assert_ne!(one.digest(), parts(other).digest());
    }
    let mut twice = parts(&[("prompt", "p")]);
    twice.add_digest("prompt", Digest::of(b"q"));
    assert_eq!(twice, parts(&[("prompt", "q")]));
}
