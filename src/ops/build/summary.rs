//! Targets is told at the end of a build: how it ended, what failed, what to type next.

use crate::ops::Session;
use crate::ops::build::BuildOptions;
use crate::ops::build::Targets;
use planexe_base::exit;
use planexe_build::run_loop::{Ended, Failed, Stopped};
use planexe_pipeline::open::Opened;
use planexe_ui::views::{BuildOutcome, FailedView, SummaryView, WaitingView};

/// At most so many tasks that wait for a person are named in what to type next.
const WAITING: usize = 5;

pub(super) fn exit_code(ended: &Ended, strict: bool) -> u8 {
    if ended.broken.is_some() {
        return exit::FAILED;
    }
    match ended.stopped {
        Some(Stopped::Signal(signal_hook::consts::SIGINT)) => return exit::INTERRUPTED,
        Some(Stopped::Signal(signal_hook::consts::SIGHUP)) => return exit::HANGUP,
        Some(Stopped::Signal(_)) => return exit::TERMINATED,
        _ => {}
    }
    // Instances a fan-out can do without are no failure of the build.
    if ended.fails {
        exit::FAILED
    } else if ended.stopped.is_some() || !ended.summary.waiting.is_empty() {
        exit::STOPPED
    } else if strict && !ended.summary.partial.is_empty() {
        exit::FAILED
    } else {
        exit::DONE
    }
}

/// What is told at the end.
pub(super) fn summary_view(
    session: &Session,
    opened: &Opened,
    what: &Targets,
    options: &BuildOptions,
    ended: &Ended,
    code: u8,
) -> SummaryView {
    let project = &opened.project;
    let outcome = if ended.stopped.is_some() || (!ended.fails && !ended.summary.waiting.is_empty()) {
        BuildOutcome::Stopped
    } else if ended.fails || ended.broken.is_some() {
        BuildOutcome::Failed
    } else {
        BuildOutcome::Completed
    };
    let message = match (ended.stopped, &ended.broken) {
        (Some(Stopped::UsageLimit | Stopped::Batch), _) if ended.parked.is_some() => ended.parked.clone(),
        (Some(stopped), _) => Some(stopped.text().trim_start_matches("stopped ").to_owned()),
        (None, Some(error)) => Some(error.to_string()),
        (None, None) if outcome == BuildOutcome::Stopped => Some("waiting for a person".to_owned()),
        _ => None,
    };
    let failed = ended
        .failures
        .iter()
        .map(|Failed { task, failure, blocks }| FailedView {
            task: task.clone(),
            failure: failure.clone(),
            blocks: blocks.clone(),
        })
        .collect();
    let waiting =
        ended.waiting.iter().cloned().map(|(task, message)| WaitingView { task, message }).collect();
    let mut next = Vec::new();
    if let Some(Failed { task, .. }) = ended.failures.first() {
        next.push((format!("planexe explain {}", planexe_ui::views::shell_word(task)), "see why".to_owned()));
        next.push((again(what, options, "planexe build"), "try again; finished work is kept".to_owned()));
    }
    if ended.broken.is_some() && ended.failures.is_empty() {
        next.push((again(what, options, "planexe build"), "continue once it can be written".to_owned()));
    }
    // What cannot be merged is said with its message; it is no person's word that is waited for.
    let merges = |task: &str| {
        let id = project.graph.find(task.split('[').next().unwrap_or(task));
        id.is_some_and(|id| project.spec(&project.graph[id]).isolate.is_some())
    };
    let (unmerged, asking): (Vec<_>, Vec<_>) = ended.waiting.iter().partition(|(task, _)| merges(task));
    let done = |task: &String| format!("planexe done {}", planexe_ui::views::shell_word(task));
    next.extend(asking.iter().take(WAITING).map(|(task, _)| (done(task), "pass it".to_owned())));
    if !unmerged.is_empty() {
        next.push((again(what, options, "planexe resume"), "continue once it can be merged".to_owned()));
    }
    if unmerged.is_empty()
        && outcome == BuildOutcome::Stopped
        && ended.failures.is_empty()
        && (ended.summary.pending > 0 || ended.stopped == Some(Stopped::Batch))
    {
        let resume = match ended.stopped {
            Some(Stopped::Abort) => "planexe resume --force",
            Some(Stopped::UsageLimit | Stopped::Batch) => "planexe resume --at-reset",
            _ => "planexe resume",
        };
        next.push((again(what, options, resume), "continue with what is left".to_owned()));
    }
    for (command, _) in &mut next {
        *command = session.typed(command);
    }
    SummaryView {
        schema: planexe_ui::views::SCHEMA,
        server: session.server(),
        run_dir: project.run.display().to_string(),
        pipeline: project.name.clone(),
        outcome,
        message,
        summary: ended.summary.clone(),
        tasks: Vec::new(),
        failed,
        waiting,
        report: report_of(opened, what, outcome),
        next,
        exit_code: code,
    }
}

/// The command that goes on with a build: of targets that were typed no other task is begun, and what was said of models
/// and answers holds for the rest too.
fn again(what: &Targets, options: &BuildOptions, bare: &str) -> String {
    let mut command = match what.typed.is_empty() {
        true => bare.to_owned(),
        false => String::from(if what.only { "planexe build --only" } else { "planexe build" }),
    };
    if let Some(model) = &options.model {
        command += &format!(" --model {}", planexe_ui::views::shell_word(model));
    }
    for (said, option) in [
        (options.rebuild_on_model, " --rebuild-on model"),
        (options.strict, " --strict"),
        (options.frozen, " --frozen"),
    ] {
        command += if said { option } else { "" };
    }
    for name in &what.typed {
        command += &format!(" {}", planexe_ui::views::shell_word(name));
    }
    command
}

/// The file to open: the first page among the outputs of the targets, or of the last task.
fn report_of(opened: &Opened, what: &Targets, outcome: BuildOutcome) -> Option<String> {
    if outcome != BuildOutcome::Completed {
        return None;
    }
    let targets: Vec<_> = what.targets.iter().map(|(id, _)| *id).collect();
    let page = opened.project.page(&targets)?;
    Some(planexe_pipeline::manifest::diagnostic::shown_path(&opened.store.path(page)))
}
