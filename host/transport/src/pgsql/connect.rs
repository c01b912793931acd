//! Connecting: every address of the host in turn, with and without TLS as `sslmode` allows, and
//! libpq's words for what went wrong.

use std::error::Error as _;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::{Client, Config, Error, NoTls};

use super::address::Address;
use super::tls::{self, Protection};
use crate::{Kind, TransportError};

/// A dead peer is noticed within about 15 seconds, also while nothing is sent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// What failed, in libpq's words, and whether the server itself said no.
struct Failed {
    text: String,
    error: Option<Error>,
}

pub(super) fn connect(address: &Address) -> Result<Client, TransportError> {
    try_all(address).map_err(|failed| {
        let kind = match failed.error.as_ref().and_then(Error::code) {
            // Wrong password, no such database, no rights: a person must act.
            Some(code) if code.code().starts_with("28") || code.code().starts_with("3D") => {
                Kind::Refused
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Kind::Refused,
            _ => Kind::Unreachable,
        };
        let payload: Vec<String> = failed
            .text
            .lines()
            .map(|line| if line.is_empty() { String::new() } else { format!("    {line}") })
            .collect();
        let text = format!("Failed to connect to the Postgres server:\n{}", payload.join("\n"));
        let said = TransportError::new(kind, text);
        match failed.error {
            Some(error) => said.with_source(error),
            None => said,
        }
    })
}

fn try_all(address: &Address) -> Result<Client, Failed> {
    if address.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        return try_one(address, None, &format!("on socket \"{path}\""));
    }
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        let place = format!("at \"{}\", port {}", address.host, address.port);
        return try_one(address, Some(ip), &place);
    }
    let addresses = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| {
        let reason = error.to_string();
        let reason = reason.trim_start_matches("failed to lookup address information: ");
        Failed {
            text: format!(
                "could not translate host name \"{}\" to address: {reason}",
                address.host
            ),
            error: None,
        }
    })?;
    let mut texts = Vec::new();
    let mut last = None;
    let mut tried = Vec::new();
    for ip in addresses.map(|address| address.ip()) {
        if tried.contains(&ip) {
            continue;
        }
        tried.push(ip);
        let place = format!("at \"{}\" ({ip}), port {}", address.host, address.port);
        match try_one(address, Some(ip), &place) {
            Ok(client) => return Ok(client),
            Err(failed) => {
                let answered = failed.error.as_ref().is_some_and(|e| e.as_db_error().is_some());
                texts.push(failed.text);
                last = failed.error;
                if answered {
                    break;
                }
            }
        }
    }
    Err(Failed { text: texts.join("\n"), error: last })
}

/// One address, with the one or two ways that `sslmode` allows.
fn try_one(address: &Address, ip: Option<IpAddr>, place: &str) -> Result<Client, Failed> {
    let ways: &[SslMode] = match address.protection {
        // PostgreSQL knows no TLS on sockets; libpq passes over the setting there.
        _ if ip.is_none() => &[SslMode::Disable],
        Protection::Disable => &[SslMode::Disable],
        Protection::Allow => &[SslMode::Disable, SslMode::Require],
        Protection::Prefer => &[SslMode::Prefer, SslMode::Disable],
        Protection::Require | Protection::VerifyCa | Protection::VerifyFull => &[SslMode::Require],
    };
    let mut texts = Vec::new();
    let mut last = None;
    for way in ways {
        let config = config(address, ip, *way);
        let attempt = if *way == SslMode::Disable {
            config.connect(NoTls)
        } else {
            let connector =
                tls::connector(address.protection, &address.tls).map_err(|reason| Failed {
                    text: format!("connection to server {place} failed: {reason}"),
                    error: None,
                })?;
            config.connect(connector)
        };
        let error = match attempt {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let reason = reason(&error, address, ip.is_none());
        texts.push(format!("connection to server {place} failed: {reason}"));
        // Another way helps where the server or the handshake refused this one.
        let refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            || error.to_string().starts_with("error performing TLS handshake");
        last = Some(error);
        if !refused {
            break;
        }
    }
    Err(Failed { text: texts.join("\n"), error: last })
}

fn config(address: &Address, ip: Option<IpAddr>, way: SslMode) -> Config {
    let mut config = Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .user(&address.user)
        .dbname(&address.database)
        .application_name(&address.application)
        .connect_timeout(address.connect_timeout)
        .ssl_mode(way)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(UNACKNOWLEDGED)
        // What an additive script would print ("already exists, skipping") is of no use here.
        .notice_callback(|notice| tracing::debug!("PostgreSQL: {}", notice.message()));
    if let Some(ip) = ip {
        config.hostaddr(ip);
    }
    if let Some(password) = &address.password {
        config.password(password);
    }
    if let Some(options) = &address.options {
        config.options(options);
    }
    config
}

fn reason(error: &Error, address: &Address, is_socket: bool) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}:  {}", error.severity(), error.message());
    }
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    let reason = match reason.split_once(" (os error ") {
        Some((reason, _)) => reason.to_owned(),
        None => reason,
    };
    match reason.as_str() {
        "Connection refused" | "No such file or directory" if is_socket => format!(
            "{reason}\n\tIs the server running locally and accepting connections on that socket?"
        ),
        "Connection refused" => format!(
            "{reason}\n\tIs the server running on that host and accepting TCP/IP connections?"
        ),
        "password missing" => "fe_sendauth: no password supplied".to_owned(),
        "connection timed out" | "timeout waiting for server" => "timeout expired".to_owned(),
        "server does not support TLS" => {
            "server does not support SSL, but SSL was required".to_owned()
        }
        _ => {
            // A driver's text should never repeat the password; make sure.
            match &address.password {
                Some(password) if !password.is_empty() => reason.replace(password.as_str(), "***"),
                _ => reason,
            }
        }
    }
}
