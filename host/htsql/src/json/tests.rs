//! JSON laid out again, digit for digit.

use super::*;

#[test]
fn layouts() {
    let text = r#" { "a b": [1, 1.50,{}], "c\"\\": "x, {y}", "d":[ ]}"#;
    let short = r#"{"a b":[1,1.50,{}],"c\"\\":"x, {y}","d":[]}"#;
    assert_eq!(compact(text), short);
    let value: serde_json::Value = serde_json::from_str(&text.replace("1.50", "2")).unwrap();
    let long = serde_json::to_string_pretty(&value).unwrap().replace('2', "1.50");
    assert_eq!(pretty(text, 0), long);
}
