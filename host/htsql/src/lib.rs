//! HTSQL for PostgreSQL: text and a catalog in, a plan out. No IO.
//!
//! The stages, each with a representation of its own that prints itself (`explain`):
//!
//! | stage | from → to | decides | fails on |
//! |---|---|---|---|
//! | `syn` | text → `Syn` | what the text says | lexical and grammar errors |
//! | `command` | `Syn` → `Command` | which command runs on which query | arity of commands |
//! | `bind` | `Syn` + `Catalog` → `Bound` | what the names mean, types, output profile | unknown names, types, locators |
//! | `space` | `Bound` → spaces and units | which rows each expression speaks of | singular/plural mismatches |
//! | `rel` | spaces → `Rel` | joins, sub-selects, grouping, order | - |
//! | `sql` | `Rel` → SQL text and parameters | spelling | out-of-range literals |
//!
//! `compile` runs them all and returns a `plan::Plan`, which says everything an executor needs:
//! statements, how rows become values, how nested segments stitch together, where the fields of an
//! ETL feed go. The crate never opens a connection and never reads a clock.

mod bind;
pub mod catalog;
pub mod clarify;
mod coerce;
pub mod command;
mod deep;
pub mod domain;
pub mod error;
pub mod etl;
mod fetch;
mod func;
pub mod json;
pub mod literal;
pub mod name;
pub mod pending;
pub mod plan;
pub mod profile;
mod rel;
mod show;
mod space;
mod sql;
pub mod syn;
pub mod value;

use std::sync::Arc;

pub use catalog::{Catalog, Naming};
pub use error::{Error, Stage};
pub use pending::Pending;
pub use plan::Plan;
pub use value::{Param, Params, Value};

/// Catalogs of the databases that a query may reach by gateway commands (`/:rexdb`).
pub trait Gateways {
    /// Whether a gateway of that name exists; must not connect.
    fn has(&self, name: &str) -> bool;

    /// The catalog of a gateway, introspected on first use.
    ///
    /// # Errors
    /// What introspection reports.
    fn catalog(&self, name: &str) -> Result<Arc<Catalog>, Error>;
}

/// No gateways at all.
#[derive(Debug, Clone, Copy)]
pub struct NoGateways;

impl Gateways for NoGateways {
    fn has(&self, _name: &str) -> bool {
        false
    }

    fn catalog(&self, name: &str) -> Result<Arc<Catalog>, Error> {
        Err(Error::quoting("Found unknown gateway", name))
    }
}

/// What surrounds a query beside its catalog.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub gateways: &'a dyn Gateways,
}

/// Compiles a query. `params` are the values of its `$name` references.
///
/// # Errors
/// The layered text of the first error found, with the place in the query marked; a parameter that
/// the database has no value for.
pub fn compile(
    text: &str,
    catalog: &Catalog,
    env: &Env<'_>,
    params: &Params,
) -> Result<Plan, Error> {
    params.check()?;
    let syn = syn::parse(text)?;
    command::recognize(&syn, env)?.compile(catalog, env, params)
}

/// Checks an expression that is to become a calculated field of a table: the names in it, and their
/// types. It may refer to `params`, and to `$USER`, which applications set.
///
/// # Errors
/// The layered text of the first error found, with the place in the expression marked.
pub fn check_field(
    table: &str,
    params: &[String],
    body: &syn::Syn,
    catalog: &Catalog,
) -> Result<(), Error> {
    let params: Vec<String> = params.iter().cloned().chain(["USER".to_string()]).collect();
    deep::run(body, || bind::bind_field(table, &params, body, catalog))
}

/// The stages that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lens {
    Syn,
    Bound,
    Space,
    Rel,
    Sql,
}

/// Prints the representation of a stage; several statements are separated by an empty line. In place
/// of what nothing can be shown of before the query runs there is a line that starts with `--`.
///
/// # Errors
/// As `compile`, of the stages up to the one shown.
pub fn explain(
    text: &str,
    lens: Lens,
    catalog: &Catalog,
    env: &Env<'_>,
    params: &Params,
) -> Result<String, Error> {
    let syn = syn::parse(text)?;
    if lens == Lens::Syn {
        return deep::run(&syn, || Ok(syn.outline()));
    }
    let command = command::recognize(&syn, env)?;
    let explain = Explain { lens, env, params };
    let mut shown = Vec::new();
    explain.command(&command, catalog, &Pending::default(), &mut shown)?;
    Ok(shown.join("\n"))
}

struct Explain<'a> {
    lens: Lens,
    env: &'a Env<'a>,
    params: &'a Params,
}

impl Explain<'_> {
    fn command(
        &self,
        command: &command::Command,
        catalog: &Catalog,
        pending: &Pending,
        shown: &mut Vec<String>,
    ) -> Result<(), Error> {
        let syn = command.syn();
        let params = pending.settled(self.params);
        if command.is_fetch() {
            shown.push(match fetch::explain(syn, self.lens, catalog, &params) {
                Ok(text) => text,
                Err(_) if pending.delays(syn) => pending::delayed(syn),
                Err(error) => return Err(error),
            });
            return Ok(());
        }
        let gateway = command.gateway().map(|name| self.env.gateways.catalog(name)).transpose()?;
        let catalog = gateway.as_deref().unwrap_or(catalog);
        let catalog = if command.is_meta() { catalog.meta() } else { catalog };
        let parts = command
            .parts(pending, |record| record.compile(catalog, self.env, &params).ok()?.profile());
        if parts.is_empty() {
            shown.push(format!("-- nothing is fetched: {syn}\n"));
        }
        for (part, pending) in parts {
            self.command(part, catalog, &pending, shown)?;
        }
        Ok(())
    }
}
