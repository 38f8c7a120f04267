//! Which prompts begin alike, and where one is divided so that a server's cache of prompts is used.
//!
//! Pure: the time is passed in. A prompt is known by its [`Mark`]s: places between words, each with a digest of all text
//! before it. Two prompts begin alike as far as their marks are the same. A [`Book`] counts the prompts of one endpoint
//! that go through each mark, and knows which places its server has in its cache or is about to have. It decides
//! where a prompt is divided, and which call waits for the first token of another. The text stays as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a token, about.
const TOKEN: u64 = 4;
/// Fewest bytes between two marks; further in they are a share of what is before them.
const STEP: usize = 32;
/// That share.
const SHARE: usize = 512;
/// A part that is cut off has at least so many bytes.
const PART: u64 = 128;
/// A call waits for another, or is preferred to it, only if that many bytes more are read from the cache.
pub const WORTH: u64 = 1024;
/// Parts of a prompt at most: Anthropic looks back no further than 20.
const PARTS: usize = 16;
/// How long a call waits at least for the first token of another, and at most.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Tokens a second that a server reads at least.
const READS: f64 = 2000.0;

/// A place in a prompt, counted from the first byte of the system prompt, and a digest of the text before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Bytes before it.
    pub at: u32,
    /// Stands for those bytes.
    pub digest: u64,
}

/// The marks of a prompt, in order.
pub type Marks = Arc<[Mark]>;

/// What the cache of a server is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Only what a request marks is kept, at most so many places of one; none if everything is.
    pub markers: Option<usize>,
    /// What is shorter is not kept.
    pub min_tokens: u64,
    /// How long it is kept after it was last used.
    pub lifetime: Duration,
    /// It answers one call after the other, and keeps what it read last and nothing else.
    pub one_slot: bool,
}

/// How a prompt is divided for a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Division {
    /// Bytes before the end of each part but the last.
    pub cuts: Vec<u32>,
    /// Stands for the shortest beginning that can be kept, if another prompt has it as well.
    pub key: Option<u64>,
}

/// The marks of a prompt. `seed` is what a server reads before it.
pub fn marks(seed: &[u8], system: &str, prompt: &str) -> Marks {
    let mut digest = chained(0, seed);
    let mut marks = Vec::new();
    for (before, text) in [(0, system), (system.len(), prompt)] {
        let mut from = 0;
        while from < text.len() {
            let to = next_mark(text, from, before);
            digest = chained(digest, &text.as_bytes()[from..to]);
            from = to;
            let Ok(at) = u32::try_from(before + to) else { return marks.into() };
            marks.push(Mark { at, digest });
        }
        // A system prompt and the same text as a prompt are two things.
        digest = chained(digest, &[u8::from(before > 0)]);
    }
    // At its end nothing follows that could differ.
    marks.pop_if(|last| last.at as usize == system.len() + prompt.len());
    marks.into()
}

/// The next place to know a text by: it follows from what is before it alone. A space goes with the word after it, as in
/// tokens.
fn next_mark(text: &str, from: usize, before: usize) -> usize {
    let bytes = text.as_bytes();
    let step = STEP.max((before + from) / SHARE);
    let mut at = from + step;
    while at < bytes.len() && at < from + 4 * step {
        if bytes[at - 1] == b'\n' || (bytes[at] == b' ' && bytes[at - 1] != b' ') {
            return at;
        }
        at += 1;
    }
    while at < bytes.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at.min(bytes.len())
}

fn chained(digest: u64, bytes: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&digest.to_le_bytes()).update(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// What is known of one place.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Prompts that go through it, begun or not.
    prompts: u32,
    /// Until when the server has it, and how the text before it was divided.
    kept: Option<(Duration, Arc<[u32]>)>,
    /// The call that brings it there, and until when that is waited for.
    coming: Option<(u64, Duration)>,
}

/// What is known of the prompts and the cache of one endpoint.
#[derive(Debug, Clone)]
pub struct Book {
    rules: Rules,
    places: HashMap<u64, Place>,
    /// The prompt that was sent last.
    last: Marks,
}

impl Book {
    /// Of a cache that is empty.
    pub fn new(rules: Rules) -> Book {
        Book { rules, places: HashMap::new(), last: Marks::default() }
    }

    /// Bytes of a prompt that its server's only slot holds; none if it has more than one.
    pub fn held(&self, marks: &[Mark]) -> Option<u64> {
        let alike = || {
            let (mut from, mut to) = (0, marks.len().min(self.last.len()));
            // All before a place that is the same is the same.
            while from < to {
                let at = from.midpoint(to);
                if marks[at] == self.last[at] { from = at + 1 } else { to = at }
            }
            from.checked_sub(1).map_or(0, |at| u64::from(marks[at].at))
        };
        self.rules.one_slot.then(alike)
    }

    /// There is a prompt that is to be sent.
    pub fn add(&mut self, marks: &[Mark]) {
        if self.rules.one_slot {
            return;
        }
        for mark in marks {
            self.places.entry(mark.digest).or_default().prompts += 1;
        }
    }

    fn prompts(&self, mark: &Mark) -> u32 {
        self.places.get(&mark.digest).map_or(0, |place| place.prompts)
    }

    fn least(&self) -> u64 {
        self.rules.min_tokens * TOKEN
    }

    /// How a prompt is divided that is sent now.
    ///
    /// What is kept is read only if the text before it is divided as it was when it was kept. So that division goes on, and
    /// beyond it the text is cut where prompts part: always at the last place that two have in common, and then where
    /// most is read again.
    pub fn divide(&self, marks: &[Mark], now: Duration) -> Division {
        let shared = marks.iter().rposition(|mark| self.prompts(mark) > 1);
        // The shortest beginning that can be kept: one key for all that have it in common, however much more some of them have.
        let key = marks.iter().find(|mark| u64::from(mark.at) >= self.least());
        let key = key.filter(|mark| self.prompts(mark) > 1).map(|mark| mark.digest);
        let Some(markers) = self.rules.markers else { return Division { cuts: Vec::new(), key } };
        let kept = self.kept(marks, now);
        let (mut cuts, from) = match kept {
            Some((at, division)) => (division.to_vec(), at + 1),
            None => (Vec::new(), 0),
        };
        let parting = |at: &usize| {
            let next = marks.get(at + 1).map_or(0, |next| self.prompts(next));
            self.prompts(&marks[*at]) > next.max(1)
        };
        let after = cuts.last().map_or(0, |last| u64::from(*last) + PART);
        let mut places: Vec<usize> = (from..shared.map_or(0, |at| at + 1))
            .filter(parting)
            .filter(|at| u64::from(marks[*at].at) >= self.least().max(after))
            .collect();
        let room = (markers - usize::from(!cuts.is_empty())).min(PARTS.saturating_sub(cuts.len()));
        while places.len() > room {
            // The last one stays: it is what the most is read of.
            let gain = |at: usize| {
                let going_on = self.prompts(&marks[places[at + 1]]);
                u64::from(self.prompts(&marks[places[at]]) - going_on) * u64::from(marks[places[at]].at)
            };
            match (0..places.len() - 1).min_by_key(|at| gain(*at)) {
                Some(least) => places.remove(least),
                None => places.pop().unwrap_or_default(),
            };
        }
        for at in places {
            let at = marks[at].at;
            if cuts.last().is_none_or(|last| u64::from(at) >= u64::from(*last) + PART) {
                cuts.push(at);
            }
        }
        Division { cuts, key }
    }

    /// The last place of a prompt that is in the cache, and how the text before it is divided.
    fn kept(&self, marks: &[Mark], now: Duration) -> Option<(usize, &Arc<[u32]>)> {
        let kept = |at: usize| {
            let (until, division) = self.places.get(&marks[at].digest)?.kept.as_ref()?;
            (*until > now).then_some((at, division))
        };
        (0..marks.len()).rev().find_map(kept)
    }

    /// Whether a call would read more if it waited for the first token of another, which, and until when it does.
    pub fn waits(&self, marks: &[Mark], now: Duration) -> Option<(u64, Duration)> {
        let have = self.kept(marks, now).map_or(0, |(at, _)| u64::from(marks[at].at));
        let coming = marks.iter().rev().find_map(|mark| {
            let (call, until) = self.places.get(&mark.digest)?.coming?;
            (until > now).then_some((u64::from(mark.at), call, until))
        });
        let (at, call, until) = coming?;
        (at >= self.least() && at >= have + WORTH).then_some((call, until))
    }

    /// The places of a prompt that a call with this division brings to the cache.
    fn brought<'m>(
        &self,
        marks: &'m [Mark],
        division: &'m Division,
    ) -> impl Iterator<Item = &'m Mark> + use<'m> {
        let (all, least) = (self.rules.markers.is_none(), self.least());
        marks.iter().filter(move |mark| {
            u64::from(mark.at) >= least && (all || division.cuts.binary_search(&mark.at).is_ok())
        })
    }

    /// A call begins. Tells whether it brings anything to the cache.
    pub fn begin(&mut self, call: u64, marks: &Marks, division: &Division, now: Duration) -> bool {
        if self.rules.one_slot {
            self.last = marks.clone();
            return false;
        }
        let have = self.kept(marks, now).map_or(0, |(at, _)| u64::from(marks[at].at));
        let mut brings = false;
        for mark in self.brought(marks, division) {
            let Some(place) = self.places.get_mut(&mark.digest) else { continue };
            match &mut place.kept {
                // What is read is kept for longer.
                Some((until, _)) if *until > now => *until = now + self.rules.lifetime,
                _ if place.coming.is_none_or(|(_, until)| until <= now) => {
                    let reads = u64::from(mark.at).saturating_sub(have) / TOKEN;
                    let patience = PATIENCE[0] + Duration::from_secs_f64(reads as f64 / READS);
                    place.coming = Some((call, now + patience.min(PATIENCE[1])));
                    brings = true;
                }
                _ => {}
            }
        }
        brings
    }

    /// The first token of a call is there (`came`), or it ended without one.
    pub fn began(&mut self, call: u64, marks: &[Mark], division: &Division, came: bool, now: Duration) {
        for mark in self.brought(marks, division) {
            let Some(place) = self.places.get_mut(&mark.digest) else { continue };
            if place.coming.is_some_and(|(by, _)| by == call) {
                place.coming = None;
            }
            if came {
                let before = division.cuts.partition_point(|cut| *cut <= mark.at);
                let as_it_was = place.kept.take().filter(|(until, _)| *until > now);
                let division =
                    as_it_was.map_or_else(|| division.cuts[..before].into(), |(_, division)| division);
                place.kept = Some((now + self.rules.lifetime, division));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { markers: Some(4), min_tokens: 1024, lifetime: Duration::from_secs(300), one_slot: false };

    fn text(seed: u64, bytes: usize) -> String {
        let mut state = seed | 1;
        let mut text = String::new();
        while text.len() < bytes {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(["größe", "of", "halls", "and", "soil\n", "x"][(state >> 33) as usize % 6]);
            text.push(if state >> 40 & 7 == 0 { '\n' } else { ' ' });
        }
        text
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn marks_are_the_same_as_far_as_the_texts_are() {
        for seed in 0..200 {
            let (same, a, b) =
                (text(seed, 50 + seed as usize * 40), text(seed + 1000, 700), text(seed + 2000, 900));
            let (one, other) = (format!("{same}{a}"), format!("{same}{b}"));
            let system = text(seed + 3000, seed as usize);
            let (x, y) = (marks(b"", &system, &one), marks(b"", &system, &other));
            let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count() + system.len();
            let alike = x.iter().zip(y.iter()).take_while(|(a, b)| a == b).count();
            for mark in &x[..alike] {
                assert!(mark.at as usize <= common, "seed {seed}: {} and {common}", mark.at);
            }
            let reached = if alike == 0 { 0 } else { x[alike - 1].at as usize };
            let step = STEP.max(common / SHARE);
            assert!(common - reached <= 4 * step + 4, "seed {seed}: {reached} of {common} bytes");
            let whole = format!("{system}{one}");
            assert!(x.windows(2).all(|pair| pair[0].at < pair[1].at));
            assert!(
                x.iter()
                    .all(|mark| whole.is_char_boundary(mark.at as usize) && (mark.at as usize) < whole.len())
            );
            assert!(marks(b"schema", &system, &one).iter().zip(x.iter()).all(|(a, b)| a != b));
        }
        assert!(marks(b"", "", "").is_empty());
        let both = (marks(b"", "a b", ""), marks(b"", "", "a b"));
        assert!(both.0.is_empty() && both.1.is_empty());
    }

    #[test]
    fn the_marks_of_a_long_prompt_are_few() {
        let long = text(7, 400_000);
        let count = marks(b"", "", &long).len();
        assert!((500..3000).contains(&count), "{count} marks");
    }

    /// Prompts that begin with the parts they name.
    fn prompts(parts: &[(&str, usize)], own: &[&[usize]]) -> Vec<Marks> {
        let texts: Vec<String> =
            parts.iter().enumerate().map(|(at, (_, bytes))| text(at as u64 * 77 + 5, *bytes)).collect();
        let own = own.iter().enumerate().map(|(nth, parts)| {
            let start: String = parts.iter().map(|part| texts[*part].as_str()).collect();
            marks(b"", "", &format!("{start}\nItem {nth}: {}", text(nth as u64 + 900, 600)))
        });
        own.collect()
    }

    #[test]
    fn a_prompt_is_cut_where_prompts_part() {
        let parts = [("plan", 6000), ("course", 5000), ("digest", 20_000), ("short", 1000)];
        #[rustfmt::skip]
        let rows: &[(&str, &[&[usize]], usize)] = &[
            ("alone", &[&[0]], 0),
            ("two items", &[&[0], &[0]], 1),
            ("two levels", &[&[0, 1], &[0, 1], &[0]], 2),
            ("three levels", &[&[0, 1, 2], &[0, 1, 2], &[0, 1], &[0]], 3),
            ("too short to be kept", &[&[3], &[3]], 0),
            ("nothing in common", &[&[0], &[1], &[2]], 0),
        ];
        for (name, own, wanted) in rows {
            let prompts = prompts(&parts, own);
            let mut book = Book::new(RULES);
            prompts.iter().for_each(|marks| book.add(marks));
            let division = book.divide(&prompts[0], at(0));
            assert_eq!(division.cuts.len(), *wanted, "{name}: {:?}", division.cuts);
            assert_eq!(division.key.is_some(), *wanted > 0, "{name}");
            let unmarked = Book { rules: Rules { markers: None, ..RULES }, ..book };
            assert_eq!(unmarked.divide(&prompts[0], at(0)).cuts, [0_u32; 0], "{name}");
        }
    }

    #[test]
    fn of_more_places_than_may_be_marked_the_last_one_stays() {
        let parts: Vec<(&str, usize)> = vec![("part", 5000); 9];
        let own: Vec<Vec<usize>> = (1..=9).chain([9]).map(|n| (0..n).collect()).collect();
        let own: Vec<&[usize]> = own.iter().map(Vec::as_slice).collect();
        let prompts = prompts(&parts, &own);
        let mut book = Book::new(RULES);
        prompts.iter().for_each(|marks| book.add(marks));
        let cuts = book.divide(&prompts[9], at(0)).cuts;
        assert_eq!(cuts.len(), 4, "{cuts:?}");
        assert!(*cuts.last().unwrap() > 44_000, "{cuts:?}");
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_divided() {
        let parts = [("plan", 6000), ("course", 5000)];
        let prompts = prompts(&parts, &[&[0, 1], &[0, 1], &[0], &[0, 1]]);
        let mut book = Book::new(RULES);
        prompts[..2].iter().for_each(|marks| book.add(marks));
        let first = book.divide(&prompts[0], at(0));
        assert_eq!(first.cuts.len(), 1);
        assert!(book.begin(1, &prompts[0], &first, at(0)));
        assert_eq!(book.waits(&prompts[1], at(0)).map(|(call, _)| call), Some(1));
        assert_eq!(book.waits(&prompts[2], at(0)), None, "what it has in common is not marked");
        book.began(1, &prompts[0], &first, true, at(2));
        assert_eq!(book.waits(&prompts[1], at(2)), None);
        // Prompts part sooner by now; those that read what is kept are divided as before.
        prompts[2..].iter().for_each(|marks| book.add(marks));
        assert_eq!(book.divide(&prompts[3], at(9)).cuts, first.cuts);
        assert!(!book.begin(2, &prompts[3], &first, at(9)), "it is there");
        let sooner = book.divide(&prompts[2], at(9));
        assert!(sooner.cuts.len() == 1 && sooner.cuts[0] < first.cuts[0]);
        // Read at 9, so kept until 309. Then all is cut anew.
        assert_eq!(book.divide(&prompts[3], at(308)).cuts, first.cuts);
        assert_eq!(book.divide(&prompts[3], at(309)).cuts.len(), 2);
    }

    #[test]
    fn nobody_waits_for_a_call_that_failed_or_takes_too_long() {
        let prompts = prompts(&[("plan", 9000)], &[&[0], &[0]]);
        for markers in [Some(4), None] {
            let mut book = Book::new(Rules { markers, ..RULES });
            prompts.iter().for_each(|marks| book.add(marks));
            let division = book.divide(&prompts[0], at(0));
            book.begin(7, &prompts[0], &division, at(0));
            let (call, until) = book.waits(&prompts[1], at(0)).unwrap();
            assert!(call == 7 && until > at(1) && until < at(5), "{until:?}");
            assert_eq!(book.waits(&prompts[1], until), None);
            book.began(7, &prompts[0], &division, false, at(1));
            assert_eq!(book.waits(&prompts[1], at(1)), None);
            assert!(book.begin(8, &prompts[1], &division, at(1)), "nothing came of the first");
        }
    }

    /// A cache that keeps exactly the beginnings that were marked, as they were divided.
    #[test]
    fn what_is_counted_as_kept_is_kept_by_a_server_that_goes_by_parts() {
        for seed in 0..300_u64 {
            let mut state = seed * 2 + 1;
            let mut below = |n: u64| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % n
            };
            let parts: Vec<(&str, usize)> = (0..4).map(|_| ("part", 1500 + below(9000) as usize)).collect();
            let own: Vec<Vec<usize>> = (0..12).map(|_| (0..1 + below(4) as usize).collect()).collect();
            let own: Vec<&[usize]> = own.iter().map(Vec::as_slice).collect();
            let prompts = prompts(&parts, &own);
            let mut book = Book::new(RULES);
            let mut server: HashMap<(u64, Vec<u32>), Duration> = HashMap::new();
            let (mut added, mut now) = (0, at(0));
            for (nth, marks) in prompts.iter().enumerate() {
                while added < prompts.len() && (added <= nth || below(3) > 0) {
                    book.add(&prompts[added]);
                    added += 1;
                }
                now += at(below(120));
                let expected = book.kept(marks, now).map_or(0, |(place, _)| marks[place].at);
                let division = book.divide(marks, now);
                assert!(division.cuts.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}");
                let digest = |cut: &u32| marks.iter().find(|mark| mark.at == *cut).unwrap().digest;
                let path = |n: usize| (digest(&division.cuts[n]), division.cuts[..=n].to_vec());
                let found = (0..division.cuts.len())
                    .rev()
                    .find(|n| server.get(&path(*n)).is_some_and(|until| *until > now));
                let read = found.map_or(0, |n| division.cuts[n]);
                assert_eq!(read, expected, "seed {seed}, prompt {nth}");
                book.begin(nth as u64, marks, &division, now);
                book.began(nth as u64, marks, &division, true, now);
                let marked = division.cuts.len().saturating_sub(4);
                for n in 0..division.cuts.len() {
                    let is_read = found.is_some_and(|found| n <= found) && server.contains_key(&path(n));
                    if n >= marked || is_read {
                        server.insert(path(n), now + RULES.lifetime);
                    }
                }
            }
        }
    }
}
