//! `rex-host status`, `reload` and `stop`: talk to the running host of this state directory.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Environment;
use super::failure::Failure;
use super::output::{Output, how_far, tasks};
use super::place::{Common, Place};
use crate::control::{self, Answer, Request};

#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(crate) struct ReloadArgs {
    /// Only say what would change, or why nothing could
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(crate) struct StopArgs {
    /// Kill the tasks in hand; they come back uncharged
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn status(
    args: &StatusArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = args.common.place(&environment)?;
    let Answer::Status { status } = ask(&place, &Request::Status, output)? else {
        return Err(Failure::new("the host gave no status"));
    };
    if args.json {
        output.json(&status)?;
        return output.finish();
    }
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.1} s", number.as_f64().unwrap_or(0.0))
        }
        other => other.to_string(),
    };
    output.line(format_args!(
        "host {} (process {}) is {} on {}, up {}; {} done, {} failed",
        text(&status["instance"]),
        text(&status["pid"]),
        match status["phase"].as_str() {
            Some("store away") => "waiting for its store".to_owned(),
            _ => text(&status["phase"]),
        },
        text(&status["transport"]),
        crate::clock::age(Duration::from_secs(status["uptime_s"].as_u64().unwrap_or(0))),
        tasks(text(&status["done"])),
        text(&status["failed"]),
    ))?;
    let (mut rows, mut deaths) = (Vec::new(), Vec::new());
    for queue in status["queues"].as_array().into_iter().flatten() {
        for process in queue["processes"].as_array().into_iter().flatten() {
            let hash = text(&process["plugin_hash"]);
            if let Some(cause) = process["last_death"].as_str() {
                deaths.push(format!("the last process of queue {} {cause}", text(&queue["queue"])));
            }
            rows.push(vec![
                text(&queue["queue"]),
                text(&process["worker"]),
                format!("{} {}", text(&process["plugin"]), hash.get(..12).unwrap_or(&hash)),
                match process["restart_in_s"].as_f64() {
                    Some(seconds) => format!("{} in {seconds:.0} s", text(&process["state"])),
                    None => text(&process["state"]),
                },
                text(&process["pid"]),
                text(&process["task"]),
                text(&process["task_s"]),
                process["fraction"].as_f64().map_or(String::new(), |fraction| {
                    how_far(fraction, process["progress"].as_str())
                }),
            ]);
        }
    }
    let head = ["QUEUE", "WORKER", "PLUGIN", "STATE", "PROCESS", "TASK", "FOR", "PROGRESS"];
    output.table(&head, &rows)?;
    for death in deaths {
        output.line(death)?;
    }
    output.finish()
}

pub(crate) fn reload(
    args: &ReloadArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = args.common.place(&environment)?;
    // Reading anew may take its time; whether anybody is there shows at once.
    ask(&place, &Request::Status, output)?;
    match ask(&place, &Request::Reload { check: args.check }, output)? {
        Answer::Done { lines } => {
            for line in lines {
                output.line(line)?;
            }
            output.finish()
        }
        Answer::Partly { lines, failed } => {
            for line in lines {
                output.line(line)?;
            }
            output.finish()?;
            Err(Failure::new(failed.join("; ")).hint(
                "where a process cannot start, what it was to take over from serves on while the host \
                 tries again: see `rex-host status`; all else is reloaded",
            ))
        }
        Answer::Refused { reason } => Err(Failure::new(reason).hint("nothing was changed")),
        Answer::Status { .. } => Err(Failure::new("the host answered something else")),
    }
}

pub(crate) fn stop(
    args: &StopArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let place = args.common.place(&environment)?;
    // A host that does not answer now is not to obey later.
    ask(&place, &Request::Status, output)?;
    if let Answer::Refused { reason } = ask(&place, &Request::Stop { now: args.now }, output)? {
        return Err(Failure::new(reason));
    }
    let begun = Instant::now();
    // "Stopped" is to mean that the next host can start.
    place.state.wait_until_free()?;
    output.line(format_args!("stopped after {:.1} s", begun.elapsed().as_secs_f64()))?;
    output.finish()
}

/// How long a host may take to look at its plugins and to open its store.
const STARTING: Duration = Duration::from_secs(60);

/// After so long it is said what is waited for.
const LONG: Duration = Duration::from_secs(1);

fn ask(place: &Place, request: &Request, output: &mut Output) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let mut is_told = false;
    let is_absent = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    };
    let answer = loop {
        match control::ask(&place.state.control_socket(), request) {
            // It starts, or ends.
            Err(error)
                if is_absent(&error) && place.state.is_held() && begun.elapsed() < STARTING =>
            {
                if begun.elapsed() > LONG && !std::mem::replace(&mut is_told, true) {
                    let name = &place.state.instance;
                    output.remark(format_args!("host `{name}` is starting, or ending: waiting"));
                }
                thread::sleep(Duration::from_millis(20));
            }
            // A host that had nothing to do may be gone before it has said that it obeys.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && matches!(request, Request::Stop { .. }) =>
            {
                break Ok(Answer::Done { lines: Vec::new() });
            }
            answer => break answer,
        }
    };
    answer.map_err(|error| match error.kind() {
        _ if is_absent(&error) && place.state.is_held() => Failure::new(format!(
            "host `{}` on `{}` has been starting, or ending, for {} s",
            place.state.instance,
            place.state.dir.display(),
            begun.elapsed().as_secs()
        ))
        .hint("what it prints tells what it waits for"),
        _ if is_absent(&error) => Failure::new(format!(
            "no host `{}` is running on `{}`",
            place.state.instance,
            place.state.dir.display()
        ))
        .hint("name its state directory with --state, and its instance with --name"),
        io::ErrorKind::WouldBlock => {
            Failure::new(format!("host `{}` does not answer", place.state.instance)).hint(format!(
                "is it stopped, or does nobody read what it prints? its process id is in `{}`",
                place.state.own_dir().join("pid").display()
            ))
        }
        _ => Failure::new("cannot talk to the running host").because(&error),
    })
}
