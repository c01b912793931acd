//! Which occasions are due, and which were missed.

use rex_cron::Field;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Every ten seconds, settled at 100.
fn owed(policy: Policy, grace: u64, now: i64) -> (Vec<i64>, Option<i64>) {
    let cron = Cron::parse(&[(Field::Second, "*/10")]).unwrap();
    let misfire = Misfire { policy, grace: Duration::from_secs(grace) };
    let due = due(&cron, &TimeZone::UTC, misfire, at(100), at(now));
    assert!(due.settled <= at(now) && due.settled >= at(100), "{due:?}");
    let seconds = due.fire.iter().map(|at| at.as_second()).collect();
    (seconds, due.missed.map(Timestamp::as_second))
}

#[test]
fn what_is_on_time_is_fired_under_every_policy() {
    for policy in [Policy::Once, Policy::All, Policy::Skip] {
        assert_eq!(owed(policy, 0, 109), (vec![], None));
        assert_eq!(owed(policy, 0, 110), (vec![110], None));
        assert_eq!(owed(policy, 0, 111), (vec![110], None));
    }
}

#[test]
fn what_was_missed_is_made_up_for_as_the_policy_says() {
    assert_eq!(owed(Policy::Once, 60, 145), (vec![140], None));
    assert_eq!(owed(Policy::All, 60, 145), (vec![110, 120, 130, 140], None));
    assert_eq!(owed(Policy::Skip, 60, 145), (vec![], Some(110)));
    assert_eq!(owed(Policy::Skip, 60, 140), (vec![140], Some(110)));
}

#[test]
fn what_is_too_late_is_missed() {
    assert_eq!(owed(Policy::Once, 20, 145), (vec![140], Some(110)));
    assert_eq!(owed(Policy::All, 20, 145), (vec![130, 140], Some(110)));
    assert_eq!(owed(Policy::Once, 3, 145), (vec![], Some(110)));
}

#[test]
fn a_long_absence_is_settled_at_once() {
    let (fire, missed) = owed(Policy::Once, 60, 3_000_000_000);
    assert_eq!((fire, missed), (vec![3_000_000_000], Some(110)));
}
