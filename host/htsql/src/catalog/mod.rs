//! The catalog: what introspection found, and the names by which queries reach it.

pub mod model;

use model::Database;

/// How tables, columns and links are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Names as the database has them (stock HTSQL).
    Stock,
    /// The conventions of RexDB deployments: `id` columns and foreign key columns are hidden,
    /// links are public, identities are primary keys, titles come from metadata.
    Rex,
}

/// A database with its naming; immutable, shared by all queries.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    naming: Naming,
}

impl Catalog {
    /// Derives labels, links and identities.
    pub fn new(database: Database, naming: Naming) -> Catalog {
        Catalog { database, naming }
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn naming(&self) -> Naming {
        self.naming
    }
}
