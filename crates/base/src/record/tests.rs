use super::*;
use crate::event::{Event, Kind};
use crate::failure_class::Class;
use crate::message::Hint;

#[test]
fn a_failure_of_a_former_version_is_read_and_written_as_it_was() {
    let old = r#"{"class":"auth","message":"`K` is not set (m)\nhint: `export K=…`\nhint: `planexe keys`","error_id":"0123456789ab","recoverable":true,"missing_fields":[],"invalid_fields":[],"exit_code":null,"signal":null,"raw_error":null}"#;
    let failure: Failure = serde_json::from_str(old).unwrap();
    assert_eq!(failure.class, Class::Auth);
    assert_eq!(failure.message.text, "`K` is not set (m)");
    assert_eq!(failure.message.hints, [Hint::from("`export K=…`"), Hint::from("`planexe keys`")]);
    assert!(!failure.of_evaluator);
    assert_eq!(serde_json::to_string(&failure).unwrap(), old);
}

#[test]
fn each_state_has_one_name_and_some_are_never_stored() {
    for state in State::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        assert_eq!(State::from_stored(state.name()), state.is_stored().then_some(state), "{state}");
    }
    assert_eq!(State::from_stored("dozing"), None);
}

#[test]
fn a_status_is_written_in_the_order_of_its_format() {
    let mut status = Status::new("a", State::Done);
    status.quality.warning = Some("w".to_owned());
    status.budgets = Some(1.into());
    status.isolation = Some(Isolated::default());
    status.other.insert("colour".to_owned(), "red".into());
    let written = serde_json::to_value(&status).unwrap();
    let keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "schema task state attempt started_utc ended_utc duration_s model api pid host progress_utc step \
             steps_total decision_id checkpoint_id rescued sample partial warning eval failure usage outputs budgets \
             isolation colour"
    );
    assert_eq!(serde_json::from_value::<Status>(written).unwrap(), status);
}

#[test]
fn a_status_of_a_newer_version_keeps_its_class_and_its_fields() {
    let newer = r#"{"schema":1,"task":"a","state":"failed","failure":{"class":"of_next_year","message":"m"},"colour":"red"}"#;
    let status: Status = serde_json::from_str(newer).unwrap();
    let class = status.result.failure.as_ref().map(|failure| &failure.class);
    assert_eq!(class, Some(&FailureClass::Other("of_next_year".to_owned())));
    let written = serde_json::to_value(&status).unwrap();
    assert_eq!((&written["failure"]["class"], &written["colour"]), (&"of_next_year".into(), &"red".into()));
}

#[test]
fn an_event_of_a_former_version_is_read() {
    let old = r#"{"timestamp_utc":"2026-03-01T22:15:04Z","event":"task.retrying","task":"a","attempt":1,"failure":{"class":"cut","message":"m"},"next":"again in 2 s"}"#;
    let event: Event = serde_json::from_str(old).unwrap();
    assert!(matches!(event.kind, Kind::TaskRetrying { waits: false, attempt: 1, .. }), "{event:?}");
}
