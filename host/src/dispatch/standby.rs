//! Warm standbys: for each plugin in use one process that has loaded it and waits, so that a death
//! costs no start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::QueuePlan;
use super::running::Running;
use super::{Host, Phase};
use crate::supervisor::{ProcessId, Slot};

/// How long to leave a plugin alone whose standby died.
const RETRY: Duration = Duration::from_secs(10);

impl Host {
    /// A standby that can become a worker of `plan`, which only has to be of the same build, under the
    /// same limits and in the same environment.
    pub(super) fn take_standby(&self, plan: &QueuePlan) -> Option<ProcessId> {
        let fits = |running: &&Running| running.seat.is_none() && serves(running, plan);
        self.processes.values().find(fits).map(|running| running.process.id)
    }

    /// Starts what is missing, once no slot waits for a start itself, and ends what is not needed.
    pub(super) fn keep_standbys(&mut self, now: Instant) {
        let wanted = self.plan.standby && !self.setup.halt_when_empty;
        let plans: Vec<Arc<QueuePlan>> = match self.phase {
            Phase::Working if wanted => self.plan.queues.values().map(Arc::clone).collect(),
            _ => Vec::new(),
        };
        for running in self.processes.values_mut().filter(|running| running.seat.is_none()) {
            if !plans.iter().any(|plan| serves(running, plan)) {
                running.excuse();
                running.process.kill();
            }
        }
        let settled = |slot: Slot| {
            matches!(slot, Slot::Serving { .. } | Slot::Halted | Slot::Stopping { .. })
        };
        if now < self.standby_after || !self.slots.values().all(|seat| settled(seat.slot)) {
            return;
        }
        for plan in plans {
            if self.take_standby(&plan).is_none()
                && let Err(error) = self.start_process(None, &plan)
            {
                tracing::debug!("cannot start a standby for {}: {error}", plan.plugin.name);
                self.standby_after = now + RETRY;
            }
        }
    }

    /// A standby died before it was needed.
    pub(super) fn standby_died(&mut self, running: &Running, now: Instant) {
        if running.verdict.is_none() {
            let name = &running.plan.plugin.name;
            tracing::debug!("the standby of {name} died; the next one is started later");
            self.standby_after = now + RETRY;
        }
    }
}

fn serves(running: &Running, plan: &QueuePlan) -> bool {
    let standby = &running.plan;
    standby.plugin == plan.plugin
        && standby.memory_limit == plan.memory_limit
        && standby.environment == plan.environment
}
