//! A blocking client for tables of others than the queue's, such as that of jobs: as the driver's own,
//! but that connecting ends in time.

use std::ops::Deref;
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{Error, Row, SimpleQueryMessage};
use rex_pg::{Address, ConnectError};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::line::Line;

/// One connection.
#[expect(missing_debug_implementations, reason = "the driver's client has none")]
pub struct Client {
    line: Line,
    /// The payloads of notifications.
    heard: UnboundedReceiver<String>,
}

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Opens a connection. Until [`Client::settle`] its time to connect is also for what is asked.
///
/// # Errors
/// What libpq would have said.
pub fn open(server: &Address) -> Result<Client, ConnectError> {
    let runtime =
        Line::runtime().map_err(|error| ConnectError { text: error.to_string(), source: None })?;
    let (tell, heard) = unbounded_channel();
    let line = Line::connect(&runtime, server, None, move |notification| {
        // The client may be gone.
        let _ = tell.send(notification.payload().to_owned());
    })?;
    Ok(Client { line, heard })
}

#[expect(clippy::missing_errors_doc, reason = "all fail as the driver does")]
impl Client {
    /// The connection is made: from now on answers may take any time.
    pub fn settle(&mut self) {
        self.line.settle();
    }

    pub fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    pub fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
        self.line.wait(|client| client.query(sql, values))
    }

    pub fn query_one(&self, sql: &str, values: Values<'_>) -> Result<Row, Error> {
        self.line.wait(|client| client.query_one(sql, values))
    }

    pub fn query_opt(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Error> {
        self.line.wait(|client| client.query_opt(sql, values))
    }

    pub fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, Error> {
        self.line.wait(|client| client.execute(sql, values))
    }

    pub fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.line.wait(|client| client.batch_execute(sql))
    }

    pub fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.line.wait(|client| client.simple_query(sql))
    }

    /// Begins a transaction, which is rolled back unless it is committed.
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.batch_execute("BEGIN")?;
        Ok(Transaction { client: self, is_over: false })
    }

    /// The payload of the next notification; `None` when there is none so long, or the connection breaks.
    pub fn hear(&mut self, patience: Duration) -> Option<String> {
        let Client { line, heard } = self;
        // With the connection goes who tells.
        line.listen_for(async { timeout(patience, heard.recv()).await.ok().flatten() })
    }
}

/// A transaction of a [`Client`].
#[expect(missing_debug_implementations, reason = "the driver's client has none")]
pub struct Transaction<'a> {
    client: &'a Client,
    is_over: bool,
}

impl Transaction<'_> {
    /// # Errors
    /// The driver's.
    pub fn commit(mut self) -> Result<(), Error> {
        self.is_over = true;
        self.client.batch_execute("COMMIT")
    }
}

impl Deref for Transaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // Where the connection is broken, the server does so.
            let _ = self.client.batch_execute("ROLLBACK");
        }
    }
}
