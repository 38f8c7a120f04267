use super::*;

#[test]
fn an_error_that_says_nothing_is_none() {
    for (text, wanted) in [
        (r#"{"message":"","type":"","param":null,"code":0}"#, false),
        (r#"{"message":"","code":500}"#, true),
        ("{}", false),
        ("[]", false),
        (r#""""#, false),
        ("false", false),
        ("true", true),
        (r#""it broke""#, true),
        ("1", true),
    ] {
        assert_eq!(is_error(&serde_json::from_str(text).unwrap()), wanted, "{text}");
    }
}

/// Every row of what servers were seen or documented to send.
#[test]
fn every_signal_has_its_class() {
    use Class::*;
    let local = true;
    #[rustfmt::skip]
    let rows: &[(u16, &str, Class)] = &[
        // context overflow, in each server's words
        (400, r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#, ContextOverflow),
        (400, r#"{"error":{"code":400,"message":"request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9412,"n_ctx":8192}}"#, ContextOverflow),
        (500, r#"{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"invalid_request_error"}}"#, ContextOverflow),
        (400, r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.","type":"BadRequestError","code":400}"#, ContextOverflow),
        (400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#, ContextOverflow),
        (400, r#"{"error":"the prompt is longer than the context length currently available to the model"}"#, ContextOverflow),
        (400, r#"{"error":"{\"error\":{\"code\":400,\"message\":\"x\",\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":9,\"n_ctx\":8}}"}"#, ContextOverflow),
        (400, r#"{"error":{"message":"litellm.ContextWindowExceededError: litellm.BadRequestError","type":null,"param":null,"code":"400"}}"#, ContextOverflow),
        (200, r#"{"error":{"message":"Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}}"#, ContextOverflow),
        (200, r#"{"error":"Context size has been exceeded."}"#, ContextOverflow),
        // a runner that died behind Ollama
        (400, r#"{"error":"Post \"http://127.0.0.1:41641/completion\": dial tcp 127.0.0.1:41641: connect: connection refused"}"#, ServerLoading),
        (500, r#"{"error":"connectex: No connection could be made"}"#, ServerLoading),
        (500, r#"{"error":"llama runner process has terminated: model runner has unexpectedly stopped"}"#, ServerError),
        (400, r#"{"error":"The model has crashed without additional information. (Exit code: 6)"}"#, ServerError),
        (400, r#"{"error":"Model unloaded."}"#, ServerLoading),
        (400, r#"{"error":"Model has unloaded or crashed.."}"#, ServerError),
        (400, r#"{"error":"Channel Error"}"#, ServerError),
        (400, r#"{"error":{"message":"Model is unloaded."}}"#, ServerLoading),
        (500, r#"{"error":{"message":"CUDA error: out of memory"}}"#, ServerError),
        // requests that are wrong
        (400, r#"{"error":{"message":"Unknown parameter: 'foo'","type":"invalid_request_error","code":"unknown_parameter"}}"#, BadRequest),
        (400, "", BadRequest),
        (405, "Method Not Allowed", BadRequest),
        (413, "<html><head><title>413 Payload Too Large</title></head></html>", BadRequest),
        (413, r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#, BadRequest),
        (422, r#"{"detail":[{"loc":["body","model"],"msg":"field required"}]}"#, BadRequest),
        // keys and money
        (401, r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#, Auth),
        (401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#, Auth),
        (400, r#"{"error":{"message":"No connected db.","type":"no_db_connection","code":"400"}}"#, Auth),
        (403, r#"{"error":{"message":"Country, region, or territory not supported","code":"unsupported_country_region_territory"}}"#, Auth),
        (403, r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#, Refusal),
        (400, r#"{"error":{"message":"filtered","code":"content_filter"}}"#, Refusal),
        (402, r#"{"error":{"code":402,"message":"This request requires more credits"}}"#, Quota),
        (400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, Quota),
        (400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage spend limit"}}"#, Quota),
        (402, r#"{"type":"error","error":{"type":"billing_error","message":"payment"}}"#, Quota),
        (429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#, Quota),
        (429, r#"{"error":{"message":"x","code":"credit_balance_exhausted"}}"#, Quota),
        (429, r#"{"error":{"message":"x","code":"organization_spend_limit_exceeded"}}"#, Quota),
        (429, r#"{"error":{"message":"x","code":"project_spend_limit_exceeded"}}"#, Quota),
        (429, r#"{"error":{"message":"x","code":"organization_usage_limit_exceeded"}}"#, Quota),
        (429, r#"{"type":"error","error":{"type":"enforced_spend_limit_reached","message":"x"}}"#, Quota),
        // models that are not there
        (404, r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","code":"model_not_found"}}"#, ModelNotFound),
        (404, r#"{"error":"model \"x\" not found, try pulling it first"}"#, ModelNotFound),
        (404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#, ModelNotFound),
        (400, r#"{"error":{"message":"/chat/completions: Invalid model name passed in model=x","code":"400"}}"#, ModelNotFound),
        (404, r#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#, Config),
        (404, "404 page not found", Config),
        // what passes
        (408, r#"{"error":{"message":"Timeout","code":"408"}}"#, ServerError),
        (409, "", ServerError),
        (425, "", ServerError),
        (429, r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#, RateLimit),
        (429, r#"{"error":{"message":"slow","code":"slow_down"}}"#, RateLimit),
        (429, r#"{"error":{"message":"x","type":"throttling_error","code":"429"}}"#, RateLimit),
        (429, r#"{"error":{"message":"x","type":"internal_server_error","code":"429"}}"#, RateLimit),
        (429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#, RateLimit),
        (429, "", RateLimit),
        (499, "", Cancelled),
        (500, r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#, ServerError),
        (502, "<html><title>502 Bad Gateway</title></html>", ServerError),
        (503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, ServerLoading),
        (503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#, RateLimit),
        (503, r#"{"error":{"message":"x","code":"server_is_overloaded"}}"#, ServerError),
        (503, "", ServerError),
        (504, r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#, ServerError),
        (520, "", ServerError),
        (524, "", ServerError),
        (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, ServerError),
        // 200 and an error in it
        (200, r#"{"error":{"code":429,"message":"Provider returned error"}}"#, RateLimit),
        (200, r#"{"error":{"code":"502","message":"Provider disconnected"}}"#, ServerError),
        (200, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, ServerError),
        (200, r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#, RateLimit),
        (200, r#"{"type":"error","error":{"type":"authentication_error","message":"x"}}"#, Auth),
        (200, r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#, Config),
        (200, r#"{"error":{"type":"invalid_request_error","message":"x"}}"#, BadRequest),
        (200, r#"{"error":"something else"}"#, ServerError),
        (200, r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}"#, RateLimit),
        // redirects
        (301, "", Config),
        (307, "<html></html>", Config),
    ];
    for (status, body, wanted) in rows {
        let said = Said::read(body).unwrap_or_default();
        assert_eq!(classify(Some(*status), &said, None, local), *wanted, "{status} {body}");
    }
    let said = |body| Said::read(body).unwrap_or_default();
    // A wait beyond all sense is one of a week, as in a header.
    let asked = |seconds: &str| {
        let body = format!(r#"{{"error":{{"message":"x","metadata":{{"retry_after":{seconds}}}}}}}"#);
        Said::read(&body).unwrap_or_default().retry_after.map(|wait| wait.as_secs_f64())
    };
    assert_eq!((asked("2.5"), asked("18e18"), asked("1e300")), (Some(2.5), Some(604_800.0), Some(604_800.0)));
    assert_eq!((asked("-1"), asked("null")), (None, None));
    let wait = Some(Duration::from_secs(3));
    assert_eq!(classify(Some(402), &said(r#"{"error":{"code":402}}"#), wait, false), RateLimit);
    assert_eq!(classify(Some(400), &said(r#"{"error":"dial tcp: x"}"#), None, false), ServerError);
}

#[test]
fn schemas_that_are_refused_are_known() {
    for (status, body, wanted) in [
        (400, r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#, true),
        (
            400,
            r#"{"error":{"message":"Invalid schema for response_format 'x': In context=(), …","code":null}}"#,
            true,
        ),
        (400, r#"{"error":{"message":"This response_format type is unavailable now"}}"#, true),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"output_config.format.schema: x"}}"#,
            true,
        ),
        (400, r#"{"error":{"message":"Unsupported value: 'temperature'"}}"#, false),
        (401, r#"{"error":{"message":"response_format"}}"#, false),
    ] {
        assert_eq!(rejects_schema(Some(status), &Said::read(body).unwrap()), wanted, "{body}");
    }
}

#[test]
fn transport_errors_have_classes() {
    use std::io::ErrorKind as K;
    assert_eq!(of_io(K::ConnectionRefused, false, true), Class::ServerLoading);
    assert_eq!(of_io(K::ConnectionRefused, false, false), Class::Connection);
    assert_eq!(of_io(K::ConnectionReset, false, true), Class::Connection);
    assert_eq!(of_io(K::UnexpectedEof, false, true), Class::Connection);
    assert_eq!(of_io(K::BrokenPipe, false, true), Class::Connection);
    assert_eq!(of_io(K::UnexpectedEof, true, true), Class::Cut);
}
