//! Connecting with the blocking driver, and the original's error around libpq's words.

use postgres::error::SqlState;
use postgres::{Client, Config, Error, NoTls};

use super::address::Address;
use crate::{Kind, TransportError};

/// Opens a connection.
///
/// # Errors
/// What libpq would have said.
pub fn open(server: &rex_pg::Address) -> Result<Client, rex_pg::ConnectError> {
    let mut attempts = server.attempts();
    while let Some(attempt) = attempts.next() {
        let mut config = Config::from(attempt.config);
        // What an additive script would print ("already exists, skipping") is of no use here.
        config.notice_callback(|notice| tracing::debug!("PostgreSQL: {}", notice.message()));
        let connected = match attempt.connector {
            Some(connector) => config.connect(connector),
            None => config.connect(NoTls),
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) => attempts.failed(error),
        }
    }
    Err(attempts.into_error())
}

pub(super) fn connect(address: &Address) -> Result<Client, TransportError> {
    let error = match open(&address.server) {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    let kind = match error.source.as_ref().and_then(Error::code) {
        // Wrong password, no such database, no rights: a person must act.
        Some(code) if code.code().starts_with("28") || code.code().starts_with("3D") => {
            Kind::Refused
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Kind::Refused,
        _ => Kind::Unreachable,
    };
    let indented: Vec<String> = error
        .text
        .lines()
        .map(|line| if line.is_empty() { String::new() } else { format!("    {line}") })
        .collect();
    let text = format!("Failed to connect to the Postgres server:\n{}", indented.join("\n"));
    let said = TransportError::new(kind, text);
    Err(match error.source {
        Some(error) => said.with_source(error),
        None => said,
    })
}
