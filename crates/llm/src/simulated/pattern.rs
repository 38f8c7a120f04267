//! Made-up texts for a `pattern`, as far as it is one of the simple kind.

use crate::rng::Rng;

/// A string a simple pattern matches: literals, classes, groups, alternatives and counts. None for what
/// goes beyond.
pub(super) fn matching(pattern: &str, rng: &mut Rng) -> Option<String> {
    let body = pattern.strip_prefix('^').unwrap_or(pattern);
    let body = match body.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => rest,
        _ => body,
    };
    let chars: Vec<char> = body.chars().collect();
    let mut at = 0;
    let made = alternatives(&chars, &mut at, rng, 0)?;
    (at == chars.len()).then_some(made)
}

fn alternatives(chars: &[char], at: &mut usize, rng: &mut Rng, depth: usize) -> Option<String> {
    let mut branches = vec![String::new()];
    while let Some(&c) = chars.get(*at) {
        match c {
            ')' => break,
            '|' => {
                *at += 1;
                branches.push(String::new());
                continue;
            }
            _ => {}
        }
        let piece_at = *at;
        let first = piece(chars, at, rng, depth)?;
        let piece_end = *at;
        let times = count(chars, at, rng)?;
        let last = branches.last_mut()?;
        for time in 0..times {
            if time == 0 {
                last.push_str(&first);
            } else {
                let mut again = piece_at;
                last.push_str(&piece(&chars[..piece_end], &mut again, rng, depth)?);
            }
        }
    }
    let index = (rng.bits() % branches.len() as u64) as usize;
    Some(branches.swap_remove(index))
}

fn piece(chars: &[char], at: &mut usize, rng: &mut Rng, depth: usize) -> Option<String> {
    let c = *chars.get(*at)?;
    *at += 1;
    match c {
        '(' if depth < 8 => {
            if chars.get(*at) == Some(&'?') {
                if chars.get(*at + 1) != Some(&':') {
                    return None;
                }
                *at += 2;
            }
            let made = alternatives(chars, at, rng, depth + 1)?;
            (chars.get(*at) == Some(&')')).then_some(())?;
            *at += 1;
            Some(made)
        }
        '[' => {
            let mut options = Vec::new();
            if chars.get(*at) == Some(&'^') {
                return None;
            }
            while *chars.get(*at)? != ']' {
                let low = class_char(chars, at, &mut options)?;
                if let (Some(low), Some('-'), Some(high)) = (low, chars.get(*at), chars.get(*at + 1))
                    && *high != ']'
                    && *high != '\\'
                    && low <= *high
                {
                    options.extend((low..=*high).take(256));
                    *at += 2;
                    continue;
                }
                options.extend(low);
            }
            *at += 1;
            (!options.is_empty()).then(|| options[(rng.bits() % options.len() as u64) as usize].to_string())
        }
        '\\' => {
            *at -= 1;
            let mut options = Vec::new();
            let plain = class_char(chars, at, &mut options)?;
            options.extend(plain);
            Some(options[(rng.bits() % options.len() as u64) as usize].to_string())
        }
        '.' => Some(char::from(b'a' + (rng.bits() % 26) as u8).to_string()),
        '^' | '$' | '*' | '+' | '?' | '{' => None,
        c => Some(c.to_string()),
    }
}

/// One character of a class, or the characters of an escape that stands for several.
fn class_char(chars: &[char], at: &mut usize, options: &mut Vec<char>) -> Option<Option<char>> {
    let c = *chars.get(*at)?;
    *at += 1;
    if c != '\\' {
        return Some(Some(c));
    }
    let escaped = *chars.get(*at)?;
    *at += 1;
    match escaped {
        'd' => options.extend('0'..='9'),
        'w' => options.extend('a'..='z'),
        's' => options.push(' '),
        'n' => options.push('\n'),
        't' => options.push('\t'),
        c if c.is_ascii_alphanumeric() => return None,
        c => return Some(Some(c)),
    }
    Some(None)
}

fn count(chars: &[char], at: &mut usize, rng: &mut Rng) -> Option<u64> {
    let (least, most) = match chars.get(*at) {
        Some('*') => (0, 4),
        Some('+') => (1, 6),
        Some('?') => (0, 1),
        Some('{') => {
            let end = *at + chars[*at..].iter().position(|c| *c == '}')?;
            let text: String = chars[*at + 1..end].iter().collect();
            *at = end;
            match text.split_once(',') {
                None => (text.parse().ok()?, text.parse().ok()?),
                Some((least, "")) => (least.parse().ok()?, least.parse::<u64>().ok()? + 3),
                Some((least, most)) => (least.parse().ok()?, most.parse().ok()?),
            }
        }
        _ => return Some(1),
    };
    *at += 1;
    if chars.get(*at) == Some(&'?') {
        *at += 1;
    }
    (least <= most && most <= 1000).then(|| least + rng.bits() % (most - least + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_match_a_pattern() {
        for pattern in [
            "^[A-Z]{2,3}-\\d{4}(a|b)?$",
            "(?:x|yy)+[a-c_.]*",
            "\\w\\s\\d{2,}",
            "[\\d\\.]{3}.z?",
            "a|bc|[x-z-]?",
            "(a(b(c)))\\$",
            "\\t\\n[\\t ]{1}",
        ] {
            let regex = regex::Regex::new(pattern).expect("a pattern");
            for seed in 0..50 {
                let made = matching(pattern, &mut Rng::new(seed)).expect(pattern);
                assert!(regex.is_match(&made), "{pattern}: {made:?}");
            }
        }
        for beyond in ["(?=x)", "[^a]", "\\p{L}", "a{9,2}", "(a", "a)", "[a", "*a", "x{1,}{", "\\"] {
            assert_eq!(matching(beyond, &mut Rng::new(1)), None, "{beyond}");
        }
    }
}
