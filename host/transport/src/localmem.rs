//! Queues in this process's memory, for tests and for hosts embedded in a program: nothing survives
//! the process, and no other process sees them.
//!
//! `localmem://` names one store, `localmem://NAME` another; each lives from its first opening to
//! the end of the process. An owner that is dropped without `close` counts as dead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;

use crate::{
    Claim, ClaimId, ClaimedTask, DeadLetter, Finished, Kind, NewTask, Options, Outcome, Payload,
    QueueName, QueueStatus, TaskId, Timestamp, Transport, TransportError, Uri, WaitingTask, Watch,
};

/// One opening of a store in memory.
pub struct LocalMem {
    store: Arc<Mutex<Store>>,
    /// Who claims here; `None` from the start or after `close`.
    owner: Option<i64>,
    may_own: bool,
    rescue_grace: Duration,
    owner_timeout: Duration,
}

#[derive(Default)]
struct Store {
    last_task: i64,
    last_claim: i64,
    last_owner: i64,
    last_watch: u64,
    waiting: BTreeMap<QueueName, BTreeMap<TaskId, Waiting>>,
    claims: BTreeMap<ClaimId, Held>,
    dead: Vec<DeadLetter>,
    owners: BTreeMap<i64, Life>,
    watches: BTreeMap<u64, Sender<QueueName>>,
}

struct Waiting {
    submitted: Timestamp,
    attempt: u32,
    payload: Payload,
}

struct Held {
    owner: i64,
    queue: QueueName,
    tasks: BTreeMap<TaskId, Waiting>,
}

struct Life {
    beaten: Instant,
    /// When its transport was dropped.
    gone: Option<Instant>,
}

impl LocalMem {
    /// Opens `localmem://[NAME]`.
    ///
    /// # Errors
    /// `Config` for an address with options.
    pub fn open(uri: &Uri, options: &Options) -> Result<LocalMem, TransportError> {
        static STORES: Mutex<BTreeMap<String, Arc<Mutex<Store>>>> = Mutex::new(BTreeMap::new());
        if uri.raw().contains('?') {
            return Err(uri.bad("localmem has no options"));
        }
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::clone(stores.entry(uri.rest().to_owned()).or_default());
        let mut opened = LocalMem {
            store,
            owner: None,
            may_own: options.owner.is_some(),
            rescue_grace: options.rescue_grace,
            owner_timeout: options.owner_timeout,
        };
        if opened.may_own {
            opened.owner()?;
        }
        Ok(opened)
    }

    /// This owner's number; a new one if it was taken for dead.
    fn owner(&mut self) -> Result<i64, TransportError> {
        if !self.may_own {
            let text = "This transport was opened without an owner: it cannot claim";
            return Err(TransportError::new(Kind::Invalid, text));
        }
        let mut store = lock(&self.store);
        if let Some(owner) = self.owner.filter(|owner| store.owners.contains_key(owner)) {
            return Ok(owner);
        }
        store.last_owner += 1;
        let owner = store.last_owner;
        store.owners.insert(owner, Life { beaten: Instant::now(), gone: None });
        self.owner = Some(owner);
        Ok(owner)
    }
}

impl Transport for LocalMem {
    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<TaskId>, TransportError> {
        Ok(lock(&self.store).add(tasks))
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        Ok(lock(&self.store).waiting.get(queue).map_or(0, |tasks| count(tasks.len())))
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        let store = lock(&self.store);
        let mut all: BTreeMap<&QueueName, QueueStatus> = BTreeMap::new();
        let status = |queue: &QueueName| QueueStatus {
            queue: queue.clone(),
            waiting: 0,
            in_flight: 0,
            dead: 0,
            oldest: None,
        };
        for (queue, tasks) in store.waiting.iter().filter(|(_, tasks)| !tasks.is_empty()) {
            let entry = all.entry(queue).or_insert_with(|| status(queue));
            entry.waiting = count(tasks.len());
            entry.oldest = tasks.values().map(|task| task.submitted).min();
        }
        for held in store.claims.values() {
            let entry = all.entry(&held.queue).or_insert_with(|| status(&held.queue));
            entry.in_flight += count(held.tasks.len());
        }
        for letter in &store.dead {
            all.entry(&letter.queue).or_insert_with(|| status(&letter.queue)).dead += 1;
        }
        Ok(all.into_values().collect())
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        let store = lock(&self.store);
        let tasks = store.waiting.get(queue).into_iter().flatten();
        let shown = tasks.take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(shown
            .map(|(id, task)| WaitingTask {
                id: *id,
                submitted: task.submitted,
                attempt: task.attempt,
                payload: task.payload.clone(),
            })
            .collect())
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        Ok(lock(&self.store).waiting.remove(queue).map_or(0, |tasks| count(tasks.len())))
    }

    fn dead_letters(
        &mut self,
        queue: Option<&QueueName>,
        limit: Option<u64>,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        let store = lock(&self.store);
        let letters =
            store.dead.iter().filter(|letter| queue.is_none_or(|queue| letter.queue == *queue));
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(letters.take(limit).cloned().collect())
    }

    fn claim(&mut self, queue: &QueueName, max: usize) -> Result<Option<Claim>, TransportError> {
        let owner = self.owner()?;
        Ok(lock(&self.store).take(owner, queue, max))
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        let owner = self.owner()?;
        Ok(lock(&self.store).record(owner, finished))
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        let me = if self.may_own { Some(self.owner()?) } else { None };
        let mut store = lock(&self.store);
        if let Some(life) = me.and_then(|me| store.owners.get_mut(&me)) {
            life.beaten = Instant::now();
        }
        let others = store.owners.iter().filter(|(owner, _)| Some(**owner) != me);
        let dead = others.filter(|(_, life)| match life.gone {
            Some(gone) => gone.elapsed() >= self.rescue_grace,
            None => life.beaten.elapsed() > self.owner_timeout,
        });
        let dead: Vec<i64> = dead.map(|(owner, _)| *owner).collect();
        Ok(dead.into_iter().map(|owner| store.give_back(owner)).sum())
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        let store = lock(&self.store);
        let waits = store.waiting.get(queue).is_some_and(|tasks| !tasks.is_empty());
        Ok(!waits && !store.claims.values().any(|held| held.queue == *queue))
    }

    fn watch(&self, wake: Sender<QueueName>) -> Result<Option<Watch>, TransportError> {
        let mut store = lock(&self.store);
        store.last_watch += 1;
        let number = store.last_watch;
        store.watches.insert(number, wake);
        let shared = Arc::clone(&self.store);
        Ok(Some(Watch::new(move || {
            lock(&shared).watches.remove(&number);
        })))
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.may_own = false;
        if let Some(owner) = self.owner.take() {
            lock(&self.store).give_back(owner);
        }
        Ok(())
    }

    fn label(&self) -> String {
        "LocalMemoryAsyncTransport".to_owned()
    }
}

impl Drop for LocalMem {
    fn drop(&mut self) {
        let mut store = lock(&self.store);
        if let Some(life) = self.owner.and_then(|owner| store.owners.get_mut(&owner)) {
            life.gone = Some(Instant::now());
        }
    }
}

impl Store {
    fn add(&mut self, tasks: &[NewTask]) -> Vec<TaskId> {
        let submitted = now();
        let mut ids = Vec::with_capacity(tasks.len());
        for task in tasks {
            self.last_task += 1;
            let id = TaskId(self.last_task);
            let waiting = Waiting { submitted, attempt: 1, payload: task.payload.clone() };
            self.waiting.entry(task.queue.clone()).or_default().insert(id, waiting);
            ids.push(id);
        }
        self.tell(tasks.iter().map(|task| &task.queue).collect());
        ids
    }

    fn take(&mut self, owner: i64, queue: &QueueName, max: usize) -> Option<Claim> {
        let waiting = self.waiting.get_mut(queue)?;
        let mut held = BTreeMap::new();
        while held.len() < max {
            let Some((id, task)) = waiting.pop_first() else { break };
            held.insert(id, task);
        }
        if held.is_empty() {
            return None;
        }
        self.last_claim += 1;
        let id = ClaimId(self.last_claim);
        let tasks = held.iter().map(|(id, task)| ClaimedTask {
            id: *id,
            attempt: task.attempt,
            submitted: task.submitted,
            payload: task.payload.clone(),
        });
        let claim = Claim { id, queue: queue.clone(), tasks: tasks.collect() };
        self.claims.insert(id, Held { owner, queue: queue.clone(), tasks: held });
        Some(claim)
    }

    fn record(&mut self, owner: i64, finished: &[Finished]) -> Vec<TaskId> {
        let died = now();
        let mut lost = Vec::new();
        for one in finished {
            let Entry::Occupied(mut entry) = self.claims.entry(one.claim) else {
                lost.push(one.task);
                continue;
            };
            if entry.get().owner != owner {
                lost.push(one.task);
                continue;
            }
            // Recorded before: nothing changes.
            let Some(task) = entry.get_mut().tasks.remove(&one.task) else { continue };
            let queue = entry.get().queue.clone();
            if entry.get().tasks.is_empty() {
                entry.remove();
            }
            match &one.outcome {
                Outcome::Done => {}
                Outcome::Dead(death) => self.dead.push(DeadLetter {
                    id: one.task,
                    queue,
                    payload: task.payload,
                    submitted: task.submitted,
                    died,
                    attempts: task.attempt,
                    death: death.clone(),
                }),
                Outcome::Released => {
                    self.waiting.entry(queue.clone()).or_default().insert(one.task, task);
                    self.tell(BTreeSet::from([&queue]));
                }
            }
            self.add(&one.submits);
        }
        lost
    }

    /// Ends an owner: what it held waits again in its old place.
    fn give_back(&mut self, owner: i64) -> u64 {
        self.owners.remove(&owner);
        let (theirs, others) =
            std::mem::take(&mut self.claims).into_iter().partition(|(_, held)| held.owner == owner);
        self.claims = others;
        let theirs: BTreeMap<ClaimId, Held> = theirs;
        let mut back = 0;
        for held in theirs.into_values() {
            back += count(held.tasks.len());
            self.waiting.entry(held.queue.clone()).or_default().extend(held.tasks);
            self.tell(BTreeSet::from([&held.queue]));
        }
        back
    }

    fn tell(&mut self, queues: BTreeSet<&QueueName>) {
        for queue in queues {
            // Whoever listens no more takes its watch away itself.
            self.watches.values().for_each(|wake| drop(wake.try_send(queue.clone())));
        }
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
