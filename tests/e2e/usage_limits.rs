//! Usage limits with a reset: the model is parked for all tasks, in this build and in those after it, until one call has
//! found the limit over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space, until};

/// So many tasks that need nothing.
fn tasks(count: usize) -> String {
    (0..count)
        .map(|n| format!("[task.t{n}]\noutputs = [\"t{n}.txt\"]\nprompt = \"TASK=t{n}\\nAnswer.\"\n"))
        .collect()
}

fn used_up(headers: Vec<(&'static str, String)>, message: &str) -> Answer {
    let body = json!({ "error": { "message": message, "type": "usage_limit_reached" } });
    Answer::Http(429, headers, body.to_string())
}

/// A run whose model has a limit after so many calls, for an hour; nobody waits for it.
fn limited(server: &FakeLlm, count: usize, most: usize) -> Space {
    let asked = AtomicUsize::new(0);
    server.script(move |_| match asked.fetch_add(1, Ordering::SeqCst) < most {
        true => Answer::Default,
        false => used_up(vec![("retry-after", "3600".into())], "The usage limit has been reached"),
    });
    let space = Space::new();
    space.pipeline_with(server, "", &tasks(count));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    space.edit("pipeline.toml", "max_attempts = 2", "wait = \"1s\", max_attempts = 2");
    space
}

/// Sets the reset of the parked models to so many seconds from now.
fn reset_in(space: &Space, seconds: u64) {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    let stamp = jiff::Timestamp::try_from(at).expect("a time").to_string();
    let mut parked = space.json(".planexe/parked.json");
    for model in parked["models"].as_array_mut().expect("models") {
        model["until_utc"] = stamp.clone().into();
    }
    space.write(".planexe/parked.json", parked.to_string());
}

#[test]
fn nothing_starts_once_the_quota_is_gone() {
    let server = FakeLlm::new();
    let space = limited(&server, 102, 3);
    let out = space.run(&["build"]).exits(3);
    out.says(&["parked", "fake", "usage limit", "99 not reached", "planexe resume --at-reset"]);
    assert_eq!(server.total(), 4, "three answers and the refusal");
    assert!(space.lines("events.jsonl").iter().any(|event| {
        event["event"] == "model.parked" && event["model"] == "fake" && event["until_utc"].is_string()
    }));
    let status = space.report();
    let parked = &status["parked"][0];
    assert_eq!(parked["model"], "fake", "{status}");
    assert!((3500.0..=3600.0).contains(&parked["left_s"].as_f64().expect("seconds")), "{parked}");
    space.run(&["status"]).exits(0).says(&["Parked", "fake until", "usage limit"]);
    // So says what tells what a build would do, with the model it would wait for.
    space.run(&["build", "-n"]).exits(0).says(&["fake takes no calls until"]);
    let plan = space.run(&["build", "-n", "--json"]).exits(0).json();
    assert_eq!(plan["parked"][0]["until_utc"], parked["until_utc"], "{plan}");
    space.run(&["build", "-n", "--before-reset"]).exits(0).says_nothing_of(&["takes no calls"]);
    space.run(&["explain", "t50"]).exits(0).says(&["wait until", "fake takes no calls before that"]);
    // Neither does any later build ask in vain, until somebody wants it to.
    for command in ["build", "resume"] {
        space.run(&[command]).exits(3).says(&["usage limit of `fake`"]);
        assert_eq!(server.total(), 4, "{command}");
    }
    space.run(&["build", "--before-reset"]).exits(3);
    assert_eq!(server.total(), 5);
}

#[test]
fn what_is_answered_before_the_reset_is_not_parked_any_more() {
    let server = FakeLlm::new();
    let space = limited(&server, 12, 1);
    space.edit("pipeline.toml", "max_concurrent = 1", "max_concurrent = 8");
    space.run(&["build"]).exits(3);
    let before = server.total();
    // Not over: one call finds that out, not eight.
    space.run(&["resume", "--before-reset"]).exits(3);
    assert_eq!(server.total(), before + 1);
    assert_eq!(space.report()["parked"][0]["model"], "fake");
    // More was bought.
    server.script(|_| Answer::Default);
    space.run(&["resume", "--before-reset"]).exits(0).says(&["answers again"]);
    assert!(!space.exists(".planexe/parked.json"));
    space.run(&["clean", "-y", "t0"]).exits(0);
    space.build();
}

#[test]
fn one_call_finds_out_whether_the_limit_is_over() {
    let server = FakeLlm::new();
    let space = limited(&server, 12, 3);
    space.edit("pipeline.toml", "max_concurrent = 1", "max_concurrent = 8");
    space.edit("pipeline.toml", "wait = \"1s\"", "wait = \"1m\"");
    space.run(&["build"]).exits(3);
    let before = server.total();
    // Refused again: parked again.
    reset_in(&space, 1);
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), before + 1, "one probe");
    reset_in(&space, 1);
    server.script(|_| Answer::Default);
    space.run(&["resume", "--at-reset"]).exits(0).says(&["answers again"]);
    let events = space.lines("events.jsonl");
    let named = |event: &serde_json::Value| event["event"].as_str().unwrap_or_default().to_owned();
    let began = events.iter().rposition(|event| named(event) == "pipeline.started").expect("a build");
    let over = events.iter().rposition(|event| named(event) == "model.resumed").expect("the end of it");
    let started = events[began..over].iter().filter(|event| named(event) == "task.started").count();
    assert_eq!(started, 1, "one call goes ahead");
    assert_eq!(server.total(), before + 1 + 12 - 3);
    assert!(!space.exists(".planexe/parked.json"));
    space.assert_nothing_to_do(&server);
}

/// The reset may come while no build runs.
#[test]
fn a_build_after_the_reset_asks_once_too() {
    let server = FakeLlm::new();
    let space = limited(&server, 12, 1);
    space.run(&["build"]).exits(3);
    let before = server.total();
    space.edit("pipeline.toml", "max_concurrent = 1", "max_concurrent = 8");
    reset_in(&space, 0);
    assert!(space.report()["parked"].is_null(), "its reset is over");
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), before + 1, "one probe");
    // Nor do all ask where the clock was set back since.
    reset_in(&space, 7200);
    let mut parked = space.json(".planexe/parked.json");
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    parked["models"][0]["seen_utc"] = later.to_string().into();
    space.write(".planexe/parked.json", parked.to_string());
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), before + 2, "one probe");
    reset_in(&space, 0);
    server.script(|_| Answer::Default);
    space.build().says(&["answers again"]);
    assert!(!space.exists(".planexe/parked.json"));
}

/// The one call that finds out is told to wait, and not for how long: nobody else asks for a minute.
#[test]
fn a_probe_that_is_refused_without_a_time_is_one_probe() {
    let server = FakeLlm::new();
    let space = limited(&server, 12, 0);
    space.edit("pipeline.toml", "wait = \"1s\"", "wait = \"20s\"");
    space.run(&["build"]).exits(3);
    let before = server.total();
    space.edit("pipeline.toml", "max_concurrent = 1", "max_concurrent = 8");
    server.script(|_| used_up(vec![], "slow down"));
    // The reset that is known stays known.
    space.run(&["build", "--before-reset"]).exits(3);
    assert_eq!(server.total(), before + 1);
    let left = space.report()["parked"][0]["left_s"].as_f64().unwrap_or_default();
    assert!((3500.0..=3600.0).contains(&left), "{left}");
    reset_in(&space, 0);
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), before + 2);
    let left = space.report()["parked"][0]["left_s"].as_f64().unwrap_or_default();
    assert!((1.0..=60.0).contains(&left), "{left}");
}

#[test]
fn watch_goes_on_by_itself_at_the_reset() {
    let server = FakeLlm::new();
    let space = limited(&server, 4, 1);
    space.edit("pipeline.toml", "wait = \"1s\"", "wait = \"1ms\"");
    space.run(&["build"]).exits(3);
    server.script(|_| Answer::Default);
    reset_in(&space, 3);
    let watch = space.spawn(&["watch"]);
    until("it waits", || watch.stderr().contains("watching ").then_some(()));
    assert_eq!(server.total(), 2, "it waits for the reset");
    until("the rest", || (server.total() == 5).then_some(()));
    until("its end", || space.is_done("t3.txt").then_some(()));
    watch.signal(rustix::process::Signal::INT);
    watch.wait().exits(130);
}

#[test]
fn every_form_of_a_reset_parks() {
    let at = |seconds: u64| {
        let at = SystemTime::now() + Duration::from_secs(seconds);
        jiff::Timestamp::try_from(at).expect("a time")
    };
    let epoch = at(7200).as_second();
    let rows: [(Vec<(&str, String)>, String); 8] = [
        (vec![("retry-after", "7200".into())], "slow down".into()),
        (vec![("x-should-retry", "false".into()), ("retry-after", "7200".into())], "slow down".into()),
        (vec![("anthropic-ratelimit-unified-reset", epoch.to_string())], "slow down".into()),
        (vec![], format!("Usage limit reached. Try again at {}.", at(7200))),
        (vec![], format!("Claude AI usage limit reached|{epoch}")),
        (vec![], "You've hit your usage limit. Try again in 2 hours 0 minutes.".into()),
        (vec![], "Your quota will reset after 2h0m0s.".into()),
        (
            vec![],
            format!(
                "You have reached your specified API usage limits. You will regain access on {}",
                at(7200)
            ),
        ),
    ];
    for (headers, message) in rows {
        let said = message.clone();
        let server = FakeLlm::scripted(move |_| used_up(headers.clone(), &said));
        let space = Space::new();
        space.pipeline_with(&server, "", &tasks(3));
        space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
        space.edit("pipeline.toml", "max_attempts = 2", "wait = \"1s\", max_attempts = 2");
        space.run(&["build"]).exits(3);
        assert_eq!(server.total(), 1, "{message}");
        let status = space.report();
        let left = status["parked"][0]["left_s"].as_f64().unwrap_or_default();
        assert!((7100.0..=7200.0).contains(&left), "{message}: {status}");
    }
}

#[test]
fn a_forged_or_foreign_list_parks_nothing_for_long() {
    let server = FakeLlm::new();
    let space = limited(&server, 3, 1);
    space.run(&["build"]).exits(3);
    assert_eq!(server.total(), 2);
    // Another server under the same name is another model, to all who tell of it.
    let other = FakeLlm::new();
    let text = space.read("pipeline.toml");
    space.edit("pipeline.toml", &server.base_url(), &other.base_url());
    assert!(space.report()["parked"].is_null());
    space.run(&["build", "-n"]).exits(0).says_nothing_of(&["takes no calls"]);
    space.run(&["explain", "t2"]).exits(0).says_nothing_of(&["takes no calls"]);
    space.run(&["build", "t1"]).exits(0);
    assert_eq!((server.total(), other.total()), (2, 1));
    // Nor is one forgotten for the limit of the other.
    other.script(|_| used_up(vec![("retry-after", "3600".into())], "used up"));
    space.run(&["build"]).exits(3);
    space.write("pipeline.toml", &text);
    space.run(&["build"]).exits(3);
    assert_eq!((server.total(), other.total()), (2, 2));
    // A list that cannot be read parks none.
    for file in ["{", "{\"schema\":1,\"models\":[{\"model\":\"fake\"}]}"] {
        space.write(".planexe/parked.json", file);
        assert!(space.report()["parked"].is_null(), "{file}");
    }
}

#[test]
fn a_task_with_another_model_goes_there_and_stays() {
    let server = FakeLlm::new();
    let space = limited(&server, 5, 1);
    let second = FakeLlm::new();
    space.edit("pipeline.toml", "[task.t4]", "[task.t4]\nmodel = [\"fake\", \"second\"]");
    let extra = format!(
        "\n[models.second]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"second\"\n",
        second.base_url()
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &extra);
    space.run(&["build"]).exits(3);
    assert_eq!((server.total(), second.total()), (2, 1));
    assert!(space.is_done("t4.txt"));
}

#[test]
fn what_waits_for_the_model_of_its_evaluator_says_so() {
    let (server, judge) = (FakeLlm::new(), FakeLlm::new());
    judge.script(|_| used_up(vec![("retry-after", "3600".into())], "used up"));
    let space = limited(&server, 0, 9);
    let tables = format!(
        "[models.judge]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"j\"\nretry = {{ wait = \"1s\" }}\n{}[task.t0.eval]\nprompt = \"TASK=judge\\n{{{{ answer }}}}\"\nmodel = \"judge\"\n",
        judge.base_url(),
        tasks(1)
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &tables);
    for _ in 0..2 {
        space.run(&["build"]).exits(3).says(&["usage limit of `judge`"]);
        assert_eq!((server.total(), judge.total()), (1, 1));
    }
    assert_eq!(space.run(&["build", "-n", "--json"]).exits(0).json()["parked"][0]["model"], "judge");
    space.run(&["explain", "t0"]).exits(0).says(&["wait until", "judge takes no calls before that"]);
}

/// A run whose tasks ask a first model and then a second, each with a limit for so many seconds.
fn with_fallback(first: (&FakeLlm, u64), second: (&FakeLlm, u64)) -> Space {
    for (server, seconds) in [first, second].into_iter().filter(|(_, seconds)| *seconds > 0) {
        server.script(move |_| used_up(vec![("retry-after", seconds.to_string())], "used up"));
    }
    let space = Space::new();
    space.pipeline_with(first.0, "", &tasks(3));
    space.edit("pipeline.toml", "max_concurrent = 16", "max_concurrent = 1");
    space.edit("pipeline.toml", "max_attempts = 2", "wait = \"1s\", max_attempts = 2");
    space.edit("pipeline.toml", "model = \"fake\"", "model = [\"fake\", \"second\"]");
    let extra = format!(
        "\n[models.second]\napi = \"openai\"\nbase_url = \"{}\"\nmodel = \"second\"\nretry = {{ wait = \"1s\" }}\n",
        second.0.base_url()
    );
    space.write("pipeline.toml", space.read("pipeline.toml") + &extra);
    space
}

#[test]
fn a_model_that_another_stands_in_for_is_parked_too() {
    let (first, second) = (FakeLlm::new(), FakeLlm::new());
    let space = with_fallback((&first, 3600), (&second, 0));
    space.build().says(&["parked: fake"]);
    assert_eq!((first.total(), second.total()), (1, 3));
    assert_eq!(space.report()["parked"][0]["model"], "fake");
    // No later build asks it in vain.
    space.run(&["clean", "-y", "t0"]).exits(0);
    space.build();
    assert_eq!((first.total(), second.total()), (1, 4));
}

#[test]
fn where_every_model_of_a_list_is_parked_the_build_ends_until_the_first_reset() {
    let (first, second) = (FakeLlm::new(), FakeLlm::new());
    let space = with_fallback((&first, 1200), (&second, 18_000));
    for _ in 0..2 {
        space.run(&["build"]).exits(3).says(&["usage limit of `fake`, `second`", "--at-reset"]);
        assert_eq!((first.total(), second.total()), (1, 1));
    }
    let parked = space.json(".planexe/parked.json");
    let named: Vec<_> = parked["models"].as_array().expect("models").iter().map(|it| &it["model"]).collect();
    assert_eq!(named, ["fake", "second"]);
    // The first answers again: nothing waits for the second.
    first.script(|_| Answer::Default);
    let mut parked = parked.clone();
    parked["models"][0]["until_utc"] = parked["models"][0]["seen_utc"].clone();
    space.write(".planexe/parked.json", parked.to_string());
    space.build().says(&["answers again"]);
    assert_eq!((first.total(), second.total()), (4, 1));
}

/// An agent of four calls. It takes a refusal for an answer, and says that it is done.
#[test]
fn an_agent_that_meets_the_limit_is_not_believed_and_runs_again_after_it() {
    let server = FakeLlm::new();
    let space = limited(&server, 0, 2);
    let task = "[task.agent]\noutputs = [\"out.txt\"]\ncommand = [\"sh\", \"agent.sh\", \"$out\"]\ncalls = \"fake\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + task + &tasks(2));
    let script = "echo >> ../starts\nfor n in 1 2 3 4; do\n  curl -sS -H \"authorization: Bearer $OPENAI_API_KEY\" -d \"{\\\"messages\\\":[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"TASK=c$n\\\"}]}\" \"$OPENAI_BASE_URL/chat/completions\" >> \"$1\"\ndone\n";
    space.write("agent.sh", script);
    let starts =
        || std::fs::read_to_string(space.root().join("starts")).map_or(0, |text| text.lines().count());
    let out = space.run(&["build", "agent"]).exits(3);
    out.says(&["parked: fake", "rate_limit: HTTP 429: The usage limit has been reached"]);
    // The third met the limit; the fourth reached no server.
    assert_eq!((server.total(), starts(), space.exists("out.txt")), (3, 1, false));
    let events = space.lines("events.jsonl");
    assert_eq!(events.iter().filter(|event| event["event"] == "model.parked").count(), 1);
    assert_eq!(space.report()["parked"][0]["model"], "fake");
    // It is not even started before the reset, nor is anything else asked.
    space.run(&["build"]).exits(3).says(&["usage limit of `fake`"]);
    assert_eq!((server.total(), starts()), (3, 1));
    server.script(|_| Answer::Default);
    reset_in(&space, 1);
    space.run(&["resume", "--at-reset"]).exits(0).says(&["answers again"]);
    assert_eq!((server.total(), starts()), (3 + 2 + 2, 2), "two calls of the agent, and the prompts");
    let status = space.status("agent");
    assert_eq!(status["usage"]["calls"], 4, "{status}");
    space.assert_nothing_to_do(&server);
}
