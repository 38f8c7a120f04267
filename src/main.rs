//! The binary: an exit code, nothing more.

use std::process::ExitCode;

fn main() -> ExitCode {
    planexe::cli::main()
}
