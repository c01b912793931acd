//! What a schedule owes at a moment: occasions to fire, and those that were missed for good.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rex_cron::Cron;

use crate::settings::{Misfire, MisfirePolicy as Policy};

/// As late as this, an occasion is on time.
const PUNCTUAL: Duration = Duration::from_secs(1);

/// What is owed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Occasions to be fired, oldest first.
    pub(super) fire: Vec<Timestamp>,
    /// The first of those that were missed for good.
    pub(super) missed: Option<Timestamp>,
    /// Up to when everything is settled once these are fired.
    pub(super) settled: Timestamp,
}

/// What is owed at `now` by a schedule that is settled up to `last`.
pub(super) fn due(
    cron: &Cron,
    zone: &TimeZone,
    misfire: Misfire,
    last: Timestamp,
    now: Timestamp,
) -> Due {
    let late = match misfire.policy {
        Policy::Skip => PUNCTUAL,
        Policy::Once | Policy::All => misfire.grace.max(PUNCTUAL),
    };
    let horizon = now.checked_sub(late).unwrap_or(Timestamp::MIN);
    let first = cron.next(last, zone).filter(|first| *first <= now);
    let missed = first.filter(|first| *first < horizon);
    let from = if missed.is_some() { before(horizon) } else { last };
    let occasions = std::iter::successors(cron.next(from, zone), |at| cron.next(*at, zone));
    let occasions = occasions.take_while(|at| *at <= now);
    let fire: Vec<Timestamp> = match misfire.policy {
        Policy::All => occasions.collect(),
        Policy::Once | Policy::Skip => occasions.last().into_iter().collect(),
    };
    let settled = fire.last().copied().unwrap_or(from).max(last);
    Due { fire, missed, settled }
}

fn before(moment: Timestamp) -> Timestamp {
    moment.checked_sub(Duration::from_micros(1)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
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
}
