//! Errors of the driver as the original printed them: the server's message, `LINE n:` with a caret
//! where the server gives a position, then `DETAIL:`, `HINT:` and `CONTEXT:`.

use std::error::Error as _;

use rex_htsql::Error;
use rex_htsql::error::Kind;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

/// Columns of a statement shown in a `LINE` excerpt, as libpq has it.
const DISPLAY_WIDTH: usize = 60;
/// Columns kept right of the caret.
const MIN_RIGHT: usize = 10;

/// The error of a statement: `sql` is what was sent, of which the first `hidden` characters were
/// put before the statement itself.
pub(crate) fn error(error: &tokio_postgres::Error, sql: &str, hidden: usize) -> Error {
    said(error, text(error, sql, hidden))
}

/// The error with a text that was made of it.
pub(crate) fn said(error: &tokio_postgres::Error, text: String) -> Error {
    let wrapped = Error::database(text);
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => wrapped.with_kind(Kind::Permission),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => wrapped.with_kind(Kind::Locked),
        _ => wrapped,
    }
}

/// The driver's text alone.
pub(crate) fn text(error: &tokio_postgres::Error, sql: &str, hidden: usize) -> String {
    if let Some(error) = error.as_db_error() {
        return server_text(error, sql, hidden);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn server_text(error: &DbError, sql: &str, hidden: usize) -> String {
    let mut text = error.message().to_string();
    let (position, source) = match error.position() {
        Some(ErrorPosition::Original(position)) => {
            let at = usize::try_from(*position).unwrap_or(0).saturating_sub(hidden);
            let start = sql.char_indices().nth(hidden).map_or(sql.len(), |(at, _)| at);
            (at, &sql[start..])
        }
        Some(ErrorPosition::Internal { position, query }) => {
            (usize::try_from(*position).unwrap_or(0), query.as_str())
        }
        None => (0, ""),
    };
    if position > 0
        && let Some(excerpt) = excerpt(source, position)
    {
        text.push('\n');
        text.push_str(&excerpt);
    }
    if let Some(detail) = error.detail() {
        text.push_str(&format!("\nDETAIL:  {detail}"));
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\nHINT:  {hint}"));
    }
    // That a parameter came by the extended protocol is nothing the user could know of.
    if let Some(context) = error.where_().filter(|text| !text.starts_with("unnamed portal")) {
        text.push_str(&format!("\nCONTEXT:  {context}"));
    }
    text
}

/// The line of a statement that holds the character at `position` (from 1), cut to the display
/// width, above a caret under that character.
fn excerpt(sql: &str, position: usize) -> Option<String> {
    let chars: Vec<char> = sql.chars().collect();
    let at = position - 1;
    if at > chars.len() {
        return None;
    }
    let is_break = |c: &char| matches!(c, '\n' | '\r');
    let mut begin = chars[..at].iter().rposition(is_break).map_or(0, |i| i + 1);
    let mut end = chars[at..].iter().position(is_break).map_or(chars.len(), |i| at + i);
    let line = chars[..at].iter().filter(|c| **c == '\n').count() + 1;
    let (mut cut_left, mut cut_right) = (false, false);
    if end - begin > DISPLAY_WIDTH {
        if begin + DISPLAY_WIDTH >= at + MIN_RIGHT {
            end = begin + DISPLAY_WIDTH;
            cut_right = true;
        } else {
            if at + MIN_RIGHT < end {
                end = at + MIN_RIGHT;
                cut_right = true;
            }
            if end - begin > DISPLAY_WIDTH {
                begin = end - DISPLAY_WIDTH;
                cut_left = true;
            }
        }
    }
    let mut head = format!("LINE {line}: ");
    if cut_left {
        head.push_str("...");
    }
    let width = head.chars().count() + (at - begin);
    let shown: String =
        chars[begin..end].iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
    let tail = if cut_right { "..." } else { "" };
    Some(format!("{head}{shown}{tail}\n{}^", " ".repeat(width)))
}

#[cfg(test)]
mod tests;
