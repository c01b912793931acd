//! Columns of a row to values: the server's binary formats, read by column type and domain.

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::value::{Date, DateTime, Time};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind, Type};

/// Days from 0000-03-01 to 2000-01-01 in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 730_425;
const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// A column that is not what the plan says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("column {index} of type {ty} cannot be read as {domain}")]
    Type { index: usize, ty: String, domain: &'static str },
    #[error("column {index} is missing")]
    Missing { index: usize },
    #[error("column {index} holds text that is not UTF-8")]
    Encoding { index: usize },
    #[error("column {index} is malformed")]
    Malformed { index: usize },
}

/// The bytes of a column, whatever its type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(
        _ty: &Type,
        raw: &'a [u8],
    ) -> Result<Raw<'a>, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }
}

/// The bytes of a column; `None` for NULL.
pub(crate) fn raw(row: &Row, index: usize) -> Result<Option<&[u8]>, DecodeError> {
    match row.try_get::<_, Option<Raw<'_>>>(index) {
        Ok(cell) => Ok(cell.map(|raw| raw.0)),
        Err(_) => Err(DecodeError::Missing { index }),
    }
}

/// Whether an indicator column says that the row is there: TRUE, not NULL or FALSE.
pub(crate) fn is_true(row: &Row, index: usize) -> Result<bool, DecodeError> {
    Ok(raw(row, index)?.is_some_and(|bytes| bytes != [0]))
}

/// The value of a column.
pub(crate) fn value(row: &Row, index: usize, domain: &Domain) -> Result<Value, DecodeError> {
    let Some(bytes) = raw(row, index)? else { return Ok(Value::Null) };
    let ty = row.columns()[index].type_();
    let malformed = || DecodeError::Malformed { index };
    let mismatch =
        || DecodeError::Type { index, ty: ty.name().to_string(), domain: domain.family() };
    Ok(match domain {
        Domain::Void => Value::Null,
        Domain::Boolean if *ty == Type::BOOL => Value::Boolean(bytes != [0]),
        Domain::Integer => match *ty {
            Type::NUMERIC => {
                let text = numeric(bytes).ok_or_else(malformed)?;
                Value::Integer(text.parse().map_err(|_| malformed())?)
            }
            _ => Value::Integer(integer(ty, bytes).ok_or_else(mismatch)?),
        },
        Domain::Decimal => match *ty {
            Type::NUMERIC => Value::Decimal(numeric(bytes).ok_or_else(malformed)?),
            Type::FLOAT4 | Type::FLOAT8 => {
                Value::Decimal(format!("{}", float(ty, bytes).ok_or_else(malformed)?))
            }
            _ => Value::Decimal(integer(ty, bytes).ok_or_else(mismatch)?.to_string()),
        },
        Domain::Float => match *ty {
            Type::FLOAT4 | Type::FLOAT8 => Value::Float(float(ty, bytes).ok_or_else(malformed)?),
            Type::NUMERIC => {
                let text = numeric(bytes).ok_or_else(malformed)?;
                Value::Float(text.parse().map_err(|_| malformed())?)
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer is read as a float")]
            _ => Value::Float(integer(ty, bytes).ok_or_else(mismatch)? as f64),
        },
        Domain::Date if *ty == Type::DATE => match i32::from_be_bytes(array(bytes, malformed)?) {
            i32::MAX => Value::Text("infinity".to_string()),
            i32::MIN => Value::Text("-infinity".to_string()),
            days => Value::Date(date(i64::from(days)).ok_or_else(malformed)?),
        },
        Domain::Time if *ty == Type::TIME => {
            Value::Time(time(i64::from_be_bytes(array(bytes, malformed)?)))
        }
        Domain::Time if *ty == Type::TIMETZ => {
            let head = bytes.get(..8).ok_or_else(malformed)?;
            Value::Time(time(i64::from_be_bytes(array(head, malformed)?)))
        }
        Domain::DateTime if matches!(*ty, Type::TIMESTAMP | Type::TIMESTAMPTZ) => {
            match i64::from_be_bytes(array(bytes, malformed)?) {
                i64::MAX => Value::Text("infinity".to_string()),
                i64::MIN => Value::Text("-infinity".to_string()),
                stamp => Value::DateTime(DateTime {
                    date: date(stamp.div_euclid(DAY_MICROSECONDS)).ok_or_else(malformed)?,
                    time: time(stamp.rem_euclid(DAY_MICROSECONDS)),
                    offset: (*ty == Type::TIMESTAMPTZ).then_some(0),
                }),
            }
        }
        Domain::Json => {
            let text = match *ty {
                Type::JSONB => bytes.get(1..).ok_or_else(malformed)?,
                _ => bytes,
            };
            Value::Json(String::from_utf8(text.to_vec()).map_err(|_| malformed())?)
        }
        Domain::Untyped | Domain::Text | Domain::Enum(_) | Domain::Opaque(_) => match *ty {
            Type::BOOL => Value::Text((bytes != [0]).to_string()),
            Type::INT2 | Type::INT4 | Type::INT8 => {
                Value::Text(integer(ty, bytes).ok_or_else(malformed)?.to_string())
            }
            Type::NUMERIC => Value::Text(numeric(bytes).ok_or_else(malformed)?),
            _ => Value::Text(text(ty, bytes, index)?.to_string()),
        },
        _ => return Err(mismatch()),
    })
}

/// The values of a row, by the types of its columns alone; what cannot be read so is a text.
pub(crate) fn row(row: &Row) -> Vec<Value> {
    let domain = |ty: &Type| match *ty {
        Type::BOOL => Domain::Boolean,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Domain::Integer,
        Type::NUMERIC => Domain::Decimal,
        Type::FLOAT4 | Type::FLOAT8 => Domain::Float,
        Type::DATE => Domain::Date,
        Type::TIME => Domain::Time,
        Type::TIMESTAMP => Domain::DateTime,
        Type::JSON | Type::JSONB => Domain::Json,
        _ => Domain::Text,
    };
    let cell = |(index, column): (usize, &tokio_postgres::Column)| {
        value(row, index, &domain(column.type_())).unwrap_or_else(|_| {
            let bytes = raw(row, index).ok().flatten().unwrap_or_default();
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        })
    };
    row.columns().iter().enumerate().map(cell).collect()
}

fn text<'a>(ty: &Type, bytes: &'a [u8], index: usize) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| {
        match [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN].contains(ty)
            || matches!(ty.kind(), Kind::Enum(_))
        {
            true => DecodeError::Encoding { index },
            false => DecodeError::Type { index, ty: ty.name().to_string(), domain: "text" },
        }
    })
}

fn array<const N: usize>(
    bytes: &[u8],
    malformed: impl Fn() -> DecodeError,
) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| malformed())
}

fn integer(ty: &Type, bytes: &[u8]) -> Option<i64> {
    match *ty {
        Type::INT2 => Some(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT4 => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::OID => Some(i64::from(u32::from_be_bytes(bytes.try_into().ok()?))),
        _ => None,
    }
}

fn float(ty: &Type, bytes: &[u8]) -> Option<f64> {
    match *ty {
        // By way of its text: 1.1 stays 1.1.
        Type::FLOAT4 => f32::from_be_bytes(bytes.try_into().ok()?).to_string().parse().ok(),
        _ => Some(f64::from_be_bytes(bytes.try_into().ok()?)),
    }
}

/// A numeric as the server prints it. The wire has base-10000 digits, the weight of the first, a
/// sign and the number of decimal digits to show.
fn numeric(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| {
        let pair = bytes.get(at * 2..at * 2 + 2)?;
        Some(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let n_digits = i32::from(word(0)?);
    let weight = i32::from(word(1)?.cast_signed());
    let scale = usize::from(word(3)?);
    match word(2)? {
        0xC000 => return Some("NaN".to_string()),
        0xD000 => return Some("Infinity".to_string()),
        0xF000 => return Some("-Infinity".to_string()),
        _ => {}
    }
    let mut text = String::with_capacity(scale + 8);
    if word(2)? == 0x4000 {
        text.push('-');
    }
    // The digit group of the given weight; groups beyond those sent are zero.
    let group = |of: i32| {
        let at = weight - of;
        if (0..n_digits).contains(&at) { word(usize::try_from(at).ok()? + 4) } else { Some(0) }
    };
    if weight < 0 {
        text.push('0');
    }
    for of in (0..=weight).rev() {
        let digits = group(of)?;
        push_group(&mut text, digits, of != weight);
    }
    if scale > 0 {
        text.push('.');
        let start = text.len();
        let mut of = -1;
        while text.len() - start < scale {
            push_group(&mut text, group(of)?, true);
            of -= 1;
        }
        text.truncate(start + scale);
    }
    Some(text)
}

/// Writes a base-10000 digit, with its leading zeros where `padded`.
fn push_group(text: &mut String, group: u16, padded: bool) {
    let mut significant = padded;
    for (unit, last) in [(1000, false), (100, false), (10, false), (1, true)] {
        let digit = group / unit % 10;
        significant |= digit > 0 || last;
        if significant {
            text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
    }
}

/// The date so many days after 2000-01-01 (by Hinnant's algorithm: years begin in March, so that
/// the leap day is the last).
fn date(days: i64) -> Option<Date> {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(Date {
        year: i32::try_from(year).ok()?,
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
    })
}

/// The time of day so many microseconds after midnight (at most 24:00:00).
fn time(microseconds: i64) -> Time {
    let clamped = microseconds.clamp(0, DAY_MICROSECONDS);
    let seconds = clamped / 1_000_000;
    let part = |n: i64| u8::try_from(n).unwrap_or(0);
    Time {
        hour: part(seconds / 3600),
        minute: part(seconds / 60 % 60),
        second: part(seconds % 60),
        microsecond: u32::try_from(clamped % 1_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
