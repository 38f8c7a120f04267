//! The binary: an exit code, and the pipeline that comes with it.

use std::process::ExitCode;

mod bundle;

fn main() -> ExitCode {
    planexe::cli::main(bundle::FILES).into()
}
