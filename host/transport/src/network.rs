//! Why a server cannot be reached, with the system's error number, which drivers do not keep: found
//! by trying once more.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a server may take to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Trouble {
    /// `errno`, or for a name that cannot be resolved `EAI_…`, which is negative.
    pub(crate) number: Option<i32>,
    /// The system's text alone: `Connection refused`.
    pub(crate) text: String,
}

impl Trouble {
    pub(crate) fn of(error: &io::Error) -> Trouble {
        Trouble { number: error.raw_os_error(), text: plain(error) }
    }
}

/// `None` when something answers there.
pub(crate) fn trouble(host: &str, port: u16) -> Option<Trouble> {
    let resolved = match (host, port).to_socket_addrs() {
        Ok(resolved) => resolved,
        Err(error) => {
            let text = plain(&error);
            let text = text.rsplit(": ").next().unwrap_or(&text).to_owned();
            let number = match text.as_str() {
                "Temporary failure in name resolution" => -3,
                "No address associated with hostname" => -5,
                _ => -2,
            };
            return Some(Trouble { number: Some(number), text });
        }
    };
    let mut last = None;
    for at in resolved {
        match TcpStream::connect_timeout(&at, TIMEOUT) {
            Ok(_) => return None,
            Err(error) => last = Some(Trouble::of(&error)),
        }
    }
    last
}

fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
