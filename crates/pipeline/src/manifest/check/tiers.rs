//! `[tiers]`, and the tier or complexity of a task.

use super::{Checker, TaskChecker};
use crate::key_path;
use crate::manifest::diagnostic::{Diagnostic, suggest};
use crate::manifest::tiers::{MARKS, MOST};

impl Checker<'_> {
    /// Each tier has models, and takes more than the one before it.
    pub(super) fn tiers(&mut self) {
        let tables = self.tables;
        let mut before: Option<(&str, u32)> = None;
        for (name, tier) in &tables.tiers {
            let at = key_path!["tiers", name];
            match &tier.model {
                Some(models) => self.model_names(&at.then("model"), models),
                None => self.add(
                    Diagnostic::at(&at, format!("tier `{name}` has no models"))
                        .wanted("`model` is missing")
                        .hint("model = [\"local\"]"),
                ),
            }
            let up_to = tier.up_to.unwrap_or(MOST);
            if !(4..=MOST).contains(&up_to) {
                self.add(
                    Diagnostic::at(at.then("up_to"), format!("no sum is {up_to}"))
                        .wanted(format!("wanted 4 to {MOST}: four marks of 1 to 5")),
                );
            }
            if let Some((other, least)) = before.filter(|(_, least)| *least >= up_to) {
                let at = if tier.up_to.is_some() { at.then("up_to") } else { at };
                self.add(
                    Diagnostic::at(
                        at,
                        format!("tier `{name}` takes no task: `{other}` takes all up to {least}"),
                    )
                    .wanted(format!("wanted more than {least}"))
                    .hint("tiers are listed from the smallest models to the largest"),
                );
            }
            before = Some((name, up_to));
        }
    }
}

impl TaskChecker<'_, '_> {
    /// A tier that is there, or a complexity that one takes; and no model beside them.
    pub(super) fn tier(&mut self) {
        let tiers = &self.all.tables.tiers;
        let (task, name) = (self.task, self.name);
        let key = if task.tier.is_some() { "tier" } else { "complexity" };
        if task.tier.is_none() && task.complexity.is_none() {
            return;
        }
        if task.model.is_some() {
            self.all.add(
                Diagnostic::at(self.at.then("model"), format!("task `{name}` has `model` and `{key}`"))
                    .wanted("wanted one of the two")
                    .related(self.at.then(key), "this says which models, too"),
            );
        }
        if let Some(tier) = task.tier.as_ref().filter(|tier| !tiers.contains_key(*tier)) {
            let known: Vec<&str> = tiers.keys().map(String::as_str).collect();
            let hint =
                suggest(tier, known).unwrap_or_else(|| format!("[tiers.{tier}] with `model = [\"…\"]`"));
            self.all.add(
                Diagnostic::at(self.at.then("tier"), format!("no tier is called `{tier}`"))
                    .wanted("no such tier")
                    .hint(hint),
            );
        }
        let Some(complexity) = &task.complexity else { return };
        let at = self.at.then("complexity");
        let mut sound = true;
        for (mark, value) in complexity.marks() {
            if !MARKS.contains(&value) {
                sound = false;
                let place = at.then(mark);
                self.all.add(
                    Diagnostic::at(place, format!("`{mark}` is {value}"))
                        .wanted("wanted 1 (easy) to 5 (hard)"),
                );
            }
        }
        if task.tier.is_some() || !sound {
            return;
        }
        let sum = complexity.sum();
        let most = tiers.values().map(|tier| tier.up_to.unwrap_or(MOST)).max();
        match most {
            None => self.all.add(
                Diagnostic::at(at, "there are no tiers, so a complexity chooses nothing")
                    .wanted("wanted `[tiers]`")
                    .hint("[tiers.small] with `model = [\"local\"]` and `up_to = 8`"),
            ),
            Some(most) if sum > most => self.all.add(
                Diagnostic::at(
                    at,
                    format!("the complexity of task `{name}` is {sum}, and no tier takes more than {most}"),
                )
                .wanted("outside all tiers")
                .hint("leave `up_to` out of the last tier"),
            ),
            Some(_) => {}
        }
    }
}
