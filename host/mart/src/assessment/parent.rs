//! The tables that assessments are linked to: which row a record of the selector names. HTSQL and
//! PostgreSQL write some values differently, so that it is values that are compared.

use std::collections::HashMap;

use rex_db::Session;
use rex_deploy::{FieldKind, TableShape, sql};
use rex_htsql::domain::Domain;
use rex_htsql::{Value as Cell, literal};
use rex_yaml::Error;

use super::field::Raw;
use super::select::{Selected, Selection};
use crate::failure::guarded;

/// A table that assessments are linked to.
pub(super) struct Parent {
    /// Of the link, and of the column of the selector.
    link: String,
    pub(super) table: String,
    /// The table and those of which it takes labels of its identity.
    from: String,
    /// Of its identity.
    labels: Vec<Label>,
}

/// A part of an identity.
struct Label {
    /// The column, as SQL.
    column: String,
    domain: Domain,
}

impl Label {
    fn of(column: String, kind: &FieldKind) -> Label {
        let domain = kind.domain();
        // Whatever type the server has for it.
        let column = if domain == Domain::Text { format!("{column}::text") } else { column };
        Label { column, domain }
    }

    /// The text that stands for a value, however that is written; `None` where it is none of the column.
    fn text(&self, written: &str) -> Option<String> {
        let Ok(value) = literal::parse(&self.domain, written) else {
            return limitless(&self.domain, written).map(str::to_owned);
        };
        let text = literal::plain_text(&self.domain, &value)?;
        let is_padded = self.domain == Domain::Decimal && text.contains('.');
        let plain = || text.trim_end_matches('0').trim_end_matches('.').to_owned();
        Some(if is_padded { plain() } else { text })
    }
}

/// What PostgreSQL has beside the values that HTSQL has literals of, as both read it.
fn limitless(domain: &Domain, written: &str) -> Option<&'static str> {
    let is_number = matches!(domain, Domain::Float | Domain::Decimal);
    let is_moment = matches!(domain, Domain::Date | Domain::DateTime);
    match written.trim().to_ascii_lowercase().as_str() {
        "nan" if is_number => Some("NaN"),
        "inf" | "infinity" if is_number || is_moment => Some("Infinity"),
        "-inf" | "-infinity" if is_number || is_moment => Some("-Infinity"),
        _ => None,
    }
}

/// The labels of an identity that is written as a text.
fn written(text: &str, count: usize) -> Vec<String> {
    let split = || text.split('.').map(str::to_owned).collect();
    // Scripts make texts of labels that HTSQL would quote.
    if !text.contains('\'') {
        return split();
    }
    let domain = Domain::Identity(vec![Domain::Text; count].into());
    let label = |label: Cell| if let Cell::Text(label) = label { Some(label) } else { None };
    match literal::parse(&domain, text) {
        Ok(Cell::Identity(labels)) => {
            labels.into_iter().map(label).collect::<Option<_>>().unwrap_or_else(split)
        }
        _ => split(),
    }
}

impl Parent {
    pub(super) fn of(
        link: &str,
        shape: &TableShape,
        shapes: &[TableShape],
    ) -> Result<Parent, Error> {
        let mut from = format!("{} AS t", sql::name(&shape.name));
        let mut labels = Vec::new();
        identity("t", shape, shapes, &mut from, &mut labels, 0)?;
        Ok(Parent { link: link.to_owned(), table: shape.label.clone(), from, labels })
    }

    /// The identity that a record of the selector names; `None` for none.
    pub(super) fn labels(&self, selection: &Selection, selected: &Selected) -> Option<Vec<String>> {
        let picked = selection.pick(selected, &self.link)?;
        match (&picked.identity, &picked.raw) {
            (Some(labels), _) => Some(labels.clone()),
            (None, Raw::Null) => None,
            (None, Raw::Text(text)) if self.labels.len() == 1 => Some(vec![text.to_string()]),
            (None, Raw::Text(text)) => Some(written(text, self.labels.len())),
            (None, raw) => raw.as_text().map(|text| vec![text.into_owned()]),
        }
    }

    /// By what [`Parent::ids`] knows a record.
    pub(super) fn key(&self, labels: &[String]) -> Option<Vec<String>> {
        if labels.len() != self.labels.len() {
            return None;
        }
        self.labels.iter().zip(labels).map(|(label, text)| label.text(text)).collect()
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
            .filter_map(|labels| self.key(&labels))
            .map(row)
            .collect();
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let columns: Vec<&str> = self.labels.iter().map(|label| label.column.as_str()).collect();
        let texts: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
        let query = format!(
            "SELECT t.\"id\", {} FROM {} WHERE ({}) IN ({})",
            texts.join(", "),
            self.from,
            columns.join(", "),
            wanted.join(", "),
        );
        let rows = guarded(mart.sql_rows(&query))?;
        let read = |row: Vec<Cell>| {
            let mut cells = row.into_iter();
            let Some(Cell::Integer(id)) = cells.next() else { return None };
            let labels: Vec<String> = cells
                .map(|cell| match cell {
                    Cell::Text(text) => text,
                    _ => String::new(),
                })
                .collect();
            Some((self.key(&labels)?, id))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

/// Links within identities beyond this are taken for a loop.
const MAX_DEPTH: usize = 16;

/// The labels of an identity, and the joins that they need.
fn identity(
    alias: &str,
    shape: &TableShape,
    shapes: &[TableShape],
    from: &mut String,
    labels: &mut Vec<Label>,
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
                let inner = format!("{alias}_{}", from.matches(" JOIN ").count());
                from.push_str(&format!(
                    " JOIN {} AS {inner} ON {inner}.\"id\" = {column}",
                    sql::name(&target.name)
                ));
                identity(&inner, target, shapes, from, labels, depth + 1)?;
            }
            kind => labels.push(Label::of(column, kind)),
        }
    }
    Ok(())
}
