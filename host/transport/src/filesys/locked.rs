//! Queues that cannot be changed just now, mostly because somebody else has them locked, such as an old
//! consumer that hangs: a host waits for them only so long that its other queues go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Place;
use super::queue::Queue;
use crate::{Kind, QueueName, TransportError};

/// So long at most a host waits for a lock at first: others hold it while a few files are synced.
const FIRST: Duration = Duration::from_secs(1);

/// And so long while it is known to be kept.
const AGAIN: Duration = Duration::from_millis(20);

/// For so long a lock may be kept without a word, where one is to wait for it for ever.
const UNSAID: Duration = Duration::from_secs(5);

/// Queues that could not be changed at the last try.
pub(super) struct Locked {
    kept: BTreeMap<QueueName, Kept>,
    /// Nothing else is waiting.
    patient: bool,
}

struct Kept {
    since: Instant,
    /// Whether outcomes wait for it, and that was said.
    said: bool,
}

impl Locked {
    pub(super) fn new(patient: bool) -> Locked {
        Locked { kept: BTreeMap::new(), patient }
    }

    /// Locks a queue; `None` where somebody else keeps it locked.
    pub(super) fn lock<'a>(
        &mut self,
        place: &'a Place,
        name: &QueueName,
    ) -> Result<Option<Queue<'a>>, TransportError> {
        if self.patient {
            return Queue::lock(place, name).map(Some);
        }
        let patience = match self.is_known(name) {
            true => AGAIN,
            false => place.lock_timeout.map_or(FIRST, |timeout| timeout.min(FIRST)),
        };
        let begun = Instant::now();
        let queue = Queue::lock_within(place, name, Some(patience))?;
        if queue.is_none() {
            self.kept.entry(name.clone()).or_insert(Kept { since: begun, said: false });
        } else if self.kept.remove(name).is_some_and(|kept| kept.said) {
            tracing::info!("Queue {name}: what became of its tasks can be recorded again");
        }
        Ok(queue)
    }

    /// Locks a queue for outcomes; `None` where they have to wait. So do those of its own tasks where
    /// it cannot be used at all.
    pub(super) fn open<'a>(
        &mut self,
        place: &'a Place,
        name: &QueueName,
        is_own: bool,
    ) -> Result<Option<Queue<'a>>, TransportError> {
        let error = match self.lock(place, name) {
            Ok(Some(queue)) => return Ok(Some(queue)),
            Ok(None) => Queue::not_locked(place, name),
            Err(error) if error.kind == Kind::Invalid && is_own => error,
            Err(error) => return Err(error),
        };
        let kept = Kept { since: Instant::now(), said: false };
        let kept = self.kept.entry(name.clone()).or_insert(kept);
        let is_long = kept.since.elapsed() >= place.lock_timeout.unwrap_or(UNSAID);
        if !kept.said && (is_long || error.kind == Kind::Invalid) {
            kept.said = true;
            tracing::warn!(
                "Queue {name}: what became of its tasks cannot be recorded yet, so they stay in \
                 flight: {}",
                error.line()
            );
        }
        Ok(None)
    }

    /// Whether it could not be changed at the last try.
    pub(super) fn is_known(&self, name: &QueueName) -> bool {
        self.kept.contains_key(name)
    }

    /// What is to be said of a queue that was locked at the last try: that its time is over.
    pub(super) fn overdue(&self, place: &Place, name: &QueueName) -> Option<TransportError> {
        let (kept, timeout) = (self.kept.get(name)?, place.lock_timeout?);
        (kept.since.elapsed() >= timeout).then(|| Queue::not_locked(place, name))
    }
}
