//! `planexe events --deliver`: sends what waits in the outbox.

use serde::Serialize;

use crate::commands::Session;
use crate::ops::build::check_addresses;
use planexe_base::exit::{self, Error};
use planexe_base::style::count;
use planexe_notify::post::{Delivered, deliver_now};
use planexe_notify::{Receivers, outbox, receivers};

/// The answer, as data.
#[derive(Debug, Serialize)]
struct View {
    /// What became of the events, by receiver.
    webhooks: Vec<Delivered>,
    /// Events whose receiver is not known now.
    unknown: Vec<Unknown>,
}

/// Events that wait for a receiver that is not known now.
#[derive(Debug, Serialize)]
struct Unknown {
    /// Its name on disk.
    receiver: String,
    /// How many.
    waiting: usize,
}

/// Delivers. `urls`: addresses that were given to builds with `--webhook`.
pub fn run(session: &Session, urls: &[String]) -> Result<u8, Error> {
    let opened = session.open(true)?;
    check_addresses(urls)?;
    let run = opened.store.run_dir();
    let Receivers { receivers, faults } = receivers(&opened.project, &session.keys()?, urls);
    for fault in faults {
        session.say(&format!("warning: {fault}"));
    }
    let delivered: Vec<Delivered> = receivers.iter().map(|receiver| deliver_now(run, receiver)).collect();
    let unknown: Vec<Unknown> = outbox::waiting(run)
        .into_iter()
        .filter(|(name, _)| receivers.iter().all(|receiver| receiver.folder != *name))
        .map(|(receiver, waiting)| Unknown { receiver, waiting })
        .collect();
    let is_left = !unknown.is_empty();
    let waiting: usize = delivered.iter().map(|one| one.waiting).sum();
    if !session.globals.json {
        for one in &delivered {
            if let Some(error) = &one.error {
                session.complain(&format!(
                    "{}: {error}; {} waiting",
                    one.webhook,
                    count(one.waiting as u64, "event")
                ));
            }
        }
        for one in &unknown {
            let events = count(one.waiting as u64, "event");
            session.say(&match one.receiver.split_once('.') {
                Some(("name", name)) => format!(
                    "{events} waiting for webhook `{name}`, whose address is not known now; `rm -r .planexe/outbox/{}` drops them",
                    one.receiver
                ),
                // Addresses may be secrets, so none is written down: only whoever gave it knows it.
                Some(("url", _)) => format!(
                    "{events} waiting for an address given with --webhook, which is kept nowhere: \
                     `planexe events --deliver --webhook URL` sends them, `rm -r .planexe/outbox/{}` drops them",
                    one.receiver
                ),
                _ => format!("{events} waiting for the address in {}", planexe_notify::URL_ENV),
            });
        }
        let out: usize = delivered.iter().map(|one| one.delivered).sum();
        session.say(&match (out, waiting) {
            (0, 0) if !unknown.is_empty() => "nothing could be delivered".to_owned(),
            (0, 0) => "nothing to deliver".to_owned(),
            (out, _) => format!("{} delivered", count(out as u64, "event")),
        });
    } else {
        session.print_answer(run, &View { webhooks: delivered, unknown })?;
    }
    Ok(if waiting > 0 || is_left { exit::FAILED } else { exit::DONE })
}
