//! `.index`: which numbers wait, `START,END` or `0,0`. The original overwrites it without cutting
//! it, so that `10,10` and then `0,0` leave `0,010`, which its next task makes `1,110`; and a crash may
//! leave anything. What it says is believed as far as the files bear it out, and mended by whoever
//! next has the lock.

use std::fmt;
use std::path::Path;

use super::{Place, disk, safely};
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

/// What the file says, if the files bear it out; `None` where it is to be mended, or where somebody
/// is changing it right now.
pub(super) fn read(directory: &Path) -> Result<Option<Index>, TransportError> {
    let is_there = |number: u64| directory.join(number.to_string()).exists();
    let text = text(directory)?;
    let said = parse(&text).filter(|index| index.to_string().as_bytes() == text);
    Ok(said.filter(|index| index.is_empty() || is_there(index.start) && is_there(index.end)))
}

/// The numbers that wait, as far as can be told where [`read`] says nothing: the files in the range
/// that is named, all of them where none is.
pub(super) fn guess(directory: &Path) -> Result<Vec<u64>, TransportError> {
    let mut numbers = numbers(directory)?;
    if let Some(index) = parse(&text(directory)?) {
        numbers.retain(|number| (index.start..=index.end).contains(number) && !index.is_empty());
    }
    Ok(numbers)
}

fn text(directory: &Path) -> Result<Vec<u8>, TransportError> {
    let path = directory.join(".index");
    match safely::read(&path) {
        Ok(text) => Ok(text),
        Err(error) if safely::is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(disk::failed(&path)(error)),
    }
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
    disk::replace(place, &directory.join(".index"), part, index.to_string().as_bytes())
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.start, self.end)
    }
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
