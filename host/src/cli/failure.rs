//! What a command says when it cannot do what it was asked.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use rex_transport::{Kind, TransportError};

use crate::settings;
use crate::state::StateError;

/// One clear error: what went wrong, why, what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
}

/// `EX_CONFIG` of sysexits: what is configured cannot work, and trying again will not help.
const BAD_CONFIGURATION: u8 = 78;

/// The command line was not understood.
pub(crate) const USAGE: u8 = 2;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), hint: None, code: 1 }
    }

    pub(crate) fn because(mut self, cause: &dyn Error) -> Failure {
        self.text = format!("{}: {}", self.text, chain(cause));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What is configured cannot work.
    pub(crate) fn configuration(mut self) -> Failure {
        self.code = BAD_CONFIGURATION;
        self
    }

    /// The command line was not understood.
    pub(crate) fn usage(mut self) -> Failure {
        self.code = USAGE;
        self
    }

    /// Where there is room for one text.
    pub(crate) fn in_one(self) -> String {
        match self.hint {
            Some(hint) => format!("{} ({hint})", self.text),
            None => self.text,
        }
    }

    /// As for all commands but `run`: a failure like any other.
    pub(crate) fn plain(mut self) -> Failure {
        if self.code == BAD_CONFIGURATION {
            self.code = 1;
        }
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// The text alone, as the original's spelling prints it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<settings::Error> for Failure {
    fn from(error: settings::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Failure {
        let failure = Failure::new(error.to_string());
        let failure = if error.kind == Kind::Config { failure.configuration() } else { failure };
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        let failure = Failure::new(chain(&error));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
