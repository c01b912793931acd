//! Documents read number for number.

use super::*;

#[test]
fn documents_are_read_as_they_were_written() {
    let text = r#"{"b": [1, -2, 1.5, true, null, "a\nb", "ü"], "a": {"x": {}}, "n": 1e300}"#;
    let json = Json::read(text).unwrap();
    assert_eq!(
        json.to_value().to_string(),
        serde_json::from_str::<Value>(text).unwrap().to_string()
    );
    assert!(matches!(&json.at("b").items()[6], Json::Text(Cow::Borrowed("ü"))));
    assert_eq!(*json.at("none").at("deeper"), Json::Null);
    assert_eq!(Json::read("18446744073709551615").unwrap(), Json::Float(18446744073709551615.0));
    assert!(Json::read("{").is_err() && !json.at("a").at("x").holds_something());
    let next = Cell::new(0);
    for name in ["b", "n", "a", "b"] {
        assert!(json.find(name, &next).is_some(), "{name}");
    }
}
