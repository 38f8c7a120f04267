//! Looking a name up and connecting, in threads that can be left behind: nothing interrupts them.

use std::fmt;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport};

use crate::watchdog::{TICK, Watch};

/// The one connector of the process: its TLS set-up is made once.
pub(super) fn connector() -> Arc<DefaultConnector> {
    static CONNECTOR: OnceLock<Arc<DefaultConnector>> = OnceLock::new();
    Arc::clone(CONNECTOR.get_or_init(Arc::default))
}

/// Does something in a thread that can be left behind, since nothing interrupts it: a name server's silence,
/// a connection nobody takes. None once the call is to end, or its time for this is up.
fn apart<T: Send + 'static>(
    name: &str,
    watch: &Watch,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(move || {
        let _ = sender.send(work());
    })?;
    let started = Instant::now();
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(found) => return Ok(Some(found)),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) if watch.check() || started.elapsed() >= limit => {
                return Ok(None);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

/// How long a connection to this machine may take before it is waited for apart.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Connects apart from the call.
pub(super) struct Dial(pub(super) Arc<Watch>);

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

impl Connector<()> for Dial {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let (uri, config) = (details.uri.clone(), details.config.clone());
        let mut addrs = details.resolver.empty();
        details.addrs.iter().for_each(|addr| addrs.push(*addr));
        let (request_level, now) = (details.request_level, details.now);
        let current_time = Arc::clone(&details.current_time);
        let run_connector = Arc::clone(&details.run_connector);
        let register_shutdown = Arc::clone(&details.register_shutdown);
        let plain_and_local = !details.needs_tls() && addrs.iter().all(|addr| addr.ip().is_loopback());
        let connect = move |timeout: NextTimeout| {
            let details = ConnectionDetails {
                uri: &uri,
                addrs: addrs.clone(),
                config: &config,
                request_level,
                resolver: &DefaultResolver::default(),
                now,
                timeout,
                current_time: Arc::clone(&current_time),
                run_connector: Arc::clone(&run_connector),
                register_shutdown: Arc::clone(&register_shutdown),
            };
            connector().connect(&details, chained)
        };
        let timeout = details.timeout;
        if plain_and_local {
            // This machine takes or refuses a connection at once, which spares the thread, unless the
            // server's queue is full.
            let mut brief = timeout;
            brief.after = (*timeout.after).min(AT_ONCE).into();
            match connect(brief) {
                Err(ureq::Error::Timeout(_)) => {}
                result => return result,
            }
        }
        let connected = apart("connect", &self.0, *timeout.after, move || connect(timeout));
        connected?.unwrap_or(Err(ureq::Error::Timeout(timeout.reason)))
    }
}

/// Looks names up apart from the call. Addresses and `localhost` need none. What it finds is what is connected to.
pub(super) struct Lookup {
    pub(super) watch: Arc<Watch>,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut unbounded = timeout;
        unbounded.after = ureq::unversioned::transport::time::Duration::NotHappening;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" {
            return DefaultResolver::default().resolve(uri, config, unbounded);
        }
        let (uri, config) = (uri.clone(), config.clone());
        let found = apart("lookup", &self.watch, *timeout.after, move || {
            DefaultResolver::default().resolve(&uri, &config, unbounded)
        });
        found?.unwrap_or(Err(ureq::Error::Timeout(timeout.reason)))
    }
}
