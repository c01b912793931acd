//! `rex-host dlq`: tasks that failed for good.

use std::process::ExitCode;

use rex_transport::DeadQuery;
use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::{self, Common};
use super::queue::{age, payload_value, shown};
use super::submit::parse_queue;
use crate::clock;

#[derive(clap::Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, oldest death first
    List {
        /// Only of this queue
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Print one JSON object a dead letter, with everything known
        #[arg(long)]
        json: bool,
        /// At most so many [default: 100; with --json: all]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
}

pub(crate) fn dlq(
    command: DlqCommand,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let DlqCommand::List { queue, json, limit, common } = command;
    let queue = queue.as_deref().map(parse_queue).transpose()?;
    let mut transport = place::viewer(&common, &environment)?;
    let limit = limit.or(if json { None } else { Some(100) });
    let letters = transport.dead_letters(&DeadQuery { queue, limit, after: None })?;
    if json {
        for letter in &letters {
            output.json(&json!({
                "id": letter.id.0,
                "queue": letter.queue.as_str(),
                "submitted": clock::timestamp(letter.submitted),
                "died": clock::timestamp(letter.died),
                "attempts": letter.attempts,
                "reason": letter.death.reason,
                "details": letter.death.details,
                "payload": payload_value(letter.payload.as_str()),
            }))?;
        }
    } else {
        let rows: Vec<Vec<String>> = letters
            .iter()
            .map(|letter| {
                vec![
                    letter.id.0.to_string(),
                    letter.queue.to_string(),
                    age(letter.died),
                    letter.attempts.to_string(),
                    shown(&letter.death.reason),
                ]
            })
            .collect();
        output.table(&["TASK", "QUEUE", "DIED", "ATTEMPTS", "REASON"], &rows)?;
    }
    output.finish()
}
