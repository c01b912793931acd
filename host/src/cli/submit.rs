//! `rex-host submit`: tasks from arguments or, in bulk, from standard input.

use std::io::{self, BufRead};
use std::process::ExitCode;

use rex_transport::{NewTask, Payload, QueueName, TaskId, Transport};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Environment;
use super::failure::Failure;
use super::output::Output;
use super::place::{self, Common};

/// Tasks that are written in one transaction.
const BATCH: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct SubmitArgs {
    /// The queue; without it each line of standard input names its own
    queue: Option<String>,
    /// A JSON object; `-` for one on each line of standard input
    #[arg(required_unless_present = "stdin", conflicts_with = "stdin")]
    payload: Option<String>,
    /// Read lines {"queue": …, "payload": {…}} from standard input
    #[arg(long, conflicts_with = "queue")]
    stdin: bool,
    /// Print one JSON object a task: its id and queue
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// A line of standard input without a queue on the command line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    queue: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

pub(crate) fn submit(
    args: SubmitArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let queue = args.queue.as_deref().map(parse_queue).transpose()?;
    let (settings, mut transport) = place::submitter(&args.common, &environment)?;
    let limit = usize::try_from(settings.payload_limit).unwrap_or(usize::MAX);
    match (queue, args.payload.as_deref()) {
        (Some(queue), Some(text)) if text != "-" => {
            let payload = parse_payload(text, limit)?;
            let ids = transport.submit(&[NewTask::plain(queue.clone(), payload)])?;
            let id = ids.first().map_or(TaskId(0), |done| done.id);
            if args.json {
                output.json(&json!({"id": id.0, "queue": queue.as_str()}))?;
            } else {
                output.line(format_args!("task {} in queue {queue}", id.0))?;
            }
        }
        (queue, _) => {
            let count = bulk(&mut *transport, queue.as_ref(), limit, args.json, output)?;
            if !args.json {
                output.line(format_args!("{count} tasks submitted"))?;
            }
        }
    }
    output.finish()
}

/// Submits line by line, a batch at a time; a bad line ends it, and says what went before.
fn bulk(
    transport: &mut dyn Transport,
    queue: Option<&QueueName>,
    limit: usize,
    show: bool,
    output: &mut Output,
) -> Result<u64, Failure> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut count = 0;
    let mut flush = |batch: &mut Vec<NewTask>, output: &mut Output| -> Result<(), Failure> {
        let ids = transport.submit(batch)?;
        if show {
            for (done, task) in ids.iter().zip(batch.iter()) {
                output.json(&json!({"id": done.id.0, "queue": task.queue.as_str()}))?;
            }
        }
        count += batch.len() as u64;
        batch.clear();
        Ok(())
    };
    for (n, line) in io::stdin().lock().lines().enumerate() {
        let task = line
            .map_err(|error| Failure::new("cannot read standard input").because(&error))
            .and_then(|line| match line.trim() {
                "" => Ok(None),
                text => parse_line(text, queue, limit).map(Some),
            });
        match task {
            Ok(None) => {}
            Ok(Some(task)) => batch.push(task),
            Err(failure) => {
                // What was read before the bad line is whole: it is submitted, and said to be.
                flush(&mut batch, output)?;
                let text = format!("line {}: {}", n + 1, failure.text);
                let hint = format!("{count} tasks from the lines before it were submitted");
                return Err(Failure::new(text).hint(hint));
            }
        }
        if batch.len() == BATCH {
            flush(&mut batch, output)?;
        }
    }
    if !batch.is_empty() {
        flush(&mut batch, output)?;
    }
    Ok(count)
}

fn parse_line(text: &str, queue: Option<&QueueName>, limit: usize) -> Result<NewTask, Failure> {
    if let Some(queue) = queue {
        return Ok(NewTask::plain(queue.clone(), parse_payload(text, limit)?));
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| {
        Failure::new(format!("expected {{\"queue\": …, \"payload\": {{…}}}}: {error}"))
    })?;
    let payload = line.payload.map_or("{}", RawValue::get);
    Ok(NewTask::plain(parse_queue(&line.queue)?, parse_payload(payload, limit)?))
}

pub(super) fn parse_queue(name: &str) -> Result<QueueName, Failure> {
    QueueName::parse(name).map_err(|error| {
        Failure::new(error.to_string()).hint(
            "lower-case letters, digits and single underscores; two or more, beginning with a \
             letter and not ending with an underscore",
        )
    })
}

fn parse_payload(text: &str, limit: usize) -> Result<Payload, Failure> {
    Payload::parse(text, limit).map_err(|error| Failure::new(error.to_string()))
}
