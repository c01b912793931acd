//! Documents read number for number.

use super::*;

#[test]
fn documents_are_read_as_they_were_written() {
    let text = r#"{"b": [1, -2, 1.5, true, null, "a\nb", "ü"], "a": {"x": {}}, "n": 1e300}"#;
    let json = Json::read(text).unwrap();
    assert_eq!(json.to_string(), serde_json::from_str::<Value>(text).unwrap().to_string());
    assert!(matches!(&json.at("b").items()[6], Json::Text(Cow::Borrowed("ü"))));
    assert_eq!(*json.at("none").at("deeper"), Json::Null);
    assert!(Json::read("{").is_err() && !json.at("a").at("x").holds_something());
    let next = Cell::new(0);
    for name in ["b", "n", "a", "b"] {
        assert!(json.find(name, &next).is_some(), "{name}");
    }
}

/// As Python's `json` reads and writes them.
#[test]
fn numbers_may_be_without_limit() {
    let text = r#"{"a":[NaN,-Infinity,1e400,"NaN \\\" Infinity","\\",Infinity],"b":-1E999}"#;
    let json = Json::read(text).unwrap();
    assert_eq!(json.to_string(), text);
    assert!(json.is_limitless() && !json.at("b").is_limitless());
    assert!(matches!(json.at("a").items()[0], Json::Float(number) if number.is_nan()));
    assert_eq!(*json.at("b"), Json::Long("-1E999".into()));
    for text in
        ["{NaN: 1}", "{\"a\": nan}", "[NaNNaN]", "[Inf]", "[-NaN]", "\"NaN", "[\u{10FFFF}NaN]"]
    {
        assert!(Json::read(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    for text in [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        &"9".repeat(400),
        r#"{"a":[1,-2.5,12345678901234567890,{"b":"12345678901234567890","c\"":[]}],"d":null}"#,
    ] {
        assert_eq!(Json::read(text).unwrap().to_string(), text);
        let wide = format!(" {} ", text.replace(':', " : "));
        assert_eq!(Json::read(&wide).unwrap().into_owned().to_string(), text);
    }
    assert_eq!(Json::read("1234567890123456789").unwrap(), Json::Integer(1234567890123456789));
    let float = "0.12345678901234567890";
    assert_eq!(Json::read(float).unwrap(), Json::Float(0.12345678901234568));
    assert!(has_long("12345678901234567890") && !has_long("123456789012345678 1"));
    for n in 0..40 {
        assert!(has_long(&format!("{}1234567890123456789x", " ".repeat(n))), "{n}");
    }
    let deep =
        |depth: usize| format!("{}12345678901234567890{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::read(&deep(127)).is_ok() && Json::read(&deep(100_000)).is_err());
    // As Python has it.
    assert_eq!(Json::read(r#"{"a":1,"b":2,"a":3}"#).unwrap().to_string(), r#"{"a":3,"b":2}"#);
}
