//! Numbers with all their digits, read, written and compared.

use super::*;

fn json(text: &str) -> Given {
    Given::json(text).unwrap()
}

#[test]
fn json_is_read_and_written_with_all_digits() {
    let text =
        r#"{"b": [98765432109876543210987, 0.1234567890123456789012345, 1e400, 1.50], "a": "x"}"#;
    let written =
        r#"{"a":"x","b":[98765432109876543210987,0.1234567890123456789012345,1e400,1.5]}"#;
    assert_eq!(serde_json::to_string(&json(text)).unwrap(), written);
    assert!(json(text).is_beyond_doubles());
    assert_eq!(
        json("[98765432109876543210987, 'x']".replace('\'', "\"").as_str()).repr(),
        "[98765432109876543210987, 'x']"
    );
    assert_eq!(json(r#"{"a": 1, "a": 2}"#).repr(), "{'a': 2}");
    for text in ["", "[01]", "[1", "1 2", "\"\\ud800\"", "[-]", &"[".repeat(200)] {
        assert!(Given::json(text).is_err(), "{text}");
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Given::json(&deep(MAX_DEPTH)).is_ok());
    assert!(Given::json(&deep(MAX_DEPTH + 1)).is_err());
}

#[test]
fn what_is_the_same() {
    assert_eq!(json(r#"{"a": 1, "b": [1e2, null]}"#), json(r#"{"b": [100, null], "a": 1.0}"#));
    assert_ne!(json("[98765432109876543210987]"), json("[98765432109876543210988]"));
    assert_ne!(json(r#"{"a": 1}"#), json(r#"{"a": 1, "b": 1}"#));
    assert_ne!(json("1"), json("\"1\""));
    assert_ne!(json("1"), json("true"));
}
