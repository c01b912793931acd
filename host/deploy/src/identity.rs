//! Identities: primary keys, and the triggers that fill fields that are left out.

use rex_yaml::Error;

use crate::comment::Comment;
use crate::deployer::{At, Deployer};
use crate::fact::{Generator, IdentityFact};
use crate::image::{Action, Key, TableId, Type};
use crate::name::mangle;
use crate::sql;
use crate::{column, generator, link, table};

pub(crate) fn deploy(d: &mut Deployer<'_>, fact: &IdentityFact) -> Result<(), Error> {
    let table = table::need(d, &fact.table)?;
    let (mut fields, mut generators) = (Vec::new(), Vec::new());
    for (label, generator) in &fact.fields {
        let field = table::field(d, table, label)?;
        fields.push(field.ok_or_else(|| Error::with("Discovered missing field:", label))?);
        generators.push(*generator);
    }
    match fields_of(d, table)? {
        Some(old) => modify(d, table, &old, &fields, &generators),
        None => build(d, table, &fields, &generators),
    }
}

/// The fields of a table's identity, if it has one.
pub(crate) fn fields_of(d: &mut Deployer<'_>, table: TableId) -> Result<Option<Vec<At>>, Error> {
    let key = d.table(table)?.primary_key();
    let columns = key.map(|key| key.columns.clone());
    Ok(columns.map(|ids| ids.into_iter().map(|column| At { table, column }).collect()))
}

/// Whether a field belongs to the identity of its table.
pub(crate) fn has(d: &mut Deployer<'_>, at: At) -> Result<bool, Error> {
    Ok(fields_of(d, at.table)?.is_some_and(|fields| fields.contains(&at)))
}

fn label(d: &mut Deployer<'_>, at: At) -> Result<String, Error> {
    let is_link = table::is_link(d, at)?;
    let column = d.column(at)?;
    Ok(if is_link { link::label_of(column) } else { column::label_of(column) })
}

/// The name of the primary key, which the trigger and its function have too.
fn key_name(d: &mut Deployer<'_>, table: TableId) -> Result<Option<String>, Error> {
    Ok(d.table(table)?.primary_key().map(|key| key.name.clone()))
}

/// The function of the trigger that fills the identity.
pub(crate) fn function(d: &mut Deployer<'_>, table: TableId) -> Result<Option<String>, Error> {
    let Some(name) = key_name(d, table)? else { return Ok(None) };
    Ok(d.table(table)?.trigger(&name).map(|trigger| trigger.function.clone()))
}

fn generators(d: &mut Deployer<'_>, table: TableId) -> Result<Vec<Option<Generator>>, Error> {
    let Some(key) = d.table(table)?.primary_key() else { return Ok(Vec::new()) };
    let named = Comment::read(key.comment.as_deref()).generators.unwrap_or_default();
    let named = named.into_iter().map(|name| name.as_deref().and_then(Generator::named));
    Ok(named.chain(std::iter::repeat(None)).take(key.columns.len()).collect())
}

fn build(
    d: &mut Deployer<'_>,
    table: TableId,
    fields: &[At],
    generators: &[Option<Generator>],
) -> Result<(), Error> {
    create_key(d, table, fields)?;
    let label = table::label(d, table)?;
    let name = mangle(&[&label], Some("pk"));
    if let Some(source) = source(d, table, generators)? {
        d.write_function(&name, &source)?;
        d.create_trigger(table, &name)?;
    }
    remember(d, table, generators)
}

/// Makes the primary key. A row goes with those that it is identified by.
fn create_key(d: &mut Deployer<'_>, table: TableId, fields: &[At]) -> Result<(), Error> {
    for field in fields {
        if !d.column(*field)?.not_null {
            return Err(Error::with("Discovered nullable field:", label(d, *field)?));
        }
    }
    for field in fields {
        if table::is_link(d, *field)? {
            refuse_loop(d, &mut vec![*field])?;
        }
    }
    if let Some(old) = key_name(d, table)? {
        d.drop_constraint(table, &old)?;
    }
    let name = mangle(&[&table::label(d, table)?], Some("pk"));
    let columns = fields.iter().map(|field| field.column).collect();
    d.create_key(table, Key { name, columns, primary: true, comment: None })?;
    fields.iter().try_for_each(|field| d.set_on_delete(*field, Action::Cascade))
}

/// No row can be identified by itself: follows the links of identities.
fn refuse_loop(d: &mut Deployer<'_>, links: &mut Vec<At>) -> Result<(), Error> {
    let Some(last) = links.last().copied() else { return Ok(()) };
    let target = link::target(d, last)?;
    if links.iter().any(|link| link.table == target) {
        let mut labels = Vec::new();
        for link in links.iter() {
            labels.push(label(d, *link)?);
        }
        return Err(Error::with("Discovered identity loop:", labels.join(".")));
    }
    for field in fields_of(d, target)?.unwrap_or_default() {
        if table::is_link(d, field)? {
            links.push(field);
            refuse_loop(d, links)?;
            links.pop();
        }
    }
    Ok(())
}

fn remember(
    d: &mut Deployer<'_>,
    table: TableId,
    generators: &[Option<Generator>],
) -> Result<(), Error> {
    let Some(key) = d.table(table)?.primary_key().cloned() else { return Ok(()) };
    let old = Comment::read(key.comment.as_deref());
    let names: Vec<Option<String>> =
        generators.iter().map(|generator| generator.map(|g| g.name().to_owned())).collect();
    let is_generated = names.iter().any(Option::is_some);
    let new = Comment { generators: is_generated.then_some(names), ..old.clone() };
    if new != old { d.comment_key(table, &key.name, new.write()) } else { Ok(()) }
}

fn modify(
    d: &mut Deployer<'_>,
    table: TableId,
    old: &[At],
    fields: &[At],
    generators: &[Option<Generator>],
) -> Result<(), Error> {
    // The trigger is found by the name of the key.
    let (key, mut function) = (key_name(d, table)?, function(d, table)?);
    if old != fields {
        for field in old.iter().filter(|field| !fields.contains(field)) {
            d.set_on_delete(*field, Action::SetDefault)?;
        }
        create_key(d, table, fields)?;
    }
    let name = mangle(&[&table::label(d, table)?], Some("pk"));
    match source(d, table, generators)? {
        Some(source) => {
            let target = function.take().unwrap_or_else(|| name.clone());
            d.write_function(&target, &source)?;
            if d.table(table)?.trigger(&name).is_none() {
                d.create_trigger(table, &name)?;
            }
        }
        None => {
            if let (Some(key), Some(function)) = (key, function) {
                d.drop_trigger(table, &key)?;
                d.drop_function(&function)?;
            }
        }
    }
    remember(d, table, generators)
}

/// Before a field may be left empty: a table whose identity it belongs to has none any more.
pub(crate) fn field_becomes_optional(d: &mut Deployer<'_>, at: At) -> Result<(), Error> {
    if !has(d, at)? {
        return Ok(());
    }
    let (key, generator) = (key_name(d, at.table)?, function(d, at.table)?);
    let fields = fields_of(d, at.table)?.unwrap_or_default();
    if let Some(key) = key {
        d.drop_constraint(at.table, &key)?;
    }
    if let Some(function) = generator {
        drop_generator(d, at.table, &function)?;
    }
    fields.iter().try_for_each(|field| d.set_on_delete(*field, Action::SetDefault))
}

/// Drops a field's column; a table whose identity it belongs to has none any more.
pub(crate) fn erase_field(d: &mut Deployer<'_>, at: At) -> Result<(), Error> {
    if !has(d, at)? {
        return d.drop_column(at);
    }
    let generator = function(d, at.table)?;
    let fields = fields_of(d, at.table)?.unwrap_or_default();
    for other in fields.into_iter().filter(|field| *field != at) {
        d.set_on_delete(other, Action::SetDefault)?;
    }
    d.drop_column(at)?;
    generator.map_or(Ok(()), |function| drop_generator(d, at.table, &function))
}

/// After a field has another type: its values are not generated any more.
pub(crate) fn field_converted(d: &mut Deployer<'_>, at: At) -> Result<(), Error> {
    let Some(fields) = fields_of(d, at.table)? else { return Ok(()) };
    let generators = generators(d, at.table)?;
    let is_generated = fields
        .iter()
        .zip(&generators)
        .any(|(field, generator)| *field == at && generator.is_some());
    if !is_generated {
        return Ok(());
    }
    modify(d, at.table, &fields, &fields, &vec![None; fields.len()])
}

/// Drops the trigger and its function, which have one name.
pub(crate) fn drop_generator(
    d: &mut Deployer<'_>,
    table: TableId,
    function: &str,
) -> Result<(), Error> {
    d.drop_trigger(table, function)?;
    d.drop_function(function)
}

/// After the table or a field has another label.
pub(crate) fn renamed(d: &mut Deployer<'_>, table: TableId) -> Result<(), Error> {
    let (Some(old), function) = (key_name(d, table)?, function(d, table)?) else { return Ok(()) };
    let name = mangle(&[&table::label(d, table)?], Some("pk"));
    d.rename_constraint(table, &old, &name)?;
    let Some(function) = function else { return Ok(()) };
    d.rename_function(&function, &name)?;
    d.rename_trigger(table, &old, &name)?;
    let generators = generators(d, table)?;
    match source(d, table, &generators)? {
        Some(source) => d.write_function(&name, &source),
        None => Ok(()),
    }
}

/// The body of the trigger function; `None` where nothing is generated.
fn source(
    d: &mut Deployer<'_>,
    table: TableId,
    generators: &[Option<Generator>],
) -> Result<Option<String>, Error> {
    let fields = fields_of(d, table)?.unwrap_or_default();
    let (mut lines, mut basis) = (Vec::new(), Vec::new());
    let table_name = sql::name(&d.table(table)?.name);
    for (field, generator) in fields.iter().zip(generators) {
        let is_link = table::is_link(d, *field)?;
        let column = d.column(*field)?;
        let name = sql::name(&column.name);
        let kind = match &column.ty {
            Type::System(ty) if !is_link && ty == "int8" => Kind::Integer,
            Type::System(ty) if !is_link && ty == "text" => Kind::Text,
            _ => Kind::Other,
        };
        if let Some(generator) = generator {
            let part = match (generator, kind) {
                (Generator::Offset, Kind::Integer) => {
                    generator::integer_offset(&table_name, &name, &basis)
                }
                (Generator::Offset, Kind::Text) => {
                    generator::text_offset(&table_name, &name, &basis)
                }
                (Generator::Random, Kind::Integer) => generator::integer_random(&table_name, &name),
                (Generator::Random, Kind::Text) => generator::text_random(&table_name, &name),
                (Generator::Uuid, Kind::Text) => generator::text_uuid(&name),
                (Generator::Uuid, _) => {
                    return Err(Error::with("Expected a text column:", &column.name));
                }
                (_, Kind::Other) => {
                    return Err(Error::with("Expected an integer or text column:", &column.name));
                }
            };
            lines.extend(part.lines().map(|line| format!("    {line}\n")));
        }
        basis.push(name);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!("\nBEGIN\n{}    RETURN NEW;\nEND;\n", lines.concat())))
}

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Text,
    Other,
}
