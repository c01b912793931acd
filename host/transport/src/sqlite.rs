//! The embedded queue: one SQLite file, shared by the hosts of one machine.
//!
//! WAL with `synchronous=FULL`: what a call has returned survives `kill -9` and power loss. A
//! claimed task stays in its row and carries its claim's number, so taking back is one update; the
//! original's consumers do not read this file, nothing has to be moved out of their sight. Beside
//! `queue.db` stand `queue.db.owners/`, one locked file for each living owner, and
//! `queue.db.wake/`, one file for each queue, touched on every submit.
//!
//! `schema.rs` makes the tables, `tasks.rs` puts in and looks, `claims.rs` takes and finishes,
//! `dead.rs` keeps what failed, `schedules.rs` remembers what was due, `owners.rs` proves who lives,
//! `wake.rs` tells of new tasks, `failure.rs` words what went wrong.

mod claims;
mod dead;
mod failure;
mod owners;
mod schedules;
mod schema;
mod tasks;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::Sender;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::known::Known;
use crate::owner_file::Judge;
use crate::ownership::SHORTEST_LEASE;
use crate::{
    Attributes, Claim, ClaimId, DeadLetter, DeadQuery, Features, Finished, LetterId, NewTask,
    Options, QueueName, QueueStatus, Submitted, TaskId, Timestamp, Transport, TransportError, Uri,
    WaitingTask, Wake, Want, Watch,
};
use owners::Registered;
use wake::WakeFiles;

/// How long to wait for the file at least: many hosts and submitters take turns at it, each for no
/// longer than a commit takes. Less where an owner must show more often that it lives.
const BUSY: Duration = Duration::from_secs(10);

/// A queue in a SQLite file.
pub struct Sqlite {
    path: PathBuf,
    /// Which file that was when it was opened.
    inode: (u64, u64),
    db: Connection,
    wake: WakeFiles,
    /// Who claims here; `None` from the start or after `close`.
    owner_id: Option<String>,
    owner: Option<Registered>,
    judge: Judge,
    /// Claims that `claim` has returned and that are not finished.
    known: Known,
    /// Claims that others took over, to be told.
    taken: Vec<ClaimId>,
    /// Whether a claim may have been recorded without having been returned.
    doubt: bool,
    owner_timeout: Duration,
}

impl Sqlite {
    /// Opens `sqlite:PATH`, and makes the file if its directory exists.
    ///
    /// # Errors
    /// `Config` for an address without path or with options, `Refused` when the file cannot be
    /// used: each text names the file and the reason.
    pub fn open(uri: &Uri, options: &Options) -> Result<Sqlite, TransportError> {
        let (path, query) = uri.path()?;
        if let Some((name, _)) = query.first() {
            return Err(uri.bad(format!("unknown option {name}")));
        }
        // SQLite gives some names a meaning of their own.
        if path == ":memory:" || path.starts_with("file:") {
            return Err(uri.bad("not the path of a file"));
        }
        let path = std::path::absolute(&path).map_err(|error| uri.bad(error))?;
        if !options.create && !path.exists() {
            return Err(failure::text(&path, "it does not exist"));
        }
        let busy = BUSY.min(options.owner_timeout / 4).max(options.lock_timeout);
        let db = connect(&path, busy)?;
        // What lies beside the file is beside the one that SQLite has opened, whatever links lead to it.
        let path = path.canonicalize().unwrap_or(path);
        let inode = inode(&path).map_err(|error| failure::text(&path, &error.to_string()))?;
        let wake = WakeFiles::beside(&path);
        let mut queue = Sqlite {
            path,
            inode,
            db,
            wake,
            owner_id: options.owner.as_ref().map(|owner| owner.id.clone()),
            owner: None,
            judge: Judge::default(),
            known: Known::default(),
            taken: Vec::new(),
            doubt: false,
            owner_timeout: options.owner_timeout,
        };
        if queue.owner_id.is_some() {
            queue.owner()?;
        }
        Ok(queue)
    }

    /// A transaction that writes; waits for other writers up to the lock timeout.
    fn write(&mut self) -> Result<Transaction<'_>, TransportError> {
        self.check_place()?;
        let path = &self.path;
        self.db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failure::say(path, error))
    }

    /// Refuses a file that has no name any more: nobody else sees what is written there.
    fn check_place(&self) -> Result<(), TransportError> {
        let text = match inode(&self.path) {
            Ok(inode) if inode == self.inode => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => &error.to_string(),
            _ => "it was removed, or another one is in its place",
        };
        Err(failure::text(&self.path, text)
            .with_hint("put it back, or restart the host to work with what is there now"))
    }

    fn say(&self) -> impl Fn(rusqlite::Error) -> TransportError + use<> {
        let path = self.path.clone();
        move |error| failure::say(&path, error)
    }
}

impl Transport for Sqlite {
    fn features(&self) -> Features {
        Features::ALL
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.submit_all(tasks)
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.count_waiting(queue)
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.list_queues()
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        self.list_waiting(queue, limit)
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.delete_waiting(queue)
    }

    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        self.set_paused(queue, paused)
    }

    fn dead_details(&mut self, key: &str) -> Result<BTreeSet<String>, TransportError> {
        self.list_dead_details(key)
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        self.list_dead(query)
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.put_back_dead(letters)
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.delete_dead(letters)
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        self.delete_old_dead(age)
    }

    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        self.take(queue, want)
    }

    fn attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        self.read_attributes(claim)
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        self.time_to_due(queue)
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.record(finished)
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.take_back()
    }

    fn lease(&self) -> Duration {
        self.owner_timeout.max(SHORTEST_LEASE)
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        self.paused_queues()
    }

    fn taken_over(&mut self) -> Vec<ClaimId> {
        std::mem::take(&mut self.taken)
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        self.has_nothing(queue)
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        self.wake.watch(wake).map(Some)
    }

    fn last_occasion(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        self.last(schedule, since)
    }

    fn record_occasion(
        &mut self,
        schedule: &str,
        at: Timestamp,
        tasks: &[NewTask],
    ) -> Result<bool, TransportError> {
        self.record_due(schedule, at, tasks)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.unregister()
    }

    fn identity(&mut self) -> Result<String, TransportError> {
        let path = &self.path;
        let (device, number) =
            inode(path).map_err(|error| failure::text(path, &error.to_string()))?;
        Ok(format!("sqlite {device} {number}"))
    }

    fn label(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = path.metadata()?;
    Ok((file.dev(), file.ino()))
}

fn connect(path: &Path, lock_timeout: Duration) -> Result<Connection, TransportError> {
    let say = |error| failure::say(path, error);
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        return Err(failure::text(path, "its directory does not exist")
            .with_hint(format!("mkdir -p {}", directory.display())));
    }
    let is_new = !path.exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(say)?;
    db.busy_timeout(lock_timeout).map_err(say)?;
    db.set_prepared_statement_cache_capacity(64);
    schema::prepare(&mut db, path, lock_timeout)?;
    if is_new {
        // SQLite syncs the file, not the directory that names it.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failure::text(path, &error.to_string()))?;
    }
    Ok(db)
}
