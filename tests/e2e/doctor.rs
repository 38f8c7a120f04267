//! `planexe doctor` against servers in every state: what it finds, and what it says to type.

use serde_json::{Value, json};

use super::faults::space;
use crate::support::wire::Dialect::{self, Anthropic, Ollama, Openai};
use crate::support::wire::{Asked, Step, Wire, reply};
use crate::support::{Out, Space};

/// The findings of one kind.
fn findings(space: &Space, arguments: &[&str], check: &str) -> (Vec<Value>, Out) {
    let all: Vec<&str> = ["doctor", "--json"].iter().chain(arguments).copied().collect();
    let out = space.run(&all);
    let found = out.json()["findings"].as_array().expect("findings").clone();
    (found.into_iter().filter(|finding| finding["check"] == check).collect(), out)
}

type Gets = fn(&Asked) -> Vec<Step>;

struct Row {
    name: &'static str,
    dialect: Dialect,
    keys: &'static str,
    gets: Gets,
    /// The kind of finding, its grade, words of the message, words of the remedy.
    wanted: (&'static str, &'static str, &'static str, &'static str),
}

fn openai_list(_: &Asked) -> Vec<Step> {
    reply(
        200,
        "",
        r#"{"object":"list","data":[{"id":"m-1","object":"model"},{"id":"other","object":"model"}]}"#,
    )
}

fn others(_: &Asked) -> Vec<Step> {
    reply(200, "", r#"{"object":"list","data":[{"id":"qwen-7b"},{"id":"gemma-9b"}]}"#)
}

fn refused(_: &Asked) -> Vec<Step> {
    reply(401, "", r#"{"error":{"message":"wrong key","type":"authentication_error"}}"#)
}

fn loading(_: &Asked) -> Vec<Step> {
    reply(503, "", r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#)
}

fn nothing(_: &Asked) -> Vec<Step> {
    reply(404, "", "{\"error\":\"no such path\"}")
}

fn llama(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /props" => reply(
            200,
            "",
            r#"{"default_generation_settings":{"n_ctx":4096},"total_slots":1,"build_info":"b7000-abc"}"#,
        ),
        _ => reply(
            200,
            "",
            r#"{"object":"list","data":[{"id":"any.gguf","owned_by":"llamacpp","meta":{"n_ctx":4096,"n_ctx_train":32768}}]}"#,
        ),
    }
}

fn ollama(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /api/tags" => reply(200, "", r#"{"models":[{"name":"m-1:latest"}]}"#),
        "GET /api/version" => reply(200, "", r#"{"version":"0.33.3"}"#),
        "GET /api/ps" => reply(200, "", r#"{"models":[{"name":"m-1:latest","context_length":4096}]}"#),
        _ => nothing(asked),
    }
}

fn vllm(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /version" => reply(200, "", r#"{"version":"0.12.0"}"#),
        _ => reply(
            200,
            "",
            r#"{"object":"list","data":[{"id":"m-1","owned_by":"vllm","max_model_len":8192}]}"#,
        ),
    }
}

fn lm_studio(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /api/v1/models" => reply(
            200,
            "",
            r#"{"models":[{"key":"idle","loaded_instances":[]},{"key":"m-1","loaded_instances":[{"id":"m-1:2","config":{"context_length":4096}}]}]}"#,
        ),
        _ => openai_list(asked),
    }
}

fn ollama_idle(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /api/ps" => reply(200, "", r#"{"models":[{"name":"other:latest","context_length":4096}]}"#),
        _ => ollama(asked),
    }
}

fn lm_studio_idle(asked: &Asked) -> Vec<Step> {
    match asked.line.as_str() {
        "GET /api/v1/models" => reply(
            200,
            "",
            r#"{"models":[{"key":"other","loaded_instances":[{"id":"other"}]},{"key":"m-1","loaded_instances":[]}]}"#,
        ),
        _ => openai_list(asked),
    }
}

#[test]
fn every_state_of_a_server_has_its_remedy() {
    let rows = [
        Row {
            name: "well",
            dialect: Openai,
            keys: "",
            gets: openai_list,
            wanted: ("model", "ok", "the model is there", ""),
        },
        Row {
            name: "not there",
            dialect: Openai,
            keys: "",
            gets: others,
            wanted: (
                "model",
                "fail",
                "`m-1` is not among the 2 models",
                "set `model` to one that is there: qwen-7b, gemma-9b",
            ),
        },
        Row {
            name: "wrong key",
            dialect: Openai,
            keys: "",
            gets: refused,
            wanted: ("model", "fail", "does not take the key", "planexe keys"),
        },
        Row {
            name: "wrong key",
            dialect: Anthropic,
            keys: "",
            gets: refused,
            wanted: ("model", "fail", "does not take the key", "planexe keys"),
        },
        Row {
            name: "loading",
            dialect: Openai,
            keys: "server = \"llama.cpp\"",
            gets: loading,
            wanted: ("model", "warn", "Loading model", "a build waits"),
        },
        Row {
            name: "a wrong path",
            dialect: Openai,
            keys: "",
            gets: nothing,
            wanted: ("model", "warn", "HTTP 404", "/v1"),
        },
        Row {
            name: "a small context",
            dialect: Openai,
            keys: "context_window = 32768",
            gets: llama,
            wanted: (
                "context",
                "fail",
                "holds 4096 tokens, the pipeline says 32768",
                "context_window = 4096",
            ),
        },
        Row {
            name: "a context not said",
            dialect: Openai,
            keys: "",
            gets: vllm,
            wanted: ("context", "warn", "8192", "`context_window = 8192` under [models.m]"),
        },
        Row {
            name: "what LM Studio has loaded",
            dialect: Openai,
            keys: "context_window = 32768\nserver = \"lmstudio\"",
            gets: lm_studio,
            wanted: ("context", "fail", "holds 4096 tokens", "context_window = 4096"),
        },
        Row {
            name: "LM Studio has the model loaded",
            dialect: Openai,
            keys: "server = \"lmstudio\"",
            gets: lm_studio,
            wanted: ("model", "ok", "the model is there, and loaded", ""),
        },
        Row {
            name: "LM Studio has it not loaded",
            dialect: Openai,
            keys: "server = \"lmstudio\"",
            gets: lm_studio_idle,
            wanted: ("model", "ok", "it is not loaded", ""),
        },
        Row {
            name: "Ollama has the model loaded",
            dialect: Ollama,
            keys: "",
            gets: ollama,
            wanted: ("model", "ok", "the model is there, and loaded", ""),
        },
        Row {
            name: "Ollama has it not loaded",
            dialect: Ollama,
            keys: "",
            gets: ollama_idle,
            wanted: ("model", "ok", "it is not loaded", ""),
        },
        Row {
            name: "too many at once",
            dialect: Openai,
            keys: "max_concurrent = 4",
            gets: llama,
            wanted: ("slots", "warn", "1 call at once", "max_concurrent = 1"),
        },
        Row {
            name: "Ollama",
            dialect: Ollama,
            keys: "context_window = 4096",
            gets: ollama,
            wanted: ("context", "ok", "4096", ""),
        },
        Row {
            name: "Ollama's version",
            dialect: Ollama,
            keys: "",
            gets: ollama,
            wanted: ("model", "ok", "0.33.3", ""),
        },
        Row {
            name: "any name is llama.cpp's model",
            dialect: Openai,
            keys: "",
            gets: llama,
            wanted: ("model", "ok", "b7000-abc", ""),
        },
    ];
    for row in rows {
        let server = Wire::new(move |_| row.dialect.answer("x")).gets(row.gets);
        let space = space(&server, row.dialect, row.keys);
        let (check, grade, message, remedy) = row.wanted;
        let (found, out) = findings(&space, &[], check);
        assert_eq!(found.len(), 1, "{} ({:?})\n{out}", row.name, row.dialect);
        assert_eq!(found[0]["grade"], grade, "{}\n{out}", row.name);
        let text = |name: &str| found[0][name].as_str().unwrap_or_default().to_owned();
        assert!(text("message").contains(message), "{}: {}", row.name, text("message"));
        assert!(text("remedy").contains(remedy), "{}: {}", row.name, text("remedy"));
        assert_eq!(
            remedy.is_empty(),
            found[0].get("remedy").is_none(),
            "{}: a remedy where one is needed",
            row.name
        );
        let (fails, code) = (out.json()["healthy"] == false, out.code);
        assert_eq!((fails, code), (grade == "fail", i32::from(grade == "fail")), "{}\n{out}", row.name);
        assert_eq!(server.count(), 0, "{}: nothing is paid for unless asked", row.name);
    }
}

#[test]
fn a_server_that_is_not_there() {
    let gone = Wire::new(|_| vec![]);
    let space = space(&gone, Openai, "");
    gone.stop_listening();
    let (found, out) = findings(&space, &[], "model");
    assert_eq!((&found[0]["grade"], out.code), (&json!("fail"), 1));
    assert!(found[0]["message"].as_str().expect("a message").contains("nothing listens"), "{out}");
    assert!(found[0]["remedy"].as_str().expect("a remedy").contains("start the server"), "{out}");
    // Nobody is asked offline.
    let (found, _) = findings(&space, &["--offline"], "model");
    assert!(found.is_empty());
    // A key that is not set is found before anybody is asked.
    space.edit("pipeline.toml", "model = \"m-1\"", "model = \"m-1\"\napi_key_env = \"OPENAI_API_KEY\"");
    space.edit("pipeline.toml", &gone.base_url(Openai), "https://api.openai.com/v1");
    let (found, out) = findings(&space, &[], "keys");
    assert_eq!(found[0]["grade"], "fail", "{out}");
    assert!(found[0]["remedy"].as_str().expect("a remedy").contains("export OPENAI_API_KEY"), "{out}");
}

#[test]
fn one_call_tells_whether_a_model_keeps_to_a_schema() {
    let refuses = |asked: &Asked| match asked.body.get("response_format").is_some() {
        true => reply(400, "", r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#),
        false => Openai.answer("{\"ok\": true}"),
    };
    type Script = Box<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;
    let rows: Vec<(&str, Script, &str, &str, usize)> = vec![
        ("keeps to it", Box::new(|_| Openai.answer("{\"ok\": true}")), "ok", "keeps to a schema", 1),
        ("does not", Box::new(|_| Openai.answer("Sure, it is ok!")), "warn", "does not keep to a schema", 1),
        ("in words", Box::new(refuses), "ok", "takes no schema", 2),
        (
            "refuses",
            Box::new(|_| reply(429, "", &Openai.error("insufficient_quota", "no money"))),
            "fail",
            "quota",
            1,
        ),
    ];
    for (name, script, grade, message, requests) in rows {
        let server = Wire::new(script).gets(openai_list);
        let space = space(&server, Openai, "");
        let before = space.tree();
        let (found, out) = findings(&space, &["--call"], "call");
        assert_eq!(found[0]["grade"], grade, "{name}\n{out}");
        assert!(found[0]["message"].as_str().expect("a message").contains(message), "{name}\n{out}");
        assert_eq!(server.count(), requests, "{name}");
        assert_eq!(space.tree(), before, "{name}");
    }
}

#[test]
fn programs_are_looked_for_where_the_system_does() {
    let space = Space::new();
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n");
    for (path, exit, said) in [(Some("/nowhere"), 1, "is not on the PATH"), (None, 0, "1 program found")] {
        let mut doctor = space.command(&["doctor"]);
        match path {
            Some(path) => doctor.env("PATH", path),
            None => doctor.env_remove("PATH"),
        };
        space.start(doctor).wait().exits(exit).says(&[said]);
    }
}

#[test]
fn what_stands_in_the_way_of_a_model_is_told_with_its_remedy() {
    let nobody = crate::support::own_port().local_addr().expect("an address");
    let rows = [
        (
            format!(
                "api = \"openai\"\nserver = \"lmstudio\"\nbase_url = \"http://{nobody}/v1\"\nmodel = \"m\""
            ),
            "fail",
            "lms server start",
        ),
        (format!("api = \"ollama\"\nbase_url = \"http://{nobody}\"\nmodel = \"m\""), "fail", "ollama serve"),
        (
            "api = \"openai\"\nbase_url = \"http://models.example/v1\"\nmodel = \"m\"".to_owned(),
            "fail",
            "the network, the proxy and the `base_url`",
        ),
        ("api = \"simulated\"".to_owned(), "ok", ""),
    ];
    for (table, grade, remedy) in rows {
        let space = Space::new();
        space.write(
            "pipeline.toml",
            format!(
                "[models.m]\n{table}\n\n[task.a]\nmodel = \"m\"\noutputs = [\"a.txt\"]\nprompt = \"a b\"\n"
            ),
        );
        space.set_env("HTTP_PROXY", format!("http://{nobody}"));
        let (found, out) = findings(&space, &[], "model");
        assert_eq!((found.len(), &found[0]["grade"]), (1, &json!(grade)), "{out}");
        assert!(found[0]["remedy"].as_str().unwrap_or_default().contains(remedy), "{out}");
    }
}

#[test]
fn where_commands_run_is_looked_at() {
    let server = Wire::new(|_| Vec::new())
        .gets(|asked| reply(if asked.line == "GET /up" { 200 } else { 503 }, "", "{}"));
    let space = Space::new();
    let base = format!("http://{}", server.address());
    space.write(
        "pipeline.toml",
        format!(
            "[executors.cluster]\nkind = \"slurm\"\n\n[executors.queue]\nkind = \"command\"\nsubmit = [\"no-such-hq\", \"$job\"]\n\
             status = [\"true\"]\ncancel = [\"true\"]\nstates = {{ ended = [\"FINISHED\"] }}\n\n\
             [services.up]\ncommand = [\"true\"]\nready = {{ url = \"{base}/up\" }}\n\n\
             [services.down]\ncommand = \"true\"\nready = {{ url = \"{base}/down\" }}\nexecutor = \"cluster\"\n\n\
             [services.missing]\ncommand = [\"no-such-server\"]\nready = {{ command = [\"true\"] }}\n\n\
             [task.a]\noutputs = [\"a.txt\"]\ncommand = \"true > $out\"\nexecutor = \"cluster\"\n\n\
             [task.b]\noutputs = [\"b.txt\"]\ncommand = \"true > $out\"\nexecutor = \"queue\"\n\n\
             [task.c]\noutputs = [\"c.txt\"]\ncommand = \"true > $out\"\nisolate = true\n"
        ),
    );
    let said = |check: &str| {
        let (found, _) = findings(&space, &[], check);
        found
            .iter()
            .map(|it| format!("{} {}", it["grade"].as_str().unwrap(), it["message"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(said("executors")[1], "fail `no-such-hq` of executor `queue` is not on the PATH");
    assert_eq!(
        said("services"),
        [
            "ok `up` is up already: a build uses it, and leaves it as it is",
            "ok `down` is started on `cluster` when a task needs it",
            "fail `no-such-server` of service `missing` is not on the PATH"
        ]
    );
    assert_eq!(said("isolated"), ["fail an isolated task needs a git work tree, and the run is in none"]);
    space.edit("pipeline.toml", "no-such-hq", "true");
    assert_eq!(said("executors")[1], "ok `queue` (command)");
    // A git that is too old, or none.
    space.write("../old/git", "#!/bin/sh\necho git version 2.1.0\n");
    std::fs::set_permissions(space.path("../old/git"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a program");
    space.set_env("PATH", space.path("../old"));
    assert_eq!(said("isolated"), ["fail git 2.1"]);
    space.set_env("PATH", "/nowhere");
    assert_eq!(said("executors")[0], "fail `sbatch` of executor `cluster` is not on the PATH");
    assert!(said("isolated")[0].starts_with("fail "), "{:?}", said("isolated"));
}
