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
        if let Some(after) = policy.wait(self.attempt, self.again, jitter) {
            return Outcome::Retry { after, history: attempts.into() };
        }
        let Death { reason, mut details } = death;
        if let Some(details) = details.as_object_mut() {
            details.insert("quarantined".to_owned(), attempts.iter().all(has_killed).into());
            details.insert("attempts".to_owned(), attempts.into());
        }
        Outcome::Dead(Death { reason, details })
    }
}

/// Whether an attempt has cost a process.
fn has_killed(attempt: &Value) -> bool {
    matches!(attempt["kind"].as_str(), Some("crash" | "timeout" | "cpu" | "memory"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rex_plugin_api::ops::Again;
    use rex_transport::{Death, Outcome, Timestamp};
    use serde_json::{Value, json};

    use super::{Failed, Retries};

    fn policy() -> Retries {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(10));
        Retries { max_attempts: 6, initial, factor: 3.0, max }
    }

    #[test]
    fn waits_grow_to_the_cap_and_end() {
        let wait = |attempt, jitter| policy().wait(attempt, Again::AsConfigured, jitter);
        let waits: Vec<_> = (1..=6).map(|attempt| wait(attempt, 0.0)).collect();
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(waits, [seconds(1), seconds(3), seconds(9), seconds(10), seconds(10), None]);
        assert_eq!(wait(2, 1.0), Some(Duration::from_millis(1500)), "half at least");
        let forever = Retries { max_attempts: u32::MAX, ..policy() };
        assert_eq!(forever.wait(1_000_000, Again::AsConfigured, 0.0), seconds(10));
    }

    #[test]
    fn the_plugin_may_say_when_or_never_within_the_limit() {
        let wait = |attempt, again| policy().wait(attempt, again, 0.5);
        assert_eq!(wait(1, Again::After(70)), Some(Duration::from_millis(70)));
        assert_eq!(wait(6, Again::After(70)), None);
        assert_eq!(wait(1, Again::Never), None);
    }

    #[test]
    fn what_was_known_of_every_attempt_is_in_the_dead_letter() {
        let die = |attempt, history, kind: &str, hash: &str| {
            let details = json!({"kind": kind, "plugin_hash": hash, "ran_ms": 5});
            let death = Death { reason: format!("attempt {attempt} failed"), details };
            let failed = Failed { attempt, history, again: Again::AsConfigured };
            let policy = Retries { max_attempts: 2, ..policy() };
            failed.outcome(death, &policy, Timestamp(0), 0.0)
        };
        let twice = |first: (&str, &str), second: (&str, &str)| -> Value {
            let Outcome::Retry { history, .. } = die(1, Value::Null, first.0, first.1) else {
                panic!("no retry")
            };
            match die(2, history, second.0, second.1) {
                Outcome::Dead(death) => death.details,
                other => panic!("{other:?}"),
            }
        };
        let details = twice(("crash", "a"), ("timeout", "a"));
        assert_eq!(details["attempts"][0]["reason"], "attempt 1 failed");
        assert_eq!(details["attempts"][1]["kind"], "timeout");
        assert_eq!(details["attempts"][0]["failed"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(details["quarantined"], true);
        assert_eq!(twice(("crash", "a"), ("crash", "b"))["quarantined"], true, "the newer, too");
        assert_eq!(twice(("crash", "a"), ("error", "a"))["quarantined"], false);
    }

    #[test]
    fn of_many_attempts_the_last_are_kept() {
        let mut history = Value::Null;
        for attempt in 1..=300 {
            let death = Death { reason: "x".repeat(1 << 20), details: json!({"kind": "error"}) };
            let failed = Failed { attempt, history, again: Again::AsConfigured };
            let policy = Retries { max_attempts: 1000, ..policy() };
            history = match failed.outcome(death, &policy, Timestamp(0), 0.0) {
                Outcome::Retry { history, .. } => history,
                other => panic!("{other:?}"),
            };
        }
        let kept = history.as_array().unwrap();
        assert_eq!((kept.len(), &kept[0]["attempt"]), (200, &json!(101)));
        assert!(history.to_string().len() < 300_000);
    }
}
