//! Rows in the text format of COPY.

use std::io::Write;

use super::field::Cell;

/// Rows of one table.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    /// The row in hand has cells.
    begun: bool,
}

impl Lines {
    pub(super) fn cell(&mut self, cell: &Cell<'_>) {
        if std::mem::replace(&mut self.begun, true) {
            self.text.push(b'\t');
        }
        // Writing to memory cannot fail.
        let _ = match cell {
            Cell::Null => self.text.write_all(b"\\N"),
            Cell::Boolean(truth) => self.text.write_all(if *truth { b"t" } else { b"f" }),
            Cell::Integer(number) => write!(self.text, "{number}"),
            Cell::Float(number) => write!(self.text, "{number}"),
            Cell::Text(text) => {
                self.escaped(text.as_bytes());
                Ok(())
            }
        };
    }

    fn escaped(&mut self, mut bytes: &[u8]) {
        let special = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b'\\');
        while let Some(at) = bytes.iter().position(special) {
            self.text.extend_from_slice(&bytes[..at]);
            self.text.extend_from_slice(match bytes[at] {
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                _ => b"\\\\",
            });
            bytes = &bytes[at + 1..];
        }
        self.text.extend_from_slice(bytes);
    }

    pub(super) fn end(&mut self) {
        self.begun = false;
        self.text.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
