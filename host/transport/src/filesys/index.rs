//! `.index`: which numbers wait, `START,END` or `0,0`. The original overwrites it without cutting
//! it, so that `10,10` and then `0,0` leave `0,010`; and a crash may leave anything. What it says is
//! believed as far as the files bear it out.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Place, disk};
use crate::TransportError;

/// The numbers that wait; empty when `end` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) start: u64,
    pub(super) end: u64,
}

pub(super) const EMPTY: Index = Index { start: 0, end: 0 };

impl Index {
    pub(super) fn is_empty(self) -> bool {
        self.end == 0
    }

    pub(super) fn len(self) -> u64 {
        if self.is_empty() { 0 } else { self.end.saturating_sub(self.start) + 1 }
    }

    /// From these numbers on, as many as `len`.
    pub(super) fn of(start: u64, len: u64) -> Index {
        if len == 0 { EMPTY } else { Index { start, end: start + len - 1 } }
    }
}

/// What the file says; the directory's files where it says nothing sensible. Reads of a queue that
/// is not locked may be out of date, no more.
pub(super) fn read(directory: &Path) -> Result<Index, TransportError> {
    let path = directory.join(".index");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(disk::failed(&path)(error)),
    };
    let Some(index) = parse(&text) else { return from_files(directory) };
    if index.is_empty() || directory.join(index.start.to_string()).exists() {
        return Ok(index);
    }
    // Where the first number has no file, some later one may.
    let within: Vec<u64> = numbers(directory)?
        .into_iter()
        .filter(|number| (index.start..=index.end).contains(number))
        .collect();
    Ok(match within.first() {
        Some(first) => Index { start: *first, end: index.end },
        None => EMPTY,
    })
}

/// All numbered files, indexed or not.
pub(super) fn from_files(directory: &Path) -> Result<Index, TransportError> {
    let numbers = numbers(directory)?;
    Ok(match (numbers.first(), numbers.last()) {
        (Some(first), Some(last)) => Index { start: *first, end: *last },
        _ => EMPTY,
    })
}

/// The numbers of the task files, ascending.
pub(super) fn numbers(directory: &Path) -> Result<Vec<u64>, TransportError> {
    let names = disk::names(directory)?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| name.parse().ok().filter(|n: &u64| *n > 0 && n.to_string() == *name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn write(
    place: &Place,
    directory: &Path,
    part: &Path,
    index: Index,
) -> Result<(), TransportError> {
    let text = format!("{},{}", index.start, index.end);
    disk::replace(place, &directory.join(".index"), part, text.as_bytes())
}

fn parse(text: &[u8]) -> Option<Index> {
    let (start, end) = std::str::from_utf8(text).ok()?.trim().split_once(',')?;
    let index = Index { start: start.trim().parse().ok()?, end: end.trim().parse().ok()? };
    if index.start == 0 {
        // `0,0`, and the `0,010` that is left when it is written over `10,10`.
        return Some(EMPTY);
    }
    (index.start <= index.end).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::{EMPTY, Index, parse};

    #[test]
    fn what_the_original_leaves() {
        assert_eq!(parse(b"0,0"), Some(EMPTY));
        assert_eq!(parse(b"0,010"), Some(EMPTY));
        assert_eq!(parse(b"3,12"), Some(Index { start: 3, end: 12 }));
        for torn in [&b""[..], b"3", b"3,", b",", b"12,3", b"\0\0\0", b"x,y"] {
            assert_eq!(parse(torn), None, "{torn:?}");
        }
    }
}
