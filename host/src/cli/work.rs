//! `rex-host work`: drains one queue once.

use std::process::ExitCode;

use rex_transport::QueueName;
use sha2::{Digest, Sha256};

use super::Environment;
use super::failure::Failure;
use super::output::{Output, tasks};
use super::place::{self, Common};
use super::plan::Only;
use super::run::{self, Request};
use super::submit::parse_queue;
use crate::log::Format;
use crate::state::State;

#[derive(clap::Args)]
pub(crate) struct WorkArgs {
    queue: String,
    /// Worker to use instead of the configured one
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Print errors only
    #[arg(short, long)]
    quiet: bool,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    #[command(flatten)]
    common: Common,
}

/// Of one queue: a file's name, whatever the queue's is.
fn instance(queue: &QueueName) -> String {
    const LONGEST: usize = 200;
    let name = queue.as_str();
    match name.len() <= LONGEST {
        true => format!("work-{name}"),
        false => {
            let hash = Sha256::digest(name);
            let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("work-{}-{hash}", &name[..LONGEST])
        }
    }
}

pub(crate) fn work(
    args: WorkArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let queue = parse_queue(&args.queue)?;
    let mut place = args.common.place(&environment)?;
    // Beside a host that runs, and beside the same for other queues.
    if place.globals.name.is_none() {
        place.state = State::new(&place.state.dir, &instance(&queue))?;
    }
    let request = Request {
        scheduler: false,
        quiet: args.quiet,
        halt_when_empty: true,
        watch: false,
        format: args.log_format,
        original: false,
        only: Some(Only { queue: queue.clone(), worker: args.worker }),
    };
    let counts = run::serve(place, &request)?;
    output.line(format_args!("{} done in queue {queue}", tasks(counts.done)))?;
    // A store in memory is gone by now.
    let mut status = None;
    if let Ok(mut transport) = place::viewer(&args.common, &environment) {
        status = transport.queues()?.into_iter().find(|status| status.queue == queue);
    }
    if let Some(status) = status {
        if status.paused {
            output
                .line(format_args!("queue {queue} is paused, {} in it", tasks(status.waiting)))?;
        }
        if status.delayed > 0 {
            output.line(match status.delayed {
                1 => "1 task waits for its time".to_owned(),
                delayed => format!("{delayed} tasks wait for their time"),
            })?;
        }
    }
    let code = output.finish()?;
    if counts.failed > 0 {
        return Err(Failure::new(format!("{} failed", tasks(counts.failed)))
            .hint(format!("`rex-host dlq list --queue {queue}` tells why")));
    }
    Ok(code)
}
