#![no_main]
#![allow(dead_code, reason = "each fuzzes one of the targets")]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = targets::mcp(bytes);
});
