//! Connections, and what Redis's errors mean to a host: is the server away, or does it refuse.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError};
use rustix::io::Errno;

use super::address::{Address, Place};
use crate::network::{self, Trouble};
use crate::{Kind, TransportError};

/// A script over a large batch may take a while; a server that says nothing for so long is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn connect(address: &Address) -> Result<Connection, TransportError> {
    let place = match &address.place {
        Place::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Place::Socket(path) => ConnectionAddr::Unix(path.clone()),
    };
    let failed = |error: RedisError| failed(address, error);
    let info = place.into_connection_info().map_err(failed)?;
    let mut login = info.redis_settings().clone().set_db(address.db);
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password);
    }
    let client = Client::open(info.set_redis_settings(login)).map_err(failed)?;
    let mut connection = client.get_connection_with_timeout(network::TIMEOUT).map_err(failed)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    connection.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    match redis::cmd("PING").query::<()>(&mut connection) {
        // One that cannot save refuses even this; what may be asked of it, it says each time.
        Err(error) if error.code() != Some("MISCONF") => Err(failed(error)),
        _ => Ok(connection),
    }
}

/// Whether nobody knows how the last command ended, or the server is about to be of use again.
pub(super) fn is_away(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(
            error.code(),
            Some("LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN")
        )
        || matches!(error.kind(), ErrorKind::Parse)
}

/// Within a script a key that the user may not use has no code of its own.
fn lacks_rights(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
        || error.to_string().contains("can't access at least one of the keys")
}

/// Whether it is for what is under a key, or whose it is, that a queue cannot be used.
pub(super) fn is_of_a_key(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || lacks_rights(error)
}

pub(super) fn is_gone(error: &RedisError) -> bool {
    error.code() == Some("REXGONE")
}

pub(super) fn say(address: &Address, error: RedisError) -> TransportError {
    let (head, kind) = if is_away(&error) {
        ("Lost the connection to the Redis server:", Kind::Unreachable)
    } else if is_of_a_key(&error) {
        ("The Redis server refused:", Kind::Invalid)
    } else {
        ("The Redis server refused:", Kind::Refused)
    };
    let hint = match error.code() {
        Some("OOM") => {
            Some("the server is at its maxmemory: hosts work off what is there, or give it more")
        }
        Some("MISCONF") => Some("the server cannot write its data to disk; see its log"),
        Some("READONLY") => Some("this server is a replica; connect to the primary"),
        _ if lacks_rights(&error) => {
            Some("the user lacks rights on the keys of this prefix, or on scripts")
        }
        Some("WRONGTYPE" | "REXKEYS") => {
            Some("another program uses the key; remove it, or set key_prefix")
        }
        Some("CROSSSLOT" | "MOVED") => Some("a Redis Cluster cannot be used; use a single server"),
        _ => None,
    };
    let text = format!("{head}\n    {}\nOn:\n    {}", worded(&error), address.label());
    let said = TransportError::new(kind, text).with_source(error);
    match hint {
        Some(hint) => said.with_hint(hint),
        None => said,
    }
}

/// A failure to connect, in the words of the original's client.
fn failed(address: &Address, error: RedisError) -> TransportError {
    let (kind, reason) = if error.is_timeout() {
        let timeout = Trouble::of(&Errno::TIMEDOUT.into());
        (Kind::Unreachable, connecting(address, timeout).unwrap_or_else(|| worded(&error)))
    } else if error.is_io_error() {
        (Kind::Unreachable, reason(address).unwrap_or_else(|| worded(&error)))
    } else if is_away(&error) {
        (Kind::Unreachable, worded(&error))
    } else {
        (Kind::Refused, worded(&error))
    };
    let refused = kind == Kind::Refused;
    let said =
        TransportError::new(kind, format!("Failed to connect to the Redis server:\n    {reason}"))
            .with_source(error);
    match refused {
        true if reason.contains("DB index") => {
            said.with_hint("name a database that the server has, as in ?db=0")
        }
        true => said.with_hint("check the user and the password, and that it is a Redis server"),
        false => said,
    }
}

/// Why the server cannot be reached.
fn reason(address: &Address) -> Option<String> {
    let trouble = match &address.place {
        Place::Socket(path) => Trouble::of(&UnixStream::connect(path).err()?),
        Place::Tcp { host, port } => network::trouble(host, *port)?,
    };
    connecting(address, trouble)
}

fn connecting(address: &Address, Trouble { number, text }: Trouble) -> Option<String> {
    let at = match &address.place {
        Place::Socket(path) => format!("unix socket: {}", path.display()),
        Place::Tcp { host, port } => format!("{host}:{port}"),
    };
    Some(format!("Error {} connecting to {at}. {text}.", number?))
}

pub(super) fn worded(error: &RedisError) -> String {
    match error.is_timeout() {
        true => "no answer in time".to_owned(),
        false => error.to_string().trim_end().replace('\n', "\n    "),
    }
}
