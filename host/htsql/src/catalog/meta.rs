//! The catalog as a database: what `meta(…)` queries.
//!
//! Four tables: `table`, `field` (columns and links of a table, those shown by `*` numbered),
//! `column` and `link`. They exist in no database: each statement brings the rows it reads along.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::model::{Column, Database, ForeignKey, Schema, Table, UniqueKey};
use super::{Arc, Catalog, Naming, TableId};
use crate::domain::Domain;

/// The catalog that describes another one, in stock naming.
pub(super) fn describe(catalog: &Catalog) -> Catalog {
    let rows = rows(catalog);
    let [table, field, column, link] = rows.map(|rows| Json::Array(rows).to_string());
    let tables = vec![
        Table {
            columns: columns("table_name:text! name:text! domain:text! is_mandatory:bool!"),
            unique_keys: vec![key(&[0, 1], true)],
            foreign_keys: vec![refer(&[0, 1], "field", &[0, 1]), refer(&[0], "table", &[0])],
            ..given("column", column)
        },
        Table {
            columns: columns("table_name:text! name:text! kind:text! sort:int"),
            unique_keys: vec![key(&[0, 1], true), key(&[0, 3], false)],
            foreign_keys: vec![refer(&[0], "table", &[0])],
            ..given("field", field)
        },
        Table {
            columns: columns(
                "table_name:text! name:text! is_singular:bool! target_name:text! reverse_name:text",
            ),
            unique_keys: vec![key(&[0, 1], true), key(&[3, 4], false)],
            foreign_keys: vec![
                refer(&[0, 1], "field", &[0, 1]),
                refer(&[0], "table", &[0]),
                refer(&[3], "table", &[0]),
                refer(&[3, 4], "link", &[0, 1]),
            ],
            ..given("link", link)
        },
        Table {
            columns: columns("name:text!"),
            unique_keys: vec![key(&[0], true)],
            ..given("table", table)
        },
    ];
    let schema = Schema { tables, ..Schema::default() };
    Catalog::new(Database { schemas: vec![schema] }, Naming::Stock)
}

fn given(name: &str, rows: String) -> Table {
    Table { name: name.into(), rows: Some(rows), ..Table::default() }
}

/// `name:type`, with `!` for NOT NULL.
fn columns(text: &str) -> Vec<Column> {
    let column = |text: &str| {
        let (name, kind) = text.split_once(':').unwrap_or((text, "text"));
        // Names sort the same way wherever they are looked at.
        let (domain, sql_type) = match kind.trim_end_matches('!') {
            "bool" => (Domain::Boolean, "boolean"),
            "int" => (Domain::Integer, "integer"),
            _ => (Domain::Text, "text COLLATE \"C\""),
        };
        Column {
            name: name.into(),
            domain,
            sql_type: sql_type.into(),
            nullable: !kind.ends_with('!'),
            has_default: false,
            comment: None,
        }
    };
    text.split_whitespace().map(column).collect()
}

fn key(columns: &[usize], primary: bool) -> UniqueKey {
    UniqueKey { name: String::new(), columns: columns.into(), primary, partial: false }
}

fn refer(columns: &[usize], table: &str, target_columns: &[usize]) -> ForeignKey {
    ForeignKey {
        name: String::new(),
        columns: columns.into(),
        target_schema: String::new(),
        target_table: table.into(),
        target_columns: target_columns.into(),
        partial: false,
        comment: None,
    }
}

/// Rows of `table`, `field`, `column` and `link`. What has no name is left out.
fn rows(catalog: &Catalog) -> [Vec<Json>; 4] {
    let [mut tables, mut fields, mut columns, mut links] = [const { Vec::new() }; 4];
    let mut names: HashMap<TableId, &str> = HashMap::new();
    for label in catalog.home_labels() {
        if let Arc::Table(id) = label.arc {
            names.insert(id, &label.name);
            tables.push(json!({ "name": label.name }));
        }
    }
    for id in catalog.tables() {
        let Some(table) = names.get(&id) else { continue };
        let mut sort = 0;
        for label in catalog.table_labels(id) {
            let kind = match &label.arc {
                Arc::Column(column, _) => {
                    let column = catalog.column(id, *column);
                    columns.push(json!({
                        "table_name": table,
                        "name": label.name,
                        "domain": column.domain.family(),
                        "is_mandatory": !column.nullable,
                    }));
                    "column"
                }
                Arc::Link(join) => {
                    let target = catalog.target(*join);
                    let Some(target_name) = names.get(&target) else { continue };
                    let reverse = Arc::Link(join.reversed());
                    let reverse = catalog.table_labels(target).iter().find(|l| l.arc == reverse);
                    links.push(json!({
                        "table_name": table,
                        "name": label.name,
                        "is_singular": catalog.is_contracting(*join),
                        "target_name": target_name,
                        "reverse_name": reverse.map(|label| &label.name),
                    }));
                    "link"
                }
                _ => continue,
            };
            sort += i32::from(label.is_public);
            fields.push(json!({
                "table_name": table,
                "name": label.name,
                "kind": kind,
                "sort": label.is_public.then_some(sort),
            }));
        }
    }
    [tables, fields, columns, links]
}
