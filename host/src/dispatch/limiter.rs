//! Rate limits: how many tasks of a queue may start within a period, over all its processes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rex_transport::TaskId;

/// At most `calls` starts in any `period`; the original's sliding window, but over task starts: an
/// empty poll costs nothing.
#[derive(Debug, Clone)]
pub struct Limiter {
    calls: usize,
    period: Duration,
    /// Oldest first, with whose it is.
    starts: VecDeque<(Instant, TaskId)>,
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
    pub fn next_start(&self, now: Instant) -> Instant {
        let first = self.first_that_counts(now);
        match self.starts.get(first) {
            Some((oldest, _)) if self.starts.len() - first >= self.calls => *oldest + self.period,
            _ => now,
        }
    }

    /// How many tasks may start within so long from now on, at least.
    pub fn starts_within(&self, span: Duration, now: Instant) -> usize {
        let counting = self.starts.len() - self.first_that_counts(now + span);
        self.calls.saturating_sub(counting)
    }

    /// The place of the oldest start whose period is not over by then.
    fn first_that_counts(&self, at: Instant) -> usize {
        self.starts.partition_point(|(start, _)| *start + self.period <= at)
    }

    /// Until when tasks are left in the store that are to be claimed so long ahead; `None` where they may
    /// be claimed now.
    pub fn left_until(&self, ahead: Duration, now: Instant) -> Option<Instant> {
        let start = self.next_start(now);
        start.checked_sub(ahead).filter(|until| *until > now)
    }

    pub fn started(&mut self, task: TaskId, now: Instant) {
        self.starts.drain(..self.first_that_counts(now));
        self.starts.push_back((now, task));
    }

    /// One that was handed out has not started; it may have before.
    pub fn not_started(&mut self, task: TaskId) {
        if let Some(at) = self.starts.iter().rposition(|(_, started)| *started == task) {
            self.starts.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Limiter, TaskId};

    #[test]
    fn two_calls_in_a_period_then_a_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(2, Duration::from_millis(1500));
        for (task, ms) in [(1, 0), (2, 10)] {
            assert_eq!(limiter.next_start(at(ms)), at(ms));
            limiter.started(TaskId(task), at(ms));
        }
        assert_eq!(limiter.next_start(at(20)), at(1500));
        assert_eq!(limiter.next_start(at(1500)), at(1500));
        limiter.started(TaskId(3), at(1500));
        assert_eq!(limiter.next_start(at(1501)), at(1510));
        let soon =
            |limiter: &Limiter, ms| limiter.starts_within(Duration::from_millis(ms), at(1501));
        assert_eq!([5, 9, 1000, 2000].map(|ms| soon(&limiter, ms)), [0, 1, 1, 2]);
        // The second had not started, whoever came after it.
        limiter.not_started(TaskId(2));
        limiter.not_started(TaskId(1));
        assert_eq!(limiter.next_start(at(1501)), at(1501));
        limiter.started(TaskId(4), at(1501));
        assert_eq!(limiter.next_start(at(1502)), at(3000));
    }

    #[test]
    fn what_is_not_used_up_leaves_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(1, Duration::from_millis(1500));
        let left =
            |limiter: &Limiter, ahead, ms| limiter.left_until(Duration::from_millis(ahead), at(ms));
        assert_eq!(left(&limiter, 0, 0), None);
        limiter.started(TaskId(1), at(0));
        assert_eq!(left(&limiter, 0, 10), Some(at(1500)));
        assert_eq!(left(&limiter, 1000, 10), Some(at(500)));
        // It may be claimed, and is not there.
        assert_eq!(left(&limiter, 1000, 500), None);
        assert_eq!(left(&limiter, 0, 1500), None);
    }
}
