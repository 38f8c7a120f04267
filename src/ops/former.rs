//! Former outputs by the names a person gives them, and why there are none.

use crate::ops::names::find_task;
use crate::ops::plan_input::editable_plan;
use planexe_base::exit::{Error, Kind};
use planexe_pipeline::open::Opened;
use planexe_query::history_view::{self, Kept};
use planexe_query::selection::Units;
use planexe_ui::views::shell_word;

/// Splits `TASK@N`. A name that is an output's comes first, `@` and all.
pub fn split<'a>(opened: &Opened, written: &'a str) -> (&'a str, Option<usize>) {
    match history_view::split(written) {
        Some((name, n)) if find_task(opened, written).is_err() => (name, Some(n)),
        _ => (written, None),
    }
}

/// What is kept under a name, which a task, an output, a former task or the plan must have.
pub fn find(opened: &Opened, units: &Units<'_>, name: &str) -> Result<Vec<Kept>, Error> {
    let named = find_task(opened, name);
    let kept = history_view::kept(units, &opened.store, named.as_ref().ok(), name)?;
    match (kept.is_empty(), named) {
        (false, _) => Ok(kept),
        (true, Err(_)) if editable_plan(opened).is_ok_and(|plan| plan == name) => Ok(kept),
        (true, Err(error)) => Err(error),
        (true, Ok(named)) => match units.check(&named) {
            Ok(_) => Ok(kept),
            Err(message) => Err(Error::usage(message).code("unknown_item")),
        },
    }
}

/// Nothing former is kept under the name.
pub fn nothing_kept(name: &str) -> Error {
    Error::new(Kind::Refused, format!("nothing former is kept of `{name}`"))
        .code("nothing_kept")
        .hint("`planexe history` lists all that is kept")
}

/// There is no version of that number.
pub fn no_version(name: &str, n: usize) -> Error {
    Error::usage(format!("`{name}` has no version {n}"))
        .code("no_version")
        .hint(format!("`planexe history {}` lists them", shell_word(name)))
}
