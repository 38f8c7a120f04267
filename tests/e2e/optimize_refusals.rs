//! What cannot be tried, compared or promoted, and what is said then.

use crate::optimize::{calls, prompt, server, space};

#[test]
fn what_cannot_be_tried_is_said_with_what_to_do() {
    let server = server();
    let space = space(&server);
    for (args, words) in [
        (&["optimize", "summary"][..], &["no evaluator", "[task.summary.eval]"][..]),
        (&["optimize", "nothing"], &["no task or output"]),
        (&["optimize", "swot", "--variant", "none.md"], &["there is no file `none.md`"]),
        (&["optimize", "swot", "--models", "fakes"], &["no model is called `fakes`", "fake"]),
        (&["optimize", "swot", "--promote", "good"], &["no experiment"]),
        (&["optimize", "swot", "--show"], &["no experiment"]),
        (&["optimize", "swot", "--margin", "2"], &["wanted a score from 0 to 1"]),
    ] {
        space.run(args).exits(2).says(words);
    }
    space.write("odd.md", "{{ plan");
    space.run(&["optimize", "swot", "--variant", "odd.md"]).exits(2).says(&["odd.md:1"]);
    space.write("odd.md", "TASK=swot {{ nothing }}");
    space.run(&["optimize", "swot", "--variant", "odd.md"]).exits(2).says(&["nothing"]);
    assert!(!space.exists("experiments/swot/cells"));
    space.run(&["optimize"]).exits(0).says(&["no experiments"]);
}

#[test]
fn what_cannot_be_compared_or_promoted_is_said_with_what_to_type() {
    let server = server();
    let space = space(&server);
    let more = "[task.item]\nforeach = { file = \"items.json\", items = \"/list\", key = \"id\" }\noutputs = [\"item/{{ key }}.txt\"]\nprompt = \"TASK=item\\n{{ item.id }}\"\n[task.item.eval]\nthreshold = 0.0\nprompt = \"TASK=judge\\n{{ answer }}\"\n[task.inline]\ninputs = [\"plan.txt\"]\noutputs = [\"inline.md\"]\nprompt = \"TASK=swot\\nSCORE=0.4 {{ plan }}\"\n[task.inline.eval]\nthreshold = 0.3\nprompt = \"TASK=judge\\nRate {{ answer }}\"\n";
    space.write("pipeline.toml", space.read("pipeline.toml") + more);
    space.write("items.json", "{\"list\": [{\"id\": \"x\"}]}");
    space.build().exits(0);
    let before = server.total();
    for (args, words) in [
        (&["optimize", "item[x]"][..], &["`item[x]` is one item", "planexe optimize item"][..]),
        (
            &["optimize", "inline"],
            &["there is nothing to compare the prompt of `inline` with", "--propose N"],
        ),
        (&["optimize", "swot", "--models", "nobody"], &["nobody"]),
    ] {
        space.run(args).exits(2).says(words);
    }
    assert_eq!(server.total(), before);
    // A text for a prompt that stands in the pipeline is tried, and that file is not written to.
    space.write(
        "prompts/variants/inline/good.md",
        prompt("0.9", "Write it well.").replace(" {{ purpose }}", ""),
    );
    let pipeline = space.read("pipeline.toml");
    space.run(&["optimize", "inline"]).exits(0).says(&["good"]);
    let out = space.run(&["optimize", "inline", "--promote", "good"]);
    assert_ne!(out.code, 0);
    out.says(&["stands in the pipeline itself", "move the text to a file, prompts/inline.md"]);
    assert_eq!(space.read("pipeline.toml"), pipeline);
}

#[test]
fn one_run_named_twice_is_tried_once_and_a_promotion_is_on_record() {
    let server = server();
    let space = space(&server);
    let before = calls(&server);
    let out = space.run(&["optimize", "swot", "--run", ".", "--run", "../run"]).exits(0);
    out.says(&["has the inputs of", "it is passed over"]);
    assert_eq!(calls(&server), (before.0 + 3, before.1 + 3));
    // Each proposal is a call more, and a trial.
    space.run(&["optimize", "swot", "-n", "--propose", "2"]).exits(0).says(&["2 trials", "6 calls"]);
    space.run(&["optimize", "swot", "--promote", "good"]).exits(0);
    let folder = space.files("experiments/swot");
    let page = folder.iter().find(|file| file.ends_with("decision.md")).expect("a page of results");
    assert!(space.read(page).contains("Promoted: `good`, "), "{}", space.read(page));
}

#[test]
fn a_kept_text_that_was_damaged_replaces_no_prompt() {
    let server = server();
    let space = space(&server);
    space.run(&["optimize", "swot"]).exits(0);
    let texts = space.files("experiments/swot");
    let kept =
        texts.iter().find(|file| space.bytes(file) == prompt("0.9", "Write a good SWOT.").into_bytes());
    space.write(kept.expect("the text"), prompt("0.9", "Something else."));
    let out = space.run(&["optimize", "swot", "--promote", "good"]);
    assert_ne!(out.code, 0);
    out.says(&["the kept text `good` is damaged"]);
    assert_eq!(space.read("prompts/swot.md"), prompt("0.7", "Write a SWOT."));
}
