//! Redis: the original's lists, so that old producers and consumers work beside us.
//!
//! A waiting task is an element of the list `PREFIX_QUEUE`, its payload's text and nothing else. All
//! else is ours, under `PREFIX:rex:`, where old clients do not look: `meta:QUEUE` is a list beside
//! the queue's with each task's id, date, attempt and digest (what old clients push or pop without
//! it is noticed by the digest); `claim:N` holds the tasks of a claim; `dead` the dead letters. One
//! Lua script moves a batch from the list into a claim or records a batch of outcomes with their
//! submits, so each is done wholly or not at all. How durable that is, is the server's setting: with
//! `appendonly yes` and `appendfsync always` nothing is lost with the machine.
//!
//! An owner is a field of `owners` that beats, and a named connection. Redis has no locks that end
//! with their holder, so an owner without connection for the grace, or without a beat for the
//! timeout, is taken over; a claim names its owner's number, which is the fence.
//!
//! `address.rs`, `connect.rs`: to the server. `scripts.rs` and the Lua files: each step. `tasks.rs`:
//! submit and lists. `claims.rs`: take and finish. `owners.rs`: who lives. `schedules.rs`: what
//! the clock submitted. `watch.rs`: word of new tasks.

mod address;
mod claims;
mod connect;
mod owners;
mod schedules;
mod scripts;
mod tasks;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use redis::{Connection, RedisError};

use crate::known::Known;
use crate::ownership::SHORTEST_LEASE;
use crate::random::random;
use crate::{
    Claim, ClaimId, DeadLetter, DeadQuery, Features, Finished, LetterId, NewTask, Options,
    QueueName, QueueStatus, Submitted, TaskId, Timestamp, Transport, TransportError, Uri,
    WaitingTask, Wake, Want, Watch,
};
use address::Address;
use scripts::{Scripts, call};

/// A connection that was idle for so long is tried before it is used.
const IDLE: Duration = Duration::from_millis(500);

/// A store in Redis.
pub struct Redis {
    address: Address,
    options: Options,
    scripts: Scripts,
    connection: Option<Connection>,
    /// When it was last asked anything.
    used: Instant,
    /// Who claims here; `None` from the start or after `close`.
    owner_id: Option<String>,
    /// The owner's number while it is registered.
    owner: Option<i64>,
    /// Claims that `claim` has returned and that are not finished.
    known: Known,
    /// Claims that others were found to have taken over.
    taken: Vec<ClaimId>,
    /// Whether a claim may have been made whose reply was lost.
    doubt: bool,
    /// Other owners without a connection, and since when.
    absent: BTreeMap<String, Instant>,
    /// Queues that a list has left out, until `left_out` tells.
    left_out: BTreeMap<QueueName, String>,
}

impl Redis {
    /// Connects to `redis:…`.
    ///
    /// # Errors
    /// `Config` for an ill-formed address, `Unreachable` with the original's `Failed to connect to
    /// the Redis server:`, `Refused` where a login or rights are missing.
    pub fn open(uri: &Uri, options: &Options) -> Result<Redis, TransportError> {
        let mut redis = Redis {
            address: Address::resolve(uri)?,
            options: options.clone(),
            scripts: Scripts::new(),
            connection: None,
            used: Instant::now(),
            owner_id: options.owner.as_ref().map(|owner| owner.id.clone()),
            owner: None,
            known: Known::default(),
            taken: Vec::new(),
            doubt: false,
            absent: BTreeMap::new(),
            left_out: BTreeMap::new(),
        };
        redis.with_connection(|_, _| Ok(()))?;
        if redis.owner_id.is_some() {
            redis.owner()?;
        }
        Ok(redis)
    }

    /// Runs a piece of work on a connection, a new one if the last broke.
    fn with_connection<T>(
        &mut self,
        work: impl FnOnce(&mut Redis, &mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, TransportError> {
        let mut connection = match self.connection.take() {
            Some(connection) if self.used.elapsed() < IDLE => connection,
            // A server may end who says nothing for long: what is asked now is not to find that out.
            Some(mut connection) => match redis::cmd("PING").exec(&mut connection) {
                Err(error) if connect::is_away(&error) => self.connect()?,
                _ => connection,
            },
            None => self.connect()?,
        };
        self.used = Instant::now();
        match work(self, &mut connection) {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) => {
                if !connect::is_away(&error) {
                    self.connection = Some(connection);
                }
                Err(connect::say(&self.address, error))
            }
        }
    }

    fn connect(&mut self) -> Result<Connection, TransportError> {
        let mut connection = connect::connect(&self.address)?;
        if let Some(owner) = self.owner {
            self.show(&mut connection, owner)
                .map_err(|error| connect::say(&self.address, error))?;
        }
        Ok(connection)
    }
}

impl Transport for Redis {
    fn features(&self) -> Features {
        Features {
            delays: true,
            pause: true,
            in_flight: true,
            schedules: true,
            ..Features::default()
        }
    }

    fn submit(&mut self, tasks: &[NewTask]) -> Result<Vec<Submitted>, TransportError> {
        self.features().allow(&self.label(), tasks)?;
        self.add(tasks)
    }

    fn poll(&mut self, queue: &QueueName) -> Result<u64, TransportError> {
        self.count_waiting(queue)
    }

    fn queues(&mut self) -> Result<Vec<QueueStatus>, TransportError> {
        self.list_queues()
    }

    fn left_out(&mut self) -> BTreeMap<QueueName, String> {
        std::mem::take(&mut self.left_out)
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

    fn next_due(&mut self, queue: &QueueName) -> Result<Option<Duration>, TransportError> {
        self.time_to_next(queue)
    }

    fn finish(&mut self, finished: &[Finished]) -> Result<Vec<TaskId>, TransportError> {
        self.features().allow_outcomes(&self.label(), finished)?;
        self.record(finished)
    }

    fn rescue(&mut self) -> Result<u64, TransportError> {
        self.take_back()
    }

    fn lease(&self) -> Duration {
        self.options.rescue_grace.min(self.options.owner_timeout).max(SHORTEST_LEASE)
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
        watch::start(&self.address, wake).map(Some)
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
        self.features().allow(&self.label(), tasks)?;
        self.record_due(schedule, at, tasks)
    }

    fn close(&mut self) -> Result<(), TransportError> {
        self.unregister()?;
        self.connection = None;
        Ok(())
    }

    /// A key that is there for a minute.
    fn identity(&mut self) -> Result<String, TransportError> {
        let identity = format!("redis {}", random());
        let key = self.ours(&format!("mark:{identity}"));
        self.with_connection(|redis, connection| {
            call(&redis.scripts.mark, &redis.address).arg(key).invoke::<()>(connection)
        })?;
        Ok(identity)
    }

    fn is(&mut self, identity: &str) -> Result<bool, TransportError> {
        let key = self.ours(&format!("mark:{identity}"));
        self.with_connection(|_, connection| redis::cmd("EXISTS").arg(key).query(connection))
    }

    fn label(&self) -> String {
        self.address.label()
    }
}
