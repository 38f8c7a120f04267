//! Telling the outside what happens in a build: webhooks and hooks. Neither slows a build nor fails it.
//!
//! One [`Notifier`] receives every event ([`Telling`] passes them on to whoever shows progress). It makes a
//! [`payload::Payload`] of those that receivers are told, hands it to the threads of [`post`] and [`hooks`],
//! and gathers what goes wrong there.

use std::time::Duration;

use planexe_base::event::Event;
use planexe_build::runner::BuildContext;
use planexe_llm::keys::{KeyRing, Secret, WEBHOOK_VARIABLES};
use planexe_pipeline::project::Project;
use planexe_ui::progress::{Sink, Snapshot};

pub mod format;
pub mod hooks;
pub mod outbox;
pub mod payload;
pub mod post;
pub mod send;
pub mod sign;

use hooks::{Hooks, Place};
use payload::Teller;
use post::{Complaints, Post};
use send::{Receiver, is_address};
use sign::Key;

/// An address for the events of every build of this user or machine.
pub const URL_ENV: &str = WEBHOOK_VARIABLES[0];
/// What is posted to it, and to addresses of the command line, is signed with this.
pub const SECRET_ENV: &str = WEBHOOK_VARIABLES[1];
/// Folder of the address in [`URL_ENV`].
const ENV_FOLDER: &str = "env";
/// Longest wait at the end of a build for webhooks.
const AT_END: Duration = Duration::from_secs(2);
/// Longest wait at the end of a build for hooks.
const HOOKS_AT_END: Duration = Duration::from_secs(30);

/// Who is told, and what stands in the way of telling some.
#[derive(Debug, Default)]
pub struct Receivers {
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// Why others are not.
    pub faults: Vec<String>,
}

/// The receivers of a pipeline, those of the user, and those of the command line.
pub fn receivers(project: &Project, keys: &KeyRing, urls: &[String]) -> Receivers {
    let mut all = Receivers::default();
    for (name, webhook) in &project.tables.webhooks {
        let label = format!("webhook `{name}`");
        let url = match (&webhook.url, &webhook.url_env) {
            (Some(url), _) => Some(Secret::new(url)),
            (None, Some(variable)) => {
                let value = keys.value(variable);
                if value.is_none() {
                    all.faults.push(format!("{label} is sent nothing: `{variable}` is not set"));
                }
                value
            }
            (None, None) => None,
        };
        let secret = webhook.secret_env.as_deref();
        if let Some(url) = url {
            let receiver = Receiver {
                label,
                folder: format!("name.{name}"),
                format: webhook.format.unwrap_or_else(|| format::guess(url.expose())),
                url,
                key: None,
                events: webhook.events.clone(),
            };
            all.add(keys, receiver, secret);
        }
    }
    let secret = keys.value(SECRET_ENV).map(|_| SECRET_ENV);
    if let Some(url) = keys.value(URL_ENV) {
        all.add(keys, plain_receiver(URL_ENV, ENV_FOLDER.to_owned(), url), secret);
    }
    for url in urls {
        let folder = format!("url.{}", &blake3::hash(url.as_bytes()).to_hex()[..16]);
        all.add(keys, plain_receiver("--webhook", folder, Secret::new(url)), secret);
    }
    all
}

/// One of which nothing is known but its address: it is told everything.
fn plain_receiver(label: &str, folder: String, url: Secret) -> Receiver {
    let format = format::guess(url.expose());
    Receiver { label: label.to_owned(), folder, url, format, key: None, events: Vec::new() }
}

impl Receivers {
    /// Adds one, signed with the secret in a variable if one is named. An address that is there already is told what
    /// this one is told besides.
    fn add(&mut self, keys: &KeyRing, mut receiver: Receiver, secret_env: Option<&str>) {
        let label = &receiver.label;
        if !is_address(receiver.url.expose()) {
            self.faults
                .push(format!("{label} is sent nothing: its address is not one that can be posted to"));
            return;
        }
        if let Some(known) = self.receivers.iter_mut().find(|known| known.url == receiver.url) {
            return known.also_wants(receiver.events);
        }
        if let Some(variable) = secret_env {
            let Some(secret) = keys.value(variable) else {
                self.faults.push(format!("{label} is sent nothing: `{variable}` is not set"));
                return;
            };
            receiver.key = Key::from_secret(secret.expose());
            if receiver.key.is_none() {
                self.faults.push(format!(
                    "{label} is sent nothing: `{variable}` is not a signing secret (`whsec_` and base64)"
                ));
                return;
            }
        }
        self.receivers.push(receiver);
    }
}

/// Tells webhooks and hooks what happens in one build.
pub struct Notifier {
    teller: Teller,
    post: Post,
    hooks: Hooks,
    complaints: Complaints,
    /// Somebody is told at all.
    heard: bool,
}

impl Notifier {
    /// For a build. What waits from earlier builds starts to go out.
    pub fn new(project: &Project, keys: &KeyRing, urls: &[String]) -> Notifier {
        let complaints = Complaints::default();
        let Receivers { receivers, faults } = receivers(project, keys, urls);
        faults.into_iter().for_each(|fault| complaints.add(fault));
        let redactor = keys.redactor(planexe_llm::keys::hidden().iter().map(String::as_str));
        let run = project.run.display().to_string();
        let place = Place {
            run: project.run.clone(),
            folder: project.folder.clone(),
            own_programs: project.own_programs,
        };
        Notifier {
            heard: !receivers.is_empty() || project.tables.hooks != Default::default(),
            teller: Teller::new(&project.name, &run, redactor),
            post: Post::new(&project.run, receivers, complaints.clone()),
            hooks: Hooks::new(project.tables.hooks.clone(), place, complaints.clone()),
            complaints,
        }
    }

    fn event(&mut self, event: &Event) {
        if !self.heard {
            return;
        }
        if let Some(payload) = self.teller.payload(event) {
            self.post.tell(&payload);
            self.hooks.tell(&payload);
        }
    }

    /// The end: waits for what is under way, briefly; for hooks of a build ended by a signal too.
    /// Returns what went wrong since it was last told.
    pub fn close(self, by_signal: bool, hurry: impl FnMut() -> bool) -> Vec<String> {
        let Notifier { post, hooks, complaints, .. } = self;
        let started = std::time::Instant::now();
        hooks.close(if by_signal { AT_END } else { HOOKS_AT_END }, hurry);
        let left = post.close(AT_END.saturating_sub(started.elapsed()).max(AT_END / 4));
        let mut said = complaints.take();
        for (left, how) in left.into_iter().zip([
            "they go out at the next build, or with `planexe events --deliver`",
            "they go out when the address is given again: `planexe events --deliver --webhook URL`",
        ]) {
            if left > 0 {
                let events = planexe_base::style::count(left as u64, "event");
                said.push(format!("{events} not delivered; {how}"));
            }
        }
        said
    }
}

/// Passes everything on to whoever shows progress, and tells the notifier.
pub struct Telling<'a> {
    inner: &'a mut dyn Sink,
    notifier: Notifier,
    tools: std::sync::Arc<BuildContext>,
}

impl<'a> Telling<'a> {
    /// Around a sink.
    pub fn new(
        inner: &'a mut dyn Sink,
        notifier: Notifier,
        tools: std::sync::Arc<BuildContext>,
    ) -> Telling<'a> {
        Telling { inner, notifier, tools }
    }

    /// The notifier, once the build is over.
    pub fn into_notifier(self) -> Notifier {
        self.notifier
    }
}

impl Sink for Telling<'_> {
    fn event(&mut self, event: &Event) {
        self.notifier.event(event);
        self.inner.event(event);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.notifier.teller.progress = payload::Progress { done: snapshot.done, total: snapshot.total };
        for said in self.notifier.complaints.take() {
            self.tools.note(None, true, said);
        }
        self.inner.tick(snapshot);
    }

    fn done(&mut self, done: u32) {
        let progress = &mut self.notifier.teller.progress;
        progress.done = progress.done.max(done);
        self.inner.done(done);
    }

    fn finish(&mut self, closing: &str) {
        self.inner.finish(closing);
    }
}
