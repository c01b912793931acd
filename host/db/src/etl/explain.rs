//! The statements of a command that writes, as they are sent for a batch.

use rex_htsql::Error;
use rex_htsql::catalog::Catalog;
use rex_htsql::plan::{EtlKind, FieldTarget, Target};

use super::copy::{CopyPath, Suitability};
use super::table::TableSql;
use super::verbs::COPY_FROM;
use crate::connection::Connection;

/// The statements of a verb over its target, with a comment where long feeds go by COPY.
pub(crate) async fn statements(
    kind: EtlKind,
    target: &Target,
    catalog: &Catalog,
    connection: &Connection,
) -> Result<Vec<String>, Error> {
    let mut all = plain(kind, target, catalog);
    let from = match kind {
        EtlKind::Copy => 1,
        EtlKind::Insert if target.is_list => COPY_FROM,
        _ => return Ok(all),
    };
    let found = CopyPath::find(connection, catalog, target).await.map_err(|failed| failed.error)?;
    if let Suitability::Fit(path) = found {
        all.push(match from {
            1 => format!("-- in place of it: {}", path.sql()),
            _ => format!("-- in place of it, for {from} records and more: {}", path.sql()),
        });
    }
    Ok(all)
}

fn plain(kind: EtlKind, target: &Target, catalog: &Catalog) -> Vec<String> {
    let table = TableSql { catalog, target };
    let columns = |is_set: &dyn Fn(usize) -> bool| -> Vec<String> {
        let fields = target.fields.iter().enumerate().filter(|(at, _)| is_set(*at));
        let named = fields.flat_map(|(_, field)| match field {
            FieldTarget::Column { column, .. } => vec![column.clone()],
            FieldTarget::Link { columns, .. } => columns.clone(),
            FieldTarget::Ignored | FieldTarget::Identity { .. } => Vec::new(),
        });
        named.collect()
    };
    let all = columns(&|_| true);
    let update = |columns: &[String]| {
        let identify = target.identity.as_ref().filter(|_| !columns.is_empty());
        identify.map(|identify| table.update_sql(identify, columns))
    };
    match kind {
        EtlKind::Insert | EtlKind::Copy => vec![table.insert_sql(&all)],
        EtlKind::Update => update(&all).into_iter().collect(),
        EtlKind::Merge => {
            let set = columns(&|at| !target.identity_fields.contains(&at));
            update(&set).into_iter().chain([table.insert_sql(&all)]).collect()
        }
        EtlKind::Clone => {
            let kept = target.cloned.iter().filter(|name| !all.contains(name)).cloned();
            vec![table.insert_sql(&all.iter().cloned().chain(kept).collect::<Vec<_>>())]
        }
        EtlKind::Delete => target.identity.iter().map(|id| table.delete_sql(id)).collect(),
    }
}
