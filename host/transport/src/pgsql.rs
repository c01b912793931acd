//! PostgreSQL: the original's table, so that old producers and consumers work beside us.
//!
//! A waiting task is a row of `asynctask.asynctask_queue`, with the original's columns. A claim
//! moves a whole batch out of it, under the original's advisory lock for the queue, into one row of
//! `asynctask.rex_claims` (arrays of ids, payloads, dates, attempts): out of old consumers' sight,
//! durable, and cheaper than a lease a row. What is finished is marked in that row's done-list; the
//! row goes with its last task.
//!
//! An owner is a row of `rex_owners` that beats, and a session advisory lock. A claim refers to its
//! owner's row, so taking an owner over is deleting that row: no claim can be made for it nor
//! finished by it afterwards, whatever its connection does (the fence). An owner that was taken
//! over registers again under a new number.
//!
//! `address.rs`, `tls.rs`, `connect.rs`: to the server. `session.rs`: one connection and its
//! statements. `schema.rs`, `additions.rs`: the tables. `tasks.rs`: submit and lists. `claims.rs`,
//! `finish.rs`: the road of a task. `owners.rs`: who lives. `watch.rs`: word of new tasks.

mod additions;
mod address;
mod claims;
mod connect;
mod failure;
mod finish;
mod locks;
mod owners;
mod schema;
mod session;
mod tasks;
mod tls;
mod types;
mod watch;

use std::collections::{BTreeSet, HashMap, HashSet};

use crossbeam_channel::Sender;

use crate::{
    Claim, ClaimId, DeadLetter, Finished, Kind, NewTask, Options, QueueName, QueueStatus, TaskId,
    Transport, TransportError, Uri, WaitingTask, Watch,
};
use address::Address;
use failure::Trouble;
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
    held: HashMap<ClaimId, HashSet<TaskId>>,
    /// Claims that were made by a call whose reply was lost.
    unreturned: Vec<(ClaimId, QueueName)>,
    /// Queues whose last claim got all that it asked for.
    plenty: HashSet<QueueName>,
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
            held: HashMap::new(),
            unreturned: Vec::new(),
            plenty: HashSet::new(),
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
        let mut session =
            Session::connect(&self.address, self.options.lock_timeout, self.owner_id.is_some())?;
        if !self.prepared {
            schema::prepare(&mut session, &self.address, self.owner_id.is_some())?;
        }
        if self.owner_id.is_some() {
            if !self.prepared && self.options.additions {
                additions::make(&mut session)?;
            }
            self.register(&mut session)?;
            if !self.prepared {
                session.refuse_pooling(&self.address)?;
            }
            self.read_held(&mut session)?;
        }
        self.prepared = true;
        Ok(session)
    }
}

impl Transport for Pgsql {
    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<TaskId>, TransportError> {
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

    fn dead_letters(
        &mut self,
        queue: Option<&QueueName>,
        limit: Option<u64>,
    ) -> Result<Vec<DeadLetter>, TransportError> {
        self.with_session(|_, session| tasks::dead_letters(session, queue, limit))
    }

    fn dead_details(&mut self, key: &str) -> Result<BTreeSet<String>, TransportError> {
        self.with_session(|_, session| tasks::dead_details(session, key))
    }

    fn claim(&mut self, queue: &QueueName, max: usize) -> Result<Option<Claim>, TransportError> {
        self.owner_or_refuse()?;
        self.with_session(|pgsql, session| pgsql.take(session, queue, max))
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.owner_or_refuse()?;
        self.with_session(|pgsql, session| pgsql.record(session, finished))
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.with_session(|pgsql, session| pgsql.take_back(session))
    }

    fn is_idle(&mut self, queue: &QueueName) -> Result<bool, TransportError> {
        self.with_session(|_, session| tasks::is_idle(session, queue))
    }

    fn watch(&self, wake: Sender<QueueName>) -> Result<Option<Watch>, TransportError> {
        watch::start(&self.address, wake).map(Some)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        if self.owner.is_some() {
            self.with_session(|pgsql, session| pgsql.unregister(session))?;
        }
        self.owner_id = None;
        self.session = None;
        Ok(())
    }

    fn label(&self) -> String {
        self.address.label.clone()
    }
}

impl Pgsql {
    fn owner_or_refuse(&self) -> Result<(), TransportError> {
        if self.owner_id.is_some() {
            return Ok(());
        }
        let text = "This transport was opened without an owner: it cannot claim";
        Err(TransportError::new(Kind::Invalid, text))
    }
}
