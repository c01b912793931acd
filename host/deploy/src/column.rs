//! Columns: made, renamed, converted, dropped, with their enumerations and unique keys.

use rex_htsql::catalog::titled;
use rex_yaml::Error;

use crate::column_type::ColumnType;
use crate::comment::Comment;
use crate::deployer::{At, Deployer};
use crate::fact::{ColumnFact, ColumnGoal};
use crate::image::{Column, Image, Key, TableId, Type};
use crate::name::mangle;
use crate::sql;
use crate::table::Finding;
use crate::{identity, link, table};

/// The column of a label; links are no columns.
pub(crate) fn find(d: &mut Deployer<'_>, table: TableId, label: &str) -> Result<Option<At>, Error> {
    let owner = d.table(table)?;
    let column = owner.column_named(&mangle(&[label], None));
    let column = column.filter(|c| c.name != "id" && owner.link(c.id).is_none());
    Ok(column.map(|column| At { table, column: column.id }))
}

pub(crate) fn label_of(column: &Column) -> String {
    let comment = Comment::read(column.comment.as_deref());
    comment.label.unwrap_or_else(|| column.name.clone())
}

/// The type of a column; `None` for one that facts do not know.
pub(crate) fn type_of(image: &Image, ty: &Type) -> Option<ColumnType> {
    match ty {
        Type::Enum(id) => image.enums.get(id).map(|found| ColumnType::Enum(found.labels.clone())),
        Type::System(name) => ColumnType::of_sql(name),
        Type::Other(_) => None,
    }
}

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &ColumnFact) -> Result<(), Error> {
    let finding = Finding { find, find_other: link::find, other: "link" };
    let was = fact.goal.as_ref().map(|goal| goal.was.as_slice());
    let found = table::find_field(d, &finding, &fact.table, &fact.label, was)?;
    let Some((table, found)) = found else { return Ok(()) };
    let Some(goal) = &fact.goal else {
        return found.map_or(Ok(()), |at| erase(d, at));
    };
    let at = match found {
        Some(at) => {
            modify(d, at, &fact.label, goal)?;
            at
        }
        None => build(d, table, &fact.label, goal)?,
    };
    table::move_after(d, at, &goal.after)
}

fn build(
    d: &mut Deployer<'_>,
    table: TableId,
    label: &str,
    goal: &ColumnGoal,
) -> Result<At, Error> {
    let owner = table::label(d, table)?;
    let ty = match &goal.ty {
        ColumnType::Enum(labels) => {
            Type::Enum(d.create_enum(&mangle(&[&owner, label], Some("enum")), labels)?)
        }
        ColumnType::Plain(plain) => Type::System(plain.sql.to_owned()),
    };
    let default = goal.default.as_ref().map(|text| goal.ty.default_sql(text));
    let at = d.create_column(table, &mangle(&[label], None), ty, goal.required, default)?;
    if goal.unique {
        create_unique_key(d, at, &owner, label)?;
    }
    remember(d, at, label, goal)?;
    Ok(at)
}

/// The UNIQUE constraint on a column or a link.
pub(crate) fn create_unique_key(
    d: &mut Deployer<'_>,
    at: At,
    table: &str,
    label: &str,
) -> Result<(), Error> {
    let name = mangle(&[table, label], Some("uk"));
    let key = Key { name, columns: vec![at.column], primary: false, comment: None };
    d.create_key(at.table, key)
}

/// Gives the UNIQUE constraint on a column or a link the name that it should have.
pub(crate) fn rename_unique_key(
    d: &mut Deployer<'_>,
    at: At,
    table: &str,
    label: &str,
) -> Result<(), Error> {
    let key = d.table(at.table)?.unique_key(at.column).map(|key| key.name.clone());
    match key {
        Some(key) => d.rename_constraint(at.table, &key, &mangle(&[table, label], Some("uk"))),
        None => Ok(()),
    }
}

fn rename_enum(d: &mut Deployer<'_>, at: At, table: &str, label: &str) -> Result<(), Error> {
    match d.column(at)?.ty {
        Type::Enum(id) => d.rename_enum(id, &mangle(&[table, label], Some("enum"))),
        _ => Ok(()),
    }
}

/// Notes in the comment what cannot be told from the column.
fn remember(d: &mut Deployer<'_>, at: At, label: &str, goal: &ColumnGoal) -> Result<(), Error> {
    let old = Comment::read(d.column(at)?.comment.as_deref());
    let new = Comment {
        label: Some(label.to_owned()).filter(|label| mangle(&[label], None) != *label),
        title: goal.title.clone().filter(|title| titled(label) != *title),
        default: goal.default.clone(),
        ..old.clone()
    };
    if new != old { d.comment_column(at, new.write()) } else { Ok(()) }
}

fn modify(d: &mut Deployer<'_>, at: At, label: &str, goal: &ColumnGoal) -> Result<(), Error> {
    let owner = table::label(d, at.table)?;
    let column = d.column(at)?.clone();
    let comment = Comment::read(column.comment.as_deref());
    let (old_label, old_default) = (label_of(&column), comment.default);
    let old_type = type_of(d.image()?, &column.ty);
    let unrecognized = || Error::with("Discovered column of unrecognized type:", &old_label);
    let old_type = old_type.ok_or_else(unrecognized)?;
    if !goal.required {
        identity::field_becomes_optional(d, at)?;
    }
    d.rename_column(at, &mangle(&[label], None))?;
    rename_enum(d, at, &owner, label)?;
    rename_unique_key(d, at, &owner, label)?;
    let is_converted = goal.ty != old_type;
    if is_converted {
        convert(d, at, &owner, label, &old_type, goal)?;
    } else if goal.default != old_default {
        let default = goal.default.as_ref().map(|text| goal.ty.default_sql(text));
        d.set_default(at, default)?;
    }
    d.set_not_null(at, goal.required)?;
    let key = d.table(at.table)?.unique_key(at.column).map(|key| key.name.clone());
    match key {
        None if goal.unique => create_unique_key(d, at, &owner, label)?,
        Some(key) if !goal.unique => d.drop_constraint(at.table, &key)?,
        _ => {}
    }
    remember(d, at, label, goal)?;
    if old_label != label && identity::has(d, at)? {
        identity::renamed(d, at.table)?;
    }
    if is_converted { identity::field_converted(d, at) } else { Ok(()) }
}

/// Changes the type of a column, and its values with it.
fn convert(
    d: &mut Deployer<'_>,
    at: At,
    owner: &str,
    label: &str,
    old: &ColumnType,
    goal: &ColumnGoal,
) -> Result<(), Error> {
    if !old.casts_to(&goal.ty) {
        let (from, to) = (old.title(), goal.ty.title());
        let message = format!("Cannot convert column of type {from} to {to}:");
        return Err(Error::with(message, label));
    }
    d.set_default(at, None)?;
    let column = sql::name(&d.column(at)?.name);
    let old_enum = match d.column(at)?.ty {
        Type::Enum(id) => Some(id),
        _ => None,
    };
    let enum_name = mangle(&[owner, label], Some("enum"));
    match (&goal.ty, old_enum) {
        (ColumnType::Plain(plain), _) => {
            let using = format!("{column}::{}", sql::name(plain.sql));
            d.set_type(at, Type::System(plain.sql.to_owned()), &using)?;
            if let Some(id) = old_enum {
                d.drop_enum(id)?;
            }
        }
        (ColumnType::Enum(labels), None) => {
            let ty = Type::Enum(d.create_enum(&enum_name, labels)?);
            let using = format!("{column}::{}", sql::name(&enum_name));
            d.set_type(at, ty, &using)?;
        }
        (ColumnType::Enum(labels), Some(id)) => {
            let new = d.create_enum("?", labels)?;
            let using = format!("{column}::\"text\"::{}", sql::name("?"));
            d.set_type(at, Type::Enum(new), &using)?;
            d.drop_enum(id)?;
            d.rename_enum(new, &enum_name)?;
        }
    }
    let default = goal.default.as_ref().map(|text| goal.ty.default_sql(text));
    d.set_default(at, default)
}

/// After the table has another label: what is named after both.
pub(crate) fn table_renamed(d: &mut Deployer<'_>, at: At, table: &str) -> Result<(), Error> {
    let label = label_of(d.column(at)?);
    rename_enum(d, at, table, &label)?;
    rename_unique_key(d, at, table, &label)
}

fn erase(d: &mut Deployer<'_>, at: At) -> Result<(), Error> {
    let ty = d.column(at)?.ty.clone();
    identity::erase_field(d, at)?;
    match ty {
        Type::Enum(id) => d.drop_enum(id),
        _ => Ok(()),
    }
}
