//! Errors of databases in the layered form that users of marts read.

use rex_yaml::Error;

/// The text of a database's error, to which context may be added.
pub(crate) fn guarded<T>(result: Result<T, rex_htsql::Error>) -> Result<T, Error> {
    result.map_err(|error| Error::new(error.to_string()))
}
