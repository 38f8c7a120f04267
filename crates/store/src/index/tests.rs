use super::*;

/// A clock that makes every file look old, and one that makes it look new.
fn later() -> i64 {
    fs::now_ns() + 3_600_000_000_000
}

fn at_once() -> i64 {
    0
}

fn index(store: &Store, now: fn() -> i64) -> Index {
    Index { now, ..Index::load(store) }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path());
    (dir, store)
}

fn write(store: &Store, name: &str, text: &str) -> PathBuf {
    let path = store.path(name);
    fs::write_atomic(&path, text.as_bytes(), Durability::Unsynced).unwrap();
    path
}

#[test]
fn racy_is_what_may_change_again_within_one_tick() {
    let s = 1_000_000_000;
    let signature = |ctime_ns| Signature { size: 1, mtime_ns: ctime_ns, ctime_ns, ino: 1, mode: 0o100_644 };
    for (ctime, hashed, racy) in [
        (100 * s + 1, 100 * s + 1, true),
        (100 * s + 1, 100 * s + 40_000_000, true),
        (100 * s + 1, 100 * s + 60_000_000, false),
        (100 * s + 1, 99 * s, true), // from the future
        (100 * s, 101 * s, true),    // a coarse clock, perhaps
        (100 * s, 102 * s, true),
        (100 * s, 103 * s, false),
        (100 * s + 7_000_000, 101 * s, true),
        (-5, 0, true), // before 1970
    ] {
        assert_eq!(is_racy(&signature(ctime), hashed), racy, "{ctime} {hashed}");
    }
}

#[test]
fn a_settled_file_is_hashed_once_over_many_builds() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let digest = Some((Digest::of(b"hello"), 5));
    let first = index(&store, later);
    for _ in 0..3 {
        assert_eq!(first.digest(&path).unwrap(), digest);
    }
    assert_eq!(first.hashed(), 1);
    first.save_if_changed().unwrap();
    let second = index(&store, later);
    assert_eq!(second.digest(&path).unwrap(), digest);
    assert_eq!(second.hashed(), 0);
    // Nothing was learned, nothing is written.
    fs::remove(&store.path(".planexe/index")).unwrap();
    second.save_if_changed().unwrap();
    assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
}

#[test]
fn a_racy_file_is_hashed_again() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let index = index(&store, at_once);
    for _ in 0..3 {
        assert!(!index.look(&path).unwrap().unwrap().settled);
    }
    assert_eq!(index.hashed(), 3);
    index.save_if_changed().unwrap();
    assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
}

#[test]
fn same_size_and_same_mtime_do_not_hide_a_change() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let index = index(&store, later);
    index.digest(&path).unwrap();
    let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
    let path = write(&store, "a", "world");
    let file = fs::open_lock_file(&path).unwrap();
    file.set_modified(mtime).unwrap();
    assert_eq!(index.digest(&path).unwrap(), Some((Digest::of(b"world"), 5)));
}

#[test]
fn missing_files_and_directories() {
    let (dir, store) = store();
    let index = index(&store, later);
    assert_eq!(index.digest(&store.path("missing")).unwrap(), None);
    assert!(index.digest(dir.path()).is_err());
}

#[test]
fn any_damage_makes_it_empty() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let first = index(&store, later);
    first.digest(&path).unwrap();
    first.set_stamp("swot", Some(7));
    first.add_duration("swot", 1.5);
    first.save_if_changed().unwrap();
    let boot = boot_id().unwrap_or_default();
    let seal = Seal::to_check(store.run_dir(), INDEX).unwrap();
    let whole = |bytes: &[u8]| decode(bytes, &boot, &seal).is_some() || decode_durations(bytes).is_some();
    for path in &first.paths {
        let bytes = fs::read(path).unwrap();
        assert!(whole(&bytes));
        for len in 0..bytes.len() {
            assert!(!whole(&bytes[..len]));
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert!(!whole(&bytes));
        }
        fs::write_atomic(path, b"garbage", Durability::Unsynced).unwrap();
    }
    let second = index(&store, later);
    assert_eq!((second.stamp("swot"), second.durations("swot")), (None, vec![]));
    assert_eq!(second.digest(&path).unwrap(), Some((Digest::of(b"hello"), 5)));
}

#[test]
fn after_another_boot_only_durations_are_believed() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let mut first = index(&store, later);
    first.boot = "another boot".into();
    first.digest(&path).unwrap();
    first.set_stamp("swot", Some(7));
    first.add_duration("swot", 1.5);
    first.save_if_changed().unwrap();
    let second = index(&store, later);
    assert_eq!(second.stamp("swot"), None);
    assert_eq!(second.durations("swot"), [1.5]);
    second.digest(&path).unwrap();
    assert_eq!(second.hashed(), 1);
}

#[test]
fn a_build_that_is_killed_leaves_durations_only() {
    let (_dir, store) = store();
    let path = write(&store, "a", "hello");
    let first = index(&store, later);
    first.set_stamp("swot", Some(7));
    first.save_if_changed().unwrap();
    let second = index(&store, later);
    second.begin_run().unwrap();
    assert_eq!(fs::kind(&store.path(".planexe/index")).unwrap(), None);
    second.digest(&path).unwrap();
    second.add_duration("swot", 2.5);
    second.save_if_changed().unwrap();
    let third = index(&store, later);
    assert_eq!(third.stamp("swot"), Some(7));
    third.begin_run().unwrap();
    let left = index(&store, later);
    assert_eq!((left.stamp("swot"), left.durations("swot")), (None, vec![2.5]));
    left.digest(&path).unwrap();
    assert_eq!(left.hashed(), 1);
    third.save_if_changed().unwrap();
    assert_eq!(index(&store, later).stamp("swot"), Some(7));
}

#[test]
fn durations_are_the_last_few() {
    let (_dir, store) = store();
    let first = index(&store, later);
    (0..9).for_each(|n| first.add_duration("swot", f64::from(n)));
    first.add_duration("b", 1.5);
    for index in [&first, &{
        first.save_if_changed().unwrap();
        index(&store, later)
    }] {
        assert_eq!(index.durations("swot"), [4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(index.usual_duration("swot"), Some(6.0));
        assert_eq!(index.usual_durations::<Vec<_>>(|name| name == "b"), [("b".to_owned(), 1.5)]);
    }
}

#[test]
fn many_threads_may_ask() {
    let (_dir, store) = store();
    let paths: Vec<_> = (0..20).map(|n| write(&store, &format!("f{n}"), &n.to_string())).collect();
    let index = index(&store, later);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (n, path) in paths.iter().enumerate() {
                    let (digest, _) = index.digest(path).unwrap().unwrap();
                    assert_eq!(digest, Digest::of(n.to_string().as_bytes()));
                }
            });
        }
    });
}
