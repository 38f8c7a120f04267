//! What a name leads to may change without a trace in any file: links are turned elsewhere, folders renamed, runs
//! copied. Caches are believed only where nothing of the kind can have happened.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Out, Space, until};

const COPY: &str = r#"
[task.copy]
inputs  = ["in/a.txt"]
outputs = ["copy.txt"]
command = ["cp", "$in", "$out"]
"#;

/// Builds until all that a build may remember is remembered: files are too young for that at first.
fn settle(space: &Space) {
    for _ in 0..3 {
        space.build();
        std::thread::sleep(Duration::from_millis(70));
    }
    space.run(&["build"]).exits(0).says(&["everything is up to date"]);
}

/// Takes a link away and puts another one there.
fn turn(space: &Space, link: &str, to: impl AsRef<Path>) {
    let _ = fs::remove_file(space.path(link));
    symlink(to, space.path(link)).expect(link);
}

fn rename(space: &Space, from: &str, to: &str) {
    fs::rename(space.path(from), space.path(to)).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
}

/// Plain builds and those that look at everything say the same.
fn says_stale(space: &Space) {
    space.run(&["build", "-q"]).exits(1);
    space.run(&["build", "-q", "-v"]).exits(1);
}

#[test]
fn a_link_turned_to_another_file_is_seen() {
    let space = Space::new();
    let all = |name: &str| {
        format!(
            "[pipeline]\ninclude = [\"more.toml\"]\n\n[task.page]\ninputs = {{ x = \"x.txt\" }}\n\
             outputs = [\"page.html\"]\ntemplate = \"{name}\"\n"
        )
    };
    space.write("pipeline.toml", all("texts/page.j2"));
    for version in ["1", "2"] {
        space.write(&format!("x{version}.txt"), format!("x{version}"));
        space.write(&format!("texts{version}/page.j2"), format!("folder {version}: {{{{ x }}}}"));
        space.write(&format!("page{version}.j2"), format!("file {version}: {{{{ x }}}}"));
        let task = format!("[task.more]\noutputs = [\"more.txt\"]\ncommand = \"echo {version} > $out\"\n");
        space.write(&format!("more{version}.toml"), task);
    }
    turn(&space, "x.txt", "x1.txt");
    turn(&space, "texts", "texts1");
    turn(&space, "more.toml", "more1.toml");
    settle(&space);
    assert_eq!((space.read("page.html"), space.read("more.txt")), ("folder 1: x1".into(), "1\n".into()));
    turn(&space, "texts", "texts2");
    says_stale(&space);
    settle(&space);
    turn(&space, "x.txt", "x2.txt");
    says_stale(&space);
    settle(&space);
    turn(&space, "more.toml", "more2.toml");
    says_stale(&space);
    settle(&space);
    assert_eq!((space.read("page.html"), space.read("more.txt")), ("folder 2: x2".into(), "2\n".into()));
    space.write("pipeline.toml", all("page.j2"));
    turn(&space, "page.j2", "page1.j2");
    settle(&space);
    turn(&space, "page.j2", "page2.j2");
    says_stale(&space);
    settle(&space);
    assert_eq!(space.read("page.html"), "file 2: x2");
}

#[test]
fn a_folder_of_a_glob_that_is_renamed_is_seen() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.list]\ninputs = [\"in/*/a.txt\"]\noutputs = [\"list.txt\"]\ncommand = \"echo $in > $out\"\n",
    );
    space.write("in/x/a.txt", "1");
    space.write("in/y/a.txt", "2");
    settle(&space);
    rename(&space, "in/y", "in/z");
    says_stale(&space);
    settle(&space);
    assert_eq!(space.read("list.txt"), "in/x/a.txt in/z/a.txt\n");
    rename(&space, "in/z", "in/y");
    settle(&space);
    assert_eq!(space.read("list.txt"), "in/x/a.txt in/y/a.txt\n");
}

#[test]
fn a_folder_that_a_link_took_the_place_of_is_seen() {
    for (at, inputs) in [("in", "[\"in/a.txt\"]"), ("in", "[\"in/*.txt\"]"), ("deep", "[\"deep/in/a.txt\"]")]
    {
        let space = Space::new();
        space.write("pipeline.toml", COPY.replace("[\"in/a.txt\"]", inputs));
        space.write("in/a.txt", "1");
        space.write("deep/in/a.txt", "1");
        settle(&space);
        // The very same file, elsewhere.
        let outside = space.root().join("outside");
        fs::rename(space.path(at), &outside).expect("moved");
        turn(&space, at, &outside);
        let whole = space.run(&["build", "-n"]);
        let plain = space.run(&["build"]);
        assert_ne!(plain.code, 0, "{inputs}: it is outside now\n{plain}");
        plain.says(&["outside the run"]);
        assert!(format!("{whole}").contains("outside the run"), "{inputs}\n{whole}");
        // Back in its place, all is as it was.
        fs::remove_file(space.path(at)).expect("the link");
        fs::rename(&outside, space.path(at)).expect("moved back");
        space.run(&["build"]).exits(0);
        space.run(&["build", "-q"]).exits(0);
    }
}

/// `cp -a`
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

#[test]
fn the_copy_of_a_run_is_made_of_the_files_beside_it() {
    let space = Space::new();
    let build = |folder: &str| -> Out {
        let run = space.path(folder).join("run").display().to_string();
        let out = space.run(&["-C", &run, "build"]).exits(0);
        std::thread::sleep(Duration::from_millis(70));
        out
    };
    let read = |path: &str| space.read(path);
    space.write(
        "a/p/pipeline.toml",
        "[pipeline]\ninclude = [\"stages/*.toml\"]\n\n[task.page]\ninputs = { x = \"x.txt\" }\n\
         outputs = [\"page.html\"]\ntemplate = \"page.j2\"\n",
    );
    space.write("a/p/page.j2", "first: {{ x }}");
    space.write("a/p/stages/one.toml", "[task.one]\noutputs = [\"one.txt\"]\ncommand = \"echo 1 > $out\"\n");
    space.write("a/run/run.toml", "pipeline = \"../p/pipeline.toml\"\n");
    space.write("a/run/x.txt", "x");
    for _ in 0..3 {
        build("a");
    }
    assert!(space.has_null_build_record("a/run"), "a build of a pipeline elsewhere is remembered");
    copy(&space.path("a"), &space.path("b"));
    space.write("b/p/page.j2", "second: {{ x }}");
    build("b");
    assert_eq!(read("b/run/page.html"), "second: x");
    assert_eq!(read("a/run/page.html"), "first: x");
    copy(&space.path("a"), &space.path("c"));
    space.write("c/p/stages/two.toml", "[task.two]\noutputs = [\"two.txt\"]\ncommand = \"echo 2 > $out\"\n");
    build("c");
    assert_eq!(read("c/run/two.txt"), "2\n");
    // Moved, and another put in its place.
    rename(&space, "a", "d");
    copy(&space.path("d"), &space.path("a"));
    space.write("d/p/page.j2", "third: {{ x }}");
    build("d");
    assert_eq!(read("d/run/page.html"), "third: x");
    build("a").says(&["everything is up to date"]);
}

/// A task that was found up to date is not known to be so by what went away later in the same build.
#[test]
fn an_input_that_goes_while_others_run_is_missed_by_the_next_build() {
    for inputs in ["[\"in/*.txt\"]", "[\"in/a.txt\", \"in/b.txt\"]\noptional = [\"in/b.txt\"]"] {
        let space = Space::new();
        let list = format!(
            "[task.list]\ninputs = {inputs}\noutputs = [\"list.txt\"]\ncommand = \"cat $in > $out\"\n\n"
        );
        let slow = "[task.slow]\ninputs = [\"x.txt\"]\noutputs = [\"slow.txt\"]\ncommand = '''\n\
                    touch ../began; while test -e ../hold; do sleep 0.01; done; cp $in $out'''\n";
        space.write("pipeline.toml", format!("{list}{slow}"));
        space.write("in/a.txt", "a");
        space.write("in/b.txt", "b");
        space.write("x.txt", "1");
        settle(&space);
        space.write("x.txt", "2");
        // Nothing is known any more: all is judged, and what was found is remembered.
        space.remove(".planexe/index");
        fs::remove_file(space.root().join("began")).expect("it ran");
        fs::write(space.root().join("hold"), "").expect("a file");
        let build = space.spawn(&["build"]);
        until("the task to begin", || space.root().join("began").exists().then_some(()));
        space.remove("in/b.txt");
        fs::remove_file(space.root().join("hold")).expect("a file");
        build.wait().exits(0).says(&["1 task ran"]);
        assert_eq!(space.read("list.txt"), "ab", "{inputs}");
        says_stale(&space);
        settle(&space);
        assert_eq!(space.read("list.txt"), "a", "{inputs}");
    }
}
