//! When a schedule is due: eight fields as the original's scheduler reads them, checked with their
//! places when they are read, and the next occasion after any moment. No clock, no IO.
//!
//! A schedule gives some of year, month, day, week (ISO), day_of_week (0 is Monday), hour, minute and
//! second. What is not given is anything if a finer field is given, else the least there is: `minute:
//! "*/5"` is due at second 0, `day_of_week: mon` at midnight. All fields must match.
//!
//! | expression | matches |
//! |---|---|
//! | `*`, `*/n` | everything; every n-th from the field's least |
//! | `a`, `a-b`, `a-b/n`, `a/n` | a number; a range; every n-th of a range, or from `a` on |
//! | `jan`, `jan-mar` in month, `mon`, `mon-fri` in day_of_week | the same by name |
//! | `last` in day | the last of the month |
//! | `2nd fri`, `last sun` in day | that weekday of the month, `1st` to `5th` or the `last` |
//! | `x, y` | either |
//!
//! # When clocks are changed
//! A schedule that is due in every hour of its days (hour not given, or `*`) follows elapsed time: in
//! an hour that happens twice it is due in both, and an hour that is skipped is none. A schedule that
//! names hours is due once at each time that it names: in a repeated hour the first time, and a time
//! that is skipped is due as much later as the clock was put forward (02:30 at what is then 03:30).

mod expression;
mod field;
mod search;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

pub use self::field::Field;
use self::field::{Days, Set, Years};

/// A schedule whose text was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    years: Years,
    months: Set,
    days: Days,
    weeks: Set,
    weekdays: Set,
    hours: Set,
    minutes: Set,
    seconds: Set,
    /// Not due before then, nor after.
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// What is wrong with a schedule's text, in the original's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CronError {
    pub field: Field,
    /// Where in the field's text the expression begins that is wrong, in characters from 0.
    pub place: usize,
    pub text: String,
}

impl Cron {
    /// Reads the given fields, each at most once.
    ///
    /// # Errors
    /// The first field, in the order of [`Field::ALL`], that is wrong.
    pub fn parse(given: &[(Field, &str)]) -> Result<Cron, CronError> {
        let text = |field: Field| given.iter().find(|(name, _)| *name == field).map(|(_, t)| *t);
        let finest = given.iter().map(|(field, _)| *field).max();
        // A field after the finest one has its least value, except those that only narrow down days.
        let of = |field: Field| match text(field) {
            Some(text) => expression::parse(field, text),
            None if Some(field) > finest => expression::parse(field, field.default()),
            None => expression::parse(field, "*"),
        };
        Ok(Cron {
            years: of(Field::Year)?.years(),
            months: of(Field::Month)?.set(),
            days: of(Field::Day)?.days(),
            weeks: of(Field::Week)?.set(),
            weekdays: of(Field::DayOfWeek)?.set(),
            hours: of(Field::Hour)?.set(),
            minutes: of(Field::Minute)?.set(),
            seconds: of(Field::Second)?.set(),
            start: None,
            end: None,
        })
    }

    /// Bounds the schedule; both ends are due if they match.
    #[must_use]
    pub fn between(self, start: Option<Timestamp>, end: Option<Timestamp>) -> Cron {
        Cron { start, end, ..self }
    }

    /// The first occasion after `moment`; `None` when there is none before the year 10000.
    pub fn next(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = search::second_after(moment)?;
        let from = match self.start {
            Some(start) => search::second_from(start)?.max(from),
            None => from,
        };
        let next = if self.hours == Set::full(Field::Hour) {
            search::elapsed(self, from, zone)
        } else {
            search::named(self, from, zone)
        };
        next.filter(|next| self.end.is_none_or(|end| *next <= end))
    }

    /// The first time on a wall clock that matches, at or after `from`. Bounds do not count.
    pub fn next_civil(&self, from: DateTime) -> Option<DateTime> {
        search::civil(self, from)
    }
}
