//! What lies below the run directory is what it seems: no link leads out of it, no pipe is waited for, and temporary
//! names are in nobody's way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{FakeLlm, Fifo, Space, space, until};

/// A pipeline without a model.
fn space_with(tasks: &str) -> Space {
    let space = Space::new();
    space.write("pipeline.toml", tasks);
    space.write("in.txt", "x\n");
    space
}

/// Names in the run directory that are those of temporary files.
fn temps(space: &Space) -> Vec<String> {
    let names = fs::read_dir(space.dir()).expect("the run").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("planexe-tmp-")).collect()
}

#[test]
fn make_takes_what_a_command_is_to_write_as_its_goal() {
    if Command::new("make").arg("--version").output().is_err() {
        return;
    }
    let space = space_with(
        "[task.chart]\ninputs = [\"in.txt\"]\noutputs = [\"chart.svg\", \"more/b.svg\"]\n\
         command = \"make -s -f charts.mk DATA=$in OUT=$out.0 && make -s -f charts.mk DATA=$in OUT=$out.1\"\n",
    );
    space.write("charts.mk", "$(OUT): $(DATA)\n\tcp $< $@\n");
    space.build();
    assert_eq!((space.read("chart.svg"), space.read("more/b.svg")), ("x\n".into(), "x\n".into()));
    assert!(temps(&space).is_empty(), "{:?}", temps(&space));
}

#[test]
fn a_name_a_command_writes_to_is_not_hidden_and_ends_as_the_output() {
    let space =
        space_with("[task.a]\noutputs = [\"a.svg\"]\ncommand = \"basename $out > name; echo > $out\"\n");
    space.build();
    let name = space.read("name");
    assert!(name.starts_with("planexe-tmp-") && name.ends_with("-a.svg\n"), "{name}");
}

/// As in a container whose first process takes in the end of no other.
#[cfg(target_os = "linux")]
#[test]
fn temporary_files_of_a_process_that_nobody_waited_for_are_swept() {
    let space = space_with(
        "[task.a]\ninputs = [\"in.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"cat pipe; cp $in $out\"\n",
    );
    let pipe = Fifo::new(space.path("pipe"));
    let build = space.spawn(&["build"]);
    let held = pipe.wait_for_reader();
    let pid = build.pid();
    for start in ["", "."] {
        space.write(&format!("{start}planexe-tmp-{}-0badcafe-0-a.txt", pid.as_raw_nonzero()), "half");
    }
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    until("its end", || {
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOWAIT
            | rustix::process::WaitIdOptions::NOHANG;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("to look")
    });
    drop(held);
    space.edit("pipeline.toml", "cat pipe; ", "");
    space.build();
    assert!(temps(&space).is_empty(), "{:?}", temps(&space));
    assert_eq!(space.read("a.txt"), "x\n");
    let out = build.wait();
    assert_ne!(out.code, 0);
}

/// Found before anything runs, in every command that reads the pipeline.
#[test]
fn a_path_that_is_a_file_and_a_folder_is_a_fault() {
    let task = |name: &str, inputs: &str, output: &str| {
        format!(
            "[task.{name}]\ninputs = [\"{inputs}\"]\noutputs = [\"{output}\"]\ncommand = \"cat $in > $out\"\n"
        )
    };
    for (one, two, says) in [
        (("in.txt", "b.txt"), ("in.txt", "b.txt/deep.txt"), "task `one` writes, and a folder: `two` writes"),
        (("in.txt", "b.txt/deep.txt"), ("in.txt", "B.txt"), "task `two` writes, and a folder: `one` writes"),
        (("in.txt", "b.txt"), ("b.txt/in.txt", "c.txt"), "task `one` writes, and a folder: `two` reads"),
        (("in.txt", "c.txt"), ("in.txt", "in.txt/d.txt"), "task `one` reads, and a folder: `two` writes"),
    ] {
        let space = space_with(&format!("{}{}", task("one", one.0, one.1), task("two", two.0, two.1)));
        for command in ["check", "build"] {
            let out = space.run(&[command]).exits(2).says(&[says, "pipeline.toml:"]);
            // Both places are shown.
            assert!(format!("{out}").contains("a file or a folder, not both"), "{out}");
        }
        assert!(!space.exists(".planexe"), "nothing ran");
    }
    space_with(&format!("{}{}", task("one", "in.txt", "b/c.txt"), task("two", "b/c.txt", "b/d.txt"))).build();
}

/// Only root can be somebody else.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_another_user_keeps_closed_is_said_to_be_his() {
    if !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let space =
        space_with("[task.a]\ninputs = [\"in.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"cp $in $out\"\n");
    space.build();
    let planexe = space.command(&[]).get_program().to_owned();
    let to_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    // The program may lie where nobody may look: a copy of it does not.
    for folder in [space.root(), space.dir().to_owned()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("an open folder");
    }
    let copy = space.root().join("planexe");
    crate::support::copy_program(planexe, &copy);
    let before = space.everything();
    for command in [&["build"][..], &["clean", "a", "--yes"]] {
        let args = [&to_nobody[..], &[copy.to_str().expect("a path")], command].concat();
        let out = space.start(space.program("setpriv", &args)).wait();
        let out = out.exits(2).says(&["belongs to user 0", "closed to you", "chown"]);
        space.everything().assert_same_as(&before, &out);
    }
}

/// A folder beside the run, with files that are nobody's to touch.
fn victim(space: &Space) -> BTreeMap<String, String> {
    let folder = space.root().join("victim");
    fs::create_dir(&folder).expect("a folder");
    for name in ["id_ed25519", "20261123.json", "000000000001.json"] {
        fs::write(folder.join(name), format!("TOP SECRET of {name}")).expect("a file");
    }
    contents(&folder)
}

fn contents(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries.map(|entry| (name(&entry.path()), fs::read_to_string(entry.path()).expect("a file"))).collect()
}

const ONE: &str = "[task.c]\ninputs = [\"in.txt\"]\noutputs = [\"c.txt\"]\ncommand = \"cat $in > $out\"\n";

/// Whatever folder of `.planexe` leads there, at whatever depth.
#[test]
fn nothing_is_written_or_removed_where_a_link_in_planexes_folder_leads() {
    let server = FakeLlm::new();
    let tasks = "[webhooks.w]\nurl = \"http://127.0.0.1:9/x\"\n\n[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n\n\
                 [task.h]\noutputs = [\"h.txt\"]\nhuman = \"write it\"\n\n";
    for link in [
        "retry",
        "passed",
        "calls",
        "calls/TASK",
        "partial",
        "partial/TASK",
        "history",
        "history/objects",
        "history/objects/XX",
        "logs",
        "live",
        "tmp",
        "outbox",
        "outbox/name.w",
        "sidecars",
        "batches",
    ] {
        let space = space(&server, &format!("{tasks}{ONE}"));
        space.write("in.txt", "x");
        space.run(&["build"]);
        let before = victim(&space);
        let calls =
            fs::read_dir(space.path(".planexe/calls")).expect("calls").flatten().next().expect("a task");
        let objects = fs::read_dir(space.path(".planexe/history/objects")).expect("objects");
        let mut shards: Vec<_> = objects.flatten().map(|entry| entry.file_name()).collect();
        shards.sort();
        let link = link
            .replace("TASK", &calls.file_name().to_string_lossy())
            .replace("XX", &shards[0].to_string_lossy());
        let at = space.path(".planexe").join(&link);
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        symlink(space.root().join("victim"), &at).expect("a link");
        for command in [
            &["build"][..],
            &["build", "-B"],
            &["retry", "a"],
            &["done", "h"],
            &["gc", "--max-size", "0"],
            &["clean", "a", "-y"],
            &["build"],
        ] {
            space.run(command);
            assert_eq!(contents(&space.root().join("victim")), before, "{link}: {command:?}");
        }
        let kept = !link.starts_with("history") && space.in_history("TOP SECRET of id_ed25519");
        assert!(!kept, "{link}");
    }
}

/// It is damaged: made anew in its own place, and what it leads to is neither read, sent, kept nor changed.
#[test]
fn an_output_that_is_a_link_is_damaged() {
    let server = FakeLlm::new();
    let tasks = "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n\n\
                 [task.b]\ninputs = [\"a.txt\"]\noutputs = [\"b.txt\"]\nprompt = \"TASK=b\\n{{ a }}\"\n";
    for (marker, inside) in [("", false), ("{}", false), ("", true)] {
        let space = space(&server, tasks);
        let before = victim(&space);
        let secret = space.root().join("victim/id_ed25519");
        if inside {
            space.write("own/secret.txt", "TOP SECRET of id_ed25519");
        }
        let to = if inside { space.path("own/secret.txt") } else { secret };
        symlink(&to, space.path("a.txt")).expect("a link");
        space.write("a.txt.DONE", marker);
        for command in [&["status"][..], &["explain", "a"], &["build", "-n"], &["touch", "a"], &["diff", "a"]]
        {
            space.run(command).says_nothing_of(&["TOP SECRET"]);
        }
        // A marker with nothing in it rests on the output; any other has faults of its own.
        let why = if marker.is_empty() { "a symbolic link, which is not followed" } else { "no `schema`" };
        space.run(&["explain", "a"]).says(&["damaged", why]);
        if !inside {
            space.run(&["build", "b", "--only"]);
        }
        space.build();
        for request in server.calls() {
            assert!(!request.body.to_string().contains("TOP SECRET"), "{}", request.body);
        }
        assert_eq!(contents(&space.root().join("victim")), before);
        assert!(!space.in_history("TOP SECRET of id_ed25519"));
        assert!(!space.path("a.txt").is_symlink() && space.read("a.txt").contains("to a"));
        space.assert_nothing_to_do(&server);
        // Put there since.
        space.remove("a.txt");
        symlink(&to, space.path("a.txt")).expect("a link");
        space.build();
        assert!(!space.path("a.txt").is_symlink());
        assert!(!space.in_history("TOP SECRET of id_ed25519"));
    }
}

#[test]
fn no_output_is_written_below_a_folder_that_is_a_link() {
    let space = space_with(&ONE.replace("c.txt", "out/c.txt"));
    let before = victim(&space);
    symlink("../victim", space.path("out")).expect("a link");
    space.run(&["build"]).exits(1).says(&["a symbolic link, which is not followed"]);
    assert_eq!(contents(&space.root().join("victim")), before);
    assert!(temps(&space).is_empty());
}

/// A pipe in the place of any file that is read or written: the build ends, however it ends, and so do those who look.
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for file in [
        "events.jsonl",
        "failures.jsonl",
        "usage_metrics.jsonl",
        "activity_overview.json",
        "in.txt",
        "c.txt",
        "c.txt.DONE",
        "c.txt.status",
        "pipeline.toml",
        "run.toml",
        ".planexe/checkpoints.jsonl",
        ".planexe/history/log.jsonl",
        ".planexe/index",
        ".planexe/durations",
        ".planexe/run.json",
        ".planexe/owner.json",
        ".planexe/unsynced.json",
        ".planexe/stop",
        ".planexe/pause",
        ".planexe/abort",
        ".planexe/retry/c",
        ".planexe/passed/c.json",
        ".planexe/room",
    ] {
        for is_built in [false, true] {
            let space = space_with(ONE);
            if is_built {
                space.build();
            }
            let _ = fs::remove_file(space.path(file));
            fs::create_dir_all(space.path(file).parent().expect("a folder")).expect("a folder");
            let _pipe = Fifo::new(space.path(file));
            for command in [&["build"][..], &["status"], &["explain", "c"], &["build", "-B"]] {
                space.run(command);
            }
        }
    }
}

/// Where it went, what was under way is recorded; at its former place nothing is made.
#[test]
fn a_run_that_is_moved_while_it_is_built_leaves_nothing_behind() {
    let space = space_with(&ONE.replace("cat $in", "cat pipe; cat $in"));
    for args in [
        &["init", "-q"][..],
        &["add", "."],
        &["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"],
    ] {
        assert!(Command::new("git").current_dir(space.dir()).args(args).status().is_ok_and(|s| s.success()));
    }
    space.edit("pipeline.toml", "[task.c]", "[git]\ncommit_on_done = true\n\n[task.c]");
    let pipe = Fifo::new(space.path("pipe"));
    let build = space.spawn(&["build"]);
    let held = pipe.wait_for_reader();
    let moved = space.root().join("moved");
    fs::rename(space.dir(), &moved).expect("to move the run");
    until("a word of it", || build.stderr().contains("moved or removed").then_some(()));
    drop(held);
    build.wait().exits(1).says(&["moved or removed while it was being built"]);
    assert!(
        !space.dir().exists(),
        "{:?}",
        fs::read_dir(space.dir()).map(|names| names.flatten().collect::<Vec<_>>())
    );
    assert!(moved.join(".planexe/run.json").is_file());
    fs::rename(&moved, space.dir()).expect("to move it back");
    space.edit("pipeline.toml", "cat pipe; ", "");
    space.build();
    assert_eq!(space.read("c.txt"), "x\n");
}

#[test]
fn what_planexe_keeps_is_for_the_user_alone() {
    let server = FakeLlm::new();
    let space = space(&server, &format!("[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nx\"\n\n{ONE}"));
    space.write("in.txt", "x\n");
    space.build();
    fn open_to_others(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut open = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let metadata = entry.metadata().expect("metadata");
            if metadata.permissions().mode() & 0o077 != 0 {
                open.push(entry.path());
            }
            if metadata.is_dir() {
                open.extend(open_to_others(&entry.path()));
            }
        }
        open
    }
    let planexe = space.path(".planexe");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&planexe), 0o700);
    assert_eq!(open_to_others(&planexe), Vec::<std::path::PathBuf>::new());
    // Outputs and what is said of them are as the user's mask has it.
    let others = mode(&space.path("in.txt"));
    for file in ["a.txt", "a.txt.DONE", "a.txt.status", "c.txt", "events.jsonl"] {
        assert_eq!(mode(&space.path(file)), others, "{file}");
    }
    // As an earlier version left it.
    fs::set_permissions(&planexe, PermissionsExt::from_mode(0o755)).expect("a mode");
    fs::set_permissions(space.path(".planexe/run.json"), PermissionsExt::from_mode(0o644)).expect("a mode");
    fs::set_permissions(space.path(".planexe/calls"), PermissionsExt::from_mode(0o755)).expect("a mode");
    space.edit("in.txt", "x", "y");
    space.build();
    assert_eq!((mode(&planexe), open_to_others(&planexe)), (0o700, Vec::new()));
    assert_eq!(server.total(), 1);
}
