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
mod tests;
