//! How the host ends: by an order, or because nothing is left to do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rex_transport::QueueName;

use super::{Host, SlotEvent, SlotId};
use crate::log::MASTER;
use crate::supervisor::Slot;

/// How long the store is given to record what it can when everything else was told to end now.
const LAST_CALL: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Working,
    /// Told to stop: no claims, tasks in hand are finished until the deadline.
    Draining {
        deadline: Instant,
    },
    /// Every slot is halted; what is left is to record outcomes.
    Closing {
        drained: bool,
        give_up_at: Instant,
    },
    Closed,
}

impl Host {
    /// The first order to stop drains, the second one is meant.
    pub(super) fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Working => {
                self.stop_scheduler();
                tracing::debug!(logger = MASTER, "Termination received; shutting down children");
                let deadline = now + self.plan.drain_timeout;
                self.setup.console.end(deadline);
                self.phase = Phase::Draining { deadline };
                self.all_slots(SlotEvent::Stop { deadline: Some(deadline), empty: false }, now);
            }
            Phase::Draining { deadline } => {
                self.setup.console.hurry();
                for running in self.processes.values_mut() {
                    running.excuse();
                }
                self.all_slots(SlotEvent::Kill, now);
                // Further orders do not put the end off.
                self.phase = Phase::Draining { deadline: deadline.min(now + LAST_CALL) };
            }
            Phase::Closing { drained, give_up_at } => {
                self.setup.console.hurry();
                let give_up_at = give_up_at.min(now + LAST_CALL);
                self.phase = Phase::Closing { drained, give_up_at };
            }
            Phase::Closed => {}
        }
    }

    fn stop_scheduler(&mut self) {
        let Some(scheduler) = self.setup.scheduler.take() else { return };
        let ran = !self.plan.schedules.entries.is_empty();
        if ran {
            tracing::debug!(logger = MASTER, "Termination received; shutting down scheduler");
        }
        scheduler.stop();
        if ran {
            tracing::debug!(logger = MASTER, "Scheduler dead");
        }
    }

    pub(super) fn advance_phase(&mut self, now: Instant) {
        self.forget_halted(now);
        if !self.slots.is_empty() {
            return;
        }
        match self.phase {
            Phase::Working if self.setup.halt_when_empty => {
                tracing::info!(logger = MASTER, "All workers halted; closing down...");
                let give_up_at = now + self.plan.drain_timeout;
                self.phase = Phase::Closing { drained: false, give_up_at };
            }
            Phase::Draining { deadline } => {
                // What the drain left behind is recorded after its deadline, too.
                let give_up_at = deadline.max(now + LAST_CALL);
                self.phase = Phase::Closing { drained: true, give_up_at };
            }
            Phase::Working | Phase::Closing { .. } | Phase::Closed => {}
        }
        if let Phase::Closing { drained, give_up_at } = self.phase {
            for queue in self.queues.values_mut() {
                queue.feed.take_all().into_iter().for_each(|claimed| self.outbox.release(claimed));
            }
            // Finished tasks are not run again because their output takes long to be read.
            if give_up_at <= now + LAST_CALL {
                self.setup.console.release();
            }
            self.outbox.flush();
            // A standby dies by order, at once.
            let settled = self.outbox.is_settled() && self.processes.is_empty();
            if settled && self.outbox.close() && drained {
                tracing::debug!(logger = MASTER, "Children dead");
            }
            // A store that is away, or does not answer, is not waited for any longer; one that has
            // nothing to hear but the farewell not at all.
            let is_moot =
                self.outbox.down && self.outbox.unrecorded() == 0 && self.processes.is_empty();
            if is_moot || give_up_at <= now {
                self.phase = Phase::Closed;
            }
        }
    }

    /// Slots that are halted leave the table, and queues without slots that were retired, unless they may be
    /// back before their limit of rate has forgotten what started.
    fn forget_halted(&mut self, now: Instant) {
        let halted: Vec<SlotId> = self
            .slots
            .iter()
            .filter(|(_, seat)| seat.slot == Slot::Halted)
            .map(|(id, _)| *id)
            .collect();
        for id in halted {
            self.slots.remove(&id);
        }
        let used: BTreeSet<&QueueName> = self.slots.values().map(|seat| &seat.plan.queue).collect();
        self.queues.retain(|name, queue| {
            let mut limits = queue.limiter.iter().chain(&queue.limited_before);
            let counts = limits.any(|limiter| limiter.counts_any(now));
            !queue.retired || queue.claiming || used.contains(name) || counts
        });
    }
}
