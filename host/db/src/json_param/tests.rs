//! Values of JSON as parameters.

use super::*;

#[test]
fn numbers_keep_their_digits() {
    let integer = |text| from_json(text).unwrap();
    assert_eq!(integer("-9223372036854775808").value, Value::Integer(i64::MIN));
    let long = Value::Decimal("99999999999999999999".to_string());
    assert_eq!(integer("99999999999999999999").value, long);
    assert_eq!(integer(" 0.5 ").value, Value::Float(0.5));
    assert!(from_json("1e999").is_err());
    let document = r#"{"n": 99999999999999999999, "d": 1.50}"#;
    assert_eq!(from_typed_json(document).unwrap().value, Value::Json(document.to_string()));
}

#[test]
fn what_is_no_value_is_refused() {
    for text in ["", "oops", "[1", "nul", "truth", "01", "{\"$nope\": 1}", "[1, true]"] {
        assert!(from_typed_json(text).is_err(), "{text}");
    }
}
