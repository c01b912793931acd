//! The commands that write.

use rex_htsql::plan::EtlPlan;
use rex_htsql::{Error, Params};

use crate::exec::Run;
use crate::product::Feed;

/// A name as an SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs an ETL command.
pub(crate) async fn run(run: Run<'_>, plan: &EtlPlan, params: &Params) -> Result<Feed, Error> {
    let _ = (run, plan, params);
    Err(Error::new("unsupported action"))
}
