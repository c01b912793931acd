//! Connecting, each attempt within its time: a server, or a proxy in front of one, may take a connection
//! and never say a word.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio_postgres::tls::{MakeTlsConnect, NoTlsStream};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::attempts::Attempt;
use crate::{Address, ConnectError};

/// A connection, and what is to move its bytes.
#[expect(missing_debug_implementations, reason = "the wire has none")]
pub struct Connected {
    pub client: Client,
    pub wire: Wire,
    /// Until when the attempt may take, with what is asked first; `None`: beyond what clocks can tell.
    pub until: Option<Instant>,
}

/// The driver's connection, with TLS or without.
#[expect(missing_debug_implementations, reason = "the driver's stream has none")]
pub struct Wire(Way);

enum Way {
    Plain(Box<Connection<Socket, NoTlsStream>>),
    Protected(Box<Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>>),
}

impl Wire {
    /// Moves bytes; `None` when the client is gone.
    pub fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, Error>>> {
        match &mut self.0 {
            Way::Plain(connection) => connection.poll_message(context),
            Way::Protected(connection) => connection.poll_message(context),
        }
    }
}

impl Address {
    /// The first connection that can be made, within the current runtime. As with libpq, each place that
    /// is tried has the time of `connect_timeout`: from the socket to the end of the authentication.
    ///
    /// # Errors
    /// What libpq would have said.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        let mut attempts = self.attempts();
        while let Some(attempt) = attempts.next() {
            let until = Instant::now().checked_add(self.connect_timeout);
            match within(self.connect_timeout, connect(attempt)).await {
                Ok((client, wire)) => return Ok(Connected { client, wire, until }),
                Err(error) => attempts.failed(error),
            }
        }
        Err(attempts.into_error())
    }

    /// How long an attempt to connect may take.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

async fn connect(Attempt { config, connector }: Attempt) -> Result<(Client, Wire), Error> {
    Ok(match connector {
        Some(connector) => {
            let (client, connection) = config.connect(connector).await?;
            (client, Wire(Way::Protected(Box::new(connection))))
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            (client, Wire(Way::Plain(Box::new(connection))))
        }
    })
}

/// Gives up after that time.
///
/// # Errors
/// Those of `work`, and [`timed_out`].
pub async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_late| Err(timed_out()))
}

/// That a server did not answer in time.
pub fn timed_out() -> Error {
    // The driver has no other way to make an error; its blocking half does it so, too.
    Error::__private_api_timeout()
}
