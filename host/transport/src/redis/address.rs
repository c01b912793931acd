//! Where the server is: `redis://[USER:PASSWORD@]HOST[:PORT][?db=&key_prefix=]` or
//! `redis:///PATH/OF/SOCKET`. The original knew no login; any path makes it a socket, as there.

use std::path::PathBuf;

use crate::{QueueName, TransportError, Uri};

/// All that is needed to connect; holds the password, so it has no `Debug`.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: i64,
    pub(super) prefix: String,
}

#[derive(Clone)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

impl Address {
    pub(super) fn resolve(uri: &Uri) -> Result<Address, TransportError> {
        let parts = uri.network()?;
        let place = match parts.database {
            Some(path) => Place::Socket(PathBuf::from(format!("/{path}"))),
            None => Place::Tcp {
                host: parts.host.ok_or_else(|| uri.bad("the host is missing"))?,
                port: parts.port.unwrap_or(6379),
            },
        };
        let mut address = Address {
            place,
            user: parts.user,
            password: parts.password,
            db: 0,
            prefix: "asynctask".to_owned(),
        };
        for (name, value) in parts.query {
            match name.as_str() {
                "db" => {
                    address.db = value.parse().map_err(|_| uri.bad("db is not a number"))?;
                }
                "key_prefix" => {
                    let prefix = QueueName::parse(&value).map_err(|_| {
                        uri.bad(format!("\"{value}\" is not a properly-formatted key prefix"))
                    })?;
                    address.prefix = prefix.as_str().to_owned();
                }
                _ => return Err(uri.bad(format!("unknown option {name}"))),
            }
        }
        Ok(address)
    }

    /// The original's repr.
    pub(super) fn label(&self) -> String {
        let place = match &self.place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Socket(path) => path.display().to_string(),
        };
        format!("RedisAsyncTransport({place})")
    }

    /// The channel on which producers of ours tell of new tasks.
    pub(super) fn channel(&self) -> String {
        format!("{}:rex:wake@{}", self.prefix, self.db)
    }

    /// The name of an owner's connection: that it is there shows that the owner lives.
    pub(super) fn connection_name(&self, owner: i64) -> String {
        format!("rex-{}-{}-{owner}", self.prefix, self.db)
    }
}
