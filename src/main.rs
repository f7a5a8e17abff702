//! The process: exit status and signals. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(zlm::cli::main())
}
