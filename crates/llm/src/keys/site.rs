//! Where a URL leads, and whether that is this machine.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::Duration;

/// How long a name may take to be looked up before a build.
const LOOKUP: Duration = Duration::from_secs(5);

/// Where a URL leads: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `https`, not `http`.
    pub secure: bool,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    /// As given, else 443 or 80.
    pub port: u16,
}

impl Site {
    /// Reads an `http` or `https` URL. One that carries a user name or password is refused.
    pub fn of(url: &str) -> Result<Site, String> {
        let wanted = || format!("`{url}` is not a URL; wanted one like `http://127.0.0.1:1234/v1`");
        let (scheme, rest) = url.split_once("://").ok_or_else(wanted)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wanted()),
        };
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("a URL with a user name or password in it is refused; use `api_key_env`".into());
        }
        let (host, port) = split_port(authority).ok_or_else(wanted)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wanted());
        }
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(Site { secure, host: host.trim_end_matches('.').to_ascii_lowercase(), port })
    }

    /// Whether it is written as this machine. What may be sent there hangs on the address that is connected to
    /// ([`is_this_machine`]): a name says what its name server says.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => is_this_machine(address),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// The addresses a URL's host has now; none if there are none, or nobody tells in time. The host is looked up as
    /// it is written in the URL: with a dot at its end it may be another.
    pub(super) fn addresses(&self, url: &str) -> Vec<IpAddr> {
        if let Ok(address) = self.host.parse::<IpAddr>()
            && !written_host(url).ends_with('.')
        {
            return vec![address];
        }
        let (host, port) = (written_host(url).to_owned(), self.port);
        let (sender, receiver) = mpsc::channel();
        // Nothing interrupts a name server's silence: the thread is left behind.
        let look = move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let _ = sender.send(found.map(|all| all.map(|one| one.ip()).collect()).unwrap_or_default());
        };
        match std::thread::Builder::new().name("lookup".into()).stack_size(256 * 1024).spawn(look) {
            Ok(_) => receiver.recv_timeout(LOOKUP).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether a binding's `host` or `host:port` means this place. Without a port the usual one is meant.
    pub(super) fn is(&self, bound: &str) -> bool {
        let Some((host, port)) = split_port(bound.trim()) else { return false };
        let usual = if self.secure { 443 } else { 80 };
        host.eq_ignore_ascii_case(&self.host) && port.unwrap_or(usual) == self.port
    }

    /// What is typed to bind a key to it: the host, and the port unless it is the usual one.
    pub fn binding(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// Whether an address is this machine, in whatever form: what is sent there leaves it by no wire.
pub fn is_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // The unspecified addresses are connected to as loopback.
    address.is_loopback() || address.is_unspecified()
}

/// The host of a URL that [`Site::of`] took, as it is written there, without brackets.
pub(super) fn written_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    split_port(authority).map_or(authority, |(host, _)| host)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; None if the port is no number.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    match port {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => Some((host, None)),
    }
}
