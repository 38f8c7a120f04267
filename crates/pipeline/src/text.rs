//! How many words a text has, which, and whether certain ones are among them: also where a script has no spaces
//! between them.

use std::collections::BTreeSet;
use std::ops::Range;

use regex::{Regex, RegexBuilder};

/// Characters that make about one word in a script written without spaces; of others `None`.
pub fn unspaced(c: char) -> Option<u64> {
    match c {
        // Japanese kana and Chinese characters.
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' => Some(2),
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => Some(2),
        '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}' => Some(2),
        // Thai, Lao, Burmese, Khmer.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' => Some(4),
        _ => None,
    }
}

/// The number of words.
pub fn count(text: &str) -> u64 {
    let of_piece = |piece: &str| {
        let letters = |a_word: u64| piece.chars().filter(|&c| unspaced(c) == Some(a_word)).count() as u64;
        let (short, long) = (letters(2), letters(4));
        let others = piece.chars().any(|c| c.is_alphanumeric() && unspaced(c).is_none());
        match short + long {
            0 => 1,
            _ => short.div_ceil(2) + long.div_ceil(4) + u64::from(others),
        }
    };
    text.split_whitespace().map(of_piece).sum()
}

/// The words, whatever their case, each once; where there are no spaces, the characters.
pub fn distinct(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && unspaced(c).is_none()) {
        for piece in word.split_inclusive(|c: char| unspaced(c).is_some()) {
            // A piece ends with the character it was split at, if any.
            let letter = piece.chars().next_back().filter(|&c| unspaced(c).is_some());
            let rest = &piece[..piece.len() - letter.map_or(0, char::len_utf8)];
            found.extend(letter.map(String::from));
            if !rest.is_empty() {
                found.insert(rest.to_lowercase());
            }
        }
    }
    found
}

/// The words of a file of words: one word or phrase a line, `#` before a comment.
pub fn listed(text: &str) -> Vec<String> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Words and phrases to be found in texts, and those in which they do not count.
#[derive(Debug, Clone, Default)]
pub struct Phrases {
    sought: Vec<(String, Regex)>,
    except: Vec<Regex>,
}

impl Phrases {
    /// What is sought, and what is not meant: a place inside one of `except` is none. A word in both is not sought.
    pub fn new(sought: &[String], except: &[String]) -> Phrases {
        let same = |a: &str, b: &str| a.split_whitespace().eq(b.split_whitespace());
        let excepted = |word: &str| {
            let word = word.to_lowercase();
            except.iter().any(|other| same(&word, &other.to_lowercase()))
        };
        let sought = sought.iter().filter(|word| !excepted(word));
        Phrases {
            sought: sought.map(|word| (word.clone(), whole_word(word))).collect(),
            except: except.iter().map(|word| whole_word(word)).collect(),
        }
    }

    /// The first place of each phrase that a text holds, in the order in which they are sought.
    pub fn found_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, Range<usize>)> + 'a {
        let meant: Vec<Range<usize>> =
            self.except.iter().flat_map(|regex| regex.find_iter(text)).map(|hit| hit.range()).collect();
        self.sought.iter().filter_map(move |(word, regex)| {
            let inside =
                |hit: &Range<usize>| meant.iter().any(|it| it.start <= hit.start && hit.end <= it.end);
            let hit = regex.find_iter(text).map(|hit| hit.range()).find(|hit| !inside(hit))?;
            Some((word.as_str(), hit))
        })
    }
}

/// A word or phrase, whatever its case, as a whole and with any white space between its words.
fn whole_word(word: &str) -> Regex {
    let body = word.split_whitespace().map(regex::escape).collect::<Vec<_>>().join(r"\s+");
    // Where a script has no spaces, a word has no edge that could be seen.
    let has_edge = |c: char| (c.is_alphanumeric() || c == '_') && unspaced(c).is_none();
    let edge = |c: Option<char>| if c.is_some_and(has_edge) { r"\b" } else { "" };
    let pattern = format!("{}{body}{}", edge(word.chars().next()), edge(word.chars().last()));
    RegexBuilder::new(&pattern)
        .case_insensitive(true)
        .size_limit(4 << 20)
        .build()
        .unwrap_or_else(|_| Regex::new("$^").expect("BUG: a fixed pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_and_without_spaces() {
        for (text, words) in [
            ("", 0),
            ("rent the north hall", 4),
            ("rent — or buy", 4),
            ("임대 계약을 맺는다", 3),
            ("租用北厅", 2),
            ("租用北厅，共32个摊位。", 5),
            ("北館を3年間借りる", 5),
            ("เช่าห้องโถงทางทิศเหนือ", 6),
        ] {
            assert_eq!(count(text), words, "{text}");
        }
        let of = |text| distinct(text).into_iter().collect::<Vec<_>>();
        assert_eq!(of("Rent it, rent IT."), ["it", "rent"]);
        assert_eq!(of("买32个 A厅，买"), ["32", "a", "个", "买", "厅"]);
    }

    #[test]
    fn phrases_and_those_in_which_they_do_not_count() {
        let found = |sought: &[&str], except: &[&str], text: &str| {
            let own = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
            let phrases = Phrases::new(&own(sought), &own(except));
            phrases.found_in(text).map(|(word, _)| word.to_owned()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(found(&["dive", "synergy"], &[], "A deep dive, no synergy."), ["dive", "synergy"]);
        assert_eq!(found(&["dive"], &["deep dive"], "A Deep  Dive."), none);
        assert_eq!(found(&["dive"], &["deep dive"], "A deep dive, then a dive."), ["dive"]);
        // What is allowed wins over what is banned, whatever its case and spacing.
        assert_eq!(found(&["game  changer", "lever"], &["Game Changer"], "a game changer"), none);
        // A part of what is allowed is not all of what is banned.
        assert_eq!(found(&["deep dive"], &["dive"], "a deep dive"), ["deep dive"]);
        assert_eq!(listed("\u{feff}# c\n a b \n\nc\n"), ["a b", "c"]);
    }
}
