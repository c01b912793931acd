//! JSON: `json` has records as objects by tag, without their NULLs; `raw` has them as arrays,
//! with the profile beside.

use std::io::{self, Write};
use std::sync::Arc;

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::json::pretty;
use rex_htsql::literal::plain_text;
use rex_htsql::profile::Profile;

use super::{Formatter, grid};
use crate::encode::{profile_json, write_item};
use crate::item::{Item, More, Parts};

/// The data within the object that an answer is: one value, or the items of a list.
#[derive(Default)]
struct Data {
    domain: Option<Arc<Domain>>,
    is_list: bool,
    n_items: usize,
}

impl Data {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, is_list: bool) -> io::Result<()> {
        let domain = if is_list { grid::item_domain(&profile.domain) } else { &profile.domain };
        self.domain = Some(Arc::new(domain.clone()));
        self.is_list = is_list;
        if is_list { out.write_all(b"[") } else { Ok(()) }
    }

    /// Goes on to the next value; its domain.
    fn next(&mut self, out: &mut dyn Write) -> io::Result<Option<Arc<Domain>>> {
        if self.is_list && self.domain.is_some() {
            out.write_all(if self.n_items == 0 { b"\n    " } else { b",\n    " })?;
        }
        self.n_items += 1;
        Ok(self.domain.clone())
    }

    fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_list {
            out.write_all(if self.n_items == 0 { b"]" } else { b"\n  ]" })?;
        }
        out.write_all(b"\n}\n")
    }
}

/// Records as objects, indented by two.
#[derive(Default)]
pub(super) struct Tagged {
    data: Data,
}

impl Formatter for Tagged {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, is_list: bool) -> io::Result<()> {
        let name = profile.tag.as_deref().unwrap_or("0");
        write!(out, "{{\n  {}: ", string(name))?;
        self.data.begin(out, profile, is_list)
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        let Some(domain) = self.data.next(out)? else { return Ok(()) };
        write(out, &domain, item, if self.data.is_list { 4 } else { 2 }, more)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.data.end(out)
    }
}

/// The names of a record's fields: the tag, where no earlier field has it, else the position.
fn names(fields: &[Profile]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let tag = field.tag.as_ref().filter(|tag| !names.contains(*tag));
        names.push(tag.cloned().unwrap_or_else(|| at.to_string()));
    }
    names
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(
    out: &mut dyn Write,
    domain: &Domain,
    item: Item,
    indent: usize,
    more: &mut More<'_>,
) -> io::Result<()> {
    let pad = " ".repeat(indent + 2);
    let close = " ".repeat(indent);
    match (domain, item.parts()) {
        (Domain::Record(fields), Parts::Record(values)) => {
            let mut first = true;
            for ((name, field), value) in names(fields).iter().zip(fields.iter()).zip(values) {
                if matches!(value, Item::Whole(Value::Null)) {
                    continue;
                }
                write!(out, "{}\n{pad}{}: ", if first { "{" } else { "," }, string(name))?;
                first = false;
                write(out, &field.domain, value, indent + 2, more)?;
            }
            if first { out.write_all(b"{}") } else { write!(out, "\n{close}}}") }
        }
        (Domain::List(item), Parts::List(mut items)) => {
            let mut first = true;
            while let Some(value) = items.next(more)? {
                write!(out, "{}\n{pad}", if first { "[" } else { "," })?;
                first = false;
                write(out, item, value, indent + 2, more)?;
            }
            if first { out.write_all(b"[]") } else { write!(out, "\n{close}]") }
        }
        (domain, Parts::Scalar(value)) => write_scalar(out, domain, &value, indent),
        // No domain is at odds with its values.
        (_, Parts::Record(_) | Parts::List(_)) => out.write_all(b"null"),
    }
}

fn write_scalar(
    out: &mut dyn Write,
    domain: &Domain,
    value: &Value,
    indent: usize,
) -> io::Result<()> {
    let text = || plain_text(domain, value).unwrap_or_default();
    match (domain, value) {
        (_, Value::Null) => out.write_all(b"null"),
        (_, Value::Boolean(_) | Value::Integer(_)) | (Domain::Decimal, Value::Decimal(_)) => {
            let text = text();
            let finite =
                !text.ends_with(|c: char| c.is_alphabetic()) || text.starts_with(['t', 'f']);
            out.write_all(if finite { text.as_bytes() } else { b"null" })
        }
        (_, Value::Float(x)) if x.is_finite() => out.write_all(text().as_bytes()),
        (_, Value::Float(_)) => out.write_all(b"null"),
        (_, Value::Json(document)) => out.write_all(pretty(document, indent).as_bytes()),
        _ => out.write_all(string(&text()).as_bytes()),
    }
}

/// The profile and the data as arrays, on one line an item.
#[derive(Default)]
pub(super) struct Raw {
    data: Data,
}

impl Formatter for Raw {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, is_list: bool) -> io::Result<()> {
        write!(out, "{{\n  \"meta\": {},\n  \"data\": ", profile_json(profile))?;
        self.data.begin(out, profile, is_list)
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        let Some(domain) = self.data.next(out)? else { return Ok(()) };
        write_item(out, &domain, item, more)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.data.end(out)
    }
}
