//! The program: `rex-host`, or `rex` when it is called by that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    rex_host::cli::main(std::env::args_os())
}
