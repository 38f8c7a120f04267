use super::*;

const S: Duration = Duration::from_secs(1);

fn facts(name: &'static str, context_window: Option<u64>) -> ModelFacts<'static> {
    ModelFacts { name, context_window, max_output: None, closed: false, policy: Policy::default() }
}

fn error(class: Class) -> CallError {
    CallError::new(class, "x")
}

fn kind(next: Next) -> &'static str {
    match next {
        Next::Wait { .. } => "wait",
        Next::Adapted => "adapted",
        Next::Retry { vary: true, .. } => "vary",
        Next::Retry { .. } => "retry",
        Next::Reask { max_tokens: None } => "reask",
        Next::Reask { .. } => "longer",
        Next::Fallback { endpoint_closed: true, .. } => "fallback, closed",
        Next::Fallback { .. } => "fallback",
        Next::LargerContext { .. } => "larger",
        Next::GiveUp { endpoint_closed: true } => "give up, closed",
        Next::Park { .. } => "park",
        Next::GiveUp { .. } => "give up",
    }
}

/// The decisions on the same failure again and again, following fallbacks, until the task fails.
fn course(error: &CallError, models: &[ModelFacts<'_>], max_tokens: Option<u64>) -> Vec<&'static str> {
    course_of(error, models, max_tokens, false)
}

/// The same. `answered`: whether each model has answered in this build.
fn course_of(
    error: &CallError,
    models: &[ModelFacts<'_>],
    max_tokens: Option<u64>,
    answered: bool,
) -> Vec<&'static str> {
    let (mut budgets, mut rng, mut now, mut model) = (Budgets::default(), Rng::new(7), S * 1000, 0);
    let mut course = Vec::new();
    for _ in 0..1000 {
        let failed = Failed { error, model, prompt_tokens: 1000, max_tokens, answered };
        let next = budgets.next(&failed, models, now, &mut rng);
        if course.last() != Some(&"wait") || kind(next) != "wait" {
            course.push(kind(next));
        }
        match next {
            Next::Wait { r#for, .. } | Next::Park { r#for } => now += r#for,
            Next::Retry { after, .. } => now += after,
            Next::Fallback { model_index, .. } | Next::LargerContext { model_index } => model = model_index,
            Next::Reask { .. } | Next::Adapted => {}
            Next::GiveUp { .. } => return course,
        }
        // What survives a kill is what was there before it.
        let text = serde_json::to_string(&budgets).unwrap();
        budgets = serde_json::from_str(&text).unwrap();
    }
    panic!("no end: {course:?}");
}

#[test]
fn every_class_has_its_course() {
    use Class::*;
    let one = [facts("a", None)];
    let two = [facts("a", None), facts("b", None)];
    #[rustfmt::skip]
    let rows: &[(Class, &[&str], &[&str])] = &[
        (ServerLoading, &["wait", "give up, closed"], &["wait", "fallback, closed", "wait", "give up, closed"]),
        (RateLimit, &["wait", "give up, closed"], &["wait", "fallback", "wait", "give up, closed"]),
        (ServerError, &["retry", "retry", "retry", "give up"], &["retry", "retry", "retry", "fallback", "retry", "retry", "retry", "give up"]),
        (Connection, &["retry", "retry", "retry", "give up"], &["retry", "retry", "retry", "fallback", "retry", "retry", "retry", "give up"]),
        (Cut, &["vary", "vary", "vary", "give up"], &["vary", "fallback", "vary", "vary", "vary", "give up"]),
        (Timeout, &["retry", "give up"], &["retry", "fallback", "retry", "give up"]),
        (EmptyResponse, &["vary", "give up"], &["vary", "fallback", "vary", "give up"]),
        (Degenerate, &["vary", "give up"], &["vary", "fallback", "vary", "give up"]),
        (BadData, &["retry", "retry", "retry", "give up"], &["retry", "fallback", "retry", "retry", "retry", "give up"]),
        (Truncated, &["give up"], &["larger", "give up"]),
        (ContextOverflow, &["give up"], &["larger", "give up"]),
        (PromptTruncated, &["give up"], &["larger", "give up"]),
        (Validation, &["reask", "reask", "give up"], &["reask", "reask", "fallback", "reask", "reask", "give up"]),
        (Refusal, &["give up"], &["fallback", "give up"]),
        (BadRequest, &["give up"], &["fallback", "give up"]),
        (NotRecorded, &["give up"], &["fallback", "give up"]),
        (Auth, &["give up, closed"], &["fallback, closed", "give up, closed"]),
        (Quota, &["give up, closed"], &["fallback, closed", "give up, closed"]),
        (ModelNotFound, &["give up, closed"], &["fallback, closed", "give up, closed"]),
        (Config, &["give up, closed"], &["fallback, closed", "give up, closed"]),
        (Cancelled, &["give up"], &["give up"]),
    ];
    for (class, alone, with_other) in rows {
        assert_eq!(course(&error(*class), &one, None), *alone, "{class} alone");
        assert_eq!(course(&error(*class), &two, None), *with_other, "{class} with another");
    }
    let mut connect = error(Timeout);
    connect.code = Some("connect".into());
    assert_eq!(course(&connect, &one, None), ["retry", "retry", "retry", "give up"]);
    // A server that has answered and cannot be reached any more is waited for.
    for (class, code) in [(Connection, UNREACHABLE), (Timeout, "connect")] {
        let away = CallError { code: Some(code.into()), ..error(class) };
        let failed = Failed { error: &away, model: 0, prompt_tokens: 0, max_tokens: None, answered: true };
        let next = Budgets::default().next(&failed, &one, S, &mut Rng::new(1));
        assert!(matches!(next, Next::Wait { outage: true, .. }), "{class}: {next:?}");
        assert_eq!(course(&away, &one, None), ["retry", "retry", "retry", "give up"], "{class}");
    }
    let mut task = error(Timeout);
    task.code = Some("task".into());
    assert_eq!(course(&task, &two, None), ["give up"]);
}

#[test]
fn an_overloaded_server_that_has_answered_is_waited_for_where_no_other_model_is() {
    let (one, two) = ([facts("a", None)], [facts("a", None), facts("b", None)]);
    let attempts = ["retry", "retry", "retry"];
    for (status, code, waited) in [
        (Some(502), None, true),
        (Some(503), None, true),
        (Some(529), None, true),
        (Some(200), Some("overloaded_error"), true),
        (None, Some("server_is_overloaded"), true),
        // It may fail on this request alone, or have worked on it for long.
        (Some(500), None, false),
        (Some(504), None, false),
    ] {
        let error = CallError { status, code: code.map(str::to_owned), ..error(Class::ServerError) };
        let last = if waited { &["wait", "give up"][..] } else { &["give up"] };
        assert_eq!(course_of(&error, &one, None, true), [&attempts, last].concat(), "{status:?} {code:?}");
        let both = [&attempts, &["fallback"][..], &attempts, last].concat();
        assert_eq!(course_of(&error, &two, None, true), both, "{status:?} {code:?}");
        assert_eq!(course_of(&error, &one, None, false), [&attempts, &["give up"][..]].concat());
        // As long as a limit, and no usage limit, however long it asks to be left alone.
        let asks = CallError { retry_after: Some(S * 600), ..error };
        assert_eq!(course_of(&asks, &one, None, true), [&attempts, last].concat(), "{status:?} {code:?}");
    }
}

#[test]
fn a_server_that_says_whether_to_try_again_is_believed() {
    let two = [facts("a", None), facts("b", None)];
    for (class, should, wanted) in [
        (Class::ServerError, false, &["fallback", "give up"][..]),
        (Class::RateLimit, false, &["fallback", "give up"]),
        (
            Class::BadRequest,
            true,
            &["retry", "retry", "retry", "fallback", "retry", "retry", "retry", "give up"],
        ),
        (Class::Auth, true, &["fallback, closed", "give up, closed"]),
    ] {
        let error = CallError { should_retry: Some(should), ..error(class) };
        assert_eq!(course(&error, &two, None), wanted, "{class}");
    }
    let adapted = CallError { adapted: true, ..error(Class::BadRequest) };
    let failed = Failed { error: &adapted, model: 0, prompt_tokens: 0, max_tokens: None, answered: false };
    assert_eq!(Budgets::default().next(&failed, &two, S, &mut Rng::new(1)), Next::Adapted);
}

#[test]
fn pauses_double_and_keep_to_what_is_asked() {
    let models = [facts("a", None)];
    for seed in 0..50 {
        let (mut budgets, mut rng) = (Budgets::default(), Rng::new(seed));
        let mut error = error(Class::ServerError);
        for limit in [1, 2, 4] {
            let failed =
                Failed { error: &error, model: 0, prompt_tokens: 0, max_tokens: None, answered: false };
            let next = budgets.next(&failed, &models, S, &mut rng);
            assert!(matches!(next, Next::Retry { after, .. } if after <= S * limit), "{next:?}");
        }
        error.class = Class::RateLimit;
        error.retry_after = Some(S * 20);
        let failed = Failed { error: &error, model: 0, prompt_tokens: 0, max_tokens: None, answered: false };
        let next = budgets.next(&failed, &models, S, &mut rng);
        assert!(matches!(next, Next::Wait { r#for, .. } if r#for >= S * 20 && r#for <= S * 22), "{next:?}");
    }
}

#[test]
fn a_limit_that_resets_late_parks_only_without_another_model() {
    let mut error = error(Class::RateLimit);
    error.retry_after = Some(S * 3600);
    let failed = Failed { error: &error, model: 0, prompt_tokens: 0, max_tokens: None, answered: false };
    let mut rng = Rng::new(1);
    let alone = Budgets::default().next(&failed, &[facts("a", None)], S, &mut rng);
    assert_eq!(alone, Next::Park { r#for: S * 3600 });
    let both = [facts("a", None), facts("b", None)];
    assert_eq!(kind(Budgets::default().next(&failed, &both, S, &mut rng)), "fallback");
    let mut closed = both.clone();
    closed[1].closed = true;
    assert_eq!(Budgets::default().next(&failed, &closed, S, &mut rng), Next::Park { r#for: S * 3600 });
    // However long: whether the build lives until then, its run loop decides.
    let in_hours = |hours: u32, models: &[ModelFacts<'_>]| {
        let error = CallError { retry_after: Some(S * 3600 * hours), ..error.clone() };
        Budgets::default().next(&Failed { error: &error, ..failed }, models, S, &mut Rng::new(1))
    };
    assert_eq!(in_hours(2, &both), Next::Fallback { model_index: 1, endpoint_closed: false });
    assert_eq!(in_hours(24, &both), Next::Fallback { model_index: 1, endpoint_closed: false });
    assert_eq!(in_hours(24, &both[..1]), Next::Park { r#for: S * 3600 * 24 });
    let broken_for = |hours: u32, models: &[ModelFacts<'_>]| {
        let error =
            CallError { retry_after: Some(S * 3600 * hours), class: Class::ServerError, ..error.clone() };
        Budgets::default().next(&Failed { error: &error, ..failed }, models, S, &mut Rng::new(1))
    };
    assert_eq!(broken_for(2, &both), Next::Fallback { model_index: 1, endpoint_closed: false });
    assert_eq!(broken_for(24, &both), Next::Fallback { model_index: 1, endpoint_closed: true });
    assert_eq!(broken_for(2, &both[..1]), Next::Retry { after: S * 7200, vary: false });
    assert_eq!(broken_for(24, &both[..1]), Next::GiveUp { endpoint_closed: true });
}

#[test]
fn a_cut_answer_gets_more_room_while_there_is_some() {
    let mut error = error(Class::Truncated);
    error.usage.output_tokens = 500;
    let with = |context_window, max_output| [ModelFacts { max_output, ..facts("a", context_window) }];
    for (model, max_tokens, wanted) in [
        (with(None, None), Some(500), &["longer", "longer", "give up"][..]),
        (with(Some(8000), None), Some(500), &["longer", "longer", "give up"]),
        (with(Some(1400), None), Some(500), &["give up"]),
        (with(None, Some(500)), Some(500), &["give up"]),
        (with(None, Some(4000)), None, &["longer", "longer", "give up"]),
    ] {
        assert_eq!(course(&error, &model, max_tokens), wanted, "{model:?}");
    }
    let failed =
        Failed { error: &error, model: 0, prompt_tokens: 1000, max_tokens: Some(500), answered: false };
    assert_eq!(more_room(&failed, &with(Some(1800), Some(4000))[0]), Some(800));
}

#[test]
fn an_overflow_goes_only_where_there_is_more_room() {
    let error = error(Class::ContextOverflow);
    let failed = Failed { error: &error, model: 1, prompt_tokens: 9000, max_tokens: None, answered: false };
    let models = [facts("tiny", Some(4096)), facts("small", Some(8192)), facts("large", Some(128_000))];
    let next = Budgets::default().next(&failed, &models, S, &mut Rng::new(1));
    assert_eq!(next, Next::LargerContext { model_index: 2 });
    let next = Budgets::default().next(&failed, &models[..2], S, &mut Rng::new(1));
    assert_eq!(next, Next::GiveUp { endpoint_closed: false });
}

#[test]
fn budgets_are_apart_and_tables_change_them() {
    let retry = Retry { max_attempts: Some(1), ..Retry::default() };
    let policy = Policy::of(None, Some(&retry), Some(1));
    let models = [ModelFacts { policy, ..facts("a", None) }];
    let (mut budgets, mut rng) = (Budgets::default(), Rng::new(1));
    for (class, wanted) in [
        (Class::Validation, "reask"),
        (Class::ServerLoading, "wait"),
        (Class::ServerError, "give up"),
        (Class::Validation, "give up"),
    ] {
        let error = error(class);
        let failed = Failed { error: &error, model: 0, prompt_tokens: 0, max_tokens: None, answered: false };
        assert_eq!(kind(budgets.next(&failed, &models, S, &mut rng)), wanted, "{class}");
    }
    assert_eq!(budgets.first(&models), None);
    assert_eq!(Budgets::default().first(&models), Some(0));
}
