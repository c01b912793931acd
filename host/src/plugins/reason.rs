//! Why a file is refused: one line for the operator, and what mends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Fits after the file's path and a colon; both texts are a single line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Reason {
    pub fn new(text: impl fmt::Display) -> Reason {
        Reason { text: one_line(&text.to_string()), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Reason {
        self.hint = Some(one_line(&hint.to_string()));
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Much of such a text comes from a plugin: it must not break the line, forge a second one or send
/// escape sequences to a terminal.
pub(super) fn one_line(text: &str) -> String {
    const LIMIT: usize = 2000;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LIMIT {
            while line.len() > LIMIT {
                line.pop();
            }
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_text_stays_one_plain_line() {
        assert_eq!(one_line(" a\n\tb \u{1b}[31mred\r\n"), "a b [31mred");
        assert!(one_line(&"é".repeat(5000)).ends_with('…'));
    }
}
