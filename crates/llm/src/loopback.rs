//! Connecting only to this machine: the resolved address decides, not how the name is written.

use std::net::IpAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::keys::is_this_machine;

/// A host that was to be this machine and is another.
#[derive(Debug, thiserror::Error)]
#[error(
    "its name stands for {0}, which is not this machine; no call is sent there (write https, or the address)"
)]
pub struct Away(IpAddr);

/// The addresses of this machine among those found. Where there is none the first of the others is told.
fn only_here(found: &ResolvedSocketAddrs) -> Result<ResolvedSocketAddrs, Away> {
    let mut here = DefaultResolver::default().empty();
    found.iter().filter(|found| is_this_machine(found.ip())).for_each(|found| here.push(*found));
    match found.first() {
        Some(first) if here.is_empty() => Err(Away(first.ip())),
        _ => Ok(here),
    }
}

/// Looks names up for a connection. The check is part of the look-up that the connection is made from, so a name
/// that has changed since an earlier look leads nowhere else.
#[derive(Debug)]
pub struct HereOnly<R> {
    /// What looks names up.
    pub names: R,
    /// Whether other machines' addresses are refused.
    pub here_only: bool,
}

impl<R: Resolver> Resolver for HereOnly<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        if self.here_only {
            only_here(&found).map_err(|away| ureq::Error::Other(away.into()))
        } else {
            Ok(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;
    use ureq::Agent;
    use ureq::unversioned::transport::DefaultConnector;

    /// Answers each look-up with the next of its lists, the last for good.
    #[derive(Debug)]
    struct Changing(Mutex<Vec<Vec<SocketAddr>>>);

    impl Resolver for Changing {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut lists = self.0.lock();
            let list = if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() };
            let mut found = self.empty();
            list.into_iter().for_each(|addr| found.push(addr));
            Ok(found)
        }
    }

    /// Calls a name as often as there are lists, and says of each call whether this machine answered.
    fn calls(
        here_only: bool,
        lists: impl Fn(SocketAddr) -> Vec<Vec<SocketAddr>>,
    ) -> Vec<Result<u16, String>> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            }
        });
        let lists = lists(here);
        let count = lists.len();
        let config = Agent::config_builder()
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(Duration::from_secs(5)))
            .build();
        let names = HereOnly { names: Changing(Mutex::new(lists)), here_only };
        let agent = Agent::with_parts(config, DefaultConnector::default(), names);
        let call = || agent.get("http://model.localhost/").call();
        let call = |_| call().map(|got| got.status().as_u16()).map_err(|error| error.to_string());
        (0..count).map(call).collect()
    }

    /// An address of no machine, and of none that is connected to.
    fn away() -> SocketAddr {
        "192.0.2.1:80".parse().unwrap()
    }

    #[test]
    fn a_name_that_changes_between_two_looks_is_refused_at_the_second() {
        let got = calls(true, |here| vec![vec![here], vec![away()], vec![here]]);
        assert_eq!((&got[0], &got[2]), (&Ok(204), &Ok(204)));
        let why = got[1].as_ref().unwrap_err();
        assert!(why.contains("its name stands for 192.0.2.1, which is not this machine"), "{why}");
    }

    #[test]
    fn only_the_addresses_of_this_machine_are_connected_to() {
        // Tried in order, the first would be waited for until the time is up.
        let got = calls(true, |here| vec![vec![away(), here], vec![here, away()]]);
        assert_eq!(got, [Ok(204), Ok(204)]);
        for other in
            ["10.0.0.1:80", "[::ffff:192.0.2.1]:80", "0.0.0.1:80", "[fe80::1]:80", "[2001:db8::1]:80"]
        {
            let got = calls(true, |_| vec![vec![other.parse().unwrap()]]);
            assert!(got[0].as_ref().is_err_and(|why| why.contains("not this machine")), "{other}: {got:?}");
        }
        // Where any machine may answer, so may this one.
        assert_eq!(calls(false, |here| vec![vec![here]]), [Ok(204)]);
    }
}
