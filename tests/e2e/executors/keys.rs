//! What a pipeline says of executors, and what is told of mistakes in it; what tasks share of this machine.

use crate::support::{FakeLlm, Space, until};

fn faults(tables: &str) -> String {
    let space = Space::new();
    space.write("pipeline.toml", tables);
    space.run(&["check"]).exits(2).stderr
}

#[test]
fn mistakes_are_told_with_their_place() {
    let task = "[task.a]\noutputs = [\"a\"]\ncommand = \"echo > $out\"\n";
    for (tables, says) in [
        (
            format!("{task}executor = \"slrum\"\n"),
            vec!["pipeline.toml:4", "unknown executor `slrum`", "did you mean `slurm`?"],
        ),
        (
            format!("[executors.farm]\nmax_jobs = 4\n{task}"),
            vec!["pipeline.toml:1", "executor `farm` has no `kind`"],
        ),
        (format!("[executors.slurm]\nmax_jobs = 0\n{task}"), vec!["pipeline.toml:2", "`max_jobs` is 0"]),
        (
            format!("[executors.slurm]\nsubmit = [\"x\", \"$job\"]\n{task}"),
            vec!["pipeline.toml:2", "`submit` has no meaning for a `slurm` executor", "only with `command`"],
        ),
        (
            format!(
                "[executors.q]\nkind = \"command\"\nsubmit = [\"q\"]\nstatus = [\"s\"]\ncancel = [\"c\"]\n{task}"
            ),
            vec!["pipeline.toml:3", "hands nothing over", "states.ended"],
        ),
        (
            format!("{task}resources = {{ memory = \"much\" }}\n"),
            vec!["pipeline.toml:4", "`much` is no amount of memory", "8G"],
        ),
        (
            format!("{task}resources = {{ cpus = \"{{{{ item.n }}}}\" }}\n"),
            vec!["pipeline.toml:4", "has no items"],
        ),
        (
            "[task.a]\noutputs = [\"a\"]\nin_place = true\ncommand = \"echo > a\"\nexecutor = \"slurm\"\n"
                .to_owned(),
            vec!["pipeline.toml:5", "on other machines", "$out"],
        ),
        (
            format!("[services.llm]\ncommand = [\"s\"]\n{task}service = \"lm\"\n"),
            vec!["does not say how it is known to be ready", "unknown service `lm`", "did you mean `llm`?"],
        ),
        (
            format!("[services.llm]\nready = {{ url = \"localhost\" }}\nexecutor = \"slrum\"\n{task}"),
            vec!["service `llm` has no `command`", "http://localhost", "did you mean `slurm`?"],
        ),
        (
            "[task.a]\noutputs = [\"a\"]\ntemplate = \"x y\"\nexecutor = \"slurm\"\n".to_owned(),
            vec!["pipeline.toml:4", "`executor` has no meaning in a template task"],
        ),
    ] {
        let said = faults(&tables);
        for words in says {
            assert!(said.contains(words), "`{words}` is missing in:\n{said}\nof:\n{tables}");
        }
    }
    let space = Space::new();
    space.write("pipeline.toml", task);
    space.run(&["build", "--executor", "detatched"]).exits(2).says(&["did you mean `detached`?"]);
}

#[test]
fn memory_and_cores_of_this_machine_are_a_budget() {
    let server = FakeLlm::new();
    let space = Space::new();
    // Each says when it begins, and ends once it is let go.
    let line = "echo $key >> started; while [ ! -e go ] && [ -e pipeline.toml ]; do sleep 0.02; done; cp started $out";
    space.write(
        "pipeline.toml",
        format!(
            "[executors.local]\nmemory = \"1G\"\ncpus = 8\n\n[task.each]\nforeach = {{ file = \"items.json\", key = \"name\" }}\n\
             outputs = [\"out/{{{{ key }}}}\"]\ncommand = \"{line}\"\nresources = {{ memory = \"{{{{ item.memory }}}}\" }}\n\n\
             [task.last]\noutputs = [\"last\"]\ncommand = \"touch beside; echo x > $out\"\npriority = -1\n"
        ),
    );
    space.write(
        "items.json",
        r#"[{"name":"a","memory":"600M"},{"name":"b","memory":"600M"},{"name":"c","memory":"600M"}]"#,
    );
    let build = space.spawn(&["build"]);
    until("one of the three, and what takes no memory", || {
        (space.exists("started") && space.exists("last")).then_some(())
    });
    assert_eq!(space.read("started").lines().count(), 1, "600 and 600 MiB are more than 1 GiB");
    space.write("go", "");
    build.wait().exits(0);
    assert_eq!(space.read("started").lines().count(), 3);
    space.assert_nothing_to_do(&server);
}
