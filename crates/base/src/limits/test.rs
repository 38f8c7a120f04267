use super::*;

const S: Duration = Duration::from_secs(1);

fn limiter(max_concurrent: u32, rpm: Option<u32>, tpm: Option<u64>, local: bool) -> Limiter {
    Limiter::new(Limits { max_concurrent, rpm, tpm, local })
}

fn used(tokens: u64) -> Result<Usage, Class> {
    Ok(Usage { input_tokens: tokens, ..Usage::default() })
}

/// Starts and finishes one call at once.
fn call(limiter: &mut Limiter, now: Duration, outcome: &Result<Usage, Class>) {
    limiter.started(now, 10);
    limiter.finished(now, outcome, None);
}

#[test]
fn who_lets_three_calls_run_out_of_time_is_left_to_those_who_have_no_other() {
    let mut limiter = limiter(4, None, None, true);
    for at in [10, 20] {
        call(&mut limiter, S * at, &Err(Class::Timeout));
        assert!(!limiter.is_held_long(S * at));
    }
    // An answer in between, and it begins anew.
    call(&mut limiter, S * 30, &used(1));
    for at in [40, 50, 60] {
        assert!(!limiter.is_held_long(S * at));
        call(&mut limiter, S * at, &Err(Class::Timeout));
    }
    assert!(limiter.is_held_long(S * 60));
    // After a while one call finds out.
    let later = S * 60 + WAIT_FOR_LIMIT;
    assert!(!limiter.is_held_long(later));
    assert_eq!(limiter.can_start(later, 0), Start::Ready);
    limiter.started(later, 0);
    assert!(limiter.is_held_long(later));
    limiter.finished(later, &used(1), None);
    assert!(!limiter.is_held_long(later));
}

#[test]
fn who_breaks_calls_for_a_minute_is_left_to_those_who_have_no_other() {
    let broken = |class: Class| {
        let mut limiter = limiter(4, None, None, true);
        let mut now = S * 10;
        for _ in 0..8 {
            assert!(!limiter.is_held_long(now), "{class:?}: no pause of a minute yet");
            limiter.started(now, 10);
            limiter.finished(now, &Err(class), None);
            if let Start::NotBefore(at) = limiter.can_start(now, 10) {
                if at - now >= MINUTE {
                    return (limiter, now, at);
                }
                now = at;
            }
        }
        panic!("{class:?}: no pause of a minute");
    };
    for class in [Class::ServerError, Class::Cut] {
        let (mut limiter, now, until) = broken(class);
        assert!(limiter.is_held_long(now) && limiter.held_long_until(now) == Some(until), "{class:?}");
        // After a minute one call finds out, and an answer ends it.
        assert!(!limiter.is_held_long(until));
        limiter.started(until, 10);
        assert!(limiter.is_held_long(until));
        limiter.finished(until, &used(1), None);
        assert!(!limiter.is_held_long(until));
    }
    // What is away or loading is waited for.
    for class in [Class::Connection, Class::ServerLoading] {
        let (limiter, now, _) = broken(class);
        assert!(!limiter.is_held_long(now), "{class:?}");
    }
}

#[test]
fn a_usage_limit_is_over_once_a_call_is_answered() {
    const HOUR: Duration = Duration::from_secs(3600);
    let refused = Err(Class::RateLimit);
    let mut limiter = limiter(4, None, None, false);
    for _ in 0..3 {
        limiter.started(S, 10);
    }
    limiter.finished(S * 2, &refused, Some(HOUR));
    // What was in flight says nothing of the time after.
    limiter.finished(S * 3, &used(1), None);
    limiter.finished(S * 4, &refused, Some(HOUR));
    assert_eq!(limiter.can_start(S * 5, 10), Start::NotBefore(HOUR + S * 4));
    assert_eq!(limiter.concurrency(), 4, "a usage limit says nothing of calls at once");
    let mut now = HOUR + S * 4;
    for (end, asked) in [(&refused, Some(HOUR)), (&refused, None), (&Err(Class::ServerError), None)] {
        assert_eq!(limiter.can_start(now, 10), Start::Ready);
        limiter.started(now, 10);
        assert_eq!(limiter.can_start(now, 10), Start::Full, "one call finds out");
        limiter.finished(now, end, asked);
        assert!(limiter.is_parked());
        if *end == refused {
            let until = now + asked.unwrap_or(LONG_LIMIT);
            assert_eq!(limiter.can_start(now, 10), Start::NotBefore(until));
            // The clock of the wall may say so earlier, after a sleep.
            now += S * 7;
            limiter.limit_over(now);
        }
    }
    call(&mut limiter, now, &used(1));
    assert!(!limiter.is_parked());
    limiter.started(now, 10);
    assert_eq!(limiter.can_start(now, 10), Start::Ready);
}

#[test]
fn slots_fill_and_free() {
    let mut limiter = limiter(2, None, None, false);
    assert_eq!(limiter.can_start(S, 0), Start::Ready);
    limiter.started(S, 0);
    limiter.started(S, 0);
    assert_eq!(limiter.can_start(S, 0), Start::Full);
    limiter.finished(S * 2, &used(1), None);
    assert_eq!(limiter.can_start(S * 2, 0), Start::Ready);
}

#[test]
fn requests_and_tokens_are_counted_over_a_minute() {
    let mut limiter_r = limiter(100, Some(3), None, false);
    for second in 10..13 {
        assert_eq!(limiter_r.can_start(S * second, 0), Start::Ready);
        call(&mut limiter_r, S * second, &used(1));
    }
    assert_eq!(limiter_r.can_start(S * 13, 0), Start::NotBefore(S * 70));
    assert_eq!(limiter_r.can_start(S * 70, 0), Start::Ready);

    let mut limiter_t = limiter(100, None, Some(1000), false);
    limiter_t.started(S * 10, 600);
    assert_eq!(limiter_t.can_start(S * 11, 600), Start::NotBefore(S * 70));
    // It used less than was estimated.
    limiter_t.finished(S * 12, &used(100), None);
    assert_eq!(limiter_t.can_start(S * 12, 600), Start::Ready);
    // What it did not use made room once, not again when the estimate leaves the window.
    limiter_t.started(S * 13, 700);
    limiter_t.finished(S * 60, &used(700), None);
    limiter_t.started(S * 71, 300);
    assert_eq!(limiter_t.can_start(S * 71, 300), Start::NotBefore(S * 73));
    // One call larger than the allowance passes when nothing else is in the window.
    assert_eq!(limiter_t.can_start(S * 200, 5000), Start::Ready);
    limiter_t.started(S * 200, 5000);
    assert_eq!(limiter_t.can_start(S * 201, 10), Start::NotBefore(S * 260));
}

#[test]
fn rate_limits_shrink_once_an_episode_and_clean_rounds_grow() {
    let mut limiter = limiter(10, None, None, false);
    for _ in 0..5 {
        limiter.started(S, 0);
    }
    for _ in 0..5 {
        limiter.finished(S * 2, &Err(Class::RateLimit), Some(S * 4));
    }
    assert_eq!(limiter.concurrency(), 8);
    assert_eq!(limiter.can_start(S * 3, 0), Start::NotBefore(S * 6));
    assert_eq!(limiter.can_start(S * 6, 0), Start::Ready);
    call(&mut limiter, S * 6, &used(1));
    assert_eq!(limiter.concurrency(), 8, "nothing grows while it cools down");
    for _ in 0..8 {
        call(&mut limiter, S * 60, &used(1));
    }
    assert_eq!(limiter.concurrency(), 9);
    for _ in 0..1000 {
        call(&mut limiter, S * 60, &used(1));
    }
    assert_eq!(limiter.concurrency(), 10);
    for episode in 1..40 {
        call(&mut limiter, S * 60 * (episode + 1), &Err(Class::RateLimit));
    }
    assert_eq!(limiter.concurrency(), 1);
}

#[test]
fn the_breaker_opens_probes_and_closes() {
    let mut limiter = limiter(4, None, None, false);
    for second in 1..=2 {
        call(&mut limiter, S * second, &Err(Class::ServerError));
    }
    assert_eq!(limiter.can_start(S * 2, 0), Start::Ready);
    call(&mut limiter, S * 3, &Err(Class::Connection));
    assert_eq!(limiter.can_start(S * 3, 0), Start::NotBefore(S * 8));
    // One probe, and no second beside it.
    assert_eq!(limiter.can_start(S * 8, 0), Start::Ready);
    limiter.started(S * 8, 0);
    assert_eq!(limiter.can_start(S * 8, 0), Start::Full);
    limiter.finished(S * 9, &Err(Class::ServerError), None);
    assert_eq!(limiter.can_start(S * 9, 0), Start::NotBefore(S * 19));
    limiter.started(S * 19, 0);
    limiter.finished(S * 20, &used(1), None);
    assert_eq!(limiter.can_start(S * 20, 0), Start::Ready);
    assert!(!limiter.is_broken());
    // A success between failures starts the count anew.
    for class in [Class::ServerError, Class::ServerError] {
        call(&mut limiter, S * 21, &Err(class));
    }
    call(&mut limiter, S * 21, &used(1));
    call(&mut limiter, S * 21, &Err(Class::ServerError));
    assert!(!limiter.is_broken());
    // A probe that was cancelled says nothing: the next call is one.
    for _ in 0..3 {
        call(&mut limiter, S * 30, &Err(Class::ServerError));
    }
    limiter.started(S * 40, 0);
    limiter.finished(S * 41, &Err(Class::Cancelled), None);
    assert_eq!(limiter.can_start(S * 41, 0), Start::Ready);
}

#[test]
fn nothing_is_piled_on_a_local_server_that_ran_out_of_time() {
    let mut limiter = limiter(4, None, None, true);
    limiter.started(S, 0);
    limiter.started(S, 0);
    limiter.finished(S * 2, &Err(Class::Timeout), None);
    assert_eq!(limiter.can_start(S * 2, 0), Start::Full);
    limiter.finished(S * 3, &used(1), None);
    assert_eq!(limiter.concurrency(), 4);
    // It rests for as long as it may still be at work, or until it is found idle.
    for found_idle in [false, true] {
        limiter.started(S * 3, 0);
        limiter.finished(S * 3, &Err(Class::Timeout), Some(S * 7));
        assert_eq!(limiter.can_start(S * 3, 0), Start::NotBefore(S * 10));
        if found_idle {
            limiter.found_idle(S * 4);
        }
        assert_eq!(limiter.can_start(S * 4, 0) == Start::Ready, found_idle);
        assert_eq!(limiter.can_start(S * 10, 0), Start::Ready);
        call(&mut limiter, S * 10, &used(1));
        limiter.rest_until = Duration::ZERO;
    }
    // One that is away is looked at by one call at a time, at growing intervals.
    call(&mut limiter, S * 4, &Err(Class::ServerLoading));
    let mut looks = vec![];
    let mut now = S * 4;
    for _ in 0..5 {
        let Start::NotBefore(at) = limiter.can_start(now, 0) else { panic!() };
        looks.push((at - now).as_secs());
        now = at;
        call(&mut limiter, now, &Err(Class::ServerLoading));
    }
    assert_eq!(looks, [2, 4, 8, 16, 32]);
    assert!(matches!(limiter.can_start(now, 0), Start::NotBefore(_)));
    limiter.found_up(now);
    assert_eq!(limiter.can_start(now, 0), Start::Ready);
}
