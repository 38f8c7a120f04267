//! `planexe failures`: lists failed attempts, and how each class and model does.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;

use crate::commands::Session;
use crate::ops::records::stores;
use planexe_base::exit::{self, Error};
use planexe_base::failure_class::FailureClass;
use planexe_base::style;
use planexe_pipeline::manifest::names::loose;
use planexe_store::logs::FailureLine;
use planexe_ui::views::FailuresView;

/// What `planexe failures` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct FailuresArgs {
    /// Run directories to count together [default: the run]
    #[arg(value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Only of this task; may be repeated
    #[arg(long, value_name = "TASK")]
    pub task: Vec<String>,

    /// Only of this class, such as validation or timeout; may be repeated
    #[arg(long, value_name = "CLASS", value_parser = class_of)]
    pub class: Vec<FailureClass>,

    /// Only with this model; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
}

fn class_of(name: &str) -> Result<FailureClass, Infallible> {
    Ok(FailureClass::from_name(name))
}

/// Lists failures.
pub fn run(session: &Session, args: &FailuresArgs) -> Result<u8, Error> {
    let (mut failures, mut calls) = (Vec::new(), Vec::new());
    for store in stores(session, &args.runs)? {
        failures.extend(store.failure_lines()?);
        calls.extend(store.usage_lines()?);
    }
    let all = failures.len() as u64;
    let classes: BTreeSet<String> = failures.iter().map(|failure| failure.class.name().to_owned()).collect();
    failures.retain(|failure| args.wants(failure));
    if failures.is_empty() && all > 0 {
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        let (all, classes) = (style::count(all, "failure"), style::clean(&classes.join(", ")));
        session.say(&format!("note: none of {all} is such a one; their classes are {classes}"));
    }
    calls.retain(|call| wanted_task(&args.task, &call.task) && wanted_model(&args.model, &call.model));
    failures.sort_by(|a, b| a.timestamp_utc.cmp(&b.timestamp_utc));
    let view = FailuresView::new(session.server(), failures, &calls);
    if session.globals.json {
        session.print_json(&view)?;
    } else {
        session.print(&view.text(&session.out, session.globals.repeated.verbose > 0))?;
    }
    Ok(exit::DONE)
}

impl FailuresArgs {
    fn wants(&self, failure: &FailureLine) -> bool {
        let class = self.class.is_empty() || self.class.contains(&failure.class);
        let model = failure.model.as_deref().unwrap_or_default();
        class && wanted_task(&self.task, &failure.task) && wanted_model(&self.model, model)
    }
}

/// Whether a task, or the fan-out it is an instance of, was named, loosely.
fn wanted_task(names: &[String], task: &str) -> bool {
    let family = task.split_once('[').map_or(task, |(family, _)| family);
    names.is_empty() || names.iter().any(|name| name == task || loose(name) == loose(family))
}

/// Whether a model was named, with its provider before it or not.
fn wanted_model(names: &[String], model: &str) -> bool {
    let bare = model.split_once(':').map_or(model, |(_, model)| model);
    names.is_empty() || names.iter().any(|name| name == model || name == bare)
}
