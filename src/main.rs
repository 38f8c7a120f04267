//! The binary: an exit code, and the pipeline that comes with it.

use std::process::ExitCode;

/// Paths and texts of the pipeline, in the order of their names.
const BUNDLE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

fn main() -> ExitCode {
    planexe::signals_at_start::make_them_reach();
    planexe::cli::main(BUNDLE).into()
}
