//! The database as introspection finds it: plain data, no names resolved, nothing derived.
//!
//! Introspection fills a `Database`; `Catalog::new` (in `catalog`) derives labels, links and
//! identities from it. Everything here is in the order in which introspection is to deliver it:
//! schemas by oid, tables by name within a schema, columns by attribute number, keys by
//! constraint oid.

use crate::domain::Domain;

/// All readable tables of one database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Database {
    /// By schema oid; without `pg_*` and `information_schema`.
    pub schemas: Vec<Schema>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    pub name: String,
    /// Position counted from the end of `current_schemas(true)`, 1 for the last one; 0 for schemas
    /// outside of the search path.
    pub priority: i32,
    pub comment: Option<String>,
    /// By name. Relations of kind table, partitioned table or view that the session may SELECT.
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub name: String,
    pub comment: Option<String>,
    pub columns: Vec<Column>,
    /// PRIMARY KEY and UNIQUE constraints, by oid.
    pub unique_keys: Vec<UniqueKey>,
    /// By oid; those whose target is not among the tables are left out.
    pub foreign_keys: Vec<ForeignKey>,
    /// The rows of a table that no database has, a JSON array of objects by column: a statement
    /// brings them along.
    pub rows: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// The base type's family: SQL domains are unwrapped, `json`/`jsonb` are `Json`, types without
    /// a family are `Opaque`.
    pub domain: Domain,
    /// The database type as `format_type` prints it, for casts on insert.
    pub sql_type: String,
    pub nullable: bool,
    /// A DEFAULT, an identity or a generator fills the column when it is not given.
    pub has_default: bool,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UniqueKey {
    pub name: String,
    /// Indexes into `Table::columns`, in key order.
    pub columns: Vec<usize>,
    pub primary: bool,
    /// The key does not hold for all rows (a partial index); never set for constraints.
    pub partial: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKey {
    pub name: String,
    /// Indexes into the origin's `Table::columns`, in key order.
    pub columns: Vec<usize>,
    pub target_schema: String,
    pub target_table: String,
    /// Indexes into the target's `Table::columns`, parallel to `columns`.
    pub target_columns: Vec<usize>,
    /// A multi-column MATCH SIMPLE key of which some target column is nullable.
    pub partial: bool,
    pub comment: Option<String>,
}
