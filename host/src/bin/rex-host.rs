//! The native command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    rex_host::cli::main(std::env::args_os())
}
