//! The state a task is shown in, by what is recorded and what judging found.

use planexe_base::record::{Done, Marker, State, Status};
use planexe_build::check_staleness::Judgement;
use planexe_engine::scheduler::{self as engine};
use planexe_engine::staleness::{Content, Decision, StaleReason};
use planexe_store::Owner;

/// Whether something failed before it may take the place of a state.
pub(super) fn may_be_blocked(state: State) -> bool {
    matches!(
        state,
        State::Pending | State::Stale | State::Damaged | State::Done | State::Edited | State::Stopped
    )
}

/// Whether the process that wrote a status holds the run's lock.
pub(super) fn is_at_work(status: &Status, owner: Option<&Owner>) -> bool {
    matches!(status.state, State::Running | State::Merging)
        && owner.is_some_and(|owner| status.last.pid == Some(owner.pid))
}

/// The state shown of a task that does something itself. `live`: an attempt is under way.
pub(super) fn shown(
    judgement: Option<&Judgement>,
    stored: Option<State>,
    marker: &Marker,
    live: bool,
) -> State {
    if live {
        return if stored == Some(State::Merging) { State::Merging } else { State::Running };
    }
    let decision = judgement.map(|judgement| &judgement.decision);
    if let Some(Decision::Fresh { edited, .. }) = decision {
        return if edited.is_empty() { State::Done } else { State::Edited };
    }
    if judgement.is_some_and(|judgement| judgement.skipped) {
        return State::Skipped;
    }
    if judgement.is_some_and(|judgement| judgement.failure.is_some()) {
        return State::Failed;
    }
    if decision == Some(&Decision::Adopt) {
        return State::Done;
    }
    match stored {
        // Whoever wrote that is gone.
        Some(State::Running) => return State::Stopped,
        // That it succeeded stands, whoever wrote it.
        Some(State::Merging) => return State::Merging,
        Some(
            state @ (State::Failed
            | State::Waiting
            | State::Stopped
            | State::PendingEval
            | State::FailedPendingEval),
        ) => return state,
        // The others have no `.status` of that name.
        Some(
            State::Done
            | State::Pending
            | State::Skipped
            | State::Edited
            | State::Blocked
            | State::Stale
            | State::Damaged,
        )
        | None => {}
    }
    match (marker, decision) {
        (Marker::Damaged(_) | Marker::Newer(_), _) => State::Damaged,
        (Marker::Valid(_) | Marker::Empty, Some(Decision::Stale { reasons, .. })) => {
            if reasons.iter().any(is_damage) { State::Damaged } else { State::Stale }
        }
        (Marker::Valid(done), _) => {
            let edited = judgement.is_some_and(|judgement| is_edited(done, judgement));
            if edited { State::Edited } else { State::Done }
        }
        (Marker::Missing, _) if stored == Some(State::Done) => State::Stale,
        _ => State::Pending,
    }
}

fn is_damage(reason: &StaleReason) -> bool {
    matches!(
        reason,
        StaleReason::MarkerDamaged { .. }
            | StaleReason::MarkerNewer { .. }
            | StaleReason::OutputMissing { .. }
            | StaleReason::OutputEmpty { .. }
            | StaleReason::OutputInvalid { .. }
    )
}

/// Whether a valid output is not the one recorded.
fn is_edited(done: &Done, judgement: &Judgement) -> bool {
    judgement.seen.iter().any(|seen| match &seen.content {
        Content::File { digest, invalid: None } => {
            done.outputs.iter().any(|output| output.path == seen.path && output.blake3 != *digest)
        }
        _ => false,
    })
}

/// The state of a fan-out by those of its instances, and whether it is done with some missing.
pub(super) fn family_state(states: &[State], min_success: f64) -> (State, bool) {
    // As the engine counts: what is skipped is none of those that must succeed.
    let all = states.len();
    let states: Vec<State> = states.iter().copied().filter(|state| *state != State::Skipped).collect();
    if states.is_empty() && all > 0 {
        return (State::Skipped, false);
    }
    let has = |state: State| states.contains(&state);
    let total = states.len();
    let complete = states.iter().filter(|state| state.is_complete()).count();
    if complete == total {
        return (if has(State::Edited) { State::Edited } else { State::Done }, false);
    }
    if has(State::Running) || has(State::Merging) {
        return (State::Running, false);
    }
    let failed = states.iter().filter(|state| **state == State::Failed).count();
    let lost = failed + states.iter().filter(|state| **state == State::Blocked).count();
    let needed = engine::needed(total, min_success);
    if lost > 0 && complete + lost == total && complete >= needed {
        return (State::Done, true);
    }
    if failed > 0 && total - lost < needed {
        return (State::Failed, false);
    }
    let first = [
        State::Waiting,
        State::FailedPendingEval,
        State::PendingEval,
        State::Stopped,
        State::Damaged,
        State::Stale,
    ];
    // With enough others an instance that is blocked is no more than one that is missing.
    let rest = if total - lost < needed { State::Blocked } else { State::Pending };
    (first.into_iter().find(|state| has(*state)).unwrap_or(rest), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_state::reasons;
    use planexe_base::record::By;
    use planexe_build::check_staleness as judge;
    use planexe_engine::staleness::Seen;

    fn done() -> Done {
        Done {
            schema: 1,
            task: "a".into(),
            fingerprint: Default::default(),
            parts: Default::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            completed_utc: "2026-03-01T22:15:04.123Z".into(),
            by: By::Build,
            by_user: None,
            checkpoint_id: None,
            made_with: None,
            call: None,
            sample: false,
            imported: None,
            kept: None,
            eval: None,
            other: Default::default(),
        }
    }

    fn judged(decision: Decision, marker: Marker) -> Judgement {
        Judgement {
            decision,
            prepared: None,
            skipped: false,
            failure: None,
            marker,
            status: None,
            torn: false,
            unknown_state: None,
            seen: Vec::new(),
        }
    }

    fn stale(reason: StaleReason) -> Decision {
        Decision::Stale { reasons: vec![reason], redraw: false, try_existing: false, edited: Vec::new() }
    }

    #[test]
    fn the_state_shown_of_each_kind_of_record() {
        let valid = || Marker::Valid(Box::new(done()));
        let fresh = || Decision::Fresh { edited: Vec::new(), drift: None };
        let edited = || Decision::Fresh { edited: vec!["a.txt".into()], drift: None };
        let prompt = || {
            let (old, new) = (None, None);
            stale(StaleReason::Changed { part: "prompt".into(), old, new, files: Vec::new() })
        };
        let missing = || stale(StaleReason::OutputMissing { path: "a.txt".into() });
        let never = || stale(StaleReason::NeverBuilt);
        for (decision, marker, stored, live, expected) in [
            // A marker that holds wins over whatever the status says, unless a build is at it now.
            (fresh(), valid(), Some(State::Done), false, State::Done),
            (fresh(), valid(), Some(State::Running), false, State::Done),
            (fresh(), valid(), Some(State::Failed), false, State::Done),
            (fresh(), valid(), Some(State::Running), true, State::Running),
            (edited(), valid(), None, false, State::Edited),
            (Decision::Adopt, Marker::Empty, None, false, State::Done),
            (prompt(), valid(), Some(State::Done), false, State::Stale),
            (prompt(), valid(), Some(State::Failed), false, State::Failed),
            (prompt(), valid(), Some(State::Running), false, State::Stopped),
            (missing(), valid(), Some(State::Done), false, State::Damaged),
            (never(), Marker::Damaged("cut short".into()), Some(State::Done), false, State::Damaged),
            (never(), Marker::Newer(9), None, false, State::Damaged),
            (Decision::DependsOn, valid(), Some(State::Done), false, State::Done),
            (Decision::DependsOn, valid(), Some(State::Failed), false, State::Failed),
            (stale(StaleReason::MarkerRemoved), Marker::Missing, Some(State::Done), false, State::Stale),
            (never(), Marker::Missing, None, false, State::Pending),
            (never(), Marker::Missing, Some(State::Pending), false, State::Pending),
            (never(), Marker::Missing, Some(State::Running), false, State::Stopped),
            (never(), Marker::Missing, Some(State::Stopped), false, State::Stopped),
            (never(), Marker::Missing, Some(State::Waiting), false, State::Waiting),
            (never(), Marker::Missing, Some(State::Failed), false, State::Failed),
        ] {
            let judgement = judged(decision, marker);
            assert_eq!(shown(Some(&judgement), stored, &judgement.marker, live), expected, "{judgement:?}");
        }
    }

    #[test]
    fn an_edit_shows_while_what_is_before_the_task_is_open() {
        let mut record = done();
        let digest = planexe_base::record::Digest::of(b"old");
        record.outputs.push(planexe_base::record::OutputRecord {
            path: "a.txt".into(),
            bytes: 3,
            blake3: digest,
        });
        let mut judgement = judged(Decision::DependsOn, Marker::Valid(Box::new(record)));
        let digest = planexe_base::record::Digest::of(b"new");
        let content = Content::File { digest, invalid: None };
        judgement.seen.push(Seen { path: "a.txt".into(), content });
        assert_eq!(shown(Some(&judgement), None, &judgement.marker, false), State::Edited);
    }

    #[test]
    fn a_state_nobody_knows_is_a_failure() {
        let mut judgement = judged(stale(StaleReason::NeverBuilt), Marker::Missing);
        judgement.failure = Some(judge::unknown_state("levitating", "a"));
        assert_eq!(shown(Some(&judgement), None, &judgement.marker, false), State::Failed);
        let reasons = reasons(&judgement);
        assert!(reasons[0].message.contains("levitating") && !reasons[0].message.contains("hint"));
    }

    #[test]
    fn a_fan_out_is_what_its_instances_are() {
        use State::{Blocked, Done, Edited, Failed, Pending, Running, Skipped, Stale, Stopped, Waiting};
        for (states, share, expected) in [
            (&[Done, Done][..], 1.0, (Done, false)),
            (&[Done, Edited], 1.0, (Edited, false)),
            (&[Skipped, Skipped], 1.0, (Skipped, false)),
            (&[Done, Skipped], 1.0, (Done, false)),
            (&[Done, Failed, Skipped], 0.5, (Done, true)),
            (&[Failed, Skipped, Skipped], 0.5, (Failed, false)),
            (&[Done, Failed, Failed, Skipped, Skipped, Skipped], 0.5, (Failed, false)),
            (&[Done, Running, Failed], 1.0, (Running, false)),
            (&[Done, Failed], 1.0, (Failed, false)),
            (&[Done, Failed], 0.5, (Done, true)),
            (&[Done, Done, Failed], 0.75, (Failed, false)),
            (&[Done, Pending, Failed], 0.5, (Pending, false)),
            (&[Pending, Failed, Failed], 0.5, (Failed, false)),
            (&[Failed, Failed], 0.0, (Done, true)),
            (&[Failed, Failed], 1e-12, (Failed, false)),
            (&[Done, Blocked], 1.0, (Blocked, false)),
            (&[Done, Blocked], 0.5, (Done, true)),
            (&[Done, Blocked, Pending], 0.5, (Pending, false)),
            (&[Done, Blocked, Pending], 1.0, (Blocked, false)),
            (&[Done, Stale, Pending], 1.0, (Stale, false)),
            (&[Stopped, Pending], 1.0, (Stopped, false)),
            (&[Waiting, Stopped], 1.0, (Waiting, false)),
        ] {
            assert_eq!(family_state(states, share), expected, "{states:?} {share}");
        }
    }
}
