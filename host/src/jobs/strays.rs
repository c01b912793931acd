//! Jobs in queues that this host does not have: hosts of unequal `job_queues`, or one that had more, or
//! a queue that is disabled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rex_transport::{QueueName, Transport};

use super::{Book, QUEUE};

/// Between two looks. What is there twice is not just being worked by another host.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Strays {
    looked: Option<Instant>,
    /// Queues that had jobs at the last look.
    seen: BTreeSet<QueueName>,
    said: BTreeSet<QueueName>,
}

impl Strays {
    /// Says of each queue that is not this host's once that jobs wait there. `spread`: over how many
    /// queues this host spreads jobs.
    pub(super) fn look(&mut self, transport: &mut dyn Transport, book: &Book, spread: u32) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        // That the store is away is said by whoever claims.
        let Ok(queues) = transport.queues() else { return };
        let number = |name: &QueueName| name.as_str().strip_prefix(QUEUE)?.parse::<u32>().ok();
        let waiting = queues.into_iter().filter(|status| status.waiting > 0);
        let strays: BTreeSet<QueueName> = waiting
            .map(|status| status.queue)
            .filter(|name| number(name).is_some() && !book.has_queue(name))
            .collect();
        self.said.retain(|name| strays.contains(name));
        for name in strays.intersection(&self.seen) {
            if self.said.insert(name.clone()) {
                let number = number(name).unwrap_or_default();
                let remedy = match number < spread {
                    true => "give it a worker in `asynctask_workers`".to_owned(),
                    false => format!(
                        "work them off with `rex-host work {name} --set job_queues={}`",
                        number + 1
                    ),
                };
                tracing::warn!(
                    "jobs wait in queue {name}, which this host does not work: unless another one \
                     does, {remedy}"
                );
            }
        }
        self.seen = strays;
    }
}
