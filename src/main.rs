//! The binary: an exit code, and the pipeline that comes with it.
//!
//! Its entry point is the C library's and not Rust's, which reads `/proc/self/maps` to learn where the stack ends: a
//! tenth of a build with nothing to do (docs/performance.md). What Rust's does besides that matters here, this does too.

#![cfg_attr(not(test), no_main)]

mod bundle;

/// Exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main() -> std::ffi::c_int {
    planexe::fs::open_standard_streams();
    planexe::signals::survive_broken_pipes();
    match std::panic::catch_unwind(|| planexe::cli::main(bundle::FILES)) {
        // The standard library would first make the buffer that it then flushes.
        // SAFETY: no other thread is there that could end the program as well.
        Ok(ended) if !ended.printed => unsafe { libc::exit(ended.code.into()) },
        Ok(ended) => std::process::exit(ended.code.into()),
        Err(_) => std::process::exit(PANICKED),
    }
}

/// What of the C library's mathematics is used here, by estimates and by templates: with functions of its own the
/// program need not load that library, which takes as long at each start as to look at 60 files.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
mod math {
    #[unsafe(no_mangle)]
    extern "C" fn pow(base: f64, exponent: f64) -> f64 {
        libm::pow(base, exponent)
    }

    #[unsafe(no_mangle)]
    extern "C" fn log2(number: f64) -> f64 {
        libm::log2(number)
    }
}
