//! The state directory: the embedded queue, and for each instance a directory with its lock, control
//! socket and copies of plugins.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::shell::quote;

/// Where one instance keeps what it must not lose.
#[derive(Debug, Clone)]
pub struct State {
    pub dir: PathBuf,
    pub instance: String,
}

/// Held by the one host of an instance, for as long as it lives; the kernel frees it.
pub struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory `{0}` cannot be written")]
    Unwritable(PathBuf, #[source] std::io::Error),
    #[error(
        "host `{instance}` is already running on `{dir}`, process {pid}: stop it with `rex-host stop \
         --state {} --name {instance}`, or give this one another --name or --state",
        quote(Path::new(dir))
    )]
    Running { instance: String, dir: PathBuf, pid: String },
    #[error("`{0}` is no instance name: letters, digits, `-` and `_` only")]
    BadInstance(String),
}

impl StateError {
    pub fn hint(&self) -> Option<String> {
        match self {
            StateError::Unwritable(_, error) if error.kind() == ErrorKind::StorageFull => {
                Some("free some space on its disk".to_owned())
            }
            StateError::Unwritable(dir, _) => Some(format!(
                "let this user write `{}`, or choose another directory with --state",
                dir.display()
            )),
            StateError::Running { .. } | StateError::BadInstance(_) => None,
        }
    }
}

impl State {
    /// Names a place; touches nothing.
    ///
    /// # Errors
    /// When `instance` would not be a file's name.
    pub fn new(dir: &Path, instance: &str) -> Result<State, StateError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if instance.is_empty() || !instance.chars().all(good) {
            return Err(StateError::BadInstance(instance.to_owned()));
        }
        Ok(State { dir: dir.to_owned(), instance: instance.to_owned() })
    }

    /// The embedded queue, shared by the instances of this directory.
    pub fn queue(&self) -> PathBuf {
        self.dir.join("queue.db")
    }

    /// What belongs to one instance alone.
    pub fn own_dir(&self) -> PathBuf {
        self.dir.join(&self.instance)
    }

    pub fn control_socket(&self) -> PathBuf {
        self.own_dir().join("control.sock")
    }

    fn lock_file(&self) -> PathBuf {
        self.own_dir().join("pid")
    }

    /// Makes the directory, readable for its owner only: task payloads are in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<(), StateError> {
        let own = self.own_dir();
        if own.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(own);
        made.map_err(|error| StateError::Unwritable(self.dir.clone(), error))
    }

    /// Makes the embedded queue's file, readable for its owner only, in a directory that may be open
    /// to others.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_queue(&self) -> Result<(), StateError> {
        self.create()?;
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(self.queue());
        made.map(drop).map_err(|error| StateError::Unwritable(self.dir.clone(), error))
    }

    /// Whether a host of this instance runs: one that starts or ends may not listen yet, or any more.
    pub fn is_held(&self) -> bool {
        let locked = File::open(self.lock_file())
            .map(|file| flock(&file, FlockOperation::NonBlockingLockShared));
        matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
    }

    /// Waits until no host of this instance runs, be it in another namespace of processes.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn wait_until_free(&self) -> Result<(), StateError> {
        let seen = File::open(self.lock_file()).and_then(|file| {
            loop {
                match flock(&file, FlockOperation::LockShared) {
                    Err(Errno::INTR) => {}
                    locked => return Ok(locked?),
                }
            }
        });
        match seen {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StateError::Unwritable(self.dir.clone(), error))
            }
            _ => Ok(()),
        }
    }

    /// Becomes the one host of this instance. A killed one that has not let go of all that it had,
    /// since its disk is slow, say, is waited for.
    ///
    /// # Errors
    /// When another one runs, or the directory cannot be written.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let unwritable = |error| StateError::Unwritable(self.dir.clone(), error);
        self.create()?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.lock_file())
            .map_err(unwritable)?;
        let begun = Instant::now();
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // A lock file that cannot be read still says that somebody holds it.
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut pid));
            let waited = begun.elapsed();
            if waited > DYING || waited > LOOKED_AT && runs(pid.trim()) {
                let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() }.to_owned();
                let (instance, dir) = (self.instance.clone(), self.dir.clone());
                return Err(StateError::Running { instance, dir, pid });
            }
            thread::sleep(Duration::from_millis(10));
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unwritable)?;
        Ok(Lock { _file: file })
    }
}

/// For how long at most the lock may seem to be held because somebody looks whether it is.
const LOOKED_AT: Duration = Duration::from_millis(50);
/// How long a process may take from its death to the end of its last thread.
const DYING: Duration = Duration::from_secs(10);

/// Whether a process runs, as far as can be seen from here; a zombie does not, though threads of it
/// may still have its files.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let state = stat.as_deref().ok().and_then(|stat| stat.rsplit_once(") "));
    state.is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests;
