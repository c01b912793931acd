//! Parameters bound to what was given.

use super::*;
use serde_json::json;

fn asked() -> Vec<Parameter> {
    let text = json!("somefoo");
    vec![
        Parameter { name: "foo".into(), ty: DataType::Text, default: Some(text) },
        Parameter { name: "bar".into(), ty: DataType::Integer, default: None },
    ]
}

fn bind(given: Value) -> Result<Parameters, String> {
    let given = given.as_object().expect("an object");
    Parameters::bind(&asked(), given).map_err(|error| error.to_string())
}

#[test]
fn what_is_asked_for_must_be_given_and_fit() {
    assert_eq!(bind(json!({"bar": 42})).unwrap().shown(), "foo='somefoo', bar=42");
    assert_eq!(bind(json!({"bar": "7", "foo": "x"})).unwrap().shown(), "foo='x', bar=7");
    assert_eq!(bind(json!({})).unwrap_err(), "Missing required parameter \"bar\"");
    assert_eq!(
        bind(json!({"bar": "x"})).unwrap_err(),
        "Expected an integer\nGot:\n    'x'\nWhile validating parameter:\n    bar"
    );
    assert_eq!(
        bind(json!({"bar": 1, "qux": 1, "baz": 2})).unwrap_err(),
        "Unknown parameters: baz, qux"
    );
}

#[test]
fn integers_are_as_long_as_they_are() {
    for (given, shown) in [
        (json!("12345678901234567890"), "12345678901234567890"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(" -0_99999999999999999999999999999999999999999 "), &format!("-{}", "9".repeat(41))),
        (json!("+9223372036854775808"), "9223372036854775808"),
        (json!("-9223372036854775808"), "-9223372036854775808"),
    ] {
        let bound = bind(json!({"bar": given})).unwrap();
        assert_eq!(bound.shown(), format!("foo='somefoo', bar={shown}"));
        assert_eq!(bound.fill("%(bar)s").unwrap().trim(), shown);
        assert!(bound.htsql().is_ok(), "{given}");
    }
}

#[test]
fn later_ones_win() {
    let plain = json!({"foo": "plain", "more": true});
    let mut all = bind(json!({"bar": 1})).unwrap().over(&(&plain).into());
    all.set_plain("OWNER", "me");
    assert_eq!(all.shown(), "foo='somefoo', more=True, bar=1, OWNER='me'");
}

#[test]
fn sql_is_filled_in() {
    let mut all = Parameters::default();
    for (name, value) in [
        ("text", json!("it's \\ 100%")),
        ("no", json!(null)),
        ("n", json!(-3)),
        ("list", json!(["a", 1])),
    ] {
        all.set_plain(name, value);
    }
    let date = Bound { value: (&json!("2026-01-02")).into(), ty: Some(DataType::Date) };
    all.set("date", date);
    let filled = all.fill("%(text)s %(no)s -%(n)s %(list)s %(date)s 5%% LIKE 'a%' %(x").unwrap();
    assert_eq!(
        filled,
        "E'it''s \\\\ 100%' NULL - -3 ARRAY['a', 1] '2026-01-02'::date 5% LIKE 'a%' %(x"
    );
    let error = all.fill("%(gone)s").unwrap_err().to_string();
    assert_eq!(error, "Missing required parameter \"gone\"");
}

#[test]
fn dates_are_shown_as_python_does() {
    for (ty, text, shown) in [
        (DataType::Date, "2020-01-02", "datetime.date(2020, 1, 2)"),
        (DataType::Time, "12:30:00", "datetime.time(12, 30)"),
        (DataType::Time, "12:30:05.000100", "datetime.time(12, 30, 5, 100)"),
        (DataType::DateTime, "2020-01-02T00:00:00", "datetime.datetime(2020, 1, 2, 0, 0)"),
    ] {
        assert_eq!(Bound { value: (&json!(text)).into(), ty: Some(ty) }.repr(), shown);
    }
}
