//! Which payloads are read, stored and refused.

use super::{Payload, PayloadError};

#[track_caller]
fn check(given: &str, written: &str) {
    assert_eq!(Payload::parse(given, 1 << 20).unwrap().as_str(), written);
}

#[test]
fn is_written_as_the_original_writes_it() {
    check(
        r#"{"b":[1,2.5,null,true,"it's é"],"a":{"z":1,"a":2}}"#,
        r#"{"a": {"z": 1, "a": 2}, "b": [1, 2.5, null, true, "it's \u00e9"]}"#,
    );
    check("null", "{}");
    check(" {\n} ", "{}");
    check(r#"{"a":[],"b":{},"c":[ ],"d":[[ 1 ]]}"#, r#"{"a": [], "b": {}, "c": [], "d": [[1]]}"#);
}

#[test]
fn numbers_keep_their_text() {
    for number in ["123456789012345678901234567890", "-0", "1.50", "1e400", "-1E+7", "0"] {
        check(&format!("{{\"n\":{number}}}"), &format!("{{\"n\": {number}}}"));
    }
}

#[test]
fn strings_are_escaped_as_python_does() {
    check(r#"{"s":"\u0041\/\t\n\u0001\u007f"}"#, "{\"s\": \"A/\\t\\n\\u0001\u{7f}\"}");
    check(r#"{"s":"\ud83d\ude00"}"#, r#"{"s": "\ud83d\ude00"}"#);
    check("{\"s\":\"😀\"}", r#"{"s": "\ud83d\ude00"}"#);
    check(r#"{"s":"\uD83D x"}"#, r#"{"s": "\ud83d x"}"#); // half a pair: kept
    check(r#"{"s":"\b\f\r\"\\"}"#, r#"{"s": "\b\f\r\"\\"}"#);
}

#[test]
fn of_equal_keys_the_last_value_stays_in_the_first_place() {
    check(r#"{"b":1,"a":1,"b":2}"#, r#"{"a": 1, "b": 2}"#);
    check(r#"{"x":{"b":1,"a":1,"\u0062":2}}"#, r#"{"x": {"b": 2, "a": 1}}"#);
}

#[test]
fn refusals() {
    let text = |given: &str| Payload::parse(given, 40).unwrap_err().to_string();
    assert_eq!(text("[1]"), "Expected a mapping\nGot:\n    [1]");
    assert_eq!(text("x"), "Expected a JSON object\nGot:\n    'x'");
    assert_eq!(text("it's\n\u{1}"), "Expected a JSON object\nGot:\n    \"it's\\n\\x01\"");
    assert_eq!(text(""), "Expected a JSON object\nGot:\n    ''");
    for bad in ["{", "{}}", "{\"a\":01}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":NaN}", "{'a':1}"] {
        assert!(text(bad).starts_with("Expected a JSON object"), "{bad}");
    }
    for bad in ["{\"a\":1,}", "{\"a\" 1}", "{\"a\":\"\n\"}", "{\"a\":\"\\x\"}", "{\"a\":[1 2]}"] {
        assert!(text(bad).starts_with("Expected a JSON object"), "{bad}");
    }
    let nested = |levels| format!("{}1{}", "{\"a\": ".repeat(levels), "}".repeat(levels));
    assert_eq!(Payload::parse(&nested(1000), 1 << 20).unwrap().as_str(), nested(1000));
    assert_eq!(Payload::parse(&nested(1001), 1 << 20), Err(PayloadError::TooDeep));
    let deep = "[".repeat(100_000);
    let refused = Payload::parse(&deep, 1 << 20).unwrap_err().to_string();
    let limit = "The limit is:\n    1000 arrays and objects in one another";
    assert_eq!(refused, format!("Payload is nested too deeply\n{limit}"));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(40));
    assert_eq!(text(&large), "Payload is too large:\n    49 bytes\nThe limit is:\n    40 bytes");
    let grows = format!("{{\"a\": \"{}\"}}", "é".repeat(10));
    assert!(matches!(
        Payload::parse(&grows, 40),
        Err(PayloadError::TooLarge { size: 69, limit: 40 })
    ));
}

#[test]
fn what_is_no_text_is_kept_and_none() {
    let text = b"{\"a\": \"\xff\xfe\"}";
    let payload = Payload::from_stored_bytes(text);
    assert_eq!(payload.as_str(), "{\"a\": \"\u{fffd}\u{fffd}\"}");
    assert_eq!((payload.as_bytes(), payload.is_text()), (&text[..], false));
    let said = payload.check().unwrap_err().to_string();
    assert_eq!(said, "Expected a text in UTF-8\nGot:\n    '{\"a\": \"\u{fffd}\u{fffd}\"}'");
    assert_eq!(Payload::from_stored_bytes(b"{}"), Payload::empty());
    let said = |bytes: &[u8]| Payload::no_task(bytes).check().unwrap_err().to_string();
    assert_eq!(said(b"{\"pay\": {}}"), "Expected a task with a payload\nGot:\n    '{\"pay\": {}}'");
    assert_eq!(said(b"{\"paylo"), "Expected a JSON object\nGot:\n    '{\"paylo'");
    assert!(said(text).starts_with("Expected a text in UTF-8"));
}

#[test]
fn stored_text_is_kept() {
    let stored = Payload::from_stored("{\"b\":1,\n \"a\": \"é\"}");
    assert_eq!(stored.as_str(), "{\"b\":1,\n \"a\": \"é\"}");
    assert_eq!(stored.check(), Ok(()));
    let list = Payload::from_stored("[1]");
    assert_eq!(list.check().unwrap_err().to_string(), "Expected a mapping\nGot:\n    [1]");
    let python = r#"{"a": [NaN, Infinity, -Infinity, -1], "b": "\ud800"}"#;
    assert_eq!(Payload::from_stored(python).check(), Ok(()));
    for bad in ["{\"a\": nan}", "{\"a\": -Inf}", "{\"a\": NaN1}"] {
        assert!(Payload::from_stored(bad).check().is_err(), "{bad}");
    }
    let deep = format!("{}1{}", "{\"a\": ".repeat(1001), "}".repeat(1001));
    assert_eq!(Payload::from_stored(deep).check(), Err(PayloadError::TooDeep));
    assert!(Payload::from_stored("null").check().is_err());
    assert!(Payload::from_stored("{\"a\"").check().is_err());
}
