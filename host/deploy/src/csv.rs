//! Comma-separated values: fields may be quoted, and then hold commas, line breaks and doubled
//! quotes. Lines without anything are left out.

/// A line: its fields, and how it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub fields: Vec<String>,
    pub text: String,
    /// Counted from 1.
    pub number: usize,
}

/// The lines of a text.
pub fn lines(text: &str) -> Vec<Line> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut number = 1;
    let mut rest = text;
    while !rest.is_empty() {
        let (fields, length) = line(rest);
        let written = rest[..length].trim_end_matches(['\r', '\n']);
        if !written.is_empty() {
            lines.push(Line { fields, text: written.to_owned(), number });
        }
        number += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    lines
}

/// The fields of the first line, and its length with the line break.
fn line(text: &str) -> (Vec<String>, usize) {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if is_quoted => {
                if chars.next_if(|(_, next)| *next == '"').is_some() {
                    field.push('"');
                } else {
                    is_quoted = false;
                }
            }
            c if is_quoted => field.push(c),
            '"' if field.is_empty() => is_quoted = true,
            ',' => fields.push(String::new()),
            '\n' => return (fields, at + 1),
            '\r' if matches!(chars.peek(), None | Some((_, '\n'))) => {}
            c => field.push(c),
        }
    }
    (fields, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_and_unquoted() {
        let read = lines("code,notes\r\n1,\"a, \"\"b\"\"\nc\"\n\n2,\n");
        let fields: Vec<&[String]> = read.iter().map(|line| line.fields.as_slice()).collect();
        assert_eq!(
            fields,
            [
                ["code".to_owned(), "notes".to_owned()].as_slice(),
                &["1".to_owned(), "a, \"b\"\nc".to_owned()],
                &["2".to_owned(), String::new()],
            ]
        );
        let numbers: Vec<usize> = read.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 5]);
        assert!(lines("").is_empty());
    }
}
