//! The catalog: what introspection found, and the names by which queries reach it.
//!
//! `model` is the plain data, `label` gives names to tables, columns and links, `identity` finds
//! what identifies a row, `meta` turns a catalog into a database of its own. Labels of a table are derived when it is first looked at, so a database
//! of thousands of tables costs a query only what it touches.

mod identity;
mod label;
mod meta;
pub mod model;
mod rex;

use std::collections::HashMap;
use std::sync::OnceLock;

pub(crate) use identity::{Element, Identity};
pub(crate) use label::{Arc, Label};
use model::{Column, Database, ForeignKey, Schema, Table};
pub use rex::titled;

/// How tables, columns and links are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Names as the database has them (stock HTSQL).
    Stock,
    /// The conventions of RexDB deployments: `id` columns and foreign key columns are hidden,
    /// links are public, identities are primary keys, titles come from metadata.
    Rex,
}

/// A table by its position in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableId(pub(crate) u32);

/// A step over a foreign key, along it or against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Join {
    /// The table that has the foreign key.
    owner: TableId,
    key: u32,
    pub(crate) is_direct: bool,
}

impl Join {
    /// The same foreign key the other way.
    fn reversed(self) -> Join {
        Join { is_direct: !self.is_direct, ..self }
    }
}

/// A database with its naming; immutable, shared by all queries.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    naming: Naming,
    /// Schema and table positions in `database`, by `TableId`.
    places: Vec<(usize, usize)>,
    /// Foreign keys that refer to each table.
    referring: Vec<Vec<Join>>,
    /// Targets of the foreign keys of each table; `None` outside of the catalog.
    targets: Vec<Vec<Option<TableId>>>,
    home: OnceLock<Names>,
    names: Vec<OnceLock<Names>>,
    identities: Vec<OnceLock<Option<Identity>>>,
    meta: OnceLock<Box<Catalog>>,
}

/// The labels of a node, with an index by name.
#[derive(Debug)]
struct Names {
    labels: Vec<Label>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Names {
    fn new(labels: Vec<Label>) -> Names {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::with_capacity(labels.len());
        for (index, label) in labels.iter().enumerate() {
            by_name.entry(label.name.clone()).or_default().push(index);
        }
        Names { labels, by_name }
    }

    fn find(&self, name: &str, arity: Option<usize>) -> Option<&Label> {
        let found = self.by_name.get(name)?;
        found.iter().map(|i| &self.labels[*i]).find(|label| label.arity == arity)
    }
}

impl Catalog {
    /// Derives links; labels and identities follow when they are asked for.
    pub fn new(database: Database, naming: Naming) -> Catalog {
        let mut places = Vec::new();
        let mut by_name = HashMap::new();
        for (s, schema) in database.schemas.iter().enumerate() {
            if naming == Naming::Rex && schema.name != rex::SCHEMA {
                continue;
            }
            for (t, table) in schema.tables.iter().enumerate() {
                by_name.insert((schema.name.as_str(), table.name.as_str()), places.len());
                places.push((s, t));
            }
        }
        let mut referring = vec![Vec::new(); places.len()];
        let mut targets = Vec::with_capacity(places.len());
        for (owner, (s, t)) in places.iter().enumerate() {
            let mut found = Vec::new();
            for (key, fk) in database.schemas[*s].tables[*t].foreign_keys.iter().enumerate() {
                let target = (fk.target_schema.as_str(), fk.target_table.as_str());
                let target = by_name.get(&target).copied();
                if let Some(target) = target {
                    referring[target].push(Join {
                        owner: TableId(narrow(owner)),
                        key: narrow(key),
                        is_direct: false,
                    });
                }
                found.push(target.map(|target| TableId(narrow(target))));
            }
            targets.push(found);
        }
        let once = places.iter().map(|_| OnceLock::new()).collect();
        let identities = places.iter().map(|_| OnceLock::new()).collect();
        Catalog {
            database,
            naming,
            places,
            referring,
            targets,
            home: OnceLock::new(),
            names: once,
            identities,
            meta: OnceLock::new(),
        }
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn naming(&self) -> Naming {
        self.naming
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = TableId> + use<> {
        (0..narrow(self.places.len())).map(TableId)
    }

    pub(crate) fn schema(&self, id: TableId) -> &Schema {
        &self.database.schemas[self.places[id.0 as usize].0]
    }

    pub(crate) fn table(&self, id: TableId) -> &Table {
        let (s, t) = self.places[id.0 as usize];
        &self.database.schemas[s].tables[t]
    }

    pub(crate) fn column(&self, id: TableId, column: usize) -> &Column {
        &self.table(id).columns[column]
    }

    /// The catalog of the tables that describe this one.
    pub fn meta(&self) -> &Catalog {
        self.meta.get_or_init(|| Box::new(meta::describe(self)))
    }

    /// Whether no database has the tables: they can only be read.
    pub(crate) fn is_given(&self) -> bool {
        let mut tables = self.database.schemas.iter().flat_map(|schema| &schema.tables);
        tables.any(|table| table.rows.is_some())
    }

    // Joins.

    /// Direct joins of a table, in the order of its foreign keys, without those whose target is
    /// not in the catalog.
    pub(crate) fn direct_joins(&self, id: TableId) -> Vec<Join> {
        let keys = 0..narrow(self.table(id).foreign_keys.len());
        keys.map(|key| Join { owner: id, key, is_direct: true })
            .filter(|join| self.key_target(*join).is_some())
            .collect()
    }

    pub(crate) fn reverse_joins(&self, id: TableId) -> &[Join] {
        &self.referring[id.0 as usize]
    }

    pub(crate) fn key(&self, join: Join) -> &ForeignKey {
        &self.table(join.owner).foreign_keys[join.key as usize]
    }

    /// Whether all columns of the foreign key belong to its table's primary key.
    pub(crate) fn is_of_primary_key(&self, join: Join) -> bool {
        let primary = self.table(join.owner).unique_keys.iter().find(|key| key.primary);
        let columns = &self.key(join).columns;
        primary.is_some_and(|key| columns.iter().all(|column| key.columns.contains(column)))
    }

    fn key_target(&self, join: Join) -> Option<TableId> {
        self.targets[join.owner.0 as usize][join.key as usize]
    }

    pub(crate) fn origin(&self, join: Join) -> TableId {
        if join.is_direct { join.owner } else { self.key_target(join).unwrap_or(join.owner) }
    }

    pub(crate) fn target(&self, join: Join) -> TableId {
        if join.is_direct { self.key_target(join).unwrap_or(join.owner) } else { join.owner }
    }

    /// Pairs of columns (of the origin, of the target) that a join compares.
    pub(crate) fn join_columns(&self, join: Join) -> Vec<(usize, usize)> {
        let fk = self.key(join);
        let pairs = fk.columns.iter().copied().zip(fk.target_columns.iter().copied());
        if join.is_direct { pairs.collect() } else { pairs.map(|(o, t)| (t, o)).collect() }
    }

    /// Whether every row of the origin has a row of the target.
    pub(crate) fn is_expanding(&self, join: Join) -> bool {
        let fk = self.key(join);
        let total = |c: &usize| !self.column(join.owner, *c).nullable;
        join.is_direct && !fk.partial && fk.columns.iter().all(total)
    }

    /// Whether a row of the origin has at most one row of the target.
    pub(crate) fn is_contracting(&self, join: Join) -> bool {
        let fk = self.key(join);
        let (table, columns) = if join.is_direct {
            (self.target(join), &fk.target_columns)
        } else {
            (join.owner, &fk.columns)
        };
        let covered = |keys: &[usize]| keys.iter().all(|column| columns.contains(column));
        self.table(table).unique_keys.iter().any(|key| !key.partial && covered(&key.columns))
    }

    // Labels.

    fn home_names(&self) -> &Names {
        self.home.get_or_init(|| Names::new(label::home_labels(self)))
    }

    fn table_names(&self, id: TableId) -> &Names {
        self.names[id.0 as usize].get_or_init(|| Names::new(label::table_labels(self, id)))
    }

    /// Labels of the home node: one a table, then the ambiguous names.
    pub(crate) fn home_labels(&self) -> &[Label] {
        &self.home_names().labels
    }

    /// Labels of a table: columns and links in display order, then the ambiguous names.
    pub(crate) fn table_labels(&self, id: TableId) -> &[Label] {
        &self.table_names(id).labels
    }

    pub(crate) fn find_home_label(&self, name: &str, arity: Option<usize>) -> Option<&Label> {
        self.home_names().find(name, arity)
    }

    pub(crate) fn find_table_label(
        &self,
        id: TableId,
        name: &str,
        arity: Option<usize>,
    ) -> Option<&Label> {
        self.table_names(id).find(name, arity)
    }

    /// The name of a table in the home node, if it won one.
    pub(crate) fn table_label(&self, id: TableId) -> Option<&Label> {
        self.home_labels().iter().find(|label| label.arc == Arc::Table(id))
    }

    // Identities.

    /// What identifies a row of a table; `None` when nothing does.
    pub(crate) fn identity(&self, id: TableId) -> Option<&Identity> {
        let cell = &self.identities[id.0 as usize];
        if let Some(identity) = cell.get() {
            return identity.as_ref();
        }
        // Computed outside of the cell: identities of other tables are asked for on the way.
        let identity = identity::find(self, id, &mut Vec::new());
        cell.get_or_init(|| identity).as_ref()
    }

    /// Columns that locate a row: the primary key, else the first total unique key.
    pub(crate) fn row_key(&self, id: TableId) -> Option<Vec<usize>> {
        let table = self.table(id);
        let total = |columns: &[usize]| columns.iter().all(|c| !table.columns[*c].nullable);
        let primary = table.unique_keys.iter().find(|key| key.primary);
        let unique = || table.unique_keys.iter().find(|key| !key.partial && total(&key.columns));
        primary.or_else(unique).map(|key| key.columns.clone())
    }
}

/// Catalog positions fit 32 bits: PostgreSQL itself numbers its relations so.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
