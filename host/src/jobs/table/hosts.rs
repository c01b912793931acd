//! Whether the host of a run lives. It holds the advisory lock of its number on connections that it
//! makes again when they break: one whose lock is free may be about to do so, and is taken for dead only
//! when the lock has been free for the grace, by the rule for owners of queues.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rex_transport::ownership::{Patience, Sighting, Verdict, judge};
use rex_transport::pgsql::{Client, Transaction};

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    /// Its lock is free, though not for long.
    Unsure,
    Dead,
}

/// What was seen of hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// How long a lock may be free.
    grace: Duration,
    /// Since when locks are, as far as was seen.
    missing: HashMap<i64, Instant>,
}

impl Hosts {
    pub(super) fn new(grace: Duration) -> Hosts {
        Hosts { grace, missing: HashMap::new() }
    }

    pub(super) fn look(
        &mut self,
        transaction: &Transaction<'_>,
        host: i64,
    ) -> Result<Life, postgres::Error> {
        /// `$1` key. Looks, and does not try: of two who do, one would find it taken by the other.
        const HELD: &str = "
SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND mode = 'ShareLock'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (classid::bigint << 32 | objid::bigint) = {key}
    ),
    (extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1e6)::bigint";
        let row = transaction.query_one(&HELD.replace("{key}", &key("$1")), &[&host])?;
        let up = u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        let seen = Sighting {
            provably_dead: false,
            holds_lock: row.get(0),
            silent_for: Duration::ZERO,
            missing_for: self.missing.get(&host).map(Instant::elapsed),
            store_up_for: Duration::from_micros(up),
        };
        let patience = Patience { grace: self.grace, owner_timeout: Duration::MAX };
        let verdict = judge(&seen, &patience);
        if seen.holds_lock {
            self.missing.remove(&host);
            return Ok(Life::Lives);
        }
        Ok(match verdict {
            Verdict::Dead => Life::Dead,
            Verdict::Lives => Life::Unsure,
            Verdict::Missing => {
                self.missing.insert(host, Instant::now());
                Life::Unsure
            }
        })
    }
}

/// Has this connection say that the host lives. Shared: several connections do, and what is left of one
/// that broke does not hold up the next.
pub(in crate::jobs) fn hold(client: &Client, host: i64) -> Result<(), postgres::Error> {
    let lock = format!("SELECT pg_advisory_lock_shared({})", key("$1"));
    client.execute(&lock, &[&host]).map(|_| ())
}

/// Of the lock of the host of this number.
fn key(number: &str) -> String {
    format!("hashtextextended('rex job host', {number})")
}
