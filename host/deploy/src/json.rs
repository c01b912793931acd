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
mod tests;
