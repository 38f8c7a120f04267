use super::*;

fn endpoint(context: Option<u64>) -> Endpoint {
    let model = Model {
        base_url: Some("http://127.0.0.1:1234/v1".into()),
        context_window: context,
        ..Model::default()
    };
    Endpoint { name: "local".into(), model }
}

fn grades(findings: &[Finding]) -> Vec<(&'static str, Grade)> {
    findings.iter().map(|finding| (finding.check, finding.grade)).collect()
}

#[test]
fn what_a_server_tells() {
    let away = of_facts(&endpoint(None), &Facts { note: Some("refused".into()), ..Facts::default() });
    assert_eq!(grades(&away), [("model", Grade::Fail)]);
    assert!(away[0].message.contains("refused") && away[0].remedy.as_deref().unwrap().contains("lms"));
    let up = Facts { reachable: true, model_present: Some(true), ..Facts::default() };
    assert_eq!(grades(&of_facts(&endpoint(None), &up)), [("model", Grade::Ok)]);
    let small = Facts { context_window: Some(4096), ..up.clone() };
    assert_eq!(
        grades(&of_facts(&endpoint(Some(32768)), &small)),
        [("model", Grade::Ok), ("context", Grade::Fail)]
    );
    assert_eq!(grades(&of_facts(&endpoint(None), &small))[1], ("context", Grade::Warn));
    assert_eq!(grades(&of_facts(&endpoint(Some(4096)), &small))[1], ("context", Grade::Ok));
    let other = Facts { model_present: Some(false), models: vec!["b".into()], ..up.clone() };
    assert_eq!(grades(&of_facts(&endpoint(None), &other)), [("model", Grade::Fail)]);
    let refused = Facts { key_accepted: Some(false), ..up };
    assert_eq!(grades(&of_facts(&endpoint(None), &refused)), [("model", Grade::Fail)]);
}

#[test]
fn room_and_time() {
    assert_eq!(space(10).grade, Grade::Fail);
    assert_eq!(space(100_000_000).grade, Grade::Warn);
    assert_eq!(space(u64::MAX).grade, Grade::Ok);
    let now = SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 5);
    assert!(times(now, now).message.ends_with("nanoseconds"));
    assert_eq!(times(now, now - Duration::from_secs(60)).grade, Grade::Warn);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    assert_eq!(times(old, old).grade, Grade::Warn);
}
