//! HTML and XML.

use std::io::{self, Write};

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::literal::plain_text;
use rex_htsql::profile::Profile;

use super::{Formatter, grid};
use crate::item::{Item, More, Parts};

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One table with a header row.
#[derive(Default)]
pub(super) struct Html {
    domain: Option<Domain>,
}

impl Formatter for Html {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, _is_list: bool) -> io::Result<()> {
        self.domain = Some(grid::item_domain(&profile.domain).clone());
        let title = escape(profile.header.as_deref().unwrap_or_default());
        writeln!(out, "<!DOCTYPE html>\n<html>\n<head><meta charset=\"UTF-8\">")?;
        writeln!(out, "<title>{title}</title></head>\n<body>\n<table>")?;
        writeln!(out, "<caption>{title}</caption>\n<thead><tr>")?;
        for column in grid::columns(profile) {
            writeln!(out, "<th>{}</th>", escape(&column.path.join(" / ")))?;
        }
        writeln!(out, "</tr></thead>\n<tbody>")
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        let Some(domain) = &self.domain else { return Ok(()) };
        let mut lines = grid::Lines::new(domain, item);
        while let Some(line) = lines.next(more)? {
            out.write_all(b"<tr>")?;
            for cell in line {
                write!(out, "<td>{}</td>", escape(&cell.unwrap_or_default()))?;
            }
            out.write_all(b"</tr>\n")?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"</tbody>\n</table>\n</body>\n</html>\n")
    }
}

/// An element for each record and each field, named by its tag; NULLs are left out.
#[derive(Default)]
pub(super) struct Xml {
    domain: Option<Domain>,
    name: String,
}

impl Formatter for Xml {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, _is_list: bool) -> io::Result<()> {
        self.domain = Some(grid::item_domain(&profile.domain).clone());
        self.name = element(profile.tag.as_deref(), 0);
        out.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<htsql:result xmlns:htsql=\"http://htsql.org/2010/xml\">\n")
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        let Some(domain) = &self.domain else { return Ok(()) };
        xml(out, &self.name, domain, item, 2, more)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"</htsql:result>\n")
    }
}

fn element(tag: Option<&str>, position: usize) -> String {
    match tag {
        Some(tag) if tag.starts_with(|c: char| c.is_alphabetic() || c == '_') => tag.to_string(),
        _ => format!("_{}", position + 1),
    }
}

fn xml(
    out: &mut dyn Write,
    name: &str,
    domain: &Domain,
    item: Item,
    indent: usize,
    more: &mut More<'_>,
) -> io::Result<()> {
    let pad = " ".repeat(indent);
    match (domain, item.parts()) {
        (_, Parts::Scalar(Value::Null)) => Ok(()),
        (Domain::List(item), Parts::List(mut items)) => {
            while let Some(value) = items.next(more)? {
                xml(out, name, item, value, indent, more)?;
            }
            Ok(())
        }
        (Domain::Record(fields), Parts::Record(values)) => {
            writeln!(out, "{pad}<{name}>")?;
            for (at, (field, value)) in fields.iter().zip(values).enumerate() {
                let name = element(field.tag.as_deref(), at);
                xml(out, &name, &field.domain, value, indent + 2, more)?;
            }
            writeln!(out, "{pad}</{name}>")
        }
        (domain, Parts::Scalar(value)) => {
            let text = xml_text(&plain_text(domain, &value).unwrap_or_default());
            writeln!(out, "{pad}<{name}>{text}</{name}>")
        }
        // No domain is at odds with its values.
        (_, Parts::Record(_) | Parts::List(_)) => Ok(()),
    }
}

/// A text as XML 1.0 can hold it: U+FFFD stands for a character that it has no way to write. A
/// carriage return would be read as a line's end.
fn xml_text(text: &str) -> String {
    let known = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        c => !matches!(c, '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}'),
    };
    let known = text.chars().map(|c| if known(c) { c } else { '\u{fffd}' }).collect::<String>();
    escape(&known).replace('\r', "&#13;")
}
