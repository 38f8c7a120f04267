//! What lies under `.planexe/` and steers counts only where this user's planexe wrote it, in this folder: a run may come
//! with a clone or an archive, from whoever made that.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use crate::support::Space;

/// Its task says in `ran.log`, beside the run, that it ran.
const ONE: &str = r#"
[task.a]
inputs = ["in.txt"]
outputs = ["a.txt"]
command = "echo a >> ../ran.log; cat $in > $out"
"#;

fn one() -> Space {
    let space = Space::new();
    space.write("pipeline.toml", ONE);
    space.write("in.txt", "one");
    space
}

/// Another user: one with another home.
fn as_another(space: &Space) {
    space.set_env("XDG_STATE_HOME", space.root().join("another"));
}

/// Waits until files are so old that they are believed by their times.
fn age() {
    std::thread::sleep(std::time::Duration::from_millis(70));
}

/// Builds until the memo is there, and stays.
fn settle(space: &Space) -> Vec<u8> {
    age();
    space.build();
    let memo = space.bytes(".planexe/memo");
    space.build();
    assert!(space.bytes(".planexe/memo") == memo, "the memo is not believed");
    memo
}

fn key_file(space: &Space) -> PathBuf {
    space.root().join("home/.local/state/planexe/seal.key")
}

/// The mark of a cache as whoever has a key makes it.
fn mark(space: &Space, key: &[u8; 32], cache: &str, bytes: &[u8]) -> blake3::Hash {
    let folder = fs::metadata(space.dir()).expect("the run");
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"planexe seal 1\0cache\0").update(cache.as_bytes());
    hasher.update(&folder.dev().to_le_bytes()).update(&[0]).update(&folder.ino().to_le_bytes());
    blake3::keyed_hash(hasher.finalize().as_bytes(), bytes)
}

/// An index that calls the content of `in.txt` what it was before: believed from who has the key, from nobody else.
#[test]
fn a_forged_index_is_not_believed() {
    let space = one();
    // The build that runs the task writes the index; those that find the memo true do not.
    age();
    space.build();
    let key: [u8; 32] = fs::read(key_file(&space)).expect("the key").try_into().expect("32 bytes");
    let signature = || {
        let file = fs::metadata(space.path("in.txt")).expect("in.txt");
        let ns = |s: i64, ns: i64| (s * 1_000_000_000 + ns).to_le_bytes();
        [
            &file.len().to_le_bytes()[..],
            &ns(file.mtime(), file.mtime_nsec()),
            &ns(file.ctime(), file.ctime_nsec()),
            &file.ino().to_le_bytes(),
            &file.mode().to_le_bytes(),
        ]
        .concat()
    };
    let (index, before) = (space.bytes(".planexe/index"), signature());
    space.write("in.txt", "two");
    // After its magic and the mark; the moment it was hashed follows the signature.
    let from = index.iter().position(|&byte| byte == b'\n').expect("a first line") + 1;
    let at = index.windows(before.len()).position(|bytes| bytes == before).expect("in.txt in the index");
    let mut forged = index.clone();
    forged[at..at + before.len()].copy_from_slice(&signature());
    forged[at + before.len()..at + before.len() + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    let body = forged[from + 32..].to_vec();
    let mut with = |sum: blake3::Hash| {
        forged[from..from + 32].copy_from_slice(sum.as_bytes());
        space.write(".planexe/index", &forged);
        let _ = fs::remove_file(space.path(".planexe/memo"));
        space.build();
        space.tally("ran")
    };
    assert_eq!(with(mark(&space, &key, "index", &body)), 1, "who has the key can say anything");
    assert_eq!(with(blake3::hash(&body)), 2);
    assert_eq!(space.read("a.txt"), "two");
}

/// A memo says what a build with nothing to do prints.
#[test]
fn a_forged_memo_is_not_believed() {
    let space = one();
    space.build();
    let memo = settle(&space);
    let key: [u8; 32] = fs::read(key_file(&space)).expect("the key").try_into().expect("32 bytes");
    let words = b"everything is up to date";
    let at = memo.windows(words.len()).position(|bytes| bytes == words).expect("what is said");
    let head = u32::from_le_bytes(memo[48..52].try_into().expect("four bytes")) as usize;
    let mut forged = memo.clone();
    forged[at..at + words.len()].copy_from_slice(b"whatever you like to say");
    let body = forged[48..head].to_vec();
    let mut with = |sum: blake3::Hash| {
        forged[16..48].copy_from_slice(sum.as_bytes());
        space.write(".planexe/memo", &forged);
        space.build()
    };
    with(mark(&space, &key, "memo", &body)).says(&["whatever you like to say"]);
    for sum in
        [mark(&space, &key, "index", &body), mark(&space, &[0; 32], "memo", &body), blake3::hash(&body)]
    {
        with(sum).says(&["everything is up to date"]);
    }
}

#[test]
fn caches_of_another_user_are_made_anew() {
    let space = one();
    space.build();
    let (memo, index) = (settle(&space), space.bytes(".planexe/index"));
    as_another(&space);
    space.build().says(&["everything is up to date (1 task)"]);
    assert!(space.bytes(".planexe/memo") != memo && space.bytes(".planexe/index") != index);
    settle(&space);
    assert_eq!(space.tally("ran"), 1, "what is made is content, and continues being used");
}

#[test]
fn a_copy_has_caches_of_its_own_and_a_run_that_was_moved_keeps_them() {
    let space = one();
    space.build();
    let memo = settle(&space);
    let (copy, moved) = (space.root().join("copy"), space.root().join("moved"));
    let copied = space.program("cp", &["-a", ".", copy.to_str().expect("a path")]).status();
    assert!(copied.expect("cp").success());
    let there = |dir: &PathBuf| {
        let out = space.run(&["-C", dir.to_str().expect("a path"), "build"]).exits(0);
        out.says(&["everything is up to date"]);
        fs::read(dir.join(".planexe/memo")).expect("a memo")
    };
    // It is made anew once the files are old enough to be believed by their times.
    there(&copy);
    std::thread::sleep(std::time::Duration::from_millis(70));
    let of_copy = there(&copy);
    assert!(of_copy != memo);
    fs::rename(&copy, &moved).expect("moved");
    assert!(there(&moved) == of_copy);
    assert_eq!(space.tally("ran"), 1);
}

/// The key is one file for the user alone; what is not is not used, and left as it is.
#[test]
fn the_key_is_private_and_without_one_nothing_fails() {
    let space = one();
    space.build();
    let mode = |path: &PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let key = key_file(&space);
    assert_eq!((mode(&key), fs::read(&key).expect("the key").len()), (0o600, 32));
    settle(&space);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("open to all");
    let before = fs::read(&key).expect("the key");
    for _ in 0..2 {
        space.write("in.txt", "two");
        space.build();
        assert!(!space.exists(".planexe/memo") && !space.exists(".planexe/index"), "nothing is kept");
        space.build().says(&["everything is up to date (1 task)"]);
        // A folder in which nobody can make one.
        space.set_env("XDG_STATE_HOME", space.path("in.txt"));
    }
    assert_eq!((mode(&key), fs::read(&key).expect("the key")), (0o644, before));
    assert_eq!(space.tally("ran"), 2);
}

/// What a person let pass, in a run that was copied or came with a clone.
#[test]
fn what_was_let_pass_elsewhere_is_not_let_pass_here() {
    let space = Space::new();
    space.write(
        "pipeline.toml",
        "[task.go]\ninputs = [\"plan.txt\"]\noutputs = [\"go.json\"]\n\
         gate = { fail_if = \"{{ true }}\", action = \"pause\" }\n",
    );
    space.write("plan.txt", "x");
    space.run(&["build"]).exits(3);
    space.run(&["done", "go"]).exits(0);
    let file = space.files(".planexe/passed").pop().expect("what was let pass");
    let passed = space.bytes(&file);
    space.build();
    let clone = Space::new();
    clone.write("pipeline.toml", space.read("pipeline.toml"));
    clone.write("plan.txt", "x");
    clone.write(&file, &passed);
    clone.run(&["build"]).exits(3);
    let bare = String::from_utf8(passed).expect("text");
    let bare: String = bare.lines().filter(|line| !line.contains("\"mark\"")).collect();
    clone.write(&file, bare.replace(",}", "}"));
    clone.run(&["build"]).exits(3);
    clone.run(&["done", "go"]).exits(0);
    clone.build();
}
