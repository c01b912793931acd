//! `rex-host queue`: what waits where.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rex_transport::Timestamp;
use serde_json::json;

use super::Environment;
use super::failure::Failure;
use super::output::{self, Output, tasks};
use super::place::{self, Common};
use super::submit::parse_queue;
use super::transfer;
use crate::clock;

#[derive(clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues with what waits, is in flight and is dead
    List {
        /// Print one JSON object a queue
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the oldest waiting tasks without taking them
    Peek {
        queue: String,
        /// Print one JSON object a task
        #[arg(long)]
        json: bool,
        /// At most so many tasks [default: 10; with --json: all]
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Take no more tasks from a queue, on every host and until it is resumed
    Pause {
        queue: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take tasks from a paused queue again
    Resume {
        queue: String,
        #[command(flatten)]
        common: Common,
    },
    /// Delete all waiting tasks of a queue; those in flight and dead ones stay
    Purge {
        queue: String,
        /// Do it; without this, only say how many there are
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Move all waiting tasks of a queue to another transport
    #[command(name = "move")]
    Move {
        queue: String,
        /// Transport to take the tasks from
        #[arg(long, value_name = "URI")]
        from: String,
        /// Transport to put them into
        #[arg(long, value_name = "URI")]
        to: String,
        #[command(flatten)]
        common: Common,
    },
}

pub(crate) fn queue(
    command: QueueCommand,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        QueueCommand::List { json, common } => {
            let mut transport = place::viewer(&common, &environment)?;
            let queues = transport.queues()?;
            let left_out = output::left_out(&mut *transport);
            if json {
                for status in &queues {
                    output.json(&json!({
                        "queue": status.queue.as_str(),
                        "waiting": status.waiting,
                        "delayed": status.delayed,
                        "in_flight": status.in_flight,
                        "dead": status.dead,
                        "oldest": status.oldest.map(clock::timestamp),
                        "paused": status.paused,
                    }))?;
                }
            } else {
                let rows: Vec<Vec<String>> = queues
                    .iter()
                    .map(|status| {
                        vec![
                            status.queue.to_string(),
                            status.waiting.to_string(),
                            status.delayed.to_string(),
                            status.in_flight.to_string(),
                            status.dead.to_string(),
                            status.oldest.map_or_else(String::new, age),
                            if status.paused { "paused" } else { "" }.to_owned(),
                        ]
                    })
                    .collect();
                let head = ["QUEUE", "WAITING", "DELAYED", "IN FLIGHT", "DEAD", "OLDEST", ""];
                output.table(&head, &rows)?;
            }
            if left_out && queues.is_empty() {
                output.finish()?;
                return Ok(ExitCode::FAILURE);
            }
        }
        QueueCommand::Peek { queue, json, limit, common } => {
            let queue = parse_queue(&queue)?;
            let mut transport = place::viewer(&common, &environment)?;
            let all = if json { u64::MAX >> 1 } else { 10 };
            let tasks = transport.peek(&queue, limit.unwrap_or(all))?;
            if json {
                for task in &tasks {
                    let rest = json!({
                        "id": task.id.0,
                        "queue": queue.as_str(),
                        "submitted": clock::timestamp(task.submitted),
                        "attempt": task.attempt,
                        "priority": task.priority,
                        "due": task.due.map(clock::timestamp),
                    });
                    output.json_with_payload(&rest, task.payload.as_str())?;
                }
            } else {
                let rows: Vec<Vec<String>> = tasks
                    .iter()
                    .map(|task| {
                        vec![
                            task.id.0.to_string(),
                            age(task.submitted),
                            task.due.map_or_else(String::new, clock::timestamp),
                            shown(task.payload.as_str()),
                        ]
                    })
                    .collect();
                output.table(&["TASK", "AGE", "DUE", "PAYLOAD"], &rows)?;
            }
        }
        QueueCommand::Pause { queue, common } => {
            let queue = parse_queue(&queue)?;
            let (_, mut transport) = place::submitter(&common, &environment)?;
            transport.pause(&queue, true)?;
            output.line(format_args!("queue {queue} is paused; running tasks go on"))?;
        }
        QueueCommand::Resume { queue, common } => {
            let queue = parse_queue(&queue)?;
            let (_, mut transport) = place::submitter(&common, &environment)?;
            transport.pause(&queue, false)?;
            output.line(format_args!("queue {queue} is worked again"))?;
        }
        QueueCommand::Purge { queue, yes, common } => {
            let queue = parse_queue(&queue)?;
            let mut transport = place::viewer(&common, &environment)?;
            if !yes {
                let status = transport.queues()?.into_iter().find(|status| status.queue == queue);
                let delayed = status.map_or(0, |status| status.delayed);
                let count = transport.poll(&queue)? + delayed;
                let wait = if count == 1 { "waits" } else { "wait" };
                let of_them = match delayed {
                    0 => String::new(),
                    delayed => format!(", {delayed} of them for their time"),
                };
                let text = format!("{} {wait} in queue {queue}{of_them}", tasks(count));
                return Err(Failure::new(text).hint(match count {
                    0 => "there is nothing to delete",
                    _ => "--yes deletes all of them; nothing was done",
                }));
            }
            let count = transport.purge(&queue)?;
            output.line(format_args!("{} deleted from queue {queue}", tasks(count)))?;
        }
        QueueCommand::Move { queue, from, to, common } => {
            let queue = parse_queue(&queue)?;
            let settings = common.place(&environment)?.settings()?;
            let moved = transfer::transfer(&settings, &from, &to, &queue)?;
            output.line(format_args!("{} moved from queue {queue}", tasks(moved.count)))?;
            if moved.came > 0 {
                let stay = if moved.came == 1 { "stays" } else { "stay" };
                output.line(format_args!("{} came meanwhile and {stay}", tasks(moved.came)))?;
            }
            if moved.kept > 0 {
                let stay = if moved.kept == 1 { "stays" } else { "stay" };
                output.line(format_args!(
                    "{} {stay}: a task of the same key waits or runs at the target",
                    tasks(moved.kept)
                ))?;
            }
            if moved.left > 0 {
                let (left, they) = match moved.left {
                    1 => ("1 delayed task stays".to_owned(), "its"),
                    left => (format!("{left} delayed tasks stay"), "their"),
                };
                output.line(format_args!("{left} until {they} time has come"))?;
            }
            if moved.doubled > 0 {
                let (are, were) = if moved.doubled == 1 { ("is", "was") } else { ("are", "were") };
                let text = format!("{} {are} at both stores", tasks(moved.doubled));
                return Err(Failure::new(text).hint(format!(
                    "at the old one they {were} taken from the move, because its connection broke or {to} \
                     did not answer for long; the rest waits there, and another move \
                     takes them along once more, unless a host has worked them"
                )));
            }
        }
    }
    output.finish()
}

/// How long ago.
pub(super) fn age(time: Timestamp) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    let then = u128::try_from(time.0).unwrap_or(0);
    let micros = u64::try_from(now.saturating_sub(then)).unwrap_or(u64::MAX);
    clock::age(Duration::from_micros(micros))
}

/// The start of a text, for a table.
pub(super) fn shown(text: &str) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
