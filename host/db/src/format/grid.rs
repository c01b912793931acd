//! Nested values as rows of cells: a record lays its fields side by side, a list its items one
//! below the other, and what is shorter leaves its cells empty.

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::literal::plain_text;
use rex_htsql::profile::Profile;

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

/// The lines of a value; at least one, except for an empty list.
pub(super) fn lines(domain: &Domain, value: &Value) -> Vec<Line> {
    match (domain, value) {
        (Domain::List(item), Value::List(values)) => {
            values.iter().flat_map(|value| lines(item, value)).collect()
        }
        (Domain::Record(fields), Value::Record(values)) => {
            let blocks: Vec<(usize, Vec<Line>)> = fields
                .iter()
                .zip(values)
                .map(|(field, value)| (width(&field.domain), lines(&field.domain, value)))
                .collect();
            let height = blocks.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0).max(1);
            (0..height)
                .map(|at| {
                    let mut line = Line::new();
                    for (width, block) in &blocks {
                        match block.get(at) {
                            Some(cells) => line.extend(cells.iter().cloned()),
                            None => line.extend(std::iter::repeat_n(None, *width)),
                        }
                    }
                    line
                })
                .collect()
        }
        (domain, Value::Null) => vec![vec![None; width(domain)]],
        (domain, value) => vec![vec![plain_text(domain, value)]],
    }
}
