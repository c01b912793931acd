//! Nested values as rows of cells: a record lays its fields side by side, a list its items one
//! below the other, and what is shorter leaves its cells empty.

use std::io;

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::literal::plain_text;
use rex_htsql::profile::Profile;

use crate::item::{Item, Items, More, Parts};

/// A leaf column of a product.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// Headers from the outermost nested record to the leaf.
    pub(super) path: Vec<String>,
    /// Numbers stand to the right.
    pub(super) is_number: bool,
}

/// A row of cells; `None` for an empty place or NULL.
pub(super) type Line = Vec<Option<String>>;

/// The leaf columns of a product's items.
pub(super) fn columns(profile: &Profile) -> Vec<Column> {
    let mut found = Vec::new();
    let item = item_domain(&profile.domain);
    match item {
        Domain::Record(fields) => {
            fields.iter().for_each(|field| collect(field, &mut Vec::new(), &mut found));
        }
        scalar => found.push(Column {
            path: vec![profile.header.clone().unwrap_or_default()],
            is_number: is_number(scalar),
        }),
    }
    found
}

/// The domain of the items of a list, or the domain itself.
pub(super) fn item_domain(domain: &Domain) -> &Domain {
    match domain {
        Domain::List(item) => item,
        other => other,
    }
}

fn collect(field: &Profile, path: &mut Vec<String>, found: &mut Vec<Column>) {
    path.push(field.header.clone().unwrap_or_default());
    match item_domain(&field.domain) {
        Domain::Record(fields) => fields.iter().for_each(|field| collect(field, path, found)),
        leaf => found.push(Column { path: path.clone(), is_number: is_number(leaf) }),
    }
    path.pop();
}

fn is_number(domain: &Domain) -> bool {
    matches!(domain, Domain::Integer | Domain::Decimal | Domain::Float)
}

/// Number of leaf columns of a domain.
fn width(domain: &Domain) -> usize {
    match domain {
        Domain::List(item) => width(item),
        Domain::Record(fields) => fields.iter().map(|field| width(&field.domain)).sum(),
        _ => 1,
    }
}

/// The lines of a value, one after the other; at least one, except for an empty list.
pub(super) enum Lines<'d> {
    /// The one line of a value without lists.
    One(Option<Line>),
    Record {
        started: bool,
        /// The fields side by side, each with its number of columns.
        blocks: Vec<(usize, Lines<'d>)>,
    },
    List {
        item: &'d Domain,
        items: Items,
        current: Option<Box<Lines<'d>>>,
    },
}

impl<'d> Lines<'d> {
    pub(super) fn new(domain: &'d Domain, item: Item) -> Lines<'d> {
        if let Item::Whole(value) = &item
            && (*value == Value::Null || !has_list(domain))
        {
            let mut line = Line::new();
            add_cells(domain, value, &mut line);
            return Lines::One(Some(line));
        }
        match (domain, item.parts()) {
            (Domain::List(item), Parts::List(items)) => Lines::List { item, items, current: None },
            (Domain::Record(fields), Parts::Record(values)) => {
                let block = |(field, value): (&'d Profile, Item)| {
                    (width(&field.domain), Lines::new(&field.domain, value))
                };
                let blocks = fields.iter().zip(values).map(block).collect();
                Lines::Record { started: false, blocks }
            }
            (domain, _) => Lines::One(Some(vec![None; width(domain)])),
        }
    }

    pub(super) fn next(&mut self, more: &mut More<'_>) -> io::Result<Option<Line>> {
        match self {
            Lines::One(line) => Ok(line.take()),
            Lines::Record { started, blocks } => {
                let mut line = Line::new();
                let mut ended = std::mem::replace(started, true);
                for (width, block) in blocks {
                    match block.next(more)? {
                        Some(cells) => {
                            ended = false;
                            line.extend(cells);
                        }
                        None => line.extend(std::iter::repeat_n(None, *width)),
                    }
                }
                Ok(if ended { None } else { Some(line) })
            }
            Lines::List { item, items, current } => loop {
                if let Some(lines) = current
                    && let Some(line) = lines.next(more)?
                {
                    return Ok(Some(line));
                }
                let Some(next) = items.next(more)? else {
                    *current = None;
                    return Ok(None);
                };
                *current = Some(Box::new(Lines::new(item, next)));
            },
        }
    }
}

fn has_list(domain: &Domain) -> bool {
    match domain {
        Domain::List(_) => true,
        Domain::Record(fields) => fields.iter().any(|field| has_list(&field.domain)),
        _ => false,
    }
}

/// The cells of a value without lists.
fn add_cells(domain: &Domain, value: &Value, line: &mut Line) {
    match (domain, value) {
        (Domain::Record(fields), Value::Record(values)) => {
            for (field, value) in fields.iter().zip(values) {
                add_cells(&field.domain, value, line);
            }
        }
        (domain, Value::Null) => line.extend(std::iter::repeat_n(None, width(domain))),
        (domain, value) => line.push(plain_text(domain, value)),
    }
}
