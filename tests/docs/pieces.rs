//! The pieces of TOML in the pages load.

use std::path::Path;

use planexe_pipeline::load::{Locations, load};
use planexe_pipeline::manifest::ReadOptions;
use planexe_plan_execution::rules::Rules;

const PAGES: [(&str, &str, usize); 5] = [
    ("commands", include_str!("../../docs/commands.md"), 1),
    ("executors", include_str!("../../docs/executors.md"), 3),
    ("services", include_str!("../../docs/services.md"), 2),
    ("isolation", include_str!("../../docs/isolation.md"), 1),
    ("execution", include_str!("../../docs/execution.md"), 3),
];

#[test]
fn the_pieces_of_pipelines_load() {
    for (page, text, wanted) in PAGES {
        let pieces: Vec<&str> =
            text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("its end")).collect();
        assert_eq!(pieces.len(), wanted, "{page}");
        for piece in pieces {
            if piece.contains("[[item]]") {
                let rules = Rules::from_text(Path::new("execution.toml"), piece.to_owned());
                assert!(rules.is_ok(), "{page}: {piece}");
                continue;
            }
            let parent = tempfile::tempdir().expect("a folder");
            let run = parent.path().join("run");
            for file in
                ["plan/report.md", "run/data.csv", "run/people.json", "run/issue.md", "run/docs/a.txt"]
            {
                let path = parent.path().join(file);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, "{}").expect("a file");
            }
            let mut whole = piece.to_owned();
            if !piece.contains("[task.") {
                whole += "\n[task.x]\noutputs = [\"x.txt\"]\ntemplate = \"x y\"\n";
            }
            if piece.contains("prompt ") && !piece.contains("[models.") {
                whole += "\n[models.m]\napi = \"simulated\"\n[defaults]\nmodel = \"m\"\n";
            }
            std::fs::write(run.join("pipeline.toml"), whole).expect("a pipeline");
            let locations = Locations {
                pipeline: run.join("pipeline.toml"),
                options: ReadOptions {
                    allow_outside: vec![parent.path().join("plan")],
                    ..ReadOptions::default()
                },
                run,
                ..Locations::default()
            };
            if let Err(faults) = load(&locations) {
                panic!("{page}: {piece}\n{}", faults.render(false, 100));
            }
        }
    }
}
