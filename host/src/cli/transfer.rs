//! Moving what waits from one transport to another. A batch is claimed at the source, submitted at
//! the target, and only then finished at the source: an interruption leaves its tasks claimed, and
//! the next host or move takes them back. At most the batch in hand is then moved twice.

use std::time::{Duration, Instant};

use rex_transport::{Finished, Kind, NewTask, Outcome, Owner, QueueName, Uri, Want};

use super::failure::Failure;
use super::place::{options, refuse_memory};
use super::run::owner_id;
use crate::settings::Settings;

/// How many tasks an interruption can double.
const BATCH: usize = 200;
/// How often the source sees that we live.
const BEAT: Duration = Duration::from_secs(1);

pub(super) struct Moved {
    pub(super) count: u64,
    /// Tasks that stay because their time has not come.
    pub(super) left: u64,
}

/// Moves what is due.
///
/// # Errors
/// When either transport cannot be used; nothing is lost then.
pub(super) fn transfer(
    settings: &Settings,
    from: &str,
    to: &str,
    queue: &QueueName,
) -> Result<Moved, Failure> {
    refuse_memory(Some(from))?;
    refuse_memory(Some(to))?;
    let (from, to) = (Uri::parse(from)?, Uri::parse(to)?);
    if from == to {
        return Err(Failure::new(format!("both transports are {from}"))
            .hint("name the transport to leave with --from and the new one with --to"));
    }
    let owner = Owner { id: owner_id() };
    let mut source = rex_transport::open(&from, &options(settings, Some(owner)))?;
    let mut target = rex_transport::open(&to, &options(settings, None))?;
    let status = source.queues()?.into_iter().find(|status| status.queue == *queue);
    if status.is_some_and(|status| status.paused) {
        return Err(Failure::new(format!(
            "queue {queue} is paused at {from}: nothing can be taken"
        ))
        .hint("resume it first"));
    }
    let mut count = 0;
    let mut beat = Instant::now();
    loop {
        // Also what an interrupted move has left behind.
        if beat <= Instant::now() {
            source.rescue()?;
            beat = Instant::now() + BEAT;
        }
        let Some(claim) = source.claim(queue, &Want::tasks(BATCH))? else { break };
        let mut attributes = source.attributes(claim.id)?;
        let tasks: Vec<NewTask> = claim
            .tasks
            .iter()
            .map(|task| NewTask {
                queue: queue.clone(),
                payload: task.payload.clone(),
                attributes: attributes.remove(&task.id).unwrap_or_default(),
            })
            .collect();
        if let Err(error) = target.submit(&tasks) {
            // Whether the target has them is not known; the source still does.
            source.close()?;
            let refused = error.kind == Kind::Invalid;
            let failure = Failure::from(error);
            return Err(match refused {
                true => failure.hint(format!(
                    "{count} tasks were moved; the rest waits at {from} for a store that can"
                )),
                false => failure,
            });
        }
        let done = claim.tasks.iter().map(|task| Finished {
            claim: claim.id,
            task: task.id,
            outcome: Outcome::Done,
            submits: Vec::new(),
        });
        let done: Vec<Finished> = done.collect();
        source.finish(&done)?;
        count += done.len() as u64;
    }
    let status = source.queues()?.into_iter().find(|status| status.queue == *queue);
    let left = status.map_or(0, |status| status.delayed);
    source.close()?;
    Ok(Moved { count, left })
}
