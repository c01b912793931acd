//! `rex-host submit`: tasks from arguments or, in bulk, from standard input.

mod lines;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use rex_transport::{
    Attributes, Due, Kind, NewTask, Payload, PayloadError, QueueName, Submitted, TaskId, Timestamp,
    Transport,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Environment;
use super::failure::Failure;
use super::output::{Output, is_gone, tasks};
use super::place::{self, Common};
use crate::clock;
use lines::{Lines, Next};

/// Tasks that are written in one transaction, at most.
const BATCH: usize = 1000;
/// Bytes of payloads that are; one task may have more. No store takes a statement of any length.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes that a line may have beside its payload.
const AROUND: usize = 1 << 20;

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
    /// Not before so much time has passed: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = clock::span, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Not before this moment: RFC 3339, or local time without zone
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    at: Option<Timestamp>,
    /// Lower numbers are worked first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i16,
    /// Put nothing in while an unfinished task of the queue has this key
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Print one JSON object a task: its id and queue, and `existed` if its key was there
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
    /// Seconds.
    delay: Option<f64>,
    at: Option<String>,
    priority: Option<i16>,
    unique: Option<String>,
}

pub(crate) fn submit(
    args: SubmitArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let queue = args.queue.as_deref().map(parse_queue).transpose()?;
    let (settings, mut transport) = place::submitter(&args.common, &environment)?;
    let limit = usize::try_from(settings.payload_limit).unwrap_or(usize::MAX);
    let due = match (args.delay, args.at) {
        (Some(delay), _) => Due::In(delay),
        (None, Some(at)) => Due::At(at),
        (None, None) => Due::Now,
    };
    let attributes = Attributes { priority: args.priority, due, unique: args.unique };
    match (queue, args.payload.as_deref()) {
        (Some(queue), Some(text)) if text != "-" => {
            let payload = parse_payload(text, limit)?;
            let done =
                transport.submit(&[NewTask { queue: queue.clone(), payload, attributes }])?;
            let done = done.first().copied().unwrap_or(Submitted { id: TaskId(0), existed: false });
            if args.json {
                output.json(&answer(done, &queue))?;
            } else if done.existed {
                let id = done.id.0;
                output.line(format_args!("task {id} in queue {queue} has this key already"))?;
            } else {
                output.line(format_args!("task {} in queue {queue}", done.id.0))?;
            }
        }
        (queue, _) => {
            let form = Form { queue, attributes, limit };
            let count = bulk(&mut *transport, &form, args.json, output)?;
            if !args.json {
                output.line(format_args!("{} submitted", tasks(count)))?;
            }
        }
    }
    output.finish()
}

fn answer(done: Submitted, queue: &QueueName) -> Value {
    let mut answer = json!({"id": done.id.0, "queue": queue.as_str()});
    if done.existed {
        answer["existed"] = true.into();
    }
    answer
}

/// How lines of standard input are understood.
struct Form {
    /// `None`: each line names its own.
    queue: Option<QueueName>,
    /// What the command line says; a line that names its queue may say otherwise.
    attributes: Attributes,
    /// Bytes of the largest payload.
    limit: usize,
}

/// Submits line by line, a batch at a time; a bad line ends it, and says what went before.
fn bulk(
    transport: &mut dyn Transport,
    form: &Form,
    show: bool,
    output: &mut Output,
) -> Result<u64, Failure> {
    let mut batch = Batch::default();
    let mut count = 0;
    let mut show = show;
    // Lines whose tasks are in the store.
    let mut in_store = 0;
    let mut flush = |batch: &mut Batch, lines: usize, output: &mut Output| {
        let (done, failed) = match transport.submit(&batch.tasks) {
            Ok(done) => (done.into_iter().enumerate().collect(), None),
            Err(mut error) => (std::mem::take(&mut error.taken), Some(error)),
        };
        count += done.iter().filter(|(_, done)| !done.existed).count() as u64;
        for (at, done) in &done {
            if !show {
                break;
            }
            match output.json(&answer(*done, &batch.tasks[*at].queue)) {
                // That nobody reads the answers is no reason to leave the rest out.
                Err(failure) if is_gone(&failure) => show = false,
                written => written?,
            }
        }
        if let Some(error) = failed {
            let taken: Vec<usize> = done.iter().map(|(at, _)| *at).collect();
            let mut so_far = format!("{}{}", tasks(count), batch.so_far(in_store, &taken));
            if error.kind == Kind::Unreachable {
                so_far.push_str(
                    ", unless the lost connection has taken an answer with it: see `queue list`",
                );
            }
            let failure = Failure::from(error);
            let hint = match &failure.hint {
                Some(hint) => format!("{hint}; {so_far}"),
                None => so_far,
            };
            return Err(failure.hint(hint));
        }
        in_store = lines;
        *batch = Batch::default();
        Ok::<(), Failure>(())
    };
    let mut input = Lines::open(form.limit.saturating_add(AROUND)).map_err(unread)?;
    let mut n = 0;
    loop {
        let task = match input.next(!batch.tasks.is_empty()) {
            Ok(Next::End) => break,
            Ok(Next::Dry) => {
                flush(&mut batch, n, output)?;
                continue;
            }
            Ok(Next::TooLong(size)) => {
                let refused = PayloadError::TooLarge { size, limit: form.limit };
                Err(Failure::new(refused.to_string()))
            }
            Ok(Next::Line(line)) => match line.trim() {
                "" => Ok(None),
                text => form.parse(text).map(Some),
            },
            Err(error) => Err(unread(error)),
        };
        n += 1;
        match task {
            Ok(None) => {}
            Ok(Some(task)) => {
                batch.bytes += task.payload.len();
                batch.tasks.push(task);
                batch.lines.push(n);
            }
            Err(failure) => {
                // What was read before the bad line is whole: it is submitted, and said to be.
                flush(&mut batch, n - 1, output)?;
                let text = format!("line {n}: {}", failure.text);
                let were = if count == 1 { "was" } else { "were" };
                let hint = format!("{} from the lines before it {were} submitted", tasks(count));
                return Err(Failure::new(text).hint(hint));
            }
        }
        if batch.tasks.len() == BATCH || batch.bytes >= BATCH_BYTES {
            flush(&mut batch, n, output)?;
        }
    }
    if !batch.tasks.is_empty() {
        flush(&mut batch, usize::MAX, output)?;
    }
    Ok(count)
}

fn unread(error: io::Error) -> Failure {
    Failure::new("cannot read standard input").because(&error)
}

/// Tasks, each with the number of its line.
#[derive(Default)]
struct Batch {
    tasks: Vec<NewTask>,
    lines: Vec<usize>,
    /// Of their payloads.
    bytes: usize,
}

impl Batch {
    /// How to go on when only those `taken` were, by their place, and all of the first `in_store` lines.
    fn so_far(&self, in_store: usize, taken: &[usize]) -> String {
        let last = taken.last().map_or(in_store, |at| self.lines[*at]);
        let before = self.lines.iter().take_while(|line| **line < last).enumerate();
        let left: Vec<String> = before
            .filter(|(at, _)| !taken.contains(at))
            .map(|(_, line)| line.to_string())
            .collect();
        let (but, these) = match left.is_empty() {
            true => (String::new(), ""),
            false => (format!(" but {}", left.join(", ")), "submit these, and "),
        };
        format!(
            ", those of the first {last} lines{but}, were submitted before; {these}begin again with line {}",
            last + 1
        )
    }
}

impl Form {
    fn parse(&self, text: &str) -> Result<NewTask, Failure> {
        if let Some(queue) = &self.queue {
            let payload = parse_payload(text, self.limit)?;
            return Ok(NewTask {
                queue: queue.clone(),
                payload,
                attributes: self.attributes.clone(),
            });
        }
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| {
            Failure::new(format!("expected {{\"queue\": …, \"payload\": {{…}}}}: {error}"))
        })?;
        let payload = line.payload.map_or("{}", RawValue::get);
        let due = match (line.delay, &line.at) {
            (Some(_), Some(_)) => return Err(Failure::new("delay and at: only one of them")),
            (Some(seconds), None) => {
                Due::In(clock::span(&seconds.to_string()).map_err(Failure::new)?)
            }
            (None, Some(at)) => Due::At(clock::moment(at).map_err(Failure::new)?),
            (None, None) => self.attributes.due,
        };
        Ok(NewTask {
            queue: parse_queue(&line.queue)?,
            payload: parse_payload(payload, self.limit)?,
            attributes: Attributes {
                priority: line.priority.unwrap_or(self.attributes.priority),
                due,
                unique: line.unique.or_else(|| self.attributes.unique.clone()),
            },
        })
    }
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

#[cfg(test)]
mod tests {
    use super::Batch;

    #[test]
    fn who_begins_again_doubles_none() {
        // Line 12 was empty.
        let batch = Batch { lines: vec![11, 13, 14, 15], ..Batch::default() };
        let so_far = |taken: &[usize]| batch.so_far(10, taken);
        let begin = |line| format!("were submitted before; begin again with line {line}");
        assert_eq!(so_far(&[]), format!(", those of the first 10 lines, {}", begin(11)));
        assert_eq!(so_far(&[0, 1]), format!(", those of the first 13 lines, {}", begin(14)));
        assert_eq!(
            so_far(&[0, 3]),
            ", those of the first 15 lines but 13, 14, were submitted before; submit these, and begin \
             again with line 16"
        );
    }
}
