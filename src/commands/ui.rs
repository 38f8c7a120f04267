//! `planexe ui`: a page about a run, or the runs of a folder, in this machine's browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::serve::{self, Subject};
use planexe_base::exit::{self, Error};
use planexe_base::fs;
use planexe_base::signals;
use planexe_pipeline::open::Where;
use planexe_pipeline::runs::is_run;

/// What `planexe ui` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct UiArgs {
    /// A run, or a folder of runs [default: the run here or above, or that of -C]
    #[arg(value_name = "RUN|RUNS")]
    pub what: Option<PathBuf>,

    /// The port of 127.0.0.1 to listen on [default: a free one]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub port: u16,

    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,

    /// Let the page change the run: pause, stop, build, pass a gate, retry, restore, edit the plan
    #[arg(long)]
    pub allow_changes: bool,
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    /// The address of the page, with its token.
    url: String,
}

/// Serves until Ctrl-C.
pub fn run(session: &Session, args: &UiArgs) -> Result<u8, Error> {
    let subject = subject(session, args.what.as_deref())?;
    let signals = signals::listen()?;
    let listening = serve::listen(session.base(), subject, args.port, args.allow_changes)?;
    let address = listening.address();
    listening.serve()?;
    if session.globals.json {
        let view = View { url: address.clone() };
        session.print(&(serde_json::to_string(&session.answer(None, &view))? + "\n"))?;
    } else {
        session.print(&format!("{address}\n"))?;
        session.say("Ctrl-C ends it; whoever has the address can look at the run");
    }
    let opened = args.open.then(|| open(&address));
    if let Some(Err(error)) = &opened {
        session.complain(&format!("warning: no browser could be started: {error}"));
    }
    let signal = signals.forever().next().unwrap_or(0);
    drop(opened);
    Ok(exit::of_signal(signal))
}

fn subject(session: &Session, what: Option<&Path>) -> Result<Subject, Error> {
    match what {
        Some(folder) if !folder.is_dir() => {
            Err(Error::usage(format!("there is no folder `{}`", folder.display())).code("no_folder"))
        }
        Some(folder) if !is_run(folder) => {
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            Ok(Subject::Runs(folder))
        }
        what => {
            // Faults of the pipeline are told before a page is opened.
            let opened = session.open_named(what, true)?;
            let run_dir = Some(opened.store.run_dir().to_owned());
            Ok(Subject::Run(Where {
                run_dir: run_dir.filter(|_| session.place.file.is_none()),
                ..session.place()
            }))
        }
    }
}

/// A file that leads to the page, gone with this value.
struct Leads(PathBuf);

impl Drop for Leads {
    fn drop(&mut self) {
        let _ = fs::remove_tree(&self.0);
    }
}

/// Opens the page. The token is no argument of a program, where others of this machine would see it: a file that only the
/// user can read leads to it.
fn open(address: &str) -> std::io::Result<Leads> {
    let folder = std::env::temp_dir().join(format!("planexe-ui-{}", uuid::Uuid::now_v7().simple()));
    let file = folder.join("open.html");
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>planexe</title><meta http-equiv=\"refresh\" content=\"0;url={address}\">"
    );
    fs::write_private(&file, page.as_bytes()).map_err(std::io::Error::other)?;
    let leads = Leads(folder);
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut child = Command::new(program)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Nobody waits for it, and no dead process is left.
    let _ = std::thread::Builder::new().name("browser".into()).spawn(move || child.wait());
    Ok(leads)
}
