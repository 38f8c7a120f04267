//! The bodies of messages: planexe's own JSON, Discord's and Slack's, each within its receiver's limits.
//! Text of tasks and models is shown as text: it mentions nobody, links nowhere, formats nothing.

use serde_json::{Value, json};

use super::payload::{Payload, bounded};
use planexe_llm::keys::Site;
use planexe_pipeline::manifest::types::WebhookFormat as Format;

/// Most events of one message: Discord's most embeds.
const TOGETHER: usize = 10;
/// Most characters of one event in a chat: ten of them stay below Discord's 6,000.
const LINE: usize = 550;

/// The format a URL's host speaks.
pub fn guess(url: &str) -> Format {
    let Ok(site) = Site::of(url) else { return Format::Json };
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let is = |host: &str| site.host == host || site.host.ends_with(&format!(".{host}"));
    if (is("discord.com") || is("discordapp.com")) && path.starts_with("api/") && path.contains("webhooks/") {
        // Discord also understands Slack's format, at such an address.
        return if path.ends_with("/slack") { Format::Slack } else { Format::Discord };
    }
    if is("hooks.slack.com") || is("hooks.slack-gov.com") { Format::Slack } else { Format::Json }
}

/// How many waiting events one message may hold. Chats get what has piled up at once.
pub fn together(format: Format) -> usize {
    match format {
        Format::Json => 1,
        Format::Discord | Format::Slack => TOGETHER,
    }
}

/// The body of one message.
pub fn body(format: Format, payloads: &[Payload]) -> Vec<u8> {
    let value = match (format, payloads) {
        (Format::Json, [payload, ..]) => return serde_json::to_vec(payload).unwrap_or_default(),
        (Format::Json, []) => Value::Null,
        (Format::Discord, payloads) => discord(payloads),
        (Format::Slack, payloads) => slack(payloads),
    };
    serde_json::to_vec(&value).unwrap_or_default()
}

/// The address a message of a format is posted to. Without `wait`, Discord does not say that it refused one.
pub fn address(format: Format, url: &str) -> String {
    if format != Format::Discord || url.contains("wait=") {
        return url.to_owned();
    }
    let url = url.split('#').next().unwrap_or_default();
    format!("{url}{}wait=true", if url.contains('?') { '&' } else { '?' })
}

/// What happened, in a line.
fn headline(payload: &Payload) -> String {
    let word = match payload.event.as_str() {
        "task.started" => "started",
        "task.completed" => "done",
        "task.failed" => "failed",
        "task.stalled" => "shows no progress",
        "task.rescued" => "rescued",
        "pipeline.completed" => "complete",
        "pipeline.failed" => "failed",
        "pipeline.stopped" => "stopped",
        "model.parked" => "usage limit reached",
        "model.resumed" => "usage limit over",
        "batch.submitted" => "batch submitted",
        "batch.ended" => "batch ended",
        "batch.stuck" => "batch waits for a person",
        "pipeline.paused" => "paused",
        other => other,
    };
    let sign = match payload.event.as_str() {
        "task.failed" | "pipeline.failed" => "✗",
        "task.completed" | "task.rescued" | "pipeline.completed" => "✓",
        "task.started" => "▶",
        "task.stalled" => "!",
        _ => "=",
    };
    match &payload.task {
        Some(task) => format!("{sign} {task} {word}"),
        None => format!("{sign} {} {word}", payload.pipeline),
    }
}

/// What there is to say besides, line by line.
fn details(payload: &Payload) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(payload.error_summary.clone());
    lines.extend(payload.message.clone());
    let mut about = Vec::new();
    about.extend(payload.attempt.filter(|&attempt| attempt > 1).map(|attempt| format!("attempt {attempt}")));
    about.extend(payload.model.clone());
    about.extend(payload.error_id.as_ref().map(|id| format!("error {id}")));
    if !about.is_empty() {
        lines.push(about.join(", "));
    }
    if payload.event == "pipeline.failed" || payload.event == "pipeline.stopped" {
        lines.push("planexe resume continues".to_owned());
    }
    lines
}

/// Where it happened.
fn place(payload: &Payload) -> String {
    let Payload { pipeline, run_id_dir, progress, .. } = payload;
    let run = planexe_base::style::clean(run_id_dir);
    // The end of a path says most.
    let from = run.chars().count().saturating_sub(120);
    let run: String = run.chars().skip(from).collect();
    format!("{} · {}/{} · {run}", bounded(pipeline, 80), progress.done, progress.total)
}

fn colour(payload: &Payload) -> u32 {
    match payload.event.as_str() {
        "task.failed" | "pipeline.failed" => 0x00dc_3c3c,
        "task.completed" | "task.rescued" | "pipeline.completed" => 0x0050_dc64,
        "task.started" => 0x003c_c8dc,
        "task.stalled" => 0x00d2_8246,
        _ => 0x003c_a0dc,
    }
}

/// Markdown's signs are escaped, so that text is text.
fn plain_for_discord(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\*_~`|>#[]()<@-".contains(c) {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

fn discord(payloads: &[Payload]) -> Value {
    let content = match payloads {
        [] => String::new(),
        [one] => bounded(&plain_for_discord(&headline(one)), 1900),
        [first, rest @ ..] => {
            let more = format!(" (and {} more)", rest.len());
            bounded(&plain_for_discord(&headline(first)), 1900) + &more
        }
    };
    let embed = |payload: &Payload| {
        // Escapes at most double a text; footer and title count too.
        let text = bounded(&details(payload).join("\n"), 180);
        let text = if payloads.len() == 1 { bounded(&details(payload).join("\n"), 1900) } else { text };
        let footer = if payloads.len() == 1 { place(payload) } else { bounded(&place(payload), 100) };
        json!({
            "title": bounded(&plain_for_discord(&bounded(&headline(payload), 60)), 256),
            "description": plain_for_discord(&text),
            "color": colour(payload),
            "timestamp": payload.timestamp_utc,
            "footer": { "text": footer },
        })
    };
    json!({
        "content": content,
        "embeds": payloads.iter().map(embed).collect::<Vec<_>>(),
        "allowed_mentions": { "parse": [] },
    })
}

/// Slack reads `&`, `<` and `>` as its own.
fn plain_for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn slack(payloads: &[Payload]) -> Value {
    let lines: Vec<String> = payloads.iter().map(headline).collect();
    let mut blocks = Vec::new();
    for payload in payloads {
        let mut text = vec![headline(payload)];
        text.extend(details(payload));
        let text = bounded(&text.join("\n"), if payloads.len() == 1 { 2900 } else { LINE });
        blocks.push(json!({
            "type": "section",
            "text": { "type": "plain_text", "text": text, "emoji": false },
        }));
    }
    if let Some(last) = payloads.last() {
        let text = bounded(&place(last), 1900);
        let text = json!({ "type": "plain_text", "text": text, "emoji": false });
        blocks.push(json!({ "type": "context", "elements": [text] }));
    }
    json!({
        "text": plain_for_slack(&bounded(&lines.join("\n"), 3000)),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::payload;
    use super::*;

    #[test]
    fn formats_are_told_by_their_host() {
        for (url, wanted) in [
            ("https://discord.com/api/webhooks/1/token", Format::Discord),
            ("https://ptb.discord.com/api/v10/webhooks/1/token?thread_id=3", Format::Discord),
            ("https://discordapp.com/api/webhooks/1/token", Format::Discord),
            ("https://discord.com/api/webhooks/1/token/slack", Format::Slack),
            ("https://hooks.slack.com/services/T/B/x", Format::Slack),
            ("https://hooks.slack.com.evil.example/services/T/B/x", Format::Json),
            ("https://evildiscord.com/api/webhooks/1/token", Format::Json),
            ("https://example.com/discord.com/api/webhooks/", Format::Json),
            ("http://127.0.0.1:9000/hook", Format::Json),
            ("nonsense", Format::Json),
        ] {
            assert_eq!(guess(url), wanted, "{url}");
        }
        assert_eq!(address(Format::Discord, "https://x/y"), "https://x/y?wait=true");
        assert_eq!(address(Format::Discord, "https://x/y?thread_id=1"), "https://x/y?thread_id=1&wait=true");
        assert_eq!(address(Format::Slack, "https://x/y"), "https://x/y");
    }

    fn long(n: usize) -> Vec<Payload> {
        let mut one = payload("task.failed", Some(&"@everyone*".repeat(100)));
        one.error_summary = Some("<!channel> [x](http://evil) _*`|".repeat(400));
        one.message = Some("m*".repeat(3000));
        one.model = Some("*".repeat(200));
        one.run_id_dir = format!("/{}", "r_".repeat(2000));
        vec![one; n]
    }

    /// Characters as Discord counts them.
    fn chars(value: &Value) -> usize {
        value.as_str().unwrap_or_default().chars().count()
    }

    #[test]
    fn discord_gets_no_more_than_it_takes() {
        for n in [1, 2, TOGETHER] {
            let body: Value = serde_json::from_slice(&body(Format::Discord, &long(n))).unwrap();
            assert!(chars(&body["content"]) <= 2000);
            assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
            let embeds = body["embeds"].as_array().unwrap();
            assert_eq!(embeds.len(), n);
            let mut all = 0;
            for embed in embeds {
                let (title, text, footer) =
                    (chars(&embed["title"]), chars(&embed["description"]), chars(&embed["footer"]["text"]));
                assert!(title <= 256 && text <= 4096 && footer <= 2048, "{title} {text} {footer}");
                all += title + text + footer;
            }
            assert!(all <= 6000, "{n}: {all}");
        }
        let text = String::from_utf8(body(Format::Discord, &long(1))).unwrap();
        assert!(!text.contains("[x](") && text.contains(r"\\[x\\]\\("), "{text}");
    }

    #[test]
    fn slack_gets_no_more_than_it_takes() {
        for n in [1, 3, TOGETHER] {
            let body: Value = serde_json::from_slice(&body(Format::Slack, &long(n))).unwrap();
            assert!((1..=40_000).contains(&chars(&body["text"])));
            let blocks = body["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            for block in blocks.iter().filter(|block| block["type"] == "section") {
                assert_eq!(block["text"]["type"], "plain_text");
                assert!(chars(&block["text"]["text"]) <= 3000);
            }
        }
        let mut one = payload("pipeline.failed", None);
        one.pipeline = "<!channel>".into();
        let body: Value = serde_json::from_slice(&body(Format::Slack, &[one])).unwrap();
        assert_eq!(body["text"], "✗ &lt;!channel&gt; failed");
    }

    #[test]
    fn every_event_has_its_words() {
        for (event, task, title, colour) in [
            ("task.stalled", Some("swot"), "! swot shows no progress", 0x00d2_8246),
            ("task.rescued", Some("swot"), "✓ swot rescued", 0x0050_dc64),
            ("pipeline.stopped", None, "= plan stopped", 0x003c_a0dc),
            ("pipeline.paused", None, "= plan paused", 0x003c_a0dc),
            ("model.parked", None, "= plan usage limit reached", 0x003c_a0dc),
            ("model.resumed", None, "= plan usage limit over", 0x003c_a0dc),
            ("batch.submitted", None, "= plan batch submitted", 0x003c_a0dc),
            ("batch.ended", None, "= plan batch ended", 0x003c_a0dc),
            ("batch.stuck", None, "= plan batch waits for a person", 0x003c_a0dc),
            ("of.another.version", None, "= plan of.another.version", 0x003c_a0dc),
        ] {
            let payload = payload(event, task);
            let discord: Value =
                serde_json::from_slice(&body(Format::Discord, std::slice::from_ref(&payload))).unwrap();
            assert_eq!(
                (headline(&payload).as_str(), &discord["embeds"][0]["color"]),
                (title, &json!(colour))
            );
        }
    }

    #[test]
    fn json_is_the_payload() {
        let one = payload("task.completed", Some("swot"));
        let read: Payload = serde_json::from_slice(&body(Format::Json, std::slice::from_ref(&one))).unwrap();
        assert_eq!(read, one);
    }
}
