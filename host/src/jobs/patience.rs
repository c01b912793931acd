//! How long something has waited for a lock that another program keeps: when it is tried again, and that
//! it waits is said once.

use std::time::{Duration, Instant};

/// How soon what was locked is tried again, at first and later.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);

/// Of one who waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    since: Instant,
    /// When to try again.
    pub(super) again: Instant,
    /// That it waits was said.
    said: bool,
}

impl Patience {
    pub(super) fn new() -> Patience {
        let since = Instant::now();
        Patience { since, again: since + SOON, said: false }
    }

    /// It was tried, in vain. `what` is said once it has waited for a while.
    pub(super) fn wait(&mut self, what: impl FnOnce() -> String) {
        let waited = self.since.elapsed();
        self.again = Instant::now() + waited.clamp(SOON, LATER);
        if !self.said && waited >= LATER {
            self.said = true;
            tracing::warn!("{}", what());
        }
    }

    /// It waits no more. `what` is said if that it waited was.
    pub(super) fn end(self, what: impl FnOnce() -> String) {
        if self.said {
            let waited = self.since.elapsed().as_secs_f64();
            tracing::info!("{} after {waited:.1} s", what());
        }
    }
}
