//! Identities: which columns and links of a table tell its rows apart.

use super::{Catalog, Join, TableId};
use crate::domain::Domain;

/// The identity of a table, one element a label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    pub(crate) elements: Vec<Element>,
}

/// A label of an identity: a column, or a link with the identity of its target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Element {
    Column(usize),
    Link(Join, Identity),
}

impl Identity {
    /// The domain of the identities of `table`'s rows.
    pub(crate) fn domain(&self, catalog: &Catalog, table: TableId) -> Domain {
        let labels = self.elements.iter().map(|element| match element {
            Element::Column(column) => catalog.column(table, *column).domain.clone(),
            Element::Link(join, target) => target.domain(catalog, catalog.target(*join)),
        });
        Domain::Identity(labels.collect())
    }
}

/// Finds the identity of a table: the primary key or the first other key without nullable columns
/// whose columns are all reachable. Columns that a total foreign key covers stand for the identity
/// of its target. `above`: tables whose identity is being built from this one's; a table that
/// would contain itself has none.
pub(super) fn find(catalog: &Catalog, id: TableId, above: &mut Vec<TableId>) -> Option<Identity> {
    if above.contains(&id) {
        return None;
    }
    above.push(id);
    let keys = &catalog.table(id).unique_keys;
    let primary = keys.iter().filter(|key| key.primary);
    let others = keys.iter().filter(|key| !key.primary);
    let found = primary
        .chain(others)
        .filter(|key| !key.partial)
        .filter(|key| key.columns.iter().all(|c| !catalog.column(id, *c).nullable))
        .find_map(|key| elements(catalog, id, &key.columns, above));
    above.pop();
    found
}

fn elements(
    catalog: &Catalog,
    id: TableId,
    columns: &[usize],
    above: &mut Vec<TableId>,
) -> Option<Identity> {
    let joins = catalog.direct_joins(id);
    let mut elements = Vec::new();
    let mut rest = columns;
    while let Some(column) = rest.first() {
        let link = joins.iter().find_map(|join| {
            let covered = &catalog.key(*join).columns;
            if !rest.starts_with(covered) || !catalog.is_expanding(*join) {
                return None;
            }
            Some((*join, covered.len(), find(catalog, catalog.target(*join), above)?))
        });
        if let Some((join, width, identity)) = link {
            elements.push(Element::Link(join, identity));
            rest = &rest[width..];
        } else {
            if !catalog.has_column_label(id, *column) {
                return None;
            }
            elements.push(Element::Column(*column));
            rest = &rest[1..];
        }
    }
    Some(Identity { elements })
}
