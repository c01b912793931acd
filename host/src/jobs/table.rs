//! The table of jobs: one connection, and all SQL that reads or changes a row.

mod hosts;
mod rows;
mod runs;
mod upkeep;

use std::error::Error as _;
use std::time::Duration;

use postgres::error::SqlState;
use rex_db::Address;
use rex_transport::pgsql::{self, Client};
use rex_transport::{Kind, TransportError};

use hosts::Hosts;
pub(super) use hosts::hold;
pub use rows::{Cancelled, Filter, NewJob, Row};
pub use runs::{Ending, Known, Orphan, Start};
pub use upkeep::Queued;

/// What the host adds to the original's table; deployed by the project `rex.job`, too.
const ADDITIONS: &str = include_str!("../../../settings/rex.job.additions.sql");

/// A connection to the database of the table, made when it is needed.
pub struct Table {
    address: Address,
    client: Option<Client>,
    /// The number under which runs of this host are known; others see by its lock that it lives.
    host: Option<i64>,
    /// What was seen of others.
    hosts: Hosts,
    /// How long to wait for a lock that another program holds.
    patience: Duration,
    /// What the connection was told of that.
    told: Duration,
}

/// How long is waited for a lock by whoever may wait,
const PATIENCE: Duration = Duration::from_secs(5);
/// by whoever works for many jobs: what is locked for longer holds up one of them,
pub const BRIEFLY: Duration = Duration::from_millis(50);
/// and by whoever has found something locked already.
pub const NOT_AT_ALL: Duration = Duration::from_millis(1);

/// What cannot be done with the table now.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct TableError {
    text: String,
    pub hint: Option<&'static str>,
    /// The server cannot be reached: worth a retry.
    pub away: bool,
    /// Another program has a row or the table locked: worth a retry of this alone.
    pub locked: bool,
    /// The server answers, and lets nobody in until a person acts.
    refused: bool,
}

impl TableError {
    /// Whether it is over by itself some time.
    pub fn passes(&self) -> bool {
        self.locked || self.away && !self.refused
    }

    /// A job that cannot be started yet, as if somebody had its row locked.
    pub fn full(limit: u32) -> TableError {
        let text = format!("{limit} of its type are queued or run, and no more may be");
        TableError { text, hint: None, away: false, locked: true, refused: false }
    }

    /// A job that cannot be started yet, for somebody may be at it.
    pub fn unsure() -> TableError {
        let text = "the host that runs it lost its connection, and may be back soon".to_owned();
        TableError { text, hint: None, away: false, locked: true, refused: false }
    }
}

impl From<TableError> for TransportError {
    fn from(error: TableError) -> TransportError {
        let kind = if error.away { Kind::Unreachable } else { Kind::Refused };
        let said = TransportError::new(kind, error.text);
        match error.hint {
            Some(hint) => said.with_hint(hint),
            None => said,
        }
    }
}

impl Table {
    /// A host whose lock is free for longer than `grace` is taken for dead.
    pub fn new(address: Address, grace: Duration) -> Table {
        let hosts = Hosts::new(grace);
        Table { address, client: None, host: None, hosts, patience: PATIENCE, told: PATIENCE }
    }

    /// Runs of jobs are this connection's, and those of the watch.
    pub fn for_runs(self) -> Table {
        Table { host: Some(random()), ..self }
    }

    /// How long to wait for a lock from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The number under which its runs are known.
    pub fn host(&self) -> Option<i64> {
        self.host
    }

    /// Whether it can be worked with; makes what is missing.
    ///
    /// # Errors
    /// When there is no table, or no right to add to it.
    pub fn prepare(&mut self) -> Result<(), TableError> {
        match self.is_complete()? {
            true => Ok(()),
            false => self.with(|client| client.batch_execute(ADDITIONS)),
        }
    }

    /// Whether it has what hosts add to it.
    ///
    /// # Errors
    /// When there is no table.
    pub fn is_complete(&mut self) -> Result<bool, TableError> {
        let there = self.with(|client| {
            let there =
                "SELECT to_regclass('job') IS NOT NULL, to_regclass('rex_job_log') IS NOT NULL";
            let row = client.query_one(there, &[])?;
            Ok((row.get::<_, bool>(0), row.get::<_, bool>(1)))
        })?;
        match there {
            (false, _) => Err(TableError {
                text: format!("there is no table of jobs in {}", self.address),
                hint: Some("`rex-host deploy --project NAME` makes it"),
                away: false,
                locked: false,
                refused: false,
            }),
            (true, is_complete) => Ok(is_complete),
        }
    }

    /// Refuses a proxy that gives this connection to others: runs of jobs are a connection's.
    ///
    /// # Errors
    /// When there is such a proxy, or no connection.
    pub fn refuse_pooling(&mut self) -> Result<(), TableError> {
        let mut second = connect(&self.address)?;
        let address = self.address.clone();
        let pooled = self.with(|client| {
            let before = backend(client)?;
            let transaction = second.transaction()?;
            let meanwhile = backend(&transaction)?;
            rex_db::is_pooled(before, meanwhile, || backend(client))
        })?;
        match pooled {
            true => Err(TableError {
                text: rex_db::pooled(&address.to_string(), "A host's hold on its jobs"),
                hint: Some(rex_db::POOLED),
                away: false,
                locked: false,
                refused: true,
            }),
            false => Ok(()),
        }
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>,
    ) -> Result<T, TableError> {
        let mut client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.connect()?,
        };
        let mut result = Ok(());
        if self.told != self.patience {
            result = client.batch_execute(&waiting(self.patience));
            self.told = self.patience;
        }
        let result = result.and_then(|()| work(&mut client));
        if !client.is_closed() {
            self.client = Some(client);
        }
        result.map_err(|error| say(&error, &self.address))
    }

    /// As [`Table::with`], where it matters whether a host lives.
    fn with_hosts<T>(
        &mut self,
        work: impl FnOnce(&mut Client, &mut Hosts) -> Result<T, postgres::Error>,
    ) -> Result<T, TableError> {
        let mut hosts = std::mem::take(&mut self.hosts);
        let result = self.with(|client| work(client, &mut hosts));
        self.hosts = hosts;
        result
    }

    fn connect(&mut self) -> Result<Client, TableError> {
        let mut client = connect(&self.address)?;
        // A role's own defaults must not change what is meant here, nor how dates are shown. Who
        // hangs in a transaction keeps no other host from its work for ever.
        let settings = format!(
            "SET default_transaction_isolation = 'read committed';
            SET datestyle = 'ISO';
            SET idle_in_transaction_session_timeout = '10s';
            {};
            {}",
            rex_db::STAY,
            waiting(self.patience)
        );
        self.told = self.patience;
        client.batch_execute(&settings).map_err(|error| say(&error, &self.address))?;
        if let Some(host) = self.host {
            // Here, too: it is held before the first run is entered.
            hold(&client, host).map_err(|error| say(&error, &self.address))?;
        }
        client.settle();
        Ok(client)
    }
}

/// The number of the server process that answers.
fn backend(client: &Client) -> Result<i64, postgres::Error> {
    let row = client.query_one("SELECT pg_backend_pid()", &[])?;
    Ok(row.get::<_, i32>(0).into())
}

/// Says how long to wait for a lock.
pub fn waiting(patience: Duration) -> String {
    format!("SET lock_timeout = {}", patience.as_millis().max(1))
}

const CANCELLED: &str = "
UPDATE job SET status = 'failed', status_detail = 'Cancelled', date_completed = clock_timestamp()
WHERE id = $1";

/// Tells hosts from each other.
fn random() -> i64 {
    let mut bytes = [0; 8];
    // Early in a machine's life there may be no randomness yet: the clock does.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(8) {
        return crate::page::monotonic_ns().cast_signed();
    }
    i64::from_le_bytes(bytes)
}

pub(super) fn say(error: &postgres::Error, address: &Address) -> TableError {
    let hint = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Some(
            "grant it to this role, as README's section on jobs lists; what a host adds to the \
                table, its owner adds with `rex-host deploy --project rex.job`",
        ),
        _ => None,
    };
    let locked = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    let locked = error.code().is_some_and(|code| locked.contains(code));
    let (away, text) = match error.as_db_error() {
        Some(error) => (error.code().code().starts_with("57P0"), error.message().to_owned()),
        None => (true, rex_db::cause(error.source().unwrap_or(error))),
    };
    let holder = if locked { "another program has locked what is needed: " } else { "" };
    TableError {
        text: format!("{holder}{text} (the table of jobs in {address})"),
        hint,
        away,
        locked,
        refused: false,
    }
}

/// A connection that is to be settled.
pub(super) fn connect(address: &Address) -> Result<Client, TableError> {
    pgsql::open(address).map_err(|error| {
        let text = format!("cannot connect to {address}: {}", error.text);
        TableError { text, hint: None, away: true, locked: false, refused: error.is_refusal() }
    })
}
