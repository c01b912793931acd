//! The tables that assessments are linked to: which row a record of the selector names.

use std::collections::HashMap;

use rex_db::Session;
use rex_deploy::{FieldKind, TableShape, sql};
use rex_htsql::Value as Cell;
use rex_yaml::Error;

use super::field::Raw;
use super::select::{Selected, Selection};
use crate::failure::guarded;

/// A table that assessments are linked to.
pub(super) struct Parent {
    /// Of the link, and of the column of the selector.
    link: String,
    pub(super) table: String,
    /// `SELECT id, label, …`: a row for each record, with the texts of its identity.
    query: String,
    /// How many labels an identity has.
    width: usize,
}

impl Parent {
    pub(super) fn of(
        link: &str,
        shape: &TableShape,
        shapes: &[TableShape],
    ) -> Result<Parent, Error> {
        let mut joins = String::new();
        let mut labels = Vec::new();
        identity("t", shape, shapes, &mut joins, &mut labels, 0)?;
        let query = format!(
            "SELECT t.\"id\", {} FROM {} AS t{joins}",
            labels.join(", "),
            sql::name(&shape.name)
        );
        Ok(Parent { link: link.to_owned(), table: shape.label.clone(), query, width: labels.len() })
    }

    /// The identity that a record of the selector names; `None` for none.
    pub(super) fn labels(&self, selection: &Selection, selected: &Selected) -> Option<Vec<String>> {
        let picked = selection.pick(selected, &self.link)?;
        match (&picked.identity, &picked.raw) {
            (Some(labels), _) => Some(labels.clone()),
            (None, Raw::Null) => None,
            (None, Raw::Text(text)) if self.width == 1 => Some(vec![text.to_string()]),
            (None, Raw::Text(text)) => Some(text.split('.').map(str::to_owned).collect()),
            (None, Raw::Integer(number)) => Some(vec![number.to_string()]),
            _ => None,
        }
    }

    /// The ids of the records that a portion names.
    pub(super) fn ids(
        &self,
        mart: &mut Session,
        selection: &Selection,
        portion: &[Selected],
    ) -> Result<HashMap<Vec<String>, i64>, Error> {
        let row = |labels: Vec<String>| {
            let texts: Vec<String> = labels.iter().map(|label| sql::text(label)).collect();
            format!("({})", texts.join(", "))
        };
        let mut wanted: Vec<String> = portion
            .iter()
            .filter_map(|selected| self.labels(selection, selected))
            .filter(|labels| labels.len() == self.width)
            .map(row)
            .collect();
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let columns: Vec<String> = (1..=self.width).map(|n| format!("c{n}")).collect();
        let query = format!(
            "SELECT * FROM ({}) AS p (id, {columns}) WHERE ({columns}) IN ({})",
            self.query,
            wanted.join(", "),
            columns = columns.join(", "),
        );
        let rows = guarded(mart.sql_rows(&query))?;
        let read = |row: Vec<Cell>| {
            let mut cells = row.into_iter();
            let Some(Cell::Integer(id)) = cells.next() else { return None };
            let labels = cells.map(|cell| match cell {
                Cell::Text(text) => text,
                _ => String::new(),
            });
            Some((labels.collect(), id))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

/// Links within identities beyond this are taken for a loop.
const MAX_DEPTH: usize = 16;

/// The texts of an identity, and the joins that they need.
fn identity(
    alias: &str,
    shape: &TableShape,
    shapes: &[TableShape],
    joins: &mut String,
    labels: &mut Vec<String>,
    depth: usize,
) -> Result<(), Error> {
    if shape.identity.is_empty() || depth > MAX_DEPTH {
        return Err(Error::with("Discovered table without identity:", &shape.label));
    }
    for label in &shape.identity {
        let Some(field) = shape.field(label) else { continue };
        let column = format!("{alias}.{}", sql::name(&field.name));
        match &field.kind {
            FieldKind::Link(target) => {
                let target = shapes.iter().find(|shape| shape.label == *target);
                let target =
                    target.ok_or_else(|| Error::with("Discovered missing table:", label))?;
                let inner = format!("{alias}_{}", joins.matches(" JOIN ").count());
                joins.push_str(&format!(
                    " JOIN {} AS {inner} ON {inner}.\"id\" = {column}",
                    sql::name(&target.name)
                ));
                identity(&inner, target, shapes, joins, labels, depth + 1)?;
            }
            FieldKind::Column(_) | FieldKind::Enum(_) => labels.push(format!("{column}::text")),
        }
    }
    Ok(())
}
