//! The address of a queue in PostgreSQL: that of its database, and what is the original's own.

use rex_pg::Params;

use crate::{TransportError, Uri};

/// All that is needed to connect and to lock.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) server: rex_pg::Address,
    /// First key of the original's advisory locks.
    pub(super) master_lock: i32,
    /// The original's repr: `PostgresAsyncTransport(localhost/db)`.
    pub(super) label: String,
}

/// The original's default.
pub(super) const MASTER_LOCK: i32 = 1_234_567_890;

impl Address {
    /// The URI is read in the original's way, where a lone word behind the slashes is a database.
    pub(super) fn resolve(uri: &Uri) -> Result<Address, TransportError> {
        let (mut params, shown) = params(uri)?;
        let master_lock = match params.take("master_lock_id") {
            Some(text) => {
                text.parse().map_err(|_| uri.bad("master_lock_id is not a 32-bit integer"))?
            }
            None => MASTER_LOCK,
        };
        let server = rex_pg::Address::resolve(params).map_err(|error| uri.bad(error))?;
        let label = format!("PostgresAsyncTransport({shown}/{})", server.database());
        Ok(Address { server, master_lock, label })
    }
}

/// What a URI says, and the host that the label shows.
fn params(uri: &Uri) -> Result<(Params, String), TransportError> {
    let authority = uri.rest().strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
    if let Some(hosts) = authority.filter(|authority| authority.contains(',')) {
        // Several hosts are libpq's way; the original knows one.
        let params = Params::parse(uri.raw()).map_err(|error| uri.bad(error))?;
        let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
        return Ok((params, hosts.to_owned()));
    }
    let parts = uri.server()?;
    let mut params = Params::default();
    for (name, value) in &parts.query {
        params.add(name, value);
    }
    let port = parts.port.map(|port| port.to_string());
    let shown = parts.host.clone().unwrap_or_else(|| "localhost".to_owned());
    for (name, part) in [
        ("host", parts.host),
        ("port", port),
        ("user", parts.user),
        ("password", parts.password),
        ("dbname", parts.database),
    ] {
        if let Some(part) = part {
            params.add(name, part);
        }
    }
    Ok((params, shown))
}

#[cfg(test)]
mod tests;
