//! Rate limits: how many tasks of a queue may start within a period, over all its processes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most `calls` starts in any `period`; the original's sliding window, but over task starts: an
/// empty poll costs nothing.
#[derive(Debug, Clone)]
pub struct Limiter {
    calls: usize,
    period: Duration,
    starts: VecDeque<Instant>,
}

impl Limiter {
    pub fn new(calls: usize, period: Duration) -> Limiter {
        Limiter { calls: calls.max(1), period, starts: VecDeque::new() }
    }

    /// Whether it is this limit, with what it remembers.
    pub fn is(&self, calls: usize, period: Duration) -> bool {
        self.calls == calls.max(1) && self.period == period
    }

    /// When the next task may start: `now` or later.
    pub fn next_start(&mut self, now: Instant) -> Instant {
        while self.starts.front().is_some_and(|start| *start + self.period <= now) {
            self.starts.pop_front();
        }
        match self.starts.front() {
            Some(oldest) if self.starts.len() >= self.calls => *oldest + self.period,
            _ => now,
        }
    }

    /// How many tasks may start within so long from now on, at least.
    pub fn starts_within(&self, span: Duration, now: Instant) -> usize {
        let end = now + span;
        self.calls - self.starts.iter().filter(|start| **start + self.period > end).count()
    }

    /// Until when tasks are left in the store that are to be claimed so long ahead; `None` where they may
    /// be claimed now.
    pub fn left_until(&self, ahead: Duration, now: Instant) -> Option<Instant> {
        let start = self.clone().next_start(now);
        start.checked_sub(ahead).filter(|until| *until > now)
    }

    pub fn started(&mut self, now: Instant) {
        self.starts.push_back(now);
    }

    /// So many of the last that were handed out have not started.
    pub fn not_started(&mut self, count: usize) {
        self.starts.truncate(self.starts.len().saturating_sub(count));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Limiter;

    #[test]
    fn two_calls_in_a_period_then_a_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(2, Duration::from_millis(1500));
        for ms in [0, 10] {
            assert_eq!(limiter.next_start(at(ms)), at(ms));
            limiter.started(at(ms));
        }
        assert_eq!(limiter.next_start(at(20)), at(1500));
        assert_eq!(limiter.next_start(at(1500)), at(1500));
        limiter.started(at(1500));
        assert_eq!(limiter.next_start(at(1501)), at(1510));
        let soon =
            |limiter: &Limiter, ms| limiter.starts_within(Duration::from_millis(ms), at(1501));
        assert_eq!([5, 9, 1000, 2000].map(|ms| soon(&limiter, ms)), [0, 1, 1, 2]);
    }

    #[test]
    fn what_is_not_used_up_leaves_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(1, Duration::from_millis(1500));
        let left =
            |limiter: &Limiter, ahead, ms| limiter.left_until(Duration::from_millis(ahead), at(ms));
        assert_eq!(left(&limiter, 0, 0), None);
        limiter.started(at(0));
        assert_eq!(left(&limiter, 0, 10), Some(at(1500)));
        assert_eq!(left(&limiter, 1000, 10), Some(at(500)));
        // It may be claimed, and is not there.
        assert_eq!(left(&limiter, 1000, 500), None);
        assert_eq!(left(&limiter, 0, 1500), None);
    }
}
