//! The statements of a command that writes, as they are sent for a batch.

use rex_htsql::Error;
use rex_htsql::catalog::Catalog;
use rex_htsql::plan::{EtlKind, FieldTarget, Identify, Target};

use super::copy::{CopyPath, Suitability};
use super::resolve::{Resolver, identities_sql};
use super::table::TableSql;
use super::verbs::{COPY_FROM, is_blind};
use crate::connection::Connection;

/// The statements of a verb over its target, in the order in which they are sent, with comments on
/// those that depend on the number of records.
pub(crate) async fn statements(
    kind: EtlKind,
    target: &Target,
    catalog: &Catalog,
    connection: &Connection,
) -> Result<Vec<String>, Error> {
    let path = match kind {
        EtlKind::Copy => true,
        EtlKind::Insert => target.is_list,
        _ => false,
    };
    let path = match path {
        true => CopyPath::find(connection, catalog, target).await.map_err(|failed| failed.error)?,
        false => Suitability::Unfit,
    };
    let sql = VerbSql { table: TableSql { catalog, target }, kind };
    Ok(sql.statements(&path))
}

struct VerbSql<'a> {
    table: TableSql<'a>,
    kind: EtlKind,
}

impl VerbSql<'_> {
    fn statements(&self, path: &Suitability) -> Vec<String> {
        let target = self.table.target;
        let set = self.columns(|at| !target.identity_fields.contains(&at));
        let all = self.columns(|_| true);
        let mut out = Vec::new();
        if !matches!(self.kind, EtlKind::Insert | EtlKind::Copy) {
            self.locate(&mut out);
        }
        for field in &target.fields {
            if let FieldTarget::Link { identify, .. } = field {
                out.push(Resolver::new(identify).sql().to_string());
            }
        }
        match (self.kind, path) {
            (EtlKind::Copy, Suitability::Fit(path)) => out.push(path.sql().to_string()),
            (EtlKind::Insert | EtlKind::Copy, path) => {
                self.insert(&all, &mut out);
                if let Suitability::Fit(path) = path {
                    let copy = path.sql();
                    out.push(format!(
                        "-- in place of it, for {COPY_FROM} records and more: {copy}"
                    ));
                }
            }
            (EtlKind::Update, _) => self.update(&set, &mut out),
            (EtlKind::Merge, _) => {
                self.update(&set, &mut out);
                self.insert(&all, &mut out);
            }
            (EtlKind::Clone, _) => {
                let copied = target.cloned.iter().filter(|name| !all.contains(name)).cloned();
                let copied: Vec<String> = copied.collect();
                out.extend(target.identity.iter().map(|id| self.table.read_sql(id, &copied)));
                self.insert(&[all, copied].concat(), &mut out);
            }
            (EtlKind::Delete, _) => {
                out.extend(target.identity.iter().map(|id| self.table.delete_sql(id)));
            }
        }
        out
    }

    /// The columns that the chosen fields set.
    fn columns(&self, is_chosen: impl Fn(usize) -> bool) -> Vec<String> {
        let fields = self.table.target.fields.iter().enumerate();
        let named = fields.filter(|(at, _)| is_chosen(*at)).flat_map(|(_, field)| match field {
            FieldTarget::Column { column, .. } => vec![column.clone()],
            FieldTarget::Link { columns, .. } => columns.clone(),
            FieldTarget::Ignored | FieldTarget::Identity { .. } => Vec::new(),
        });
        named.collect()
    }

    fn locate(&self, out: &mut Vec<String>) {
        let Some(identify) = &self.table.target.identity else { return };
        let resolver = Resolver::new(identify);
        out.push(match self.table.target.is_list && is_blind(self.kind, identify) {
            true => format!("-- first, for a single record: {}", resolver.sql()),
            false => resolver.sql().to_string(),
        });
    }

    fn insert(&self, columns: &[String], out: &mut Vec<String>) {
        out.push(self.table.insert_sql(columns));
        out.extend(self.identities());
    }

    fn update(&self, columns: &[String], out: &mut Vec<String>) {
        let Some(identify) = &self.table.target.identity else { return };
        if columns.is_empty() {
            out.push(identities_sql(self.table.catalog, identify));
        } else {
            out.push(self.table.update_sql(identify, columns));
            out.extend(self.identities());
        }
    }

    /// What reads the identities of written rows, where RETURNING does not give them.
    fn identities(&self) -> Option<String> {
        let is_far = |identify: &&Identify| !identify.joins.is_empty();
        let identify = self.table.target.identity.as_ref().filter(is_far)?;
        Some(identities_sql(self.table.catalog, identify))
    }
}
