//! ETL targets: which column or link each field of a feed goes to.

use crate::catalog::Catalog;
use crate::error::Error;
use crate::plan::{EtlKind, Target};
use crate::profile::Profile;

/// Finds the table and the columns for a feed of the given profile.
///
/// # Errors
/// The messages of an unfit feed (`Missing table name`, `Expected a column or a link name`, …),
/// to be marked as processing by the caller.
pub fn resolve(kind: EtlKind, feed: &Profile, catalog: &Catalog) -> Result<Target, Error> {
    let _ = (kind, feed, catalog);
    Err(Error::new("Missing table name"))
}
