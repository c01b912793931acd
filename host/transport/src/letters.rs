//! What a query for dead letters wants of those that a store has, for stores that go through them one
//! by one.

use crate::{DeadLetter, DeadQuery};

/// The letters that fit, as far as the query goes.
pub(crate) struct Letters<'a> {
    query: &'a DeadQuery,
    found: Vec<DeadLetter>,
    bytes: usize,
}

impl<'a> Letters<'a> {
    pub(crate) fn of(query: &'a DeadQuery) -> Letters<'a> {
        Letters { query, found: Vec::new(), bytes: 0 }
    }

    /// Whether no more is wanted.
    pub(crate) fn is_full(&self) -> bool {
        let DeadQuery { limit, bytes, .. } = self.query;
        limit.is_some_and(|limit| self.found.len() as u64 >= limit)
            || bytes.is_some_and(|bytes| self.bytes >= bytes)
    }

    /// Takes the next one, in the order of deaths, if it fits.
    pub(crate) fn offer(&mut self, letter: DeadLetter) {
        let DeadQuery { queue, tasks, after, .. } = self.query;
        let fits = queue.as_ref().is_none_or(|queue| letter.queue == *queue)
            && (tasks.is_empty() || tasks.contains(&letter.id))
            && after.is_none_or(|after| letter.letter > after);
        if fits && !self.is_full() {
            self.bytes += letter.bytes();
            self.found.push(letter);
        }
    }

    pub(crate) fn found(self) -> Vec<DeadLetter> {
        self.found
    }
}
