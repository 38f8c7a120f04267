//! `planexe keys`: which key may go to which host.

use serde_json::json;

use crate::support::{FakeLlm, Space};

/// Two tasks, one after the other.
const CHAIN: &str = r#"
[task.a]
inputs = ["plan.txt"]
outputs = ["a.txt"]
prompt = "TASK=a\nSummarise: {{ plan }}"

[task.b]
inputs = ["a.txt"]
outputs = ["b.txt"]
prompt = "TASK=b\nGo on from: {{ a }}"
"#;

const MODELS: &str = r#"
[models.bound]
api = "anthropic"
model = "claude"
api_key_env = "ANTHROPIC_API_KEY"

[models.elsewhere]
api = "openai"
base_url = "https://llm.example.org/v1"
model = "x"
api_key_env = "A_KEY"

[models.plain]
api = "openai"
base_url = "http://llm.example.org/v1"
model = "x"
api_key_env = "A_KEY"

[models.local]
api = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "x"

[task.t]
outputs = ["t.txt"]
prompt = "say hello"
model = "elsewhere"
"#;

fn space() -> Space {
    let space = Space::new();
    space.write("pipeline.toml", MODELS);
    space.set_env("A_KEY", "canary-5f1e");
    space
}

#[test]
fn a_key_is_bound_seen_and_let_go() {
    let space = space();
    let refused = space.run(&["build"]).exits(2);
    let refused =
        refused.says(&["not bound to `llm.example.org`", "planexe keys bind A_KEY llm.example.org"]);
    assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);

    space.run(&["keys", "bind", "A_KEY", "llm.example.org"]).exits(0).says(&["A_KEY", "llm.example.org"]);
    let listed = space.run(&["keys", "--json"]).exits(0).json();
    let of = |model: &str| {
        let models = listed["models"].as_array().expect("models");
        models.iter().find(|row| row["model"] == model).unwrap_or_else(|| panic!("no {model}")).clone()
    };
    assert_eq!(listed["bindings"], json!([{ "env": "A_KEY", "host": "llm.example.org" }]));
    assert_eq!(
        (of("elsewhere")["bound"].clone(), of("elsewhere")["set"].clone()),
        (json!(true), json!(true))
    );
    assert_eq!(of("bound")["host"], "api.anthropic.com");
    assert_eq!((of("bound")["bound"].clone(), of("bound")["set"].clone()), (json!(true), json!(false)));
    assert_eq!(of("plain")["bound"], false, "plain http is not the host that was bound");
    assert_eq!(of("local")["variable"], json!(null));

    let table = space.run(&["keys"]).exits(0);
    for row in ["elsewhere", "may go to", "no key"] {
        assert!(table.stdout.contains(row), "{}", table.stdout);
    }
    assert!(!(table.stdout + &table.stderr).contains("canary"));

    space.run(&["keys", "unbind", "A_KEY", "llm.example.org"]).exits(0).says(&["any more"]);
    space.run(&["keys", "unbind", "A_KEY", "llm.example.org"]).exits(0).says(&["was not bound"]);
    space.run(&["build"]).exits(2).says(&["not bound"]);
}

#[test]
fn the_file_of_bindings_is_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let space = space();
    space.run(&["keys", "bind", "A_KEY", "llm.example.org:8443"]).exits(0);
    let file = space.root().join("home/.config/planexe/keys.toml");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).expect("keys.toml").permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().expect("a folder")), 0o700);
    let text = std::fs::read_to_string(&file).expect("keys.toml");
    assert!(text.contains("llm.example.org:8443") && !text.contains("canary"), "{text}");

    // A link to where settings are kept stays one.
    let kept = space.root().join("home/dotfiles.toml");
    std::fs::rename(&file, &kept).expect("kept elsewhere");
    std::os::unix::fs::symlink("../../dotfiles.toml", &file).expect("a link");
    space.run(&["keys", "bind", "A_KEY", "third.example.org"]).exits(0);
    assert!(file.is_symlink() && mode(&kept) == 0o600);
    assert!(std::fs::read_to_string(&kept).expect("keys.toml").contains("third.example.org"));

    // What cannot be read is not written over.
    std::fs::write(&file, "[[bind]\n").expect("keys.toml");
    space.run(&["keys", "bind", "A_KEY", "other.example.org"]).exits(2).says(&["keys.toml"]);
    assert_eq!(std::fs::read_to_string(&file).expect("keys.toml"), "[[bind]\n");
    space.run(&["keys"]).exits(2).says(&["keys.toml"]);
}

#[test]
fn bindings_need_no_pipeline_but_a_variable_and_a_host() {
    let space = Space::new();
    space.run(&["keys"]).exits(0).says(&["vendor"]);
    space.run(&["keys", "bind", "A_KEY", "llm.example.org"]).exits(0);
    let listed = space.run(&["keys"]).exits(0);
    assert!(listed.stdout.contains("llm.example.org"), "{}", listed.stdout);
    assert_eq!(space.run(&["keys", "--json"]).exits(0).json()["models"], json!([]));
    for (variable, host) in
        [("A KEY", "llm.example.org"), ("", "llm.example.org"), ("A_KEY", ""), ("A_KEY", "a b")]
    {
        space.run(&["keys", "bind", variable, host]).exits(2).says(&["error"]);
    }
    assert_eq!(
        space.run(&["keys", "--json"]).exits(0).json()["bindings"].as_array().expect("bindings").len(),
        1
    );
}

#[test]
fn what_needs_no_binding_is_said_and_not_written() {
    let space = Space::new();
    let bind = |words: &[&str]| space.run(&[&["keys"], words].concat()).exits(0);
    bind(&["bind", "OPENAI_API_KEY", "api.openai.com"])
        .says(&["may go to `api.openai.com` without being bound"]);
    bind(&["bind", "A_KEY", "https://llm.example.org/v1"]).says(&["may go to `llm.example.org` now"]);
    bind(&["bind", "A_KEY", "llm.example.org"]).says(&["may go to `llm.example.org` already"]);
    bind(&["unbind", "OPENAI_API_KEY", "api.openai.com"]).says(&["the vendor's own and needs no binding"]);
    let bound = bind(&["bind", "B_KEY", "llm.example.org", "--json"]).json();
    assert_eq!(
        bound["bindings"],
        json!([{ "env": "A_KEY", "host": "llm.example.org" }, { "env": "B_KEY", "host": "llm.example.org" }])
    );
    space
        .run(&["keys", "bind", "A_KEY", "http://llm.example.org"])
        .exits(2)
        .says(&["no key goes over plain http"]);
}

#[test]
fn bindings_made_at_once_are_all_made() {
    let space = Space::new();
    let names: Vec<String> = (0..8).map(|n| format!("KEY_{n}")).collect();
    let binds: Vec<_> =
        names.iter().map(|name| space.spawn(&["keys", "bind", name, "llm.example.org"])).collect();
    for bind in binds {
        bind.wait().exits(0);
    }
    let bindings = space.run(&["keys", "--json"]).exits(0).json()["bindings"].clone();
    let mut bound: Vec<&str> = bindings
        .as_array()
        .expect("bindings")
        .iter()
        .map(|one| one["env"].as_str().expect("a name"))
        .collect();
    bound.sort_unstable();
    assert_eq!(bound, names);
}

#[test]
fn no_port_of_this_machine_is_given_a_key_unasked() {
    let server = FakeLlm::new();
    let space = Space::new();
    space.pipeline_with(&server, "api_key_env = \"OPENAI_API_KEY\"", CHAIN);
    space.write("plan.txt", "A bridge.\n");
    // Without a key there is nothing to refuse.
    space.run(&["build", "a"]).exits(0);
    let asked = server.total();
    assert_eq!(server.last("a").headers.get("authorization"), None);

    space.set_env("OPENAI_API_KEY", "sk-canary-5f1e");
    let place = server.address().to_string();
    let bind = format!("planexe keys bind OPENAI_API_KEY {place}");
    let refused = space.run(&["build"]).exits(2);
    refused.says(&[&bind]).says_nothing_of(&["sk-canary"]);
    assert_eq!(server.total(), asked, "no call was made");
    // Another port that was bound does not count.
    space.run(&["keys", "bind", "OPENAI_API_KEY", "127.0.0.1:1"]).exits(0);
    space.run(&["build"]).exits(2).says(&[&bind]);
    space.run(&["keys", "bind", "OPENAI_API_KEY", &place]).exits(0);
    space.build();
    assert_eq!(server.last("b").headers.get("authorization"), Some(&"Bearer sk-canary-5f1e".to_owned()));

    // A model server's own variable is meant for this machine, whatever the port; and for no other.
    let own = Space::new();
    own.pipeline_with(&server, "api_key_env = \"LM_STUDIO_API_KEY\"", CHAIN);
    own.write("plan.txt", "A tunnel.\n");
    own.set_env("LM_STUDIO_API_KEY", "lm-canary-5f1e");
    own.build();
    assert_eq!(server.last("b").headers.get("authorization"), Some(&"Bearer lm-canary-5f1e".to_owned()));
    own.edit("pipeline.toml", &server.base_url(), "http://203.0.113.7:1234/v1");
    own.run(&["build", "-B"]).exits(2).says(&["plain http", "203.0.113.7:1234"]);
    own.run(&["keys", "bind", "LM_STUDIO_API_KEY", "localhost:1234"]).exits(0).says(&["without being bound"]);
}

#[test]
fn a_binding_is_of_no_use_to_a_name_that_stands_for_another_machine() {
    let space = space();
    // Nobody answers for these names, so nothing proves that they are this machine.
    for host in ["127.0.0.1.evil.example", "localhost.evil.example", "llm.example.org"] {
        space.set_env("PLANEXE_KEY_HOSTS", format!("A_KEY={host}:9999"));
        space.edit("pipeline.toml", "https://llm.example.org/v1", &format!("http://{host}:9999/v1"));
        space.run(&["build"]).exits(2).says(&["plain http", host]);
        space.edit("pipeline.toml", &format!("http://{host}:9999/v1"), "https://llm.example.org/v1");
    }
}

/// Variables that hold keys: a vendor's, a local server's, one bound in the environment, one bound in a file, one filed,
/// one that a model names, and those of webhooks.
const HELD: [&str; 11] = [
    "OPENAI_API_KEY",
    "LM_STUDIO_API_KEY",
    "CORP_KEY",
    "BOUND_KEY",
    "FILED_KEY",
    "NAMED_KEY",
    "OTHER_PROFILES_KEY",
    "REPLACED_KEY",
    "HOOK_URL",
    "HOOK_SECRET",
    "PLANEXE_WEBHOOK_SECRET",
];

#[test]
fn programs_see_no_variable_that_holds_a_key() {
    use std::os::unix::fs::PermissionsExt;
    let space = Space::new();
    space.write(
        "pipeline.toml",
        r#"
[pipeline]
plan = "plan.txt"
[models.m]
api = "command"
command = ["sh", "-c", "env > ../model.env; cat > /dev/null; echo an answer"]
api_key_env = "MODEL_KEY"
[models.unused]
api = "openai"
base_url = "http://127.0.0.1:1/v1"
model = "m"
api_key_env = "REPLACED_KEY"
[profiles.here.models.unused]
api_key_env = "NAMED_KEY"
[profiles.there.models.unused]
api_key_env = "OTHER_PROFILES_KEY"
[webhooks.ops]
url_env = "HOOK_URL"
secret_env = "HOOK_SECRET"
events = ["task.stalled"]
[hooks]
on_completed = ["sh", "-c", "env > ../hook.env"]
[task.c]
outputs = ["c.txt"]
command = "env > ../command.env; echo c > $out"
[task.c.eval]
command = "env > ../evaluator.env; echo '{\"score\": 1, \"notes\": \"good\"}'"
[task.own]
outputs = ["own.txt"]
env = { PLAIN = "set" }
command = "env > ../own.env; echo c > $out"
[task.named]
outputs = ["named.txt"]
env = ["OPENAI_API_KEY", "PLAIN"]
command = "env > ../named.env; echo c > $out"
[task.asked]
inputs = ["plan.txt"]
outputs = ["asked.txt"]
model = "m"
prompt = "Say something."
"#,
    );
    space.write("plan.txt", "A bridge.\n");
    space.run(&["keys", "bind", "BOUND_KEY", "llm.example.org"]).exits(0);
    let filed = space.root().join("home/.config/planexe/secrets.toml");
    std::fs::write(&filed, "FILED_KEY = \"filed\"\n").expect("secrets.toml");
    std::fs::set_permissions(&filed, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    for name in HELD {
        space.set_env(name, format!("canary-of-{name}"));
    }
    space.set_env("HOOK_URL", "http://127.0.0.1:1/canary");
    space.set_env("PLANEXE_WEBHOOK_SECRET", "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMQ==");
    space.set_env("HOOK_SECRET", "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMQ==");
    space.set_env("MODEL_KEY", "canary-of-model");
    space.set_env("PLANEXE_KEY_HOSTS", "CORP_KEY=llm.corp.example");
    space.set_env("PLAIN", "plain");
    space.run(&["build", "--profile", "here"]).exits(0);
    space.set_env("EDITOR", "env > ../editor.env; true");
    space.run(&["edit-plan", "--none"]);

    for (program, sees) in [
        ("command", &["PLAIN"][..]),
        ("evaluator", &["PLAIN"]),
        ("hook", &["PLAIN"]),
        ("model", &["PLAIN", "MODEL_KEY"]),
        ("own", &["PLAIN"]),
        ("named", &["PLAIN", "OPENAI_API_KEY"]),
        ("editor", &["PLAIN"]),
    ] {
        let text = std::fs::read_to_string(space.root().join(format!("{program}.env"))).expect(program);
        let given: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        for name in HELD.iter().chain(&["PLAIN", "MODEL_KEY"]) {
            assert_eq!(given.contains(name), sees.contains(name), "{program}: {name}");
        }
    }
}

/// Neither of a model nor of a webhook, of whatever prints it: commands, evaluators, services.
#[test]
fn a_key_that_a_program_prints_is_not_kept() {
    let space = Space::new();
    space.set_env("MODEL_KEY", "canary-of-model");
    space.set_env("HOOK_SECRET", "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMQ==");
    let leaked = space.root().join("leaked");
    std::fs::write(&leaked, "canary-of-model whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMQ==\n").expect("leaked");
    space.write(
        "pipeline.toml",
        r#"
[models.m]
api = "openai"
base_url = "http://127.0.0.1:1/v1"
model = "m"
api_key_env = "MODEL_KEY"
[webhooks.ops]
url = "http://127.0.0.1:1/"
secret_env = "HOOK_SECRET"
events = ["task.stalled"]
[services.s]
command = "cat ../leaked; exit 1"
ready = { command = ["false"] }
[task.good]
outputs = ["good.txt"]
command = "cat ../leaked; echo c > $out"
[task.bad]
outputs = ["bad.txt"]
command = "printf '\\377 plain '; cat ../leaked; exit 3"
[task.away]
outputs = ["away.txt"]
executor = "detached"
command = "cat ../leaked; exit 3"
[task.judged]
outputs = ["judged.txt"]
command = "echo c > $out"
[task.judged.eval]
command = "cat ../leaked >&2; exit 3"
[task.served]
outputs = ["served.txt"]
service = "s"
command = "echo c > $out"
"#,
    );
    space.run(&["build"]).exits(1);
    for path in &space.files("") {
        let text = String::from_utf8_lossy(&space.bytes(path)).into_owned();
        assert!(!text.contains("canary-of-model") && !text.contains("whsec_"), "{path}: {text}");
    }
    for task in ["bad", "away", "judged", "served"] {
        let status = space.read(&format!("{task}.txt.status"));
        assert!(status.contains("[redacted] [redacted]"), "{status}");
    }
    let log = |named: &str| {
        let logs = space.files(".planexe/logs");
        space.bytes(logs.iter().find(|path| path.contains(&format!("/logs/{named}"))).expect(named))
    };
    assert!(log("good").starts_with(b"[redacted] [redacted]\n"));
    assert!(log("bad").starts_with(b"\xff plain [redacted] [redacted]\n"), "all else stays");
}
