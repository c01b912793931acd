//! Errors of databases in the layered form that users of marts read, and the failure to make a mart.

use std::fmt;

use rex_yaml::Error;

/// Why a mart was not made.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    /// Something of the mart may be left, since its server could not be reached any more;
    /// [`tidy`](crate::tidy) removes it.
    pub is_left: bool,
}

/// Nothing was begun.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, is_left: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// The text of a database's error, to which context may be added.
pub(crate) fn guarded<T>(result: Result<T, rex_htsql::Error>) -> Result<T, Error> {
    result.map_err(|error| Error::new(error.to_string()))
}
