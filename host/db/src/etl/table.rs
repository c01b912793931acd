//! Statements over the target table for a whole batch: rows come as one array a column.

use std::ops::Deref;

use rex_htsql::catalog::Catalog;
use rex_htsql::catalog::model::UniqueKey;
use rex_htsql::plan::{Identify, Target};
use rex_htsql::{Error, Value};

use super::cells::{Cell, column_arrays};
use super::resolve::{column_type, identities, identity_at, leaf_columns};
use super::{Failed, bulk, quote};
use crate::connection::Connection;

/// The table that a command writes to.
pub(super) struct TableWriter<'a> {
    pub(super) connection: &'a Connection,
    pub(super) table: TableSql<'a>,
}

impl<'a> Deref for TableWriter<'a> {
    type Target = TableSql<'a>;

    fn deref(&self) -> &TableSql<'a> {
        &self.table
    }
}

/// How the statements over a table are spelled.
pub(super) struct TableSql<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) target: &'a Target,
}

impl TableSql<'_> {
    /// INSERT of rows of the given columns.
    pub(super) fn insert_sql(&self, columns: &[String]) -> String {
        let (name, returning) = (self.name(), self.returning());
        if columns.is_empty() {
            return format!("INSERT INTO {name} AS \"t0\" DEFAULT VALUES RETURNING {returning}");
        }
        let quoted: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        // Rows go in, and come back, in the order of the arrays.
        format!(
            "INSERT INTO {name} AS \"t0\" ({}) SELECT {} FROM {} RETURNING {returning}",
            quoted.join(", "),
            self.values(columns).join(", "),
            self.unnest(columns),
        )
    }

    /// UPDATE of the given columns of rows found by their keys.
    pub(super) fn update_sql(&self, identify: &Identify, columns: &[String]) -> String {
        let all: Vec<String> = identify.key.iter().chain(columns).cloned().collect();
        let values = self.values(&all);
        let set: Vec<String> = columns
            .iter()
            .zip(&values[identify.key.len()..])
            .map(|(column, value)| format!("{} = {value}", quote(column)))
            .collect();
        format!(
            "UPDATE {} AS \"t0\" SET {} FROM {} WHERE {} RETURNING \"a\".n, {}",
            self.name(),
            set.join(", "),
            self.unnest(&all),
            matches(identify),
            self.returning(),
        )
    }

    /// DELETE of rows found by their keys.
    pub(super) fn delete_sql(&self, identify: &Identify) -> String {
        format!(
            "DELETE FROM {} AS \"t0\" USING {} WHERE {} RETURNING 1",
            self.name(),
            self.unnest(&identify.key),
            matches(identify),
        )
    }

    /// SELECT of the given columns of rows found by their keys.
    pub(super) fn read_sql(&self, identify: &Identify, columns: &[String]) -> String {
        let mut selected = vec!["\"a\".n".to_string()];
        selected.extend(columns.iter().map(|column| format!("\"t0\".{}::text", quote(column))));
        format!(
            "SELECT {} FROM {} AS \"t0\" INNER JOIN {} ON {}",
            selected.join(", "),
            self.name(),
            self.unnest(&identify.key),
            matches(identify),
        )
    }

    fn name(&self) -> String {
        format!("{}.{}", quote(&self.target.schema), quote(&self.target.table))
    }

    fn column_type(&self, column: &str) -> String {
        column_type(self.catalog, &self.target.schema, &self.target.table, column)
    }

    /// `unnest($1::type[], …) WITH ORDINALITY AS "a"(v0, …, n)`.
    fn unnest(&self, columns: &[String]) -> String {
        let casts: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| format!("${}::{}[]", at + 1, self.column_type(column)))
            .collect();
        let names: Vec<String> = (0..columns.len()).map(|at| format!("v{at}")).collect();
        format!("unnest({}) WITH ORDINALITY AS \"a\"({}, n)", casts.join(", "), names.join(", "))
    }

    /// What RETURNING lists, from which [`TableWriter::returned`] reads identities.
    fn returning(&self) -> String {
        match &self.target.identity {
            Some(identify) if identify.joins.is_empty() => leaf_columns(identify),
            Some(identify) => keys(identify),
            None => "NULL".to_string(),
        }
    }

    /// The unnested values of columns: arrays within an array travel as text.
    fn values(&self, columns: &[String]) -> Vec<String> {
        columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let known = self.full_type(column);
                match known.filter(|ty| ty.ends_with("[]")) {
                    Some(ty) => format!("\"a\".v{at}::{ty}"),
                    None => format!("\"a\".v{at}"),
                }
            })
            .collect()
    }

    fn full_type(&self, column: &str) -> Option<&str> {
        let schemas = &self.catalog.database().schemas;
        let schema = schemas.iter().find(|schema| schema.name == self.target.schema)?;
        let table = schema.tables.iter().find(|table| table.name == self.target.table)?;
        let column = table.columns.iter().find(|known| known.name == column)?;
        Some(&column.sql_type)
    }
}

impl TableWriter<'_> {
    /// The identities of returned rows whose RETURNING columns begin at `first`.
    async fn returned(
        &self,
        rows: &[tokio_postgres::Row],
        first: usize,
    ) -> Result<Vec<Value>, Failed> {
        let Some(identify) = &self.target.identity else {
            return Ok(vec![Value::Null; rows.len()]);
        };
        if identify.joins.is_empty() {
            let ids = rows.iter().map(|row| identity_at(row, first, &identify.domain));
            return Ok(ids.collect::<Result<_, _>>()?);
        }
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let key = (first..first + identify.key.len()).map(|at| row.try_get(at));
            keys.push(key.collect::<Result<Vec<Cell>, _>>()?);
        }
        let ids = identities(self.connection, self.catalog, identify, &keys).await?;
        if ids.contains(&Value::Null) {
            return Err(Error::new("Unable to locate the inserted record").into());
        }
        Ok(ids)
    }

    /// Inserts rows of the given columns; their identities in order.
    pub(super) async fn insert(
        &self,
        columns: &[String],
        rows: &[Vec<Cell>],
    ) -> Result<Vec<Value>, Failed> {
        let sql = self.insert_sql(columns);
        let answer = if columns.is_empty() {
            let mut answer = Vec::new();
            for _ in rows {
                answer.extend(bulk(self.connection, &sql, Vec::new()).await?);
            }
            answer
        } else {
            bulk(self.connection, &sql, column_arrays(rows, columns.len())).await?
        };
        if answer.len() != rows.len() {
            return Err(Error::new("Failed to insert a record").into());
        }
        self.returned(&answer, 0).await
    }

    /// The table's primary key.
    pub(super) fn primary_key(&self) -> Option<&UniqueKey> {
        let schemas = &self.catalog.database().schemas;
        let schema = schemas.iter().find(|schema| schema.name == self.target.schema)?;
        let table = schema.tables.iter().find(|table| table.name == self.target.table)?;
        table.unique_keys.iter().find(|key| key.primary)
    }

    /// Whether a row with this key is there.
    pub(super) async fn exists(&self, key: &[String], row: Vec<Cell>) -> Result<bool, Failed> {
        let matches: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(at, column)| format!("\"t0\".{} = \"a\".v{at}", quote(column)))
            .collect();
        let sql = format!(
            "SELECT 1 FROM {} AS \"t0\" INNER JOIN {} ON {}",
            self.name(),
            self.unnest(key),
            matches.join(" AND "),
        );
        let found = bulk(self.connection, &sql, column_arrays(&[row], key.len())).await?;
        Ok(!found.is_empty())
    }

    /// Sets columns of the rows with the given keys: `rows` hold the key, then the values. The
    /// identities in order.
    pub(super) async fn update(
        &self,
        identify: &Identify,
        columns: &[String],
        rows: &[Vec<Cell>],
    ) -> Result<Vec<Value>, Failed> {
        let n_keys = identify.key.len();
        if columns.is_empty() {
            let ids = identities(self.connection, self.catalog, identify, rows).await?;
            return match ids.contains(&Value::Null) {
                true => Err(Error::new("Unable to locate the updated row").into()),
                false => Ok(ids),
            };
        }
        let sql = self.update_sql(identify, columns);
        let width = n_keys + columns.len();
        let answer = bulk(self.connection, &sql, column_arrays(rows, width)).await?;
        if answer.len() != rows.len() {
            return Err(Error::new("Unable to locate the updated row").into());
        }
        let mut ids = vec![Value::Null; rows.len()];
        for (row, id) in answer.iter().zip(self.returned(&answer, 1).await?) {
            let number: i64 = row.try_get(0)?;
            if let Some(place) = ids.get_mut(usize::try_from(number - 1).unwrap_or(usize::MAX)) {
                *place = id;
            }
        }
        Ok(ids)
    }

    /// Deletes the rows with the given keys.
    pub(super) async fn delete(
        &self,
        identify: &Identify,
        rows: &[Vec<Cell>],
    ) -> Result<(), Failed> {
        let sql = self.delete_sql(identify);
        let gone = bulk(self.connection, &sql, column_arrays(rows, identify.key.len())).await?;
        match gone.len() == rows.len() {
            true => Ok(()),
            false => Err(Error::new("Unable to locate the deleted row").into()),
        }
    }

    /// The given columns of the rows with the given keys, in order.
    pub(super) async fn read(
        &self,
        identify: &Identify,
        columns: &[String],
        rows: &[Vec<Cell>],
    ) -> Result<Vec<Vec<Cell>>, Failed> {
        let sql = self.read_sql(identify, columns);
        let answer = bulk(self.connection, &sql, column_arrays(rows, identify.key.len())).await?;
        let mut found = vec![Vec::new(); rows.len()];
        for row in &answer {
            let number: i64 = row.try_get(0)?;
            let cells = (1..=columns.len()).map(|at| row.try_get(at));
            let cells = cells.collect::<Result<Vec<Cell>, _>>()?;
            if let Some(place) = found.get_mut(usize::try_from(number - 1).unwrap_or(usize::MAX)) {
                *place = cells;
            }
        }
        Ok(found)
    }
}

fn keys(identify: &Identify) -> String {
    let keys: Vec<String> =
        identify.key.iter().map(|key| format!("\"t0\".{}::text", quote(key))).collect();
    keys.join(", ")
}

fn matches(identify: &Identify) -> String {
    let matches: Vec<String> = identify
        .key
        .iter()
        .enumerate()
        .map(|(at, key)| format!("\"t0\".{} = \"a\".v{at}", quote(key)))
        .collect();
    matches.join(" AND ")
}
