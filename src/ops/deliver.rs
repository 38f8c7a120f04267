//! Sends the events that wait in the outbox.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ops::Session;
use crate::ops::build::check_addresses;
use planexe_base::exit::Error;
use planexe_notify::post::{Delivered, deliver_now};
use planexe_notify::{Receivers, outbox, receivers};
use planexe_pipeline::open::Opened;

/// What became of the events, as data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deliveries {
    /// What became of the events, by receiver.
    pub webhooks: Vec<Delivered>,
    /// Events whose receiver is not known now.
    pub unknown: Vec<Unknown>,
}

/// Events that wait for a receiver that is not known now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unknown {
    /// Its name on disk.
    pub receiver: String,
    /// How many.
    pub waiting: usize,
}

/// Sends what waits to each receiver. `urls`: addresses that were given to builds with `--webhook`.
pub fn deliver(session: &Session, opened: &Opened, urls: &[String]) -> Result<Deliveries, Error> {
    check_addresses(urls)?;
    let run = opened.store.run_dir();
    let Receivers { receivers, faults } = receivers(&opened.project, &session.keys()?, urls);
    for fault in faults {
        session.notice(&format!("warning: {fault}"));
    }
    let webhooks = receivers.iter().map(|receiver| deliver_now(run, receiver)).collect();
    let unknown = outbox::waiting(run)
        .into_iter()
        .filter(|(name, _)| receivers.iter().all(|receiver| receiver.folder != *name))
        .map(|(receiver, waiting)| Unknown { receiver, waiting })
        .collect();
    Ok(Deliveries { webhooks, unknown })
}
