//! Fields of payloads, and what is said of those that do not fit.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Payload;

#[test]
fn no_digit_is_lost() {
    let text = r#"{"i": 12345678901234567890123, "z": -0, "s": "-0 12345678901234567890123"}"#;
    let payload = Payload::from_json(text).unwrap();
    let shown = "{'i': 12345678901234567890123, 'z': 0, 's': '-0 12345678901234567890123'}";
    assert_eq!(payload.to_string(), shown);
    assert_eq!(payload.to_json(), text);
}

#[test]
fn errors_are_where_the_field_was_asked_for() {
    let payload = Payload::from_json(r#"{"name": 3}"#).unwrap();
    for field in ["name", "none"] {
        let line = line!() + 1;
        let error = payload.text(field).unwrap_err();
        let place = format!("({}:{line}:", file!());
        assert!(format!("{error:?}").contains(&place), "{error:?}");
    }
    let line = line!() + 1;
    let error = payload.parse::<BTreeMap<String, bool>>().unwrap_err();
    assert!(format!("{error:?}").contains(&format!("({}:{line}:", file!())), "{error:?}");
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Order {
    name: String,
    count: Option<u8>,
    #[serde(default)]
    inner: Inner,
}

#[derive(Debug, Default, Deserialize)]
#[expect(dead_code, reason = "only read")]
struct Inner {
    age: i64,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only read")]
struct Wrapped(BTreeMap<String, i64>);

#[track_caller]
fn refused<T: DeserializeOwned + Debug>(text: &str, reason: &str) {
    let payload = Payload::from_json(text).unwrap();
    let error = payload.parse::<T>().unwrap_err();
    assert_eq!(error.to_string(), reason);
}

#[test]
fn what_cannot_be_parsed_is_named() {
    refused::<BTreeMap<String, i64>>(
        r#"{"a": 1, "how": "parse", "z": 2}"#,
        "field `how`: invalid type: string \"parse\", expected i64",
    );
    let order = refused::<Order>;
    order(
        r#"{"name": "x", "count": 256, "inner": {"age": 1}}"#,
        "field `count`: invalid value: integer `256`, expected u8",
    );
    order(
        r#"{"name": "x", "inner": {"age": "1"}}"#,
        "field `inner`: invalid type: string \"1\", expected i64",
    );
    order(r#"{"name": "x", "inner": {}}"#, "field `inner`: missing field `age`");
    order(r#"{"count": 1}"#, "missing field `name`");
    order(
        r#"{"name": "x", "more": 1}"#,
        "unknown field `more`, expected one of `name`, `count`, `inner`",
    );
    // Read in another way, about which nothing can be said.
    refused::<Wrapped>(r#"{"a": "x"}"#, "invalid type: string \"x\", expected i64");
    refused::<Vec<i64>>(r#"{"a": 1}"#, "invalid type: map, expected a sequence");
}
