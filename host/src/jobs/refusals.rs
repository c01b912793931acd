//! Queues of jobs that the store has refused: said once, and tried again after a while, so that those of
//! the other queues need not wait for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rex_transport::TransportError;

use super::QUEUE;

/// How soon a queue that was refused is tried again,
const AGAIN: Duration = Duration::from_secs(1);
/// and one that was refused only after a while, such as one whose lock is waited for, so much more rarely
/// than that takes: all other queues wait meanwhile.
const SPARING: u32 = 2;

/// By number, when each is tried again.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<i64, Instant>);

impl Refusals {
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.keys().copied().collect()
    }

    /// Those that are to be tried again.
    pub(super) fn due(&self) -> Vec<i64> {
        let now = Instant::now();
        self.0.iter().filter(|(_, again)| **again <= now).map(|(number, _)| *number).collect()
    }

    /// When the next one is to be tried.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// A queue was refused, which took so long.
    pub(super) fn add(&mut self, number: i64, error: &TransportError, took: Duration) {
        let again = Instant::now() + AGAIN.max(took * SPARING);
        if self.0.insert(number, again).is_none() {
            tracing::error!("new jobs cannot be put into queue {QUEUE}{number}: {}", error.line());
        }
    }

    /// A queue has taken all.
    pub(super) fn end(&mut self, number: i64) {
        if self.0.remove(&number).is_some() {
            tracing::info!("new jobs are put into queue {QUEUE}{number} again");
        }
    }

    /// A queue was tried: unless it was refused just now, it has no new jobs any more.
    pub(super) fn tried(&mut self, number: i64) {
        self.0.retain(|other, again| *other != number || *again > Instant::now());
    }
}
