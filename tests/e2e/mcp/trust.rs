//! What no tool does: read beside the files of a plan, build what is not of the server's pipelines, begin too much.

use serde_json::{Value, json};

use super::{Client, runs, space};
use crate::support::{CHAIN, FakeLlm, Space};

#[test]
fn nothing_is_read_beside_the_files_of_a_plan() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    let root = space.root();
    let run = root.join("runs").join(&id);
    std::fs::write(root.join("secret.txt"), "secret").expect("a secret");
    std::os::unix::fs::symlink(root.join("secret.txt"), run.join("out.txt")).expect("a link");
    std::os::unix::fs::symlink(&run, root.join("runs/link")).expect("a link");
    std::fs::create_dir(root.join("runs/empty")).expect("a folder");
    for path in [
        "../../secret.txt",
        "/etc/passwd",
        "out.txt",
        ".planexe/run.json",
        "./../x",
        "a.txt/../../../secret.txt",
    ] {
        for tool in ["plan_read_file", "plan_file_info"] {
            assert_eq!(
                client.refused(tool, json!({ "plan_id": id, "path": path })),
                "FILE_NOT_FOUND",
                "{tool} {path}"
            );
        }
    }
    // An output that was replaced by a link that leads out is none.
    std::fs::remove_file(run.join("c.txt")).expect("c.txt");
    std::os::unix::fs::symlink(root.join("secret.txt"), run.join("c.txt")).expect("a link");
    assert_eq!(client.refused("plan_read_file", json!({ "plan_id": id, "path": "c.txt" })), "FILE_NOT_READY");
    for plan in ["..", ".", "../run", "/tmp", "link", "empty", "nobody", ".archived-x", "a/b"] {
        for tool in [
            "plan_status",
            "plan_files",
            "plan_resume",
            "plan_delete",
            "plan_archive",
            "plan_stop",
            "plan_wait",
        ] {
            assert_eq!(client.refused(tool, json!({ "plan_id": plan })), "PLAN_NOT_FOUND", "{tool} {plan}");
        }
    }
    // Calls and answers of others are no business of the agent's, but what the build said is.
    client.call("plan_read_file", json!({ "plan_id": id, "path": ".planexe/build.log" }));
    let files = client.call("plan_files", json!({ "plan_id": id, "limit": 500 }));
    assert!(!files.to_string().contains("out.txt") && !files.to_string().contains("calls/"), "{files:#}");
}

/// A folder below the runs root that says it is a run, of a command that leaves a mark.
fn plant(space: &Space, name: &str, run_toml: Option<&str>, pipeline: &str) {
    let dir = space.root().join("runs").join(name);
    std::fs::create_dir_all(dir.join("pipeline")).expect("a folder");
    let mark = space.root().join("MARK");
    let text = format!(
        "[pipeline]\nplan = \"plan.txt\"\n[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo x > {}; echo x > $out\"\n",
        mark.display()
    );
    std::fs::write(dir.join(pipeline), text).expect("a pipeline");
    std::fs::write(dir.join("plan.txt"), "planted\n").expect("a plan");
    if let Some(text) = run_toml {
        std::fs::write(dir.join("run.toml"), text).expect("run.toml");
    }
}

#[test]
fn only_runs_of_the_pipelines_of_the_server_are_built() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    plant(&space, "own", None, "pipeline.toml");
    plant(&space, "named", Some("pipeline = \"evil.toml\"\n"), "evil.toml");
    // As if it were a copy of the pipeline that comes along.
    plant(&space, "copy", Some("pipeline = \"pipeline/pipeline.toml\"\n"), "pipeline/pipeline.toml");
    // Outside of the run nothing is even looked at.
    plant(&space, "away", Some("pipeline = \"../own/pipeline.toml\"\n"), "unused.toml");
    let root = space.root();
    std::fs::create_dir_all(root.join("runs/link")).expect("a folder");
    std::os::unix::fs::symlink(root.join("runs/own/pipeline.toml"), root.join("runs/link/pipeline.toml"))
        .expect("a link");
    std::fs::create_dir_all(root.join("runs/leak")).expect("a folder");
    std::fs::write(root.join("secret.txt"), "secret words\n").expect("a secret");
    std::os::unix::fs::symlink(root.join("secret.txt"), root.join("runs/leak/run.toml")).expect("a link");
    for plan in ["own", "named", "copy", "away", "link"] {
        for (tool, more) in [
            ("plan_resume", json!({})),
            ("plan_resume", json!({ "force": true })),
            ("plan_retry", json!({ "tasks": ["a"] })),
            ("plan_invalidate", json!({ "tasks": ["a"], "confirm": true })),
        ] {
            let mut arguments = more;
            arguments["plan_id"] = json!(plan);
            assert_eq!(client.refused(tool, arguments), "NOT_ALLOWED", "{tool} {plan}");
        }
    }
    for plan in ["own", "named", "copy"] {
        assert_eq!(client.phase(plan), "never_started", "{plan}");
    }
    for plan in ["away", "link"] {
        for tool in ["plan_status", "plan_files", "plan_wait"] {
            assert_eq!(client.refused(tool, json!({ "plan_id": plan })), "NOT_ALLOWED", "{tool} {plan}");
        }
    }
    let id = client.begin("plan_status", json!({ "plan_id": "leak" }));
    let (leak, is_error) = client.result(id);
    assert!(is_error && !leak.to_string().contains("secret"), "{leak:#}");
    let listed = client.call("plan_list", json!({})).to_string();
    assert!(!listed.contains("secret words"), "{listed}");
    // A request that looks like one of before makes a plan of its own, rather than start the planted one.
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    let request =
        std::fs::read(root.join("runs").join(&id).join(".planexe/request.json")).expect("a request");
    std::fs::create_dir_all(root.join("runs/own/.planexe")).expect("a folder");
    std::fs::write(root.join("runs/own/.planexe/request.json"), request).expect("a request");
    client.call("plan_delete", json!({ "plan_id": id, "confirm": true }));
    let other = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!(other["deduplicated"], false, "{other:#}");
    client.wait_for_end(other["plan_id"].as_str().expect("an id"));
    // A link to the server's own pipeline is that pipeline, with the files beside it and not those beside the link.
    std::fs::create_dir_all(root.join("runs/linked")).expect("a folder");
    std::os::unix::fs::symlink(root.join("run/pipeline.toml"), root.join("runs/linked/pipeline.toml"))
        .expect("a link");
    std::fs::write(root.join("runs/linked/plan.txt"), "A road.\n").expect("a plan");
    client.call("plan_resume", json!({ "plan_id": "linked" }));
    assert_eq!(client.wait_for_end("linked")["phase"], "completed");
    assert!(!root.join("MARK").exists(), "a command ran that the server was not given");
}

#[test]
fn a_build_looks_again_which_pipeline_its_run_is_of() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    plant(&space, "own", None, "pipeline.toml");
    let pipeline = space.dir().join("pipeline.toml").canonicalize().expect("the pipeline");
    for only in [pipeline.to_str().expect("a name"), ""] {
        space.run(&["__only", only, "-C", "../runs/own", "build"]).exits(2).says(&["was not started with"]);
    }
    assert!(!space.root().join("MARK").exists());
}

#[test]
fn a_plan_is_put_aside_and_removed() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::of(&space);
    let id = client.create("Build a bridge.");
    client.wait_for_end(&id);
    assert_eq!(client.call("plan_archive", json!({ "plan_id": id }))["archived"], true);
    assert_eq!(client.call("plan_archive", json!({ "plan_id": id }))["archived"], true);
    assert_eq!(client.call("plan_list", json!({}))["total"], 0);
    // It still knows its pipeline.
    let list = client.call("plan_list", json!({ "archived": true }));
    assert_eq!((&list["total"], &list["plans"][0]["phase"]), (&1.into(), &"completed".into()), "{list:#}");
    assert_eq!(client.refused("plan_status", json!({ "plan_id": id })), "PLAN_NOT_FOUND");
    client.call("plan_archive", json!({ "plan_id": id, "undo": true }));
    assert_eq!(client.phase(&id), "completed");
    assert_eq!(client.refused("plan_delete", json!({ "plan_id": id })), "NOT_CONFIRMED");
    assert_eq!(client.call("plan_delete", json!({ "plan_id": id, "confirm": true }))["deleted"], true);
    assert_eq!((client.call("plan_list", json!({}))["total"].as_u64(), runs(&space).len()), (Some(0), 0));
    // A folder that is more than a run is somebody's work.
    space.write("../runs/own/pipeline.toml", space.read("pipeline.toml"));
    space.write("../runs/own/plan.txt", "A bridge.\n");
    assert_eq!(client.refused("plan_delete", json!({ "plan_id": "own", "confirm": true })), "NOT_ALLOWED");
    assert!(space.exists("../runs/own/pipeline.toml"));
}

#[test]
fn an_agent_starts_no_more_builds_at_once_than_it_may() {
    let server = FakeLlm::new();
    server.hold("a");
    let space = space(&server, CHAIN);
    let mut client = Client::start(&space, &["--pipeline", "pipeline.toml", "--max-builds", "2"]);
    client.shake_hands();
    // All at once: those that are only being started count as well.
    let asked: Vec<u64> = (0..5)
        .map(|n| client.begin("plan_create", json!({ "prompt": format!("Build bridge {n}.") })))
        .collect();
    let answers: Vec<Value> = asked.into_iter().map(|id| client.result(id).0).collect();
    let (refused, built): (Vec<&Value>, Vec<&Value>) =
        answers.iter().partition(|answer| answer["error"]["code"] == "TOO_MANY_BUILDS");
    assert_eq!((refused.len(), built.len()), (3, 2), "{answers:#?}");
    let fault = &refused[0]["error"];
    let told = (&fault["details"]["max_builds"], fault["details"]["building"].as_array().map(Vec::len));
    assert_eq!(told, (&json!(2), Some(2)), "{fault}");
    // The plan is there, and starts when there is room.
    let id = fault["details"]["plan_id"].clone();
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "TOO_MANY_BUILDS");
    server.release_all();
    for plan in built {
        client.wait_for_end(plan["plan_id"].as_str().expect("an id"));
    }
    client.call("plan_resume", json!({ "plan_id": id }));
    client.wait_for_end(id.as_str().expect("an id"));
}

#[test]
fn without_builds_plans_are_made_and_looked_at() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let mut client = Client::start(&space, &["--pipeline", "pipeline.toml", "--no-build"]);
    client.shake_hands();
    let made = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!(
        (&made["phase"], &made["build"]["state"]),
        (&"never_started".into(), &"not_started".into()),
        "{made:#}"
    );
    let id = made["plan_id"].as_str().expect("an id").to_owned();
    for tool in ["plan_resume", "plan_retry", "plan_stop"] {
        assert_eq!(client.refused(tool, json!({ "plan_id": id })), "BUILD_NOT_ALLOWED", "{tool}");
    }
    assert_eq!(client.refused("plan_wait", json!({ "plan_id": id })), "PLAN_NOT_STARTED");
    assert_eq!(server.total(), 0);
    // Somebody builds it by hand.
    let run = format!("../runs/{id}");
    space.run(&["-C", &run, "build"]).exits(0);
    assert_eq!(client.phase(&id), "completed");
}

#[test]
fn a_build_that_is_refused_is_told_and_begins_when_that_is_mended() {
    let server = FakeLlm::new();
    let space = space(&server, CHAIN);
    let good = space.read("pipeline.toml");
    let away = good.replace(&server.base_url(), "https://llm.acme.example/v1");
    space.write(
        "pipeline.toml",
        away.replace("model = \"fake-1\"", "model = \"m\"\napi_key_env = \"ACME_KEY\""),
    );
    space.set_env("ACME_KEY", "sk-very-secret-indeed");
    let mut client = Client::of(&space);
    let id = client.begin("plan_create", json!({ "prompt": "Build a bridge." }));
    let (data, is_error) = client.result(id);
    let error = data["error"].clone();
    assert!(is_error && error["code"] == "BUILD_REFUSED", "{data:#}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("ACME_KEY")), "{data:#}");
    assert_eq!(error["details"]["exit_code"], 2);
    let id = error["details"]["plan_id"].as_str().expect("an id").to_owned();
    assert_eq!(client.phase(&id), "never_started");
    assert_eq!(client.refused("plan_resume", json!({ "plan_id": id })), "BUILD_REFUSED");
    let profiles = client.call("model_profiles", json!({}));
    let model = &profiles["profiles"][0]["models"][0];
    assert_eq!(
        (&model["ready"], &model["host"]),
        (&false.into(), &"llm.acme.example".into()),
        "{profiles:#}"
    );
    let log = client.call("plan_read_file", json!({ "plan_id": id, "path": ".planexe/build.log" }));
    for said in [&data, &profiles, &log] {
        assert!(!said.to_string().contains("very-secret"), "{said:#}");
    }
    // Mended, the same request starts the plan there is.
    space.write("pipeline.toml", good);
    let made = client.call("plan_create", json!({ "prompt": "Build a bridge." }));
    assert_eq!((&made["plan_id"], &made["deduplicated"]), (&json!(id), &true.into()), "{made:#}");
    assert_eq!(client.wait_for_end(&id)["phase"], "completed");
    // A pipeline with faults is told with its lines, and of which plan.
    space.write("pipeline.toml", "nonsense = 1\n");
    for tool in ["plan_status", "plan_resume", "plan_files"] {
        assert_eq!(client.refused(tool, json!({ "plan_id": id })), "PIPELINE_FAULTS", "{tool}");
    }
    let list = client.call("plan_list", json!({}));
    assert!(list["plans"][0]["problem"].is_string(), "{list:#}");
    // No new one is made of it, and nothing is left of the try.
    assert_eq!(client.refused("plan_create", json!({ "prompt": "Build a tunnel." })), "PIPELINE_FAULTS");
    assert_eq!(runs(&space), [id]);
}
