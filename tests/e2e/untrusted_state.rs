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

/// Builds until the cache has a null-build record, and stays.
fn settle(space: &Space) -> Vec<u8> {
    age();
    space.build();
    let cache = space.bytes(".planexe/index");
    assert!(space.has_null_build_record("."));
    space.build();
    assert!(space.bytes(".planexe/index") == cache, "the cache is not believed");
    cache
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

/// Where the header begins: after the first line and the mark.
const HEADER: usize = 48;

/// Where the null-build record of a cache begins, and where it ends.
fn record(cache: &[u8]) -> (usize, usize) {
    let header = postcard::take_from_bytes::<(&str, [u32; 2], [u8; 32])>(&cache[HEADER..]);
    let ((_, lengths, _), rest) = header.expect("a header");
    let start = cache.len() - rest.len();
    (start, start + lengths[0] as usize)
}

/// A cache with the digest and the mark that go with what it holds now.
fn marked(cache: &[u8], mark: &dyn Fn(&[u8]) -> blake3::Hash) -> Vec<u8> {
    let (start, end) = record(cache);
    let mut cache = cache.to_vec();
    let rest = blake3::hash(&cache[end..]);
    cache[start - 32..start].copy_from_slice(rest.as_bytes());
    let mark = mark(&cache[HEADER..end]);
    cache[HEADER - 32..HEADER].copy_from_slice(mark.as_bytes());
    cache
}

/// A cache that calls the content of `in.txt` what it was before: believed from who has the key, from nobody else.
#[test]
fn a_forged_index_is_not_believed() {
    let space = one();
    // The build that runs the task writes the index; those that find the null-build record true do not.
    age();
    space.build();
    let key: [u8; 32] = fs::read(key_file(&space)).expect("the key").try_into().expect("32 bytes");
    let signature = || {
        let file = fs::metadata(space.path("in.txt")).expect("in.txt");
        let ns = |s: i64, ns: i64| s * 1_000_000_000 + ns;
        let times = (ns(file.mtime(), file.mtime_nsec()), ns(file.ctime(), file.ctime_nsec()));
        postcard::to_stdvec(&(file.len(), times, file.ino(), file.mode())).expect("a signature")
    };
    let (cache, before) = (space.bytes(".planexe/index"), signature());
    space.write("in.txt", "two");
    let (_, end) = record(&cache);
    let at = cache[end..].windows(before.len()).position(|bytes| bytes == before);
    let at = end + at.expect("in.txt in the index");
    let forged = [&cache[..at], &signature(), &cache[at + before.len()..]].concat();
    let with = |sum: &dyn Fn(&[u8]) -> blake3::Hash| {
        space.write(".planexe/index", marked(&forged, sum));
        space.build();
        space.tally("ran")
    };
    assert_eq!(with(&|bytes| mark(&space, &key, "index", bytes)), 1, "who has the key can say anything");
    assert_eq!(with(&|bytes| blake3::hash(bytes)), 2);
    assert_eq!(space.read("a.txt"), "two");
}

/// A null-build record says what a build with nothing to do prints.
#[test]
fn a_forged_null_build_record_is_not_believed() {
    let space = one();
    space.build();
    let cache = settle(&space);
    let key: [u8; 32] = fs::read(key_file(&space)).expect("the key").try_into().expect("32 bytes");
    let words = b"everything is up to date";
    let at = cache.windows(words.len()).position(|bytes| bytes == words).expect("what is said");
    let mut forged = cache.clone();
    forged[at..at + words.len()].copy_from_slice(b"whatever you like to say");
    let with = |sum: &dyn Fn(&[u8]) -> blake3::Hash| {
        space.write(".planexe/index", marked(&forged, sum));
        space.build()
    };
    with(&|bytes| mark(&space, &key, "index", bytes)).says(&["whatever you like to say"]);
    with(&|bytes| mark(&space, &key, "outbox", bytes)).says(&["everything is up to date"]);
    with(&|bytes| mark(&space, &[0; 32], "index", bytes)).says(&["everything is up to date"]);
    with(&|bytes| blake3::hash(bytes)).says(&["everything is up to date"]);
}

#[test]
fn caches_of_another_user_are_made_anew() {
    let space = one();
    space.build();
    let cache = settle(&space);
    as_another(&space);
    space.build().says(&["everything is up to date (1 task)"]);
    assert!(space.bytes(".planexe/index") != cache);
    settle(&space);
    assert_eq!(space.tally("ran"), 1, "what is made is content, and continues being used");
}

#[test]
fn a_copy_has_caches_of_its_own_and_a_run_that_was_moved_keeps_them() {
    let space = one();
    space.build();
    let cache = settle(&space);
    let (copy, moved) = (space.root().join("copy"), space.root().join("moved"));
    let copied = space.program("cp", &["-a", ".", copy.to_str().expect("a path")]).status();
    assert!(copied.expect("cp").success());
    let there = |dir: &PathBuf| {
        let out = space.run(&["-C", dir.to_str().expect("a path"), "build"]).exits(0);
        out.says(&["everything is up to date"]);
        fs::read(dir.join(".planexe/index")).expect("a cache")
    };
    // It is made anew once the files are old enough to be believed by their times.
    there(&copy);
    std::thread::sleep(std::time::Duration::from_millis(70));
    let of_copy = there(&copy);
    assert!(of_copy != cache);
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
        assert!(!space.exists(".planexe/index"), "nothing is kept");
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

/// After a `chmod -R` of the home folder, say.
#[test]
fn of_a_key_that_others_may_read_it_is_said_what_to_do() {
    let space = one();
    space.build();
    let doctor = space.run(&["doctor"]);
    assert!(!doctor.stdout.contains("key"), "{doctor}");
    let key = key_file(&space);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let remedy = format!("chmod 600 {}", key.display());
    space.run(&["doctor"]).says(&["others may read the key", &remedy]);
    space.write(
        "pipeline.toml",
        "[task.go]\noutputs = [\"go.json\"]\ngate = { fail_if = \"{{ true }}\", action = \"pause\" }\n",
    );
    space.run(&["build"]).exits(3);
    space.run(&["done", "go"]).exits(1).says(&[&remedy]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
    space.run(&["done", "go"]).exits(0);
    space.build();
}
