//! The next occasion: days are walked, times within a day are looked up. The walk ends with the
//! calendar, so a schedule that never matches is found to be one.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::Cron;

/// The first whole second after `moment`.
pub(crate) fn second_after(moment: Timestamp) -> Option<Timestamp> {
    second_from(moment.checked_add(SignedDuration::from_nanos(1)).ok()?)
}

/// The first whole second at or after `moment`.
pub(crate) fn second_from(moment: Timestamp) -> Option<Timestamp> {
    let up = i64::from(moment.subsec_nanosecond() > 0);
    // Before 1970 the fraction counts downwards and cutting it off is rounding up.
    Timestamp::from_second(moment.as_second() + up).ok()
}

/// On the wall clock, at or after `from`.
pub(crate) fn civil(cron: &Cron, from: DateTime) -> Option<DateTime> {
    let from = match from.subsec_nanosecond() {
        0 => from,
        nanos => {
            from.checked_add(1.second()).ok()?.checked_sub(i64::from(nanos).nanoseconds()).ok()?
        }
    };
    if day_matches(cron, from.date())
        && let Some(time) = time_from(cron, from.time())
    {
        return Some(from.date().to_datetime(time));
    }
    let date = day_from(cron, from.date().tomorrow().ok()?)?;
    Some(date.to_datetime(time_from(cron, Time::midnight())?))
}

/// The first date that matches, at or after `from`.
fn day_from(cron: &Cron, from: Date) -> Option<Date> {
    let mut from = from;
    loop {
        let year = cron.years.at_least(from.year())?;
        if year > from.year() {
            from = Date::new(year, 1, 1).ok()?;
        }
        match cron.months.at_least(from.month()) {
            None => {
                from = Date::new(year.checked_add(1)?, 1, 1).ok()?;
                continue;
            }
            Some(month) if month > from.month() => from = Date::new(year, month, 1).ok()?,
            Some(_) => {}
        }
        let rest = from.day()..=from.days_in_month();
        let dates = rest.filter_map(|day| Date::new(from.year(), from.month(), day).ok());
        if let Some(date) = { dates }.find(|date| day_matches(cron, *date)) {
            return Some(date);
        }
        from = from.last_of_month().tomorrow().ok()?;
    }
}

fn day_matches(cron: &Cron, date: Date) -> bool {
    let weekday = date.weekday().to_monday_zero_offset();
    cron.years.at_least(date.year()) == Some(date.year())
        && cron.months.has(date.month())
        && cron.days.has(date.day(), weekday, date.days_in_month())
        && cron.weekdays.has(weekday)
        && cron.weeks.has(date.iso_week_date().week())
}

/// The first time of day that matches, at or after `from`.
fn time_from(cron: &Cron, from: Time) -> Option<Time> {
    let (minute0, second0) = (cron.minutes.at_least(0)?, cron.seconds.at_least(0)?);
    let time = |hour, minute, second| Time::new(hour, minute, second, 0).ok();
    let hour = cron.hours.at_least(from.hour())?;
    if hour > from.hour() {
        return time(hour, minute0, second0);
    }
    if let Some(minute) = cron.minutes.at_least(from.minute()) {
        if minute > from.minute() {
            return time(hour, minute, second0);
        }
        if let Some(second) = cron.seconds.at_least(from.second()) {
            return time(hour, minute, second);
        }
        if let Some(minute) = cron.minutes.at_least(minute + 1) {
            return time(hour, minute, second0);
        }
    }
    time(cron.hours.at_least(hour + 1)?, minute0, second0)
}

/// The first moment at or after `from` at which a clock shows a time that matches.
pub(crate) fn elapsed(cron: &Cron, from: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let first = elapsed_from(cron, zone.to_datetime(from), from, zone);
    // Before the clock is put back, what it will show again is still to come.
    let local = zone.to_datetime(from);
    let AmbiguousOffset::Fold { before, .. } = zone.to_ambiguous_timestamp(local).offset() else {
        return first;
    };
    if before.to_timestamp(local).ok()? != from {
        return first;
    }
    let change = zone.following(from).next()?.timestamp();
    let second = elapsed_from(cron, zone.to_datetime(change), change, zone);
    first.into_iter().chain(second).min()
}

fn elapsed_from(
    cron: &Cron,
    local: DateTime,
    from: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let mut local = local;
    loop {
        local = civil(cron, local)?;
        let at = |offset: Offset| offset.to_timestamp(local).ok().filter(|at| *at >= from);
        let found = match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, after } => at(before).or_else(|| at(after)),
            AmbiguousOffset::Gap { .. } => None,
        };
        if found.is_some() {
            return found;
        }
        local = local.checked_add(1.second()).ok()?;
    }
}

/// The first moment at or after `from` that stands for a time that matches: each such time has one.
pub(crate) fn named(cron: &Cron, from: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    // Just after a gap, times that were in it are still to come.
    let skipped = zone.preceding(from + SignedDuration::from_nanos(1)).next().map_or(
        SignedDuration::ZERO,
        |change| {
            let before = change.timestamp() - SignedDuration::from_nanos(1);
            let put_forward = change.offset().duration_since(zone.to_offset(before));
            let over = from.duration_since(change.timestamp()) >= put_forward;
            if over { SignedDuration::ZERO } else { put_forward }
        },
    );
    let mut local = zone.to_datetime(from).checked_sub(skipped).ok()?;
    let mut found: Option<Timestamp> = None;
    while let Some(next) = civil(cron, local) {
        local = next;
        let ambiguous = zone.to_ambiguous_timestamp(local);
        let offset = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Fold { before, .. } | AmbiguousOffset::Gap { before, .. } => before,
        };
        let moment = offset.to_timestamp(local).ok()?;
        if moment >= from {
            found = Some(found.map_or(moment, |found| found.min(moment)));
            // A time that was skipped is due later than those that follow the gap.
            if !matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
                return found;
            }
        }
        local = local.checked_add(1.second()).ok()?;
    }
    found
}
