//! `planexe keys`: which key may go to which host.

use serde_json::json;

use crate::support::Space;

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
