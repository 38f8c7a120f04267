use super::*;
use crate::Store;
use crate::fixtures::store;
use planexe_llm::Class;

fn call(task: &str, digest: &[u8], text: &str) -> CallRecord {
    CallRecord {
        schema: SCHEMA,
        task: task.into(),
        digest: Digest::of(digest),
        endpoint: "local".into(),
        model: "qwen".into(),
        api: "openai".into(),
        request: KeptRequest { prompt: "Say it".into(), ..KeptRequest::default() },
        started_utc: "2026-03-01T22:15:04.123Z".into(),
        ended_utc: "2026-03-01T22:15:09.123Z".into(),
        reply: Some(Reply { text: text.into(), ..Reply::default() }),
        error: None,
        verdict: AnswerState::Arrived,
        attempt: 1,
        error_id: None,
        evaluation: false,
        wire: None,
        imported: None,
        other: Map::new(),
    }
}

fn failed(task: &str, digest: &[u8]) -> CallRecord {
    CallRecord {
        reply: None,
        error: Some(CallError::new(Class::Cut, "ended early")),
        ..call(task, digest, "")
    }
}

fn found(store: &Store, digest: &[u8]) -> Option<String> {
    store.calls().find("swot", &Digest::of(digest)).unwrap().map(|call| call.reply.unwrap().text)
}

#[test]
fn an_answer_is_found_by_what_was_sent_and_for_whom() {
    let (_dir, store) = store();
    let name = store.calls().keep(&call("swot", b"1", "one")).unwrap();
    assert_eq!(store.calls().read(&name).unwrap(), Some(call("swot", b"1", "one")));
    assert_eq!(found(&store, b"1").as_deref(), Some("one"));
    assert_eq!(found(&store, b"2"), None);
    assert_eq!(store.calls().find("Swot", &Digest::of(b"1")).unwrap(), None);
    assert_eq!(store.calls().mark(&name, AnswerState::Accepted).unwrap(), name);
    assert_eq!(found(&store, b"1").as_deref(), Some("one"));
    assert_eq!(store.calls().read(&name).unwrap().unwrap().verdict, AnswerState::Accepted);
}

#[test]
fn failed_rejected_and_spent_ones_are_kept_and_never_found() {
    let (_dir, store) = store();
    let calls = store.calls();
    calls.keep(&failed("swot", b"1")).unwrap();
    calls.keep(&failed("swot", b"1")).unwrap();
    assert_eq!(found(&store, b"1"), None);
    let name = calls.keep(&call("swot", b"1", "bad")).unwrap();
    let rejected = calls.mark(&name, AnswerState::Rejected).unwrap();
    assert!(rejected.ends_with(".rejected-1.json"), "{rejected}");
    assert_eq!(found(&store, b"1"), None);
    calls.keep(&CallRecord { verdict: AnswerState::Rejected, ..call("swot", b"1", "worse") }).unwrap();
    assert_eq!(found(&store, b"1"), None);
    calls.keep(&call("swot", b"1", "good")).unwrap();
    assert_eq!(found(&store, b"1").as_deref(), Some("good"));
    // A second draw for the same question takes its place.
    calls.keep(&call("swot", b"1", "better")).unwrap();
    assert_eq!(found(&store, b"1").as_deref(), Some("better"));
    calls.keep(&call("swot", b"2", "other")).unwrap();
    assert_eq!(calls.discard("swot").unwrap(), 2);
    assert_eq!(calls.discard("swot").unwrap(), 0);
    assert_eq!((found(&store, b"1"), found(&store, b"2")), (None, None));
    let list = calls.list("swot").unwrap();
    assert_eq!(list.len(), 7);
    assert!(list.iter().all(|kept| !kept.usable));
    assert_eq!(list.iter().filter(|kept| kept.record.verdict == AnswerState::Rejected).count(), 2);
    let mut all = 0;
    calls.for_each(|_| all += 1).unwrap();
    assert_eq!(all, 7);
}

#[test]
fn a_damaged_one_is_passed_over_and_stays() {
    let (_dir, store) = store();
    let name = store.calls().keep(&call("swot", b"1", "one")).unwrap();
    let path = store.calls().dir().join(&name);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() - 1 {
        fs::write_atomic(&path, &whole[..len], Durability::Unsynced).unwrap();
        assert_eq!(found(&store, b"1"), None, "{len}");
        assert!(store.calls().list("swot").unwrap().is_empty());
    }
    assert_eq!(store.calls().mark(&name, AnswerState::Accepted).unwrap(), name);
    // The next answer does not overwrite it.
    store.calls().keep(&call("swot", b"1", "two")).unwrap();
    assert_eq!(found(&store, b"1").as_deref(), Some("two"));
    assert_eq!(fs::list_dir(path.parent().unwrap()).unwrap().len(), 2);
    // One that says it answers something else is not believed under this name.
    let other = to_json(&call("swot", b"2", "two"));
    fs::write_atomic(&path, &other, Durability::Unsynced).unwrap();
    assert_eq!(found(&store, b"1"), None);
    let newer = CallRecord { schema: SCHEMA + 1, ..call("swot", b"1", "new") };
    fs::write_atomic(&path, &to_json(&newer), Durability::Unsynced).unwrap();
    assert_eq!(found(&store, b"1"), None);
}

#[test]
fn names_from_records_lead_nowhere_else() {
    let (_dir, store) = store();
    for name in ["../run.json", "a/../../run.json", "/etc/passwd", "a/.b.json", "a/b", "a", "", "a/b/c.json"]
    {
        assert_eq!(store.calls().read(name).unwrap(), None, "{name}");
    }
}

#[test]
fn an_answer_finds_room_on_a_disk_that_has_just_become_full() {
    for after in 0.. {
        let (_dir, store) = store();
        store.calls().keep_room(40).unwrap();
        let room = || store.path(".planexe/room").metadata().map_or(0, |room| room.len());
        assert_eq!(room(), 8 << 20);
        fs::fault::arm(after, false);
        store.calls().keep(&call("swot", b"1", "one")).unwrap();
        let fired = fs::fault::disarm();
        assert_eq!(found(&store, b"1").as_deref(), Some("one"));
        assert_eq!(room() == 0, fired, "given back when it is needed, not before");
        store.calls().keep_room(1).unwrap();
        assert_eq!(room(), 1 << 20);
        store.calls().give_room_back();
        assert_eq!(room(), 0);
        if !fired {
            assert!(after > 5);
            break;
        }
    }
}

#[test]
fn a_kill_at_any_point_of_keeping_or_marking_costs_at_most_that_answer() {
    for sticky in [true, false] {
        for after in 0.. {
            let (_dir, store) = store();
            store.calls().keep(&call("swot", b"0", "zero")).unwrap();
            fs::fault::arm(after, sticky);
            let kept = store.calls().keep(&call("swot", b"1", "one"));
            let marked = kept.as_ref().ok().map(|name| store.calls().mark(name, AnswerState::Rejected));
            let fired = fs::fault::disarm();
            assert_eq!(found(&store, b"0").as_deref(), Some("zero"));
            let one = found(&store, b"1");
            match (&kept, &marked) {
                (Ok(_), Some(Ok(_))) => assert_eq!(one, None),
                // Whether the rename came through or not, it is there as one or the other.
                (Ok(_), _) => assert_eq!(store.calls().list("swot").unwrap().len(), 2),
                (Err(_), _) => assert!(one.is_none() || one.as_deref() == Some("one")),
            }
            if !fired {
                assert!(after > 10);
                break;
            }
        }
    }
}
