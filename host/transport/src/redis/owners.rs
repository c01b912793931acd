//! Who lives. An owner is a lease that its host renews every second, and a connection that the
//! server names. Taken over is an owner whose process is provably dead (at once), that has no
//! connection for the grace, or that has not beaten for the timeout by the server's clock. Where
//! the connections may not be listed, only proof and timeout count.

use std::collections::HashSet;
use std::time::Instant;

use redis::{Connection, RedisError};
use serde::{Deserialize, Serialize};

use super::Redis;
use super::scripts::call;
use crate::TransportError;
use crate::known::Known;
use crate::process::Process;
use crate::random::random;
use crate::transport::not_an_owner;

/// Who an owner is, as its record has it behind the time of the last beat.
#[derive(Serialize, Deserialize)]
struct Card {
    id: String,
    machine: String,
    pid: i32,
    start: i64,
}

impl Redis {
    /// This owner's number; registers it if need be.
    pub(super) fn owner(&mut self) -> Result<i64, TransportError> {
        if let Some(owner) = self.owner {
            return Ok(owner);
        }
        let id = self.owner_id.clone().ok_or_else(not_an_owner)?;
        let Process { machine, pid, start } = Process::current();
        let card = serde_json::to_string(&Card { id, machine, pid, start }).unwrap_or_default();
        // Drawn, not counted: a server that has lost its data would count from one again, and two hosts
        // take each other's claims for their own.
        let owner = random();
        self.with_connection(|redis, connection| {
            redis.show(connection, owner)?;
            let mut register = call(&redis.scripts.register, &redis.address);
            register.arg(owner).arg(card).invoke::<()>(connection)
        })?;
        self.owner = Some(owner);
        Ok(owner)
    }

    /// After this owner was taken for dead: its claims are gone, it starts anew.
    pub(super) fn register_again(&mut self) -> Result<i64, TransportError> {
        self.owner = None;
        self.taken.extend(self.known.drain());
        self.doubt = false;
        self.owner()
    }

    /// Gives the connection the owner's name.
    pub(super) fn show(&self, connection: &mut Connection, owner: i64) -> Result<(), RedisError> {
        let name = self.address.connection_name(owner);
        let named = redis::cmd("CLIENT").arg("SETNAME").arg(name).query(connection);
        match named {
            // Not allowed to: then no one sees who is connected, see below.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            named => named,
        }
    }

    pub(super) fn take_back(&mut self) -> Result<u64, TransportError> {
        let mut beat = self.beat()?;
        if self.owner_id.is_some() && beat.first().is_none_or(|entered| entered != "1") {
            self.register_again()?;
            beat = self.beat()?;
        }
        let time: i64 = beat.get(1).and_then(|time| time.parse().ok()).unwrap_or(0);
        let others = beat.get(2..).unwrap_or_default().chunks_exact(2);
        if others.len() == 0 {
            self.absent.clear();
            return Ok(0);
        }
        let connected = self.connections()?;
        let mut absent = std::mem::take(&mut self.absent);
        let mut count = 0;
        for pair in others {
            let [owner, record] = pair else { continue };
            let Some(dead) = self.is_dead(owner, record, time, connected.as_ref(), &mut absent)
            else {
                continue;
            };
            if dead {
                count += self.take_over(owner, record)?;
            }
        }
        Ok(count)
    }

    /// Whether an owner is to be taken over; `None` for a record of somebody else's making.
    fn is_dead(
        &mut self,
        owner: &str,
        record: &str,
        time: i64,
        connected: Option<&HashSet<String>>,
        absent: &mut std::collections::BTreeMap<String, Instant>,
    ) -> Option<bool> {
        let (beaten, card) = record.split_once(' ')?;
        let silent = time.saturating_sub(beaten.parse::<i64>().ok()?);
        let silent = u128::try_from(silent).unwrap_or(0);
        if silent > self.options.owner_timeout.as_micros() {
            return Some(true);
        }
        let Card { machine, pid, start, .. } = serde_json::from_str(card).ok()?;
        if (Process { machine, pid, start }).is_provably_dead() {
            return Some(true);
        }
        let name = self.address.connection_name(owner.parse().ok()?);
        if connected.is_none_or(|connected| connected.contains(&name)) {
            return Some(false);
        }
        // A sign of life since the last look starts the grace anew.
        let since = absent.remove(record).unwrap_or_else(Instant::now);
        self.absent.insert(record.to_owned(), since);
        Some(since.elapsed() >= self.options.rescue_grace)
    }

    fn beat(&mut self) -> Result<Vec<String>, TransportError> {
        let owner = self.owner.map_or_else(String::new, |owner| owner.to_string());
        self.with_connection(|redis, connection| {
            call(&redis.scripts.beat, &redis.address).arg(owner).invoke(connection)
        })
    }

    /// The names of all connections; `None` where they may not be listed.
    fn connections(&mut self) -> Result<Option<HashSet<String>>, TransportError> {
        self.with_connection(|_, connection| {
            let listed: Result<String, RedisError> =
                redis::cmd("CLIENT").arg("LIST").query(connection);
            match listed {
                Err(error) if error.code() == Some("NOPERM") => Ok(None),
                Err(error) => Err(error),
                Ok(text) => {
                    let names = text.split([' ', '\n']).filter_map(|w| w.strip_prefix("name="));
                    Ok(Some(names.map(str::to_owned).collect()))
                }
            }
        })
    }

    fn take_over(&mut self, owner: &str, record: &str) -> Result<u64, TransportError> {
        let count: i64 = self.with_connection(|redis, connection| {
            let mut take_over = call(&redis.scripts.take_over, &redis.address);
            take_over.arg(owner).arg(record).invoke(connection)
        })?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    pub(super) fn unregister(&mut self) -> Result<(), TransportError> {
        if let Some(owner) = self.owner {
            self.take_over(&owner.to_string(), "")?;
        }
        self.owner = None;
        self.owner_id = None;
        self.known = Known::default();
        Ok(())
    }
}
