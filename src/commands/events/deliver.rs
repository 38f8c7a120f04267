//! `planexe events --deliver`: sends what waits in the outbox.

use crate::commands::Session;
use crate::ops::deliver::{Deliveries, deliver};
use planexe_base::exit::{self, Error};
use planexe_base::style::count;

/// Delivers. `urls`: addresses that were given to builds with `--webhook`.
pub(super) fn run(session: &Session, urls: &[String]) -> Result<u8, Error> {
    let opened = session.open(true)?;
    let deliveries = deliver(session, &opened, urls)?;
    let waiting: usize = deliveries.webhooks.iter().map(|one| one.waiting).sum();
    let is_left = waiting > 0 || !deliveries.unknown.is_empty();
    if session.globals.json {
        session.print_answer(opened.store.run_dir(), &deliveries)?;
    } else {
        tell(session, &deliveries, waiting);
    }
    Ok(if is_left { exit::FAILED } else { exit::DONE })
}

fn tell(session: &Session, Deliveries { webhooks, unknown }: &Deliveries, waiting: usize) {
    for one in webhooks {
        if let Some(error) = &one.error {
            session.complain(&format!(
                "{}: {error}; {} waiting",
                one.webhook,
                count(one.waiting as u64, "event")
            ));
        }
    }
    for one in unknown {
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
    let out: usize = webhooks.iter().map(|one| one.delivered).sum();
    session.say(&match (out, waiting) {
        (0, 0) if !unknown.is_empty() => "nothing could be delivered".to_owned(),
        (0, 0) => "nothing to deliver".to_owned(),
        (out, _) => format!("{} delivered", count(out as u64, "event")),
    });
}
