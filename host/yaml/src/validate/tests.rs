//! What each validator takes, gives and says.

use super::*;
use crate::node::Loader;
use serde_json::json;
use std::path::Path;

#[track_caller]
fn value(val: &Val, input: Value, expect: Value) {
    match val.value(&input) {
        Ok(value) => assert_eq!(value, expect, "{input}"),
        Err(error) => panic!("{input} gave:\n{error}"),
    }
}

#[track_caller]
fn refused(val: &Val, input: Value, expect: &str) {
    assert_eq!(val.value(&input).expect_err(&input.to_string()).to_string(), expect, "{input}");
}

fn parse(val: &Val, text: &str) -> Result<Value, Error> {
    val.node(&Loader::new(Path::new("/")).text(text, "<unicode string>", None)?)
}

#[track_caller]
fn yaml(val: &Val, text: &str, expect: Value) {
    match parse(val, text) {
        Ok(value) => assert_eq!(value, expect, "{text:?}"),
        Err(error) => panic!("{text:?} gave:\n{error}"),
    }
}

/// `expect` is followed by the place, which is line 1.
#[track_caller]
fn yaml_refused(val: &Val, text: &str, expect: &str) {
    let error = parse(val, text).expect_err(text).to_string();
    let place = "While parsing:\n    \"<unicode string>\", line 1";
    assert_eq!(error, expect.replace("@", place), "{text:?}");
}

fn choices() -> Val {
    Val::Choice(["one", "two", "three"].map(String::from).to_vec())
}

fn person() -> Val {
    Val::record(vec![
        Field::required("name", Val::Str),
        Field::optional("age", Val::maybe(Val::uint()), json!(null)),
    ])
}

#[test]
fn strings_and_choices() {
    value(&Val::Str, json!("Hello"), json!("Hello"));
    refused(&Val::Str, json!(null), "Expected a string\nGot:\n    None");
    yaml(&Val::Str, " Hello ", json!("Hello"));
    yaml_refused(&Val::Str, " null ", "Expected a string\nGot:\n    null\n@");
    yaml_refused(&Val::Str, " [] ", "Expected a string\nGot:\n    a sequence\n@");
    yaml_refused(&Val::Str, "2017-05-22", "Expected a string\nGot:\n    2017-05-22\n@");
    value(&choices(), json!("two"), json!("two"));
    refused(&choices(), json!(2), "Expected a string\nGot:\n    2");
    refused(&choices(), json!("five"), "Expected one of:\n    one, two, three\nGot:\n    'five'");
    yaml_refused(&choices(), " 2 ", "Expected a string\nGot:\n    2\n@");
    let digits = Val::Pattern {
        shown: r"\d+",
        matches: |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
    };
    value(&digits, json!("12"), json!("12"));
    refused(&digits, json!("12a"), "Expected a string matching:\n    /\\d+/\nGot:\n    '12a'");
}

#[test]
fn booleans() {
    for input in [json!(false), json!(0), json!(0.0), json!(""), json!("0"), json!("false")] {
        value(&Val::Bool, input, json!(false));
    }
    for input in [json!(true), json!(1), json!("1"), json!("true")] {
        value(&Val::Bool, input, json!(true));
    }
    for (input, shown) in [(json!(null), "None"), (json!("yes"), "'yes'"), (json!([]), "[]")] {
        refused(&Val::Bool, input, &format!("Expected a Boolean value\nGot:\n    {shown}"));
    }
    yaml_refused(&Val::Bool, " null ", "Expected a Boolean value\nGot:\n    null\n@");
}

#[test]
fn integers() {
    let int = Val::Int { min: None, max: None };
    for (input, expect) in [(json!(10), 10), (json!("10"), 10), (json!(" -1_0 "), -10)] {
        value(&int, input, json!(expect));
    }
    for input in [json!("NaN"), json!(""), json!("1__0"), json!("+"), json!("0x1"), json!("1.0")] {
        let text = input.as_str().unwrap().to_owned();
        refused(&int, input, &format!("Expected an integer\nGot:\n    '{text}'"));
    }
    refused(&int, json!(true), "Expected an integer\nGot:\n    True");
    refused(&int, json!(1.5), "Expected an integer\nGot:\n    1.5");
    value(&int, json!(u64::MAX), json!("18446744073709551615"));
    value(&int, json!("-0_0_9223372036854775809"), json!("-9223372036854775809"));
    yaml(&int, "12345678901234567890123", json!("12345678901234567890123"));
    yaml(&int, "-0x80000000000000001", json!("-147573952589676412929"));
    let fraction = "0.1234567890123456789012345";
    let text = format!("Expected an integer\nGot:\n    {fraction}\n@");
    yaml_refused(&int, fraction, &text);
    let range = Val::Int { min: Some(1), max: Some(10) };
    let text = "Expected an integer in range:\n    [1..10]\nGot:\n    12345678901234567890123\n@";
    yaml_refused(&range, "12345678901234567890123", text);
    value(&range, json!(1), json!(1));
    value(&range, json!("10"), json!(10));
    let text = |range: &str, got: &str| {
        format!("Expected an integer in range:\n    {range}\nGot:\n    {got}")
    };
    refused(&range, json!(11), &text("[1..10]", "11"));
    refused(&Val::pint(), json!("0"), &text("[1..]", "'0'"));
    refused(&Val::uint(), json!(-1), &text("[0..]", "-1"));
    refused(&Val::Int { min: None, max: Some(10) }, json!(11), &text("[..10]", "11"));
    refused(&Val::pint(), json!(u64::MAX), &text("[1..]", "18446744073709551615"));
    let wide = "9".repeat(60);
    refused(&Val::pint(), json!(wide), &text("[1..]", &format!("'{wide}'")));
    yaml_refused(&int, " NaN ", "Expected an integer\nGot:\n    NaN\n@");
}

#[test]
fn floats_seconds_bytes_levels() {
    for (input, expect) in [
        (json!(0.5), 0.5),
        (json!(5), 5.0),
        (json!("5e-1"), 0.5),
        (json!(" 1_0.5 "), 10.5),
        (json!(true), 1.0),
    ] {
        value(&Val::Float, input, json!(expect));
    }
    value(&Val::Float, json!("NaN"), json!("NaN"));
    for text in ["127.0.0.1", "", "_1", "1__0"] {
        let expect = format!("Expected a float value\nGot:\n    '{text}'");
        refused(&Val::Float, json!(text), &expect);
    }
    yaml_refused(&Val::Float, " 127.0.0.1 ", "Expected a float value\nGot:\n    127.0.0.1\n@");
    value(&Val::Seconds { min: 0.0 }, json!("2.5"), json!(2.5));
    value(&Val::Seconds { min: 0.0 }, json!(0), json!(0.0));
    refused(
        &Val::Seconds { min: 0.0 },
        json!(true),
        "Expected a number of seconds\nGot:\n    True",
    );
    for bad in ["-1", "inf", "NaN", "1e10"] {
        let expect = "Expected a number of seconds in range:\n    [0..1000000000]\nGot:\n    ";
        refused(&Val::Seconds { min: 0.0 }, json!(bad), &format!("{expect}'{bad}'"));
    }
    for (text, expect) in [
        ("0", 0_u64),
        ("512", 512),
        ("512M", 512 << 20),
        ("1k", 1024),
        ("2GiB", 2 << 30),
        ("3TB", 3 << 40),
    ] {
        value(&Val::Bytes { min: 0 }, json!(text), json!(expect));
    }
    for bad in ["", "M", "B", "1.5M", "-1", "99999999T", "1MM", "5B", "é"] {
        let error = Val::Bytes { min: 0 }.value(&json!(bad)).expect_err(bad).to_string();
        assert!(error.starts_with("Expected a number of bytes, such as "), "{error}");
    }
    refused(
        &Val::Seconds { min: 0.5 },
        json!(0),
        "Expected a number of seconds in range:\n    [0.5..1000000000]\nGot:\n    0",
    );
    refused(
        &Val::Bytes { min: 1 << 20 },
        json!(512),
        "Expected a number of bytes in range:\n    [1048576..]\nGot:\n    512",
    );
    value(&Val::Level, json!("WARN"), json!("WARNING"));
    value(&Val::Level, json!(10), json!("DEBUG"));
    refused(
        &Val::Level,
        json!("debug"),
        "Expected one of:\n    DEBUG, INFO, WARNING, ERROR, CRITICAL, NOTSET\nGot:\n    'debug'",
    );
}

#[test]
fn dates_and_times() {
    for input in ["2017-05-22", "2017-05-22T12:34:56"] {
        value(&Val::Date, json!(input), json!("2017-05-22"));
    }
    yaml(&Val::Date, "2017-05-22", json!("2017-05-22"));
    for input in [json!("2017-02-30"), json!("foobar"), json!(123), json!(true), json!("é017-05-2")]
    {
        let error = Val::Date.value(&input).expect_err("date").to_string();
        assert!(error.starts_with("Expected a valid date in the format YYYY-MM-DD\nGot:"));
    }
    value(&Val::Time, json!("12:34:56"), json!("12:34:56"));
    value(&Val::Time, json!("12:34:56.000789"), json!("12:34:56.000789"));
    yaml(&Val::Time, "12:34:56.5", json!("12:34:56.500000"));
    for bad in ["12:99:56", "foobar", "1:2:3", "12:34:56.", "12:34:56.1234567"] {
        let expect = "Expected a valid time in the format HH:MM:SS[.FFFFFF]\nGot:\n    ";
        refused(&Val::Time, json!(bad), &format!("{expect}'{bad}'"));
    }
    for (input, expect) in [
        ("2017-05-22T12:34:56.000789", "2017-05-22T12:34:56.000789"),
        ("2017-05-22T12:34:56", "2017-05-22T12:34:56"),
        ("2017-05-22", "2017-05-22T00:00:00"),
        ("2017-05-22T12:34:56Z", "2017-05-22T12:34:56"),
        ("2017-05-22T12:34:56+0230", "2017-05-22T10:04:56"),
        ("2017-05-22T12:34:56.000789+02:30", "2017-05-22T10:04:56.000789"),
        ("2017-05-22T12:34:56-12:00", "2017-05-23T00:34:56"),
        ("2020-03-01T00:30:00+01:00", "2020-02-29T23:30:00"),
        ("2001-01-01T00:30:00+01:00", "2000-12-31T23:30:00"),
        ("1900-03-01T00:00:00+00:01", "1900-02-28T23:59:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59", "9999-12-31T23:59:59"),
    ] {
        value(&Val::DateTime, json!(input), json!(expect));
    }
    yaml(&Val::DateTime, "!!timestamp 2017-05-22T12:34:56+01:00", json!("2017-05-22T11:34:56"));
    for bad in [
        "2015-02-30T12:34:56",
        "2015-02-30",
        "2015-01-01T12:99:56",
        "foobar",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "0000-01-01",
        "2015-01-01T12:34:56+1",
        "2015-01-01X12:34:56",
    ] {
        let expect = "Expected a valid date/time in the format \
                      YYYY-MM-DDTHH:MM:SS[.FFFFFF][+-HH:MM]\nGot:\n    ";
        refused(&Val::DateTime, json!(bad), &format!("{expect}'{bad}'"));
    }
}

#[test]
fn sequences() {
    let any = Val::seq(Val::Any);
    let ints = Val::seq(Val::Int { min: None, max: None });
    value(&any, json!([0, false, null]), json!([0, false, null]));
    value(&any, json!("[0, false, null]"), json!([0, false, null]));
    refused(&any, json!(null), "Expected a sequence\nGot:\n    None");
    refused(&any, json!("[-:]"), "Expected a JSON array\nGot:\n    '[-:]'");
    refused(&any, json!("{}"), "Expected a sequence\nGot:\n    '{}'");
    value(&ints, json!(["1", 2]), json!([1, 2]));
    refused(
        &ints,
        json!([1, "2", "three"]),
        "Expected an integer\nGot:\n    'three'\nWhile validating sequence item\n    #3",
    );
    yaml(&any, " [0, false, null] ", json!([0, false, null]));
    yaml(&any, " ", json!([]));
    yaml_refused(&any, " null ", "Expected a sequence\nGot:\n    null\n@");
    yaml_refused(&any, " '[]' ", "Expected a sequence\nGot:\n    []\n@");
    let one_or = Val::OneOrSeq(Box::new(Val::Int { min: None, max: None }));
    value(&one_or, json!([2, 3]), json!([2, 3]));
    value(&one_or, json!("11"), json!(11));
    yaml(&one_or, "[2]", json!([2]));
    refused(&one_or, json!("NaN"), "Expected an integer\nGot:\n    'NaN'");
}

#[test]
fn mappings() {
    let any = Val::map(Val::Any, Val::Any);
    value(&any, json!({"b": 1, "a": {"z": 1, "y": 2}}), json!({"a": {"z": 1, "y": 2}, "b": 1}));
    let sorted = any.value(&json!({"b": 1, "a": 2})).unwrap();
    assert_eq!(sorted.to_string(), r#"{"a":2,"b":1}"#);
    value(&any, json!("{\"0\": false}"), json!({"0": false}));
    refused(&any, json!(null), "Expected a mapping\nGot:\n    None");
    refused(&any, json!("{-:}"), "Expected a JSON object\nGot:\n    '{-:}'");
    let ints = Val::map(Val::pint(), Val::Int { min: None, max: None });
    refused(
        &ints,
        json!({"0": "1"}),
        "Expected an integer in range:\n    [1..]\nGot:\n    '0'\nWhile validating mapping \
         key:\n    '0'",
    );
    refused(
        &ints,
        json!({"1": "false"}),
        "Expected an integer\nGot:\n    'false'\nWhile validating mapping value for key:\n    1",
    );
    yaml(&any, "{'0': 'false'}", json!({"0": "false"}));
    yaml(&any, "", json!({}));
    yaml_refused(&any, "null", "Expected a mapping\nGot:\n    null\n@");
    let error = parse(&any, " { key: value, key: value } ").unwrap_err().to_string();
    assert!(
        error.ends_with("found a duplicate key\n      in \"<unicode string>\", line 1, column 16")
    );
    assert!(parse(&any, " { {}: {} } ").is_err());

    let omap = Val::OMap(Box::new(Val::Any), Box::new(Val::Any));
    let expect = r#"{"1":"true","0":"false"}"#;
    for input in [
        json!([["1", "true"], ["0", "false"]]),
        json!([{"1": "true"}, {"0": "false"}]),
        json!(r#"{"1": "true", "0": "false"}"#),
    ] {
        assert_eq!(omap.value(&input).unwrap().to_string(), expect);
    }
    let ordered = parse(&omap, " [ '1': 'true', '0': 'false' ] ").unwrap();
    assert_eq!(ordered.to_string(), expect);
    refused(&omap, json!([{}]), "Expected an ordered mapping\nGot:\n    [{}]");
    refused(&omap, json!("{-:}"), "Expected a JSON object\nGot:\n    '{-:}'");
    yaml(&omap, "", json!({}));
    yaml_refused(&omap, "null", "Expected an ordered mapping\nGot:\n    null\n@");
    let entry = "Expected an entry of an ordered mapping\nGot:\n    ";
    yaml_refused(&omap, "[ null ]", &format!("{entry}null\n@"));
    yaml_refused(&omap, "[ {} ]", &format!("{entry}a mapping\n@"));
}

#[test]
fn records() {
    let person = person();
    let alice = json!({"name": "Alice", "age": 33});
    value(&person, json!({"age": "33", "name": "Alice"}), alice.clone());
    value(&person, json!("{\"name\": \"Alice\", \"age\": 33}"), alice.clone());
    value(&person, json!({"name": "Bob"}), json!({"name": "Bob", "age": null}));
    refused(&person, json!("David"), "Expected a JSON object\nGot:\n    'David'");
    refused(&person, json!(["Bob", 1]), "Expected a mapping\nGot:\n    ['Bob', 1]");
    refused(&person, json!({"age": 81}), "Missing mandatory field:\n    name");
    refused(&person, json!({"sex": "f", "zip": 1}), "Got unexpected field:\n    sex");
    refused(
        &person,
        json!({"name": "Fiona", "age": false}),
        "Expected an integer\nGot:\n    False\nWhile validating field:\n    age",
    );
    yaml(&person, " { name: Alice, age: 33 } ", alice);
    yaml_refused(&person, "null", "Expected a mapping\nGot:\n    null\n@");
    yaml_refused(&person, "{name: A, name: B}", "Got duplicate field:\n    name\n@");
    yaml_refused(&person, "{name: A, sex: f}", "Got unexpected field:\n    sex\n@");
    yaml_refused(&person, "{age: 81}", "Missing mandatory field:\n    name\n@");
    yaml_refused(
        &person,
        "{name: A, age: false}",
        "Expected an integer\nGot:\n    false\n@\nWhile validating field:\n    age",
    );
    let spaced = Val::record(vec![Field::optional("day_of_week", Val::Str, json!(null))]);
    value(&spaced, json!({"day-of week": "x"}), json!({"day_of_week": "x"}));
    yaml(&spaced, "", json!({"day_of_week": null}));
    let Val::Record(record) = person else { unreachable!() };
    let open = Val::Record(Record { open: true, ..record });
    value(&open, json!({"name": "E", "sex": "f"}), json!({"name": "E", "age": null}));
    yaml(&open, "{name: E, sex: f}", json!({"name": "E", "age": null}));
}

#[test]
fn alternatives() {
    let val = Val::OneOf(vec![Val::Bool, Val::Int { min: None, max: None }]);
    value(&val, json!("1"), json!(true));
    value(&val, json!("10"), json!(10));
    refused(
        &val,
        json!("NaN"),
        "Failed to match the value against any of the following:\n    Expected a Boolean \
         value\n    Got:\n        'NaN'\n\n    Expected an integer\n    Got:\n        'NaN'",
    );
    let int = || Val::Int { min: None, max: None };
    let union = Val::Union(Union {
        variants: vec![
            (Test::Scalar, int()),
            (Test::Seq, Val::seq(int())),
            (Test::Map, Val::map(int(), Val::Bool)),
        ],
        default: None,
    });
    value(&union, json!("10"), json!(10));
    value(&union, json!(["10"]), json!([10]));
    value(&union, json!({"10": "true"}), json!({"10": true}));
    yaml(&union, "{10: true}", json!({"10": true}));
    yaml(&union, "[10]", json!([10]));
    yaml(&union, "10", json!(10));
    let records =
        Val::Union(Union { variants: vec![(Test::Field("name"), person())], default: None });
    value(&records, json!("{\"name\": \"A\"}"), json!({"name": "A", "age": null}));
    yaml(&records, "{name: A}", json!({"name": "A", "age": null}));
    refused(
        &records,
        json!({"age": 81}),
        "Expected one of:\n    name record\nGot:\n    {'age': 81}",
    );
    refused(&records, json!("-"), "Expected one of:\n    name record\nGot:\n    '-'");
    yaml_refused(&records, "{age: 1}", "Expected one of:\n    name record\nGot:\n    a mapping\n@");
    let open = |fields| Val::Record(Record { fields, open: true });
    let typed = Val::Union(Union {
        variants: vec![
            (Test::FieldIs("type", "Person"), open(vec![Field::required("name", Val::Str)])),
            (Test::FieldIs("type", "Dog"), open(vec![Field::required("breed", Val::Str)])),
        ],
        default: None,
    });
    value(&typed, json!({"type": "Dog", "breed": "x"}), json!({"breed": "x"}));
    yaml(&typed, "{type: Person, name: x}", json!({"name": "x"}));
    refused(
        &typed,
        json!({"name": "C"}),
        "Expected one of:\n    Person record\n    Dog record\nGot:\n    {'name': 'C'}",
    );
    let default = Val::Union(Union {
        variants: vec![(Test::Seq, Val::seq(int()))],
        default: Some(Box::new(int())),
    });
    value(&default, json!("10"), json!(10));
    refused(&default, json!(null), "Expected an integer\nGot:\n    None");
    value(&Val::maybe(int()), json!(null), json!(null));
    yaml(&Val::maybe(int()), "", json!(null));
    yaml_refused(&Val::maybe(int()), "NaN", "Expected an integer\nGot:\n    NaN\n@");
}

#[test]
fn what_is_looked_at_once_more() {
    let val = Val::checked(Val::Str, |value| match value.as_str() {
        Some("") => Err(Error::new("Expected some text")),
        text => Ok(text.unwrap_or_default().to_uppercase().into()),
    });
    value(&val, json!("a"), json!("A"));
    yaml(&val, "a", json!("A"));
    refused(&val, json!(1), "Expected a string\nGot:\n    1");
    refused(&val, json!(""), "Expected some text");
    yaml_refused(&val, "''", "Expected some text\n@");
}
