use super::*;
use crate::fixtures::{done, store, text, write};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn save(store: &Store, why: Why) -> Option<Entry> {
    store.save("swot", why, &names(&["swot.json", "swot.md"]), Durability::Synced).unwrap()
}

fn objects(store: &Store) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let dir = store.planexe_dir().join("history/objects");
    for (shard, _) in fs::list_dir(&dir).unwrap() {
        for (name, _) in fs::list_dir(&dir.join(&shard)).unwrap() {
            paths.push(dir.join(&shard).join(name));
        }
    }
    paths
}

#[test]
fn contents_are_kept_once_and_entries_numbered_by_task() {
    let (_dir, store) = store();
    assert_eq!(save(&store, Why::Replaced), None);
    write(&store, "swot.json", "same");
    write(&store, "swot.md", "same");
    let entry = save(&store, Why::Replaced).unwrap();
    assert_eq!((entry.n, entry.outputs.len(), objects(&store).len()), (1, 2, 1));
    assert_eq!(save(&store, Why::Cleaned), None, "the last entry says the same");
    write(&store, "swot.md", "other");
    assert_eq!(save(&store, Why::Replaced).unwrap().n, 2);
    // A new process goes on counting.
    let again = Store::open(store.run_dir());
    assert_eq!(save(&again, Why::Replaced), None);
    write(&store, "swot.md", "same");
    assert_eq!(save(&again, Why::Replaced).unwrap().n, 3);
    assert_eq!(
        again.save("b", Why::Replaced, &names(&["swot.md"]), Durability::Unsynced).unwrap().unwrap().n,
        1
    );
    assert_eq!(objects(&store).len(), 2);
    assert_eq!(store.history().entries("swot").unwrap().len(), 3);
    assert_eq!(store.history().entries_all().unwrap().len(), 4);
    assert_eq!(store.history().object(&Digest::of(b"other")).unwrap(), b"other");
}

#[test]
fn a_damaged_object_is_never_returned_and_is_replaced_by_the_next_save() {
    let (_dir, store) = store();
    write(&store, "swot.json", "hello");
    save(&store, Why::Replaced).unwrap();
    let digest = Digest::of(b"hello");
    fs::write_atomic(&objects(&store)[0], b"hullo", Durability::Unsynced).unwrap();
    assert!(!store.history().has(&digest));
    let error = store.history().object(&digest).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    write(&store, "swot.json", "new");
    assert!(store.restore("swot", Some(1)).unwrap_err().to_string().contains("damaged"));
    assert_eq!(text(&store, "swot.json").unwrap(), "new", "nothing is touched");
    assert_eq!(store.sweep([""]).unwrap(), 0, "nothing is left beside it");
    assert_eq!(fs::list_dir(store.run_dir()).unwrap().len(), 2);
    write(&store, "swot.json", "hello");
    save(&store, Why::Replaced);
    assert_eq!(store.history().object(&digest).unwrap(), b"hello");
    assert!(store.history().object(&Digest("../../x".into())).is_err());
}

#[test]
fn restoring_brings_back_outputs_and_marker_and_can_itself_be_undone() {
    let (_dir, store) = store();
    write(&store, "swot.json", "one");
    write(&store, "swot.md", "one");
    store.write_done("swot.json", &done(), Durability::Unsynced).unwrap();
    store.clean("swot", Why::Cleaned, &names(&["swot.json", "swot.md"]), Durability::Synced).unwrap();
    for name in ["swot.json", "swot.md", "swot.json.DONE", "swot.json.status"] {
        assert_eq!(text(&store, name), None);
    }
    let entry = store.restore("swot", None).unwrap();
    assert_eq!((entry.n, entry.why), (1, Why::Cleaned));
    assert_eq!(text(&store, "swot.json").as_deref(), Some("one"));
    assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(done())));
    let StatusRead::Valid(status) = store.read_status("swot.json") else { panic!() };
    assert_eq!(status.state, State::Done);
    // Another content, made by another attempt.
    write(&store, "swot.json", "two");
    let second = planexe_base::record::Done { fingerprint: Digest::of(b"2"), ..done() };
    store.write_done("swot.json", &second, Durability::Unsynced).unwrap();
    store.restore("swot", Some(1)).unwrap();
    assert_eq!(text(&store, "swot.json").as_deref(), Some("one"));
    assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(done())));
    store.restore("swot", None).unwrap();
    assert_eq!(text(&store, "swot.json").as_deref(), Some("two"));
    assert_eq!(store.read_done("swot.json"), Marker::Valid(Box::new(second)));
    let error = store.restore("swot", Some(99)).unwrap_err();
    assert!(error.to_string().contains("log.jsonl"), "{error}");
}

#[test]
fn a_plan_has_a_history_without_sidecars() {
    let (_dir, store) = store();
    write(&store, "plan.txt", "first");
    store.save("plan.txt", Why::Plan, &names(&["plan.txt"]), Durability::Synced).unwrap().unwrap();
    write(&store, "plan.txt", "second");
    store.restore("plan.txt", None).unwrap();
    assert_eq!(text(&store, "plan.txt").as_deref(), Some("first"));
    assert_eq!(store.read_done("plan.txt"), Marker::Missing);
    assert_eq!(store.read_status("plan.txt"), StatusRead::Missing);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "sets the trap")]
fn what_a_link_leads_to_is_not_read() {
    let (_dir, store) = store();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), store.path("swot.json")).unwrap();
    assert_eq!(save(&store, Why::Replaced), None);
    write(&store, "inside", "inside");
    std::os::unix::fs::symlink(store.path("inside"), store.path("swot.md")).unwrap();
    assert_eq!(save(&store, Why::Replaced), None);
    // A plan is the user's to link.
    for (to, kept) in [(store.path("inside"), true), (outside.path().join("secret"), false)] {
        let _ = fs::remove(&store.path("plan.txt"));
        std::os::unix::fs::symlink(to, store.path("plan.txt")).unwrap();
        let saved = store.save("plan.txt", Why::Plan, &names(&["plan.txt"]), Durability::Synced).unwrap();
        assert_eq!(saved.is_some(), kept);
    }
}

#[test]
fn large_contents_are_linked_only_when_they_lose_their_name() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, store) = store();
    let large = "x".repeat(3 << 20);
    write(&store, "swot.json", &large);
    save(&store, Why::Edited).unwrap();
    assert_eq!(std::fs::metadata(store.path("swot.json")).unwrap().nlink(), 1);
    let large = "y".repeat(3 << 20);
    write(&store, "swot.json", &large);
    let outputs = names(&["swot.json", "swot.md"]);
    store.clean("swot", Why::Orphaned, &outputs, Durability::Unsynced).unwrap().unwrap();
    assert_eq!(store.history().object(&Digest::of(large.as_bytes())).unwrap(), large.as_bytes());
    store.restore("swot", None).unwrap();
    assert_eq!(std::fs::metadata(store.path("swot.json")).unwrap().nlink(), 1);
}

#[test]
fn cleaning_asks_anew_and_other_ways_do_not() {
    let (_dir, store) = store();
    for (why, left) in [(Why::Damaged, 1), (Why::Cleaned, 0)] {
        write(&store, "swot.json", "x");
        let dir = store.calls().dir().join(super::super::task_dir_name("swot"));
        fs::make_dirs(&dir, Durability::Unsynced).unwrap();
        let usable = format!("{}.json", Digest::of(b"q"));
        fs::write_atomic(&dir.join(&usable), b"{}", Durability::Unsynced).unwrap();
        store.clean("swot", why, &names(&["swot.json"]), Durability::Unsynced).unwrap();
        let names = fs::list_dir(&dir).unwrap();
        assert_eq!(names.iter().filter(|(name, _)| name.to_str() == Some(&usable)).count(), left);
    }
}

#[test]
fn collecting_garbage_forgets_the_oldest_and_what_nothing_needs() {
    let (_dir, store) = store();
    for content in ["one", "two", "three", "four"] {
        write(&store, "swot.json", content);
        save(&store, Why::Replaced).unwrap();
    }
    assert_eq!(store.history().gc(None, None).unwrap(), (0, 0));
    assert_eq!(store.history().gc(None, Some(9)).unwrap(), (2, 6));
    let left: Vec<_> = store.history().entries("swot").unwrap().iter().map(|entry| entry.n).collect();
    assert_eq!(left, [3, 4]);
    assert!(store.history().has(&Digest::of(b"four")) && !store.history().has(&Digest::of(b"one")));
    write(&store, "swot.json", "five");
    assert_eq!(save(&store, Why::Replaced).unwrap().n, 5);
    assert_eq!(store.history().gc(Some("2999-01-01T00:00:00Z"), None).unwrap(), (3, 13));
    assert!(objects(&store).is_empty());
}

#[test]
fn many_tasks_may_save_at_once() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for task in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let (name, output) = (format!("t{task}"), format!("o{task}"));
                for round in 0..10 {
                    write(store, &output, &format!("{round}"));
                    let outputs = [output.clone()];
                    let entry = store.save(&name, Why::Replaced, &outputs, Durability::Unsynced).unwrap();
                    assert_eq!(entry.unwrap().n, round + 1);
                }
            });
        }
    });
    assert_eq!(store.history().entries_all().unwrap().len(), 40);
    assert_eq!(objects(&store).len(), 10);
}
