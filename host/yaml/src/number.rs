//! Numbers as texts write them, in JSON's form: which of them a [`Number`] holds with all their
//! digits, and which are the same.

use serde_json::Number;

/// The number of a text, unless an integer is beyond 64 bits or a double holds only a number that is
/// near it.
pub fn exact(text: &str) -> Option<Number> {
    let number: Number = serde_json::from_str(text).ok()?;
    if number.is_f64() && is_whole(text) {
        return None;
    }
    // What has so few digits comes back from a double.
    let is_short = text.len() <= 15 && !text.contains(['e', 'E']);
    (is_short || equal(text, &number.to_string())).then_some(number)
}

/// Whether the text writes an integer.
pub fn is_whole(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

/// Whether two texts write the same number: `1`, `1.0` and `10e-1` do.
pub fn equal(one: &str, other: &str) -> bool {
    one == other || parts(one).is_some_and(|parts_of_one| Some(parts_of_one) == parts(other))
}

/// Whether it is negative, its digits without zeros around them, and how far behind the point the
/// last of them is; `None` when that is farther than anybody counts.
fn parts(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse().ok()?),
        None => (text, 0_i64),
    };
    let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - digits.len()).ok()?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some((false, String::new(), 0));
    }
    let places = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?.checked_sub(zeros)?;
    Some((is_negative, digits.to_owned(), places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_held() {
        for text in
            ["0", "-5", "1.50", "18446744073709551615", "1e2", "1e22", "-0.0", "0.1", "1e300"]
        {
            assert!(exact(text).is_some(), "{text}");
        }
        for text in [
            "18446744073709551616",
            "100000000000000000000",
            "-9223372036854775809",
            "0.1234567890123456789012345",
            "98765432109876543210987",
            "9007199254740993.5",
            "3e-324",
            "1e400",
            "1e-400",
            "1e-99999999999999999999",
            "01",
            "x",
        ] {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_are_the_same() {
        for (one, other) in
            [("1", "1.0"), ("10e-1", "1"), ("-0", "0.00"), ("1.2E+3", "1200"), ("0.01", "1e-2")]
        {
            assert!(equal(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("1", "-1"),
            ("10", "1"),
            ("0.1", "0.01"),
            ("123456789012345678901", "123456789012345678902"),
        ] {
            assert!(!equal(one, other), "{one} {other}");
        }
    }
}
