//! Commands: the top of a query, recognised but not yet compiled.

use crate::Env;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::plan::Plan;
use crate::value::Params;

/// A recognised command (a fetch by default) that compiles when it is known with which parameters
/// it runs.
#[derive(Debug, Clone)]
pub struct Command {}

impl Command {
    /// Compiles the command.
    ///
    /// # Errors
    /// As `compile`.
    pub fn compile(
        &self,
        catalog: &Catalog,
        env: &Env<'_>,
        params: &Params,
    ) -> Result<Plan, Error> {
        let _ = (catalog, env, params);
        Err(Error::new("unable to compile"))
    }
}
