//! Error texts: layered paragraphs, with an excerpt of the query and carets under the culprit.
//!
//! An error is a list of paragraphs, each a message and perhaps a quote. Layers add context
//! outward (`While translating`, `While inserting record #1`), but a query text is quoted with
//! carets once only: the innermost layer that has a mark in it wins.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A place in a query text.
#[derive(Clone, PartialEq, Eq)]
pub struct Mark {
    /// The decoded query text.
    pub text: Arc<str>,
    /// Byte offsets into `text`, on character boundaries; `start <= end`.
    pub start: usize,
    pub end: usize,
}

impl Mark {
    /// The one line that holds the start, then a line of carets under the marked part of it.
    pub fn excerpt(&self) -> String {
        let start = self.start.min(self.text.len());
        let end = self.end.clamp(start, self.text.len());
        let line_start = self.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        let indent = self.text[line_start..start].chars().count();
        let width = self.text[start..end.min(line_end).max(start)].chars().count().max(1);
        let line = self.text[line_start..line_end].trim_end_matches('\r');
        format!("{line}\n{}{}", " ".repeat(indent), "^".repeat(width))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// Who is to blame, for callers that map errors to statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The query is wrong.
    Query,
    /// The session may not do it.
    Permission,
    /// The database refused.
    Database,
    /// Another transaction has locked what is needed, for longer than the session waits.
    Locked,
    /// Neither: a fault of this program.
    Internal,
}

/// What was being done when an error occurred; the wording of the marked paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Parsing,
    Translating,
    Processing,
}

#[derive(Debug, Clone, PartialEq)]
struct Paragraph {
    message: String,
    quote: Quote,
}

#[derive(Debug, Clone, PartialEq)]
enum Quote {
    None,
    Text(String),
    Mark(Mark),
}

/// An error text in the making. `Display` gives the whole text, without a final newline.
#[derive(Debug, Clone, PartialEq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    kind: Kind,
    paragraphs: Vec<Paragraph>,
}

impl Error {
    /// An error of the query with a message and no quote.
    pub fn new(message: impl Into<String>) -> Error {
        Error::of(Kind::Query, message)
    }

    /// An error of any kind with a message and no quote.
    pub fn of(kind: Kind, message: impl Into<String>) -> Error {
        let paragraphs = vec![Paragraph { message: message.into(), quote: Quote::None }];
        Error(Box::new(Inner { kind, paragraphs }))
    }

    /// An error of the query, `message:` above the indented quote.
    pub fn quoting(message: impl Into<String>, quote: impl Into<String>) -> Error {
        let mut error = Error::new(message);
        error.0.paragraphs[0].quote = Quote::Text(quote.into());
        error
    }

    /// A database error: `driver` is the driver's text (message, `LINE n:` with its caret line,
    /// `DETAIL:  …`, `HINT:  …`).
    pub fn database(driver: impl Into<String>) -> Error {
        let mut error = Error::quoting("Got an error from the database driver", driver);
        error.0.kind = Kind::Database;
        error
    }

    /// Changes the kind.
    pub fn with_kind(mut self, kind: Kind) -> Error {
        self.0.kind = kind;
        self
    }

    /// Adds a paragraph; an empty quote adds the bare message.
    pub fn wrap(mut self, message: impl Into<String>, quote: impl Into<String>) -> Error {
        let quote = quote.into();
        let quote = if quote.is_empty() { Quote::None } else { Quote::Text(quote) };
        self.0.paragraphs.push(Paragraph { message: message.into(), quote });
        self
    }

    /// Adds the choices of a `Perhaps you had in mind` paragraph; nothing when there are none.
    pub fn hint(self, choices: &[String]) -> Error {
        if choices.is_empty() {
            self
        } else {
            self.wrap("Perhaps you had in mind", choices.join("\n"))
        }
    }

    /// Adds `While parsing|translating|processing` with an excerpt, unless a paragraph already
    /// quotes this query text.
    pub fn at(mut self, stage: Stage, mark: &Mark) -> Error {
        let quoted = |p: &Paragraph| matches!(&p.quote, Quote::Mark(m) if m.text == mark.text);
        if !self.0.paragraphs.iter().any(quoted) {
            let message = match stage {
                Stage::Parsing => "While parsing",
                Stage::Translating => "While translating",
                Stage::Processing => "While processing",
            };
            self.0
                .paragraphs
                .push(Paragraph { message: message.to_string(), quote: Quote::Mark(mark.clone()) });
        }
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, paragraph) in self.0.paragraphs.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&visible(&paragraph.message))?;
            let quote = match &paragraph.quote {
                Quote::None => continue,
                Quote::Text(text) => text.clone(),
                Quote::Mark(mark) => mark.excerpt(),
            };
            f.write_str(":")?;
            for line in visible(&quote).split('\n') {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// Text with the control characters that a terminal would obey replaced by pictures of them, one
/// for one, so that carets still stand below what they mark.
fn visible(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let picture = |c: char| match c {
        '\0'..='\x1f' if is_obeyed(c) => {
            char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')
        }
        '\x7f' => '\u{2421}',
        c if is_obeyed(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(picture).collect())
}

impl std::error::Error for Error {}
