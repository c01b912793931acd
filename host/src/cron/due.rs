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
mod tests;
