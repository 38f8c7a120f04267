//! `planexe keys`: which key may go to which host.

use std::fs::File;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Session;
use crate::ops::keys::{KeyView, key_of, models_of};
use planexe_base::exit::{self, Error, Kind};
use planexe_base::fs;
use planexe_base::style::{GREEN, RED, Style, YELLOW, clean};
use planexe_llm::keys::{Binding, KEYS_FILE, KeyError, KeysFile, Site, config_dir, is_known};
use planexe_pipeline::manifest::diagnostic::shown_path;
use planexe_pipeline::open::{self, OpenError};
use planexe_ui::views::table;

/// What `planexe keys` takes.
#[derive(Debug, Clone, Default, Args)]
pub struct KeysArgs {
    /// What to do; lists the bindings if left out
    #[command(subcommand)]
    pub action: Option<KeysAction>,
}

/// What to do with a binding.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysAction {
    /// Allow the key in a variable to be sent to a host
    Bind {
        /// Name of the environment variable
        #[arg(value_name = "VARIABLE")]
        variable: String,
        /// Host, or host:port
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Take that back
    Unbind {
        /// Name of the environment variable
        #[arg(value_name = "VARIABLE")]
        variable: String,
        /// Host, or host:port
        #[arg(value_name = "HOST")]
        host: String,
    },
}

/// The answer, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct View {
    models: Vec<KeyView>,
    bindings: Vec<Binding>,
}

/// Lists, makes or drops bindings.
pub fn run(session: &Session, args: &KeysArgs) -> Result<u8, Error> {
    match &args.action {
        None => list(session),
        Some(KeysAction::Bind { variable, host }) => bind(session, variable, host),
        Some(KeysAction::Unbind { variable, host }) => unbind(session, variable, host),
    }
}

fn list(session: &Session) -> Result<u8, Error> {
    let ring = session.keys()?;
    let located = match open::locate(&session.place(), true) {
        Ok(located) => Some(located),
        // The bindings are the user's, not a pipeline's.
        Err(OpenError::NoRun { .. }) => None,
        Err(error) => return Err(session.open_error(error)),
    };
    // The models are enough: a plan that is not written yet does not matter here.
    let endpoints = match &located {
        Some(located) => models_of(&located.locations)
            .map_err(|faults| session.open_error(OpenError::Diagnostics(Box::new(faults))))?,
        None => Vec::new(),
    };
    let models: Vec<KeyView> = endpoints.iter().map(|endpoint| key_of(endpoint, &ring)).collect();
    let view = View { models, bindings: ring.bindings().to_vec() };
    if session.globals.json {
        let here = PathBuf::from(".");
        let run = located.as_ref().map_or(here.as_path(), |located| &located.locations.run);
        session.print_answer(run, &view)?;
        return Ok(exit::DONE);
    }
    let style = session.out;
    session.print(&table(&view.models.iter().map(|key| row(key, &style)).collect::<Vec<_>>(), &style))?;
    if located.is_none() {
        session.say("no pipeline here: these are your own bindings");
    }
    if !view.bindings.is_empty() {
        let rows: Vec<Vec<String>> = view
            .bindings
            .iter()
            .map(|bound| vec![clean(&bound.env), "may go to".into(), clean(&bound.host)])
            .collect();
        session.print(&format!(
            "{}{}",
            if view.models.is_empty() { "" } else { "\n" },
            table(&rows, &style)
        ))?;
    } else if view.models.is_empty() {
        session.say("nothing is bound but each vendor's own variable to its host, and those of local servers to this machine");
    }
    for key in view.models.iter().filter(|key| key.remedy.is_some()) {
        session.say(&format!(
            "hint: {}: {}",
            clean(&key.model),
            clean(key.remedy.as_deref().unwrap_or_default())
        ));
    }
    Ok(exit::DONE)
}

fn row(key: &KeyView, style: &Style) -> Vec<String> {
    let Some(variable) = &key.variable else {
        return vec![clean(&key.model), "no key".to_owned()];
    };
    let bound = match key.bound {
        true => style.paint(GREEN, "bound"),
        false => style.paint(RED, "not bound"),
    };
    let set = match (key.set, &key.problem) {
        (true, _) => style.paint(GREEN, "set"),
        (false, None) => "not set, and need not be".to_owned(),
        (false, Some(_)) => style.paint(YELLOW, "not set"),
    };
    let host = key.host.as_deref().map_or("-".to_owned(), clean);
    vec![clean(&key.model), clean(variable), host, bound, set]
}

/// The folder of `keys.toml`.
fn folder(session: &Session) -> Result<PathBuf, Error> {
    let read = session.lookup;
    let lookup = move |name: &str| read.and_then(|read| read(name));
    config_dir(&lookup).ok_or_else(|| {
        Error::new(
            Kind::Setup,
            "there is no folder for your settings: neither HOME nor XDG_CONFIG_HOME is set",
        )
        .code("keys")
    })
}

/// The user's bindings, to be changed: nobody else changes them while this lives.
struct Held {
    file: KeysFile,
    path: PathBuf,
    _lock: Option<File>,
}

impl Held {
    fn take(session: &Session) -> Result<Held, Error> {
        let folder = folder(session)?;
        fs::make_private_dir(&folder)?;
        let lock = fs::hold_dir(&folder)?;
        let file = KeysFile::read(&folder).map_err(|error| fault(&error))?;
        let path = folder.join(KEYS_FILE);
        // A link to where the user keeps such files stays one.
        let path = path.canonicalize().unwrap_or(path);
        Ok(Held { file, path, _lock: lock })
    }

    fn write(&self) -> Result<(), Error> {
        Ok(fs::write_private(&self.path, self.file.to_text().as_bytes())?)
    }
}

fn fault(error: &KeyError) -> Error {
    Error::new(Kind::Setup, error.message()).code("keys")
}

/// The name of a variable: a key typed by mistake is not repeated on the screen.
fn check_variable(variable: &str) -> Result<(), Error> {
    let plain = variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && variable.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && variable.len() <= 100 {
        return Ok(());
    }
    Err(Error::usage(
        "what comes first must be the name of a variable, like OPENAI_API_KEY, never the key itself",
    )
    .hint("a key that was typed here by mistake is in your shell's history now: remove it there"))
}

/// A host as typed, or that of a URL.
fn host_of(written: &str) -> String {
    match Site::of(written) {
        Ok(site) if written.contains("://") => site.binding(),
        _ => written.to_owned(),
    }
}

fn bind(session: &Session, variable: &str, host: &str) -> Result<u8, Error> {
    check_variable(variable)?;
    let away = host.starts_with("http://") && Site::of(host).is_ok_and(|site| !site.is_loopback());
    if away {
        return Err(Error::usage("no key goes over plain http, but to this machine")
            .code("plain_http")
            .hint("the server must be reached by https"));
    }
    let host = host_of(host);
    let mut held = Held::take(session)?;
    let new = held.file.bind(variable, &host).map_err(|error| match error {
        KeyError::File { why, .. } => Error::usage(why),
        other => fault(&other),
    })?;
    let known = is_known(variable, &host);
    if new && !known {
        held.write()?;
    }
    session.say(&match new {
        _ if known => format!("`{variable}` may go to `{}` without being bound", clean(&host)),
        true => format!("`{variable}` may go to `{}` now (in {})", clean(&host), shown_path(&held.path)),
        false => format!("`{variable}` may go to `{}` already", clean(&host)),
    });
    answer(session, &held.file)
}

fn unbind(session: &Session, variable: &str, host: &str) -> Result<u8, Error> {
    check_variable(variable)?;
    let host = host_of(host);
    let mut held = Held::take(session)?;
    let gone = held.file.unbind(variable, &host);
    if gone {
        held.write()?;
    }
    let known = is_known(variable, &host);
    session.say(&match gone {
        true => format!("`{variable}` may not go to `{}` any more", clean(&host)),
        false => format!("`{variable}` was not bound to `{}`", clean(&host)),
    });
    if known {
        session.say("note: that pair is the vendor's own and needs no binding; unset the variable to keep it from being used");
    }
    answer(session, &held.file)
}

fn answer(session: &Session, file: &KeysFile) -> Result<u8, Error> {
    if session.globals.json {
        let here = PathBuf::from(".");
        session.print_answer(&here, &View { models: Vec::new(), bindings: file.bind.clone() })?;
    }
    Ok(exit::DONE)
}
