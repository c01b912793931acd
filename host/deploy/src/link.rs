//! Links: columns with a foreign key, and an index or a unique key.

use rex_htsql::catalog::titled;
use rex_yaml::Error;

use crate::column::{create_unique_key, rename_unique_key};
use crate::comment::Comment;
use crate::data;
use crate::deployer::{At, Deployer};
use crate::fact::{LinkFact, LinkGoal};
use crate::image::{Action, Column, ForeignKey, Index, TableId};
use crate::name::{link_label, mangle};
use crate::table::Finding;
use crate::{column, identity, table};

/// The link of a label.
pub(crate) fn find(d: &mut Deployer<'_>, table: TableId, label: &str) -> Result<Option<At>, Error> {
    let owner = d.table(table)?;
    let column = owner.column_named(&mangle(&[label], Some("id")));
    let column = column.filter(|c| c.name != "id" && owner.link(c.id).is_some());
    Ok(column.map(|column| At { table, column: column.id }))
}

pub(crate) fn label_of(column: &Column) -> String {
    let comment = Comment::read(column.comment.as_deref());
    comment.label.unwrap_or_else(|| link_label(&column.name).to_owned())
}

/// The foreign key of a link.
fn foreign_key(d: &mut Deployer<'_>, at: At) -> Result<ForeignKey, Error> {
    let link = d.table(at.table)?.link(at.column).cloned();
    link.ok_or_else(|| Error::new("Discovered missing field"))
}

/// The table that a link leads to.
pub(crate) fn target(d: &mut Deployer<'_>, at: At) -> Result<TableId, Error> {
    Ok(foreign_key(d, at)?.target)
}

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &LinkFact) -> Result<(), Error> {
    let finding = Finding { find, find_other: column::find, other: "column" };
    let was = fact.goal.as_ref().map(|goal| goal.was.as_slice());
    let found = table::find_field(d, &finding, &fact.table, &fact.label, was)?;
    let Some((table, found)) = found else { return Ok(()) };
    let Some(goal) = &fact.goal else {
        return found.map_or(Ok(()), |at| identity::erase_field(d, at));
    };
    let target = table::need(d, &goal.target)?;
    let found = match found {
        Some(at) => Some(at),
        None => followed(d, table, &goal.was)?,
    };
    let at = match found {
        Some(at) => {
            modify(d, at, &fact.label, target, goal)?;
            at
        }
        None => build(d, table, &fact.label, target, goal)?,
    };
    table::move_after(d, at, &goal.after)
}

/// The link that had one of these labels until its target was renamed.
fn followed(d: &mut Deployer<'_>, table: TableId, was: &[String]) -> Result<Option<At>, Error> {
    let is_former =
        |(owner, label, _): &&(TableId, String, _)| *owner == table && was.contains(label);
    let Some((_, _, column)) = d.followed.iter().rev().find(is_former) else { return Ok(None) };
    let column = *column;
    Ok(d.table(table)?.link(column).is_some().then_some(At { table, column }))
}

/// A row could never be the first one of its table.
fn refuse_required_loop(
    table: TableId,
    label: &str,
    target: TableId,
    goal: &LinkGoal,
) -> Result<(), Error> {
    if table == target && goal.required {
        return Err(Error::with("Detected self-referential mandatory link:", label));
    }
    Ok(())
}

/// The default of a link: its identity as it is remembered, and the id it stands for.
fn default(
    d: &mut Deployer<'_>,
    target: TableId,
    goal: &LinkGoal,
) -> Result<(Option<String>, Option<String>), Error> {
    let Some(text) = &goal.default else { return Ok((None, None)) };
    let shown = format!("{}[{text}]", table::label(d, target)?);
    let ill_formed = || Error::with("Got ill-formed link value:", &shown);
    let (text, id) = match data::locate(d, target, text)? {
        data::Located::IllFormed => return Err(ill_formed()),
        data::Located::Missing => return Err(Error::with("Cannot find link:", &shown)),
        data::Located::Row { text, id } => (text, id),
    };
    Ok((Some(text), Some(id.to_string())))
}

fn build(
    d: &mut Deployer<'_>,
    table: TableId,
    label: &str,
    target: TableId,
    goal: &LinkGoal,
) -> Result<At, Error> {
    refuse_required_loop(table, label, target, goal)?;
    let owner = table::label(d, table)?;
    let (text, value) = default(d, target, goal)?;
    let found = d.table(target)?;
    let id = found.column_named("id").map(|column| (column.id, column.ty.clone()));
    let (id, ty) = id.ok_or_else(|| Error::with("Discovered missing table:", &goal.target))?;
    let name = mangle(&[label], Some("id"));
    let at = d.create_column(table, &name, ty, goal.required, value)?;
    let name = mangle(&[&owner, label], Some("fk"));
    d.create_link(
        table,
        ForeignKey {
            name: name.clone(),
            columns: vec![at.column],
            target,
            target_columns: vec![id],
            on_update: Action::Nothing,
            on_delete: Action::SetDefault,
            comment: None,
        },
    )?;
    if goal.unique {
        create_unique_key(d, at, &owner, label)?;
    } else {
        d.create_index(table, Index { name, columns: vec![at.column] })?;
    }
    remember(d, at, label, goal, text)?;
    Ok(at)
}

/// Notes in the comment what cannot be told from the column.
fn remember(
    d: &mut Deployer<'_>,
    at: At,
    label: &str,
    goal: &LinkGoal,
    default: Option<String>,
) -> Result<(), Error> {
    let old = Comment::read(d.column(at)?.comment.as_deref());
    let name = mangle(&[label], Some("id"));
    let new = Comment {
        label: Some(label.to_owned()).filter(|label| link_label(&name) != label),
        title: goal.title.clone().filter(|title| titled(label) != *title),
        default,
        ..old.clone()
    };
    if new != old { d.comment_column(at, new.write()) } else { Ok(()) }
}

fn modify(
    d: &mut Deployer<'_>,
    at: At,
    label: &str,
    target: TableId,
    goal: &LinkGoal,
) -> Result<(), Error> {
    let column = d.column(at)?.clone();
    let old_label = label_of(&column);
    if !goal.required {
        identity::field_becomes_optional(d, at)?;
    }
    if foreign_key(d, at)?.target != target {
        return Err(Error::with("Discovered link with mismatched target:", label));
    }
    refuse_required_loop(at.table, label, target, goal)?;
    let owner = table::label(d, at.table)?;
    d.rename_column(at, &mangle(&[label], Some("id")))?;
    rename_constraints(d, at, &owner, label)?;
    let (text, value) = default(d, target, goal)?;
    if text != Comment::read(column.comment.as_deref()).default {
        d.set_default(at, value)?;
    }
    d.set_not_null(at, goal.required)?;
    let index = index(d, at)?;
    let key = d.table(at.table)?.unique_key(at.column).map(|key| key.name.clone());
    if goal.unique {
        if let Some(index) = index {
            d.drop_index(at.table, &index)?;
        }
        if key.is_none() {
            create_unique_key(d, at, &owner, label)?;
        }
    } else {
        if let Some(key) = key {
            d.drop_constraint(at.table, &key)?;
        }
        if index.is_none() {
            let name = mangle(&[&owner, label], Some("fk"));
            d.create_index(at.table, Index { name, columns: vec![at.column] })?;
        }
    }
    remember(d, at, label, goal, text)?;
    if old_label != label && identity::has(d, at)? {
        identity::renamed(d, at.table)?;
    }
    Ok(())
}

/// The index of a link, which has the name of its foreign key.
fn index(d: &mut Deployer<'_>, at: At) -> Result<Option<String>, Error> {
    let name = foreign_key(d, at)?.name;
    let indexes = &d.table(at.table)?.indexes;
    Ok(indexes.iter().any(|index| index.name == name).then_some(name))
}

/// Gives everything that is named after table and link the name that it should have.
fn rename_constraints(d: &mut Deployer<'_>, at: At, table: &str, label: &str) -> Result<(), Error> {
    let (index, old) = (index(d, at)?, foreign_key(d, at)?.name);
    let name = mangle(&[table, label], Some("fk"));
    d.rename_constraint(at.table, &old, &name)?;
    if let Some(index) = index {
        d.rename_index(at.table, &index, &name)?;
    }
    rename_unique_key(d, at, table, label)
}

/// After the target has another label: a link that is called after it follows.
pub(crate) fn target_renamed(
    d: &mut Deployer<'_>,
    at: At,
    old: &str,
    new: &str,
) -> Result<(), Error> {
    let column = d.column(at)?.clone();
    if label_of(&column) != old {
        return Ok(());
    }
    d.followed.push((at.table, old.to_owned(), at.column));
    let comment = Comment::read(column.comment.as_deref());
    let owner = table::label(d, at.table)?;
    d.rename_column(at, &mangle(&[new], Some("id")))?;
    rename_constraints(d, at, &owner, new)?;
    let name = mangle(&[new], Some("id"));
    let label = Some(new.to_owned()).filter(|label| link_label(&name) != label);
    let title = comment.title.clone().filter(|title| titled(new) != *title);
    let updated = Comment { label, title, ..comment.clone() };
    if updated != comment {
        d.comment_column(at, updated.write())?;
    }
    if identity::has(d, at)? { identity::renamed(d, at.table) } else { Ok(()) }
}

/// After its own table has another label.
pub(crate) fn table_renamed(
    d: &mut Deployer<'_>,
    at: At,
    old: &str,
    new: &str,
) -> Result<(), Error> {
    if target(d, at)? == at.table {
        target_renamed(d, at, old, new)?;
    }
    let label = label_of(d.column(at)?);
    rename_constraints(d, at, new, &label)
}
