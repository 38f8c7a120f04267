//! What real servers were seen to do, replayed: a row is a program, what it sent, and what must come of it
//! (see [`super::faults`]). A new case is one row.

use std::time::Duration;

use serde_json::json;

use super::faults::{Row, TEXT, check, row};
use crate::support::wire::Dialect::{self, Anthropic, Ollama, Openai};
use crate::support::wire::{Step, reply, send};

/// A task that asks for JSON, and an answer that is some.
const SCHEMA: &str = r#"schema = "text.schema.json""#;
const JSON: &str = r#"{"x": "b"}"#;

const LLAMA: &str = "server = \"llama.cpp\"";
const LMSTUDIO: &str = "server = \"lmstudio\"";
const VLLM: &str = "server = \"vllm\"";
const OPENROUTER: &str = "server = \"openrouter\"";
const LITELLM: &str = "server = \"litellm\"";

fn json_of(status: u16, body: &'static str) -> impl Fn(Dialect) -> Vec<Step> {
    move |_| reply(status, "", body)
}

fn stream(body: &'static str) -> impl Fn(Dialect) -> Vec<Step> {
    move |dialect| dialect.stream(body)
}

/// Of the openai dialect, of one server.
fn openai(row: Row, server: &'static str) -> Row {
    row.only(&[Openai]).with(server)
}

#[test]
fn llama_cpp() {
    let overflow = r#"{"error":{"code":400,"message":"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9412,"n_ctx":8192}}"#;
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let length = |text: &'static str| move |dialect: Dialect| dialect.ended(text, "length");
    let said = |text: &'static str| move |dialect: Dialect| dialect.ended(text, "stop");
    check(vec![
        // JSON, not events, though a stream was asked; not in Anthropic's envelope there.
        row("a prompt too long", Some(("context_overflow", 1)), None, json_of(400, overflow))
            .only(&[Openai, Anthropic]),
        openai(row("loading", None, Some(2), json_of(503, loading)), LLAMA),
        openai(
            row("the context ran full", Some(("truncated", 3)), Some(2), length("It will hold, if")),
            LLAMA,
        ),
        openai(
            row("half a JSON", Some(("truncated", 3)), Some(2), length("{ \"x\" :\"b")).task(SCHEMA, JSON),
            LLAMA,
        ),
        openai(row("blanks in JSON", None, Some(1), said("{ \"x\" :\"b\"}")).task(SCHEMA, JSON), LLAMA),
        openai(
            row("huge numbers", None, Some(1), said("{ \"x\" :1616123616161611}"))
                .task(r#"schema = "number.schema.json""#, "{\"x\":1616123616161611}"),
            LLAMA,
        ),
        openai(
            row(
                "a wrong key",
                Some(("auth", 1)),
                None,
                json_of(
                    401,
                    r#"{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}"#,
                ),
            ),
            LLAMA,
        ),
        openai(
            row("an error after the first words", Some(("server_error", 3)), Some(2), |d| {
                d.stream(d.opening() + &d.piece("It") + "data: {\"error\":{\"code\":500,\"message\":\"decode failed\",\"type\":\"server_error\"}}\n\n")
            }),
            LLAMA,
        ),
        openai(
            row("it reads for long, and says so", None, Some(1), |d| {
                let reading = |read: u32| {
                    format!(
                        "data: {{\"choices\":[],\"prompt_progress\":{{\"total\":900,\"cache\":0,\"processed\":{read},\"time_ms\":9}}}}\n\n"
                    )
                };
                let mut steps = vec![d.head()];
                for n in 1..=8 {
                    steps.extend([
                        send(reading(n * 90)),
                        send(":\n\n"),
                        Step::Pause(Duration::from_millis(150)),
                    ]);
                }
                steps.push(send(d.opening() + &d.piece(TEXT) + &d.finish("stop") + d.end()));
                steps
            }),
            "server = \"llama.cpp\"\ntimeouts = { first_token = \"900ms\" }",
        ),
        // Its messages ignore `output_config` without a word: what comes is checked here, and asked for again.
        row("a schema ignored", Some(("validation", 3)), Some(2), said("The x is b."))
            .only(&[Anthropic])
            .task(SCHEMA, JSON),
    ]);
}

#[test]
fn lm_studio() {
    let keep_first = "event: error\ndata: {\"error\":{\"message\":\"Trying to keep the first 9412 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough.\"},\"message\":\"Trying to keep the first 9412 tokens\"}\n\n";
    let crashed = r#"{"error":"The model has crashed without additional information. (Exit code: 18446744072635812000)"}"#;
    check(vec![
        openai(row("overflow under 200", Some(("context_overflow", 1)), None, stream(keep_first)), LMSTUDIO),
        openai(
            row(
                "overflow, in words of MLX",
                Some(("context_overflow", 1)),
                None,
                stream("data: {\"error\":\"Context size has been exceeded.\"}\n\n"),
            ),
            LMSTUDIO,
        ),
        openai(
            row("overflow, without a word", Some(("empty_response", 2)), Some(2), |d| {
                d.stream(d.opening() + &d.finish("stop") + d.end())
            }),
            LMSTUDIO,
        ),
        openai(row("a crash", Some(("server_error", 3)), Some(2), json_of(400, crashed)), LMSTUDIO),
        openai(
            row(
                "nothing loaded",
                Some(("model_not_found", 1)),
                None,
                json_of(
                    404,
                    r#"{"error":{"message":"No models loaded. Please load a model in the developer page or use the `lms load` command.","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
                ),
            ),
            LMSTUDIO,
        ),
        // The error is a string; asked again with the schema in words.
        openai(
            row(
                "a schema refused",
                Some(("bad_request", 2)),
                Some(2),
                json_of(400, r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#),
            )
            .task(SCHEMA, JSON),
            LMSTUDIO,
        ),
        openai(
            row(
                "an endpoint it does not know",
                Some(("config", 1)),
                None,
                json_of(200, r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#),
            ),
            LMSTUDIO,
        ),
        openai(
            row("reasoning by another name", None, Some(1), |d| {
                d.stream(
                    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"Hm.\"}}]}\n\n".to_owned()
                        + &d.piece(TEXT)
                        + &d.finish("stop")
                        + d.end(),
                )
            }),
            LMSTUDIO,
        ),
    ]);
}

#[test]
fn vllm() {
    let overflow = r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 9412 tokens (8900 in the messages, 512 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}}"#;
    let flat = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#;
    check(vec![
        openai(row("overflow", Some(("context_overflow", 1)), None, json_of(400, overflow)), VLLM),
        openai(
            row("overflow, as older ones say it", Some(("context_overflow", 1)), None, json_of(400, flat)),
            VLLM,
        ),
        openai(
            row(
                "an unknown model",
                Some(("model_not_found", 1)),
                None,
                json_of(
                    404,
                    r#"{"error":{"message":"The model `m-1` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
                ),
            ),
            VLLM,
        ),
        // `[DONE]` after an error proves nothing.
        openai(
            row("an error, then the end marker", Some(("server_error", 3)), Some(2), |d| {
                d.stream(d.opening() + &d.piece("It") + "data: {\"error\":{\"message\":\"EngineCore died\",\"type\":\"InternalServerError\",\"code\":500}}\n\ndata: [DONE]\n\n")
            }),
            VLLM,
        ),
        openai(
            row(
                "a dead engine",
                Some(("server_error", 3)),
                Some(2),
                json_of(
                    500,
                    r#"{"error":{"message":"EngineDeadError","type":"InternalServerError","code":500}}"#,
                ),
            ),
            VLLM,
        ),
        openai(
            row("a whole answer, usage in every chunk", None, Some(1), |d| {
                d.stream(
                    d.opening()
                        .replace("}]}", "}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":0}}")
                        + &d.piece(TEXT)
                        + &d.finish("stop")
                        + d.end(),
                )
            }),
            VLLM,
        ),
    ]);
}

#[test]
fn openrouter() {
    check(vec![
        openai(
            row("keep-alives, then an answer", None, Some(1), |d| {
                d.stream(
                    ": OPENROUTER PROCESSING\n\n".repeat(3) + &d.piece(TEXT) + &d.finish("stop") + d.end(),
                )
            }),
            OPENROUTER,
        ),
        openai(
            row(
                "no credits",
                Some(("quota", 1)),
                None,
                json_of(402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#),
            ),
            OPENROUTER,
        ),
        openai(
            row("credits in flight", None, Some(2), |_| {
                reply(
                    402,
                    "retry-after: 0\r\n",
                    r#"{"error":{"code":402,"message":"in-flight budget","metadata":{"limit_source":"openrouter_in_flight_budget"}}}"#,
                )
            }),
            OPENROUTER,
        ),
        openai(
            row(
                "moderation",
                Some(("refusal", 1)),
                None,
                json_of(
                    403,
                    r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
                ),
            ),
            OPENROUTER,
        ),
        openai(
            row(
                "no provider",
                Some(("server_error", 3)),
                Some(2),
                json_of(503, r#"{"error":{"code":503,"message":"No provider available"}}"#),
            ),
            OPENROUTER,
        ),
        openai(
            row(
                "a limit under 200",
                None,
                Some(2),
                json_of(
                    200,
                    r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow down","provider_name":"P","retry_after":0}}}"#,
                ),
            ),
            OPENROUTER,
        ),
        openai(
            row("an error on the way", Some(("server_error", 3)), Some(2), |d| {
                d.stream(d.piece("It") + "data: {\"id\":\"g\",\"error\":{\"code\":\"server_error\",\"message\":\"Provider disconnected\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n")
            }),
            OPENROUTER,
        ),
        openai(
            row(
                "a wrong model",
                Some(("model_not_found", 1)),
                None,
                json_of(400, r#"{"error":{"message":"m-1 is not a valid model ID","code":400}}"#),
            ),
            OPENROUTER,
        ),
    ]);
}

#[test]
fn litellm() {
    let said = |message: &str, kind: &str, code: &str| {
        json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }).to_string()
    };
    let of = |status: u16, body: String| move |_: Dialect| reply(status, "", &body);
    let limited = said("litellm.RateLimitError: No deployments available", "throttling_error", "429");
    let limited_too = said("litellm.RateLimitError", "internal_server_error", "429");
    let late = said("litellm.Timeout: Connection timed out", "timeout_error", "408");
    let long =
        said("litellm.BadRequestError: litellm.ContextWindowExceededError: too many tokens", "", "400");
    let down = said("litellm.InternalServerError: Connection error.", "", "500");
    let full = said("litellm.InternalServerError: Overloaded", "overloaded_error", "529");
    let key = said("No connected db.", "no_db_connection", "400");
    let model = said(
        "/chat/completions: Invalid model name passed in model=m-1. Call `/v1/models` to view available models for your key.",
        "invalid_request_error",
        "400",
    );
    check(vec![
        openai(row("a limit", None, Some(2), of(429, limited)), LITELLM),
        openai(row("a limit of another type", None, Some(2), of(429, limited_too)), LITELLM),
        openai(row("a time-out", Some(("server_error", 3)), Some(2), of(408, late)), LITELLM),
        openai(row("overflow, no code", Some(("context_overflow", 1)), None, of(400, long)), LITELLM),
        openai(row("upstream down", Some(("server_error", 3)), Some(2), of(500, down)), LITELLM),
        openai(row("529", Some(("server_error", 3)), Some(2), of(529, full)), LITELLM),
        openai(row("a wrong key", Some(("auth", 1)), None, of(400, key)), LITELLM),
        openai(row("an unknown model", Some(("model_not_found", 1)), None, of(400, model)), LITELLM),
        // Its messages say `end_turn` of an answer that was cut: only the schema tells.
        row("a cut that is not told", Some(("validation", 3)), Some(2), |d| d.ended("{\"x\": \"b", "stop"))
            .only(&[Anthropic])
            .task(SCHEMA, JSON),
    ]);
}

#[test]
fn openai_and_compatible() {
    check(vec![
        openai(row("overflow", Some(("context_overflow", 1)), None, json_of(400, r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#)), ""),
        openai(row("an empty purse", Some(("quota", 1)), None, json_of(429, r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#)), ""),
        openai(row("a spend limit", Some(("quota", 1)), None, json_of(429, r#"{"error":{"message":"x","type":"x","code":"project_spend_limit_exceeded"}}"#)), ""),
        openai(row("max_tokens by another name", Some(("bad_request", 2)), Some(2), json_of(400, r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#)).task("params = { max_tokens = 90 }", TEXT), ""),
        openai(row("a refusal", Some(("refusal", 1)), None, stream("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"refusal\":\"I cannot help with that.\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")), ""),
        openai(row("no end marker, but a finish reason", None, Some(1), |d| d.stream(d.opening() + &d.piece(TEXT) + &d.finish("stop"))), ""),
        // Ollama's layer swallows an error on the way: one empty chunk, then the end.
        openai(row("an error swallowed", Some(("cut", 3)), Some(2), |d| d.stream(d.piece(""))), "server = \"ollama\""),
        openai(row("200 and broken JSON", Some(("bad_data", 3)), Some(2), json_of(200, "{\"choices\":[{\"message\":{\"content\":\"It will\"}]")), ""),
        openai(row("an upstream error page", Some(("server_error", 3)), Some(2), |_| {
            vec![send("HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/html\r\n\r\n<html><title>503</title></html>")]
        }), ""),
    ]);
}

#[test]
fn anthropic() {
    let of = |name: &str, always, once, fault: Box<dyn Fn(Dialect) -> Vec<Step> + Send + Sync>| {
        row(name, always, once, fault).only(&[Anthropic])
    };
    check(vec![
        of(
            "overloaded",
            Some(("server_error", 3)),
            Some(2),
            Box::new(json_of(
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
            )),
        ),
        of(
            "a limit",
            None,
            Some(2),
            Box::new(|_| {
                reply(
                    429,
                    "retry-after: 1\r\nanthropic-ratelimit-requests-remaining: 0\r\n",
                    r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit"}}"#,
                )
            }),
        ),
        of(
            "a limit, the reset as a time",
            None,
            Some(2),
            Box::new(|_| {
                reply(
                    429,
                    "date: Sat, 21 Nov 2026 08:00:00 GMT\r\nanthropic-ratelimit-requests-remaining: 0\r\nanthropic-ratelimit-requests-reset: 2026-11-21T08:00:01Z\r\n",
                    r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#,
                )
            }),
        ),
        of(
            "a spend limit",
            Some(("quota", 1)),
            None,
            Box::new(json_of(
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits (spend limit)."}}"#,
            )),
        ),
        of(
            "a spend limit at 429",
            Some(("quota", 1)),
            None,
            Box::new(json_of(
                429,
                r#"{"type":"error","error":{"type":"enforced_spend_limit_reached","message":"x"}}"#,
            )),
        ),
        of(
            "no credit",
            Some(("quota", 1)),
            None,
            Box::new(json_of(
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            )),
        ),
        of(
            "too large, from the gateway",
            Some(("bad_request", 1)),
            None,
            Box::new(|_| {
                vec![send(
                    "HTTP/1.1 413 Payload Too Large\r\ncontent-type: text/html\r\n\r\n<html><head><title>413</title></head></html>",
                )]
            }),
        ),
        of(
            "a prompt too long",
            Some(("context_overflow", 1)),
            None,
            Box::new(json_of(
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            )),
        ),
        of(
            "a model it does not have",
            Some(("model_not_found", 1)),
            None,
            Box::new(json_of(
                404,
                r#"{"type":"error","error":{"type":"not_found_error","message":"model: m-1"}}"#,
            )),
        ),
        of(
            "the context ran full",
            Some(("context_overflow", 1)),
            None,
            Box::new(|d| d.ended("It will", "model_context_window_exceeded")),
        ),
        of("a pause", Some(("cut", 3)), Some(2), Box::new(|d| d.ended("It will", "pause_turn"))),
        of(
            "overloaded on the way",
            Some(("server_error", 3)),
            Some(2),
            Box::new(|d| {
                d.stream(d.opening() + &d.piece("It") + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n")
            }),
        ),
        of(
            "the end marker of another dialect",
            None,
            Some(1),
            Box::new(|d| d.stream(d.opening() + &d.piece(TEXT) + &d.finish("stop") + "data: [DONE]\n\n")),
        ),
        of(
            "the end marker of another dialect, and no stop reason",
            Some(("cut", 3)),
            Some(2),
            Box::new(|d| d.stream(d.opening() + &d.piece("It will") + "data: [DONE]\n\n")),
        ),
        of(
            "the end marker without a stop reason",
            Some(("cut", 3)),
            Some(2),
            Box::new(|d| d.stream(d.opening() + &d.piece("It will") + d.end())),
        ),
        of(
            "a stop reason without the end marker",
            Some(("cut", 3)),
            Some(2),
            Box::new(|d| d.stream(d.opening() + &d.piece("It will") + &d.finish("stop"))),
        ),
    ]);
}

#[test]
fn ollama() {
    let of = |name: &str, always, once, status: u16, body: &'static str| {
        row(name, always, once, json_of(status, body)).only(&[Ollama])
    };
    check(vec![
        of("an unknown model", Some(("model_not_found", 1)), None, 404, r#"{"error":"model \"m-1\" not found, try pulling it first"}"#),
        of("a full queue", None, Some(2), 503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#),
        of("its runner is away", None, Some(2), 400, r#"{"error":"an error was encountered while running the model: dial tcp 127.0.0.1:41641: connect: connection refused"}"#),
        of("its runner died", Some(("server_error", 3)), Some(2), 500, r#"{"error":"model runner has unexpectedly stopped, this may be due to resource limitations or an internal error"}"#),
        of("overflow", Some(("context_overflow", 1)), None, 400, r#"{"error":"the prompt is longer than the context length currently available to the model; shorten the prompt"}"#),
        of("overflow, in llama.cpp's words", Some(("context_overflow", 1)), None, 400, r#"{"error":"{\"error\":{\"code\":400,\"message\":\"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it\",\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":9412,\"n_ctx\":8192}}"}"#),
        of("no thinking there", Some(("bad_request", 1)), None, 400, r#"{"error":"\"m-1\" does not support thinking"}"#),
        row("an error as a line", Some(("server_error", 3)), Some(2), |d| d.stream(d.piece("It") + "{\"error\":\"model runner has unexpectedly stopped\"}\n")).only(&[Ollama]),
        row("31 equal tokens and no last line", Some(("degenerate", 2)), Some(2), |d| d.stream(d.piece("no").repeat(31))).only(&[Ollama]),
        row("cut, and said", Some(("truncated", 3)), Some(2), |d| d.ended("It will", "length")).only(&[Ollama]),
        row("a reason missing, as old ones do", None, Some(1), |d| {
            d.stream(d.piece(TEXT) + "{\"model\":\"m-1\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true}\n")
        })
        .only(&[Ollama]),
        row("events of another dialect", Some(("bad_data", 3)), Some(2), |_| Openai.answer(TEXT)).only(&[Ollama]),
    ]);
}
