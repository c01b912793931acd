//! From a URI to a transport.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Kind, Transport, TransportError};

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
    /// How long to wait for a lock that an old consumer holds.
    pub lock_timeout: Duration,
    /// Whether schema additions (index, notify trigger) may be made to the original's table.
    pub additions: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            owner: None,
            rescue_grace: Duration::from_secs(2),
            owner_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(5),
            additions: true,
        }
    }
}

/// A transport's address. `Display` masks passwords; the raw text is only handed to drivers.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    text: String,
}
