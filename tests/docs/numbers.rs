//! The numbers on the pages are those of the source, and whatever can be written, set or met is on a page.

use std::path::Path;
use std::process::Command;

use planexe_base::event::TOLD;
use planexe_base::exit;
use planexe_base::record::State;
use planexe_llm::retry::Policy;
use serde_json::Value;

const README: &str = include_str!("../../README.md");
const EVENTS: &str = include_str!("../../docs/events.md");
const DURABILITY: &str = include_str!("../../docs/durability.md");
const ISOLATION: &str = include_str!("../../docs/isolation.md");
const LIMITS: &str = include_str!("../../docs/limits.md");
const MODELS: &str = include_str!("../../docs/models.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, the README first.
fn pages() -> String {
    let mut all = README.to_owned();
    for entry in std::fs::read_dir(root().join("docs")).expect("docs").flatten() {
        if entry.path().extension().is_some_and(|it| it == "md") {
            all += &std::fs::read_to_string(entry.path()).expect("a page");
        }
    }
    all
}

/// A page on one line.
fn flat(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn help(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_planexe")).args(args).output().expect("planexe");
    assert!(out.status.success(), "{args:?}");
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn each_limit_on_the_page_is_that_of_the_source() {
    #[rustfmt::skip]
    let rows = [
        ("crates/base/src/forced_exit.rs", "LAST: Duration = Duration::from_millis(1500)", "After 1.5 s the"),
        ("crates/base/src/forced_exit.rs", "AT_THE_LATEST: Duration = Duration::from_millis(1750)", "after 1.75 s"),
        ("crates/base/src/process.rs", "LAST_GRACE: Duration = Duration::from_millis(750)", "killed 0.75 to 1 s later"),
        ("crates/pipeline/src/check/measure.rs", "MOST_FORMS: u64 = 1_000_000", "counted each time they are reached | 1,000,000 |"),
        ("crates/pipeline/src/check/measure.rs", "LONGEST_CHAIN: usize = 1_000", "the same, as a chain | 1,000 |"),
        ("crates/pipeline/src/check/measure.rs", "DEEPEST: usize = 2_000", "nesting of schemas | 2,000 |"),
        ("crates/pipeline/src/check/measure.rs", "LONGEST_PATTERN: usize = 16 * 1024", "`check.matches`) | 16 KiB |"),
        ("crates/pipeline/src/check/measure.rs", "MOST_PATTERNS: usize = 500", "patterns of one schema | 500, together 256 KiB |"),
        ("crates/pipeline/src/check/measure.rs", "ALL_PATTERNS: usize = 256 * 1024", "together 256 KiB |"),
        ("crates/pipeline/src/check/mod.rs", "CHECK_TIME: Duration = Duration::from_secs(20)", "compiling a schema | 20 s |"),
        ("crates/pipeline/src/check/mod.rs", "MOST: usize = 30", "violations reported | 30 |"),
        ("crates/pipeline/src/check/schema.rs", "PATTERN: usize = 10 << 20", "10 MiB each"),
        ("crates/pipeline/src/check/schema.rs", "PATTERNS: usize = 128 << 20", "128 MiB divided by their number"),
        ("crates/pipeline/src/check/schema.rs", "SMALL_PATTERN: usize = 256 << 10", "but 256 KiB at least"),
        ("crates/pipeline/src/manifest/diagnostic/near.rs", "MOST_COMPARED: usize = 1_000_000", "1,000,000 comparisons"),
        ("crates/pipeline/src/manifest/diagnostic/near.rs", "LONGEST_NAME: usize = 200", "names of 200 bytes"),
        ("crates/pipeline/src/template/bounds/mod.rs", "WORDS: usize = 10_000", "`mentions` looks for | 10,000 |"),
        ("crates/pipeline/src/template/bounds/counted.rs", "OPERATORS: usize = 300", "in an expression | 300 |"),
        ("crates/pipeline/src/template/bounds/counted.rs", "ELIFS: usize = 300", "in one template | 300 |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "FUEL: u64 = 10_000_000", "| steps | 10,000,000 |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "TIME: Duration = Duration::from_secs(20)", "| time | 20 s |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "BYTES: u64 = 512 << 20", "| 512 MiB |"),
        ("crates/pipeline/src/template/mod.rs", "LARGEST: usize = 256 << 20", "| rendered text | 256 MiB |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "ITEMS: usize = 1_000_000", "a list that the template makes | 1,000,000 |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "KEPT: u64 = 2_000_000", "at each occurrence | 2,000,000 |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "DEEPEST_VALUE: usize = 200", "in such a value | 200 |"),
        ("crates/pipeline/src/template/bounds/mod.rs", "COLUMNS: usize = 10_000", "precisions of `format` | 10,000 |"),
        ("crates/base/src/pattern.rs", "LONGEST: usize = 4096", "a path or a glob | 4,096 bytes |"),
        ("crates/pipeline/src/items.rs", "MOST: usize = 200_000", "or batches of them | 200,000 |"),
        ("crates/pipeline/src/manifest/toml_text.rs", "LARGEST_FILE: u64 = 64 << 20", "| 64 MiB; 64; 1,500,000 |"),
        ("crates/pipeline/src/manifest/toml_text.rs", "DEEPEST: usize = 64", "| 64 MiB; 64; 1,500,000 |"),
        ("crates/pipeline/src/manifest/toml_text.rs", "MOST_VALUES: usize = 1_500_000", "| 64 MiB; 64; 1,500,000 |"),
        ("crates/pipeline/src/manifest/check/mod.rs", "MOST_SLOTS: usize = 1000", "of a pipeline | 1,000 each |"),
        ("crates/llm/src/stream.rs", "BODY_CAP: u64 = 16 * 1024 * 1024", "a line of it | 16 MiB; 8 MiB |"),
        ("crates/llm/src/stream.rs", "LINE_CAP: usize = 8 * 1024 * 1024", "a line of it | 16 MiB; 8 MiB |"),
        ("crates/llm/src/recorded.rs", "FILE_CAP: u64 = 256 * 1024 * 1024", "recorded answers | 256 MiB |"),
        ("crates/build/src/runner/eval.rs", "NOTES: usize = 16 << 10", "| 16,384 characters; 256 KiB |"),
        ("crates/build/src/runner/eval.rs", "FORMER: usize = 256 << 10", "| 16,384 characters; 256 KiB |"),
        ("src/ops/optimize/propose.rs", "LARGEST: usize = 256 << 10", "(`optimize`) | 256 KiB |"),
        ("crates/llm/src/relay/server.rs", "HEAD_CAP: u64 = 64 * 1024", "| 64 KiB; 64 MiB |"),
        ("crates/llm/src/relay/server.rs", "BODY_CAP: u64 = 64 * 1024 * 1024", "| 64 KiB; 64 MiB |"),
        ("crates/llm/src/relay/server.rs", "CONNECTIONS: usize = 256", "of such a program | 256 |"),
        ("crates/llm/src/batches.rs", "MOST_CALLS: usize = 10_000", "| 10,000; 100 MiB |"),
        ("crates/llm/src/batches.rs", "MOST_BYTES: usize = 100 << 20", "| 10,000; 100 MiB |"),
        ("crates/notify/src/outbox.rs", "MOST: usize = 1000", "| 1,000, seven days |"),
        ("crates/notify/src/outbox.rs", "OLD: f64 = 7.0 * 86400.0", "| 1,000, seven days |"),
        ("src/commands/done.rs", "LARGEST: u64 = 256 << 20", "done --evidence` | 256 MiB |"),
        ("src/ops/evidence.rs", "LARGEST: u64 = 4 << 20", "| 4 MiB; 2,000 |"),
        ("src/ops/evidence.rs", "MOST: usize = 2_000", "| 4 MiB; 2,000 |"),
        ("crates/plan-execution/src/plan.rs", "MOST: usize = 10_000", "`execute` reads | 10,000 |"),
        ("src/ops/import/folder.rs", "MOST: usize = 20_000", "20,000 names"),
        ("src/ops/import/folder.rs", "LARGEST: u64 = 16 << 20", "16 MiB a file"),
        ("src/ops/import/folder.rs", "ALL: u64 = 1 << 30", "1 GiB in all"),
        ("src/ops/import/records.rs", "MOST_STAGES: usize = 500", "500 recorded stages"),
        ("crates/ui/src/views/changes.rs", "LONGEST: Duration = Duration::from_secs(1)", "`edit-plan`, …) | 1 s |"),
        ("src/mcp/protocol.rs", "LONGEST: usize = 4 << 20", "| 4 MiB, nested 128 deep |"),
        ("src/mcp/mod.rs", "MOST: usize = 32", "calls that wait | 32; 16 |"),
        ("src/mcp/mod.rs", "MOST_WAITING: usize = 16", "calls that wait | 32; 16 |"),
        ("src/serve/mod.rs", "MOST: usize = 64", "that follow a run | 64; 24 |"),
        ("src/serve/mod.rs", "MOST_STREAMS: usize = 24", "that follow a run | 64; 24 |"),
    ];
    assert_numbers("limits.md", LIMITS, &rows);
}

#[test]
fn each_number_of_durability_and_isolation_is_that_of_the_source() {
    #[rustfmt::skip]
    let rows = [
        ("crates/base/src/fs/group.rs", "AT_A_TIME: usize = 2", "Up to two files are synced at a time"),
        ("crates/base/src/fs/group.rs", "MANY: usize = 4", "if four or more wait"),
        ("crates/base/src/fs/group.rs", "LONGEST_PAUSE: Duration = Duration::from_millis(4)", "4 ms at most"),
        ("crates/base/src/fs/group.rs", "SLOW: Duration = Duration::from_secs(1)", "took over a second"),
        ("crates/base/src/fs/group.rs", "AFTER_SLOW: Duration = Duration::from_secs(30)", "one by one for 30 seconds"),
        ("crates/base/src/fs/group.rs", "THREADS: usize = 256", "in up to 256 threads"),
        ("crates/store/src/batch.rs", "SINGLY: u32 = 128", "The first 128 such tasks"),
        ("crates/store/src/batch.rs", "WORTH: Duration = Duration::from_millis(50)", "took 50 ms or longer"),
        ("crates/store/src/calls.rs", "ROOM: Range<usize> = 1 << 20..8 << 20", "reserves 1 to 8 MiB"),
        ("crates/base/src/time_boxed.rs", "PATIENCE: Duration = Duration::from_secs(5)", "waited for, for five seconds"),
        ("crates/store/src/parked.rs", "LONGEST: f64 = 7.0 * 86400.0", "than was noted, or than a week"),
        ("crates/store/src/seal.rs", "LENGTH: usize = blake3::OUT_LEN", "32 random bytes"),
        ("tests/kill/main.rs", "MOST_IN_FLIGHT: usize = 5", "those in flight, at most five"),
    ];
    assert_numbers("durability.md", DURABILITY, &rows);
    #[rustfmt::skip]
    let rows = [
        ("crates/build/src/runner/isolated/watching.rs", "MOST: usize = 20_000", "up to 20,000 files"),
        ("crates/build/src/runner/isolated/watching.rs", "REST: Duration = Duration::from_secs(1)", "at most once a second"),
        ("crates/build/src/git.rs", "OLDEST: (u32, u32) = (2, 20)", "git 2.20 or later"),
        ("crates/build/src/git.rs", "MERGES_TREES: (u32, u32) = (2, 38)", "From 2.38 on"),
    ];
    assert_numbers("isolation.md", ISOLATION, &rows);
}

/// The source has the constant, and the page the words.
fn assert_numbers(name: &str, page: &str, rows: &[(&str, &str, &str)]) {
    let page = flat(page);
    for (file, wanted, said) in rows {
        let source = std::fs::read_to_string(root().join(file)).expect(file);
        assert!(source.contains(&format!("const {wanted};")), "{file}: `{wanted}`, and {name} says `{said}`");
        assert!(page.contains(said), "{name} does not say `{said}`, as {file} has it");
    }
}

#[test]
fn what_follows_a_failure_is_said_with_its_numbers() {
    let (policy, models) = (Policy::default(), flat(MODELS));
    for (is, said) in [
        (policy.max_attempts == 4, "retry, 4 attempts in all (`retry.max_attempts`)"),
        (policy.base.as_secs() == 1, "`retry.base` (1 s)"),
        (policy.max.as_secs() == 60, "`retry.max` (60 s)"),
        (policy.max_validation_retries == 2, "twice (`max_validation_retries`)"),
        (policy.wait_for_server.as_secs() == 600, "at most 10 min (`retry.wait`)"),
        (policy.wait_for_limit.as_secs() == 15 * 60, "after 15 min in all it uses the next model"),
        (policy.wait_for_only.as_secs() == 6 * 3600, "the task fails after 6 h"),
    ] {
        assert!(is && models.contains(said), "{said}");
    }
}

#[test]
fn each_state_is_in_the_table_of_the_readme() {
    let section = README.split("\n## States\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("the states");
    for state in State::ALL {
        let row = format!("\n| {} {} |", state.glyph(), state.name());
        assert!(section.contains(&row), "no row {row:?}");
    }
    assert_eq!(section.matches("\n| ").count() - 1, State::ALL.len(), "a state that there is not");
}

#[test]
fn each_exit_code_is_on_the_pages_and_in_the_help() {
    let (help, short) = (help(&["--help"]), include_str!("../../llms.txt"));
    let codes =
        [exit::DONE, exit::FAILED, exit::USAGE, exit::STOPPED, exit::LOCKED, planexe::ops::wait::TIMED_OUT];
    for code in codes {
        assert!(README.contains(&format!("\n| {code} | ")), "README: {code}");
        assert!(short.contains(&format!("\n- {code}: ")), "llms.txt: {code}");
        assert!(help.contains(&format!("\n  {code:<5}")), "--help: {code}");
    }
    for code in [exit::HANGUP, exit::INTERRUPTED, exit::TERMINATED] {
        let code = code.to_string();
        assert!([README, short, &help].iter().all(|page| page.contains(&code)), "{code}");
    }
}

#[test]
fn each_command_is_in_the_readme() {
    let help = help(&["--help"]);
    let list = help.split("\nBuild:\n").nth(1).and_then(|rest| rest.split("\nOptions:\n").next());
    let named = list.expect("the commands").lines().filter_map(|line| {
        let word = line.strip_prefix("  ")?.split(' ').next()?;
        (!word.is_empty() && word != "help").then_some(word)
    });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 40, "{named:?}");
    let table = README.split("\n## Commands\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let table = table.expect("the commands");
    for name in named {
        let is_named = [format!("`planexe {name}`"), format!("`planexe {name} "), format!(", `{name}`")];
        assert!(is_named.iter().any(|it| table.contains(it)), "`{name}` is not in the table");
    }
}

#[test]
fn the_events_that_others_are_told_are_those_of_the_first_table() {
    let table = EVENTS.split("### The log").next().expect("the table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let first = rows.map(|row| row.split('|').nth(1).unwrap_or_default());
    let named: Vec<&str> = first.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(named, TOLD);
}

/// The keys of a table of the schema.
fn keys(of: &Value) -> Vec<&str> {
    of["properties"].as_object().expect("keys").keys().map(String::as_str).collect()
}

/// Whether a page names a key: in a piece of code, or as a key of TOML.
fn names(page: &str, key: &str) -> bool {
    let code = |piece: &str| {
        piece.match_indices(key).any(|(at, _)| {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !piece[..at].ends_with(part) && !piece[at + key.len()..].starts_with(part)
        })
    };
    let mut in_block = false;
    page.lines().any(|line| {
        if line.starts_with("```") {
            in_block = !in_block;
            return false;
        }
        if in_block { code(line) } else { line.split('`').skip(1).step_by(2).any(code) }
    })
}

#[test]
fn each_key_of_a_pipeline_is_on_its_page() {
    let schema: Value = serde_json::from_str(include_str!("../../pipeline.schema.json")).expect("JSON");
    let page = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).expect(name);
    for (table, name) in [
        ("Model", "models.md"),
        ("Price", "models.md"),
        ("BatchTerms", "models.md"),
        ("CallTimeouts", "models.md"),
        ("Retry", "models.md"),
        ("FailShares", "models.md"),
        ("LimitedCalls", "counted_calls.md"),
        ("Webhook", "events.md"),
        ("Hooks", "events.md"),
        ("Check", "checks.md"),
        ("RangeRule", "checks.md"),
        ("TextRule", "checks.md"),
        ("Requirement", "checks.md"),
        ("Gate", "gates.md"),
        ("Eval", "evaluation.md"),
        ("Refine", "evaluation.md"),
        ("Optimize", "optimize.md"),
        ("Tier", "tiers.md"),
        ("Complexity", "tiers.md"),
        ("Isolation", "isolation.md"),
        ("Lane", "isolation.md"),
        ("Executor", "executors.md"),
        ("Resources", "executors.md"),
        ("Service", "services.md"),
        ("Ready", "services.md"),
    ] {
        let page = page(name);
        for key in keys(&schema["$defs"][table]) {
            assert!(names(&page, key), "{name} does not name `{key}` of {table}");
        }
    }
    let pages = pages();
    let all = schema["$defs"].as_object().expect("tables").iter();
    let all = all.filter(|(_, table)| table["properties"].is_object());
    for (table, of) in all.map(|(name, of)| (name.as_str(), of)).chain([("a pipeline", &schema)]) {
        for key in keys(of) {
            assert!(names(&pages, key), "no page names `{key}` of {table}");
        }
    }
}

#[test]
fn each_file_that_a_page_names_is_there() {
    let pages = [
        include_str!("../../CONTRIBUTING.md"),
        include_str!("../../docs/optimize.md"),
        include_str!("../../docs/counted_calls.md"),
        README,
        LIMITS,
        DURABILITY,
        ISOLATION,
    ];
    // Made by what the page says, or in its example.
    let made = ["tests/archive/X.Y.Z.tar.gz", "examples/strategic-plan/report.html", "src/a.txt"];
    let rooms = ["crates/", "src/", "tests/", "scripts/", "benches/", "docs/", "examples/", "fuzz/", ".ci/"];
    for page in pages {
        let named = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let paths = named
            .filter_map(|code| code.split(' ').find(|word| rooms.iter().any(|room| word.starts_with(room))));
        for path in paths.filter(|path| !made.contains(path)) {
            assert!(root().join(path).exists(), "there is no `{path}`");
        }
    }
}
