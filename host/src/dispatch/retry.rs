//! Whether a failed task is tried again, and when: pure arithmetic over its queue's policy. What is
//! known of its attempts goes along, and into the dead letter of the last one.

use std::time::Duration;

use rex_plugin_api::ops::Again;
use rex_transport::{Death, Outcome, Timestamp};
use serde_json::{Value, json};

use super::excerpt::excerpt;
use crate::clock;

/// A queue's policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Attempts in all, from 1.
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub initial: Duration,
    /// How much longer each further time.
    pub factor: f64,
    pub max: Duration,
}

impl Retries {
    /// How long to wait after attempt `attempt` failed; `None`: that was the last one. `jitter` (0 to
    /// 1) takes off up to half, so that what failed together does not come again together.
    pub fn wait(&self, attempt: u32, again: Again, jitter: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        match again {
            Again::Never => None,
            Again::After(millis) => Some(Duration::from_millis(millis)),
            Again::AsConfigured => {
                let exponent = f64::from(attempt.saturating_sub(1));
                let full = self.initial.as_secs_f64() * self.factor.powf(exponent);
                let wait = full.min(self.max.as_secs_f64()) * (1.0 - jitter.clamp(0.0, 1.0) / 2.0);
                Some(Duration::try_from_secs_f64(wait).unwrap_or(self.max))
            }
        }
    }
}

/// So many attempts are told of, the last ones.
const MOST_ATTEMPTS: usize = 200;

/// Bytes of the reason of one of them.
const LONGEST_REASON: usize = 1000;

/// A task's failed attempt, and the ones before it.
pub struct Failed {
    pub attempt: u32,
    pub history: Value,
    pub again: Again,
}

impl Failed {
    /// What becomes of the task that failed as `death` says at `now`.
    pub fn outcome(self, death: Death, policy: &Retries, now: Timestamp, jitter: f64) -> Outcome {
        match policy.wait(self.attempt, self.again, jitter) {
            Some(after) => Outcome::Retry { after, history: self.attempts(&death, now).into() },
            None => Outcome::Dead(self.dead(death, now)),
        }
    }

    /// For good.
    pub fn dead(self, death: Death, now: Timestamp) -> Death {
        let attempts = self.attempts(&death, now);
        let Death { reason, mut details } = death;
        if let Some(details) = details.as_object_mut() {
            details.insert("quarantined".to_owned(), attempts.iter().all(has_killed).into());
            details.insert("attempts".to_owned(), attempts.into());
        }
        Death { reason, details }
    }

    /// This one the last.
    fn attempts(self, death: &Death, now: Timestamp) -> Vec<Value> {
        let mut attempts = match self.history {
            Value::Array(attempts) => attempts,
            _ => Vec::new(),
        };
        attempts.push(json!({
            "attempt": self.attempt,
            "failed": clock::timestamp(now),
            "kind": death.details["kind"],
            "reason": excerpt(&death.reason, LONGEST_REASON),
            "plugin_hash": death.details["plugin_hash"],
            "ran_ms": death.details["ran_ms"],
        }));
        let surplus = attempts.len().saturating_sub(MOST_ATTEMPTS);
        attempts.drain(..surplus);
        attempts
    }
}

/// Whether an attempt has cost a process.
fn has_killed(attempt: &Value) -> bool {
    matches!(attempt["kind"].as_str(), Some("crash" | "timeout" | "cpu" | "memory"))
}

#[cfg(test)]
mod tests;
