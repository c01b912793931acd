//! The claims that an owner was told of and has not ended.

use std::collections::{BTreeSet, HashMap};

use crate::{ClaimId, Finished, QueueName, Want};

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// With the queue of which only so many tasks may be in flight.
    claims: HashMap<ClaimId, Option<QueueName>>,
}

impl Known {
    pub(crate) fn insert(&mut self, id: ClaimId, queue: &QueueName, want: &Want) {
        self.claims.insert(id, want.in_flight.map(|_| queue.clone()));
    }

    pub(crate) fn contains(&self, id: ClaimId) -> bool {
        self.claims.contains_key(&id)
    }

    /// Queues of which other hosts, who found their limit reached, may claim when these are recorded.
    pub(crate) fn freed(&self, finished: &[Finished]) -> BTreeSet<QueueName> {
        finished.iter().filter_map(|one| self.claims.get(&one.claim)?.clone()).collect()
    }

    pub(crate) fn forget(&mut self, ended: impl IntoIterator<Item = ClaimId>) {
        for id in ended {
            self.claims.remove(&id);
        }
    }

    /// Forgets them all and tells which they were.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = ClaimId> {
        self.claims.drain().map(|(id, _)| id)
    }
}
