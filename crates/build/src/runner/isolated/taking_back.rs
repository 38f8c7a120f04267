//! A task of a lane that is made again while others of it wait for the merge does not work on its own former commits:
//! they are taken out of the lane first, and with them those of tasks that read what it had made.
//!
//! The last commits of a lane are left out. Those in the middle are undone by a commit of their reverse, since what came
//! after them stays as it is.

use super::{IsolationError, Worktree, failure, identified, isolation, named, others, style};
use crate::runner::BuildContext;
use planexe_base::failure_class::FailureClass;
use planexe_base::fs::FsError;
use planexe_base::message::Message;
use planexe_base::record::Failure;
use planexe_store::lanes::Span;
use planexe_ui::views::shell_word;

impl Worktree {
    /// Commits in the lane of tasks that do not wait for the merge any more, those of `again` among them, and of tasks
    /// that read what these made.
    pub(super) fn former(
        &self,
        ctx: &BuildContext,
        again: Option<&str>,
    ) -> Result<Vec<Span>, IsolationError> {
        if self.lane.spans.is_empty() {
            return Ok(Vec::new());
        }
        let top = isolation(ctx)?.place.git();
        let base = top.tip(&self.lane.base)?;
        let waiting = others(ctx, &self.lane.lane, again.unwrap_or_default())?;
        let mut former: Vec<Span> = Vec::new();
        for span in &self.lane.spans {
            let candidate = waiting.iter().find(|candidate| candidate.task == span.task);
            let success = candidate.and_then(|candidate| candidate.success.as_ref());
            let read = |path: &String| former.iter().any(|it| it.outputs.contains(path));
            let goes = success.is_none_or(|success| success.inputs.iter().any(|input| read(&input.path)));
            let merged = || base.as_ref().map_or(Ok(false), |base| top.is_ancestor(&span.to, base));
            if goes && !merged()? {
                former.push(span.clone());
            }
        }
        Ok(former)
    }

    /// Tasks other than `again` whose commits are taken out are made again, too. Written first: after a kill their
    /// commits are known to be former ones.
    pub(super) fn begin_readers_anew(
        &self,
        ctx: &BuildContext,
        again: &str,
        former: &[Span],
    ) -> Result<(), FsError> {
        for span in former.iter().filter(|span| span.task != again) {
            let Some(first) = span.outputs.first() else { continue };
            if ctx.store.to_be_merged(&span.task)?.is_some() {
                ctx.store.begin_anew(&span.task, first)?;
                let again = style::clean(again);
                let message = format!("is made again, since it was made on what `{again}` had committed");
                ctx.note(Some(&span.task), false, message);
            }
        }
        Ok(())
    }

    /// Takes commits out of the lane. The worktree is clean and at the lane's head, and is so afterwards.
    pub(super) fn take_out(&mut self, ctx: &BuildContext, former: &[Span]) -> Result<(), IsolationError> {
        let head = self.lane.head.clone();
        for span in former.iter().rev() {
            self.lane.head = match self.lane.head == span.to {
                true => span.from.clone(),
                false => self.undo(ctx, span)?,
            };
            self.lane.spans.retain(|it| it != span);
        }
        if self.lane.head != head {
            self.reset()?;
        }
        Ok(())
    }

    /// A commit on top of the lane without what is in some commits of it.
    fn undo(&mut self, ctx: &BuildContext, span: &Span) -> Result<String, IsolationError> {
        self.reset()?;
        let git = identified(&self.git)?;
        let before = git.text(&["rev-parse", &format!("{}^{{tree}}", span.from)])?;
        let reverse = git.text(&["commit-tree", &before, "-p", &span.to, "-m", "planexe: reverse\n"])?;
        let said =
            git.run(&["merge", "-q", "--no-verify", "--no-edit", "--no-ff", "--no-commit", &reverse])?;
        let unmerged = git.names(&["diff", "--name-only", "--diff-filter=U", "-z"])?;
        if !unmerged.is_empty() {
            git.must(&["merge", "--abort"])?;
            return Err(self.entangled(ctx, span, &unmerged).into());
        }
        if said.code != 0 {
            let message = format!("git cannot undo what `{}` committed: {}", span.task, said.why());
            return Err(failure(FailureClass::Git, message).into());
        }
        let tree = git.text(&["write-tree"])?;
        let message = format!("planexe: without the former commits of {}\n", style::clean(&span.task));
        Ok(git.text(&["commit-tree", &tree, "-p", &self.lane.head, "-m", &message])?)
    }

    fn entangled(&self, ctx: &BuildContext, span: &Span, files: &[String]) -> Failure {
        let at = self.lane.spans.iter().position(|it| it == span).unwrap_or_default();
        // For a message alone.
        let waiting = others(ctx, &self.lane.lane, &span.task).unwrap_or_default();
        let later = self.lane.spans[at..].iter().map(|it| &it.task);
        let later: Vec<&String> =
            later.filter(|task| waiting.iter().any(|candidate| candidate.task == **task)).collect();
        let words = later.iter().map(|task| shell_word(task)).collect::<Vec<_>>().join(" ");
        let later: Vec<String> = later.into_iter().cloned().collect();
        let message = Message::new(format!(
            "what `{}` had committed in the lane cannot be undone, since {} changed the same lines after it in {}",
            style::clean(&span.task),
            named(&later),
            named(files)
        ))
        .hint(format!("`planexe retry {words}` makes them again as well; then `planexe build`"));
        Failure { recoverable: true, ..failure(FailureClass::MergeConflict, message) }
    }
}
