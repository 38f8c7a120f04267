//! How the program is linked.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script its target by the environment")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // At a fixed address: 22,000 addresses need not be adjusted each time it starts, a third of the time that a
    // build with nothing to do takes (docs/performance.md). All that reads what others wrote is memory-safe code.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
        // What unwinds the stack after a panic, linked in: to load it as a library of its own takes as long at each
        // start as to look at 50 files.
        println!("cargo::rustc-link-lib=gcc_eh");
    }
}
