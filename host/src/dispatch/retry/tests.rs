//! How long to wait for which attempt, and what is quarantined.

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
