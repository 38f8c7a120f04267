//! `price_mode = "flex"`: asked for as a service tier, and counted at half the price only where it was served so.

use serde_json::json;

use crate::support::{Answer, FakeLlm, Space};

#[test]
fn flex_is_asked_for_and_counts_half_where_it_was_served() {
    for (keys, served, cost) in [
        ("price_mode = \"flex\"", "flex", 1.0),
        ("price_mode = \"flex\"", "default", 2.0),
        ("price_mode = \"now\"", "flex", 2.0),
        ("", "default", 2.0),
    ] {
        let body = json!({
            "id": "c", "object": "chat.completion", "model": "fake-1", "service_tier": served,
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": "It holds." }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 1000, "completion_tokens": 1000 }
        });
        let server = FakeLlm::scripted(move |_| {
            Answer::Http(200, vec![("content-type", "application/json".into())], body.to_string())
        });
        let space = Space::new();
        let keys = format!("price = {{ input = 1000.0, output = 1000.0 }}\n{keys}");
        space.pipeline_with(
            &server,
            &keys,
            "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nAnswer.\"\n",
        );
        space.build();
        let asked = server.last("a").body["service_tier"].clone();
        assert_eq!(asked == "flex", keys.contains("flex"), "{asked}");
        assert_eq!(space.lines("usage_metrics.jsonl")[0]["cost_usd"], cost, "{keys} {served}");
    }
}
