//! JSON as the original writes it: members sorted by name.

use serde_json::{Map, Value};

/// On one line, with a blank after commas and colons.
pub(crate) fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members = sorted(members).into_iter();
            let members: Vec<String> = members
                .map(|(name, value)| format!("{}: {}", Value::from(name), spaced(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// On several lines, set in by two.
pub(crate) fn indented(value: &Value) -> String {
    serde_json::to_string_pretty(&ordered(value)).unwrap_or_default()
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(ordered).collect(),
        Value::Object(members) => {
            let members = sorted(members).into_iter();
            Value::Object(members.map(|(name, value)| (name.to_owned(), ordered(value))).collect())
        }
        other => other.clone(),
    }
}

fn sorted(members: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut members: Vec<(&str, &Value)> =
        members.iter().map(|(name, value)| (name.as_str(), value)).collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms() {
        let value = json!({"b": [1, {}], "a": "x"});
        assert_eq!(spaced(&value), r#"{"a": "x", "b": [1, {}]}"#);
        assert_eq!(indented(&json!({})), "{}");
        assert_eq!(indented(&value), "{\n  \"a\": \"x\",\n  \"b\": [\n    1,\n    {}\n  ]\n}");
    }
}
