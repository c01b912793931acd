//! One output pipe of a worker: lines out of bytes, cut at the markers between them.

use std::fs::File;
use std::io::{self, Read};

use crate::wire::Marker;

/// A line that does not end is passed on in parts of this size.
const LONGEST_LINE: usize = 64 * 1024;

pub(super) struct Tap {
    pipe: File,
    marker: Marker,
    buffer: Vec<u8>,
    /// Number of the last marker that was passed.
    passed: u64,
    ended: bool,
}

impl Tap {
    pub(super) fn new(pipe: File, marker: Marker) -> Tap {
        Tap { pipe, marker, buffer: Vec::new(), passed: 0, ended: false }
    }

    pub(super) fn file(&self) -> &File {
        &self.pipe
    }

    /// Whether the last writer has closed the pipe.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads once; returns whole lines that stand before the next marker, which is not passed: its
    /// frame has not come yet.
    pub(super) fn read_some(&mut self) -> Vec<u8> {
        self.fill();
        self.take_lines()
    }

    /// As [`read_some`](Tap::read_some), of what was read already: what came together with a marker is
    /// announced by nobody once that is passed.
    pub(super) fn take_lines(&mut self) -> Vec<u8> {
        match self.marker.find(&self.buffer) {
            Some((start, _)) => self.lines(start),
            None => self.lines(self.before_half_marker()),
        }
    }

    /// Returns all that was printed before marker `number`, the last line completed.
    pub(super) fn read_to(&mut self, number: u64) -> Vec<u8> {
        let mut text = Vec::new();
        while self.passed < number {
            if let Some((start, found)) = self.marker.find(&self.buffer) {
                text.extend_from_slice(&self.buffer[..start]);
                self.buffer.drain(..start + self.marker.length());
                self.passed = found;
            } else if !self.fill() {
                // The marker was written before its frame was sent: if it is not here, the pipe is
                // not whole (the plugin wrote over it), and nothing is worth waiting for.
                break;
            }
        }
        end_line(&mut text);
        text
    }

    /// Returns all that is there, to the end, markers dropped.
    pub(super) fn read_rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        let mut text = Vec::new();
        while let Some((start, _)) = self.marker.find(&self.buffer) {
            text.extend_from_slice(&self.buffer[..start]);
            end_line(&mut text);
            self.buffer.drain(..start + self.marker.length());
        }
        text.append(&mut self.buffer);
        end_line(&mut text);
        text
    }

    /// Where a marker may begin whose end was not read yet; the buffer's length if none does.
    fn before_half_marker(&self) -> usize {
        let tail = self.buffer.len().saturating_sub(self.marker.length() - 1);
        self.buffer[tail..].iter().position(|b| *b == 0).map_or(self.buffer.len(), |n| tail + n)
    }

    /// Takes whole lines from the first `end` bytes of the buffer.
    fn lines(&mut self, end: usize) -> Vec<u8> {
        let whole = self.buffer[..end].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        if whole == 0 && end >= LONGEST_LINE {
            let mut text: Vec<u8> = self.buffer.drain(..end - self.marker.length()).collect();
            end_line(&mut text);
            return text;
        }
        self.buffer.drain(..whole).collect()
    }

    /// Reads once; `false` when nothing is there now.
    fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let length = self.buffer.len();
        self.buffer.resize(length + 16 * 1024, 0);
        loop {
            match self.pipe.read(&mut self.buffer[length..]) {
                Ok(count) => {
                    self.buffer.truncate(length + count);
                    self.ended = count == 0;
                    return count > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.truncate(length);
                    self.ended = error.kind() != io::ErrorKind::WouldBlock;
                    return false;
                }
            }
        }
    }
}

fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
