//! After the second Ctrl-C, or SIGTERM or SIGHUP, planexe is gone within 2 s, whatever command it is and whatever runs
//! below it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::crash::wait_until_gone;
#[cfg(target_os = "linux")]
use crate::support::terminal::Terminal;
use crate::support::{FakeLlm, Out, Running, Space, until};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(2);

/// What ends planexe, and the exit code.
const ENDS: [(&[Signal], i32); 3] =
    [(&[Signal::INT, Signal::INT], 130), (&[Signal::TERM], 143), (&[Signal::HUP], 129)];

/// Answers no request to end.
const STUBBORN: &str = "trap '' TERM HUP INT; echo $$ > \"$PIDS/pid\"; while :; do sleep 60; done";

#[cfg(target_os = "linux")]
const TASK: &str = "[task.a]\noutputs = [\"a.txt\"]\nprompt = \"TASK=a\\nGo.\"\n";

/// Waits until a process listens for signals.
#[cfg(target_os = "linux")]
fn until_it_listens(pid: Pid) {
    until("it listens for signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << (Signal::TERM.as_raw() - 1)) != 0).then_some(())
    });
}

/// Sends the signals, the last of them again and again as an impatient person does: two that come at the same moment
/// are one. The process must be gone in time.
#[track_caller]
fn is_gone_in_time(mut running: Running, signals: &[Signal]) -> Out {
    let told = Instant::now();
    let signal = signals[0];
    running.signal(signal);
    while running.is_running() {
        assert!(told.elapsed() < PROMISED, "still there {:?} after {signal:?}", told.elapsed());
        if signals.len() > 1 {
            running.signal(signal);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    running.wait()
}

/// The process id that a program wrote.
fn pid_of_program(space: &Space) -> String {
    let file = space.root().join("pid");
    let pid =
        until("the program runs", || std::fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n')));
    std::fs::remove_file(file).expect("its file");
    pid
}

#[cfg(target_os = "linux")]
#[test]
fn commands_that_look_or_wait() {
    let server = FakeLlm::new();
    let space = Space::with(&server, TASK);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    let commands: [&[&str]; 6] = [
        &["build", "--wait"],
        &["wait"],
        &["status", "--watch"],
        &["show", "a", "--follow"],
        &["gantt", "--watch"],
        &["events", "--follow"],
    ];
    for args in commands {
        for (signals, code) in ENDS {
            let running = space.spawn(args);
            until_it_listens(running.pid());
            is_gone_in_time(running, signals).exits(code);
        }
    }
    server.release("a");
    build.wait().exits(0);
    space.assert_nothing_to_do(&server);
}

#[cfg(target_os = "linux")]
#[test]
fn commands_whose_output_nobody_reads() {
    use std::os::unix::process::CommandExt;

    let server = FakeLlm::new();
    let space = Space::with(&server, TASK);
    server.hold("a");
    let build = space.spawn(&["build"]);
    server.wait_for_call("a");
    for args in [["status", "--watch"], ["gantt", "--watch"], ["events", "--follow"]] {
        for (signals, _) in ENDS {
            // A pipe that is full: whoever writes into it waits for ever.
            let (reader, writer) = std::io::pipe().expect("a pipe");
            rustix::io::ioctl_fionbio(&writer, true).expect("a pipe that does not wait");
            while (&writer).write(&[0; 4096]).is_ok() {}
            while (&writer).write(&[0]).is_ok() {}
            rustix::io::ioctl_fionbio(&writer, false).expect("a pipe that waits");
            let mut command = space.command(&args);
            command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).process_group(0);
            let mut child = command.spawn().expect("planexe");
            until_it_listens(Pid::from_child(&child));
            let asleep = format!("/proc/{}/wchan", child.id());
            until("it waits for a reader", || {
                std::fs::read_to_string(&asleep)
                    .ok()
                    .filter(|at| at.contains("pipe"))
                    .map(drop)
                    .or_else(|| blocks_in_write(&child).then_some(()))
            });
            let told = Instant::now();
            while child.try_wait().expect("its state").is_none() {
                assert!(told.elapsed() < PROMISED, "{args:?}: {:?} after {signals:?}", told.elapsed());
                kill_process(Pid::from_child(&child), signals[0]).expect("a signal");
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(reader);
        }
    }
    server.release("a");
    build.wait().exits(0);
}

/// Whether the first thread of a process waits in a call of `write`, where that can be seen.
#[cfg(target_os = "linux")]
fn blocks_in_write(child: &std::process::Child) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
    // 1 on x86-64, 64 on ARM. Where it may not be read, sleeping has to do.
    if !call.is_empty() {
        return call.starts_with("1 0x1 ") || call.starts_with("64 0x1 ");
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

#[test]
fn commands_that_call_a_model() {
    for (args, task) in [(&["build"][..], "a"), (&["watch"], "a"), (&["optimize", "a"], "a")] {
        for (signals, code) in ENDS {
            let server = FakeLlm::scripted(|call| match call.task.as_str() {
                "judge" => "{\"score\": 0.9, \"notes\": \"More.\"}".into(),
                _ => "fine".into(),
            });
            let tasks = "[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\nprompt = \"prompts/a.md\"\n\
                         [task.a.eval]\nprompt = \"TASK=judge\\n{{ answer }}\"\n";
            let space = Space::with(&server, tasks);
            space.write("plan.txt", "A bridge.\n");
            space.write("prompts/a.md", "TASK=a\nGo. {{ plan }}\n");
            space.write("prompts/variants/a/other.md", "TASK=a\nGo on. {{ plan }}\n");
            let mut calls = 0;
            if args[0] == "optimize" {
                space.build();
                calls = server.count(task);
            }
            server.hold(task);
            let running = space.spawn(args);
            server.wait_for_calls(task, calls + 1);
            is_gone_in_time(running, signals).exits(code);
        }
    }
}

#[test]
fn programs_that_will_not_end() {
    for (signals, code) in ENDS {
        let space = Space::new();
        space.set_env("PIDS", space.root());
        space.write("stubborn.sh", STUBBORN);
        let task = "[task.a]\noutputs = [\"a.txt\"]\n";
        let run = "command = [\"sh\", \"stubborn.sh\"]\n";
        let model = "[models.m]\napi = \"command\"\ncommand = [\"sh\", \"stubborn.sh\"]\n";
        let hook = "[hooks]\non_started = [\"sh\", \"stubborn.sh\"]\n";
        let score = "command = \"echo a > $out\"\n[task.a.eval]\ncommand = [\"sh\", \"stubborn.sh\"]\n";
        for (pipeline, args) in [
            (format!("{task}{run}"), &["build"][..]),
            (format!("{task}{run}"), &["watch"]),
            (format!("{model}{task}model = \"m\"\nprompt = \"Go on now.\"\n"), &["build"]),
            (format!("{hook}{task}command = \"echo a > $out\"\n"), &["build"]),
            (format!("{task}{score}"), &["build"]),
            (format!("{task}command = \"echo a > $out\"\n"), &["watch", "--exec", "sh stubborn.sh"]),
        ] {
            space.write("pipeline.toml", &pipeline);
            space.run(&["clean", "-y"]);
            let running = space.spawn(args);
            let pid = pid_of_program(&space);
            let out = is_gone_in_time(running, signals);
            // A build that is over before a hook is has its own code.
            if !pipeline.contains("[hooks]") {
                out.exits(code);
            }
            wait_until_gone(&pid);
        }
    }
}

/// A git that hangs as soon as it is asked for something; the `PATH` there was.
fn git_that_hangs_at(space: &Space, words: &str) -> String {
    space.set_env("PIDS", space.root());
    let path = std::env::var("PATH").expect("a PATH");
    let bin = space.root().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let git = bin.join("git");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' {words} '*) {STUBBORN} ;; esac\nPATH='{path}' exec git \"$@\"\n"
    );
    std::fs::write(&git, script).expect("a script");
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).expect("a program");
    space.set_env("PATH", format!("{}:{path}", bin.display()));
    path
}

/// A first Ctrl-C that is typed is answered, a second one ends planexe.
#[cfg(target_os = "linux")]
#[test]
fn a_second_ctrl_c_that_is_typed() {
    let space = Space::new();
    space.set_env("PIDS", space.root());
    space.set_env("TERM", "xterm");
    space.write("stubborn.sh", STUBBORN);
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = [\"sh\", \"stubborn.sh\"]\n");
    // Only a session's own terminal makes a signal of what is typed.
    let own = ["--ctty", "--wait", env!("CARGO_BIN_EXE_planexe"), "build"];
    let mut terminal = Terminal::start(space.program("setsid", &own));
    let pid = pid_of_program(&space);
    terminal.types("\u{3}");
    terminal.shows("press Ctrl-C again", 1);
    let told = Instant::now();
    terminal.types("\u{3}");
    let (code, shown) = terminal.ends();
    assert!(told.elapsed() < PROMISED, "{:?}: {shown}", told.elapsed());
    assert_eq!(code, Some(130), "{shown}");
    wait_until_gone(&pid);
}

#[test]
fn execute_whose_git_will_not_end() {
    let server = FakeLlm::new();
    let space = crate::execute::plan(&server);
    let path = git_that_hangs_at(&space, "commit-tree");
    let args = ["execute", "--into", "work", "--git"];
    for (signals, _) in ENDS.into_iter().chain([(&[Signal::TERM, Signal::TERM][..], 143)]) {
        let running = space.spawn(&args);
        let pid = pid_of_program(&space);
        is_gone_in_time(running, signals);
        wait_until_gone(&pid);
    }
    space.set_env("PATH", path);
    space.run(&args).exits(0);
}

#[test]
fn git_that_will_not_end() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\nisolate = true\n",
    );
    space.write(".gitignore", ".planexe/\n*.status\n*.DONE\n*.jsonl\nactivity_overview.json\n");
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "first"]] {
        let done = space.program("git", &[&identity, args].concat()).status().expect("git");
        assert!(done.success());
    }
    let path = git_that_hangs_at(&space, "worktree add");
    for (signals, _) in ENDS {
        let running = space.spawn(&["build"]);
        let pid = pid_of_program(&space);
        is_gone_in_time(running, signals);
        wait_until_gone(&pid);
    }
    space.set_env("PATH", path);
    space.build();
    assert_eq!(space.read("a.txt"), "a\n");
}

#[test]
fn the_agents_server() {
    let space = Space::new();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = space.command(&["mcp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("planexe");
        writeln!(child.stdin.as_mut().expect("its input"), r#"{{"jsonrpc":"2.0","id":1,"method":"ping"}}"#)
            .expect("a request");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("an answer");
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        let told = Instant::now();
        child.wait().expect("its end");
        assert!(told.elapsed() < PROMISED, "{:?} after {signal:?}", told.elapsed());
    }
}

#[test]
fn an_editor_is_told_and_its_text_kept() {
    let editor = |rest: &str| format!("echo edited >> \"$1\"; echo $$$$ > \"$PIDS/pid\"; {rest}");
    for (rest, signal, code) in [
        ("while :; do sleep 60 & wait; done", Signal::TERM, 143),
        ("while :; do sleep 60 & wait; done", Signal::HUP, 129),
        ("trap '' TERM HUP; while :; do sleep 60; done", Signal::TERM, 143),
        ("trap '' TERM HUP; while :; do sleep 60; done", Signal::HUP, 129),
    ] {
        let space = Space::new();
        space.set_env("PIDS", space.root());
        space.write(
            "pipeline.toml",
            "[pipeline]\nplan = \"plan.txt\"\n[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"\n",
        );
        space.write("plan.txt", "old\n");
        let script = editor(rest).replace("$$$$", "$$");
        space.write("editor.sh", format!("#!/bin/sh\n{script}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(space.path("editor.sh"), mode).expect("a program");
        // Not the last command of the line: a shell stands between.
        space.set_env("EDITOR", "X=1 ./editor.sh");
        let running = space.spawn(&["edit-plan", "--all"]);
        let pid = pid_of_program(&space);
        // Ctrl-C is the editor's.
        running.signal(Signal::INT);
        running.signal(Signal::INT);
        is_gone_in_time(running, &[signal]).exits(code).says(&["the edit is kept in"]);
        wait_until_gone(&pid);
        assert_eq!(space.read("plan.txt"), "old\n");
        assert_eq!(space.read(".planexe/edit/plan.txt"), "old\nedited\n");
        space.set_env("EDITOR", "true");
        space.run(&["edit-plan", "--all"]).exits(0).says(&["an edit that was cut short is kept"]);
        assert_eq!(space.read(".planexe/edit/plan.txt.unfinished"), "old\nedited\n");
    }
}

#[test]
fn a_command_that_was_killed_is_named_until_somebody_tidies_up() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[pipeline]\nplan = \"plan.txt\"\n[task.a]\ninputs = [\"plan.txt\"]\noutputs = [\"a.txt\"]\ncommand = \"cat $in > $out\"\n",
    );
    space.write("plan.txt", "old\n");
    space.write("ed.sh", "echo $$ > \"$PIDS/pid\"; until [ -e \"$PIDS/gate\" ]; do sleep 0.01; done\n");
    space.set_env("PIDS", space.root());
    space.set_env("EDITOR", "sh ed.sh");
    let editing = space.spawn(&["edit-plan", "--all"]);
    let editor = pid_of_program(&space);
    assert!(space.report()["run"]["cut_off"].is_null(), "it is at it");
    editing.kill9();
    let status = space.run(&["status"]).exits(0).stdout;
    assert!(
        status.contains("Cut off   `planexe edit-plan` was killed; typed again, it does the rest"),
        "{status}"
    );
    assert_eq!(space.report()["run"]["cut_off"], "planexe edit-plan");
    std::fs::write(space.root().join("gate"), "").expect("the end of the editor");
    wait_until_gone(&editor);
    space.run(&["build"]).exits(0);
    assert!(space.report()["run"]["cut_off"].is_null());
}

/// Where no thread can be started that listens, a signal would go nowhere.
#[cfg(target_os = "linux")]
#[test]
fn nothing_begins_where_nobody_can_listen() {
    use std::os::unix::process::CommandExt;

    let space = Space::new();
    space.write("pipeline.toml", "[task.a]\noutputs = [\"a.txt\"]\ncommand = \"echo a > $out\"\n");
    let planexe = space.root().join("planexe");
    crate::support::copy_program(env!("CARGO_BIN_EXE_planexe"), &planexe);
    for folder in [space.root(), space.dir().to_owned()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    }
    for args in ["build", "watch", "status --watch", "wait", "gantt --watch", "events --follow"] {
        let line = format!("ulimit -u 1 && exec '{}' {args}", planexe.display());
        let mut command = space.program("bash", &["-c", &line]);
        if rustix::process::geteuid().is_root() {
            // The limit does not hold for root.
            command.uid(54_321);
        }
        let out = space.start(command).wait();
        assert_eq!(out.code, 1, "{out}");
        assert!(out.stderr.contains("cannot listen for signals, so nothing was begun"), "{out}");
    }
    assert!(!space.exists("a.txt"));
}
