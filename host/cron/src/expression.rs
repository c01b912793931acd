//! A field's text to the set of its values.

use crate::CronError;
use crate::field::{Days, Field, Nth, Range, Set, Years};

/// What a field's expressions came to.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    ranges: Vec<Range>,
    last: bool,
    weekdays: Vec<Nth>,
}

impl Parsed {
    pub(crate) fn years(self) -> Years {
        Years(self.ranges)
    }

    pub(crate) fn set(&self) -> Set {
        let mut set = Set::default();
        self.ranges.iter().flat_map(|range| range.values()).for_each(|value| set.insert(value));
        set
    }

    pub(crate) fn days(self) -> Days {
        Days { numbers: self.set(), last: self.last, weekdays: self.weekdays }
    }
}

pub(crate) fn parse(field: Field, text: &str) -> Result<Parsed, CronError> {
    let mut parsed = Parsed::default();
    let mut place = 0;
    for part in text.split(',') {
        let indent = part.chars().take_while(|c| *c == ' ').count();
        parsed.add(field, part.trim()).map_err(|text| CronError {
            field,
            place: place + indent,
            text,
        })?;
        place += part.chars().count() + 1;
    }
    Ok(parsed)
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const POSITIONS: [&str; 5] = ["1st", "2nd", "3rd", "4th", "5th"];

impl Parsed {
    fn add(&mut self, field: Field, text: &str) -> Result<(), String> {
        if let Some(range) = numbers(field, text)? {
            self.ranges.push(range);
            return Ok(());
        }
        let known = match field {
            Field::Month => names(text, &MONTHS, 1, "month")?.map(|range| self.ranges.push(range)),
            Field::DayOfWeek => {
                names(text, &WEEKDAYS, 0, "weekday")?.map(|range| self.ranges.push(range))
            }
            Field::Day if text.eq_ignore_ascii_case("last") => {
                self.last = true;
                Some(())
            }
            Field::Day => nth_weekday(text)?.map(|nth| self.weekdays.push(nth)),
            _ => None,
        };
        known.ok_or_else(|| format!("Unrecognized expression \"{text}\" for field \"{field}\""))
    }
}

/// `*`, `*/n`, `a`, `a-b`, `a-b/n`, `a/n`.
fn numbers(field: Field, text: &str) -> Result<Option<Range>, String> {
    let (what, step) = match text.split_once('/') {
        Some((what, step)) => match number(step) {
            Some(step) => (what, Some(step)),
            None => return Ok(None),
        },
        None => (text, None),
    };
    let (first, last) = match what.split_once('-') {
        None if what == "*" => (None, None),
        None => match number(what) {
            Some(first) => (Some(first), step.is_none().then_some(first)),
            None => return Ok(None),
        },
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) => (Some(first), Some(last)),
            _ => return Ok(None),
        },
    };
    if step == Some(0) {
        return Err("Increment must be higher than 0".to_owned());
    }
    if first > last && last.is_some() {
        return Err("The minimum value in a range must not be higher than the maximum".to_owned());
    }
    let (least, greatest) = (field.least(), field.greatest());
    let (from, to) = (first.unwrap_or(least), last.unwrap_or(greatest));
    // In the order of the original: the whole field, both ends, what is between them.
    let too_far = |step: u64, range: i128| {
        format!(
            "the step value ({step}) is higher than the total range of the expression ({range})"
        )
    };
    let wrong = match step {
        Some(step) if step > greatest - least => too_far(step, i128::from(greatest - least)),
        _ if from < least => {
            format!("the first value ({from}) is lower than the minimum value ({least})")
        }
        _ if to > greatest => {
            format!("the last value ({to}) is higher than the maximum value ({greatest})")
        }
        // A range that ends at 0 counts as one without an end there.
        Some(step) => {
            let end = if to == 0 { greatest } else { to };
            let range = i128::from(end) - i128::from(from);
            if i128::from(step) <= range {
                return Ok(Some(Range { first: from, last: to, step }));
            }
            too_far(step, range)
        }
        None => return Ok(Some(Range { first: from, last: to, step: 1 })),
    };
    Err(format!("Error validating expression '{text}': {wrong}"))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `mon`, `mon-fri`; a step that follows has no effect, as in the original.
fn names(text: &str, names: &[&str], least: u64, kind: &str) -> Result<Option<Range>, String> {
    let text = match text.split_once('/') {
        Some((text, step)) if number(step).is_some() => text,
        Some(_) => return Ok(None),
        None => text,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic());
    if !is_word(first) || !is_word(last) {
        return Ok(None);
    }
    let value = |word: &str| match names.iter().position(|name| name.eq_ignore_ascii_case(word)) {
        Some(n) => Ok(n as u64 + least),
        None => Err(format!("Invalid {kind} name \"{word}\"")),
    };
    let (first, last) = (value(first)?, value(last)?);
    if first > last {
        return Err("The minimum value in a range must not be higher than the maximum".to_owned());
    }
    Ok(Some(Range { first, last, step: 1 }))
}

/// `3rd fri`, `last sun`.
fn nth_weekday(text: &str) -> Result<Option<Nth>, String> {
    let Some((position, name)) = text.split_once(' ') else { return Ok(None) };
    let n = match POSITIONS.iter().position(|known| known.eq_ignore_ascii_case(position)) {
        Some(n) => Some(n as i8),
        None if position.eq_ignore_ascii_case("last") => None,
        None => return Ok(None),
    };
    let name = name.trim_start();
    match WEEKDAYS.iter().position(|known| known.eq_ignore_ascii_case(name)) {
        Some(weekday) => Ok(Some(Nth { n, weekday: weekday as i8 })),
        None => Err(format!("Invalid weekday name \"{name}\"")),
    }
}
