//! Queues as directories: the original's files, so that old producers and consumers share them.
//!
//! A waiting task is `DIR/QUEUE/NUMBER`, a JSON object around its payload; `.index` says which
//! numbers wait, `.lock` is locked (`flock`) by whoever changes any of them. All else is ours, in
//! `DIR/.rex`, where the original does not look because no queue can be named so: a claim is a
//! directory into which the task files are renamed, a dead letter a file. A task's id is the time at
//! which its file was last changed, so old producers' tasks have one as well and it survives every
//! renaming.
//!
//! Every file is written beside its place, synced and renamed. A change of several steps leaves a
//! mark while it lasts; whoever finds the mark under the lock counts the files anew, so that a crash
//! in the middle loses nothing. Owners prove that they live by a locked file, as for `sqlite:`.
//!
//! `safely.rs`: what is opened and made beside others. `disk.rs`: files, written and locked.
//! `index.rs`: which numbers wait. `task_file.rs`: what a task file says. `queue.rs`: one queue under
//! its lock. `submit.rs`: new tasks. `claims.rs`: take and finish. `locked.rs`:
//! who waits for its lock. `lists.rs`: looks. `owners.rs`: who lives. `watch.rs`: word of new tasks.

mod claims;
mod disk;
mod index;
mod lists;
mod locked;
mod owners;
mod queue;
mod safely;
mod submit;
mod task_file;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::owner_file::{Judge, OwnerFile};
use crate::ownership::SHORTEST_LEASE;
use crate::{
    Claim, ClaimId, DeadLetter, DeadQuery, Features, Finished, LetterId, NewTask, Options,
    QueueName, QueueStatus, Submitted, TaskId, Transport, TransportError, Uri, WaitingTask, Wake,
    Want, Watch,
};
use lists::LeftOut;
use locked::Locked;
use owners::Registered;

/// How long to wait for a queue's lock at least: many hosts and submitters take turns at it, each for
/// no longer than a few files are synced.
const BUSY: Duration = Duration::from_secs(5);

/// A store in a directory.
pub struct FileSys {
    place: Place,
    /// Who claims here; `None` from the start or after `close`.
    owner_id: Option<String>,
    owner: Option<Registered>,
    /// Claims that `claim` has returned and that are not finished: their queue and directory.
    held: HashMap<ClaimId, (QueueName, PathBuf)>,
    /// Queues of which only so many tasks may be in flight, as the last claim said.
    limited: BTreeSet<QueueName>,
    /// Claims that were found taken over, until `taken_over` tells.
    taken: Vec<ClaimId>,
    /// Whether a claim may have been made without having been returned.
    doubt: bool,
    judge: Judge,
    locked: Locked,
    /// Tasks whose outcomes wait for a lock, until `held_back` tells.
    held_back: Vec<TaskId>,
    /// Queues that cannot be used, of which that was said.
    unusable: BTreeSet<QueueName>,
    /// Queues that looks have left out, until `left_out` tells.
    left_out: BTreeMap<QueueName, String>,
    owner_timeout: Duration,
}

/// Where the files are and how they are made.
#[derive(Clone)]
struct Place {
    root: PathBuf,
    file_mode: u32,
    /// How long to wait for a queue's lock; `None` for ever.
    lock_timeout: Option<Duration>,
    /// Who waits for a queue's lock, which a stopped host may hold, is still alive and says so.
    owner: Weak<OwnerFile>,
}

impl FileSys {
    /// Opens `filesys:/DIR[?lock_timeout=SECONDS&file_mode=0600]`.
    ///
    /// # Errors
    /// `Config` for an ill-formed address, `Refused` when the directory is missing or not ours to
    /// use.
    pub fn open(uri: &Uri, options: &Options) -> Result<FileSys, TransportError> {
        let (path, query) = uri.path()?;
        let root = std::path::absolute(&path).map_err(|error| uri.bad(error))?;
        let lock_timeout = Some(options.lock_timeout.max(BUSY));
        let mut place = Place { root, file_mode: 0o600, lock_timeout, owner: Weak::new() };
        for (name, value) in query {
            match name.as_str() {
                "lock_timeout" => {
                    let seconds: i64 =
                        value.parse().map_err(|_| uri.bad("lock_timeout is not a number"))?;
                    // A negative one waits for ever, as for the original.
                    place.lock_timeout = u64::try_from(seconds).ok().map(Duration::from_secs);
                }
                "file_mode" => {
                    place.file_mode = u32::from_str_radix(&value, 8)
                        .ok()
                        .filter(|mode| *mode <= 0o777)
                        .ok_or_else(|| uri.bad("file_mode is not an octal mode"))?;
                }
                _ => return Err(uri.bad(format!("unknown option {name}"))),
            }
        }
        if options.bounded {
            place.lock_timeout = place.lock_timeout.map(|timeout| timeout.min(BUSY)).or(Some(BUSY));
        }
        disk::check(&place)?;
        let mut files = FileSys {
            place,
            owner_id: options.owner.as_ref().map(|owner| owner.id.clone()),
            owner: None,
            held: HashMap::new(),
            limited: BTreeSet::new(),
            taken: Vec::new(),
            doubt: false,
            judge: Judge::default(),
            locked: Locked::new(options.patient),
            held_back: Vec::new(),
            unusable: BTreeSet::new(),
            left_out: BTreeMap::new(),
            owner_timeout: options.owner_timeout,
        };
        if files.owner_id.is_some() {
            files.owner()?;
        }
        Ok(files)
    }
}

impl FileSys {
    /// Before a look: what a crash has cut off would be nowhere.
    fn mend(&self) {
        // Who only looks may have no right to do so.
        let _mended = queue::mend_all(&self.place);
    }

    /// Removes dead letters and counts them; `refused` has the queues of which some cannot be removed.
    fn remove_dead(
        &self,
        refused: &mut LeftOut,
        chosen: impl Fn(LetterId) -> bool,
    ) -> Result<u64, TransportError> {
        let mut count = 0;
        for dead in lists::dead(&self.place, None, &mut LeftOut::new())? {
            if chosen(dead.letter) {
                match disk::remove(&self.place, &dead.path) {
                    Err(error) if disk::is_of_the_place(&error) => {
                        refused.insert(dead.queue, error);
                    }
                    removed => count += u64::from(removed?),
                }
            }
        }
        Ok(count)
    }

    /// Keeps what a look has left out for whoever asks.
    fn note(&mut self, left_out: LeftOut) {
        let lines = left_out.into_iter().map(|(name, error)| (name, error.line()));
        self.left_out.extend(lines);
    }
}

impl Place {
    /// The queue's directory, which the original uses.
    fn queue(&self, queue: &QueueName) -> PathBuf {
        self.root.join(queue.as_str())
    }

    fn ours(&self) -> PathBuf {
        self.root.join(".rex")
    }

    /// Leaves a sign of life, if this is an owner's.
    fn beat(&self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.beat();
        }
    }

    /// What is ours of a queue: claims, dead letters, files not yet complete.
    fn ours_of(&self, queue: &QueueName) -> PathBuf {
        self.ours().join("queues").join(queue.as_str())
    }
}

impl Transport for FileSys {
    fn features(&self) -> Features {
        Features { delays: true, pause: true, in_flight: true, ..Features::default() }
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.features().allow(&self.label(), tasks)?;
        submit::submit(&self.place, tasks)
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        lists::count(&self.place, queue)
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.mend();
        let mut left_out = LeftOut::new();
        let queues = lists::queues(&self.place, &mut left_out);
        self.note(left_out);
        queues
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        self.mend();
        lists::peek(&self.place, queue, limit)
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        if !self.place.queue(queue).is_dir() {
            return Ok(0);
        }
        queue::Queue::lock(&self.place, queue)?.purge()
    }

    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        queue::Queue::lock(&self.place, queue)?.pause(paused)
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        let mut left_out = LeftOut::new();
        let letters = lists::dead_letters(&self.place, query, &mut left_out);
        self.note(left_out);
        letters
    }

    fn left_out(&mut self) -> BTreeMap<QueueName, String> {
        std::mem::take(&mut self.left_out)
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let wanted: HashSet<&LetterId> = letters.iter().collect();
        let mut of_queue: BTreeMap<QueueName, Vec<lists::Dead>> = BTreeMap::new();
        for dead in lists::dead(&self.place, None, &mut LeftOut::new())? {
            if wanted.contains(&dead.letter) {
                of_queue.entry(dead.queue.clone()).or_default().push(dead);
            }
        }
        let mut count = 0;
        for (name, letters) in of_queue {
            count += queue::Queue::lock(&self.place, &name)?.revive(&letters)?;
        }
        Ok(count)
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        let wanted: HashSet<&LetterId> = letters.iter().collect();
        let mut refused = LeftOut::new();
        let count = self.remove_dead(&mut refused, |letter| wanted.contains(&letter))?;
        refused.into_values().next().map_or(Ok(count), Err)
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let before = task_file::now_nanos().saturating_sub(age);
        // Those of a queue that is not ours are its owner's to remove.
        self.remove_dead(&mut LeftOut::new(), |letter| letter.0 < before)
    }

    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        self.take(queue, want)
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        lists::next_due(&self.place, queue)
    }

    fn submits_first(&self) -> bool {
        true
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.features().allow_outcomes(&self.label(), finished)?;
        self.record(finished)
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.take_back()
    }

    fn lease(&self) -> Duration {
        self.owner_timeout.max(SHORTEST_LEASE)
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        let names = lists::names(&self.place)?.into_iter();
        Ok(names.filter(|name| lists::is_paused(&self.place, name)).collect())
    }

    fn held_back(&mut self) -> Vec<TaskId> {
        std::mem::take(&mut self.held_back)
    }

    fn taken_over(&mut self) -> Vec<ClaimId> {
        std::mem::take(&mut self.taken)
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        // In this order: a task goes from the queue into a claim.
        let nothing =
            lists::is_paused(&self.place, queue) || lists::count(&self.place, queue)? == 0;
        Ok(nothing && lists::in_flight(&self.place, queue)?.is_none())
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        watch::start(&self.place, wake).map(Some)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.unregister()
    }

    fn identity(&mut self) -> Result<String, TransportError> {
        let root = self.place.root.metadata().map_err(disk::failed(&self.place.root))?;
        Ok(format!("filesys {} {}", root.dev(), root.ino()))
    }

    fn label(&self) -> String {
        "FileSysAsyncTransport".to_owned()
    }
}
