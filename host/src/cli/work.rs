//! `rex-host work`: drains one queue once.

use std::process::ExitCode;

use super::Environment;
use super::failure::Failure;
use super::output::{Output, tasks};
use super::place::Common;
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

pub(crate) fn work(
    args: WorkArgs,
    environment: Environment,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let queue = parse_queue(&args.queue)?;
    let mut place = args.common.place(&environment)?;
    // Beside a host that runs, and beside the same for other queues.
    if place.globals.name.is_none() {
        place.state = State::new(&place.state.dir, &format!("work-{queue}"))?;
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
    let counts = run::serve(place, &request).map_err(Failure::plain)?;
    output.line(format_args!("{} done in queue {queue}", tasks(counts.done)))?;
    let code = output.finish()?;
    if counts.failed > 0 {
        return Err(Failure::new(format!("{} failed", tasks(counts.failed)))
            .hint(format!("`rex-host dlq list --queue {queue}` tells why")));
    }
    Ok(code)
}
