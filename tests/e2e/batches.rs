//! `price_mode = "batch"`: what is submitted is submitted once, whenever the build is killed, and what is paid for is
//! collected by some later build.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::batching::{Vendor, vendors};
use crate::support::until;
use crate::support::wire::{Dialect, Wire, reply, send};

#[test]
fn a_fan_out_is_one_batch_at_half_the_price() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let space = vendor.space(5, "");
        space.build();
        vendor.assert_once(&space, 5, dialect.api());
        assert_eq!(vendor.state().batches.len(), 1, "{dialect:?}");
        let lines = space.lines("usage_metrics.jsonl");
        assert_eq!(lines.len(), 5);
        for line in &lines {
            let tokens = line["input_tokens"].as_f64().unwrap() + line["output_tokens"].as_f64().unwrap();
            assert!((line["cost_usd"].as_f64().unwrap() - tokens / 2000.0).abs() < 1e-9, "{line}");
        }
        assert!(space.files(".planexe/batches").is_empty(), "{dialect:?}: nothing is left of it");
        let before = vendor.state().requests;
        space.build();
        assert_eq!(vendor.state().requests, before);
        space.run(&["clean", "t0", "-y"]).exits(0);
        let expected = space.run(&["build", "-n", "--json"]).exits(0).json()["cost_usd"].clone();
        let paid = lines.iter().find(|line| line["task"] == "t0").expect("its line")["cost_usd"].clone();
        assert_eq!(expected, paid, "a forecast counts half the price");
    }
}

#[test]
fn a_build_ends_while_it_waits_and_a_later_one_collects() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        for _ in 0..2 {
            space.run(&["build"]).exits(3).says(&["waiting for a batch of `m`", "planexe resume --at-reset"]);
            assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        }
        let status = space.report();
        let batch = &status["batches"][0];
        assert_eq!((&batch["model"], &batch["done"]), (&json!("m"), &json!(0)), "{status}");
        space.run(&["status"]).exits(0).says(&["waiting for a batch"]);
        let explained = space.run(&["explain", "t0", "--json"]).exits(0).json();
        assert_eq!(explained["batch"], *batch, "{explained}");
        space.run(&["explain", "t0"]).exits(0).says(&["wait for its batch", "0 of 3 done"]);
        let told = |event: &str| {
            let lines = space.lines("events.jsonl");
            lines.into_iter().filter(|line| line["event"] == event).collect::<Vec<_>>()
        };
        assert!(told("batch.ended").is_empty());
        let waits = space.spawn(&["resume", "--at-reset"]);
        let before = vendor.state().requests;
        until("it looks again", || (vendor.state().requests > before + 1).then_some(()));
        vendor.state().quick = true;
        waits.wait().exits(0);
        vendor.assert_once(&space, 3, dialect.api());
        assert!(space.report()["batches"].is_null());
        // Each once, by the build that submitted it and by the one that collected.
        let (submitted, ended) = (told("batch.submitted"), told("batch.ended"));
        assert_eq!((submitted.len(), ended.len()), (1, 1), "{submitted:?} {ended:?}");
        assert_eq!((&submitted[0]["model"], &submitted[0]["calls"]), (&json!("m"), &json!(3)));
        assert_eq!((&ended[0]["calls"], &ended[0]["answered"]), (&json!(3), &json!(3)));
        assert_eq!(submitted[0]["batch"], ended[0]["batch"]);
    }
}

#[test]
fn killed_at_any_request_nothing_is_submitted_twice() {
    for dialect in vendors() {
        for carried_out in [false, true] {
            for n in 1.. {
                let about = format!("{dialect:?}, killed at request {n}, carried out: {carried_out}");
                let vendor = Vendor::new(dialect);
                let space = vendor.space(3, "");
                vendor.state().kill_at = Some((n, carried_out));
                let build = space.spawn(&["build"]);
                vendor.state().victim = Some(build.pid());
                let out = build.wait();
                let is_over = vendor.state().requests < n;
                if is_over {
                    out.exits(0);
                } else {
                    assert_ne!(out.code, 0, "{about}");
                    space.build();
                }
                vendor.assert_once(&space, 3, &about);
                assert_eq!(space.files(".planexe/batches"), Vec::<String>::new(), "{about}");
                if is_over {
                    assert!(n > 3, "{about}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_list_that_lags_is_waited_for() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let space = vendor.space(3, "");
        // Killed once it is submitted, before its id is known.
        let submit = if dialect == Dialect::Openai { 2 } else { 1 };
        (vendor.state().kill_at, vendor.state().lag) = (Some((submit, true)), 2);
        let build = space.spawn(&["build"]);
        vendor.state().victim = Some(build.pid());
        build.wait();
        space.build();
        assert_eq!(vendor.state().lag, 0);
        vendor.assert_once(&space, 3, dialect.api());
    }
}

#[test]
fn what_expired_goes_online() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().expires.insert("t1".into());
        let space = vendor.space(3, "");
        space.build();
        assert_eq!(vendor.state().online, BTreeMap::from([("t1".to_owned(), 1)]), "{dialect:?}");
        assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        assert_eq!(space.files(".planexe/batches"), Vec::<String>::new());
    }
}

#[test]
fn a_batch_that_takes_too_long_is_cancelled_and_its_calls_go_online() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(2, "within = \"1s\"");
        space.build();
        let online: Vec<usize> = vendor.state().online.values().copied().collect();
        assert_eq!((online, vendor.state().batches.len()), (vec![1, 1], 1), "{dialect:?}");
    }
}

#[test]
fn a_batch_that_is_gone_waits_for_a_person() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        space.run(&["build"]).exits(3);
        vendor.state().gone.insert(0);
        space.run(&["build", "--at-reset"]).exits(3).says(&["waits for a person", "planexe clean", "know"]);
        assert_eq!(vendor.submitted().values().sum::<usize>(), 3, "{dialect:?}");
        let events = space.lines("events.jsonl");
        let stuck: Vec<_> = events.iter().filter(|line| line["event"] == "batch.stuck").collect();
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        assert!(stuck[0]["message"].as_str().is_some_and(|it| it.contains("planexe clean")), "{stuck:?}");
        // A person says that one of them is asked anew.
        vendor.state().quick = true;
        space.run(&["clean", "t0", "-y"]).exits(0);
        space.run(&["build", "--at-reset"]).exits(3);
        assert!(space.is_done("t0.txt") && !space.is_done("t1.txt"), "{dialect:?}");
        assert_eq!(vendor.submitted()["t0"], 2, "{dialect:?}");
        assert_eq!(vendor.submitted()["t1"], 1, "{dialect:?}");
        // It was a mistake of the vendor's.
        vendor.state().gone.clear();
        space.build();
        assert_eq!(vendor.submitted()["t1"], 1, "{dialect:?}");
    }
}

#[test]
fn a_record_that_cannot_be_read_has_nothing_submitted() {
    for text in ["{", "{\"schema\":99}"] {
        for kind in [".json", ".state.json"] {
            let vendor = Vendor::new(Dialect::Openai);
            vendor.state().quick = false;
            let space = vendor.space(2, "wait = \"0s\"");
            space.run(&["build"]).exits(3);
            let files = space.files(".planexe/batches");
            let state = files.iter().find(|file| file.ends_with(".state.json")).expect("a state");
            let name =
                state.strip_suffix(".state.json").expect("a state").rsplit('/').next().expect("a name");
            let file = format!(".planexe/batches/{name}{kind}");
            let (good, before) = (space.read(&file), vendor.state().requests);
            space.write(&file, text);
            space.run(&["build"]).exits(1).says(&[&file, "nothing is submitted"]);
            assert_eq!(vendor.state().requests, before, "{text} {kind}");
            assert_eq!(space.read(&file), text);
            space.write(&file, good);
            vendor.state().quick = true;
            space.build();
            vendor.assert_once(&space, 2, kind);
        }
    }
}

#[test]
fn calls_that_are_refused_were_not_submitted() {
    let wire = Wire::new(|asked| match asked.line.contains("batches") {
        true => reply(429, "retry-after: 0\r\n", "{\"error\":{\"message\":\"too many\"}}"),
        false => vec![send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")],
    });
    let space = Vendor::new(Dialect::Anthropic).space(1, "");
    let text = space.read("pipeline.toml");
    let line = text.lines().find(|line| line.starts_with("base_url")).expect("a url").to_owned();
    let url = wire.base_url(Dialect::Anthropic);
    space.edit(
        "pipeline.toml",
        &line,
        &format!("base_url = \"{url}\"\nretry = {{ max_attempts = 1, wait = \"1ms\" }}"),
    );
    space.run(&["build"]).exits(1).says(&["too many"]);
    assert!(space.files(".planexe/batches").is_empty(), "nothing waits for it");
}

/// What was paid for is kept, also if no task asks for it any more by the time it comes.
#[test]
fn an_answer_that_nobody_waits_for_is_kept() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        space.run(&["build"]).exits(3);
        space.edit("pipeline.toml", "TASK=t1\\nAnswer.", "TASK=t1\\nAnswer otherwise.");
        vendor.state().quick = true;
        space.edit("pipeline.toml", "wait = \"0s\"", "");
        space.build();
        let submitted = || vendor.submitted()["t1"] + vendor.state().online.get("t1").copied().unwrap_or(0);
        assert_eq!(submitted(), 2, "{dialect:?}: another prompt is another call");
        let paid = |task: &str| {
            space.lines("usage_metrics.jsonl").iter().filter(|line| line["task"] == task).count()
        };
        assert_eq!((paid("t0"), paid("t1")), (1, 2), "{dialect:?}: each call is on the bill once");
        assert_eq!(space.files(".planexe/batches"), Vec::<String>::new(), "{dialect:?}");
        // The former prompt again: it was answered.
        space.edit("pipeline.toml", "Answer otherwise.", "Answer.");
        space.build();
        assert_eq!((submitted(), space.read("t1.txt").trim()), (2, "To t1."), "{dialect:?}");
        space.build().says(&["up to date"]);
    }
}

#[test]
fn limits_hold_for_what_is_submitted_too() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let submitted = || vendor.submitted().values().sum::<usize>();
        // Of money one call may go beyond: the others are not submitted after it.
        let space = vendor.space(6, "");
        space.run(&["build", "--max-cost", "0.000001"]).exits(3).says(&["nothing more is started"]);
        assert_eq!(submitted(), 1, "{dialect:?}");
        space.build();
        vendor.assert_once(&space, 6, dialect.api());
        // While it is out the others are held back, and that is not waited for longer than `wait`.
        vendor.forget();
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        space.run(&["build", "--max-cost", "0.000001"]).exits(3).says(&["waiting for a batch of `m`"]);
        assert_eq!(submitted(), 1, "{dialect:?}");
        // So many calls as a limit lets through are submitted, and waited for.
        vendor.forget();
        let space = vendor.space(5, "");
        space.run(&["build", "--max-calls", "3"]).exits(3).says(&["the limit of calls is reached"]);
        assert_eq!(submitted(), 3, "{dialect:?}");
        assert_eq!(space.report()["counts"]["done"], 3, "{dialect:?}");
        space.run(&["build", "--max-calls", "3"]).exits(0);
        vendor.assert_once(&space, 5, dialect.api());
    }
}

#[test]
fn a_limit_of_money_counts_what_an_earlier_build_has_out() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        let submitted = || vendor.submitted().values().sum::<usize>();
        vendor.state().quick = false;
        let space = vendor.space(3, "wait = \"0s\"");
        space.run(&["build", "t0"]).exits(3);
        space.run(&["build", "--max-cost", "0.000001"]).exits(3).says(&["waiting for a batch of `m`"]);
        assert_eq!(submitted(), 1, "{dialect:?}");
        vendor.state().quick = true;
        space.build();
        vendor.assert_once(&space, 3, dialect.api());
    }
}

#[test]
fn a_limit_of_money_holds_for_what_goes_online() {
    for dialect in vendors() {
        let vendor = Vendor::new(dialect);
        vendor.state().expires.extend(["t0", "t1", "t2"].map(String::from));
        let space = vendor.space(3, "wait = \"0s\"");
        vendor.state().quick = false;
        space.run(&["build"]).exits(3);
        vendor.state().quick = true;
        space.run(&["build", "--max-cost", "0.000001"]).exits(3).says(&["the cost limit is reached"]);
        let online = || vendor.state().online.values().sum::<usize>();
        // One call may go beyond it.
        assert_eq!((online(), space.report()["counts"]["done"].as_u64()), (1, Some(1)), "{dialect:?}");
        space.build();
        assert_eq!((online(), vendor.submitted().values().sum::<usize>()), (3, 3), "{dialect:?}");
    }
}
