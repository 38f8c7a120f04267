//! The proxy that the environment names (`HTTPS_PROXY` and its like).

use ureq::config::Config;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// The proxy on the way to an address, if there is one.
pub fn on_the_way<'a>(config: &'a Config, uri: &Uri) -> Option<&'a Proxy> {
    config.proxy().filter(|proxy| !proxy.is_no_proxy(uri))
}

/// Why a proxy on the way to an address cannot be used. To go without it would be to go where its owner did not mean to.
pub fn unusable(config: &Config, uri: &Uri) -> Option<String> {
    let proxy = on_the_way(config, uri)?;
    if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return None;
    }
    let scheme = proxy.uri().scheme_str().unwrap_or("socks");
    Some(format!(
        "the environment names the proxy {scheme}://{}:{}, of a kind that planexe does not speak; \
         `HTTPS_PROXY` takes an http:// one, and `NO_PROXY` names hosts that are reached without",
        proxy.host(),
        proxy.port()
    ))
}
