//! The binary: an exit code, and the pipeline that comes with it.

mod bundle;

use std::process::ExitCode;

fn main() -> ExitCode {
    planexe::cli::main(bundle::FILES)
}
