//! make's jobserver: how many commands run at once, and that every token comes back.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::support::{Space, patiently, until};

/// Commands that note when they begin and end, each with its own name.
fn noted(tasks: usize, each: &str, last: &str) -> String {
    (0..tasks)
        .map(|n| {
            let then = if n + 1 == tasks { last } else { each };
            format!(
                "[task.t{n}]\noutputs = [\"o{n}\"]\ncommand = \"echo + >> noted; {then}; echo - >> noted; echo {n} > $out\"\n"
            )
        })
        .collect()
}

fn most_at_once(space: &Space) -> i32 {
    let (mut now, mut most) = (0, 0);
    for line in space.read("noted").lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    most
}

/// A jobserver of the kind of make 4.4, with so many tokens.
struct Server {
    pipe: std::fs::File,
    tokens: usize,
}

impl Server {
    fn new(space: &Space, tokens: usize) -> Server {
        let path = space.root().join("jobserver");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let mut pipe = std::fs::File::options().read(true).write(true).open(&path).expect("the pipe");
        pipe.write_all(&vec![b'+'; tokens]).expect("tokens");
        space.set_env("MAKEFLAGS", format!(" -j{} --jobserver-auth=fifo:{}", tokens + 1, path.display()));
        Server { pipe, tokens }
    }

    fn all_came_back(mut self) {
        let flags = rustix::fs::fcntl_getfl(self.pipe.as_fd()).expect("flags");
        rustix::fs::fcntl_setfl(self.pipe.as_fd(), flags | rustix::fs::OFlags::NONBLOCK).expect("flags");
        let mut bytes = [0; 64];
        assert_eq!(self.pipe.read(&mut bytes).expect("tokens"), self.tokens);
    }
}

#[test]
fn commands_take_as_many_turns_as_make_has() {
    patiently(|slow| {
        let nap = format!("sleep {}", 0.2 * f64::from(slow));
        let space = Space::new();
        space.write("pipeline.toml", noted(8, &nap, &nap));
        let server = Server::new(&space, 2);
        space.build().exits(0);
        assert_eq!(most_at_once(&space), 3);
        server.all_came_back();
    });
}

#[test]
fn tokens_come_back_from_a_build_that_fails() {
    let space = Space::new();
    space.write("pipeline.toml", noted(6, "sleep 0.2", "exit 3"));
    let server = Server::new(&space, 3);
    space.run(&["build", "--stop-all"]).exits(1);
    server.all_came_back();
}

#[test]
fn tokens_come_back_from_a_build_that_is_ended() {
    let space = Space::new();
    space.write("pipeline.toml", noted(6, "sleep 600", "sleep 600"));
    let server = Server::new(&space, 3);
    let running = space.spawn(&["build"]);
    until("commands on all turns", || {
        let noted = std::fs::read_to_string(space.path("noted")).unwrap_or_default();
        (noted.lines().count() == 4).then_some(())
    });
    running.signal(rustix::process::Signal::TERM);
    running.wait().exits(143);
    server.all_came_back();
}

#[test]
fn our_own_number_counts_for_more_than_makes() {
    let space = Space::new();
    space.write("pipeline.toml", noted(6, "sleep 0.2", "sleep 0.2"));
    let server = Server::new(&space, 5);
    space.run(&["build", "-j1"]).exits(0);
    assert_eq!(most_at_once(&space), 1);
    server.all_came_back();
}

#[test]
fn under_make_itself() {
    patiently(|slow| {
        let nap = format!("sleep {}", 0.2 * f64::from(slow));
        let space = Space::new();
        let make = |line: &str, jobs: &str| {
            let makefile = format!("all:\n\t{line}\n");
            space.write("Makefile", makefile.replace("PLANEXE", env!("CARGO_BIN_EXE_planexe")));
            space.program("make", &[jobs]).output().expect("make")
        };
        if space.program("make", &["--version"]).output().is_err() {
            return;
        }
        // make keeps one turn for each line it starts, so that of three all are ours here.
        space.write("pipeline.toml", noted(8, &nap, &nap));
        let out = make("@+PLANEXE build", "-j3");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(most_at_once(&space), 3);
        // A line that does not say it is a make gets none, and planexe does not take just any descriptor for a pipe.
        space.remove("noted");
        let out = make("@PLANEXE build -B 3</dev/null 4<pipeline.toml", "-j3");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains("jobserver is out of reach"), "{said}");
        assert_eq!(most_at_once(&space), 1);
    });
}

/// make runs lines with a `+` even then: it is for what they start to run nothing.
#[test]
fn a_make_that_runs_nothing_has_nothing_run() {
    let space = Space::new();
    space.write("pipeline.toml", noted(2, "true", "true"));
    space.write("Makefile", format!("all:\n\t@+{} build\n", env!("CARGO_BIN_EXE_planexe")));
    if space.program("make", &["--version"]).output().is_err() {
        return;
    }
    let make = |flags: &[&str]| space.program("make", flags).output().expect("make");
    for flags in [&["-n"][..], &["-kn", "-j3"], &["-t"]] {
        let out = make(flags);
        let told = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && told.contains("Would run 2 tasks"), "{flags:?}: {told}");
    }
    assert!(!make(&["-q"]).status.success());
    assert!(!space.exists("noted") && !space.exists("events.jsonl"));
    assert!(make(&[]).status.success() && space.exists("noted"));
    assert!(make(&["-q"]).status.success());
}

/// A file that is no pipe stays as it is.
#[test]
fn tokens_are_taken_from_pipes_alone() {
    let space = Space::new();
    space.write("pipeline.toml", noted(3, "true", "true"));
    space.write("kept.txt", "Of value.");
    let path = space.root().join("kept.txt");
    space.set_env("MAKEFLAGS", format!(" -j3 --jobserver-auth=fifo:{}", path.display()));
    space.run(&["build"]).exits(0).says(&["jobserver is out of reach"]);
    assert_eq!(space.read("kept.txt"), "Of value.");
}

#[test]
fn calls_take_turns_only_if_told() {
    patiently(|slow| {
        for (told, most) in [("", 4), ("[jobserver]\ncalls = true\n\n", 2)] {
            let space = Space::new();
            let model =
                "[models.m]\napi = \"command\"\ncommand = [\"sh\", \"ask.sh\"]\nmax_concurrent = 4\n\n";
            let nap = 0.3 * f64::from(slow);
            space.write(
                "ask.sh",
                format!("cat > /dev/null; echo + >> noted; sleep {nap}; echo - >> noted; echo yes\n"),
            );
            let tasks: String = (0..4)
                .map(|n| {
                    format!(
                        "[task.t{n}]\nmodel = \"m\"\noutputs = [\"o{n}.txt\"]\nprompt = \"Say {n} now\"\n"
                    )
                })
                .collect();
            space.write("pipeline.toml", format!("{told}{model}{tasks}"));
            let server = Server::new(&space, 1);
            space.build().exits(0);
            assert_eq!(most_at_once(&space), most, "{told:?}");
            server.all_came_back();
        }
    });
}

#[test]
fn a_pipe_held_by_others_keeps_nobody_waiting_at_the_end() {
    // No token is ever free: the build goes on with its one turn, and ends though it asked for more.
    let space = Space::new();
    space.write("pipeline.toml", noted(3, "sleep 0.2", "sleep 0.2"));
    let server = Server::new(&space, 0);
    space.build().exits(0);
    assert_eq!(most_at_once(&space), 1);
    drop(server);
}
