//! Rounds of refinement of a prompt: which answer is in use, and what is asked where it comes to use again.

use super::eval::judge;
use crate::support::Space;

const REFINED: &str = r##"
[task.plan]
inputs  = ["plan.txt"]
outputs = ["plan.md"]
prompt  = "TASK=plan\n{{ plan }}"
[task.plan.eval]
prompt  = "TASK=judge\n{{ answer }}"
[task.plan.refine]
max_rounds = 3
"##;

/// The best round of a prompt task need not be the last: its answer is the one in use, the one that is recorded, and the
/// one that comes to use again, with its verdict and without further rounds.
#[test]
fn the_answer_of_the_best_round_is_the_one_in_use() {
    for (scores, best) in [
        (&["0.75", "0.9", "0.8"], 0.9),
        // The last round alone would not pass.
        (&["0.9", "0.2", "0.3"], 0.9),
        (&["0.75", "0.8", "0.9"], 0.9),
    ] {
        let server = judge(scores);
        let space = Space::with(&server, REFINED);
        space.write("plan.txt", "A bridge.");
        space.build();
        let (made, asked) = (space.read("plan.md"), server.total());
        assert_eq!((space.done("plan.md")["eval"]["score"].as_f64(), asked), (Some(best), 6), "{scores:?}");
        let shown = space.run(&["show", "plan", "--json"]).exits(0).json();
        let in_use: Vec<_> =
            shown["calls"].as_array().unwrap().iter().filter(|call| call["verdict"] == "in_use").collect();
        assert_eq!(in_use.len(), 1, "{scores:?}: {shown}");
        let answer = &shown["answer"];
        assert_eq!(answer.as_str().map(str::trim), Some(made.trim()), "{scores:?}: {shown}");

        space.remove("plan.md");
        space.run(&["build", "-n"]).exits(0).says(&["a kept answer will be used", "1 call expected"]);
        space.build();
        assert_eq!((space.read("plan.md"), server.total()), (made.clone(), asked), "{scores:?}");
        space.assert_nothing_to_do(&server);

        space.run(&["record", "answers.json"]).exits(0).says_nothing_of(&["edited"]);
        let pipeline = space.read("pipeline.toml");
        let start = pipeline.find("[task.plan]").unwrap();
        let played = Space::new();
        played.write("plan.txt", "A bridge.");
        played.write("answers.json", space.read("answers.json"));
        let model =
            "[models.fake]\napi = \"recorded\"\nfile = \"answers.json\"\n[defaults]\nmodel = \"fake\"\n";
        played.write("pipeline.toml", format!("{model}{}", &pipeline[start..]));
        played.build();
        assert_eq!(played.read("plan.md"), made, "{scores:?}");
        assert_eq!(played.sidecar("plan.md")["eval"]["score"].as_f64(), Some(best), "{scores:?}");
    }
}
