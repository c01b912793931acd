//! A text table. Columns are as wide as the first lines need, narrowed where the whole would not
//! fit the width; what is wider than its column is wrapped, so later lines may stream.

use std::io::{self, Write};

use rex_htsql::Value;
use rex_htsql::domain::Domain;
use rex_htsql::profile::Profile;

use super::{Formatter, grid};

/// Lines looked at before the widths are settled.
const LOOK_AHEAD: usize = 500;
/// No column is made narrower than this, nor wider than its share when all are wide.
const MIN_WIDTH: usize = 6;

pub(super) struct TextTable {
    limit: Option<usize>,
    domain: Domain,
    title: String,
    columns: Vec<grid::Column>,
    /// Lines held back until the widths are settled.
    waiting: Vec<grid::Line>,
    /// Empty until settled.
    widths: Vec<usize>,
}

impl TextTable {
    pub(super) fn new(limit: Option<usize>) -> TextTable {
        TextTable {
            limit,
            domain: Domain::Void,
            title: String::new(),
            columns: Vec::new(),
            waiting: Vec::new(),
            widths: Vec::new(),
        }
    }

    fn settle(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let headers = self.header_lines();
        self.widths = (0..self.columns.len())
            .map(|at| {
                let cells = self.waiting.iter().chain(&headers).filter_map(|line| line.get(at));
                let widths = cells.flatten().flat_map(|cell| cell.split('\n')).map(display_width);
                widths.max().unwrap_or(0).max(1)
            })
            .collect();
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
        for line in std::mem::take(&mut self.waiting) {
            self.write_line(out, &line, true)?;
        }
        Ok(())
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
        self.domain = grid::item_domain(&profile.domain).clone();
        self.title = profile.header.clone().unwrap_or_default();
        if self.domain != Domain::Void {
            self.columns = grid::columns(profile);
        }
        Ok(())
    }

    fn item(&mut self, out: &mut dyn Write, value: &Value) -> io::Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        for line in grid::lines(&self.domain, value) {
            if self.widths.is_empty() {
                self.waiting.push(line);
                if self.waiting.len() >= LOOK_AHEAD {
                    self.settle(out)?;
                }
            } else {
                self.write_line(out, &line, true)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        if self.widths.is_empty() {
            self.settle(out)?;
        }
        Ok(())
    }
}

/// Narrows the widest columns until all fit, as far as they may be narrowed.
fn narrow(widths: &mut [usize], limit: usize) {
    let total = |widths: &[usize]| widths.iter().map(|width| width + 3).sum::<usize>();
    let mut excess = total(widths).saturating_sub(limit);
    while excess > 0 {
        let Some(&widest) = widths.iter().max() else { return };
        if widest <= MIN_WIDTH {
            return;
        }
        let next = widths.iter().copied().filter(|w| *w < widest).max().unwrap_or(0).max(MIN_WIDTH);
        let n_widest = widths.iter().filter(|width| **width == widest).count();
        let step = (widest - next).min(excess.div_ceil(n_widest)).max(1);
        for width in widths.iter_mut().filter(|width| **width == widest) {
            let cut = step.min(excess);
            *width -= cut;
            excess -= cut;
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
    }
}
