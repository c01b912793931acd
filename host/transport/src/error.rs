//! What can go wrong at a store, and whether it is worth trying again.

use std::error::Error;

use crate::Submitted;

/// A failed operation. `Display` is the whole text for a person, in the original's layout where it
/// has one (`Failed to connect to the Postgres server:` and the driver's text, indented); passwords
/// never appear in it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct TransportError {
    pub kind: Kind,
    pub text: String,
    /// What an operator can do about it.
    pub hint: Option<String>,
    /// Of a submit that failed: the tasks that are in the store all the same, each with its place in
    /// the call.
    pub taken: Vec<(usize, Submitted)>,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server is away or the connection broke: worth a retry.
    Unreachable,
    /// The store refuses (rights, schema, a full disk, a locked file): a person must act, but
    /// trying again later may work.
    Refused,
    /// The URI or an option is wrong: trying again cannot help.
    Config,
    /// The request itself is wrong, such as a claim on a transport without owner.
    Invalid,
}

impl TransportError {
    pub fn new(kind: Kind, text: impl Into<String>) -> TransportError {
        TransportError { kind, text: text.into(), hint: None, taken: Vec::new(), source: None }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> TransportError {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> TransportError {
        self.source = Some(source.into());
        self
    }

    /// The text as one line.
    pub fn line(&self) -> String {
        self.text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// Whether a running host should keep its tasks and try the same call again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Refused)
    }
}
