//! Connecting for several statements at once, and the original's error around libpq's words.

use std::sync::Arc;

use postgres::error::DbError;
use rex_pg::ConnectError;
use tokio::runtime::Runtime;
use tokio_postgres::Notification;

use super::address::Address;
use super::line::{Line, Quit};
use crate::{Kind, TransportError};

/// What an additive script would print ("already exists, skipping") is of no use here.
pub(super) fn tell(notice: &DbError) {
    tracing::debug!("PostgreSQL: {}", notice.message());
}

pub(super) fn line(address: &Address) -> Result<Line, TransportError> {
    Line::connect(&Line::runtime()?, &address.server, None, |_| {}).map_err(say)
}

/// A connection that tells `heard` what it listens to.
pub(super) fn listening(
    address: &Address,
    runtime: &Arc<Runtime>,
    quit: &Quit,
    heard: impl Fn(&Notification) + Send + 'static,
) -> Result<Line, TransportError> {
    Line::connect(runtime, &address.server, Some(quit.clone()), heard).map_err(say)
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
