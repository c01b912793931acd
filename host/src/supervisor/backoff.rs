//! How long to wait before a process that died is started again.

use std::time::{Duration, Instant};

/// Deaths of one slot in a row.
///
/// The first restart is immediate; each further death without a healthy period between doubles the
/// delay, from [`Backoff::FIRST`] to [`Backoff::LONGEST`], with up to a quarter of jitter taken off,
/// so that slots which die of the same cause do not come back in step. It never gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    pub const FIRST: Duration = Duration::from_millis(100);
    pub const LONGEST: Duration = Duration::from_secs(30);
    /// Alive for so long, or with a task finished, a process was healthy.
    pub const HEALTHY: Duration = Duration::from_secs(10);

    /// Counts a death and says when to start again. `jitter` is a number from 0 to 1.
    pub fn after_death(
        &mut self,
        started: Instant,
        worked: bool,
        now: Instant,
        jitter: f64,
    ) -> Instant {
        if worked || now.saturating_duration_since(started) >= Backoff::HEALTHY {
            self.deaths = 0;
        }
        let delay = match self.deaths {
            0 => Duration::ZERO,
            n => Backoff::FIRST.saturating_mul(1 << (n - 1).min(16)).min(Backoff::LONGEST),
        };
        self.deaths += 1;
        now + delay.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::{Duration, Instant};

    #[test]
    fn first_at_once_then_doubling_to_a_cap_and_reset_by_health() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let mut delay = |worked, alive: u64| {
            let at = backoff.after_death(now, worked, now + Duration::from_secs(alive), 0.0);
            at.duration_since(now + Duration::from_secs(alive)).as_millis()
        };
        assert_eq!([delay(false, 0), delay(false, 0), delay(false, 0)], [0, 100, 200]);
        assert_eq!(delay(true, 0), 0, "a finished task resets");
        assert_eq!(delay(false, 0), 100);
        assert_eq!(delay(false, 10), 0, "ten seconds of life reset");
        for _ in 0..40 {
            delay(false, 0);
        }
        assert_eq!(delay(false, 0), 30_000);
    }

    #[test]
    fn jitter_only_shortens() {
        let now = Instant::now();
        let mut backoff = Backoff { deaths: 3 };
        assert_eq!(backoff.after_death(now, false, now, 1.0), now + Duration::from_millis(300));
    }
}
