//! Connecting, with the blocking driver or for several statements at once, and the original's error
//! around libpq's words.

use std::sync::Arc;

use postgres::error::DbError;
use postgres::{Client, Config, Error, NoTls};
use rex_pg::{Attempt, ConnectError};
use tokio::runtime::Runtime;
use tokio_postgres::Notification;

use super::address::Address;
use super::line::Line;
use crate::{Kind, TransportError};

/// Opens a connection.
///
/// # Errors
/// What libpq would have said.
pub fn open(server: &rex_pg::Address) -> Result<Client, ConnectError> {
    attempt(server, |attempt| {
        let mut config = Config::from(attempt.config);
        config.notice_callback(|notice| tell(&notice));
        match attempt.connector {
            Some(connector) => config.connect(connector),
            None => config.connect(NoTls),
        }
    })
}

/// What an additive script would print ("already exists, skipping") is of no use here.
pub(super) fn tell(notice: &DbError) {
    tracing::debug!("PostgreSQL: {}", notice.message());
}

/// The first connection that can be made.
fn attempt<C>(
    server: &rex_pg::Address,
    connect: impl Fn(Attempt) -> Result<C, Error>,
) -> Result<C, ConnectError> {
    let mut attempts = server.attempts();
    while let Some(attempt) = attempts.next() {
        match connect(attempt) {
            Ok(connection) => return Ok(connection),
            Err(error) => attempts.failed(error),
        }
    }
    Err(attempts.into_error())
}

pub(super) fn line(address: &Address) -> Result<Line, TransportError> {
    listening(address, &Line::runtime()?, |_| {})
}

/// A connection that tells `heard` what it listens to.
pub(super) fn listening(
    address: &Address,
    runtime: &Arc<Runtime>,
    heard: impl Fn(&Notification) + Clone + Send + 'static,
) -> Result<Line, TransportError> {
    let connect = |attempt| Line::connect(runtime, attempt, heard.clone());
    attempt(&address.server, connect).map_err(say)
}

fn say(error: ConnectError) -> TransportError {
    let kind = if error.is_refusal() { Kind::Refused } else { Kind::Unreachable };
    let indented: Vec<String> = error
        .text
        .lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("    {line}") })
        .collect();
    let text = format!("Failed to connect to the Postgres server:\n{}", indented.join("\n"));
    let said = TransportError::new(kind, text);
    match error.source {
        Some(error) => said.with_source(error),
        None => said,
    }
}
