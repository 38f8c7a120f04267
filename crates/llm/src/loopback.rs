//! Connecting to this machine and to no other: what a name stands for is looked at, not how it is written.

use std::net::IpAddr;

use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as _};

use crate::keys::is_this_machine;

/// A host that was to be this machine and is another.
#[derive(Debug, thiserror::Error)]
#[error(
    "its name stands for {0}, which is not this machine; no call is sent there (write https, or the address)"
)]
pub struct Away(IpAddr);

/// The addresses of this machine among those found. Where there is none the first of the others is told.
pub fn only_here(found: &ResolvedSocketAddrs) -> Result<ResolvedSocketAddrs, Away> {
    let mut here = DefaultResolver::default().empty();
    found.iter().filter(|found| is_this_machine(found.ip())).for_each(|found| here.push(*found));
    match found.first() {
        Some(first) if here.is_empty() => Err(Away(first.ip())),
        _ => Ok(here),
    }
}
