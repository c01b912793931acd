//! The rows of tables that facts are about, read when they are first needed and kept up to date
//! until the structure changes: all of a table that has few, else one by one.

use std::collections::HashMap;

use rex_htsql::domain::Domain;
use rex_htsql::{Value, literal};
use rex_yaml::Error;

use crate::column;
use crate::column_type::value_sql;
use crate::deployer::Deployer;
use crate::image::{ColumnId, TableId};
use crate::sql;
use rex_yaml::given::Given;

/// A table with more rows than this is not read as a whole.
const FEW: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct Rows(HashMap<TableId, TableRows>);

/// The rows of one table; columns are those of the image, in order.
#[derive(Debug)]
pub(crate) struct TableRows {
    columns: Vec<ColumnId>,
    /// Positions of the columns of the primary key.
    key: Vec<usize>,
    rows: HashMap<Vec<String>, Vec<Value>>,
    /// Whether a row that is not here is not there.
    is_whole: bool,
}

impl Rows {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn table(&mut self, table: TableId) -> Option<&mut TableRows> {
        self.0.get_mut(&table)
    }
}

impl TableRows {
    pub(crate) fn put(&mut self, row: Vec<Value>) {
        let key = self.key_of(&row);
        self.rows.insert(key, row);
    }

    pub(crate) fn remove(&mut self, row: &[Value]) {
        let key = self.key_of(row);
        self.rows.remove(&key);
    }

    pub(crate) fn position(&self, column: ColumnId) -> Option<usize> {
        self.columns.iter().position(|id| *id == column)
    }

    fn key_of(&self, row: &[Value]) -> Vec<String> {
        self.key.iter().filter_map(|at| row.get(*at)).map(key_text).collect()
    }
}

/// A text that equal values share.
fn key_text(value: &Value) -> String {
    match value {
        Value::Decimal(text) => trimmed(text).to_owned(),
        // Zero is not below itself, and so no other key.
        Value::Float(number) if *number == 0.0 => key_text(&Value::Integer(0)),
        other => literal::plain_text(&Domain::Text, other).unwrap_or_default(),
    }
}

/// A decimal without the zeros at its end.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Whether two values of a column are the same.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Decimal(one), Value::Decimal(other)) => trimmed(one) == trimmed(other),
        (Value::Json(one), Value::Json(other)) => {
            let read = |text: &str| Given::json(text).ok();
            one == other || read(one).is_some_and(|value| Some(value) == read(other))
        }
        (one, other) => one == other,
    }
}

/// What to select so that every column of a table comes back as a value.
pub(crate) fn selection(d: &mut Deployer<'_>, table: TableId) -> Result<String, Error> {
    let columns = d.table(table)?.columns.clone();
    let image = d.image()?;
    let selected = columns.iter().map(|found| {
        let name = sql::name(&found.name);
        match column::type_of(image, &found.ty) {
            Some(_) => name,
            None => format!("{name}::text AS {name}"),
        }
    });
    Ok(selected.collect::<Vec<_>>().join(", "))
}

/// The row of a table that has this primary key.
pub(crate) fn find(
    d: &mut Deployer<'_>,
    table: TableId,
    key: &[Value],
) -> Result<Option<Vec<Value>>, Error> {
    let text: Vec<String> = key.iter().map(key_text).collect();
    let rows = load(d, table)?;
    let known = rows.rows.get(&text).cloned();
    if known.is_some() || rows.is_whole || key.contains(&Value::Null) {
        return Ok(known);
    }
    let selection = selection(d, table)?;
    let found = d.table(table)?;
    let columns = found.primary_key().map(|key| found.column_names(&key.columns));
    let equal: Vec<String> = columns
        .unwrap_or_default()
        .iter()
        .zip(key)
        .map(|(column, value)| format!("{} = {}", sql::name(column), value_sql(value)))
        .collect();
    let (name, equal) = (sql::name(&found.name), equal.join(" AND "));
    let row = d.ask(&format!("SELECT {selection}\n    FROM {name}\n    WHERE {equal};"))?.pop();
    if let Some(row) = &row {
        load(d, table)?.put(row.clone());
    }
    Ok(row)
}

/// Reads the rows of a table unless they are known, or are many.
pub(crate) fn load<'d>(
    d: &'d mut Deployer<'_>,
    table: TableId,
) -> Result<&'d mut TableRows, Error> {
    if d.rows.table(table).is_none() {
        let selection = selection(d, table)?;
        let found = d.table(table)?;
        let columns: Vec<ColumnId> = found.columns.iter().map(|column| column.id).collect();
        let key = found.primary_key().map(|key| key.columns.clone()).unwrap_or_default();
        let key = key.iter().filter_map(|id| columns.iter().position(|other| other == id));
        let mut rows =
            TableRows { key: key.collect(), columns, rows: HashMap::new(), is_whole: true };
        let name = sql::name(&found.name);
        let beyond = format!("SELECT FROM {name} OFFSET {FEW} LIMIT 1");
        if d.ask(&beyond)?.is_empty() {
            for row in d.ask(&format!("SELECT {selection}\n    FROM {name};"))? {
                rows.put(row);
            }
        } else {
            rows.is_whole = false;
        }
        d.rows.0.insert(table, rows);
    }
    d.rows.table(table).ok_or_else(|| Error::new("Got no rows"))
}
