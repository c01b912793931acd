//! What each verb does with a batch of records.

use std::collections::HashSet;
use std::sync::Arc;

use rex_htsql::catalog::Catalog;
use rex_htsql::plan::{EtlKind, FieldTarget, Identify, Target};
use rex_htsql::{Error, Value};

use super::cells::{Cell, column_cell, convert, field_name, fields, leaf_texts, row_name};
use super::copy::{CopyPath, Lines, Suitability, counted_on};
use super::refusal::Refusal;
use super::resolve::{Resolver, is_key};
use super::table::{TableSql, TableWriter};
use super::work::Numbered;
use super::{Culprit, Failed, identity, own_text};
use crate::connection::Connection;

/// Batches from this size on may go by COPY.
pub(super) const COPY_FROM: usize = 64;

/// A verb with its target and what it has learned of it.
pub(super) struct Verb {
    connection: Arc<Connection>,
    catalog: Arc<Catalog>,
    kind: EtlKind,
    target: Target,
    /// For the rows of the target table.
    rows: Option<Resolver>,
    /// For the fields that are links, by field.
    links: Vec<Option<Resolver>>,
    copy: Suitability,
    /// Records that COPY has taken.
    n_copied: usize,
}

impl Verb {
    pub(super) fn new(
        connection: Arc<Connection>,
        catalog: Arc<Catalog>,
        kind: EtlKind,
        target: Target,
    ) -> Verb {
        let link = |field: &FieldTarget| match field {
            FieldTarget::Link { identify, .. } => Some(Resolver::new(identify)),
            _ => None,
        };
        let links = target.fields.iter().map(link).collect();
        let rows = target.identity.as_ref().map(Resolver::new);
        let copy = Suitability::Unknown;
        Verb { connection, catalog, kind, target, rows, links, copy, n_copied: 0 }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a batch: all of it or nothing that is not to be undone by the caller.
    pub(super) async fn run(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        match self.kind {
            EtlKind::Insert => self.insert(records).await,
            EtlKind::Copy => self.copy(records).await,
            EtlKind::Update => self.update(records).await,
            EtlKind::Merge => self.merge(records).await,
            EtlKind::Clone => self.clone_rows(records).await,
            EtlKind::Delete => self.delete(records).await,
        }
    }

    fn writer(&self) -> TableWriter<'_> {
        let table = TableSql { catalog: &self.catalog, target: &self.target };
        TableWriter { connection: &self.connection, table }
    }

    async fn insert(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        if records.len() >= COPY_FROM
            && self.may_copy().await?
            && let Some(lines) = self.lines(records).await?
            && let Suitability::Fit(path) = &self.copy
        {
            return Ok(path.send(&self.connection, lines).await?);
        }
        let (columns, rows) = self.cells(records, |_| true).await?;
        self.writer().insert(&columns, &rows).await
    }

    /// All records are read before COPY is sent, whose error is then of all of them.
    async fn copy(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        if !self.may_copy().await? {
            let (columns, rows) = self.cells(records, |_| true).await?;
            self.writer().insert(&columns, &rows).await?;
            return Ok(Vec::new());
        }
        let lines = match self.lines(records).await {
            Ok(lines) => lines,
            Err(failed) => {
                for (number, at) in records.iter().enumerate() {
                    let read = self.lines(std::slice::from_ref(at)).await;
                    read.map_err(|failed| failed.of(Culprit::Record(number)))?;
                }
                return Err(failed);
            }
        };
        if let (Some(lines), Suitability::Fit(path)) = (lines, &self.copy) {
            path.send(&self.connection, lines).await.map_err(|error| {
                let text = counted_on(&own_text(&error), &self.target.table, self.n_copied);
                Failed::said(&error, text).of(Culprit::Batch)
            })?;
            self.n_copied += records.len();
        }
        Ok(Vec::new())
    }

    /// Whether rows can go by COPY.
    async fn may_copy(&mut self) -> Result<bool, Failed> {
        if let Suitability::Unknown = self.copy {
            self.copy = CopyPath::find(&self.connection, &self.catalog, &self.target).await?;
        }
        Ok(matches!(self.copy, Suitability::Fit(_)))
    }

    /// Records as COPY takes them.
    async fn lines(&mut self, records: &[Numbered]) -> Result<Option<Lines>, Failed> {
        let mut links = Vec::with_capacity(self.links.len());
        for (index, field) in self.target.fields.iter().enumerate() {
            let resolver = self.links.get_mut(index).and_then(Option::as_mut);
            links.push(link_keys(&self.connection, index, field, resolver, records).await?);
        }
        let Suitability::Fit(path) = &self.copy else { return Ok(None) };
        path.lines(&self.target, records, &links)
    }

    /// What to say of a record that the database refused. Which of several unique keys it checks
    /// first is the database's affair; a record whose identity is there already is first of all
    /// that. The statement must have been undone.
    pub(super) async fn reconsider(&mut self, failed: Failed, at: &[Numbered]) -> Failed {
        let known = match (&failed.refusal, self.writer().primary_key()) {
            (Some(refusal), Some(primary)) if self.kind == EtlKind::Insert => {
                refusal.is_beside_identity(primary)
            }
            _ => false,
        };
        if !known {
            return failed;
        }
        match self.duplicate_identity(&failed, at).await {
            Ok(Some(refusal)) => {
                let error = Error::database(refusal.text());
                Failed { refusal: Some(Box::new(refusal)), ..error.into() }
            }
            _ => failed,
        }
    }

    async fn duplicate_identity(
        &mut self,
        failed: &Failed,
        at: &[Numbered],
    ) -> Result<Option<Refusal>, Failed> {
        let (columns, rows) = self.cells(at, |_| true).await?;
        let key = self.target.key.clone();
        let Some(row) = rows.first() else { return Ok(None) };
        let cell = |column: &String| {
            let position = columns.iter().position(|known| known == column)?;
            row.get(position).cloned().flatten()
        };
        let Some(values) = key.iter().map(cell).collect::<Option<Vec<String>>>() else {
            return Ok(None);
        };
        let writer = self.writer();
        if !writer.exists(&key, values.iter().cloned().map(Some).collect()).await? {
            return Ok(None);
        }
        let (Some(refusal), Some(primary)) = (&failed.refusal, writer.primary_key()) else {
            return Ok(None);
        };
        Ok(Some(refusal.of_identity(primary, &key.join(", "), &values.join(", "))))
    }

    async fn update(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        let keys = self.located(records).await?;
        let (columns, rows) = self.cells(records, |_| true).await?;
        let rows = join_cells(keys, rows);
        let identify = identity(&self.target)?;
        let ids = self.writer().update(identify, &columns, &rows).await?;
        self.forget();
        Ok(ids)
    }

    async fn delete(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        let keys = self.located(records).await?;
        self.writer().delete(identity(&self.target)?, &keys).await?;
        self.forget();
        Ok(Vec::new())
    }

    async fn clone_rows(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        let keys = self.located(records).await?;
        let (mut columns, rows) = self.cells(records, |_| true).await?;
        let copied: Vec<String> =
            self.target.cloned.iter().filter(|name| !columns.contains(name)).cloned().collect();
        let old = self.writer().read(identity(&self.target)?, &copied, &keys).await?;
        columns.extend(copied);
        self.writer().insert(&columns, &join_cells(rows, old)).await
    }

    async fn merge(&mut self, records: &[Numbered]) -> Result<Vec<Value>, Failed> {
        let mut identities = Vec::with_capacity(records.len());
        for at in records {
            identities.push(leaf_texts(&self.merged_identity(&at.record)?));
        }
        distinct(&identities)?;
        let keys = match &mut self.rows {
            Some(rows) => rows.keys(&self.connection, &identities).await?,
            None => vec![None; records.len()],
        };
        let is_identity = |field: usize| self.target.identity_fields.contains(&field);
        let values: Vec<usize> =
            (0..self.target.fields.len()).filter(|field| !is_identity(*field)).collect();
        let (columns, rows) = self.cells(records, |_| true).await?;
        let (set_columns, set_rows) = self.cells(records, |at| values.contains(&at)).await?;
        let (mut inserts, mut updates) = (Vec::new(), Vec::new());
        let mut is_update = Vec::with_capacity(records.len());
        for ((key, row), set) in keys.into_iter().zip(rows).zip(set_rows) {
            is_update.push(key.is_some());
            match key {
                Some(mut key) => {
                    key.extend(set);
                    updates.push(key);
                }
                None => inserts.push(row),
            }
        }
        let writer = self.writer();
        let updated = match updates.is_empty() {
            true => Vec::new(),
            false => writer.update(identity(&self.target)?, &set_columns, &updates).await?,
        };
        let inserted = match inserts.is_empty() {
            true => Vec::new(),
            false => writer.insert(&columns, &inserts).await?,
        };
        self.forget();
        let (mut updated, mut inserted) = (updated.into_iter(), inserted.into_iter());
        let pick = |is_update| if is_update { updated.next() } else { inserted.next() };
        Ok(is_update.into_iter().filter_map(pick).collect())
    }

    /// The identity that the fields of a record make up.
    fn merged_identity(&self, record: &Value) -> Result<Value, Error> {
        let values = fields(record);
        let mut labels = Vec::with_capacity(self.target.identity_fields.len());
        for &at in &self.target.identity_fields {
            let (Some(field), Some(value)) = (self.target.fields.get(at), values.get(at)) else {
                return Err(Error::new("Missing identity field"));
            };
            labels.push(match field {
                FieldTarget::Column { convert: conversion, .. }
                | FieldTarget::Link { convert: conversion, .. }
                | FieldTarget::Identity { convert: conversion, .. } => {
                    convert(field_name(field), conversion, value)?
                }
                FieldTarget::Ignored => Value::Null,
            });
        }
        Ok(Value::Identity(labels))
    }

    /// The keys of the rows that the first fields of the records name.
    async fn located(&mut self, records: &[Numbered]) -> Result<Vec<Vec<Cell>>, Failed> {
        let identify = identity(&self.target)?;
        let mut named = Vec::with_capacity(records.len());
        let first =
            self.target.fields.iter().position(|f| matches!(f, FieldTarget::Identity { .. }));
        for at in records {
            let found = first.and_then(|first| {
                Some((self.target.fields.get(first)?, fields(&at.record).get(first)?))
            });
            let Some((field @ FieldTarget::Identity { convert: conversion, .. }, value)) = found
            else {
                return Err(Error::new("Expected the first field to be an identity").into());
            };
            named.push(convert(field_name(field), conversion, value)?);
        }
        let leaves: Vec<Option<Vec<String>>> = named.iter().map(leaf_texts).collect();
        distinct(&leaves)?;
        if records.len() > 1 && is_blind(self.kind, identify) {
            // A row that is not there shows in the number of rows written, and is then sought
            // for by itself.
            if leaves.iter().all(Option::is_some) {
                let key = |leaves: Vec<String>| leaves.into_iter().map(Some).collect();
                return Ok(leaves.into_iter().flatten().map(key).collect());
            }
        }
        let Some(rows) = &mut self.rows else {
            return Err(Error::new("Cannot determine identity of the table").into());
        };
        let keys = rows.keys(&self.connection, &leaves).await?;
        let missing = |id: &Value| {
            let name = row_name(&identify.label, &identify.domain, id);
            Failed::from(Error::quoting("Unable to find an entity", name))
        };
        keys.into_iter().zip(&named).map(|(key, id)| key.ok_or_else(|| missing(id))).collect()
    }

    /// The columns that the chosen fields set, and the cells of each record for them.
    async fn cells(
        &mut self,
        records: &[Numbered],
        chosen: impl Fn(usize) -> bool,
    ) -> Result<(Vec<String>, Vec<Vec<Cell>>), Failed> {
        let mut columns = Vec::new();
        let mut rows: Vec<Vec<Cell>> = vec![Vec::new(); records.len()];
        for (index, field) in self.target.fields.iter().enumerate().filter(|(at, _)| chosen(*at)) {
            let value =
                |at: &Numbered| fields(&at.record).get(index).cloned().unwrap_or(Value::Null);
            match field {
                FieldTarget::Ignored | FieldTarget::Identity { .. } => {}
                FieldTarget::Column { name, column, convert: conversion, .. } => {
                    columns.push(column.clone());
                    for (row, at) in rows.iter_mut().zip(records) {
                        row.push(column_cell(name, conversion, &value(at))?);
                    }
                }
                FieldTarget::Link { columns: link, .. } => {
                    columns.extend(link.iter().cloned());
                    let resolver = self.links.get_mut(index).and_then(Option::as_mut);
                    let found = link_keys(&self.connection, index, field, resolver, records);
                    let keys = found.await?;
                    rows.iter_mut().zip(keys).for_each(|(row, key)| row.extend(key));
                }
            }
        }
        Ok((columns, rows))
    }

    /// What was found in the target table may have changed.
    fn forget(&mut self) {
        if let Some(rows) = &mut self.rows {
            rows.forget();
        }
        for (field, link) in self.target.fields.iter().zip(&mut self.links) {
            if let (FieldTarget::Link { identify, .. }, Some(link)) = (field, link)
                && identify.table == self.target.table
                && identify.schema == self.target.schema
            {
                link.forget();
            }
        }
    }
}

/// The keys that the links in a field resolve to, by record; nothing for a field that is no link.
async fn link_keys(
    connection: &Connection,
    index: usize,
    field: &FieldTarget,
    resolver: Option<&mut Resolver>,
    records: &[Numbered],
) -> Result<Vec<Vec<Cell>>, Failed> {
    let (FieldTarget::Link { name, columns, identify, convert: conversion }, Some(resolver)) =
        (field, resolver)
    else {
        return Ok(Vec::new());
    };
    let value = |at: &Numbered| fields(&at.record).get(index).cloned().unwrap_or(Value::Null);
    let ids = records
        .iter()
        .map(|at| convert(name, conversion, &value(at)))
        .collect::<Result<Vec<Value>, Error>>()?;
    let leaves: Vec<Option<Vec<String>>> = ids.iter().map(leaf_texts).collect();
    let keys = resolver.keys(connection, &leaves).await?;
    keys.into_iter()
        .zip(leaves)
        .zip(&ids)
        .map(|((key, leaves), id)| match key {
            Some(key) => Ok(key),
            None if leaves.is_none() => Ok(vec![None; columns.len()]),
            None => Err(unresolved(identify, id).into()),
        })
        .collect()
}

fn unresolved(identify: &Identify, id: &Value) -> Error {
    let name = row_name(&identify.label, &identify.domain, id);
    Error::quoting("Unable to resolve a link", name)
}

/// Whether a batch can be written without its rows being located first.
pub(super) fn is_blind(kind: EtlKind, identify: &Identify) -> bool {
    matches!(kind, EtlKind::Update | EtlKind::Delete) && is_key(identify)
}

/// Fails where a batch names a row twice: what comes first must then be seen by what comes next.
fn distinct(identities: &[Option<Vec<String>>]) -> Result<(), Failed> {
    let mut seen = HashSet::with_capacity(identities.len());
    match identities.iter().flatten().all(|leaves| seen.insert(leaves)) {
        true => Ok(()),
        false => Err(Error::new("the batch names a row twice").into()),
    }
}

/// Two parts of rows side by side.
fn join_cells(mut rows: Vec<Vec<Cell>>, more: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    for (row, more) in rows.iter_mut().zip(more) {
        row.extend(more);
    }
    rows
}
