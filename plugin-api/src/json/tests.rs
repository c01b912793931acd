//! JSON as Python writes it.

use serde_json::json;

use super::{DEPTH, read};

#[test]
fn what_a_value_cannot_hold_is_replaced() {
    for (text, value) in [
        (
            r#"{"a": NaN, "b": [Infinity, -Infinity, 1e400, -1e400]}"#,
            json!({"a": null, "b": [null, null, null, null]}),
        ),
        (
            r#"{"\ud83d": "x\ud800\n\ud83d\ude00\\ud800"}"#,
            json!({"\u{fffd}": "x\u{fffd}\n😀\\ud800"}),
        ),
        (r#"{"a": "NaN, 1e400 \"", "b": NaN}"#, json!({"a": "NaN, 1e400 \"", "b": null})),
    ] {
        let read = read(text).unwrap();
        assert_eq!((read.value, read.exact), (value, false), "{text}");
    }
    let five_thousand = format!("[{}]", "9".repeat(5000));
    assert_eq!(read(&five_thousand).unwrap().value, json!([null]));
    let exact = read(r#"{"a": [1.5, 18446744073709551615]}"#).unwrap();
    assert!(exact.exact);
}

#[test]
fn as_deep_as_python_reads() {
    let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let mut value = &read(&nested(DEPTH)).unwrap().value;
    for _ in 0..DEPTH {
        value = &value["a"];
    }
    assert_eq!(value, 1);
    let error = read(&nested(DEPTH + 1)).err().unwrap();
    assert_eq!(error, "nested deeper than 1000 arrays and objects");
    // Deep, and no JSON besides.
    assert!(read(&"[".repeat(900)).is_err());
}

#[test]
fn what_is_no_json_is_told_of_the_text_itself() {
    for text in [
        "",
        "{",
        "[NaN",
        "[1 NaN]",
        "[nan]",
        "[1 2]",
        "[\"\\ud8\"]",
        "[\"\\ud800\\x\"]",
        "[01e400]",
        "NaN 1",
        "[- Infinity]",
        "[nu ll, NaN]",
        "[\"\u{1}\", NaN]",
    ] {
        let plain = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        assert_eq!(read(text).err(), Some(plain.to_string()), "{text}");
    }
}
