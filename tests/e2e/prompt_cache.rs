//! Prompts that begin alike, against a server that keeps them by the vendors' rules: what is read from its cache, that the
//! bill is the one in the ledger, and that nothing is stale because of it.

use std::time::Duration;

use serde_json::Value;

use crate::support::Space;
use crate::support::caching::{CachingServer, Pace, Prices};

const PRICES: Prices = Prices { input: 3.0, read: 0.3, write: 3.75, output: 15.0 };
const PACE: Pace = Pace {
    first: Duration::from_millis(20),
    thousand: Duration::from_millis(5),
    writes: Duration::from_millis(30),
};

/// A plan of about 3,000 tokens, two fan-outs over it, and a task that reads it too.
fn space(server: &CachingServer, api: &str, keys: &str) -> Space {
    let space = Space::new();
    let line = |n: usize| {
        format!("{n}. The hall of stall {n} costs {} euro, says the größte cooperative.\n", n * 37)
    };
    space.write("plan.txt", (0..170).map(line).collect::<String>());
    space.write("items.json", r#"["soil", "roof", "money", "law", "people", "time", "risk", "end"]"#);
    pipeline(&space, server, api, keys);
    space
}

fn pipeline(space: &Space, server: &CachingServer, api: &str, keys: &str) {
    let path = if api == "openai" { "/v1" } else { "" };
    let fan = |name: &str, schema: &str| {
        format!(
            "[task.{name}]\ninputs = {{ plan = \"plan.txt\" }}\nforeach = {{ file = \"items.json\", items = \"\" }}\n\
             outputs = [\"{name}/{{{{ key }}}}.json\"]\nschema = \"{schema}.json\"\n\
             prompt = \"<plan>\\n{{{{ plan }}}}</plan>\\n\\nTASK={name}\\nSay of {{{{ item }}}} what is amiss.\"\n\n"
        )
    };
    space.write(
        "one.json",
        r#"{ "type": "object", "required": ["a"], "properties": { "a": { "type": "string" } } }"#,
    );
    space.write(
        "two.json",
        r#"{ "type": "object", "required": ["b"], "properties": { "b": { "type": "string" } } }"#,
    );
    space.write(
        "pipeline.toml",
        format!(
            "[models.m]\napi = \"{api}\"\nbase_url = \"{}{path}\"\nmodel = \"m\"\nmax_concurrent = 4\n\
             price = {{ input = 3.0, cached = 0.3, cache_write = 3.75, output = 15.0 }}\n{keys}\n\n\
             [defaults]\nmodel = \"m\"\nsystem = \"Be brief, and be right.\"\n\n{}{}",
            server.url(),
            fan("critic", "one"),
            fan("audit", "two"),
        ),
    );
}

fn server() -> CachingServer {
    CachingServer::start(1024, PACE, |prompt| {
        let name = if prompt.contains("TASK=critic") { "a" } else { "b" };
        format!("{{ \"{name}\": \"It holds, as far as can be seen from here, and no further.\" }}")
    })
}

fn ledger(space: &Space) -> f64 {
    space.lines("usage_metrics.jsonl").iter().map(|line| line["cost_usd"].as_f64().unwrap_or(0.0)).sum()
}

fn text(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        text => text.as_str().unwrap_or_default().to_owned(),
    }
}

fn texts(server: &CachingServer) -> Vec<String> {
    let of = |body: &Value| {
        let messages = body["messages"].as_array().into_iter().flatten();
        let messages: String = messages.map(|message| text(&message["content"])).collect();
        text(&body["system"]) + &messages
    };
    let mut texts: Vec<String> = server.bodies().iter().map(of).collect();
    texts.sort();
    texts
}

#[test]
fn what_prompts_have_in_common_is_written_once_and_read_by_all_others() {
    for (api, keys, once) in [
        ("anthropic", "cache = \"auto\"", 2),
        ("anthropic", "cache = \"auto\"\nschemas = \"words\"", 1),
        ("openai", "cache = \"auto\"\nserver = \"openai\"", 2),
        ("openai", "cache = \"auto\"\nschemas = \"words\"", 1),
    ] {
        let server = server();
        let space = space(&server, api, keys);
        space.build();
        let bill = server.bill();
        assert_eq!(bill.calls, 16, "{api} {keys}");
        // Of all but the first of each schema the plan is read.
        let whole = bill.input as f64 / 16.0;
        let missed = (bill.input - bill.read) as f64 / whole;
        assert!(
            missed < once as f64 + 16.0 * 0.09,
            "{api} {keys}: {missed} of 16 prompts are not read: {bill:?}"
        );
        assert_eq!(bill.written > 0, api == "anthropic");
        let (paid, noted) = (bill.usd(&PRICES), ledger(&space));
        assert!((paid - noted).abs() <= paid * 0.01, "{api} {keys}: {paid} and {noted} in the ledger");
        let used = &space.lines("usage_metrics.jsonl");
        let read: u64 = used.iter().filter_map(|line| line["cached_tokens"].as_u64()).sum();
        assert_eq!(read, bill.read, "{api} {keys}");
        let keyed = server.bodies().iter().filter(|body| body.get("prompt_cache_key").is_some()).count();
        assert_eq!(keyed, if keys.contains("server") { 16 } else { 0 }, "others may refuse it");
    }
}

#[test]
fn without_a_cache_the_same_text_is_sent_and_nothing_is_stale_because_of_it() {
    let (with, without) = (server(), server());
    let one = space(&with, "anthropic", "cache = \"1h\"");
    let other = space(&without, "anthropic", "cache = \"off\"");
    one.build();
    other.build();
    assert_eq!(texts(&with), texts(&without));
    let marked = |server: &CachingServer| {
        server.bodies().iter().filter(|it| it.to_string().contains("cache_control")).count()
    };
    assert_eq!((marked(&with), marked(&without)), (16, 0));
    assert!(with.bodies().iter().all(|body| body.to_string().contains("\"ttl\":\"1h\"")));
    assert_eq!((without.bill().read, without.bill().written), (0, 0));
    for keys in ["cache = \"off\"", "cache = \"auto\"", "schemas = \"words\""] {
        pipeline(&one, &with, "anthropic", keys);
        one.build();
        assert_eq!(with.bill().calls, 16, "{keys}: nothing is asked again");
    }
    // A server on this machine is not taken for a vendor's.
    let here = server();
    space(&here, "anthropic", "").build();
    assert_eq!(marked(&here), 0);
}

#[test]
fn a_money_limit_counts_what_was_read_at_its_price() {
    let server = server();
    let space = space(&server, "anthropic", "cache = \"auto\"\nschemas = \"words\"");
    // At the full price it would be reached by the second call of 16.
    let out = space.run(&["build", "--max-cost", "0.05"]);
    assert_eq!(server.bill().calls, 16, "{}", out.stderr);
    assert!(server.bill().usd(&PRICES) < 0.05);
}

#[test]
fn a_table_without_a_cache_refuses_the_key() {
    let server = server();
    let space = space(&server, "ollama", "cache = \"auto\"");
    space.run(&["build"]).exits(2).says(&["`cache` has no meaning for api `ollama`"]);
}
