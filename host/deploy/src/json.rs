//! JSON as the original writes it: members sorted by name.

use serde_json::Value;

use rex_yaml::given::{Given, sorted};

/// On one line, with a blank after commas and colons.
pub(crate) fn spaced(given: &Given) -> String {
    match given {
        Given::List(items) => {
            format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", "))
        }
        Given::Object(members) => {
            let members = sorted(members).into_iter();
            let members: Vec<String> = members
                .map(|(name, value)| format!("{}: {}", Value::from(name), spaced(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// On several lines, set in by two.
pub(crate) fn indented(given: &Given) -> String {
    serde_json::to_string_pretty(given).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let read = |text: &str| Given::json(text).unwrap();
        let value = read(r#"{"b": [1, {}], "a": "x"}"#);
        assert_eq!(spaced(&value), r#"{"a": "x", "b": [1, {}]}"#);
        assert_eq!(indented(&read("{}")), "{}");
        assert_eq!(indented(&value), "{\n  \"a\": \"x\",\n  \"b\": [\n    1,\n    {}\n  ]\n}");
    }
}
