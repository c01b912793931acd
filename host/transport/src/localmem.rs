//! Queues in this process's memory, for tests and for hosts embedded in a program: nothing survives
//! the process, and no other process sees them.
//!
//! `localmem://` names one store, `localmem://NAME` another; each lives from its first opening to
//! the end of the process. An owner that is dropped without `close` counts as dead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use serde_json::Value;

use crate::letters::Letters;
use crate::task::micros;
use crate::transport::not_an_owner;
use crate::{
    Attributes, Claim, ClaimId, ClaimedTask, DeadLetter, DeadQuery, Due, Features, Finished,
    LetterId, NewTask, Options, Outcome, Payload, QueueName, QueueStatus, Submitted, TaskId,
    Timestamp, Transport, TransportError, Uri, WaitingTask, Wake, Want, Watch,
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
    last_letter: i64,
    last_owner: i64,
    last_watch: u64,
    /// In the order of claims.
    waiting: BTreeMap<QueueName, BTreeMap<(i16, TaskId), Waiting>>,
    paused: BTreeSet<QueueName>,
    claims: BTreeMap<ClaimId, Held>,
    dead: BTreeMap<LetterId, Dead>,
    owners: BTreeMap<i64, Life>,
    watches: BTreeMap<u64, Sender<Wake>>,
    /// The last occasion of each schedule.
    schedules: BTreeMap<String, Timestamp>,
}

struct Waiting {
    submitted: Timestamp,
    attempt: u32,
    payload: Payload,
    priority: i16,
    due: Option<Timestamp>,
    unique: Option<String>,
    history: Value,
}

struct Dead {
    letter: DeadLetter,
    priority: i16,
}

struct Held {
    owner: i64,
    /// Whether only so many tasks of the queue may be in flight.
    limited: bool,
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
            return Err(not_an_owner());
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
    fn features(&self) -> Features {
        Features::ALL
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        Ok(lock(&self.store).add(tasks))
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        Ok(lock(&self.store).count_due(queue))
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        let store = lock(&self.store);
        let now = Timestamp::now();
        let mut all: BTreeMap<&QueueName, QueueStatus> = BTreeMap::new();
        let status = |queue: &QueueName| QueueStatus {
            queue: queue.clone(),
            waiting: 0,
            delayed: 0,
            in_flight: 0,
            dead: 0,
            oldest: None,
            paused: store.paused.contains(queue),
        };
        for (queue, tasks) in store.waiting.iter().filter(|(_, tasks)| !tasks.is_empty()) {
            let entry = all.entry(queue).or_insert_with(|| status(queue));
            entry.waiting = store.count_due(queue);
            entry.delayed = count(tasks.len()) - entry.waiting;
            let due = tasks.values().filter(|task| task.is_due(now));
            entry.oldest = due.map(|task| task.submitted).min();
        }
        for held in store.claims.values() {
            let entry = all.entry(&held.queue).or_insert_with(|| status(&held.queue));
            entry.in_flight += count(held.tasks.len());
        }
        for Dead { letter, .. } in store.dead.values() {
            all.entry(&letter.queue).or_insert_with(|| status(&letter.queue)).dead += 1;
        }
        for queue in &store.paused {
            all.entry(queue).or_insert_with(|| status(queue));
        }
        Ok(all.into_values().collect())
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        let store = lock(&self.store);
        let now = Timestamp::now();
        let tasks = store.waiting.get(queue).into_iter().flatten();
        let mut tasks: Vec<_> = tasks.collect();
        tasks.sort_by_key(|(_, task)| !task.is_due(now));
        let shown = tasks.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(shown
            .map(|((priority, id), task)| WaitingTask {
                id: *id,
                submitted: task.submitted,
                attempt: task.attempt,
                priority: *priority,
                due: task.due.filter(|due| *due > now),
                payload: task.payload.clone(),
            })
            .collect())
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        Ok(lock(&self.store).waiting.remove(queue).map_or(0, |tasks| count(tasks.len())))
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        Ok(lock(&self.store).paused.clone())
    }

    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        let mut store = lock(&self.store);
        if paused {
            store.paused.insert(queue.clone());
        } else {
            store.paused.remove(queue);
            store.tell(BTreeSet::from([queue]));
        }
        Ok(())
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        let store = lock(&self.store);
        let mut letters = Letters::of(query);
        store.dead.values().for_each(|dead| letters.offer(dead.letter.clone()));
        Ok(letters.found())
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let mut store = lock(&self.store);
        let mut back = 0;
        for letter in letters {
            let Some(Dead { letter, priority }) = store.dead.remove(letter) else { continue };
            let waiting = Waiting {
                submitted: letter.submitted,
                attempt: 1,
                payload: letter.payload,
                priority,
                due: None,
                unique: None,
                history: letter.death.details["attempts"].clone(),
            };
            store.put(&letter.queue, letter.id, waiting);
            back += 1;
        }
        Ok(back)
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let mut store = lock(&self.store);
        Ok(count(letters.iter().filter(|letter| store.dead.remove(letter).is_some()).count()))
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        let mut store = lock(&self.store);
        let before = Timestamp::now().0.saturating_sub(micros(age));
        let all = store.dead.len();
        store.dead.retain(|_, dead| dead.letter.died.0 >= before);
        Ok(count(all - store.dead.len()))
    }

    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        let owner = self.owner()?;
        Ok(lock(&self.store).take(owner, queue, want))
    }

    fn attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        let store = lock(&self.store);
        let tasks = store.claims.get(&claim).into_iter().flat_map(|held| &held.tasks);
        let attributes = tasks.map(|(id, task)| {
            let (priority, unique) = (task.priority, task.unique.clone());
            (*id, Attributes { priority, unique, ..Attributes::default() })
        });
        Ok(attributes.filter(|(_, attributes)| !attributes.is_plain()).collect())
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        let now = Timestamp::now();
        let store = lock(&self.store);
        let tasks = store.waiting.get(queue).into_iter().flat_map(BTreeMap::values);
        let next = tasks.filter_map(|task| task.due.filter(|due| *due > now)).min();
        Ok(next.map(|due| Duration::from_micros((due.0 - now.0).unsigned_abs())))
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
        let waits = !store.paused.contains(queue) && store.count_due(queue) > 0;
        Ok(!waits && !store.claims.values().any(|held| held.queue == *queue))
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        let mut store = lock(&self.store);
        store.last_watch += 1;
        let number = store.last_watch;
        store.watches.insert(number, wake);
        let shared = Arc::clone(&self.store);
        Ok(Some(Watch::new(move || {
            lock(&shared).watches.remove(&number);
        })))
    }

    fn last_occasion(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        Ok(*lock(&self.store).schedules.entry(schedule.to_owned()).or_insert(since))
    }

    fn record_occasion(
        &mut self,
        schedule: &str,
        at: Timestamp,
        tasks: &[NewTask],
    ) -> Result<bool, TransportError> {
        let mut store = lock(&self.store);
        if store.schedules.get(schedule).is_some_and(|last| *last >= at) {
            return Ok(false);
        }
        store.schedules.insert(schedule.to_owned(), at);
        store.add(tasks);
        Ok(true)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.may_own = false;
        if let Some(owner) = self.owner.take() {
            lock(&self.store).give_back(owner);
        }
        Ok(())
    }

    fn identity(&mut self) -> Result<String, TransportError> {
        Ok(format!("localmem {:p}", Arc::as_ptr(&self.store)))
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
    fn add(&mut self, tasks: &[NewTask]) -> Vec<Submitted> {
        let submitted = Timestamp::now();
        let mut done = Vec::with_capacity(tasks.len());
        for task in tasks {
            let attributes = &task.attributes;
            let same = attributes.unique.as_ref().and_then(|key| self.find(&task.queue, key));
            if let Some(id) = same {
                done.push(Submitted { id, existed: true });
                continue;
            }
            self.last_task += 1;
            let id = TaskId(self.last_task);
            let waiting = Waiting {
                submitted,
                attempt: 1,
                payload: task.payload.clone(),
                priority: attributes.priority,
                due: match attributes.due {
                    Due::Now => None,
                    Due::In(wait) => Some(Timestamp(submitted.0.saturating_add(micros(wait)))),
                    Due::At(time) => Some(time),
                },
                unique: attributes.unique.clone(),
                history: Value::Null,
            };
            self.put(&task.queue, id, waiting);
            done.push(Submitted { id, existed: false });
        }
        done
    }

    fn put(&mut self, queue: &QueueName, id: TaskId, task: Waiting) {
        self.waiting.entry(queue.clone()).or_default().insert((task.priority, id), task);
        self.tell(BTreeSet::from([queue]));
    }

    /// The task of that unique key, waiting or in flight.
    fn find(&self, queue: &QueueName, key: &str) -> Option<TaskId> {
        let waiting = self.waiting.get(queue).into_iter().flatten().map(|((_, id), t)| (id, t));
        let held = self.claims.values().filter(|held| held.queue == *queue);
        waiting
            .chain(held.flat_map(|held| &held.tasks))
            .find(|(_, task)| task.unique.as_deref() == Some(key))
            .map(|(id, _)| *id)
    }

    fn count_due(&self, queue: &QueueName) -> u64 {
        let now = Timestamp::now();
        let tasks = self.waiting.get(queue).into_iter().flat_map(BTreeMap::values);
        count(tasks.filter(|task| task.is_due(now)).count())
    }

    fn take(&mut self, owner: i64, queue: &QueueName, want: &Want) -> Option<Claim> {
        if self.paused.contains(queue) {
            return None;
        }
        let held = self.claims.values().filter(|held| held.queue == *queue);
        let flying: usize = held.map(|held| held.tasks.len()).sum();
        let room = want.in_flight.map_or(want.tasks, |limit| limit.saturating_sub(flying));
        let now = Timestamp::now();
        let waiting = self.waiting.get_mut(queue)?;
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for (key, task) in waiting.iter().filter(|(_, task)| task.is_due(now)) {
            if keys.len() >= want.tasks.min(room) || bytes >= want.bytes {
                break;
            }
            bytes += task.payload.len();
            keys.push(*key);
        }
        let mut tasks = Vec::with_capacity(keys.len());
        let mut held = BTreeMap::new();
        for key in keys {
            let Some(task) = waiting.remove(&key) else { continue };
            tasks.push(ClaimedTask {
                id: key.1,
                attempt: task.attempt,
                payload: task.payload.clone(),
                history: task.history.clone(),
            });
            held.insert(key.1, task);
        }
        if tasks.is_empty() {
            return None;
        }
        self.last_claim += 1;
        let id = ClaimId(self.last_claim);
        let limited = want.in_flight.is_some();
        self.claims.insert(id, Held { owner, limited, queue: queue.clone(), tasks: held });
        Some(Claim { id, queue: queue.clone(), tasks })
    }

    fn record(&mut self, owner: i64, finished: &[Finished]) -> Vec<TaskId> {
        let died = Timestamp::now();
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
            let Some(mut task) = entry.get_mut().tasks.remove(&one.task) else { continue };
            let (queue, limited) = (entry.get().queue.clone(), entry.get().limited);
            if entry.get().tasks.is_empty() {
                entry.remove();
            }
            match &one.outcome {
                Outcome::Done => {}
                Outcome::Dead(death) => {
                    self.last_letter += 1;
                    let letter = DeadLetter {
                        letter: LetterId(self.last_letter),
                        id: one.task,
                        queue: queue.clone(),
                        payload: task.payload,
                        submitted: task.submitted,
                        died,
                        attempts: task.attempt,
                        death: death.clone(),
                    };
                    self.dead.insert(letter.letter, Dead { letter, priority: task.priority });
                }
                Outcome::Retry { after, history } => {
                    task.due = Some(Timestamp(died.0.saturating_add(micros(*after))));
                    task.attempt += 1;
                    task.history = history.clone();
                    self.put(&queue, one.task, task);
                }
                Outcome::Released => self.put(&queue, one.task, task),
            }
            if limited {
                // Whoever found the queue's limit reached may claim now.
                self.tell(BTreeSet::from([&queue]));
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
            for (id, task) in held.tasks {
                self.put(&held.queue, id, task);
            }
        }
        back
    }

    fn tell(&mut self, queues: BTreeSet<&QueueName>) {
        for queue in queues {
            // Whoever listens no more takes its watch away itself.
            self.watches.values().for_each(|wake| drop(wake.try_send(Wake::Queue(queue.clone()))));
        }
    }
}

impl Waiting {
    fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_none_or(|due| due <= now)
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
