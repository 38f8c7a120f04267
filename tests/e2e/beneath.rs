//! What lies below the run directory is what it seems: no link leads out of it, no pipe is waited for, and temporary
//! names are in nobody's way.

use std::fs;
use std::process::Command;

use crate::support::{Fifo, Space, until};

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
