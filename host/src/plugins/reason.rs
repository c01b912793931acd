//! Why a file is refused: one line for the operator, and what mends it.

use std::fmt;
use std::path::Path;

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

/// A file's path as a part of a line: its name may be anything but `/`.
pub fn shown(path: &Path) -> String {
    let plain = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    path.to_string_lossy().chars().map(plain).collect()
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
    use std::path::Path;

    use super::{one_line, shown};

    #[test]
    fn a_path_stays_on_its_line() {
        assert_eq!(shown(Path::new("d e/\u{1b}[31m\nü.so")), "d e/\\u{1b}[31m\\nü.so");
    }

    #[test]
    fn a_text_stays_one_plain_line() {
        assert_eq!(one_line(" a\n\tb \u{1b}[31mred\r\n"), "a b [31mred");
        assert!(one_line(&"é".repeat(5000)).ends_with('…'));
    }
}
