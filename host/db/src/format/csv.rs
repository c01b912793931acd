//! Comma or tab separated values: a header line, lines end in CR LF, cells are quoted where they
//! must be.

use std::io::{self, Write};

use rex_htsql::domain::Domain;
use rex_htsql::profile::Profile;

use super::{Formatter, grid};
use crate::item::{Item, More};

pub(super) struct Separated {
    separator: u8,
    domain: Domain,
}

impl Separated {
    pub(super) fn new(separator: u8) -> Separated {
        Separated { separator, domain: Domain::Void }
    }

    fn line<'a>(
        &self,
        out: &mut dyn Write,
        cells: impl ExactSizeIterator<Item = &'a str>,
    ) -> io::Result<()> {
        let alone = cells.len() == 1;
        for (at, cell) in cells.enumerate() {
            if at > 0 {
                out.write_all(&[self.separator])?;
            }
            let special =
                |byte: &u8| matches!(byte, b'"' | b'\r' | b'\n') || *byte == self.separator;
            // An empty line would be no record at all.
            if cell.as_bytes().iter().any(special) || (alone && cell.is_empty()) {
                write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
            } else {
                out.write_all(cell.as_bytes())?;
            }
        }
        out.write_all(b"\r\n")
    }
}

impl Formatter for Separated {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, _is_list: bool) -> io::Result<()> {
        self.domain = grid::item_domain(&profile.domain).clone();
        if self.domain == Domain::Void {
            return Ok(());
        }
        let columns = grid::columns(profile);
        let header = |column: &grid::Column| column.path.last().cloned().unwrap_or_default();
        let headers: Vec<String> = columns.iter().map(header).collect();
        self.line(out, headers.iter().map(String::as_str))
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        if self.domain == Domain::Void {
            return Ok(());
        }
        let mut lines = grid::Lines::new(&self.domain, item);
        while let Some(line) = lines.next(more)? {
            self.line(out, line.iter().map(|cell| cell.as_deref().unwrap_or_default()))?;
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
