//! The connections to try, one after the other: every host, every address of its name, with and
//! without TLS as `sslmode` allows; and libpq's words for what went wrong.

use std::collections::VecDeque;
use std::error::Error as _;
use std::net::{IpAddr, ToSocketAddrs};

use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Address;
use crate::address::Host;
use crate::tls::Protection;

/// What to try next.
pub(crate) struct Attempt {
    pub(crate) config: Config,
    /// `None`: without TLS.
    pub(crate) connector: Option<MakeRustlsConnect>,
}

/// The attempts of one connection.
pub(crate) struct Attempts<'a> {
    address: &'a Address,
    left: VecDeque<Try<'a>>,
    current: Option<Try<'a>>,
    texts: Vec<String>,
    last: Option<Error>,
}

/// No connection could be made: a line of libpq's for every attempt.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ConnectError {
    pub text: String,
    /// The driver's error of the last attempt.
    pub source: Option<Error>,
}

impl ConnectError {
    /// Whether a person must act: wrong password, no such database, no rights.
    pub fn is_refusal(&self) -> bool {
        let code = self.source.as_ref().and_then(Error::code);
        code.is_some_and(|code| {
            code.code().starts_with("28")
                || code.code().starts_with("3D")
                || *code == SqlState::INSUFFICIENT_PRIVILEGE
        })
    }
}

struct Try<'a> {
    host: &'a Host,
    ip: Option<IpAddr>,
    place: String,
    way: SslMode,
}

impl Address {
    /// The attempts to connect. Names are looked up here, which blocks.
    pub(crate) fn attempts(&self) -> Attempts<'_> {
        let mut attempts = Attempts {
            address: self,
            left: VecDeque::new(),
            current: None,
            texts: Vec::new(),
            last: None,
        };
        for host in &self.hosts {
            attempts.add(host);
        }
        attempts
    }
}

impl<'a> Attempts<'a> {
    fn add(&mut self, host: &'a Host) {
        let Host { name, address, port } = host;
        if host.is_socket() {
            return self.add_ways(host, None, &format!("on socket \"{name}/.s.PGSQL.{port}\""));
        }
        if let Ok(ip) = name.parse::<IpAddr>() {
            return self.add_ways(host, Some(ip), &format!("at \"{name}\", port {port}"));
        }
        let found = match address {
            Some(ip) => vec![*ip],
            None => match (name.as_str(), *port).to_socket_addrs() {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(error) => {
                    let reason = error.to_string();
                    let reason =
                        reason.trim_start_matches("failed to lookup address information: ");
                    self.texts.push(format!(
                        "could not translate host name \"{name}\" to address: {reason}"
                    ));
                    return;
                }
            },
        };
        let mut known = Vec::new();
        for ip in found {
            if !known.contains(&ip) {
                known.push(ip);
                self.add_ways(host, Some(ip), &format!("at \"{name}\" ({ip}), port {port}"));
            }
        }
    }

    fn add_ways(&mut self, host: &'a Host, ip: Option<IpAddr>, place: &str) {
        let ways: &[SslMode] = match self.address.protection {
            // PostgreSQL knows no TLS on sockets; libpq passes over the setting there.
            _ if ip.is_none() => &[SslMode::Disable],
            Protection::Disable => &[SslMode::Disable],
            Protection::Allow => &[SslMode::Disable, SslMode::Require],
            Protection::Prefer => &[SslMode::Prefer, SslMode::Disable],
            Protection::Require | Protection::VerifyCa | Protection::VerifyFull => {
                &[SslMode::Require]
            }
        };
        self.left.extend(ways.iter().map(|way| Try {
            host,
            ip,
            place: place.to_owned(),
            way: *way,
        }));
    }

    /// The next attempt; its failure is to be told to [`Attempts::failed`].
    pub(crate) fn next(&mut self) -> Option<Attempt> {
        let next = self.left.pop_front()?;
        let connector = if next.way == SslMode::Disable {
            None
        } else {
            match self.address.connector() {
                Ok(connector) => Some(connector),
                Err(reason) => {
                    self.say(&next.place, &reason);
                    self.left.clear();
                    return None;
                }
            }
        };
        let mut config = self.address.config();
        config.host(&next.host.name).port(next.host.port).ssl_mode(next.way);
        if let Some(ip) = next.ip {
            config.hostaddr(ip);
        }
        self.current = Some(next);
        Some(Attempt { config, connector })
    }

    /// The attempt failed.
    pub(crate) fn failed(&mut self, error: Error) {
        let Some(tried) = self.current.take() else { return };
        let reason = reason(&error, self.address, tried.ip.is_none());
        self.say(&tried.place, &reason);
        // Another way to the same place helps where the server or the handshake refused this one.
        let refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            || error.to_string().starts_with("error performing TLS handshake");
        let starting = error.code() == Some(&SqlState::CANNOT_CONNECT_NOW);
        if error.as_db_error().is_some() && !starting {
            // The server has answered: that of another address would say the same.
            self.left.retain(|next| refused && next.place == tried.place);
        } else if !refused {
            self.left.retain(|next| next.place != tried.place);
        }
        self.last = Some(error);
    }

    /// Why there is no connection.
    pub(crate) fn into_error(self) -> ConnectError {
        let mut text = self.texts.join("\n");
        let lacks_password = text.contains("password");
        if let Some(trouble) = self.address.password_trouble.as_ref().filter(|_| lacks_password) {
            text.push_str(&format!("\n{trouble}"));
        }
        ConnectError { text, source: self.last }
    }

    fn say(&mut self, place: &str, reason: &str) {
        self.texts.push(format!("connection to server {place} failed: {reason}"));
    }
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
