//! One connection to one database, and how it is cancelled from another thread.
//!
//! A connection belongs to the single-threaded runtime of its session; whoever awaits here also
//! drives the socket. Statements are sent with typed parameters in one round trip.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rex_htsql::plan::Statement;
use rex_pg::{Address, BadAddress, Connected, Wire};
use tokio_postgres::types::Type;
use tokio_postgres::{CancelToken, Client, NoTls, Row, RowStream};

use crate::driver;
use crate::params::{TextParam, param_type};

/// No connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("failed to read the address of the database")]
    Address(#[from] BadAddress),
    #[error("failed to connect to `{address}`: {reason}")]
    Connect { address: String, reason: String },
}

/// An open connection.
pub(crate) struct Connection {
    client: Client,
    address: Address,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

impl Connection {
    /// Connects, within the current runtime.
    pub(crate) async fn open(
        address: &Address,
        statement_timeout: Option<Duration>,
    ) -> Result<Connection, ConnectError> {
        let mut options = String::new();
        if let Some(timeout) = statement_timeout {
            // The server takes whole milliseconds, of which 0 would be no limit.
            let millis = timeout.as_millis().clamp(1, i32::MAX as u128);
            options.push_str(&format!("-c statement_timeout={millis} "));
        }
        options.push_str("-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex");
        options.push_str(" -c extra_float_digits=1");
        // A cursor here is read to its end, so its plan should be the one for all rows.
        options.push_str(" -c cursor_tuple_fraction=1.0");
        match address.with_options(&options).connect().await {
            Ok(Connected { client, wire, .. }) => {
                drive(wire);
                Ok(Connection { client, address: address.clone() })
            }
            Err(error) => {
                let (address, reason) = (address.to_string(), error.text);
                Err(ConnectError::Connect { address, reason })
            }
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement of a plan and streams its rows.
    pub(crate) async fn stream(
        &self,
        statement: &Statement,
    ) -> Result<RowStream, tokio_postgres::Error> {
        self.client.query_typed_raw(&statement.sql, bind(statement)).await
    }

    /// Runs one of this crate's own statements with text parameters of given types.
    pub(crate) async fn rows(
        &self,
        sql: &str,
        params: Vec<(TextParam, Type)>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        use futures_util::TryStreamExt as _;
        self.client.query_typed_raw(sql, params).await?.try_collect().await
    }

    /// Sends a statement ahead of the next one and does not wait: for savepoints, which cannot fail
    /// but where what is around them fails too.
    pub(crate) fn send(&self, sql: &str) {
        use futures_util::FutureExt as _;
        // The request goes out with the first poll; the driver drops an answer nobody awaits.
        let _answer = self.client.batch_execute(sql).now_or_never();
    }

    /// Runs statements without parameters and without an answer.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), rex_htsql::Error> {
        self.client.batch_execute(sql).await.map_err(|error| driver::error(&error, sql, 0))
    }
}

/// Moves bytes between the socket and whoever awaits an answer.
fn drive(mut wire: Wire) {
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| wire.poll_message(context)).await {
            if let Err(error) = message {
                tracing::debug!("connection to the database ended: {error}");
                return;
            }
        }
    });
}

/// The parameters of a statement, each with its type.
pub(crate) fn bind(statement: &Statement) -> Vec<(TextParam, Type)> {
    let bound =
        |param: &rex_htsql::plan::SqlParam| (TextParam::new(&param.value), param_type(param.ty));
    statement.params.iter().map(bound).collect()
}

/// Stops the statements that the connections of a session run; may be sent to any thread.
#[derive(Clone, Default)]
pub struct Canceller(Arc<Mutex<HashMap<usize, (CancelToken, Address)>>>);

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

impl Canceller {
    fn tokens(&self) -> MutexGuard<'_, HashMap<usize, (CancelToken, Address)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Knows the connection of a database from now on.
    pub(crate) fn add(&self, database: usize, connection: &Connection) {
        let token = connection.client.cancel_token();
        self.tokens().insert(database, (token, connection.address.clone()));
    }

    /// Asks the servers to stop; returns when they have been asked. A connection that runs nothing
    /// ignores it.
    ///
    /// # Errors
    /// A server could not be reached.
    pub fn cancel(&self) -> Result<(), ConnectError> {
        let tokens: Vec<(CancelToken, Address)> = self.tokens().values().cloned().collect();
        tokens.iter().map(|(token, address)| cancel(token, address)).fold(Ok(()), Result::and)
    }
}

fn cancel(token: &CancelToken, address: &Address) -> Result<(), ConnectError> {
    let failed = |reason: String| ConnectError::Connect { address: address.to_string(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime
        .block_on(rex_pg::within(address.connect_timeout(), async {
            // The token knows whether its connection has TLS; one that has could make a connector.
            match address.connector() {
                Ok(connector) => token.cancel_query(connector).await,
                Err(_) => token.cancel_query(NoTls).await,
            }
        }))
        .map_err(|error| failed(driver::text(&error, "", 0)))
}
