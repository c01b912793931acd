//! What a deployment remembers in comments: labels, titles, defaults, aliases and generators that
//! cannot be told from the database itself, as a YAML document. It is written byte by byte as the
//! original writes it, so that both may deploy on one database. A comment that is no such document
//! is kept, as a document of its own behind ours.

use std::path::Path;

use rex_yaml::{Kind, Loader, Node, Scalar};
use serde_json::Value;

/// Where the original's writer breaks lines.
const WIDTH: usize = 80;

/// The comment of a table, a column or a primary key; each uses the entries that it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) aliases: Vec<String>,
    pub(crate) default: Option<String>,
    pub(crate) generators: Option<Vec<Option<String>>>,
    pub(crate) label: Option<String>,
    pub(crate) title: Option<String>,
    /// What else the comment said: the text of one that is not ours, or the documents that follow.
    pub(crate) rest: Rest,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Rest {
    #[default]
    Nothing,
    Foreign(String),
    /// Written as it was found, from the second `---` on.
    Behind(String),
}

impl Comment {
    pub(crate) fn read(text: Option<&str>) -> Comment {
        let Some(text) = text else { return Comment::default() };
        let foreign = || Comment { rest: Rest::Foreign(text.to_owned()), ..Comment::default() };
        if !text.starts_with("---") {
            return foreign();
        }
        let (ours, behind) = match text[3..].find("\n---") {
            Some(at) => (&text[..at + 4], Some(&text[at + 4..])),
            None => (text, None),
        };
        let document = Loader::new(Path::new("/")).text(ours, "comment", None).ok();
        match document.and_then(|node| entries(&node)) {
            Some(comment) => Comment {
                rest: behind.map_or(Rest::Nothing, |text| Rest::Behind(text.to_owned())),
                ..comment
            },
            None => foreign(),
        }
    }

    /// The text; `None` where there is nothing to remember.
    pub(crate) fn write(&self) -> Option<String> {
        let mut body = String::new();
        if !self.aliases.is_empty() {
            body.push_str("aliases:\n");
            for alias in &self.aliases {
                body.push_str(&entry("-", alias));
            }
        }
        if let Some(default) = &self.default {
            body.push_str(&entry("default:", default));
        }
        if let Some(generators) = &self.generators {
            body.push_str("generators:\n");
            for generator in generators {
                body.push_str(&format!("- {}\n", generator.as_deref().unwrap_or("null")));
            }
        }
        if let Some(label) = &self.label {
            body.push_str(&entry("label:", label));
        }
        if let Some(title) = &self.title {
            body.push_str(&entry("title:", title));
        }
        match (&self.rest, body.is_empty()) {
            (Rest::Nothing, true) => None,
            (Rest::Nothing, false) => Some(format!("---\n{body}")),
            (Rest::Foreign(text), true) => Some(text.clone()),
            (Rest::Foreign(text), false) => {
                let end = if scalar(text, 4).starts_with(['\'', '"', '|']) { "" } else { "...\n" };
                Some(format!("---\n{body}--- {}\n{end}", scalar(text, 4)))
            }
            (Rest::Behind(behind), true) => Some(format!("--- {{}}\n{behind}")),
            (Rest::Behind(behind), false) => Some(format!("---\n{body}{behind}")),
        }
    }
}

/// The entries of our document; `None` for any other.
fn entries(node: &Node) -> Option<Comment> {
    let Kind::Map(pairs) = &node.kind else { return None };
    let mut comment = Comment::default();
    for (key, value) in pairs {
        let key = key.value().ok()?;
        let text = || value.value().ok().and_then(|value| value.as_str().map(str::to_owned));
        match key.as_str()? {
            "label" => comment.label = Some(text()?),
            "title" => comment.title = Some(text()?),
            "default" => comment.default = Some(text()?),
            "aliases" => {
                comment.aliases = serde_json::from_value(value.value().ok()?).ok()?;
            }
            "generators" => {
                let Value::Array(items) = value.value().ok()? else { return None };
                let item = |item: &Value| item.as_str().map(str::to_owned);
                comment.generators = Some(items.iter().map(item).collect());
            }
            _ => return None,
        }
    }
    Some(comment)
}

/// A line `key value`, or more lines where the value is long.
fn entry(key: &str, value: &str) -> String {
    format!("{key} {}\n", scalar(value, key.len() + 1))
}

/// A text as a YAML scalar that begins in `column`, its later lines set in by two.
fn scalar(text: &str, column: usize) -> String {
    if text.ends_with('\n') && text.chars().all(|c| c == '\n' || is_plain(c)) {
        let lines: Vec<String> = text[..text.len() - 1]
            .split('\n')
            .map(|line| if line.is_empty() { String::new() } else { format!("  {line}") })
            .collect();
        let keep = if text == "\n" || text.ends_with("\n\n") { "+" } else { "" };
        let indent = if text.starts_with([' ', '\n']) { "2" } else { "" };
        return format!("|{indent}{keep}\n{}", lines.join("\n"));
    }
    if !text.chars().all(is_plain) {
        return double_quoted(text);
    }
    let folded = |text: &str, column: usize| fold(text, column, |line| format!("  {line}"));
    if can_be_plain(text) {
        folded(text, column)
    } else {
        format!("'{}'", folded(&text.replace('\'', "''"), column + 1))
    }
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Whether a text may stand unquoted and is read back as text.
fn can_be_plain(text: &str) -> bool {
    let first = text.chars().next();
    let second_is_blank = text.chars().nth(1).is_none_or(|c| c == ' ');
    let begins_badly = match first {
        None => true,
        Some(
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
            | '@' | '`',
        ) => true,
        Some('?' | ':' | '-') => second_is_blank,
        Some('=') => text == "=",
        _ => false,
    };
    let is_marker = text.starts_with("---") || text.starts_with("...");
    let has_indicator = text.contains(": ") || text.ends_with(':') || text.contains(" #");
    let is_blank_edged = text.starts_with(' ') || text.ends_with(' ');
    // The original's reader takes more words for values than ours does, and its writer knows.
    let words = ["yes", "no", "on", "off", "true", "false", "null", "~", "<<"];
    let is_word = words.iter().any(|word| {
        text == *word
            || text.eq_ignore_ascii_case(word)
                && (text == text.to_uppercase() || text[1..] == word[1..])
    });
    !(begins_badly || is_marker || has_indicator || is_blank_edged || is_word || is_number(text))
        && Loader::new(Path::new("/"))
            .text(text, "scalar", None)
            .is_ok_and(|node| matches!(node.kind, Kind::Scalar(_, Scalar::Str)))
}

/// Numbers of YAML 1.1 that the dialect of our reader takes for text: `12:30`, `1e3`.
fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    let mut parts = digits.split(':');
    let head = parts.next().unwrap_or_default();
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut rest = parts.peekable();
    rest.peek().is_some()
        && is_digits(head)
        && rest.all(|part| part.len() <= 2 && is_digits(part) && part < "60")
}

/// Breaks a text at single blanks where a line has become longer than the width.
fn fold(text: &str, column: usize, indent: impl Fn(&str) -> String) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    let mut at = column;
    let words: Vec<&str> = text.split(' ').collect();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            let is_single = !word.is_empty() && !words[index - 1].is_empty();
            if is_single && at > WIDTH {
                lines.push(String::new());
                at = 2;
            } else if let Some(line) = lines.last_mut() {
                line.push(' ');
                at += 1;
            }
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
        at += word.chars().count();
    }
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    std::iter::once(first).chain(lines.map(|line| indent(&line))).collect::<Vec<_>>().join("\n")
}

/// A text with escapes for everything that is not plain ASCII, on one line.
fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_plain(c) => out.push(c),
            c if u32::from(c) <= 0xFF => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c if u32::from(c) <= 0xFFFF => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
