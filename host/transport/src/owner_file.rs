//! The file by which an owner proves that it lives, where a store has no server to ask: the owner
//! keeps it locked (`flock`) for as long as its process lives; the kernel frees the lock with the
//! process, whatever ended it. A free lock is proof of death, so claims are taken back at once. An
//! owner that holds its lock but has not beaten for `owner_timeout` (stopped) is taken over too.
//! Beats go into the locked file, unsynced: an idle host writes nothing to disk.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::process::machine;

/// A locked file; dropped without `remove` it stays, its lock free.
pub(crate) struct OwnerFile {
    path: PathBuf,
    file: File,
}

/// What is no file must not keep anybody waiting either.
#[expect(clippy::cast_possible_wrap, reason = "they are few bits")]
const NO_LINK: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// How long to try for an owner's lock: a rescuer holds it for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

impl OwnerFile {
    /// Makes and locks the file; `WouldBlock` when a living owner holds it.
    pub(crate) fn create(
        path: PathBuf,
        open: impl Fn(&Path) -> io::Result<File>,
    ) -> io::Result<OwnerFile> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Rescuers remove the files of the dead.
            if let Some(file) = try_lock(&path, || open(&path))? {
                let_all_look(&file);
                return Ok(OwnerFile { path, file });
            }
            if Instant::now() >= deadline {
                return Err(Errno::WOULDBLOCK.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leaves a sign of life. That it cannot be written must not stop a host that works.
    pub(crate) fn beat(&self) {
        let sign = format!("{} {:020}\n", machine().unwrap_or_default(), uptime().as_micros());
        if let Err(error) = self.file.write_at(sign.as_bytes(), 0) {
            tracing::debug!("no sign of life in {}: {error}", self.path.display());
        }
    }

    /// Whether nobody has taken this owner for dead and its file away.
    pub(crate) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Others see from now on that it is gone; its lock goes with the value.
    pub(crate) fn remove(&self) {
        if is_at(&self.file, &self.path) {
            // A file left behind is swept by the next owner.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// Whoever may enter the directory must be able to see that the lock is free, whatever the umask.
fn let_all_look(file: &File) {
    const ALL: u32 = 0o444;
    let mode = file.metadata().map_or(ALL, |found| found.mode() & 0o777);
    if mode & ALL != ALL {
        // Another user's file, which that user let be seen.
        let _not_ours = file.set_permissions(Permissions::from_mode(mode | ALL));
    }
}

/// That an owner is dead or stopped for too long.
pub(crate) enum Proof {
    NoFile,
    /// The owner's file, its lock now ours.
    Free(File),
    /// Locked by an owner that shows no sign of life.
    Silent {
        file: File,
        sign: String,
    },
}

impl Proof {
    pub(crate) fn bury(self, path: &Path) {
        // Gone under its name, an owner finds on waking that it has to register again; one that did
        // so already has another file.
        let is_its = match &self {
            Proof::NoFile => false,
            Proof::Free(file) | Proof::Silent { file, .. } => is_at(file, path),
        };
        if is_its {
            let _left = fs::remove_file(path);
        }
    }

    /// As [`Proof::bury`]; `false` where the owner has woken just now, who lives then. An owner looks
    /// for its file after each sign: either it misses the file, or its sign is seen here.
    pub(crate) fn fence(self, path: &Path) -> bool {
        let Proof::Silent { file, sign } = &self else {
            self.bury(path);
            return true;
        };
        if !is_at(file, path) {
            return !path.exists();
        }
        // No name of an owner's file.
        let mut aside = path.as_os_str().to_owned();
        aside.push("~");
        if fs::rename(path, &aside).is_err() {
            return false;
        }
        if fs::read_to_string(&aside).is_ok_and(|now| now == *sign) {
            let _left = fs::remove_file(&aside);
            return true;
        }
        let _lost = fs::rename(&aside, path);
        false
    }
}

/// `None` for an owner that may live, as may one whose file cannot be opened.
pub(crate) fn proof_of_death(path: &Path, timeout: Duration) -> io::Result<Option<Proof>> {
    let opened = OpenOptions::new().read(true).custom_flags(NO_LINK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Proof::NoFile)),
        Err(error) => return Err(error),
    };
    Ok(match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Some(Proof::Free(file)),
        Err(Errno::WOULDBLOCK) => proof_of_silence(file, path, timeout),
        Err(error) => return Err(error.into()),
    })
}

fn proof_of_silence(file: File, path: &Path, timeout: Duration) -> Option<Proof> {
    let sign = fs::read_to_string(path).ok()?;
    let (its_machine, beaten) = sign.trim_end().split_once(' ')?;
    let beaten = Duration::from_micros(beaten.parse().ok()?);
    let here = machine()?;
    let is_silent = here == its_machine && uptime().saturating_sub(beaten) > timeout;
    is_silent.then_some(Proof::Silent { file, sign })
}

/// Judges owners, and says once of each of which it cannot be told whether it lives.
#[derive(Default)]
pub(crate) struct Judge {
    untold: BTreeSet<PathBuf>,
}

impl Judge {
    /// `None` for an owner that may live.
    pub(crate) fn proof_of_death(&mut self, path: &Path, timeout: Duration) -> Option<Proof> {
        match proof_of_death(path, timeout) {
            Ok(proof) => {
                self.untold.remove(path);
                proof
            }
            Err(error) => {
                if self.untold.insert(path.to_owned()) {
                    tracing::warn!(
                        "It cannot be told whether the host of {} lives, so its tasks are not \
                         given back: {error}",
                        path.display()
                    );
                }
                None
            }
        }
    }
}

/// Opens a file that may be made, and that is no link: the directory may be somebody else's.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o666);
    options.custom_flags(NO_LINK).open(path)
}

/// Locks a file that others may remove when they are done with it; `None` when somebody else has it
/// locked.
pub(crate) fn try_lock(
    path: &Path,
    open: impl Fn() -> io::Result<File>,
) -> io::Result<Option<File>> {
    loop {
        let file = open()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            // It was removed between the two calls.
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the file still is the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(named)) => file.ino() == named.ino() && file.dev() == named.dev(),
        _ => false,
    }
}

/// Time the machine has been awake since boot: one clock for all its processes, which neither jumps
/// nor runs while the machine sleeps.
fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// An id as a file's name: what is no letter, digit, `.` or `-` becomes `_` and two hex digits.
pub(crate) fn file_name(id: &str) -> String {
    let mut name = String::from("o");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

/// The id in a file's name; `None` for a name of somebody else's making.
pub(crate) fn owner_id(name: &str) -> Option<String> {
    let mut id = Vec::new();
    let mut rest = name.strip_prefix('o')?.bytes();
    while let Some(byte) = rest.next() {
        id.push(match byte {
            b'_' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(id).ok().filter(|id| file_name(id) == name)
}

#[cfg(test)]
mod tests;
