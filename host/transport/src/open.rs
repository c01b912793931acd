//! From an address to a transport: which schemes there are, and how any of them may be told to
//! behave.

use std::time::Duration;

use crate::{Transport, TransportError, Uri, amqp, filesys, localmem, pgsql, redis, sqlite};

/// Who claims. Without one a transport submits, lists and purges only.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Names the host in the store: `HOSTNAME:PID:START` or the like; unique per process start.
    pub id: String,
}

/// How a transport behaves, apart from where it is.
#[derive(Debug, Clone)]
pub struct Options {
    pub owner: Option<Owner>,
    /// How long a claim whose owner's lock is free is left alone (the owner may be reconnecting).
    pub rescue_grace: Duration,
    /// How long an owner that holds its lock may go without a sign of life.
    pub owner_timeout: Duration,
    /// How long to wait for a lock that an old consumer or another process holds.
    pub lock_timeout: Duration,
    /// Whether schema additions (index, notify trigger) may be made to the original's table.
    pub additions: bool,
    /// Whether a queue file that is not there is made. Who only looks does not want one.
    pub create: bool,
    /// Whether there is nothing else to do than to wait while a queue is locked: without it `claim`
    /// returns none, and `finish` holds outcomes back, where that takes long.
    pub patient: bool,
    /// Whether whoever waits for a queue's lock has others to see to: then it is for no longer than where
    /// nothing is said of that, even if the address says for ever.
    pub bounded: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            owner: None,
            rescue_grace: Duration::from_secs(2),
            owner_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(1),
            additions: true,
            create: true,
            patient: false,
            bounded: false,
        }
    }
}

/// Connects to the store that `uri` names, makes its tables if they are missing, and registers the
/// owner if there is one.
///
/// # Errors
/// `Config` for an address that no transport knows or that is ill-formed, else what the kind of
/// store has to say.
pub fn open(uri: &Uri, options: &Options) -> Result<Box<dyn Transport>, TransportError> {
    match uri.scheme() {
        scheme if rex_pg::is_postgresql(scheme) => Ok(Box::new(pgsql::Pgsql::open(uri, options)?)),
        "sqlite" => Ok(Box::new(sqlite::Sqlite::open(uri, options)?)),
        "redis" => Ok(Box::new(redis::Redis::open(uri, options)?)),
        "amqp" => Ok(Box::new(amqp::Amqp::open(uri, options)?)),
        "filesys" => Ok(Box::new(filesys::FileSys::open(uri, options)?)),
        "localmem" => Ok(Box::new(localmem::LocalMem::open(uri, options)?)),
        _ => Err(uri.unknown()),
    }
}
