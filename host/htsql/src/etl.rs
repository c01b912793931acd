//! ETL targets: which column or link each field of a feed goes to.

use crate::catalog::{Arc, Catalog, Element, Identity, Join, Label, TableId};
use crate::clarify::Conversion;
use crate::domain::Domain;
use crate::error::{Error, Mark, Stage};
use crate::name::to_name;
use crate::plan::{EtlKind, FieldTarget, Identify, Leaf, Plan, Target};
use crate::profile::Profile;
use crate::sql::name as quoted;
use crate::syn::Syn;

/// Finds the table and the columns for a feed of the given profile.
///
/// # Errors
/// The messages of an unfit feed (`Missing table name`, `Expected a column or a link name`, …),
/// to be marked as processing by the caller.
pub fn resolve(kind: EtlKind, feed: &Profile, catalog: &Catalog) -> Result<Target, Error> {
    let (is_list, record) = match &feed.domain {
        Domain::Record(fields) => (false, fields.clone()),
        Domain::List(item) => match &**item {
            Domain::Record(fields) => (true, fields.clone()),
            _ => return Err(not_records(feed)),
        },
        _ => return Err(not_records(feed)),
    };
    let Some(tag) = &feed.tag else {
        return Err(Error::new("Missing table name"));
    };
    let (table, label) = find_table(tag, catalog)?;
    let has_identity = matches!(kind, EtlKind::Update | EtlKind::Clone | EtlKind::Delete);
    let identity = catalog.identity(table);
    let mut fields = Vec::with_capacity(record.len());
    let mut taken: Vec<String> = Vec::new();
    let mut rest: &[Profile] = &record;
    if has_identity {
        let Some((first, others)) = record.split_first() else {
            return Err(Error::new("Expected the first field to be an identity"));
        };
        let Some(identity) = identity else {
            return Err(Error::new("Cannot determine identity of the table"));
        };
        let domain = identity.domain(catalog, table);
        let Some(convert) = Conversion::new(&first.domain, &domain) else {
            return Err(Error::new(format!(
                "Expected the first field to be the table identity; got {}",
                first.domain
            )));
        };
        fields.push(FieldTarget::Identity { convert });
        rest = others;
    }
    if kind != EtlKind::Delete {
        for field in rest {
            let target = field_target(field, table, catalog)?;
            match &target {
                FieldTarget::Column { column, name, .. } => {
                    claim(&mut taken, std::slice::from_ref(column), name)?;
                }
                FieldTarget::Link { columns, name, .. } => claim(&mut taken, columns, name)?,
                _ => {}
            }
            fields.push(target);
        }
    }
    let returns = !matches!(kind, EtlKind::Copy | EtlKind::Delete);
    let key = match catalog.row_key(table) {
        Some(key) => column_names(catalog, table, &key),
        // Nobody asks which rows they were.
        None if kind == EtlKind::Copy => Vec::new(),
        None => return Err(Error::new("Table does not have a primary key")),
    };
    let identify = match identity {
        Some(identity) => Some(identify(catalog, table, identity, key.clone(), label.name.clone())),
        None if returns => return Err(Error::new("Cannot determine table identity")),
        None => None,
    };
    let identity_fields = match (kind, identity) {
        (EtlKind::Merge, Some(identity)) => merge_fields(catalog, table, identity, &fields)?,
        (EtlKind::Merge, None) => return Err(Error::new("Expected a table with identity")),
        _ => Vec::new(),
    };
    let cloned = if kind == EtlKind::Clone { public_columns(catalog, table) } else { Vec::new() };
    let keeps_identity = returns || has_identity;
    Ok(Target {
        schema: catalog.schema(table).name.clone(),
        table: catalog.table(table).name.clone(),
        tag: label.name.clone(),
        header: label.title.clone().unwrap_or_else(|| label.name.clone()),
        is_list,
        record: Domain::Record(record),
        fields,
        identity: if keeps_identity { identify } else { None },
        returns,
        key,
        identity_fields,
        cloned,
    })
}

fn not_records(feed: &Profile) -> Error {
    Error::new(format!("Expected a record or a list of records; got {}", feed.domain))
}

fn find_table<'c>(tag: &str, catalog: &'c Catalog) -> Result<(TableId, &'c Label), Error> {
    let Some(label) = catalog.find_home_label(&to_name(tag), None) else {
        return Err(Error::quoting("Got unknown table", tag));
    };
    match &label.arc {
        Arc::Table(id) => Ok((*id, label)),
        _ => Err(Error::quoting("Expected the name of a table", tag)),
    }
}

fn claim(taken: &mut Vec<String>, columns: &[String], name: &str) -> Result<(), Error> {
    for column in columns {
        if taken.contains(column) {
            return Err(Error::quoting("Got duplicate field", name));
        }
    }
    taken.extend(columns.iter().cloned());
    Ok(())
}

fn column_names(catalog: &Catalog, table: TableId, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|column| catalog.column(table, *column).name.clone()).collect()
}

fn field_target(field: &Profile, table: TableId, catalog: &Catalog) -> Result<FieldTarget, Error> {
    let Some(tag) = &field.tag else {
        return Ok(FieldTarget::Ignored);
    };
    let unknown = || Error::quoting("Expected a column or a link name", tag.as_str());
    let Some(label) = catalog.find_table_label(table, &to_name(tag), None) else {
        return Err(unknown());
    };
    match &label.arc {
        // The identity of a row given for its key column.
        Arc::Column(_, Some(join)) if matches!(field.domain, Domain::Identity(_)) => {
            link_target(field, tag, *join, catalog)
        }
        Arc::Column(index, _) => {
            let column = catalog.column(table, *index);
            let Some(convert) = Conversion::new(&field.domain, &column.domain) else {
                return Err(Error::new(format!(
                    "Invalid type for column {tag}: expected {}; got {}",
                    column.domain, field.domain
                )));
            };
            Ok(FieldTarget::Column {
                name: tag.clone(),
                column: column.name.clone(),
                sql_type: column.sql_type.clone(),
                convert,
            })
        }
        Arc::Link(join) if join.is_direct => link_target(field, tag, *join, catalog),
        Arc::Link(_) => Err(Error::quoting("Cannot assign to link", tag.as_str())),
        _ => Err(unknown()),
    }
}

fn link_target(
    field: &Profile,
    tag: &str,
    join: Join,
    catalog: &Catalog,
) -> Result<FieldTarget, Error> {
    let target = catalog.target(join);
    let Some(identity) = catalog.identity(target) else {
        return Err(Error::quoting("Cannot determine identity of a link", tag));
    };
    let domain = identity.domain(catalog, target);
    let Some(convert) = Conversion::new(&field.domain, &domain) else {
        return Err(Error::new(format!(
            "Invalid type for column {tag}: expected {domain}; got {}",
            field.domain
        )));
    };
    let pairs = catalog.join_columns(join);
    let origins: Vec<usize> = pairs.iter().map(|(origin, _)| *origin).collect();
    let targets: Vec<usize> = pairs.iter().map(|(_, target)| *target).collect();
    let key = column_names(catalog, target, &targets);
    let label = catalog.table_label(target).map(|label| label.name.clone());
    let label = label.unwrap_or_else(|| catalog.table(target).name.clone());
    Ok(FieldTarget::Link {
        name: tag.to_string(),
        columns: column_names(catalog, catalog.origin(join), &origins),
        identify: identify(catalog, target, identity, key, label),
        convert,
    })
}

/// How identities of a table resolve to columns of its rows.
fn identify(
    catalog: &Catalog,
    table: TableId,
    identity: &Identity,
    key: Vec<String>,
    label: String,
) -> Identify {
    let mut found = Identify {
        schema: catalog.schema(table).name.clone(),
        table: catalog.table(table).name.clone(),
        joins: Vec::new(),
        leaves: Vec::new(),
        domain: identity.domain(catalog, table),
        key,
        label,
    };
    add_leaves(catalog, table, identity, 0, &mut found);
    found
}

fn add_leaves(
    catalog: &Catalog,
    table: TableId,
    identity: &Identity,
    alias: usize,
    found: &mut Identify,
) {
    for element in &identity.elements {
        match element {
            Element::Column(index) => {
                let column = catalog.column(table, *index);
                found.leaves.push(Leaf {
                    sql: format!("\"t{alias}\".{}", quoted(&column.name)),
                    domain: column.domain.clone(),
                    sql_type: column.sql_type.clone(),
                });
            }
            Element::Link(join, inner) => {
                let target = catalog.target(*join);
                let next = found.joins.len() + 1;
                let pairs: Vec<String> = catalog
                    .join_columns(*join)
                    .into_iter()
                    .map(|(origin, other)| {
                        let origin = quoted(&catalog.column(table, origin).name);
                        let other = quoted(&catalog.column(target, other).name);
                        format!("\"t{alias}\".{origin} = \"t{next}\".{other}")
                    })
                    .collect();
                found.joins.push(format!(
                    "INNER JOIN {}.{} AS \"t{next}\" ON ({})",
                    quoted(&catalog.schema(target).name),
                    quoted(&catalog.table(target).name),
                    pairs.join(" AND ")
                ));
                add_leaves(catalog, target, inner, next, found);
            }
        }
    }
}

/// The fields that make up the identity, one a label.
fn merge_fields(
    catalog: &Catalog,
    table: TableId,
    identity: &Identity,
    fields: &[FieldTarget],
) -> Result<Vec<usize>, Error> {
    let mut found = Vec::with_capacity(identity.elements.len());
    for element in &identity.elements {
        let (columns, arc_name) = match element {
            Element::Column(index) => {
                let label = catalog
                    .table_labels(table)
                    .iter()
                    .find(|label| matches!(&label.arc, Arc::Column(column, _) if column == index));
                (vec![catalog.column(table, *index).name.clone()], label)
            }
            Element::Link(join, _) => {
                let label = catalog
                    .table_labels(table)
                    .iter()
                    .find(|label| matches!(&label.arc, Arc::Link(link) if link == join));
                let pairs = catalog.join_columns(*join);
                let origins: Vec<usize> = pairs.iter().map(|(origin, _)| *origin).collect();
                (column_names(catalog, table, &origins), label)
            }
        };
        let position = fields.iter().position(|field| match field {
            FieldTarget::Column { column, .. } => columns == [column.clone()],
            FieldTarget::Link { columns: own, .. } => *own == columns,
            _ => false,
        });
        match position {
            Some(position) => found.push(position),
            None => {
                let name = arc_name.map_or_else(|| columns.join(", "), |l| l.name.clone());
                return Err(Error::new(format!("Missing identity field {name}")));
            }
        }
    }
    Ok(found)
}

/// Columns that a clone copies: those that are shown, and those of links that are.
fn public_columns(catalog: &Catalog, table: TableId) -> Vec<String> {
    let mut columns = Vec::new();
    for label in catalog.table_labels(table).iter().filter(|label| label.is_public) {
        match &label.arc {
            Arc::Column(index, _) => columns.push(*index),
            Arc::Link(join) => {
                columns.extend(catalog.join_columns(*join).iter().map(|(origin, _)| *origin));
            }
            _ => {}
        }
    }
    columns.dedup();
    column_names(catalog, table, &columns)
}

/// The plan of `truncate(name)`.
pub(crate) fn truncate(
    name: &str,
    mark: Mark,
    syn: &Syn,
    catalog: &Catalog,
) -> Result<Plan, Error> {
    let fail = |message: &str| Error::new(message).at(Stage::Parsing, syn.mark());
    let Some(label) = catalog.find_home_label(&to_name(name), None) else {
        return Err(fail("Unknown table"));
    };
    let Arc::Table(id) = &label.arc else {
        return Err(fail("Expected a table"));
    };
    Ok(Plan::Truncate {
        schema: catalog.schema(*id).name.clone(),
        table: catalog.table(*id).name.clone(),
        mark,
    })
}
