//! Identities to keys and keys to identities, for a whole batch in one query.

use std::collections::HashMap;

use rex_htsql::Value;
use rex_htsql::catalog::Catalog;
use rex_htsql::domain::Domain;
use rex_htsql::plan::Identify;

use super::cells::{Cell, bare_type, column_arrays};
use super::{Failed, bulk, quote};
use crate::connection::Connection;
use crate::decode;

/// Entries kept between batches.
const MAX_CACHED: usize = 100_000;

/// Resolves identities of one table; remembers those found.
#[derive(Debug)]
pub(super) struct Resolver {
    sql: String,
    n_leaves: usize,
    n_keys: usize,
    found: HashMap<Vec<String>, Vec<Cell>>,
}

impl Resolver {
    pub(super) fn new(identify: &Identify) -> Resolver {
        let keys: Vec<String> =
            identify.key.iter().map(|key| format!("\"t0\".{}::text", quote(key))).collect();
        let casts: Vec<String> = identify
            .leaves
            .iter()
            .enumerate()
            .map(|(at, leaf)| format!("${}::{}[]", at + 1, array_type(&leaf.sql_type)))
            .collect();
        let names: Vec<String> = (0..identify.leaves.len()).map(|at| format!("l{at}")).collect();
        let matches: Vec<String> = identify
            .leaves
            .iter()
            .enumerate()
            .map(|(at, leaf)| format!("{} = \"a\".l{at}", leaf.sql))
            .collect();
        let sql = format!(
            "SELECT \"a\".n, {} FROM {} INNER JOIN unnest({}) WITH ORDINALITY AS \"a\"({}, n) \
             ON {}",
            keys.join(", "),
            from(identify),
            casts.join(", "),
            names.join(", "),
            matches.join(" AND "),
        );
        Resolver {
            sql,
            n_leaves: identify.leaves.len(),
            n_keys: identify.key.len(),
            found: HashMap::new(),
        }
    }

    /// The statement that finds keys.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// The keys of identities given by the texts of their leaves; `None` for what is not there.
    pub(super) async fn keys(
        &mut self,
        connection: &Connection,
        identities: &[Option<Vec<String>>],
    ) -> Result<Vec<Option<Vec<Cell>>>, Failed> {
        if self.found.len() > MAX_CACHED {
            self.found.clear();
        }
        let mut wanted: Vec<&Vec<String>> = identities
            .iter()
            .flatten()
            .filter(|leaves| !self.found.contains_key(*leaves))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            let rows: Vec<Vec<Cell>> = wanted
                .iter()
                .map(|leaves| leaves.iter().map(|leaf| Some(leaf.clone())).collect())
                .collect();
            let answer = bulk(connection, &self.sql, column_arrays(&rows, self.n_leaves)).await?;
            let mut found = Vec::with_capacity(answer.len());
            for row in &answer {
                let number: i64 = row.try_get(0)?;
                let key = (1..=self.n_keys)
                    .map(|at| row.try_get(at))
                    .collect::<Result<Vec<Cell>, _>>()?;
                let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
                if let Some(leaves) = wanted.get(at) {
                    found.push(((*leaves).clone(), key));
                }
            }
            self.found.extend(found);
        }
        Ok(identities.iter().map(|leaves| self.found.get(leaves.as_ref()?).cloned()).collect())
    }

    /// Forgets what was found: the table has been written to.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }
}

/// Whether the leaves of an identity are the key itself.
pub(super) fn is_key(identify: &Identify) -> bool {
    let own = |key: &String| format!("\"t0\".{}", quote(key));
    identify.joins.is_empty()
        && identify.leaves.len() == identify.key.len()
        && identify.leaves.iter().zip(&identify.key).all(|(leaf, key)| leaf.sql == own(key))
}

/// `"s"."t" AS "t0" INNER JOIN …`.
fn from(identify: &Identify) -> String {
    let mut from = format!("{}.{} AS \"t0\"", quote(&identify.schema), quote(&identify.table));
    for join in &identify.joins {
        from.push(' ');
        from.push_str(join);
    }
    from
}

fn array_type(sql_type: &str) -> String {
    bare_type(sql_type)
}

/// The leaves as columns of a result, in types that are read without asking the server about them.
pub(super) fn leaf_columns(identify: &Identify) -> String {
    let columns: Vec<String> = identify
        .leaves
        .iter()
        .map(|leaf| match leaf.domain {
            Domain::Enum(_) | Domain::Opaque(_) => format!("{}::text", leaf.sql),
            _ => leaf.sql.clone(),
        })
        .collect();
    columns.join(", ")
}

/// The identity in the leaf columns of a row, from column `first` on; NULL where a leaf is.
pub(super) fn identity_at(
    row: &tokio_postgres::Row,
    first: usize,
    domain: &Domain,
) -> Result<Value, decode::DecodeError> {
    fn build(
        row: &tokio_postgres::Row,
        at: &mut usize,
        domain: &Domain,
    ) -> Result<Option<Value>, decode::DecodeError> {
        let Domain::Identity(labels) = domain else {
            let value = decode::value(row, *at, domain)?;
            *at += 1;
            return Ok(Some(value).filter(|value| *value != Value::Null));
        };
        let mut values = Vec::with_capacity(labels.len());
        let mut whole = true;
        for label in labels.iter() {
            match build(row, at, label)? {
                Some(value) => values.push(value),
                None => whole = false,
            }
        }
        Ok(whole.then_some(Value::Identity(values)))
    }
    let mut at = first;
    Ok(build(row, &mut at, domain)?.unwrap_or(Value::Null))
}

/// The identities of rows given by their keys, in order; NULL for a row that is not there.
pub(super) async fn identities(
    connection: &Connection,
    catalog: &Catalog,
    identify: &Identify,
    keys: &[Vec<Cell>],
) -> Result<Vec<Value>, Failed> {
    let sql = identities_sql(catalog, identify);
    let answer = bulk(connection, &sql, column_arrays(keys, identify.key.len())).await?;
    let mut found = vec![Value::Null; keys.len()];
    for row in &answer {
        let number: i64 = row.try_get(0)?;
        let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
        if let Some(place) = found.get_mut(at) {
            *place = identity_at(row, 1, &identify.domain)?;
        }
    }
    Ok(found)
}

/// SELECT of the identities of rows given by their keys.
pub(super) fn identities_sql(catalog: &Catalog, identify: &Identify) -> String {
    let types = column_types(catalog, identify, &identify.key);
    let casts: Vec<String> =
        types.iter().enumerate().map(|(at, ty)| format!("${}::{ty}[]", at + 1)).collect();
    let names: Vec<String> = (0..identify.key.len()).map(|at| format!("k{at}")).collect();
    let matches: Vec<String> = identify
        .key
        .iter()
        .enumerate()
        .map(|(at, key)| format!("\"t0\".{} = \"a\".k{at}", quote(key)))
        .collect();
    format!(
        "SELECT \"a\".n, {} FROM {} INNER JOIN unnest({}) WITH ORDINALITY AS \"a\"({}, n) ON {}",
        leaf_columns(identify),
        from(identify),
        casts.join(", "),
        names.join(", "),
        matches.join(" AND "),
    )
}

fn column_types(catalog: &Catalog, identify: &Identify, columns: &[String]) -> Vec<String> {
    columns
        .iter()
        .map(|column| column_type(catalog, &identify.schema, &identify.table, column))
        .collect()
}

/// The bare type of a column; `text` for one that the catalog does not know.
pub(super) fn column_type(catalog: &Catalog, schema: &str, table: &str, column: &str) -> String {
    let found = catalog
        .database()
        .schemas
        .iter()
        .filter(|candidate| candidate.name == schema)
        .flat_map(|candidate| &candidate.tables)
        .find(|candidate| candidate.name == table)
        .and_then(|table| table.columns.iter().find(|candidate| candidate.name == column));
    found.map_or_else(|| "text".to_string(), |column| bare_type(&column.sql_type))
}
