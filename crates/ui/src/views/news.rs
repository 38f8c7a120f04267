//! What happened in a build that somebody waits for: tasks that failed and tasks that want a person. A cursor says which of
//! it was seen, so that who waits again hears of each thing once.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::views::TaskView;
use planexe_base::record::{Digest, State};

/// So many things are named in a cursor; of more, only until when all is seen.
const MOST: usize = 128;
/// Digits of the name of a thing.
const DIGITS: usize = 8;
/// A cursor that has seen nothing.
const NOTHING: &str = "0";

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct News {
    /// The task.
    pub task: String,
    /// `failed`, or `waiting` for a person.
    pub state: State,
    /// When.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at_utc: String,
}

impl News {
    /// What happened to tasks since a build began; to all of them if none runs. Of a loop its items.
    pub fn from_tasks(tasks: &[TaskView], since: Option<&str>) -> Vec<News> {
        let families: HashSet<&str> = tasks.iter().filter_map(|task| task.family.as_deref()).collect();
        let counts = |task: &&TaskView| {
            matches!(task.state, State::Failed | State::Waiting)
                && !families.contains(task.task.as_str())
                && (since.is_none() || task.last.ended_utc.as_deref() >= since)
        };
        let news = |task: &TaskView| News {
            task: task.task.clone(),
            state: task.state,
            at_utc: task.last.ended_utc.clone().unwrap_or_default(),
        };
        tasks.iter().filter(counts).map(news).collect()
    }

    fn name(&self) -> String {
        let text = format!("{}\n{}\n{}", self.task, self.state.name(), self.at_utc);
        Digest::of(text.as_bytes()).0[..DIGITS].to_owned()
    }
}

/// What was seen of the news of a run. It is given as a text, and taken as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// All that happened until then was seen.
    until: String,
    /// So was this.
    seen: BTreeSet<String>,
}

impl Cursor {
    /// A cursor that has seen these.
    pub fn at(news: &[News]) -> Cursor {
        if news.len() <= MOST {
            return Cursor { until: String::new(), seen: news.iter().map(News::name).collect() };
        }
        let last = news.iter().map(|one| &one.at_utc).max().cloned();
        Cursor { until: last.unwrap_or_default(), seen: BTreeSet::new() }
    }

    /// Those it has not seen.
    pub fn unseen<'n>(&self, news: &'n [News]) -> Vec<&'n News> {
        let old = |one: &News| {
            (!self.until.is_empty() && one.at_utc <= self.until) || self.seen.contains(&one.name())
        };
        news.iter().filter(|one| !old(one)).collect()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.until.as_str(), self.seen.is_empty()) {
            ("", true) => f.write_str(NOTHING),
            ("", false) => f.write_str(&self.seen.iter().map(String::as_str).collect::<Vec<_>>().join("-")),
            (until, _) => f.write_str(until),
        }
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Cursor, String> {
        let wrong = || {
            format!(
                "`{}` is no cursor: give the one of the last answer, or `0`",
                planexe_base::style::clean(text)
            )
        };
        if text == NOTHING {
            return Ok(Cursor::default());
        }
        if text.contains(':') {
            let is_time = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_digit());
            return is_time.then(|| Cursor { until: text.to_owned(), ..Cursor::default() }).ok_or_else(wrong);
        }
        let is_name = |name: &str| name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let seen: BTreeSet<String> = text.split('-').map(str::to_owned).collect();
        match seen.len() <= MOST && seen.iter().all(|name| is_name(name)) {
            true => Ok(Cursor { until: String::new(), seen }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(count: usize) -> Vec<News> {
        let one = |n: usize| News {
            task: format!("t{n}"),
            state: State::Failed,
            at_utc: format!("2026-01-01T00:{:02}:{:02}Z", n / 60, n % 60),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn what_was_seen_is_not_new_again() {
        for count in [0, 1, MOST, MOST + 1] {
            let all = news(count + 1);
            let cursor = Cursor::at(&all[..count]).to_string().parse::<Cursor>().unwrap();
            assert_eq!(cursor.unseen(&all), [&all[count]], "{count}");
            assert!(Cursor::at(&all).unseen(&all).is_empty());
        }
        // The same task fails once more: that is new. One that is not failed any more is not.
        let first = news(2);
        let again = vec![News { at_utc: "2026-01-02T00:00:00Z".to_owned(), ..first[0].clone() }];
        assert_eq!(Cursor::at(&first).unseen(&again).len(), 1);
        assert!(Cursor::at(&first).unseen(&first[1..]).is_empty());
    }

    #[test]
    fn what_is_no_cursor_is_said() {
        for text in ["", "x", "1234567", "12345678-", "12345678-xyz", "noon: 3", "12345678 12345678"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
