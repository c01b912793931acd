//! What claims cost the store: so much each, and so much for each task. The second bounds how many to
//! claim, since outcomes wait meanwhile; the first does not, as many small claims would cost it more often.

use std::time::Duration;

/// How long the tasks of one claim may keep the store.
const CLAIM: Duration = Duration::from_millis(40);
/// What the newest claim counts among those before it.
const NEWEST: f64 = 0.25;
/// A claim of so few is too small to be made smaller, as long as nobody knows that it would help.
const FEW: f64 = 64.0;

/// A line through the claims so far, the older the less: weighted means of tasks and seconds.
#[derive(Debug, Default)]
pub(super) struct ClaimCost {
    tasks: f64,
    seconds: f64,
    squares: f64,
    products: f64,
    known: bool,
}

impl ClaimCost {
    /// Learns what a claim has cost.
    pub(super) fn learn(&mut self, tasks: usize, took: Duration) {
        let (tasks, seconds) = (tasks as f64, took.as_secs_f64());
        let part = if self.known { NEWEST } else { 1.0 };
        let mix = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
        mix(&mut self.tasks, tasks);
        mix(&mut self.seconds, seconds);
        mix(&mut self.squares, tasks * tasks);
        mix(&mut self.products, tasks * seconds);
        self.known = true;
    }

    /// How many tasks may be claimed at once; `None`: any number.
    pub(super) fn most(&self) -> Option<usize> {
        let variance = self.squares - self.tasks * self.tasks;
        let alike = variance <= (self.tasks * 0.05).powi(2);
        let limit = CLAIM.as_secs_f64();
        if alike {
            // Nobody knows what the number does: another one will tell.
            let large = self.tasks >= FEW && self.seconds > limit;
            return large.then_some((self.tasks / 2.0) as usize);
        }
        let slope = (self.products - self.tasks * self.seconds) / variance;
        (slope > 0.0).then(|| ((limit / slope).round() as usize).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ClaimCost;

    /// Claims as many as may be, up to `wanted`, of a store that takes `each` and `task`; the last.
    fn settled(wanted: usize, each: Duration, task: Duration) -> usize {
        let (mut cost, mut window) = (ClaimCost::default(), 1);
        for _ in 0..100 {
            let tasks = cost.most().unwrap_or(usize::MAX).min(window);
            let took = each + task * u32::try_from(tasks).unwrap();
            cost.learn(tasks, took);
            window = wanted.min(window * 4);
        }
        cost.most().unwrap_or(usize::MAX).min(window)
    }

    #[test]
    fn a_store_that_is_far_away_gives_batches() {
        for away in [0, 5, 25, 60, 500, 3000] {
            let (away, task) = (Duration::from_millis(away), Duration::from_micros(5));
            assert_eq!(settled(4096, away, task), 4096, "{away:?}");
        }
    }

    #[test]
    fn a_store_that_is_slow_at_each_task_is_asked_for_less() {
        for away in [0, 1, 25] {
            let slow = settled(4096, Duration::from_millis(away), Duration::from_millis(1));
            assert!((20..=90).contains(&slow), "{slow} at {away} ms");
        }
        let slower = settled(4096, Duration::ZERO, Duration::from_millis(100));
        assert_eq!(slower, 1);
    }

    #[test]
    fn one_that_is_as_it_was_before_is_asked_for_as_much() {
        let mut cost = ClaimCost::default();
        let task = Duration::from_micros(5);
        for tasks in [1, 4, 16, 64, 256, 1024, 4096] {
            cost.learn(tasks, task * u32::try_from(tasks).unwrap());
        }
        assert_eq!(cost.most(), Some(8000));
        cost.learn(4096, Duration::from_secs(2));
        assert!(cost.most().is_some_and(|most| most < 1000), "{:?}", cost.most());
        let mut last = 0;
        for _ in 0..50 {
            last = cost.most().unwrap_or(4096).min(4096);
            cost.learn(last, task * u32::try_from(last).unwrap());
        }
        assert_eq!(last, 4096);
    }
}
