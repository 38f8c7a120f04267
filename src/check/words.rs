//! How many words a text has, and which: also where a script has no spaces between them.

use std::collections::BTreeSet;

/// Characters that make about one word in a script written without spaces; of others `None`.
pub(super) fn unspaced(c: char) -> Option<u64> {
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
pub(super) fn count(text: &str) -> u64 {
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
pub(super) fn distinct(text: &str) -> BTreeSet<String> {
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
}
