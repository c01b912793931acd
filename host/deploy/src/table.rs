//! Tables: found, made, renamed with all that is named after them, dropped.

use rex_htsql::catalog::titled;
use rex_yaml::Error;

use crate::comment::Comment;
use crate::deployer::{At, Deployer};
use crate::fact::TableFact;
use crate::image::{Key, TableId, Type};
use crate::name::mangle;
use crate::{column, identity, link};

/// The table of a label; its rows must be told apart by `id`.
pub(crate) fn find(d: &mut Deployer<'_>, label: &str) -> Result<Option<TableId>, Error> {
    let image = d.image()?;
    let Some(id) = image.table_named(&mangle(&[label], None)) else { return Ok(None) };
    let table = &image.tables[&id];
    let key = table.column_named("id").and_then(|column| table.unique_key(column.id));
    match key {
        Some(_) => Ok(Some(id)),
        None => Err(Error::with("Discovered table without surrogate key:", self::label(d, id)?)),
    }
}

/// As [`find`], for a fact that needs the table.
pub(crate) fn need(d: &mut Deployer<'_>, label: &str) -> Result<TableId, Error> {
    find(d, label)?.ok_or_else(|| Error::with("Discovered missing table:", label))
}

pub(crate) fn label(d: &mut Deployer<'_>, table: TableId) -> Result<String, Error> {
    let table = d.table(table)?;
    let comment = Comment::read(table.comment.as_deref());
    Ok(comment.label.unwrap_or_else(|| table.name.clone()))
}

/// Columns and links, by position.
pub(crate) fn fields(d: &mut Deployer<'_>, table: TableId) -> Result<Vec<At>, Error> {
    let columns = &d.table(table)?.columns;
    let named = columns.iter().filter(|column| column.name != "id");
    Ok(named.map(|column| At { table, column: column.id }).collect())
}

pub(crate) fn is_link(d: &mut Deployer<'_>, at: At) -> Result<bool, Error> {
    Ok(d.table(at.table)?.link(at.column).is_some())
}

/// The column or link of a label.
pub(crate) fn field(
    d: &mut Deployer<'_>,
    table: TableId,
    label: &str,
) -> Result<Option<At>, Error> {
    match column::find(d, table, label)? {
        Some(at) => Ok(Some(at)),
        None => link::find(d, table, label),
    }
}

/// How fields of one kind are found, and what the other kind is called.
pub(crate) struct Finding {
    pub(crate) find: Find,
    pub(crate) find_other: Find,
    pub(crate) other: &'static str,
}

type Find = fn(&mut Deployer<'_>, TableId, &str) -> Result<Option<At>, Error>;

/// The table of a fact about a field, and the field if it is there, perhaps by a former label.
/// `was` is `None` where the field is not to be; then a table may be missing.
pub(crate) fn find_field(
    d: &mut Deployer<'_>,
    finding: &Finding,
    table: &str,
    label: &str,
    was: Option<&[String]>,
) -> Result<Option<(TableId, Option<At>)>, Error> {
    let Some(id) = find(d, table)? else {
        return match was {
            Some(_) => Err(Error::with("Discovered missing table:", table)),
            None => Ok(None),
        };
    };
    let mut found = (finding.find)(d, id, label)?;
    if found.is_none() && (finding.find_other)(d, id, label)?.is_some() {
        let message = format!("Discovered {} with the same name:", finding.other);
        return Err(Error::with(message, label));
    }
    for former in was.unwrap_or_default() {
        if found.is_none() {
            found = (finding.find)(d, id, former)?;
        }
    }
    Ok(Some((id, found)))
}

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &TableFact) -> Result<(), Error> {
    let mut found = find(d, &fact.label)?;
    let was = fact.goal.as_ref().map_or(&[][..], |goal| &goal.was);
    for former in was {
        if found.is_none() {
            found = find(d, former)?;
        }
    }
    let Some(goal) = &fact.goal else {
        return found.map_or(Ok(()), |table| erase(d, table));
    };
    let title = goal.title.as_deref();
    match found {
        Some(table) => modify(d, table, &fact.label, goal.reliable, title)?,
        None => build(d, &fact.label, goal.reliable, title)?,
    }
    d.deploy(&goal.with)
}

fn build(
    d: &mut Deployer<'_>,
    label: &str,
    reliable: bool,
    title: Option<&str>,
) -> Result<(), Error> {
    let table = d.create_table(&mangle(&[label], None), !reliable)?;
    let id = d.table(table)?.columns[0].id;
    d.create_sequence(At { table, column: id }, &mangle(&[label], Some("seq")))?;
    let name = mangle(&[label], Some("uk"));
    d.create_key(table, Key { name, columns: vec![id], primary: false, comment: None })?;
    if d.image()?.audited {
        d.create_audit_trigger(table)?;
    }
    remember(d, table, label, title)
}

/// Notes in the comment what cannot be told from the name.
fn remember(
    d: &mut Deployer<'_>,
    table: TableId,
    label: &str,
    title: Option<&str>,
) -> Result<(), Error> {
    let old = Comment::read(d.table(table)?.comment.as_deref());
    let new = Comment {
        label: Some(label.to_owned()).filter(|label| mangle(&[label], None) != *label),
        title: title.filter(|title| titled(label) != **title).map(str::to_owned),
        ..old.clone()
    };
    if new != old { d.comment_table(table, new.write()) } else { Ok(()) }
}

fn modify(
    d: &mut Deployer<'_>,
    table: TableId,
    label: &str,
    reliable: bool,
    title: Option<&str>,
) -> Result<(), Error> {
    let old = self::label(d, table)?;
    d.rename_table(table, &mangle(&[label], None))?;
    let found = d.table(table)?;
    let id = found.column_named("id").map_or(0, |column| column.id);
    let key = found.unique_key(id).map(|key| key.name.clone());
    let is_unlogged = found.unlogged;
    d.rename_sequence(At { table, column: id }, &mangle(&[label], Some("seq")))?;
    if let Some(key) = key {
        d.rename_constraint(table, &key, &mangle(&[label], Some("uk")))?;
    }
    if is_unlogged == reliable {
        return Err(Error::with("Discovered table with mismatched reliability mode:", label));
    }
    remember(d, table, label, title)?;
    if old != label { rename_dependents(d, table, &old, label) } else { Ok(()) }
}

/// After a table has another label: what is named after it.
fn rename_dependents(
    d: &mut Deployer<'_>,
    table: TableId,
    old: &str,
    new: &str,
) -> Result<(), Error> {
    for (owner, column) in d.image()?.referring(table) {
        link::target_renamed(d, At { table: owner, column }, old, new)?;
    }
    for at in fields(d, table)? {
        if is_link(d, at)? {
            link::table_renamed(d, at, old, new)?;
        } else {
            column::table_renamed(d, at, new)?;
        }
    }
    identity::renamed(d, table)
}

fn erase(d: &mut Deployer<'_>, table: TableId) -> Result<(), Error> {
    for (owner, column) in d.image()?.referring(table) {
        identity::erase_field(d, At { table: owner, column })?;
    }
    let columns = d.table(table)?.columns.clone();
    let generator = identity::function(d, table)?;
    d.drop_table(table)?;
    for column in columns {
        if let Type::Enum(id) = column.ty {
            d.drop_enum(id)?;
        }
    }
    match generator {
        Some(function) => d.drop_function(&function),
        None => Ok(()),
    }
}

/// Moves a field behind those of these labels, if it stands before one of them.
pub(crate) fn move_after(d: &mut Deployer<'_>, at: At, after: &[String]) -> Result<(), Error> {
    let mut others = Vec::new();
    for label in after {
        let other = field(d, at.table, label)?;
        others.push(other.ok_or_else(|| Error::with("Discovered missing field:", label))?);
    }
    let columns = &d.table(at.table)?.columns;
    let position = |at: At| columns.iter().position(|column| column.id == at.column);
    let is_before = others.iter().any(|other| position(*other) > position(at));
    if is_before { d.move_last(at) } else { Ok(()) }
}
