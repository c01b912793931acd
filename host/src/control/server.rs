//! The listening side of the control socket.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::{Answer, Call, Request};

/// Longest request line that is read.
const LONGEST: u64 = 64 * 1024;

/// Listens on `socket`, which is made anew: whoever calls this holds the state directory's lock, so
/// that an old file can only be left over.
///
/// # Errors
/// When the socket cannot be made: the path is too long for one, or the directory not writable.
pub fn serve(socket: &Path) -> io::Result<Receiver<Call>> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = super::near(socket, |path| UnixListener::bind(path))?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let (calls, inbox) = crossbeam_channel::unbounded();
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let calls = calls.clone();
            let started = std::thread::Builder::new()
                .name("control-call".to_owned())
                .spawn(move || converse(stream, &calls));
            if let Err(error) = started {
                tracing::warn!("cannot take a request: {error}");
            }
        }
    })?;
    Ok(inbox)
}

fn converse(mut stream: UnixStream, calls: &Sender<Call>) {
    if let Err(error) = answer(&mut stream, calls) {
        tracing::debug!("a request was not answered: {error}");
    }
}

fn answer(stream: &mut UnixStream, calls: &Sender<Call>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LONGEST)).read_line(&mut line)?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Err(error) => Answer::Refused { reason: format!("no request: {error}") },
        Ok(request) => {
            let (reply, answers) = crossbeam_channel::bounded(1);
            let _ = calls.send(Call { request, reply });
            let gone = Answer::Refused { reason: "the host is gone".to_owned() };
            answers.recv().unwrap_or(gone)
        }
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}
