//! JSON-RPC as the Model Context Protocol has it over standard input and output: one message a line. Two generations are
//! spoken: with a handshake (`initialize`), and without one, where each request says its version. Pure: text to data
//! and back.

use serde_json::{Map, Value, json};

/// The version without a handshake.
pub const MODERN: &str = "2026-07-28";
/// The versions with one, the newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// A message is no longer than this.
pub const LONGEST: usize = 4 << 20;

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but no request.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The method's parameters are wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// The server's own fault.
pub const INTERNAL_ERROR: i64 = -32603;
/// A version that is not spoken here.
pub const UNSUPPORTED_VERSION: i64 = -32022;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// A request that wants an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A string or a number, given back as it came.
    pub id: Value,
    /// What is wanted.
    pub method: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// It said its version itself: no handshake.
    pub modern: bool,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// Something that wants no answer.
    Notification {
        /// What happened.
        method: String,
        /// Its parameters.
        params: Map<String, Value>,
    },
    /// An answer to something never asked, or an empty line.
    Nothing,
    /// Something wrong, and the answer to it.
    Wrong(Value),
}

/// Reads a line.
pub fn read(line: &[u8]) -> Incoming {
    // Some programs begin what they write with a mark of the encoding.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if line.iter().all(u8::is_ascii_whitespace) {
        return Incoming::Nothing;
    }
    let nobody = Value::Null;
    let message = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(message)) => message,
        Ok(Value::Array(_)) => {
            return Incoming::Wrong(error(
                &nobody,
                INVALID_REQUEST,
                "batches are not taken: one message a line",
                None,
            ));
        }
        Ok(_) => return Incoming::Wrong(error(&nobody, INVALID_REQUEST, "a message is a JSON object", None)),
        Err(wrong) => {
            return Incoming::Wrong(error(
                &nobody,
                PARSE_ERROR,
                &format!("this line is not JSON: {wrong}"),
                None,
            ));
        }
    };
    let id = message.get("id").cloned();
    let known = id.clone().filter(|id| id.is_string() || id.is_number());
    let wrong =
        |code, text: &str| Incoming::Wrong(error(known.as_ref().unwrap_or(&Value::Null), code, text, None));
    let Some(method) = message.get("method") else {
        let is_answer = message.contains_key("result") || message.contains_key("error");
        return if is_answer { Incoming::Nothing } else { wrong(INVALID_REQUEST, "`method` is missing") };
    };
    let Some(method) = method.as_str().filter(|_| message.get("jsonrpc") == Some(&json!("2.0"))) else {
        return wrong(INVALID_REQUEST, "wanted `\"jsonrpc\": \"2.0\"` and a `method` that is a string");
    };
    let params = match message.get("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params.clone(),
        // Of a notification nobody is told.
        Some(_) if id.is_none() => return Incoming::Nothing,
        Some(_) => return wrong(INVALID_PARAMS, "`params` must be an object"),
    };
    let method = method.to_owned();
    if id.is_none() {
        return Incoming::Notification { method, params };
    }
    let Some(id) = known.clone() else {
        return wrong(INVALID_REQUEST, "`id` must be a string or a number");
    };
    let version = params.get("_meta").and_then(|meta| meta.get(VERSION_KEY));
    // The handshake is of the old generation, whatever else is said.
    let version = version.filter(|_| method != "initialize");
    match version {
        Some(version) if version != MODERN => {
            let data = json!({ "supported": [MODERN], "requested": version });
            Incoming::Wrong(error(&id, UNSUPPORTED_VERSION, "Unsupported protocol version", Some(data)))
        }
        version => {
            let modern = version.is_some() || method == "server/discover";
            Incoming::Request(Request { id, method, params, modern })
        }
    }
}

/// The answer to a request that could not be carried out as such.
pub fn error(id: &Value, code: i64, message: &str, data: Option<Value>) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// The answer to a request. Without a handshake it says that it is whole, and who gives it. That of a tool always says who:
/// what is kept of a conversation is often its answers alone.
pub fn answer(request: &Request, mut result: Value) -> Value {
    if request.modern {
        result["resultType"] = json!("complete");
    }
    if request.modern || request.method == "tools/call" {
        result["_meta"] = json!({ SERVER_KEY: server_info() });
    }
    json!({ "jsonrpc": "2.0", "id": request.id, "result": result })
}

/// [`answer`] with what stays as it is while the server runs.
pub fn lasting_answer(request: &Request, mut result: Value) -> Value {
    if request.modern {
        result["ttlMs"] = json!(3_600_000);
        result["cacheScope"] = json!("private");
    }
    answer(request, result)
}

/// Who answers.
pub fn server_info() -> Value {
    json!({ "name": "planexe", "title": "planexe", "version": env!("CARGO_PKG_VERSION") })
}

/// The answer to the handshake: the version that was asked for if it is known, else the newest that has one.
pub fn handshake(params: &Map<String, Value>, instructions: &str) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version = LEGACY.iter().find(|version| asked == Some(version)).unwrap_or(&LEGACY[0]);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": server_info(),
        "instructions": instructions,
    })
}

/// The answer to `server/discover`.
pub fn discovered(instructions: &str) -> Value {
    json!({
        "supportedVersions": [MODERN],
        "capabilities": { "tools": { "listChanged": false } },
        "instructions": instructions,
    })
}

/// The result of a tool: the data, and the same as text for clients that know no data. An error is text alone: it is
/// not of the tool's output schema, and clients that hold data against that would show the agent their own complaint.
pub fn tool_result(data: Value, is_error: bool) -> Value {
    let content = json!([{ "type": "text", "text": data.to_string() }]);
    match is_error {
        true => json!({ "content": content, "isError": true }),
        false => json!({ "content": content, "structuredContent": data, "isError": false }),
    }
}

/// How far a call is, for a client that asked to be told.
pub fn progress(token: &Value, progress: f64, total: f64, message: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": { "progressToken": token, "progress": progress, "total": total, "message": message },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match read(text.as_bytes()) {
            Incoming::Request(request) => request,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn lines_that_are_wrong_are_answered_with_a_code() {
        for (line, code, id) in [
            ("{", PARSE_ERROR, json!(null)),
            ("\u{0}", PARSE_ERROR, json!(null)),
            ("[]", INVALID_REQUEST, json!(null)),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, INVALID_REQUEST, json!(null)),
            ("3", INVALID_REQUEST, json!(null)),
            (r#"{"jsonrpc":"2.0","id":7}"#, INVALID_REQUEST, json!(7)),
            (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, INVALID_REQUEST, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":3}"#, INVALID_REQUEST, json!(7)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, INVALID_REQUEST, json!(null)),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, INVALID_REQUEST, json!(null)),
            (r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":[1]}"#, INVALID_PARAMS, json!("a")),
            (
                r#"{"jsonrpc":"2.0","id":0,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01"}}}"#,
                UNSUPPORTED_VERSION,
                json!(0),
            ),
        ] {
            let Incoming::Wrong(answer) = read(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}");
        }
        assert!(matches!(read(b"\xff\xfe"), Incoming::Wrong(_)));
    }

    #[test]
    fn what_wants_no_answer_gets_none() {
        for line in [
            "",
            "  \r",
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","method":"x","params":3}"#,
        ] {
            assert_eq!(read(line.as_bytes()), Incoming::Nothing, "{line}");
        }
        let read = read(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#);
        let params = json!({ "requestId": 0 }).as_object().cloned().unwrap();
        assert_eq!(read, Incoming::Notification { method: "notifications/cancelled".into(), params });
    }

    #[test]
    fn ids_come_back_as_they_came() {
        for id in [json!(0), json!(-3), json!("0"), json!(""), json!(18_446_744_073_709_551_615_u64)] {
            let line = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
            let request = request(&line);
            assert_eq!(answer(&request, json!({})), json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
        }
    }

    #[test]
    fn both_generations() {
        for (asked, given) in [
            ("2025-11-25", "2025-11-25"),
            ("2024-11-05", "2024-11-05"),
            ("2099-01-01", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
        ] {
            let params = json!({ "protocolVersion": asked }).as_object().cloned().unwrap();
            assert_eq!(handshake(&params, "")["protocolVersion"], given, "{asked}");
        }
        let old = request(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        assert_eq!(lasting_answer(&old, json!({ "tools": [] }))["result"], json!({ "tools": [] }));
        let call = request(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
        let who = json!({ "io.modelcontextprotocol/serverInfo": server_info() });
        assert_eq!(answer(&call, json!({}))["result"], json!({ "_meta": who }));
        let new = request(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        let result = lasting_answer(&new, json!({ "tools": [] }))["result"].clone();
        assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("private")));
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "planexe");
        assert!(request(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#).modern);
        assert_eq!(request("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r").method, "ping");
    }
}
