//! Insertion by COPY, the fastest way in, where what it would not tell is known beforehand.
//!
//! COPY returns nothing. Where the identities of the new rows are asked for they must follow from
//! the feed: their columns are given, their types keep values as they are, and no trigger or rule
//! may change them.

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use rex_htsql::Value;
use rex_htsql::catalog::Catalog;
use rex_htsql::domain::Domain;
use rex_htsql::plan::{FieldTarget, Identify, Target};
use tokio_postgres::Statement;

use super::cells::{Cell, convert, fields};
use super::work::Numbered;
use super::{Failed, quote};
use crate::connection::Connection;
use crate::params::scalar_text;

/// How much is sent at once.
const CHUNK: usize = 64 << 10;

/// Row: whether the table takes COPY; whether nothing but the given values decides what it stores.
/// $1 schema (text), $2 table (text).
const FACTS: &str = "
SELECT c.relkind IN ('r', 'p') AND NOT c.relrowsecurity,
   c.relkind = 'r' AND NOT c.relhasrules
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t
                   WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 7 = 7)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2";

/// Whether a command can go by COPY.
pub(super) enum Suitability {
    Unknown,
    Unfit,
    Fit(CopyPath),
}

/// A prepared COPY.
pub(super) struct CopyPath {
    sql: String,
    statement: Statement,
    /// The fields that go to columns, in the order of the columns; a link goes to several.
    sources: Vec<usize>,
    /// The fields that are the leaves of the identity; `None` where none is returned.
    leaves: Option<Vec<usize>>,
}

/// Records as COPY reads them, with their identities where those are returned.
pub(super) struct Lines {
    chunks: Vec<Bytes>,
    ids: Vec<Value>,
}

impl CopyPath {
    pub(super) async fn find(
        connection: &Connection,
        catalog: &Catalog,
        target: &Target,
    ) -> Result<Suitability, Failed> {
        let mut columns = Vec::new();
        let mut sources = Vec::new();
        for (at, field) in target.fields.iter().enumerate() {
            match field {
                FieldTarget::Column { column, .. } => {
                    columns.push(quote(column));
                    sources.push(at);
                }
                FieldTarget::Link { columns: link, .. } if !target.returns => {
                    columns.extend(link.iter().map(|column| quote(column)));
                    sources.push(at);
                }
                FieldTarget::Ignored => {}
                FieldTarget::Identity { .. } | FieldTarget::Link { .. } => {
                    return Ok(Suitability::Unfit);
                }
            }
        }
        let leaves = match &target.identity {
            _ if !target.returns => None,
            Some(identify) => match leaf_fields(identify, target, catalog) {
                Some(leaves) => Some(leaves),
                None => return Ok(Suitability::Unfit),
            },
            None => return Ok(Suitability::Unfit),
        };
        if columns.is_empty() {
            return Ok(Suitability::Unfit);
        }
        let client = connection.client();
        let row = client.query_opt(FACTS, &[&target.schema, &target.table]).await?;
        let (takes_copy, keeps_values) = match row {
            Some(row) => (row.try_get(0)?, row.try_get(1)?),
            None => (false, false),
        };
        if !takes_copy || (target.returns && !keeps_values) {
            return Ok(Suitability::Unfit);
        }
        let sql = format!(
            "COPY {}.{} ({}) FROM STDIN",
            quote(&target.schema),
            quote(&target.table),
            columns.join(", ")
        );
        let statement = client.prepare(&sql).await?;
        Ok(Suitability::Fit(CopyPath { sql, statement, sources, leaves }))
    }

    /// The statement.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// The lines of a batch; `None` where some identity is not what its text says. `links` are the
    /// keys that links resolve to, by field and record.
    pub(super) fn lines(
        &self,
        target: &Target,
        records: &[Numbered],
        links: &[Vec<Vec<Cell>>],
    ) -> Result<Option<Lines>, Failed> {
        let mut ids = Vec::new();
        let mut text = Vec::with_capacity(CHUNK * 2);
        let mut chunks: Vec<Bytes> = Vec::new();
        for (number, at) in records.iter().enumerate() {
            let values = fields(&at.record);
            if let (Some(leaves), Some(identify)) = (&self.leaves, &target.identity) {
                match known_identity(values, leaves, target, identify)? {
                    Some(id) => ids.push(id),
                    None => return Ok(None),
                }
            }
            for (position, &source) in self.sources.iter().enumerate() {
                if position > 0 {
                    text.push(b'\t');
                }
                let value = values.get(source).unwrap_or(&Value::Null);
                match target.fields.get(source) {
                    Some(FieldTarget::Link { .. }) => {
                        let key = links.get(source).and_then(|keys| keys.get(number));
                        write_key(&mut text, key.map_or(&[], Vec::as_slice));
                    }
                    Some(FieldTarget::Column { name, convert: conversion, .. })
                        if !conversion.is_identity() =>
                    {
                        write_cell(&mut text, &convert(name, conversion, value)?);
                    }
                    _ => write_cell(&mut text, value),
                }
            }
            text.push(b'\n');
            if text.len() >= CHUNK {
                chunks.push(BytesMut::from(text.as_slice()).freeze());
                text.clear();
            }
        }
        chunks.push(text.into());
        Ok(Some(Lines { chunks, ids }))
    }

    /// Copies lines.
    pub(super) async fn send(
        &self,
        connection: &Connection,
        lines: Lines,
    ) -> Result<Vec<Value>, tokio_postgres::Error> {
        let sink = connection.client().copy_in::<_, Bytes>(&self.statement).await?;
        let mut sink = Box::pin(sink);
        for chunk in lines.chunks {
            sink.send(chunk).await?;
        }
        sink.as_mut().finish().await?;
        Ok(lines.ids)
    }
}

/// A value in COPY's text format.
fn write_cell(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"\\N"),
        Value::Text(text) => write_text(out, text),
        value => match scalar_text(value) {
            Some(text) => write_text(out, &text),
            None => out.extend_from_slice(b"\\N"),
        },
    }
}

/// The columns of a link.
fn write_key(out: &mut Vec<u8>, key: &[Cell]) {
    for (position, cell) in key.iter().enumerate() {
        if position > 0 {
            out.push(b'\t');
        }
        match cell {
            Some(text) => write_text(out, text),
            None => out.extend_from_slice(b"\\N"),
        }
    }
}

/// What COPY says of a line of its own, counted from the first of several such statements: `before`
/// lines went before it.
pub(super) fn counted_on(text: &str, table: &str, before: usize) -> String {
    let head = format!("\nCONTEXT:  COPY {table}, line ");
    let Some((said, place)) = text.split_once(&head) else { return text.to_string() };
    let end = place.find(|c: char| !c.is_ascii_digit()).unwrap_or(place.len());
    let (line, rest) = place.split_at(end);
    match line.parse::<usize>() {
        Ok(line) => format!("{said}{head}{}{rest}", line + before),
        Err(_) => text.to_string(),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = match byte {
            b'\\' => b'\\',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..at]);
        out.extend_from_slice(&[b'\\', escaped]);
        start = at + 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

/// The fields that give the leaves of the identity; `None` where one is not given by a column, or
/// is of a type that stores another value than it was given.
fn leaf_fields(identify: &Identify, target: &Target, catalog: &Catalog) -> Option<Vec<usize>> {
    if !identify.joins.is_empty() {
        return None;
    }
    let table = catalog
        .database()
        .schemas
        .iter()
        .filter(|schema| schema.name == target.schema)
        .flat_map(|schema| &schema.tables)
        .find(|table| table.name == target.table)?;
    identify
        .leaves
        .iter()
        .map(|leaf| {
            let at = target.fields.iter().position(|field| match field {
                FieldTarget::Column { column, .. } => {
                    leaf.sql == format!("\"t0\".{}", quote(column))
                }
                _ => false,
            })?;
            let Some(FieldTarget::Column { column, .. }) = target.fields.get(at) else {
                return None;
            };
            let column = table.columns.iter().find(|known| known.name == *column)?;
            keeps_values(&column.domain, &column.sql_type).then_some(at)
        })
        .collect()
}

/// Whether a column of the type holds exactly the value that was written to it.
fn keeps_values(domain: &Domain, sql_type: &str) -> bool {
    match domain {
        Domain::Boolean | Domain::Integer | Domain::Enum(_) | Domain::Date => true,
        Domain::Text => sql_type == "text" || sql_type.starts_with("character varying"),
        Domain::Decimal => sql_type == "numeric",
        _ => false,
    }
}

/// The identity that a record's row will have.
fn known_identity(
    values: &[Value],
    leaves: &[usize],
    target: &Target,
    identify: &Identify,
) -> Result<Option<Value>, rex_htsql::Error> {
    let mut labels = Vec::with_capacity(leaves.len());
    for &leaf in leaves {
        let value = match (target.fields.get(leaf), values.get(leaf)) {
            (Some(FieldTarget::Column { name, convert: conversion, .. }), Some(value)) => {
                if conversion.is_identity() {
                    value.clone()
                } else {
                    convert(name, conversion, value)?
                }
            }
            _ => return Ok(None),
        };
        match &value {
            Value::Null => return Ok(None),
            // A `varchar(n)` drops blanks beyond its length.
            Value::Text(text) if text.ends_with(' ') => return Ok(None),
            _ => labels.push(value),
        }
    }
    let mut labels = labels.into_iter();
    Ok(Some(regroup(&identify.domain, &mut labels)))
}

/// Leaves in the nesting of an identity.
fn regroup(domain: &Domain, leaves: &mut impl Iterator<Item = Value>) -> Value {
    match domain {
        Domain::Identity(labels) => {
            Value::Identity(labels.iter().map(|label| regroup(label, leaves)).collect())
        }
        _ => leaves.next().unwrap_or(Value::Null),
    }
}
