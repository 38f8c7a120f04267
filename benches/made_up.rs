//! A made-up pipeline on disk, built once: 10 layers of templates, each task reading two files of the layer before.

use std::process::Command;

use planexe_engine::graph::TaskId;
use planexe_engine::staleness::Rules;
use planexe_pipeline::load::{Locations, load};
use planexe_pipeline::project::Project;
use planexe_query::dry_run::{Look, Survey, survey};
use planexe_store::Store;
use planexe_store::index::Index;

/// A run with everything in it done.
pub struct MadeUp {
    _dir: tempfile::TempDir,
    /// Where it is.
    pub locations: Locations,
}

impl MadeUp {
    /// So many tasks, built by the program itself.
    pub fn built(tasks: usize) -> MadeUp {
        let dir = tempfile::tempdir().expect("a folder");
        let run = dir.path().canonicalize().expect("a folder");
        let width = tasks / 10;
        let mut text = String::from("[pipeline]\nname = \"made-up\"\n\n");
        std::fs::create_dir(run.join("in")).expect("a folder");
        for at in 0..width {
            std::fs::write(run.join(format!("in/{at}.txt")), format!("input {at}\n")).expect("a file");
        }
        for layer in 0..10 {
            for at in 0..width {
                let folder = if layer == 0 { "in".to_owned() } else { format!("out/{}", layer - 1) };
                let other = (at * 7 + 3) % width;
                text += &format!(
                    "[task.t{layer}_{at}]\ninputs = {{ a = \"{folder}/{at}.txt\", b = \"{folder}/{other}.txt\" }}\n\
                     outputs = [\"out/{layer}/{at}.txt\"]\ntemplate = \"{{{{ a }}}} and some of {{{{ b | length }}}}\"\n\n"
                );
            }
        }
        std::fs::write(run.join("pipeline.toml"), text).expect("a file");
        let locations =
            Locations { run: run.clone(), pipeline: run.join("pipeline.toml"), ..Locations::default() };
        let made_up = MadeUp { _dir: dir, locations };
        made_up.build(tasks);
        // Once more, so that what is young is old enough to be believed.
        std::thread::sleep(std::time::Duration::from_millis(100));
        made_up.build(tasks);
        made_up
    }

    fn build(&self, tasks: usize) {
        let mut planexe = Command::new(env!("CARGO_BIN_EXE_planexe"));
        let done = planexe.args(["build", "-s"]).current_dir(&self.locations.run).status();
        assert!(done.is_ok_and(|status| status.success()), "a build of {tasks} tasks");
    }

    /// The pipeline, read.
    pub fn load(&self) -> Project {
        load(&self.locations).unwrap_or_else(|faults| panic!("{}", faults.render(false, 100)))
    }

    /// Where its records are.
    pub fn store(&self) -> Store {
        Store::open(self.locations.run.clone())
    }
}

/// Judges everything.
pub fn judge_all(project: &Project, store: &Store, index: &Index) -> Survey {
    let targets: Vec<(TaskId, Option<_>)> = project.default.iter().map(|&id| (id, None)).collect();
    let look =
        Look { project, store, index, rules: Rules::default(), no_reuse: false, only: false, env: &|_| None };
    survey(&look, &targets)
}
