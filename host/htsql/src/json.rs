//! JSON documents as text: laid out anew without being read, so that numbers keep their digits.

/// A valid document without blanks between its parts.
pub fn compact(text: &str) -> String {
    layout(text, None)
}

/// A valid document with a line a member or item, indented by two more a level from `indent`.
pub fn pretty(text: &str, indent: usize) -> String {
    layout(text, Some(indent))
}

fn layout(text: &str, indent: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut level = 0;
    let mut in_string = false;
    let mut is_escaped = false;
    // Just after `{` or `[`: whether a line is begun depends on what comes.
    let mut is_open = false;
    let line = |out: &mut String, level: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent + 2 * level));
        }
    };
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if matches!(c, '}' | ']') {
            level -= usize::from(level > 0);
            if !is_open {
                line(&mut out, level);
            }
        } else if is_open {
            line(&mut out, level);
        }
        is_open = matches!(c, '{' | '[');
        level += usize::from(is_open);
        in_string = c == '"';
        out.push(c);
        match c {
            ',' => line(&mut out, level),
            ':' if indent.is_some() => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests;
