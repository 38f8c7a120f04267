//! `planexe doctor`: what keeps a run from working.

use clap::Args;
use serde::Serialize;

use crate::commands::Session;
use crate::commands::keys::{KeyView, key_of};
use crate::doctor::{Finding, Grade, of_models, of_place, of_programs};
use crate::exit::{self, Error};
use crate::keys::KeyRing;
use crate::open::Opened;
use crate::style::{GREEN, RED, Style, YELLOW, clean, count, pad};

/// What `planexe doctor` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// Ask no server
    #[arg(long)]
    pub offline: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// Whether nothing fails.
    healthy: bool,
    findings: Vec<Finding>,
}

/// Looks.
pub fn run(session: &Session, args: &DoctorArgs) -> Result<u8, Error> {
    // Faults of the pipeline are told as `check` tells them: nothing else can be looked at then.
    let opened = session.open(true)?;
    let project = &opened.project;
    let mut findings = vec![Finding::ok(
        "pipeline",
        format!("{}, {}, no faults", clean(&project.name), count(project.specs.len() as u64, "task")),
    )];
    findings.extend(of_place(&opened));
    findings.extend(of_programs(&opened, session.variable("PATH").as_deref()));
    match session.keys() {
        Ok(ring) => {
            let hidden: Vec<String> =
                project.endpoints.iter().filter_map(|endpoint| endpoint.model.api_key_env.clone()).collect();
            findings.extend(of_keys(&opened, &ring));
            if !args.offline {
                findings.extend(of_models(&opened, &ring, &hidden));
            }
        }
        Err(error) => {
            let remedy = error.hints.first().cloned().unwrap_or_else(|| "mend that file".to_owned());
            findings.push(Finding::fail("keys", error.to_string(), remedy));
        }
    }
    let failed = findings.iter().filter(|finding| finding.grade == Grade::Fail).count();
    let warned = findings.iter().filter(|finding| finding.grade == Grade::Warn).count();
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &View { healthy: failed == 0, findings })?;
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

/// Keys that stand in the way of a model tasks may ask.
fn of_keys(opened: &Opened, ring: &KeyRing) -> Vec<Finding> {
    let project = &opened.project;
    let used = |at: usize| {
        project.specs.iter().filter_map(|spec| spec.recipe.prompt()).any(|prompt| prompt.models.contains(&at))
    };
    let of = |(at, key): (usize, KeyView)| {
        let (Some(variable), host) = (&key.variable, key.host.clone().unwrap_or_default()) else {
            return None;
        };
        Some(match (&key.problem, used(at)) {
            (None, _) if !key.set => Finding::ok(
                "keys",
                format!("{}: `{variable}` is not set, and {host} may need none", key.model),
            ),
            (None, _) => {
                Finding::ok("keys", format!("{}: `{variable}` is set and may go to {host}", key.model))
            }
            (Some(problem), used) => {
                let remedy =
                    key.remedy.clone().unwrap_or_else(|| "mend `base_url` or `api_key_env`".to_owned());
                let message = format!("{}: {}", key.model, clean(problem));
                if used {
                    Finding::fail("keys", message, clean(&remedy))
                } else {
                    Finding::warn("keys", message, clean(&remedy))
                }
            }
        })
    };
    project
        .endpoints
        .iter()
        .enumerate()
        .map(|(at, endpoint)| (at, key_of(endpoint, ring)))
        .filter_map(of)
        .collect()
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
