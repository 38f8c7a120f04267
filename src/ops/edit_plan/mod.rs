//! The plan gets another text: what that makes stale, what of it is kept, and the change itself.

mod carried;
mod found;

use std::collections::HashSet;
use std::path::Path;

use crate::ops::Session;
use planexe_base::exit::{Error, Kind};
use planexe_base::fs::{self, Durability};
use planexe_base::record::By;
use planexe_build::output_times;
use planexe_build::touch::{self, Adopting};
use planexe_pipeline::open::Opened;
use planexe_query::selection::Unit;
use planexe_store::Why;
use planexe_store::index::Index;
use planexe_ui::views::diff;
use planexe_ui::views::edit_plan::EditPlanView;

pub use found::Found;
use found::Hit;

/// What is to be made again of what an edit makes stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All of it.
    All,
    /// Nothing: all is kept.
    None,
    /// A task and everything downstream.
    From(String),
    /// These.
    Remake(Vec<String>),
}

impl Answer {
    /// The tasks it names.
    pub fn names(&self) -> &[String] {
        match self {
            Answer::From(name) => std::slice::from_ref(name),
            Answer::Remake(names) => names,
            Answer::All | Answer::None => &[],
        }
    }
}

/// A plan that is to get another text.
#[derive(Clone, Copy)]
pub struct PlanChange<'a> {
    /// Who asked.
    pub session: &'a Session,
    /// The run.
    pub opened: &'a Opened,
    /// The plan's path relative to the run directory.
    pub plan: &'a str,
    /// Its text.
    pub old: &'a [u8],
    /// The text it is to get.
    pub new: &'a [u8],
}

impl PlanChange<'_> {
    /// What the change makes stale, with the new text in a file.
    pub fn look(&self, edited: &Path) -> Result<(Found, EditPlanView), Error> {
        let found = Found::new(self.session, self.opened, self.plan, edited)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let view = found.view(self.opened, self.plan, &diff(&text(self.old), &text(self.new)));
        Ok((found, view))
    }

    /// Changes the plan, and marks what is kept.
    pub fn apply(&self, found: &Found, view: &EditPlanView, again: &[Unit]) -> Result<(), Error> {
        let PlanChange { session, opened, plan, old, new } = *self;
        let (project, store) = (&opened.project, &opened.store);
        if fs::linked::read_optional(&store.path(plan))?.as_deref() != Some(old) {
            let message = format!("`{plan}` was changed meanwhile, so it was left as it is now");
            return Err(Error::new(Kind::Task, message).code("changed_meanwhile"));
        }
        store.save(plan, Why::Plan, &[plan.to_owned()], Durability::Synced)?;
        // Marked on the new text before it is there: if planexe is killed between, the answers to the old one are still
        // kept, and the edit can be made again. The other way round what was to be kept would be paid for again.
        let index = Index::load(store);
        let user = session.user();
        let names: HashSet<&String> = view.kept.iter().collect();
        let kept: Vec<&Hit> = found.hits.iter().filter(|hit| names.contains(&hit.name)).collect();
        let (old_text, new_text) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
        let how = Adopting { by: By::Touch, user: Some(&user), plan: Some((&old_text, &new_text)) };
        let tasks: Vec<_> = kept.iter().map(|hit| (&found.graph[hit.id], &hit.judgement)).collect();
        touch::adopt(project, store, &index, &tasks, &how).map_err(|error| {
            Error::new(Kind::Internal, "what is kept could not all be marked").because(&error)
        })?;
        fs::write_atomic(&store.path(plan), new, Durability::Synced)
            .map_err(|error| error.within(store.run_dir()))?;
        output_times::renew(project, store, kept.iter().flat_map(|hit| &found.graph[hit.id].outputs))?;
        for unit in again {
            store.clean(&unit.name, Why::Cleaned, &unit.outputs, Durability::Synced)?;
        }
        Ok(())
    }
}
