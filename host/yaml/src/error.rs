//! The original's layered error: an ordered list of paragraphs, first what went wrong, then the
//! context that each caller added, innermost first. Its text is part of the contract, so there is
//! one renderer and it is here; what an error means is decided where it is raised.

use std::fmt;

/// What went wrong and where, as paragraphs; see [`Error::guard`].
///
/// A paragraph is a message and, where there is one, a payload: printed below the message, each
/// line set in by four spaces, empty lines left empty. A whole error used as payload therefore
/// nests as a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    paragraphs: Vec<(String, Option<String>)>,
}

impl Error {
    /// One paragraph without payload.
    pub fn new(message: impl Into<String>) -> Error {
        Error { paragraphs: vec![(message.into(), None)] }
    }

    /// One paragraph with payload.
    pub fn with(message: impl Into<String>, payload: impl fmt::Display) -> Error {
        Error { paragraphs: vec![(message.into(), Some(payload.to_string()))] }
    }

    /// Adds the context of one more caller.
    #[must_use]
    pub fn guard(mut self, message: impl Into<String>, payload: impl fmt::Display) -> Error {
        self.paragraphs.push((message.into(), Some(payload.to_string())));
        self
    }

    /// Adds context that has no payload.
    #[must_use]
    pub fn remark(mut self, message: impl Into<String>) -> Error {
        self.paragraphs.push((message.into(), None));
        self
    }

    /// Rewrites every message and payload; for masking what must not be printed.
    #[must_use]
    pub fn map_text(self, rewrite: impl Fn(&str) -> String) -> Error {
        let paragraphs = self.paragraphs.into_iter();
        Error {
            paragraphs: paragraphs
                .map(|(message, payload)| (rewrite(&message), payload.as_deref().map(&rewrite)))
                .collect(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (message, payload)) in self.paragraphs.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            f.write_str(message)?;
            let Some(payload) = payload else { continue };
            if payload.is_empty() {
                f.write_str("\n")?;
            }
            for line in payload.lines() {
                f.write_str("\n")?;
                if !line.is_empty() {
                    write!(f, "    {line}")?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_joined_by_one_newline_and_payloads_set_in() {
        let error = Error::with("Expected an integer in range:", "[1..]")
            .guard("Got:", "'0'")
            .guard("While validating setting:", "asynctask_workers_poll_interval")
            .remark("While initializing RexDB application");
        assert_eq!(
            error.to_string(),
            "Expected an integer in range:\n    [1..]\nGot:\n    '0'\nWhile validating setting:\n    \
             asynctask_workers_poll_interval\nWhile initializing RexDB application"
        );
    }

    #[test]
    fn a_nested_error_is_a_block_and_empty_lines_stay_empty() {
        let inner = Error::with("Expected one of:", "a, b").guard("Got:", "'c'");
        let error = Error::with("Failed:", format!("{inner}\n\n{inner}"));
        assert_eq!(
            error.to_string(),
            "Failed:\n    Expected one of:\n        a, b\n    Got:\n        'c'\n\n    \
             Expected one of:\n        a, b\n    Got:\n        'c'"
        );
    }

    #[test]
    fn an_empty_payload_is_an_empty_line() {
        assert_eq!(Error::with("Got:", "").to_string(), "Got:\n");
    }
}
