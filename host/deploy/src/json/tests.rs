//! Both forms of one document.

use super::*;

#[test]
fn both_forms() {
    let read = |text: &str| Given::json(text).unwrap();
    let value = read(r#"{"b": [1, {}], "a": "x"}"#);
    assert_eq!(spaced(&value), r#"{"a": "x", "b": [1, {}]}"#);
    assert_eq!(indented(&read("{}")), "{}");
    assert_eq!(indented(&value), "{\n  \"a\": \"x\",\n  \"b\": [\n    1,\n    {}\n  ]\n}");
}
