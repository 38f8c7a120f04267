//! Who evaluates a task, and the numbers of `eval` and `refine`.

use super::TaskChecker;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::place::TablePath;
use crate::manifest::recipe::Recipe;

impl TaskChecker<'_, '_> {
    /// Who evaluates, and the numbers of `eval` and `refine`.
    pub(super) fn eval(&mut self) {
        self.refine();
        let Some(eval) = &self.task.eval else { return };
        let at = self.at.then("eval");
        match (&eval.prompt, &eval.command) {
            (Some(_), Some(_)) => self.add(
                Diagnostic::at(
                    at.then("command"),
                    format!("`eval` of task `{}` has both a prompt and a command", self.name),
                )
                .on_key()
                .wanted("one too many")
                .related(at.then("prompt"), "the other")
                .hint("keep the one that is to score"),
            ),
            (None, None) => self.add(
                Diagnostic::at(
                    &at,
                    format!("`eval` of task `{}` has neither a prompt nor a command", self.name),
                )
                .on_key()
                .wanted("`prompt` or `command` is missing")
                .hint("add `prompt = \"prompts/judge.md\"`: what the evaluator is asked"),
            ),
            _ => {}
        }
        if eval.command.is_some() {
            let asks = [
                ("system", eval.system.is_some()),
                ("model", eval.model.is_some()),
                ("params", eval.params.is_some()),
            ];
            for (key, _) in asks.into_iter().filter(|(_, given)| *given) {
                self.add(
                    Diagnostic::at(at.then(key), format!("`{key}` has no meaning where a command evaluates"))
                        .on_key()
                        .wanted("only with `prompt`")
                        .hint("remove the key"),
                );
            }
        }
        if let Some(models) = &eval.model {
            self.all.model_names(&at.then("model"), models);
        }
        if eval.prompt.is_some()
            && eval.model.is_none()
            && self.task.model.is_none()
            && !self.task.is_tiered()
            && self.all.tables.defaults.model.is_none()
        {
            self.add(
                Diagnostic::at(&at, format!("nothing says which model evaluates task `{}`", self.name))
                    .on_key()
                    .wanted("`model` is missing")
                    .hint("add `model = \"…\"` here or to `[defaults]`"),
            );
        }
        if eval.timeout.is_some() {
            self.all.not_zero(&at.then("timeout"), eval.timeout);
        }
        self.share(&at, "threshold", eval.threshold);
        if eval.rescue == Some(true) && self.recipe == Recipe::Prompt {
            self.add(
                Diagnostic::at(
                    at.then("rescue"),
                    "`rescue` has no meaning in a prompt task: an answer that failed is none",
                )
                .on_key()
                .wanted("only with `command`")
                .hint("remove the key"),
            );
        }
        for (key, number) in [("max_rounds", eval.max_rounds.map(u64::from)), ("max_bytes", eval.max_bytes)] {
            if number == Some(0) {
                self.add(Diagnostic::at(at.then(key), format!("`{key}` is 0")).wanted("wanted 1 or more"));
            }
        }
    }

    fn refine(&mut self) {
        let Some(refine) = &self.task.refine else { return };
        let at = self.at.then("refine");
        if self.task.eval.is_none() {
            self.add(
                Diagnostic::at(&at, format!("`refine` of task `{}` has no notes to go by", self.name))
                    .on_key()
                    .wanted("only with `eval`")
                    .hint("add `eval = { prompt = \"prompts/judge.md\" }`: each round is given its notes"),
            );
        } else if self.task.eval.as_ref().is_some_and(|eval| eval.max_rounds.is_some()) {
            self.add(
                Diagnostic::at(
                    self.at.then("eval").then("max_rounds"),
                    "with `refine` the rounds are counted there",
                )
                .on_key()
                .wanted("one too many")
                .related(&at, "the rounds"),
            );
        }
        match refine.max_rounds {
            None => self.add(
                Diagnostic::at(&at, "`refine` does not say how many rounds")
                    .on_key()
                    .wanted("`max_rounds` is missing")
                    .hint("add `max_rounds = 3`"),
            ),
            Some(0) => self
                .add(Diagnostic::at(at.then("max_rounds"), "`max_rounds` is 0").wanted("wanted 1 or more")),
            Some(_) => {}
        }
        self.share(&at, "until", refine.until);
    }

    /// A score is from 0 to 1.
    fn share(&mut self, at: &TablePath, key: &'static str, score: Option<f64>) {
        if let Some(score) = score.filter(|score| !(0.0..=1.0).contains(score)) {
            // Of ten, or in percent.
            let better = match score {
                2.0..=10.0 => Some(score / 10.0),
                10.0..=100.0 => Some(score / 100.0),
                _ => None,
            };
            self.add(
                Diagnostic::at(at.then(key), format!("`{key}` is {score}"))
                    .wanted("wanted a score from 0 to 1")
                    .maybe_hint(better.map(|better| format!("write `{better}`"))),
            );
        }
    }
}
