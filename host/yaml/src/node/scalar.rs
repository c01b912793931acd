//! Which value a plain YAML scalar stands for. The dialect is the original's: `yes` and `on` are
//! text, a float needs a dot, a leading `0` means octal, and dates are told from text.

use serde_json::{Number, Value};

use crate::number;

/// What a scalar was read as.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Nothing was written: `key:` and no value.
    Empty,
    Null,
    Bool(bool),
    Int(Number),
    Float(f64),
    /// A number of which these hold only one that is near it, with all its digits and as JSON writes
    /// it. As plain data it is that near one.
    Long(String),
    /// A date or a date with time, still as text.
    Timestamp,
    Str,
}

impl Scalar {
    /// Reads a plain (unquoted) scalar.
    pub(crate) fn plain(text: &str) -> Scalar {
        match text {
            "" => Scalar::Empty,
            "~" | "null" | "Null" | "NULL" => Scalar::Null,
            "true" | "True" | "TRUE" => Scalar::Bool(true),
            "false" | "False" | "FALSE" => Scalar::Bool(false),
            _ => int(text)
                .or_else(|| float(text))
                .or_else(|| is_timestamp(text).then_some(Scalar::Timestamp))
                .unwrap_or(Scalar::Str),
        }
    }

    /// Reads a scalar under a tag of YAML's core schema such as `!!int`; `None` when the text is
    /// no such thing or the tag is unknown.
    pub(crate) fn tagged(tag: &str, text: &str) -> Option<Scalar> {
        let plain = Scalar::plain(text);
        match (tag, &plain) {
            ("str", _) => Some(Scalar::Str),
            ("null", Scalar::Null | Scalar::Empty)
            | ("bool", Scalar::Bool(_))
            | ("int", Scalar::Int(_))
            | ("float", Scalar::Float(_) | Scalar::Long(_))
            | ("timestamp", Scalar::Timestamp) => Some(plain),
            ("int", Scalar::Long(digits)) => number::is_whole(digits).then_some(plain),
            ("float", Scalar::Int(number)) => number.as_f64().map(Scalar::Float),
            _ => None,
        }
    }

    /// As plain data. Text that is no JSON (dates, `.inf`, `.nan`) stays the text it is.
    pub(crate) fn value(&self, text: &str) -> Value {
        match self {
            Scalar::Empty | Scalar::Null => Value::Null,
            Scalar::Bool(b) => Value::Bool(*b),
            Scalar::Int(number) => Value::Number(number.clone()),
            Scalar::Float(x) => near(*x, text),
            Scalar::Long(digits) => near(digits.parse().unwrap_or(f64::INFINITY), text),
            Scalar::Timestamp | Scalar::Str => Value::String(text.to_owned()),
        }
    }
}

/// A double as plain data; there is no number for one that is not finite.
fn near(x: f64, text: &str) -> Value {
    Number::from_f64(x).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn int(text: &str) -> Option<Scalar> {
    let (negative, digits) = sign(text);
    let (radix, digits) = if let Some(rest) = digits.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = digits.strip_prefix("0x") {
        (16, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let starts_well = radix != 10 || digits.starts_with(|c: char| c.is_ascii_digit());
    if !starts_well || !digits.chars().all(|c| c == '_' || c.is_digit(radix)) {
        return None;
    }
    let digits: String = digits.chars().filter(|&c| c != '_').collect();
    if digits.is_empty() {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    match i128::from_str_radix(&digits, radix).map(|n| if negative { -n } else { n }) {
        Ok(n) => Some(match (i64::try_from(n), u64::try_from(n)) {
            (Ok(n), _) => Scalar::Int(n.into()),
            (_, Ok(n)) => Scalar::Int(n.into()),
            _ => Scalar::Long(n.to_string()),
        }),
        Err(_) if radix == 10 => Some(Scalar::Long(format!("{sign}{digits}"))),
        // In another base nobody writes one that is beyond even this.
        Err(_) => None,
    }
}

fn float(text: &str) -> Option<Scalar> {
    let (negative, rest) = sign(text);
    let infinite = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
    match rest {
        ".inf" | ".Inf" | ".INF" => return Some(Scalar::Float(infinite)),
        ".nan" | ".NaN" | ".NAN" if rest == text => return Some(Scalar::Float(f64::NAN)),
        _ => {}
    }
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |s: &str| s.chars().all(|c| c == '_' || c.is_ascii_digit());
    let has_digit = |s: &str| s.chars().any(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.starts_with('_') {
        return None;
    }
    if !has_digit(whole) && !has_digit(fraction) {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['-', '+'])?;
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
    }
    let whole = whole.replace('_', "");
    let whole = whole.trim_start_matches('0');
    let written = format!(
        "{}{}.{}{}",
        if negative { "-" } else { "" },
        if whole.is_empty() { "0" } else { whole },
        if has_digit(fraction) { fraction.replace('_', "") } else { "0".to_owned() },
        exponent.map_or_else(String::new, |exponent| format!("e{exponent}")),
    );
    match number::exact(&written).and_then(|number| number.as_f64()) {
        Some(x) => Some(Scalar::Float(x)),
        None => Some(Scalar::Long(written)),
    }
}

/// `YYYY-MM-DD`, or a date, `T` or blanks, a time with optional fraction and zone.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if !(0..4).all(digit) || bytes.get(4) != Some(&b'-') {
        return false;
    }
    if bytes.len() == 10 && digit(5) && digit(6) && bytes[7] == b'-' && digit(8) && digit(9) {
        return true;
    }
    let Some(at) = text.find(['T', 't', ' ', '\t']) else { return false };
    let (date, rest) = text.split_at(at);
    let time = rest.trim_start_matches(['T', 't', ' ', '\t']);
    let parts: Vec<&str> = date.split('-').collect();
    let number = |s: &str, most: usize| {
        !s.is_empty() && s.len() <= most && s.bytes().all(|b| b.is_ascii_digit())
    };
    let [_, month, day] = parts[..] else { return false };
    let clock = time.split(['.', 'Z', '+', '-', ' ', '\t']).next().unwrap_or("");
    let clock: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = clock[..] else { return false };
    number(month, 2) && number(day, 2) && [hour, minute, second].iter().all(|s| number(s, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expect: &Value) {
        assert_eq!(Scalar::plain(text).value(text), *expect, "{text:?}");
    }

    #[test]
    fn plain_scalars_follow_the_dialect() {
        for (text, expect) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("NULL", json!(null)),
            ("none", json!("none")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("off", json!("off")),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+7", json!(7)),
            ("1_000", json!(1000)),
            ("010", json!(8)),
            ("08", json!("08")),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("0x", json!("0x")),
            ("18446744073709551615", json!(u64::MAX)),
            ("99999999999999999999", json!(1e20)),
            ("1.0e+400", json!("1.0e+400")),
            ("1.5", json!(1.5)),
            ("-.5", json!(-0.5)),
            ("5.", json!(5.0)),
            ("1e3", json!("1e3")),
            ("1.0e3", json!("1.0e3")),
            ("1.0e+3", json!(1000.0)),
            (".", json!(".")),
            (".inf", json!(".inf")),
            ("127.0.0.1", json!("127.0.0.1")),
            ("12:34:56", json!("12:34:56")),
            ("-", json!("-")),
            ("+", json!("+")),
            ("_", json!("_")),
        ] {
            check(text, &expect);
        }
    }

    #[test]
    fn long_numbers_keep_their_digits() {
        for (text, expect) in [
            ("99999999999999999999", "99999999999999999999"),
            ("-98_765432109876543210987", "-98765432109876543210987"),
            ("0x1_0000000000000000", "18446744073709551616"),
            ("02000000000000000000000", "18446744073709551616"),
            ("0.1234567890123456789012345", "0.1234567890123456789012345"),
            ("-00_1.234567890123456789_01", "-1.23456789012345678901"),
            (".12345678901234567890", "0.12345678901234567890"),
            ("1234567890123456789012.", "1234567890123456789012.0"),
            ("1.23456789012345678901E+3", "1.23456789012345678901e+3"),
            ("1.0e+400", "1.0e+400"),
        ] {
            assert_eq!(Scalar::plain(text), Scalar::Long(expect.to_owned()), "{text}");
        }
        assert_eq!(Scalar::plain(&format!("0x1{}", "0".repeat(32))), Scalar::Str);
    }

    #[test]
    fn dates_are_told_from_text() {
        for text in ["2017-05-22", "2017-05-22T12:34:56", "2017-5-2 1:02:03.5 +01:00"] {
            assert_eq!(Scalar::plain(text), Scalar::Timestamp, "{text}");
        }
        for text in ["2017-05", "2017-05-222", "2017-05-22T12", "2017-é"] {
            assert_eq!(Scalar::plain(text), Scalar::Str, "{text}");
        }
    }

    #[test]
    fn core_tags_force_a_reading() {
        assert_eq!(Scalar::tagged("str", "10"), Some(Scalar::Str));
        assert_eq!(Scalar::tagged("float", "10"), Some(Scalar::Float(10.0)));
        let digits = "99999999999999999999";
        for tag in ["int", "float"] {
            assert_eq!(Scalar::tagged(tag, digits), Some(Scalar::Long(digits.to_owned())));
        }
        assert_eq!(Scalar::tagged("int", "0.12345678901234567890"), None);
        assert_eq!(Scalar::tagged("int", "x"), None);
        assert_eq!(Scalar::tagged("binary", "x"), None);
    }
}
