//! How operators' commands reach a running host: one JSON line each way over a socket in the state
//! directory, which only the host's user can open.

mod server;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use server::serve;

/// What can be asked of a running host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// Read settings and plugins anew; with `check`, only say what would change.
    Reload {
        check: bool,
    },
    /// Drain and end; with `now`, kill what does not end at once.
    Stop {
        now: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Status {
        status: Value,
    },
    Done {
        lines: Vec<String>,
    },
    /// It is in force, but for what cannot be started: there what served before goes on.
    Partly {
        lines: Vec<String>,
        failed: Vec<String>,
    },
    Refused {
        reason: String,
    },
}

/// A request on its way to the host's loop.
pub struct Call {
    pub request: Request,
    pub reply: Sender<Answer>,
}

/// Uses a socket's path by way of its directory, since the kernel takes only short ones.
fn near<T>(socket: &Path, open: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return open(socket);
    };
    let dir = File::open(dir)?;
    open(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// Asks the host that listens on `socket`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when no host is there, `WouldBlock` when it does not answer.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = near(socket, |path| UnixStream::connect(path))?;
    // Reading plugins anew takes its time; the rest is answered at once or not at all.
    let patience = if matches!(request, Request::Reload { .. }) { 300 } else { 10 };
    stream.set_read_timeout(Some(Duration::from_secs(patience)))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the host ended before it answered",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}
