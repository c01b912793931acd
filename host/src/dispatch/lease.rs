//! Whether this host may still start what it has claimed: a host that was stopped, or cannot reach the
//! store, starts nothing that others may have taken over meanwhile. Its worker processes know the end of
//! the lease from their pages, and are not allowed more before they have given back what was taken over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rex_transport::{ClaimId, ownership};

use super::Host;
use crate::page::monotonic_at;

/// What the last beat says about this host's claims.
#[derive(Default)]
pub(super) struct Lease {
    /// When it was begun, and how long it counts.
    beat: Option<(Instant, Duration)>,
    lapsed: bool,
    /// Claims that others have taken over.
    taken: BTreeSet<ClaimId>,
}

impl Lease {
    /// Whether tasks may be started.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.beat.is_some_and(|(begun, lease)| {
            ownership::may_start(now.saturating_duration_since(begun), lease)
        })
    }

    /// Whether tasks were started, and are not now.
    pub(super) fn has_lapsed(&self) -> bool {
        self.lapsed
    }

    /// When it ends, unless the host beats again.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.beat.and_then(|(begun, lease)| begun.checked_add(lease))
    }

    /// Until when processes may start tasks, by the clock of their pages.
    pub(super) fn start_until(&self) -> u64 {
        match self.beat {
            None => 0,
            Some(_) => self.ends().map_or(u64::MAX, monotonic_at),
        }
    }

    /// Whether others have taken a claim over.
    pub(super) fn is_taken(&self, claim: ClaimId) -> bool {
        self.taken.contains(&claim)
    }
}

impl Host {
    pub(super) fn on_beat(
        &mut self,
        begun: Instant,
        lease: Duration,
        taken: Vec<ClaimId>,
        now: Instant,
    ) {
        if !taken.is_empty() {
            self.lease.taken.extend(taken);
            for queue in self.queues.values_mut() {
                queue.feed.forget(&self.lease.taken);
            }
            self.recall_all();
        }
        let first = self.lease.beat.replace((begun, lease)).is_none();
        let until = self.lease.start_until();
        // Those that are asked for tasks may start others when they have answered.
        let answered = self.processes.values().filter(|running| running.recalls == 0);
        answered.for_each(|running| running.process.page.allow(until));
        if first || self.lease.lapsed && self.lease.holds(now) {
            if std::mem::take(&mut self.lease.lapsed) {
                tracing::info!("the queue store answers: tasks are started again");
            }
            self.dirty.extend(self.queues.keys().cloned());
        }
    }

    /// Keeps what has not been started from being started once the lease is over.
    pub(super) fn watch_lease(&mut self, now: Instant) {
        let Some((begun, _)) = self.lease.beat else { return };
        if self.lease.lapsed || self.lease.holds(now) {
            return;
        }
        self.lease.lapsed = true;
        let silent = now.saturating_duration_since(begun).as_secs_f64();
        let (how, then) = match self.outbox.refused {
            true => ("refused this host", "stops"),
            false => ("not answered", "does"),
        };
        tracing::info!(
            "the queue store has {how} for {silent:.1} s: no tasks are started until it {then}"
        );
        self.recall_all();
    }

    /// Asks all processes for the tasks that they have not started.
    pub(super) fn recall_all(&mut self) {
        self.processes.values_mut().for_each(|running| running.recall_all(&self.poller));
    }
}
