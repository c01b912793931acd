//! A text table. On a terminal columns are as wide as the first lines need, narrowed where the
//! whole would not fit; what is wider than its column is wrapped, so that later lines may stream.
//! Without a width to fit columns are as wide as all lines need, which wait for the last of them:
//! in memory as far as they are few, then in a temporary file.

use std::io::{self, BufReader, BufWriter, Seek as _, Write};
use std::sync::Arc;

use rex_htsql::domain::Domain;
use rex_htsql::profile::Profile;
use tempfile::SpooledTempFile;

use super::{Formatter, grid};
use crate::item::{Item, More};

/// Lines looked at before the widths are settled on a terminal.
const LOOK_AHEAD: usize = 500;
/// What waiting lines may hold in memory, in bytes.
const MAX_HELD: usize = 4 << 20;
/// Columns are made narrower than the first only where there are too many for it, and none
/// narrower than the second.
const MIN_WIDTHS: [usize; 2] = [6, 2];

pub(super) struct TextTable {
    limit: Option<usize>,
    domain: Arc<Domain>,
    title: String,
    columns: Vec<grid::Column>,
    /// The lines held back until the widths are settled.
    waiting: Option<Waiting>,
    widths: Vec<usize>,
}

/// Lines that wait, with the widths that they need.
struct Waiting {
    lines: BufWriter<SpooledTempFile>,
    n_lines: usize,
}

impl Waiting {
    fn new() -> Waiting {
        let lines = BufWriter::new(SpooledTempFile::new(MAX_HELD));
        Waiting { lines, n_lines: 0 }
    }

    /// Each cell with its length before it, and 0 for none; a line has as many as there are columns.
    fn push(&mut self, line: &grid::Line) -> io::Result<()> {
        self.n_lines += 1;
        for cell in line {
            let length = cell.as_ref().map_or(0, |cell| cell.len() + 1);
            self.lines.write_all(&length.to_le_bytes())?;
            self.lines.write_all(cell.as_deref().unwrap_or_default().as_bytes())?;
        }
        Ok(())
    }

    /// Gives the lines back.
    fn each(
        self,
        n_columns: usize,
        mut take: impl FnMut(&grid::Line) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.lines.into_inner().map_err(io::IntoInnerError::into_error);
        let mut file = file.map_err(unheld)?;
        file.rewind().map_err(unheld)?;
        let mut lines = BufReader::new(file);
        for _ in 0..self.n_lines {
            take(&read_line(&mut lines, n_columns).map_err(unheld)?)?;
        }
        Ok(())
    }
}

fn read_line(lines: &mut impl io::Read, n_columns: usize) -> io::Result<grid::Line> {
    let mut line = grid::Line::with_capacity(n_columns);
    for _ in 0..n_columns {
        let mut length = [0; size_of::<usize>()];
        lines.read_exact(&mut length)?;
        line.push(match usize::from_le_bytes(length).checked_sub(1) {
            None => None,
            Some(length) => {
                let mut cell = vec![0; length];
                lines.read_exact(&mut cell)?;
                Some(String::from_utf8(cell).map_err(io::Error::other)?)
            }
        });
    }
    Ok(line)
}

/// A failure of the temporary file, which is told from one of the output.
fn unheld(error: io::Error) -> io::Error {
    let place = std::env::temp_dir();
    let message = format!("failed to hold the lines of a table in {}: {error}", place.display());
    io::Error::new(error.kind(), message)
}

impl TextTable {
    pub(super) fn new(limit: Option<usize>) -> TextTable {
        TextTable {
            limit,
            domain: Arc::new(Domain::Void),
            title: String::new(),
            columns: Vec::new(),
            waiting: None,
            widths: Vec::new(),
        }
    }

    /// Makes the columns as wide as a line needs.
    fn widen(&mut self, line: &grid::Line) {
        for (width, cell) in self.widths.iter_mut().zip(line) {
            let parts = cell.iter().flat_map(|cell| cell.split('\n'));
            *width = parts.map(display_width).fold(*width, usize::max);
        }
    }

    /// Writes the header and the lines that wait.
    fn settle(&mut self, out: &mut dyn Write, waiting: Waiting) -> io::Result<()> {
        let headers = self.header_lines();
        headers.iter().for_each(|line| self.widen(line));
        if let Some(limit) = self.limit {
            narrow(&mut self.widths, limit.saturating_sub(3));
        }
        let inner = self.widths.iter().map(|width| width + 3).sum::<usize>().saturating_sub(3);
        let is_titled = self.columns.len() > 1 || self.columns.iter().any(|c| c.path.len() > 1);
        if is_titled && !self.title.is_empty() {
            for part in wrap(&self.title, inner) {
                writeln!(out, " | {} |", pad(&part, inner, false))?;
            }
            writeln!(out, "-+-{}-+-", "-".repeat(inner))?;
        }
        for line in headers {
            self.write_line(out, &line, false)?;
        }
        let rule: Vec<String> = self.widths.iter().map(|width| "-".repeat(*width)).collect();
        writeln!(out, "-+-{}-+-", rule.join("-+-"))?;
        waiting.each(self.columns.len(), |line| self.write_line(out, line, true))
    }

    /// One line of headers a level of nesting; a nested record's header stands over its first
    /// column.
    fn header_lines(&self) -> Vec<grid::Line> {
        let depth = self.columns.iter().map(|column| column.path.len()).max().unwrap_or(1);
        (0..depth)
            .map(|level| {
                let mut before: Option<&[String]> = None;
                self.columns
                    .iter()
                    .map(|column| {
                        let path = column.path.get(..=level);
                        let repeated =
                            path.is_some() && path == before && level + 1 < column.path.len();
                        before = path;
                        column.path.get(level).filter(|_| !repeated).cloned()
                    })
                    .collect()
            })
            .collect()
    }

    fn write_line(&self, out: &mut dyn Write, line: &grid::Line, align: bool) -> io::Result<()> {
        let cells: Vec<Vec<String>> = self
            .widths
            .iter()
            .enumerate()
            .map(|(at, width)| match line.get(at) {
                Some(Some(text)) => wrap(text, *width),
                _ => Vec::new(),
            })
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
        for row in 0..height {
            let parts: Vec<String> = self
                .widths
                .iter()
                .enumerate()
                .map(|(at, width)| {
                    let text = cells.get(at).and_then(|cell| cell.get(row)).map_or("", |t| t);
                    let right = align && self.columns.get(at).is_some_and(|c| c.is_number);
                    pad(text, *width, right)
                })
                .collect();
            let edge = if row == 0 { '|' } else { ':' };
            writeln!(out, " {edge} {} {edge}", parts.join(&format!(" {edge} ")))?;
        }
        Ok(())
    }
}

impl Formatter for TextTable {
    fn begin(&mut self, _out: &mut dyn Write, profile: &Profile, _is_list: bool) -> io::Result<()> {
        let domain = grid::item_domain(&profile.domain).clone();
        self.title = profile.header.clone().unwrap_or_default();
        if domain != Domain::Void {
            self.columns = grid::columns(profile);
        }
        self.domain = Arc::new(domain);
        self.widths = vec![1; self.columns.len()];
        self.waiting = Some(Waiting::new());
        Ok(())
    }

    fn item(&mut self, out: &mut dyn Write, item: Item, more: &mut More<'_>) -> io::Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let domain = self.domain.clone();
        let mut lines = grid::Lines::new(&domain, item);
        while let Some(line) = lines.next(more)? {
            let Some(mut waiting) = self.waiting.take() else {
                self.write_line(out, &line, true)?;
                continue;
            };
            self.widen(&line);
            waiting.push(&line).map_err(unheld)?;
            if self.limit.is_some() && waiting.n_lines >= LOOK_AHEAD {
                self.settle(out, waiting)?;
            } else {
                self.waiting = Some(waiting);
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.waiting.take() {
            Some(waiting) if !self.columns.is_empty() => self.settle(out, waiting),
            _ => Ok(()),
        }
    }
}

/// Narrows the widest columns until all fit, as far as they may be narrowed.
fn narrow(widths: &mut [usize], limit: usize) {
    for least in MIN_WIDTHS {
        let total = widths.iter().map(|width| width + 3).sum::<usize>();
        let mut excess = total.saturating_sub(limit);
        while excess > 0 {
            let Some(&widest) = widths.iter().max() else { return };
            if widest <= least {
                break;
            }
            let next = widths.iter().copied().filter(|w| *w < widest).max().unwrap_or(0).max(least);
            let n_widest = widths.iter().filter(|width| **width == widest).count();
            let step = (widest - next).min(excess.div_ceil(n_widest)).max(1);
            for width in widths.iter_mut().filter(|width| **width == widest) {
                let cut = step.min(excess);
                *width -= cut;
                excess -= cut;
            }
        }
    }
}

/// Columns that a text takes on a terminal: ideographs and their like take two, marks none.
pub(super) fn display_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(display_width(text)));
    if right { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
}

/// Where the first character is that does not fit a width.
fn overflow(text: &str, width: usize) -> Option<usize> {
    let mut taken = 0;
    let wide = text.char_indices().find(|(_, c)| {
        taken += char_width(*c);
        taken > width
    });
    wide.map(|(at, _)| at)
}

/// A text in lines no wider than `width`: at its own line breaks, then at blanks, else anywhere.
/// Control characters become blanks.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for source in text.split('\n') {
        let source: String = source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut rest = source.trim_end();
        while let Some(cut) = overflow(rest, width) {
            // The next character may be the blank to break at.
            let mut cut = cut.max(rest.chars().next().map_or(1, char::len_utf8));
            if !rest[cut..].starts_with(' ')
                && let Some(blank) = rest[..cut].rfind(' ').filter(|at| *at > 0)
            {
                cut = blank;
            }
            lines.push(rest[..cut].trim_end().to_string());
            rest = rest[cut..].trim_start();
        }
        lines.push(rest.to_string());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_wrap_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn the_widest_columns_give_way() {
        let mut widths = [5, 80, 40];
        narrow(&mut widths, 60);
        assert_eq!(widths.iter().map(|w| w + 3).sum::<usize>(), 60);
        assert_eq!(widths[0], 5);
        let mut widths = [30; 8];
        narrow(&mut widths, 57);
        assert_eq!(widths.iter().map(|w| w + 3).sum::<usize>(), 57);
    }
}
