//! The machine against a vendor whose list lags and whose answers get lost, killed between any two steps.

use std::time::{Duration, UNIX_EPOCH};

use super::{Fault, Found, Machine, Now, Spans, Standing, Step, Tell};
use planexe_base::clock;
use planexe_llm::rng::Rng;
use planexe_store::batches::BatchState;

const SPANS: Spans = Spans { within: Duration::from_secs(7200), settle: Duration::from_secs(900) };
/// The start of time, seconds since 1970.
const START: u64 = 1_760_000_000;

fn now(seconds: f64) -> Now {
    let at = Duration::from_secs_f64(seconds);
    let utc = clock::format_utc(UNIX_EPOCH + Duration::from_secs(START) + at);
    Now { at, utc }
}

fn out(id: &str, seconds: f64) -> BatchState {
    BatchState { batch: id.into(), submitted_utc: now(seconds).utc, ..BatchState::default() }
}

fn standing(ended: bool, done: u64) -> Standing {
    Standing { ended, done, total: 4, ..Standing::default() }
}

#[test]
fn nothing_is_sent_before_it_is_noted() {
    let mut machine = Machine::fresh(4, &now(0.0));
    assert_eq!(machine.next(&now(0.0)), Step::Prepare);
    machine.prepared(Ok("file-1".into()));
    assert_eq!(machine.next(&now(1.0)), Step::Note);
    assert_eq!(
        machine.disk.as_ref().map(|disk| (disk.batch.as_str(), disk.file.as_str())),
        Some(("", "file-1"))
    );
    assert_eq!(machine.next(&now(1.0)), Step::Note, "until it is");
    machine.noted();
    assert_eq!(machine.next(&now(1.0)), Step::Send);
    machine.sent(Ok("batch_1".into()), &now(2.0));
    assert_eq!(machine.next(&now(2.0)), Step::Note, "its id, before anything else");
    machine.noted();
    assert_eq!(machine.next(&now(2.0)), Step::Wait);
    assert_eq!(machine.next(&now(9.0)), Step::Look);
    machine.looked(Ok((&standing(true, 4), Some(3))), &now(9.0), &SPANS);
    assert_eq!(machine.next(&now(99.0)), Step::Look, "an answer is not listed yet");
    assert!(machine.is_seen());
    machine.looked(Ok((&standing(true, 4), Some(4))), &now(99.0), &SPANS);
    assert!(!machine.is_seen(), "nobody loses patience while its answers are written");
    assert_eq!(machine.next(&now(99.0)), Step::Note);
    machine.noted();
    assert_eq!(machine.next(&now(99.0)), Step::Keep);
    machine.kept();
    assert_eq!(machine.next(&now(99.0)), Step::Over);
}

#[test]
fn what_follows_a_failed_submission() {
    let unclear = Fault::Unclear(Duration::ZERO);
    for (fault, told, next) in
        [(Fault::Refused, Tell::Failed, Step::Forget), (unclear, Tell::Nothing, Step::Find)]
    {
        let mut machine = Machine::fresh(4, &now(0.0));
        machine.prepared(Ok(String::new()));
        machine.next(&now(0.0));
        machine.noted();
        assert_eq!(machine.next(&now(0.0)), Step::Send);
        assert_eq!(machine.sent(Err(fault), &now(1.0)), told);
        assert_eq!(machine.next(&now(99.0)), next, "{fault:?}");
    }
}

#[test]
fn a_batch_in_doubt_is_looked_for_until_the_list_has_settled() {
    let in_doubt = || Machine::known(Some(out("", 0.0)), false, 4, &now(10.0));
    // After the restart, however long ago it was sent.
    for (at, found, forgets) in [
        (10.0, Found::No, false),
        (909.0, Found::No, false),
        (910.0, Found::No, true),
        (9999.0, Found::Perhaps, false),
    ] {
        let mut machine = in_doubt();
        assert_eq!(machine.next(&now(at)), Step::Find);
        assert_eq!(machine.found(Ok(found.clone()), &now(at), &SPANS), (Tell::Nothing, forgets));
        let next = machine.next(&now(at + 99.0));
        assert_eq!(next, if forgets { Step::Forget } else { Step::Find }, "{at} {found:?}");
    }
    let mut machine = in_doubt();
    for fault in [Fault::Refused, Fault::Gone] {
        assert_eq!(machine.found(Err(fault), &now(99_999.0), &SPANS), (Tell::Stuck, false), "{fault:?}");
    }
    machine.found(Ok(Found::Yes("batch_1".into())), &now(99.0), &SPANS);
    assert_eq!(machine.next(&now(99.0)), Step::Note);
    machine.noted();
    assert_eq!(machine.next(&now(999.0)), Step::Look);
}

#[test]
fn of_an_ended_build_what_was_never_sent_is_forgotten() {
    assert_eq!(Machine::known(None, false, 4, &now(0.0)).next(&now(0.0)), Step::Forget);
    assert_eq!(Machine::known(Some(out("b", 0.0)), true, 4, &now(0.0)).next(&now(0.0)), Step::Over);
}

#[test]
fn one_that_is_gone_waits_for_a_person() {
    let looked = |machine: &mut Machine, at: f64| machine.looked(Err(Fault::Gone), &now(at), &SPANS);
    let mut machine = Machine::known(Some(out("b", 0.0)), false, 4, &now(0.0));
    assert_eq!(looked(&mut machine, 5.0), Tell::Nothing, "it was just made");
    assert_eq!(looked(&mut machine, 905.0), Tell::Stuck);
    assert_eq!(machine.next(&now(9999.0)), Step::Look, "never submitted anew");
    // It turns up.
    assert_eq!(machine.looked(Ok((&standing(false, 1), None)), &now(9999.0), &SPANS), Tell::Nothing);
    let mut machine = Machine::known(Some(out("b", 0.0)), false, 4, &now(5000.0));
    assert_eq!(machine.looked(Err(Fault::Refused), &now(5001.0), &SPANS), Tell::Stuck);
    machine.looked(Ok((&standing(true, 4), Some(1))), &now(5100.0), &SPANS);
    assert_eq!(
        machine.looked(Ok((&standing(true, 4), Some(1))), &now(6100.0), &SPANS),
        Tell::Stuck,
        "answers that are counted and never listed"
    );
}

#[test]
fn a_late_batch_is_cancelled_until_that_is_heard() {
    let mut machine = Machine::known(Some(out("b", 0.0)), false, 4, &now(0.0));
    machine.looked(Ok((&standing(false, 1), None)), &now(7200.0), &SPANS);
    assert_eq!(machine.next(&now(7200.0)), Step::Note);
    let noted = machine.disk.clone();
    assert!(noted.as_ref().is_some_and(|disk| disk.late));
    machine.noted();
    assert_eq!(machine.next(&now(7200.0)), Step::Cancel);
    // Killed before the cancel is sent, or before it is heard.
    let mut machine = Machine::known(noted, false, 4, &now(0.0));
    assert_eq!(machine.next(&now(0.0)), Step::Look);
    machine.looked(Ok((&standing(false, 1), None)), &now(1.0), &SPANS);
    assert_eq!(machine.next(&now(1.0)), Step::Cancel);
    machine.cancelled(&now(1.0));
    assert_eq!(machine.next(&now(99.0)), Step::Look);
    let heard = Standing { cancelling: true, ..standing(false, 1) };
    machine.looked(Ok((&heard, None)), &now(99.0), &SPANS);
    assert_eq!(machine.next(&now(999.0)), Step::Look);
}

/// A vendor. What is submitted comes into being after a while, and into the list after another one.
struct Vendor {
    rng: Rng,
    made: Vec<f64>,
    list_has: Vec<f64>,
    speed: f64,
}

impl Vendor {
    fn chance(&mut self, share: f64) -> bool {
        self.rng.unit() < share
    }

    fn submit(&mut self, at: f64) -> Result<String, Fault> {
        if self.chance(0.1) {
            return Err(Fault::Refused);
        }
        // Refused on the way, or made and its answer lost.
        if self.chance(0.2) {
            return Err(Fault::Unclear(Duration::ZERO));
        }
        let made = at + self.rng.unit() * 100.0;
        self.made.push(made);
        self.list_has.push(made + self.rng.unit() * 600.0);
        match self.chance(0.5) {
            true => Ok(format!("b{}", self.made.len() - 1)),
            false => Err(Fault::Unclear(Duration::ZERO)),
        }
    }

    fn find(&mut self, at: f64) -> Result<Found, Fault> {
        if self.chance(0.2) {
            return Err(Fault::Unclear(Duration::from_secs(5)));
        }
        let listed = self.list_has.iter().position(|since| *since <= at);
        Ok(listed.map_or(Found::No, |n| Found::Yes(format!("b{n}"))))
    }

    fn look(&mut self, id: &str, at: f64) -> Result<Standing, Fault> {
        if self.chance(0.2) {
            return Err(Fault::Unclear(Duration::ZERO));
        }
        let made = self.made[id[1..].parse::<usize>().unwrap()];
        if at < made {
            return Err(Fault::Gone);
        }
        Ok(Standing { ended: at > made + self.speed, ..standing(false, 4) })
    }
}

#[test]
fn killed_at_any_step_nothing_is_submitted_twice_and_nothing_is_lost() {
    let (mut submitted, mut kills) = (0, 0);
    for seed in 0..3_000 {
        let mut vendor =
            Vendor { rng: Rng::new(seed), made: Vec::new(), list_has: Vec::new(), speed: 3000.0 };
        let mut at = 0.0;
        // What is on disk: the calls, how far they are, the answers.
        let (mut record, mut state, mut answers) = (true, None::<BatchState>, false);
        let mut machine = Machine::fresh(4, &now(at));
        let mut left = 6;
        for turn in 0.. {
            assert!(turn < 10_000, "seed {seed}: no end");
            // `at` counts for both clocks; a restart takes a while.
            if left > 0 && vendor.chance(0.1) {
                left -= 1;
                kills += 1;
                at += vendor.rng.unit() * 300.0;
                machine = match record {
                    true => Machine::known(state.clone(), answers, 4, &now(at)),
                    false => Machine::fresh(4, &now(at)),
                };
            }
            let step = machine.next(&now(at));
            let died = left > 0 && vendor.chance(0.1);
            at += vendor.rng.unit();
            match step {
                Step::Over => break,
                Step::Wait => at = machine.due.as_secs_f64().max(at),
                Step::Forget => (record, state, answers) = (false, None, false),
                Step::Note => state = machine.disk.clone(),
                Step::Keep => answers = true,
                _ => {}
            }
            // What follows is heard by nobody where it is killed right after the request.
            let id = machine.disk.as_ref().map(|disk| disk.batch.clone()).unwrap_or_default();
            match step {
                Step::Prepare => drop(machine.prepared(Ok("f".into()))),
                Step::Note => machine.noted(),
                Step::Keep => machine.kept(),
                Step::Forget => {
                    record = true;
                    machine = Machine::fresh(4, &now(at));
                }
                Step::Cancel => machine.cancelled(&now(at)),
                Step::Send => {
                    assert!(state.is_some(), "seed {seed}: sent before it was noted");
                    let sent = vendor.submit(at);
                    if !died {
                        machine.sent(sent, &now(at));
                    }
                }
                Step::Find => {
                    let found = vendor.find(at);
                    if !died {
                        machine.found(found, &now(at), &SPANS);
                    }
                }
                Step::Look => {
                    let seen = vendor.look(&id, at);
                    if !died {
                        let seen = seen.as_ref().map_err(|fault| *fault);
                        let told = machine.looked(seen.map(|s| (s, s.ended.then_some(4))), &now(at), &SPANS);
                        assert_eq!(told, Tell::Nothing, "seed {seed}");
                    }
                }
                Step::Wait | Step::Over => {}
            }
            if died {
                left -= 1;
                kills += 1;
                machine = Machine::known(state.clone(), answers, 4, &now(at));
            }
            assert!(vendor.made.len() <= 1, "seed {seed}: submitted twice");
        }
        submitted += vendor.made.len();
        assert_eq!(vendor.made.len(), 1, "seed {seed}");
        assert!(answers && record, "seed {seed}: lost");
    }
    assert!(kills > 3_000 && submitted == 3_000, "{kills} {submitted}");
}
