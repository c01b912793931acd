//! PostgreSQL: the original's table, so that old producers and consumers work beside us.
//!
//! A waiting task is a row of `asynctask.asynctask_queue`, with the original's columns. A claim
//! moves a whole batch out of it, under the original's advisory lock for the queue, into one row of
//! `asynctask.rex_claims` (arrays of ids, payloads, dates, attempts): out of old consumers' sight,
//! durable, and cheaper than a lease a row. What is finished is marked in that row's done-list; the
//! row goes with its last task. Tasks with attributes (priority, delay, further attempts, a unique
//! key) wait in `rex_tasks`, where old consumers do not see them; a claim merges both.
//!
//! An owner is a row of `rex_owners` that beats, and a session advisory lock. A claim refers to its
//! owner's row, so taking an owner over is deleting that row: no claim can be made for it nor
//! finished by it afterwards, whatever its connection does (the fence). An owner that was taken
//! over registers again under a new number.
//!
//! `address.rs`, `connect.rs`: to the server. `line.rs`, `session.rs`: one connection
//! and its statements; `client.rs`: one for other tables. `schema.rs`, `additions.rs`: the tables. `tasks.rs`: submit and lists. `claims.rs`,
//! `marks.rs`, `finish.rs`, `dead.rs`: the road of a task. `schedules.rs`: what was due. `owners.rs`:
//! who lives. `watch.rs`: word of new tasks.

mod additions;
mod address;
mod claims;
mod client;
mod connect;
mod dead;
mod failure;
mod finish;
mod line;
mod locks;
mod marks;
mod owners;
mod schedules;
mod schema;
mod session;
mod tasks;
mod types;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::ownership::SHORTEST_LEASE;
use crate::random::random;
use crate::transport::not_an_owner;
use crate::{
    Attributes, Claim, ClaimId, DeadLetter, DeadQuery, Features, Finished, LetterId, NewTask,
    Options, QueueName, QueueStatus, Submitted, TaskId, Timestamp, Transport, TransportError, Uri,
    WaitingTask, Wake, Want, Watch,
};
use address::Address;
pub use client::{Client, Transaction, open};
use failure::Trouble;
use marks::Marks;
pub use schema::script;
use session::Session;

/// A store in PostgreSQL.
pub struct Pgsql {
    address: Address,
    options: Options,
    session: Option<Session>,
    /// Whether the tables have been seen to; once for each transport.
    prepared: bool,
    /// Who claims here; `None` from the start or after `close`.
    owner_id: Option<String>,
    /// The owner's number while it is registered.
    owner: Option<i64>,
    /// What this owner holds, as the claims' rows have it: nobody else changes them, unless all are
    /// taken. Read again after every reconnection.
    held: BTreeMap<ClaimId, Held>,
    /// Claims that were made by a call whose reply was lost.
    unreturned: Vec<(ClaimId, QueueName)>,
    /// Claims that others took over, to be told.
    taken: Vec<ClaimId>,
    marks: Marks,
}

/// A claim of this owner.
struct Held {
    queue: QueueName,
    /// Those that are not finished, ascending.
    tasks: Vec<TaskId>,
    /// Those that are unique.
    keyed: HashSet<TaskId>,
    /// Whether it was made under a limit of tasks in flight.
    is_limited: bool,
    /// Whether all of them go back to the original's table.
    is_plain: bool,
}

impl Pgsql {
    /// Connects to `pgsql:…`.
    ///
    /// # Errors
    /// `Config` for an ill-formed address or a transaction pooler in between, `Unreachable` with
    /// the original's `Failed to connect to the Postgres server:`, `Refused` where rights are
    /// missing.
    pub fn open(uri: &Uri, options: &Options) -> Result<Pgsql, TransportError> {
        let mut pgsql = Pgsql {
            address: Address::resolve(uri)?,
            options: options.clone(),
            session: None,
            prepared: false,
            owner_id: options.owner.as_ref().map(|owner| owner.id.clone()),
            owner: None,
            held: BTreeMap::new(),
            unreturned: Vec::new(),
            taken: Vec::new(),
            marks: Marks::default(),
        };
        pgsql.with_session(|_, _| Ok(()))?;
        Ok(pgsql)
    }

    /// Runs a piece of work on a connection, a new one if the last broke. A piece of work that
    /// fails is rolled back; one whose connection broke ended nobody knows how, and what the next
    /// connection reads decides.
    fn with_session<T>(
        &mut self,
        work: impl FnOnce(&mut Pgsql, &mut Session) -> Result<T, Trouble>,
    ) -> Result<T, TransportError> {
        let mut session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => self.connect().map_err(|trouble| trouble.say(&self.address.label))?,
        };
        match work(self, &mut session) {
            Ok(value) => {
                self.session = Some(session);
                Ok(value)
            }
            Err(trouble) => {
                if !trouble.ends_session() && session.roll_back().is_ok() {
                    self.session = Some(session);
                }
                Err(trouble.say(&self.address.label))
            }
        }
    }

    fn connect(&mut self) -> Result<Session, Trouble> {
        let (lock_timeout, claims) = (self.options.lock_timeout, self.owner_id.is_some());
        let mut session = Session::connect(&self.address, lock_timeout, claims, !self.prepared)?;
        if !self.prepared {
            schema::prepare(&mut session, &self.address, self.owner_id.is_some())?;
        }
        if self.owner_id.is_some() {
            if !self.prepared && self.options.additions {
                additions::make(&mut session)?;
            }
            self.register(&mut session)?;
            self.read_held(&mut session)?;
        }
        // It may be another server, or this one with what it had some time ago.
        self.marks.forget_all();
        self.prepared = true;
        Ok(session)
    }
}

impl Transport for Pgsql {
    fn features(&self) -> Features {
        Features::ALL
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.with_session(|_, session| tasks::submit(session, tasks))
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_session(|_, session| tasks::count(session, queue))
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.with_session(|_, session| tasks::queues(session))
    }

    fn peek(&mut self, queue: &QueueName, limit: u64) -> Result<Vec<WaitingTask>, TransportError> {
        self.with_session(|_, session| tasks::peek(session, queue, limit))
    }

    fn purge(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.with_session(|pgsql, session| tasks::purge(session, &pgsql.address, queue))
    }

    fn pause(&mut self, queue: &QueueName, paused: bool) -> Result<(), TransportError> {
        self.with_session(|pgsql, session| tasks::pause(session, &pgsql.address, queue, paused))
    }

    fn dead_details(&mut self, key: &str) -> Result<BTreeSet<String>, TransportError> {
        self.with_session(|_, session| dead::details(session, key))
    }

    fn dead_letters(&mut self, query: &DeadQuery) -> Result<Vec<DeadLetter>, TransportError> {
        self.with_session(|_, session| dead::list(session, query))
    }

    fn revive(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.with_session(|_, session| dead::revive(session, letters))
    }

    fn discard(&mut self, letters: &[LetterId]) -> Result<u64, TransportError> {
        self.with_session(|_, session| dead::discard(session, letters))
    }

    fn forget_dead(&mut self, age: Duration) -> Result<u64, TransportError> {
        self.with_session(|_, session| dead::forget(session, age))
    }

    fn claim(&mut self, queue: &QueueName, want: &Want) -> Result<Option<Claim>, TransportError> {
        self.owner_or_refuse()?;
        self.with_session(|pgsql, session| pgsql.take(session, queue, want))
    }

    fn attributes(
        &mut self,
        claim: ClaimId,
    ) -> Result<BTreeMap<TaskId, Attributes>, TransportError> {
        self.with_session(|_, session| claims::attributes(session, claim))
    }

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        self.with_session(|pgsql, session| {
            let look = pgsql.marks.look(queue, 0, Instant::now());
            tasks::next_due(session, queue, look.due())
        })
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.owner_or_refuse()?;
        self.with_session(|pgsql, session| pgsql.record(session, finished))
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.with_session(|pgsql, session| pgsql.take_back(session))
    }

    fn lease(&self) -> Duration {
        let patience = self.options.rescue_grace.min(self.options.owner_timeout);
        patience.max(SHORTEST_LEASE)
    }

    fn paused(&mut self) -> Result<BTreeSet<QueueName>, TransportError> {
        self.with_session(|_, session| tasks::paused(session))
    }

    fn taken_over(&mut self) -> Vec<ClaimId> {
        std::mem::take(&mut self.taken)
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        self.with_session(|_, session| tasks::is_idle(session, queue))
    }

    fn watch(&self, wake: Sender<Wake>) -> Result<Option<Watch>, TransportError> {
        watch::start(&self.address, wake).map(Some)
    }

    fn last_occasion(
        &mut self,
        schedule: &str,
        since: Timestamp,
    ) -> Result<Timestamp, TransportError> {
        self.with_session(|_, session| schedules::last(session, schedule, since))
    }

    fn record_occasion(
        &mut self,
        schedule: &str,
        at: Timestamp,
        tasks: &[NewTask],
    ) -> Result<bool, TransportError> {
        self.with_session(|_, session| schedules::record(session, schedule, at, tasks))
    }

    fn close(&mut self) -> Result<(), TransportError> {
        if self.owner.is_some() {
            self.with_session(|pgsql, session| pgsql.unregister(session))?;
        }
        self.owner_id = None;
        self.session = None;
        Ok(())
    }

    fn identity(&mut self) -> Result<String, TransportError> {
        let number = random();
        self.with_session(|_, session| locks::mark(session, number))?;
        Ok(format!("pgsql {number}"))
    }

    fn is(&mut self, identity: &str) -> Result<bool, TransportError> {
        let number = identity.strip_prefix("pgsql ").and_then(|number| number.parse().ok());
        let Some(number) = number else { return Ok(false) };
        self.with_session(|_, session| locks::is_marked(session, number))
    }

    fn label(&self) -> String {
        self.address.label.clone()
    }
}

impl Pgsql {
    /// What this owner held is others' now.
    fn forget_claims(&mut self) {
        self.taken.extend(std::mem::take(&mut self.held).into_keys());
        self.unreturned.clear();
    }

    fn owner_or_refuse(&self) -> Result<(), TransportError> {
        if self.owner_id.is_some() {
            return Ok(());
        }
        Err(not_an_owner())
    }
}
