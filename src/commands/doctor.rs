//! `planexe doctor`: what keeps a run from working.

use std::path::Path;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::keys::{KeyView, key_of, models_of};
use planexe_base::exit::{self, Error};
use planexe_base::message::Hint;
use planexe_base::style::{GREEN, RED, Style, YELLOW, clean, count, pad};
use planexe_llm::keys::{self, KeyRing};
use planexe_notify::{Receivers, outbox, receivers};
use planexe_pipeline::open::{self, OpenError, Opened};
use planexe_pipeline::project::Endpoint;
use planexe_query::doctor::{
    Finding, Grade, executors, isolation, of_models, of_place, of_programs, orphans,
};
use planexe_store::Store;

/// What `planexe doctor` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// Ask no server
    #[arg(long)]
    pub offline: bool,

    /// Also ask each model one tiny question with a schema; it costs some tokens
    #[arg(long, conflicts_with = "offline")]
    pub call: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// Whether nothing fails.
    healthy: bool,
    findings: Vec<Finding>,
}

/// Looks.
pub fn run(session: &Session, args: &DoctorArgs) -> Result<u8, Error> {
    let place = session.place();
    let located = open::locate(&place, true).map_err(|error| session.open_error(error))?;
    let opened = match open::open(&place, true) {
        Ok(opened) => Ok(opened),
        Err(OpenError::Diagnostics(faults)) => Err(faults),
        Err(error) => return Err(session.open_error(error)),
    };
    let run = located.locations.run.canonicalize()?;
    let mut findings = Vec::new();
    match &opened {
        Ok(opened) => findings.push(Finding::ok("pipeline", pipeline(opened))),
        Err(faults) => {
            let message = format!("it has {}", count(faults.len() as u64, "fault"));
            findings.push(Finding::fail("pipeline", message, "`planexe check` shows each with its place"));
        }
    }
    findings.extend(of_place(&Store::open(&run)));
    if let Ok(opened) = &opened {
        findings.push(orphans(opened));
        findings.extend(isolation::examine(opened));
        findings.extend(of_programs(opened, session.variable("PATH").as_deref()));
        findings.extend(executors::of_executors(opened, session.variable("PATH").as_deref()));
    }
    let mut answering = Vec::new();
    if let (Ok(opened), Ok(ring)) = (&opened, session.keys()) {
        findings.extend(of_webhooks(opened, &ring));
        answering = if args.offline { Vec::new() } else { executors::answering(opened, &ring) };
        findings.extend(executors::of_services(opened, session.variable("PATH").as_deref(), &answering));
    }
    // Of a pipeline with faults all models, else those that a task may ask.
    let all = models_of(&located.locations).unwrap_or_default();
    let used: Vec<&Endpoint> =
        all.iter().filter(|endpoint| is_used(opened.as_ref().ok(), endpoint)).collect();
    // Of a pipeline with faults too.
    keys::hide(all.iter().filter_map(|endpoint| endpoint.model.api_key_env.clone()));
    match session.keys() {
        Ok(ring) => {
            findings.extend(all.iter().filter_map(|endpoint| {
                of_key(&key_of(endpoint, &ring), used.iter().any(|used| used.name == endpoint.name))
            }));
            // One whose key stands in the way is not asked as well.
            let used: Vec<&Endpoint> =
                used.into_iter().filter(|endpoint| key_of(endpoint, &ring).problem.is_none()).collect();
            if !args.offline {
                let folder = located.locations.pipeline.parent().unwrap_or(Path::new(""));
                let (used, unserved) = served(opened.as_ref().ok(), used, &answering);
                findings.extend(of_models(&used.iter().collect::<Vec<_>>(), folder, &ring, args.call));
                findings.extend(unserved);
            }
        }
        Err(error) => {
            let remedy = error.hints.first().map_or("mend that file", Hint::text).to_owned();
            findings.push(Finding::fail("keys", error.to_string(), remedy));
        }
    }
    let failed = findings.iter().filter(|finding| finding.grade == Grade::Fail).count();
    let warned = findings.iter().filter(|finding| finding.grade == Grade::Warn).count();
    if session.globals.json {
        session.print_answer(&run, &View { healthy: failed == 0, findings })?;
    } else {
        let text: String = findings.iter().map(|finding| line(finding, &session.out)).collect();
        session.print(&text)?;
        session.say(&match (failed, warned) {
            (0, 0) => "all is well".to_owned(),
            (0, warned) => format!("it works, with {}", count(warned as u64, "warning")),
            (1, _) => "1 thing does not work".to_owned(),
            (failed, _) => format!("{failed} things do not work"),
        });
    }
    Ok(if failed > 0 { exit::FAILED } else { exit::DONE })
}

fn pipeline(opened: &Opened) -> String {
    let project = &opened.project;
    format!("{}, {}, no faults", clean(&project.name), count(project.specs.len() as u64, "task"))
}

/// The models that can be asked now, where they are; and those of services that are not up.
fn served(
    opened: Option<&Opened>,
    used: Vec<&Endpoint>,
    answering: &[Option<String>],
) -> (Vec<Endpoint>, Vec<Finding>) {
    let (mut asked, mut unserved) = (Vec::new(), Vec::new());
    for endpoint in used {
        match (&endpoint.model.service, opened) {
            (None, _) => asked.push(endpoint.clone()),
            // What a service serves is there while that runs.
            (Some(_), None) => {}
            (Some(service), Some(opened)) => {
                match executors::of_model(opened, endpoint, service, answering) {
                    Ok(there) => asked.push(there),
                    Err(finding) => unserved.push(finding),
                }
            }
        }
    }
    (asked, unserved)
}

/// Whether a task may ask a model.
fn is_used(opened: Option<&Opened>, endpoint: &Endpoint) -> bool {
    let Some(opened) = opened else { return true };
    let project = &opened.project;
    let asked = project.specs.iter().flat_map(|spec| spec.prompts()).flat_map(|prompt| prompt.models.clone());
    let called = project.specs.iter().flat_map(|spec| spec.commands()).filter_map(|command| command.calls);
    let mut all = asked.chain(called.map(|calls| calls.endpoint));
    all.any(|at| project.endpoints[at].name == endpoint.name)
}

/// The key of a model; nothing if it needs none.
fn of_key(key: &KeyView, used: bool) -> Option<Finding> {
    let variable = key.variable.as_deref()?;
    let host = key.host.as_deref().unwrap_or("its host");
    let Some(problem) = &key.problem else {
        let set = if key.set { "is set and may go to" } else { "is not set, which is well for" };
        return Some(Finding::ok("keys", format!("{}: `{variable}` {set} {host}", key.model)));
    };
    let message = format!("{}: {problem}", key.model);
    let remedy = key.remedy.clone().unwrap_or_else(|| "mend `base_url` or `api_key_env`".to_owned());
    Some(if used {
        Finding::fail("keys", message, remedy)
    } else {
        Finding::warn("keys", format!("{message} (no task asks it)"), remedy)
    })
}

/// Whether webhooks can be told, and what still waits for them; nothing if there are none.
fn of_webhooks(opened: &Opened, ring: &KeyRing) -> Vec<Finding> {
    let Receivers { receivers, faults } = receivers(&opened.project, ring, &[]);
    let remedy = "set that variable, or take the webhook out of the pipeline";
    let mut findings: Vec<Finding> =
        faults.into_iter().map(|fault| Finding::warn("webhooks", fault, remedy)).collect();
    let waiting: usize = outbox::waiting(opened.store.run_dir()).iter().map(|(_, events)| events).sum();
    if waiting > 0 {
        let message = format!("{} not delivered yet", count(waiting as u64, "event"));
        findings.push(Finding::warn("webhooks", message, "`planexe events --deliver` sends them now"));
    } else if findings.is_empty() && !receivers.is_empty() {
        let message = format!("{}, nothing waits for them", count(receivers.len() as u64, "receiver"));
        findings.push(Finding::ok("webhooks", message));
    }
    findings
}

fn line(finding: &Finding, style: &Style) -> String {
    let (glyph, word, colour) = match finding.grade {
        Grade::Ok => ("✓", "ok", GREEN),
        Grade::Warn => ("!", "warn", YELLOW),
        Grade::Fail => ("✗", "fail", RED),
    };
    let mark = style.paint(colour, &format!("{glyph} {}", pad(word, 4)));
    let mut text = format!("{mark}  {}  {}\n", pad(finding.check, 8), clean(&finding.message));
    if let Some(remedy) = &finding.remedy {
        text += &format!("{}{} {}\n", " ".repeat(18), style.paint(GREEN, "hint:"), clean(remedy));
    }
    text
}
