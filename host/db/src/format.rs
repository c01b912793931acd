//! Answers as text: one writer a format, all fed item by item.
//!
//! | module | writes |
//! |---|---|
//! | `grid` | nested values laid out as rows of cells, for `table`, `csv` and `markup` |
//! | `table` | a text table, fitted to a width |
//! | `csv` | comma or tab separated values |
//! | `json` | JSON by tags, and `raw` JSON with the profile |
//! | `markup` | HTML and XML |

mod csv;
mod grid;
mod json;
mod markup;
mod table;

use std::io::{self, Write};

use rex_htsql::plan::Format;
use rex_htsql::profile::Profile;

use crate::item::{Item, More};
use crate::session::Sink;

/// One output format at work: `begin`, any number of items, `end`.
trait Formatter {
    fn begin(&mut self, out: &mut dyn Write, profile: &Profile, is_list: bool) -> io::Result<()>;
    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Writes an answer in a format; a format command in the query wins over the caller's choice.
pub struct Printer<W: Write> {
    out: W,
    width: Option<usize>,
    format: Format,
    formatter: Option<Box<dyn Formatter>>,
}

impl<W: Write> Printer<W> {
    /// `width`: columns that a text table may take; `None` for as many as it needs.
    pub fn new(format: Format, width: Option<usize>, out: W) -> Printer<W> {
        Printer { out, width, format, formatter: None }
    }

    /// Writes what comes after the last item, and gives the output back.
    ///
    /// # Errors
    /// Output failed.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(mut formatter) = self.formatter.take() {
            formatter.end(&mut self.out)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> std::fmt::Debug for Printer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("format", &self.format).finish_non_exhaustive()
    }
}

impl<W: Write> Sink for Printer<W> {
    fn begin(&mut self, profile: &Profile, is_list: bool) -> io::Result<()> {
        let mut formatter: Box<dyn Formatter> = match self.format {
            Format::Text => Box::new(table::TextTable::new(self.width)),
            Format::Csv => Box::new(csv::Separated::new(b',')),
            Format::Tsv => Box::new(csv::Separated::new(b'\t')),
            Format::Json => Box::new(json::Tagged::default()),
            Format::Raw => Box::new(json::Raw::default()),
            Format::Html => Box::new(markup::Html::default()),
            Format::Xml => Box::new(markup::Xml::default()),
        };
        formatter.begin(&mut self.out, profile, is_list)?;
        self.formatter = Some(formatter);
        Ok(())
    }

    fn item(&mut self, item: Item, more: &mut More<'_>) -> io::Result<()> {
        match &mut self.formatter {
            Some(formatter) => formatter.item(&mut self.out, item, more),
            None => Ok(()),
        }
    }

    fn format(&mut self, format: Format) {
        self.format = format;
    }
}
