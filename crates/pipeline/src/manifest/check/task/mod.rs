//! Checks of one task: its recipe and the keys that fit it, what it names, its paths, its command.

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::inputs::named;
use super::super::place::TablePath;
use super::super::recipe::Recipe;
use super::super::types::{Calls, Check, OneOrMany, Task};
use super::Checker;

mod command;
mod eval;
mod executor;
mod files;
mod recipe;

pub(super) struct TaskChecker<'a, 'b> {
    pub(super) at: TablePath,
    pub(super) name: &'a str,
    pub(super) task: &'a Task,
    pub(super) recipe: Recipe,
    pub(super) all: &'a mut Checker<'b>,
}

impl TaskChecker<'_, '_> {
    fn add(&mut self, fault: Diagnostic) {
        self.all.add(fault);
    }

    pub(super) fn check(&mut self) {
        // What a key left out would have said is not missed.
        if !self.at.is_damaged(self.all.damaged) {
            self.recipe();
            self.keys_that_fit();
        }
        self.numbers();
        self.references();
        self.executor();
        self.foreach();
        self.eval();
        let inputs = named(&self.task.inputs, &self.at);
        self.inputs(&inputs);
        self.attached();
        self.outputs();
        self.command(&inputs);
    }

    fn numbers(&mut self) {
        let task = self.task;
        for (key, given) in [("timeout", task.timeout), ("stall_timeout", task.stall_timeout)] {
            if given.is_some() {
                self.all.not_zero(&self.at.then(key), given);
            }
        }
        if task.retry.is_some() {
            self.all.retry(&self.at.then("retry"), task.retry.as_deref());
        }
        if let Some(share) = task.min_success
            && !(0.0..=1.0).contains(&share)
        {
            self.add(
                Diagnostic::at(self.at.then("min_success"), format!("`min_success` is {share}"))
                    .wanted("wanted a share from 0 to 1")
                    .maybe_hint((2.0..=100.0).contains(&share).then(|| format!("write `{}`", share / 100.0))),
            );
        }
        if let Some(check) = &task.check {
            self.check_numbers(check);
        }
    }

    fn check_numbers(&mut self, check: &Check) {
        let at = self.at.then("check");
        let limits = check.min_items.iter().filter_map(|(pointer, least)| {
            let most = check.max_items.get(pointer)?;
            (least > most).then(|| (at.then("min_items").then(pointer), at.then("max_items").then(pointer)))
        });
        let mut pairs: Vec<(TablePath, TablePath)> = limits.collect();
        let is_more = |least: Option<u64>, most: Option<u64>| least.zip(most).is_some_and(|(a, b)| a > b);
        if is_more(check.min_words, check.max_words) {
            pairs.push((at.then("min_words"), at.then("max_words")));
        }
        for (pointer, rule) in &check.texts {
            let at = at.then("texts").then(pointer);
            if is_more(rule.min_words, rule.max_words) {
                pairs.push((at.then("min_words"), at.then("max_words")));
            }
            if let Some(share) = rule.alike.filter(|share| !(0.0..=1.0).contains(share)) {
                let fault = Diagnostic::at(at.then("alike"), format!("`alike` is {share}"));
                self.add(fault.wanted("wanted a share from 0 to 1"));
            }
        }
        for (index, rule) in check.ranges.iter().enumerate() {
            let at = at.then("ranges").then(index);
            if rule.min.zip(rule.max).is_some_and(|(least, most)| least > most) {
                pairs.push((at.then("min"), at.then("max")));
            }
            if let Some(ratio) = rule.max_ratio.filter(|ratio| *ratio < 1.0) {
                let fault = Diagnostic::at(at.then("max_ratio"), format!("`max_ratio` is {ratio}"));
                self.add(fault.wanted("wanted 1 or more: the upper bound over the lower one"));
            }
        }
        for (least, most) in pairs {
            self.add(
                Diagnostic::at(least, "no answer can have so many and so few at once")
                    .wanted("more than the greatest number")
                    .related(most, "the greatest number"),
            );
        }
        for (pointer, allowed) in &check.one_of {
            if allowed.is_empty() {
                self.add(
                    Diagnostic::at(at.then("one_of").then(pointer), "no value is allowed")
                        .wanted("wanted at least one"),
                );
            }
        }
    }

    fn references(&mut self) {
        let (task, tables) = (self.task, self.all.tables);
        self.tier();
        if let Some(models) = &task.model {
            self.all.model_names(&self.at.then("model"), models);
        }
        if let Some(calls) = &task.calls {
            let at = self.at.then("calls");
            let of = |name: &str| OneOrMany::One(name.to_owned());
            match calls.as_ref() {
                Calls::Limited(limited) if limited.model.is_empty() => self.all.add(
                    Diagnostic::at(&at, format!("`calls` of task `{}` name no model", self.name))
                        .wanted("`model` is missing")
                        .hint("add `model = \"…\"`, a name of `[models]`"),
                ),
                Calls::Limited(limited) => self.all.model_names(&at.then("model"), &of(&limited.model)),
                Calls::Model(model) => self.all.model_names(&at, &of(model)),
            }
        }
        if let Some(pool) = &task.pool
            && !tables.pools.contains_key(pool)
            && pool != "cpu"
        {
            let known: Vec<&str> = tables.pools.keys().map(String::as_str).chain(["cpu"]).collect();
            let hint = match nearest(pool, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `{pool} = 2` to `[pools]`"),
            };
            self.add(
                Diagnostic::at(self.at.then("pool"), format!("unknown pool `{pool}`"))
                    .wanted("no such pool")
                    .hint(hint),
            );
        }
    }
}

/// Whether git takes a name for a branch (git-check-ref-format(1)), and one of a branch of its own.
pub(super) fn is_branch_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock");
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c);
    !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name != "@"
        && name.chars().all(plain)
        && name.split('/').all(part)
}
