//! What was sent ahead to a process does not wait for long: it is taken back, to be given to others.

use std::time::Instant;

use super::{Running, since_monotonic};
use crate::dispatch::feed::{Claimed, WAITED};
use crate::supervisor::poller::Poller;

impl Running {
    /// Whether it has been at one task for so long that nothing else is to wait for it.
    pub(in crate::dispatch) fn is_long(&self) -> bool {
        let progress = self.process.page.read();
        self.held.in_hand(progress).is_some() && since_monotonic(progress.started_at) >= WAITED
    }

    /// Takes back what it has not started, if some of that waits for long. It may be stopped as a whole
    /// and answer to nothing.
    pub(in crate::dispatch) fn take_back(&mut self, poller: &Poller, now: Instant) -> Vec<Claimed> {
        let waits_since = self.held.claimed_after(self.process.page.read().started);
        if waits_since.is_none_or(|since| now.saturating_duration_since(since) < WAITED) {
            return Vec::new();
        }
        self.process.page.allow(0);
        self.recall_all(poller);
        // Who is in the midst of a task looks at the page before the next one. Who is not any more
        // answers.
        let progress = self.process.page.read();
        match self.held.in_hand(progress) {
            Some(_) => self.held.recall_after(progress.started),
            None => Vec::new(),
        }
    }
}
