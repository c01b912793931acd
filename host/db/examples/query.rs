//! The command `query` on its own: `cargo run -p rex-db --example query -- -d URI QUERY`.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rex_db::command::{Project, QueryArgs, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: QueryArgs,
}

#[expect(clippy::print_stderr, reason = "errors of a command go there")]
fn main() -> ExitCode {
    match run(Cli::parse().args, Project::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}
