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

    /// Another limit, for which what has started counts as well.
    pub fn change(self, calls: usize, period: Duration) -> Limiter {
        Limiter { starts: self.starts, ..Limiter::new(calls, period) }
    }

    /// When the next task may start: `now` or later.
    pub fn next_start(&self, now: Instant) -> Instant {
        let first = self.first_that_counts(now);
        // After a change there may be more than the limit allows.
        let over = (self.starts.len() - first).checked_sub(self.calls);
        let opening = over.and_then(|over| self.starts.get(first + over));
        opening.map_or(now, |(start, _)| *start + self.period)
    }

    /// How many tasks may start within so long from now on, at least.
    pub fn starts_within(&self, span: Duration, now: Instant) -> usize {
        // As often in each whole period, and in what is left as soon as those before are over.
        let periods = span.as_nanos().saturating_sub(1) / self.period.as_nanos().max(1);
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        let rest = span.saturating_sub(self.period.saturating_mul(periods));
        let counting = self.starts.len() - self.first_that_counts(now + rest);
        (self.calls.saturating_mul(periods as usize))
            .saturating_add(self.calls.saturating_sub(counting))
    }

    /// The place of the oldest start whose period is not over by then.
    fn first_that_counts(&self, at: Instant) -> usize {
        self.starts.partition_point(|(start, _)| *start + self.period <= at)
    }

    /// Whether any start still counts.
    pub fn counts_any(&self, now: Instant) -> bool {
        self.first_that_counts(now) < self.starts.len()
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
        assert_eq!([5, 9, 1000, 2000].map(|ms| soon(&limiter, ms)), [0, 1, 1, 3]);
        assert_eq!([1500, 1509, 1510].map(|ms| soon(&limiter, ms)), [2, 3, 3]);
        // The second had not started, whoever came after it.
        limiter.not_started(TaskId(2));
        limiter.not_started(TaskId(1));
        assert_eq!(limiter.next_start(at(1501)), at(1501));
        limiter.started(TaskId(4), at(1501));
        assert_eq!(limiter.next_start(at(1502)), at(3000));
    }

    #[test]
    fn what_has_started_counts_under_another_limit() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limiter = Limiter::new(3, Duration::from_millis(1000));
        for (task, ms) in [(1, 0), (2, 10), (3, 20)] {
            limiter.started(TaskId(task), at(ms));
        }
        let more = limiter.clone().change(4, Duration::from_millis(1000));
        assert_eq!(more.starts_within(Duration::ZERO, at(30)), 1);
        // All of them but the last must be over.
        let fewer = limiter.change(1, Duration::from_millis(2000));
        assert_eq!(fewer.next_start(at(30)), at(2020));
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
