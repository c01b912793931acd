//! The eight fields, and sets of their values.

use std::fmt;

/// A field of a schedule, from the coarsest to the finest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    Year,
    Month,
    Day,
    /// Of the ISO calendar.
    Week,
    /// From 0, which is Monday.
    DayOfWeek,
    Hour,
    Minute,
    Second,
}

impl Field {
    pub const ALL: [Field; 8] = [
        Field::Year,
        Field::Month,
        Field::Day,
        Field::Week,
        Field::DayOfWeek,
        Field::Hour,
        Field::Minute,
        Field::Second,
    ];

    /// As settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Field::Year => "year",
            Field::Month => "month",
            Field::Day => "day",
            Field::Week => "week",
            Field::DayOfWeek => "day_of_week",
            Field::Hour => "hour",
            Field::Minute => "minute",
            Field::Second => "second",
        }
    }

    pub(crate) fn least(self) -> u64 {
        match self {
            Field::Year => 1970,
            Field::Month | Field::Day | Field::Week => 1,
            Field::DayOfWeek | Field::Hour | Field::Minute | Field::Second => 0,
        }
    }

    pub(crate) fn greatest(self) -> u64 {
        match self {
            Field::Year => 9999,
            Field::Month => 12,
            Field::Day => 31,
            Field::Week => 53,
            Field::DayOfWeek => 6,
            Field::Hour => 23,
            Field::Minute | Field::Second => 59,
        }
    }

    /// The expression of a field that is finer than all that are given.
    pub(crate) fn default(self) -> &'static str {
        match self {
            Field::Year | Field::Week | Field::DayOfWeek => "*",
            Field::Month | Field::Day => "1",
            Field::Hour | Field::Minute | Field::Second => "0",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Values below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Set(u64);

impl Set {
    /// Every value of a field.
    pub(crate) fn full(field: Field) -> Set {
        let mut set = Set::default();
        (field.least()..=field.greatest()).for_each(|value| set.insert(value));
        set
    }

    pub(crate) fn insert(&mut self, value: u64) {
        self.0 |= 1 << value;
    }

    pub(crate) fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.0 >> value & 1 == 1)
    }

    /// The least value that is not below `from`.
    pub(crate) fn at_least(self, from: i8) -> Option<i8> {
        let rest = self.0.checked_shr(u32::try_from(from).ok()?)? << from;
        if rest == 0 { None } else { i8::try_from(rest.trailing_zeros()).ok() }
    }
}

/// Years as ranges with steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Years(pub(crate) Vec<Range>);

impl Years {
    pub(crate) fn at_least(&self, from: i16) -> Option<i16> {
        let from = u64::try_from(from).unwrap_or(0);
        let least = self.0.iter().filter_map(|range| range.at_least(from)).min()?;
        i16::try_from(least).ok()
    }
}

/// Every `step`-th value from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) step: u64,
}

impl Range {
    fn at_least(self, from: u64) -> Option<u64> {
        let steps = from.saturating_sub(self.first).div_ceil(self.step);
        Some(self.first + steps * self.step).filter(|value| *value <= self.last)
    }

    pub(crate) fn values(self) -> impl Iterator<Item = u64> {
        (self.first..=self.last).step_by(usize::try_from(self.step).unwrap_or(usize::MAX))
    }
}

/// Days of a month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Days {
    pub(crate) numbers: Set,
    /// The last one, whichever that is.
    pub(crate) last: bool,
    pub(crate) weekdays: Vec<Nth>,
}

/// A weekday of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nth {
    /// From 0; `None` is the last one.
    pub(crate) n: Option<i8>,
    /// From 0, which is Monday.
    pub(crate) weekday: i8,
}

impl Days {
    pub(crate) fn has(&self, day: i8, weekday: i8, days_in_month: i8) -> bool {
        let nth = |nth: &Nth| {
            nth.weekday == weekday
                && match nth.n {
                    Some(n) => (day - 1) / 7 == n,
                    None => day + 7 > days_in_month,
                }
        };
        self.numbers.has(day) || self.last && day == days_in_month || self.weekdays.iter().any(nth)
    }
}
